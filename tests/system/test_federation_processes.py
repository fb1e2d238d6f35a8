"""Members as processes through everything that machines and networks do; what is left is checked.

The run of four is drawn from a seed: `RADPOOL_FEDERATION_SEED` repeats one, and a failure names
its own. A longer one:

    python tests/system/test_federation_processes.py --long [--steps N] [SEED ...]
"""

import argparse
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

import trio
from federation_checker import FederationChecker, Remains
from federation_cluster import Cluster
from federation_net import rules_of

from radpool_sv2.federation.state.accounting import Accounting

STEPS = 11
"""Everything that can happen, once; what is drawn is the order, to whom, and for how long."""

STEPS_LONG = 60


def check(cluster, copies=()):
    """Checks what all members have left; `copies` are further homes of the last member."""
    net = cluster.net
    remains = [Remains.read(me, cluster.home(me)) for me in range(net.n - 1)]
    last = net.n - 1
    remains.append(Remains.read(last, cluster.home(last), *map(cluster.home, copies)))
    checker = FederationChecker(net.committee, Accounting(rules_of(net.committee)))
    found = checker.check(remains, cluster.tip)
    assert all(each.acknowledged for each in remains)
    return found


class Trial:
    """What happens to four members, drawn from a seed: at most one is away when epochs must end."""

    def __init__(self, cluster, seed, tell=lambda _: None):
        self.cluster = cluster
        self.random = Random(seed)
        self.tell = tell

    async def run(self, steps):
        cluster, random = self.cluster, self.random
        await cluster.begin()
        kinds = list(self.KINDS)
        drawn = []
        for _ in range(steps):
            # Everything comes before anything comes again.
            drawn = drawn or random.sample(kinds, len(kinds))
            step, victim = drawn.pop(), random.randrange(4)
            self.tell(f"{step.__name__} {victim}, height {cluster.tip}")
            await step(self, victim, [each for each in range(4) if each != victim])
            await cluster.certified()
            cluster.grow(random.randrange(3))
            # The next one strikes anywhere in an epoch.
            await trio.sleep(random.random() * 0.3)
        await cluster.certified()
        statuses = await cluster.finish()
        assert not any(each["halted"] for each in statuses)
        assert not any(stream["blamed"] for each in statuses for stream in each["streams"])

    def some(self):
        return self.random.randint(1, 3)

    async def killed(self, victim, others):
        self.cluster.kill(victim)
        await self.cluster.epochs(self.some(), others)
        self.cluster.start(victim)

    async def killed_in_a_row(self, victim, others):
        for _ in range(self.some()):
            self.cluster.kill(victim)
            self.cluster.start(victim)
            await trio.sleep(self.random.random())

    async def all_killed(self, victim, others):
        self.cluster.kill(*range(4))
        self.cluster.grow(self.some())
        self.cluster.start(*range(4))

    async def frozen(self, victim, others):
        self.cluster.freeze(victim)
        await self.cluster.epochs(self.some(), others)
        self.cluster.thaw(victim)

    async def full_disk(self, victim, others):
        cluster = self.cluster
        cluster.fill_disk(victim)
        await cluster.epochs(self.some(), others)
        await cluster.until(victim, lambda status: status["store_failure"])
        if self.random.random() < 0.3:
            cluster.kill(victim)
            cluster.start(victim)
        else:
            cluster.empty_disk(victim)
        await cluster.until(victim, lambda status: not status["store_failure"])

    async def cut_off(self, victim, others):
        self.cluster.part(victim)
        await self.cluster.epochs(self.some(), others)
        self.cluster.mend()

    async def halves(self, victim, others):
        cluster = self.cluster
        friend = self.random.choice(others)
        cluster.part(victim, friend)
        await cluster.until(victim, lambda status: len(status["links"]) == 1)
        cluster.grow(self.some())
        await trio.sleep(self.random.random())
        cluster.mend()

    async def silent_ways(self, victim, others):
        for way in self.cluster.ways(victim):
            way.stall()
        await self.cluster.epochs(self.some(), others)
        self.cluster.mend()

    async def half_open_ways(self, victim, others):
        for way in self.cluster.ways(victim):
            way.halve()
        await self.cluster.epochs(self.some(), others)

    async def damaged_ways(self, victim, others):
        for way in self.cluster.ways(victim):
            way.flips = 2
        await self.cluster.epochs(self.some(), others)

    async def slow_ways(self, victim, others):
        for way in self.cluster.net.proxies.values():
            way.delay_s = 0.02 * self.random.random()
        await self.cluster.epochs(self.some())
        self.cluster.mend()

    KINDS = (
        killed,
        killed_in_a_row,
        all_killed,
        frozen,
        full_disk,
        cut_off,
        halves,
        silent_ways,
        half_open_ways,
        damaged_ways,
        slow_ways,
    )


async def run_trial(directory, seed, steps, tell=lambda _: None):
    async with Cluster(directory) as cluster:
        await Trial(cluster, seed, tell).run(steps)
    return check(cluster)


async def test_four_members_live_through_what_is_drawn(tmp_path):
    seed = int(os.environ.get("RADPOOL_FEDERATION_SEED") or secrets.randbits(32))
    print(f"RADPOOL_FEDERATION_SEED={seed}")
    found = await run_trial(tmp_path / "members", seed, STEPS, print)
    assert found.shares > 100


async def test_two_of_seven_are_away_and_all_count_the_same(tmp_path):
    async with Cluster(tmp_path / "members", 7) as cluster:
        await cluster.begin()
        cluster.freeze(5)
        cluster.kill(6)
        # What stays is a quorum and nobody more.
        await cluster.epochs(2, range(5))
        cluster.thaw(5)
        cluster.start(6)
        await cluster.certified()
        statuses = await cluster.finish()
    assert not any(each["halted"] for each in statuses)
    check(cluster)


async def test_a_member_that_is_away_for_a_hundred_epochs_counts_the_same(tmp_path):
    async with Cluster(tmp_path / "members") as cluster:
        await cluster.begin()
        cluster.freeze(3)
        await cluster.epochs(1, range(3))
        # What it misses is the epochs; shares among them would only take longer.
        (cluster.directory / "rest").touch()
        for _ in range(20):
            cluster.grow(5)
            await cluster.certified(range(3))
        before = [cluster.status(me)["shares"] for me in range(3)]
        (cluster.directory / "rest").unlink()
        # Shares count on a block of which enough members have said early that it is the tip.
        for me in range(3):
            await cluster.until(me, lambda status, me=me: status["shares"] > before[me])
        cluster.thaw(3)
        await cluster.certified()
        cluster.kill(3)
        await cluster.epochs(2, range(3))
        cluster.start(3)
        await cluster.certified()
        statuses = await cluster.finish()
    assert not any(each["halted"] for each in statuses)
    found = check(cluster)
    assert found.epochs > 100


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--long", action="store_true", help=f"{STEPS_LONG} steps of each seed")
    parser.add_argument("--steps", type=int, help="how many steps")
    parser.add_argument("seeds", nargs="*", type=int, metavar="SEED", help="one drawn, if none")
    options = parser.parse_args()
    steps = options.steps or (STEPS_LONG if options.long else STEPS)
    for seed in options.seeds or [secrets.randbits(32)]:
        run_seed(seed, steps)


def run_seed(seed, steps):
    began = time.monotonic()

    def tell(what):
        print(f"  {time.monotonic() - began:6.1f} s {what}", flush=True)

    print(f"RADPOOL_FEDERATION_SEED={seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        tell(trio.run(run_trial, Path(directory) / "members", seed, steps, tell))


if __name__ == "__main__":
    main()

"""Members with keys as processes that are killed while they generate them, and while they sign.

The instants are drawn from a seed: `RADPOOL_FEDERATION_SEED` repeats them.
"""

import os
import secrets
from random import Random

import trio
from federation_checker import FederationChecker, Remains
from federation_cluster import Cluster
from federation_net import rules_of, wait_until

from radpool_sv2.federation.state.accounting import Accounting

NAMES = ("checkpoint", "treasury")
EPOCHS_MAX = 40
"""Four attempts, each as long as the members' patience, would be twelve."""

KILLS = 3


def has_keys(status):
    return all(status["keys"][name]["generated"] for name in NAMES)


def is_signed(status, tip):
    keys = status["keys"]
    return keys["counted"] >= tip and all(keys[name]["open_tasks"] == 0 for name in NAMES)


async def all_signed(cluster):
    """Waits until members have signed all: of too many open checkpoints they give up the oldest."""
    for me in range(4):
        await cluster.until(me, lambda status: is_signed(status, cluster.tip))


async def generate(cluster):
    """Lets epochs pass until all members have all keys."""
    for _ in range(EPOCHS_MAX):
        if all(has_keys(cluster.status(me)) for me in range(4)):
            return
        await cluster.epochs(1)
        await wait_until(cluster.is_at_rest)
    raise AssertionError([cluster.status(me)["keys"] for me in range(4)])


async def test_killed_members_sign_again_and_by_no_nonce_twice(tmp_path):
    seed = int(os.environ.get("RADPOOL_FEDERATION_SEED") or secrets.randbits(32))
    print(f"RADPOOL_FEDERATION_SEED={seed}")
    random = Random(seed)
    async with Cluster(tmp_path / "members") as cluster:
        # Shares rest: what members say is about keys.
        (cluster.directory / "rest").touch()
        cluster.start(0, 1, 2)
        # A dealing is in memory only: without member 3 it goes no further.
        for me in range(3):
            await cluster.until(me, lambda status: status["streams"][2]["certified"] >= 2)
        cluster.kill(2)
        cluster.start(2, 3)
        await wait_until(cluster.is_at_rest)
        await generate(cluster)
        await all_signed(cluster)
        for victim in (1, 3):
            for _ in range(KILLS):
                await cluster.epochs(1)
                cluster.grow()
                await trio.sleep(random.random() * 0.3)
                cluster.kill(victim)
                cluster.start(victim)
            await all_signed(cluster)
        statuses, signed = [cluster.status(me) for me in range(4)], cluster.tip
        await cluster.finish()
    assert not any(each["halted"] or each["keys"]["evidence"] for each in statuses)
    for name in NAMES:
        figures = [each["keys"][name] for each in statuses]
        assert len({each["transcript"] for each in figures}) == 1
        assert all(each["attempt"] >= 1 and each["has_share"] for each in figures)
        assert [each["boot"] for each in figures] == [1, 1 + KILLS, 1, 1 + KILLS]
    signatures = {each["keys"]["checkpoint"]["signatures"] for each in statuses}
    assert signatures == {signed - 1 - statuses[0]["keys"]["checkpoint"]["epoch"]}
    remains = [Remains.read(me, cluster.home(me)) for me in range(4)]
    checker = FederationChecker(cluster.net.committee, Accounting(rules_of(cluster.net.committee)))
    assert checker.check(remains, cluster.tip).nonces > 0

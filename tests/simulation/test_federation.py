"""Worlds of the federation by their seeds; `python -m radpool_sv2.testing --seed N` runs one again.

A world of four members takes some 0.2 s of one core, one of thirteen some 1 s, 0.3 s on average, a
small one some 0.02 s; `make simulate` runs 2,000 whole ones, and `--small` is for small ones.
"""

import os
import subprocess
import sys
from collections import deque

import pytest

from radpool_sv2.federation.agreement.epoch import Epochs
from radpool_sv2.federation.agreement.simplex import Simplex
from radpool_sv2.federation.broadcast.broadcast import Broadcast
from radpool_sv2.federation.broadcast.stream import Stream
from radpool_sv2.federation.committee import Committee
from radpool_sv2.federation.effect import Send
from radpool_sv2.federation.record import Started
from radpool_sv2.federation.state.snapshot import Snapshot
from radpool_sv2.federation.statement import NO_HASH, Phase, Vote
from radpool_sv2.testing.__main__ import main
from radpool_sv2.testing.checker import CheckError
from radpool_sv2.testing.fold import Fold
from radpool_sv2.testing.plan import MISDEEDS, SIZES, SIZES_SMALL, Plan
from radpool_sv2.testing.simulator import Node, World
from radpool_sv2.testing.store import Store

SEEDS = range(60)
SMALL_SEEDS = range(2_000)
SMALL_AT_ONCE = 50


def run(plan):
    world = World(plan)
    try:
        world.run()
    except Exception as error:
        error.add_note(plan.describe())
        raise
    return world


@pytest.mark.parametrize("seed", SEEDS)
def test_a_world_comes_to_rest_with_everything_as_it_must_be(seed):
    run(Plan.draw(seed))


@pytest.mark.parametrize("first", SMALL_SEEDS[::SMALL_AT_ONCE])
def test_small_worlds_come_to_rest_with_everything_as_it_must_be(first):
    """What fails names its seed, for `python -m radpool_sv2.testing --small --seed`."""
    for seed in range(first, first + SMALL_AT_ONCE):
        run(Plan.draw_small(seed))


def test_small_worlds_have_all_that_can_happen():
    plans = [Plan.draw_small(seed) for seed in SMALL_SEEDS]
    assert {plan.n for plan in plans} == set(SIZES_SMALL)
    assert {each for plan in plans for them in plan.byzantine.values() for each in them} == set(
        MISDEEDS
    )
    for fault in ("byzantine", "partitions", "breaks", "crashes", "duplicate_per_mille"):
        assert 100 < sum(bool(getattr(plan, fault)) for plan in plans) < 1_900
    assert 5 < sum(plan.is_bip340 for plan in plans) < 50
    assert all(len(plan.byzantine) <= (plan.n - 1) // 3 for plan in plans)


@pytest.mark.parametrize("misdeed", MISDEEDS)
@pytest.mark.parametrize("n", SIZES)
def test_as_many_as_may_be_faulty_do_no_harm(n, misdeed):
    world = run(Plan.draw(MISDEEDS.index(misdeed), n, (misdeed,)))
    assert len(world.plan.byzantine) == (n - 1) // 3
    # Who signs two things is found out, and who breaks the protocol is not listened to.
    if misdeed in {"twins", "double-vote", "split-echoes"} and n == 13:
        assert {each.offender for each in world.checker.evidence} & set(world.plan.byzantine)
    if misdeed in {"forge-sender", "replay", "flood"}:
        assert {peer for _, peer, _ in world.checker.closes} >= set(world.plan.byzantine)


def test_all_members_crash_at_once_and_go_on():
    plan = Plan.draw(3, 7, ())
    plan.crashes = tuple((4_000, 5_000 + 100 * member, member) for member in range(7))
    world = run(plan)
    assert all(node.life == 2 for node in world.nodes)


def test_members_go_on_from_their_last_checkpoint(monkeypatch):
    monkeypatch.setattr("radpool_sv2.testing.simulator.CONDENSES", 1)
    condensed = 0
    for seed in range(10):
        plan = Plan.draw(seed, 4, ("twins",))
        plan.blocks_ms = tuple(range(500, plan.calm_ms, 1_500))
        late = plan.calm_ms - 600
        plan.crashes = tuple((late + each, plan.calm_ms, each) for each in range(4))
        world = run(plan)
        for node in world.nodes:
            condensed += any(isinstance(each, Started) for each in node.store.records())
    assert condensed > 10


def test_a_newcomer_starts_from_a_checkpoint_of_another(monkeypatch):
    """It has nothing but a start, the state behind it, the checkpoint of both, and the committee.

    spec: FA-18
    """
    monkeypatch.setattr("radpool_sv2.testing.simulator.CONDENSES", 1)
    plan = Plan.draw(4, 4, ())
    plan.byzantine, plan.partitions, plan.blocks_ms = {}, (), (500, 1_500, 2_500, 4_000)
    plan.crashes, plan.disk_ms, plan.delay_ms = ((0, plan.calm_ms, 3),), (0, 10), (1, 50)
    world = World(plan)
    newcomer = world.nodes[3]
    start_of = newcomer.start

    def start():
        if newcomer.life == 1:
            host = world.nodes[0]
            given = next(each for each in host.store.records() if isinstance(each, Started))
            assert given.decided > 1
            state = host.states[given.decided - 1]
            checkpoint = host.store.epoch(given.decided - 1).checkpoint
            snapshot = Snapshot(given, Fold().root(state), checkpoint)
            snapshot.verify(world.committee, world.verifier)
            newcomer.store = Store(world.committee)
            newcomer.store.write(given)
            newcomer.store.sync(1)
            newcomer.states = {given.decided - 1: state}
            counts = world.checker._delivered[3]
            for _, ending in given.endings:
                counts[ending.member] = ending.seq + 1
        start_of()

    newcomer.start = start
    world.run()
    assert newcomer.life == 2
    assert newcomer.store.entry(0, 0) is None
    assert newcomer.machine.epochs.decided == 4
    assert newcomer._state == world.nodes[0]._state


def test_a_member_that_was_away_for_long_catches_up():
    plan = Plan.draw(6, 4, ())
    plan.byzantine, plan.partitions, plan.breaks = {}, (), ()
    plan.delay_ms, plan.disk_ms, plan.calm_ms = (1, 40), (0, 5), 60_000
    plan.append_every_ms, plan.window = 500, 8
    plan.blocks_ms = tuple(range(600, 56_000, 700))
    plan.crashes = ((300, 59_000, 2),)
    world = run(plan)
    away = world.nodes[2]
    assert away.life == 2
    assert away.machine.epochs.decided == len(plan.blocks_ms) == 80
    assert away._state == world.nodes[0]._state


def test_worlds_with_bip340_are_like_others():
    plan = Plan.draw(11, 4, ("twins",))
    plan.is_bip340 = True
    run(plan)


def test_a_seed_is_one_world_whatever_the_interpreter():
    told = set()
    for salt in ("1", "2"):
        command = [sys.executable, "-m", "radpool_sv2.testing", "--seed", "3"]
        command += ["--members", "7", "--misdeeds", "twins+double-vote"]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, check=True
        )
        told.add(done.stdout)
    assert len(told) == 1


def test_many_worlds_are_told_with_how_to_run_one_again(capsys, monkeypatch):
    assert main(["--seeds", "5..7", "--members", "4"]) == 0
    assert "2 worlds" in capsys.readouterr().out
    monkeypatch.setattr(Fold, "root", lambda self, state: os.urandom(32))
    assert main(["--seeds", "5..7", "--members", "4"]) == 1
    told = capsys.readouterr().out
    assert "python -m radpool_sv2.testing --seed 6 --members 4" in told
    assert main(["--seed", "5", "--members", "4"]) == 1
    assert main(["--small", "--seeds=5..6"]) == 1
    assert "python -m radpool_sv2.testing --seed 5 --small" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--small", "--seed", "5", "--members", "13"])


# Faults that are planted must be found: a checker that finds nothing proves nothing.


def found(plans):
    """Runs worlds until one fails, and says how."""
    for plan in plans:
        try:
            run(plan)
        except CheckError as error:
            return str(error)
    return ""


@pytest.fixture(params=["whole", "small"])
def drawn(request):
    """Plans of either sort: small worlds have to find what whole ones do."""
    draw, many = (Plan.draw, 1) if request.param == "whole" else (Plan.draw_small, 10)

    def plans(*misdeeds, n=4, seeds=40):
        return (draw(seed, n, misdeeds or None) for seed in range(many * seeds))

    return plans


def test_sending_before_writing_down_is_found(monkeypatch, drawn):
    """spec: FB-6"""

    class Hasty(Store):
        def crash(self, kept):
            super().crash(0)

    flush = Node._flush

    def hasty(self):
        rest = deque()
        for needs, link, effect in self._queue:
            if isinstance(effect, Send):
                self.perform(effect, link)
            else:
                rest.append((needs, link, effect))
        self._queue = rest
        flush(self)

    monkeypatch.setattr(Node, "_flush", hasty)
    monkeypatch.setattr("radpool_sv2.testing.simulator.Store", Hasty)
    assert "honest member" in found(drawn(seeds=200))


def test_a_quorum_that_is_too_small_is_found(monkeypatch, drawn):
    """spec: FB-2"""
    monkeypatch.setattr(Committee, "quorum", property(lambda self: self.faulty_max + 1))
    assert found(drawn("twins"))


def test_echoing_whatever_comes_is_found(monkeypatch, drawn):
    """spec: FB-10"""
    offer = Stream.offer

    def careless(self, entry):
        slot = self._slots.get(entry.header.seq)
        if slot is not None and slot.entry is not None and slot.entry.header != entry.header:
            slot.entry, slot.echoed = None, False
            slot.echoes.pop(self._seat.me, None)
        offer(self, entry)

    monkeypatch.setattr(Stream, "offer", careless)
    assert "signed both" in found(drawn("twins"))


def test_finalising_a_view_that_was_skipped_is_found(monkeypatch, drawn):
    """spec: FA-10"""
    step = Simplex._step

    def careless(self):
        view = self._views[self.view]
        me = self._seat.me
        if view.notarised is None and me in view.notes and me not in view.closings:
            self._cast(view, Vote(*self._slot(self.view), Phase.SKIP, NO_HASH))
            del view.closings[me]
        return step(self)

    monkeypatch.setattr(Simplex, "_step", careless)
    assert "signed both" in found(drawn())


def test_voting_for_any_cut_is_found(monkeypatch, drawn):
    """spec: FA-8"""
    monkeypatch.setattr(Epochs, "is_good", lambda self, cut, view, now: True)
    assert found(drawn("select"))


def test_not_saying_again_after_a_break_is_found(monkeypatch, drawn):
    """spec: FB-20"""
    monkeypatch.setattr(Broadcast, "linked", lambda self, member: None)
    assert "no rest" in found(drawn("silent", seeds=200))


def test_a_state_that_is_not_the_same_everywhere_is_found(monkeypatch, drawn):
    """spec: FA-16"""
    monkeypatch.setattr(Fold, "root", lambda self, state: os.urandom(32))
    assert found(drawn(seeds=1))


def test_delivering_without_certificate_is_found(monkeypatch, drawn):
    """spec: FB-16"""
    monkeypatch.setattr(Committee, "quorum", property(lambda self: 1))
    assert found(drawn("twins", "split-echoes"))

"""Worlds whose members generate a key and sign checkpoints with it, by their seeds."""

import pytest

from radpool_sv2.testing.keys import BLOCK_MS, KeyWorld
from radpool_sv2.testing.plan import Plan

EVERY_MS = 2_500


def a_plan(seed, n, blocks=8, **more):
    count = blocks + 1
    return Plan(
        seed=seed,
        n=n,
        calm_ms=EVERY_MS * count,
        blocks_ms=tuple(EVERY_MS * each for each in range(1, count)),
        append_every_ms=4_000,
        **more,
    )


def run(plan, faults=None):
    world = KeyWorld(plan, faults)
    world.run()
    signed = {node.me: sorted(node.signed_at) for node in world.key_nodes}
    assert any(signed.values())
    return world


def until_it_lies(world, member):
    """Lets epochs pass until it is a liar's turn to sign: keys are no seed's, and they say who."""
    for _ in range(64):
        if member in world.accused:
            break
        world._mine()
        world._run_until(world.now + BLOCK_MS)
    return world


@pytest.mark.parametrize("seed", range(3))
def test_all_sign_when_nobody_is_faulty(seed):
    world = run(a_plan(seed, 4))
    assert world.accused == set()
    assert world.key_nodes[0].generated.public.run.threshold == 3


@pytest.mark.parametrize("fault", ["quiet", "lie"])
def test_three_of_four_sign_with_one_silent_or_lying_member(fault):
    """spec: TK-46, TK-49"""
    world = run(a_plan(7, 4), {2: fault})
    if fault == "lie":
        until_it_lies(world, 2)
    assert world.accused == ({2} if fault == "lie" else set())


def test_eleven_of_sixteen_sign_with_one_silent_and_one_lying_member():
    """spec: TK-46, TK-49"""
    world = until_it_lies(run(a_plan(3, 16, blocks=5), {4: "quiet", 11: "lie"}), 11)
    assert world.key_nodes[0].generated.public.run.threshold == 11
    assert world.accused == {11}


@pytest.mark.parametrize("n", [4, 7])
def test_as_many_crashes_as_may_be_end_in_signatures(n):
    """spec: TK-48"""
    plan = a_plan(5, n, blocks=10)
    gone, back = EVERY_MS * 5, EVERY_MS * 10
    plan.crashes = tuple((gone, back, member) for member in range((n - 1) // 3))
    world = run(plan)
    last = world.key_nodes[n - 1]
    while_gone = [epoch for epoch, at in last.signed_at.items() if gone + 1_000 < at < back]
    assert len(while_gone) >= 2


@pytest.mark.parametrize("seed", range(6))
def test_members_crash_all_the_time_and_no_nonce_signs_twice(seed):
    """spec: TK-40, TK-47"""
    plan = a_plan(seed, 4, blocks=12, disk_ms=(1, 200), delay_ms=(1, 60))
    times = range(EVERY_MS, plan.calm_ms - 2_000, 1_900)
    plan.crashes = tuple((at, at + 700, (at + seed) // 1_900 % 4) for at in times)
    world = run(plan)
    assert any(boot > 1 for _, boot, _ in world.spent)


def test_a_key_is_generated_although_a_member_is_away():
    """spec: TK-35"""
    plan = a_plan(2, 7, blocks=14)
    plan.crashes = ((1, EVERY_MS * 9, 3),)
    world = run(plan)
    assert world.key_nodes[0].generated.members == (0, 1, 2, 4, 5, 6)
    assert world.key_nodes[3].generated.share is None
    assert world.key_nodes[3].done.keys() == world.key_nodes[0].done.keys()


def test_who_deals_wrongly_is_found_out_and_left_out():
    """spec: TK-34, TK-36"""
    world = run(a_plan(4, 5), {3: "deal"})
    assert all({fault.member for fault in node.key_faults} == {3} for node in world.key_nodes[:3])
    assert world.key_nodes[0].generated.members == (0, 1, 2, 4)


@pytest.mark.parametrize("seed", range(8))
def test_worlds_that_are_drawn_end_in_a_key_and_signatures(seed):
    """Delays, breaks, partitions, crashes, and as many silent and lying members as may be."""
    world = KeyWorld.draw(seed)
    world.run()
    assert any(node.signed_at for node in world.key_nodes)

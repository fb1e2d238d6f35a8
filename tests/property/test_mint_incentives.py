"""Whom the policies reward for what: hopping, timing by luck. Simulated with fixed seeds.

The simulations pay by the mint's own formulas: `window_of` and `share_out`. A result is compared
with its expectation in units of its standard error, which is taken from blocks of 100 rounds.
"""

from __future__ import annotations

import random
from math import sqrt
from statistics import fmean, stdev

import pytest
from mint_rig import BLOCK_BITS, Rig

from radpool_sv2.ecash.policy import KeysetState, Policy
from radpool_sv2.ecash.price import share_out
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.window import Slice, window_of

DIFFICULTY = 64
"""Units of work that a block takes on average."""

THETA = 64_000_000
"""What a block pays: a million for a unit, on average."""

FAIR = THETA / DIFFICULTY

ROUNDS = 6_000
GROUP = 100
DIFFICULTIES = 2
SLICE = DIFFICULTY // 8

HOP_AGE = 28
"""Units of work after which a hopper leaves a round: 43.5 % of a difficulty, the break-even of a
round that is paid in proportion."""


def rounds(seed):
    """Yields, unit by unit, the round's age in units, whether the hopper works, and if it ends."""
    chance = random.Random(seed)
    for _ in range(ROUNDS):
        age = 0
        while True:
            hopping = age < HOP_AGE
            # Both sides have the same hashrate; the hopper's half is missing once it has left.
            units = 2 if hopping else 1
            ended = any(chance.random() < 1 / DIFFICULTY for _ in range(units))
            yield age, hopping, ended
            if ended:
                break
            age += units


def error_of(values):
    """Returns mean and standard error, from means of groups that hardly depend on each other."""
    groups = [fmean(values[at : at + GROUP]) for at in range(0, len(values) - GROUP + 1, GROUP)]
    return fmean(groups), stdev(groups) / sqrt(len(groups))


def pay_by_round(seed):
    """Returns what the hopper and the loyal get for a unit, round by round, by policy `pool`."""
    gains = []
    works = [0, 0]
    for _, hopping, ended in rounds(seed):
        works[0] += hopping
        works[1] += 1
        if ended:
            paid = share_out(THETA, works)
            gains.append((paid[0], works[0], paid[1], works[1]))
            works = [0, 0]
    return gains


def pay_by_window(seed):
    """Returns the same by policy `window`, slice by slice, with the luck before each slice."""
    slices: list[list[int]] = [[0, 0]]
    paid: list[list[int]] = [[0, 0]]
    luck: list[int] = [0]
    found: list[int] = []
    for _, hopping, ended in rounds(seed):
        slices[-1][0] += hopping
        slices[-1][1] += 1
        if ended:
            found.append(len(slices) - 1)
            first = max(0, len(slices) - 40)
            recent = [
                Slice(number, 1, sum(slices[number]), KeysetState.CLOSED)
                for number in range(len(slices) - 1, first - 1, -1)
            ]
            numbers = window_of(recent, 1, DIFFICULTIES * DIFFICULTY)
            parts = share_out(THETA, [sum(slices[number]) for number in numbers])
            for number, part in zip(numbers, parts, strict=True):
                for place, own in enumerate(share_out(part, slices[number])):
                    paid[number][place] += own
        if ended or sum(slices[-1]) >= SLICE:
            slices.append([0, 0])
            paid.append([0, 0])
            luck.append(sum(1 for at in found[-20:] if at >= len(slices) - 18))
    # The last windows are not full yet, the first ones had no past.
    kept = slice(20, -40)
    return slices[kept], paid[kept], luck[kept]


def test_hopping_pays_where_rounds_are_paid():
    """attack: A22"""
    gains = pay_by_round(seed=2)
    hopper = [(paid - FAIR * work) / FAIR for paid, work, _, _ in gains]
    mean, error = error_of(hopper)
    per_unit = mean / fmean(work for _, work, _, _ in gains)
    assert mean > 5 * error, "a hopper earns more than fair"
    assert per_unit > 0.05
    loyal, error = error_of([(paid - FAIR * work) / FAIR for _, _, paid, work in gains])
    assert loyal < -5 * error, "at the cost of those who stay"


def test_hopping_does_not_pay_under_the_window():
    """attack: A22"""
    slices, paid, _ = pay_by_window(seed=3)
    excess = [(own[0] - FAIR * work[0]) / FAIR for own, work in zip(paid, slices, strict=True)]
    units = fmean(work[0] for work in slices)
    mean, error = error_of(excess)
    assert error / units < 0.02, "the simulation is fine enough to see two percent"
    assert abs(mean) < 3 * error, "a hopper earns what is fair"
    for own, work in zip(paid, slices, strict=True):
        if work[0]:
            # Within a slice, units are worth the same whoever made them.
            assert abs(own[0] * work[1] - own[1] * work[0]) <= 40 * sum(work)


@pytest.mark.parametrize("lucky", [False, True])
def test_past_luck_says_nothing_about_what_work_will_be_paid(lucky):
    """attack: A21"""
    slices, paid, luck = pay_by_window(seed=4)
    expected = 2
    chosen = [
        (sum(own) / FAIR - sum(work), sum(work))
        for own, work, blocks in zip(paid, slices, luck, strict=True)
        if (blocks > expected) == lucky and blocks != expected
    ]
    assert len(chosen) > 10_000
    mean, error = error_of([excess for excess, _ in chosen])
    assert error / fmean(work for _, work in chosen) < 0.02
    assert abs(mean) < 3 * error


def test_when_a_token_is_redeemed_does_not_matter(tmp_path):
    """attack: A21

    There is no price before it is final, and none other afterwards: nothing to time.
    """
    rig = Rig(tmp_path)
    held = rig.mine(Policy.WINDOW, *[BLOCK_BITS - 4] * 8)
    worth = set()
    blocks = 0
    while held:
        if rig.state(held[0].keyset) is KeysetState.FINAL:
            worth.add(sum(token.amount for token in rig.redeem([held.pop()])))
        else:
            with pytest.raises(RefusedError) as caught:
                rig.redeem(held[:1], 1)
            assert caught.value.error_code == "epoch-open"
        rig.mine(Policy.WINDOW, BLOCK_BITS - 1)
        blocks += 1
        rig.settle(1_000 * blocks)
        rig.wait(2)
    assert len(worth) == 1
    assert blocks > 8
    rig.store.close()

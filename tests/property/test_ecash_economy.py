"""Plays years of a small pool: who gains by coming and going, or by choosing the moment?

Each share solves a block with the same chance. Blocks are paid by the mint's own rules; the player
who hops mines while a round is young, when a proportional pool pays best.
"""

import random
from dataclasses import dataclass, field
from fractions import Fraction

import pytest

from radpool_sv2.ecash.policy import KeysetState
from radpool_sv2.ecash.price import share_out
from radpool_sv2.ecash.window import Slice, window_of

DIFFICULTY = 128
REWARD_MSAT = 10**9
WINDOW = 4
SLICE = DIFFICULTY // 8
YOUNG = DIFFICULTY * 43 // 100
ROUNDS = 2_000


@dataclass
class Keyset:
    """Is a keyset of one unit per share: how many the hopper has, and all."""

    number: int
    epoch: int
    hopper: int = 0
    work: int = 0
    theta: int = 0
    final: bool = False
    prices: set[Fraction] = field(default_factory=set)

    def close(self) -> None:
        """Makes the price final, and notes what a redemption would bring."""
        self.final = True
        self.prices.add(Fraction(self.theta, self.work))


class Pool:
    """Is a pool whose blocks come by chance, with an honest miner and one who hops."""

    def __init__(self, seed: int) -> None:
        self.luck = random.Random(seed)
        self.keysets: list[Keyset] = [Keyset(1, 1)]
        self.epoch = 1
        self.age = 0

    def share(self) -> bool:
        """Mines a share; says whether it solved a block."""
        keyset = self.keysets[-1]
        keyset.work += 1
        keyset.hopper += self.age < YOUNG and self.luck.random() < 0.5
        self.age += 1
        return self.luck.randrange(DIFFICULTY) == 0

    def turn(self) -> None:
        """Opens the next keyset."""
        self.keysets.append(Keyset(len(self.keysets) + 1, self.epoch))

    def pay(self, paid: list[Keyset]) -> None:
        parts = share_out(REWARD_MSAT, [keyset.work for keyset in paid])
        for keyset, part in zip(paid, parts, strict=True):
            assert not keyset.final, "a final price moved"
            keyset.theta += part

    def hopping(self) -> Fraction:
        """Returns what the hopper got for a share, beside what the honest miner got for one."""
        closed = [keyset for keyset in self.keysets if keyset.final]
        got = sum(Fraction(keyset.theta * keyset.hopper, keyset.work) for keyset in closed)
        rest = sum(keyset.theta for keyset in closed) - got
        shares = sum(keyset.hopper for keyset in closed)
        others = sum(keyset.work for keyset in closed) - shares
        return (got / shares) / (rest / others)


def played_by_rounds(seed: int) -> Pool:
    """Policy `pool`: each block pays the keyset of its own round."""
    pool = Pool(seed)
    for _ in range(ROUNDS):
        while not pool.share():
            pass
        pool.pay([pool.keysets[-1]])
        pool.keysets[-1].close()
        pool.epoch, pool.age = pool.epoch + 1, 0
        pool.turn()
    return pool


def played_by_window(seed: int) -> Pool:
    """Policy `window`: each block pays the slices of the last difficulties of work."""
    pool = Pool(seed)
    first_open = 0
    while pool.epoch <= ROUNDS:
        solved = pool.share()
        if solved:
            recent = pool.keysets[first_open:]
            states = (KeysetState.CLOSED, KeysetState.FINAL)
            slices = [
                Slice(each.number, each.epoch, each.work, states[each.final])
                for each in reversed(recent)
            ]
            numbers = sorted(window_of(slices, pool.epoch, WINDOW * DIFFICULTY))
            pool.pay([pool.keysets[number - 1] for number in numbers])
            pool.epoch, pool.age = pool.epoch + 1, 0
        if solved or pool.keysets[-1].work >= SLICE:
            pool.turn()
        behind = 0
        for keyset in reversed(pool.keysets[first_open:]):
            if behind >= WINDOW * DIFFICULTY and keyset.work and not keyset.final:
                keyset.close()
            behind += keyset.work
        while pool.keysets[first_open].final:
            first_open += 1
    return pool


@pytest.mark.parametrize("seed", [1, 2])
def test_hopping_pays_in_rounds_and_not_in_windows(seed):
    """attack: A22

    spec: ES-5
    """
    assert played_by_rounds(seed).hopping() > Fraction(140, 100)
    assert abs(played_by_window(seed).hopping() - 1) < Fraction(3, 100)


def test_no_moment_to_redeem_is_better_than_another():
    """Whenever a token of a window is redeemed: there is one price, and none before it is final.

    attack: A21

    spec: ES-9, ES-18
    """
    pool = played_by_window(7)
    closed = [keyset for keyset in pool.keysets if keyset.final]
    assert len(closed) > ROUNDS
    assert {len(keyset.prices) for keyset in closed} == {1}
    assert all(keyset.prices == {Fraction(keyset.theta, keyset.work)} for keyset in closed)
    assert all(not keyset.prices for keyset in pool.keysets if not keyset.final)
    # What blocks brought is in the slices, to the millisat.
    assert sum(keyset.theta for keyset in pool.keysets) == REWARD_MSAT * ROUNDS

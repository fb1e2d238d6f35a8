"""Payments with voids and slices: nobody stands in the way of anybody's pay, and sums are exact."""

import random
from types import SimpleNamespace

import pytest

from radpool_sv2.ledger import division as module
from radpool_sv2.ledger.division import Division, Earning
from radpool_sv2.store import WeightRow
from radpool_sv2.weight import WeightMode

BLOCK = SimpleNamespace(hash=b"\x0b" * 32, height=101, value_sats=50 * 10**8 + 777_777)
BASE = 4


def commitment(account):
    return bytes([account]) * 32


class Store:
    """Tells what a test says that the ledger holds."""

    def __init__(self, mode, earnings, voided):
        self._mode = mode
        self._earnings = earnings
        self._voided = voided

    def weights_of_epochs(self, epochs):
        return [(each, WeightRow(self._mode, 32, BASE)) for each in epochs]

    def accounts(self, _offset, _limit):
        ids = {each.commitment[0] for each in self._earnings}
        return len(ids), [SimpleNamespace(id=each, commitment=commitment(each)) for each in ids]

    def earned_in_epochs(self, _epochs):
        found = {}
        for each in self._earnings:
            work, value = found.get((each.commitment[0], each.rail), (0, 0))
            found[each.commitment[0], each.rail] = work + each.work, value + each.value
        return found

    def voids(self):
        rows = [SimpleNamespace(epoch=1)]
        return [SimpleNamespace(digest=each, epoch_min=1, sums=rows) for each in self._voided]

    def body(self, digest):
        return digest  # its previous block is told by the test's own reader


@pytest.fixture(autouse=True)
def earnings_of_the_test(monkeypatch):
    monkeypatch.setattr(module, "_template_earnings", lambda store, _epochs: store._earnings)
    monkeypatch.setattr(module, "body_prev_hash", lambda digest: digest[:1] * 32)


def earning(account, digest, *, minute=0, zeros=8, price=3):
    return Earning(
        digest=digest,
        time_ms=60_000 * minute,
        commitment=commitment(account),
        epoch=1,
        rail=0,
        count=1,
        work=1 << zeros,
        value=price << (zeros - BASE),
    )


GOOD, VOID = b"\x01" * 32, b"\x02" * 32


@pytest.mark.parametrize("mode", list(WeightMode))
def test_who_has_only_voided_shares_gets_nothing_and_stops_nobodys_pay(mode):
    store = Store(mode, [earning(1, GOOD), earning(2, VOID)], [VOID])
    parts = Division(store, [1]).parts(BLOCK.value_sats, BLOCK)
    assert parts == {(1, 0): BLOCK.value_sats, (2, 0): 0}


@pytest.mark.parametrize("mode", list(WeightMode))
def test_when_all_shares_are_voided_nobody_is_paid(mode):
    store = Store(mode, [earning(1, VOID), earning(2, VOID)], [VOID])
    assert Division(store, [1]).parts(BLOCK.value_sats, BLOCK) is None


@pytest.mark.parametrize("mode", list(WeightMode))
@pytest.mark.parametrize("seed", range(40))
def test_every_satoshi_goes_somewhere(mode, seed):
    randomness = random.Random(seed)
    digests = [bytes([number]) * 32 for number in range(1, 6)]
    earnings = [
        earning(
            randomness.randrange(1, 5),
            randomness.choice(digests),
            minute=randomness.randrange(3),
            zeros=randomness.randrange(BASE, 90),
            price=randomness.choice([0, 1, randomness.randrange(1 << 30)]),
        )
        for _ in range(randomness.randrange(1, 30))
    ]
    voided = randomness.sample(digests, randomness.randrange(5))
    left = [each for each in earnings if each.digest not in voided]
    parts = Division(Store(mode, earnings, voided), [1]).parts(BLOCK.value_sats, BLOCK)
    weight = sum(each.value if mode is WeightMode.VALUE else each.work for each in left)
    if mode is WeightMode.DIFFICULTY:
        weight = sum(each.value for each in left)
    if not weight:
        assert parts is None
        return
    assert sum(parts.values()) == BLOCK.value_sats
    assert min(parts.values()) >= 0
    honest = {(each.commitment[0], 0) for each in left}
    assert not {owner for owner, sats in parts.items() if sats} - honest

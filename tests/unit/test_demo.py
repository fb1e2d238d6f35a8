"""The demo's checks: each holds for what is right, and falls for each way of being wrong."""

import json
from dataclasses import dataclass, field, replace

import pytest

from radpool_sv2.demo.books import Block, Epoch, Part
from radpool_sv2.demo.check import check_blocks, check_miners, check_payments, check_report
from radpool_sv2.demo.stage import MinerPlan


@dataclass
class Miner:
    figures: dict = field(default_factory=dict)
    plan: MinerPlan = field(default_factory=lambda: MinerPlan("alice", "standard", 1))


GOOD = {"accepted": 3, "accepted_hashes": 24, "unanswered": 0, "lost": 0, "mismatches": 0}
EPOCH = Epoch(1, "ab", 100, 0, 0, (Part("alice", 3, 24, 75), Part("bob", 1, 8, 25)))


def miners_hold(figures, epochs=(EPOCH,)):
    return [outcome.holds for outcome in check_miners([Miner(figures)], epochs)]


def test_miners():
    assert miners_hold(GOOD) == [True, True]
    assert miners_hold(GOOD | {"rejected": {"stale-share": 2}}) == [True, True]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"accepted": 4}, [False, True]),
        ({"accepted": 2}, [False, True]),
        ({"accepted": 0}, [False, True]),
        ({"accepted_hashes": 23}, [False, True]),
        ({"mismatches": 1}, [True, False]),
        ({"rejected": {"duplicate-share": 1}}, [True, False]),
    ],
)
def test_miners_that_counted_otherwise(change, expected):
    assert miners_hold(GOOD | change) == expected


def test_a_share_whose_answer_was_on_its_way_may_be_in_the_ledger():
    figures = {"accepted": 2, "accepted_hashes": 16, "unanswered": 1}
    assert miners_hold(figures)[0]
    assert miners_hold(figures | {"unanswered": 0, "lost": 1})[0]
    assert not miners_hold(figures | {"accepted_hashes": 24})[0]


def test_payments():
    assert all(outcome.holds for outcome in check_payments([EPOCH]))
    assert not any(outcome.holds for outcome in check_payments([]))


@pytest.mark.parametrize(
    ("parts", "sums", "fair"),
    [
        ((75, 24), False, False),
        ((76, 25), False, True),
        ((76, 24), True, False),
        ((25, 75), True, False),
    ],
)
def test_payments_that_are_wrong(parts, sums, fair):
    wrong = tuple(replace(part, sats=sats) for part, sats in zip(EPOCH.parts, parts, strict=True))
    outcomes = list(check_payments([EPOCH, replace(EPOCH, number=2, parts=wrong)]))
    assert [outcome.holds for outcome in outcomes] == [sums, fair]
    assert any("epochs [2]" in outcome.detail for outcome in outcomes)


def test_carries_count():
    assert all(o.holds for o in check_payments([replace(EPOCH, value_sats=90, carry_in_sats=10)]))
    lost = replace(EPOCH, value_sats=101)
    assert not next(iter(check_payments([lost]))).holds


def test_blocks():
    block = Block("ab", 102, 1, 100, "alice", 1)
    assert [o.holds for o in check_blocks([block], {"ab": 1})] == [True, True]
    assert [o.holds for o in check_blocks([block], {"ab": None})] == [True, False]
    assert [o.holds for o in check_blocks([block], {})] == [True, False]
    assert [o.holds for o in check_blocks([], {})] == [False]


COMMITMENTS = {"alice": "aa", "bob": "bb"}


def report(**changes):
    fields = {
        "verified": True,
        "shares": 4,
        "batches": 2,
        "payouts": [{"commitment": "aa", "sats": 75}, {"commitment": "bb", "sats": 25}],
    }
    return json.dumps(fields | changes).encode()


def test_report():
    assert check_report(report(), EPOCH, COMMITMENTS).holds


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"Traceback",
        json.dumps({"verified": False, "reason": "a share is not as claimed"}).encode(),
        report(payouts=[{"commitment": "aa", "sats": 75}]),
        report(payouts=[{"commitment": "aa", "sats": 25}, {"commitment": "bb", "sats": 75}]),
    ],
)
def test_reports_that_say_otherwise(wrong):
    assert not check_report(wrong, EPOCH, COMMITMENTS).holds

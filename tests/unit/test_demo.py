"""The demo's checks: each holds for what is right, and falls for each way of being wrong."""

import json
from dataclasses import dataclass, field, replace

import pytest

from radpool_sv2.demo import stage
from radpool_sv2.demo.books import Block, Epoch, Part
from radpool_sv2.demo.check import check_blocks, check_miners, check_payments, check_report
from radpool_sv2.demo.redeemed import (
    check_links,
    check_redemptions,
    check_restored,
    check_tokens,
)
from radpool_sv2.demo.stage import MinerPlan
from radpool_sv2.demo.tokens import Keyset, Records, Redemption, Restored, Tokens

ACCOUNT = "ecash.pool"


@dataclass
class Miner:
    figures: dict = field(default_factory=dict)
    plan: MinerPlan = field(default_factory=lambda: MinerPlan("alice", 1))


GOOD = {"accepted": 3, "accepted_hashes": 24 << 12, "unanswered": 0, "lost": 0, "mismatches": 0}
EARNED = Epoch(
    1, "ab", 100, 0, 0, (Part(ACCOUNT, 3, 24 << 12, 24 << 12, 75), Part("bob", 1, 8, 8, 25))
)
EPOCH = Epoch(1, "ab", 100, 0, 0, (Part("alice", 3, 24, 24, 75), Part("bob", 1, 8, 8, 25)))


def miners_hold(figures, epochs=(EARNED,)):
    return [outcome.holds for outcome in check_miners([Miner(figures)], epochs, ACCOUNT)]


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
    figures = {"accepted": 2, "accepted_hashes": 16 << 12, "unanswered": 1}
    assert miners_hold(figures)[0]
    assert miners_hold(figures | {"unanswered": 0, "lost": 1})[0]
    assert not miners_hold(figures | {"accepted_hashes": 24 << 12})[0]


def test_a_share_that_was_kept_without_a_token_is_in_the_ledger():
    figures = {"accepted": 2, "accepted_hashes": 16 << 12, "wallet": {"kept": 1}}
    assert miners_hold(figures)[0]
    assert not miners_hold(figures | {"wallet": {"kept": 2}})[0]
    assert not miners_hold(GOOD | {"wallet": {"kept": 1}})[0], "it is not there"
    assert not tokens_hold(figures)[0], "there are three tokens, for two shares that earned one"


KEYSET = Keyset("0a", 1, "final", 75_000, 24, 74_000, 102)
HELD = {"alice": (Tokens("0a", 3, 24),)}


def tokens_hold(figures=GOOD, held=HELD, keysets=(KEYSET,), epochs=(EARNED,)):
    return [each.holds for each in check_tokens([Miner(figures)], held, keysets, epochs)]


def test_tokens():
    assert tokens_hold() == [True, True]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"held": {"alice": (Tokens("0a", 2, 24),)}}, [False, True]),
        ({"held": {"alice": (Tokens("0a", 3, 23),)}}, [False, True]),
        ({"held": {"alice": ()}}, [False, True]),
        ({"keysets": (replace(KEYSET, work=25),)}, [True, False]),
        ({"keysets": ()}, [True, False]),
    ],
)
def test_tokens_that_do_not_fit_the_shares(change, expected):
    assert tokens_hold(**change) == expected


def test_a_share_whose_answer_was_on_its_way_may_have_its_token():
    figures = {"accepted": 2, "accepted_hashes": 16 << 12, "unanswered": 1}
    assert tokens_hold(figures) == [True, True]
    assert tokens_hold(figures | {"unanswered": 0}) == [False, True]


def test_a_payment_of_two_epochs_counts_once():
    later = replace(EARNED, number=2, parts=tuple(replace(part, shares=0) for part in EARNED.parts))
    assert miners_hold(GOOD, (EARNED, later)) == [True, True]
    assert redemptions_hold(paid=(EARNED, later)) == [True, True, True]


def test_a_wallet_comes_back_whole_or_not():
    held = HELD["alice"]
    assert check_restored("alice", Restored(held, held)).holds
    assert not check_restored("alice", Restored(held, ())).holds
    assert not check_restored("alice", Restored((), ())).holds
    assert not check_restored("alice", Restored(held, (Tokens("0a", 3, 23),))).holds


# Of 75,000 msat for 24 units, 7 units are worth 21,875 msat and 17 are worth 53,125.
REDEEMED = (Redemption("alice", "0a", 7, 21, ""), Redemption("bob", "0a", 17, 53, ""))


def redemptions_hold(redeemed=REDEEMED, keyset=KEYSET, paid=(EARNED,)):
    return [each.holds for each in check_redemptions(redeemed, [keyset], paid, ACCOUNT)]


def test_redemptions():
    assert redemptions_hold() == [True, True, True]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"redeemed": (replace(REDEEMED[0], sats=22), REDEEMED[1])}, [False, True, False]),
        (
            {"redeemed": (replace(REDEEMED[0], sats=0, reason="x"), REDEEMED[1])},
            [False, True, False],
        ),
        ({"redeemed": ()}, [False, True, False]),
        ({"keyset": replace(KEYSET, theta_msat=76_000)}, [False, False, False]),
        ({"keyset": replace(KEYSET, paid_msat=75_000)}, [True, True, False]),
        ({"paid": ()}, [True, False, True]),
    ],
)
def test_redemptions_that_are_wrong(change, expected):
    assert redemptions_hold(**change) == expected


def test_what_nobody_redeemed_is_left():
    keyset = replace(KEYSET, paid_msat=21_000)
    assert redemptions_hold(redeemed=REDEEMED[:1], keyset=keyset) == [True, True, True]


def test_links():
    def holds(records):
        return [each.holds for each in check_links(records)]

    assert holds(Records({"0a": 3}, {"0a": 2}, 0)) == [True]
    assert holds(Records({"0a": 3}, {"0a": 2}, 1)) == [False]
    assert holds(Records({"0a": 3}, {}, 0)) == [False]


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


@pytest.mark.parametrize(("confirmations", "holds"), [(None, True), (1, False)])
def test_a_block_that_came_second_at_its_height_is_no_fault(confirmations, holds):
    first, second = Block("ab", 102, 1, 100, "alice", 1), Block("cd", 102, 2, 100, "bob", None)
    second = replace(second, confirmations=confirmations)
    outcomes = check_blocks([first, second], {"ab": 1, "cd": None})
    assert [o.holds for o in outcomes] == [True, True, holds]


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


def test_figures_behind_a_translator_are_those_of_a_miner():
    miner = stage.Miner(stage.SV1_MINER, None, None, None, device=object())
    miner._of_device = {"hash_rate": 7, "rejected": {"Stale share": 2, "Duplicate share": 1}}
    told = {"pool_accepted": 3, "pool_work": 24 << 12, "pool_refusals": {"stale-share": 1}}
    miner.figures = miner._as_miner(told | {"unanswered": 0, "wallet": {"tokens": 3}})
    assert miner.figures["mismatches"] == 1, "a share that came too late is nobody's fault"
    assert miner.tokens == 3
    assert miners_hold(miner.figures) == [True, False]
    assert miners_hold(miner.figures | {"mismatches": 0}) == [True, True]

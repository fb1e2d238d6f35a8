"""What the demo of a federation makes of what members, the chain and an outsider say."""

from dataclasses import replace

import pytest

from radpool_sv2.demo.federated_check import (
    Paid,
    Roots,
    check_keys,
    check_log,
    check_payouts,
    parts_of,
    read_report,
)

SCRIPTS = {0: "aa", 1: "bb"}
PAID = Paid("00ff", "77", 3, 1_000, (("aa", 600), ("bb", 300)), ("5" * 128,))
REPORT = {
    "verified": True,
    "epochs": 4,
    "root": "r4",
    "blocks": [{"payout": "77", "parts": [[0, 600, "aa"], [1, 300, "bb"]]}],
}


def at(epochs, root):
    return {"epochs": {"applied": epochs, "root": root}}


def roots(*seen):
    made = Roots()
    for name, epochs, root in seen:
        made.take(name, at(epochs, root))
    return made


def holds(outcomes):
    return [outcome.holds for outcome in outcomes]


def test_roots_are_compared_behind_the_same_epoch():
    names = ["a", "b"]
    good = roots(("a", 3, "r3"), ("a", 4, "r4"), ("b", 4, "r4"), ("b", 0, ""))
    assert holds(good.check(names)) == [True, True]
    assert holds(roots(("a", 3, "r3"), ("b", 4, "r4")).check(names)) == [False, False]
    differing = roots(("a", 3, "r3"), ("b", 3, "x"), ("a", 4, "r4"), ("b", 4, "r4"))
    assert holds(differing.check(names)) == [False, True]
    late = roots(("a", 3, "r3"), ("b", 3, "r3"), ("a", 4, "r4"), ("b", 4, "x"))
    assert holds(late.check(names)) == [False, False]
    # Who does not run says nothing.
    assert holds(Roots().check(names)) == [False, False]


@pytest.mark.parametrize(
    ("change", "expected"),
    [({}, True), ({"public_key": "other"}, False), ({"has_share": False}, False)],
)
def test_all_members_have_a_share_of_one_key(change, expected):
    key = {"public_key": "k", "has_share": True, "threshold": 3}
    figures = {"a": {"keys": {"treasury": key}}, "b": {"keys": {"treasury": key | change}}}
    assert holds(check_keys(figures, "5120" + "00" * 32)) == [expected]
    assert holds(check_keys(figures, "0014" + "00" * 20)) == [False]


@pytest.mark.parametrize(
    "change",
    [{"verified": False}, {"epochs": 0}, {"epochs": 3}, {"root": "x"}],
)
def test_an_outsider_has_the_members_root(change):
    known = roots(("a", 3, "r3"), ("a", 4, "r4"), ("b", 4, "r4"))
    assert check_log(REPORT, known).holds
    assert not check_log(REPORT | change, known).holds
    assert not check_log(read_report(b"Traceback"), known).holds


@pytest.mark.parametrize(
    "change",
    [
        {"confirmations": 0},
        {"witness": ("5" * 128, "00")},
        {"outputs": (("aa", 601), ("bb", 300))},
        {"outputs": (("bb", 300), ("aa", 600))},
        {"txid": "78"},
    ],
)
def test_payouts_in_the_chain_are_those_that_the_outsider_computed(change):
    assert check_payouts([PAID], REPORT, SCRIPTS).holds
    assert not check_payouts([PAID, replace(PAID, **change)], REPORT, SCRIPTS).holds
    assert not check_payouts([PAID], REPORT, {0: "aa", 1: "cc"}).holds
    assert not check_payouts([], REPORT, SCRIPTS).holds
    assert parts_of({}, "77") == []

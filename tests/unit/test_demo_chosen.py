"""The checks of the demo on nodes: blocks that lost a race are no fault, everything else is one."""

from dataclasses import replace

import pytest

from radpool_sv2.demo.books import Block, Epoch, Part
from radpool_sv2.demo.check import check_payments
from radpool_sv2.demo.chosen import Held, check_choosers, payments_of

ALICE = Block("aa", 102, 1, 100, "alice", 3)
CAROL = Block("cc", 103, 2, 120, "carol", 2)
HELD = {"aa": Held(True, False, 100, 4), "cc": Held(True, False, 120, 5)}


def holds(blocks, held):
    return [outcome.holds for outcome in check_choosers(blocks, held)]


def test_blocks_that_are_what_the_books_say():
    assert holds([ALICE, CAROL], HELD) == [True, True, True, True]


def test_a_block_that_lost_against_another_of_its_height_is_no_fault():
    lost = replace(ALICE, hash="dd", height=103, confirmations=None)
    outcomes = list(check_choosers([ALICE, CAROL, lost], HELD | {"dd": Held(False, True, 0, 0)}))
    assert all(outcome.holds for outcome in outcomes)
    assert outcomes[1].detail == (
        "1 blocks, 4 payments in them; 1 lost to another block of its height, which the books say, "
        "too"
    )


@pytest.mark.parametrize(
    ("block", "held", "words"),
    [
        (ALICE, Held(True, False, 99, 4), "100 in the books, 99 in its coinbase"),
        (ALICE, Held(False, True, 0, 0), "100 in the books, not on the chain"),
        (ALICE, Held(False, False, 0, 0), "100 in the books, not on the chain"),
        (replace(ALICE, confirmations=None), HELD["aa"], "as lost, but it is on the chain"),
        (replace(ALICE, confirmations=None), Held(False, False, 0, 0), "no block of this height"),
    ],
)
def test_books_and_node_that_differ(block, held, words):
    outcomes = list(check_choosers([block], {"aa": held}))
    assert [outcome.holds for outcome in outcomes] == [True, False, True, True]
    assert words in outcomes[1].detail


def test_no_block_at_all_is_a_fault():
    assert holds([], {}) == [False, True, True, True]


PART = Part("alice", 3, 24, 24, 100)
EPOCH = Epoch(1, "aa", 100, 0, 0, (PART,))


def test_a_payment_of_two_epochs_is_one_payment():
    lost, unpaid = replace(EPOCH, number=1), replace(EPOCH, number=3, block="", parts=())
    own = replace(EPOCH, number=2)
    assert payments_of([lost, own, unpaid]) == [own]


def test_a_block_for_which_nobody_worked_is_carried_on_whole():
    empty = Epoch(2, "cc", 100, 10, 110, ())
    assert all(outcome.holds for outcome in check_payments([EPOCH, empty]))
    kept = replace(empty, carry_out_sats=109)
    assert [outcome.holds for outcome in check_payments([EPOCH, kept])] == [False, False]

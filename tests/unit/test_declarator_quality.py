"""What is counted of a declarer: a block once, however often it is heard of."""

from radpool_sv2.declarator import quality
from radpool_sv2.declarator.quality import QualityBook
from radpool_sv2.templates.declared import Owner

ALICE = Owner(1, "alice", bytes(32), 0)
BOB = Owner(2, "bob", bytes(32), 0)


def counted(book):
    return {row["account"]: row["blocks"] for row in book.page(0, 10)[1]}


def test_a_block_counts_once_for_its_finder():
    book = QualityBook()
    book.solved(ALICE, b"\x01" * 32)
    book.solved(ALICE, b"\x01" * 32)
    book.solved(BOB, b"\x02" * 32)
    book.solved(ALICE, b"\x03" * 32)
    assert counted(book) == {"alice": 2, "bob": 1}
    assert book.totals()["blocks"] == 3


def test_blocks_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(quality, "SOLVED_MAX", 2)
    book = QualityBook()
    for number in (1, 2, 3, 3, 2, 1):
        book.solved(ALICE, bytes([number]) * 32)
    assert counted(book) == {"alice": 4}, "the oldest is the one that was forgotten"

"""The SQLite store: constraints, durability, errors."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing

import pytest

from radpool_sv2.errors import StoreError
from radpool_sv2.store import (
    BatchRow,
    BlockRow,
    EntryRow,
    SettlementRow,
    SqliteStore,
    SumRow,
    WeightRow,
)
from radpool_sv2.store.fault import store_error
from radpool_sv2.store.schema import LIMB_BITS
from radpool_sv2.store.sqlite import PREFIX_END, joined, limbs

OWNER = b"\x01" * 32


@pytest.fixture
def file(tmp_path):
    return tmp_path / "data" / "ledger.sqlite"


@pytest.fixture
def store(file):
    store = SqliteStore(file, owner=OWNER, time_ms=5, recent_shares_max=6)
    store.add_account("alice", b"s" * 16, b"c" * 32, 1)
    yield store
    store.close()


def header_hash(number: int) -> bytes:
    return struct.pack("<I", number) * 8


def batch(
    sequence: int, numbers: list[int], work: int = 1, epoch: int = 1, value: int = 7
) -> BatchRow:
    return BatchRow(
        sequence=sequence,
        hash=header_hash(10_000 + sequence),
        time_ms=7,
        epoch_min=1,
        count=len(numbers),
        blob=b"blob",
        header_hashes=b"".join(map(header_hash, numbers)),
        share_keys=b"".join(bytes(4) + header_hash(number)[:16] for number in numbers),
        weight=WeightRow(1, 32, 0),
        bodies=[(b"d" * 32, b"body", 9, 5)],
        quotes=[],
        sums=[SumRow(1, epoch, 0, len(numbers), work, value)],
    )


def test_a_batch_is_there_after_reopening(store, file):
    assert store.head() is None
    assert store.append_batch(batch(0, [1, 2])) == []
    store.close()
    again = SqliteStore(file, owner=OWNER, time_ms=0)
    assert again.head() == (0, header_hash(10_000))
    assert again.batches(0, 9) == [(0, header_hash(10_000), b"blob")]
    assert again.body(b"d" * 32) == b"body"
    assert again.sums([1]) == [SumRow(1, 1, 0, 2, 1, 7)]
    assert again.append_batch(batch(1, [3, 2])) == [1]
    again.close()


class Enclosure:
    """Writes what it is told into a table of its own, and can fail."""

    def __init__(self, error=None):
        self.error = error

    def store(self, connection, sequence, excluded):
        connection.execute("CREATE TABLE IF NOT EXISTS enclosed (sequence, excluded)")
        row = (sequence, ",".join(map(str, excluded)))
        connection.execute("INSERT INTO enclosed VALUES (?, ?)", row)
        # The shares of the batch are there to refer to.
        [(head,)] = connection.execute("SELECT MAX(sequence) FROM batch").fetchall()
        assert head == sequence
        if self.error is not None:
            raise self.error


def enclosed(file):
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT * FROM enclosed ORDER BY rowid").fetchall()


def test_enclosures_are_in_the_transaction_of_their_batch(store, file):
    assert store.append_batch(batch(0, [1, 2]), [Enclosure(), Enclosure()]) == []
    assert store.append_batch(batch(1, [3]), [Enclosure()], [0, 4]) == []
    assert enclosed(file) == [(0, ""), (0, ""), (1, "0,4")]
    # A batch that is not stored encloses nothing.
    assert store.append_batch(batch(2, [4, 1]), [Enclosure()]) == [1]
    assert len(enclosed(file)) == 3
    with pytest.raises(StoreError):
        store.append_batch(batch(2, [4]), [Enclosure(), Enclosure(sqlite3.OperationalError("no"))])
    with pytest.raises(ZeroDivisionError):
        store.append_batch(batch(2, [4]), [Enclosure(), Enclosure(ZeroDivisionError())])
    assert (len(enclosed(file)), store.head()[0]) == (3, 1)
    assert store.append_batch(batch(2, [4]), [Enclosure()]) == []
    assert enclosed(file)[-1] == (2, "")


def test_duplicates_are_named_and_nothing_is_stored(store):
    store.append_batch(batch(0, [1, 2]))
    assert store.append_batch(batch(1, [5, 2, 6, 5, 1, 6])) == [1, 3, 4, 5]
    assert store.head() == (0, header_hash(10_000))
    assert store.append_batch(batch(1, [5, 6])) == []


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_batches_of_any_size_go_in_whole(store, count):
    assert store.append_batch(batch(0, list(range(count)))) == []
    assert store.append_batch(batch(1, [count - 1])) == [0]
    assert store.append_batch(batch(1, [count])) == []


def test_recent_hashes_keep_the_newest(store):
    for sequence in range(4):
        store.append_batch(batch(sequence, [2 * sequence, 2 * sequence + 1]))
    newest = b"".join(map(header_hash, range(2, 8)))
    assert store.recent_hashes(100) == newest
    assert store.recent_hashes(3) == newest[-96:]
    assert store.recent_hashes(0) == b""


def test_one_batch_larger_than_what_is_remembered_is_kept(store):
    store.append_batch(batch(0, list(range(20))))
    assert len(store.recent_hashes(100)) == 20 * 32
    store.append_batch(batch(1, [30]))
    assert store.recent_hashes(100) == header_hash(30)


def test_work_carries_from_limb_to_limb(store):
    works = [2**LIMB_BITS - 1, 1, 2 ** (2 * LIMB_BITS) - 1, 2**120, 2**LIMB_BITS - 1]
    values = works[::-1]
    for sequence, (work, value) in enumerate(zip(works, values, strict=True)):
        store.append_batch(batch(sequence, [sequence], work, value=value))
    assert store.sums([1]) == [SumRow(1, 1, 0, len(works), sum(works), sum(values))]
    assert store.earned_in_epochs([1]) == {(1, 0): (sum(works), sum(values))}
    assert all(joined(*limbs(work)) == work for work in works)


def test_an_account_has_one_name_and_keeps_its_salt(store):
    first = store.add_account("bob", b"a" * 16, b"b" * 32, 1)
    assert store.add_account("bob", b"x" * 16, b"y" * 32, 2) == first
    assert store.accounts(0, 1) == (2, [first])


def test_prefixes_are_never_given_twice(store, file):
    assert store.lease_prefixes(10) == 0
    store.close()
    again = SqliteStore(file, owner=OWNER, time_ms=0)
    assert again.lease_prefixes(PREFIX_END - 10) == 10
    with pytest.raises(StoreError, match=r"all 2\^32 extranonce prefixes"):
        again.lease_prefixes(1)
    again.close()


def test_another_key_is_refused(store, file):
    store.close()
    with pytest.raises(StoreError, match="belongs to the MSP key 0101"):
        SqliteStore(file, owner=b"\x02" * 32, time_ms=0)


def test_a_newer_file_and_a_foreign_one_are_refused(store, file, tmp_path):
    store.close()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="written by a newer radpool"):
        SqliteStore(file, owner=OWNER, time_ms=0)
    foreign = tmp_path / "other.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(StoreError, match="another program"):
        SqliteStore(foreign, owner=OWNER, time_ms=0)
    foreign.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StoreError, match="it is no database"):
        SqliteStore(foreign, owner=OWNER, time_ms=0)


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        SqliteStore(tmp_path / "file" / "x.sqlite", owner=OWNER, time_ms=0)


def test_a_full_disk_leaves_nothing_and_mends_itself(store, file):
    store.append_batch(batch(0, [1]))
    with store._write() as connection:
        [(pages,)] = connection.execute("PRAGMA page_count")
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    large = batch(1, list(range(2, 5000)))
    with pytest.raises(StoreError, match="the disk is full"):
        store.append_batch(large)
    # The bound went with the connection, as a full disk goes with the files that filled it.
    assert store.head() == (0, header_hash(10_000))
    assert store.append_batch(large) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SQLITE_FULL", "Free some space"),
        ("SQLITE_IOERR_FSYNC", "dmesg"),
        ("SQLITE_READONLY_DBMOVED", "right to write"),
        ("SQLITE_CANTOPEN", "directory must exist"),
        ("SQLITE_BUSY_SNAPSHOT", "another program"),
        ("SQLITE_CORRUPT_VTAB", "Restore it"),
        ("SQLITE_MISUSE", "what happened"),
    ],
)
def test_each_error_says_what_to_do(tmp_path, name, words):
    error = sqlite3.OperationalError("what happened")
    error.sqlite_errorname = name
    text = str(store_error(tmp_path / "l.sqlite", error))
    assert words in text
    assert name in text
    assert "l.sqlite" in text


def settlement(reverses: int | None, sats: int) -> SettlementRow:
    return SettlementRow(
        id=0,
        block=b"b" * 32,
        reverses=reverses,
        sequence=0,
        time_ms=1,
        value_sats=sats,
        carry_in=0,
        carry_out=0,
        epochs=(1,),
        entries=(EntryRow("miner", 1, 0, sats), EntryRow("reward", 0, 0, -sats)),
    )


def test_settlements_are_undone_by_opposites_and_never_edited(store):
    block = BlockRow(b"b" * 32, 5, 0, 100, 1, 9, 0, None)
    assert store.add_block(block) == 2
    assert store.add_block(block) == 2
    assert store.unpaid_epochs(9) == (1,)
    number = store.settle(settlement(None, 100))
    assert store.unpaid_epochs(9) == ()
    assert store.block(b"b" * 32).settlement == number
    assert store.balances() == {(1, 0): 100}
    undone = store.settle(settlement(number, -100))
    assert store.unpaid_epochs(9) == (1,)
    assert store.block(b"b" * 32).settlement is None
    assert store.balances() == {(1, 0): 0}
    assert [row.id for row in store.settlements_of_epoch(1)] == [number, undone]
    with pytest.raises(StoreError, match="UNIQUE"):
        store.settle(settlement(number, -100))
    for change in ("UPDATE entry SET sats = 1", "DELETE FROM settlement", "DELETE FROM batch"):
        store.append_batch(batch(store.head()[0] + 1 if store.head() else 0, [hash(change) % 999]))
        with pytest.raises(StoreError, match="append-only"), store._write() as connection:
            connection.execute(change)


def test_a_batch_for_an_account_that_is_none_is_refused_whole(store):
    wrong = batch(0, [1])
    wrong = BatchRow(
        **{name: getattr(wrong, name) for name in wrong.__slots__ if name != "sums"},
        sums=[SumRow(99, 1, 0, 1, 1, 1)],
    )
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        store.append_batch(wrong)
    assert store.head() is None
    assert store.append_batch(batch(0, [1])) == []

"""The ledger: commits, epochs, settlements, reorgs."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
import trio
from shares import Key, Owner, Share, ShareBatch

from radpool_sv2.errors import LocalProtocolError, StoreError
from radpool_sv2.ledger import Ledger
from radpool_sv2.ledger.books import Books
from radpool_sv2.store import SqliteStore
from radpool_sv2.verify import verify_batch, verify_export

KEY = Key()
REWARD = 5_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def __call__(self) -> int:
        self.now += 1
        return self.now


@pytest.fixture
async def ledger(tmp_path):
    ledger = await Ledger.open(tmp_path / "ledger.sqlite", KEY, maturity_blocks=2, unix_ms=Clock())
    yield ledger
    await ledger.close()


def share(account, number: int, *, z: int = 0, epoch: int | None = None, rail: int = 0) -> Share:
    owner = Owner(account.commitment, epoch or 1, rail, account.id)
    return Share(owner, z=z, ntime=1_700_000_000 + number).mined(KEY.public)


def block_hash(number: int) -> bytes:
    return number.to_bytes(4, "little") * 8


async def find_block(ledger: Ledger, number: int, value_sats: int = REWARD) -> bytes:
    await ledger.record_block(
        hash=block_hash(number), height=number, value_sats=value_sats, finder=1
    )
    return block_hash(number)


async def balance(ledger: Ledger, account) -> int:
    return (await ledger.balances()).get((account.id, 0), 0)


async def test_shares_are_chained_into_batches(ledger, tmp_path):
    alice = await ledger.account("alice")
    assert await ledger.commit(ShareBatch([share(alice, 0), share(alice, 1)])) == []
    assert await ledger.commit(ShareBatch([share(alice, 2)])) == []
    (_, first_hash, first), (_, second_hash, second) = ledger._store.batches(0, 9)
    body = Share(Owner(b"")).template
    bodies = {body.digest(): body.encode()}
    assert verify_batch(first, bodies)[0].hash == first_hash
    batch, _ = verify_batch(second, bodies)
    assert (batch.sequence, batch.previous, batch.hash) == (1, first_hash, second_hash)


async def test_known_shares_are_refused_and_the_rest_is_kept(ledger):
    alice = await ledger.account("alice")
    old, new = share(alice, 0), share(alice, 1)
    await ledger.commit(ShareBatch([old]))
    refused = await ledger.commit(ShareBatch([old, new, old, new, share(alice, 2)]))
    assert refused == [(index, "duplicate-share") for index in (0, 2, 3)]
    assert await ledger.commit(ShareBatch([old, new])) == [
        (0, "duplicate-share"),
        (1, "duplicate-share"),
    ]
    [row] = await ledger.sums([1])
    assert (row.count, row.work) == (3, 3)


async def test_accounts_have_secret_salts_and_stay(ledger):
    alice = await ledger.account("alice")
    assert await ledger.account("alice") == alice
    bob = await ledger.account("bob")
    assert bob.commitment != alice.commitment
    assert len(bob.salt) == 16
    total, rows = await ledger.accounts(0, 1)
    assert (total, rows[0]["account"]) == (2, "bob")


async def test_a_block_closes_the_epoch_once(ledger):
    assert ledger.current_epoch == 1
    await find_block(ledger, 1)
    await find_block(ledger, 1)
    assert (ledger.current_epoch, ledger.blocks_found) == (2, 1)
    assert await ledger.has_block(block_hash(1))
    assert not await ledger.has_block(block_hash(2))
    total, epochs = await ledger.epochs(0, 10)
    assert (total, [row["state"] for row in epochs]) == (2, ["open", "closed"])


async def test_a_confirmed_block_pays_by_work(ledger):
    alice, bob = await ledger.account("alice"), await ledger.account("bob")
    await ledger.commit(ShareBatch([share(alice, 0, z=3), share(bob, 0, z=4), share(bob, 1, z=3)]))
    block = await find_block(ledger, 1, 1001)
    await ledger.reconcile({block: 1})
    assert await balance(ledger, alice) == 0
    done = await ledger.reconcile({block: 2})
    assert [payment.epochs for payment in done.paid] == [(1,)]
    assert (await balance(ledger, alice), await balance(ledger, bob)) == (250, 751)
    assert (await ledger.reconcile({block: 3})).paid == ()
    assert (await ledger.blocks(0, 1))[1][0]["state"] == "paid"


async def test_an_orphan_is_undone_and_its_epoch_paid_by_the_next_block(ledger):
    alice, bob = await ledger.account("alice"), await ledger.account("bob")
    await ledger.commit(ShareBatch([share(alice, 0)]))
    first = await find_block(ledger, 1, 100)
    await ledger.commit(ShareBatch([share(bob, 0, epoch=2)]))
    second = await find_block(ledger, 2, 1000)
    await ledger.reconcile({first: 2, second: 1})
    assert (await balance(ledger, alice), await balance(ledger, bob)) == (100, 0)
    done = await ledger.reconcile({first: None, second: 2})
    assert [row.reverses for row in done.reversed] == [1]
    assert [row.epochs for row in done.paid] == [(1, 2)]
    assert (await balance(ledger, alice), await balance(ledger, bob)) == (500, 500)
    # And back again: the first block pays its epoch, the second is gone.
    done = await ledger.reconcile({first: 2, second: None})
    assert [row.epochs for row in done.paid] == [(1,)]
    assert (await balance(ledger, alice), await balance(ledger, bob)) == (100, 0)


async def test_a_block_that_returns_when_all_is_paid_pays_its_own_epoch(ledger):
    alice, bob = await ledger.account("alice"), await ledger.account("bob")
    await ledger.commit(ShareBatch([share(alice, 0)]))
    first = await find_block(ledger, 1, 100)
    await ledger.commit(ShareBatch([share(bob, 0, epoch=2)]))
    second = await find_block(ledger, 2, 1000)
    await ledger.reconcile({first: None, second: 2})
    await ledger.reconcile({first: 3, second: 2})
    assert (await balance(ledger, alice), await balance(ledger, bob)) == (600, 500)


async def test_a_block_without_work_is_carried(ledger, tmp_path):
    alice = await ledger.account("alice")
    empty = await find_block(ledger, 1, 70)
    await ledger.reconcile({empty: 2})
    assert await ledger.carry() == 70
    await ledger.commit(ShareBatch([share(alice, 0, epoch=2)]))
    block = await find_block(ledger, 2, 30)
    await ledger.reconcile({block: 2})
    assert (await balance(ledger, alice), await ledger.carry()) == (100, 0)
    await ledger.export(tmp_path / "out", 2)
    assert "carried from earlier" in verify_export(tmp_path / "out").notes[-1]
    # What was carried and paid is missing when its block is orphaned: the next one makes up for it.
    await ledger.reconcile({empty: None})
    assert (await balance(ledger, alice), await ledger.carry()) == (100, -70)
    await ledger.commit(ShareBatch([share(alice, 1, epoch=3)]))
    await ledger.reconcile({await find_block(ledger, 3, 80): 2})
    assert (await balance(ledger, alice), await ledger.carry()) == (110, 0)


async def test_late_shares_count_in_the_next_epoch(ledger):
    alice = await ledger.account("alice")
    await ledger.commit(ShareBatch([share(alice, 0)]))
    block = await find_block(ledger, 1)
    await ledger.commit(ShareBatch([share(alice, 1)]))
    await ledger.reconcile({block: 2})
    await ledger.commit(ShareBatch([share(alice, 2)]))
    assert [(row.epoch, row.count) for row in await ledger.sums([1, 2])] == [(1, 2), (2, 1)]


async def test_everything_is_known_after_a_restart(ledger, tmp_path):
    alice = await ledger.account("alice")
    await ledger.commit(ShareBatch([share(alice, 0)]))
    block = await find_block(ledger, 1)
    await ledger.reconcile({block: 2})
    await ledger.close()
    again = await Ledger.open(tmp_path / "ledger.sqlite", KEY, maturity_blocks=2)
    assert (again.current_epoch, again.blocks_found) == (2, 1)
    assert await again.unsettled_blocks() == [block]
    assert await again.commit(ShareBatch([share(alice, 0)])) == [(0, "duplicate-share")]
    assert await again.commit(ShareBatch([share(alice, 1)])) == []
    assert [(row.epoch, row.count) for row in await again.sums([1, 2])] == [(1, 1), (2, 1)]
    assert len(await again.recent_hashes(10)) == 64
    await again.close()


async def test_prefixes_go_up(ledger):
    assert await ledger.reserve_prefixes(5) == (0, 5)
    assert await ledger.reserve_prefixes(1) == (5, 6)


async def test_a_cancelled_commit_is_finished(ledger):
    alice = await ledger.account("alice")
    batch = ShareBatch([share(alice, 0)])
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def cancel() -> None:
                while not batch.sealed:
                    await trio.sleep(0)
                scope.cancel()

            nursery.start_soon(cancel)
            assert await ledger.commit(batch) == []
    assert (await ledger.sums([1]))[0].count == 1


class FailingStore(SqliteStore):
    """Reports a failure after, or instead of, making a batch durable."""

    failure = ""
    failure_after_calls = 0

    def append_batch(self, batch, enclosures=(), excluded=()):
        if self.failure_after_calls:
            self.failure_after_calls -= 1
            return super().append_batch(batch, enclosures, excluded)
        failure, self.failure = self.failure, ""
        if failure == "before":
            raise StoreError("the disk is full")
        if failure == "during":
            enclosures = [*enclosures, Note(sqlite3.OperationalError("disk I/O error"))]
        duplicates = super().append_batch(batch, enclosures, excluded)
        if failure == "after":
            raise StoreError("the disk could not flush")
        return duplicates


@pytest.mark.parametrize("failure", ["before", "after"])
@pytest.mark.parametrize("other_first", [False, True])
def test_a_commit_in_doubt_counts_once(tmp_path, failure, other_first):
    store = FailingStore(tmp_path / "l.sqlite", owner=KEY.public, time_ms=0)
    books = Books(store, KEY, maturity_blocks=1, unix_ms=Clock())
    alice = books.account("alice")
    known, doubtful = share(alice, 0), share(alice, 1)
    books.commit(ShareBatch([known]))
    batch = ShareBatch([doubtful, share(alice, 2)])
    store.failure = failure
    with pytest.raises(StoreError):
        books.commit(batch)
    if other_first:
        assert books.commit(ShareBatch([share(alice, 3)])) == []
        expected = [0, 1] if failure == "after" else []
    else:
        expected = []
    assert [index for index, _ in books.commit(batch)] == expected
    assert books.commit(ShareBatch([share(alice, 4)])) == []
    assert store.sums([1])[0].count == 4 + other_first
    blobs = store.batches(0, 99)
    assert [sequence for sequence, _, _ in blobs] == list(range(len(blobs)))
    store.close()


class Note:
    """Is an enclosure that writes down which shares were left out of its batch."""

    def __init__(self, error=None):
        self.calls = []
        self.error = error

    def store(self, connection, sequence, excluded):
        self.calls.append((sequence, list(excluded)))
        if self.error is not None:
            raise self.error
        connection.execute("CREATE TABLE IF NOT EXISTS note (sequence PRIMARY KEY, excluded)")
        connection.execute("INSERT INTO note VALUES (?, ?)", (sequence, str(list(excluded))))


def notes(file):
    with closing(sqlite3.connect(file)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'note'").fetchall():
            return []
        return connection.execute("SELECT * FROM note ORDER BY 1").fetchall()


async def test_enclosures_become_durable_with_their_batch(ledger, tmp_path):
    alice = await ledger.account("alice")
    old, new = share(alice, 0), share(alice, 1)
    note = Note()
    assert await ledger.commit(ShareBatch([old]), [note]) == []
    refused = await ledger.commit(ShareBatch([old, new]), [note])
    assert refused == [(0, "duplicate-share")]
    # Nothing of this one is new, so there is no batch to be enclosed with.
    assert len(await ledger.commit(ShareBatch([old, new]), [note])) == 2
    assert note.calls == [(0, []), (1, [0])]
    assert notes(tmp_path / "ledger.sqlite") == [(0, "[]"), (1, "[0]")]


@pytest.mark.parametrize(
    ("failure", "calls"), [("before", 1), ("during", 2), ("after", 1)], ids=str
)
def test_an_enclosure_of_a_commit_in_doubt_counts_once(tmp_path, failure, calls):
    """What it did last stands where COMMIT was durable after all; else it starts anew."""
    file = tmp_path / "l.sqlite"
    store = FailingStore(file, owner=KEY.public, time_ms=0)
    books = Books(store, KEY, maturity_blocks=1, unix_ms=Clock())
    alice = books.account("alice")
    known = share(alice, 0)
    books.commit(ShareBatch([known]))
    batch, note = ShareBatch([known, share(alice, 1)]), Note()
    store.failure, store.failure_after_calls = failure, 1
    with pytest.raises(StoreError):
        books.commit(batch, [note])
    assert books.commit(batch, [note]) == [(0, "duplicate-share")]
    assert note.calls == [(1, [0])] * calls
    assert notes(file) == [(1, "[0]")]
    assert store.sums([1])[0].count == 2
    store.close()


@pytest.mark.parametrize(
    ("error", "raised"),
    [(sqlite3.OperationalError("disk I/O error"), StoreError), (KeyError("a bug"), KeyError)],
)
def test_an_enclosure_that_fails_takes_its_batch_back(tmp_path, error, raised):
    file = tmp_path / "l.sqlite"
    store = SqliteStore(file, owner=KEY.public, time_ms=0)
    books = Books(store, KEY, maturity_blocks=1, unix_ms=Clock())
    alice = books.account("alice")
    batch, note = ShareBatch([share(alice, 0)]), Note(error)
    with pytest.raises(raised):
        books.commit(batch, [note])
    assert (store.head(), store.sums([1]), notes(file)) == (None, [], [])
    note.error = None
    assert books.commit(batch, [note]) == []
    assert (store.head()[0], notes(file)) == (0, [(0, "[]")])
    store.close()


async def test_exports_name_what_is_wrong_with_the_request(ledger, tmp_path):
    with pytest.raises(LocalProtocolError, match="the ledger has 1 to 1"):
        await ledger.export(tmp_path / "out", 2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(LocalProtocolError, match="is not empty"):
        await ledger.export(tmp_path / "full", 1)
    await ledger.export(tmp_path / "none", 1)
    assert verify_export(tmp_path / "none").shares == 0

"""Keeps the books in one SQLite file.

Theory of operation. One connection writes, another reads; a lock guards each, since calls come from
changing worker threads. The file is in WAL mode with synchronous = FULL, so a transaction is on the
disk when COMMIT returns, and readers never wait for the writer. After any error of SQLite the
connection is given up and the next call opens a new one: a full disk needs nobody to restart the
node once there is space.

A COMMIT that fails may still turn out to be durable: its frames can be complete in the log although
the flush was reported as failed. Whoever appends batches therefore compares `head` before it tries
again.
"""

# The protocol `Store` documents the methods.
# ruff: noqa: D102

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from radpool_sv2.errors import StoreError
from radpool_sv2.store.fault import store_error
from radpool_sv2.store.row import (
    AccountRow,
    BatchRow,
    BlockRow,
    EntryRow,
    EpochRow,
    SettlementRow,
    SumRow,
)
from radpool_sv2.store.schema import APPLICATION_ID, LIMB_BITS, MIGRATIONS, VERSION, create

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["SqliteStore"]

BUSY_SECONDS = 5.0
"""How long a backup or an export may hold the file before a write gives up."""

PREFIX_END = 1 << 32
"""Extranonce prefixes have four bytes."""

LIMB_MASK = (1 << LIMB_BITS) - 1

EACH_HASH = """
    WITH RECURSIVE at (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM at WHERE i + 1 < :count
    ), given (i, hash) AS (SELECT i, substr(:hashes, 32 * i + 1, 16) FROM at)
"""
"""The header hashes of a batch as rows, so that no Python runs per share."""

ADD_SHARES = f"{EACH_HASH} INSERT INTO share SELECT hash, :sequence FROM given ORDER BY hash"  # noqa: S608 - constants

FIND_DUPLICATES = f"""
    {EACH_HASH} SELECT i FROM (
        SELECT i, row_number() OVER (PARTITION BY hash ORDER BY i) AS place,
            EXISTS (SELECT 1 FROM share WHERE share.hash = given.hash) AS known
        FROM given
    ) WHERE known OR place > 1 ORDER BY i
"""  # noqa: S608 - both parts are constants

ADD_SUM = f"""
    INSERT INTO epoch_sum AS old VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET
        count = old.count + excluded.count,
        work_0 = (old.work_0 + excluded.work_0) & {LIMB_MASK},
        work_40 = (old.work_40 + excluded.work_40
            + ((old.work_0 + excluded.work_0) >> {LIMB_BITS})) & {LIMB_MASK},
        work_80 = old.work_80 + excluded.work_80
            + ((old.work_40 + excluded.work_40
                + ((old.work_0 + excluded.work_0) >> {LIMB_BITS})) >> {LIMB_BITS})
"""  # noqa: S608 - the limbs' width is a constant


class SqliteStore:
    """Is the store in a file. Source of its methods' meaning: `Store`."""

    def __init__(
        self, file: Path, *, owner: bytes, time_ms: int, recent_shares_max: int = 2_000_000
    ) -> None:
        """Opens the file, or makes it.

        Args:
            file: The database; its directory is made if need be.
            owner: The MSP's public key, 32 bytes: a ledger belongs to one key for ever.
            time_ms: Milliseconds since 1970, for the first epoch of a new file.
            recent_shares_max: For how many shares `recent_hashes` keeps whole hashes.

        Raises:
            StoreError: The file cannot be opened, is damaged, newer than this program, or
                belongs to another key.
        """
        self._file = file
        self._recent_shares_max = recent_shares_max
        self._recent_shares = 0
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{file.parent}: cannot be made: {error.strerror}.") from error
        self._prepare(owner, time_ms)

    def close(self) -> None:
        """Gives both connections back."""
        with self._write_lock, self._read_lock:
            _close(self._writer)
            self._writer = None
            _close(self._reader)
            self._reader = None

    # Transactions.

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """Runs the block as one durable transaction."""
        with self._write_lock:
            try:
                if self._writer is None:
                    self._writer = self._connect()
                self._writer.execute("BEGIN IMMEDIATE")
                yield self._writer
                self._writer.execute("COMMIT")
            except sqlite3.Error as error:
                # The connection may be in any state after a failed write: a new one is in none.
                _close(self._writer)
                self._writer = None
                raise store_error(self._file, error) from error
            except BaseException:
                if self._writer is not None:
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """Runs the block on one unchanging state of the file."""
        with self._read_lock:
            try:
                if self._reader is None:
                    self._reader = self._connect()
                    self._reader.execute("PRAGMA query_only = ON")
                self._reader.execute("BEGIN")
                yield self._reader
                self._reader.execute("COMMIT")
            except sqlite3.Error as error:
                _close(self._reader)
                self._reader = None
                raise store_error(self._file, error) from error
            except BaseException:
                if self._reader is not None:
                    self._reader.execute("ROLLBACK")
                raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, owner: bytes, time_ms: int) -> None:
        with self._write() as connection:
            [(application,)] = connection.execute("PRAGMA application_id")
            [(version,)] = connection.execute("PRAGMA user_version")
            [(tables,)] = connection.execute("SELECT COUNT(*) FROM sqlite_schema")
            if application == 0 and tables == 0:
                create(connection)
                connection.execute("INSERT INTO meta VALUES ('owner', ?)", (owner,))
                connection.execute("INSERT INTO meta VALUES ('prefix', 0)")
                connection.execute("INSERT INTO epoch VALUES (1, 0, ?, NULL, NULL)", (time_ms,))
                version = VERSION
            elif application != APPLICATION_ID:
                raise StoreError(f"{self._file}: a database of another program. Give another file.")
            if version > VERSION:
                raise StoreError(
                    f"{self._file}: written by a newer radpool (schema {version}, this one knows "
                    f"{VERSION}). Install that version again."
                )
            for old in range(version, VERSION):
                MIGRATIONS[old](connection)
                connection.execute(f"PRAGMA user_version = {old + 1}")
            [(found,)] = connection.execute("SELECT value FROM meta WHERE key = 'owner'")
            if found != owner:
                raise StoreError(
                    f"{self._file}: belongs to the MSP key {found.hex()}, not to {owner.hex()}. "
                    "Give the key it was made with, or another file."
                )
            self._recent_shares = _number(connection, "SELECT TOTAL(count) FROM recent")
            self._check(connection)

    def _check(self, connection: sqlite3.Connection) -> None:
        [(verdict, *_), *_] = connection.execute("PRAGMA quick_check(1)").fetchall()
        if verdict != "ok":
            raise StoreError(
                f"{self._file}: damaged ({verdict}). Restore it from a backup; the batches up to "
                "the damage can be exported and verified."
            )
        unbalanced = connection.execute(
            "SELECT settlement FROM entry GROUP BY settlement HAVING SUM(sats) <> 0"
        ).fetchall()
        if unbalanced:
            raise StoreError(
                f"{self._file}: damaged: settlement {unbalanced[0][0]} does not sum to zero. "
                "Restore it from a backup."
            )

    # Batches.

    def head(self) -> tuple[int, bytes] | None:
        with self._write() as connection:
            query = "SELECT sequence, hash FROM batch ORDER BY sequence DESC LIMIT 1"
            row = connection.execute(query).fetchone()
        return None if row is None else (row[0], row[1])

    def append_batch(self, batch: BatchRow) -> list[int]:
        given = {
            "count": batch.count,
            "hashes": batch.header_hashes,
            "sequence": batch.sequence,
        }
        try:
            with self._write() as connection:
                try:
                    connection.execute(ADD_SHARES, given)
                except sqlite3.IntegrityError:
                    duplicates = connection.execute(FIND_DUPLICATES, given).fetchall()
                    raise _DuplicatesError([index for (index,) in duplicates]) from None
                self._append(connection, batch)
        except _DuplicatesError as error:
            return error.indices
        return []

    def _append(self, connection: sqlite3.Connection, batch: BatchRow) -> None:
        connection.execute(
            "INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?)",
            (batch.sequence, batch.hash, batch.time_ms, batch.epoch_min, batch.count, batch.blob),
        )
        connection.executemany(
            "INSERT OR IGNORE INTO template VALUES (?, ?, ?)",
            [(digest, height, body) for digest, body, height in batch.bodies],
        )
        connection.executemany(
            ADD_SUM,
            [(row.epoch, row.account, row.rail, row.count, *limbs(row.work)) for row in batch.sums],
        )
        connection.execute(
            "INSERT INTO recent VALUES (?, ?, ?)",
            (batch.sequence, batch.count, batch.header_hashes),
        )
        self._trim(connection, batch.count)

    def _trim(self, connection: sqlite3.Connection, added: int) -> None:
        """Forgets whole hashes of old shares; their first halves stay for ever."""
        # Counted anew after an error took a transaction back: too many is harmless.
        self._recent_shares += added
        while self._recent_shares > self._recent_shares_max:
            oldest = connection.execute(
                "DELETE FROM recent WHERE sequence = (SELECT MIN(sequence) FROM recent) "
                "AND sequence < (SELECT MAX(sequence) FROM recent) RETURNING count"
            ).fetchone()
            if oldest is None:
                return
            self._recent_shares -= oldest[0]

    def batches(self, first: int, last: int) -> Sequence[tuple[int, bytes, bytes]]:
        with self._read() as connection:
            query = (
                "SELECT sequence, hash, blob FROM batch WHERE sequence BETWEEN ? AND ? ORDER BY 1"
            )
            return connection.execute(query, (first, last)).fetchall()

    def body(self, digest: bytes) -> bytes | None:
        with self._read() as connection:
            query = "SELECT body FROM template WHERE digest = ?"
            row = connection.execute(query, (digest,)).fetchone()
        return None if row is None else bytes(row[0])

    def recent_hashes(self, limit: int) -> bytes:
        parts: list[bytes] = []
        count = 0
        with self._read() as connection:
            query = "SELECT count, hashes FROM recent ORDER BY sequence DESC"
            for shares, hashes in connection.execute(query):
                if count >= limit:
                    break
                parts.append(hashes)
                count += shares
        joined = b"".join(reversed(parts))
        return joined[max(0, len(joined) - 32 * limit) :]

    # Accounts and prefixes.

    def add_account(self, name: str, salt: bytes, commitment: bytes, time_ms: int) -> AccountRow:
        with self._write() as connection:
            connection.execute(
                "INSERT INTO account (name, salt, commitment, opened_ms) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (name) DO NOTHING",
                (name, salt, commitment, time_ms),
            )
            query = "SELECT id, name, salt, commitment FROM account WHERE name = ?"
            return AccountRow(*connection.execute(query, (name,)).fetchone())

    def accounts(self, offset: int, limit: int) -> tuple[int, Sequence[AccountRow]]:
        with self._read() as connection:
            query = "SELECT id, name, salt, commitment FROM account ORDER BY id DESC"
            rows = _page(connection, query, offset, limit)
            return _number(connection, "SELECT COUNT(*) FROM account"), [
                AccountRow(*row) for row in rows
            ]

    def lease_prefixes(self, count: int) -> int:
        with self._write() as connection:
            start = _number(connection, "SELECT value FROM meta WHERE key = 'prefix'")
            if start + count > PREFIX_END:
                raise StoreError(
                    f"{self._file}: all 2^32 extranonce prefixes have been given out. Start a new "
                    "ledger with a new MSP key."
                )
            connection.execute("UPDATE meta SET value = ? WHERE key = 'prefix'", (start + count,))
        return start

    # Epochs.

    def current_epoch(self) -> EpochRow:
        with self._read() as connection:
            query = "SELECT * FROM epoch ORDER BY number DESC LIMIT 1"
            return EpochRow(*connection.execute(query).fetchone())

    def epochs(self, offset: int, limit: int) -> tuple[int, Sequence[EpochRow]]:
        with self._read() as connection:
            rows = _page(connection, "SELECT * FROM epoch ORDER BY number DESC", offset, limit)
            total = _number(connection, "SELECT COUNT(*) FROM epoch")
        return total, [EpochRow(*row) for row in rows]

    def sums(self, epochs: Collection[int]) -> Sequence[SumRow]:
        query = f"SELECT * FROM epoch_sum WHERE epoch IN ({_marks(epochs)}) ORDER BY 1, 2, 3"  # noqa: S608
        with self._read() as connection:
            return [
                SumRow(account, epoch, rail, count, work_of_limbs(*work))
                for epoch, account, rail, count, *work in connection.execute(query, (*epochs,))
            ]

    def work_of_epochs(self, epochs: Collection[int]) -> Mapping[tuple[int, int], int]:
        query = (
            "SELECT account, rail, SUM(work_0), SUM(work_40), SUM(work_80) FROM epoch_sum "  # noqa: S608
            f"WHERE epoch IN ({_marks(epochs)}) GROUP BY account, rail"
        )
        with self._write() as connection:
            return {
                (account, rail): work_of_limbs(*work)
                for account, rail, *work in connection.execute(query, (*epochs,))
            }

    def unpaid_epochs(self, through: int) -> tuple[int, ...]:
        query = (
            "SELECT number FROM epoch WHERE closed_ms IS NOT NULL AND number <= ? "
            "AND number NOT IN (SELECT epoch FROM settlement_epoch "
            "JOIN payment ON payment.id = settlement) ORDER BY 1"
        )
        with self._write() as connection:
            return tuple(number for (number,) in connection.execute(query, (through,)))

    # Blocks.

    def add_block(self, block: BlockRow) -> int:
        with self._write() as connection:
            query = "SELECT MAX(number) FROM epoch"
            epoch = _number(connection, query)
            added = connection.execute(
                "INSERT INTO block VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT (hash) DO NOTHING",
                (block.hash, block.height, epoch, block.value_sats, block.finder, block.found_ms),
            ).rowcount
            if added:
                connection.execute(
                    "UPDATE epoch SET closed_ms = ? WHERE number = ?", (block.found_ms, epoch)
                )
                opened = _number(connection, "SELECT COALESCE(MAX(sequence), -1) + 1 FROM batch")
                epoch += 1
                connection.execute(
                    "INSERT INTO epoch VALUES (?, ?, ?, NULL, NULL)",
                    (epoch, opened, block.found_ms),
                )
        return epoch

    def block(self, block_hash: bytes) -> BlockRow | None:
        with self._write() as connection:
            query = f"{BLOCKS} WHERE block.hash = ?"
            row = connection.execute(query, (block_hash,)).fetchone()
        return None if row is None else BlockRow(*row)

    def blocks(self, offset: int, limit: int) -> tuple[int, Sequence[BlockRow]]:
        with self._read() as connection:
            rows = _page(connection, f"{BLOCKS} ORDER BY block.rowid DESC", offset, limit)
            total = _number(connection, "SELECT COUNT(*) FROM block")
        return total, [BlockRow(*row) for row in rows]

    def see_blocks(self, active: Mapping[bytes, int | None]) -> None:
        with self._write() as connection:
            connection.executemany(
                "UPDATE block SET confirmations = ?1 WHERE hash = ?2 AND confirmations IS NOT ?1",
                [(confirmations, block_hash) for block_hash, confirmations in active.items()],
            )

    # Settlements.

    def carry(self) -> int:
        with self._write() as connection:
            return _number(
                connection, "SELECT COALESCE(SUM(sats), 0) FROM entry WHERE book = 'carry'"
            )

    def settle(self, settlement: SettlementRow) -> int:
        with self._write() as connection:
            row = (
                settlement.block,
                settlement.reverses,
                settlement.sequence,
                settlement.time_ms,
                settlement.value_sats,
                settlement.carry_in,
                settlement.carry_out,
            )
            number = connection.execute(
                "INSERT INTO settlement VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row
            ).lastrowid
            assert number is not None
            connection.executemany(
                "INSERT INTO settlement_epoch VALUES (?, ?)",
                [(number, epoch) for epoch in settlement.epochs],
            )
            connection.executemany(
                "INSERT INTO entry VALUES (?, ?, ?, ?, ?)",
                [
                    (number, entry.book, entry.account, entry.rail, entry.sats)
                    for entry in settlement.entries
                ],
            )
            if settlement.reverses is None:
                connection.execute(
                    "UPDATE epoch SET frozen_sequence = ? "
                    "WHERE number <= ? AND frozen_sequence IS NULL",
                    (settlement.sequence, max(settlement.epochs)),
                )
        return number

    def settlement(self, number: int) -> SettlementRow:
        with self._write() as connection:
            return _settlement(connection, number)

    def settlements_of_epoch(self, epoch: int) -> Sequence[SettlementRow]:
        query = "SELECT settlement FROM settlement_epoch WHERE epoch = ? ORDER BY 1"
        with self._read() as connection:
            numbers = connection.execute(query, (epoch,)).fetchall()
            return [_settlement(connection, number) for (number,) in numbers]

    def balances(self) -> Mapping[tuple[int, int], int]:
        query = (
            "SELECT account, rail, SUM(sats) FROM entry WHERE book = 'miner' GROUP BY account, rail"
        )
        with self._read() as connection:
            return {(account, rail): sats for account, rail, sats in connection.execute(query)}


BLOCKS = """
    SELECT block.hash, height, epoch, block.value_sats, finder, found_ms, confirmations, payment.id
    FROM block LEFT JOIN payment ON payment.block = block.hash
"""


class _DuplicatesError(Exception):
    """Takes a transaction back because some shares are not new."""

    def __init__(self, indices: list[int]) -> None:
        super().__init__(indices)
        self.indices = indices


def limbs(work: int) -> tuple[int, int, int]:
    """Splits work into the limbs that tables keep."""
    return work & LIMB_MASK, (work >> LIMB_BITS) & LIMB_MASK, work >> (2 * LIMB_BITS)


def work_of_limbs(low: int, middle: int, high: int) -> int:
    """Joins limbs, or sums of limbs."""
    return low + (middle << LIMB_BITS) + (high << (2 * LIMB_BITS))


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        # What cannot be written cannot be flushed on closing either; the log has all that counts.
        with suppress(sqlite3.Error):
            connection.close()


def _number(connection: sqlite3.Connection, query: str) -> int:
    [(number,)] = connection.execute(query)
    return int(number)


def _page(
    connection: sqlite3.Connection, query: str, offset: int, limit: int
) -> Sequence[tuple[Any, ...]]:
    return connection.execute(f"{query} LIMIT ? OFFSET ?", (limit, offset)).fetchall()


def _marks(values: Collection[int]) -> str:
    return ", ".join("?" * len(values))


def _settlement(connection: sqlite3.Connection, number: int) -> SettlementRow:
    [row] = connection.execute("SELECT * FROM settlement WHERE id = ?", (number,))
    _, block, reverses, sequence, time_ms, value_sats, carry_in, carry_out = row
    epochs = connection.execute(
        "SELECT epoch FROM settlement_epoch WHERE settlement = ? ORDER BY 1", (number,)
    )
    entries = connection.execute(
        "SELECT book, account, rail, sats FROM entry WHERE settlement = ? ORDER BY 1, 2, 3",
        (number,),
    )
    return SettlementRow(
        id=number,
        block=block,
        reverses=reverses,
        sequence=sequence,
        time_ms=time_ms,
        value_sats=value_sats,
        carry_in=carry_in,
        carry_out=carry_out,
        epochs=tuple(epoch for (epoch,) in epochs),
        entries=tuple(EntryRow(*entry) for entry in entries),
    )

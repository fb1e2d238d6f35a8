"""Keeps the books in one SQLite file.

A COMMIT that fails may still turn out to be durable: its frames can be complete in the log although
the flush was reported as failed. Whoever appends batches therefore compares `head` before it tries
again.
"""

# The protocol `Store` documents the methods.
# ruff: noqa: D102

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from radpool_sv2.errors import StoreError
from radpool_sv2.store.row import (
    AccountRow,
    BatchRow,
    BlockRow,
    EntryRow,
    EpochRow,
    SettlementRow,
    SumRow,
)
from radpool_sv2.store.schema import LIMB_BITS
from radpool_sv2.store.value import ValueTables, note_weight

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from radpool_sv2.store.store import Enclosure

__all__ = ["SqliteStore"]

PREFIX_END = 1 << 32
"""Extranonce prefixes have four bytes."""

LIMB_MASK = (1 << LIMB_BITS) - 1

EACH_KEY = """
    WITH RECURSIVE at (i) AS (
        SELECT 0 UNION ALL SELECT i + 1 FROM at WHERE i + 1 < :count
    ), given (i, key) AS (SELECT i, substr(:keys, 20 * i + 1, 20) FROM at)
"""
"""The keys of a batch's shares as rows, so that no Python runs per share."""

ADD_SHARES = f"{EACH_KEY} INSERT INTO share SELECT key, :sequence FROM given ORDER BY key"  # noqa: S608 - constants

FIND_DUPLICATES = f"""
    {EACH_KEY} SELECT i FROM (
        SELECT i, row_number() OVER (PARTITION BY key ORDER BY i) AS place,
            EXISTS (SELECT 1 FROM share WHERE share.key = given.key) AS known
        FROM given
    ) WHERE known OR place > 1 ORDER BY i
"""  # noqa: S608 - both parts are constants

ADD_LIMBS = f"""
    {{name}}_0 = (old.{{name}}_0 + excluded.{{name}}_0) & {LIMB_MASK},
    {{name}}_40 = (old.{{name}}_40 + excluded.{{name}}_40
        + ((old.{{name}}_0 + excluded.{{name}}_0) >> {LIMB_BITS})) & {LIMB_MASK},
    {{name}}_80 = old.{{name}}_80 + excluded.{{name}}_80
        + ((old.{{name}}_40 + excluded.{{name}}_40
            + ((old.{{name}}_0 + excluded.{{name}}_0) >> {LIMB_BITS})) >> {LIMB_BITS})
"""

ADD_SUM = f"""
    INSERT INTO epoch_sum AS old VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET
        count = old.count + excluded.count,
        {ADD_LIMBS.format(name="work")}, {ADD_LIMBS.format(name="value")}
"""  # noqa: S608 - the limbs' width and the columns' names are constants


class SqliteStore(ValueTables):
    """Is the store in a file. `Store` says what its methods mean."""

    def __init__(
        self,
        file: Path,
        *,
        owner: bytes,
        time_ms: int,
        recent_shares_max: int = 2_000_000,
        check: bool = True,
    ) -> None:
        """Opens the file, or makes it.

        Args:
            file: The database; its directory is made if need be.
            owner: The MSP's public key, 32 bytes: a ledger belongs to one key for ever.
            time_ms: Milliseconds since 1970, for the first epoch of a new file.
            recent_shares_max: For how many shares `recent_hashes` keeps whole hashes.
            check: Whether to look for damage, which reads the whole file.

        Raises:
            StoreError: The file cannot be opened, is damaged, newer than this program, or
                belongs to another key.
        """
        super().__init__(file, owner=owner, time_ms=time_ms, check=check)
        self._recent_shares_max = recent_shares_max
        with self._consult() as connection:
            self._recent_shares = _number(connection, "SELECT TOTAL(count) FROM recent")

    # Batches.

    def head(self) -> tuple[int, bytes] | None:
        with self._consult() as connection:
            query = "SELECT sequence, hash FROM batch ORDER BY sequence DESC LIMIT 1"
            row = connection.execute(query).fetchone()
        return None if row is None else (row[0], row[1])

    def append_batch(
        self,
        batch: BatchRow,
        enclosures: Sequence[Enclosure] = (),
        excluded: Sequence[int] = (),
    ) -> list[int]:
        given = {
            "count": batch.count,
            "keys": batch.share_keys,
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
                for enclosure in enclosures:
                    enclosure.store(connection, batch.sequence, excluded)
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
            [(digest, height, body) for digest, body, height, _ in batch.bodies],
        )
        connection.executemany(
            ADD_SUM,
            [
                (
                    row.epoch,
                    row.account,
                    row.rail,
                    row.count,
                    *limbs(row.work),
                    *limbs(row.value),
                )
                for row in batch.sums
            ],
        )
        note_weight(connection, batch)
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

    def header_hashes(self, first: int, last: int) -> Sequence[tuple[int, bytes]]:
        """Returns `(sequence, hashes)` of batches in a range whose whole hashes are still kept."""
        with self._read() as connection:
            query = "SELECT sequence, hashes FROM recent WHERE sequence BETWEEN ? AND ? ORDER BY 1"
            return connection.execute(query, (first, last)).fetchall()

    # Accounts and prefixes.

    def find_account(self, name: str) -> AccountRow | None:
        with self._read() as connection:
            query = "SELECT id, name, salt, commitment FROM account WHERE name = ?"
            row = connection.execute(query, (name,)).fetchone()
        return None if row is None else AccountRow(*row)

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
                SumRow(account, epoch, rail, count, joined(*parts[:3]), joined(*parts[3:]))
                for epoch, account, rail, count, *parts in connection.execute(query, (*epochs,))
            ]

    def earned_in_epochs(
        self, epochs: Collection[int]
    ) -> Mapping[tuple[int, int], tuple[int, int]]:
        query = (
            "SELECT account, rail, SUM(work_0), SUM(work_40), SUM(work_80), "  # noqa: S608
            "SUM(value_0), SUM(value_40), SUM(value_80) FROM epoch_sum "
            f"WHERE epoch IN ({_marks(epochs)}) GROUP BY account, rail"
        )
        with self._consult() as connection:
            return {
                (account, rail): (joined(*parts[:3]), joined(*parts[3:]))
                for account, rail, *parts in connection.execute(query, (*epochs,))
            }

    def unpaid_epochs(self, through: int) -> tuple[int, ...]:
        query = (
            "SELECT number FROM epoch WHERE closed_ms IS NOT NULL AND number <= ? "
            "AND number NOT IN (SELECT epoch FROM settlement_epoch "
            "JOIN payment ON payment.id = settlement) ORDER BY 1"
        )
        with self._consult() as connection:
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
        with self._consult() as connection:
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
        with self._consult() as connection:
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
        with self._consult() as connection:
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


def limbs(number: int) -> tuple[int, int, int]:
    """Splits work or value into the limbs that tables keep."""
    return number & LIMB_MASK, (number >> LIMB_BITS) & LIMB_MASK, number >> (2 * LIMB_BITS)


def joined(low: int, middle: int, high: int) -> int:
    """Joins limbs, or sums of limbs."""
    return low + (middle << LIMB_BITS) + (high << (2 * LIMB_BITS))


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

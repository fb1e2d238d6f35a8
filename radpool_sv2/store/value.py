"""Keeps what shares are worth: rules of weight, how prices came about, voids."""

# The protocol `Store` documents the methods.
# ruff: noqa: D102

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.store.file import SqliteFile
from radpool_sv2.store.row import QuoteRow, SumRow, VoidRow, WeightRow

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Sequence

    from radpool_sv2.store.row import BatchRow

__all__ = ["ValueTables", "note_weight"]

U128_LEN = 16


class ValueTables(SqliteFile):
    """Is the part of the store that knows prices."""

    def weights_of_epochs(self, epochs: Collection[int]) -> Sequence[tuple[int, WeightRow]]:
        marks = ", ".join("?" * len(epochs))
        query = f"SELECT * FROM epoch_weight WHERE epoch IN ({marks}) ORDER BY 1, 2, 3, 4"  # noqa: S608
        with self._consult() as connection:
            rows = connection.execute(query, (*epochs,))
            return [(epoch, WeightRow(*weight)) for epoch, *weight in rows]

    def quotes(self, digest: bytes) -> Sequence[QuoteRow]:
        query = (
            "SELECT price, paid_sats, cap_sats, reference_sats, target, script FROM quote "
            "WHERE digest = ? ORDER BY price"
        )
        with self._read() as connection:
            return [_quote(*row) for row in connection.execute(query, (digest,))]

    def scripts(self) -> Sequence[bytes]:
        with self._read() as connection:
            query = "SELECT DISTINCT script FROM quote ORDER BY 1"
            return [script for (script,) in connection.execute(query)]

    def templates_at(self, height: int) -> Sequence[tuple[bytes, bytes]]:
        with self._read() as connection:
            query = "SELECT digest, body FROM template WHERE height = ? ORDER BY rowid"
            return connection.execute(query, (height,)).fetchall()

    def add_void(self, void: VoidRow) -> None:
        with self._write() as connection:
            added = connection.execute(
                "INSERT INTO void VALUES (?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING",
                (void.digest, void.settlement, void.epoch_min, void.reason, void.time_ms),
            ).rowcount
            if added:
                _add_void_sums(connection, [(void.digest, row) for row in void.sums])

    def voids(self) -> Sequence[VoidRow]:
        sums = (
            "SELECT account, epoch, rail, count, work, value FROM void_sum WHERE digest = ? "
            "ORDER BY 1, 2, 3"
        )
        with self._consult() as connection:
            voids = connection.execute("SELECT * FROM void ORDER BY time_ms, digest").fetchall()
            return [
                VoidRow(
                    digest=digest,
                    settlement=settlement,
                    epoch_min=epoch_min,
                    reason=reason,
                    time_ms=time_ms,
                    sums=[_sum(*row) for row in connection.execute(sums, (digest,))],
                )
                for digest, settlement, epoch_min, reason, time_ms in voids
            ]

    def last_settlement(self) -> int:
        with self._consult() as connection:
            [(number,)] = connection.execute("SELECT COALESCE(MAX(id), 0) FROM settlement")
            return int(number)


def note_weight(connection: sqlite3.Connection, batch: BatchRow) -> None:
    """Notes which rule a batch's shares are weighed by, and how its prices came about."""
    connection.executemany(
        "INSERT OR IGNORE INTO epoch_weight VALUES (?, ?, ?, ?)",
        [(epoch, *batch.weight) for epoch in sorted({row.epoch for row in batch.sums})],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO quote VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                digest,
                quote.price.to_bytes(U128_LEN),
                quote.paid_sats,
                quote.cap_sats,
                quote.reference_sats,
                quote.target,
                quote.script,
            )
            for digest, quote in batch.quotes
        ],
    )

    _add_void_sums(connection, batch.voided)


def _add_void_sums(connection: sqlite3.Connection, sums: Sequence[tuple[bytes, SumRow]]) -> None:
    # A share that came after the void: the row of its epoch is there, or is made now.
    connection.executemany(
        "INSERT OR IGNORE INTO void_sum VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                digest,
                row.account,
                row.epoch,
                row.rail,
                row.count,
                row.work.to_bytes(U128_LEN),
                row.value.to_bytes(U128_LEN),
            )
            for digest, row in sums
        ],
    )


def _quote(  # noqa: PLR0913, PLR0917 - the columns of the table
    price: bytes, paid: int, cap: int, reference: int, target: bytes, script: bytes
) -> QuoteRow:
    return QuoteRow(
        price=int.from_bytes(price),
        paid_sats=paid,
        cap_sats=cap,
        reference_sats=reference,
        target=target,
        script=script,
    )


def _sum(  # noqa: PLR0913, PLR0917 - the columns of the table
    account: int, epoch: int, rail: int, count: int, work: bytes, value: bytes
) -> SumRow:
    return SumRow(account, epoch, rail, count, int.from_bytes(work), int.from_bytes(value))

"""Writes what a mint publishes about the keysets of an exported epoch.

For each keyset there is its signed statement, `ecash/KEYSET.json`, and the list of its claims,
`ecash/KEYSET.claims`, and of its tokens that were given for residues, `ecash/KEYSET.cashouts`, if
there are any. The shares are in the epoch's batches, which `radpool verify export` writes.

Source: `spec/07-ecash-epochs.md`, "Export".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from radpool_sv2.ecash.policy import WORK_UNIT, KeysetState, Policy
from radpool_sv2.ecash.statement import CashOutRow, ClaimRow, cash_out_record, claim_record
from radpool_sv2.errors import LocalProtocolError, StoreError
from radpool_sv2.store import ecash as table
from radpool_sv2.store import ecash_token as tokens
from radpool_sv2.store.ecash_residue import cash_outs_of_keyset

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

    from radpool_sv2.store import SqliteStore
    from radpool_sv2.store.ecash import KeysetRow

__all__ = ["PublishedKeyset", "claimed_batches", "export_keysets", "published_keysets"]

DIRECTORY = "ecash"

DECIDED = frozenset({KeysetState.FINAL, KeysetState.VOID, KeysetState.EXPIRED})
"""The states in which a keyset has a statement."""


class PublishedKeyset(NamedTuple):
    """Is a keyset with what the mint publishes about it.

    Attributes:
        id: The keyset id, 33 bytes.
        document: Its signed statement.
        claims: Its claims, ascending by sequence and place.
        cash_outs: Its tokens that were given for residues, in order.
    """

    id: bytes
    document: bytes
    claims: Sequence[ClaimRow]
    cash_outs: Sequence[CashOutRow] = ()


def published_keysets(store: SqliteStore, epochs: Sequence[int]) -> list[PublishedKeyset]:
    """Returns the keysets that belong to some epochs and have a statement, by number.

    These are the ones that were opened in them, and whatever else of the policies `network` and
    `pool` their settlements have paid. A window reaches too far back for that.

    Raises:
        LocalProtocolError: The mint has yet to sign one of the statements.
        StoreError: The store cannot be read.
    """
    marks = ", ".join("?" * len(epochs))
    where = (  # the parts are constants and question marks
        f"unit = ? AND (epoch IN ({marks}) OR (policy IN (?, ?) AND number IN ("  # noqa: S608
        "SELECT keyset FROM allocation JOIN settlement_epoch USING (settlement) "
        f"WHERE work > 0 AND settlement_epoch.epoch IN ({marks})))) ORDER BY number"
    )
    parameters = (WORK_UNIT, *epochs, Policy.NETWORK, Policy.POOL, *epochs)
    with store.look() as connection:
        rows = table.keysets(connection, where, parameters)
        found = [_published(connection, row) for row in rows]
    return [keyset for keyset in found if keyset is not None]


def _published(connection: sqlite3.Connection, row: KeysetRow) -> PublishedKeyset | None:
    if row.state not in DECIDED or row.work == row.value == 0:
        return None
    statement = table.statement_of(connection, row.number, row.state)
    if statement is None:
        raise LocalProtocolError(
            f"keyset {row.id.hex()} is {KeysetState(row.state).word} and has no statement yet: a "
            "running node signs it within seconds. Try again"
        )
    last = row.last_sequence
    if last is None:
        last = table.last_sequence(connection)
    claims = [
        ClaimRow(sequence, place, tokens.step_of(exponent, row.z0), blinded)
        for sequence, place, exponent, blinded in tokens.claims_of_keyset(
            connection, row.number, row.first_sequence, last
        )
    ]
    cash_outs = [
        CashOutRow(row.z0 + exponent, blinded)
        for exponent, blinded in cash_outs_of_keyset(connection, row.number)
    ]
    return PublishedKeyset(row.id, statement[1], claims, cash_outs)


def claimed_batches(keysets: Sequence[PublishedKeyset]) -> tuple[int, int] | None:
    """Returns the first and the last batch that hold shares of these keysets; None for none."""
    sequences = [
        claim.sequence
        for keyset in keysets
        if keyset.claims
        for claim in (keyset.claims[0], keyset.claims[-1])
    ]
    return (min(sequences), max(sequences)) if sequences else None


def export_keysets(directory: Path, keysets: Sequence[PublishedKeyset]) -> None:
    """Adds keysets to the export of an epoch; without any, nothing is added.

    Raises:
        StoreError: The directory cannot be written.
    """
    if not keysets:
        return
    place = directory / DIRECTORY
    try:
        place.mkdir()
        for keyset in keysets:
            name = keyset.id.hex()
            (place / f"{name}.json").write_bytes(keyset.document)
            records = b"".join(map(claim_record, keyset.claims))
            (place / f"{name}.claims").write_bytes(records)
            if keyset.cash_outs:
                records = b"".join(map(cash_out_record, keyset.cash_outs))
                (place / f"{name}.cashouts").write_bytes(records)
    except OSError as error:
        raise StoreError(f"{place}: cannot be written: {error.strerror}.") from error

"""Keeps claims, outputs, spent tokens and redemptions in the ledger's file.

Functions take a connection inside a transaction of the caller, as in `radpool_sv2.store.ecash`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radpool_sv2.store.ecash_schema import CASH_OUT_BASE, INDEX_BITS, NO_TOKEN, PLACE_BITS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

__all__ = [
    "BlindedRow",
    "RedemptionRow",
    "add_claims",
    "add_outputs",
    "add_redemption",
    "add_spent",
    "add_unclaimed",
    "claim_id",
    "claims_of_keyset",
    "count_claims",
    "find_blinded",
    "find_redemption",
    "find_unclaimed",
    "forget_spent",
    "forget_unclaimed",
    "new_sums",
    "spent_among",
    "step_of",
    "take_unclaimed",
]

PLACE_MASK = (1 << PLACE_BITS) - 1
PRICE_LEN = 16
INDEX_MASK = (1 << INDEX_BITS) - 1


@dataclass(frozen=True, slots=True)
class BlindedRow:
    """Is a blinded message that was signed, or may be at any time: the signature is no secret.

    Attributes:
        id: What it belongs to: a share when positive, else an output.
        message: B_, 33 bytes.
        keyset: The number of the keyset that signs it.
        exponent: The binary logarithm of the amount; 255 for the claim of a share that brought no
            token.
    """

    id: int
    message: bytes
    keyset: int
    exponent: int

    @property
    def share(self) -> tuple[int, int] | None:
        """Sequence of the batch and place in it; None for an output."""
        return None if self.id < 0 else (self.id >> PLACE_BITS, self.id & PLACE_MASK)

    @property
    def is_counted(self) -> bool:
        """Whether it counts in its keyset's work: it is no output of tokens that were spent."""
        return self.id >= 0 or self.id <= -CASH_OUT_BASE

    @property
    def is_signed(self) -> bool:
        """Whether there is a token: it is signed whenever somebody asks."""
        return self.exponent != NO_TOKEN


@dataclass(frozen=True, slots=True)
class RedemptionRow:
    """Is tokens that were spent together.

    Attributes:
        number: Its number; 0 before it is stored.
        request: The hash of the whole request, 32 bytes: the same request has the same answer.
        keyset: The number of the keyset whose tokens they were.
        amount: Units or sats that were spent.
        issued_sats: What was issued for them; 0 for a swap.
        price_num: The price then; 0 for a swap without one.
        price_den: See `price_num`.
        time_ms: Milliseconds since 1970.
    """

    number: int
    request: bytes
    keyset: int
    amount: int
    issued_sats: int
    price_num: int
    price_den: int
    time_ms: int


def step_of(exponent: int, z0: int) -> int:
    """Returns the step of the ladder of a token, by the logarithm of its units; 255 for none."""
    return NO_TOKEN if exponent == NO_TOKEN else exponent + z0


def claim_id(sequence: int, place: int) -> int:
    """Computes the number of a share's claim."""
    return (sequence << PLACE_BITS) | place


def add_claims(
    connection: sqlite3.Connection, rows: Sequence[tuple[int, bytes, int, int]]
) -> list[int]:
    """Stores claims, each unless its blinded message is known.

    Args:
        connection: A connection.
        rows: Number, message, keyset and exponent of each.

    Returns:
        The places in `rows` of those whose message is known, ascending.
    """
    before = connection.total_changes
    connection.executemany("INSERT OR IGNORE INTO blinded VALUES (?, ?, ?, ?)", rows)
    if connection.total_changes - before == len(rows):
        return []
    refused = []
    for index, (number, message, _, _) in enumerate(rows):
        found = find_blinded(connection, message)
        if found is None or found.id != number:
            refused.append(index)
    return refused


def new_sums(connection: sqlite3.Connection, sequence: int) -> list[tuple[int, int, int]]:
    """Returns keyset, exponent and number of the tokens of a batch's claims, counted."""
    query = (
        "SELECT keyset, exponent, COUNT(*) FROM blinded WHERE id BETWEEN ? AND ? "
        "AND exponent <> ? GROUP BY keyset, exponent ORDER BY keyset, exponent"
    )
    ends = claim_id(sequence, 0), claim_id(sequence, PLACE_MASK)
    return connection.execute(query, (*ends, NO_TOKEN)).fetchall()


def count_claims(connection: sqlite3.Connection, sums: Sequence[tuple[int, int, int]]) -> None:
    """Adds new claims, given by keyset, exponent and number, to the work of their keysets."""
    connection.executemany(
        "INSERT INTO keyset_sum AS old VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET count = old.count + excluded.count",
        sums,
    )
    connection.executemany(
        "UPDATE keyset SET work = work + ? WHERE number = ?",
        [(count << exponent, keyset) for keyset, exponent, count in sums],
    )


def find_blinded(connection: sqlite3.Connection, message: bytes) -> BlindedRow | None:
    """Returns what a blinded message belongs to.

    A message that only agrees with a stored one in the indexed bytes is not found, nor can it be
    stored any more.
    """
    query = (
        "SELECT * FROM blinded WHERE substr(message, 2, 16) = substr(?1, 2, 16) AND message = ?1"
    )
    row = connection.execute(query, (message,)).fetchone()
    return None if row is None else BlindedRow(*row)


def claims_of_keyset(
    connection: sqlite3.Connection, keyset: int, first_sequence: int, last_sequence: int
) -> Iterator[tuple[int, int, int, bytes]]:
    """Yields sequence, place, exponent and message of a keyset's claims, in order.

    Args:
        connection: A connection.
        keyset: The keyset's number.
        first_sequence: The first batch that may hold some.
        last_sequence: The last batch.
    """
    query = (
        "SELECT id, exponent, message FROM blinded WHERE id BETWEEN ? AND ? AND keyset = ? "
        "ORDER BY id"
    )
    ends = claim_id(first_sequence, 0), claim_id(last_sequence, PLACE_MASK)
    for number, exponent, message in connection.execute(query, (*ends, keyset)):
        yield number >> PLACE_BITS, number & PLACE_MASK, exponent, message


# Good shares whose claim was refused.


def add_unclaimed(
    connection: sqlite3.Connection, rows: Sequence[tuple[bytes, int, int, int, int]]
) -> None:
    """Stores header hash, sequence, place, time and price of shares that may be claimed later."""
    connection.executemany(
        "INSERT OR IGNORE INTO unclaimed VALUES (?, ?, ?, ?, ?)",
        [(*row[:4], row[4].to_bytes(PRICE_LEN, "big")) for row in rows],
    )


def find_unclaimed(
    connection: sqlite3.Connection, share_hash: bytes
) -> tuple[int, int, int] | None:
    """Returns sequence, place and price of a share that has no claim yet and may have one."""
    query = "SELECT sequence, place, price FROM unclaimed WHERE hash = ?"
    row = connection.execute(query, (share_hash,)).fetchone()
    return None if row is None else (row[0], row[1], int.from_bytes(row[2], "big"))


def take_unclaimed(connection: sqlite3.Connection, share_hash: bytes) -> None:
    """Forgets that a share has no claim."""
    connection.execute("DELETE FROM unclaimed WHERE hash = ?", (share_hash,))


def forget_unclaimed(connection: sqlite3.Connection, before_ms: int) -> None:
    """Forgets shares of old that nobody can submit again."""
    connection.execute("DELETE FROM unclaimed WHERE time_ms < ?", (before_ms,))


# Redemptions.


def find_redemption(connection: sqlite3.Connection, request: bytes) -> RedemptionRow | None:
    """Returns the redemption that a request has led to."""
    query = "SELECT * FROM redemption WHERE request = ?"
    row = connection.execute(query, (request,)).fetchone()
    return None if row is None else RedemptionRow(*row)


def add_redemption(connection: sqlite3.Connection, row: RedemptionRow) -> int:
    """Stores a redemption and returns its number."""
    [(number,)] = connection.execute(
        "INSERT INTO redemption VALUES (NULL, ?, ?, ?, ?, ?, ?, ?) RETURNING number",
        (
            row.request,
            row.keyset,
            row.amount,
            row.issued_sats,
            row.price_num,
            row.price_den,
            row.time_ms,
        ),
    )
    return int(number)


def add_spent(connection: sqlite3.Connection, redemption: int, ys: Sequence[bytes]) -> bool:
    """Marks tokens as spent; returns whether none of them was before."""
    before = connection.total_changes
    connection.executemany(
        "INSERT OR IGNORE INTO spent VALUES (?, ?)",
        [((redemption << INDEX_BITS) | index, y) for index, y in enumerate(ys)],
    )
    return connection.total_changes - before == len(ys)


def add_outputs(
    connection: sqlite3.Connection, redemption: int, outputs: Sequence[tuple[bytes, int, int]]
) -> bool:
    """Stores message, keyset and exponent of outputs; returns whether all messages are new."""
    before = connection.total_changes
    connection.executemany(
        "INSERT OR IGNORE INTO blinded VALUES (?, ?, ?, ?)",
        [
            (-((redemption << INDEX_BITS) | index), message, keyset, exponent)
            for index, (message, keyset, exponent) in enumerate(outputs)
        ],
    )
    return connection.total_changes - before == len(outputs)


def spent_among(connection: sqlite3.Connection, ys: Sequence[bytes]) -> list[bool]:
    """Tells of each token whether it is spent."""
    query = "SELECT EXISTS (SELECT 1 FROM spent WHERE y = ?)"
    return [bool(connection.execute(query, (y,)).fetchone()[0]) for y in ys]


def forget_spent(connection: sqlite3.Connection, keyset: int) -> None:
    """Forgets the spent tokens of a keyset that is not redeemed any more."""
    connection.execute(
        "DELETE FROM spent WHERE id IN (SELECT spent.id FROM redemption "
        "JOIN spent ON spent.id BETWEEN redemption.number << ? AND (redemption.number << ?) | ? "
        "WHERE redemption.keyset = ?)",
        (INDEX_BITS, INDEX_BITS, INDEX_MASK, keyset),
    )

"""Keeps keysets, and the mint's double-entry books, in the ledger's file.

Functions take a connection inside a transaction of the caller; `SqliteFile.change` and
`SqliteFile.look` make one. Several calls in one transaction become durable together or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "AllocationRow",
    "KeysetRow",
    "MintSettlementRow",
    "PendingBlock",
    "add_allocations",
    "add_keyset",
    "add_mint_block",
    "allocations_of_keyset",
    "allocations_of_settlement",
    "announcement_of",
    "balance",
    "block_of",
    "change_keyset",
    "count_keysets",
    "difficulty_of",
    "drop_keyset",
    "expired_keysets",
    "find_keyset",
    "group_of",
    "immature_advance",
    "keyset_at",
    "keysets",
    "last_epoch",
    "last_sequence",
    "least_confirmations",
    "mature_rewards",
    "next_keyset_number",
    "paid_by",
    "paying_block",
    "pending_blocks",
    "post",
    "put_statement",
    "settle_mint",
    "settlements_after",
    "statement_of",
    "totals",
    "unknown_blocks",
    "without_statement",
]

COLUMNS = (
    "number, id, unit, policy, epoch, height, z0, opened_ms, closed_ms, first_sequence, "
    "last_sequence, state, frozen, price_num, price_den, fee_ppm, fee_fixed_msat, work, "
    "theta_msat, paid_msat, redeemed, block, redeem_after, final_ms, expires_ms, expires_height"
)

WATCHED_BLOCKS_MAX = 1_000
"""How many of the newest blocks a reorg may still change, as in the ledger."""

SUM_LEN = 16
DIFFICULTY_LEN = 32


@dataclass(frozen=True, slots=True)
class KeysetRow:
    """Is a keyset.

    Attributes:
        number: The mint's number of it; its keys are derived by it.
        id: The keyset id, 33 bytes.
        unit: `work` or `sat`.
        policy: The epoch policy; 255 for the sat keyset.
        epoch: The ledger's epoch whose shares it takes.
        height: The height of the block that was mined when it was opened.
        z0: The exponent of one unit.
        opened_ms: When it was opened, milliseconds since 1970.
        closed_ms: When it was closed; None while it is open.
        first_sequence: The first batch that may hold its claims.
        last_sequence: The last batch that may; None until it is frozen.
        state: Where it is on its way, see `radpool_sv2.ecash.policy.KeysetState`.
        frozen: Whether it takes no claims any more.
        price_num: Announced price, msat per `price_den` units; 0 without one.
        price_den: See `price_num`.
        fee_ppm: Announced fee, millionths of a settlement.
        fee_fixed_msat: Announced fee of a settlement besides.
        work: The units of all its claims.
        theta_msat: What standing settlements gave it.
        paid_msat: What was issued for its tokens.
        redeemed: The units that were redeemed.
        block: The block that pays it or would; None when there is none.
        redeem_after: The tip at which its money is mature; 0 while there is none.
        final_ms: When it got its final price, or none; None before.
        expires_ms: When it expires by the clock; None when it does not.
        expires_height: The tip at which it expires; None when it does not.
        unit_value: What a unit costs of what shares are worth; 0 where shares count their work.
        value: What the shares with claims of it are worth; 0 where they count their work.
    """

    number: int
    id: bytes
    unit: str
    policy: int
    epoch: int
    height: int
    z0: int
    opened_ms: int
    closed_ms: int | None
    first_sequence: int
    last_sequence: int | None
    state: int
    frozen: int
    price_num: int
    price_den: int
    fee_ppm: int
    fee_fixed_msat: int
    work: int
    theta_msat: int
    paid_msat: int
    redeemed: int
    block: bytes | None
    redeem_after: int
    final_ms: int | None
    expires_ms: int | None
    expires_height: int | None
    unit_value: int = 0
    value: int = 0


@dataclass(frozen=True, slots=True)
class PendingBlock:
    """Is a block of the pool that may still pay: on the active chain as far as known, unsettled.

    Attributes:
        hash: Its hash, internal byte order.
        height: Its height.
        epoch: The epoch that it closed.
        confirmations: As last seen; 0 until it was looked up.
    """

    hash: bytes
    height: int
    epoch: int
    confirmations: int


@dataclass(frozen=True, slots=True)
class MintSettlementRow:
    """Is what a settlement of the ledger brought a policy; a reversal has the opposite signs.

    Attributes:
        settlement: The ledger's number of it.
        policy: The policy.
        theta_sats: What it paid the policy's account.
        fee_msat: What the mint kept.
        carry_in_msat: The policy's carry before.
        carry_out_msat: The carry after.
        work: The units that it was divided over, or what they cost if that was by value.
        by_value: Whether it was divided by what units cost.
    """

    settlement: int
    policy: int
    theta_sats: int
    fee_msat: int
    carry_in_msat: int
    carry_out_msat: int
    work: int
    by_value: bool = False


@dataclass(frozen=True, slots=True)
class AllocationRow:
    """Is what a settlement did to a keyset.

    Attributes:
        settlement: The ledger's number of it.
        keyset: The keyset's number.
        work: The units that the keyset took part with; 0 when it was settled without a part.
        msat: What it got; negative in a reversal.
    """

    settlement: int
    keyset: int
    work: int
    msat: int


# Keysets.


def next_keyset_number(connection: sqlite3.Connection) -> int:
    """Takes a number that no keyset ever had: two keysets of a number would have the same keys."""
    [(number,)] = connection.execute(
        "UPDATE meta SET value = value + 1 WHERE key = 'keyset' RETURNING value"
    )
    return int(number)


def add_keyset(connection: sqlite3.Connection, row: KeysetRow, announcement: bytes) -> None:
    """Stores a new keyset and the payload of its EcashKeysetAnnounce."""
    names = COLUMNS.split(", ")
    marks = ", ".join("?" * len(names))
    connection.execute(
        f"INSERT INTO keyset ({COLUMNS}) VALUES ({marks})",  # noqa: S608 - constants
        tuple(getattr(row, name) for name in names),
    )
    if row.unit_value:
        values = (each.to_bytes(SUM_LEN, "big") for each in (row.unit_value, row.value))
        connection.execute("INSERT INTO keyset_value VALUES (?, ?, ?, NULL)", (row.number, *values))
    connection.execute("INSERT INTO announcement VALUES (?, ?)", (row.number, announcement))


def announcement_of(connection: sqlite3.Connection, number: int) -> bytes:
    """Returns the payload of a keyset's EcashKeysetAnnounce."""
    query = "SELECT payload FROM announcement WHERE keyset = ?"
    [(payload,)] = connection.execute(query, (number,))
    return bytes(payload)


def change_keyset(
    connection: sqlite3.Connection, number: int, **columns: int | bytes | None
) -> None:
    """Changes columns of a keyset."""
    parts = ", ".join(f"{name} = ?" for name in columns)
    connection.execute(
        f"UPDATE keyset SET {parts} WHERE number = ?",  # noqa: S608 - names of our own columns
        (*columns.values(), number),
    )


def drop_keyset(connection: sqlite3.Connection, number: int) -> None:
    """Forgets a keyset that never had a claim."""
    connection.execute("DELETE FROM announcement WHERE keyset = ?", (number,))
    connection.execute("DELETE FROM keyset_value WHERE keyset = ?", (number,))
    connection.execute("DELETE FROM keyset WHERE number = ?", (number,))


def keysets(
    connection: sqlite3.Connection, where: str, parameters: Sequence[object] = ()
) -> list[KeysetRow]:
    """Returns the keysets that a condition selects.

    Args:
        connection: A connection.
        where: A condition, an order and a limit in SQL; never made of foreign text.
        parameters: The values for its question marks.
    """
    query = (  # see above
        f"SELECT {COLUMNS}, unit_value, value FROM keyset "  # noqa: S608
        f"LEFT JOIN keyset_value ON keyset_value.keyset = keyset.number WHERE {where}"
    )
    return [
        KeysetRow(*row[:-2], *(int.from_bytes(value or b"", "big") for value in row[-2:]))
        for row in connection.execute(query, tuple(parameters))
    ]


def keyset_at(connection: sqlite3.Connection, number: int) -> KeysetRow:
    """Returns the keyset of a number, which must exist."""
    [row] = keysets(connection, "number = ?", (number,))
    return row


def find_keyset(connection: sqlite3.Connection, keyset_id: bytes) -> KeysetRow | None:
    """Returns the keyset of an id, or None when there is none."""
    found = keysets(connection, "id = ?", (keyset_id,))
    return found[0] if found else None


def count_keysets(connection: sqlite3.Connection) -> int:
    """Returns how many keysets there are."""
    [(count,)] = connection.execute("SELECT COUNT(*) FROM keyset")
    return int(count)


def expired_keysets(
    connection: sqlite3.Connection, now_ms: int, height: int, limit: int
) -> list[KeysetRow]:
    """Returns some final or void keysets whose time is over."""
    final = keysets(connection, "state = 3 AND expires_ms <= ? LIMIT ?", (now_ms, limit))
    void = keysets(connection, "state = 4 AND expires_height <= ? LIMIT ?", (height, limit))
    return final + void


def group_of(connection: sqlite3.Connection, row: KeysetRow, limit: int) -> list[bytes]:
    """Returns the ids of other keysets of a keyset's policy that its block pays, oldest first."""
    query = (
        "SELECT id FROM keyset WHERE block = ? AND policy = ? AND number <> ? "
        "ORDER BY number LIMIT ?"
    )
    parameters = (row.block, row.policy, row.number, limit)
    return [bytes(keyset_id) for (keyset_id,) in connection.execute(query, parameters)]


def block_of(connection: sqlite3.Connection, block: bytes) -> tuple[int, int]:
    """Returns a block's height, and its confirmations as last seen: 0 when it is not active."""
    query = "SELECT height, COALESCE(confirmations, 0) FROM block WHERE hash = ?"
    [(height, confirmations)] = connection.execute(query, (block,))
    return height, confirmations


# Statements.


def statement_of(
    connection: sqlite3.Connection, number: int, state: int
) -> tuple[bytes, bytes] | None:
    """Returns hash and document of a keyset's statement in a state; None when there is none."""
    query = "SELECT hash, document FROM statement WHERE keyset = ? AND state = ?"
    row = connection.execute(query, (number, state)).fetchone()
    return None if row is None else (bytes(row[0]), bytes(row[1]))


def put_statement(
    connection: sqlite3.Connection, number: int, state: int, digest: bytes, document: bytes
) -> None:
    """Stores the statement of a keyset in a state, instead of that of an earlier one."""
    connection.execute(
        "INSERT OR REPLACE INTO statement VALUES (?, ?, ?, ?)", (number, state, digest, document)
    )


def without_statement(connection: sqlite3.Connection, limit: int) -> list[int]:
    """Returns the numbers of some keysets whose state has no statement yet, oldest first."""
    query = (
        "SELECT number FROM keyset LEFT JOIN statement ON statement.keyset = number "
        "LEFT JOIN keyset_value ON keyset_value.keyset = number "
        "WHERE keyset.state IN (3, 4, 5) AND (work > 0 OR value > zeroblob(16)) "
        "AND statement.state IS NOT keyset.state "
        "ORDER BY number LIMIT ?"
    )
    return [number for (number,) in connection.execute(query, (limit,))]


# What the ledger knows.


def last_epoch(connection: sqlite3.Connection) -> int:
    """Returns the number of the ledger's open epoch."""
    [(number,)] = connection.execute("SELECT MAX(number) FROM epoch")
    return int(number)


def last_sequence(connection: sqlite3.Connection) -> int:
    """Returns the number of the last batch, -1 before the first."""
    [(number,)] = connection.execute("SELECT COALESCE(MAX(sequence), -1) FROM batch")
    return int(number)


def pending_blocks(connection: sqlite3.Connection) -> list[PendingBlock]:
    """Returns the blocks that no standing settlement pays out and that may be active, by epoch."""
    query = """
        SELECT hash, height, epoch, confirmations FROM (
            SELECT * FROM block ORDER BY rowid DESC LIMIT ?
        ) AS block WHERE confirmations IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM settlement AS payment WHERE payment.block = block.hash
            AND reverses IS NULL
            AND NOT EXISTS (SELECT 1 FROM settlement WHERE reverses = payment.id)
        ) ORDER BY epoch
    """
    rows = connection.execute(query, (WATCHED_BLOCKS_MAX,))
    return [PendingBlock(*row) for row in rows]


def unknown_blocks(connection: sqlite3.Connection) -> list[bytes]:
    """Returns the recent blocks whose difficulty the mint has not noted."""
    query = (
        "SELECT hash FROM (SELECT hash FROM block ORDER BY rowid DESC LIMIT ?) "
        "WHERE hash NOT IN (SELECT hash FROM mint_block)"
    )
    return [block for (block,) in connection.execute(query, (WATCHED_BLOCKS_MAX,))]


def add_mint_block(connection: sqlite3.Connection, block: bytes, difficulty: int) -> None:
    """Notes how many hashes a block takes on average."""
    row = (block, difficulty.to_bytes(DIFFICULTY_LEN, "big"))
    connection.execute("INSERT INTO mint_block VALUES (?, ?)", row)


def difficulty_of(connection: sqlite3.Connection, block: bytes) -> int | None:
    """Returns how many hashes a block takes on average; None when that was not noted."""
    row = connection.execute(
        "SELECT difficulty FROM mint_block WHERE hash = ?", (block,)
    ).fetchone()
    return None if row is None else int.from_bytes(row[0], "big")


def settlements_after(connection: sqlite3.Connection) -> Iterator[int]:
    """Yields the settlements that the mint has not processed, in order of time.

    Each one counts as processed once the next one is asked for.
    """
    while True:
        [(done,)] = connection.execute("SELECT value FROM meta WHERE key = 'mint_settlement'")
        query = "SELECT MIN(id) FROM settlement WHERE id > ?"
        [(number,)] = connection.execute(query, (done,))
        if number is None:
            return
        yield number
        connection.execute("UPDATE meta SET value = ? WHERE key = 'mint_settlement'", (number,))


# The books.


def post(  # noqa: PLR0913, PLR0917 - the parts of an event
    connection: sqlite3.Connection,
    kind: str,
    policy: int,
    cause: int,
    time_ms: int,
    entries: Mapping[tuple[str, int], int],
) -> None:
    """Posts an event.

    Args:
        connection: A connection.
        kind: What happened: `payment`, `reversal`, `redemption`, `loss` or `expiry`.
        policy: The policy.
        cause: The settlement, redemption or keyset.
        time_ms: Milliseconds since 1970.
        entries: Millisats by book and keyset, 0 for books that have none; they sum to zero.
    """
    assert sum(entries.values()) == 0, "an event must create and lose nothing"
    [(event,)] = connection.execute(
        "INSERT INTO mint_event (kind, policy, cause, time_ms) VALUES (?, ?, ?, ?) "
        "RETURNING number",
        (kind, policy, cause, time_ms),
    )
    connection.executemany(
        "INSERT INTO mint_entry VALUES (?, ?, ?, ?, ?)",
        [
            (event, policy, book, keyset, msat)
            for (book, keyset), msat in entries.items()
            if msat != 0
        ],
    )


def balance(
    connection: sqlite3.Connection, policy: int, book: str, keyset: int | None = None
) -> int:
    """Returns the balance of a policy's book, or of the part of it that is about one keyset."""
    query = "SELECT COALESCE(SUM(msat), 0) FROM mint_entry WHERE policy = ? AND book = ?"
    parameters: tuple[object, ...] = (policy, book)
    if keyset is not None:
        query += " AND keyset = ?"
        parameters += (keyset,)
    [(msat,)] = connection.execute(query, parameters)
    return int(msat)


def paid_by(connection: sqlite3.Connection, policy: int) -> int:
    """Returns what was issued for tokens of a policy, millisats."""
    query = "SELECT COALESCE(SUM(paid_msat), 0) FROM keyset WHERE policy = ?"
    [(msat,)] = connection.execute(query, (policy,))
    return int(msat)


def totals(connection: sqlite3.Connection) -> Mapping[tuple[int, str], int]:
    """Returns the balance of every book, by policy and book."""
    query = "SELECT policy, book, SUM(msat) FROM mint_entry GROUP BY policy, book"
    return {(policy, book): msat for policy, book, msat in connection.execute(query)}


def settle_mint(connection: sqlite3.Connection, row: MintSettlementRow) -> None:
    """Stores what a settlement brought a policy."""
    connection.execute(
        "INSERT INTO mint_settlement VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            row.settlement,
            row.policy,
            row.theta_sats,
            row.fee_msat,
            row.carry_in_msat,
            row.carry_out_msat,
            row.work.to_bytes(SUM_LEN, "big"),
        ),
    )
    if row.by_value:
        connection.execute(
            "INSERT INTO value_settlement VALUES (?, ?)", (row.settlement, row.policy)
        )


def add_allocations(connection: sqlite3.Connection, rows: Sequence[AllocationRow]) -> None:
    """Stores what a settlement did to keysets."""
    connection.executemany(
        "INSERT INTO allocation VALUES (?, ?, ?, ?)",
        [(row.settlement, row.keyset, row.work, row.msat) for row in rows],
    )


def allocations_of_settlement(
    connection: sqlite3.Connection, settlement: int
) -> list[tuple[MintSettlementRow, list[AllocationRow]]]:
    """Returns what a settlement brought each policy, and did to its keysets."""
    query = f"SELECT {SETTLED} FROM mint_settlement WHERE settlement = ? ORDER BY policy"  # noqa: S608 - a constant
    found = []
    for row in connection.execute(query, (settlement,)).fetchall():
        allocations = connection.execute(
            "SELECT allocation.* FROM allocation JOIN keyset ON number = keyset "
            "WHERE settlement = ? AND policy = ? ORDER BY keyset",
            (settlement, row[1]),
        )
        found.append((_mint_settlement(row), [AllocationRow(*each) for each in allocations]))
    return found


def allocations_of_keyset(
    connection: sqlite3.Connection, keyset: int
) -> list[tuple[AllocationRow, MintSettlementRow, int | None, bytes, int]]:
    """Returns what settlements did to a keyset, with settlement, reverses, block and height."""
    query = f"""
        SELECT allocation.settlement, keyset, allocation.work, msat, settlement.reverses,
            settlement.block, block.height, {SETTLED}
        FROM allocation
        JOIN keyset ON keyset.number = allocation.keyset
        JOIN mint_settlement ON mint_settlement.settlement = allocation.settlement
            AND mint_settlement.policy = keyset.policy
        JOIN settlement ON settlement.id = allocation.settlement
        JOIN block ON block.hash = settlement.block
        WHERE keyset = ? AND allocation.work > 0 ORDER BY allocation.settlement
    """  # noqa: S608 - a constant
    return [
        (AllocationRow(*row[:4]), _mint_settlement(row[7:]), row[4], row[5], row[6])
        for row in connection.execute(query, (keyset,))
    ]


def _mint_settlement(row: Sequence[Any]) -> MintSettlementRow:
    settlement, policy, theta_sats, fee_msat, carry_in, carry_out, work, by_value = row
    return MintSettlementRow(
        settlement,
        policy,
        theta_sats,
        fee_msat,
        carry_in,
        carry_out,
        int.from_bytes(work, "big"),
        bool(by_value),
    )


SETTLED = (
    "mint_settlement.*, EXISTS (SELECT 1 FROM value_settlement AS by_value WHERE "
    "by_value.settlement = mint_settlement.settlement AND by_value.policy = mint_settlement.policy)"
)
"""A row of what a settlement brought a policy, with whether it was divided by value."""


STANDING = """
    FROM allocation JOIN payment ON payment.id = allocation.settlement
    JOIN block ON block.hash = payment.block
    WHERE allocation.keyset = keyset.number AND allocation.msat <> 0
"""
"""The money of a keyset with the blocks it comes from, as long as they are not taken back."""


def immature_advance(connection: sqlite3.Connection, maturity: int) -> int:
    """Returns what was issued for keysets whose money is not mature, millisats.

    Args:
        connection: A connection.
        maturity: The confirmations that make it so.
    """
    query = f"""
        SELECT COALESCE(SUM(paid_msat), 0) FROM keyset WHERE state = 3 AND policy <> 3
        AND paid_msat > 0 AND EXISTS (SELECT 1 {STANDING} AND COALESCE(confirmations, 0) < ?)
    """  # noqa: S608 - constants
    [(msat,)] = connection.execute(query, (maturity,))
    return int(msat)


def least_confirmations(connection: sqlite3.Connection, number: int) -> int | None:
    """Returns the confirmations of the youngest block that pays a keyset, 0 when one is orphaned.

    None when no block pays it.
    """
    query = f"""
        SELECT MIN(COALESCE(confirmations, 0)) FROM (
            SELECT confirmations {STANDING.replace("keyset.number", "?")}
        )
    """  # noqa: S608 - constants
    [(least,)] = connection.execute(query, (number,))
    return None if least is None else int(least)


def paying_block(connection: sqlite3.Connection, number: int) -> tuple[bytes, int] | None:
    """Returns hash and height of the highest block that pays a keyset; None when none does."""
    standing = STANDING.replace("keyset.number", "?")
    query = f"SELECT block.hash, height {standing} ORDER BY height DESC"
    row = connection.execute(query, (number,)).fetchone()
    return None if row is None else (row[0], row[1])


def mature_rewards(connection: sqlite3.Connection, policy: int, maturity: int) -> int:
    """Returns what standing settlements with mature blocks have brought a policy, millisats."""
    query = """
        SELECT COALESCE(SUM(theta_sats), 0) FROM mint_settlement
        JOIN payment ON payment.id = settlement JOIN block ON block.hash = payment.block
        WHERE policy = ? AND confirmations >= ?
    """
    [(sats,)] = connection.execute(query, (policy, maturity))
    return 1_000 * int(sats)

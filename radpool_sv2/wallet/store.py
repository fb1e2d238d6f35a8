"""Keeps the rows: mints, keysets with their counters, tokens, exchanges, transfers, events.

Each method that changes something takes the connection of a transaction that is under way, so that
the machine above it (`purse`) decides what becomes durable together.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from radpool_sv2.errors import InternalError
from radpool_sv2.wallet.announcement import Announcement, EpochUpdate

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

__all__ = [
    "Event",
    "Exchange",
    "Keyset",
    "Mint",
    "Planned",
    "Token",
    "TokenState",
    "Transfer",
    "WalletStore",
]

EVENTS_MAX: Final = 10_000
"""How many events are shown at most."""


class TokenState(IntEnum):
    """Is whose a token is."""

    OURS = 0
    HELD = 1
    SENT = 2
    SPENT = 3


@dataclass(frozen=True, slots=True)
class Mint:
    """Is a mint that the wallet knows.

    Attributes:
        number: Its row.
        public_key: Its identity, 33 bytes.
        url: Where it answers over HTTP; None while that is unknown.
    """

    number: int
    public_key: bytes
    url: str | None

    @property
    def place(self) -> str:
        """Is its address, or its key, for people."""
        return self.url or self.public_key.hex()


@dataclass(frozen=True, slots=True)
class Keyset:
    """Is a keyset that the wallet trusts, of one mint for ever.

    Attributes:
        number: Its row.
        mint: Whose it is.
        announcement: What the mint announced.
        update: What the mint said last of its epoch; None before that.
        next_counter: The first counter that nobody has reserved.
        swept: Whether the mint, after the end of the epoch, was asked for signatures that got lost.
        seen_ms: When the wallet saw it first.
    """

    number: int
    mint: Mint
    announcement: Announcement
    update: EpochUpdate | None
    next_counter: int
    swept: bool
    seen_ms: int

    @property
    def id(self) -> bytes:
        """Is the id, 33 bytes."""
        return self.announcement.keyset_id

    @property
    def unit(self) -> str:
        """Is what its amounts count."""
        return self.announcement.unit


@dataclass(frozen=True, slots=True)
class Token:
    """Is a token: worth 2^exponent of its keyset's unit.

    Attributes:
        counter: Which of the keyset's derived secrets it has.
        exponent: See there.
        signature: C, 33 bytes.
        mined: Whether it is the signature of a share.
    """

    counter: int
    exponent: int
    signature: bytes = field(repr=False)
    mined: bool


@dataclass(frozen=True, slots=True)
class Planned:
    """Is an output of an exchange; `sent` ones are for somebody else."""

    counter: int
    exponent: int
    sent: bool


@dataclass(frozen=True, slots=True)
class Exchange:
    """Is tokens given to a mint for others: durable before the request leaves.

    Attributes:
        number: Its row.
        kind: `merge`, `redeem`, `send`, `receive` or `reclaim`.
        inputs: Whose tokens are given.
        outputs: Of which keyset the new ones are.
        planned: The new tokens, in the order of the request.
        request: The body, repeated byte for byte until the mint's answer is known.
        state: `pending`, `done` or `refused`.
        fault: What was wrong with the last answer; empty if there was none.
        transfer: What it makes ready for somebody else, or takes back.
        created_ms: When it was planned.
    """

    number: int
    kind: str
    inputs: Keyset
    outputs: Keyset
    planned: tuple[Planned, ...]
    request: bytes = field(repr=False)
    state: str
    fault: str
    transfer: int | None
    created_ms: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """Is tokens handed to somebody else.

    Attributes:
        number: Its row.
        state: `preparing`, `pending` until it is claimed, `claimed`, or `reclaimed` by us.
        sats: Its worth.
        memo: What the receiver reads.
        token: The text that was handed over; empty while preparing.
        created_ms: When it was made.
    """

    number: int
    state: str
    sats: int
    memo: str
    token: str = field(repr=False)
    created_ms: int


@dataclass(frozen=True, slots=True)
class Event:
    """Is something that happened; `units` are of the keyset."""

    time_ms: int
    kind: str
    keyset: bytes | None
    units: int
    sats: int
    note: str


class WalletStore:
    """Reads and writes the rows; announcements are parsed once."""

    def __init__(self) -> None:
        self._announcements: dict[int, Announcement] = {}
        self._updates: dict[bytes, EpochUpdate] = {}

    # Mints and keysets

    def mints(self, connection: sqlite3.Connection) -> list[Mint]:
        """Returns all mints, in the order in which they were met."""
        rows = connection.execute("SELECT number, public_key, url FROM mint ORDER BY number")
        return [Mint(*row) for row in rows]

    def add_mint(self, connection: sqlite3.Connection, public_key: bytes, url: str | None) -> Mint:
        """Adds a mint."""
        cursor = connection.execute(
            "INSERT INTO mint (public_key, url) VALUES (?, ?)", (public_key, url)
        )
        return Mint(_row_id(cursor), public_key, url)

    def set_url(self, connection: sqlite3.Connection, mint: Mint, url: str) -> Mint:
        """Writes down where a mint answers."""
        connection.execute("UPDATE mint SET url = ? WHERE number = ?", (url, mint.number))
        return Mint(mint.number, mint.public_key, url)

    def keysets(self, connection: sqlite3.Connection) -> list[Keyset]:
        """Returns all keysets, in the order in which they were seen."""
        mints = {mint.number: mint for mint in self.mints(connection)}
        rows = connection.execute(f"{_KEYSET} ORDER BY number")
        return [self._keyset(row, mints) for row in rows]

    def keyset(self, connection: sqlite3.Connection, identifier: bytes) -> Keyset | None:
        """Returns a keyset by its id."""
        mints = {mint.number: mint for mint in self.mints(connection)}
        row = connection.execute(f"{_KEYSET} WHERE id = ?", (identifier,)).fetchone()
        return None if row is None else self._keyset(row, mints)

    def add_keyset(
        self, connection: sqlite3.Connection, mint: Mint, found: Announcement, time_ms: int
    ) -> Keyset:
        """Adds a keyset, bound to its mint."""
        cursor = connection.execute(
            "INSERT INTO keyset (id, mint, unit, announcement, next_counter, swept, seen_ms) "
            "VALUES (?, ?, ?, ?, 0, 0, ?)",
            (found.keyset_id, mint.number, found.unit, found.payload, time_ms),
        )
        number = _row_id(cursor)
        self._announcements[number] = found
        return Keyset(number, mint, found, None, 0, swept=False, seen_ms=time_ms)

    def set_update(self, connection: sqlite3.Connection, keyset: int, update: EpochUpdate) -> None:
        """Keeps the newest update of a keyset."""
        connection.execute(
            "UPDATE keyset SET epoch_update = ? WHERE number = ?", (update.payload, keyset)
        )

    def set_swept(self, connection: sqlite3.Connection, keyset: int) -> None:
        """Notes that no signature of a keyset is missing any more."""
        connection.execute("UPDATE keyset SET swept = 1 WHERE number = ?", (keyset,))

    def next_counter(self, connection: sqlite3.Connection, keyset: int) -> int:
        """Returns the first counter that nobody has reserved."""
        [(counter,)] = connection.execute(
            "SELECT next_counter FROM keyset WHERE number = ?", (keyset,)
        )
        return int(counter)

    def set_next_counter(self, connection: sqlite3.Connection, keyset: int, counter: int) -> None:
        """Moves the first counter that nobody has reserved."""
        connection.execute("UPDATE keyset SET next_counter = ? WHERE number = ?", (counter, keyset))

    def _keyset(
        self, row: tuple[int, int, bytes, bytes | None, int, int, int], mints: dict[int, Mint]
    ) -> Keyset:
        number, mint, payload, update, counter, swept, seen_ms = row
        if number not in self._announcements:
            self._announcements[number] = Announcement.parse(payload)
        if update is not None and update not in self._updates:
            self._updates[update] = EpochUpdate.parse(update)
        return Keyset(
            number,
            mints[mint],
            self._announcements[number],
            None if update is None else self._updates[update],
            counter,
            bool(swept),
            seen_ms,
        )

    # Tokens

    def tokens(
        self, connection: sqlite3.Connection, keyset: int, state: TokenState = TokenState.OURS
    ) -> list[Token]:
        """Returns the tokens of a keyset that are in a state, by counter."""
        rows = connection.execute(
            "SELECT counter, exponent, signature, mined FROM token "
            "WHERE keyset = ? AND state = ? ORDER BY counter",
            (keyset, state),
        )
        return [_token(row) for row in rows]

    def tokens_of(self, connection: sqlite3.Connection, exchange: int) -> list[Token]:
        """Returns the tokens that were given to an exchange."""
        rows = connection.execute(
            "SELECT counter, exponent, signature, mined FROM token WHERE exchange = ? "
            "ORDER BY counter",
            (exchange,),
        )
        return [_token(row) for row in rows]

    def sent_tokens(
        self, connection: sqlite3.Connection, keyset: int, transfer: int
    ) -> list[Token]:
        """Returns the tokens of a keyset that were handed over by a transfer."""
        rows = connection.execute(
            "SELECT counter, exponent, signature, mined FROM token "
            "WHERE transfer = ? AND keyset = ? AND state = ? ORDER BY counter",
            (transfer, keyset, TokenState.SENT),
        )
        return [_token(row) for row in rows]

    def send_tokens(
        self,
        connection: sqlite3.Connection,
        keyset: int,
        counters: Sequence[int],
        transfer: int,
    ) -> None:
        """Hands tokens over by a transfer."""
        self.move_tokens(connection, keyset, counters, TokenState.SENT)
        connection.executemany(
            "UPDATE token SET transfer = ? WHERE keyset = ? AND counter = ?",
            ((transfer, keyset, counter) for counter in counters),
        )

    def sums(self, connection: sqlite3.Connection) -> dict[tuple[int, TokenState], tuple[int, int]]:
        """Returns how many tokens of each keyset are in each state, and their amount."""
        found: dict[tuple[int, TokenState], tuple[int, int]] = defaultdict(lambda: (0, 0))
        rows = connection.execute(
            "SELECT keyset, state, exponent, COUNT(*) FROM token GROUP BY state, keyset, exponent"
        )
        for keyset, state, exponent, count in rows:
            tokens, amount = found[keyset, TokenState(state)]
            found[keyset, TokenState(state)] = tokens + count, amount + (count << exponent)
        return dict(found)

    def mined(self, connection: sqlite3.Connection) -> dict[int, tuple[int, int]]:
        """Returns how many signatures of shares each keyset ever gave, and their amount."""
        found: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
        rows = connection.execute(
            "SELECT keyset, exponent, COUNT(*) FROM token WHERE mined = 1 GROUP BY keyset, exponent"
        )
        for keyset, exponent, count in rows:
            tokens, amount = found[keyset]
            found[keyset] = tokens + count, amount + (count << exponent)
        return dict(found)

    def known_counters(self, connection: sqlite3.Connection, keyset: int) -> set[int]:
        """Returns the counters of which the wallet has, or had, the token."""
        rows = connection.execute("SELECT counter FROM token WHERE keyset = ?", (keyset,))
        return {counter for (counter,) in rows}

    def add_tokens(
        self,
        connection: sqlite3.Connection,
        keyset: int,
        tokens: Iterable[Token],
        state: TokenState = TokenState.OURS,
    ) -> None:
        """Adds tokens; those that are there already stay as they are."""
        connection.executemany(
            "INSERT INTO token (keyset, counter, exponent, signature, mined, state) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                (keyset, token.counter, token.exponent, token.signature, token.mined, state)
                for token in tokens
            ),
        )

    def move_tokens(
        self,
        connection: sqlite3.Connection,
        keyset: int,
        counters: Sequence[int],
        state: TokenState,
        exchange: int | None = None,
    ) -> None:
        """Puts tokens into a state.

        Raises:
            InternalError: One of them is not there.
        """
        cursor = connection.executemany(
            "UPDATE token SET state = ?, exchange = ? WHERE keyset = ? AND counter = ?",
            ((state, exchange, keyset, counter) for counter in counters),
        )
        if cursor.rowcount != len(counters):
            raise InternalError(f"{len(counters) - cursor.rowcount} tokens are not in the wallet")

    def spend_tokens(self, connection: sqlite3.Connection, exchange: int) -> None:
        """Notes that the mint took what an exchange gave it."""
        connection.execute(
            "UPDATE token SET state = ? WHERE exchange = ?", (TokenState.SPENT, exchange)
        )

    # Exchanges

    def add_exchange(  # noqa: PLR0913 - one argument for each column
        self,
        connection: sqlite3.Connection,
        *,
        kind: str,
        inputs: Keyset,
        outputs: Keyset,
        planned: Sequence[Planned],
        request: bytes,
        transfer: int | None,
        time_ms: int,
    ) -> Exchange:
        """Writes an exchange down, before its request may leave."""
        cursor = connection.execute(
            "INSERT INTO exchange (kind, input_keyset, output_keyset, request, state, fault, "
            "transfer, created_ms) VALUES (?, ?, ?, ?, 'pending', '', ?, ?)",
            (kind, inputs.number, outputs.number, request, transfer, time_ms),
        )
        number = _row_id(cursor)
        connection.executemany(
            "INSERT INTO output VALUES (?, ?, ?, ?, ?)",
            (
                (number, place, output.counter, output.exponent, output.sent)
                for place, output in enumerate(planned)
            ),
        )
        return Exchange(
            number, kind, inputs, outputs, tuple(planned), request, "pending", "", transfer, time_ms
        )

    def pending_exchanges(self, connection: sqlite3.Connection) -> list[Exchange]:
        """Returns the exchanges whose outcome is not known, oldest first."""
        keysets = {keyset.number: keyset for keyset in self.keysets(connection)}
        rows = connection.execute(
            "SELECT number, kind, input_keyset, output_keyset, request, state, fault, transfer, "
            "created_ms FROM exchange WHERE state = 'pending' ORDER BY number"
        ).fetchall()
        return [
            Exchange(
                number,
                kind,
                keysets[inputs],
                keysets[outputs],
                tuple(
                    Planned(counter, exponent, bool(sent))
                    for counter, exponent, sent in connection.execute(
                        "SELECT counter, exponent, sent FROM output WHERE exchange = ? "
                        "ORDER BY place",
                        (number,),
                    )
                ),
                *rest,
            )
            for number, kind, inputs, outputs, *rest in rows
        ]

    def planned_counters(self, connection: sqlite3.Connection, keyset: int) -> set[int]:
        """Returns the counters of a keyset that pending exchanges are about to get."""
        rows = connection.execute(
            "SELECT counter FROM output JOIN exchange ON exchange.number = output.exchange "
            "WHERE exchange.state = 'pending' AND output_keyset = ?",
            (keyset,),
        )
        return {counter for (counter,) in rows}

    def is_done(self, connection: sqlite3.Connection, number: int) -> bool:
        """Tells whether an exchange was carried out."""
        [(state,)] = connection.execute("SELECT state FROM exchange WHERE number = ?", (number,))
        return bool(state == "done")

    def end_exchange(
        self, connection: sqlite3.Connection, number: int, state: str, fault: str, time_ms: int
    ) -> bool:
        """Ends a pending exchange; returns False if another process has done so already."""
        cursor = connection.execute(
            "UPDATE exchange SET state = ?, fault = ?, ended_ms = ? "
            "WHERE number = ? AND state = 'pending'",
            (state, fault, time_ms, number),
        )
        return cursor.rowcount == 1

    def set_fault(self, connection: sqlite3.Connection, number: int, fault: str) -> None:
        """Notes what was wrong with the answer to a pending exchange."""
        connection.execute("UPDATE exchange SET fault = ? WHERE number = ?", (fault, number))

    # Transfers

    def add_transfer(
        self, connection: sqlite3.Connection, sats: int, memo: str, time_ms: int
    ) -> int:
        """Begins a transfer; returns its number."""
        cursor = connection.execute(
            "INSERT INTO transfer (state, sats, memo, token, created_ms) "
            "VALUES ('preparing', ?, ?, '', ?)",
            (str(sats), memo, time_ms),
        )
        return _row_id(cursor)

    def transfers(self, connection: sqlite3.Connection) -> list[Transfer]:
        """Returns all transfers, newest first."""
        rows = connection.execute(
            "SELECT number, state, sats, memo, token, created_ms FROM transfer ORDER BY number DESC"
        )
        return [
            Transfer(number, state, int(sats), memo, token, created_ms)
            for number, state, sats, memo, token, created_ms in rows
        ]

    def set_transfer(
        self,
        connection: sqlite3.Connection,
        number: int,
        state: str,
        *,
        token: str | None = None,
        ended_ms: int | None = None,
    ) -> None:
        """Moves a transfer to another state."""
        connection.execute(
            "UPDATE transfer SET state = ?, token = COALESCE(?, token), ended_ms = ? "
            "WHERE number = ?",
            (state, token, ended_ms, number),
        )

    # Events

    def add_event(  # noqa: PLR0913 - one argument for each column
        self,
        connection: sqlite3.Connection,
        kind: str,
        time_ms: int,
        *,
        keyset: int | None = None,
        units: int = 0,
        sats: int = 0,
        note: str = "",
    ) -> None:
        """Writes down that something happened."""
        connection.execute(
            "INSERT INTO event (time_ms, kind, keyset, units, sats, note) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (time_ms, kind, keyset, str(units), str(sats), note),
        )

    def events(self, connection: sqlite3.Connection) -> list[Event]:
        """Returns what happened, oldest first."""
        rows = connection.execute(
            "SELECT time_ms, event.kind, id, units, sats, note FROM event "
            "LEFT JOIN keyset ON keyset.number = event.keyset ORDER BY event.number DESC LIMIT ?",
            (EVENTS_MAX,),
        ).fetchall()
        return [
            Event(time_ms, kind, identifier, int(units), int(sats), note)
            for time_ms, kind, identifier, units, sats, note in reversed(rows)
        ]


_KEYSET: Final = (
    "SELECT number, mint, announcement, epoch_update, next_counter, swept, seen_ms FROM keyset"
)


def _token(row: tuple[int, int, bytes, int]) -> Token:
    counter, exponent, signature, mined = row
    return Token(counter, exponent, signature, bool(mined))


def _row_id(cursor: sqlite3.Cursor) -> int:
    if cursor.lastrowid is None:
        raise InternalError("an inserted row has no number")
    return cursor.lastrowid

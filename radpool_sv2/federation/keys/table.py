"""Defines what a member's store keeps of keys: shares, boot counters, books, signatures, evidence.

Each write is one thing to be made durable in its turn among the records of the store. A spent nonce
is written before the share that it signed leaves; the table has each once, so a store that was
asked to write one twice fails, and nothing leaves.

Source: `spec/16-threshold-keys.md`, "What is kept".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from radpool_sv2._native.threshold import CHECKPOINT, ORACLE, TREASURY, PublicKey
from radpool_sv2.federation.codec import Reader, u16
from radpool_sv2.federation.record import Started, decode_record, encode_record
from radpool_sv2.federation.signing.purpose import Task

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from radpool_sv2.federation.committee import Committee

__all__ = [
    "KEY_SCHEMA",
    "PURPOSES",
    "Kept",
    "KeptBooks",
    "KeptBoot",
    "KeptEvidence",
    "KeptFailure",
    "KeptKey",
    "KeptShare",
    "KeptSignature",
    "KeptSpent",
    "Proof",
    "books",
    "boot_of",
    "evidence",
    "generations",
    "position",
    "shares",
    "signatures",
    "spent",
]

PURPOSES: Final = {CHECKPOINT: "checkpoint", TREASURY: "treasury", ORACLE: "oracle"}
"""What figures and logs call the purposes."""

KEY_SCHEMA: Final = """
    CREATE TABLE share (transcript BLOB PRIMARY KEY, sealed BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE generation (
        purpose INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, public BLOB NOT NULL,
        members BLOB NOT NULL, failure TEXT NOT NULL
    );
    CREATE TABLE boot (transcript BLOB PRIMARY KEY, boot INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE book (transcript BLOB PRIMARY KEY, blob BLOB NOT NULL);
    CREATE TABLE signature (
        number INTEGER PRIMARY KEY, transcript BLOB NOT NULL, task BLOB NOT NULL UNIQUE,
        signature BLOB NOT NULL
    );
    CREATE TABLE spent (
        transcript BLOB, nonce BLOB, boot INTEGER NOT NULL, slot INTEGER NOT NULL,
        session BLOB NOT NULL, PRIMARY KEY (transcript, nonce)
    ) WITHOUT ROWID;
    CREATE TABLE evidence (
        digest BLOB PRIMARY KEY, number INTEGER NOT NULL, kind INTEGER NOT NULL,
        member INTEGER NOT NULL, what TEXT NOT NULL, blob BLOB NOT NULL
    )
"""
"""A key is named by its transcript; `public` is empty where a generation has failed."""

POSITION: Final = "keys"
"""The row of `about` that has the start behind the last epoch that the books have counted."""


class Proof(IntEnum):
    """Says what a piece of evidence is made of."""

    STATEMENTS = 1
    """An `Evidence`: two statements of one slot."""
    SHARE = 2
    """A `ShareEvidence`: a signed share that does not hold."""
    GENERATION = 3
    """The streams prove it; the text says what was done in which attempt."""


class Kept(ABC):
    """Is something to be made durable, in its turn."""

    @abstractmethod
    def write(self, connection: sqlite3.Connection) -> None:
        """Writes it, in a transaction."""


@dataclass(frozen=True, slots=True)
class KeptShare(Kept):
    """Is the own share of a key, sealed by the identity key; there before the key is signed."""

    transcript: bytes
    sealed: bytes

    def write(self, connection: sqlite3.Connection) -> None:
        """Writes it."""
        row = self.transcript, self.sealed
        connection.execute("INSERT OR REPLACE INTO share VALUES (?, ?)", row)


@dataclass(frozen=True, slots=True)
class KeptKey(Kept):
    """Is a certified key, and where the streams went on behind the epoch that certified it."""

    purpose: int
    epoch: int
    public: PublicKey
    members: tuple[int, ...]
    start: Started

    def write(self, connection: sqlite3.Connection) -> None:
        """Writes it; an older key's position stays."""
        members = b"".join(map(u16, self.members))
        row = self.purpose, self.epoch, self.public.encode(), members
        connection.execute("INSERT OR REPLACE INTO generation VALUES (?, ?, ?, ?, '')", row)
        place = POSITION, encode_record(self.start)
        connection.execute("INSERT OR IGNORE INTO about VALUES (?, ?)", place)


@dataclass(frozen=True, slots=True)
class KeptFailure(Kept):
    """Says that no key comes of it."""

    purpose: int
    epoch: int
    reason: str

    def write(self, connection: sqlite3.Connection) -> None:
        """Writes it."""
        row = self.purpose, self.epoch, self.reason
        query = "INSERT OR REPLACE INTO generation VALUES (?, ?, x'', x'', ?)"
        connection.execute(query, row)


@dataclass(frozen=True, slots=True)
class KeptBoot(Kept):
    """Is the boot counter of a key: nothing of this boot may leave before it is there."""

    transcript: bytes
    boot: int

    def write(self, connection: sqlite3.Connection) -> None:
        """Writes it; it never goes back."""
        connection.execute(
            "INSERT INTO boot VALUES (?, ?) ON CONFLICT (transcript) "
            "DO UPDATE SET boot = max(boot, excluded.boot)",
            (self.transcript, self.boot),
        )


@dataclass(frozen=True, slots=True)
class KeptBooks(Kept):
    """Is what certified epochs come to, up to a place: `Signing.snapshot` of each key."""

    start: Started
    books: tuple[tuple[bytes, bytes], ...]

    def write(self, connection: sqlite3.Connection) -> None:
        """Writes all of it, or nothing."""
        place = POSITION, encode_record(self.start)
        connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", place)
        connection.executemany("INSERT OR REPLACE INTO book VALUES (?, ?)", self.books)


@dataclass(frozen=True, slots=True)
class KeptSignature(Kept):
    """Is a finished signature."""

    transcript: bytes
    task: Task
    signature: bytes

    def write(self, connection: sqlite3.Connection) -> None:
        """Writes it."""
        row = self.transcript, self.task.encode(), self.signature
        connection.execute("INSERT OR IGNORE INTO signature VALUES (NULL, ?, ?, ?)", row)


@dataclass(frozen=True, slots=True)
class KeptSpent(Kept):
    """Says which nonce signs in which session.

    Attributes:
        transcript: The key's name.
        nonce: Its encoded commitment.
        boot: Of its pool.
        slot: In its pool.
        session: The session's id.
    """

    transcript: bytes
    nonce: bytes
    boot: int
    slot: int
    session: bytes

    def write(self, connection: sqlite3.Connection) -> None:
        """Writes it: not a second time for any nonce."""
        row = self.transcript, self.nonce, self.boot, self.slot, self.session
        connection.execute("INSERT INTO spent VALUES (?, ?, ?, ?, ?)", row)


@dataclass(frozen=True, slots=True)
class KeptEvidence(Kept):
    """Is evidence against a member.

    Attributes:
        kind: What it is made of.
        member: Its number in the committee.
        what: What it did, in words.
        blob: The encoded evidence.
    """

    kind: Proof
    member: int
    what: str
    blob: bytes

    @property
    def digest(self) -> bytes:
        """Tells pieces of evidence apart, 32 bytes."""
        parts = bytes((self.kind,)), u16(self.member), self.what.encode(), b"\0", self.blob
        return sha256(b"".join(parts)).digest()

    def write(self, connection: sqlite3.Connection) -> None:
        """Writes it, once."""
        connection.execute(
            "INSERT OR IGNORE INTO evidence "
            "SELECT ?, coalesce(max(number), 0) + 1, ?, ?, ?, ? FROM evidence",
            (self.digest, self.kind, self.member, self.what, self.blob),
        )


# Reading; each with a connection of `FederationStore.read`.


def shares(connection: sqlite3.Connection) -> list[bytes]:
    """Returns all sealed shares."""
    return [bytes(row[0]) for row in connection.execute("SELECT sealed FROM share")]


def generations(
    connection: sqlite3.Connection, committee: Committee
) -> list[KeptKey | KeptFailure]:
    """Returns how generations have ended; a key's `start` is that of the books.

    Raises:
        RemoteProtocolError: The file is damaged.
    """
    start = position(connection, committee) or Started(0, ())
    ended: list[KeptKey | KeptFailure] = []
    query = "SELECT purpose, epoch, public, members, failure FROM generation"
    for purpose, epoch, public, members, failure in connection.execute(query):
        if failure:
            ended.append(KeptFailure(purpose, epoch, failure))
            continue
        reader = Reader(bytes(members))
        numbers = tuple(reader.u16() for _ in range(len(members) // 2))
        ended.append(KeptKey(purpose, epoch, PublicKey.decode(bytes(public)), numbers, start))
    return ended


def boot_of(connection: sqlite3.Connection, transcript: bytes) -> int:
    """Returns a key's boot counter; 0 before the first."""
    query = "SELECT boot FROM boot WHERE transcript = ?"
    row = connection.execute(query, (transcript,)).fetchone()
    return 0 if row is None else int(row[0])


def books(connection: sqlite3.Connection) -> dict[bytes, bytes]:
    """Returns the snapshot of each key."""
    rows = connection.execute("SELECT transcript, blob FROM book")
    return {bytes(transcript): bytes(blob) for transcript, blob in rows}


def position(connection: sqlite3.Connection, committee: Committee) -> Started | None:
    """Returns the start behind the last epoch that the books have counted.

    Raises:
        CodecError: The file is damaged.
    """
    query = "SELECT value FROM about WHERE name = ?"
    row = connection.execute(query, (POSITION,)).fetchone()
    if row is None:
        return None
    start = decode_record(bytes(row[0]), committee)
    assert isinstance(start, Started), "nothing else is written there"
    return start


def signatures(
    connection: sqlite3.Connection, transcript: bytes, limit: int = -1
) -> list[tuple[Task, bytes]]:
    """Returns a key's finished signatures in the order in which they came: the last of them.

    Args:
        connection: A reading one.
        transcript: The key's name.
        limit: How many at most; all without it.

    Raises:
        CodecError: The file is damaged.
    """
    query = (
        "SELECT task, signature FROM signature WHERE transcript = ? ORDER BY number DESC LIMIT ?"
    )
    found = connection.execute(query, (transcript, limit)).fetchall()
    return [(Task.read(Reader(bytes(task))), bytes(each)) for task, each in reversed(found)]


def spent(connection: sqlite3.Connection) -> Iterable[KeptSpent]:
    """Returns which nonce has signed in which session, by key, boot and slot."""
    query = "SELECT transcript, nonce, boot, slot, session FROM spent ORDER BY 1, 3, 4"
    for transcript, nonce, boot, slot, session in connection.execute(query).fetchall():
        yield KeptSpent(bytes(transcript), bytes(nonce), boot, slot, bytes(session))


def evidence(connection: sqlite3.Connection) -> list[KeptEvidence]:
    """Returns all evidence, in the order in which it came."""
    query = "SELECT kind, member, what, blob FROM evidence ORDER BY number"
    return [
        KeptEvidence(Proof(kind), member, what, bytes(blob))
        for kind, member, what, blob in connection.execute(query)
    ]

"""Keeps what a member must not forget in one SQLite file.

Theory of operation. What machines write down is taken in at once (`write`) and made durable later,
many records in one transaction (`take`, then `commit` in a thread, then `done`). The file is in WAL
mode with synchronous = FULL: what COMMIT has reported is on the disk. Writes are numbered, and the
number of the last one is in the file, so that a COMMIT that was reported as failed and is durable
all the same is not repeated.

An entry is written once, whoever speaks of it: records name it by its digest. Of certified entries
the file also knows their place, and it finds the certificates and decisions that answers to peers
are made of; a checkpoint lets go of records (`condense`), not of these.

Source: `spec/13-broadcast.md`, "Records" and "Catching up".
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from radpool_sv2.errors import RemoteProtocolError, StoreError
from radpool_sv2.federation.broadcast.entry import Entry
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.codec import HASH_LEN, CodecError, Reader, u8
from radpool_sv2.federation.keys.table import KEY_SCHEMA, Kept, KeptEvidence, KeptSpent
from radpool_sv2.federation.keys.table import evidence as evidence_of
from radpool_sv2.federation.keys.table import spent as spent_of
from radpool_sv2.federation.messages import DecidedEpoch
from radpool_sv2.federation.record import (
    Applied,
    Checkpointed,
    Decided,
    Echoed,
    Ended,
    Grown,
    Proposed,
    Started,
    Voted,
    decode_as,
    decode_record,
    encode_record,
)
from radpool_sv2.federation.retention import KEEP_EPOCHS, let_go_of_epochs, let_go_of_segments
from radpool_sv2.federation.statement import Echo, StateRoot, Vote
from radpool_sv2.store.fault import store_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from radpool_sv2.federation.agreement.mark import Ending
    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.record import Record

__all__ = ["FederationStore", "Write"]

T = TypeVar("T")

APPLICATION_ID: Final = 0x72664653
"""\"rfFS\": a federation's store."""

VERSION: Final = 2
BUSY_SECONDS: Final = 5.0
PAGE_BYTES: Final = 8_192
CHECKPOINT_PAGES: Final = 4_000

CHECK_BYTES_MAX: Final = 4 << 30
"""A larger file is not read whole at a start: members would be away for that long."""

KIND_AT: Final = 2 + 8 + HASH_LEN + 1
"""Where an entry's kind is in its bytes, counted from 1: behind sender, number and digest."""

OF_EPOCHS: Final = -1
"""Stands in for the member in records that are about an epoch."""

SCHEMA: Final = """
    CREATE TABLE about (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE record (
        number INTEGER PRIMARY KEY, kind INTEGER NOT NULL, of INTEGER NOT NULL,
        at INTEGER NOT NULL, blob BLOB NOT NULL
    );
    CREATE TABLE held (
        digest BLOB PRIMARY KEY, sender INTEGER NOT NULL, seq INTEGER NOT NULL,
        previous BLOB NOT NULL, blob BLOB NOT NULL
    );
    CREATE INDEX held_at ON held (sender, seq);
    CREATE TABLE entry (
        sender INTEGER, seq INTEGER, digest BLOB NOT NULL, PRIMARY KEY (sender, seq)
    ) WITHOUT ROWID;
    CREATE TABLE certificate (
        sender INTEGER, seq INTEGER, blob BLOB NOT NULL, PRIMARY KEY (sender, seq)
    ) WITHOUT ROWID;
    CREATE TABLE decision (epoch INTEGER PRIMARY KEY, blob BLOB NOT NULL);
    CREATE TABLE checkpoint (epoch INTEGER PRIMARY KEY, blob BLOB NOT NULL);
    CREATE TABLE state (epoch INTEGER PRIMARY KEY, blob BLOB NOT NULL)
"""
"""A record is about a member's entry (`of`, `at`) or an epoch (`at`); `held` has all entries that
were echoed or certified, `entry` the places of the certified ones."""


@dataclass(frozen=True, slots=True)
class _State:
    epoch: int
    state: bytes


@dataclass(frozen=True, slots=True)
class _Condense:
    start: Started


Write: TypeAlias = "tuple[int, Record | Kept | _State | _Condense]"
"""Something to be made durable, with its number."""


class FederationStore:
    """Is a member's store.

    Args:
        file: The database; made if it is not there.
        committee: Whose store it is, for ever.
        member: The own identity key, 32 bytes; `None` to read beside the member that writes it.
        keep_epochs: How many certified epochs stay for peers that were away.

    Raises:
        StoreError: The file cannot be opened, is damaged, or another committee's or member's.

    Attributes:
        written: The number of the last write.
        durable: The number of the last write that a crash cannot take.
    """

    def __init__(
        self,
        file: Path,
        committee: Committee,
        member: bytes | None,
        *,
        keep_epochs: int = KEEP_EPOCHS,
    ) -> None:
        self._file = file
        self._committee = committee
        self._is_reader = member is None
        self._keep_epochs = keep_epochs
        self._locks = threading.Lock(), threading.Lock()
        self._connections: list[sqlite3.Connection | None] = [None, None]
        self._waiting: list[Write] = []
        self._ends: dict[int, int] = {}
        try:
            self._expect(member)
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._transaction(int(self._is_reader)) as connection:
                self._prepare(connection, member)
                self.written = self.durable = self._last(connection)
        except OSError as error:
            raise StoreError(f"{file.parent}: cannot be made: {error.strerror}.") from error
        except BaseException:
            self.close()
            raise

    def _expect(self, member: bytes | None) -> None:
        if member is None and not self._file.exists():
            raise StoreError(f"{self._file}: is not there: the member has never run.")

    def close(self) -> None:
        """Gives the connections back; what is not durable is lost."""
        for number, lock in enumerate(self._locks):
            with lock:
                self._drop(number)

    # Writing.

    def write(self, record: Record) -> int:
        """Takes a record in; it is not durable yet. Returns its number."""
        return self._write(record)

    def keep_state(self, epoch: int, state: bytes) -> int:
        """Takes the state behind an epoch in; returns its number."""
        return self._write(_State(epoch, state))

    def keep(self, kept: Kept) -> int:
        """Takes in what is kept of keys; returns its number."""
        return self._write(kept)

    def condense(self, start: Started) -> int:
        """Lets go, in its turn, of records that a start makes superfluous; returns its number."""
        return self._write(_Condense(start))

    def _write(self, write: Record | Kept | _State | _Condense) -> int:
        self.written += 1
        self._waiting.append((self.written, write))
        return self.written

    def take(self) -> Sequence[Write]:
        """Returns all that is not durable, for `commit`; it stays here until it is `done`."""
        return tuple(self._waiting)

    def done(self, writes: Sequence[Write]) -> None:
        """Takes in that these are durable."""
        del self._waiting[: len(writes)]
        self.durable = writes[-1][0]

    def commit(self, writes: Sequence[Write]) -> None:
        """Makes writes durable in one transaction; may be called in a thread.

        Raises:
            StoreError: None of them is known to be durable; it may be tried again with all of them.
        """
        try:
            with self._transaction(0) as connection:
                last = self._last(connection)
                for number, write in writes:
                    if number > last:
                        self._apply(connection, number, write)
                query = "UPDATE about SET value = ? WHERE name = 'last'"
                connection.execute(query, (writes[-1][0],))
        except BaseException:
            self._ends.clear()
            raise

    def _apply(
        self, connection: sqlite3.Connection, number: int, write: Record | Kept | _State | _Condense
    ) -> None:
        match write:
            case _State(epoch, state):
                connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (epoch, state))
                return
            case _Condense(start):
                self._let_go(connection, start)
                return
            case Kept():
                write.write(connection)
                return
            case Started():
                self._begin(connection, write)
                return
            case Echoed(entry):
                of, at = entry.header.sender, entry.header.seq
                _hold(connection, entry)
                blob = entry.header.digest
            case Grown(certificate, entries):
                echo = certificate.statement
                assert isinstance(echo, Echo), "the codec lets no other pass"
                of, at = echo.sender, echo.seq
                for entry in entries:
                    _hold(connection, entry)
                self._place(connection, echo)
                encoded = certificate.encode()
                connection.execute(
                    "INSERT OR REPLACE INTO certificate VALUES (?, ?, ?)", (of, at, encoded)
                )
                digests = [entry.header.digest for entry in entries]
                blob = b"".join((encoded, u8(len(digests)), *digests))
            case _:
                of, at, blob = OF_EPOCHS, _epoch_of(write), encode_record(write)
        if isinstance(write, Decided):
            connection.execute("INSERT OR REPLACE INTO decision VALUES (?, ?)", (at, blob))
        if isinstance(write, Checkpointed):
            connection.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?)", (at, blob))
        connection.execute(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?)", (number, write.NUMBER, of, at, blob)
        )

    def _place(self, connection: sqlite3.Connection, echo: Echo) -> None:
        """Gives entries their places: from a certified one back to the last that has one."""
        end = self._end(connection, echo.sender)
        digest = echo.entry
        for seq in range(echo.seq, end - 1, -1):
            query = "SELECT previous FROM held WHERE digest = ?"
            found = connection.execute(query, (digest,)).fetchone()
            if found is None:
                raise StoreError(
                    f"{self._file}: entry {seq} of member {echo.sender} is certified and is not "
                    "there: damaged. Restore it from a backup, or start from a snapshot."
                )
            place = (echo.sender, seq, digest)
            connection.execute("INSERT INTO entry VALUES (?, ?, ?)", place)
            digest = bytes(found[0])
        self._ends[echo.sender] = max(end, echo.seq + 1)

    def _end(self, connection: sqlite3.Connection, sender: int) -> int:
        end = self._ends.get(sender)
        if end is None:
            query = "SELECT max(seq) FROM entry WHERE sender = ?"
            last = connection.execute(query, (sender,)).fetchone()[0]
            start = self._start(connection)
            endings = () if start is None else start.endings
            end = next((each.seq + 1 for _, each in endings if each.member == sender), 0)
            end = end if last is None else max(end, int(last) + 1)
        return end

    def _begin(self, connection: sqlite3.Connection, start: Started) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO about VALUES ('start', ?)", (encode_record(start),)
        )
        self._ends.clear()

    def _let_go(self, connection: sqlite3.Connection, start: Started) -> None:
        self._begin(connection, start)
        connection.execute("DELETE FROM record WHERE of = ? AND at < ?", (OF_EPOCHS, start.decided))
        connection.execute("DELETE FROM state WHERE epoch < ?", (start.decided - 1,))
        for _, ending in start.endings:
            place = ending.member, ending.seq + 1
            connection.execute("DELETE FROM record WHERE of = ? AND at < ?", place)
            # What was echoed and never certified is of no more use to anybody.
            connection.execute(
                "DELETE FROM held WHERE sender = ? AND seq < ? AND NOT EXISTS (SELECT 1 FROM entry "
                "WHERE entry.sender = held.sender AND entry.seq = held.seq "
                "AND entry.digest = held.digest)",
                place,
            )
        let_go_of_epochs(connection, start.decided - self._keep_epochs, self._endings)

    def _endings(self, decision: bytes) -> tuple[Ending, ...]:
        with self._understood():
            return decode_as(Decided, decision, self._committee).cut.endings

    def adopt(self, start: Started, state: bytes, checkpoint: Certificate) -> None:
        """Goes on behind a checkpoint that was made elsewhere; nothing may run on the store yet.

        What this member itself has said behind it stays: it must not be said differently.

        Args:
            start: Where.
            state: The state there.
            checkpoint: Who signed both; the caller has checked that.

        Raises:
            StoreError: The store is as far already, or it cannot be written.
        """
        with self._transaction(0) as connection:
            known = self._start(connection)
            [(last,)] = connection.execute("SELECT max(epoch) FROM decision")
            decided = max(0 if known is None else known.decided, 0 if last is None else last + 1)
            if decided >= start.decided:
                raise StoreError(
                    f"{self._file}: has {decided} epochs already, the snapshot {start.decided}: "
                    "it is not needed. Start without it."
                )
            self._let_go(connection, start)
            let_go_of_segments(connection, (ending for _, ending in start.endings))
            at = start.decided - 1
            connection.execute("DELETE FROM decision WHERE epoch <= ?", (at,))
            connection.execute("DELETE FROM checkpoint WHERE epoch <= ?", (at,))
            blob = encode_record(Checkpointed(checkpoint))
            connection.execute("INSERT INTO checkpoint VALUES (?, ?)", (at, blob))
            connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (at, state))

    # Reading.

    def records(self) -> Iterator[Record]:
        """Reads back all that is durable, in the order in which it was written.

        Raises:
            StoreError: The file is damaged.
        """
        with self._transaction(1) as connection:
            start = self._start(connection)
            if start is not None:
                yield start
            for kind, blob in connection.execute("SELECT kind, blob FROM record ORDER BY number"):
                with self._understood():
                    record = self._record(connection, kind, bytes(blob))
                yield record

    def _record(self, connection: sqlite3.Connection, kind: int, blob: bytes) -> Record:
        if kind == Echoed.NUMBER:
            return Echoed(self._held(connection, blob))
        if kind == Grown.NUMBER:
            with Reader(blob, self._committee.id) as reader:
                certificate = Certificate.read(reader)
                digests = [reader.take(HASH_LEN) for _ in range(reader.u8())]
            return Grown(certificate, tuple(self._held(connection, each) for each in digests))
        return decode_record(blob, self._committee)

    def _held(self, connection: sqlite3.Connection, digest: bytes) -> Entry:
        query = "SELECT blob FROM held WHERE digest = ?"
        found = connection.execute(query, (digest,)).fetchone()
        if found is None:
            raise CodecError(f"entry {digest.hex()} is named and is not there")
        return self._entry(found[0])

    def _entry(self, blob: bytes) -> Entry:
        with Reader(bytes(blob), self._committee.id) as reader:
            return Entry.read(reader)

    def state(self, epoch: int) -> bytes | None:
        """Returns the state behind an epoch, if it is still there."""
        return self._one("SELECT blob FROM state WHERE epoch = ?", epoch)

    def entry(self, sender: int, seq: int) -> Entry | None:
        """Returns a certified entry of a stream."""
        found = self._one(
            "SELECT blob FROM entry JOIN held USING (digest) "
            "WHERE entry.sender = ? AND entry.seq = ?",
            sender,
            seq,
        )
        if found is None:
            return None
        with self._understood():
            return self._entry(found)

    def entries_of(
        self, sender: int, first: int, end: int, kinds: Iterable[int], limit: int = -1
    ) -> list[Entry]:
        """Returns the certified entries of a part of a stream that are of some kinds, in order.

        Args:
            sender: Whose stream.
            first: The number of the first entry of the part.
            end: The number behind the last one.
            kinds: What the entries may be.
            limit: How many at most, the last ones; all without it.
        """
        wanted = [u8(kind) for kind in kinds]
        marks = ", ".join("?" * len(wanted))
        query = (
            "SELECT blob FROM entry JOIN held USING (digest) WHERE entry.sender = ? "  # noqa: S608
            "AND entry.seq >= ? AND entry.seq < ? "
            f"AND substr(blob, {KIND_AT}, 1) IN ({marks}) ORDER BY entry.seq DESC LIMIT ?"
        )
        with self._transaction(1) as connection, self._understood():
            found = connection.execute(query, (sender, first, end, *wanted, limit)).fetchall()
            return [self._entry(blob) for (blob,) in reversed(found)]

    def certificate(self, sender: int, seq: int) -> Certificate | None:
        """Returns the certificate of an entry, if there is one of its very own."""
        found = self._one("SELECT blob FROM certificate WHERE sender = ? AND seq = ?", sender, seq)
        if found is None:
            return None
        with self._understood(), Reader(found, self._committee.id) as reader:
            return Certificate.read(reader)

    def epoch(self, epoch: int) -> DecidedEpoch | None:
        """Returns a decided epoch."""
        decision = self._one("SELECT blob FROM decision WHERE epoch = ?", epoch)
        if decision is None:
            return None
        checkpoint = self._one("SELECT blob FROM checkpoint WHERE epoch = ?", epoch)
        with self._understood():
            decided = decode_as(Decided, decision, self._committee)
            root = None
            if checkpoint is not None:
                root = decode_as(Checkpointed, checkpoint, self._committee).certificate
            return DecidedEpoch(decided.certificate, decided.cut, root)

    def latest(self) -> tuple[Started, bytes, Certificate] | None:
        """Returns the last start, with its state and checkpoint; `None` before the first."""
        with self._transaction(1) as connection, self._understood():
            start = self._start(connection)
            if start is None:
                return None
            found = []
            for table in ("state", "checkpoint"):
                query = f"SELECT blob FROM {table} WHERE epoch = ?"  # noqa: S608 - one of two names
                row = connection.execute(query, (start.decided - 1,)).fetchone()
                if row is None:
                    raise CodecError(f"the {table} behind epoch {start.decided - 1} is not there")
                found.append(bytes(row[0]))
            checkpoint = decode_as(Checkpointed, found[1], self._committee)
            return start, found[0], checkpoint.certificate

    def first(self, sender: int) -> int:
        """Returns the number of the first entry of a stream that is kept, or would be."""
        with self._transaction(1) as connection:
            query = "SELECT min(seq) FROM entry WHERE sender = ?"
            [(found,)] = connection.execute(query, (sender,))
            return self._end(connection, sender) if found is None else int(found)

    def first_epoch(self) -> int:
        """Returns the first decided epoch that is kept, or would be."""
        with self._transaction(1) as connection:
            [(found,)] = connection.execute("SELECT min(epoch) FROM decision")
            start = self._start(connection)
            return int(found) if found is not None else 0 if start is None else start.decided

    def check(self) -> None:
        """Looks whether the file is whole; reads all of it, unless that would take minutes.

        Raises:
            StoreError: It is damaged.
        """
        with self._transaction(1) as connection:
            if self._file.stat().st_size > CHECK_BYTES_MAX:
                return
            [(found,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
        if found != "ok":
            raise StoreError(
                f"{self._file}: damaged: {found}. Look at the disk. Keep the file: what this "
                "member has signed is in it. Ask the others before you start it anew."
            )

    def end(self, sender: int) -> int:
        """Returns how many certified entries a stream has here, those before a start included."""
        with self._transaction(1) as connection:
            return self._end(connection, sender)

    def _one(self, query: str, *values: int) -> bytes | None:
        with self._transaction(1) as connection:
            found = connection.execute(query, values).fetchone()
        return None if found is None else bytes(found[0])

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Reads what is kept of keys by one of the functions of `keys.table`.

        Raises:
            StoreError: The file is damaged.
        """
        try:
            with self._transaction(1) as connection:
                return query(connection)
        except RemoteProtocolError as error:
            # The peer who has written it is this member.
            raise self._damaged(error) from error

    def evidence(self) -> list[KeptEvidence]:
        """Returns all evidence against members that was found here, in the order of time."""
        return self.read(evidence_of)

    def spent(self) -> list[KeptSpent]:
        """Returns by which nonce each session was signed here."""
        return list(self.read(spent_of))

    # The file.

    def _start(self, connection: sqlite3.Connection) -> Started | None:
        query = "SELECT value FROM about WHERE name = 'start'"
        found = connection.execute(query).fetchone()
        if found is None:
            return None
        with self._understood():
            return decode_as(Started, bytes(found[0]), self._committee)

    def _last(self, connection: sqlite3.Connection) -> int:
        query = "SELECT value FROM about WHERE name = 'last'"
        return int(connection.execute(query).fetchone()[0])

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except CodecError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: RemoteProtocolError) -> StoreError:
        return StoreError(
            f"{self._file}: damaged: {error}. Restore it from a backup, or start from a snapshot."
        )

    @contextmanager
    def _transaction(self, number: int) -> Iterator[sqlite3.Connection]:
        """Runs a block as one transaction on the writing (0) or the reading (1) connection."""
        with self._locks[number]:
            connection = self._connections[number]
            try:
                if connection is None:
                    connection = self._connections[number] = self._connect()
                connection.execute("BEGIN" if number else "BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                # The connection may be in any state after a failed write: a new one is in none.
                self._drop(number)
                raise store_error(self._file, error) from error
            except BaseException:
                self._drop(number)
                raise

    def _connect(self) -> sqlite3.Connection:
        mode = "ro" if self._is_reader else "rwc"
        connection = sqlite3.connect(
            f"{self._file.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        if self._is_reader:
            return connection
        try:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA trusted_schema = OFF")
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop(self, number: int) -> None:
        connection, self._connections[number] = self._connections[number], None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _prepare(self, connection: sqlite3.Connection, member: bytes | None) -> None:
        [(application,)] = connection.execute("PRAGMA application_id")
        [(version,)] = connection.execute("PRAGMA user_version")
        [(tables,)] = connection.execute("SELECT COUNT(*) FROM sqlite_schema")
        whose = self._committee.id + (member or b"")
        if application == 0 and tables == 0 and not self._is_reader:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            for statement in (SCHEMA + ";" + KEY_SCHEMA).split(";"):
                connection.execute(statement)
            about = [("whose", whose), ("last", 0)]
            connection.executemany("INSERT INTO about VALUES (?, ?)", about)
            return
        if application != APPLICATION_ID:
            raise StoreError(f"{self._file}: a database of another program. Give another file.")
        if version != VERSION:
            raise StoreError(
                f"{self._file}: written by another version of radpool (schema {version}, this one "
                f"knows {VERSION}). Install that version again."
            )
        query = "SELECT value FROM about WHERE name = 'whose'"
        found = bytes(connection.execute(query).fetchone()[0])
        if not found.startswith(whose):
            raise StoreError(
                f"{self._file}: is the store of another committee or member. One store is for one "
                "member of one committee: give another directory."
            )


def _hold(connection: sqlite3.Connection, entry: Entry) -> None:
    header = entry.header
    connection.execute(
        "INSERT OR IGNORE INTO held VALUES (?, ?, ?, ?, ?)",
        (header.digest, header.sender, header.seq, header.previous, entry.encode()),
    )


def _epoch_of(record: Record) -> int:
    match record:
        case Proposed(proposal, _):
            return proposal.epoch
        case Voted(vote, _):
            return vote.epoch
        case Decided(_, cut):
            return cut.epoch
        case Applied(epoch, _):
            return epoch
        case Ended(certificate, _) | Checkpointed(certificate):
            statement = certificate.statement
            assert isinstance(statement, Vote | StateRoot), "the codec lets no other pass"
            return statement.epoch
        case _:
            raise AssertionError("records of streams have no epoch")

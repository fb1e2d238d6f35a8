"""Defines what a member writes down, so that a crash makes it forget nothing that it has said.

A machine that is started again is given its records in the order in which they were written, and
goes on as if it had never stopped. `Started` takes the place of those that a checkpoint has made
superfluous; `is_needed` says which those are not. A record is encoded for the committee of its
store.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias, TypeVar, get_args

from radpool_sv2.federation.agreement.mark import Cut, Ending
from radpool_sv2.federation.agreement.outcome import Outcome, encode_cut, read_cut
from radpool_sv2.federation.broadcast.entry import Entry
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.codec import (
    HASH_LEN,
    CodecError,
    Reader,
    Tag,
    read_numbered,
    u8,
    u16,
    u32,
    u64,
)
from radpool_sv2.federation.committee import MEMBERS_MAX
from radpool_sv2.federation.statement import Echo, Proposal, StateRoot, Vote

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2.federation.committee import Committee

__all__ = [
    "Applied",
    "Checkpointed",
    "Decided",
    "Echoed",
    "Ended",
    "Grown",
    "Proposed",
    "Record",
    "Started",
    "Voted",
    "decode_as",
    "decode_record",
    "encode_record",
    "is_needed",
]

T = TypeVar("T")

ROOT_TAG: Final = Tag("radpool/federation-root")


@dataclass(frozen=True, slots=True)
class Echoed:
    """Says which entry was echoed, with all of it; own entries are echoed by being appended."""

    NUMBER: ClassVar[int] = 1

    entry: Entry

    def body(self) -> bytes:
        """Writes the field."""
        return self.entry.encode()

    @classmethod
    def read(cls, reader: Reader) -> Echoed:
        """Takes the field off a reader."""
        return cls(Entry.read(reader))


@dataclass(frozen=True, slots=True)
class Grown:
    """Says that a stream is certified up to an entry.

    Attributes:
        certificate: Of the last entry.
        entries: Those that had not been echoed here; their numbers need not follow each other.
    """

    NUMBER: ClassVar[int] = 2

    certificate: Certificate
    entries: tuple[Entry, ...]

    def body(self) -> bytes:
        """Writes the fields."""
        return b"".join(
            (
                self.certificate.encode(),
                u8(len(self.entries)),
                *(entry.encode() for entry in self.entries),
            )
        )

    @classmethod
    def read(cls, reader: Reader) -> Grown:
        """Takes the fields off a reader."""
        certificate = Certificate.read(reader)
        if not isinstance(certificate.statement, Echo):
            raise CodecError("a stream grows by a certificate of echoes")
        return cls(certificate, tuple(Entry.read(reader) for _ in range(reader.u8())))


@dataclass(frozen=True, slots=True)
class Proposed:
    """Says what was proposed."""

    NUMBER: ClassVar[int] = 3

    proposal: Proposal
    cut: Cut

    def body(self) -> bytes:
        """Writes the fields."""
        return self.proposal.body() + self.cut.encode()

    @classmethod
    def read(cls, reader: Reader) -> Proposed:
        """Takes the fields off a reader."""
        return cls(Proposal.read(reader), Cut.read(reader))


@dataclass(frozen=True, slots=True)
class Voted:
    """Says how a vote was cast, and on which cut."""

    NUMBER: ClassVar[int] = 4

    vote: Vote
    cut: Cut | None

    def body(self) -> bytes:
        """Writes the fields."""
        return self.vote.body() + encode_cut(self.cut)

    @classmethod
    def read(cls, reader: Reader) -> Voted:
        """Takes the fields off a reader."""
        vote = Vote.read(reader)
        return cls(vote, read_cut(reader, vote))


@dataclass(frozen=True, slots=True)
class Ended(Outcome):
    """Says how a view ended: what is voted on the strength of it must stay provable."""

    NUMBER: ClassVar[int] = 9


@dataclass(frozen=True, slots=True)
class Decided:
    """Says how an epoch was cut."""

    NUMBER: ClassVar[int] = 5

    certificate: Certificate
    cut: Cut

    def body(self) -> bytes:
        """Writes the fields."""
        return self.certificate.encode() + self.cut.encode()

    @classmethod
    def read(cls, reader: Reader) -> Decided:
        """Takes the fields off a reader."""
        return cls(Certificate.read(reader), Cut.read(reader))


@dataclass(frozen=True, slots=True)
class Applied:
    """Says which root the state has behind an epoch; it is signed by being written down."""

    NUMBER: ClassVar[int] = 6

    epoch: int
    root: bytes

    def body(self) -> bytes:
        """Writes the fields."""
        return u32(self.epoch) + self.root

    @classmethod
    def read(cls, reader: Reader) -> Applied:
        """Takes the fields off a reader."""
        return cls(reader.u32(), reader.take(HASH_LEN))


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """Says that a quorum signed a root."""

    NUMBER: ClassVar[int] = 7

    certificate: Certificate

    def body(self) -> bytes:
        """Writes the field."""
        return self.certificate.encode()

    @classmethod
    def read(cls, reader: Reader) -> Checkpointed:
        """Takes the field off a reader."""
        certificate = Certificate.read(reader)
        if not isinstance(certificate.statement, StateRoot):
            raise CodecError("a checkpoint is a certificate of a state root")
        return cls(certificate)


@dataclass(frozen=True, slots=True)
class Started:
    """Stands for all records up to a checkpoint: where a member goes on without them.

    Attributes:
        decided: How many epochs are decided, applied and certified.
        endings: Of each member that has been in a cut: the last epoch that it was in, and where it
            ended; in ascending order of members.
    """

    NUMBER: ClassVar[int] = 8

    decided: int
    endings: tuple[tuple[int, Ending], ...]

    def root(self, state_root: bytes) -> bytes:
        """Computes what a checkpoint signs: the state, and where the streams go on behind it.

        Args:
            state_root: Root of the state behind the last of the decided epochs, 32 bytes.
        """
        return ROOT_TAG.hash(self.body(), state_root)

    def body(self) -> bytes:
        """Writes the fields."""
        parts = [u32(self.decided), u16(len(self.endings))]
        for epoch, ending in self.endings:
            parts += [u32(epoch), u16(ending.member), u64(ending.seq), ending.digest]
        return b"".join(parts)

    @classmethod
    def read(cls, reader: Reader) -> Started:
        """Takes the fields off a reader."""
        decided = reader.u32()
        count = reader.below(2, MEMBERS_MAX + 1, "the number of endings")
        endings = []
        for _ in range(count):
            epoch = reader.u32()
            member = reader.below(2, MEMBERS_MAX, "the member")
            endings.append((epoch, Ending(member, reader.u64(), reader.take(HASH_LEN))))
        for (_, left), (_, right) in pairwise(endings):
            if left.member >= right.member:
                raise CodecError("the members of a start do not stand in ascending order")
        return cls(decided, tuple(endings))


Record: TypeAlias = (
    Echoed | Grown | Proposed | Voted | Ended | Decided | Applied | Checkpointed | Started
)

READERS: Final[dict[int, Callable[[Reader], Record]]] = {
    each.NUMBER: each.read for each in get_args(Record)
}


def encode_record(record: Record) -> bytes:
    """Writes a record: which it is, then its fields."""
    return u8(record.NUMBER) + record.body()


def decode_record(data: bytes, committee: Committee) -> Record:
    """Reads a record of a store.

    Raises:
        CodecError: The bytes are none: the store is damaged, or another program's.
    """
    with Reader(data, committee.id) as reader:
        return read_numbered(reader, READERS, "record")


def decode_as(kind: type[T], data: bytes, committee: Committee) -> T:
    """Reads a record from a place where no other kind is written.

    Raises:
        CodecError: The bytes are no record.
    """
    record = decode_record(data, committee)
    assert isinstance(record, kind), f"nothing but {kind.__name__} is written there"
    return record


def is_needed(record: Record, start: Started) -> bool:  # noqa: PLR0911 - one each
    """Says whether a member that goes on from a start must be given a record behind it."""
    ends = {ending.member: ending.seq + 1 for _, ending in start.endings}
    match record:
        case Echoed(entry):
            return entry.header.seq >= ends.get(entry.header.sender, 0)
        case Grown(certificate, _):
            echo = certificate.statement
            return isinstance(echo, Echo) and echo.seq >= ends.get(echo.sender, 0)
        case Proposed(proposal, _):
            return proposal.epoch >= start.decided
        case Voted(vote, _):
            return vote.epoch >= start.decided
        case Ended(certificate, _):
            ended = certificate.statement
            return isinstance(ended, Vote) and ended.epoch >= start.decided
        case Started():
            return False
        case Decided(_, cut):
            return cut.epoch >= start.decided
        case Applied(epoch, _):
            return epoch >= start.decided
        case Checkpointed(certificate):
            root = certificate.statement
            return isinstance(root, StateRoot) and root.epoch >= start.decided

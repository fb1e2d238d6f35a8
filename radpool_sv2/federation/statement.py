"""Defines what members sign: five kinds of statements, each at most once per slot.

A slot is what a member may say one thing about: an honest member never signs two different
statements of one slot, through crashes and all. So two of them, signed by one member, are evidence
against it, whoever shows them; and a quorum of signatures on one statement is a certificate that no
other statement of the slot can have.

    statement   bytes   signed by      slot
    Header      111     its sender     sender, sequence number
    Echo        106     any member     sender, sequence number
    Proposal     76     the proposer   epoch, view
    Vote         73     any member     epoch, view, phase; SKIP and FINALISE share one
    StateRoot    68     any member     epoch

Source: `spec/13-broadcast.md`, "Statements"; `spec/14-epoch-agreement.md`, "Statements".
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias, get_args

from radpool_sv2.federation.broadcast.payload import PAYLOAD_BYTES_MAX
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

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "NO_HASH",
    "VIEWS_MAX",
    "Echo",
    "Header",
    "Phase",
    "Proposal",
    "StateRoot",
    "Statement",
    "Vote",
    "decode_statement",
    "encode_statement",
]

NO_HASH: Final = bytes(HASH_LEN)

VIEWS_MAX: Final = 1 << 32
NO_VIEW: Final = VIEWS_MAX - 1
"""Stands for the parent of a proposal that has none."""


@dataclass(frozen=True)
class _Statement:
    """Is what all statements have.

    Attributes:
        committee: Id of the committee.
    """

    TAG: ClassVar[Tag]
    NUMBER: ClassVar[int]

    committee: bytes

    @cached_property
    def digest(self) -> bytes:
        """What is signed."""
        return self.TAG.hash(self.encode())

    def may_sign(self, member: int) -> bool:  # noqa: ARG002 - all may; who proposes is agreed upon
        """Says whether a member's signature on it means anything."""
        return True

    def encode(self) -> bytes:
        """Writes the statement."""
        return self.committee + self.body()

    # The class is none of `ABC`: that makes `isinstance` four times as slow.
    @abstractmethod
    def body(self) -> bytes:
        """Writes it without the committee, for where that is known."""


@dataclass(frozen=True)
class Header(_Statement):
    """Describes an entry of a stream; its hash is the entry's digest.

    Attributes:
        sender: The member whose stream it is.
        seq: Its number in the stream, from 0.
        previous: Digest of the entry before; zeros in entry 0.
        kind: What the payload is.
        payload_len: Bytes of the payload.
        payload_digest: Tagged hash of the payload.
    """

    TAG: ClassVar[Tag] = Tag("radpool/federation-entry")
    NUMBER: ClassVar[int] = 1

    sender: int
    seq: int
    previous: bytes
    kind: int
    payload_len: int
    payload_digest: bytes

    @property
    def slot(self) -> tuple[int, ...]:
        """What the sender may sign one header about."""
        return self.sender, self.seq

    def may_sign(self, member: int) -> bool:
        """Says whether a member's signature on it means anything."""
        return member == self.sender

    def body(self) -> bytes:
        """Writes the fields behind the committee."""
        return b"".join(
            (
                u16(self.sender),
                u64(self.seq),
                self.previous,
                u8(self.kind),
                u32(self.payload_len),
                self.payload_digest,
            )
        )

    @classmethod
    def read(cls, reader: Reader) -> Header:
        """Takes a header off a reader."""
        return cls(
            reader.committee_id(),
            reader.below(2, MEMBERS_MAX, "the sender"),
            reader.u64(),
            reader.take(HASH_LEN),
            reader.u8(),
            reader.below(4, PAYLOAD_BYTES_MAX + 1, "the length of the payload"),
            reader.take(HASH_LEN),
        )


@dataclass(frozen=True)
class Echo(_Statement):
    """Says: I hold this entry, and I say so of no other with its number.

    Attributes:
        sender: The member whose stream it is.
        seq: The entry's number.
        previous: Digest of the entry before.
        entry: Digest of the entry.
    """

    TAG: ClassVar[Tag] = Tag("radpool/federation-echo")
    NUMBER: ClassVar[int] = 2

    sender: int
    seq: int
    previous: bytes
    entry: bytes

    @property
    def slot(self) -> tuple[int, ...]:
        """What a member may echo one entry about."""
        return self.sender, self.seq

    def body(self) -> bytes:
        """Writes the fields behind the committee."""
        return b"".join((u16(self.sender), u64(self.seq), self.previous, self.entry))

    @classmethod
    def read(cls, reader: Reader) -> Echo:
        """Takes a statement off a reader."""
        return cls(
            reader.committee_id(),
            reader.below(2, MEMBERS_MAX, "the sender"),
            reader.u64(),
            reader.take(HASH_LEN),
            reader.take(HASH_LEN),
        )


@dataclass(frozen=True)
class Proposal(_Statement):
    """Offers a cut in a view.

    Attributes:
        epoch: The epoch that it would cut.
        view: The view whose proposer signs.
        parent: The last notarised view that the cut is of, or `None` for a cut of its own.
        cut: Digest of the cut.
    """

    TAG: ClassVar[Tag] = Tag("radpool/federation-proposal")
    NUMBER: ClassVar[int] = 3

    epoch: int
    view: int
    parent: int | None
    cut: bytes

    @property
    def slot(self) -> tuple[int, ...]:
        """What a proposer may sign one proposal about."""
        return self.epoch, self.view

    def body(self) -> bytes:
        """Writes the fields behind the committee."""
        parent = NO_VIEW if self.parent is None else self.parent
        return b"".join((u32(self.epoch), u32(self.view), u32(parent), self.cut))

    @classmethod
    def read(cls, reader: Reader) -> Proposal:
        """Takes a statement off a reader."""
        committee, epoch = reader.committee_id(), reader.u32()
        view, parent = reader.below(4, NO_VIEW, "the view"), reader.u32()
        if parent != NO_VIEW and parent >= view:
            raise CodecError(
                f"the parent of a proposal in view {view} is view {parent}, no earlier"
            )
        cut = reader.take(HASH_LEN)
        return cls(committee, epoch, view, None if parent == NO_VIEW else parent, cut)


class Phase(IntEnum):
    """Says what a vote is for."""

    NOTARISE = 0
    """This cut may be decided in this view."""
    SKIP = 1
    """This view has taken too long: I shall not finalise in it."""
    FINALISE = 2
    """A quorum notarised this cut, and I shall not skip this view."""


@dataclass(frozen=True)
class Vote(_Statement):
    """Votes in a view.

    Attributes:
        epoch: The epoch.
        view: The view.
        phase: What for.
        cut: Digest of the cut; zeros for SKIP.
    """

    TAG: ClassVar[Tag] = Tag("radpool/federation-vote")
    NUMBER: ClassVar[int] = 4

    epoch: int
    view: int
    phase: Phase
    cut: bytes

    @property
    def slot(self) -> tuple[int, ...]:
        """What a member may sign one vote about."""
        return self.epoch, self.view, int(self.phase is not Phase.NOTARISE)

    def body(self) -> bytes:
        """Writes the fields behind the committee."""
        return b"".join((u32(self.epoch), u32(self.view), u8(self.phase), self.cut))

    @classmethod
    def read(cls, reader: Reader) -> Vote:
        """Takes a statement off a reader."""
        committee, epoch = reader.committee_id(), reader.u32()
        view = reader.below(4, NO_VIEW, "the view")
        phase = Phase(reader.below(1, len(Phase), "the phase"))
        cut = reader.take(HASH_LEN)
        if (cut == NO_HASH) != (phase is Phase.SKIP):
            raise CodecError("a vote names a cut unless it skips the view")
        return cls(committee, epoch, view, phase, cut)


@dataclass(frozen=True)
class StateRoot(_Statement):
    """Says what the state is behind an epoch.

    Attributes:
        epoch: The epoch.
        root: Root of the state.
    """

    TAG: ClassVar[Tag] = Tag("radpool/federation-state")
    NUMBER: ClassVar[int] = 5

    epoch: int
    root: bytes

    @property
    def slot(self) -> tuple[int, ...]:
        """What a member may sign one root about."""
        return (self.epoch,)

    def body(self) -> bytes:
        """Writes the fields behind the committee."""
        return b"".join((u32(self.epoch), self.root))

    @classmethod
    def read(cls, reader: Reader) -> StateRoot:
        """Takes a statement off a reader."""
        return cls(reader.committee_id(), reader.u32(), reader.take(HASH_LEN))


Statement: TypeAlias = Header | Echo | Proposal | Vote | StateRoot

READERS: Final[dict[int, Callable[[Reader], Statement]]] = {
    each.NUMBER: each.read for each in get_args(Statement)
}


def encode_statement(statement: Statement, *, whole: bool = False) -> bytes:
    """Writes which kind of statement it is, then the statement.

    Args:
        statement: What is written.
        whole: Whether its committee is written too: not where a link or a store has only one.
    """
    body = statement.body()
    return u8(statement.NUMBER) + (statement.committee + body if whole else body)


def decode_statement(reader: Reader) -> Statement:
    """Takes a statement of any kind off a reader, which may know the committee.

    Raises:
        CodecError: The bytes are none.
    """
    return read_numbered(reader, READERS, "statement")

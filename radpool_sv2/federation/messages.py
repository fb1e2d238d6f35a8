"""Defines what links between members carry.

A link belongs to one committee and one peer, both known from its handshake, so no message repeats
them. What a peer says of itself is believed only as far as it concerns itself; everything else
carries its author's signature.

    SYNC          what the sender of the message has, when a link has come up
    ENTRY         an entry of the peer's own stream
    SAID          a signed echo, vote or state root of the peer
    READY         streams that have grown at the peer: it can prove it
    PULL          a wish for certified entries;      ENTRIES answers it
    PROPOSE       a cut
    NOTARISED     a certificate of votes, and its cut
    PULL_EPOCHS   a wish for decisions;              EPOCHS answers it
    GONE          answers a wish for what the peer keeps no more

Source: `spec/13-broadcast.md`, "Messages"; `spec/14-epoch-agreement.md`, "Messages".
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias, get_args

from radpool_sv2.federation.agreement.mark import Cut
from radpool_sv2.federation.agreement.outcome import Outcome
from radpool_sv2.federation.broadcast.entry import Entry, SignedHeader
from radpool_sv2.federation.broadcast.payload import PAYLOAD_BYTES_MAX
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.codec import (
    HASH_LEN,
    SIGNATURE_LEN,
    CodecError,
    Reader,
    read_numbered,
    u8,
    u16,
    u32,
    u64,
)
from radpool_sv2.federation.committee import MEMBERS_MAX
from radpool_sv2.federation.statement import (
    Echo,
    Phase,
    Proposal,
    StateRoot,
    Vote,
    decode_statement,
    encode_statement,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2.federation.committee import Committee

__all__ = [
    "ENTRIES_BYTES_MAX",
    "ENTRIES_MAX",
    "EPOCHS_PER_MESSAGE_MAX",
    "MESSAGE_BYTES_MAX",
    "DecidedEpoch",
    "Entries",
    "Epochs",
    "Gone",
    "Head",
    "Message",
    "Notarised",
    "Propose",
    "Pull",
    "PullEpochs",
    "Ready",
    "Said",
    "SentEntry",
    "Sync",
    "decode_message",
    "encode_message",
    "entries_bytes",
]

MESSAGE_BYTES_MAX: Final = 4 << 20
"""Four entries of the greatest size, or the answer to a pull."""

ENTRIES_MAX: Final = 64
EPOCHS_PER_MESSAGE_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Head:
    """Says how far a stream is certified: how many entries, and the digest of the last."""

    sender: int
    count: int
    digest: bytes

    def encode(self) -> bytes:
        """Writes it, 42 bytes."""
        return u16(self.sender) + u64(self.count) + self.digest

    @classmethod
    def read(cls, reader: Reader) -> Head:
        """Takes it off a reader."""
        return cls(reader.below(2, MEMBERS_MAX, "the sender"), reader.u64(), reader.take(HASH_LEN))


@dataclass(frozen=True, slots=True)
class Sync:
    """Opens a link.

    Attributes:
        heads: Of every stream that is not empty, in ascending order of senders.
        decided: How many epochs are decided.
        certified: How many of them have a certified state root.
        latest_of_yours: The entry of the peer's own stream with the highest number that the
            sender of the message has echoed: a peer that does not know it has lost its store.
    """

    NUMBER: ClassVar[int] = 1

    heads: tuple[Head, ...]
    decided: int
    certified: int
    latest_of_yours: SignedHeader | None

    def body(self) -> bytes:
        """Writes the fields."""
        latest = self.latest_of_yours
        return b"".join(
            (
                _encode_heads(self.heads),
                u32(self.decided),
                u32(self.certified),
                b"\0" if latest is None else b"\1" + latest.encode(),
            )
        )

    @classmethod
    def read(cls, reader: Reader) -> Sync:
        """Takes the fields off a reader."""
        heads = _read_heads(reader)
        decided, certified = reader.u32(), reader.u32()
        latest = SignedHeader.read(reader) if reader.flag("whether an entry follows") else None
        return cls(heads, decided, certified, latest)


@dataclass(frozen=True, slots=True)
class SentEntry:
    """Carries an entry of the peer's own stream."""

    NUMBER: ClassVar[int] = 2

    entry: Entry

    def body(self) -> bytes:
        """Writes the fields."""
        return self.entry.encode()

    @classmethod
    def read(cls, reader: Reader) -> SentEntry:
        """Takes the fields off a reader."""
        return cls(Entry.read(reader))


@dataclass(frozen=True, slots=True)
class Said:
    """Carries an echo, a vote or a state root with the peer's signature."""

    NUMBER: ClassVar[int] = 3

    statement: Echo | Vote | StateRoot
    signature: bytes

    def body(self) -> bytes:
        """Writes the fields."""
        return encode_statement(self.statement) + self.signature

    @classmethod
    def read(cls, reader: Reader) -> Said:
        """Takes the fields off a reader."""
        statement = decode_statement(reader)
        if not isinstance(statement, Echo | Vote | StateRoot):
            raise CodecError("a header or a proposal does not travel by itself")
        return cls(statement, reader.take(SIGNATURE_LEN))


@dataclass(frozen=True, slots=True)
class Ready:
    """Says which streams have grown, and how many epochs are decided and certified."""

    NUMBER: ClassVar[int] = 4

    heads: tuple[Head, ...]
    decided: int
    certified: int

    def body(self) -> bytes:
        """Writes the fields."""
        return _encode_heads(self.heads) + u32(self.decided) + u32(self.certified)

    @classmethod
    def read(cls, reader: Reader) -> Ready:
        """Takes the fields off a reader."""
        return cls(_read_heads(reader), reader.u32(), reader.u32())


@dataclass(frozen=True, slots=True)
class Pull:
    """Asks for the certified entries of a stream from a number on."""

    NUMBER: ClassVar[int] = 5

    sender: int
    first: int

    def body(self) -> bytes:
        """Writes the fields."""
        return u16(self.sender) + u64(self.first)

    @classmethod
    def read(cls, reader: Reader) -> Pull:
        """Takes the fields off a reader."""
        return cls(reader.below(2, MEMBERS_MAX, "the sender"), reader.u64())


@dataclass(frozen=True, slots=True)
class Entries:
    """Carries entries of one stream in order, and the certificate of the last one."""

    NUMBER: ClassVar[int] = 6

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
    def read(cls, reader: Reader) -> Entries:
        """Takes the fields off a reader."""
        certificate = Certificate.read(reader)
        if not isinstance(certificate.statement, Echo):
            raise CodecError("entries come with a certificate of echoes")
        count = reader.below(1, ENTRIES_MAX + 1, "the number of entries")
        if count == 0:
            raise CodecError("an answer without entries")
        entries = tuple(Entry.read(reader) for _ in range(count))
        if sum(map(entries_bytes, entries)) > ENTRIES_BYTES_MAX:
            raise CodecError(f"the entries of an answer have more than {ENTRIES_BYTES_MAX} bytes")
        return cls(certificate, entries)


@dataclass(frozen=True, slots=True)
class Propose:
    """Carries a proposal, its proposer's signature and its cut."""

    NUMBER: ClassVar[int] = 7

    proposal: Proposal
    signature: bytes
    cut: Cut

    def body(self) -> bytes:
        """Writes the fields."""
        return self.proposal.body() + self.signature + self.cut.encode()

    @classmethod
    def read(cls, reader: Reader) -> Propose:
        """Takes the fields off a reader."""
        return cls(Proposal.read(reader), reader.take(SIGNATURE_LEN), Cut.read(reader))


@dataclass(frozen=True, slots=True)
class Notarised(Outcome):
    """Carries how a view ended: a certificate of votes, and its cut unless it was skipped."""

    NUMBER: ClassVar[int] = 8


@dataclass(frozen=True, slots=True)
class PullEpochs:
    """Asks for decisions and certified roots from an epoch on."""

    NUMBER: ClassVar[int] = 9

    first: int

    def body(self) -> bytes:
        """Writes the field."""
        return u32(self.first)

    @classmethod
    def read(cls, reader: Reader) -> PullEpochs:
        """Takes the field off a reader."""
        return cls(reader.u32())


@dataclass(frozen=True, slots=True)
class DecidedEpoch:
    """Is a decided epoch: its cut, a certificate of FINALISE votes, and of its root if there is."""

    decision: Certificate
    cut: Cut
    checkpoint: Certificate | None

    def encode(self) -> bytes:
        """Writes the fields."""
        root = self.checkpoint
        return b"".join(
            (
                self.decision.encode(),
                self.cut.encode(),
                b"\0" if root is None else b"\1" + root.encode(),
            )
        )

    @classmethod
    def read(cls, reader: Reader) -> DecidedEpoch:
        """Takes the fields off a reader."""
        decision = Certificate.read(reader)
        vote = decision.statement
        if not isinstance(vote, Vote) or vote.phase is not Phase.FINALISE:
            raise CodecError("an epoch is decided by a certificate of FINALISE votes")
        cut = Cut.read(reader)
        if cut.epoch != vote.epoch:
            raise CodecError("the cut of a decided epoch is of another epoch")
        if not reader.flag("whether a root follows"):
            return cls(decision, cut, None)
        checkpoint = Certificate.read(reader)
        root = checkpoint.statement
        if not isinstance(root, StateRoot) or root.epoch != vote.epoch:
            raise CodecError("the root of a decided epoch is of another epoch, or none")
        return cls(decision, cut, checkpoint)


@dataclass(frozen=True, slots=True)
class Epochs:
    """Carries decided epochs one behind the other."""

    NUMBER: ClassVar[int] = 10

    epochs: tuple[DecidedEpoch, ...]

    def body(self) -> bytes:
        """Writes the fields."""
        return u8(len(self.epochs)) + b"".join(each.encode() for each in self.epochs)

    @classmethod
    def read(cls, reader: Reader) -> Epochs:
        """Takes the fields off a reader."""
        count = reader.below(1, EPOCHS_PER_MESSAGE_MAX + 1, "the number of epochs")
        epochs = tuple(DecidedEpoch.read(reader) for _ in range(count))
        for number, each in enumerate(epochs, epochs[0].cut.epoch if epochs else 0):
            if each.cut.epoch != number:
                raise CodecError("the epochs of an answer do not follow each other")
        if not epochs:
            raise CodecError("an answer without epochs")
        return cls(epochs)


@dataclass(frozen=True, slots=True)
class Gone:
    """Says that what was asked for is older than anything that the peer keeps.

    Attributes:
        first_epoch: The first epoch that it keeps.
    """

    NUMBER: ClassVar[int] = 11

    first_epoch: int

    def body(self) -> bytes:
        """Writes the field."""
        return u32(self.first_epoch)

    @classmethod
    def read(cls, reader: Reader) -> Gone:
        """Takes the field off a reader."""
        return cls(reader.u32())


Message: TypeAlias = (
    Sync
    | SentEntry
    | Said
    | Ready
    | Pull
    | Entries
    | Propose
    | Notarised
    | PullEpochs
    | Epochs
    | Gone
)

READERS: Final[dict[int, Callable[[Reader], Message]]] = {
    each.NUMBER: each.read for each in get_args(Message)
}


def encode_message(message: Message) -> bytes:
    """Writes a message: which it is, then its fields."""
    return u8(message.NUMBER) + message.body()


def decode_message(data: bytes, committee: Committee) -> Message:
    """Reads a message of a link.

    Raises:
        CodecError: The bytes are none. Members and signers are bounded by what a committee can
            have, not by what this one has.
    """
    if len(data) > MESSAGE_BYTES_MAX:
        raise CodecError(f"a message of {len(data)} bytes; {MESSAGE_BYTES_MAX} is the most")
    with Reader(data, committee.id) as reader:
        return read_numbered(reader, READERS, "message")


def entries_bytes(entry: Entry) -> int:
    """Returns what an entry adds to an answer."""
    return len(entry.payload) + ENTRY_HEAD_BYTES


ENTRY_HEAD_BYTES: Final = 79 + SIGNATURE_LEN
"""A header without its committee, and its signature."""

ENTRIES_BYTES_MAX: Final = MESSAGE_BYTES_MAX - (1 << 16)
"""What entries of an answer may have together; the rest is for the certificate."""

assert PAYLOAD_BYTES_MAX + ENTRY_HEAD_BYTES <= ENTRIES_BYTES_MAX


def _encode_heads(heads: tuple[Head, ...]) -> bytes:
    return u8(len(heads)) + b"".join(head.encode() for head in heads)


def _read_heads(reader: Reader) -> tuple[Head, ...]:
    count = reader.below(1, MEMBERS_MAX + 1, "the number of streams")
    heads = tuple(Head.read(reader) for _ in range(count))
    for left, right in pairwise(heads):
        if left.sender >= right.sender:
            raise CodecError("the streams of a message do not stand in ascending order, each once")
    return heads

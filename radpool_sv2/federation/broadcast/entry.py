"""Defines entries of streams, and places between them.

Source: `spec/13-broadcast.md`, "Entries".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2.federation.agreement.mark import Mark
from radpool_sv2.federation.broadcast.payload import ENTRY_OVERHEAD, Kind, payload_digest
from radpool_sv2.federation.codec import SIGNATURE_LEN, CodecError, Reader
from radpool_sv2.federation.statement import NO_HASH, Header

if TYPE_CHECKING:
    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.identity import Signer

__all__ = ["START", "Entry", "Position", "SignedHeader"]


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """Is a header with its sender's signature."""

    header: Header
    signature: bytes

    def encode(self) -> bytes:
        """Writes both, 143 bytes."""
        return self.header.body() + self.signature

    @classmethod
    def read(cls, reader: Reader) -> SignedHeader:
        """Takes both off a reader."""
        return cls(Header.read(reader), reader.take(SIGNATURE_LEN))


@dataclass(frozen=True, slots=True)
class Entry:
    """Is a header with its sender's signature and the payload that it describes."""

    header: Header
    signature: bytes
    payload: bytes

    @classmethod
    def sign(
        cls,
        committee: Committee,
        sender: int,
        signer: Signer,
        position: Position,
        content: tuple[int, bytes],
    ) -> Entry:
        """Makes the entry behind a place in the own stream.

        Args:
            committee: The committee.
            sender: The own number in it.
            signer: The own identity key.
            position: The place.
            content: Kind and payload.
        """
        kind, payload = content
        header = Header(
            committee.id,
            sender,
            position.count,
            position.digest,
            kind,
            len(payload),
            payload_digest(payload),
        )
        return cls(header, signer.sign(header.digest), payload)

    @property
    def signed_header(self) -> SignedHeader:
        """The entry without its payload."""
        return SignedHeader(self.header, self.signature)

    def encode(self) -> bytes:
        """Writes all three; the header has the payload's length."""
        return self.header.body() + self.signature + self.payload

    @classmethod
    def read(cls, reader: Reader) -> Entry:
        """Takes all three off a reader; the signature is not checked.

        Raises:
            CodecError: The payload is not what the header describes, or the bytes end early.
        """
        header = Header.read(reader)
        signature = reader.take(SIGNATURE_LEN)
        payload = reader.take(header.payload_len)
        if payload_digest(payload) != header.payload_digest:
            raise CodecError(
                f"the payload of entry {header.seq} of member {header.sender} is not the one that "
                "its header names"
            )
        return cls(header, signature, payload)


@dataclass(frozen=True, slots=True)
class Position:
    """Is a place between two entries of a stream, with what the rules need of all before it.

    Attributes:
        count: Entries before it; the number of the next one.
        digest: Digest of the last of them.
        segment_bytes: What the entries behind the last mark count in the budget.
        marks: One more than the epoch of the last mark; 0 before the first.
    """

    count: int
    digest: bytes
    segment_bytes: int
    marks: int

    def after(self, entry: Entry) -> Position:
        """Returns the place behind one more entry."""
        header = entry.header
        if header.kind == Kind.EPOCH_MARK:
            try:
                mark = Mark.decode(entry.payload)
            except CodecError:
                # No quorum of honest members lets this pass; it counts as any other entry then.
                pass
            else:
                return Position(self.count + 1, header.digest, 0, mark.epoch + 1)
        size = self.segment_bytes + header.payload_len + ENTRY_OVERHEAD
        return Position(self.count + 1, header.digest, size, self.marks)


START: Final = Position(0, NO_HASH, 0, 0)

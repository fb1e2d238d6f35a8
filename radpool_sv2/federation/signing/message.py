"""Defines what members send each other to sign. Their numbers begin where those of others end.

Source: `spec/16-threshold-keys.md`, "Messages".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias, get_args

from radpool_sv2.federation.codec import HASH_LEN, SIGNATURE_LEN, Reader, read_numbered, u8, u64
from radpool_sv2.federation.signing.evidence import (
    SignedShare,
    Signers,
    encode_signers,
    read_commitment,
    read_signers,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2._native.threshold import Commitment

__all__ = [
    "FIRST_NUMBER",
    "Ask",
    "Commit",
    "Done",
    "Invite",
    "Open",
    "Share",
    "SigningMessage",
    "decode_signing",
    "encode_signing",
    "is_signing",
]

FIRST_NUMBER: Final = 64
"""The first byte of a message on a link that is one of these is at least this."""


@dataclass(frozen=True, slots=True)
class Share:
    """Carries a share; in ROAST to the coordinator, with a commitment for its next session."""

    NUMBER: ClassVar[int] = 64

    task: bytes
    number: int
    signed: SignedShare
    following: Commitment | None

    def body(self) -> bytes:
        """Writes the fields."""
        following = b"\0" if self.following is None else b"\1" + self.following.encode()
        return self.task + u64(self.number) + self.signed.encode() + following

    @classmethod
    def read(cls, reader: Reader) -> Share:
        """Takes the fields off a reader."""
        task, number, signed = reader.take(HASH_LEN), reader.u64(), SignedShare.read(reader)
        is_there = reader.flag("whether a commitment follows")
        return cls(task, number, signed, read_commitment(reader) if is_there else None)


@dataclass(frozen=True, slots=True)
class Invite:
    """Asks for a commitment: the sender coordinates."""

    NUMBER: ClassVar[int] = 65

    task: bytes

    def body(self) -> bytes:
        """Writes the field."""
        return self.task

    @classmethod
    def read(cls, reader: Reader) -> Invite:
        """Takes the field off a reader."""
        return cls(reader.take(HASH_LEN))


@dataclass(frozen=True, slots=True)
class Commit:
    """Gives a coordinator a commitment that nobody else is given."""

    NUMBER: ClassVar[int] = 66

    task: bytes
    commitment: Commitment

    def body(self) -> bytes:
        """Writes the fields."""
        return self.task + self.commitment.encode()

    @classmethod
    def read(cls, reader: Reader) -> Commit:
        """Takes the fields off a reader."""
        return cls(reader.take(HASH_LEN), read_commitment(reader))


@dataclass(frozen=True, slots=True)
class Open:
    """Opens a session."""

    NUMBER: ClassVar[int] = 67

    task: bytes
    number: int
    signers: Signers

    def body(self) -> bytes:
        """Writes the fields."""
        return self.task + u64(self.number) + encode_signers(self.signers)

    @classmethod
    def read(cls, reader: Reader) -> Open:
        """Takes the fields off a reader."""
        return cls(reader.take(HASH_LEN), reader.u64(), read_signers(reader))


@dataclass(frozen=True, slots=True)
class Done:
    """Carries a signature; it speaks for itself."""

    NUMBER: ClassVar[int] = 68

    task: bytes
    signature: bytes

    def body(self) -> bytes:
        """Writes the fields."""
        return self.task + self.signature

    @classmethod
    def read(cls, reader: Reader) -> Done:
        """Takes the fields off a reader."""
        return cls(reader.take(HASH_LEN), reader.take(SIGNATURE_LEN))


@dataclass(frozen=True, slots=True)
class Ask:
    """Asks for a signature, if the peer has it."""

    NUMBER: ClassVar[int] = 69

    task: bytes

    def body(self) -> bytes:
        """Writes the field."""
        return self.task

    @classmethod
    def read(cls, reader: Reader) -> Ask:
        """Takes the field off a reader."""
        return cls(reader.take(HASH_LEN))


SigningMessage: TypeAlias = Share | Invite | Commit | Open | Done | Ask

READERS: Final[dict[int, Callable[[Reader], SigningMessage]]] = {
    each.NUMBER: each.read for each in get_args(SigningMessage)
}


def is_signing(data: bytes) -> bool:
    """Says whether a message of a link is for `decode_signing`, not for `decode_message`."""
    return data[:1] >= u8(FIRST_NUMBER)


def encode_signing(message: SigningMessage) -> bytes:
    """Writes a message: which it is, then its fields."""
    return u8(message.NUMBER) + message.body()


def decode_signing(data: bytes) -> SigningMessage:
    """Reads a message of a link.

    Raises:
        CodecError: The bytes are none.
    """
    with Reader(data) as reader:
        return read_numbered(reader, READERS, "message about signing")

"""Defines what members tell of their owners: registrations that both sides have signed.

The books have nothing of them. Whoever reads a stream checks them, and notices when a member has
told something else before.

Source: `spec/11-owner-registration.md`, "In a federation".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from radpool_sv2.federation.codec import (
    HASH_LEN,
    KEY_LEN,
    SIGNATURE_LEN,
    CodecError,
    Reader,
    Tag,
    u8,
    u16,
    u32,
    u64,
)
from radpool_sv2.federation.identity import Bip340Verifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radpool_sv2.federation.identity import Verifier

__all__ = [
    "REGISTRATIONS_MAX",
    "REGISTRATION_BYTES",
    "RegisterCheck",
    "RegistrationFault",
    "SignedRegistration",
    "decode_registrations",
    "encode_registrations",
]

REGISTRATION_TAG: Final = Tag("radpool/owner-registration")

REGISTRATION_BYTES: Final = 3 * 32 + 1 + 4 + 8 + 2 * 64

REGISTRATIONS_MAX: Final = 256
"""Sixty kilobytes: more in one payload would hold up a batch."""

ACCOUNT_RAIL: Final = 0


class RegistrationFault(IntEnum):
    """Says why a payload of registrations is false."""

    FORM = 1
    KEY = 2
    """It is another MSP's."""
    SIGNATURE = 3
    TWICE = 4
    """Number, miner key or commitment has been told with something else."""


@dataclass(frozen=True, slots=True)
class SignedRegistration:
    """Is a registration with both signatures.

    Attributes:
        msp_key: The MSP's x-only key, 32 bytes.
        miner_key: The miner's, 32 bytes.
        commitment: What owner tags commit to, 32 bytes.
        epoch: The MSP's epoch that was open.
        number: Its number in the register.
        msp_signature: The MSP's signature, 64 bytes.
        miner_signature: The miner's, 64 bytes.
    """

    msp_key: bytes
    miner_key: bytes
    commitment: bytes
    epoch: int
    number: int
    msp_signature: bytes
    miner_signature: bytes

    def statement(self) -> bytes:
        """Writes what both sides sign the hash of, 109 bytes."""
        numbers = u8(ACCOUNT_RAIL) + u32(self.epoch) + u64(self.number)
        return self.msp_key + self.miner_key + self.commitment + numbers

    def encode(self) -> bytes:
        """Writes the registration, 237 bytes."""
        return self.statement() + self.msp_signature + self.miner_signature

    @classmethod
    def read(cls, reader: Reader) -> SignedRegistration:
        """Takes a registration off a reader."""
        msp_key, miner_key = reader.take(KEY_LEN), reader.take(KEY_LEN)
        commitment = reader.take(HASH_LEN)
        if (rail := reader.u8()) != ACCOUNT_RAIL:
            raise CodecError(f"owners of rail {rail} are not registered")
        epoch, number = reader.u32(), reader.u64()
        signatures = reader.take(SIGNATURE_LEN), reader.take(SIGNATURE_LEN)
        return cls(msp_key, miner_key, commitment, epoch, number, *signatures)

    def is_signed(self, verifier: Verifier) -> bool:
        """Says whether both signatures are true."""
        signed = REGISTRATION_TAG.hash(self.statement())
        return verifier.is_signed(self.msp_key, signed, self.msp_signature) and (
            verifier.is_signed(self.miner_key, signed, self.miner_signature)
        )


def encode_registrations(registrations: Sequence[SignedRegistration]) -> bytes:
    """Writes registrations for one payload: 1 to `REGISTRATIONS_MAX`."""
    return u16(len(registrations)) + b"".join(each.encode() for each in registrations)


def decode_registrations(data: bytes) -> list[SignedRegistration]:
    """Reads registrations; signatures are not checked.

    Raises:
        CodecError: The bytes are no list of them.
    """
    with Reader(data) as reader:
        count = reader.u16()
        if not 1 <= count <= REGISTRATIONS_MAX:
            raise CodecError(f"{count} registrations: a payload has 1 to {REGISTRATIONS_MAX}")
        return [SignedRegistration.read(reader) for _ in range(count)]


class RegisterCheck:
    """Checks what one member tells of its owners, in the order of its stream.

    Args:
        msp_key: The member's key, 32 bytes.
    """

    def __init__(self, msp_key: bytes) -> None:
        self._msp_key = msp_key
        self._verifier = Bip340Verifier()
        self._of: tuple[dict[object, SignedRegistration], ...] = ({}, {}, {})

    @property
    def count(self) -> int:
        """How many registrations it has told; one that is told again is the same."""
        return len(self._of[0])

    def take(self, payload: bytes) -> RegistrationFault | None:
        """Takes a payload in; returns what is false about it, of which nothing counts then."""
        try:
            told = decode_registrations(payload)
        except CodecError:
            return RegistrationFault.FORM
        if any(each.msp_key != self._msp_key for each in told):
            return RegistrationFault.KEY
        if not all(each.is_signed(self._verifier) for each in told):
            return RegistrationFault.SIGNATURE
        new: tuple[dict[object, SignedRegistration], ...] = ({}, {}, {})
        for each in told:
            names = (each.number, each.miner_key, each.commitment)
            for known, added, name in zip(self._of, new, names, strict=True):
                before = known.get(name) or added.setdefault(name, each)
                if before.statement() != each.statement():
                    return RegistrationFault.TWICE
        for known, added in zip(self._of, new, strict=True):
            known.update(added)
        return None

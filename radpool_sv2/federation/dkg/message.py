"""Defines what members append to their streams to generate a key.

Source: `spec/16-threshold-keys.md`, "Over the broadcast".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from radpool_sv2.federation.codec import CodecError, Reader, u8, u32

__all__ = ["KeyMessage", "Step"]

HEAD_LEN: Final = 6

BODY_BYTES_MAX: Final = 1 << 15
"""More than any message has; of a longer one as much is kept as shows that it is none."""


class Step(IntEnum):
    """Says what a message is."""

    FIRST = 1
    SECOND = 2
    SIGNATURE = 3
    """The identity key's, on the certificate."""
    COMPLAINT = 4


@dataclass(frozen=True, slots=True)
class KeyMessage:
    """Is a payload of kind KEY_GENERATION.

    Attributes:
        purpose: What the key is for.
        attempt: Of which attempt it is.
        step: What the body is.
        body: The message of the run, the signature or the complaint.
    """

    purpose: int
    attempt: int
    step: Step
    body: bytes

    def encode(self) -> bytes:
        """Writes the payload."""
        return u8(self.purpose) + u32(self.attempt) + u8(self.step) + self.body

    @classmethod
    def decode(cls, data: bytes) -> KeyMessage:
        """Reads a payload; the body is not looked at.

        Raises:
            CodecError: The bytes are none.
        """
        reader = Reader(data)
        purpose, attempt, number = reader.u8(), reader.u32(), reader.u8()
        if not Step.FIRST <= number <= Step.COMPLAINT:
            raise CodecError(f"{number} is no step of a key generation")
        return cls(purpose, attempt, Step(number), data[HEAD_LEN : HEAD_LEN + BODY_BYTES_MAX])

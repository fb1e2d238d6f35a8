"""Writes and reads owner outputs: whose a job's shares are, and what each is worth.

Source: `spec/02-owner-tag.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2.units import EXPONENT_MAX, tagged_hash

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radpool_sv2.templates.declared import Owner

__all__ = ["OwnerTag", "is_owner_script", "owner_script"]

_START: Final = b"\x6a\x26RADP"
_VERSION: Final = 1
_SCRIPT_LEN: Final = 40


@dataclass(frozen=True, slots=True)
class OwnerTag:
    """Is what a tag says besides its owner."""

    epoch: int
    exponent: int

    @classmethod
    def read(
        cls, script: bytes, msp_key: bytes, owner: Owner, epochs: Iterable[int]
    ) -> OwnerTag | None:
        """Reads a script as the tag of an owner, or returns None when it is none.

        Args:
            script: The script of an owner output.
            msp_key: The pool's x-only key, 32 bytes.
            owner: Whose tag it should be.
            epochs: Those of which it may be.
        """
        if len(script) != _SCRIPT_LEN or script[7] > EXPONENT_MAX:
            return None
        exponent = script[7]
        for epoch in epochs:
            if script == owner_script(msp_key, owner, epoch, exponent):
                return cls(epoch, exponent)
        return None


def is_owner_script(script: bytes) -> bool:
    """Says whether an output counts as an owner output, whatever is in it."""
    return script.startswith(_START)


def owner_script(msp_key: bytes, owner: Owner, epoch: int, exponent: int) -> bytes:
    """Writes the script of an owner output, 40 bytes."""
    binding = tagged_hash(
        "radpool/owner",
        msp_key,
        owner.commitment,
        epoch.to_bytes(4, "little"),
        bytes([owner.rail, exponent]),
    )
    return _START + bytes([_VERSION << 4 | owner.rail, exponent]) + binding

"""Checks what members of a federation tell of their owners: form, both signatures, no two of one.

Source: `spec/11-owner-registration.md`, "In a federation".
"""

from __future__ import annotations

from radpool_sv2.verify.bip340 import is_signed_by
from radpool_sv2.verify.reader import Reader, TruncatedError
from radpool_sv2.verify.register import RAIL, registration_hash

__all__ = ["ToldOwners"]

FORM, KEY, SIGNATURE, TWICE = range(1, 5)
COUNT_MAX = 256

Told = tuple[bytes, bytes, bytes, int, int, bytes, bytes]
"""MSP key, miner key, commitment, epoch, number, and the signatures of MSP and miner."""


class ToldOwners:
    """Is what one member has told.

    Args:
        msp_key: The member's key, 32 bytes.
    """

    def __init__(self, msp_key: bytes) -> None:
        self._msp_key = msp_key
        self._numbers: dict[int, bytes] = {}
        self._names: dict[tuple[int, bytes], int] = {}

    @property
    def count(self) -> int:
        """How many registrations it has told; one that is told again is the same."""
        return len(self._numbers)

    def take(self, payload: bytes) -> int:
        """Takes a payload in; returns what is false about it, 0 if nothing is."""
        try:
            told = _read(payload)
        except TruncatedError:
            return FORM
        if any(each[0] != self._msp_key for each in told):
            return KEY
        if not all(map(_is_signed, told)):
            return SIGNATURE
        return self._add(told)

    def _add(self, told: list[Told]) -> int:
        """Adds all of them, or none if one contradicts what is known."""
        numbers: dict[int, bytes] = {}
        names: dict[tuple[int, bytes], int] = {}
        for _, miner_key, commitment, epoch, number, *_ in told:
            message = registration_hash(self._msp_key, miner_key, commitment, epoch, number)
            before = self._numbers.get(number) or numbers.setdefault(number, message)
            if before != message:
                return TWICE
            for name in ((0, miner_key), (1, commitment)):
                holder = (
                    self._names[name] if name in self._names else names.setdefault(name, number)
                )
                if holder != number:
                    return TWICE
        self._numbers |= numbers
        self._names |= names
        return 0


def _is_signed(told: Told) -> bool:
    msp_key, miner_key, *_, by_msp, by_miner = told
    message = registration_hash(*told[:5])
    return is_signed_by(msp_key, message, by_msp) and is_signed_by(miner_key, message, by_miner)


def _read(payload: bytes) -> list[Told]:
    """Reads registrations.

    Raises:
        TruncatedError: The bytes are no list of them.
    """
    reader = Reader(payload)
    count = reader.number(2)
    if not 1 <= count <= COUNT_MAX:
        raise TruncatedError
    told = []
    for _ in range(count):
        msp_key, miner_key, commitment = reader.take(32), reader.take(32), reader.take(32)
        rail, epoch, number = reader.number(1), reader.number(4), reader.number(8)
        if rail != RAIL:
            raise TruncatedError
        row = msp_key, miner_key, commitment, epoch, number, reader.take(64), reader.take(64)
        told.append(row)
    if reader.left:
        raise TruncatedError
    return told

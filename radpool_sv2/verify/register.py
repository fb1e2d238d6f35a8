"""Checks a pool's register of owners: which miner keys own which commitments, by both signatures.

A register comes as the pages of `/api/v1/registrations`. With it anybody tells whose shares are
those of an export, or a single share whose owner output is at hand (`receipt.find_owner`).

Source: `spec/11-owner-registration.md`, "Registration", "Register", "Whose a share is".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from radpool_sv2.errors import FaultyMSPError, LocalProtocolError
from radpool_sv2.units import tagged_hash
from radpool_sv2.verify.bip340 import is_signed_by
from radpool_sv2.verify.field import natural, octets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = ["RAIL", "RegisteredOwner", "read_register", "registration_hash"]

RAIL = 0
"""Registered owners are paid to their account."""

NUMBER_MAX = 2**64 - 1
EPOCH_MAX = 2**32 - 1


@dataclass(frozen=True, slots=True)
class RegisteredOwner:
    """Is an entry of a register.

    Attributes:
        number: Its number.
        miner_key: The miner's x-only key, 32 bytes.
        commitment: What owner tags commit to, 32 bytes.
        epoch: The epoch that was open when the key was registered.
        is_countersigned: Whether the miner has signed it too; otherwise it says nothing of them.
    """

    number: int
    miner_key: bytes
    commitment: bytes
    epoch: int
    is_countersigned: bool


def registration_hash(
    msp_key: bytes, miner_key: bytes, commitment: bytes, epoch: int, number: int
) -> bytes:
    """Computes what both sides of a registration sign."""
    numbers = bytes([RAIL]) + epoch.to_bytes(4, "little") + number.to_bytes(8, "little")
    return tagged_hash("radpool/owner-registration", msp_key, miner_key, commitment, numbers)


def read_register(files: Sequence[Path]) -> tuple[bytes, Mapping[bytes, RegisteredOwner]]:
    """Reads the pages of a register and checks every signature.

    Returns:
        The MSP's key, and the owners by their commitments.

    Raises:
        LocalProtocolError: A file is no page of a register, or of another MSP than the first.
        FaultyMSPError: A signature is not true, or one key or commitment is registered twice.
    """
    owners: dict[bytes, RegisteredOwner] = {}
    keys: set[bytes] = set()
    for file in files:
        for row in _rows(file):
            try:
                msp_key, owner = _owner(row)
            except (ValueError, KeyError, TypeError) as error:
                raise LocalProtocolError(f"{file}: no registration: {error}") from error
            keys.add(msp_key)
            if owners.setdefault(owner.commitment, owner) != owner:
                raise FaultyMSPError(f"{file}: two owners of one commitment", msp_key.hex())
    if len(keys) != 1:
        what = "of several MSPs" if keys else "empty"
        raise LocalProtocolError(f"{', '.join(map(str, files))}: the register is {what}")
    [msp_key] = keys
    _check_unique(msp_key, owners.values())
    return msp_key, owners


def _check_unique(msp_key: bytes, owners: Iterable[RegisteredOwner]) -> None:
    numbers: set[int] = set()
    miner_keys: set[bytes] = set()
    for owner in owners:
        if owner.number in numbers or owner.miner_key in miner_keys:
            raise FaultyMSPError(
                f"registration {owner.number}: its number or miner key stands there twice",
                msp_key.hex(),
            )
        numbers.add(owner.number)
        miner_keys.add(owner.miner_key)


def _rows(file: Path) -> Sequence[Mapping[str, Any]]:
    try:
        page = json.loads(file.read_bytes())
        rows = page["items"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise LocalProtocolError(f"{file}: no page of a register: {error}") from error
    if not isinstance(rows, list):
        raise LocalProtocolError(f"{file}: no page of a register: `items` is no list")
    return rows


def _owner(row: Mapping[str, Any]) -> tuple[bytes, RegisteredOwner]:
    msp_key, miner_key = octets(row["msp_key"], 32), octets(row["miner_key"], 32)
    commitment = octets(row["commitment"], 32)
    number, epoch = natural(row["number"]), natural(row["epoch"])
    if natural(row["rail"]) != RAIL or number > NUMBER_MAX or epoch > EPOCH_MAX:
        raise ValueError("a number out of its range")
    signed = registration_hash(msp_key, miner_key, commitment, epoch, number)
    if not is_signed_by(msp_key, signed, octets(row["msp_signature"], 64)):
        raise FaultyMSPError(f"registration {number}: the MSP's signature is not true")
    consent = row["miner_signature"]
    if consent is not None and not is_signed_by(miner_key, signed, octets(consent, 64)):
        raise FaultyMSPError(f"registration {number}: the miner's signature is not true")
    return msp_key, RegisteredOwner(number, miner_key, commitment, epoch, consent is not None)

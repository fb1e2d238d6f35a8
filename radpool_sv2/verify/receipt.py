"""Holds an MSP to the receipts that it gave: every share it has signed for is in its batches.

A miner keeps, line by line, the registrations it signed, the header hashes of its shares, and the
receipts. Against exports of the epochs it shows which shares were withheld, and which were booked
under another owner or at another weight.

Source: `spec/11-owner-registration.md`, "Receipts", "Whose a share is".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.units import tagged_hash
from radpool_sv2.verify.batch import VerifiedShare, verify_batch
from radpool_sv2.verify.bip340 import is_signed_by
from radpool_sv2.verify.coinbase import owner_script
from radpool_sv2.verify.epoch import verify_export
from radpool_sv2.verify.field import decimal, natural, octets
from radpool_sv2.verify.register import RAIL, registration_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "OwnedShare",
    "ReceiptReport",
    "find_owner",
    "read_receipts",
    "read_shares",
    "verify_receipts",
]

EXPONENT_MAX = 120


@dataclass(frozen=True, slots=True)
class OwnedShare:
    """Is a share that the MSP has signed for.

    Attributes:
        hash: Its header hash, internal byte order.
        commitment: The owner's commitment.
        work: What it is worth, expected hashes.
    """

    hash: bytes
    commitment: bytes
    work: int


@dataclass(frozen=True, slots=True)
class ReceiptReport:
    """Says what became of the shares that an MSP has signed for.

    Attributes:
        msp_key: The MSP, 32 bytes.
        miner_key: The miner.
        epochs: The epochs whose exports were looked at, ascending.
        shares: How many it has signed for.
        found: How many are in the exports as they should be.
        missing: Those that are in no batch of the exports.
        altered: Those that are there under another owner or at another weight.
    """

    msp_key: bytes
    miner_key: bytes
    epochs: tuple[int, ...]
    shares: int
    found: int
    missing: tuple[bytes, ...]
    altered: tuple[bytes, ...]


@dataclass(slots=True)
class _Run:
    """Is the running receipt of one channel."""

    commitment: bytes
    number: int
    count: int = 0
    work: int = 0
    root: bytes = bytes(32)


def read_receipts(file: Path) -> tuple[bytes, bytes, list[OwnedShare]]:
    """Reads a miner's file of receipts and checks every signature in it.

    Returns:
        The MSP's key, the miner's key, and the shares.

    Raises:
        LocalProtocolError: The file is not what a miner writes, or what it says is not signed.
    """
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LocalProtocolError(f"{file}: cannot be read: {error}") from error
    reading = _Reading()
    for number, line in enumerate(lines, start=1):
        try:
            reading.take(line)
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise LocalProtocolError(f"{file}, line {number}: {error}") from error
    if reading.keys is None:
        raise LocalProtocolError(f"{file}: has no registration")
    return *reading.keys, reading.shares


class _Reading:
    """Takes the lines of a file in, one by one."""

    def __init__(self) -> None:
        self.keys: tuple[bytes, bytes] | None = None
        self.shares: list[OwnedShare] = []
        self._run: _Run | None = None

    def take(self, line: str) -> None:
        """Takes a line in.

        Raises:
            ValueError: It is not what a miner writes, or not signed.
        """
        [(kind, fields)] = json.loads(line).items()
        if kind == "registration":
            self._run, keys = _registration(fields)
            if self.keys not in {None, keys}:
                raise ValueError("another MSP or miner than in the lines before")
            self.keys = keys
        elif kind == "receipt" and self._run is not None and self.keys is not None:
            self.shares += _receipt(self._run, self.keys[0], fields)
        else:
            raise ValueError("neither a registration nor a receipt behind one")


def _registration(fields: Mapping[str, Any]) -> tuple[_Run, tuple[bytes, bytes]]:
    msp_key, miner_key = octets(fields["msp_key"], 32), octets(fields["miner_key"], 32)
    salt, number = octets(fields["salt"], 16), natural(fields["number"])
    commitment = tagged_hash("radpool/account", miner_key.hex().encode(), salt)
    signed = registration_hash(msp_key, miner_key, commitment, natural(fields["epoch"]), number)
    for key, name in ((msp_key, "msp_signature"), (miner_key, "miner_signature")):
        if not is_signed_by(key, signed, octets(fields[name], 64)):
            raise ValueError(f"{name} is not true")
    return _Run(commitment, number), (msp_key, miner_key)


def _receipt(run: _Run, msp_key: bytes, fields: Mapping[str, Any]) -> Iterator[OwnedShare]:
    shares = []
    for text, exponent in fields["shares"]:
        share_hash, z = octets(text, 32), natural(exponent)
        if z > EXPONENT_MAX:
            raise ValueError(f"an exponent of {z}")
        run.root = tagged_hash("radpool/owner-share", run.root, share_hash, bytes([z]))
        run.count += 1
        run.work += 1 << z
        shares.append(OwnedShare(share_hash, run.commitment, 1 << z))
    said = natural(fields["count"]), decimal(fields["work"]), octets(fields["root"], 32)
    if said != (run.count, run.work, run.root):
        raise ValueError("the receipt is not that of its shares")
    signed = tagged_hash(
        "radpool/owner-receipt",
        run.number.to_bytes(8, "little"),
        run.count.to_bytes(8, "little"),
        run.work.to_bytes(16, "little"),
        run.root,
    )
    if not is_signed_by(msp_key, signed, octets(fields["signature"], 64)):
        raise ValueError("the receipt is not signed by the MSP")
    return iter(shares)


def verify_receipts(file: Path, exports: Sequence[Path]) -> ReceiptReport:
    """Looks for every share of a file of receipts in exports, each of which is recomputed first.

    Only what the MSP has signed as a whole shows that something is missing from it. Shares of
    epochs that are not among the exports are missing too: give those of all epochs mined in.

    Raises:
        LocalProtocolError: The file cannot be used, or an export cannot be read or is of another
            MSP.
        FaultyMSPError: An export is not what its MSP claims, or was altered.
    """
    msp_key, miner_key, shares = read_receipts(file)
    published: dict[bytes, VerifiedShare] = {}
    epochs = set()
    for export in exports:
        found, epoch, of_export = read_shares(export)
        if found != msp_key:
            raise LocalProtocolError(
                f"{export}: is of MSP {found.hex()}, the receipts are of {msp_key.hex()}"
            )
        epochs.add(epoch)
        published.update((share.hash, share) for share in of_export)
    missing = tuple(share.hash for share in shares if share.hash not in published)
    altered = tuple(
        share.hash
        for share in shares
        if (other := published.get(share.hash)) is not None
        and (other.owner.commitment, other.owner.rail, other.work)
        != (share.commitment, RAIL, share.work)
    )
    right = len(shares) - len(missing) - len(altered)
    return ReceiptReport(
        msp_key, miner_key, tuple(sorted(epochs)), len(shares), right, missing, altered
    )


def read_shares(export: Path) -> tuple[bytes, int, list[VerifiedShare]]:
    """Recomputes an export, and returns its MSP's key, its epoch and all shares of its batches.

    Raises:
        LocalProtocolError: The directory holds no export.
        FaultyMSPError: Something is not as the MSP claims, or the export was altered.
    """
    report = verify_export(export)
    bodies = {
        bytes.fromhex(path.stem): path.read_bytes() for path in export.glob("templates/*.bin")
    }
    blobs = (path.read_bytes() for path in sorted(export.glob("batches/*.bin")))
    shares = [share for blob in blobs for share in verify_batch(blob, bodies)[1]]
    return report.msp_key, report.epoch, shares


def find_owner(
    msp_key: bytes, script: bytes, register: Mapping[bytes, bytes], epochs: Sequence[int]
) -> tuple[bytes, int, int] | None:
    """Tells whose a share is, by its owner output alone.

    Args:
        msp_key: The MSP's key.
        script: The script of the share's owner output.
        register: The miner key of each registered commitment.
        epochs: The epochs that it may be of.

    Returns:
        Miner key, epoch and exponent; None when no registration makes this script.
    """
    if len(script) < len(owner_script(bytes(32), bytes(32), 0, 0, 0)):
        return None
    exponent = script[7]
    for commitment, miner_key in register.items():
        for epoch in epochs:
            if owner_script(msp_key, commitment, epoch, RAIL, exponent) == script:
                return miner_key, epoch, exponent
    return None

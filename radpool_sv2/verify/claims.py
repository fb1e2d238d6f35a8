"""Reads what an MSP claims about an epoch: `epoch.json`, in the one form that is signed.

Source: `spec/04-epoch-accounting.md`, "Export".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from radpool_sv2.errors import FaultyMSPError
from radpool_sv2.units import tagged_hash
from radpool_sv2.verify.bip340 import is_signed_by
from radpool_sv2.verify.field import block_hash, canonical, decimal, integer, natural, octets

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Block", "Claims", "Settlement", "read_claims"]

FORMAT = "radpool-epoch/1"
STATES = ("open", "closed", "paid")

Owner = tuple[bytes, int]
"""Whom a sum or a payout belongs to: commitment and rail."""


@dataclass(frozen=True, slots=True)
class Block:
    """Is a block that the MSP says it found; the hash is in internal byte order."""

    hash: bytes
    height: int
    epoch: int
    value_sats: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Settlement:
    """Is a payment, or the reversal of one."""

    id: int
    block: bytes
    reverses: int | None
    epochs: tuple[int, ...]
    sequence: int
    value_sats: int
    carry_in: int
    carry_out: int
    payouts: Mapping[Owner, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """Is everything that the MSP has signed about an epoch."""

    msp_key: bytes
    epoch: int
    state: str
    batches: Mapping[int, bytes]
    templates: tuple[bytes, ...]
    sums: Mapping[tuple[int, Owner], tuple[int, int]]
    blocks: Mapping[bytes, Block]
    settlements: tuple[Settlement, ...]


def read_claims(document: bytes) -> Claims:
    """Reads and authenticates claims.

    Raises:
        FaultyMSPError: They are not in the signed form, or the signature is not the MSP's.
    """
    try:
        outer = json.loads(document)
        form = canonical(outer)
        signature, claims = outer["signature"], outer["claims"]
        msp_key, signed = octets(claims["msp_key"], 32), octets(signature, 64)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FaultyMSPError(f"epoch.json cannot be read: {error!r}") from error
    if form != document:
        raise FaultyMSPError("epoch.json is not in the form that is signed: it has been altered")
    digest = tagged_hash("radpool/epoch", canonical(claims))
    if not is_signed_by(msp_key, digest, signed):
        raise FaultyMSPError("the signature of epoch.json is not that of its MSP: it was altered")
    try:
        return _claims(claims, msp_key)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FaultyMSPError(
            f"epoch.json lacks a field or has a wrong one: {error!r}", msp_key.hex(), document
        ) from error


def _claims(claims: Mapping[str, Any], msp_key: bytes) -> Claims:
    if claims["format"] != FORMAT:
        raise ValueError(f"format {claims['format']!r}: this program knows {FORMAT}")
    if claims["state"] not in STATES:
        raise ValueError(f"state {claims['state']!r}")
    blocks = [
        Block(
            block_hash(row["hash"]),
            natural(row["height"]),
            natural(row["epoch"]),
            natural(row["value_sats"]),
        )
        for row in claims["blocks"]
    ]
    sums = {
        (natural(row["epoch"]), _owner(row)): (natural(row["count"]), decimal(row["work"]))
        for row in claims["sums"]
    }
    batches = {natural(row["sequence"]): octets(row["hash"], 32) for row in claims["batches"]}
    by_hash = {block.hash: block for block in blocks}
    for name, read in (("blocks", by_hash), ("sums", sums), ("batches", batches)):
        if len(read) != len(claims[name]):
            raise ValueError(f"{name} has the same entry twice")
    return Claims(
        msp_key=msp_key,
        epoch=natural(claims["epoch"]),
        state=claims["state"],
        batches=batches,
        templates=tuple(octets(digest, 32) for digest in claims["templates"]),
        sums=sums,
        blocks=by_hash,
        settlements=tuple(_settlement(row) for row in claims["settlements"]),
    )


def _settlement(row: Mapping[str, Any]) -> Settlement:
    payouts = {_owner(payout): integer(payout["sats"]) for payout in row["payouts"]}
    if len(payouts) != len(row["payouts"]):
        raise ValueError("payouts names the same owner twice")
    epochs = tuple(natural(epoch) for epoch in row["epochs"])
    if not epochs or list(epochs) != sorted(set(epochs)):
        raise ValueError("epochs of a settlement")
    return Settlement(
        id=natural(row["id"]),
        block=block_hash(row["block"]),
        reverses=None if row["reverses"] is None else natural(row["reverses"]),
        epochs=epochs,
        sequence=integer(row["sequence"]),
        value_sats=integer(row["value_sats"]),
        carry_in=integer(row["carry_in"]),
        carry_out=integer(row["carry_out"]),
        payouts=payouts,
    )


def _owner(row: Mapping[str, Any]) -> Owner:
    return octets(row["commitment"], 32), natural(row["rail"])

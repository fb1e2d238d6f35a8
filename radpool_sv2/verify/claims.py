"""Reads what an MSP claims about an epoch: `epoch.json`, in the one form that is signed.

Source: `spec/04-epoch-accounting.md`, "Export".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from radpool_sv2.errors import FaultyMSPError
from radpool_sv2.units import tagged_hash
from radpool_sv2.verify.batch import Weight
from radpool_sv2.verify.bip340 import is_signed_by
from radpool_sv2.verify.field import block_hash, canonical, decimal, integer, natural, octets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sized

__all__ = ["FORMAT_WORK", "Block", "Claims", "Quote", "Settlement", "Void", "read_claims"]

FORMATS = ("radpool-epoch/1", "radpool-epoch/2")
FORMAT_WORK = FORMATS[0]
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
class Quote:
    """Says how the price of a template came about; the target is a number."""

    paid_sats: int
    cap_sats: int
    reference_sats: int
    target: int


@dataclass(frozen=True, slots=True)
class Void:
    """Says that shares on a template are not counted by payments behind a settlement.

    Shares of epochs below `epoch_min` stay counted.
    """

    template: bytes
    settlement: int
    epoch_min: int
    reason: str


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
    """Is everything that the MSP has signed about an epoch.

    In format 1 templates have no price, sums have no value, and there is nothing of what came with
    prices: `scripts`, `weights` and `voids` are empty.
    """

    format: str
    msp_key: bytes
    epoch: int
    state: str
    batches: Mapping[int, bytes]
    templates: Mapping[tuple[bytes, int | None], Quote | None]
    scripts: frozenset[bytes]
    weights: frozenset[tuple[int, Weight]]
    voids: tuple[Void, ...]
    sums: Mapping[tuple[int, Owner], tuple[int, int, int]]
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
    if claims["format"] not in FORMATS:
        raise ValueError(f"format {claims['format']!r}: this program knows {', '.join(FORMATS)}")
    is_priced = claims["format"] != FORMAT_WORK
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
        (natural(row["epoch"]), _owner(row)): (
            natural(row["count"]),
            decimal(row["work"]),
            decimal(row["value"]) if is_priced else 0,
        )
        for row in claims["sums"]
    }
    templates = dict(map(_template if is_priced else _bare_template, claims["templates"]))
    weights = frozenset(_weight(row) for row in claims["weights"]) if is_priced else frozenset()
    scripts = [_script(text) for text in claims["scripts"]] if is_priced else []
    voids = tuple(_void(row) for row in claims["voids"]) if is_priced else ()
    batches = {natural(row["sequence"]): octets(row["hash"], 32) for row in claims["batches"]}
    by_hash = {block.hash: block for block in blocks}
    read: dict[str, Sized] = {
        "blocks": by_hash,
        "sums": sums,
        "batches": batches,
        "templates": templates,
    }
    if is_priced:
        read["weights"], read["scripts"] = weights, set(scripts)
        read["voids"] = {void.template for void in voids}
    for name, entries in read.items():
        if len(entries) != len(claims[name]):
            raise ValueError(f"{name} has the same entry twice")
    return Claims(
        format=claims["format"],
        msp_key=msp_key,
        epoch=natural(claims["epoch"]),
        state=claims["state"],
        batches=batches,
        templates=templates,
        scripts=frozenset(scripts),
        weights=weights,
        voids=voids,
        sums=sums,
        blocks=by_hash,
        settlements=tuple(_settlement(row) for row in claims["settlements"]),
    )


def _bare_template(value: object) -> tuple[tuple[bytes, int | None], Quote | None]:
    return (octets(value, 32), None), None


def _template(row: Mapping[str, Any]) -> tuple[tuple[bytes, int | None], Quote | None]:
    digest = octets(row["digest"], 32)
    if row["price"] is None or row["target"] is None:
        unknown = (row[name] for name in ("paid_sats", "cap_sats", "reference_sats", "target"))
        if any(value is not None for value in unknown):
            raise ValueError("a price that is half explained")
        return (digest, None if row["price"] is None else decimal(row["price"])), None
    quote = Quote(
        paid_sats=natural(row["paid_sats"]),
        cap_sats=natural(row["cap_sats"]),
        reference_sats=natural(row["reference_sats"]),
        target=int.from_bytes(octets(row["target"], 32)),
    )
    return (digest, decimal(row["price"])), quote


def _weight(row: Mapping[str, Any]) -> tuple[int, Weight]:
    weight = Weight(natural(row["mode"]), natural(row["scale"]), natural(row["base"]))
    return natural(row["epoch"]), weight


def _script(value: object) -> bytes:
    return octets(value, len(value) // 2 if isinstance(value, str) else 0)


def _void(row: Mapping[str, Any]) -> Void:
    if not isinstance(row["reason"], str):
        raise ValueError("a void without a reason")  # noqa: TRY004 - the caller names the field
    return Void(
        octets(row["template"], 32),
        natural(row["settlement"]),
        natural(row["epoch_min"]),
        row["reason"],
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

"""Reads what a mint signs about a keyset, and the tree over its claims.

Source: `spec/07-ecash-epochs.md`, "Statement".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from radpool_sv2.errors import FaultyMSPError
from radpool_sv2.units import EXPONENT_MAX, tagged_hash
from radpool_sv2.verify.bip340 import is_signed_by
from radpool_sv2.verify.field import block_hash, canonical, decimal, integer, natural, octets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Allocation", "Node", "Statement", "claim_leaf", "path_root", "read_statement", "root"]

FORMATS = ("radpool-ecash-statement/1", "radpool-ecash-statement/2")
FORMAT_WORK = FORMATS[0]
POLICIES = ("network", "pool", "window", "fixed")
BY = ("value", "work")
BY_VALUE = BY[0]
STATES = ("final", "void", "expired")
KEYSET_LEN = 33
NO_ROOT = bytes(32)
UNITS_EXPONENT_MAX = 63

Node = tuple[bytes, int]
"""A node of the tree: its hash and the units below it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """Is what one settlement gave the keyset; a reversal has opposite signs.

    Attributes:
        id: The ledger's number of the settlement.
        reverses: The payment that it takes back; None for a payment.
        block: The hash of the block, internal byte order.
        height: Its height.
        coinbase: Txid, internal byte order, and index of its coinbase's largest output; None when
            the block is not among the shares.
        theta_sats: What the settlement paid the policy.
        fee_msat: What the mint kept of it.
        carry_in_msat: What was carried to it.
        weight: The keyset's part: its units, or what they cost.
        work: What it was divided over: the parts of all keysets.
        by_value: Whether parts are what units cost.
        allocated_msat: What the keyset got.
    """

    id: int
    reverses: int | None
    block: bytes
    height: int
    coinbase: tuple[bytes, int] | None
    theta_sats: int
    fee_msat: int
    carry_in_msat: int
    weight: int
    work: int
    by_value: bool
    allocated_msat: int

    @property
    def amount_msat(self) -> int:
        """What was divided."""
        return self.theta_sats * 1000 - self.fee_msat + self.carry_in_msat


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """Is everything that a mint has signed about a keyset.

    Format 1 is that of keysets whose tokens are work: `unit_value`, `value` and residues are 0.
    """

    msp_key: bytes
    keyset: bytes
    number: int
    policy: str
    commitment: bytes
    z0: int
    epochs: tuple[int, ...]
    state: str
    price_num: int
    price_den: int
    settlements: tuple[Allocation, ...]
    theta_msat: int
    work: int
    tokens: Mapping[int, int]
    claims: int
    root: bytes
    issued_msat: int | None
    carry_out_msat: int | None
    unit_value: int
    value: int
    previous: bytes | None
    residue_in: int
    residue_out: int
    cash_outs: Mapping[int, int]


def read_statement(document: bytes, msp_key: bytes, name: str) -> Statement:
    """Reads and authenticates a statement.

    Args:
        document: The canonical JSON.
        msp_key: Whose it should be, x-only, 32 bytes.
        name: What to call it in words.

    Raises:
        FaultyMSPError: It is not in the signed form, not signed by this key, or makes no sense.
    """
    try:
        outer = json.loads(document)
        form = canonical(outer)
        signature, fields = outer["signature"], outer["statement"]
        key, signed = octets(fields["msp_key"], 32), octets(signature, 64)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FaultyMSPError(f"{name} cannot be read: {error!r}") from error
    if form != document or set(outer) != {"signature", "statement"}:
        raise FaultyMSPError(f"{name} is not in the form that is signed: it has been altered")
    if key != msp_key:
        raise FaultyMSPError(f"{name} is a statement of another MSP, {key.hex()}")
    if not is_signed_by(key, tagged_hash("radpool/statement", canonical(fields)), signed):
        raise FaultyMSPError(f"the signature of {name} is not that of its MSP: it was altered")
    try:
        return _statement(fields, key)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FaultyMSPError(
            f"{name} lacks a field or has a wrong one: {error!r}", key.hex(), document
        ) from error


def _statement(fields: Mapping[str, Any], msp_key: bytes) -> Statement:
    if fields["format"] not in FORMATS:
        raise ValueError(f"format {fields['format']!r}: this program knows {', '.join(FORMATS)}")
    by_value = fields["format"] != FORMAT_WORK
    if fields["policy"] not in POLICIES or fields["state"] not in STATES:
        raise ValueError(f"policy {fields['policy']!r}, state {fields['state']!r}")
    epochs = tuple(natural(epoch) for epoch in fields["epochs"])
    if not epochs or list(epochs) != sorted(set(epochs)):
        raise ValueError("epochs of a keyset")
    z0 = natural(fields["z0"])
    exponents = {str(z): z for z in range(z0, min(z0 + UNITS_EXPONENT_MAX, EXPONENT_MAX) + 1)}
    return Statement(
        msp_key=msp_key,
        keyset=octets(fields["keyset"], KEYSET_LEN),
        number=natural(fields["number"]),
        policy=fields["policy"],
        commitment=octets(fields["commitment"], 32),
        z0=z0,
        epochs=epochs,
        state=fields["state"],
        price_num=natural(fields["price_num"]),
        price_den=natural(fields["price_den"]),
        settlements=tuple(
            _valued_allocation(row) if by_value else _allocation(row, natural(fields["work"]))
            for row in fields["settlements"]
        ),
        theta_msat=natural(fields["theta_msat"]),
        work=natural(fields["work"]),
        tokens={exponents[z]: natural(count) for z, count in fields["tokens"].items()},
        claims=natural(fields["claims"]),
        root=octets(fields["root"], 32),
        issued_msat=_optional(fields["issued_msat"]),
        carry_out_msat=_optional(fields["carry_out_msat"]),
        unit_value=_unit_value(fields["unit_value"]) if by_value else 0,
        value=decimal(fields["value"]) if by_value else 0,
        previous=_keyset(fields["previous"]) if by_value else None,
        residue_in=decimal(fields["residue_in"]) if by_value else 0,
        residue_out=decimal(fields["residue_out"]) if by_value else 0,
        cash_outs=(
            {exponents[z]: natural(count) for z, count in fields["cash_outs"].items()}
            if by_value
            else {}
        ),
    )


def _unit_value(value: object) -> int:
    number = decimal(value)
    if not number:
        raise ValueError("a unit that costs nothing")
    return number


def _keyset(value: object) -> bytes | None:
    return None if value is None else octets(value, KEYSET_LEN)


def _valued_allocation(row: Mapping[str, Any]) -> Allocation:
    if row["by"] not in BY:
        raise ValueError(f"divided by {row['by']!r}")
    weights = {"work": decimal(row["weights"])}
    allocation = _allocation({**row, **weights}, decimal(row["weight"]))
    return replace(allocation, by_value=row["by"] == BY_VALUE)


def _allocation(row: Mapping[str, Any], weight: int) -> Allocation:
    return Allocation(
        id=natural(row["id"]),
        reverses=_optional(row["reverses"]),
        block=block_hash(row["block"]),
        height=natural(row["height"]),
        coinbase=_outpoint(row["coinbase"]),
        theta_sats=integer(row["theta_sats"]),
        fee_msat=integer(row["fee_msat"]),
        carry_in_msat=integer(row["carry_in_msat"]),
        weight=weight,
        work=natural(row["work"]),
        by_value=False,
        allocated_msat=integer(row["allocated_msat"]),
    )


def _optional(value: object) -> int | None:
    return None if value is None else natural(value)


def _outpoint(value: object) -> tuple[bytes, int] | None:
    if value is None:
        return None
    txid, _, index = str(value).partition(":")
    if not index.isascii() or not index.isdigit() or str(int(index)) != index:
        raise ValueError(f"{value!r} is no output")
    return block_hash(txid), int(index)


def claim_leaf(share_hash: bytes, blinded: bytes, units: int) -> Node:
    """Makes the leaf of a claim; the hash of its share is in internal byte order."""
    parts = (share_hash, blinded, units.to_bytes(8, "little"))
    return tagged_hash("radpool/claim", *parts), units


def root(leaves: Sequence[Node]) -> Node:
    """Reduces leaves to the root of their tree."""
    level = list(leaves)
    while len(level) > 1:
        level = [
            level[at] if at + 1 == len(level) else _join(level[at], level[at + 1])
            for at in range(0, len(level), 2)
        ]
    return level[0] if level else (NO_ROOT, 0)


def path_root(leaf: Node, index: int, count: int, path: Sequence[Node]) -> Node | None:
    """Computes the root that a leaf leads to; None when the path does not fit the tree's size."""
    if not 0 <= index < count:
        return None
    node, siblings = leaf, list(reversed(path))
    while count > 1:
        alone = index % 2 == 0 and index + 1 == count
        if not alone:
            if not siblings:
                return None
            sibling = siblings.pop()
            node = _join(sibling, node) if index % 2 else _join(node, sibling)
        index, count = index // 2, (count + 1) // 2
    return None if siblings else node


def _join(left: Node, right: Node) -> Node:
    sums = left[1].to_bytes(16, "little") + right[1].to_bytes(16, "little")
    return tagged_hash("radpool/node", left[0], right[0], sums), left[1] + right[1]

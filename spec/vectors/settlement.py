"""Allocates rewards to keysets, prices them and states it, as page 07 has it, for the vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accounting import canonical
from layout import Node, join, le, levels
from secp256k1 import sign, tagged_hash


@dataclass(frozen=True)
class Slice:
    """Is a keyset as the allocation sees it."""

    number: int
    work: int
    epoch: int = 1
    height: int | None = None
    fee_ppm: int = 0
    fee_fixed_msat: int = 0
    unit_value: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "work": str(self.work),
            "epoch": self.epoch,
            "height": self.height,
            "fee_ppm": self.fee_ppm,
            "fee_fixed_msat": self.fee_fixed_msat,
            "unit_value": str(self.unit_value),
        }


def fee_of(theta_msat: int, keysets: list[Slice]) -> int:
    """Takes the lowest of the fees that the paid keysets announced."""
    fees = [theta_msat * row.fee_ppm // 10**6 + row.fee_fixed_msat for row in keysets]
    return min(theta_msat, *fees) if fees else 0


def split(amount: int, keysets: list[Slice]) -> dict[int, int]:
    """Splits by largest remainder; among equal ones the lowest number comes first."""
    weight = {row.number: row.work * row.unit_value for row in keysets}
    if not all(weight.values()):
        # One of them counts work, so all do.
        weight = {row.number: row.work for row in keysets}
    total = sum(weight.values())
    parts = {number: amount * each // total for number, each in weight.items()}

    def rank(row: Slice) -> tuple[int, int]:
        return -(amount * weight[row.number] % total), row.number

    for row in sorted(keysets, key=rank)[: amount - sum(parts.values())]:
        parts[row.number] += 1
    return parts


def window(keysets: list[Slice], epoch: int, difficulties: int, network: int, z0: int) -> list[int]:
    """Walks back from the last slice of an epoch until N difficulties of work are behind."""
    taken, work = [], 0
    for row in reversed([row for row in keysets if row.epoch <= epoch]):
        if work >= difficulties * network:
            break
        taken.append(row.number)
        work += row.work * 2**z0
    return sorted(taken)


def paid_keysets(
    policy: str, keysets: list[Slice], block: dict[str, Any], theta_sats: int, carry_msat: int
) -> list[Slice]:
    if policy == "network":
        return [row for row in keysets if row.height == block["height"]]
    if policy == "pool":
        up_to = [row for row in keysets if row.epoch <= max(block["epochs"])]
        return up_to if prices_pool(theta_sats, carry_msat, up_to) else []
    chosen = window(
        keysets, block["epoch"], block["window_difficulties"], int(block["work"]), block["z0"]
    )
    return [row for row in keysets if row.number in chosen]


def prices_pool(theta_sats: int, carry_msat: int, paid: list[Slice]) -> bool:
    """Says whether a settlement gives keysets of `pool` their price, or lets them wait."""
    fee = fee_of(theta_sats * 1000, [row for row in paid if row.work])
    return theta_sats > 0 and theta_sats * 1000 - fee + carry_msat > 0


def allocate(theta_sats: int, carry_msat: int, paid: list[Slice]) -> dict[str, Any]:
    theta = theta_sats * 1000
    workers = [row for row in paid if row.work]
    fee = fee_of(theta, workers)
    amount = theta - fee + carry_msat
    divides = bool(workers) and amount > 0
    parts = split(amount, workers) if divides else {}
    return {
        "fee_msat": fee if divides else 0,
        "allocations": [{"number": number, "msat": msat} for number, msat in sorted(parts.items())],
        "carry_msat": 0 if divides else theta + carry_msat,
    }


def value_of(theta_msat: int, work: int, units: int) -> int:
    return theta_msat * units // work


def share_price(theta_msat: int, work: int, z: int, z0: int) -> int:
    return (theta_msat << (z - z0)) // work


@dataclass(frozen=True)
class Claim:
    """Is a share's claim as the export has it."""

    sequence: int
    place: int
    z: int
    blinded: bytes
    share_hash: bytes

    def units(self, z0: int) -> int:
        # 255 is a share without token.
        return 0 if self.z == 255 else 2 ** (self.z - z0)

    def leaf(self, z0: int) -> Node:
        units = self.units(z0)
        text = self.share_hash + self.blinded + le(units, 8)
        return tagged_hash("radpool/claim", text), (units,)

    def record(self) -> bytes:
        return le(self.sequence, 8) + le(self.place, 2) + le(self.z, 1) + self.blinded


@dataclass(frozen=True)
class CashOut:
    """Is a token that was given for a residue, as the export has it."""

    z: int
    blinded: bytes

    def leaf(self, z0: int) -> Node:
        units = 2 ** (self.z - z0)
        return tagged_hash("radpool/claim", bytes(32) + self.blinded + le(units, 8)), (units,)

    def record(self) -> bytes:
        return le(self.z, 1) + self.blinded


def claims_tree(
    claims: list[Claim], z0: int, cash_outs: list[CashOut] | None = None
) -> tuple[list[Node], Node]:
    leaves = [claim.leaf(z0) for claim in sorted(claims, key=lambda c: (c.sequence, c.place))]
    leaves += [each.leaf(z0) for each in cash_outs or []]
    return leaves, levels(leaves)[-1][0] if leaves else (bytes(32), (0,))


def walked(leaf: Node, index: int, count: int, path: list[Node]) -> Node:
    """Follows an inclusion path to the root."""
    node, rest = leaf, list(path)
    while count > 1:
        if index % 2:
            node = join(rest.pop(0), node)
        elif index + 1 < count:
            node = join(node, rest.pop(0))
        index, count = index // 2, (count + 1) // 2
    assert not rest
    return node


def statement_digest(statement: dict[str, Any]) -> bytes:
    return tagged_hash("radpool/statement", canonical(statement))


def signed_statement(secret: bytes, statement: dict[str, Any]) -> bytes:
    signature = sign(secret, statement_digest(statement)).hex()
    return canonical({"signature": signature, "statement": statement})

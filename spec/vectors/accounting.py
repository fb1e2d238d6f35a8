"""Keeps the books of a story of shares and blocks as page 04 has it, for the vectors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from secp256k1 import tagged_hash
from value import SLICE, fee_weights, subsidy

Owner = tuple[bytes, int]
"""Commitment and rail."""


def split(sats: int, claims: list[tuple[Owner, int]], block: bytes) -> list[int] | None:
    """Splits by largest remainder; `block` in internal byte order."""
    total = sum(weight for _, weight in claims)
    if total == 0:
        return None
    parts = [sats * weight // total for _, weight in claims]
    left = sats - sum(parts)

    def rank(index: int) -> tuple[int, bytes]:
        (commitment, rail), weight = claims[index]
        remainder = sats * weight - parts[index] * total
        return total - remainder, tagged_hash("radpool/tie", block, commitment, bytes([rail]))

    for index in sorted(range(len(claims)), key=rank)[:left]:
        parts[index] += 1
    return parts


def divided(sats: int, weights: dict[Owner, int], block: bytes) -> dict[Owner, int] | None:
    """Splits by largest remainder, by owner."""
    claims = sorted(weights.items())
    parts = split(sats, claims, block)
    return None if parts is None else dict(zip([o for o, _ in claims], parts, strict=True))


@dataclass
class Block:
    hash: bytes
    height: int
    epoch: int
    value_sats: int


@dataclass
class Settlement:
    id: int
    block: Block
    reverses: int | None
    epochs: list[int]
    sequence: int
    value_sats: int
    carry_in: int
    carry_out: int
    payouts: dict[Owner, int]

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "block": self.block.hash[::-1].hex(),
            "reverses": self.reverses,
            "epochs": self.epochs,
            "sequence": self.sequence,
            "value_sats": self.value_sats,
            "carry_in": self.carry_in,
            "carry_out": self.carry_out,
            "payouts": [
                {"commitment": commitment.hex(), "rail": rail, "sats": sats}
                for (commitment, rail), sats in sorted(self.payouts.items())
            ],
        }


Rule = tuple[int, int, int]
"""Mode, scale, base."""

WORK: Rule = (0, 0, 0)
"""The rule of batches without prices."""


@dataclass(frozen=True)
class Earning:
    """Is what one share has earned."""

    owner: Owner
    epoch: int
    work: int
    value: int
    template: bytes = b""
    slice: tuple[int, bytes] = (0, b"")


@dataclass(frozen=True)
class Void:
    template: bytes
    settlement: int
    epoch_min: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {
            "template": self.template.hex(),
            "settlement": self.settlement,
            "epoch_min": self.epoch_min,
            "reason": self.reason,
        }


@dataclass
class Story:
    """Is an MSP's books, told event by event."""

    maturity: int
    epoch: int = 1
    epoch_min: int = 1
    sequence: int = -1
    carry: int = 0
    sums: dict[tuple[int, Owner], list[int]] = field(default_factory=dict)
    earnings: list[Earning] = field(default_factory=list)
    rules: set[tuple[int, Rule]] = field(default_factory=set)
    voids: list[Void] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)

    def batch(self, shares: list[Earning], rule: Rule = (1, 32, 0)) -> None:
        """Counts a batch of shares, whose epochs are those of their tags."""
        self.sequence += 1
        for share in shares:
            earning = replace(share, epoch=max(share.epoch, self.epoch_min))
            self.earnings.append(earning)
            self.rules.add((earning.epoch, rule))
            total = self.sums.setdefault((earning.epoch, earning.owner), [0, 0, 0])
            total[0] += 1
            total[1] += earning.work
            total[2] += earning.value

    def void(self, template: bytes, reason: str) -> None:
        self.voids.append(Void(template, len(self.settlements), self.epoch_min, reason))

    def found(self, block_hash: bytes, height: int, value_sats: int) -> None:
        if all(block.hash != block_hash for block in self.blocks):
            self.blocks.append(Block(block_hash, height, self.epoch, value_sats))
            self.epoch += 1

    def standing(self) -> list[Settlement]:
        undone = {settlement.reverses for settlement in self.settlements}
        return [s for s in self.settlements if s.reverses is None and s.id not in undone]

    def look(self, active: dict[bytes, int | None]) -> list[Settlement]:
        """Brings the settlements in line with the chain; returns those that were posted."""
        before = len(self.settlements)
        known = [block for block in self.blocks if block.hash in active]
        paid = {settlement.block.hash: settlement for settlement in self.standing()}
        for block in reversed(known):
            if active[block.hash] is None and block.hash in paid:
                self._reverse(paid[block.hash])
        for block in known:
            confirmations = active[block.hash]
            ripe = confirmations is not None and confirmations >= self.maturity
            if ripe and block.hash not in paid:
                self._pay(block)
        return self.settlements[before:]

    def _pay(self, block: Block) -> None:
        paid = {epoch for settlement in self.standing() for epoch in settlement.epochs}
        epochs = [epoch for epoch in range(1, block.epoch + 1) if epoch not in paid]
        epochs = epochs or [block.epoch]
        amount = block.value_sats + self.carry
        parts = self._divide(amount, epochs, block) if amount > 0 else None
        payouts = {owner: part for owner, part in (parts or {}).items() if part}
        self._post(block, None, epochs, block.value_sats, amount if parts is None else 0, payouts)
        self.epoch_min = max(self.epoch_min, epochs[-1] + 1)

    def _divide(self, amount: int, epochs: list[int], block: Block) -> dict[Owner, int] | None:
        """Splits an amount by the rule of the epochs' shares, or by work."""
        rules = {rule for epoch, rule in self.rules if epoch in epochs}
        mode, scale, base = rules.pop() if len(rules) == 1 else WORK
        totals: dict[Owner, list[int]] = {}
        slices: dict[tuple[int, bytes], dict[Owner, tuple[int, int]]] = {}
        for earning in self.earnings:
            if earning.epoch not in epochs:
                continue
            total = totals.setdefault(earning.owner, [0, 0])
            if any(
                v.template == earning.template and earning.epoch >= v.epoch_min for v in self.voids
            ):
                continue
            total[0] += earning.work
            total[1] += earning.value
            owners = slices.setdefault(earning.slice, {})
            work, value = owners.get(earning.owner, (0, 0))
            owners[earning.owner] = (work + earning.work, value + earning.value)
        by_work = {owner: work for owner, (work, _) in totals.items()}
        by_value = {owner: value for owner, (_, value) in totals.items()}
        if mode != SLICE:
            return divided(amount, by_value if mode else by_work, block.hash)
        fees = min(max(block.value_sats - subsidy(block.height, scale), 0), amount)
        base_parts = divided(amount - fees, by_work, block.hash)
        fee_parts = divided(fees, fee_weights(list(slices.values()), base), block.hash)
        if base_parts is None or fee_parts is None:
            return None
        return {owner: part + fee_parts.get(owner, 0) for owner, part in base_parts.items()}

    def _reverse(self, payment: Settlement) -> None:
        carry = self.carry + payment.carry_in - payment.carry_out
        payouts = {owner: -sats for owner, sats in payment.payouts.items()}
        value = -payment.value_sats
        self._post(payment.block, payment.id, payment.epochs, value, carry, payouts)

    def _post(  # noqa: PLR0913, PLR0917 - the columns of a settlement
        self,
        block: Block,
        reverses: int | None,
        epochs: list[int],
        value_sats: int,
        carry_out: int,
        payouts: dict[Owner, int],
    ) -> None:
        number = len(self.settlements) + 1
        posted = Settlement(
            number,
            block,
            reverses,
            epochs,
            self.sequence,
            value_sats,
            self.carry,
            carry_out,
            payouts,
        )
        assert value_sats + self.carry == sum(payouts.values()) + carry_out
        self.settlements.append(posted)
        self.carry = carry_out

    def balances(self) -> dict[Owner, int]:
        owed: dict[Owner, int] = {}
        for settlement in self.settlements:
            for owner, sats in settlement.payouts.items():
                owed[owner] = owed.get(owner, 0) + sats
        return owed


def canonical(value: object) -> bytes:
    """Writes JSON in the form that is signed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()

"""Keeps the books of a story of shares and blocks as page 04 has it, for the vectors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from secp256k1 import tagged_hash

Owner = tuple[bytes, int]
"""Commitment and rail."""


def split(sats: int, claims: list[tuple[Owner, int]], block: bytes) -> list[int] | None:
    """Splits by largest remainder; `block` in internal byte order."""
    total = sum(work for _, work in claims)
    if total == 0:
        return None
    parts = [sats * work // total for _, work in claims]
    left = sats - sum(parts)

    def rank(index: int) -> tuple[int, bytes]:
        (commitment, rail), work = claims[index]
        remainder = sats * work - parts[index] * total
        return total - remainder, tagged_hash("radpool/tie", block, commitment, bytes([rail]))

    for index in sorted(range(len(claims)), key=rank)[:left]:
        parts[index] += 1
    return parts


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


@dataclass
class Story:
    """Is an MSP's books, told event by event."""

    maturity: int
    epoch: int = 1
    epoch_min: int = 1
    sequence: int = -1
    carry: int = 0
    work: dict[tuple[int, Owner], list[int]] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    settlements: list[Settlement] = field(default_factory=list)

    def batch(self, shares: list[tuple[Owner, int, int]]) -> None:
        """Counts a batch of shares, given as owner, epoch of the tag, and work."""
        self.sequence += 1
        for owner, tag_epoch, work in shares:
            total = self.work.setdefault((max(tag_epoch, self.epoch_min), owner), [0, 0])
            total[0] += 1
            total[1] += work

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
        work: dict[Owner, int] = {}
        for (epoch, owner), (_, own) in self.work.items():
            if epoch in epochs:
                work[owner] = work.get(owner, 0) + own
        claims = sorted(work.items())
        amount = block.value_sats + self.carry
        parts = split(amount, claims, block.hash) if amount > 0 else None
        payouts = {o: p for (o, _), p in zip(claims, parts or [], strict=False) if p}
        self._post(block, None, epochs, block.value_sats, amount if parts is None else 0, payouts)
        self.epoch_min = max(self.epoch_min, epochs[-1] + 1)

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

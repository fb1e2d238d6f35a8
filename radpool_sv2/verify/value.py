"""Recomputes what templates are worth, and by what payments are split.

Source: `spec/09-template-value.md`; `spec/04-epoch-accounting.md`, "Payment".
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from radpool_sv2.errors import FaultyMSPError
from radpool_sv2.verify.batch import Weight
from radpool_sv2.verify.coinbase import coinbase_paid_sats
from radpool_sv2.verify.payout import payouts_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from radpool_sv2.verify.batch import Batch, VerifiedShare
    from radpool_sv2.verify.claims import Claims, Quote, Settlement

__all__ = ["NO_WEIGHT", "Earnings", "check_prices", "split_payment"]

Owner = tuple[bytes, int]

VALUE, DIFFICULTY, SLICE = 1, 2, 3

NO_WEIGHT = Weight(0, 0, 0)
"""Stands for batches without prices."""

REGTEST_SCALE = 32
REGTEST_HALVING, HALVING = 150, 210_000
SLICE_MS = 60_000


@dataclass(slots=True)
class Sample:
    """Is one share of a template, by which its price is checked."""

    weight: Weight
    nbits: int
    height: int
    coinbase: bytes


@dataclass(slots=True)
class Earnings:
    """Gathers what shares have earned, by all that a payment may ask for."""

    rows: dict[tuple[int, Owner, bytes, int, bytes], list[int]] = field(default_factory=dict)
    rules: set[tuple[int, Weight]] = field(default_factory=set)
    samples: dict[tuple[bytes, int, Weight], Sample] = field(default_factory=dict)

    def see(self, batch: Batch, shares: Sequence[VerifiedShare]) -> None:
        """Takes a batch that was recomputed."""
        weight = batch.weight or NO_WEIGHT
        minute = batch.time_ms // SLICE_MS
        for share in shares:
            owner = share.owner.commitment, share.owner.rail
            key = share.epoch, owner, share.template.digest, minute, share.prev_hash
            row = self.rows.setdefault(key, [0, 0])
            row[0] += share.work
            row[1] += share.value
            self.rules.add((share.epoch, weight))
            if batch.weight is not None:
                place = share.template.digest, share.template.price, weight
                if place not in self.samples:
                    self.samples[place] = Sample(weight, share.nbits, share.height, share.coinbase)


def subsidy_sats(height: int, scale: int) -> int:
    """Returns the subsidy of a block on the networks that a scale is for."""
    halvings = height // (REGTEST_HALVING if scale == REGTEST_SCALE else HALVING)
    return 5_000_000_000 >> halvings if halvings < 64 else 0


def check_prices(claims: Claims, earnings: Earnings) -> list[str]:
    """Recomputes the price of each template from its coinbase and the claimed explanation.

    Returns:
        What the export does not explain, in plain words.

    Raises:
        FaultyMSPError: A price is not what the formula gives.
    """
    unexplained = harder = 0
    references: set[int] = set()
    for (digest, price, _), sample in earnings.samples.items():
        quote = claims.templates[digest, price]
        if quote is None:
            unexplained += 1
            continue
        fault = _price_fault(price, sample, quote, claims.scripts)
        if fault:
            raise FaultyMSPError(
                f"template {digest.hex()} at price {price}: {fault}", claims.msp_key.hex()
            )
        references.add(quote.reference_sats)
        harder += quote.target != target_of_nbits(sample.nbits)
    notes = []
    if unexplained:
        notes.append(f"how the prices of {unexplained} templates came about is not explained")
    if harder:
        notes.append(
            f"{harder} templates were priced for a target harder than that of their nBits, which a "
            "rule of a test chain may ask for"
        )
    if references:
        scripts = ", ".join(sorted(script.hex() for script in claims.scripts))
        notes.append(
            f"reference fees of {min(references)} to {max(references)} sats, and the scripts that "
            f"count as the pool's ({scripts}), are what the MSP says: compare them with a node's "
            "and with the pool's address"
        )
    return notes


def _price_fault(price: int, sample: Sample, quote: Quote, scripts: frozenset[bytes]) -> str:
    """Says what is wrong with a price; empty when it is right."""
    weight = sample.weight
    paid = coinbase_paid_sats(sample.coinbase, scripts)
    if paid != quote.paid_sats:
        return f"its coinbase pays the pool {paid} sats, claimed are {quote.paid_sats}"
    try:
        target = target_of_nbits(sample.nbits)
    except ValueError as error:
        return str(error)
    if quote.target > target or (quote.target != target and weight.scale != REGTEST_SCALE):
        return "its target is not that of its nBits"
    subsidy = subsidy_sats(sample.height, weight.scale)
    reference = subsidy + quote.reference_sats
    if quote.cap_sats not in {reference, reference + max(quote.reference_sats >> 2, 50_000)}:
        return f"its cap of {quote.cap_sats} sats is not that of its reference fees"
    counted = min(paid, quote.cap_sats)
    if weight.mode == SLICE:
        right = max(counted - subsidy, 0)
    else:
        parts = counted if weight.mode == VALUE else 1
        right = (parts << weight.scale) // (2**256 // (quote.target + 1))
    return "" if right == price else f"{right} is right"


def target_of_nbits(nbits: int) -> int:
    """Reads a compact target, as consensus does.

    Raises:
        ValueError: There is no such target.

    Source: `spec/01-conventions.md`, [CV-11].
    """
    size, mantissa = nbits >> 24, nbits & 0x7FFFFF
    target = mantissa >> 8 * (3 - size) if size <= 3 else mantissa << 8 * (size - 3)
    if nbits & 0x800000 or not 0 < target < 2**256:
        raise ValueError(f"nBits 0x{nbits:08x} are no target")
    return target


def split_payment(
    claims: Claims, earnings: Earnings, payment: Settlement
) -> tuple[dict[Owner, int], int]:
    """Computes what a payment gives to whom, and what it carries on."""
    epochs = set(payment.epochs)
    amount = payment.value_sats + payment.carry_in
    rules = {weight for epoch, weight in earnings.rules if epoch in epochs}
    rule = rules.pop() if len(rules) == 1 else NO_WEIGHT
    work: dict[Owner, int] = defaultdict(int)
    value: dict[Owner, int] = defaultdict(int)
    slices: dict[tuple[int, bytes], dict[Owner, list[int]]] = defaultdict(dict)
    for (epoch, owner, digest, minute, prev_hash), (own_work, own_value) in earnings.rows.items():
        if epoch not in epochs:
            continue
        counts = not _is_void(claims, payment, epoch, digest)
        work[owner] += own_work * counts
        value[owner] += own_value * counts
        if counts:
            row = slices[minute, prev_hash].setdefault(owner, [0, 0])
            row[0] += own_work
            row[1] += own_value
    if rule.mode != SLICE:
        return payouts_of(amount, work if rule == NO_WEIGHT else value, payment.block)
    height = claims.blocks[payment.block].height
    fees = min(max(payment.value_sats - subsidy_sats(height, rule.scale), 0), max(amount, 0))
    by_work, carry = payouts_of(amount - fees, work, payment.block)
    by_fees, more = payouts_of(fees, fee_weights(slices, rule.base), payment.block)
    if not sum(work.values()) or amount <= 0:
        return {}, carry + more
    owners = by_work.keys() | by_fees.keys()
    return {owner: by_work.get(owner, 0) + by_fees.get(owner, 0) for owner in owners}, 0


def fee_weights(
    slices: Mapping[tuple[int, bytes], Mapping[Owner, Sequence[int]]], base: int
) -> dict[Owner, int]:
    """Weighs owners by the fees of their templates, each slice having its part by work."""
    weights: dict[Owner, int] = defaultdict(int)
    for owners in slices.values():
        all_work = sum(work for work, _ in owners.values()) >> base
        all_value = sum(value for _, value in owners.values())
        for owner, (work, value) in owners.items():
            part = all_work * value * 2**64 // all_value if all_value else (work >> base) * 2**64
            weights[owner] += part
    return weights


def _is_void(claims: Claims, payment: Settlement, epoch: int, digest: bytes) -> bool:
    return any(
        void.template == digest and void.settlement < payment.id and epoch >= void.epoch_min
        for void in claims.voids
    )

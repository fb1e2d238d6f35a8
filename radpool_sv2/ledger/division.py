"""Decides by what the amount of a payment is split, and splits it.

Theory of operation. The shares of an epoch are weighed by the rule of the batches that they came
in. If all shares of the epochs that a payment pays were weighed by one rule, that rule counts:
value is summed up, or, in slice mode, the fees of the block are split slice by slice and the rest
by work. If there are several, or batches without prices among them, their values have no common
unit, and work alone counts.

Sums of value stand in the store. Slices, and shares on templates that were voided, are found by
going through the batches of the epochs again: both are rare, and the batches are what a verifier
recomputes them from.

Source: `spec/04-epoch-accounting.md`, "Payment"; `spec/09-template-value.md`, "Slices".
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from radpool_sv2._native.ledger import template_sums
from radpool_sv2.consensus import subsidy_sats
from radpool_sv2.errors import StoreError
from radpool_sv2.ledger.payout import Claim, split_reward
from radpool_sv2.store import SumRow
from radpool_sv2.weight import WeightMode
from radpool_sv2.weight.body import body_prev_hash
from radpool_sv2.weight.scale import halving_blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from radpool_sv2.store import BlockRow, Store, WeightRow

__all__ = ["Division", "Slice", "divide_fees", "rule_of_epochs", "sums_of_template", "void_sums"]

Owner = tuple[int, int]
"""Account and rail."""

Slice = tuple[int, bytes]
"""The minute of the batch, and the block that its templates build on."""

SLICE_MS = 60_000
FEE_PARTS_BITS = 64
"""Fee weights are kept in parts of 2^64 of the least work, so that their floors lose nothing."""

BATCHES_AT_ONCE = 64
TIME_AT = 4 + 1 + 32 + 8 + 32
"""Where a batch's time stands, 8 bytes."""


@dataclass(frozen=True, slots=True)
class Earning:
    """Is what an owner has earned on one template of one batch."""

    digest: bytes
    time_ms: int
    commitment: bytes
    epoch: int
    rail: int
    count: int
    work: int
    value: int


def rule_of_epochs(store: Store, epochs: Sequence[int]) -> WeightRow | None:
    """Returns the rule that all shares of some epochs were weighed by; None when work counts."""
    rules = {rule for _, rule in store.weights_of_epochs(epochs)}
    if len(rules) != 1:
        return None
    [rule] = rules
    return rule if rule.mode else None


def _template_earnings(store: Store, epochs: Sequence[int]) -> Iterator[Earning]:
    """Goes through the batches that may hold shares of some epochs."""
    total, _ = store.epochs(0, 0)
    _, [lowest] = store.epochs(total - min(epochs), 1)
    head = store.head()
    last = -1 if head is None else head[0]
    for start in range(lowest.opened_sequence, last + 1, BATCHES_AT_ONCE):
        for _, _, blob in store.batches(start, min(start + BATCHES_AT_ONCE - 1, last)):
            time_ms = int.from_bytes(blob[TIME_AT : TIME_AT + 8], "little")
            for digest, _, commitment, epoch, rail, count, work, value in template_sums(blob):
                if epoch in epochs:
                    yield Earning(digest, time_ms, commitment, epoch, rail, count, work, value)


def divide_fees(
    slices: Mapping[Slice, Mapping[Owner, tuple[int, int]]], base: int
) -> dict[Owner, int]:
    """Weighs owners by the fees of their templates, each slice having its part by work.

    Args:
        slices: Work and value by slice and owner.
        base: The exponent that work is counted in.
    """
    weights: dict[Owner, int] = defaultdict(int)
    for owners in slices.values():
        slice_work = sum(work for work, _ in owners.values()) >> base
        slice_value = sum(value for _, value in owners.values())
        for owner, (work, value) in owners.items():
            if slice_value:
                weights[owner] += (slice_work * value << FEE_PARTS_BITS) // slice_value
            else:
                weights[owner] += work >> base << FEE_PARTS_BITS
    return weights


class Division:
    """Is how a payment of some epochs is split."""

    def __init__(self, store: Store, epochs: Sequence[int]) -> None:
        """Weighs the owners who worked in the epochs."""
        self._store = store
        _, accounts = store.accounts(0, -1)
        self._commitments = {account.id: account.commitment for account in accounts}
        self._accounts = {account.commitment: account.id for account in accounts}
        self.rule = rule_of_epochs(store, epochs)
        self._slices: dict[Slice, dict[Owner, tuple[int, int]]] = {}
        self._earned = store.earned_in_epochs(epochs)
        voided = {
            void.digest: void.epoch_min
            for void in store.voids()
            if any(row.epoch in epochs for row in void.sums)
        }
        if voided or self._is_by_slices:
            self._recount(epochs, voided)

    @property
    def _is_by_slices(self) -> bool:
        return self.rule is not None and self.rule.mode == WeightMode.SLICE

    def parts(self, amount: int, block: BlockRow) -> dict[Owner, int] | None:
        """Splits an amount above 0; None when nobody has earned anything."""
        if not self._is_by_slices:
            return self._split(amount, self._weights(), block)
        assert self.rule is not None
        halving = halving_blocks_of(self.rule.scale)
        fees = min(max(block.value_sats - subsidy_sats(block.height, halving), 0), amount)
        by_work = self._split(
            amount - fees, {owner: work for owner, (work, _) in self._earned.items()}, block
        )
        by_fees = self._split(fees, divide_fees(self._slices, self.rule.base), block)
        if by_work is None or by_fees is None:
            return None
        # Whoever has nothing but voided shares is in no slice.
        return {owner: sats + by_fees.get(owner, 0) for owner, sats in by_work.items()}

    def _weights(self) -> dict[Owner, int]:
        place = 0 if self.rule is None else 1
        return {owner: earned[place] for owner, earned in self._earned.items()}

    def _split(
        self, amount: int, weights: Mapping[Owner, int], block: BlockRow
    ) -> dict[Owner, int] | None:
        owners = sorted(weights, key=lambda owner: (self._commitments[owner[0]], owner[1]))
        claims = [
            Claim(self._commitments[account], rail, weights[account, rail])
            for account, rail in owners
        ]
        parts = split_reward(amount, claims, block.hash)
        return None if parts is None else dict(zip(owners, parts, strict=True))

    def _recount(self, epochs: Sequence[int], voided: Mapping[bytes, int]) -> None:
        """Sums up by slices, leaving out what was voided: templates, from an epoch on."""
        earned: dict[Owner, tuple[int, int]] = dict.fromkeys(self._earned, (0, 0))
        tips: dict[bytes, bytes] = {}
        for earning in _template_earnings(self._store, epochs):
            if earning.epoch >= voided.get(earning.digest, earning.epoch + 1):
                continue
            owner = self._accounts[earning.commitment], earning.rail
            earned[owner] = _added(earned.get(owner), earning)
            if self._is_by_slices:
                if earning.digest not in tips:
                    tips[earning.digest] = self._tip(earning.digest)
                owners = self._slices.setdefault(
                    (earning.time_ms // SLICE_MS, tips[earning.digest]), {}
                )
                owners[owner] = _added(owners.get(owner), earning)
        self._earned = earned

    def _tip(self, digest: bytes) -> bytes:
        body = self._store.body(digest)
        if body is None:
            raise StoreError(f"the ledger lost the template body {digest.hex()}")
        return body_prev_hash(body)


def void_sums(store: Store, digest: bytes, epochs: Sequence[int]) -> list[SumRow]:
    """Sums up what the shares on a template have earned in some epochs."""
    _, accounts = store.accounts(0, -1)
    numbers = {account.commitment: account.id for account in accounts}
    sums: dict[tuple[int, int, int], tuple[int, int, int]] = {}
    for earning in _template_earnings(store, epochs):
        if earning.digest == digest:
            key = numbers[earning.commitment], earning.epoch, earning.rail
            count, work, value = sums.get(key, (0, 0, 0))
            sums[key] = (count + earning.count, work + earning.work, value + earning.value)
    return [SumRow(*key, *total) for key, total in sorted(sums.items())]


def sums_of_template(store: Store, blob: bytes, digest: bytes) -> list[tuple[bytes, SumRow]]:
    """Sums up what the shares on a template have earned in one batch."""
    _, accounts = store.accounts(0, -1)
    numbers = {account.commitment: account.id for account in accounts}
    return [
        (digest, SumRow(numbers[commitment], epoch, rail, *total))
        for found, _, commitment, epoch, rail, *total in template_sums(blob)
        if found == digest
    ]


def _added(sums: tuple[int, int] | None, earning: Earning) -> tuple[int, int]:
    work, value = sums or (0, 0)
    return work + earning.work, value + earning.value

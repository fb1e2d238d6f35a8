"""Checks what the demo has shown: each check compares what two parts say of the same thing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from radpool_sv2.demo.books import Block, Epoch, Part
    from radpool_sv2.demo.stage import Miner

__all__ = [
    "Outcome",
    "check_blocks",
    "check_miners",
    "check_payments",
    "check_report",
    "each_payment",
    "fits_told",
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Says whether something held, and what was compared."""

    holds: bool
    claim: str
    detail: str


def check_miners(
    miners: Sequence[Miner], epochs: Sequence[Epoch], account: str
) -> Iterator[Outcome]:
    """Compares what miners counted with what the ledger holds for the account of all of them.

    A share that a miner was told of must be in the ledger, also one that the pool kept while it
    refused each claim for it; one whose answer was still on its way when the miner left may be.
    """
    shares = sum(_of(epoch.parts, account, "shares") for epoch in epochs)
    work = sum(_of(epoch.parts, account, "work") for epoch in each_payment(epochs))
    told = sum(int(miner.figures.get("accepted", 0)) for miner in miners)
    told_work = sum(int(miner.figures.get("accepted_hashes", 0)) for miner in miners)
    kept = sum(int(miner.figures.get("wallet", {}).get("kept", 0)) for miner in miners)
    yield Outcome(
        fits_told(shares, work, miners, kept),
        "every share that a miner was told of is in the ledger",
        f"told {told} shares, {told_work:,} hashes; ledger {shares} shares, {work:,} hashes"
        + (f"; {kept} of them without a token" if kept else ""),
    )
    for miner in miners:
        figures = miner.figures
        refused = dict(figures.get("rejected") or {})
        # A share that meets a new block on its way comes too late; nobody did anything wrong.
        late = refused.pop("stale-share", 0)
        yield Outcome(
            not figures.get("mismatches") and not refused,
            f"the pool answered each of {miner.plan.name}'s shares as it had to",
            f"refused {sum(refused.values())}, too late {late}, answers that fit nothing "
            f"{figures.get('mismatches')}",
        )


def fits_told(shares: int, work: int, miners: Sequence[Miner], kept: int = 0) -> bool:
    """Says whether shares and their work are what miners were told of.

    A share whose answer was on its way when the miner left may be among them.

    Args:
        shares: How many there are.
        work: Their work in hashes.
        miners: Who was told.
        kept: How many more they were told of as kept without a token, and not of their work.
    """
    told = sum(int(miner.figures.get("accepted", 0)) for miner in miners)
    told_work = sum(int(miner.figures.get("accepted_hashes", 0)) for miner in miners)
    open_answers = sum(
        int(miner.figures.get("unanswered", 0)) + int(miner.figures.get("lost", 0))
        for miner in miners
    )
    work_fits = work == told_work if shares == told else work > told_work
    return told > 0 and told + kept <= shares <= told + kept + open_answers and work_fits


def each_payment(epochs: Sequence[Epoch]) -> list[Epoch]:
    """Leaves out epochs whose payment pays several: their parts are those of all together."""
    return list({epoch.block or epoch.number: epoch for epoch in epochs}.values())


def _of(parts: Sequence[Part], account: str, name: str) -> int:
    return sum(getattr(part, name) for part in parts if part.account == account)


def check_blocks(blocks: Sequence[Block], depths: Mapping[str, int | None]) -> Iterator[Outcome]:
    """Compares the pool's blocks with what the consensus engine says of them.

    Two miners may solve the same height within the moment that a block takes to everybody: one of
    the two blocks is not on the chain then, and the books say so, too.
    """
    yield Outcome(bool(blocks), "the pool has found a block", f"{len(blocks)} found")
    held = {block.height for block in blocks if depths.get(block.hash) is not None}
    for block in blocks:
        depth = depths.get(block.hash)
        if depth is None and block.height in held:
            yield Outcome(
                block.confirmations is None,
                f"block {block.height} came second at its height, and pays nobody",
                block.hash,
            )
            continue
        yield Outcome(
            depth is not None,
            f"the consensus engine has block {block.height} on the active chain",
            f"{block.hash}, {depth} deep",
        )


def check_payments(epochs: Sequence[Epoch]) -> Iterator[Outcome]:
    """Recomputes payments: sums to the satoshi, and each part by the rule of three."""
    uneven = [epoch.number for epoch in epochs if not _sums_up(epoch)]
    value = sum(epoch.value_sats for epoch in epochs)
    paid = sum(part.sats for epoch in epochs for part in epoch.parts)
    yield Outcome(
        bool(epochs) and not uneven,
        "the parts of every payment sum to what its block pays, to the satoshi",
        f"{len(epochs)} payments: blocks pay {value:,}, miners get {paid:,}, carried on "
        f"{epochs[-1].carry_out_sats if epochs else 0}"
        + (f"; wrong: epochs {uneven}" if uneven else ""),
    )
    unfair = [epoch.number for epoch in epochs if not _is_proportional(epoch)]
    work = sum(part.work for epoch in epochs for part in epoch.parts)
    yield Outcome(
        bool(epochs) and not unfair,
        "every part is the block's value by what the miner's shares are worth",
        f"{work:,} hashes" + (f"; wrong: epochs {unfair}" if unfair else ""),
    )


def check_report(report: bytes, epoch: Epoch, commitments: Mapping[str, str]) -> Outcome:
    """Compares what the verifier made of the export alone with what the pool says it paid."""
    claim = f"epoch {epoch.number}, recomputed from its export alone, pays the same"
    try:
        fields = json.loads(report)
    except ValueError:
        return Outcome(False, claim, "the verifier said nothing that can be read")
    if not fields.get("verified"):
        return Outcome(False, claim, str(fields.get("reason", "")))
    recomputed = {part["commitment"]: part["sats"] for part in fields["payouts"]}
    told = {commitments[part.account]: part.sats for part in epoch.parts if part.sats}
    return Outcome(
        recomputed == told,
        claim,
        f"{fields['shares']:,} shares of {fields['batches']:,} batches, "
        f"{sum(recomputed.values()):,} sats",
    )


def _sums_up(epoch: Epoch) -> bool:
    paid = sum(part.sats for part in epoch.parts)
    return epoch.value_sats + epoch.carry_in_sats == paid + epoch.carry_out_sats


def _is_proportional(epoch: Epoch) -> bool:
    to_split = epoch.value_sats + epoch.carry_in_sats
    total = sum(part.value for part in epoch.parts)
    if total == 0:
        # A block may come so soon after another that nobody has worked for it: all is carried on.
        return epoch.carry_out_sats == to_split
    # Largest remainder gives each part its exact share rounded down, or one satoshi more.
    return all(0 <= part.sats - to_split * part.value // total <= 1 for part in epoch.parts)

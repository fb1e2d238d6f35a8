"""Counts what each declarer declares and what became of it, for people: nothing is paid by it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from radpool_sv2.templates.declared import Owner

__all__ = ["DeclarerReport", "QualityBook"]

DECLARERS_MAX: Final = 10_000
"""Declarers that are counted; whoever was silent the longest makes room."""

REASONS_MAX: Final = 32
"""Different reasons that are counted for one declarer; the rest count as `other`."""

SOLVED_MAX: Final = 4_096
"""Blocks that are remembered, so that each counts once: far more than are found within seconds."""

_Q32: Final = 1 << 32


@dataclass(slots=True)
class DeclarerReport:
    """Is what is known of one declarer.

    Attributes:
        owner: Who it is.
        declared: Templates that were judged or refused.
        accepted: Those that passed.
        refused: The others, by reason.
        transactions: Transactions in the accepted templates.
        provided: Those that only the miner had.
        verdict_ms: What the last verdict took, with its wait.
        jobs: Custom jobs that were accepted.
        hidden_jobs: Those whose transactions stayed hidden.
        paid_sats: What the last job's coinbase pays to the pool.
        quality_q32: What that is of the reference, in 2^-32; None before the first job.
        blocks: Blocks that were found on its templates.
        revealed: Hidden templates that were revealed as they should.
        unrevealed: Those that were not.
    """

    owner: Owner
    declared: int = 0
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    transactions: int = 0
    provided: int = 0
    verdict_ms: int = 0
    jobs: int = 0
    hidden_jobs: int = 0
    paid_sats: int = 0
    quality_q32: int | None = None
    blocks: int = 0
    revealed: int = 0
    unrevealed: int = 0

    def refuse(self, reason: str) -> None:
        """Counts a template that did not pass."""
        self.declared += 1
        if reason not in self.refused and len(self.refused) >= REASONS_MAX:
            reason = "other"
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def to_json(self) -> dict[str, Any]:
        """Returns it JSON-ready; the quality in per mille, rounded down."""
        quality = self.quality_q32
        return {
            "account": self.owner.name,
            "rail": self.owner.rail,
            "declared": self.declared,
            "accepted": self.accepted,
            "refused": dict(self.refused),
            "transactions": self.transactions,
            "transactions_provided": self.provided,
            "verdict_ms": self.verdict_ms,
            "jobs": self.jobs,
            "hidden_jobs": self.hidden_jobs,
            "paid_sats": self.paid_sats,
            "quality_permille": None if quality is None else quality * 1_000 // _Q32,
            "blocks": self.blocks,
            "revealed": self.revealed,
            "unrevealed": self.unrevealed,
        }


class QualityBook:
    """Holds the reports of all declarers."""

    def __init__(self) -> None:
        self._reports: OrderedDict[tuple[int, int], DeclarerReport] = OrderedDict()
        self._solved: OrderedDict[bytes, None] = OrderedDict()

    def of(self, owner: Owner) -> DeclarerReport:
        """Returns the report of a declarer, to be added to."""
        report = self._reports.get(owner.key)
        if report is None:
            report = self._reports[owner.key] = DeclarerReport(owner)
            if len(self._reports) > DECLARERS_MAX:
                self._reports.popitem(last=False)
        self._reports.move_to_end(owner.key)
        return report

    def solved(self, owner: Owner, block_hash: bytes) -> None:
        """Counts a block, which may be heard of twice: as a share, and pushed by its miner."""
        if block_hash in self._solved:
            return
        self._solved[block_hash] = None
        if len(self._solved) > SOLVED_MAX:
            self._solved.popitem(last=False)
        self.of(owner).blocks += 1

    def page(self, offset: int, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """Returns how many declarers there are, and some of them, whoever was heard last first."""
        reports = list(reversed(self._reports.values()))
        return len(reports), [each.to_json() for each in reports[offset : offset + limit]]

    def totals(self) -> dict[str, int]:
        """Returns sums over all declarers, by the names of metrics."""
        names = ("declared", "accepted", "provided", "jobs", "hidden_jobs", "blocks", "unrevealed")
        return {name: sum(getattr(each, name) for each in self._reports.values()) for name in names}

"""Models the published rule that pays fees by slices, PPLNS with job declaration, for comparison.

A slice is a run of shares on one previous block. It begins with a share on another previous block,
or with one that declares at least `delta` more fees than the slice's first share did. Subsidy is
split by work. Every slice has the same part of the fees, whatever its work; within it, fees go by
work times declared fees.

Source: "PPLNS with job declaration" (Bonazzi and Merli, 2024), sections on slices and scores.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

# Owner, work, declared fees.
Entry = tuple["Hashable", int, int]


class PublishedSlices:
    """Is the window of a pool that follows the published rule; shares come in their order."""

    def __init__(self, delta_sats: int) -> None:
        self._delta_sats = delta_sats
        self._slices: list[list[Entry]] = []
        self._tip: Hashable = None
        self._reference_sats = 0

    @property
    def count(self) -> int:
        """How many slices there are."""
        return len(self._slices)

    def add(self, owner: Hashable, *, work: int, tip: Hashable, fees_sats: int) -> None:
        """Takes a share in."""
        is_better = fees_sats >= self._reference_sats + self._delta_sats
        if not self._slices or tip != self._tip or is_better:
            self._slices.append([])
            self._tip, self._reference_sats = tip, fees_sats
        self._slices[-1].append((owner, work, fees_sats))

    def parts(self, subsidy_sats: int, fees_sats: int) -> Mapping[Hashable, Fraction]:
        """Splits what a block brings, exactly; parts are no whole satoshis."""
        parts: dict[Hashable, Fraction] = defaultdict(Fraction)
        all_work = sum(work for entries in self._slices for _, work, _ in entries)
        of_slice = Fraction(fees_sats, self.count)
        for entries in self._slices:
            # Where all declare nothing the rule divides by zero; work is the only measure then.
            scores = [work * fees for _, work, fees in entries]
            if not any(scores):
                scores = [work for _, work, _ in entries]
            for (owner, work, _), score in zip(entries, scores, strict=True):
                parts[owner] += Fraction(subsidy_sats * work, all_work)
                parts[owner] += of_slice * Fraction(score, sum(scores))
        return parts

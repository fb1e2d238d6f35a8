"""Keeps count of the shares that go to a pool: waiting, under way, accepted, rejected, given up.

A share waits in its job until the pool has accepted that; then it goes out, and waits for its
answer in the order in which shares went. One that went out again has an answer of its own, by its
number: the pool counted it when it came first. All bounds give up the oldest.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radpool_sv2.jdc.job import FoundShare, Job

__all__ = ["Sent", "Submissions", "Totals"]

UNANSWERED_MAX: Final = 65_536
CODES_MAX: Final = 64
"""Error codes that are counted one by one; what a pool invents beyond counts as one."""

OTHER_CODE: Final = "other"
SEQUENCE_MASK: Final = 0xFFFF_FFFF


@dataclass(slots=True)
class Totals:
    """Counts what became of shares, over all connections of one pool.

    Attributes:
        submitted: Went out.
        accepted: The pool acknowledged.
        accepted_sum: What the pool says that these are worth.
        rejected: Were refused, by code.
        lost: Went out, and the connection ended before an answer.
        given_up: Never went out: their job was refused or superseded, or too many waited.
        mismatches: Answers that do not fit what went out.
        jobs_declared: Jobs that the pool was given.
        jobs_accepted: Those of them that it pays for.
        jobs_refused: Those of them that it refused.
    """

    submitted: int = 0
    accepted: int = 0
    accepted_sum: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    given_up: int = 0
    mismatches: int = 0
    jobs_declared: int = 0
    jobs_accepted: int = 0
    jobs_refused: int = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """Is a share under way; it may have gone out before, under another number."""

    share: FoundShare
    job: Job
    since_s: float
    again: bool


class Submissions:
    """Is the shares of one connection.

    Args:
        totals: Where they are counted.
        cached_max: How many may wait for their jobs to be accepted.
    """

    def __init__(self, totals: Totals, cached_max: int) -> None:
        self.totals = totals
        self._cached_max = cached_max
        self._sequence = 0
        self._unanswered: OrderedDict[int, Sent] = OrderedDict()

    @property
    def unanswered(self) -> int:
        """How many wait for an answer."""
        return len(self._unanswered)

    @property
    def oldest_s(self) -> float | None:
        """Since when the oldest of them has waited."""
        return next((sent.since_s for sent in self._unanswered.values()), None)

    def cache(self, share: FoundShare, job: Job, jobs: Iterable[Job]) -> None:
        """Keeps a share until its job is accepted; `jobs` may all have some, oldest first."""
        job.cached.append(share)
        waiting = [each for each in jobs if each.cached]
        if sum(len(each.cached) for each in waiting) > self._cached_max:
            waiting[0].cached.popleft()
            self.totals.given_up += 1

    def give_up(self, job: Job) -> None:
        """Forgets what waits for a job."""
        self.totals.given_up += len(job.cached)
        job.cached.clear()

    def send(self, share: FoundShare, job: Job, now_s: float, *, again: bool = False) -> int:
        """Notes that a share goes out, or goes out again; returns its sequence number."""
        self._sequence = (self._sequence + 1) & SEQUENCE_MASK
        self._unanswered[self._sequence] = Sent(share, job, now_s, again)
        self.totals.submitted += 1
        if len(self._unanswered) > UNANSWERED_MAX:
            self._unanswered.popitem(last=False)
            self.totals.mismatches += 1
        return self._sequence

    def accept(self, last: int, count: int, worth: int) -> None:
        """Takes in that all shares up to number `last` are accepted, but those refused before.

        A count of 0 answers the one share with that number, which went out again.
        """
        named = self._unanswered.get(last)
        if count == 0 and named is not None and named.again:
            del self._unanswered[last]
            self.totals.accepted += 1
            exponent = named.job.coinbase.asked.exponent
            self.totals.accepted_sum += 0 if exponent is None else 1 << exponent
            return
        answered = []
        for sequence, sent in self._unanswered.items():
            if (last - sequence) & SEQUENCE_MASK >= 1 << 31:
                break
            if not sent.again:
                answered.append(sequence)
        for sequence in answered:
            del self._unanswered[sequence]
        self.totals.accepted += count
        self.totals.accepted_sum += worth
        if len(answered) != count:
            self.totals.mismatches += 1

    def reject(self, sequence: int, code: str) -> Sent | None:
        """Takes in a refusal; returns the share, unless the answer is to none."""
        sent = self._unanswered.pop(sequence, None)
        if sent is None:
            self.totals.mismatches += 1
            return None
        rejected = self.totals.rejected
        known = code in rejected or len(rejected) < CODES_MAX
        rejected[code if known else OTHER_CODE] += 1
        return sent

    def withdraw(self, sequence: int) -> None:
        """Takes in that a share goes out again under another number."""
        if self._unanswered.pop(sequence, None) is not None:
            self.totals.submitted -= 1

    def end(self, jobs: Iterable[Job]) -> None:
        """Counts what the end of the connection leaves behind."""
        self.totals.lost += len(self._unanswered)
        self._unanswered.clear()
        for job in jobs:
            self.give_up(job)

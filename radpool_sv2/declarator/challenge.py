"""Makes miners reveal some of the templates that were mined unseen.

Theory of operation. A custom job by an allocated token shows its coinbase and hides its
transactions, so its price is capped at the reference and its fees are the miner's word. When the
tip moves on, the hash of the new block and the job's token say which of them must be revealed: one
in 64, which nobody can know or choose before. The miner computes the same, and declares the
template late, with the job's token, on a connection of whole templates. What is declared must be
what was mined: the coinbase and the merkle path of the job, and a sound structure. A job that is
not revealed in time earns nothing, and its owner may hide nothing for a day.

    MINED -> dropped, when the tip moves and the lot falls on others
    MINED -> CHALLENGED -> revealed
    MINED -> CHALLENGED -> FAILED at its deadline -> written off, once that is durable

Bounds: jobs that may yet be challenged, by owner and in all; at one of them no further job is
taken unseen, since forgetting one would be a way out.

Source: `spec/10-job-declaration.md`, "Challenges".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2.units import tagged_hash

if TYPE_CHECKING:
    from radpool_sv2.templates.declared import HiddenJob, Owner

__all__ = ["CHALLENGE_ONE_IN", "ChallengeBook", "ChallengeLimits", "is_challenged"]

NOT_REVEALED: Final = "not revealed"

REASON_LEN_MAX: Final = 200
"""The longest explanation that goes into the books."""

CHALLENGE_ONE_IN: Final = 64
"""A lie in the fees of one template is found once in 64; found, it costs its shares and a day of
hiding, where the cap lets it gain at most the fees that honest templates have anyway."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChallengeLimits:
    """Bounds the book.

    Attributes:
        reveal_s: How long a challenged miner has: ten slots of a minute.
        banned_s: How long an owner may hide nothing after a failure.
        jobs_per_owner_max: Hidden jobs of one owner.
        jobs_max: Hidden jobs in all.
    """

    reveal_s: float = 600.0
    banned_s: float = 86_400.0
    jobs_per_owner_max: int = 512
    jobs_max: int = 16_384


def is_challenged(block_hash: bytes, token: bytes) -> bool:
    """Says whether a hidden job must be revealed.

    Args:
        block_hash: The block that took the height which the job was for, 32 bytes, internal order.
        token: The job's token.
    """
    return tagged_hash("radpool/challenge", block_hash, token)[0] % CHALLENGE_ONE_IN == 0


class ChallengeBook:
    """Holds the hidden jobs that must be revealed, or may yet have to be."""

    def __init__(self, limits: ChallengeLimits) -> None:
        self._limits = limits
        self._hidden: dict[bytes, HiddenJob] = {}
        self._due: dict[bytes, tuple[float, HiddenJob]] = {}
        self._failed: dict[bytes, HiddenJob] = {}
        self._tries: dict[bytes, str] = {}
        self._banned: dict[tuple[int, int], float] = {}
        self._by_owner: dict[tuple[int, int], int] = {}

    @property
    def due(self) -> int:
        """How many jobs must be revealed."""
        return len(self._due)

    def may_hide(self, owner: Owner, now: float) -> bool:
        """Says whether a job of an owner may be taken unseen."""
        if self._banned.get(owner.key, 0.0) > now:
            return False
        return (
            self._by_owner.get(owner.key, 0) < self._limits.jobs_per_owner_max
            and len(self._hidden) + len(self._due) + len(self._failed) < self._limits.jobs_max
        )

    def mined(self, job: HiddenJob) -> None:
        """Takes up a job that was accepted unseen."""
        self._hidden[job.token] = job
        self._by_owner[job.owner.key] = self._by_owner.get(job.owner.key, 0) + 1

    def unmined(self, token: bytes) -> None:
        """Forgets a job that was accepted and then not set: nobody can have mined it."""
        job = self._hidden.pop(token, None) or (self._due.pop(token, None) or (0.0, None))[1]
        if job is not None:
            self._release(job)

    def tip_changed(self, replaced: bytes, block_hash: bytes, now: float) -> list[HiddenJob]:
        """Draws lots over the jobs on a block that was the tip; returns those to be revealed.

        Args:
            replaced: The block that the jobs build on.
            block_hash: The block that has followed it.
            now: The time, s.
        """
        self._banned = {owner: until for owner, until in self._banned.items() if until > now}
        drawn = []
        for job in [each for each in self._hidden.values() if each.tip.prev_hash == replaced]:
            del self._hidden[job.token]
            if is_challenged(block_hash, job.token):
                self._due[job.token] = (now + self._limits.reveal_s, job)
                drawn.append(job)
            else:
                self._release(job)
        return drawn

    def owner(self, token: bytes) -> Owner | None:
        """Returns whose job a token stands for, if it must be revealed."""
        found = self._due.get(token)
        return None if found is None else found[1].owner

    def job(self, token: bytes) -> HiddenJob | None:
        """Returns the job that a token stands for, if it must be revealed."""
        found = self._due.get(token)
        return None if found is None else found[1]

    def revealed(self, token: bytes) -> None:
        """Closes a job that was revealed as it should."""
        found = self._due.pop(token, None)
        self._tries.pop(token, None)
        if found is not None:
            self._release(found[1])

    def tried(self, token: bytes, reason: str) -> None:
        """Notes why a job was not revealed by what was shown; the miner may try again."""
        if token in self._due:
            self._tries[token] = reason[:REASON_LEN_MAX]

    def reason(self, token: bytes) -> str:
        """Returns why a job was not revealed, for the books."""
        tried = self._tries.get(token)
        return NOT_REVEALED if tried is None else f"{NOT_REVEALED}: {tried}"

    def next_deadline(self) -> float | None:
        """Returns when `failed` has something to tell."""
        return min((deadline for deadline, _ in self._due.values()), default=None)

    def failed(self, now: float) -> list[HiddenJob]:
        """Closes the jobs that were not revealed in time; their owners may hide nothing.

        Returns:
            Those that are to be written off, the ones of earlier calls too until `written_off` was
            called for each: whatever comes between, none is forgotten.
        """
        for job in [job for deadline, job in self._due.values() if deadline <= now]:
            del self._due[job.token]
            self._failed[job.token] = job
            self._banned[job.owner.key] = now + self._limits.banned_s
        return list(self._failed.values())

    def written_off(self, token: bytes) -> None:
        """Forgets a job that has failed, since its shares are worth nothing now."""
        self._tries.pop(token, None)
        job = self._failed.pop(token, None)
        if job is not None:
            self._release(job)

    def _release(self, job: HiddenJob) -> None:
        left = self._by_owner[job.owner.key] - 1
        if left:
            self._by_owner[job.owner.key] = left
        else:
            del self._by_owner[job.owner.key]

"""Holds what the members of one run have said, and says who is at fault.

The broadcast gives all members the same bytes, so all decode the same messages. What they differ in
for a while is how many of them they have; so a message is counted for a verdict only once it stands
in a decided epoch, which is when it counts for everybody. Before that it only lets a member go on.

Bounds: one message of each step and member, and as many complaints of a member as there are others.

Source: `spec/16-threshold-keys.md`, "Over the broadcast".
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from radpool_sv2._native.threshold import PublicKey, Round1, Round1Set, Round2, judge
from radpool_sv2.errors import FaultyMSPError
from radpool_sv2.federation.dkg.message import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from radpool_sv2._native.threshold import Run

__all__ = ["Transcript"]

STEPS = (Step.FIRST, Step.SECOND, Step.SIGNATURE)


class Transcript:
    """Is all that was said in a run.

    Args:
        run: The run; members are their positions in it.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._n = len(run.members)
        self._bodies: dict[tuple[Step, int], bytes] = {}
        self._counted: set[tuple[Step, int]] = set()
        self._complaints: dict[tuple[int, bytes], bool] = {}
        self._first: dict[int, Round1 | None] = {}
        self._second: dict[int, Round2 | None] = {}

    def hear(self, member: int, step: Step, body: bytes) -> None:
        """Takes in a message in the order of its member's stream; the first of a step counts."""
        if step is not Step.COMPLAINT:
            self._bodies.setdefault((step, member), body)
        elif (Step.SIGNATURE, member) not in self._bodies:
            # Behind its signature a complaint is void: the member has said that all is well.
            count = sum(accuser == member for accuser, _ in self._complaints)
            if count < self._n - 1:
                self._complaints.setdefault((member, body), False)

    def count(self, member: int, step: Step, body: bytes) -> None:
        """Takes in that a message stands in a decided epoch."""
        self.hear(member, step, body)
        if step is not Step.COMPLAINT:
            self._counted.add((step, member))
        elif (member, body) in self._complaints:
            self._complaints[member, body] = True

    def said(self, member: int, step: Step) -> bytes | None:
        """Returns what a member has said in a step."""
        return self._bodies.get((step, member))

    @property
    def has_first(self) -> bool:
        """Whether all first messages are there, and hold."""
        return all(self._read_first(member) is not None for member in range(self._n))

    @property
    def has_second(self) -> bool:
        """Whether all second messages are there too, and hold."""
        return self.has_first and all(
            self._read_second(member) is not None for member in range(self._n)
        )

    @cached_property
    def round1(self) -> Round1Set:
        """All first messages."""
        messages = [self._read_first(member) for member in range(self._n)]
        return Round1Set(self.run, [each for each in messages if each is not None])

    @property
    def round2(self) -> list[Round2]:
        """Those second messages that are there, and hold."""
        messages = [self._read_second(member) for member in range(self._n)]
        return [each for each in messages if each is not None]

    @cached_property
    def public(self) -> PublicKey:
        """The key that follows from the messages; `has_second` must hold."""
        return PublicKey.from_broadcast(self.round1, self.round2)

    # Verdicts: functions of what counts, and so the same everywhere.

    def faults(self) -> dict[int, str]:
        """Returns who is at fault, and for what."""
        faults: dict[int, str] = {}
        for member in self._counted_of(Step.FIRST):
            if self._read_first(member) is None:
                faults[member] = "first-message"
        if faults or len(self._counted_of(Step.FIRST)) < self._n:
            return faults
        for member in self._counted_of(Step.SECOND):
            if self._read_second(member) is None:
                faults[member] = "second-message"
        if faults or len(self._counted_of(Step.SECOND)) < self._n:
            return faults
        for culprit, fault in self._verdicts():
            faults.setdefault(culprit, fault)
        for member in self._unsigned() & self._counted_of(Step.SIGNATURE):
            faults.setdefault(member, "certificate-signature")
        return faults

    def silent(self) -> set[int]:
        """Returns who has not said the first thing that is missing."""
        everybody = set(range(self._n))
        for step in STEPS:
            missing = everybody - self._counted_of(step)
            if missing:
                return missing
        return set()

    @property
    def is_certified(self) -> bool:
        """Whether the signatures of all members count and hold."""
        return not self.silent() and not self.faults() and not self._unsigned()

    # How.

    def _verdicts(self) -> Iterator[tuple[int, str]]:
        for (accuser, complaint), is_counted in self._complaints.items():
            if is_counted:
                try:
                    yield judge(self.round1, self.round2, accuser, complaint)
                except FaultyMSPError:
                    yield accuser, "complaint"

    def _counted_of(self, step: Step) -> set[int]:
        return {member for each, member in self._counted if each is step}

    def _unsigned(self) -> set[int]:
        signatures = [
            body if body is not None and len(body) == 64 else None
            for body in (self.said(member, Step.SIGNATURE) for member in range(self._n))
        ]
        return set(self.public.unsigned_by(signatures))

    def _read_first(self, member: int) -> Round1 | None:
        body = self.said(member, Step.FIRST)
        if body is not None and member not in self._first:
            try:
                self._first[member] = Round1.decode(self.run, member, body)
            except FaultyMSPError:
                self._first[member] = None
        return self._first.get(member)

    def _read_second(self, member: int) -> Round2 | None:
        body = self.said(member, Step.SECOND)
        if body is not None and member not in self._second:
            try:
                self._second[member] = Round2.decode(self.round1, member, body)
            except FaultyMSPError:
                self._second[member] = None
        return self._second.get(member)

"""Catches up: whom to ask for what is missing, and what to answer from a store.

Members say how far they are; what they say is a claim until it is proven by a certificate, so a
false one costs a question that is not answered in time, and the next member is asked. A member
that keeps no more what is asked for says so, and is not asked again until it claims again. Those
who failed less often are asked first, and of them who was asked less often: a member that claims
the most and answers late, with little, or by a lost link costs its turn, and not everybody else's.

Bounds: one question at a time per stream; one claim per member and stream.

Source: `spec/13-broadcast.md`, "Catching up".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from radpool_sv2.federation.effect import FOREVER
from radpool_sv2.federation.messages import (
    ENTRIES_BYTES_MAX,
    ENTRIES_MAX,
    EPOCHS_PER_MESSAGE_MAX,
    DecidedEpoch,
    Entries,
    Epochs,
    Gone,
    entries_bytes,
)

if TYPE_CHECKING:
    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.certificate import Certificate
    from radpool_sv2.federation.effect import Limits

__all__ = ["Log", "Puller", "answer", "answer_epochs"]


class Log(Protocol):
    """Is what a store must find for an answer."""

    def entry(self, sender: int, seq: int) -> Entry | None:
        """Returns a certified entry of a stream."""

    def certificate(self, sender: int, seq: int) -> Certificate | None:
        """Returns the certificate of an entry, if the store has one of its very own."""

    def epoch(self, epoch: int) -> DecidedEpoch | None:
        """Returns a decided epoch."""

    def first(self, sender: int) -> int:
        """Returns the number of the first entry of a stream that is kept, or would be."""

    def first_epoch(self) -> int:
        """Returns the first decided epoch that is kept, or would be."""


def answer(log: Log, sender: int, first: int) -> Entries | Gone | None:
    """Puts together the answer to a pull: as many entries as fit, up to one with a certificate.

    Entries that came in one message have one certificate, that of the last. They fit one message
    again, so there is always an answer where there is a certified entry.
    """
    entries: list[Entry] = []
    best: tuple[int, Certificate] | None = None
    size = 0
    while len(entries) < ENTRIES_MAX:
        entry = log.entry(sender, first + len(entries))
        if entry is None:
            break
        size += entries_bytes(entry)
        if size > ENTRIES_BYTES_MAX:
            break
        entries.append(entry)
        certificate = log.certificate(sender, entry.header.seq)
        if certificate is not None:
            best = len(entries), certificate
    if best is None:
        return Gone(log.first_epoch()) if first < log.first(sender) else None
    count, certificate = best
    return Entries(certificate, tuple(entries[:count]))


def answer_epochs(log: Log, first: int) -> Epochs | Gone | None:
    """Puts together the answer to a pull of epochs."""
    epochs: list[DecidedEpoch] = []
    while len(epochs) < EPOCHS_PER_MESSAGE_MAX:
        epoch = log.epoch(first + len(epochs))
        if epoch is None:
            break
        epochs.append(epoch)
    if not epochs:
        return Gone(log.first_epoch()) if first < log.first_epoch() else None
    return Epochs(tuple(epochs))


class Puller:
    """Decides when to ask whom for something that grows by numbers.

    Args:
        limits: Delays and time-outs.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._claims: dict[int, int] = {}
        self._failures: dict[int, int] = {}
        self._turns: dict[int, int] = {}
        self._due = FOREVER
        self._asked: int | None = None

    @property
    def asked(self) -> int | None:
        """Who has been asked and has not answered yet."""
        return self._asked

    def next_deadline(self) -> int:
        """Returns when `ask` has something to say."""
        return self._due

    def claim(self, member: int, count: int, known: int, now: int) -> None:
        """Takes in that a member has so many; `known` are here."""
        if count <= known:
            return
        self._claims[member] = max(count, self._claims.get(member, 0))
        if self._due == FOREVER:
            far = count > known + self._limits.window
            self._due = now if far else now + self._limits.pull_delay_ms

    def forget(self, member: int) -> None:
        """Takes in that a member has nothing, or that its link is down, until it claims again.

        What it has failed in stays: a new link, or another claim, does not put it first again.
        """
        self._claims.pop(member, None)
        if self._asked == member:
            self._failures[member] = self._failures.get(member, 0) + 1
            self._asked = None
            self._due = 0 if self._claims else FOREVER

    def grown(self, known: int, now: int) -> None:
        """Takes in that there are more here now."""
        behind = {member: count for member, count in self._claims.items() if count > known}
        self._claims = behind
        if not behind:
            self._due, self._asked = FOREVER, None
            self._failures.clear()
            self._turns.clear()
        elif self._due == FOREVER:
            self._due = now + self._limits.pull_delay_ms

    def answered(self, member: int, now: int, *, useful: bool) -> None:
        """Takes in that a member has answered; who is still behind asks again at once."""
        if self._asked != member:
            return
        self._asked = None
        if not useful:
            self._failures[member] = self._failures.get(member, 0) + 1
        # Who answers with nothing of use may be a liar, and the only one who claims to have more.
        wait = 0 if useful else self._limits.pull_delay_ms
        self._due = now + wait if self._claims else FOREVER

    def ask(self, now: int) -> int | None:
        """Returns whom to ask now, if it is time."""
        if now < self._due:
            return None
        if self._asked is not None:
            self._failures[self._asked] = self._failures.get(self._asked, 0) + 1
            self._asked = None
        if not self._claims:
            self._due = FOREVER
            return None
        self._asked = min(
            self._claims,
            key=lambda member: (
                self._failures.get(member, 0),
                self._turns.get(member, 0),
                -self._claims[member],
                member,
            ),
        )
        self._turns[self._asked] = self._turns.get(self._asked, 0) + 1
        self._due = now + self._limits.pull_timeout_ms
        return self._asked

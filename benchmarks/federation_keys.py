"""Measures how a committee makes a key and signs with it, by the machines that members run.

All members are in one process, between them is nothing: what one says is there at once, and time
passes only when nobody has anything to say. So CPU time is that of a member, and what a network
would add is told in message delays and in waits for those who are silent.

`threshold` measures the native steps alone, beside the plain library.
"""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from benchmarks.measure import Row
from benchmarks.process import BenchmarkError
from radpool_sv2._native.threshold import TREASURY, IdentityKey
from radpool_sv2.federation.broadcast.entry import START, Entry
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.committee import Committee
from radpool_sv2.federation.dkg.generation import Counted, Delivered, Generated, KeyGeneration
from radpool_sv2.federation.effect import FOREVER, Append, LinkUp
from radpool_sv2.federation.identity import Bip340Verifier
from radpool_sv2.federation.record import Started
from radpool_sv2.federation.signing.message import decode_signing, encode_signing
from radpool_sv2.federation.signing.purpose import Certified, Spend
from radpool_sv2.federation.signing.signing import (
    CertifiedEpoch,
    Heard,
    Say,
    Signed,
    Signing,
    Spent,
)
from radpool_sv2.federation.statement import StateRoot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SIZES = (4, 16, 50)
GENERATION_GOAL_S = {16: 2, 50: 20}
STATE = b"state"
TASK_EPOCH = 2
"""The first has the nonces published, the second has them counted."""


def measure_keys(members: int) -> list[Row]:
    """Measures committees of 4, 16 and 50 members, up to so many."""
    rows = []
    for size in SIZES:
        if size > members:
            break
        group = _Group(size)
        rows.append(_generation(group))
        rows.append(_signing(group, silent=0))
        rows.append(_signing(group, silent=size - group.committee.quorum))
    return rows


def _generation(group: _Group) -> Row:
    group.generate()
    spent = statistics.mean(group.cpu_ns) / 1e9
    goal = GENERATION_GOAL_S.get(group.size)
    return Row(
        f"key generation by the machines, {group.committee.quorum} of {group.size}: a member's CPU",
        f"{spent:.3f} s",
        goal=f"{goal} s" if goal else "",
        met=spent <= goal if goal else None,
        note=f"{group.steps} steps of the broadcast, {group.appended / group.size / 1_000:.1f} kB "
        "appended by each",
        data={"members": group.size, "seconds": spent, "bytes": group.appended},
    )


def _signing(group: _Group, silent: int) -> Row:
    run = _Run(group, silent)
    run.sign()
    honest = run.cpu_ns[: group.size - silent]
    sessions = statistics.mean(run.sessions[: group.size - silent])
    who = f"{silent} silent" if silent else "all answer"
    return Row(
        f"one signature by the machines, {group.committee.quorum} of {group.size}, {who}: "
        "a member's CPU",
        f"{statistics.mean(honest) / 1e6:.1f} ms",
        note=f"{run.delays} message delays and {run.waited_ms / 1_000:g} s of waiting until the "
        f"first has it; {sessions:.1f} sessions signed by each, at most "
        f"{max(honest) / 1e6:.1f} ms at one; {run.messages} messages of "
        f"{run.message_bytes / max(run.messages, 1):.0f} B in all",
        data={
            "members": group.size,
            "silent": silent,
            "cpu_ms": [each / 1e6 for each in honest],
            "sessions": run.sessions,
            "delays": run.delays,
            "waited_ms": run.waited_ms,
        },
    )


@dataclass
class _Group:
    """Is a committee that generates a key; `steps` are those of the broadcast."""

    size: int
    generated: list[Generated] = field(default_factory=list)
    cpu_ns: list[int] = field(default_factory=list)
    steps: int = 0
    appended: int = 0

    def __post_init__(self) -> None:
        keys = (
            IdentityKey.from_secret(sha256(b"member %d" % each).digest())
            for each in range(self.size)
        )
        self.keys = sorted(keys, key=lambda key: key.public)
        members = tuple(key.public for key in self.keys)
        self.committee = Committee(sha256(b"a chain").digest(), 0, members, 1)
        self.tips = [START] * self.size

    def entry(self, member: int, wanted: Append) -> Entry:
        """Makes the entry of what a member appends."""
        content = wanted.kind, wanted.payload
        entry = Entry.sign(self.committee, member, self.keys[member], self.tips[member], content)
        self.tips[member] = self.tips[member].after(entry)
        return entry

    def generate(self) -> None:
        """Generates a key.

        Raises:
            BenchmarkError: None came of it.
        """
        self.cpu_ns = [0] * self.size
        machines = [
            KeyGeneration(self.committee, key, TREASURY, epoch_first=0) for key in self.keys
        ]
        found: dict[int, Generated] = {}
        said: list[Entry] = []
        for member, machine in enumerate(machines):
            with _clock(self.cpu_ns, member):
                machine.restore([], [], [])
        while new := [
            entry for member in range(self.size) for entry in self._said(member, machines, found)
        ]:
            self.steps += 1
            said += new
            for member, machine in enumerate(machines):
                with _clock(self.cpu_ns, member):
                    for entry in new:
                        machine.handle(Delivered(entry), 0)
        self.appended = sum(len(entry.payload) for entry in said)
        for member, machine in enumerate(machines):
            with _clock(self.cpu_ns, member):
                machine.handle(Counted(0, said), 0)
            self._said(member, machines, found)
        if len(found) < self.size:
            raise BenchmarkError(f"{self.size} members: no key was generated")
        self.generated = [found[member] for member in range(self.size)]

    def _said(
        self, member: int, machines: list[KeyGeneration], found: dict[int, Generated]
    ) -> list[Entry]:
        with _clock(self.cpu_ns, member):
            effects = list(iter(machines[member].poll, None))
        for effect in effects:
            if isinstance(effect, Generated):
                found[member] = effect
        return [self.entry(member, each) for each in effects if isinstance(each, Append)]


class _Run:
    """Is one signature of a group; the last members are silent once the nonces are published."""

    def __init__(self, group: _Group, silent: int) -> None:
        self.group = group
        self.cpu_ns = [0] * group.size
        self.sessions = [0] * group.size
        self.messages = self.message_bytes = self.delays = self.now = self.waited_ms = 0
        # Chance says who signs first; that silent ones are among them is the case to be measured.
        self._honest = group.size - silent
        self._verifier = Bip340Verifier()
        self._appends: list[Entry] = []
        self._wire: list[tuple[int, int, bytes]] = []
        self._signed: dict[int, bytes] = {}
        self._machines = [
            Signing(
                group.generated[member], member, group.keys[member], self._verifier, _spends, boot=0
            )
            for member in range(group.size)
        ]

    def sign(self) -> None:
        """Signs.

        Raises:
            BenchmarkError: Nothing came of it.
        """
        members = range(self.group.size)
        for member in members:
            self._machines[member].restore([], {}, 0)
            for peer in members:
                if peer != member:
                    self._machines[member].handle(LinkUp(peer), 0)
        self._certify(0)
        self._certify(1)
        # That was done beforehand: it is no part of a signature's time.
        self.cpu_ns = [0] * self.group.size
        self._certify(TASK_EPOCH)
        while not self._signed:
            if self._wire:
                self._deliver()
            elif not self._wait():
                raise BenchmarkError(f"{self.group.size} members: nothing was signed")
        if len(set(self._signed.values())) != 1:
            raise BenchmarkError("one task was signed twice")

    def _certify(self, epoch: int) -> None:
        # Who is in an epoch has a mark in it; only those are asked to sign first.
        mark = Append(Kind.EPOCH_MARK, b"")
        marks = [self.group.entry(member, mark) for member in range(self.group.size)]
        certified, entries = self._certified(epoch), self._appends + marks
        self._appends = []
        for member, machine in enumerate(self._machines):
            with _clock(self.cpu_ns, member):
                machine.handle(CertifiedEpoch(entries, certified), self.now)
            self._take(member)

    def _certified(self, epoch: int) -> Certified:
        committee, start = self.group.committee, Started(epoch + 1, ())
        root = StateRoot(committee.id, epoch, start.root(_Function().root(STATE)))
        signatures = {
            each: self.group.keys[each].sign(root.digest) for each in range(committee.quorum)
        }
        certificate = Certificate.of(root, signatures, committee)
        return Certified.verify(committee, self._verifier, _Function(), certificate, start, STATE)

    def _deliver(self) -> None:
        """Delivers all that is on its way."""
        wire, self._wire = self._wire, []
        self.delays += 1
        for sender, to, data in wire:
            self.messages += 1
            self.message_bytes += len(data)
            with _clock(self.cpu_ns, to):
                self._machines[to].handle(Heard(sender, decode_signing(data)), self.now)
            self._take(to)

    def _wait(self) -> bool:
        """Lets time pass until somebody has something to do."""
        due = min(machine.next_deadline() for machine in self._machines[: self._honest])
        if due >= FOREVER:
            return False
        self.waited_ms += due - self.now
        self.now = due
        for member in range(self._honest):
            if self._machines[member].next_deadline() <= due:
                with _clock(self.cpu_ns, member):
                    self._machines[member].handle_deadline(due)
                self._take(member)
        return True

    def _take(self, member: int) -> None:
        with _clock(self.cpu_ns, member):
            effects = list(iter(self._machines[member].poll, None))
        for effect in effects:
            if isinstance(effect, Append):
                self._appends.append(self.group.entry(member, effect))
            elif isinstance(effect, Say) and member < self._honest and effect.member < self._honest:
                with _clock(self.cpu_ns, member):
                    data = encode_signing(effect.message)
                self._wire.append((member, effect.member, data))
            elif isinstance(effect, Signed):
                self._signed[member] = effect.signature
            elif isinstance(effect, Spent):
                self.sessions[member] += 1


class _Function:
    """Is a state function that has one state."""

    def apply(self, state: bytes, epoch: int, segments: Iterable[Iterable[Entry]]) -> bytes:  # noqa: ARG002 - as above
        """Returns the state."""
        return state

    def root(self, state: bytes) -> bytes:
        """Returns its root."""
        return sha256(state).digest()


def _spends(epoch: int, state: bytes) -> Iterable[Spend]:
    """Wants one input spent, once nonces are there."""
    return [] if epoch < TASK_EPOCH else [Spend(sha256(state).digest(), None)]


@contextmanager
def _clock(spent: list[int], member: int) -> Iterator[None]:
    started = time.thread_time_ns()
    try:
        yield
    finally:
        spent[member] += time.thread_time_ns() - started

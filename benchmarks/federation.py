"""Measures a federation: processes that replicate and verify each other's shares, and decide.

Members are processes of `benchmarks.federation_member`, linked over TCP on loopback by Noise, each
with a store on disk. Batches are sealed before the clock starts. A share counts once every member
has verified it and a quorum has signed the books that it stands in.

The floor beside it is what one process needs to verify the same batches, and the payload times the
members that lack it.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.federation_member import (
    BATCH_SHARES,
    HEIGHT_FIRST,
    read_batches,
    write_batches,
)
from benchmarks.measure import Row
from benchmarks.process import ROOT, BenchmarkError, end_process, new_directory
from radpool_sv2._native.ledger import verify_batch
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.state.accounting import body_digest
from radpool_sv2.federation.state.payload import decode_bodies

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.process import Line

SECONDS_MAX = 600
EXTRA_EPOCHS_MAX = 20
BYTES_GOAL = 1.1
RATE_GOALS = {4: 50_000, 7: 25_000, 16: 8_000}
"""Shares per second on one host; the machine that they were estimated on had two processors."""


@dataclass(frozen=True)
class FederationLoad:
    """Is what a federation has to bear.

    Args:
        members: Sizes of committees.
        shares: Shares of all members together in a run.
        epochs: Epochs that these are divided into.
        quiet_epochs: Epochs of a run with one batch of each member, for the time of decisions.
        long_batches: Batches of each member in a run of one epoch, for the bytes: what an epoch
            costs besides is divided among more of them, as in life.
    """

    members: tuple[int, ...]
    shares: int
    epochs: int
    quiet_epochs: int
    long_batches: int


class Members:
    """Is the processes of a committee.

    Args:
        count: How many.
        directory: Where their batches are.
    """

    def __init__(self, count: int, directory: Path) -> None:
        self.count = count
        self._lines: queue.SimpleQueue[tuple[int, Line | None]] = queue.SimpleQueue()
        self._kept: list[tuple[int, Line]] = []
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.federation_member", directory, str(each),
                 str(count)],
                cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )
            for each in range(count)
        ]  # fmt: skip
        for each in range(count):
            threading.Thread(target=self._read, args=(each,), daemon=True).start()

    def _read(self, member: int) -> None:
        pipe = self._processes[member].stdout
        assert pipe is not None
        for line in pipe:
            self._lines.put((member, json.loads(line)))
        self._lines.put((member, None))

    def tell(self, words: str) -> None:
        """Says a line to all."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{words}\n")
            process.stdin.flush()

    def wait(self, event: str, **fields: int) -> list[Line]:
        """Waits until all have said something; returns what each said first, in their order.

        Args:
            event: What.
            fields: Its numbers, or what they must have reached.

        Raises:
            BenchmarkError: One has ended, or it takes too long.
        """
        found: dict[int, Line] = {}

        def is_wanted(line: Line) -> bool:
            return line["event"] == event and all(
                line[name] >= least for name, least in fields.items()
            )

        deadline = time.monotonic() + SECONDS_MAX
        for member, line in filter(lambda said: is_wanted(said[1]), self._kept):
            found.setdefault(member, line)
        while len(found) < self.count:
            try:
                member, line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.1))
            except queue.Empty:
                raise BenchmarkError(f"{self.count} members: no {event} in time") from None
            if line is None:
                raise BenchmarkError(f"member {member} has ended; what it says stands above")
            self._kept.append((member, line))
            if is_wanted(line):
                found.setdefault(member, line)
        return [found[member] for member in range(self.count)]

    def status(self) -> list[Line]:
        """Asks all for their figures."""
        self._kept = [(member, line) for member, line in self._kept if line["event"] != "status"]
        self.tell("status")
        return self.wait("status")

    def start(self) -> None:
        """Links all with all."""
        ports = [line["port"] for line in self.wait("listening")]
        self.tell("peers " + " ".join(map(str, ports)))
        self.wait("linked")

    def end(self) -> None:
        """Lets all leave."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            end_process(process)


def measure_federation(load: FederationLoad) -> list[Row]:
    """Measures committees of several sizes."""
    rows = []
    for members in load.members:
        batches = max(load.shares // BATCH_SHARES // members // load.epochs, 1)
        busy = _run(members, load.epochs, batches, floored=True)
        quiet = _run(members, load.quiet_epochs, 1)
        rows += [*_rate(busy), _wire(busy, batches), _times(busy, "under that load")]
        rows.append(_times(quiet, "quiet"))
        if batches < load.long_batches:
            rows.append(_wire(_run(members, 1, load.long_batches), load.long_batches))
    return rows


@dataclass
class _Result:
    """Is what a run has come to.

    Args:
        members: How many.
        shares: Shares of all together.
        payload: Bytes of their batches.
        floor_us: What one process needs to verify a share; 0 if that was not asked.
        seconds: From the first batch to the last signature of a quorum at the last member.
        used: What each member has used: CPU time in all, in its main thread, in the state function,
            and bytes sent.
        decided_ns: From the block that ends an epoch to its decision, at each member.
        certified_ns: From there to a quorum's signatures of the books behind it.
    """

    members: int
    shares: int
    payload: int
    floor_us: float = 0.0
    seconds: float = 0.0
    used: list[Line] = field(default_factory=list)
    decided_ns: list[int] = field(default_factory=list)
    certified_ns: list[int] = field(default_factory=list)

    def share_us(self, name: str) -> float:
        """Returns what a member has used of something on average, in microseconds a share."""
        return statistics.mean(each[name] for each in self.used) / self.shares / 1_000


def _rate(run: _Result) -> list[Row]:
    each, rate = run.share_us("process_cpu_ns"), run.shares / run.seconds
    goal = RATE_GOALS.get(run.members)
    state, main = run.share_us("state_cpu_ns"), run.share_us("thread_cpu_ns")
    return [
        Row(
            f"federation of {run.members}: shares replicated, verified and certified",
            f"{rate:,.0f} a second",
            goal=f"{goal:,} a second" if goal else "",
            met=rate >= goal if goal else None,
            note=f"{run.shares:,} shares in {run.seconds:.1f} s, {run.members} processes on "
            f"{len(os.sched_getaffinity(0))} processors; their CPU time alone would allow "
            f"{len(os.sched_getaffinity(0)) / each / run.members * 1e6:,.0f}",
            data={"rate": rate, "seconds": run.seconds, "shares": run.shares},
        ),
        Row(
            f"federation of {run.members}: CPU of a member per share",
            f"{each:.2f} µs",
            note=f"{each / run.floor_us:.2f} of the {run.floor_us:.2f} µs that one process needs "
            f"to verify a share; {state:.2f} state function, {main:.2f} protocol and links, "
            f"{each - state - main:.2f} store and signatures of the state",
            data={"cpu_us": each, "floor_us": run.floor_us, "state_us": state, "main_us": main},
        ),
    ]


def _wire(run: _Result, batches: int) -> Row:
    sent = sum(each["bytes_sent"] for each in run.used)
    per_share = sent / run.shares / (run.members - 1)
    floor = run.payload / run.shares
    return Row(
        f"federation of {run.members}, {batches} batches of each an epoch: bytes on the wire per "
        "share and receiver",
        f"{per_share:.1f}",
        goal=f"{BYTES_GOAL} of the payload",
        met=per_share <= BYTES_GOAL * floor,
        note=f"{per_share / floor:.3f} of the payload's {floor:.1f}, once for each receiver",
        data={"bytes": per_share, "floor": floor},
    )


def _times(run: _Result, when: str) -> Row:
    decided, certified = sorted(run.decided_ns), sorted(run.certified_ns)
    return Row(
        f"federation of {run.members}, {when}: from an epoch's last block to its decision",
        f"p50 {_at(decided, 50):.2f} s, p99 {_at(decided, 99):.2f} s",
        note=f"to certified books p50 {_at(certified, 50):.2f} s, p99 {_at(certified, 99):.2f} s; "
        f"{run.shares // BATCH_SHARES} batches, {len(decided)} decisions at members",
        data={"decided_ns": decided, "certified_ns": certified},
    )


def _at(values: list[int], percent: int) -> float:
    return values[-(-len(values) * percent // 100) - 1] / 1e9


def verify_floor(file: Path) -> float:
    """Verifies a member's batches with nothing around it; returns microseconds a share."""
    spent = shares = 0
    for payloads in read_batches(file).values():
        bodies = {}
        for kind, payload in payloads:
            if kind == Kind.TEMPLATE:
                bodies |= {body_digest(body): body for body in decode_bodies(payload)}
                continue
            started = time.process_time_ns()
            shares += verify_batch(payload, bodies).count
            spent += time.process_time_ns() - started
    return spent / shares / 1_000


def _run(members: int, epochs: int, batches: int, *, floored: bool = False) -> _Result:
    """Lets members append, an epoch's batches as soon as those before are held by a quorum."""
    with ExitStack() as stack:
        directory = new_directory()
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        payload = write_batches(directory, members, epochs, batches)
        found = _Result(members, members * epochs * batches * BATCH_SHARES, payload)
        if floored:
            found.floor_us = verify_floor(directory / "0.batches")
        running = Members(members, directory)
        stack.callback(running.end)
        running.start()
        before, told = running.status(), []
        started = time.monotonic_ns()
        for height in range(HEIGHT_FIRST, HEIGHT_FIRST + epochs):
            running.tell(f"feed {height}")
            running.wait("fed", height=height)
            told.append(time.monotonic_ns())
            running.tell(f"tip {height}")
            if not floored:
                # What is quiet has nothing else to do meanwhile.
                running.wait("certified", epochs=len(told))
        # Whoever was too late for a cut is in a later one.
        for count in range(epochs, epochs + EXTRA_EPOCHS_MAX):
            ends = running.wait("certified", epochs=count)
            after = running.status()
            if all(line["shares"] == found.shares for line in after):
                break
            running.tell(f"tip {HEIGHT_FIRST + count}")
        found.seconds = (max(line["at_ns"] for line in ends) - started) / 1e9
        for line in after:
            if line["halted"] or line["void"] or line["stale"] or line["shares"] != found.shares:
                raise BenchmarkError(f"{members} members: not all shares count: {line}")
        names = ("bytes_sent", "process_cpu_ns", "thread_cpu_ns", "state_cpu_ns")
        found.used = [
            {name: last[name] - first[name] for name in names}
            for first, last in zip(before, after, strict=True)
        ]
        for epoch, at in enumerate(told):
            found.decided_ns += [
                line["at_ns"] - at for line in running.wait("decided", epoch=epoch)
            ]
            found.certified_ns += [
                line["at_ns"] - at for line in running.wait("certified", epochs=epoch + 1)
            ]
        return found

"""Measures how fast a federation's public log is counted again, by either program.

The log is made here: batches of `radpool-load batches`, streams, cuts and certificates of a
committee of four whose members all agree, and books as the state function computes them. Both
programs run as `radpool verify federation` does, in a process of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.federation_member import (
    HEIGHT_FIRST,
    Counting,
    block,
    committee_of,
    identities,
    read_batches,
    rules_of,
    said_before,
    write_batches,
)
from benchmarks.measure import Row
from benchmarks.process import ROOT, BenchmarkError, new_directory
from radpool_sv2.federation.agreement.mark import Cut, Ending, Mark
from radpool_sv2.federation.broadcast.entry import START, Entry
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.messages import DecidedEpoch
from radpool_sv2.federation.record import Started
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.statement import Phase, StateRoot, Vote

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from radpool_sv2.federation.statement import Statement

MEMBERS = 4
BATCH_SHARES = 1_000
GOAL_SECONDS = 20.0
GOAL_SHARES = 10_000_000
SAMPLE_PER_MILLE = 10
NATIVE = "the members' own program"


@dataclass(frozen=True)
class AuditLoad:
    """Is what is counted again.

    Args:
        shares: How many shares the log has.
        epochs: Into how many epochs they are divided.
        in_full: Whether the independent program counts all of it too, which takes it long.
    """

    shares: int
    epochs: int
    in_full: bool = True


def measure_audits(loads: Sequence[AuditLoad]) -> list[Row]:
    """Measures audits of logs."""
    return [row for load in loads for row in _measure_audit(load)]


def _measure_audit(load: AuditLoad) -> list[Row]:
    with ExitStack() as stack:
        directory = new_directory()
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        batches = load.shares // load.epochs // MEMBERS // BATCH_SHARES
        shares = make_log(directory, load.epochs, batches)
        log = str(directory / "log")
        start = _verify(["--help"])
        sample = ["--sample-per-mille", str(SAMPLE_PER_MILLE)]
        drawn = f"the independent program, {SAMPLE_PER_MILLE / 10:g} % of the work drawn"
        programs = [(NATIVE, ["--native"]), (drawn, sample)]
        if load.in_full:
            programs.append(("the independent program, in full", []))
        return [
            _row(_verify([log, "--json", *options]), start.cpu_seconds, shares, who)
            for who, options in programs
        ]


@dataclass(frozen=True)
class _Command:
    """Is what a run of `radpool verify federation` has said and used."""

    said: str
    seconds: float
    cpu_seconds: float


def _verify(options: list[str]) -> _Command:
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "radpool_sv2", "verify", "federation", *options],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    said = process.stdout.read()
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise BenchmarkError("radpool verify federation: the log was not found to be true")
    seconds = time.monotonic() - started
    return _Command(said, seconds, used.ru_utime + used.ru_stime)


def _row(command: _Command, start_seconds: float, shares: int, who: str) -> Row:
    found = json.loads(command.said)
    if found["shares"] != shares or found["void"]:
        raise BenchmarkError(f"{who}: {found['shares']} of {shares} shares, {found['void']} void")
    each = max(command.cpu_seconds - start_seconds, 0) / shares * 1e6
    goal_us = GOAL_SECONDS / GOAL_SHARES * 1e6
    is_native = who == NATIVE
    return Row(
        f"audit of {shares:,} shares by {who}",
        f"{each:.2f} µs of CPU a share",
        goal=f"{goal_us:g} µs: {GOAL_SHARES:,} in {GOAL_SECONDS:g} s" if is_native else "",
        met=each <= goal_us if is_native else None,
        note=f"{command.cpu_seconds:.1f} s of CPU in {command.seconds:.1f} s, {start_seconds:.1f} "
        f"of them to start the program; {found['recomputed']:,} proofs of work",
        data={
            "shares": shares,
            "cpu_seconds": command.cpu_seconds,
            "start_seconds": start_seconds,
            "seconds": command.seconds,
        },
    )


def make_log(directory: Path, epochs: int, batches: int) -> int:
    """Makes the public log of so many epochs; returns its shares.

    Args:
        directory: Where; the log is in `log`.
        epochs: How many.
        batches: Batches of each member in each of them.
    """
    write_batches(directory, MEMBERS, epochs, batches)
    log = _Log(directory / "log")
    payloads = [read_batches(directory / f"{member}.batches") for member in range(MEMBERS)]
    for epoch in range(epochs):
        log.add([each.pop(HEIGHT_FIRST + epoch) for each in payloads])
    for member in range(MEMBERS):
        (directory / f"{member}.batches").unlink()
    return MEMBERS * epochs * batches * BATCH_SHARES


class _Log:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._committee, self._keys = committee_of(MEMBERS), identities(MEMBERS)
        rules = rules_of(self._committee)
        self._function = Counting(Accounting(rules))
        self._state = b""
        self._epoch = 0
        self._tips = [START] * MEMBERS
        for name in ("epochs", "books", *(f"streams/{member:03d}" for member in range(MEMBERS))):
            (directory / name).mkdir(parents=True)
        (directory / "committee.bin").write_bytes(self._committee.encode())
        (directory / "rules.bin").write_bytes(rules.encode())

    def add(self, payloads: list[list[tuple[int, bytes]]]) -> None:
        """Adds an epoch in which members have appended these."""
        epoch, height = self._epoch, HEIGHT_FIRST + self._epoch
        mark = int(Kind.EPOCH_MARK), Mark(epoch, height, block(height)).encode()
        segments = [
            [self._append(member, content) for content in (*said_before(height), *own, mark)]
            for member, own in enumerate(payloads)
        ]
        self._state = self._function.apply(self._state, epoch, segments)
        endings = tuple(
            Ending(member, tip.count - 1, tip.digest) for member, tip in enumerate(self._tips)
        )
        cut = Cut(epoch, endings)
        start = Started(epoch + 1, tuple((epoch, each) for each in endings))
        name = self._committee.id
        decided = DecidedEpoch(
            self._certificate(Vote(name, epoch, 0, Phase.FINALISE, cut.digest(name))),
            cut,
            self._certificate(StateRoot(name, epoch, start.root(self._function.root(self._state)))),
        )
        (self._directory / "epochs" / f"{epoch:010d}.bin").write_bytes(decided.encode())
        (self._directory / "books" / f"{epoch:010d}.bin").write_bytes(self._state)
        self._epoch += 1

    def _append(self, member: int, content: tuple[int, bytes]) -> Entry:
        tip = self._tips[member]
        entry = Entry.sign(self._committee, member, self._keys[member], tip, content)
        self._tips[member] = tip.after(entry)
        file = self._directory / "streams" / f"{member:03d}" / f"{tip.count:010d}.bin"
        file.write_bytes(entry.encode())
        return entry

    def _certificate(self, statement: Statement) -> Certificate:
        signatures = {
            member: self._keys[member].sign(statement.digest) for member in range(MEMBERS)
        }
        return Certificate.of(statement, signatures, self._committee)

"""Measures what miners notice of a crowd of declarers: the time from a tip to their jobs.

In one run the same miners get tips first in quiet, and then while a hundred declarers, each from an
address of its own, push templates of 4 MB that nobody has seen, without a pause. The figure is the
ratio of the medians.
"""

from __future__ import annotations

import shutil
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.crowd_pool import HEIGHT
from benchmarks.flood import TRANSACTION_BYTES
from benchmarks.measure import Row
from benchmarks.process import BenchmarkError, Load, Module, new_directory, processors

if TYPE_CHECKING:
    from benchmarks.process import Line

CONNECTIONS: Final = 200
RATIO_MAX: Final = 2
PAUSE_SECONDS: Final = 1.5
"""Blocks come minutes apart: the crowd has begun anew on one before the next comes."""
MIB: Final = 1 << 20
FLOWS_SECONDS: Final = 60
"""By then each declarer has begun."""


class _Run:
    """Is one pool with its miners and declarers."""

    def __init__(self, declarers: int, transactions: int, tips: int) -> None:
        self._directory = new_directory()
        directory = str(self._directory / "msp")
        self.pool = Module("benchmarks.crowd_pool", "the pool", [directory], processors()[0])
        serving = self.pool.line()
        self.target = ["--connect", serving["sv2"], "--key", serving["authority_public_key"]]
        self.tips = tips
        self.flood = Module(
            "benchmarks.flood",
            "the declarers",
            [
                "--connect", serving["declarator"], "--key", serving["authority_public_key"],
                "--height", str(HEIGHT), "--declarers", str(declarers),
                "--transactions", str(transactions),
            ],
            processors()[1],
        )  # fmt: skip
        self.flood.line()

    def late_ms(self, load: Load) -> list[float]:
        """Lets tips come; returns when each had reached the last miner."""
        late = []
        for _ in range(self.tips):
            time.sleep(PAUSE_SECONDS)
            sent = self.pool.ask("tip")
            arrived = load.expect("tip")
            if arrived["prev_hash"] != sent["prev_hash"]:
                raise BenchmarkError("another tip arrived than was sent")
            late.append((arrived["arrived_ns"]["max"] - sent["sent_ns"]) / 1e6)
        return late

    def begin(self, declarers: int) -> None:
        """Lets the declarers begin, and waits until as many templates have been pushed."""
        self.flood.ask("begin")
        deadline = time.monotonic() + FLOWS_SECONDS
        while self.flood.ask("look").get("declared", 0) < declarers:
            if time.monotonic() > deadline:
                raise BenchmarkError("not every declarer has begun after a minute")
            time.sleep(0.05)

    def close(self) -> None:
        """Ends all of it."""
        self.flood.end()
        self.pool.end()
        shutil.rmtree(self._directory, ignore_errors=True)


def measure_crowd(declarers: int, transactions: int, tips: int) -> list[Row]:
    """Measures tips in quiet and under the declarations of a crowd."""
    run = _Run(declarers, transactions, tips)
    try:
        options = ["--connections", str(CONNECTIONS), "--tips", str(2 * tips)]
        with Load("fanout", *run.target, *options) as load:
            load.expect("ready")
            run.pool.ask("metrics")
            quiet = run.late_ms(load)
            quiet_lag = run.pool.ask("metrics")
            empty = run.pool.usage()
            run.begin(declarers)
            before, began = run.flood.ask("look"), time.monotonic()
            crowded = run.late_ms(load)
            after, seconds = run.flood.ask("look"), time.monotonic() - began
            crowded_lag = run.pool.ask("metrics")
            used = run.pool.usage()
    finally:
        run.close()
    data = {
        "quiet_ms": quiet, "crowded_ms": crowded, "flood": after, "lag": crowded_lag,
        "quiet_lag": quiet_lag, "rss_bytes": used.rss_bytes, "rss_before_bytes": empty.rss_bytes,
    }  # fmt: skip
    return _rows(declarers, transactions, _difference(after, before), seconds, data)


def _difference(after: Line, before: Line) -> Line:
    return {name: value - before.get(name, 0) for name, value in after.items() if name != "event"}


def _rows(
    declarers: int, transactions: int, pushed: Line, seconds: float, data: dict[str, Any]
) -> list[Row]:
    quiet, crowded = (statistics.median(data[name]) for name in ("quiet_ms", "crowded_ms"))
    size = transactions * TRANSACTION_BYTES / 1_000_000
    what = f"{declarers} declarers push {size:.1f} MB each"
    figures = f"{max(data['crowded_ms']):.1f} ms at most, {max(data['quiet_ms']):.1f} in quiet"
    accepted, rate = pushed.get("accepted", 0), pushed.get("bytes", 0) / 1e6 / seconds
    lag, calm = data["lag"], data["quiet_lag"]
    grown = (data["rss_bytes"] - data["rss_before_bytes"]) // MIB
    return [
        Row(
            f"new tip to the last of {CONNECTIONS} miners while {what}",
            f"{crowded / quiet:.2f}x: {crowded:.1f} ms, in quiet {quiet:.1f} ms ({figures})",
            goal=f"{RATIO_MAX}x",
            met=crowded <= RATIO_MAX * quiet,
            note=f"{accepted / seconds:.1f} verdicts and {rate:.0f} MB a second meanwhile",
            data=data,
        ),
        Row(
            f"lag of the event loop while {what}",
            f"p99 {lag['lag_p99_us'] / 1_000:.1f} ms, longest"
            f" {lag['lag_longest_us'] / 1_000:.1f} ms; in quiet p99"
            f" {calm['lag_p99_us'] / 1_000:.1f} ms",
            note=f"{grown} MiB more memory",
        ),
    ]

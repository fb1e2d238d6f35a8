"""The measurements, one function for each question; each returns rows of the result table."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.process import BenchmarkError, Load, Pool, run_floor, run_load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.process import Line, UnderTest

KIB = 1024
GONE_SECONDS = 2


@dataclass(frozen=True)
class Row:
    """Is one figure.

    Args:
        question: What was measured, with its circumstances.
        figure: The result in words.
        goal: What was aimed at; empty when there is only a comparison.
        met: Whether the goal was reached; None without one.
        note: The floor, the peer, or where the time goes.
        data: The raw numbers.
    """

    question: str
    figure: str
    goal: str = ""
    met: bool | None = None
    note: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Floor:
    """Is what no pool can avoid, measured in this run, in nanoseconds."""

    hash_ns: int
    open_ns: int
    read_ns: dict[int, int]
    write_ns: dict[int, int]

    def share_ns(self, shares_per_read: int) -> int:
        """Adds up the floor of a share: hashes, opening, its part of a read and a write."""
        calls = self.read_ns[shares_per_read] + self.write_ns[shares_per_read]
        return self.hash_ns + self.open_ns + calls

    def shares_per_read(self, window: int) -> int:
        """Returns how many shares a read brings at best when so many are unanswered."""
        return max(count for count in self.read_ns if count <= window)


def measure_floor() -> tuple[Floor, list[Row]]:
    """Measures hashing, decryption and system calls of a share on this machine, now."""
    lines = [line for line in run_floor(0) if line["event"] == "floor"]
    one = {line["what"]: line for line in lines}
    calls = {line["shares_per_read"]: line for line in lines if line["what"] == "system calls"}
    floor = Floor(
        one["hash"]["ns_per_share"],
        one["open"]["ns_per_share"],
        {count: line["read_ns_per_share"] for count, line in calls.items()},
        {count: line["write_ns_per_share"] for count, line in calls.items()},
    )
    figure = f"{_us(floor.hash_ns)} hashes + {_us(floor.open_ns)} opening"
    parts = "; ".join(
        f"{count} a read: {_us(floor.share_ns(count))} with system calls" for count in sorted(calls)
    )
    return floor, [Row("floor of a share, path of 12", figure, note=parts, data={"lines": lines})]


def measure_shares(
    floor: Floor, shares: int, plans: Sequence[tuple[int, int]], rounds: int
) -> list[Row]:
    """Measures CPU time of the whole pool per share that is durable and acknowledged."""
    rows = []
    for connections, window in plans:
        results = [closed_loop(Pool, shares, connections, window) for _ in range(rounds)]
        results.sort(key=lambda result: result["total_us"])
        median = results[len(results) // 2]
        least = floor.share_ns(floor.shares_per_read(window)) / 1000
        ratio = least / median["total_us"]
        rows += [
            Row(
                f"accepted extended shares, {connections} connections x {window} unanswered",
                f"{1e6 / median['total_us']:,.0f} per CPU-second ({median['total_us']:.2f} us:"
                f" engine {median['engine_us']:.2f}, trio {median['trio_us']:.2f},"
                f" commit {median['commit_us']:.2f}, of it SQLite {median['store_us']:.2f});"
                f" {median['per_second']:,.0f}/s",
                goal="60 % of the floor",
                met=ratio >= 0.6,
                note=f"{ratio:.0%} of the floor of {least:.2f} us; engine alone"
                f" {least / median['engine_us']:.0%}",
                data={"rounds": results},
            ),
            Row(
                f"Python (trio thread) per share, {connections} x {window}",
                f"{median['trio_us']:.2f} us",
                goal="0.5 us",
                met=median["trio_us"] <= 0.5,
            ),
        ]
    return rows


def closed_loop(
    open_pool: Callable[[], UnderTest],
    shares: int,
    connections: int,
    window: int,
    *more: str,
) -> dict[str, float]:
    """Lets each connection keep `window` shares unanswered; returns figures per share.

    Raises:
        BenchmarkError: A share was not acknowledged exactly once.
    """
    options = ["--connections", str(connections), "--window", str(window), "--shares", str(shares)]
    options += more
    with open_pool() as pool, Load("shares", *pool.target, *options) as load:
        load.expect("ready")
        before = pool.usage()
        line = load.expect("shares")
        used, metrics = pool.usage() - before, pool.metrics()
    count = line["accepted"]
    store_ns = metrics.get("store_ns", 0)
    if count != shares:
        raise BenchmarkError(f"{count} of {shares} shares were acknowledged")
    return {
        "total_us": used.total_ns / count / 1000,
        "engine_us": used.engine_ns / count / 1000,
        "trio_us": used.trio_ns / count / 1000,
        "commit_us": used.commit_ns / count / 1000,
        "store_us": store_ns / count / 1000,
        "generator_us": line["generator_cpu_us"] / count,
        "per_second": count / line["elapsed_us"] * 1e6,
        "ack_p50_ms": line["ack_us"]["p50"] / 1000,
        "ack_p99_ms": line["ack_us"]["p99"] / 1000,
    }


def measure_latency(rate: int, seconds: int, connections: int) -> list[Row]:
    """Measures the time from a share to its durable acknowledgement at a fixed rate."""
    options = ["--connections", str(connections), "--rate", str(rate), "--shares"]
    with Pool() as pool, Load("shares", *pool.target, *options, str(rate * seconds)) as load:
        line = load.expect("shares")
    ack, late = line["ack_us"], line["late_us"]
    return [
        Row(
            f"share to durable acknowledgement, {rate:,}/s over {connections} connections",
            f"p50 {ack['p50'] / 1000:.1f} ms, p99 {ack['p99'] / 1000:.1f} ms",
            goal="p99 20 ms",
            met=ack["p99"] <= 20_000,
            note=f"the generator sent p99 {late['p99'] / 1000:.1f} ms late",
            data=line,
        )
    ]


def fan_out(
    open_pool: Callable[[], UnderTest], connections: int, tips: int, joiners: int
) -> dict[str, Any]:
    """Sends tips to so many connections; returns milliseconds to the median and the last one.

    Raises:
        BenchmarkError: A tip did not reach everyone, or a client was not served.
    """
    options = ["--connections", str(connections), "--tips", str(tips), "--joiners", str(joiners)]
    last_ms, p50_ms, cpu_us = [], [], []
    joined: Line = {}
    with open_pool() as pool, Load("fanout", *pool.target, *options) as load:
        load.expect("ready")
        for _ in range(tips):
            before = pool.usage()
            sent = pool.tip()
            arrived = load.expect("tip")
            cpu_us.append((pool.usage() - before).total_ns / 1000 / connections)
            if arrived["prev_hash"] != sent["prev_hash"]:
                raise BenchmarkError("another tip arrived than was sent")
            last_ms.append((arrived["arrived_ns"]["max"] - sent["sent_ns"]) / 1e6)
            p50_ms.append((arrived["arrived_ns"]["p50"] - sent["sent_ns"]) / 1e6)
        for line in load.rest():
            if line["event"] == "joined":
                joined = line
    return {
        "last_ms": last_ms,
        "p50_ms": p50_ms,
        "pool_cpu_us_per_connection": cpu_us,
        "joined": joined,
    }


def describe_fan_out(data: dict[str, Any]) -> str:
    """Says when the median and the last connection knew, in the median round."""
    last_ms, p50_ms = data["last_ms"], data["p50_ms"]
    return (
        f"{statistics.median(last_ms):.1f} ms (p50 {statistics.median(p50_ms):.1f} ms;"
        f" {min(last_ms):.1f} to {max(last_ms):.1f})"
    )


def measure_fanout(connections: int, tips: int, joiners: int) -> list[Row]:
    """Measures the time from a tip known to the pool to its arrival at the last of its clients."""
    data = fan_out(Pool, connections, tips, joiners)
    question = f"new tip to the last of {connections:,} connections"
    figure = describe_fan_out(data)
    if joiners:
        question += f" while {joiners:,} clients join"
        waits = data["joined"]["join_us"]
        figure += f"; joined {waits['count']:,}, p99 {waits['p99'] / 1000:.1f} ms"
        return [
            Row(question, figure, goal="all served", met=data["joined"]["failed"] == 0, data=data)
        ]
    writes = run_floor(connections)[-1]
    floor_ms = writes["wall_us"]["p50"] / 1000
    ratio = statistics.median(data["last_ms"]) / floor_ms
    cpu = statistics.median(data["pool_cpu_us_per_connection"])
    return [
        Row(
            question,
            figure,
            goal="2x the writes",
            met=ratio <= 2,
            note=f"{ratio:.1f}x the {floor_ms:.1f} ms of {connections:,} encrypted writes;"
            f" {cpu:.1f} us CPU a connection",
            data=data | {"writes": writes},
        )
    ]


def hold_idle(open_pool: Callable[[], UnderTest], connections: int, waves: int) -> dict[str, Any]:
    """Connects in waves that then do nothing; returns KiB per connection in each wave."""
    options = ["--connections", str(connections), "--waves", str(waves)]
    kib = []
    with open_pool() as pool:
        empty = pool.usage().rss_bytes
        with Load("idle", *pool.target, *options) as load:
            for _ in range(waves):
                load.expect("wave")
                kib.append((pool.usage().rss_bytes - empty) / connections / KIB)
                load.go_on()
                load.expect("gone")
        # The pool learns of it a moment later than the clients.
        time.sleep(GONE_SECONDS)
        left = (pool.usage().rss_bytes - empty) / connections / KIB
    return {"kib_by_wave": kib, "kib_after_all": left, "empty_bytes": empty}


def measure_idle(connections: int, waves: int) -> list[Row]:
    """Measures memory per idle connection with a channel, and after waves of reconnects."""
    data = hold_idle(Pool, connections, waves)
    kib, left, empty = data["kib_by_wave"], data["kib_after_all"], data["empty_bytes"]
    return [
        Row(
            f"memory per idle connection with one channel, {connections:,} connections",
            f"{kib[0]:.1f} KiB",
            goal="6 KiB",
            met=kib[0] <= 6,
            note=f"the pool without any: {empty / KIB / KIB:.0f} MiB",
            data=data,
        ),
        Row(
            f"the same in wave {waves} of reconnects",
            f"{kib[-1]:.1f} KiB; {left:.1f} KiB when all have gone",
            goal="flat",
            met=kib[-1] <= max(6, kib[0] * 1.25),
            note="by wave: " + ", ".join(f"{value:.1f}" for value in kib),
        ),
    ]


def measure_storm(connections: int) -> list[Row]:
    """Measures how long it takes until all of so many that connect at once have their first job."""
    with Pool() as pool:
        before = pool.usage()
        (line,) = run_load("storm", [*pool.target, "--connections", str(connections)])
        used = pool.usage() - before
    served = line["served_us"]
    return [
        Row(
            f"{connections:,} connect at once, handshake to first job",
            f"all served after {served['max'] / 1e6:.2f} s; p50 {served['p50'] / 1e6:.2f} s",
            goal="all served",
            met=line["failed"] == 0,
            note=f"{used.total_ns / connections / 1000:.0f} us CPU of the pool and"
            f" {line['generator_cpu_us'] / connections:.0f} us of the generator a connection",
            data=line,
        )
    ]


def _us(nanoseconds: float) -> str:
    return f"{nanoseconds / 1000:.2f} us"

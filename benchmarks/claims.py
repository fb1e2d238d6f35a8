"""Measures claims: blind signatures alone, and in the whole pool from the socket to the disk.

What claims add to the cost of a share is told without curve arithmetic, which is many times the
rest: the CPU time of signing, counted in the pool, and that of checking a point, measured alone,
are taken off. Claims that are signed later show the same by another way: nothing is signed in that
run.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter

from benchmarks.measure import Row
from benchmarks.process import BenchmarkError, Load, Pool, processors
from radpool_sv2._native.ecash import blind, check_points

WINDOW = 4_096
"""Unanswered shares: batches are as large as the pool wants them."""
CHECKED = 2_000
"""Points of which the check is measured."""
SIGNATURES_MAX = 4_000


def measure_signatures(count: int) -> tuple[dict[int, int], list[Row]]:
    """Measures signing beside its multiplications; returns signatures a second by processors."""
    everywhere = set.union(*processors())
    with Load("signatures", "--count", str(count), cpus=everywhere) as load:
        lines = list(load.rest())
    rows, proved = [], {}
    for cores in sorted({line["cores"] for line in lines}):
        rates = {
            line["what"]: line["per_second"]
            for line in lines
            if line["cores"] == cores and "per_second" in line
        }
        proved[cores] = rates["signature with proof"]
        for what in ("signature", "signature with proof"):
            ratio = rates[what] / rates[f"{what} floor"]
            rows.append(
                Row(
                    f"blind {what}, {cores} core{'s' * (cores > 1)}, in memory",
                    f"{rates[what]:,}/s",
                    goal="60 % of the floor",
                    met=ratio >= 0.6,
                    note=f"{ratio:.0%} of the {rates[f'{what} floor']:,}/s of the bare"
                    " multiplications",
                )
            )
    return proved, rows


def measure_claims(shares: int, rounds: int) -> list[Row]:
    """Measures claims in the pool, and what they add to the cost of a share."""
    floors, rows = measure_signatures(min(shares, SIGNATURES_MAX))
    results: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for kind in ("none", "eager", "lazy", "everywhere"):
            pool = Pool(ecash=kind != "none", everywhere=kind == "everywhere")
            claims = "eager" if kind == "everywhere" else kind
            results.setdefault(kind, []).append(_closed_loop(pool, shares, claims))
    none, eager, lazy = (_median(results[kind], "total_us") for kind in ("none", "eager", "lazy"))
    everywhere = _median(results["everywhere"], "per_second")
    for kind, cores, found in (("eager", 1, eager), ("everywhere", max(floors), everywhere)):
        ratio = found["per_second"] / floors[cores]
        rows.append(
            Row(
                f"claims: durable, signed with proof and answered, {cores} core"
                + "s, the generator on one of them too" * (cores > 1),
                f"{found['per_second']:,.0f}/s",
                goal="60 % of signing alone",
                met=ratio >= 0.6,
                note=f"{ratio:.0%} of {floors[cores]:,}/s; 1 connection x {WINDOW:,} unanswered",
                data={"rounds": results[kind]},
            )
        )
    rows.append(
        Row(
            "claims: durable and answered, to be signed when asked for, 1 core",
            f"{lazy['per_second']:,.0f}/s",
            data={"rounds": results["lazy"]},
        )
    )
    return [*rows, *_beside(none, eager, lazy, results["none"])]


def _beside(
    none: dict[str, float], eager: dict[str, float], lazy: dict[str, float], rounds: object
) -> list[Row]:
    point_us = _point_us()
    rows = []
    for what, found, crypto_us in (
        ("signed at once", eager, eager["sign_us"] + point_us),
        ("signed later", lazy, point_us),
    ):
        rest_us = found["total_us"] - crypto_us
        ratio = none["total_us"] / rest_us
        rows.append(
            Row(
                f"shares with a claim each, {what}: all but curve arithmetic, per CPU-second",
                f"{1e6 / rest_us:,.0f} ({rest_us:.2f} us: engine {found['engine_us']:.2f},"
                f" trio {found['trio_us']:.2f}, commit {found['commit_us'] - crypto_us:.2f},"
                f" of it SQLite {found['store_us']:.2f}, of that claims"
                f" {found['claims_store_us']:.2f})",
                goal="85 % of without",
                met=ratio >= 0.85,
                note=f"{ratio:.0%} of {1e6 / none['total_us']:,.0f} without"
                f" ({none['total_us']:.2f} us: engine {none['engine_us']:.2f},"
                f" trio {none['trio_us']:.2f}, commit {none['commit_us']:.2f}); left out:"
                f" {crypto_us - point_us:.1f} us signing, {point_us:.1f} us checking the point",
                data={"without": rounds},
            )
        )
    size = eager["file_bytes"] - none["file_bytes"]
    rows.append(
        Row(
            "file per claim, beside a run without claims",
            f"{size:.0f} bytes",
            goal="100 bytes",
            met=size <= 100,
        )
    )
    return rows


def _closed_loop(pool: Pool, shares: int, claims: str) -> dict[str, float]:
    options = ["--connections", "1", "--window", str(WINDOW), "--shares", str(shares)]
    with pool, Load("shares", *pool.target, *options, "--claims", claims) as load:
        load.expect("ready")
        before = pool.usage()
        line = load.expect("shares")
        used, metrics = pool.usage() - before, Counter(pool.metrics())
    if line["accepted"] != shares:
        raise BenchmarkError(f"{line['accepted']} of {shares} shares were acknowledged")
    parts = {
        "total_us": used.total_ns, "engine_us": used.engine_ns, "trio_us": used.trio_ns,
        "commit_us": used.commit_ns, "store_us": metrics["store_ns"],
        "claims_store_us": metrics["claims_store_ns"], "sign_us": metrics["claims_sign_ns"],
    }  # fmt: skip
    return {name: ns / shares / 1000 for name, ns in parts.items()} | {
        "per_second": shares / line["elapsed_us"] * 1e6,
        "file_bytes": metrics["file_bytes"] / shares,
    }


def _median(results: list[dict[str, float]], by: str) -> dict[str, float]:
    return sorted(results, key=lambda result: result[by])[len(results) // 2]


def _point_us() -> float:
    """Measures what it takes to check that a blinded message is a point, on one processor."""
    points = blind([(os.urandom(32), os.urandom(32)) for _ in range(CHECKED)])
    times = []
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors()[0])
    for _ in range(3):
        started_ns = time.thread_time_ns()
        check_points(points)
        times.append((time.thread_time_ns() - started_ns) / CHECKED / 1000)
    os.sched_setaffinity(0, before)
    return statistics.median(times)

"""Runs the benchmarks and writes the table: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import (
    claims,
    crowd,
    declaration,
    federation,
    federation_audit,
    federation_keys,
    measure,
    peer,
    threshold,
    tokens,
    translator,
)
from benchmarks.federation import FederationLoad
from benchmarks.federation_audit import AuditLoad
from benchmarks.peer import PeerLoad
from benchmarks.process import LOAD, ROOT, BenchmarkError, processors
from benchmarks.translator import TranslatorLoad

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.measure import Row

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Size:
    """Is how large a run is.

    Args:
        shares: Shares of one closed loop.
        plans: Its connections and unanswered shares of each.
        rounds: How often each is repeated; the median counts.
        latency_seconds: Length of the open loop.
        fanout: Numbers of connections that a tip goes out to.
        tips: Tips for each of them.
        joiners: Clients that join while tips come.
        idle: Idle connections.
        waves: How often all of them connect.
        storms: Numbers of connections that are made at once.
        claims: Shares with a claim each of one closed loop.
        requests: Requests of each kind to a mint in a round.
        nutshell_requests: The same to nutshell's, which takes longer.
        declared: Transactions of a declared template.
        declarers: Miners that declare at the same time.
        pushed: Transactions of each of their templates.
        signers: Members of the largest committee.
        peer: What our pool and SRI's have to bear.
        translator: What our translator and its peers have to bear.
        federation: What a federation's members have to bear.
        audits: What logs of a federation are counted again.
    """

    shares: int
    plans: tuple[tuple[int, int], ...]
    rounds: int
    latency_seconds: int
    fanout: tuple[int, ...]
    tips: int
    joiners: int
    idle: int
    waves: int
    storms: tuple[int, ...]
    claims: int
    requests: int
    nutshell_requests: int
    declared: int
    declarers: int
    pushed: int
    signers: int
    peer: PeerLoad
    translator: TranslatorLoad
    federation: FederationLoad
    audits: tuple[AuditLoad, ...]


SIZES = {
    "full": Size(
        shares=400_000,
        plans=((1, 64), (1, 4_096), (100, 16), (1_000, 4)),
        rounds=3,
        latency_seconds=20,
        fanout=(1_000, 5_000, 10_000),
        tips=9,
        joiners=1_000,
        idle=10_000,
        waves=11,
        storms=(1_000, 10_000),
        claims=40_000,
        requests=20,
        nutshell_requests=2,
        declared=4_000,
        declarers=100,
        pushed=1_000,
        signers=50,
        peer=PeerLoad(
            shares=100_000,
            plans=((1, 64), (1, 4_096), (100, 16), (1_000, 10)),
            rounds=3,
            fanout=(1_000, 5_000),
            tips=9,
            idle=1_000,
            waves=3,
        ),
        translator=TranslatorLoad(
            shares=100_000,
            plans=((50, 16), (1_000, 1)),
            rounds=3,
            fanout=(1_000, 5_000, 10_000),
            tips=9,
            idle=5_000,
            steady=5_000,
            period_ms=3_000,
            periods=20,
        ),
        federation=FederationLoad(
            members=(4, 7, 16), shares=240_000, epochs=3, quiet_epochs=10, long_batches=20
        ),
        audits=(
            AuditLoad(shares=1_000_000, epochs=4),
            AuditLoad(shares=10_000_000, epochs=40, in_full=False),
        ),
    ),
    "smoke": Size(
        shares=20_000,
        plans=((10, 16),),
        rounds=1,
        latency_seconds=2,
        fanout=(100,),
        tips=3,
        joiners=50,
        idle=100,
        waves=3,
        storms=(100,),
        claims=4_000,
        requests=2,
        nutshell_requests=1,
        declared=200,
        declarers=10,
        pushed=100,
        signers=4,
        peer=PeerLoad(
            shares=10_000,
            plans=((10, 16),),
            rounds=1,
            fanout=(100,),
            tips=3,
            idle=100,
            waves=2,
        ),
        translator=TranslatorLoad(
            shares=5_000,
            plans=((10, 16),),
            rounds=1,
            fanout=(100,),
            tips=2,
            idle=100,
            steady=100,
            period_ms=500,
            periods=4,
        ),
        federation=FederationLoad(
            members=(4,), shares=8_000, epochs=1, quiet_epochs=1, long_batches=3
        ),
        audits=(AuditLoad(shares=4_000, epochs=1),),
    ),
}
"""What `make bench` runs, and what only shows that it works."""
LATENCY_RATE = 1_000
LATENCY_CONNECTIONS = 100


def main() -> int:
    """Runs what was asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument("--size", choices=sorted(SIZES), default="full")
    parser.add_argument("--only", action="append", choices=list(parts(SIZES["full"])), default=[])
    parser.add_argument("--note", default="", help="what else the table should say of the run")
    arguments = parser.parse_args()
    if not LOAD.exists():
        print(f"{LOAD} is missing: run `make load` first", file=sys.stderr)
        return 1
    machine = describe_machine()
    print("\n".join(f"{name}: {value}" for name, value in machine.items()) + "\n", flush=True)
    rows: list[Row] = []
    for name, run in parts(SIZES[arguments.size]).items():
        if arguments.only and name not in arguments.only:
            continue
        print(f"==> {name}", flush=True)
        try:
            found = run()
        except BenchmarkError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        for row in found:
            print(f"    {row.question}: {row.figure}  {row.note}", flush=True)
        rows += found
    machine["load average after"] = describe_load()
    if arguments.note:
        machine["note"] = arguments.note
    write(rows, machine, arguments.size, arguments.only)
    return 0


def parts(size: Size) -> dict[str, Callable[[], list[Row]]]:
    """Names the parts in the order in which they run."""

    def shares() -> list[Row]:
        floor, rows = measure.measure_floor()
        return rows + measure.measure_shares(floor, size.shares, size.plans, size.rounds)

    def fanout() -> list[Row]:
        rows = []
        for count in size.fanout:
            rows += measure.measure_fanout(count, size.tips, 0)
        return rows + measure.measure_fanout(size.fanout[0], size.tips, size.joiners)

    return {
        "shares": shares,
        "latency": lambda: measure.measure_latency(
            LATENCY_RATE, size.latency_seconds, LATENCY_CONNECTIONS
        ),
        "fanout": fanout,
        "idle": lambda: measure.measure_idle(size.idle, size.waves),
        "storm": lambda: [row for count in size.storms for row in measure.measure_storm(count)],
        "peer": lambda: peer.measure_peer(size.peer),
        "claims": lambda: claims.measure_claims(size.claims, size.rounds),
        "tokens": lambda: tokens.measure_tokens(size.requests, size.nutshell_requests, size.rounds),
        "declaration": lambda: declaration.measure_declaration(size.declared, size.rounds),
        "translator": lambda: translator.measure_translator(size.translator),
        "crowd": lambda: crowd.measure_crowd(size.declarers, size.pushed, size.tips),
        "federation": lambda: federation.measure_federation(size.federation),
        "keys": lambda: federation_keys.measure_keys(size.signers),
        "audit": lambda: federation_audit.measure_audits(size.audits),
        "threshold": lambda: threshold.measure_threshold(size.signers, 10 * size.rounds),
    }


def describe_machine() -> dict[str, str]:
    """Says what the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next(
        (
            line.split(":")[1].strip()
            for line in cpuinfo.splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    flags = [flag for flag in ("sha_ni", "avx2", "avx512f") if f" {flag} " in cpuinfo + " "]
    commit = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty"],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=False)
    pool_cpus, load_cpus = processors()
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "radpool-sv2": f"{name_version()} at {commit or 'no checkout'}",
        "processor": f"{model} ({', '.join(flags)}), {os.cpu_count()} visible",
        "pinned": f"pool to {sorted(pool_cpus)}, generator to {sorted(load_cpus)}",
        "load average before": describe_load(),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()},"
        f" {rustc.stdout.strip()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in ("trio", "msgspec")),
    }


def name_version() -> str:
    """Says which version is measured; a checkout need not be installed."""
    try:
        return version("radpool-sv2")
    except PackageNotFoundError:
        return "not installed,"


def describe_load() -> str:
    """Says how busy the machine was in the last one, five and fifteen minutes."""
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def write(rows: list[Row], machine: dict[str, str], size: str, only: Sequence[str]) -> None:
    """Writes the table as markdown and everything as JSON; single parts get a file of their own."""
    directory = RESULTS if size == "full" else ROOT / "build"
    directory.mkdir(exist_ok=True)
    title = f"{size}: {', '.join(only)}" if only else size
    lines = [f"# Benchmarks, {title}", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    lines += ["", "| measured | figure | goal | met | beside it |", "|---|---|---|---|---|"]
    for row in rows:
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        lines.append(f"| {row.question} | {row.figure} | {row.goal} | {met} | {row.note} |")
    name = f"benchmarks-{size}" if size != "full" else "-".join(only) or "full"
    (directory / f"{name}.md").write_text("\n".join(lines) + "\n")
    data = {"machine": machine, "rows": [vars(row) for row in rows]}
    (directory / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    print(f"\nwritten: {directory / name}.md and .json")


if __name__ == "__main__":
    sys.exit(main())

"""Measures the translator beside SRI's and beside ckpool, turn by turn under the same devices.

`SRI_TRANSLATOR` names SRI's program, translator_sv2; otherwise it is looked for where `make
interop` puts it. `CKPOOL` names a ckpool, and `CKPOOL_VERSION` says which; there is no other place
to look for it, and it needs a bitcoind. Where one is missing that is said, and its known figures
are quoted.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.fronts import BITCOIND, Bitcoind, Ckpool, OwnTranslator, SriTranslator
from benchmarks.measure import KIB, Row, describe_fan_out
from benchmarks.process import ROOT, BenchmarkError, Load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.fronts import Front

OURS: Final = "ours"
SRI: Final = "SRI"
CKPOOL: Final = "ckpool"

SRI_PLACE: Final = ROOT / ".nodes/bin/translator_sv2"
"""Where `make interop` puts it."""
KNOWN: Final = {
    SRI: (
        "translator_sv2 0.6.0 on a guest with 2 AMD EPYC processors, November 2026",
        (
            ("CPU per accepted submit, 50 connections", "21.9 us; 51 to 60 us at its default log"),
            ("CPU per accepted submit, 1 connection x 16", "34 to 38 us"),
        ),
    ),
    CKPOOL: (
        "ckpool-lhr b51d54b on a guest with 2 Intel Xeon processors, November 2026",
        (
            ("CPU per accepted submit, 50 x 16", "29.2 us; 35.2 us with a path of 12"),
            ("CPU per accepted submit, 1,000 x 1", "79.0 us"),
            ("new previous hash to the last of 1,000", "13 to 15 ms from the node's notice"),
            ("new previous hash to the last of 5,000", "61 to 64 ms from the node's notice"),
            ("new previous hash to the last of 10,000", "127 to 157 ms from the node's notice"),
            ("memory per idle connection", "2.4 to 6.3 KiB"),
        ),
    ),
}
GOAL_TIMES: Final = {SRI: 5.0, CKPOOL: 3.0}
"""How many times a peer's submits ours takes per CPU-second."""
FAN_OUT_PART: Final = 0.5
"""Our time from a previous hash to the last device, as a part of ckpool's."""
IDLE_KIB: Final = 6.0
DESCRIPTORS_KEPT: Final = 500
"""For everything but the connections."""
PAUSE_SECONDS: Final = 1.5
"""Blocks come minutes apart: the template of the next is out before it comes."""
SETTLE_SECONDS: Final = 3


@dataclass(frozen=True)
class TranslatorLoad:
    """Is what translators have to bear.

    Args:
        shares: Shares of one closed loop.
        plans: Its connections and unanswered shares of each.
        rounds: How often each is repeated, turn by turn; the median counts.
        fanout: Numbers of connections that a new previous hash goes out to.
        tips: Previous hashes for each of them.
        idle: Idle connections.
        steady: Connections that submit at a device's pace.
        period_ms: From a share of theirs to the next.
        periods: How many shares each sends.
    """

    shares: int
    plans: tuple[tuple[int, int], ...]
    rounds: int
    fanout: tuple[int, ...]
    tips: int
    idle: int
    steady: int
    period_ms: int
    periods: int


@dataclass(frozen=True)
class _Peers:
    """Is what can be run on this machine.

    Args:
        versions: Each peer's, where it is there.
        missing: Why not, where it is not.
        sri: SRI's program.
        ckpool: ckpool's.
        node: What ckpool has its templates from.
    """

    versions: dict[str, str]
    missing: dict[str, str]
    sri: Path | None
    ckpool: Path | None
    node: Bitcoind | None

    def kinds(self, *, on_node: bool) -> dict[str, Callable[[], Front]]:
        """Returns how each is started, the pool on the node or on templates that cost nothing.

        ckpool is always on the node.
        """
        node = self.node if on_node else None
        found: dict[str, Callable[[], Front]] = {OURS: partial(OwnTranslator, node)}
        if self.sri is not None:
            found[SRI] = partial(SriTranslator, self.sri, node)
        if self.ckpool is not None and self.node is not None:
            found[CKPOOL] = partial(Ckpool, self.ckpool, self.node)
        return found


def measure_translator(load: TranslatorLoad) -> list[Row]:
    """Measures our translator and the peers that are there."""
    node = Bitcoind() if BITCOIND.exists() else None
    try:
        peers = _find_peers(node)
        rows = [
            Row(
                f"{peer}, run beside ours",
                "yes" if peer in peers.versions else "NOT MEASURED",
                note=peers.versions.get(peer) or peers.missing[peer],
            )
            for peer in KNOWN
        ]
        for peer in peers.missing:
            source, figures = KNOWN[peer]
            rows += [
                Row(f"{peer}, quoted: {what}", figure, note=source) for what, figure in figures
            ]
        for connections, window in load.plans:
            rows += _shares(peers, load, connections, window)
        for connections in _possible(load.fanout):
            rows += _fan_out(peers, connections, load.tips)
        rows.append(_idle(peers, load.idle))
    finally:
        if node is not None:
            node.end()
    return [*rows, _steady(load)]


def _find_peers(node: Bitcoind | None) -> _Peers:
    versions, missing = {}, {}
    named = os.environ.get("SRI_TRANSLATOR", "")
    sri: Path | None = Path(named) if named else SRI_PLACE
    if sri is not None and sri.is_file():
        told = subprocess.run([sri, "--version"], capture_output=True, text=True, check=False)
        versions[SRI] = told.stdout.strip() or "translator_sv2 of an unknown version"
    else:
        where = f"{named} is not there" if named else "not installed"
        missing[SRI], sri = f"{where}: `make interop` installs it", None
    named = os.environ.get("CKPOOL", "")
    ckpool: Path | None = Path(named)
    if named and Path(named).is_file() and node is not None:
        told_version = os.environ.get("CKPOOL_VERSION", "ckpool of an unnamed version")
        versions[CKPOOL] = f"{told_version}; pool and translator in one: no message goes upstream"
    else:
        where = "there is no bitcoind for it" if node is None else f"{named} is not there"
        missing[CKPOOL] = where if named else "CKPOOL=/path/to/ckpool would name it"
        ckpool = None
    return _Peers(versions, missing, sri, ckpool, node)


def _possible(counts: Iterable[int]) -> list[int]:
    """Leaves out what this process' children have too few descriptors for."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [count for count in counts if count + DESCRIPTORS_KEPT <= most]


def _shares(peers: _Peers, load: TranslatorLoad, connections: int, window: int) -> list[Row]:
    """Lets each take shares, turn by turn."""
    kinds = peers.kinds(on_node=False)
    rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(load.rounds):
        for kind, open_front in kinds.items():
            rounds[kind].append(_closed_loop(open_front, load.shares, connections, window))
    median = {
        kind: sorted(found, key=lambda each: each["total_us"])[len(found) // 2]
        for kind, found in rounds.items()
    }
    own = median[OURS]
    rows = []
    for peer, goal in GOAL_TIMES.items():
        theirs = median.get(peer)
        ratio = None if theirs is None else theirs["total_us"] / own["total_us"]
        rows.append(
            Row(
                f"beside {peer}: CPU per accepted submit, {connections:,} connections x {window:,}"
                " unanswered",
                _beside(peer, _us(own), None if theirs is None else _us(theirs), ratio),
                goal=f"{goal:.0f}x per CPU-second",
                met=None if ratio is None else ratio >= goal,
                note=f"ours in the engine {own['engine_us']:.1f} us; "
                + "; ".join(
                    _answered(whose, median[whose]) for whose in (OURS, peer) if whose in median
                )
                + (", an empty block and nothing upstream" if theirs and peer == CKPOOL else ""),
                data={OURS: rounds[OURS], peer: rounds.get(peer, [])},
            )
        )
    return rows


def _us(data: dict[str, float]) -> str:
    return f"{data['total_us']:.1f} us"


def _answered(whose: str, data: dict[str, float]) -> str:
    return (
        f"{whose} {data['per_second']:,.0f}/s, p50 {data['ack_p50_ms']:.1f} ms,"
        f" p99 {data['ack_p99_ms']:.1f} ms"
    )


def _closed_loop(
    open_front: Callable[[], Front], shares: int, connections: int, window: int
) -> dict[str, float]:
    """Lets each connection keep `window` shares unanswered; counts until all are at the pool.

    Raises:
        BenchmarkError: A share was not answered with true exactly once, or the pool has not had it.
    """
    options = ["--connections", str(connections), "--window", str(window), "--shares", str(shares)]
    with open_front() as front, Load("sv1-shares", *front.target, *options) as load:
        load.expect("ready")
        before = front.usage()
        load.go_on()
        line = load.expect("shares")
        front.expect_upstream(shares)
        used = front.usage() - before
    if line["accepted"] != shares:
        raise BenchmarkError(f"{line['accepted']} of {shares} shares: {line['rejected']}")
    return {
        "total_us": used.total_ns / shares / 1000,
        "engine_us": used.engine_ns / shares / 1000,
        "generator_us": line["generator_cpu_us"] / shares,
        "per_second": shares / line["elapsed_us"] * 1e6,
        "ack_p50_ms": line["ack_us"]["p50"] / 1000,
        "ack_p99_ms": line["ack_us"]["p99"] / 1000,
    }


def _fan_out(peers: _Peers, connections: int, tips: int) -> list[Row]:
    """Lets new previous hashes go out to the devices of each: of the node, and made up ones."""
    rows = []
    for on_node in (True, False):
        if on_node and peers.node is None:
            continue
        found = {
            kind: _tell_tips(open_front, connections, tips)
            for kind, open_front in peers.kinds(on_node=on_node).items()
            if on_node or kind != CKPOOL
        }
        rows += [
            _fan_out_row(found, peer, connections, on_node=on_node)
            for peer in KNOWN
            if on_node or peer != CKPOOL
        ]
    return rows


def _fan_out_row(
    found: dict[str, dict[str, Any]], peer: str, connections: int, *, on_node: bool
) -> Row:
    own, theirs = found[OURS], found.get(peer)
    ratio = None
    if theirs is not None:
        ratio = statistics.median(theirs["last_ms"]) / statistics.median(own["last_ms"])
    is_goal = peer == CKPOOL
    since = "a bitcoind's notice" if on_node else "the source"
    return Row(
        f"beside {peer}: new previous hash, from {since} to the last of {connections:,} devices",
        _beside(
            peer,
            describe_fan_out(own),
            None if theirs is None else describe_fan_out(theirs),
            ratio,
        ),
        goal=f"{FAN_OUT_PART} of ckpool's" if is_goal else "",
        met=None if ratio is None or not is_goal else 1 / ratio <= FAN_OUT_PART,
        note="CPU a device: "
        + ", ".join(
            f"{whose} {statistics.median(found[whose]['cpu_us']):.1f} us"
            for whose in (OURS, peer)
            if whose in found
        )
        + ("; an empty block" if on_node else "; a path of 12"),
        data={OURS: own, peer: theirs},
    )


def _tell_tips(open_front: Callable[[], Front], connections: int, tips: int) -> dict[str, Any]:
    """Lets tips come; returns milliseconds until the median device and the last had them.

    Raises:
        BenchmarkError: A tip did not reach everyone, or came without clean_jobs.
    """
    last_ms, p50_ms, cpu_us, generator_us = [], [], [], []
    options = ["--connections", str(connections), "--tips", str(tips)]
    with open_front() as front, Load("sv1-fanout", *front.target, *options) as load:
        load.expect("ready")
        for _ in range(tips):
            time.sleep(PAUSE_SECONDS)
            before = front.usage()
            sent = front.tip()
            arrived = load.expect("tip")
            cpu_us.append((front.usage() - before).total_ns / 1000 / connections)
            if arrived["prev_hash"] != sent["prev_hash"]:
                raise BenchmarkError("another tip arrived than was sent")
            last_ms.append((arrived["arrived_ns"]["max"] - sent["sent_ns"]) / 1e6)
            p50_ms.append((arrived["arrived_ns"]["p50"] - sent["sent_ns"]) / 1e6)
            generator_us.append(arrived["generator_cpu_us"] / connections)
    return {
        "last_ms": last_ms,
        "p50_ms": p50_ms,
        "cpu_us": cpu_us,
        "generator_us": generator_us,
    }


def _idle(peers: _Peers, connections: int) -> Row:
    """Holds devices that have a job and do nothing."""
    found = {
        kind: _hold(open_front, connections)
        for kind, open_front in peers.kinds(on_node=False).items()
    }
    own = found[OURS]
    beside = [
        f"{peer} {found[peer]['kib']:.1f} KiB" if peer in found else f"{peer} not measured"
        for peer in KNOWN
    ]
    return Row(
        f"memory per idle device with a job, {connections:,} connections",
        f"{own['kib']:.1f} KiB",
        goal=f"{IDLE_KIB:.0f} KiB",
        met=own["kib"] <= IDLE_KIB,
        note=f"{', '.join(beside)}; ours without any device: {own['empty'] / KIB / KIB:.0f} MiB",
        data=found,
    )


def _hold(open_front: Callable[[], Front], connections: int) -> dict[str, float]:
    with open_front() as front:
        empty = front.usage().rss_bytes
        options = ["--connections", str(connections)]
        with Load("sv1-idle", *front.target, *options) as load:
            load.expect("wave")
            time.sleep(SETTLE_SECONDS)
            full = front.usage().rss_bytes
            load.go_on()
            load.expect("gone")
    return {"kib": (full - empty) / connections / KIB, "empty": empty}


def _steady(load: TranslatorLoad) -> Row:
    """Lets many devices submit at their own pace; each share must be accepted."""
    shares = load.steady * load.periods
    options = ["--connections", str(load.steady), "--period-ms", str(load.period_ms)]
    options += ["--shares", str(shares)]
    with OwnTranslator(None) as front, Load("sv1-shares", *front.target, *options) as generator:
        generator.expect("ready")
        before = front.usage()
        generator.go_on()
        line = generator.expect("shares")
        front.expect_upstream(shares)
        used = front.usage() - before
    ack, late = line["ack_us"], line["late_us"]
    cpu_us, engine_us = used.total_ns / shares / 1_000, used.engine_ns / shares / 1_000
    seconds = load.period_ms * load.periods / 1_000
    return Row(
        f"{load.steady:,} devices submit every {load.period_ms / 1_000:g} s for {seconds:g} s",
        f"{line['accepted']:,} of {shares:,} accepted, {line['failed']} disconnected; answered p50"
        f" {ack['p50'] / 1_000:.1f} ms, p90 {ack['p90'] / 1_000:.1f} ms, p99"
        f" {ack['p99'] / 1_000:.1f} ms, last {ack['max'] / 1_000:.0f} ms",
        goal="none lost",
        met=line["accepted"] == shares and line["failed"] == 0,
        note=f"{cpu_us:.1f} us CPU a submit, in the engine {engine_us:.1f} us: the rest looks at"
        f" devices each second; the generator sent p99 {late['p99'] / 1_000:.1f} ms late",
        data=line | {"cpu_us": cpu_us, "engine_us": engine_us},
    )


def _beside(peer: str, ours: str, theirs: str | None, ratio: float | None) -> str:
    """Says both figures and their ratio, or that there is only ours."""
    if theirs is None or ratio is None:
        return f"ours {ours}; {peer} not measured"
    return f"ours {ours}; {peer} {theirs}: {ratio:.1f}x"

"""The peer: SRI's pool beside ours, turn by turn under the same load and on the same templates.

Both have them from our template provider, whose source is synthetic: on a regtest node every second
share would be a block. `SRI_POOL` names SRI's program, pool_sv2; otherwise it is looked for where
`make interop` puts it. Where there is none, that is said, and its known figures are quoted.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from benchmarks import measure
from benchmarks.measure import Row
from benchmarks.process import (
    ROOT,
    BenchmarkError,
    Pool,
    Provider,
    end_process,
    free_ports,
    new_directory,
    processors,
    read_usage,
    stay_on,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from benchmarks.process import Line, UnderTest, Usage

KEY = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72"
"""The authority key of SRI's example configuration, whose secret is public."""
CONFIG = """\
authority_public_key = "{key}"
authority_secret_key = "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n"
cert_validity_sec = 3600
listen_address = "127.0.0.1:{port}"
coinbase_reward_script = "addr(tb1qa0sm0hxzj0x25rh8gw5xlzwlsfvvyz8u96w3p8)"
server_id = 1
pool_signature = "benchmark"
shares_per_minute = 1000000.0
share_batch_size = 10

[template_provider_type.Sv2Tp]
address = "{provider}"
public_key = "{provider_key}"
"""
START_SECONDS_MAX = 20
PLACE = ROOT / ".nodes/bin/pool_sv2"
"""Where `make interop` puts it."""

KNOWN = "pool_sv2 0.7.0 on a guest with 2 AMD EPYC processors, November 2026, path of 12"
FIGURES = (
    ("CPU per accepted extended share, 1 x 64", "13.5 us; 20.5 us at its default log level"),
    ("CPU per accepted extended share, 1,000 x 10", "17.5 us"),
    ("new tip to the last of 1,000 / 5,000 connections", "102 ms / 883 ms"),
    ("memory per idle connection with one channel", "105 KiB; 1.2 MiB after a wave of reconnects"),
    ("clients that join while a tip arrives", "it stops in 11 of 12 trials"),
)


CKPOOL = "ckpool, quoted: 61 to 64 ms, unencrypted"
"""Its time from a tip to the last of 5,000 connections, on another guest."""


@dataclass(frozen=True)
class PeerLoad:
    """Is what both pools have to bear.

    Args:
        shares: Shares of one closed loop.
        plans: Its connections and unanswered shares of each.
        rounds: How often each is repeated, turn by turn; the median counts.
        fanout: Numbers of connections that a tip goes out to.
        tips: Tips for each of them.
        idle: Idle connections.
        waves: How often all of them connect.
    """

    shares: int
    plans: tuple[tuple[int, int], ...]
    rounds: int
    fanout: tuple[int, ...]
    tips: int
    idle: int
    waves: int


class SriPool:
    """Is SRI's pool with the least log level, on our template provider."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._directory = new_directory()
        self._provider = Provider()

    def __enter__(self) -> Self:
        (port,) = free_ports(1)
        config = self._directory / "pool.toml"
        config.write_text(
            CONFIG.format(
                key=KEY,
                port=port,
                provider=self._provider.address,
                provider_key=self._provider.key,
            )
        )
        self._process = subprocess.Popen(
            [self._program, "-c", config],
            cwd=self._directory,
            env=os.environ | {"RUST_LOG": "error"},
            stdout=subprocess.DEVNULL,
            preexec_fn=stay_on(processors()[0]),  # noqa: PLW1509 - this process has one thread
        )
        self.target = ["--connect", f"127.0.0.1:{port}", "--key", KEY]
        self._wait_until_open(port)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end_process(self._process)
        self._provider.end()
        shutil.rmtree(self._directory, ignore_errors=True)

    def tip(self) -> Line:
        """Lets a new tip come; returns its hash and when the provider was told."""
        return self._provider.tip()

    def usage(self) -> Usage:
        """Reads what the pool has used so far."""
        return read_usage(self._process.pid)

    def metrics(self) -> Line:
        """Returns no counters."""
        return {}

    def _wait_until_open(self, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                # It listens before it has a template, and accepts once a second until then.
                time.sleep(2)
                return
            time.sleep(0.1)
        raise BenchmarkError("SRI's pool does not start; what it says stands above")


def find_peer() -> tuple[Path | None, str]:
    """Returns SRI's program, if there is one, and its version or where it was looked for."""
    named = os.environ.get("SRI_POOL", "")
    program = Path(named) if named else PLACE
    if not program.is_file():
        where = f"SRI_POOL names {program.name}, which is not there" if named else "not installed"
        return None, f"{where}: `make interop` installs it"
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return program, told.stdout.strip() or "pool_sv2 of an unknown version"


def measure_peer(load: PeerLoad) -> list[Row]:
    """Runs both pools; without the peer says so, and quotes its figures beside ours."""
    program, version = find_peer()
    rows = [Row("SRI's pool, run beside ours", "yes" if program else "NOT MEASURED", note=version)]
    if program is None:
        rows += [Row(f"SRI, quoted: {what}", figure, note=KNOWN) for what, figure in FIGURES]
    peer = None if program is None else partial(SriPool, program)
    for connections, window in load.plans:
        rows += _shares(peer, load, connections, window)
    for connections in load.fanout:
        rows.append(_fan_out(peer, connections, load.tips))
    return [*rows, *_idle(peer, load.idle, load.waves)]


def _shares(
    peer: Callable[[], UnderTest] | None, load: PeerLoad, connections: int, window: int
) -> list[Row]:
    """Lets both pools take shares, turn by turn."""
    kinds: dict[str, tuple[Callable[[], UnderTest], tuple[str, ...]]] = {
        "stored": (partial(Pool, provided=True), ()),
        "unstored": (partial(Pool, provided=True, stored=False), ()),
    }
    if peer is not None:
        kinds["SRI"] = (peer, ("--sums", "ignored"))
    rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(load.rounds):
        for kind, (open_pool, more) in kinds.items():
            found = measure.closed_loop(open_pool, load.shares, connections, window, *more)
            rounds[kind].append(found)
    median = {
        kind: sorted(found, key=lambda each: each["total_us"])[len(found) // 2]
        for kind, found in rounds.items()
    }
    load_words = f"{connections:,} connections x {window:,} unanswered"
    theirs = median.get("SRI")
    rows = []
    for kind, words in (
        ("stored", "ours durable before they are acknowledged, SRI's stored nowhere"),
        ("unstored", "neither pool stores them"),
    ):
        ours = median[kind]
        ratio = None if theirs is None else theirs["total_us"] / ours["total_us"]
        rows.append(
            Row(
                f"beside SRI: accepted extended shares per CPU-second, {load_words}; {words}",
                _beside(
                    f"{1e6 / ours['total_us']:,.0f} ({ours['total_us']:.2f} us)",
                    None
                    if theirs is None
                    else f"{1e6 / theirs['total_us']:,.0f} ({theirs['total_us']:.2f} us)",
                    ratio,
                ),
                goal="3x SRI",
                met=None if ratio is None else ratio >= 3,
                note=f"ours: engine {ours['engine_us']:.2f}, trio {ours['trio_us']:.2f}, commit"
                f" {ours['commit_us']:.2f}; {ours['per_second']:,.0f}/s"
                + ("" if theirs is None else f", SRI {theirs['per_second']:,.0f}/s"),
                data={"ours": rounds[kind], "sri": rounds.get("SRI", [])},
            )
        )
    return rows


def _fan_out(peer: Callable[[], UnderTest] | None, connections: int, tips: int) -> Row:
    """Sends tips to the clients of both pools; the time counts from the provider's own source."""
    ours = measure.fan_out(partial(Pool, provided=True), connections, tips, 0)
    theirs = None if peer is None else measure.fan_out(peer, connections, tips, 0)
    last_ms = statistics.median(ours["last_ms"])
    ratio = None if theirs is None else statistics.median(theirs["last_ms"]) / last_ms
    return Row(
        f"beside SRI: new previous hash to the last of {connections:,} channels",
        _beside(
            measure.describe_fan_out(ours),
            None if theirs is None else measure.describe_fan_out(theirs),
            ratio,
        ),
        goal="1/5 of SRI's",
        met=None if ratio is None else ratio >= 5,
        note="template and tip come together, a connection each"
        + (f"; {CKPOOL}" if connections == 5_000 else ""),
        data={"ours": ours, "sri": theirs},
    )


def _idle(peer: Callable[[], UnderTest] | None, connections: int, waves: int) -> list[Row]:
    """Holds idle connections to both pools, in waves."""
    ours = measure.hold_idle(partial(Pool, provided=True), connections, waves)
    theirs = None if peer is None else measure.hold_idle(peer, connections, waves)
    rows = []
    for wave, words in ((0, ""), (waves - 1, f" in wave {waves} of reconnects")):
        own = ours["kib_by_wave"][wave]
        other = None if theirs is None else theirs["kib_by_wave"][wave]
        ratio = None if other is None else other / own
        rows.append(
            Row(
                f"beside SRI: memory per connection with one channel{words}, {connections:,}"
                " connections",
                _beside(f"{own:.1f} KiB", None if other is None else f"{other:.0f} KiB", ratio),
                goal="1/10 of SRI's",
                met=None if ratio is None else ratio >= 10,
                data={"ours": ours, "sri": theirs},
            )
        )
    return rows


def _beside(ours: str, theirs: str | None, ratio: float | None) -> str:
    """Says both figures and their ratio, or that there is only ours."""
    if theirs is None or ratio is None:
        return f"ours {ours}; SRI not measured"
    return f"ours {ours}; SRI {theirs}: {ratio:.1f}x"

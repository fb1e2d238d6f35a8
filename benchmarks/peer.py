"""The peer: SRI's pool, run under the same load where it is installed, else by known figures.

`SRI_POOL` names its program, pool_sv2. Its templates come from `radpool-load templates`, so that it
needs no node.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from benchmarks import measure
from benchmarks.measure import Row
from benchmarks.process import (
    BenchmarkError,
    Load,
    new_directory,
    processors,
    read_usage,
    stay_on,
)

if TYPE_CHECKING:
    from types import TracebackType

    from benchmarks.process import Line, Usage

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
address = "127.0.0.1:{templates_port}"
"""
START_SECONDS_MAX = 20

CONNECTIONS = 1_000
TIPS = 7
WAVES = 3
PLANS = ((1, 64), (100, 16))
SHARES = 100_000

KNOWN = "pool_sv2 0.7.0 on a guest with 2 AMD EPYC processors, November 2026, path of 12"
FIGURES = (
    ("CPU per accepted extended share, 1 x 64", "13.5 us; 20.5 us at its default log level"),
    ("CPU per accepted extended share, 1,000 x 10", "17.5 us"),
    ("new tip to the last of 1,000 / 5,000 connections", "102 ms / 883 ms"),
    ("memory per idle connection with one channel", "105 KiB; 1.2 MiB after a wave of reconnects"),
    ("clients that join while a tip arrives", "it stops in 11 of 12 trials"),
)


class SriPool:
    """Is SRI's pool with the least log level and templates without a node."""

    def __init__(self) -> None:
        self._directory = new_directory()
        self._templates = Load("templates")

    def __enter__(self) -> Self:
        templates_port = self._templates.expect("listening")["port"]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = self._directory / "pool.toml"
        config.write_text(CONFIG.format(key=KEY, port=port, templates_port=templates_port))
        self._process = subprocess.Popen(
            [os.environ["SRI_POOL"], "-c", str(config)],
            cwd=self._directory,
            env=os.environ | {"RUST_LOG": "error"},
            stdout=subprocess.DEVNULL,
            preexec_fn=stay_on(processors()[0]),  # noqa: PLW1509 - this process has one thread
        )
        self.target = ["--connect", f"127.0.0.1:{port}", "--key", KEY]
        self._templates.expect("serving")
        self._wait_until_open(port)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._templates.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def tip(self) -> Line:
        """Lets a new tip come; returns its hash and when it was sent to the pool."""
        self._templates.go_on()
        return self._templates.expect("tip")

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


def measure_peer() -> list[Row]:
    """Runs the peer, or quotes its figures."""
    if not os.environ.get("SRI_POOL"):
        return [Row(f"SRI, quoted: {question}", figure, note=KNOWN) for question, figure in FIGURES]
    rows = []
    for connections, window in PLANS:
        result = measure.closed_loop(
            SriPool, SHARES, connections, window, "--sums", "ignored"
        )  # fmt: skip
        rows.append(
            Row(
                f"SRI: accepted extended shares, {connections} connections x {window} unanswered",
                f"{1e6 / result['total_us']:,.0f} per CPU-second ({result['total_us']:.2f} us);"
                f" {result['per_second']:,.0f}/s",
                note="acknowledged in tens, before anything is stored",
                data=result,
            )
        )
    tips = measure.fan_out(SriPool, CONNECTIONS, TIPS, 0)
    rows.append(
        Row(
            f"SRI: new tip to the last of {CONNECTIONS:,} connections",
            measure.describe_fan_out(tips),
            data=tips,
        )
    )
    idle = measure.hold_idle(SriPool, CONNECTIONS, WAVES)
    by_wave = ", ".join(f"{kib:.0f}" for kib in idle["kib_by_wave"])
    rows.append(
        Row(
            f"SRI: memory per idle connection with one channel, {CONNECTIONS:,} connections",
            f"{by_wave} KiB by wave; {idle['kib_after_all']:.0f} KiB when all have gone",
            data=idle,
        )
    )
    return rows

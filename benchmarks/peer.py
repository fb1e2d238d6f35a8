"""The peer: SRI's pool, by figures measured on a machine of the same kind."""

from __future__ import annotations

from benchmarks.measure import Row

SOURCE = (
    "pool_sv2 0.7.0 (newest published in November 2026), 2 vCPU AMD EPYC guest with SHA extensions,"
    " pool pinned to one core, closed loop, template with a path of 12"
)
FIGURES = [
    (
        "CPU per accepted extended share, 1 connection x 64",
        "13.5 us; 20.5 us at its default log level",
    ),
    ("the same, 1,000 connections", "17.5 us"),
    ("new tip to the last of 1,000 / 5,000 connections", "102 / 883 ms as shipped"),
    ("memory per idle connection with one channel", "105 KiB; 1.2 MiB after a wave of reconnects"),
    ("clients that join while a tip arrives", "the pool stops in 11 of 12 trials"),
]
"""Its shares are acknowledged before they are stored anywhere; ours are durable by then."""


def measure_peer() -> list[Row]:
    """Quotes the peer's figures."""
    return [Row(f"SRI: {question}", figure, note=SOURCE) for question, figure in FIGURES]

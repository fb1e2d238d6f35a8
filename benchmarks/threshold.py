"""Measures threshold keys beside the plain library: key generation, shares, whole signatures."""

from __future__ import annotations

from benchmarks.measure import Row
from benchmarks.process import Load, processors

GOAL = 1.05
"""A share of ours over one of the plain library."""
GENERATION_GOAL_S = {16: 2, 50: 20}


def measure_threshold(members: int, rounds: int) -> list[Row]:
    """Measures committees of 4, 16 and 50 members.

    Args:
        members: The largest of them.
        rounds: How often each is repeated; the fastest counts, as on both sides.
    """
    options = ["--members", str(members), "--rounds", str(rounds)]
    with Load("threshold", *options, cpus=processors()[0]) as load:
        lines = list(load.rest())
    found: dict[tuple[int, int], dict[str, int]] = {}
    for line in lines:
        size = line["members"], line["threshold"]
        found.setdefault(size, {})[line["what"]] = line["microseconds"]
    rows = []
    for (count, threshold), times in found.items():
        for what in ("share", "joining", "key generation"):
            ours, plain = times[what], times[f"{what}, library"]
            ratio = ours / max(plain, 1)
            goal, met = "", None
            if what == "share":
                goal, met = f"{GOAL} of the plain library", ratio <= GOAL
            elif what == "key generation" and count in GENERATION_GOAL_S:
                seconds = GENERATION_GOAL_S[count]
                goal, met = f"{seconds} s", ours <= seconds * 1_000_000
            rows.append(
                Row(
                    f"threshold key, {threshold} of {count}: {what}, one member, one core",
                    f"{ours / 1_000:.2f} ms",
                    goal=goal,
                    met=met,
                    note=f"{ratio:.2f} of the plain library's {plain / 1_000:.2f} ms",
                    data=times,
                )
            )
    return rows

"""Describes the section `federation` of `msp.toml`: a pool that is a member of a federation."""
# ruff: noqa: RUF009 - the functions return dataclass fields, which the rule cannot see.

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the reader resolves the annotations at run time

from radpool_sv2.config.setting import integer, optional_path

__all__ = ["FederatedSection"]

BATCH_SHARES_MAX = 4_096
"""A share takes 135 bytes of a batch at most, with a template and an owner of its own: so many take
about half of the 2^20 bytes that members take at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FederatedSection:
    """The federation that the pool is a member of: its blocks pay all members by their work."""

    dir: Path | None = optional_path(
        about="The member's directory: what `radpool federation init --msp-dir` has made for this "
        "pool, with the committee's file in it. Empty for a pool of its own.",
        why="A pool joins a federation only when its operator says so.",
    )
    batch_shares: int = integer(
        1_000,
        1,
        BATCH_SHARES_MAX,
        unit="shares",
        about="In a federation, the most shares that are signed and committed together, instead of "
        "ledger.batch_shares.",
        why="Some 40 kB, which members pass on to each other as one piece.",
    )
    batch_ms: int = integer(
        100,
        0,
        1_000,
        unit="milliseconds",
        about="In a federation, how long shares are gathered before they are committed together, "
        "instead of ledger.pace_ms.",
        why="Each batch is signed for by every member; miners wait no longer for an answer than a "
        "packet takes around the world.",
    )

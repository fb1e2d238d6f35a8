"""Describes the section `weight`: by what shares are paid."""

from __future__ import annotations

from dataclasses import dataclass

from radpool_sv2.config.setting import choice

__all__ = ["WEIGHT_MODES", "WeightSection"]

WEIGHT_MODES = ("value", "difficulty", "slice")


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightSection:
    """What shares count by when a block is split."""

    mode: str = choice(
        "value",
        WEIGHT_MODES,
        about="value: what a block of the share's template would pay the pool, up to what honest "
        "nodes offer and a quarter of the fees more. difficulty: work alone, whatever the template "
        "pays. slice: the subsidy by work, the fees of each minute by what templates collect. An "
        "epoch in which the mode was changed is split by work alone.",
        why="A miner who leaves fees out of a block costs everybody; by value it costs the miner. "
        "The table in docs/reference/template-weight.md shows what each mode makes of attacks.",
    )

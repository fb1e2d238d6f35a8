"""Prices templates as page 09 has it, for the vectors."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

VALUE, DIFFICULTY, SLICE = 1, 2, 3

HALVINGS = {112: 210_000, 80: 210_000, 32: 150}
"""After how many blocks the subsidy halves, by the scale of a network."""


def subsidy(height: int, scale: int) -> int:
    halvings = height // HALVINGS[scale]
    return 5_000_000_000 >> halvings if halvings < 64 else 0


def target_of(nbits: int) -> int:
    size, mantissa = nbits >> 24, nbits & 0x7FFFFF
    return mantissa * 256 ** (size - 3) if size > 3 else mantissa // 256 ** (3 - size)


def hashes(target: int) -> int:
    return 2**256 // (target + 1)


def cap(height: int, scale: int, reference: int, *, upside: bool = True) -> int:
    extra = max(reference // 4, 50_000) if upside else 0
    return subsidy(height, scale) + reference + extra


def price(  # noqa: PLR0913, PLR0917 - the inputs of the formula
    mode: int, scale: int, target: int, height: int, paid: int, most: int
) -> int:
    counted = min(paid, most)
    if mode == SLICE:
        return max(counted - subsidy(height, scale), 0)
    return (counted if mode == VALUE else 1) * 2**scale // hashes(target)


def quality_q32(height: int, scale: int, paid: int, reference: int) -> int:
    counted = min(paid, cap(height, scale, reference))
    return counted * 2**32 // (subsidy(height, scale) + reference)


def fee_weights(slices: list[dict[Any, tuple[int, int]]], base: int) -> dict[Any, int]:
    """Weighs owners by slices of (work, value)."""
    weights: dict[Any, int] = defaultdict(int)
    for owners in slices:
        all_work = sum(work for work, _ in owners.values()) // 2**base
        all_value = sum(value for _, value in owners.values())
        for owner, (work, value) in owners.items():
            if all_value:
                weights[owner] += all_work * value * 2**64 // all_value
            else:
                weights[owner] += work // 2**base * 2**64
    return dict(weights)

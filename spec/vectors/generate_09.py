"""Writes `09-template-value.json`: prices, values, qualities, slices and payments."""

from __future__ import annotations

from typing import Any

from accounting import divided, split
from layout import commitment_of, named, write
from value import (
    DIFFICULTY,
    HALVINGS,
    SLICE,
    VALUE,
    cap,
    fee_weights,
    hashes,
    price,
    quality_q32,
    subsidy,
    target_of,
)

MAIN = 0x17021369
REGTEST = 0x207FFFFF
MODES = {VALUE: "value", DIFFICULTY: "difficulty", SLICE: "slice"}
NAMES = ("alice", "bob", "carol")
OWNERS = [(commitment_of(name, named(f"salt of {name}", 16)), 0) for name in NAMES]

Case = dict[str, Any]


def price_case(  # noqa: PLR0913 - the inputs of the formula
    name: str,
    *,
    mode: int = VALUE,
    scale: int = 112,
    nbits: int = MAIN,
    target: int | None = None,
    height: int = 900_000,
    paid: int = 0,
    reference: int = 6_000_000,
    upside: bool = True,
) -> Case:
    real = target_of(nbits) if target is None else target
    most = cap(height, scale, reference, upside=upside)
    return {
        "id": f"price-{name}",
        "inputs": {
            "mode": MODES[mode],
            "scale": scale,
            "halving_blocks": HALVINGS[scale],
            "nbits": nbits,
            "target": real.to_bytes(32).hex(),
            "height": height,
            "paid_sats": paid,
            "reference_sats": reference,
            "upside": upside,
        },
        "expected": {
            "hashes": str(hashes(real)),
            "subsidy_sats": subsidy(height, scale),
            "cap_sats": most,
            "price": str(price(mode, scale, real, height, paid, most)),
        },
    }


def prices() -> list[Case]:
    full = 312_500_000
    demo = 2 ** (256 - 20) - 1
    return [
        price_case("of-the-subsidy-alone", paid=full),
        price_case("of-4000000-in-fees", paid=full + 4_000_000),
        price_case("of-6000000-in-fees", paid=full + 6_000_000),
        price_case("at-the-cap", paid=full + 7_500_000),
        price_case("one-above-the-cap", paid=full + 7_500_001),
        price_case("far-above-the-cap", paid=10_000_000_000),
        price_case("without-upside", paid=full + 6_000_001, upside=False),
        price_case("below-the-reference-without-upside", paid=full + 1, upside=False),
        price_case("of-few-fees", paid=full + 250_000, reference=199_999),
        price_case("of-few-fees-at-the-step", paid=full + 999_999, reference=200_004),
        price_case("without-reference", paid=full + 50_001, reference=0),
        price_case("of-nothing", paid=0),
        price_case("of-a-part", paid=1),
        price_case("by-difficulty", mode=DIFFICULTY, paid=full),
        price_case("by-difficulty-of-an-empty-block", mode=DIFFICULTY, paid=0),
        price_case("by-slices", mode=SLICE, paid=full + 3_000_000),
        price_case("by-slices-at-the-cap", mode=SLICE, paid=full + 9_000_000),
        price_case("by-slices-below-the-subsidy", mode=SLICE, paid=full - 1),
        price_case("before-the-first-halving", height=209_999, nbits=0x1A05DB8B, paid=5 * 10**9),
        price_case("at-the-first-halving", height=210_000, nbits=0x1A05DB8B, paid=5 * 10**9),
        price_case("of-the-last-satoshi", height=6_929_999, paid=1, reference=0),
        price_case("after-the-subsidy", height=6_930_000, paid=5_000, reference=7_000),
        price_case("after-64-halvings", height=64 * 210_000, paid=7, reference=0),
        price_case("of-difficulty-1", nbits=0x1D00FFFF, paid=full),
        price_case("on-regtest", scale=32, nbits=REGTEST, height=101, paid=5 * 10**9, reference=0),
        price_case(
            "on-regtest-under-a-rule",
            scale=32,
            nbits=REGTEST,
            target=demo,
            height=150,
            paid=2_500_123_456,
            reference=123_456,
        ),
        price_case("on-signet", scale=80, nbits=0x1D1E0377, height=200_000, paid=5 * 10**9),
    ]


def values() -> list[Case]:
    rows = {
        "of-the-base": (112, 32, 2_839_613_177_856_000_000, 32),
        "of-the-example": (112, 32, 2_839_613_177_856_000_000, 52),
        "of-a-block": (112, 32, 2_839_613_177_856_000_000, 79),
        "on-regtest": (32, 0, 10_737_418_240_000_000_000, 8),
        "of-no-work": (32, 0, 7, 0),
        "without-price": (112, 32, 0, 120),
        "of-127-bits": (112, 32, 2**39, 120),
        "at-the-largest": (80, 0, 2**128 - 1, 0),
    }
    cases: list[Case] = [
        {
            "id": f"value-{name}",
            "inputs": {"scale": k, "base": b, "price": str(each), "exponent": z},
            "expected": {"value": str(each * 2 ** (z - b))},
        }
        for name, (k, b, each, z) in rows.items()
    ]
    refused = {"below-the-base": (112, 32, 7, 31), "of-129-bits": (112, 32, 2**40, 120)}
    cases += [
        {
            "id": f"value-{name}",
            "inputs": {"scale": k, "base": b, "price": str(each), "exponent": z},
            "expected_error": "value",
        }
        for name, (k, b, each, z) in refused.items()
    ]
    return cases


def qualities() -> list[Case]:
    full, fees = 312_500_000, 6_000_000
    rows = {
        "of-the-reference": (full + fees, fees),
        "of-an-empty-block": (full, fees),
        "of-a-better-block": (full + 7_000_000, fees),
        "of-a-stuffed-block": (10**10, fees),
        "of-nothing": (0, fees),
    }
    return [
        {
            "id": f"quality-{name}",
            "inputs": {"height": 900_000, "scale": 112, "paid_sats": paid, "reference_sats": f},
            "expected": {"quality_q32": quality_q32(900_000, 112, paid, f)},
        }
        for name, (paid, f) in rows.items()
    ]


def slice_case(name: str, fees: int, base: int, *slices: dict[int, tuple[int, int]]) -> Case:
    """A slice has work and value by the owner's place."""
    block = named(f"block {name}")
    told = [{OWNERS[i]: row for i, row in owners.items()} for owners in slices]
    weights = fee_weights(list(told), base)
    parts = divided(fees, weights, block)
    assert parts is not None
    return {
        "id": f"slices-{name}",
        "inputs": {
            "base": base,
            "fees_sats": fees,
            "block": block[::-1].hex(),
            "owners": [{"commitment": c.hex(), "rail": rail} for c, rail in OWNERS],
            "slices": [
                [
                    {"owner": i, "work": str(work), "value": str(value)}
                    for i, (work, value) in owners.items()
                ]
                for owners in slices
            ],
        },
        "expected": {
            "weights": [str(weights.get(owner, 0)) for owner in OWNERS],
            "parts": [parts.get(owner, 0) for owner in OWNERS],
        },
    }


def slices() -> list[Case]:
    unit = 2**32

    def row(work: int, fees: int) -> tuple[int, int]:
        return work * unit, work * fees

    return [
        slice_case(
            "of-two-miners",
            6_000_000,
            32,
            {0: row(200, 0), 1: row(100, 0)},
            {0: row(300, 6_000_000), 1: row(400, 3_000_000)},
        ),
        slice_case("of-one-miner", 1_234_567, 0, {2: (2**50, 5)}),
        slice_case(
            "with-a-worthless-template",
            999_999,
            32,
            {0: row(7, 0), 1: row(11, 13)},
            {0: row(3, 5), 2: row(1, 0)},
        ),
        slice_case("without-fees", 3, 32, {0: row(1, 0)}, {1: row(1, 0), 2: row(1, 0)}),
    ]


def payment_case(name: str, sats: int, rows: list[tuple[int, int, int]]) -> Case:
    """Rows are work in shares of exponent 32, what the template pays, reference fees."""
    block = named(f"block {name}")
    target = target_of(MAIN)
    weights = [
        work * price(VALUE, 112, target, 900_000, paid, cap(900_000, 112, reference))
        for work, paid, reference in rows
    ]
    parts = split(sats, list(zip(OWNERS, weights, strict=True)), block)
    assert parts is not None
    return {
        "id": f"payment-{name}",
        "inputs": {
            "nbits": MAIN,
            "height": 900_000,
            "sats": sats,
            "block": block[::-1].hex(),
            "miners": [
                {
                    "commitment": commitment.hex(),
                    "rail": rail,
                    "shares_of_base": str(work),
                    "paid_sats": paid,
                    "reference_sats": reference,
                }
                for (commitment, rail), (work, paid, reference) in zip(OWNERS, rows, strict=True)
            ],
        },
        "expected": {"values": [str(weight) for weight in weights], "parts": parts},
    }


def payments() -> list[Case]:
    full, fees = 312_500_000, 6_000_000
    works = [400 << 20, 350 << 20, 250 << 20]
    three = [(works[0], full + fees, fees), (works[1], full + 4_000_000, fees)]
    return [
        payment_case("of-three-templates", full + fees, [*three, (works[2], full, fees)]),
        payment_case("with-a-stuffed-one", full + fees, [*three, (works[2], 100 * 10**8, fees)]),
        payment_case("with-one-that-pays-itself", full, [*three, (works[2], 0, fees)]),
    ]


write(
    "09-template-value.json",
    ["Page 09. Numbers that may exceed 2^53 are decimal text; targets are 64 digits, big-endian."],
    {
        "prices": prices(),
        "values": values(),
        "qualities": qualities(),
        "slices": slices(),
        "payments": payments(),
    },
)

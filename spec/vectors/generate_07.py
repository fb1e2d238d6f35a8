"""Writes `07-ecash-epochs.json`: allocations, windows, prices, trees of claims, statements."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from accounting import canonical
from ecash import Keyset, derived
from layout import Node, commitment_of, named, proof, write
from mint_story import MintStory
from secp256k1 import public_key
from settlement import (
    CashOut,
    Claim,
    Slice,
    allocate,
    claims_tree,
    paid_keysets,
    share_price,
    signed_statement,
    statement_digest,
    value_of,
    walked,
    window,
)

SECRET = named("msp secret")
MSP_KEY = public_key(SECRET)
WORK = Keyset(named("mint seed"), "work", 7, 32)
WALLET = named("wallet seed") + named("wallet seed, second half")
COIN = 100_000_000
SUBSIDY = 312_500_000
# Alice has 7 shares of 2^10 units, Bob 3 of 2^12, Carol 1 of 2^13.
MINERS = {"alice": (7, 10), "bob": (3, 12), "carol": (1, 13)}
MINED = sum(count << step for count, step in MINERS.values())


def allocation(
    name: str,
    policy: str,
    theta_sats: int,
    keysets: list[Slice],
    *,
    carry_msat: int = 0,
    **block: Any,
) -> dict[str, Any]:
    paid = paid_keysets(policy, keysets, block, theta_sats, carry_msat)
    found = allocate(theta_sats, carry_msat, paid)
    given = sum(row["msat"] for row in found["allocations"])
    assert theta_sats * 1000 + carry_msat == given + found["fee_msat"] + found["carry_msat"]
    return {
        "id": f"allocation-{name}",
        "inputs": {
            "policy": policy,
            "theta_sats": theta_sats,
            "carry_msat": carry_msat,
            "keysets": [row.to_json() for row in keysets],
            "block": block,
        },
        "expected": {"paid": [row.number for row in paid], **found},
    }


def pool_allocations() -> list[dict[str, Any]]:
    one = [Slice(1, MINED, epoch=4)]
    group = [Slice(1, 100, epoch=4), Slice(2, 50, epoch=5), Slice(3, 7, epoch=6)]
    thirds = [Slice(n, 1, epoch=4) for n in (9, 3, 5)]
    busy = [Slice(n, 2 ** (n % 41) + n, epoch=4) for n in range(1, 30)]
    fees = [
        Slice(1, 60, epoch=4, fee_ppm=20_000),
        Slice(2, 40, epoch=5, fee_ppm=30_000, fee_fixed_msat=1),
    ]
    small = [Slice(1, 5, epoch=4, fee_fixed_msat=10_000)]
    idle = Slice(1, 0, epoch=4, fee_ppm=1)
    # What a unit costs at difficulties of 2^79 and 1.3 * 2^79 hashes.
    unit, harder = (SUBSIDY * 2**112 // (2**79 * each // 10) for each in (10, 13))
    valued = [
        Slice(1, 1_000, epoch=4, unit_value=unit),
        Slice(2, 1_140, epoch=5, unit_value=harder),
        Slice(3, 77, epoch=5, unit_value=harder),
    ]
    mixed = [*valued[:2], Slice(4, 500, epoch=5)]
    return [
        allocation("one-keyset", "pool", SUBSIDY, one, epochs=[4]),
        allocation("group-after-an-orphan", "pool", SUBSIDY, group, epochs=[4, 5]),
        allocation("thirds", "pool", 100, thirds, epochs=[4]),
        allocation("two-odd-millisats", "pool", 100, thirds, carry_msat=1, epochs=[4]),
        allocation("a-carry-alone", "pool", 0, thirds, carry_msat=2, epochs=[4]),
        allocation("carry-comes-in", "pool", SUBSIDY, group, carry_msat=12_345, epochs=[4, 5, 6]),
        allocation("many-keysets", "pool", SUBSIDY, busy, epochs=[4]),
        allocation("lowest-fee-counts", "pool", SUBSIDY, fees, epochs=[4, 5]),
        allocation("fee-of-one-keyset", "pool", SUBSIDY, fees[1:], epochs=[5]),
        allocation("fee-above-the-reward", "pool", 7, small, epochs=[4]),
        allocation("fee-above-it-and-a-carry", "pool", 7, small, carry_msat=3, epochs=[4]),
        allocation("no-work", "pool", SUBSIDY, [idle], epochs=[4]),
        allocation("no-keyset", "pool", SUBSIDY, group, carry_msat=5, epochs=[3]),
        allocation("by-value-over-a-retarget", "pool", SUBSIDY, valued, epochs=[4, 5]),
        allocation("by-work-among-values", "pool", SUBSIDY, mixed, epochs=[4, 5]),
        allocation("claimed-in-the-next-epoch", "pool", SUBSIDY, group[:2], epochs=[5]),
        allocation("nothing-to-divide", "pool", 0, one, epochs=[4]),
        allocation("idle-keyset-among-others", "pool", SUBSIDY, [idle, group[1]], epochs=[4, 5]),
        allocation(
            "work-near-the-bound",
            "pool",
            2_100_000_000_000_000,
            [Slice(1, 2**63 - 1, epoch=4), Slice(2, 2**62 + 1, epoch=4)],
            epochs=[4],
        ),
    ]


def network_allocations() -> list[dict[str, Any]]:
    rows = [Slice(n, 10 * n, epoch=4, height=900_000 + n) for n in (1, 2, 3)]
    at = {"epochs": [4]}
    return [
        allocation("network-only-its-height", "network", SUBSIDY, rows, height=900_002, **at),
        allocation("network-no-keyset", "network", SUBSIDY, rows, height=900_009, **at),
        allocation("network-carry", "network", 0, rows, carry_msat=5, height=900_001, **at),
    ]


def slices() -> list[Slice]:
    works = [100, 120, 80, 100, 100, 60, 40]
    return [Slice(n, work, epoch=3 + n // 4) for n, work in enumerate(works, 1)]


def window_allocations() -> list[dict[str, Any]]:
    usual: dict[str, Any] = {"epoch": 4, "window_difficulties": 2, "work": str(100 << 32), "z0": 32}
    rows = slices()
    return [
        allocation("window-whole-slices", "window", SUBSIDY, rows, **usual),
        allocation("window-of-an-earlier-epoch", "window", SUBSIDY, rows, **{**usual, "epoch": 3}),
        allocation(
            "window-more-than-there-is",
            "window",
            SUBSIDY,
            rows,
            **{**usual, "window_difficulties": 8},
        ),
        allocation(
            "window-met-exactly",
            "window",
            SUBSIDY,
            rows,
            **{**usual, "work": str(50 << 32)},
        ),
        allocation(
            "window-one-hash-more",
            "window",
            SUBSIDY,
            rows,
            **{**usual, "work": str((50 << 32) + 1)},
        ),
        allocation(
            "window-before-the-first-slice", "window", SUBSIDY, rows, **{**usual, "epoch": 2}
        ),
    ]


def network_works() -> list[dict[str, Any]]:
    targets = {
        "regtest": 0x7FFFFF << 232,
        "difficulty-1": 0xFFFF << 208,
        "demo-rule-of-20-zeros": 2**236 - 1,
        "everything": 2**256 - 1,
        "one": 1,
    }
    return [
        {
            "id": f"network-work-{name}",
            "inputs": {"target": f"{target:064x}"},
            "expected": {"work": str(2**256 // (target + 1))},
        }
        for name, target in targets.items()
    ]


def prices() -> list[dict[str, Any]]:
    theta = SUBSIDY * 1000
    kept: dict[str, tuple[int, int, int]] = {
        **{
            f"batch-of-{name}": (theta, MINED, count << step)
            for name, (count, step) in MINERS.items()
        },
        "everything-at-once": (theta, MINED, MINED),
        "one-unit": (theta, MINED, 1),
        "dust": (999, 10, 10),
        "less-than-a-millisat": (9, 10, 1),
        "nothing-allocated": (0, MINED, MINED),
        "products-of-126-bits": (2**62, 2**63 - 1, 2**63 - 2),
        "fixed-price": (1_234_567, 4_096, 3 << 10),
    }
    cases = []
    for name, (theta_msat, work, units) in kept.items():
        msat = value_of(theta_msat, work, units)
        cases.append(
            {
                "id": f"price-{name}",
                "inputs": {"theta_msat": theta_msat, "work": str(work), "units": str(units)},
                "expected": {"msat": msat, "sats": msat // 1000, "rest_msat": msat % 1000},
            }
        )
    rows = {case["id"]: case["expected"] for case in cases}
    batches = [rows[f"price-batch-of-{name}"] for name in MINERS]
    assert sum(row["msat"] for row in batches) <= theta
    return cases


def share_prices() -> list[dict[str, Any]]:
    """The draft's example: a price for each share, and what is left of the reward."""
    theta = SUBSIDY * 1000
    table = {step: share_price(theta, MINED, 32 + step, 32) for _, step in MINERS.values()}
    paid = sum(count * table[step] for count, step in MINERS.values())
    shares = sum(count for count, _ in MINERS.values())
    assert 0 <= theta - paid < shares
    return [
        {
            "id": "share-prices-alice-bob-carol",
            "inputs": {
                "theta_msat": theta,
                "z0": 32,
                "miners": [
                    {"name": name, "shares": count, "z": 32 + step}
                    for name, (count, step) in MINERS.items()
                ],
            },
            "expected": {
                "work": str(MINED),
                "prices_msat": [{"z": 32 + step, "msat": msat} for step, msat in table.items()],
                "rewards_msat": [
                    {"name": name, "msat": count * table[step]}
                    for name, (count, step) in MINERS.items()
                ],
                "batch_msat": [
                    {"name": name, "msat": value_of(theta, MINED, count << step)}
                    for name, (count, step) in MINERS.items()
                ],
                "carry_msat": theta - paid,
            },
        }
    ]


def gates() -> list[dict[str, Any]]:
    """When sats may be issued; `heights` are those of the blocks that paid the keyset."""
    kept: dict[str, tuple[list[int], int, int, int, int, str | None]] = {
        # heights, tip, issued against money that cannot be spent yet, asked, cap
        "mature": ([101], 200, 0, 5_000, 0, None),
        "one-block-short": ([101], 199, 0, 5_000, 0, "immature"),
        "the-youngest-block-counts": ([101, 140], 238, 0, 1, 0, "immature"),
        "the-youngest-block-is-mature": ([101, 140], 239, 0, 1, 0, None),
        "advance-within-the-cap": ([101], 110, 4_000, 6_000, 10_000, None),
        "advance-above-the-cap": ([101], 110, 4_000, 6_001, 10_000, "immature"),
        "cap-does-not-bind-mature-money": ([101], 200, 10_000, 10_000, 10_000, None),
    }
    cases: list[dict[str, Any]] = []
    for name, (heights, tip, issued, asked, cap, error) in kept.items():
        after = max(heights) + 100 - 1
        assert (error is None) == (tip >= after or issued + asked <= cap)
        outcome: dict[str, Any] = {"expected": {"redeem_after_height": after}}
        if error is not None:
            outcome = {"expected_error": error}
        cases.append(
            {
                "id": f"gate-{name}",
                "inputs": {
                    "heights": heights,
                    "coinbase_maturity": 100,
                    "tip_height": tip,
                    "advanced_msat": issued,
                    "asked_msat": asked,
                    "advance_cap_msat": cap,
                },
                **outcome,
            }
        )
    return cases


def claims_of(count: int) -> list[Claim]:
    return [
        Claim(
            sequence=3 + i // 4,
            place=7 * (i % 4),
            z=32 + 5 * i % 12,
            blinded=derived(WALLET, WORK.id, i).blinded,
            share_hash=named(f"share {i}"),
        )
        for i in range(count)
    ]


def cash_outs_of(count: int) -> list[CashOut]:
    return [CashOut(32 + i, derived(WALLET, WORK.id, 900 + i).blinded) for i in range(count)]


def node(of: Node) -> dict[str, Any]:
    return {"hash": of[0].hex(), "units": str(of[1][0])}


def trees() -> list[dict[str, Any]]:
    cases = []
    kinds = [(count, 0, 0) for count in (0, 1, 2, 3, 5, 8, 11)]
    kinds += [(3, 1, 0), (4, 2, 3), (1, 1, 0), (0, 0, 2)]
    for count, without, given in kinds:
        claims = claims_of(count)
        claims[:without] = [replace(claim, z=255) for claim in claims[:without]]
        cash_outs = cash_outs_of(given)
        leaves, root = claims_tree(claims, 32, cash_outs)
        paths = [proof(leaves, i) for i in range(len(leaves))]
        for i, path in enumerate(paths):
            assert walked(leaves[i], i, len(leaves), path) == root
        name = f"-{without}-without-token-{given}-of-residues" if without or given else ""
        cases.append(
            {
                "id": f"claims-{count}{name}",
                "inputs": {
                    "z0": 32,
                    "claims": [
                        {
                            "sequence": claim.sequence,
                            "place": claim.place,
                            "z": claim.z,
                            "B_": claim.blinded.hex(),
                            "share_hash": claim.share_hash.hex(),
                        }
                        for claim in claims
                    ],
                    "cash_outs": [{"z": each.z, "B_": each.blinded.hex()} for each in cash_outs],
                },
                "expected": {
                    "records": b"".join(claim.record() for claim in claims).hex(),
                    "cash_out_records": b"".join(each.record() for each in cash_outs).hex(),
                    "leaves": [each[0].hex() for each in leaves],
                    "root": root[0].hex(),
                    "work": str(root[1][0]),
                    "paths": [[node(each) for each in path] for path in paths],
                },
            }
        )
    return cases


def statement(count: int, **changes: Any) -> dict[str, Any]:
    claims = claims_of(count)
    _, root = claims_tree(claims, 32)
    tokens: dict[str, int] = {}
    for claim in claims:
        tokens[str(claim.z)] = tokens.get(str(claim.z), 0) + 1
    paid = {
        "id": 12,
        "reverses": None,
        "block": named("block that pays")[::-1].hex(),
        "height": 900_017,
        "coinbase": f"{named('coinbase of the block')[::-1].hex()}:0",
        "theta_sats": SUBSIDY,
        "fee_msat": 6_250_000_000,
        "carry_in_msat": 21,
        "work": 2 * root[1][0],
        "allocated_msat": 153_125_000_011,
    }
    fields: dict[str, Any] = {
        "format": "radpool-ecash-statement/1",
        "msp_key": MSP_KEY.hex(),
        "keyset": WORK.id.hex(),
        "number": WORK.number,
        "policy": "pool",
        "commitment": commitment_of("ecash.pool", named("salt of ecash.pool", 16)).hex(),
        "z0": 32,
        "epochs": [3],
        "state": "final",
        "price_num": 0,
        "price_den": 0,
        "settlements": [paid] if count else [],
        "theta_msat": paid["allocated_msat"] if count else 0,
        "work": root[1][0],
        "tokens": tokens,
        "claims": count,
        "root": root[0].hex(),
        "issued_msat": None,
        "carry_out_msat": None,
    }
    return {**fields, **changes}


def valued_statement() -> dict[str, Any]:
    """A keyset of tokens by value, with a share without token, and two tokens of residues."""
    unit = SUBSIDY * 2**112 // 2**79
    claims, cash_outs = claims_of(4), cash_outs_of(2)
    claims[0] = replace(claims[0], z=255)
    _, root = claims_tree(claims, 32, cash_outs)
    work = root[1][0]
    before, value = 7 * unit + 5, (work - 3) * unit * 114 // 100
    fields = statement(4)
    [paid] = fields["settlements"]
    del paid["work"]
    paid |= {"by": "value", "weight": str(work * unit), "weights": str(2 * work * unit)}
    tokens: dict[str, int] = {}
    for claim in claims[1:]:
        tokens[str(claim.z)] = tokens.get(str(claim.z), 0) + 1
    return fields | {
        "format": "radpool-ecash-statement/2",
        "work": work,
        "tokens": tokens,
        "root": root[0].hex(),
        "unit_value": str(unit),
        "value": str(value),
        "previous": Keyset(named("mint seed"), "work", 6, 32).id.hex(),
        "residue_in": str(before),
        "residue_out": str(before + value - work * unit),
        "cash_outs": {str(each.z): 1 for each in cash_outs},
    }


def statements() -> list[dict[str, Any]]:
    right = {
        "final": statement(5),
        "void": statement(0, state="void"),
        "expired": statement(
            5, state="expired", issued_msat=153_000_000_000, carry_out_msat=125_000_011
        ),
        "fixed": statement(5, policy="fixed", price_num=1_234_567, price_den=4_096),
        "by-value": valued_statement(),
    }
    cases: list[dict[str, Any]] = []
    for name, fields in right.items():
        document = signed_statement(SECRET, fields)
        cases.append(
            {
                "id": f"statement-{name}",
                "inputs": {"statement": fields, "msp_secret": SECRET.hex()},
                "expected": {
                    "document": document.decode(),
                    "statement_hash": statement_digest(fields).hex(),
                },
            }
        )
    document = signed_statement(SECRET, right["final"])
    altered = json.loads(document)
    altered["statement"]["theta_msat"] += 1
    unsigned = {**json.loads(document), "signature": "00" * 64}
    wrong = {
        "altered": canonical(altered),
        "signature": canonical(unsigned),
        "white-space": json.dumps(json.loads(document), sort_keys=True).encode(),
        "order-of-keys": document[:1] + swapped(document) + b"}",
        "newline": document + b"\n",
    }
    cases += [
        {
            "id": f"statement-refused-{name}",
            "inputs": {"document": text.decode(), "msp_key": MSP_KEY.hex()},
            "expected_error": "statement",
        }
        for name, text in wrong.items()
    ]
    return cases


def swapped(document: bytes) -> bytes:
    """Puts the statement before its signature."""
    whole = json.loads(document)
    signature, body = (canonical(whole[key]) for key in ("signature", "statement"))
    return b'"statement":' + body + b',"signature":' + signature


def windows() -> list[dict[str, Any]]:
    rows = slices()
    return [
        {
            "id": f"window-{epoch}-{difficulties}-{network}",
            "inputs": {
                "keysets": [row.to_json() for row in rows],
                "epoch": epoch,
                "window_difficulties": difficulties,
                "network_work": str(network << 32),
                "z0": 32,
            },
            "expected": {"numbers": window(rows, epoch, difficulties, network << 32, 32)},
        }
        for epoch in (3, 4, 5)
        for difficulties, network in ((1, 1), (1, 100), (2, 100), (8, 100), (3, 33))
    ]


def quiet_stories() -> list[MintStory]:
    """Stories in which no block is lost."""
    plain = MintStory("a-block-matures")
    plain.mine(3, 0, 4)
    plain.redeem(1, 0)
    plain.block("one", 1_000)
    plain.redeem(1, 0)
    plain.grow(2)
    plain.redeem(1, 0)
    plain.grow(2)
    plain.redeem(1, 0)
    plain.redeem(1, 1, 2)
    plain.expire()
    plain.mine(1)
    plain.redeem(1, 1)
    plain.block("two", 7)
    plain.grow(4)
    plain.redeem(2, 0)

    fees = MintStory("fees-and-thirds", fee_ppm=25_000, fee_fixed_msat=333)
    fees.mine(0, 0, 0)
    fees.block("one", 100)
    fees.grow(4)
    for token in range(3):
        fees.redeem(1, token)
    fees.expire()

    dust = MintStory("less-than-a-satoshi")
    dust.mine(0, 0, 0, 0)
    dust.block("one", 1)
    dust.grow(4)
    dust.redeem(1, 0)
    dust.redeem(1, 0, 1, 2, 3)
    dust.expire()

    empty = MintStory("a-block-that-nobody-worked-for")
    empty.block("one", 9)
    empty.grow(2)
    empty.mine(2)
    empty.block("two", 11)
    empty.grow(4)
    empty.redeem(2, 0)

    worthless = MintStory("a-block-without-value")
    worthless.mine(2)
    worthless.block("one", 0)
    worthless.grow(4)
    worthless.redeem(1, 0)
    worthless.mine(2, 1)
    worthless.block("two", 10)
    worthless.grow(4)
    worthless.redeem(1, 0)
    worthless.redeem(2, 0, 1)
    return [plain, fees, dust, empty, worthless]


def carried_story() -> MintStory:
    """What an expired keyset left is no price for one whose block pays nothing."""
    carried = MintStory("a-carry-is-no-price-by-itself")
    carried.mine(0, 0, 0)
    carried.block("one", 100)
    carried.grow(4)
    for token in range(3):
        carried.redeem(1, token)
    carried.expire()
    carried.mine(2)
    carried.block("two", 0)
    carried.grow(4)
    carried.redeem(2, 0)
    carried.mine(1)
    carried.block("three", 12)
    carried.grow(4)
    carried.redeem(2, 0)
    carried.redeem(3, 0)
    return carried


def reorg_stories() -> list[MintStory]:
    """Stories in which blocks leave the active chain, and come back."""
    early = MintStory("orphaned-before-it-paid")
    early.mine(3, 1)
    early.block("one", 1_000)
    early.orphan("one")
    early.redeem(1, 0)
    early.mine(2, 2)
    early.block("two", 500)
    early.grow(4)
    early.redeem(1, 0, 1)
    early.redeem(2, 0, 1)

    priced = MintStory("orphaned-after-it-paid")
    priced.mine(3, 1)
    priced.block("one", 1_000)
    priced.grow(2)
    priced.orphan("one")
    priced.mine(0)
    priced.block("two", 700)
    priced.grow(4)
    priced.redeem(1, 0, 1)
    priced.redeem(2, 0)

    back = MintStory("an-orphan-returns")
    back.mine(3)
    back.block("one", 1_000)
    back.grow(2)
    back.orphan("one")
    back.grow(1)
    back.revive("one")
    back.grow(2)
    back.redeem(1, 0)
    return [early, priced, back]


def advance_stories() -> list[MintStory]:
    """Stories in which sats are issued that the operator has to pay himself."""
    lost = MintStory("orphaned-after-an-advance", advance_cap_sats=400)
    lost.mine(3, 3)
    lost.block("one", 1_000)
    lost.grow(2)
    lost.redeem(1, 0, 1)
    lost.mine(4)
    lost.block("two", 600)
    lost.redeem(1, 0)
    lost.orphan("one")
    lost.grow(2)
    lost.redeem(1, 1)
    lost.grow(2)
    lost.redeem(1, 0)
    lost.redeem(2, 0)
    lost.expire()

    lent = MintStory("an-advance-and-its-loss", advance_cap_sats=600)
    lent.mine(3, 3)
    lent.block("one", 1_000)
    lent.grow(2)
    lent.redeem(1, 0)
    lent.redeem(1, 1)
    lent.orphan("one")
    lent.mine(4)
    lent.block("two", 600)
    lent.grow(4)
    lent.redeem(1, 1)
    lent.expire()
    return [lost, lent]


def stories() -> list[dict[str, Any]]:
    told = [*quiet_stories(), carried_story(), *reorg_stories(), *advance_stories()]
    return [story.case() for story in told]


write(
    "07-ecash-epochs.json",
    [
        "Page 07. Amounts of msat are integers; work of keysets is in units, as decimal text.",
        "A share's hash is in internal byte order; block hashes in statements are displayed.",
    ],
    {
        "allocations": pool_allocations() + network_allocations() + window_allocations(),
        "windows": windows(),
        "network_works": network_works(),
        "prices": prices(),
        "share_prices": share_prices(),
        "gates": gates(),
        "stories": stories(),
        "trees": trees(),
        "statements": statements(),
    },
)

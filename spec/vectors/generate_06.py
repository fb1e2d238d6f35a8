"""Writes `06-work-tokens.json`: keysets, blind signatures, proofs, residues and the claim rule."""

from __future__ import annotations

from typing import Any

from ecash import (
    BASE,
    Keyset,
    Signature,
    add,
    blinded,
    compressed,
    denominated,
    derived,
    dleq_challenge,
    exponents,
    hash_to_curve,
    is_proved,
    keyset_id,
    point,
    sign,
    times,
    unblinded,
)
from layout import named, write
from secp256k1 import ORDER

SEED = named("mint seed")
WALLET = named("wallet seed") + named("wallet seed, second half")
WORK = Keyset(SEED, "work", 7, 32)
NUT_POINT = "02a9acc1e48c25eeeb9289b5031cc57da9fe72f3fe2861d264bdc074209b107ba2"


def keysets() -> list[dict[str, Any]]:
    kept = {
        "work-mainnet": WORK,
        "work-next": Keyset(SEED, "work", 8, 32),
        "work-demo": Keyset(SEED, "work", 7, 8),
        "work-top-of-the-ladder": Keyset(SEED, "work", 9, 118),
        "work-one-key": Keyset(SEED, "work", 2**64 - 1, 120),
        "sat": Keyset(SEED, "sat", 0),
        "other-seed": Keyset(named("other mint seed"), "work", 7, 32),
    }
    return [
        {
            "id": f"keyset-{name}",
            "inputs": {
                "seed": keyset.seed.hex(),
                "unit": keyset.unit,
                "number": str(keyset.number),
                "z0": keyset.z0,
            },
            "expected": {
                "first_secret": keyset.secrets[0].to_bytes(32, "big").hex(),
                "keys": [
                    {"z": keyset.z0 + i, "amount": str(2**i), "A": key.hex()}
                    for i, key in enumerate(keyset.publics)
                ],
                "id": keyset.id.hex(),
                "keyset_short": keyset.short.hex(),
            },
        }
        for name, keyset in kept.items()
    ]


def keyset_ids() -> list[dict[str, Any]]:
    """Ids of keysets with other terms; the first is NUT-02's own vector 1."""
    nut = [
        (1, "03a40f20667ed53513075dc51e715ff2046cad64eb68960632269ba7f0210e38bc"),
        (2, "03fd4ce5a16b65576145949e6f99f445f8249fee17c606b688b504a849cdc452de"),
        (4, "02648eccfa4c026960966276fa5a4cae46ce0fd432211a4f449bf84f13aa5f8303"),
        (8, "02fdfd6796bfeac490cbee12f778f867f0a2c68f6508d17c649759ea0dc3547528"),
    ]
    cases: list[tuple[str, str, int, int]] = [
        ("nut-02-vector-1", "sat", 100, 2_059_210_353),
        ("without-fee", "sat", 0, 2_059_210_353),
        ("without-expiry", "sat", 100, 0),
        ("bare", "sat", 0, 0),
        ("work", "work", 0, 0),
    ]
    rows = []
    for name, unit, fee, expiry in cases:
        keys = [(amount, bytes.fromhex(key)) for amount, key in nut]
        rows.append(
            {
                "id": f"id-{name}",
                "inputs": {
                    "unit": unit,
                    "input_fee_ppk": fee,
                    "final_expiry": expiry or None,
                    "keys": [{"amount": amount, "A": key} for amount, key in nut],
                },
                "expected": {"id": keyset_id(keys, unit, fee, expiry).hex()},
            }
        )
    first = "015ba18a8adcd02e715a58358eb618da4a4b3791151a4bee5e968bb88406ccf76a"
    assert rows[0]["expected"] == {"id": first}, "NUT-02 says otherwise"
    return rows


def curve_points() -> list[dict[str, Any]]:
    """The first three are NUT-00's own."""
    messages = {
        "nut-00-0": bytes(32),
        "nut-00-1": bytes(31) + b"\x01",
        "nut-00-2": bytes(31) + b"\x02",
        "empty": b"",
        "text": b"secret",
        "hex-secret": named("a secret").hex().encode(),
        "long": named("long") * 32,
    }
    cases = [
        {
            "id": f"point-{name}",
            "inputs": {"message": message.hex()},
            "expected": {"Y": compressed(hash_to_curve(message)).hex()},
        }
        for name, message in messages.items()
    ]
    known = [
        "024cce997d3b518f739663b757deaec95bcd9473c30a14ac2fd04023a739d1a725",
        "022e7158e11c9506f1aa4248bf531298daa7febd6194f003edcd9b93ade6253acf",
        "026cdbe15362df59cd1dd3c9c11de8aedac2106eca69236ecd9fbe117af897be4f",
    ]
    assert [case["expected"]["Y"] for case in cases[:3]] == known, "NUT-00 says otherwise"
    return cases


def token(name: str, keyset: Keyset, z: int, counter: int) -> dict[str, Any]:
    made = derived(WALLET, keyset.id, counter)
    signed = keyset.sign(z, made.blinded)
    public = keyset.public(z)
    assert is_proved(public, made.blinded, signed)
    whole = unblinded(signed.c, made.factor, public)
    key = keyset.secrets[z - keyset.z0]
    assert whole == compressed(times(key, hash_to_curve(made.secret.encode())))
    return {
        "id": f"token-{name}",
        "inputs": {
            "seed": keyset.seed.hex(),
            "unit": keyset.unit,
            "number": str(keyset.number),
            "z0": keyset.z0,
            "z": z,
            "secret": made.secret,
            "r": made.factor.to_bytes(32, "big").hex(),
        },
        "expected": {
            "Y": compressed(hash_to_curve(made.secret.encode())).hex(),
            "B_": made.blinded.hex(),
            "A": public.hex(),
            "C_": signed.c.hex(),
            "e": signed.e.hex(),
            "s": signed.s.hex(),
            "C": whole.hex(),
        },
    }


def tokens() -> list[dict[str, Any]]:
    return [
        token("of-one-unit", WORK, 32, 0),
        token("of-1024-units", WORK, 42, 1),
        token("of-the-largest-amount", WORK, 95, 2),
        token("of-sats", Keyset(SEED, "sat", 0), 10, 3),
        token("at-the-top-of-the-ladder", Keyset(SEED, "work", 9, 118), 120, 4),
    ]


def dleq_case(name: str, public: bytes, message: bytes, made: Signature) -> dict[str, Any]:
    case: dict[str, Any] = {
        "id": f"dleq-{name}",
        "inputs": {
            "A": public.hex(),
            "B_": message.hex(),
            "C_": made.c.hex(),
            "e": made.e.hex(),
            "s": made.s.hex(),
        },
    }
    if is_proved(public, message, made):
        case["expected"] = {"valid": True}
    else:
        case["expected_error"] = "dleq"
    return case


def proofs() -> list[dict[str, Any]]:
    """Two of NUT-12's own, then one wrong in each way."""
    message = bytes.fromhex(NUT_POINT)
    two = compressed(times(2, BASE))
    nut = sign(2, message)
    assert nut.e.hex() == "2a16ffee280aff3c429045607f9b8e0bf8b35910c44c1b20b9dfaf01b263d7b3"
    assert nut.s.hex() == "9df27731238334718d120d4f74611a7c668233f988e687ac3fb188f0a34a2dab"
    old = Signature(
        message,
        bytes.fromhex("9818e061ee51d5c8edc3342369a554998ff7b4381c8652d724cdf46429be73d9"),
        bytes.fromhex("9818e061ee51d5c8edc3342369a554998ff7b4381c8652d724cdf46429be73da"),
    )
    usual = derived(WALLET, WORK.id, 0).blinded
    right, other = WORK.sign(32, usual), WORK.sign(33, usual)
    key = WORK.public(32)
    s = int.from_bytes(right.s, "big")
    cases = [
        dleq_case("nut-12-deterministic", two, message, nut),
        dleq_case("nut-12-blind-signature", compressed(BASE), message, old),
        dleq_case("usual", key, usual, right),
        dleq_case("other-key", WORK.public(33), usual, right),
        dleq_case("signed-by-other-key", key, usual, other),
        dleq_case("other-message", key, derived(WALLET, WORK.id, 1).blinded, right),
        dleq_case("other-signature", key, usual, Signature(other.c, right.e, right.s)),
        dleq_case("e-altered", key, usual, Signature(right.c, other.e, right.s)),
        dleq_case("s-altered", key, usual, Signature(right.c, right.e, other.s)),
        dleq_case("e-and-s-zero", key, usual, Signature(right.c, bytes(32), bytes(32))),
        dleq_case("s-negated", key, usual, replaced(right, ORDER - s)),
    ]
    assert [("expected" in case) for case in cases] == [True] * 3 + [False] * 8
    overflow = dleq_case("usual", key, usual, right)["inputs"]
    cases += [
        {
            "id": f"dleq-{name}",
            "inputs": {**overflow, **changes},
            "expected_error": "dleq",
        }
        for name, changes in {
            "missing": {"e": "", "s": ""},
            "without-s": {"s": ""},
            "e-of-31-bytes": {"e": right.e.hex()[:-2]},
            "s-is-the-order": {"s": ORDER.to_bytes(32, "big").hex()},
            "signature-off-the-curve": {"C_": "02" + "00" * 32},
            "signature-of-32-bytes": {"C_": right.c.hex()[2:]},
        }.items()
    ]
    return cases


def replaced(made: Signature, s: int) -> Signature:
    return Signature(made.c, made.e, s.to_bytes(32, "big"))


def carol_proofs() -> list[dict[str, Any]]:
    """What the receiver of a token checks: (A, secret, C, e, s, r); the first is NUT-12's own."""
    nut = {
        "A": compressed(BASE).hex(),
        "secret": "daf4dd00a2b68a0858a80450f52c8a7d2ccf87d375e43e216e0c571f089f63e9",
        "C": "024369d2d22a80ecf78f3937da9d5f30c1b9f74f0c32684d583cca0fa6a61cdcfc",
        "e": "b31e58ac6527f34975ffab13e70a48b6d2b0d35abc4b03f0151f09ee1a9763d4",
        "s": "8fbae004c59e754d71df67e392b6ae4e29293113ddc2ec86592a0431d16306d8",
        "r": "a6d13fcd7a18442e6076f5e1e7c887ad5de40a019824bdfa9fe740d302e8d861",
    }
    other = {**nut, "r": nut["r"][:-1] + "2"}
    cases = []
    for name, inputs in {"nut-12-proof": nut, "other-r": other}.items():
        public, factor = point(bytes.fromhex(inputs["A"])), int(inputs["r"], 16)
        message = blinded(inputs["secret"], factor)
        signed = compressed(add(point(bytes.fromhex(inputs["C"])), times(factor, public)))
        made = Signature(signed, bytes.fromhex(inputs["e"]), bytes.fromhex(inputs["s"]))
        valid = is_proved(bytes.fromhex(inputs["A"]), message, made)
        assert valid == (name == "nut-12-proof")
        outcome = {"expected": {"valid": True}} if valid else {"expected_error": "dleq"}
        cases.append({"id": f"carol-{name}", "inputs": inputs, **outcome})
    return cases


def challenges() -> list[dict[str, Any]]:
    """NUT-12's own vector of its hash."""
    one = "020000000000000000000000000000000000000000000000000000000000000001"
    points = [one, one, one, NUT_POINT]
    digest = dleq_challenge(*(point(bytes.fromhex(each)) for each in points))
    known = "a4dc034b74338c28c6bc3ea49731f2a24440fc7c4affc08b31a93fc9fbe6401e"
    assert digest.hex() == known, "NUT-12 says otherwise"
    return [
        {
            "id": "challenge-nut-12",
            "inputs": {"points": points},
            "expected": {"e": digest.hex()},
        }
    ]


def residues() -> list[dict[str, Any]]:
    kept: dict[str, tuple[int, int, int]] = {
        "one-share": (0, 2**40, 32),
        "least-share": (0, 2**32, 32),
        "value-above-the-work": (0, 2**40 + 2**39, 32),
        "value-below-the-work": (0, 2**40 - 1, 32),
        "two-make-one": (2**39, 2**39, 32),
        "nothing-yet": (0, 2**32 - 1, 32),
        "still-nothing": (2**31, 2**31 - 1, 32),
        "just-enough": (2**31, 2**31, 32),
        "no-value": (2**31, 0, 32),
        "residue-pays-without-value": (2**33, 0, 32),
        "z0-of-0": (0, 1, 0),
        "nothing-at-all": (0, 0, 0),
        "largest-key": (0, 2**95, 32),
        "above-the-largest-key": (0, 2**96, 32),
        "two-above-the-largest-key": (2**95 - 1, 2**97, 32),
        "top-of-the-ladder": (2**120 - 1, 2**120, 118),
    }
    rules = {name: (*numbers, 2 ** numbers[2]) for name, numbers in kept.items()}
    # A unit of 2^32 hashes of the subsidy of 312,500,000 sats at a difficulty of 2^79 hashes.
    unit = 312_500_000 * 2**112 // 2**79
    rules |= {
        "value-subsidy-alone": (0, unit << 8, 32, unit),
        "value-fees-of-14-percent": (0, (unit * 114 // 100) << 8, 32, unit),
        "value-one-short-of-double": (0, (unit << 9) - 1, 32, unit),
        "value-residue-makes-it-double": (1, (unit << 9) - 1, 32, unit),
        "value-below-a-unit": (5, unit - 6, 32, unit),
        "value-makes-a-unit": (5, unit - 5, 32, unit),
        "value-of-a-harder-share-before": ((unit << 40) - 1, unit << 2, 32, unit),
        "value-of-nothing": (unit - 1, 0, 32, unit),
        "value-unit-of-1": (0, 2**64, 0, 1),
        "value-largest-sum": (2**127, 2**127 - 1, 0, 2**127),
        "value-unit-beyond-all": (0, 2**128 - 1, 0, 2**128 - 1),
    }
    cases = []
    for name, (residue, value, z0, unit_value) in rules.items():
        z, left = denominated(residue, value, z0, unit_value)
        assert left + (0 if z is None else unit_value << z - z0) == residue + value
        cases.append(
            {
                "id": f"residue-{name}",
                "inputs": {
                    "residue": str(residue),
                    "value": str(value),
                    "z0": z0,
                    "unit_value": str(unit_value),
                },
                "expected": {"z": z, "residue": str(left)},
            }
        )
    return cases


def denominations() -> list[dict[str, Any]]:
    return [
        {
            "id": f"denominations-{z0}",
            "inputs": {"z0": z0},
            "expected": {"first": exponents(z0)[0], "last": exponents(z0)[-1]},
        }
        for z0 in (0, 8, 32, 57, 58, 119, 120)
    ]


OPEN, CLOSED, FROZEN, LATE = "open", "closed", "frozen", "closed-after-grace"


def claim_rule() -> list[dict[str, Any]]:
    """Who may name which keyset; `height` is None but for the policy `network`."""
    cases = []

    def case(name: str, share: dict[str, Any], keyset: dict[str, Any], error: str | None) -> None:
        outcome: dict[str, Any] = (
            {"expected_error": error} if error else {"expected": {"number": 5}}
        )
        known = {"number": 5, "policy": 1, "epoch": 3, "height": None, "state": OPEN, **keyset}
        asked = {"policy": 1, "epoch": 3, "height": 900_000, "names": 5, **share}
        cases.append({"id": f"rule-{name}", "inputs": {"share": asked, "keyset": known}, **outcome})

    case("open", {}, {}, None)
    case("open-of-a-later-epoch", {"epoch": 2}, {}, None)
    case("open-of-an-earlier-epoch", {"epoch": 4}, {}, "stale-keyset")
    case("closed", {}, {"state": CLOSED}, None)
    case("closed-of-a-later-epoch", {"epoch": 2}, {"state": CLOSED}, "stale-keyset")
    case("closed-of-an-earlier-epoch", {"epoch": 4}, {"state": CLOSED}, "stale-keyset")
    case("after-grace", {}, {"state": LATE}, "stale-keyset")
    case("frozen", {}, {"state": FROZEN}, "stale-keyset")
    case("unknown", {"names": 6}, {}, "unknown-keyset")
    case("other-policy", {"policy": 2}, {}, "unknown-keyset")
    network = {"policy": 0}
    at = {"policy": 0, "height": 900_000}
    case("network-open", network, at, None)
    case("network-open-of-a-later-height", network, {**at, "height": 900_001}, None)
    case("network-open-of-an-earlier-height", network, {**at, "height": 899_999}, "stale-keyset")
    case("network-closed", network, {**at, "state": CLOSED}, None)
    late = {**at, "height": 900_001, "state": CLOSED}
    case("network-closed-of-a-later-height", network, late, "stale-keyset")
    return cases


write(
    "06-work-tokens.json",
    [
        "Page 06. Secrets and scalars are 32 bytes, most significant first; points are compressed.",
        "Cases named nut-NN are the NUTs' own vectors: github.com/cashubtc/nuts, tests/, at",
        "3ddb1ae767b50859a0f346947479451027404dae, MIT licence.",
    ],
    {
        "keysets": keysets(),
        "keyset_ids": keyset_ids(),
        "denominations": denominations(),
        "curve_points": curve_points(),
        "tokens": tokens(),
        "challenges": challenges(),
        "proofs": proofs(),
        "carol_proofs": carol_proofs(),
        "residues": residues(),
        "claim_rule": claim_rule(),
    },
)

"""Writes `08-wallet-recovery.json`: seeds, secrets, scans, claim keys, and what is refused."""

from __future__ import annotations

import hmac
from hashlib import pbkdf2_hmac
from typing import Any
from unicodedata import normalize

from ecash import Keyset, derived, unblinded
from layout import named, write
from secp256k1 import ORDER, multiply, public_key, sign, tagged_hash

NUT_WORDS = "half depart obvious quality work element tank gorilla view sugar picture humble"
NUT_KEYSET = "015ba18a8adcd02e715a58358eb618da4a4b3791151a4bee5e968bb88406ccf76a"
NUT_SECRETS = [
    "db5561a07a6e6490f8dadeef5be4e92f7cebaecf2f245356b5b2a4ec40687298",
    "b70e7b10683da3bf1cdf0411206f8180c463faa16014663f39f2529b2fda922e",
    "78a7ac32ccecc6b83311c6081b89d84bb4128f5a0d0c5e1af081f301c7a513f5",
    "094a2b6c63bfa7970bc09cda0e1cfc9cd3d7c619b8e98fabcfc60aea9e4963e5",
    "5e89fc5d30d0bf307ddf0a3ac34aa7a8ee3702169dafa3d3fe1d0cae70ecd5ef",
]
NUT_FACTORS = [
    "6d26181a3695e32e9f88b80f039ba1ae2ab5a200ad4ce9dbc72c6d3769f2b035",
    "bde4354cee75545bea1a2eee035a34f2d524cee2bb01613823636e998386952e",
    "f40cc1218f085b395c8e1e5aaa25dccc851be3c6c7526a0f4e57108f12d6dac4",
    "099ed70fc2f7ac769bc20b2a75cb662e80779827b7cc358981318643030577d0",
    "5550337312d223ba62e3f75cfe2ab70477b046d98e3e71804eade3956c7b98cf",
]
TWELVE = "abandon " * 11 + "about"
TWENTY_FOUR = "abandon " * 23 + "art"
SEED = named("mint seed")
BATCH = 100
GAP = 3
WORK = Keyset(SEED, "work", 7, 32)


def seed_of(words: str) -> bytes:
    """Stretches words as BIP39 does, without a passphrase."""
    return pbkdf2_hmac("sha512", normalize("NFKD", words).encode(), b"mnemonic", 2048)


def seeds() -> list[dict[str, Any]]:
    return [
        {
            "id": f"seed-{name}",
            "inputs": {"words": words},
            "expected": {"seed": seed_of(words).hex()},
        }
        for name, words in {
            "nut-13": NUT_WORDS,
            "twelve": TWELVE,
            "twenty-four": TWENTY_FOUR,
        }.items()
    ]


def outputs() -> list[dict[str, Any]]:
    """Derived outputs; the first five are NUT-13's own."""
    seed = seed_of(NUT_WORDS)
    places = [("nut-13", NUT_KEYSET, counter) for counter in range(5)]
    places += [("work", WORK.id.hex(), counter) for counter in (0, 1, 255, 256, 2**32, 2**64 - 2)]
    places.append(("sat", Keyset(SEED, "sat", 0).id.hex(), 0))
    cases = []
    for name, keyset, counter in places:
        made = derived(seed, bytes.fromhex(keyset), counter)
        cases.append(
            {
                "id": f"output-{name}-{counter}",
                "inputs": {"seed": seed.hex(), "keyset_id": keyset, "counter": str(counter)},
                "expected": {
                    "secret": made.secret,
                    "r": made.factor.to_bytes(32, "big").hex(),
                    "B_": made.blinded.hex(),
                },
            }
        )
    own = [case["expected"] for case in cases[:5]]
    assert [row["secret"] for row in own] == NUT_SECRETS, "NUT-13 says otherwise"
    assert [row["r"] for row in own] == NUT_FACTORS, "NUT-13 says otherwise"
    return cases


def receipts() -> list[dict[str, Any]]:
    """What a wallet takes as a token, and what it takes for a fault of the mint."""
    seed = seed_of(NUT_WORDS)
    made, other = derived(seed, WORK.id, 0), derived(seed, WORK.id, 1)
    right, weaker = WORK.sign(40, made.blinded), WORK.sign(35, made.blinded)
    foreign = WORK.sign(40, other.blinded)
    rows: dict[str, tuple[int, bytes, bytes, bytes, bool]] = {
        "right": (40, right.c, right.e, right.s, True),
        "without-proof": (40, right.c, b"", b"", False),
        "without-s": (40, right.c, right.e, b"", False),
        "key-of-a-smaller-amount": (40, weaker.c, weaker.e, weaker.s, False),
        "smaller-amount-told": (35, right.c, right.e, right.s, False),
        "of-another-claim": (40, foreign.c, foreign.e, foreign.s, False),
        "proof-of-another-signature": (40, right.c, weaker.e, weaker.s, False),
        "amount-without-key": (96, right.c, right.e, right.s, False),
    }
    cases: list[dict[str, Any]] = []
    for name, (z, c, e, s, good) in rows.items():
        outcome: dict[str, Any] = {"expected_error": "dleq"}
        if good:
            token = unblinded(c, made.factor, WORK.public(z))
            outcome = {"expected": {"C": token.hex(), "amount": str(2 ** (z - 32))}}
        public = WORK.public(z).hex() if z <= 95 else None
        cases.append(
            {
                "id": f"receipt-{name}",
                "inputs": {
                    "seed": seed.hex(),
                    "keyset_id": WORK.id.hex(),
                    "counter": 0,
                    "z": z,
                    "A": public,
                    "C_": c.hex(),
                    "e": e.hex(),
                    "s": s.hex(),
                },
                **outcome,
            }
        )
    return cases


def scan(known: set[int]) -> tuple[list[int], int, int]:
    """Asks for batches until three in a row are unknown; returns found, next counter, requests."""
    found: list[int] = []
    start = empty = requests = 0
    while empty < GAP:
        batch = [counter for counter in range(start, start + BATCH) if counter in known]
        found += batch
        start, requests = start + BATCH, requests + 1
        empty = 0 if batch else empty + 1
    return found, max(found, default=-1) + 1, requests


def scans() -> list[dict[str, Any]]:
    kept = {
        "never-used": set[int](),
        "one": {0},
        "one-batch": set(range(100)),
        "one-more-than-a-batch": set(range(101)),
        "gap-of-two-batches": {0, 299},
        "gap-just-not-too-long": {99, 399},
        "gap-too-long": {99, 400},
        "sparse": {7, 250, 480, 777},
    }
    cases = []
    for name, known in kept.items():
        found, following, requests = scan(known)
        cases.append(
            {
                "id": f"scan-{name}",
                "inputs": {"known": sorted(known), "batch": BATCH, "gap": GAP},
                "expected": {"found": found, "next_counter": following, "requests": requests},
            }
        )
    return cases


def claim_secret(seed: bytes, counter: int) -> bytes:
    """Derives the secret of a claim key whose point has an even y."""
    digest = hmac.digest(seed, b"radpool/claim-key" + counter.to_bytes(8, "big"), "sha256")
    scalar = int.from_bytes(digest, "big") % ORDER
    if multiply(scalar)[1] % 2:
        scalar = ORDER - scalar
    return scalar.to_bytes(32, "big")


def claim_point(secret: bytes) -> bytes:
    return b"\x02" + public_key(secret)


def claim_keys() -> list[dict[str, Any]]:
    cases = []
    for name, words in {"nut-13": NUT_WORDS, "twenty-four": TWENTY_FOUR}.items():
        for counter in (0, 1, 2, 3, 19, 255, 256, 2**64 - 1):
            secret = claim_secret(seed_of(words), counter)
            cases.append(
                {
                    "id": f"claim-key-{name}-{counter}",
                    "inputs": {"seed": seed_of(words).hex(), "counter": str(counter)},
                    "expected": {"secret": secret.hex(), "claim_key": claim_point(secret).hex()},
                }
            )
    return cases


def cash_outs() -> list[dict[str, Any]]:
    """What a claim key signs; the auxiliary randomness of BIP340 is zeros here."""
    seed = seed_of(NUT_WORDS)
    cases = []
    for name, amounts in {"one": [1], "thirteen": [1, 4, 8], "large": [1 << 62, 1 << 63]}.items():
        secret = claim_secret(seed, 0)
        key = claim_point(secret)
        made = [derived(seed, WORK.id, counter).blinded for counter in range(len(amounts))]
        parts = [
            amount.to_bytes(8, "little") + blinded
            for amount, blinded in zip(amounts, made, strict=True)
        ]
        digest = tagged_hash("radpool/cash-out", key, WORK.id, *parts)
        outputs = [
            {"amount": str(amount), "B_": blinded.hex()}
            for amount, blinded in zip(amounts, made, strict=True)
        ]
        cases.append(
            {
                "id": f"cash-out-{name}",
                "inputs": {
                    "seed": seed.hex(),
                    "counter": "0",
                    "keyset_id": WORK.id.hex(),
                    "outputs": outputs,
                },
                "expected": {
                    "claim_key": key.hex(),
                    "digest": digest.hex(),
                    "signature": sign(secret, digest).hex(),
                },
            }
        )
    return cases


def judged(unit_value: int | None, shares: list[tuple[int, int]]) -> list[bool]:
    """Says of each share, of so many units of work and of token, whether it is unsigned."""
    work = tokens = 0
    unsigned = []
    for worth, token in shares:
        if not unit_value:
            unsigned.append(token < worth)
            continue
        bad = 2 * (tokens + token + max(token, 1)) <= work + worth
        unsigned.append(bad)
        if not bad:
            work, tokens = work + worth, tokens + token
    return unsigned


def answers() -> list[dict[str, Any]]:
    series: dict[str, tuple[int | None, list[tuple[int, int]]]] = {
        "by-work": (0, [(4, 4), (4, 8), (4, 2), (1, 0)]),
        "unknown": (None, [(4, 4), (4, 8), (4, 2), (1, 0)]),
        "at-the-subsidy": (1000, [(4, 4), (1, 1), (8, 8), (2, 2)]),
        "above": (1000, [(4, 4), (4, 4), (4, 8), (1, 1), (1, 4)]),
        "three-quarters": (1000, [(4, 2), (4, 4), (4, 2), (4, 4)]),
        "half": (1000, [(4, 2), (4, 2), (4, 2), (4, 2)]),
        "quarter": (1000, [(4, 1), (4, 1), (4, 1)]),
        "left-over": (1000, [(1, 1), (1, 0), (1, 0), (1, 0), (1, 0)]),
        "harder-share": (1000, [(64, 32), (1, 16), (1, 8), (1, 0)]),
    }
    return [
        {
            "id": f"answer-{name}",
            "inputs": {
                "unit_value": None if unit_value is None else str(unit_value),
                "shares": [{"work": work, "token": token} for work, token in shares],
            },
            "expected": {"unsigned": judged(unit_value, shares)},
        }
        for name, (unit_value, shares) in series.items()
    ]


write(
    "08-wallet-recovery.json",
    [
        "Page 08. Scalars are 32 bytes, most significant first. Cases named nut-13 are NUT-13's:",
        "github.com/cashubtc/nuts, tests/13-tests.md, at 3ddb1ae767b50859a0f346947479451027404dae,",
        "MIT licence.",
    ],
    {
        "seeds": seeds(),
        "outputs": outputs(),
        "receipts": receipts(),
        "scans": scans(),
        "claim_keys": claim_keys(),
        "cash_outs": cash_outs(),
        "answers": answers(),
    },
)

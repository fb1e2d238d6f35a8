"""Writes the vectors of page 17: outputs with their scripts, and payouts."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from layout import write as write_vectors
from secp256k1 import ORDER, multiply, public_key, sign, tagged_hash
from taproot import (
    key_path_hash,
    leaf_hash,
    outputs,
    recovery,
    root_of,
    spending,
    tweak,
)


def secret(name: str) -> bytes:
    return sha256(f"page 17 {name}".encode()).digest()


def keys(name: str, count: int) -> list[bytes]:
    return sorted(public_key(secret(f"{name} {number}")) for number in range(count))


def tweaked_secret(internal: bytes, root: bytes) -> bytes:
    """The secret of an output key, which no member of a federation has."""
    number = int.from_bytes(internal, "big")
    x, y = multiply(number)
    if y % 2:
        number = ORDER - number
    factor = int.from_bytes(tagged_hash("TapTweak", x.to_bytes(32, "big"), root), "big")
    return ((number + factor) % ORDER).to_bytes(32, "big")


TREASURY = secret("treasury")

SHAPES: list[tuple[str, int, int, tuple[int, int], int, int]] = [
    # name, members, t, blocks, threshold and size of the recovery set
    ("one-member", 1, 0, (1, 2), 0, 0),
    ("four-members", 4, 1, (1_008, 4_320), 0, 0),
    ("sixteen-members", 16, 5, (1_008, 4_320), 0, 0),
    ("recovery-set", 4, 1, (1_008, 4_320), 2, 3),
    ("many-members", 64, 21, (16, 17), 1, 1),
    ("longest-times", 7, 2, (32_768, 65_535), 3, 5),
]


def inputs_of(shape: tuple[str, int, int, tuple[int, int], int, int]) -> dict[str, Any]:
    _, n, faulty, blocks, threshold, others = shape
    return {
        "key": public_key(TREASURY).hex(),
        "members": [key.hex() for key in keys("member", n)],
        "faulty_max": faulty,
        "recovery_blocks": list(blocks),
        "recovery": {
            "threshold": threshold,
            "keys": [key.hex() for key in keys("other", others)],
        }
        if others
        else None,
    }


def output_of(shape: tuple[str, int, int, tuple[int, int], int, int]) -> dict[str, Any]:
    _, n, faulty, blocks, threshold, others = shape
    scripts = [recovery(blocks[0], faulty + 1, keys("member", n))]
    if others:
        scripts.append(recovery(blocks[1], threshold, keys("other", others)))
    leaves = [leaf_hash(script) for script in scripts]
    root, internal = root_of(leaves), public_key(TREASURY)
    output_key, odd = tweak(internal, root)
    return {
        "scripts": [script.hex() for script in scripts],
        "leaves": [leaf.hex() for leaf in leaves],
        "merkle_root": root.hex(),
        "output_key": output_key.hex(),
        "script": (b"\x51\x20" + output_key).hex(),
        "control_blocks": [
            (
                bytes([0xC0 + odd])
                + internal
                + b"".join(other for other in leaves if other != leaf)
            ).hex()
            for leaf in leaves
        ],
    }


def made_outputs() -> list[dict[str, Any]]:
    return [
        {"id": f"output-{shape[0]}", "inputs": inputs_of(shape), "expected": output_of(shape)}
        for shape in SHAPES
    ]


def refused_outputs() -> list[dict[str, Any]]:
    whole = inputs_of(SHAPES[1])
    changes: list[tuple[str, dict[str, Any], str]] = [
        ("no-time", {"recovery_blocks": [0, 1]}, "blocks"),
        ("same-times", {"recovery_blocks": [1_008, 1_008]}, "order"),
        ("swapped-times", {"recovery_blocks": [4_320, 1_008]}, "order"),
        ("all-faulty", {"faulty_max": 4}, "threshold"),
        ("no-members", {"members": []}, "threshold"),
        ("no-key", {"key": "ff" * 32}, "key"),
        ("no-member-key", {"members": ["ff" * 32, whole["members"][0]]}, "key"),
        ("recovery-of-none", {"recovery": {"threshold": 1, "keys": []}}, "threshold"),
        (
            "recovery-by-none",
            {"recovery": {"threshold": 0, "keys": whole["members"]}},
            "threshold",
        ),
    ]
    return [
        {"id": f"refused-{name}", "inputs": whole | change, "expected_error": error}
        for name, change, error in changes
    ]


def payouts() -> list[dict[str, Any]]:
    cases = []
    for name, shape, count, rate in (
        ("one-part", SHAPES[0], 1, 1),
        ("four-parts", SHAPES[1], 4, 20),
        ("tree-of-two", SHAPES[3], 2, 0),
        ("many-parts", SHAPES[4], 64, 3),
    ):
        txid, vout, value = secret(f"{name} block"), count % 3, 312_500_000 + count
        scripts = [b"\x51\x20" + key for key in keys(name, count)]
        if count > 1:
            scripts[1] = b"\x00\x14" + secret(name)[:20]
        # Weight: four times all but mark and witness, and those.
        bare = 4 + 1 + 41 + len(outputs([(script, 0) for script in scripts])) + 4
        weight = 4 * bare + 2 + 1 + 1 + 64
        fee = -(-weight // 4) * rate
        each = (value - fee) // count
        parts = [(script, each) for script in scripts]
        parts[0] = parts[0][0], value - fee - each * (count - 1)
        made = output_of(shape)
        sighash = key_path_hash((txid, vout), value, bytes.fromhex(made["script"]), parts)
        root = bytes.fromhex(made["merkle_root"])
        signature = sign(tweaked_secret(TREASURY, root), sighash)
        unsigned = spending((txid, vout), parts)
        cases.append(
            {
                "id": f"payout-{name}",
                "inputs": {
                    "output": inputs_of(shape),
                    "txid": txid.hex(),
                    "vout": vout,
                    "value": value,
                    "sats_per_vb": rate,
                    "parts": [[script.hex(), sats] for script, sats in parts],
                    "signature": signature.hex(),
                },
                "expected": {
                    "fee": fee,
                    "transaction": unsigned.hex(),
                    "txid": sha256(sha256(unsigned).digest()).hexdigest(),
                    "sighash": sighash.hex(),
                    "merkle_root": made["merkle_root"],
                    "signed": spending((txid, vout), parts, b"\x01\x40" + signature).hex(),
                },
            }
        )
    return cases


write_vectors(
    "17-federation-coinbase.json",
    ["Page 17. The treasury's secret is known here. Ids of transactions are in internal order."],
    {
        "outputs": made_outputs(),
        "refused_outputs": refused_outputs(),
        "payouts": payouts(),
    },
)

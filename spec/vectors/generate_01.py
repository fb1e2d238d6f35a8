"""Writes `01-conventions.json`: hashes, tags, the ladder and compact targets."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from layout import le, named, sha256d, write
from secp256k1 import tagged_hash

TAGS = [
    "radpool/account",
    "radpool/owner",
    "radpool/template",
    "radpool/leaf",
    "radpool/node",
    "radpool/batch",
    "radpool/epoch",
    "radpool/tie",
    "radpool/receipt",
    "radpool/receipts",
    "radpool/keyset",
    "radpool/epoch-update",
    "radpool/claim",
    "radpool/statement",
    "radpool/redemption",
    "radpool/leaf/2",
    "radpool/node/2",
    "radpool/declaration",
    "radpool/hidden",
    "radpool/challenge",
    "radpool/owner-registration",
    "radpool/owner-share",
    "radpool/owner-receipt",
    "radpool/cash-out",
    "radpool/claim-key",
    "radpool/federation-committee",
    "radpool/federation-member",
    "radpool/federation-entry",
    "radpool/federation-payload",
    "radpool/federation-echo",
    "radpool/federation-cut",
    "radpool/federation-turn",
    "radpool/federation-proposal",
    "radpool/federation-vote",
    "radpool/federation-state",
    "radpool/federation-root",
    "radpool/federation-rules",
    "radpool/federation-leaf",
    "radpool/federation-node",
    "radpool/federation-head",
    "radpool/federation-books",
    "radpool/federation-lot",
    "radpool/dkg-run",
    "radpool/dkg-identifier",
    "radpool/dkg-deal",
    "radpool/dkg-deals",
    "radpool/dkg-shares",
    "radpool/dkg-transcript",
    "radpool/dkg-certificate",
    "radpool/key-storage",
    "radpool/signing-id",
    "radpool/signing-session",
    "radpool/signing-checkpoint",
    "radpool/signing-order",
    "radpool/signing-share",
]

GENESIS = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e"
    "67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
)


def tagged_hashes() -> list[dict[str, Any]]:
    messages = {"empty": b"", "abc": b"abc", "block": named("message") * 2}
    return [
        {
            "id": f"{tag.replace('/', '-')}-{name}",
            "inputs": {"tag": tag, "message": message.hex()},
            "expected": {
                "tag_hash": sha256(tag.encode()).hexdigest(),
                "hash": tagged_hash(tag, message).hex(),
            },
        }
        for tag in TAGS
        for name, message in messages.items()
    ]


def double_hashes() -> list[dict[str, Any]]:
    messages = {"nothing": b"", "genesis-header": GENESIS, "long": named("long") * 5}
    return [
        {
            "id": f"double-{name}",
            "inputs": {"message": message.hex()},
            "expected": {
                "internal": sha256d(message).hex(),
                "displayed": sha256d(message)[::-1].hex(),
            },
        }
        for name, message in messages.items()
    ]


def ladder() -> list[dict[str, Any]]:
    steps = [
        {
            "id": f"step-{z}",
            "inputs": {"exponent": z},
            "expected": {"target": f"{2 ** (256 - z) - 1:064x}", "work": str(2**z)},
        }
        for z in [0, 1, 7, 8, 9, 32, 63, 64, 65, 79, 119, 120]
    ]
    beyond = [
        {"id": f"step-{z}", "inputs": {"exponent": z}, "expected_error": "exponent"}
        for z in [121, 255, 256]
    ]
    return steps + beyond


def proofs() -> list[dict[str, Any]]:
    cases = []
    for z in [0, 1, 8, 13, 64, 120]:
        target = 2 ** (256 - z) - 1
        for name, number in [("at", target), ("above", target + 1), ("below", target // 3)]:
            if number < 2**256:
                cases.append(
                    {
                        "id": f"proof-{z}-{name}",
                        "inputs": {"hash": le(number, 32).hex(), "exponent": z},
                        "expected": {
                            "zeros": 256 - number.bit_length(),
                            "is_share": number <= target,
                        },
                    }
                )
    return cases


def compact_targets() -> list[dict[str, Any]]:
    cases = []
    for bits in [
        0x1D00FFFF,
        0x207FFFFF,
        0x17021369,
        0x03123456,
        0x02123456,
        0x01120000,
        0x2100FFFF,
        0x220000FF,
        0x00123456,
        0x01003456,
        0x04923456,
        0x2101FFFF,
        0x220001FF,
        0xFF123456,
        0x1D000000,
    ]:
        size, mantissa = bits >> 24, bits & 0x7FFFFF
        target = mantissa << 8 * (size - 3) if size > 3 else mantissa >> 8 * (3 - size)
        case: dict[str, Any] = {"id": f"compact-{bits:08x}", "inputs": {"nbits": bits}}
        if bits & 0x800000 or not 0 < target < 2**256:
            case["expected_error"] = "compact-target"
        else:
            # The easiest step that is not easier: what a pool would call this difficulty.
            z = min(z for z in range(257) if 2 ** (256 - z) - 1 <= target)
            case["expected"] = {"target": f"{target:064x}", "exponent": z if z <= 120 else None}
        cases.append(case)
    return cases


def merkle_roots() -> list[dict[str, Any]]:
    cases = []
    for length in [0, 1, 3, 12]:
        path = [named(f"sibling {i}") for i in range(length)]
        root = named("coinbase transaction")
        for sibling in path:
            root = sha256d(root + sibling)
        cases.append(
            {
                "id": f"merkle-{length}",
                "inputs": {
                    "txid": named("coinbase transaction").hex(),
                    "path": [sibling.hex() for sibling in path],
                },
                "expected": {"root": root.hex()},
            }
        )
    return cases


write(
    "01-conventions.json",
    ["Page 01. Hashes are in internal byte order unless a field says 'displayed'."],
    {
        "tagged_hashes": tagged_hashes(),
        "double_hashes": double_hashes(),
        "ladder": ladder(),
        "proofs": proofs(),
        "compact_targets": compact_targets(),
        "merkle_roots": merkle_roots(),
    },
)

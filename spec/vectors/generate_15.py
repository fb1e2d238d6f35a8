"""Writes `15-checkpoint-state.json`: rules, payloads, rows and their tree, books, splits."""

from __future__ import annotations

from typing import Any

from layout import le, named, write
from secp256k1 import tagged_hash

KEYS = [named(f"batch key {member}") for member in range(4)]
FIELDS = {
    "faulty": (1, 2),
    "height_first": (900_000, 4),
    "interval": (1, 2),
}
NUMBERS = {
    "payout": (0, 1),
    "maturity": (100, 2),
    "fee": (20, 2),
    "recovery_members": (1_008, 2),
    "recovery_set": (4_320, 2),
    "mode": (1, 1),
    "scale": (112, 1),
    "base": (32, 1),
    "halving": (210_000, 4),
    "window": (8, 2),
    "grace": (2, 2),
    "lateness": (144, 4),
    "shares_target": (1_000_000, 8),
    "exponent_floor": (40, 1),
    "bytes_base": (1 << 22, 8),
    "bytes_shared": (1 << 28, 8),
}


def rules() -> bytes:
    head = le(len(KEYS), 2) + b"".join(KEYS)
    head += b"".join(le(number, width) for number, width in FIELDS.values())
    return head + b"".join(le(number, width) for number, width in NUMBERS.values())


def rules_cases() -> list[dict[str, Any]]:
    inputs: dict[str, Any] = {"msp_keys": [key.hex() for key in KEYS]}
    inputs |= {name: number for name, (number, _) in (FIELDS | NUMBERS).items()}
    digest = tagged_hash("radpool/federation-rules", rules())
    expected = {"encoded": rules().hex(), "digest": digest.hex()}
    return [{"id": "rules-of-four", "inputs": inputs, "expected": expected}]


def tip_cases() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []
    for height, nbits, target, fees in (
        (900_001, 0x17021369, 0x021369 << 160, 6_000_000),
        (1, 0x207FFFFF, 0x7FFFFF << 232, 0),
    ):
        prev_hash = named(f"block below {height}")
        encoded = prev_hash + le(height, 4) + le(nbits, 4) + le(target, 32) + le(fees, 8)
        inputs = {
            "prev_hash": prev_hash.hex(),
            "height": height,
            "nbits": nbits,
            "target": f"{target:064x}",
            "fees_sats": fees,
        }
        name = f"tip-{height}"
        cases.append({"id": name, "inputs": inputs, "expected": {"payload": encoded.hex()}})
        for wrong, data in (
            ("short", encoded[:-1]),
            ("long", encoded + b"\0"),
            ("without-target", encoded[:40] + bytes(32) + encoded[72:]),
        ):
            cases.append(
                {
                    "id": f"{name}-{wrong}",
                    "inputs": {"payload": data.hex()},
                    "expected_error": "encoding",
                }
            )
    return cases


Node = tuple[bytes, int, int]


def sums(node: Node) -> bytes:
    return le(node[1], 16) + le(node[2], 16)


def join(left: Node, right: Node) -> Node:
    both = left[0] + right[0] + sums(left) + sums(right)
    return tagged_hash("radpool/federation-node", both), left[1] + right[1], left[2] + right[2]


def tree(nodes: list[Node]) -> Node:
    if not nodes:
        return bytes(32), 0, 0
    while len(nodes) > 1:
        pairs = [join(nodes[at], nodes[at + 1]) for at in range(0, len(nodes) - 1, 2)]
        nodes = pairs + nodes[2 * len(pairs) :]
    return nodes[0]


def row_cases() -> list[dict[str, Any]]:
    cases = []
    for count in range(7):
        rows, shown, nodes = [], [], []
        for each in range(count):
            commitment, work, value = named(f"account {each}"), 3 << 40 + each, 7 << 70 + each
            row = le(each // 2, 2) + commitment + le(each % 3, 1) + le(900_001, 4)
            row += le(each + 1, 8) + le(work, 16) + le(value, 16)
            rows.append(row)
            shown.append(
                [each // 2, commitment.hex(), each % 3, 900_001, each + 1, str(work), str(value)]
            )
            nodes.append((tagged_hash("radpool/federation-leaf", row), work, value))
        root = tree(nodes)
        cases.append(
            {
                "id": f"rows-{count}",
                "inputs": {"rows": shown},
                "expected": {
                    "encoded": [row.hex() for row in rows],
                    "root": root[0].hex(),
                    "work": str(root[1]),
                    "value": str(root[2]),
                },
            }
        )
    return cases


def book_cases() -> list[dict[str, Any]]:
    member = le(0, 8) + bytes(32) + le(0, 4) + le(1 << 22, 8) + le(0, 4)
    member += le(0, 1) + 2 * le(0, 4) + 3 * le(0, 4)
    head = tagged_hash("radpool/federation-rules", rules()) + le(0, 4)
    head += le(1, 2) + le(40, 1) + le(4, 2) + 4 * member
    head += le(0, 1) + le(0, 2) + le(0, 4) + le(0, 2) + le(0, 4) + le(0, 4) + le(0, 8)
    root = tagged_hash(
        "radpool/federation-books",
        tagged_hash("radpool/federation-head", head) + le(0, 4) + bytes(64),
    )
    return [
        {
            "id": "books-before-the-first-epoch",
            "inputs": {"rules": "rules-of-four"},
            "expected": {"encoded": (head + le(0, 4)).hex(), "root": root.hex()},
        }
    ]


def split_cases() -> list[dict[str, Any]]:
    cases = []
    for name, sats, weights in (
        ("thirds", 100, [1, 1, 1, 0]),
        ("a-block", 318_500_000, [400 << 100, 350 << 100, 250 << 100, 1]),
        ("one-satoshi", 1, [5, 5, 5, 5]),
        ("nobody", 100, [0, 0, 0, 0]),
        ("nothing", 0, [1, 2, 3, 4]),
    ):
        for block in ("a block", "another block"):
            lot, total = named(block), sum(weights)
            parts = [sats * weight // total if total else 0 for weight in weights]
            ranked = sorted(
                range(4),
                key=lambda at: (
                    -(sats * weights[at] % total if total else 0),
                    tagged_hash("radpool/federation-lot", lot + le(at, 2)),
                ),
            )
            for at in ranked[: sats - sum(parts) if total else 0]:
                parts[at] += 1
            cases.append(
                {
                    "id": f"split-{name}-by-{block.replace(' ', '-')}",
                    "inputs": {
                        "sats": sats,
                        "weights": [str(weight) for weight in weights],
                        "lot": lot.hex(),
                    },
                    "expected": {"parts": parts},
                }
            )
    return cases


# x coordinates of points: those of the generator, and of twice it.
POINTS = (
    "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    "c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5",
)


def said_cases() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []
    for purpose, point in zip((1, 2), POINTS, strict=True):
        transcript = named(f"transcript {purpose}")
        payload = le(purpose, 1) + bytes.fromhex(point) + transcript
        inputs = {"kind": 14, "purpose": purpose, "key": point, "transcript": transcript.hex()}
        cases.append(
            {
                "id": f"key-{purpose}",
                "inputs": inputs,
                "expected": {"payload": payload.hex()},
            }
        )
    for name, vout, value in (("syndicate", 1, 318_500_000), ("members", 65_535, 21 * 10**14)):
        block, txid, paid = (named(f"{what} of {name}") for what in ("block", "coinbase", "paid"))
        place = block + le(900_001, 4) + txid + le(vout, 2)
        inputs = {
            "kind": 15,
            "block_hash": block.hex(),
            "height": 900_001,
            "txid": txid.hex(),
            "vout": vout,
            "value": value,
            "paid": paid.hex(),
        }
        payload = place + le(value, 8) + paid
        cases.append(
            {
                "id": f"block-of-{name}",
                "inputs": inputs,
                "expected": {"payload": payload.hex()},
            }
        )
    good = le(2, 1) + bytes.fromhex(POINTS[0]) + bytes(32)
    for name, kind, wrong in (
        ("key-of-no-purpose", 14, le(0, 1) + good[1:]),
        ("key-of-a-fourth-purpose", 14, le(4, 1) + good[1:]),
        ("key-that-is-no-point", 14, le(2, 1) + b"\xff" * 32 + bytes(32)),
        ("key-that-is-short", 14, good[:-1]),
        ("block-of-too-much", 15, bytes(70) + le(21 * 10**14 + 1, 8) + bytes(32)),
        ("block-that-is-long", 15, bytes(111)),
        ("mature-that-is-short", 16, bytes(31)),
        ("mature-that-is-long", 16, bytes(33)),
    ):
        inputs = {"kind": kind, "payload": wrong.hex()}
        cases.append({"id": name, "inputs": inputs, "expected_error": "encoding"})
    return cases


def virtual_size(scripts: list[bytes]) -> int:
    # Version, count, one input without script, count, outputs, locktime; then marker, flag, count
    # and length of one signature.
    bare = 4 + 1 + 32 + 4 + 1 + 4 + 1 + sum(8 + 1 + len(script) for script in scripts) + 4
    return -(-(4 * bare + 2 + 1 + 1 + 64) // 4)


def split(sats: int, weights: dict[int, int], lot: bytes) -> dict[int, int]:
    total = sum(weights.values())
    parts = {member: sats * weight // total for member, weight in weights.items()}
    ranked = sorted(
        weights,
        key=lambda member: (
            -(sats * weights[member] % total),
            tagged_hash("radpool/federation-lot", lot + le(member, 2)),
        ),
    )
    for member in ranked[: sats - sum(parts.values())]:
        parts[member] += 1
    return parts


def payout_cases() -> list[dict[str, Any]]:
    cases = []
    scripts = {
        0: b"\x00\x14" + named("a")[:20],
        1: b"\x51\x20" + named("b"),
        2: b"\x76\xa9\x14" + named("c")[:20] + b"\x88\xac",
        5: b"\x51\x20" + named("d"),
    }
    for name, value, weights in (
        ("block", 318_500_000, {0: 400 << 100, 1: 350 << 100, 2: 250 << 100, 5: 1}),
        ("equal-parts", 5_000_000_001, {0: 7, 1: 7, 2: 7, 5: 7}),
        ("dust-of-one", 8_000, {0: 400, 1: 350, 2: 250, 5: 40}),
        ("dust-of-all-but-one", 3_000, {0: 1, 1: 1, 2: 1, 5: 9}),
        ("less-than-the-fee", 2_000, {0: 1, 1: 1, 2: 1, 5: 1}),
        ("nothing", 0, {0: 1}),
    ):
        lot, left, parts, fee = named(f"block of {name}"), dict(weights), {}, 0
        while left:
            fee = 20 * virtual_size([scripts[member] for member in left])
            parts = split(max(value - fee, 0), left, lot)
            least = min(left, key=lambda member: (parts[member], member))
            if parts[least] >= 546:
                break
            del left[least]
            parts, fee = {}, 0
        stakes = [[who, str(weight), scripts[who].hex()] for who, weight in weights.items()]
        cases.append(
            {
                "id": f"payout-of-{name}",
                "inputs": {"block_hash": lot.hex(), "value": value, "fee": 20, "stakes": stakes},
                "expected": {"parts": [list(each) for each in parts.items()], "fee_sats": fee},
            }
        )
    return cases


if __name__ == "__main__":
    write(
        "15-checkpoint-state.json",
        ["spec/15-checkpoint-state.md"],
        {
            "rules": rules_cases(),
            "tips": tip_cases(),
            "rows": row_cases(),
            "books": book_cases(),
            "splits": split_cases(),
            "said": said_cases(),
            "payouts": payout_cases(),
        },
    )

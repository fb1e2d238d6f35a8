"""Writes `14-epoch-agreement.json`: marks, cuts, turns, statements, messages."""

from __future__ import annotations

from typing import Any

from federation import (
    COMMITTEE,
    NO_VIEW,
    Statement,
    cut,
    cut_digest,
    message_cases,
    proposal,
    refused,
    shown,
    state,
    vote,
)
from layout import le, named, write
from secp256k1 import tagged_hash

ENDINGS = [(0, 5, named("mark of 0")), (2, 2**40, named("mark of 2")), (3, 0, named("mark of 3"))]
CUT = cut(3, ENDINGS)
DIGEST = cut_digest(CUT)
ROOT = named("root of epoch 3")


def marks() -> list[dict[str, Any]]:
    return [
        {
            "id": f"mark-{epoch}",
            "inputs": {
                "height_first": first,
                "interval": interval,
                "epoch": epoch,
                "block_hash": named("a block").hex(),
            },
            "expected": {
                "height": first + epoch * interval,
                "payload": (
                    le(epoch, 4) + le(first + epoch * interval, 4) + named("a block")
                ).hex(),
            },
        }
        for epoch, first, interval in ((0, 1, 1), (7, 900_000, 6), (2**20, 5, 65))
    ]


def cuts() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = [
        {
            "id": f"cut-{name}",
            "inputs": {
                "committee": shown(),
                "epoch": epoch,
                "endings": [[member, seq, digest.hex()] for member, seq, digest in endings],
            },
            "expected": {
                "encoded": cut(epoch, endings).hex(),
                "digest": cut_digest(cut(epoch, endings)).hex(),
            },
        }
        for name, epoch, endings in (("three", 3, ENDINGS), ("none", 2**32 - 1, []))
    ]
    for name, endings in (("backwards", ENDINGS[::-1]), ("twice", [ENDINGS[0], ENDINGS[0]])):
        cases.append(
            {
                "id": f"cut-{name}",
                "inputs": {"committee": shown(), "encoded": cut(3, endings).hex()},
                "expected_error": "encoding",
            }
        )
    return cases


def turns() -> list[dict[str, Any]]:
    def turn(epoch: int, member: int) -> bytes:
        return tagged_hash("radpool/federation-turn", COMMITTEE + le(epoch, 4) + le(member, 2))

    return [
        {
            "id": f"turns-of-epoch-{epoch}",
            "inputs": {"committee": shown(), "epoch": epoch},
            "expected": {"members": sorted(range(4), key=lambda each: turn(epoch, each))},
        }
        for epoch in (0, 1, 2, 2**32 - 1)
    ]


def statements() -> list[dict[str, Any]]:
    listed: dict[str, tuple[Statement, list[int]]] = {
        "proposal": (proposal(3, 2, 1, DIGEST), [3, 2]),
        "proposal-of-its-own": (proposal(3, 2, NO_VIEW, DIGEST), [3, 2]),
        "notarise": (vote(3, 2, 0, DIGEST), [3, 2, 0]),
        "skip": (vote(3, 2, 1, bytes(32)), [3, 2, 1]),
        "finalise": (vote(3, 2, 2, DIGEST), [3, 2, 1]),
        "state": (state(3, ROOT), [3]),
    }
    return [
        {
            "id": f"statement-{name}",
            "inputs": {"committee": shown(), "statement": each.whole().hex(), "by": 1},
            "expected": {
                "digest": each.digest.hex(),
                "signature": each.by(1).hex(),
                "slot": slot,
            },
        }
        for name, (each, slot) in listed.items()
    ]


def roots() -> list[dict[str, Any]]:
    cases = []
    for name, decided, endings in (
        ("first", 0, []),
        ("three", 4, [(3, *ENDINGS[0]), (1, *ENDINGS[1]), (3, *ENDINGS[2])]),
    ):
        parts = [
            le(epoch, 4) + le(member, 2) + le(seq, 8) + digest
            for epoch, member, seq, digest in endings
        ]
        start = le(decided, 4) + le(len(endings), 2) + b"".join(parts)
        cases.append(
            {
                "id": f"root-{name}",
                "inputs": {
                    "decided": decided,
                    "endings": [
                        [epoch, member, seq, digest.hex()] for epoch, member, seq, digest in endings
                    ],
                    "state_root": ROOT.hex(),
                },
                "expected": {
                    "start": start.hex(),
                    "root": tagged_hash("radpool/federation-root", start + ROOT).hex(),
                },
            }
        )
    return cases


def messages() -> list[dict[str, Any]]:
    offer, final, root = proposal(3, 2, 1, DIGEST), vote(3, 2, 2, DIGEST), state(3, ROOT)
    skip, note = vote(3, 2, 1, bytes(32)), vote(3, 2, 0, DIGEST)
    three = [0, 1, 2]
    decided = final.certificate(three) + CUT
    good = {
        "propose": le(7, 1) + offer.body + offer.by(1) + CUT,
        "said-vote": le(3, 1) + skip.short() + skip.by(2),
        "notarised": le(8, 1) + note.certificate(three) + CUT,
        "skipped": le(8, 1) + skip.certificate(three),
        "pull-epochs": le(9, 1) + le(9, 4),
        "epochs": le(10, 1) + le(1, 1) + decided + le(1, 1) + root.certificate([1, 2, 3]),
        "epochs-no-root": le(10, 1) + le(1, 1) + decided + le(0, 1),
    }
    bad = {
        "parent": le(7, 1) + proposal(3, 2, 2, DIGEST).body + bytes(64) + CUT,
        "skip-of-a-cut": le(3, 1) + vote(3, 2, 1, DIGEST).short() + bytes(64),
        "vote-for-nothing": le(3, 1) + vote(3, 2, 0, bytes(32)).short() + bytes(64),
        "phase": le(3, 1) + vote(3, 2, 3, DIGEST).short() + bytes(64),
        "notarised-state": le(8, 1) + root.certificate(three),
        "not-decided": le(10, 1) + le(1, 1) + note.certificate(three) + CUT + le(0, 1),
        "other-epoch": le(10, 1) + le(1, 1) + final.certificate(three) + cut(4, ENDINGS) + le(0, 1),
        "other-root": le(10, 1) + le(1, 1) + decided + le(1, 1) + state(4, ROOT).certificate(three),
        "epochs-twice": le(10, 1) + le(2, 1) + (decided + le(0, 1)) * 2,
        "no-epochs": le(10, 1) + le(0, 1),
    }
    return message_cases(good) + refused(bad)


write(
    "14-epoch-agreement.json",
    ["Page 14. Bytes are in the order in which they are sent."],
    {
        "marks": marks(),
        "cuts": cuts(),
        "turns": turns(),
        "statements": statements(),
        "roots": roots(),
        "messages": messages(),
    },
)

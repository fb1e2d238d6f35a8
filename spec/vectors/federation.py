"""Writes what pages 13 and 14 define, as they have it: committees, statements, certificates."""

from __future__ import annotations

from typing import Any

from layout import le, named
from secp256k1 import public_key, sign, tagged_hash

SECRETS = {public_key(secret): secret for secret in (named(f"member {each}") for each in range(7))}
KEYS = sorted(SECRETS)
CHAIN = named("genesis block")
NO_VIEW = 2**32 - 1


def quorum_of(n: int) -> tuple[int, int]:
    t = (n - 1) // 3
    return t, (n + t) // 2 + 1


def committee_id(keys: list[bytes], term: int = 0, first: int = 1, interval: int = 1) -> bytes:
    fields = CHAIN + le(term, 4) + le(first, 4) + le(interval, 2) + le(len(keys), 2)
    return tagged_hash("radpool/federation-committee", fields + b"".join(keys))


MEMBERS = KEYS[:4]
COMMITTEE = committee_id(MEMBERS)


def signed(member: int, digest: bytes) -> bytes:
    return sign(SECRETS[MEMBERS[member]], digest)


class Statement:
    """Is a statement: which kind, its bytes behind the committee, and what is signed."""

    def __init__(self, kind: int, tag: str, body: bytes) -> None:
        self.kind = kind
        self.body = body
        self.digest = tagged_hash(f"radpool/federation-{tag}", COMMITTEE + body)

    def short(self) -> bytes:
        return le(self.kind, 1) + self.body

    def whole(self) -> bytes:
        return le(self.kind, 1) + COMMITTEE + self.body

    def by(self, member: int) -> bytes:
        return signed(member, self.digest)

    def certificate(self, members: list[int]) -> bytes:
        pairs = b"".join(le(each, 2) + self.by(each) for each in members)
        return self.short() + le(len(members), 1) + pairs


class Entry:
    """Is an entry of a stream."""

    def __init__(self, sender: int, seq: int, previous: bytes, kind: int, payload: bytes) -> None:
        digest = tagged_hash("radpool/federation-payload", payload)
        body = le(sender, 2) + le(seq, 8) + previous + le(kind, 1) + le(len(payload), 4) + digest
        self.sender = sender
        self.header = Statement(1, "entry", body)
        self.echo = Statement(2, "echo", le(sender, 2) + le(seq, 8) + previous + self.header.digest)
        self.payload = payload

    def encoded(self) -> bytes:
        return self.header.body + self.header.by(self.sender) + self.payload


def cut(epoch: int, endings: list[tuple[int, int, bytes]]) -> bytes:
    parts = [le(member, 2) + le(seq, 8) + digest for member, seq, digest in endings]
    return le(epoch, 4) + le(len(endings), 2) + b"".join(parts)


def cut_digest(encoded: bytes) -> bytes:
    return tagged_hash("radpool/federation-cut", COMMITTEE + encoded)


def proposal(epoch: int, view: int, parent: int, digest: bytes) -> Statement:
    return Statement(3, "proposal", le(epoch, 4) + le(view, 4) + le(parent, 4) + digest)


def vote(epoch: int, view: int, phase: int, digest: bytes) -> Statement:
    return Statement(4, "vote", le(epoch, 4) + le(view, 4) + le(phase, 1) + digest)


def state(epoch: int, root: bytes) -> Statement:
    return Statement(5, "state", le(epoch, 4) + root)


def shown(members: list[bytes] = MEMBERS) -> dict[str, Any]:
    return {
        "chain": CHAIN.hex(),
        "term": 0,
        "height_first": 1,
        "interval": 1,
        "members": [key.hex() for key in members],
    }


def message_cases(messages: dict[str, bytes]) -> list[dict[str, Any]]:
    """Makes cases of messages that are good, each with those that are not because of it."""
    cases: list[dict[str, Any]] = []
    for name, data in messages.items():
        cases.append(
            {
                "id": f"message-{name}",
                "inputs": {"committee": shown(), "message": data.hex()},
                "expected": {"type": data[0], "length": len(data)},
            }
        )
        for wrong, spoilt in (("short", data[:-1]), ("long", data + b"\0")):
            cases.append(
                {
                    "id": f"message-{name}-{wrong}",
                    "inputs": {"committee": shown(), "message": spoilt.hex()},
                    "expected_error": "encoding",
                }
            )
    return cases


def refused(messages: dict[str, bytes]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"refused-{name}",
            "inputs": {"committee": shown(), "message": data.hex()},
            "expected_error": "encoding",
        }
        for name, data in messages.items()
    ]

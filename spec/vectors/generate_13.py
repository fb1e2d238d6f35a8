"""Writes `13-broadcast.json`: committees, records, entries, certificates, messages, evidence."""

from __future__ import annotations

from typing import Any

from federation import (
    CHAIN,
    COMMITTEE,
    KEYS,
    MEMBERS,
    SECRETS,
    Entry,
    Statement,
    committee_id,
    message_cases,
    quorum_of,
    refused,
    shown,
    state,
)
from layout import le, named, write
from secp256k1 import sign, tagged_hash

FIRST = Entry(1, 0, bytes(32), 1, b"the first")
SECOND = Entry(1, 1, FIRST.header.digest, 2, b"")
OTHER = Entry(1, 0, bytes(32), 1, b"another first")
MARK = Entry(3, 2**40, named("an entry before"), 5, bytes(40))
HEAD = le(1, 2) + le(2, 8) + SECOND.header.digest
LATER_HEAD = le(3, 2) + le(2**63, 8) + named("a head")


def committees() -> list[dict[str, Any]]:
    cases = []
    for n, term, first, interval in ((1, 0, 0, 1), (4, 0, 1, 1), (7, 2**32 - 1, 900_000, 65_535)):
        t, q = quorum_of(n)
        cases.append(
            {
                "id": f"committee-of-{n}",
                "inputs": {
                    "chain": CHAIN.hex(),
                    "term": term,
                    "height_first": first,
                    "interval": interval,
                    "members": [key.hex() for key in KEYS[:n]],
                },
                "expected": {
                    "id": committee_id(KEYS[:n], term, first, interval).hex(),
                    "faulty_max": t,
                    "quorum": q,
                },
            }
        )
    for name, members in (
        ("none", []),
        ("backwards", MEMBERS[::-1]),
        ("twice", [MEMBERS[0], MEMBERS[0]]),
    ):
        cases.append(
            {
                "id": f"committee-{name}",
                "inputs": {**shown(), "members": [key.hex() for key in members]},
                "expected_error": "committee",
            }
        )
    return cases


def records() -> list[dict[str, Any]]:
    cases = []
    for name, sequence, addresses in (
        ("no-address", 0, []),
        ("two-addresses", 2**64 - 1, ["abc.onion:8433", "198.51.100.7:8433"]),
    ):
        transport = named(f"transport key of {name}")
        texts = b"".join(le(len(each), 1) + each.encode() for each in addresses)
        body = KEYS[0] + transport + le(sequence, 8) + le(len(addresses), 1) + texts
        digest = tagged_hash("radpool/federation-member", body)
        cases.append(
            {
                "id": f"record-{name}",
                "inputs": {
                    "secret": SECRETS[KEYS[0]].hex(),
                    "transport": transport.hex(),
                    "addresses": addresses,
                    "sequence": sequence,
                },
                "expected": {
                    "signed_hash": digest.hex(),
                    "record": (body + sign(SECRETS[KEYS[0]], digest)).hex(),
                },
            }
        )
    return cases


def entries() -> list[dict[str, Any]]:
    return [
        {
            "id": f"entry-{name}",
            "inputs": {"committee": shown(), "encoded": entry.encoded().hex(), "echo_by": 2},
            "expected": {
                "header": (COMMITTEE + entry.header.body).hex(),
                "digest": entry.header.digest.hex(),
                "payload": entry.payload.hex(),
                "echo": (COMMITTEE + entry.echo.body).hex(),
                "echo_digest": entry.echo.digest.hex(),
                "echo_signature": entry.echo.by(2).hex(),
            },
        }
        for name, entry in (("first", FIRST), ("empty", SECOND), ("mark", MARK))
    ]


def certificates() -> list[dict[str, Any]]:
    echo = FIRST.echo
    cases: list[dict[str, Any]] = [
        {
            "id": f"certificate-{name}",
            "inputs": {"committee": shown(), "certificate": echo.certificate(members).hex()},
            "expected": {"members": members, "digest": echo.digest.hex()},
        }
        for name, members in (("first", [0, 1, 2]), ("last", [1, 2, 3]))
    ]
    good = echo.certificate([0, 1, 2])
    flipped = bytearray(good)
    flipped[-1] ^= 1
    for name, data, error in (
        ("too-few", echo.certificate([0, 1]), "certificate"),
        ("too-many", echo.certificate([0, 1, 2, 3]), "certificate"),
        ("twice", echo.certificate([0, 1, 1]), "certificate"),
        ("order", echo.certificate([1, 0, 2]), "certificate"),
        ("forged", bytes(flipped), "signature"),
        ("other-entry", OTHER.echo.short() + good[len(echo.short()) :], "signature"),
    ):
        cases.append(
            {
                "id": f"certificate-{name}",
                "inputs": {"committee": shown(), "certificate": data.hex()},
                "expected_error": error,
            }
        )
    return cases


def messages() -> list[dict[str, Any]]:
    entry, echo = FIRST.encoded(), FIRST.echo
    chain = FIRST.encoded() + SECOND.encoded()
    latest = FIRST.header.body + FIRST.header.by(1)
    root = state(3, named("a root"))
    good = {
        "sync-empty": le(1, 1) + le(0, 1) + le(0, 4) + le(0, 4) + le(0, 1),
        "sync": le(1, 1) + le(2, 1) + HEAD + LATER_HEAD + le(7, 4) + le(6, 4) + le(1, 1) + latest,
        "entry": le(2, 1) + entry,
        "said-echo": le(3, 1) + echo.short() + echo.by(2),
        "said-state": le(3, 1) + root.short() + root.by(0),
        "ready": le(4, 1) + le(1, 1) + HEAD + le(7, 4) + le(6, 4),
        "pull": le(5, 1) + le(3, 2) + le(2**64 - 1, 8),
        "entries": le(6, 1) + SECOND.echo.certificate([0, 1, 3]) + le(2, 1) + chain,
    }
    other_payload = FIRST.header.body + FIRST.header.by(1) + b"the FIRST"
    bad = {
        "unknown-type": le(11, 1),
        "type-0": le(0, 1),
        "empty": b"",
        "payload": le(2, 1) + other_payload,
        "said-header": le(3, 1) + FIRST.header.short() + FIRST.header.by(1),
        "heads-order": le(4, 1) + le(2, 1) + LATER_HEAD + HEAD + le(0, 4) + le(0, 4),
        "heads-twice": le(4, 1) + le(2, 1) + HEAD + HEAD + le(0, 4) + le(0, 4),
        "sync-flag": le(1, 1) + le(0, 1) + le(0, 4) + le(0, 4) + le(2, 1),
        "no-entries": le(6, 1) + SECOND.echo.certificate([0, 1, 3]) + le(0, 1),
        "entries-of-states": le(6, 1) + root.certificate([0, 1, 2]) + le(1, 1) + entry,
        "member-128": le(5, 1) + le(128, 2) + le(0, 8),
    }
    return message_cases(good) + refused(bad)


def evidence() -> list[dict[str, Any]]:
    def shown_as(offender: int, first: Statement, second: Statement, by: int) -> bytes:
        both = [first.whole(), first.by(by), second.whole(), second.by(by)]
        return le(offender, 2) + b"".join(both)

    good = {
        "entries": (1, shown_as(1, FIRST.header, OTHER.header, 1)),
        "echoes": (2, shown_as(2, FIRST.echo, OTHER.echo, 2)),
    }
    bad = {
        "same": shown_as(1, FIRST.header, FIRST.header, 1),
        "other-slot": shown_as(1, FIRST.header, SECOND.header, 1),
        "not-signed": shown_as(1, FIRST.header, OTHER.header, 2),
        "not-its-stream": shown_as(2, FIRST.header, OTHER.header, 2),
        "other-kinds": shown_as(1, FIRST.header, OTHER.echo, 1),
    }
    inputs = {"committee": shown()}
    return [
        {
            "id": f"evidence-{name}",
            "inputs": {**inputs, "evidence": data.hex()},
            "expected": {"offender": offender},
        }
        for name, (offender, data) in good.items()
    ] + [
        {
            "id": f"evidence-{name}",
            "inputs": {**inputs, "evidence": data.hex()},
            "expected_error": "evidence",
        }
        for name, data in bad.items()
    ]


write(
    "13-broadcast.json",
    ["Page 13. Bytes are in the order in which they are sent."],
    {
        "committees": committees(),
        "members": records(),
        "entries": entries(),
        "certificates": certificates(),
        "messages": messages(),
        "evidence": evidence(),
    },
)

"""Writes `11-owner-registration.json`: registrations, receipts, messages, owners, streams."""

from __future__ import annotations

from typing import Any

from layout import Owner, commitment_of, le, named
from layout import write as write_vectors
from secp256k1 import public_key, sign, tagged_hash

MSP_SECRET = named("msp secret")
MSP_KEY = public_key(MSP_SECRET)


def miner_of(name: str) -> tuple[bytes, bytes, bytes]:
    """Returns a miner's secret, its key and its salt."""
    secret = named(f"miner secret of {name}")
    return secret, public_key(secret), named(f"miner salt of {name}", 16)


def signed_hash(miner_key: bytes, commitment: bytes, epoch: int, number: int) -> bytes:
    numbers = le(0, 1) + le(epoch, 4) + le(number, 8)
    return tagged_hash("radpool/owner-registration", MSP_KEY, miner_key, commitment, numbers)


def registrations() -> list[dict[str, Any]]:
    cases = []
    for name, epoch, number in [("dora", 1, 1), ("emil", 7, 258), ("fay", 2**32 - 1, 2**63 - 1)]:
        secret, key, salt = miner_of(name)
        commitment = commitment_of(key.hex(), salt)
        signed = signed_hash(key, commitment, epoch, number)
        cases.append(
            {
                "id": f"registration-{name}",
                "inputs": {
                    "msp_secret": MSP_SECRET.hex(),
                    "miner_secret": secret.hex(),
                    "salt": salt.hex(),
                    "epoch": epoch,
                    "number": number,
                },
                "expected": {
                    "msp_key": MSP_KEY.hex(),
                    "miner_key": key.hex(),
                    "commitment": commitment.hex(),
                    "signed_hash": signed.hex(),
                    "msp_signature": sign(MSP_SECRET, signed).hex(),
                    "miner_signature": sign(secret, signed).hex(),
                },
            }
        )
    return cases


def receipt_of(shares: list[tuple[bytes, int]]) -> tuple[int, int, bytes]:
    root, work = bytes(32), 0
    for share_hash, z in shares:
        root = tagged_hash("radpool/owner-share", root, share_hash, le(z, 1))
        work += 1 << z
    return len(shares), work, root


def receipt_hash(number: int, shares: list[tuple[bytes, int]]) -> bytes:
    count, work, root = receipt_of(shares)
    return tagged_hash("radpool/owner-receipt", le(number, 8), le(count, 8), le(work, 16), root)


def receipts() -> list[dict[str, Any]]:
    steps = {
        "none": [],
        "one": [8],
        "three": [8, 8, 9],
        "extremes": [0, 120, 64],
        "order-matters": [9, 8, 8],
    }
    cases = []
    for number, (name, zs) in enumerate(steps.items(), start=1):
        shares = [(named(f"share {index} at {z}"), z) for index, z in enumerate(zs)]
        count, work, root = receipt_of(shares)
        signed = receipt_hash(number, shares)
        cases.append(
            {
                "id": f"receipt-{name}",
                "inputs": {
                    "msp_secret": MSP_SECRET.hex(),
                    "number": number,
                    "shares": [[share_hash.hex(), z] for share_hash, z in shares],
                },
                "expected": {
                    "count": count,
                    "work": str(work),
                    "root": root.hex(),
                    "signed_hash": signed.hex(),
                    "signature": sign(MSP_SECRET, signed).hex(),
                },
            }
        )
    return cases


def messages() -> list[dict[str, Any]]:
    secret, key, salt = miner_of("dora")
    signed = signed_hash(key, commitment_of(key.hex(), salt), 1, 1)
    shares = [(named("share 0 at 8"), 8), (named("share 1 at 8"), 8)]
    count, work, root = receipt_of(shares)
    granted = MSP_KEY + le(16, 1) + salt + le(1, 4) + le(1, 8) + sign(MSP_SECRET, signed)
    accepted = b"".join(
        [
            le(3, 4) + le(7, 4) + le(2, 4) + le(512, 8),
            le(count, 8) + le(work, 16) + root,
            sign(MSP_SECRET, receipt_hash(1, shares)),
        ]
    )
    right = {
        "OwnerAsked": (key, {"miner_key": key.hex()}),
        "OwnerGranted": (
            granted,
            {
                "msp_key": MSP_KEY.hex(),
                "salt": salt.hex(),
                "epoch": 1,
                "number": 1,
                "msp_signature": sign(MSP_SECRET, signed).hex(),
            },
        ),
        "OwnedShare": (sign(secret, signed), {"miner_signature": sign(secret, signed).hex()}),
        "SubmitSharesOwnedSuccess": (
            accepted,
            {
                "channel_id": 3,
                "last_sequence_number": 7,
                "new_submits_accepted_count": 2,
                "new_shares_sum": 512,
                "count": count,
                "work": work,
                "root": root.hex(),
                "signature": sign(MSP_SECRET, receipt_hash(1, shares)).hex(),
            },
        ),
    }
    cases: list[dict[str, Any]] = []
    for name, (payload, fields) in right.items():
        inputs = {"record": name, "payload": payload.hex()}
        cases.append({"id": f"message-{name}", "inputs": inputs, "expected": fields})
        for fault, changed in {"short": payload[:-1], "long": payload + b"\x00"}.items():
            inputs = {"record": name, "payload": changed.hex()}
            cases.append(
                {"id": f"message-{name}-{fault}", "inputs": inputs, "expected_error": fault}
            )
    other_salt = MSP_KEY + le(15, 1) + salt[:15] + granted[49:]
    cases.append(
        {
            "id": "message-OwnerGranted-salt-of-15",
            "inputs": {"record": "OwnerGranted", "payload": other_salt.hex()},
            "expected_error": "salt",
        }
    )
    return cases


def owners() -> list[dict[str, Any]]:
    """A register, tags, and whose they are: none for a tag that no registration makes."""
    keys = {name: miner_of(name)[1:] for name in ("dora", "emil", "fay")}
    register = [
        {
            "number": number,
            "miner_key": key.hex(),
            "commitment": commitment_of(key.hex(), salt).hex(),
        }
        for number, (key, salt) in enumerate(keys.values(), start=1)
    ]
    cases = []
    for name, epoch, z in [("dora", 1, 8), ("emil", 1, 8), ("emil", 3, 40), ("nobody", 1, 8)]:
        _secret, key, salt = miner_of(name)
        owner = Owner(commitment_of(key.hex(), salt), epoch)
        cases.append(
            {
                "id": f"owner-{name}-{epoch}-{z}",
                "inputs": {
                    "msp_key": MSP_KEY.hex(),
                    "register": register,
                    "epochs": [1, 2, 3],
                    "script": owner.script(MSP_KEY, z).hex(),
                },
                "expected": {
                    "miner_key": key.hex() if name in keys else None,
                    "exponent": z,
                    "epoch": epoch if name in keys else None,
                },
            }
        )
    return cases


def told() -> list[dict[str, Any]]:
    """What a member's stream says of its owners, and which fault it has; 0 is none."""

    def row(name: str, epoch: int = 1, number: int = 1, rail: int = 0) -> bytes:
        secret, key, salt = miner_of(name)
        commitment = commitment_of(key.hex(), salt)
        signed = signed_hash(key, commitment, epoch, number)
        numbers = le(rail, 1) + le(epoch, 4) + le(number, 8)
        signatures = sign(MSP_SECRET, signed) + sign(secret, signed)
        return MSP_KEY + key + commitment + numbers + signatures

    def payload(*rows: bytes) -> bytes:
        return le(len(rows), 2) + b"".join(rows)

    def spoiled(at: int) -> bytes:
        data = bytearray(row("emil", 1, 2))
        data[at] ^= 1
        return bytes(data)

    dora, emil, fay = row("dora"), row("emil", 1, 2), row("fay", 2**32 - 1, 2**63 - 1)
    other = public_key(named("miner secret of another MSP"))
    streams: dict[str, list[tuple[bytes, int]]] = {
        "one": [(payload(dora), 0)],
        "three": [(payload(dora, emil, fay), 0)],
        "in-any-order": [(payload(fay), 0), (payload(emil), 0)],
        "again": [(payload(dora), 0), (payload(dora, emil), 0), (payload(emil, emil), 0)],
        "none": [(payload(), 1)],
        "short": [(payload(dora)[:-1], 1)],
        "long": [(payload(dora) + b"\x00", 1)],
        "another-rail": [(payload(dora, row("emil", 1, 2, rail=1)), 1)],
        "another-msp": [(payload(other + dora[32:]), 2)],
        "not-the-msps": [(payload(dora, spoiled(109)), 3), (payload(emil), 0)],
        "not-the-miners": [(payload(dora, spoiled(236)), 3)],
        "another-number": [(payload(dora), 0), (payload(row("dora", 1, 2)), 4)],
        "another-epoch": [(payload(dora), 0), (payload(row("dora", 2, 1)), 4)],
        "two-of-a-number": [(payload(dora, row("emil")), 4), (payload(row("emil")), 0)],
        "two-later": [(payload(dora), 0), (payload(fay, row("emil")), 4)],
    }
    return [
        {
            "id": f"told-{name}",
            "inputs": {"msp_key": MSP_KEY.hex(), "payloads": [data.hex() for data, _ in payloads]},
            "expected": {
                "faults": [fault for _, fault in payloads],
                "count": len(
                    {
                        data[at + 101 : at + 109]
                        for data, fault in payloads
                        if not fault
                        for at in range(2, len(data), 237)
                    }
                ),
            },
        }
        for name, payloads in streams.items()
    ]


write_vectors(
    "11-owner-registration.json",
    ["Page 11. Keys, hashes and signatures are bytes in the order in which they are sent."],
    {
        "registrations": registrations(),
        "receipts": receipts(),
        "messages": messages(),
        "owners": owners(),
        "told": told(),
    },
)

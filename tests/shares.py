"""Makes shares, template bodies and batches in plain Python, for tests.

It is a second writer of what the specification describes. It shares no code with the native one,
and nothing with the verifier but the standards that both follow.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from coincurve import PrivateKey

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_BATCH = bytes(32)


def tagged_hash(tag: str, *parts: bytes) -> bytes:
    prefix = sha256(tag.encode()).digest()
    return sha256(prefix + prefix + b"".join(parts)).digest()


def sha256d(data: bytes) -> bytes:
    return sha256(sha256(data).digest()).digest()


@dataclass(frozen=True)
class Key:
    """Signs batches, as `radpool_sv2._native.ledger.MspKey`."""

    secret: bytes = b"\x01" * 32

    @property
    def public(self) -> bytes:
        return PrivateKey(self.secret).public_key.format()[1:]

    def sign(self, hash: bytes) -> bytes:
        return PrivateKey(self.secret).sign_schnorr(hash, bytes(32))


@dataclass(frozen=True)
class Owner:
    commitment: bytes
    epoch: int = 1
    rail: int = 0
    account: int = 1

    def binding(self, msp_key: bytes, z: int) -> bytes:
        rest = struct.pack("<IBB", self.epoch, self.rail, z)
        return tagged_hash("radpool/owner", msp_key, self.commitment, rest)

    def script(self, msp_key: bytes, z: int) -> bytes:
        head = b"\x6a\x26RADP" + bytes([0x10 | self.rail, z])
        return head + self.binding(msp_key, z)


def height_push(height: int) -> bytes:
    if 1 <= height <= 16:
        return bytes([0x50 + height])
    number = height.to_bytes(height.bit_length() // 8 + 1, "little")
    return bytes([len(number)]) + number


@dataclass(frozen=True)
class Template:
    height: int = 101
    value_sats: int = 5_000_000_000
    prev_hash: bytes = b"\x22" * 32
    version: int = 0x20000000
    nbits: int = 0x207FFFFF
    merkle_path: tuple[bytes, ...] = ()
    extranonce_len: int = 12
    text: bytes = b"/radpool/"
    script: bytes = b"\x00\x14" + b"\x33" * 20
    outputs: tuple[tuple[bytes, int], ...] = ()
    """Script and amount each, in the place of the one output of `value_sats`."""

    def parts(self) -> tuple[bytes, bytes, bytes]:
        push = height_push(self.height) + bytes([len(self.text)]) + self.text
        push += bytes([self.extranonce_len])
        script_len = len(push) + self.extranonce_len
        prefix = struct.pack("<I", 2) + b"\x01" + bytes(32) + b"\xff" * 4
        prefix += bytes([script_len]) + push
        outputs = self.outputs or ((self.script, self.value_sats),)
        pool = b"".join(
            struct.pack("<Q", sats) + bytes([len(script)]) + script for script, sats in outputs
        )
        commitment = bytes(8) + b"\x26\x6a\x24\xaa\x21\xa9\xed" + b"\x44" * 32
        return (
            prefix,
            b"\xff" * 4 + bytes([2 + len(outputs)]) + pool,
            commitment + struct.pack("<I", 0),
        )

    def encode(self) -> bytes:
        out = struct.pack("<I", self.version) + self.prev_hash
        out += struct.pack("<II", self.nbits, self.height)
        for part in self.parts():
            out += struct.pack("<H", len(part)) + part
        return out + bytes([len(self.merkle_path)]) + b"".join(self.merkle_path)

    def digest(self) -> bytes:
        return tagged_hash("radpool/template", self.encode())


@dataclass(frozen=True)
class Share:
    owner: Owner
    template: Template = field(default_factory=Template)
    z: int = 0
    version: int = 0x20000000
    ntime: int = 1_700_000_000
    nonce: int = 0
    extranonce: bytes = bytes(12)
    connection: int = 1
    channel: int = 1
    price: int = 1_000

    def coinbase(self, msp_key: bytes) -> bytes:
        prefix, before, after = self.template.parts()
        script = self.owner.script(msp_key, self.z)
        output = bytes(8) + bytes([len(script)]) + script
        return prefix + self.extranonce + before + output + after

    def header(self, msp_key: bytes) -> bytes:
        root = sha256d(self.coinbase(msp_key))
        for sibling in self.template.merkle_path:
            root = sha256d(root + sibling)
        head = struct.pack("<I", self.version) + self.template.prev_hash + root
        return head + struct.pack("<III", self.ntime, self.template.nbits, self.nonce)

    def hash(self, msp_key: bytes) -> bytes:
        return sha256d(self.header(msp_key))

    def mined(self, msp_key: bytes) -> Share:
        """Returns the share with the first nonce that meets its exponent."""
        header = self.header(msp_key)[:76]
        nonce = self.nonce
        while int.from_bytes(sha256d(header + struct.pack("<I", nonce)), "little") >> (
            256 - self.z
        ):
            nonce += 1
        return replace(self, nonce=nonce)


@dataclass(frozen=True)
class Sealed:
    blob: bytes
    hash: bytes
    root: bytes
    count: int
    work: int
    value: int
    sums: list[tuple[int, int, int, int, int, int]]
    header_hashes: bytes
    share_keys: bytes
    bodies: list[tuple[bytes, bytes, int, int]]


def packed(sums: tuple[int, ...]) -> bytes:
    return b"".join(part.to_bytes(16, "little") for part in sums)


def merkle_root(leaves: list[tuple[bytes, int]]) -> tuple[bytes, int]:
    """Computes the root of a tree that sums up one number."""
    root, (total,) = sums_root([(digest, (number,)) for digest, number in leaves])
    return root, total


def sums_root(leaves: list[tuple[bytes, tuple[int, ...]]]) -> tuple[bytes, tuple[int, ...]]:
    if len(leaves) == 1:
        return leaves[0]
    above = []
    tag = "radpool/node/2" if len(leaves[0][1]) > 1 else "radpool/node"
    for left, right in zip(leaves[::2], leaves[1::2], strict=False):
        both = packed(left[1]) + packed(right[1])
        total = tuple(a + b for a, b in zip(left[1], right[1], strict=True))
        above.append((tagged_hash(tag, left[0], right[0], both), total))
    return sums_root(above + leaves[2 * len(above) :])


def seal(
    shares: list[Share],
    key: Key,
    sequence: int = 0,
    previous: bytes = NO_BATCH,
    time_ms: int = 1_700_000_000_000,
    *,
    weight: tuple[int, int, int] = (1, 32, 0),
    epoch_min: int = 0,
    **overrides: Any,
) -> Sealed:
    """Seals shares; `overrides` put wrong claims into the head, for vectors of what is refused.

    A weight of mode 0 makes a batch of version 1.
    """
    is_priced = weight[0] > 0
    templates: list[tuple[Template, int]] = []
    owners: list[Owner] = []
    records, leaves, hashes = [], [], []
    sums: dict[tuple[int, int, int], tuple[int, int, int]] = {}
    for share in shares:
        entry = share.template, share.price if is_priced else 0
        if entry not in templates:
            templates.append(entry)
        if share.owner not in owners:
            owners.append(share.owner)
        indices = templates.index(entry), owners.index(share.owner)
        fixed = (share.z, len(share.extranonce), share.version, share.ntime, share.nonce)
        record = struct.pack("<HHBBIII", *indices, *fixed) + share.extranonce
        records.append(record)
        earned = (1 << share.z, entry[1] << share.z - weight[2])
        parts = earned if is_priced else earned[:1]
        tag = "radpool/leaf/2" if is_priced else "radpool/leaf"
        leaves.append((tagged_hash(tag, record, packed(parts)), parts))
        hashes.append(share.hash(key.public))
        place = (share.owner.account, max(share.owner.epoch, epoch_min), share.owner.rail)
        count, work, value = sums.get(place, (0, 0, 0))
        sums[place] = (count + 1, work + earned[0], value + earned[1])
    root, (work, *rest) = sums_root(leaves)
    value = rest[0] if rest else 0
    head = (
        b"RPSB"
        + bytes([2 if is_priced else 1])
        + key.public
        + struct.pack("<Q", sequence)
        + previous
    )
    head += struct.pack("<QI", time_ms, epoch_min) + (bytes(weight) if is_priced else b"")
    head += struct.pack("<H", len(templates))
    for template, price in templates:
        head += template.digest() + (packed((price,)) if is_priced else b"")
    head += struct.pack("<H", len(owners))
    head += b"".join(o.commitment + struct.pack("<IB", o.epoch, o.rail) for o in owners)
    head += struct.pack("<I", overrides.get("count", len(shares)))
    head += int(overrides.get("work", work)).to_bytes(16, "little")
    head += packed((int(overrides.get("value", value)),)) if is_priced else b""
    head += bytes(overrides.get("root", root))
    batch_hash = tagged_hash("radpool/batch", head)
    return Sealed(
        blob=head + b"".join(records) + key.sign(batch_hash),
        hash=batch_hash,
        root=root,
        count=len(shares),
        work=work,
        value=value,
        sums=[(*place, *total) for place, total in sorted(sums.items())],
        header_hashes=b"".join(hashes),
        share_keys=b"".join(
            struct.pack(">I", share.ntime) + value[:16]
            for share, value in zip(shares, hashes, strict=True)
        ),
        bodies=[(t.digest(), t.encode(), t.height, price) for t, price in templates],
    )


class ShareBatch:
    """Stands in for the engine's batch of validated shares."""

    def __init__(self, shares: list[Share]) -> None:
        self.shares = shares
        self.sealed = 0

    def __len__(self) -> int:
        return len(self.shares)

    def seal(
        self,
        key: Key,
        sequence: int,
        previous: bytes,
        time_ms: int,
        *,
        weight: tuple[int, int, int] = (1, 32, 0),
        epoch_min: int = 0,
        excluding: Sequence[int] = (),
    ) -> Sealed:
        self.sealed += 1
        kept = [share for index, share in enumerate(self.shares) if index not in excluding]
        return seal(kept, key, sequence, previous, time_ms, weight=weight, epoch_min=epoch_min)

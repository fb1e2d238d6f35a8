"""Writes owner tags, template bodies, batches and trees as the pages 02 and 03 have them.

The vectors' generators use this and nothing of the product, so that each vector that a test accepts
is an agreement of two implementations.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from secp256k1 import public_key, sign, tagged_hash

HERE = Path(__file__).resolve().parent

OWNER_SCRIPT_START = bytes([0x6A, 0x26]) + b"RADP"


def sha256d(data: bytes) -> bytes:
    return sha256(sha256(data).digest()).digest()


def le(number: int, length: int) -> bytes:
    return number.to_bytes(length, "little")


def named(name: str, length: int = 32) -> bytes:
    """Makes bytes that look random and can be recomputed: the start of the hash of their name."""
    return sha256(b"radpool vector " + name.encode()).digest()[:length]


def compact_size(number: int) -> bytes:
    return le(number, 1) if number < 0xFD else b"\xfd" + le(number, 2)


def output(value_sats: int, script: bytes) -> bytes:
    return le(value_sats, 8) + compact_size(len(script)) + script


def height_push(height: int) -> bytes:
    if height == 0:
        return b"\x00"
    if height <= 16:
        return bytes([0x50 + height])
    number = le(height, height.bit_length() // 8 + 1)
    return bytes([len(number)]) + number


# Page 02.


def commitment_of(account: str, salt: bytes) -> bytes:
    return tagged_hash("radpool/account", account.encode(), salt)


@dataclass(frozen=True)
class Owner:
    commitment: bytes
    epoch: int = 1
    rail: int = 0

    def binding(self, msp_key: bytes, z: int) -> bytes:
        fields = msp_key + self.commitment + le(self.epoch, 4) + le(self.rail, 1) + le(z, 1)
        return tagged_hash("radpool/owner", fields)

    def script(self, msp_key: bytes, z: int) -> bytes:
        return OWNER_SCRIPT_START + bytes([0x10 | self.rail, z]) + self.binding(msp_key, z)

    def entry(self) -> bytes:
        return self.commitment + le(self.epoch, 4) + le(self.rail, 1)


# Page 03.

POOL_OUTPUT = output(5_000_000_000, bytes([0, 20]) + named("pool script", 20))
WITNESS_COMMITMENT = output(0, bytes.fromhex("6a24aa21a9ed") + named("witness commitment"))


@dataclass(frozen=True)
class Body:
    prefix: bytes
    before_tag: bytes
    after_tag: bytes
    version: int = 0x20000000
    prev_hash: bytes = named("previous block")
    nbits: int = 0x207FFFFF
    height: int = 101
    path: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        parts = (self.prefix, self.before_tag, self.after_tag)
        head = le(self.version, 4) + self.prev_hash + le(self.nbits, 4) + le(self.height, 4)
        lengths_and_parts = b"".join(le(len(part), 2) + part for part in parts)
        return head + lengths_and_parts + le(len(self.path), 1) + b"".join(self.path)

    def digest(self) -> bytes:
        return tagged_hash("radpool/template", self.encode())

    def coinbase(self, extranonce: bytes, owner_output: bytes) -> bytes:
        return self.prefix + extranonce + self.before_tag + owner_output + self.after_tag

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "prev_hash": self.prev_hash.hex(),
            "nbits": self.nbits,
            "height": self.height,
            "coinbase_prefix": self.prefix.hex(),
            "coinbase_before_tag": self.before_tag.hex(),
            "coinbase_after_tag": self.after_tag.hex(),
            "merkle_path": [sibling.hex() for sibling in self.path],
        }


def coinbase_start(script_start: bytes, extranonce_len: int, inputs: int = 1) -> bytes:
    outpoint = bytes(32) + b"\xff" * 4
    script_len = len(script_start) + extranonce_len
    return le(2, 4) + le(inputs, 1) + outpoint + le(script_len, 1) + script_start


def template(
    *,
    height: int = 101,
    extranonce_len: int = 12,
    value_sats: int = 5_000_000_000,
    push: bytes | None = None,
    **fields: Any,
) -> Body:
    """Lays a template out as a pool does: pool output, owner output, witness commitment."""
    start = height_push(height) if push is None else push
    if extranonce_len:
        start += bytes([8]) + b"/radpool" + bytes([extranonce_len])
    pool = output(value_sats, bytes([0, 20]) + named("pool script", 20))
    defaults: dict[str, Any] = {
        "prefix": coinbase_start(start, extranonce_len),
        "before_tag": b"\xff" * 4 + bytes([3]) + pool,
        "after_tag": WITNESS_COMMITMENT + le(0, 4),
        "height": height,
    }
    return Body(**{**defaults, **fields})


@dataclass(frozen=True)
class Share:
    owner: Owner
    body: Body
    z: int = 0
    version: int = 0x20000000
    ntime: int = 1_790_000_000
    nonce: int = 0
    extranonce: bytes = bytes(12)
    price: int = 1_000_000_007

    def header(self, msp_key: bytes) -> bytes:
        owner_output = output(0, self.owner.script(msp_key, self.z))
        root = sha256d(self.body.coinbase(self.extranonce, owner_output))
        for sibling in self.body.path:
            root = sha256d(root + sibling)
        start = le(self.version, 4) + self.body.prev_hash + root
        return start + le(self.ntime, 4) + le(self.body.nbits, 4) + le(self.nonce, 4)

    def hash(self, msp_key: bytes) -> bytes:
        return sha256d(self.header(msp_key))

    def zeros(self, msp_key: bytes) -> int:
        return 256 - int.from_bytes(self.hash(msp_key), "little").bit_length()

    def record(self, template_index: int, owner_index: int) -> bytes:
        indices = le(template_index, 2) + le(owner_index, 2)
        sizes = le(self.z, 1) + le(len(self.extranonce), 1)
        fields = le(self.version, 4) + le(self.ntime, 4) + le(self.nonce, 4)
        return indices + sizes + fields + self.extranonce


def mined(msp_key: bytes, share: Share, zeros: int | None = None) -> Share:
    """Returns the share with the first nonce whose hash has enough zero bits: z if not said."""
    wanted = share.z if zeros is None else zeros
    for nonce in range(2**32):
        attempt = Share(**{**share.__dict__, "nonce": nonce})
        if attempt.zeros(msp_key) >= wanted:
            return attempt
    raise AssertionError("2^32 nonces are enough for the exponents of vectors")


Sums = tuple[int, ...]
"""Work alone in version 1, work and value in version 2."""

Node = tuple[bytes, Sums]


def suffix(sums: Sums) -> str:
    return "" if len(sums) == 1 else "/2"


def sums_bytes(sums: Sums) -> bytes:
    return b"".join(le(part, 16) for part in sums)


def leaf(record: bytes, *sums: int) -> Node:
    return tagged_hash("radpool/leaf" + suffix(sums), record, sums_bytes(sums)), sums


def join(left: Node, right: Node) -> Node:
    both = left[0] + right[0] + sums_bytes(left[1]) + sums_bytes(right[1])
    total = tuple(a + b for a, b in zip(left[1], right[1], strict=True))
    return tagged_hash("radpool/node" + suffix(total), both), total


def levels(leaves: list[Node]) -> list[list[Node]]:
    """Returns all levels of the tree, the leaves first, the root last."""
    tree = [leaves]
    while len(tree[-1]) > 1:
        below = tree[-1]
        above = [join(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
        tree.append(above + below[2 * len(above) :])
    return tree


def proof(leaves: list[Node], index: int) -> list[Node]:
    path = []
    for level in levels(leaves)[:-1]:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        index //= 2
    return path


@dataclass
class Draft:
    """Is a batch whose parts can be put wrong before it is signed; None means the right value."""

    secret: bytes
    shares: list[Share]
    sequence: int = 0
    previous: bytes = bytes(32)
    time_ms: int = 1_790_000_000_000
    epoch_min: int = 1
    magic: bytes = b"RPSB"
    version: int = 2
    weight: tuple[int, int, int] = (1, 32, 0)
    templates: list[bytes] | None = None
    owners: list[bytes] | None = None
    records: list[bytes] | None = None
    count: int | None = None
    work: int | None = None
    value: int | None = None
    root: bytes | None = None
    signer: bytes | None = None
    bodies: list[Body] = field(default_factory=list)

    def __post_init__(self) -> None:  # noqa: C901 - one line for each part that is not given
        owners: list[Owner] = []
        entries: list[bytes] = []
        for share in self.shares:
            if share.body not in self.bodies:
                self.bodies.append(share.body)
            if self.entry(share) not in entries:
                entries.append(self.entry(share))
            if share.owner not in owners:
                owners.append(share.owner)
        indices = [(entries.index(self.entry(s)), owners.index(s.owner)) for s in self.shares]
        if self.records is None:
            pairs = zip(self.shares, indices, strict=True)
            self.records = [share.record(*index) for share, index in pairs]
        if self.templates is None:
            self.templates = entries
        if self.owners is None:
            self.owners = [owner.entry() for owner in owners]
        counted = self.shares[: len(self.records)]
        if self.root is None:
            self.root = levels(self.leaves())[-1][0][0] if counted else bytes(32)
        if self.work is None:
            self.work = sum(2**share.z for share in counted)
        if self.value is None:
            self.value = sum(self.value_of(share) for share in counted)
        self.count = len(self.shares) if self.count is None else self.count

    @property
    def public(self) -> bytes:
        return public_key(self.secret)

    def entry(self, share: Share) -> bytes:
        """Writes the entry of a share's template in the table of templates."""
        digest = share.body.digest()
        return digest if self.version == 1 else digest + le(share.price, 16)

    def value_of(self, share: Share) -> int:
        return share.price << max(share.z - self.weight[2], 0)

    def sums(self, share: Share) -> Sums:
        work = 2**share.z
        return (work,) if self.version == 1 else (work, self.value_of(share))

    def leaves(self) -> list[Node]:
        pairs = zip(self.shares, self.records or [], strict=False)
        return [leaf(record, *self.sums(share)) for share, record in pairs]

    def head(self) -> bytes:
        assert self.templates is not None
        assert self.owners is not None
        assert self.count is not None
        assert self.work is not None
        assert self.value is not None
        assert self.root is not None
        chain = self.public + le(self.sequence, 8) + self.previous
        times = le(self.time_ms, 8) + le(self.epoch_min, 4)
        if self.version != 1:
            times += bytes(self.weight)
        tables = le(len(self.templates), 2) + b"".join(self.templates)
        tables += le(len(self.owners), 2) + b"".join(self.owners)
        claims = le(self.count, 4) + le(self.work, 16)
        claims += (le(self.value, 16) if self.version != 1 else b"") + self.root
        return self.magic + le(self.version, 1) + chain + times + tables + claims

    def hash(self) -> bytes:
        return tagged_hash("radpool/batch", self.head())

    def blob(self) -> bytes:
        signature = sign(self.signer or self.secret, self.hash())
        return self.head() + b"".join(self.records or []) + signature

    def body_map(self) -> dict[str, str]:
        return {body.digest().hex(): body.encode().hex() for body in self.bodies}


def write(name: str, description: list[str], groups: dict[str, Any]) -> None:
    """Writes a file of vectors beside this one, or where the command line says."""
    ids = [case["id"] for cases in groups.values() for case in cases]
    assert len(set(ids)) == len(ids), "two vectors of a file have the same id"
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    document = {"description": description, **groups}
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=True) + "\n"
    (directory / name).write_text(text, encoding="ascii")

"""Reads share batches and recomputes everything that they claim.

Source: `spec/03-share-batch.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from radpool_sv2.units import EXPONENT_MAX, leading_zero_bits, sha256d, tagged_hash
from radpool_sv2.verify.bip340 import is_signed_by
from radpool_sv2.verify.coinbase import CoinbaseFault, check_coinbase, owner_script
from radpool_sv2.verify.reader import Reader, TruncatedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "EVIDENCE",
    "Batch",
    "BatchFault",
    "Body",
    "Owner",
    "PricedTemplate",
    "Share",
    "VerifiedShare",
    "Weight",
    "decode_batch",
    "decode_body",
    "open_batch",
    "verify_batch",
    "verify_share",
]

MAGIC = b"RPSB"
VERSION = 2
VERSION_WORK = 1
SHARES_MAX = 65_535
EXTRANONCE_MAX = 32
RAIL_MAX = 2
MERKLE_PATH_MAX = 32
SUM_MAX = 2**128 - 1
PRICE_LEN = 16
SIGNATURE_LEN = 64

MODES = (1, 2, 3)
"""Value, difficulty, slice."""

VERSION_MASK = 0x1FFFFFE0
"""The version bits that a miner may change."""


class BatchFault(Exception):  # noqa: N818 - a verdict about an MSP, not an error of this program
    """Says what is wrong with a batch.

    Attributes:
        code: The word of the test vectors.
        share: The index of the share that is at fault, if it is one.
    """

    def __init__(self, code: str, share: int | None = None) -> None:
        super().__init__(code, share)
        self.code = code
        self.share = share

    def __str__(self) -> str:
        place = "" if self.share is None else f"share {self.share}: "
        return f"{place}{WORDS[self.code]}"


EVIDENCE = frozenset(
    {
        "template-shape",
        "coinbase",
        "height",
        "owner-tag",
        "version-bits",
        "insufficient-work",
        "duplicate-share",
    }
)
"""The codes that convict the MSP.

The signature covers the head alone: until the records have its root and the bodies its digests,
whoever passed the bytes on may have altered them.
"""

WORDS = {
    "truncated": "the batch ends inside a field",
    "trailing-bytes": "bytes follow the signature",
    "magic": 'it does not begin with "RPSB"',
    "version": "only versions 1 and 2 are known",
    "weight": "a rule of weight that is not defined",
    "rail": "an owner with a rail that is not defined",
    "exponent": "an exponent above 120 or below the base of the batch",
    "extranonce-length": "an extranonce of more than 32 bytes",
    "share-count": "a batch has 1 to 65535 shares",
    "table-order": "the tables are not in order of first use, or hold an entry that is not used",
    "table-repeat": "a table holds the same entry twice",
    "signature": "the signature is not that of the MSP",
    "work-sum": "the shares' work does not sum to what is claimed",
    "value-sum": "the shares' value does not sum to what is claimed",
    "root": "the Merkle-sum root is not that of the shares",
    "template-missing": "a template body is missing",
    "template-digest": "a template body does not have the digest that it is named by",
    "template-shape": "a template body is not well formed",
    "coinbase": "template and extranonce do not make a coinbase",
    "height": "the coinbase does not begin with the template's height",
    "owner-tag": "the coinbase does not have exactly one owner output, of this owner and exponent",
    "version-bits": "version bits differ from the template's outside the rollable ones",
    "insufficient-work": "the header's hash does not meet the exponent of its tag",
    "duplicate-share": "the same header was counted before",
}


Node = tuple[bytes, tuple[int, ...]]
"""A node of the tree: its hash and the sums below it."""


@dataclass(frozen=True, slots=True)
class Weight:
    """Is the rule that prices are made by; see `spec/09-template-value.md`."""

    mode: int
    scale: int
    base: int


@dataclass(frozen=True, slots=True)
class PricedTemplate:
    """Is an entry of a batch's table of templates; its price is 0 in version 1."""

    digest: bytes
    price: int


@dataclass(frozen=True, slots=True)
class Owner:
    """Is an entry of a batch's table of owners."""

    commitment: bytes
    epoch: int
    rail: int


@dataclass(frozen=True, slots=True)
class Share:
    """Is a share as its record has it; `record` are its bytes."""

    template: int
    owner: int
    exponent: int
    version: int
    ntime: int
    nonce: int
    extranonce: bytes
    record: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Is a batch that was read: its form is right, none of its claims is checked yet.

    `weight` is None in version 1, which knows no prices; its shares have no value.
    """

    msp_key: bytes
    sequence: int
    previous: bytes
    time_ms: int
    epoch_min: int
    weight: Weight | None
    templates: Sequence[PricedTemplate]
    owners: Sequence[Owner]
    count: int
    work: int
    value: int
    root: bytes
    hash: bytes
    shares: Sequence[Share]
    signature: bytes


@dataclass(frozen=True, slots=True)
class Body:
    """Is a template body; see the specification."""

    version: int
    prev_hash: bytes
    nbits: int
    height: int
    coinbase_prefix: bytes
    coinbase_before_tag: bytes
    coinbase_after_tag: bytes
    merkle_path: Sequence[bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifiedShare:
    """Is a share whose proof of work was recomputed.

    Attributes:
        hash: The header's hash, internal byte order.
        owner: Whose it is.
        epoch: The epoch that it counts in.
        work: The hashes that it takes on average.
        value: What it is worth; 0 in version 1.
        template: The template that it was mined on.
        weight: The rule that it is weighed by; None in version 1.
        height: The height that it was mined for.
        prev_hash: The block that it builds on, internal byte order.
        nbits: The header's compact target.
        coinbase: Its coinbase without witness.
    """

    hash: bytes
    owner: Owner
    epoch: int
    work: int
    value: int
    template: PricedTemplate
    weight: Weight | None
    height: int
    prev_hash: bytes
    nbits: int
    coinbase: bytes


def decode_batch(blob: bytes) -> Batch:
    """Reads a batch, strictly: each batch has exactly one encoding.

    Raises:
        BatchFault: The bytes are no batch.
    """
    try:
        return _decode(blob)
    except TruncatedError:
        raise BatchFault("truncated") from None


def _decode(blob: bytes) -> Batch:
    reader = Reader(blob)
    if reader.take(4) != MAGIC:
        raise BatchFault("magic")
    version = reader.number(1)
    if version not in {VERSION, VERSION_WORK}:
        raise BatchFault("version")
    msp_key, sequence, previous = reader.take(32), reader.number(8), reader.take(32)
    time_ms, epoch_min = reader.number(8), reader.number(4)
    weight = _weight(reader) if version == VERSION else None
    price_len = 0 if weight is None else PRICE_LEN
    entry_len = 32 + price_len
    table = Reader(reader.take(entry_len * reader.number(2)))
    templates = [
        PricedTemplate(table.take(32), table.number(price_len))
        for _ in range(table.left // entry_len)
    ]
    table = Reader(reader.take(37 * reader.number(2)))
    owners = [_owner(table) for _ in range(table.left // 37)]
    count, work = reader.number(4), reader.number(16)
    value, root = reader.number(price_len), reader.take(32)
    head_len = reader.at
    if not 1 <= count <= SHARES_MAX:
        raise BatchFault("share-count")
    shares: list[Share] = []
    templates_used = owners_used = 0
    for index in range(count):
        share = _share(reader, blob, index)
        if weight is not None and share.exponent < weight.base:
            raise BatchFault("exponent", index)
        if share.template > templates_used or share.owner > owners_used:
            raise BatchFault("table-order", index)
        templates_used = max(templates_used, share.template + 1)
        owners_used = max(owners_used, share.owner + 1)
        shares.append(share)
    if (templates_used, owners_used) != (len(templates), len(owners)):
        raise BatchFault("table-order")
    signature = reader.take(SIGNATURE_LEN)
    if reader.left:
        raise BatchFault("trailing-bytes")
    if len(set(templates)) < len(templates) or len(set(owners)) < len(owners):
        raise BatchFault("table-repeat")
    return Batch(
        msp_key=msp_key,
        sequence=sequence,
        previous=previous,
        time_ms=time_ms,
        epoch_min=epoch_min,
        weight=weight,
        templates=templates,
        owners=owners,
        count=count,
        work=work,
        value=value,
        root=root,
        hash=tagged_hash("radpool/batch", blob[:head_len]),
        shares=shares,
        signature=signature,
    )


def _weight(reader: Reader) -> Weight:
    weight = Weight(reader.number(1), reader.number(1), reader.number(1))
    if weight.mode not in MODES or weight.base > EXPONENT_MAX:
        raise BatchFault("weight")
    return weight


def _owner(reader: Reader) -> Owner:
    owner = Owner(reader.take(32), reader.number(4), reader.number(1))
    if owner.rail > RAIL_MAX:
        raise BatchFault("rail")
    return owner


def _share(reader: Reader, blob: bytes, index: int) -> Share:
    start = reader.at
    template, owner, exponent = reader.number(2), reader.number(2), reader.number(1)
    extranonce_len, version = reader.number(1), reader.number(4)
    ntime, nonce = reader.number(4), reader.number(4)
    if exponent > EXPONENT_MAX:
        raise BatchFault("exponent", index)
    if extranonce_len > EXTRANONCE_MAX:
        raise BatchFault("extranonce-length", index)
    extranonce = reader.take(extranonce_len)
    record = blob[start : reader.at]
    return Share(template, owner, exponent, version, ntime, nonce, extranonce, record)


def decode_body(encoded: bytes) -> Body:
    """Reads a template body, strictly.

    Raises:
        BatchFault: The bytes are no template body.
    """
    reader = Reader(encoded)
    try:
        version, prev_hash = reader.number(4), reader.take(32)
        nbits, height = reader.number(4), reader.number(4)
        prefix, before, after = (reader.take(reader.number(2)) for _ in range(3))
        path_len = reader.number(1)
        if path_len > MERKLE_PATH_MAX:
            raise BatchFault("template-shape")
        path = [reader.take(32) for _ in range(path_len)]
    except TruncatedError:
        raise BatchFault("template-shape") from None
    if reader.left:
        raise BatchFault("template-shape")
    return Body(version, prev_hash, nbits, height, prefix, before, after, path)


def verify_batch(blob: bytes, bodies: Mapping[bytes, bytes]) -> tuple[Batch, list[VerifiedShare]]:
    """Recomputes everything that a batch claims.

    Args:
        blob: The batch.
        bodies: Encoded template bodies by digest.

    Raises:
        BatchFault: Something is not as claimed; the first such thing.
    """
    batch, opened = open_batch(blob, bodies)
    shares: list[VerifiedShare] = []
    seen: set[bytes] = set()
    scripts: dict[tuple[int, int], bytes] = {}
    for index in range(len(batch.shares)):
        verified = verify_share(batch, opened, index, scripts)
        if verified.hash in seen:
            raise BatchFault("duplicate-share", index)
        seen.add(verified.hash)
        shares.append(verified)
    return batch, shares


def open_batch(blob: bytes, bodies: Mapping[bytes, bytes]) -> tuple[Batch, list[Body]]:
    """Checks a batch but for its shares: form, signature, sums, template bodies.

    Args:
        blob: The batch.
        bodies: Encoded template bodies by digest.

    Returns:
        The batch, and the bodies of its table of templates.

    Raises:
        BatchFault: Something is not as claimed; the first such thing.
    """
    batch = decode_batch(blob)
    if not is_signed_by(batch.msp_key, batch.hash, batch.signature):
        raise BatchFault("signature")
    _check_sums(batch)
    return batch, [_body(template.digest, bodies) for template in batch.templates]


def verify_share(
    batch: Batch, opened: Sequence[Body], index: int, scripts: dict[tuple[int, int], bytes]
) -> VerifiedShare:
    """Recomputes one share of a batch: its owner, its proof of work.

    Args:
        batch: The batch.
        opened: Its bodies, as `open_batch` returns them.
        index: The share's place.
        scripts: Is filled with owner outputs that other shares may need.

    Raises:
        BatchFault: The share is not what it claims.
    """
    share = batch.shares[index]
    owner = batch.owners[share.owner]
    key = (share.owner, share.exponent)
    if key not in scripts:
        scripts[key] = owner_script(
            batch.msp_key, owner.commitment, owner.epoch, owner.rail, share.exponent
        )
    body = opened[share.template]
    try:
        block_hash, coinbase = _hash(share, body, scripts[key])
    except CoinbaseFault as fault:
        raise BatchFault(fault.code, index) from None
    return VerifiedShare(
        hash=block_hash,
        owner=owner,
        epoch=max(owner.epoch, batch.epoch_min),
        work=1 << share.exponent,
        value=_value(batch, share),
        template=batch.templates[share.template],
        weight=batch.weight,
        height=body.height,
        prev_hash=body.prev_hash,
        nbits=body.nbits,
        coinbase=coinbase,
    )


def _value(batch: Batch, share: Share) -> int:
    """Computes what a share is worth; its template and exponent were checked."""
    if batch.weight is None:
        return 0
    return batch.templates[share.template].price << share.exponent - batch.weight.base


def _check_sums(batch: Batch) -> None:
    works = [1 << share.exponent for share in batch.shares]
    values = [_value(batch, share) for share in batch.shares]
    for name, parts, claimed in (("work", works, batch.work), ("value", values, batch.value)):
        if sum(parts) > SUM_MAX or sum(parts) != claimed:
            raise BatchFault(f"{name}-sum")
    tags = ("radpool/leaf", "radpool/node")
    sums: list[tuple[int, ...]] = [(work,) for work in works]
    if batch.weight is not None:
        tags = ("radpool/leaf/2", "radpool/node/2")
        sums = list(zip(works, values, strict=True))
    nodes = [
        (tagged_hash(tags[0], share.record, _packed(parts)), parts)
        for share, parts in zip(batch.shares, sums, strict=True)
    ]
    while len(nodes) > 1:
        nodes = [
            nodes[at] if at + 1 == len(nodes) else _join(tags[1], nodes[at], nodes[at + 1])
            for at in range(0, len(nodes), 2)
        ]
    if nodes[0][0] != batch.root:
        raise BatchFault("root")


def _packed(sums: tuple[int, ...]) -> bytes:
    return b"".join(part.to_bytes(16, "little") for part in sums)


def _join(tag: str, left: Node, right: Node) -> Node:
    total = tuple(a + b for a, b in zip(left[1], right[1], strict=True))
    digest = tagged_hash(tag, left[0], right[0], _packed(left[1]) + _packed(right[1]))
    return digest, total


def _body(digest: bytes, bodies: Mapping[bytes, bytes]) -> Body:
    encoded = bodies.get(digest)
    if encoded is None:
        raise BatchFault("template-missing")
    if tagged_hash("radpool/template", encoded) != digest:
        raise BatchFault("template-digest")
    return decode_body(encoded)


def _hash(share: Share, body: Body, script: bytes) -> tuple[bytes, bytes]:
    if (share.version ^ body.version) & ~VERSION_MASK:
        raise CoinbaseFault("version-bits")
    output = bytes(8) + bytes([len(script)]) + script
    coinbase = b"".join(
        (
            body.coinbase_prefix,
            share.extranonce,
            body.coinbase_before_tag,
            output,
            body.coinbase_after_tag,
        )
    )
    extranonce_at = len(body.coinbase_prefix)
    check_coinbase(coinbase, extranonce_at, len(share.extranonce), body.height, script)
    root = sha256d(coinbase)
    for sibling in body.merkle_path:
        root = sha256d(root + sibling)
    header = b"".join(
        (
            share.version.to_bytes(4, "little"),
            body.prev_hash,
            root,
            share.ntime.to_bytes(4, "little"),
            body.nbits.to_bytes(4, "little"),
            share.nonce.to_bytes(4, "little"),
        )
    )
    block_hash = sha256d(header)
    if leading_zero_bits(block_hash) < share.exponent:
        raise CoinbaseFault("insufficient-work")
    return block_hash, coinbase

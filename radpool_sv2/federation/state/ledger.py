"""Holds the books of a federation behind an epoch, in one encoding.

The books are the whole of what the next epoch depends on: who has them and the next epoch's
segments computes the next books. Members compare and sign their root.

Source: `spec/15-checkpoint-state.md`, "Books", "Root".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from radpool_sv2._native.threshold import TREASURY
from radpool_sv2.federation.codec import (
    HASH_LEN,
    KEY_LEN,
    CodecError,
    Reader,
    Tag,
    sized,
    u8,
    u16,
    u32,
    u64,
)
from radpool_sv2.federation.state.payload import (
    BODY_BYTES_MAX,
    SCRIPT_BYTES_MAX,
    Found,
    KeySaid,
    Tip,
)
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.federation.state.tree import SUM_LEN, Row, root_of
from radpool_sv2.federation.treasury.output import SyndicateOutput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from radpool_sv2.federation.state.rules import Rules

__all__ = [
    "FINGERPRINT_LEN",
    "Block",
    "Books",
    "Distribution",
    "FormerKey",
    "KnownKey",
    "Ledger",
    "Slot",
    "Stake",
    "Verdict",
    "output_of_key",
    "syndicate_outputs",
    "syndicate_script",
]

HEAD_TAG: Final = Tag("radpool/federation-head")
BOOKS_TAG: Final = Tag("radpool/federation-books")

FINGERPRINT_LEN: Final = 16
BYTES_MAX: Final = 1 << 32
"""Bound of a list of fingerprints: what follows a length must be there anyway."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Says that a batch counts nothing, and why: its sender has signed what proves it.

    Attributes:
        member: Who sent it.
        seq: Number of its entry in the stream.
        code: Which fault; see `accounting.FAULTS`.
    """

    member: int
    seq: int
    code: int


@dataclass(frozen=True, slots=True)
class Slot:
    """Is what an epoch adds to the window.

    Attributes:
        epoch: The epoch.
        blocks: The blocks that its work was expected to find, in parts of 2^64 of one.
        earned: Of each member that has any: work and value.
    """

    epoch: int
    blocks: int
    earned: tuple[tuple[int, int, int], ...]


class KnownKey(NamedTuple):
    """Is a key of the federation.

    Attributes:
        key: It, without a tweak, 32 bytes x-only.
        transcript: Digest of how it was generated.
        epoch: In which it became known.
    """

    key: bytes
    transcript: bytes
    epoch: int


class FormerKey(NamedTuple):
    """Is a treasury key that another one has followed: templates may pay it for a while.

    Attributes:
        key: It, without a tweak, 32 bytes x-only.
        epoch: In which the other became known.
    """

    key: bytes
    epoch: int


class Stake(NamedTuple):
    """Is what a member has of a split.

    Attributes:
        member: Who.
        weight: What its shares in the window are worth.
        script: Where it is paid.
    """

    member: int
    weight: int
    script: bytes


class Distribution(NamedTuple):
    """Is how a coinbase pays the members that is built on some books.

    Attributes:
        root: Of these books.
        stakes: Of the members that can be paid, in ascending order.
    """

    root: bytes
    stakes: tuple[Stake, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Is a block that pays the federation.

    Attributes:
        height: Its height.
        txid: Of its coinbase, internal byte order.
        vout: Which output pays the syndicate; `NO_OUTPUT` where members are paid themselves.
        value: What it pays, sats.
        key: The treasury key that it pays, without a tweak; where members are paid themselves, the
            root of the books that say how much each of them gets.
        epoch: In which it became known.
        stakes: Among whom it is split, in ascending order; none while nobody can be paid.
        matured_epoch: In which it became known that it can be spent; -1 before.
    """

    height: int
    txid: bytes
    vout: int
    value: int
    key: bytes
    epoch: int
    stakes: tuple[Stake, ...] = ()
    matured_epoch: int = -1

    @property
    def weights(self) -> dict[int, int]:
        """What the shares of each member that is paid were worth."""
        return {stake.member: stake.weight for stake in self.stakes}

    def encode(self) -> bytes:
        """Writes the block without its hash."""
        place = u32(self.height) + self.txid + u16(self.vout) + u64(self.value)
        epochs = u32(self.epoch) + u32(self.matured_epoch + 1)
        return place + self.key + epochs + _encode_stakes(self.stakes)

    @classmethod
    def read(cls, reader: Reader) -> Block:
        """Takes it off a reader."""
        height, txid, vout = reader.u32(), reader.take(HASH_LEN), reader.u16()
        value, key, epoch = reader.u64(), reader.take(KEY_LEN), reader.u32()
        matured = reader.u32() - 1
        return cls(height, txid, vout, value, key, epoch, _read_stakes(reader), matured)


@dataclass(slots=True)
class Books:
    """Is what is known of a member.

    Attributes:
        sequence: The number that its next batch has.
        previous: The hash of its last batch; zeros before the first.
        marked: The number of epochs up to and with its last mark; 0 before the first.
        budget: What it may append until its next mark, bytes.
        script: Where it is paid, empty until it has said so.
        keys: What it has said last of keys, by purpose.
        found: What it has said of blocks that are not known yet, by hash.
        mature: Which known blocks it has said to be mature that are not known to be so.
        tips: What it has said of tips, by the block they build on.
        bodies: Template bodies that its batches may refer to, by digest.
        seen: Fingerprints of its shares by height, in the order in which they counted.
    """

    sequence: int = 0
    previous: bytes = bytes(HASH_LEN)
    marked: int = 0
    budget: int = 0
    script: bytes = b""
    keys: dict[int, KeySaid] = field(default_factory=dict)
    found: dict[bytes, Found] = field(default_factory=dict)
    mature: set[bytes] = field(default_factory=set)
    tips: dict[bytes, Tip] = field(default_factory=dict)
    bodies: dict[bytes, bytes] = field(default_factory=dict)
    seen: dict[int, bytes] = field(default_factory=dict)

    def encode(self) -> Iterator[bytes]:
        """Writes the member's part."""
        yield u64(self.sequence) + self.previous + u32(self.marked) + u64(self.budget)
        yield sized(self.script)
        yield u8(len(self.keys))
        yield from (said.encode() for _, said in sorted(self.keys.items()))
        yield u32(len(self.found))
        yield from (found.encode() for _, found in sorted(self.found.items()))
        yield u32(len(self.mature))
        yield from sorted(self.mature)
        yield u32(len(self.tips))
        yield from (tip.encode() for _, tip in sorted(self.tips.items()))
        yield u32(len(self.bodies))
        yield from (digest + sized(body) for digest, body in sorted(self.bodies.items()))
        yield u32(len(self.seen))
        yield from (u32(height) + sized(seen) for height, seen in sorted(self.seen.items()))

    @classmethod
    def read(cls, reader: Reader) -> Books:
        """Takes a member's part off a reader."""
        sequence, previous = reader.u64(), reader.take(HASH_LEN)
        marked, budget = reader.u32(), reader.u64()
        script = reader.sized(SCRIPT_BYTES_MAX, "a payout script")
        keys = [KeySaid.read(reader) for _ in range(reader.u8())]
        found = [Found.read(reader) for _ in range(reader.u32())]
        mature = {reader.take(HASH_LEN) for _ in range(reader.u32())}
        tips = [Tip.read(reader) for _ in range(reader.u32())]
        bodies = [
            (reader.take(HASH_LEN), reader.sized(BODY_BYTES_MAX, "a template body"))
            for _ in range(reader.u32())
        ]
        seen = [
            (reader.u32(), reader.sized(BYTES_MAX, "the fingerprints")) for _ in range(reader.u32())
        ]
        return cls(
            sequence,
            previous,
            marked,
            budget,
            script,
            {said.purpose: said for said in keys},
            {each.block_hash: each for each in found},
            mature,
            {tip.prev_hash: tip for tip in tips},
            dict(bodies),
            dict(seen),
        )


@dataclass
class Ledger:
    """Is the state behind an epoch.

    Attributes:
        rules: Digest of the rules that it was counted by.
        epochs: How many epochs are in it.
        exponents: The least exponent of shares, of the last epochs up to the next one.
        members: What is known of each.
        keys: Keys that a quorum has said the same of, by purpose.
        former: Treasury keys that may still be paid, oldest first.
        blocks: Blocks that pay the federation, by hash.
        distributions: How templates may pay the members, of the last epochs, oldest first; none
            where a syndicate is paid.
        window: What is paid for, whole epochs, oldest first.
        verdicts: What counted nothing in the last epoch, in ascending order.
        stale: How many shares of the last epoch were on no tip, or came too late.
        rows: What accounts have earned in the last epoch, in ascending order.
    """

    rules: bytes
    epochs: int
    exponents: tuple[int, ...]
    members: tuple[Books, ...]
    keys: dict[int, KnownKey] = field(default_factory=dict)
    former: tuple[FormerKey, ...] = ()
    blocks: dict[bytes, Block] = field(default_factory=dict)
    distributions: tuple[Distribution, ...] = ()
    window: tuple[Slot, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    stale: int = 0
    rows: tuple[Row, ...] = ()

    def weights(self) -> dict[int, int]:
        """Sums up what each member's shares in the window are worth."""
        weights = dict.fromkeys(range(len(self.members)), 0)
        for slot in self.window:
            for member, _, value in slot.earned:
                weights[member] += value
        return weights

    def stakes(self) -> tuple[Stake, ...]:
        """Lists the members that have weight and can be paid."""
        scripts = (books.script for books in self.members)
        return tuple(
            Stake(member, weight, script)
            for (member, weight), script in zip(self.weights().items(), scripts, strict=True)
            if weight and script
        )

    def direct_stakes(self) -> tuple[Stake, ...]:
        """Lists whom a coinbase pays that is built on this state.

        While nobody who can be paid has weight, all who can be paid have the same: somebody must
        be paid before anybody's work counts.
        """
        return self.stakes() or tuple(
            Stake(member, 1, books.script)
            for member, books in enumerate(self.members)
            if books.script
        )

    def root(self) -> bytes:
        """Computes what members sign: the books, and the tree over the rows."""
        return self._root

    @cached_property
    def _root(self) -> bytes:
        return BOOKS_TAG.hash(
            HEAD_TAG.hash(self._head), u32(len(self.rows)), root_of(self.rows).encode()
        )

    def encode(self) -> bytes:
        """Writes the state."""
        return b"".join((self._head, u32(len(self.rows)), *(row.encode() for row in self.rows)))

    @cached_property
    def _head(self) -> bytes:
        parts = [self.rules, u32(self.epochs), u16(len(self.exponents)), bytes(self.exponents)]
        parts.append(u16(len(self.members)))
        for books in self.members:
            parts += books.encode()
        parts.append(u8(len(self.keys)))
        parts += (
            u8(purpose) + known.key + known.transcript + u32(known.epoch)
            for purpose, known in sorted(self.keys.items())
        )
        parts.append(u16(len(self.former)))
        parts += (former.key + u32(former.epoch) for former in self.former)
        parts.append(u32(len(self.blocks)))
        parts += (name + block.encode() for name, block in sorted(self.blocks.items()))
        parts.append(u16(len(self.distributions)))
        parts += (each.root + _encode_stakes(each.stakes) for each in self.distributions)
        parts.append(u32(len(self.window)))
        for slot in self.window:
            parts += (u32(slot.epoch), _u128(slot.blocks), u16(len(slot.earned)))
            parts += (u16(who) + _u128(work) + _u128(value) for who, work, value in slot.earned)
        parts.append(u32(len(self.verdicts)))
        parts += (u16(each.member) + u64(each.seq) + u8(each.code) for each in self.verdicts)
        parts.append(u64(self.stale))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> Ledger:
        """Reads a state.

        Raises:
            CodecError: The bytes are none, or not its one encoding.
        """
        with Reader(data) as reader:
            ledger = cls(
                rules=reader.take(HASH_LEN),
                epochs=reader.u32(),
                exponents=tuple(reader.take(reader.u16())),
                members=tuple(Books.read(reader) for _ in range(reader.u16())),
                keys={
                    reader.u8(): KnownKey(reader.take(KEY_LEN), reader.take(HASH_LEN), reader.u32())
                    for _ in range(reader.u8())
                },
                former=tuple(
                    FormerKey(reader.take(KEY_LEN), reader.u32()) for _ in range(reader.u16())
                ),
                blocks={reader.take(HASH_LEN): Block.read(reader) for _ in range(reader.u32())},
                distributions=tuple(
                    Distribution(reader.take(HASH_LEN), _read_stakes(reader))
                    for _ in range(reader.u16())
                ),
                window=tuple(_read_slot(reader) for _ in range(reader.u32())),
                verdicts=tuple(
                    Verdict(reader.u16(), reader.u64(), reader.u8()) for _ in range(reader.u32())
                ),
                stale=reader.u64(),
                rows=tuple(Row.read(reader) for _ in range(reader.u32())),
            )
        if ledger.encode() != data:
            raise CodecError("the state has parts twice, or not in their order")
        return ledger


@lru_cache(maxsize=256)
def output_of_key(rules: Rules, key: bytes) -> SyndicateOutput:
    """Builds the output that blocks pay with a treasury key.

    Args:
        rules: Of the federation.
        key: Without a tweak, 32 bytes x-only.
    """
    return SyndicateOutput.of(key, rules.msp_keys, rules.faulty_max, rules.recovery_blocks)


def syndicate_outputs(rules: Rules, ledger: Ledger) -> dict[bytes, SyndicateOutput]:
    """Lists the outputs that templates may pay now, by treasury key, the current one first.

    There are none before the treasury key is known, or where members are paid themselves.
    """
    if rules.payout is PayoutMode.DIRECT or TREASURY not in ledger.keys:
        return {}
    keys = (ledger.keys[TREASURY].key, *(former.key for former in ledger.former))
    return {key: output_of_key(rules, key) for key in keys}


def syndicate_script(rules: Rules, ledger: Ledger) -> bytes:
    """Returns the script that templates should pay; empty where there is none."""
    return next((output.script for output in syndicate_outputs(rules, ledger).values()), b"")


def _encode_stakes(stakes: Iterable[Stake]) -> bytes:
    parts = [u16(each.member) + _u128(each.weight) + sized(each.script) for each in stakes]
    return u16(len(parts)) + b"".join(parts)


def _read_stakes(reader: Reader) -> tuple[Stake, ...]:
    return tuple(
        Stake(reader.u16(), _read_u128(reader), reader.sized(SCRIPT_BYTES_MAX, "a payout script"))
        for _ in range(reader.u16())
    )


def _read_slot(reader: Reader) -> Slot:
    epoch, blocks = reader.u32(), _read_u128(reader)
    earned = ((reader.u16(), _read_u128(reader), _read_u128(reader)) for _ in range(reader.u16()))
    return Slot(epoch, blocks, tuple(earned))


def _u128(number: int) -> bytes:
    return number.to_bytes(SUM_LEN, "little")


def _read_u128(reader: Reader) -> int:
    return int.from_bytes(reader.take(SUM_LEN), "little")

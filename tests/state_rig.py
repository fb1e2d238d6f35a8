"""Writes segments of streams with small real batches, for tests of the state function."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from shares import NO_BATCH, Key, Owner, Share, Template, seal, sha256d

from radpool_sv2._native.threshold import TREASURY
from radpool_sv2.federation.agreement.mark import Mark
from radpool_sv2.federation.broadcast.entry import Entry
from radpool_sv2.federation.broadcast.payload import Kind, payload_digest
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.state.ledger import output_of_key
from radpool_sv2.federation.state.payload import KeySaid, Tip, encode_bodies
from radpool_sv2.federation.state.rules import Rules
from radpool_sv2.federation.statement import Header
from radpool_sv2.weight import REGTEST

if TYPE_CHECKING:
    from radpool_sv2.federation.state.ledger import Ledger


NBITS = 0x207FFFFF
TARGET = 0x7FFFFF << 232
KEYS = tuple(Key(bytes([member + 1]) * 32) for member in range(4))

PRICE_MAX = (5_000_000_000 << 32) // 2
"""What a template of 50 bitcoin is worth where blocks take two hashes."""


def rules_of(**changes) -> Rules:
    fields = {
        "msp_keys": tuple(key.public for key in KEYS),
        "faulty_max": 1,
        "height_first": 101,
        "scale": REGTEST,
        "exponent_floor": 0,
        "shares_target": 10,
    }
    return Rules(**{**fields, **changes})


TREASURY_KEY = Key(b"\x77" * 32).public
KEY_SAID = KeySaid(TREASURY, TREASURY_KEY, bytes(32))
SCRIPT = output_of_key(rules_of(), TREASURY_KEY).script
"""The script that templates pay."""


def block(height: int) -> bytes:
    return sha256d(b"block %d" % height)


def tip(height: int, fees_sats: int = 0, **changes) -> Tip:
    return replace(Tip(block(height - 1), height, NBITS, TARGET, fees_sats), **changes)


def template(height: int, **changes) -> Template:
    fields = {"prev_hash": block(height - 1), "nbits": NBITS, "script": SCRIPT}
    return Template(height=height, **{**fields, **changes})


def owner(name: bytes = b"a", **changes) -> Owner:
    return Owner(sha256d(name), **changes)


@dataclass
class Stream:
    """Is a member's stream as its segments have it."""

    member: int
    entries: list[Entry] = field(default_factory=list)
    seq: int = 0
    sequence: int = 0
    previous: bytes = NO_BATCH
    nonce: int = 0

    @property
    def key(self) -> Key:
        return KEYS[self.member]

    def add(self, kind: int, payload: bytes) -> None:
        header = Header(
            bytes(32),
            self.member,
            self.seq,
            bytes(32),
            kind,
            len(payload),
            payload_digest(payload),
        )
        self.seq += 1
        self.entries.append(Entry(header, bytes(64), payload))

    def tip(self, height: int, fees_sats: int = 0, **changes) -> None:
        self.add(Kind.TIP, tip(height, fees_sats, **changes).encode())

    def shares(
        self, height: int, count: int = 1, z: int = 0, name: bytes = b"a", **changes
    ) -> list[Share]:
        of = changes.pop("of", None) or template(height)
        shares = []
        for _ in range(count):
            share = Share(owner(name), of, z=z, nonce=self.nonce, price=PRICE_MAX)
            share = replace(share, **changes).mined(self.key.public)
            self.nonce = share.nonce + 1
            shares.append(share)
        return shares

    def batch(self, shares: list[Share], *, bodies: bool = True, **changes):
        """Appends bodies and a batch; `changes` go to the sealing."""
        link = {"sequence": self.sequence, "previous": self.previous, "key": self.key}
        sealed = seal(shares, **{**link, **changes})
        if bodies:
            known = {digest: body for digest, body, _, _ in sealed.bodies}
            self.add(Kind.TEMPLATE, encode_bodies(list(known.values())))
        self.add(Kind.SHARE_BATCH, sealed.blob)
        self.sequence, self.previous = self.sequence + 1, sealed.hash
        return sealed

    def mine(self, height: int, count: int = 1, **changes):
        """Appends a batch of good shares."""
        return self.batch(self.shares(height, count, **changes))

    def mark(self, epoch: int) -> None:
        self.add(Kind.EPOCH_MARK, Mark(epoch, 101 + epoch, block(101 + epoch)).encode())

    def take(self) -> list[Entry]:
        taken, self.entries = self.entries, []
        return taken


class Scene:
    """Is a federation of four whose streams a test writes."""

    def __init__(self, **changes) -> None:
        self.accounting = Accounting(rules_of(**changes))
        self.streams = [Stream(member) for member in range(4)]
        self.state = b""
        self.epoch = 0
        for stream in self.streams:
            stream.add(Kind.KEY_SAID, KEY_SAID.encode())

    def tips(self, height: int, fees_sats: int = 0) -> None:
        for stream in self.streams:
            stream.tip(height, fees_sats)

    def cut(self, *, without: tuple[int, ...] = ()) -> Ledger:
        """Ends the epoch; every stream is marked, some are not in the cut."""
        for stream in self.streams:
            stream.mark(self.epoch)
        # What is not in the cut stays in the stream, and counts in a later epoch.
        segments = [each.take() for each in self.streams if each.member not in without]
        self.state = self.accounting.apply(self.state, self.epoch, segments)
        self.epoch += 1
        return self.accounting.ledger(self.state)

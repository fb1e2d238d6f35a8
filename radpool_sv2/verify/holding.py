"""Computes again what a federation holds: keys, blocks, and whom each of them pays.

This is a second reading of the pages, in plain Python. Transactions and taproot outputs are written
by hand: what is needed of them is little.

Source: `spec/15-checkpoint-state.md`, "Keys", "Blocks", "Distribution";
`spec/17-federation-coinbase.md`.
"""

from __future__ import annotations

from collections import Counter as Tally
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from radpool_sv2.units import sha256d, tagged_hash
from radpool_sv2.verify.bip340 import is_point, tweaked_key
from radpool_sv2.verify.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from radpool_sv2.verify.books import Rules

__all__ = ["Holding", "Payout", "Stake", "output_key", "skip", "skip_head"]

KEY, FOUND, MATURE = 14, 15, 16
TREASURY = 2
PURPOSES = 1, 2, 3
DIRECT = 1

NO_OUTPUT = 0xFFFF
SATS_MAX = 21 * 10**14
DUST = 546
EPOCHS = 64
"""For so many epochs what was the way to pay is a way to pay."""

Stake = tuple[int, int, bytes]
"""A member, its weight, and its script."""

Output = tuple[int, bytes]
"""An amount in satoshi, and a script."""


class Payout(NamedTuple):
    """Says whom a block of the federation pays.

    Attributes:
        block: Its hash, internal byte order.
        height: Its height.
        value: What it pays, sats.
        parts: Of each member that gets some: member, sats and script.
        fee: What the payout leaves to miners; 0 where the coinbase pays the members.
        txid: Of the payout, internal byte order; empty where there is none.
        is_mature: Whether the books want the payout made.
    """

    block: bytes
    height: int
    value: int
    parts: tuple[tuple[int, int, bytes], ...]
    fee: int
    txid: bytes
    is_mature: bool


@dataclass(slots=True)
class _Member:
    keys: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    found: dict[bytes, bytes] = field(default_factory=dict)
    mature: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class _Block:
    height: int
    txid: bytes
    vout: int
    value: int
    key: bytes
    epoch: int
    stakes: list[Stake]
    matured: int = 0


class Holding:
    """Follows keys and blocks, epoch after epoch.

    Args:
        rules: By which.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._members = [_Member() for _ in rules.keys]
        self._keys: dict[int, tuple[bytes, bytes, int]] = {}
        self._former: list[tuple[bytes, int]] = []
        self._blocks: dict[bytes, _Block] = {}
        self._distributions: list[tuple[bytes, list[Stake]]] = []
        self._outputs: dict[bytes, bytes] = {}
        self._payouts: dict[bytes, Payout] = {}

    @property
    def is_direct(self) -> bool:
        """Says whether members are paid in the coinbase."""
        return self._rules.payout == DIRECT

    def build_on(self, root: bytes, stakes: list[Stake]) -> None:
        """Takes in how templates pay that are built on the last books."""
        self._distributions = [*self._distributions, (root, stakes)][-EPOCHS:]

    def listen(self, who: int, kind: int, payload: bytes, end: int) -> None:
        """Takes in what a member says in an epoch that ends at a height."""
        member = self._members[who]
        if kind == KEY and len(payload) == 1 + 32 + 32:
            purpose, key = payload[0], payload[1:33]
            if purpose in PURPOSES and is_point(b"\x02" + key):
                member.keys[purpose] = key, payload[33:]
        elif kind == FOUND and len(payload) == 32 + 4 + 32 + 2 + 8 + 32:
            name, height = payload[:32], int.from_bytes(payload[32:36], "little")
            lateness = self._rules.lateness
            if (
                int.from_bytes(payload[70:78], "little") <= SATS_MAX
                and name not in member.found
                and len(member.found) < 2 * lateness + 8
                and end + 1 - lateness <= height <= end + 9
            ):
                member.found[name] = payload
        elif kind == MATURE and len(payload) == 32:
            member.mature.add(payload)

    def know(self, epoch: int, end: int) -> None:
        """Finds what is known once all of an epoch has been listened to."""
        self._former = [(key, at) for key, at in self._former if at + EPOCHS > epoch]
        quorum = (len(self._members) + self._rules.faulty) // 2 + 1
        for purpose in PURPOSES:
            said = Tally(each.keys[purpose] for each in self._members if purpose in each.keys)
            for key, transcript in (each for each, count in said.items() if count >= quorum):
                last = self._keys.get(purpose)
                if last and last[:2] == (key, transcript):
                    continue
                self._keys[purpose] = key, transcript, epoch
                if last and purpose == TREASURY:
                    self._former.append((last[0], epoch))
        for name in sorted(set().union(*(each.found for each in self._members))):
            votes = Tally(each.found[name] for each in self._members if name in each.found)
            known = [found for found, count in votes.items() if count > self._rules.faulty]
            if len(known) == 1 and name not in self._blocks:
                self._take_block(name, known[0], epoch)
        for name, block in self._blocks.items():
            if not block.matured:
                count = sum(name in each.mature for each in self._members)
                block.matured = epoch + 1 if count > self._rules.faulty else 0
        for each in self._members:
            each.found = {
                name: found
                for name, found in each.found.items()
                if name not in self._blocks
                and int.from_bytes(found[32:36], "little") > end - self._rules.lateness
            }

    def _take_block(self, name: bytes, found: bytes, epoch: int) -> None:
        reader = Reader(found, 32)
        height, txid, vout = reader.number(4), reader.take(32), reader.number(2)
        value, paid = reader.number(8), reader.take(32)
        if self.is_direct:
            key, stakes = self._settled(value, paid)
            is_ours = bool(stakes) and vout == NO_OUTPUT
        else:
            stakes = []
            ours = (each for each in self._treasury() if self._output_key(each) == paid)
            key = next(ours, b"")
            is_ours = bool(key) and vout != NO_OUTPUT
        if is_ours:
            self._blocks[name] = _Block(height, txid, vout, value, key, epoch, stakes)

    def _settled(self, value: int, paid: bytes) -> tuple[bytes, list[Stake]]:
        """Finds the newest distribution that comes to the outputs that members say."""
        for root, stakes in reversed(self._distributions):
            parts = _split(stakes, lambda _: value, root)
            if parts and sha256d(_outputs([(sats, to) for _, sats, to in parts])) == paid:
                return root, stakes
        return b"", []

    def _treasury(self) -> list[bytes]:
        if self.is_direct or TREASURY not in self._keys:
            return []
        return [self._keys[TREASURY][0], *(key for key, _ in self._former)]

    def _output_key(self, key: bytes) -> bytes:
        if key not in self._outputs:
            rules = self._rules
            self._outputs[key] = output_key(key, rules.keys, rules.faulty + 1, rules.recovery[0])
        return self._outputs[key]

    def paid(self, outputs: Sequence[Output]) -> int:
        """Returns what a coinbase pays as it should."""
        if self.is_direct:
            most, all_sats = 0, sum(sats for sats, _ in outputs)
            for each in reversed(self._distributions):
                most = max(most, self._paid_by(*each, outputs))
                if most == all_sats:
                    break
            return most
        scripts = {b"\x51\x20" + self._output_key(key) for key in self._treasury()}
        return next((sats for sats, script in outputs if script in scripts), 0)

    @staticmethod
    def _paid_by(root: bytes, stakes: Sequence[Stake], outputs: Sequence[Output]) -> int:
        """Returns what a coinbase pays by one distribution; 0 if it does not pay by it."""
        scripts = {script for _, _, script in stakes}
        own = [(sats, script) for sats, script in outputs if script in scripts]
        total = sum(sats for sats, _ in own)
        # The parts of those who are left in a split are right to the satoshi: all else need not be
        # split to be seen to be wrong.
        paid = {script for _, script in own}
        left = [stake for stake in stakes if stake[2] in paid]
        weight = sum(stake[1] for stake in left)
        is_told_apart = len(scripts) == len(stakes)
        if is_told_apart and len(left) != len(own):
            return 0
        if is_told_apart and any(
            not 0 <= sats - total * stake[1] // weight <= 1
            for stake, (sats, _) in zip(left, own, strict=True)
        ):
            return 0
        parts = _split(stakes, lambda _: total, root)
        return total if [(sats, script) for _, sats, script in parts] == own else 0

    def settle(self, end: int, stakes: list[Stake]) -> None:
        """Ends an epoch."""
        lasts = self._rules.recovery[0]
        self._blocks = {
            name: block for name, block in self._blocks.items() if block.height + lasts > end
        }
        for block in self._blocks.values():
            block.stakes = block.stakes or stakes
        for each in self._members:
            each.mature = {
                name
                for name in each.mature
                if name in self._blocks and not self._blocks[name].matured
            }

    def payouts(self) -> list[Payout]:
        """Lists whom the blocks pay that are in the books, in the order of their hashes."""
        for name, block in self._blocks.items():
            known = self._payouts.get(name)
            if known is None or not known.parts or known.is_mature != bool(block.matured):
                self._payouts[name] = self._payout(name, block)
        return [self._payouts[name] for name in sorted(self._blocks)]

    def _payout(self, name: bytes, block: _Block) -> Payout:
        shown = name, block.height, block.value
        if self.is_direct:
            parts = _split(block.stakes, lambda _: block.value, block.key)
            return Payout(*shown, tuple(parts), 0, b"", bool(block.matured))
        rate = self._rules.fee

        def left(scripts: list[bytes]) -> int:
            return block.value - rate * _virtual_size(scripts)

        parts = _split(block.stakes, left, name)
        if not parts:
            return Payout(*shown, (), 0, b"", bool(block.matured))
        outputs = [(sats, script) for _, sats, script in parts]
        txid = sha256d(_transaction(block.txid, block.vout, outputs))
        fee = block.value - sum(sats for sats, _ in outputs)
        return Payout(*shown, tuple(parts), fee, txid, bool(block.matured))

    def said(self, who: int) -> bytes:
        """Writes what a member has said, as the books have it."""
        member = self._members[who]
        out = [_le(len(member.keys), 1)]
        out += [_le(purpose, 1) + b"".join(said) for purpose, said in sorted(member.keys.items())]
        out += [_le(len(member.found), 4), *(found for _, found in sorted(member.found.items()))]
        return b"".join((*out, _le(len(member.mature), 4), *sorted(member.mature)))

    def head(self) -> bytes:
        """Writes what is known, as the books have it."""
        out = [_le(len(self._keys), 1)]
        for purpose, (key, transcript, epoch) in sorted(self._keys.items()):
            out += [_le(purpose, 1), key, transcript, _le(epoch, 4)]
        out.append(_le(len(self._former), 2))
        out += [key + _le(epoch, 4) for key, epoch in self._former]
        out.append(_le(len(self._blocks), 4))
        for name, block in sorted(self._blocks.items()):
            out += [name, _le(block.height, 4), block.txid, _le(block.vout, 2)]
            out += [_le(block.value, 8), block.key, _le(block.epoch, 4), _le(block.matured, 4)]
            out.append(_stakes(block.stakes))
        out.append(_le(len(self._distributions), 2))
        out += [root + _stakes(stakes) for root, stakes in self._distributions]
        return b"".join(out)


def skip(reader: Reader) -> None:
    """Goes past what `Holding.said` writes.

    Raises:
        TruncatedError: The bytes end before.
    """
    reader.take(65 * reader.number(1))
    reader.take(110 * reader.number(4))
    reader.take(32 * reader.number(4))


def skip_head(reader: Reader) -> None:
    """Goes past what `Holding.head` writes; raises as `skip`."""
    reader.take(69 * reader.number(1))
    reader.take(36 * reader.number(2))
    for _ in range(reader.number(4)):
        reader.take(32 + 4 + 32 + 2 + 8 + 32 + 4 + 4)
        _skip_stakes(reader)
    for _ in range(reader.number(2)):
        reader.take(32)
        _skip_stakes(reader)


def _skip_stakes(reader: Reader) -> None:
    for _ in range(reader.number(2)):
        reader.take(18)
        reader.take(reader.number(4))


def output_key(key: bytes, members: Sequence[bytes], threshold: int, blocks: int) -> bytes:
    """Computes the key of the output that a treasury key and the members' script make.

    Raises:
        ValueError: The treasury key is none.
    """
    script = b""
    for number, member in enumerate(members):
        script += b"\x20" + member + (b"\xba" if number else b"\xac")
    script += _pushed(threshold) + b"\x9d" + _pushed(blocks) + b"\xb2"
    leaf = tagged_hash("TapLeaf", b"\xc0" + _compact(len(script)) + script)
    return tweaked_key(key, tagged_hash("TapTweak", key, leaf))


def _split(
    stakes: Sequence[Stake], sats_for: Callable[[list[bytes]], int], lot: bytes
) -> list[tuple[int, int, bytes]]:
    """Splits by largest remainder over those who get no dust; the least is left out first."""
    left = list(stakes)
    while left:
        sats = sats_for([script for _, _, script in left])
        total = sum(weight for _, weight, _ in left)
        if sats <= 0:
            parts = [0] * len(left)
        else:
            parts = [sats * weight // total for _, weight, _ in left]
            ranks = sorted(
                range(len(left)),
                key=lambda at: (
                    -(sats * left[at][1] % total),
                    tagged_hash("radpool/federation-lot", lot, _le(left[at][0], 2)),
                ),
            )
            for at in ranks[: sats - sum(parts)]:
                parts[at] += 1
        least = min(range(len(left)), key=lambda at: (parts[at], left[at][0]))
        if parts[least] >= DUST:
            return [(who, part, script) for (who, _, script), part in zip(left, parts, strict=True)]
        del left[least]
    return []


def _transaction(txid: bytes, vout: int, outputs: Sequence[Output]) -> bytes:
    """Writes the transaction that pays out one output, without its witness."""
    out = _outputs(outputs)
    spent = txid + _le(vout, 4) + b"\x00" + b"\xff" * 4
    return _le(2, 4) + b"\x01" + spent + _compact(len(outputs)) + out + _le(0, 4)


def _outputs(outputs: Sequence[Output]) -> bytes:
    return b"".join(_le(sats, 8) + _compact(len(script)) + script for sats, script in outputs)


def _virtual_size(scripts: Sequence[bytes]) -> int:
    bare = len(_transaction(bytes(32), 0, [(0, script) for script in scripts]))
    # The marker and the flag, one item, its length, and a signature.
    return (4 * bare + 2 + 1 + 1 + 64 + 3) // 4


def _pushed(number: int) -> bytes:
    if number <= 16:
        return bytes([0x50 + number])
    data = _le(number, number.bit_length() // 8 + 1)
    return bytes([len(data)]) + data


def _compact(number: int) -> bytes:
    return _le(number, 1) if number < 0xFD else b"\xfd" + _le(number, 2)


def _stakes(stakes: Sequence[Stake]) -> bytes:
    parts = [_le(who, 2) + _le(weight, 16) + _sized(script) for who, weight, script in stakes]
    return b"".join((_le(len(parts), 2), *parts))


def _le(number: int, length: int) -> bytes:
    return number.to_bytes(length, "little")


def _sized(data: bytes) -> bytes:
    return _le(len(data), 4) + data

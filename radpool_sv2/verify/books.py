"""Counts the shares of a federation again, epoch by epoch, and writes the books that follow.

This is a second reading of the page, in plain Python, to be compared with what members have signed.

Theory of operation. `Counter` holds the books in the form in which they are written. An epoch's
segments are gone through once for tips and scripts, then for all else. With a sample, most shares
are taken at their word: what would follow from their hashes alone is read from the books that were
served, whose root is checked in the end like any other.

Source: `spec/15-checkpoint-state.md`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from radpool_sv2.units import tagged_hash
from radpool_sv2.verify.batch import Batch, BatchFault, Body, open_batch, verify_share
from radpool_sv2.verify.coinbase import outputs_around
from radpool_sv2.verify.holding import Holding, Payout, Stake, skip, skip_head
from radpool_sv2.verify.reader import Reader, TruncatedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["Counter", "Item", "Rules", "Served", "read_rules", "read_served"]

BATCH, KEY, CHAIN, RULE, EXPONENT, DUPLICATE, TEMPLATE, PRICE, BUDGET, SUM = range(1, 11)
SHARE_BATCH, MARK, BODIES, TIP, SCRIPT = 1, 5, 10, 11, 12

FIRST_HALF = 16
ENTRY_BYTES = 256
JUDGED = 32
"""For so many epochs what a template pays is judged; what comes later is just late."""
ALL = 2**64
MOST = 2**128 - 1

PAYABLE = re.compile(
    rb"\x76\xa9\x14.{20}\x88\xac|\xa9\x14.{20}\x87|\x00\x14.{20}|[\x00\x51]\x20.{32}", re.DOTALL
)
"""Where members can be paid."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Is what a federation counts by; the fields are those of the page."""

    digest: bytes
    keys: tuple[bytes, ...]
    faulty: int
    height_first: int
    interval: int
    payout: int
    maturity: int
    fee: int
    recovery: tuple[int, int]
    weight: tuple[int, int, int]
    halving: int
    window: int
    grace: int
    lateness: int
    shares_target: int
    exponent_floor: int
    bytes_base: int
    bytes_shared: int

    def ends(self, epoch: int) -> int:
        """Returns the height at which an epoch ends."""
        return self.height_first + epoch * self.interval


def read_rules(data: bytes) -> Rules:
    """Reads rules.

    Raises:
        TruncatedError: The bytes are none.
    """
    reader = Reader(data)
    rules = Rules(
        digest=tagged_hash("radpool/federation-rules", data),
        keys=tuple(reader.take(32) for _ in range(reader.number(2))),
        faulty=reader.number(2),
        height_first=reader.number(4),
        interval=reader.number(2),
        payout=reader.number(1),
        maturity=reader.number(2),
        fee=reader.number(2),
        recovery=(reader.number(2), reader.number(2)),
        weight=(reader.number(1), reader.number(1), reader.number(1)),
        halving=reader.number(4),
        window=reader.number(2),
        grace=reader.number(2),
        lateness=reader.number(4),
        shares_target=reader.number(8),
        exponent_floor=reader.number(1),
        bytes_base=reader.number(8),
        bytes_shared=reader.number(8),
    )
    if reader.left:
        raise TruncatedError
    return rules


@dataclass(frozen=True, slots=True)
class Item:
    """Is an entry of a stream: where it stands, and its payload."""

    member: int
    seq: int
    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Served:
    """Is what is taken from served books when only a sample of the shares is recomputed."""

    seen: Sequence[Mapping[int, bytes]]
    verdicts: Mapping[tuple[int, int], int]


@dataclass(slots=True)
class _Member:
    sequence: int = 0
    previous: bytes = bytes(32)
    marked: int = 0
    budget: int = 0
    script: bytes = b""
    tips: dict[bytes, tuple[int, int, int, int]] = field(default_factory=dict)
    bodies: dict[bytes, bytes] = field(default_factory=dict)
    seen: dict[int, list[bytes | None]] = field(default_factory=dict)


class _Void(Exception):  # noqa: N818 - a verdict, not an error
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Counter:
    """Counts epoch after epoch.

    Args:
        rules: By which.
        draws: Says of each share whether it is recomputed.

    Attributes:
        shares: How many shares all batches have that were looked at.
        drawn: How many of them were recomputed.
    """

    def __init__(self, rules: Rules, draws: Callable[[], bool] | None = None) -> None:
        self.rules = rules
        self.shares = self.drawn = self.batches = 0
        self.epoch = 0
        self._draws = draws
        self._members = [_Member(budget=rules.bytes_base) for _ in rules.keys]
        self._exponents = [rules.exponent_floor]
        self._window: list[tuple[int, int, dict[int, list[int]]]] = []
        self.verdicts: list[tuple[int, int, int]] = []
        self._stale = 0
        self.rows: dict[tuple[int, bytes, int, int], list[int]] = {}
        self._tips: dict[bytes, tuple[int, int, int, int] | None] = {}
        self._served: Served | None = None
        self._sums: list[tuple[int, int]] = []
        self._holding = Holding(rules)
        self._root: bytes | None = None

    def payouts(self) -> list[Payout]:
        """Lists whom the blocks in the books pay."""
        return self._holding.payouts()

    def _stakes(self) -> list[Stake]:
        """Lists who has weight and can be paid."""
        scripts = (member.script for member in self._members)
        weights = zip(self.weights(), scripts, strict=True)
        return [
            (who, weight, script)
            for who, (weight, script) in enumerate(weights)
            if weight and script
        ]

    def weights(self) -> list[int]:
        """Returns what each member's shares in the window are worth."""
        return [
            sum(earned.get(member, (0, 0))[1] for _, _, earned in self._window)
            for member in range(len(self._members))
        ]

    def count(self, segments: Iterable[Sequence[Item]], served: Served | None = None) -> None:
        """Counts the next epoch.

        Args:
            segments: The segments of its cut, in ascending order of members.
            served: The books behind it as served; needed where shares are drawn.
        """
        items = [item for segment in segments for item in segment]
        if self._holding.is_direct:
            equal = ((who, 1, member.script) for who, member in enumerate(self._members))
            stakes = self._stakes() or [each for each in equal if each[2]]
            self._holding.build_on(self.root(), stakes)
        self._root = None
        self._served, self.verdicts, self._stale, self.rows, self._tips = served, [], 0, {}, {}
        self._sums = [
            (
                sum(earned.get(who, (0, 0))[0] for _, _, earned in self._window),
                sum(earned.get(who, (0, 0))[1] for _, _, earned in self._window),
            )
            for who in range(len(self._members))
        ]
        for item in items:
            self._listen(item)
        self._holding.know(self.epoch, self.rules.ends(self.epoch))
        work_on: dict[bytes, int] = defaultdict(int)
        used: dict[int, int] = defaultdict(int)
        for item in items:
            used[item.member] += len(item.payload) + ENTRY_BYTES
            if item.kind == MARK:
                used[item.member] = 0
                self._pass(item)
            elif item.kind == BODIES:
                if used[item.member] <= self._members[item.member].budget:
                    self._keep(item)
            elif item.kind == SHARE_BATCH:
                try:
                    self._book(item, used[item.member], work_on)
                except _Void as void:
                    self.verdicts.append((item.member, item.seq, void.code))
        self._close(work_on)

    # What members say.

    @property
    def _oldest(self) -> int:
        return self.rules.ends(self.epoch) + 1 - self.rules.lateness

    def _listen(self, item: Item) -> None:
        member = self._members[item.member]
        if item.kind == SCRIPT and PAYABLE.fullmatch(item.payload):
            member.script = item.payload
        self._holding.listen(item.member, item.kind, item.payload, self.rules.ends(self.epoch))
        if item.kind != TIP or len(item.payload) != 80:
            return
        reader = Reader(item.payload)
        key, height, nbits = reader.take(32), reader.number(4), reader.number(4)
        target, fees = reader.number(32), reader.number(8)
        if not target:
            return
        if key in member.tips:
            before = member.tips[key]
            member.tips[key] = (*before[:3], max(before[3], fees))
        elif len(member.tips) < 2 * self.rules.lateness + 8 and (
            self._oldest <= height <= self.rules.ends(self.epoch) + 9
        ):
            member.tips[key] = height, nbits, target, fees

    def _tip(self, key: bytes) -> tuple[int, int, int, int] | None:
        """Returns height, nBits, target and reference fees of a known tip."""
        if key not in self._tips:
            votes: dict[tuple[int, int, int], int] = defaultdict(int)
            fees = []
            for member in self._members:
                said = member.tips.get(key)
                fees.append(0 if said is None else said[3])
                if said is not None:
                    votes[said[:3]] += 1
            known = [facts for facts, count in votes.items() if count > self.rules.faulty]
            median = sorted(fees)[(len(fees) - 1) // 2]
            self._tips[key] = (*known[0], median) if len(known) == 1 else None
        return self._tips[key]

    # Streams in their order.

    def _lowest(self, member: _Member) -> int:
        lowest = max(self._oldest, 0)
        if member.marked:
            lowest = max(lowest, self.rules.ends(member.marked - 1) + 1 - self.rules.grace)
        return lowest

    def _pass(self, item: Item) -> None:
        member = self._members[item.member]
        member.marked = int.from_bytes(item.payload[:4], "little") + 1
        lowest = self._lowest(member)
        member.seen = {height: row for height, row in member.seen.items() if height >= lowest}
        member.bodies = {
            digest: body for digest, body in member.bodies.items() if _height(body) >= lowest - 6
        }

    def _keep(self, item: Item) -> None:
        member, reader = self._members[item.member], Reader(item.payload)
        try:
            bodies = [reader.take(reader.number(4)) for _ in range(reader.number(2))]
        except TruncatedError:
            return
        if reader.left or any(len(body) > BODY_BYTES_MAX for body in bodies):
            return
        first, last = self._lowest(member) - 6, self.rules.ends(member.marked) + 9
        for body in bodies:
            if len(body) >= 44 and first <= _height(body) <= last:
                member.bodies[tagged_hash("radpool/template", body)] = body

    def _book(self, item: Item, used: int, work_on: dict[bytes, int]) -> None:
        member, rules = self._members[item.member], self.rules
        if used > member.budget:
            raise _Void(BUDGET)
        batch, opened, hashes = self._open(item, member)
        if batch.msp_key != rules.keys[item.member]:
            raise _Void(KEY)
        expected = member.sequence, member.previous
        if batch.sequence >= member.sequence:
            member.sequence = min(batch.sequence + 1, ALL - 1)
            member.previous = batch.hash
        if expected not in ((0, bytes(32)), (batch.sequence, batch.previous)):
            raise _Void(CHAIN)
        weight = batch.weight
        if weight is None or (weight.mode, weight.scale, weight.base) != rules.weight:
            raise _Void(RULE)
        prices = [self._price(member, batch, index, opened[index]) for index in range(len(opened))]
        lowest = self._lowest(member)
        fresh: dict[int, list[bytes | None]] = defaultdict(list)
        # All shares of a template come before those of the next in the list of a height.
        for index, found in enumerate(prices):
            if found is not None and found[0] >= lowest:
                fresh[found[0]] += [
                    name
                    for share, name in zip(batch.shares, hashes, strict=True)
                    if share.template == index
                ]
        sums = self._sums_with(item.member, batch, prices, lowest)
        self._check_fresh(item, member, fresh)
        self._sums[item.member] = sums
        for share in batch.shares:
            found = prices[share.template]
            if found is None or found[0] < lowest:
                self._stale += 1
                continue
            owner = batch.owners[share.owner]
            place = item.member, owner.commitment, owner.rail, found[0]
            row = self.rows.setdefault(place, [0, 0, 0])
            row[0] += 1
            row[1] += 1 << share.exponent
            row[2] += found[1] << share.exponent - rules.weight[2]
            work_on[opened[share.template].prev_hash] += 1 << share.exponent

    def _open(self, item: Item, member: _Member) -> tuple[Batch, list[Body], list[bytes | None]]:
        """Checks a batch, and as many of its shares as are drawn.

        Returns:
            The batch, its bodies, and the first half of each header hash that was computed.
        """
        served = None if self._served is None else self._served.verdicts
        # What is said to be void costs nothing to look at in full, and must be seen to be.
        is_doubted = served is not None and served.get((item.member, item.seq)) == BATCH
        try:
            batch, opened = open_batch(item.payload, member.bodies)
            scripts: dict[tuple[int, int], bytes] = {}
            names: list[bytes | None] = []
            self.batches += 1
            for index in range(len(batch.shares)):
                self.shares += 1
                if self._draws is None or is_doubted or self._draws():
                    self.drawn += 1
                    names.append(verify_share(batch, opened, index, scripts).hash[:FIRST_HALF])
                else:
                    names.append(None)
        except BatchFault:
            raise _Void(BATCH) from None
        known = [name for name in names if name is not None]
        if len(set(known)) < len(known):
            raise _Void(BATCH)
        return batch, opened, names

    def _sums_with(
        self, who: int, batch: Batch, prices: Sequence[tuple[int, int] | None], lowest: int
    ) -> tuple[int, int]:
        """Returns work and value that a member has in window and epoch, a batch included."""
        work, value = self._sums[who]
        for share in batch.shares:
            found = prices[share.template]
            if found is not None and found[0] >= lowest:
                work += 1 << share.exponent
                value += found[1] << share.exponent - self.rules.weight[2]
        if max(work, value) > MOST // len(self._members):
            raise _Void(SUM)
        return work, value

    def _check_fresh(
        self, item: Item, member: _Member, fresh: Mapping[int, list[bytes | None]]
    ) -> None:
        served = self._served
        if (
            self._draws is not None
            and served is not None
            and served.verdicts.get((item.member, item.seq)) == DUPLICATE
        ):
            raise _Void(DUPLICATE)
        for height, names in fresh.items():
            seen = set(member.seen.get(height, ())) - {None}
            if seen & set(names):
                raise _Void(DUPLICATE)
        for height, names in fresh.items():
            member.seen[height] = member.seen.get(height, []) + names

    def _price(
        self, member: _Member, batch: Batch, index: int, body: Body
    ) -> tuple[int, int] | None:
        """Returns the height of a template's tip and the price that counts; None without a tip."""
        rules, price = self.rules, batch.templates[index].price
        least = min(share.exponent for share in batch.shares if share.template == index)
        first = max(member.marked - 64, 0)
        asked = self._exponents[-max(self.epoch - first + 1, 1) :]
        if least < min(asked):
            raise _Void(EXPONENT)
        tip = self._tip(body.prev_hash)
        if tip is None:
            return None
        height, nbits, target, fees = tip
        if (body.height, body.nbits) != (height, nbits):
            raise _Void(TEMPLATE)
        try:
            outputs = outputs_around(body.coinbase_before_tag, body.coinbase_after_tag)
        except TruncatedError:
            raise _Void(TEMPLATE) from None
        pays = self._holding.paid(outputs)
        if not pays and height <= rules.ends(self.epoch - JUDGED):
            return None
        hashes = 2**256 // (target + 1)
        halvings = height // rules.halving
        subsidy = 5_000_000_000 >> halvings if halvings < 64 else 0
        counted = min(pays, subsidy + fees + max(fees // 4, 50_000))
        scale = rules.weight[1]
        is_by_value = rules.weight[0] == 1
        is_paid = pays > 0 and pays >= subsidy
        if price > ((pays if is_by_value else is_paid) << scale) // hashes:
            raise _Void(PRICE)
        return height, min(price, ((counted if is_by_value else 1) << scale) // hashes)

    # The end of an epoch.

    def _close(self, work_on: Mapping[bytes, int]) -> None:
        rules, earned = self.rules, defaultdict[int, list[int]](lambda: [0, 0])
        for (who, *_), (_, work, value) in self.rows.items():
            earned[who][0] += work
            earned[who][1] += value
        if earned:
            blocks = 0
            for key, work in work_on.items():
                tip = self._tip(key)
                assert tip is not None, "what counts is on a tip"
                blocks += work * ALL // (2**256 // (tip[2] + 1))
            self._window.append((self.epoch, min(blocks, MOST), dict(earned)))
        total = 0
        for at in range(len(self._window) - 1, -1, -1):
            total += self._window[at][1]
            if total >= rules.window * ALL:
                del self._window[:at]
                break
        works = [
            sum(slot[2].get(who, (0, 0))[0] for slot in self._window)
            for who in range(len(self._members))
        ]
        for member, work in zip(self._members, works, strict=True):
            member.budget = rules.bytes_base + rules.bytes_shared * work // (sum(works) or 1)
            member.tips = {key: tip for key, tip in member.tips.items() if tip[0] >= self._oldest}
        count, last = sum(row[0] for row in self.rows.values()), self._exponents[-1]
        if count > 2 * rules.shares_target:
            last = min(last + 1, 120)
        elif count * 2 < rules.shares_target:
            last = max(last - 1, rules.exponent_floor)
        self._exponents = [*self._exponents, last][-256:]
        self._holding.settle(rules.ends(self.epoch), self._stakes())
        self.epoch += 1

    def root(self) -> bytes:
        """Computes the root of the books.

        Raises:
            ValueError: The served books do not have as many fingerprints as shares counted, or
                others than those that were computed.
        """
        if self._root is not None:
            return self._root
        rows, nodes = sorted(self.rows.items()), []
        for (who, commitment, rail, height), (count, work, value) in rows:
            place = _le(who, 2) + commitment + _le(rail, 1) + _le(height, 4) + _le(count, 8)
            sums = _le(work, 16) + _le(value, 16)
            nodes.append((tagged_hash("radpool/federation-leaf", place + sums), work, value))
        top = _tree(nodes)
        self._root = tagged_hash(
            "radpool/federation-books",
            tagged_hash("radpool/federation-head", self._head()),
            _le(len(rows), 4) + top[0] + _le(top[1], 16) + _le(top[2], 16),
        )
        return self._root

    def _head(self) -> bytes:
        out = [self.rules.digest, _le(self.epoch, 4), _le(len(self._exponents), 2)]
        out += [bytes(self._exponents), _le(len(self._members), 2)]
        for who, member in enumerate(self._members):
            out += [_le(member.sequence, 8), member.previous, _le(member.marked, 4)]
            out += [_le(member.budget, 8), _sized(member.script), self._holding.said(who)]
            out.append(_le(len(member.tips), 4))
            for key, (height, nbits, target, fees) in sorted(member.tips.items()):
                out += [key, _le(height, 4), _le(nbits, 4), _le(target, 32), _le(fees, 8)]
            out.append(_le(len(member.bodies), 4))
            out += [digest + _sized(body) for digest, body in sorted(member.bodies.items())]
            out.append(_le(len(member.seen), 4))
            for height, names in sorted(member.seen.items()):
                out += [_le(height, 4), _sized(self._names(who, height, names))]
        out += [self._holding.head(), _le(len(self._window), 4)]
        for epoch, blocks, earned in self._window:
            out += [_le(epoch, 4), _le(blocks, 16), _le(len(earned), 2)]
            for who, (work, value) in sorted(earned.items()):
                out += [_le(who, 2), _le(work, 16), _le(value, 16)]
        out.append(_le(len(self.verdicts), 4))
        for who, seq, code in sorted(self.verdicts):
            out += [_le(who, 2), _le(seq, 8), _le(code, 1)]
        return b"".join(out) + _le(self._stale, 8)

    def _names(self, who: int, height: int, names: list[bytes | None]) -> bytes:
        """Writes fingerprints; those that were not computed come from the served books."""
        if None not in names:
            return b"".join(name for name in names if name is not None)
        assert self._served is not None, "a sample is taken with served books"
        given = self._served.seen[who].get(height, b"")
        parts = [given[at : at + FIRST_HALF] for at in range(0, len(given), FIRST_HALF)]
        if len(parts) != len(names) or any(
            name is not None and name != part for name, part in zip(names, parts, strict=True)
        ):
            raise ValueError(
                f"member {who}, height {height}: other fingerprints than of the shares"
            )
        if len(set(parts)) < len(parts):
            raise ValueError(f"member {who}, height {height}: a share counts twice")
        return given


BODY_BYTES_MAX = 44 + 3 * (2 + 65_535) + 1 + 32 * 32


def read_served(data: bytes, members: int) -> Served:
    """Reads from served books what a sample needs.

    Raises:
        TruncatedError: The bytes are no books.
    """
    reader = Reader(data)
    reader.take(36)
    reader.take(reader.number(2))
    if reader.number(2) != members:
        raise TruncatedError
    seen = []
    for _ in range(members):
        reader.take(8 + 32 + 4 + 8)
        reader.take(reader.number(4))
        skip(reader)
        reader.take(80 * reader.number(4))
        for _ in range(reader.number(4)):
            reader.take(32)
            reader.take(reader.number(4))
        rows = {}
        for _ in range(reader.number(4)):
            height = reader.number(4)
            rows[height] = reader.take(reader.number(4))
        seen.append(rows)
    skip_head(reader)
    for _ in range(reader.number(4)):
        reader.take(20)
        reader.take(34 * reader.number(2))
    verdicts = {}
    for _ in range(reader.number(4)):
        place = reader.number(2), reader.number(8)
        verdicts[place] = reader.number(1)
    return Served(seen, verdicts)


def _le(number: int, length: int) -> bytes:
    return number.to_bytes(length, "little")


def _sized(data: bytes) -> bytes:
    return _le(len(data), 4) + data


def _height(body: bytes) -> int:
    return int.from_bytes(body[40:44], "little")


def _tree(nodes: list[tuple[bytes, int, int]]) -> tuple[bytes, int, int]:
    if not nodes:
        return bytes(32), 0, 0
    while len(nodes) > 1:
        above = []
        for at in range(0, len(nodes) - 1, 2):
            left, right = nodes[at], nodes[at + 1]
            sums = b"".join(_le(each, 16) for node in (left, right) for each in node[1:])
            digest = tagged_hash("radpool/federation-node", left[0], right[0], sums)
            above.append((digest, left[1] + right[1], left[2] + right[2]))
        nodes = above + nodes[2 * len(above) :]
    return nodes[0]

"""Computes the state behind an epoch: what every member's shares count, by one rule.

Theory of operation. An epoch brings a segment of each member in its cut. They are gone through
twice. First for what members say of tips and payout scripts: nothing depends on the order of
members, so a tip is known to all shares of the epoch once enough members have said it; so are keys
and blocks (`holding`). Then for template bodies, batches and marks, each stream in its order.

A tip is known when t + 1 members say the same of it, so that one of them is honest; its reference
fees are the lower median of what all members say, those who say nothing counted as 0, so that no
minority of them can raise it.

A batch counts or it does not. What its sender could not have sealed honestly voids the whole of it
and is a `Verdict`: whoever has the stream can repeat it. A share on a block that no t + 1 members
know, or that comes too late, is merely stale: it counts nothing, and the rest of its batch does.

A share is worth the lesser of the price in its batch and what the tip's reference fees allow. What
all shares of an epoch are expected to find is a slot of the window; the window has whole slots,
the fewest of the newest that make up the blocks that the rules ask for.

Source: `spec/15-checkpoint-state.md`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from radpool_sv2._native.ledger import Fingerprints, template_sums, verify_batch
from radpool_sv2.consensus import subsidy_sats
from radpool_sv2.errors import FaultyMSPError, LocalProtocolError
from radpool_sv2.federation.agreement.mark import Mark
from radpool_sv2.federation.broadcast.payload import ENTRY_OVERHEAD, Kind
from radpool_sv2.federation.codec import U64_MAX, CodecError, Tag
from radpool_sv2.federation.state.holding import AHEAD, DISTRIBUTIONS_KEPT, Holding
from radpool_sv2.federation.state.ledger import (
    Books,
    Ledger,
    Slot,
    Verdict,
    output_of_key,
)
from radpool_sv2.federation.state.payload import Tip, decode_bodies, decode_script
from radpool_sv2.federation.state.payout import find_distribution, part_of
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.federation.state.tree import SUM_LEN, Row
from radpool_sv2.weight import WeightMode, cap_sats, hashes_of_target, price_of
from radpool_sv2.weight.body import body_height, body_nbits, body_outputs, body_prev_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from radpool_sv2._native.ledger import BatchSummary
    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.state.rules import Rules

    VerifyBatch = Callable[[bytes, Mapping[bytes, bytes]], BatchSummary]
    _Earned = tuple[bytes, int, bytes, int, int, int, int, int]

__all__ = ["Accounting", "Fault", "body_digest"]

TEMPLATE_TAG: Final = Tag("radpool/template")

SLOT_BITS: Final = 64
SUM_MAX: Final = (1 << 8 * SUM_LEN) - 1
KEPT: Final = 6
"""How many blocks bodies are kept longer than shares on them count, so that late ones are stale
and not unknown."""
EXPONENTS_KEPT: Final = 256
EXPONENT_LAG: Final = 64
"""How many epochs a member may be behind with knowing the least exponent: while checkpoints wait,
shares are asked for in good faith by an old one."""

BODY_LEN_MIN: Final = 44
"""Up to the height, which must be there; page 03 judges what is behind it."""


class Fault(IntEnum):
    """Says why a batch counts nothing."""

    BATCH = 1
    """It does not pass page 03, or a template body is missing in the stream before it."""
    KEY = 2
    """It is signed by another key than its sender's: somebody else's shares."""
    CHAIN = 3
    """It does not follow its sender's batch before it."""
    RULE = 4
    """Its prices are made by another rule than the federation's."""
    EXPONENT = 5
    """A share is below the least exponent."""
    DUPLICATE = 6
    """A share has counted before."""
    TEMPLATE = 7
    """A template has not the height or the target of its tip, or its coinbase cannot be read."""
    PRICE = 8
    """A price is above what the coinbase pays."""
    BUDGET = 9
    """Its sender has appended more than it may between two marks."""
    SUM = 10
    """With it, its sender would have more than its part of what numbers of the books hold."""


class Accounting:
    """Is the state function of a federation; its states are encoded ledgers.

    Args:
        rules: By which it counts.
        verify: Verifies a batch; something else than `verify_batch` may have done so before, and
            must come to the same.
    """

    def __init__(self, rules: Rules, verify: VerifyBatch = verify_batch) -> None:
        self.rules = rules
        self._verify = verify
        self._last: tuple[bytes, Ledger] | None = None

    def start(self) -> Ledger:
        """Returns the state before epoch 0."""
        members = tuple(Books(budget=self.rules.bytes_base) for _ in self.rules.msp_keys)
        return Ledger(self.rules.digest, 0, (self.rules.exponent_floor,), members)

    def ledger(self, state: bytes) -> Ledger:
        """Reads a state; empty bytes are the one before epoch 0.

        Raises:
            CodecError: The bytes are no state.
            LocalProtocolError: It was counted by other rules.
        """
        if not state:
            return self.start()
        # What is changed is a copy, so the last state can be kept in the form it is worked with.
        last = self._last  # another thread may count on meanwhile
        ledger = last[1] if last is not None and last[0] == state else Ledger.decode(state)
        if ledger.rules != self.rules.digest or len(ledger.members) != len(self.rules.msp_keys):
            raise LocalProtocolError("the state was counted by other rules than these")
        return ledger

    def apply(self, state: bytes, epoch: int, segments: Iterable[Iterable[Entry]]) -> bytes:
        """Returns the state behind an epoch.

        Raises:
            LocalProtocolError: The epoch is not the next one.
        """
        before = self.ledger(state)
        if epoch != before.epochs:
            raise LocalProtocolError(f"epoch {before.epochs} is the next, not {epoch}")
        after = _Epoch(self.rules, before, self._verify).count(
            [list(segment) for segment in segments]
        )
        encoded = after.encode()
        self._last = encoded, after
        return encoded

    def root(self, state: bytes) -> bytes:
        """Returns what a checkpoint signs of a state, 32 bytes."""
        return self.ledger(state).root()

    def part_of(self, ledger: Ledger, block: bytes, member: int) -> int:
        """Returns what a member gets of a block, sats: what its output in the payout has.

        Args:
            ledger: The state.
            block: The block's hash, internal byte order.
            member: The member.

        Raises:
            LocalProtocolError: The books do not say yet how the block is split.
        """
        return part_of(self.rules, ledger, block, member)


class _VoidError(Exception):
    """Says that a batch counts nothing; it stays within this module."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


class _Epoch:
    """Counts one epoch, on copies of the books before it."""

    def __init__(self, rules: Rules, before: Ledger, verify: VerifyBatch) -> None:
        self.rules = rules
        self.verify = verify
        self.before = before
        self.end = rules.height_of(before.epochs)
        self.members = [
            replace(
                books,
                keys=dict(books.keys),
                found=dict(books.found),
                mature=set(books.mature),
                tips=dict(books.tips),
                bodies=dict(books.bodies),
                seen=dict(books.seen),
            )
            for books in before.members
        ]
        self.holding = Holding(rules, before, self.members)
        self.verdicts: list[Verdict] = []
        self.stale = 0
        self.rows: dict[tuple[int, bytes, int, int], list[int]] = defaultdict(lambda: [0, 0, 0])
        self.work_on: dict[bytes, int] = defaultdict(int)
        self._sums = [[0, 0] for _ in before.members]
        for slot in before.window:
            for member, work, value in slot.earned:
                self._sums[member][0] += work
                self._sums[member][1] += value
        self._tips: dict[bytes, Tip | None] = {}
        self._marked = [books.marked for books in before.members]
        # An epoch has too many shares for the books to be written, and read, with each batch.
        self._known: dict[tuple[int, int], Fingerprints] = {}
        self._added: dict[tuple[int, int], list[bytes]] = defaultdict(list)

    def count(self, segments: Sequence[Sequence[Entry]]) -> Ledger:
        for segment in segments:
            self._hear(segment)
        self.holding.know()
        for segment in segments:
            self._count_segment(segment)
        self._keep_seen()
        rows = tuple(Row(*place, *sums) for place, sums in sorted(self.rows.items()))
        window = self._window(rows)
        self._share_budgets(window)
        floor = self.end + 1 - self.rules.lateness
        for books in self.members:
            books.tips = {key: tip for key, tip in books.tips.items() if tip.height >= floor}
        exponents = (*self.before.exponents, self._next_exponent(rows))[-EXPONENTS_KEPT:]
        ledger = Ledger(
            self.before.rules,
            self.before.epochs + 1,
            exponents,
            tuple(self.members),
            self.holding.keys,
            self.holding.former,
            {},
            self.holding.distributions,
            window,
            tuple(sorted(self.verdicts, key=lambda each: (each.member, each.seq))),
            self.stale,
            rows,
        )
        ledger.blocks = self.holding.settle(ledger.stakes())
        return ledger

    # What members say.

    def _hear(self, segment: Sequence[Entry]) -> None:
        """Takes in tips and scripts of a segment."""
        for entry in segment:
            books = self.members[entry.header.sender]
            try:
                if entry.header.kind == Kind.TIP:
                    self._hear_tip(books, Tip.decode(entry.payload))
                elif entry.header.kind == Kind.PAYOUT_SCRIPT:
                    books.script = decode_script(entry.payload)
                else:
                    self.holding.hear(books, entry.header.kind, entry.payload)
            except CodecError:
                continue

    def _hear_tip(self, books: Books, tip: Tip) -> None:
        """Keeps the first facts that a member says of a tip, and the highest fees."""
        known = books.tips.get(tip.prev_hash)
        if known is not None:
            fees = max(known.fees_sats, tip.fees_sats)
            books.tips[tip.prev_hash] = replace(known, fees_sats=fees)
        elif (
            len(books.tips) < 2 * self.rules.lateness + AHEAD
            and self.end + 1 - self.rules.lateness <= tip.height <= self.end + 1 + AHEAD
        ):
            books.tips[tip.prev_hash] = tip

    def _tip(self, prev_hash: bytes) -> Tip | None:
        """Returns what is known of a tip; its fees are the reference."""
        if prev_hash not in self._tips:
            self._tips[prev_hash] = self._find_tip(prev_hash)
        return self._tips[prev_hash]

    def _find_tip(self, prev_hash: bytes) -> Tip | None:
        said = [books.tips[prev_hash] for books in self.members if prev_hash in books.tips]
        facts = [tip.facts for tip in said]
        known = {each for each in facts if facts.count(each) > self.rules.faulty_max}
        if len(known) != 1:
            return None
        [(height, nbits, target)] = known
        fees = sorted(tip.fees_sats for tip in said)
        fees = [0] * (len(self.members) - len(fees)) + fees
        return Tip(prev_hash, height, nbits, target, fees[(len(fees) - 1) // 2])

    # What counts.

    def _count_segment(self, segment: Sequence[Entry]) -> None:
        used = 0
        for entry in segment:
            member, kind = entry.header.sender, entry.header.kind
            if kind == Kind.EPOCH_MARK:
                used = 0
                self._mark(member, Mark.decode(entry.payload).epoch)
                continue
            used += len(entry.payload) + ENTRY_OVERHEAD
            if kind == Kind.TEMPLATE:
                if used <= self.members[member].budget:
                    self._keep_bodies(member, entry.payload)
            elif kind == Kind.SHARE_BATCH:
                try:
                    self._count_batch(member, entry.payload, used)
                except _VoidError as void:
                    self.verdicts.append(Verdict(member, entry.header.seq, void.fault))

    def _heights(self, member: int) -> tuple[int, int]:
        """Returns the first height that a member's shares may have now, and that of its mark."""
        marked = self.members[member].marked
        own = self.rules.height_of(marked - 1) + 1 - self.rules.grace if marked else 0
        return max(own, self.end + 1 - self.rules.lateness, 0), self.rules.height_of(marked)

    def _mark(self, member: int, epoch: int) -> None:
        """Lets go of what can count no more behind a mark."""
        books = self.members[member]
        books.marked = epoch + 1
        self._keep_seen()
        lowest, _ = self._heights(member)
        books.seen = {height: seen for height, seen in books.seen.items() if height >= lowest}
        for of, height in list(self._known):
            if of == member and height < lowest:
                del self._known[of, height]
        books.bodies = {
            digest: body
            for digest, body in books.bodies.items()
            if body_height(body) >= lowest - KEPT
        }

    def _keep_bodies(self, member: int, payload: bytes) -> None:
        lowest, next_mark = self._heights(member)
        try:
            bodies = decode_bodies(payload)
        except CodecError:
            return
        for body in bodies:
            if len(body) >= BODY_LEN_MIN and (
                lowest - KEPT <= body_height(body) <= next_mark + 1 + AHEAD
            ):
                self.members[member].bodies[body_digest(body)] = body

    def _count_batch(self, member: int, blob: bytes, used: int) -> None:
        """Counts a batch.

        Raises:
            _VoidError: It counts nothing.
        """
        books = self.members[member]
        # A flood must not be worth the work to look at it.
        if used > books.budget:
            raise _VoidError(Fault.BUDGET)
        try:
            batch = self.verify(blob, books.bodies)
        except FaultyMSPError:
            raise _VoidError(Fault.BATCH) from None
        if batch.msp_key != self.rules.msp_keys[member]:
            raise _VoidError(Fault.KEY)
        self._link(books, batch)
        rules = self.rules
        if batch.weight != (rules.mode, rules.scale.bits, rules.scale.base):
            raise _VoidError(Fault.RULE)
        prices = self._prices(books, batch)
        lowest, _ = self._heights(member)
        fresh = {place: found for place, found in prices.items() if found[0].height >= lowest}
        earned = template_sums(blob)
        sums = self._add_up(member, earned, fresh)
        self._remember(member, batch, fresh)
        self._sums[member] = sums
        self._earn(member, earned, fresh)

    def _link(self, books: Books, batch: BatchSummary) -> None:
        """Follows the chain of a member's batches; a gap is a fault once, not for ever."""
        is_first = books.sequence == 0 and books.previous == bytes(32)
        follows = (batch.sequence, batch.previous) == (books.sequence, books.previous)
        if batch.sequence >= books.sequence:
            books.sequence = min(batch.sequence + 1, U64_MAX)
            books.previous = batch.hash
        if not follows and not is_first:
            raise _VoidError(Fault.CHAIN)

    def _prices(
        self, books: Books, batch: BatchSummary
    ) -> dict[tuple[bytes, int], tuple[Tip, int]]:
        """Finds tip and price of each template that counts."""
        prices = {}
        for digest, price, exponent, _ in batch.template_shares:
            if exponent < self._exponent_min(books.marked):
                raise _VoidError(Fault.EXPONENT)
            body = books.bodies[digest]
            tip = self._tip(body_prev_hash(body))
            counted = None if tip is None else self._price(body, price, tip)
            if tip is not None and counted is not None:
                prices[digest, price] = tip, counted
        return prices

    def _price(self, body: bytes, price: int, tip: Tip) -> int | None:
        """Returns the price that counts; none of a template too old to be judged by what it pays.

        Raises:
            _VoidError: The template is not one that its sender could price so.
        """
        rules = self.rules
        if (body_height(body), body_nbits(body)) != (tip.height, tip.nbits):
            raise _VoidError(Fault.TEMPLATE)
        try:
            paid = self._paid([(script, sats) for sats, script in body_outputs(body)])
        except LocalProtocolError:
            raise _VoidError(Fault.TEMPLATE) from None
        judged = rules.height_of(self.before.epochs - DISTRIBUTIONS_KEPT // 2)
        if not paid and tip.height <= judged:
            return None
        subsidy = subsidy_sats(tip.height, rules.scale.halving_blocks)
        # What it pays beside the subsidy counts for nothing there; the subsidy itself must be paid.
        parts = paid if rules.mode is WeightMode.VALUE else int(paid >= max(subsidy, 1))
        if price > (parts << rules.scale.bits) // hashes_of_target(tip.target):
            raise _VoidError(Fault.PRICE)
        cap = cap_sats(subsidy, tip.fees_sats)
        allowed = price_of(
            rules.mode, rules.scale, target=tip.target, subsidy=subsidy, paid_sats=paid, cap=cap
        )
        return min(price, allowed)

    def _paid(self, outputs: Sequence[tuple[bytes, int]]) -> int:
        """Returns what a coinbase pays as it should: to the syndicate, or to all members."""
        if self.rules.payout is PayoutMode.DIRECT:
            found = find_distribution(self.holding.distributions, outputs)
            return 0 if found is None else found.sats
        scripts = {output_of_key(self.rules, key).script for key in self.holding.treasury_keys()}
        # A block's payout spends one output: the first.
        return next((sats for script, sats in outputs if script in scripts), 0)

    def _exponent_min(self, marked: int) -> int:
        """Returns the least exponent that a member may have thought to hold behind its mark."""
        count = self.before.epochs - max(marked - EXPONENT_LAG, 0) + 1
        return min(self.before.exponents[-max(count, 1) :])

    def _add_up(
        self,
        member: int,
        earned: Sequence[_Earned],
        fresh: Mapping[tuple[bytes, int], tuple[Tip, int]],
    ) -> list[int]:
        """Returns work and value that a member has in the window, a batch included.

        Where blocks are easy, work is worth more than 16 bytes can say.

        Raises:
            _VoidError: They are more than its part of that: those of all members must add up.
        """
        work, value = self._sums[member]
        for digest, price, _, _, _, _, done, _ in earned:
            if (digest, price) in fresh:
                work += done
                value += fresh[digest, price][1] * (done >> self.rules.scale.base)
        if max(work, value) > SUM_MAX // len(self.members):
            raise _VoidError(Fault.SUM)
        return [work, value]

    def _remember(
        self,
        member: int,
        batch: BatchSummary,
        fresh: Mapping[tuple[bytes, int], tuple[Tip, int]],
    ) -> None:
        """Remembers the shares that count of a batch.

        Raises:
            _VoidError: One has counted before.
        """
        books = self.members[member]
        added: dict[int, bytes] = defaultdict(bytes)
        for digest, price, _, fingerprints in batch.template_shares:
            if (digest, price) in fresh:
                added[fresh[digest, price][0].height] += fingerprints
        for height, fingerprints in added.items():
            if (member, height) not in self._known:
                self._known[member, height] = Fingerprints(books.seen.get(height, b""))
            if self._known[member, height].meet(fingerprints):
                raise _VoidError(Fault.DUPLICATE)
        for height, fingerprints in added.items():
            self._known[member, height].add(fingerprints)
            self._added[member, height].append(fingerprints)

    def _keep_seen(self) -> None:
        """Writes down the shares that have counted since it was last called."""
        for (member, height), parts in self._added.items():
            seen = self.members[member].seen
            seen[height] = b"".join((seen.get(height, b""), *parts))
        self._added.clear()

    def _earn(
        self,
        member: int,
        earned: Sequence[_Earned],
        fresh: Mapping[tuple[bytes, int], tuple[Tip, int]],
    ) -> None:
        base = self.rules.scale.base
        for digest, price, commitment, _, rail, count, work, _ in earned:
            if (digest, price) not in fresh:
                self.stale += count
                continue
            tip, counted = fresh[digest, price]
            row = self.rows[member, commitment, rail, tip.height]
            row[0] += count
            row[1] += work
            row[2] += counted * (work >> base)
            self.work_on[tip.prev_hash] += work

    # What follows from it.

    def _window(self, rows: Sequence[Row]) -> tuple[Slot, ...]:
        earned: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        for row in rows:
            earned[row.member][0] += row.work
            earned[row.member][1] += row.value
        slots = list(self.before.window)
        if earned:
            tips = ((self._tip(key), work) for key, work in self.work_on.items())
            blocks = sum(
                (work << SLOT_BITS) // hashes_of_target(tip.target)
                for tip, work in tips
                if tip is not None
            )
            sums = tuple((member, work, value) for member, (work, value) in sorted(earned.items()))
            slots.append(Slot(self.before.epochs, min(blocks, SUM_MAX), sums))
        wanted, first = self.rules.window << SLOT_BITS, len(slots)
        while first > 0 and wanted > 0:
            first -= 1
            wanted -= slots[first].blocks
        return tuple(slots[first:])

    def _share_budgets(self, window: Sequence[Slot]) -> None:
        """Shares out what may be appended, by the work in the window."""
        work = [0] * len(self.members)
        for slot in window:
            for member, own, _ in slot.earned:
                work[member] += own
        total = max(sum(work), 1)
        for books, own in zip(self.members, work, strict=True):
            books.budget = self.rules.bytes_base + self.rules.bytes_shared * own // total

    def _next_exponent(self, rows: Sequence[Row]) -> int:
        """Moves the least exponent by one when an epoch had twice or half the shares aimed at."""
        count, last = sum(row.count for row in rows), self.before.exponents[-1]
        if count > 2 * self.rules.shares_target:
            return min(last + 1, 120)
        if 2 * count < self.rules.shares_target:
            return max(last - 1, self.rules.exponent_floor)
        return last


def body_digest(body: bytes) -> bytes:
    """Computes what batches name a template body by."""
    return TEMPLATE_TAG.hash(body)

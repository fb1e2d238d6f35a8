"""Appends what a pool tells its federation to the own stream: shares, bodies, tips, owners.

Theory of operation. Batches go out in the order of their chain, each behind the template bodies
that it names and that have not been said. Where to go on after a start is read off the stream
itself: behind the last batch in it, whether certified or not. What had merely been queued was lost
with the process and is appended now; so nothing is missing, and nothing is there twice.

The first batch of all is the first behind which every template pays the federation: a pool mines
for itself before there is somebody to pay, and members take no share of that.

The stream pushes back. While much waits for its turn, or the books allow no more bytes until the
next mark, the feed rests; the ledger keeps what there is. Tips go out as they come and fees as they
rise, but not more often than every few seconds.

A batch that is so late that no share of it can count is left out: the members no longer keep the
templates that they would need to look at it. The books then have a gap in the chain, which costs
the batch behind it.

Source: `spec/15-checkpoint-state.md`, "Payloads", "Batches".
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from radpool_sv2.errors import LocalProtocolError, StoreError
from radpool_sv2.federation.agreement.mark import Mark
from radpool_sv2.federation.broadcast.payload import ENTRY_OVERHEAD, Kind
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.state.accounting import KEPT, body_digest
from radpool_sv2.federation.state.payload import decode_bodies, encode_bodies
from radpool_sv2.pool.telling import Telling
from radpool_sv2.weight.body import body_height

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from radpool_sv2.federation.broadcast.entry import Entry, Position
    from radpool_sv2.federation.state.ledger import Books
    from radpool_sv2.federation.state.payload import Tip
    from radpool_sv2.federation.state.rules import Rules
    from radpool_sv2.ledger.batch import DurableBatch
    from radpool_sv2.pool.telling import OwnerBook

__all__ = ["Feed", "OwnStream", "ShareBook", "batch_sequence"]

log = structlog.get_logger(__name__)

SEQUENCE_AT: Final = 4 + 1 + 32
"""Where a batch's number stands, 8 bytes (page 03)."""

WAITING_MAX: Final = 16
"""Payloads that wait for their turn at once: two windows. What others append has the rest."""

BATCHES_AT_ONCE: Final = 16
BODIES_BYTES_MAX: Final = 1 << 19
"""What a payload of several bodies has at most; one that is larger has a payload of its own."""

FEES_SECONDS: Final = 5.0
"""How often fees that rise are told of: a share counts by the median of all members."""

TIPS_WAITING_MAX: Final = 64

HEIGHTS_KNOWN: Final = 64
"""For how many heights is remembered which bodies were said; to say one again costs its bytes."""

REST_SECONDS: Final = 0.05
"""How soon the stream is looked at again while it takes nothing."""

RETRY_SECONDS: Final = 1.0


class OwnStream(Protocol):
    """Is the own stream of a running member."""

    @property
    def tip(self) -> Position:
        """The place behind its last entry."""

    @property
    def certified(self) -> int:
        """How many of its entries are certified."""

    @property
    def waiting(self) -> int:
        """How many payloads wait for their turn."""

    def append(self, kind: int, payload: bytes) -> None:
        """Appends a payload.

        Raises:
            LocalProtocolError: It is too long, or too many wait.
        """

    async def entry(self, seq: int) -> Entry | None:
        """Returns an entry, certified or not; None when it is not kept.

        Raises:
            StoreError: The store cannot be read.
        """


class ShareBook(Protocol):
    """Is the pool's ledger, as `radpool_sv2.ledger.Ledger`."""

    async def last_sequence(self) -> int:
        """Returns the number of the last durable batch; -1 before the first."""

    async def batches(self, first: int, limit: int) -> Sequence[DurableBatch]:
        """Returns up to `limit` durable batches from a number on."""

    async def bodies(self, digests: Collection[bytes]) -> Mapping[bytes, bytes]:
        """Returns template bodies by digest."""


def batch_sequence(blob: bytes) -> int:
    """Reads the number of a batch in its MSP's chain."""
    return int.from_bytes(blob[SEQUENCE_AT : SEQUENCE_AT + 8], "little")


class Feed:
    """Feeds one run of a member.

    Args:
        stream: The own stream.
        book: The pool's ledger.
        rules: Of the federation.
        script: Where the pool is paid.
        pays: Tells of a template body whether it pays the federation.
        owners: The register of owners, if the federation is to know of it.

    Attributes:
        next_batch: The number of the batch that comes next; -1 before the first is found.
        problem: What keeps it from working, in plain words; empty when nothing does.
        skipped: How many batches came too late.
        telling: Tells of owners, if there is a register.
    """

    def __init__(  # noqa: PLR0913 - what is told, each by its name
        self,
        stream: OwnStream,
        book: ShareBook,
        rules: Rules,
        *,
        script: bytes,
        pays: Callable[[bytes], bool],
        owners: OwnerBook | None = None,
    ) -> None:
        self.telling = None if owners is None else Telling(stream, owners)
        self.next_batch = -1
        self.problem = ""
        self.skipped = 0
        self._stream = stream
        self._book = book
        self._rules = rules
        self._script = script
        self._pays = pays
        self._known: dict[bytes, int] = {}
        self._tips: OrderedDict[bytes, Tip] = OrderedDict()
        self._said: Tip | None = None
        self._said_at = -FEES_SECONDS
        self._script_said = False
        self._tells_script = False
        self._budget = rules.bytes_base
        self._may_begin = False
        self._is_placed = False
        self._queued: list[int] = []
        self._obstacle = ""
        self._news = trio.Event()
        self.rested = trio.Event()

    # What it is told.

    def wake(self) -> None:
        """Takes in that there may be more to say."""
        self._news.set()

    def offered(self, tip: Tip) -> None:
        """Takes in what the own node offers on a tip."""
        if self._said is not None and self._said.prev_hash == tip.prev_hash:
            if tip.fees_sats > self._said.fees_sats:
                self._tips[tip.prev_hash] = tip
                self.wake()
            return
        known = self._tips.get(tip.prev_hash)
        if known is None or tip.fees_sats > known.fees_sats:
            self._tips[tip.prev_hash] = tip
        self._tips.move_to_end(tip.prev_hash)
        if len(self._tips) > TIPS_WAITING_MAX:
            self._tips.popitem(last=False)
        self.wake()

    def certified(self, books: Books) -> None:
        """Takes in what certified books say of this member."""
        # Its part of the work moves slowly, and the books that count are a few epochs on.
        base = self._rules.bytes_base
        self._budget = base + max(books.budget - base, 0) // 2
        if books.script != self._script and not self._script_said:
            self._script_said = self._tells_script = True
        self.wake()

    def begin(self) -> None:
        """Takes in that templates pay the federation from now on, and shares on no others come."""
        self._may_begin = True
        self.wake()

    # How it works.

    async def run(self, books: Books) -> None:
        """Feeds the stream until it is cancelled.

        Args:
            books: What certified books say of this member now.

        Raises:
            StoreError: The own stream cannot be read.
        """
        await self._find_place(books)
        if self.telling is not None:
            await self.telling.find_place()
        self.certified(books)
        while True:
            self._news = trio.Event()
            try:
                is_done = self._say() and await self._pass_on() and await self._tell_owners()
            except StoreError as error:
                self.problem = f"shares do not reach the federation: {error}"
                log.error("the federation cannot be fed", reason=str(error))  # noqa: TRY400
                await trio.sleep(RETRY_SECONDS)
                continue
            told = "" if self.telling is None else self.telling.problem
            self.problem = self._obstacle or told
            if is_done:
                self.rested.set()
            due = FEES_SECONDS if self._tips else float("inf")
            with trio.move_on_after(due if is_done else REST_SECONDS):
                await self._news.wait()

    async def _find_place(self, books: Books) -> None:
        """Finds the last batch in the own stream, and what was said behind the certified books."""
        self._known = {digest: body_height(body) for digest, body in books.bodies.items()}
        if books.sequence or books.previous != bytes(len(books.previous)):
            self.next_batch = books.sequence
        for seq in range(self._stream.tip.count - 1, -1, -1):
            entry = await self._stream.entry(seq)
            if entry is None:
                # Books that are certified have all that is not kept any more.
                break
            kind = entry.header.kind
            if kind == Kind.SHARE_BATCH:
                self.next_batch = batch_sequence(entry.payload) + 1
                break
            if kind == Kind.TEMPLATE:
                self._note_bodies(entry.payload)
            elif kind == Kind.EPOCH_MARK and _is_counted(entry.payload, books.marked):
                break
        self._is_placed = self.next_batch >= 0

    def _note_bodies(self, payload: bytes) -> None:
        try:
            bodies = decode_bodies(payload)
        except CodecError:
            return
        self._known.update((body_digest(body), body_height(body)) for body in bodies)

    def _say(self) -> bool:
        """Says what is no batch; returns whether there was room for all of it."""
        while self._tips:
            if not self._has_room:
                return False
            prev_hash, tip = next(iter(self._tips.items()))
            is_news = self._said is None or self._said.prev_hash != prev_hash
            is_early = trio.current_time() < self._said_at + FEES_SECONDS
            if is_early and not is_news and len(self._tips) == 1:
                break
            if not self._append(Kind.TIP, tip.encode()):
                return False
            self._tips.pop(prev_hash, None)
            self._said, self._said_at = tip, trio.current_time()
        if self._tells_script:
            if not self._has_room or not self._append(Kind.PAYOUT_SCRIPT, self._script):
                return False
            self._tells_script = False
        return True

    @property
    def _has_room(self) -> bool:
        return self._stream.waiting < WAITING_MAX

    async def _pass_on(self) -> bool:
        """Appends batches as far as there is room; returns whether all are in the stream."""
        if not self._is_placed:
            if not self._may_begin:
                return True
            self.next_batch = await self._first_batch()
            self._is_placed = True
            log.info("shares go to the federation", from_batch=self.next_batch)
        while batches := await self._book.batches(self.next_batch, BATCHES_AT_ONCE):
            for batch in batches:
                if not await self._pass_batch(batch):
                    return False
                self.next_batch = batch.sequence + 1
        missing = self.next_batch - 1 - await self._book.last_sequence()
        if missing > 0:
            self._obstacle = (
                f"the federation has {missing} batches of this pool that its ledger has lost: it "
                "is an old copy. Put back the latest one; as many batches will count for nothing"
            )
        return True

    async def _tell_owners(self) -> bool:
        """Appends registrations behind the batches; returns whether the queue had room for them."""
        if self.telling is None:
            return True

        def append(kind: Kind, payload: bytes) -> bool:
            return self._has_room and self._append(kind, payload)

        def free() -> int:
            return self._budget - self._used()

        return await self.telling.pass_on(append, self._budget, free)

    async def _first_batch(self) -> int:
        """Finds the first batch from which on all templates pay the federation."""
        first = await self._book.last_sequence() + 1
        while first > 0:
            start = max(first - BATCHES_AT_ONCE, 0)
            for batch in reversed(await self._book.batches(start, first - start)):
                bodies = await self._book.bodies(batch.templates)
                if not all(self._pays(body) for body in bodies.values()):
                    return first
                first = batch.sequence
        return first

    async def _pass_batch(self, batch: DurableBatch) -> bool:
        """Appends a batch and what it needs; returns whether there was room for it."""
        unknown = [digest for digest in batch.templates if digest not in self._known]
        bodies = await self._book.bodies(unknown)
        heights = {
            digest: self._known[digest] if digest in self._known else body_height(bodies[digest])
            for digest in batch.templates
        }
        if min(heights.values()) < self._height_min():
            self.skipped += 1
            log.warning("a batch is too late to count: it is left out", sequence=batch.sequence)
            return True
        payloads = [(Kind.TEMPLATE, each) for each in _grouped([bodies[each] for each in unknown])]
        payloads.append((Kind.SHARE_BATCH, batch.blob))
        size = sum(len(payload) + ENTRY_OVERHEAD for _, payload in payloads)
        self._obstacle = ""
        if size > self._budget:
            self._obstacle = (
                f"batch {batch.sequence} has {size} bytes with its templates, and the federation's "
                f"budget for this pool is {self._budget} a block: lower federation.batch_shares, "
                "or how many templates are mined at once"
            )
        if not self._has_room or self._used() + size > self._budget:
            return False
        for kind, payload in payloads:
            if not self._append(kind, payload):
                # The bodies before it may be said once more, which changes nothing.
                return False
        self._known.update(heights)
        self._forget(max(heights.values()))
        return True

    def _height_min(self) -> int:
        """Returns the least height of a body that members keep behind the last own mark."""
        marks = self._stream.tip.marks
        if marks == 0:
            return 0
        return self._rules.height_of(marks - 1) + 1 - self._rules.grace - KEPT

    def _used(self) -> int:
        """Returns how many bytes of the budget are used, with all that waits."""
        waiting = self._stream.waiting
        self._queued = self._queued[-max(waiting, 1) :]
        return self._stream.tip.segment_bytes + sum(self._queued) * bool(waiting)

    def _append(self, kind: Kind, payload: bytes) -> bool:
        try:
            self._stream.append(kind, payload)
        except LocalProtocolError:
            return False
        self._queued.append(len(payload) + ENTRY_OVERHEAD)
        return True

    def _forget(self, height: int) -> None:
        if len(self._known) > HEIGHTS_KNOWN:
            lowest = height - HEIGHTS_KNOWN
            self._known = {each: at for each, at in self._known.items() if at >= lowest}


def _is_counted(payload: bytes, marked: int) -> bool:
    """Says whether certified books have counted a mark, and with it all that is before it."""
    try:
        return Mark.decode(payload).epoch < marked
    except CodecError:
        return False


def _grouped(bodies: Sequence[bytes]) -> list[bytes]:
    """Writes bodies into as few payloads as are not too long."""
    groups: list[list[bytes]] = []
    size = BODIES_BYTES_MAX
    for body in bodies:
        if size + len(body) > BODIES_BYTES_MAX:
            groups.append([])
            size = 0
        groups[-1].append(body)
        size += len(body)
    return [encode_bodies(group) for group in groups]

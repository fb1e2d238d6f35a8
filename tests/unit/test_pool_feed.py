"""What a pool's feed appends to the own stream: order, holding back, and going on after a crash."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
import trio

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.federation.agreement.mark import Mark
from radpool_sv2.federation.broadcast.entry import Position
from radpool_sv2.federation.broadcast.payload import ENTRY_OVERHEAD, Kind
from radpool_sv2.federation.state.accounting import KEPT, body_digest
from radpool_sv2.federation.state.ledger import Books
from radpool_sv2.federation.state.payload import Tip, decode_bodies
from radpool_sv2.federation.state.rules import Rules
from radpool_sv2.ledger.batch import DurableBatch
from radpool_sv2.pool.feed import (
    BODIES_BYTES_MAX,
    FEES_SECONDS,
    WAITING_MAX,
    Feed,
    batch_sequence,
)

FIRST = 100
RULES = Rules(msp_keys=(bytes(32),), faulty_max=0, height_first=FIRST, bytes_base=1 << 16)
OURS, FOREIGN = b"ours", b"foreign"
SCRIPT = b"\x51\x20" + bytes(32)


def body(height, number=0, payee=OURS, size=0):
    return (
        bytes(36) + bytes(4) + height.to_bytes(4, "little") + payee + bytes([number]) * (1 + size)
    )


def tip(height, fees=0, block=0):
    return Tip(bytes([height % 256, block]) + bytes(30), height, 0x1D00FFFF, 1 << 200, fees)


class Stream:
    """An own stream whose entries are there at once, or wait until they are let go."""

    def __init__(self, entries=()):
        self.entries = list(entries)
        self.queue = []
        self.holds = False
        self.queue_max = 64

    @property
    def tip(self):
        marks = size = 0
        for kind, payload in self.entries:
            size += len(payload) + ENTRY_OVERHEAD
            if kind == Kind.EPOCH_MARK:
                marks, size = Mark.decode(payload).epoch + 1, 0
        return Position(len(self.entries), bytes(32), size, marks)

    @property
    def waiting(self):
        return len(self.queue)

    def append(self, kind, payload):
        if len(self.queue) >= self.queue_max:
            raise LocalProtocolError("hold back")
        self.queue.append((kind, payload))
        if not self.holds:
            self.let_go()

    def let_go(self):
        self.entries += self.queue
        self.queue.clear()

    def mark(self, epoch):
        self.entries.append((Kind.EPOCH_MARK, Mark(epoch, FIRST + epoch, bytes(32)).encode()))

    async def entry(self, seq):
        kind, payload = self.entries[seq]
        return SimpleNamespace(header=SimpleNamespace(kind=kind, seq=seq), payload=payload)

    def of(self, kind):
        return [payload for each, payload in self.entries if each == kind]

    def batches(self):
        return [batch_sequence(payload) for payload in self.of(Kind.SHARE_BATCH)]


@dataclass
class Book:
    """A ledger of batches, each on some bodies."""

    rows: list = field(default_factory=list)
    known: dict = field(default_factory=dict)

    def add(self, *bodies, size=200):
        sequence = len(self.rows)
        digests = tuple(self.digest(each) for each in bodies)
        self.known.update(zip(digests, bodies, strict=True))
        blob = bytes(37) + sequence.to_bytes(8, "little") + bytes(size)
        self.rows.append(DurableBatch(sequence, blob, digests))

    @staticmethod
    def digest(each):
        return body_digest(each)

    async def last_sequence(self):
        return len(self.rows) - 1

    async def batches(self, first, limit):
        return self.rows[first : first + limit]

    async def bodies(self, digests):
        return {digest: self.known[digest] for digest in digests}


def feed_of(stream, book, rules=RULES):
    return Feed(stream, book, rules, script=SCRIPT, pays=lambda each: each[44:].startswith(OURS))


async def rest(feed):
    """Lets the feed run until it has nothing to do, or holds back."""
    with trio.move_on_after(1):
        feed.rested = trio.Event()
        feed.wake()
        await feed.rested.wait()


def books(**changes):
    return replace(Books(budget=1 << 16, script=SCRIPT), **changes)


@pytest.fixture
async def fed(nursery):
    """Starts feeds."""

    def start(stream, book, known=None, rules=RULES):
        feed = feed_of(stream, book, rules)
        nursery.start_soon(feed.run, books() if known is None else known)
        return feed

    return start


async def test_a_batch_stands_behind_the_bodies_that_it_names_and_each_is_said_once(
    autojump_clock, fed
):
    stream, book = Stream(), Book()
    first, second = body(FIRST, 1), body(FIRST, 2)
    book.add(first)
    book.add(first, second)
    book.add(second)
    feed = fed(stream, book)
    feed.begin()
    await rest(feed)
    assert [kind for kind, _ in stream.entries] == [
        Kind.TEMPLATE, Kind.SHARE_BATCH, Kind.TEMPLATE, Kind.SHARE_BATCH, Kind.SHARE_BATCH,
    ]  # fmt: skip
    assert [decode_bodies(each) for each in stream.of(Kind.TEMPLATE)] == [[first], [second]]
    assert stream.batches() == [0, 1, 2]


async def test_nothing_of_what_was_mined_for_the_pool_alone_is_told(autojump_clock, fed):
    stream, book = Stream(), Book()
    for payee in (OURS, FOREIGN, OURS, FOREIGN):
        book.add(body(FIRST, payee=payee))
    book.add(body(FIRST, 1), body(FIRST, 2, FOREIGN))
    feed = fed(stream, book)
    book.add(body(FIRST, 3))
    await rest(feed)
    assert stream.entries == []
    feed.begin()
    await rest(feed)
    assert stream.batches() == [5]
    book.add(body(FIRST, 3))
    await rest(feed)
    assert stream.batches() == [5, 6]


async def test_a_crash_anywhere_leaves_nothing_out_and_brings_nothing_twice(autojump_clock):
    """Whatever part of the stream outlives it: what had been queued is gone."""
    book = Book()
    for number in range(6):
        book.add(body(FIRST, number), body(FIRST, number + 1))
    whole = Stream()
    async with trio.open_nursery() as nursery:
        feed = feed_of(whole, book)
        nursery.start_soon(feed.run, books())
        feed.begin()
        await rest(feed)
        nursery.cancel_scope.cancel()
    assert whole.batches() == list(range(6))
    for kept in range(len(whole.entries) + 1):
        stream = Stream(whole.entries[:kept])
        async with trio.open_nursery() as nursery:
            feed = feed_of(stream, book)
            nursery.start_soon(feed.run, books())
            feed.begin()
            await rest(feed)
            nursery.cancel_scope.cancel()
        assert stream.batches() == list(range(6)), kept
        said = set()
        for kind, payload in stream.entries:
            if kind == Kind.TEMPLATE:
                said.update(map(Book.digest, decode_bodies(payload)))
            else:
                assert said.issuperset(book.rows[batch_sequence(payload)].templates), kept


async def test_books_tell_the_place_where_the_stream_holds_no_batch_any_more(autojump_clock, fed):
    book = Book()
    known = body(FIRST, 1)
    for _ in range(5):
        book.add(known)
    stream = Stream()
    stream.mark(0)
    bodies = {Book.digest(known): known}
    feed = fed(stream, book, books(sequence=3, previous=b"x" * 32, marked=1, bodies=bodies))
    await rest(feed)
    assert stream.batches() == [3, 4]
    assert stream.of(Kind.TEMPLATE) == []


async def test_it_holds_back_while_much_waits(autojump_clock, fed):
    stream, book = Stream(), Book()
    stream.holds = True
    for _ in range(2 * WAITING_MAX):
        book.add(body(FIRST))
    feed = fed(stream, book)
    feed.begin()
    await rest(feed)
    assert stream.waiting == WAITING_MAX
    stream.let_go()
    stream.holds = False
    await rest(feed)
    assert stream.batches() == list(range(2 * WAITING_MAX))


async def test_a_queue_that_is_full_of_others_is_waited_for(autojump_clock, fed):
    stream, book = Stream(), Book()
    stream.queue_max = 0
    book.add(body(FIRST))
    feed = fed(stream, book)
    feed.begin()
    feed.offered(tip(FIRST))
    await rest(feed)
    assert stream.entries == []
    stream.queue_max = 64
    await rest(feed)
    assert [kind for kind, _ in stream.entries] == [Kind.TIP, Kind.TEMPLATE, Kind.SHARE_BATCH]


async def test_what_the_books_allow_is_kept_to_until_the_next_mark(autojump_clock, fed):
    stream, book = Stream(), Book()
    size = (1 << 14) - ENTRY_OVERHEAD - 45
    for _ in range(8):
        book.add(body(FIRST), size=size)
    feed = fed(stream, book)
    feed.begin()
    await rest(feed)
    # Four would fit, were it not for the body.
    assert stream.batches() == [0, 1, 2]
    assert stream.tip.segment_bytes <= 1 << 16
    stream.mark(0)
    await rest(feed)
    assert stream.batches() == list(range(7))
    # Half of what is granted above the least, as the books that count are later ones.
    feed.certified(books(budget=(1 << 16) + (1 << 15)))
    await rest(feed)
    assert stream.batches() == list(range(8))


async def test_a_ledger_that_has_lost_what_the_federation_has_is_told_of(autojump_clock, fed):
    stream, book = Stream(), Book()
    for _ in range(3):
        book.add(body(FIRST))
    feed = fed(stream, book)
    feed.begin()
    await rest(feed)
    assert feed.problem == ""
    restored = Book(book.rows[:1], book.known)
    again = fed(stream, restored)
    await rest(again)
    assert "2 batches" in again.problem
    assert stream.batches() == [0, 1, 2]


async def test_a_batch_that_can_never_fit_is_told_of(autojump_clock, fed):
    stream, book = Stream(), Book()
    book.add(body(FIRST), size=1 << 17)
    feed = fed(stream, book)
    feed.begin()
    await rest(feed)
    assert stream.entries == []
    assert "budget" in feed.problem


async def test_bodies_that_are_long_have_payloads_of_their_own(autojump_clock, fed):
    stream, book = Stream(), Book()
    size = BODIES_BYTES_MAX // 3 - 100
    book.add(*(body(FIRST, number, size=size) for number in range(5)))
    rules = replace(RULES, bytes_base=1 << 22)
    feed = fed(stream, book, books(budget=1 << 22), rules)
    feed.begin()
    await rest(feed)
    assert [len(decode_bodies(each)) for each in stream.of(Kind.TEMPLATE)] == [3, 2]
    assert stream.batches() == [0]


@pytest.mark.parametrize(("behind", "is_late"), [(RULES.grace + KEPT, False), (99, True)])
async def test_a_batch_that_members_cannot_judge_any_more_is_left_out(
    autojump_clock, fed, behind, is_late
):
    stream, book = Stream(), Book()
    stream.mark(200)
    marked = RULES.height_of(200)
    for height in (marked + 1 - behind, marked + 1):
        book.add(body(height))
    feed = fed(stream, book)
    feed.begin()
    await rest(feed)
    assert stream.batches() == ([1] if is_late else [0, 1])
    assert feed.skipped == is_late


async def test_tips_go_out_at_once_and_fees_as_they_rise_now_and_then(autojump_clock, fed):
    stream = Stream()
    feed = fed(stream, Book())
    feed.offered(tip(FIRST, 10))
    await rest(feed)
    feed.offered(tip(FIRST, 5))
    feed.offered(tip(FIRST, 20))
    feed.offered(tip(FIRST, 30))
    feed.offered(tip(FIRST + 1, 7))
    await rest(feed)
    said = [Tip.decode(each) for each in stream.of(Kind.TIP)]
    # What has risen on a tip that is gone still counts for the shares on it.
    assert said == [tip(FIRST, 10), tip(FIRST, 30), tip(FIRST + 1, 7)]
    feed.offered(tip(FIRST + 1, 8))
    feed.offered(tip(FIRST + 1, 9))
    await rest(feed)
    assert [Tip.decode(each) for each in stream.of(Kind.TIP)] == said
    await trio.sleep(FEES_SECONDS)
    await rest(feed)
    assert [Tip.decode(each) for each in stream.of(Kind.TIP)][len(said) :] == [tip(FIRST + 1, 9)]


@pytest.mark.parametrize(("known", "said"), [(b"", [SCRIPT]), (b"\x51", [SCRIPT]), (SCRIPT, [])])
async def test_the_script_is_said_when_the_books_have_another(autojump_clock, fed, known, said):
    stream = Stream()
    feed = fed(stream, Book(), books(script=known))
    await rest(feed)
    feed.certified(books(script=known))
    await rest(feed)
    assert stream.of(Kind.PAYOUT_SCRIPT) == said

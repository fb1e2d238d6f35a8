"""Links over streams in memory, in virtual time."""

from contextlib import suppress
from hashlib import sha256
from itertools import pairwise

import pytest
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from radpool_sv2._native.threshold import MESSAGE_LEN_MAX, TransportKey
from radpool_sv2.errors import ConnectionEnded, RemoteProtocolError
from radpool_sv2.federation.transport.link import KEEP_ALIVE, Link, LinkLimits, accept, dial

COMMITTEE = sha256(b"a committee").digest()
KEYS = [TransportKey.from_secret(sha256(b"key %d" % each).digest()) for each in range(3)]


async def opened(limits=None, streams=memory_stream_pair):
    """Both ends of a link that member 0 has dialled to member 1."""
    near, far = streams()
    ends = {}

    async def answer():
        ends[1] = await accept(far, KEYS[1], [KEYS[0].public], COMMITTEE)
        await far.send_all(ends[1].machine.send([KEEP_ALIVE]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        ends[0] = await dial(near, KEYS[0], KEYS[1].public, COMMITTEE)
    limits = limits or LinkLimits()
    return Link(ends[0], 1, 0, limits), Link(ends[1], 0, 0, limits)


def taking(taken):
    async def take(_link, messages):
        taken.extend(messages)

    return take


async def test_messages_arrive_whole_and_in_order(autojump_clock):
    """spec: FT-6, FT-7"""
    link, other = await opened()
    taken = []
    sent = [b"%d" % each * (1 << each) for each in range(16)] + [bytes([1]) * MESSAGE_LEN_MAX]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run, taking([]))
        nursery.start_soon(other.run, taking(taken))
        for message in sent:
            link.post(message)
        await link.wait_below(1)
        while len(taken) < len(sent):
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert taken == sent
    assert other.received_bytes == link.sent_bytes == sum(map(len, sent))


async def test_a_link_with_nothing_to_say_stays_up_until_it_is_old(autojump_clock):
    """spec: FT-11"""
    link, other = await opened()
    taken = []
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run, taking(taken))
        nursery.start_soon(other.run, taking(taken))
    assert trio.current_time() - began == pytest.approx(LinkLimits().age_seconds)
    assert taken == []


async def test_a_silent_peer_is_let_go(autojump_clock):
    link, _ = await opened()
    began = trio.current_time()
    await link.run(taking([]))
    assert trio.current_time() - began == pytest.approx(LinkLimits().silence_seconds)
    assert link.reason == "the peer is silent"


async def test_a_peer_that_takes_nothing_is_let_go(autojump_clock):
    link, other = await opened(streams=lockstep_stream_pair)
    began = trio.current_time()
    link.post(b"something")
    # It speaks, and does not listen.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_speak, other)
        await link.run(taking([]))
        nursery.cancel_scope.cancel()
    assert link.reason == "the peer takes nothing"
    assert trio.current_time() - began == pytest.approx(LinkLimits().write_seconds)


async def _speak(link):
    with suppress(trio.BrokenResourceError):
        while True:
            await link._stream.send_all(link._machine.send([b"\1"]))
            await trio.sleep(5)


async def test_an_outbox_has_an_end_and_posting_never_waits(autojump_clock):
    limits = LinkLimits(outbox_bytes_max=1_000)
    link, _ = await opened(limits, lockstep_stream_pair)
    for _ in range(10):
        link.post(bytes(100))
    assert not link.is_closed
    assert link.outbox_bytes == 1_000
    link.post(b"\1")
    assert link.reason == "the peer takes less than there is to say"
    link.post(b"\1")
    assert link.outbox_bytes == 0


async def test_nothing_is_read_while_messages_are_not_dealt_with(autojump_clock):
    link, other = await opened(streams=lockstep_stream_pair)
    gate, seen = trio.Event(), []

    async def take(_link, messages):
        seen.append(len(messages))
        await gate.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run, take)
        nursery.start_soon(other.run, taking([]))
        for _ in range(100):
            other.post(bytes([1]) * 50_000)
        await trio.sleep(10)
        # One read of at most 64 KiB is here; the rest is still where it came from.
        assert sum(seen) <= 1
        assert other.outbox_bytes > 90 * 50_000
        gate.set()
        await other.wait_below(1)
        nursery.cancel_scope.cancel()
    assert len(seen) > 1


async def test_a_stranger_is_told_nothing(autojump_clock):
    """spec: FT-4, FT-12"""
    near, far = memory_stream_pair()
    errors = []

    async def answer():
        with pytest.raises(RemoteProtocolError) as error:
            await accept(far, KEYS[1], [KEYS[0].public], COMMITTEE)
        errors.append(error.value)
        await far.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        with pytest.raises(ConnectionEnded):
            await dial(near, KEYS[2], KEYS[1].public, COMMITTEE)
    assert errors


async def test_bytes_of_no_link_end_it(autojump_clock):
    """spec: FT-10"""
    link, other = await opened()
    await other._stream.send_all(b"\xff" * 40)
    taken = []
    await link.run(taking(taken))
    assert link.reason
    assert link.reason != "we leave"
    assert taken == []


@pytest.mark.parametrize("_order", range(20))
async def test_a_link_that_ends_while_something_is_to_be_sent_just_ends(autojump_clock, _order):
    """Which of the two tasks comes first is chance."""
    link, other = await opened()
    link.post(b"something")
    await other._stream.send_all(b"\xff" * 40)
    await link.run(taking([]))
    assert link.reason
    assert link.outbox_bytes == 0


async def test_a_link_takes_bytes_in_any_pieces(autojump_clock):
    link, other = await opened()
    taken = []
    data = other._machine.send([b"one", b"two" * 1_000, KEEP_ALIVE, b"three"])
    cuts = [0, *range(1, 60), 700, len(data) - 1, len(data)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run, taking(taken))
        for start, end in pairwise(cuts):
            await other._stream.send_all(data[start:end])
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert taken == [b"one", b"two" * 1_000, b"three"]


async def test_who_sends_too_much_is_read_slower_and_nothing_is_lost(autojump_clock):
    limits = LinkLimits(received_per_second=1_000_000, received_at_once=4_000_000)
    link, other = await opened(limits)
    taken = []
    piece = bytes([1]) * 1_000_000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run, taking([]))
        nursery.start_soon(other.run, taking(taken))
        began = trio.current_time()
        for _ in range(20):
            link.post(piece)
        while len(taken) < 4:
            await trio.sleep(0.01)
        assert other.held_back_seconds < 1
        while len(taken) < 20:
            await trio.sleep(0.01)
        seconds = trio.current_time() - began
        # What was lent is paid back by waiting: then as much may come at once again.
        await trio.sleep(10)
        before = other.held_back_seconds
        link.post(piece)
        while len(taken) < 21:
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert 15 < seconds < 18
    assert 15 < before < 18
    assert other.held_back_seconds == before
    assert link.reason == other.reason == "we leave"

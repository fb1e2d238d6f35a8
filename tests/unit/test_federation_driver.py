"""What a member's driver makes of peers that cost it more than they spend."""

import pytest
import structlog
import trio
import trio.testing
from federation_net import Net

from radpool_sv2.federation.broadcast.sync import Puller
from radpool_sv2.federation.effect import AppliedState, Limits, Segment, Send, Serve
from radpool_sv2.federation.messages import Gone, PullEpochs, encode_message
from radpool_sv2.federation.node import (
    EFFECTS_WAITING_MAX,
    MESSAGES_AT_ONCE,
    SERVE_BELOW_BYTES,
    FederationNode,
)
from radpool_sv2.federation.state.digest import DigestState


class PeerLink:
    """Is a link that a peer reads as fast as the test lets it."""

    def __init__(self, member):
        self.member = member
        self.reason = ""
        self.outbox_bytes = self.outbox_bytes_most = 0
        self.drained = trio.Event()

    @property
    def is_closed(self):
        return bool(self.reason)

    def post(self, data):
        self.outbox_bytes += len(data)
        self.outbox_bytes_most = max(self.outbox_bytes, self.outbox_bytes_most)

    def close(self, reason):
        self.reason = self.reason or reason

    def drain(self):
        self.outbox_bytes = 0
        self.drained.set()
        self.drained = trio.Event()

    async def wait_below(self, count):
        while self.outbox_bytes >= count:
            await self.drained.wait()


@pytest.fixture
def node(tmp_path):
    net = Net(tmp_path)
    store = net.store(0)
    yield FederationNode(net.committee, net.signers[0], net.verifier, store, DigestState())
    store.close()


@pytest.fixture
def said():
    with structlog.testing.capture_logs() as lines:
        yield lines


async def test_short_messages_of_one_peer_do_not_hold_up_another(node):
    loud, quiet = PeerLink(1), PeerLink(2)
    for link in (loud, quiet):
        node.opened(link)
    flood = [encode_message(Gone(9))] * (4 * MESSAGES_AT_ONCE)
    heard_before = []

    async def speak():
        await node.received(quiet, flood[:1])
        heard_before.append(node._heard[1]["gone"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.received, loud, flood)
        nursery.start_soon(speak)
    assert heard_before[0] <= 2 * MESSAGES_AT_ONCE
    assert node._heard[1]["gone"] == len(flood)


async def test_nothing_is_taken_behind_the_end_of_a_link(node):
    link = PeerLink(1)
    node.opened(link)
    await node.received(link, [b"\xff"] + [encode_message(Gone(9))] * (2 * MESSAGES_AT_ONCE))
    assert link.is_closed
    assert node._heard[1]["gone"] == 0


async def test_a_log_has_one_line_for_each_link_however_often_a_peer_lies(node, said):
    link = PeerLink(1)
    node.opened(link)
    await node.received(link, [encode_message(Gone(first)) for first in range(5, 105)])
    assert [line["log_level"] for line in said] == ["error"]
    assert node.machine.gone == {1: 104}
    said.clear()
    # A member cannot have decided so many: each of these breaks the protocol.
    await node.received(link, [b"\x05" + b"\x7f\0" + bytes(8)] * MESSAGES_AT_ONCE)
    assert [line["log_level"] for line in said] == ["warning"]
    assert link.is_closed
    node.closed(link)
    again = PeerLink(1)
    node.opened(again)
    said.clear()
    await node.received(again, [encode_message(Gone(7))] * 2)
    assert [line["log_level"] for line in said] == ["error"]


async def test_what_waits_for_links_that_went_down_is_let_go_of(node):
    # Nobody commits: nothing becomes durable, and nothing behind it is said.
    node._store.keep_state(0, b"a state")
    for _ in range(8):
        link = PeerLink(1)
        node.opened(link)
        assert len(node._queue) > 0
        node.closed(link)
        assert len(node._queue) == 0


async def test_who_cannot_compute_its_books_says_so_until_it_can(node, autojump_clock):
    given = []
    node._give = given.append
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node._apply, 0, (Segment(1, 0, 1),))
        while not node.status()["store_failure"]:
            await trio.sleep(0.01)
        assert "entry 0 of member 1" in node.status()["store_failure"]
        assert not given
        node._compute = lambda _epoch, _segments: (b"books", bytes(32))
    assert node.status()["store_failure"] == ""
    assert given == [AppliedState(0, bytes(32))]


async def test_a_peer_that_leaves_makes_room_for_others(node):
    waiting, other = PeerLink(1), PeerLink(2)
    for link in (waiting, other):
        node.opened(link)
    node._store.keep_state(0, b"a state")
    node._queue.extend([(1, other, Send(2, Gone(0)))] * EFFECTS_WAITING_MAX)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.received, waiting, [encode_message(Gone(9))])
        await trio.testing.wait_all_tasks_blocked()
        assert node._heard[1]["gone"] == 0
        node.closed(other)
        nursery.cancel_scope.deadline = trio.current_time() + 60
    assert node._heard[1]["gone"] == 1


async def test_a_peer_is_given_one_answer_after_the_other(node):
    """spec: FB-21"""
    link = PeerLink(1)
    node.opened(link)
    link.drain()
    answers = []

    def answer(effect):
        # As long as an answer may be: it would be read by a slow peer for minutes.
        answers.append(effect.sender)
        return Large()

    node._answer = answer
    async with trio.open_nursery() as nursery:
        for sender in range(8):
            nursery.start_soon(node._serve, link, Serve(1, sender, 0))
        for count in range(1, 9):
            with trio.fail_after(60):
                while len(answers) < count or not link.outbox_bytes:
                    await trio.sleep(0.001)
            assert len(answers) == count
            link.drain()
    assert link.outbox_bytes_most < 2 * SERVE_BELOW_BYTES
    assert sorted(answers) == list(range(8))


class Large(PullEpochs):
    """Is an answer of the greatest size."""

    def __init__(self):
        super().__init__(0)

    def body(self):
        return bytes(SERVE_BELOW_BYTES)


LIMITS = Limits()


def test_who_has_nothing_and_claims_again_is_not_asked_before_others():
    """spec: FB-21"""
    puller, now = Puller(LIMITS), 0
    puller.claim(0, 1 << 60, 0, now)
    puller.claim(1, 500, 0, now)
    assert puller.ask(now) == 0
    asked = []
    for known in range(64, 500, 64):
        puller.forget(0)
        puller.claim(0, 1 << 60, known, now)
        member = puller.ask(now)
        asked.append(member)
        puller.grown(known, now)
        puller.answered(member, now, useful=True)
    assert asked == [1] * len(asked)
    # It is believed again when there is nothing to be had from anybody.
    puller.grown(1 << 60, now)
    puller.claim(0, (1 << 60) + 1, 1 << 60, now)
    assert puller.ask(now + LIMITS.pull_delay_ms) == 0


def test_who_answers_with_little_gets_no_more_turns_than_others():
    """spec: FB-21"""
    puller, now = Puller(LIMITS), 0
    for member, count in ((0, 1 << 60), (1, 5_000), (2, 5_000)):
        puller.claim(member, count, 0, now)
    asked = []
    for known in range(1, 31):
        asked.append(puller.ask(now))
        puller.grown(known, now)
        puller.answered(asked[-1], now, useful=True)
    assert [asked.count(member) for member in range(3)] == [10, 10, 10]

"""Who has a link with whom, over a network in memory, in virtual time."""

from hashlib import sha256
from itertools import pairwise
from random import Random

import pytest
import trio
from federation_rig import committee_of
from trio.testing import memory_stream_pair

from radpool_sv2._native.threshold import TransportKey
from radpool_sv2.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.identity import MemberRecord
from radpool_sv2.federation.transport.mesh import Mesh, MeshLimits, open_address


class Inbox:
    """Writes down what it is told."""

    def __init__(self):
        self.links = {}
        self.ups = 0
        self.messages = []
        self.gate = trio.Event()
        self.gate.set()

    def opened(self, link):
        assert link.member not in self.links
        self.links[link.member] = link
        self.ups += 1

    def closed(self, link):
        assert self.links.pop(link.member) is link

    async def received(self, link, messages):
        await self.gate.wait()
        self.messages += [(link.member, message) for message in messages]


class Listener(trio.abc.Listener):
    def __init__(self):
        self.give, self.take = trio.open_memory_channel(1_000)

    async def accept(self):
        return await self.take.receive()

    async def aclose(self):
        await trio.lowlevel.checkpoint()


class Abandoned(trio.abc.Stream):
    """Is an end whose machine may go without a word to the other one."""

    def __init__(self, stream):
        self.stream = stream

    async def send_all(self, data):
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self):
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes=None):
        return await self.stream.receive_some(max_bytes)

    async def aclose(self):
        await trio.lowlevel.checkpoint()


class Network:
    """Members that may dial each other by their numbers."""

    def __init__(self, n=2, reachable=None, seed=0):
        self.committee, self.signers, self.verifier = committee_of(n)
        self.transport = [
            TransportKey.from_secret(sha256(b"transport %d" % each).digest()) for each in range(n)
        ]
        reachable = range(n) if reachable is None else reachable
        self.records = [
            MemberRecord.sign(
                self.signers[each],
                self.transport[each].public,
                (f"{each}:1",) if each in reachable else (),
                1,
            )
            for each in range(n)
        ]
        self.listeners = [Listener() for _ in range(n)]
        self.inboxes = [Inbox() for _ in range(n)]
        self.seed = seed
        self.delays = {}
        self.dials = []
        self.refused = set()
        self.streams = []
        self.wrap = lambda stream: stream

    def mesh(self, me):
        async def connect(address):
            to = int(address.partition(":")[0])
            self.dials.append((trio.current_time(), me, to))
            await trio.sleep(self.delays.get((me, to), 0.001))
            if to in self.refused:
                raise OSError("nobody is there")
            near, far = memory_stream_pair()
            self.streams.append((near, far))
            await self.listeners[to].give.send(self.wrap(far))
            return near

        return Mesh(
            self.committee,
            me,
            self.transport[me],
            self.records,
            self.verifier,
            self.inboxes[me],
            connect=connect,
            random=Random(self.seed * 100 + me),
        )

    async def run(self, me, task_status=trio.TASK_STATUS_IGNORED):
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await self.mesh(me).run([self.listeners[me]])

    def is_whole(self):
        n = len(self.records)
        return all(len(inbox.links) == n - 1 for inbox in self.inboxes)


async def until(holds, seconds=600):
    with trio.fail_after(seconds):
        while not holds():
            await trio.sleep(0.01)


@pytest.mark.parametrize("seed", range(10))
async def test_of_two_who_dial_at_once_one_link_stays(autojump_clock, seed):
    """spec: FT-13"""
    network = Network(seed=seed)
    random = Random(seed)
    network.delays = {pair: random.choice((0.0, 0.3, 0.6, 1.0)) for pair in ((0, 1), (1, 0))}
    async with trio.open_nursery() as nursery:
        for me in (0, 1):
            nursery.start_soon(network.run, me)
        await until(network.is_whole)
        await trio.sleep(60)
        assert network.is_whole()
        near, far = network.inboxes[0].links[1], network.inboxes[1].links[0]
        # Both ends have the same one, and it works.
        assert near.dialler == far.dialler
        near.post(b"\1hello")
        far.post(b"\2hello")
        await until(lambda: all(inbox.messages for inbox in network.inboxes))
        # Nobody dials while there is a link.
        dials = len(network.dials)
        await trio.sleep(600)
        assert len(network.dials) == dials
        nursery.cancel_scope.cancel()
    assert network.inboxes[0].messages == [(1, b"\2hello")]
    assert network.inboxes[1].messages == [(0, b"\1hello")]


async def test_simultaneous_links_leave_that_of_the_smaller_key(autojump_clock):
    """spec: FT-13"""
    network = Network()
    # The larger waits 0.5 s to 1 s before it dials: both arrive at about the same time.
    network.delays = {(0, 1): 2.0, (1, 0): 0.0}
    async with trio.open_nursery() as nursery:
        for me in (0, 1):
            nursery.start_soon(network.run, me)
        await until(network.is_whole)
        assert network.inboxes[0].links[1].dialler == 1
        await until(lambda: network.inboxes[0].ups == 2)
        await until(network.is_whole)
        assert network.inboxes[0].links[1].dialler == network.inboxes[1].links[0].dialler == 0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("hidden", [0, 1])
async def test_one_reachable_end_is_enough(autojump_clock, hidden):
    network = Network(reachable={1 - hidden})
    async with trio.open_nursery() as nursery:
        for me in (0, 1):
            nursery.start_soon(network.run, me)
        await until(network.is_whole)
        assert network.inboxes[0].links[1].dialler == hidden
        await trio.aclose_forcefully(network.streams[0][0])
        await until(lambda: network.inboxes[0].ups == 2 and network.is_whole())
        nursery.cancel_scope.cancel()


async def test_who_cannot_be_reached_is_dialled_less_and_less(autojump_clock):
    network = Network(reachable={1})
    network.refused.add(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.run, 0)
        await trio.sleep(3_600)
        times = [time for time, _, _ in network.dials]
        limits = MeshLimits()
        assert 100 < len(times) < 250
        assert max(b - a for a, b in pairwise(times)) <= (1.5 * limits.dial_seconds_max + 1)
        # And is soon found when it is back.
        network.refused.clear()
        nursery.start_soon(network.run, 1)
        await until(network.is_whole, 60)
        nursery.cancel_scope.cancel()


async def test_silent_strangers_keep_no_member_out(autojump_clock):
    network = Network(reachable={1})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.run, 1)
        strangers = []
        for _ in range(200):
            near, far = memory_stream_pair()
            strangers.append(near)
            await network.listeners[1].give.send(far)
        await trio.sleep(0.1)
        nursery.start_soon(network.run, 0)
        await until(network.is_whole, 5)
        nursery.cancel_scope.cancel()


async def test_a_member_whose_end_was_lost_is_let_in_again(autojump_clock):
    """The smaller key's link is up here; there it is not, and nobody has told us."""
    network = Network()
    network.wrap = Abandoned
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.run, 0)
        first = await nursery.start(network.run, 1)
        await until(network.is_whole)
        assert network.inboxes[0].links[1].dialler == 0
        await trio.sleep(40)
        first.cancel()
        await trio.sleep(1)
        assert network.inboxes[0].links[1].dialler == 0
        network.inboxes[1] = Inbox()
        nursery.start_soon(network.run, 1)
        # Sooner than silence would tell.
        await until(lambda: network.inboxes[0].ups == 2 and network.is_whole(), 5)
        nursery.cancel_scope.cancel()


async def test_a_peer_that_is_not_listened_to_blocks_nobody(autojump_clock):
    network = Network(3)
    async with trio.open_nursery() as nursery:
        for me in range(3):
            nursery.start_soon(network.run, me)
        await until(network.is_whole)
        # Member 1 deals with nothing; 0 goes on with 2, and in the end gives 1 up.
        network.inboxes[1].gate = trio.Event()
        for number in range(100):
            if 1 in network.inboxes[0].links:
                network.inboxes[0].links[1].post(bytes([1]) * (1 << 20))
            network.inboxes[0].links[2].post(b"\1%d" % number)
        await until(lambda: len(network.inboxes[2].messages) == 100, 5)
        assert network.inboxes[0].ups >= 2
        nursery.cancel_scope.cancel()


def test_records_that_are_not_the_committees_are_refused():
    network = Network(3)
    with pytest.raises(LocalProtocolError, match="one record of each member"):
        network.records.reverse()
        network.mesh(0)
    network = Network(3)
    with pytest.raises(LocalProtocolError, match="not that of the own record"):
        network.transport.reverse()
        network.mesh(0)
    network = Network(3)
    network.records[1] = MemberRecord.sign(network.signers[1], network.transport[2].public, (), 1)
    with pytest.raises(LocalProtocolError, match="same transport key"):
        network.mesh(0)
    network = Network(3)
    record = network.records[1]
    network.records[1] = MemberRecord(
        record.identity, record.transport, ("9:9",), 2, record.signature
    )
    with pytest.raises(RemoteProtocolError, match="not signed"):
        network.mesh(0)


async def test_an_address_that_is_none_is_told():
    for wrong in ("pool.example", ":1", "a:", "a:70000", "a:-1", "a:x"):
        with pytest.raises(ConfigError, match="no address of a member"):
            await open_address(wrong)


@pytest.mark.parametrize("name", ["a" * 64, "a..b", "."])
async def test_an_address_that_cannot_be_asked_for_ends_nothing(autojump_clock, name):
    network = Network(n=3, reachable=(0, 1))
    usual = network.records[2]
    network.records[2] = MemberRecord.sign(
        network.signers[2], network.transport[2].public, (f"{name}:1",), 1
    )
    mesh = network.mesh(0)
    network.records[2] = usual
    in_memory = mesh._connect

    async def connect(address):
        through = open_address if address.startswith(name) else in_memory
        return await through(address)

    mesh._connect = connect
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mesh.run, [network.listeners[0]])
        nursery.start_soon(network.run, 1)
        await until(lambda: 1 in network.inboxes[0].links and mesh.failure(2))
        assert "label" in mesh.failure(2)
        nursery.cancel_scope.cancel()

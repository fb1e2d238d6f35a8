"""Members of one machine over real TCP, each pair through a proxy that can hurt its connection."""

import socket
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import combinations
from random import Random

import trio

from radpool_sv2._native.threshold import IdentityKey, TransportKey
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.committee import Committee
from radpool_sv2.federation.effect import Limits
from radpool_sv2.federation.identity import Bip340Verifier, MemberRecord
from radpool_sv2.federation.node import FederationNode
from radpool_sv2.federation.state.digest import DigestState
from radpool_sv2.federation.state.rules import Rules
from radpool_sv2.federation.store import FederationStore
from radpool_sv2.federation.transport.link import LinkLimits
from radpool_sv2.federation.transport.mesh import Mesh, MeshLimits
from radpool_sv2.weight import REGTEST

LIMITS = Limits(
    segment_bytes_max=1 << 20,
    payload_bytes_max=1 << 16,
    append_queue=16,
    pull_delay_ms=100,
    pull_timeout_ms=2_000,
    ready_interval_ms=50,
    grace_ms=300,
    view_timeout_ms=2_000,
)
MESH_LIMITS = MeshLimits(dial_seconds_min=0.05, dial_seconds_max=0.5)
SMALL = LinkLimits(
    handshake_seconds=10.0, keep_alive_seconds=0.5, silence_seconds=5.0, write_seconds=5.0
)
"""A link that says nothing is given up so soon that a test can wait for it."""

LATE = 400
"""So many blocks may shares be late: members of these tests are away for long, and all counts."""


def rules_of(committee):
    """By which rules a federation of tests counts."""
    return Rules(
        msp_keys=committee.members,
        faulty_max=committee.faulty_max,
        height_first=committee.height_first,
        scale=REGTEST,
        exponent_floor=0,
        shares_target=1 << 40,
        grace=LATE,
        lateness=LATE,
    )


@dataclass
class Chain:
    """A chain that everybody sees at once."""

    tip: int = 0

    async def height(self):
        return self.tip

    async def block_hash(self, height):
        return self.hash_of(height)

    def hash_of(self, height):
        return sha256(b"block %d" % height).digest()


@dataclass
class Proxy:
    """Passes connections on to one member: later, damaged, in one direction, or not at all.

    Attributes:
        port: Where it listens.
        target: The member's port.
        delay_s: How long each piece waits.
        is_cut: Whether it lets nothing new through.
        stalled: While it is set, nothing moves until it happens.
        flips: How many pieces have a bit turned over.
    """

    port: int = 0
    target: int = 0
    delay_s: float = 0.0
    is_cut: bool = False
    stalled: trio.Event | None = None
    flips: int = 0
    scopes: set = field(default_factory=set)
    far_scopes: set = field(default_factory=set)

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._pass_on, listeners)

    async def _pass_on(self, near):
        with trio.CancelScope() as scope:
            self.scopes.add(scope)
            try:
                if not self.is_cut:
                    await self._join(near)
            except (OSError, trio.BrokenResourceError):
                pass
            finally:
                self.scopes.discard(scope)
                await trio.aclose_forcefully(near)

    async def _join(self, near):
        far = await trio.open_tcp_stream("127.0.0.1", self.target)
        is_halved = False
        with trio.CancelScope() as scope:
            self.far_scopes.add(scope)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._copy, near, far, nursery.cancel_scope)
                    nursery.start_soon(self._copy, far, near, nursery.cancel_scope)
            finally:
                is_halved = scope.cancel_called
                self.far_scopes.discard(scope)
                await trio.aclose_forcefully(far)
        while is_halved and await near.receive_some(1 << 16):
            # The dialler does not learn that the other end is gone but by hearing nothing.
            pass

    async def _copy(self, source, sink, scope):
        try:
            while data := await source.receive_some(1 << 16):
                if self.stalled is not None:
                    await self.stalled.wait()
                if self.delay_s:
                    await trio.sleep(self.delay_s)
                if self.flips:
                    self.flips -= 1
                    data = data[:-1] + bytes([data[-1] ^ 1])
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()

    def cut(self):
        """Breaks what there is, and lets nothing new through until it is mended."""
        self.is_cut = True
        for scope in list(self.scopes):
            scope.cancel()

    def halve(self):
        """Takes away the dialled end of what there is: the dialler's end stays open."""
        for scope in list(self.far_scopes):
            scope.cancel()

    def stall(self):
        """Holds all pieces back until it is mended."""
        if self.stalled is None:
            self.stalled = trio.Event()

    def mend(self):
        """Passes on everything again, at once and undamaged."""
        self.is_cut = False
        self.delay_s = 0.0
        self.flips = 0
        if self.stalled is not None:
            event, self.stalled = self.stalled, None
            event.set()


class Net:
    """The members of a committee; each may be stopped as by a crash, and started again."""

    def __init__(self, directory, n=4, *, link_limits=None):
        self.directory = directory
        self.link_limits = link_limits or LinkLimits()
        self.secrets = sorted(
            (sha256(b"member %d" % each).digest() for each in range(n)),
            key=lambda secret: IdentityKey.from_secret(secret).public,
        )
        keys = [IdentityKey.from_secret(secret) for secret in self.secrets]
        self.n = n
        self.signers = keys
        self.transport = [
            TransportKey.from_secret(sha256(b"transport %d" % each).digest()) for each in range(n)
        ]
        members = tuple(key.public for key in keys)
        self.committee = Committee(sha256(b"a chain").digest(), 0, members, height_first=1)
        self.chain = Chain()
        self.verifier = Bip340Verifier()
        self.nodes = [None] * n
        self.scopes = [None] * n
        self.acknowledged = [0] * n
        self.proxies = {}
        self.listeners = []

    async def open(self, nursery):
        self.nursery = nursery
        await nursery.start(self._hold_ports)
        for pair in combinations(range(self.n), 2):
            for dialler, dialled in (pair, pair[::-1]):
                proxy = self.proxies[dialler, dialled] = Proxy(
                    target=self.listeners[dialled].socket.getsockname()[1]
                )
                await nursery.start(proxy.run)

    async def _hold_ports(self, *, task_status):
        """Has the members' ports for as long as the nursery, however that ends."""
        async with AsyncExitStack() as stack:
            for _ in range(self.n):
                [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
                self.listeners.append(await stack.enter_async_context(listener))
            task_status.started()
            await trio.sleep_forever()

    async def begin(self, nursery):
        """Opens all ports and starts all members."""
        await self.open(nursery)
        for me in range(self.n):
            await self.start(me)

    async def end(self):
        """Stops all members and lets go of the ports."""
        for me in range(self.n):
            await self.stop(me)
        self.close()

    def close(self):
        """Lets go of the ports; all members have been stopped."""
        self.nursery.cancel_scope.cancel()

    def _records(self, me):
        return [
            MemberRecord.sign(
                self.signers[each],
                self.transport[each].public,
                () if each == me else (f"127.0.0.1:{self.proxies[me, each].port}",),
                1,
            )
            for each in range(self.n)
        ]

    def member(
        self, me, reader=None, *, store=None, function=None, keys=None, node_type=FederationNode
    ):
        """Returns a member's node, links and store."""
        store = store or self.store(me)
        node = node_type(
            self.committee,
            self.signers[me],
            self.verifier,
            store,
            function or DigestState(),
            limits=LIMITS,
            reader=reader,
            keys=keys,
        )
        mesh = Mesh(
            self.committee,
            me,
            self.transport[me],
            self._records(me),
            self.verifier,
            node,
            link_limits=self.link_limits,
            limits=MESH_LIMITS,
            random=Random(me),
        )
        return node, mesh, store

    def store(self, me, file=None):
        file = file or self.directory / f"{me}.sqlite"
        return FederationStore(file, self.committee, self.signers[me].public)

    async def start(self, me):
        self.nodes[me], mesh, store = self.member(me)
        await self.nursery.start(self._run, me, self.nodes[me], mesh, store)

    async def _run(self, me, node, mesh, store, *, task_status):
        # The port is the member's for as long as the net is there, as its address is in life.
        copy = trio.SocketListener(trio.socket.from_stdlib_socket(_dup(self.listeners[me].socket)))
        with closing(store), trio.CancelScope() as self.scopes[me]:
            async with copy:
                await node.run(
                    mesh, [copy], self.chain, chain_seconds=0.02, task_status=task_status
                )
        self.nodes[me] = None

    async def stop(self, me):
        """Stops a member without a word to anybody: what is not durable is lost."""
        self.scopes[me].cancel()
        await wait_until(lambda: self.nodes[me] is None)

    def work(self, me, count=1):
        for _ in range(count):
            self.acknowledged[me] += 1
            payload = b"%d/%d" % (me, self.acknowledged[me])
            self.nodes[me].append(Kind.SHARE_BATCH, payload)

    async def settled(self, epochs, members=None):
        """Waits until members have certified so many epochs."""
        members = range(self.n) if members is None else members
        await wait_until(
            lambda: all(
                self.nodes[each].machine.checkpoints.certified >= epochs for each in members
            )
        )

    def counted(self, me, epochs):
        """Returns the payloads of shares that epochs count, as a member's store has them."""
        store = self.store(me)
        ends, payloads, cuts = {}, [], []
        for epoch in range(epochs):
            cut = store.epoch(epoch).cut
            cuts.append(cut)
            for ending in cut.endings:
                for seq in range(ends.get(ending.member, 0), ending.seq + 1):
                    entry = store.entry(ending.member, seq)
                    if entry.header.kind == Kind.SHARE_BATCH:
                        payloads.append(entry.payload)
                ends[ending.member] = ending.seq + 1
        store.close()
        return payloads, cuts


def _dup(listening):
    return socket.socket(fileno=listening.dup().detach())


def is_quiet(node):
    """Says whether a member has nothing more to say by itself, and has said nothing that is open.

    All that it appended is certified here, all that it heard is written down, and its keys have
    counted all epochs: what they want said follows from these.
    """
    machine, store, keys = node.machine, node._store, node._keys
    read = keys and keys.next_read(node.applied, machine.checkpoints.certified)
    is_open = machine.broadcast.own.echoed_entries() or node.status()["waiting_payloads"]
    return not (read or is_open or store.written > store.durable)


async def wait_until(holds, seconds=300):
    with trio.fail_after(seconds):
        while not holds():
            await trio.sleep(0.02)

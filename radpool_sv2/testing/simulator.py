"""Is a world of members: links, disks, chains and clocks in virtual time, all drawn from one seed.

Theory of operation. What is to happen stands in a heap, in the order of time and, at one time, of
its being put there; nothing else decides an order, so a seed gives the same world each time.

- A link delivers in order or breaks. What was under way when it breaks is lost; when it is up again
  both ends are told. Different links have different delays, so between links everything overtakes.
- A member deals with each message as it comes, or with all that came over a link within a while
  in one go, as a driver does with what it reads at once.
- A disk syncs after a while, all that was written until then at once. Effects behind a `Persist`
  wait for it. A crash loses what was not synced, or keeps a beginning of it.
- A member's clock has an offset and runs up to 5 % too fast or too slow.
- A chain grows for each member after a delay of its own.

Whoever is faulty is a `Node` with other behaviour (`radpool_sv2.testing.byzantine`); what must hold
is checked as it happens by `radpool_sv2.testing.checker`.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import combinations
from random import Random
from typing import TYPE_CHECKING, Protocol
from zlib import crc32

from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.broadcast.sync import answer, answer_epochs
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.committee import Committee
from radpool_sv2.federation.effect import (
    FOREVER,
    Append,
    AppliedState,
    Apply,
    Blame,
    Certify,
    ChainTip,
    Close,
    Decide,
    Deliver,
    Halt,
    Limits,
    LinkDown,
    LinkUp,
    Persist,
    Received,
    Send,
    Serve,
    Served,
    ServeEpochs,
)
from radpool_sv2.federation.member import Member
from radpool_sv2.federation.messages import decode_message, encode_message
from radpool_sv2.federation.record import Applied, Started
from radpool_sv2.testing.checker import Checker
from radpool_sv2.testing.fold import Fold
from radpool_sv2.testing.signatures import bip340_signers, keyed_signers
from radpool_sv2.testing.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.effect import Effect, Event, Segment
    from radpool_sv2.federation.messages import Message
    from radpool_sv2.federation.state.checkpoint import StateFunction
    from radpool_sv2.testing.plan import Plan

__all__ = ["Node", "Office", "World", "limits_of"]

REST_MS = 240_000
"""How long a world may take to come to rest once all faults have ended."""

CONDENSES = 0.3
"""How often a checkpoint is used to let go of earlier records."""

RECONNECT_MS = (20, 400)
CALM_DELAY_MS = (1, 40)


class Office(Protocol):
    """Says what honest members append, and what the state is that follows from it."""

    @property
    def function(self) -> StateFunction:
        """Computes states."""

    def work(self, world: World, member: int) -> list[tuple[int, bytes]]:
        """Returns what a member appends next: kinds and payloads, three at most."""


class _Talk:
    """Is the office of members that append anything: their state is a hash of it."""

    def __init__(self) -> None:
        self.function = Fold()
        self._appended: dict[int, int] = {}

    def work(self, world: World, member: int) -> list[tuple[int, bytes]]:
        """Returns a payload that means nothing."""
        count = self._appended[member] = self._appended.get(member, 0) + 1
        payload = b"%d/%d " % (member, count)
        return [
            (Kind.SHARE_BATCH, payload + world.random.randbytes(world.random.choice((0, 10, 300))))
        ]


class _Link:
    """Is the link of two members: one generation after the other."""

    __slots__ = ("generation", "is_up", "last")

    def __init__(self) -> None:
        self.generation = 0
        self.is_up = False
        self.last: dict[tuple[int, int], int] = {}


def limits_of(plan: Plan) -> Limits:
    """Returns what members are bounded by: faster than in life, so that more happens."""
    return Limits(
        window=plan.window,
        append_queue=16,
        pull_delay_ms=300,
        pull_timeout_ms=2_000,
        ready_interval_ms=200,
        grace_ms=plan.grace_ms,
        view_timeout_ms=plan.view_timeout_ms,
        view_timeout_max_ms=15_000,
    )


class World:
    """Is one seed's world.

    Args:
        plan: What happens in it.
        limits: What members are bounded by; by default `limits_of` the plan with less room.
        office: What members append; by default what means nothing.

    Attributes:
        now: Milliseconds since it began.
        messages: How many were sent.
        trace: A checksum of all of them with their times: the same for the same seed.
    """

    def __init__(
        self, plan: Plan, limits: Limits | None = None, office: Office | None = None
    ) -> None:
        self.plan = plan
        self.office = office or _Talk()
        self.random = Random(f"world {plan.seed}")
        self._bits = self.random.getrandbits
        self.now = 0
        self.messages = 0
        self.trace = 0
        make = bip340_signers if plan.is_bip340 else keyed_signers
        self.signers, self.verifier = make(plan.n, plan.seed)
        chain = sha256(b"a chain").digest()
        keys = tuple(signer.public for signer in self.signers)
        self.committee = Committee(chain, 0, keys, height_first=1)
        # Small ones, so that budgets are reached.
        self.limits = limits or replace(
            limits_of(plan), segment_bytes_max=1 << 14, payload_bytes_max=1 << 12
        )
        self.checker = Checker(self)
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._links = {pair: _Link() for pair in combinations(range(plan.n), 2)}
        self._decoded: dict[bytes, Message] = {}
        self.heights: list[bytes] = [sha256(b"block 0").digest()]
        self.nodes: list[Node] = [self._node(member) for member in range(plan.n)]

    def _node(self, member: int) -> Node:
        misdeeds = self.plan.byzantine.get(member)
        if misdeeds is None:
            return Node(self, member)
        from radpool_sv2.testing.byzantine import faulty_node  # noqa: PLC0415 - it builds on Node

        return faulty_node(self, member, misdeeds)

    # Time.

    def at(self, time: int, action: Callable[[], None]) -> None:
        """Puts an action into the future."""
        self._order += 1
        heapq.heappush(self._heap, (max(time, self.now), self._order, action))

    def after(self, delay: int, action: Callable[[], None]) -> None:
        """Puts an action into the future, counted from now."""
        self.at(self.now + delay, action)

    def run(self) -> None:  # noqa: C901 - one kind of fault after the other
        """Lets the world go on until it has come to rest.

        Raises:
            CheckError: Something does not hold that must.
        """
        plan = self.plan
        for node in self.nodes:
            self.at(0, node.start)
        for pair in self._links:
            self.after(self.random.randint(*RECONNECT_MS), partial(self.connect, *pair))
        for start, end, side in plan.partitions:
            self.at(start, partial(self._part, side))
            self.at(end, self.reconnect_all)
        for time, left, right in plan.breaks:
            self.at(time, partial(self.disconnect, left, right))
        for time, back, member in plan.crashes:
            self.at(time, self.nodes[member].crash)
            self.at(back, self.nodes[member].start)
        for time in plan.blocks_ms:
            self.at(time, self._mine)
        for node in self.nodes:
            self.at(self.random.randint(0, plan.append_every_ms), node.work)
        self.at(plan.calm_ms, self.reconnect_all)
        rest_by, look_at = plan.calm_ms + REST_MS, plan.calm_ms + 500
        while True:
            self._run_until(look_at)
            if self.checker.is_at_rest():
                break
            if self.now >= rest_by:
                self.checker.fail(f"no rest: {self.checker.unrest()}")
            look_at += 500
        self.checker.finish()

    def _run_until(self, time: int) -> None:
        heap = self._heap
        while heap and heap[0][0] <= time:
            self.now, _, action = heapq.heappop(heap)
            action()
        self.now = time

    # Links.

    def _link(self, left: int, right: int) -> _Link:
        return self._links[(left, right) if left < right else (right, left)]

    def _is_parted(self, left: int, right: int) -> bool:
        return any(
            start <= self.now < end and (left in side) != (right in side)
            for start, end, side in self.plan.partitions
        )

    def connect(self, left: int, right: int) -> None:
        """Opens a link, if it may be."""
        link = self._link(left, right)
        both = self.nodes[left], self.nodes[right]
        if link.is_up or not all(node.is_up for node in both) or self._is_parted(left, right):
            return
        link.is_up = True
        link.generation += 1
        for direction in ((left, right), (right, left)):
            link.last[direction] = self.now
        self.nodes[left].connected(right)
        self.nodes[right].connected(left)

    def disconnect(self, left: int, right: int) -> None:
        """Breaks a link; it is tried again."""
        link = self._link(left, right)
        if link.is_up:
            link.is_up = False
            link.generation += 1
            self.nodes[left].disconnected(right)
            self.nodes[right].disconnected(left)
        delay = self.random.randint(*RECONNECT_MS)
        self.after(delay, partial(self.connect, left, right))

    def _part(self, side: frozenset[int]) -> None:
        for left, right in self._links:
            if (left in side) != (right in side):
                self.disconnect(left, right)

    def reconnect_all(self) -> None:
        """Tries all links that are down."""
        for left, right in self._links:
            delay = self.random.randint(*RECONNECT_MS)
            self.after(delay, partial(self.connect, left, right))

    def is_linked(self, left: int, right: int) -> bool:
        """Says whether a link is up."""
        return self._link(left, right).is_up

    def generation(self, left: int, right: int) -> int:
        """Returns which link of two members this is."""
        return self._link(left, right).generation

    def transmit(self, sender: int, to: int, data: bytes, generation: int) -> None:
        """Sends bytes over a link, if it is still the one that they were meant for."""
        link = self._link(sender, to)
        if not link.is_up or link.generation != generation:
            return
        low, high = self.plan.delay_ms if self.now < self.plan.calm_ms else CALM_DELAY_MS
        time = max(link.last[sender, to], self.now + low + self._below(high - low + 1))
        link.last[sender, to] = time
        self.messages += 1
        self.trace = crc32(data, self.trace ^ time * 257 + to)

        def arrive() -> None:
            if link.is_up and link.generation == generation:
                self.nodes[to].received(sender, data)

        self._order += 1
        heapq.heappush(self._heap, (time, self._order, arrive))
        if self._below(1_000) < self.plan.duplicate_per_mille:
            self.at(time, arrive)

    def _below(self, count: int) -> int:
        """Draws a number, as `randrange` does for which this is called too often."""
        length = count.bit_length()
        drawn = self._bits(length)
        while drawn >= count:
            drawn = self._bits(length)
        return drawn

    def decode(self, data: bytes) -> Message:
        """Decodes a message; the same bytes once."""
        message = self._decoded.get(data)
        if message is None:
            message = decode_message(data, self.committee)
            if len(self._decoded) > 4_096:
                self._decoded.clear()
            self._decoded[data] = message
        return message

    # The chain.

    def _mine(self) -> None:
        height = len(self.heights)
        self.heights.append(sha256(b"block %d" % height).digest())
        for node in self.nodes:
            delay = self.random.choice((0, 10, 200, 1_500))
            self.after(delay, partial(node.mined, height))


class Node:
    """Is an honest member with its disk, its chain and its clock: the driver of its machines.

    Args:
        world: The world.
        member: Its number.
    """

    def __init__(self, world: World, member: int) -> None:
        self.world = world
        self.me = member
        self.store = Store(world.committee)
        self.machine: Member | None = None
        self.life = 0
        self.height = -1
        self._state = b""
        self.states: dict[int, bytes] = {}
        self._queue: deque[tuple[int, int, Effect]] = deque()
        self._is_syncing = False
        self._wake_at = FOREVER
        self._encoded: tuple[Message, bytes] | None = None
        self._unread: dict[tuple[int, int], list[bytes]] = {}
        self._offset = world.random.randint(0, 10**9)
        self._rate = world.random.randint(950, 1_050)

    @property
    def is_up(self) -> bool:
        """Whether it is running."""
        return self.machine is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits for its disk."""
        return not self._queue and self.store.durable == self.store.written

    def clock(self) -> int:
        """Returns the time on its own clock."""
        return self._offset + self.world.now * self._rate // 1_000

    def start(self) -> None:
        """Starts it, with what its disk remembers."""
        if self.machine is not None:
            return
        self.life += 1
        world = self.world
        machine = Member(world.committee, world.signers[self.me], world.verifier, world.limits)
        self.machine = machine
        self._state = b""
        for record in self.store.records():
            if isinstance(record, Applied):
                self._state = self.states[record.epoch]
            elif isinstance(record, Started) and record.decided:
                self._state = self.states[record.decided - 1]
        machine.restore(self.store.records(), self.clock())
        self._drain()
        first = min(machine.epochs.next_height, self.height)
        for height in range(max(first, 0), self.height + 1):
            self.give(ChainTip(height, world.heights[height]))
        for peer in range(world.plan.n):
            if peer != self.me:
                delay = world.random.randint(*RECONNECT_MS)
                world.after(delay, partial(world.connect, self.me, peer))

    def crash(self) -> None:
        """Stops it: all is lost that was not synced."""
        if self.machine is None:
            return
        for peer in range(self.world.plan.n):
            if peer != self.me and self.world.is_linked(self.me, peer):
                self.world.disconnect(self.me, peer)
        self.machine = None
        self._queue.clear()
        self._is_syncing = False
        self._wake_at = FOREVER
        unsynced = self.store.written - self.store.durable
        self.store.crash(self.world.random.randint(0, unsynced))
        self.world.checker.crashed(self.me)

    # What happens to it.

    def give(self, event: Event) -> None:
        """Tells its machines what has happened."""
        if self.machine is not None:
            self.machine.handle(event, self.clock())
            self._drain()

    def connected(self, peer: int) -> None:
        """Is told that a link is up."""
        self.give(LinkUp(peer))

    def disconnected(self, peer: int) -> None:
        """Is told that a link is down."""
        self.give(LinkDown(peer))

    def received(self, sender: int, data: bytes) -> None:
        """Is given bytes by a peer."""
        if self.world.plan.read_ms == 0:
            self._read(sender, [data])
            return
        link = sender, self.world.generation(self.me, sender)
        if link in self._unread:
            self._unread[link].append(data)
            return
        self._unread[link] = [data]

        def read() -> None:
            unread = self._unread.pop(link)
            if self.world.generation(self.me, sender) == link[1]:
                self._read(sender, unread)

        self.world.after(self.world.plan.read_ms, read)

    def _read(self, sender: int, unread: list[bytes]) -> None:
        """Takes messages in; what follows from all of them is done in one go."""
        if self.machine is None:
            return
        try:
            for data in unread:
                message = self.world.decode(data)
                self.machine.handle(Received(sender, message), self.clock())
        except CodecError:
            self.world.checker.closed(self.me, sender, "encoding")
            self._drain()
            self.world.disconnect(self.me, sender)
            return
        self._drain()

    def mined(self, height: int) -> None:
        """Sees a block."""
        for each in range(self.height + 1, height + 1):
            self.height = each
            self.give(ChainTip(each, self.world.heights[each]))

    def work(self) -> None:
        """Appends something now and then, until faults are over."""
        world = self.world
        if world.now >= world.plan.calm_ms:
            return
        machine = self.machine
        if machine is not None and machine.broadcast.waiting + 3 <= world.limits.append_queue:
            for kind, payload in world.office.work(world, self.me):
                self.give(Append(kind, payload))
        world.after(world.random.randint(1, 2 * world.plan.append_every_ms), self.work)

    # What it does.

    def _drain(self) -> None:
        """Takes effects out of the machines; they wait for their turn."""
        machine = self.machine
        assert machine is not None, "only a running node has effects"
        poll, store, queue = machine.poll, self.store, self._queue
        written = store.written
        while (effect := poll()) is not None:
            if isinstance(effect, Persist):
                store.write(effect.record)
                written += 1
                continue
            link = effect.member if isinstance(effect, Send) else None
            generation = 0 if link is None else self.world.generation(self.me, link)
            queue.append((written, generation, effect))
        if queue:
            self._flush()
        if written != store.durable:
            self._sync()
        self._wake()

    def _flush(self) -> None:
        while self._queue and self._queue[0][0] <= self.store.durable:
            _, generation, effect = self._queue.popleft()
            self.perform(effect, generation)

    def _sync(self) -> None:
        if self._is_syncing or self.store.written == self.store.durable:
            return
        self._is_syncing = True
        count, life = self.store.written, self.life

        def synced() -> None:
            if self.life != life or self.machine is None:
                return
            self._is_syncing = False
            self.store.sync(count)
            self._flush()
            if self.machine is not None:
                self._sync()

        self.world.after(self.world.random.randint(*self.world.plan.disk_ms), synced)

    def _wake(self) -> None:
        """Sets the alarm to the next deadline of the machines."""
        machine = self.machine
        if machine is None:
            return
        deadline = machine.next_deadline()
        if deadline >= FOREVER:
            self._wake_at = FOREVER
            return
        time = max(-((self._offset - deadline) * 1_000 // self._rate), self.world.now)
        while self._offset + time * self._rate // 1_000 < deadline:
            time += 1
        if time == self._wake_at:
            return
        self._wake_at = time
        life = self.life

        def ring() -> None:
            if self._wake_at == time and self.life == life and self.machine is not None:
                self._wake_at = FOREVER
                self.machine.handle_deadline(self.clock())
                self._drain()

        self.world.at(time, ring)

    def perform(self, effect: Effect, generation: int) -> None:  # noqa: C901, PLR0912 - one each
        """Does what the machines want done, now that it may be done."""
        world, checker = self.world, self.world.checker
        match effect:
            case Send(member, message):
                self.send(member, message, generation)
            case Deliver(entry):
                checker.delivered(self.me, entry)
            case Serve(member, sender, first):
                entries = answer(self.store, sender, first)
                if entries is not None:
                    self.send(member, entries, world.generation(self.me, member))
                self._later(Served(member, sender))
            case ServeEpochs(member, first):
                epochs = answer_epochs(self.store, first)
                if epochs is not None:
                    self.send(member, epochs, world.generation(self.me, member))
                self._later(Served(member, -1))
            case Apply(epoch, segments):
                self._apply(epoch, segments)
            case Decide(certificate, cut):
                checker.decided(self.me, certificate, cut)
            case Certify(certificate):
                checker.certified(self.me, certificate)
                if world.random.random() < CONDENSES:
                    world.after(world.random.randint(0, 1_000), self._condense)
            case Blame(member, evidence):
                checker.blamed(self.me, member, evidence)
            case Close(member, reason):
                checker.closed(self.me, member, reason)
                world.disconnect(self.me, member)
            case Halt(reason):
                checker.halted(self.me, reason)
            case Persist():
                raise AssertionError("records are written when they come out")

    def _condense(self) -> None:
        """Lets its disk go of what no start needs any more."""
        start = None if self.machine is None or not self.is_idle else self.machine.start()
        if start is not None:
            self.store.condense(start)

    def _apply(self, epoch: int, segments: tuple[Segment, ...]) -> None:
        entries = [
            [self._stored(segment.member, seq) for seq in range(segment.first, segment.end)]
            for segment in segments
        ]
        self.world.checker.applied(self.me, epoch, segments)
        function = self.world.office.function
        self._state = function.apply(self._state, epoch, entries)
        self.states[epoch] = self._state
        self._later(AppliedState(epoch, function.root(self._state)))

    def _stored(self, sender: int, seq: int) -> Entry:
        entry = self.store.entry(sender, seq)
        assert entry is not None, "what is to be applied was delivered before"
        return entry

    def _later(self, event: Event) -> None:
        life = self.life

        def tell() -> None:
            if self.life == life:
                self.give(event)

        self.world.after(self.world.random.choice((0, 0, 30)), tell)

    def send(self, to: int, message: Message, generation: int) -> None:
        """Sends a message; an honest node sends what its machines say."""
        self.world.checker.sent(self.me, message)
        if self._encoded is None or self._encoded[0] is not message:
            self._encoded = message, encode_message(message)
        self.world.transmit(self.me, to, self._encoded[1], generation)

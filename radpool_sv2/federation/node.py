"""Drives a member: its machines, its store, its links and its chain.

Theory of operation. Events come from links, the chain, the clock and whoever appends; each is
handled whole, without waiting, and then its effects are taken out. A `Persist` goes to the store;
everything behind it waits in a queue until the store has made it durable, in a thread, as many
records at once as have come up meanwhile. A `Send` is for the link that was up when it came out: on
another one it might overtake the SYNC that makes sense of it.

What takes long - answers out of the store, the state behind an epoch - is done beside the machines
and comes back to them as an event. A store that fails is tried again; until it works, nothing that
depends on it leaves, and links are not read any more once much waits.

Beside the member's machines are those of its keys (`keys.keyring`): their effects stand in the same
queue, and epochs are read for them out of the store, one after the other. What they append waits
until the own stream has room.

Source: `radpool_sv2/federation/effect.py`; `spec/13-broadcast.md`, `spec/14-epoch-agreement.md`.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import structlog
import trio

from radpool_sv2.errors import (
    InternalError,
    LocalProtocolError,
    RemoteProtocolError,
    StoreError,
)
from radpool_sv2.federation.broadcast.sync import answer, answer_epochs
from radpool_sv2.federation.chain import CHAIN_SECONDS, Following
from radpool_sv2.federation.codec import CodecError
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
from radpool_sv2.federation.keys.keyring import Told, proof_of_statements
from radpool_sv2.federation.keys.table import Kept
from radpool_sv2.federation.member import Member
from radpool_sv2.federation.messages import Gone, Said, decode_message, encode_message
from radpool_sv2.federation.record import Applied, Started
from radpool_sv2.federation.signing.message import decode_signing, encode_signing, is_signing
from radpool_sv2.federation.signing.signing import Say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.chain import Chain
    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.effect import Effect, Event, Segment
    from radpool_sv2.federation.evidence import Evidence
    from radpool_sv2.federation.identity import Signer, Verifier
    from radpool_sv2.federation.keys.keyring import Keyring, KeyringEffect
    from radpool_sv2.federation.messages import Message
    from radpool_sv2.federation.record import Record
    from radpool_sv2.federation.signing.message import SigningMessage
    from radpool_sv2.federation.signing.purpose import Task
    from radpool_sv2.federation.state.checkpoint import StateFunction
    from radpool_sv2.federation.store import FederationStore
    from radpool_sv2.federation.transport.link import Link
    from radpool_sv2.federation.transport.mesh import Mesh

__all__ = ["FederationNode", "Reader"]

M = TypeVar("M")

log = structlog.get_logger(__name__)

EFFECTS_WAITING_MAX: Final = 4_096
"""Effects behind records that are not durable; above it links are not read."""

MESSAGES_AT_ONCE: Final = 64
"""So many messages of a link are dealt with before others have their turn: a read may hold some
thousand short ones, which cost more to deal with than to send."""

SERVE_BELOW_BYTES: Final = 4 << 20
"""An answer to a pull is put together when less than this waits to be sent to whoever asked. A
member is given one answer after the other: as many as there are streams would fill its outbox."""

SERVE_THREADS: Final = 2

RETRY_SECONDS: Final = (0.5, 30.0)
"""The first and the longest pause before a store or a chain that failed is tried again."""


class Reader(Protocol):
    """Takes certified entries in the order of their stream, each once and again after a crash."""

    def next_seq(self, sender: int) -> int:
        """Returns which entry of a stream it wants first after a start."""

    def take(self, entry: Entry) -> None:
        """Takes an entry; it does not wait."""


class FederationNode:
    """Is a member of a federation.

    Args:
        committee: The committee.
        signer: The own identity key.
        verifier: Checks everybody's signatures.
        store: What it remembers.
        function: Computes the state.
        limits: Bounds of the machines.
        reader: Who wants to see certified entries.
        keys: Its keys, on the same store; none without it.

    Attributes:
        machine: The machines; for looking only.
        applied: Behind how many epochs the state is known here.
        certified: Of these, how many a quorum has certified just so: what may be acted on. A member
            that has stopped because its state is another one stays with the last that was the same.
        root: The root of the last state here.
    """

    def __init__(  # noqa: PLR0913 - all that a member depends on
        self,
        committee: Committee,
        signer: Signer,
        verifier: Verifier,
        store: FederationStore,
        function: StateFunction,
        *,
        limits: Limits | None = None,
        reader: Reader | None = None,
        keys: Keyring | None = None,
    ) -> None:
        self.machine = Member(committee, signer, verifier, limits)
        self.applied = self.certified = 0
        self.root = b""
        self._limits = Limits() if limits is None else limits
        self._committee = committee
        self._me = committee.number_of(signer.public)
        self._store = store
        self._function = function
        self._reader = reader
        self._keys = keys
        self._state = b""
        self._queue: deque[tuple[int, Link | None, Effect | KeyringEffect]] = deque()
        self._appends: deque[Append] = deque()
        self._is_draining = False
        self._links: dict[int, Link] = {}
        self._encoded: tuple[object, bytes] | None = None
        self._wake_at = FOREVER
        self._alarm = trio.Event()
        self._written = trio.Event()
        self._moved = trio.Event()
        self._room = trio.Event()
        self._tasks: trio.Nursery | None = None
        self._appliers = trio.Lock()
        self._servers = trio.CapacityLimiter(SERVE_THREADS)
        self._serving = [trio.Lock() for _ in range(committee.n)]
        self._halted = ""
        self._linking = trio.CancelScope()
        self._store_failure = ""
        self._read_failure = ""
        self._following = Following(lambda: self.machine.epochs.next_height, self._reached)
        self._blamed: Counter[int] = Counter()
        self._sent: Counter[str] = Counter()
        self._heard = [Counter[str]() for _ in range(committee.n)]
        self._delivered: Counter[int] = Counter()
        self._told_gone: set[int] = set()

    # What others call.

    async def run(
        self,
        mesh: Mesh,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        chain: Chain,
        *,
        chain_seconds: float = CHAIN_SECONDS,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Runs the member until it is cancelled; may be called once.

        Args:
            mesh: Its links; this node is their inbox.
            listeners: Where other members dial.
            chain: Its bitcoin node.
            chain_seconds: How often that is asked for its height.
            task_status: Told once it listens.

        Raises:
            StoreError: What the store remembers cannot be read.
        """
        await self._restore()
        async with trio.open_nursery() as nursery:
            self._tasks = nursery
            nursery.start_soon(self._commit)
            nursery.start_soon(self._keep_time)
            nursery.start_soon(self._keep_keys)
            nursery.start_soon(self._following.run, chain, chain_seconds)
            self._drain()
            await nursery.start(self._keep_links, mesh, listeners)
            task_status.started()

    @property
    def waiting(self) -> int:
        """How many own payloads wait for their turn in the own stream."""
        return self.machine.broadcast.waiting

    def append(self, kind: int, payload: bytes) -> None:
        """Appends a payload to the own stream.

        Raises:
            LocalProtocolError: It is too long, or too many wait: hold back.
        """
        self._give(Append(kind, payload))

    def on_signed(
        self, callback: Callable[[Task, bytes], None], purpose: int | None = None
    ) -> None:
        """Has a callback told of each finished signature; see `Keyring.on_signed`."""
        if self._keys is not None:
            self._keys.on_signed(callback, purpose)

    def status(self) -> dict[str, Any]:
        """Returns the figures that an operator looks at, ready for JSON."""
        machine = self.machine
        own = machine.broadcast.own.certified.count
        streams = [
            {
                "certified": stream.certified.count,
                "delivered_now": self._delivered[stream.sender],
                "blamed": self._blamed[stream.sender],
            }
            for stream in machine.broadcast.streams
        ]
        links = {
            str(member): {
                "seconds": round(trio.current_time() - link.opened_at),
                "dialled": link.dialler == self._me,
                "outbox_bytes": link.outbox_bytes,
                "sent_bytes": link.sent_bytes,
                "received_bytes": link.received_bytes,
                "held_back_seconds": round(link.held_back_seconds, 3),
                "echoes": self._heard[member]["echo"],
                "readies": self._heard[member]["ready"],
                "behind_entries": max(own - machine.broadcast.said_by(member), 0),
            }
            for member, link in sorted(self._links.items())
        }
        return {
            "committee": self._committee.id.hex(),
            "member": self._me,
            "members": self._committee.n,
            "quorum": self._committee.quorum,
            "height": self._following.height,
            "epochs": {
                "decided": machine.epochs.decided,
                "applied": self.applied,
                "certified": machine.checkpoints.certified,
                "root": self.root.hex(),
            },
            "links": links,
            "streams": streams,
            "heard": dict(sorted(sum(self._heard, Counter()).items())),
            "sent": dict(sorted(self._sent.items())),
            "keys": {} if self._keys is None else self._keys.status(),
            "waiting_payloads": self.waiting + len(self._appends),
            "waiting_records": self._store.written - self._store.durable,
            "gone": {str(member): first for member, first in sorted(machine.gone.items())},
            "halted": self._halted,
            "store_failure": self._store_failure or self._read_failure,
            "chain_failure": self._following.failure,
        }

    # What links say (`mesh.Inbox`).

    def opened(self, link: Link) -> None:
        """Takes in that a link is up."""
        self._links[link.member] = link
        if self._keys is not None:
            self._keys.linked(link.member, self._now())
        self._give(LinkUp(link.member))

    def closed(self, link: Link) -> None:
        """Takes in that a link is down."""
        if self._links.get(link.member) is link:
            del self._links[link.member]
            self._told_gone.discard(link.member)
            self._forget(link)
            if self._keys is not None:
                self._keys.unlinked(link.member, self._now())
            self._give(LinkDown(link.member))

    async def received(self, link: Link, messages: list[bytes]) -> None:
        """Deals with messages of a link; what follows from some of them is done in one go."""
        for start in range(0, len(messages), MESSAGES_AT_ONCE):
            while len(self._queue) >= EFFECTS_WAITING_MAX:
                await self._room.wait()
            if link.is_closed or self._links.get(link.member) is not link:
                return
            try:
                for data in messages[start : start + MESSAGES_AT_ONCE]:
                    self._hear(link.member, data)
            except CodecError as error:
                log.warning("a member does not speak our language", member=link.member)
                link.close(f"encoding: {error}")
            self._drain()
            # Other links have their turn, however much comes on this one.
            await trio.lowlevel.checkpoint()

    def _hear(self, member: int, data: bytes) -> None:
        if is_signing(data):
            signing = decode_signing(data)
            self._heard[member][_name(signing)] += 1
            if self._keys is not None:
                self._keys.heard(member, signing, self._now())
            return
        message = decode_message(data, self._committee)
        self._heard[member][_name(message)] += 1
        self.machine.handle(Received(member, message), self._now())
        if isinstance(message, Gone):
            self._warn_gone(member)

    def _warn_gone(self, member: int) -> None:
        first = self.machine.gone.get(member)
        # Once for each link, whatever else it says: each line of a log costs more than a message.
        if first is not None and member not in self._told_gone:
            self._told_gone.add(member)
            log.error(
                "a member keeps no more what this one lacks: unless another does, start from a "
                "snapshot of a member that runs (`radpool federation join --snapshot`)",
                member=member,
                epochs_here=self.machine.epochs.decided,
                first_epoch_there=first,
            )

    # Start.

    async def _restore(self) -> None:
        """Takes back in what the store remembers: in a thread, for it may be much."""
        now = self._now()
        records = await trio.to_thread.run_sync(self._read_store)
        await trio.to_thread.run_sync(self.machine.restore, records, now)
        self._note_certified()
        if self._keys is not None:
            await trio.to_thread.run_sync(self._keys.restore, self.applied, now)

    def _read_store(self) -> list[Record]:
        self._store.check()
        records = list(self._store.records())
        for record in records:
            if isinstance(record, Applied):
                self.applied = record.epoch + 1
            elif isinstance(record, Started):
                self.applied = record.decided
        if self.applied:
            state = self._store.state(self.applied - 1)
            if state is None:
                raise StoreError(
                    f"the state behind epoch {self.applied - 1} is not in the store: damaged. "
                    "Restore it from a backup, or start from a snapshot."
                )
            try:
                self._state, self.root = state, self._function.root(state)
            except (LocalProtocolError, RemoteProtocolError) as error:
                raise StoreError(
                    f"the state behind epoch {self.applied - 1} cannot be read: {error}. Compare "
                    "the rules in the file of the committee with those of other members; if they "
                    "are the same, restore the store from a backup, or start from a snapshot."
                ) from error
        if self._reader is not None:
            for sender in range(self._committee.n):
                first = max(self._reader.next_seq(sender), self._store.first(sender))
                for seq in range(first, self._store.end(sender)):
                    self._reader.take(self._stored(sender, seq))
        return records

    def _stored(self, sender: int, seq: int) -> Entry:
        entry = self._store.entry(sender, seq)
        if entry is None:
            raise StoreError(
                f"entry {seq} of member {sender} is not in the store although it is certified: "
                "damaged. Restore it from a backup, or start from a snapshot."
            )
        return entry

    # Events and effects.

    def _now(self) -> int:
        return int(trio.current_time() * 1_000)

    def _give(self, event: Event) -> None:
        self.machine.handle(event, self._now())
        self._drain()

    def _reached(self, height: int, block_hash: bytes) -> None:
        self._give(ChainTip(height, block_hash))

    def _drain(self) -> None:
        """Takes effects out of the machines and does what waits for nothing, until all is done."""
        if self._is_draining:
            # What is done now has made something happen: whoever is doing it goes on with that.
            return
        self._is_draining = True
        try:
            while True:
                self._take()
                if not self._flush() and not self._append_next():
                    break
        finally:
            self._is_draining = False
        if self._store.written > self._store.durable:
            self._written.set()
        if self._next_deadline() < self._wake_at:
            self._alarm.set()

    def _take(self) -> None:
        """Takes effects out of the machines; they wait for their turn."""
        while (effect := self.machine.poll()) is not None:
            if isinstance(effect, Persist):
                self._store.write(effect.record)
                continue
            link = None
            if isinstance(effect, Send | Serve | ServeEpochs | Close):
                link = self._links.get(effect.member)
            self._queue.append((self._store.written, link, effect))
        while self._keys is not None and (wanted := self._keys.poll()) is not None:
            if isinstance(wanted, Kept):
                self._store.keep(wanted)
                continue
            link = self._links.get(wanted.member) if isinstance(wanted, Say | Close) else None
            self._queue.append((self._store.written, link, wanted))

    def _flush(self) -> bool:
        """Does what waits for nothing any more; says whether there was anything."""
        has_done, was_full = False, len(self._queue) >= EFFECTS_WAITING_MAX
        while self._queue and self._queue[0][0] <= self._store.durable:
            _, link, effect = self._queue.popleft()
            self._perform(effect, link)
            has_done = True
        self._make_room(was_full)
        return has_done

    def _forget(self, link: Link) -> None:
        """Lets go of what waits for a link that is down: links come and go while a store fails."""
        was_full = len(self._queue) >= EFFECTS_WAITING_MAX
        self._queue = deque(
            each
            for each in self._queue
            # The machines wait to hear that an answer is done with.
            if each[1] is not link or isinstance(each[2], Serve | ServeEpochs)
        )
        self._make_room(was_full)

    def _make_room(self, was_full: bool) -> None:  # noqa: FBT001 - it is the one thing to know
        if was_full and len(self._queue) < EFFECTS_WAITING_MAX:
            self._room.set()
            self._room = trio.Event()

    def _append_next(self) -> bool:
        """Appends what the keys want said, if there is room; says whether it did."""
        if not self._appends or self.waiting >= self._limits.append_queue:
            return False
        self.machine.handle(self._appends.popleft(), self._now())
        return True

    def _next_deadline(self) -> int:
        deadline = self.machine.next_deadline()
        return deadline if self._keys is None else min(deadline, self._keys.next_deadline())

    def _perform(self, effect: Effect | KeyringEffect, link: Link | None) -> None:  # noqa: C901, PLR0912 - one each
        match effect:
            case Send(_, message):
                if link is not None and not link.is_closed:
                    self._sent[_name(message)] += 1
                    link.post(self._bytes_of(message, encode_message))
            case Deliver(entry):
                self._delivered[entry.header.sender] += 1
                if self._reader is not None:
                    self._reader.take(entry)
                if self._keys is not None:
                    self._keys.delivered(entry, self._now())
            case Say(_, signing):
                if link is not None and not link.is_closed and not self._halted:
                    self._sent[_name(signing)] += 1
                    link.post(self._bytes_of(signing, encode_signing))
            case Append():
                self._appends.append(effect)
            case Told():
                if self._keys is not None:
                    self._keys.tell(effect)
            case Serve() | ServeEpochs():
                self._start(self._serve, link, effect)
            case Apply(epoch, segments):
                self._start(self._apply, epoch, segments)
            case Decide(_, cut):
                log.info("epoch decided", epoch=cut.epoch, members=len(cut.endings))
            case Certify():
                log.info("state certified", epochs=self.machine.checkpoints.certified)
                self._note_certified()
                self._condense()
            case Blame(member, evidence):
                self._blamed[member] += 1
                log.warning(
                    "a member signed two different things of one kind",
                    member=member,
                    evidence=evidence.encode().hex(),
                )
                self._keep_evidence(evidence)
            case Close(member, reason):
                # Of all that was wrong in what came at once the first is told.
                if link is not None and not link.is_closed:
                    log.warning("a member broke the protocol", member=member, reason=reason)
                    link.close(reason)
            case Halt(reason):
                self._halted = reason
                if self._keys is not None:
                    self._keys.stop(reason)
                log.error("the member has stopped for good: look before it goes on", reason=reason)
                # A copy of a member that works would take its links away from it.
                self._linking.cancel()
            case Persist() | Kept():
                raise InternalError("records are written when they come out")

    def _keep_evidence(self, evidence: Evidence) -> None:
        proof = proof_of_statements(evidence)
        if self._keys is None:
            self._store.keep(proof)
        else:
            self._keys.prove(proof)

    def _start(self, task: Any, *arguments: Any) -> None:
        if self._tasks is None:
            raise InternalError("effects are done by a running node only")
        self._tasks.start_soon(task, *arguments)

    def _bytes_of(self, message: M, encode: Callable[[M], bytes]) -> bytes:
        """Encodes a message; one that goes to all members only once."""
        if self._encoded is None or self._encoded[0] is not message:
            self._encoded = message, encode(message)
        return self._encoded[1]

    async def _keep_links(
        self,
        mesh: Mesh,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        with self._linking:
            await mesh.run(listeners, task_status=task_status)

    # The store.

    async def _commit(self) -> None:
        """Makes records durable, all that have come up at once."""
        pause = RETRY_SECONDS[0]
        while True:
            await self._written.wait()
            self._written = trio.Event()
            while writes := self._store.take():
                try:
                    await trio.to_thread.run_sync(self._store.commit, writes)
                except StoreError as error:
                    self._store_failure = str(error)
                    log.error(  # noqa: TRY400 - the operator needs the reason, not where it was found
                        "nothing is remembered: nothing is said", reason=str(error)
                    )
                    await trio.sleep(pause)
                    pause = min(2 * pause, RETRY_SECONDS[1])
                    continue
                pause = RETRY_SECONDS[0]
                self._store_failure = ""
                self._store.done(writes)
                self._drain()
                self._moved.set()

    def _condense(self) -> None:
        start = self.machine.start()
        if start is not None and (self._keys is None or self._keys.has_counted(start.decided)):
            self._store.condense(start)
            self._written.set()

    # What is done beside the machines.

    async def _serve(self, link: Link | None, effect: Serve | ServeEpochs) -> None:
        try:
            if link is None:
                return
            async with self._serving[effect.member]:
                await link.wait_below(SERVE_BELOW_BYTES)
                if link.is_closed:
                    return
                message = await trio.to_thread.run_sync(self._answer, effect, limiter=self._servers)
                if message is not None:
                    self._sent[_name(message)] += 1
                    link.post(encode_message(message))
        except StoreError as error:
            log.warning("a member cannot be answered", member=effect.member, reason=str(error))
        finally:
            sender = effect.sender if isinstance(effect, Serve) else -1
            self._give(Served(effect.member, sender))

    def _answer(self, effect: Serve | ServeEpochs) -> Message | None:
        if isinstance(effect, Serve):
            return answer(self._store, effect.sender, effect.first)
        return answer_epochs(self._store, effect.first)

    async def _apply(self, epoch: int, segments: tuple[Segment, ...]) -> None:
        async with self._appliers:
            pause = RETRY_SECONDS[0]
            while True:
                try:
                    state, root = await trio.to_thread.run_sync(self._compute, epoch, segments)
                except StoreError as error:
                    self._read_failure = str(error)
                    log.error(  # noqa: TRY400 - as above
                        "the state cannot be computed", epoch=epoch, reason=str(error)
                    )
                    await trio.sleep(pause)
                    pause = min(2 * pause, RETRY_SECONDS[1])
                else:
                    self._read_failure = ""
                    break
            # Before the machines say what they make of it: what is signed can be computed again.
            self._store.keep_state(epoch, state)
            self._state, self.root, self.applied = state, root, epoch + 1
            self._give(AppliedState(epoch, root))
            self._note_certified()

    def _note_certified(self) -> None:
        # One that has another state here than the certified one is in one of the two, not in both.
        known = self.machine.checkpoints
        self.certified = min(known.certified, known.applied)

    def _compute(self, epoch: int, segments: tuple[Segment, ...]) -> tuple[bytes, bytes]:
        entries = (
            [self._stored(each.member, seq) for seq in range(each.first, each.end)]
            for each in segments
        )
        state = self._function.apply(self._state, epoch, entries)
        return state, self._function.root(state)

    async def _keep_keys(self) -> None:
        """Reads epochs for the keys, as soon as the store has them."""
        keys = self._keys
        if keys is None:
            return
        pause = RETRY_SECONDS[0]
        while True:
            self._moved = trio.Event()
            read = keys.next_read(self.applied, self.machine.checkpoints.certified)
            epoch = None
            if read is not None:
                try:
                    # The state function works on one state at a time.
                    async with self._appliers:
                        epoch = await trio.to_thread.run_sync(read)
                except StoreError as error:
                    log.error("keys cannot be used", reason=str(error))  # noqa: TRY400 - as above
                    await trio.sleep(pause)
                    pause = min(2 * pause, RETRY_SECONDS[1])
                    continue
                except (LocalProtocolError, RemoteProtocolError) as error:
                    keys.stop(str(error))
                    log.error("keys are not used any more", reason=str(error))  # noqa: TRY400
                    return
            pause = RETRY_SECONDS[0]
            if epoch is None:
                await self._moved.wait()
                continue
            keys.take(epoch, self._now())
            self._drain()
            self._condense()
            self._drain()

    async def _keep_time(self) -> None:
        while True:
            self._alarm = trio.Event()
            self._wake_at = deadline = self._next_deadline()
            seconds = float("inf") if deadline >= FOREVER else (deadline + 1) / 1_000
            with trio.move_on_at(seconds):
                await self._alarm.wait()
                continue
            self._wake_at = FOREVER
            now = self._now()
            if self.machine.next_deadline() <= now:
                self.machine.handle_deadline(now)
            if self._keys is not None:
                self._keys.handle_deadline(now)
            self._drain()


def _name(message: Message | SigningMessage) -> str:
    """Names a message for the figures; what was said is told apart."""
    kind = message.statement if isinstance(message, Said) else message
    return type(kind).__name__.lower()

"""Joins the machines that sign with one key: the book, the first round, and ROAST behind it.

Theory of operation. Epochs come in order, each when its state is certified. The book counts what
the epoch consists of; then the tasks that follow from the state are opened, and the book gives each
its first signers. Whoever is one sends its share to all at once. When the signature is not there
after `patience_ms`, the first coordinator starts, and so on. A signature ends its task: sessions
are forgotten and their nonces burnt.

The boot counter is raised durably before anything about a nonce leaves: `StoreBoot` is the first
effect of a start. Shares that were given out are kept as bytes and sent again as these.

What a peer says about a task that is not known here yet waits for it; who has a signature is asked
for it, and it speaks for itself.

Bounds: `CHECKPOINTS_OPEN_MAX` tasks of a checkpoint key, later ones take the place of earlier ones;
as many of a treasury key as the state has, and no longer than it has them. For each task one
`Respondent` per coordinator; `EARLY_MAX` messages of each member about tasks that are not known
yet; `DONE_KEPT` signatures, and the ids of all that a treasury key was asked for.

Source: `spec/16-threshold-keys.md`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from radpool_sv2._native.threshold import CHECKPOINT, NoncePool
from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.codec import HASH_LEN, Reader, u32
from radpool_sv2.federation.effect import FOREVER, Append, Close, LinkDown, LinkUp
from radpool_sv2.federation.signing.commitments import (
    WINDOW_MAX,
    Book,
    Published,
    encode_reset,
)
from radpool_sv2.federation.signing.evidence import (
    ShareEvidence,
    SignedShare,
    encode_signers,
    read_signers,
)
from radpool_sv2.federation.signing.message import (
    Ask,
    Commit,
    Done,
    Invite,
    Open,
    Share,
    SigningMessage,
)
from radpool_sv2.federation.signing.purpose import Task, tasks_of
from radpool_sv2.federation.signing.roast import Coordinator, Respondent, coordinators
from radpool_sv2.federation.signing.session import OPTIMISTIC, Attempt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from radpool_sv2._native.threshold import Commitment
    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.dkg.generation import Generated
    from radpool_sv2.federation.identity import Signer, Verifier
    from radpool_sv2.federation.signing.evidence import Signers
    from radpool_sv2.federation.signing.purpose import Certified, Spends

__all__ = [
    "Accuse",
    "CertifiedEpoch",
    "Heard",
    "Say",
    "Signed",
    "Signing",
    "SigningEffect",
    "SigningEvent",
    "SigningLimits",
    "Spent",
    "StoreBoot",
]

CHECKPOINTS_OPEN_MAX: Final = 8
EARLY_MAX: Final = 64
DONE_KEPT: Final = 4_096

BOOK_EPOCHS: Final = 1_008
"""A book is begun anew after as many epochs, a week of blocks: for so long first rounds may fail of
a member that went on from somebody's state and does not know what had been published before."""


@dataclass(frozen=True, slots=True)
class CertifiedEpoch:
    """Says that the state behind an epoch is certified; epochs come in order.

    Attributes:
        entries: What the epoch consists of.
        certified: The state.
    """

    entries: Sequence[Entry]
    certified: Certified


@dataclass(frozen=True, slots=True)
class Heard:
    """Says that a member sent a message on its link."""

    member: int
    message: SigningMessage


SigningEvent: TypeAlias = CertifiedEpoch | Heard | LinkUp | LinkDown


@dataclass(frozen=True, slots=True)
class StoreBoot:
    """Asks to make the boot counter durable before anything that stands behind it is done."""

    boot: int


@dataclass(frozen=True, slots=True)
class Say:
    """Asks to send a message on the link of a member, if there is one."""

    member: int
    message: SigningMessage


@dataclass(frozen=True, slots=True)
class Signed:
    """Hands over a signature; it is to be stored, and given to `restore` at the next start."""

    task: Task
    signature: bytes


@dataclass(frozen=True, slots=True)
class Accuse:
    """Says that a member's share does not hold; it is proven."""

    member: int
    evidence: ShareEvidence


@dataclass(frozen=True, slots=True)
class Spent:
    """Says by which nonce a session is signed: to be stored before its share leaves.

    No commitment of a member stands in two of these with different sessions.
    """

    commitment: Commitment
    session: bytes


SigningEffect: TypeAlias = StoreBoot | Say | Signed | Accuse | Spent | Append | Close


@dataclass(frozen=True, kw_only=True, slots=True)
class SigningLimits:
    """Bounds how long is waited, and how many commitments are open.

    Attributes:
        window: Commitments that a member keeps open, 2 to 64.
        patience_ms: How long the first round may take, and each coordinator before the next.
        again_ms: How often a coordinator invites those who have not answered.

    Raises:
        LocalProtocolError: One of these is out of its range.
    """

    window: int = WINDOW_MAX
    patience_ms: int = 3_000
    again_ms: int = 5_000

    def __post_init__(self) -> None:
        if not 2 <= self.window <= WINDOW_MAX or min(self.patience_ms, self.again_ms) < 1:
            raise LocalProtocolError(f"a window has 2 to {WINDOW_MAX} commitments; times are >= 1")


@dataclass(slots=True)
class _OpenTask:
    task: Task
    coordinators: list[int]
    ask_at: int
    signers: Signers
    first: Attempt | None = None
    own: Share | None = None
    slot: int | None = None
    coordinator: Coordinator | None = None
    starts_at: int = FOREVER
    again_at: int = FOREVER
    respondents: dict[int, Respondent] = field(default_factory=dict)


class Signing:
    """Is a member's part in signing with one key.

    Args:
        generated: The key, its members, and the own share if there is one.
        me: The own number in the committee.
        signer: The own identity key.
        verifier: Checks members' signatures.
        spends: What a treasury key is to sign.
        boot: The last boot counter that was stored; 0 at first.
        limits: How long is waited.
    """

    def __init__(  # noqa: PLR0913 - a seat, a key and a counter
        self,
        generated: Generated,
        me: int,
        signer: Signer,
        verifier: Verifier,
        spends: Spends,
        *,
        boot: int,
        limits: SigningLimits | None = None,
    ) -> None:
        self._key = generated.public
        self._members = generated.members
        self._places = {member: place for place, member in enumerate(generated.members)}
        self._me = me
        self._place = self._places.get(me)
        self._signer = signer
        self._verifier = verifier
        self._spends = spends
        self._limits = SigningLimits() if limits is None else limits
        self._boot = boot + 1
        share = generated.share
        self._pool = None if share is None else NoncePool(share, self._boot)
        self._unassigned: set[int] = set()
        self._book = Book(self._key, generated.members, verifier)
        self._epoch = -1
        self._tasks: dict[bytes, _OpenTask] = {}
        self._done: dict[bytes, bytes] = {}
        self._given: set[bytes] = set()
        self._early: dict[int, deque[SigningMessage]] = {}
        self._accused: set[int] = set()
        self._linked: set[int] = set()
        self._effects: deque[SigningEffect] = deque()
        self._now = 0

    # What a driver calls.

    def restore(
        self,
        epochs: Iterable[CertifiedEpoch],
        done: Mapping[bytes, bytes],
        now: int,
        snapshot: bytes | None = None,
    ) -> None:
        """Begins, or goes on where a store says that it stopped; called first.

        Args:
            epochs: All that were certified since the key was, or since the snapshot.
            done: Signatures by signing id.
            now: The time.
            snapshot: What `snapshot` returned in an earlier life.

        Raises:
            CodecError: The snapshot is none.
        """
        self._now = now
        self._done = dict(done)
        if self._pool is not None:
            self._effects.append(StoreBoot(self._boot))
        if snapshot is not None:
            self._go_on_from(snapshot)
        for epoch in epochs:
            self._certified(epoch)
        if self._pool is not None:
            if self._boot > 1:
                payload = encode_reset(self._key.transcript, self._boot)
                self._effects.append(Append(Kind.NONCE_RESET, payload))
            self._refill()

    def handle(self, event: SigningEvent, now: int) -> None:
        """Takes in what has happened."""
        self._now = max(now, self._now)
        match event:
            case CertifiedEpoch():
                self._certified(event)
                self._refill()
            case Heard(member, message):
                self._try(member, message)
            case LinkUp(member):
                self._link(member)
            case LinkDown(member):
                self._linked.discard(member)
            case _:
                assert_never(event)

    def handle_deadline(self, now: int) -> None:
        """Does what is due."""
        self._now = now = max(now, self._now)
        for each in list(self._tasks.values()):
            if now >= each.ask_at:
                each.ask_at = now + 2 * self._limits.again_ms
                self._say_all(Ask(each.task.id))
            if now >= each.starts_at and self._place is not None:
                each.starts_at, each.again_at = FOREVER, now
                each.coordinator = Coordinator(
                    self._key, each.task, self._place, self._boot, self._book.excluded
                )
                self._respond(each, self._place)
            if each.task.id not in self._tasks:
                continue
            if now >= each.again_at and each.coordinator is not None:
                each.again_at = now + self._limits.again_ms
                for member, place in self._places.items():
                    if each.coordinator.is_waiting_for(place):
                        self._say(member, Invite(each.task.id))

    def next_deadline(self) -> int:
        """Returns when `handle_deadline` is to be called; `FOREVER` for never."""
        return min(
            (min(each.starts_at, each.again_at, each.ask_at) for each in self._tasks.values()),
            default=FOREVER,
        )

    def poll(self) -> SigningEffect | None:
        """Takes the next effect out."""
        return self._effects.popleft() if self._effects else None

    def snapshot(self) -> bytes:
        """Writes what all epochs so far come to, for the own store: nothing in it is proven."""
        tasks = [
            b"".join(
                (
                    each.task.encode(),
                    b"\1" + encode_signers(each.signers) if each.signers else b"\0",
                )
            )
            for each in self._tasks.values()
        ]
        return b"".join(
            (
                u32(self._epoch + 1),
                self._book.encode(),
                u32(len(self._given)),
                *sorted(self._given),
                u32(len(tasks)),
                *tasks,
            )
        )

    @property
    def open_tasks(self) -> int:
        """How many signatures are not there yet."""
        return len(self._tasks)

    def waited_for(self) -> list[tuple[Task, tuple[int, ...]]]:
        """Returns the open tasks, each with the places in the key whose first shares are not here.

        A task without a first session has nobody: coordinators gather its signers.
        """
        return [
            (each.task, () if each.first is None else tuple(sorted(each.first.missing)))
            for each in self._tasks.values()
        ]

    def knows(self, task: bytes) -> bool:
        """Says whether a signing id is that of a task that is open or done here."""
        return task in self._tasks or task in self._done

    @property
    def unspent(self) -> int:
        """How many own nonces are unspent."""
        return 0 if self._pool is None else self._pool.unspent

    def open_commitments(self, member: int) -> int:
        """Returns how many commitments of a member are open."""
        return self._book.open_of(self._places[member]) if member in self._places else 0

    # Epochs and tasks.

    def _go_on_from(self, snapshot: bytes) -> None:
        with Reader(snapshot) as reader:
            self._epoch = reader.u32() - 1
            self._book.restore(reader)
            self._given = {reader.take(HASH_LEN) for _ in range(reader.u32())}
            for _ in range(reader.u32()):
                task, is_given = Task.read(reader), reader.flag("whether it has first signers")
                signers = read_signers(reader) if is_given else ()
                if task.id not in self._done:
                    self._open(task, signers)

    def _certified(self, event: CertifiedEpoch) -> None:
        certified = event.certified
        if certified.epoch <= self._epoch:
            raise LocalProtocolError(f"epoch {certified.epoch} is certified out of order")
        self._epoch = certified.epoch
        if certified.epoch % BOOK_EPOCHS == 0:
            self._empty_book()
        self._book.count(event.entries)
        alive = {entry.header.sender for entry in event.entries}
        tasks = tasks_of(certified, self._key, self._spends)
        if self._key.run.purpose == CHECKPOINT:
            while len(self._tasks) >= CHECKPOINTS_OPEN_MAX:
                self._close(min(self._tasks.values(), key=lambda each: each.task.epoch))
        else:
            wanted = {task.id for task in tasks}
            for each in list(self._tasks.values()):
                if each.task.id not in wanted:
                    self._close(each)
        for task in tasks:
            # For one that was open before, the commitments were given then: it has a first session.
            is_new = task.id not in self._given
            signers = self._book.assign(task.id, alive) if is_new else ()
            if self._key.run.purpose != CHECKPOINT:
                self._given.add(task.id)
            self._assigned(signers)
            if task.id not in self._tasks and task.id not in self._done:
                self._open(task, signers)

    def _empty_book(self) -> None:
        """Begins a new book: from here on all have the same one, whatever they had before."""
        gone = self._book.empty()
        # Whoever lies on is to be left out again.
        self._accused.clear()
        if self._place is None or self._pool is None:
            return
        slots = [each.slot for each in gone[self._place] if each.boot == self._boot]
        self._unassigned.difference_update(slots)
        self._pool.burn(slots)

    def _assigned(self, signers: Signers) -> None:
        given = dict(signers).get(-1 if self._place is None else self._place)
        if given is not None and given.boot == self._boot:
            self._unassigned.discard(given.slot)

    def _open(self, task: Task, signers: Signers) -> None:
        leaders = coordinators(self._key, task.id)
        each = _OpenTask(task, leaders, self._now + self._limits.patience_ms, signers)
        self._tasks[task.id] = each
        if self._place in leaders and self._pool is not None:
            turn = leaders.index(self._place) + 1
            each.starts_at = self._now + self._limits.patience_ms * turn
        if signers:
            try:
                each.first = Attempt(self._key, task, OPTIMISTIC, signers)
            except LocalProtocolError:
                # They are of a damaged snapshot: what the book gives is a session, even if two of
                # them published one commitment. ROAST finds others than who copied it.
                each.first = None
        self._sign_first(each)
        for member, kept in list(self._early.items()):
            early = [message for message in kept if message.task == task.id]
            self._early[member] = deque(
                (message for message in kept if message.task != task.id), EARLY_MAX
            )
            for message in early:
                if task.id in self._tasks:
                    self._try(member, message)

    def _sign_first(self, each: _OpenTask) -> None:
        if each.first is None or self._pool is None or self._place is None:
            return
        given = each.first.signers.get(self._place)
        if given is None or given.boot != self._boot:
            return
        try:
            made = self._pool.sign(each.first.session)
        except LocalProtocolError:
            # The nonce is not here: a copy of this member has published under the same boot.
            return
        each.slot = given.slot
        share = SignedShare.sign(self._signer, made)
        self._effects.append(Spent(given, share.session))
        each.own = Share(each.task.id, OPTIMISTIC, share, None)
        self._say_all(each.own)
        self._first_share(each, self._place, share)

    def _close(self, each: _OpenTask) -> None:
        del self._tasks[each.task.id]
        if self._pool is not None and each.slot is not None:
            self._pool.burn([each.slot])
        for respondent in each.respondents.values():
            respondent.burn()

    def _complete(self, each: _OpenTask, signature: bytes) -> None:
        self._close(each)
        self._done[each.task.id] = signature
        while len(self._done) > DONE_KEPT:
            del self._done[next(iter(self._done))]
        self._effects.append(Signed(each.task, signature))

    def _refill(self) -> None:
        """Publishes commitments, when half of the window is used."""
        window = self._limits.window
        if self._pool is None or len(self._unassigned) > window // 2:
            return
        try:
            commitments = self._pool.commit(window - len(self._unassigned))
        except LocalProtocolError:
            # So much is open that no more nonces may be: they are burnt as tasks end.
            return
        self._unassigned.update(each.slot for each in commitments)
        published = Published(self._key.transcript, tuple(commitments))
        self._effects.append(Append(Kind.COMMITMENTS, published.encode()))

    # What peers say.

    def _try(self, member: int, message: SigningMessage) -> None:
        try:
            self._hear(member, message)
        except RemoteProtocolError as error:
            self._effects.append(Close(member, f"{error.error_code}: {error}"))

    def _hear(self, member: int, message: SigningMessage) -> None:
        done = self._done.get(message.task)
        if done is not None:
            if not isinstance(message, Done | Commit):
                self._say(member, Done(message.task, done))
            return
        each = self._tasks.get(message.task)
        if each is None:
            self._keep(member, message)
        elif isinstance(message, Done):
            self._key.verify(each.task.message, message.signature, each.task.merkle_root)
            self._complete(each, message.signature)
        elif not isinstance(message, Ask):
            place = self._places.get(member)
            if place is None:
                raise RemoteProtocolError("the sender has no share of the key", "signing")
            self._hear_signer(each, place, message)

    def _keep(self, member: int, message: SigningMessage) -> None:
        """Keeps what may be about a task that the own chain has not come to yet."""
        if isinstance(message, Share | Invite | Done):
            self._early.setdefault(member, deque(maxlen=EARLY_MAX)).append(message)

    def _hear_signer(
        self, each: _OpenTask, place: int, message: Share | Invite | Commit | Open
    ) -> None:
        match message:
            case Share(_, number, signed):
                if not self._wants(each, place, number, signed):
                    return
                identity = self._key.run.members[place]
                if not signed.is_of(identity, self._verifier):
                    raise RemoteProtocolError("the share is not signed by its sender", "signature")
                if number == OPTIMISTIC:
                    self._first_share(each, place, signed)
                elif each.coordinator is not None:
                    self._go_on(each, each.coordinator.take(place, message))
            case Commit(_, commitment):
                if each.coordinator is not None:
                    self._go_on(each, each.coordinator.commit(place, commitment))
            case Invite():
                self._respond(each, self._leader(each, place))
            case Open():
                self._answer(each, self._leader(each, place), message)
            case _:
                assert_never(message)

    def _wants(self, each: _OpenTask, place: int, number: int, signed: SignedShare) -> bool:
        """Says whether a share is of use: a signature that need not be checked costs nothing."""
        if number == OPTIMISTIC:
            first = each.first
            return (
                first is not None and place in first.missing and signed.session == first.session.id
            )
        return each.coordinator is not None and each.coordinator.waits_in(place, number)

    def _leader(self, each: _OpenTask, place: int) -> int:
        if place not in each.coordinators:
            raise RemoteProtocolError("the sender does not coordinate this task", "coordinator")
        return place

    def _first_share(self, each: _OpenTask, place: int, signed: SignedShare) -> None:
        if each.first is None:
            return
        each.first.take(place, signed)
        if each.first.missing:
            return
        signature, evidence = each.first.join()
        each.first = None
        self._accuse(evidence)
        if signature is not None:
            self._complete(each, signature)

    # ROAST.

    def _respondent(self, each: _OpenTask, coordinator: int) -> Respondent | None:
        if self._pool is None:
            return None
        if coordinator not in each.respondents:
            each.respondents[coordinator] = Respondent(
                self._key, each.task, coordinator, self._pool, self._signer, self._spent
            )
        return each.respondents[coordinator]

    def _answer(self, each: _OpenTask, coordinator: int, message: Open) -> None:
        respondent = self._respondent(each, coordinator)
        if respondent is None or self._place is None:
            return
        answer = respondent.open(self._place, message)
        if answer is None:
            self._respond(each, coordinator)
        else:
            self._say(self._members[coordinator], answer)

    def _respond(self, each: _OpenTask, coordinator: int) -> None:
        """Gives a coordinator the commitment that is for it alone."""
        respondent = self._respondent(each, coordinator)
        if respondent is None or self._place is None:
            return
        commitment = respondent.commitment()
        if commitment is None:
            return
        if coordinator != self._place:
            self._say(self._members[coordinator], Commit(each.task.id, commitment))
        elif each.coordinator is not None:
            self._go_on(each, each.coordinator.commit(self._place, commitment))

    def _go_on(self, each: _OpenTask, opened: list[tuple[int, Open]]) -> None:
        """Does what follows from a coordinator's step; the own part in its sessions too."""
        coordinator = each.coordinator
        assert coordinator is not None, "only a coordinator's step is gone on from"
        waiting = deque(opened)
        while waiting:
            place, message = waiting.popleft()
            if place != self._place:
                self._say(self._members[place], message)
                continue
            respondent = self._respondent(each, place)
            answer = None if respondent is None else respondent.open(place, message)
            if answer is not None:
                waiting.extend(coordinator.take(place, answer))
        self._accuse(coordinator.evidence)
        coordinator.evidence.clear()
        if coordinator.signature is not None:
            self._say_all(Done(each.task.id, coordinator.signature))
            self._complete(each, coordinator.signature)

    def _accuse(self, evidence: Iterable[ShareEvidence]) -> None:
        for each in evidence:
            if each.offender in self._accused | self._book.excluded:
                continue
            self._accused.add(each.offender)
            self._effects.append(Accuse(self._members[each.offender], each))
            self._effects.append(Append(Kind.SIGNING_EVIDENCE, each.encode()))

    def _spent(self, given: Commitment, session: bytes) -> None:
        self._effects.append(Spent(given, session))

    # Links.

    def _link(self, member: int) -> None:
        """Says again what may have been lost on the link before."""
        self._linked.add(member)
        place = self._places.get(member)
        for each in self._tasks.values():
            if each.own is not None:
                self._say(member, each.own)
            if each.coordinator is None or place is None:
                continue
            pending = each.coordinator.pending_of(place)
            if pending is not None:
                self._say(member, pending)
            elif each.coordinator.is_waiting_for(place):
                self._say(member, Invite(each.task.id))

    def _say(self, member: int, message: SigningMessage) -> None:
        if member in self._linked:
            self._effects.append(Say(member, message))

    def _say_all(self, message: SigningMessage) -> None:
        for member in sorted(self._linked):
            self._effects.append(Say(member, message))

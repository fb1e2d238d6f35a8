"""Joins the machines of a member: broadcast, agreement and checkpoints.

It is what a driver runs, one per member: events in, effects out, in order. Whatever a peer does
wrong closes that peer's link and nothing else; what a peer signed twice is put into the own stream
as evidence, for all to see.

A member that is started again is given its records, in the order in which they were written, and
behind the last of them `restored`.

Source: `spec/13-broadcast.md`, `spec/14-epoch-agreement.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.agreement.epoch import Epochs
from radpool_sv2.federation.broadcast.broadcast import Broadcast
from radpool_sv2.federation.broadcast.entry import Position
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.broadcast.stream import Seat
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.effect import (
    FOREVER,
    Append,
    AppliedState,
    ChainTip,
    Close,
    Limits,
    LinkDown,
    LinkUp,
    Received,
    Served,
)
from radpool_sv2.federation.evidence import Evidence
from radpool_sv2.federation.messages import (
    Entries,
    Gone,
    Notarised,
    Propose,
    Pull,
    PullEpochs,
    Ready,
    Said,
    SentEntry,
    Sync,
)
from radpool_sv2.federation.messages import Epochs as EpochsMessage
from radpool_sv2.federation.outlet import Outlet
from radpool_sv2.federation.record import (
    Applied,
    Checkpointed,
    Decided,
    Echoed,
    Ended,
    Grown,
    Proposed,
    Started,
    Voted,
)
from radpool_sv2.federation.state.checkpoint import Checkpoints
from radpool_sv2.federation.statement import Echo, StateRoot, Vote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.effect import Effect, Event
    from radpool_sv2.federation.identity import Signer, Verifier
    from radpool_sv2.federation.messages import Message
    from radpool_sv2.federation.record import Record

__all__ = ["Member"]


class Member:
    """Is a member of a committee.

    Args:
        committee: The committee.
        signer: The own identity key, which must be a member's.
        verifier: Checks everybody's signatures.
        limits: What is kept, and how long is waited.

    Raises:
        LocalProtocolError: The key is no member's.
    """

    def __init__(
        self, committee: Committee, signer: Signer, verifier: Verifier, limits: Limits | None = None
    ) -> None:
        self._outlet = Outlet()
        self._limits = Limits() if limits is None else limits
        me = committee.number_of(signer.public)
        self.seat = Seat(committee, me, signer, verifier, self._limits, self._outlet)
        self.epochs = Epochs(self.seat)
        self.broadcast = Broadcast(self.seat, self.epochs, self._delivered)
        self.checkpoints = Checkpoints(self.seat)
        self._ready_due = FOREVER
        self._told = (0, 0)
        self._gone: dict[int, int] = {}

    # What a driver calls.

    def handle(self, event: Event, now: int) -> None:  # noqa: C901, PLR0912 - one branch each
        """Takes in what has happened.

        Args:
            event: What.
            now: Milliseconds of a clock that does not go back.

        Raises:
            LocalProtocolError: A payload cannot be appended.
        """
        if self._outlet.halted:
            return
        self._outlet.now = max(now, self._outlet.now)
        match event:
            case Received(member, message):
                try:
                    self._receive(member, message)
                except RemoteProtocolError as error:
                    self._outlet.emit(Close(member, f"{error.error_code}: {error}"))
            case LinkUp(member):
                self._link(member)
            case LinkDown(member):
                self._unlink(member)
            case Append(kind, payload):
                if kind in (Kind.EPOCH_MARK, Kind.EVIDENCE):
                    raise LocalProtocolError("marks and evidence are appended by the member itself")
                self.broadcast.append(kind, payload)
            case ChainTip(height, block_hash):
                self.epochs.reached(height, block_hash)
                self.broadcast.reconsider()
            case AppliedState(epoch, root):
                start = self.epochs.applied(epoch)
                self.checkpoints.sign(epoch, start.root(root))
            case Served(member, sender):
                if sender < 0:
                    self.epochs.served(member)
                else:
                    self.broadcast.served(member, sender)
            case _:
                assert_never(event)
        self._settle()

    def handle_deadline(self, now: int) -> None:
        """Does what is due."""
        if self._outlet.halted:
            return
        self._outlet.now = now = max(now, self._outlet.now)
        self.broadcast.handle_deadline(now)
        self.epochs.handle_deadline(now)
        self.checkpoints.handle_deadline(now)
        if now >= self._ready_due:
            self._ready_due = FOREVER
            self._tell_ready()
        self._settle()

    def next_deadline(self) -> int:
        """Returns when `handle_deadline` is to be called; `FOREVER` for never."""
        if self._outlet.halted:
            return FOREVER
        return min(
            self._ready_due,
            self.broadcast.next_deadline(),
            self.epochs.next_deadline(),
            self.checkpoints.next_deadline(),
        )

    def poll(self) -> Effect | None:
        """Takes the next effect out."""
        return self._outlet.poll()

    def restore(self, records: Iterable[Record], now: int) -> None:
        """Goes on where a store says that it stopped.

        Args:
            records: All that was written down, in that order.
            now: The time.

        Raises:
            CodecError: The store is of another committee, or of another program.
        """
        self._outlet.now = now
        try:
            for record in records:
                self._restore(record)
        except (AssertionError, IndexError, KeyError) as error:
            raise CodecError("the records of the store do not fit together") from error
        self.broadcast.restored()
        self.epochs.restore_marks(self.broadcast.own.tip().marks)
        self._settle()

    def start(self) -> Started | None:
        """Returns a record that can stand for all that a checkpoint has made superfluous.

        A store that writes it may let go of every earlier record that is not needed behind it
        (`record.is_needed`); entries and decisions that peers may still ask for are another matter.

        Returns:
            `None` while an epoch is decided and not certified, and once the member has halted: it
            may have counted the last epoch in another way.
        """
        start = self.epochs.start()
        if self.is_halted or start is None or self.checkpoints.certified != start.decided:
            return None
        return start

    @property
    def gone(self) -> dict[int, int]:
        """The first epoch that peers keep, of those who keep less than this member lacks."""
        decided = self.epochs.decided
        return {member: first for member, first in self._gone.items() if first > decided}

    @property
    def is_halted(self) -> bool:
        """Whether it has stopped for good."""
        return self._outlet.halted

    # How.

    def _receive(self, member: int, message: Message) -> None:  # noqa: C901, PLR0912 - one each
        match message:
            case SentEntry(entry):
                self.broadcast.offered(member, entry)
            case Said(Echo() as echo, signature):
                self.broadcast.echoed(member, echo, signature)
            case Said(Vote() as vote, signature):
                self.epochs.voted(member, vote, signature)
            case Said(StateRoot() as root, signature):
                self.checkpoints.heard(member, root, signature)
            case Ready(heads, decided, certified):
                self.broadcast.claimed(member, heads)
                self.epochs.claimed(member, decided)
                self.checkpoints.claimed(member, certified)
            case Pull():
                self.broadcast.pulled(member, message)
            case Entries():
                self.broadcast.answered(member, message)
            case Propose():
                self.epochs.proposed(member, message)
            case Notarised():
                self.epochs.notarised(message)
            case PullEpochs(first):
                self.epochs.pulled(member, first)
            case EpochsMessage(epochs):
                self.epochs.answered(member, epochs)
                self.checkpoints.answered(member, epochs)
            case Gone(first):
                self._gone[member] = first
                self.broadcast.refused(member)
                self.epochs.refused(member)
                self.checkpoints.refused(member)
            case Sync(heads, decided, certified, latest):
                self.broadcast.synced(member, heads, latest)
                self.epochs.claimed(member, decided)
                self.checkpoints.claimed(member, certified)
            case _:
                raise RemoteProtocolError("a message that no member sends", "message")

    def _link(self, member: int) -> None:
        if member == self.seat.me or not 0 <= member < self.seat.committee.n:
            raise LocalProtocolError(f"there is no link to member {member}")
        self._outlet.linked.add(member)
        sync = Sync(
            self.broadcast.heads(),
            self.epochs.decided,
            self.checkpoints.certified,
            self.broadcast.streams[member].latest(),
        )
        self._outlet.send(member, sync)
        self.broadcast.linked(member)
        self.epochs.linked(member)
        self.checkpoints.linked(member)

    def _unlink(self, member: int) -> None:
        self._outlet.linked.discard(member)
        self._gone.pop(member, None)
        self.broadcast.unlinked(member)
        self.epochs.unlinked(member)
        self.checkpoints.unlinked(member)

    def _delivered(self, entry: Entry, position: Position) -> None:
        self.epochs.delivered(entry, position)
        if entry.header.sender == self.seat.me and entry.header.kind == Kind.EVIDENCE:
            # The own stream has it already: so it was before this start.
            self._outlet.is_news(Evidence.decode(entry.payload))

    def _settle(self) -> None:
        """Does what follows from an event, until nothing does."""
        outlet = self._outlet
        self.epochs.settle()
        for mark in self.epochs.due_marks(self.broadcast.room_for_marks):
            self.broadcast.append(Kind.EPOCH_MARK, mark.encode(), first=True)
        while outlet.accusations and self.broadcast.waiting < self._limits.append_queue:
            evidence = outlet.accusations.popleft()
            self.broadcast.append(Kind.EVIDENCE, evidence.encode())
        for head in self.broadcast.settle():
            outlet.send(head.sender, Ready((head,), *self._progress()))
        # Entries of the own stream may have been certified by settling: a committee of one.
        self.epochs.settle()
        if self._progress() != self._told:
            self._tell_ready()
        elif self.broadcast.has_news and self._ready_due == FOREVER:
            self._ready_due = outlet.now + self._limits.ready_interval_ms

    def _progress(self) -> tuple[int, int]:
        return self.epochs.decided, self.checkpoints.certified

    def _tell_ready(self) -> None:
        self._told = self._progress()
        self._ready_due = FOREVER
        self._outlet.tell(Ready(self.broadcast.news(), *self._told))

    def _restore(self, record: Record) -> None:  # noqa: C901, PLR0912 - one each
        match record:
            case Started(decided, endings):
                for epoch, ending in endings:
                    position = Position(ending.seq + 1, ending.digest, 0, epoch + 1)
                    self.broadcast.streams[ending.member].restore_start(position)
                self.epochs.restore_start(record)
                self.checkpoints.restore_start(decided)
            case Echoed(entry):
                self.broadcast.streams[entry.header.sender].restore_echoed(entry)
            case Grown(certificate, entries):
                echo = certificate.statement
                assert isinstance(echo, Echo), "the codec lets no other pass"
                self.broadcast.streams[echo.sender].restore_grown(certificate, entries)
            case Proposed(proposal, cut):
                if proposal.epoch == self.epochs.decided:
                    self.epochs.ballot.restore_proposed(proposal, cut)
            case Voted(vote, cut):
                if vote.epoch == self.epochs.decided:
                    self.epochs.ballot.restore_voted(vote, cut)
            case Ended(certificate, cut):
                ended = certificate.statement
                if isinstance(ended, Vote) and ended.epoch == self.epochs.decided:
                    self.epochs.ballot.restore_ended(certificate, cut)
            case Decided(_, cut):
                self.epochs.restore_decided(cut)
            case Applied(epoch, root):
                self.epochs.applied(epoch)
                self.checkpoints.restore_applied(epoch, root)
            case Checkpointed(certificate):
                self.checkpoints.restore_checkpointed(certificate)
            case _:
                assert_never(record)

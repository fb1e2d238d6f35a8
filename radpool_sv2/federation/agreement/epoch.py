"""Decides one epoch after the other, and says which parts of the streams each of them has.

Theory of operation. A member ends an epoch in its own stream by a mark, once its chain has the
block. Marks of an epoch become certified at all members; when all have theirs, or enough have and
the grace is over, members decide on a cut: whose mark counts. The segment of a member is what lies
between its last mark that counted and this one, so whoever is late loses nothing: its next mark
that counts brings everything before it.

A member marks every epoch that it does not know to be decided, and leaves none out: an epoch that
all were away for can still be cut.

When a cut is decided and all of its segments are delivered, they are applied to the state, one
epoch at a time.

Bounds: marks of undecided epochs for each member, which are echoed for at most `EPOCHS_AHEAD_MAX`
of them; one hash for each epoch that the own chain has ended and that is not decided here.

Source: `spec/14-epoch-agreement.md`, "Marks" and "Cuts".
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.federation.agreement.mark import Cut, Ending, Mark
from radpool_sv2.federation.agreement.simplex import Simplex
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.broadcast.stream import Verdict
from radpool_sv2.federation.broadcast.sync import Puller
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.effect import FOREVER, Apply, Decide, Persist, Segment, ServeEpochs
from radpool_sv2.federation.messages import PullEpochs
from radpool_sv2.federation.record import Decided, Started
from radpool_sv2.federation.statement import Phase, Vote

if TYPE_CHECKING:
    from radpool_sv2.federation.broadcast.entry import Entry, Position
    from radpool_sv2.federation.broadcast.stream import Seat
    from radpool_sv2.federation.certificate import Certificate
    from radpool_sv2.federation.messages import DecidedEpoch, Notarised, Propose

__all__ = ["Epochs"]

EPOCHS_AHEAD_MAX: Final = 4_096
"""Four weeks of epochs of one block, undecided: by then somebody has looked."""


class Epochs:
    """Is a member's part in the agreement; it also judges marks for the broadcast.

    Args:
        seat: Who this member is.
    """

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        members = range(seat.committee.n)
        self.decided = 0
        self._height = -1
        self._hashes: dict[int, bytes] = {}
        self._own_marks = 0
        self._marks: list[dict[int, tuple[Ending, int]]] = [{} for _ in members]
        self._counts = [0 for _ in members]
        self._included = [0 for _ in members]
        self._endings: dict[int, tuple[int, Ending]] = {}
        self._enough_since: int | None = None
        self._waiting: deque[tuple[Cut, tuple[Segment, ...], Started]] = deque()
        self._is_applying = False
        self._known_now: dict[int, tuple[Ending, int]] | None = None
        self._ballot = Simplex(seat, 0, self)
        self._puller = Puller(seat.limits)
        self._peers: dict[int, int] = {}
        self._serving: set[int] = set()

    # Marks.

    def admit(self, entry: Entry, position: Position) -> Verdict:
        """Judges marks: in order, at the right height, and not before the own chain is there."""
        if entry.header.kind != Kind.EPOCH_MARK:
            return Verdict.ADMIT
        try:
            mark = Mark.decode(entry.payload)
        except CodecError:
            return Verdict.REFUSE
        if mark.epoch < position.marks:
            return Verdict.REFUSE
        if mark.height != self._seat.committee.height_of(mark.epoch):
            return Verdict.REFUSE
        is_near = mark.epoch < self.decided + EPOCHS_AHEAD_MAX
        return Verdict.ADMIT if mark.height <= self._height and is_near else Verdict.HOLD

    def delivered(self, entry: Entry, position: Position) -> None:
        """Takes in that an entry is certified and all before it are."""
        sender = entry.header.sender
        self._counts[sender] = position.count
        if entry.header.kind != Kind.EPOCH_MARK or position.segment_bytes:
            return
        epoch = position.marks - 1
        if sender == self._seat.me:
            self._own_marks = max(self._own_marks, position.marks)
        if epoch < self.decided and not self._is_awaited(sender, epoch):
            return
        ending = Ending(sender, entry.header.seq, entry.header.digest)
        self._marks[sender][epoch] = ending, self._seat.outlet.now
        self._known_now = None

    def _is_awaited(self, sender: int, epoch: int) -> bool:
        return any(cut.epoch == epoch and sender in cut.members for cut, *_ in self._waiting)

    def reached(self, height: int, block_hash: bytes) -> None:
        """Takes in the next block of the own chain, or another one in the place of the last."""
        committee = self._seat.committee
        self._height = max(self._height, height)
        ended = committee.epochs_ended(height)
        ends_one = ended > self.decided and committee.height_of(ended - 1) == height
        if ends_one:
            self._hashes[ended - 1] = block_hash

    def restore_marks(self, count: int) -> None:
        """Takes back in up to which epoch the own stream has marks, certified or not."""
        self._own_marks = max(self._own_marks, count)

    def due_marks(self, count_max: int) -> list[Mark]:
        """Takes out the marks that the own stream is due, in order."""
        marks: list[Mark] = []
        while len(marks) < count_max:
            epoch = max(self._own_marks, self.decided)
            block_hash = self._hashes.pop(epoch, None)
            if block_hash is None:
                break
            self._own_marks = epoch + 1
            marks.append(Mark(epoch, self._seat.committee.height_of(epoch), block_hash))
        return marks

    @property
    def next_height(self) -> int:
        """The first height that is told to a member that has just been started, or its tip's."""
        return self._seat.committee.height_of(max(self._own_marks, self.decided))

    # What may be decided: the ballot asks.

    def _known(self) -> dict[int, tuple[Ending, int]]:
        """Returns the marks of the open epoch that are certified here, and since when."""
        if self._known_now is None:
            epoch = self.decided
            self._known_now = {
                member: marks[epoch] for member, marks in enumerate(self._marks) if epoch in marks
            }
        return self._known_now

    def ready_at(self, now: int) -> int:
        """Returns when this member would propose, as far as is known."""
        committee = self._seat.committee
        known = self._known()
        enough = committee.n - committee.faulty_max
        if len(known) < enough:
            return FOREVER
        if len(known) == committee.n:
            return now
        if self._enough_since is None:
            self._enough_since = now
        return self._enough_since + self._seat.limits.grace_ms

    def cut(self, now: int) -> Cut | None:
        """Returns what this member would propose."""
        if now < self.ready_at(now):
            return None
        endings = tuple(ending for _, (ending, _) in sorted(self._known().items()))
        return Cut(self.decided, endings)

    def is_good(self, cut: Cut, view: int, now: int) -> bool:
        """Says whether a new cut may be voted for.

        All of its marks are certified here, enough members are in it, and in the views of which at
        least one has an honest proposer, nobody is left out whose mark is known long enough.
        """
        committee = self._seat.committee
        known = self._known()
        if len(cut.endings) < committee.n - committee.faulty_max:
            return False
        for ending in cut.endings:
            mine = known.get(ending.member)
            if mine is None or mine[0] != ending:
                return False
        if view > committee.faulty_max:
            return True
        grace = self._seat.limits.grace_ms
        return all(
            member in cut.members or now - since <= grace for member, (_, since) in known.items()
        )

    # What comes over links.

    def proposed(self, member: int, message: Propose) -> None:
        """Takes in a proposal; of other epochs than the open one, it comes again when it is due.

        Raises:
            RemoteProtocolError: It breaks the protocol.
        """
        if message.proposal.epoch == self.decided:
            self._ballot.proposed(member, message)

    def voted(self, member: int, vote: Vote, signature: bytes) -> None:
        """Takes in a vote.

        Raises:
            RemoteProtocolError: It is not signed.
        """
        if vote.epoch == self.decided:
            self._ballot.voted(member, vote, signature)

    def notarised(self, message: Notarised) -> None:
        """Takes in a certificate of votes.

        Raises:
            RemoteProtocolError: It is none.
        """
        vote = message.certificate.statement
        assert isinstance(vote, Vote), "the codec lets no other pass"
        if vote.epoch == self.decided:
            self._ballot.certified(message)

    def linked(self, member: int) -> None:
        """Takes in that a link is open."""
        self._peers.pop(member, None)

    def unlinked(self, member: int) -> None:
        """Takes in that a link is closed."""
        self._peers.pop(member, None)
        self.refused(member)

    def refused(self, member: int) -> None:
        """Takes in that a peer has nothing to answer with, until it claims again."""
        self._puller.forget(member)

    def claimed(self, member: int, decided: int) -> None:
        """Takes in how many epochs a peer has decided; one that is as far is told what is said."""
        if decided > self._peers.get(member, -1):
            self._peers[member] = decided
            if decided == self.decided:
                for message in self._ballot.state():
                    self._seat.outlet.send(member, message)
        self._puller.claim(member, decided, self.decided, self._seat.outlet.now)

    def pulled(self, member: int, first: int) -> None:
        """Takes in a wish for epochs; a second one waits for the first."""
        if member in self._serving or first >= self.decided:
            return
        self._serving.add(member)
        self._seat.outlet.emit(ServeEpochs(member, first))

    def served(self, member: int) -> None:
        """Takes in that an answer is done with."""
        self._serving.discard(member)

    def answered(self, member: int, epochs: tuple[DecidedEpoch, ...]) -> None:
        """Takes in decided epochs.

        Raises:
            RemoteProtocolError: One is not decided so.
        """
        before = self.decided
        for each in epochs:
            if each.cut.epoch != self.decided:
                continue
            vote = each.decision.statement
            assert isinstance(vote, Vote), "the codec lets no other pass"
            if vote.phase is not Phase.FINALISE or each.cut.digest(vote.committee) != vote.cut:
                raise RemoteProtocolError("the cut is not the one that was decided", "epochs")
            each.decision.verify(self._seat.committee, self._seat.verifier)
            self._decide(each.decision, each.cut)
        self._puller.answered(member, self._seat.outlet.now, useful=self.decided > before)

    # Time.

    def next_deadline(self) -> int:
        """Returns when `handle_deadline` has something to do."""
        return min(self._ballot.next_deadline(), self._puller.next_deadline())

    def handle_deadline(self, now: int) -> None:
        """Asks for what is missing, and lets the ballot go on."""
        member = self._puller.ask(now)
        if member is not None:
            self._seat.outlet.send(member, PullEpochs(self.decided))
        if now >= self._ballot.next_deadline():
            self._ballot.handle_deadline(now)

    def settle(self) -> None:
        """Does what follows from an event."""
        if self._known_now is None:
            # There is a new mark, or a new epoch is open.
            self._known()
            self._ballot.step()
        while self._ballot.decided is not None:
            self._decide(*self._ballot.decided)
            self._ballot.step()
        self._apply()

    def _decide(self, certificate: Certificate, cut: Cut) -> None:
        self._seat.outlet.emit(Persist(Decided(certificate, cut)))
        self._seat.outlet.emit(Decide(certificate, cut))
        self._close(cut)
        self._puller.grown(self.decided, self._seat.outlet.now)

    def _close(self, cut: Cut) -> None:
        """Ends an epoch: from here on the next one is open."""
        segments = []
        for ending in cut.endings:
            first, end = self._included[ending.member], ending.seq + 1
            if end <= first:
                self._seat.outlet.halt(
                    f"epoch {cut.epoch} is decided to end before an earlier one in the stream of "
                    f"member {ending.member}: more than {self._seat.committee.faulty_max} members "
                    "are faulty, or this program is"
                )
            segments.append(Segment(ending.member, first, end))
            self._included[ending.member] = end
            self._endings[ending.member] = cut.epoch, ending
        start = Started(cut.epoch + 1, tuple(each for _, each in sorted(self._endings.items())))
        self._waiting.append((cut, tuple(segments), start))
        for member, marks in enumerate(self._marks):
            for epoch in [each for each in marks if each <= cut.epoch]:
                if not self._is_awaited(member, epoch):
                    del marks[epoch]
        for epoch in [each for each in self._hashes if each <= cut.epoch]:
            del self._hashes[epoch]
        self.decided = cut.epoch + 1
        self._enough_since = None
        self._known_now = None
        self._ballot = Simplex(self._seat, self.decided, self)

    def _apply(self) -> None:
        """Asks for the state behind the next decided epoch, once all of it is here."""
        if self._is_applying or not self._waiting:
            return
        cut, segments, _ = self._waiting[0]
        if any(self._counts[segment.member] < segment.end for segment in segments):
            return
        for ending in cut.endings:
            known = self._marks[ending.member].get(cut.epoch)
            if known is None or known[0] != ending:
                self._seat.outlet.halt(
                    f"epoch {cut.epoch} is decided to end at an entry of member {ending.member} "
                    "that is not a mark of it here: more than "
                    f"{self._seat.committee.faulty_max} members are faulty, or this program is"
                )
                return
        self._is_applying = True
        self._seat.outlet.emit(Apply(cut.epoch, segments))

    def applied(self, epoch: int) -> Started:
        """Takes in that the state behind an epoch is known; returns where members go on from it."""
        cut, _, start = self._waiting.popleft()
        assert cut.epoch == epoch, "epochs are applied in order"
        self._is_applying = False
        for member in cut.members:
            self._marks[member].pop(epoch, None)
        return start

    # What a store remembers.

    def start(self) -> Started | None:
        """Returns where a member can go on without earlier records, if all decided is applied."""
        if self._waiting:
            return None
        return Started(self.decided, tuple(each for _, each in sorted(self._endings.items())))

    def restore_start(self, start: Started) -> None:
        """Takes a record back in: everything before is over."""
        for epoch, ending in start.endings:
            self._endings[ending.member] = epoch, ending
            self._included[ending.member] = self._counts[ending.member] = ending.seq + 1
            if ending.member == self._seat.me:
                self._own_marks = epoch + 1
        self.decided = start.decided
        self._ballot = Simplex(self._seat, self.decided, self)

    def restore_decided(self, cut: Cut) -> None:
        """Takes a record back in: an epoch was decided."""
        self._close(cut)

    @property
    def ballot(self) -> Simplex:
        """The ballot of the open epoch."""
        return self._ballot

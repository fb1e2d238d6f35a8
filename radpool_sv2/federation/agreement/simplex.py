"""Decides one cut for one epoch, or goes on until it can.

Theory of operation. Views follow each other, each with a proposer of its own. In a view

    the proposer PROPOSEs a cut;
    who finds it good NOTARISEs it;
    who has waited too long SKIPs the view;
    a quorum of NOTARISE or of SKIP ends the view, and whoever has it hands it on to all;
    who has a NOTARISE quorum and has not skipped FINALISEs;
    a quorum of FINALISE decides.

A member skips a view or finalises in it, never both; so where a cut is decided, no quorum can have
skipped. A proposal names its parent: the last view whose cut a quorum notarised. It must be of that
cut, and every view between must have been skipped by a quorum; only a proposal without parent, in
front of which all views were skipped, is a new cut. So once a cut is decided in a view, every later
proposal that anyone votes for is of that cut.

Views end by quorums, not by clocks: while too few members are up, the view stays. Votes are written
down before they are sent; so are certificates, before anything is voted on the strength of them: a
vote whose reason is lost in a crash can stand in the way of every other.

Bounds: a view has one proposal and two votes of each member; votes count `VIEWS_AHEAD` views ahead.

Source: `spec/14-epoch-agreement.md`, "Views"; after Chan and Pass, "Simplex Consensus" (2023).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.codec import Tag, u16, u32
from radpool_sv2.federation.effect import FOREVER, Persist
from radpool_sv2.federation.messages import Notarised, Propose, Said
from radpool_sv2.federation.record import Ended, Proposed, Voted
from radpool_sv2.federation.statement import NO_HASH, Phase, Proposal, Vote

if TYPE_CHECKING:
    from radpool_sv2.federation.agreement.mark import Cut
    from radpool_sv2.federation.broadcast.stream import Seat
    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.messages import Message

__all__ = ["VIEWS_AHEAD", "Policy", "Simplex", "turns_of"]

TURN_TAG: Final = Tag("radpool/federation-turn")

VIEWS_AHEAD: Final = 16
"""A member more views behind is brought up by certificates, which do not expire."""


class Policy(Protocol):
    """Says what may be decided."""

    def cut(self, now: int) -> Cut | None:
        """Returns what this member would propose, if it is time."""

    def ready_at(self, now: int) -> int:
        """Returns when `cut` will have something, as far as is known."""

    def is_good(self, cut: Cut, view: int, now: int) -> bool:
        """Says whether a new cut may be voted for."""


@dataclass(slots=True)
class _View:
    """Is what is known about one view."""

    proposal: Propose | None = None
    notes: dict[int, tuple[Vote, bytes]] = field(default_factory=dict)
    closings: dict[int, tuple[Vote, bytes]] = field(default_factory=dict)
    notarised: Certificate | None = None
    skipped: Certificate | None = None

    @property
    def has_ended(self) -> bool:
        return self.notarised is not None or self.skipped is not None


def turns_of(committee: Committee, epoch: int) -> list[int]:
    """Returns the members in the order in which they propose; it starts again behind the last."""
    members = range(committee.n)
    return sorted(members, key=lambda each: TURN_TAG.hash(committee.id, u32(epoch), u16(each)))


class Simplex:
    """Decides one epoch.

    Args:
        seat: Who this member is.
        epoch: The epoch.
        policy: What may be decided.
    """

    def __init__(self, seat: Seat, epoch: int, policy: Policy) -> None:
        self.epoch = epoch
        self.view = 0
        self.decided: tuple[Certificate, Cut] | None = None
        self._seat = seat
        self._policy = policy
        self._turns = turns_of(seat.committee, epoch)
        self._views: dict[int, _View] = {0: _View()}
        self._cuts: dict[bytes, Cut] = {}
        self._has_started = False
        self._deadline = FOREVER

    # What comes over links.

    def proposed(self, member: int, message: Propose) -> None:
        """Takes in a proposal of a peer.

        Raises:
            RemoteProtocolError: It is not the peer's turn, or the message contradicts itself.
        """
        proposal, cut = message.proposal, message.cut
        if proposal.view >= self.view + VIEWS_AHEAD:
            return
        if member != self.proposer(proposal.view):
            raise RemoteProtocolError(
                f"member {member} proposed in view {proposal.view}, which is member "
                f"{self.proposer(proposal.view)}'s",
                "proposal",
            )
        view = self._views.setdefault(proposal.view, _View())
        before = view.proposal
        known = None if before is None else (before.proposal, before.signature)
        if not self._seat.is_first(member, known, proposal, message.signature, "a proposal"):
            return
        if cut.epoch != self.epoch or cut.digest(proposal.committee) != proposal.cut:
            raise RemoteProtocolError("the cut is not the one that is proposed", "proposal")
        view.proposal = message
        self._learn(cut)
        self.step()

    def voted(self, member: int, vote: Vote, signature: bytes) -> None:
        """Takes in a vote.

        Raises:
            RemoteProtocolError: It is not signed by that member.
        """
        if vote.view >= self.view + VIEWS_AHEAD:
            return
        view = self._views.setdefault(vote.view, _View())
        votes = view.notes if vote.phase is Phase.NOTARISE else view.closings
        if not self._seat.is_first(member, votes.get(member), vote, signature, "a vote"):
            return
        votes[member] = vote, signature
        self._tally(view, vote)
        self.step()

    def certified(self, message: Notarised) -> None:
        """Takes in a certificate of votes.

        Raises:
            RemoteProtocolError: It is none.
        """
        certificate, cut = message.certificate, message.cut
        vote = certificate.statement
        assert isinstance(vote, Vote), "the codec lets no other pass"
        view = self._views.get(vote.view, _View())
        if vote.phase is Phase.SKIP:
            is_news = view.skipped is None
        else:
            is_news = vote.phase is Phase.FINALISE or view.notarised is None
            if cut is None or cut.epoch != self.epoch or cut.digest(vote.committee) != vote.cut:
                raise RemoteProtocolError("the cut is not the certificate's", "certificate")
        if self.decided is not None or not is_news:
            return
        certificate.verify(self._seat.committee, self._seat.verifier)
        self._views.setdefault(vote.view, view)
        if cut is not None:
            self._learn(cut)
        self._adopt(view, certificate)
        self.step()

    # Time and state.

    def next_deadline(self) -> int:
        """Returns when `handle_deadline` has something to do."""
        if self.decided is not None:
            return FOREVER
        now = self._seat.outlet.now
        ready_at = self._policy.ready_at(now)
        if not self._has_started:
            return ready_at
        # A proposer that others have brought into its view may have to wait for its own cut.
        return min(self._deadline, ready_at) if ready_at > now else self._deadline

    def handle_deadline(self, now: int) -> None:
        """Skips a view that has taken too long; says again what was said in one that goes on."""
        if self.decided is None and self._has_started and now >= self._deadline:
            view = self._views[self.view]
            self._deadline = now + self.timeout(self.view)
            if self._seat.me in view.closings:
                self._repeat(self.view)
            else:
                self._cast(view, Vote(*self._slot(self.view), Phase.SKIP, NO_HASH))
        self.step()

    def step(self) -> None:
        """Does what can be done now: until nothing can."""
        while self.decided is None and self._step():
            pass

    def state(self) -> list[Message]:
        """Returns all that a peer may have missed of this epoch, in the order to be sent."""
        messages: list[Message] = []
        me = self._seat.me
        for number, view in sorted(self._views.items()):
            ended = (view.notarised, view.skipped)
            messages.extend(self._message(each) for each in ended if each is not None)
            if view.proposal is not None and self.proposer(number) == me and number >= self.view:
                messages.append(view.proposal)
            votes = [view.closings] if number < self.view else [view.notes, view.closings]
            messages.extend(Said(*each[me]) for each in votes if me in each)
        return messages

    def timeout(self, view: int) -> int:
        """Returns how long a view may take: longer the more there were, up to a bound."""
        limits = self._seat.limits
        return min(limits.view_timeout_ms * (view + 1), limits.view_timeout_max_ms)

    def proposer(self, view: int) -> int:
        """Returns whose turn a view is."""
        return self._turns[view % len(self._turns)]

    # What a store remembers.

    def restore_proposed(self, proposal: Proposal, cut: Cut) -> None:
        """Takes a record back in: this was proposed."""
        signature = self._seat.signer.sign(proposal.digest)
        view = self._views.setdefault(proposal.view, _View())
        view.proposal = Propose(proposal, signature, cut)
        self._cuts[proposal.cut] = cut

    def restore_voted(self, vote: Vote, cut: Cut | None) -> None:
        """Takes a record back in: this vote was cast."""
        view = self._views.setdefault(vote.view, _View())
        votes = view.notes if vote.phase is Phase.NOTARISE else view.closings
        votes[self._seat.me] = vote, self._seat.signer.sign(vote.digest)
        if cut is not None:
            self._cuts[vote.cut] = cut

    def restore_ended(self, certificate: Certificate, cut: Cut | None) -> None:
        """Takes a record back in: this view ended so."""
        vote = certificate.statement
        assert isinstance(vote, Vote), "the codec lets no other pass"
        view = self._views.setdefault(vote.view, _View())
        if cut is None:
            view.skipped = certificate
        else:
            self._cuts[vote.cut] = cut
            view.notarised = certificate

    # How.

    def _step(self) -> bool:
        """Does one thing; says whether it did."""
        number, now = self.view, self._seat.outlet.now
        view = self._views[number]
        for each, other in sorted(self._views.items()):
            if other.notarised is not None and self._seat.me not in other.closings:
                vote = other.notarised.statement
                assert isinstance(vote, Vote), "only votes are counted here"
                self._cast(other, Vote(*self._slot(each), Phase.FINALISE, vote.cut))
                return True
        if view.has_ended:
            self._enter(number + 1)
            return True
        if not self._has_started:
            if now < self._policy.ready_at(now):
                # A peer may be ready before us, and its proposal good.
                return self._vote(number, view)
            self._has_started = True
            self._deadline = now + self.timeout(number)
            return True
        return self._propose(number, view) or self._vote(number, view)

    def _enter(self, number: int) -> None:
        self.view = number
        self._views.setdefault(number, _View())
        self._has_started = True
        self._deadline = self._seat.outlet.now + self.timeout(number)
        # Votes of an earlier start, for which the peers were not yet far enough.
        self._repeat(number)

    def _repeat(self, number: int) -> None:
        """Says again what was said in a view."""
        view, me = self._views[number], self._seat.me
        if view.proposal is not None and self.proposer(number) == me:
            self._seat.outlet.tell(view.proposal)
        for votes in (view.notes, view.closings):
            if me in votes:
                self._seat.outlet.tell(Said(*votes[me]))

    def _propose(self, number: int, view: _View) -> bool:
        seat = self._seat
        if self.proposer(number) != seat.me or view.proposal is not None:
            return False
        parent = self._parent(number)
        if parent is None:
            cut = self._policy.cut(seat.outlet.now)
        else:
            certificate = self._views[parent].notarised
            assert certificate is not None, "it was just found"
            vote = certificate.statement
            assert isinstance(vote, Vote), "only votes are counted here"
            cut = self._cuts[vote.cut]
        if cut is None:
            return False
        committee = seat.committee.id
        proposal = Proposal(committee, self.epoch, number, parent, cut.digest(committee))
        seat.outlet.emit(Persist(Proposed(proposal, cut)))
        view.proposal = Propose(proposal, seat.signer.sign(proposal.digest), cut)
        self._learn(cut)
        seat.outlet.tell(view.proposal)
        return True

    def _parent(self, number: int) -> int | None:
        """Finds the last notarised view before one."""
        for each in range(number - 1, -1, -1):
            if self._views[each].notarised is not None:
                return each
        return None

    def _vote(self, number: int, view: _View) -> bool:
        """Notarises the proposal of the view, if it is good."""
        message = view.proposal
        if message is None or self._seat.me in view.notes:
            return False
        proposal = message.proposal
        first = 0 if proposal.parent is None else proposal.parent + 1
        if any(self._views[each].skipped is None for each in range(first, number)):
            return False
        if proposal.parent is None:
            if not self._policy.is_good(message.cut, number, self._seat.outlet.now):
                return False
        else:
            certificate = self._views[proposal.parent].notarised
            vote = None if certificate is None else certificate.statement
            if not isinstance(vote, Vote) or vote.cut != proposal.cut:
                return False
        self._cast(view, Vote(*self._slot(number), Phase.NOTARISE, proposal.cut))
        return True

    def _slot(self, view: int) -> tuple[bytes, int, int]:
        return self._seat.committee.id, self.epoch, view

    def _cast(self, view: _View, vote: Vote) -> None:
        """Writes a vote down, then says it."""
        seat = self._seat
        cut = None if vote.phase is Phase.SKIP else self._cuts[vote.cut]
        signature = seat.signer.sign(vote.digest)
        seat.outlet.emit(Persist(Voted(vote, cut)))
        seat.outlet.tell(Said(vote, signature))
        votes = view.notes if vote.phase is Phase.NOTARISE else view.closings
        assert seat.me not in votes, "a member votes once"
        votes[seat.me] = vote, signature
        self._tally(view, vote)

    def _learn(self, cut: Cut) -> None:
        """Gets to know a cut; votes for it may have been there before."""
        digest = cut.digest(self._seat.committee.id)
        if digest in self._cuts:
            return
        self._cuts[digest] = cut
        for view in list(self._views.values()):
            votes = [each for each, _ in (*view.notes.values(), *view.closings.values())]
            for vote in votes:
                if vote.cut == digest:
                    self._tally(view, vote)

    def _tally(self, view: _View, vote: Vote) -> None:
        """Makes a certificate when a quorum has voted the same."""
        votes = view.notes if vote.phase is Phase.NOTARISE else view.closings
        if vote.phase is not Phase.SKIP and vote.cut not in self._cuts:
            return
        agreeing = {
            member: signature for member, (each, signature) in votes.items() if each == vote
        }
        if len(agreeing) >= self._seat.committee.quorum:
            self._adopt(view, Certificate.of(vote, agreeing, self._seat.committee))

    def _adopt(self, view: _View, certificate: Certificate) -> None:
        """Takes a certificate as true, and hands it on if it is new."""
        vote = certificate.statement
        assert isinstance(vote, Vote), "only votes are counted here"
        if vote.phase is Phase.FINALISE:
            if self.decided is None:
                self.decided = certificate, self._cuts[vote.cut]
            return
        if vote.phase is Phase.SKIP:
            if view.skipped is not None:
                return
            view.skipped = certificate
        else:
            if view.notarised is not None:
                return
            view.notarised = certificate
        message = self._message(certificate)
        self._seat.outlet.emit(Persist(Ended(message.certificate, message.cut)))
        self._seat.outlet.tell(message)

    def _message(self, certificate: Certificate) -> Notarised:
        vote = certificate.statement
        assert isinstance(vote, Vote), "only votes are counted here"
        cut = None if vote.phase is Phase.SKIP else self._cuts[vote.cut]
        return Notarised(certificate, cut)

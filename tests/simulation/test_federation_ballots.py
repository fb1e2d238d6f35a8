"""One epoch's ballots in every order: no clock, no network, only what chance makes of them.

Each honest member would propose another cut each time it is asked, and finds every cut good; the
faulty ones vote for whatever was ever proposed, with each member differently. Time-outs come
whenever they do the most harm. Two decisions must not come of it, and when all that was said has
arrived, there must be one.
"""

from dataclasses import dataclass, field
from random import Random

import pytest
from federation_rig import LIMITS, committee_of

from radpool_sv2.federation.agreement.mark import Cut, Ending
from radpool_sv2.federation.agreement.simplex import Simplex
from radpool_sv2.federation.broadcast.stream import Seat
from radpool_sv2.federation.effect import FOREVER, Persist, Send
from radpool_sv2.federation.messages import Notarised, Propose, Said
from radpool_sv2.federation.outlet import Outlet
from radpool_sv2.federation.record import Ended, Proposed, Voted
from radpool_sv2.federation.statement import NO_HASH, Phase, Proposal, Vote


class Contrary:
    """Proposes something else each time, and finds everything good."""

    def __init__(self, random):
        self.random = random

    def cut(self, now):
        return Cut(0, (Ending(0, self.random.randrange(1 << 60), bytes(32)),))

    def ready_at(self, now):
        return now

    def is_good(self, cut, view, now):
        return True


@dataclass
class Ballots:
    """A committee in one epoch, with the faulty ones outside."""

    seed: int
    n: int = 4
    machine: type = Simplex
    flying: list = field(default_factory=list)
    cuts: dict = field(default_factory=dict)

    def __post_init__(self):
        self.random = Random(self.seed)
        self.committee, self.signers, self.verifier = committee_of(self.n)
        t = self.committee.faulty_max
        self.faulty = self.random.sample(range(self.n), self.random.randint(0, t))
        self.honest = [each for each in range(self.n) if each not in self.faulty]
        self.records = {each: [] for each in self.honest}
        self.ballots = {each: self.start(each) for each in self.honest}
        for each in self.honest:
            self.ballots[each].step()
            self.collect(each)

    def start(self, me):
        outlet = Outlet()
        outlet.linked = set(range(self.n)) - {me}
        outlet.now = 1
        seat = Seat(self.committee, me, self.signers[me], self.verifier, LIMITS, outlet)
        ballot = self.machine(seat, 0, Contrary(self.random))
        for record in self.records[me]:
            match record:
                case Proposed(proposal, cut):
                    ballot.restore_proposed(proposal, cut)
                case Voted(vote, cut):
                    ballot.restore_voted(vote, cut)
                case Ended(certificate, cut):
                    ballot.restore_ended(certificate, cut)
        return ballot

    def collect(self, me):
        outlet = self.ballots[me]._seat.outlet
        while (effect := outlet.poll()) is not None:
            if isinstance(effect, Persist):
                assert isinstance(effect.record, Proposed | Voted | Ended)
                self.records[me].append(effect.record)
                if effect.record.cut is not None:
                    self.cuts[effect.record.cut.digest(self.committee.id)] = effect.record.cut
            elif isinstance(effect, Send):
                self.flying.append((me, effect.member, effect.message))
        assert not outlet.accusations or {each.offender for each in outlet.accusations} <= set(
            self.faulty
        )

    def deliver(self, sender, to, message):
        if to not in self.ballots:
            return
        ballot = self.ballots[to]
        ballot._seat.outlet.now += 1
        match message:
            case Propose():
                ballot.proposed(sender, message)
            case Said(Vote() as vote, signature):
                ballot.voted(sender, vote, signature)
            case Notarised():
                ballot.certified(message)
        self.collect(to)

    def time_out(self, me):
        ballot = self.ballots[me]
        if FOREVER > ballot.next_deadline():
            ballot._seat.outlet.now = max(ballot._seat.outlet.now, ballot.next_deadline())
            ballot.handle_deadline(ballot._seat.outlet.now)
            self.collect(me)

    def lie(self):
        """Lets a faulty member say something to one honest member."""
        random, me = self.random, self.random.choice(self.faulty)
        to = random.choice(self.honest)
        view = max(0, self.ballots[to].view + random.choice((-1, 0, 0, 0, 1)))
        cut = random.choice(list(self.cuts.values()) or [Cut(0, ())])
        digest = cut.digest(self.committee.id)
        if self.ballots[to].proposer(view) == me and random.random() < 0.5:
            parent = random.choice([None, *range(view)])
            proposal = Proposal(self.committee.id, 0, view, parent, digest)
            message = Propose(proposal, self.signers[me].sign(proposal.digest), cut)
        else:
            phase = random.choice(list(Phase))
            its = NO_HASH if phase is Phase.SKIP else digest
            vote = Vote(self.committee.id, 0, view, phase, its)
            message = Said(vote, self.signers[me].sign(vote.digest))
        self.deliver(me, to, message)

    def crash(self, me):
        self.ballots[me] = self.start(me)
        self.flying = [each for each in self.flying if me not in each[:2]]
        self.ballots[me].step()
        self.collect(me)
        # Links come up again: each tells the other what it may have missed.
        for peer in self.honest:
            if peer != me:
                self.flying += [(me, peer, each) for each in self.ballots[me].state()]
                self.flying += [(peer, me, each) for each in self.ballots[peer].state()]

    def decisions(self):
        return {
            each.decided[1].digest(self.committee.id)
            for each in self.ballots.values()
            if each.decided is not None
        }

    def run(self, steps):
        """Does one thing after the other, whatever chance says."""
        random, seen = self.random, set()
        rush = random.choice((0.02, 0.1, 0.3))
        for _ in range(steps):
            chance = random.random()
            if chance < rush:
                self.time_out(random.choice(self.honest))
            elif self.faulty and chance < rush + 0.25:
                self.lie()
            elif chance < rush + 0.255:
                self.crash(random.choice(self.honest))
            elif self.flying:
                at = random.randrange(len(self.flying))
                self.deliver(*self.flying.pop(at))
            seen |= self.decisions()
            assert len(seen) <= 1, f"seed {self.seed}: two decisions"
        return seen

    def calm(self):
        """Lets everything arrive in order, and time-outs only when nothing else is left."""
        for _ in range(100):
            while self.flying:
                self.deliver(*self.flying.pop(0))
            if all(each.decided for each in self.ballots.values()):
                break
            for each in self.honest:
                self.time_out(each)
            for me in self.honest:
                for peer in self.honest:
                    if peer != me and not self.ballots[me].decided:
                        self.flying += [(peer, me, each) for each in self.ballots[peer].state()]
        return [each.decided is not None for each in self.ballots.values()]


@pytest.mark.parametrize(("n", "seeds", "steps"), [(4, 250, 300), (7, 60, 900)])
def test_no_order_of_events_makes_two_decisions_and_calm_makes_one(n, seeds, steps):
    """spec: FA-9, FA-10, FA-11, FA-12, FA-13"""
    early = 0
    for seed in range(seeds):
        ballots = Ballots(seed, n)
        early += len(ballots.run(steps))
        assert any(ballots.calm()), f"seed {seed}: no decision"
        assert len(ballots.decisions()) == 1
    assert early > seeds // 4


class ForgetsParents(Simplex):
    """Proposes and votes as if no view had been before."""

    def _parent(self, number):
        return None

    def _vote(self, number, view):
        if view.proposal is None or self._seat.me in view.notes:
            return False
        self._cast(view, Vote(*self._slot(number), Phase.NOTARISE, view.proposal.proposal.cut))
        return True


class SkipsAfterFinalising(Simplex):
    """Takes what it has finalised for not said when a view takes long."""

    def handle_deadline(self, now):
        view = self._views[self.view]
        own = view.closings.pop(self._seat.me, None)
        super().handle_deadline(now)
        if own is not None:
            view.closings.setdefault(self._seat.me, own)

    def restore_voted(self, vote, cut):
        if vote.phase is Phase.NOTARISE:
            super().restore_voted(vote, cut)


class ForgetsReasons(Simplex):
    """Keeps its votes through a crash, and not the certificates that they were cast upon."""

    def restore_ended(self, certificate, cut):
        pass


@pytest.mark.parametrize(("machine", "decides"), [(Simplex, True), (ForgetsReasons, False)])
def test_a_crash_must_not_lose_the_reason_of_a_vote(machine, decides):
    """Here a member finalises by a certificate that it alone has, and crashes.

    spec: FA-11
    """
    ballots = Ballots(14331, machine=machine)
    ballots.run(300)
    assert any(ballots.calm()) == decides


@pytest.mark.parametrize(
    ("machine", "what"), [(ForgetsParents, "two decisions"), (SkipsAfterFinalising, "Evidence")]
)
def test_a_machine_that_breaks_a_rule_is_found(machine, what):
    """spec: FA-9, FA-10"""
    with pytest.raises(AssertionError, match=what):
        for seed in range(2_000):
            Ballots(seed, 4, machine).run(300)

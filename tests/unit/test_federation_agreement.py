"""One member's part in the agreement and in checkpoints, told message by message."""

import pytest
from federation_rig import LIMITS, Rig

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.federation.agreement.epoch import EPOCHS_AHEAD_MAX
from radpool_sv2.federation.agreement.mark import Cut, Ending, Mark
from radpool_sv2.federation.agreement.simplex import VIEWS_AHEAD, turns_of
from radpool_sv2.federation.broadcast.entry import START
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.broadcast.sync import answer_epochs
from radpool_sv2.federation.effect import (
    Append,
    AppliedState,
    Apply,
    Blame,
    Certify,
    ChainTip,
    Close,
    Decide,
    Halt,
    LinkDown,
    LinkUp,
    Persist,
    Segment,
    Send,
    Served,
    ServeEpochs,
)
from radpool_sv2.federation.messages import (
    DecidedEpoch,
    Epochs,
    Notarised,
    Propose,
    PullEpochs,
    Ready,
    Said,
    SentEntry,
    Sync,
)
from radpool_sv2.federation.record import (
    Applied,
    Checkpointed,
    Decided,
    Ended,
    Proposed,
    Started,
    Voted,
)
from radpool_sv2.federation.state.snapshot import Snapshot
from radpool_sv2.federation.statement import NO_HASH, Phase, Proposal, StateRoot, Vote
from radpool_sv2.testing.fold import Fold

NOTARISE, SKIP, FINALISE = Phase.NOTARISE, Phase.SKIP, Phase.FINALISE


class Table(Rig):
    """A member whose committee has come to the end of epoch 0, with words of the others."""

    def __post_init__(self):
        super().__post_init__()
        self.turns = turns_of(self.committee, 0)
        self.positions = [START] * self.n

    def end(self, epoch=0, members=None):
        """Lets others' marks of an epoch be certified; the own chain is there."""
        self.give(ChainTip(self.committee.height_of(epoch), bytes(32)))
        for member in self.others if members is None else members:
            self.end_of(member, epoch)

    def end_of(self, member, epoch):
        mark = self.mark(member, epoch, self.positions[member])
        self.positions[member] = self.positions[member].after(mark)
        self.deliver(mark)

    def own_end(self):
        """Lets the own stream be certified."""
        own = self.member.broadcast.own
        for entry in own.echoed_entries():
            self.certify(entry)

    def cut(self, members, epoch=0):
        known = self.member.epochs._marks
        return Cut(epoch, tuple(known[each][epoch][0] for each in sorted(members)))

    def propose(self, cut, view=0, parent=None, by=None):
        by = self.turns[view % self.n] if by is None else by
        proposal = Proposal(self.committee.id, cut.epoch, view, parent, self.digest(cut))
        message = Propose(proposal, self.signers[by].sign(proposal.digest), cut)
        self.receive(by, message)

    def digest(self, cut):
        return cut.digest(self.committee.id)

    def vote(self, view, phase, cut=None, epoch=0):
        digest = NO_HASH if cut is None else self.digest(cut)
        return Vote(self.committee.id, epoch, view, phase, digest)

    def hear(self, vote, members=None):
        for member in self.others if members is None else members:
            self.receive(member, self.said(member, vote))

    def votes(self):
        said = [message.statement for _, message in self.take(Said)]
        return list(dict.fromkeys(each for each in said if isinstance(each, Vote)))

    def decide(self, cut, view=0):
        message = Notarised(self.certificate(self.vote(view, FINALISE, cut, cut.epoch)), cut)
        self.receive(self.others[0], message)


def listener(**more):
    """A member who does not propose in the first view."""
    first = turns_of(Rig(linked=False).committee, 0)
    return Table(me=first[2], **more)


def proposer(**more):
    return Table(me=turns_of(Rig(linked=False).committee, 0)[0], **more)


def closed(rig):
    return [each.member for each in rig.take(Close)]


# Marks.


def test_marks_are_appended_for_every_epoch_that_is_not_decided():
    """spec: FA-1, FA-2"""
    rig = Rig()
    for height in range(1, 4):
        rig.give(ChainTip(height, bytes([height]) * 32))
        rig.give(ChainTip(height, bytes([height]) * 32))
    marks = [Mark.decode(m.entry.payload) for peer, m in rig.take(SentEntry) if peer == 1]
    assert marks == [Mark(each, each + 1, bytes([each + 1]) * 32) for each in range(3)]
    again = rig.again()
    assert again.member.epochs.next_height == 4
    again.give(ChainTip(4, bytes(32)))
    assert again.member.broadcast.own.tip().marks == 4
    assert again.member.broadcast.own.tip().count == 4


def test_marks_after_a_long_absence_are_appended_as_there_is_room():
    """spec: FA-2"""
    rig = Rig()
    for height in range(1, 60):
        rig.give(ChainTip(height, bytes(32)))
    own = rig.member.broadcast.own
    while own.certified.count < own.tip().count:
        rig.certify(own.echoed_entries()[0])
    assert own.certified.marks == own.certified.count == 59


def test_a_mark_waits_until_the_own_chain_is_there():
    """spec: FB-13, FA-3"""
    rig = Rig()
    mark, behind = rig.mark(1, 0), None
    behind = rig.entry(1, START.after(mark))
    rig.offer(mark)
    rig.offer(behind)
    assert rig.take(Said) == []
    rig.give(ChainTip(1, bytes(32)))
    said = [message.statement for peer, message in rig.take(Said) if peer == 2]
    assert rig.echo(mark) in said
    assert rig.echo(behind) in said


@pytest.mark.parametrize("over", [0, 1])
def test_marks_wait_that_are_far_ahead_of_decisions(over):
    """spec: FA-3"""
    rig = Rig()
    rig.give(ChainTip(9_000, bytes(32)))
    mark = rig.mark(1, EPOCHS_AHEAD_MAX - 1 + over)
    rig.offer(mark)
    assert closed(rig) == []
    assert bool(rig.take(Said)) != over


@pytest.mark.parametrize(
    "wrong", [{"height": 2}, {"epoch": 1, "height": 1}, {"height": 0}, {"payload": b"none"}]
)
def test_marks_that_are_none_are_never_echoed(wrong):
    """spec: FA-3"""
    rig = Rig()
    rig.give(ChainTip(9, bytes(32)))
    rig.effects.clear()
    if "payload" in wrong:
        rig.offer(rig.entry(1, payload=wrong["payload"], kind=Kind.EPOCH_MARK))
    else:
        rig.offer(rig.mark(1, 0, **wrong))
    assert closed(rig) == [1]
    assert rig.take(Said) == []


@pytest.mark.parametrize(("second", "is_good"), [(0, False), (1, True), (2, True)])
def test_marks_are_of_rising_epochs(second, is_good):
    """spec: FA-3"""
    rig = Rig()
    rig.give(ChainTip(9, bytes(32)))
    first = rig.mark(1, 0)
    rig.offer(first)
    rig.effects.clear()
    rig.offer(rig.mark(1, second, START.after(first)))
    assert closed(rig) == ([] if is_good else [1])


# When a cut is proposed, and which is good.


def test_the_first_proposer_waits_for_all_or_for_the_grace():
    """spec: FA-8"""
    rig = proposer()
    rig.end(members=rig.others[:1])
    rig.own_end()
    rig.wait(10 * LIMITS.grace_ms)
    assert rig.take(Propose) == []
    rig.end_of(rig.others[1], 0)
    rig.wait(LIMITS.grace_ms - 1)
    assert rig.take(Propose) == []
    rig.wait(1)
    proposals = rig.take(Propose)
    assert {member for member, _ in proposals} == set(rig.others)
    assert proposals[0][1].cut.members == {rig.me, *rig.others[:2]}
    assert proposals[0][1].proposal.parent is None


def test_with_all_marks_it_proposes_at_once_and_writes_it_down_before():
    """spec: FA-6, FA-10"""
    rig = proposer()
    rig.end()
    rig.effects.clear()
    rig.own_end()
    [proposed] = {message for _, message in rig.take(Propose)}
    assert len(proposed.cut.members) == 4
    order = [type(each.record) for each in rig.take(Persist)]
    assert order[-2:] == [Proposed, Voted]
    assert rig.votes() == [rig.vote(0, NOTARISE, proposed.cut)]
    # After a crash it says the same again and nothing else, though it knows less.
    again = rig.again()
    again.wait(10 * LIMITS.view_timeout_ms)
    assert {message for _, message in again.take(Propose)} <= {proposed}
    peer = again.others[0]
    again.give(LinkDown(peer))
    again.give(LinkUp(peer))
    again.receive(peer, Sync((), 0, 0, None))
    assert proposed in [message for _, message in again.take(Propose)]


def test_a_good_cut_is_notarised_once():
    """spec: FA-8, FA-10"""
    rig = listener()
    rig.end()
    rig.effects.clear()
    rig.propose(rig.cut(rig.others))
    [written] = [each.record for each in rig.take(Persist)]
    assert written == Voted(rig.vote(0, NOTARISE, rig.cut(rig.others)), rig.cut(rig.others))
    assert rig.votes() == [written.vote]
    # Another of the same proposer is evidence, and not voted for; nor after a crash.
    rig.own_end()
    rig.propose(rig.cut(range(4)))
    assert [each.member for each in rig.take(Blame)] == [rig.turns[0]]
    again = listener(records=rig.records)
    again.propose(again.cut(range(4)))
    assert again.votes() == []


def test_only_the_proposer_of_a_view_proposes():
    """spec: FA-6"""
    rig = listener()
    rig.end()
    rig.propose(rig.cut(rig.others), by=rig.turns[1])
    assert closed(rig) == [rig.turns[1]]
    assert rig.votes() == []
    assert sorted(rig.turns) == list(range(4))
    assert [turns_of(rig.committee, each) for each in range(9)] != [rig.turns] * 9


def test_a_cut_is_good_with_enough_marks_that_are_certified_here():
    """spec: FA-8"""
    rig = listener()
    one, two, three = rig.others
    rig.end(members=[one, two])
    rig.propose(Cut(0, rig.cut([one, two]).endings))
    assert rig.votes() == []
    rig = listener()
    rig.end(members=[one, two])
    later = rig.mark(three, 0)
    ending = Ending(three, 0, later.header.digest)
    endings = sorted([*rig.cut([one, two]).endings, ending], key=lambda each: each.member)
    rig.propose(Cut(0, tuple(endings)))
    assert rig.votes() == []
    rig.deliver(later)
    assert rig.votes()[0] == rig.vote(0, NOTARISE, Cut(0, tuple(endings)))


def test_a_cut_with_an_ending_that_is_another_here_is_not_good():
    """spec: FA-8"""
    rig = listener()
    rig.end()
    cut = rig.cut(rig.others)
    wrong = Ending(cut.endings[0].member, cut.endings[0].seq, bytes(32))
    rig.propose(Cut(0, (wrong, *cut.endings[1:])))
    assert rig.votes() == []
    rig.propose(Cut(1, cut.endings), view=0)
    assert rig.votes() == []


@pytest.mark.parametrize("over", [0, 1])
def test_nobody_is_left_out_whose_mark_is_known_for_longer_than_the_grace(over):
    """spec: FA-8"""
    rig = listener()
    rig.end()
    rig.own_end()
    rig.now += LIMITS.grace_ms + over
    rig.propose(rig.cut(rig.others))
    assert rig.votes() == ([] if over else [rig.vote(0, NOTARISE, rig.cut(rig.others))])


def test_behind_the_first_views_somebody_may_be_left_out():
    """spec: FA-8"""
    rig = Table(me=turns_of(Rig(linked=False).committee, 0)[3])
    rig.end()
    rig.own_end()
    rig.now += 2 * LIMITS.grace_ms
    cut = rig.cut(rig.others)
    for view in (0, 1, 2):
        rig.votes()
        rig.propose(cut, view=view)
        good = rig.vote(view, NOTARISE, cut)
        assert (good in rig.votes()) == (view > 1)
        rig.receive(rig.others[0], Notarised(rig.certificate(rig.vote(view, SKIP)), None))


# Views.


def test_a_notarised_cut_is_finalised_and_a_quorum_decides():
    """spec: FA-7, FA-11, FA-12"""
    rig = listener()
    rig.end()
    cut = rig.cut(rig.others)
    rig.propose(cut)
    rig.votes()
    rig.hear(rig.vote(0, NOTARISE, cut), rig.others[:1])
    assert rig.votes() == []
    rig.hear(rig.vote(0, NOTARISE, cut), rig.others[1:2])
    assert rig.votes() == [rig.vote(0, FINALISE, cut)]
    [notarised] = {message for _, message in rig.take(Notarised)}
    notarised.certificate.verify(rig.committee, rig.verifier)
    rig.hear(rig.vote(0, FINALISE, cut), rig.others[:1])
    assert rig.take(Decide) == []
    rig.hear(rig.vote(0, FINALISE, cut), rig.others[1:2])
    [decided] = rig.take(Decide)
    assert decided.cut == cut
    decided.certificate.verify(rig.committee, rig.verifier)
    assert any(isinstance(each.record, Decided) for each in rig.take(Persist))
    assert rig.take(Ready)[0][1].decided == 1


def test_a_certificate_is_written_down_before_what_is_voted_because_of_it():
    """spec: FA-11"""
    rig = listener()
    rig.end()
    cut = rig.cut(rig.others)
    rig.effects.clear()
    note, skip = rig.certificate(rig.vote(0, NOTARISE, cut)), rig.certificate(rig.vote(0, SKIP))
    rig.receive(rig.others[0], Notarised(note, cut))
    rig.receive(rig.others[0], Notarised(skip, None))
    records = [each.record for each in rig.take(Persist)]
    final = Voted(rig.vote(0, FINALISE, cut), cut)
    assert records == [Ended(note, cut), final, Ended(skip, None)]
    again = listener(records=rig.records)
    assert again.member.epochs.ballot.view == 1
    told = again.member.epochs.ballot.state()
    assert told[:2] == [Notarised(note, cut), Notarised(skip, None)]


def test_who_skips_a_view_does_not_finalise_in_it():
    """spec: FA-10, FA-12, FA-13"""
    rig = listener()
    rig.end()
    rig.own_end()
    rig.votes()
    rig.wait(LIMITS.view_timeout_ms - 1)
    assert rig.votes() == []
    rig.wait(1)
    assert rig.votes() == [rig.vote(0, SKIP)]
    cut = rig.cut(range(4))
    rig.receive(rig.others[0], Notarised(rig.certificate(rig.vote(0, NOTARISE, cut)), cut))
    assert rig.vote(0, FINALISE, cut) not in rig.votes()
    again = listener(records=rig.records)
    again.receive(again.others[0], Notarised(again.certificate(again.vote(0, NOTARISE, cut)), cut))
    assert again.vote(0, FINALISE, cut) not in again.votes()


def test_who_finalises_in_a_view_does_not_skip_it():
    """spec: FA-10"""
    rig = listener()
    rig.end()
    cut = rig.cut(rig.others)
    rig.receive(rig.others[0], Notarised(rig.certificate(rig.vote(0, NOTARISE, cut)), cut))
    assert rig.votes() == [rig.vote(0, FINALISE, cut)]
    again = listener(records=rig.records)
    again.wait(100 * LIMITS.view_timeout_ms)
    assert again.vote(0, SKIP) not in again.votes()


def test_views_end_by_quorums_and_not_by_clocks():
    """spec: FA-11, FA-13"""
    rig = listener()
    rig.end()
    rig.own_end()
    rig.wait(1_000_000)
    assert set(rig.votes()) == {rig.vote(0, SKIP)}
    ballot = rig.member.epochs.ballot
    assert ballot.view == 0
    rig.hear(rig.vote(0, SKIP), rig.others[:1])
    assert ballot.view == 0
    rig.hear(rig.vote(0, SKIP), rig.others[1:2])
    assert ballot.view == 1
    [message] = {message for _, message in rig.take(Notarised)}
    assert message.cut is None
    assert [ballot.timeout(each) for each in (0, 1, 3, 4, 99)] == [
        1_000,
        2_000,
        4_000,
        4_000,
        4_000,
    ]


def test_a_cut_that_may_have_been_decided_is_proposed_again():
    """spec: FA-9"""
    me = turns_of(Rig(linked=False).committee, 0)[1]
    rig = Table(me=me)
    rig.end()
    rig.own_end()
    cut = rig.cut(rig.others)
    rig.receive(rig.others[0], Notarised(rig.certificate(rig.vote(0, NOTARISE, cut)), cut))
    [message] = {message for _, message in rig.take(Propose)}
    assert message.proposal == Proposal(rig.committee.id, 0, 1, 0, rig.digest(cut))


def test_a_proposal_without_the_parent_that_it_must_have_is_not_voted_for():
    """spec: FA-9"""
    me = turns_of(Rig(linked=False).committee, 0)[3]
    rig = Table(me=me)
    rig.end()
    rig.own_end()
    cut, other = rig.cut(rig.others), rig.cut(range(4))
    rig.receive(rig.others[0], Notarised(rig.certificate(rig.vote(0, NOTARISE, cut)), cut))
    rig.votes()
    rig.propose(other, view=1)
    assert rig.votes() == []
    rig = Table(me=me)
    rig.end()
    rig.own_end()
    rig.receive(rig.others[0], Notarised(rig.certificate(rig.vote(0, NOTARISE, cut)), cut))
    rig.propose(other, view=1, parent=0)
    assert rig.vote(1, NOTARISE, other) not in rig.votes()
    # Skipped by a quorum too, the view before leaves the choice.
    rig = Table(me=me)
    rig.end()
    rig.own_end()
    for vote, its in ((rig.vote(0, NOTARISE, cut), cut), (rig.vote(0, SKIP), None)):
        rig.receive(rig.others[0], Notarised(rig.certificate(vote), its))
    rig.propose(other, view=1)
    assert rig.vote(1, NOTARISE, other) in rig.votes()


def test_a_parent_is_good_only_if_all_views_behind_it_were_skipped():
    """spec: FA-9"""
    me = turns_of(Rig(linked=False).committee, 0)[3]
    for second, is_good in ((SKIP, True), (NOTARISE, False)):
        rig = Table(me=me)
        rig.end()
        rig.own_end()
        cut, other = rig.cut(rig.others), rig.cut(range(4))
        rig.receive(rig.others[0], Notarised(rig.certificate(rig.vote(0, NOTARISE, cut)), cut))
        its = None if second is SKIP else other
        rig.receive(rig.others[0], Notarised(rig.certificate(rig.vote(1, second, its)), its))
        rig.propose(cut, view=2, parent=0)
        assert (rig.vote(2, NOTARISE, cut) in rig.votes()) == is_good


def test_two_votes_of_one_slot_are_evidence_and_the_first_counts():
    """spec: FA-10"""
    rig = listener()
    rig.end()
    liar, other = rig.others[:2]
    cut = rig.cut(rig.others)
    for first, second in (
        (rig.vote(0, NOTARISE, cut), Vote(rig.committee.id, 0, 0, NOTARISE, b"\1" * 32)),
    ):
        rig.hear(first, [liar])
        rig.hear(second, [liar])
        [blame] = rig.take(Blame)
        blame.evidence.verify(rig.committee, rig.verifier)
        assert blame.member == liar
    rig.hear(rig.vote(0, SKIP), [other])
    rig.hear(rig.vote(0, FINALISE, cut), [other])
    assert [each.member for each in rig.take(Blame)] == [other]


def test_votes_are_their_authors_alone_and_of_this_committee():
    """spec: FA-7"""
    rig = listener()
    rig.end()
    one, two = rig.others[:2]
    rig.receive(one, rig.said(two, rig.vote(0, SKIP)))
    foreign = Vote(bytes(32), 0, 0, SKIP, NO_HASH)
    rig.receive(two, rig.said(two, foreign))
    assert closed(rig) == [one, two]
    cut = rig.cut(rig.others)
    short = Notarised(rig.certificate(rig.vote(0, SKIP), [0, 1]), None)
    rig.receive(one, short)
    other = Notarised(rig.certificate(rig.vote(0, NOTARISE, cut)), Cut(0, cut.endings[1:]))
    rig.receive(two, other)
    assert closed(rig) == [one, two]
    assert rig.member.epochs.ballot.view == 0


def test_votes_far_ahead_are_not_kept_and_certificates_are():
    """spec: FA-11"""
    rig = listener()
    rig.end()
    views = rig.member.epochs.ballot._views
    rig.hear(rig.vote(VIEWS_AHEAD - 1, SKIP))
    rig.hear(rig.vote(VIEWS_AHEAD, SKIP))
    rig.propose(rig.cut(rig.others), view=VIEWS_AHEAD)
    assert max(views) == VIEWS_AHEAD - 1
    rig.receive(rig.others[0], Notarised(rig.certificate(rig.vote(40, SKIP)), None))
    assert max(views) == 40
    assert rig.member.epochs.ballot.view == 0


def test_a_peer_that_has_come_as_far_is_told_what_was_said():
    """spec: FA-14"""
    rig = listener()
    rig.end()
    cut = rig.cut(rig.others)
    rig.propose(cut)
    peer = rig.others[0]
    rig.receive(peer, Notarised(rig.certificate(rig.vote(0, NOTARISE, cut)), cut))
    rig.give(LinkDown(peer))
    rig.effects.clear()
    rig.give(LinkUp(peer))
    rig.receive(peer, Sync((), 0, 0, None))
    told = [each.message for each in rig.take(Send)]
    assert Notarised(rig.certificate(rig.vote(0, NOTARISE, cut)), cut) in told
    assert rig.said(rig.me, rig.vote(0, FINALISE, cut)) in told
    # One that has decided another number is not told; it is when it has come as far.
    rig.give(LinkDown(peer))
    rig.give(LinkUp(peer))
    rig.effects.clear()
    rig.receive(peer, Sync((), 3, 0, None))
    assert [each for each in rig.take(Send) if isinstance(each.message, Notarised)] == []


# Decided epochs, states and checkpoints.


def test_segments_follow_each_other_and_who_is_late_loses_nothing():
    """spec: FA-5"""
    rig = listener()
    one, two, three = rig.others
    rig.end(members=[one, two])
    rig.give(Append(Kind.SHARE_BATCH, b"x"))
    rig.own_end()
    early = rig.entry(three, payload=b"before any mark")
    rig.positions[three] = rig.positions[three].after(early)
    rig.deliver(early)
    cut = rig.cut([rig.me, one, two])
    rig.decide(cut)
    [apply] = rig.take(Apply)
    assert apply.segments == tuple(Segment(each, 0, 1) for each in sorted(cut.members))
    rig.give(AppliedState(0, bytes(32)))
    rig.end_of(three, 0)
    rig.end(1)
    rig.own_end()
    rig.decide(rig.cut(range(4), 1))
    [apply] = rig.take(Apply)
    segments = {each.member: (each.first, each.end) for each in apply.segments}
    assert segments == {one: (1, 2), two: (1, 2), three: (0, 3), rig.me: (1, 3)}


def test_an_epoch_is_applied_once_all_of_it_is_here():
    """spec: FA-15"""
    rig = listener()
    rig.end(members=rig.others[:2])
    late = rig.mark(rig.others[2], 0)
    endings = [*rig.cut(rig.others[:2]).endings, Ending(rig.others[2], 0, late.header.digest)]
    rig.decide(Cut(0, tuple(sorted(endings, key=lambda each: each.member))))
    assert rig.take(Decide)
    assert rig.take(Apply) == []
    rig.deliver(late)
    [apply] = rig.take(Apply)
    assert len(apply.segments) == 3
    # A crash before the answer makes it ask again.
    assert listener(records=rig.records, linked=False).take(Apply) == [apply]


def test_a_decided_ending_that_is_no_mark_here_stops_a_member():
    """spec: FA-5"""
    rig = listener()
    rig.end()
    cut = rig.cut(rig.others)
    wrong = Ending(cut.endings[0].member, 0, bytes(32))
    rig.decide(Cut(0, (wrong, *cut.endings[1:])))
    assert "not a mark of it here" in rig.take(Halt)[0].reason


def test_an_epoch_that_ends_before_an_earlier_one_stops_a_member():
    """spec: FA-5"""
    rig = listener()
    rig.end()
    cut = rig.cut(rig.others)
    rig.decide(cut)
    rig.decide(Cut(1, cut.endings))
    assert "before an earlier one" in rig.take(Halt)[0].reason


def test_a_root_is_signed_once_it_is_written_down_and_a_quorum_certifies_it():
    """spec: FA-15, FA-16, FA-18"""
    rig = listener()
    rig.end()
    rig.decide(rig.cut(rig.others))
    rig.effects.clear()
    root = Fold().root(b"state")
    rig.give(AppliedState(0, root))
    start = rig.member.epochs.start()
    assert [ending.member for _, ending in start.endings] == sorted(rig.others)
    signed = start.root(root)
    assert rig.take(Persist)[0].record == Applied(0, signed)
    assert rig.member.start() is None
    statement = StateRoot(rig.committee.id, 0, signed)
    assert {message for _, message in rig.take(Said)} == {rig.said(rig.me, statement)}
    rig.hear(statement, rig.others[:1])
    assert rig.take(Certify) == []
    rig.hear(statement, rig.others[1:2])
    [certify] = rig.take(Certify)
    certify.certificate.verify(rig.committee, rig.verifier)
    assert rig.take(Persist)[0].record == Checkpointed(certify.certificate)
    assert rig.take(Ready)[-1][1].certified == 1
    assert rig.member.start() == start
    snapshot = Snapshot(start, root, certify.certificate)
    assert Snapshot.decode(snapshot.encode(), rig.committee) == snapshot
    snapshot.verify(rig.committee, rig.verifier)
    (epoch, first), *rest = start.endings
    moved = Started(1, ((epoch, Ending(first.member, first.seq + 1, first.digest)), *rest))
    later = Started(2, start.endings)
    root_of_later = StateRoot(rig.committee.id, 1, later.root(root))
    for bad in (
        Snapshot(moved, root, certify.certificate),
        Snapshot(start, bytes(32), certify.certificate),
        Snapshot(later, root, certify.certificate),
        Snapshot(later, root, rig.certificate(root_of_later, [0, 1])),
        Snapshot(start, root, rig.certificate(rig.vote(0, SKIP))),
    ):
        with pytest.raises(RemoteProtocolError):
            bad.verify(rig.committee, rig.verifier)


def test_a_member_whose_root_is_another_stops():
    """spec: FA-16"""
    for is_late in (False, True):
        rig = listener()
        rig.end()
        rig.decide(rig.cut(rig.others))
        if not is_late:
            rig.give(AppliedState(0, b"\1" * 32))
        rig.effects.clear()
        rig.hear(StateRoot(rig.committee.id, 0, b"\2" * 32))
        if is_late:
            assert rig.take(Certify)
            rig.effects.clear()
            rig.give(AppliedState(0, b"\1" * 32))
        assert "not the one that a quorum certified" in rig.take(Halt)[0].reason
        assert rig.effects == []


def test_two_roots_of_one_epoch_are_evidence():
    """spec: FA-15"""
    rig = listener()
    liar = rig.others[0]
    for root in (b"\1" * 32, b"\2" * 32):
        rig.hear(StateRoot(rig.committee.id, 0, root), [liar])
    [blame] = rig.take(Blame)
    assert blame.member == liar
    blame.evidence.verify(rig.committee, rig.verifier)
    rig.hear(StateRoot(rig.committee.id, 0, b"\1" * 32), [rig.others[1]])
    rig.receive(liar, rig.said(rig.others[1], StateRoot(rig.committee.id, 1, bytes(32))))
    assert closed(rig) == [liar]


def test_decided_epochs_are_taken_with_their_certificates():
    """spec: FA-17"""
    rig = listener()
    rig.end()
    peer, cut = rig.others[0], rig.cut(rig.others)
    root = StateRoot(rig.committee.id, 0, bytes(32))
    good = DecidedEpoch(rig.certificate(rig.vote(0, FINALISE, cut)), cut, rig.certificate(root))
    rig.receive(peer, Ready((), 1, 1))
    rig.wait(LIMITS.pull_delay_ms)
    assert set(rig.take(PullEpochs)) == {(peer, PullEpochs(0))}
    short = rig.certificate(rig.vote(0, FINALISE, cut), [0, 1])
    for bad in (
        DecidedEpoch(short, cut, None),
        DecidedEpoch(good.decision, Cut(0, cut.endings[1:]), None),
        DecidedEpoch(rig.certificate(Vote(bytes(32), 0, 0, FINALISE, rig.digest(cut))), cut, None),
    ):
        rig.receive(peer, Epochs((bad,)))
        assert closed(rig) == [peer]
    assert rig.member.epochs.decided == 0
    rig.receive(peer, Epochs((good,)))
    assert rig.take(Decide)[0].cut == cut
    assert rig.take(Certify)[0].certificate == good.checkpoint
    rig.receive(peer, Epochs((good,)))
    assert (closed(rig), rig.take(Decide)) == ([], [])


def test_epochs_are_served_one_question_at_a_time():
    """spec: FA-17"""
    rig = listener()
    peer = rig.others[0]
    rig.receive(peer, PullEpochs(0))
    assert rig.take(ServeEpochs) == []
    rig.end()
    cut = rig.cut(rig.others)
    rig.decide(cut)
    for _ in range(3):
        rig.receive(peer, PullEpochs(0))
    assert rig.take(ServeEpochs) == [ServeEpochs(peer, 0)]
    rig.give(Served(peer, -1))
    rig.receive(peer, PullEpochs(0))
    rig.receive(rig.others[1], PullEpochs(1))
    assert rig.take(ServeEpochs) == [ServeEpochs(peer, 0)]

    class Log:
        def epoch(self, epoch):
            if epoch >= 20:
                return None
            its = Cut(epoch, cut.endings)
            vote = rig.vote(0, FINALISE, its, epoch)
            return DecidedEpoch(rig.certificate(vote), its, None)

        def first_epoch(self):
            return 0

    assert len(answer_epochs(Log(), 0).epochs) == 16
    assert len(answer_epochs(Log(), 10).epochs) == 10
    assert answer_epochs(Log(), 20) is None


def test_states_are_the_same_for_the_same_segments_and_for_no_others():
    rig = Rig(linked=False)
    one, two = rig.entries(1, 2), rig.entries(2, 2)
    fold = Fold()
    states = {
        fold.root(fold.apply(before, epoch, segments))
        for before, epoch, segments in (
            (b"", 0, [one, two]),
            (b"x", 0, [one, two]),
            (b"", 1, [one, two]),
            (b"", 0, [two, one]),
            (b"", 0, [one]),
            (b"", 0, [one[:1], two]),
        )
    }
    assert len(states) == 6
    assert fold.apply(b"", 0, iter([iter(one)])) == fold.apply(b"", 0, [one])


def test_a_certificate_of_another_kind_does_not_decide():
    """spec: FA-12"""
    rig = listener()
    rig.end()
    cut = rig.cut(rig.others)
    with pytest.raises(RemoteProtocolError):
        rig.certificate(rig.vote(0, FINALISE, cut), [1, 2]).verify(rig.committee, rig.verifier)
    rig.receive(rig.others[0], Notarised(rig.certificate(rig.vote(0, NOTARISE, cut)), cut))
    assert rig.take(Decide) == []

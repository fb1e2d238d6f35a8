"""One member's part in the broadcast, told message by message."""

import pytest
from federation_rig import LIMITS, Rig

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.federation.broadcast.entry import START, Entry
from radpool_sv2.federation.broadcast.payload import ENTRY_OVERHEAD, Kind
from radpool_sv2.federation.broadcast.sync import answer
from radpool_sv2.federation.committee import Committee
from radpool_sv2.federation.effect import (
    Append,
    Blame,
    ChainTip,
    Close,
    Deliver,
    Halt,
    Limits,
    LinkDown,
    LinkUp,
    Persist,
    Send,
    Serve,
    Served,
)
from radpool_sv2.federation.messages import (
    Entries,
    Head,
    Pull,
    Ready,
    Said,
    SentEntry,
    Sync,
    encode_message,
)
from radpool_sv2.federation.record import Echoed, Grown
from radpool_sv2.federation.statement import Echo
from radpool_sv2.testing.store import Store


def echoes(rig):
    """Returns what the member has echoed of others, once per entry."""
    said = [message.statement for _, message in rig.take(Said)]
    return list(
        dict.fromkeys(each for each in said if isinstance(each, Echo) and each.sender != rig.me)
    )


def delivered(rig):
    return [each.entry for each in rig.take(Deliver)]


def closed(rig):
    return [each.member for each in rig.take(Close)]


def test_an_entry_is_echoed_to_all_once_it_is_written_down():
    """spec: FB-6, FB-9, FB-14"""
    rig = Rig()
    entry = rig.entry(1)
    rig.offer(entry)
    [written, *sent] = rig.effects
    assert written == Persist(Echoed(entry))
    assert [each.member for each in sent] == rig.others
    assert all(each.message == rig.said(0, rig.echo(entry)) for each in sent)
    rig.effects.clear()
    rig.offer(entry)
    assert rig.effects == []


@pytest.mark.parametrize("n", [1, 2, 4, 7, 10, 13])
def test_a_quorum_of_echoes_delivers_and_one_less_does_not(n):
    """spec: FB-2, FB-15, FB-16"""
    rig = Rig(n=n)
    if n == 1:
        rig.give(Append(Kind.SHARE_BATCH, b"x"))
        assert len(delivered(rig)) == 1
        return
    entry = rig.entry(1)
    rig.offer(entry)
    quorum = rig.committee.quorum
    for count, member in enumerate(rig.others, 2):
        assert delivered(rig) == []
        rig.receive(member, rig.said(member, rig.echo(entry)))
        if count == quorum:
            break
    grown = rig.take(Persist)[-1].record
    assert isinstance(grown, Grown)
    grown.certificate.verify(rig.committee, rig.verifier)
    assert delivered(rig) == [entry]


def test_echoes_that_come_before_the_entry_count():
    """spec: FB-16"""
    rig = Rig()
    entry = rig.entry(1)
    rig.certify(entry, [1, 2, 3])
    assert delivered(rig) == []
    rig.offer(entry)
    assert delivered(rig) == [entry]
    # It needs no echo of its own any more: a quorum has certified the entry.
    assert len(echoes(rig)) <= 1


def test_one_member_counts_once():
    """spec: FB-15"""
    rig = Rig()
    entry = rig.entry(1)
    rig.offer(entry)
    rig.certify(entry, [2, 2, 2])
    assert delivered(rig) == []
    rig.certify(entry, [3])
    assert delivered(rig) == [entry]


def test_entries_come_over_their_senders_link_alone():
    """spec: FB-9, FB-19"""
    rig = Rig()
    rig.receive(2, SentEntry(rig.entry(1)))
    assert closed(rig) == [2]
    own = rig.entry(1)
    for signature in (rig.signers[2].sign(own.header.digest), bytes(64)):
        rig.offer(Entry(own.header, signature, own.payload))
        assert closed(rig) == [1]
    assert echoes(rig) == []
    rig.offer(own)
    assert echoes(rig) == [rig.echo(own)]


def test_echoes_are_their_authors_alone():
    """spec: FB-9, FB-19"""
    rig = Rig()
    entry = rig.entry(1)
    rig.offer(entry)
    rig.receive(2, rig.said(3, rig.echo(entry)))
    assert closed(rig) == [2]
    foreign = Echo(Committee(bytes(32), 9, rig.committee.members).id, 1, 0, bytes(32), bytes(32))
    rig.receive(3, rig.said(3, foreign))
    assert closed(rig) == [3]
    rig.receive(3, rig.said(3, Echo(rig.committee.id, 4, 0, bytes(32), bytes(32))))
    assert closed(rig) == [3]
    assert delivered(rig) == []


def test_two_entries_of_one_number_are_evidence_and_only_the_first_is_echoed():
    """spec: FB-6, FB-10, FB-23"""
    rig = Rig()
    first, second = rig.entry(1, payload=b"one"), rig.entry(1, payload=b"two")
    rig.offer(first)
    rig.offer(second)
    assert echoes(rig) == [rig.echo(first)]
    [blame] = rig.take(Blame)
    blame.evidence.verify(rig.committee, rig.verifier)
    assert blame.member == 1
    # The own stream carries it, once.
    rig.offer(rig.entry(1, payload=b"three"))
    assert rig.take(Blame) == []
    own = [m.entry for _, m in rig.take(SentEntry)]
    assert {each.header.kind for each in own} == {Kind.EVIDENCE}
    assert {each.payload for each in own} == {blame.evidence.encode()}


def test_an_entry_that_is_delivered_and_signed_twice_is_evidence_too():
    """spec: FB-23"""
    rig = Rig()
    rig.deliver(rig.entry(1, payload=b"one"))
    rig.offer(rig.entry(1, payload=b"two"))
    assert [each.member for each in rig.take(Blame)] == [1]


def test_two_echoes_of_one_number_are_evidence_and_the_first_counts():
    """spec: FB-23"""
    rig = Rig()
    first, second = rig.entry(1, payload=b"one"), rig.entry(1, payload=b"two")
    rig.offer(first)
    rig.certify(second, [2])
    rig.certify(first, [2])
    [blame] = rig.take(Blame)
    assert blame.member == 2
    blame.evidence.verify(rig.committee, rig.verifier)
    rig.certify(first, [1])
    assert delivered(rig) == []


def test_a_crash_does_not_make_it_echo_another():
    """spec: FB-6, FB-14"""
    rig = Rig()
    first, second = rig.entry(1, payload=b"one"), rig.entry(1, payload=b"two")
    rig.offer(first)
    again = rig.again()
    again.offer(second)
    assert echoes(again) == []
    assert [each.member for each in again.take(Blame)] == [1]
    # It says the first again to whoever may have missed it.
    again.give(LinkDown(2))
    again.give(LinkUp(2))
    assert rig.said(0, rig.echo(first)) in [message for _, message in again.take(Said)]


def test_entries_are_echoed_on_top_of_what_is_known():
    """spec: FB-8, FB-10"""
    rig = Rig()
    first, second, third = rig.entries(1, 3)
    rig.offer(third)
    rig.offer(second)
    assert echoes(rig) == []
    rig.offer(first)
    assert echoes(rig) == [rig.echo(each) for each in (first, second, third)]
    stray = rig.entry(2, START.after(rig.entry(2, payload=b"never sent")))
    rig.offer(rig.entry(2))
    rig.offer(stray)
    assert echoes(rig) == [rig.echo(rig.entry(2))]
    # The first entry is on top of nothing.
    rig.offer(Entry.sign(rig.committee, 3, rig.signers[3], _elsewhere(), (1, b"x")))
    assert echoes(rig) == []


def _elsewhere():
    return type(START)(0, b"\1" * 32, 0, 0)


def test_the_window_is_eight_entries_above_what_is_certified():
    """spec: FB-11, FB-19"""
    rig = Rig()
    entries = rig.entries(1, LIMITS.window + 2)
    for entry in entries[: LIMITS.window]:
        rig.offer(entry)
    assert len(echoes(rig)) == LIMITS.window
    rig.offer(entries[LIMITS.window])
    assert closed(rig) == [1]
    rig.certify(entries[0])
    rig.offer(entries[LIMITS.window])
    assert echoes(rig) == [rig.echo(entries[LIMITS.window])]
    rig.offer(entries[LIMITS.window + 1])
    assert closed(rig) == [1]


def test_a_certificate_delivers_what_is_before_it():
    """spec: FB-16"""
    rig = Rig()
    entries = rig.entries(1, 4)
    for entry in entries:
        rig.offer(entry)
    rig.certify(entries[3])
    assert delivered(rig) == entries


def test_echoes_count_two_windows_ahead_and_no_further():
    rig = Rig()
    entries = rig.entries(1, 2 * LIMITS.window + 1)
    for entry in entries:
        rig.certify(entry, [1, 2, 3])
    assert len(rig.stream(1)._slots) == 2 * LIMITS.window


@pytest.mark.parametrize("over", [0, 1])
def test_the_budget_is_what_is_behind_the_last_mark(over):
    """spec: FB-12"""
    rig = Rig()
    position, left = START, LIMITS.segment_bytes_max
    while left:
        size = min(left - ENTRY_OVERHEAD, 700)
        entry = rig.entry(1, position, bytes(size))
        left -= size + ENTRY_OVERHEAD
        position = position.after(entry)
        rig.deliver(entry)
        assert left == 0 or left > ENTRY_OVERHEAD
    assert position.segment_bytes == LIMITS.segment_bytes_max
    delivered(rig), echoes(rig)
    if over:
        rig.offer(rig.entry(1, position, b""))
        assert closed(rig) == [1]
        assert echoes(rig) == []
        return
    rig.give(ChainTip(1, bytes(32)))
    mark = rig.mark(1, 0, position)
    rig.deliver(mark)
    assert delivered(rig) == [mark]
    after = rig.entry(1, position.after(mark), b"")
    rig.deliver(after)
    assert delivered(rig) == [after]


@pytest.mark.parametrize("over", [0, 1])
def test_a_payload_is_bounded(over):
    """spec: FB-7"""
    rig = Rig()
    rig.offer(rig.entry(1, payload=bytes(LIMITS.payload_bytes_max + over)))
    assert (len(echoes(rig)), closed(rig)) == ((0, [1]) if over else (1, []))
    if over:
        with pytest.raises(LocalProtocolError, match="is the most"):
            rig.give(Append(Kind.SHARE_BATCH, bytes(LIMITS.payload_bytes_max + 1)))


def test_what_a_quorum_has_certified_is_taken_though_this_member_would_not_have():
    """spec: FB-16"""
    rig = Rig()
    entry = rig.entry(1, payload=bytes(LIMITS.payload_bytes_max + 1))
    rig.receive(2, Entries(rig.certificate(rig.echo(entry)), (entry,)))
    assert delivered(rig) == [entry]


def test_certified_entries_are_taken_from_anyone_and_only_with_their_certificate():
    """spec: FB-15, FB-16, FB-21"""
    rig = Rig()
    entries = rig.entries(1, 3)
    last = rig.certificate(rig.echo(entries[2]))
    unsigned = Entry(entries[1].header, bytes(64), entries[1].payload)
    for bad in (
        Entries(rig.certificate(rig.echo(entries[1])), tuple(entries)),
        Entries(last, (entries[0], entries[2])),
        Entries(last, (entries[0], unsigned, entries[2])),
        Entries(rig.certificate(rig.echo(entries[2]), [0, 1]), tuple(entries)),
    ):
        rig.receive(2, bad)
        assert closed(rig) == [2]
    # What does not begin here is of no use, and no fault.
    rig.receive(2, Entries(last, tuple(entries[1:])))
    assert (closed(rig), delivered(rig)) == ([], [])
    rig.receive(2, Entries(last, tuple(entries)))
    assert delivered(rig) == entries
    rig.receive(2, Entries(last, tuple(entries)))
    assert (closed(rig), delivered(rig)) == ([], [])


def test_a_member_on_the_branch_that_lost_follows_the_one_that_is_certified():
    """spec: FB-10, FB-16, FB-23"""
    rig = Rig()
    mine, theirs = rig.entries(1, 2, payload=b"mine"), rig.entries(1, 3, payload=b"theirs")
    for entry in mine:
        rig.offer(entry)
    assert len(echoes(rig)) == 2
    rig.receive(2, Entries(rig.certificate(rig.echo(theirs[1]), [1, 2, 3]), tuple(theirs[:2])))
    assert delivered(rig) == theirs[:2]
    assert [each.member for each in rig.take(Blame)] == [1]
    rig.offer(theirs[2])
    assert echoes(rig) == [rig.echo(theirs[2])]
    # After a crash it is where it was.
    again = rig.again()
    assert again.stream(1).certified == rig.stream(1).certified
    assert again.stream(1).tip() == rig.stream(1).tip()


def test_two_certified_branches_stop_a_member():
    """spec: FB-17"""
    rig = Rig()
    rig.deliver(rig.entry(1, payload=b"one"))
    other = rig.entries(1, 2, payload=b"two")
    rig.receive(2, Entries(rig.certificate(rig.echo(other[1])), tuple(other[1:])))
    [halt] = rig.take(Halt)
    assert "more than 1 members are faulty" in halt.reason
    rig.effects.clear()
    rig.offer(rig.entry(2))
    rig.wait(10_000)
    assert rig.effects == []
    assert rig.member.is_halted


def test_own_entries_are_sent_as_far_as_a_peers_window_is_open():
    """spec: FB-11, FB-20"""
    rig = Rig()
    for number in range(LIMITS.window + 3):
        rig.give(Append(Kind.SHARE_BATCH, b"%d" % number))
    sent = rig.take(SentEntry)
    first = [message.entry for member, message in sent if member == 1]
    assert [entry.header.seq for entry in first] == list(range(LIMITS.window))
    assert len(sent) == 3 * LIMITS.window
    # Peer 1 has certified nothing yet; the others echo three.
    for entry in first[:3]:
        rig.certify(entry, [2, 3])
    assert len(delivered(rig)) == 3
    assert rig.take(SentEntry) == []
    rig.receive(2, Ready((Head(0, 3, first[2].header.digest),), 0, 0))
    sent = rig.take(SentEntry)
    assert [(member, m.entry.header.seq) for member, m in sent] == [(2, 8), (2, 9), (2, 10)]
    # A claim of more than there is opens nothing.
    rig.receive(3, Ready((Head(0, 1 << 60, bytes(32)),), 0, 0))
    assert rig.take(SentEntry) == []


def test_own_entries_wait_for_their_turn_and_are_bounded():
    """spec: FB-11"""
    rig = Rig()
    for _ in range(LIMITS.window + LIMITS.append_queue):
        rig.give(Append(Kind.SHARE_BATCH, b"x"))
    with pytest.raises(LocalProtocolError, match="hold back"):
        rig.give(Append(Kind.SHARE_BATCH, b"x"))
    for wrong in (Append(Kind.EPOCH_MARK, b""), Append(Kind.EVIDENCE, b""), Append(256, b"")):
        with pytest.raises(LocalProtocolError):
            rig.give(wrong)


def test_own_entries_stay_inside_the_budget_and_a_mark_frees_it():
    """spec: FB-12"""
    rig = Rig()
    for _ in range(6):
        rig.give(Append(Kind.SHARE_BATCH, bytes(700)))
    own = rig.member.broadcast.own
    assert own.tip().count == 4
    assert rig.member.broadcast.waiting == 2
    rig.give(ChainTip(1, bytes(32)))
    assert own.tip().count == 7
    assert own.tip().marks == 1
    assert rig.member.broadcast.waiting == 0


def test_nothing_is_appended_before_a_quorum_has_spoken():
    """spec: FB-22"""
    rig = Rig(linked=False)
    rig.give(Append(Kind.SHARE_BATCH, b"x"))
    rig.link(1)
    assert rig.take(SentEntry) == []
    rig.give(LinkUp(2))
    assert rig.take(SentEntry) == []
    rig.receive(2, Sync((), 0, 0, None))
    assert {member for member, _ in rig.take(SentEntry)} == {1, 2}


def test_a_store_that_is_older_than_its_own_stream_stops():
    """spec: FB-22"""
    rig = Rig()
    older = list(rig.records)
    for payload in (b"one", b"two"):
        rig.give(Append(Kind.SHARE_BATCH, payload))
    one, two = (rig.member.broadcast.own.header_at(seq) for seq in (0, 1))
    for records, latest, is_good in (
        (rig.records, two, True),
        (rig.records, one, True),
        (older, one, False),
        (rig.records[:1], two, False),
    ):
        again = Rig(linked=False, records=records)
        again.link(1, latest=latest)
        assert bool(again.take(Halt)) != is_good
    # A second node with this identity has signed something else.
    clone = Rig(records=older)
    clone.give(Append(Kind.SHARE_BATCH, b"other"))
    rig.link(1, latest=clone.member.broadcast.own.header_at(0))
    assert "second node" in rig.take(Halt)[0].reason
    # What is certified of the own stream and not in the store says the same.
    lost = Rig(records=older)
    entry = rig.entry(0, payload=b"lost")
    lost.receive(2, Entries(rig.certificate(rig.echo(entry), [1, 2, 3]), (entry,)))
    assert "older copy" in lost.take(Halt)[0].reason


def test_an_entry_that_a_peer_made_up_does_not_stop_anyone():
    """spec: FB-22"""
    rig = Rig(linked=False)
    forged = Entry.sign(rig.committee, 0, rig.signers[1], START, (1, b"x")).signed_header
    rig.link(1, latest=forged)
    assert closed(rig) == [1]
    rig.link(1, latest=rig.entry(2).signed_header)
    assert closed(rig) == [1]
    assert rig.take(Halt) == []


def test_a_link_that_comes_up_again_starts_with_how_far_this_member_is():
    """spec: FB-20"""
    rig = Rig()
    entries = rig.entries(1, 2)
    rig.deliver(entries[0])
    rig.offer(entries[1])
    rig.give(Append(Kind.SHARE_BATCH, b"own"))
    rig.give(LinkDown(2))
    rig.effects.clear()
    rig.give(LinkUp(2))
    head = Head(1, 1, entries[0].header.digest)
    [sync, echo] = [each.message for each in rig.take(Send)]
    assert sync == Sync((head,), 0, 0, None)
    assert echo == rig.said(0, rig.echo(entries[1]))
    rig.receive(2, Sync((head,), 0, 0, None))
    [entry, own] = [each.message for each in rig.take(Send)]
    assert entry.entry.payload == b"own"
    assert own.statement == rig.echo(entry.entry)
    rig.give(LinkDown(1))
    rig.give(LinkUp(1))
    assert rig.take(Sync)[0][1].latest_of_yours == entries[1].signed_header


def test_who_is_behind_asks_and_asks_another_when_there_is_no_answer():
    """spec: FB-21"""
    rig = Rig()
    entries = rig.entries(1, 3)
    head = Head(1, 3, entries[2].header.digest)
    rig.receive(2, Ready((head,), 0, 0))
    rig.receive(3, Ready((head,), 0, 0))
    rig.wait(LIMITS.pull_delay_ms - 1)
    assert rig.take(Pull) == []
    rig.wait(1)
    assert rig.take(Pull) == [(2, Pull(1, 0))]
    rig.wait(LIMITS.pull_timeout_ms)
    assert rig.take(Pull) == [(3, Pull(1, 0))]
    rig.give(LinkDown(3))
    rig.wait(1)
    assert rig.take(Pull) == [(2, Pull(1, 0))]
    rig.receive(2, Entries(rig.certificate(rig.echo(entries[1])), tuple(entries[:2])))
    rig.wait(0)
    assert rig.take(Pull) == [(2, Pull(1, 2))]
    rig.receive(2, Entries(rig.certificate(rig.echo(entries[2])), tuple(entries[2:])))
    rig.wait(100_000)
    assert rig.take(Pull) == []
    assert rig.stream(1).certified.count == 3


def test_answers_that_are_of_no_use_are_not_asked_for_without_end():
    """spec: FB-21"""
    rig = Rig()
    entries = rig.entries(1, 3)
    stale = Entries(rig.certificate(rig.echo(entries[2])), tuple(entries[1:]))
    rig.receive(2, Ready((Head(1, 1 << 60, bytes(32)),), 0, 0))
    rig.wait(0)
    asked = 0
    for _ in range(100):
        asked += len(rig.take(Pull))
        rig.receive(2, stale)
        rig.wait(1)
    assert asked == 1
    rig.wait(LIMITS.pull_delay_ms)
    rig.receive(3, Ready((Head(1, 3, bytes(32)),), 0, 0))
    rig.take(Pull)
    rig.wait(LIMITS.pull_timeout_ms)
    assert (3, Pull(1, 0)) in rig.take(Pull)


def test_ready_is_told_to_the_sender_at_half_its_window_and_to_all_at_intervals():
    """spec: FB-21"""
    rig = Rig()
    entries = rig.entries(1, LIMITS.window // 2)
    for entry in entries:
        assert rig.take(Ready) == []
        rig.deliver(entry)
    head = Head(1, len(entries), entries[-1].header.digest)
    assert rig.take(Ready) == [(1, Ready((head,), 0, 0))]
    rig.wait(LIMITS.ready_interval_ms)
    assert rig.take(Ready) == [(peer, Ready((head,), 0, 0)) for peer in (1, 2, 3)]
    rig.wait(100_000)
    assert rig.take(Ready) == []


def test_a_pull_is_answered_from_the_store_one_at_a_time():
    """spec: FB-21"""
    rig = Rig()
    rig.receive(2, Pull(1, 0))
    assert rig.take(Serve) == []
    rig.deliver(rig.entry(1))
    for _ in range(3):
        rig.receive(2, Pull(1, 0))
    rig.receive(3, Pull(1, 0))
    rig.receive(3, Pull(1, 1))
    assert rig.take(Serve) == [Serve(2, 1, 0), Serve(3, 1, 0)]
    rig.give(Served(2, 1))
    rig.receive(2, Pull(1, 0))
    assert rig.take(Serve) == [Serve(2, 1, 0)]
    rig.receive(2, Pull(4, 0))
    assert closed(rig) == [2]


def test_an_answer_has_what_fits_up_to_a_certificate():
    """spec: FB-18, FB-21"""
    rig = Rig()
    store = Store(rig.committee)
    entries = rig.entries(1, 100)
    for first, end in ((0, 1), (1, 3), (3, 60), (60, 100)):
        certificate = rig.certificate(rig.echo(entries[end - 1]))
        store.write(Grown(certificate, tuple(entries[first:end])))
    assert answer(store, 1, 0) is None
    store.sync(store.written)
    assert len(answer(store, 1, 0).entries) == 60
    assert answer(store, 1, 2).entries == tuple(entries[2:60])
    assert answer(store, 1, 60).entries == tuple(entries[60:])
    assert answer(store, 1, 100) is None
    assert len(encode_message(answer(store, 1, 0))) < 4 << 20
    big = rig.entries(2, 5, payload=bytes(1 << 20))
    for entry in big:
        store.write(Grown(rig.certificate(rig.echo(entry)), (entry,)))
    store.sync(store.written)
    assert len(answer(store, 2, 0).entries) == 3
    assert len(encode_message(answer(store, 2, 0))) < 4 << 20


def test_a_member_that_was_away_is_where_it_was():
    """spec: FB-14"""
    rig = Rig()
    rig.give(Append(Kind.SHARE_BATCH, b"own"))
    for entry in rig.entries(1, 5):
        rig.deliver(entry)
    rig.offer(rig.entry(2))
    again = rig.again()
    for mine, other in zip(
        rig.member.broadcast.streams, again.member.broadcast.streams, strict=True
    ):
        assert mine.certified == other.certified
        assert mine.tip() == other.tip()
    again.give(Append(Kind.SHARE_BATCH, b"more"))
    assert again.member.broadcast.own.tip().count == 2


def test_what_is_open_fits_one_answer():
    """spec: FB-11, FB-21"""
    rig = Rig(limits=Limits())
    entries = rig.entries(1, 5, payload=bytes(1 << 20))
    for entry in entries:
        rig.offer(entry)
    assert echoes(rig) == [rig.echo(each) for each in entries[:3]]
    # A certificate of the last would cover too much to be handed on.
    rig.certify(entries[4])
    assert delivered(rig) == []
    rig.certify(entries[1])
    assert delivered(rig) == entries
    assert max(len(each) for each in rig.records) < 4 << 20
    for _ in range(5):
        rig.give(Append(Kind.SHARE_BATCH, bytes(1 << 20)))
    assert rig.member.broadcast.own.tip().count == 3
    rig.certify(rig.member.broadcast.own.echoed_entries()[0])
    assert rig.member.broadcast.own.tip().count == 4


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({"payload_bytes_max": 1 << 20}, {"payload_bytes_max": (1 << 20) + 1}),
        (
            {"payload_bytes_max": 1_000, "segment_bytes_max": 1_256},
            {"payload_bytes_max": 1_000, "segment_bytes_max": 1_255},
        ),
        ({"window": 1}, {"window": 0}),
        ({"pull_timeout_ms": 1}, {"pull_timeout_ms": 0}),
        ({"grace_ms": 0}, {"grace_ms": -1}),
    ],
)
def test_limits_are_such_that_a_member_can_work(good, bad):
    """spec: FB-12"""
    Limits(**good)
    with pytest.raises(LocalProtocolError):
        Limits(**bad)


def test_a_store_of_another_committee_is_refused():
    rig = Rig()
    rig.deliver(rig.entry(1))
    with pytest.raises(Exception, match=r"fit together|encoding|kind of record|payload"):
        Rig(n=4, records=rig.records[1:])

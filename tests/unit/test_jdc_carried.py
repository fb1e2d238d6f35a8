"""Shares carried by an extension: the words of the native miner, spoken by an upstream."""

import os
import struct

import pytest
import trio
import trio.testing
from jdc_rig.templates import own
from jdc_rig.upstream import CHANNEL, OWN_LEN, PREFIX, TAGGED, TARGET, Peer, Z, share

from radpool_sv2._native.miner import Carrier
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.jdc.carried import ATTACHMENTS_MAX, COMMANDS_MAX, NEWS_MAX, Carried
from radpool_sv2.wire.frame import Frame
from radpool_sv2.wire.message import job_declaration as jd
from radpool_sv2.wire.message import mining

EXTENSION = 0x4E45
OPEN, OPENED, NOT_OPENED = 0, 1, 2
SHARE, ACCEPTED, REJECTED = 3, 4, 5
OTHER = 9
CARRIER = Carrier(
    extension_type=EXTENSION,
    open_messages=(OPEN, OPENED, NOT_OPENED),
    open_tail=b"terms",
    share_messages=(SHARE, ACCEPTED, REJECTED),
    renewing_codes=["renew"],
    lapsing_codes=["lapse"],
)
OWN = own(1)


class Rig:
    """Is an upstream whose shares are carried, with the side played by the test."""

    def __init__(self, **changes):
        self.carried = Carried(CARRIER)
        self.carried.open()
        self.peer = Peer(carried=self.carried, name_owner=lambda tail: tail.decode(), **changes)
        self.carried.on_stir = self.stir
        self.peer.start()

    def stir(self):
        self.peer.machine.stir(self.peer.now)
        self.peer.look()

    def frames(self):
        """Takes the extension's frames that were sent."""
        self.peer.look()
        found = [each for each in self.peer.sent if isinstance(each, Frame)]
        self.peer.sent = [each for each in self.peer.sent if not isinstance(each, Frame)]
        return found

    def say(self, msg_type, payload, *, channel=True):
        self.peer.pool(Frame(EXTENSION, msg_type, channel, payload))

    def open(self):
        success = mining.OpenExtendedMiningChannelSuccess(
            1, CHANNEL, TARGET.to_bytes(32, "little"), OWN_LEN, PREFIX, 1
        )
        self.frames()
        self.say(OPENED, success.written() + b"ecash:window", channel=False)
        return self

    def work(self):
        self.open()
        self.peer.offer(OWN).give(TAGGED)
        self.peer.judge()
        self.peer.accept(40)
        self.peer.machine.use(self.peer.now)
        self.peer.look()
        return self.peer.published[-1]

    def give(self, *numbers, lot=1):
        items = [(number, b"claim %d" % number) for number in numbers]
        return self.carried.give(1, lot, items)

    def refuse(self, sequence, code):
        payload = mining.SubmitSharesError(CHANNEL, sequence, code).written()
        self.say(REJECTED, payload)


@pytest.fixture
def rig():
    made = Rig()
    yield made
    made.carried.close()


def is_ringing(carried):
    try:
        os.eventfd_read(carried.event_fd())
    except BlockingIOError:
        return False
    os.eventfd_write(carried.event_fd(), 1)
    return True


def sequence_of(frame):
    return struct.unpack_from("<I", frame.payload, 4)[0]


def test_channel_is_opened_with_the_extensions_words(rig):
    [frame] = rig.frames()
    assert (frame.extension_type, frame.msg_type, frame.channel_msg) == (EXTENSION, OPEN, False)
    assert frame.payload.endswith(b"terms")
    rig.open()
    assert is_ringing(rig.carried)
    news = rig.carried.take()
    assert (news.session, news.opened) == (1, (CHANNEL, b"ecash:window"))
    assert not is_ringing(rig.carried)


def test_tokens_pay_whom_the_extension_names(rig):
    rig.open()
    asked = rig.peer.taken(jd.AllocateMiningJobToken)
    assert {each.user_identifier for each in asked} == {"ecash:window"}


def test_refused_channel_fails_the_pool(rig):
    rig.say(NOT_OPENED, mining.OpenMiningChannelError(1, "no-mint").written(), channel=False)
    assert rig.peer.reason == "it refused the channel: no-mint"
    assert rig.carried.take().ended == rig.peer.reason


def test_share_waits_for_an_attachment_and_goes_out_with_it(rig):
    job = rig.work()
    rig.peer.submit(share(job))
    assert not rig.frames()
    assert rig.give(7)
    [frame] = rig.frames()
    core = job.submission(CHANNEL, 1, share(job)).written()
    assert (frame.msg_type, frame.payload) == (SHARE, core + b"claim 7")
    rig.carried.take()
    news_hash = share(job).hash
    rig.peer.submit(share(job))
    rig.give(8)
    assert rig.carried.take().submitted == [(2, Z, 8, news_hash)]


def test_accepted_share_is_counted_and_told(rig):
    job = rig.work()
    rig.give(1)
    rig.peer.submit(share(job))
    payload = mining.SubmitSharesSuccess(CHANNEL, 1, 1, 1 << Z).written() + b"receipts"
    rig.say(ACCEPTED, payload)
    totals = rig.peer.totals
    assert (totals.accepted, totals.accepted_sum) == (1, 1 << Z)
    assert rig.carried.take().frames == [(ACCEPTED, True, payload)]


def test_share_refused_for_its_attachment_goes_out_again(rig):
    job = rig.work()
    rig.give(1, 2)
    rig.peer.submit(share(job))
    [first] = rig.frames()
    rig.refuse(sequence_of(first), "renew")
    rig.stir()
    [again] = rig.frames()
    assert again.payload.endswith(b"claim 2") and sequence_of(again) == 2
    assert rig.carried.take().refused == [(1, "renew", True)]
    assert (rig.peer.totals.submitted, rig.peer.totals.rejected) == (1, {})


def test_share_that_goes_out_again_is_answered_by_its_number(rig):
    """spec: EW-19"""
    job = rig.work()
    rig.give(1, 2, 3)
    rig.peer.submit(share(job, nonce=1))
    [first] = rig.frames()
    rig.refuse(sequence_of(first), "renew")
    rig.stir()
    rig.peer.submit(share(job, nonce=2))
    again, fresh = (sequence_of(frame) for frame in rig.frames())
    totals, submissions = rig.peer.totals, rig.peer.machine.submissions
    rig.say(ACCEPTED, mining.SubmitSharesSuccess(CHANNEL, fresh, 1, 1 << Z).written())
    assert (totals.accepted, totals.mismatches, submissions.unanswered) == (1, 0, 1)
    rig.say(ACCEPTED, mining.SubmitSharesSuccess(CHANNEL, again, 0, 0).written())
    assert (totals.accepted, totals.mismatches, submissions.unanswered) == (2, 0, 0)
    assert totals.accepted_sum == 2 << Z


def test_lapsed_lot_is_withdrawn_and_the_share_waits_for_the_next(rig):
    job = rig.work()
    rig.give(1, 2, 3)
    rig.peer.submit(share(job))
    [first] = rig.frames()
    rig.refuse(sequence_of(first), "lapse")
    rig.stir()
    assert not rig.frames()
    news = rig.carried.take()
    assert (news.withdrawn, news.refused) == ([2, 3], [(1, "lapse", True)])
    assert not rig.give(4, lot=1), "the lot is over"
    assert rig.give(5, lot=2)
    [again] = rig.frames()
    assert again.payload.endswith(b"claim 5")


def test_share_refused_for_itself_is_rejected(rig):
    job = rig.work()
    rig.give(1)
    rig.peer.submit(share(job))
    [frame] = rig.frames()
    rig.refuse(sequence_of(frame), "stale-share")
    assert rig.carried.take().refused == [(1, "stale-share", False)]
    assert rig.peer.totals.rejected == {"stale-share": 1}


def test_share_is_sent_again_a_few_times_at_most(rig):
    job = rig.work()
    rig.give(*range(20))
    rig.peer.submit(share(job))
    for _ in range(8):
        [frame] = rig.frames()
        rig.refuse(sequence_of(frame), "renew")
        rig.stir()
    assert not rig.frames()
    assert [again for _, _, again in rig.carried.take().refused] == [True] * 7 + [False]


def test_shares_of_the_last_tip_are_given_up_unless_the_pool_has_them(rig):
    job = rig.work()
    rig.give(1)
    rig.peer.submit(share(job, nonce=1))
    [sent] = rig.frames()
    rig.refuse(sequence_of(sent), "renew")
    rig.peer.submit(share(job, nonce=2))
    rig.peer.give(TAGGED).offer(own(2, on=2))
    rig.give(2, 3)
    [again] = rig.frames()
    assert struct.unpack_from("<I", again.payload, 12)[0] == 1, "the pool has this one"
    assert rig.carried.take().dropped == 1


def test_of_too_many_waiting_shares_the_oldest_are_given_up(rig):
    job = rig.work()
    for nonce in range(300):
        rig.peer.submit(share(job, nonce=nonce))
    assert (rig.carried.waiting, rig.carried.take().dropped) == (256, 44)
    rig.give(1)
    [frame] = rig.frames()
    assert struct.unpack_from("<I", frame.payload, 12)[0] == 44


def test_frames_of_the_side_are_passed_on(rig):
    rig.work()
    assert rig.carried.send(1, OTHER, channel_msg=False, payload=b"fetch")
    [frame] = rig.frames()
    assert (frame.msg_type, frame.channel_msg, frame.payload) == (OTHER, False, b"fetch")
    rig.say(OTHER, b"answer", channel=False)
    assert rig.carried.take().frames == [(OTHER, False, b"answer")]


def test_what_is_given_is_bounded_and_of_the_present_session(rig):
    carried = rig.carried
    assert not carried.give(2, 1, [(1, b"")])
    assert carried.give(1, 1, [(number, b"") for number in range(ATTACHMENTS_MAX)])
    assert not carried.give(1, 1, [(0, b"")])
    for _ in range(COMMANDS_MAX):
        assert carried.send(1, OTHER, channel_msg=False, payload=b"")
    assert not carried.send(1, OTHER, channel_msg=False, payload=b"")
    assert not carried.send(2, OTHER, channel_msg=False, payload=b"")


def test_side_that_takes_no_news_fails_the_pool(rig):
    rig.work()
    for _ in range(NEWS_MAX + 1):
        rig.say(OTHER, b"", channel=False)
    assert "more of its extension than could be taken in" in rig.peer.reason


def test_end_withdraws_what_was_given_and_another_session_begins_afresh(rig):
    job = rig.work()
    rig.peer.submit(share(job))
    rig.carried.take()
    rig.give(1, 2)
    rig.frames()
    rig.peer.submit(share(job, nonce=2))
    rig.give(3)
    rig.peer.machine.fail("gone")
    news = rig.carried.take()
    assert (news.ended, news.withdrawn) == ("gone", [3])
    assert not rig.carried.give(1, 2, [(4, b"")])
    rig.carried.open()
    assert rig.carried.give(2, 1, [(4, b"")])


async def test_next_session_waits_until_the_end_of_the_last_was_taken(rig, autojump_clock):
    rig.peer.machine.fail("gone")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.carried.wait_cleared)
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        rig.carried.take()


@pytest.mark.parametrize("msg_type", [OPENED, NOT_OPENED, ACCEPTED, REJECTED])
def test_malformed_answers_end_the_connection(rig, msg_type):
    rig.open()
    with pytest.raises(RemoteProtocolError):
        rig.say(msg_type, b"\x00")

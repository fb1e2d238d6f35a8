"""Key generation over the broadcast: members that crash, are silent or lie."""

from collections import deque
from dataclasses import replace
from random import Random

import pytest
from federation_keys import Log, committee_of, identities

from radpool_sv2._native.threshold import CHECKPOINT
from radpool_sv2.errors import ConfigError, LocalProtocolError
from radpool_sv2.federation.broadcast.entry import Entry
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.dkg.generation import (
    ATTEMPTS_MAX,
    Counted,
    Delivered,
    Generated,
    KeyFault,
    KeyGeneration,
    quorum_of,
)
from radpool_sv2.federation.dkg.message import BODY_BYTES_MAX, KeyMessage, Step
from radpool_sv2.federation.effect import FOREVER


def liar(member, step, change):
    """What a member says in attempt 0 in one step is changed."""

    def spoil(author, message):
        if (author, message.step, message.attempt) == (member, step, 0):
            return change(message)
        return message

    return spoil


def flip(at):
    def change(message):
        body = bytearray(message.body)
        body[at] ^= 1
        return replace(message, body=bytes(body))

    return change


def test_a_key_is_certified_by_the_epoch_that_has_all_signatures():
    """spec: TK-31, TK-33"""
    log = Log()
    assert log.all_of(object) == [[], [], [], []]
    log.decide(without={2})
    assert log.all_of(object) == [[], [], [], []]
    log.decide()
    keys = log.generated()
    assert [each.epoch for each in keys] == [1] * 4
    assert keys[0].members == (0, 1, 2, 3)
    assert keys[0].public.run.threshold == 3
    assert [each.share.index for each in keys] == [0, 1, 2, 3]
    assert all(machine.is_over for machine in log.machines)
    assert all(len(each) == 1 for each in log.stored)
    log.decide()
    assert log.machines[0].next_deadline() == FOREVER


def test_a_share_is_stored_before_its_signature_is_said():
    """spec: TK-37"""
    for order in Log().order:
        assert order == [Step.FIRST, Step.SECOND, "store", Step.SIGNATURE]


@pytest.mark.parametrize(
    ("step", "at", "fault"),
    [
        (Step.FIRST, -1, "first-message"),
        (Step.FIRST, 0, "first-message"),
        (Step.SECOND, 40, "second-message"),
        (Step.SECOND, 64, "unreadable-share"),
        (Step.SIGNATURE, 3, "certificate-signature"),
    ],
)
def test_who_lies_is_named_and_left_out(step, at, fault):
    """spec: TK-34"""
    log = Log(n=7, spoil=liar(5, step, flip(at)))
    log.decide()
    assert log.faults() == [(5, 0, fault)]
    log.decide()
    keys = log.generated()
    assert keys[0].members == (0, 1, 2, 3, 4, 6)
    assert keys[0].public.run.attempt == 1
    assert keys[0].public.run.threshold == quorum_of(6) == 4
    assert keys[5].share is None
    assert keys[6].share.index == 5


def test_who_accuses_wrongly_is_named():
    log = Log(
        n=7,
        spoil=liar(2, Step.SIGNATURE, lambda each: replace(each, step=Step.COMPLAINT, body=b"?")),
    )
    log.decide()
    assert log.faults() == [(2, 0, "complaint")]
    log.decide()
    assert log.generated()[0].members == (0, 1, 3, 4, 5, 6)


def test_a_complaint_behind_the_own_signature_is_void():
    log = Log(n=7)
    message = KeyMessage(CHECKPOINT, 0, Step.COMPLAINT, b"?")
    log.append(3, Kind.KEY_GENERATION, message.encode())
    log.decide()
    assert log.faults() == []
    assert log.generated()[0].members == tuple(range(7))


@pytest.mark.parametrize("step", [Step.FIRST, Step.SECOND, Step.SIGNATURE])
def test_who_is_silent_twice_is_left_out_after_epochs_and_is_no_culprit(step):
    """spec: TK-35, TK-36"""
    log = Log(n=7, spoil=lambda who, said: None if (who, said.step) == (4, step) else said)
    for attempt in (0, 1):
        for _ in range(3):
            assert log.all_of(object) == [[]] * 7
            assert log.machines[0].attempt == attempt
            assert log.machines[0].members == tuple(range(7))
            log.decide()
    assert log.faults() == []
    assert log.machines[0].members == (0, 1, 2, 3, 5, 6)
    log.decide()
    assert log.generated()[4].share is None


def test_silence_never_leaves_fewer_than_four_or_more_out_than_may_be_faulty():
    """spec: TK-36"""
    log = Log(n=4, silent={1})
    for _ in range(3):
        log.decide()
    assert (log.machines[0].members, log.machines[0].attempt) == ((0, 1, 2, 3), 1)
    log.silent.clear()
    for _ in range(4):
        log.decide()
    assert log.generated()[0].members == (0, 1, 2, 3)
    assert log.generated()[0].public.run.attempt == 2
    log = Log(n=7, silent={0, 1, 2})
    for _ in range(9):
        log.decide()
    assert log.machines[3].members == tuple(range(7))


def test_who_is_silent_once_is_waited_for():
    """spec: TK-36"""
    log = Log(n=7, spoil=liar(4, Step.FIRST, lambda _: None))
    for _ in range(4):
        log.decide()
    assert log.generated()[0].members == tuple(range(7))
    assert log.generated()[0].public.run.attempt == 1


def test_guilt_that_leaves_too_few_ends_it():
    """spec: TK-36"""
    log = Log(n=4, spoil=liar(0, Step.FIRST, flip(-1)))
    log.decide()
    [failed] = log.failed()[2]
    assert "change the committee" in failed.reason
    assert log.faults() == [(0, 0, "first-message")]
    assert all(machine.is_over for machine in log.machines)


def test_attempts_come_to_an_end():
    log = Log(n=4, silent={0, 1, 2, 3}, patience=1)
    for _ in range(ATTEMPTS_MAX):
        assert log.failed()[0] == []
        log.decide()
    assert str(ATTEMPTS_MAX) in log.failed()[0][0].reason


def test_a_member_that_crashed_before_it_signed_signs_what_it_stored():
    """spec: TK-37"""
    log = Log(n=4, spoil=liar(1, Step.SIGNATURE, lambda _: None))
    log.decide()
    assert log.all_of(object) == [[]] * 4
    log.spoil = None
    log.crash(1)
    log.back(1)
    log.decide()
    assert [each.share.index for each in log.generated()] == [0, 1, 2, 3]


def test_a_member_that_lost_its_dealing_takes_no_part_until_the_next_attempt():
    """spec: TK-37"""
    log = Log(n=4, spoil=lambda _, each: each if each.step is Step.FIRST else None)
    log.crash(1)
    log.back(1)
    log.spoil = None
    before = len(log.streams[1])
    log.decide()
    assert len(log.streams[1]) == before
    for _ in range(6):
        log.decide()
    assert log.generated()[0].public.run.attempt >= 1
    assert log.generated()[0].members == (0, 1, 2, 3)


def test_a_member_that_was_away_ends_as_all_others():
    log = Log(n=7, spoil=liar(5, Step.SECOND, flip(64)))
    log.crash(6)
    log.decide()
    log.decide()
    log.back(6)
    log.decide()
    log.decide()
    log.decide()
    keys = log.generated()
    assert len({each.public.transcript for each in keys}) == 1
    assert 5 not in keys[0].members


def test_messages_of_attempts_to_come_are_taken_in_with_their_epoch():
    """A flood of messages of later attempts neither grows without bound nor parts members."""
    log = Log(n=7, silent={3})
    for number in range(20):
        message = KeyMessage(CHECKPOINT, 1 + number % 5, Step.FIRST, b"%d" % number)
        log.append(3, Kind.KEY_GENERATION, message.encode())
    assert all(len(machine._ahead) <= 4 for machine in log.machines)
    for _ in range(9):
        log.decide()
    assert log.generated()[0].members == (0, 1, 2, 4, 5, 6)


def test_what_is_no_message_is_silence():
    log = Log(n=7)
    log.append(0, Kind.KEY_GENERATION, b"")
    log.append(0, Kind.KEY_GENERATION, bytes(6))
    log.append(0, Kind.SHARE_BATCH, b"x")
    log.decide()
    assert log.generated()[0].members == tuple(range(7))


def test_messages_are_read_as_they_are_written():
    """spec: TK-32"""
    message = KeyMessage(2, 7, Step.SECOND, b"body")
    assert message.encode() == bytes.fromhex("020700000002") + b"body"
    assert KeyMessage.decode(message.encode()) == message
    for length in range(6):
        with pytest.raises(CodecError):
            KeyMessage.decode(message.encode()[:length])
    for step in (0, 5):
        with pytest.raises(CodecError):
            KeyMessage.decode(bytes((2, 0, 0, 0, 0, step)))


def test_what_does_not_fit_is_refused():
    keys = identities(4)
    committee = committee_of(keys)
    with pytest.raises(LocalProtocolError, match="at least 4"):
        KeyGeneration(committee_of(keys[:3]), keys[0], CHECKPOINT, epoch_first=0)
    with pytest.raises(LocalProtocolError, match="one epoch"):
        KeyGeneration(committee, keys[0], CHECKPOINT, epoch_first=0, patience=0)
    machine = KeyGeneration(committee, keys[0], CHECKPOINT, epoch_first=3)
    with pytest.raises(ConfigError, match="cannot be opened"):
        machine.restore([b"RPKS"], [], [])
    machine.handle(Counted(2, []), 0)
    with pytest.raises(LocalProtocolError, match="in the place of 3"):
        machine.handle(Counted(4, []), 0)


class Lagging(Log):
    """Each member hears each stream, and of each epoch, when its turn is drawn."""

    def __init__(self, seed, **more):
        self.random = Random(seed)
        n = more["n"]
        self.queues = [[deque() for _ in range(n)] for _ in range(n)]
        self.coming = [deque() for _ in range(n)]
        self.heard = [[0] * n for _ in range(n)]
        super().__init__(**more)

    def append(self, member, kind, payload):
        entry = Entry.sign(
            self.committee, member, self.keys[member], self.tips[member], (kind, payload)
        )
        self.tips[member] = self.tips[member].after(entry)
        self.streams[member].append(entry)
        for queues in self.queues:
            queues[member].append(entry)

    def settle(self):
        for member, machine in enumerate(self.machines):
            while (effect := machine.poll()) is not None:
                self.perform(member, effect)

    def decide(self, without=()):
        entries = []
        for member in range(self.n):
            if member not in without and self.streams[member]:
                end = self.random.randint(self.ends[member], len(self.streams[member]))
                entries += self.streams[member][self.ends[member] : end]
                self.ends[member] = end
        self.epochs.append(Counted(len(self.epochs), entries))
        for coming in self.coming:
            coming.append(self.epochs[-1])

    def hear(self, member):
        machine, coming = self.machines[member], self.coming[member]
        sender = self.random.randrange(self.n)
        if coming and self.random.random() < 0.3:
            for entry in coming[0].entries:
                while self.heard[member][entry.header.sender] <= entry.header.seq:
                    self.deliver(member, entry.header.sender)
            machine.handle(coming.popleft(), 0)
        elif self.queues[member][sender]:
            self.deliver(member, sender)
        self.settle()

    def deliver(self, member, sender):
        entry = self.queues[member][sender].popleft()
        self.heard[member][sender] = entry.header.seq + 1
        self.machines[member].handle(Delivered(entry), 0)


@pytest.mark.parametrize("seed", range(12))
def test_members_that_hear_in_different_orders_end_alike(seed):
    """Two members say anything at all, for any attempt; no other is ever blamed.

    spec: TK-31
    """
    log = Lagging(seed, n=7, patience=8)
    random, liars = log.random, (1, 4)
    for round_ in range(4_000):
        if random.random() < 0.02:
            liar = random.choice(liars)
            said = [KeyMessage.decode(each.payload) for each in log.streams[liar]]
            message = random.choice(said)
            attempt = max(message.attempt + random.choice((-1, 0, 0, 1, 2)), 0)
            message = replace(message, attempt=attempt, step=random.choice(list(Step)))
            log.append(liar, Kind.KEY_GENERATION, message.encode())
        if random.random() < 0.012 and len(log.epochs) < 40:
            log.decide(without=random.sample(range(7), 2))
        log.hear(random.randrange(7))
        if round_ > 1_000 and all(machine.is_over for machine in log.machines):
            break
    for member in range(7):
        while log.coming[member]:
            log.hear(member)
    ends = {(machine.attempt, machine.members, machine.is_over) for machine in log.machines}
    assert len(ends) == 1
    assert {member for member, _, _ in log.faults()} <= set(liars)
    assert len({tuple(each.public.transcript for each in s) for s in log.all_of(Generated)}) == 1


def test_of_a_message_that_is_far_too_long_no_more_is_kept_than_shows_it():
    """spec: TK-6, TK-10"""
    long = KeyMessage(CHECKPOINT, 0, Step.FIRST, bytes(1 << 20))
    kept = KeyMessage.decode(long.encode()).body
    assert len(kept) == BODY_BYTES_MAX

    def spoil(member, message):
        if (member, message.step, message.attempt) == (2, Step.FIRST, 0):
            return replace(message, body=bytes(1 << 20))
        return message

    log = Log(spoil=spoil)
    log.decide()
    assert [each for each in log.seen[0] if isinstance(each, KeyFault)] == [
        KeyFault(2, 0, "first-message")
    ]

"""Signing, message by message: what may be signed, by which nonces, and who is to blame."""

from collections import deque
from dataclasses import replace
from hashlib import sha256

import pytest
from federation_keys import Log

from radpool_sv2._native.threshold import CHECKPOINT, ORACLE, TREASURY, NoncePool, Session
from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.broadcast.entry import START, Entry
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.codec import U64_MAX, CodecError, Reader, Tag, u16, u32, u64
from radpool_sv2.federation.effect import FOREVER, Append, Close, LinkDown, LinkUp
from radpool_sv2.federation.identity import Bip340Verifier
from radpool_sv2.federation.record import Started
from radpool_sv2.federation.signing import signing
from radpool_sv2.federation.signing.commitments import COUNTED_MAX, Book, Published, encode_reset
from radpool_sv2.federation.signing.evidence import ShareEvidence, SignedShare
from radpool_sv2.federation.signing.message import (
    Ask,
    Commit,
    Done,
    Invite,
    Open,
    Share,
    decode_signing,
    encode_signing,
    is_signing,
)
from radpool_sv2.federation.signing.purpose import Certified, Spend, tasks_of
from radpool_sv2.federation.signing.roast import (
    Coordinator,
    Respondent,
    coordinator_of,
    coordinators,
    number_of,
)
from radpool_sv2.federation.signing.session import Attempt
from radpool_sv2.federation.signing.signing import (
    Accuse,
    CertifiedEpoch,
    Heard,
    Say,
    Signed,
    Signing,
    SigningLimits,
    Spent,
    StoreBoot,
)
from radpool_sv2.federation.statement import StateRoot
from radpool_sv2.testing.fold import Fold

VERIFIER = Bip340Verifier()
LIMITS = SigningLimits(window=4, patience_ms=1_000, again_ms=500)
SPENDS = [Spend(b"\x01" * 32, None), Spend(b"\x02" * 32, b"\x77" * 32)]


def spends(_epoch, _state):
    return SPENDS


def generated(purpose=CHECKPOINT, n=4):
    log = Log(n=n, purpose=purpose)
    log.decide()
    return log, log.generated()


CHECKPOINTS = generated()
TREASURIES = generated(TREASURY)
SEVEN = generated(CHECKPOINT, 7)


def certified_of(log, epoch, state=b"state", **wrong):
    start = Started(epoch + 1, ())
    root = StateRoot(log.committee.id, epoch, start.root(Fold().root(state)))
    signatures = {each: log.keys[each].sign(root.digest) for each in range(log.committee.quorum)}
    certificate = Certificate.of(root, signatures, log.committee)
    facts = {"certificate": certificate, "start": start, "state": state} | wrong
    return Certified.verify(
        log.committee,
        VERIFIER,
        Fold(),
        facts["certificate"],
        facts["start"],
        facts["state"],
    )


class Table:
    """All members of a key: links deliver at once, streams with the next epoch."""

    def __init__(self, keys=CHECKPOINTS, *, quiet=(), change=None):
        self.log, self.generated = keys
        self.n = len(self.generated)
        self.quiet, self.change = set(quiet), change
        self.now, self.epoch = 0, 0
        self.appended, self.epochs = [], []
        self.boots = [0] * self.n
        self.seen = [[] for _ in range(self.n)]
        self.wire = deque()
        self.sent = []
        self.machines = [self.machine(member) for member in range(self.n)]
        for member in range(self.n):
            self.machines[member].restore([], {}, 0)
            self.link(member)
        self.settle()

    def machine(self, member):
        return Signing(
            self.generated[member],
            member,
            self.log.keys[member],
            VERIFIER,
            spends,
            boot=self.boots[member],
            limits=LIMITS,
        )

    def link(self, member):
        for peer in range(self.n):
            if peer != member:
                self.machines[member].handle(LinkUp(peer), self.now)

    def again(self, member, done=None, snapshot=None):
        """Starts a member again, with all epochs or a snapshot that stands for them."""
        self.machines[member] = self.machine(member)
        epochs = self.epochs if snapshot is None else ()
        self.machines[member].restore(epochs, done or {}, self.now, snapshot)
        self.link(member)
        for peer in range(self.n):
            if peer != member:
                self.machines[peer].handle(LinkDown(member), self.now)
                self.machines[peer].handle(LinkUp(member), self.now)
        self.settle()

    def settle(self):
        going = True
        while going:
            going = False
            for member, machine in enumerate(self.machines):
                while (effect := machine.poll()) is not None:
                    going = True
                    self.perform(member, effect)
            while self.wire:
                member, to, message = self.wire.popleft()
                self.machines[to].handle(Heard(member, message), self.now)

    def perform(self, member, effect):
        self.seen[member].append(effect)
        if isinstance(effect, StoreBoot):
            self.boots[member] = effect.boot
        elif isinstance(effect, Append):
            self.append(member, effect.kind, effect.payload)
        elif isinstance(effect, Say) and member not in self.quiet:
            message = effect.message
            if self.change is not None:
                message = self.change(member, message)
            assert decode_signing(encode_signing(message)) == message
            self.sent.append((member, effect.member, message))
            self.wire.append((member, effect.member, message))

    def append(self, member, kind, payload):
        log = self.log
        entry = log.tips[member]
        made = Entry.sign(log.committee, member, log.keys[member], entry, (kind, payload))
        self.appended.append((member, made))

    def certify(self, alive=None):
        """Certifies an epoch of all that was appended; all who are alive have something in it."""
        for member in range(self.n) if alive is None else alive:
            self.append(member, Kind.SHARE_BATCH, b"")
        entries = [entry for _, entry in self.appended]
        self.appended = []
        event = CertifiedEpoch(entries, certified_of(self.log, self.epoch))
        self.epoch += 1
        self.epochs.append(event)
        for machine in self.machines:
            machine.handle(event, self.now)
        self.settle()

    def wait(self, ms):
        end = self.now + ms
        while (due := min(each.next_deadline() for each in self.machines)) <= end:
            self.now = max(due, self.now)
            for machine in self.machines:
                machine.handle_deadline(self.now)
            self.settle()
        self.now = end

    def all_of(self, kind):
        return [[each for each in seen if isinstance(each, kind)] for seen in self.seen]

    def signatures(self):
        return [{each.task.id: each.signature for each in seen} for seen in self.all_of(Signed)]


def lies(member):
    def change(author, message):
        if author != member or not isinstance(message, Share):
            return message
        wrong = bytearray(message.signed.share)
        wrong[-1] ^= 1
        key = CHECKPOINTS[0].keys[member]
        return replace(message, signed=SignedShare.sign(key, bytes(wrong)))

    return change


def test_one_round_signs_when_the_book_has_commitments():
    """spec: TK-46, TK-52"""
    table = Table()
    table.certify()
    assert {type(message) for _, _, message in table.sent} == {Share}
    assert len({author for author, _, _ in table.sent}) == 3
    assert [len(each) for each in table.signatures()] == [1] * 4
    assert all(each == table.signatures()[0] for each in table.signatures())
    assert all(each.open_tasks == 0 for each in table.machines)
    assert all(each.next_deadline() == FOREVER for each in table.machines)
    # A window is filled again when half of it is used.
    before = table.machines[0].unspent
    for _ in range(8):
        table.certify()
    assert [len(each) for each in table.signatures()] == [9] * 4
    assert 2 <= table.machines[0].unspent <= before + 4


def test_first_signers_are_drawn_from_those_that_are_alive_and_able():
    """spec: TK-38, TK-39, TK-45, TK-46"""
    log, keys = CHECKPOINTS
    public = keys[0].public
    pools = [NoncePool(each.share, 1) for each in keys]
    book = Book(public, range(4), VERIFIER)
    commitments = [pool.commit(3) for pool in pools]
    entries = [
        _entry(log, member, Kind.COMMITMENTS, Published(public.transcript, tuple(each)).encode())
        for member, each in enumerate(commitments)
    ]
    book.count([*entries, _entry(log, 0, Kind.COMMITMENTS, b"no")])
    book.count(entries)
    assert [book.open_of(each) for each in range(4)] == [3] * 4
    sid = b"\x51" * 32
    order = sorted(
        range(4), key=lambda each: Tag("radpool/signing-order").hash(sid, b"signer", u16(each))
    )
    signers = book.assign(sid, {0, 1, 2, 3})
    assert [place for place, _ in signers] == sorted(order[:3])
    assert all(commitment == commitments[place][0] for place, commitment in signers)
    assert book.assign(sid, {0, 1}) == ()
    assert [place for place, _ in book.assign(sid, {1, 2, 3})] == [1, 2, 3]
    # A start voids what was published before it.
    book.count([_entry(log, 2, Kind.NONCE_RESET, encode_reset(public.transcript, 2))])
    assert book.open_of(2) == 0
    old = Published(public.transcript, tuple(pools[2].commit(1)))
    book.count([_entry(log, 2, Kind.COMMITMENTS, old.encode())])
    assert book.open_of(2) == 0
    new = Published(public.transcript, tuple(NoncePool(keys[2].share, 3).commit(2)))
    book.count([_entry(log, 2, Kind.COMMITMENTS, new.encode())])
    assert book.open_of(2) == 2
    other = Published(b"\0" * 32, tuple(NoncePool(keys[2].share, 4).commit(2)))
    book.count([_entry(log, 2, Kind.COMMITMENTS, other.encode())])
    assert book.open_of(2) == 2
    assert book.assign(sid, {0, 1, 2}) != ()
    # Evidence that holds leaves its offender out.
    evidence = _evidence(log, keys)
    book.count([_entry(log, 1, Kind.SIGNING_EVIDENCE, evidence.encode())])
    assert book.excluded == {evidence.offender}


def _entry(log, member, kind, payload):
    return Entry.sign(log.committee, member, log.keys[member], START, (kind, payload))


def _evidence(log, keys, *, honest=False):
    public = keys[0].public
    [task] = tasks_of(certified_of(log, 9), public, spends)
    pools = {each: NoncePool(keys[each].share, 9) for each in (0, 2, 3)}
    signers = tuple((place, pool.commit(1)[0]) for place, pool in pools.items())
    attempt = Attempt(public, task, 5, signers)
    share = bytearray(pools[3].sign(attempt.session))
    if not honest:
        share[-1] ^= 1
    return attempt.accuse(3, SignedShare.sign(log.keys[3], bytes(share)))


def test_evidence_convinces_of_shares_that_do_not_hold_and_of_nothing_else():
    """spec: TK-44, TK-45"""
    log, keys = CHECKPOINTS
    public = keys[0].public
    evidence = _evidence(log, keys)
    assert ShareEvidence.decode(evidence.encode()) == evidence
    evidence.verify(public, VERIFIER)
    tweaked = replace(evidence, merkle_root=b"\1" * 32)
    assert ShareEvidence.decode(tweaked.encode()) == tweaked
    signature = evidence.signed.signature
    assert VERIFIER.is_signed(
        log.keys[3].public, Tag("radpool/signing-share").hash(evidence.signed.share), signature
    )
    wrong = [
        _evidence(log, keys, honest=True),
        replace(evidence, transcript=bytes(32)),
        replace(evidence, offender=1),
        replace(evidence, offender=2),
        replace(evidence, number=6),
        replace(evidence, message=bytes(32)),
        replace(evidence, signers=evidence.signers[:2]),
        replace(evidence, signed=replace(evidence.signed, signature=bytes(64))),
        tweaked,
    ]
    for each in wrong:
        with pytest.raises(RemoteProtocolError):
            each.verify(public, VERIFIER)
    data = evidence.encode()
    for length in (0, 33, 70, len(data) - 1):
        with pytest.raises(CodecError):
            ShareEvidence.decode(data[:length])


def test_only_what_follows_from_a_certified_state_is_signed():
    """spec: TK-41, TK-42"""
    log, keys = CHECKPOINTS
    certified = certified_of(log, 3)
    [task] = tasks_of(certified, keys[0].public, spends)
    assert task.message == Tag("radpool/signing-checkpoint").hash(
        log.committee.id, u32(3), certified.root
    )
    assert (
        task.id
        == Session(
            keys[0].public,
            task.message,
            [(each, NoncePool(keys[each].share, 1).commit(1)[0]) for each in range(3)],
        ).signing_id
    )
    with pytest.raises(LocalProtocolError, match="not of this state"):
        certified_of(log, 3, start=Started(5, ()))
    good = certified_of(log, 3)
    with pytest.raises(LocalProtocolError, match="verify"):
        Certified(object(), b"", StateRoot(b"", 0, b""), b"")
    assert good.state == b"state"
    other = StateRoot(log.committee.id, 3, bytes(32))
    signatures = {each: log.keys[each].sign(other.digest) for each in range(3)}
    with pytest.raises(LocalProtocolError, match="not of this state"):
        certified_of(log, 3, certificate=Certificate.of(other, signatures, log.committee))
    forged = {each: bytes(64) for each in range(3)}
    with pytest.raises(RemoteProtocolError):
        certified_of(log, 3, certificate=Certificate.of(other, forged, log.committee))
    table = Table()
    table.certify()
    table.sent.clear()
    unknown = b"\x99" * 32
    commitment = NoncePool(keys[1].share, 50).commit(1)[0]
    for message in (Invite(unknown), Open(unknown, 1, ((0, commitment),) * 2), Ask(unknown)):
        table.machines[0].handle(Heard(1, message), table.now)
    table.settle()
    assert table.sent == []


def test_a_treasury_signs_what_the_state_wants_and_no_longer():
    """spec: TK-43"""
    log, keys = TREASURIES
    tasks = tasks_of(certified_of(log, 0), keys[0].public, spends)
    assert [(each.message, each.merkle_root) for each in tasks] == [
        (each.sighash, each.merkle_root) for each in SPENDS
    ]
    with pytest.raises(LocalProtocolError, match="32 bytes"):
        tasks_of(certified_of(log, 0), keys[0].public, lambda *_: [Spend(b"x", None)])
    table = Table(TREASURIES)
    table.certify()
    table.wait(10_000)
    for found in table.signatures():
        assert len(found) == 2
    for task in tasks:
        keys[0].public.verify(task.message, table.signatures()[2][task.id], task.merkle_root)
    # Asked again, it is not signed again.
    table.certify()
    assert all(len(each) == 2 for each in table.all_of(Signed))
    kept, SPENDS[:] = list(SPENDS), [Spend(b"\x03" * 32, None)]
    try:
        table.quiet = {0, 1, 2, 3}
        table.certify()
        assert [each.open_tasks for each in table.machines] == [1] * 4
        SPENDS.clear()
        table.certify()
        assert [each.open_tasks for each in table.machines] == [0] * 4
    finally:
        SPENDS[:] = kept


def test_an_oracle_key_signs_nothing_here():
    """spec: TK-41"""
    log, keys = generated(ORACLE)
    with pytest.raises(LocalProtocolError, match="oracle"):
        tasks_of(certified_of(log, 0), keys[0].public, spends)
    other = CHECKPOINTS[1][0].public
    foreign = SEVEN[0]
    with pytest.raises(LocalProtocolError, match="not one of the committee"):
        tasks_of(certified_of(foreign, 0), other, spends)


def test_a_start_raises_the_boot_before_anything_is_published():
    """spec: TK-40"""
    table = Table()
    assert [type(each) for each in table.seen[0]] == [StoreBoot, Append]
    assert table.seen[0][1].kind == Kind.COMMITMENTS
    table.certify()
    table.seen[0].clear()
    table.again(0)
    assert table.boots == [2, 1, 1, 1]
    first = [each for each in table.seen[0] if not isinstance(each, Say)]
    assert isinstance(first[0], StoreBoot)
    assert [each.kind for each in first[1:3]] == [Kind.NONCE_RESET, Kind.COMMITMENTS]


@pytest.mark.parametrize("member", range(4))
def test_roast_signs_although_one_is_silent(member):
    """spec: TK-47, TK-48"""
    table = Table(quiet={member})
    table.certify()
    table.wait(20_000)
    others = [each for each in range(4) if each != member]
    for _ in range(3):
        table.certify()
        table.wait(20_000)
    assert all(len(table.signatures()[each]) == 4 for each in others)
    assert all(accused == [] for accused in table.all_of(Accuse))


@pytest.mark.parametrize("member", range(4))
def test_a_liar_is_named_and_left_out(member):
    """spec: TK-45, TK-49"""
    table, epochs = Table(change=lies(member)), 0
    # Chance says who signs: in four epochs it need not be the liar's turn.
    while epochs < 4 or (epochs < 64 and not any(table.all_of(Accuse))):
        table.certify()
        table.wait(20_000)
        epochs += 1
    assert all(len(each) == epochs for each in table.signatures())
    accused = {each.member for seen in table.all_of(Accuse) for each in seen}
    assert accused == {member}
    table.sent.clear()
    table.certify()
    assert all(author != member for author, _, _ in table.sent)
    assert all(len(each) == epochs + 1 for each in table.signatures())


def test_coordinators_are_as_many_as_may_be_absent_and_one_more():
    """spec: TK-47"""
    public = SEVEN[1][0].public
    assert public.run.threshold == 5
    sid = b"\x51" * 32
    order = sorted(
        range(7), key=lambda each: Tag("radpool/signing-order").hash(sid, b"coordinator", u16(each))
    )
    assert coordinators(public, sid) == order[:3]
    assert number_of(2, 3, 4) == 3 << 48 | 3 << 16 | 4
    assert coordinator_of(number_of(2, 3, 4)) == 2
    assert coordinator_of(0) == -1


def a_roast(n=7, place=0):
    log, keys = SEVEN
    public = keys[0].public
    [task] = tasks_of(certified_of(log, 3), public, spends)
    spent = []
    respondents = [
        Respondent(
            public,
            task,
            place,
            NoncePool(keys[each].share, 1),
            log.keys[each],
            lambda *said: spent.append(said),
        )
        for each in range(n)
    ]
    return Coordinator(public, task, place, 1, set()), respondents, task, spent


def test_each_silent_member_stalls_one_session():
    """spec: TK-48"""
    coordinator, respondents, task, spent = a_roast()
    opened = [
        each
        for place, respondent in enumerate(respondents)
        for each in coordinator.commit(place, respondent.commitment())
    ]
    assert [place for place, _ in opened] == [0, 1, 2, 3, 4]
    waiting = deque(opened)
    while waiting and coordinator.signature is None:
        place, message = waiting.popleft()
        if place in (0, 1):
            assert coordinator.pending_of(place) == message
            continue
        waiting += coordinator.take(place, respondents[place].open(place, message))
    assert coordinator.sessions == 2
    SEVEN[1][0].public.verify(task.message, coordinator.signature)
    assert len({commitment.encode() for commitment, _ in spent}) == len(spent) == 8
    assert coordinator.commit(0, respondents[0].commitment()) == []


def test_a_commitment_that_was_copied_serves_its_owner_alone():
    """spec: TK-48, TK-49"""
    coordinator, respondents, task, _ = a_roast()
    copied = respondents[0].commitment()
    commitments = [copied, copied, *(each.commitment() for each in respondents[2:])]
    opened = [
        each
        for place, commitment in enumerate(commitments)
        for each in coordinator.commit(place, commitment)
    ]
    assert [place for place, _ in opened] == [0, 1, 2, 3, 4]
    assert respondents[1].open(1, opened[1][1]) is None
    # Not even who believes the commitment to be its own has the nonce.
    respondents[1]._given = copied
    assert respondents[1].open(1, opened[1][1]) is None
    waiting = deque(opened)
    while waiting and coordinator.signature is None:
        place, message = waiting.popleft()
        if place != 1:
            waiting += coordinator.take(place, respondents[place].open(place, message))
    SEVEN[1][0].public.verify(task.message, coordinator.signature)
    assert (coordinator.evidence, coordinator.malicious) == ([], set())


def test_a_member_answers_each_session_once_and_with_the_same_bytes():
    """spec: TK-50"""
    coordinator, respondents, _, spent = a_roast()
    for place in range(4):
        assert coordinator.commit(place, respondents[place].commitment()) == []
    [first, *_] = coordinator.commit(4, respondents[4].commitment())
    message = first[1]
    answer = respondents[0].open(0, message)
    assert respondents[0].open(0, message) is answer
    assert len(spent) == 1
    again = replace(message, number=message.number + 1)
    assert respondents[0].open(0, again) is None
    assert len(spent) == 1
    with pytest.raises(RemoteProtocolError, match="not one of its sender"):
        respondents[1].open(1, replace(message, number=number_of(3, 1, 0)))
    with pytest.raises(RemoteProtocolError, match="cannot be"):
        respondents[1].open(1, replace(message, signers=message.signers[:3]))
    fresh = respondents[0].commitment()
    assert fresh == answer.following
    respondents[0].burn()
    assert respondents[0].commitment() != fresh


def test_a_member_that_lost_its_nonces_is_believed_by_its_boot_alone():
    """spec: TK-48"""
    coordinator, respondents, _, _ = a_roast()
    for place in range(5):
        coordinator.commit(place, respondents[place].commitment())
    assert coordinator.pending_of(2) is not None
    again = respondents[2]._pool.commit(1)[0]
    assert coordinator.commit(2, again) == []
    assert coordinator.pending_of(2) is not None
    keys = SEVEN[1]
    for boot in range(2, 8):
        coordinator.commit(2, NoncePool(keys[2].share, boot).commit(1)[0])
    assert not coordinator.is_waiting_for(2)


def test_sessions_without_end_are_refused():
    _, respondents, task, _ = a_roast()
    public = SEVEN[1][0].public
    for count in range(respondents[0].sessions_max + 1):
        signers = tuple((place, respondents[place].commitment()) for place in range(5))
        message = Open(task.id, number_of(0, 1, count), signers)
        if count < respondents[0].sessions_max:
            assert respondents[0].open(0, message) is not None
        else:
            with pytest.raises(RemoteProtocolError, match="without end"):
                respondents[0].open(0, message)
    assert public.run.threshold == 5


def test_a_member_that_was_away_asks_for_signatures():
    """spec: TK-52"""
    table = Table()
    table.certify()
    table.wait(20_000)
    table.again(3)
    table.wait(5_000)
    assert table.machines[3].open_tasks == 0
    found = [each.task.id for each in table.all_of(Signed)[3]]
    assert len(found) == 2
    assert len(set(found)) == 1
    assert all(
        len({each.session for each in seen}) == len({each.commitment for each in seen})
        for seen in table.all_of(Spent)
    )
    # With what it stored, there is nothing left to ask for.
    table.again(3, dict(table.signatures()[3]))
    assert table.machines[3].open_tasks == 0


@pytest.mark.parametrize("keys", [CHECKPOINTS, TREASURIES])
def test_a_snapshot_stands_for_all_epochs_before_it(keys):
    """spec: TK-53"""
    table = Table(keys, quiet={0, 1, 2, 3})
    table.certify()
    table.again(1)
    table.certify(alive=(0, 1, 2))
    table.append(2, Kind.SIGNING_EVIDENCE, _evidence(*CHECKPOINTS).encode())
    table.certify()
    table.certify()
    for member, machine in enumerate(table.machines):
        assert machine.open_tasks >= 1
        snapshot, done = machine.snapshot(), table.signatures()[member]
        again = table.machine(member)
        again.restore((), done, table.now, snapshot)
        assert again.snapshot() == snapshot
        whole = table.machine(member)
        whole.restore(table.epochs, done, table.now)
        assert whole.snapshot() == snapshot
        assert [again.open_commitments(each) for each in range(4)] == [
            whole.open_commitments(each) for each in range(4)
        ]
        for length in (0, 3, 60, len(snapshot) - 1):
            with pytest.raises(CodecError):
                table.machine(member).restore((), done, table.now, snapshot[:length])
    # Who goes on from one takes part as if it had seen everything.
    table.quiet = set()
    snapshot, done = table.machines[2].snapshot(), table.signatures()[2]
    table.again(2, done, snapshot)
    table.certify()
    table.wait(20_000)
    assert all(machine.open_tasks == 0 for machine in table.machines)
    assert len({frozenset(each.items()) for each in table.signatures()}) == 1


def test_books_are_begun_anew_so_that_one_with_a_gap_is_that_of_the_others(monkeypatch):
    """spec: TK-57"""
    monkeypatch.setattr(signing, "BOOK_EPOCHS", 6)
    table = Table()
    table.certify()
    table.certify()
    snapshot, done = table.machines[2].snapshot(), table.signatures()[2]
    # Member 2 is away for some epochs, and never sees what they consist of.
    table.machines[2] = table.machine(2)
    table.machines[2].handle = lambda *_: None
    for _ in range(3):
        table.certify((0, 1, 3))
    table.again(2, done, snapshot)
    table.certify()
    table.wait(20_000)
    assert len({machine.snapshot() for machine in table.machines}) == 2
    table.certify()
    table.wait(20_000)
    books = {machine.snapshot() for machine in table.machines}
    assert len(books) == 1
    assert all(machine.open_tasks == 0 for machine in table.machines)
    # What was published meanwhile is in the book now, and one round is enough.
    table.sent.clear()
    table.certify()
    assert {type(message) for _, _, message in table.sent} == {Share}
    assert all(machine.open_tasks == 0 for machine in table.machines)


def test_peers_that_break_the_protocol_lose_their_link():
    table = Table(quiet={0, 1, 2, 3})
    table.certify()
    [[task_id]] = [list(table.machines[0]._tasks)]
    each = table.machines[0]._tasks[task_id]
    no_leader = next(place for place in range(1, 4) if place not in each.coordinators)
    leader = next(place for place in range(1, 4) if place in each.coordinators)
    signer = min(each.first.missing)
    wrong = SignedShare(each.first.session.id + bytes(32), bytes(64))
    for member, message in (
        (no_leader, Invite(task_id)),
        (signer, Share(task_id, 0, wrong, None)),
        (leader, Done(task_id, bytes(64))),
    ):
        table.machines[0].handle(Heard(member, message), table.now)
        effects = []
        while (effect := table.machines[0].poll()) is not None:
            effects.append(effect)
        assert [type(effect) for effect in effects] == [Close]
        assert effects[0].member == member


class Counting:
    """Counts the signatures that it checks."""

    def __init__(self):
        self.count = 0

    def is_signed(self, *args):
        self.count += 1
        return VERIFIER.is_signed(*args)


def test_a_share_that_is_of_no_use_costs_no_check():
    table = Table(quiet={0, 1, 2, 3})
    table.certify()
    machine = table.machines[0]
    counting = machine._verifier = Counting()
    [(task, each)] = machine._tasks.items()
    signer = min(each.first.missing)
    [own] = [say.message for say in table.seen[signer] if isinstance(say, Say)][:1]
    key = table.log.keys[signer]
    other = SignedShare.sign(key, bytes(32) + own.signed.share[32:])
    for _ in range(20):
        machine.handle(Heard(signer, replace(own, signed=other)), table.now)
        machine.handle(Heard(signer, Share(task, number_of(0, 1, 0), other, None)), table.now)
    assert counting.count == 0
    for _ in range(20):
        machine.handle(Heard(signer, own), table.now)
    assert counting.count == 1
    assert signer not in each.first.missing
    assert machine.poll() is None


def test_of_a_segment_so_much_counts_as_an_honest_member_says():
    """spec: TK-39"""
    log, keys = CHECKPOINTS
    public = keys[0].public
    published = [
        Published(public.transcript, tuple(NoncePool(keys[each].share, 1).commit(3))).encode()
        for each in range(2)
    ]
    noise = _entry(log, 0, Kind.NONCE_RESET, encode_reset(bytes(32), 9))
    others = [_entry(log, 0, Kind.SHARE_BATCH, b""), _entry(log, 1, Kind.COMMITMENTS, published[1])]
    for count, is_counted in ((COUNTED_MAX - 1, True), (COUNTED_MAX, False)):
        book = Book(public, range(4), VERIFIER)
        first = _entry(log, 0, Kind.COMMITMENTS, published[0])
        book.count([first, *others, *[noise] * count, *others[:1]])
        assert book.open_of(0) == (3 if is_counted else 0)
        assert book.open_of(1) == 3


def test_whoever_is_out_is_not_proven_guilty_again():
    log, keys = CHECKPOINTS
    evidence = _evidence(log, keys)
    counting = Counting()
    book = Book(keys[0].public, range(4), counting)
    book.count([_entry(log, 1, Kind.SIGNING_EVIDENCE, evidence.encode())] * 9)
    assert (book.excluded, counting.count) == ({3}, 1)


def test_a_task_that_is_open_again_is_not_signed_twice_under_one_number():
    """spec: TK-29, TK-50"""
    log, keys = SEVEN
    public = keys[0].public
    task = tasks_of(certified_of(log, 4), public, spends)[0]
    place = coordinators(public, task.id)[0]
    pools = [NoncePool(each.share, 1) for each in keys]
    spent = []

    def session():
        respondents = [
            Respondent(public, task, place, pool, log.keys[each], lambda *said: spent.append(said))
            for each, pool in enumerate(pools)
        ]
        given = [(each, respondents[each].commitment()) for each in range(5)]
        return respondents[0], Open(task.id, number_of(place, 1, 0), tuple(given))

    first, opened = session()
    assert first.open(0, opened) is not None
    first.burn()
    # The state wanted it no more, and does now: the coordinator counts from 0 again.
    second, opened = session()
    unspent = pools[0].unspent
    assert second.open(0, opened) is None
    assert pools[0].unspent == unspent - 1
    assert len(spent) == 1
    assert second.commitment() not in (None, dict(opened.signers)[0])


def test_early_messages_wait_for_their_task_within_bounds():
    table = Table(quiet={0, 1, 2, 3})
    for number in range(200):
        task = sha256(b"%d" % number).digest()
        table.machines[0].handle(Heard(1, Invite(task)), 0)
        table.machines[0].handle(Heard(2, Invite(task)), 0)
    assert [len(each) for each in table.machines[0]._early.values()] == [64, 64]


def test_messages_are_read_as_they_are_written():
    """spec: TK-51"""
    commitment = NoncePool(CHECKPOINTS[1][0].share, 1).commit(1)[0]
    signed, task = SignedShare(b"\1" * 64, b"\2" * 64), b"\3" * 32
    messages = {
        64: Share(task, 5, signed, commitment),
        65: Invite(task),
        66: Commit(task, commitment),
        67: Open(task, 5, ((0, commitment), (1, commitment))),
        68: Done(task, b"\4" * 64),
        69: Ask(task),
    }
    for number, message in messages.items():
        data = encode_signing(message)
        assert data[0] == number
        assert is_signing(data)
        assert decode_signing(data) == message
        for length in range(len(data)):
            with pytest.raises(CodecError):
                decode_signing(data[:length])
        with pytest.raises(CodecError):
            decode_signing(data + b"\0")
    assert encode_signing(messages[64])[1:41] == task + (5).to_bytes(8, "little")
    assert not is_signing(b"\x0a")
    assert not is_signing(b"")
    with pytest.raises(CodecError, match="no kind"):
        decode_signing(b"\xff")
    published = Published(task, (commitment,))
    assert Published.decode(published.encode()) == published
    for wrong in (published.encode()[:-1], task + b"\0", task + b"\1" + bytes(82), task + b"\x41"):
        with pytest.raises(CodecError):
            Published.decode(wrong)
    with pytest.raises(CodecError, match="ascending"):
        Published.decode(Published(task, (commitment, commitment)).encode())


def test_limits_with_which_nothing_could_be_signed_are_refused():
    with pytest.raises(LocalProtocolError):
        SigningLimits(window=1)
    with pytest.raises(LocalProtocolError):
        SigningLimits(window=65)
    with pytest.raises(LocalProtocolError):
        SigningLimits(patience_ms=0)


def test_a_slot_behind_which_there_is_none_is_no_commitment():
    """spec: TK-38, TK-39"""
    log, keys = CHECKPOINTS
    public = keys[0].public
    [honest] = NoncePool(keys[2].share, 1).commit(1)
    for boot, slot, is_one in ((1, U64_MAX - 1, True), (U64_MAX, 7, True), (1, U64_MAX, False)):
        made = u64(boot) + u64(slot) + honest.encode()[16:]
        payload = public.transcript + b"\1" + made
        book = Book(public, range(4), VERIFIER)
        book.count([_entry(log, 2, Kind.COMMITMENTS, payload)])
        assert book.open_of(2) == is_one
        again = Book(public, range(4), VERIFIER)
        again.restore(Reader(book.encode()))
        assert again.encode() == book.encode()


def test_a_book_that_is_begun_anew_is_that_of_whoever_saw_nothing_before():
    """spec: TK-57"""
    log, keys = CHECKPOINTS
    public = keys[0].public
    pool = NoncePool(keys[2].share, 5)
    payloads = [Published(public.transcript, tuple(pool.commit(3))).encode() for _ in range(2)]
    first, second = (_entry(log, 2, Kind.COMMITMENTS, payload) for payload in payloads)
    evidence = _entry(log, 1, Kind.SIGNING_EVIDENCE, _evidence(log, keys).encode())
    book, fresh = Book(public, range(4), VERIFIER), Book(public, range(4), VERIFIER)
    book.count([first, evidence])
    assert [len(each) for each in book.empty()] == [0, 0, 3, 0]
    assert book.encode() == fresh.encode()
    for each in (book, fresh):
        each.count([second, evidence])
    assert book.encode() == fresh.encode()
    assert (book.open_of(2), book.excluded) == (3, {3})


def test_what_a_copy_has_published_is_not_signed_by():
    """spec: TK-26, TK-46"""
    table = Table()
    keys = table.generated
    # Of the same boot, and of nonces that only the copy has.
    copy = NoncePool(keys[1].share, 1)
    copy.commit(LIMITS.window)
    payload = Published(keys[0].public.transcript, tuple(copy.commit(40))).encode()
    table.append(1, Kind.COMMITMENTS, payload)
    for _ in range(12):
        table.certify()
        table.wait(20_000)
    assert [len(each) for each in table.signatures()] == [12] * 4
    assert table.all_of(Accuse) == [[]] * 4
    own = {each.commitment.encode() for each in table.all_of(Spent)[1]}
    assert own.isdisjoint(each.encode() for each in Published.decode(payload).commitments)

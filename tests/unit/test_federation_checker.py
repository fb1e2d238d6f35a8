"""The checker of processes' remains finds what is wrong: histories written by who has all keys."""

from contextlib import closing
from dataclasses import replace

import pytest
from federation_checker import CheckError, FederationChecker, Remains
from federation_net import Net, rules_of
from federation_process import Miner, shares_of
from shares import Key

from radpool_sv2._native.threshold import TREASURY
from radpool_sv2.federation.agreement.mark import Cut, Ending, Mark
from radpool_sv2.federation.broadcast.entry import START, Entry
from radpool_sv2.federation.broadcast.payload import Kind, payload_digest
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.keys.table import KeptSpent
from radpool_sv2.federation.record import Applied, Checkpointed, Decided, Grown, Started
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.state.ledger import syndicate_script
from radpool_sv2.federation.state.payload import KeySaid
from radpool_sv2.federation.statement import Echo, Phase, StateRoot, Vote

EPOCHS = 3
MEMBERS = range(4)


class History:
    """What four members have decided; a test changes it before it is written to their stores."""

    def __init__(self, directory):
        self.directory = directory
        self.net = Net(directory)
        self.committee = self.net.committee
        self.accounting = Accounting(rules_of(self.committee))
        self.miners = [
            Miner(me, Key(self.net.secrets[me]), None, self.accounting, life=bytes([me] * 6))
            for me in MEMBERS
        ]
        self.streams = [[] for _ in MEMBERS]
        self.positions = [START] * 4
        self.ends = [0] * 4
        self.endings = {}
        self.cuts, self.states, self.decisions, self.checkpoints = [], [], [], []
        self.acknowledged = [{} for _ in MEMBERS]
        for me in MEMBERS:
            key = KeySaid(TREASURY, Key().public, bytes(32))
            self.add(me, Kind.KEY_SAID, key.encode())
        self.cut()

    def add(self, me, kind, payload):
        at = self.positions[me]
        entry = Entry.sign(self.committee, me, self.net.signers[me], at, (kind, payload))
        self.positions[me] = at.after(entry)
        self.streams[me].append(entry)
        return entry

    def work(self):
        """Every member says what it knows of the chain, and seals a batch on it."""
        height = len(self.cuts)
        for me, miner in enumerate(self.miners):
            miner.script = syndicate_script(self.accounting.rules, self.ledger)
            for payload in miner.tips(height, self.net.chain.hash_of):
                self.add(me, *payload)
            for kind, payload in miner.batch(height + 1, self.net.chain.hash_of(height), 2):
                self.add(me, kind, payload)
                if kind == Kind.SHARE_BATCH:
                    self.acknowledged[me][payload_digest(payload)] = shares_of(payload)

    @property
    def ledger(self):
        return self.accounting.ledger(self.states[-1])

    def certificate(self, statement):
        signatures = {me: self.net.signers[me].sign(statement.digest) for me in MEMBERS}
        return Certificate.of(statement, signatures, self.committee)

    def decision(self, cut):
        digest = cut.digest(self.committee.id)
        return self.certificate(Vote(self.committee.id, cut.epoch, 0, Phase.FINALISE, digest))

    def checkpoint(self, epoch, root):
        return self.certificate(StateRoot(self.committee.id, epoch, root))

    def cut(self, members=MEMBERS):
        """Ends an epoch with the streams of members."""
        epoch = len(self.cuts)
        height = self.committee.height_of(epoch)
        endings, segments = [], []
        for me in MEMBERS:
            mark = Mark(epoch, height, self.net.chain.hash_of(height))
            entry = self.add(me, Kind.EPOCH_MARK, mark.encode())
            if me in members:
                endings.append(Ending(me, entry.header.seq, entry.header.digest))
                segments.append(self.streams[me][self.ends[me] :])
                self.ends[me] = entry.header.seq + 1
                self.endings[me] = epoch, endings[-1]
        cut = Cut(epoch, tuple(endings))
        state = self.accounting.apply(self.states[-1] if self.states else b"", epoch, segments)
        start = Started(epoch + 1, tuple(each for _, each in sorted(self.endings.items())))
        self.cuts.append(cut)
        self.states.append(state)
        self.decisions.append(self.decision(cut))
        self.checkpoints.append(self.checkpoint(epoch, start.root(self.accounting.root(state))))

    def store(self, name, me):
        file = self.directory / name / "federation.sqlite"
        return closing(self.net.store(me, file))

    def write(self, me, **changes):
        """Writes a member's store; `changes` are lists that it has instead of the history's."""
        parts = {"streams": self.streams, "cuts": self.cuts, "decisions": self.decisions}
        parts |= {"checkpoints": self.checkpoints, "states": self.states} | changes
        with self.store(str(me), me) as store:
            for sender, entries in enumerate(parts["streams"]):
                last = entries[-1].header
                echo = Echo(last.committee, sender, last.seq, last.previous, last.digest)
                store.write(Grown(self.certificate(echo), tuple(entries)))
            for epoch, (cut, decision) in enumerate(
                zip(parts["cuts"], parts["decisions"], strict=True)
            ):
                root = self.accounting.root(parts["states"][epoch])
                store.write(Decided(decision, cut))
                store.keep_state(epoch, parts["states"][epoch])
                store.write(Applied(epoch, root))
                store.write(Checkpointed(parts["checkpoints"][epoch]))
            commit(store)
        return Remains(
            me,
            self.directory / str(me) / "federation.sqlite",
            dict(self.acknowledged[me]),
            [((1, "0,0"), "00")],
            [self.directory / str(me) / "federation.sqlite"],
        )

    def remains(self, **changes_of_last):
        """Writes all stores; the last member's may differ."""
        return [*(self.write(me) for me in range(3)), self.write(3, **changes_of_last)]

    def check(self, remains):
        return FederationChecker(self.committee, self.accounting).check(remains, len(self.cuts))


def commit(store):
    writes = store.take()
    store.commit(writes)
    store.done(writes)


@pytest.fixture
def history(tmp_path):
    made = History(tmp_path)
    for _ in range(EPOCHS - 1):
        made.work()
        made.cut()
    return made


def other(values, place, value):
    return [*values[:place], value, *values[place + 1 :]]


def refused(history, remains, why):
    with pytest.raises(CheckError, match=why):
        history.check(remains)


def test_what_is_as_it_has_to_be_passes(history):
    found = history.check(history.remains())
    assert (found.epochs, found.batches, found.shares) == (EPOCHS, 8, 16)


def test_a_member_that_was_left_out_and_came_late_passes(history):
    history.work()
    history.cut(members=(0, 1, 2))
    history.work()
    history.cut()
    assert history.check(history.remains()).shares == 32


def test_a_share_that_was_acknowledged_and_is_in_no_epoch(history):
    remains = history.remains()
    remains[1].acknowledged[b"\x07" * 32] = 5
    refused(history, remains, r"batch of 5 shares of member 1.*in epochs \[\]")


def test_a_share_that_waits_for_an_epoch_which_does_not_come(history):
    history.work()
    refused(history, history.remains(), r"in epochs \[\]")


def test_a_batch_that_is_in_two_epochs(history):
    batch = next(each for each in history.streams[2] if each.header.kind == Kind.SHARE_BATCH)
    history.add(2, Kind.SHARE_BATCH, batch.payload)
    history.cut()
    refused(history, history.remains(), r"of member 2.*in epochs \[1, 3\]")


def test_a_batch_that_only_another_member_has_said(history):
    height = len(history.cuts)
    made = history.miners[2].batch(height + 1, history.net.chain.hash_of(height), 2)
    [batch] = [payload for kind, payload in made if kind == Kind.SHARE_BATCH]
    history.acknowledged[2][payload_digest(batch)] = shares_of(batch)
    history.add(3, Kind.SHARE_BATCH, batch)
    history.cut()
    refused(history, history.remains(), r"of member 2.*in epochs \[\]")


def test_a_batch_of_which_its_author_knows_nothing(history):
    remains = history.remains()
    remains[0].acknowledged.clear()
    refused(history, remains, "2 batches count of which")


def test_a_void_batch(history):
    history.miners[0].sequence += 1
    history.work()
    history.cut()
    refused(history, history.remains(), "epoch 3 has 0 stale shares and void batches: .*CHAIN")


def test_stale_shares(history):
    hash_of = history.net.chain.hash_of
    history.net.chain.hash_of = lambda height: hash_of(height + 1_000)
    history.work()
    history.cut()
    refused(history, history.remains(), "epoch 3 has 8 stale shares")


def test_shares_that_are_not_all_counted(history):
    remains = history.remains()

    class Forgetful:
        """Is a state function whose books lack what they have signed."""

        def __init__(self, accounting):
            self.apply, self.root = accounting.apply, accounting.root
            self.ledger_of = accounting.ledger

        def ledger(self, state):
            ledger = self.ledger_of(state)
            return replace(ledger, rows=ledger.rows[1:])

    history.accounting = Forgetful(history.accounting)
    refused(history, remains, "epoch 1 counts 7 shares of 8|epoch 1 counts 6 shares of 8")


def test_two_decisions_of_an_epoch(history):
    cut = replace(history.cuts[2], endings=history.cuts[2].endings[:3])
    remains = history.remains(
        cuts=other(history.cuts, 2, cut),
        decisions=other(history.decisions, 2, history.decision(cut)),
    )
    refused(history, remains, "epoch 2 is decided twice: members 0 and 3")


def test_a_decision_of_another_cut(history):
    decisions = other(history.decisions, 1, history.decisions[2])
    remains = history.remains(decisions=decisions)
    refused(history, remains, "decision of epoch 1 at member 3 is of another cut")


def test_a_decision_that_no_quorum_has_signed(history):
    right = history.decisions[1]
    (first, _), *rest = right.signatures
    wrong = replace(right, signatures=((first, bytes(64)), *rest))
    remains = history.remains(decisions=other(history.decisions, 1, wrong))
    refused(history, remains, "decision of epoch 1 at member 3: the certificate's signature")


def test_two_roots_of_an_epoch(history):
    wrong = history.checkpoint(1, bytes(32))
    remains = history.remains(checkpoints=other(history.checkpoints, 1, wrong))
    refused(history, remains, "epoch 1 has two roots: members 0 and 3")


def test_a_root_that_all_have_signed_and_that_is_not_the_state(history):
    history.checkpoints[1] = history.checkpoint(1, bytes(32))
    refused(history, history.remains(), "root of epoch 1 is not that of its state")


def test_a_state_that_is_not_what_was_certified(history):
    remains = history.remains(states=other(history.states, 2, history.states[1]))
    refused(history, remains, "members 0 and 3 have different states")


def test_a_last_state_that_all_have_and_that_is_not_what_was_certified(history):
    states = other(history.states, 2, history.states[1])
    remains = [history.write(me, states=states) for me in MEMBERS]
    refused(history, remains, "the state behind the last epoch is not what its entries make")


def test_streams_that_differ_behind_the_last_epoch(history):
    at = history.positions[1]
    streams = []
    for payload in (b"one", b"another"):
        entry = Entry.sign(history.committee, 1, history.net.signers[1], at, (8, payload))
        streams.append(other(history.streams, 1, [*history.streams[1], entry]))
    history.streams, theirs = streams
    remains = history.remains(streams=theirs)
    refused(history, remains, rf"members 0 and 3 have different entries at \(1, {at.count}\)")


def test_streams_of_different_lengths(history):
    shorter = list(history.streams)
    history.streams = list(history.streams)
    history.streams[2] = [*history.streams[2]]
    history.add(2, 8, b"one more")
    refused(history, history.remains(streams=shorter), "streams of different lengths")


def test_an_entry_that_its_author_has_not_signed(history):
    first, *rest = history.streams[0]
    forged = replace(first, signature=bytes(64))
    history.streams[0] = [forged, *rest]
    refused(history, history.remains(), "entry 0 of member 0 .* is not signed")


def test_a_member_that_is_behind_or_ahead(history):
    parts = ("cuts", "decisions", "checkpoints", "states")
    behind = {name: getattr(history, name)[:-1] for name in parts}
    remains = history.remains(**behind)
    refused(history, remains, "member 3 has not certified epoch 2")
    with pytest.raises(CheckError, match="member 0 has decided more than 2 epochs"):
        FederationChecker(history.committee, history.accounting).check(remains, 2)


def test_two_statements_of_one_slot(history):
    remains = history.remains()
    remains[2].said.append(((1, "0,0"), "01"))
    refused(history, remains, "member 2 signed two statements of slot")


def test_two_nonces_of_one_place(history):
    remains = history.remains()
    for number in (1, 2):
        with history.store("1", 1) as store:
            store.keep(KeptSpent(bytes(32), b"commitment %d" % number, 1, 0, bytes([number] * 32)))
            commit(store)
        if number == 1:
            assert history.check(remains).nonces == 1
    refused(history, remains, "member 1 had two nonces at 1/0")


def test_a_nonce_that_a_copy_has_used_too(history, tmp_path):
    remains = history.remains()
    copy = tmp_path / "copy" / "federation.sqlite"
    for name, session in (("1", b"\x01" * 32), ("copy", b"\x02" * 32)):
        with history.store(name, 1) as store:
            store.keep(KeptSpent(bytes(32), b"a commitment", 1, 0, session))
            commit(store)
    assert history.check(remains).nonces == 1
    remains[1].stores.append(copy)
    refused(history, remains, "member 1 signed twice by nonce 1/0")

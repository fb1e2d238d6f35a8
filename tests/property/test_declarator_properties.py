"""Random conversations with a declaring connection: what holds whatever the order of events."""

import random

from declarator_rig.bench import Bench
from declarator_rig.part import halves, job, named, owner, solve
from hypothesis import given, settings
from hypothesis import strategies as st

from radpool_sv2.declarator.effect import (
    Close,
    FindOwner,
    Judge,
    Judged,
    OwnerFound,
    Publish,
    Refused,
    Resolve,
    Resolved,
    Send,
)
from radpool_sv2.declarator.machine import (
    DECLARATION_BYTES_MAX,
    TRANSACTIONS_BYTES_MAX,
)
from radpool_sv2.declarator.token import TokenLimits
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.wire.frame import Frame
from radpool_sv2.wire.message.job_declaration import (
    AllocateMiningJobToken,
    AllocateMiningJobTokenSuccess,
    DeclareMiningJob,
    DeclareMiningJobError,
    DeclareMiningJobSuccess,
    ProvideMissingTransactions,
    ProvideMissingTransactionsSuccess,
    PushSolution,
)

PENDING_MAX = 3
WAITING_MAX = 4
WTXIDS = tuple(named(f"wtxid {n}") for n in range(6))
PREFIX, SUFFIX = halves()


class Conversation:
    """Plays client, ledger and node at random, and checks each answer."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.bench = Bench(
            tokens_per_minute=600,
            tokens_burst=3,
            tokens_waiting_max=WAITING_MAX,
            declarations_per_minute=600,
            declarations_burst=4,
            declarations_pending_max=PENDING_MAX,
            provide_deadline_s=5.0,
            jobs_kept_max=2,
            solutions_bad_max=3,
            token_limits=TokenLimits(allocated_per_connection_max=4, declared_per_connection_max=3),
        )
        self.machine = self.bench.machine
        self.request = 0
        self.tickets = set()
        self.finding, self.resolving, self.judging = [], [], []
        self.asked = {}
        self.allocating, self.open = set(), set()
        self.tokens, self.presented, self.answered = [], [], set()
        self.jobs = []
        self.is_closed = False

    def take(self, effects):
        for effect in effects:
            assert not self.is_closed, "nothing follows a close"
            match effect:
                case Send(message):
                    self.answer(message)
                case FindOwner(ticket) | Resolve(ticket) | Judge(ticket):
                    queue = {
                        FindOwner: self.finding,
                        Resolve: self.resolving,
                        Judge: self.judging,
                    }[type(effect)]
                    queue.append(effect)
                    if not isinstance(effect, Judge):
                        assert ticket not in self.tickets, "tickets never repeat"
                        self.tickets.add(ticket)
                case Publish(declared):
                    assert declared in self.jobs[-2:], "a block of a template that was accepted"
                case Close():
                    self.is_closed = True

    def answer(self, message):
        match message:
            case AllocateMiningJobTokenSuccess(request_id, token):
                self.allocating.remove(request_id)
                self.tokens.append(token)
            case DeclareMiningJobSuccess(request_id) | DeclareMiningJobError(request_id):
                self.open.remove(request_id)
                self.asked.pop(request_id, None)
            case ProvideMissingTransactions(request_id, positions):
                assert request_id in self.open
                assert list(positions) == sorted(set(positions))
                self.asked[request_id] = positions

    def check(self):
        machine = self.machine
        assert machine.pending <= PENDING_MAX
        assert machine.frame_bytes_max in (DECLARATION_BYTES_MAX, TRANSACTIONS_BYTES_MAX)
        if self.is_closed:
            assert machine.closed
            assert machine.pending == 0
            assert machine.next_deadline() is None
        else:
            long = machine.frame_bytes_max == TRANSACTIONS_BYTES_MAX
            assert long == bool(self.asked), "long frames only while they are due"
            assert len(self.allocating) <= WAITING_MAX
            assert len(self.open) == machine.pending, "each declaration is answered once"
            due = machine.next_deadline()
            assert not self.asked or due is not None

    # What may happen.

    def ask(self):
        self.request += 1
        self.allocating.add(self.request)
        self.take(self.bench.receive(AllocateMiningJobToken("alice", self.request)))

    def find(self):
        if self.finding:
            effect = self.finding.pop(self.random.randrange(len(self.finding)))
            found = OwnerFound(effect.ticket, owner(), b"\x00", self.bench.draw())
            self.take(self.bench.handle(found))

    def declare(self):
        token = self.random.choice([*self.tokens, named("guess")])
        self.request += 1
        self.open.add(self.request)
        before = len(self.resolving)
        self.take(
            self.bench.receive(
                DeclareMiningJob(self.request, token, 2, PREFIX, SUFFIX, WTXIDS, b"")
            )
        )
        if len(self.resolving) > before:
            assert token not in self.presented, "a token pays for one declaration"
            self.presented.append(token)

    def resolve(self):
        if self.resolving:
            effect = self.resolving.pop(self.random.randrange(len(self.resolving)))
            count = self.random.choice([0, 0, 1, 3])
            missing = tuple(sorted(self.random.sample(range(6), count)))
            event = Resolved(effect.ticket, missing)
            if self.random.random() < 0.2:
                event = Refused(effect.ticket, "stale-chain-tip", "another block")
            self.take(self.bench.handle(event))

    def provide(self):
        request, positions = self.random.choice([*self.asked.items(), (999_999, (1,))])
        if request == 999_999 and self.random.random() < 0.9:
            return
        count = len(positions) + self.random.choice([0, 0, 0, 0, 1])
        raws = tuple(bytes([n]) for n in range(count))
        self.asked.pop(request, None)
        self.take(self.bench.receive(ProvideMissingTransactionsSuccess(request, raws)))

    def judge(self):
        if self.judging:
            effect = self.judging.pop(self.random.randrange(len(self.judging)))
            if self.random.random() < 0.3:
                self.take(self.bench.handle(Refused(effect.ticket, "invalid-job", "bad")))
                return
            made = job(coinbase=effect.declaration.coinbase)
            self.jobs.append(made)
            self.take(self.bench.handle(Judged(effect.ticket, made, self.bench.draw())))

    def push(self):
        if self.jobs:
            good = solve(self.random.choice(self.jobs))
            if self.random.random() < 0.1:
                good["prev_hash"] = named("elsewhere")
            self.take(self.bench.receive(PushSolution(**good)))

    def noise(self):
        number = self.random.choice([0x00, 0x1B, 0x51, 0x58, 0x7F])
        self.take(self.bench.handle_frame(Frame(0x4E45, number, False, b"?")))

    def wait(self):
        self.take(self.bench.later(self.random.choice([0.01, 0.1, 1.0, 1.0, 6.0])))

    def run(self, steps):
        acts = [self.ask, self.find, self.declare, self.declare, self.resolve, self.resolve]
        acts += [self.provide, self.judge, self.judge, self.push, self.noise, self.wait]
        for _ in range(steps):
            self.random.choice(acts)()
            self.check()
            if self.is_closed:
                break


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_order_of_events_keeps_the_bounds(seed):
    """spec: JD-5, JD-18, JD-32"""
    Conversation(seed).run(250)


@settings(max_examples=50, deadline=None)
@given(data=st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=80)), max_size=20))
def test_any_frames_are_answered_ignored_or_end_the_connection(data):
    bench = Bench()
    for number, payload in data:
        bench.handle_frame(Frame(0, number, False, payload))
        assert bench.machine.pending <= 4


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_tokens_against_a_model(seed):
    """spec: JD-5, JD-6, JD-7, JD-8"""
    chance = random.Random(seed)
    bench = Bench(
        token_limits=TokenLimits(
            allocated_per_connection_max=50,
            allocated_max=50,
            declared_per_connection_max=50,
            declared_max=50,
            lifetime_s=30.0,
        )
    )
    store, now, drawn = bench.tokens, 0.0, 0
    owners = [owner("alice"), owner("bob"), owner("alice", rail=1)]
    tips = [job().tip.prev_hash, named("other tip")]
    model = {}
    for _ in range(120):
        act = chance.randrange(6)
        of, connection = chance.choice(owners), chance.randrange(3)
        if act == 0 and drawn < 45:
            drawn += 1
            whole = chance.random() < 0.5
            token = named(f"{seed} {drawn}")
            store.allocate(token, connection, of, whole=whole, now=now)
            model[token] = ("whole" if whole else "hidden", connection, of, now)
        elif act == 1 and drawn < 45:
            drawn += 1
            token = named(f"{seed} {drawn}")
            store.declare(token, job(of), now)
            model[token] = ("declared", connection, of, now)
        elif act == 2:
            # Exact in binary, so that store and model round nothing.
            now += chance.choice([0.125, 5.0])
        elif act == 3 and chance.random() < 0.2:
            store.disconnected(connection)
            model = {
                key: each
                for key, each in model.items()
                if each[0] == "declared" or each[1] != connection
            }
        elif model:
            token = chance.choice(list(model))
            kind, holder, whose, since = model[token]
            alive = now - since < 30.0
            if act == 4:
                right = alive and kind == "whole" and holder == connection
                used = right
                call = (store.spend, (token, connection, now))
            else:
                prev_hash = chance.choice(tips)
                mine = alive and whose.key == of.key and kind != "whole"
                right = mine and (kind == "hidden" or prev_hash == tips[0])
                used = mine
                call = (store.claim, (token, of.key, prev_hash, now))
            try:
                call[0](*call[1])
                worked = True
            except RemoteProtocolError:
                worked = False
            assert worked == right
            if used:
                del model[token]

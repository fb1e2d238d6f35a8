"""The machine of a declaring connection: what it asks for, answers and refuses."""

import pytest
from declarator_rig.bench import Bench
from declarator_rig.part import (
    POOL_SCRIPT,
    halves,
    job,
    named,
    output,
    owner,
    solve,
    tip,
)

from radpool_sv2.declarator.effect import (
    Close,
    FindOwner,
    Forget,
    Judge,
    Judged,
    OwnerFound,
    Publish,
    Refused,
    Resolve,
    Resolved,
    Send,
)
from radpool_sv2.declarator.machine import DECLARATION_BYTES_MAX, TRANSACTIONS_BYTES_MAX
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.wire.frame import Frame
from radpool_sv2.wire.message.job_declaration import (
    TRANSACTIONS_MAX,
    AllocateMiningJobToken,
    DeclareMiningJob,
    DeclareMiningJobError,
    DeclareMiningJobSuccess,
    ProvideMissingTransactions,
    ProvideMissingTransactionsSuccess,
    PushSolution,
)

WTXIDS = tuple(named(f"wtxid {n}") for n in range(5))


@pytest.fixture
def bench():
    return Bench()


def provide(request, *raws):
    return ProvideMissingTransactionsSuccess(request, tuple(raws))


def refusal(effects):
    [message] = [each.message for each in effects if isinstance(each, Send)]
    assert isinstance(message, DeclareMiningJobError)
    return message


# --- tokens


def test_token_is_given_with_its_outputs(bench):
    """spec: JD-2, JD-4"""
    [find] = bench.receive(AllocateMiningJobToken("alice.rig,z=20", 7))
    assert find == FindOwner(find.ticket, "alice.rig,z=20")
    token = bench.draw()
    [send] = bench.handle(OwnerFound(find.ticket, owner(), b"\x02outputs", token))
    answer = send.message
    assert (answer.request_id, answer.mining_job_token) == (7, token)
    assert answer.coinbase_tx_outputs == b"\x02outputs"
    assert bench.tokens.spend(token, 1, bench.now) == owner()


def test_owner_that_cannot_be_closes_the_connection(bench):
    """There is no message that refuses a token.

    spec: JD-1
    """
    [find] = bench.receive(AllocateMiningJobToken("", 7))
    effects = bench.handle(Refused(find.ticket, "invalid-user-identity", "it names no account"))
    assert effects == [Close("invalid-user-identity", "it names no account")]
    assert bench.machine.closed


def test_tokens_beyond_the_rate_wait_for_their_turn():
    """spec: JD-3"""
    bench = Bench(tokens_per_minute=60, tokens_burst=2, tokens_waiting_max=8)
    finds = [bench.receive(AllocateMiningJobToken("alice", n)) for n in range(4)]
    assert [len(each) for each in finds] == [1, 1, 0, 0]
    assert bench.machine.next_deadline() == bench.now + 1.0
    assert bench.later(0.9) == []
    [third] = bench.later(0.2)
    [fourth] = bench.later(1.0)
    tickets = [finds[0][0].ticket, finds[1][0].ticket, third.ticket, fourth.ticket]
    answered = []
    for ticket in reversed(tickets):
        [send] = bench.handle(OwnerFound(ticket, owner(), b"\x00", bench.draw()))
        answered.append(send.message.request_id)
    assert answered == [3, 2, 1, 0]
    assert bench.machine.next_deadline() is None


def test_more_waiting_tokens_than_allowed_close_the_connection():
    """spec: JD-3"""
    bench = Bench(tokens_per_minute=60, tokens_burst=1, tokens_waiting_max=3)
    for number in range(3):
        assert bench.closed(bench.receive(AllocateMiningJobToken("alice", number))) is None
    assert bench.closed(bench.receive(AllocateMiningJobToken("alice", 9))) == "token-rate-exceeded"


# --- declarations


def test_template_whose_transactions_are_known_is_judged_at_once(bench):
    """spec: JD-16"""
    [resolve] = bench.declare(wtxids=WTXIDS)
    assert isinstance(resolve, Resolve)
    declaration = resolve.declaration
    assert declaration.wtxids == WTXIDS
    assert declaration.owner == owner()
    assert (declaration.prefix, declaration.suffix) == halves()
    [judge] = bench.handle(Resolved(resolve.ticket, ()))
    assert judge == Judge(resolve.ticket, declaration, (), ())
    fresh = bench.draw()
    [send] = bench.handle(Judged(judge.ticket, job(), fresh))
    assert send.message == DeclareMiningJobSuccess(77, fresh)
    assert bench.machine.pending == 0


def test_only_what_is_missing_is_asked_for(bench):
    """spec: JD-13"""
    [resolve] = bench.declare(wtxids=WTXIDS)
    [send] = bench.handle(Resolved(resolve.ticket, (1, 4)))
    assert send.message == ProvideMissingTransactions(77, (1, 4))
    [judge] = bench.receive(provide(77, b"one", b"four"))
    assert (judge.missing, judge.provided) == ((1, 4), (b"one", b"four"))


@pytest.mark.parametrize("raws", [(), (b"one",), (b"one", b"four", b"five")])
def test_more_or_fewer_transactions_than_asked_for_are_refused(bench, raws):
    """spec: JD-14"""
    [resolve] = bench.declare(wtxids=WTXIDS)
    bench.handle(Resolved(resolve.ticket, (1, 4)))
    assert refusal(bench.receive(provide(77, *raws))).error_code == "missing-txs"
    assert not bench.machine.closed


def test_transactions_that_never_come(bench):
    """spec: JD-15"""
    [resolve] = bench.declare(wtxids=WTXIDS)
    bench.handle(Resolved(resolve.ticket, (1, 4)))
    assert bench.machine.next_deadline() == bench.now + 20.0
    assert bench.later(19.9) == []
    effects = bench.later(0.2)
    assert refusal(effects).error_code == "missing-txs"
    assert bench.closed(effects) == "transactions-timeout"
    assert bench.receive(provide(77, b"one", b"four")) == []


def test_transactions_that_nobody_asked_for(bench):
    """spec: JD-15"""
    assert bench.closed(bench.receive(provide(77))) == "unasked-transactions"


def test_transactions_for_another_request(bench):
    """spec: JD-15"""
    [resolve] = bench.declare(wtxids=WTXIDS)
    bench.handle(Resolved(resolve.ticket, (0,)))
    assert bench.closed(bench.receive(provide(78, b"zero"))) == "unasked-transactions"


def test_transactions_twice(bench):
    """spec: JD-15"""
    [resolve] = bench.declare(wtxids=WTXIDS)
    bench.handle(Resolved(resolve.ticket, (0,)))
    bench.receive(provide(77, b"zero"))
    assert bench.closed(bench.receive(provide(77, b"zero"))) == "unasked-transactions"


def test_verdict_is_told_with_its_exact_reason(bench):
    """spec: JD-17"""
    [resolve] = bench.declare()
    [judge] = bench.handle(Resolved(resolve.ticket, ()))
    effects = bench.handle(Refused(judge.ticket, "invalid-job", "bad-cb-amount: pays too much"))
    message = refusal(effects)
    assert message.error_code == "invalid-job"
    assert message.error_details == b"bad-cb-amount: pays too much"
    assert bench.machine.counts.refused == {"invalid-job": 1}


def test_long_reasons_are_cut_between_characters(bench):
    """spec: JD-17"""
    [resolve] = bench.declare()
    message = refusal(bench.handle(Refused(resolve.ticket, "invalid-job", "x" + "ä" * 900)))
    assert len(message.error_details) == 999
    assert message.error_details.decode().endswith("ä")


def test_token_is_used_up_whatever_comes_of_it(bench):
    """spec: JD-5"""
    token = bench.token()
    [resolve] = bench.declare(token)
    bench.handle(Refused(resolve.ticket, "invalid-job", "bad"))
    assert refusal(bench.declare(token)).error_code == "invalid-mining-job-token"


def test_token_of_another_connection(bench):
    """spec: JD-5"""
    other = Bench(connection=2, tokens=bench.tokens)
    token = other.token()
    assert refusal(bench.declare(token)).error_code == "invalid-mining-job-token"
    assert isinstance(other.declare(token)[0], Resolve)


def test_declared_token_is_no_allocated_one(bench):
    """spec: JD-5"""
    _, token = bench.accept()
    assert refusal(bench.declare(token, request=78)).error_code == "invalid-mining-job-token"


def test_declaration_on_a_connection_that_hides():
    """spec: JD-18"""
    bench = Bench(whole=False)
    message = refusal(bench.declare())
    assert message.error_code == "missing-declare-tx-data-flag"


def test_request_id_of_a_declaration_under_way(bench):
    """spec: JD-18"""
    bench.declare()
    assert bench.closed(bench.declare()) == "request-id-reused"


def test_request_id_may_come_again_later(bench):
    """spec: JD-18"""
    bench.accept(request=77)
    bench.accept(request=77)


def test_declarations_under_way_are_bounded():
    """spec: JD-18"""
    bench = Bench(declarations_pending_max=2)
    first, second = bench.declare(request=1), bench.declare(request=2)
    third = bench.token()
    message = refusal(bench.declare(third, request=3))
    assert message.error_code == "declaration-rate-exceeded"
    bench.handle(Refused(first[0].ticket, "invalid-job", "bad"))
    assert isinstance(bench.declare(third, request=4)[0], Resolve), "its token was not used up"
    assert second


def test_declarations_in_a_minute_are_bounded():
    """spec: JD-18"""
    bench = Bench(declarations_per_minute=60, declarations_burst=3)
    for number in range(3):
        bench.accept(request=number)
    assert refusal(bench.declare(request=9)).error_code == "declaration-rate-exceeded"
    bench.later(1.0)
    bench.accept(request=10)


def test_coinbase_that_cannot_be_read(bench):
    """spec: JD-9"""
    prefix, suffix = halves()
    effects = bench.receive(
        DeclareMiningJob(5, bench.token(), 0x20000000, prefix[:-9], suffix[1:], (), b"")
    )
    assert refusal(effects).error_code == "invalid-coinbase-tx"


def test_terms_are_asked_with_the_tokens_owner():
    """spec: JD-10, JD-11"""
    asked = []

    class Terms:
        def check(self, owner, coinbase):
            asked.append((owner, coinbase))
            raise RemoteProtocolError("it pays nothing", "invalid-coinbase-tx")

    bench = Bench(terms=Terms())
    message = refusal(bench.declare(outputs=[output(1, POOL_SCRIPT)]))
    assert (message.error_code, message.error_details) == (
        "invalid-coinbase-tx",
        b"it pays nothing",
    )
    [(of, coinbase)] = asked
    assert of == owner()
    assert coinbase.outputs[0].script == POOL_SCRIPT


def test_template_that_must_be_revealed():
    """A challenged template is declared with the token of its job, on any connection, more than
    once if need be; the terms of now do not matter.

    spec: JD-27
    """

    class Due:
        def owner(self, token):
            return owner("carol") if token == named("mined") else None

    class Terms:
        def check(self, owner, coinbase):
            raise AssertionError("a reveal is held against its job")

    bench = Bench(challenges=Due(), terms=Terms())
    [resolve] = bench.declare(named("mined"), request=1)
    assert resolve.declaration.challenged
    assert resolve.declaration.owner == owner("carol")
    assert refusal(bench.handle(Refused(resolve.ticket, "invalid-job", "not it")))
    [resolve] = bench.declare(named("mined"), request=2)
    [judge] = bench.handle(Resolved(resolve.ticket, ()))
    [send] = bench.handle(Judged(judge.ticket, None, named("mined")))
    assert send.message == DeclareMiningJobSuccess(2, named("mined"))
    assert bench.tokens.declared == 0, "there is nothing to mine"


# --- solutions


def push(**changes):
    return PushSolution(**changes)


def test_solution_of_the_last_template_is_published(bench):
    """spec: JD-30"""
    declared, _ = bench.accept()
    [publish] = bench.receive(push(**solve(declared)))
    assert isinstance(publish, Publish)
    assert publish.job is declared


def test_solution_is_published_once(bench):
    """spec: JD-30"""
    declared, _ = bench.accept()
    assert len(bench.receive(push(**solve(declared)))) == 1
    for _ in range(100):
        assert bench.receive(push(**solve(declared))) == []
    assert not bench.machine.closed


def test_declaration_that_is_not_judged_is_let_go(bench):
    """What was looked up for it must not stay until the connection ends."""
    [resolve] = bench.declare(wtxids=WTXIDS)
    bench.handle(Resolved(resolve.ticket, (0, 1)))
    effects = bench.receive(provide(77, b"one"))
    assert Forget(resolve.ticket) in effects
    assert refusal(effects).error_code == "missing-txs"


def test_solution_of_an_earlier_template_is_published(bench):
    """spec: JD-30"""
    first, _ = bench.accept(text=b"/first/")
    bench.accept(text=b"/second/")
    [publish] = bench.receive(push(**solve(first)))
    # On an easy target the newest template is solved by any numbers.
    assert publish.job.tip == first.tip


def test_solution_that_meets_no_target(bench):
    """spec: JD-30"""
    hard = tip(target=bytes(31) + b"\x00")
    declared = job(on=hard, connection=1)
    bench.accept(declared=declared)
    assert bench.receive(push(**solve(declared, good=False))) == []
    assert bench.machine.counts.solutions == 1


@pytest.mark.parametrize(
    "change",
    [
        {"prev_hash": named("elsewhere")},
        {"nbits": 0x1D00FFFF},
        {"extranonce": bytes(11)},
        {"extranonce": bytes(13)},
        {"extranonce": b""},
    ],
    ids=lambda change: "-".join(change),
)
def test_solution_of_something_else(bench, change):
    """spec: JD-30"""
    declared, _ = bench.accept()
    assert bench.receive(push(**{**solve(declared), **change})) == []


def test_solution_of_another_connections_template(bench):
    """spec: JD-30"""
    other = Bench(connection=2, tokens=bench.tokens)
    declared, _ = other.accept()
    assert bench.receive(push(**solve(declared))) == []
    assert isinstance(other.receive(push(**solve(declared)))[0], Publish)


def test_solution_of_a_refused_template(bench):
    """spec: JD-30"""
    [resolve] = bench.declare()
    bench.handle(Refused(resolve.ticket, "invalid-job", "bad"))
    refused = job(coinbase=resolve.declaration.coinbase)
    assert bench.receive(push(**solve(refused))) == []


def test_false_solutions_end_the_connection():
    """spec: JD-30"""
    bench = Bench(solutions_bad_max=3)
    declared, _ = bench.accept()
    wrong = push(**{**solve(declared), "prev_hash": named("elsewhere")})
    for _ in range(3):
        assert bench.receive(wrong) == []
    assert bench.closed(bench.receive(wrong)) == "bad-solutions"


# --- frames


def test_longer_frames_only_while_transactions_are_due(bench):
    """spec: JD-32"""
    assert bench.machine.frame_bytes_max == DECLARATION_BYTES_MAX
    [resolve] = bench.declare(wtxids=WTXIDS)
    assert bench.machine.frame_bytes_max == DECLARATION_BYTES_MAX
    bench.handle(Resolved(resolve.ticket, (0,)))
    assert bench.machine.frame_bytes_max == TRANSACTIONS_BYTES_MAX
    bench.receive(provide(77, b"zero"))
    assert bench.machine.frame_bytes_max == DECLARATION_BYTES_MAX


def test_longest_legal_declaration_fits():
    """spec: JD-32"""
    longest = DeclareMiningJob(
        1, bytes(255), 2, bytes(65535), bytes(65535), (bytes(32),) * TRANSACTIONS_MAX, bytes(65535)
    )
    assert len(longest.encode().payload) <= DECLARATION_BYTES_MAX


def test_longest_legal_answer_fits():
    """spec: JD-32"""
    longest = provide(1, *([bytes(240)] * (TRANSACTIONS_MAX - 1)), bytes(400))
    assert len(longest.encode().payload) <= TRANSACTIONS_BYTES_MAX


@pytest.mark.parametrize("msg_type", [0x50, 0x55, 0x56, 0x57, 0x60])
@pytest.mark.parametrize("payload", [b"", b"\x00", b"\xff" * 7], ids=["empty", "one", "seven"])
def test_malformed_messages_close(msg_type, payload):
    bench = Bench()
    effects = bench.handle_frame(Frame(0, msg_type, False, payload))
    assert bench.closed(effects) == "malformed-message"


def test_messages_with_the_channel_bit_close(bench):
    frame = AllocateMiningJobToken("alice", 1).encode()
    effects = bench.handle_frame(Frame(0, frame.msg_type, True, frame.payload))
    assert bench.closed(effects) == "malformed-message"


@pytest.mark.parametrize(
    "frame",
    [
        Frame(0, 0x00, False, b""),
        Frame(0, 0x1B, True, bytes(40)),
        Frame(0, 0x7F, False, b"?"),
        Frame(0x4E45, 0x50, False, b""),
        Frame(0x4E45, 0x50, True, b""),
    ],
    ids=["set-up again", "mining", "unknown", "extension", "extension of a channel"],
)
def test_messages_of_something_else_are_ignored(bench, frame):
    assert bench.handle_frame(frame) == []
    assert not bench.machine.closed


@pytest.mark.parametrize(
    "message",
    [
        ProvideMissingTransactions(1, (0,)),
        DeclareMiningJobSuccess(1, bytes(32)),
        DeclareMiningJobError(1, "invalid-job", b""),
    ],
    ids=lambda message: message.name,
)
def test_messages_that_only_a_server_sends_are_ignored(bench, message):
    assert bench.receive(message) == []


def test_nothing_moves_a_closed_connection(bench):
    [find] = bench.receive(AllocateMiningJobToken("alice", 1))
    [resolve] = bench.declare(bench.token())
    bench.receive(provide(9))
    assert bench.machine.closed
    assert bench.handle(OwnerFound(find.ticket, owner(), b"\x00", bench.draw())) == []
    assert bench.handle(Resolved(resolve.ticket, (0,))) == []
    assert bench.later(1_000.0) == []
    assert bench.machine.next_deadline() is None

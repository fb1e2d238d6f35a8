"""Connections to a pool and its declarator: set-up, every way it can fail, and late reveals."""

from itertools import count
from types import SimpleNamespace

import pytest
import trio
from jdc_rig.server import Server, place_of
from jdc_rig.templates import own, transaction
from jdc_rig.upstream import CHANNEL, OWN_LEN, PREFIX, SETTINGS, TAGGED, TARGET, share

from radpool_sv2._native.keys import AuthoritySecretKey
from radpool_sv2.config import Endpoint
from radpool_sv2.declarator.challenge import is_challenged
from radpool_sv2.jdc import reveal
from radpool_sv2.jdc.coinbase import Coinbase, JobOutputs
from radpool_sv2.jdc.job import Job, JobState
from radpool_sv2.jdc.link import PoolLink, PoolPlace
from radpool_sv2.jdc.reveal import RevealDesk
from radpool_sv2.jdc.submission import Totals
from radpool_sv2.jdc.upstream import Phase, Upstream, UpstreamSettings
from radpool_sv2.wire.message import job_declaration as jd
from radpool_sv2.wire.message import mining
from radpool_sv2.wire.message.base import decode
from radpool_sv2.wire.message.connection import Protocol

TRANSACTIONS = (transaction(1, witness=True), transaction(2))
OWN = own(1, transactions=TRANSACTIONS)


class Listener:
    """Gathers what a link tells."""

    def __init__(self):
        self.jobs, self.rooms, self.hiddens, self.reasons = [], [], [], []
        self.works = trio.Event()
        self.ended = trio.Event()

    def published(self, link, job):
        self.jobs.append(job)

    def constrained(self, size, sigops):
        self.rooms.append((size, sigops))

    def withdrawn(self, link):
        self.reasons.append("withdrawn")

    def retargeted(self, link):
        self.reasons.append("retargeted")

    def hidden(self, link, job):
        self.hiddens.append(job)

    def worked(self, link):
        self.works.set()

    def failed(self, link, failure):
        self.reasons.append(failure.reason)
        self.ended.set()


async def silent(stream):
    await trio.sleep_forever()


class Pool:
    """Accepts everything; keeps shares."""

    def __init__(self):
        self.shares = []
        self.stream = None

    async def __call__(self, stream):
        self.stream = stream
        while True:
            message = decode(await stream.receive(), mining.MINING)
            match message:
                case mining.OpenExtendedMiningChannel():
                    await stream.send(
                        mining.OpenExtendedMiningChannelSuccess(
                            message.request_id,
                            CHANNEL,
                            TARGET.to_bytes(32, "little"),
                            OWN_LEN,
                            PREFIX,
                            1,
                        )
                    )
                case mining.SetCustomMiningJob():
                    await stream.send(
                        mining.SetCustomMiningJobSuccess(CHANNEL, message.request_id, 40)
                    )
                case mining.SubmitSharesExtended():
                    self.shares.append(message)
                    await stream.send(
                        mining.SubmitSharesSuccess(CHANNEL, message.sequence_number, 1, 1)
                    )


class Declarator:
    """Accepts everything, after having asked for all transactions."""

    def __init__(self, *, refuse=0):
        self.got = []
        self.declared = []
        self.refuse = refuse

    async def __call__(self, stream):
        while True:
            message = decode(await stream.receive(), jd.JOB_DECLARATION)
            match message:
                case jd.AllocateMiningJobToken():
                    answer = jd.AllocateMiningJobTokenSuccess(message.request_id, b"token", TAGGED)
                case jd.DeclareMiningJob():
                    self.declared.append(message)
                    if self.refuse:
                        self.refuse -= 1
                        answer = jd.DeclareMiningJobError(
                            message.request_id, "invalid-mining-job-token", b""
                        )
                    else:
                        positions = tuple(range(len(message.wtxid_list)))
                        answer = jd.ProvideMissingTransactions(message.request_id, positions)
                case jd.ProvideMissingTransactionsSuccess():
                    self.got.append(message.transaction_list)
                    answer = jd.DeclareMiningJobSuccess(message.request_id, b"judged")
            await stream.send(answer)


async def serve(nursery, script, protocol, **how):
    server = Server(protocol, script, **how)
    await nursery.start(server.serve)
    return server


async def make(nursery, pool=silent, declarator=silent, *, rolling=True, how=None, **changes):
    """Starts a link with a pool and a declarator; returns all of it."""
    listener = Listener()
    served = await serve(nursery, pool, Protocol.MINING, **(how or {}))
    declaring = await serve(nursery, declarator, Protocol.JOB_DECLARATION)
    numbers = count(1)
    machine = Upstream(UpstreamSettings(**SETTINGS | changes), lambda: next(numbers), Totals())
    link = PoolLink(place_of(served, declaring), machine, listener, version_rolling=rolling)
    return link, listener, served, declaring


async def test_link_declares_and_submits(nursery):
    pool, declarator = Pool(), Declarator()
    link, listener, served, declaring = await make(nursery, pool, declarator)
    link.machine.offer(OWN, trio.current_time())
    nursery.start_soon(link.run, 1e6, None, 60.0)
    with trio.fail_after(60):
        await listener.works.wait()
        assert declarator.got == [tuple(each.to_bytes() for each in TRANSACTIONS)]
        link.machine.use(trio.current_time())
        link.act()
        [job] = listener.jobs
        link.machine.submit(share(job), trio.current_time())
        link.act()
        while link.machine.submissions.totals.accepted == 0:
            await link.next_event()
    assert [each.job_id for each in pool.shares] == [40]
    [setup] = served.setups
    assert setup.flags == mining.REQUIRES_WORK_SELECTION | mining.REQUIRES_VERSION_ROLLING
    assert (setup.endpoint_host, setup.endpoint_port) == ("127.0.0.1", served.endpoint.port)
    [setup] = declaring.setups
    assert setup.flags == jd.DECLARE_TX_DATA
    await pool.stream.aclose()
    with trio.fail_after(60):
        await listener.ended.wait()
    assert "closed the connection" in listener.reasons[0] or "broke" in listener.reasons[0]


async def test_coinbase_only_tells_the_declarator_so_and_keeps_what_may_be_asked_for(nursery):
    link, listener, _, declaring = await make(nursery, Pool(), Declarator(), full_template=False)
    link.machine.offer(OWN, trio.current_time())
    nursery.start_soon(link.run, 0.0, None, 60.0)
    with trio.fail_after(60):
        await listener.works.wait()
    assert declaring.setups[0].flags == 0
    assert [job.token for job in listener.hiddens] == [b"token"]


async def ended(nursery, link, listener, *, extension=None, deadline_s=60.0):
    nursery.start_soon(link.run, 0.0, extension, deadline_s)
    with trio.fail_after(60):
        await listener.ended.wait()
    [reason] = listener.reasons
    return reason


async def test_pool_that_cannot_be_reached(nursery):
    link, listener, _, _ = await make(nursery)
    link.place.pool = Endpoint("127.0.0.1", 1)
    assert "cannot reach 127.0.0.1:1" in await ended(nursery, link, listener)


async def test_declarator_that_cannot_be_reached(nursery):
    link, listener, _, _ = await make(nursery)
    link.place.declarator = Endpoint("127.0.0.1", 1)
    assert "cannot reach 127.0.0.1:1" in await ended(nursery, link, listener)


async def test_pool_by_another_authority_is_not_talked_to(nursery):
    link, listener, served, declaring = await make(nursery)
    link.place.pool_key = link.place.declarator_key
    assert served.key != declaring.key
    assert str(served.endpoint) in await ended(nursery, link, listener)
    assert not [each for each in served.setups if not isinstance(each, Exception)]


async def test_pool_that_takes_no_own_work(nursery):
    link, listener, _, _ = await make(nursery, how={"allowed": 0})
    reason = await ended(nursery, link, listener)
    assert "refuses the connection: 'unsupported-feature-flags'" in reason


async def test_pool_that_forbids_rolling(nursery):
    flags = {"server_flags": mining.REQUIRES_FIXED_VERSION}
    link, listener, _, _ = await make(nursery, how=flags)
    assert "forbids miners to roll" in await ended(nursery, link, listener)


async def test_pool_that_does_not_speak_the_extension(nursery):
    async def deaf(stream):
        await stream.receive()

    link, listener, _, _ = await make(nursery, deaf)
    reason = await ended(nursery, link, listener, extension=0x4E45)
    assert "extension 0x4e45" in reason or "closed the connection" in reason


async def test_pool_that_is_silent_is_given_up(nursery):
    link, listener, _, _ = await make(nursery)
    link.machine._settings = UpstreamSettings(**SETTINGS | {"open_deadline_s": 0.2})
    reason = await ended(nursery, link, listener)
    assert reason == "it opened no channel within 0.2 s"


async def test_pool_that_talks_nonsense_is_given_up(nursery):
    async def nonsense(stream):
        await stream.receive()
        await stream.send(mining.SetTarget(CHANNEL, bytes(32)).encode())
        await stream.send(jd.AllocateMiningJobToken("x", 1).encode())
        await trio.sleep_forever()

    link, listener, _, _ = await make(nursery, nonsense)
    assert "has no place in this protocol" in await ended(nursery, link, listener)


async def test_what_cannot_be_said_fails_the_link_and_nothing_else(nursery):
    link, listener, _, _ = await make(nursery, Pool(), Declarator())
    nursery.start_soon(link.run, 0.0, None, 60.0)
    with trio.fail_after(60):
        while link.machine.phase is not Phase.READY:
            await trio.sleep(0.01)
        link._queue(link._pool_send, mining.UpdateChannel(CHANNEL, float("inf"), bytes(32)))
        await listener.ended.wait()
    assert "belongs on the wire" in listener.reasons[-1]


async def test_pool_that_sends_far_too_much_is_given_up(nursery):
    async def flood(stream):
        await stream.receive()
        await stream.send(mining.SetGroupChannel(1, tuple(range(60_000))))
        big = jd.ProvideMissingTransactionsSuccess(1, (bytes(2 << 20),))
        await stream.send(big)
        await trio.sleep_forever()

    link, listener, _, _ = await make(nursery, flood)
    assert await ended(nursery, link, listener)


# --- late reveals ---


def hidden_job(number, token):
    coinbase = Coinbase(OWN.template, JobOutputs.read(TAGGED), PREFIX, len(PREFIX) + OWN_LEN)
    return Job(number, OWN, coinbase, token=token, state=JobState.ACCEPTED)


def drawn_and_not():
    """Returns tokens on which the lot falls, and does not, with a block."""
    block = b"\xbb" * 32
    tokens = [number.to_bytes(32, "little") for number in range(1_000)]
    drawn = [each for each in tokens if is_challenged(block, each)]
    return block, drawn[:2], [each for each in tokens if each not in drawn][:20]


@pytest.mark.parametrize("refusals", [0, 2])
async def test_drawn_templates_are_shown_whole(nursery, monkeypatch, refusals):
    monkeypatch.setattr(reveal, "RETRY_S", 0.01)
    declarator = Declarator(refuse=refusals)
    pool = await serve(nursery, silent, Protocol.MINING)
    declaring = await serve(nursery, declarator, Protocol.JOB_DECLARATION)
    place = place_of(pool, declaring)
    notes = []
    desk = RevealDesk(notes.append)
    nursery.start_soon(desk.run)
    block, drawn, others = drawn_and_not()
    for number, token in enumerate([*others, *drawn]):
        desk.keep(place, hidden_job(number, token))
    assert desk.tip_changed([block], b"\x77" * 32) == 0, "they build on another block"
    assert desk.tip_changed([block], OWN.tip.prev_hash) == len(drawn)
    assert desk.tip_changed([block], OWN.tip.prev_hash) == 0, "lot falls once"
    with trio.fail_after(60):
        while desk.revealed < len(drawn):
            await trio.sleep(0.01)
    shown = [each.mining_job_token for each in declarator.declared]
    assert set(shown) == set(drawn)
    assert declarator.got[0] == tuple(each.to_bytes() for each in TRANSACTIONS)
    assert {each.flags for each in declaring.setups} == {jd.DECLARE_TX_DATA}
    assert not notes


async def test_pool_that_hangs_holds_up_no_other_reveal(nursery):
    declarator = Declarator()
    hanging = place_of(
        await serve(nursery, silent, Protocol.MINING),
        await serve(nursery, silent, Protocol.JOB_DECLARATION),
    )
    other = place_of(
        await serve(nursery, silent, Protocol.MINING),
        await serve(nursery, declarator, Protocol.JOB_DECLARATION),
    )
    desk = RevealDesk(lambda _: None)
    nursery.start_soon(desk.run)
    block, drawn, _ = drawn_and_not()
    desk.keep(hanging, hidden_job(1, drawn[0]))
    desk.keep(other, hidden_job(2, drawn[1]))
    assert desk.tip_changed([block], OWN.tip.prev_hash) == 2
    with trio.fail_after(reveal.ANSWER_S - 1):
        while not desk.revealed:
            await trio.sleep(0.01)
    assert [each.mining_job_token for each in declarator.declared] == [drawn[1]]


async def test_lot_falls_on_jobs_that_were_kept_after_their_tip_had_gone(nursery):
    declarator = Declarator()
    pool = await serve(nursery, silent, Protocol.MINING)
    declaring = await serve(nursery, declarator, Protocol.JOB_DECLARATION)
    desk = RevealDesk(lambda _: None)
    nursery.start_soon(desk.run)
    block, drawn, others = drawn_and_not()
    assert desk.tip_changed([block], OWN.tip.prev_hash) == 0
    desk.keep(place_of(pool, declaring), hidden_job(1, others[0]))
    desk.keep(place_of(pool, declaring), hidden_job(2, drawn[0]))
    with trio.fail_after(60):
        while not desk.revealed:
            await trio.sleep(0.01)
    assert [each.mining_job_token for each in declarator.declared] == [drawn[0]]


async def test_what_the_pool_refused_itself_need_not_be_shown():
    _, drawn, _ = drawn_and_not()
    block = b"\xbb" * 32
    desk = RevealDesk(lambda _: None)
    job = hidden_job(1, drawn[0])
    desk.keep(None, job)
    job.denied = True
    assert desk.tip_changed([block], OWN.tip.prev_hash) == 0


def test_a_place_moves_for_whoever_asked_and_back():
    section = SimpleNamespace(
        address=Endpoint("pool", 1),
        declarator=Endpoint("jds", 2),
        authority_public_key=AuthoritySecretKey.generate().public_key().to_text(),
        declarator_public_key="",
    )
    place = PoolPlace(section)
    place.move("other", 3, of_declarator=True)
    assert (place.pool, place.declarator) == (Endpoint("pool", 1), Endpoint("other", 3))
    place.move("another", 4)
    assert (place.pool, place.declarator) == (Endpoint("another", 4), Endpoint("other", 3))
    place.move("", 0)
    assert place.pool == Endpoint("pool", 1)
    place.settle()
    assert place.declarator == Endpoint("jds", 2)


async def test_pool_that_does_not_want_to_see_is_left_alone(nursery, monkeypatch):
    monkeypatch.setattr(reveal, "RETRY_S", 0.01)
    declarator = Declarator(refuse=100)
    pool = await serve(nursery, silent, Protocol.MINING)
    declaring = await serve(nursery, declarator, Protocol.JOB_DECLARATION)
    notes = []
    desk = RevealDesk(notes.append)
    nursery.start_soon(desk.run)
    block, drawn, _ = drawn_and_not()
    desk.keep(place_of(pool, declaring), hidden_job(1, drawn[0]))
    desk.tip_changed([block], OWN.tip.prev_hash)
    with trio.fail_after(60):
        while not notes:
            await trio.sleep(0.01)
    assert "invalid-mining-job-token" in notes[0]
    assert len(declarator.declared) == 3

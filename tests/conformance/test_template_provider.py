"""The template provider, as the independent peer sees it; the source behind it plays a script."""

import hashlib
import random
import time
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from peer import work
from peer.client import Client, ConnectionClosed
from peer.message import Message, frame

from radpool_sv2._native.keys import AuthoritySecretKey
from radpool_sv2.chain.block import Block
from radpool_sv2.config import Endpoint
from radpool_sv2.consensus import merkle_path
from radpool_sv2.errors import LocalProtocolError, NodeError
from radpool_sv2.template_provider.identity import ProviderIdentity
from radpool_sv2.template_provider.offer import AHEAD_BIT, OFFERS_MAX, REPEAT_BIT, Offers
from radpool_sv2.template_provider.provider import ProviderSettings, TemplateProvider
from radpool_sv2.templates.source import (
    SubmitResult,
    SubmitStatus,
    Template,
    TemplateTransactions,
    TemplateUpdate,
    Tip,
)

PATIENCE_S = 60
NBITS = 0x207FFFFF
EASY = (0x7FFFFF << 232).to_bytes(32, "little")
NEVER = bytes(32)
COMMITMENT = bytes(8) + bytes([38]) + bytes.fromhex("6a24aa21a9ed") + bytes(32)
A, B, C = (bytes([n]) * 32 for n in (10, 11, 12))
RAW = tuple(random.Random(n).randbytes(70 + n) for n in range(5))


def template(number, height=102, **changes):
    fields = {
        "id": number,
        "height": height,
        "version": 0x20000000,
        "coinbase_tx_version": 2,
        "coinbase_prefix": b"\x01" + bytes([height]),
        "coinbase_sequence": 0xFFFFFFFE,
        "template_outputs": COMMITMENT,
        "template_output_count": 1,
        "coinbase_locktime": height - 1,
        "merkle_path": merkle_path([hashlib.sha256(raw).digest() for raw in RAW]),
        "value_sats": 5_000_001_000,
        "fees_sats": 1_000,
        "tx_count": len(RAW),
        "weight": 9_000,
    }
    return Template(**{**fields, **changes})


def update(number, prev_hash=A, height=102, target=EASY, **changes):
    tip = Tip(
        template_id=number, prev_hash=prev_hash, min_ntime=1_700_000_000, nbits=NBITS, target=target
    )
    return TemplateUpdate(template(number, height, **changes), tip)


class ScriptedSource:
    """A source whose answers a test sets."""

    name = "scripted"

    def __init__(self):
        self.solutions, self.blocks, self.rooms = [], [], []
        self.result = SubmitResult(SubmitStatus.ACCEPTED, active=True)
        self.failure = None
        self.came = trio.Event()

    async def transactions(self, template_id):
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        return TemplateTransactions(RAW, None)

    async def submit_solution(self, solution):
        await trio.lowlevel.checkpoint()
        self.solutions.append(solution)
        self.came.set()
        if self.failure is not None:
            raise self.failure
        return self.result

    async def submit_block(self, block):
        await trio.lowlevel.checkpoint()
        self.blocks.append(block)
        self.came.set()
        return self.result

    def constrain(self, size, sigops):
        self.rooms.append((size, sigops))


class Rig:
    """A provider that serves, its source, and clients."""

    def __init__(self, provider, source, authority):
        self.provider, self.source, self.authority = provider, source, authority
        self.clients = []

    def offer(self, *updates):
        for each in updates:
            self.provider.offers.take(each)

    async def connect(self, constraints=(1_000, 4), **setup):
        address = self.provider.listener.address
        client = await Client.connect((address.host, address.port), self.authority.to_bytes())
        self.clients.append(client)
        fields = {
            "protocol": 2,
            "min_version": 2,
            "max_version": 2,
            "flags": 0,
            "endpoint_host": "",
            "endpoint_port": 0,
            "vendor": "peer",
            "hardware_version": "",
            "firmware": "",
            "device_id": "",
        }
        await client.send(Message("SetupConnection", **{**fields, **setup}))
        await client.expect("SetupConnectionSuccess")
        if constraints is not None:
            await client.send(constrain(*constraints))
        return client


def constrain(size, sigops):
    return Message(
        "CoinbaseOutputConstraints",
        coinbase_output_max_additional_size=size,
        coinbase_output_max_additional_sigops=sigops,
    )


@asynccontextmanager
async def serving(**settings):
    identity = ProviderIdentity(AuthoritySecretKey.generate())
    source = ScriptedSource()
    provider = TemplateProvider(
        source, Endpoint("127.0.0.1", 0), identity.sign(), ProviderSettings(**settings)
    )
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: provider.run(stop, task_status=task_status))
        rig = Rig(provider, source, identity.public_key)
        try:
            yield rig
        finally:
            with trio.CancelScope(shield=True):
                for client in rig.clients:
                    await client.aclose()
        stop.set()


def coinbase(template_, extranonce=bytes(8)):
    """Returns a coinbase with its witness, and the hash that names it."""
    script = template_.coinbase_prefix + bytes([len(extranonce)]) + extranonce
    head = b"\x02\0\0\0"
    middle = b"\x01" + bytes(32) + b"\xff" * 4 + bytes([len(script)]) + script
    middle += template_.coinbase_sequence.to_bytes(4, "little")
    pays = template_.value_sats.to_bytes(8, "little") + b"\x01\x51"
    middle += b"\x02" + pays + template_.template_outputs
    tail = template_.coinbase_locktime.to_bytes(4, "little")
    witness = b"\x01\x20" + bytes(32)
    return head + b"\x00\x01" + middle + witness + tail, work.sha256d(head + middle + tail)


def solve(offer, prev_hash, *, good=True, number=None):
    """Mines a solution of a template; with `good` false one whose hash is above nBits."""
    raw, txid = coinbase(offer)
    root = txid
    for sibling in offer.merkle_path:
        root = work.sha256d(root + sibling)
    for nonce in range(1 << 16):
        header = work.block_header(offer.version, prev_hash, root, 1_700_000_001, NBITS, nonce)
        hash_ = work.sha256d(header)
        if (work.number(hash_) <= work.nbits_target(NBITS)) == good:
            break
    message = Message(
        "SubmitSolution",
        template_id=offer.id if number is None else number,
        version=offer.version,
        header_timestamp=1_700_000_001,
        header_nonce=nonce,
        coinbase_tx=raw,
    )
    return message, hash_, header


async def test_a_client_hears_nothing_before_it_has_said_how_much_room_it_needs():
    async with serving() as rig:
        rig.offer(update(7))
        client = await rig.connect(constraints=None)
        with trio.move_on_after(0.05) as scope:
            await client.receive_frame()
        assert scope.cancelled_caught
        await client.send(constrain(100, 1))
        assert (await client.expect("NewTemplate")).template_id == 7
        assert rig.source.rooms == [(100, 1)]


async def test_a_tip_is_told_by_a_future_template_and_its_activation():
    async with serving() as rig:
        rig.offer(update(7))
        client = await rig.connect()
        first = await client.expect("NewTemplate")
        assert first.fields == {
            "template_id": 7,
            "future_template": True,
            "version": 0x20000000,
            "coinbase_tx_version": 2,
            "coinbase_prefix": b"\x01\x66",
            "coinbase_tx_input_sequence": 0xFFFFFFFE,
            "coinbase_tx_value_remaining": 5_000_001_000,
            "coinbase_tx_outputs_count": 1,
            "coinbase_tx_outputs": COMMITMENT,
            "coinbase_tx_locktime": 101,
            "merkle_path": list(template(7).merkle_path),
        }
        tip = await client.expect("TemplateSetNewPrevHash")
        assert tip.fields == {
            "template_id": 7,
            "prev_hash": A,
            "header_timestamp": 1_700_000_000,
            "nbits": NBITS,
            "target": EASY,
        }
        rig.offer(update(8))
        second = await client.expect("NewTemplate")
        assert (second.template_id, second.future_template) == (8, False)
        rig.offer(update(9, B, 103))
        third = await client.expect("NewTemplate")
        assert (third.template_id, third.future_template) == (9, True)
        assert (await client.expect("TemplateSetNewPrevHash")).template_id == 9
        # Back to the tip before, as after a reorganisation.
        rig.offer(update(10, A))
        assert (await client.expect("NewTemplate")).future_template
        assert (await client.expect("TemplateSetNewPrevHash")).prev_hash == A


async def test_a_slow_client_misses_templates_and_no_tip():
    async with serving() as rig:
        rig.offer(update(7))
        client = await rig.connect()
        await client.expect("NewTemplate")
        await client.expect("TemplateSetNewPrevHash")
        # All of it happens before the session has a chance to look.
        rig.offer(update(8), update(9, B, 103), update(10, B, 103), update(11, C, 104))
        news = await client.expect("NewTemplate")
        assert (news.template_id, news.future_template) == (11, True)
        assert (await client.expect("TemplateSetNewPrevHash")).prev_hash == C


async def test_a_template_ahead_becomes_work_the_moment_its_tip_comes():
    async with serving(is_ahead=True, halving_blocks=150) as rig:
        rig.offer(update(7))
        client = await rig.connect()
        await client.expect("NewTemplate")
        await client.expect("TemplateSetNewPrevHash")
        ahead = await client.expect("NewTemplate")
        assert ahead.template_id == 7 | AHEAD_BIT
        assert ahead.future_template
        assert ahead.coinbase_prefix == b"\x01\x67"
        assert ahead.coinbase_tx_locktime == 102
        assert ahead.coinbase_tx_value_remaining == 50 * 10**8
        assert ahead.merkle_path == []
        rig.offer(update(8))
        assert (await client.expect("NewTemplate")).template_id == 8
        rig.offer(update(9, B, 103))
        tip = await client.expect("TemplateSetNewPrevHash")
        assert (tip.template_id, tip.prev_hash) == (ahead.template_id, B)
        full = await client.expect("NewTemplate")
        assert (full.template_id, full.future_template) == (9, False)
        assert (await client.expect("NewTemplate")).template_id == 9 | AHEAD_BIT
        # Its block is built by the provider: no source knows of it.
        known = rig.provider.offers.find(ahead.template_id).template
        solution, hash_, header = solve(known, B)
        await client.send(solution)
        with trio.fail_after(PATIENCE_S):
            await rig.source.came.wait()
        (block,) = rig.source.blocks
        assert block[:80] == header
        assert len(Block.from_bytes(block).transactions) == 1
        assert Block.from_bytes(block).header.hash == hash_
        assert rig.source.solutions == []
        await client.send(Message("RequestTransactionData", template_id=ahead.template_id))
        answer = await client.expect("RequestTransactionDataSuccess")
        assert answer.transaction_list == []


async def test_a_template_is_sent_again_for_clients_that_take_no_other():
    async with serving(is_repeated=True) as rig:
        rig.offer(update(7))
        client = await rig.connect()
        await skip_news(client)
        again = await client.expect("NewTemplate")
        assert (again.template_id, again.future_template) == (7 | REPEAT_BIT, False)
        await client.send(Message("RequestTransactionData", template_id=again.template_id))
        answer = await client.expect("RequestTransactionDataSuccess")
        assert answer.template_id == again.template_id
        await client.send(solve(template(7), A, number=again.template_id)[0])
        with trio.fail_after(PATIENCE_S):
            await rig.source.came.wait()
        assert rig.source.solutions[0].template_id == 7
        rig.offer(update(8))
        assert (await client.expect("NewTemplate")).template_id == 8
        rig.offer(update(9, B, 103))
        await skip_news(client)
        assert (await client.expect("NewTemplate")).template_id == 9 | REPEAT_BIT


async def test_a_template_ahead_of_another_height_is_dropped():
    async with serving(is_ahead=True) as rig:
        rig.offer(update(7))
        client = await rig.connect()
        for _ in range(3):
            await client.receive()
        rig.offer(update(9, B, 104))
        assert (await client.expect("NewTemplate")).template_id == 9
        assert (await client.expect("TemplateSetNewPrevHash")).template_id == 9
        assert rig.provider.offers.find(7 | AHEAD_BIT) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"template_output_count": 2, "template_outputs": COMMITMENT * 2},
        {"template_outputs": bytes(8) + b"\x02\x6a\x00"},
    ],
)
def test_nothing_is_made_ahead_where_a_coinbase_holds_more(changes):
    offers = Offers(is_ahead=True, halving_blocks=150)
    offers.take(update(7, **changes))
    assert offers.ahead is None


async def test_a_solution_reaches_the_node_even_when_its_client_has_gone():
    async with serving() as rig:
        rig.offer(update(7))
        client = await rig.connect()
        # Nothing more is on its way to it that could fail before its last word is read.
        await skip_news(client)
        solution, hash_, _header = solve(template(7), A)
        await client.send(solution)
        await client.reset()
        with trio.fail_after(PATIENCE_S):
            await rig.source.came.wait()
        (found,) = rig.source.solutions
        assert (found.template_id, found.hash) == (7, hash_)
        assert (found.coinbase_tx, found.nonce) == (solution.coinbase_tx, solution.header_nonce)


async def test_a_solution_that_came_twice_is_submitted_once():
    async with serving() as rig:
        rig.offer(update(7))
        first, second = await rig.connect(), await rig.connect()
        solution, _hash, _header = solve(template(7), A)
        await first.send(solution, solution)
        await second.send(solution)
        await settle(first)
        await settle(second)
        assert len(rig.source.solutions) == 1


async def test_a_solution_of_the_tip_before_is_taken_and_an_older_one_is_not():
    async with serving() as rig:
        rig.offer(update(7))
        client = await rig.connect()
        rig.offer(update(8, B, 103))
        await client.send(solve(template(7), A)[0])
        await settle(client)
        assert [each.template_id for each in rig.source.solutions] == [7]
        rig.offer(update(9, C, 104))
        await client.send(solve(template(7), A, number=7)[0].replace(header_timestamp=5))
        await settle(client)
        assert len(rig.source.solutions) == 1


async def test_solutions_that_are_none_are_counted_and_then_end_the_connection():
    async with serving() as rig:
        rig.offer(update(7))
        client = await rig.connect()
        bad, _hash, _header = solve(template(7), A, good=False)
        for _ in range(16):
            await client.send(bad)
        await settle(client)
        await client.send(bad)
        await client.closed()
        assert rig.source.solutions == []


async def test_solutions_of_unknown_templates_are_counted_too():
    async with serving() as rig:
        rig.offer(update(7))
        client = await rig.connect()
        good, _hash, _header = solve(template(7), A)
        for number in range(16):
            await client.send(good.replace(template_id=1_000 + number))
        await settle(client)
        await client.send(good.replace(template_id=2_000))
        await client.closed()
        assert rig.source.solutions == []


async def test_a_solution_that_only_the_chains_own_rule_refuses_is_nobodys_fault():
    async with serving() as rig:
        rig.offer(update(7, target=NEVER))
        client = await rig.connect()
        solution, _hash, _header = solve(template(7), A)
        for _ in range(40):
            await client.send(solution)
        await settle(client)
        assert rig.source.solutions == []


@pytest.mark.parametrize("raw", [b"", b"\0", coinbase(template(7))[0][:-1], b"\x02\0\0\0" * 20])
async def test_a_coinbase_that_is_none_reaches_no_node(raw):
    async with serving() as rig:
        rig.offer(update(7))
        client = await rig.connect()
        await client.send(solve(template(7), A)[0].replace(coinbase_tx=raw))
        await settle(client)
        assert rig.source.solutions == []


async def test_a_node_that_fails_does_not_end_the_provider():
    async with serving() as rig:
        rig.offer(update(7))
        client = await rig.connect()
        rig.source.failure = NodeError("away")
        solution, _hash, _header = solve(template(7), A)
        await client.send(solution)
        await settle(client)
        rig.source.failure = None
        rig.source.result = SubmitResult(SubmitStatus.REJECTED, "bad-cb-amount", "")
        # What could not be given to the node is tried again when it comes again.
        await client.send(solution)
        await settle(client)
        assert len(rig.source.solutions) == 2


@pytest.mark.parametrize(
    ("number", "failure", "code"),
    [
        (99, None, "template-id-not-found"),
        (7, LocalProtocolError("forgotten"), "stale-template-id"),
        (7, NodeError("away"), "node-away"),
    ],
)
async def test_transactions_that_cannot_be_had_are_refused_in_words(number, failure, code):
    async with serving() as rig:
        rig.offer(update(7))
        client = await rig.connect()
        rig.source.failure = failure
        await skip_news(client)
        await client.send(Message("RequestTransactionData", template_id=number))
        answer = await client.expect("RequestTransactionDataError")
        assert (answer.template_id, answer.error_code) == (number, code)


async def test_transactions_are_sent_in_their_order():
    async with serving() as rig:
        rig.offer(update(7))
        client = await rig.connect()
        await skip_news(client)
        await client.send(*[Message("RequestTransactionData", template_id=7)] * 3)
        for _ in range(3):
            answer = await client.expect("RequestTransactionDataSuccess")
            assert (answer.template_id, tuple(answer.transaction_list)) == (7, RAW)


async def test_the_greediest_client_counts_until_it_leaves():
    async with serving() as rig:
        rig.offer(update(7))
        first = await rig.connect((100, 1))
        await skip_news(first)
        second = await rig.connect((15_000, 0))
        await skip_news(second)
        assert rig.source.rooms[-1] == (15_000, 1)
        await second.aclose()
        with trio.fail_after(PATIENCE_S):
            while rig.source.rooms[-1] != (100, 1):
                await trio.sleep(0.001)


async def test_room_that_nobody_gets_ends_the_connection():
    async with serving() as rig:
        rig.offer(update(7))
        client = await rig.connect((20_001, 1))
        assert await client.closed() == []
        assert rig.source.rooms == []


async def test_a_full_block_waits_for_the_room_that_a_client_needs():
    async with serving() as rig:
        rig.offer(update(7, weight=3_996_000))
        client = await rig.connect((3_000, 1))
        with trio.fail_after(PATIENCE_S):
            while not rig.source.rooms:
                await trio.sleep(0.001)
        with trio.move_on_after(0.05) as scope:
            await client.receive_frame()
        assert scope.cancelled_caught
        # This one may have been made before the room was asked for, the next one was not.
        rig.offer(update(8, weight=3_996_000))
        rig.offer(update(9, weight=3_999_000))
        assert (await client.expect("NewTemplate")).template_id == 9


@pytest.mark.parametrize(
    "raw",
    [
        frame(0, 0x71, bytes(80), channel=False),  # for a provider to send
        frame(0, 0x13, bytes(80), channel=False),  # of another protocol
        frame(0, 0x73, bytes(8), channel=True),
        frame(0, 0x73, bytes(7), channel=False),
        frame(0, 0x70, b"", channel=False),
        frame(0, 0x76, bytes(22) + b"\xff\xff", channel=False),
        frame(0, 0x00, bytes(30), channel=False),  # a second set-up
        frame(0, 0x76, bytes(1 << 17), channel=False),  # longer than any message of a client
        frame(1, 0x01, bytes(4), channel=False),
    ],
)
async def test_whoever_breaks_the_protocol_is_left_and_others_are_not(raw):
    async with serving() as rig:
        rig.offer(update(7))
        good, bad = await rig.connect(), await rig.connect()
        await bad.send_frames(raw)
        await bad.closed()
        await skip_news(good)
        await settle(good)


async def test_what_belongs_to_an_extension_is_ignored_and_a_wish_for_one_declined():
    async with serving() as rig:
        rig.offer(update(7))
        client = await rig.connect()
        await skip_news(client)
        await client.send_frames(frame(0x4E45, 0x70, b"\xff", channel=False))
        await client.send(Message("RequestExtensions", request_id=3, requested_extensions=[2, 9]))
        answer = await client.expect("RequestExtensionsError")
        assert (answer.request_id, answer.unsupported_extensions) == (3, [2, 9])


async def test_a_client_that_asks_and_does_not_listen_is_left():
    async with serving() as rig:
        rig.offer(update(7))
        client = await rig.connect()
        rig.source.transactions = forever
        for _ in range(40):
            try:
                await client.send(Message("RequestTransactionData", template_id=7))
            except trio.BrokenResourceError:
                break
        await client.closed()


async def forever(_template_id):
    await trio.sleep_forever()


async def test_a_session_that_is_cut_after_any_byte_harms_nobody():
    async with serving(is_ahead=True) as rig:
        rig.offer(update(7))
        good = await rig.connect()
        plain = b"".join(
            message.frame()
            for message in (
                constrain(100, 1),
                Message("RequestTransactionData", template_id=7),
                solve(template(7), A, good=False)[0],
            )
        )
        for length in range(0, len(plain), 7):
            client = await rig.connect(constraints=None)
            sealed = b"".join(
                client.send_cipher.seal_frame(each) for each in (plain[:14], plain[14:28])
            )
            await client.send_bytes(sealed[:length])
            await client.aclose()
        for _ in range(3):
            await good.receive()
        await settle(good)


async def test_bytes_may_come_one_by_one():
    async with serving() as rig:
        rig.offer(update(7))
        client = await rig.connect(constraints=None)
        sealed = client.send_cipher.seal_frame(constrain(100, 1).frame())
        sealed += client.send_cipher.seal_frame(
            Message("RequestTransactionData", template_id=7).frame()
        )
        for byte in sealed:
            await client.send_bytes(bytes([byte]))
        names = {(await client.receive()).name for _ in range(3)}
        assert "RequestTransactionDataSuccess" in names


async def test_random_frames_never_end_the_provider():
    randomness = random.Random(11)
    async with serving() as rig:
        rig.offer(update(7))
        good = await rig.connect()
        for _ in range(60):
            client = await rig.connect()
            number = randomness.choice([*range(0x70, 0x77), randomness.randrange(256)])
            payload = randomness.randbytes(randomness.randrange(60))
            with suppress(ConnectionClosed):
                await client.send_frames(
                    frame(0, number, payload, channel=randomness.random() < 0.2)
                )
            await client.aclose()
        await skip_news(good)
        await settle(good)


def test_offers_are_bounded_and_of_two_tips():
    offers = Offers(is_ahead=False, halving_blocks=150)
    for number in range(OFFERS_MAX + 10):
        offers.take(update(number + 1))
    assert offers.find(10) is None
    assert offers.find(11) is not None
    offers.take(update(10_000, B, 103))
    assert offers.find(12) is not None
    offers.take(update(10_001, C, 104))
    assert offers.find(12) is None
    assert offers.find(10_000) is not None
    offers.take(TemplateUpdate(template(10_002), None))
    assert offers.newest.template.id == 10_001


async def test_the_certificate_is_renewed_without_a_restart(autojump_clock):
    shown = []
    identity = ProviderIdentity(AuthoritySecretKey.generate())
    with trio.move_on_after(2.5 * 86_400):
        await identity.keep_signed(shown.append)
    assert len(shown) == 2
    assert shown[0].not_valid_after > time.time() + 29 * 86_400


async def skip_news(client):
    await client.expect("NewTemplate")
    await client.expect("TemplateSetNewPrevHash")


async def settle(client):
    """Waits until all that a client has sent is dealt with, by an answer that comes after it."""
    await client.send(Message("RequestTransactionData", template_id=1))
    while (await client.receive()).name != "RequestTransactionDataError":
        pass
    await trio.testing.wait_all_tasks_blocked(0.02)


async def test_signature_operations_that_leave_no_room_for_anybody_are_refused():
    async with serving() as rig:
        rig.offer(update(7))
        good = await rig.connect(constraints=(100, 2_000))
        await skip_news(good)
        assert rig.source.rooms == [(100, 2_000)]
        greedy = await rig.connect(constraints=(100, 2_001))
        await greedy.closed()
        assert rig.source.rooms == [(100, 2_000)]

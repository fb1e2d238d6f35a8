"""The source in front of a template provider: a provider that plays a script, and our own."""

import json
import random
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from peer import server as peer_server
from peer.client import ConnectionClosed
from peer.message import Message

from radpool_sv2._native.keys import AuthorityPublicKey, AuthoritySecretKey
from radpool_sv2.config import Endpoint
from radpool_sv2.consensus import subsidy_sats, target_of_nbits
from radpool_sv2.errors import LocalProtocolError, NodeError, RemoteProtocolError
from radpool_sv2.template_provider.identity import ProviderIdentity
from radpool_sv2.template_provider.provider import ProviderSettings, TemplateProvider
from radpool_sv2.templates import tdp as tdp_module
from radpool_sv2.templates import tdp_link, tdp_number
from radpool_sv2.templates.distribution import new_template, set_new_prev_hash, template_of, tip_of
from radpool_sv2.templates.source import (
    BlockVerdict,
    Solution,
    SubmitResult,
    SubmitStatus,
    TemplateSource,
    TemplateTransactions,
    TemplateUpdate,
    Tip,
    TipChanged,
)
from radpool_sv2.units import sha256d

PATIENCE_S = 60
NBITS = 0x207FFFFF
EASY = (0x7FFFFF << 232).to_bytes(32, "little")
A, B, C, D = (bytes([n]) * 32 for n in (10, 11, 12, 13))
COMMITMENT = bytes(8) + bytes([38]) + bytes.fromhex("6a24aa21a9ed") + bytes(32)
RAW = (b"first" * 20, b"second" * 20)
# Signed when this file is read, which may be long before a test.
WHO = peer_server.Identity.generate(random.Random(8), valid_s=86_400)


def offer(number, *, future=True, height=102, **changes):
    fields = {
        "template_id": number,
        "future_template": future,
        "version": 0x20000000,
        "coinbase_tx_version": 2,
        "coinbase_prefix": b"\x01" + bytes([height]),
        "coinbase_tx_input_sequence": 0xFFFFFFFE,
        "coinbase_tx_value_remaining": 5_000_001_000,
        "coinbase_tx_outputs_count": 1,
        "coinbase_tx_outputs": COMMITMENT,
        "coinbase_tx_locktime": 0,
        "merkle_path": [C, D],
    }
    return Message("NewTemplate", **{**fields, **changes})


def tip(number, prev_hash=A, **changes):
    fields = {
        "template_id": number,
        "prev_hash": prev_hash,
        "header_timestamp": 1_700_000_000,
        "nbits": NBITS,
        "target": EASY,
    }
    return Message("TemplateSetNewPrevHash", **{**fields, **changes})


class Provider:
    """A provider of which a test is the voice."""

    def __init__(self, accepting, connections):
        self.endpoint = Endpoint(*accepting.socket.getsockname()[:2])
        self._connections = connections
        self.channel = None

    async def accept(self):
        """Waits for the source to connect, and sets up; returns what room it wants."""
        with trio.fail_after(PATIENCE_S):
            self.channel = await self._connections.receive()
        setup = await self.channel.expect("SetupConnection")
        assert (setup.protocol, setup.min_version, setup.max_version) == (2, 2, 2)
        await self.channel.send(Message("SetupConnectionSuccess", used_version=2, flags=0))
        return await self.channel.expect("CoinbaseOutputConstraints")


class Rig:
    def __init__(self, provider, source, updates, events):
        self.provider, self.source = provider, source
        self._updates, self._events = updates, events

    async def update(self):
        with trio.fail_after(PATIENCE_S):
            return await self._updates.receive()

    async def event(self):
        with trio.fail_after(PATIENCE_S):
            return await self._events.receive()

    def nothing_came(self):
        with pytest.raises(trio.WouldBlock):
            self._updates.receive_nowait()


@asynccontextmanager
async def following(**options):
    updates_send, updates = trio.open_memory_channel(16)
    events_send, events = trio.open_memory_channel(16)
    connections_send, connections = trio.open_memory_channel(4)
    channels = []
    async with trio.open_nursery() as nursery:
        (accepting,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def shake_hands(stream):
            try:
                channel = await peer_server.accept(stream, WHO, random.Random())
            except (ConnectionClosed, trio.BrokenResourceError):
                return  # a source was cancelled in the middle of it
            channels.append(channel)
            await connections_send.send(channel)
            await trio.sleep_forever()

        nursery.start_soon(trio.serve_listeners, shake_hands, [accepting])
        provider = Provider(accepting, connections)
        key = AuthorityPublicKey.from_text(WHO.authority_text())
        source = TdpSource(
            provider.endpoint, key, halving_blocks=150, first_number=1_000, **options
        )
        nursery.start_soon(source.run, updates_send, events_send)
        try:
            yield Rig(provider, source, updates, events)
        finally:
            nursery.cancel_scope.cancel()
    for channel in channels:
        await channel.aclose()


TdpSource = tdp_module.TdpSource


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(tdp_module, "PAUSE_MIN_S", 0.001)
    monkeypatch.setattr(tdp_module, "PAUSE_MAX_S", 0.002)


def solution(number, hash_=B):
    return Solution(
        template_id=number, version=1, ntime=2, nonce=3, coinbase_tx=b"coinbase", hash=hash_
    )


async def test_templates_come_with_their_tip_and_numbers_of_ours():
    async with following() as rig:
        await rig.provider.accept()
        send = rig.provider.channel.send
        await send(offer(1), tip(1))
        first = await rig.update()
        assert first.template.id == first.tip.template_id == 1_000
        assert (first.template.height, first.template.fees_sats) == (102, 1_000)
        assert first.template.tx_count == 2
        assert (first.tip.prev_hash, first.tip.target) == (A, EASY)
        assert await rig.event() == TipChanged(101, A, (), ())
        await send(offer(2, future=False))
        second = await rig.update()
        assert (second.template.id, second.tip.template_id, second.tip.prev_hash) == (
            1_001,
            1_001,
            A,
        )
        await send(offer(3, height=103), tip(3, B))
        third = await rig.update()
        assert (third.template.id, third.tip.prev_hash) == (1_002, B)
        assert await rig.event() == TipChanged(102, B, (B,), ())
        assert rig.source.solution_socket() is None


async def test_a_template_ahead_waits_for_its_tip():
    async with following() as rig:
        await rig.provider.accept()
        send = rig.provider.channel.send
        await send(offer(1), tip(1), offer(2, height=103), offer(3, future=False))
        assert (await rig.update()).template.id == 1_000
        # The one ahead has a number too, and is passed on when its tip comes.
        assert (await rig.update()).template.id == 1_002
        await send(tip(2, B))
        ahead = await rig.update()
        assert (ahead.template.id, ahead.template.height, ahead.tip.prev_hash) == (1_001, 103, B)


async def test_a_reorganisation_tells_what_is_undone():
    async with following() as rig:
        await rig.provider.accept()
        send = rig.provider.channel.send
        await send(offer(1), tip(1, A), offer(2, height=103), tip(2, B))
        await send(offer(3, height=103), tip(3, C))
        for _ in range(3):
            await rig.update()
        assert [await rig.event() for _ in range(3)] == [
            TipChanged(101, A, (), ()),
            TipChanged(102, B, (B,), ()),
            TipChanged(102, C, (C,), (B,)),
        ]


@pytest.mark.parametrize(
    "messages",
    [
        [tip(1)],
        [offer(1), tip(2)],
        [offer(1, future=False)],
        [offer(1, coinbase_prefix=b"")],
        [offer(1, coinbase_prefix=b"\x01\x66" + bytes(7))],
        [offer(1, coinbase_prefix=b"\x4c")],
        [offer(1, coinbase_prefix=b"\x02\x66")],
        [offer(1, coinbase_tx_outputs_count=2)],
        [offer(1, coinbase_tx_outputs=COMMITMENT[:-1])],
        [offer(1, coinbase_tx_outputs=COMMITMENT[:8])],
        [offer(1, coinbase_tx_value_remaining=21 * 10**14 + 1)],
        [offer(1, merkle_path=[A] * 15)],
        [offer(1), tip(1, nbits=0)],
        [offer(1), tip(1, nbits=0x21FFFFFF)],
        [offer(1), tip(1, nbits=0x20800000)],
        [offer(1), tip(1, target=bytes(32))],
        [Message("RequestTransactionData", template_id=1)],
        [Message("SetTarget", channel_id=1, maximum_target=A)],
    ],
)
async def test_what_nobody_could_mine_on_ends_the_connection_and_the_next_one_is_good(messages):
    async with following() as rig:
        await rig.provider.accept()
        with pytest.raises(ConnectionClosed):
            await rig.provider.channel.send(*messages)
            await rig.provider.channel.receive_frame()
        rig.nothing_came()
        assert len(rig.source.problems()) == 2
        await rig.provider.accept()
        await rig.provider.channel.send(offer(1), tip(1))
        await rig.update()
        # Nothing but the node that is missing beside the provider.
        (problem,) = rig.source.problems()
        assert "templates.rpc_urls" in problem


async def test_templates_are_numbered_on_after_the_provider_restarts():
    async with following() as rig:
        await rig.provider.accept()
        await rig.provider.channel.send(offer(1), tip(1))
        assert (await rig.update()).template.id == 1_000
        await rig.event()
        await rig.provider.channel.aclose()
        await rig.provider.accept()
        await rig.provider.channel.send(offer(1), tip(1))
        assert (await rig.update()).template.id == 1_001
        with pytest.raises(LocalProtocolError, match="template-id-not-found"):
            await rig.source.transactions(1_000)
        with pytest.raises(LocalProtocolError, match="template-id-not-found"):
            await rig.source.transactions(17)


async def test_room_is_asked_for_at_once_and_again_on_each_connection():
    async with following() as rig:
        room = await rig.provider.accept()
        assert (room.coinbase_output_max_additional_size) == tdp_module.OUTPUT_SIZE
        rig.source.constrain(300, 5)
        room = await rig.provider.channel.expect("CoinbaseOutputConstraints")
        assert room.fields == {
            "coinbase_output_max_additional_size": 300,
            "coinbase_output_max_additional_sigops": 5,
        }
        rig.source.constrain(300, 5)
        await rig.provider.channel.aclose()
        assert (await rig.provider.accept()).coinbase_output_max_additional_size == 300


async def test_transactions_are_asked_for_once_and_kept():
    async with following() as rig:
        await rig.provider.accept()
        await rig.provider.channel.send(offer(5), tip(5))
        number = (await rig.update()).template.id
        found = []

        async def ask():
            found.append(await rig.source.transactions(number))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            asked = await rig.provider.channel.expect("RequestTransactionData")
            assert asked.template_id == 5
            await rig.provider.channel.send(
                Message(
                    "RequestTransactionDataSuccess",
                    template_id=5,
                    excess_data=b"",
                    transaction_list=RAW,
                )
            )
        await ask()
        assert found == [TemplateTransactions(RAW, None)] * 3
        # Without a node beside it, the newest template is all that is known of a mempool.
        first = sha256d(RAW[0])
        assert await rig.source.known_transactions([first, A]) == {first: RAW[0]}


async def test_transactions_that_cannot_be_had_are_told():
    async with following() as rig:
        await rig.provider.accept()
        await rig.provider.channel.send(offer(5), tip(5))
        number = (await rig.update()).template.id

        async def refuse():
            await rig.provider.channel.expect("RequestTransactionData")
            error = Message(
                "RequestTransactionDataError", template_id=5, error_code="stale-template-id"
            )
            await rig.provider.channel.send(error)

        async def vanish():
            await rig.provider.channel.expect("RequestTransactionData")
            await rig.provider.channel.aclose()

        for act, kind, words in (
            (refuse, LocalProtocolError, "stale-template-id"),
            (vanish, NodeError, "has ended"),
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(act)
                with pytest.raises(kind, match=words):
                    await rig.source.transactions(number)


async def test_a_provider_that_does_not_send_transactions_is_a_node_error(monkeypatch):
    monkeypatch.setattr(tdp_link, "TRANSACTIONS_S", 0.05)
    async with following() as rig:
        await rig.provider.accept()
        messages = [
            each
            for n in range(1, 20)
            for each in (offer(n, height=100 + n), tip(n, bytes([n]) * 32))
        ]
        await rig.provider.channel.send(*messages)
        numbers = [(await rig.update()).template.id for _ in range(16)]
        with pytest.raises(NodeError, match="did not send"):
            await rig.source.transactions(numbers[0])


async def test_a_solution_that_becomes_the_tip_is_accepted():
    async with following() as rig:
        await rig.provider.accept()
        send = rig.provider.channel.send
        await send(offer(5), tip(5))
        number = (await rig.update()).template.id
        results = []

        async def submit():
            results.append(await rig.source.submit_solution(solution(number, B)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit)
            sent = await rig.provider.channel.expect("SubmitSolution")
            assert sent.fields == {
                "template_id": 5,
                "version": 1,
                "header_timestamp": 2,
                "header_nonce": 3,
                "coinbase_tx": b"coinbase",
            }
            await send(offer(6, height=103), tip(6, B))
            await rig.update()
        assert results == [SubmitResult(SubmitStatus.ACCEPTED, active=True)]
        with pytest.raises(LocalProtocolError, match="not remembered"):
            await rig.source.submit_solution(solution(77))


async def test_a_solution_that_does_not_become_the_tip_is_not_claimed(monkeypatch):
    monkeypatch.setattr(tdp_module, "TAKEN_S", 0.05)
    for node, status in (
        (None, SubmitStatus.REJECTED),
        (Node(None), SubmitStatus.REJECTED),
        (Node(1), SubmitStatus.ACCEPTED),
    ):
        async with following(node=node) as rig:
            await rig.provider.accept()
            await rig.provider.channel.send(offer(5), tip(5))
            number = (await rig.update()).template.id
            result = await rig.source.submit_solution(solution(number, B))
            assert (result.status, result.reason == "not-connected") == (
                status,
                status is SubmitStatus.REJECTED,
            )


async def test_a_solution_that_a_slow_provider_has_not_taken_yet_is_sent_again(monkeypatch):
    monkeypatch.setattr(tdp_module, "TAKEN_S", 0.05)
    monkeypatch.setattr(tdp_module, "SUBMISSIONS_MAX", 1_000)
    results = []
    async with following() as rig:
        await rig.provider.accept()
        await rig.provider.channel.send(offer(5), tip(5))
        number = (await rig.update()).template.id
        async with trio.open_nursery() as nursery:

            async def submit():
                results.append(await rig.source.submit_solution(solution(number, B)))

            nursery.start_soon(submit)
            for _ in range(3):
                sent = await rig.provider.channel.expect("SubmitSolution")
                assert sent.template_id == 5
            await rig.provider.channel.send(offer(6, height=103), tip(6, B))
        assert results == [SubmitResult(SubmitStatus.ACCEPTED, active=True)]


async def test_a_solution_waits_for_a_provider_that_is_away():
    async with following() as rig:
        await rig.provider.accept()
        await rig.provider.channel.send(offer(5), tip(5))
        number = (await rig.update()).template.id
        await rig.provider.channel.aclose()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.source.submit_solution, solution(number, B))
            await rig.provider.accept()
            assert (await rig.provider.channel.expect("SubmitSolution")).template_id == 5
            nursery.cancel_scope.cancel()


async def test_a_block_found_before_a_crash_can_be_sent_after_it(tmp_path):
    file = tmp_path / "new" / "tdp.json"
    async with following(file=file) as rig:
        await rig.provider.accept()
        await rig.provider.channel.send(offer(5), tip(5))
        number = (await rig.update()).template.id
    async with following(file=file) as rig:
        await rig.provider.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.source.submit_solution, solution(number, B))
            assert (await rig.provider.channel.expect("SubmitSolution")).template_id == 5
            nursery.cancel_scope.cancel()
        with pytest.raises(LocalProtocolError, match="old connection"):
            await rig.source.transactions(number)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', "\xff"])
async def test_a_file_that_is_none_is_written_anew(tmp_path, text):
    file = tmp_path / "tdp.json"
    file.write_text(text, encoding="latin-1")
    async with following(file=file) as rig:
        await rig.provider.accept()
        for number in range(1, 80):
            await rig.provider.channel.send(offer(number), tip(number))
            await rig.update()
            await rig.provider.channel.send(offer(1_000 + number, future=False))
            await rig.update()
    assert list(json.loads(file.read_text()).values())[-2:] == [79, 1_079]
    assert len(json.loads(file.read_text())) == tdp_number.FILED_MAX
    # The clock may have gone back: no number is given twice.
    again = tdp_number.TemplateNumbers(file, 0)
    assert again.take(1, 1) == 1_158
    for _ in range(tdp_number.KNOWN_MAX):
        again.take(1, 1)
    with pytest.raises(LocalProtocolError, match="not remembered"):
        again.find(1_158)


async def test_a_disk_that_is_full_does_not_stop_the_templates(tmp_path):
    (tmp_path / "file").write_text("")
    async with following(file=tmp_path / "file" / "tdp.json") as rig:
        await rig.provider.accept()
        await rig.provider.channel.send(offer(5), tip(5))
        await rig.update()


class Node:
    """A node beside the provider."""

    name = "node"

    def __init__(self, depth):
        self.depth = depth

    async def run(self, updates, events, *, task_status):
        task_status.started()
        await updates.send("of no interest")
        await events.send("of no interest")
        await trio.sleep_forever()

    async def active_blocks(self, hashes):
        await trio.lowlevel.checkpoint()
        return dict.fromkeys(hashes, self.depth)

    async def check_block(self, block):
        await trio.lowlevel.checkpoint()
        return BlockVerdict(block == b"good", "bad-block")

    async def submit_block(self, block):
        await trio.lowlevel.checkpoint()
        return SubmitResult(SubmitStatus.DUPLICATE, block.decode())

    async def known_transactions(self, wtxids):
        await trio.lowlevel.checkpoint()
        return dict.fromkeys(wtxids, b"raw")

    def problems(self):
        return ["the node's own"]


async def test_what_the_protocol_does_not_tell_is_asked_of_the_node():
    async with following(node=Node(3)) as rig:
        source: TemplateSource = rig.source
        assert await source.active_blocks([A]) == {A: 3}
        assert await source.check_block(b"good") == BlockVerdict(True, "bad-block")
        assert (await source.submit_block(b"x")).status is SubmitStatus.DUPLICATE
        assert await source.known_transactions([A]) == {A: b"raw"}
        assert "the node's own" in source.problems()


async def test_without_a_node_nothing_is_claimed():
    async with following() as rig:
        assert await rig.source.active_blocks([A]) == {A: None}
        with pytest.raises(NodeError, match="cannot judge"):
            await rig.source.check_block(b"")
        with pytest.raises(NodeError, match="cannot judge"):
            await rig.source.submit_block(b"")
        with pytest.raises(NodeError, match="is away"):
            await rig.source.known_transactions([A])


async def test_a_silent_provider_is_asked_and_one_that_hangs_is_left(mock_clock):
    """The clock stands still but for its jumps: whoever is asked has all the time to answer."""

    async def pass_by(seconds):
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(seconds)

    async with following() as rig:
        await rig.provider.accept()
        for _ in range(3):
            await pass_by(tdp_module.SILENCE_S)
            asked = await rig.provider.channel.expect("RequestTransactionData")
            assert asked.template_id == (1 << 64) - 1
            error = Message(
                "RequestTransactionDataError",
                template_id=asked.template_id,
                error_code="template-id-not-found",
            )
            await rig.provider.channel.send(error)
            while rig.source._link._heard_s < trio.current_time():
                await trio.sleep(0)
            await pass_by(tdp_link.ANSWER_S)
        await pass_by(tdp_module.SILENCE_S)
        await rig.provider.channel.expect("RequestTransactionData")
        await pass_by(tdp_link.ANSWER_S)
        await rig.provider.channel.closed()
        mock_clock.rate = 1
        await rig.provider.accept()
        assert "hangs" in rig.source.problems()[0]


async def test_a_provider_with_another_key_is_not_followed():
    async with following() as rig:
        stranger = AuthoritySecretKey.generate().public_key()
        source = TdpSource(rig.provider.endpoint, stranger)
        updates, _ = trio.open_memory_channel(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.run, updates, updates)
            with trio.fail_after(PATIENCE_S):
                while "not signed by the authority" not in source.problems()[0]:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


async def test_source_and_provider_understand_each_other():
    """What one of our sources says arrives the same behind our provider and our client."""
    identity = ProviderIdentity(AuthoritySecretKey.generate())
    provider = TemplateProvider(
        Node(1), Endpoint("127.0.0.1", 0), identity.sign(), ProviderSettings(is_ahead=True)
    )
    monkey = []
    Node.constrain = lambda _self, size, sigops: monkey.append((size, sigops))
    updates_send, updates = trio.open_memory_channel(16)
    events_send, _events = trio.open_memory_channel(64)
    randomness = random.Random(4)
    async with trio.open_nursery() as nursery:
        stop = trio.Event()
        await nursery.start(lambda task_status: provider.run(stop, task_status=task_status))
        source = TdpSource(
            provider.listener.address, identity.public_key, halving_blocks=150, first_number=0
        )
        nursery.start_soon(source.run, updates_send, events_send)
        with trio.fail_after(PATIENCE_S):
            for number in range(60):
                height = 102 + number // 3
                sent = made(randomness, 7_000 + number, height, bytes([height]) * 32)
                provider.offers.take(sent)
                got = await updates.receive()
                if got.template.tx_count == 0 and got.template.merkle_path == ():
                    got = await updates.receive()  # the one ahead came first
                assert got.tip.prev_hash == sent.tip.prev_hash
                assert (
                    new_template(got.template, future=False).written()[8:]
                    == (new_template(sent.template, future=False).written()[8:])
                )
        nursery.cancel_scope.cancel()
    assert monkey


def made(randomness, number, height, prev_hash):
    path = tuple(randomness.randbytes(32) for _ in range(randomness.randrange(1, 13)))
    message = offer(number, height=height, merkle_path=path)
    fields = {**message.fields, "coinbase_prefix": b"\x02" + height.to_bytes(2, "little")}
    ours = tdp_module.NewTemplate(*fields.values())
    template = template_of(ours, number, 150)
    tip_ = Tip(template_id=number, prev_hash=prev_hash, min_ntime=5, nbits=NBITS, target=EASY)
    return TemplateUpdate(template, tip_)


@pytest.mark.parametrize(
    ("prefix", "height"),
    [
        ("00", 0),
        ("51", 1),
        ("60", 16),
        ("0111", 17),
        ("028000", 128),
        ("03a0bb0d", 900_000),
        ("04ffffff7f", 0x7FFFFFFF),
        ("03a0bb0d0412345678"[:16], 900_000),
    ],
)
def test_heights_are_read_as_bip_34_writes_them(prefix, height):
    message = tdp_module.NewTemplate(
        *offer(1, coinbase_prefix=bytes.fromhex(prefix)).fields.values()
    )
    assert template_of(message, 1, 210_000).height == height


@pytest.mark.parametrize("prefix", ["0180", "0101", "0110", "4c", "02", "0511111111", "61", "50"])
def test_what_is_no_height_is_refused(prefix):
    message = tdp_module.NewTemplate(
        *offer(1, coinbase_prefix=bytes.fromhex(prefix)).fields.values()
    )
    with pytest.raises(RemoteProtocolError, match="no height"):
        template_of(message, 1, 210_000)


def test_a_target_is_never_easier_than_the_header_says():
    for nbits, target, expected in (
        (0x1D00FFFF, (1 << 256) - 1, 0xFFFF << 208),
        (0x1D00FFFF, 1 << 200, 1 << 200),
        (0x207FFFFF, 0x7FFFFF << 232, 0x7FFFFF << 232),
    ):
        fields = tip(1, nbits=nbits, target=target.to_bytes(32, "little")).fields
        read = tip_of(tdp_module.SetNewPrevHash(*fields.values()), 9)
        assert int.from_bytes(read.target, "little") == expected
        assert set_new_prev_hash(read).template_id == 9


@pytest.mark.parametrize(
    ("nbits", "target"),
    [(0x1D00FFFF, 0xFFFF << 208), (0x03123456, 0x123456), (0x02123456, 0x1234), (0x01123456, 0x12)],
)
def test_compact_targets(nbits, target):
    assert target_of_nbits(nbits) == target


def test_subsidies_halve():
    assert subsidy_sats(0) == subsidy_sats(209_999) == 50 * 10**8
    assert subsidy_sats(210_000) == 25 * 10**8
    assert subsidy_sats(840_000) == 3_125 * 10**5
    assert subsidy_sats(33 * 210_000) == 0
    assert subsidy_sats(10**9) == 0
    assert subsidy_sats(150, 150) == 25 * 10**8

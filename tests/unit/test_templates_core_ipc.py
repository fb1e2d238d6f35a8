"""The source in front of Bitcoin Core's socket; the node is played here, the clock too."""

import dataclasses
import itertools
import json
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from radpool_sv2.config.template import Sources, check_templates
from radpool_sv2.errors import ConfigError, NodeError
from radpool_sv2.network import MAIN, REGTEST, TESTNET4
from radpool_sv2.node import core
from radpool_sv2.node.branch import hash_from_text, text_of_hash
from radpool_sv2.node.ipc import IpcError
from radpool_sv2.node.refusal import NOT_FOUND, RpcRefusedError
from radpool_sv2.sources import choose_source
from radpool_sv2.templates import core_ipc
from radpool_sv2.templates.core_ipc import CoreIpcSource
from radpool_sv2.templates.source import STALE_PREVBLK, SubmitStatus

EASY, HARD = 0x207FFFFF, 0x1D00FFFF


@dataclasses.dataclass
class Capabilities:
    answers_rpc: bool = True
    finds_transactions: bool = True
    is_test_chain: bool = False


@dataclasses.dataclass
class Made:
    handle: int
    prev_hash: bytes
    height: int
    fees_sats: list
    nbits: int = EASY
    time: int = 1_000
    version: int = 0x20000000
    target: bytes = b"\xff" * 31 + b"\x7f"
    coinbase_tx_version: int = 2
    coinbase_prefix: bytes = b"\x01\x64"
    coinbase_sequence: int = 0xFFFFFFFE
    coinbase_locktime: int = 99
    outputs: tuple = (b"\0" * 8 + b"\x02\x6a\x24",)
    merkle_path: tuple = ()

    @property
    def transactions(self):
        return [b"raw%d" % index for index in range(len(self.fees_sats))]

    @property
    def transactions_weight(self):
        return 400 * len(self.fees_sats)

    @property
    def value_sats(self):
        return 5_000_000_000 + sum(self.fees_sats)


@dataclasses.dataclass
class Verdict:
    good: bool = True
    reason: str = ""
    detail: str = ""


class Node:
    """Bitcoin Core: a chain that tests prolong, a mempool of fees."""

    def __init__(self, network="main"):
        self.capabilities = Capabilities()
        self.chain = [bytes([height]) * 32 for height in range(1, 4)]
        self.height = {each: index for index, each in enumerate(self.chain)}
        self.network, self.syncing = network, False
        self.fees = []
        self.nbits, self.time = EASY, 1_000
        self.handles = set()
        self.log = []
        self.changed = trio.Event()
        self.lost = None
        self.interrupted = False
        self.verdict = Verdict()
        self.submitted = None
        self.name = "the node"

    def turn(self, **changes):
        """Changes the node and wakes whoever waits for that."""
        for name, value in changes.items():
            setattr(self, name, value)
        self.height |= {each: index for index, each in enumerate(self.chain)}
        self.changed.set()
        self.changed = trio.Event()

    def template(self):
        made = Made(
            handle=len(self.log) + 1,
            prev_hash=self.chain[-1],
            height=len(self.chain),
            fees_sats=list(self.fees),
            nbits=self.nbits,
            time=self.time,
        )
        self.handles.add(made.handle)
        return made

    def check(self):
        if self.lost is not None:
            raise self.lost

    async def create_template(self, *, reserved_weight, coinbase_sigops):
        self.check()
        self.log.append(("create", reserved_weight, coinbase_sigops))
        self.current = self.template()
        return self.current

    async def next_template(self, handle, *, timeout_ms, fee_rise_sats):
        assert handle in self.handles
        self.log.append(("next", timeout_ms, fee_rise_sats))
        with trio.move_on_after(timeout_ms / 1000):
            while True:
                self.check()
                if self.interrupted:
                    self.interrupted = False
                    return None
                rise = sum(self.fees) - sum(self.current.fees_sats)
                if self.chain[-1] != self.current.prev_hash or self.nbits != self.current.nbits:
                    break
                if fee_rise_sats is not None and rise >= fee_rise_sats:
                    break
                await self.changed.wait()
            found = self.template()
            if found.nbits == self.current.nbits or found.prev_hash != self.current.prev_hash:
                self.current = found
            return found
        return None

    def interrupt_wait(self, handle):
        assert handle in self.handles
        self.turn(interrupted=True)

    def forget(self, handle):
        self.handles.remove(handle)

    async def call_for(self, kind, method, *params, deadline_s=None):
        self.check()
        answer = getattr(self, method)(*params)
        return msgspec.json.decode(json.dumps(answer), type=kind)

    async def call(self, method, *params, deadline_s=None):
        return await self.call_for(object, method, *params)

    def getblockchaininfo(self):
        return {
            "chain": self.network,
            "blocks": len(self.chain) - 1,
            "headers": len(self.chain) - 1,
            "bestblockhash": text_of_hash(self.chain[-1]),
            "chainwork": "01",
            "initialblockdownload": self.syncing,
        }

    def getnetworkinfo(self):
        return {"version": 310000, "subversion": "/Satoshi:31.0.0/", "connections": 3}

    def getdeploymentinfo(self):
        return {"deployments": {"taproot": {}}}

    def getblockheader(self, shown):
        block = hash_from_text(shown)
        if block not in self.height:
            raise RpcRefusedError("Block not found", "", NOT_FOUND, "Block not found")
        height = self.height[block]
        active = height < len(self.chain) and self.chain[height] == block
        below = self.chain[height - 1] if height else bytes(32)
        return {
            "confirmations": len(self.chain) - height if active else -1,
            "height": height,
            "previousblockhash": text_of_hash(below),
        }

    def submitblock(self, block):
        self.log.append(("submitblock", bytes.fromhex(block)))
        return self.submitted

    async def submit_solution(self, handle, **solution):
        self.log.append(("solution", handle, solution["nonce"]))
        return Verdict()

    async def check_block(self, block):
        self.check()
        return self.verdict

    async def find_transactions(self, wtxids):
        self.check()
        self.log.append(("find", len(wtxids)))
        return [b"x" * 100_000 if wtxid[0] % 2 else b"" for wtxid in wtxids]


class Followed:
    def __init__(self, source, node, updates, events):
        self.source, self.node, self.updates, self.events = source, node, updates, events

    async def next(self):
        with trio.fail_after(200):
            return await self.updates.receive()

    async def change(self):
        with trio.fail_after(200):
            return await self.events.receive()


@pytest.fixture
def following(monkeypatch):
    @asynccontextmanager
    async def follow(node, *, network=MAIN, connects=lambda: None, **settings):
        async def serve(path, uids, *, task_status):
            assert (path, uids) == (Path("/the/socket"), [7])
            connects()
            node.check()
            task_status.started(node)
            await trio.sleep_forever()

        monkeypatch.setattr(core, "serve_core_node", serve)
        settings = {"directory": None, "interval_s": 5, **settings}
        source = CoreIpcSource(Path("/the/socket"), network, trusted_uids=[7], **settings)
        updates_send, updates = trio.open_memory_channel(100)
        events_send, events = trio.open_memory_channel(100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.run, updates_send, events_send)
            yield Followed(source, node, updates, events)
            nursery.cancel_scope.cancel()

    return follow


async def test_the_first_template_and_the_tip_are_told(following, autojump_clock):
    node = Node()
    node.fees = [5, 6]
    async with following(node) as followed:
        update, event = await followed.next(), await followed.change()
        await trio.testing.wait_all_tasks_blocked()
        assert followed.source.problems() == []
    template, tip = update.template, update.tip
    assert (template.height, template.tx_count, template.fees_sats) == (3, 2, 11)
    assert (template.value_sats, template.template_output_count) == (5_000_000_011, 1)
    assert template.template_outputs == node.current.outputs[0]
    # 1,168 for header and bare coinbase, four for each of the 1,000 bytes of outputs.
    assert template.weight == 2 * 400 + 1_168 + 4_000
    assert node.log[0] == ("create", 5_168, 16)
    assert (tip.template_id, tip.prev_hash, tip.min_ntime) == (template.id, node.chain[2], 1_000)
    assert (event.height, event.hash, event.connected) == (2, node.chain[2], ())


async def test_a_new_tip_comes_at_once_and_fees_after_the_interval(following, autojump_clock):
    node = Node()
    async with following(node) as followed:
        await followed.next()
        await followed.change()
        began = trio.current_time()
        node.turn(fees=[100])
        richer = await followed.next()
        assert richer.template.fees_sats == 100
        assert trio.current_time() - began == 5
        node.turn(time=1_010, chain=[*node.chain, b"\x09" * 32])
        following_tip = await followed.next()
        assert trio.current_time() - began == 5
        assert (richer.tip.min_ntime, following_tip.tip.min_ntime) == (1_000, 1_010)
        event = await followed.change()
        assert (event.connected, event.disconnected) == ((b"\x09" * 32,), ())
        assert ("next", 5_000, None) in node.log
        assert ("next", core_ipc.FEE_WAIT_MS, 1) in node.log


async def test_all_templates_of_a_tip_begin_at_the_same_time(following, autojump_clock):
    node = Node()
    async with following(node) as followed:
        first = await followed.next()
        node.turn(fees=[1], time=1_005)
        second = await followed.next()
        assert (first.tip.min_ntime, second.tip.min_ntime) == (1_000, 1_000)
        assert second.template.id > first.template.id


async def test_an_easier_block_of_a_test_network_is_left_alone(following, autojump_clock):
    node = Node("testnet4")
    node.nbits = HARD
    async with following(node, network=TESTNET4) as followed:
        await followed.next()
        node.turn(nbits=EASY)
        await trio.sleep(60)
        assert len(node.handles) == 1
        assert node.log.count(("next", 5_000, None)) <= 13, "it must not ask without a pause"
        node.turn(chain=[*node.chain, b"\x09" * 32])
        assert (await followed.next()).tip.nbits == EASY


async def test_room_for_outputs_makes_a_new_template_at_once(following, autojump_clock):
    node = Node()
    async with following(node) as followed:
        await followed.next()
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        followed.source.constrain(300, 40)
        await followed.next()
        assert trio.current_time() == began
        assert ("create", 2_368, 40) in node.log
        followed.source.constrain(10, 0)
        await followed.next()
        assert ("create", 2_000, 0) in node.log, "the node takes no less"
        await trio.testing.wait_all_tasks_blocked()
        made = len(node.log)
        followed.source.constrain(10, 0)
        await trio.testing.wait_all_tasks_blocked()
        assert len(node.log) == made


async def test_the_node_forgets_what_the_shelf_forgets(following, autojump_clock):
    node = Node()
    async with following(node) as followed:
        for number in range(10, 20):
            node.turn(chain=[*node.chain, bytes([number]) * 32])
            update = await followed.next()
            assert len(node.handles) <= 3
        assert (await followed.source.transactions(update.template.id)).raw == ()


async def test_a_node_that_is_lost_is_found_again(following, autojump_clock):
    node = Node()
    times = []
    async with following(node, connects=lambda: times.append(trio.current_time())) as followed:
        first = await followed.next()
        await followed.change()
        node.turn(lost=IpcError("the node closed the connection", "disconnected"))
        await trio.sleep(20)
        assert followed.source.problems() == ["the node closed the connection"]
        with pytest.raises(NodeError, match="closed"):
            await followed.source.check_block(bytes(100))
        pauses = [round(after - before, 3) for before, after in itertools.pairwise(times)]
        assert pauses[:6] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
        gone, new = node.chain[2], b"\x08" * 32
        node.turn(lost=None, chain=[*node.chain[:2], new], time=1_100)
        second = await followed.next()
        assert second.template.id > first.template.id
        event = await followed.change()
        assert (event.connected, event.disconnected) == ((new,), (gone,))
        await trio.testing.wait_all_tasks_blocked()
        assert followed.source.problems() == []


async def test_a_node_that_downloads_is_waited_for(following, autojump_clock):
    node = Node()
    node.syncing = True
    async with following(node) as followed:
        await trio.sleep(60)
        assert node.log == []
        assert "still downloads" in followed.source.problems()[0]
        node.turn(syncing=False)
        await followed.next()


async def test_a_node_of_another_network_gets_no_miners(following, autojump_clock):
    node = Node("signet")
    async with following(node) as followed:
        await trio.sleep(60)
        assert "is on signet" in followed.source.problems()[0]
        assert node.log == []


async def test_version_31_needs_its_rpc_interface_too(following, autojump_clock):
    node = Node()
    node.capabilities = Capabilities(answers_rpc=False, finds_transactions=False)
    async with following(node) as followed:
        await trio.sleep(10)
        assert "templates.rpc_urls" in followed.source.problems()[0]

    class Beside(Node):
        closed = False

        async def aclose(self):
            self.closed = True

        async def batch(self, method, params):
            return [None for _ in params]

        def getrawmempool(self):
            return []

    beside = Beside()
    beside.chain = node.chain
    async with following(node, rpc=beside) as followed:
        await followed.next()
        assert (await followed.change()).hash == node.chain[2]
        assert await followed.source.active_blocks([node.chain[1]]) == {node.chain[1]: 2}
        assert await followed.source.known_transactions([bytes(32)]) == {}
        assert ("find", 1) not in node.log
    assert beside.closed


async def test_on_regtest_a_block_may_be_made_harder(following, autojump_clock):
    node = Node("regtest")
    async with following(node, network=REGTEST, block_zeros=20) as followed:
        update = await followed.next()
        target = int.from_bytes(update.tip.target, "little")
        assert (target.bit_length(), update.template.rule) == (236, "20 leading zero bits")
    async with following(node, network=REGTEST) as followed:
        assert (await followed.next()).tip.target == node.current.target
    real = Node()
    async with following(real, block_zeros=20) as followed:
        update = await followed.next()
        assert (update.tip.target, update.template.rule) == (real.current.target, "")


async def test_verdicts_are_passed_on(following, autojump_clock):
    node = Node()
    async with following(node) as followed:
        await followed.next()
        await trio.testing.wait_all_tasks_blocked()
        for said, valid, reason in (
            (Verdict(), True, ""),
            (Verdict(False, "bad-cb-amount", "too much"), False, "bad-cb-amount"),
            (Verdict(False, "inconclusive-not-best-prevblk"), False, STALE_PREVBLK),
            (Verdict(False, "duplicate"), False, STALE_PREVBLK),
        ):
            node.verdict = said
            told = await followed.source.check_block(bytes(100))
            assert (told.valid, told.reason, told.detail) == (valid, reason, said.detail)


async def test_no_more_transactions_are_fetched_than_a_block_holds(following, autojump_clock):
    node = Node()
    async with following(node) as followed:
        await followed.next()
        await trio.testing.wait_all_tasks_blocked()
        wtxids = [bytes([index % 256, index // 256]) + bytes(30) for index in range(1_000)]
        found = await followed.source.known_transactions(wtxids)
        assert sum(map(len, found.values())) <= core_ipc.FOUND_BYTES_MAX + 5_000_000
        assert set(found) == {each for each in wtxids[: 2 * len(found)] if each[0] % 2}
        assert node.log.count(("find", 100)) == 2


async def test_a_block_that_comes_again_is_a_duplicate(following, autojump_clock):
    node = Node()
    async with following(node) as followed:
        await followed.next()
        await trio.testing.wait_all_tasks_blocked()
        block = bytes(100)
        first = await followed.source.submit_block(block)
        again = await followed.source.submit_block(block)
        assert (first.status, again.status) == (SubmitStatus.ACCEPTED, SubmitStatus.DUPLICATE)
        node.submitted, node.verdict = "duplicate-invalid", Verdict(False, "bad-cb-amount", "more")
        refused = await followed.source.submit_block(bytes(101))
        assert (refused.status, refused.reason) == (SubmitStatus.REJECTED, "bad-cb-amount")
        assert refused.detail == "more"
        node.submitted, node.verdict = "high-hash", Verdict()
        refused = await followed.source.submit_block(bytes(102))
        assert (refused.status, refused.reason) == (SubmitStatus.REJECTED, "high-hash")


def section(**keys):
    settings = Sources(source="core_ipc", ipc_socket=Path("/the/socket"), **keys)
    check_templates(settings)
    return settings


def test_the_configuration_names_the_node(tmp_path):
    made = choose_source(section(), tmp_path)
    assert (made.name, made.solution_socket()) == ("core_ipc", None)
    assert "/the/socket" in made.problems()[0]
    cookies = (tmp_path / ".cookie",)
    choose_source(
        section(rpc_urls=("http://127.0.0.1:8332",), rpc_cookie_files=cookies, ipc_user="root"),
        tmp_path,
    )


def test_a_user_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="no such user") as caught:
        choose_source(section(ipc_user="nobody-of-that-name"), tmp_path)
    assert caught.value.key == "templates.ipc_user"


def test_the_socket_is_one_node_s():
    with pytest.raises(ConfigError, match="one node") as caught:
        section(rpc_urls=("http://127.0.0.1:1", "http://127.0.0.1:2"))
    assert caught.value.key == "templates.rpc_urls"
    with pytest.raises(ConfigError):
        section(rpc_urls=("no address",))

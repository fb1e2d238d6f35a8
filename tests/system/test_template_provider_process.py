"""`radpool template-provider` as a process, before the embedded chain and before a real node."""

import signal
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from rig.getblocktemplate import solve
from rig.node import UNLIMITED, Node
from rig.offering import ProviderNode
from rig.paid import settled
from rig.process import RADPOOL, Process, run
from rig.wait import until

from radpool_sv2._native.keys import AuthorityPublicKey
from radpool_sv2.config import Endpoint
from radpool_sv2.templates.source import SubmitStatus
from radpool_sv2.templates.tdp import TdpSource

pytestmark = pytest.mark.slow

PATIENCE_S = 60
EMBEDDED = {"templates.block_zeros": 10, "templates.payments_per_minute": 120}


def before(bitcoind):
    """What makes a provider stand before a real node."""
    return {
        "templates.source": "bitcoind",
        "templates.rpc_urls": [bitcoind.url],
        "templates.rpc_cookie_files": [str(bitcoind.cookie_file)],
        "templates.zmq_urls": [bitcoind.zmq_url],
        "templates.block_zeros": 0,
        "templates.interval_s": 1,
    }


class Follower:
    """Our client, and all that it has heard."""

    def __init__(self, source, updates):
        self.source, self._updates = source, updates

    async def until(self, condition):
        """Returns the first update from now on that meets a condition."""
        with trio.fail_after(PATIENCE_S):
            while True:
                update = await self._updates.receive()
                if condition(update):
                    return update

    async def lost(self):
        """Waits until the provider is known to be away, and forgets what it has sent."""
        with trio.fail_after(PATIENCE_S):
            # That there is no node beside it is the one problem that it always has.
            while len(self.source.problems()) < 2:
                await trio.sleep(0.01)
        with suppress(trio.WouldBlock):
            while True:
                self._updates.receive_nowait()


@asynccontextmanager
async def following(provider):
    updates_send, updates = trio.open_memory_channel(256)
    events_send, _events = trio.open_memory_channel(256)
    key = AuthorityPublicKey.from_text(provider.authority_key)
    source = TdpSource(Endpoint.parse(provider.address), key, halving_blocks=150)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, updates_send, events_send)
        yield Follower(source, updates)
        nursery.cancel_scope.cancel()


def shown(hash_):
    return hash_[::-1].hex()


@pytest.mark.parametrize("ahead", [False, True])
async def test_blocks_are_mined_on_the_embedded_chain(tmp_path, ahead):
    provider = ProviderNode(tmp_path / "tp", EMBEDDED | {"provider.future_ahead": ahead})
    with provider.running() as process:
        async with following(provider) as client:
            update = await client.until(lambda each: each.template.tx_count > 1)
            for _ in range(3):
                found = (await client.source.transactions(update.template.id)).raw
                assert (len(found) > 0) == (update.template.tx_count > 0)
                solution = solve(update)
                with trio.fail_after(PATIENCE_S):
                    result = await client.source.submit_solution(solution)
                assert (result.status, result.active) == (SubmitStatus.ACCEPTED, True)
                update = await client.until(
                    lambda each, tip=solution.hash: each.tip.prev_hash == tip
                )
                # The first work on a new tip is the template that was there before it.
                assert (update.template.value_sats == 50 * 10**8) or not ahead
        process.signal(signal.SIGTERM)
        assert process.wait() == 0, process.tail()
    assert len(provider.said("a block was accepted")) == 3
    assert not [line for line in provider.log() if line["level"] in ("warning", "error")]


async def test_a_reorganisation_of_the_embedded_chain_is_told(tmp_path):
    provider = ProviderNode(tmp_path / "tp", EMBEDDED)
    with provider.running():
        async with following(provider) as client:
            first = await client.until(lambda _each: True)
            await trio.to_thread.run_sync(provider.chain, "mine", 1)
            undone = await client.until(lambda each: each.tip.prev_hash != first.tip.prev_hash)
            await trio.to_thread.run_sync(provider.chain, "reorg", 1)
            after = await client.until(lambda each: each.tip.prev_hash != undone.tip.prev_hash)
            assert after.template.height == undone.template.height + 1


async def test_blocks_with_real_transactions_reach_a_real_node(bitcoind, tmp_path):
    sent = [bitcoind.spend(fee_sats=5_000 + n, outputs=2) for n in range(5)]
    provider = ProviderNode(tmp_path / "tp", before(bitcoind))
    with provider.running() as process:
        async with following(provider) as client:
            fees = sum(5_000 + n for n in range(5))
            update = await client.until(lambda each: each.template.fees_sats == fees)
            assert len((await client.source.transactions(update.template.id)).raw) == 5
            solution = solve(update)
            with trio.fail_after(PATIENCE_S):
                result = await client.source.submit_solution(solution)
            assert (result.status, result.active) == (SubmitStatus.ACCEPTED, True)
            block = bitcoind.rpc("getblock", shown(solution.hash), 2)
            assert block["confirmations"] == 1
            assert {tx["txid"] for tx in block["tx"][1:]} == set(sent)
            # The chain of the node goes back, and with it clients that have heard of the block.
            await client.until(lambda each: each.tip.prev_hash == solution.hash)
            before_ = update.tip.prev_hash
            bitcoind.rpc("invalidateblock", shown(solution.hash))
            again = await client.until(lambda each: each.tip.prev_hash == before_)
            assert again.template.height == update.template.height
        process.signal(signal.SIGTERM)
        assert process.wait() == 0, process.tail()
    assert not [line for line in provider.log() if line["level"] == "error"]


async def test_a_node_that_restarts_is_followed_on(bitcoind, tmp_path):
    bitcoind.restart()
    provider = ProviderNode(tmp_path / "tp", before(bitcoind))
    with provider.running():
        async with following(provider) as client:
            update = await client.until(lambda _each: True)
            await trio.to_thread.run_sync(bitcoind.restart)
            solution = solve(update)
            with trio.fail_after(PATIENCE_S):
                result = await client.source.submit_solution(solution)
            assert result.status is SubmitStatus.ACCEPTED, provider.log()[-5:]
            await client.until(lambda each: each.tip.prev_hash == solution.hash)


async def test_a_provider_that_restarts_is_followed_on(tmp_path):
    provider = ProviderNode(tmp_path / "tp", EMBEDDED)
    with provider.running() as process:
        async with following(provider) as client:
            first = await client.until(lambda _each: True)
            process.kill()
            until(process.is_gone, lambda: f"the end of all of it; {process.tail()}")
            await client.lost()
            with provider.running():
                again = await client.until(lambda each: each.template.id > first.template.id)
                assert again.tip.prev_hash == first.tip.prev_hash
                with trio.fail_after(PATIENCE_S):
                    result = await client.source.submit_solution(solve(again))
                assert result.status is SubmitStatus.ACCEPTED


def test_a_pool_mines_on_a_provider_with_a_node_beside(bitcoind, tmp_path):
    """The templates come by the protocol, the blocks are confirmed by the node itself."""
    provider = ProviderNode(tmp_path / "tp", before(bitcoind) | {"templates.block_zeros": 17})
    with provider.running():
        settings = {
            "mining.exponent_min": 8,
            "mining.shares_per_minute": 1_200,
            "templates.source": "tdp",
            "templates.tdp_address": provider.address,
            "templates.tdp_authority_key": provider.authority_key,
            "templates.rpc_urls": [bitcoind.url],
            "templates.rpc_cookie_files": [str(bitcoind.cookie_file)],
            "ledger.maturity_blocks": 3,
        }
        node = Node(tmp_path / "msp", UNLIMITED | settings)
        with node.running() as running:
            command = [RADPOOL, "miner", "--connect", running.sv2, "--json", "--threads", "1"]
            command += ["--authority-key", running.authority_key, "--user", "alice"]
            command += ["--hash-rate-limit", 150_000]
            with Process(command, node.directory, "alice") as miner:
                until(
                    lambda: any(each["confirmations"] for each in blocks(running)),
                    lambda: f"a block; {miner.tail()}",
                )
                miner.signal(signal.SIGTERM)
                assert miner.wait() == 0, miner.tail()
            bitcoind.mine(3)
            rows = until(
                lambda: settled(blocks(running)), lambda: f"paid blocks; {blocks(running)}"
            )
            assert running.problems() == []
            found = [bitcoind.rpc("getblock", each["hash"], 1) for each in rows]
            assert all(each["confirmations"] > 0 for each in found)
            assert running.leave(signal.SIGTERM, 60) == 0


def blocks(running):
    return running.get("/api/v1/blocks?limit=100").json()["items"]


def test_one_directory_is_one_provider_and_mistakes_are_told(tmp_path):
    provider = ProviderNode(tmp_path / "tp", EMBEDDED)
    command = [RADPOOL, "template-provider", "--dir", provider.directory]
    with provider.running():
        second = run([*command, "--listen", "127.0.0.1:0"])
        assert second.returncode == 1
        assert "another radpool runs on this directory" in second.stderr
    (provider.directory / "keys" / "authority.key").chmod(0o644)
    open_key = run(command)
    assert open_key.returncode == 1
    assert "chmod 600" in open_key.stderr
    again = run([RADPOOL, "init", "template-provider", "--dir", provider.directory])
    assert again.returncode == 1
    assert "not overwritten" in again.stderr
    neither = run([RADPOOL, "template-provider"])
    assert neither.returncode == 1
    assert "radpool init template-provider" in neither.stderr

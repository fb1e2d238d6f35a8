"""Blocks from Bitcoin Core's socket: by the pool's own templates, and by our client's."""

import signal

import pytest
from rig.bitcoind import CORE_DIRECTORY
from rig.declarer import Declarer
from rig.node import UNLIMITED, Node
from rig.offering import ProviderNode
from rig.paid import ChainOf, blocks, check_paid, paid_blocks, script_of
from rig.process import RADPOOL, Process
from rig.wait import until

pytestmark = pytest.mark.timeout(400)

PROGRAM = CORE_DIRECTORY / "bin" / "bitcoin-node"
ZEROS = 18
BLOCKS = 3
PATIENCE_S = 150
POOL = UNLIMITED | {
    "mining.exponent_min": 8,
    "mining.shares_per_minute": 1_200,
    "ledger.maturity_blocks": 3,
}


@pytest.fixture
def core(bitcoinds):
    """Bitcoin Core with its socket."""
    return bitcoinds("n", blocks=130, program=PROGRAM, zmq=False, arguments=["-ipcbind=unix"])


def by_socket(node):
    return {
        "templates.source": "core_ipc",
        "templates.ipc_socket": str(node.data / "regtest" / "node.sock"),
        "templates.block_zeros": ZEROS,
        "templates.interval_s": 1,
    }


def finds_blocks(running, command, directory):
    """Lets a miner work until there are blocks; it leaves in order."""
    with Process([*command, "--hash-rate-limit", 150_000], directory, "miner") as miner:
        until(
            lambda: len(blocks(running)) >= BLOCKS,
            lambda: f"blocks; {miner.tail()} {running.process.tail()}",
            PATIENCE_S,
        )
        miner.signal(signal.SIGTERM)
        assert miner.wait(20) == 0, miner.tail()


def miner_of(address, key):
    command = [RADPOOL, "miner", "--connect", address, "--json", "--threads", "1"]
    return [*command, "--authority-key", key, "--user", "alice.rig"]


@pytest.mark.pair("pool with source `core_ipc`", "Bitcoin Core")
def test_plain_templates_of_its_socket(core, tmp_path, record_property):
    txid = core.spend(fee_sats=8_000)
    node = Node(tmp_path / "msp", POOL | by_socket(core))
    with node.running() as running:
        finds_blocks(running, miner_of(running.sv2, running.authority_key), tmp_path)
        rows = paid_blocks(running, ChainOf(core))
        assert running.problems() == []
        assert running.leave(signal.SIGTERM, 20) == 0
    found = check(node, core, tmp_path, rows, txid)
    record_property("mined", f"{len(found)} blocks")


@pytest.mark.pair(
    "pool with source `tdp`, template provider with source `core_ipc`", "Bitcoin Core"
)
def test_plain_templates_of_a_provider_on_its_socket(core, tmp_path, record_property):
    txid = core.spend(fee_sats=8_000)
    provider = ProviderNode(tmp_path / "tp", by_socket(core))
    with provider.running():
        settings = {
            "templates.source": "tdp",
            "templates.tdp_address": provider.address,
            "templates.tdp_authority_key": provider.authority_key,
            "templates.rpc_urls": [core.url],
            "templates.rpc_cookie_files": [str(core.cookie_file)],
            "templates.interval_s": 1,
        }
        node = Node(tmp_path / "msp", POOL | settings)
        with node.running() as running:
            finds_blocks(running, miner_of(running.sv2, running.authority_key), tmp_path)
            rows = paid_blocks(running, ChainOf(core))
            assert running.problems() == []
            assert running.leave(signal.SIGTERM, 20) == 0
    found = check(node, core, tmp_path, rows, txid)
    record_property("mined", f"{len(found)} blocks")


@pytest.mark.pair("pool and `radpool jdc`, both with source `core_ipc`", "Bitcoin Core")
@pytest.mark.parametrize("mode", ["full-template", "coinbase-only"])
def test_templates_of_our_client(core, tmp_path, record_property, mode):
    txid = core.spend(fee_sats=8_000)
    node = Node(tmp_path / "msp", POOL | by_socket(core) | {"declarator.enabled": True})
    with node.running() as running:
        pool = {
            "address": running.sv2,
            "authority_public_key": running.authority_key,
            "declarator": running.declarator,
            "user": "alice.rig",
            "mode": mode,
        }
        settings = by_socket(core) | {
            "mining.exponent_min": 8,
            "mining.shares_per_minute": 1_200,
            "declaration.interval_s": 1,
            "declaration.retry_s": 1,
        }
        with Declarer(tmp_path / "jdc", [pool], settings).running() as client:
            client.mining_for(pool["address"])
            finds_blocks(running, miner_of(client.sv2, client.authority_key), tmp_path)
            client.until(lambda figures: not figures["pools"][0]["unanswered"], "all answers")
            client.process.signal(signal.SIGTERM)
            assert client.process.wait(20) == 0, client.process.tail()
        rows = paid_blocks(running, ChainOf(core))
        [declarer] = running.get("/api/v1/declarers").json()["items"]
        assert running.problems() == []
        assert running.leave(signal.SIGTERM, 20) == 0
    found = check(node, core, tmp_path, rows, txid)
    record_property("mined", f"{mode}: {len(found)} blocks")
    assert (declarer["account"], declarer["unrevealed"]) == ("alice", 0)
    assert declarer["quality_permille"] >= 1_000


def check(node, core, tmp_path, rows, txid):
    found = check_paid(node, rows, ChainOf(core), script_of(node, core), tmp_path / "exports")
    assert len(found) >= BLOCKS - 1, "at most one lost to another of the same height"
    assert txid in {each for block in found for each in block.transactions}
    assert {row["finder"] for row in rows} == {"alice"}
    return found

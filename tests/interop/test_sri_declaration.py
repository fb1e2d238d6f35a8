"""SRI's job declarator client, as published, declares templates to the pool: for `make interop`.

On regtest every second hash is a block for that client, and it pushes each share as one. So the
pool asks for no more zeros than the node does, and shares are some seconds apart: the client asks
for tokens and declares at each block, as it does elsewhere every ten minutes.
"""

import signal

import pytest
from rig import audit, sri
from rig.bitcoind import CORE_DIRECTORY
from rig.book import Book
from rig.node import Node
from rig.offering import ProviderNode
from rig.paid import ChainOf, blocks, check_paid, paid_blocks, script_of
from rig.sv1 import Sv1Miner
from rig.wait import until

PATIENCE_S = 150
SHARES = 6
BLOCKS = 4
PROGRAM = CORE_DIRECTORY / "bin" / "bitcoin-node"
MINING = {
    "mining.exponent_min": 18,
    "mining.shares_per_minute": 12,
    "mining.report_interval_ms": 1_000,
    "declarator.enabled": True,
    # Blocks come every few seconds, and each is a declaration or two.
    "declarator.declarations_per_minute_max": 600,
    "declarator.tokens_per_minute_max": 1_200,
    "templates.block_zeros": 0,
    "ledger.maturity_blocks": 3,
}


@pytest.fixture
def core(bitcoinds):
    """Bitcoin Core with its socket where SRI's roles look for it."""
    return bitcoinds("n", blocks=130, program=PROGRAM, zmq=False, arguments=["-ipcbind=unix"])


def by_socket(node):
    return {
        "templates.source": "core_ipc",
        "templates.ipc_socket": str(node.data / "regtest" / "node.sock"),
        "templates.interval_s": 1,
    }


def by_rpc(node):
    return {
        "templates.source": "bitcoind",
        "templates.rpc_urls": [node.url],
        "templates.rpc_cookie_files": [str(node.cookie_file)],
        "templates.interval_s": 1,
    }


def mines_declared_templates(tmp_path, running, client, node):
    """Lets a device mine through a client until shares are credited and its blocks are found.

    Returns the transaction that waited, the pool's rows of the paid blocks, and what the pool
    reports of the client.
    """
    txid = node.spend(fee_sats=7_000)
    with client, sri.mining_device(tmp_path / "sri", client.address, sri.AUTHORITY_KEY) as device:

        def credited():
            assert client.process.is_alive, client.process.tail()
            assert device.is_alive, device.tail()
            found = [row for row in blocks(running) if row["confirmations"]]
            return shares_of(running) >= SHARES and len(found) >= BLOCKS

        until(
            credited,
            lambda: f"{shares_of(running)} shares; {client.process.tail()} {device.tail()}",
            PATIENCE_S,
        )
    assert client.heard("DeclareMiningJobError") <= {"stale-chain-tip"}
    assert client.heard("SetCustomMiningJobError") <= {"stale-chain-tip"}
    rows = paid_blocks(running, ChainOf(node))
    [declarer] = running.get("/api/v1/declarers").json()["items"]
    assert running.leave(signal.SIGTERM, 20) == 0
    return txid, rows, declarer


def check(node, bitcoind, tmp_path, txid, rows, declarer):
    """What the client chose is in the chain; the pool is paid, and says what it is worth.

    Returns what was mined, in words.
    """
    script = script_of(node, bitcoind)
    found = check_paid(node, rows, ChainOf(bitcoind), script, tmp_path / "exports")
    assert len(found) >= BLOCKS
    assert any(txid in block.transactions for block in found)
    for row in rows:
        if row["state"] == "paid":
            coinbase = bitcoind.rpc("getblock", row["hash"], 2)["tx"][0]
            assert b"declared" in bytes.fromhex(coinbase["vin"][0]["coinbase"])
            assert row["finder"] == declarer["account"]
    assert declarer["quality_permille"] >= 1_000
    assert len(accepted_jobs(node)) >= BLOCKS
    shares = audit.check_batches(node)
    assert shares == Book(node.database).check() >= SHARES
    quality = declarer["quality_permille"] / 10
    return f"{len(found)} blocks, {shares} shares, quality {quality} %"


def shares_of(running):
    total = 0
    for client in running.get("/api/v1/clients").json()["items"]:
        page = running.get(f"/api/v1/clients/{client['client_id']}/channels").json()
        total += sum(channel["shares_accepted"] for channel in page["extended_channels"])
    return total


def accepted_jobs(node):
    return [line for line in node.log() if line.get("event") == "custom job accepted"]


@pytest.mark.pair(
    "pool, declarator, template provider with source `bitcoind`",
    "jd_client_sv2 (FULLTEMPLATE), mining_device, Bitcoin Knots",
)
@pytest.mark.timeout(400)
def test_templates_of_our_provider_are_declared_to_our_pool(tmp_path, bitcoind, record_property):
    node = Node(tmp_path / "msp", MINING | by_rpc(bitcoind))
    provider = ProviderNode(tmp_path / "tp", by_rpc(bitcoind))
    with node.running() as running, provider.running():
        templates = sri.provider(provider.address, provider.authority_key)
        client = sri.job_declarator_client(tmp_path / "sri", running, templates)
        found = mines_declared_templates(tmp_path, running, client, bitcoind)
    record_property("mined", check(node, bitcoind, tmp_path, *found))


@pytest.mark.pair(
    "pool and declarator with source `core_ipc`",
    "jd_client_sv2 (FULLTEMPLATE), mining_device, Bitcoin Core",
)
@pytest.mark.timeout(400)
def test_templates_of_bitcoin_core_are_declared_to_our_pool_on_its_socket(
    tmp_path, core, record_property
):
    node = Node(tmp_path / "msp", MINING | by_socket(core))
    with node.running() as running:
        client = sri.job_declarator_client(tmp_path / "sri", running, sri.core(core))
        found = mines_declared_templates(tmp_path, running, client, core)
    record_property("mined", check(node, core, tmp_path, *found))


@pytest.mark.pair(
    "pool, declarator, template provider with source `bitcoind`",
    "jd_client_sv2 (COINBASEONLY), mining_device, Bitcoin Knots",
)
@pytest.mark.timeout(400)
def test_transactions_may_be_kept_to_oneself(tmp_path, bitcoind, record_property):
    """Coinbase-only: the pool learns the coinbase alone, and pays no more than the reference."""
    node = Node(tmp_path / "msp", MINING | by_rpc(bitcoind))
    # That client makes a job only of a template for a tip that is there.
    settings = by_rpc(bitcoind) | {"provider.repeat_on_tip": True}
    provider = ProviderNode(tmp_path / "tp", settings)
    with node.running() as running, provider.running():
        templates = sri.provider(provider.address, provider.authority_key)
        client = sri.job_declarator_client(
            tmp_path / "sri", running, templates, mode="COINBASEONLY"
        )
        found = mines_declared_templates(tmp_path, running, client, bitcoind)
    record_property("mined", check(node, bitcoind, tmp_path, *found))
    assert found[2]["hidden_jobs"] >= BLOCKS


@pytest.mark.pair(
    "pool and declarator with source `core_ipc`",
    "jd_client_sv2, translator_sv2, SV1 miner, Bitcoin Core",
)
@pytest.mark.timeout(400)
def test_an_old_miner_mines_what_the_client_has_declared(tmp_path, core, record_property):
    """SV1 miner, SRI's translator, SRI's client, our pool: the whole way."""
    # That miner is slow: one difficulty, at which it finds a share a second.
    one_step = {"mining.exponent_min": 16, "mining.exponent_max": 16}
    node = Node(tmp_path / "msp", MINING | one_step | by_socket(core))
    with node.running() as running:
        client = sri.job_declarator_client(tmp_path / "sri", running, sri.core(core))
        with client:
            client.until_said("ready to accept connections")
            bridge = sri.translator(
                tmp_path / "sri", client.address, sri.AUTHORITY_KEY, aggregates=True, vardiff=False
            )
            with bridge:
                bridge.until_said("listening on")
                with Sv1Miner(bridge.address, "old") as miner:
                    until(
                        lambda: shares_of(running) >= SHARES or miner.lost,
                        lambda: f"{miner.accepted}; {client.process.tail()}",
                        PATIENCE_S,
                    )
                    assert miner.lost == ""
        assert running.leave(signal.SIGTERM, 10) == 0
    assert accepted_jobs(node)
    shares = audit.check_batches(node)
    assert shares == Book(node.database).check() >= SHARES
    record_property("mined", f"{shares} shares")

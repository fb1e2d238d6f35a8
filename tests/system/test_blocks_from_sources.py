"""A block from every source of templates: on the chain, and paid as its coinbase says.

Plain templates come from the embedded chain, from bitcoind, and from a template provider before it;
chosen ones from our job declarator client, which has a node of its own with a payment that the
pool's node has never heard of. `make interop` does the same by Bitcoin Core's socket and with
foreign programs.
"""

import contextlib
import signal

import pytest
from rig.bitcoind import free_ports
from rig.book import Book
from rig.declarer import Declarer
from rig.node import UNLIMITED, Node
from rig.offering import ProviderNode
from rig.paid import ChainOf, EmbeddedOf, blocks, check_paid, paid_blocks, script_of
from rig.process import RADPOOL, Process
from rig.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ZEROS = 18
BLOCKS = 2
PATIENCE_S = 120
POOL = UNLIMITED | {
    "mining.exponent_min": 8,
    "mining.shares_per_minute": 1_200,
    "templates.block_zeros": ZEROS,
    "templates.interval_s": 1,
    "ledger.maturity_blocks": 3,
}
EMBEDDED = {"templates.source": "embedded", "templates.payments_per_minute": 120}
RATES = {"alice": 120_000, "bob": 60_000}


def on_node(bitcoind):
    return {
        "templates.source": "bitcoind",
        "templates.rpc_urls": [bitcoind.url],
        "templates.rpc_cookie_files": [str(bitcoind.cookie_file)],
        "templates.zmq_urls": [bitcoind.zmq_url],
        "templates.block_zeros": ZEROS,
        "templates.interval_s": 1,
    }


@contextlib.contextmanager
def source_settings(kind, bitcoind, directory):
    """Yields what makes a pool take its templates from such a source, which runs meanwhile."""
    if kind == "embedded":
        yield EMBEDDED
    elif kind == "bitcoind":
        yield on_node(bitcoind)
    else:
        provider = ProviderNode(directory / "tp", on_node(bitcoind))
        with provider.running():
            beside = {key: on_node(bitcoind)[key] for key in NODE_KEYS}
            yield beside | {
                "templates.source": "tdp",
                "templates.tdp_address": provider.address,
                "templates.tdp_authority_key": provider.authority_key,
            }


NODE_KEYS = ("templates.rpc_urls", "templates.rpc_cookie_files", "templates.zmq_urls")


def miner_of(running, name):
    command = [RADPOOL, "miner", "--connect", running.sv2, "--json", "--threads", "1"]
    command += ["--authority-key", running.authority_key, "--user", f"{name}.rig"]
    command += ["--hash-rate-limit", RATES[name]]
    return Process(command, running.node.directory, name)


def leaves(process):
    process.signal(signal.SIGTERM)
    assert process.wait() == 0, process.tail()


@pytest.mark.parametrize("kind", ["embedded", "bitcoind", "tdp"])
def test_plain_templates(bitcoind, tmp_path, kind):
    sent = {bitcoind.spend(fee_sats=5_000 + n, outputs=2) for n in range(3)}
    with source_settings(kind, bitcoind, tmp_path) as settings:
        node = Node(tmp_path / "msp", POOL | settings)
        with node.running() as running:
            chain = EmbeddedOf(running) if kind == "embedded" else ChainOf(bitcoind)
            with miner_of(running, "alice") as alice, miner_of(running, "bob") as bob:
                until(
                    lambda: len(blocks(running)) >= BLOCKS,
                    lambda: f"blocks; {alice.tail()}",
                    PATIENCE_S,
                )
                leaves(alice)
                leaves(bob)
            rows = paid_blocks(running, chain)
            assert running.problems() == []
            assert running.leave(signal.SIGTERM) == 0
    found = check_paid(node, rows, chain, script_of(node, bitcoind), tmp_path / "exports")
    assert len(found) >= BLOCKS - 1, "at most one lost to another of the same height"
    if kind != "embedded":
        assert sent <= {txid for block in found for txid in block.transactions}


def known_to_itself(bitcoinds, far):
    """A node that follows another one and has a payment of which that one does not know."""
    near = bitcoinds("near", blocks=0, arguments=[f"-connect=127.0.0.1:{far.p2p_port}"])
    until(lambda: near.tip == far.tip, "the chain of the pool's node")
    txid = near.spend(coin=far.purse.coin(), fee_sats=700_000)
    assert txid not in far.rpc("getrawmempool")
    return near, txid


@pytest.fixture
def far(bitcoinds):
    """The pool's node: it hears of blocks by its peer, but of no payments."""
    (port,) = free_ports(1)
    node = bitcoinds("far", arguments=["-listen=1", f"-bind=127.0.0.1:{port}", "-blocksonly=1"])
    node.p2p_port = port
    return node


@pytest.mark.parametrize("mode", ["full-template", "coinbase-only"])
def test_templates_of_the_job_declarator_client(bitcoinds, far, tmp_path, mode):
    near, txid = known_to_itself(bitcoinds, far)
    chain = ChainOf(far)
    node = Node(tmp_path / "msp", POOL | on_node(far) | {"declarator.enabled": True})
    with node.running() as running:
        pool = {
            "address": running.sv2,
            "authority_public_key": running.authority_key,
            "declarator": running.declarator,
            "user": "alice.rig",
            "mode": mode,
        }
        settings = on_node(near) | {
            "mining.exponent_min": 8,
            "mining.shares_per_minute": 1_200,
            "declaration.interval_s": 1,
            "declaration.retry_s": 1,
        }
        with Declarer(tmp_path / "jdc", [pool], settings).running() as client:
            client.mining_for(pool["address"])
            with client.miner() as miner:
                until(
                    lambda: len(blocks(running)) >= BLOCKS,
                    lambda: f"blocks; {client.process.tail()} {running.process.tail()}",
                    PATIENCE_S,
                )
                leaves(miner)
            client.until(lambda figures: not figures["pools"][0]["unanswered"], "all answers")
            leaves(client.process)
        rows = paid_blocks(running, chain)
        [declarer] = running.get("/api/v1/declarers").json()["items"]
        accounts = running.get("/api/v1/accounts").json()["items"]
        assert running.problems() == []
        assert running.leave(signal.SIGTERM) == 0
    found = check_paid(node, rows, chain, script_of(node, far), tmp_path / "exports")
    # What only the miner's own node knew is in the chain of both.
    assert txid in {each for block in found for each in block.transactions}
    assert {row["finder"] for row in rows} == {"alice"}
    [alice] = [each for each in accounts if each["account"] == "alice"]
    # A block that is found at once may close an epoch in which nobody has worked.
    carried = Book(node.database).number("SELECT sum(sats) FROM entry WHERE book = 'carry'")
    paid = [row for row in rows if row["state"] == "paid"]
    assert alice["balance_sats"] + carried == sum(row["value_sats"] for row in paid)
    assert declarer["account"] == "alice"
    assert declarer["quality_permille"] >= 1_000
    assert declarer["blocks"] == len(rows)
    assert (declarer["hidden_jobs"] > 0) == (mode == "coinbase-only")
    assert declarer["unrevealed"] == 0

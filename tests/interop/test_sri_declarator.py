"""Our job declarator client declares to SRI's job declarator server, which is part of its pool.

That server judges templates by Bitcoin Core's socket, so it runs on Core alone. On regtest nearly
every share is a block for SRI's pool, and so it is for our client, which is told to ask no more.
"""

import contextlib
import signal

import pytest
from rig import sri
from rig.bitcoind import CORE_DIRECTORY
from rig.declarer import Declarer
from rig.wait import until

PROGRAM = CORE_DIRECTORY / "bin" / "bitcoin-node"
BLOCKS = 4
SHARES = 6
PATIENCE_S = 150
# Hash rate of the miner behind the client: shares some seconds apart, as each is a block.
RATE = 150_000


@pytest.fixture
def core(bitcoinds):
    """Bitcoin Core with its socket where SRI's roles look for it."""
    return bitcoinds("n", blocks=130, program=PROGRAM, zmq=False, arguments=["-ipcbind=unix"])


def by_socket(node):
    return {
        "templates.source": "core_ipc",
        "templates.ipc_socket": str(node.data / "regtest" / "node.sock"),
    }


def by_rpc(node):
    return {
        "templates.source": "bitcoind",
        "templates.rpc_urls": [node.url],
        "templates.rpc_cookie_files": [str(node.cookie_file)],
    }


@contextlib.contextmanager
def started(tmp_path, core):
    """Runs SRI's pool with its declarator for the length of the context."""
    with sri.pool(tmp_path / "sri", sri.core(core), declarator=True) as theirs:
        until(
            lambda: sri.listens(theirs.declarator) and sri.listens(theirs.address),
            lambda: f"SRI's pool; {theirs.process.tail()}",
            PATIENCE_S,
        )
        yield theirs


def declarer(tmp_path, theirs, templates, mode):
    """Our client in front of that pool."""
    pool = {
        "address": theirs.address,
        "authority_public_key": sri.AUTHORITY_KEY,
        "declarator": theirs.declarator,
        "user": "alice.rig",
        "mode": mode,
    }
    settings = templates | {
        "templates.block_zeros": 0,
        "templates.interval_s": 1,
        "mining.exponent_min": 10,
        "declaration.interval_s": 1,
        "declaration.retry_s": 1,
    }
    return Declarer(tmp_path / "jdc", [pool], settings)


@pytest.mark.pair("`radpool jdc`", "declarator of pool_sv2, Bitcoin Core")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("source", [by_socket, by_rpc])
def test_our_client_declares_to_sri_s_pool(tmp_path, core, source, record_property):
    txid = core.spend(fee_sats=7_000)
    before = core.rpc("getblockcount")
    with started(tmp_path, core) as theirs:
        with declarer(tmp_path, theirs, source(core), "full-template").running() as client:
            client.mining_for(theirs.address)
            with client.miner(rate=RATE):

                def credited():
                    assert theirs.process.is_alive, theirs.process.tail()
                    figures = client.figures
                    done = figures["pools"][0]["accepted"] >= SHARES
                    return done and figures["blocks_accepted"] >= BLOCKS

                until(
                    credited,
                    lambda: f"{client.figures}; {client.notes}; {theirs.process.tail()}",
                    PATIENCE_S,
                )
                client.process.signal(signal.SIGTERM)
                assert client.process.wait(20) == 0, client.process.tail()
                told = client.pool()
    assert told["mismatches"] == 0
    assert told["jobs_accepted"] >= BLOCKS
    assert not told["rejected"].keys() - {"stale-share", "invalid-job-id"}, told
    blocks = blocks_since(core, before)
    assert len(blocks) >= BLOCKS
    record_property("mined", f"{len(blocks)} blocks, {told['accepted']} shares")
    # The client's choice is in the chain, and SRI's pool has all that the coinbase may pay.
    assert txid in {tx["txid"] for block in blocks for tx in block["tx"]}
    for block in blocks:
        stats = core.rpc("getblockstats", block["hash"], ["subsidy", "totalfee"])
        outputs = block["tx"][0]["vout"]
        paid = [each["value"] for each in outputs if each["scriptPubKey"]["hex"] == sri.SOLO_SCRIPT]
        assert round(sum(paid) * 10**8) == stats["subsidy"] + stats["totalfee"]


@pytest.mark.pair(
    "`radpool jdc` with `mode = coinbase-only`", "declarator of pool_sv2, Bitcoin Core"
)
@pytest.mark.timeout(400)
def test_sri_s_pool_wants_to_see_all_transactions(tmp_path, core, record_property):
    """Its declarator refuses whoever does not announce them: our client says so, and mines solo."""
    with started(tmp_path, core) as theirs:
        with declarer(tmp_path, theirs, by_socket(core), "coinbase-only").running() as client:
            client.until(
                lambda figures: any(
                    "'missing-declare-tx-data-flag'" in each for each in figures["problems"]
                ),
                "the refusal",
            )
            assert client.figures["pool"] is None
            before = core.rpc("getblockcount")
            with client.miner(rate=RATE):
                client.until(lambda figures: figures["blocks_accepted"] >= 1, "a block of its own")
        assert theirs.process.is_alive, theirs.process.tail()
    paid = blocks_since(core, before)[0]["tx"][0]["vout"][0]["scriptPubKey"]["hex"]
    assert paid != sri.SOLO_SCRIPT
    record_property("mined", "refused by that declarator, which offers no such mode; blocks solo")


def blocks_since(node, height):
    """Returns the blocks of the active chain above a height."""
    above = range(height + 1, node.rpc("getblockcount") + 1)
    return [node.rpc("getblock", node.rpc("getblockhash", each), 2) for each in above]

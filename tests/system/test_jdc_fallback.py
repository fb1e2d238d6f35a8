"""What a job declarator client does when pools, their declarators or its node go away.

Two pools and the client share one bitcoind. Whatever a pool has acknowledged to the client is in
that pool's ledger, whoever was killed and when.
"""

import os
import signal
import time

import pytest
from rig.book import Book
from rig.declarer import Declarer, Relay
from rig.node import UNLIMITED, Node
from rig.wait import until

pytestmark = pytest.mark.slow

ZEROS = 20
EXPONENT = 10
# No block is found.
ZEROS_MANY = 48
# A block takes 5 s on average, once the miner has what it wants of a processor.
LUCK_S = 240


def chain(bitcoind):
    return {
        "templates.source": "bitcoind",
        "templates.rpc_urls": [bitcoind.url],
        "templates.rpc_cookie_files": [str(bitcoind.cookie_file)],
        "templates.zmq_urls": [bitcoind.zmq_url],
        "templates.block_zeros": ZEROS,
        "templates.interval_s": 1,
    }


def pool_settings(bitcoind):
    return (
        UNLIMITED
        | chain(bitcoind)
        | {
            "mining.exponent_min": EXPONENT,
            "mining.shares_per_minute": 600,
            "ecash.enabled": False,
            "extensions.enabled": [],
        }
    )


def client_settings(bitcoind, **changes):
    return (
        chain(bitcoind)
        | {
            "mining.exponent_min": EXPONENT,
            "mining.shares_per_minute": 1_200,
            "declaration.interval_s": 1,
            "declaration.retry_s": 1,
            "declaration.retry_s_max": 2,
        }
        | changes
    )


def entry(running, *, address=None, declarator=None):
    told = running.process.message("serving")
    return {
        "address": address or told["sv2"],
        "authority_public_key": told["authority_public_key"],
        "declarator": declarator or told["declarator"],
        "user": "alice.rig",
    }


def kill(running, mining, declaring):
    """Kills a pool and ends all connections to it."""
    running.process.kill()
    mining.cut()
    declaring.cut()


def lead_to(running, mining, declaring):
    """Takes connections again, for a pool that was started again and has other ports."""
    told = running.process.message("serving")
    mining.mend(told["sv2"])
    declaring.mend(told["declarator"])


def grows(client, number, by=5):
    """Waits until a pool has acknowledged some shares more."""
    before = client.pool(number)["accepted"]
    client.until(
        lambda figures: figures["pools"][number]["accepted"] >= before + by,
        f"shares of pool {number}",
    )


def leave(client, miner):
    """Ends the miner and then the client: its last figures are of when it is told to leave."""
    miner.kill()
    client.until(
        lambda figures: (
            not figures["miners"] and not any(pool["unanswered"] for pool in figures["pools"])
        ),
        "answers",
    )
    client.process.signal(signal.SIGTERM)
    assert client.process.wait() == 0, client.process.tail()


def check(node, pool):
    """Everything that was acknowledged is in the ledger; what had no answer may be."""
    kept = Book(node.database).check()
    assert pool["accepted"] <= kept <= pool["accepted"] + pool["lost"]
    assert not pool["rejected"].keys() - {"stale-share"}, pool


@pytest.mark.timeout(900)
def test_killed_pool_is_left_for_the_next_and_returned_to(tmp_path, bitcoind):
    first = Node(tmp_path / "first", pool_settings(bitcoind))
    second = Node(tmp_path / "second", pool_settings(bitcoind))
    with second.running() as other:
        running = first.launch()
        with running.process:
            running.serve()
            # Started again, the pool gets other ports; these stay where they are.
            told = running.process.message("serving")
            with Relay(told["sv2"]) as mining, Relay(told["declarator"]) as declaring:
                mine = entry(running, address=mining.address, declarator=declaring.address)
                declarer = Declarer(
                    tmp_path / "jdc", [mine, entry(other)], client_settings(bitcoind)
                )
                with declarer.running() as client, client.miner() as miner:
                    client.mining_for(mine["address"])
                    grows(client, 0)
                    kill(running, mining, declaring)
                    client.mining_for(entry(other)["address"])
                    grows(client, 1)
                    with first.running() as again:
                        lead_to(again, mining, declaring)
                        client.mining_for(mine["address"])
                        grows(client, 0)
                        blocks = client.figures["blocks_accepted"]
                        client.until(
                            lambda figures: figures["blocks_accepted"] > blocks, "a block", LUCK_S
                        )
                        leave(client, miner)
                        figures = client.figures
    check(first, figures["pools"][0])
    check(second, figures["pools"][1])
    assert figures["pools"][0]["failure"] == ""


@pytest.mark.timeout(900)
def test_pool_that_starts_again_takes_templates_that_were_begun_before(tmp_path, bitcoind):
    """spec: JD-21. The client's node has known the tip for longer than the pool that came back."""
    # Blocks that were mined at once have times ahead of the clock.
    until(
        lambda: time.time() > bitcoind.rpc("getblockchaininfo")["mediantime"] + 2,
        "the clock behind the chain's time",
    )
    never = {"templates.block_zeros": ZEROS_MANY}
    node = Node(tmp_path / "msp", pool_settings(bitcoind) | never)
    running = node.launch()
    with running.process:
        running.serve()
        told = running.process.message("serving")
        with Relay(told["sv2"]) as mining, Relay(told["declarator"]) as declaring:
            pool = entry(running, address=mining.address, declarator=declaring.address)
            declarer = Declarer(tmp_path / "jdc", [pool], client_settings(bitcoind) | never)
            with declarer.running() as client, client.miner() as miner:
                client.mining_for(mining.address)
                grows(client, 0)
                kill(running, mining, declaring)
                client.mining_for(None)
                with node.running() as again:
                    lead_to(again, mining, declaring)
                    client.mining_for(mining.address)
                    grows(client, 0)
                    leave(client, miner)
                    figures = client.figures
    assert figures["blocks_found"] == 0, "all of it was on one tip"
    check(node, figures["pools"][0])


@pytest.mark.timeout(900)
def test_lost_declarator_and_hung_pool_lead_to_solo_and_back(tmp_path, bitcoind):
    node = Node(tmp_path / "msp", pool_settings(bitcoind))
    with node.running() as running:
        told = running.process.message("serving")
        with Relay(told["declarator"]) as declaring:
            pool = entry(running, declarator=declaring.address)
            declarer = Declarer(tmp_path / "jdc", [pool], client_settings(bitcoind))
            with declarer.running() as client, client.miner() as miner:
                client.mining_for(pool["address"])
                grows(client, 0)
                declaring.cut()
                client.mining_for(None)
                solo = client.figures["blocks_accepted"]
                client.until(
                    lambda figures: figures["blocks_accepted"] > solo,
                    "a block of one's own",
                    LUCK_S,
                )
                declaring.mend()
                client.mining_for(pool["address"])
                grows(client, 0)
                os.kill(running.process.pid, signal.SIGSTOP)
                # It is asked for something at the next block, and has 10 s to answer.
                client.mining_for(None, LUCK_S)
                assert "in time" in client.pool()["failure"] or "within" in client.pool()["failure"]
                os.kill(running.process.pid, signal.SIGCONT)
                client.mining_for(pool["address"])
                grows(client, 0)
                leave(client, miner)
                figures = client.figures
        # What came while it hung is kept, too.
        until(lambda: running.problems() == [], lambda: running.problems())
        assert running.leave(signal.SIGTERM) == 0
    check(node, figures["pools"][0])


@pytest.mark.timeout(900)
def test_node_that_is_killed_and_comes_back_stops_nothing(tmp_path, bitcoinds):
    """The client's own node dies; the pool has another one."""
    near = bitcoinds("near")
    node = Node(tmp_path / "msp", pool_settings(near))
    with node.running() as running:
        pool = entry(running)
        settings = client_settings(near)
        declarer = Declarer(tmp_path / "jdc", [pool], settings)
        with declarer.running() as client, client.miner() as miner:
            client.mining_for(pool["address"])
            grows(client, 0)
            near.restart()  # a node that is killed forgets what it has not written
            near.kill()
            grows(client, 0)
            client.until(lambda figures: figures["problems"], "word of the lost node")
            near.start()
            blocks = client.figures["blocks_accepted"]
            client.until(
                lambda figures: figures["blocks_accepted"] > blocks, "a block again", LUCK_S
            )
            grows(client, 0)
            leave(client, miner)
            figures = client.figures
        assert running.leave(signal.SIGTERM) == 0
    check(node, figures["pools"][0])

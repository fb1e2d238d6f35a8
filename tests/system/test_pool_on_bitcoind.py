"""A whole pool on a real node: blocks that it takes, what they pay, and nodes that come and go."""

import json
import signal

import httpx
import pytest
from rig.bitcoind import RpcFailure
from rig.node import UNLIMITED, Node
from rig.paid import settled
from rig.process import RADPOOL, Process
from rig.wait import until

pytestmark = pytest.mark.slow

SETTINGS = UNLIMITED | {
    "mining.exponent_min": 8,
    "mining.shares_per_minute": 1_200,
    "templates.source": "bitcoind",
    "templates.network": "regtest",
    "templates.block_zeros": 17,
    "templates.interval_s": 1,
    "ledger.maturity_blocks": 3,
}
PATIENCE_S = 300


def pool_on(bitcoinds, directory, **more):
    """A pool in a directory, on some nodes."""
    settings = {
        "templates.rpc_urls": [each.url for each in bitcoinds],
        "templates.rpc_cookie_files": [str(each.cookie_file) for each in bitcoinds],
        "templates.zmq_urls": [each.zmq_url for each in bitcoinds],
    }
    return Node(directory, SETTINGS | settings | more)


def miner_of(running, name="alice", rate=150_000):
    command = [RADPOOL, "miner", "--connect", running.sv2, "--json", "--threads", "1"]
    command += ["--authority-key", running.authority_key, "--user", name]
    command += ["--hash-rate-limit", rate]
    return Process(command, running.node.directory, name)


def blocks_of(running):
    return running.get("/api/v1/blocks?limit=100").json()["items"]


def on_chain(running):
    return [each for each in blocks_of(running) if each["confirmations"]]


def test_blocks_pay_what_the_ledger_says(bitcoind, tmp_path):
    sent = [bitcoind.spend(fee_sats=5_000 + n, outputs=2) for n in range(5)]
    with pool_on([bitcoind], tmp_path / "msp").running() as running:
        assert running.problems() == []
        with miner_of(running) as miner:
            until(lambda: len(on_chain(running)) >= 2, lambda: f"blocks; {miner.tail()}")
            miner.signal(signal.SIGTERM)
            assert miner.wait() == 0, miner.tail()
        bitcoind.mine(3)
        height = bitcoind.rpc("getblockcount")

        def buried():
            # The pool may have looked when only some of the three were there.
            found = settled(blocks_of(running)) or []
            depths = [each["confirmations"] == height - each["height"] + 1 for each in found]
            return found if depths and all(depths) else None

        found = until(buried, lambda: f"paid blocks; {blocks_of(running)}")
        assert running.leave(signal.SIGTERM, 60) == 0
    mined = [bitcoind.rpc("getblock", each["hash"], 2) for each in found]
    for told, block in zip(found, mined, strict=True):
        assert block["height"] == told["height"]
        assert block["confirmations"] == told["confirmations"] == height - block["height"] + 1
        paid = sum(round(each["value"] * 10**8) for each in block["tx"][0]["vout"])
        assert told["value_sats"] == paid
    fees = sum(5_000 + n for n in range(5))
    assert sum(each["value_sats"] for each in found) == len(found) * 50 * 10**8 + fees
    assert set(sent) <= {tx["txid"] for block in mined for tx in block["tx"]}


def test_a_chain_without_work_does_not_overwhelm_the_pool(bitcoind, tmp_path):
    """Plain regtest: nearly every share is a block, and many are of a tip that has just gone."""
    settings = {
        "templates.block_zeros": 0,
        "mining.exponent_min": 12,
        "mining.shares_per_minute": 300,
    }
    with pool_on([bitcoind], tmp_path / "msp", **settings).running() as running:
        with miner_of(running, "alice") as alice, miner_of(running, "bob") as bob:
            until(
                lambda: bitcoind.rpc("getblockcount") >= 180,
                lambda: f"blocks; {alice.tail()}",
                PATIENCE_S,
            )
            for miner in (alice, bob):
                miner.signal(signal.SIGTERM)
                assert miner.wait() == 0, miner.tail()
        until(lambda: running.metric("radpool_blocks_waiting") in (None, 0), "blocks recorded")
        assert running.problems() == []
        assert running.leave(signal.SIGTERM, 60) == 0
    assert not [line for line in running.node.log() if line["level"] == "error"]


def test_the_pool_outlives_its_node(bitcoind, tmp_path):
    bitcoind.restart()
    deadline = {"templates.rpc_deadline_ms": 2_000}
    with (
        pool_on([bitcoind], tmp_path / "msp", **deadline).running() as running,
        miner_of(running) as miner,
    ):
        until(lambda: blocks_of(running), lambda: f"a block; {miner.tail()}")
        bitcoind.restart()
        before = bitcoind.rpc("getblockcount")
        until(lambda: bitcoind.rpc("getblockcount") > before, "a block after the restart")
        bitcoind.hang()
        until(
            lambda: any("does not answer" in each for each in running.problems()),
            lambda: f"a word about the node; {running.problems()}",
        )
        accepted = running.metric("radpool_shares_accepted_total")
        bitcoind.resume()
        before = bitcoind.rpc("getblockcount")
        until(lambda: bitcoind.rpc("getblockcount") > before, "a block after the pause")
        until(lambda: not running.problems(), lambda: f"health; {running.problems()}")
        assert running.metric("radpool_shares_accepted_total") != accepted or accepted is None
        assert miner.is_alive, miner.tail()


def test_a_block_that_no_node_could_take_is_submitted_after_a_restart(bitcoind, tmp_path):
    bitcoind.restart()
    node = pool_on([bitcoind], tmp_path / "msp")
    with node.running() as running, miner_of(running) as miner:
        until(lambda: bitcoind.rpc("getblockcount") > 111, lambda: f"blocks; {miner.tail()}")
        bitcoind.stop()
        before = len(_solutions(node))
        until(
            lambda: len(_solutions(node)) > before,
            lambda: f"a solution while the node is away; {miner.tail()}",
        )
        running.process.kill()
    bitcoind.start()
    last = json.loads(_solutions(node)[-1])
    shown = bytes.fromhex(last["hash"])[::-1].hex()
    assert not _knows(bitcoind, shown)
    with node.running():
        until(lambda: _knows(bitcoind, shown), "the block of before")


def test_a_node_whose_disk_is_full_is_told_of_and_taken_up_again(bitcoind, tmp_path):
    written = bitcoind.rpc("getblockchaininfo")["size_on_disk"]
    for _ in range(4):
        bitcoind.spend(fee_sats=50_000, padding=90_000)
    bitcoind.stop()
    # A node that cannot write a block ends itself; it may still write what comes at its start.
    limit = f"trap '' XFSZ; ulimit -f {(written + 100_000) // 512}; exec \"$@\""
    bitcoind.start(prefix=["sh", "-c", limit, "sh"])
    with pool_on([bitcoind], tmp_path / "msp").running() as running:
        with miner_of(running) as miner:
            until(
                lambda: not bitcoind.process.is_alive or _is_full(bitcoind),
                lambda: f"a full disk; {miner.tail()}",
            )
            until(running.problems, "a word about the node")
            bitcoind.kill()
            bitcoind.start()
            height = bitcoind.rpc("getblockcount")
            until(lambda: bitcoind.rpc("getblockcount") > height, lambda: f"blocks; {miner.tail()}")
            until(lambda: not running.problems(), lambda: f"health; {running.problems()}")


def _solutions(node):
    """Returns the whole lines of the solution log."""
    return (node.data / "blocks.jsonl").read_text().split("\n")[:-1]


def _is_full(node):
    try:
        node.rpc("getblockcount")
    except (OSError, httpx.HTTPError, RpcFailure):
        return True
    return False


def _knows(node, shown):
    """Whether a node has a block; one of a height that has another already is a branch to it."""
    try:
        return node.rpc("getblockheader", shown)
    except RpcFailure:
        return None

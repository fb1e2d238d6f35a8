"""What a pool does while its node hangs, goes back, or its template provider dies.

Miners are served all the time, the health page says what is wrong, and when it is over the books
are those of the chain that there is. Nodes that are killed, restarted or out of disk are in
test_pool_on_bitcoind.py.
"""

import signal
import time

import pytest
from rig.node import UNLIMITED, Node
from rig.offering import ProviderNode
from rig.paid import ChainOf, blocks, check_paid, paid_blocks, script_of
from rig.process import RADPOOL, Process
from rig.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ZEROS = 18
HANG_S = 120
SHARES = 20
# The rarest blocks take 14 s each: of e^21 one is not found in this time, and on a machine that
# hashes at half the rate one of e^10.
PATIENCE_S = 300
POOL = UNLIMITED | {
    "mining.exponent_min": 8,
    "mining.shares_per_minute": 1_200,
    "templates.interval_s": 1,
    "ledger.maturity_blocks": 3,
}


def on_node(bitcoind, zeros=ZEROS):
    return {
        "templates.source": "bitcoind",
        "templates.rpc_urls": [bitcoind.url],
        "templates.rpc_cookie_files": [str(bitcoind.cookie_file)],
        "templates.zmq_urls": [bitcoind.zmq_url],
        "templates.block_zeros": zeros,
    }


class Miner:
    """A miner and how many shares the pool has acknowledged to it."""

    def __init__(self, running):
        command = [RADPOOL, "miner", "--connect", running.sv2, "--json", "--threads", "1"]
        command += ["--authority-key", running.authority_key, "--user", "alice"]
        self.process = Process(
            [*command, "--hash-rate-limit", 150_000], running.node.directory, "alice"
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.__exit__(*error)

    @property
    def accepted(self):
        told = self.process.messages("stats")
        return told[-1]["accepted"] if told else 0

    def goes_on(self):
        """Waits until some more shares were acknowledged."""
        goal = self.accepted + SHARES
        until(lambda: self.accepted >= goal, lambda: f"shares; {self.process.tail()}", PATIENCE_S)

    def leave(self):
        """Ends it; it has lost no connection, and only shares of an old tip were refused."""
        self.process.signal(signal.SIGTERM)
        assert self.process.wait() == 0, self.process.tail()
        told = self.process.message("stopped")
        # Leaving it waits for answers no longer than a second: the last shares may count as lost.
        assert (told["sessions"], told["mismatches"]) == (1, 0), told
        assert not told["rejected"].keys() - {"stale-share"}, told


def on_chain(running):
    return [row for row in blocks(running) if row["confirmations"]]


def until_blocks(running, count, miner):
    until(
        lambda: len(on_chain(running)) >= count,
        lambda: f"{count} blocks; {running.problems()}; {miner.process.tail()}",
        PATIENCE_S,
    )


def until_healthy(running):
    until(lambda: not running.problems(), lambda: f"health; {running.problems()}", PATIENCE_S)


def test_blocks_that_the_node_takes_back_are_not_paid(bitcoind, tmp_path):
    """A reorganisation below blocks that are paid, while miners go on."""
    node = Node(tmp_path / "msp", POOL | on_node(bitcoind))
    chain = ChainOf(bitcoind)
    with node.running() as running, Miner(running) as miner:
        until_blocks(running, 2, miner)
        bitcoind.mine(3)
        first = min(on_chain(running), key=lambda row: row["height"])
        until(
            lambda: state_of(running, first["hash"]) == "paid",
            lambda: f"payment; {blocks(running)}",
        )
        bitcoind.rpc("invalidateblock", first["hash"])
        until(
            lambda: state_of(running, first["hash"]) == "orphaned",
            lambda: f"the lost block; {blocks(running)}",
        )
        # The same height is mined once more, by a miner who has noticed nothing but a new job.
        until(
            lambda: any(row["height"] == first["height"] for row in on_chain(running)),
            lambda: f"a block in its place; {blocks(running)}; {miner.process.tail()}",
            PATIENCE_S,
        )
        miner.goes_on()
        miner.leave()
        rows = paid_blocks(running, chain)
        until_healthy(running)
        assert running.leave(signal.SIGTERM, 60) == 0
    assert {row["hash"] for row in rows if row["state"] == "orphaned"} >= {first["hash"]}
    assert check_paid(node, rows, chain, script_of(node, bitcoind), tmp_path / "exports")


def state_of(running, block_hash):
    return next(row["state"] for row in blocks(running) if row["hash"] == block_hash)


def test_a_node_that_hangs_for_two_minutes_stops_nobody(bitcoind, tmp_path):
    """With the deadlines that a pool has without being told others."""
    node = Node(tmp_path / "msp", POOL | on_node(bitcoind, zeros=21))
    chain = ChainOf(bitcoind)
    with node.running() as running, Miner(running) as miner:
        until_blocks(running, 1, miner)
        bitcoind.hang()
        end = time.monotonic() + HANG_S
        until(
            lambda: any("does not answer within" in each for each in running.problems()),
            lambda: f"a word about the node; {running.problems()}",
        )
        while time.monotonic() < end:
            miner.goes_on()
        assert any("does not answer within" in each for each in running.problems())
        known = len(on_chain(running))
        bitcoind.resume()
        until_blocks(running, known + 1, miner)
        until_healthy(running)
        miner.leave()
        rows = paid_blocks(running, chain)
        assert running.leave(signal.SIGTERM, 60) == 0
    assert check_paid(node, rows, chain, script_of(node, bitcoind), tmp_path / "exports")


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_template_provider_that_dies_is_told_of_and_followed_again(bitcoind, tmp_path, ending):
    provider = ProviderNode(tmp_path / "tp", on_node(bitcoind) | {"templates.interval_s": 1})
    chain = ChainOf(bitcoind)
    beside = {key: value for key, value in on_node(bitcoind).items() if "zeros" not in key}
    with provider.running() as process:
        settings = beside | {
            "templates.source": "tdp",
            "templates.tdp_address": provider.address,
            "templates.tdp_authority_key": provider.authority_key,
        }
        node = Node(tmp_path / "msp", POOL | settings)
        with node.running() as running, Miner(running) as miner:
            until_blocks(running, 1, miner)
            process.signal(ending)
            process.wait()
            until(
                lambda: any(provider.address in each for each in running.problems()),
                lambda: f"a word about the provider; {running.problems()}",
            )
            miner.goes_on()
            known = len(on_chain(running))
            with provider.running():
                until_blocks(running, known + 1, miner)
                until_healthy(running)
                miner.leave()
                rows = paid_blocks(running, chain)
                assert running.leave(signal.SIGTERM, 60) == 0
    assert check_paid(node, rows, chain, script_of(node, bitcoind), tmp_path / "exports")

"""SRI's translator, as published, brings SV1 miners to the pool. `make interop` runs this."""

import pytest
from rig import audit, sri
from rig.book import Book
from rig.node import Node
from rig.paid import ChainOf, check_paid, paid_blocks, script_of
from rig.sv1 import Sv1Miner
from rig.wait import until

SETTINGS = {
    "mining.exponent_min": 10,
    "mining.shares_per_minute": 300,
    "mining.report_interval_ms": 1_000,
    "templates.block_zeros": 18,
    "templates.payments_per_minute": 60,
}
SHARES = 20
BLOCKS = 2
PATIENCE_S = 150


@pytest.mark.pair("pool on the embedded chain", "translator_sv2, SV1 miners")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("aggregates", [True, False])
def test_sv1_miners_mine_through_sri_s_translator(tmp_path, aggregates, record_property):
    node = Node(tmp_path / "msp", SETTINGS)
    with node.running() as running:
        role = sri.translator(
            tmp_path / "sri", running.sv2, running.authority_key, aggregates=aggregates
        )
        with role:
            role.until_said("listening on")
            with Sv1Miner(role.address, "one") as one, Sv1Miner(role.address, "two") as two:
                until(
                    lambda: min(one.accepted, two.accepted) >= SHARES or one.lost or two.lost,
                    lambda: f"{one.accepted} and {two.accepted} shares; {role.process.tail()}",
                    PATIENCE_S,
                )
                assert (one.lost, two.lost) == ("", "")
                until(
                    lambda: running.get("/api/v1/blocks").json()["items"],
                    lambda: f"a block; {role.process.tail()}",
                    PATIENCE_S,
                )
        assert running.problems() == []
        assert running.leave(15, 10) == 0
    shares = audit.check_batches(node)
    assert shares == Book(node.database).check() > 0
    found = audit.check_blocks(node)
    assert found
    record_property("mined", f"{len(found)} blocks, {shares} shares")


@pytest.mark.pair("pool with source `bitcoind`", "translator_sv2, SV1 miner, Bitcoin Knots")
@pytest.mark.timeout(400)
def test_sv1_miners_find_blocks_on_a_real_node(bitcoind, tmp_path, record_property):
    """The coinbase that an old miner has filled is what the ledger says."""
    txid = bitcoind.spend(fee_sats=4_000)
    settings = SETTINGS | {
        "templates.source": "bitcoind",
        "templates.rpc_urls": [bitcoind.url],
        "templates.rpc_cookie_files": [str(bitcoind.cookie_file)],
        "templates.zmq_urls": [bitcoind.zmq_url],
        "templates.interval_s": 1,
        "ledger.maturity_blocks": 3,
    }
    node = Node(tmp_path / "msp", settings)
    with node.running() as running:
        role = sri.translator(tmp_path / "sri", running.sv2, running.authority_key, aggregates=True)
        with role:
            role.until_said("listening on")
            with Sv1Miner(role.address, "old") as miner:
                until(
                    lambda: len(on_chain(running)) >= BLOCKS or miner.lost,
                    lambda: f"{miner.accepted} shares; {role.process.tail()}",
                    PATIENCE_S,
                )
                assert miner.lost == ""
        rows = paid_blocks(running, ChainOf(bitcoind))
        assert running.problems() == []
        assert running.leave(15, 20) == 0
    script = script_of(node, bitcoind)
    found = check_paid(node, rows, ChainOf(bitcoind), script, tmp_path / "exports")
    assert len(found) >= BLOCKS
    assert txid in {each for block in found for each in block.transactions}
    assert {row["finder"] for row in rows} == {"sri"}
    record_property("mined", f"{len(found)} blocks")


def on_chain(running):
    """Returns the pool's blocks but for those that lost to another one of their height."""
    rows = running.get("/api/v1/blocks").json()["items"]
    return [row for row in rows if row["confirmations"]]

"""SRI's translator, as published, brings SV1 miners to the pool. `make interop` runs this."""

import pytest
from rig import audit, sri
from rig.book import Book
from rig.node import Node
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
PATIENCE_S = 150


@pytest.mark.timeout(400)
@pytest.mark.parametrize("aggregates", [True, False])
def test_sv1_miners_mine_through_sri_s_translator(tmp_path, aggregates):
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
    assert audit.check_batches(node) == Book(node.database).check() > 0
    assert audit.check_blocks(node)

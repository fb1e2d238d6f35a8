"""A Stratum V1 client of npm, as published, mines through our translator: `make interop`."""

import json

import pytest
from rig import audit
from rig.book import Book
from rig.node import Node
from rig.process import ROOT, Process
from rig.translating import Translating
from rig.wait import until

PROGRAM = ROOT / "tests" / "rig" / "stratum_client.js"
SETTINGS = {
    "mining.exponent_min": 10,
    "mining.shares_per_minute": 300,
    "mining.report_interval_ms": 1_000,
    "templates.block_zeros": 18,
    "templates.payments_per_minute": 60,
}
SHARES = 20
PATIENCE_S = 150


def answers(client):
    return [json.loads(line) for line in client.lines()]


@pytest.mark.pair("`radpool translator`, pool on the embedded chain", "stratum-client of npm")
@pytest.mark.timeout(400)
def test_npm_s_client_finds_blocks(tmp_path, record_property):
    node = Node(tmp_path / "msp", SETTINGS)
    with node.running() as running:
        keys = {"devices.nominal_hash_rate_mh": 1, "devices.shares_per_minute": 300}
        pools = [(running.sv2, running.authority_key)]
        with Translating(tmp_path / "translator", pools, keys) as translating:
            translating.mining_for(running.sv2)
            command = [PROGRAM, *translating.sv1.rsplit(":", 1), "npm.client"]
            with Process(command, tmp_path, "client") as client:
                until(
                    lambda: (
                        not client.is_alive
                        or (
                            answers(client).count(True) >= SHARES
                            and running.get("/api/v1/blocks").json()["items"]
                        )
                    ),
                    lambda: f"shares and a block; {client.tail()}; {translating.process.tail()}",
                    PATIENCE_S,
                )
                assert client.is_alive, client.tail()
                told = answers(client)
                # Only tips that a share has crossed on its way.
                assert {code for code, *_ in filter(lambda each: each is not True, told)} <= {21}
        assert running.problems() == []
        assert running.leave(15, 10) == 0
    shares = audit.check_batches(node)
    assert shares == Book(node.database).check() > 0
    found = audit.check_blocks(node)
    assert found
    record_property("mined", f"{len(found)} blocks, {shares} shares")

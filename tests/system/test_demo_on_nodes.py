"""The demo on real nodes: every check it makes of itself holds."""

import pytest
from rig.bitcoind import DIRECTORY
from rig.process import RADPOOL, Process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_miners_are_paid_for_what_they_choose(tmp_path):
    """A declaring miner's better template earns more, an empty one less, and all sums are exact."""
    program = DIRECTORY / "bin" / "bitcoind"
    assert program.exists(), f"there is no {program}: run scripts/get-bitcoind {DIRECTORY}"
    command = [RADPOOL, "demo", "--node", "--bitcoind", program, "--json"]
    with Process(command, tmp_path, "demo") as demo:
        assert demo.wait(840) == 0, demo.tail()
        checks = {line["claim"]: line for line in demo.messages("check")}
        [table] = demo.messages("table")
    assert len(checks) >= 9
    assert [line for line in checks.values() if not line["holds"]] == []
    assert [row["miner"] for row in table["rows"]] == ["alice", "carol", "dave"]

"""The demo of a federation: every check it makes of itself holds."""

import pytest
from rig.bitcoind import DIRECTORY
from rig.process import RADPOOL, Process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_four_pools_hold_their_blocks_together(tmp_path):
    """They make a key, mine, lose a member, and are paid under one signature; all books agree."""
    program = DIRECTORY / "bin" / "bitcoind"
    assert program.exists(), f"there is no {program}: run scripts/get-bitcoind {DIRECTORY}"
    command = [RADPOOL, "demo", "--federation", "--bitcoind", program, "--json"]
    with Process(command, tmp_path, "demo") as demo:
        assert demo.wait(840) == 0, demo.tail()
        checks = {line["claim"]: line for line in demo.messages("check")}
        [table] = demo.messages("table")
    assert len(checks) == 10
    assert [line for line in checks.values() if not line["holds"]] == []
    assert {row["pool"] for row in table["rows"]} == {"north", "east", "south", "west"}

"""A miner with a key keeps its receipts, and finds out an MSP that withholds one of its shares."""

import json
import shutil
import signal
import subprocess

import pytest
from rig.node import EASY_SHARES, NO_BLOCKS, Node
from rig.process import RADPOOL, Process, radpool
from rig.wait import until
from rig.withholding import Withholder

pytestmark = pytest.mark.slow

SETTINGS = EASY_SHARES | NO_BLOCKS | {"extensions.enabled": ["share_ownership"]}
SHARES = 40


def told(*words):
    """Runs a command that prints JSON; returns its exit status and what it printed."""
    command = [str(word) for word in (RADPOOL, *words, "--json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def receipts(directory):
    """Returns how many shares the pool has signed for on the newest channel."""
    file = directory / "receipts.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return max((json.loads(line).get("receipt", {}).get("count", 0) for line in lines), default=0)


def accepted(process):
    """Returns how many shares the pool has taken from a miner, as of its last figures."""
    told = process.messages("stats")
    return told[-1]["accepted"] if told else 0


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    """A pool on which dora mines under her key and bob by his name, stopped; its epoch 1."""
    directory = tmp_path_factory.mktemp("withheld")
    node = Node(directory / "msp", SETTINGS)
    with node.running() as running:
        command = [RADPOOL, "miner", "--connect", running.sv2, "--json", "--threads", "1"]
        command += ["--authority-key", running.authority_key, "--hash-rate-limit", "500"]
        with (
            Process([*command, "--owner", directory / "dora"], directory, "dora") as dora,
            Process([*command, "--user", "bob.rig"], directory, "bob") as bob,
        ):
            until(lambda: receipts(directory / "dora") >= SHARES, dora.tail)
            until(lambda: accepted(bob), bob.tail)
            for miner in (dora, bob):
                miner.signal(signal.SIGTERM)
                assert miner.wait() == 0, miner.tail()
        register = directory / "register.json"
        register.write_text(running.get("/api/v1/registrations").text)
        assert running.leave(signal.SIGTERM, 60) == 0
    radpool("verify", "export", "1", "--dir", node.directory, "--to", directory / "epoch-1")
    return node, directory


@pytest.mark.timeout(300)
def test_an_honest_pool_has_published_all_that_it_signed_for(mined):
    """spec: OR-12, OR-14"""
    _node, directory = mined
    export, file = directory / "epoch-1", directory / "dora" / "receipts.jsonl"
    status, report = told("verify", "receipt", file, export)
    assert (status, report["missing"], report["altered"]) == (0, [], [])
    assert report["found"] == report["shares"] >= SHARES
    status, register = told("verify", "register", directory / "register.json", "--export", export)
    [dora] = register["owners"]
    assert (status, dora["countersigned"], dora["number"]) == (0, True, 1)
    assert (dora["miner_key"], dora["shares"]) == (report["miner_key"], report["shares"])
    assert register["other_shares"] > 0


@pytest.mark.timeout(300)
def test_a_pool_that_withholds_a_share_is_convicted_by_its_receipt(mined, tmp_path):
    """spec: OR-12"""
    node, directory = mined
    file = directory / "dora" / "receipts.jsonl"
    export = shutil.copytree(directory / "epoch-1", tmp_path / "epoch-1")
    secret = bytes.fromhex((node.directory / "keys" / "msp.key").read_text().strip())
    [dora] = told("verify", "register", directory / "register.json")[1]["owners"]
    withheld = Withholder(export, secret).withhold(bytes.fromhex(dora["commitment"]))
    # In itself the export is right: whoever did not mine the share has no reason to doubt.
    assert "is as claimed (open)" in radpool("verify", export)
    status, report = told("verify", "receipt", file, export)
    assert (status, report["altered"]) == (1, [])
    assert report["missing"] == [withheld[::-1].hex()]
    assert report["found"] == report["shares"] - 1

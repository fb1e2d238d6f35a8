"""SRI's CPU miner, as published, mines on the pool. `make interop` installs it and runs this."""

import json
import os
import signal
from pathlib import Path

import pytest
from rig import audit
from rig.book import Book
from rig.node import Node
from rig.process import ROOT, Process
from rig.wait import until

DEVICE = Path(os.environ.get("RADPOOL_MINING_DEVICE", ROOT / ".nodes" / "bin" / "mining_device"))
SETTINGS = {
    "mining.exponent_min": 12,
    # Five shares a second: vardiff has enough to judge by within seconds.
    "mining.shares_per_minute": 300,
    "mining.report_interval_ms": 1_000,
    "templates.block_zeros": 24,
    "templates.payments_per_minute": 60,
}
# It claims a fiftieth of its hash rate, so that the pool has to raise the difficulty.
UNDERSTATEMENT = "0.02"
BLOCKS = 2
SHARES = 40
PATIENCE_S = 90


@pytest.mark.pair("pool on the embedded chain", "mining_device")
@pytest.mark.timeout(400)
def test_sri_mining_device_mines_through_vardiff_steps_and_finds_blocks(tmp_path, record_property):
    assert DEVICE.exists(), f"{DEVICE} is missing: `make interop` installs it"
    node = Node(tmp_path / "msp", SETTINGS)
    with node.running() as running:
        command = [DEVICE, "--address-pool", running.sv2, "--pubkey-pool", running.authority_key]
        command += ["--id-user", "sri.device", "--id-device", "device", "--cores", "1"]
        command += ["--nominal-hashrate-multiplier", UNDERSTATEMENT]
        with Process(command, tmp_path, "device") as device:
            # Up, because it is faster than it said; down, because it stands still; up again.
            z = wait_for(running, device, is_faster_than_claimed)["exponent"]
            device.signal(signal.SIGSTOP)
            z = wait_for(running, device, lambda channel: channel["exponent"] < z)["exponent"]
            device.signal(signal.SIGCONT)
            channel = wait_for(running, device, lambda channel: channel["exponent"] > z)
            goal = channel["shares_accepted"] + SHARES
            channel = wait_for(running, device, lambda channel: channel["shares_accepted"] >= goal)
            rejected = dict(channel["shares_rejected_by_reason"])
            # At each SetTarget the device begins its present job anew, until the next one is there:
            # what it finds again in these microseconds is a duplicate.
            steps = device.stdout.read_text(errors="replace").count("Received SetTarget")
            assert rejected.pop("duplicate-share", 0) <= steps, channel
            assert set(rejected) <= {"stale-share"}, channel
            assert channel["user_identity"] == "sri.device"
            until(
                lambda: len(blocks(running)) >= BLOCKS,
                lambda: f"{BLOCKS} blocks; {device.tail()}",
                PATIENCE_S,
            )
            said = device.stdout.read_text(errors="replace")
            assert said.count("Received SetTarget") >= 3
            assert said.count("Received SubmitSharesSuccess") > 0
        running.chain("mine", 1)
        until(
            lambda: all(block["confirmations"] for block in blocks(running)),
            lambda: json.dumps(blocks(running)),
        )
        assert running.problems() == []
        assert running.leave(signal.SIGTERM, 5) == 0
    shares = audit.check_batches(node)
    assert shares == Book(node.database).check() >= SHARES
    found = audit.check_blocks(node)
    assert len(found) >= BLOCKS
    record_property("mined", f"{len(found)} blocks, {shares} shares")


def is_faster_than_claimed(channel):
    """Whether the difficulty is far above what the claimed hash rate would ask for."""
    hashes_per_share = int(channel["nominal_hashrate"] * 60 / SETTINGS["mining.shares_per_minute"])
    return channel["exponent"] > hashes_per_share.bit_length() + 2


def wait_for(running, device, condition):
    """Returns the device's channel once it meets a condition."""

    def look():
        assert device.is_alive, device.tail()
        channel = channel_of(running)
        return channel if channel and condition(channel) else None

    return until(look, lambda: f"{channel_of(running)}; {device.tail()}", PATIENCE_S)


@pytest.mark.pair("pool on the embedded chain", "mining_device")
@pytest.mark.timeout(120)
def test_sri_mining_device_refuses_a_pool_with_another_key(tmp_path):
    """The certificate counts: a device that pins a key does not mine for anybody else."""
    node, other = Node(tmp_path / "msp", SETTINGS), Node(tmp_path / "other", SETTINGS)
    with other.running() as stranger:
        foreign_key = stranger.authority_key
    with node.running() as running:
        command = [DEVICE, "--address-pool", running.sv2, "--pubkey-pool", foreign_key]
        with Process([*command, "--cores", "1"], tmp_path, "device") as device:
            until(lambda: not device.is_alive, lambda: f"it gives up; {device.tail()}", 60)
            assert "Received new mining job" not in device.stdout.read_text(errors="replace")


def channel_of(running):
    """Returns the device's channel as the status pages show it; None while it has none."""
    for client in running.get("/api/v1/clients").json()["items"]:
        page = running.get(f"/api/v1/clients/{client['client_id']}/channels").json()
        for channel in page["standard_channels"]:
            return channel
    return None


def blocks(running):
    return running.get("/api/v1/blocks?limit=100").json()["items"]

"""Thousands of devices submit through one translator, and every share of theirs is in the books."""

import resource

import pytest
from rig.book import Book
from rig.node import NO_BLOCKS, UNLIMITED, Node
from rig.process import LOAD, Process
from rig.translating import Translating

pytestmark = pytest.mark.slow

# Some descriptors are for other things than devices.
CONNECTIONS = min(5_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 500)
PERIOD_MS = 3_000
ROUNDS = 2
SHARES = CONNECTIONS * ROUNDS
MANY = 1_000_000
POOL = (
    UNLIMITED
    | NO_BLOCKS
    | {
        # A difficulty of 4 hashes, the device's and the pool's: each share goes upstream.
        "mining.exponent_min": 2,
        "mining.exponent_max": 2,
        "mining.report_interval_ms": 1_000,
        "limits.channels_per_connection_max": MANY,
        "limits.workers_per_connection_max": MANY,
        "limits.requests_per_second_max": MANY,
        "limits.requests_burst_max": MANY,
    }
)


@pytest.mark.timeout(600)
def test_five_thousand_devices_submit_every_three_seconds(tmp_path):
    node = Node(tmp_path / "msp", POOL)
    with node.running() as running:
        pools = [(running.sv2, running.authority_key)]
        with Translating(tmp_path / "translator", pools) as translating:
            translating.mining_for(running.sv2)
            command = [LOAD, "sv1-shares", "--connect", translating.sv1, "--shares", SHARES]
            command += ["--connections", CONNECTIONS, "--period-ms", PERIOD_MS]
            with Process(command, tmp_path, "devices") as devices:
                seen = devices.message("shares", 240)
                assert devices.wait() == 0, devices.tail()
            assert (seen["sent"], seen["accepted"], seen["failed"]) == (SHARES, SHARES, 0), seen
            assert seen["ack_us"]["count"] == SHARES
            print("answered after, us:", seen["ack_us"], "sent late by, us:", seen["late_us"])
            translating.until(
                lambda figures: figures["pool_accepted"] == SHARES, "the pool has all"
            )
            figures = translating.figures
            assert (figures["accepted"], figures["forwarded"]) == (SHARES, SHARES)
            assert (figures["rejected"], figures["pool_rejected"]) == ({}, 0)
        assert running.leave(15, 60) == 0
    assert Book(node.database).check() == SHARES, "every share is durable, once"

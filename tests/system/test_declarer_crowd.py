"""A crowd of declarers: what is under way is bounded, all have a turn, and miners mine on."""

import contextlib
import json
import subprocess
import sys

import pytest
import trio
from peer.client import Client
from peer.key import public_key_from_text
from peer.session import Session
from rig.declaring import address
from rig.node import EASY_SHARES, NO_BLOCKS, UNLIMITED, Node
from rig.process import ROOT
from rig.wait import until

from radpool_sv2.declarator.intake import PLACES

pytestmark = pytest.mark.slow

DECLARERS = 24
TRANSACTIONS = 250
LOOKS = 40
TURNS = 3
"""A declarer may be a turn ahead at each of two queues, and one more between two looks."""


# A crowd that waits for a processor is not slow to send.
PATIENT = {"declarator.provide_deadline_ms": 600_000}


@pytest.fixture
def running(tmp_path):
    settings = UNLIMITED | EASY_SHARES | NO_BLOCKS | PATIENT
    with Node(tmp_path / "msp", settings).running() as running:
        yield running


class Flood:
    """Is `benchmarks.flood` at work: each declarer has an address of its own."""

    def __init__(self, process):
        self.process = process

    @classmethod
    @contextlib.contextmanager
    def at(cls, running, height):
        told = running.told
        command = [sys.executable, "-m", "benchmarks.flood", "--connect", told["declarator"]]
        command += ["--key", told["authority_public_key"], "--height", str(height)]
        command += ["--declarers", str(DECLARERS), "--transactions", str(TRANSACTIONS)]
        with subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            try:
                assert json.loads(process.stdout.readline())["event"] == "ready"
                yield cls(process)
            finally:
                process.stdin.close()
                process.wait(60)

    def look(self):
        """Lets it begin, the first time; tells what has come of it."""
        self.process.stdin.write("look\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


async def apart(call, *given):
    return await trio.to_thread.run_sync(call, *given)


async def test_crowd_takes_turns_and_miners_mine_on(running):
    """spec: JD-34"""
    height = running.get("/api/v1/status").json()["template"]["height"]
    authority = public_key_from_text(running.told["authority_public_key"])
    client = await Client.connect(address(running.told["sv2"]), authority)
    assert (await client.set_up()).name == "SetupConnectionSuccess"
    session = Session(client)
    channel = await session.open()
    await session.accepted(session.mine(channel))
    with Flood.at(running, height) as flood:
        await apart(flood.look)
        under_way, waiting = [], []
        for _ in range(LOOKS):
            under_way.append(await apart(running.metric, "radpool_declarer_transfers"))
            waiting.append(await apart(running.metric, "radpool_declarer_transfers_waiting"))
            await session.accepted(session.mine(channel))
            told = await apart(flood.look)
            assert told["most"] <= told["least"] + TURNS, "sites take turns"
        assert max(under_way) <= PLACES
        assert max(waiting) > 0, "more was pushed than is taken at a time"
        await apart(
            until, lambda: flood.look()["least"] >= 2, lambda: f"two turns each; {flood.look()}"
        )
        told = await apart(flood.look)
        assert told["invalid-job"] == sum(
            count for name, count in told.items() if name not in NOT_REASONS
        ), "each was refused for what it is"

        before = channel.prev_hash
        await apart(running.chain, "mine")
        while channel.prev_hash == before:
            await session.receive()
        await session.accepted(session.mine(channel))
        assert "closed" not in await apart(flood.look)
    await client.aclose()
    assert running.problems() == []
    refused = running.get("/api/v1/declarers?limit=100").json()["items"]
    assert len(refused) == DECLARERS
    assert all(row["refused"]["bad-txns-inputs-missingorspent"] >= 2 for row in refused)


NOT_REASONS = {"event", "declared", "bytes", "least", "most"}

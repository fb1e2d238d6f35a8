"""Python stands still for some seconds: Rust goes on, memory stays bounded, nothing is lost."""

import contextlib
import signal
import time

import pytest
import trio
from peer.client import Client
from peer.key import public_key_from_text
from peer.message import Message
from peer.session import MAX_TARGET, Session
from rig import sleeper
from rig.book import Book
from rig.load import Load, read_hashes
from rig.node import NO_BLOCKS, UNLIMITED, Node
from rig.process import resident_bytes
from rig.wait import until

pytestmark = pytest.mark.slow

STALL_S = 14
# What must go on meanwhile is looked at for half of it: a busy machine may see its begin late.
LOOK_S = 7
SETTINGS = UNLIMITED | NO_BLOCKS | {
    # A ladder of two steps, and vardiff that leaves channels alone: only the test moves them.
    "mining.exponent_min": 4,
    "mining.exponent_max": 5,
    "mining.shares_per_minute": 60_000,
    "extensions.enabled": ["sleeper"],
}  # fmt: skip
CONNECTIONS = 20
# Nearly all come in while nobody takes them out.
RATE = 1_500
RING_LARGE, RING_SMALL = 65_536, 2_048
SHARES = 13_500
MEMORY_GROWTH_MAX = 32 << 20


def address(running):
    host, port = running.sv2.rsplit(":", 1)
    return host, int(port)


@contextlib.asynccontextmanager
async def witness(running):
    """A client of another make, with a channel of its own."""
    client = await Client.connect(address(running), public_key_from_text(running.authority_key))
    try:
        await client.set_up()
        session = Session(client)
        yield session, await session.open("extended", user="witness", hash_rate=0.0)
    finally:
        await client.aclose()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("ring", [RING_LARGE, RING_SMALL])
async def test_nothing_is_lost_while_python_stands_still(tmp_path, ring):
    """With room in the ring clients are served by Rust alone; without, they wait unread."""
    node = Node(tmp_path / "msp", SETTINGS | {"limits.ring_records_max": ring})
    env = sleeper.install(tmp_path / "site", STALL_S)
    with node.running(env) as running:
        async with witness(running) as (session, channel):
            await stand_still(tmp_path, node, running, ring, session, channel)
        assert running.leave(signal.SIGTERM, 60) == 0
    book = Book(node.database)
    hashes = read_hashes(tmp_path / "acknowledged")
    assert book.missing(hashes) == []
    assert book.check() == SHARES + 2 == len(set(hashes)) + 2
    assert "a role failed" not in node.stderr()


async def stand_still(directory, node, running, ring, session, channel):
    await session.accepted(session.mine(channel))
    load = Load(
        running, "load", "shares", connections=CONNECTIONS, shares=SHARES, rate=RATE,
        acknowledged=directory / "acknowledged",
    )  # fmt: skip
    with load:
        until(lambda: load.count() > RATE, lambda: load.process.tail())
        memory = resident_bytes(running.process.pid)
        running.process.signal(signal.SIGUSR1)
        until(lambda: "stalled" in node.stderr(), "the stall begins")
        end = time.monotonic() + LOOK_S
        if ring == RING_LARGE:
            assert await serve_a_client(session, channel, end) > 10
        await trio.sleep(max(0.0, end - time.monotonic()))
        assert "awake" not in node.stderr(), "the stall ended before the test of it"
        grown = resident_bytes(running.process.pid) - memory
        assert grown < MEMORY_GROWTH_MAX, f"{grown} bytes more in {LOOK_S} s"

        # Afterwards everything is acknowledged, once.
        assert load.process.wait() == 0, load.process.tail()
    assert "awake" in node.stderr()
    said = load.process.message("shares")
    assert (said["accepted"], said["rejected"], said["mismatches"]) == (SHARES, {}, 0)
    # The longest wait shows that there was a stall at all.
    assert said["ack_us"]["max"] > LOOK_S * 1_000_000
    assert (running.metric("radpool_engine_read_pauses_total") > 0) == (ring == RING_SMALL)
    assert running.problems() == []
    await session.accepted(session.mine(channel))


async def serve_a_client(session, channel, deadline):
    """Asks for other difficulties; each time a target and a job must come at once."""
    count = 0
    while time.monotonic() < deadline:
        with trio.fail_after(60):
            # 2^20 hashes a second are too many for the first step of the ladder, 0 for the second.
            await session.client.send(
                Message(
                    "UpdateChannel",
                    channel_id=channel.id,
                    nominal_hash_rate=0.0 if count % 2 else float(1 << 20),
                    maximum_target=MAX_TARGET,
                )
            )
            await session.until("SetTarget")
            job = await session.until("NewExtendedMiningJob")
        assert channel.job.id == job.job_id
        assert channel.z == 4 + (count + 1) % 2
        count += 1
        await trio.sleep(0.1)
    return count

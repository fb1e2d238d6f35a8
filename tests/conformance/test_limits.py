"""Limits whose effect is on others or on the pool, and not on the client that reaches them."""

import contextlib
import random

import pytest
import trio
from engine_pool import TEST_EXTENSION, records, request_extensions
from peer.client import setup_message
from peer.message import Message, frame, tlv
from peer.session import MAX_TARGET, Session

from radpool_sv2._native import engine as native

SEED = 20261121


async def test_workers_beyond_the_limit_stay_unnamed(start_pool):
    pool = await start_pool(workers_per_connection_max=2)
    session = await pool.session(extensions=(2,))
    channel = await session.open()
    numbers = []
    for name in (b"a", b"b", b"c", b"a", b"c"):
        await session.accepted(session.mine(channel), tail=tlv(2, 1, name))
        numbers.append(records(pool.batches[-1])[-1]["worker"])
    assert numbers == [1, 2, 0, 1, 0]
    named = [event.name for event in pool.events if isinstance(event, native.WorkerNamed)]
    assert named == [b"a", b"b"]


@pytest.mark.parametrize("workers", [0, 1])
async def test_no_worker_names_at_all(start_pool, workers):
    pool = await start_pool(workers_per_connection_max=workers)
    session = await pool.session(extensions=(2,))
    channel = await session.open()
    await session.accepted(session.mine(channel), tail=tlv(2, 1, b"a"))
    assert records(pool.batches[-1])[-1]["worker"] == workers


async def test_full_ring_stops_reading_and_loses_nothing(start_pool):
    """Python takes nothing: sockets are not read, jobs still go out, later all is acknowledged."""
    pool = await start_pool(ring_records_max=64, exponent_max=4)
    sessions = [await pool.session() for _ in range(3)]
    channels = [await session.open() for session in sessions]
    pool.stalled = True
    sent = 0
    with trio.fail_after(60):
        # More than the ring and a read beyond it: what the socket buffers hold is not read.
        while pool.gauge("read_pauses_total") == 0 or sent < 120:
            for session, channel in zip(sessions, channels, strict=True):
                await session.submit(*(session.mine(channel) for _ in range(10)))
                sent += 10
            await trio.sleep(0)
    # The one read that filled it found as many as its client had sent by then.
    assert pool.gauge("ring_records") < 64 + sent // 3 < sent
    assert pool.gauge("connections") == 3
    # A new tip reaches every client although none of them is read.
    pool.new_tip()
    for session in sessions:
        await session.until("SetNewPrevHash")
    pool.stalled = False
    pool.wake()
    for session, channel in zip(sessions, channels, strict=True):
        while channel.outstanding:
            message = await session.receive()
            # What was read after the tip had changed is stale, and told so.
            if message.name == "SubmitSharesError":
                assert message.error_code == "stale-share"
    accepted = sum(channel.accepted for channel in channels)
    assert accepted == sum(map(len, pool.batches)) == pool.gauge("shares_accepted_total")
    refused = pool.gauge("shares_rejected_stale_share_total")
    assert accepted + refused == sent


async def test_slow_reader_does_not_slow_others(start_pool):
    # A pool that waited for the slow one would do so for longer than anybody here has patience.
    pool = await start_pool(
        outbound_bytes_max=1 << 16, exponent_max=4, write_deadline_ms=10 * 60_000
    )
    slow, other = await pool.session(), await pool.session()
    slow_channel, channel = await slow.open(), await other.open()
    bad = slow.mine(slow_channel).message.replace(job_id=99)

    async def flood():
        while True:
            try:
                await slow.client.send(*[bad] * 500)
            except trio.BrokenResourceError:
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        with trio.fail_after(60):
            while pool.gauge("closed_slow_reader_total") == 0:
                await other.accepted(other.mine(channel))
        nursery.cancel_scope.cancel()
    await other.accepted(other.mine(channel))
    await pool.until(lambda: pool.gauge("connections") == 1)


async def test_no_prefixes_left(start_pool):
    """Without extranonces no channel: said as such, and mended by a new lease."""
    pool = await start_pool(prefixes_low=1_000_000)
    session = await pool.session()
    await session.open()
    assert (await pool.event(native.PrefixesLow)).remaining < 1_000_000


async def test_hashes_are_forgotten_oldest_first(start_pool):
    """Memory is bounded; the ledger stands behind it. 1024 is the least that is kept."""
    pool = await start_pool(seen_shares_max=1_024, exponent_min=0, exponent_max=0)
    session = await pool.session()
    channel = await session.open()
    for _ in range(40):
        shares = [session.mine(channel) for _ in range(50)]
        await session.submit(*shares)
        while channel.outstanding:
            await session.until("SubmitSharesSuccess")
    assert channel.accepted == 2_000
    assert pool.gauge("seen_shares") <= 1_024
    assert pool.gauge("seen_shares") + pool.gauge("seen_shares_forgotten_total") == 2_000
    assert await session.refused(shares[-1]) == "duplicate-share"


async def test_everything_one_byte_at_a_time(pool):
    """The stream has no boundaries: each byte alone means the same."""
    client = await pool.connect()
    session = Session(client)
    whole = client.send_bytes

    async def in_bytes(raw):
        for at in range(len(raw)):
            await whole(raw[at : at + 1])

    client.send_bytes = in_bytes
    await client.send(setup_message(), request_extensions(2, TEST_EXTENSION))
    assert (await client.receive()).name == "SetupConnectionSuccess"
    assert (await client.receive()).name == "RequestExtensionsSuccess"
    for kind in ("standard", "extended"):
        channel = await session.open(kind)
        await session.accepted(session.mine(channel))
    await session.accepted(session.mine(channel), tail=tlv(TEST_EXTENSION, 0, b"attached"))
    await client.send_frames(frame(TEST_EXTENSION, 7, bytes(7_000), channel=False))
    assert len((await pool.event(native.ExtensionFrame)).payload) == 7_000


async def test_a_whole_session_in_one_write(pool):
    client = await pool.connect()
    opening = Message(
        "OpenExtendedMiningChannel",
        request_id=1,
        user_identity="a",
        nominal_hash_rate=0.0,
        max_target=MAX_TARGET,
        min_extranonce_size=0,
    )
    messages = [opening.replace(request_id=number) for number in range(20)]
    await client.send(setup_message(), *messages)
    assert (await client.receive()).name == "SetupConnectionSuccess"
    opened = set()
    while len(opened) < 20:
        message = await client.receive()
        if message.name == "OpenExtendedMiningChannelSuccess":
            opened.add(message.request_id)
    assert opened == set(range(20))


async def test_random_payloads_never_hurt_the_pool(pool):
    """Any message with any payload: answered, ignored or closed, never a panic."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    witness = await pool.session()
    channel = await witness.open()
    for _ in range(60):
        session = await pool.session(extensions=(2, TEST_EXTENSION))
        await session.open()
        frames = []
        for _ in range(20):
            extension = chance.choice([0, 0, 0, 1, 2, TEST_EXTENSION, 0x4123])
            number = chance.choice([*range(0x26), 0x50, 0xFF])
            payload = chance.randbytes(chance.choice([0, 1, 4, 24, 33, 57, 80, 300]))
            if chance.random() < 0.5:
                # A likely channel in front gets further in.
                payload = (1).to_bytes(4, "little") + payload
            frames.append(frame(extension, number, payload, channel=chance.random() < 0.7))
        with contextlib.suppress(trio.BrokenResourceError):
            await session.client.send_frames(*frames)
        await session.client.aclose()
    await witness.accepted(witness.mine(channel))
    await pool.until(lambda: pool.gauge("connections") == 1)
    assert pool.gauge("tasks_panicked_total") == 0

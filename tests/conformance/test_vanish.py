"""Clients that vanish: nothing of them stays, whenever and however they go.

A published pool hangs for ever when a few hundred clients leave right after opening a channel.
"""

import contextlib
import gc
import random

import pytest
import trio
from engine_pool import descriptors, resident_kib
from peer.client import Client, ConnectionClosed, open_stream, setup_message
from peer.curve import EllSwiftKey
from peer.message import Message
from peer.session import MAX_TARGET

CLIENTS = 200
AT_ONCE = 50
WAVES = 4
# What the allocator may keep that the first waves have not taken yet.
GROWTH_KIB_MAX = 6 * 1024
# One key for the whole crowd: it is not their handshakes that are tested here.
EPHEMERAL = EllSwiftKey(random.Random(1))

OPENINGS = [
    Message(
        "OpenExtendedMiningChannel",
        request_id=number,
        user_identity="ghost",
        nominal_hash_rate=0.0,
        max_target=MAX_TARGET,
        min_extranonce_size=0,
    )
    for number in range(3)
]


async def connected(_pool, stream):
    return stream


async def part_of_act_1(_pool, stream):
    await stream.send_all(bytes(40))
    return stream


async def act_1(_pool, stream):
    await stream.send_all(EPHEMERAL.encoded)
    return stream


async def shaken(pool, stream):
    client = await Client.over(stream, pool.authority, ephemeral=EPHEMERAL)
    return client.stream


async def set_up(pool, stream):
    client = await Client.over(stream, pool.authority, ephemeral=EPHEMERAL)
    await client.send(setup_message())
    return client.stream


async def opening(pool, stream):
    client = await Client.over(stream, pool.authority, ephemeral=EPHEMERAL)
    await client.send(setup_message(), *OPENINGS)
    return client.stream


async def opened(pool, stream):
    client = await Client.over(stream, pool.authority, ephemeral=EPHEMERAL)
    await client.send(setup_message(), *OPENINGS)
    while (await client.receive()).name != "SetNewPrevHash":
        pass
    return client.stream


async def half_a_frame(pool, stream):
    client = await Client.over(stream, pool.authority, ephemeral=EPHEMERAL)
    sealed = client.send_cipher.seal_frame(setup_message().frame())
    await client.send_bytes(sealed[:40])
    return client.stream


STAGES = [connected, part_of_act_1, act_1, shaken, set_up, opening, opened, half_a_frame]


async def vanish(pool, stage, how, limiter):
    async with limiter:
        stream = await open_stream(pool.address)
        with contextlib.suppress(ConnectionClosed, trio.BrokenResourceError):
            await stage(pool, stream)
        if how == "reset":
            await Client(stream, None, None).reset()
        else:
            await trio.aclose_forcefully(stream)


async def wave(pool, stage, how, count):
    limiter = trio.CapacityLimiter(AT_ONCE)
    due = greeted(pool) + count
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(vanish, pool, stage, how, limiter)
    # Nobody is left in the system's queue, and then nobody in the pool.
    await pool.until(lambda: greeted(pool) == due and pool.gauge("sockets") == 0)


def greeted(pool):
    """Counts those whose handshake is over, well or not: they are let in before, and out later."""
    names = ("handshakes_total", "handshakes_failed_total", "accept_failures_total")
    return sum(map(pool.gauge, names))


def no_trace(pool):
    metrics = pool.engine.metrics()
    for gauge in (
        "sockets",
        "connections",
        "channels",
        "connections_paused",
        "tasks_panicked_total",
    ):
        assert metrics[gauge] == 0, gauge


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__)
async def test_vanished_clients_leave_no_trace(pool, stage, how):
    # What earlier tests left for the collector must not go while this one counts.
    gc.collect()
    before = descriptors()
    await wave(pool, stage, how, CLIENTS)
    gc.collect()
    await pool.until(lambda: descriptors() <= before)
    no_trace(pool)
    await pool.until(lambda: pool.gauge("events_waiting") == 0)
    # And the pool is as good as ever.
    session = await pool.session()
    await session.accepted(session.mine(await session.open()))


async def test_decisions_about_the_vanished_do_no_harm(pool):
    """The pool opens channels for clients that have left meanwhile."""
    pool.hold_decisions = True
    await wave(pool, opening, "reset", 50)
    requests = [event for event in pool.events if type(event).__name__ == "ChannelRequested"]
    for event in requests:
        pool.decide(event)
    pool.hold_decisions = False
    session = await pool.session()
    await session.accepted(session.mine(await session.open()))
    assert pool.gauge("channels") == 1


async def test_acknowledgements_for_the_vanished_do_no_harm(pool):
    pool.hold_acknowledgements = True
    session = await pool.session()
    channel = await session.open()
    await session.submit(*(session.mine(channel) for _ in range(3)))
    await pool.until(lambda: sum(map(len, pool.batches)) == 3)
    await session.client.reset()
    await pool.until(lambda: pool.gauge("sockets") == 0)
    for batch in pool.batches:
        pool.engine.acknowledge(batch)
    no_trace(pool)


async def test_memory_is_flat_over_waves(pool):
    for _ in range(2):
        await wave(pool, opened, "reset", CLIENTS)
    pool.events.clear()
    gc.collect()
    before = resident_kib()
    for number in range(WAVES):
        await wave(pool, opened, ("close", "reset")[number % 2], CLIENTS)
        pool.events.clear()
        gc.collect()
    assert resident_kib() - before < GROWTH_KIB_MAX
    no_trace(pool)

"""Jobs, tips and targets as a channel sees them. Rows: `rows.py`."""

import random
import struct

import pytest
from engine_pool import POOL_SCRIPT, SUBSIDY, records
from peer import work
from peer.session import MAX_TARGET

from radpool_sv2._native import engine as native

KINDS = ("standard", "extended")


async def connection_of(pool):
    return (await pool.event(native.SetUp)).connection


@pytest.mark.parametrize("kind", KINDS)
async def test_new_template_brings_an_active_job(pool, kind):
    session = await pool.session()
    channel = await session.open(kind)
    before = channel.job
    pool.new_template()
    job = await session.receive()
    assert job.min_ntime is not None
    assert await session.settle() == []
    assert channel.job.id != before.id
    for each in (before, channel.job):
        await session.accepted(session.mine(channel, job=each))


@pytest.mark.parametrize("kind", KINDS)
async def test_new_tip_brings_a_future_job_and_names_it(pool, kind):
    session = await pool.session()
    channel = await session.open(kind)
    before = channel.job
    pool.new_tip()
    job, tip = await session.receive(), await session.expect("SetNewPrevHash")
    assert job.min_ntime is None
    assert tip.job_id == job.job_id
    assert channel.prev_hash == b"\2\0\0\0" * 8
    assert await session.refused(session.mine(channel, job=before)) == "stale-share"
    await session.accepted(session.mine(channel))


@pytest.mark.parametrize("kind", KINDS)
async def test_future_job_waits_for_its_tip(pool, kind):
    session = await pool.session()
    channel = await session.open(kind)
    active = channel.job
    pool.new_future()
    job = await session.receive()
    assert job.min_ntime is None
    future = channel.jobs[job.job_id]
    # Not yet: its previous block is not known.
    share = session.mine(channel, job=active)
    share.message.fields["job_id"] = future.id
    assert await session.refused(share) == "invalid-job-id"
    await session.accepted(session.mine(channel))
    pool.activate_future()
    tip = await session.expect("SetNewPrevHash")
    assert tip.job_id == future.id
    assert await session.settle() == []
    await session.accepted(session.mine(channel))


async def test_only_the_named_job_stays_valid(pool):
    session = await pool.session()
    channel = await session.open()
    pool.new_template()
    await session.settle()
    pool.new_future()
    await session.settle()
    old = [job for job in channel.jobs.values() if not job.future]
    assert len(old) == 2
    pool.activate_future()
    await session.until("SetNewPrevHash")
    for job in old:
        assert await session.refused(session.mine(channel, job=job)) == "stale-share"
    await session.accepted(session.mine(channel))


async def test_future_job_that_was_passed_over_is_gone(pool):
    session = await pool.session()
    channel = await session.open()
    pool.new_future()
    job = await session.expect("NewExtendedMiningJob")
    pool.new_tip()
    tip = await session.until("SetNewPrevHash")
    assert tip.job_id != job.job_id
    share = session.mine(channel)
    share.message.fields["job_id"] = job.job_id
    assert await session.refused(share) == "invalid-job-id"


@pytest.mark.parametrize("kind", KINDS)
async def test_late_joiner_gets_the_work_of_everyone(pool, kind):
    """After other templates on the tip, and with the future job that waits."""
    early = await pool.session()
    await early.open()
    pool.new_template()
    pool.new_future()
    await early.settle()
    late = await pool.session()
    channel = await late.open(kind)
    await late.settle()
    assert [job.future for job in channel.jobs.values()] == [False, True]
    await late.accepted(late.mine(channel))
    pool.activate_future()
    await late.until("SetNewPrevHash")
    await late.accepted(late.mine(channel))


async def test_late_joiner_of_a_group(start_pool):
    pool = await start_pool(group_jobs=True)
    session = await pool.session()
    first = await session.open()
    pool.new_future()
    await session.settle()
    second = await session.open()
    await session.settle()
    assert first.group == second.group
    pool.activate_future()
    await session.until("SetNewPrevHash")
    await session.settle()
    for channel in (first, second):
        await session.accepted(session.mine(channel))


async def test_set_target_is_followed_by_a_job_with_its_tag(pool):
    session = await pool.session()
    channel = await session.open()
    connection = await connection_of(pool)
    before = channel.job
    pool.engine.set_exponent(connection, channel.id, 10)
    target = await session.expect("SetTarget")
    assert target.maximum_target == work.ladder_target(10)
    await session.expect("NewExtendedMiningJob")
    assert channel.job.z == 10
    # Active jobs keep their weight: a share of the job before counts what it was worth.
    success = await session.accepted(session.mine(channel, job=before))
    assert success.new_shares_sum == 2**4
    success = await session.accepted(session.mine(channel))
    assert success.new_shares_sum == 2**10


async def test_set_target_renews_the_queued_future_job(pool):
    session = await pool.session()
    channel = await session.open()
    connection = await connection_of(pool)
    pool.new_future()
    await session.settle()
    pool.engine.set_exponent(connection, channel.id, 9)
    changes = await session.settle()
    assert [message.name for message in changes] == [
        "SetTarget",
        "NewExtendedMiningJob",
        "NewExtendedMiningJob",
    ]
    pool.activate_future()
    await session.expect("SetNewPrevHash")
    # The session has checked that the named job bears the new target's tag.
    assert (await session.accepted(session.mine(channel))).new_shares_sum == 2**9


async def test_set_target_on_standard_channels(pool):
    session = await pool.session()
    channel = await session.open("standard")
    connection = await connection_of(pool)
    pool.engine.set_exponent(connection, channel.id, 7)
    await session.expect("SetTarget")
    await session.expect("NewMiningJob")
    assert (await session.accepted(session.mine(channel))).new_shares_sum == 2**7


async def test_vardiff_steers_a_fast_miner(start_pool):
    """No share is lost while the target moves, and none is counted at another weight."""
    pool = await start_pool(exponent_max=10)
    session = await pool.session()
    channel = await session.open()
    due = 0
    for _ in range(40):
        share = session.mine(channel)
        due += share.work
        await session.accepted(share)
    assert channel.z > 6
    assert channel.work == due


async def test_jobs_bear_the_owner_tag(pool):
    """The binding opens with what the pool has registered: MSP key, owner, epoch, rail and z."""
    pool.rails[b"bob"] = 1
    pool.exponents[b"bob"] = 6
    session = await pool.session()
    for user, rail, z in ((b"alice", 0, 4), (b"bob", 1, 6)):
        channel = await session.open(user=user.decode())
        coinbase = work.parse_coinbase(channel.coinbase(channel.job, bytes(8)))
        tag = work.find_owner_tag(coinbase)
        binding = work.owner_binding(pool.msp.public, pool.commitment(user), pool.epoch, rail, z)
        assert (tag.version, tag.rail, tag.z, tag.binding) == (1, rail, z, binding)


async def test_tag_follows_epoch_and_owner(pool):
    session = await pool.session()
    channel = await session.open()
    connection = await connection_of(pool)

    def binding():
        coinbase = work.parse_coinbase(channel.coinbase(channel.job, bytes(8)))
        return work.find_owner_tag(coinbase).binding

    pool.epoch = 8
    pool.new_tip()
    await session.until("SetNewPrevHash")
    owner = pool.commitment(b"alice")
    assert binding() == work.owner_binding(pool.msp.public, owner, 8, 0, 4)
    other = pool.commitment(b"carol")
    pool.engine.set_owner(connection, channel.id, account=9, commitment=other, rail=2)
    await session.expect("NewExtendedMiningJob")
    assert binding() == work.owner_binding(pool.msp.public, other, 8, 2, 4)
    share = session.mine(channel)
    await session.accepted(share)
    record = records(pool.batches[-1])[-1]
    assert (record["account"], record["rail"], record["epoch"]) == (9, 2, 8)


async def test_standard_jobs_bear_the_owner_tag(pool):
    """Header-only: the root must be that of the coinbase that the peer makes itself."""
    session = await pool.session()
    extended = await session.open("extended")
    standard = await session.open("standard")
    # Same owner and exponent, so the coinbase differs in the extranonce alone.
    pool.new_template()
    await session.settle()
    template = extended.job.message
    coinbase = template.coinbase_tx_prefix + standard.prefix + template.coinbase_tx_suffix
    root = work.merkle_root(coinbase, template.merkle_path)
    assert standard.job.message.merkle_root == root


async def test_coinbase_is_as_the_template_says(pool):
    session = await pool.session()
    channel = await session.open()
    raw = channel.coinbase(channel.job, bytes(8))
    coinbase = work.parse_coinbase(raw)
    height = struct.pack("<H", pool.height)
    assert coinbase.version == 2
    assert coinbase.sequence == 0xFFFFFFFE
    assert coinbase.locktime == pool.height - 1
    assert coinbase.script_sig[:3] == b"\x02" + height
    assert b"conformance" in coinbase.script_sig
    assert coinbase.script_sig[-13:] == b"\x0c" + channel.prefix + bytes(8)
    pay, tag, commitment = coinbase.outputs
    assert (pay.value, pay.script) == (SUBSIDY, POOL_SCRIPT)
    assert tag.value == 0
    assert commitment.script[:6] == b"\x6a\x24\xaa\x21\xa9\xed"


@pytest.mark.parametrize("text", ["", "x" * 70], ids=["empty", "longest"])
async def test_coinbase_fits_with_any_pool_text(start_pool, text):
    """The session checks that the scriptSig stays within 100 bytes."""
    pool = await start_pool(pool_text=text)
    session = await pool.session()
    channel = await session.open(min_extranonce_size=16)
    assert channel.extranonce_len == 20
    await session.accepted(session.mine(channel))


async def test_job_ids_are_unique_on_the_connection(start_pool):
    """The session remembers all: here with two groups, two kinds and moves on the ladder."""
    pool = await start_pool(group_jobs=True)
    session = await pool.session()
    channels = [await session.open(kind, user=user) for kind in KINDS for user in ("a", "b")]
    connection = await connection_of(pool)
    for turn in range(5):
        pool.new_template()
        pool.engine.set_exponent(connection, channels[turn % 4].id, 5 + turn)
        pool.new_future()
        await session.settle()
        pool.activate_future()
        await session.until("SetNewPrevHash")
        await session.settle()
    assert len(session.job_ids) > 30


async def test_version_rolling_is_told_with_the_job(start_pool):
    for rolling in (True, False):
        pool = await start_pool(version_rolling=rolling)
        session = await pool.session()
        channel = await session.open()
        assert channel.job.message.version_rolling_allowed is rolling


async def test_templates_and_tips_in_any_order(pool):
    """A seeded walk: whatever comes, every channel can always mine what it was sent last."""
    walk = random.Random(20261121)
    print("seed 20261121")
    session = await pool.session()
    channels = [await session.open(kind) for kind in KINDS]
    future = False
    for _ in range(40):
        step = walk.choice(["tip", "template", "future", "activate", "join"])
        if step == "tip":
            pool.new_tip()
            future = False
        elif step == "template" and not future:
            pool.new_template()
        elif step == "future":
            pool.new_future()
            future = True
        elif step == "activate" and future:
            pool.activate_future()
            future = False
        elif step == "join":
            channels.append(await session.open(walk.choice(KINDS), max_target=MAX_TARGET))
        await session.settle()
        channel = walk.choice(channels)
        await session.accepted(session.mine(channel))

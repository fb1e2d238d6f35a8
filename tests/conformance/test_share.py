"""Shares: what counts, what is refused and how it is told. Rows: `rows.py`."""

import json
import time

import pytest
from engine_pool import records
from peer import work
from peer.message import Message

from radpool_sv2._native import engine as native

KINDS = ("standard", "extended")
# The easiest target that nBits can say: about every second hash is a block.
REGTEST = 0x207FFFFF
# Another header meets this target by chance once in 2^16 times.
UNLIKELY = work.ladder_target(16)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


async def mining(pool, kind):
    session = await pool.session()
    return session, await session.open(kind)


async def test_good_share_is_recorded_as_it_was_mined(pool, kind):
    session, channel = await mining(pool, kind)
    share = session.mine(channel)
    success = await session.accepted(share)
    assert success.fields == {
        "channel_id": channel.id,
        "last_sequence_number": 1,
        "new_submits_accepted_count": 1,
        "new_shares_sum": 16,
    }
    (record,) = records(pool.batches[0])
    fields = share.message.fields
    rolled = fields.get("extranonce", b"")
    full = channel.prefix + rolled
    assert record["hash"] == share.hash
    assert record["extranonce"][: record["extranonce_len"]] == full
    for name in ("version", "ntime", "nonce"):
        assert record[name] == fields[name]
    assert (record["channel"], record["sequence"]) == (channel.id, 1)
    assert (record["exponent"], record["epoch"], record["flags"]) == (4, 7, 0)


async def test_duplicate_share(pool, kind):
    session, channel = await mining(pool, kind)
    share = session.mine(channel)
    await session.accepted(share)
    assert await session.refused(share) == "duplicate-share"
    again = share.message.replace(sequence_number=77)
    share.message = again
    assert await session.refused(share) == "duplicate-share"


async def test_duplicate_share_in_one_write(pool, kind):
    session, channel = await mining(pool, kind)
    share = session.mine(channel)
    twin = share.message.replace(sequence_number=2)
    channel.outstanding.append((1, share.work))
    await session.client.send(share.message, twin)
    error = await session.until("SubmitSharesError")
    assert (error.sequence_number, error.error_code) == (2, "duplicate-share")
    while not channel.accepted:
        await session.receive()
    assert channel.accepted == pool.gauge("shares_accepted_total") == 1


async def test_stale_share(pool, kind):
    session, channel = await mining(pool, kind)
    share = session.mine(channel)
    pool.new_tip()
    await session.until("SetNewPrevHash")
    assert await session.refused(share) == "stale-share"


async def test_replay_after_tips_a_b_a(pool, kind):
    """The chain goes to another block and back: what was paid is not paid again."""
    session, channel = await mining(pool, kind)
    share = session.mine(channel)
    await session.accepted(share)
    back = share.job.prev_hash
    pool.new_tip()
    await session.until("SetNewPrevHash")
    pool.new_tip(prev_hash=back, min_ntime=share.job.min_ntime)
    await session.until("SetNewPrevHash")
    await session.settle()
    code = await session.refused(share)
    assert code in ("stale-share", "invalid-job-id", "duplicate-share")
    await session.accepted(session.mine(channel))


async def test_low_difficulty_share(pool, kind):
    session, channel = await mining(pool, kind)
    assert await session.refused(session.mine(channel, good=False)) == "difficulty-too-low"


async def test_share_at_the_very_target(start_pool):
    """`hash <= target` counts: the ladder's bound is met by exactly z zero bits."""
    pool = await start_pool(exponent_max=4)
    session, channel = await mining(pool, "extended")
    zeros = set()
    while not {4, 5} <= zeros:
        share = session.mine(channel)
        zeros.add(256 - work.number(share.hash).bit_length())
        await session.accepted(share)


async def test_unknown_job(pool, kind):
    session, channel = await mining(pool, kind)
    for wrong in (0, 999, 0xFFFFFFFF):
        share = session.mine(channel)
        share.message.fields["job_id"] = wrong
        assert await session.refused(share) == "invalid-job-id"


async def test_job_of_another_channel(pool, kind):
    session, channel = await mining(pool, kind)
    other = await session.open(kind)
    share = session.mine(channel)
    share.message.fields["job_id"] = other.job.id
    assert await session.refused(share) == "invalid-job-id"


@pytest.mark.parametrize("wrong", [0, 2, 99, 0xFFFFFFFF])
async def test_unknown_channel(pool, kind, wrong):
    """2 is the channel's group: shares name the channel."""
    session, channel = await mining(pool, kind)
    assert channel.group == 2
    share = session.mine(channel)
    share.message.fields["channel_id"] = wrong
    assert await session.refused(share) == "invalid-channel-id"


async def test_share_of_the_other_kind(pool):
    session, channel = await mining(pool, "extended")
    fields = session.mine(channel).message.fields
    fields = {name: value for name, value in fields.items() if name != "extranonce"}
    await session.client.send(Message("SubmitSharesStandard", **fields))
    error = await session.expect("SubmitSharesError")
    assert error.error_code == "invalid-channel-id"


@pytest.mark.parametrize("size", [0, 7, 9, 32])
async def test_bad_extranonce_size(pool, size):
    session, channel = await mining(pool, "extended")
    share = session.mine(channel)
    share.message.fields["extranonce"] = bytes(size)
    assert await session.refused(share) == "bad-extranonce-size"


async def test_ntime_at_its_lower_bound(pool, kind):
    session, channel = await mining(pool, kind)
    low = channel.job.min_ntime
    await session.accepted(session.mine(channel, ntime=low))
    assert await session.refused(session.mine(channel, ntime=low - 1)) == "invalid-share"


async def test_ntime_at_its_upper_bound(pool, kind):
    """120 seconds ahead of the clock; one minute more than the test can take is too far."""
    session, channel = await mining(pool, kind)
    now = int(time.time())
    await session.accepted(session.mine(channel, ntime=now + 120))
    assert await session.refused(session.mine(channel, ntime=now + 180)) == "invalid-share"
    assert await session.refused(session.mine(channel, ntime=0xFFFFFFFF)) == "invalid-share"


async def test_ntime_beyond_what_nodes_take(start_pool):
    """Whatever the slack: two hours ahead of the clock no node takes a block."""
    pool = await start_pool(ntime_slack_s=7200)
    now = int(time.time())
    pool.new_tip(min_ntime=now + 3600)
    session, channel = await mining(pool, "extended")
    await session.accepted(session.mine(channel, ntime=now + 7199))
    assert await session.refused(session.mine(channel, ntime=now + 7260)) == "invalid-share"


@pytest.mark.parametrize("bit", range(32))
async def test_version_bits(pool, kind, bit):
    """BIP323: bits 5 to 28 may roll, no other."""
    session, channel = await mining(pool, kind)
    share = session.mine(channel, version=channel.job.message.version ^ 1 << bit)
    if work.VERSION_MASK >> bit & 1:
        await session.accepted(share)
    else:
        assert await session.refused(share) == "invalid-non-rollable-version-bit"


async def test_version_rolling_not_allowed(start_pool, kind):
    pool = await start_pool(version_rolling=False)
    session, channel = await mining(pool, kind)
    rolled = session.mine(channel, version=channel.job.message.version ^ 1 << 13)
    assert await session.refused(rolled) == "version-rolling-not-allowed"
    foreign = session.mine(channel, version=channel.job.message.version ^ 1)
    assert await session.refused(foreign) == "invalid-non-rollable-version-bit"
    await session.accepted(session.mine(channel))


async def test_batched_success_counts_exactly(pool):
    """One message for what became durable together; its counters are of this batch alone."""
    session, channel = await mining(pool, "extended")
    pool.hold_acknowledgements = True
    shares = [session.mine(channel) for _ in range(5)]
    await session.submit(*shares)
    await pool.until(lambda: sum(map(len, pool.batches)) == 5)
    await session.settle()
    for batch in pool.batches:
        pool.engine.acknowledge(batch)
    taken = 0
    while taken < 5:
        success = await session.until("SubmitSharesSuccess")
        taken += success.new_submits_accepted_count
    assert success.last_sequence_number == 5
    assert (channel.accepted, channel.work) == (5, 5 * 16)
    pool.hold_acknowledgements = False
    success = await session.accepted(session.mine(channel))
    assert (success.new_submits_accepted_count, success.last_sequence_number) == (1, 6)


async def test_batched_success_is_per_channel(pool):
    session = await pool.session()
    channels = [await session.open(kind) for kind in KINDS]
    pool.hold_acknowledgements = True
    for channel in channels:
        await session.submit(session.mine(channel), session.mine(channel))
    await pool.until(lambda: sum(map(len, pool.batches)) == 4)
    assert await session.settle() == []
    for batch in pool.batches:
        pool.engine.acknowledge(batch)
    while any(channel.outstanding for channel in channels):
        await session.until("SubmitSharesSuccess")
    assert [channel.work for channel in channels] == [32, 32]


async def test_nothing_is_acknowledged_before_it_is_durable(pool, kind):
    session, channel = await mining(pool, kind)
    pool.hold_acknowledgements = True
    await session.submit(session.mine(channel))
    await pool.until(lambda: pool.batches)
    assert await session.settle() == []
    pool.engine.acknowledge(pool.batches[0])
    await session.expect("SubmitSharesSuccess")


async def test_errors_are_immediate_and_one_for_each_share(pool):
    session, channel = await mining(pool, "extended")
    pool.hold_acknowledgements = True
    good = session.mine(channel)
    bad = [session.mine(channel, good=False) for _ in range(3)]
    await session.submit(good, *bad)
    errors = [await session.expect("SubmitSharesError") for _ in bad]
    assert [error.sequence_number for error in errors] == [2, 3, 4]
    await pool.until(lambda: pool.batches)
    pool.engine.acknowledge(pool.batches[0])
    assert (await session.expect("SubmitSharesSuccess")).last_sequence_number == 1


async def test_share_that_the_ledger_refuses(pool):
    """The ledger has the last word: its code reaches the miner, the rest is acknowledged."""
    session, channel = await mining(pool, "extended")
    pool.hold_acknowledgements = True
    await session.submit(*(session.mine(channel) for _ in range(3)))
    await pool.until(lambda: sum(map(len, pool.batches)) == 3)
    index = 0
    for batch in pool.batches:
        rejected = [
            (at, "duplicate-share") for at in range(len(batch)) if batch.sequence_of(at) == 2
        ]
        index += len(rejected)
        pool.engine.acknowledge(batch, rejected)
    assert index == 1
    error = await session.until("SubmitSharesError")
    assert (error.sequence_number, error.error_code) == (2, "duplicate-share")
    while channel.outstanding:
        await session.until("SubmitSharesSuccess")
    assert channel.accepted == 2


async def test_sequence_numbers_are_echoed_whatever_they_are(pool):
    session, channel = await mining(pool, "extended")
    for sequence in (0xFFFFFFFF, 5, 5, 0):
        share = session.mine(channel)
        share.message.fields["sequence_number"] = sequence
        assert (await session.accepted(share)).last_sequence_number == sequence


async def test_past_jobs_are_kept_by_time_not_by_number(pool, kind):
    """Fifty templates later the first job of the tip still counts."""
    session, channel = await mining(pool, kind)
    first = channel.job
    for _ in range(50):
        pool.new_template()
        await session.settle()
    await session.accepted(session.mine(channel, job=first))
    await session.accepted(session.mine(channel))


async def test_replay_on_another_connection(pool):
    """A header that one miner delivered earns nothing for another, who lacks its prefix anyway."""
    session = await pool.session()
    share = session.mine(await session.open(max_target=UNLIKELY))
    await session.accepted(share)
    thief = await pool.session()
    stolen = await thief.open(user="mallory", max_target=UNLIKELY)
    share.message = share.message.replace(channel_id=stolen.id, job_id=stolen.job.id)
    assert await thief.refused(share) in ("difficulty-too-low", "duplicate-share")


async def test_shares_from_before_a_restart_are_duplicates(start_pool):
    """The restarted pool has the same key, prefixes, template and owner: the very same job."""
    first = await start_pool()
    session = await first.session()
    channel = await session.open()
    share = session.mine(channel)
    await session.accepted(share)
    second = await start_pool(msp=first.msp)
    second.engine.preload_seen(share.hash)
    again = await second.session()
    again.random.seed("another miner's luck")
    other = await again.open()
    assert other.prefix == channel.prefix
    assert await again.refused(share) == "duplicate-share"
    assert second.gauge("shares_accepted_total") == 0
    await again.accepted(again.mine(other))


async def test_solved_block_leaves_at_once(pool):
    """On disk before anyone is told; header and coinbase are those that the peer made."""
    session, channel = await mining(pool, "extended")
    pool.new_tip(nbits=REGTEST, target=work.ladder_target(8))
    await session.until("SetNewPrevHash")
    share = session.mine(channel, block_target=2 ** (256 - 8) - 1)
    await session.accepted(share)
    found = await pool.event(native.BlockFound)
    assert (found.header, found.hash) == (share.header, share.hash)
    line = json.loads(pool.solution_log.read_text().splitlines()[-1])
    assert share.hash.hex() in json.dumps(line) or share.hash[::-1].hex() in json.dumps(line)
    stripped = found.coinbase_tx[:4] + found.coinbase_tx[6:-38] + found.coinbase_tx[-4:]
    assert stripped == channel.coinbase(channel.job, share.message.extranonce)
    # One witness item of 32 zero bytes.
    assert found.coinbase_tx[4:6] == b"\0\1"
    assert found.coinbase_tx[-38:-4] == b"\1\x20" + bytes(32)
    # The same block again is no second block.
    assert await session.refused(share) == "duplicate-share"
    assert pool.gauge("solutions_total") == 1


async def test_block_above_the_share_target_is_a_block_nevertheless(pool):
    """The network's target comes first: such a block pays, such a share does not."""
    session, channel = await mining(pool, "extended")
    target = work.nbits_target(REGTEST)
    pool.new_tip(nbits=REGTEST, target=target.to_bytes(32, "little"))
    await session.until("SetNewPrevHash")
    share = session.mine(channel, good=False, block_target=target)
    assert await session.refused(share) == "difficulty-too-low"
    assert (await pool.event(native.BlockFound)).hash == share.hash

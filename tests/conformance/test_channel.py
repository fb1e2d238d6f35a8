"""Opening, updating and closing channels; groups. Rows: `rows.py`."""

import pytest
from peer import work
from peer.message import Message
from peer.session import MAX_TARGET

from radpool_sv2._native import engine as native

KINDS = ("standard", "extended")
STANDARD_JOBS = 1


async def grouped(start_pool, **settings):
    return await start_pool(group_jobs=True, **settings)


@pytest.mark.parametrize("kind", KINDS)
async def test_open_channel_gives_first_a_future_job_then_the_tip(pool, kind):
    session = await pool.session()
    request = await session.request(kind)
    names = [(await session.receive()) for _ in range(3)]
    job_name = "NewMiningJob" if kind == "standard" else "NewExtendedMiningJob"
    assert [message.name for message in names] == [
        f"Open{kind.title()}MiningChannelSuccess",
        job_name,
        "SetNewPrevHash",
    ]
    opened, job, tip = names
    assert opened.request_id == request
    assert job.min_ntime is None
    assert tip.job_id == job.job_id
    assert (tip.prev_hash, tip.nbits) == (b"\1\0\0\0" * 8, 0x1D00FFFF)
    channel = session.channels[opened.channel_id]
    success = await session.accepted(session.mine(channel))
    assert success.new_submits_accepted_count == 1


async def test_servers_support_both_kinds_on_one_connection(pool):
    session = await pool.session()
    for kind in ("standard", "extended", "standard", "extended"):
        channel = await session.open(kind)
        await session.accepted(session.mine(channel))
    assert len(session.channels) == 4


async def test_request_ids_are_echoed_in_any_order(pool):
    session = await pool.session()
    pool.hold_decisions = True
    first, second = await session.request(), await session.request("standard")
    waiting = [await pool.event(native.ChannelRequested) for _ in range(2)]
    pool.decide(waiting[1])
    assert (await session.until("OpenStandardMiningChannelSuccess")).request_id == second
    pool.decide(waiting[0])
    assert (await session.until("OpenExtendedMiningChannelSuccess")).request_id == first


async def test_standard_channel_gets_its_whole_extranonce(pool):
    session = await pool.session()
    channel = await session.open("standard")
    assert (len(channel.prefix), channel.rollable) == (12, 0)
    assert channel.prefix[4:] == bytes(8)


@pytest.mark.parametrize(("asked", "given"), [(0, 8), (1, 8), (8, 8), (9, 9), (16, 16)])
async def test_extended_channel_gets_the_extranonce_it_needs(pool, asked, given):
    session = await pool.session()
    channel = await session.open(min_extranonce_size=asked)
    assert (len(channel.prefix), channel.rollable) == (4, given)
    await session.accepted(session.mine(channel))


@pytest.mark.parametrize("asked", [17, 65535])
async def test_extranonce_beyond_16_is_refused(pool, asked):
    session = await pool.session()
    await session.request(min_extranonce_size=asked)
    error = await session.expect("OpenMiningChannelError")
    assert error.error_code == "min-extranonce-size-too-large"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -1.0])
async def test_hash_rate_that_is_none_is_refused(pool, kind, rate):
    session = await pool.session()
    await session.request(kind, hash_rate=rate)
    error = await session.expect("OpenMiningChannelError")
    assert error.error_code == "invalid-nominal-hashrate"


async def test_hash_rate_0_is_allowed(pool):
    """A proxy may declare nothing yet: it gets the easiest target of the pool."""
    session = await pool.session()
    assert (await session.open(hash_rate=0.0)).z == 4


async def test_hash_rate_sets_the_first_target(pool):
    session = await pool.session()
    # 2^20 hashes take 10 s at 104857.6 H/s: six shares a minute are asked for.
    assert (await session.open(hash_rate=2**20 / 10)).z == 20


@pytest.mark.parametrize("z", [4, 5, 12, 40])
async def test_max_target_is_kept(pool, z):
    """The target on the ladder that is not above what the client accepts."""
    session = await pool.session()
    exact = await session.open(max_target=work.ladder_target(z))
    assert exact.z == z
    below = (2 ** (256 - z) - 2).to_bytes(32, "little")
    if z == 40:
        await session.request(max_target=below)
        error = await session.expect("OpenMiningChannelError")
        assert error.error_code == "max-target-out-of-range"
    else:
        assert (await session.open(max_target=below)).z == z + 1


async def test_max_target_0_is_refused(pool):
    session = await pool.session()
    await session.request(max_target=bytes(32))
    error = await session.expect("OpenMiningChannelError")
    assert error.error_code == "max-target-out-of-range"


async def test_pool_may_refuse_a_user(pool):
    pool.refuse_with = "unknown-user"
    session = await pool.session()
    request = await session.request("standard")
    error = await session.expect("OpenMiningChannelError")
    assert (error.request_id, error.error_code) == (request, "unknown-user")


async def test_header_only_devices_get_standard_channels_only(pool):
    session = await pool.session(STANDARD_JOBS)
    await session.request("extended")
    error = await session.expect("OpenMiningChannelError")
    assert error.error_code == "extended-channels-not-supported-for-standard-jobs"
    channel = await session.open("standard")
    await session.accepted(session.mine(channel))


async def test_header_only_devices_get_jobs_per_channel(start_pool):
    pool = await grouped(start_pool)
    session = await pool.session(STANDARD_JOBS)
    first, second = await session.open("standard"), await session.open("standard")
    assert first.group != second.group
    pool.new_template()
    jobs = [await session.expect("NewMiningJob") for _ in range(2)]
    assert [job.channel_id for job in jobs] == [first.id, second.id]
    assert all(message.name != "SetGroupChannel" for message in session.log)


async def test_standard_channels_share_a_group_without_the_flag(start_pool):
    pool = await grouped(start_pool)
    session = await pool.session()
    first, second = await session.open("standard"), await session.open("standard")
    third = await session.open("extended")
    assert first.group == second.group == third.group
    pool.new_template()
    job = await session.expect("NewExtendedMiningJob")
    assert job.channel_id == first.group
    for channel in (first, second, third):
        await session.accepted(session.mine(channel))


async def test_group_ids_are_channel_ids_of_their_own(start_pool):
    """The session checks that no id is ever given twice, to a channel or a group."""
    pool = await grouped(start_pool)
    session = await pool.session()
    for user, size in (("alice", 8), ("bob", 8), ("alice", 16), ("alice", 8)):
        await session.open(user=user, min_extranonce_size=size)
    groups = {channel.group for channel in session.channels.values()}
    assert len(groups) == 3
    assert not groups & set(session.channels)


async def test_group_members_have_one_extranonce_size(start_pool):
    pool = await grouped(start_pool)
    session = await pool.session()
    small, large = await session.open(), await session.open(min_extranonce_size=16)
    assert small.group != large.group
    standard = await session.open("standard")
    assert standard.group == small.group


@pytest.mark.parametrize("kind", KINDS)
async def test_update_channel_has_no_answer(pool, kind):
    session = await pool.session()
    channel = await session.open(kind)
    await session.client.send(
        Message(
            "UpdateChannel", channel_id=channel.id, nominal_hash_rate=0.0, maximum_target=MAX_TARGET
        )
    )
    assert await session.settle() == []


async def test_update_channel_with_a_smaller_target_brings_set_target_and_a_job(pool):
    session = await pool.session()
    channel = await session.open()
    await session.client.send(
        Message(
            "UpdateChannel",
            channel_id=channel.id,
            nominal_hash_rate=0.0,
            maximum_target=work.ladder_target(9),
        )
    )
    target, job = await session.settle()
    assert (target.name, target.maximum_target) == ("SetTarget", work.ladder_target(9))
    assert job.name == "NewExtendedMiningJob"
    assert (await session.accepted(session.mine(channel))).new_shares_sum == 2**9


async def test_update_channel_with_another_hash_rate_moves_the_target(pool):
    session = await pool.session()
    channel = await session.open()
    for rate, z in ((2**12 / 10, 12), (2**6 / 10, 6)):
        await session.client.send(
            Message(
                "UpdateChannel",
                channel_id=channel.id,
                nominal_hash_rate=rate,
                maximum_target=MAX_TARGET,
            )
        )
        await session.settle()
        assert channel.z == z
        await session.accepted(session.mine(channel))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"channel_id": 77}, "invalid-channel-id"),
        ({"nominal_hash_rate": float("nan")}, "invalid-nominal-hashrate"),
        ({"nominal_hash_rate": -0.5}, "invalid-nominal-hashrate"),
        ({"maximum_target": bytes(32)}, "max-target-out-of-range"),
    ],
)
async def test_update_channel_error(pool, fields, code):
    session = await pool.session()
    channel = await session.open()
    message = Message(
        "UpdateChannel", channel_id=channel.id, nominal_hash_rate=0.0, maximum_target=MAX_TARGET
    ).replace(**fields)
    await session.client.send(message)
    error = await session.expect("UpdateChannelError")
    assert (error.channel_id, error.error_code) == (message.channel_id, code)
    # Nothing has changed, and no SetTarget follows.
    assert await session.settle() == []


@pytest.mark.parametrize("kind", KINDS)
async def test_close_channel_by_the_client(pool, kind):
    session = await pool.session()
    channel, other = await session.open(kind), await session.open(kind)
    share = session.mine(channel)
    await session.client.send(Message("CloseChannel", channel_id=channel.id, reason_code="bye"))
    assert await session.settle() == []
    event = await pool.event(native.ChannelClosed)
    assert (event.channel, event.by_client, event.reason) == (channel.id, True, b"bye")
    del session.channels[channel.id]
    assert await session.refused(share) == "invalid-channel-id"
    pool.new_tip()
    await session.until("SetNewPrevHash")
    assert await session.settle() == []
    await session.accepted(session.mine(other))


async def test_close_channel_of_nobody_is_silent(pool):
    session = await pool.session()
    await session.client.send(Message("CloseChannel", channel_id=99, reason_code=""))
    assert await session.settle() == []


async def test_close_channel_by_the_pool(pool):
    session = await pool.session()
    channel = await session.open()
    connection = (await pool.event(native.SetUp)).connection
    share = session.mine(channel)
    pool.engine.close_channel(connection, channel.id, "account-suspended")
    message = await session.expect("CloseChannel")
    assert (message.channel_id, message.reason_code) == (channel.id, "account-suspended")
    assert await session.refused(share) == "invalid-channel-id"
    # The connection is still good for another channel.
    await session.accepted(session.mine(await session.open()))


async def test_close_channel_with_a_group_id_closes_all_members(start_pool):
    pool = await grouped(start_pool)
    session = await pool.session()
    members = [await session.open("standard"), await session.open(), await session.open()]
    alone = await session.open(user="bob")
    assert len({channel.group for channel in members}) == 1
    shares = [session.mine(channel) for channel in members]
    await session.client.send(Message("CloseChannel", channel_id=members[0].group, reason_code=""))
    for channel, share in zip(members, shares, strict=True):
        del session.channels[channel.id]
        assert await session.refused(share) == "invalid-channel-id"
    await session.accepted(session.mine(alone))
    assert pool.gauge("channels") == 1


async def test_close_channel_of_a_group_by_the_pool(start_pool):
    pool = await grouped(start_pool)
    session = await pool.session()
    members = [await session.open(), await session.open()]
    connection = (await pool.event(native.SetUp)).connection
    pool.engine.close_channel(connection, members[0].group, "moved")
    assert (await session.expect("CloseChannel")).channel_id == members[0].group
    assert session.channels == {}
    assert await session.settle() == []


@pytest.mark.parametrize("kind", KINDS)
async def test_set_extranonce_prefix_holds_for_later_jobs(pool, kind):
    session = await pool.session()
    channel = await session.open(kind)
    connection = (await pool.event(native.SetUp)).connection
    old_share = session.mine(channel)
    pool.engine.set_extranonce_prefix(connection, channel.id)
    await session.expect("SetExtranoncePrefix")
    await session.receive()
    assert channel.job.prefix != old_share.job.prefix
    # A share of the job before still counts with the prefix before.
    await session.accepted(old_share)
    await session.accepted(session.mine(channel))


async def test_set_extranonce_prefix_is_never_sent_to_groups(start_pool):
    pool = await grouped(start_pool)
    session = await pool.session()
    first, _second = await session.open(), await session.open()
    connection = (await pool.event(native.SetUp)).connection
    token = pool.engine.set_extranonce_prefix(connection, first.group)
    await pool.done(token)
    assert await session.settle() == []


async def test_prefixes_are_never_given_twice(pool):
    """Also not after the channel that had one is gone: its jobs may still earn."""
    seen = set()
    for _ in range(3):
        session = await pool.session()
        for kind in ("standard", "extended") * 4:
            channel = await session.open(kind)
            assert channel.prefix[:4] not in seen
            seen.add(channel.prefix[:4])
        await session.client.aclose()


async def test_set_group_channel_moves_a_channel(start_pool):
    pool = await grouped(start_pool)
    session = await pool.session()
    first, second = await session.open(), await session.open()
    before = first.group
    connection = (await pool.event(native.SetUp)).connection
    pool.engine.set_exponent(connection, second.id, 8)
    group = await session.expect("SetGroupChannel")
    assert group.channel_ids == [second.id]
    assert group.group_channel_id not in (first.id, second.id, before)
    assert (await session.expect("SetTarget")).channel_id == second.id
    job = await session.expect("NewExtendedMiningJob")
    assert job.channel_id in (second.id, second.group)
    assert (first.group, first.z, second.z) == (before, 4, 8)
    for channel in (first, second):
        await session.accepted(session.mine(channel))
    # Back again: it joins the group that fits it.
    pool.engine.set_exponent(connection, second.id, 4)
    await session.until("NewExtendedMiningJob")
    assert second.group == before


async def test_set_group_channel_is_not_sent_unless_groups_are_wanted(pool):
    session = await pool.session()
    channel = await session.open()
    await session.open()
    connection = (await pool.event(native.SetUp)).connection
    pool.engine.set_exponent(connection, channel.id, 8)
    await session.expect("SetTarget")
    await session.settle()
    assert all(message.name != "SetGroupChannel" for message in session.log)


async def test_custom_jobs_are_refused(pool):
    """Without job declaration; the answer names channel and request."""
    session = await pool.session()
    channel = await session.open()
    await session.client.send(
        Message(
            "SetCustomMiningJob",
            channel_id=channel.id,
            request_id=5,
            mining_job_token=b"token",
            version=2,
            prev_hash=bytes(32),
            min_ntime=0,
            nbits=0,
            coinbase_tx_version=2,
            coinbase_prefix=b"\x03\x01\x02\x03",
            coinbase_tx_input_n_sequence=0,
            coinbase_tx_outputs=b"\0",
            coinbase_tx_locktime=0,
            merkle_path=[bytes(32)],
        )
    )
    error = await session.expect("SetCustomMiningJobError")
    assert (error.channel_id, error.request_id) == (channel.id, 5)
    assert error.error_code == "jd-not-supported"

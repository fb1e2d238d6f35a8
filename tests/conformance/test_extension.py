"""Extensions at work: attachments, frames of their own, worker names. Rows: `rows.py`."""

import pytest
from engine_pool import (
    OPEN_ERROR,
    OPEN_MESSAGE,
    OPEN_SUCCESS,
    SHARE_ERROR,
    SHARE_MESSAGE,
    TEST_EXTENSION,
    records,
)
from peer.message import Message, RawFrame, decode, frame, tlv

from radpool_sv2._native import engine as native
from radpool_sv2.config.limit import Limits
from radpool_sv2.errors import LocalProtocolError

POINT = b"\x02" + b"\x55" * 32

# The core messages whose fields the extension's answers begin with.
OPEN_SUCCESS_CORE, OPEN_ERROR_CORE = 0x14, 0x12


async def extended(pool, *extensions):
    session = await pool.session(extensions=extensions or (2, TEST_EXTENSION))
    return session, await session.open()


@pytest.mark.parametrize("length", [0, 1, 32])
async def test_worker_identity_names_a_worker(pool, length):
    session, channel = await extended(pool)
    name = b"w" * length
    await session.accepted(session.mine(channel), tail=tlv(2, 1, name))
    event = await pool.event(native.WorkerNamed)
    assert event.name == name
    assert records(pool.batches[-1])[-1]["worker"] == event.worker
    await session.accepted(session.mine(channel), tail=tlv(2, 1, name))
    assert records(pool.batches[-1])[-1]["worker"] == event.worker


async def test_worker_identity_too_long_is_refused(pool):
    """Extension 0x0002 allows 32 bytes; the message is rejected, not cut."""
    session, channel = await extended(pool)
    share = session.mine(channel)
    assert await session.refused(share, tail=tlv(2, 1, b"w" * 33)) == "invalid-share"
    # The proof was not spent by that.
    await session.accepted(share, tail=tlv(2, 1, b"w" * 32))


@pytest.mark.parametrize("cut", [1, 4, 5, 10])
async def test_tlv_that_is_cut_off_is_refused(pool, cut):
    session, channel = await extended(pool)
    tail = tlv(2, 1, b"worker")
    assert await session.refused(session.mine(channel), tail=tail[:cut]) == "invalid-share"


async def test_tail_without_negotiation_means_nothing(pool):
    session = await pool.session()
    channel = await session.open()
    await session.accepted(session.mine(channel), tail=b"\x02\x00\x01\xff\xff")
    await session.accepted(session.mine(channel), tail=tlv(TEST_EXTENSION, 0, POINT))
    assert pool.batches[-1].attachments() == []


async def test_attachment_by_tlv_is_handed_up(pool):
    session, channel = await extended(pool)
    tail = tlv(TEST_EXTENSION, 0, POINT)
    await session.accepted(session.mine(channel), tail=tail)
    assert pool.batches[-1].attachments() == [(0, TEST_EXTENSION, 0x1B, tail)]
    assert records(pool.batches[-1])[0]["flags"] & 1


async def test_attachment_leaves_out_what_is_not_negotiated(pool):
    session, channel = await extended(pool)
    mine = tlv(TEST_EXTENSION, 3, b"mine")
    tail = tlv(0x4123, 0, b"other") + tlv(2, 1, b"name") + mine
    await session.accepted(session.mine(channel), tail=tail)
    assert pool.batches[-1].attachments() == [(0, TEST_EXTENSION, 0x1B, mine)]
    assert (await pool.event(native.WorkerNamed)).name == b"name"


def as_extension_share(share, rest):
    payload = share.message.payload() + rest
    return frame(TEST_EXTENSION, SHARE_MESSAGE, payload, channel=True)


async def answer(session, number, *, channel=True):
    """Returns the payload of the extension's answer, which is the next thing to come."""
    message = await session.receive()
    assert isinstance(message, RawFrame), message
    assert (message.extension, message.number) == (TEST_EXTENSION, number)
    assert message.channel == channel
    return message.payload_bytes


def share_error(share, code):
    """Writes the fields of SubmitShares.Error."""
    message = share.message
    return Message(
        "SubmitSharesError",
        channel_id=message.channel_id,
        sequence_number=message.sequence_number,
        error_code=code,
    ).payload()


async def test_share_in_a_message_of_the_extension(pool):
    session, channel = await extended(pool)
    share = session.mine(channel)
    await session.client.send_frames(as_extension_share(share, POINT))
    await pool.until(lambda: pool.batches)
    assert pool.batches[-1].attachments() == [(0, TEST_EXTENSION, SHARE_MESSAGE, POINT)]
    assert pool.batches[-1].attachment_types() == [TEST_EXTENSION]
    assert records(pool.batches[-1])[0]["hash"] == share.hash
    assert records(pool.batches[-1])[0]["height"] == pool.height
    # The extension tells the client what is durable, not the pool.
    assert await session.settle() == []
    # The same proof by either way is the same proof.
    assert await session.refused(share) == "duplicate-share"


async def test_what_is_refused_of_a_share_message_is_told_by_the_extension(pool):
    session, channel = await extended(pool)
    bad = session.mine(channel, good=False)
    await session.client.send_frames(as_extension_share(bad, POINT))
    assert await answer(session, SHARE_ERROR) == share_error(bad, "difficulty-too-low")
    pool.hold_acknowledgements = True
    good, core = session.mine(channel), session.mine(channel)
    await session.client.send_frames(as_extension_share(good, POINT))
    await session.submit(core, tail=tlv(TEST_EXTENSION, 0, POINT))
    await pool.until(lambda: sum(map(len, pool.batches)) == 2)
    for batch in pool.batches:
        everything = [(index, "not-this-one") for index in range(len(batch))]
        pool.engine.acknowledge(batch, everything)
    assert await answer(session, SHARE_ERROR) == share_error(good, "not-this-one")
    assert (await session.expect("SubmitSharesError")).error_code == "not-this-one"


async def test_shares_of_both_kinds_are_acknowledged_apart(pool):
    """The pool counts the core's shares, and leaves the extension's to the extension."""
    session, channel = await extended(pool)
    pool.hold_acknowledgements = True
    shares = [session.mine(channel) for _ in range(5)]
    for index, share in enumerate(shares):
        if index % 2:
            await session.client.send_frames(as_extension_share(share, POINT))
        else:
            await session.submit(share, tail=tlv(TEST_EXTENSION, 0, POINT))
    await pool.until(lambda: sum(map(len, pool.batches)) == 5)
    for batch in pool.batches:
        pool.engine.acknowledge(batch)
    while channel.outstanding:
        await session.expect("SubmitSharesSuccess")
    assert channel.accepted == 3
    assert await session.settle() == []


async def test_a_repeated_share_is_handed_up_and_answered_by_its_own_way(pool):
    session, channel = await extended(pool)
    share = session.mine(channel)
    await session.accepted(share)
    for by_message in (True, False):
        again = session.mine(channel)
        again.message = share.message.replace(sequence_number=again.message.sequence_number)
        if by_message:
            await session.client.send_frames(as_extension_share(again, POINT))
            data = POINT
        else:
            data = tlv(TEST_EXTENSION, 0, POINT)
            await session.submit(again, tail=tlv(2, 1, b"rig") + data)
        event = await pool.event(native.RepeatedShare)
        assert (event.channel, event.sequence) == (channel.id, again.message.sequence_number)
        assert (event.extension_type, event.tlvs) == (TEST_EXTENSION, not by_message)
        assert event.msg_type == (SHARE_MESSAGE if by_message else 0x1B)
        assert (event.hash, event.exponent, event.data) == (share.hash, channel.z, data)
        assert (event.account, event.epoch, event.height) == (1, pool.epoch, pool.height)
        assert "RepeatedShare" in repr(event)
        pool.engine.reject_repeated(event, "stale-keyset")
        if by_message:
            assert await answer(session, SHARE_ERROR) == share_error(again, "stale-keyset")
        else:
            assert (await session.expect("SubmitSharesError")).error_code == "stale-keyset"
    with pytest.raises(LocalProtocolError):
        pool.engine.reject_repeated(event, "")
    # It was counted when it came first, and never again.
    assert sum(map(len, pool.batches)) == 1
    metrics = pool.engine.metrics()
    assert (metrics["shares_accepted_total"], metrics["shares_repeated_total"]) == (1, 2)


TIPS_IN_A_HURRY = 10
"""Blocks that come while a job is remembered once in millions of years, ten minutes apart."""


async def test_a_share_is_known_by_default_through_blocks_in_a_hurry(start_pool):
    """A client whose claim was refused may need some blocks' time to bring another one."""
    pool = await start_pool(seen_tips=Limits().seen_tips)
    session, channel = await extended(pool)
    share = session.mine(channel)
    await session.accepted(share)
    for _ in range(TIPS_IN_A_HURRY):
        pool.new_tip()
        await session.until("SetNewPrevHash")
    again = session.mine(channel)
    again.message = share.message.replace(sequence_number=again.message.sequence_number)
    await session.client.send_frames(as_extension_share(again, POINT))
    stale, known = "shares_rejected_stale_share_total", "shares_repeated_total"
    await pool.until(lambda: pool.gauge(stale) or pool.gauge(known))
    assert (pool.gauge(stale), pool.gauge(known)) == (0, 1)
    event = await pool.event(native.RepeatedShare)
    assert (event.hash, event.data) == (share.hash, POINT)


def open_payload(request_id=7, **changes):
    fields = {
        "request_id": request_id,
        "user_identity": "alice",
        "nominal_hash_rate": 0.0,
        "max_target": b"\xff" * 32,
        "min_extranonce_size": 0,
    }
    return Message("OpenExtendedMiningChannel", **{**fields, **changes}).payload()


async def ask(session, tail, **changes):
    payload = open_payload(**changes) + tail
    await session.client.send_frames(frame(TEST_EXTENSION, OPEN_MESSAGE, payload, channel=False))


async def test_the_extension_opens_a_channel(pool):
    session = await pool.session(extensions=(TEST_EXTENSION,))
    pool.hold_decisions = True
    await ask(session, b"terms")
    event = await pool.event(native.ChannelRequested)
    assert (event.extension_type, event.msg_type) == (TEST_EXTENSION, OPEN_MESSAGE)
    assert (event.tail, event.kind, event.user_identity) == (b"terms", "extended", b"alice")
    grant = {"account": 9, "commitment": pool.commitment(b"alice"), "rail": 1, "exponent": 6}
    for wrong in ({"tail": bytes(65_536)}, {"before": [(256, b"")]}):
        with pytest.raises(LocalProtocolError):
            pool.engine.open_channel(event.connection, event.request, **grant, **wrong)
    pool.engine.open_channel(
        event.connection, event.request, **grant, tail=b"more", before=[(9, b"keys")]
    )
    assert await answer(session, 9, channel=False) == b"keys"
    payload = await answer(session, OPEN_SUCCESS, channel=False)
    opened = decode(0, False, OPEN_SUCCESS_CORE, payload[:-4])
    assert (payload[-4:], opened.request_id) == (b"more", 7)
    session.requests[7] = "extended"
    session.take(opened)
    event = await pool.event(native.ChannelOpened)
    assert (event.channel, event.extension_type) == (opened.channel_id, TEST_EXTENSION)
    channel = session.channels[opened.channel_id]
    # The first job comes behind the Success, with the owner and the exponent of the grant.
    while channel.active is None:
        await session.receive()
    assert channel.z == 6
    await session.accepted(session.mine(channel))
    [record] = records(pool.batches[-1])
    assert (record["account"], record["rail"], record["exponent"]) == (9, 1, 6)


async def test_the_extension_refuses_a_channel(pool):
    session = await pool.session(extensions=(TEST_EXTENSION,))
    pool.refuse_with = "unsupported-policy"
    cases = {
        "unsupported-policy": {},
        "invalid-nominal-hashrate": {"nominal_hash_rate": -1.0},
        "min-extranonce-size-too-large": {"min_extranonce_size": 17},
    }
    for code, changes in cases.items():
        await ask(session, b"terms", **changes)
        payload = await answer(session, OPEN_ERROR, channel=False)
        error = decode(0, False, OPEN_ERROR_CORE, payload)
        assert (error.request_id, error.error_code) == (7, code)


@pytest.mark.parametrize("cut", [0, 4, 5, 10, 46, 47])
async def test_an_open_message_that_is_cut_off_ends_the_connection(pool, cut):
    session = await pool.session(extensions=(TEST_EXTENSION,))
    payload = open_payload()[:cut]
    assert len(open_payload()) == 48
    await session.client.send_frames(frame(TEST_EXTENSION, OPEN_MESSAGE, payload, channel=False))
    assert (await pool.event(native.Disconnected)).reason == "malformed-message"


async def test_frames_of_the_extension_go_up_and_down(pool):
    session, channel = await extended(pool)
    for channel_msg, payload in ((False, b"question"), (True, channel.id.to_bytes(4, "little"))):
        await session.client.send_frames(frame(TEST_EXTENSION, 0x07, payload, channel=channel_msg))
        event = await pool.event(native.ExtensionFrame)
        assert (event.extension_type, event.msg_type) == (TEST_EXTENSION, 0x07)
        assert (event.channel_msg, event.payload) == (channel_msg, payload)
        pool.engine.send_extension(
            event.connection, TEST_EXTENSION, 0x08, channel_msg=channel_msg, payload=payload + b"!"
        )
        answer = await session.receive()
        assert isinstance(answer, RawFrame)
        assert (answer.extension, answer.number, answer.channel) == (
            TEST_EXTENSION,
            0x08,
            channel_msg,
        )
        assert answer.payload_bytes == payload + b"!"


async def test_large_frames_are_chunked(pool):
    """More than 65519 bytes take several seals, in both directions of the codec."""
    session, _ = await extended(pool)
    connection = (await pool.event(native.SetUp)).connection
    for length in (65519, 65520, 65535, 65536, 131038, 131039, 300_000):
        payload = bytes(length - 1) + b"\1"
        pool.engine.send_extension(
            connection, TEST_EXTENSION, 1, channel_msg=False, payload=payload
        )
        assert (await session.receive()).payload_bytes == payload


async def test_attachments_are_refused_by_share(pool):
    """An extension that does not like its bytes costs that share alone."""
    session, channel = await extended(pool)
    pool.hold_acknowledgements = True
    first, second = session.mine(channel), session.mine(channel)
    await session.submit(first, tail=tlv(TEST_EXTENSION, 0, b"bad"))
    await session.submit(second, tail=tlv(TEST_EXTENSION, 0, POINT))
    await pool.until(lambda: sum(map(len, pool.batches)) == 2)
    for batch in pool.batches:
        bad = [(at, "invalid-point") for at, _, _, data in batch.attachments() if b"bad" in data]
        pool.engine.acknowledge(batch, bad)
    assert (await session.until("SubmitSharesError")).error_code == "invalid-point"
    while channel.outstanding:
        await session.until("SubmitSharesSuccess")
    assert channel.accepted == 1


async def test_core_messages_do_not_change_with_extensions(pool):
    session, channel = await extended(pool)
    await session.client.send(
        Message(
            "UpdateChannel",
            channel_id=channel.id,
            nominal_hash_rate=0.0,
            maximum_target=b"\xff" * 32,
        )
    )
    assert await session.settle() == []
    await session.accepted(session.mine(channel))

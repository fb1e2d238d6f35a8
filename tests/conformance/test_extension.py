"""Extensions at work: attachments, frames of their own, worker names. Rows: `rows.py`."""

import pytest
from engine_pool import SHARE_MESSAGE, TEST_EXTENSION, records
from peer.message import Message, RawFrame, frame, tlv

from radpool_sv2._native import engine as native

POINT = b"\x02" + b"\x55" * 32


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


async def test_share_in_a_message_of_the_extension(pool):
    session, channel = await extended(pool)
    share = session.mine(channel)
    channel.outstanding.append((share.message.sequence_number, share.work))
    await session.client.send_frames(as_extension_share(share, POINT))
    await session.expect("SubmitSharesSuccess")
    assert pool.batches[-1].attachments() == [(0, TEST_EXTENSION, SHARE_MESSAGE, POINT)]
    assert records(pool.batches[-1])[0]["hash"] == share.hash
    # The same proof by either way is the same proof.
    assert await session.refused(share) == "duplicate-share"


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

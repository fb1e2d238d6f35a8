"""Set-up, errors and what is common to all protocols. Rows: `rows.py`."""

import pytest
import trio
from engine_pool import TEST_EXTENSION, request_extensions
from peer.client import ConnectionClosed, setup_message
from peer.message import Message, frame

from radpool_sv2._native import engine as native
from radpool_sv2.errors import LocalProtocolError

STANDARD_JOBS, WORK_SELECTION, VERSION_ROLLING = 1, 2, 4


async def test_setup_connection_is_answered(pool):
    client = await pool.connect()
    answer = await client.set_up()
    assert answer.name == "SetupConnectionSuccess"
    assert (answer.used_version, answer.flags) == (2, 0)
    event = await pool.event(native.SetUp)
    assert (event.vendor, event.firmware, event.device_id) == (b"peer", b"1", b"")


@pytest.mark.parametrize(
    "first",
    [
        Message("UpdateChannel", channel_id=1, nominal_hash_rate=0.0, maximum_target=bytes(32)),
        Message("RequestExtensions", request_id=1, requested_extensions=[2]),
    ],
    ids=lambda message: message.name,
)
async def test_setup_connection_must_be_first(pool, first):
    client = await pool.connect()
    await client.send(first)
    assert await client.closed() == []


async def test_setup_connection_again_is_ignored(pool):
    session = await pool.session()
    await session.client.send(setup_message())
    assert await session.settle() == []


@pytest.mark.parametrize("protocol", [1, 2, 3, 255])
async def test_setup_connection_error_for_other_protocols(pool, protocol):
    client = await pool.connect()
    answer = await client.set_up(0xFFFFFFFF, protocol=protocol)
    assert answer.name == "SetupConnectionError"
    assert (answer.flags, answer.error_code) == (0, "unsupported-protocol")
    assert await client.closed() == []


@pytest.mark.parametrize(("low", "high"), [(0, 1), (3, 3), (3, 2)])
async def test_setup_connection_error_for_other_versions(pool, low, high):
    client = await pool.connect()
    answer = await client.set_up(min_version=low, max_version=high)
    assert answer.name == "SetupConnectionError"
    assert (answer.flags, answer.error_code) == (0, "protocol-version-mismatch")
    assert await client.closed() == []


@pytest.mark.parametrize(("low", "high"), [(2, 2), (0, 2), (2, 9)])
async def test_setup_connection_takes_ranges_with_version_2(pool, low, high):
    client = await pool.connect()
    assert (await client.set_up(min_version=low, max_version=high)).used_version == 2


@pytest.mark.parametrize(
    ("flags", "unsupported"),
    [(0xFFFFFFFF, 0xFFFFFFFA), (WORK_SELECTION, WORK_SELECTION), (1 << 31, 1 << 31), (8 | 1, 8)],
)
async def test_setup_connection_error_names_all_unsupported_flags(pool, flags, unsupported):
    client = await pool.connect()
    answer = await client.set_up(flags)
    assert answer.name == "SetupConnectionError"
    assert (answer.flags, answer.error_code) == (unsupported, "unsupported-feature-flags")
    assert await client.closed() == []


async def test_setup_connection_error_is_the_same_each_time(pool):
    """All servers behind one address answer alike; so does one server, each time."""
    answers = []
    for _ in range(3):
        client = await pool.connect()
        answers.append((await client.set_up(0xF0)).fields)
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    "flags", [0, STANDARD_JOBS, VERSION_ROLLING, STANDARD_JOBS | VERSION_ROLLING]
)
async def test_setup_flags_of_the_client_are_taken(pool, flags):
    client = await pool.connect()
    answer = await client.set_up(flags)
    # REQUIRES_FIXED_VERSION (bit 0) must never be set against a client that must roll.
    assert (answer.name, answer.flags) == ("SetupConnectionSuccess", 0)


async def test_setup_flags_of_a_pool_without_version_rolling(start_pool):
    pool = await start_pool(version_rolling=False)
    client = await pool.connect()
    answer = await client.set_up()
    assert (answer.name, answer.flags) == ("SetupConnectionSuccess", 1)
    client = await pool.connect()
    answer = await client.set_up(VERSION_ROLLING)
    assert (answer.name, answer.flags) == ("SetupConnectionError", VERSION_ROLLING)


async def test_setup_texts_may_have_255_bytes_of_anything(pool):
    client = await pool.connect()
    text = bytes(range(1, 256))
    answer = await client.set_up(
        vendor=text, hardware_version=text, firmware=text, device_id=text, endpoint_host=text
    )
    assert answer.name == "SetupConnectionSuccess"
    assert (await pool.event(native.SetUp)).vendor == text


async def test_channel_endpoint_changed_is_never_sent_by_an_endpoint(pool):
    """Only proxies send it. The pool is an endpoint, and ignores it from clients."""
    session = await pool.session()
    channel = await session.open()
    await session.client.send(Message("ChannelEndpointChanged", channel_id=channel.id))
    assert await session.settle() == []
    await session.accepted(session.mine(channel))
    assert all(message.name != "ChannelEndpointChanged" for message in session.log)


@pytest.mark.parametrize(("host", "port"), [("", 0), ("pool.example", 3333), ("::1", 65535)])
async def test_reconnect_reaches_the_client(pool, host, port):
    session = await pool.session()
    await session.open()
    connection = (await pool.event(native.SetUp)).connection
    pool.engine.reconnect(connection, host, port)
    message = await session.expect("Reconnect")
    assert (message.new_host, message.new_port) == (host, port)
    if not host:
        # "Here again": the same address, which proves itself by the same authority.
        await session.client.aclose()
        assert await (await pool.session()).open()


async def test_error_codes_are_printable(pool):
    """Each code that a client can provoke; the session refuses any other character."""
    session = await pool.session()
    for user, rate, target in (("a", -1.0, b"\xff" * 32), ("a", 0.0, bytes(32))):
        await session.request(user=user, hash_rate=rate, max_target=target)
        await session.expect("OpenMiningChannelError")
    pool.refuse_with = "unknown-user"
    await session.request()
    assert (await session.expect("OpenMiningChannelError")).error_code == "unknown-user"
    with pytest.raises(LocalProtocolError):
        pool.engine.refuse_channel(1, 1, "new\nline")


@pytest.mark.parametrize("channel", [False, True])
@pytest.mark.parametrize("extension", [0x0002, 0x0003, 0x4123, 0x7FFF])
async def test_unknown_extension_is_ignored(start_pool, extension, channel):
    """An endpoint discards them whatever the channel bit, and never disconnects for it."""
    pool = await start_pool(supported_extensions=[], share_messages=[], open_messages=[])
    session = await pool.session()
    opened = await session.open()
    payload = opened.id.to_bytes(4, "little") + b"anything"
    for number in (0x00, 0x1B, 0xFF):
        await session.client.send_frames(frame(extension, number, payload, channel=channel))
        await session.client.send_frames(frame(extension, number, b"", channel=channel))
    assert await session.settle() == []
    await session.accepted(session.mine(opened))
    assert not [event for event in pool.events if isinstance(event, native.ExtensionFrame)]


async def test_unknown_core_messages_are_ignored(pool):
    session = await pool.session()
    opened = await session.open()
    for number in (0x01, 0x05, 0x11, 0x1C, 0x1E, 0x26, 0x50, 0x70, 0xFF):
        await session.client.send_frames(frame(0, number, b"x" * 40, channel=False))
        await session.client.send_frames(frame(0, number, b"x" * 40, channel=True))
    assert await session.settle() == []
    await session.accepted(session.mine(opened))


async def test_request_extensions_is_answered_before_everything_else(pool):
    client = await pool.connect()
    # Three messages in one write: the answers keep their order.
    await client.send(
        setup_message(),
        request_extensions(0x4123, TEST_EXTENSION, 2, request_id=9),
        Message(
            "OpenExtendedMiningChannel",
            request_id=4,
            user_identity="a",
            nominal_hash_rate=0.0,
            max_target=b"\xff" * 32,
            min_extranonce_size=0,
        ),
    )
    assert (await client.receive()).name == "SetupConnectionSuccess"
    success = await client.expect("RequestExtensionsSuccess")
    assert (success.request_id, success.supported_extensions) == (9, [2, TEST_EXTENSION])
    await client.expect("OpenExtendedMiningChannelSuccess")
    event = await pool.event(native.ExtensionsNegotiated)
    assert event.extensions == [2, TEST_EXTENSION]


async def test_request_extensions_error_when_none_is_supported(pool):
    client = await pool.connect()
    await client.set_up()
    await client.send(request_extensions(0x4123, 0x0005, request_id=3))
    error = await client.expect("RequestExtensionsError")
    assert error.request_id == 3
    assert error.unsupported_extensions == [0x4123, 0x0005]
    assert error.required_extensions == []
    # Nothing was required, so the connection goes on.
    await client.send(request_extensions(2, request_id=4))
    assert (await client.expect("RequestExtensionsSuccess")).supported_extensions == [2]


async def test_request_extensions_too_late_is_ignored(pool):
    session = await pool.session()
    await session.open()
    await session.client.send(request_extensions(2))
    assert await session.settle() == []


async def required(start_pool, **settings):
    return await start_pool(required_extensions=[TEST_EXTENSION], **settings)


async def test_required_extension_is_listed_and_a_retry_helps(start_pool):
    pool = await required(start_pool)
    client = await pool.connect()
    await client.set_up()
    await client.send(request_extensions(2, request_id=5))
    error = await client.expect("RequestExtensionsError")
    assert (error.request_id, error.required_extensions) == (5, [TEST_EXTENSION])
    await client.send(request_extensions(2, TEST_EXTENSION, request_id=6))
    success = await client.expect("RequestExtensionsSuccess")
    assert success.supported_extensions == [2, TEST_EXTENSION]


async def test_required_extension_without_a_retry_closes(start_pool):
    pool = await required(start_pool, extension_retry_ms=150)
    client = await pool.connect()
    await client.set_up()
    await client.send(request_extensions(2))
    received = await client.closed()
    # The error arrives before the end: SRI's pool loses it half of the time.
    assert [message.name for message in received] == ["RequestExtensionsError"]


@pytest.mark.parametrize("asked_first", [False, True])
async def test_required_extension_is_needed_for_mining(start_pool, asked_first):
    pool = await required(start_pool)
    client = await pool.connect()
    await client.set_up()
    if asked_first:
        await client.send(request_extensions(2))
        await client.expect("RequestExtensionsError")
    await client.send(
        Message(
            "OpenStandardMiningChannel",
            request_id=1,
            user_identity="a",
            nominal_hash_rate=0.0,
            max_target=b"\xff" * 32,
        )
    )
    assert await client.closed() == []


async def test_features_need_negotiation(pool):
    """What is sent of an extension that was not negotiated is nobody's business."""
    session = await pool.session()
    await session.client.send_frames(frame(TEST_EXTENSION, 0x05, b"early", channel=False))
    assert await session.settle() == []
    assert not [event for event in pool.events if isinstance(event, native.ExtensionFrame)]


async def test_idle_connection_without_channel_is_closed(start_pool):
    pool = await start_pool(channel_deadline_ms=1_000)
    # The pool's second begins with the set-up, which may be long over when this side hears of it.
    began = trio.current_time()
    session = await pool.session()
    with pytest.raises(ConnectionClosed):
        await session.client.receive()
    assert trio.current_time() - began > 0.9
    await session.client.aclose()
    await pool.until(lambda: pool.gauge("closed_channel_timeout_total") == 1)

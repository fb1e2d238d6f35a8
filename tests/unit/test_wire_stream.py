"""Our streams and listeners against the independent peer, as client and as server."""

import contextlib
import random
import socket
import time
from contextlib import asynccontextmanager

import pytest
import trio
from peer import server as peer_server
from peer.client import Client, ConnectionClosed
from peer.message import Message, frame, header

from radpool_sv2._native.keys import (
    AuthorityPublicKey,
    AuthoritySecretKey,
    Certificate,
    ServerIdentity,
    StaticKey,
)
from radpool_sv2._native.wire import Initiator, Responder
from radpool_sv2.config import Endpoint
from radpool_sv2.errors import ConfigError, ConnectionEnded, LocalProtocolError, RemoteProtocolError
from radpool_sv2.wire.frame import Frame
from radpool_sv2.wire.listener import Listener, ListenerLimits
from radpool_sv2.wire.message.connection import Protocol, SetupConnectionSuccess
from radpool_sv2.wire.message.job_declaration import DECLARE_TX_DATA
from radpool_sv2.wire.message.mining import SetTarget
from radpool_sv2.wire.setup import answer_extensions, request_extensions, set_up, take_setup
from radpool_sv2.wire.stream import SERVER_FRAME_BYTES_MAX, Sv2Stream

AUTHORITY = AuthoritySecretKey.generate()
STATIC = StaticKey.generate()
PATIENCE_S = 60
TDP = Protocol.TEMPLATE_DISTRIBUTION


def identity(authority=AUTHORITY, begins=-60, ends=3600):
    now = int(time.time())
    certificate = Certificate.sign(
        authority, STATIC, valid_from=now + begins, not_valid_after=now + ends
    )
    return ServerIdentity(STATIC, certificate)


@asynccontextmanager
async def listening(handler, limits=None, who=None):
    listener = Listener(
        Endpoint("127.0.0.1", 0), who or identity(), limits or ListenerLimits(), handler
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: listener.run(task_status=task_status))
        yield listener
        nursery.cancel_scope.cancel()


async def echo(stream):
    stream.frame_bytes_max = 1 << 24
    while True:
        await stream.send(await stream.receive())


def connect(listener, **options):
    return Sv2Stream.connect(listener.address, AUTHORITY.public_key(), PATIENCE_S, **options)


@asynccontextmanager
async def peer_client(listener):
    address = (listener.address.host, listener.address.port)
    client = await Client.connect(address, AUTHORITY.public_key().to_bytes())
    try:
        yield client
    finally:
        await client.aclose()


def pair():
    """Returns both ends of a connection, without a network."""
    initiator = Initiator(AUTHORITY.public_key().to_bytes())
    act2, server = Responder(identity()).respond(initiator.act1())
    return initiator.finish(act2), server


async def test_frames_of_every_size_go_both_ways():
    async with listening(echo) as listener, await connect(listener) as stream:
        for size in (0, 1, 65_519, 65_520, 262_143, 4_000_000):
            sent = Frame(0x4E45, 3, True, bytes(size))
            for _ in range(2):
                await stream.send(sent)
                assert await stream.receive() == sent


async def test_the_independent_peer_is_served():
    async with listening(echo) as listener, peer_client(listener) as client:
        message = Message("SetTarget", channel_id=1, maximum_target=bytes(32))
        await client.send(message, message)
        for _ in range(2):
            assert (await client.receive()).fields == message.fields


async def test_an_independent_server_is_spoken_with():
    who = peer_server.Identity.generate(random.Random(3))
    async with trio.open_nursery() as nursery:
        (accepting,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        endpoint = Endpoint(*accepting.socket.getsockname()[:2])

        async def serve():
            channel = await peer_server.accept(await accepting.accept(), who, random.Random(4))
            await channel.send(await channel.receive())
            await channel.closed()
            await channel.aclose()
            await accepting.aclose()

        nursery.start_soon(serve)
        key = AuthorityPublicKey.from_text(who.authority_text())
        stream = await Sv2Stream.connect(endpoint, key, PATIENCE_S)
        async with stream:
            await stream.send(SetTarget(5, bytes(32)))
            assert SetTarget.decode((await stream.receive()).payload) == SetTarget(5, bytes(32))


def test_frames_are_found_however_the_bytes_are_cut():
    client, server = pair()
    frames = [(0, 0x1B, True, bytes(n)) for n in (0, 1, 40, 300)] + [(1, 0, False, b"x")]
    sealed = client.seal(b"".join(Frame(*each).to_bytes() for each in frames))
    found = [each for byte in sealed for each in server.feed(bytes([byte]))]
    assert found == frames
    assert not server.inside_frame
    assert server.feed(b"") == []


def test_a_frame_that_is_too_long_is_refused_by_its_header_after_those_before_it():
    client, server = pair()
    server.frame_bytes_max = 100
    good, bad = Frame(0, 1, False, bytes(94)), Frame(0, 2, False, bytes(95))
    sealed = client.seal(good.to_bytes() + bad.to_bytes())
    assert server.feed(sealed[: 22 + 94 + 16 + 22]) == [(0, 1, False, bytes(94))]
    for rest in (b"", sealed[22 + 94 + 16 + 22 :]):
        with pytest.raises(RemoteProtocolError, match=r"a frame of 101 bytes .* 100 are taken"):
            server.feed(rest)
    assert server.pending_bytes < 1_000


def test_an_announced_length_costs_no_memory():
    client, server = pair()
    server.frame_bytes_max = 1 << 24
    sealed = client.seal(Frame(0, 1, False, bytes(8_000_000)).to_bytes())
    server.feed(sealed[:1_000])
    assert server.inside_frame
    assert server.pending_bytes < 4_000


@pytest.mark.parametrize("position", [0, 5, 21, 22, 60])
def test_altered_bytes_end_the_connection(position):
    client, server = pair()
    sealed = bytearray(client.seal(Frame(0, 1, False, bytes(64)).to_bytes()))
    sealed[position] ^= 1
    with pytest.raises(RemoteProtocolError, match="does not open"):
        server.feed(bytes(sealed))
    with pytest.raises(RemoteProtocolError, match="does not open"):
        server.feed(b"")


def test_what_is_no_frame_is_not_sealed():
    client, _ = pair()
    for bad in (b"\0", Frame(0, 1, False, b"abc").to_bytes()[:-1]):
        with pytest.raises(LocalProtocolError, match="not whole frames"):
            client.seal(bad)


def test_a_handshake_is_finished_once_and_with_the_right_length():
    initiator = Initiator()
    act2, _ = Responder(identity()).respond(initiator.act1())
    with pytest.raises(LocalProtocolError, match="234 bytes, not 233"):
        initiator.finish(act2[:-1])
    initiator.finish(act2)
    with pytest.raises(LocalProtocolError, match="once only"):
        initiator.finish(act2)
    with pytest.raises(LocalProtocolError, match="64 bytes, not 63"):
        Responder(identity()).respond(bytes(63))
    with pytest.raises(LocalProtocolError):
        Initiator(bytes(31))


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ({"authority": AuthoritySecretKey.generate()}, "not signed by the authority"),
        ({"begins": -60, "ends": -30}, "expired"),
        ({"begins": 600, "ends": 1200}, "clock"),
    ],
)
async def test_a_server_that_is_not_certified_is_left(shown, words):
    # Signed now: between the reading of this file and the test much time may pass.
    async with listening(echo, who=identity(**shown)) as listener:
        with pytest.raises(RemoteProtocolError, match=words) as refused:
            await connect(listener)
        assert refused.value.peer == str(listener.address)
        # Whoever pins no key takes anybody.
        async with await Sv2Stream.connect(listener.address, None, PATIENCE_S) as stream:
            await stream.send(SetTarget(1, bytes(32)))
            await stream.receive()


async def test_nobody_there_and_nobody_answering_are_told_apart():
    (accepting,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    endpoint = Endpoint(*accepting.socket.getsockname()[:2])
    with pytest.raises(ConnectionEnded, match="is it a Stratum V2 port"):
        await Sv2Stream.connect(endpoint, None, 0.05)
    await accepting.aclose()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionEnded, match="cannot reach"):
            await Sv2Stream.connect(Endpoint(*taken.getsockname()), None, PATIENCE_S)


async def test_a_receive_that_is_cancelled_loses_nothing():
    async with listening(echo) as listener, await connect(listener) as stream:
        with trio.move_on_after(0.01):
            await stream.receive()
        sent = Frame(0, 7, False, bytes(600_000))
        await stream.send(sent)
        received = None
        while received is None:
            with trio.move_on_after(0.001):
                received = await stream.receive()
        assert received == sent


async def test_the_end_is_told_with_where_it_came():
    async def leave(stream):
        await stream.receive()

    async with listening(leave) as listener, await connect(listener) as stream:
        await stream.send(SetTarget(1, bytes(32)))
        with pytest.raises(ConnectionEnded, match="closed the connection"):
            await stream.receive()
        await stream.aclose()
        with pytest.raises(ConnectionEnded, match="is over"):
            await stream.send(SetTarget(1, bytes(32)))


async def test_a_send_that_is_cut_off_ends_the_connection():
    async def deaf(_stream):
        await trio.sleep_forever()

    async with listening(deaf) as listener, await connect(listener) as stream:
        with trio.move_on_after(0.2) as scope:
            await stream.send(Frame(0, 1, False, bytes(16_000_000)))
        assert scope.cancelled_caught
        with pytest.raises(ConnectionEnded, match="is over"):
            await stream.send(SetTarget(1, bytes(32)))


async def test_a_peer_that_takes_nothing_is_left(monkeypatch):
    monkeypatch.setattr("radpool_sv2.wire.stream.SEND_SECONDS_MAX", 0.2)

    async def deaf(_stream):
        await trio.sleep_forever()

    async with listening(deaf) as listener, await connect(listener) as stream:
        with pytest.raises(ConnectionEnded, match="took no message"):
            await stream.send(Frame(0, 1, False, bytes(16_000_000)))


async def test_messages_of_several_tasks_do_not_mix():
    async with listening(echo) as listener, await connect(listener) as stream:

        async def send(kind, size):
            for _ in range(10):
                await stream.send(Frame(0, kind, False, bytes([kind]) * size))

        async with trio.open_nursery() as nursery:
            for kind, size in ((1, 10), (2, 70_000), (3, 300_000)):
                nursery.start_soon(send, kind, size)
            for _ in range(30):
                frame_ = await stream.receive()
                assert set(frame_.payload) == {frame_.msg_type}


async def test_an_unknown_client_may_send_little():
    async def take(stream):
        with pytest.raises(RemoteProtocolError, match="at most 4096 are taken"):
            await stream.receive()
        done.set()

    done = trio.Event()
    async with listening(take) as listener, await connect(listener) as stream:
        await stream.send(Frame(0, 0, False, bytes(SERVER_FRAME_BYTES_MAX - 5)))
        with trio.fail_after(PATIENCE_S):
            await done.wait()


# Set-up.


def setup_message(**changes):
    fields = {
        "protocol": 2,
        "min_version": 2,
        "max_version": 2,
        "flags": 0,
        "endpoint_host": "h",
        "endpoint_port": 1,
        "vendor": "v",
        "hardware_version": "",
        "firmware": "",
        "device_id": "",
    }
    return Message("SetupConnection", **{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "code", "flags"),
    [
        ({"protocol": 0}, "unsupported-protocol", 0),
        ({"protocol": 255}, "unsupported-protocol", 0),
        ({"min_version": 3, "max_version": 3}, "protocol-version-mismatch", 0),
        ({"min_version": 0, "max_version": 1}, "protocol-version-mismatch", 0),
        ({"flags": 0xFFFF_FFFF}, "unsupported-feature-flags", 0xFFFF_FFFE),
        ({"flags": 0}, "missing-declare-tx-data-flag", 1),
    ],
)
async def test_a_setup_is_refused_in_words(changes, code, flags):
    refusals = []

    async def serve(stream):
        try:
            await take_setup(
                stream, TDP, allowed_flags=1, required={1: "missing-declare-tx-data-flag"}
            )
        except RemoteProtocolError as error:
            refusals.append(error.error_code)

    async with listening(serve) as listener, peer_client(listener) as client:
        await client.send(setup_message(**{"flags": 1, **changes}))
        answer = await client.expect("SetupConnectionError")
        assert (answer.error_code, answer.flags) == (code, flags)
        assert await client.closed() == []
        await client.aclose()
        with trio.fail_after(PATIENCE_S):
            while not refusals:
                await trio.sleep(0.001)
    assert refusals == [code]


@pytest.mark.parametrize(
    "first",
    [
        frame(0, 0x70, bytes(6), channel=False),
        frame(0, 0x00, bytes(6), channel=True),
        frame(1, 0x00, bytes(4), channel=False),
        frame(0, 0x00, b"\x02\x02", channel=False),
        frame(0, 0x00, b"", channel=False),
    ],
)
async def test_whoever_does_not_begin_with_a_setup_is_left(first):
    async def serve(stream):
        await take_setup(stream, TDP)

    async with listening(serve) as listener, peer_client(listener) as client:
        await client.send_frames(first)
        assert await client.closed() == []


async def test_a_silent_client_is_left():
    async def serve(stream):
        with pytest.raises(ConnectionEnded, match=r"sent nothing for 0\.05 s"):
            await take_setup(stream, TDP, deadline_s=0.05)

    async with listening(serve) as listener, peer_client(listener) as client:
        assert await client.closed() == []


async def test_both_sides_of_the_setup_agree():
    async def serve(stream):
        request = await take_setup(
            stream, Protocol.JOB_DECLARATION, allowed_flags=DECLARE_TX_DATA, server_flags=4
        )
        assert (request.vendor, request.flags) == ("radpool-sv2", DECLARE_TX_DATA)
        await stream.send(
            SetTarget(1, bytes(32)), answer_extensions(await stream.receive(), {7, 8})
        )
        await stream.send(
            answer_extensions(await stream.receive(), {7, 8}), SetTarget(2, bytes(32))
        )

    async with listening(serve) as listener, await connect(listener) as stream:
        success = await set_up(stream, Protocol.JOB_DECLARATION, flags=DECLARE_TX_DATA)
        assert success == SetupConnectionSuccess(2, 4)
        # What arrives before the answer is kept for whoever reads on.
        assert await request_extensions(stream, [8, 9]) == (8,)
        assert (await stream.receive()).payload[0] == 1
        assert await request_extensions(stream, [9]) == ()
        assert (await stream.receive()).payload[0] == 2


async def test_a_client_is_told_why_it_is_refused():
    async def serve(stream):
        await take_setup(stream, TDP)

    async with listening(serve) as listener, await connect(listener) as stream:
        with pytest.raises(RemoteProtocolError, match="flags 0x3") as refused:
            await set_up(stream, TDP, flags=3)
        assert refused.value.error_code == "unsupported-feature-flags"


async def test_a_server_that_answers_nonsense_is_left():
    async def serve(stream):
        await stream.receive()
        await stream.send(answers.pop())
        await trio.sleep_forever()

    answers = [SetTarget(1, bytes(32)), SetupConnectionSuccess(3, 0)]
    async with listening(serve) as listener:
        for words in ("version 3", "0x21 has no place"):
            async with await connect(listener) as stream:
                with pytest.raises(RemoteProtocolError, match=words):
                    await set_up(stream, TDP)


async def test_a_silent_server_grants_no_extension_and_an_insisting_one_is_left():
    async def serve(stream):
        await stream.receive()
        if insists:
            payload = bytes.fromhex("0000000001000700")
            await stream.send(Frame(1, 2, False, payload))
        await trio.sleep_forever()

    insists = []
    async with listening(serve) as listener:
        async with await connect(listener) as stream:
            assert await request_extensions(stream, [9], deadline_s=0.05) == ()
        insists.append(True)
        async with await connect(listener) as stream:
            with pytest.raises(RemoteProtocolError, match=r"insists on .* 0x0007"):
                await request_extensions(stream, [9])


# Listeners.


async def test_a_listener_has_bounds_and_tells_nobody_beyond_them():
    async def hold(_stream):
        await trio.sleep_forever()

    limits = ListenerLimits(connections_max=3, connections_per_address_max=2)
    async with listening(hold, limits) as listener:
        streams = [await connect(listener) for _ in range(2)]
        assert listener.connections == 2
        with pytest.raises(ConnectionEnded):
            await connect(listener)
        assert listener.refused == 1
        for stream in streams:
            await stream.aclose()
        # A handler that does not read does not learn of the end: the bound counts until it does.
        assert listener.connections == 2


async def test_a_connection_that_ends_makes_room():
    async def once(stream):
        await stream.receive()

    limits = ListenerLimits(connections_max=1, connections_per_address_max=1)
    async with listening(once, limits) as listener:
        for _ in range(5):
            async with await connect(listener) as stream:
                await stream.send(SetTarget(1, bytes(32)))
                with pytest.raises(ConnectionEnded):
                    await stream.receive()
            while listener.connections:
                await trio.sleep(0.001)
        assert listener.refused == 0


async def test_a_handler_that_fails_ends_its_connection_only():
    async def fail(stream):
        first = await stream.receive()
        if first.payload[:1] == b"\x01":
            raise ZeroDivisionError
        if first.payload[:1] == b"\x02":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.receive)
                raise RemoteProtocolError("it did wrong")
        await echo(stream)

    async with listening(fail) as listener, await connect(listener) as good:
        await good.send(SetTarget(0, bytes(32)))
        for channel in (1, 2):
            async with await connect(listener) as stream:
                await stream.send(SetTarget(channel, bytes(32)))
                with pytest.raises(ConnectionEnded):
                    await stream.receive()
        await good.send(SetTarget(9, bytes(32)))
        assert (await good.receive()).payload[:1] == b"\x09"


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n\r\n", bytes(63)])
async def test_a_handshake_that_is_not_ended_is_left(sent):
    limits = ListenerLimits(handshake_seconds_max=0.05)
    async with listening(echo, limits) as listener:
        stream = await trio.open_tcp_stream(listener.address.host, listener.address.port)
        async with stream:
            # Bytes that the server has not read before it leaves reset the connection.
            with trio.fail_after(PATIENCE_S), contextlib.suppress(trio.BrokenResourceError):
                if sent:
                    await stream.send_all(sent)
                assert await stream.receive_some() == b""


async def test_bytes_that_the_peer_did_not_seal_end_its_connection():
    async with listening(echo) as listener, peer_client(listener) as client:
        await client.send_bytes(random.Random(5).randbytes(200))
        with pytest.raises(ConnectionClosed):
            await client.receive_frame()


async def test_a_listener_shows_a_new_identity_and_keeps_its_port():
    other = AuthoritySecretKey.generate()
    async with listening(echo) as listener:
        listener.identity = identity(other)
        with pytest.raises(RemoteProtocolError, match="not signed"):
            await connect(listener)
        await (await Sv2Stream.connect(listener.address, other.public_key(), PATIENCE_S)).aclose()
        taken = Listener(listener.address, identity(), ListenerLimits(), echo)
        with pytest.raises(ConfigError, match="cannot listen on"):
            await taken.run()


def test_the_peer_reads_our_header():
    assert header(Frame(0x4E45, 9, True, bytes(70_000)).to_bytes()[:6]) == (0x4E45, True, 9, 70_000)

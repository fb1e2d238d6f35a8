"""Notices of blocks by ZeroMQ: one byte at a time, too long, from strangers."""

import socket

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from radpool_sv2.errors import NodeError, RemoteProtocolError
from radpool_sv2.node.zmq import GREETING, HELLO, ZmtpReader, follow_blocks

# What Knots 29.4.3's publisher (libzmq 4.3.5) sent for a block on regtest.
PUBLISHER = bytes.fromhex("ff00000000000000017f0301" + b"NULL".hex() + "00" * 16 + "00" * 32)
READY = bytes.fromhex("04190552454144590b536f636b65742d5479706500000003505542")
HASH = bytes.fromhex("20063caf99ce6af9b1ca2e98a036f49d83daabaa11f2df53c7253075c66d7bbe")
NOTICE = b"\x01\x09hashblock" + b"\x01\x20" + HASH + b"\x00\x04n\0\0\0"


def test_our_greeting_is_whole():
    assert len(GREETING) == 64
    assert HELLO.endswith(b"\x01hashblock")


def test_a_recorded_session_gives_its_block():
    reader = ZmtpReader()
    assert reader.feed(PUBLISHER) == []
    assert reader.has_greeted
    assert reader.feed(READY + NOTICE) == [[b"hashblock", HASH, b"n\0\0\0"]]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=200))
def test_how_the_bytes_come_does_not_matter(sizes):
    data = PUBLISHER + READY + NOTICE * 3
    reader, found = ZmtpReader(), []
    for size in sizes:
        found += reader.feed(data[:size])
        data = data[size:]
    found += reader.feed(data)
    assert found == [[b"hashblock", HASH, b"n\0\0\0"]] * 3


def test_one_byte_at_a_time():
    reader, found = ZmtpReader(), []
    for byte in PUBLISHER + READY + NOTICE:
        found += reader.feed(bytes([byte]))
    assert len(found) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\xff" + bytes(8) + b"\x00",
        PUBLISHER[:10] + b"\x02" + PUBLISHER[11:],
        PUBLISHER.replace(b"NULL", b"CURVE"[:4]),
        PUBLISHER + b"\x00" * 0 + b"\xf0\x01x",
        PUBLISHER + b"\x02" + (1 << 40).to_bytes(8, "big"),
        PUBLISHER + b"\x02" + (1_025).to_bytes(8, "big"),
        PUBLISHER + b"\x01\x01x" * 9,
    ],
)
def test_what_is_no_publisher_is_refused(data):
    with pytest.raises(RemoteProtocolError):
        ZmtpReader().feed(data)


async def test_blocks_are_passed_on_until_the_publisher_goes():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    heard = []

    async def publish(stream):
        assert await stream.receive_some(64) == GREETING
        await stream.send_all(PUBLISHER)
        assert await stream.receive_some(200) == HELLO
        await stream.send_all(READY + NOTICE)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, publish, listeners)
        with pytest.raises(NodeError, match="closed the connection"):
            await follow_blocks(f"tcp://127.0.0.1:{port}", heard.append)
        nursery.cancel_scope.cancel()
    assert heard == [HASH[::-1]]


async def test_nobody_publishes():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(NodeError, match="nobody tells"):
            await follow_blocks(f"tcp://127.0.0.1:{taken.getsockname()[1]}", lambda _: None)

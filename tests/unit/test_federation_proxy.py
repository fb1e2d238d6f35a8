"""Members that are dialled through a SOCKS5 proxy."""

import pytest
import trio

from radpool_sv2.config import Endpoint, loads, render
from radpool_sv2.config.federation import FederationConfig
from radpool_sv2.errors import ConfigError
from radpool_sv2.federation.transport.proxy import connector

GRANTED, UNREACHABLE = 0, 4


class Socks:
    """Is a proxy that says what it was asked for, and then is the member itself."""

    def __init__(self, answer=GRANTED, hangs_up=False):
        self.answer = answer
        self.hangs_up = hangs_up
        self.asked = []

    async def serve(self, stream):
        async with stream:
            if self.hangs_up:
                return
            version, count = await take(stream, 2)
            assert (version, await take(stream, count)) == (5, b"\x00\x02")
            await stream.send_all(b"\x05\x02")
            _, length = await take(stream, 2)
            user = await take(stream, length)
            [length] = await take(stream, 1)
            await take(stream, length)
            await stream.send_all(b"\x01\x00")
            assert await take(stream, 4) == b"\x05\x01\x00\x03"
            [length] = await take(stream, 1)
            host = await take(stream, length)
            port = int.from_bytes(await take(stream, 2), "big")
            self.asked.append((user.decode(), host.decode(), port))
            await stream.send_all(bytes([5, self.answer, 0, 1, 0, 0, 0, 0, 0, 0]))
            if self.answer == GRANTED:
                await stream.send_all(await take(stream, 5))


async def take(stream, count):
    data = b""
    while len(data) < count:
        more = await stream.receive_some(count - len(data))
        assert more
        data += more
    return data


async def served(nursery, socks):
    listeners = await nursery.start(trio.serve_tcp, socks.serve, 0)
    return Endpoint("127.0.0.1", listeners[0].socket.getsockname()[1])


async def test_the_proxy_is_given_the_name_and_a_user_of_its_own():
    socks = Socks()
    names = ["abcdefghijklmnop.onion:8444", "pool.example:9000"]
    async with trio.open_nursery() as nursery:
        connect = connector(await served(nursery, socks))
        for name in names:
            async with await connect(name) as stream:
                await stream.send_all(b"hello")
                assert await take(stream, 5) == b"hello"
        nursery.cancel_scope.cancel()
    assert [f"{host}:{port}" for _, host, port in socks.asked] == names
    assert [user for user, _, _ in socks.asked] == names


@pytest.mark.parametrize(
    ("socks", "words"),
    [(Socks(UNREACHABLE), "does not reach it"), (Socks(hangs_up=True), "does not reach|reset")],
)
async def test_a_proxy_that_does_not_reach_a_member_is_like_a_member_that_is_away(socks, words):
    async with trio.open_nursery() as nursery:
        connect = connector(await served(nursery, socks))
        with pytest.raises(OSError, match=words):
            await connect("abc.onion:1")
        nursery.cancel_scope.cancel()


async def test_a_proxy_that_is_away_is_told():
    with trio.socket.socket() as free:
        await free.bind(("127.0.0.1", 0))
        endpoint = Endpoint("127.0.0.1", free.getsockname()[1])
        with pytest.raises(OSError, match="proxy"):
            await connector(endpoint)("abc.onion:1")


async def test_addresses_that_cannot_be_dialled_are_told():
    with pytest.raises(ConfigError, match=r"set links\.socks5"):
        await connector(None)("abc.onion:1")
    for proxy in (None, Endpoint("127.0.0.1", 1)):
        with pytest.raises(ConfigError, match="no address of a member"):
            await connector(proxy)("nowhere")


def test_the_setting_is_an_address_or_nothing(tmp_path):
    file = tmp_path / "federation.toml"
    settings = loads(FederationConfig, render(FederationConfig, {}), file)
    assert settings.links.proxy is None
    text = render(FederationConfig, {"links.socks5": "127.0.0.1:9050"})
    assert loads(FederationConfig, text, file).links.proxy == Endpoint("127.0.0.1", 9050)
    with pytest.raises(ConfigError, match="no address of a proxy"):
        loads(FederationConfig, text.replace("127.0.0.1:9050", "9050"), file)

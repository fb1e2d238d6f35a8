"""Connects through a SOCKS5 proxy, such as Tor's, to members whose addresses may be onion services.

With a proxy, everything goes through it, names included: nobody else learns whom a member dials.
Each address has a user name of its own at the proxy; Tor gives each of these a circuit of its own,
so members do not share the fate of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from python_socks import ProxyError, ProxyType
from python_socks.async_.trio import Proxy

from radpool_sv2.config import Endpoint
from radpool_sv2.errors import ConfigError
from radpool_sv2.federation.transport.mesh import open_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["connector"]

ONION: Final = ".onion"

USER_BYTES_MAX: Final = 255
"""What SOCKS5 can carry of a user name."""


def connector(proxy: Endpoint | None) -> Callable[[str], Awaitable[trio.abc.Stream]]:
    """Returns what connects to an address of a member.

    Args:
        proxy: A SOCKS5 proxy; `None` connects directly.
    """

    async def connect(address: str) -> trio.abc.Stream:
        if proxy is None:
            if address.rpartition(":")[0].endswith(ONION):
                raise ConfigError(
                    "an onion address is reached through Tor only: set links.socks5", value=address
                )
            return await open_address(address)
        return await _through(proxy, address)

    return connect


async def _through(proxy: Endpoint, address: str) -> trio.abc.Stream:
    try:
        endpoint = Endpoint.parse(address)
    except ValueError as error:
        raise ConfigError(f"is no address of a member: {error}", value=address) from error
    user = address[:USER_BYTES_MAX]
    dialler = Proxy(ProxyType.SOCKS5, proxy.host, proxy.port, user, "radpool", rdns=True)
    try:
        # Whoever dials has a deadline for all of it, the handshake of the link included.
        socket = await dialler.connect(endpoint.host, endpoint.port, timeout=float("inf"))
    except ProxyError as error:
        raise OSError(f"the proxy {proxy} does not reach it: {error}") from error
    return trio.SocketStream(socket)

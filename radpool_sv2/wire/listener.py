"""Accepts encrypted connections and gives each a task of its own.

Bounds: connections in all and per address (an IPv6 address counts by its /64, which is what one
site has), and the time of a handshake. Whoever exceeds a bound is closed at once and told nothing:
an answer would cost a handshake. What a handler does wrong ends its connection and no other.
"""

from __future__ import annotations

import ipaddress
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.cause import first_cause
from radpool_sv2.config import Endpoint
from radpool_sv2.errors import ConfigError, ConnectionEnded, RemoteProtocolError
from radpool_sv2.wire.stream import Sv2Stream

if TYPE_CHECKING:
    from radpool_sv2._native.keys import ServerIdentity

__all__ = ["Listener", "ListenerLimits", "site_of"]

log = structlog.get_logger(__name__)

Handler = Callable[[Sv2Stream], Awaitable[None]]

IPV6_SITE_BITS: Final = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class ListenerLimits:
    """Bounds what strangers can take.

    Args:
        connections_max: Connections in all, those in a handshake included.
        connections_per_address_max: Connections of one address.
        handshake_seconds_max: What a handshake may take.
    """

    connections_max: int = 1_000
    connections_per_address_max: int = 64
    handshake_seconds_max: float = 10.0


class Listener:
    """Is a port at which encrypted connections arrive.

    Attributes:
        identity: What clients are shown; a new one holds for connections that follow.
        address: Where it listens, once it does.
        refused: How many connections were closed because of a bound.
    """

    def __init__(
        self, endpoint: Endpoint, identity: ServerIdentity, limits: ListenerLimits, handler: Handler
    ) -> None:
        self.identity = identity
        self.address: Endpoint | None = None
        self.refused = 0
        self._endpoint = endpoint
        self._limits = limits
        self._handler = handler
        self._connected: Counter[str] = Counter()

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return self._connected.total()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listens until cancelled; has started once connections are accepted.

        Raises:
            ConfigError: The address cannot be listened on.
        """
        try:
            listeners = await trio.open_tcp_listeners(self._endpoint.port, host=self._endpoint.host)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {self._endpoint}: {error.strerror or error}. Is another program"
                " there, or is the address not this machine's?"
            ) from error
        host, port = listeners[0].socket.getsockname()[:2]
        # Port 0 means any free one the first time; clients then expect to find it again.
        self._endpoint = self.address = Endpoint(host, port)
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, stream: trio.SocketStream) -> None:
        """Holds one connection, whose end is no concern of the others."""
        try:
            host, port = stream.socket.getpeername()[:2]
        except OSError:  # it has gone already
            await trio.aclose_forcefully(stream)
            return
        site = site_of(host)
        if (
            self.connections >= self._limits.connections_max
            or self._connected[site] >= self._limits.connections_per_address_max
        ):
            self.refused += 1
            await trio.aclose_forcefully(stream)
            return
        self._connected[site] += 1
        try:
            await self._hold(stream, str(Endpoint(host, port)))
        finally:
            self._connected[site] -= 1
            if not self._connected[site]:
                del self._connected[site]
            await trio.aclose_forcefully(stream)

    async def _hold(self, stream: trio.SocketStream, peer: str) -> None:
        # Miners sit behind routers that forget silent connections.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            link = await Sv2Stream.accept(
                stream, self.identity, self._limits.handshake_seconds_max, peer=peer
            )
            await self._handler(link)
        except* ConnectionEnded as ended:
            log.debug("a connection has ended", peer=peer, reason=str(first_cause(ended)))
        except* RemoteProtocolError as errors:
            log.warning("a peer broke the protocol", peer=peer, reason=str(first_cause(errors)))
        except* Exception:  # the root of the connection's tasks: others must not end with it
            log.exception("a connection's handler failed", peer=peer)


def site_of(host: str) -> str:
    """Names what has one share of what is shared: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return host
    mapped = address.ipv4_mapped
    if mapped is not None:
        return str(mapped)
    return str(ipaddress.ip_network((int(address), IPV6_SITE_BITS), strict=False))

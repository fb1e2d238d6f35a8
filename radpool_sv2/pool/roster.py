"""Keeps count of connections and channels, from the engine's events, for whoever wants to look.

Nothing is decided from it and nothing is paid from it: the ledger counts what is durable, this
counts what the engine has reported lately.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from radpool_sv2._native.engine import (
    ChannelClosed,
    ChannelOpened,
    ChannelReport,
    ChannelRequested,
    ChannelUpdated,
    Disconnected,
    Event,
    ExponentChanged,
    SetUp,
    WorkerNamed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from radpool_sv2.pool.account import UserIdentity

__all__ = ["Channel", "Client", "Roster"]


@dataclass(slots=True)
class Channel:
    """Is an open channel, or one that is about to open.

    Attributes:
        identity: The user identity, taken apart.
        user_identity: The same as the client gave it.
        channel: Its number on the connection.
        kind: `standard` or `extended`.
        extension_type: The extension that opened it; 0 for a core message.
        nominal_hash_rate: Hashes a second, as the client claims.
        max_target: The largest target that the client accepts, 32 bytes little-endian.
        exponent: The step of the ladder.
        extranonce_prefix: What the pool has chosen of the extranonce.
        rollable: Bytes of extranonce that the client rolls.
        accepted: Shares that were accepted.
        work: The sum of their work in hashes, exact.
        rejected: Refused shares by error code.
        blocks_found: Blocks among the accepted.
        workers: Names that its shares have given their workers; the engine bounds how many.
    """

    identity: UserIdentity
    user_identity: str
    kind: str
    nominal_hash_rate: float
    max_target: bytes
    extension_type: int = 0
    channel: int = 0
    exponent: int = 0
    extranonce_prefix: bytes = b""
    rollable: int = 0
    accepted: int = 0
    work: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    blocks_found: int = 0
    workers: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class Client:
    """Is a connection that has been set up.

    Attributes:
        connection: The engine's number of it.
        address: Where it comes from.
        vendor: What it says it is; as are the next two.
        hardware_version: See above.
        firmware: See above.
        channels: The open channels by number.
    """

    connection: int
    address: str
    vendor: str
    hardware_version: str
    firmware: str
    channels: dict[int, Channel] = field(default_factory=dict)
    requested: dict[int, Channel] = field(default_factory=dict)


class Roster:
    """Holds all connections; the bounds of the engine on connections and channels bound it."""

    def __init__(self) -> None:
        self._clients: dict[int, Client] = {}

    def __iter__(self) -> Iterator[Client]:
        return iter(self._clients.values())

    def get(self, connection: int) -> Client | None:
        """Returns a connection, or None when it is gone."""
        return self._clients.get(connection)

    def channel(self, connection: int, channel: int) -> Channel | None:
        """Returns an open channel, or None when it is gone."""
        client = self._clients.get(connection)
        return None if client is None else client.channels.get(channel)

    def request(self, event: ChannelRequested, identity: UserIdentity) -> None:
        """Remembers who asked for a channel, until it is opened or refused."""
        client = self._clients.get(event.connection)
        if client is not None:
            client.requested[event.request] = Channel(
                identity=identity,
                user_identity=event.user_identity.decode(),
                kind=event.kind,
                nominal_hash_rate=event.nominal_hash_rate,
                max_target=event.max_target,
                extension_type=event.extension_type,
            )

    def refuse(self, connection: int, request: int) -> None:
        """Forgets a request."""
        client = self._clients.get(connection)
        if client is not None:
            client.requested.pop(request, None)

    def apply(self, event: Event) -> None:
        """Takes up what the engine reports; other events change nothing."""
        if isinstance(event, SetUp):
            self._clients[event.connection] = Client(
                event.connection,
                event.address,
                _shown(event.vendor),
                _shown(event.hardware_version),
                _shown(event.firmware),
            )
        elif isinstance(event, Disconnected):
            self._clients.pop(event.connection, None)
        elif isinstance(event, ChannelOpened):
            self._open(event)
        elif isinstance(event, ChannelClosed):
            client = self._clients.get(event.connection)
            if client is not None:
                client.channels.pop(event.channel, None)
        elif isinstance(event, WorkerNamed):
            channel = self.channel(event.connection, event.channel)
            if channel is not None:
                channel.workers[event.worker] = _shown(event.name)
        elif isinstance(event, ChannelUpdated | ExponentChanged | ChannelReport):
            self._update(event)

    def _open(self, event: ChannelOpened) -> None:
        client = self._clients.get(event.connection)
        if client is None:
            return
        channel = client.requested.pop(event.request, None)
        if channel is not None:
            channel.channel = event.channel
            channel.exponent = event.exponent
            channel.extranonce_prefix = event.extranonce_prefix
            channel.rollable = event.rollable
            client.channels[event.channel] = channel

    def _update(self, event: ChannelUpdated | ExponentChanged | ChannelReport) -> None:
        channel = self.channel(event.connection, event.channel)
        if channel is None:
            return
        if isinstance(event, ChannelUpdated):
            channel.nominal_hash_rate = event.nominal_hash_rate
            channel.max_target = event.max_target
            return
        channel.exponent = event.exponent
        if isinstance(event, ChannelReport):
            channel.accepted = event.accepted
            channel.work = event.work
            channel.rejected = event.rejected


def _shown(raw: bytes) -> str:
    """Makes text of what a client says about itself: any bytes become something printable."""
    text = raw.decode(errors="replace")
    return "".join(character if character.isprintable() else "�" for character in text)

"""Finds the extensions that the operator enables, and passes on to each what is meant for it."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, TypeVar

import trio

from radpool_sv2.errors import ConfigError, RemoteProtocolError
from radpool_sv2.pool.extension import DUPLICATE_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from radpool_sv2._native.engine import (
        ChannelClosed,
        ChannelOpened,
        ChannelRequested,
        Engine,
        ExtensionFrame,
        RepeatedShare,
        ShareBatch,
    )
    from radpool_sv2.pool.extension import ChannelGrant, Extension, ExtensionHost

__all__ = ["ENTRY_POINT_GROUP", "ExtensionRegistry", "find_extensions", "load_extensions"]

T = TypeVar("T")

ENTRY_POINT_GROUP = "radpool_sv2.extensions"

WORKER_IDENTITY = 0x0002
"""The engine understands this extension itself: it names the worker of a share."""

RESERVED = frozenset({0x0000, 0x0001, WORKER_IDENTITY})
"""Numbers that no extension package can have: core messages, negotiation, worker identity."""


class ExtensionRegistry:
    """Knows the extensions at work, by name and by number."""

    def __init__(
        self,
        factories: Mapping[str, Callable[[ExtensionHost], Extension]],
        required: Sequence[str],
        parts: Iterable[object] = (),
    ) -> None:
        """Takes the factories of the enabled extensions.

        Args:
            factories: They are called here, by the names of the configuration.
            required: The names of those that clients must negotiate.
            parts: What the node offers to extensions.

        Raises:
            ConfigError: A required extension is not enabled, or one needs a part that is not there.
        """
        for name in required:
            if name not in factories:
                raise ConfigError(
                    "a required extension is not enabled",
                    key="extensions.required",
                    value=repr(name),
                    allowed="names in extensions.enabled",
                )
        self._host = _EngineHost(tuple(parts))
        self._extensions = {name: factory(self._host) for name, factory in factories.items()}
        self._by_type = {item.extension_type: item for item in self._extensions.values()}
        for name, item in self._extensions.items():
            if item.extension_type in RESERVED:
                raise ConfigError(
                    f"the extension claims number {item.extension_type:#06x}, which is taken",
                    key="extensions.enabled",
                    value=repr(name),
                )
        if len(self._by_type) != len(self._extensions):
            raise ConfigError(
                "two of these extensions have the same number: enable one",
                key="extensions.enabled",
                value=", ".join(factories),
            )
        self.supported = (WORKER_IDENTITY, *self._by_type)
        self.required = tuple(self._extensions[name].extension_type for name in required)
        self.share_messages = tuple(
            (number, message.msg_type, message.error_type)
            for number, item in self._by_type.items()
            for message in item.share_messages
        )
        self.open_messages = tuple(
            (number, message.open, message.success, message.error)
            for number, item in self._by_type.items()
            if (message := item.open_message) is not None
        )

    def attach(self, engine: Engine) -> None:
        """Connects the extensions with a newly started engine."""
        self._host.engine = engine

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Runs what the extensions do besides, until cancelled; has started once all have."""
        async with trio.open_nursery() as nursery:
            for extension in self._extensions.values():
                await nursery.start(extension.run)
            task_status.started()

    def concerned(self, batch: ShareBatch) -> list[Extension]:
        """Returns the extensions that shares of a batch carry something for."""
        if not self._by_type:
            return []
        numbers = batch.attachment_types()
        return [self._by_type[number] for number in numbers if number in self._by_type]

    async def open(self, request: ChannelRequested) -> ChannelGrant:
        """Asks the extension by which a channel was requested; raises as `Extension.open`."""
        return await self._by_type[request.extension_type].open(request)

    def opened(self, event: ChannelOpened) -> None:
        """Tells the extension that has granted a channel that it is open."""
        extension = self._by_type.get(event.extension_type)
        if extension is not None:
            extension.opened(event)

    def closed(self, event: ChannelClosed) -> None:
        """Tells all extensions that a channel is gone."""
        for extension in self._extensions.values():
            extension.closed(event)

    async def repeat(self, share: RepeatedShare) -> None:
        """Hands a repeated share to its extension; refuses it if the extension does."""
        extension = self._by_type[share.extension_type]
        try:
            await extension.repeat(share)
        except RemoteProtocolError as error:
            self._host.reject_repeated(share, error.error_code or DUPLICATE_SHARE)

    def reject_repeated(self, share: RepeatedShare, error_code: str) -> None:
        """Refuses a repeated share without asking its extension."""
        self._host.reject_repeated(share, error_code)

    async def deliver(self, frame: ExtensionFrame) -> None:
        """Hands a frame to its extension."""
        extension = self._by_type.get(frame.extension_type)
        if extension is not None:
            await extension.deliver(frame)

    def disconnected(self, connection: int) -> None:
        """Tells all extensions that a connection is gone."""
        for extension in self._extensions.values():
            extension.disconnected(connection)


class _EngineHost:
    """Sends through the engine that runs at the moment; a restarted pool brings another one."""

    def __init__(self, parts: Sequence[object]) -> None:
        self.engine: Engine | None = None
        self._parts = parts

    def send(
        self,
        connection: int,
        extension_type: int,
        msg_type: int,
        *,
        channel_msg: bool,
        payload: bytes,
    ) -> None:
        if self.engine is not None:
            self.engine.send_extension(
                connection, extension_type, msg_type, channel_msg=channel_msg, payload=payload
            )

    def reject_repeated(self, share: RepeatedShare, error_code: str) -> None:
        if self.engine is not None:
            self.engine.reject_repeated(share, error_code)

    def disconnect(self, connection: int) -> None:
        if self.engine is not None:
            self.engine.disconnect(connection)

    def part(self, kind: type[T]) -> T:
        for part in self._parts:
            if isinstance(part, kind):
                return part
        raise ConfigError(
            f"an extension needs a {kind.__name__}, which this node does not have",
            key="extensions.enabled",
        )


def find_extensions(enabled: Sequence[str]) -> dict[str, Callable[[ExtensionHost], Extension]]:
    """Loads the factories of the extensions that the configuration names.

    Raises:
        ConfigError: One is not installed.
    """
    installed = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    factories = {}
    for name in enabled:
        if name not in installed:
            known = ", ".join(sorted(installed)) or "none"
            raise ConfigError(
                f"no such extension is installed; installed: {known}",
                key="extensions.enabled",
                value=repr(name),
            )
        factories[name] = installed[name].load()
    return factories


def load_extensions(
    enabled: Sequence[str], required: Sequence[str], parts: Iterable[object] = ()
) -> ExtensionRegistry:
    """Loads the extensions that the configuration names and makes them.

    Raises:
        ConfigError: One is not installed or lacks a part, or a required one is not enabled.
    """
    return ExtensionRegistry(find_extensions(enabled), required, parts)

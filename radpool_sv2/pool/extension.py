"""Carries Stratum V2 protocol extensions: what one offers, what it is given, how it is found.

The engine knows the core protocol and one general idea: a share may carry opaque bytes, an
attachment, either as TLVs of `SubmitSharesExtended` or as what follows the fields of that message
in a message of the extension. It validates the share and hands the bytes up. All other frames of an
extension are handed up whole. Which bytes mean what is the extension's business alone.

An extension is a package of its own. It registers a factory under the entry point group
`radpool_sv2.extensions`; the operator names it in the configuration. The core imports none.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol

from radpool_sv2.errors import ConfigError, InternalError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from radpool_sv2._native.engine import Engine, ExtensionFrame, ShareBatch

__all__ = [
    "ENTRY_POINT_GROUP",
    "Attachment",
    "Extension",
    "ExtensionHost",
    "ExtensionRegistry",
    "RejectedShare",
    "load_extensions",
]

ENTRY_POINT_GROUP = "radpool_sv2.extensions"


WORKER_IDENTITY = 0x0002
"""The engine understands this extension itself: it names the worker of a share."""

RESERVED = frozenset({0x0000, 0x0001, WORKER_IDENTITY})
"""Numbers that no extension package can have: core messages, negotiation, worker identity."""

_TLV_HEADER = struct.Struct("<HBH")
"""Extension type, field, length of the value. Source: SV2, extension 0x0002, "TLV"."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """Is what a share of a batch carries for one extension.

    Attributes:
        index: The share's place in the batch.
        msg_type: The message that it came by.
        data: For SubmitSharesExtended the extension's own TLVs, whole and in order; for a share
            message of the extension whatever follows the share's fields.
    """

    index: int
    msg_type: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RejectedShare:
    """Is a share that an extension does not let pass, and the error code to refuse it with."""

    index: int
    error_code: str


class ExtensionHost(Protocol):
    """Is what an extension may do."""

    def send(
        self,
        connection: int,
        extension_type: int,
        msg_type: int,
        *,
        channel_msg: bool,
        payload: bytes,
    ) -> None:
        """Sends a frame on a connection; does nothing when the connection is gone.

        Raises:
            LocalProtocolError: A number or the payload is out of range.
        """


class Extension(Protocol):
    """Is a protocol extension at work in a pool."""

    @property
    def extension_type(self) -> int:
        """The number that clients negotiate, without the channel bit."""

    @property
    def share_messages(self) -> Sequence[int]:
        """Message types whose first fields are those of SubmitSharesExtended."""

    async def accept(
        self, batch: ShareBatch, attachments: Sequence[Attachment]
    ) -> Sequence[RejectedShare]:
        """Looks at the attachments of a batch that is durable but not yet acknowledged.

        What the extension must keep, it makes durable before it returns. A share that it refuses
        stays in the ledger, where it is paid as any other: only the miner is told of the fault in
        the attachment.

        Args:
            batch: All shares, for their accounts, channels and weights.
            attachments: Those of this extension, in the order of the batch.

        Returns:
            The shares whose attachment is to be refused.
        """

    async def deliver(self, frame: ExtensionFrame) -> None:
        """Takes a frame that carries no share; answers by the host when it wants to."""

    def disconnected(self, connection: int) -> None:
        """Learns that a connection is gone, to forget what it kept for it."""


class ExtensionRegistry:
    """Knows the extensions at work, by name and by number."""

    def __init__(
        self,
        factories: dict[str, Callable[[ExtensionHost], Extension]],
        required: Sequence[str],
    ) -> None:
        """Takes the factories of the enabled extensions.

        Raises:
            ConfigError: A required extension is not enabled.
        """
        for name in required:
            if name not in factories:
                raise ConfigError(
                    "a required extension is not enabled",
                    key="extensions.required",
                    value=repr(name),
                    allowed="names in extensions.enabled",
                )
        self._host = _EngineHost()
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
            (item.extension_type, message)
            for item in self._extensions.values()
            for message in item.share_messages
        )

    def attach(self, engine: Engine) -> None:
        """Connects the extensions with a newly started engine."""
        self._host.engine = engine

    async def accept(self, batch: ShareBatch) -> list[tuple[int, str]]:
        """Shows each extension its attachments; returns what to refuse, by index and code."""
        if not self._by_type:
            return []
        grouped: dict[int, list[Attachment]] = {}
        for index, extension_type, msg_type, data in batch.attachments():
            if (extension_type, msg_type) in self.share_messages:
                parts = {extension_type: data}
            else:
                parts = split_tlvs(data)
            for owner, part in parts.items():
                grouped.setdefault(owner, []).append(Attachment(index, msg_type, part))
        refused: dict[int, str] = {}
        for extension_type, attachments in grouped.items():
            extension = self._by_type.get(extension_type)
            if extension is not None:
                for item in await extension.accept(batch, attachments):
                    refused.setdefault(item.index, item.error_code)
        return sorted(refused.items())

    async def deliver(self, frame: ExtensionFrame) -> None:
        """Hands a frame to its extension."""
        extension = self._by_type.get(frame.extension_type)
        if extension is not None:
            await extension.deliver(frame)

    def disconnected(self, connection: int) -> None:
        """Tells all extensions that a connection is gone."""
        for extension in self._extensions.values():
            extension.disconnected(connection)


def split_tlvs(tail: bytes) -> dict[int, bytes]:
    """Takes the TLVs behind a share apart, by extension.

    Raises:
        InternalError: They are malformed: the engine lets no such share pass.
    """
    parts: dict[int, bytes] = {}
    position = 0
    while position < len(tail):
        end = position + _TLV_HEADER.size
        if end > len(tail):
            raise InternalError("the engine let a share pass whose TLVs are cut off")
        extension_type, _field, length = _TLV_HEADER.unpack_from(tail, position)
        end += length
        if end > len(tail):
            raise InternalError("the engine let a share pass whose TLVs are cut off")
        parts[extension_type] = parts.get(extension_type, b"") + tail[position:end]
        position = end
    return parts


class _EngineHost:
    """Sends through the engine that runs at the moment; a restarted pool brings another one."""

    def __init__(self) -> None:
        self.engine: Engine | None = None

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


def load_extensions(enabled: Sequence[str], required: Sequence[str]) -> ExtensionRegistry:
    """Loads the extensions that the configuration names.

    Raises:
        ConfigError: One is not installed, or a required one is not enabled.
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
    return ExtensionRegistry(factories, required)

"""Lays out the messages that open a connection, whatever it is for.

Source: sv2-spec, section 3.6; extension 0x0001.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, ClassVar, Final

from radpool_sv2.wire.encoding import LONG_COUNT, STR0_255, U8, U16, U32, Items, Unsigned
from radpool_sv2.wire.frame import NEGOTIATION
from radpool_sv2.wire.message.base import Message, messages

__all__ = [
    "CONNECTION",
    "EXTENSIONS",
    "ChannelEndpointChanged",
    "Protocol",
    "Reconnect",
    "RequestExtensions",
    "RequestExtensionsError",
    "RequestExtensionsSuccess",
    "SetupConnection",
    "SetupConnectionError",
    "SetupConnectionSuccess",
]

EXTENSIONS_MAX = 1_024
"""Extensions in one list; SV2 allows 65,535, and has numbered a handful."""

ExtensionTypes = Annotated[tuple[int, ...], Items(Unsigned(2, 0xFFFF), LONG_COUNT, EXTENSIONS_MAX)]


class Protocol(IntEnum):
    """Names what a connection is for."""

    MINING = 0
    JOB_DECLARATION = 1
    TEMPLATE_DISTRIBUTION = 2


@dataclass(frozen=True, slots=True)
class SetupConnection(Message):
    """Opens a connection; is the first message on it.

    Attributes:
        protocol: A `Protocol`, or a number that is to be refused.
        min_version: The oldest version of the protocol that will do.
        max_version: The newest.
        flags: What the client asks for, by protocol.
        endpoint_host: The host that the client believes it speaks with.
        endpoint_port: The port of it.
        vendor: Who made the client.
        hardware_version: Which model it is; may be empty.
        firmware: Which software it runs; may be empty.
        device_id: Which one of them it is; should be empty.
    """

    msg_type: ClassVar[int] = 0x00

    protocol: U8
    min_version: U16
    max_version: U16
    flags: U32
    endpoint_host: STR0_255
    endpoint_port: U16
    vendor: STR0_255
    hardware_version: STR0_255
    firmware: STR0_255
    device_id: STR0_255


@dataclass(frozen=True, slots=True)
class SetupConnectionSuccess(Message):
    """Accepts a connection; `flags` is what the server asks for."""

    msg_type: ClassVar[int] = 0x01

    used_version: U16
    flags: U32


@dataclass(frozen=True, slots=True)
class SetupConnectionError(Message):
    """Refuses a connection, which ends with it.

    Attributes:
        flags: All flags that the server does not support; 0 when that is not the reason.
        error_code: Why.
    """

    msg_type: ClassVar[int] = 0x02

    flags: U32
    error_code: STR0_255


@dataclass(frozen=True, slots=True)
class ChannelEndpointChanged(Message):
    """Says that somebody else is at the other end of a channel now."""

    msg_type: ClassVar[int] = 0x03
    channel_msg: ClassVar[bool] = True

    channel_id: U32


@dataclass(frozen=True, slots=True)
class Reconnect(Message):
    """Sends a client to another server of the same authority; empty and 0 mean the same one."""

    msg_type: ClassVar[int] = 0x04

    new_host: STR0_255
    new_port: U16


@dataclass(frozen=True, slots=True)
class RequestExtensions(Message):
    """Asks which of these extensions may be used on the connection."""

    extension_type: ClassVar[int] = NEGOTIATION
    msg_type: ClassVar[int] = 0x00

    request_id: U16
    requested_extensions: ExtensionTypes


@dataclass(frozen=True, slots=True)
class RequestExtensionsSuccess(Message):
    """Grants some of the extensions that were asked for."""

    extension_type: ClassVar[int] = NEGOTIATION
    msg_type: ClassVar[int] = 0x01

    request_id: U16
    supported_extensions: ExtensionTypes


@dataclass(frozen=True, slots=True)
class RequestExtensionsError(Message):
    """Grants none, and says which the server insists on."""

    extension_type: ClassVar[int] = NEGOTIATION
    msg_type: ClassVar[int] = 0x02

    request_id: U16
    unsupported_extensions: ExtensionTypes
    required_extensions: ExtensionTypes


CONNECTION: Final = messages(
    SetupConnection,
    SetupConnectionSuccess,
    SetupConnectionError,
    ChannelEndpointChanged,
    Reconnect,
)

EXTENSIONS: Final = messages(RequestExtensions, RequestExtensionsSuccess, RequestExtensionsError)

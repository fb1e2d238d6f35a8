"""Opens a connection for one of the protocols, from both sides.

Source: sv2-spec, section 3.6; extension 0x0001.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2._native import __version__
from radpool_sv2.errors import ConnectionEnded, RemoteProtocolError
from radpool_sv2.wire.frame import CORE, NEGOTIATION, Frame
from radpool_sv2.wire.message.base import decode
from radpool_sv2.wire.message.connection import (
    CONNECTION,
    Protocol,
    RequestExtensions,
    RequestExtensionsError,
    RequestExtensionsSuccess,
    SetupConnection,
    SetupConnectionError,
    SetupConnectionSuccess,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from radpool_sv2.config import Endpoint
    from radpool_sv2.wire.message.base import Message
    from radpool_sv2.wire.stream import Sv2Stream

__all__ = ["VERSION", "answer_extensions", "request_extensions", "set_up", "take_setup"]

VERSION: Final = 2
"""The only version of all protocols."""

VENDOR: Final = "radpool-sv2"

SETUP_SECONDS_MAX: Final = 10.0
"""An answer takes one round trip; ten seconds cover the worst line."""

EXTENSION_SECONDS_MAX: Final = 5.0
"""A server that does not know the question is silent."""

FRAMES_AHEAD_MAX: Final = 16
"""What may arrive before the answer about extensions; it should be nothing."""


async def set_up(  # noqa: PLR0913 - each is a field of the message
    stream: Sv2Stream,
    protocol: Protocol,
    *,
    flags: int = 0,
    vendor: str = VENDOR,
    endpoint: Endpoint | None = None,
    deadline_s: float = SETUP_SECONDS_MAX,
) -> SetupConnectionSuccess:
    """Opens a connection as its client.

    Args:
        stream: Fresh from the handshake.
        protocol: What it is for.
        flags: What the client asks for.
        vendor: Who the client says it is.
        endpoint: What it believes to speak with, for servers that tell their names apart.
        deadline_s: How long the answer may take.

    Raises:
        ConnectionEnded: The server closed the connection, or was silent.
        RemoteProtocolError: It refused, and `error_code` is its word for it; or it answered
            something else.
    """
    request = SetupConnection(
        protocol=protocol,
        min_version=VERSION,
        max_version=VERSION,
        flags=flags,
        endpoint_host="" if endpoint is None else endpoint.host,
        endpoint_port=0 if endpoint is None else endpoint.port,
        vendor=vendor,
        hardware_version="",
        firmware=__version__,
        device_id="",
    )
    await stream.send(request)
    answer = decode(await _receive_soon(stream, deadline_s), CONNECTION)
    if isinstance(answer, SetupConnectionSuccess):
        if answer.used_version != VERSION:
            raise RemoteProtocolError(
                f"{stream.peer} answers with version {answer.used_version}, asked for {VERSION}",
                peer=stream.peer,
            )
        return answer
    if isinstance(answer, SetupConnectionError):
        lacking = f", not supported: flags {answer.flags:#x}" if answer.flags else ""
        raise RemoteProtocolError(
            f"{stream.peer} refuses the connection: {answer.error_code!r}{lacking}",
            answer.error_code,
            stream.peer,
        )
    raise RemoteProtocolError(
        f"{stream.peer} did not answer SetupConnection but sent something else", peer=stream.peer
    )


async def request_extensions(
    stream: Sv2Stream, extensions: Sequence[int], *, deadline_s: float = EXTENSION_SECONDS_MAX
) -> tuple[int, ...]:
    """Asks for extensions, right after `set_up`; returns those that the server grants.

    Raises:
        ConnectionEnded: The server closed the connection.
        RemoteProtocolError: It insists on an extension that was not asked for.
    """
    await stream.send(RequestExtensions(request_id=0, requested_extensions=tuple(extensions)))
    ahead: list[Frame] = []
    granted: tuple[int, ...] = ()
    with trio.move_on_after(deadline_s):
        while len(ahead) < FRAMES_AHEAD_MAX:
            frame = await stream.receive()
            if frame.extension_type == NEGOTIATION:
                granted = _granted(frame, extensions, stream.peer)
                break
            ahead.append(frame)
    stream.put_back(ahead)
    return granted


def _granted(frame: Frame, asked: Collection[int], peer: str) -> tuple[int, ...]:
    if frame.msg_type == RequestExtensionsSuccess.msg_type:
        success = RequestExtensionsSuccess.decode(frame.payload)
        return tuple(each for each in success.supported_extensions if each in asked)
    error = RequestExtensionsError.decode(frame.payload)
    missing = [f"{each:#06x}" for each in error.required_extensions if each not in asked]
    if missing:
        raise RemoteProtocolError(
            f"{peer} insists on extensions that this client does not use: {', '.join(missing)}",
            peer=peer,
        )
    return ()


async def take_setup(  # noqa: PLR0913 - each is a rule of the server
    stream: Sv2Stream,
    protocol: Protocol,
    *,
    allowed_flags: int = 0,
    required: Mapping[int, str] | None = None,
    server_flags: int = 0,
    deadline_s: float = SETUP_SECONDS_MAX,
) -> SetupConnection:
    """Opens a connection as its server, or says why not and closes it.

    Args:
        stream: Fresh from the handshake.
        protocol: What this server is for.
        allowed_flags: What a client may ask for.
        required: What a client must ask for: the error code for each flag.
        server_flags: What this server asks for.
        deadline_s: How long the client may take.

    Raises:
        ConnectionEnded: The client closed the connection, or was silent.
        RemoteProtocolError: It was refused, with the error's code; or sent something else.
    """
    frame = await _receive_soon(stream, deadline_s)
    is_setup = (frame.extension_type, frame.msg_type) == (CORE, SetupConnection.msg_type)
    if not is_setup or frame.channel_msg:
        raise RemoteProtocolError(
            f"{stream.peer} began with message {frame.msg_type:#04x} of extension"
            f" {frame.extension_type:#06x}: SetupConnection must come first",
            peer=stream.peer,
        )
    request = SetupConnection.decode(frame.payload)
    refusal = _refusal(request, protocol, allowed_flags, required or {})
    if refusal is None:
        await stream.send(SetupConnectionSuccess(used_version=VERSION, flags=server_flags))
        return request
    await stream.send(refusal)
    await stream.leave()
    raise RemoteProtocolError(
        f"{stream.peer} asked for protocol {request.protocol}, versions {request.min_version} to"
        f" {request.max_version}, flags {request.flags:#x}: {refusal.error_code}",
        refusal.error_code,
        stream.peer,
    )


def _refusal(
    request: SetupConnection, protocol: Protocol, allowed_flags: int, required: Mapping[int, str]
) -> SetupConnectionError | None:
    if request.protocol != protocol:
        return SetupConnectionError(flags=0, error_code="unsupported-protocol")
    if not request.min_version <= VERSION <= request.max_version:
        return SetupConnectionError(flags=0, error_code="protocol-version-mismatch")
    unsupported = request.flags & ~allowed_flags
    if unsupported:
        return SetupConnectionError(flags=unsupported, error_code="unsupported-feature-flags")
    for flag, code in required.items():
        if not request.flags & flag:
            return SetupConnectionError(flags=flag, error_code=code)
    return None


def answer_extensions(frame: Frame, supported: Collection[int]) -> Message:
    """Returns a server's answer to a frame of the negotiation.

    Raises:
        RemoteProtocolError: It is no request.
    """
    if frame.msg_type != RequestExtensions.msg_type:
        raise RemoteProtocolError(f"message {frame.msg_type:#04x} is nothing that a client sends")
    request = RequestExtensions.decode(frame.payload)
    granted = tuple(each for each in request.requested_extensions if each in supported)
    if granted:
        return RequestExtensionsSuccess(request_id=request.request_id, supported_extensions=granted)
    return RequestExtensionsError(
        request_id=request.request_id,
        unsupported_extensions=request.requested_extensions,
        required_extensions=(),
    )


async def _receive_soon(stream: Sv2Stream, deadline_s: float) -> Frame:
    try:
        with trio.fail_after(deadline_s):
            return await stream.receive()
    except trio.TooSlowError as error:
        raise ConnectionEnded(
            f"{stream.peer} sent nothing for {deadline_s:g} s", peer=stream.peer
        ) from error

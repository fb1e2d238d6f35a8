"""Talks to a running embedded chain by its unix socket."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import trio

from radpool_sv2.chain.frame import FrameReader, decode, encode
from radpool_sv2.errors import (
    ConfigError,
    LocalProtocolError,
    NodeError,
    RadpoolError,
    RemoteProtocolError,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

__all__ = ["ChainClient", "ChainUnavailableError", "check_socket_path", "open_client"]

# What the address structure of unix sockets has room for, its final zero left out.
_SOCKET_PATH_LEN_MAX: Final = 107
# The chain's own answers that only mean "not now".
_PASSING = {"starting", "too-many-connections", "timeout"}


class ChainUnavailableError(RadpoolError):
    """Says that the chain does not answer now; it may be starting again.

    Whether the request was carried out is not known. The reaction is to ask again.
    """


def check_socket_path(path: Path) -> None:
    """Checks that a unix socket can have this path.

    Raises:
        ConfigError: The path is too long.
    """
    length = len(str(path).encode())
    if length > _SOCKET_PATH_LEN_MAX:
        raise ConfigError(
            f"The path has {length} bytes: choose a directory with a shorter name.",
            key="socket",
            value=str(path),
            allowed=f"at most {_SOCKET_PATH_LEN_MAX} bytes, which is what a unix socket can have",
        )


class _Pending:
    """Is a request whose reply has not come."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.reply: dict[str, Any] | None = None


class ChainClient:
    """Is one connection; any number of tasks may ask at the same time.

    Use `open_client`, which reads the replies in the background.
    """

    def __init__(
        self, stream: trio.SocketStream, on_template: Callable[[dict[str, Any]], None] | None
    ) -> None:
        self._stream = stream
        self._on_template = on_template
        self._pending: dict[int, _Pending] = {}
        self._numbers = count(1)
        self._sending = trio.Lock()
        self.ended = trio.Event()

    async def request(
        self, method: str, params: Mapping[str, Any] | None = None, *, timeout_s: float = math.inf
    ) -> dict[str, Any]:
        """Asks and returns the result.

        Raises:
            ChainUnavailableError: The chain is away, starting, or silent for `timeout_s`.
            LocalProtocolError: The chain says the request is wrong or refuses it.
            NodeError: The chain has come to no verdict on a block.
            StoreError: The chain's disk refuses.
        """
        if self.ended.is_set():
            raise ChainUnavailableError("the chain has closed the connection")
        number = next(self._numbers)
        pending = self._pending[number] = _Pending()
        frame = encode({"id": number, "method": method, "params": dict(params or {})})
        try:
            with trio.move_on_after(timeout_s):
                await self._send(frame)
                await pending.done.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ChainUnavailableError("the chain has closed the connection") from error
        finally:
            del self._pending[number]
        if pending.reply is None:
            raise ChainUnavailableError(f"the chain did not answer to {method}")
        return _result(pending.reply)

    async def _send(self, frame: bytes) -> None:
        async with self._sending:
            whole = False
            try:
                await self._stream.send_all(frame)
                whole = True
            finally:
                if not whole:
                    # Half a frame may be out: nothing behind it would be understood.
                    self.ended.set()
                    await trio.aclose_forcefully(self._stream)

    async def read(self) -> None:
        """Delivers replies and notifications until the connection ends."""
        reader = FrameReader(self._stream)
        try:
            while (length := await reader.begin()) is not None:
                self._deliver(decode(await reader.finish(length)))
        except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError):
            pass  # the chain has gone, in the middle of a frame perhaps
        finally:
            self.ended.set()
            for pending in self._pending.values():
                pending.done.set()

    def _deliver(self, message: dict[str, Any]) -> None:
        if message.get("notify") == "template" and self._on_template is not None:
            self._on_template(message["params"])
            return
        number = message.get("id")
        pending = self._pending.get(number) if isinstance(number, int) else None
        if pending is not None:
            pending.reply = message
            pending.done.set()


def _result(reply: dict[str, Any]) -> dict[str, Any]:
    error = reply.get("error")
    if error is None:
        result: dict[str, Any] = reply["result"]
        return result
    if error["code"] in _PASSING:
        raise ChainUnavailableError(error["message"])
    if error["code"] == "no-verdict":
        raise NodeError(error["message"], "embedded")
    if error["code"] == "store":
        raise StoreError(error["message"])
    raise LocalProtocolError(error["message"])


@asynccontextmanager
async def open_client(
    socket_path: Path, on_template: Callable[[dict[str, Any]], None] | None = None
) -> AsyncIterator[ChainClient]:
    """Connects to the chain at a socket; `on_template` is called with each template announced.

    Raises:
        ChainUnavailableError: Nobody listens there.
    """
    check_socket_path(socket_path)
    try:
        stream = await trio.open_unix_socket(str(socket_path))
    except OSError as error:
        raise ChainUnavailableError(
            f"no embedded chain answers at {socket_path} ({error.strerror or error})"
        ) from error
    client = ChainClient(stream, on_template)
    # The body's exception leaves as it is, not in the group that the nursery would make of it.
    raised: Exception | None = None
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(client.read)
        try:
            yield client
        except Exception as error:  # noqa: BLE001 - raised again below
            raised = error
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised

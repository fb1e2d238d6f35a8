"""Calls a bitcoin node's JSON-RPC interface.

Every call has a deadline and a bound on the answer, and every failure says which node it was. Calls
are idempotent, so one that met a connection which the node had just closed is made again. A cookie
is read again when the node refuses it: the node makes a new one at each start.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

import httpx
import msgspec
import trio

from radpool_sv2.errors import NodeError
from radpool_sv2.node.refusal import NOT_FOUND, RpcRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["NodeRpc", "NodeSettings"]

ANSWER_BYTES_MAX: Final = 64 << 20
"""A block's 4 MB of witness are 8 MB of hex; a list of a full mempool is some 30 MB."""

DECODE_BYTES_MAX: Final = 1 << 18
"""Longer answers are decoded in a thread: a template's take some milliseconds."""

CONNECTIONS_MAX: Final = 8
"""One waits in a long poll. bitcoind has 4 to 16 threads for all its clients."""

KEEPALIVE_S: Final = 20.0
"""bitcoind closes a connection that was idle for 30 s."""

WARMING_UP: Final = -28
"""bitcoind's code while it still loads its files."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeSettings:
    """Tells how a node is reached.

    Args:
        url: Its RPC interface, SCHEME://HOST:PORT; names the node in messages.
        deadline_s: How long it may take to answer.
        cookie_file: The file that it writes its cookie to; None when user and password are given.
        user: The RPC user.
        password: The user's password.
        zmq_url: Where it tells of new blocks, tcp://HOST:PORT; empty when it does not.
    """

    url: str
    deadline_s: float
    cookie_file: Path | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    zmq_url: str = ""


class _Refusal(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Answer(msgspec.Struct, Generic[T]):
    result: T | None = None
    error: _Refusal | None = None
    id: Any = None


class _Body(httpx.AsyncByteStream):
    """Is what is sent: no generator, as httpx makes one, which a cancelled call leaves behind."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __aiter__(self) -> _BodyIterator:
        return _BodyIterator(self._content)


class _BodyIterator:
    def __init__(self, content: bytes) -> None:
        self._left = [content]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


class NodeRpc:
    """Calls one node. May be used again after `aclose`."""

    def __init__(self, settings: NodeSettings) -> None:
        self.settings = settings
        self.name = settings.url
        self._client: httpx.AsyncClient | None = None
        self._auth: tuple[str, str] | None = None
        self._numbers = itertools.count(1)

    async def aclose(self) -> None:
        """Closes all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def call(self, method: str, *params: Any, deadline_s: float | None = None) -> Any:
        """Calls a method and returns its result.

        Raises:
            RpcRefusedError: The node answered with an error.
            NodeError: It did not answer, not in time, or not as a node does.
        """
        return await self.call_for(Any, method, *params, deadline_s=deadline_s)

    async def call_for(
        self, kind: type[T], method: str, *params: Any, deadline_s: float | None = None
    ) -> T:
        """Calls a method whose result is of a kind that msgspec checks; raises as `call` does."""
        request = {"id": next(self._numbers), "method": method, "params": params}
        body = await self._post(method, msgspec.json.encode(request), deadline_s)
        answer = await self._decode(_Answer[kind], method, body)  # type: ignore[valid-type]
        return self._result(method, answer)

    async def batch(self, method: str, params: Sequence[Sequence[Any]]) -> list[Any]:
        """Calls a method once for each list of parameters, all in one request.

        Returns:
            The results in order; None stands where the node knows no such thing.

        Raises:
            RpcRefusedError: The node answered a call with any other error.
            NodeError: The node did not answer, or answered something else than these calls.
        """
        requests = [
            {"id": number, "method": method, "params": each} for number, each in enumerate(params)
        ]
        if not requests:
            return []
        body = await self._post(method, msgspec.json.encode(requests), None)
        answers = await self._decode(list[_Answer[Any]], method, body)
        if len(answers) != len(requests):
            raise self._error(method, f"answered {len(answers)} of {len(requests)} calls")
        # A node may answer them in any order.
        by_number = {each.id: each for each in answers if type(each.id) is int}
        if by_number.keys() != set(range(len(requests))):
            raise self._error(method, "answered other calls than it was asked")
        return [self._result_if_any(method, by_number[at]) for at in range(len(requests))]

    def _result_if_any(self, method: str, answer: _Answer[T]) -> T | None:
        if answer.error is not None and answer.error.code == NOT_FOUND:
            return None
        return self._result(method, answer)

    def _result(self, method: str, answer: _Answer[T]) -> T:
        refusal = answer.error
        if refusal is None:
            return answer.result  # type: ignore[return-value]
        if refusal.code == WARMING_UP:
            raise self._error(method, f"is not ready yet: {refusal.message}")
        raise RpcRefusedError(
            f"the node {self.name} refuses {method}: {refusal.message} ({refusal.code})",
            self.name,
            refusal.code,
            refusal.message,
        )

    async def _post(self, method: str, body: bytes, deadline_s: float | None) -> bytes:
        deadline_s = self.settings.deadline_s if deadline_s is None else deadline_s
        with trio.move_on_after(deadline_s):
            status, content = await self._send(method, body)
            if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                self._auth = None
                status, content = await self._send(method, body)
            self._check_status(method, status, content)
            return content
        raise self._error(method, f"does not answer within {deadline_s:g} s")

    def _check_status(self, method: str, status: int, content: bytes) -> None:
        if status == httpx.codes.UNAUTHORIZED:
            whose = self.settings.cookie_file or f"the password of {self.settings.user!r}"
            raise self._error(method, f"does not accept {whose}")
        if status == httpx.codes.FORBIDDEN:
            raise self._error(method, "does not allow it from here: see its -rpcallowip")
        # Errors of calls come with status 500 or 404 and a body of JSON.
        if status != httpx.codes.OK and not content.startswith((b"{", b"[")):
            words = content[:100].decode(errors="replace").strip()
            raise self._error(method, f"answers with status {status}: {words}".rstrip(": "))

    async def _send(self, method: str, body: bytes) -> tuple[int, bytes]:
        auth = self._credentials()
        for is_last in (False, True):
            try:
                return await self._send_once(method, body, auth)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                # The node may have closed the idle connection that was just taken.
                if is_last:
                    raise self._error(method, f"broke the connection: {error}") from error
            except httpx.HTTPError as error:
                raise self._error(method, f"cannot be reached: {_words(error)}") from error
        raise AssertionError("the loop ends by returning or raising")

    async def _send_once(
        self, method: str, body: bytes, auth: tuple[str, str]
    ) -> tuple[int, bytes]:
        if self._client is None:
            limits = httpx.Limits(
                max_connections=CONNECTIONS_MAX,
                max_keepalive_connections=CONNECTIONS_MAX,
                keepalive_expiry=KEEPALIVE_S,
            )
            self._client = httpx.AsyncClient(timeout=None, limits=limits, trust_env=False)  # noqa: S113 - each call has its deadline
        headers = {"content-type": "application/json"}
        request = self._client.build_request(
            "POST", self.settings.url, content=body, headers=headers
        )
        request.stream = _Body(body)
        response = await self._client.send(request, auth=auth, stream=True)
        try:
            content = bytearray()
            # Leaving the loop by an exception would leave httpx's generators behind unfinished.
            with trio.CancelScope() as reading:
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > ANSWER_BYTES_MAX:
                        reading.cancel()
            if len(content) > ANSWER_BYTES_MAX:
                raise self._error(method, f"answers with more than {ANSWER_BYTES_MAX} bytes")
            return response.status_code, bytes(content)
        finally:
            await response.aclose()

    def _credentials(self) -> tuple[str, str]:
        if self._auth is None:
            file = self.settings.cookie_file
            if file is None:
                self._auth = (self.settings.user, self.settings.password)
            else:
                self._auth = self._read_cookie(file)
        return self._auth

    def _read_cookie(self, file: Path) -> tuple[str, str]:
        try:
            user, colon, password = file.read_text(encoding="utf-8").strip().partition(":")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise NodeError(
                f"the cookie {file} of the node {self.name} cannot be read: {reason}. Does the "
                "node run, and may this user read the file?",
                self.name,
            ) from error
        if not colon:
            raise NodeError(f"{file} is no cookie of a node", self.name)
        return user, password

    async def _decode(self, kind: type[T], method: str, body: bytes) -> T:
        decoder = msgspec.json.Decoder(kind)
        try:
            if len(body) <= DECODE_BYTES_MAX:
                return decoder.decode(body)
            return await trio.to_thread.run_sync(decoder.decode, body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._error(method, f"answers what no node does: {error}") from error

    def _error(self, method: str, what: str) -> NodeError:
        return NodeError(f"the node {self.name} {what} (asked for {method})", self.name)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__

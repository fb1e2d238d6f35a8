"""Speaks with Bitcoin Core over its unix socket: questions that are awaited.

One `CoreNode` is one connection. It ends with the first answer that does not come because the
connection is lost; whoever uses it opens another one then.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec
import trio

from radpool_sv2._native import ipc as native
from radpool_sv2.errors import LocalProtocolError, NodeError
from radpool_sv2.node.refusal import RpcRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from radpool_sv2._native.ipc import Capabilities, CoreTemplate, Verdict

__all__ = ["CoreNode", "IpcError", "serve_core_node"]

CONNECT_DEADLINE_MS: Final = 10_000
QUESTION_DEADLINE_MS: Final = 10_000
"""Questions about headers and transactions take a millisecond, and some seconds while the node
connects a full block on a slow disk."""

CHECK_DEADLINE_MS: Final = 30_000
"""A block of the most expensive scripts takes seconds; slower ones are nobody's to wait for."""

TEMPLATE_DEADLINE_MS: Final = 120_000
"""Longer than the node waits for its last headers after having been away."""

OPEN_MAX: Final = 60
"""Questions that may be under way; the native side takes 64."""

_CONNECTED: Final = 0

T = TypeVar("T")


class IpcError(NodeError):
    """Says that Bitcoin Core did not answer a question over its socket.

    Args:
        message: What happened and what to do about it.
        kind: One word for it, as `_native.ipc.Failure.kind` lists them.
        node: The socket.
    """

    def __init__(self, message: str, kind: str, node: str = "") -> None:
        super().__init__(message, node)
        self.kind = kind


class _RpcError(msgspec.Struct):
    code: int = 0
    message: str = ""


class _RpcAnswer(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: _RpcError | None = None


class _Question:
    """Is a question that somebody waits for, or has given up on."""

    __slots__ = ("answer", "answered")

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.answer: object = None


async def serve_core_node(
    path: Path, trusted_uids: Sequence[int], *, task_status: trio.TaskStatus[CoreNode]
) -> None:
    """Keeps a connection until cancelled; has started, with the node, once it is set up.

    Args:
        path: The node's unix socket.
        trusted_uids: Users that may run the process that listens there.
        task_status: Gets the node.

    Raises:
        IpcError: Nobody answers there, or somebody else than a trusted user.
    """
    connection = native.CoreNode(
        path, trusted_uids=trusted_uids, connect_deadline_ms=CONNECT_DEADLINE_MS
    )
    try:
        node = CoreNode(connection, str(path))
        await node.run(task_status)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(connection.close)


class CoreNode:
    """Is a connection to Bitcoin Core. `serve_core_node` makes it.

    Every method raises `IpcError` when the node does not answer, or not in time.
    """

    def __init__(self, connection: native.CoreNode, name: str) -> None:
        self.name = name
        self._connection = connection
        self._questions: dict[int, _Question] = {_CONNECTED: _Question()}
        self._numbers = 0
        self._room = trio.Semaphore(OPEN_MAX)
        self._capabilities: Capabilities | None = None

    async def run(self, task_status: trio.TaskStatus[CoreNode]) -> None:
        """Hands answers to those who wait for them, until cancelled."""
        connecting = self._questions[_CONNECTED]
        while not connecting.answered.is_set():
            await self._hand_out()
        self._capabilities = cast("Capabilities", await self._answer_of(connecting))
        task_status.started(self)
        while True:
            await self._hand_out()

    @property
    def capabilities(self) -> Capabilities:
        """What the node can do."""
        assert self._capabilities is not None
        return self._capabilities

    async def create_template(
        self, *, reserved_weight: int, coinbase_sigops: int
    ) -> CoreTemplate | None:
        """Asks for a template of the mempool; None when the node is about to stop."""
        # A chain for tests may have no other miner, whose blocks a node would wait for.
        cooldown = not self.capabilities.is_test_chain
        answer = await self._ask(
            lambda token: self._connection.create_template(
                token,
                use_mempool=True,
                reserved_weight=reserved_weight,
                coinbase_sigops=coinbase_sigops,
                cooldown=cooldown,
                deadline_ms=TEMPLATE_DEADLINE_MS,
            )
        )
        return cast("CoreTemplate | None", answer)

    async def next_template(
        self, template: int, *, timeout_ms: int, fee_rise_sats: int | None
    ) -> CoreTemplate | None:
        """Waits for the template after this one; None when the time is up."""
        answer = await self._ask(
            lambda token: self._connection.next_template(
                token,
                template,
                timeout_ms=timeout_ms,
                fee_rise_sats=fee_rise_sats,
                deadline_ms=timeout_ms + QUESTION_DEADLINE_MS,
            )
        )
        return cast("CoreTemplate | None", answer)

    async def submit_solution(
        self, template: int, *, version: int, ntime: int, nonce: int, coinbase_tx: bytes
    ) -> Verdict:
        """Gives in a header and a coinbase that solve a template which the node still keeps."""
        answer = await self._ask(
            lambda token: self._connection.submit_solution(
                token,
                template,
                version=version,
                ntime=ntime,
                nonce=nonce,
                coinbase_tx=coinbase_tx,
                deadline_ms=CHECK_DEADLINE_MS,
            )
        )
        return cast("Verdict", answer)

    async def check_block(self, block: bytes) -> Verdict:
        """Asks for a verdict on a whole block that need not have proof of work."""
        answer = await self._ask(
            lambda token: self._connection.check_block(token, block, deadline_ms=CHECK_DEADLINE_MS)
        )
        return cast("Verdict", answer)

    async def submit_block(self, block: bytes) -> Verdict:
        """Gives in a whole block."""
        answer = await self._ask(
            lambda token: self._connection.submit_block(token, block, deadline_ms=CHECK_DEADLINE_MS)
        )
        return cast("Verdict", answer)

    async def find_transactions(self, wtxids: Sequence[bytes]) -> list[bytes]:
        """Asks for transactions of the mempool; empty entries are those that it has not."""
        answer = await self._ask(
            lambda token: self._connection.find_transactions(
                token, wtxids, deadline_ms=QUESTION_DEADLINE_MS
            )
        )
        return cast("list[bytes]", answer)

    async def is_syncing(self) -> bool:
        """Asks whether the node still downloads old blocks."""
        answer = await self._ask(
            lambda token: self._connection.is_syncing(token, deadline_ms=QUESTION_DEADLINE_MS)
        )
        return cast("bool", answer)

    async def call(self, method: str, *params: Any) -> Any:
        """Asks by JSON-RPC over the same socket; `capabilities.answers_rpc` tells whether it can.

        Raises:
            RpcRefusedError: The node answers with an error.
            IpcError: The node does not answer, or answers nonsense.
        """
        return await self.call_for(Any, method, *params)

    async def call_for(self, kind: type[T], method: str, *params: Any) -> T:
        """Asks for a result of a kind that msgspec checks; raises as `call` does."""
        question = json.dumps({"jsonrpc": "2.0", "id": 0, "method": method, "params": params})
        answer = await self._ask(
            lambda token: self._connection.rpc(token, question, deadline_ms=CHECK_DEADLINE_MS)
        )
        try:
            told = msgspec.json.decode(cast("str", answer), type=_RpcAnswer)
            if told.error is None:
                return msgspec.json.decode(told.result, type=kind)
        except (msgspec.MsgspecError, RecursionError) as error:
            text = f"the node {self.name} answers {method} as no node does: {error}"
            raise IpcError(text, "nonsense", self.name) from error
        code, reason = told.error.code, told.error.message
        raise RpcRefusedError(
            f"the node {self.name} refuses {method}: {reason} ({code})", self.name, code, reason
        )

    def interrupt_wait(self, template: int) -> None:
        """Lets a wait for the template after this one end now."""
        self._connection.interrupt_wait(template)

    def forget(self, template: int) -> None:
        """Lets the node forget a template."""
        self._connection.forget(template)

    async def _ask(self, send: Callable[[int], None]) -> object:
        await self._room.acquire()
        self._numbers += 1
        token, question = self._numbers, _Question()
        try:
            send(token)
        except LocalProtocolError:
            self._room.release()
            raise
        self._questions[token] = question
        return await self._answer_of(question)

    async def _answer_of(self, question: _Question) -> object:
        await question.answered.wait()
        answer = question.answer
        if isinstance(answer, native.Failure):
            raise IpcError(answer.text, answer.kind, self.name)
        return answer

    async def _hand_out(self) -> None:
        await trio.lowlevel.wait_readable(self._connection.event_fd())
        for token, answer in self._connection.take():
            question = self._questions.pop(token)
            question.answer = answer
            question.answered.set()
            if token != _CONNECTED:
                self._room.release()

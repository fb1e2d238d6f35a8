"""Keeps a way to one Bitcoin Core: its socket, again and again, and its RPC interface if need be.

Bitcoin Core 31 answers no JSON-RPC over its socket; later versions do. What needs JSON-RPC is
therefore asked over the socket where that can be, and else at the RPC interface beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
import trio

from radpool_sv2.cause import first_cause
from radpool_sv2.errors import NodeError
from radpool_sv2.node.ipc import serve_core_node

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from radpool_sv2.node.ipc import CoreNode
    from radpool_sv2.node.rpc import NodeRpc

__all__ = ["CoreLink"]

log = structlog.get_logger(__name__)

PAUSE_MIN_S: Final = 0.2
PAUSE_MAX_S: Final = 5.0
"""Pauses between connections: a node that restarts is back in seconds."""

T = TypeVar("T")


class CoreLink:
    """Is one Bitcoin Core, whether it is there at the moment or not.

    Args:
        path: Its unix socket.
        trusted_uids: Users that may run it.
        rpc: Its RPC interface, for versions that answer no JSON-RPC over the socket.
    """

    def __init__(self, path: Path, trusted_uids: Sequence[int], rpc: NodeRpc | None) -> None:
        self.name = str(path)
        self.beside = rpc
        self.problem = f"the node at {path} has not answered yet"
        self._path = path
        self._trusted_uids = trusted_uids
        self._node: CoreNode | None = None
        self._found = trio.Event()

    async def run(self, use: Callable[[CoreNode], Awaitable[None]]) -> None:
        """Connects again and again until cancelled, and uses each connection while it lasts."""
        pause = PAUSE_MIN_S
        while True:
            began = trio.current_time()
            try:
                await self._connect(use)
            except* NodeError as errors:
                self.problem = str(first_cause(errors))
            if trio.current_time() - began > PAUSE_MAX_S:
                pause = PAUSE_MIN_S
            log.warning("node lost", node=self.name, reason=self.problem, again_in_s=pause)
            await trio.sleep(pause)
            pause = min(2 * pause, PAUSE_MAX_S)

    async def _connect(self, use: Callable[[CoreNode], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            node = await nursery.start(serve_core_node, self._path, self._trusted_uids)
            if not node.capabilities.answers_rpc and self.beside is None:
                raise NodeError(
                    f"the node at {self.name} is Bitcoin Core 31, which tells only half over its "
                    "socket: name its RPC interface in templates.rpc_urls as well",
                    self.name,
                )
            try:
                self._node = node
                self._found.set()
                log.info("node found", node=self.name)
                await use(node)
            finally:
                self._node = None
                self._found = trio.Event()
            nursery.cancel_scope.cancel()

    @property
    def node(self) -> CoreNode:
        """The connection.

        Raises:
            NodeError: There is none at the moment.
        """
        if self._node is None:
            raise NodeError(self.problem, self.name)
        return self._node

    async def found(self) -> CoreNode:
        """Waits until there is a connection."""
        while self._node is None:
            await self._found.wait()
        return self._node

    async def call(self, method: str, *params: Any, deadline_s: float | None = None) -> Any:
        """Asks by JSON-RPC, over the socket or beside it.

        Raises:
            RpcRefusedError: The node answers with an error.
            NodeError: The node does not answer, or answers nonsense.
        """
        return await self.call_for(Any, method, *params, deadline_s=deadline_s)

    async def call_for(
        self, kind: type[T], method: str, *params: Any, deadline_s: float | None = None
    ) -> T:
        """Asks for a result of a kind that msgspec checks; raises as `call` does."""
        node = self._node
        if self.beside is not None and (node is None or not node.capabilities.answers_rpc):
            return await self.beside.call_for(kind, method, *params, deadline_s=deadline_s)
        return await self.node.call_for(kind, method, *params)

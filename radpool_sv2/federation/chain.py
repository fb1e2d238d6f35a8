"""Follows the chain of the own bitcoin node, as far as epochs need it: one height after the other.

Theory of operation. Each height is told once, with the block that the active chain has there by
then. The node is asked for its height only, so a reorganisation that ends as high as the chain was,
or lower, is not seen; one that ends higher is, from there on. Nothing hangs on it: a mark says
which block its sender has seen, and no rule looks at that; which branch shares are on is told by
the tips in the streams.

Source: `spec/14-epoch-agreement.md`, "Marks".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from radpool_sv2.errors import ConfigError, NodeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2.node.rpc import NodeRpc

__all__ = ["CHAIN_SECONDS", "Chain", "Following", "NodeChain"]

log = structlog.get_logger(__name__)

CHAIN_SECONDS: Final = 1.0
"""How often the chain is asked for its height."""


class Chain(Protocol):
    """Is the member's own bitcoin node, as far as epochs need it."""

    async def height(self) -> int:
        """Returns the height of the tip.

        Raises:
            NodeError: The node does not say.
        """

    async def block_hash(self, height: int) -> bytes:
        """Returns the hash of the block at a height, 32 bytes in internal byte order.

        Raises:
            NodeError: The node does not say.
        """


class NodeChain:
    """Is the chain of a bitcoin node.

    Args:
        rpc: The node.
        first: Hash of the first block of the chain that it must be on; `None` for any.
    """

    def __init__(self, rpc: NodeRpc, first: bytes | None = None) -> None:
        self._rpc = rpc
        self._first = first

    async def height(self) -> int:
        """Returns the height of the tip.

        Raises:
            NodeError: The node does not say.
            ConfigError: It is on another chain.
        """
        if self._first is not None:
            if await self.block_hash(0) != self._first:
                raise ConfigError(
                    "the own bitcoin node is on another chain than the committee",
                    key="chain.rpc_url",
                    value=self._rpc.name,
                )
            # It is asked once it answers, which need not be when the member starts.
            self._first = None
        return await self._rpc.call_for(int, "getblockcount")

    async def block_hash(self, height: int) -> bytes:
        """Returns a block's hash, internal byte order; raises `NodeError`."""
        shown = await self._rpc.call_for(str, "getblockhash", height)
        try:
            return bytes.fromhex(shown)[::-1]
        except ValueError as error:
            raise NodeError(f"{self._rpc.name}: {shown!r} is no hash", self._rpc.name) from error


class Following:
    """Tells the heights that a chain reaches.

    Args:
        first: Returns the first height that is wanted; asked once the chain has answered. From a
            chain that is not there yet its tip is told.
        reached: Told each height and the hash of its block, in order.

    Attributes:
        height: The last one that was told; -1 before the first.
        failure: Why the node does not answer; empty while it does.
    """

    def __init__(self, first: Callable[[], int], reached: Callable[[int, bytes], None]) -> None:
        self.height = -1
        self.failure = ""
        self._first = first
        self._reached = reached

    async def run(self, chain: Chain, seconds: float) -> None:
        """Follows a chain until it is cancelled, and asks for its height that often."""
        told: int | None = None
        while True:
            try:
                height = await chain.height()
                if told is None:
                    told = max(min(self._first(), height), 0) - 1
                for each in range(told + 1, height + 1):
                    self._reached(each, await chain.block_hash(each))
                    told = self.height = each
            except NodeError as error:
                if not self.failure:
                    log.warning("the own bitcoin node does not answer", reason=str(error))
                self.failure = str(error)
            else:
                self.failure = ""
            await trio.sleep(seconds)

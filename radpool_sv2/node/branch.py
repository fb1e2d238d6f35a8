"""Finds out which blocks joined the active chain and which left it, from one tip to another.

Hashes are 32 bytes in internal byte order; nodes write them the other way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from radpool_sv2.errors import NodeError
from radpool_sv2.node.refusal import NOT_FOUND, RpcRefusedError
from radpool_sv2.units import HASH_LEN

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["JsonRpc", "active_depths", "changes", "hash_from_text", "text_of_hash"]

T = TypeVar("T")

WALK_MAX: Final = 10_000
"""Blocks that are walked over: two months of them. After longer, only the new tip is told."""

ATTEMPTS_MAX: Final = 5
"""The chain may move while it is looked at; it does not do so at every look."""


class JsonRpc(Protocol):
    """Is anything that carries a JSON-RPC question to a node."""

    @property
    def name(self) -> str:
        """What messages call the node."""

    async def call(self, method: str, *params: Any, deadline_s: float | None = None) -> Any:
        """Asks; returns the result.

        Raises:
            RpcRefusedError: The node answers with an error.
            NodeError: The node does not answer, or answers nonsense.
        """

    async def call_for(
        self, kind: type[T], method: str, *params: Any, deadline_s: float | None = None
    ) -> T:
        """Asks for a result of a kind that msgspec checks; raises as `call` does."""


def text_of_hash(block_hash: bytes) -> str:
    """Returns a hash as nodes write it."""
    return block_hash[::-1].hex()


def hash_from_text(text: Any) -> bytes:
    """Returns the hash that a node wrote.

    Raises:
        NodeError: It is none.
    """
    try:
        raw = bytes.fromhex(text)[::-1]
    except (TypeError, ValueError):
        raw = b""
    if len(raw) != HASH_LEN:
        raise NodeError(f"a node calls {text!r} a hash")
    return raw


async def changes(
    rpc: JsonRpc, old: bytes, new: bytes
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Walks from one tip to another.

    Returns:
        The blocks that joined the active chain, upwards, the last being `new`; and those that left
        it, downwards from `old`. Only `new` and nothing when the way is longer than `WALK_MAX`, or
        when the node does not know `old`.

    Raises:
        NodeError: The node does not answer, or its chain does not stand still.
    """
    for _ in range(ATTEMPTS_MAX):
        left, fork = await _way_down(rpc, old)
        if fork is None:
            return (new,), ()
        joined = await _way_up(rpc, fork, new)
        if joined is not None:
            return joined, left
    raise NodeError("the node's chain has changed at every look: ask again")


async def active_depths(rpc: JsonRpc, hashes: Sequence[bytes]) -> dict[bytes, int | None]:
    """Returns how deep each block is on the active chain, the tip being 1; else None.

    Raises:
        NodeError: The node does not answer.
    """
    depths: dict[bytes, int | None] = {}
    for each in hashes:
        header = await _header(rpc, each)
        depth = None if header is None else header["confirmations"]
        depths[each] = depth if depth is not None and depth > 0 else None
    return depths


async def _way_down(rpc: JsonRpc, old: bytes) -> tuple[tuple[bytes, ...], bytes | None]:
    """Returns what has left the chain, downwards, and the block below, which is still on it."""
    left: list[bytes] = []
    at = old
    while len(left) <= WALK_MAX:
        header = await _header(rpc, at)
        if header is None:
            return (), None
        if header["confirmations"] > 0:
            return tuple(left), at
        left.append(at)
        at = hash_from_text(header.get("previousblockhash"))
    return (), None


async def _way_up(rpc: JsonRpc, fork: bytes, new: bytes) -> tuple[bytes, ...] | None:
    """Returns the blocks above `fork` up to `new`; None when `fork` is not below `new`."""
    bottom = await _header(rpc, fork)
    header = await _header(rpc, new)
    if bottom is None or header is None:
        return None
    count = header["height"] - bottom["height"]
    if not 0 <= count <= WALK_MAX:
        return None if count < 0 else (new,)
    joined: list[bytes] = []
    at = new
    while at != fork:
        if len(joined) >= count:
            return None
        joined.append(at)
        below = await _header(rpc, at)
        if below is None:
            return None
        at = hash_from_text(below.get("previousblockhash"))
    return tuple(reversed(joined))


async def _header(rpc: JsonRpc, block_hash: bytes) -> dict[str, Any] | None:
    """Returns what the node tells of a block; None when it does not know it."""
    try:
        header = await rpc.call("getblockheader", text_of_hash(block_hash))
    except RpcRefusedError as error:
        if error.code == NOT_FOUND:
            return None
        raise
    numbers = ("confirmations", "height")
    if not isinstance(header, dict) or not all(type(header.get(each)) is int for each in numbers):
        raise NodeError(f"the node's answer about block {text_of_hash(block_hash)} is no header")
    return header

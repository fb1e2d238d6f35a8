"""Finds transactions of a node's mempool by the hash that covers their witnesses.

Nodes are asked for transactions by txid, and miners name them by wtxid. The mirror learns which
belong together, a bounded number at a time and only when somebody asks: the node lists its mempool
parents first and by fee, so what is worth mining is learnt first.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio

from radpool_sv2.errors import NodeError
from radpool_sv2.node.refusal import RpcRefusedError
from radpool_sv2.units import HASH_LEN, sha256d

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from radpool_sv2.node.rpc import NodeRpc

__all__ = ["MempoolMirror"]

T = TypeVar("T")

LOOKUPS_MAX: Final = 20_000
"""Transactions that are looked up at one refreshment: half a second's work of the node."""

ENTRIES_MAX: Final = 400_000
"""Some 200 bytes each; a node's mempool of 300 MB holds fewer."""

REFRESH_S: Final = 1.0
"""The least time between two refreshments, however many ask."""

LOOKUPS_AT_ONCE: Final = 500
TRANSACTIONS_AT_ONCE: Final = 100
"""Calls in one request; an answer stays far below the bound even of the largest transactions."""


class MempoolMirror:
    """Knows which transactions wait in a node's mempool."""

    def __init__(self, rpc: NodeRpc) -> None:
        self._rpc = rpc
        self._wtxids: dict[bytes, bytes] = {}
        self._txids: dict[bytes, bytes] = {}
        self._refreshed_s = float("-inf")
        self._refreshing = trio.Lock()

    async def find(self, wtxids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Returns those of the transactions that the node has, by their wtxid.

        Raises:
            NodeError: The node does not answer.
        """
        if any(each not in self._txids for each in wtxids):
            await self._refresh()
        wanted = [(each, self._txids[each]) for each in wtxids if each in self._txids]
        found: dict[bytes, bytes] = {}
        for some in _chunks(wanted, TRANSACTIONS_AT_ONCE):
            calls = [[txid[::-1].hex()] for _, txid in some]
            answers = await self._rpc.batch("getrawtransaction", calls)
            for (wtxid, _), answer in zip(some, answers, strict=True):
                raw = _bytes(answer)
                # The node may have replaced it by one with the same txid and another witness.
                if raw is not None and sha256d(raw) == wtxid:
                    found[wtxid] = raw
        return found

    async def _refresh(self) -> None:
        async with self._refreshing:
            if trio.current_time() - self._refreshed_s < REFRESH_S:
                return
            listed = await self._rpc.call_for(list[str], "getrawmempool")
            # A tenth of a second's work where the mempool is large, and anybody may call for it.
            gone, new = await trio.to_thread.run_sync(_compare, listed, self._wtxids)
            for txid in gone:
                self._txids.pop(self._wtxids.pop(txid), None)
            for some in _chunks(new, LOOKUPS_AT_ONCE):
                calls = [[txid[::-1].hex()] for txid in some]
                try:
                    entries = await self._rpc.batch("getmempoolentry", calls)
                except RpcRefusedError:
                    break  # not every program has this; whoever declares brings what it needs
                for txid, entry in zip(some, entries, strict=True):
                    wtxid = _hash(entry.get("wtxid")) if isinstance(entry, dict) else None
                    if wtxid is not None:
                        self._wtxids[txid] = wtxid
                        self._txids[wtxid] = txid
            self._refreshed_s = trio.current_time()


def _compare(listed: list[str], known: dict[bytes, bytes]) -> tuple[list[bytes], list[bytes]]:
    """Returns which of the known transactions are gone, and which are new, as many as looked up."""
    waiting = dict.fromkeys(
        txid for txid in map(_hash, islice(listed, ENTRIES_MAX)) if txid is not None
    )
    gone = [txid for txid in known if txid not in waiting]
    return gone, list(islice((txid for txid in waiting if txid not in known), LOOKUPS_MAX))


def _hash(shown: Any) -> bytes | None:
    raw = _bytes(shown)
    return raw[::-1] if raw is not None and len(raw) == HASH_LEN else None


def _bytes(text: Any) -> bytes | None:
    """Reads hex digits; None stands for what the node does not have (any more)."""
    if text is None:
        return None
    try:
        return bytes.fromhex(text)
    except (TypeError, ValueError) as error:
        raise NodeError(f"a node answers {str(text)[:40]!r} where hex digits belong") from error


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))

"""Gathers the transactions of declared templates: from memory, from the node, from the declarer.

A declaration names its transactions by wtxid. Most are known: declarers share most of a mempool,
and a re-declaration differs from the one before by a few. What neither the cache nor the node has
is asked of the declarer, who sends exactly that. An `Assembly` holds what it has found, so nothing
leaves the cache between the question and the answer.

Parsing and hashing run in worker threads without the interpreter's lock, a few at a time: a
declarer that sends megabytes keeps neither the event loop nor all of the threads busy. Lists are
looked up a few at a time as well.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, Protocol, TypeVar

import structlog
import trio

from radpool_sv2._native.template import Declaration, Selection
from radpool_sv2.errors import NodeError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from radpool_sv2._native.template import TransactionCache
    from radpool_sv2.templates.declared import TipView

__all__ = ["Assembler", "Assembly", "TransactionSource"]

log = structlog.get_logger(__name__)

THREADS_MAX: Final = 2
"""Each call spreads over the processors by itself when it has much to hash."""

RESOLVED_AT_ONCE: Final = 4
"""While a node is asked for transactions, others may be looked up in memory."""

P = ParamSpec("P")
R = TypeVar("R")


class TransactionSource(Protocol):
    """Is what is asked of the node: `radpool_sv2.templates.source.TemplateSource` has it."""

    async def known_transactions(self, wtxids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Returns those transactions that the node's mempool has."""


class Assembler:
    """Is what all declarations share: a cache of transactions, and the node's mempool."""

    def __init__(self, cache: TransactionCache, source: TransactionSource) -> None:
        self._cache = cache
        self._source = source
        self._threads = trio.CapacityLimiter(THREADS_MAX)
        self._resolving = trio.CapacityLimiter(RESOLVED_AT_ONCE)

    async def begin(
        self,
        *,
        version: int,
        coinbase_prefix: bytes,
        coinbase_suffix: bytes,
        wtxids: Sequence[bytes],
    ) -> Assembly:
        """Looks up what is known of a template's transactions.

        Args:
            version: The header's version before rolling.
            coinbase_prefix: The coinbase before the extranonce, as declared.
            coinbase_suffix: The coinbase behind the extranonce, as declared.
            wtxids: The transactions in block order, without the coinbase.

        Raises:
            RemoteProtocolError: The list is longer than any block's.
        """
        async with self._resolving:
            selection = await self.run_apart(Selection, self._cache, b"".join(wtxids))
            missing = await self.run_apart(getattr, selection, "missing")
            if missing:
                await self._ask_node(selection, [wtxids[position] for position in missing])
                missing = await self.run_apart(getattr, selection, "missing")
        return Assembly(self, selection, missing, version, coinbase_prefix, coinbase_suffix)

    async def tidy(self) -> None:
        """Drops from the cache what nobody holds and what is too much for it."""
        await self.run_apart(self._cache.add, ())

    async def run_apart(self, call: Callable[P, R], *given: P.args, **named: P.kwargs) -> R:
        """Runs a native call in a worker thread."""
        return await trio.to_thread.run_sync(partial(call, *given, **named), limiter=self._threads)

    async def _ask_node(self, selection: Selection, wtxids: Sequence[bytes]) -> None:
        try:
            known = await self._source.known_transactions(wtxids)
            await self.run_apart(selection.offer, list(known.values()))
        except NodeError as error:
            # The declarer has them all; the verdict will find a node, or say that there is none.
            log.warning("the node's mempool is not looked at", reason=str(error))
        except RemoteProtocolError as error:
            log.warning("the node's mempool cannot be read", reason=str(error))


class Assembly:
    """Is one template on its way: its list is known, some of its transactions may be missing.

    Attributes:
        missing: The positions that only the declarer can fill, ascending.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of a template
        self,
        assembler: Assembler,
        selection: Selection,
        missing: Sequence[int],
        version: int,
        coinbase_prefix: bytes,
        coinbase_suffix: bytes,
    ) -> None:
        self._assembler = assembler
        self._selection: Selection | None = selection
        self.missing = tuple(missing)
        self._version = version
        self._prefix = coinbase_prefix
        self._suffix = coinbase_suffix

    async def supply(self, raws: Sequence[bytes]) -> None:
        """Takes the declarer's answer: the missing transactions, in that order.

        Raises:
            RemoteProtocolError: It is anything else; nothing is taken then.
        """
        assert self._selection is not None, "nothing is supplied to what was put together"
        await self._assembler.run_apart(self._selection.supply, raws)

    async def declaration(self, *, tip: TipView) -> Declaration:
        """Puts the template together on a tip, its structure judged; once, at the end.

        Raises:
            RemoteProtocolError: Its coinbase is none; the error code is `invalid-coinbase-tx`.
            LocalProtocolError: A transaction is still missing.
        """
        assert self._selection is not None, "a template is put together once"
        # From here on the declaration alone holds the transactions.
        selection, self._selection = self._selection, None
        return await self._assembler.run_apart(
            Declaration.build,
            selection,
            version=self._version,
            prev_hash=tip.prev_hash,
            nbits=tip.nbits,
            height=tip.height,
            coinbase_prefix=self._prefix,
            coinbase_suffix=self._suffix,
            # The least time is above the median by one at least; a source may give a later one,
            # which leaves some locktimes to the full verdict and never refuses a good template.
            median_time=tip.min_ntime - 1,
        )

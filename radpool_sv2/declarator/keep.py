"""Keeps accepted templates while somebody may mine them, within a bound of memory.

Theory of operation. A template that passed the verdict is held by its token, by the connection that
may push a block of it, and by the pool while it is mined. Most share their transactions, so each is
small; but a miner can make any number of valid ones that share nothing and will never be mined.
What all of them take is known: the cache counts each transaction once that anybody holds. Beyond
the bound, the site whose templates are the largest lets go of its oldest one, until it is enough.

A template that was let go has no transactions any more: its token is worth nothing, and a block on
it can be sent by its miner alone. Templates of blocks that are gone are let go as well.

To free the transactions of many templates takes time, just when a new block has come and every
miner waits for its job. So these templates are buried one after the other, by a task.

The keep makes nothing live longer: what nobody holds is gone from it.
"""

from __future__ import annotations

import itertools
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

import trio

from radpool_sv2.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

__all__ = ["KeptTemplate", "TemplateKeep"]

BYTES_PER_TRANSACTION: Final = 128
"""What a template takes for each transaction besides the transaction: its ids and a reference."""


class NativeTemplate(Protocol):
    """Is what is kept; `_native.template.Declaration` is one."""

    @property
    def merkle_path(self) -> Sequence[bytes]:
        """The siblings of the coinbase, from the leaves up."""

    @property
    def tx_count(self) -> int:
        """How many transactions it has besides the coinbase."""

    @property
    def size(self) -> int:
        """The block's bytes."""

    def block_of(self, header: bytes, coinbase_tx: bytes) -> bytes:
        """Assembles a block."""


class Memory(Protocol):
    """Counts what transactions take; `_native.template.TransactionCache` does."""

    @property
    def bytes(self) -> int:
        """All of them, each once, whoever holds it."""


class KeptTemplate:
    """Is a declared template that may be let go.

    Attributes:
        site: Where it came from.
        prev_hash: The block that it builds on.
        size: The block's bytes.
        overhead: What it takes besides its transactions, bytes.
        is_kept: Whether it has its transactions.
    """

    def __init__(self, template: NativeTemplate, site: str, prev_hash: bytes) -> None:
        self.site = site
        self.prev_hash = prev_hash
        self.size = template.size
        self.overhead = template.tx_count * BYTES_PER_TRANSACTION
        self._template: NativeTemplate | None = template

    @property
    def is_kept(self) -> bool:
        """Whether it has its transactions."""
        return self._template is not None

    @property
    def merkle_path(self) -> Sequence[bytes]:
        """The siblings of the coinbase; none once it was let go."""
        return () if self._template is None else self._template.merkle_path

    def block_of(self, header: bytes, coinbase_tx: bytes) -> bytes:
        """Assembles the block of a solved header and the coinbase that was mined.

        Raises:
            LocalProtocolError: They do not belong to this template, or it was let go.
        """
        if self._template is None:
            raise LocalProtocolError("the template's transactions were let go, to save memory")
        return self._template.block_of(header, coinbase_tx)

    def let_go(self) -> NativeTemplate | None:
        """Lets the transactions go: they are freed with what this returns."""
        template, self._template = self._template, None
        return template


class TemplateKeep:
    """Knows the templates that are kept.

    Args:
        memory: Counts their transactions.
        bytes_max: What they may take in all, with what the cache keeps besides.
    """

    def __init__(self, memory: Memory, bytes_max: int) -> None:
        self._memory = memory
        self._bytes_max = bytes_max
        self._numbers = itertools.count()
        self._kept: dict[int, weakref.ref[KeptTemplate]] = {}
        self._overhead: Counter[int] = Counter()
        self._dead: list[NativeTemplate | None] = []
        self._died = trio.Event()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes_held(self) -> int:
        """What the templates take, with what the cache keeps besides."""
        return self._memory.bytes + self._overhead.total()

    def keep(self, template: NativeTemplate, site: str, prev_hash: bytes) -> KeptTemplate:
        """Keeps a template as long as somebody holds what this returns."""
        number = next(self._numbers)
        kept = KeptTemplate(template, site, prev_hash)
        self._kept[number] = weakref.ref(kept, lambda _: self._forget(number))
        self._overhead[number] = kept.overhead
        return kept

    def keep_tips(self, tips: Collection[bytes]) -> None:
        """Lets go of templates that build on none of these blocks; `bury` frees them."""
        for number, kept in self._living():
            if kept.prev_hash not in tips:
                self._forget(number)
                self._dead.append(kept.let_go())
        self._died.set()
        self._died = trio.Event()

    async def bury(self) -> None:
        """Frees what was let go, a template at a time, until cancelled."""
        while True:
            while self._dead:
                self._dead.pop()
                await trio.lowlevel.checkpoint()
            await self._died.wait()

    async def make_room(self, tidy: Callable[[], Awaitable[object]]) -> int:
        """Lets templates go until the bound is kept; returns how many.

        Args:
            tidy: Makes `memory` drop what nobody holds.
        """
        gone = 0
        while self.bytes_held > self._bytes_max and self._kept:
            sizes: Counter[str] = Counter()
            living = self._living()
            for _, kept in living:
                sizes[kept.site] += kept.size
            [(largest, _)] = sizes.most_common(1)
            number, oldest = next(each for each in living if each[1].site == largest)
            self._forget(number)
            oldest.let_go()
            gone += 1
            await tidy()
        return gone

    def _living(self) -> list[tuple[int, KeptTemplate]]:
        """Returns the templates that are kept, the oldest first."""
        found = ((number, reference()) for number, reference in self._kept.items())
        return [(number, kept) for number, kept in found if kept is not None]

    def _forget(self, number: int) -> None:
        self._kept.pop(number, None)
        del self._overhead[number]

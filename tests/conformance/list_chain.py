"""A chain that is a list of hashes, which a test writes: blocks, reorganisations, templates."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import trio
from engine_pool import WITNESS_COMMITMENT, push_height
from peer import work

from radpool_sv2.templates.source import (
    SubmitResult,
    SubmitStatus,
    Template,
    TemplateUpdate,
    Tip,
    TipChanged,
)

if TYPE_CHECKING:
    from radpool_sv2.templates.source import Solution

BASE_HEIGHT = 1_000
NO_BLOCK_ZEROS = 64
NBITS = 0x207FFFFF
VALUE_SATS = 5_000_000_000


class ListChain:
    """Is a template source; what it tells goes to whichever pool follows it."""

    name = "list"

    def __init__(self) -> None:
        self.blocks: list[bytes] = [hashlib.sha256(b"list chain").digest()]
        self.block_zeros = NO_BLOCK_ZEROS
        self.refuse = False
        self.submitted: list[Solution] = []
        self._templates: dict[int, bytes] = {}
        self._made = 0
        self._born = int(time.time()) - 600
        self._follow()

    def _follow(self) -> None:
        self.updates_send, self.updates = trio.open_memory_channel[TemplateUpdate](64)
        self.events_send, self.events = trio.open_memory_channel[TipChanged](64)

    @property
    def height(self) -> int:
        return BASE_HEIGHT + len(self.blocks) - 1

    @property
    def tip(self) -> bytes:
        return self.blocks[-1]

    # --- what a pool asks

    def problems(self) -> list[str]:
        return []

    def solution_socket(self) -> None:
        return None

    async def submit_solution(self, solution: Solution) -> SubmitResult:
        self.submitted.append(solution)
        if solution.hash in self.blocks:
            return SubmitResult(SubmitStatus.DUPLICATE, active=True)
        if self.refuse or self._templates.get(solution.template_id) != self.tip:
            return SubmitResult(SubmitStatus.ACCEPTED, active=False)
        await self._change([], [solution.hash])
        return SubmitResult(SubmitStatus.ACCEPTED, active=True)

    async def active_blocks(self, hashes) -> dict[bytes, int | None]:
        depth = {each: len(self.blocks) - at for at, each in enumerate(self.blocks)}
        return {each: depth.get(each) for each in hashes}

    # --- what a test does

    async def begin(self) -> None:
        """Tells a pool that has just started where the chain is."""
        self._follow()
        await self._publish()
        await self.events_send.send(TipChanged(self.height, self.tip, (), ()))

    async def extend(self, count: int = 1) -> None:
        """Somebody else finds blocks."""
        for _ in range(count):
            await self._change([], [self._foreign()])

    async def replace(self, depth: int) -> list[bytes]:
        """A longer branch of somebody else takes the place of the last blocks; returns these."""
        gone = self.blocks[-depth:][::-1]
        await self._change(gone, [self._foreign() for _ in range(depth + 1)])
        return gone

    async def restore(self, lost: list[bytes]) -> None:
        """The branch that was replaced wins after all; `lost` is what `replace` returned."""
        gone = self.blocks[-len(lost) - 1 :][::-1]
        back = [*lost[::-1], self._foreign(), self._foreign()]
        await self._change(gone, back)

    async def ask_for(self, zeros: int) -> None:
        """From now on a block takes so many zero bits; templates follow at once."""
        self.block_zeros = zeros
        await self._publish()

    def _foreign(self) -> bytes:
        self._made += 1
        return hashlib.sha256(b"foreign" + self._made.to_bytes(4, "big")).digest()

    async def _change(self, gone: list[bytes], new: list[bytes]) -> None:
        if gone:
            del self.blocks[-len(gone) :]
        self.blocks += new
        await self._publish()
        await self.events_send.send(TipChanged(self.height, self.tip, tuple(new), tuple(gone)))

    async def _publish(self) -> None:
        number = len(self._templates) + 1
        self._templates[number] = self.tip
        template = Template(
            id=number,
            height=self.height + 1,
            version=0x20000000,
            coinbase_tx_version=2,
            coinbase_prefix=push_height(self.height + 1),
            coinbase_sequence=0xFFFFFFFE,
            template_outputs=WITNESS_COMMITMENT,
            template_output_count=1,
            coinbase_locktime=0,
            merkle_path=(b"\x11" * 32,),
            value_sats=VALUE_SATS,
            fees_sats=0,
            tx_count=1,
            weight=1_000,
        )
        tip = Tip(
            template_id=number,
            prev_hash=self.tip,
            # All templates on one tip have the same.
            min_ntime=self._born + len(self.blocks),
            nbits=NBITS,
            target=work.ladder_target(self.block_zeros),
        )
        await self.updates_send.send(TemplateUpdate(template, tip))

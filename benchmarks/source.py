"""Makes work that costs nothing: a template source without a node behind it.

A merkle path of 12, a target that no share meets, and a new tip whenever it is told to. Pools get
it from within their process, or over the wire from `benchmarks.provider`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING

import trio

from radpool_sv2.errors import NodeError
from radpool_sv2.templates.source import (
    BlockVerdict,
    ChainEvent,
    Solution,
    SubmitResult,
    SubmitStatus,
    Template,
    TemplateTransactions,
    TemplateUpdate,
    Tip,
    TipChanged,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

PATH_LEN = 12
"""A block of some 4,000 transactions."""
NBITS = 0x1D00FFFF
"""Difficulty 1: one share in 2^32 would be a block."""
UPDATES_PENDING_MAX = 16
SETTLE_SECONDS = 0.5
"""From a tip to the template of the next: its jobs must not compete with the tip."""


def tell(line: dict[str, object]) -> None:
    """Writes a line for whoever started this process."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def words() -> AsyncGenerator[bytes]:
    """Reads words from stdin until it ends."""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
        async for data in stdin:
            for word in data.split():
                yield bytes(word)


class SyntheticSource:
    """Is a template source without a node: a new tip comes when it is told to."""

    name = "synthetic"

    def __init__(self) -> None:
        self._ticks, self._ticked = trio.open_memory_channel[None](1)
        self._number = 0

    async def run(
        self,
        updates: trio.MemorySendChannel[TemplateUpdate],
        chain_events: trio.MemorySendChannel[ChainEvent],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Sends a first tip, then one for each line on stdin, and each next template ahead."""
        template = self._template()
        tip = self._tip(template)
        await updates.send(TemplateUpdate(template, tip))
        await chain_events.send(TipChanged(template.height - 1, tip.prev_hash, (), ()))
        task_status.started()
        while True:
            await trio.sleep(SETTLE_SECONDS)
            template = self._template()
            await updates.send(TemplateUpdate(template, None))
            await self._ticked.receive()
            tip = self._tip(template)
            started_ns = time.monotonic_ns()
            await updates.send(TemplateUpdate(template, tip))
            tell({"event": "tip", "prev_hash": tip.prev_hash.hex(), "sent_ns": started_ns})

    def next_tip(self) -> None:
        """Lets the next tip come as soon as its template is out."""
        self._ticks.send_nowait(None)

    def _template(self) -> Template:
        self._number += 1
        height = 800_000 + self._number
        commitment = b"\x6a\x24\xaa\x21\xa9\xed" + bytes(32)
        return Template(
            id=self._number,
            height=height,
            version=0x20000000,
            coinbase_tx_version=2,
            coinbase_prefix=b"\x03" + height.to_bytes(3, "little"),
            coinbase_sequence=0xFFFFFFFF,
            template_outputs=bytes(8) + bytes([len(commitment)]) + commitment,
            template_output_count=1,
            coinbase_locktime=0,
            merkle_path=tuple(hashlib.sha256(bytes([level])).digest() for level in range(PATH_LEN)),
            value_sats=312_500_000,
            fees_sats=0,
            tx_count=4_000,
            weight=3_990_000,
        )

    @staticmethod
    def _tip(template: Template) -> Tip:
        return Tip(
            template_id=template.id,
            prev_hash=hashlib.sha256(template.height.to_bytes(4, "little")).digest(),
            min_ntime=int(time.time()),
            nbits=NBITS,
            target=(0xFFFF << 208).to_bytes(32, "little"),
        )

    async def submit_solution(self, solution: Solution) -> SubmitResult:  # noqa: ARG002
        """Takes every block; one share in 2^32 is one."""
        return SubmitResult(SubmitStatus.ACCEPTED)

    def solution_socket(self) -> Path | None:
        """Returns nothing: there is no node."""
        return None

    def problems(self) -> list[str]:
        """Returns nothing: there is no node."""
        return []

    def constrain(self, size: int, sigops: int) -> None:
        """Takes note of nothing: there is room."""

    async def active_blocks(self, hashes: Sequence[bytes]) -> dict[bytes, int | None]:
        """Knows no block."""
        return dict.fromkeys(hashes)

    async def transactions(self, template_id: int) -> TemplateTransactions:  # noqa: ARG002
        """Returns none: only their merkle path was made up."""
        return TemplateTransactions((), ())

    async def known_transactions(self, wtxids: Sequence[bytes]) -> dict[bytes, bytes]:  # noqa: ARG002
        """Knows no transaction."""
        return {}

    async def check_block(self, block: bytes) -> BlockVerdict:  # noqa: ARG002
        """Judges nothing: there is no node."""
        raise NodeError("no node stands behind synthetic templates")

    async def submit_block(self, block: bytes) -> SubmitResult:  # noqa: ARG002
        """Takes every block."""
        return SubmitResult(SubmitStatus.ACCEPTED)

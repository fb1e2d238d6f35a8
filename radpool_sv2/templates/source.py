"""Defines what the pool asks of a source of block templates, whatever node stands behind it.

Hashes are 32 bytes in internal byte order. A template and the tip it builds on travel together, so
a reader that keeps only the newest update is never wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import trio

__all__ = [
    "STALE_PREVBLK",
    "BlockVerdict",
    "ChainEvent",
    "Solution",
    "SubmitResult",
    "SubmitStatus",
    "Template",
    "TemplateSource",
    "TemplateTransactions",
    "TemplateUpdate",
    "Tip",
    "TipChanged",
]

STALE_PREVBLK = "stale-prevblk"
"""Why a block cannot be judged that builds on another block than the tip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """Is what a node wants in the next block; the pool adds its own outputs in front.

    Args:
        id: The source's number of it; never used again, across restarts too.
        height: The height of the block.
        version: The header's version before rolling.
        coinbase_tx_version: The coinbase transaction's version.
        coinbase_prefix: How the coinbase's script begins: the push of the height (BIP 34).
        coinbase_sequence: The sequence of the coinbase's input.
        template_outputs: Serialised outputs that come last in the coinbase: the witness commitment.
        template_output_count: How many these are.
        coinbase_locktime: The coinbase transaction's locktime.
        merkle_path: The siblings of the coinbase, from the leaves up.
        value_sats: What the coinbase may pay: subsidy and fees.
        fees_sats: The fees in it.
        tx_count: How many transactions the block has besides the coinbase.
        weight: The block's weight, with room reserved for the coinbase, in weight units.
        rule: What the source asks beyond consensus, in words for whoever looks; empty on chains
            that ask nothing more.
    """

    id: int
    height: int
    version: int
    coinbase_tx_version: int
    coinbase_prefix: bytes
    coinbase_sequence: int
    template_outputs: bytes
    template_output_count: int
    coinbase_locktime: int
    merkle_path: tuple[bytes, ...]
    value_sats: int
    fees_sats: int
    tx_count: int
    weight: int
    rule: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tip:
    """Is the block that a template builds on.

    Args:
        template_id: The template that is mined on it.
        prev_hash: The tip's hash.
        min_ntime: The earliest time of headers of the templates, s; the same for all on one tip.
        nbits: The header's compact target.
        target: What a solution's hash must not exceed, 32 bytes little-endian. On the embedded
            chain it may be harder than `nbits`.
        time_min: The earliest time of the next header that consensus allows, s; None where the
            source does not tell.
    """

    template_id: int
    prev_hash: bytes
    min_ntime: int
    nbits: int
    target: bytes
    time_min: int | None = None


@dataclass(frozen=True, slots=True)
class TemplateUpdate:
    """Is a new template; without a tip it is meant for the tip after this one."""

    template: Template
    tip: Tip | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Solution:
    """Is a share that solves its template's block.

    Args:
        template_id: The template.
        version: The header's version with its rolled bits.
        ntime: The header's time, s.
        nonce: The header's nonce.
        coinbase_tx: The whole coinbase transaction with its witness.
        hash: The block's hash.
    """

    template_id: int
    version: int
    ntime: int
    nonce: int
    coinbase_tx: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class TemplateTransactions:
    """Is what a template's block holds besides the coinbase.

    Args:
        raw: The transactions with their witnesses, in the order of the block.
        fees_sats: The fee of each; None when the node does not tell.
    """

    raw: tuple[bytes, ...]
    fees_sats: tuple[int, ...] | None

    def sharing(self, other: TemplateTransactions) -> TemplateTransactions:
        """Returns the same, which shares the memory of what another template has, too."""
        known = {each: each for each in other.raw}
        return TemplateTransactions(
            tuple(known.get(each, each) for each in self.raw), self.fees_sats
        )


@dataclass(frozen=True, slots=True)
class BlockVerdict:
    """Is what consensus says of a block that need not have proof of work.

    Args:
        valid: Whether the node would take the block, had it proof of work.
        reason: Bitcoin Core's word for what is wrong, such as `bad-cb-amount`; `STALE_PREVBLK` for
            a block that does not build on the tip; empty when it is valid.
        detail: The node's explanation.
    """

    valid: bool
    reason: str = ""
    detail: str = ""


class SubmitStatus(Enum):
    """Says what the node answered to a solution."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """Is the node's answer to a solution.

    Args:
        status: The answer.
        reason: The node's word for a refusal, such as `bad-cb-amount`; else empty.
        detail: The node's explanation.
        active: Whether the block is on the active chain now. An accepted block that is not lost
            the race to another one, and may still win when miners build on it.
    """

    status: SubmitStatus
    reason: str = ""
    detail: str = ""
    active: bool = False


@dataclass(frozen=True, slots=True)
class TipChanged:
    """Says that the active chain has another tip.

    Args:
        height: The new tip's height.
        hash: The new tip's hash.
        connected: Blocks that joined the active chain, upwards; the last is the tip.
        disconnected: Blocks that left it, downwards from the old tip.
    """

    height: int
    hash: bytes
    connected: tuple[bytes, ...]
    disconnected: tuple[bytes, ...]


ChainEvent = TipChanged


class TemplateSource(Protocol):
    """Is a source of templates and an outlet for blocks, in front of one node."""

    @property
    def name(self) -> str:
        """What the configuration calls it."""

    async def run(
        self,
        updates: trio.MemorySendChannel[TemplateUpdate],
        chain_events: trio.MemorySendChannel[ChainEvent],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Runs until cancelled and survives its node; has started once a template is known.

        The first chain event tells the tip, with nothing connected or disconnected. After the node
        was away, one event tells all that has changed meanwhile.
        """

    async def submit_solution(self, solution: Solution) -> SubmitResult:
        """Gives a block to the node, waiting for it while it is away; idempotent."""

    def solution_socket(self) -> Path | None:
        """Returns the unix socket that takes solutions without Python in between, if there is."""

    async def active_blocks(self, hashes: Sequence[bytes]) -> dict[bytes, int | None]:
        """Returns how deep each block is on the active chain, the tip being 1; else None."""

    async def transactions(self, template_id: int) -> TemplateTransactions:
        """Returns the transactions of a template of this tip or the one before.

        Raises:
            LocalProtocolError: The template is not remembered.
            NodeError: The node does not answer.
        """

    async def known_transactions(self, wtxids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Returns those transactions that the node's mempool has, with their witnesses.

        Raises:
            NodeError: The node does not answer.
        """

    async def check_block(self, block: bytes) -> BlockVerdict:
        """Judges a whole block, with its witnesses, by all rules but the proof of work.

        Raises:
            NodeError: The node does not answer, or not in time.
        """

    async def submit_block(self, block: bytes) -> SubmitResult:
        """Gives a whole block to the node, waiting for it while it is away; idempotent."""

    def constrain(self, size: int, sigops: int) -> None:
        """Asks that further templates leave room for the coinbase's outputs.

        Args:
            size: The bytes of all outputs that are going to be added, at most.
            sigops: Their legacy signature operations, at most.
        """

    def problems(self) -> list[str]:
        """Tells what is wrong with the node, in plain words; nothing when it is healthy."""

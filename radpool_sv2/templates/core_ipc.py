"""Takes templates from Bitcoin Core's mining interface, over its unix socket.

Theory of operation. One connection at a time (`CoreLink`); while it lasts, one task follows the
node: it asks for a template, passes it on, and lets the node tell when there is a better one. For
`interval_s` only another tip counts, after that fees that have risen as well. Templates are fetched
whole and kept on the shelf before anybody mines on them.

A block goes to the node twice: as header and coinbase for the template that the node keeps, which
takes no time, and then whole, which tells what became of it and works after restarts of the node
and of this process too.

Source: Bitcoin Core, `src/interfaces/mining.h`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.errors import LocalProtocolError, NodeError
from radpool_sv2.node.branch import active_depths, changes
from radpool_sv2.node.core import CoreLink
from radpool_sv2.node.health import examine_node
from radpool_sv2.node.mempool import MempoolMirror
from radpool_sv2.node.submission import submit_everywhere
from radpool_sv2.templates.shelf import TemplateShelf
from radpool_sv2.templates.source import (
    STALE_PREVBLK,
    BlockVerdict,
    SubmitResult,
    SubmitStatus,
    Template,
    TemplateTransactions,
    TemplateUpdate,
    Tip,
    TipChanged,
)
from radpool_sv2.units import HASH_LEN, sha256d

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from radpool_sv2._native.ipc import CoreTemplate
    from radpool_sv2.network import Network
    from radpool_sv2.node.health import NodeHealth
    from radpool_sv2.node.ipc import CoreNode
    from radpool_sv2.node.rpc import NodeRpc
    from radpool_sv2.templates.source import ChainEvent, Solution

__all__ = ["CoreIpcSource"]

log = structlog.get_logger(__name__)

FEE_RISE_SATS: Final = 1
"""What makes a new template once `interval_s` is over: any rise, as each sat is somebody's."""

FEE_WAIT_MS: Final = 30_000
"""How long a node is asked to wait for that; between two waits it is examined."""

EXAMINE_S: Final = 2.0
"""How often a node that is not ready is asked whether it is."""

BARE_WEIGHT: Final = 1_168
"""Header, count, and a coinbase with the longest script, the commitment and no other output: 80
and 3 bytes, 153 bytes of coinbase and 47 of the commitment, 36 weight units of witness."""

RESERVED_WEIGHT_MIN: Final = 2_000
"""Bitcoin Core takes no less (`MINIMUM_BLOCK_RESERVED_WEIGHT`)."""

OUTPUT_SIZE: Final = 1_000
OUTPUT_SIGOPS: Final = 16
"""Room for coinbase outputs until `constrain` says otherwise: twenty of them."""

TEMPLATES_MAX: Final = 1_024
"""Templates that can still be solved, for longer than a job may stay valid. They share their
transactions."""

HANDLES_MAX: Final = 64
"""Templates that the node is asked to keep as well; a block of an older one goes in whole."""

LANDED_MAX: Final = 64
"""Blocks that are remembered, to tell a block that comes again from one that is new."""

LOOKUPS_AT_ONCE: Final = 100
FOUND_BYTES_MAX: Final = 8_000_000
"""No block holds more: whoever names more transactions than that is not told of the rest."""

RETRY_S: Final = 1.0

HEADER_LEN: Final = 80

_STALE: Final = {"inconclusive-not-best-prevblk", "duplicate", "duplicate-inconclusive"}


class CoreIpcSource:
    """Is the template source in front of Bitcoin Core's socket."""

    name = "core_ipc"

    def __init__(  # noqa: PLR0913 - settings, each with a name at every call
        self,
        path: Path,
        network: Network,
        *,
        trusted_uids: Sequence[int],
        directory: Path | None,
        interval_s: float,
        rpc: NodeRpc | None = None,
        block_zeros: int = 0,
    ) -> None:
        """Names the node; nothing is asked before `run`.

        Args:
            path: The node's unix socket.
            network: What it must be on.
            trusted_uids: Users that may run it.
            directory: Where templates are kept for a restart; None keeps none.
            interval_s: How often better fees make a new template, at most.
            rpc: The node's RPC interface, which Bitcoin Core 31 needs.
            block_zeros: On regtest, the leading zero bits that a block's hash must have besides.
        """
        self._link = CoreLink(path, trusted_uids, rpc)
        self._mirror = None if rpc is None else MempoolMirror(rpc)
        self._network = network
        self._interval_ms = int(interval_s * 1000)
        self._block_zeros = 0 if network.is_real else block_zeros
        self._shelf = TemplateShelf(directory, templates_max=TEMPLATES_MAX)
        self._newest: TemplateTransactions | None = None
        self._to_save = trio.Event()
        self._room = (OUTPUT_SIZE, OUTPUT_SIGOPS)
        self._handles: dict[int, int] = {}
        self._waiting: tuple[CoreNode, int] | None = None
        self._made_for = self._room
        self._tip: Tip | None = None
        self._told_tip: bytes | None = None
        self._health: NodeHealth | None = None
        self._landed: list[bytes] = []

    async def run(
        self,
        updates: trio.MemorySendChannel[TemplateUpdate],
        chain_events: trio.MemorySendChannel[ChainEvent],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Follows the node until cancelled; has started once a template is known."""
        self._told_tip = None
        has_started = False

        async def pass_on(update: TemplateUpdate) -> None:
            nonlocal has_started
            await updates.send(update)
            if not has_started:
                has_started = True
                task_status.started()
            await self._tell_change(update, chain_events)

        async def follow(node: CoreNode) -> None:
            self._handles.clear()
            current = await self._make(node)
            while True:
                update = self._shelve(node, current)
                await pass_on(update)
                self._link.problem = ""
                current = await self._next(node, current)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._save)
                nursery.start_soon(self._link.run, follow)
        finally:
            if self._link.beside is not None:
                with trio.CancelScope(shield=True):
                    await self._link.beside.aclose()

    async def submit_solution(self, solution: Solution) -> SubmitResult:
        """Gives a block to the node, waiting for it while it is away; idempotent.

        Raises:
            LocalProtocolError: The template is not kept, or the solution does not fit it.
        """
        block = await trio.to_thread.run_sync(self._shelf.block, solution)
        try:
            node = self._link.node
            handle = self._handles.get(solution.template_id)
            if handle is not None:
                await node.submit_solution(
                    handle,
                    version=solution.version,
                    ntime=solution.ntime,
                    nonce=solution.nonce,
                    coinbase_tx=solution.coinbase_tx,
                )
        except (NodeError, LocalProtocolError) as error:
            log.warning("a solution has not reached its template", reason=str(error))
        return await self._fate(block)

    async def submit_block(self, block: bytes) -> SubmitResult:
        """Gives a whole block to the node, waiting for it while it is away; idempotent."""
        return await self._fate(block)

    def solution_socket(self) -> Path | None:
        """Returns None: the node's socket speaks another language than the engine."""
        return None

    async def active_blocks(self, hashes: Sequence[bytes]) -> dict[bytes, int | None]:
        """Returns how deep each block is on the active chain; waits while the node is away."""
        while True:
            await self._link.found()
            try:
                return await active_depths(self._link, hashes)
            except NodeError as error:
                log.warning("the node does not tell of blocks", reason=str(error))
            await trio.sleep(RETRY_S)

    async def transactions(self, template_id: int) -> TemplateTransactions:
        """Returns the transactions of a template of this tip or the one before.

        Raises:
            LocalProtocolError: The template is not kept.
        """
        return await trio.to_thread.run_sync(self._shelf.transactions, template_id)

    async def known_transactions(self, wtxids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Returns those transactions that the node's mempool has, no more than a block holds.

        Raises:
            NodeError: The node does not answer.
        """
        node = self._link.node
        if not node.capabilities.finds_transactions:
            return {} if self._mirror is None else await self._mirror.find(wtxids)
        found: dict[bytes, bytes] = {}
        size = 0
        for start in range(0, len(wtxids), LOOKUPS_AT_ONCE):
            some = wtxids[start : start + LOOKUPS_AT_ONCE]
            raws = await node.find_transactions(some)
            found |= {wtxid: raw for wtxid, raw in zip(some, raws, strict=True) if raw}
            size += sum(map(len, raws))
            if size > FOUND_BYTES_MAX:
                break
        return found

    async def check_block(self, block: bytes) -> BlockVerdict:
        """Lets the node judge a block that need not have proof of work.

        Raises:
            NodeError: The node does not answer, or not in time.
        """
        try:
            verdict = await self._link.node.check_block(block)
        except LocalProtocolError as error:
            return BlockVerdict(False, "block-decode-failed", str(error))
        if verdict.reason in _STALE:
            return BlockVerdict(False, STALE_PREVBLK, verdict.detail)
        return BlockVerdict(verdict.good, verdict.reason, verdict.detail)

    def constrain(self, size: int, sigops: int) -> None:
        """Asks that further templates leave room for the coinbase's outputs."""
        if (size, sigops) == self._room:
            return
        self._room = (size, sigops)
        if self._waiting is not None:
            node, handle = self._waiting
            node.interrupt_wait(handle)

    def problems(self) -> list[str]:
        """Tells what is wrong with the node, in plain words; nothing when it is healthy."""
        found = [self._link.problem] if self._link.problem else []
        return found + list(self._health.problems if self._health else ())

    async def _make(self, node: CoreNode) -> CoreTemplate:
        """Asks for a first template, as soon as the node can be mined on."""
        while True:
            self._health = await examine_node(self._link, self._network)
            if self._health.is_usable:
                self._made_for = self._room
                size, sigops = self._made_for
                template = await node.create_template(
                    reserved_weight=_reserved(size),
                    coinbase_sigops=sigops,
                )
                if template is not None:
                    return template
            self._link.problem = (
                self._health.refusal
                or self._health.absence
                or f"the node at {self._link.name} gives no template: it is about to stop"
            )
            await trio.sleep(EXAMINE_S)

    async def _next(self, node: CoreNode, current: CoreTemplate) -> CoreTemplate:
        """Waits for a template that is better than the current one."""
        while True:
            for timeout_ms, rise in ((self._interval_ms, None), (FEE_WAIT_MS, FEE_RISE_SATS)):
                if self._made_for != self._room:
                    return await self._make(node)
                found = await self._wait(node, current.handle, timeout_ms, rise)
                if found is None:
                    continue
                if found.prev_hash != current.prev_hash or found.nbits == current.nbits:
                    return found
                # Test networks allow easier blocks after a while. Miners hear of a tip's difficulty
                # once, so they go on with the one that it began with.
                node.forget(found.handle)
                await trio.sleep(self._interval_ms / 1000)
            self._health = await examine_node(self._link, self._network)
            if not self._health.is_usable:
                return await self._make(node)

    async def _wait(
        self, node: CoreNode, handle: int, timeout_ms: int, rise: int | None
    ) -> CoreTemplate | None:
        self._waiting = (node, handle)
        try:
            return await node.next_template(handle, timeout_ms=timeout_ms, fee_rise_sats=rise)
        finally:
            self._waiting = None

    def _shelve(self, node: CoreNode, made: CoreTemplate) -> TemplateUpdate:
        """Keeps a template and returns what is passed on of it."""
        number = self._shelf.next_id()
        template = _template(made, number, self._block_zeros, _reserved(self._made_for[0]))
        self._tip = self._next_tip(made, number)
        transactions = TemplateTransactions(tuple(made.transactions), tuple(made.fees_sats))
        if self._newest is not None:
            transactions = transactions.sharing(self._newest)
        self._newest = transactions
        self._shelf.put(template, self._tip, transactions)
        self._to_save.set()
        self._handles[number] = made.handle
        newest = list(self._handles)[-HANDLES_MAX:]
        for old in [
            each for each in self._handles if each not in newest or not self._shelf.holds(each)
        ]:
            node.forget(self._handles.pop(old))
        return TemplateUpdate(template, self._tip)

    def _next_tip(self, made: CoreTemplate, number: int) -> Tip:
        before, target = self._tip, int.from_bytes(made.target, "little")
        if self._block_zeros:
            target = min(target, (1 << 8 * HASH_LEN - self._block_zeros) - 1)
        is_same = before is not None and before.prev_hash == made.prev_hash
        return Tip(
            template_id=number,
            prev_hash=made.prev_hash,
            min_ntime=before.min_ntime if before is not None and is_same else made.time,
            nbits=made.nbits,
            target=target.to_bytes(HASH_LEN, "little"),
        )

    async def _tell_change(
        self, update: TemplateUpdate, chain_events: trio.MemorySendChannel[ChainEvent]
    ) -> None:
        assert update.tip is not None
        tip = update.tip.prev_hash
        if tip == self._told_tip:
            return
        joined: tuple[bytes, ...] = ()
        left: tuple[bytes, ...] = ()
        if self._told_tip is not None:
            joined, left = await changes(self._link, self._told_tip, tip)
        await chain_events.send(TipChanged(update.template.height - 1, tip, joined, left))
        self._told_tip = tip

    async def _fate(self, block: bytes) -> SubmitResult:
        """Gives in the whole block, and tells what has become of it."""
        block_hash = sha256d(block[:HEADER_LEN])
        told = await submit_everywhere(lambda: [self._link], block)
        if not told.has_landed:
            return await self._refusal(block, told.reason)
        is_new = block_hash not in self._landed
        self._landed = [*self._landed, block_hash][-LANDED_MAX:]
        status = SubmitStatus.ACCEPTED if is_new else SubmitStatus.DUPLICATE
        return SubmitResult(status, active=told.active)

    async def _refusal(self, block: bytes, reason: str) -> SubmitResult:
        """Tells why a block is refused: a node that hears of it again knows only that it did."""
        try:
            verdict = await self.check_block(block)
        except NodeError:
            verdict = BlockVerdict(True)
        if verdict.valid or verdict.reason == STALE_PREVBLK:
            return SubmitResult(SubmitStatus.REJECTED, reason)
        return SubmitResult(SubmitStatus.REJECTED, verdict.reason, verdict.detail)

    async def _save(self) -> None:
        """Writes what is on the shelf to disk whenever something new is."""
        while True:
            await self._to_save.wait()
            self._to_save = trio.Event()
            await self._shelf.save()


def _reserved(size: int) -> int:
    """Returns the weight that is kept free for outputs of so many bytes."""
    return max(RESERVED_WEIGHT_MIN, BARE_WEIGHT + 4 * size)


def _template(made: CoreTemplate, number: int, block_zeros: int, reserved: int) -> Template:
    fees = made.fees_sats
    return Template(
        id=number,
        height=made.height,
        version=made.version,
        coinbase_tx_version=made.coinbase_tx_version,
        coinbase_prefix=made.coinbase_prefix,
        coinbase_sequence=made.coinbase_sequence,
        template_outputs=b"".join(made.outputs),
        template_output_count=len(made.outputs),
        coinbase_locktime=made.coinbase_locktime,
        merkle_path=tuple(made.merkle_path),
        value_sats=made.value_sats,
        fees_sats=sum(fees),
        tx_count=len(fees),
        weight=made.transactions_weight + reserved,
        rule=f"{block_zeros} leading zero bits" if block_zeros else "",
    )

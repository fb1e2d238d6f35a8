"""Takes templates from bitcoin nodes by `getblocktemplate`.

Theory of operation. Several nodes stand in an order. Each is watched all the time; the first that
is healthy is followed, and when an earlier one is healthy again it is followed instead. Following
a node is three tasks that share its templates: a long poll, which tells of a new tip at once; a
poll every `interval_s`, because a long poll tells of better fees a minute late; and the node's
ZeroMQ notices, where it sends them, which make the poll look at once. An answer that was asked for
before the tip last changed and that speaks of another tip is dropped and asked for again: it may
be of the time before.

A template is passed on when it builds on another block than the last one, or pays more. The chain's
change is told behind it, from what was told last, so that no node's absence leaves a gap.

Blocks go to all nodes. What they need besides the solution is on the shelf, in memory and on disk.

What a node cannot do any more is left to the next: without any node miners keep the last template,
and whoever asks for something that waits for a node waits.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final

import structlog
import trio

from radpool_sv2.cause import first_cause
from radpool_sv2.consensus import push_height, target_of_nbits
from radpool_sv2.errors import ConfigError, NodeError
from radpool_sv2.node.branch import changes, text_of_hash
from radpool_sv2.node.health import clock_problem, signet_problem, small_block_problem
from radpool_sv2.node.refusal import RpcRefusedError
from radpool_sv2.node.submission import submit_everywhere
from radpool_sv2.node.template import (
    COINBASE_SEQUENCE,
    COINBASE_VERSION,
    CoinbaseRoom,
    NodeTemplate,
    RawTemplate,
    read_template,
    rules_of,
)
from radpool_sv2.node.watch import NodeWatch, best_node
from radpool_sv2.node.zmq import follow_blocks
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
from radpool_sv2.units import HASH_LEN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from radpool_sv2.network import Network
    from radpool_sv2.node.rpc import NodeSettings
    from radpool_sv2.node.template import BlockTransaction
    from radpool_sv2.templates.source import ChainEvent, Solution

__all__ = ["GetblocktemplateSource"]

log = structlog.get_logger(__name__)

CHECK_S: Final = 30.0
"""How long a node may take to judge a proposed block."""

EXAMINE_S: Final = 300.0
"""How often a node's templates are looked at for what the operator should know."""

BACKWARD_S: Final = 30.0
"""How long a node is given, once it is turned to, to reach the height that another node had."""

LISTEN_RETRY_S: Final = 5.0
LONG_POLL_RETRY_S: Final = 1.0

WAIT_MS: Final = 20_000
"""How long a node on regtest is asked to wait for a block. A long poll there may wait for ever, and
each that is left behind keeps one of the node's few threads."""

TEMPLATES_MAX: Final = 1_024
"""Templates that can still be solved: 85 minutes of them at one every 5 s, longer than a job may
stay valid. They share their transactions; one takes some 100 KB besides."""

HEADERS_AT_ONCE: Final = 200
"""Blocks that are looked at by one request."""

READ_INLINE_MAX: Final = 50
"""Templates of more transactions are read in a thread: the hashes of 4,000 take some 10 ms."""

_STALE: Final = "inconclusive-not-best-prevblk"
_DUPLICATE: Final = {"duplicate", "duplicate-inconclusive"}


class GetblocktemplateSource:
    """Is the template source in front of one or several bitcoin nodes."""

    name = "bitcoind"

    def __init__(
        self,
        nodes: Sequence[NodeSettings],
        network: Network,
        *,
        directory: Path | None,
        interval_s: float,
        block_zeros: int = 0,
    ) -> None:
        """Names the nodes; nothing is asked before `run`.

        Args:
            nodes: The most wanted first.
            network: What they must be on.
            directory: Where templates are kept for a restart; None keeps none.
            interval_s: How often better fees are looked for.
            block_zeros: On regtest, the leading zero bits that a block's hash must have besides.
        """
        self._network = network
        self._changed = trio.Event()
        self._nodes = [NodeWatch(each, network, self._note_change) for each in nodes]
        self._shelf = TemplateShelf(directory, templates_max=TEMPLATES_MAX)
        self._interval_s = interval_s
        self._block_zeros = 0 if network.is_real else block_zeros
        self._rules = rules_of(network)
        self._room = CoinbaseRoom()
        self._wake = trio.Event()
        self._to_save = trio.Event()
        self._delivering = trio.Lock()
        self._node: NodeWatch | None = None
        self._newest: NodeTemplate | None = None
        self._published: NodeTemplate | None = None
        self._known: dict[bytes, BlockTransaction] = {}
        self._tip: Tip | None = None
        self._tips_seen = 0
        self._tip_node: NodeWatch | None = None
        self._followed_since_s = -math.inf
        self._told_tip: bytes | None = None

    async def run(
        self,
        updates: trio.MemorySendChannel[TemplateUpdate],
        chain_events: trio.MemorySendChannel[ChainEvent],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Follows the nodes until cancelled; has started once a template is known.

        Raises:
            ConfigError: No node can be used before its operator or the configuration changes.
        """
        self._told_tip = None
        self._published = None
        self._tip = None
        outlet = _Outlet(updates, chain_events, task_status)
        try:
            async with trio.open_nursery() as nursery:
                for node in self._nodes:
                    nursery.start_soon(node.run)
                nursery.start_soon(self._save)
                while True:
                    self._node = await self._choose(outlet)
                    await self._follow(self._node, outlet)
        finally:
            self._node = None
            with trio.CancelScope(shield=True):
                for node in self._nodes:
                    await node.rpc.aclose()

    async def submit_solution(self, solution: Solution) -> SubmitResult:
        """Puts the block together and gives it to all nodes; waits while none answers.

        Raises:
            LocalProtocolError: The template is not kept.
        """
        return await self.submit_block(await trio.to_thread.run_sync(self._shelf.block, solution))

    async def submit_block(self, block: bytes) -> SubmitResult:
        """Gives a whole block to all nodes, waiting while none answers; idempotent."""
        told = await submit_everywhere(
            lambda: [each.rpc for each in self._nodes if not each.is_refused], block
        )
        self._wake.set()
        if told.accepted:
            return SubmitResult(SubmitStatus.ACCEPTED, active=told.active)
        if told.known:
            return SubmitResult(SubmitStatus.DUPLICATE, active=told.active)
        return SubmitResult(SubmitStatus.REJECTED, told.reason)

    def solution_socket(self) -> Path | None:
        """Returns None: nodes take blocks by RPC alone."""
        return None

    async def active_blocks(self, hashes: Sequence[bytes]) -> dict[bytes, int | None]:
        """Returns how deep each block is on the active chain; waits while no node answers."""
        while True:
            changed = self._changed
            node = best_node(self._nodes, self._node)
            if node is not None:
                try:
                    return await self._depths(node, hashes)
                except NodeError as error:
                    node.failed(error)
            await changed.wait()

    async def _depths(self, node: NodeWatch, hashes: Sequence[bytes]) -> dict[bytes, int | None]:
        found: dict[bytes, int | None] = {}
        for start in range(0, len(hashes), HEADERS_AT_ONCE):
            some = hashes[start : start + HEADERS_AT_ONCE]
            headers = await node.rpc.batch(
                "getblockheader", [[text_of_hash(each)] for each in some]
            )
            for each, header in zip(some, headers, strict=True):
                depth = header.get("confirmations") if isinstance(header, dict) else None
                found[each] = depth if isinstance(depth, int) and depth > 0 else None
        return found

    async def transactions(self, template_id: int) -> TemplateTransactions:
        """Returns the transactions of a template of this tip or the one before.

        Raises:
            LocalProtocolError: The template is not kept.
        """
        return self._shelf.transactions(template_id)

    async def known_transactions(self, wtxids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Returns those transactions that our templates or the node's mempool have.

        Raises:
            NodeError: No node answers.
        """
        found = {each: self._known[each].raw for each in wtxids if each in self._known}
        missing = [each for each in wtxids if each not in found]
        if missing:
            found |= await self._answering().mempool.find(missing)
        return found

    async def check_block(self, block: bytes) -> BlockVerdict:
        """Lets the node judge a block that need not have proof of work.

        Raises:
            NodeError: No node answers.
        """
        rpc = self._answering().rpc
        proposal = {"mode": "proposal", "data": block.hex(), "rules": self._rules}
        try:
            answer = await rpc.call("getblocktemplate", proposal, deadline_s=CHECK_S)
        except RpcRefusedError as error:
            return BlockVerdict(False, "block-decode-failed", error.reason)
        if answer is None:
            return BlockVerdict(True)
        if not isinstance(answer, str):
            raise NodeError(f"the node {rpc.name} does not judge proposed blocks", rpc.name)
        if answer == _STALE or answer in _DUPLICATE:
            return BlockVerdict(False, STALE_PREVBLK, answer)
        return BlockVerdict(False, answer)

    def constrain(self, size: int, sigops: int) -> None:
        """Asks that further templates leave room for the coinbase's outputs."""
        room = CoinbaseRoom(size, sigops)
        if room != self._room:
            self._room = room
            self._wake.set()

    def problems(self) -> list[str]:
        """Tells what is wrong with the nodes, in plain words; nothing when they are healthy."""
        found = [problem for node in self._nodes for problem in node.problems()]
        if self._published is not None and best_node(self._nodes) is None:
            found.insert(0, "no node gives templates: miners work on the last one there was")
        return found

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _answering(self) -> NodeWatch:
        node = best_node(self._nodes, self._node)
        if node is None:
            raise NodeError("no node answers now")
        return node

    async def _choose(self, outlet: _Outlet) -> NodeWatch:
        """Waits until a node can be followed."""
        while True:
            changed = self._changed
            node = best_node(self._nodes)
            if node is not None:
                return node
            if not outlet.has_started and all(each.is_refused for each in self._nodes):
                raise ConfigError(
                    "; ".join(each.health.refusal for each in self._nodes if each.health),
                    key="templates.rpc_urls",
                )
            await changed.wait()

    async def _follow(self, node: NodeWatch, outlet: _Outlet) -> None:
        """Follows a node until it fails or a more wanted one can be followed."""
        log.info("templates come from a node", node=node.name)
        self._followed_since_s = trio.current_time()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._poll, node, outlet)
                nursery.start_soon(self._wait_for_blocks, node, outlet)
                if node.settings.zmq_url:
                    nursery.start_soon(self._listen, node.settings.zmq_url)
                while best_node(self._nodes, node) is node:
                    await self._changed.wait()
                nursery.cancel_scope.cancel()
        except* NodeError as errors:
            error = first_cause(errors)
            assert isinstance(error, NodeError)
            node.failed(error)

    async def _poll(self, node: NodeWatch, outlet: _Outlet) -> None:
        """Asks for a template every interval, and whenever somebody says so."""
        examined_s = -math.inf
        while True:
            self._wake = trio.Event()
            tips_seen = self._tips_seen
            template = await self._ask(node)
            await self._deliver(node, template, tips_seen, outlet)
            node.served()
            if trio.current_time() - examined_s > EXAMINE_S:
                examined_s = trio.current_time()
                await self._examine(node, template)
            with trio.move_on_after(self._interval_s):
                await self._wake.wait()

    async def _wait_for_blocks(self, node: NodeWatch, outlet: _Outlet) -> None:
        """Makes the node say at once when it has a new tip."""
        while True:
            tips_seen, began_s = self._tips_seen, trio.current_time()
            try:
                if self._network.is_real:
                    await self._long_poll(node, tips_seen, outlet)
                else:
                    await self._wait_for_block(node)
            except NodeError as error:
                # The poll finds out soon whether the node is gone.
                log.debug("a node does not wait for blocks", node=node.name, reason=str(error))
            if self._tips_seen == tips_seen:
                # Some do not wait at all, and must not be asked without a pause.
                await trio.sleep_until(began_s + LONG_POLL_RETRY_S)

    async def _long_poll(self, node: NodeWatch, tips_seen: int, outlet: _Outlet) -> None:
        newest = self._newest
        if newest is None or not newest.long_poll_id:
            return
        # It ends with the next block, or a minute after the mempool has changed.
        template = await self._ask(node, long_poll_id=newest.long_poll_id, deadline_s=math.inf)
        await self._deliver(node, template, tips_seen, outlet)

    async def _wait_for_block(self, node: NodeWatch) -> None:
        deadline_s = WAIT_MS / 1000 + node.settings.deadline_s
        told = await node.rpc.call("waitfornewblock", WAIT_MS, deadline_s=deadline_s)
        tip = self._tip
        if (
            tip is None
            or not isinstance(told, dict)
            or told.get("hash") != tip.prev_hash[::-1].hex()
        ):
            self._wake.set()

    async def _listen(self, url: str) -> None:
        """Looks whenever the node's publisher tells of a block."""

        def told(block_hash: bytes) -> None:
            if self._tip is None or block_hash != self._tip.prev_hash:
                self._wake.set()

        said = ""
        while True:
            try:
                await follow_blocks(url, told)
            except NodeError as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("a node's notices of blocks are not heard", reason=said)
            await trio.sleep(LISTEN_RETRY_S)

    async def _ask(
        self, node: NodeWatch, *, long_poll_id: str = "", deadline_s: float | None = None
    ) -> NodeTemplate:
        request: dict[str, Any] = {"rules": self._rules}
        if long_poll_id:
            request["longpollid"] = long_poll_id
        raw = await node.rpc.call_for(
            RawTemplate, "getblocktemplate", request, deadline_s=deadline_s
        )
        room, known = self._room, self._known

        def read() -> NodeTemplate:
            template = read_template(raw, room, node.name, known)
            # Computed here, where it delays nobody.
            _ = template.path, template.commitment_output
            return template

        if len(raw.transactions) <= READ_INLINE_MAX:
            return read()
        return await trio.to_thread.run_sync(read)

    async def _deliver(
        self, node: NodeWatch, template: NodeTemplate, tips_seen: int, outlet: _Outlet
    ) -> None:
        """Passes a template on if it is worth it; `tips_seen` is of when it was asked for."""
        async with self._delivering:
            is_new_tip = self._tip is None or self._tip.prev_hash != template.prev_hash
            if is_new_tip and tips_seen != self._tips_seen:
                self._wake.set()
                return
            if is_new_tip and self._leads_back(node, template):
                return
            self._newest = template
            if is_new_tip or self._is_better(template):
                await self._publish(node, template, outlet, is_new_tip=is_new_tip)
            await self._tell_change(node, template, outlet)

    def _leads_back(self, node: NodeWatch, template: NodeTemplate) -> bool:
        """Whether this node has only not yet reached the tip that another one had."""
        if self._published is None or self._tip_node is node:
            return False
        is_new = trio.current_time() - self._followed_since_s < BACKWARD_S
        return is_new and template.height < self._published.height

    def _is_better(self, template: NodeTemplate) -> bool:
        published = self._published
        assert self._tip is not None
        if template.nbits != self._tip.nbits:
            # Test networks allow easier blocks after a while. Miners hear of a tip's difficulty
            # once, so they go on with the one that it began with.
            return False
        if published is None or published.room != template.room:
            return True
        return template.value_sats > published.value_sats

    async def _publish(
        self, node: NodeWatch, template: NodeTemplate, outlet: _Outlet, *, is_new_tip: bool
    ) -> None:
        number = self._shelf.next_id()
        update = TemplateUpdate(
            _to_template(template, number, self._block_zeros),
            self._to_tip(template, number, is_new_tip=is_new_tip),
        )
        assert update.tip is not None
        transactions = TemplateTransactions(
            tuple(each.raw for each in template.transactions),
            tuple(each.fee_sats for each in template.transactions),
        )
        self._shelf.put(update.template, update.tip, transactions)
        # Only what has really left counts: a node may be given up in the middle of this.
        await outlet.updates.send(update)
        self._known = {each.wtxid: each for each in template.transactions}
        self._published = template
        self._tip_node = node
        self._tip = update.tip
        self._tips_seen += is_new_tip
        self._to_save.set()
        outlet.start()

    def _to_tip(self, template: NodeTemplate, number: int, *, is_new_tip: bool) -> Tip:
        target = target_of_nbits(template.nbits)
        if self._block_zeros:
            target = min(target, (1 << 8 * HASH_LEN - self._block_zeros) - 1)
        begin = template.time if is_new_tip or self._tip is None else self._tip.min_ntime
        return Tip(
            template_id=number,
            prev_hash=template.prev_hash,
            min_ntime=begin,
            nbits=template.nbits,
            target=target.to_bytes(HASH_LEN, "little"),
            time_min=template.time_min,
        )

    async def _tell_change(self, node: NodeWatch, template: NodeTemplate, outlet: _Outlet) -> None:
        if self._told_tip == template.prev_hash:
            return
        joined: tuple[bytes, ...] = ()
        left: tuple[bytes, ...] = ()
        if self._told_tip is not None:
            joined, left = await changes(node.rpc, self._told_tip, template.prev_hash)
        event = TipChanged(template.height - 1, template.prev_hash, joined, left)
        await outlet.chain_events.send(event)
        self._told_tip = template.prev_hash

    async def _examine(self, node: NodeWatch, template: NodeTemplate) -> None:
        """Notes the problems that a node's template shows."""
        version = node.health.version if node.health else ""
        found = [
            clock_problem(node.name, template, int(time.time())),
            signet_problem(node.name, template),
        ]
        try:
            found.append(await small_block_problem(node.rpc, template, version))
        except NodeError as error:
            # Not every node tells of its mempool; one that is gone fails at the next template.
            log.debug("a node does not tell what waits", node=node.name, reason=str(error))
        if template.left_out:
            found.append(
                f"{template.left_out} transactions of the node {node.name} make room for the "
                "coinbase: raise its -blockreservedweight"
            )
        node.notes = tuple(each for each in found if each)
        for each in node.notes:
            log.warning("a node could serve better", node=node.name, problem=each)

    async def _save(self) -> None:
        """Writes what is on the shelf to disk whenever something new is."""
        while True:
            await self._to_save.wait()
            self._to_save = trio.Event()
            await self._shelf.save()


class _Outlet:
    """Is where templates and changes of the chain go, and who waits for the first of them."""

    def __init__(
        self,
        updates: trio.MemorySendChannel[TemplateUpdate],
        chain_events: trio.MemorySendChannel[ChainEvent],
        task_status: trio.TaskStatus[None],
    ) -> None:
        self.updates = updates
        self.chain_events = chain_events
        self.has_started = False
        self._task_status = task_status

    def start(self) -> None:
        if not self.has_started:
            self.has_started = True
            self._task_status.started()


def _to_template(template: NodeTemplate, number: int, block_zeros: int) -> Template:
    return Template(
        id=number,
        height=template.height,
        version=template.version,
        coinbase_tx_version=COINBASE_VERSION,
        coinbase_prefix=push_height(template.height),
        coinbase_sequence=COINBASE_SEQUENCE,
        template_outputs=template.commitment_output,
        template_output_count=1,
        coinbase_locktime=0,
        merkle_path=template.path,
        value_sats=template.value_sats,
        fees_sats=template.fees_sats,
        tx_count=len(template.transactions),
        weight=template.weight,
        rule=f"{block_zeros} leading zero bits" if block_zeros else "",
    )

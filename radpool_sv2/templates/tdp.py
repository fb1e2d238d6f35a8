"""Takes templates from a template provider, by the Template Distribution Protocol.

Theory of operation. One connection at a time; when it ends it is made again, after a pause that
doubles up to `PAUSE_MAX_S`. Templates are passed on with their tip only; those for a tip to come
wait here for it.

The protocol tells neither the fees of single transactions, nor which blocks are on the chain, nor
what is wrong with a block, and a solution gets no answer. What it does not tell is asked of a node
beside it, another source whose templates are not used, where there is one. Without one nothing is
claimed: no block counts as confirmed, no block is judged.

A solution is sent for the provider's number even when the connection has changed since: in the
worst case that names another template, whose header the proof of work does not fit, and does no
harm.

Source: sv2-spec, section 7.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.cause import first_cause
from radpool_sv2.consensus import HALVING_BLOCKS
from radpool_sv2.errors import (
    ConnectionEnded,
    LocalProtocolError,
    NodeError,
    RemoteProtocolError,
)
from radpool_sv2.templates.distribution import retold, template_of, tip_of
from radpool_sv2.templates.source import (
    ChainEvent,
    SubmitResult,
    SubmitStatus,
    TemplateTransactions,
    TemplateUpdate,
    TipChanged,
)
from radpool_sv2.templates.tdp_link import ProviderLink, Take
from radpool_sv2.templates.tdp_number import TemplateNumbers
from radpool_sv2.units import sha256d
from radpool_sv2.wire.message.connection import Protocol as Purpose
from radpool_sv2.wire.message.template_distribution import (
    CoinbaseOutputConstraints,
    NewTemplate,
    SetNewPrevHash,
    SubmitSolution,
)
from radpool_sv2.wire.setup import set_up
from radpool_sv2.wire.stream import Sv2Stream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from radpool_sv2._native.keys import AuthorityPublicKey
    from radpool_sv2.config import Endpoint
    from radpool_sv2.templates.source import (
        BlockVerdict,
        Solution,
        Template,
        TemplateSource,
        Tip,
    )

__all__ = ["TdpSource"]

log = structlog.get_logger(__name__)

CONNECT_S: Final = 10.0
PAUSE_MIN_S: Final = 0.2
PAUSE_MAX_S: Final = 10.0
"""Pauses between connections: a provider that restarts is back in seconds."""

SILENCE_S: Final = 30.0
"""A provider has something to say every few seconds, as fees grow."""

TAKEN_S: Final = 10.0
SUBMISSIONS_MAX: Final = 6
"""How long a block may take to become the provider's tip before it is sent again, and how often it
is sent: a minute is what a node on a slow disk takes for a full block."""

FUTURES_MAX: Final = 16
"""Templates that wait for their tip; providers send one or two."""

KEPT_MAX: Final = 4
"""Templates whose transactions are kept, at most 4 MB each."""

TIPS_MAX: Final = 144
"""Tips that are remembered, to tell which of them a reorganisation has undone: a day of them."""

OUTPUT_SIZE: Final = 1_000
OUTPUT_SIGOPS: Final = 16
"""Room for coinbase outputs until `constrain` says otherwise: twenty of them."""


class TdpSource:
    """Is the template source in front of a template provider."""

    name = "tdp"

    def __init__(  # noqa: PLR0913 - settings, each with a name at every call
        self,
        endpoint: Endpoint,
        authority_key: AuthorityPublicKey | None,
        *,
        node: TemplateSource | None = None,
        halving_blocks: int = HALVING_BLOCKS,
        file: Path | None = None,
        first_number: int | None = None,
        silence_s: float = SILENCE_S,
    ) -> None:
        """Names the provider; nothing is sent before `run`.

        Args:
            endpoint: Where the provider listens.
            authority_key: Who must have certified it; without it anybody is taken for it.
            node: A source that is asked what the protocol does not tell; it runs with this one.
            halving_blocks: After how many blocks the subsidy halves on this network.
            file: Where the last numbers outlive the process; None forgets them.
            first_number: The first template's number; by default microseconds since 1970, so that
                no number is used again by a later process.
            silence_s: How long the provider may be silent before it is asked whether it lives.
        """
        self._endpoint = endpoint
        self._authority_key = authority_key
        self._node = node
        self._halving_blocks = halving_blocks
        self._silence_s = silence_s
        self._room = CoinbaseOutputConstraints(OUTPUT_SIZE, OUTPUT_SIGOPS)
        self._room_changed = trio.Event()
        self._link: ProviderLink | None = None
        self._connection = 0
        self._futures: OrderedDict[int, Template] = OrderedDict()
        self._tip: Tip | None = None
        self._numbers = TemplateNumbers(file, first_number)
        self._kept: OrderedDict[int, TemplateTransactions] = OrderedDict()
        self._tips: list[tuple[int, bytes]] = []
        self._changed = trio.Event()
        self._problem = f"the template provider at {endpoint} has not answered yet"

    async def run(
        self,
        updates: trio.MemorySendChannel[TemplateUpdate],
        chain_events: trio.MemorySendChannel[ChainEvent],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Follows the provider until cancelled; has started once a template is known.

        Raises:
            ConfigError: The node beside it cannot be used.
        """
        started = False

        async def take(message: NewTemplate | SetNewPrevHash) -> None:
            nonlocal started
            update = self._taken(message)
            if update is None:
                return
            if not started:
                started = True
                task_status.started()
            self._problem = ""
            await self._numbers.write_down()
            await updates.send(update)
            await self._tell_tip(update, chain_events)

        async with trio.open_nursery() as nursery:
            if self._node is not None:
                nursery.start_soon(_run_beside, self._node)
            pause = PAUSE_MIN_S
            while True:
                began = trio.current_time()
                try:
                    await self._follow(take)
                except* RemoteProtocolError as errors:
                    self._problem = str(first_cause(errors))
                if trio.current_time() - began > PAUSE_MAX_S:
                    pause = PAUSE_MIN_S
                log.warning("template provider lost", reason=self._problem, again_in_s=pause)
                await trio.sleep(pause)
                pause = min(2 * pause, PAUSE_MAX_S)

    async def submit_solution(self, solution: Solution) -> SubmitResult:
        """Sends a block to the provider, waiting for it while it is away; idempotent.

        The provider does not answer: the block is taken when it becomes the tip.

        Raises:
            LocalProtocolError: The template is not remembered.
        """
        known = self._numbers.find(solution.template_id)
        message = SubmitSolution(
            template_id=known.remote,
            version=solution.version,
            header_timestamp=solution.ntime,
            header_nonce=solution.nonce,
            coinbase_tx=solution.coinbase_tx,
        )
        sent = 0
        while True:
            link = self._link
            if link is None:
                await self._changed.wait()
                continue
            try:
                await link.submit(message)
                sent += 1
            except ConnectionEnded:
                # Whoever reads the connection notices as well, and lets go of it.
                await trio.sleep(PAUSE_MIN_S)
                continue
            with trio.move_on_after(TAKEN_S):
                if await self._is_taken(solution.hash, link):
                    return SubmitResult(SubmitStatus.ACCEPTED, active=True)
                # The connection has ended, perhaps before the block was through.
                continue
            result = await self._fate(solution.hash)
            if result.active or sent >= SUBMISSIONS_MAX:
                return result

    def solution_socket(self) -> Path | None:
        """Returns None: solutions take the way through Python."""
        return None

    async def active_blocks(self, hashes: Sequence[bytes]) -> dict[bytes, int | None]:
        """Asks the node beside the provider; without one no block counts as confirmed."""
        if self._node is None:
            return dict.fromkeys(hashes)
        return await self._node.active_blocks(hashes)

    async def transactions(self, template_id: int) -> TemplateTransactions:
        """Returns the transactions of a template that came over this connection.

        Raises:
            LocalProtocolError: The template is not remembered, here or by the provider.
            NodeError: The provider does not answer.
        """
        kept = self._kept.get(template_id)
        if kept is not None:
            return kept
        known = self._numbers.find(template_id)
        if self._link is None:
            raise NodeError(f"the template provider at {self._endpoint} is away")
        if known.connection != self._connection:
            raise LocalProtocolError(
                f"template-id-not-found: {template_id} is of an old connection"
            )
        kept = TemplateTransactions(await self._link.transactions(known.remote), None)
        if self._kept:
            kept = kept.sharing(next(reversed(self._kept.values())))
        self._kept[template_id] = kept
        while len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return kept

    async def known_transactions(self, wtxids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Asks the node beside the provider; without one looks into the newest template.

        Raises:
            NodeError: Whoever was asked does not answer.
        """
        if self._node is not None:
            return await self._node.known_transactions(wtxids)
        if self._tip is None:
            raise NodeError(f"the template provider at {self._endpoint} is away")
        wanted = set(wtxids)
        newest = await self.transactions(self._tip.template_id)
        return await trio.to_thread.run_sync(_chosen, newest.raw, wanted)

    async def check_block(self, block: bytes) -> BlockVerdict:
        """Asks the node beside the provider.

        Raises:
            NodeError: There is none, or it does not answer.
        """
        return await self._judge().check_block(block)

    async def submit_block(self, block: bytes) -> SubmitResult:
        """Gives a block to the node beside the provider.

        Raises:
            NodeError: There is none.
        """
        return await self._judge().submit_block(block)

    def constrain(self, size: int, sigops: int) -> None:
        """Asks the provider for room for coinbase outputs in further templates."""
        room = CoinbaseOutputConstraints(size, sigops)
        if room != self._room:
            self._room = room
            self._room_changed.set()
            self._room_changed = trio.Event()

    def problems(self) -> list[str]:
        """Tells what is wrong with the provider and the node, in plain words."""
        found = [self._problem] if self._problem else []
        if self._node is None:
            found.append(
                "templates come from a template provider alone, which does not tell which blocks"
                " are on the chain: found blocks are never confirmed. Name a node in"
                " templates.rpc_urls"
            )
        else:
            found += self._node.problems()
        return found

    async def _follow(self, take: Take) -> None:
        """Connects and hands on what comes, until the connection ends."""
        stream = await Sv2Stream.connect(self._endpoint, self._authority_key, CONNECT_S)
        try:
            await set_up(stream, Purpose.TEMPLATE_DISTRIBUTION, endpoint=self._endpoint)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        self._connection += 1
        self._futures.clear()
        self._tip = None
        room = self._room
        link = ProviderLink(stream, room, self._silence_s)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_room, link, room)
                self._link = link
                self._notify()
                log.info("template provider found", address=str(self._endpoint))
                await link.run(take)
        finally:
            self._link = None
            self._notify()

    async def _keep_room(self, link: ProviderLink, sent: CoinbaseOutputConstraints) -> None:
        """Tells the provider each time that other room is wanted."""
        while True:
            if self._room != sent:
                sent = self._room
                await link.constrain(sent)
            else:
                await self._room_changed.wait()

    def _taken(self, message: NewTemplate | SetNewPrevHash) -> TemplateUpdate | None:
        """Takes a message; returns what there is to mine on now, when that has changed."""
        if isinstance(message, SetNewPrevHash):
            template = self._futures.pop(message.template_id, None)
            if template is None:
                raise RemoteProtocolError(
                    f"{self._endpoint} names template {message.template_id} for a new tip, and did"
                    " not send it as a future template before"
                )
            self._tip = tip_of(message, template.id)
            for remote in [
                n for n, each in self._futures.items() if each.height <= template.height
            ]:
                del self._futures[remote]
            return TemplateUpdate(template, self._tip)
        number = self._numbers.take(message.template_id, self._connection)
        template = template_of(message, number, self._halving_blocks)
        if message.future_template:
            self._futures[message.template_id] = template
            while len(self._futures) > FUTURES_MAX:
                self._futures.popitem(last=False)
            return None
        if self._tip is None:
            raise RemoteProtocolError(
                f"{self._endpoint} sent a template for a tip that it never told"
            )
        self._tip = retold(self._tip, template.id)
        return TemplateUpdate(template, self._tip)

    async def _tell_tip(
        self, update: TemplateUpdate, chain_events: trio.MemorySendChannel[ChainEvent]
    ) -> None:
        assert update.tip is not None
        height, tip = update.template.height - 1, update.tip.prev_hash
        if self._tips and self._tips[-1] == (height, tip):
            return
        undone = tuple(each for at, each in reversed(self._tips) if at >= height)
        connected = (tip,) if self._tips else ()
        self._tips = [each for each in self._tips if each[0] < height][1 - TIPS_MAX :]
        self._tips.append((height, tip))
        self._notify()
        await chain_events.send(TipChanged(height, tip, connected, undone))

    async def _is_taken(self, block_hash: bytes, link: ProviderLink) -> bool:
        """Waits until a block is the provider's tip, or its connection has ended."""
        while self._link is link:
            if any(each == block_hash for _height, each in self._tips):
                return True
            await self._changed.wait()
        return False

    async def _fate(self, block_hash: bytes) -> SubmitResult:
        """Says what has become of a block that the provider did not build on."""
        if self._node is not None:
            depths = await self._node.active_blocks([block_hash])
            if depths.get(block_hash) is not None:
                return SubmitResult(SubmitStatus.ACCEPTED, active=True)
        return SubmitResult(
            SubmitStatus.REJECTED,
            "not-connected",
            "the template provider was given the block again and again and did not build on it",
        )

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _judge(self) -> TemplateSource:
        if self._node is None:
            raise NodeError(
                "a template provider cannot judge blocks: name a node in templates.rpc_urls"
            )
        return self._node


async def _run_beside(node: TemplateSource) -> None:
    """Runs a source whose templates nobody wants."""
    updates_send, updates = trio.open_memory_channel[TemplateUpdate](1)
    events_send, events = trio.open_memory_channel[ChainEvent](1)

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await node.run(updates_send, events_send, task_status=task_status)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drop, updates)
        nursery.start_soon(_drop, events)
        await nursery.start(run)


async def _drop(channel: trio.MemoryReceiveChannel[object]) -> None:
    async for _item in channel:
        pass


def _chosen(transactions: Sequence[bytes], wtxids: set[bytes]) -> dict[bytes, bytes]:
    """Returns the transactions that have one of these hashes over their witnesses."""
    hashed = ((sha256d(raw), raw) for raw in transactions)
    return {key: raw for key, raw in hashed if key in wtxids}

"""Offers one source's templates to any number of clients, and brings their blocks to its node.

A client that has found a block may be gone the next moment: its solution is the provider's from
then on, and is submitted until the source has an answer.

Bounds: connections as the listener's limits say; `BLOCKS_MAX` blocks under way; the room that
clients ask for is at most `room_size_max` bytes, `ROOM_SIGOPS_MAX` signature operations, and what
the greediest needs.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.consensus import HALVING_BLOCKS
from radpool_sv2.errors import LocalProtocolError, NodeError, RemoteProtocolError
from radpool_sv2.template_provider.offer import Offers
from radpool_sv2.template_provider.session import ClientSession
from radpool_sv2.template_provider.solution import empty_block
from radpool_sv2.templates.source import SubmitStatus, TemplateTransactions
from radpool_sv2.wire.listener import Listener, ListenerLimits

if TYPE_CHECKING:
    from radpool_sv2._native.keys import ServerIdentity
    from radpool_sv2.config import Endpoint
    from radpool_sv2.template_provider.offer import Offer
    from radpool_sv2.templates.source import (
        ChainEvent,
        Solution,
        TemplateSource,
        TemplateUpdate,
    )
    from radpool_sv2.wire.message.template_distribution import SubmitSolution
    from radpool_sv2.wire.stream import Sv2Stream

__all__ = ["ProviderSettings", "TemplateProvider"]

log = structlog.get_logger(__name__)

BLOCKS_MAX: Final = 64
"""Blocks under way to the node; on a real chain there is one in ten minutes."""

BLOCKS_KNOWN_MAX: Final = 1_024
"""Blocks that are not given to the node again when another client sends them too."""

ROOM_SIGOPS_MAX: Final = 2_000
"""Signature operations of coinbase outputs that a client may ask room for: a tenth of a block's.
More would leave no room for transactions, in the templates of all clients."""

LEAVE_S: Final = 3.0
"""How long blocks under way may take when the provider is told to stop: a node takes one within a
second, and all roles together have five."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderSettings:
    """Says how templates are offered.

    Args:
        limits: Bounds of the listener.
        room_size_max: Bytes of coinbase outputs that a client may ask room for.
        is_ahead: Whether a template without transactions is sent for the tip to come.
        is_repeated: Whether a template that came with its tip is sent again as a present one.
        halving_blocks: After how many blocks the subsidy halves on this network.
    """

    limits: ListenerLimits = field(default_factory=ListenerLimits)
    room_size_max: int = 20_000
    is_ahead: bool = False
    is_repeated: bool = False
    halving_blocks: int = HALVING_BLOCKS


class TemplateProvider:
    """Is a template provider in front of one source, which somebody else runs.

    Attributes:
        offers: What clients are offered.
        is_repeated: Whether a template that came with its tip is sent again as a present one.
        listener: Where they come.
    """

    def __init__(
        self,
        source: TemplateSource,
        endpoint: Endpoint,
        identity: ServerIdentity,
        settings: ProviderSettings,
    ) -> None:
        self.offers = Offers(is_ahead=settings.is_ahead, halving_blocks=settings.halving_blocks)
        self.is_repeated = settings.is_repeated
        self.listener = Listener(endpoint, identity, settings.limits, self._serve)
        self._source = source
        self._settings = settings
        self._rooms: dict[object, tuple[int, int]] = {}
        self._solved, self._to_submit = trio.open_memory_channel[
            tuple["SubmitSolution", "Offer", "Solution"]
        ](BLOCKS_MAX)
        self._blocks: OrderedDict[bytes, None] = OrderedDict()
        self._free = trio.Semaphore(BLOCKS_MAX)

    async def follow_work(self, updates: trio.MemoryReceiveChannel[TemplateUpdate]) -> None:
        """Offers what the source sends, for ever."""
        async for update in updates:
            self.offers.take(update)

    async def follow_chain(self, events: trio.MemoryReceiveChannel[ChainEvent]) -> None:
        """Tells the log of new tips, for ever."""
        async for event in events:
            log.info("new tip", height=event.height, clients=self.listener.connections)

    async def run(self, stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        """Serves clients until `stop` is set; has started once they can connect.

        Raises:
            ConfigError: The address cannot be listened on.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._submit_all, nursery)
            await nursery.start(self._listen)
            task_status.started()
            await stop.wait()
            await self._see_off()
            nursery.cancel_scope.cancel()

    def show(self, identity: ServerIdentity) -> None:
        """Shows another identity to clients that connect from now on."""
        self.listener.identity = identity

    def ask_room(self, client: object, size: int, sigops: int) -> None:
        """Takes how much room a client's coinbase outputs need; the greediest client counts.

        Raises:
            RemoteProtocolError: It is more than anybody gets.
        """
        if size > self._settings.room_size_max:
            raise RemoteProtocolError(
                f"a client wants room for {size} bytes of coinbase outputs:"
                f" {self._settings.room_size_max} is the most"
            )
        if sigops > ROOM_SIGOPS_MAX:
            raise RemoteProtocolError(
                f"a client wants room for {sigops} signature operations of coinbase outputs:"
                f" {ROOM_SIGOPS_MAX} is the most"
            )
        self._rooms[client] = (size, sigops)
        self._constrain()

    def leave(self, client: object) -> None:
        """Forgets a client and the room that it needed."""
        if self._rooms.pop(client, None) is not None:
            self._constrain()

    async def transactions(self, offer: Offer) -> TemplateTransactions:
        """Returns the transactions of a template.

        Raises:
            LocalProtocolError: The source remembers them no more.
            NodeError: Its node does not answer.
        """
        if offer.is_ahead:
            return TemplateTransactions((), ())
        return await self._source.transactions(offer.template.id)

    def solved(self, message: SubmitSolution, offer: Offer, solution: Solution) -> None:
        """Takes a block that meets its target; whoever sent it need not stay."""
        if solution.hash in self._blocks:
            return
        try:
            self._solved.send_nowait((message, offer, solution))
        except trio.WouldBlock:
            log.error(  # noqa: TRY400 - the queue is full, nothing was raised
                "too many blocks wait for the node: one is lost", hash=solution.hash[::-1].hex()
            )
            return
        self._blocks[solution.hash] = None
        while len(self._blocks) > BLOCKS_KNOWN_MAX:
            self._blocks.popitem(last=False)

    async def _listen(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self.listener.run(task_status=task_status)

    async def _serve(self, stream: Sv2Stream) -> None:
        await ClientSession(stream, self).run()

    def _constrain(self) -> None:
        if self._rooms:
            size = max(size for size, _sigops in self._rooms.values())
            sigops = max(sigops for _size, sigops in self._rooms.values())
            self.offers.ask_room(size)
            self._source.constrain(size, sigops)

    async def _see_off(self) -> None:
        """Waits a little for the blocks that are under way."""
        with trio.move_on_after(LEAVE_S):
            for _ in range(BLOCKS_MAX):
                await self._free.acquire()

    async def _submit_all(self, nursery: trio.Nursery) -> None:
        async for message, offer, solution in self._to_submit:
            await self._free.acquire()
            nursery.start_soon(self._submit, message, offer, solution)

    async def _submit(self, message: SubmitSolution, offer: Offer, solution: Solution) -> None:
        shown = solution.hash[::-1].hex()
        try:
            if offer.is_ahead:
                result = await self._source.submit_block(empty_block(message, offer))
            else:
                result = await self._source.submit_solution(solution)
        except (LocalProtocolError, NodeError) as error:
            log.error("a block cannot be given to the node", hash=shown, reason=str(error))  # noqa: TRY400
            self._blocks.pop(solution.hash, None)
        else:
            if result.status is SubmitStatus.REJECTED:
                log.error(
                    "a block was rejected by the node",
                    hash=shown,
                    reason=result.reason,
                    detail=result.detail,
                )
            else:
                log.info("a block was accepted", hash=shown, on_active_chain=result.active)
        finally:
            self._free.release()

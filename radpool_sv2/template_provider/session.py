"""Serves one client of the Template Distribution Protocol.

Theory of operation. A client says first how much room its coinbase outputs need; from then on it
hears of the newest template as soon as its connection takes it: what is newest is looked up when a
message can be sent, so a slow client misses templates and never a tip, and nothing is queued for
it. A new tip is told by a future template and, in the same breath, SetNewPrevHash; where the client
has the template that was made ahead, SetNewPrevHash names that and the full template follows. With
`is_repeated`, a template that came with its tip is sent once more as a present one a little later,
for clients that take nothing else.

Requests for transactions are answered one after the other, beside everything else; solutions go to
the provider at once.

Source: sv2-spec, section 7.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from radpool_sv2.errors import ConnectionEnded, LocalProtocolError, NodeError, RemoteProtocolError
from radpool_sv2.template_provider.offer import REPEAT_BIT
from radpool_sv2.template_provider.solution import is_block, solution_of
from radpool_sv2.templates.distribution import new_template, retold, set_new_prev_hash
from radpool_sv2.wire.frame import NEGOTIATION
from radpool_sv2.wire.message.base import decode
from radpool_sv2.wire.message.connection import Protocol as Purpose
from radpool_sv2.wire.message.template_distribution import (
    STALE_TEMPLATE_ID,
    TEMPLATE_DISTRIBUTION,
    TEMPLATE_ID_NOT_FOUND,
    CoinbaseOutputConstraints,
    RequestTransactionData,
    RequestTransactionDataError,
    RequestTransactionDataSuccess,
    SubmitSolution,
)
from radpool_sv2.wire.setup import answer_extensions, take_setup

if TYPE_CHECKING:
    from radpool_sv2.template_provider.offer import Offer, Offers
    from radpool_sv2.templates.source import Solution, Template, TemplateTransactions
    from radpool_sv2.wire.frame import Frame
    from radpool_sv2.wire.message.base import Message
    from radpool_sv2.wire.stream import Sv2Stream

__all__ = ["ClientSession", "Desk"]

log = structlog.get_logger(__name__)

FRAME_BYTES_MAX: Final = 1 << 17
"""The longest message of a client is a solution, whose coinbase has at most 65,535 bytes."""

CONSTRAINTS_S: Final = 30.0
"""The specification wants the constraints right after the set-up."""

QUESTIONS_MAX: Final = 16
"""Requests for transactions that wait: a client asks once for each template that it mines on."""

BAD_SOLUTIONS_MAX: Final = 16
"""Solutions that miss their target, or are of no template: more than a mistake now and then."""

REPEAT_SECONDS: Final = 0.5
"""Time for a client to ask its pool for the token of one more job: SRI's needs one for each."""

NODE_AWAY: Final = "node-away"
"""Our error code for transactions that the source's node does not give."""


class Desk(Protocol):
    """Is what a session needs of the provider."""

    @property
    def offers(self) -> Offers:
        """What is offered."""

    @property
    def is_repeated(self) -> bool:
        """Whether a template that came with its tip is sent again as a present one."""

    def ask_room(self, client: object, size: int, sigops: int) -> None:
        """Takes how much room a client's coinbase outputs need.

        Raises:
            RemoteProtocolError: It is more than anybody gets.
        """

    def leave(self, client: object) -> None:
        """Forgets a client."""

    async def transactions(self, offer: Offer) -> TemplateTransactions:
        """Returns the transactions of a template.

        Raises:
            LocalProtocolError: The source remembers them no more.
            NodeError: Its node does not answer.
        """

    def solved(self, message: SubmitSolution, offer: Offer, solution: Solution) -> None:
        """Takes a block that meets its target."""


class ClientSession:
    """Is one client's connection, from its set-up on."""

    def __init__(self, stream: Sv2Stream, desk: Desk) -> None:
        self._stream = stream
        self._desk = desk
        self._size = 0
        self._constrained = trio.Event()
        self._told: Offer | None = None
        self._again: Message | None = None
        self._ahead: Template | None = None
        self._bad_solutions = 0
        self._ask, self._asked = trio.open_memory_channel[int](QUESTIONS_MAX)

    async def run(self) -> None:
        """Serves the client until it leaves, which raises.

        Raises:
            ConnectionEnded: It has gone.
            RemoteProtocolError: It broke the protocol.
        """
        await take_setup(self._stream, Purpose.TEMPLATE_DISTRIBUTION)
        self._stream.frame_bytes_max = FRAME_BYTES_MAX
        log.info("client came", peer=self._stream.peer)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tell)
                nursery.start_soon(self._answer)
                while True:
                    await self._take(await self._stream.receive())
        finally:
            self._desk.leave(self)
            log.info("client left", peer=self._stream.peer)

    async def _take(self, frame: Frame) -> None:
        if frame.extension_type == NEGOTIATION:
            await self._stream.send(answer_extensions(frame, ()))
            return
        message = decode(frame, TEMPLATE_DISTRIBUTION)
        if isinstance(message, CoinbaseOutputConstraints):
            self._constrain(message)
        elif isinstance(message, SubmitSolution):
            self._take_solution(message)
        elif isinstance(message, RequestTransactionData):
            try:
                self._ask.send_nowait(message.template_id)
            except trio.WouldBlock as error:
                raise RemoteProtocolError(
                    f"{self._stream.peer} asked for the transactions of more than"
                    f" {QUESTIONS_MAX} templates at once",
                    peer=self._stream.peer,
                ) from error
        elif message is not None:
            raise RemoteProtocolError(
                f"{self._stream.peer} sent {message.name}, which is for a provider to send",
                peer=self._stream.peer,
            )

    def _constrain(self, message: CoinbaseOutputConstraints) -> None:
        size = message.coinbase_output_max_additional_size
        self._desk.ask_room(self, size, message.coinbase_output_max_additional_sigops)
        self._size = size
        self._constrained.set()

    def _take_solution(self, message: SubmitSolution) -> None:
        try:
            offer = self._offer_of(message)
            solution = solution_of(message, offer)
        except RemoteProtocolError as error:
            self._bad_solutions += 1
            if self._bad_solutions > BAD_SOLUTIONS_MAX:
                raise
            log.warning("a solution is none", peer=self._stream.peer, reason=str(error))
            return
        if is_block(solution, offer):
            self._desk.solved(message, offer, solution)
        else:
            log.debug("a solution is easier than the chain asks", peer=self._stream.peer)

    def _offer_of(self, message: SubmitSolution) -> Offer:
        offer = self._desk.offers.find(message.template_id)
        if offer is None:
            raise RemoteProtocolError(
                f"a solution of template {message.template_id}, which is not known",
                peer=self._stream.peer,
            )
        return offer

    async def _tell(self) -> None:
        """Sends what is newest, each time that it changes."""
        with trio.move_on_after(CONSTRAINTS_S):
            await self._constrained.wait()
        if not self._constrained.is_set():
            raise ConnectionEnded(
                f"{self._stream.peer} did not say how much room its outputs need",
                peer=self._stream.peer,
            )
        while True:
            changed = self._desk.offers.changed
            news = self._news()
            if news:
                await self._stream.send(*news)
            if self._again is not None:
                await self._repeat(changed)
            await changed.wait()

    async def _repeat(self, changed: trio.Event) -> None:
        """Sends a template once more, unless another one comes before that."""
        again, self._again = self._again, None
        assert again is not None
        with trio.move_on_after(REPEAT_SECONDS):
            await changed.wait()
        if not changed.is_set():
            await self._stream.send(again)

    def _news(self) -> list[Message]:
        """Returns what the client does not know yet, and notes that it does."""
        offers = self._desk.offers
        newest, told = offers.newest, self._told
        if newest is None or newest is told or not newest.fits(self._size):
            return []
        self._told = newest
        if told is not None and told.tip.prev_hash == newest.tip.prev_hash:
            return [new_template(newest.template, future=False)]
        ahead, self._ahead = self._ahead, offers.ahead
        news: list[Message]
        if ahead is not None and ahead.height == newest.template.height:
            tip = set_new_prev_hash(retold(newest.tip, ahead.id))
            news = [tip, new_template(newest.template, future=False)]
        else:
            tip = set_new_prev_hash(newest.tip)
            news = [new_template(newest.template, future=True), tip]
            if self._desk.is_repeated:
                again = dataclasses.replace(newest.template, id=newest.template.id | REPEAT_BIT)
                self._again = new_template(again, future=False)
        if self._ahead is not None:
            news.append(new_template(self._ahead, future=True))
        return news

    async def _answer(self) -> None:
        """Answers requests for transactions, in their order."""
        async for number in self._asked:
            await self._stream.send(await self._transactions(number))

    async def _transactions(self, number: int) -> Message:
        offer = self._desk.offers.find(number)
        if offer is None:
            return RequestTransactionDataError(number, TEMPLATE_ID_NOT_FOUND)
        try:
            found = await self._desk.transactions(offer)
        except LocalProtocolError:
            return RequestTransactionDataError(number, STALE_TEMPLATE_ID)
        except NodeError as error:
            log.warning("transactions cannot be had", template=number, reason=str(error))
            return RequestTransactionDataError(number, NODE_AWAY)
        return RequestTransactionDataSuccess(number, b"", found.raw)

"""Speaks the Template Distribution Protocol as its client, over one connection.

A provider that is silent for a while is asked for a template that cannot exist: one that lives
answers, one that hangs is left.

Source: sv2-spec, section 7.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2.errors import (
    ConnectionEnded,
    LocalProtocolError,
    NodeError,
    RadpoolError,
    RemoteProtocolError,
)
from radpool_sv2.wire.message.base import decode
from radpool_sv2.wire.message.template_distribution import (
    TEMPLATE_DISTRIBUTION,
    CoinbaseOutputConstraints,
    NewTemplate,
    RequestTransactionData,
    RequestTransactionDataError,
    RequestTransactionDataSuccess,
    SetNewPrevHash,
    SubmitSolution,
)

if TYPE_CHECKING:
    from radpool_sv2.wire.message.base import Message
    from radpool_sv2.wire.stream import Sv2Stream

__all__ = ["ProviderLink", "Take"]

ANSWER_S: Final = 15.0
"""A node on a slow disk may take some seconds to connect a block."""

TRANSACTIONS_S: Final = 30.0
"""4 MB over a slow line."""

QUESTIONS_MAX: Final = 16
"""Templates whose transactions are asked for at the same time."""

NO_TEMPLATE: Final = (1 << 64) - 1
"""The number that no template has."""

Take = Callable[[NewTemplate | SetNewPrevHash], Awaitable[None]]


@dataclass(slots=True)
class _Question:
    """Is a request for transactions, and its answer when there is one."""

    answered: trio.Event = field(default_factory=trio.Event)
    answer: tuple[bytes, ...] | RadpoolError | None = None


class ProviderLink:
    """Is one connection to a provider, after its set-up."""

    def __init__(
        self, stream: Sv2Stream, room: CoinbaseOutputConstraints, silence_s: float
    ) -> None:
        self._stream = stream
        self._room = room
        self._silence_s = silence_s
        self._heard_s = trio.current_time()
        self._questions: dict[int, _Question] = {}
        self._ended: RadpoolError | None = None

    async def run(self, take: Take) -> None:
        """Hands templates and tips to `take` until the connection ends, which raises.

        Raises:
            ConnectionEnded: The provider has gone, or hangs.
            RemoteProtocolError: It broke the protocol.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch)
                await self._stream.send(self._room)
                while True:
                    frame = await self._stream.receive()
                    self._heard_s = trio.current_time()
                    message = decode(frame, TEMPLATE_DISTRIBUTION)
                    if isinstance(message, NewTemplate | SetNewPrevHash):
                        await take(message)
                    elif message is not None:
                        self._answer(message)
        finally:
            self._end()
            await trio.aclose_forcefully(self._stream)

    async def constrain(self, room: CoinbaseOutputConstraints) -> None:
        """Asks for other room in further templates."""
        await self._stream.send(room)

    async def submit(self, solution: SubmitSolution) -> None:
        """Sends a block; the protocol has no answer to it."""
        await self._stream.send(solution)

    async def transactions(self, number: int) -> tuple[bytes, ...]:
        """Returns a template's transactions; `number` is the provider's.

        Raises:
            LocalProtocolError: The provider has no such template any more.
            NodeError: It does not answer, or too much is asked at once.
        """
        question = self._questions.get(number)
        if question is None:
            if len(self._questions) >= QUESTIONS_MAX:
                raise NodeError(f"{QUESTIONS_MAX} templates are being asked for: try again")
            self._questions[number] = question = _Question()
            await self._ask(number)
        with trio.move_on_after(TRANSACTIONS_S):
            await question.answered.wait()
        if isinstance(question.answer, RadpoolError):
            raise question.answer
        if question.answer is None:
            self._questions.pop(number, None)
            raise NodeError(
                f"{self._stream.peer} did not send a template's transactions"
                f" within {TRANSACTIONS_S:.0f} s"
            )
        return question.answer

    async def _ask(self, number: int) -> None:
        if self._ended is None:
            try:
                await self._stream.send(RequestTransactionData(number))
            except ConnectionEnded as error:
                self._resolve(number, NodeError(str(error)))
        else:
            self._resolve(number, self._ended)

    def _answer(self, message: Message) -> None:
        if isinstance(message, RequestTransactionDataSuccess):
            self._resolve(message.template_id, message.transaction_list)
        elif isinstance(message, RequestTransactionDataError):
            reason = f"{self._stream.peer} has no template {message.template_id}"
            error = LocalProtocolError(f"{message.error_code}: {reason}")
            self._resolve(message.template_id, error)
        else:
            raise RemoteProtocolError(
                f"{self._stream.peer} sent {message.name}, which is for clients to send",
                peer=self._stream.peer,
            )

    def _resolve(self, number: int, answer: tuple[bytes, ...] | RadpoolError) -> None:
        question = self._questions.pop(number, None)
        if question is not None:
            question.answer = answer
            question.answered.set()

    def _end(self) -> None:
        self._ended = NodeError(f"the connection with {self._stream.peer} has ended")
        for number in tuple(self._questions):
            self._resolve(number, self._ended)

    async def _watch(self) -> None:
        """Leaves a provider that hangs."""
        while True:
            await trio.sleep_until(self._heard_s + self._silence_s)
            asked_s = trio.current_time()
            if asked_s < self._heard_s + self._silence_s:
                continue
            await self._stream.send(RequestTransactionData(NO_TEMPLATE))
            await trio.sleep(ANSWER_S)
            if self._heard_s < asked_s:
                raise ConnectionEnded(
                    f"{self._stream.peer} hangs: no word for"
                    f" {trio.current_time() - self._heard_s:.0f} s",
                    peer=self._stream.peer,
                )

"""Lets requests that come at the same time share one transaction.

Whoever comes first takes a turn for all who wait; the next turn is for those who came meanwhile.
The less time a disk has, the more requests share its flush.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import trio

from radpool_sv2.ecash.refusal import RATE_LIMITED, RefusedError
from radpool_sv2.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Turns"]

AT_ONCE_MAX: Final = 64
"""Requests of one transaction: others may write some tens of milliseconds later."""

Q = TypeVar("Q")
A = TypeVar("A")


class _Waiting(Generic[Q, A]):
    def __init__(self, request: Q) -> None:
        self.request = request
        self.answer: A | None = None
        self.failure: Exception | None = None
        self.done = False


class Turns(Generic[Q, A]):
    """Gathers requests. A request that was begun is finished, even if nobody waits for it."""

    def __init__(self, carry_out: Callable[[Sequence[Q]], Sequence[A]], waiting_max: int) -> None:
        """Takes how requests are carried out.

        Args:
            carry_out: Runs in a worker thread; returns the answers in order. What it raises, all
                of them get.
            waiting_max: How many may wait; more are refused.
        """
        self._carry_out = carry_out
        self._waiting_max = waiting_max
        self._waiting: deque[_Waiting[Q, A]] = deque()
        self._turn = trio.Lock()

    async def take(self, request: Q) -> A:
        """Waits for a turn and returns the answer.

        Raises:
            RefusedError: Too many wait.
            StoreError: See `carry_out`.
        """
        if len(self._waiting) >= self._waiting_max:
            raise RefusedError("too many requests wait", RATE_LIMITED, retry_after_s=1)
        own: _Waiting[Q, A] = _Waiting(request)
        self._waiting.append(own)
        try:
            async with self._turn:
                while not own.done:
                    await trio.to_thread.run_sync(self._run)
        finally:
            with suppress(ValueError):
                self._waiting.remove(own)
        if own.failure is not None:
            raise own.failure
        if own.answer is None:
            raise InternalError("a turn was taken without an answer")
        return own.answer

    def _run(self) -> None:
        # Taken out only now: nobody waits for a turn that was given up before it began.
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), AT_ONCE_MAX))]
        try:
            answers = self._carry_out([each.request for each in taken])
        except Exception as error:  # noqa: BLE001 - each of those who wait raises it
            for each in taken:
                each.failure = error
                each.done = True
            return
        for each, answer in zip(taken, answers, strict=True):
            each.answer = answer
            each.done = True

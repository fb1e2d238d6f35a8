"""Gets the full verdict on declared templates: one at a time, fairly, within budgets.

Theory of operation. A template whose structure is wrong is refused at once. The others become
cases, and a case walks one way:

    waiting -> at the node -> told

Each declarer has a queue of its own. One task takes the next case of the declarer that was served
the longest ago, so nobody's flood delays another by more than one verdict. What the node needed is
taken off the declarer's time; a declarer whose time is used up waits until it has flowed back.
Bytes are taken off when a case is opened; a case that finds no budget is refused. Where there is no
room for all, whoever has the most waiting gives up the newest of it.

The same template on the same tip is one case, whoever declares it, and its verdict is remembered.
When the node does not answer, everybody who waits is told so: the next would wait as long again.

Bounds: cases per declarer and in all, bytes in all, verdicts remembered, declarers known. A case
that nobody waits for any more is dropped.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import trio

from radpool_sv2.declarator.rate import Meter
from radpool_sv2.errors import InternalError, NodeError, RemoteProtocolError
from radpool_sv2.templates.source import STALE_PREVBLK, BlockVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from radpool_sv2._native.template import Declaration

__all__ = ["RATE_EXCEEDED", "BlockJudge", "VerdictBudget", "VerdictDesk"]

RATE_EXCEEDED: Final = "declaration-rate-exceeded"

CASES_MAX: Final = 256
BYTES_MAX: Final = 256_000_000
"""What waits in all: 64 whole blocks."""

REMEMBERED_MAX: Final = 4_096
DECLARERS_MAX: Final = 1_024
"""Beyond so many, those that are owed nothing and wait for nothing are forgotten."""

_PASSING: Final = {STALE_PREVBLK, "time-too-new"}
"""Reasons that the next moment may mend: these verdicts are not remembered."""


class BlockJudge(Protocol):
    """Is what is asked of the node: `radpool_sv2.templates.source.TemplateSource` has it."""

    async def check_block(self, block: bytes) -> BlockVerdict:
        """Judges a whole block by all rules but the proof of work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictBudget:
    """Is what one declarer may ask of the node.

    Args:
        waiting_max: Cases that wait at once.
        node_ms_per_minute: The node's time in the long run, ms.
        node_ms_burst: The node's time at once, ms.
        bytes_per_minute: Bytes of blocks in the long run.
        bytes_burst: Bytes of blocks at once.
    """

    waiting_max: int = 4
    node_ms_per_minute: int = 6_000
    node_ms_burst: int = 6_000
    bytes_per_minute: int = 40_000_000
    bytes_burst: int = 40_000_000


@dataclass(eq=False, slots=True)
class _Case:
    """Is a template to be judged; `done` is set when there is an answer."""

    declaration: Declaration
    ntime: int
    waiters: int = 0
    done: trio.Event = field(default_factory=trio.Event)
    answer: BlockVerdict | NodeError | RemoteProtocolError | None = None

    @property
    def key(self) -> tuple[bytes, bytes]:
        return self.declaration.prev_hash, self.declaration.digest

    def close(self, answer: BlockVerdict | NodeError | RemoteProtocolError) -> None:
        self.answer = answer
        self.done.set()


@dataclass(eq=False, slots=True)
class _Declarer:
    """Is one declarer's queue and what is left of its budgets."""

    time_ms: Meter
    bytes: Meter
    cases: deque[_Case] = field(default_factory=deque)

    def waiting_bytes(self) -> int:
        return sum(case.declaration.size for case in self.cases)


class VerdictDesk:
    """Is the queue in front of one node."""

    def __init__(
        self,
        source: BlockJudge,
        budget: VerdictBudget | None = None,
        *,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._source = source
        self._budget = budget or VerdictBudget()
        self._clock = clock
        # The first was served the longest ago.
        self._declarers: OrderedDict[Hashable, _Declarer] = OrderedDict()
        self._open: dict[tuple[bytes, bytes], _Case] = {}
        self._remembered: OrderedDict[tuple[bytes, bytes], BlockVerdict] = OrderedDict()
        self._bytes = 0
        self._changed = trio.Event()
        self.judged = 0

    @property
    def waiting(self) -> int:
        """How many templates wait for a verdict or are at the node."""
        return len(self._open)

    async def judge(self, declarer: Hashable, declaration: Declaration, ntime: int) -> BlockVerdict:
        """Returns what consensus says of a template; `run` has to be running.

        Args:
            declarer: Whose budgets it is for.
            declaration: The template.
            ntime: The time that its header gets for the verdict, s: the least one.

        Raises:
            RemoteProtocolError: The declarer's budget is used up, or everybody's.
            NodeError: The node does not answer.
        """
        wrong = declaration.structural()
        if wrong is not None:
            return BlockVerdict(False, *wrong)
        key = declaration.prev_hash, declaration.digest
        if key in self._remembered:
            self._remembered.move_to_end(key)
            return self._remembered[key]
        case = self._open.get(key) or self._begin(declarer, declaration, ntime)
        case.waiters += 1
        try:
            await case.done.wait()
        finally:
            case.waiters -= 1
        if isinstance(case.answer, NodeError):
            raise NodeError(str(case.answer), case.answer.node)
        if isinstance(case.answer, RemoteProtocolError):
            raise RemoteProtocolError(str(case.answer), case.answer.error_code)
        if case.answer is None:
            raise InternalError("a template's case was closed without an answer")
        return case.answer

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Takes one case after the other to the node, until cancelled."""
        task_status.started()
        try:
            while True:
                declarer = await self._next()
                case = declarer.cases.popleft()
                try:
                    if case.waiters:
                        await self._take_to_node(declarer, case)
                finally:
                    self._end(case)
        finally:
            self._tell_all(NodeError("templates are not being judged now: try again"))

    def _begin(self, name: Hashable, declaration: Declaration, ntime: int) -> _Case:
        declarer = self._declarer(name)
        size = declaration.size
        for left in [each for each in declarer.cases if not each.waiters]:
            declarer.cases.remove(left)
            self._end(left)
        if len(declarer.cases) >= self._budget.waiting_max:
            waiting = len(declarer.cases)
            raise RemoteProtocolError(
                f"{waiting} templates wait for a verdict already", RATE_EXCEEDED
            )
        while len(self._open) >= CASES_MAX or self._bytes + size > BYTES_MAX:
            self._make_room(declarer, size)
        if not declarer.bytes.take(size, self._clock()):
            raise RemoteProtocolError(
                f"{size} bytes exceed what is left of {self._budget.bytes_per_minute} a minute",
                RATE_EXCEEDED,
            )
        case = _Case(declaration, ntime)
        self._open[case.key] = case
        self._bytes += size
        declarer.cases.append(case)
        self._change()
        return case

    def _make_room(self, declarer: _Declarer, size: int) -> None:
        """Gives up the newest case of whoever has the most waiting, if that is somebody else.

        Raises:
            RemoteProtocolError: It is the declarer itself.
        """
        fattest = max(self._declarers.values(), key=_Declarer.waiting_bytes)
        if fattest is declarer or fattest.waiting_bytes() <= declarer.waiting_bytes() + size:
            raise RemoteProtocolError("too many templates wait for a verdict", RATE_EXCEEDED)
        case = fattest.cases.pop()
        case.close(
            RemoteProtocolError(
                "too many templates wait for a verdict, most of them yours", RATE_EXCEEDED
            )
        )
        self._end(case)

    def _declarer(self, name: Hashable) -> _Declarer:
        found = self._declarers.get(name)
        if found is not None:
            return found
        now, budget = self._clock(), self._budget
        if len(self._declarers) >= DECLARERS_MAX:
            self._forget_idle(now)
        made = self._declarers[name] = _Declarer(
            Meter(budget.node_ms_per_minute, budget.node_ms_burst, now),
            Meter(budget.bytes_per_minute, budget.bytes_burst, now),
        )
        # Whoever is new has waited the longest.
        self._declarers.move_to_end(name, last=False)
        return made

    def _forget_idle(self, now: float) -> None:
        """Forgets those that start anew with what they have: queues empty, budgets full."""
        budget = self._budget
        for name, each in tuple(self._declarers.items()):
            full = each.time_ms.ready_at(budget.node_ms_burst) <= now
            if full and not each.cases and each.bytes.ready_at(budget.bytes_burst) <= now:
                del self._declarers[name]
        if len(self._declarers) >= DECLARERS_MAX:
            raise RemoteProtocolError("too many declarers at once: try again", RATE_EXCEEDED)

    async def _next(self) -> _Declarer:
        """Waits for a declarer with a case and with time left; the longest unserved comes first."""
        while True:
            now = self._clock()
            soonest = float("inf")
            for name, each in self._declarers.items():
                if not each.cases:
                    continue
                ready_at = each.time_ms.ready_at(0)
                if ready_at <= now:
                    self._declarers.move_to_end(name)
                    return each
                soonest = min(soonest, ready_at)
            with trio.move_on_after(max(0.0, soonest - now)):
                await self._changed.wait()

    async def _take_to_node(self, declarer: _Declarer, case: _Case) -> None:
        block = await trio.to_thread.run_sync(case.declaration.proposal, case.ntime)
        began = self._clock()
        try:
            verdict = await self._source.check_block(block)
        except NodeError as error:
            case.close(error)
            self._tell_all(error)
            return
        finally:
            now = self._clock()
            declarer.time_ms.owe((now - began) * 1_000, now)
        self.judged += 1
        if verdict.reason not in _PASSING:
            self._remembered[case.key] = verdict
            if len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        case.close(verdict)

    def _end(self, case: _Case) -> None:
        """Lets a case go, whether or not it was told."""
        del self._open[case.key]
        self._bytes -= case.declaration.size
        if case.answer is None:
            # Somebody may have begun to wait just now.
            case.close(NodeError("the verdict was given up: try again"))

    def _tell_all(self, error: NodeError) -> None:
        for declarer in self._declarers.values():
            while declarer.cases:
                case = declarer.cases.popleft()
                case.close(error)
                self._end(case)

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

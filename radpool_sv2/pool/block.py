"""Sees solved blocks through: into the ledger, to the node, and to their settlement.

The engine has written the block to the solution log before anybody here learns of it. Where it has
a way of its own to the node it has sent it, too; where it has not, `hurry` does so before anything
else. This desk records the block in the ledger, which closes the epoch, and submits it again if the
engine alone has: submitting is idempotent, and the engine's way may have met a node that was just
away. After a crash the log tells which blocks may have been missed; they take the same way.

Some tasks submit, from a queue: on a chain where blocks cost no work there may be many, and a node
that is away must not gather a task for each.

A block of a miner's own template goes out whole, from where it was saved.

What a block pays to a federation is not recorded here: the federation tells which part of it is the
pool's, whoever has found it.

Whether a block pays is what the chain says: whenever the tip changes, the ledger is told how deep
each unsettled block lies, and settles or undoes.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.chain.transaction import Transaction
from radpool_sv2.errors import LocalProtocolError, NodeError, StoreError
from radpool_sv2.templates.declared import DECLARED_ID_MIN
from radpool_sv2.templates.source import Solution, SubmitStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from radpool_sv2._native.engine import BlockFound
    from radpool_sv2.ledger import Ledger
    from radpool_sv2.pool.declared_block import DeclaredBlocks
    from radpool_sv2.templates.source import SubmitResult, TemplateSource

__all__ = ["BlockDesk", "coinbase_height", "read_solutions", "shown"]

log = structlog.get_logger(__name__)

SUBMITTERS: Final = 8
"""Blocks that are submitted at the same time. One that waits for a node holds up no other one."""

SETTLE_SECONDS: Final = 0.5
"""The least time between two looks at the chain: each asks for all blocks that may still change."""

LOG_BYTES_MAX: Final = 8 << 20
"""How much of the end of the solution log is read: some KiB for each of the last solutions."""

RETRY_SECONDS: Final = 1.0
"""How long a ledger that could not write is left alone before the block is recorded again."""

BLOCKS_WAITING_MAX: Final = 1_000
"""Blocks are rare where they cost work; on a chain that asks for none this is some seconds'."""

REPLAY_MAX: Final = 1_000
"""How many of the last solutions are looked at after a start; the ledger knows all but a few."""

RESUBMIT_MAX: Final = 64
"""How many of the last solutions may have missed the node: as many as the engine holds back."""

_OP_1: Final = 0x51
_OP_16: Final = 0x60


def shown(block_hash: bytes) -> str:
    """Writes a block hash as people know it: most significant byte first."""
    return block_hash[::-1].hex()


def coinbase_height(coinbase: Transaction) -> int:
    """Reads the height that a coinbase's script begins with (BIP34)."""
    script = coinbase.inputs[0].script
    first = script[0]
    if _OP_1 <= first <= _OP_16:
        return first - _OP_1 + 1
    return int.from_bytes(script[1 : 1 + first], "little")


def read_solutions(file: Path) -> Iterator[tuple[Solution, int]]:
    """Reads the last solutions of the engine's log with the account that each is due to.

    A last line that a crash has cut off is left out: its block was sent to nobody.
    """
    try:
        with file.open("rb") as stream:
            begin = max(0, stream.seek(0, os.SEEK_END) - LOG_BYTES_MAX)
            stream.seek(begin)
            lines = stream.read(LOG_BYTES_MAX).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return
    if begin:
        del lines[:1]  # its beginning lies before what was read
    for line in lines[-REPLAY_MAX:]:
        try:
            fields = json.loads(line)
            solution = Solution(
                template_id=fields["template_id"],
                version=fields["version"],
                ntime=fields["ntime"],
                nonce=fields["nonce"],
                coinbase_tx=bytes.fromhex(fields["coinbase_tx"]),
                hash=bytes.fromhex(fields["hash"]),
            )
            account = int(fields["account"])
        except (ValueError, KeyError, TypeError):
            log.warning("a line of the solution log cannot be read", file=str(file))
        else:
            yield solution, account


def _solution(event: BlockFound) -> Solution:
    return Solution(
        template_id=event.template_id,
        version=event.version,
        ntime=event.ntime,
        nonce=event.nonce,
        coinbase_tx=event.coinbase_tx,
        hash=event.hash,
    )


class BlockDesk:
    """Sees blocks through. `found` and `tip_changed` take what happens; `run` does the rest.

    Attributes:
        height: That of the last block that it recorded; 0 before the first.
    """

    def __init__(  # noqa: PLR0913 - what the desk joins
        self,
        ledger: Ledger,
        source: TemplateSource,
        solution_log: Path,
        declared: DeclaredBlocks,
        changed: Callable[[], None],
        *,
        shared: Callable[[Transaction], bool] = lambda _: False,
    ) -> None:
        """Takes what the desk joins.

        Args:
            ledger: Where blocks are recorded.
            source: What they are submitted to.
            solution_log: Where the engine writes them down.
            declared: Those of miners' templates.
            changed: Called when the ledger knows more of a block.
            shared: Tells by a block's coinbase whether others have a part in what it pays.
        """
        self.height = 0
        self._shared = shared
        self._finders: OrderedDict[bytes, int] = OrderedDict()
        self._ledger = ledger
        self._source = source
        self._solution_log = solution_log
        self._declared = declared
        self._changed = changed
        self._found, self._to_record = trio.open_memory_channel[tuple[Solution, int]](
            BLOCKS_WAITING_MAX
        )
        self._sent, self._to_submit = trio.open_memory_channel[Solution](BLOCKS_WAITING_MAX)
        # What was sent ahead and has not been recorded yet, which is at most what waits for that.
        self._hurried: set[bytes] = set()
        self._look = trio.Event()

    def hurry(self, event: BlockFound) -> None:
        """Submits a block at once, whose epoch's shares may not be in the ledger yet.

        `found` must follow. For sources to which the engine has no way of its own.
        """
        solution = _solution(event)
        self._hurried.add(solution.hash)
        self._submit_soon(solution)

    def found(self, event: BlockFound) -> None:
        """Takes a block whose epoch's shares are all in the ledger."""
        self.solved(_solution(event), event.account)

    def solved(self, solution: Solution, account: int) -> None:
        """Takes a block that is due to an account, whoever has reported it."""
        try:
            self._found.send_nowait((solution, account))
        except trio.WouldBlock:
            self._hurried.discard(solution.hash)
            log.error(  # noqa: TRY400 - the queue is full, nothing was raised
                "too many blocks wait to be recorded; the next start takes this one from the log",
                hash=shown(solution.hash),
                waiting=BLOCKS_WAITING_MAX,
            )

    def tip_changed(self) -> None:
        """Makes the desk ask the chain how deep the unsettled blocks lie."""
        self._look.set()

    async def run(self) -> None:
        """Sees to the blocks of the solution log, then to all that follow, for ever."""
        async with trio.open_nursery() as nursery:
            solutions = self._on_disk()
            for solution, account in solutions:
                if self._is_shared(solution, account):
                    continue
                if not await self._ledger.has_block(solution.hash):
                    log.warning("a block of the solution log is new to the ledger")
                    await self._record(solution, account)
            nursery.start_soon(self._submit_again, [each for each, _ in solutions])
            nursery.start_soon(self._settle)
            for _ in range(SUBMITTERS):
                nursery.start_soon(self._submit_each)
            async for solution, account in self._to_record:
                if not self._is_shared(solution, account):
                    await self._record(solution, account)
                if solution.hash in self._hurried:
                    self._hurried.discard(solution.hash)
                else:
                    self._submit_soon(solution)

    def _on_disk(self) -> list[tuple[Solution, int]]:
        """Returns the last solutions of the log, and those that only miners have reported."""
        logged = list(read_solutions(self._solution_log))
        known = {solution.hash for solution, _ in logged}
        pushed = [each for each in self._declared.solutions() if each[0].hash not in known]
        return pushed + logged

    def _submit_soon(self, solution: Solution) -> None:
        try:
            self._sent.send_nowait(solution)
        except trio.WouldBlock:
            log.error(  # noqa: TRY400 - the queue is full, nothing was raised
                "too many blocks wait for the node; the next start takes this one from the log",
                hash=shown(solution.hash),
                waiting=BLOCKS_WAITING_MAX,
            )

    async def _submit_each(self) -> None:
        async for solution in self._to_submit:
            await self._submit(solution)

    async def _submit_again(self, solutions: Sequence[Solution]) -> None:
        """Submits the last solutions that are not on the chain.

        The ledger may know a block that the node does not: the node was away when it was found, and
        then this process ended.
        """
        last = solutions[-RESUBMIT_MAX:]
        active = await self._source.active_blocks([each.hash for each in last])
        for solution in last:
            if active.get(solution.hash) is None:
                await self._submit(solution)

    def _is_shared(self, solution: Solution, account: int) -> bool:
        """Tells whether others have a part in a block; who has found it is remembered then."""
        if not self._shared(Transaction.from_bytes(solution.coinbase_tx)):
            return False
        self._finders[solution.hash] = account
        if len(self._finders) > REPLAY_MAX:
            self._finders.popitem(last=False)
        return True

    async def record_part(self, block_hash: bytes, height: int, value_sats: int) -> None:
        """Records a block that pays a federation, with the part of it that is the pool's.

        A block that is recorded already changes nothing.

        Raises:
            StoreError: It is not durable.
        """
        await self._ledger.record_block(
            hash=block_hash,
            height=height,
            value_sats=value_sats,
            finder=self._finders.get(block_hash, 0),
        )
        self.height = max(self.height, height)
        self._changed()
        self.tip_changed()

    async def _record(self, solution: Solution, account: int) -> None:
        coinbase = Transaction.from_bytes(solution.coinbase_tx)
        height = coinbase_height(coinbase)
        while True:
            try:
                # The pool's address may have changed since the share's template was published.
                own = {self._ledger.script, *await self._ledger.scripts()}
                await self._ledger.record_block(
                    hash=solution.hash,
                    height=height,
                    value_sats=sum(
                        output.value_sats for output in coinbase.outputs if output.script in own
                    ),
                    finder=account,
                )
            except StoreError as error:
                log.error(  # noqa: TRY400 - the message tells the cause, the place is always this
                    "a block cannot be recorded yet; it is on its way to the node all the same",
                    reason=str(error),
                )
                await trio.sleep(RETRY_SECONDS)
            else:
                self.height = height
                self._changed()
                return

    async def _submit(self, solution: Solution) -> None:
        try:
            result = await self._send(solution)
        except LocalProtocolError as error:
            # The node knows the template no more, or never did: nothing can be done for the block.
            log.error("a block was refused", hash=shown(solution.hash), reason=str(error))  # noqa: TRY400
            return
        except NodeError as error:
            log.error(  # noqa: TRY400 - the message tells the cause, the place is always this
                "a block could not be given to a node; the next start tries again",
                hash=shown(solution.hash),
                reason=str(error),
            )
            return
        if result.status is SubmitStatus.REJECTED:
            log.error(
                "a block was rejected by the node",
                hash=shown(solution.hash),
                reason=result.reason,
                detail=result.detail,
            )
        else:
            log.info(
                "a block was accepted", hash=shown(solution.hash), on_active_chain=result.active
            )
        self.tip_changed()

    async def _send(self, solution: Solution) -> SubmitResult:
        if solution.template_id < DECLARED_ID_MIN:
            return await self._source.submit_solution(solution)
        block = await self._declared.load(solution.hash)
        if block is None:
            raise LocalProtocolError(
                "its transactions are known to its miner alone, who sends it to a node of its own"
            )
        return await self._source.submit_block(block)

    async def _settle(self) -> None:
        while True:
            self._look = trio.Event()
            try:
                unsettled = await self._ledger.unsettled_blocks()
                active = await self._source.active_blocks(unsettled)
                await self._ledger.reconcile(active)
            except StoreError as error:
                log.error("blocks cannot be settled yet", reason=str(error))  # noqa: TRY400
                await trio.sleep(RETRY_SECONDS)
                continue
            self._changed()
            looked_s = trio.current_time()
            await self._look.wait()
            await trio.sleep_until(looked_s + SETTLE_SECONDS)

"""Sees blocks through that were found on own templates: to disk, to the own node, to the pool.

A block goes to disk, whole, so that no restart of anything loses it, and to the node at the same
time, so that no disk that fails or hangs holds it up; a file that is there at the start goes to the
node again. It is taken away when the node has it, or will never take it; the last few of these are
kept beside.

A source without a node behind it (a template provider alone) takes no whole blocks, but solutions
of its own templates; a solution is kept beside each block for that, unless a policy has changed the
template.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.durable import write_whole
from radpool_sv2.errors import LocalProtocolError, NodeError, RadpoolError
from radpool_sv2.pool.block import shown
from radpool_sv2.templates.source import Solution, SubmitStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from radpool_sv2.templates.source import SubmitResult, TemplateSource

__all__ = ["BlockDesk"]

log = structlog.get_logger(__name__)

RETRY_S: Final = 1.0
WAITING_MAX: Final = 256
"""Blocks are rare where they cost work."""

KEPT_MAX: Final = 16
"""Blocks that the node has; some MiB each."""

PENDING: Final = "found"
DONE: Final = "submitted"


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    block: bytes
    solution: Solution | None


class BlockDesk:
    """Is where blocks are seen through. `found` takes them; `run` does the rest.

    Args:
        source: The own node.
        directory: Where blocks are kept.
        note: Takes what people want to know.

    Attributes:
        found_count: Blocks that were found since the start.
        accepted_count: Those of them that the node took.
    """

    def __init__(
        self, source: TemplateSource, directory: Path, note: Callable[[str], None]
    ) -> None:
        self._source = source
        self._pending = directory / PENDING
        self._done = directory / DONE
        self._note = note
        self._send, self._receive = trio.open_memory_channel[_Found](WAITING_MAX)
        # One at a time: each looks at all files, of which another would take the oldest away.
        self._clearing = trio.Lock()
        self.found_count = 0
        self.accepted_count = 0

    def found(self, block_hash: bytes, block: bytes, solution: Solution | None = None) -> None:
        """Takes a block, whole, and as the solution of a template that the source knows."""
        self.found_count += 1
        try:
            self._send.send_nowait(_Found(shown(block_hash), block, solution))
        except trio.WouldBlock:
            log.error("too many blocks wait for the disk", hash=shown(block_hash))  # noqa: TRY400

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sees to the blocks of an earlier run and to all that follow, until cancelled."""
        await trio.to_thread.run_sync(self._prepare)
        async with trio.open_nursery() as nursery:
            for found in await trio.to_thread.run_sync(self._left_over):
                log.warning("a block of an earlier run goes to the node again", hash=found.name)
                nursery.start_soon(self._submit, found)
            task_status.started()
            async for found in self._receive:
                nursery.start_soon(self._see_through, found)

    async def _see_through(self, found: _Found) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_down, found)
            await self._give(found)
        await self._clear(found)

    async def _write_down(self, found: _Found) -> None:
        try:
            await trio.to_thread.run_sync(self._keep, found)
        except OSError as error:
            log.error(  # noqa: TRY400 - the message tells the cause
                "a block cannot be written to disk; it goes to the node all the same",
                directory=str(self._pending),
                reason=str(error),
            )

    async def _submit(self, found: _Found) -> None:
        await self._give(found)
        await self._clear(found)

    async def _clear(self, found: _Found) -> None:
        try:
            async with self._clearing:
                await trio.to_thread.run_sync(self._put_away, found.name)
        except OSError as error:
            # It stays, and the node is asked once more at the next start.
            log.warning(
                "a block that the node has seen cannot be put away",
                directory=str(self._pending),
                reason=str(error),
            )

    async def _give(self, found: _Found) -> None:
        """Gives a block to the node until it has an opinion of it."""
        name = found.name
        while True:
            try:
                result = await self._offer(found)
            except NodeError as error:
                log.warning("a block waits for the node", hash=name, reason=str(error))
                await trio.sleep(RETRY_S)
            except RadpoolError as error:
                log.error("the node cannot take a block", hash=name, reason=str(error))  # noqa: TRY400
                self._note(f"block {name} was not taken: {error}")
                return None
            else:
                return self._tell(result, name)

    async def _offer(self, found: _Found) -> SubmitResult:
        try:
            return await self._source.submit_block(found.block)
        except NodeError as error:
            if found.solution is None:
                raise
            try:
                return await self._source.submit_solution(found.solution)
            except LocalProtocolError:
                # The template is forgotten, so the whole block is the only way that is left.
                raise error from None

    def _tell(self, result: SubmitResult, name: str) -> None:
        if result.status is SubmitStatus.REJECTED:
            log.error("the node rejected a block", hash=name, reason=result.reason)
            self._note(f"the node rejected block {name}: {result.reason}")
            return
        self.accepted_count += 1
        log.info("the node accepted a block", hash=name, on_active_chain=result.active)
        self._note(f"block {name} is on the node's chain")

    def _prepare(self) -> None:
        for each in (self._pending, self._done):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _keep(self, found: _Found) -> None:
        draft = self._pending / f"{found.name}.draft"
        if found.solution is not None:
            solution = _to_json(found.solution)
            write_whole(self._pending / f"{found.name}.json", solution, draft=draft)
        # Last: whoever sees the block may rely on its solution.
        write_whole(self._pending / f"{found.name}.block", found.block, draft=draft)

    def _left_over(self) -> list[_Found]:
        """Reads the blocks of an earlier run."""
        blocks = []
        for file in sorted(self._pending.glob("*.block")):
            beside = file.with_suffix(".json")
            solution = _from_json(beside.read_bytes()) if beside.exists() else None
            blocks.append(_Found(file.stem, file.read_bytes(), solution))
        return blocks

    def _put_away(self, name: str) -> None:
        (self._pending / f"{name}.json").unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):  # the disk did not take it
            (self._pending / f"{name}.block").replace(self._done / f"{name}.block")
        kept = sorted(self._done.glob("*.block"), key=lambda each: each.stat().st_mtime_ns)
        for old in kept[:-KEPT_MAX]:
            old.unlink(missing_ok=True)


def _to_json(solution: Solution) -> bytes:
    fields = asdict(solution)
    texts = {name: fields[name].hex() for name in ("coinbase_tx", "hash")}
    return json.dumps(fields | texts).encode()


def _from_json(raw: bytes) -> Solution | None:
    """Reads a solution; a file that somebody has spoilt costs only the second way."""
    try:
        fields = json.loads(raw)
        raws = {name: bytes.fromhex(fields[name]) for name in ("coinbase_tx", "hash")}
        return Solution(**(fields | raws))
    except (ValueError, TypeError, KeyError):
        return None

"""Sends whole blocks of miners' templates to the node, and has them recorded.

A block may be heard of twice: as a share of the engine, and pushed by the miner on its declarator
connection. Either way it is saved first and submitted at once; submitting is idempotent. The share
records it in the ledger, which closes the epoch behind it; a block that was pushed and never came
as a share is recorded after a while, since the chain may pay it all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.chain.transaction import Transaction
from radpool_sv2.errors import LocalProtocolError, NodeError, StoreError
from radpool_sv2.pool.block import shown
from radpool_sv2.pool.hidden import body_digest
from radpool_sv2.templates.declared import DECLARED_ID_MIN
from radpool_sv2.templates.source import Solution, SubmitStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2._native.engine import BlockFound
    from radpool_sv2.ledger import Ledger
    from radpool_sv2.pool.custom import CustomJobDesk
    from radpool_sv2.pool.declared_block import DeclaredBlocks
    from radpool_sv2.templates.declared import HiddenJob, Owner
    from radpool_sv2.templates.source import TemplateSource

__all__ = ["BlockOutlet"]

log = structlog.get_logger(__name__)

SHARE_SECONDS: Final = 5.0
"""How long the share of a pushed block may take, so that its epoch closes behind it."""

RETRY_SECONDS: Final = 1.0

PUSHED_WAITING_MAX: Final = 64
"""Pushed blocks whose share is waited for; a further one is recorded at once."""


class BlockOutlet:
    """Is the way out for whole blocks."""

    def __init__(
        self,
        source: TemplateSource,
        ledger: Ledger,
        blocks: DeclaredBlocks,
        record: Callable[[Solution, int], None],
    ) -> None:
        """Takes what the outlet joins; `record` takes a block that is due to an account."""
        self._source = source
        self._ledger = ledger
        self._blocks = blocks
        self._record = record
        self._pushed, self._to_record = trio.open_memory_channel[tuple[float, Solution, int]](
            PUSHED_WAITING_MAX
        )

    async def found(self, custom: CustomJobDesk, event: BlockFound) -> None:
        """Sends a block that the engine has found on a miner's template."""
        block = custom.block_of(event.template_id, event.header, event.coinbase_tx)
        if block is None:
            log.info("only its miner can send a block", hash=shown(event.hash))
            return
        await self._send(block, event.account)

    async def pushed(self, owner: Owner, header: bytes, coinbase_tx: bytes, block: bytes) -> None:
        """Sends a block that a miner has pushed."""
        accepted = await self._send(block, owner.account)
        if accepted is None:
            return
        solution = Solution(
            template_id=DECLARED_ID_MIN,
            version=int.from_bytes(header[:4], "little"),
            ntime=int.from_bytes(header[68:72], "little"),
            nonce=int.from_bytes(header[76:], "little"),
            coinbase_tx=Transaction.from_bytes(coinbase_tx).to_bytes(),
            hash=accepted,
        )
        due = trio.current_time() + SHARE_SECONDS
        try:
            self._pushed.send_nowait((due, solution, owner.account))
        except trio.WouldBlock:
            self._record(solution, owner.account)

    async def void(self, job: HiddenJob, reason: str) -> None:
        """Makes the shares of a hidden job worth nothing."""
        while True:
            try:
                await self._ledger.void(body_digest(job), reason)
            except LocalProtocolError:
                return  # nobody has mined it
            except StoreError as error:
                log.error("a job cannot be written off yet", reason=str(error))  # noqa: TRY400
                await trio.sleep(RETRY_SECONDS)
            else:
                log.warning("a hidden job earns nothing", account=job.owner.name, reason=reason)
                return

    async def run(self) -> None:
        """Records pushed blocks whose share has not come, until cancelled.

        What is left then is on disk, and recorded after the next start.
        """
        async for due, solution, account in self._to_record:
            await trio.sleep_until(due)
            if not await self._ledger.has_block(solution.hash):
                log.warning("a pushed block has not come as a share", hash=shown(solution.hash))
                self._record(solution, account)

    async def _send(self, block: bytes, account: int) -> bytes | None:
        """Saves and submits a block; returns its hash unless the node refuses it."""
        try:
            block_hash = await self._blocks.save(block, account)
        except StoreError as error:
            log.error("a block is not on disk; it is submitted all the same", reason=str(error))  # noqa: TRY400
            block_hash = self._blocks.hash_of(block)
        try:
            result = await self._source.submit_block(block)
        except NodeError as error:
            # Nodes that are away are waited for: there is none. The block stays on disk.
            log.error(  # noqa: TRY400
                "there is no node to send a block to; it is tried again at the next start",
                hash=shown(block_hash),
                reason=str(error),
            )
            return None
        if result.status is SubmitStatus.REJECTED:
            log.error(
                "a block of a miner's template was rejected by the node",
                hash=shown(block_hash),
                reason=result.reason,
                detail=result.detail,
            )
            return None
        log.info("a block of a miner's template was accepted", hash=shown(block_hash))
        return block_hash

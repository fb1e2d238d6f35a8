"""Makes own templates of a node's: fetches the transactions and lets the policies choose.

What takes time runs on a worker thread: taking transactions apart (each once, they are
remembered), the policies, and the new merkle path. Policies have one deadline together; what is
late or fails has no say in that template, and the health says so. A template with transactions that
the node had not chosen is judged by the node, and used only if it is valid.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeVar

import structlog
import trio

from radpool_sv2.chain.block import Header
from radpool_sv2.chain.transaction import Transaction
from radpool_sv2.consensus import root_from_path
from radpool_sv2.errors import LocalProtocolError, NodeError
from radpool_sv2.jdc.choice import Choice, choose
from radpool_sv2.jdc.coinbase import Coinbase, JobOutputs, block_bytes
from radpool_sv2.jdc.policy import Candidate, Offer, Wishes
from radpool_sv2.jdc.work import OwnTemplate
from radpool_sv2.units import sha256d

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from radpool_sv2.jdc.policy import TemplatePolicy
    from radpool_sv2.templates.source import (
        BlockVerdict,
        Template,
        TemplateSource,
        TemplateUpdate,
        Tip,
    )

__all__ = ["Selection"]

T = TypeVar("T")

log = structlog.get_logger(__name__)

REMEMBERED_MAX: Final = 10_000
"""Transactions taken apart: two full blocks of them, some KiB each."""

EXTRANONCE_LEN: Final = 16


class Selection:
    """Is where templates are chosen.

    Args:
        source: The node.
        policies: What is asked, in order; without any, templates are taken as they are.
        weight_max: The heaviest block.
        deadline_s: How long the policies may take together.
        script: Whom the block pays that a node is shown to judge.

    Attributes:
        problem: What is wrong with the policies, in plain words; empty when nothing is.
    """

    def __init__(
        self,
        source: TemplateSource,
        policies: Sequence[TemplatePolicy],
        *,
        weight_max: int,
        deadline_s: float,
        script: bytes,
    ) -> None:
        self._source = source
        self._policies = tuple(policies)
        self._weight_max = weight_max
        self._deadline_s = deadline_s
        self._outputs = JobOutputs.paying(script)
        self._remembered: OrderedDict[bytes, Candidate] = OrderedDict()
        self._thread = trio.CapacityLimiter(1)
        self.problem = ""

    async def prepare(self, update: TemplateUpdate) -> OwnTemplate | None:
        """Makes an own template of a node's; None when it is no longer of any use.

        Raises:
            NodeError: The node does not answer.
        """
        template, tip = update.template, update.tip
        if tip is None:
            return None  # meant for the block after the next: its tip comes with it
        try:
            carried = await self._source.transactions(template.id)
        except LocalProtocolError as error:
            log.info("a template was gone before it was read", reason=str(error))
            return None
        raws, fees = carried.raw, carried.fees_sats
        if self._policies and fees is None:
            self.problem = (
                f"the template source {self._source.name} does not tell the fee of each "
                "transaction: the rules in [policy] are not applied"
            )
        elif self._policies and fees is not None:
            chosen = await self._choose(template, tip, raws, fees)
            return OwnTemplate(
                template=chosen.template,
                tip=tip,
                transactions=chosen.transactions,
                is_changed=chosen.template is not template,
            )
        return OwnTemplate(template=template, tip=tip, transactions=tuple(raws))

    async def _choose(
        self, template: Template, tip: Tip, raws: Sequence[bytes], fees: Sequence[int]
    ) -> Choice:
        plain = Choice(template, tuple(raws))
        with trio.move_on_after(self._deadline_s) as scope:
            try:
                chosen = await self._apply(template, tip, raws, fees)
            # A policy is somebody else's code: whatever it raises, miners go on without it.
            except Exception as error:  # noqa: BLE001
                self._tell(f"a template policy failed: {type(error).__name__}: {error}")
                return plain
        if scope.cancelled_caught:
            self._tell("the template policies took too long")
            return plain
        if chosen.added and not await self._is_valid(chosen, tip):
            return plain
        self.problem = ""
        return chosen

    async def _apply(
        self, template: Template, tip: Tip, raws: Sequence[bytes], fees: Sequence[int]
    ) -> Choice:
        def ask() -> tuple[list[Candidate], Wishes]:
            offered = [self._candidate(raw, fee) for raw, fee in zip(raws, fees, strict=True)]
            offer = Offer(template.height, tip.prev_hash, tuple(offered))
            wishes = Wishes()
            for policy in self._policies:
                wishes = wishes.joined(policy.wishes(offer))
            return offered, wishes

        offered, wishes = await self._on_thread(ask)
        known = {each.wtxid for each in offered}
        missing = sorted(wishes.lookup - known)
        found: dict[bytes, bytes] = {}
        if missing:
            found = await self._source.known_transactions(missing)
        added = [found[wtxid] for wtxid in missing if wtxid in found]
        return await self._on_thread(
            lambda: choose(template, offered, wishes, added, self._weight_max)
        )

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._thread)

    def _candidate(self, raw: bytes, fee_sats: int) -> Candidate:
        key = sha256d(raw)
        found = self._remembered.get(key)
        if found is None or found.fee_sats != fee_sats:
            found = self._remembered[key] = Candidate(raw, fee_sats)
            if len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        self._remembered.move_to_end(key)
        return found

    async def _is_valid(self, chosen: Choice, tip: Tip) -> bool:
        """Asks the node about a block of what was chosen, with a coinbase of one's own."""
        coinbase = Coinbase(chosen.template, self._outputs, b"", EXTRANONCE_LEN)
        block = await self._on_thread(lambda: _proposal(coinbase, chosen, tip))
        try:
            verdict: BlockVerdict = await self._source.check_block(block)
        except NodeError as error:
            self._tell(f"what [policy] includes could not be judged: {error}")
            return False
        if not verdict.valid:
            self._tell(f"what [policy] includes makes no valid block: {verdict.reason}")
        return verdict.valid

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("templates are taken without the policies", reason=problem)
        self.problem = problem


def _proposal(coinbase: Coinbase, chosen: Choice, tip: Tip) -> bytes:
    """Lays out a whole block without proof of work."""
    whole = coinbase.whole(bytes(EXTRANONCE_LEN))
    txid = Transaction.from_bytes(whole).txid
    header = Header(
        chosen.template.version,
        tip.prev_hash,
        root_from_path(txid, chosen.template.merkle_path),
        tip.min_ntime,
        tip.nbits,
        0,
    )
    return block_bytes(header.to_bytes(), whole, chosen.transactions)

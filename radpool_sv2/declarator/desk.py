"""Does for all declaring connections what takes time: owners, transactions, verdicts, blocks.

A template is judged on the pool's tip. The coinbase's script begins with the height that it is for
(BIP 34), so it is known at once whether it is for the tip, for one that the pool has not seen yet,
for which it waits a little, or for one that is gone. A challenged template is for a tip that is
gone: it is held against the job that it was mined as, and its structure is judged; no node can
judge the rest of it any more.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from radpool_sv2.declarator.intake import Intake
from radpool_sv2.declarator.keep import KeptTemplate
from radpool_sv2.declarator.quality import QualityBook
from radpool_sv2.declarator.token import TOKEN_LEN, TokenStore
from radpool_sv2.declarator.verdict import RATE_EXCEEDED
from radpool_sv2.errors import LocalProtocolError, NodeError, RemoteProtocolError
from radpool_sv2.templates.coinbase import height_push
from radpool_sv2.templates.declared import (
    INVALID_JOB,
    INVALID_TOKEN,
    STALE_CHAIN_TIP,
    DeclaredJob,
    HiddenJob,
    Owner,
    Unrevealed,
)
from radpool_sv2.templates.source import STALE_PREVBLK
from radpool_sv2.units import sha256d

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2._native.template import Declaration as NativeDeclaration
    from radpool_sv2.declarator.assembly import Assembler, Assembly
    from radpool_sv2.declarator.challenge import ChallengeBook
    from radpool_sv2.declarator.effect import Declaration, Publish
    from radpool_sv2.declarator.keep import TemplateKeep
    from radpool_sv2.declarator.verdict import VerdictDesk
    from radpool_sv2.templates.board import TipBoard
    from radpool_sv2.templates.coinbase import CoinbaseParts
    from radpool_sv2.templates.declared import TipView

__all__ = ["DeclaratorDesk", "Declarer", "JobBlocks", "OwnerTerms", "Selected"]

log = structlog.get_logger(__name__)

MISSING_TXS: Final = "missing-txs"
RAIL_ACCOUNT: Final = 0

TIP_WAIT_SECONDS: Final = 5.0
"""The miner's node may be ahead of the pool's by the time a block takes through the network."""

ROLLABLE_VERSION_BITS: Final = 0x1FFF_FFE0


class OwnerTerms(Protocol):
    """Is what the declarator asks of the pool's terms."""

    async def owner(self, user_identifier: str) -> Owner:
        """Returns who earns by what a miner calls itself; raises as the pool's terms do."""

    def outputs(self, owner: Owner, *, hidden: bool) -> bytes:
        """Serialises the outputs of a token behind their count."""

    def check(self, owner: Owner, coinbase: CoinbaseParts) -> None:
        """Looks at a declared coinbase; raises RemoteProtocolError."""


class JobBlocks(Protocol):
    """Is where solved blocks go, and where jobs that earn nothing are written off."""

    async def pushed(self, owner: Owner, header: bytes, coinbase_tx: bytes, block: bytes) -> None:
        """Sees a block through that a miner pushed."""

    async def void(self, job: HiddenJob, reason: str) -> None:
        """Makes the shares of a job worth nothing."""


@dataclass(frozen=True, slots=True)
class Declarer:
    """Is who declares.

    Attributes:
        connection: The declarator's number of the connection.
        site: Where it comes from (`radpool_sv2.wire.listener.site_of`): verdicts and places are
            shared fairly among sites, as names cost nothing.
    """

    connection: int
    site: str


class Selected:
    """Is a template on its way: its transactions, and the tip that it is judged on."""

    def __init__(self, assembly: Assembly, tip: TipView) -> None:
        self.assembly = assembly
        self.tip = tip

    @property
    def missing(self) -> tuple[int, ...]:
        """The positions that only the declarer can fill, ascending."""
        return self.assembly.missing


class DeclaratorDesk:
    """Is what all connections share.

    Attributes:
        terms: What coinbases must have, and whom tokens are for.
        tokens: All tokens.
        challenges: Templates that were mined unseen.
        quality: What each declarer has done.
        intake: Where declarations wait whose transactions only their miners have.
        turn: Is held while a long message is read.
    """

    def __init__(  # noqa: PLR0913 - what the desk joins
        self,
        *,
        terms: OwnerTerms,
        tokens: TokenStore,
        challenges: ChallengeBook,
        board: TipBoard,
        assembler: Assembler,
        verdicts: VerdictDesk,
        keep: TemplateKeep,
        blocks: JobBlocks,
        coinbase_only: bool,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        """Takes what the desk joins; `coinbase_only` says whether templates may stay hidden."""
        self.terms = terms
        self.tokens = tokens
        self.challenges = challenges
        self.quality = QualityBook()
        self.intake = Intake()
        self.turn = trio.StrictFIFOLock()
        self.coinbase_only = coinbase_only
        self._keep = keep
        self._drawn = trio.Event()
        self._board = board
        self._assembler = assembler
        self._verdicts = verdicts
        self._blocks = blocks
        self._clock = clock

    # What connections ask for.

    async def find_owner(self, user_identifier: str, *, whole: bool) -> tuple[Owner, bytes]:
        """Returns whom a token is for, and its outputs.

        Raises:
            RemoteProtocolError: It can be nobody; the error code says why.
            StoreError: The ledger does not answer.
        """
        owner = await self.terms.owner(user_identifier)
        if not whole and owner.rail != RAIL_ACCOUNT:
            raise RemoteProtocolError(
                "ecash is paid for whole templates only: it cannot be taken back when a hidden"
                " template turns out to be worthless",
                "missing-declare-tx-data-flag",
            )
        return owner, self.terms.outputs(owner, hidden=not whole)

    async def select(self, declaration: Declaration) -> Selected:
        """Looks up the transactions of a template.

        Raises:
            RemoteProtocolError: The template is for another block, or its list is malformed.
            NodeError: The node does not answer.
        """
        tip = await self._tip_of(declaration)
        assembly = await self._assembler.begin(
            version=declaration.version,
            coinbase_prefix=declaration.prefix,
            coinbase_suffix=declaration.suffix,
            wtxids=declaration.wtxids,
        )
        return Selected(assembly, tip)

    def check_tip(self, declaration: Declaration, selected: Selected) -> None:
        """Looks whether a template that had to wait is still worth sending.

        Raises:
            RemoteProtocolError: The tip has moved on.
        """
        now = self._board.now
        if not declaration.challenged and now and now.prev_hash != selected.tip.prev_hash:
            raise RemoteProtocolError("the tip has moved on while it waited", STALE_CHAIN_TIP)

    async def judge(
        self,
        selected: Selected,
        declaration: Declaration,
        provided: tuple[bytes, ...],
        declarer: Declarer,
    ) -> DeclaredJob | None:
        """Judges a template; the transactions that were missing come with it.

        Args:
            selected: What `select` returned.
            declaration: The template.
            provided: What the miner sent.
            declarer: Who declares it.

        Returns:
            The job that may be mined; None when a challenged one was revealed as it should.

        Raises:
            RemoteProtocolError: It is not valid; the error code is for programs, the message is the
                exact reason.
            NodeError: The node does not answer.
        """
        started = self._clock()
        report = self.quality.of(declaration.owner)
        try:
            job = await self._judge(selected, declaration, provided, declarer)
        except (RemoteProtocolError, NodeError) as error:
            self.refused(declaration, error)
            raise
        finally:
            report.verdict_ms = int((self._clock() - started) * 1_000)
        report.declared += 1
        report.accepted += 1
        report.transactions += len(declaration.wtxids)
        report.provided += len(provided)
        return job

    def refused(self, declaration: Declaration, error: RemoteProtocolError | NodeError) -> None:
        """Counts a template that did not pass, by the reason of consensus where there is one."""
        reason = "internal-error"
        if isinstance(error, RemoteProtocolError):
            told = str(error).partition(":")[0]
            reason = told if error.error_code == INVALID_JOB else error.error_code
        self.quality.of(declaration.owner).refuse(reason)

    async def publish(self, effect: Publish) -> None:
        """Sees a block through that a miner pushed."""
        job = effect.job
        coinbase = job.coinbase.transaction(effect.solution.extranonce, witness=True)
        try:
            block = job.template.block_of(effect.header, coinbase)
        except LocalProtocolError as error:
            log.error("a pushed block cannot be assembled", reason=str(error))  # noqa: TRY400
            return
        self.quality.solved(job.owner, sha256d(effect.header))
        await self._blocks.pushed(job.owner, effect.header, coinbase, block)

    @staticmethod
    def fresh_token() -> bytes:
        """Draws a token."""
        return secrets.token_bytes(TOKEN_LEN)

    # What the pool asks for.

    def claim(
        self, token: bytes, owner: tuple[int, int], prev_hash: bytes
    ) -> DeclaredJob | Unrevealed:
        """Uses up a token for a custom job; raises as `TokenStore.claim`."""
        now = self._clock()
        right = self.tokens.claim(token, owner, prev_hash, now)
        if isinstance(right, Unrevealed) and not (
            self.coinbase_only
            and right.owner.rail == RAIL_ACCOUNT
            and self.challenges.may_hide(right.owner, now)
        ):
            raise RemoteProtocolError(
                f"{right.owner.name!r} may mine no template whose transactions are hidden",
                INVALID_TOKEN,
            )
        return right

    def mined(self, job: HiddenJob) -> None:
        """Takes up a job whose transactions nobody here has seen."""
        self.challenges.mined(job)

    def unmined(self, job: HiddenJob) -> None:
        """Forgets a hidden job that the engine could not set after all."""
        self.challenges.unmined(job.token)

    def solved(self, owner: Owner, block_hash: bytes) -> None:
        """Learns that a share on a custom job is a block."""
        self.quality.solved(owner, block_hash)

    def accepted(self, owner: Owner, paid_sats: int, quality_q32: int, *, hidden: bool) -> None:
        """Counts a custom job that was accepted."""
        report = self.quality.of(owner)
        report.jobs += 1
        report.hidden_jobs += hidden
        report.paid_sats = paid_sats
        report.quality_q32 = quality_q32

    # What time brings.

    def tip_changed(self) -> None:
        """Learns that the board shows another tip."""
        # The keep first: it lets the templates of tokens go without freeing them now.
        self._keep.keep_tips(self._board.tips)
        self.tokens.keep_tips(self._board.tips)
        now, before = self._board.now, self._board.before
        if now is None or before is None:
            return
        for job in self.challenges.tip_changed(before.prev_hash, now.prev_hash, self._clock()):
            log.info("a hidden template must be revealed", account=job.owner.name)
        self._drawn.set()
        self._drawn = trio.Event()

    async def bury(self) -> None:
        """Frees templates of blocks that are gone, one after the other, until cancelled."""
        await self._keep.bury()

    async def until_late(self) -> None:
        """Waits until `write_off` may have something to do."""
        due = self.challenges.next_deadline()
        with trio.move_on_at(float("inf") if due is None else due):
            await self._drawn.wait()

    async def write_off(self) -> None:
        """Writes off the hidden jobs that were not revealed in time."""
        for job in self.challenges.failed(self._clock()):
            log.warning("a hidden template was not revealed", account=job.owner.name)
            await self._blocks.void(job, self.challenges.reason(job.token))
            self.challenges.written_off(job.token)
            self.quality.of(job.owner).unrevealed += 1

    # How templates are judged.

    async def _tip_of(self, declaration: Declaration) -> TipView:
        script = declaration.coinbase.script_prefix
        if declaration.challenged:
            return self._challenged(declaration).tip
        now = self._board.now
        if now is not None and script.startswith(height_push(now.height + 1)):
            # The miner's node has seen a block that the pool's has not.
            now = await self._board.until(
                lambda tip: script.startswith(height_push(tip.height)), TIP_WAIT_SECONDS
            )
        if now is None or not script.startswith(height_push(now.height)):
            raise RemoteProtocolError(
                "the template is for another height than the next block's", STALE_CHAIN_TIP
            )
        return now

    async def _judge(
        self,
        selected: Selected,
        declaration: Declaration,
        provided: tuple[bytes, ...],
        declarer: Declarer,
    ) -> DeclaredJob | None:
        tip = selected.tip
        if provided:
            try:
                await selected.assembly.supply(provided)
            except RemoteProtocolError as error:
                raise RemoteProtocolError(str(error), MISSING_TXS) from error
        template = await selected.assembly.declaration(tip=tip)
        if declaration.challenged:
            self._reveal(declaration, template)
            return None
        verdict = await self._verdicts.judge(declarer.site, template, tip.min_ntime)
        if not verdict.valid:
            code = STALE_CHAIN_TIP if verdict.reason == STALE_PREVBLK else INVALID_JOB
            raise RemoteProtocolError(_told(verdict.reason, verdict.detail), code)
        kept = self._keep.keep(template, declarer.site, tip.prev_hash)
        job = DeclaredJob(
            owner=declaration.owner,
            connection=declarer.connection,
            tip=tip,
            version=declaration.version,
            coinbase=declaration.coinbase,
            merkle_path=tuple(template.merkle_path),
            template=kept,
        )
        del template
        if await self._keep.make_room(self._assembler.tidy):
            log.warning("templates were let go to save memory", kept=len(self._keep))
            self.tokens.keep_templates(_has_transactions)
        if not kept.is_kept:
            raise RemoteProtocolError(
                "there is no room for your templates: declare fewer that differ so much",
                RATE_EXCEEDED,
            )
        return job

    def _challenged(self, declaration: Declaration) -> HiddenJob:
        job = self.challenges.job(declaration.token)
        if job is None:
            raise RemoteProtocolError("its time to be revealed is over", INVALID_TOKEN)
        return job

    def _reveal(self, declaration: Declaration, template: NativeDeclaration) -> None:
        job = self._challenged(declaration)
        try:
            self._compare(declaration, template, job)
        except RemoteProtocolError as error:
            self.challenges.tried(declaration.token, str(error))
            raise
        self.challenges.revealed(declaration.token)
        self.quality.of(job.owner).revealed += 1

    @staticmethod
    def _compare(declaration: Declaration, template: NativeDeclaration, job: HiddenJob) -> None:
        same = (
            replace(declaration.coinbase, reserved=None) == job.coinbase
            and tuple(template.merkle_path) == job.merkle_path
            and not (declaration.version ^ job.version) & ~ROLLABLE_VERSION_BITS
        )
        if not same:
            raise RemoteProtocolError(
                "it is not the template that was mined with this token", INVALID_JOB
            )
        wrong = template.structural()
        if wrong is not None:
            raise RemoteProtocolError(_told(*wrong), INVALID_JOB)


def _has_transactions(job: DeclaredJob) -> bool:
    return not isinstance(job.template, KeptTemplate) or job.template.is_kept


def _told(reason: str, detail: str) -> str:
    return f"{reason}: {detail}" if detail else reason

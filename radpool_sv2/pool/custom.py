"""Decides about custom jobs: what miners want to mine instead of the pool's templates.

Theory of operation. The engine has looked at the form of a job; here it is held against the pool's
tip, the token, the declared template and the terms, in the order of the specification. A job may
arrive before the pool's own node knows its tip, so it waits for a few seconds. What passes gets a
number, a price and the engine's commitment to pay.

Templates of accepted jobs are kept while a block of theirs may come: those on the tip and on the
one before, within a bound. A solved one is put together here and goes out as a whole block.

Source: `spec/10-job-declaration.md`, "Custom jobs" and "Blocks".
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from radpool_sv2._native.engine import (
    ChannelClosed,
    ChannelOpened,
    CustomJobFailed,
    Disconnected,
    ExponentWanted,
)
from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.templates.coinbase import (
    INVALID_OUTPUTS,
    CoinbaseParts,
    height_push,
    read_outputs,
)
from radpool_sv2.templates.declared import (
    DECLARED_ID_MIN,
    STALE_CHAIN_TIP,
    DeclaredJob,
    HiddenJob,
    Owner,
    TipView,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2._native.engine import CustomJobRequested, Engine, Event
    from radpool_sv2.pool.terms import JobPay, JobTerms
    from radpool_sv2.templates.board import TipBoard
    from radpool_sv2.templates.declared import Unrevealed
    from radpool_sv2.weight.weighing import Weighing

__all__ = ["ROLLABLE_VERSION_BITS", "CustomJobDesk", "Declarator", "check_custom_job"]

log = structlog.get_logger(__name__)

TIP_WAIT_SECONDS: Final = 5.0
"""The miner's node may be ahead of the pool's by the time a block takes through the network."""

NTIME_AHEAD_S: Final = 7_200
"""Nodes take no header that is further ahead of their clock."""

ROLLABLE_VERSION_BITS: Final = 0x1FFF_FFE0
"""What miners may change of the header's version (BIP323)."""

VERSION_MIN: Final = 4
"""Consensus takes no lower version since BIP65, and none that is negative."""
VERSION_MAX: Final = 0x7FFF_FFFF

JOBS_KEPT_MAX: Final = 1_024
"""Templates that a block may still come of; each holds transactions that others mostly share."""

OWNERS_MAX: Final = 100_000
"""Channels asked for or open; the engine bounds them far lower."""


class Declarator(Protocol):
    """Is what the pool asks of the declarator."""

    def claim(
        self, token: bytes, owner: tuple[int, int], prev_hash: bytes
    ) -> DeclaredJob | Unrevealed:
        """Uses up a token for a custom job of an owner, by account and rail.

        Raises:
            RemoteProtocolError: It may not; the error code says why.
        """

    def mined(self, job: HiddenJob) -> None:
        """Takes up a job whose transactions nobody here has seen."""

    def accepted(self, owner: Owner, paid_sats: int, quality_q32: int, *, hidden: bool) -> None:
        """Learns that a custom job was accepted, and how good it is beside the reference."""

    def tip_changed(self) -> None:
        """Learns that the board shows another tip."""


class CustomJobDesk:
    """Decides about custom jobs on whichever engine runs."""

    def __init__(
        self,
        terms: JobTerms,
        declarator: Declarator,
        weighing: Weighing,
        board: TipBoard,
        now_unix_s: Callable[[], int] = lambda: int(time.time()),
    ) -> None:
        """Takes what decides; `board` tells the block that the pool mines now."""
        self.terms = terms
        self._declarator = declarator
        self._weighing = weighing
        self._board = board
        self._now_unix_s = now_unix_s
        self._asked: OrderedDict[tuple[int, int], Owner] = OrderedDict()
        self._owners: OrderedDict[tuple[int, int], Owner] = OrderedDict()
        self._kept: OrderedDict[int, DeclaredJob | HiddenJob] = OrderedDict()
        self._deciding: dict[tuple[int, int], int] = {}

    # What the pool hears.

    def started(self) -> None:
        """Forgets the channels of an engine that is gone."""
        self._asked.clear()
        self._owners.clear()
        self._deciding.clear()

    def granted(self, connection: int, request: int, owner: Owner) -> None:
        """Learns whose a channel is going to be."""
        self._asked[connection, request] = owner
        if len(self._asked) > OWNERS_MAX:
            self._asked.popitem(last=False)

    def hear(self, event: Event) -> None:
        """Follows channels and what the engine wants of them; other events change nothing."""
        if isinstance(event, ChannelOpened):
            owner = self._asked.pop((event.connection, event.request), None)
            if owner is not None:
                self._owners[event.connection, event.channel] = owner
                self.terms.want(owner.key, event.exponent)
        elif isinstance(event, ChannelClosed):
            self._owners.pop((event.connection, event.channel), None)
        elif isinstance(event, Disconnected):
            for known in (self._asked, self._owners):
                for key in [each for each in known if each[0] == event.connection]:
                    del known[key]
        elif isinstance(event, ExponentWanted):
            owner = self._owners.get((event.connection, event.channel))
            if owner is not None:
                self.terms.want(owner.key, event.exponent)
        elif isinstance(event, CustomJobFailed):
            log.warning("custom job not set", connection=event.connection, code=event.code)
            self._kept.pop(self._deciding.pop((event.connection, event.request), 0), None)

    def tip_changed(self) -> None:
        """Learns that the board shows another tip: templates of tips long gone are forgotten."""
        tips = self._board.tips
        for number in [n for n, job in self._kept.items() if job.tip.prev_hash not in tips]:
            del self._kept[number]
        self._declarator.tip_changed()

    # What it decides.

    async def decide(self, engine: Engine, event: CustomJobRequested) -> None:
        """Accepts or refuses a custom job."""
        try:
            self._accept(engine, event, await self._wait_for_tip(event.prev_hash))
        except RemoteProtocolError as error:
            log.info(
                "custom job refused",
                connection=event.connection,
                channel=event.channel,
                code=error.error_code,
                reason=str(error),
            )
            engine.refuse_custom_job(
                event.connection, event.channel, event.request, error.error_code
            )

    async def _wait_for_tip(self, prev_hash: bytes) -> TipView:
        tip = await self._board.until(lambda each: each.prev_hash == prev_hash, TIP_WAIT_SECONDS)
        if tip is None:
            raise RemoteProtocolError(
                "the job builds on another block than the tip", STALE_CHAIN_TIP
            )
        return tip

    def _accept(self, engine: Engine, event: CustomJobRequested, tip: TipView) -> None:
        owner = self._owners.get((event.connection, event.channel))
        if owner is None:
            raise RemoteProtocolError("no such channel is open", "invalid-channel-id")
        right = self._declarator.claim(event.token, owner.key, event.prev_hash)
        declared = right if isinstance(right, DeclaredJob) else None
        coinbase = check_custom_job(event, tip, declared, self._now_unix_s())
        pay = self.terms.read(owner, coinbase.outputs, hidden=declared is None)
        price = self._weighing.price(tip, tip.height, pay.paid_sats, upside=declared is not None)
        number = DECLARED_ID_MIN | secrets.randbits(63)
        if declared is None:
            hidden = HiddenJob(
                owner=owner,
                token=event.token,
                template_id=number,
                tip=tip,
                version=event.version,
                coinbase=coinbase,
                merkle_path=tuple(event.merkle_path),
            )
            self._declarator.mined(hidden)
            self._keep(number, event, hidden)
        else:
            self._keep(number, event, declared)
        quality = self._weighing.quality_q32(tip, tip.height, pay.paid_sats)
        self._declarator.accepted(owner, pay.paid_sats, quality, hidden=declared is None)
        self._command(engine, event, number, owner, pay, price, tip)

    def _command(  # noqa: PLR0913, PLR0917 - the parts of one command
        self,
        engine: Engine,
        event: CustomJobRequested,
        number: int,
        owner: Owner,
        pay: JobPay,
        price: int,
        tip: TipView,
    ) -> None:
        engine.accept_custom_job(
            event.connection,
            event.channel,
            event.request,
            template_id=number,
            account=owner.account,
            commitment=owner.commitment,
            rail=owner.rail,
            epoch=pay.tag.epoch,
            exponent=pay.tag.exponent,
            price=price,
            height=tip.height,
            target=tip.target,
        )
        log.info(
            "custom job accepted",
            connection=event.connection,
            channel=event.channel,
            template=number,
            paid_sats=pay.paid_sats,
        )

    def _keep(self, number: int, event: CustomJobRequested, job: DeclaredJob | HiddenJob) -> None:
        self._kept[number] = job
        if len(self._kept) > JOBS_KEPT_MAX:
            self._kept.popitem(last=False)
        self._deciding[event.connection, event.request] = number
        if len(self._deciding) > JOBS_KEPT_MAX:
            del self._deciding[next(iter(self._deciding))]

    # What comes of it.

    def block_of(self, template_id: int, header: bytes, coinbase_tx: bytes) -> bytes | None:
        """Puts a solved block of a miner's template together.

        Returns:
            None when the transactions are not known here: of a hidden job, whose miner alone can
            send the block, or of one that is forgotten.
        """
        job = self._kept.get(template_id)
        if not isinstance(job, DeclaredJob):
            return None
        try:
            return job.template.block_of(header, coinbase_tx)
        except LocalProtocolError as error:
            log.error("a declared block cannot be assembled", reason=str(error))  # noqa: TRY400
            return None


def check_custom_job(
    event: CustomJobRequested, tip: TipView, declared: DeclaredJob | None, now_unix_s: int
) -> CoinbaseParts:
    """Holds a custom job against the tip and against the template that it was declared as.

    Args:
        event: The job.
        tip: The tip that it builds on.
        declared: The template; None when its transactions stay hidden.
        now_unix_s: The time, for how far ahead of it the job may be.

    Returns:
        Its coinbase.

    Raises:
        RemoteProtocolError: The error code names the first part that is wrong.
    """
    if event.nbits != tip.nbits:
        raise RemoteProtocolError("nBits is not that of the next block", "invalid-nbits")
    if not tip.min_ntime <= event.min_ntime <= now_unix_s + NTIME_AHEAD_S:
        raise RemoteProtocolError(
            "min_ntime is not between the least time of the next block and two hours from now",
            "invalid-min-ntime",
        )
    coinbase = CoinbaseParts(
        tx_version=event.coinbase_tx_version,
        script_prefix=event.coinbase_prefix,
        extranonce_len=event.extranonce_len,
        sequence=event.coinbase_sequence,
        outputs=read_outputs(event.coinbase_tx_outputs, event.output_count),
        locktime=event.coinbase_locktime,
        reserved=None,
    )
    if declared is None:
        _check_hidden(event, tip)
    else:
        _compare(event, coinbase, declared)
        coinbase = replace(coinbase, reserved=declared.coinbase.reserved)
    return coinbase


def _check_hidden(event: CustomJobRequested, tip: TipView) -> None:
    if not VERSION_MIN <= event.version <= VERSION_MAX:
        raise RemoteProtocolError("no block has such a version", "invalid-version")
    if not event.coinbase_prefix.startswith(height_push(tip.height)):
        raise RemoteProtocolError(
            "the coinbase's script does not begin with the block's height",
            "invalid-coinbase-prefix",
        )


def _compare(event: CustomJobRequested, coinbase: CoinbaseParts, declared: DeclaredJob) -> None:
    was = declared.coinbase
    differences = (
        ((event.version ^ declared.version) & ~ROLLABLE_VERSION_BITS, "invalid-version"),
        (coinbase.tx_version != was.tx_version, "invalid-coinbase-tx-version"),
        (
            coinbase.script_prefix != was.script_prefix
            or coinbase.extranonce_len != was.extranonce_len,
            "invalid-coinbase-prefix",
        ),
        (coinbase.sequence != was.sequence, "invalid-coinbase-tx-input-n-sequence"),
        (coinbase.outputs != was.outputs, INVALID_OUTPUTS),
        (coinbase.locktime != was.locktime, "invalid-coinbase-tx-locktime"),
        (tuple(event.merkle_path) != declared.merkle_path, "invalid-merkle-path"),
    )
    for differs, code in differences:
        if differs:
            raise RemoteProtocolError("the job is not the template that was declared", code)

"""Decides about custom jobs: what miners want to mine instead of the pool's templates.

Theory of operation. The engine has looked at the form of a job; here it is held against the pool's
tip, the token, the declared template and the terms, in the order of the specification. A job may
arrive before the pool's own node knows its tip, so it waits for a few seconds. What passes gets a
number, a price and the engine's commitment to pay.

Declared templates of accepted jobs are kept while a block of theirs may come: those on the tip and
on the one before, within a bound for each connection and one for all. A solved one is put together
here and goes out as a whole block. A hidden job that the engine could not set is not challenged.

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
    ChannelFailed,
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

NTIME_BEHIND_S: Final = 7_200
"""How long before the pool's node a miner's may have heard of a tip, where nothing tells how far
back consensus goes: the clocks differ, and the pool may have started on a tip that is old."""

ROLLABLE_VERSION_BITS: Final = 0x1FFF_FFE0
"""What miners may change of the header's version (BIP323)."""

VERSION_MIN: Final = 4
"""Consensus takes no lower version since BIP65, and none that is negative."""
VERSION_MAX: Final = 0x7FFF_FFFF

JOBS_KEPT_MAX: Final = 16_384
"""Templates that a block may still come of. The memory of their transactions has a bound of its own
(`radpool_sv2.declarator.keep`)."""

JOBS_PER_CONNECTION_MAX: Final = 64
"""As many as the engine keeps of a channel by default."""

DECIDING_MAX: Final = 4_096
"""Jobs whose fate in the engine is not known; it tells of failures at once."""

CONNECTIONS_MAX: Final = 100_000
"""Connections with channels asked for or open; the engine bounds them, and channels, far lower."""


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

    def unmined(self, job: HiddenJob) -> None:
        """Forgets a hidden job that could not be set after all."""

    def accepted(self, owner: Owner, paid_sats: int, quality_q32: int, *, hidden: bool) -> None:
        """Learns that a custom job was accepted, and how good it is beside the reference."""

    def solved(self, owner: Owner, block_hash: bytes) -> None:
        """Learns that a share on a custom job is a block."""

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
        # By connection, then by request or channel.
        self._asked: OrderedDict[int, dict[int, Owner]] = OrderedDict()
        self._owners: dict[int, dict[int, Owner]] = {}
        # By template, with the connection that mines it; and the other way round.
        self._kept: OrderedDict[int, tuple[int, DeclaredJob]] = OrderedDict()
        self._kept_of: dict[int, OrderedDict[int, None]] = {}
        self._deciding: OrderedDict[tuple[int, int], int | HiddenJob] = OrderedDict()

    # What the pool hears.

    def started(self) -> None:
        """Forgets the channels of an engine that is gone."""
        self._asked.clear()
        self._owners.clear()
        self._deciding.clear()

    def granted(self, connection: int, request: int, owner: Owner) -> None:
        """Learns whose a channel is going to be."""
        self._asked.setdefault(connection, {})[request] = owner
        if len(self._asked) > CONNECTIONS_MAX:
            self._asked.popitem(last=False)

    def hear(self, event: Event) -> None:
        """Follows channels and what the engine wants of them; other events change nothing."""
        if isinstance(event, ChannelOpened):
            owner = self._asked.get(event.connection, {}).pop(event.request, None)
            if owner is not None:
                self._owners.setdefault(event.connection, {})[event.channel] = owner
                self.terms.want(owner.key, event.exponent)
        elif isinstance(event, ChannelFailed):
            self._asked.get(event.connection, {}).pop(event.request, None)
        elif isinstance(event, ChannelClosed):
            self._owners.get(event.connection, {}).pop(event.channel, None)
        elif isinstance(event, Disconnected):
            self._asked.pop(event.connection, None)
            self._owners.pop(event.connection, None)
        elif isinstance(event, ExponentWanted):
            owner = self._owner(event.connection, event.channel)
            if owner is not None:
                self.terms.want(owner.key, event.exponent)
        elif isinstance(event, CustomJobFailed):
            log.warning("custom job not set", connection=event.connection, code=event.code)
            self._failed(event)

    def _owner(self, connection: int, channel: int) -> Owner | None:
        return self._owners.get(connection, {}).get(channel)

    def _failed(self, event: CustomJobFailed) -> None:
        decided = self._deciding.pop((event.connection, event.request), None)
        if isinstance(decided, HiddenJob):
            self._declarator.unmined(decided)
        elif decided is not None:
            self._forget(decided)

    def tip_changed(self) -> None:
        """Learns that the board shows another tip: templates of tips long gone are forgotten."""
        # The declarator first: it lets go of templates without freeing them now.
        self._declarator.tip_changed()
        tips = self._board.tips
        for number in [n for n, (_, job) in self._kept.items() if job.tip.prev_hash not in tips]:
            self._forget(number)

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
        owner = self._owner(event.connection, event.channel)
        if owner is None:
            raise RemoteProtocolError("no such channel is open", "invalid-channel-id")
        right = self._declarator.claim(event.token, owner.key, event.prev_hash)
        declared = right if isinstance(right, DeclaredJob) else None
        coinbase = check_custom_job(event, tip, declared, self._now_unix_s())
        pay = self.terms.read(owner, coinbase.outputs, hidden=declared is None)
        least = self._weighing.least_sats(tip.height)
        if pay.paid_sats < least:
            raise RemoteProtocolError(
                f"{pay.paid_sats} sats are paid, where shares count by {least} at least",
                INVALID_OUTPUTS,
            )
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
            self._decided(event, hidden)
        else:
            self._keep(number, event.connection, declared)
            self._decided(event, number)
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

    def _keep(self, number: int, connection: int, job: DeclaredJob) -> None:
        mine = self._kept_of.setdefault(connection, OrderedDict())
        if len(mine) >= JOBS_PER_CONNECTION_MAX:
            self._forget(next(iter(mine)))
        elif len(self._kept) >= JOBS_KEPT_MAX:
            most = max(self._kept_of, key=lambda each: len(self._kept_of[each]))
            self._forget(next(iter(self._kept_of[most])))
        self._kept[number] = connection, job
        self._kept_of.setdefault(connection, mine)[number] = None

    def _forget(self, number: int) -> None:
        found = self._kept.pop(number, None)
        if found is None:
            return
        of_connection = self._kept_of[found[0]]
        del of_connection[number]
        if not of_connection:
            del self._kept_of[found[0]]

    def _decided(self, event: CustomJobRequested, what: int | HiddenJob) -> None:
        self._deciding[event.connection, event.request] = what
        self._deciding.move_to_end((event.connection, event.request))
        if len(self._deciding) > DECIDING_MAX:
            self._deciding.popitem(last=False)

    # What comes of it.

    def solved(self, connection: int, channel: int, block_hash: bytes) -> None:
        """Learns that a share of a channel is a block."""
        owner = self._owner(connection, channel)
        if owner is not None:
            self._declarator.solved(owner, block_hash)

    def block_of(self, template_id: int, header: bytes, coinbase_tx: bytes) -> bytes | None:
        """Puts a solved block of a miner's template together.

        Returns:
            None when the transactions are not known here: of a hidden job, whose miner alone can
            send the block, or of one that is forgotten.
        """
        found = self._kept.get(template_id)
        if found is None:
            return None
        try:
            return found[1].template.block_of(header, coinbase_tx)
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
    earliest = tip.min_ntime - NTIME_BEHIND_S if tip.time_min is None else tip.time_min
    if not earliest <= event.min_ntime <= now_unix_s + NTIME_AHEAD_S:
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

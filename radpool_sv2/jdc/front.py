"""Serves the miners behind the client: the native engine, with jobs that a pool or nobody pays for.

Theory of operation. The engine has one template at a time, whose coinbase is that of the present
job; each miner has a prefix of its own behind the job's head. Shares are validated by the engine at
the easy target of each miner, acknowledged at once, and those that meet a pool's target are handed
on. A miner is never steered to a harder target than the pool's, so that no share is missed.

There is no ledger here: these are one owner's miners, and whoever pays counts for himself.
"""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from radpool_sv2._native import engine as native
from radpool_sv2._native.keys import ServerIdentity, StaticKey
from radpool_sv2.config import Endpoint
from radpool_sv2.errors import InternalError, RemoteProtocolError
from radpool_sv2.jdc.job import FoundShare
from radpool_sv2.keyfile import DAY_S, sign_certificate
from radpool_sv2.pool.account import UserIdentity

if TYPE_CHECKING:
    from collections.abc import Collection

    from radpool_sv2._native.keys import AuthoritySecretKey
    from radpool_sv2.config.jdc import JdcConfig
    from radpool_sv2.jdc.job import Job

__all__ = ["JOB_STALE_MS", "Channel", "Front", "FrontListener"]

log = structlog.get_logger(__name__)

SOLUTION_LOG: Final = "blocks.jsonl"
BATCH_SHARES: Final = 8_192
STOP_MS_MAX: Final = 1_000
CERTIFICATE_DAYS: Final = 30
RENEW_S: Final = float(DAY_S)

PREFIX_LEN: Final = 4
PREFIX_SPACE: Final = 1 << 32
PREFIX_LEASE: Final = 65_536
PREFIXES_LOW: Final = 8_192

RATE_WINDOW_S: Final = 60.0
"""Over how long the miners' hash rate is taken: some shares of each."""
RATE_STEP_S: Final = 1.0

JOB_STALE_MS: Final = 120_000
NTIME_SLACK_S: Final = 120
REPORT_INTERVAL_MS: Final = 1_000

NO_OWNER: Final = bytes(32)
"""Jobs bring their owner output along; the engine's own is in none of them."""


class FrontListener(Protocol):
    """Is who uses the front."""

    def wanted_exponent(self) -> int | None:
        """Returns the easiest exponent of a share that is of use to a pool; None for none."""

    def share(self, found: FoundShare) -> None:
        """Takes a share."""

    def block(self, found: FoundShare, header: bytes, coinbase: bytes) -> None:
        """Takes a block."""

    def note(self, text: str) -> None:
        """Takes what people want to know."""


@dataclass(slots=True)
class Channel:
    """Is a miner's channel.

    Attributes:
        user: How it calls itself.
        nominal_rate: The hash rate that it declared.
        exponent: Its target.
        accepted: Its shares.
        work: What they are worth, in hashes.
    """

    user: str
    nominal_rate: float
    exponent: int
    accepted: int = 0
    work: int = 0


class Front:
    """Is the listener for miners; `run` serves.

    Args:
        config: The client's configuration.
        authority: Whom miners trust.
        listener: Who takes what miners find.
        listen: Where to listen, if not where the configuration says.

    Attributes:
        address: Where miners connect, once it serves.
        channels: The open channels, by connection and number.
    """

    def __init__(
        self,
        config: JdcConfig,
        authority: AuthoritySecretKey,
        listener: FrontListener,
        listen: Endpoint | None = None,
    ) -> None:
        self._config = config
        self._authority = authority
        self._listener = listener
        self._listen = listen or config.mining.listen
        self._settings = _settings(config)
        self.address: Endpoint | None = None
        self.channels: dict[tuple[int, int], Channel] = {}
        self._pending: dict[tuple[int, int], tuple[str, float]] = {}
        self._addresses: dict[int, str] = {}
        self._gone_work = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._engine: native.Engine | None = None
        self._finishing = False
        self._waiting = trio.CancelScope()
        # Miners of an earlier run may still be hashing jobs of the same template.
        self._next_prefix = secrets.randbelow(PREFIX_SPACE // PREFIX_LEASE) * PREFIX_LEASE
        self._cap: int | None = None

    @property
    def extranonce_len(self) -> int:
        """How many bytes of the extranonce it fills."""
        return PREFIX_LEN + self._config.mining.rollable_bytes

    @property
    def miners(self) -> int:
        """How many connections are set up."""
        return len(self._addresses)

    @property
    def work(self) -> int:
        """What all shares of miners are worth, in hashes."""
        return self._gone_work + sum(each.work for each in self.channels.values())

    def hash_rate(self, now_s: float) -> float:
        """Returns the miners' hash rate: as measured, or as they declare while that is too new."""
        while self._samples and now_s - self._samples[0][0] > RATE_WINDOW_S:
            self._samples.popleft()
        if not self._samples or now_s - self._samples[-1][0] >= RATE_STEP_S:
            self._samples.append((now_s, self.work))
        since_s, work = self._samples[0]
        if now_s - since_s < RATE_WINDOW_S / 2:
            return sum(each.nominal_rate for each in self.channels.values())
        return (self.work - work) / (now_s - since_s)

    def metrics(self) -> dict[str, int]:
        """Returns the engine's counters and gauges."""
        return {} if self._engine is None else self._engine.metrics()

    def publish(self, job: Job) -> None:
        """Gives all miners a job."""
        if self._engine is not None:
            self._engine.publish_template(_template(job), _tip(job))

    def cap(self, exponent: int | None) -> None:
        """Steers no miner to a harder target than this exponent from now on."""
        self._cap = exponent
        for (connection, channel), each in self.channels.items():
            self._ease(connection, channel, each.exponent)

    async def run(self, first: Job, *, task_status: trio.TaskStatus[None]) -> None:
        """Serves until `finish`; what was found is handed on by then.

        Raises:
            ConfigError: The address cannot be had.
            InternalError: The engine stopped by itself.
        """
        engine = native.Engine(self._settings, self._identity())
        self._finishing = False
        self.channels.clear()
        self._addresses.clear()
        try:
            self._engine = engine
            self._lease(engine)
            self.publish(first)
            host, port = engine.listen(self._listen.host, self._listen.port)
            self._listen = self.address = Endpoint(host, port)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._renew, engine)
                task_status.started()
                await self._take(engine)
                nursery.cancel_scope.cancel()
        finally:
            self._engine = None
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(engine.stop, STOP_MS_MAX)

    def finish(self) -> None:
        """Takes no more from miners; `run` returns when all that they found is handed on."""
        if self._engine is not None:
            self._engine.stop_accepting()
            self._engine.pause_reads()
        self._finishing = True
        self._waiting.cancel()

    async def _renew(self, engine: native.Engine) -> None:
        while True:
            await trio.sleep(RENEW_S)
            engine.set_identity(self._identity())

    def _identity(self) -> ServerIdentity:
        static_key = StaticKey.generate()
        certificate = sign_certificate(self._authority, static_key, CERTIFICATE_DAYS)
        return ServerIdentity(static_key, certificate)

    def _lease(self, engine: native.Engine) -> None:
        start = self._next_prefix
        engine.add_prefixes(start, start + PREFIX_LEASE)
        self._next_prefix = (start + PREFIX_LEASE) % PREFIX_SPACE

    async def _take(self, engine: native.Engine) -> None:
        while True:
            finishing = self._finishing
            self._drain(engine)
            if finishing:
                return
            with trio.CancelScope() as self._waiting:
                if not self._finishing:
                    await trio.lowlevel.wait_readable(engine.event_fd())
            await trio.lowlevel.checkpoint()

    def _drain(self, engine: native.Engine) -> None:
        more = True
        while more:
            drained = engine.drain(BATCH_SHARES)
            blocks = [each for each in drained.events if isinstance(each, native.BlockFound)]
            for event in drained.events:
                self._handle(engine, event)
            if drained.batch is not None:
                solving = {each.hash for each in blocks}
                self._hand_on(drained.batch, solving)
                engine.acknowledge(drained.batch)
            # Behind its share, which is of no worth any more once the pool knows the new tip.
            for each in blocks:
                self._listener.block(_found(each), each.header, each.coinbase_tx)
            if drained.stopped and not self._finishing:
                raise InternalError("the engine stopped although nobody had told it to")
            more = drained.more

    def _hand_on(self, batch: native.ShareBatch, solving: Collection[bytes]) -> None:
        exponent = self._listener.wanted_exponent()
        if exponent is None:
            return
        found = [
            FoundShare(
                batch.template_of(index),
                batch.version_of(index),
                batch.ntime_of(index),
                batch.nonce_of(index),
                batch.extranonce_of(index),
                batch.hash_of(index),
            )
            for index in batch.meeting(exponent)
        ]
        for each in sorted(found, key=lambda each: each.hash not in solving):
            self._listener.share(each)

    def _handle(self, engine: native.Engine, event: native.Event) -> None:
        match event:
            case native.ChannelRequested():
                self._decide(engine, event)
            case native.ChannelOpened():
                user, rate = self._pending.pop((event.connection, event.request), ("", 0.0))
                opened = Channel(user, rate, event.exponent)
                self.channels[event.connection, event.channel] = opened
                self._listener.note(f"{user or 'a miner'} mines")
                self._ease(event.connection, event.channel, event.exponent)
            case native.ExponentChanged():
                self._ease(event.connection, event.channel, event.exponent)
            case native.PrefixesLow():
                self._lease(engine)
            case native.Sv1TurnedAway():
                log.warning(
                    "an SV1 device called, which needs `radpool translator` before this port",
                    address=event.address,
                    turned_away=event.total,
                )
            case native.EngineFailed():
                log.error("a part of the engine cannot work", reason=event.message)
            case _:
                self._follow(event)

    def _follow(self, event: native.Event) -> None:
        match event:
            case native.ChannelUpdated() | native.ChannelReport():
                self._count(event)
            case native.SetUp():
                self._addresses[event.connection] = event.address
            case native.ChannelClosed():
                self._forget(event.connection, event.channel)
            case native.ChannelFailed():
                self._pending.pop((event.connection, event.request), None)
            case native.Disconnected():
                for connection, channel in list(self.channels):
                    if connection == event.connection:
                        self._forget(connection, channel)
                self._addresses.pop(event.connection, None)
            case _:
                pass

    def _count(self, event: native.ChannelUpdated | native.ChannelReport) -> None:
        channel = self.channels.get((event.connection, event.channel))
        if channel is None:
            return
        if isinstance(event, native.ChannelReport):
            channel.accepted, channel.work = event.accepted, event.work
        else:
            channel.nominal_rate = event.nominal_hash_rate

    def _forget(self, connection: int, channel: int) -> None:
        gone = self.channels.pop((connection, channel), None)
        if gone is not None:
            self._gone_work += gone.work
            self._listener.note(f"{gone.user or 'a miner'} left")

    def _decide(self, engine: native.Engine, event: native.ChannelRequested) -> None:
        """Opens every channel whose name can be shown: these are the owner's own miners."""
        try:
            identity = UserIdentity.parse(event.user_identity, anonymous=True)
        except RemoteProtocolError as error:
            engine.refuse_channel(event.connection, event.request, error.error_code)
            return
        name = ".".join(filter(None, (identity.account, identity.worker)))
        self._pending[event.connection, event.request] = (name, event.nominal_hash_rate)
        engine.open_channel(
            event.connection,
            event.request,
            account=0,
            commitment=NO_OWNER,
            rail=0,
            exponent=identity.exponent,
        )

    def _ease(self, connection: int, channel: int, exponent: int) -> None:
        known = self.channels.get((connection, channel))
        if known is not None:
            known.exponent = exponent
        lowest = self._config.mining.exponent_min
        if self._engine is not None and self._cap is not None and exponent > self._cap >= lowest:
            self._engine.set_exponent(connection, channel, self._cap)


def _found(event: native.BlockFound) -> FoundShare:
    return FoundShare(
        event.template_id, event.version, event.ntime, event.nonce, event.extranonce, event.hash
    )


def _settings(config: JdcConfig) -> native.EngineSettings:
    mining = config.mining
    return native.EngineSettings(
        **asdict(config.limits),
        msp_key=NO_OWNER,
        pool_text="",
        shares_per_minute=mining.shares_per_minute,
        exponent_min=mining.exponent_min,
        exponent_max=mining.exponent_max,
        version_rolling=mining.version_rolling,
        group_jobs=False,
        work_selection=False,
        rollable_fixed=mining.rollable_bytes,
        job_past_ms=mining.job_past_ms,
        job_stale_ms=JOB_STALE_MS,
        ntime_slack_s=NTIME_SLACK_S,
        report_interval_ms=REPORT_INTERVAL_MS,
        supported_extensions=[],
        required_extensions=[],
        share_messages=[],
        open_messages=[],
        prefixes_low=PREFIXES_LOW,
        solution_log=str(config.node.data_dir / SOLUTION_LOG),
        solution_socket=None,
    )


def _template(job: Job) -> native.Template:
    template, asked = job.own.template, job.coinbase.asked
    return native.Template(
        id=job.number,
        epoch=0,
        height=template.height,
        version=template.version,
        coinbase_tx_version=template.coinbase_tx_version,
        coinbase_prefix=template.coinbase_prefix,
        coinbase_sequence=template.coinbase_sequence,
        pool_outputs=asked.paid(template.value_sats),
        pool_output_count=1,
        template_outputs=template.template_outputs,
        template_output_count=template.template_output_count,
        coinbase_locktime=template.coinbase_locktime,
        merkle_path=template.merkle_path,
        owner_output=asked.others(),
        extranonce_head=job.coinbase.head,
    )


def _tip(job: Job) -> native.Tip:
    tip = job.own.tip
    return native.Tip(
        template_id=job.number,
        prev_hash=tip.prev_hash,
        min_ntime=tip.min_ntime,
        nbits=tip.nbits,
        target=tip.target,
        price=0,
    )

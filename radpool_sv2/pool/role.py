"""Runs the pool: one native engine, the ledger, a template source, and the decisions between them.

Theory of operation. `Pool` outlives its engine: when the role fails, `run` is called again and
starts a new engine on the same port, with the latest work and with the hashes of recent shares, so
that nothing is credited twice. While it runs, these tasks share one nursery:

- the intake moves shares from the engine to the ledger and hands events here;
- the work desk gives the engine each template, with the pool's output and the epoch;
- the block desk records solved blocks, submits them again, and settles what the chain confirms;
- the certificate watch keeps the listener's certificate valid;
- the extension desk passes frames and repeated shares on to the extensions, and runs these;
- where there is a declarator, the custom job desk judges what miners want to mine instead.

To leave: the listener closes, sockets are not read any more, the last drain is committed and
acknowledged, what waits for miners is sent, the engine ends. No acknowledged share can be lost by
any other order of events, because acknowledging comes last.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2._native.engine import (
    BlockFound,
    ChannelClosed,
    ChannelFailed,
    ChannelOpened,
    ChannelRequested,
    CustomJobRequested,
    Disconnected,
    Engine,
    EngineFailed,
    Event,
    ExtensionFrame,
    PrefixesLow,
    RepeatedShare,
    SetUp,
    Sv1TurnedAway,
)
from radpool_sv2.config import Endpoint
from radpool_sv2.errors import RemoteProtocolError, StoreError
from radpool_sv2.pool.account import (
    INTERNAL_ERROR,
    UNKNOWN_USER,
    OpeningBudget,
    UserIdentity,
)
from radpool_sv2.pool.block import BlockDesk
from radpool_sv2.pool.certificate import CertificateWatch
from radpool_sv2.pool.declared_block import DIRECTORY, DeclaredBlocks
from radpool_sv2.pool.desk import ExtensionDesk
from radpool_sv2.pool.extension import ChannelGrant
from radpool_sv2.pool.intake import Intake
from radpool_sv2.pool.outlet import BlockOutlet
from radpool_sv2.pool.roster import Roster
from radpool_sv2.pool.setting import (
    SOLUTION_LOG,
    engine_settings,
    gathering_of,
    payout_script,
    weighing_of,
)
from radpool_sv2.pool.work import Payee, to_native_template, to_native_tip
from radpool_sv2.templates.board import TipBoard
from radpool_sv2.templates.declared import DECLARED_ID_MIN, Owner, TipView

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2._native.keys import ServerIdentity
    from radpool_sv2._native.translator import Translator
    from radpool_sv2.chain.transaction import Transaction
    from radpool_sv2.config import MspConfig
    from radpool_sv2.keyfile import KeyRing
    from radpool_sv2.ledger import Account, Ledger
    from radpool_sv2.pool.certificate import IdentityBearer
    from radpool_sv2.pool.custom import CustomJobDesk
    from radpool_sv2.pool.registry import ExtensionRegistry
    from radpool_sv2.templates.source import ChainEvent, Solution, TemplateSource, TemplateUpdate

__all__ = ["Pool"]

log = structlog.get_logger(__name__)

RAIL_ACCOUNT: Final = 0
"""Shares are paid to an account in the MSP's ledger."""

STOP_MS_MAX: Final = 1_000
"""How long the engine may flush to clients when it stops; they have what is durable anyway."""

LEASE_RETRY_SECONDS: Final = 1.0

ACCOUNTS_REMEMBERED_MAX: Final = 50_000
"""Some hundred bytes each; they never change, so a forgotten one costs a look into the ledger."""

TROUBLE_SECONDS: Final = 600.0
"""How long the health page tells of what the engine could not do: it happened, it does not last."""


CATCH_UP_SECONDS: Final = 1.0
"""Until then the jobs of a new tip are out and what opens with an epoch is told: a claim names no
keyset that is older than its share."""


class Pool:
    """Is the pool of an MSP; `run` is its role.

    Attributes:
        roster: The connections and channels of now.
        address: Where miners connect, once it serves.
        work: The latest template and its tip, and the epoch that it was published for.
        script: Where the pool itself is paid.
        payee: Whom the blocks pay that are mined now.
        weighing: Prices templates: its own ones and those that miners declare.
        tip: The latest change of the chain; None before the template source has told any.
        board: What is mined now, for whoever waits for it.
        custom: Judges the jobs of miners; None where there is no declarator.
        outlet: Sends the blocks of miners' templates.
        bearers: Other listeners that show the pool's certificate.
        changed: Are called on trio's thread when the chain has another tip, when a block was
            recorded and when settlements were brought in line with the chain; must not wait.
        offered: Are called on trio's thread with each template that is mined now; must not wait.
        shared: Tells by a block's coinbase whether others have a part in what it pays.
        sharing: Is set once blocks pay others, too.
        started_unix_ms: When it began to serve.
    """

    def __init__(  # noqa: PLR0913 - what the pool joins
        self,
        config: MspConfig,
        keys: KeyRing,
        ledger: Ledger,
        source: TemplateSource,
        extensions: ExtensionRegistry,
        *,
        listen: Endpoint | None = None,
    ) -> None:
        """Takes what the pool joins; `listen` replaces the address of the configuration.

        Raises:
            ConfigError: The payout address or a combination of settings cannot be used.
        """
        self._config = config
        self._keys = keys
        self.ledger = ledger
        self._source = source
        self._extensions = extensions
        self.script = payout_script(config.templates.payout_address, config.templates.network)
        self.weighing, self._reference = weighing_of(config, self.script)
        ledger.weigh_by(self.weighing)
        socket = source.solution_socket()
        self._hurries = socket is None
        self._settings = engine_settings(
            config, keys.msp.public, extensions, None if socket is None else str(socket)
        )
        self._solution_log = config.node.data_dir / SOLUTION_LOG
        self.board = TipBoard()
        self.custom: CustomJobDesk | None = None
        self.bearers: list[IdentityBearer] = []
        self._declared = DeclaredBlocks(config.node.data_dir / DIRECTORY)
        self.outlet = BlockOutlet(source, ledger, self._declared, self._solved)
        self._listen = listen or config.mining.listen
        self.roster = Roster()
        self.address: Endpoint | None = None
        self.work: TemplateUpdate | None = None
        self._work_epoch = 0
        self._catches_up = False
        self.tip: ChainEvent | None = None
        self.tip_height = 0
        self.changed: set[Callable[[], None]] = set()
        self.offered: set[Callable[[TemplateUpdate], None]] = set()
        self.shared: Callable[[Transaction], bool] = lambda _: False
        self.sharing = trio.Event()
        self.payee = Payee.one(self.script)
        self._payee_next: Payee | None = None
        self._floor = 0
        self.started_unix_ms = 0
        self.is_serving = False
        self._engine: Engine | None = None
        self._sv1: Translator | None = None
        self._blocks: list[BlockFound] = []
        self._accounts: dict[str, Account] = {}
        self._openings = OpeningBudget(config.ledger.new_accounts_per_minute_max, time.monotonic())
        self._engine_trouble = ""
        self._engine_trouble_s = -TROUBLE_SECONDS
        self._first_work = trio.Event()

    def problems(self) -> list[str]:
        """Tells what keeps the pool from working, in plain words; nothing when it is healthy."""
        found = []
        if time.monotonic() - self._engine_trouble_s < TROUBLE_SECONDS:
            found.append(self._engine_trouble)
        if not self.is_serving:
            found.append("the pool does not serve now; the log says why")
        else:
            found += [part.problem for part in (self._intake, self._watch) if part.problem]
        return [*found, *self._source.problems()]

    def set_identity(self, identity: ServerIdentity) -> None:
        """Shows another certificate, at all listeners of the node that have the pool's identity."""
        if self._engine is not None:
            self._engine.set_identity(identity)
        for bearer in self.bearers:
            bearer.set_identity(identity)

    def served_at(self) -> Endpoint:
        """Returns where miners connect; must be asked once it has served."""
        assert self.address is not None
        return self.address

    def lead_sv1(self, translator: Translator | None) -> None:
        """Leads devices that speak Stratum V1 to a translator, whichever engine runs; or away."""
        self._sv1 = translator
        if self._engine is not None:
            self._engine.set_sv1(translator)

    def metrics(self) -> dict[str, int]:
        """Returns the engine's counters and gauges; none while it does not run."""
        return {} if self._engine is None else self._engine.metrics()

    async def follow_work(self, updates: trio.MemoryReceiveChannel[TemplateUpdate]) -> None:
        """Takes the template source's updates for ever and gives them to whichever engine runs."""
        async for update in updates:
            previous, self.work = self.work, update
            self._first_work.set()
            moved = self._post(update)
            if moved and self._payee_next is not None:
                self._turn()
            if self._engine is not None:
                is_activation = previous is not None and previous.template.id == update.template.id
                self._publish(self._engine, activate=is_activation)
            # Not before the jobs are out: whatever it lets go takes time.
            if moved and self.custom is not None:
                self.custom.tip_changed()

    def _post(self, update: TemplateUpdate) -> bool:
        """Tells the board what is mined now; returns whether it builds on another block.

        A future template is not mined yet.
        """
        tip = update.tip
        if tip is None:
            return False
        self._reference.offered(tip.prev_hash, update.template.fees_sats)
        for listener in tuple(self.offered):
            listener(update)
        return self.board.post(
            TipView(
                height=update.template.height,
                prev_hash=tip.prev_hash,
                min_ntime=tip.min_ntime,
                nbits=tip.nbits,
                target=tip.target,
                time_min=tip.time_min,
            )
        )

    def pay(self, payee: Payee) -> None:
        """Makes blocks pay somebody else.

        When the pool begins to share its blocks, that is from the next tip on: so no batch has
        shares on both kinds of templates, but for those that were on their way.
        """
        if self._engine is not None and payee.is_shared and not self.payee.is_shared:
            self._payee_next = payee
            return
        republishes = payee.script != self.payee.script
        self._payee_next = payee
        self._turn()
        if self._engine is not None and republishes:
            self._publish(self._engine, activate=False)

    def set_floor(self, exponent: int) -> None:
        """Gives no channel shares that are easier than this, whatever the settings say."""
        if exponent != self._floor:
            self._floor = exponent
            self._tell_terms()
            if self._engine is not None:
                self._engine.set_floor(exponent)

    def _tell_terms(self) -> None:
        """Tells miners who make their own jobs whom these are to pay, and how hard shares are."""
        if self.custom is not None:
            self.custom.terms.pay(self.payee.script, is_shared=self.payee.is_shared)
            self.custom.terms.set_floor(max(self._floor, self._config.mining.exponent_min))

    def _turn(self) -> None:
        assert self._payee_next is not None
        self.payee, self._payee_next = self._payee_next, None
        if self.weighing.script != self.payee.script:
            self.weighing.pay(self.payee.script)
            self._tell_terms()
            log.info("blocks pay another script", script=self.payee.script.hex())
        if self.payee.is_shared:
            self.sharing.set()
        # A template that waits for its tip was made for the former payee.
        self._work_epoch = -1

    async def record_part(self, block_hash: bytes, height: int, value_sats: int) -> bool:
        """Records a block that pays a federation, with the part of it that is the pool's.

        Returns:
            Whether it is recorded: not while the pool does not serve.

        Raises:
            StoreError: It is not durable.
        """
        if self._engine is None:
            return False
        await self._desk.record_part(block_hash, height, value_sats)
        return True

    async def follow_chain(self, events: trio.MemoryReceiveChannel[ChainEvent]) -> None:
        """Takes the template source's changes of the chain for ever."""
        async for event in events:
            self.tip = event
            self.tip_height = event.height
            log.info("new tip", height=event.height, undone=len(event.disconnected))
            self._tell_changed()
            if self._engine is not None:
                self._desk.tip_changed()

    def _tell_changed(self) -> None:
        if self._engine is not None and self._is_behind() and not self._catches_up:
            self._catches_up = True
            self._nursery.start_soon(self._catch_up, self._engine)
        for listener in tuple(self.changed):
            listener()

    def _is_behind(self) -> bool:
        """Says whether a block has closed the epoch of the work behind it.

        A node may tell of a block of ours as the new tip before the ledger has recorded it. Work on
        the tip before is never behind: that on the block is on its way.
        """
        if self.work is None or self.work.tip is None:
            return False
        is_later = self.work.template.height > self._desk.height
        return is_later and self._work_epoch != self.ledger.current_epoch

    async def _catch_up(self, engine: Engine) -> None:
        """Gives the work out again for the epoch that is open, unless other work has come."""
        await trio.sleep(CATCH_UP_SECONDS)
        self._catches_up = False
        if self._is_behind():
            self._publish(engine, activate=False)

    async def run(self, stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        """Serves miners until `stop` is set, then leaves in order.

        Raises:
            ConfigError: The listener's address cannot be had, or a file cannot be written.
            StoreError: The ledger does not answer at the start.
        """
        await self._first_work.wait()
        engine = Engine(self._settings, self._keys.identity())
        try:
            async with trio.open_nursery() as nursery:
                await self._prepare(engine, nursery)
                host, port = engine.listen(self._listen.host, self._listen.port)
                # Port 0 means any free one the first time; miners then expect to find it again.
                self._listen = self.address = Endpoint(host, port)
                self.started_unix_ms = self.started_unix_ms or time.time_ns() // 1_000_000
                nursery.start_soon(self._leave_when_told, engine, stop)
                self.is_serving = True
                task_status.started()
                await self._intake.run()
                nursery.cancel_scope.cancel()
        finally:
            self.is_serving = False
            self._engine = None
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(engine.stop, STOP_MS_MAX)

    async def _prepare(self, engine: Engine, nursery: trio.Nursery) -> None:
        """Gives a new engine all that it needs before the first miner comes."""
        ledger = self._config.ledger
        hashes = await self.ledger.recent_hashes(ledger.replay_shares)
        await trio.to_thread.run_sync(engine.preload_seen, hashes)
        engine.add_prefixes(*await self.ledger.reserve_prefixes(ledger.prefix_lease))
        self._nursery = nursery
        self._catches_up = False
        self._blocks.clear()
        self._extensions.attach(engine)
        self._desk = BlockDesk(
            self.ledger,
            self._source,
            self._solution_log,
            self._declared,
            self._tell_changed,
            shared=self.shared,
        )
        self._watch = CertificateWatch(self._keys, self._config.keys, self)
        self._intake = Intake(
            engine,
            self.ledger,
            self._extensions,
            gathering_of(self._config),
            self._handle,
            self._hand_over,
        )
        self._relay = ExtensionDesk(engine, self._extensions)
        self._engine = engine
        engine.set_sv1(self._sv1)
        engine.set_floor(self._floor)
        self._publish(engine, activate=False)
        if self.custom is not None:
            self._tell_terms()
            self.custom.started()
        nursery.start_soon(self._desk.run)
        nursery.start_soon(self.outlet.run)
        nursery.start_soon(self._watch.run)
        await nursery.start(self._relay.run)

    async def _leave_when_told(self, engine: Engine, stop: trio.Event) -> None:
        await stop.wait()
        engine.stop_accepting()
        engine.pause_reads()
        self._intake.finish()

    def _publish(self, engine: Engine, *, activate: bool) -> None:
        assert self.work is not None
        template, tip = self.work.template, self.work.tip
        native_tip = None
        if tip is not None:
            price = self.weighing.price(tip, template.height, template.value_sats)
            native_tip = to_native_tip(tip, price)
        epoch = self.ledger.current_epoch
        if activate and native_tip is not None and epoch == self._work_epoch:
            engine.activate_template(native_tip)
            return
        self._work_epoch = epoch
        engine.publish_template(to_native_template(template, epoch, self.payee), native_tip)
        log.debug("template published", template=template.id, height=template.height, epoch=epoch)

    def _handle(self, event: Event) -> None:
        """Takes an event of the engine; what has to wait becomes a task."""
        engine = self._engine
        assert engine is not None
        self.roster.apply(event)
        if isinstance(event, ChannelRequested):
            self._nursery.start_soon(self._decide, engine, event)
        elif isinstance(event, CustomJobRequested):
            self._nursery.start_soon(self._decide_job, engine, event)
        elif isinstance(event, BlockFound):
            self._count_block(event)
        elif isinstance(event, PrefixesLow):
            self._nursery.start_soon(self._lease_prefixes, engine)
        elif isinstance(event, ExtensionFrame):
            self._relay.frame(event)
        elif isinstance(event, RepeatedShare):
            self._relay.repeated(event)
        elif isinstance(event, Sv1TurnedAway):
            self._warn_of_sv1(event)
        elif isinstance(event, EngineFailed):
            self._engine_trouble, self._engine_trouble_s = event.message, time.monotonic()
            log.error("a part of the engine cannot work", reason=event.message)
        else:
            self._follow(event)

    def _follow(self, event: Event) -> None:
        """Tells the extensions and the log who comes and goes."""
        if self.custom is not None:
            self.custom.hear(event)
        if isinstance(event, SetUp):
            log.info("miner came", connection=event.connection, address=event.address)
        elif isinstance(event, ChannelOpened):
            self._extensions.opened(event)
            log.info("channel opened", connection=event.connection, channel=event.channel)
        elif isinstance(event, ChannelFailed):
            self.roster.refuse(event.connection, event.request)
            log.warning("channel not opened", connection=event.connection, code=event.code)
        elif isinstance(event, ChannelClosed):
            self._extensions.closed(event)
        elif isinstance(event, Disconnected):
            self._extensions.disconnected(event.connection)
            log.info("miner left", connection=event.connection, reason=event.reason)

    def _warn_of_sv1(self, event: Sv1TurnedAway) -> None:
        if self._config.sv1.on_same_port:
            text = "an SV1 device was turned away: the role that serves such devices is down"
        else:
            text = (
                "an SV1 device called at the SV2 port and was turned away; to serve such devices "
                "set sv1.on_same_port = true, or run `radpool translator` for them"
            )
        log.warning(text, address=event.address, turned_away=event.total)

    async def _decide(self, engine: Engine, event: ChannelRequested) -> None:
        """Opens or refuses a channel: whoever names an account that can be read may mine."""
        by_extension = event.extension_type != 0
        try:
            identity = UserIdentity.parse(event.user_identity, anonymous=by_extension)
            self.roster.request(event, identity)
            if by_extension:
                grant = await self._extensions.open(event)
            else:
                account = await self.account(identity.account)
                grant = ChannelGrant(account.id, account.commitment, RAIL_ACCOUNT, None, b"")
        except RemoteProtocolError as error:
            log.warning("channel refused", connection=event.connection, reason=str(error))
            self.roster.refuse(event.connection, event.request)
            code = error.error_code or INTERNAL_ERROR
            engine.refuse_channel(event.connection, event.request, code)
        except StoreError as error:
            log.error("no account for a new channel", reason=str(error))  # noqa: TRY400
            self.roster.refuse(event.connection, event.request)
            engine.refuse_channel(event.connection, event.request, INTERNAL_ERROR)
        else:
            if self.custom is not None:
                owner = Owner(grant.account, identity.account, grant.commitment, grant.rail)
                self.custom.granted(event.connection, event.request, owner)
            engine.open_channel(
                event.connection,
                event.request,
                account=grant.account,
                commitment=grant.commitment,
                rail=grant.rail,
                exponent=identity.exponent if grant.exponent is None else grant.exponent,
                tail=grant.tail,
                before=grant.before,
            )

    async def _decide_job(self, engine: Engine, event: CustomJobRequested) -> None:
        if self.custom is None:
            code = "jd-not-supported"
            engine.refuse_custom_job(event.connection, event.channel, event.request, code)
        else:
            await self.custom.decide(engine, event)

    async def account(self, name: str) -> Account:
        """Returns an account, from memory if it can: all miners come back together after a cut.

        Raises:
            RemoteProtocolError: It is new, and too many new ones have come lately.
            StoreError: The ledger does not answer.
        """
        account = self._accounts.get(name)
        if account is None:
            account = await self.ledger.find_account(name) or await self._open_account(name)
            if len(self._accounts) >= ACCOUNTS_REMEMBERED_MAX:
                self._accounts.clear()
            self._accounts[name] = account
        return account

    async def _open_account(self, name: str) -> Account:
        if not self._openings.take(time.monotonic()):
            raise RemoteProtocolError(
                f"the account {name!r} is new, and ledger.new_accounts_per_minute_max is reached",
                UNKNOWN_USER,
            )
        return await self.ledger.account(name)

    async def _lease_prefixes(self, engine: Engine) -> None:
        while True:
            try:
                start, end = await self.ledger.reserve_prefixes(self._config.ledger.prefix_lease)
            except StoreError as error:
                log.error("no extranonce prefixes can be leased", reason=str(error))  # noqa: TRY400
                await trio.sleep(LEASE_RETRY_SECONDS)
            else:
                engine.add_prefixes(start, end)
                return

    def _count_block(self, event: BlockFound) -> None:
        # Held until what was drained with it is committed: its epoch closes behind its shares.
        self._blocks.append(event)
        if self._hurries and event.template_id < DECLARED_ID_MIN:
            self._desk.hurry(event)
        if event.template_id >= DECLARED_ID_MIN and self.custom is not None:
            self.custom.solved(event.connection, event.channel, event.hash)
            self._nursery.start_soon(self.outlet.found, self.custom, event)
        channel = self.roster.channel(event.connection, event.channel)
        if channel is not None:
            channel.blocks_found += 1

    def _solved(self, solution: Solution, account: int) -> None:
        if self._engine is not None:
            self._desk.solved(solution, account)

    def _hand_over(self) -> None:
        """Passes on what had to wait until all shares before it are durable."""
        for event in self._blocks:
            self._desk.found(event)
        self._blocks.clear()
        self._relay.release()

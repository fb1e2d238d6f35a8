"""Runs a job declarator client: own templates, the ladder of pools, miners behind it.

Theory of operation. A template of the node becomes an own template (policies), is offered to each
pool that is connected, and goes to the miners by whoever is in use: a pool's machine, or solo while
there is none. `Ladder` decides which pool that is; `Upstream` speaks to one of them; this module
carries out what both want. Tasks, all in one nursery:

- the source, whose updates become own templates, newest first;
- one link for each pool that is tried or used, which lingers a moment when it is left so that the
  last shares are answered;
- the front, which serves miners and hands their shares to the link of the share's job;
- the desk that sees blocks through; the ladder's clock; the sides of extensions that carry shares.

A new tip never waits: when the pool in use has no token at hand, the miners mine solo until it has.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict, deque
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count, islice
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.errors import ConfigError, NodeError, RadpoolError
from radpool_sv2.jdc.block import BlockDesk
from radpool_sv2.jdc.carried import Carried
from radpool_sv2.jdc.coinbase import Coinbase, JobOutputs, block_bytes
from radpool_sv2.jdc.front import JOB_STALE_MS, Front
from radpool_sv2.jdc.job import FoundShare, Job
from radpool_sv2.jdc.ladder import Drop, Failed, Ladder, Try, Use, Worked
from radpool_sv2.jdc.link import PoolLink, PoolPlace
from radpool_sv2.jdc.policy import Rules, TemplatePolicy, find_policies
from radpool_sv2.jdc.reveal import RevealDesk
from radpool_sv2.jdc.selection import Selection
from radpool_sv2.jdc.submission import Totals
from radpool_sv2.jdc.upstream import Fails, Upstream, UpstreamSettings
from radpool_sv2.miner.side import DeclarerSide, SideOptions, find_side
from radpool_sv2.network import NETWORKS, script_from_address
from radpool_sv2.sources import follow
from radpool_sv2.templates.source import Solution
from radpool_sv2.units import EXPONENT_MAX

if TYPE_CHECKING:
    from radpool_sv2._native.keys import AuthoritySecretKey
    from radpool_sv2.config import Endpoint
    from radpool_sv2.config.jdc import JdcConfig
    from radpool_sv2.jdc.work import OwnTemplate
    from radpool_sv2.templates.source import ChainEvent, TemplateSource, TemplateUpdate

__all__ = ["DeclaringClient", "Rung"]

log = structlog.get_logger(__name__)

ECASH: Final = "ecash"
JOBS_REMEMBERED_MIN: Final = 64
JOBS_REMEMBERED_MAX: Final = 4_096
"""Beyond the first number jobs are forgotten when no miner can be at them any more. They share
their transactions."""
NOTES_MAX: Final = 256
LINGER_S: Final = 2.0
"""How long a pool that is left may answer the last shares."""
LEAVE_S: Final = 1.0
RATE_S: Final = 1.0
NODE_RETRY_S: Final = 1.0
SOLO_HEAD_LEN: Final = 8
TARGET_BITS: Final = 256


@dataclass
class Rung:
    """Is a pool of the list, over all its connections.

    Attributes:
        place: Where it is.
        totals: What became of its shares.
        link: The present try.
        scope: Ends it.
        failure: Why it was given up last; empty when it never was.
        side: The side of the extension that carries its shares.
        carried: The counter to that side.
        serves: Whether the side was started.
        broken: Whether the side has found the pool out.
    """

    place: PoolPlace
    totals: Totals = field(default_factory=Totals)
    link: PoolLink | None = None
    scope: trio.CancelScope | None = None
    failure: str = ""
    side: DeclarerSide | None = None
    carried: Carried | None = None
    serves: bool = False
    broken: bool = False


class DeclaringClient:
    """Is the client; see the module's head.

    Args:
        config: The configuration.
        authority: Whom miners trust.
        source: Where templates come from.
        listen: Where miners connect, if not where the configuration says.

    Attributes:
        rungs: The pools.
        front: The miners.
        blocks: The blocks.
        own: The newest own template.
        tip_height: The height of the chain.
    """

    def __init__(
        self,
        config: JdcConfig,
        authority: AuthoritySecretKey,
        source: TemplateSource,
        listen: Endpoint | None = None,
    ) -> None:
        """Takes what the client joins.

        Raises:
            ConfigError: A key, an address or a rule cannot be read.
        """
        self._config = config
        self._source = source
        network = NETWORKS[config.templates.network]
        try:
            script = script_from_address(config.templates.payout_address, network)
        except RadpoolError as error:
            value = repr(config.templates.payout_address)
            key = "templates.payout_address"
            raise ConfigError(str(error), key=key, value=value) from error
        self._solo = JobOutputs.paying(script)
        policy = config.policy
        policies: list[TemplatePolicy] = []
        if not policy.asks_for_nothing():
            policies = [Rules(policy, network), *find_policies(policy.policies)]
        self.selection = Selection(
            source,
            policies,
            weight_max=policy.weight_max,
            deadline_s=policy.deadline_ms / 1000,
            script=script,
        )
        self.rungs = [Rung(PoolPlace(each)) for each in config.pools]
        self.ladder = self._new_ladder()
        self.front = Front(config, authority, self, listen)
        self.blocks = BlockDesk(source, config.node.data_dir / "blocks", self.note)
        self.reveals = RevealDesk(self.note)
        self.own: OwnTemplate | None = None
        self.tip_height = 0
        self.solo_jobs = 0
        self._numbers = count(1)
        self._job_past_s = max(config.mining.job_past_ms, JOB_STALE_MS) / 1000
        self._tip = b""
        self._room = (self._solo.size, self._solo.sigops)
        self._solo_head = secrets.token_bytes(SOLO_HEAD_LEN)
        self._jobs: OrderedDict[int, tuple[Job, Rung | None]] = OrderedDict()
        self._present: Job | None = None
        self._notes: deque[tuple[int, str]] = deque(maxlen=NOTES_MAX)
        self._first = trio.Event()
        self._stirred = trio.Event()

    # What is known

    @property
    def in_use(self) -> Rung | None:
        """The pool that is mined for; None is solo."""
        return None if self.ladder.in_use is None else self.rungs[self.ladder.in_use]

    @property
    def job(self) -> Job | None:
        """The job that miners have."""
        return self._present

    def note(self, text: str) -> None:
        """Keeps what people want to know."""
        self._notes.append((time.time_ns() // 1_000_000, text))

    def take_notes(self) -> list[tuple[int, str]]:
        """Returns what happened since the last call: milliseconds since 1970 and a sentence."""
        notes = list(self._notes)
        self._notes.clear()
        for rung in self.rungs:
            if rung.side is not None:
                notes += rung.side.events()
        return sorted(notes)

    def problems(self) -> list[str]:
        """Tells what is wrong, in plain words; nothing when all is well."""
        found = list(self._source.problems())
        if self.selection.problem:
            found.append(self.selection.problem)
        if self.rungs and self.ladder.in_use != 0:
            found += [
                f"{rung.place.name} is not mined for: {rung.failure}"
                for rung in self.rungs[: self.ladder.in_use]
                if rung.failure
            ]
        asked = None if self._present is None else self._asked_exponent(self._present)
        lowest = self._config.mining.exponent_min
        if asked is not None and asked < lowest:
            found.append(
                f"the pool counts shares of {asked} zero bits, and your miners send none below "
                f"{lowest}: lower mining.exponent_min, or most of their work counts for nothing"
            )
        return found

    # The role

    async def run(self, stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        """Serves miners until `stop` is set, then leaves in order.

        Raises:
            ConfigError: The listener's address cannot be had, or a wallet is missing.
        """
        self.ladder = self._new_ladder()
        async with AsyncExitStack() as stack:
            for rung in self.rungs:
                rung.link, rung.serves, rung.broken = None, False, False
                if rung.place.section.ecash:
                    await self._open_side(rung, stack)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await nursery.start(follow, self._source, self)
                await nursery.start(self.blocks.run)
                nursery.start_soon(self.reveals.run)
                await self._first.wait()
                async with trio.open_nursery() as front:
                    await front.start(self.front.run, self._make_solo())
                    self.ladder.start(trio.current_time())
                    self._climb()
                    nursery.start_soon(self._keep_time)
                    nursery.start_soon(self._keep_rate)
                    task_status.started()
                    await stop.wait()
                    self.front.finish()
                with trio.move_on_after(LEAVE_S):
                    await self._wait_for_answers()
                nursery.cancel_scope.cancel()
            await self._finish_sides()

    def _new_ladder(self) -> Ladder:
        declaration = self._config.declaration
        return Ladder(len(self.rungs), declaration.retry_s, declaration.retry_s_max)

    async def _wait_for_answers(self) -> None:
        for rung in self.rungs:
            if rung.link is not None:
                await _settle(rung.link)

    async def _finish_sides(self) -> None:
        """Lets the extensions' sides take in what came last, and leave in order."""
        async with trio.open_nursery() as nursery:
            for rung in self.rungs:
                if rung.serves and not rung.broken:
                    nursery.start_soon(self._finish_side, rung)

    async def _finish_side(self, rung: Rung) -> None:
        assert rung.side is not None
        assert rung.carried is not None
        try:
            await rung.side.finish(rung.carried)
        except RadpoolError as error:
            self.note(f"{rung.place.name} broke what its extension promises: {error}")

    async def _open_side(self, rung: Rung, stack: AsyncExitStack) -> None:
        wallet = self._config.wallet
        options = SideOptions(
            directory=wallet.dir,
            policy=None if wallet.policy == "any" else wallet.policy,
            sign_mode=wallet.sign_mode,
            unsigned_max=wallet.unsigned_max,
            mint_url=wallet.mint_url or None,
        )
        side = await stack.enter_async_context(find_side(ECASH)(options))
        if not isinstance(side, DeclarerSide):
            raise ConfigError("the installed extension 'ecash' cannot carry declared jobs")
        rung.side = side
        rung.carried = Carried(side.carrier)
        stack.callback(rung.carried.close)

    # Templates

    async def follow_work(self, updates: trio.MemoryReceiveChannel[TemplateUpdate]) -> None:
        """Makes own templates of those of the source, until there are no more."""
        async for each in updates:
            newest: TemplateUpdate | None = each
            while newest is not None:
                newest = await self._take_update(newest, updates)

    async def _take_update(
        self, update: TemplateUpdate, updates: trio.MemoryReceiveChannel[TemplateUpdate]
    ) -> TemplateUpdate | None:
        """Makes an own template of an update; returns a newer one that has come meanwhile."""
        try:
            own = await self.selection.prepare(update)
        except NodeError as error:
            log.warning("a template cannot be read", reason=str(error))
            await trio.sleep(NODE_RETRY_S)
            return _last(updates) or update
        if own is not None:
            self._offer(own)
        return _last(updates)

    async def follow_chain(self, events: trio.MemoryReceiveChannel[ChainEvent]) -> None:
        """Tells of blocks that come and go, until nothing more happens."""
        async for event in events:
            self.tip_height = event.height
            self.reveals.tip_changed((*event.connected, event.hash), self._tip)
            self._tip = event.hash

    def _offer(self, own: OwnTemplate) -> None:
        previous, self.own = self.own, own
        self._first.set()
        now_s = trio.current_time()
        for rung in self.rungs:
            if rung.link is not None:
                rung.link.machine.offer(own, now_s)
                rung.link.act()
        is_new_tip = previous is None or previous.tip.prev_hash != own.tip.prev_hash
        is_stale = self._present is not None and self._present.prev_hash != own.tip.prev_hash
        if self.in_use is None or (is_new_tip and is_stale):
            self._publish(self._make_solo(), None)

    def _make_solo(self) -> Job:
        assert self.own is not None, "solo begins with a template"
        length = SOLO_HEAD_LEN + self.front.extranonce_len
        # The head is this start's own, so that no two starts hash the same.
        coinbase = Coinbase(self.own.template, self._solo, self._solo_head, length)
        job = Job(next(self._numbers), self.own, coinbase)
        self._remember(job, None)
        return job

    def _remember(self, job: Job, rung: Rung | None) -> None:
        now_s = trio.current_time()
        job.given_s = job.given_s or now_s
        self._jobs[job.number] = (job, rung)
        while len(self._jobs) > JOBS_REMEMBERED_MIN:
            oldest, successor, *_ = islice(self._jobs.values(), 2)
            # A block may be found on a job for as long as it is valid after the next one came.
            is_over = now_s - successor[0].given_s > self._job_past_s
            if not is_over and len(self._jobs) <= JOBS_REMEMBERED_MAX:
                return
            del self._jobs[oldest[0].number]

    def _publish(self, job: Job, rung: Rung | None) -> None:
        self._remember(job, rung)
        if self.own is not None and job.prev_hash != self.own.tip.prev_hash:
            return  # it came too late for its tip
        self._present = job
        if rung is None:
            self.solo_jobs += 1
        self.front.publish(job)
        self.front.cap(self._exponent_of(job, rung))

    def _asked_exponent(self, job: Job) -> int | None:
        """Returns what the pool of a job asks for, if it is a pool's."""
        _, rung = self._jobs.get(job.number, (None, None))
        return self._exponent_of(job, rung)

    @staticmethod
    def _exponent_of(job: Job, rung: Rung | None) -> int | None:
        """Returns the largest exponent whose shares all meet a pool's target."""
        if rung is None or rung.link is None:
            return None
        return TARGET_BITS - rung.link.machine.target_of(job).bit_length()

    # The ladder

    def _climb(self) -> None:
        """Carries out what the ladder wants."""
        while (effect := self.ladder.poll()) is not None:
            match effect:
                case Try(number):
                    self._try(self.rungs[number])
                case Drop(number):
                    self._drop(self.rungs[number])
                case Use(number):
                    self._use(None if number is None else self.rungs[number])
        self._stirred.set()

    async def _keep_time(self) -> None:
        while True:
            self._stirred = trio.Event()
            due_s = self.ladder.next_deadline()
            with trio.move_on_at(float("inf") if due_s is None else due_s):
                await self._stirred.wait()
            self.ladder.handle_deadline(trio.current_time())
            self._climb()

    async def _keep_rate(self) -> None:
        while True:
            await trio.sleep(RATE_S)
            now_s = trio.current_time()
            rate = self.front.hash_rate(now_s)
            for rung in self.rungs:
                if rung.link is not None:
                    rung.link.machine.set_rate(rate, now_s)
                    rung.link.act()

    def _try(self, rung: Rung) -> None:
        machine = Upstream(
            self._upstream_settings(rung),
            lambda: next(self._numbers),
            rung.totals,
            rung.carried,
            None if rung.side is None else rung.side.declarer,
        )
        rung.scope = trio.CancelScope()
        rung.link = PoolLink(
            rung.place, machine, self, version_rolling=self._config.mining.version_rolling
        )
        if self.own is not None:
            machine.offer(self.own, trio.current_time())
        self._nursery.start_soon(self._run_link, rung, rung.link, rung.scope)

    async def _run_link(self, rung: Rung, link: PoolLink, scope: trio.CancelScope) -> None:
        extension = None
        if rung.carried is not None:
            extension = rung.carried.carrier.extension_type
            if not rung.serves:
                rung.serves = True
                self._nursery.start_soon(self._run_side, rung, rung.carried)
        with scope:
            deadline_s = self._config.declaration.connect_deadline_ms / 1000
            if rung.carried is not None:
                with trio.move_on_after(deadline_s) as waiting:
                    await rung.carried.wait_cleared()
                if waiting.cancelled_caught:
                    link.fail("the wallet has not taken in yet how the last connection ended")
                    return
                rung.carried.open()
                rung.carried.on_stir = lambda: _stir(link)
            rate = self.front.hash_rate(trio.current_time())
            await link.run(rate, extension, deadline_s)
        link.fail("it was left")

    async def _run_side(self, rung: Rung, carried: Carried) -> None:
        """Lets the extension's side serve; what it finds wrong ends all trust in the pool."""
        assert rung.side is not None
        try:
            await rung.side.run(carried)
        except RadpoolError as error:
            log.error("a pool broke what its extension promises", pool=rung.place.name)  # noqa: TRY400
            rung.failure, rung.broken = str(error), True
            self.note(f"{rung.place.name} is not mined for any more: {error}")
            self.ladder.handle(Failed(self.rungs.index(rung), for_good=True), trio.current_time())
            self._climb()

    def _drop(self, rung: Rung) -> None:
        link, scope, rung.link = rung.link, rung.scope, None
        if link is not None and scope is not None:
            self._nursery.start_soon(self._linger, link, scope)

    @staticmethod
    async def _linger(link: PoolLink, scope: trio.CancelScope) -> None:
        with trio.move_on_after(LINGER_S):
            await _settle(link)
        scope.cancel()

    def _use(self, rung: Rung | None) -> None:
        if rung is None:
            self.note("mining solo")
            if self.own is not None and self.front.address is not None:
                self._publish(self._make_solo(), None)
            return
        assert rung.link is not None, "a pool that works has a link"
        rung.failure = ""
        self.note(f"mining for {rung.place.name}")
        log.info("mining for a pool", pool=rung.place.name)
        rung.link.machine.use(trio.current_time())
        rung.link.act()

    def _upstream_settings(self, rung: Rung) -> UpstreamSettings:
        declaration, section = self._config.declaration, rung.place.section
        return UpstreamSettings(
            user=section.user,
            full_template=section.mode == "full-template",
            extranonce_len=self.front.extranonce_len,
            interval_s=declaration.interval_s,
            tokens_ahead=declaration.tokens_ahead,
            open_deadline_s=declaration.connect_deadline_ms / 1000,
            token_deadline_s=declaration.token_deadline_ms / 1000,
            declare_deadline_s=declaration.declare_deadline_ms / 1000,
            custom_job_deadline_s=declaration.custom_job_deadline_ms / 1000,
            share_deadline_s=declaration.share_deadline_ms / 1000,
            refusals_max=declaration.refusals_max,
            rejected_shares_max=declaration.rejected_shares_max,
            cached_shares_max=declaration.cached_shares_max,
        )

    # What links tell

    def published(self, link: PoolLink, job: Job) -> None:
        """Gives a pool's job to the miners."""
        rung = self._rung_of(link)
        if rung is not None and rung is self.in_use:
            self._publish(job, rung)

    def withdrawn(self, link: PoolLink) -> None:
        """Lets the miners of a pool work for themselves until it pays for a job again."""
        rung = self._rung_of(link)
        if rung is not None and rung is self.in_use and self.own is not None:
            self._publish(self._make_solo(), None)

    def retargeted(self, link: PoolLink) -> None:
        """Steers the miners by the new target of a pool that they mine for."""
        if self._present is None:
            return
        _, rung = self._jobs.get(self._present.number, (None, None))
        if rung is not None and rung.link is link:
            self.front.cap(self._exponent_of(self._present, rung))

    def constrained(self, size: int, sigops: int) -> None:
        """Has the node leave room for whatever any of the pools asks for."""
        self._room = (max(size, self._room[0]), max(sigops, self._room[1]))
        self._source.constrain(*self._room)

    def hidden(self, link: PoolLink, job: Job) -> None:
        """Keeps what a pool may yet want to see of a template that it has not seen."""
        self.reveals.keep(link.place, job)

    def worked(self, link: PoolLink) -> None:
        """Moves up to a pool that has accepted a job."""
        rung = self._rung_of(link)
        if rung is not None:
            self.ladder.handle(Worked(self.rungs.index(rung)), trio.current_time())
            self._climb()

    def failed(self, link: PoolLink, failure: Fails) -> None:
        """Gives a pool up for the next."""
        rung = self._rung_of(link)
        if rung is None:
            return  # it was left before
        if failure.reason != rung.failure:
            log.warning("a pool is given up", pool=rung.place.name, reason=failure.reason)
            self.note(f"{rung.place.name} is given up: {failure.reason}")
        rung.failure = failure.reason
        if failure.elsewhere is None:
            rung.place.settle()
        else:
            rung.place.move(*failure.elsewhere, of_declarator=failure.of_declarator)
        event = Failed(self.rungs.index(rung), at_once=failure.elsewhere is not None)
        self.ladder.handle(event, trio.current_time())
        self._climb()

    def _rung_of(self, link: PoolLink) -> Rung | None:
        return next((rung for rung in self.rungs if rung.link is link), None)

    # What the front tells

    def wanted_exponent(self) -> int | None:
        """Returns an exponent that every share of use to a pool meets; None when none is of use."""
        easiest = [
            TARGET_BITS - rung.link.machine.target_of(job).bit_length()
            for job, rung in self._jobs.values()
            if rung is not None and rung.link is not None and rung.link.machine.knows(job)
        ]
        # A target between two steps lets some shares of the easier one pass.
        return min(max(min(easiest) - 1, 0), EXPONENT_MAX) if easiest else None

    def share(self, found: FoundShare) -> None:
        """Hands a share to the pool that its job is for."""
        job, rung = self._jobs.get(found.number, (None, None))
        if job is None or rung is None or rung.link is None:
            return
        rung.link.machine.submit(found, trio.current_time())
        rung.link.act()

    def block(self, found: FoundShare, header: bytes, coinbase: bytes) -> None:
        """Sees a block through: to disk and the node, and to the pool."""
        job, rung = self._jobs.get(found.number, (None, None))
        if job is None:
            log.error("a block was found on a job that is forgotten", number=found.number)
            return
        whom = "ourselves" if rung is None else rung.place.name
        self.note(f"a block was found, which pays {whom}")
        log.info("a block was found", height=job.own.template.height, pays=whom)
        solution = None
        if not job.own.is_changed:
            solution = Solution(
                template_id=job.own.template.id,
                version=found.version,
                ntime=found.ntime,
                nonce=found.nonce,
                coinbase_tx=coinbase,
                hash=found.hash,
            )
        block = block_bytes(header, coinbase, job.own.transactions)
        self.blocks.found(found.hash, block, solution)
        if rung is not None and rung.link is not None:
            rung.link.machine.solve(found)
            rung.link.act()


def _last(updates: trio.MemoryReceiveChannel[TemplateUpdate]) -> TemplateUpdate | None:
    """Takes what has gathered; only the newest counts."""
    newest = None
    while True:
        try:
            newest = updates.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return newest


def _stir(link: PoolLink) -> None:
    link.machine.stir(trio.current_time())
    link.act()


async def _settle(link: PoolLink) -> None:
    """Waits until all shares of a pool are answered."""
    while link.machine.submissions.unanswered:
        await link.next_event()

"""Runs a translator until it is told to stop."""

from __future__ import annotations

import math
import resource
import time
from collections import deque
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import structlog
import trio

from radpool_sv2._native import translator as native
from radpool_sv2._native.keys import AuthorityPublicKey
from radpool_sv2.config import Endpoint
from radpool_sv2.errors import ConfigError, InternalError, RadpoolError
from radpool_sv2.miner.side import SideOptions, find_side
from radpool_sv2.supervision import Role, stop_on_signal, supervise
from radpool_sv2.units import EXPONENT_MAX
from radpool_sv2.web.server import serve_application
from radpool_sv2_translator.api import application
from radpool_sv2_translator.certificate import Keeper
from radpool_sv2_translator.pools import ANONYMOUS, Place, Pools
from radpool_sv2_translator.rate import Estimate, Meter
from radpool_sv2_translator.wallets import WorkerWallets, words_in
from radpool_sv2_translator.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from radpool_sv2.miner.side import MinerSide
    from radpool_sv2_translator.config import TranslatorConfig

    Lead: TypeAlias = Callable[[native.Translator | None], None]
    Event: TypeAlias = (
        native.UpstreamReady
        | native.UpstreamEnded
        | native.DeviceJoined
        | native.DeviceLeft
        | native.ChannelRefused
        | native.TlsFailed
        | native.EventsDropped
    )

__all__ = ["Show", "TranslatorRole", "run_translator"]

log = structlog.get_logger(__name__)

STOP_MS_MAX: Final = 2_000
ECASH: Final = "ecash"
"""The extension whose shares earn tokens."""
NOTES_MAX: Final = 256
LOOK_S: Final = 1.0
LOOKED_AT_PER_S: Final = 500
"""How many devices are looked at in a second: each costs some 30 microseconds."""
REQUESTS_MAX: Final = 16
REQUEST_DEADLINE_S: Final = 10.0


class Show(Protocol):
    """Is what shows the user how it goes."""

    async def __call__(self, role: TranslatorRole, stop: trio.Event) -> None:
        """Shows it until `stop` is set, and once more."""


class TranslatorRole:
    """Is a translator; `run` serves.

    Args:
        config: The configuration.
        lead: Leads devices here that call at a pool's port, or to nobody; there is no port of our
            own then.

    Attributes:
        address: Where devices connect, once it serves.
        tls: Where they connect over TLS, if they may.
        keeper: Keeps the certificate that is shown there.
        http: Where figures are served, if they are.
        pools: The pools.
        finished: Is set once nothing is left to be told.
    """

    def __init__(self, config: TranslatorConfig, *, lead: Lead | None = None) -> None:
        self._config = config
        self._lead = lead
        self.address: Endpoint | None = None
        self.tls: Endpoint | None = None
        self.keeper: Keeper | None = None
        self.http: Endpoint | None = None
        self.started_unix_ms = 0
        self._notes: deque[tuple[int, str]] = deque(maxlen=NOTES_MAX)
        self._meters: dict[tuple[int, str], Meter] = {}
        self._users: dict[int, str] = {}
        self._clients: list[native.Client] = []
        self._metrics: dict[str, int] = {}
        self._refusals: dict[str, int] = {}
        places = [
            Place(each.address, _authority(each.authority_public_key), user=each.user)
            for each in config.pools
        ]
        self._engine: native.Translator | None = None
        self._stopping = False
        self._places = places
        self.pools: Pools | None = None
        self.workers: Workers | None = None
        self.finished = trio.Event()

    async def run(
        self, stop: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serves until `stop` is set.

        Raises:
            ConfigError: An address cannot be had.
            InternalError: The native part stopped by itself.
        """
        async with AsyncExitStack() as stack:
            for section, place in zip(self._config.pools, self._places, strict=True):
                if section.ecash:
                    place.side = await stack.enter_async_context(
                        self._open_side(self._config.wallet.dir)
                    )
                    place.desk = native.Desk()
            await self._run(stop, stack, task_status)

    def _open_side(self, directory: Path) -> AbstractAsyncContextManager[MinerSide]:
        """Opens the extension's side over the wallet of a directory."""
        wallet = self._config.wallet
        options = SideOptions(
            directory=directory,
            policy=None if wallet.policy == "any" else wallet.policy,
            sign_mode=wallet.sign_mode,
            unsigned_max=wallet.unsigned_max,
            mint_url=wallet.mint_url or None,
        )
        return find_side(ECASH)(options)

    async def _run(
        self, stop: trio.Event, stack: AsyncExitStack, task_status: trio.TaskStatus[None]
    ) -> None:
        config = self._config
        if config.devices.tls_listen:
            self.keeper = Keeper(config.devices, self.note)
        engine = self._engine = native.Translator(_settings(config))
        self.pools = Pools(
            engine,
            self._places,
            (float(config.fallback.retry_s), float(config.fallback.retry_s_max)),
            config.devices.user,
            self.note,
            aggregated=config.devices.aggregated,
            follow=self._follow,
        )
        if config.wallet.per_worker:
            engine.assign_each()
            self.workers = self._make_workers(engine, self.pools, stack)
        self.started_unix_ms = time.time_ns() // 1_000_000
        try:
            async with trio.open_nursery() as nursery:
                await self._serve_figures(nursery)
                if self.workers is not None:
                    await nursery.start(self.workers.run)
                self._let_devices_in(engine)
                if self.keeper is not None:
                    self.tls = self._listen_tls(engine, self.keeper)
                    nursery.start_soon(self.keeper.watch, engine)
                nursery.start_soon(self.pools.run)
                nursery.start_soon(self._look)
                nursery.start_soon(self._take, engine)
                task_status.started()
                await stop.wait()
                # Sides serve on until the last answers are in.
                self._stopping = True
                self._let_nobody_in()
                await trio.to_thread.run_sync(engine.stop, STOP_MS_MAX)
                nursery.cancel_scope.cancel()
        finally:
            self._let_nobody_in()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(engine.stop, STOP_MS_MAX)
                await self._finish_sides()
            self._measure()
            self._engine = None
            if stop.is_set():
                self.finished.set()

    def _make_workers(
        self, engine: native.Translator, pools: Pools, stack: AsyncExitStack
    ) -> Workers:
        config = self._config
        directory = config.wallet.dir
        wallets = WorkerWallets(directory, lambda: words_in(directory), config.wallet.workers_max)
        return Workers(
            engine,
            wallets,
            self._open_side,
            stack,
            pauses_s=(float(config.fallback.retry_s), float(config.fallback.retry_s_max)),
            user=config.devices.user or ANONYMOUS,
            note=self.note,
            distrust=pools.distrust,
        )

    def _follow(self, place: Place | None) -> None:
        if self.workers is not None:
            self.workers.follow(place)

    def _let_devices_in(self, engine: native.Translator) -> None:
        if self._lead is not None:
            self._lead(engine)
            return
        listen = self.address or self._config.devices.listen
        self.address = Endpoint(*engine.listen(listen.host, listen.port))

    def _let_nobody_in(self) -> None:
        if self._lead is not None:
            self._lead(None)

    def _listen_tls(self, engine: native.Translator, keeper: Keeper) -> Endpoint:
        listen = Endpoint.parse(self._config.devices.tls_listen)
        return Endpoint(*engine.listen_tls(listen.host, listen.port, keeper.identity.native))

    async def _finish_sides(self) -> None:
        """Lets the extensions' sides take in what came last, and ask for what is left over."""
        async with trio.open_nursery() as nursery:
            for place in self._places:
                if place.side is not None and place.desk is not None and not place.broken:
                    nursery.start_soon(self._finish_side, place.name, place.side, place.desk)
            for place, user, side, desk in self.workers_services():
                if not place.broken:
                    nursery.start_soon(self._finish_side, f"{user}, {place.name}", side, desk)

    async def _finish_side(self, name: str, side: MinerSide, desk: native.Desk) -> None:
        try:
            await side.finish(desk)
        except RadpoolError as error:
            self.note(f"{name} broke what its extension promises: {error}")

    async def _serve_figures(self, nursery: trio.Nursery) -> None:
        configured = self._config.http.listen
        listen = self.http or (Endpoint.parse(configured) if configured else None)
        if listen is None:
            return

        async def serve(*, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
            await serve_application(
                application(self),
                listen.host,
                listen.port,
                requests_max=REQUESTS_MAX,
                request_deadline_s=REQUEST_DEADLINE_S,
                task_status=task_status,
            )

        try:
            self.http = Endpoint(*await nursery.start(serve))
        except OSError as error:
            raise ConfigError(
                f"cannot listen: {error.strerror}", key="http.listen", value=str(listen)
            ) from error

    async def _take(self, engine: native.Translator) -> None:
        while True:
            await trio.lowlevel.wait_readable(engine.event_fd())
            events, stopped = engine.drain()
            for event in events:
                self._handle(event)
            if stopped and not self._stopping:
                raise InternalError("the translator stopped although nobody had told it to")

            if stopped:
                return

    def _handle(self, event: Event) -> None:
        assert self.pools is not None, "it is made before anything can happen"
        match event:
            case native.UpstreamReady():
                if not self._is_of_worker(event):
                    self.pools.ready(event)
            case native.UpstreamEnded():
                if not self._is_of_worker(event):
                    self.pools.ended(event)
            case native.DeviceJoined():
                self._join(event)
            case native.DeviceLeft():
                user = self._forget(event.device)
                self.note(f"{user} left: {event.reason}")
            case native.ChannelRefused():
                user = self._users.get(event.device, "a device")
                log.warning("a pool opens no channel", user=user, code=event.code)
                self.note(f"the pool opens no channel for {user}: {event.code}")
            case native.TlsFailed():
                log.info("no TLS with a device", address=event.address, reason=event.reason)
                self.note(f"no TLS with {event.address}: {event.reason}")
            case native.EventsDropped():
                log.warning("news of devices were dropped", count=event.count)

    def _is_of_worker(self, event: native.UpstreamReady | native.UpstreamEnded) -> bool:
        """Lets the worker whose connection it is about take it in; says whether there is one."""
        if self.workers is None:
            return False
        if isinstance(event, native.UpstreamReady):
            return self.workers.ready(event.upstream)
        return self.workers.ended(event)

    def _join(self, event: native.DeviceJoined) -> None:
        self._users[event.device] = event.user
        self.note(f"{event.user} mines from {event.address}")
        if self.workers is not None:
            self.workers.joined(event.device, event.user)

    def _forget(self, device: int) -> str:
        if self.workers is not None:
            self.workers.left(device)
        return self._users.pop(device, "a device")

    async def _look(self) -> None:
        while True:
            self._measure()
            await trio.sleep(max(LOOK_S, len(self._clients) / LOOKED_AT_PER_S))

    def _measure(self) -> None:
        """Takes the figures of a moment, for whoever shows them."""
        if self._engine is None:
            return
        self._clients = []  # so that they are not in memory twice
        self._clients = self._engine.clients()
        for device in self._users.keys() - {each.device for each in self._clients}:
            self._forget(device)  # the news of it were dropped, or are under way
        self._metrics, self._refusals = self._engine.metrics(), self._engine.refusals()
        now_s = trio.current_time()
        meters = {}
        for client in self._clients:
            for worker in client.workers:
                key = client.device, worker.name
                meter = meters[key] = self._meters.get(key) or Meter()
                meter.note(now_s, worker.accepted, worker.work)
        self._meters = meters

    # What there is to show

    def note(self, text: str) -> None:
        """Keeps what people want to know."""
        self._notes.append((time.time_ns() // 1_000_000, text))

    def take_notes(self) -> list[tuple[int, str]]:
        """Returns what happened since the last call: milliseconds since 1970 and a sentence."""
        notes = list(self._notes)
        self._notes.clear()
        for place in self._places:
            if place.side is not None:
                notes += place.side.events()
        for _place, user, side, _desk in self.workers_services():
            notes += [(unix_ms, f"{user}: {text}") for unix_ms, text in side.events()]
        return sorted(notes)

    def workers_services(self) -> list[tuple[Place, str, MinerSide, native.Desk]]:
        """Returns what serves the wallets of workers: pool, worker, side and desk."""
        return [] if self.workers is None else list(self.workers.services())

    def wallet(self) -> tuple[str, dict[str, object]] | None:
        """Returns what the wallet's extension tells, under its word; None without a wallet."""
        for place in self._places:
            if place.side is not None:
                return place.side.word, place.side.figures()
        return None

    def wallet_rows(self) -> list[tuple[str, str]]:
        """Returns the same for people."""
        sides = (place.side for place in self._places if place.side is not None)
        return [row for side in sides for row in side.rows()]

    def clients(self) -> list[native.Client]:
        """Returns the devices as of the last look."""
        return self._clients

    def metrics(self) -> dict[str, int]:
        """Returns the native counters as of the last look."""
        return self._metrics

    def refusals(self) -> dict[str, int]:
        """Returns how many shares pools have refused, by their code, as of the last look."""
        return self._refusals

    def estimate(self, device: int, worker: str) -> Estimate | None:
        """Returns the hash rate of a worker; None while nothing is known."""
        meter = self._meters.get((device, worker))
        return None if meter is None else meter.estimate()


async def run_translator(
    config: TranslatorConfig, listen: Endpoint | None, http: Endpoint | None, show: Show
) -> None:
    """Runs a translator until SIGTERM or Ctrl-C.

    Args:
        config: The configuration.
        listen: Where devices connect, if not where the configuration says.
        http: Where figures are served, if not where the configuration says.
        show: Shows the user how it goes, once all of it serves.

    Raises:
        ConfigError: Something that the operator can mend keeps it from starting.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    translator = TranslatorRole(config)
    translator.address, translator.http = listen, http
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signal, stop)
        async with trio.open_nursery() as running:
            await running.start(supervise, [Role("translator", translator.run)], stop)
            if not stop.is_set():
                running.start_soon(show, translator, stop)
        nursery.cancel_scope.cancel()


def _authority(text: str) -> AuthorityPublicKey | None:
    if not text:
        return None
    try:
        return AuthorityPublicKey.from_text(text)
    except ConfigError as error:
        raise ConfigError(
            str(error), key="pools.authority_public_key", value=text, allowed="the pool's key"
        ) from error


def _settings(config: TranslatorConfig) -> native.TranslatorSettings:
    devices = config.devices
    # Where all share a channel, its difficulty is far above any device's own.
    is_shared = devices.aggregated or any(each.ecash for each in config.pools)
    rate = devices.nominal_hash_rate_mh * 1e6
    start = math.floor(math.log2(rate * 60 / devices.shares_per_minute))
    return native.TranslatorSettings(
        **asdict(config.limits),
        shares_per_minute=devices.shares_per_minute,
        exponent_start=min(max(start, 0), EXPONENT_MAX) if is_shared else EXPONENT_MAX,
        exponent_min=devices.exponent_min,
        handshake_deadline_ms=devices.handshake_deadline_ms,
        silence_ms=devices.silence_ms,
        keepalive_ms=devices.keepalive_ms,
        user=devices.user or None,
        nominal_hash_rate=rate,
        linger_ms=devices.linger_ms,
    )

"""Assembles a Mining Service Provider: template source, mint, pool and HTTP around one ledger."""

from __future__ import annotations

import gc
import resource
from typing import TYPE_CHECKING

import structlog
import trio

from radpool_sv2.config import Endpoint
from radpool_sv2.declaring import open_declaring
from radpool_sv2.errors import ConfigError
from radpool_sv2.federating import Federating
from radpool_sv2.keyfile import load_keys
from radpool_sv2.ledger import Ledger
from radpool_sv2.minting import open_minting
from radpool_sv2.pool.register import OwnerRegister
from radpool_sv2.pool.registry import ExtensionRegistry, find_extensions
from radpool_sv2.pool.role import Pool
from radpool_sv2.residence import Serving, reside, tell_serving
from radpool_sv2.sources import choose_source, follow
from radpool_sv2.supervision import Role, RunRole, stop_on_signal, supervise
from radpool_sv2.sv1 import Sv1Pool, open_sv1
from radpool_sv2.web import serve_http
from radpool_sv2.web.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from radpool_sv2.config import MspConfig
    from radpool_sv2.minting import Minting
    from radpool_sv2.templates.source import TemplateSource

__all__ = ["run_msp"]

log = structlog.get_logger(__name__)


async def run_msp(
    config: MspConfig,
    sv2_listen: Endpoint | None,
    http_listen: Endpoint | None,
    serving: Callable[[Serving], None],
) -> None:
    """Runs a Mining Service Provider until SIGTERM or Ctrl-C.

    Args:
        config: The configuration.
        sv2_listen: Where miners connect, if not where the configuration says; a declarator then
            listens on any free port beside it.
        http_listen: Where the status pages are, if not where the configuration says.
        serving: Is called once, when all of it serves.

    Raises:
        ConfigError: Something that the operator can mend keeps it from starting.
        StoreError: The ledger cannot be opened.
    """
    _set_limits()
    keys = load_keys(config.keys)
    factories = find_extensions(config.extensions.enabled)
    federating = None if config.federation.dir is None else Federating(config, keys)
    with reside(config.node.data_dir):
        ledger = await Ledger.open(
            config.ledger.file,
            keys.msp,
            maturity_blocks=config.ledger.maturity_blocks,
            recent_shares_max=config.ledger.replay_shares,
        )
        try:
            source = choose_source(config.templates, config.node.data_dir / "templates")
            minting = await open_minting(config, keys, ledger) if config.ecash.enabled else None
            per_minute_max = config.ledger.new_accounts_per_minute_max
            register = OwnerRegister(ledger, keys.msp, new_per_minute_max=per_minute_max)
            parts = (register, *(() if minting is None else minting.parts))
            extensions = ExtensionRegistry(factories, config.extensions.required, parts)
            pool = Pool(config, keys, ledger, source, extensions, listen=sv2_listen)
            roles = [Role("templates", _follow(source, pool))]
            if federating is not None:
                roles.append(Role("federation", federating.watch(pool)))
            if minting is not None:
                minting.watch(pool)
                roles.append(Role("mint", minting.desk.run))
            roles.append(Role("pool", pool.run))
            declarator = None
            if config.declarator.enabled:
                beside = None if sv2_listen is None else Endpoint(sv2_listen.host, 0)
                mint = None if minting is None else minting.mint
                declarator = open_declaring(config, keys, source, pool, mint, listen=beside)
                roles.append(Role("declarator", declarator.run))
            sv1 = None
            if config.sv1.on_same_port:
                sv1 = open_sv1(Sv1Pool(config, pool.served_at, pool.lead_sv1))
            desks = () if minting is None else (minting.desk,)
            window = Window(
                pool,
                config.mining.shares_per_minute,
                desks,
                declarator,
                register,
                sv1=sv1,
                federation=federating,
            )
            web = _Web(config, window, minting, http_listen or config.http.listen)
            roles.append(Role("http", web.run))
            if sv1 is not None:
                # Its wallet takes in what came last by HTTP, so it leaves first.
                roles.append(Role("sv1", sv1.run))

            def tell() -> None:
                declares = "" if declarator is None else str(declarator.address)
                public = config.keys.authority_public_key
                told = Serving(str(pool.served_at()), str(web.address), public, declares)
                tell_serving(config.node.data_dir, told)
                # What lives until the end is not looked at again: that would stop everything for a
                # tenth of a second, now and then.
                gc.collect()
                gc.freeze()
                serving(told)

            await _run_roles(roles, tell)
        finally:
            with trio.CancelScope(shield=True):
                await ledger.close()


def _set_limits() -> None:
    """Takes as many file descriptors as the system allows, and leaves no core file behind."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # A core file would hold the keys.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _follow(source: TemplateSource, pool: Pool) -> RunRole:
    """Makes the role that runs a template source and lets the pool follow it."""

    async def run(stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(follow, source, pool)
            task_status.started()
            await stop.wait()
            nursery.cancel_scope.cancel()

    return run


class _Web:
    """Is the HTTP role; it keeps the port that it got when it is started again."""

    def __init__(
        self,
        config: MspConfig,
        window: Window,
        minting: Minting | None,
        listen: Endpoint,
    ) -> None:
        self._config = config
        self._window = window
        self._mint = None if minting is None else minting.mint
        self._listen = listen
        self.address: Endpoint | None = None

    async def run(self, stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:

            async def serve(*, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
                await serve_http(
                    self._window,
                    self._listen.host,
                    self._listen.port,
                    requests_max=self._config.http.requests_max,
                    request_deadline_s=self._config.http.request_deadline_ms / 1000,
                    mint=self._mint,
                    task_status=task_status,
                )

            try:
                host, port = await nursery.start(serve)
            except OSError as error:
                raise ConfigError(
                    f"cannot be listened on: {error.strerror or error}",
                    key="http.listen",
                    value=str(self._listen),
                ) from error
            self._listen = self.address = Endpoint(host, port)
            task_status.started()
            await stop.wait()
            nursery.cancel_scope.cancel()


async def _run_roles(roles: Sequence[Role], tell: Callable[[], None]) -> None:
    """Runs roles until a signal comes; calls `tell` when all of them serve."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signal, stop)
        async with trio.open_nursery() as running:
            await running.start(supervise, roles, stop)
            if not stop.is_set():
                tell()
        log.info("all roles have left")
        nursery.cancel_scope.cancel()

"""Assembles a template provider: a source, and the listener that offers its templates."""

from __future__ import annotations

import json
import resource
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.network import NETWORKS
from radpool_sv2.residence import reside
from radpool_sv2.sources import choose_source, follow
from radpool_sv2.supervision import Role, RunRole, stop_on_signal, supervise
from radpool_sv2.template_provider.identity import ProviderIdentity
from radpool_sv2.template_provider.provider import ProviderSettings, TemplateProvider
from radpool_sv2.wire.listener import ListenerLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2.config import Endpoint
    from radpool_sv2.config.template_provider import TemplateProviderConfig
    from radpool_sv2.templates.source import TemplateSource

__all__ = ["Offering", "run_template_provider"]

log = structlog.get_logger(__name__)

HEALTH_S: Final = 60.0
"""How often the node's troubles are looked at: each is told when it begins and when it ends."""


@dataclass(frozen=True, slots=True)
class Offering:
    """Tells where a template provider serves; the address is `HOST:PORT`."""

    tdp: str
    authority_public_key: str

    def to_json(self) -> str:
        """Returns the line that `radpool template-provider --json` prints once it serves."""
        return json.dumps({"event": "serving", **asdict(self)})


async def run_template_provider(
    config: TemplateProviderConfig, listen: Endpoint | None, serving: Callable[[Offering], None]
) -> None:
    """Runs a template provider until SIGTERM or Ctrl-C.

    Args:
        config: The configuration.
        listen: Where clients connect, if not where the configuration says.
        serving: Is called once, when it serves.

    Raises:
        ConfigError: Something that the operator can mend keeps it from starting.
        StoreError: The embedded chain's files cannot be used.
    """
    # A core file would hold the key.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    identity = ProviderIdentity.load(config.keys.authority_key_file)
    with reside(config.node.data_dir):
        source = choose_source(config.templates, config.node.data_dir / "templates")
        provider = TemplateProvider(
            source, listen or config.provider.listen, identity.sign(), _settings(config)
        )
        roles = [
            Role("templates", _follow(source, provider)),
            Role("provider", _offer(provider, identity)),
        ]

        def tell() -> None:
            assert provider.listener.address is not None
            serving(Offering(str(provider.listener.address), identity.public_key.to_text()))

        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(stop_on_signal, stop)
            async with trio.open_nursery() as running:
                await running.start(supervise, roles, stop)
                if not stop.is_set():
                    tell()
            log.info("all roles have left")
            nursery.cancel_scope.cancel()


def _settings(config: TemplateProviderConfig) -> ProviderSettings:
    section = config.provider
    limits = ListenerLimits(
        connections_max=section.connections_max,
        connections_per_address_max=section.connections_per_address_max,
        handshake_seconds_max=section.handshake_deadline_ms / 1_000,
    )
    return ProviderSettings(
        limits=limits,
        room_size_max=section.room_size_max,
        is_ahead=section.future_ahead,
        is_repeated=section.repeat_on_tip,
        halving_blocks=NETWORKS[config.templates.network].halving_blocks,
    )


def _follow(source: TemplateSource, provider: TemplateProvider) -> RunRole:
    """Makes the role that runs the source and lets the provider follow it."""

    async def run(stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(follow, source, provider)
            nursery.start_soon(_watch, source)
            task_status.started()
            await stop.wait()
            nursery.cancel_scope.cancel()

    return run


async def _watch(source: TemplateSource) -> None:
    """Tells the log what begins and what ends to be wrong with the node."""
    known: set[str] = set()
    while True:
        found = set(source.problems())
        for problem in found - known:
            log.warning("trouble with the node", problem=problem)
        for problem in known - found:
            log.info("trouble with the node is over", problem=problem)
        known = found
        await trio.sleep(HEALTH_S)


def _offer(provider: TemplateProvider, identity: ProviderIdentity) -> RunRole:
    """Makes the role that serves clients and keeps the listener's certificate valid."""

    async def run(stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(identity.keep_signed, provider.show)
            await provider.run(stop, task_status=task_status)
            nursery.cancel_scope.cancel()

    return run

"""Joins the parts of a job declarator client and runs them until they are told to stop."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Protocol

import structlog
import trio

from radpool_sv2._native.keys import AuthoritySecretKey
from radpool_sv2.chain.attached import AttachedChain
from radpool_sv2.errors import ConfigError
from radpool_sv2.jdc.client import DeclaringClient
from radpool_sv2.keyfile import read_text
from radpool_sv2.residence import reside
from radpool_sv2.sources import choose_source
from radpool_sv2.supervision import Role, stop_on_signal, supervise
from radpool_sv2.templates.embedded import EmbeddedSource

if TYPE_CHECKING:
    from pathlib import Path

    from radpool_sv2.config import Endpoint
    from radpool_sv2.config.jdc import JdcConfig
    from radpool_sv2.templates.source import TemplateSource

__all__ = ["Show", "run_jdc"]

log = structlog.get_logger(__name__)


class Show(Protocol):
    """Is what shows the user how it goes."""

    async def __call__(
        self, client: DeclaringClient, authority_public_key: str, stop: trio.Event
    ) -> None:
        """Shows it until `stop` is set, and once more."""


async def run_jdc(config: JdcConfig, listen: Endpoint | None, show: Show) -> None:
    """Runs a job declarator client until SIGTERM or Ctrl-C.

    Args:
        config: The configuration.
        listen: Where miners connect, if not where the configuration says.
        show: Shows the user how it goes, once all of it serves.

    Raises:
        ConfigError: Something that the operator can mend keeps it from starting.
    """
    _set_limits()
    authority = _authority(config.keys.authority_key_file)
    with reside(config.node.data_dir):
        client = DeclaringClient(config, authority, _source(config), listen)
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(stop_on_signal, stop)
            async with trio.open_nursery() as running:
                await running.start(supervise, [Role("jdc", client.run)], stop)
                if not stop.is_set():
                    running.start_soon(show, client, authority.public_key().to_text(), stop)
            nursery.cancel_scope.cancel()


def _source(config: JdcConfig) -> TemplateSource:
    """Makes the template source; an embedded chain is one that another process runs."""
    if config.templates.source == "embedded":
        return EmbeddedSource(AttachedChain(config.templates.chain_dir))
    return choose_source(config.templates, config.node.data_dir / "templates")


def _authority(file: Path) -> AuthoritySecretKey:
    text = read_text(file, "the authority key", secret=True)
    try:
        return AuthoritySecretKey.from_text(text)
    except ConfigError as error:
        raise ConfigError(str(error), file=file) from error


def _set_limits() -> None:
    """Takes as many file descriptors as the system allows, and leaves no core file behind."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # A core file would hold the authority key, or a wallet.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

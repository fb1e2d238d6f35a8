"""Chooses the source of block templates that a configuration names, and lets a role follow it.

It stands above the sources and above the embedded chain, which know nothing of each other.
"""

from __future__ import annotations

import os
import pwd
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio

from radpool_sv2._native.keys import AuthorityPublicKey
from radpool_sv2.chain.supervisor import EmbeddedChain
from radpool_sv2.config import Endpoint
from radpool_sv2.errors import ConfigError
from radpool_sv2.keyfile import read_text
from radpool_sv2.network import NETWORKS
from radpool_sv2.node.rpc import NodeRpc, NodeSettings
from radpool_sv2.templates.core_ipc import CoreIpcSource
from radpool_sv2.templates.embedded import EmbeddedSource
from radpool_sv2.templates.getblocktemplate import GetblocktemplateSource
from radpool_sv2.templates.source import ChainEvent, TemplateUpdate
from radpool_sv2.templates.tdp import TdpSource

if TYPE_CHECKING:
    from pathlib import Path

    from radpool_sv2.config.template import Sources
    from radpool_sv2.templates.source import TemplateSource

__all__ = ["Follower", "choose_source", "follow", "node_settings", "trusted_uids"]

BESIDE_S: Final = 3_600.0
"""How often a node whose templates are not used is asked for one."""

UPDATES_PENDING_MAX: Final = 16
"""What a source may be ahead of who follows it, who takes each within a millisecond."""


class Follower(Protocol):
    """Works on what a source tells."""

    async def follow_work(self, updates: trio.MemoryReceiveChannel[TemplateUpdate]) -> None:
        """Takes templates and tips until there are no more."""

    async def follow_chain(self, events: trio.MemoryReceiveChannel[ChainEvent]) -> None:
        """Takes what happens to the chain until nothing more does."""


async def follow(
    source: TemplateSource,
    follower: Follower,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Runs a source and lets somebody follow it, until cancelled; has started when it has."""
    updates_send, updates = trio.open_memory_channel[TemplateUpdate](UPDATES_PENDING_MAX)
    events_send, events = trio.open_memory_channel[ChainEvent](UPDATES_PENDING_MAX)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.follow_work, updates)
        nursery.start_soon(follower.follow_chain, events)
        await nursery.start(partial(source.run, updates_send, events_send))
        task_status.started()


def choose_source(templates: Sources, directory: Path) -> TemplateSource:
    """Makes the source that a configuration's section names; nothing runs yet.

    Args:
        templates: The section.
        directory: Where a source may keep what has to outlive the process; made when needed.

    Raises:
        ConfigError: There is no such source, or a file that it needs cannot be read.
    """
    if templates.source == "embedded":
        return _embedded(templates)
    if templates.source == "bitcoind":
        return _bitcoind(templates, directory, templates.interval_s)
    if templates.source == "tdp":
        return _tdp(templates, directory)
    assert templates.source == "core_ipc"
    return _core_ipc(templates, directory)


def node_settings(templates: Sources) -> list[NodeSettings]:
    """Makes of a configuration's section how each node is reached.

    Raises:
        ConfigError: The file of the password cannot be read.
    """
    password = ""
    if templates.rpc_user:
        password = read_text(templates.rpc_password_file, "the RPC password", secret=True)
    count = len(templates.rpc_urls)
    return [
        NodeSettings(
            url=url.rstrip("/"),
            deadline_s=templates.rpc_deadline_ms / 1000,
            cookie_file=cookie_file,
            user=templates.rpc_user,
            password=password,
            zmq_url=zmq_url,
        )
        for url, cookie_file, zmq_url in zip(
            templates.rpc_urls,
            templates.rpc_cookie_files or (None,) * count,
            templates.zmq_urls or ("",) * count,
            strict=True,
        )
    ]


def _bitcoind(templates: Sources, directory: Path, interval_s: float) -> TemplateSource:
    return GetblocktemplateSource(
        node_settings(templates),
        NETWORKS[templates.network],
        directory=directory,
        interval_s=interval_s,
        block_zeros=templates.block_zeros,
    )


def _tdp(templates: Sources, directory: Path) -> TemplateSource:
    key = templates.tdp_authority_key
    beside = _bitcoind(templates, directory, BESIDE_S) if templates.rpc_urls else None
    return TdpSource(
        Endpoint.parse(templates.tdp_address),
        AuthorityPublicKey.from_text(key) if key else None,
        node=beside,
        halving_blocks=NETWORKS[templates.network].halving_blocks,
        file=directory / "tdp.json",
    )


def _core_ipc(templates: Sources, directory: Path) -> TemplateSource:
    """Makes the source in front of Bitcoin Core's socket."""
    nodes = node_settings(templates)
    return CoreIpcSource(
        templates.ipc_socket,
        NETWORKS[templates.network],
        trusted_uids=trusted_uids(templates.ipc_user),
        directory=directory,
        interval_s=templates.interval_s,
        rpc=NodeRpc(nodes[0]) if nodes else None,
        block_zeros=templates.block_zeros,
    )


def trusted_uids(user: str) -> list[int]:
    """Returns the system users that may run the node: root, ourselves, and who was named."""
    trusted = {0, os.getuid()}
    if user:
        try:
            trusted.add(pwd.getpwnam(user).pw_uid)
        except KeyError:
            raise ConfigError(
                "this machine has no such user",
                key="templates.ipc_user",
                value=repr(user),
                allowed="the user that runs the node behind templates.ipc_socket",
            ) from None
    return sorted(trusted)


def _embedded(templates: Sources) -> TemplateSource:
    chain = EmbeddedChain(
        templates.chain_dir,
        block_zeros=templates.block_zeros,
        payments_per_minute=templates.payments_per_minute,
        template_interval_s=templates.interval_s,
    )
    return EmbeddedSource(chain)

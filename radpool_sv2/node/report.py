"""Tries all that mining needs of a node, and reports it in plain words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2.errors import NodeError
from radpool_sv2.node.health import (
    KNOTS_WEIGHT,
    clock_problem,
    examine_node,
    signet_problem,
    small_block_problem,
)
from radpool_sv2.node.ipc import serve_core_node
from radpool_sv2.node.rpc import NodeRpc
from radpool_sv2.node.template import (
    CoinbaseRoom,
    NodeTemplate,
    RawTemplate,
    read_template,
    rules_of,
)
from radpool_sv2.node.zmq import follow_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from radpool_sv2.network import Network
    from radpool_sv2.node.health import NodeHealth
    from radpool_sv2.node.rpc import NodeSettings

__all__ = ["report_core", "report_node"]

NOTICE_S: Final = 1.0
"""How long a publisher has to refuse us; it says nothing while there is no block."""


async def report_node(settings: NodeSettings, network: Network) -> list[tuple[bool | None, str]]:
    """Examines a node as an operator wants to read it.

    Returns:
        What was found: True stands before what is good, None before what costs something, False
        before what keeps the node from being used.
    """
    rpc = NodeRpc(settings)
    found: list[tuple[bool | None, str]] = []
    try:
        health = await examine_node(rpc, network)
        found += [(None, each) for each in health.problems]
        if not health.is_usable:
            return [*found, (False, health.refusal or health.absence)]
        request = {"rules": rules_of(network)}
        raw = await rpc.call_for(RawTemplate, "getblocktemplate", request)
        template = read_template(raw, CoinbaseRoom(), rpc.name)
        found.append((True, _summary(rpc.name, health, template)))
        found += await _costs(rpc, health, template, network)
    except NodeError as error:
        found.append((False, str(error)))
    finally:
        await rpc.aclose()
    if settings.zmq_url:
        found.append(await _notices(settings.zmq_url))
    return found


async def report_core(
    path: Path, trusted_uids: Sequence[int], network: Network, *, has_rpc: bool
) -> list[tuple[bool | None, str]]:
    """Tries the socket of a Bitcoin Core.

    Args:
        path: The unix socket.
        trusted_uids: Users that may run the node.
        network: Where it is to be.
        has_rpc: Whether its RPC interface is configured beside the socket; `report_node` tries it.

    Returns:
        What was found, as `report_node` does.
    """
    found: list[tuple[bool | None, str]] = []
    try:
        async with trio.open_nursery() as nursery:
            node = await nursery.start(serve_core_node, path, trusted_uids)
            if node.capabilities.answers_rpc:
                health = await examine_node(node, network)
                found += [(None, each) for each in health.problems]
                words = f"{path} is {health.version} at height {health.height:,}"
                wrong = health.refusal or health.absence
                found.append((False, wrong) if wrong else (True, words))
            elif has_rpc:
                found.append((True, f"{path} answers; the rest is asked at templates.rpc_urls"))
            else:
                text = "is Bitcoin Core 31: name its RPC interface in templates.rpc_urls as well"
                found.append((False, f"{path} {text}"))
            nursery.cancel_scope.cancel()
    except* NodeError as errors:
        found += [(False, str(error)) for error in errors.exceptions]
    return found


def _summary(name: str, health: NodeHealth, template: NodeTemplate) -> str:
    return (
        f"{name} is {health.version} at height {health.height:,}; its template has "
        f"{len(template.transactions):,} transactions that pay {template.fees_sats:,} sat"
    )


async def _costs(
    rpc: NodeRpc, health: NodeHealth, template: NodeTemplate, network: Network
) -> list[tuple[bool | None, str]]:
    small = await small_block_problem(rpc, template, health.version)
    if not small and network.is_real and "Knots" in health.version:
        small = (
            f"{rpc.name} is Knots, which fills blocks of {KNOTS_WEIGHT:,} weight units unless told "
            "otherwise: set -blockmaxweight=3996000 and -blockmaxsize=4000000, or fees are left "
            "behind"
        )
    signet = signet_problem(rpc.name, template)
    clock = clock_problem(rpc.name, template, int(time.time()))
    return [(None, each) for each in (small, signet, clock) if each]


async def _notices(url: str) -> tuple[bool | None, str]:
    try:
        with trio.move_on_after(NOTICE_S):
            await follow_blocks(url, lambda _: None)
    except NodeError as error:
        return None, f"{error}. New blocks are learnt of by long polling alone"
    return True, f"{url} tells of new blocks"

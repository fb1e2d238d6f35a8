"""Gives a block to all nodes, until one of them has it or all have said that it is none.

A block is worth more than anything else here. A node that does not answer is asked again; one that
does not know the block's parent yet is asked again, too; the first that takes the block is enough,
and the others are given a little longer, because each of them spreads it to its own peers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.errors import NodeError
from radpool_sv2.node.branch import active_depths, text_of_hash
from radpool_sv2.node.refusal import RpcRefusedError
from radpool_sv2.units import sha256d

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from radpool_sv2.node.branch import JsonRpc

__all__ = ["Submission", "submit_everywhere"]

log = structlog.get_logger(__name__)

HEADER_LEN: Final = 80

ANSWER_S: Final = 60.0
"""How long a node may take to judge a block: it is slow when its disk is."""

LATE_S: Final = 3.0
"""How long the other nodes are given once one has the block."""

RETRY_S: Final = 0.5

ORPHAN_S: Final = 600.0
"""How long a node may not know the block's parent before that counts as its answer."""

PARENT_UNKNOWN: Final = {"prev-blk-not-found"}
KNOWN: Final = {"duplicate", "duplicate-inconclusive"}
SIDE: Final = "inconclusive"


@dataclass(slots=True)
class Submission:
    """Is what became of a block.

    Attributes:
        accepted: Whether a node took it.
        known: Whether a node had it already.
        reason: Why the nodes refuse it; empty when one has it.
        active: Whether it is on a node's active chain.
        answered: The nodes whose answer counts.
        said: Why a node could not be asked, as far as that was logged.
    """

    accepted: bool = False
    known: bool = False
    reason: str = ""
    active: bool = False
    answered: set[str] = field(default_factory=set)
    said: dict[str, str] = field(default_factory=dict)

    @property
    def has_landed(self) -> bool:
        """Whether a node has the block."""
        return self.accepted or self.known


async def submit_everywhere(
    list_nodes: Callable[[], Sequence[JsonRpc]], block: bytes
) -> Submission:
    """Gives a block to nodes, waiting for those that are away; idempotent.

    Args:
        list_nodes: Tells which nodes there are now.
        block: The whole block.
    """
    result = Submission()
    orphan_until_s = trio.current_time() + ORPHAN_S
    body = block.hex()
    while True:
        nodes = list_nodes()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    if node.name not in result.answered:
                        nursery.start_soon(_submit, node, body, result, scope, orphan_until_s)
        if result.has_landed:
            result.reason = ""
            result.active = await _is_active(nodes, sha256d(block[:HEADER_LEN]))
            return result
        if nodes and all(each.name in result.answered for each in nodes):
            return result
        await trio.sleep(RETRY_S)


async def _submit(
    node: JsonRpc, body: str, result: Submission, scope: trio.CancelScope, orphan_until_s: float
) -> None:
    try:
        told = await node.call("submitblock", body, deadline_s=ANSWER_S)
        answer = None if told is None else str(told)
    except RpcRefusedError as error:
        answer = error.reason or "refused"
    except NodeError as error:
        if str(error) != result.said.get(node.name):
            # Once, and not at each of the attempts that follow.
            result.said[node.name] = str(error)
            log.warning("a node cannot take a block now", node=node.name, reason=str(error))
        return
    if answer in PARENT_UNKNOWN and trio.current_time() < orphan_until_s:
        return
    result.answered.add(node.name)
    if answer is None or answer == SIDE:
        result.accepted = True
    elif answer in KNOWN:
        result.known = True
    else:
        result.reason = answer
    if result.has_landed:
        scope.deadline = min(scope.deadline, trio.current_time() + LATE_S)


async def _is_active(nodes: Sequence[JsonRpc], block_hash: bytes) -> bool:
    for node in nodes:
        try:
            with trio.move_on_after(LATE_S):
                if (await active_depths(node, [block_hash]))[block_hash] is not None:
                    return True
        except NodeError as error:
            log.debug(
                "a node does not tell of a block",
                node=node.name,
                hash=text_of_hash(block_hash),
                reason=str(error),
            )
    return False

"""Examines bitcoin nodes and says in plain words what keeps one from being mined on.

A node that is refused does not follow the chain that the configuration names: nothing but another
node or another configuration helps, and mining on it would be work for nothing. All else passes or
only costs something, and is told as a problem.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from radpool_sv2.errors import NodeError
from radpool_sv2.node.refusal import RpcRefusedError
from radpool_sv2.node.template import BLOCK_WEIGHT_MAX, SCALE

if TYPE_CHECKING:
    from radpool_sv2.network import Network
    from radpool_sv2.node.branch import JsonRpc
    from radpool_sv2.node.template import NodeTemplate

__all__ = ["NodeHealth", "clock_problem", "examine_node", "signet_problem", "small_block_problem"]

FOREIGN_DEPLOYMENTS: Final = {
    "blake2b": "proof of work by another hash",
    "reduced_data": "blocks with less data than Bitcoin's",
    "long_coinbase_maturity": "coinbases that mature later than Bitcoin's",
}
"""Deployments of nodes that leave Bitcoin's chain, as Knots 29.3 and later do on main."""

CLOCK_SKEW_S_MAX: Final = 60
"""Nodes refuse blocks from two hours ahead; a minute already shows that a clock is not kept."""

SMALL_BLOCK_WEIGHT: Final = BLOCK_WEIGHT_MAX * 3 // 4
KNOTS_WEIGHT: Final = 1_200_000
"""What Knots fills by default."""

ANYBODY: Final = "51"
"""OP_TRUE: the challenge that every block satisfies."""

METHOD_NOT_FOUND: Final = -32601
PRUNE_BYTES_MIN: Final = 5 << 30
"""Some weeks of blocks: enough for the depth of each block that is not settled."""


class _Chain(msgspec.Struct):
    chain: str
    blocks: int
    headers: int
    bestblockhash: str
    chainwork: str
    initialblockdownload: bool = False
    verificationprogress: float = 1.0
    pruned: bool = False
    prune_target_size: int = 0


class _Network(msgspec.Struct):
    version: int = 0
    subversion: str = ""
    connections: int = 0
    networkactive: bool = True


class _Deployments(msgspec.Struct):
    deployments: dict[str, msgspec.Raw] = {}


class _Mempool(msgspec.Struct):
    bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeHealth:
    """Is how a node fares.

    Attributes:
        name: Its address.
        version: What it calls itself.
        height: Its tip's height.
        tip: Its tip's hash, in internal byte order.
        chain_work: The work of its chain, in hashes.
        refusal: Why it is not used at all; empty when it may be.
        absence: Why it cannot be used at the moment; empty when it can.
        problems: What else the operator should know.
    """

    name: str
    version: str
    height: int
    tip: bytes
    chain_work: int
    refusal: str = ""
    absence: str = ""
    problems: tuple[str, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether templates can be had from it now."""
        return not self.refusal and not self.absence


async def examine_node(rpc: JsonRpc, network: Network) -> NodeHealth:
    """Asks a node how it fares.

    Raises:
        NodeError: It does not answer, or not as a node does.
    """
    chain = await rpc.call_for(_Chain, "getblockchaininfo")
    links = await _links(rpc)
    foreign = await _foreign_deployments(rpc)
    try:
        tip, chain_work = bytes.fromhex(chain.bestblockhash)[::-1], int(chain.chainwork, 16)
    except ValueError as error:
        raise NodeError(f"the node {rpc.name} tells no tip: {error}", rpc.name) from error
    return NodeHealth(
        name=rpc.name,
        version=links.subversion.strip("/") or str(links.version),
        height=chain.blocks,
        tip=tip,
        chain_work=chain_work,
        refusal=_refusal(rpc.name, chain, foreign, network),
        absence=_absence(rpc.name, chain, links, network),
        problems=tuple(_problems(rpc.name, chain)),
    )


async def _links(rpc: JsonRpc) -> _Network:
    try:
        return await rpc.call_for(_Network, "getnetworkinfo")
    except RpcRefusedError as error:
        if error.code != METHOD_NOT_FOUND:
            raise
        # btcd has no such method; it is asked nothing that its peers matter for.
        return _Network(connections=1)


async def _foreign_deployments(rpc: JsonRpc) -> list[str]:
    try:
        told = await rpc.call_for(_Deployments, "getdeploymentinfo")
    except RpcRefusedError as error:
        if error.code != METHOD_NOT_FOUND:
            raise
        return []  # older than all that has left the chain; rules of its templates tell, too
    return sorted(set(told.deployments) & set(FOREIGN_DEPLOYMENTS))


def _refusal(name: str, chain: _Chain, foreign: list[str], network: Network) -> str:
    if chain.chain != network.name:
        return (
            f"the node {name} is on {chain.chain}, but templates.network is {network.name}: it is "
            "not used. Change one of them"
        )
    if foreign:
        what = " and ".join(f"{each} ({FOREIGN_DEPLOYMENTS[each]})" for each in foreign)
        return (
            f"the node {name} follows another chain than Bitcoin: it enforces {what}. It is not "
            "used. Install Bitcoin Core, or another node that keeps Bitcoin's rules"
        )
    return ""


def _absence(name: str, chain: _Chain, links: _Network, network: Network) -> str:
    if not network.is_real:
        return ""  # a regtest chain may be old and alone, and gives templates all the same
    if chain.initialblockdownload:
        percent = int(max(0.0, min(chain.verificationprogress, 1.0)) * 1000)
        return (
            f"the node {name} still downloads the chain: {chain.blocks:,} of {chain.headers:,} "
            f"blocks, {percent // 10}.{percent % 10} %. It gives templates when it is done"
        )
    if not links.networkactive:
        return f"the node {name} has its network switched off (setnetworkactive)"
    if not links.connections:
        return f"the node {name} has no peers: look at its firewall and its log"
    return ""


def _problems(name: str, chain: _Chain) -> list[str]:
    found = []
    if chain.pruned and chain.prune_target_size < PRUNE_BYTES_MIN:
        found.append(
            f"the node {name} is pruned to {chain.prune_target_size >> 20} MiB: that is enough to "
            "mine, but not to look at older blocks"
        )
    if chain.headers > chain.blocks + 1:
        found.append(
            f"the node {name} is {chain.headers - chain.blocks:,} blocks behind what its peers tell"
        )
    return found


def clock_problem(name: str, template: NodeTemplate, now: int) -> str:
    """Says how far a node's clock is from ours, if it is far.

    Args:
        name: The node.
        template: A template that it has just made.
        now: Our time, s.
    """
    skew = template.time - now
    # Behind a tip from the future a template's time is that tip's, not the node's.
    if abs(skew) <= CLOCK_SKEW_S_MAX or (skew > 0 and template.time == template.time_min):
        return ""
    which = "ahead of" if skew > 0 else "behind"
    return (
        f"the clock of the node {name} is {abs(skew):,} s {which} ours: run an NTP client on both "
        "machines, or blocks are refused"
    )


def signet_problem(name: str, template: NodeTemplate) -> str:
    """Says that a signet takes no blocks of ours, if it does not."""
    if template.signet_challenge in ("", ANYBODY):
        return ""
    return (
        f"the node {name} is on a signet whose operators sign each block: it takes none of yours. "
        f"Make a signet of your own with -signetchallenge={ANYBODY}"
    )


async def small_block_problem(rpc: JsonRpc, template: NodeTemplate, version: str) -> str:
    """Says that a node leaves fees behind because it fills small blocks, if it does.

    Raises:
        NodeError: The node does not answer.
    """
    if template.weight >= SMALL_BLOCK_WEIGHT:
        return ""
    waiting = SCALE * (await rpc.call_for(_Mempool, "getmempoolinfo")).bytes
    taken = sum(each.weight for each in template.transactions)
    # What came since the template was made, and packages that did not fit, are no sign.
    if taken < KNOTS_WEIGHT // 2 or waiting < 2 * taken:
        return ""
    advice = "set its -blockmaxweight=3996000"
    if "Knots" in version:
        advice += f" (Knots fills {KNOTS_WEIGHT:,} by default) and -blockmaxsize=4000000"
    return (
        f"the node {rpc.name} makes blocks of {template.weight:,} of {BLOCK_WEIGHT_MAX:,} weight "
        f"units while {waiting:,} wait: fees are left behind. {advice[0].upper()}{advice[1:]}"
    )

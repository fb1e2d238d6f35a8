"""Sets the stage of the demo on real nodes, where miners choose the transactions.

Two bitcoin nodes on regtest share one chain and differ in what waits in their mempools. The pool
asks the first for its templates. Of three miners with equal machines one mines what the pool
chooses; one declares templates of the second node, which knows payments with higher fees; one
declares blocks without a single payment. Everything runs as a user would run it.
"""

from __future__ import annotations

import functools
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import trio

from radpool_sv2.demo.process import command, kill_all, lines_of, open_process, serve
from radpool_sv2.demo.regtest import ANYBODY, SATS, Coin, RegtestNode, follow, free_ports, pay
from radpool_sv2.installation import Installation, install_jdc, install_msp
from radpool_sv2.network import REGTEST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["BLOCK_ZEROS", "CHOOSERS", "Chooser", "Market", "MinerAtWork", "market"]

BLOCK_ZEROS: Final = 22
"""2^22 hashes: with 900,000 hashes a second a block every five seconds."""

EXPONENT: Final = 14
"""All miners have the same ladder step, so that shares compare at a glance."""

HALVINGS: Final = 4
"""Regtest halves the subsidy so often: after four times fees are most of what a block brings."""

COIN_BLOCKS: Final = 12
COIN_PARTS: Final = 60
"""Early coinbases of 50 coins, split: what the payments spend."""

COMMON_PAYMENTS: Final = 420
COMMON_FEE: Final = SATS // 10
KNOWN_PAYMENTS: Final = 240
KNOWN_FEE: Final = SATS // 8
"""What only the second node knows pays a quarter more: as much as the pool counts."""

SETTINGS: Final = {
    "mining.listen": "127.0.0.1:0",
    "http.listen": "127.0.0.1:0",
    "mining.shares_per_minute": 600,
    "mining.exponent_min": EXPONENT,
    "mining.exponent_max": EXPONENT,
    "mining.report_interval_ms": 1_000,
    "mining.pool_text": "radpool demo",
    "ledger.maturity_blocks": 1,
    "ecash.enabled": False,
    "extensions.enabled": [],
    "templates.source": "bitcoind",
    "templates.block_zeros": BLOCK_ZEROS,
    "templates.interval_s": 2,
    "declarator.enabled": True,
}


@dataclass(frozen=True, slots=True)
class Chooser:
    """Is what a miner of the demo is to be.

    Attributes:
        name: Its account.
        choice: What its blocks hold, in words.
        declares: Whether it declares templates of its own.
        policy: Rules of its job declarator client.
    """

    name: str
    choice: str
    declares: bool
    policy: dict[str, object] = field(default_factory=dict)


HASH_RATE: Final = 300_000

CHOOSERS: Final = (
    Chooser("alice", "what the pool chooses", declares=False),
    Chooser("carol", "her own choice, from a node that knows more", declares=True),
    Chooser(
        "dave",
        "nothing but the coinbase",
        declares=True,
        policy={"policy.exclude_addresses": [ANYBODY.hex()]},
    ),
)


@dataclass(slots=True)
class MinerAtWork:
    """Is a miner and the last figures that it printed."""

    plan: Chooser
    process: trio.Process
    log: Path
    figures: dict[str, Any] = field(default_factory=dict)

    async def read(self) -> None:
        """Takes what the miner prints until it ends."""
        assert self.process.stdout is not None
        async for line in lines_of(self.process.stdout):
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if message.get("event") in ("stats", "stopped"):
                self.figures = message


@dataclass(slots=True)
class Market:
    """Is everything that runs.

    Attributes:
        installation: The pool's directory.
        http: Where the pool answers.
        node: The pool's node.
        other: The second node.
        miners: The miners.
        leaving: Processes in the order in which they are to leave.
    """

    installation: Installation
    http: str
    node: RegtestNode
    other: RegtestNode
    miners: list[MinerAtWork]
    leaving: list[trio.Process]


@asynccontextmanager
async def market(directory: Path, bitcoind: Path) -> AsyncIterator[Market]:
    """Starts nodes, pool, job declarator clients and miners; no process outlives the context.

    Raises:
        RadpoolError: Something did not start; the message ends with what it said last.
    """
    processes: list[trio.Process] = []
    ports = free_ports(7)
    node = RegtestNode("the pool's node", directory / "node", bitcoind, ports[0], ports[1])
    other = RegtestNode("the other node", directory / "other", bitcoind, ports[2], ports[3])
    try:
        # The first takes no payments from the second: so their mempools stay different.
        await node.start("-blocksonly=1", f"-bind=127.0.0.1:{node.p2p_port}")
        await other.start(f"-connect=127.0.0.1:{node.p2p_port}", "-listen=0")
        await _fund(node, other)
        declarator = f"127.0.0.1:{ports[4]}"
        installation, served = await _start_pool(directory, node, declarator, processes)
        installation_pool = _PoolAddress(served, declarator)
        miners = []
        clients = []
        for plan, port in zip(CHOOSERS, (0, ports[5], ports[6]), strict=True):
            address, key = served["sv2"], served["authority_public_key"]
            if plan.declares:
                source = other if not plan.policy else node
                address = f"127.0.0.1:{port}"
                key = await _start_jdc(
                    plan, directory, source, address, installation_pool, processes
                )
                clients.append(processes[-1])
            miners.append(await _start_miner(plan, directory, address, key, processes))
        leaving = [*(miner.process for miner in miners), *clients, processes[0]]
        yield Market(installation, served["http"], node, other, miners, leaving)
    finally:
        with trio.CancelScope(shield=True):
            await kill_all(processes)
            await other.stop()
            await node.stop()


@dataclass(frozen=True, slots=True)
class _PoolAddress:
    """Is what a job declarator client must know of the pool."""

    served: dict[str, str]
    declarator: str


async def _fund(node: RegtestNode, other: RegtestNode) -> None:
    """Makes a chain whose blocks live of fees, and payments that wait."""
    await node.mine(HALVINGS * REGTEST.halving_blocks)
    coins: list[Coin] = []
    for coin in await node.coinbase_coins(range(1, COIN_BLOCKS + 1)):
        coins += await node.split(coin, COIN_PARTS)
    while await node.rpc.call("getrawmempool"):
        await node.mine(1)
    await follow(node, other)
    common, known = coins[:COMMON_PAYMENTS], coins[COMMON_PAYMENTS:][:KNOWN_PAYMENTS]
    for coin in common:
        payment = pay(coin, [coin.sats - COMMON_FEE])
        await node.send(payment)
        await other.send(payment)
    for coin in known:
        await other.send(pay(coin, [coin.sats - KNOWN_FEE]))


def _source(node: RegtestNode) -> dict[str, object]:
    return {
        "templates.source": "bitcoind",
        "templates.rpc_urls": [node.url],
        "templates.rpc_cookie_files": [str(node.cookie_file)],
        "templates.block_zeros": BLOCK_ZEROS,
        "templates.interval_s": 2,
    }


async def _start_pool(
    directory: Path, node: RegtestNode, declarator: str, processes: list[trio.Process]
) -> tuple[Installation, dict[str, str]]:
    settings = SETTINGS | _source(node) | {"declarator.listen": declarator}
    place = directory / "pool"
    installation = await trio.to_thread.run_sync(
        functools.partial(install_msp, place, settings=settings)
    )
    line = command("msp", "--dir", str(place), "--json")
    served = await serve("the pool", line, directory / "msp.log", processes)
    return installation, served.fields


async def _start_jdc(  # noqa: PLR0913, PLR0917 - what a client joins
    plan: Chooser,
    directory: Path,
    node: RegtestNode,
    listen: str,
    pool: _PoolAddress,
    processes: list[trio.Process],
) -> str:
    """Starts a job declarator client; returns the key that its miner pins."""
    place = directory / f"{plan.name}-jdc"
    settings = _source(node) | {
        "mining.listen": listen,
        "mining.exponent_min": EXPONENT,
        "mining.shares_per_minute": 600,
        "declaration.interval_s": 2,
    }
    made = await trio.to_thread.run_sync(
        functools.partial(
            install_jdc,
            place,
            pools=[
                {
                    "address": pool.served["sv2"],
                    "authority_public_key": pool.served["authority_public_key"],
                    "declarator": pool.declarator,
                    "user": plan.name,
                }
            ],
            settings=settings | plan.policy,
        )
    )
    line = command("jdc", "--dir", str(place), "--json")
    log = directory / f"{plan.name}-jdc.log"
    await serve(f"{plan.name}'s job declarator client", line, log, processes)
    return str(made.authority_public_key)


async def _start_miner(
    plan: Chooser, directory: Path, address: str, key: str, processes: list[trio.Process]
) -> MinerAtWork:
    arguments = [
        *("--connect", address, "--authority-key", key, "--user", plan.name),
        *("--threads", "1", "--hash-rate-limit", str(HASH_RATE), "--json"),
    ]
    log = directory / f"{plan.name}.log"
    process = await open_process(command("miner", *arguments), log)
    processes.append(process)
    return MinerAtWork(plan, process, log)

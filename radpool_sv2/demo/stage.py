"""Sets the demo's stage: a directory, a pool and its miners, each a process of its own.

The last of the miners speaks Stratum V1, as devices do, with a translator in front of the pool that
keeps its wallet; it takes part where the translator is installed.

Everything runs as a user would run it: the same command, real sockets, real encryption. Nothing is
shared but the network and what the processes print.
"""

from __future__ import annotations

import functools
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

import trio

from radpool_sv2.demo.process import command, kill_all, lines_of, open_process, serve
from radpool_sv2.installation import Installation, install_msp
from radpool_sv2.wallet import Wallet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = [
    "BLOCK_ZEROS",
    "ECASH_ACCOUNT",
    "MINERS",
    "UNIT_EXPONENT",
    "Miner",
    "MinerPlan",
    "Pool",
    "stage",
]

BLOCK_ZEROS: Final = 23
"""2^23 hashes: with 1.4 million hashes a second a block every six seconds."""

UNIT_EXPONENT: Final = 12
"""One unit of work is 2^12 hashes: the easiest share of the demo."""

POLICY: Final = "pool"
"""A block pays the work since the one before: every token of the demo gets a price in a minute."""

ECASH_ACCOUNT: Final = f"ecash.{POLICY}"
"""The ledger's account of all shares that earn tokens."""

SETTINGS: Final = {
    "mining.listen": "127.0.0.1:0",
    "http.listen": "127.0.0.1:0",
    "declarator.listen": "127.0.0.1:0",
    # One share a second and miner, so that there is something to see.
    "mining.shares_per_minute": 60,
    "mining.exponent_min": 12,
    "mining.report_interval_ms": 1_000,
    "mining.pool_text": "radpool demo",
    # The price of a block's work is final at once; it is still paid only from a mature coinbase.
    "ledger.maturity_blocks": 1,
    "ecash.unit_exponent": UNIT_EXPONENT,
    "ecash.policies": [POLICY],
    "templates.block_zeros": BLOCK_ZEROS,
    "templates.payments_per_minute": 60,
}


@dataclass(frozen=True, slots=True)
class MinerPlan:
    """Is what a miner of the demo is to be."""

    name: str
    hash_rate_limit: int


MINERS: Final = (
    MinerPlan("alice", 200_000),
    MinerPlan("bob", 400_000),
    MinerPlan("carol", 800_000),
)

COMMANDS_GROUP: Final = "radpool_sv2.commands"
SV1_MINER: Final = MinerPlan("dora", 300_000)
"""Mines behind a translator."""

TRANSLATOR: Final = "translator"
LATE: Final = ("Job not found", "Stale share")
"""What a device is told of a share that a new block has overtaken on its way."""


@dataclass(slots=True)
class Pool:
    """Is the running pool: where it serves, and its process."""

    process: trio.Process
    installation: Installation
    sv2: str
    http: str
    authority_public_key: str


@dataclass(slots=True)
class Miner:
    """Is a running miner, the directory of its wallet, and the last figures that it printed.

    Attributes:
        plan: What it was to be.
        process: Who speaks with the pool: the miner, or its translator.
        wallet: The directory of the wallet.
        log: What the process said of itself.
        device: The miner behind the translator, where there is one.
        figures: Those of a miner, also where a translator has told them.
    """

    plan: MinerPlan
    process: trio.Process
    wallet: Path
    log: Path
    device: trio.Process | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    _lines: AsyncIterator[str] | None = None
    _of_device: dict[str, Any] = field(default_factory=dict)
    _tokens_at: tuple[int, int] = (0, 0)

    @property
    def tokens(self) -> int:
        """How many tokens its wallet has got."""
        return int(self.figures.get("wallet", {}).get("tokens", 0))

    def tokens_since(self, blocks: int) -> int:
        """Returns how many tokens it has got since so many blocks were seen."""
        if self._tokens_at[0] != blocks:
            self._tokens_at = (blocks, self.tokens)
        return self.tokens - self._tokens_at[1]

    @property
    def processes(self) -> list[trio.Process]:
        """Its processes, in the order in which they leave."""
        return [self.process] if self.device is None else [self.device, self.process]

    async def read(self) -> None:
        """Takes what its processes print until they end."""
        async with trio.open_nursery() as nursery:
            if self.device is not None:
                nursery.start_soon(self._read_device, self.device)
            assert self.process.stdout is not None
            async for message in _figures(self._lines or lines_of(self.process.stdout)):
                self.figures = message if self.device is None else self._as_miner(message)

    async def _read_device(self, device: trio.Process) -> None:
        assert device.stdout is not None
        async for message in _figures(lines_of(device.stdout)):
            self._of_device = message

    def _as_miner(self, told: dict[str, Any]) -> dict[str, Any]:
        """Says in a miner's words what the pool has answered to a translator."""
        refused = self._of_device.get("rejected") or {}
        return {
            "hash_rate": self._of_device.get("hash_rate", 0),
            "accepted": told["pool_accepted"],
            "accepted_hashes": told["pool_work"],
            "rejected": told["pool_refusals"],
            "unanswered": told["unanswered"],
            "mismatches": sum(count for code, count in refused.items() if code not in LATE),
            "wallet": told.get("wallet", {}),
        }


async def _figures(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    async for line in lines:
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if message.get("event") in ("stats", "stopped"):
            yield message


@asynccontextmanager
async def stage(directory: Path) -> AsyncIterator[tuple[Pool, list[Miner]]]:
    """Makes an MSP in `directory`, starts it, and lets miners mine on it.

    Whatever happens, no process outlives the context.

    Raises:
        RadpoolError: The pool did not begin to serve; the message ends with what it said last.
    """
    installation = await trio.to_thread.run_sync(
        functools.partial(install_msp, directory, settings=SETTINGS)
    )
    processes: list[trio.Process] = []
    try:
        pool = await _start_pool(installation, processes)
        miners = [await _start_miner(plan, pool, processes) for plan in MINERS]
        if any(each.name == TRANSLATOR for each in entry_points(group=COMMANDS_GROUP)):
            miners.append(await _start_device(SV1_MINER, pool, processes))
        yield pool, miners
    finally:
        await kill_all(processes)


async def _start_pool(installation: Installation, processes: list[trio.Process]) -> Pool:
    directory = installation.directory
    line = command("msp", "--dir", str(directory), "--json")
    server = await serve("the pool", line, directory / "msp.log", processes)
    fields = server.fields
    return Pool(
        server.process, installation, fields["sv2"], fields["http"], fields["authority_public_key"]
    )


async def _start_miner(plan: MinerPlan, pool: Pool, processes: list[trio.Process]) -> Miner:
    wallet = pool.installation.directory / "wallets" / plan.name
    await (await Wallet.create(wallet)).close()
    arguments = [
        *("--connect", pool.sv2, "--authority-key", pool.authority_public_key),
        *("--user", plan.name, "--threads", "1"),
        *("--wallet", str(wallet), "--policy", POLICY, "--mint-url", f"http://{pool.http}"),
        *("--hash-rate-limit", str(plan.hash_rate_limit), "--json"),
    ]
    log = pool.installation.directory / f"{plan.name}.log"
    process = await open_process(command("miner", *arguments), log)
    processes.append(process)
    return Miner(plan, process, wallet, log)


async def _start_device(plan: MinerPlan, pool: Pool, processes: list[trio.Process]) -> Miner:
    """Starts a translator with a wallet, and behind it a miner that speaks Stratum V1."""
    directory = pool.installation.directory
    wallet = directory / "wallets" / plan.name
    await (await Wallet.create(wallet)).close()
    config, log = directory / "translator.toml", directory / "translator.log"
    config.write_text(_translator(pool, wallet))
    line = command(TRANSLATOR, "--config", str(config), "--listen", "127.0.0.1:0", "--json")
    server = await serve("the translator", line, log, processes)
    arguments = (
        *("--sv1", server.fields["sv1"], "--user", plan.name, "--threads", "1"),
        *("--hash-rate-limit", str(plan.hash_rate_limit), "--json"),
    )
    device = await open_process(command("miner", *arguments), directory / f"{plan.name}.log")
    processes.append(device)
    return Miner(plan, server.process, wallet, log, device, _lines=server.lines)


def _translator(pool: Pool, wallet: Path) -> str:
    """Writes the configuration of the translator."""
    sections: dict[str, dict[str, object]] = {
        "devices": {"shares_per_minute": 60, "nominal_hash_rate_mh": 1},
        "wallet": {"dir": str(wallet), "policy": POLICY, "mint_url": f"http://{pool.http}"},
        "[pools]": {
            "address": pool.sv2,
            "authority_public_key": pool.authority_public_key,
            "ecash": True,
        },
    }
    lines = []
    for section, keys in sections.items():
        lines.append(f"[{section}]")
        # JSON's texts, numbers and truth values are TOML's as well.
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"

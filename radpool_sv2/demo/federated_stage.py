"""Sets the stage of the demo of a federation: four pools that hold their blocks together.

Each has a bitcoin node of its own on regtest, all of one chain; the pool with the federation's
member inside; and a miner. Everything runs as its operator would run it: directories are made by
`radpool federation init`, the committee by `radpool federation invite`, and members find each other
over TCP and Noise.
"""

from __future__ import annotations

import functools
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import trio

from radpool_sv2.demo.process import (
    command,
    kill_all,
    lines_of,
    open_process,
    run_radpool,
    serve,
    tail,
)
from radpool_sv2.demo.regtest import RegtestNode, follow, free_ports
from radpool_sv2.errors import ConfigError, RadpoolError
from radpool_sv2.federation.installation import RECORD_NAME
from radpool_sv2.federation.role import read_figures
from radpool_sv2.installation import install_msp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

__all__ = ["MATURITY", "SAY_SECONDS", "Alliance", "Ally", "alliance", "telling"]

NAMES: Final = ("north", "east", "south", "west")
HASH_RATES: Final = (200_000, 150_000, 100_000, 50_000)
"""Different, so that one sees that parts follow the work."""

BLOCK_ZEROS: Final = 21
"""2^21 hashes: with half a million hashes a second a block every four seconds."""

EXPONENT: Final = 15
"""Some fifteen shares a second at all pools together: enough to be paid by."""

MATURITY: Final = 100
"""The network lets nobody spend a coinbase earlier."""

START_SECONDS_MAX: Final = 90.0
SAY_SECONDS: Final = 5.0
"""How often is said how far it is."""

SETTINGS: Final = {
    "mining.listen": "127.0.0.1:0",
    "http.listen": "127.0.0.1:0",
    "mining.shares_per_minute": 600,
    "mining.exponent_min": EXPONENT,
    "mining.exponent_max": EXPONENT + 4,
    "mining.report_interval_ms": 1_000,
    "mining.pool_text": "radpool demo",
    "ecash.enabled": False,
    "extensions.enabled": [],
    "declarator.enabled": False,
    "federation.batch_ms": 500,
    "templates.source": "bitcoind",
    "templates.block_zeros": BLOCK_ZEROS,
    "templates.interval_s": 2,
}


@asynccontextmanager
async def telling(say: Callable[[str], None], what: str) -> AsyncIterator[None]:
    """Says from time to time that something goes on, as long as the context lasts."""

    async def tell() -> None:
        begin = trio.current_time()
        while True:
            await trio.sleep(SAY_SECONDS)
            say(f"  {what}: {trio.current_time() - begin:.0f} s")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        yield
        nursery.cancel_scope.cancel()


@dataclass(slots=True)
class Ally:
    """Is a member: its node, its pool and its miner.

    Attributes:
        name: What the screen calls it.
        place: Directory of the pool.
        member_place: Directory of the member.
        node: Its bitcoin node.
        hash_rate: What its miner is limited to.
        http: Where its pool answers.
        script: Where it is paid.
        process: The pool.
        miner: The miner, while it mines.
    """

    name: str
    place: Path
    member_place: Path
    node: RegtestNode
    hash_rate: int
    http: str = ""
    script: bytes = b""
    process: trio.Process | None = None
    miner: trio.Process | None = None
    served: dict[str, str] = field(default_factory=dict)

    @property
    def committee_file(self) -> Path:
        """The file of the committee."""
        return self.member_place / "committee.json"

    @property
    def log(self) -> Path:
        """What its pool said of itself."""
        return self.place.with_name(f"{self.name}.log")

    def figures(self) -> dict[str, Any]:
        """Returns what its member says of itself; nothing while it does not run."""
        try:
            return read_figures(self.member_place / "data")
        except ConfigError:
            return {}


@dataclass(slots=True)
class Alliance:
    """Is everything that runs.

    Attributes:
        directory: Where all of it is.
        allies: The members.
        processes: Pools and miners, to be ended.
    """

    directory: Path
    allies: list[Ally]
    processes: list[trio.Process]

    @property
    def node(self) -> RegtestNode:
        """The node that others are connected to."""
        return self.allies[0].node

    async def start_pool(self, ally: Ally) -> None:
        """Starts a pool with its member.

        Raises:
            RadpoolError: It does not start.
        """
        line = command("msp", "--dir", str(ally.place), "--json")
        server = await serve(f"the pool of {ally.name}", line, ally.log, self.processes)
        ally.process, ally.served = server.process, server.fields
        ally.http = ally.served["http"]

    async def start_miner(self, ally: Ally) -> None:
        """Starts the miner of a pool.

        Raises:
            RadpoolError: It does not mine.
        """
        arguments = [
            *("--connect", ally.served["sv2"], "--authority-key"),
            *(ally.served["authority_public_key"], "--user", f"miner-of-{ally.name}"),
            *("--threads", "1", "--hash-rate-limit", str(ally.hash_rate), "--json"),
        ]
        log = self.directory / f"{ally.name}-miner.log"
        ally.miner = await open_process(command("miner", *arguments), log)
        self.processes.append(ally.miner)
        assert ally.miner.stdout is not None
        with trio.move_on_after(START_SECONDS_MAX):
            if await anext(lines_of(ally.miner.stdout), ""):
                return
        raise RadpoolError(f"the miner at {ally.name} does not mine; its log ends:\n{tail(log)}")


@asynccontextmanager
async def alliance(
    directory: Path, bitcoind: Path, say: Callable[[str], None]
) -> AsyncIterator[Alliance]:
    """Starts nodes, makes members and their committee, and starts the pools.

    No process outlives the context.

    Args:
        directory: Where all of it is kept.
        bitcoind: The nodes' program.
        say: Told how far it is.

    Raises:
        RadpoolError: Something did not start; the message ends with what it said last.
    """
    ports = free_ports(3 * len(NAMES))
    allies, links = [], {}
    for number, (name, rate) in enumerate(zip(NAMES, HASH_RATES, strict=True)):
        rpc, p2p, link = ports[3 * number : 3 * number + 3]
        node = RegtestNode(f"the node of {name}", directory / f"{name}-node", bitcoind, rpc, p2p)
        ally = Ally(name, directory / name, directory / f"{name}-member", node, rate)
        allies.append(ally)
        links[name] = f"127.0.0.1:{link}"
    stage = Alliance(directory, allies, [])
    try:
        async with telling(say, "nodes, keys and members are made"):
            await _start_nodes(allies)
            say("The nodes are connected. Each pool makes its keys, and a member that has the same")
            async with trio.open_nursery() as nursery:
                for ally in allies:
                    nursery.start_soon(_make, ally, links[ally.name])
            await _invite(allies)
        say("The members' records make a committee; all have its file, and the pools start")
        async with telling(say, "the pools start"), trio.open_nursery() as nursery:
            for ally in allies:
                nursery.start_soon(stage.start_pool, ally)
        yield stage
    finally:
        with trio.CancelScope(shield=True):
            await kill_all(stage.processes)
            for ally in allies:
                await ally.node.stop()


async def _start_nodes(allies: list[Ally]) -> None:
    first = allies[0].node
    await first.start(f"-bind=127.0.0.1:{first.p2p_port}")
    async with trio.open_nursery() as nursery:
        for ally in allies[1:]:
            connect = f"-connect=127.0.0.1:{first.p2p_port}"
            nursery.start_soon(ally.node.start, connect, "-listen=0")
    await first.mine(1)
    await follow(first, *(ally.node for ally in allies[1:]))


async def _make(ally: Ally, link: str) -> None:
    """Makes a pool and its member."""
    settings = SETTINGS | {
        "templates.rpc_urls": [ally.node.url],
        "templates.rpc_cookie_files": [str(ally.node.cookie_file)],
        "federation.dir": str(ally.member_place),
    }
    made = await trio.to_thread.run_sync(
        functools.partial(install_msp, ally.place, settings=settings)
    )
    told = await ally.node.rpc.call("validateaddress", made.payout_address)
    ally.script = bytes.fromhex(told["scriptPubKey"])
    await _run(
        *("federation", "init", "--dir", str(ally.member_place), "--msp-dir", str(ally.place)),
        *("--address", link, "--listen", link),
        *("--rpc-url", ally.node.url, "--rpc-cookie-file", str(ally.node.cookie_file)),
    )


async def _invite(allies: list[Ally]) -> None:
    """Makes the committee, and gives its file to everybody."""
    first, others = allies[0], allies[1:]
    records = [str(ally.member_place / RECORD_NAME) for ally in others]
    await _run(
        *("federation", "invite", *records, "--dir", str(first.member_place)),
        *("--maturity", str(MATURITY), "--exponent-floor", str(EXPONENT)),
    )
    for ally in others:
        shutil.copyfile(first.committee_file, ally.committee_file)


async def _run(*arguments: str) -> None:
    done = await run_radpool(*arguments)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace")[-1_000:]
        raise RadpoolError(f"`radpool {' '.join(arguments[:2])}` failed:\n{said}")

"""Runs real bitcoin nodes on regtest, with coins and payments, for the demo on nodes.

Coins are outputs that anybody may spend, so no wallet is needed. Every payment spends one of them
and pays a fee that the demo chooses: that is what makes one template worth more than another.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2.chain.block import Block
from radpool_sv2.chain.transaction import Transaction, TxInput, TxOutput
from radpool_sv2.errors import ConfigError, NodeError, RadpoolError
from radpool_sv2.node.rpc import NodeRpc, NodeSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SATS", "Coin", "RegtestNode", "find_bitcoind", "follow", "free_ports", "pay"]

START_SECONDS_MAX: Final = 90.0
LOOK_SECONDS: Final = 0.1
RPC_SECONDS_MAX: Final = 60.0
BLOCKS_AT_ONCE: Final = 50

WITNESS_SCRIPT: Final = b"\x51"
"""OP_TRUE: whoever knows it may spend."""
ANYBODY: Final = b"\x00\x20" + hashlib.sha256(WITNESS_SCRIPT).digest()
SEQUENCE: Final = 0xFFFFFFFD

BLOCK_WEIGHT_MAX: Final = 24_000
"""Room for some forty payments: what does not fit waits, so that every template has fees."""

SATS: Final = 100_000_000


@dataclass(frozen=True, slots=True)
class Coin:
    """Is an output that anybody may spend."""

    txid: bytes
    index: int
    sats: int


def find_bitcoind(named: Path | None) -> Path:
    """Finds a bitcoind: the one that is named, else $BITCOIND, else the first on PATH.

    Raises:
        ConfigError: There is none.
    """
    candidates = [None if named is None else str(named), os.environ.get("BITCOIND"), "bitcoind"]
    for candidate in candidates:
        if candidate and (found := shutil.which(candidate)):
            return Path(found)
        if candidate is not None and candidate != "bitcoind":
            break
    raise ConfigError(
        "no bitcoind is to be found: install Bitcoin Core or Knots, release 28 or later, or run "
        "`scripts/get-bitcoind .nodes/bitcoind` in a checkout and name the bitcoind in its bin",
        key="--bitcoind",
        value=None if named is None else str(named),
    )


def free_ports(count: int) -> list[int]:
    """Finds TCP ports of this machine that nobody listens on."""
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(listener.getsockname()[1])
        return ports


@dataclass(slots=True)
class RegtestNode:
    """Is a node in a directory of its own.

    Attributes:
        name: What the screen calls it.
        directory: Its data.
        program: The bitcoind.
        rpc_port: Where it answers.
        p2p_port: Where other nodes connect.
        process: Its process, once it was started.
        rpc: Calls it.
    """

    name: str
    directory: Path
    program: Path
    rpc_port: int
    p2p_port: int
    process: trio.Process | None = None
    rpc: NodeRpc = field(init=False)

    def __post_init__(self) -> None:
        self.rpc = NodeRpc(
            NodeSettings(url=self.url, deadline_s=RPC_SECONDS_MAX, cookie_file=self.cookie_file)
        )

    @property
    def url(self) -> str:
        """Its RPC interface."""
        return f"http://127.0.0.1:{self.rpc_port}"

    @property
    def cookie_file(self) -> Path:
        """Where it writes its cookie."""
        return self.directory / "regtest" / ".cookie"

    async def start(self, *arguments: str) -> None:
        """Starts it and waits until it answers.

        Raises:
            RadpoolError: It does not; the message ends with what it said.
        """
        self.directory.mkdir(parents=True)
        log = self.directory / "output.log"
        version = await trio.run_process([str(self.program), "-version"], capture_stdout=True)
        # Knots has smaller blocks and a policy of its own unless it is told otherwise.
        policy = ["-corepolicy"] if b"Knots" in version.stdout else []
        command = [
            *(str(self.program), f"-datadir={self.directory}", "-regtest", "-server"),
            *(f"-rpcport={self.rpc_port}", "-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1"),
            *("-dnsseed=0", "-fixedseeds=0"),
            *("-listenonion=0", "-natpmp=0", "-discover=0", "-printtoconsole=0"),
            *(f"-blockmaxweight={BLOCK_WEIGHT_MAX}", *policy, *arguments),
        ]
        with log.open("ab") as output:
            # A group of its own: Ctrl-C reaches the demo alone.
            self.process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        with trio.move_on_after(START_SECONDS_MAX):
            while self.process.poll() is None:
                try:
                    await self.rpc.call("getblockcount")
                except NodeError:
                    await trio.sleep(LOOK_SECONDS)
                else:
                    return
        raise RadpoolError(
            f"{self.program} did not start; the end of {log}:\n"
            + log.read_text(errors="replace")[-1_000:]
        )

    async def stop(self) -> None:
        """Ends it; what it has kept is thrown away anyway."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            await self.process.wait()
        await self.rpc.aclose()

    # Coins and payments

    async def mine(self, blocks: int) -> None:
        """Mines blocks whose coinbases anybody may spend."""
        for start in range(0, blocks, BLOCKS_AT_ONCE):
            count = min(BLOCKS_AT_ONCE, blocks - start)
            await self.rpc.call("generatetodescriptor", count, f"raw({ANYBODY.hex()})")

    async def coinbase_coins(self, heights: Sequence[int]) -> list[Coin]:
        """Returns the coins of blocks that `mine` has made."""
        coins = []
        for height in heights:
            block_hash = await self.rpc.call("getblockhash", height)
            block = await self.rpc.call("getblock", block_hash, 0)
            coinbase = Block.from_bytes(bytes.fromhex(block)).transactions[0]
            coins.append(Coin(coinbase.txid, 0, coinbase.outputs[0].value_sats))
        return coins

    async def split(self, coin: Coin, parts: int) -> list[Coin]:
        """Splits a coin into equal parts, which can be spent once the split is in a block."""
        each = (coin.sats - SATS // 100) // parts
        payment = pay(coin, [each] * parts)
        await self.send(payment)
        return [Coin(payment.txid, index, each) for index in range(parts)]

    async def send(self, payment: Transaction) -> None:
        """Gives a payment to the node, whatever fee it pays."""
        await self.rpc.call("sendrawtransaction", payment.to_bytes().hex(), 0)


async def follow(first: RegtestNode, *others: RegtestNode) -> None:
    """Waits until other nodes have the chain that a first one has now.

    Raises:
        RadpoolError: One of them does not follow.
    """
    tip = await first.rpc.call("getbestblockhash")
    with trio.move_on_after(START_SECONDS_MAX) as limit:
        for node in others:
            while await node.rpc.call("getbestblockhash") != tip:  # noqa: ASYNC110 - a process
                await trio.sleep(LOOK_SECONDS)
    if limit.cancelled_caught:
        raise RadpoolError(f"{node.name} does not follow {first.name}")


def pay(coin: Coin, amounts: Sequence[int]) -> Transaction:
    """Makes a payment that spends a coin; what the amounts leave is the fee."""
    spent = TxInput((coin.txid, coin.index), b"", SEQUENCE, (WITNESS_SCRIPT,))
    return Transaction(2, (spent,), tuple(TxOutput(sats, ANYBODY) for sats in amounts), 0)

"""Measures declared templates: structure, full verdict, and a declaration that changes a little.

A template of real payments, each with a signature of its own, is declared as a declarer would: by
wtxids, with the transactions that are missing. Assembler, desk and source are what `radpool msp`
runs; the event loop's lag is that of the process they are in. The embedded chain verifies every
signature each time, in a fork; a bitcoind verifies those that it has not seen (cold) and remembers
them (warm).
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import os
import statistics
import struct
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from benchmarks.lag import Lag
from benchmarks.measure import Row
from benchmarks.process import ROOT, BenchmarkError
from radpool_sv2._native.template import Declaration, Selection, TransactionCache
from radpool_sv2.chain.block import WITNESS_RESERVED, Block, witness_commitment
from radpool_sv2.chain.faucet import FAUCET_SECRET, TaprootKey
from radpool_sv2.chain.script import push
from radpool_sv2.chain.supervisor import EmbeddedChain
from radpool_sv2.chain.transaction import Transaction, TxInput, TxOutput
from radpool_sv2.consensus import push_height
from radpool_sv2.declarator.assembly import Assembler
from radpool_sv2.declarator.verdict import VerdictBudget, VerdictDesk
from radpool_sv2.errors import NodeError
from radpool_sv2.node.refusal import RpcRefusedError
from radpool_sv2.node.rpc import NodeRpc, NodeSettings
from radpool_sv2.templates.declared import TipView
from radpool_sv2.templates.embedded import EmbeddedSource
from radpool_sv2.templates.source import STALE_PREVBLK, BlockVerdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from radpool_sv2.chain.transaction import OutPoint

BITCOIND: Final = (
    Path(os.environ.get("RADPOOL_BITCOIND_DIR", ROOT / ".nodes/bitcoind")) / "bin/bitcoind"
)
FAN_OUT: Final = 2_000
CHANGED_PART: Final = 50
"""A re-declaration changes one transaction in so many."""
EXTRANONCE_LEN: Final = 16
QUIET_S: Final = 1.0
ANSWER_ATTEMPTS: Final = 200
ANSWER_PAUSE_S: Final = 0.1
EVERYTHING: Final = VerdictBudget(
    node_ms_per_minute=1 << 40, node_ms_burst=1 << 40, bytes_per_minute=1 << 60, bytes_burst=1 << 60
)
DEADLINE_S: Final = 60.0


@dataclass
class Times:
    """Is how long each kind of step took, ms."""

    taken: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def count(self, kind: str) -> Iterator[None]:
        """Adds what the block takes."""
        began = time.perf_counter()
        yield
        self.taken.setdefault(kind, []).append((time.perf_counter() - began) * 1_000)

    def row(self, kind: str, question: str, goal_ms: int | None = None, note: str = "") -> Row:
        """Returns the median as a row."""
        taken = self.taken[kind]
        median = statistics.median(taken)
        figure = f"{median:.1f} ms ({min(taken):.1f} to {max(taken):.1f})"
        goal = "" if goal_ms is None else f"{goal_ms} ms"
        met = None if goal_ms is None else median <= goal_ms
        return Row(question, figure, goal, met, note, {"ms": taken})


class Payer:
    """Makes payments on an embedded chain whose coins it owns, and templates of them."""

    def __init__(self, chain: EmbeddedChain) -> None:
        self._chain = chain
        self._key = TaprootKey(FAUCET_SECRET)
        self._coins: list[tuple[OutPoint, TxOutput]] = []
        self._sets = itertools.count()

    async def split_coins(self, count: int) -> None:
        """Makes so many coins, each by itself on the chain."""
        await self._chain.request("mine", {"count": -(-count // FAN_OUT)})
        for height in range(1, -(-count // FAN_OUT) + 1):
            answer = await self._chain.request("block", {"height": height})
            coinbase = Block.from_bytes(bytes.fromhex(answer["block"])).transactions[0]
            spent = coinbase.outputs[0]
            each = TxOutput(spent.value_sats // FAN_OUT - 100, self._key.script)
            source = TxInput((coinbase.txid, 0), b"", 0xFFFFFFFD)
            made = self._key.sign(Transaction(2, (source,), (each,) * FAN_OUT, 0), [spent])
            await self._chain.request("submit_transaction", {"transaction": made.raw.hex()})
            self._coins += [((made.txid, index), each) for index in range(FAN_OUT)]
        await self._chain.request("mine")

    def pay(self, count: int) -> list[Transaction]:
        """Returns so many payments; none of another call has the same signatures."""
        number = next(self._sets)
        return [self._pay(point, coin, number) for point, coin in self._coins[:count]]

    def _pay(self, point: OutPoint, coin: TxOutput, number: int) -> Transaction:
        half = coin.value_sats // 2
        outputs = (TxOutput(half - number, self._key.script), TxOutput(half, self._key.script))
        bare = Transaction(2, (TxInput(point, b"", 0xFFFFFFFD),), outputs, 0)
        return self._key.sign(bare, [coin])

    async def tip(self) -> tuple[TipView, int]:
        """Returns what templates build on, and the version of their headers."""
        fields = await self._chain.next_template()
        target = bytes.fromhex(fields["target"])
        previous = bytes.fromhex(fields["previous"])
        tip = TipView(fields["height"], previous, fields["time"], fields["nbits"], target)
        return tip, fields["version"]

    def coinbase(self, tip: TipView, payments: Sequence[Transaction]) -> tuple[bytes, bytes]:
        """Returns a coinbase around its extranonce; it leaves the fees."""
        head = push_height(tip.height) + push(struct.pack("<I", next(self._sets)))
        script = head + bytes([EXTRANONCE_LEN]) + bytes(EXTRANONCE_LEN)
        source = TxInput((bytes(32), 0xFFFFFFFF), script, 0, (WITNESS_RESERVED,))
        outputs = (TxOutput(0, b"\x51"), witness_commitment([each.wtxid for each in payments]))
        raw = Transaction(2, (source,), outputs, 0).raw
        start = raw.index(script) + len(script) - EXTRANONCE_LEN
        return raw[:start], raw[start + EXTRANONCE_LEN :]


class KnownToNobody:
    """Is a node in front of whose mempool nothing has come."""

    async def known_transactions(self, _: Sequence[bytes]) -> dict[bytes, bytes]:
        """Returns nothing."""
        return {}


class Proposals:
    """Asks a bitcoind for verdicts, as the pool's own source does."""

    def __init__(self, rpc: NodeRpc) -> None:
        self.rpc = rpc

    async def check_block(self, block: bytes) -> BlockVerdict:
        """Judges a block by the node's `proposal`."""
        proposal = {"mode": "proposal", "data": block.hex(), "rules": ["segwit"]}
        answer = await self.rpc.call("getblocktemplate", proposal, deadline_s=DEADLINE_S)
        return BlockVerdict(answer is None, str(answer or ""))


def measure_declaration(transactions: int, rounds: int) -> list[Row]:
    """Measures declarations of so many transactions."""
    bitcoind = BITCOIND if BITCOIND.exists() else None
    return trio.run(_measure, transactions, rounds, bitcoind)


async def _measure(count: int, rounds: int, bitcoind: Path | None) -> list[Row]:
    rows = [await _quiet_lag()]
    with tempfile.TemporaryDirectory(prefix="radpool-bench-") as directory:
        chain = EmbeddedChain(Path(directory) / "chain", block_zeros=0)
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: chain.run(task_status=task_status))
            payer = Payer(chain)
            await payer.split_coins(count + count // CHANGED_PART)
            rows += await _structure(payer, count, rounds)
            source = EmbeddedSource(chain)
            rows += await _verdicts("embedded chain, in a fork", source, payer, count, rounds)
            if bitcoind is not None:
                with _bitcoind(bitcoind, Path(directory) / "node") as rpc:
                    await _follow(rpc, chain)
                    rows += await _verdicts("bitcoind", Proposals(rpc), payer, count, rounds)
                    await rpc.aclose()
            nursery.cancel_scope.cancel()
    return rows


async def _quiet_lag() -> Row:
    """Measures what the machine alone makes late."""
    lag = Lag()
    with trio.move_on_after(QUIET_S):
        await lag.watch()
    return dataclasses.replace(_lag_row(lag, "nothing else"), goal="", met=None)


def _lag_row(lag: Lag, what: str) -> Row:
    p99_ms = lag.p99_ms()
    return Row(
        f"lag of the event loop, {what}",
        f"p99 {p99_ms:.1f} ms of {len(lag.late):,} ticks; longest {lag.longest_ms():.1f} ms",
        goal="p99 < 5 ms",
        met=p99_ms < 5,
    )


async def _structure(payer: Payer, count: int, rounds: int) -> list[Row]:
    """Times the native calls alone."""
    tip, version = await payer.tip()
    times = Times()
    for _ in range(max(rounds, 3)):
        payments = payer.pay(count)
        changed = count // CHANGED_PART
        later = payments[changed:] + payer.pay(count + changed)[count:]
        cache = TransactionCache(1 << 30)
        for kind, some in (("new", payments), ("known", payments), ("changed", later)):
            prefix, suffix = payer.coinbase(tip, some)
            wtxids = b"".join(each.wtxid for each in some)
            raws = [each.raw for each in some]
            with times.count(kind):
                selection = Selection(cache, wtxids)
                missing = selection.missing
                selection.supply([raws[position] for position in missing])
                declaration = Declaration.build(
                    selection,
                    version=version,
                    prev_hash=tip.prev_hash,
                    nbits=tip.nbits,
                    height=tip.height,
                    coinbase_prefix=prefix,
                    coinbase_suffix=suffix,
                )
                wrong = declaration.structural()
            if wrong is not None:
                raise BenchmarkError(f"a good template was refused: {wrong}")
    size = f"{declaration.size / 1e6:.2f} MB"
    return [
        times.row("known", f"structural verdict, {count:,} transactions at hand ({size})", 10),
        times.row("changed", f"re-declaration, {changed:,} of {count:,} transactions new", 10),
        times.row(
            "new", f"structural verdict, all {count:,} transactions new", note="with parsing"
        ),
    ]


async def _verdicts(what: str, source: Any, payer: Payer, count: int, rounds: int) -> list[Row]:
    """Times declarations from the message to the verdict of a node."""
    times, lag = Times(), Lag()
    cache = TransactionCache(1 << 30)
    assembler = Assembler(cache, KnownToNobody())
    desk = VerdictDesk(source, EVERYTHING)
    prepared = [payer.pay(count) for _ in range(rounds)]
    tip, version = await payer.tip()
    # All that the declarer does is done beforehand: the lag is the pool's.
    made = [
        (
            kind,
            tuple(each.wtxid for each in payments),
            [each.raw for each in payments],
            payer.coinbase(tip, payments),
        )
        for payments in prepared
        for kind in ("cold", "warm", "warm")
    ]
    gc.collect()
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.run)
        nursery.start_soon(lag.watch)
        for kind, wtxids, raws, (prefix, suffix) in made:
            with times.count(kind):
                assembly = await assembler.begin(
                    version=version, coinbase_prefix=prefix, coinbase_suffix=suffix, wtxids=wtxids
                )
                if assembly.missing:
                    await assembly.supply(raws)
                declaration = await assembly.declaration(tip=tip)
                verdict = await desk.judge("declarer", declaration, tip.min_ntime)
            if not verdict.valid:
                hint = "; is its clock right?" if verdict.reason == STALE_PREVBLK else ""
                raise BenchmarkError(f"{what} refused a good template: {verdict.reason}{hint}")
        nursery.cancel_scope.cancel()
    subject = f"full verdict, {count:,} signed payments, {what}"
    return [
        times.row("warm", f"{subject}, warm: transactions declared before", 50),
        times.row("cold", f"{subject}, cold: nothing seen before", 250),
        _lag_row(lag, f"verdicts of {what}"),
    ]


@contextmanager
def _bitcoind(program: Path, directory: Path) -> Iterator[NodeRpc]:
    """Runs a bitcoind on an empty chain."""
    directory.mkdir()
    port = 20_000 + os.getpid() % 20_000
    command = [str(program), f"-datadir={directory}", "-regtest", "-server", "-listen=0"]
    command += ["-dnsseed=0", "-fixedseeds=0", "-natpmp=0", f"-rpcport={port}", "-printtoconsole=0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cookie = directory / "regtest/.cookie"
    url = f"http://127.0.0.1:{port}"
    try:
        yield NodeRpc(NodeSettings(url=url, deadline_s=DEADLINE_S, cookie_file=cookie))
    finally:
        process.terminate()
        process.wait()


async def _follow(rpc: NodeRpc, chain: EmbeddedChain) -> None:
    """Gives a bitcoind that is starting the chain's blocks."""
    for _ in range(ANSWER_ATTEMPTS):
        if await _answers(rpc):
            break
        await trio.sleep(ANSWER_PAUSE_S)
    height = (await chain.request("status"))["height"]
    for each in range(1, height + 1):
        block = await chain.request("block", {"height": each})
        refusal = await rpc.call("submitblock", block["block"])
        if refusal is not None:
            raise BenchmarkError(f"bitcoind refused block {each}: {refusal}")


async def _answers(rpc: NodeRpc) -> bool:
    try:
        return bool(await rpc.call("getblockcount") == 0)
    except (NodeError, RpcRefusedError):
        return False

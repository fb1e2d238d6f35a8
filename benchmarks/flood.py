"""Declares large templates from many addresses, as fast as they are taken.

Each declarer has an address of its own, which is what a pool tells them apart by, and transactions
of its own: 4 MB that no cache has yet. A line on stdin lets all of them begin; they go on until it
ends. A template counts when its verdict has come. Started by `benchmarks.crowd`.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2._native.keys import AuthorityPublicKey
from radpool_sv2._native.wire import Initiator
from radpool_sv2.chain.block import WITNESS_RESERVED, witness_commitment
from radpool_sv2.chain.transaction import Transaction, TxInput, TxOutput
from radpool_sv2.config import Endpoint
from radpool_sv2.consensus import push_height
from radpool_sv2.errors import ConnectionEnded
from radpool_sv2.templates.coinbase import read_outputs
from radpool_sv2.units import sha256d
from radpool_sv2.wire.message.base import decode
from radpool_sv2.wire.message.connection import Protocol as Purpose
from radpool_sv2.wire.message.job_declaration import (
    DECLARE_TX_DATA,
    JOB_DECLARATION,
    AllocateMiningJobToken,
    AllocateMiningJobTokenSuccess,
    DeclareMiningJob,
    DeclareMiningJobError,
    DeclareMiningJobSuccess,
    ProvideMissingTransactions,
    ProvideMissingTransactionsSuccess,
)
from radpool_sv2.wire.setup import set_up
from radpool_sv2.wire.stream import Sv2Stream

if TYPE_CHECKING:
    from radpool_sv2.wire.message.base import Message

INVALID_JOB: Final = "invalid-job"
VERSION: Final = 0x20000000
EXTRANONCE_LEN: Final = 16
TRANSACTION_BYTES: Final = 3_700
VALUE_SATS: Final = 312_500_000
BACKLOG_S: Final = 0.2
ACT2_LEN: Final = 234


def make_transactions(declarer: int, count: int) -> list[bytes]:
    """Makes transactions that nobody else has: their coins do not exist."""
    padding = TRANSACTION_BYTES - 100
    start = b"\x02\0\0\0\0\x01\x01" + declarer.to_bytes(28, "little")
    end = b"\0\0\0\0\0" + b"\xff" * 4 + b"\x01" + bytes(8) + b"\x01\x51"
    end += b"\x01\xfd" + struct.pack("<H", padding) + bytes(padding) + bytes(4)
    return [start + number.to_bytes(4, "little") + end for number in range(1, count + 1)]


class Declarer:
    """Is one miner that declares."""

    def __init__(self, number: int, count: int, height: int, told: Counter[str]) -> None:
        self._number = number
        self._height = height
        self._told = told
        self._raws = make_transactions(number, count)
        self._wtxids = tuple(map(sha256d, self._raws))
        self._round = 0
        self.verdicts = 0
        self._requests = 0

    async def run(
        self, endpoint: Endpoint, key: str, begin: trio.Event, ready: trio.Semaphore
    ) -> None:
        """Connects, waits, and declares until cancelled."""
        stream = await self._connect(endpoint, key)
        ready.release()
        await begin.wait()
        try:
            while True:
                await self._declare(stream)
        except ConnectionEnded:
            self._told["closed"] += 1

    async def _connect(self, endpoint: Endpoint, key: str) -> Sv2Stream:
        address = f"127.0.{1 + self._number // 250}.{1 + self._number % 250}"
        initiator = Initiator(AuthorityPublicKey.from_text(key).to_bytes())
        tcp = await trio.open_tcp_stream(endpoint.host, endpoint.port, local_address=address)
        await tcp.send_all(initiator.act1())
        act2 = b""
        while len(act2) < ACT2_LEN:
            act2 += bytes(await tcp.receive_some(ACT2_LEN - len(act2)))
        transport = initiator.finish(act2, int(time.time()))
        transport.frame_bytes_max = 1 << 24
        stream = Sv2Stream(tcp, transport, str(endpoint))
        await set_up(stream, Purpose.JOB_DECLARATION, flags=DECLARE_TX_DATA, endpoint=endpoint)
        return stream

    async def _declare(self, stream: Sv2Stream) -> None:
        self._requests += 1
        await stream.send(AllocateMiningJobToken(f"miner{self._number}", self._requests))
        token = await self._answer(stream)
        assert isinstance(token, AllocateMiningJobTokenSuccess)
        prefix, suffix = self._coinbase(token.coinbase_tx_outputs)
        declaration = DeclareMiningJob(
            self._requests, token.mining_job_token, VERSION, prefix, suffix, self._wtxids, b""
        )
        await stream.send(declaration)
        self._told["declared"] += 1
        while True:
            message = await self._answer(stream)
            if isinstance(message, ProvideMissingTransactions):
                asked = [self._raws[at] for at in message.unknown_tx_position_list]
                await stream.send(ProvideMissingTransactionsSuccess(message.request_id, asked))
                self._told["bytes"] += sum(map(len, asked))
            elif isinstance(message, DeclareMiningJobSuccess):
                self.verdicts += 1
                self._told["accepted"] += 1
                return
            elif isinstance(message, DeclareMiningJobError):
                self.verdicts += message.error_code == INVALID_JOB
                self._told[message.error_code] += 1
                await trio.sleep(BACKLOG_S)
                return

    @staticmethod
    async def _answer(stream: Sv2Stream) -> Message | None:
        return decode(await stream.receive(), JOB_DECLARATION)

    def _coinbase(self, raw_outputs: bytes) -> tuple[bytes, bytes]:
        self._round += 1
        payout, *marks = read_outputs(raw_outputs[1:], raw_outputs[0])
        outputs = [TxOutput(VALUE_SATS, payout.script)]
        outputs += [TxOutput(each.value_sats, each.script) for each in marks]
        outputs.append(witness_commitment(list(self._wtxids)))
        text = self._round.to_bytes(4, "little")
        script = push_height(self._height) + b"\x04" + text + bytes([EXTRANONCE_LEN])
        script += bytes(EXTRANONCE_LEN)
        source = TxInput((bytes(32), 0xFFFFFFFF), script, 0, (WITNESS_RESERVED,))
        coinbase = Transaction(2, (source,), tuple(outputs), 0).raw
        start = coinbase.index(script) + len(script) - EXTRANONCE_LEN
        return coinbase[:start], coinbase[start + EXTRANONCE_LEN :]


async def flood(arguments: argparse.Namespace) -> None:
    """Runs all declarers until stdin ends."""
    told: Counter[str] = Counter()
    begin, ready = trio.Event(), trio.Semaphore(0)
    endpoint = Endpoint.parse(arguments.connect)
    declarers = [
        Declarer(number, arguments.transactions, arguments.height, told)
        for number in range(arguments.declarers)
    ]
    async with trio.open_nursery() as nursery:
        for each in declarers:
            nursery.start_soon(each.run, endpoint, arguments.key, begin, ready)
        for _ in range(arguments.declarers):
            await ready.acquire()
        _tell({"event": "ready"})
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
            async for _ in stdin:
                begin.set()
                verdicts = [each.verdicts for each in declarers]
                _tell({"event": "told", **told, "least": min(verdicts), "most": max(verdicts)})
        nursery.cancel_scope.cancel()


def _tell(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Reads the command line and runs."""
    parser = argparse.ArgumentParser(prog="benchmarks.flood")
    parser.add_argument("--connect", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--height", type=int, required=True)
    parser.add_argument("--declarers", type=int, default=100)
    parser.add_argument("--transactions", type=int, default=1_000)
    trio.run(flood, parser.parse_args())


if __name__ == "__main__":
    main()

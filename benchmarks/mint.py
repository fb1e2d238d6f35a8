"""Runs our mint behind HTTP, without a pool, for requests of sat and work tokens.

Mint, store and server are what `radpool msp` runs. There is one open keyset of work at a fixed
price of one sat, so that its tokens can be redeemed at once, and its work is set and not earned:
whoever drives this process gets the mint's seed and signs its tokens itself. The limits for a
single address are lifted. Started by `benchmarks.cashu`; the line on stdout is for it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio

from benchmarks.pool import EVERYTHING
from benchmarks.source import tell
from radpool_sv2._native.ecash import MintSeed
from radpool_sv2._native.ledger import MspKey
from radpool_sv2.config.ecash import EcashSection
from radpool_sv2.ecash.keyset import ChainTip
from radpool_sv2.ecash.mint import Mint
from radpool_sv2.ecash.policy import Policy
from radpool_sv2.store import SqliteStore
from radpool_sv2.store import ecash as table
from radpool_sv2.web import api, serve_http
from radpool_sv2.web.allowance import Allowance

WORK = 1 << 40
"""Units that the keyset of work is said to have; each is worth a sat."""

SETTINGS = dataclasses.replace(
    EcashSection(),
    enabled=True,
    unit_exponent=0,
    policies=("fixed",),
    fixed_price_msat=1_000,
    fixed_price_units=1,
    fixed_reserve_msat=1_000 * WORK,
)
CHAIN = SimpleNamespace(tip=ChainTip(800_000, bytes(32)), block_target=b"\xff" * 32)
REQUEST_SECONDS_MAX = 60


class NoPool:
    """Stands in for the pool: the mint's side of the API does not look at it."""

    def __getattr__(self, name: str) -> Any:
        """Has whatever there is to be asked for."""
        return NoPool()


async def serve(directory: Path) -> None:
    """Serves until stdin ends."""
    key, seed = MspKey.generate(), MintSeed.generate()
    time_ms = time.time_ns() // 1_000_000
    store = SqliteStore(directory / "ledger.sqlite", owner=key.public, time_ms=time_ms)
    mint = await Mint.open(store, key, seed, SETTINGS, CHAIN, confirmations=6)
    await mint.start()
    work = mint.current(Policy.FIXED)
    with store.change() as connection:
        row = table.find_keyset(connection, work.id)
        assert row is not None
        table.change_keyset(connection, row.number, work=WORK)
        sat = table.find_keyset(connection, mint.sat_keyset_id)
        assert sat is not None
        [(journal,)] = connection.execute("PRAGMA journal_mode")
        [(synchronous,)] = connection.execute("PRAGMA synchronous")
    unlimited = partial(Allowance, items_per_second=EVERYTHING, burst_items=EVERYTHING)
    setattr(api, "Allowance", unlimited)  # noqa: B010 - it is imported there, not its own
    async with trio.open_nursery() as nursery:
        run = partial(
            serve_http, NoPool(), "127.0.0.1", 0, mint=mint,
            requests_max=64, request_deadline_s=REQUEST_SECONDS_MAX,
        )  # fmt: skip
        _, port = await nursery.start(run)
        tell(
            {
                "event": "serving",
                "port": port,
                "seed": seed.expose_secret().hex(),
                "sat": sat.number,
                "work": row.number,
                "durability": f"SQLite {journal}, synchronous {synchronous}",
            }
        )
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
            async for _ in stdin:
                pass
        nursery.cancel_scope.cancel()
    store.close()


def main() -> None:
    """Reads the command line and serves."""
    parser = argparse.ArgumentParser(prog="benchmarks.mint")
    parser.add_argument("--dir", type=Path, required=True)
    trio.run(serve, parser.parse_args().dir)


if __name__ == "__main__":
    main()

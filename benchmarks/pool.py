"""Runs the pool under load: the real pool role, engine and ledger, with work that costs nothing.

Only the template source is synthetic: a merkle path of 12, a target that no share meets, and a new
tip whenever a line comes on stdin. Everything that a share or a tip touches in the pool is what
`radpool msp` runs. With `--ecash` the node is a mint too. Started by `benchmarks.process`; the
lines on stdout are for it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from benchmarks.clock import PartClock
from radpool_sv2.config import MspConfig, load
from radpool_sv2.installation import CONFIG_NAME, install_msp
from radpool_sv2.keyfile import load_keys
from radpool_sv2.ledger import Ledger
from radpool_sv2.log import configure_logging
from radpool_sv2.minting import open_minting
from radpool_sv2.pool.registry import ExtensionRegistry, find_extensions
from radpool_sv2.pool.role import Pool
from radpool_sv2.templates.source import (
    ChainEvent,
    Solution,
    SubmitResult,
    SubmitStatus,
    Template,
    TemplateUpdate,
    Tip,
    TipChanged,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radpool_sv2.minting import Minting

PATH_LEN = 12
"""A block of some 4,000 transactions."""
NBITS = 0x1D00FFFF
"""Difficulty 1: one share in 2^32 would be a block."""
UPDATES_PENDING_MAX = 16
SETTLE_SECONDS = 0.5
"""From a tip to the template of the next: its jobs must not compete with the tip."""

EVERYTHING = 1_000_000
SETTINGS: dict[str, object] = {
    "node.log_level": "error",
    # Every hash is a share and vardiff has nowhere to go: the generator hashes nothing.
    "mining.exponent_min": 0,
    "mining.exponent_max": 0,
    "ecash.unit_exponent": 0,
    "mining.shares_per_minute": EVERYTHING,
    # What is measured is the pool, not the limits that keep a single client from using it up.
    "limits.connections_max": EVERYTHING,
    "limits.connections_per_address_max": EVERYTHING,
    "limits.handshakes_per_second_max": EVERYTHING,
    "limits.handshakes_burst_max": EVERYTHING,
    "limits.handshakes_per_second_per_address_max": EVERYTHING,
    "limits.handshakes_burst_per_address_max": EVERYTHING,
    "limits.submits_per_second_max": EVERYTHING,
    "limits.submits_burst_max": EVERYTHING,
    "limits.handshake_deadline_ms": 60_000,
    "limits.setup_deadline_ms": 60_000,
}


class SyntheticSource:
    """Is a template source without a node: a new tip comes when it is told to."""

    name = "synthetic"

    def __init__(self) -> None:
        self._ticks, self._ticked = trio.open_memory_channel[None](1)
        self._number = 0

    async def run(
        self,
        updates: trio.MemorySendChannel[TemplateUpdate],
        chain_events: trio.MemorySendChannel[ChainEvent],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Sends a first tip, then one for each line on stdin, and each next template ahead."""
        template = self._template()
        tip = self._tip(template)
        await updates.send(TemplateUpdate(template, tip))
        await chain_events.send(TipChanged(template.height - 1, tip.prev_hash, (), ()))
        task_status.started()
        while True:
            await trio.sleep(SETTLE_SECONDS)
            template = self._template()
            await updates.send(TemplateUpdate(template, None))
            await self._ticked.receive()
            tip = self._tip(template)
            started_ns = time.monotonic_ns()
            await updates.send(TemplateUpdate(template, tip))
            tell({"event": "tip", "prev_hash": tip.prev_hash.hex(), "sent_ns": started_ns})

    def next_tip(self) -> None:
        """Lets the next tip come as soon as its template is out."""
        self._ticks.send_nowait(None)

    def _template(self) -> Template:
        self._number += 1
        height = 800_000 + self._number
        commitment = b"\x6a\x24\xaa\x21\xa9\xed" + bytes(32)
        return Template(
            id=self._number,
            height=height,
            version=0x20000000,
            coinbase_tx_version=2,
            coinbase_prefix=b"\x03" + height.to_bytes(3, "little"),
            coinbase_sequence=0xFFFFFFFF,
            template_outputs=bytes(8) + bytes([len(commitment)]) + commitment,
            template_output_count=1,
            coinbase_locktime=0,
            merkle_path=tuple(hashlib.sha256(bytes([level])).digest() for level in range(PATH_LEN)),
            value_sats=312_500_000,
            fees_sats=0,
            tx_count=4_000,
            weight=3_990_000,
        )

    @staticmethod
    def _tip(template: Template) -> Tip:
        return Tip(
            template_id=template.id,
            prev_hash=hashlib.sha256(template.height.to_bytes(4, "little")).digest(),
            min_ntime=int(time.time()),
            nbits=NBITS,
            target=(0xFFFF << 208).to_bytes(32, "little"),
        )

    async def submit_solution(self, solution: Solution) -> SubmitResult:  # noqa: ARG002
        """Takes every block; one share in 2^32 is one."""
        return SubmitResult(SubmitStatus.ACCEPTED)

    def solution_socket(self) -> Path | None:
        """Returns nothing: there is no node."""
        return None

    def problems(self) -> list[str]:
        """Returns nothing: there is no node."""
        return []

    async def active_blocks(self, hashes: Sequence[bytes]) -> dict[bytes, int | None]:
        """Knows no block."""
        return dict.fromkeys(hashes)


def tell(line: dict[str, object]) -> None:
    """Writes a line for whoever started this process."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def serve(directory: Path, io_threads: int, *, ecash: bool) -> None:
    """Serves until stdin ends."""
    settings = SETTINGS | {
        "mining.listen": "127.0.0.1:0",
        "limits.io_threads": io_threads,
        "ecash.enabled": ecash,
        "extensions.enabled": ["ecash"] if ecash else [],
    }
    install_msp(directory, settings=settings)
    config = load(MspConfig, directory / CONFIG_NAME)
    configure_logging(config.node.log_level, config.node.log_format)
    keys = load_keys(config.keys)
    config.node.data_dir.mkdir(exist_ok=True)
    ledger = await Ledger.open(
        config.ledger.file, keys.msp, maturity_blocks=config.ledger.maturity_blocks
    )
    clock = PartClock()
    clock.watch()
    source = SyntheticSource()
    minting = await open_minting(config, keys, ledger) if ecash else None
    factories = find_extensions(config.extensions.enabled)
    extensions = ExtensionRegistry(factories, (), () if minting is None else minting.parts)
    pool = Pool(config, keys, ledger, source, extensions)
    stop = trio.Event()
    updates_send, updates = trio.open_memory_channel[TemplateUpdate](UPDATES_PENDING_MAX)
    events_send, events = trio.open_memory_channel[ChainEvent](UPDATES_PENDING_MAX)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.follow_work, updates)
        nursery.start_soon(pool.follow_chain, events)

        async def run_source(*, task_status: trio.TaskStatus[None]) -> None:
            await source.run(updates_send, events_send, task_status=task_status)

        async def run_pool(*, task_status: trio.TaskStatus[None]) -> None:
            await pool.run(stop, task_status=task_status)

        await nursery.start(run_source)
        if minting is not None:
            await nursery.start(_mint, minting, pool, stop)
        async with trio.open_nursery() as serving:
            await serving.start(run_pool)
            tell(
                {
                    "event": "serving",
                    "sv2": str(pool.address),
                    "authority_public_key": config.keys.authority_public_key,
                }
            )
            async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
                async for data in stdin:
                    for word in data.split():
                        if word == b"metrics":
                            used = {f"{part}_ns": ns for part, ns in clock.used_ns.items()}
                            used["file_bytes"] = _file_bytes(ledger)
                            tell({"event": "metrics", **pool.metrics(), **used})
                        else:
                            source.next_tip()
            stop.set()
        nursery.cancel_scope.cancel()
    await ledger.close()


def _file_bytes(ledger: Ledger) -> int:
    with ledger.store.look() as connection:
        [(pages,)] = connection.execute("PRAGMA page_count")
        [(page_bytes,)] = connection.execute("PRAGMA page_size")
    return int(pages) * int(page_bytes)


async def _mint(
    minting: Minting, pool: Pool, stop: trio.Event, *, task_status: trio.TaskStatus[None]
) -> None:
    minting.watch(pool)
    await minting.desk.run(stop, task_status=task_status)


def main() -> None:
    """Reads the command line and serves."""
    parser = argparse.ArgumentParser(prog="benchmarks.pool")
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--io-threads", type=int, default=0)
    parser.add_argument("--ecash", action="store_true")
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    trio.run(partial(serve, arguments.dir, arguments.io_threads, ecash=arguments.ecash))


if __name__ == "__main__":
    main()

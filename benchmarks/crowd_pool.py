"""Runs a pool with a declarator whose verdicts are made up.

Everything that a declaration touches in the pool is what `radpool msp` runs, but the node: it knows
no transaction, so declarers are asked for all of theirs, and it takes every block for valid after
`VERDICT_SECONDS`. Tips have one height, as after reorganisations, so that what is declared stays
due. Started by `benchmarks.crowd`; a line on stdin brings a tip, or with `metrics` the counters.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from benchmarks.lag import Lag
from benchmarks.pool import SETTINGS
from benchmarks.source import UPDATES_PENDING_MAX, SyntheticSource, tell, words
from radpool_sv2.config import MspConfig, load
from radpool_sv2.declaring import open_declaring
from radpool_sv2.installation import CONFIG_NAME, install_msp
from radpool_sv2.keyfile import load_keys
from radpool_sv2.ledger import Ledger
from radpool_sv2.log import configure_logging
from radpool_sv2.pool.registry import ExtensionRegistry
from radpool_sv2.pool.role import Pool
from radpool_sv2.templates.source import BlockVerdict, ChainEvent, Template, TemplateUpdate, Tip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radpool_sv2.supervision import RunRole

HEIGHT: Final = 800_000

VERDICT_SECONDS: Final = 0.05
"""What a bitcoind takes for 4,000 payments whose signatures it has seen."""


class JudgingSource(SyntheticSource):
    """Is a synthetic source that has a node's patience and none of its knowledge."""

    async def known_transactions(self, wtxids: Sequence[bytes]) -> dict[bytes, bytes]:  # noqa: ARG002
        """Knows no transaction."""
        return {}

    async def check_block(self, block: bytes) -> BlockVerdict:
        """Takes every block, written out as a node is sent it."""
        block.hex()
        await trio.sleep(VERDICT_SECONDS)
        return BlockVerdict(True)

    def _template(self) -> Template:
        prefix = b"\x03" + HEIGHT.to_bytes(3, "little")
        return dataclasses.replace(super()._template(), height=HEIGHT, coinbase_prefix=prefix)

    @staticmethod
    def _tip(template: Template) -> Tip:
        found = SyntheticSource._tip(template)  # noqa: SLF001 - its own superclass's
        previous = hashlib.sha256(template.id.to_bytes(8, "little")).digest()
        return dataclasses.replace(found, prev_hash=previous)


async def serve(directory: Path) -> None:
    """Serves until stdin ends."""
    listen = {"mining.listen": "127.0.0.1:0", "declarator.listen": "127.0.0.1:0"}
    settings = {"ecash.enabled": False, "extensions.enabled": [], "declarator.enabled": True}
    install_msp(directory, settings=SETTINGS | listen | settings)
    config = load(MspConfig, directory / CONFIG_NAME)
    configure_logging(config.node.log_level, config.node.log_format)
    keys = load_keys(config.keys)
    config.node.data_dir.mkdir(exist_ok=True)
    ledger = await Ledger.open(
        config.ledger.file, keys.msp, maturity_blocks=config.ledger.maturity_blocks
    )
    source = JudgingSource()
    pool = Pool(config, keys, ledger, source, ExtensionRegistry({}, (), ()))
    declarator = open_declaring(config, keys, source, pool, None)
    stop, lag = trio.Event(), Lag()
    updates_send, updates = trio.open_memory_channel[TemplateUpdate](UPDATES_PENDING_MAX)
    events_send, events = trio.open_memory_channel[ChainEvent](UPDATES_PENDING_MAX)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.follow_work, updates)
        nursery.start_soon(pool.follow_chain, events)
        await nursery.start(source.run, updates_send, events_send)
        async with trio.open_nursery() as serving:
            await serving.start(_run, pool.run, stop)
            await serving.start(_run, declarator.run, stop)
            nursery.start_soon(lag.watch)
            # As `radpool msp` does before it serves.
            gc.collect()
            gc.freeze()
            tell(
                {
                    "event": "serving",
                    "sv2": str(pool.address),
                    "declarator": str(declarator.address),
                    "authority_public_key": config.keys.authority_public_key,
                }
            )
            async for word in words():
                if word == b"metrics":
                    tell({"event": "metrics", **declarator.metrics(), **lag.take()})
                else:
                    source.next_tip()
            stop.set()
        nursery.cancel_scope.cancel()
    await ledger.close()


async def _run(role: RunRole, stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
    await role(stop, task_status=task_status)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    trio.run(serve, Path(sys.argv[1]))

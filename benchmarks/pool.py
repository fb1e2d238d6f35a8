"""Runs the pool under load: the real pool role, engine and ledger, with work that costs nothing.

Only the template source is synthetic (`benchmarks.source`): it tells of a new tip whenever a line
comes on stdin, or with `--tdp` templates come from a template provider, as `templates.source =
"tdp"` has it, or with `--bitcoind` from a node. Everything that a share or a tip touches in the
pool is what `radpool msp` runs, but with `--unstored`: then shares are acknowledged without being
sealed and stored, which no pool for money may do. With `--ecash` the node is a mint too, with
`--declarator` miners may declare templates. Started by `benchmarks.process`; the lines on stdout
are for it.
"""

from __future__ import annotations

import argparse
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from benchmarks.clock import PartClock
from benchmarks.lag import Lag
from benchmarks.source import UPDATES_PENDING_MAX, SyntheticSource, tell, words
from radpool_sv2.config import MspConfig, load
from radpool_sv2.declaring import open_declaring
from radpool_sv2.installation import CONFIG_NAME, install_msp
from radpool_sv2.keyfile import load_keys
from radpool_sv2.ledger import Ledger
from radpool_sv2.ledger.books import Books
from radpool_sv2.log import configure_logging
from radpool_sv2.minting import open_minting
from radpool_sv2.pool.registry import ExtensionRegistry, find_extensions
from radpool_sv2.pool.role import Pool
from radpool_sv2.sources import choose_source
from radpool_sv2.templates.source import ChainEvent, TemplateUpdate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radpool_sv2.ledger.books import Sealable
    from radpool_sv2.store import Enclosure
    from radpool_sv2.supervision import RunRole
    from radpool_sv2.templates.source import TemplateSource

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
    "limits.channels_per_connection_max": EVERYTHING,
    "limits.workers_per_connection_max": EVERYTHING,
    "limits.requests_per_second_max": EVERYTHING,
    "limits.requests_burst_max": EVERYTHING,
    "limits.outbound_bytes_max": 1 << 28,
    "limits.handshake_deadline_ms": 60_000,
    "limits.setup_deadline_ms": 60_000,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Says which pool is run.

    Args:
        directory: Where it is installed.
        io_threads: The engine's threads; 0 for as many as it has processors.
        ecash: Whether it is a mint too.
        declarator: Whether miners may declare templates.
        provider: Address and key of the template provider; None for templates made here.
        node: RPC interface, cookie file and notices of a bitcoind; None for templates made here.
        is_stored: Whether shares are sealed and stored before they are acknowledged.
    """

    directory: Path
    io_threads: int
    ecash: bool
    declarator: bool
    provider: tuple[str, str] | None
    node: tuple[str, str, str] | None
    is_stored: bool

    def settings(self) -> dict[str, object]:
        """Returns what differs from a new installation's configuration."""
        changed = SETTINGS | {
            "mining.listen": "127.0.0.1:0",
            "limits.io_threads": self.io_threads,
            "ecash.enabled": self.ecash,
            "extensions.enabled": ["ecash"] if self.ecash else [],
            "declarator.enabled": self.declarator,
            "declarator.listen": "127.0.0.1:0",
        }
        if self.provider is not None:
            address, key = self.provider
            changed |= {
                "templates.source": "tdp",
                "templates.tdp_address": address,
                "templates.tdp_authority_key": key,
            }
        if self.node is not None:
            url, cookie, zmq = self.node
            changed |= {
                "templates.source": "bitcoind",
                "templates.network": "regtest",
                "templates.rpc_urls": [url],
                "templates.rpc_cookie_files": [cookie],
                "templates.zmq_urls": [zmq],
            }
        return changed


async def serve(options: Options) -> None:
    """Serves until stdin ends."""
    directory = options.directory
    install_msp(directory, settings=options.settings())
    config = load(MspConfig, directory / CONFIG_NAME)
    configure_logging(config.node.log_level, config.node.log_format)
    keys = load_keys(config.keys)
    config.node.data_dir.mkdir(exist_ok=True)
    if not options.is_stored:
        setattr(Books, "commit", _acknowledge)  # noqa: B010 - replaced, not defined, here
    ledger = await Ledger.open(
        config.ledger.file, keys.msp, maturity_blocks=config.ledger.maturity_blocks
    )
    clock = PartClock()
    clock.watch()
    source: TemplateSource = SyntheticSource()
    if options.provider is not None or options.node is not None:
        source = choose_source(config.templates, config.node.data_dir / "templates")
    minting = await open_minting(config, keys, ledger) if options.ecash else None
    factories = find_extensions(config.extensions.enabled)
    extensions = ExtensionRegistry(factories, (), () if minting is None else minting.parts)
    pool = Pool(config, keys, ledger, source, extensions)
    stop, lag = trio.Event(), Lag()
    async with trio.open_nursery() as nursery:
        await nursery.start(_follow, source, pool)
        if minting is not None:
            minting.watch(pool)
            await nursery.start(_run, minting.desk.run, stop)
        async with trio.open_nursery() as serving:
            await serving.start(_run, pool.run, stop)
            key = config.keys.authority_public_key
            serves = {"sv2": str(pool.address), "authority_public_key": key}
            if options.declarator:
                mint = None if minting is None else minting.mint
                declarator = open_declaring(config, keys, source, pool, mint)
                await serving.start(_run, declarator.run, stop)
                serves["declarator"] = str(declarator.address)
                nursery.start_soon(lag.watch)
            tell({"event": "serving", **serves})
            async for word in words():
                if word == b"metrics":
                    used = {f"{part}_ns": ns for part, ns in clock.used_ns.items()}
                    used["file_bytes"] = _file_bytes(ledger)
                    tell({"event": "metrics", **pool.metrics(), **used, **lag.take()})
                elif isinstance(source, SyntheticSource):
                    source.next_tip()
            stop.set()
        nursery.cancel_scope.cancel()
    await ledger.close()


def _acknowledge(
    _books: Books, _batch: Sealable, _enclosures: Sequence[Enclosure] = ()
) -> list[tuple[int, str]]:
    """Stands in for `Books.commit`: all shares count, none is kept."""
    return []


async def _follow(
    source: TemplateSource, pool: Pool, *, task_status: trio.TaskStatus[None]
) -> None:
    updates_send, updates = trio.open_memory_channel[TemplateUpdate](UPDATES_PENDING_MAX)
    events_send, events = trio.open_memory_channel[ChainEvent](UPDATES_PENDING_MAX)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.follow_work, updates)
        nursery.start_soon(pool.follow_chain, events)
        await source.run(updates_send, events_send, task_status=task_status)


def _file_bytes(ledger: Ledger) -> int:
    with ledger.store.look() as connection:
        [(pages,)] = connection.execute("PRAGMA page_count")
        [(page_bytes,)] = connection.execute("PRAGMA page_size")
    return int(pages) * int(page_bytes)


async def _run(role: RunRole, stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
    await role(stop, task_status=task_status)


def main() -> None:
    """Reads the command line and serves."""
    parser = argparse.ArgumentParser(prog="benchmarks.pool")
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--io-threads", type=int, default=0)
    parser.add_argument("--ecash", action="store_true")
    parser.add_argument("--declarator", action="store_true")
    parser.add_argument("--tdp", nargs=2, metavar=("HOST:PORT", "KEY"))
    parser.add_argument("--bitcoind", nargs=3, metavar=("URL", "COOKIE", "ZMQ"))
    parser.add_argument("--unstored", action="store_true")
    given = parser.parse_args()
    options = Options(
        directory=given.dir,
        io_threads=given.io_threads,
        ecash=given.ecash,
        declarator=given.declarator,
        provider=None if given.tdp is None else tuple(given.tdp),
        node=None if given.bitcoind is None else tuple(given.bitcoind),
        is_stored=not given.unstored,
    )
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    trio.run(serve, options)


if __name__ == "__main__":
    main()

"""A getblocktemplate source that runs, and a miner who solves its templates by hand."""

import hashlib
import struct
from contextlib import asynccontextmanager

import trio

from radpool_sv2.network import REGTEST
from radpool_sv2.node.rpc import NodeSettings
from radpool_sv2.templates.getblocktemplate import GetblocktemplateSource
from radpool_sv2.templates.source import Solution

from .bitcoind import PURSE_SCRIPT, compact

DEADLINE_S = 60


def settings_of(node, *, deadline_s=60.0, zmq=True):
    """How a node of the rig is reached."""
    return NodeSettings(
        url=node.url,
        deadline_s=deadline_s,
        cookie_file=node.cookie_file,
        zmq_url=node.zmq_url if zmq and node.has_zmq else "",
    )


class Followed:
    """What a source has told, and what it is asked."""

    def __init__(self, source, updates, events):
        self.source = source
        self.updates = updates
        self.events = events
        self.seen = []
        self.changes = []

    async def until(self, condition):
        """Takes updates until one meets a condition; returns it."""
        with trio.fail_after(DEADLINE_S):
            while True:
                update = await self.updates.receive()
                self.seen.append(update)
                if condition(update):
                    return update

    async def on(self, shown):
        """Takes updates until one builds on a block."""
        return await self.until(lambda update: update.tip.prev_hash[::-1].hex() == shown)

    async def change_to(self, shown):
        """Takes changes of the chain until one leads to a block; returns it."""
        with trio.fail_after(DEADLINE_S):
            while True:
                event = await self.events.receive()
                self.changes.append(event)
                if event.hash[::-1].hex() == shown:
                    return event


@asynccontextmanager
async def following(nodes, *, directory=None, network=REGTEST, interval_s=0.2, **settings):
    """Runs a source on nodes of the rig, or on settings."""
    reached = [each if isinstance(each, NodeSettings) else settings_of(each) for each in nodes]
    source = GetblocktemplateSource(
        reached, network, directory=directory, interval_s=interval_s, **settings
    )
    updates_send, updates = trio.open_memory_channel(1_000)
    events_send, events = trio.open_memory_channel(1_000)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(DEADLINE_S):

            async def run(*, task_status):
                await source.run(updates_send, events_send, task_status=task_status)

            await nursery.start(run)
        yield Followed(source, updates, events)
        nursery.cancel_scope.cancel()


def double_hash(data):
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def coinbase_of(template, sats=None, extranonce=b"\x04test"):
    """Returns the coinbase with and without its witness."""
    script = template.coinbase_prefix + extranonce
    sats = template.value_sats if sats is None else sats
    head = struct.pack("<I", template.coinbase_tx_version)
    body = b"\x01" + bytes(32) + b"\xff" * 4 + compact(len(script)) + script
    body += struct.pack("<I", template.coinbase_sequence)
    body += bytes([1 + template.template_output_count])
    body += struct.pack("<q", sats) + compact(len(PURSE_SCRIPT)) + PURSE_SCRIPT
    body += template.template_outputs
    tail = struct.pack("<I", template.coinbase_locktime)
    return head + b"\x00\x01" + body + b"\x01\x20" + bytes(32) + tail, head + body + tail


def solve(update, *, sats=None, extranonce=b"\x04test", ntime=None, is_solved=True):
    """Finds a nonce for a template; returns the solution, or one that is no solution."""
    template, tip = update.template, update.tip
    whole, bare = coinbase_of(template, sats, extranonce)
    root = double_hash(bare)
    for sibling in template.merkle_path:
        root = double_hash(root + sibling)
    ntime = tip.min_ntime if ntime is None else ntime
    start = struct.pack("<I", template.version) + tip.prev_hash + root
    start += struct.pack("<II", ntime, tip.nbits)
    target = int.from_bytes(tip.target, "little")
    for nonce in range(1 << 32):
        block_hash = double_hash(start + struct.pack("<I", nonce))
        if (int.from_bytes(block_hash, "little") <= target) == is_solved:
            break
    return Solution(
        template_id=template.id,
        version=template.version,
        ntime=ntime,
        nonce=nonce,
        coinbase_tx=whole,
        hash=block_hash,
    )


async def block_of(source, update, **how):
    """Returns the whole block of a template, solved or not."""
    solution = solve(update, **how)
    template, tip = update.template, update.tip
    bare = coinbase_of(template, how.get("sats"), how.get("extranonce", b"\x04test"))[1]
    root = double_hash(bare)
    for sibling in template.merkle_path:
        root = double_hash(root + sibling)
    header = struct.pack("<I", solution.version) + tip.prev_hash + root
    header += struct.pack("<III", solution.ntime, tip.nbits, solution.nonce)
    raws = (await source.transactions(template.id)).raw
    return header + compact(1 + len(raws)) + solution.coinbase_tx + b"".join(raws)

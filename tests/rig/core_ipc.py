"""A Bitcoin Core with its socket open, and a source in front of it."""

import os
from contextlib import asynccontextmanager

import trio

from radpool_sv2.network import REGTEST
from radpool_sv2.templates.core_ipc import CoreIpcSource

from .bitcoind import CORE_DIRECTORY
from .getblocktemplate import DEADLINE_S, Followed

PROGRAM = CORE_DIRECTORY / "bin" / "bitcoin-node"


def core_settings(socket, **more):
    """What a node of the rig is started with, so that it listens on a socket."""
    # Verdicts on one's own blocks are to come from all checks, none left out for their age.
    arguments = [f"-ipcbind=unix:{socket}", "-checkblockindex=0", *more.pop("arguments", ())]
    return {"program": PROGRAM, "zmq": False, "arguments": arguments, **more}


@asynccontextmanager
async def following_core(
    socket, *, directory=None, network=REGTEST, interval_s=0.2, uids=None, starts=True, **settings
):
    """Runs a source on a socket; `starts` tells whether a template is awaited."""
    source = CoreIpcSource(
        socket,
        network,
        trusted_uids=[os.getuid()] if uids is None else uids,
        directory=directory,
        interval_s=interval_s,
        **settings,
    )
    updates_send, updates = trio.open_memory_channel(1_000)
    events_send, events = trio.open_memory_channel(1_000)
    async with trio.open_nursery() as nursery:

        async def run(*, task_status=trio.TASK_STATUS_IGNORED):
            await source.run(updates_send, events_send, task_status=task_status)

        if starts:
            with trio.fail_after(DEADLINE_S):
                await nursery.start(run)
        else:
            nursery.start_soon(run)
        yield Followed(source, updates, events)
        nursery.cancel_scope.cancel()

"""Restarts: fresh extranonce prefixes, and shares of before the restart that earn nothing again."""

import contextlib
import signal
import sqlite3

import pytest
from peer.client import Client
from peer.key import public_key_from_text
from peer.message import Message
from peer.session import Session
from rig.book import Book
from rig.node import EASY_SHARES, NO_BLOCKS, UNLIMITED, Node
from rig.wait import until

pytestmark = pytest.mark.slow

# Work begins at the time of the start. A share's may be that of a start an hour from now.
SETTINGS = UNLIMITED | EASY_SHARES | NO_BLOCKS | {"mining.ntime_slack_s": 7_200}
NTIME_AHEAD_S = 3_600
SHARES = 5


@contextlib.asynccontextmanager
async def mining(running, kind="extended"):
    host, port = running.sv2.rsplit(":", 1)
    key = public_key_from_text(running.authority_key)
    client = await Client.connect((host, int(port)), key)
    try:
        await client.set_up()
        session = Session(client)
        yield session, await session.open(kind, user="alice")
    finally:
        await client.aclose()


def leave(running, number):
    """Ends the node by a signal; its chain lets go of the directory only when it has ended, too."""
    running.leave(number, 60)
    until(running.is_gone, lambda: f"the end of all of it; {running.process.tail()}")


def forget_prefixes(node):
    """Makes the books forget which prefixes were given out, as no crash can."""
    with contextlib.closing(sqlite3.connect(node.database)) as database, database:
        changed = database.execute("UPDATE meta SET value = 0 WHERE key = 'prefix'")
        assert changed.rowcount == 1


def again(channel, share):
    """The same header once more, as a share of the channel's present job."""
    job = channel.job
    fields = {
        name: getattr(share.message, name) for name in ("nonce", "ntime", "version", "extranonce")
    }
    channel.sequence += 1
    message = Message(
        "SubmitSharesExtended",
        channel_id=channel.id,
        sequence_number=channel.sequence,
        job_id=job.id,
        **fields,
    )
    return type(share)(message, job, share.hash, share.header)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
async def test_prefixes_are_never_given_out_twice(tmp_path, number):
    node = Node(tmp_path / "msp", SETTINGS)
    given = []
    for _ in range(3):
        with node.running() as running:
            for kind in ("extended", "standard"):
                async with mining(running, kind) as (_, channel):
                    given.append(channel.prefix[:4])
            leave(running, number)
    assert len(set(given)) == len(given) == 6


@pytest.mark.timeout(300)
@pytest.mark.parametrize("remembered", ["by the engine", "by the ledger alone"])
async def test_share_accepted_before_a_restart_is_a_duplicate_after_it(tmp_path, remembered):
    """The prefixes are reset by force, so that the very same headers are possible again."""
    node = Node(tmp_path / "msp", SETTINGS)
    with node.running() as running:
        async with mining(running) as (session, channel):
            prefix = channel.prefix
            # A time that the job after the restart allows as well, whenever that is.
            ntime = channel.job.min_ntime + NTIME_AHEAD_S
            shares = [session.mine(channel, ntime=ntime) for _ in range(SHARES)]
            for share in shares:
                await session.accepted(share)
                assert await session.refused(again(channel, share)) == "duplicate-share"
        leave(running, signal.SIGKILL)

    forget_prefixes(node)
    if remembered == "by the ledger alone":
        node.change({"ledger.replay_shares": 0})
    with node.running() as running:
        async with mining(running) as (session, channel):
            assert channel.prefix == prefix
            for share in shares:
                rolled = share.message.extranonce
                replayed = session.mine(channel, ntime=share.message.ntime, rolled=rolled)
                assert replayed.header[:76] == share.header[:76], (
                    "not the same work: proves nothing"
                )
                assert await session.refused(again(channel, share)) == "duplicate-share"
            # Who has refused them is what this is about.
            refused = running.metric("radpool_engine_shares_rejected_duplicate_share_total")
            assert refused == (SHARES if remembered == "by the engine" else 0)
            # New work on the same channel is as good as any.
            await session.accepted(session.mine(channel))
        assert running.leave(signal.SIGTERM, 60) == 0
    assert Book(node.database).check() == SHARES + 1

"""A miner with templates of its own, beside a node: the independent peer, and its own view of the
embedded chain."""

import contextlib

import trio
from peer.client import Client
from peer.declarer import Declarer
from peer.key import public_key_from_text
from peer.session import Session
from peer.template import OwnTemplate

from radpool_sv2.chain.attached import AttachedChain
from radpool_sv2.templates.embedded import EmbeddedSource

REQUIRES_WORK_SELECTION = 0b10


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


class ChainView:
    """Is what a miner's own node tells it."""

    def __init__(self, directory):
        self.source = EmbeddedSource(AttachedChain(directory))
        self.update = None
        self._changed = trio.Event()

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
        updates_send, updates = trio.open_memory_channel(16)
        events_send, events = trio.open_memory_channel(16)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._drain, events)
            nursery.start_soon(self.source.run, updates_send, events_send)
            async for update in updates:
                first, self.update = self.update is None, update
                self._changed.set()
                self._changed = trio.Event()
                if first:
                    task_status.started()

    async def until(self, fits):
        """Waits for a template."""
        with trio.fail_after(60):
            while not fits(self.update):
                await self._changed.wait()
        return self.update

    @staticmethod
    async def _drain(events):
        async for _ in events:
            pass


class DeclaringMiner:
    """Is a miner with a declaring connection and a mining one."""

    def __init__(self, view, declarer, session, user):
        self.view, self.declarer, self.session, self.user = view, declarer, session, user
        self.channel = None

    @classmethod
    @contextlib.asynccontextmanager
    async def at(cls, running, user="alice", *, whole=True, mining_user=None):
        """Connects to a running node."""
        told = running.told
        authority = public_key_from_text(told["authority_public_key"])
        async with trio.open_nursery() as nursery:
            view = ChainView(running.node.data / "chain")
            await nursery.start(view.run)
            declarer = await Declarer.connect(address(told["declarator"]), authority, whole=whole)
            client = await Client.connect(address(told["sv2"]), authority)
            assert (await client.set_up(REQUIRES_WORK_SELECTION)).name == "SetupConnectionSuccess"
            miner = cls(view, declarer, Session(client, selects=True), user)
            miner.channel = await miner.session.open(user=mining_user or user)
            try:
                yield miner
            finally:
                with trio.CancelScope(shield=True):
                    await declarer.client.aclose()
                    await client.aclose()
                nursery.cancel_scope.cancel()

    async def template(self, outputs, *, drop=0, **changes):
        """Makes a template of the miner's own: what its node offers, but for the last some."""
        for _ in range(20):
            update = self.view.update
            known = await self.view.source.transactions(update.template.id)
            if self.view.update is update:
                break
        kept = len(known.raw) - min(drop, len(known.raw))
        fees = sum(known.fees_sats[:kept])
        fields = {
            "height": update.template.height,
            "prev_hash": update.tip.prev_hash,
            "nbits": update.tip.nbits,
            "min_ntime": update.tip.min_ntime,
            "value": update.template.value_sats - update.template.fees_sats + fees,
            "token_outputs": outputs,
            "extranonce_len": self.channel.extranonce_len,
            "transactions": list(known.raw[:kept]),
            "version": update.template.version,
        }
        return OwnTemplate(**{**fields, **changes})

    async def set_job(self, template, token):
        """Offers a template as the channel's job; returns the error code of a refusal."""
        self.declarer.requests += 1
        await self.session.offer(template.job(self.channel.id, token, self.declarer.requests))
        while True:
            answer = await self.session.receive()
            if answer.name == "SetCustomMiningJobSuccess":
                return ""
            if answer.name == "SetCustomMiningJobError":
                return answer.error_code

    async def declare_and_set(self, **changes):
        """Declares a template on the tip and has it set; starts again when the tip moves."""
        while True:
            token, outputs = await self.declarer.token(self.user)
            template = await self.template(outputs, **changes)
            new, code, detail = await self.declarer.declare(template, token)
            if code == "stale-chain-tip":
                await trio.sleep(0.1)
                continue
            assert new, (code, detail)
            code = await self.set_job(template, new)
            if code != "stale-chain-tip":
                assert code == "", code
                return template

    def share(self):
        """Mines a share that is no block."""
        return self.session.mine(self.channel, above=self.block_limit())

    def block_limit(self):
        """Returns what a block's hash must not exceed."""
        return int.from_bytes(self.view.update.tip.target, "little")

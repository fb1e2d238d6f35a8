"""A pool on loopback that deals with one ecash miner as its script says."""

import random

import trio
from peer import work
from peer.client import ConnectionClosed
from peer.message import Message, frame
from peer.server import Identity, accept
from radpool_sv2_extensions.ecash import message as wire

from miner_rig.mint import Z0, ScriptedMint, answer, receipt

Z = Z0 + 4
CHANNEL, GROUP = 5, 9
CORE_SHARE = 0x1B


class Pool:
    """Opens the channel, keeps the shares, and leaves what to answer to `script`.

    Args:
        listener: Where it listens.
        script: Called with the pool and each share.
    """

    def __init__(self, listener, script=None, *, mint=None, announced=None):
        self.listener = listener
        self.address = listener.socket.getsockname()
        self.random = random.Random(1)
        self.identity = Identity.generate(self.random)
        self.mint = mint or ScriptedMint()
        self.keyset = self.mint.open()
        self.announced = announced or self.keyset
        self.script = script or sign
        self.shares = []
        self.fetches = []
        self.requests = []
        self.sessions = 0
        self.speaks = True
        self.link = None

    async def serve(self):
        """Serves one connection after the other."""
        while True:
            stream = await self.listener.accept()
            self.sessions += 1
            try:
                self.link = await accept(stream, self.identity, self.random)
                await self._converse()
            except ConnectionClosed:
                pass
            finally:
                # Also when the test ends it: the miner's end may not have been heard of yet.
                await trio.aclose_forcefully(stream)

    async def send(self, *messages):
        frames = [
            frame(wire.EXTENSION_TYPE, item.msg_type, item.encode(), channel=item.channel_msg)
            for item in messages
        ]
        try:
            await self.link.send_frames(*frames)
        except trio.BrokenResourceError as error:
            raise ConnectionClosed from error

    async def _converse(self):
        link = self.link
        await link.expect("SetupConnection")
        await link.send(Message("SetupConnectionSuccess", used_version=2, flags=0))
        request = await link.expect("RequestExtensions")
        assert request.requested_extensions == [wire.EXTENSION_TYPE]
        spoken = request.requested_extensions if self.speaks else []
        await link.send(
            Message(
                "RequestExtensionsSuccess",
                request_id=request.request_id,
                supported_extensions=spoken,
            )
        )
        while True:
            extension, channel_msg, number, payload = await link.receive_frame()
            if extension == wire.EXTENSION_TYPE:
                await self._hear(wire.decode(number, payload, channel_msg=channel_msg))

    async def _hear(self, message):
        match message:
            case wire.OpenExtendedEcashMiningChannel():
                await self._open(message)
            case wire.SubmitSharesEcashExtended():
                self.shares.append(message)
                await self.script(self, message)
            case wire.RedeemSharesEcash():
                self.fetches.append(message)
                await self.fetch(message)
            case _:
                self.requests.append(message)

    async def fetch(self, request):
        """Knows nothing, as a mint does that never got the shares."""
        await self.send(
            wire.RedeemSharesEcashSuccess(
                request.request_id, 0, (), (), tuple(range(len(request.claims))), 0, 0
            )
        )

    async def _open(self, request):
        opened = wire.OpenExtendedEcashMiningChannelSuccess(
            request_id=request.request_id,
            channel_id=CHANNEL,
            target=work.ladder_target(Z),
            extranonce_size=6,
            extranonce_prefix=b"\xaa\xbb\xcc\xdd",
            group_channel_id=GROUP,
            terms=self.mint.terms(self.announced),
        )
        await self.send(self.announced.announcement, opened)
        await self.link.send(
            Message(
                "NewExtendedMiningJob",
                channel_id=GROUP,
                job_id=1,
                min_ntime=None,
                version=0x20000000,
                version_rolling_allowed=True,
                merkle_path=[],
                coinbase_tx_prefix=b"\1" * 60,
                coinbase_tx_suffix=b"\2" * 60,
            ),
            Message(
                "SetNewPrevHash",
                channel_id=GROUP,
                job_id=1,
                prev_hash=b"\xab" * 32,
                min_ntime=1_000_000,
                nbits=0x1D00FFFF,
            ),
        )

    async def refuse(self, share, code):
        await self.send(wire.SubmitSharesEcashExtendedError(CHANNEL, share.sequence_number, code))


async def sign(pool, share, *, keyset=None, count=1):
    """Signs as an honest mint does."""
    keyset = keyset or pool.keyset
    signed = receipt(keyset, share.sequence_number, share.claim.blinded, Z)
    await pool.send(answer([signed], count=count, z=Z))

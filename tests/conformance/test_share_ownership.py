"""The ownership extension from a miner's side: registration, receipts, refusals, restarts.

The client is the independent peer. What it sends and reads of the extension is cut out of the bytes
as `spec/11-owner-registration.md` has them.
"""

import hashlib
import struct

import pytest
import trio
from ecash_pool import ecash_pool
from peer.message import Message, RawFrame, frame
from peer.session import MAX_TARGET, Session
from radpool_sv2_extensions.share_ownership.client import OwnerSide
from radpool_sv2_extensions.share_ownership.owner import Owner

from radpool_sv2._native.engine import run_receipts as native_run_receipts
from radpool_sv2._native.keys import AuthorityPublicKey
from radpool_sv2._native.ledger import MspKey
from radpool_sv2._native.miner import Miner
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.verify.bip340 import is_signed_by
from radpool_sv2.verify.coinbase import owner_script
from radpool_sv2.verify.receipt import read_receipts

EXTENSION = 0x4E46


def tagged(tag, *parts):
    prefix = hashlib.sha256(tag.encode()).digest()
    return hashlib.sha256(prefix + prefix + b"".join(parts)).digest()


class OwnerSession(Session):
    """Is a miner with a key."""

    def __init__(self, client, msp_key, key):
        super().__init__(client)
        self.msp_key = msp_key
        self.key = key
        self.granted = {}
        self.signatures = {}
        self.roots = {}
        self.sent = {}
        self.refused = []

    async def receive(self):
        received = await super().receive()
        if isinstance(received, RawFrame) and received.extension == EXTENSION:
            payload = received.payload_bytes
            if received.number == 0x01:
                self.on_opened(payload)
            elif received.number == 0x04:
                self.on_receipt(payload)
            elif received.number in {0x02, 0x05}:
                self.on_refusal(received.number, payload)
        return received

    async def number(self, *numbers):
        while True:
            received = await self.receive()
            if isinstance(received, RawFrame) and received.number in numbers:
                return received

    async def open(self, key=None, tail=None):
        tail = (self.key.public if key is None else key) if tail is None else tail
        request = self.random.getrandbits(32)
        self.requests[request] = "extended"
        fields = struct.pack("<IBf", request, 0, 0.0) + MAX_TARGET + struct.pack("<H", 4)
        await self.send(0x00, fields + tail, channel=False)
        answer = await self.number(0x01, 0x02)
        if answer.number == 0x02:
            return None
        channel = self.channels[int.from_bytes(answer.payload_bytes[4:8], "little")]
        while channel.active is None:
            await self.receive()
        return channel

    def on_opened(self, payload):
        request, channel = struct.unpack_from("<II", payload)
        target, size = payload[8:40], int.from_bytes(payload[40:42], "little")
        end = 43 + payload[42]
        group = int.from_bytes(payload[end : end + 4], "little")
        tail = payload[end + 4 :]
        success = Message(
            "OpenExtendedMiningChannelSuccess",
            request_id=request,
            channel_id=channel,
            target=target,
            extranonce_size=size,
            extranonce_prefix=payload[43:end],
            group_channel_id=group,
        )
        self._opened(success, "extended", size)
        msp_key, salt, rest = tail[:32], tail[33:49], tail[49:]
        assert (msp_key, tail[32], len(rest)) == (self.msp_key, 16, 76)
        commitment = tagged("radpool/account", self.key.public.hex().encode(), salt)
        # Rail 0, epoch, number.
        signed = tagged(
            "radpool/owner-registration",
            msp_key,
            self.key.public,
            commitment,
            b"\x00" + rest[:12],
        )
        assert is_signed_by(msp_key, signed, rest[12:])
        epoch, number = struct.unpack("<IQ", rest[:12])
        self.granted[channel] = (epoch, number, commitment)
        self.signatures[channel] = self.key.sign(signed)
        self.roots[channel] = (0, 0, bytes(32))

    def on_receipt(self, payload):
        channel, last, new, total = struct.unpack_from("<IIIQ", payload)
        count, work = (int.from_bytes(part, "little") for part in (payload[20:28], payload[28:44]))
        root, signature = payload[44:76], payload[76:]
        before = self.roots[channel]
        shares = [self.sent[channel].pop(0) for _ in range(count - before[0])]
        state = before
        for _sequence, share_hash, z in shares:
            root_now = tagged("radpool/owner-share", state[2], share_hash, bytes([z]))
            state = (state[0] + 1, state[1] + (1 << z), root_now)
        assert state == (count, work, root)
        assert shares[-1][0] == last
        assert (new, total) in {(len(shares), work - before[1]), (0, 0)}
        signed = tagged(
            "radpool/owner-receipt",
            self.granted[channel][1].to_bytes(8, "little"),
            payload[20:44],
            root,
        )
        assert is_signed_by(self.msp_key, signed, signature)
        self.roots[channel] = state

    def on_refusal(self, number, payload):
        at = 8 if number == 0x05 else 4
        code = payload[at + 1 :].decode()
        assert len(code) == payload[at]
        if number == 0x05:
            channel, sequence = struct.unpack_from("<II", payload)
            self.sent[channel] = [each for each in self.sent[channel] if each[0] != sequence]
        self.refused.append(code)

    async def send(self, number, payload, *, channel):
        await self.client.send_frames(frame(EXTENSION, number, payload, channel=channel))

    async def submit_owned(self, share, tail=None):
        number, sequence = share.message.channel_id, share.message.sequence_number
        self.sent.setdefault(number, []).append((sequence, share.hash, share.job.z))
        tail = self.signatures[number] if tail is None else tail
        await self.send(0x03, share.message.payload() + tail, channel=True)


async def connected(pool, key=None):
    client = await pool.connect()
    assert (await client.set_up()).name == "SetupConnectionSuccess"
    await client.send(Message("RequestExtensions", request_id=1, requested_extensions=[EXTENSION]))
    await client.expect("RequestExtensionsSuccess")
    session = OwnerSession(client, pool.msp_key, key or MspKey.generate())
    pool.sessions.append(session)
    return session


async def receipted(session, channel, count):
    with trio.fail_after(60):
        while session.roots[channel.id][0] < count:
            await session.receive()


async def sums(pool):
    rows = await pool.ledger.sums(list(range(1, pool.ledger.current_epoch + 1)))
    return {row.account: (row.count, row.work) for row in rows}


async def test_shares_belong_to_the_key_and_have_receipts(tmp_path):
    """spec: OR-1, OR-3, OR-6, OR-8, OR-9, OR-10"""
    async with ecash_pool(tmp_path / "pool") as pool:
        session = await connected(pool)
        channel = await session.open()
        epoch, number, commitment = session.granted[channel.id]
        assert (epoch, number) == (pool.ledger.current_epoch, 1)
        script = owner_script(pool.msp_key, commitment, epoch, 0, channel.z)
        assert script in channel.job.message.coinbase_tx_suffix
        for _ in range(5):
            await session.submit_owned(session.mine(channel))
        await receipted(session, channel, 5)
        [(count, work)] = (await sums(pool)).values()
        assert (count, work) == session.roots[channel.id][:2]
        total, [row] = await pool.register.page(0, 10)
        assert (total, row.miner_key, row.number) == (1, session.key.public, 1)
        assert row.miner_signature == session.signatures[channel.id]


async def test_a_key_keeps_its_registration(tmp_path):
    """spec: OR-4"""
    key = MspKey.generate()
    granted = set()
    for _ in range(2):
        async with ecash_pool(tmp_path / "pool") as pool:
            session = await connected(pool, key)
            first, second = await session.open(), await session.open()
            granted |= {session.granted[first.id], session.granted[second.id]}
            other = await connected(pool)
            channel = await other.open()
            assert other.granted[channel.id][1] > 1
            assert not granted & {other.granted[channel.id]}
    assert len(granted) == 1


async def test_each_channel_has_a_receipt_of_its_own(tmp_path):
    """spec: OR-8, OR-10"""
    async with ecash_pool(tmp_path / "pool") as pool:
        session = await connected(pool)
        first, second = await session.open(), await session.open()
        for channel, count in ((first, 3), (second, 2), (first, 1)):
            for _ in range(count):
                await session.submit_owned(session.mine(channel))
        await receipted(session, first, 4)
        await receipted(session, second, 2)


@pytest.mark.parametrize("fault", ["none", "zeros", "short", "other-key", "long"])
async def test_a_share_without_consent_is_counted_and_may_come_again(tmp_path, fault):
    """spec: OR-2, OR-7"""
    async with ecash_pool(tmp_path / "pool") as pool:
        session = await connected(pool)
        channel = await session.open()
        right = session.signatures[channel.id]
        wrong = {
            "none": b"",
            "zeros": bytes(64),
            "short": right[:63],
            "other-key": MspKey.generate().sign(bytes(32)),
            "long": right + b"\x00",
        }[fault]
        share = session.mine(channel)
        await session.submit_owned(share, wrong)
        while not session.refused:
            await session.receive()
        assert session.refused == ["invalid-registration-signature"]
        assert [each[0] for each in (await sums(pool)).values()] == [1]
        assert (await pool.register.page(0, 1))[1][0].miner_signature == b""
        await session.submit_owned(share, wrong)
        while len(session.refused) < 2:
            await session.receive()
        await session.submit_owned(share)
        await receipted(session, channel, 1)
        assert (await pool.register.page(0, 1))[1][0].miner_signature == right
        # Its receipt is given once, and it is counted once.
        await session.submit_owned(share)
        while len(session.refused) < 3:
            await session.receive()
        assert session.refused[2] == "duplicate-share"
        assert [each[0] for each in (await sums(pool)).values()] == [1]
        await session.submit_owned(session.mine(channel))
        await receipted(session, channel, 2)


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        (b"\xff" * 32, "invalid-miner-key"),
        (bytes(31), "invalid-miner-key"),
        (bytes(33), "invalid-miner-key"),
    ],
)
async def test_what_is_no_key_gets_no_channel(tmp_path, tail, code):
    """spec: OR-2"""
    async with ecash_pool(tmp_path / "pool") as pool:
        session = await connected(pool)
        assert await session.open(tail=tail) is None
        assert session.refused == ["invalid-miner-key"]
        assert (await pool.register.page(0, 1))[0] == 0
        assert await session.open() is not None


async def test_new_keys_are_bounded(tmp_path):
    async with ecash_pool(tmp_path / "pool", ledger__new_accounts_per_minute_max=3) as pool:
        # A slow disk must not be another minute.
        now_s = pool.register._now_s()
        pool.register._now_s = lambda: now_s
        session = await connected(pool)
        keys = [MspKey.generate() for _ in range(6)]
        for key in keys:
            session.key = key
            await session.open()
        assert session.refused == ["unknown-user"] * 3
        session.key = keys[0]
        assert await session.open() is not None


class Mining:
    """Is our own miner under an owner's key."""

    def __init__(self, pool, directory):
        directory.mkdir(exist_ok=True)
        self.owner = Owner.open(directory)
        self.side = OwnerSide(self.owner)
        self.machine = Miner(
            host=pool.pool.address.host,
            port=pool.pool.address.port,
            authority=AuthorityPublicKey.from_text(pool.config.keys.authority_public_key),
            user="dora",
            kind="extended",
            threads=1,
            hash_rate_limit=20_000,
            carrier=self.side.carrier,
        )

    async def until(self, enough):
        self.machine.start()
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.side.run, self.machine)
                while not enough(self.side.figures()):
                    await trio.sleep(0.01)
                    assert self.machine.stats().state != "stopped", self.machine.events()
                self.machine.leave()
                while self.machine.stats().state != "stopped":
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
        await trio.to_thread.run_sync(self.machine.stop)
        await self.side.finish(self.machine)
        return self.side.figures()


async def test_our_miner_keeps_receipts_that_anyone_can_check(tmp_path):
    """spec: OR-6, OR-11"""
    async with ecash_pool(tmp_path / "pool") as pool:
        mining = Mining(pool, tmp_path / "owner")
        figures = await mining.until(lambda figures: figures["receipts"] >= 30)
        [(count, work)] = (await sums(pool)).values()
        sent = mining.machine.stats().submitted
        # A miner that leaves waits a second for its last receipts; the pool's disk may take longer.
        assert figures["receipts"] <= count <= sent
        if figures["receipts"] == sent:
            assert figures["work"] == work
        msp_key, miner_key, shares = read_receipts(tmp_path / "owner" / "receipts.jsonl")
        assert (msp_key, miner_key) == (pool.msp_key, mining.owner.public)
        proven = (len(shares), sum(share.work for share in shares))
        assert proven == (figures["receipts"], figures["work"])
        # The key is there already: it is the same owner the next time.
        again = Mining(pool, tmp_path / "owner")
        await again.until(lambda figures: figures["receipts"] >= 5)
        assert (await pool.register.page(0, 1))[0] == 1


@pytest.mark.parametrize("lie", ["root", "signature", "registration"])
async def test_our_miner_leaves_a_pool_that_lies(tmp_path, monkeypatch, lie):
    """spec: OR-6, OR-11"""
    monkeypatch.setattr("radpool_sv2_extensions.share_ownership.client.PATIENCE_S", 0.5)
    async with ecash_pool(tmp_path / "pool") as pool:
        sign = pool.register.sign_receipt
        if lie == "root":
            # Each share that the server adds is another one than was sent.
            monkeypatch.setattr(
                "radpool_sv2_extensions.share_ownership.server.run_receipts",
                lambda *arguments: [
                    (*row[:-1], bytes(32)) for row in native_run_receipts(*arguments)
                ],
            )
        elif lie == "signature":
            pool.register.sign_receipt = lambda signed: sign(signed[::-1])
        else:
            register = pool.register.register

            async def another(miner_key):
                found = await register(miner_key)
                object.__setattr__(found, "msp_signature", bytes(64))
                return found

            pool.register.register = another
        mining = Mining(pool, tmp_path / "owner")
        with pytest.RaisesGroup(RemoteProtocolError, flatten_subgroups=True):
            await mining.until(lambda figures: figures["receipts"] >= 5)
        await trio.to_thread.run_sync(mining.machine.stop)

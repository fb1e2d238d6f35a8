"""Our own client, the CPU miner, with the peer as its server: whom it trusts, what it submits."""

import random
import struct
import time

import pytest
import trio
from peer import curve, work
from peer.client import ConnectionClosed
from peer.message import Message
from peer.noise import ACT_1_LEN, respond
from peer.server import Identity, accept

from radpool_sv2._native.keys import AuthorityPublicKey
from radpool_sv2._native.miner import Miner

Z = 8
PREFIX, ROLLABLE = b"\xaa\xbb\xcc\xdd", 6
TAG = bytes(8) + b"\x28\x6a\x26RADP\x10" + bytes([Z]) + bytes(32)


class Pool:
    """Is the least that a miner takes for a pool."""

    def __init__(self, listener, seed=1, **certificate):
        self.listener = listener
        self.address = listener.socket.getsockname()
        self.random = random.Random(seed)
        self.identity = Identity.generate(self.random, **certificate)

    async def accept(self):
        with trio.fail_after(60):
            stream = await self.listener.accept()
        self.link = await accept(stream, self.identity, self.random)
        return self.link

    async def open(self, kind):
        """Takes a miner up to its open channel and returns its request."""
        link = await self.accept()
        setup = await link.expect("SetupConnection")
        assert (setup.protocol, setup.min_version, setup.max_version) == (0, 2, 2)
        assert setup.vendor
        await link.send(Message("SetupConnectionSuccess", used_version=2, flags=0))
        request = await link.receive()
        if request.name == "RequestExtensions":
            await link.send(
                Message(
                    "RequestExtensionsError",
                    request_id=request.request_id,
                    unsupported_extensions=request.requested_extensions,
                    required_extensions=[],
                )
            )
            request = await link.receive()
        assert request.name == f"Open{kind.title()}MiningChannel"
        fields = {
            "request_id": request.request_id,
            "channel_id": 5,
            "target": work.ladder_target(Z),
        }
        if kind == "extended":
            fields["extranonce_size"] = ROLLABLE
        await link.send(
            Message(
                f"{request.name}Success", **fields, extranonce_prefix=PREFIX, group_channel_id=6
            )
        )
        return request

    async def send_job(self, kind, number):
        """Sends a future job and names it at once; returns how to hash a share of it."""
        common = {"channel_id": 5, "job_id": number, "min_ntime": None, "version": 0x20000000}
        prev_hash = bytes([number]) * 32
        if kind == "standard":
            root = work.sha256d(prev_hash)
            job = Message("NewMiningJob", **common, merkle_root=root)
        else:
            extranonce = len(PREFIX) + ROLLABLE
            prefix = struct.pack("<IB", 2, 1) + bytes(32) + b"\xff" * 4
            prefix += bytes([4 + extranonce]) + b"\x02\x10\x27" + bytes([extranonce])
            suffix = b"\xff" * 4 + b"\x01" + TAG + bytes(4)
            path = [bytes([number, 1]) * 16, bytes([number, 2]) * 16]
            job = Message(
                "NewExtendedMiningJob",
                **common,
                version_rolling_allowed=True,
                merkle_path=path,
                coinbase_tx_prefix=prefix,
                coinbase_tx_suffix=suffix,
            )
        min_ntime = int(time.time())
        tip = {"channel_id": 5, "job_id": number, "prev_hash": prev_hash}
        await self.link.send(
            job, Message("SetNewPrevHash", **tip, min_ntime=min_ntime, nbits=0x1D00FFFF)
        )

        def header(share):
            if kind == "standard":
                merkle = root
            else:
                assert len(share.extranonce) == ROLLABLE
                coinbase = prefix + PREFIX + share.extranonce + suffix
                work.parse_coinbase(coinbase)
                merkle = work.merkle_root(coinbase, path)
            assert (share.version ^ 0x20000000) & ~work.VERSION_MASK == 0
            assert share.ntime >= min_ntime
            return work.block_header(
                share.version, prev_hash, merkle, share.ntime, 0x1D00FFFF, share.nonce
            )

        return header


@pytest.fixture
async def pool():
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    yield Pool(listener)
    await listener.aclose()


def miner_for(pool, kind="extended", authority=None):
    text = authority or pool.identity.authority_text()
    return Miner(
        host=pool.address[0],
        port=pool.address[1],
        authority=AuthorityPublicKey.from_text(text),
        user="alice.peer",
        kind=kind,
        threads=1,
        hash_rate_limit=20_000,
    )


async def ended(miner):
    """Waits until a connection has ended and returns why."""
    with trio.fail_after(60):
        while not miner.stats().last_end:
            await trio.sleep(0.01)
    return miner.stats().last_end


@pytest.mark.parametrize("kind", ["standard", "extended"])
async def test_shares_of_the_miner_prove_their_work(pool, kind):
    """By the peer's own arithmetic, on two tips and at two targets; each share is new."""
    miner = miner_for(pool, kind)
    miner.start()
    try:
        request = await pool.open(kind)
        assert request.user_identity == "alice.peer"
        seen, target = set(), work.ladder_target(Z)
        for number in (1, 2, 3):
            if number == 3:
                target = work.ladder_target(Z + 2)
                await pool.link.send(Message("SetTarget", channel_id=5, maximum_target=target))
            header = await pool.send_job(kind, number)
            counted = 0
            while counted < 5:
                share = await pool.link.expect(f"SubmitShares{kind.title()}")
                assert share.channel_id == 5
                if share.job_id != number:
                    continue
                raw = header(share)
                assert work.number(work.sha256d(raw)) <= work.number(target)
                assert raw not in seen
                seen.add(raw)
                counted += 1
    finally:
        await trio.to_thread.run_sync(miner.stop)
        await pool.link.aclose()


async def test_miner_refuses_another_authority(pool):
    other = Identity.generate(random.Random(2)).authority_text()
    miner = miner_for(pool, authority=other)
    miner.start()
    try:
        with pytest.raises(ConnectionClosed):
            link = await pool.accept()
            await link.receive()
        reason = await ended(miner)
        # Both keys are named, so that the person can see which to copy.
        assert other in reason or "authority" in reason
        assert miner.stats().sessions == 0
    finally:
        await trio.to_thread.run_sync(miner.stop)
        await pool.link.aclose()


@pytest.mark.parametrize(
    ("start_s", "length_s", "word"),
    [(-7_200, 3_600, "expired"), (3_600, 3_600, "clock"), (-3_600, 3_600 - 11, "expired")],
    ids=["expired-an-hour-ago", "valid-in-an-hour", "expired-eleven-seconds-ago"],
)
async def test_miner_refuses_a_certificate_of_another_time(pool, start_s, length_s, word):
    now = int(time.time())
    pool.identity = Identity.generate(pool.random, valid_from=now + start_s, valid_s=length_s)
    miner = miner_for(pool)
    miner.start()
    try:
        with pytest.raises(ConnectionClosed):
            link = await pool.accept()
            await link.receive()
        assert word in await ended(miner)
    finally:
        await trio.to_thread.run_sync(miner.stop)
        await pool.link.aclose()


@pytest.mark.parametrize("position", [0, 63, 64, 143, 144, 233])
async def test_miner_refuses_an_altered_handshake(pool, position):
    """One bit anywhere in act 2: the miner leaves without a word."""
    miner = miner_for(pool)
    miner.start()
    try:
        with trio.fail_after(60):
            stream = await pool.listener.accept()
            act_1 = b""
            while len(act_1) < ACT_1_LEN:
                act_1 += await stream.receive_some(ACT_1_LEN - len(act_1))
            act_2, _, _ = respond(
                act_1,
                pool.identity.static,
                pool.identity.certificate,
                curve.EllSwiftKey(pool.random),
            )
            altered = bytearray(act_2)
            altered[position] ^= 0x10
            await stream.send_all(bytes(altered))
            assert await stream.receive_some(1) == b""
        await stream.aclose()
        assert await ended(miner)
        assert miner.stats().sessions == 0
    finally:
        await trio.to_thread.run_sync(miner.stop)


async def test_miner_follows_reconnect(pool):
    miner = miner_for(pool)
    miner.start()
    try:
        await pool.open("extended")
        await pool.link.send(Message("Reconnect", new_host="", new_port=0))
        await pool.link.closed()
        await pool.link.aclose()
        # It comes again and proves the same authority.
        await pool.open("extended")
        header = await pool.send_job("extended", 1)
        assert header(await pool.link.expect("SubmitSharesExtended"))
    finally:
        await trio.to_thread.run_sync(miner.stop)
        await pool.link.aclose()


@pytest.mark.parametrize(
    "nonsense",
    [
        Message("SetNewPrevHash", channel_id=5, job_id=9, prev_hash=bytes(32), min_ntime=0,
                nbits=0),
        Message("SubmitSharesStandard", channel_id=5, sequence_number=0, job_id=0, nonce=0, ntime=0,
                version=0),
        Message("SetTarget", channel_id=99, maximum_target=bytes(32)),
        Message("SetGroupChannel", group_channel_id=5, channel_ids=[99]),
        Message("SubmitSharesSuccess", channel_id=5, last_sequence_number=9,
                new_submits_accepted_count=9, new_shares_sum=0),
        Message("SubmitSharesError", channel_id=5, sequence_number=77, error_code="\x1b[2J"),
    ],
    ids=lambda message: message.name,
)  # fmt: skip
async def test_miner_survives_a_pool_that_talks_nonsense(pool, nonsense):
    """It may leave or ignore it; it must not end, and mines on where that is possible."""
    miner = miner_for(pool)
    miner.start()
    try:
        await pool.open("extended")
        await pool.link.send(nonsense)
        try:
            header = await pool.send_job("extended", 1)
            assert header(await pool.link.expect("SubmitSharesExtended"))
        except (ConnectionClosed, trio.BrokenResourceError):
            await pool.link.aclose()
            await pool.open("extended")
        assert miner.stats().state != "stopped"
        assert "\x1b" not in "".join(text for _, text in miner.events())
    finally:
        await trio.to_thread.run_sync(miner.stop)
        await pool.link.aclose()

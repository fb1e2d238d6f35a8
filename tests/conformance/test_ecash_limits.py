"""What one connection may do to the mint: sizes, counts, rates, frames that cannot be read."""

import struct

import pytest
import trio
from ecash_client import Refusal, claim_bytes
from ecash_pool import ecash_pool
from radpool_sv2_extensions.ecash import message as m

KEYSET = b"\x01" + b"\x0a" * 32
POINT = b"\x02" + b"\x55" * 32
INVALID_POINT = "invalid-blinded-message"


def redeem(*, keyset=KEYSET, claims=b"\0\0", inputs=b"\0\0", outputs=b"\0\0", mode=1):
    return struct.pack("<IBB", 9, mode, len(keyset)) + keyset + claims + inputs + outputs


WITH_CODE = [
    ("501 claims", redeem(mode=0, claims=b"\xf5\x01" + 501 * (b"\x21" + POINT)), "too-many-items"),
    ("a count of 65,535 claims alone", redeem(mode=0, claims=b"\xff\xff"), "too-many-items"),
    ("a count of 65,535 inputs alone", redeem(inputs=b"\xff\xff"), "too-many-items"),
    ("a count of 251 outputs alone", redeem(outputs=b"\xfb\0"), "too-many-items"),
    (
        "a claim of 32 bytes",
        redeem(mode=0, claims=b"\1\0\x20" + bytes(32)),
        "invalid-blinded-message",
    ),
    ("a keyset id of 8 bytes", redeem(keyset=KEYSET[:8]), "unknown-epoch"),
    ("a secret that is no text", redeem(inputs=b"\1\0\5\1\xff\x21" + POINT), "invalid-proof"),
]


@pytest.mark.parametrize(
    ("payload", "code"), [row[1:] for row in WITH_CODE], ids=[row[0] for row in WITH_CODE]
)
async def test_requests_with_a_code_of_their_own(tmp_path, payload, code):
    """attack: A15; spec: EW-4, EW-33"""
    async with ecash_pool(tmp_path) as pool:
        session = await pool.session()
        await session.send(0x06, payload, channel=False)
        answer = await session.kind(m.RedeemSharesEcashError)
        assert (answer.request_id, answer.error_code, answer.retry_after_s) == (9, code, 0)
        await session.mine_for()


WITHOUT = [
    ("nothing", 0x06, b"", False),
    ("a request that is cut off", 0x06, redeem()[:-1], False),
    ("a request and more", 0x06, redeem() + b"\0", False),
    ("a mode that nobody knows", 0x06, redeem(mode=2), False),
    ("a request with the channel bit", 0x06, redeem(), True),
    ("a keyset request and more", 0x0A, b"\0\0", False),
    ("an empty keyset request", 0x0A, b"", False),
]


@pytest.mark.parametrize(
    ("number", "payload", "bit"), [row[1:] for row in WITHOUT], ids=[row[0] for row in WITHOUT]
)
async def test_requests_that_cannot_be_read_end_the_connection(tmp_path, number, payload, bit):
    """attack: A15; spec: EW-4"""
    async with ecash_pool(tmp_path) as pool:
        session = await pool.session()
        await session.send(number, payload, channel=bit)
        with trio.fail_after(60):
            assert await session.client.closed() == []


@pytest.mark.parametrize("number", [0x01, 0x02, 0x04, 0x05, 0x07, 0x08, 0x09, 0x0B, 0x0C, 0xFF])
async def test_messages_that_only_a_server_sends_mean_nothing(tmp_path, number):
    async with ecash_pool(tmp_path) as pool:
        session = await pool.session()
        channel = await session.mine_for()
        await session.send(number, b"\xff" * 100, channel=number in (4, 5))
        await session.earn(channel)


async def test_a_frame_of_64_kib_and_one_byte_more(tmp_path):
    """attack: A15; spec: EW-2"""
    async with ecash_pool(tmp_path) as pool:
        session = await pool.session()
        largest = redeem(mode=0) + bytes(65_536 - len(redeem()))
        session2 = await pool.session()
        await session.send(0x06, largest, channel=False)
        assert await session.client.closed() == []
        await session2.send(0x06, largest + b"\0", channel=False)
        assert await session2.client.closed() == []
        # Nobody else notices.
        third = await pool.session()
        await third.earn(await third.mine_for())


async def test_the_largest_fetch(tmp_path):
    async with ecash_pool(tmp_path) as pool:
        session = await pool.session()
        channel = await session.mine_for()
        keyset = session.current(channel)
        derived = session.wallet.derive(keyset, 1_000, 500)
        fetched = await session.fetch(keyset, *derived.blinded)
        assert fetched.unknown == tuple(range(500))


async def test_requests_beyond_the_rate_are_told_when_to_come_back(tmp_path):
    """attack: A15; spec: EW-33"""
    # The next one comes after a minute: no machine is so slow that it has come by then.
    limits = {"ecash__redeems_per_minute": 1, "ecash__redeems_burst": 3}
    async with ecash_pool(tmp_path, **limits) as pool:
        session, other = await pool.session(), await pool.session()
        channel = await session.mine_for()
        keyset = session.current(channel)
        for _ in range(3):
            await session.fetch(keyset)
        with pytest.raises(Refusal) as caught:
            await session.fetch(keyset)
        assert caught.value.code == "rate-limited"
        assert 1 <= caught.value.answer.retry_after_s <= 60
        await session.send(0x0A, m.EcashKeysetRequest(keyset).encode(), channel=False)
        answer = await session.kind(m.RedeemSharesEcashError)
        assert (answer.request_id, answer.error_code) == (0, "rate-limited")
        # Shares bring their own admission fee, and others have their own allowance.
        await session.earn(channel)
        await other.fetch(keyset)


async def test_claims_at_once_by_many_connections(tmp_path):
    async with ecash_pool(tmp_path) as pool:
        tokens = []

        async def work():
            session = await pool.session()
            channel = await session.mine_for()
            tokens.extend([await session.earn(channel) for _ in range(5)])

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(work)
        assert len({token.secret for token in tokens}) == 50
        assert await pool.shares() == 50


async def test_a_client_that_leaves_before_its_receipt(tmp_path, monkeypatch):
    """attack: A25"""
    async with ecash_pool(tmp_path) as pool:
        session = await pool.session()
        channel = await session.mine_for()
        keyset = session.current(channel)
        share, output = session.mine(channel), session.output(keyset)
        sign, gone = pool.mint.sign, trio.Event()

        async def held(*arguments, **options):
            await gone.wait()
            return await sign(*arguments, **options)

        monkeypatch.setattr(pool.mint, "sign", held)
        await session.offer(share, claim_bytes(output))
        with trio.fail_after(60):
            while not await pool.shares():
                await trio.sleep(0.005)
        await session.client.reset()
        gone.set()
        again = await pool.session()
        fetched = await again.fetch(keyset, output.blinded)
        assert session.token(output, channel.z, fetched.signatures[0])
        await again.earn(await again.mine_for())

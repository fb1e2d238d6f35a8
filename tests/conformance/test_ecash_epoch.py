"""Keysets that close and get a price: what clients are told, and which claims are taken when."""

import pytest
import trio
from ecash_client import Refusal, claim_bytes
from ecash_pool import COINBASE_MATURITY, MATURITY, ecash_pool
from list_chain import ListChain
from radpool_sv2_extensions.ecash import message as m

from radpool_sv2.ecash.policy import KeysetState

NETWORK, POOL, WINDOW, FIXED = range(4)
OPEN, CLOSED, PROVISIONAL, FINAL, VOID = range(5)


async def mining(pool, policy=POOL, **asked):
    session = await pool.session()
    return session, await session.mine_for(policies=1 << policy, **asked)


async def update_of(session, keyset, state):
    """Returns the update that tells a keyset to be in a state, once it has come."""
    while True:
        for item in session.news:
            told = isinstance(item, m.EcashEpochUpdate) and (item.keyset_id, item.state)
            if told == (keyset, state):
                return item
        await session.receive()


async def fresh_keyset(session, channel, old):
    """Receives until another keyset is announced for the channel."""
    while session.current(channel) == old:
        await session.kind(m.EcashKeysetAnnounce)
    return session.current(channel)


async def test_a_block_of_the_pool_closes_the_keyset_and_opens_another(tmp_path):
    """spec: EW-26"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        await session.earn(channel)
        old = session.current(channel)
        await pool.find_block(session, channel)
        new = await fresh_keyset(session, channel, old)
        assert session.keysets[new].supersedes == old
        assert session.keysets[new].epoch == session.keysets[old].epoch + 1
        await update_of(session, old, PROVISIONAL)
        await session.earn(channel)


async def test_the_way_of_a_keyset_is_told_at_each_step(tmp_path):
    """spec: EW-29"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        await session.earn(channel)
        old = session.current(channel)
        block = await pool.find_block(session, channel)
        provisional = await update_of(session, old, PROVISIONAL)
        assert provisional.block_hash == block
        await pool.chain.extend(MATURITY)
        final = await update_of(session, old, FINAL)
        assert final.theta_msat > 0
        assert final.work_total == pool.mint.keyset(old).work
        assert final.block_hash == block
        assert final.redeem_after_height == final.height + COINBASE_MATURITY - 1
        assert final.expires_at > 0


async def test_only_who_mines_under_a_policy_is_told(tmp_path):
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        other, _channel = await mining(pool, FIXED)
        await session.earn(channel)
        old = session.current(channel)
        await pool.find_block(session, channel)
        await fresh_keyset(session, channel, old)
        with trio.move_on_after(0.3):
            while True:
                await other.receive()
        assert {item.policy for item in other.news if isinstance(item, m.EcashKeysetAnnounce)} == {
            FIXED
        }
        fixed = {item.keyset_id for item in other.news}
        assert old not in fixed


async def test_a_claim_on_a_keyset_that_is_over(tmp_path):
    """attack: A23"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        await session.earn(channel)
        old = session.current(channel)
        await pool.find_block(session, channel)
        new = await fresh_keyset(session, channel, old)
        # The job's tag is of the new epoch as soon as a template was published in it. Others are on
        # their way still: those of the block, and of the work behind it.
        await pool.chain.extend()
        while channel.job.prev_hash != pool.chain.tip:
            await session.receive()
        share, late = session.mine(channel), session.output(old)
        await session.offer(share, claim_bytes(late))
        with pytest.raises(Refusal) as caught:
            await session.answer(share)
        assert caught.value.code == "stale-keyset"
        output = session.output(new)
        answer = await session.claim(share, output)
        assert session.token(output, channel.z, answer.receipts[0])


BLOCK_ZEROS = 8
BLOCK_TARGET = 2 ** (256 - BLOCK_ZEROS) - 1


def no_block(session, channel):
    """Mines a share that is no block."""
    while True:
        share = session.mine(channel)
        if int.from_bytes(share.hash, "little") > BLOCK_TARGET:
            return share


async def lose_block(pool, session, channel):
    """The client finds a block that the chain does not take: the epoch ends, the tip stays."""
    epoch = pool.ledger.current_epoch
    pool.chain.refuse = True
    share = session.mine(channel, block_target=BLOCK_TARGET)
    await session.claim(share, session.output(session.current(channel)))
    await pool.until(lambda: pool.ledger.current_epoch > epoch)


def easy_chain():
    chain = ListChain()
    chain.block_zeros = BLOCK_ZEROS
    return chain


async def test_late_shares_of_an_epoch_are_credited_to_its_keyset(tmp_path):
    """attack: A23"""
    async with ecash_pool(tmp_path, easy_chain()) as pool:
        session, channel = await mining(pool)
        old, late = session.current(channel), [no_block(session, channel) for _ in range(2)]
        await lose_block(pool, session, channel)
        new = await fresh_keyset(session, channel, old)
        assert pool.mint.keyset(old).state in (KeysetState.CLOSED, KeysetState.PROVISIONAL)
        # Within the grace time the closed keyset takes its own epoch's work, and so does the new.
        for share, keyset in zip(late, (old, new), strict=True):
            output = session.output(keyset)
            answer = await session.claim(share, output)
            assert session.token(output, channel.z, answer.receipts[0])


async def test_no_late_shares_without_grace(tmp_path):
    """attack: A23"""
    async with ecash_pool(tmp_path, easy_chain(), ecash__grace_s=0) as pool:
        session, channel = await mining(pool)
        old, late = session.current(channel), no_block(session, channel)
        await lose_block(pool, session, channel)
        new = await fresh_keyset(session, channel, old)
        await session.offer(late, claim_bytes(session.output(old)))
        with pytest.raises(Refusal) as caught:
            await session.answer(late)
        assert caught.value.code == "stale-keyset"
        output = session.output(new)
        assert (await session.claim(late, output)).receipts[0].signature


async def test_a_tip_ends_a_network_epoch(tmp_path):
    async with ecash_pool(tmp_path, ecash__grace_s=0) as pool:
        session, channel = await mining(pool, NETWORK)
        await session.earn(channel)
        old = session.current(channel)
        await pool.chain.extend()
        new = await fresh_keyset(session, channel, old)
        assert session.keysets[new].opened_height == session.keysets[old].opened_height + 1
        assert session.keysets[new].opened_block == pool.chain.tip
        await pool.chain.extend(MATURITY + 1)
        await update_of(session, old, VOID)


async def test_a_reorganisation_takes_a_price_back(tmp_path):
    """attack: A20"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        await session.earn(channel)
        old = session.current(channel)
        block = await pool.find_block(session, channel)
        await update_of(session, old, PROVISIONAL)
        await pool.chain.replace(1)
        await update_of(session, old, CLOSED)
        assert block not in pool.chain.blocks


async def test_a_keyset_is_told_again_when_asked_for(tmp_path):
    """spec: EW-27, EW-28"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        await session.earn(channel)
        old = session.current(channel)
        await pool.find_block(session, channel)
        new = await fresh_keyset(session, channel, old)
        again = await pool.session()
        for keyset in (old, new, pool.mint.sat_keyset_id):
            await again.send(0x0A, m.EcashKeysetRequest(keyset).encode(), channel=False)
            announced = await again.kind(m.EcashKeysetAnnounce)
            assert announced.keyset_id == keyset
            if announced.unit == "work":
                assert (await again.kind(m.EcashEpochUpdate)).keyset_id == keyset
        assert (announced.unit, announced.policy, announced.z0) == ("sat", 255, 0)


async def test_current_keysets_of_a_connection(tmp_path):
    """spec: EW-28"""
    async with ecash_pool(tmp_path) as pool:
        session, _first = await mining(pool, POOL)
        await session.mine_for(policies=1 << FIXED)
        before = len(session.news)
        await session.send(0x0A, m.EcashKeysetRequest(b"").encode(), channel=False)
        while session.news[-1].keyset_id != pool.mint.sat_keyset_id:
            await session.receive()
        told = [
            item.policy for item in session.news[before:] if isinstance(item, m.EcashKeysetAnnounce)
        ]
        assert told == [POOL, FIXED, 255]


async def test_a_keyset_that_nobody_knows(tmp_path):
    async with ecash_pool(tmp_path) as pool:
        session = await pool.session()
        await session.send(0x0A, m.EcashKeysetRequest(b"\x01" * 33).encode(), channel=False)
        answer = await session.kind(m.RedeemSharesEcashError)
        assert (answer.request_id, answer.error_code) == (0, "unknown-epoch")


async def test_a_client_that_opens_while_keysets_change_hears_of_the_newest(tmp_path):
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool, NETWORK)
        await session.earn(channel)
        for _ in range(10):
            late = await pool.session()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pool.chain.extend)
                opened = await late.mine_for(policies=1 << NETWORK)
            while not is_up_to_date(pool, late, opened):
                await late.receive()
            await late.earn(opened)
            await late.client.aclose()


def is_up_to_date(pool, session, channel):
    keyset = session.keysets[session.current(channel)]
    return keyset.opened_block == channel.job.prev_hash == pool.chain.tip

"""Fetching signatures, redeeming work for sats, swapping, over the miner's own connection."""

import pytest
from ecash_client import LAZY, Refusal, money
from ecash_pool import COINBASE_MATURITY, MATURITY, ecash_pool
from list_chain import VALUE_SATS
from radpool_sv2_extensions.ecash import message as m

POOL, FIXED = 1, 3


async def mining(pool, policy=POOL, **asked):
    session = await pool.session()
    return session, await session.mine_for(policies=1 << policy, **asked)


async def settled(pool, session, channel, shares=3):
    """Mines some tokens and makes their keyset final and its money mature."""
    tokens = [await session.earn(channel) for _ in range(shares)]
    await pool.find_block(session, channel)
    await pool.chain.extend(COINBASE_MATURITY + MATURITY)
    keyset = tokens[0].keyset
    await pool.until(lambda: pool.state(keyset) == 3)
    # The ledger may have looked at the chain before all of these blocks were there.
    await pool.until(lambda: pool.is_mature(keyset))
    return tokens


def units(token):
    return 1 << (token.z - 4)


def spend(tokens, outputs):
    return {
        "mode": m.MODE_SPEND,
        "keyset_id": tokens[0].keyset,
        "inputs": tuple(token.proof for token in tokens),
        "outputs": outputs,
    }


async def code_of(session, **request):
    with pytest.raises(Refusal) as caught:
        await session.redeem(**request)
    return caught.value.code, caught.value.answer.retry_after_s


async def test_signatures_are_had_again_on_any_connection(tmp_path):
    """attack: A25; spec: EW-21, EW-22, EW-25"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        keyset = session.current(channel)
        share, output = session.mine(channel), session.output(keyset)
        first = (await session.claim(share, output)).receipts[0]
        await session.client.reset()
        again = await pool.session()
        fetched = await again.fetch(keyset, output.blinded, b"\x02" + b"\x11" * 32)
        [signed] = fetched.signatures
        assert (signed.signature, signed.e, signed.s) == (first.signature, first.e, first.s)
        assert (signed.index, signed.amount) == (0, 1 << (channel.z - 4))
        assert (fetched.pending, fetched.unknown) == ((), (1,))
        assert (fetched.price_num, fetched.price_den) == (0, 0)


async def test_signatures_are_had_again_after_a_restart(tmp_path):
    """attack: A25"""
    async with ecash_pool(tmp_path) as pool:
        chain = pool.chain
        session, channel = await mining(pool, sign_modes=LAZY)
        keyset = session.current(channel)
        outputs = [session.output(keyset) for _ in range(3)]
        for output in outputs:
            await session.claim(session.mine(channel), output)
    async with ecash_pool(tmp_path, chain) as pool:
        again = await pool.session()
        await again.send(0x0A, m.EcashKeysetRequest(keyset).encode(), channel=False)
        assert (await again.kind(m.EcashKeysetAnnounce)).keyset_id == keyset
        fetched = await again.fetch(keyset, *(output.blinded for output in outputs))
        session.keysets = again.keysets
        for output, signed in zip(outputs, fetched.signatures, strict=True):
            assert session.token(output, channel.z, signed)


async def test_work_becomes_sats(tmp_path):
    """spec: EW-23, EW-24"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        tokens = await settled(pool, session, channel)
        view = pool.mint.keyset(tokens[0].keyset)
        # The share that was the block was claimed, too: four shares of one step.
        assert view.work == 4 * units(tokens[0])
        assert view.theta_msat == VALUE_SATS * 1_000
        work = sum(map(units, tokens))
        sats = view.theta_msat * work // view.work // 1_000
        wanted = money(session, pool.mint.sat_keyset_id, sats)
        answer = await session.redeem(**spend(tokens, wanted.wanted))
        assert (answer.price_num, answer.price_den) == (view.theta_msat, view.work)
        assert sum(each.amount for each in answer.signatures) == sats
        # The same request again has the same answer.
        again = await session.redeem(**spend(tokens, wanted.wanted))
        assert again.signatures == answer.signatures
        sat = pool.mint.sat_keyset_id
        fetched = await session.fetch(sat, *(output.blinded for output in wanted.outputs))
        assert fetched.signatures == answer.signatures


async def test_tokens_are_merged_before_they_have_a_price(tmp_path):
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        tokens = [await session.earn(channel) for _ in range(4)]
        keyset = tokens[0].keyset
        wanted = money(session, keyset, sum(map(units, tokens)))
        answer = await session.redeem(**spend(tokens, wanted.wanted))
        [signed] = answer.signatures
        merged = session.token(wanted.outputs[0], 4 + signed.amount.bit_length() - 1, signed)
        assert units(merged) == 4 * units(tokens[0])
        split = money(session, keyset, units(merged) // 2)
        halves = split.wanted + money(session, keyset, units(merged) // 2).wanted
        assert len((await session.redeem(**spend([merged], halves))).signatures) == 2
        assert (await code_of(session, **spend(tokens[:1], halves[:1])))[0] == "already-spent"


async def test_a_token_is_spent_once(tmp_path):
    """attack: A1"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        [token] = await settled(pool, session, channel, shares=1)
        view = pool.mint.keyset(token.keyset)
        sats = view.theta_msat * units(token) // view.work // 1_000
        sat = pool.mint.sat_keyset_id
        await session.redeem(**spend([token], money(session, sat, sats).wanted))
        other = await pool.session()
        wanted = money(session, sat, sats).wanted
        assert (await code_of(other, **spend([token], wanted)))[0] == "already-spent"
        twice = spend([token, token], money(session, sat, 2 * sats).wanted)
        assert (await code_of(other, **twice))[0] in ("already-spent", "invalid-proof")


async def test_what_is_not_to_be_had_yet(tmp_path):
    """attack: A20, attack: A12"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        token = await session.earn(channel)
        sat = pool.mint.sat_keyset_id
        wanted = money(session, sat, 1).wanted
        assert (await code_of(session, **spend([token], wanted)))[0] == "epoch-open"
        await pool.find_block(session, channel)
        await pool.until(lambda: pool.state(token.keyset) == 2)
        assert (await code_of(session, **spend([token], wanted)))[0] == "epoch-open"
        await pool.chain.extend(MATURITY)
        await pool.until(lambda: pool.state(token.keyset) == 3)
        view = pool.mint.keyset(token.keyset)
        sats = view.theta_msat * units(token) // view.work // 1_000
        code, wait_s = await code_of(session, **spend([token], money(session, sat, sats).wanted))
        assert code == "immature"
        assert wait_s > 0
        await pool.chain.extend(COINBASE_MATURITY)
        await pool.until(lambda: pool.is_mature(token.keyset))
        answer = await session.redeem(**spend([token], money(session, sat, sats).wanted))
        assert sum(each.amount for each in answer.signatures) == sats


async def test_a_fixed_price_is_paid_at_once(tmp_path):
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool, FIXED)
        token = await session.earn(channel)
        wanted = money(session, pool.mint.sat_keyset_id, 2 * units(token))
        answer = await session.redeem(**spend([token], wanted.wanted))
        assert (answer.price_num, answer.price_den) == (2_000, 1)


async def test_requests_that_do_not_add_up(tmp_path):
    """attack: A14, attack: A24; spec: EW-23"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool, FIXED)
        token = await session.earn(channel)
        sat, keyset = pool.mint.sat_keyset_id, token.keyset
        value = 2 * units(token)
        cases = [
            ([token], money(session, sat, value - 1).wanted, "amount-mismatch"),
            ([token], money(session, sat, value + 1).wanted, "amount-mismatch"),
            ([token], (), "amount-mismatch"),
            ([token], money(session, keyset, units(token) + 1).wanted, "amount-mismatch"),
            (
                [token],
                money(session, sat, 1).wanted + money(session, keyset, 1).wanted,
                "amount-mismatch",
            ),
            ([token], money(session, b"\x01" * 33, 1).wanted, "unknown-epoch"),
        ]
        for tokens, outputs, code in cases:
            assert (await code_of(session, **spend(tokens, outputs)))[0] == code
        nothing = {**spend([token], money(session, sat, 1).wanted), "inputs": ()}
        assert (await code_of(session, **nothing))[0] == "amount-mismatch"
        # None of it has spent the token.
        await session.redeem(**spend([token], money(session, sat, value).wanted))


async def test_tokens_that_are_none(tmp_path):
    """attack: A7, attack: A14, attack: A15"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool, FIXED)
        token = await session.earn(channel)
        wanted = money(session, pool.mint.sat_keyset_id, 2).wanted
        good = token.proof
        for forged in (
            m.RedeemInput(good.z + 1, good.secret, good.signature),
            m.RedeemInput(3, good.secret, good.signature),
            m.RedeemInput(255, good.secret, good.signature),
            m.RedeemInput(good.z, good.secret + "0", good.signature),
            m.RedeemInput(good.z, "", good.signature),
            m.RedeemInput(good.z, good.secret, b"\x02" + bytes(32)),
            m.RedeemInput(good.z, good.secret, bytes(33)),
        ):
            request = {**spend([token], wanted), "inputs": (forged,)}
            assert (await code_of(session, **request))[0] == "invalid-proof"


async def test_outputs_that_are_none(tmp_path):
    """attack: A3, attack: A4"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool, FIXED)
        claimed = session.output(session.current(channel))
        await session.claim(session.mine(channel), claimed)
        token = await session.earn(channel)
        sat = pool.mint.sat_keyset_id
        value = 2 * units(token)
        bad = m.RedeemOutput(value, sat[:8], b"\x02" + bytes(32))
        assert (await code_of(session, **spend([token], (bad,))))[0] == "invalid-blinded-message"
        used = m.RedeemOutput(value, sat[:8], claimed.blinded)
        assert (await code_of(session, **spend([token], (used,))))[0] == "blinded-message-reused"
        half = session.output(sat)
        twice = (m.RedeemOutput(value // 2, sat[:8], half.blinded),) * 2
        assert (await code_of(session, **spend([token], twice)))[0] == "blinded-message-reused"
        no_power = m.RedeemOutput(3, sat[:8], session.output(sat).blinded)
        assert (await code_of(session, **spend([token], (no_power,))))[0] == "amount-mismatch"


async def test_keysets_that_nobody_has(tmp_path):
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool, FIXED)
        token = await session.earn(channel)
        wanted = money(session, pool.mint.sat_keyset_id, 1).wanted
        foreign = {**spend([token], wanted), "keyset_id": b"\x01" * 33}
        assert (await code_of(session, **foreign))[0] == "unknown-epoch"
        fetch = {"mode": 0, "keyset_id": b"\x01" * 33, "claims": (b"\x02" * 33,)}
        assert (await code_of(session, **fetch))[0] == "unknown-epoch"

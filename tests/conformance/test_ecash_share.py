"""Shares that claim tokens: receipts, refusals that lose nothing, repeats."""

import pytest
from ecash_client import LAZY, Refusal, claim_bytes
from ecash_pool import ecash_pool
from peer.message import tlv as core_tlv
from radpool_sv2_extensions.ecash import message as m

from radpool_sv2.errors import StoreError

POOL = 1
FIELD = 2**256 - 2**32 - 977
each_form = pytest.mark.parametrize("tlv", [False, True], ids=["message", "tlv"])


async def mining(pool, **asked):
    session = await pool.session()
    return session, await session.mine_for(**asked)


async def refused(session, share, claim, *, tlv=False):
    """Submits a share that is good with a claim that is not; returns the code."""
    await session.offer(share, claim, tlv=tlv)
    with pytest.raises(Refusal) as caught:
        await session.answer(share)
    core = tlv
    assert (caught.value.answer.name == "SubmitSharesError") == core
    return caught.value.code


async def test_a_share_earns_a_token(tmp_path):
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        share, output = session.mine(channel), session.output(session.current(channel))
        answer = await session.claim(share, output)
        assert (answer.new_submits_accepted_count, answer.new_shares_sum) == (1, share.work)
        [receipt] = answer.receipts
        assert (receipt.sequence_number, receipt.z) == (1, channel.z)
        assert session.token(output, channel.z, receipt)
        assert await pool.shares() == 1
        assert session.core_successes() == []


async def test_a_share_of_the_core_with_a_claim_behind(tmp_path):
    """spec: EW-9, EW-17"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        share, output = session.mine(channel), session.output(session.current(channel))
        await session.offer(share, claim_bytes(output, tlv=True), tlv=True)
        answer = await session.answer(share)
        assert (answer.new_submits_accepted_count, answer.new_shares_sum) == (0, 0)
        assert session.token(output, channel.z, answer.receipts[0])
        while not session.core_successes():
            await session.receive()
        [core] = session.core_successes()
        assert (core.new_submits_accepted_count, core.new_shares_sum) == (1, share.work)


async def test_a_share_of_the_core_without_a_claim_is_counted_and_earns_nothing(tmp_path):
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        await session.accepted(session.mine(channel))
        assert await pool.shares() == 1


async def test_many_shares_in_one_write(tmp_path):
    """spec: EW-14, EW-15"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        keyset = session.current(channel)
        shares = [session.mine(channel) for _ in range(20)]
        outputs = [session.output(keyset) for _ in shares]
        frames = []
        for share, output in zip(shares, outputs, strict=True):
            channel.outstanding.append((share.message.sequence_number, share.work))
            frames.append(session.share_frame(share, claim_bytes(output)))
        await session.client.send_frames(*frames)
        receipts = []
        while len(receipts) < 20:
            answer = await session.kind(m.SubmitSharesEcashExtendedSuccess)
            assert answer.new_submits_accepted_count == len(answer.receipts)
            receipts += answer.receipts
        assert [each.sequence_number for each in receipts] == list(range(1, 21))
        tokens = [
            session.token(output, receipt.z, receipt)
            for output, receipt in zip(outputs, receipts, strict=True)
        ]
        assert len({token.signature for token in tokens}) == 20
        assert channel.work == sum(share.work for share in shares)


def malformed_points():
    """Yields what is no compressed point, with a name."""
    x = (1).to_bytes(32, "big")
    yield "x is 0", b"\x02" + bytes(32)
    yield "x off the curve", b"\x02" + (5).to_bytes(32, "big")
    yield "x is the field", b"\x02" + FIELD.to_bytes(32, "big")
    yield "x above the field", b"\x03" + (FIELD + 1).to_bytes(32, "big")
    yield "x of ones", b"\x02" + b"\xff" * 32
    yield "infinity", bytes(33)
    yield "prefix 04", b"\x04" + x
    yield "prefix 06", b"\x06" + x
    yield "prefix 00", b"\x00" + x
    yield "prefix 82", b"\x82" + x


POINTS = list(malformed_points())


@each_form
@pytest.mark.parametrize("point", [row[1] for row in POINTS], ids=[row[0] for row in POINTS])
async def test_a_malformed_point_costs_the_miner_nothing(tmp_path, point, tlv):
    """attack: A4; spec: EW-12, EW-13, EW-20"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        keyset = session.current(channel)
        share = session.mine(channel)
        claim = m.claim_tlv(keyset[:8], point) if tlv else m.Claim(keyset[:8], point).encode()
        assert await refused(session, share, claim, tlv=tlv) == "invalid-blinded-message"
        assert await pool.shares() == 1
        output = session.output(keyset)
        answer = await session.claim(share, output, tlv=tlv)
        assert answer.new_submits_accepted_count == 0
        assert session.token(output, channel.z, answer.receipts[0])
        assert await pool.shares() == 1


LENGTHS = [
    b"",
    b"\x08" + bytes(8),
    b"\x08" + bytes(8) + b"\x20" + bytes(32),
    b"\x08" + bytes(8) + b"\x22" + bytes(34),
    b"\x08" + bytes(8) + b"\x41\x04" + bytes(64),
    b"\x08" + bytes(8) + b"\x21\x02" + bytes(31),
    b"\x09" + bytes(9) + b"\x21\x02" + bytes(32),
    b"\x08" + bytes(8) + b"\x21\x02" + bytes(32) + b"\0",
    b"\xff" * 300,
]


@pytest.mark.parametrize("tail", LENGTHS, ids=[f"{len(each)} bytes" for each in LENGTHS])
async def test_a_claim_of_another_form_costs_the_miner_nothing(tmp_path, tail):
    """attack: A4; spec: EW-13"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        share = session.mine(channel)
        assert await refused(session, share, tail) in ("invalid-blinded-message", "unknown-keyset")
        output = session.output(session.current(channel))
        answer = await session.claim(share, output)
        assert session.token(output, channel.z, answer.receipts[0])
        assert await pool.shares() == 1


@pytest.mark.parametrize("field", [0, 2, 255])
async def test_a_field_that_is_no_claim(tmp_path, field):
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        share = session.mine(channel)
        tail = core_tlv(m.EXTENSION_TYPE, field, bytes(41))
        assert await refused(session, share, tail, tlv=True) == "invalid-blinded-message"
        assert await pool.shares() == 1


@each_form
async def test_a_blinded_message_serves_one_share(tmp_path, tlv):
    """attack: A3"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        keyset = session.current(channel)
        output = session.output(keyset)
        await session.claim(session.mine(channel), output, tlv=tlv)
        again = session.mine(channel)
        claim = claim_bytes(output, tlv=tlv)
        assert await refused(session, again, claim, tlv=tlv) == "blinded-message-reused"
        assert await pool.shares() == 2
        fetched = await session.fetch(keyset, output.blinded)
        assert len(fetched.signatures) == 1
        fresh = session.output(keyset)
        answer = await session.claim(again, fresh, tlv=tlv)
        assert session.token(fresh, channel.z, answer.receipts[0])


async def test_a_blinded_message_twice_in_one_batch(tmp_path):
    """attack: A3"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        keyset = session.current(channel)
        output, shares = session.output(keyset), [session.mine(channel) for _ in range(2)]
        frames = []
        for share in shares:
            channel.outstanding.append((share.message.sequence_number, share.work))
            frames.append(session.share_frame(share, claim_bytes(output)))
        await session.client.send_frames(*frames)
        assert (await session.answer(shares[0])).receipts[0].signature
        with pytest.raises(Refusal) as caught:
            await session.answer(shares[1])
        assert caught.value.code == "blinded-message-reused"
        assert await pool.shares() == 2


async def test_a_blinded_message_of_another_connection(tmp_path):
    """attack: A3"""
    async with ecash_pool(tmp_path) as pool:
        first, first_channel = await mining(pool)
        second, second_channel = await mining(pool)
        output = first.output(first.current(first_channel))
        await first.claim(first.mine(first_channel), output)
        share = second.mine(second_channel)
        assert await refused(second, share, claim_bytes(output)) == "blinded-message-reused"


@each_form
async def test_the_same_share_and_claim_get_the_same_receipt(tmp_path, tlv):
    """attack: A2, attack: A5; spec: EW-19"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        share, output = session.mine(channel), session.output(session.current(channel))
        first = await session.claim(share, output, tlv=tlv)
        for _ in range(3):
            again = await session.claim(share, output, tlv=tlv)
            assert again.receipts == first.receipts
            assert (again.new_submits_accepted_count, again.new_shares_sum) == (0, 0)
        assert await pool.shares() == 1


@each_form
async def test_the_same_share_earns_one_token(tmp_path, tlv):
    """attack: A2"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        keyset = session.current(channel)
        share = session.mine(channel)
        await session.claim(share, session.output(keyset), tlv=tlv)
        for _ in range(3):
            output = session.output(keyset)
            claim = claim_bytes(output, tlv=tlv)
            assert await refused(session, share, claim, tlv=tlv) == "duplicate-share"
            assert (await session.fetch(keyset, output.blinded)).unknown == (0,)
        assert await pool.shares() == 1


async def test_a_share_twice_in_one_write_with_two_claims(tmp_path):
    """attack: A2"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        keyset = session.current(channel)
        share = session.mine(channel)
        outputs = [session.output(keyset) for _ in range(2)]
        channel.outstanding.append((share.message.sequence_number, share.work))
        await session.client.send_frames(
            *(session.share_frame(share, claim_bytes(output)) for output in outputs)
        )
        assert (await session.answer(share)).receipts
        with pytest.raises(Refusal) as caught:
            await session.answer(share)
        assert caught.value.code == "duplicate-share"
        fetched = await session.fetch(keyset, *(output.blinded for output in outputs))
        assert [each.index for each in fetched.signatures] == [0]


@each_form
async def test_a_keyset_that_nobody_announced(tmp_path, tlv):
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        share, output = session.mine(channel), session.output(session.current(channel))
        claim = claim_bytes(output, tlv=tlv).replace(output.keyset[:8], b"\x01" + b"\xaa" * 7)
        assert await refused(session, share, claim, tlv=tlv) == "unknown-keyset"
        answer = await session.claim(share, output, tlv=tlv)
        assert session.token(output, channel.z, answer.receipts[0])


async def test_a_keyset_of_another_policy(tmp_path):
    """attack: A23"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool, policies=0b0100)
        other = await session.mine_for(policies=1 << POOL)
        share, output = session.mine(channel), session.output(session.current(other))
        assert await refused(session, share, claim_bytes(output)) == "unknown-keyset"


async def test_the_keyset_of_sats_signs_no_shares(tmp_path):
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        share, output = session.mine(channel), session.output(pool.mint.sat_keyset_id)
        assert await refused(session, share, claim_bytes(output)) == "unknown-keyset"


async def test_a_claim_on_a_channel_of_the_core(tmp_path):
    """A miner that has an account is paid by it, not twice."""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        plain = await session.open(user="alice")
        output = session.output(session.current(channel))
        share = session.mine(plain)
        claim = claim_bytes(output, tlv=True)
        assert await refused(session, share, claim, tlv=True) == "unknown-keyset"
        assert await pool.shares() == 1


async def test_no_arithmetic_for_a_share_that_proves_no_work(tmp_path, monkeypatch):
    """attack: A16; spec: EW-10"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        seen = []
        enclose = pool.mint.enclose
        monkeypatch.setattr(
            pool.mint,
            "enclose",
            lambda batch, *rest: seen.append(len(batch)) or enclose(batch, *rest),
        )
        keyset = session.current(channel)
        for _ in range(5):
            share = session.mine(channel, good=False)
            assert await refused(session, share, claim_bytes(session.output(keyset))) == (
                "difficulty-too-low"
            )
        garbage = session.mine(channel, good=False)
        assert await refused(session, garbage, b"\xff" * 40) == "difficulty-too-low"
        assert seen == []
        await session.claim(session.mine(channel), session.output(keyset))
        assert seen == [1]


async def test_other_shares_that_are_not_good(tmp_path):
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        output = session.output(session.current(channel))
        stale = session.mine(channel)
        job = channel.active
        await pool.chain.extend()
        while channel.active == job:
            await session.receive()
        assert await refused(session, stale, claim_bytes(output)) == "stale-share"
        unknown = session.mine(channel)
        unknown.message.fields["job_id"] = 0x7FFF_FFFF
        assert await refused(session, unknown, claim_bytes(output)) == "invalid-job-id"
        assert await pool.shares() == 0


async def test_lazy_receipts_prove_what_was_accepted(tmp_path):
    """attack: A8; spec: EW-18, EW-19"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool, sign_modes=LAZY)
        keyset = session.current(channel)
        root, outputs = bytes(32), []
        for _ in range(5):
            share, output = session.mine(channel), session.output(keyset)
            answer = await session.claim(share, output)
            [receipt] = answer.receipts
            assert (receipt.signature, receipt.e, receipt.s) == (b"", b"", b"")
            root = m.receipt_root(root, output.blinded, receipt.z, share.hash)
            assert answer.receipt_root == root
            outputs.append(output)
        # A repeat is answered with the same root: nothing new was accepted.
        again = await session.claim(share, output)
        assert (again.receipt_root, again.new_submits_accepted_count) == (root, 0)
        fetched = await session.fetch(keyset, *(output.blinded for output in outputs))
        for output, signed in zip(outputs, fetched.signatures, strict=True):
            assert session.token(output, channel.z, signed)


async def test_lazy_roots_are_of_a_channel(tmp_path):
    """attack: A8"""
    async with ecash_pool(tmp_path) as pool:
        session, first = await mining(pool, sign_modes=LAZY)
        second = await session.mine_for(sign_modes=LAZY)
        roots = {first.id: bytes(32), second.id: bytes(32)}
        for channel in (first, second, first, second, second):
            share, output = session.mine(channel), session.output(session.current(channel))
            answer = await session.claim(share, output)
            roots[channel.id] = m.receipt_root(
                roots[channel.id], output.blinded, channel.z, share.hash
            )
            assert answer.receipt_root == roots[channel.id]


async def test_lazy_roots_begin_anew_when_the_engine_does(tmp_path):
    """The connections of another engine have the same numbers. spec: EW-18"""
    async with ecash_pool(tmp_path) as pool:
        for _ in range(2):
            session, channel = await mining(pool, sign_modes=LAZY)
            share, output = session.mine(channel), session.output(session.current(channel))
            answer = await session.claim(share, output)
            root = m.receipt_root(bytes(32), output.blinded, channel.z, share.hash)
            assert answer.receipt_root == root
            await pool.new_engine()


async def test_a_claim_that_was_refused_extends_the_lazy_root_when_it_is_made(tmp_path):
    """attack: A8"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool, sign_modes=LAZY)
        keyset, share = session.current(channel), session.mine(channel)
        bad = m.Claim(keyset[:8], b"\x02" + bytes(32)).encode()
        assert await refused(session, share, bad) == "invalid-blinded-message"
        output = session.output(keyset)
        answer = await session.claim(share, output)
        assert answer.receipt_root == m.receipt_root(
            bytes(32), output.blinded, channel.z, share.hash
        )


async def test_a_mint_that_cannot_sign_loses_nothing(tmp_path, monkeypatch):
    """attack: A25; spec: EW-11"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        keyset = session.current(channel)

        async def fail(*_arguments, **_options):
            raise StoreError("no")

        with monkeypatch.context() as patch:
            patch.setattr(pool.mint, "sign", fail)
            share, output = session.mine(channel), session.output(keyset)
            assert await refused(session, share, claim_bytes(output)) == "mint-unavailable"
            assert await pool.shares() == 1
        fetched = await session.fetch(keyset, output.blinded)
        assert session.token(output, channel.z, fetched.signatures[0])
        again = await session.claim(share, output)
        assert again.receipts[0].signature == fetched.signatures[0].signature


async def test_a_repeated_share_that_cannot_be_stored_may_come_again(tmp_path, monkeypatch):
    """attack: A25"""
    async with ecash_pool(tmp_path) as pool:
        session, channel = await mining(pool)
        keyset, share = session.current(channel), session.mine(channel)
        bad = m.Claim(keyset[:8], b"\x02" + bytes(32)).encode()
        assert await refused(session, share, bad) == "invalid-blinded-message"
        output = session.output(keyset)

        async def fail(*_arguments, **_options):
            raise StoreError("no")

        with monkeypatch.context() as patch:
            patch.setattr(pool.mint, "claim_repeated", fail)
            assert await refused(session, share, claim_bytes(output)) == "mint-unavailable"
        assert (await session.claim(share, output)).receipts[0].signature

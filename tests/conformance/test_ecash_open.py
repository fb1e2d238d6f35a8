"""Opening channels for ecash: terms, keysets, refusals. The pool, ledger and mint are real."""

import struct

import pytest
from ecash_client import EAGER, LAZY, Refusal
from ecash_pool import ecash_pool
from peer import work
from peer.message import frame
from peer.session import Session
from radpool_sv2_extensions.ecash import message as m

NETWORK, POOL, WINDOW, FIXED = range(4)


@pytest.mark.parametrize("mode", [EAGER, LAZY], ids=["eager", "lazy"])
@pytest.mark.parametrize("policy", [NETWORK, POOL, WINDOW, FIXED])
async def test_each_policy_and_sign_mode(tmp_path, policy, mode):
    """spec: EW-5, EW-6"""
    async with ecash_pool(tmp_path) as pool:
        session = await pool.session()
        channel = await session.mine_for(policies=1 << policy, sign_modes=mode)
        terms = session.terms[channel.id]
        assert (terms.policy, terms.sign_mode) == (policy, mode)
        assert (terms.z0, terms.z_step, terms.max_batch) == (4, 1, 500)
        assert terms.mint_url == "http://mint.invalid:8080"
        # The session has checked already that the keyset came first, its id and its signature.
        keyset = session.keysets[terms.keyset_id]
        assert (keyset.unit, keyset.policy, keyset.z0) == ("work", policy, 4)
        assert [entry.z for entry in keyset.keys] == list(range(4, 68))
        assert (keyset.input_fee_ppk, keyset.final_expiry) == (0, 0)
        assert (keyset.price_num > 0) == (policy == FIXED)
        # It may have come before the channel's job did, or after it.
        while not isinstance(session.news[-1], m.EcashEpochUpdate):
            await session.receive()
        update = session.news[-1]
        assert (update.keyset_id, update.state) == (terms.keyset_id, 0)


async def test_the_most_wanted_policy_that_the_client_accepts(tmp_path):
    """spec: EW-5"""
    async with ecash_pool(tmp_path, ecash__policies=["pool", "window"]) as pool:
        session = await pool.session()
        both = await session.mine_for(policies=0b1111)
        assert session.terms[both.id].policy == POOL
        one = await session.mine_for(policies=0b1101)
        assert session.terms[one.id].policy == WINDOW


async def test_eager_where_a_client_accepts_both(tmp_path):
    async with ecash_pool(tmp_path) as pool:
        session = await pool.session()
        channel = await session.mine_for(sign_modes=EAGER | LAZY)
        assert session.terms[channel.id].sign_mode == 1


async def test_all_miners_of_a_policy_look_alike_in_their_tags(tmp_path):
    """spec: EW-7"""
    async with ecash_pool(tmp_path) as pool:
        tags = {}
        for name, policy in (("a", WINDOW), ("b", WINDOW), ("c", POOL)):
            session = await pool.session()
            channel = await session.mine_for(policies=1 << policy, user=name)
            coinbase = channel.coinbase(channel.job, bytes(channel.rollable))
            tags[name] = work.find_owner_tag(work.parse_coinbase(coinbase))
        assert tags["a"] == tags["b"] != tags["c"]
        assert tags["a"].rail == 1


REFUSALS = [
    ("no policy", {"policies": 0}, "unsupported-policy"),
    ("a policy that nobody knows", {"policies": 1 << 31}, "unsupported-policy"),
    ("no sign mode", {"sign_modes": 0}, "unsupported-sign-mode"),
    ("a sign mode that nobody knows", {"sign_modes": 0b100}, "unsupported-sign-mode"),
    ("a later version", {"min_protocol": 2}, "protocol-version-mismatch"),
    ("a claim key off the curve", {"claim_pubkey": b"\x02" + bytes(32)}, "invalid-claim-pubkey"),
    ("a claim key of infinity", {"claim_pubkey": bytes(33)}, "invalid-claim-pubkey"),
    ("no terms", {"tail": b""}, "malformed-terms"),
    ("half of the terms", {"tail": struct.pack("<IB", 15, 1)}, "malformed-terms"),
    ("more than terms", {"tail": struct.pack("<IBBBB", 15, 1, 1, 0, 0)}, "malformed-terms"),
    (
        "a claim key of 32 bytes",
        {"tail": struct.pack("<IBB", 15, 1, 1) + b"\x20" + bytes(32)},
        "invalid-claim-pubkey",
    ),
    ("a target that is none", {"max_target": bytes(32)}, "max-target-out-of-range"),
    ("a name that cannot be shown", {"user": "\x1b[2J"}, "invalid-user-identity"),
]


@pytest.mark.parametrize(
    ("asked", "code"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
async def test_terms_that_are_refused(tmp_path, asked, code):
    async with ecash_pool(tmp_path) as pool:
        session = await pool.session()
        with pytest.raises(Refusal) as caught:
            await session.mine_for(**asked)
        assert caught.value.code == code
        # Nothing is lost but the request.
        assert await session.mine_for()


async def test_a_fixed_price_needs_reserves(tmp_path):
    """attack: A12"""
    settings = {"ecash__policies": ["fixed", "window"], "ecash__fixed_reserve_msat": 0}
    async with ecash_pool(tmp_path, **settings) as pool:
        session = await pool.session()
        with pytest.raises(Refusal) as caught:
            await session.mine_for(policies=1 << FIXED)
        assert caught.value.code == "insolvent"
        channel = await session.mine_for(policies=1 << FIXED | 1 << WINDOW)
        assert session.terms[channel.id].policy == WINDOW


async def test_core_channels_on_the_same_connection(tmp_path):
    async with ecash_pool(tmp_path) as pool:
        session = await pool.session()
        await session.mine_for()
        plain = await session.open(user="alice")
        await session.accepted(session.mine(plain))
        assert plain.id not in session.terms


async def test_nothing_is_to_be_had_without_negotiation(tmp_path):
    """spec: EW-1"""
    async with ecash_pool(tmp_path) as pool:
        client = await pool.connect()
        await client.set_up()
        session = Session(client)
        terms = m.TermsAsked(15, 1, 1, b"")
        asked = m.OpenExtendedEcashMiningChannel(1, "", 0.0, b"\xff" * 32, 4, terms)
        await client.send_frames(frame(m.EXTENSION_TYPE, 0, asked.encode(), channel=False))
        assert await session.settle() == []
        await client.aclose()

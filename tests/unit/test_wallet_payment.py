"""Sats that change hands: sent, received, claimed, taken back."""

import pytest
from wallet_rig.mint import URL, FakeMint
from wallet_rig.play import posts, rich

from radpool_sv2._native.ecash import blind, unblind
from radpool_sv2.errors import ConfigError, RemoteProtocolError
from radpool_sv2.wallet import Wallet
from radpool_sv2.wallet import wallet as facade
from radpool_sv2.wallet.mint import MintRefusedError
from radpool_sv2.wallet.payment import receive
from radpool_sv2.wallet.token import Handed, HandedToken, decode_token, encode_token


@pytest.fixture
def mint():
    return FakeMint()


@pytest.fixture
async def people(tmp_path, mint):
    """Are alice, who has 1000 sat, and bob."""
    both = []
    for name in ("alice", "bob"):
        wallet = await Wallet.create(tmp_path / name, transport=mint.transport())
        await wallet.add_mint(URL)
        both.append(wallet)
    await rich(both[0], mint, 1000)
    yield both
    for wallet in both:
        await wallet.close()


async def sats(*wallets):
    return [(await wallet.balance()).sats for wallet in wallets]


async def test_a_payment(people, mint):
    alice, bob = people
    sent = await alice.send(300, "for the pizza")
    token = decode_token(sent.token)
    assert (token.mint, token.unit, token.memo, token.amount) == (URL, "sat", "for the pizza", 300)
    assert {proof.keyset for proof in token.proofs} == {mint.sat.id[:8]}
    assert all(proof.dleq is None for proof in token.proofs)
    assert await sats(alice, bob) == [700, 0]
    assert await bob.take(sent.token) == 300
    assert await sats(alice, bob) == [700, 300]
    [transfer] = await alice.transfers()
    assert transfer.state == "claimed"
    # Received tokens are exchanged at once: the sender's are worth nothing any more.
    with pytest.raises(MintRefusedError):
        await alice.take(sent.token)
    assert await sats(alice, bob) == [700, 300]


async def test_an_exact_amount_needs_no_mint(people, mint):
    """1000 = 8 + 32 + 64 + 128 + 256 + 512: nothing has to be split for 40."""
    alice, bob = people
    before = len(posts(mint, "/v1/swap"))
    sent = await alice.send(40)
    assert len(posts(mint, "/v1/swap")) == before
    assert await bob.take(sent.token) == 40
    assert await sats(alice, bob) == [960, 40]


@pytest.mark.parametrize("amount", [1, 7, 8, 9, 511, 512, 513, 999, 1000])
async def test_each_amount(people, amount):
    alice, bob = people
    sent = await alice.send(amount)
    assert await bob.take(sent.token) == amount
    assert await sats(alice, bob) == [1000 - amount, amount]


@pytest.mark.parametrize("amount", [0, -1, 1001, 1 << 64])
async def test_an_amount_that_is_not_there(people, amount):
    with pytest.raises(ConfigError):
        await people[0].send(amount)
    assert (await sats(*people)) == [1000, 0]
    assert await people[0].transfers() == []


async def test_a_change_that_does_not_tell_which_part_was_paid(people, mint):
    """attack: A10. NUT-03: outputs ascend."""
    await people[0].send(300)
    [swap] = posts(mint, "/v1/swap")
    asked = [row["amount"] for row in swap["outputs"]]
    assert asked == sorted(asked)


async def test_taking_back(people, mint):
    alice, bob = people
    sent = await alice.send(300)
    taken = await alice.reclaim(sent.number)
    assert taken.state == "reclaimed"
    assert await sats(alice) == [1000]
    with pytest.raises(MintRefusedError):
        await bob.take(sent.token)
    with pytest.raises(ConfigError, match="nothing to take back"):
        await alice.reclaim(sent.number)
    with pytest.raises(ConfigError, match="no transfer"):
        await alice.reclaim(99)


async def test_taking_back_what_was_claimed(people):
    alice, bob = people
    sent = await alice.send(300)
    await bob.take(sent.token)
    with pytest.raises(MintRefusedError):
        await alice.reclaim(sent.number)
    [transfer] = await alice.transfers()
    assert transfer.state == "claimed"
    assert await sats(alice, bob) == [700, 300]


async def test_many_small_tokens_are_merged_first(people, mint, monkeypatch):
    """attack: A10. A hundred single sats in one payment would tell a story."""
    monkeypatch.setattr(facade, "TOKENS_MANY", 10)
    alice, bob = people
    for _ in range(12):
        await bob.take((await alice.send(1)).token)
    sent = await bob.send(8)
    assert len(decode_token(sent.token).proofs) == 1
    assert await alice.take(sent.token) == 8
    assert await sats(alice, bob) == [996, 4]


def token_of(mint, /, *parts, **change):
    """Makes a token of other people's proofs: (amount, secret) each."""
    fields = {"mint": URL, "unit": "sat", "memo": ""}
    return encode_token(
        HandedToken(
            **(fields | change),
            proofs=tuple(
                Handed(mint.sat.id, amount, secret, b"\2" * 33) for amount, secret in parts
            ),
        )
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"unit": "usd"}, "only sats"),
        ({"unit": "work"}, "only sats"),
        ({"mint": "http://other.example"}, "does not know the mint"),
        ({"mint": "gopher"}, "names no mint"),
    ],
)
async def test_tokens_that_are_not_taken(people, mint, change, reason):
    with pytest.raises((ConfigError, RemoteProtocolError), match=reason):
        await people[1].take(token_of(mint, (1, "x"), **change))
    assert posts(mint, "/v1/swap") == []


async def test_a_token_of_an_unknown_keyset(people, mint):
    token = HandedToken(URL, "sat", "", (Handed(b"\1" * 8, 1, "x", b"\2" * 33),))
    with pytest.raises(RemoteProtocolError, match="no keyset of this mint"):
        await people[1].take(encode_token(token))


async def test_a_forged_token(people, mint):
    """The mint finds it out; the wallet is as before."""
    with pytest.raises(MintRefusedError, match="invalid-proof"):
        await people[1].take(token_of(mint, (8, "aa" * 32)))
    assert await sats(*people) == [1000, 0]
    assert (await people[1].balance()).notes == ()


async def test_a_proof_that_comes_with_a_token_is_verified(people, mint):
    """NUT-12, Carol's side."""
    alice, bob = people
    sent = decode_token((await alice.send(8)).token)
    [proof] = sent.proofs
    wrong = Handed(proof.keyset, 8, proof.secret, proof.signature, (b"\1" * 32,) * 3)
    text = encode_token(HandedToken(URL, "sat", "", (wrong,)))
    assert decode_token(text).proofs[0].dleq is None, "proofs are not handed on"
    keyset = await bob.keyset(mint.sat.id)
    with pytest.raises(RemoteProtocolError, match="did not make"):
        await receive(None, None, [keyset], HandedToken(URL, "sat", "", (wrong,)))


async def test_a_token_of_hundreds_of_parts(people, mint):
    _, bob = people
    secrets = [f"{number:064x}" for number in range(600)]
    parts = []
    for at in range(0, 600, 200):
        # Somebody else's tokens: blinded by nobody, signed by the mint's own hand.
        parts += sign_plainly(mint, secrets[at : at + 200])
    text = encode_token(HandedToken(URL, "sat", "", tuple(parts)))
    assert await bob.take(text) == 600
    swaps = posts(mint, "/v1/swap")
    assert [len(body["inputs"]) for body in swaps] == [250, 250, 100]
    assert await sats(bob) == [600]


def sign_plainly(mint, secrets):
    factor = b"\7" * 32
    blinded = blind([(secret.encode(), factor) for secret in secrets])
    signed = mint.sat.sign([(1, point) for point in blinded])
    key = dict(mint.sat.public)[1]
    plain = unblind([(c, factor, key) for c, _, _ in signed])
    return [
        Handed(mint.sat.id[:8], 1, secret, point)
        for secret, point in zip(secrets, plain, strict=True)
    ]

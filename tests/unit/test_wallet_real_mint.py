"""The wallet and the mint of this project, over a real socket."""

import pytest
import test_mint_published
from test_mint_published import VALUE_SATS, Token, served

from radpool_sv2.ecash.keyset import ChainTip
from radpool_sv2.ecash.policy import Policy
from radpool_sv2.wallet import Wallet

msp = test_mint_published.msp


async def mine(msp, monkeypatch, wallet, policy, exponents, **more):
    """Commits shares whose claims are the wallet's; returns the last share."""
    keyset = msp.mint.current(policy)
    await wallet.trust(keyset.announcement, msp.mint.public_key)
    outputs = iter(await wallet.reserve(keyset.id, len(exponents)))

    def token(amount):
        output = next(outputs)
        return Token(amount, output.secret, b"", output.blinded)

    with monkeypatch.context() as patch:
        patch.setattr(test_mint_published, "token", token)
        _, share = msp.mine(policy, *exponents, **more)
    return share


@pytest.fixture
async def people(tmp_path, msp):
    # Beyond the blocks that the shares are for.
    msp.chain.tip = ChainTip(200, b"\x33" * 32)
    async with served(msp.mint) as (_, url):
        wallets = [await Wallet.create(tmp_path / name) for name in ("alice", "bob")]
        for wallet in wallets:
            await wallet.add_mint(url)
        yield *wallets, url
        for wallet in wallets:
            await wallet.close()


async def test_from_shares_to_sats_and_back_from_words(msp, people, monkeypatch, tmp_path):
    """spec: RC-9, ES-11, EW-31, EW-32. attack: A1, A19."""
    alice, bob, url = people
    await mine(msp, monkeypatch, alice, Policy.POOL, [1, 3, 4] * 5)
    found = await mine(msp, monkeypatch, bob, Policy.POOL, [3, 2])
    block = msp.block(found)
    # The signatures of these shares never arrived: the wallets fetch them.
    balance = await alice.balance()
    assert [line.units for line in balance.epochs] == [5 * (1 + 4 + 8)]
    assert balance.epochs[0].reason
    await msp.settle({block: 1})
    theta, work = VALUE_SATS * 1000 * 99 // 100, 65 + 4 + 2
    expected = {alice: theta * 65 // work // 1000, bob: theta * 6 // work // 1000}
    for wallet, sats in expected.items():
        [line] = (await wallet.balance()).epochs
        assert (line.sats, line.theta_msat, line.work, line.reason) == (sats, theta, work, "")
        [done] = await wallet.redeem()
        assert (done.sats, done.reason) == (sats, "")
        assert (await wallet.balance()).sats == sats
    assert (await msp.mint.figures())["liabilities_sats"] == sum(expected.values())

    sent = await alice.send(12_345, "thanks")
    assert await bob.take(sent.token) == 12_345
    [transfer] = await alice.transfers()
    assert transfer.state == "claimed"
    back = await bob.send(45)
    assert (await bob.reclaim(back.number)).state == "reclaimed"
    # Work of the next epoch that is not paid yet.
    await mine(msp, monkeypatch, alice, Policy.POOL, [2, 2], epoch=2)
    await mine(msp, monkeypatch, alice, Policy.WINDOW, [1], epoch=2)
    for name, wallet, sats in (
        ("a", alice, expected[alice] - 12_345),
        ("b", bob, expected[bob] + 12_345),
    ):
        before = await wallet.balance()
        assert before.sats == sats
        again, _ = await Wallet.restore(tmp_path / name, wallet.words(), url)
        after = await again.balance()
        assert (after.sats, after.epochs) == (before.sats, before.epochs)
        assert after.notes == ()
        await again.close()


async def test_thousands_of_small_tokens(msp, people, monkeypatch):
    """attack: A15. A week's tokens fit through the mint's allowance."""
    alice, _, _ = people
    found = await mine(msp, monkeypatch, alice, Policy.POOL, [1] * 1_500)
    await msp.settle({msp.block(found): 1})
    [done] = await alice.redeem()
    assert (done.units, done.sats) == (1_500, VALUE_SATS * 99 // 100)

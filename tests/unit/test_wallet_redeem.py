"""A wallet and a mint: what shares earn becomes sats, exactly, whatever breaks on the way."""

import pytest
from wallet_rig.mint import URL, FakeMint

from radpool_sv2.wallet import Wallet


@pytest.fixture
def mint():
    return FakeMint()


@pytest.fixture
async def wallet(tmp_path, mint):
    wallet = await Wallet.create(tmp_path / "w", transport=mint.transport())
    await wallet.add_mint(URL)
    yield wallet
    await wallet.close()


async def earn(wallet, mint, keyset_id, amounts):
    """Mines shares of these amounts."""
    await wallet.trust(mint.epochs[keyset_id].announcement, mint.key.public, URL)
    outputs = await wallet.reserve(keyset_id, len(amounts))
    signed = mint.mine(
        keyset_id, [(o.blinded, amount) for o, amount in zip(outputs, amounts, strict=True)]
    )
    receipts = [(o.counter, *answer) for o, answer in zip(outputs, signed, strict=True)]
    received = await wallet.receive(keyset_id, receipts)
    assert (received.stored, received.units, received.bad) == (len(amounts), sum(amounts), ())


async def test_shares_become_sats(wallet, mint):
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [4] * 700 + [1, 2, 64])
    mint.close(keyset_id, 5_000_000, work=10_000)
    before = await wallet.balance()
    [line] = before.epochs
    assert (line.units, line.value_msat, line.sats) == (2867, 5_000_000 * 2867 // 10_000, 1433)
    [done] = await wallet.redeem()
    assert (done.units, done.sats, done.reason) == (2867, 1433, "")
    after = await wallet.balance()
    assert (after.sats, after.epochs, mint.redeemed_sats) == (1433, (), 1433)


async def test_restore(wallet, mint, tmp_path):
    ids = [mint.open() for _ in range(3)]
    for keyset_id in ids:
        await earn(wallet, mint, keyset_id, [8] * 130)
    mint.close(ids[0], 1_000_000)
    await wallet.redeem()
    balance = await wallet.balance()
    again, found = await Wallet.restore(
        tmp_path / "again", wallet.words(), URL, transport=mint.transport()
    )
    restored = await again.balance()
    assert restored == balance
    print(found, restored)
    await again.close()

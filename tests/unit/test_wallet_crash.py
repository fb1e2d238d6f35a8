"""A wallet that dies at any moment: before and after each request, before and after each commit."""

import pytest
from wallet_rig.crash import Moments, run_and_crash
from wallet_rig.mint import URL, FakeMint
from wallet_rig.play import earn, rich

from radpool_sv2.wallet import Wallet


async def begin(tmp_path, mint):
    directory = tmp_path / "w"
    wallet = await Wallet.create(directory, transport=mint.transport())
    await wallet.add_mint(URL)
    return directory, wallet


def held(balance):
    return [line.held_units for line in balance.epochs], [s.held_sats for s in balance.by_mint]


async def at_each_moment(tmp_path, monkeypatch, prepare, work, finish, check):
    """Dies at the first moment, at the second, and so on, each time with a new wallet."""
    at = 0
    while True:
        mint = FakeMint()
        directory, wallet = await begin(tmp_path / str(at), mint)
        await prepare(wallet, mint)
        await wallet.close()
        died = await run_and_crash(directory, mint, Moments(at), monkeypatch, work)
        async with Wallet.using(directory) as again:
            again._transport = mint.transport()
            await finish(again, died=died)
            check(mint, await again.balance())
        if not died:
            return at
        at += 1


async def test_redeeming(tmp_path, monkeypatch):
    """attack: A1, A25. Nothing is lost and nothing is paid twice, whenever the wallet dies."""

    async def prepare(wallet, mint):
        keyset_id = mint.open()
        await earn(wallet, mint, keyset_id, [1, 1, 2, 2, 8])
        mint.close(keyset_id, 70_000)

    async def redeem(wallet):
        await wallet.redeem()

    async def finish(wallet, *, died):
        await wallet.redeem()

    def check(mint, balance):
        assert (balance.sats, balance.epochs, mint.redeemed_sats) == (70, (), 70)
        assert held(balance) == ([], [0])

    assert await at_each_moment(tmp_path, monkeypatch, prepare, redeem, finish, check) > 30


async def test_sending(tmp_path, monkeypatch):
    """attack: A25. What was being sent is sent once, or still ours; the text is never lost."""

    async def prepare(wallet, mint):
        await rich(wallet, mint, 64)

    async def send(wallet):
        await wallet.send(13)

    async def finish(wallet, *, died):
        balance = await wallet.balance()
        transfers = await wallet.transfers()
        sent = sum(t.sats for t in transfers if t.state == "pending")
        assert all(t.token for t in transfers if t.state == "pending")
        assert sent in ({0, 13} if died else {13})
        assert balance.sats + sent == 64
        for transfer in transfers:
            if transfer.state == "pending":
                await wallet.reclaim(transfer.number)

    def check(mint, balance):
        assert balance.sats == 64

    assert await at_each_moment(tmp_path, monkeypatch, prepare, send, finish, check) > 10


async def test_receiving(tmp_path, monkeypatch):
    """attack: A25."""
    tokens = []

    async def prepare(wallet, mint):
        other = await Wallet.create(tmp_path / f"o{len(tokens)}", transport=mint.transport())
        await other.add_mint(URL)
        await rich(other, mint, 21)
        tokens.append((await other.send(21)).token)
        await other.close()

    async def take(wallet):
        await wallet.take(tokens[-1])

    async def finish(wallet, *, died):
        await wallet.balance()
        if died and not (await wallet.balance()).sats:
            await wallet.take(tokens[-1])

    def check(mint, balance):
        assert balance.sats == 21

    assert await at_each_moment(tmp_path, monkeypatch, prepare, take, finish, check) > 10


async def test_restoring(tmp_path, monkeypatch):
    mint = FakeMint()
    _, wallet = await begin(tmp_path / "first", mint)
    await earn(wallet, mint, mint.open(), [1, 2, 4])
    await rich(wallet, mint, 33)
    balance = await wallet.balance()
    words = wallet.words()
    await wallet.close()
    at = 0
    while True:
        directory = tmp_path / f"again{at}"
        moments = Moments(at)

        async def restore(_, directory=directory, moments=moments):
            again, _found = await Wallet.restore(
                directory, words, URL, transport=moments.transport(mint)
            )
            await again.close()

        died = await run_and_crash(tmp_path / "first" / "w", mint, moments, monkeypatch, restore)
        again, _ = await Wallet.restore(directory, words, URL, transport=mint.transport())
        assert (await again.balance()) == balance
        await again.close()
        if not died:
            break
        at += 11
    assert at > 30


@pytest.mark.parametrize("times", [1, 5])
async def test_dying_over_and_over(tmp_path, monkeypatch, times):
    """Each attempt dies a little later; the last one finishes."""
    mint = FakeMint()
    directory, wallet = await begin(tmp_path, mint)
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1] * 20)
    mint.close(keyset_id, 99_000)
    await wallet.close()

    async def redeem(wallet):
        await wallet.redeem()

    at = 0
    while await run_and_crash(directory, mint, Moments(at), monkeypatch, redeem):
        at += times
    async with Wallet.using(directory) as again:
        again._transport = mint.transport()
        assert (await again.balance()).sats == 99

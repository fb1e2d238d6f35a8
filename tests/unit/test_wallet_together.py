"""Several processes on one wallet: a miner, somebody who asks, somebody who redeems."""

import json

import httpx
import pytest
import trio
from wallet_rig.mint import URL, FakeMint, unread
from wallet_rig.play import earn, rich

from radpool_sv2.errors import RadpoolError
from radpool_sv2.wallet import Wallet, exchange, recovery, redemption


@pytest.fixture
def mint():
    return FakeMint()


@pytest.fixture
async def wallets(tmp_path, mint):
    """Are three processes' views of one wallet: each has its connection and its blocks."""
    first = await Wallet.create(tmp_path / "w", transport=mint.transport())
    await first.add_mint(URL)
    more = [await Wallet.open(tmp_path / "w", transport=mint.transport()) for _ in range(2)]
    yield [first, *more]
    for wallet in [first, *more]:
        await wallet.close()


async def together(*works):
    """Runs all at once; returns the errors that people would see."""
    errors = []

    async def run(work):
        try:
            await work()
        except RadpoolError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for work in works:
            nursery.start_soon(run, work)
    return errors


async def test_redeeming_at_once(wallets, mint):
    """attack: A1. Three processes redeem the same tokens: they are paid once."""
    for _ in range(4):
        keyset_id = mint.open()
        await earn(wallets[0], mint, keyset_id, [1, 2, 4, 4, 8] * 12)
        mint.close(keyset_id, 777_000)
        assert await together(*(wallet.redeem for wallet in wallets)) == []
    assert mint.redeemed_sats == 4 * 777
    kinds = [event.kind for event in await wallets[0].history()]
    assert (kinds.count("redeem"), kinds.count("rollback")) == (4, 0)
    assert [(await wallet.balance()).sats for wallet in wallets] == [4 * 777] * 3


async def test_a_miner_beside_them(wallets, mint):
    """attack: A19. Shares are earned while balances are asked for and tokens merged."""
    keyset_id = mint.open()
    miner, reader, merger = wallets
    notes = []

    async def mine():
        for _ in range(25):
            await earn(miner, mint, keyset_id, [1, 2])

    async def read():
        for _ in range(6):
            notes.extend((await reader.balance()).notes)

    async def merge():
        for _ in range(6):
            await merger.merge(notes=notes)

    assert await together(mine, read, merge) == []
    [line] = (await reader.balance()).epochs
    assert line.units == 75
    # Nobody mistakes what another process reserved for an old copy.
    assert not any("old copy" in note for note in notes)
    kinds = [event.kind for event in await reader.history()]
    assert "rollback" not in kinds


@pytest.mark.parametrize("_", range(5))
async def test_spending_at_once(wallets, mint, _):
    """attack: A1. Sats are handed over once, whoever asks."""
    await rich(wallets[0], mint, 100)
    sent = []

    def send(wallet):
        async def work():
            sent.append(await wallet.send(30))

        return work

    errors = await together(*(send(wallet) for wallet in [*wallets, *wallets]))
    transfers = [one for one in await wallets[0].transfers() if one.state == "pending"]
    balance = await wallets[0].balance()
    assert len(transfers) == len(sent) <= 3
    assert all(one.token for one in sent)
    kinds = [event.kind for event in await wallets[0].history()]
    assert (kinds.count("send"), kinds.count("rollback")) == (len(sent), 0)
    assert balance.sats + 30 * len(transfers) == 100
    assert len(errors) == 6 - len(sent)
    for transfer in transfers:
        await wallets[1].reclaim(transfer.number)
    assert (await wallets[2].balance()).sats == 100


async def test_tokens_that_another_process_took_meanwhile(wallets, mint):
    """attack: A1. A lot is cut, and before it is planned another process exchanges some of it."""
    keyset_id = mint.open()
    await earn(wallets[0], mint, keyset_id, [1] * 8)
    first, second = wallets[0]._purse, wallets[1]._purse
    keyset = first.keyset(keyset_id)
    [lot] = redemption._chunks(first, keyset)
    taken = redemption._plan_merge(first, keyset, lot[:5])
    rest = redemption._plan_merge(second, keyset, lot)
    assert redemption._plan_merge(second, keyset, lot) is None
    counts = [len(json.loads(exchange.request)["inputs"]) for exchange in (taken, rest)]
    assert counts == [5, 3]
    await wallets[2].balance()
    assert (await wallets[2].balance()).epochs[0].units == 8


async def test_an_exchange_that_two_processes_end(wallets, mint):
    """attack: A1. Both sent the request, both got the answer: it happened once."""
    keyset_id = mint.open()
    await earn(wallets[0], mint, keyset_id, [1] * 8)
    first, second = wallets[0]._purse, wallets[1]._purse
    keyset = first.keyset(keyset_id)
    done = redemption._plan_merge(first, keyset, redemption._chunks(first, keyset)[0])
    async with wallets[0]._client(URL) as client:
        signed = await client.exchange("work", "work", done.request)
    for purse in (first, second):
        exchange._settle(purse, done, signed)
    assert [event.kind for event in await wallets[2].history()].count("merge") == 1
    # And one that was refused is refused to both.
    other = redemption._plan_redeem(
        first, settled(mint, first, keyset_id), first.keyset(mint.sat.id)
    )
    for purse in (first, second):
        assert not exchange._conclude(purse, other[0], "no", set(), [], everything=False)
    assert (await wallets[2].balance()).epochs[0].units == 8


def settled(mint, purse, keyset_id):
    mint.close(keyset_id, 80_000)
    return purse.take_update(mint.update_of(keyset_id))


async def test_what_another_process_is_about_to_hand_over(wallets, mint):
    """attack: A1. The mint has signed it, the sender has not written it down: nobody takes it."""
    await rich(wallets[0], mint, 100)
    signed, settle = trio.Event(), trio.Event()

    class Held(httpx.MockTransport):
        async def handle_async_request(self, request):
            answer = await super().handle_async_request(request)
            if request.url.path == "/v1/swap":
                signed.set()
                await settle.wait()
            return answer

    wallets[0]._transport = Held(lambda request: unread(mint._serve(request)))
    sent = []

    async def send():
        sent.append(await wallets[0].send(30))

    async def look_meanwhile():
        await signed.wait()
        purse = wallets[1]._purse
        sat = purse.keyset(mint.sat.id)
        assert purse.missing(sat.id) == []
        outputs = purse.derive(sat.id, 0, 100)
        async with wallets[1]._client(URL) as client:
            found = await recovery._fetch_batch(purse, client, sat, outputs, mined=False)
        assert (found.tokens, found.highest) == (0, sat.next_counter - 1)
        settle.set()

    assert await together(send, look_meanwhile) == []
    [transfer] = sent
    balance = await wallets[2].balance()
    assert (transfer.state, balance.sats, balance.by_mint[0].sent_sats) == ("pending", 70, 30)

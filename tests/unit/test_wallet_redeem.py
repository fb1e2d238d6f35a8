"""What shares earned becomes sats, exactly: prices, merging, reasons why not."""

import random

import httpx
import pytest
import trio
from wallet_rig.message import FINAL, OPEN, PROVISIONAL, VOID, u
from wallet_rig.mint import URL, FakeMint
from wallet_rig.play import earn, posts, rich

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.wallet import Wallet, exchange


@pytest.fixture
def mint():
    return FakeMint()


@pytest.fixture
async def wallet(tmp_path, mint):
    wallet = await Wallet.create(tmp_path / "w", transport=mint.transport())
    await wallet.add_mint(URL)
    yield wallet
    await wallet.close()


async def test_shares_become_sats(wallet, mint):
    """spec: ES-11, RC-19."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [4] * 700 + [1, 2, 64])
    mint.close(keyset_id, 5_000_000, work=10_000)
    [line] = (await wallet.balance()).epochs
    assert (line.units, line.value_msat, line.sats) == (2867, 5_000_000 * 2867 // 10_000, 1433)
    assert line.formula == "floor(5,000,000 msat x 2,867 / 10,000) = 1,433,500 msat, so 1,433 sat"
    assert (line.hashes, line.reason) == (2867 << mint.z0, "")
    [done] = await wallet.redeem()
    assert (done.units, done.sats, done.reason) == (2867, 1433, "")
    after = await wallet.balance()
    assert (after.sats, after.epochs, mint.redeemed_sats) == (1433, (), 1433)


async def test_merging_is_in_lots_and_leaves_the_fewest(wallet, mint):
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1] * 1000 + [2] * 11)
    [(keyset, before, after)] = await wallet.merge()
    assert (keyset.id, before, after) == (keyset_id, 1011, (1022).bit_count())
    swaps = posts(mint, "/work/v1/swap")
    assert max(len(body["inputs"]) for body in swaps) == 250
    assert all(len(body["outputs"]) <= 64 for body in swaps)
    # Merged is merged: nothing is sent for it again.
    [(_, again, still)] = await wallet.merge()
    assert (again, still) == (after, after)
    assert len(swaps) == len(posts(mint, "/work/v1/swap"))


async def test_order_tells_nothing(wallet, mint, monkeypatch):
    """attack: A10, A11. Inputs come in any order, outputs ascend; amounts are those of the sum."""
    monkeypatch.setattr(exchange, "RANDOM", random.Random(7))
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1, 2, 4, 8] * 25)
    mint.close(keyset_id, 77_777_000)
    await wallet.redeem()
    [swap] = posts(mint, "/work/v1/swap")
    given = [row["amount"] for row in swap["inputs"]]
    assert given not in (sorted(given), sorted(given, reverse=True), [1, 2, 4, 8] * 25)
    [redeem] = posts(mint, "/work/v1/redeem")
    given = [row["amount"] for row in redeem["inputs"]]
    assert given not in (sorted(given), sorted(given, reverse=True))
    for body in (swap, redeem):
        asked = [row["amount"] for row in body["outputs"]]
        assert asked == sorted(set(asked))
    # What is redeemed are no signatures of shares: none of their amounts is left.
    assert sorted(row["amount"] for row in redeem["inputs"]) == [
        1 << exponent for exponent in range(11) if 375 >> exponent & 1
    ]
    assert {row["secret"] for row in redeem["inputs"]}.isdisjoint(
        row["secret"] for row in swap["inputs"]
    )


async def test_proofs_never_go_back(wallet, mint):
    """spec: RC-17. attack: A10. The mint could tell by a proof which signature a token was."""
    await rich(wallet, mint, 1000)
    for _, body in mint.log:
        for row in (body or {}).get("inputs", []):
            assert row.keys() == {"amount", "id", "secret", "C"}
        for row in (body or {}).get("outputs", []):
            assert row.keys() == {"amount", "id", "B_"}


async def test_waiting_between_requests(wallet, mint, autojump_clock):
    """attack: A10. With --spread each request waits a time of its own."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1] * 30)
    mint.close(keyset_id, 30_000)
    before = trio.current_time()
    await wallet.redeem(spread_s=600)
    assert trio.current_time() - before > 1


@pytest.mark.parametrize(
    ("state", "theta", "reason"),
    [
        (OPEN, 0, "still open"),
        (1, 0, "waits for a block"),
        (PROVISIONAL, 90_000, "waits for its block to be confirmed"),
        (VOID, 0, "no block pays this epoch"),
        (5, 90_000, "expired"),
        (FINAL, 0, "announced no price"),
        (FINAL, 999, "less than a satoshi"),
    ],
)
async def test_why_not(wallet, mint, state, theta, reason):
    """attack: A24. What would give nothing is not burned."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1, 1])
    mint.close(keyset_id, theta, state=state)
    [done] = await wallet.redeem()
    assert done.sats == 0
    assert reason in done.reason
    assert posts(mint, "/work/v1/redeem") == []
    assert (await wallet.balance()).epochs[0].units == 2


async def test_immature(wallet, mint):
    """spec: ES-13. attack: A20. The coinbase has to mature; the wallet says so and waits."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1, 4])
    mint.close(keyset_id, 50_000, after=300)
    [line] = (await wallet.balance()).epochs
    assert (line.blocks_left, line.sats) == (100, 50)
    assert line.reason == "the mint pays from height 300 on: in 100 blocks"
    [done] = await wallet.redeem()
    assert (done.sats, done.reason) == (0, line.reason)
    assert posts(mint, "/work/v1/redeem") == []
    mint.tip = 299
    assert [one.sats for one in await wallet.redeem()] == [0]
    mint.tip = 300
    assert [one.sats for one in await wallet.redeem()] == [50]


async def test_asking_early(wallet, mint):
    """spec: RC-4. However often the mint refuses, no gap arises across which nobody restores."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1, 4])
    mint.close(keyset_id, 999_999_000, after=300)
    for _ in range(30):
        [done] = await wallet.redeem(early=True)
        assert "immature" in done.reason
    [line] = (await wallet.balance()).epochs
    assert (line.units, line.held_units) == (5, 0)
    assert (await wallet.keyset(mint.sat.id)).next_counter < 50
    mint.tip = 300
    assert [one.sats for one in await wallet.redeem()] == [999_999]


async def test_the_fixed_price_is_that_of_the_announcement(wallet, mint):
    """spec: ES-14."""
    keyset_id = mint.open(policy=u(1, 3), price_num=u(8, 3_000), price_den=u(8, 2))
    await earn(wallet, mint, keyset_id, [4])
    mint.close(keyset_id, 3_000, work=2)
    mint.on_answer = None
    mint.epochs[keyset_id].theta, mint.epochs[keyset_id].work = 6_000, 4
    [line] = (await wallet.balance()).epochs
    assert (line.theta_msat, line.work, line.sats) == (3_000, 2, 6)
    [done] = await wallet.redeem()
    assert done.sats == 6


async def test_a_price_that_changes_meanwhile(wallet, mint):
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [8])
    mint.close(keyset_id, 80_000, work=8)
    changed = []

    def reversal(path, body):
        if path == "/work/v1/redeem" and not changed:
            changed.append(mint.close(keyset_id, 40_000, work=8))

    mint.on_request = reversal
    [done] = await wallet.redeem()
    assert (done.sats, (await wallet.balance()).sats) == (40, 40)


async def test_one_rounding_for_all(wallet, mint):
    """spec: ES-11. Whatever the amounts, the wallet gets floor(theta n / W), and no more."""
    rng = random.Random(4)
    for _ in range(4):
        keyset_id = mint.open()
        amounts = [1 << rng.randrange(12) for _ in range(rng.randrange(1, 20))]
        await earn(wallet, mint, keyset_id, amounts)
        units, theta = sum(amounts), rng.randrange(10**7, 10**9)
        mint.close(keyset_id, theta, work=units * 3 + 7)
        before = (await wallet.balance()).sats
        [done] = await wallet.redeem()
        assert done.sats == theta * units // (units * 3 + 7) // 1000
        assert (await wallet.balance()).sats == before + done.sats


async def test_the_largest_amounts(wallet, mint):
    """attack: A14. 2^63 units, and a sum that no 64 tokens make up."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1 << 63])
    mint.close(keyset_id, 10**15, work=1 << 63)
    [done] = await wallet.redeem()
    assert done.sats == 10**12
    other = mint.open()
    await earn(wallet, mint, other, [1 << 63, 1 << 63])
    assert (await wallet.balance()).epochs[0].units == 1 << 64
    with pytest.raises(Exception, match="can be split"):
        await wallet.merge()
    assert (await wallet.balance()).epochs[0].units == 1 << 64


async def test_a_single_keyset(wallet, mint):
    ids = [mint.open() for _ in range(2)]
    for keyset_id in ids:
        await earn(wallet, mint, keyset_id, [1])
        mint.close(keyset_id, 5_000)
    [done] = await wallet.redeem(ids[1])
    assert (done.keyset.id, done.sats) == (ids[1], 5)
    assert [line.keyset for line in (await wallet.balance()).epochs] == [ids[0].hex()]


async def test_another_mint_at_the_address(wallet, mint):
    """attack: A18."""
    thief = FakeMint(secret=b"\x66" * 32)
    mint.on_request = lambda path, _: (
        httpx.Response(200, json=thief.answer(path, None)) if path == "/work/v1/info" else None
    )
    with pytest.raises(RemoteProtocolError, match="it is another one"):
        await wallet.balance()


async def test_history(wallet, mint):
    keyset_id = await rich(wallet, mint, 100)
    events = {event.kind: event for event in await wallet.history()}
    assert (events["earn"].units, events["earn"].keyset) == (3, keyset_id)
    assert (events["redeem"].units, events["redeem"].sats) == (3, 100)

"""Tokens that the file does not have: nothing but words, an old copy, lost receipts."""

import shutil

import httpx
import pytest
from wallet_rig.message import EXPIRED, VOID, announce, u
from wallet_rig.mint import URL, FakeMint, Refused
from wallet_rig.play import earn, posts, rich

from radpool_sv2.errors import ConfigError, RemoteProtocolError
from radpool_sv2.wallet import Wallet
from radpool_sv2.wallet.mint import MintUnreachableError
from radpool_sv2.wallet.seed import words_of


@pytest.fixture
def mint():
    return FakeMint()


@pytest.fixture
async def wallet(tmp_path, mint):
    wallet = await Wallet.create(tmp_path / "w", transport=mint.transport())
    await wallet.add_mint(URL)
    yield wallet
    await wallet.close()


async def bring_back(wallet, mint, directory, **more):
    again, found = await Wallet.restore(
        directory, wallet.words(), URL, transport=mint.transport(), **more
    )
    try:
        return found, await again.balance()
    finally:
        await again.close()


# From nothing but the words


async def test_everything_comes_back(wallet, mint, tmp_path):
    """spec: RC-9, RC-10. Merged, spent, redeemed, sent: what is left is what was left."""
    for number in range(12):
        keyset_id = mint.open()
        await earn(wallet, mint, keyset_id, [1 << number % 5] * (number * 13 + 1))
        if number % 3 == 0:
            mint.close(keyset_id, 100_000 * (number + 1))
    await wallet.merge(next(iter(mint.epochs)))
    await wallet.redeem()
    await wallet.send(17)
    before = await wallet.balance()
    found, after = await bring_back(wallet, mint, tmp_path / "again")
    # What was sent and nobody has claimed is the wallet's again.
    assert after.sats == before.sats + 17 == sum(100 * (n + 1) for n in range(0, 12, 3))
    assert after.epochs == before.epochs
    assert (found.keysets, found.notes) == (13, ())


async def test_counters_go_on_behind_what_was_found(wallet, mint, tmp_path):
    """spec: RC-9, RC-4."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1] * 30)
    used = {output.blinded for output in await wallet.reserve(keyset_id, 50)}
    again, _ = await Wallet.restore(tmp_path / "a", wallet.words(), URL, transport=mint.transport())
    outputs = await again.reserve(keyset_id, 20)
    # Those that left without an answer do not come again either.
    assert not used & {output.blinded for output in outputs}
    await again.close()


@pytest.mark.parametrize("gap", [99, 299, 300, 999])
async def test_gaps(wallet, mint, tmp_path, gap):
    """spec: RC-9. Blocks that crashes left unused are looked across."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1])
    await wallet.reserve(keyset_id, gap)
    await earn(wallet, mint, keyset_id, [2])
    _, balance = await bring_back(wallet, mint, tmp_path / "again")
    assert balance.epochs[0].units == 3


async def test_a_restore_can_be_repeated(wallet, mint, tmp_path):
    await rich(wallet, mint, 50)
    for _ in range(2):
        _, balance = await bring_back(wallet, mint, tmp_path / "again")
        assert balance.sats == 50


async def test_a_restore_over_another_wallet(wallet, mint, tmp_path):
    other = await Wallet.create(tmp_path / "o", words=words_of(bytes(16)))
    await other.close()
    with pytest.raises(ConfigError, match="another wallet is here"):
        await bring_back(wallet, mint, tmp_path / "o")


async def test_expired_and_void_epochs(wallet, mint, tmp_path):
    for state in (VOID, EXPIRED):
        keyset_id = mint.open()
        await earn(wallet, mint, keyset_id, [1])
        mint.close(keyset_id, 0, state=state)
    found, balance = await bring_back(wallet, mint, tmp_path / "again")
    assert (found.keysets, balance.notes) == (2, ())
    assert [line.state for line in balance.epochs] == ["void"]


async def test_a_keyset_of_a_newer_version_is_left_out(wallet, mint, tmp_path):
    """attack: A27. What this version does not understand does not keep the rest away."""
    await earn(wallet, mint, mint.open(), [4])

    def newer(path, _, answer):
        if path.startswith("/work/v1/keysets?"):
            [row] = answer["keysets"]
            payload = bytearray.fromhex(row["announcement"])
            payload[1] = 2
            strange = row | {"id": "02" + row["id"][2:], "announcement": payload.hex()}
            return {"total": 2, "keysets": [strange, row]}
        return None

    mint.on_answer = newer
    found, balance = await bring_back(wallet, mint, tmp_path / "again")
    assert len(found.notes) == 1
    assert "left out" in found.notes[0]
    assert balance.epochs[0].units == 4


async def test_the_wrong_mint(wallet, mint, tmp_path):
    """attack: A18."""
    with pytest.raises(RemoteProtocolError, match="it is another one"):
        await bring_back(wallet, mint, tmp_path / "a", pinned=b"\2" + b"\1" * 32)


async def test_a_mint_that_proves_nothing(wallet, mint, tmp_path):
    """spec: RC-10. attack: A7."""
    await earn(wallet, mint, mint.open(), [4, 8])

    def unproven(path, _, answer):
        if path == "/work/v1/claims" and answer["signatures"]:
            answer["signatures"][0]["dleq"] = None
            return answer
        return None

    mint.on_answer = unproven
    found, balance = await bring_back(wallet, mint, tmp_path / "again")
    assert balance.epochs[0].units == 8
    assert "did not prove 1" in found.notes[0]


async def test_one_error_not_many(wallet, mint, tmp_path):
    for _ in range(5):
        await earn(wallet, mint, mint.open(), [1])
    mint.on_request = lambda path, _: httpx.Response(502) if "claims" in path else None
    with pytest.raises(MintUnreachableError):
        await bring_back(wallet, mint, tmp_path / "again")
    mint.on_request = None
    _, balance = await bring_back(wallet, mint, tmp_path / "again")
    assert len(balance.epochs) == 5


async def test_a_busy_mint_ends_no_restore(wallet, mint, tmp_path, autojump_clock):
    """attack: A15. Whoever is told to come back later does, one request at a time."""
    for _ in range(6):
        await earn(wallet, mint, mint.open(), [1] * 150)
    level, asked = 500, []

    def allowance(path, body):
        nonlocal level
        cost = 1 + len((body or {}).get("claims", []))
        if cost > level:
            asked.append(path)
            level += 120
            return httpx.Response(429, json={"error": "rate-limited", "retry_after_s": 1})
        level -= cost
        return None

    mint.on_request = allowance
    _, balance = await bring_back(wallet, mint, tmp_path / "again")
    assert sum(line.units for line in balance.epochs) == 900
    assert asked


# An old copy


def copy_of(wallet, tmp_path):
    """Copies the file as a backup does."""
    source = wallet._purse.file.path
    wallet._purse.file.close()
    (tmp_path / "old").mkdir(mode=0o700)
    for file in source.parent.iterdir():
        shutil.copy(file, tmp_path / "old")
    return tmp_path / "old"


async def test_an_old_copy_is_found_out(wallet, mint, tmp_path):
    """spec: RC-5, RC-6. attack: A19. Work, merges and sats of later come back; no counter twice."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1] * 10)
    old = copy_of(wallet, tmp_path)
    await earn(wallet, mint, keyset_id, [2] * 40)
    mint.close(keyset_id, 450_000, work=90)
    await wallet.merge()
    await rich(wallet, mint, 5)
    before = await wallet.balance()
    again = await Wallet.open(old, transport=mint.transport())
    after = await again.balance()
    assert any("old copy" in note for note in after.notes)
    # Keysets that the old copy never saw come back with a restore, sats at once.
    assert (after.sats, after.epochs) == (before.sats, before.epochs)
    assert [event.kind for event in await again.history()].count("rollback") == 2
    used = set(mint.signed)
    for target in (keyset_id, mint.sat.id):
        assert not used & {output.blinded for output in await again.reserve(target, 300)}
    assert (await again.balance()).notes == ()
    await again.close()


async def test_an_old_copy_that_mines_before_it_is_found_out(wallet, mint, tmp_path):
    """spec: RC-5. attack: A19. The pool says blinded-message-reused; the wallet skips."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1] * 3)
    old = copy_of(wallet, tmp_path)
    await earn(wallet, mint, keyset_id, [1] * 200)
    again = await Wallet.open(old, transport=mint.transport())
    skipped = 0
    while True:
        [output] = await again.reserve(keyset_id, 1)
        if output.blinded not in mint.signed:
            break
        skipped += 1
        await again.skip(keyset_id, output.counter)
    assert skipped <= 3
    await again.close()


async def test_an_old_copy_that_redeems(wallet, mint, tmp_path):
    """attack: A1, A19. Its tokens are spent: it gets what is left, and nothing twice."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1, 2, 4])
    mint.close(keyset_id, 70_000)
    await wallet.balance()
    old = copy_of(wallet, tmp_path)
    await wallet.redeem()
    again = await Wallet.open(old, transport=mint.transport())
    assert await again.redeem() == []
    assert (await again.balance()).sats == 70
    assert mint.redeemed_sats == 70
    await again.close()


async def test_an_old_copy_whose_mint_hides_it(wallet, mint, tmp_path):
    """attack: A1, A19. Even if nothing is found on opening, the exchange itself finds out."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1, 2, 4])
    mint.close(keyset_id, 70_000)
    await wallet.balance()
    old = copy_of(wallet, tmp_path)
    await wallet.redeem()
    silent = {"on": True}

    def hide(path, body):
        if path == "/v1/restore" and silent["on"]:
            return httpx.Response(200, json={"outputs": [], "signatures": []})
        if path == "/work/v1/redeem":
            silent["on"] = False
        return None

    mint.on_request = hide
    again = await Wallet.open(old, transport=mint.transport())
    await again.redeem()
    assert (await again.balance()).sats == 70
    assert mint.redeemed_sats == 70
    await again.close()


async def test_two_wallets_of_the_same_words_at_once(wallet, mint, tmp_path):
    """attack: A3, A19. It is told, and costs nothing but the counters."""
    await rich(wallet, mint, 64)
    again, _ = await Wallet.restore(tmp_path / "a", wallet.words(), URL, transport=mint.transport())
    await wallet.send(3)
    with pytest.raises(ConfigError, match="less than"):
        while True:
            await again.send(3)
    balance = await again.balance()
    assert (balance.sats, balance.by_mint[0].sent_sats) == (1, 63)
    await again.close()
    assert "Do not use two copies" in (await wallet.balance()).notes[0]
    # Nobody has claimed anything, and nothing is lost.
    _, balance = await bring_back(wallet, mint, tmp_path / "b")
    assert balance.sats == 64


# Receipts that got lost


async def test_lost_receipts_are_fetched(wallet, mint):
    """spec: RC-16. attack: A8. The pool signed, and the connection died before the answer."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1, 1])
    outputs = await wallet.reserve(keyset_id, 250)
    mint.mine(keyset_id, [(output.blinded, 4) for output in outputs[::2]])
    balance = await wallet.balance()
    assert balance.epochs[0].units == 2 + 4 * 125
    assert "125 signatures that had not arrived" in balance.notes[0]
    assert (await wallet.balance()).notes == ()


async def test_a_settled_keyset_is_asked_once(wallet, mint):
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1])
    await wallet.reserve(keyset_id, 100)
    mint.close(keyset_id, 5_000)
    await wallet.balance()
    asked = len(posts(mint, "/work/v1/claims"))
    await wallet.redeem()
    await wallet.balance()
    await wallet.balance()
    # Only what lies ahead is asked about again, while it has tokens.
    assert len(posts(mint, "/work/v1/claims")) - asked == 1


async def test_a_keyset_for_one_miner_alone(wallet, mint):
    """attack: A6. What a connection announced is compared with what everybody sees."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1])
    hidden = keyset_id.hex()
    whole = mint.answer

    def hide(path, body):
        if path.endswith(hidden):
            raise Refused("unknown-epoch")
        return whole(path, body)

    mint.answer = hide
    balance = await wallet.balance()
    assert "does not show keyset" in balance.notes[0]


async def test_a_keyset_that_is_announced_twice_differently(wallet, mint):
    """attack: A6."""
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [1])
    epoch = mint.epochs[keyset_id]
    epoch.announcement = announce(mint.key, epoch.keys, z0=mint.z0, fee_ppm=u(4, 5))
    assert "announces keyset" in (await wallet.balance()).notes[0]


# A mint that is away


async def test_offline(wallet, mint):
    keyset_id = mint.open()
    await earn(wallet, mint, keyset_id, [2, 8])
    mint.close(keyset_id, 10_000)
    assert (await wallet.balance()).fresh
    mint.on_request = lambda *_: httpx.Response(503)
    balance = await wallet.balance()
    assert (balance.fresh, balance.epochs[0].sats) == (False, 10)
    assert "what the mint said last is shown" in balance.notes[0]
    asked = len(mint.log)
    assert (await wallet.balance(ask=False)).epochs[0].units == 10
    assert len(mint.log) == asked

"""What shares earned above their tokens: claim keys, cash-outs, and mints that keep it."""

import json
import shutil
import sqlite3

import httpx
import pytest
from coincurve import PublicKeyXOnly
from wallet_rig.crash import Moments, run_and_crash
from wallet_rig.message import FINAL, announce
from wallet_rig.mint import URL, Epoch, FakeMint, Refused
from wallet_rig.play import earn, posts

from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.wallet import Wallet
from radpool_sv2.wallet.announcement import Policy
from radpool_sv2.wallet.claim_key import ClaimKey, cash_out_digest
from radpool_sv2.wallet.deposit import AHEAD_MAX, SEARCH_GAP
from radpool_sv2.wallet.file import FILE_NAME
from radpool_sv2.wallet.mint import MintUnreachableError
from radpool_sv2.wallet.residue import SETTLED_MS

UNIT = 1000
"""What a unit costs at the mints here."""
RESIDUE = "/work/v1/residue"


@pytest.fixture
def mint():
    return FakeMint(unit_value=UNIT)


@pytest.fixture
async def wallet(tmp_path, mint):
    wallet = await Wallet.create(tmp_path / "w", transport=mint.transport())
    await wallet.add_mint(URL)
    yield wallet
    await wallet.close()


async def channel(wallet, mint, value=0):
    """Opens a channel and has its shares leave value over; returns its claim key."""
    key = await wallet.take_claim_key()
    await wallet.open_claim_key(key.counter, mint.key.public, Policy.WINDOW)
    if value:
        mint.leave_over(key.public, value)
    return key


def asked_for(mint):
    """Returns what was asked to be cashed out."""
    return [body for body in posts(mint, RESIDUE) if "outputs" in body]


async def units(wallet):
    return sum(line.units for line in (await wallet.balance()).epochs)


# Keys


def test_keys_are_even_points_that_sign():
    """spec: RC-20, RC-21"""
    seed = bytes(range(64))
    keys = [ClaimKey.derive(seed, counter) for counter in range(20)]
    assert len({key.public for key in keys}) == 20
    assert {key.public[0] for key in keys} == {2}
    keyset, outputs = b"\1" * 33, [(1, b"\2" * 33), (8, b"\3" * 33)]
    for key in keys:
        digest = cash_out_digest(key.public, keyset, outputs)
        assert PublicKeyXOnly(key.public[1:]).verify(key.sign(keyset, outputs), digest)
        assert repr(key) == f"ClaimKey(counter={key.counter}, public={key.public.hex()})"


@pytest.mark.parametrize("counter", [-1, 1 << 64])
def test_counters_have_bounds(counter):
    with pytest.raises(LocalProtocolError, match="64 bits"):
        ClaimKey.derive(bytes(64), counter)


async def test_each_channel_has_a_key_of_its_own(wallet, mint, tmp_path):
    """spec: RC-20. The next process goes on, whether the last one ended or died."""
    first = await wallet.take_claim_key()
    async with Wallet.using(tmp_path / "w") as other:
        second = await other.take_claim_key()
    third = await wallet.take_claim_key()
    assert [key.counter for key in (first, second, third)] == [0, 1, 2]


async def test_keys_that_no_mint_knows_are_used_again(wallet, mint):
    """spec: RC-23. Else a search by words would end before the first that holds anything."""
    given = [(await channel(wallet, mint)).counter for _ in range(2 * AHEAD_MAX)]
    assert given == [*range(AHEAD_MAX), *range(AHEAD_MAX)]
    mint.leave_over(wallet._purse.claim_key(11).public, 1)
    await wallet.cash_out()
    # What lies behind a key that the mint knows does not count.
    more = [(await channel(wallet, mint)).counter for _ in range(AHEAD_MAX)]
    assert max(more) == 11 + AHEAD_MAX < 11 + SEARCH_GAP
    assert min(more) > 11


async def test_a_key_is_noted_for_a_mint_that_is_known(wallet):
    key = await wallet.take_claim_key()
    with pytest.raises(RemoteProtocolError, match="is unknown to the wallet"):
        await wallet.open_claim_key(key.counter, b"\2" + b"\7" * 32, Policy.POOL)


async def test_a_file_of_the_first_version_is_taken_over(wallet, mint, tmp_path):
    await earn(wallet, mint, mint.open(), [1, 2])
    await wallet.close()
    with sqlite3.connect(tmp_path / "w" / FILE_NAME) as connection:
        connection.execute("DROP TABLE residue")
        connection.execute("DROP TABLE claim_key")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    async with Wallet.using(tmp_path / "w") as again:
        assert (await again.take_claim_key()).counter == 0
        [line] = (await again.balance(ask=False)).epochs
        assert line.units == 3


# Cash-out


async def test_what_is_left_over_becomes_tokens(wallet, mint):
    """spec: RC-22. All whole units, as powers of two; what is below one stays."""
    keyset_id = mint.open()
    key = await channel(wallet, mint, 13 * UNIT + 999)
    [line] = (await wallet.balance()).residues
    assert (line.mint, line.policy, line.units, line.claim_keys) == (URL, "window", 13, 1)
    [done] = await wallet.cash_out()
    assert (done.counter, done.keyset.id, done.units, done.tokens) == (0, keyset_id, 13, 3)
    assert mint.residues == {(key.public, "window"): 999}
    [body] = asked_for(mint)
    assert [row["amount"] for row in body["outputs"]] == [1, 4, 8]
    found = await wallet.balance()
    assert ([line.units for line in found.epochs], found.residues) == ([13], ())
    [event] = [each for each in await wallet.history() if each.kind == "cash-out"]
    assert (event.keyset, event.units, event.sats) == (keyset_id, 13, 0)
    assert await wallet.cash_out() == []
    mint.close(keyset_id, 13_000)
    [redeemed] = await wallet.redeem()
    assert (redeemed.sats, redeemed.reason) == (13, "")


async def test_nothing_to_cash_out(wallet, mint):
    await channel(wallet, mint)
    assert await wallet.cash_out() == []
    mint.open()
    await channel(wallet, mint, UNIT - 1)
    assert await wallet.cash_out() == []
    assert (await wallet.balance()).residues == ()
    assert asked_for(mint) == []


async def test_without_an_open_keyset_it_waits(wallet, mint):
    keyset_id = mint.open()
    await channel(wallet, mint, 5 * UNIT)
    mint.close(keyset_id, 1, work=1)
    assert await wallet.cash_out() == []
    mint.open()
    assert [done.units for done in await wallet.cash_out()] == [5]


async def test_only_the_keys_that_were_named(wallet, mint):
    mint.open()
    await channel(wallet, mint, UNIT)
    second = await channel(wallet, mint, 2 * UNIT)
    assert [done.units for done in await wallet.cash_out(mint.key.public, [second.counter])] == [2]
    assert await wallet.cash_out(b"\2" * 33) == []
    assert [done.units for done in await wallet.cash_out()] == [1]


async def test_keys_that_get_nothing_more_are_not_asked_about(wallet, mint):
    mint.open()
    old = await channel(wallet, mint, UNIT + 1)
    await wallet.cash_out()
    later_ms = wallet._purse.clock_ms() + SETTLED_MS + 1
    wallet._purse.clock_ms = lambda: later_ms
    young = await channel(wallet, mint)
    await wallet.cash_out()
    mint.log.clear()
    await wallet.cash_out()
    assert [body["claim_key"] for body in posts(mint, RESIDUE)] == [young.public.hex()]
    # A channel that has the key again is asked for again.
    await wallet.open_claim_key(old.counter, mint.key.public, Policy.WINDOW)
    mint.leave_over(old.public, UNIT)
    assert [done.units for done in await wallet.cash_out()] == [1]


async def test_keyset_that_closes_meanwhile(wallet, mint):
    """spec: RC-22"""
    first = mint.open()
    await channel(wallet, mint, 5 * UNIT)

    def close(path, body):
        if path == RESIDUE and "outputs" in body and mint.epochs[first].state != FINAL:
            mint.close(first, 1, work=1)
            mint.following = mint.open()

    mint.on_request = close
    [done] = await wallet.cash_out()
    assert (done.keyset.id, done.units, done.reason) == (mint.following, 5, "")
    assert len(asked_for(mint)) == 2


async def test_units_that_change_meanwhile(wallet, mint):
    mint.open()
    key = await channel(wallet, mint, 5 * UNIT)

    def take_some(path, body):
        if path == RESIDUE and "outputs" in body and len(asked_for(mint)) == 1:
            mint.leave_over(key.public, -2 * UNIT)

    mint.on_request = take_some
    assert [done.units for done in await wallet.cash_out()] == [3]
    assert await units(wallet) == 3


# Answers that get lost


async def test_lost_answer_is_asked_for_again(wallet, mint, tmp_path):
    """spec: RC-22. attack: A1. The same request; nothing is lost or had twice."""
    mint.open()
    await channel(wallet, mint, 13 * UNIT)

    def lose(path, body, _):
        if path == RESIDUE and "outputs" in body:
            raise httpx.ReadError("gone")

    mint.on_answer = lose
    with pytest.raises(MintUnreachableError):
        await wallet.cash_out()
    await wallet.close()
    mint.on_answer = None
    async with Wallet.using(tmp_path / "w") as again:
        again._transport = mint.transport()
        notes = []
        assert await again.cash_out(notes=notes) == []
        assert "an interrupted cash-out is finished now" in notes
        assert await units(again) == 13
    first, second = asked_for(mint)
    assert first == second


async def test_lost_request_is_made_again(wallet, mint):
    mint.open()
    await channel(wallet, mint, 6 * UNIT)

    def lose(path, body):
        if path == RESIDUE and "outputs" in body:
            raise httpx.ConnectError("gone")

    mint.on_request = lose
    with pytest.raises(MintUnreachableError):
        await wallet.cash_out()
    mint.on_request = None
    # A share has come since; the keyset is still open.
    mint.leave_over(wallet._purse.claim_key(0).public, 2 * UNIT)
    assert [done.units for done in await wallet.cash_out()] == [2]
    assert await units(wallet) == 8


async def test_lost_request_whose_keyset_has_closed(wallet, mint):
    """What was never signed is asked for again, in the keyset that is open now."""
    first = mint.open()
    await channel(wallet, mint, 6 * UNIT)

    def lose(path, body):
        if path == RESIDUE and "outputs" in body:
            raise httpx.ConnectError("gone")

    mint.on_request = lose
    with pytest.raises(MintUnreachableError):
        await wallet.cash_out()
    mint.on_request = None
    mint.close(first, 1, work=1)
    second = mint.open()
    notes = []
    [done] = await wallet.cash_out(notes=notes)
    assert (done.keyset.id, done.units) == (second, 6)
    assert any("was not carried out" in note for note in notes)


async def test_dying_at_any_moment(tmp_path, monkeypatch):
    """spec: RC-22. attack: A1, A25"""
    at, died = 0, True
    while died:
        mint = FakeMint(unit_value=UNIT)
        directory = tmp_path / str(at)
        wallet = await Wallet.create(directory, transport=mint.transport())
        await wallet.add_mint(URL)
        mint.open()
        await channel(wallet, mint, 7 * UNIT)
        await wallet.close()

        async def work(wallet):
            await wallet.cash_out()

        died = await run_and_crash(directory, mint, Moments(at), monkeypatch, work)
        async with Wallet.using(directory) as again:
            again._transport = mint.transport()
            await again.cash_out()
            assert (await units(again), sum(mint.residues.values())) == (7, 0)
        at += 1
    assert at > 10


# From nothing but the words


async def restored(wallet, mint, directory):
    again, found = await Wallet.restore(directory, wallet.words(), URL, transport=mint.transport())
    return again, found


async def test_words_find_claim_keys(wallet, mint, tmp_path):
    """spec: RC-24. attack: A19"""
    mint.open()
    for value in (UNIT, 0, 0, 2 * UNIT):
        await channel(wallet, mint, value)
    again, found = await restored(wallet, mint, tmp_path / "again")
    assert found.claim_keys == 2
    [line] = (await again.balance(ask=False)).residues
    assert (line.units, line.claim_keys) == (3, 2)
    assert sorted(done.units for done in await again.cash_out()) == [1, 2]
    assert (await again.take_claim_key()).counter == 4
    await again.close()


@pytest.mark.parametrize("counter", [SEARCH_GAP - 1, SEARCH_GAP])
async def test_the_search_ends_after_its_gap(wallet, mint, tmp_path, counter):
    """spec: RC-24"""
    mint.open()
    mint.leave_over(wallet._purse.claim_key(counter).public, UNIT)
    again, found = await restored(wallet, mint, tmp_path / "again")
    assert found.claim_keys == (counter < SEARCH_GAP)
    await again.close()


async def test_words_find_cashed_out_tokens(wallet, mint, tmp_path):
    """spec: RC-9. They are outputs of their keyset like any others."""
    mint.open()
    await channel(wallet, mint, 11 * UNIT)
    await wallet.cash_out()
    again, found = await restored(wallet, mint, tmp_path / "again")
    assert (found.claim_keys, await units(again)) == (1, 11)
    await again.close()


async def test_old_copy_of_the_file(wallet, mint, tmp_path):
    """spec: RC-5. attack: A19"""
    mint.open()
    await channel(wallet, mint, 5 * UNIT)
    shutil.copytree(tmp_path / "w", tmp_path / "copy")
    await wallet.cash_out()
    mint.leave_over(wallet._purse.claim_key(0).public, 2 * UNIT)
    async with Wallet.using(tmp_path / "copy") as old:
        old._transport = mint.transport()
        assert [done.units for done in await old.cash_out()] == [2]
        assert await units(old) == 7


async def test_mint_that_knows_no_claim_keys(wallet, mint, tmp_path):
    def refuse(path, _):
        if path == RESIDUE:
            return httpx.Response(404, json={"error": "not-found"})
        return None

    await earn(wallet, mint, mint.open(), [1])
    await channel(wallet, mint)
    mint.on_request = refuse
    notes = []
    assert await wallet.cash_out(notes=notes) == []
    assert any("cannot be asked for" in note for note in notes)
    again, found = await restored(wallet, mint, tmp_path / "again")
    assert found.tokens == 1
    assert any("is not known" in note for note in found.notes)
    await again.close()


async def test_mint_that_claims_to_know_every_key(wallet, mint, tmp_path, monkeypatch):
    """attack: A25"""
    monkeypatch.setattr("radpool_sv2.wallet.residue.KEYS_MAX", 50)

    def know(path, _, answer):
        if path == RESIDUE:
            row = {"policy": "pool", "keyset_id": None, "units": 0}
            return {"known": True, "residues": [row | {"unit_value": "0", "value": "0"}]}
        return answer

    mint.on_answer = know
    again, found = await restored(wallet, mint, tmp_path / "again")
    assert found.claim_keys == 50
    await again.close()


# Mints that keep it


def changed(**fields):
    """Returns an `on_answer` that spoils what the mint says it holds."""

    def spoil(path, body, answer):
        if path == RESIDUE and "outputs" not in body:
            return answer | {"residues": [row | fields for row in answer["residues"]]}
        return answer

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        changed(units=4),
        changed(units=6),
        changed(unit_value="0"),
        changed(unit_value="1001"),
        changed(value="4999"),
        changed(value="05000"),
        changed(value="-5000"),
        changed(value=str(1 << 128)),
        changed(policy="other"),
        changed(keyset_id="00"),
        changed(units=5.0),
        lambda *_: {"known": False, "residues": []} | {"known": True},
        lambda path, _, answer: (
            {"known": True, "residues": answer["residues"] * 2} if path == RESIDUE else answer
        ),
    ],
)
async def test_figures_that_contradict_each_other(wallet, mint, spoil):
    """spec: RC-25"""
    mint.open()
    await channel(wallet, mint, 5 * UNIT)
    mint.on_answer = lambda path, *rest: spoil(path, *rest) if path == RESIDUE else None
    with pytest.raises(RemoteProtocolError, match=r"answered|wrote"):
        await wallet.cash_out()
    assert any("as of the last time" in note for note in (await wallet.balance()).notes)
    mint.on_answer = None
    assert [done.units for done in await wallet.cash_out()] == [5]


def signed(change):
    """Returns an `on_answer` that spoils the signatures of a cash-out."""

    def spoil(path, body, answer):
        if path == RESIDUE and "outputs" in body and "signatures" in answer:
            answer = json.loads(json.dumps(answer))
            return change(answer["signatures"]) or answer
        return None

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        signed(lambda rows: rows.pop() and None),
        signed(lambda rows: rows[0].update(amount=2)),
        signed(lambda rows: rows[0].pop("dleq") and None),
        signed(lambda rows: rows[0]["dleq"].update(e="11" * 32)),
        signed(lambda rows: rows[0].update(C_=rows[1]["C_"])),
        signed(lambda rows: rows.reverse()),
    ],
)
async def test_less_than_was_asked_for(wallet, mint, spoil):
    """spec: RC-22. attack: A7. Nothing unproven is kept; what is proven later, is."""
    mint.open()
    await channel(wallet, mint, 5 * UNIT)
    mint.on_answer = spoil
    with pytest.raises(RemoteProtocolError, match=r"did not prove|not the 2 amounts"):
        await wallet.cash_out()
    mint.on_answer = None
    assert await wallet.cash_out() == []
    assert await units(wallet) == 5
    first, second = asked_for(mint)
    assert first == second


@pytest.mark.parametrize("code", ["amount-mismatch", "epoch-closed", "invalid-signature"])
async def test_mint_that_tells_of_units_and_does_not_sign(wallet, mint, code):
    """spec: RC-25. It is said, and asked for again the next time."""
    keyset_id = mint.open()
    await channel(wallet, mint, 5 * UNIT)
    honest = mint._cash_out

    def refuse(*_):
        raise Refused(code)

    mint._cash_out = refuse
    [done] = await wallet.cash_out()
    assert (done.keyset, done.units) == (None, 0)
    assert code in done.reason
    mint._cash_out = honest
    assert [done.units for done in await wallet.cash_out()] == [5]
    # Refusals leave no gap behind.
    assert (await wallet.keyset(keyset_id)).next_counter == 2


async def test_keyset_of_another_mint(wallet, mint):
    """spec: RC-7. A claim key signs for no keyset that another mint has shown."""
    other = FakeMint(secret=b"\x22" * 32, url="http://other.example", unit_value=UNIT)
    theirs = other.open()
    await wallet.trust(other.epochs[theirs].announcement, other.key.public, other.url)
    keys = other.epochs[theirs].keys
    mint.epochs[theirs] = Epoch(keys, announce(mint.key, keys, z0=mint.z0))
    await channel(wallet, mint, 5 * UNIT)
    with pytest.raises(RemoteProtocolError, match="shows it as its own"):
        await wallet.cash_out(mint.key.public)
    assert asked_for(mint) == []

"""A second client at a real pool: the peer, which knows the specification and nothing of ours."""

import hashlib
import sqlite3
import sys
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import list_chain
import pytest
import trio
from ecash_pool import COINBASE_MATURITY, MATURITY, ecash_pool
from peer import ecash_message as wire
from peer.ecash import Seed, worth_msat
from peer.ecash_session import (
    FIXED,
    LAZY,
    NETWORK,
    POOL,
    WINDOW,
    EcashSession,
    RefusedError,
    powers_of_two,
)
from peer.message import Message

from radpool_sv2.web.server import serve_http

FINAL = 3
RESIDUE = "/work/v1/residue"


def wallet(name):
    return Seed(hashlib.sha512(name.encode()).digest())


@asynccontextmanager
async def visiting(pool, seed, *, number=0):
    """Connects a peer that has negotiated the extension."""
    client = await pool.connect()
    assert (await client.set_up()).name == "SetupConnectionSuccess"
    wanted = [wire.EXTENSION]
    await client.send(Message("RequestExtensions", request_id=1, requested_extensions=wanted))
    await client.expect("RequestExtensionsSuccess")
    try:
        yield EcashSession(client, pool.msp_key, seed, seed=number)
    finally:
        await client.aclose()


async def earn(peer, channel, count, *, by_tlv=False):
    """Mines shares one by one; each must bring its token or its receipt."""
    for _ in range(count):
        share = peer.mine(channel)
        await peer.claim(share, by_tlv=by_tlv)
        await peer.answered(share)
        while any(each[0] == share.message.sequence_number for each in channel.outstanding):
            await peer.receive()


async def find_block(pool, peer, channel):
    """The peer's next share is a block."""
    height, zeros = pool.chain.height, pool.chain.block_zeros
    await pool.chain.ask_for(channel.z)
    before = channel.active
    while channel.active == before:
        await peer.receive()
    share = peer.mine(channel)
    await peer.claim(share)
    await peer.answered(share)
    await pool.until(lambda: pool.chain.height > height)
    await pool.until(lambda: pool.ledger.current_epoch > 1)
    await pool.chain.ask_for(zeros)
    return share.hash


async def final(pool, peer, keyset):
    """The chain goes on until the keyset has its price; returns its last update."""
    await pool.until(lambda: pool.state(keyset) != 0)
    await pool.chain.extend(MATURITY - 1)
    await pool.until(lambda: pool.state(keyset) == FINAL)
    while peer.updates.get(keyset, {}).get("state") != FINAL:
        await peer.receive()
    return peer.updates[keyset]


def test_the_peer_knows_nothing_of_ours():
    """What judges the pool imports nothing of it: an error cannot hide behind its twin."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "peer" and module.__file__:
            text = Path(module.__file__).read_text(encoding="utf-8")
            assert "import radpool_sv2" not in text, name
            assert "from radpool_sv2" not in text, name


def opened(pool):
    """Opens the pool's file as another process does; whoever writes just then is waited for."""
    return sqlite3.connect(pool.config.ledger.file, timeout=60)


@pytest.mark.parametrize("by_tlv", [False, True], ids=["message", "tlv"])
async def test_shares_earn_tokens_in_both_forms(tmp_path, by_tlv):
    """spec: EW-1, EW-5, EW-6, EW-7, EW-8, EW-9, EW-14, EW-15, EW-17, EW-26, EW-27"""
    async with ecash_pool(tmp_path) as pool, visiting(pool, wallet("alice")) as peer:
        channel = await peer.open_ecash(WINDOW)
        await earn(peer, channel, 4, by_tlv=by_tlv)
        assert [token.z for token in peer.tokens] == [channel.z] * 4
        assert len({token.signature for token in peer.tokens}) == 4
        assert channel.accepted == 4
        assert channel.work == 4 * 2**channel.z
        assert await pool.shares() == 4


async def test_a_claim_that_was_never_answered_is_fetched_later(tmp_path):
    """spec: EW-21, EW-22, EW-28, RC-11, RC-16

    attack: A25
    """
    seed = wallet("bob")
    async with ecash_pool(tmp_path) as pool:
        async with visiting(pool, seed) as peer:
            channel = await peer.open_ecash(POOL)
            await earn(peer, channel, 2)
            known, keyset = list(peer.tokens), peer.terms[channel.id].keyset
            await peer.claim(peer.mine(channel))
            await pool.until(lambda: pool.mint.keyset(keyset).work == 3 * 2 ** (channel.z - 4))
        async with visiting(pool, seed, number=1) as again:
            await again.send_extended("EcashKeysetRequest", keyset_id=keyset)
            await again.hear("EcashKeysetAnnounce")
            outputs = [again.output(keyset) for _ in range(5)]
            answer = await again.fetch(keyset, outputs)
            assert [row["index"] for row in answer["signatures"]] == [0, 1, 2]
            assert (answer["pending"], answer["unknown"]) == ([], [3, 4])
            assert again.tokens[:2] == known
            assert await again.fetch(keyset, outputs) == {**answer, "request_id": 2}


async def test_a_lazy_channel_owes_by_a_signed_root(tmp_path):
    """spec: EW-15, EW-18, RC-15

    attack: A8
    """
    async with ecash_pool(tmp_path) as pool, visiting(pool, wallet("carol")) as peer:
        channel = await peer.open_ecash(WINDOW, sign_modes=2)
        terms = peer.terms[channel.id]
        assert terms.sign_mode == LAZY
        await earn(peer, channel, 3)
        await earn(peer, channel, 2, by_tlv=True)
        assert peer.tokens == []
        await peer.fetch(terms.keyset, terms.owed)
        assert len(peer.tokens) == 5


async def test_tokens_are_swapped_and_redeemed_after_a_block(tmp_path):
    """spec: EW-23, EW-24, EW-29, ES-3, ES-8, ES-11, ES-12, ES-13, WT-21, WT-23"""
    async with ecash_pool(tmp_path) as pool, visiting(pool, wallet("dora")) as peer:
        channel = await peer.open_ecash(POOL)
        keyset = peer.terms[channel.id].keyset
        await earn(peer, channel, 4)
        await earn(peer, channel, 2, by_tlv=True)
        block = await find_block(pool, peer, channel)
        units = sum(peer.keysets[keyset].units(token.z) for token in peer.tokens)
        assert len(peer.tokens) == 7

        # Many small tokens become few before they are worth anything.
        await peer.spend(peer.tokens, keyset, powers_of_two(units))
        assert len(peer.tokens) == len(powers_of_two(units))
        sat_keyset = await peer.learn_keysets()
        with pytest.raises(RefusedError, match="epoch-open"):
            await peer.spend(peer.tokens, sat_keyset, [1])

        update = await final(pool, peer, keyset)
        assert update["block_hash"] == block
        # The swap did not change what the price is divided by.
        assert update["work_total"] == units
        assert update["redeem_after_height"] == update["height"] + COINBASE_MATURITY - 1
        sats = worth_msat(update["theta_msat"], update["work_total"], units) // 1000
        with pytest.raises(RefusedError, match="immature"):
            await peer.spend(peer.tokens, sat_keyset, powers_of_two(sats))
        await pool.chain.extend(COINBASE_MATURITY)
        await pool.until(lambda: pool.is_mature(keyset))
        work = list(peer.tokens)
        with pytest.raises(RefusedError, match="amount-mismatch"):
            await peer.spend(work, sat_keyset, powers_of_two(sats + 1))
        # Confirmations are written down some twice a second, after the height is known.
        answer = None
        with trio.fail_after(60):
            while answer is None:
                try:
                    answer = await peer.spend(work, sat_keyset, powers_of_two(sats))
                except RefusedError as refused:
                    assert refused.code == "immature"
                    await trio.sleep(0.05)
        assert (answer["price_num"], answer["price_den"]) == (update["theta_msat"], units)
        assert sum(2**token.z for token in peer.tokens) == sats
        with pytest.raises(RefusedError, match="already-spent"):
            await peer.spend(work, sat_keyset, powers_of_two(sats))
        assert {token.keyset for token in peer.tokens} == {sat_keyset}


async def test_a_refused_claim_is_claimed_again(tmp_path):
    """spec: EW-12, EW-19, EW-20, WT-16, WT-17, WT-19

    attack: A2, A3
    """
    async with ecash_pool(tmp_path) as pool, visiting(pool, wallet("erin")) as peer:
        channel = await peer.open_ecash(WINDOW)
        first, second = peer.mine(channel), peer.mine(channel)
        output = await peer.claim(first)
        await peer.answered(first)
        await peer.claim(second, output=output)
        with pytest.raises(RefusedError, match="blinded-message-reused"):
            await peer.answered(second)
        assert await pool.shares() == 2
        await peer.claim(second)
        answer = await peer.answered(second)
        assert answer.fields["new_submits_accepted_count"] == 0
        # The very same share and claim: the very same receipt.
        channel.outstanding.clear()
        await peer.claim(first, output=output)
        await peer.answered(first)
        assert peer.tokens[0] == peer.tokens[2] != peer.tokens[1]
        # The same share for another token: refused.
        channel.outstanding.clear()
        await peer.claim(first)
        with pytest.raises(RefusedError, match="duplicate-share"):
            await peer.answered(first)
        assert await pool.shares() == 2


async def test_two_policies_on_one_connection(tmp_path):
    """spec: ES-1, ES-2, EW-28"""
    async with ecash_pool(tmp_path) as pool, visiting(pool, wallet("faye")) as peer:
        channels = [await peer.open_ecash(policy) for policy in (NETWORK, POOL)]
        for channel in channels:
            await earn(peer, channel, 1)
        assert len({token.keyset for token in peer.tokens}) == 2
        sat_keyset = await peer.learn_keysets()
        units = {peer.keysets[token.keyset].fields["unit"] for token in peer.tokens}
        assert units == {"work"}
        assert peer.keysets[sat_keyset].fields["unit"] == "sat"


async def test_a_middleman_that_swaps_the_claim_is_found(tmp_path):
    """The token is for somebody else's message: its proof fails at the first share.

    attack: A17

    spec: RC-12, RC-13
    """
    async with ecash_pool(tmp_path) as pool, visiting(pool, wallet("gina")) as peer:
        channel = await peer.open_ecash(WINDOW)
        terms = peer.terms[channel.id]
        share, own = peer.mine(channel), peer.output(terms.keyset)
        await peer.claim(share, output=wallet("mallory").output(terms.keyset, 0))
        # What the victim believes to have sent.
        terms.waiting[share.message.sequence_number] = (share, own)
        with pytest.raises(AssertionError, match="the proof shows nothing"):
            await peer.answered(share)
        assert peer.tokens == []


@pytest.mark.parametrize("policy", [NETWORK, POOL, WINDOW, FIXED])
async def test_every_policy_signs_for_the_tag(tmp_path, policy):
    """spec: EW-5, EW-7, WT-12"""
    async with ecash_pool(tmp_path) as pool, visiting(pool, wallet("hugo")) as peer:
        channel = await peer.open_ecash(policy)
        await earn(peer, channel, 2)
        assert {token.z for token in peer.tokens} == {channel.z}


async def test_a_claim_is_on_disk_before_its_answer(tmp_path):
    """spec: EW-11, WT-18, WT-20

    attack: A25
    """
    async with ecash_pool(tmp_path) as pool, visiting(pool, wallet("lou")) as peer:
        channel = await peer.open_ecash(WINDOW)
        share = peer.mine(channel)
        output = await peer.claim(share)
        await peer.answered(share)
        # Another process's view of the file: what is committed, and nothing else.
        with closing(opened(pool)) as file:
            rows = file.execute("SELECT message FROM blinded").fetchall()
        assert rows == [(output.blinded,)]
        # A claim that is refused leaves its share in the books, to be claimed later.
        kept = peer.mine(channel)
        await peer.claim(kept, output=output)
        with pytest.raises(RefusedError, match="blinded-message-reused"):
            await peer.answered(kept)
        with closing(opened(pool)) as file:
            [(count,)] = file.execute("SELECT COUNT(*) FROM unclaimed").fetchall()
        assert (count, await pool.shares()) == (1, 2)
        await peer.claim(kept)
        await peer.answered(kept)
        assert len(peer.tokens) == 2


async def test_no_claim_is_looked_at_before_its_work(tmp_path):
    """spec: EW-10

    attack: A16
    """
    async with ecash_pool(tmp_path) as pool, visiting(pool, wallet("mia")) as peer:
        channel = await peer.open_ecash(WINDOW)
        share = peer.mine(channel, good=False)
        nothing = replace(peer.output(peer.terms[channel.id].keyset), blinded=bytes(33))
        await peer.claim(share, output=nothing)
        with pytest.raises(RefusedError, match="difficulty-too-low"):
            await peer.answered(share)
        assert await pool.shares() == 0


async def test_a_full_keyset_takes_no_claim(tmp_path):
    """Units stay below 2^63, so no residue comes to be: spec: WT-14, WT-24

    attack: A14
    """
    async with ecash_pool(tmp_path) as pool, visiting(pool, wallet("nell")) as peer:
        channel = await peer.open_ecash(POOL)
        keyset = pool.mint.keyset(peer.terms[channel.id].keyset)
        fill = "UPDATE keyset SET work = ? WHERE id = ?"
        with closing(opened(pool)) as file, file:
            # Of this one alone: at a fixed price so much work is worth more than 64 bits hold.
            file.execute(fill, (2**63 - 1, keyset.id))
        share = peer.mine(channel)
        await peer.claim(share)
        with pytest.raises(RefusedError, match="epoch-closed"):
            await peer.answered(share)
        assert await pool.shares() == 1
        with closing(opened(pool)) as file, file:
            file.execute(fill, (2**63 - 1 - 2 ** (channel.z - 4), keyset.id))
        # Another keyset may have been announced meanwhile: a full one is replaced.
        await peer.claim(share, output=peer.output(keyset.id))
        await peer.answered(share)
        assert [token.keyset for token in peer.tokens] == [keyset.id]


@asynccontextmanager
async def asking(pool):
    """Serves the mint over HTTP to a client."""
    books = SimpleNamespace(
        ledger=pool.ledger, declarers=None, registrations=None, sv1_clients=None
    )
    serve = partial(
        serve_http, books, "127.0.0.1", 0, mint=pool.mint, requests_max=64, request_deadline_s=60
    )
    async with trio.open_nursery() as nursery:
        host, port = await nursery.start(serve)
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=60) as http:
            yield http
        nursery.cancel_scope.cancel()


async def held(http, key):
    """What the mint says that it holds under a claim key."""
    answer = (await http.post(RESIDUE, json={"claim_key": key.point.hex()})).json()
    assert answer["known"]
    [row] = answer["residues"]
    return row


def cash_out(key, keyset, outputs):
    """Writes the request for amounts and the outputs that they are for."""
    signed = [(amount, output.blinded) for amount, output in outputs]
    return {
        "claim_key": key.point.hex(),
        "keyset_id": keyset.hex(),
        "outputs": [
            {"amount": amount, "id": keyset.hex(), "B_": blinded.hex()}
            for amount, blinded in signed
        ],
        "signature": key.sign(keyset, signed).hex(),
    }


async def test_value_that_no_token_stands_for_is_had(tmp_path, monkeypatch):
    """spec: EW-16, WT-13, RC-21, RC-22. Tokens and cash-out make up all value but a part unit."""
    # The subsidy is so small here that templates pay a twelfth more.
    monkeypatch.setattr(list_chain, "BASE_HEIGHT", 2_000)
    chain = list_chain.ListChain()
    chain.block_zeros = 30
    seed = wallet("by value")
    key, other = seed.claim_key(0), seed.claim_key(1)
    async with (
        ecash_pool(tmp_path / "pool", chain, weight__mode="value") as pool,
        asking(pool) as http,
        visiting(pool, seed) as peer,
    ):
        listed = (await http.get("/work/v1/keysets?offset=0&limit=100")).json()["keysets"]
        [peer.unit_value] = {int(row["unit_value"]) for row in listed}
        channel = await peer.open_ecash(WINDOW, claim_key=key.point)
        await earn(peer, channel, 8)
        await earn(peer, channel, 2, by_tlv=True)
        [terms] = peer.terms.values()
        keyset = peer.keysets[terms.keyset]
        value = sum(row.value for row in await pool.ledger.sums([1]))
        had = sum(keyset.units(token.z) for token in peer.tokens)
        told = await held(http, key)
        assert had * peer.unit_value + int(told["value"]) == value
        assert told["units"] == int(told["value"]) // peer.unit_value > 0

        amounts = powers_of_two(told["units"])
        wanted = [(amount, peer.output(keyset.id)) for amount in amounts]
        asked = cash_out(key, keyset.id, wanted)
        forged = asked | {"signature": other.sign(keyset.id, []).hex()}
        refused = await http.post(RESIDUE, json=forged)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid-signature")
        answer = (await http.post(RESIDUE, json=asked)).json()
        for (amount, output), row in zip(wanted, answer["signatures"], strict=True):
            assert row["amount"] == amount
            parts = {"C_": row["C_"], "e": row["dleq"]["e"], "s": row["dleq"]["s"]}
            z = terms.z0 + amount.bit_length() - 1
            peer.take_token(output, z, {name: bytes.fromhex(text) for name, text in parts.items()})
        assert int(answer["value"]) == int(told["value"]) - told["units"] * peer.unit_value
        # The same again is the same; there is no more of it.
        assert (await http.post(RESIDUE, json=asked)).json()["signatures"] == answer["signatures"]
        assert (await held(http, key))["units"] == 0
        more = await http.post(
            RESIDUE, json=cash_out(key, keyset.id, [(1, peer.output(keyset.id))])
        )
        assert more.json()["error"] == "amount-mismatch"
        # What was had is found and spent like any other output.
        tokens = list(peer.tokens)
        found = await peer.fetch(keyset.id, [output for _, output in wanted])
        assert peer.tokens == tokens + tokens[-len(wanted) :]
        peer.tokens = tokens
        assert [row["amount"] for row in found["signatures"]] == amounts
        last = peer.tokens[-1]
        await peer.spend([last], keyset.id, [keyset.units(last.z)])

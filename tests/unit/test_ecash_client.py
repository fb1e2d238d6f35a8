"""The miner's side of the ecash extension: what it accepts, what it refuses, when it stops."""

import json
from dataclasses import replace

import pytest
import trio
from miner_rig.machine import Machine
from miner_rig.mint import (
    KEYS,
    Z0,
    Keyset,
    ScriptedMint,
    answer,
    bare,
    fetched,
    fetched_signature,
    receipt,
)
from radpool_sv2_extensions.ecash import message as wire
from radpool_sv2_extensions.ecash.client import EcashMiner, open_side
from radpool_sv2_extensions.ecash.running import FILE
from radpool_sv2_extensions.ecash.witness import UnreachableError, Witness

from radpool_sv2._native.ecash import KeysetKeys
from radpool_sv2._native.ledger import MspKey
from radpool_sv2.errors import ConfigError, RemoteProtocolError
from radpool_sv2.miner.side import SideOptions, find_side
from radpool_sv2.wallet import Wallet

WORDS = (
    "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
)


@pytest.fixture
def mint():
    return ScriptedMint()


@pytest.fixture
async def wallet(tmp_path):
    wallet = await Wallet.create(tmp_path / "wallet", words=WORDS)
    yield wallet
    await wallet.close()


def options(tmp_path, **change):
    return SideOptions(
        **(
            {
                "directory": tmp_path / "wallet",
                "policy": None,
                "sign_mode": "eager",
                "unsigned_max": 3,
                "mint_url": None,
            }
            | change
        )
    )


@pytest.fixture
def side(wallet, tmp_path):
    return EcashMiner(wallet, options(tmp_path))


@pytest.fixture
def machine(side):
    return Machine(side)


def notes(side):
    return " | ".join(text for _, text in side.events())


async def mine(machine, keyset, count):
    """Has the pool sign `count` shares, one after the other."""
    for _ in range(count):
        [number] = machine.find()
        await machine.hear(answer([receipt(keyset, number, machine.blinded(number), Z0)]))


# --- the ordinary way ---


async def test_terms_say_what_the_user_wants(wallet, tmp_path):
    """spec: EW-1"""
    any_policy = EcashMiner(wallet, options(tmp_path))
    assert any_policy._policies == 0b1111
    fixed = EcashMiner(wallet, options(tmp_path, policy="fixed", sign_mode="lazy"))
    assert (fixed._policies, fixed._sign_mode) == (0b1000, 2)
    assert fixed.carrier is not None


async def test_nothing_is_submitted_before_the_keyset_was_announced(machine, side, mint):
    """spec: EW-8"""
    keyset = mint.open()
    await machine.open(mint.terms(keyset))
    assert not machine.find()
    await machine.hear(keyset.announcement)
    assert machine.find()


async def test_share_earns_a_token(machine, side, mint, wallet):
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    [number] = machine.find(1, exponent=Z0 + 3)
    assert machine.sent[number].keyset_short == keyset.id[:8]
    await machine.hear(answer([receipt(keyset, number, machine.blinded(number), Z0 + 3)]))
    figures = side.figures()
    assert (figures["tokens"], figures["units"], figures["unsigned"]) == (1, 8, 0)
    assert figures["policy"] == "window" and figures["keyset"] == keyset.id.hex()
    assert dict(side.rows())["tokens"] == "1 worth 8 units of work"
    counters = {output.counter for output in await wallet.missing(keyset.id)}
    assert 0 not in counters


async def test_every_share_has_a_claim_of_its_own(machine, side, mint):
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    await mine(machine, keyset, 40)
    blinded = [claim.blinded for claim in machine.sent.values()]
    assert len(set(blinded)) == len(blinded) == 40
    assert side.figures()["tokens"] == 40


async def test_more_may_be_under_way_for_each_share_that_was_signed(machine, side, mint):
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    assert len(machine.queue) == 3
    await mine(machine, keyset, 5)
    assert len(machine.queue) == 8
    await mine(machine, keyset, 40)
    assert len(machine.queue) == 32, "what a crash may leave unsent is bounded"


async def test_residue_may_make_a_token_larger_than_its_share(machine, side, mint):
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    [number] = machine.find()
    await machine.hear(answer([receipt(keyset, number, machine.blinded(number), Z0 + 1)]))
    assert (side.figures()["units"], side.claims.unsigned) == (2, 0)


# --- pools that do not sign ---


async def test_pool_that_never_signs_gets_no_more_than_k_shares(machine, side, mint):
    """attack: A8. Accepted without a receipt: the miner stops within K shares and says why.

    spec: RC-14
    """
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    taken = 0
    for _ in range(10):
        for number in machine.find(100):
            taken += 1
            await machine.hear(answer([], last=number, count=1))
    assert taken == 3
    assert "nothing more is submitted: 3 shares have no token" in notes(side)
    assert "accepted without a token" in side.figures()["held"]
    assert side.figures()["unsigned_reasons"] == {"accepted without a token": 3}


async def test_pool_that_never_answers_gets_no_more_than_k_shares(
    machine, side, mint, autojump_clock
):
    """attack: A8. Silence is a withheld signature too."""
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    assert len(machine.find(100)) == 3
    await machine.hear()
    assert side.claims.unsigned == 0, "an answer may still come"
    await trio.sleep(10)
    await machine.hear()
    assert side.claims.unsigned == 3 and not machine.find()
    assert "not answered for 10 s" in side.figures()["held"]


async def test_receipt_without_a_signature_counts_as_unsigned(machine, side, mint):
    """attack: A8"""
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    numbers = machine.find(3)
    await machine.hear(answer([bare(number) for number in numbers]))
    assert side.claims.unsigned == 3 and not machine.find()


async def test_token_of_less_than_the_share_counts_as_unsigned_and_is_kept(machine, side, mint):
    """attack: A8. A residue makes tokens larger, never smaller: less is a part withheld."""
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    [number] = machine.find(1, exponent=Z0 + 5)
    await machine.hear(answer([receipt(keyset, number, machine.blinded(number), Z0 + 4)]))
    assert (side.figures()["units"], side.claims.unsigned) == (16, 1)
    [number] = machine.find(1)
    await machine.hear(answer([bare(number, wire.NO_TOKEN)]))
    assert side.claims.unsigned == 2


async def test_held_miner_goes_on_when_the_pool_signs(machine, side, mint, autojump_clock):
    """spec: RC-14, RC-16"""
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    numbers = machine.find(3)
    await machine.hear(answer([], last=numbers[-1], count=3))
    [request] = machine.asked(wire.RedeemSharesEcash)
    wanted = [machine.blinded(number) for number in numbers]
    assert (request.mode, request.keyset_id, list(request.claims)) == (0, keyset.id, wanted)
    signatures = [fetched_signature(keyset, index, wanted[index], Z0) for index in range(3)]
    await machine.hear(fetched(request, signatures))
    assert (side.claims.unsigned, side.figures()["tokens"]) == (0, 3)
    assert "the pool has signed" in notes(side)
    assert machine.find()


async def test_share_that_the_mint_cannot_sign_now_is_fetched_later(
    machine, side, mint, autojump_clock
):
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    [number] = machine.find()
    await machine.hear()
    await machine.refuse(number, "mint-unavailable", again=False)
    assert side.figures()["unsigned_reasons"] == {"accepted while the mint could not sign": 1}
    await trio.sleep(5)
    await machine.hear()
    [request] = machine.asked(wire.RedeemSharesEcash)
    assert request.claims == (machine.blinded(number),)
    await machine.hear(fetched(request, pending=[0]))
    assert side.claims.unsigned == 1
    await trio.sleep(60)
    await machine.hear()
    [request] = machine.asked(wire.RedeemSharesEcash)
    signature = fetched_signature(keyset, 0, machine.blinded(number), Z0)
    await machine.hear(fetched(request, [signature]))
    assert (side.claims.unsigned, side.figures()["tokens"]) == (0, 1)


@pytest.fixture
async def unavailable(machine, side, mint, autojump_clock):
    """A share whose claim the mint could not take is to go out again: the keyset, its number."""
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    [number] = machine.find()
    await machine.hear()
    await machine.refuse(number, "mint-unavailable", again=True, lapse=True)
    return keyset, number


async def test_share_goes_out_again_when_the_mint_was_unavailable(machine, side, unavailable):
    """spec: EW-12. The mint is asked first whether it has the claim after all."""
    keyset, number = unavailable
    assert side.figures()["unsigned_reasons"] == {"accepted while the mint could not sign": 1}
    assert "shares wait for 10 s" in notes(side)
    [request] = machine.asked(wire.RedeemSharesEcash)
    assert request.claims == (machine.blinded(number),)
    await machine.hear(fetched(request, unknown=[0]))
    assert (side.claims.unsigned, machine.find()) == (0, [])
    await trio.sleep(10)
    await machine.hear()
    [again] = machine.find(again=number)
    assert machine.blinded(again) != machine.blinded(number)
    receipts = [receipt(keyset, again, machine.blinded(again), Z0)]
    await machine.hear(answer(receipts, count=0, last=again))
    assert (side.figures()["tokens"], side.figures()["kept"], side.claims.unsigned) == (1, 0, 0)
    await mine(machine, keyset, 1)


async def test_share_waits_until_it_is_known_whether_the_mint_has_its_claim(
    machine, side, unavailable
):
    """spec: EW-22. A second claim for it would be refused if the first one was stored."""
    keyset, number = unavailable
    [request] = machine.asked(wire.RedeemSharesEcash)
    await trio.sleep(20)
    await machine.hear()
    assert not machine.find()
    signature = fetched_signature(keyset, 0, machine.blinded(number), Z0)
    await machine.hear(fetched(request, [signature]))
    assert (side.claims.unsigned, side.figures()["tokens"]) == (0, 1)
    [again] = machine.find(again=number)
    await machine.hear()
    await machine.refuse(again, "duplicate-share", again=False)
    assert (side.claims.unsigned, side.figures()["kept"]) == (0, 0), "it has its token"


@pytest.mark.parametrize("end", ["refusal", "connection", "connection in doubt"])
async def test_share_that_the_mint_was_never_available_for_is_kept(
    machine, side, mint, unavailable, end
):
    """attack: A8"""
    keyset, number = unavailable
    [request] = machine.asked(wire.RedeemSharesEcash)
    if end != "connection in doubt":
        await machine.hear(fetched(request, unknown=[0]))
    if end == "refusal":
        await trio.sleep(10)
        await machine.hear()
        [again] = machine.find(again=number)
        await machine.hear()
        await machine.refuse(again, "mint-unavailable", again=False, lapse=True)
    else:
        await machine.end()
        await machine.open(mint.terms(keyset), keyset)
    for request in machine.asked(wire.RedeemSharesEcash):
        await machine.hear(fetched(request, unknown=range(len(request.claims))))
    assert (side.figures()["kept"], side.figures()["tokens"]) == (1, 0)


async def test_pool_that_refuses_to_look_is_asked_again_when_it_says(
    machine, side, mint, autojump_clock
):
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    numbers = machine.find(3)
    await machine.hear(answer([], last=numbers[-1], count=3))
    await trio.sleep(3)
    await machine.hear()
    [request] = machine.asked(wire.RedeemSharesEcash)
    await machine.hear(wire.RedeemSharesEcashError(request.request_id, "rate-limited", 30))
    await trio.sleep(29)
    await machine.hear()
    assert not machine.asked(wire.RedeemSharesEcash)
    await trio.sleep(2)
    await machine.hear()
    assert machine.asked(wire.RedeemSharesEcash)


# --- pools that cheat ---


async def test_signature_by_another_key_ends_the_run(machine, side, mint):
    """attack: A7. The key of the next exponent signs: found with the first share.

    spec: RC-13, RC-12
    """
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    [number] = machine.find()
    signature = keyset.sign(machine.blinded(number), Z0 + 1)
    with pytest.raises(RemoteProtocolError, match="not by the announced keys"):
        await machine.hear(answer([wire.Receipt(number, Z0, *signature)]))
    assert side.figures()["tokens"] == 0


@pytest.mark.parametrize("at", range(3))
async def test_signature_with_a_wrong_proof_ends_the_run(machine, side, mint, at):
    """attack: A6. A right C_ by a key that no proof binds to the announced one is a mark."""
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    [number] = machine.find()
    parts = list(keyset.sign(machine.blinded(number), Z0))
    other = list(keyset.sign(keyset.keys.public[3][1], Z0))
    parts[at] = other[at]
    with pytest.raises(RemoteProtocolError, match="not by the announced keys"):
        await machine.hear(answer([wire.Receipt(number, Z0, *parts)]))


async def test_wrong_signature_that_was_fetched_ends_the_run(machine, side, mint, autojump_clock):
    """attack: A7"""
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    numbers = machine.find(3)
    await machine.hear(answer([], last=numbers[-1], count=3))
    await trio.sleep(3)
    await machine.hear()
    [request] = machine.asked(wire.RedeemSharesEcash)
    wrong = fetched_signature(keyset, 0, machine.blinded(numbers[1]), Z0)
    with pytest.raises(RemoteProtocolError, match="not by the announced keys"):
        await machine.hear(fetched(request, [wrong]))


async def test_receipt_of_an_exponent_without_a_key_ends_the_run(machine, side, mint):
    """spec: RC-13"""
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    for z in (Z0 - 1, Z0 + KEYS, 200):
        [number] = machine.find()
        parts = keyset.sign(machine.blinded(number), Z0)
        with pytest.raises(RemoteProtocolError, match="not by the announced keys"):
            await machine.hear(answer([wire.Receipt(number, z, *parts)]))


@pytest.mark.parametrize(
    ("bend", "text"),
    [
        (lambda mint: mint.open(keyset_id=b"\x01" + bytes(32)), "its keys are those of"),
        (lambda mint: mint.open(keyset_id=b"\x02" + bytes(32)), "only ids of version 1"),
        (lambda mint: mint.open(z0=Z0 - 1), "its keys are those of"),
        (lambda mint: mint.open(policy=1), "opened with"),
        (lambda mint: mint.open(input_fee_ppk=1), "takes a fee"),
        (lambda mint: mint.open(price_num=1, price_den=1), "price"),
    ],
)
async def test_keyset_that_is_not_what_it_says_ends_the_run(machine, mint, bend, text):
    """attack: A6, A27

    spec: RC-8, EW-30
    """
    keyset = bend(mint)
    with pytest.raises(RemoteProtocolError, match=text):
        await machine.open(mint.terms(keyset), keyset)
    assert not machine.find()


async def test_keyset_without_the_mints_signature_ends_the_run(machine, mint):
    """attack: A6

    spec: EW-30
    """
    keyset = mint.open()
    forged = replace(keyset.announcement, signature=bytes(64))
    with pytest.raises(RemoteProtocolError, match="not signed by the mint"):
        await machine.open(mint.terms(keyset), Keyset(keyset.keys, forged))
    assert not machine.find()


async def test_update_without_the_mints_signature_ends_the_run(machine, mint):
    """spec: EW-30"""
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    await machine.hear(mint.update(keyset, 1))
    with pytest.raises(RemoteProtocolError, match="not signed"):
        await machine.hear(replace(mint.update(keyset, 2), signature=bytes(64)))


async def test_update_of_a_keyset_that_is_not_ours_is_passed_over(machine, mint):
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    await machine.hear(mint.update(mint.open(), 1))
    assert machine.find()


async def test_keyset_of_another_mint_is_refused(machine, side, mint):
    """attack: A18. The derivation does not know the mint, so two mints would get the same B_.

    spec: RC-7
    """
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    await mine(machine, keyset, 1)
    await machine.end()
    thief = ScriptedMint(seed=2)
    stolen = thief.open(keys=keyset.keys)
    assert stolen.id == keyset.id
    side._mint = b""  # as after a restart
    with pytest.raises(RemoteProtocolError, match="belongs to the mint"):
        await machine.open(thief.terms(stolen), stolen)
    assert not machine.find()


async def test_keyset_with_other_terms_than_before_is_refused(machine, mint):
    """attack: A6

    spec: RC-8
    """
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    await machine.end()
    dearer = Keyset(keyset.keys, mint.signed(replace(keyset.announcement, fee_ppm=500_000)))
    assert dearer.id == keyset.id
    with pytest.raises(RemoteProtocolError, match="before with other terms"):
        await machine.open(mint.terms(dearer), dearer)
    assert not machine.find()


async def test_mint_does_not_change_between_two_connections(machine, mint):
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    await machine.end()
    other = ScriptedMint(seed=2)
    keyset = other.open()
    with pytest.raises(RemoteProtocolError, match="on the last connection"):
        await machine.open(other.terms(keyset), keyset)


@pytest.mark.parametrize("change", [{"policy": 1}, {"sign_mode": 2}])
async def test_terms_that_were_not_asked_for_end_the_run(wallet, tmp_path, mint, change):
    side = EcashMiner(wallet, options(tmp_path, policy="window"))
    keyset = mint.open()
    with pytest.raises(RemoteProtocolError, match="not asked for"):
        await Machine(side).open(mint.terms(keyset, **change), keyset)


async def test_keysets_that_follow_each_other_too_fast_are_told(machine, side, mint, wallet):
    """attack: A9. Two keysets of one policy on one tip sort the miners into smaller crowds."""
    first = mint.open(policy=1, opened_block=bytes(32))
    await machine.open(mint.terms(first, policy=1), first)
    second = mint.open(first, policy=1, opened_block=bytes(32))
    await machine.hear(second.announcement)
    assert "2 keysets of the policy pool on one tip" in notes(side)
    third = mint.open(second, policy=1, opened_block=b"\1" * 32)
    await machine.hear(third.announcement)
    assert "on one tip" not in notes(side)


# --- the second path ---


def listed(*rows):
    keysets = [
        {
            "id": keyset.id.hex(),
            "policy": "window",
            "state": state,
            "announcement": keyset.payload.hex(),
        }
        for keyset, state in rows
    ]
    return json.dumps({"total": len(keysets), "keysets": keysets}).encode()


def watched(wallet, tmp_path, body, mint_url="http://mint.example"):
    asked = []

    async def fetch(address):
        asked.append(address)
        if isinstance(body, Exception):
            raise body
        return body

    side = EcashMiner(wallet, options(tmp_path, mint_url=mint_url), Witness(fetch))
    return Machine(side), asked


async def test_keyset_that_all_are_shown_is_used(wallet, tmp_path, mint):
    keyset = mint.open()
    machine, asked = watched(wallet, tmp_path, listed((keyset, "open")))
    await machine.open(mint.terms(keyset), keyset)
    assert machine.find()
    assert asked == ["http://mint.example/work/v1/keysets?offset=0&limit=100"]


async def test_second_path_is_the_address_that_the_wallet_knows(wallet, tmp_path, mint):
    """Neither the user nor the pool names one, but the wallet has met the mint before."""
    earlier, keyset = mint.open(), mint.open()
    payload = earlier.announcement.encode()
    await wallet.trust(payload, mint.terms(earlier).mint_pubkey, "http://met.example")
    machine, asked = watched(wallet, tmp_path, listed((keyset, "open")), mint_url=None)
    await machine.open(mint.terms(keyset), keyset)
    assert asked == ["http://met.example/work/v1/keysets?offset=0&limit=100"]


async def test_keyset_for_one_miner_is_refused(wallet, tmp_path, mint, autojump_clock):
    """attack: A6. The second path shows another keyset than the connection."""
    public, mine_alone = mint.open(), mint.open()
    machine, asked = watched(wallet, tmp_path, listed((public, "open")))
    with pytest.raises(RemoteProtocolError, match="the mint's list at"):
        await machine.open(mint.terms(mine_alone), mine_alone)
    assert not machine.find()
    assert len(asked) == 2, "a list may be a moment old"


async def test_keyset_that_is_open_beside_another_is_refused(wallet, tmp_path, mint):
    """attack: A6. A list that hides nothing but has a keyset for each miner."""
    public, mine_alone = mint.open(), mint.open()
    machine, _ = watched(wallet, tmp_path, listed((mine_alone, "open"), (public, "open")))
    with pytest.raises(RemoteProtocolError, match="smaller crowds"):
        await machine.open(mint.terms(mine_alone), mine_alone)


async def test_keyset_that_was_just_followed_by_another_is_used(wallet, tmp_path, mint):
    first = mint.open()
    second = mint.open(first)
    machine, _ = watched(wallet, tmp_path, listed((second, "open"), (first, "closed")))
    await machine.open(mint.terms(first), first)
    assert machine.find()


async def test_keyset_announced_in_two_ways_is_refused(wallet, tmp_path, mint):
    """attack: A6"""
    keyset = mint.open()
    other = Keyset(keyset.keys, mint.signed(replace(keyset.announcement, fee_ppm=1)))
    machine, _ = watched(wallet, tmp_path, listed((other, "open")))
    with pytest.raises(RemoteProtocolError, match="in another way"):
        await machine.open(mint.terms(keyset), keyset)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"keysets": 1}', b'{"keysets": [{}]}', UnreachableError("down")]
)
async def test_second_path_that_leads_nowhere_is_told(wallet, tmp_path, mint, body):
    keyset = mint.open()
    machine, _ = watched(wallet, tmp_path, body)
    await machine.open(mint.terms(keyset), keyset)
    assert "is not known" in notes(machine.side)
    assert machine.find()


# --- changes of keyset ---


async def test_successor_takes_the_place_of_its_keyset(machine, side, mint):
    first = mint.open()
    await machine.open(mint.terms(first), first)
    before = machine.find(1)
    second = mint.open(first)
    await machine.hear(second.announcement)
    after = machine.find(2)
    shorts = [machine.sent[number].keyset_short for number in before + after]
    assert shorts == [first.id[:8], second.id[:8], second.id[:8]]
    # What is under way for the old keyset may still be signed by it.
    await machine.hear(answer([receipt(first, 0, machine.blinded(0), Z0)]))
    assert side.figures()["tokens"] == 1


async def test_keyset_that_supersedes_another_than_the_present_one_is_refused(machine, mint):
    """attack: A9"""
    first = mint.open()
    await machine.open(mint.terms(first), first)
    with pytest.raises(RemoteProtocolError, match="does not supersede"):
        await machine.hear(mint.open(mint.open()).announcement)


async def test_keyset_of_another_policy_does_not_concern_the_channel(machine, mint):
    first = mint.open()
    await machine.open(mint.terms(first), first)
    await machine.hear(mint.open(policy=0).announcement)
    [number] = machine.find()
    assert machine.sent[number].keyset_short == first.id[:8]


async def test_stale_keyset_waits_for_the_next_one(machine, side, mint):
    """spec: EW-12"""
    first = mint.open()
    await machine.open(mint.terms(first), first)
    [number] = machine.find()
    await machine.hear()
    await machine.refuse(number, "stale-keyset", again=True, lapse=True)
    assert not machine.find(), "no claim for the old keyset goes out any more"
    assert machine.asked(wire.EcashKeysetRequest) == [wire.EcashKeysetRequest(b"")]
    second = mint.open(first)
    await machine.hear(second.announcement)
    [again] = machine.find()
    assert machine.sent[again].keyset_short == second.id[:8]
    await machine.hear(
        answer([receipt(second, again, machine.blinded(again), Z0)], count=0, last=again)
    )
    assert (side.figures()["tokens"], side.claims.unsigned) == (1, 0)
    assert side.figures()["refused"] == {"stale-keyset": 1}


async def test_stale_keyset_after_the_announcement_asks_for_nothing(machine, mint):
    first = mint.open()
    await machine.open(mint.terms(first), first)
    [number] = machine.find()
    await machine.hear(mint.open(first).announcement)
    await machine.refuse(number, "stale-keyset", again=True)
    assert not machine.asked(wire.EcashKeysetRequest)
    assert machine.find()


async def test_keyset_that_is_announced_again_is_used_again(machine, mint):
    first = mint.open()
    await machine.open(mint.terms(first), first)
    [number] = machine.find()
    await machine.hear()
    await machine.refuse(number, "unknown-keyset", again=True, lapse=True)
    assert not machine.find()
    await machine.hear(first.announcement)
    assert machine.find()


async def test_pool_that_refuses_every_claim_stops_the_miner(machine, side, mint):
    """attack: A8. Work that is kept while no claim for it is ever good enough."""
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    taken = 0
    while numbers := machine.find(1):
        taken += 1
        await machine.hear()
        await machine.refuse(numbers[0], "invalid-blinded-message", again=False)
    assert taken == 3
    assert side.figures()["refused"] == {"invalid-blinded-message": 3}
    assert "kept while each claim for it was refused" in side.figures()["held"]
    assert side.figures()["kept"] == 3


async def test_what_can_happen_once_in_a_while_is_forgiven(machine, side, mint, autojump_clock):
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    for _ in range(3):
        [number] = machine.find()
        await machine.hear()
        await machine.refuse(number, "epoch-closed", again=False)
    assert not machine.find()
    await trio.sleep(3600)
    await machine.hear()
    assert side.claims.unsigned == 0


async def test_stale_share_whose_claim_was_refused_before_counts_as_unsigned(machine, side, mint):
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    [number] = machine.find()
    await machine.hear()
    await machine.refuse(number, "invalid-blinded-message", again=True)
    machine.find()
    [(sequence, exponent, attachment, _)] = machine.pending.submitted
    share_hash = number.to_bytes(32, "big")
    machine.pending.submitted = [(sequence, exponent, attachment, share_hash)]
    await machine.hear()
    await machine.refuse(sequence, "stale-share", again=False)
    assert side.claims.unsigned == 1
    [fresh] = machine.find()
    await machine.hear()
    await machine.refuse(fresh, "stale-share", again=False)
    assert side.claims.unsigned == 1, "a share that was never kept is owed nothing"


async def test_reused_claim_sends_the_wallet_ahead(machine, side, mint, wallet, autojump_clock):
    """attack: A19. The wallet's file is an old copy: the mint has seen its counters.

    spec: RC-5
    """
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    [number] = machine.find()
    used = machine.blinded(number)
    await machine.hear()
    await machine.refuse(number, "blinded-message-reused", again=True, lapse=True)
    assert "this wallet is an old copy" in notes(side)
    later = machine.find()
    assert later and machine.blinded(later[0]) != used
    beyond = [output.blinded for output in await wallet.missing(keyset.id)]
    assert beyond.index(machine.blinded(later[0])) > 100
    await trio.sleep(3)
    await machine.hear()
    [request] = machine.asked(wire.RedeemSharesEcash)
    assert used in request.claims, "what the copy does not know is fetched"


# --- lost connections ---


async def test_shares_without_an_answer_are_asked_for_on_the_next_connection(
    machine, side, mint, wallet
):
    """spec: RC-16"""
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    await mine(machine, keyset, 3)
    numbers = machine.find(3)
    await machine.end()
    assert side.figures()["lost"] == 3
    blinded = [machine.blinded(number) for number in numbers]
    await machine.open(mint.terms(keyset), keyset)
    requests = machine.asked(wire.RedeemSharesEcash)
    assert set(blinded) <= set(requests[-1].claims)
    place = {item: index for index, item in enumerate(requests[-1].claims)}
    signature = fetched_signature(keyset, place[blinded[0]], blinded[0], Z0)
    await machine.hear(fetched(requests[-1], [signature], [place[blinded[1]]], [place[blinded[2]]]))
    figures = side.figures()
    assert (figures["tokens"], figures["gone"]) == (4, 1)
    assert figures["unsigned_reasons"] == {"known to the mint and not signed": 1}


@pytest.mark.parametrize("later", ["stale-share", None])
async def test_kept_share_that_cannot_be_claimed_any_more_is_told(machine, side, mint, later):
    """Its next claim meets a pool that has forgotten it, or the connection ends before that."""
    first = mint.open()
    await machine.open(mint.terms(first), first)
    [number] = machine.find()
    await machine.hear()
    await machine.refuse(number, "stale-keyset", again=True, lapse=True)
    assert side.figures()["kept"] == 0, "it goes out again"
    if later is not None:
        await machine.hear(mint.open(first).announcement)
        [again] = machine.find(again=number)
        await machine.refuse(again, later, again=False)
    await machine.end()
    assert (side.figures()["kept"], side.figures()["lost"]) == (1, 0)


async def test_what_an_earlier_run_missed_is_asked_for(wallet, tmp_path, mint):
    """attack: A25. A miner that died between share and receipt loses nothing."""
    keyset = mint.open()
    first = Machine(EcashMiner(wallet, options(tmp_path)))
    await first.open(mint.terms(keyset), keyset)
    [number] = first.find()
    await first.hear()
    second = Machine(EcashMiner(wallet, options(tmp_path)))
    await second.open(mint.terms(keyset), keyset)
    [request] = second.asked(wire.RedeemSharesEcash)
    place = request.claims.index(first.blinded(number))
    signature = fetched_signature(keyset, place, first.blinded(number), Z0 + 2)
    others = [index for index in range(len(request.claims)) if index != place]
    await second.hear(fetched(request, [signature], unknown=others))
    figures = second.side.figures()
    assert (figures["tokens"], figures["units"]) == (1, 4)
    assert (figures["lost"], figures["gone"], figures["unsigned"]) == (0, 0, 0)


async def test_pool_that_drops_every_connection_gets_ever_less(machine, side, mint):
    """attack: A8. Shares taken and the connection cut, again and again."""
    keyset = mint.open()
    taken = []
    for _ in range(5):
        await machine.open(mint.terms(keyset), keyset)
        for request in machine.asked(wire.RedeemSharesEcash):
            await machine.hear(fetched(request, unknown=range(len(request.claims))))
        taken.append(len(machine.find(100)))
        await machine.hear()
        await machine.end()
    assert taken == [3, 1, 1, 1, 1]
    await machine.open(mint.terms(keyset), keyset)
    await mine(machine, keyset, 1)
    assert len(machine.queue) >= 3, "a token makes good"


async def test_requests_are_bounded(machine, side, mint, wallet, autojump_clock):
    keyset = mint.open()
    await wallet.trust(keyset.payload, mint.public_key)
    await wallet.reserve(keyset.id, 1200)
    await machine.open(mint.terms(keyset), keyset)
    asked = []
    for _ in range(200):
        for request in machine.asked(wire.RedeemSharesEcash):
            asked.append(len(request.claims))
            await machine.hear(fetched(request, unknown=range(len(request.claims))))
        await trio.sleep(1)
        await machine.hear()
    assert max(asked) == 500 and sum(asked) >= 1200


async def test_unanswered_request_does_not_end_all_asking(machine, side, mint, autojump_clock):
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    numbers = machine.find(3)
    await machine.hear(answer([], last=numbers[-1], count=3))
    await trio.sleep(3)
    await machine.hear()
    assert machine.asked(wire.RedeemSharesEcash)
    for _ in range(2):
        await trio.sleep(60)
        await machine.hear()
    assert machine.asked(wire.RedeemSharesEcash)


# --- lazy ---


def lazy_answer(mint, machine, numbers, root, *, key=None, z=Z0):
    for number in numbers:
        root = wire.receipt_root(root, machine.blinded(number), z, number.to_bytes(32, "big"))
    message = answer([bare(number, z) for number in numbers], root=root, sig=bytes(64))
    return replace(message, receipt_sig=(key or mint.key).sign(message.receipts_hash())), root


@pytest.fixture
def lazy_machine(wallet, tmp_path):
    return Machine(EcashMiner(wallet, options(tmp_path, sign_mode="lazy")))


async def test_lazy_receipts_are_checked_and_kept(lazy_machine, mint, tmp_path):
    """spec: RC-15, EW-18"""
    machine, keyset = lazy_machine, mint.open()
    await machine.open(mint.terms(keyset, sign_mode=2), keyset)
    root = bytes(32)
    for _ in range(3):
        message, root = lazy_answer(mint, machine, machine.find(2), root)
        await machine.hear(message)
    assert machine.side.figures()["promised"] == 6
    lines = (tmp_path / "wallet" / FILE).read_text().splitlines()
    assert [len(json.loads(line)["claims"]) for line in lines] == [2, 2, 2]
    assert json.loads(lines[-1])["root"] == root.hex()


@pytest.mark.parametrize("cheat", ["root", "key", "left out"])
async def test_lazy_receipt_that_is_not_the_shares_ends_the_run(lazy_machine, mint, cheat):
    """attack: A8. A share that was left out of the running receipt could be denied later."""
    machine, keyset = lazy_machine, mint.open()
    await machine.open(mint.terms(keyset, sign_mode=2), keyset)
    numbers = machine.find(2)
    start = bytes(32) if cheat != "root" else b"\1" * 32
    key = MspKey.from_secret(b"\7" * 32) if cheat == "key" else None
    message, _ = lazy_answer(mint, machine, numbers, start, key=key)
    if cheat == "left out":
        message = replace(message, receipts=message.receipts[1:])
    with pytest.raises(RemoteProtocolError, match="running receipt"):
        await machine.hear(message)


async def test_lazy_share_that_was_not_receipted_counts_as_unsigned(lazy_machine, mint):
    """attack: A8"""
    machine, keyset = lazy_machine, mint.open()
    await machine.open(mint.terms(keyset, sign_mode=2), keyset)
    numbers = machine.find(3)
    message, _ = lazy_answer(mint, machine, numbers[2:], bytes(32))
    await machine.hear(replace(message, new_submits_accepted_count=3))
    assert machine.side.figures()["promised"] == 1
    assert machine.side.claims.unsigned == 2


# --- the whole side ---


async def test_malformed_message_ends_the_run(machine, mint):
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    with pytest.raises(RemoteProtocolError):
        await machine.side.handle(machine, machine.news(frames=[(0x04, True, b"\0" * 7)]))
    with pytest.raises(RemoteProtocolError, match="to a miner"):
        await machine.hear(wire.EcashKeysetRequest(b""))


async def test_side_is_found_by_its_entry_point(wallet, tmp_path):
    assert find_side("ecash") is open_side
    with pytest.raises(ConfigError, match="not installed"):
        find_side("nothing")
    async with open_side(options(tmp_path)) as side:
        assert side.figures()["tokens"] == 0


async def test_side_without_a_wallet_says_so(tmp_path):
    with pytest.raises(ConfigError):
        async with open_side(options(tmp_path)):
            pass


async def test_foreign_keys_have_another_id(mint):
    """A keyset's id is that of its keys, so no mint can have another's id with its own keys."""
    other = KeysetKeys.derive(ScriptedMint(seed=2).seed, "work", 1, 0, KEYS)
    assert other.id != mint.open().id


async def test_short_token_that_was_fetched_counts_as_unsigned(machine, side, mint):
    """attack: A8"""
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    [number] = machine.find(1, exponent=Z0 + 2)
    await machine.hear(answer([], last=number, count=1))
    [request] = machine.asked(wire.RedeemSharesEcash)
    short = fetched_signature(keyset, 0, machine.blinded(number), Z0 + 1)
    await machine.hear(fetched(request, [short]))
    assert (side.figures()["tokens"], side.claims.unsigned) == (1, 1)


@pytest.mark.parametrize(
    ("code", "unsigned"), [("epoch-void", 0), ("expired", 0), ("unknown-epoch", 3)]
)
async def test_claims_of_a_keyset_that_pays_nothing_are_dropped(
    machine, side, mint, code, unsigned
):
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    numbers = machine.find(3)
    await machine.hear(answer([], last=numbers[-1], count=3))
    [request] = machine.asked(wire.RedeemSharesEcash)
    await machine.hear(wire.RedeemSharesEcashError(request.request_id, code, 0))
    assert side.claims.unsigned == unsigned


async def test_answer_to_nothing_is_passed_over(machine, side, mint):
    keyset = mint.open()
    await machine.open(mint.terms(keyset), keyset)
    await machine.hear(wire.RedeemSharesEcashError(7, "rate-limited", 0))
    await machine.hear(answer([wire.Receipt(9, Z0, *keyset.sign(keyset.keys.public[0][1], Z0))]))
    assert side.figures()["tokens"] == 0
    assert machine.find()

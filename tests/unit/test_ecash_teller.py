"""Redemptions and swaps: races, repeats, bounds, and what must never be signed."""

import random

import mint_rig
import pytest
import trio
import trio.testing
from mint_rig import KEY, Rig, Wallet
from radpool_sv2_extensions.ecash import message as wire

from radpool_sv2._native.ecash import (
    KeysetKeys,
    MintSeed,
    claims_root,
    keyset_id,
    verify_signature_dleqs,
)
from radpool_sv2.ecash.policy import KeysetState, Policy, SignMode
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.token import Output, Proof
from radpool_sv2.ecash.turn import Turns
from radpool_sv2.errors import ConfigError, StoreError
from radpool_sv2.store import ecash as table
from radpool_sv2.units import tagged_hash
from radpool_sv2.verify.bip340 import is_signed_by

POOL, WINDOW, NETWORK = Policy.POOL, Policy.WINDOW, Policy.NETWORK


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    rig.store.close()


@pytest.fixture
def final(rig):
    """Tokens with a final price: 1,000 sats for 40 units."""
    held = rig.mine(POOL, 3, 3, 3, 4)
    rig.settle(1_000)
    return held


def refused(code, function, *args, **options):
    with pytest.raises(RefusedError) as caught:
        function(*args, **options)
    assert caught.value.error_code == code, caught.value


def issued(rig):
    with rig.store.look() as connection:
        [(sats,)] = connection.execute("SELECT COALESCE(SUM(issued_sats), 0) FROM redemption")
    return sats


# Races.


async def outcomes(requests):
    """Runs requests at once; returns answers and error codes."""
    found = [None] * len(requests)

    async def ask(place, request):
        try:
            found[place] = await request()
        except RefusedError as error:
            found[place] = error.error_code

    async with trio.open_nursery() as nursery:
        for place, request in enumerate(requests):
            nursery.start_soon(ask, place, request)
    return found


async def test_one_of_64_wins(rig, final):
    """attack: A1"""
    wallets = [Wallet(bytes([number])) for number in range(64)]
    requests = []
    for wallet in wallets:
        outputs = wallet.outputs(rig.mint.sat_keyset_id, 200)
        request = rig.mint.redeem, final[0].keyset, [final[0].proof], outputs
        requests.append(lambda request=request: request[0](*request[1:]))
    answers = await outcomes(requests)
    assert answers.count("already-spent") == 63
    [won] = [answer for answer in answers if answer != "already-spent"]
    assert sum(each.amount for each in won.signatures) == 200
    assert issued(rig) == 200


async def test_the_same_request_64_times_is_one(rig, final):
    """attack: A1, A25"""
    outputs = rig.wallet.outputs(rig.mint.sat_keyset_id, 200)
    request = final[0].keyset, [final[0].proof], outputs
    answers = await outcomes([lambda: rig.mint.redeem(*request)] * 64)
    assert len(set(answers)) == 1
    assert issued(rig) == 200
    rig.restart()
    rig.advance()
    assert await rig.mint.redeem(*request) == answers[0]


async def test_swap_and_redemption_of_a_token_race(rig, final):
    """attack: A1"""
    token = final[0]
    swap = [Output(8, token.keyset, rig.wallet.message())]
    redeem = rig.wallet.outputs(rig.mint.sat_keyset_id, 200)
    answers = await outcomes(
        [
            lambda: rig.mint.swap(token.keyset, [token.proof], swap),
            lambda: rig.mint.redeem(token.keyset, [token.proof], redeem),
        ]
        * 8
    )
    assert answers.count("already-spent") == 8
    assert len({answer for answer in answers if answer != "already-spent"}) == 1


async def test_overlapping_requests_spend_nothing_twice(rig, final):
    """attack: A1"""
    requests = []
    for first in range(3):
        pair = [final[first], final[(first + 1) % 3]]
        outputs = rig.wallet.outputs(rig.mint.sat_keyset_id, 400)
        request = final[0].keyset, [token.proof for token in pair], outputs
        requests.append(lambda request=request: rig.mint.redeem(*request))
    answers = await outcomes(requests)
    assert answers.count("already-spent") == 2
    assert issued(rig) == 400
    spent = await rig.mint.check_state(KeysetKeys.ys([token.secret for token in final[:3]]))
    assert spent.count(True) == 2, "the token of the refused requests is unspent"


async def test_requests_that_wait_share_a_transaction(rig, final):
    commits = []
    inner = rig.mint._teller.carry_out

    def carry_out(requests, now_ms):
        commits.append(len(requests))
        return inner(requests, now_ms)

    rig.mint._teller.carry_out = carry_out
    requests = []
    for token in final[:3]:
        outputs = rig.wallet.outputs(rig.mint.sat_keyset_id, 200)
        request = token.keyset, [token.proof], outputs
        requests.append(lambda request=request: rig.mint.redeem(*request))
    answers = await outcomes(requests)
    assert all(not isinstance(answer, str) for answer in answers)
    assert sum(commits) == 3
    assert len(commits) <= 3


async def test_turns_are_bounded_and_survive_who_leaves(autojump_clock):
    """attack: A15"""
    go = []

    def carry_out(requests):
        go.append(list(requests))
        return [request * 2 for request in requests]

    turns = Turns(carry_out, 2)
    assert await turns.take(4) == 8
    async with turns._turn, trio.open_nursery() as nursery:
        nursery.start_soon(turns.take, 1)
        nursery.start_soon(turns.take, 2)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(RefusedError) as caught:
            await turns.take(3)
        assert caught.value.error_code == "rate-limited"
        nursery.cancel_scope.cancel()
    assert await turns.take(5) == 10
    assert go == [[4], [5]], "who left before the turn left nothing behind"


async def test_a_failure_reaches_all_who_waited():
    def carry_out(requests):
        raise StoreError("full")

    turns = Turns(carry_out, 10)
    caught = []

    async def ask():
        try:
            await turns.take(1)
        except StoreError as error:
            caught.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    assert len(caught) == 3


# What a redemption must be.


def test_outputs_must_be_the_value_exactly(rig, final):
    """spec: ES-11"""
    refused("amount-mismatch", rig.redeem, final[:1], 199)
    refused("amount-mismatch", rig.redeem, final[:1], 201)
    assert sum(token.amount for token in rig.redeem(final[:1], 200)) == 200
    assert sum(token.amount for token in rig.redeem(final[1:], 800)) == 800


def test_dust_is_refused_and_not_burnt(rig):
    """attack: A24 spec: ES-11"""
    held = rig.mine(POOL, *[0] * 10)
    rig.settle(9)
    refused("amount-mismatch", rig.redeem, held[:1], 1)
    assert sum(token.amount for token in rig.redeem(held)) == 9


def test_a_token_is_spent_once_in_any_company(rig, final):
    """attack: A1"""
    rig.redeem(final[:1])
    refused("already-spent", rig.redeem, final, 1_000)
    refused("already-spent", rig.swap, final[:1], [8])
    assert sum(token.amount for token in rig.redeem(final[1:])) == 800


def test_a_token_twice_in_a_request(rig, final):
    """attack: A1"""
    refused("already-spent", rig.redeem, [final[0], final[0]], 400)


def test_refused_requests_leave_nothing_behind(rig, final):
    used = rig.mine(POOL, 2)[0].message
    outputs = [
        Output(128, rig.mint.sat_keyset_id, rig.wallet.message()),
        Output(64, rig.mint.sat_keyset_id, rig.wallet.message()),
        Output(8, rig.mint.sat_keyset_id, used),
    ]
    proof = [final[0].proof]
    refused("blinded-message-reused", rig.exchange, final[0].keyset, proof, outputs, into_sats=True)
    with rig.store.look() as connection:
        for name in ("spent", "redemption"):
            [(count,)] = connection.execute(f"SELECT COUNT(*) FROM {name}")
            assert count == 0
    fresh = [*outputs[:2], Output(8, rig.mint.sat_keyset_id, rig.wallet.message())]
    rig.exchange(final[0].keyset, proof, fresh, into_sats=True)


def test_a_signature_of_another_amount_or_keyset_is_no_token(rig, final):
    """attack: A7"""
    token = final[0]
    out = rig.wallet.outputs(rig.mint.sat_keyset_id, 400)
    for forged in (
        token.proof._replace(amount=16),
        token.proof._replace(secret="x" * 64),
        token.proof._replace(signature=final[1].signature),
        token.proof._replace(signature=b"\x02" + bytes(32)),
    ):
        refused("invalid-proof", rig.exchange, token.keyset, [forged], out, into_sats=True)
    other = rig.mint.current(POOL)
    refused("invalid-proof", rig.exchange, other.id, [token.proof], out, into_sats=True)
    sat = rig.redeem(final)[0]
    refused("invalid-proof", rig.exchange, token.keyset, [sat.proof], out, into_sats=True)


BAD_POINTS = [
    b"",
    b"\x02" * 32,
    b"\x02" * 34,
    b"\x00" * 33,
    b"\x04" + b"\x11" * 32,
    b"\x02" + b"\xff" * 32,
    b"\x03" + (2**256 - 2**32 - 977).to_bytes(32, "big"),
    b"\x02" + (5).to_bytes(32, "big"),
]


@pytest.mark.parametrize("point", BAD_POINTS, ids=range(len(BAD_POINTS)))
def test_an_output_must_be_a_point(rig, final, point):
    """attack: A4"""
    output = [Output(8, final[0].keyset, point)]
    refused(
        "invalid-blinded-message",
        rig.exchange,
        final[0].keyset,
        [final[0].proof],
        output,
        into_sats=False,
    )


@pytest.mark.parametrize(
    "amount", [0, -1, 3, 2**63 + 2**62, 2**64 - 1, 2**64, 2**65, True, 8.0, "8", None]
)
def test_an_amount_is_a_power_of_two_up_to_2_63(rig, final, amount):
    """attack: A14"""
    keyset, proof = final[0].keyset, final[0].proof
    bad_output = [Output(amount, keyset, rig.wallet.message())]
    refused("amount-mismatch", rig.exchange, keyset, [proof], bad_output, into_sats=False)
    bad_input = [proof._replace(amount=amount)]
    good = [Output(8, keyset, rig.wallet.message())]
    refused("amount-mismatch", rig.exchange, keyset, bad_input, good, into_sats=False)


def test_sums_above_64_bits_are_sums(rig, final):
    """attack: A14"""
    keyset = final[0].keyset
    large = [Output(1 << 63, keyset, rig.wallet.message()) for _ in range(3)]
    refused("amount-mismatch", rig.exchange, keyset, [final[0].proof], large, into_sats=False)


def test_a_keyset_has_at_most_2_63_less_1_units(rig):
    """attack: A14"""
    keyset = rig.mint.current(POOL)
    keys = rig.mint._keyring.keys(keyset.number, "work")
    made = []
    for bit in (63, 62, 62):
        message = rig.wallet.message()
        [(signature, _, _)] = keys.sign([(1 << bit, message)])
        public = dict(keys.public)[1 << bit]
        made.append(rig.wallet.token(keyset.id, 1 << bit, message, signature, public))
    refused("amount-mismatch", rig.swap, made[:1], [1 << 62, 1 << 62])
    refused("amount-mismatch", rig.swap, made[1:], [1 << 63])
    refused("amount-mismatch", rig.swap, made, [1 << 63, 1 << 63])
    halves = rig.swap(made[1:2], [1 << 61, 1 << 61])
    assert rig.swap(halves, [1 << 62])[0].amount == 1 << 62


@pytest.mark.parametrize("secret", ["", "x" * 1025, "é" * 513, "\ud800"])
def test_secrets_are_text_of_up_to_1024_bytes(rig, final, secret):
    """attack: A15"""
    proof = final[0].proof._replace(secret=secret)
    output = [Output(8, final[0].keyset, rig.wallet.message())]
    refused("invalid-proof", rig.exchange, final[0].keyset, [proof], output, into_sats=False)


def test_a_secret_of_1024_bytes_will_do(rig, final):
    proof = final[0].proof._replace(secret="x" * 1024)
    output = [Output(8, final[0].keyset, rig.wallet.message())]
    # It was not signed: that is found after its form.
    refused("invalid-proof", rig.exchange, final[0].keyset, [proof], output, into_sats=False)


def test_requests_have_at_most_250_items(rig, final):
    """attack: A15"""
    keyset, proof = final[0].keyset, final[0].proof
    outputs = [Output(1, keyset, rig.wallet.message()) for _ in range(251)]
    refused("too-many-items", rig.exchange, keyset, [proof] * 251, outputs[:1], into_sats=False)
    refused("too-many-items", rig.exchange, keyset, [proof], outputs, into_sats=False)
    refused("amount-mismatch", rig.exchange, keyset, [], outputs[:1], into_sats=False)
    refused("amount-mismatch", rig.exchange, keyset, [proof], [], into_sats=False)
    many = rig.mine(POOL, *[0] * 250)
    units = rig.swap(many, [128, 64, 32, 16, 8, 2])
    assert len(rig.swap(units, [1] * 250)) == 250


async def test_questions_have_bounds(rig):
    """attack: A15"""
    with pytest.raises(RefusedError, match="501"):
        await rig.mint.fetch(rig.mint.sat_keyset_id, [b""] * 501)
    with pytest.raises(RefusedError, match="1001"):
        await rig.mint.check_state([b""] * 1001)


def test_outputs_name_the_keyset_that_signs(rig, final):
    keyset, proof, message = final[0].keyset, final[0].proof, rig.wallet.message()
    for wrong in (rig.mint.sat_keyset_id, keyset[:9], b"", keyset[:7]):
        output = [Output(8, wrong, message)]
        refused("unknown-epoch", rig.exchange, keyset, [proof], output, into_sats=False)
    rig.exchange(keyset, [proof], [Output(8, keyset[:8], message)], into_sats=False)


@pytest.mark.parametrize("version", [b"\x00", b"\x02", b"\xff"])
def test_keysets_of_other_versions_are_unknown(rig, final, version):
    """attack: A27"""
    other = version + final[0].keyset[1:]
    out = rig.wallet.outputs(rig.mint.sat_keyset_id, 200)
    refused("unknown-epoch", rig.exchange, other, [final[0].proof], out, into_sats=True)


def test_sat_tokens_are_not_redeemed_again(rig, final):
    sats = rig.redeem(final)
    out = rig.wallet.outputs(rig.mint.sat_keyset_id, sats[0].amount)
    refused(
        "unknown-epoch",
        rig.exchange,
        rig.mint.sat_keyset_id,
        [sats[0].proof],
        out,
        into_sats=True,
    )


async def test_sats_are_swapped_restored_and_known_when_spent(rig, final):
    sats = rig.redeem(final)
    amount = sum(token.amount for token in sats)
    outputs = [Output(1, rig.mint.sat_keyset_id, rig.wallet.message()) for _ in range(8)]
    outputs += rig.wallet.outputs(rig.mint.sat_keyset_id, amount - 8)
    proofs = [token.proof for token in sats]
    answer = await rig.mint.sat_swap([tuple(proof) for proof in proofs], outputs)
    unknown = rig.wallet.message()
    restored = await rig.mint.sat_restore([outputs[3].blinded, unknown, outputs[0].blinded])
    assert [(each.index, each.amount) for each in restored] == [(0, 1), (2, 1)]
    assert restored[0][3:] == answer.signatures[3][2:]
    spent = KeysetKeys.ys([sats[0].secret, "fresh"])
    assert await rig.mint.check_state(spent) == [True, False]


# What anybody can check.


async def test_every_signature_proves_its_announced_key(rig):
    """attack: A5, A7 spec: EW-12"""
    held = rig.mine(WINDOW, 0, 3, 5)
    view = rig.mint.current(WINDOW)
    announced = wire.EcashKeysetAnnounce.decode(view.announcement)
    public = {entry.z: entry.key for entry in announced.keys}
    fetched = await rig.mint.fetch(view.id, [token.message for token in held])
    items = [
        (public[each.amount.bit_length() - 1], held[each.index].message, *each[2:])
        for each in fetched.signatures
    ]
    assert verify_signature_dleqs(items) == [True] * 3
    again = await rig.mint.fetch(view.id, [token.message for token in held])
    assert again == fetched, "a proof's nonce is no matter of chance"
    unknown = await rig.mint.fetch(view.id, [rig.wallet.message(), held[0].message])
    assert unknown.unknown == (0,)
    assert [each.index for each in unknown.signatures] == [1]
    assert (fetched.price_num, fetched.price_den) == (0, 0)


def test_announcements_are_signed_and_name_their_keys(rig):
    """attack: A6, A7"""
    for policy in rig.mint.policies:
        view = rig.mint.current(policy)
        announced = wire.EcashKeysetAnnounce.decode(view.announcement)
        assert is_signed_by(KEY.public, announced.signed_hash(), announced.signature)
        keys = [(1 << entry.z - announced.z0, entry.key) for entry in announced.keys]
        assert len(keys) == 64
        assert keyset_id(keys, announced.unit) == announced.keyset_id == view.id
    signed, signature = (
        rig.mint.sat_keyset.announcement[:-64],
        rig.mint.sat_keyset.announcement[-64:],
    )
    assert is_signed_by(KEY.public, tagged_hash("radpool/keyset", signed), signature)
    assert keyset_id(rig.mint.sat_keys, "sat") == rig.mint.sat_keyset_id
    assert signed[34:39] == b"\x03sat\xff"


def test_updates_tell_every_change_and_are_signed(rig):
    held = rig.mine(POOL, 3)
    keyset = held[0].keyset
    rig.changes.clear()
    block = rig.block(1_000)
    rig.grow(5)
    told = [change for change in rig.changes if change.keyset.id == keyset]
    updates = [wire.EcashEpochUpdate.decode(change.update) for change in told]
    for update in updates:
        assert is_signed_by(KEY.public, update.signed_hash(), update.signature)
    states = [update.state for update in updates]
    assert states == sorted(states)
    assert {1, 2, 3} <= set(states)
    last = updates[-1]
    assert last.theta_msat == 1_000_000
    assert (last.block_hash, last.height) == (block, 101)
    assert last.redeem_after_height == 101 + rig.settings.coinbase_maturity - 1
    assert last.confirmations == 5
    assert last.expires_at > 0
    assert len(last.statement_hash) == 32
    opened = [change for change in rig.changes if change.announcement is not None]
    assert len(opened) >= 3, "another keyset of each policy was opened"


async def test_statements_commit_to_claims(rig, final):
    """spec: ES-20, ES-21"""
    keyset = final[0].keyset
    statement = await rig.mint.statement(keyset)
    assert statement.hash == wire.EcashEpochUpdate.decode(rig.view(keyset).update).statement_hash
    inclusion = await rig.mint.inclusion(final[3].message)
    assert (inclusion.index, inclusion.count, inclusion.units) == (3, 4, 16)
    shares = [await rig.mint.inclusion(token.message) for token in final]
    packed = b"".join(
        each.share_hash + token.message + token.amount.to_bytes(8, "little")
        for each, token in zip(shares, final, strict=True)
    )
    root, units = claims_root(packed)
    assert root.hex() in statement.document.decode()
    assert units == 40
    rig.redeem(final[:1])
    assert (await rig.mint.statement(keyset)).document == statement.document
    with pytest.raises(RefusedError):
        await rig.mint.inclusion(rig.wallet.message())
    with pytest.raises(RefusedError) as caught:
        await rig.mint.statement(rig.mint.current(POOL).id)
    assert caught.value.error_code == "epoch-open"
    with pytest.raises(RefusedError) as caught:
        await rig.mint.statement(bytes(33))
    assert caught.value.error_code == "unknown-epoch"


# Terms.


def test_policies_are_chosen_by_the_operators_wish(rig):
    choose = rig.mint.choose_policy
    assert choose(0b1111, 0b11) == (WINDOW, SignMode.EAGER)
    assert choose(0b0011, 0b10) == (POOL, SignMode.LAZY)
    assert choose(0b0001, 0b01) == (NETWORK, SignMode.EAGER)
    refused("unsupported-policy", choose, 0b1000, 1)
    refused("unsupported-policy", choose, 0, 1)
    refused("unsupported-policy", choose, 1 << 31, 1)
    refused("unsupported-sign-mode", choose, 0b1111, 0)
    refused("unsupported-sign-mode", choose, 0b1111, 4)


def test_nothing_is_opened_before_the_chain_is_known(tmp_path):
    rig = Rig(tmp_path)
    rig.store.close()
    for suffix in ("", "-wal", "-shm"):
        rig.file.with_name(rig.file.name + suffix).unlink(missing_ok=True)
    rig.chain.tip = None
    rig.open()
    rig.advance()
    refused("no-open-epoch", rig.mint.choose_policy, 0b1111, 1)
    refused("no-open-epoch", rig.mint.current, WINDOW)
    rig.tip(7)
    assert rig.mint.current(WINDOW).height == 8
    rig.store.close()


def test_slices_last_a_while_however_much_work_comes(tmp_path):
    """attack: A9"""
    rig = Rig(tmp_path, slice_seconds_min=60, slice_hours=6)
    first = rig.mint.current(WINDOW)
    for second in range(59):
        rig.mine(WINDOW, 5, 5, 5)
        rig.wait(0.9)
        assert rig.mint.current(WINDOW).id == first.id, second
    rig.wait(10)
    second = rig.mint.current(WINDOW)
    assert second.id != first.id
    rig.wait(6 * 3600)
    assert rig.mint.current(WINDOW).id == second.id, "empty slices are not cut"
    rig.mine(WINDOW, 0)
    rig.wait(1)
    assert rig.mint.current(WINDOW).id != second.id
    rig.store.close()


async def test_the_facade_offers_what_the_machines_do(rig, final):
    total, views = await rig.mint.keysets(0, 100)
    assert total == len(views)
    assert [view.number for view in views] == sorted((v.number for v in views), reverse=True)
    assert all(view.unit == "work" for view in views)
    found = await rig.mint.find_keyset(final[0].keyset)
    assert found == rig.mint.keyset(final[0].keyset)
    assert found.state is KeysetState.FINAL
    assert await rig.mint.find_keyset(bytes(33)) is None
    figures = await rig.mint.figures()
    assert figures["claims"] == 4
    assert figures["theta_msat"] == 1_000_000
    assert figures["tokens"]["final"] == 40
    rig.redeem(final)
    figures = await rig.mint.figures()
    assert figures["liabilities_sats"] == 1_000
    assert rig.mint.public_key == b"\x02" + KEY.public
    await rig.mint.start()
    assert rig.mint.tip_height == rig.chain.tip.height


def test_random_requests_never_mint(rig, final):
    """attack: A14, A15"""
    chance = random.Random(1)
    keyset = final[0].keyset
    for _ in range(300):
        inputs = [
            Proof(
                1 << chance.randrange(60), chance.randbytes(8).hex(), chance.choice(final).signature
            )
            for _ in range(chance.randint(1, 3))
        ]
        outputs = [Output(1 << chance.randrange(64), keyset, rig.wallet.message())]
        refused("invalid-proof", rig.exchange, keyset, inputs, outputs, into_sats=False)
    with rig.store.look() as connection:
        assert table.balance(connection, POOL, "issued") == 0


def test_another_seed_is_refused(rig, monkeypatch):
    monkeypatch.setattr(mint_rig, "SEED", MintSeed.from_secret(b"\x08" * 32))
    with pytest.raises(ConfigError, match="not the key"):
        rig.restart()
    monkeypatch.undo()
    rig.store.close()
    rig.open()


async def test_a_statement_that_cannot_be_written_holds_nothing_up(rig, monkeypatch):
    held = rig.mine(POOL, 3)

    def fail(*args):
        raise StoreError("a batch is lost")

    monkeypatch.setattr(rig.mint._publisher, "_publish", fail)
    rig.settle(100)
    assert rig.state(held[0].keyset) is KeysetState.FINAL
    rig.redeem(held)
    monkeypatch.undo()
    rig.advance()
    assert (await rig.mint.statement(held[0].keyset)).document

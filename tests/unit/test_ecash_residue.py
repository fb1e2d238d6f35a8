"""Shares that are worth more or less than a round number of units: tokens, residues, cash-outs."""

from __future__ import annotations

import json
import sqlite3
from hashlib import sha256

import pytest
from coincurve import PrivateKey
from mint_rig import BY_VALUE, EPOCH_MS, KEY, Rig, Wallet
from test_ecash_crash import FUSE, FailingConnection

from radpool_sv2.ecash.cash_out import cash_out_hash
from radpool_sv2.ecash.export import claimed_batches, export_keysets, published_keysets
from radpool_sv2.ecash.policy import KeysetState, Policy
from radpool_sv2.ecash.price import share_out
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.token import Output
from radpool_sv2.errors import FaultyMSPError, StoreError
from radpool_sv2.ledger.export import export_epoch
from radpool_sv2.store import ecash as table
from radpool_sv2.units import tagged_hash, target_of
from radpool_sv2.verify import verify_export

POOL, WINDOW = Policy.POOL, Policy.WINDOW
ANN, BEN = (PrivateKey(sha256(name).digest()) for name in (b"ann", b"ben"))
UNIT = 1_000


def public(key):
    return key.public_key.format()


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path, rule=BY_VALUE, unit_exponent=0)
    rig.mint.name_claimant(1, 1, public(ANN))
    rig.mint.name_claimant(1, 2, public(BEN))
    yield rig
    rig.store.close()


def units(tokens):
    return sum(token.amount for token in tokens)


def code_of(act, *arguments):
    with pytest.raises(RefusedError) as caught:
        act(*arguments)
    return caught.value.error_code


def test_the_unit_costs_what_a_share_earns_without_fees(rig):
    """spec: WT-12"""
    assert rig.row(rig.mint.current(POOL).id).unit_value == UNIT
    assert rig.mint.current(POOL).unit_value == UNIT
    # Twice as hard: a hash is worth half.
    rig.chain.block_target = target_of(7).to_bytes(32, "little")
    rig.block()
    assert rig.mint.current(POOL).unit_value == UNIT // 2


def test_sats_are_proportional_to_value(rig):
    """Of two templates one pays 14 % more; each miner's sats do, up to the residue that is told.

    spec: WT-13
    """
    wallets = {1: Wallet(b"ann"), 2: Wallet(b"ben")}
    held = {1: [], 2: []}
    worth = {1: 0, 2: 0}
    rounds = [(1, 3, 1_000), (2, 3, 1_140), (1, 5, 1_000), (2, 5, 1_140), (2, 0, 1_140)]
    rounds += [(1, 0, 1_000)]
    for channel, z, price in rounds * 40:
        held[channel] += rig.mine(POOL, z, wallet=wallets[channel], channel=channel, price=price)
        worth[channel] += price << z
    assert worth[2] * 100 == worth[1] * 114
    left = {1: rig.residues(POOL)[public(ANN)], 2: rig.residues(POOL)[public(BEN)]}
    for channel in (1, 2):
        assert units(held[channel]) * UNIT + left[channel] == worth[channel]
    for channel, key in ((1, ANN), (2, BEN)):
        whole = left[channel] // UNIT
        amounts = [1 << bit for bit in range(whole.bit_length()) if whole >> bit & 1]
        rig.wallet = wallets[channel]
        held[channel] += rig.cash_out(key, POOL, amounts) if amounts else []
        assert rig.residues(POOL)[key.public_key.format()] == left[channel] % UNIT < UNIT
    value_sats = 312_500_000
    rig.settle(value_sats)
    sats = {}
    for channel in (1, 2):
        rig.wallet = wallets[channel]
        sats[channel] = sum(token.amount for token in rig.redeem(held[channel]))
    every = worth[1] + worth[2]
    for channel in (1, 2):
        fair = value_sats * worth[channel] / every
        # What a unit is worth, and the satoshi that a redemption rounds down.
        assert abs(sats[channel] - fair) <= value_sats * 2 * UNIT / every + 1


def test_the_last_share_makes_a_unit_of_what_was_left(rig):
    """spec: WT-13, EW-16"""
    keyset = rig.mint.current(POOL)
    assert rig.mine(POOL, 0, price=999) == []
    assert rig.residues(POOL) == {public(ANN): 999}
    assert rig.row(keyset.id).work == 0
    [token] = rig.mine(POOL, 0, price=1)
    assert token.amount == 1
    assert rig.residues(POOL) == {public(ANN): 0}


def test_a_token_may_be_larger_than_its_share(rig):
    """A harder share has left much over; after that easier ones come.

    spec: WT-13
    """
    [first] = rig.mine(POOL, 6, price=1_990)
    [second] = rig.mine(POOL, 1, price=1_000)
    assert (first.amount, second.amount) == (64, 64)
    left = (1_990 << 6) + 2_000 - 128_000
    assert rig.residues(POOL) == {public(ANN): left}


def test_residues_go_on_in_the_next_keyset_and_after_a_restart(rig):
    """spec: WT-14"""
    rig.mine(POOL, 0, price=700)
    rig.settle()
    assert rig.residues(POOL) == {public(ANN): 700}
    rig.restart()
    rig.advance()
    rig.mint.name_claimant(7, 9, public(ANN))
    [token] = rig.mine(POOL, 0, price=300, connection=7, channel=9)
    assert token.amount == 1
    assert rig.residues(POOL)[public(ANN)] == 0


def test_policies_have_residues_of_their_own(rig):
    """spec: WT-14"""
    rig.mine(POOL, 0, price=700)
    rig.mine(WINDOW, 0, price=500)
    assert rig.residues(POOL) == {public(ANN): 700}
    assert rig.residues(WINDOW) == {public(ANN): 500}
    told = {each.policy: each.value for each in rig.mint._cashier.residues(public(ANN))}
    assert told == {POOL: 700, WINDOW: 500}
    assert rig.mint._cashier.residues(public(PrivateKey(b"\x05" * 32))) == []


def test_a_channel_without_claim_key_keeps_its_own_and_leaves_it(rig):
    """spec: WT-14"""
    rig.mine(POOL, 0, channel=8, price=700)
    rig.mine(POOL, 0, channel=9, price=200)
    assert sorted(rig.residues(POOL).values()) == [200, 700]
    rig.mint.forget_channel(1, 8)
    rig.advance()
    assert min(rig.residues(POOL).items()) == (bytes(33), 700)
    rig.restart()
    rig.advance()
    assert rig.residues(POOL) == {bytes(33): 900}
    # Another channel of the same numbers begins with nothing.
    assert rig.mine(POOL, 0, channel=8, price=999) == []


def test_a_late_share_of_a_channel_that_has_ended_is_its_claimants(rig):
    rig.mint.forget_channel(1, 1)
    rig.mine(POOL, 0, price=700)
    assert rig.residues(POOL) == {public(ANN): 700}


def test_a_refused_claim_leaves_the_residue_alone_and_earns_its_own_price_later(rig):
    """spec: WT-13, WT-20"""
    keyset = rig.mint.current(POOL)
    [token] = rig.mine(POOL, 0, price=1_500)
    shares = [rig.share(POOL, 1, price=1_250), rig.share(POOL, 0, price=600)]
    fresh = rig.wallet.message()
    claims = [(keyset.short, token.message), (keyset.short, fresh)]
    enclosure, _ = rig.submit(shares, claims)
    assert enclosure.rejected == [(0, "blinded-message-reused")]
    # 500 and 600: one unit.
    assert units(rig.unblind(keyset.id, [fresh])) == 1
    assert rig.residues(POOL) == {public(ANN): 100}
    repeated = rig.repeated(shares[0], keyset.short, rig.wallet.message())
    claimed = rig.mint._register.claim(repeated)
    assert (claimed.exponent, claimed.new) == (1, True)
    assert rig.residues(POOL) == {public(ANN): 600}
    assert rig.row(keyset.id).value == 1_500 + 600 + 2_500


def test_a_share_without_token_is_claimed_once(rig):
    """spec: WT-19, EW-16, EW-19"""
    keyset = rig.mint.current(POOL)
    share, message = rig.share(POOL, 0, price=10), rig.wallet.message()
    rig.submit([share], [(keyset.short, message)])
    again = rig.mint._receipts.repeat(rig.repeated(share, keyset.short, message), lazy=False)
    assert again[22:] == (9).to_bytes(4, "little") + bytes([255, 0, 0, 0, 0, 0])
    other = rig.repeated(share, keyset.short, rig.wallet.message())
    assert code_of(rig.mint._register.claim, other) == "duplicate-share"
    assert rig.residues(POOL) == {public(ANN): 10}
    # And its blinded message is signed for nothing else.
    enclosure, _ = rig.submit([rig.share(POOL, 3)], [(keyset.short, message)])
    assert enclosure.rejected == [(0, "blinded-message-reused")]


def test_a_full_keyset_refuses_claims_and_keeps_residues(rig):
    """spec: WT-24"""
    keyset = rig.mint.current(POOL)
    rig.mine(POOL, 0, price=1_500)
    with rig.store.change() as connection:
        connection.execute("UPDATE keyset SET work = ?", ((1 << 63) - 3,))
    # 500 and 1,000: one unit of two; then 2,500, which makes three with the 500 left: too many.
    shares = [rig.share(POOL, 0), rig.share(POOL, 0, price=2_500), rig.share(POOL, 0, price=100)]
    claims = [(keyset.short, rig.wallet.message()) for _ in shares]
    enclosure, _ = rig.submit(shares, claims)
    assert enclosure.rejected == [(1, "epoch-closed"), (2, "epoch-closed")]
    assert rig.residues(POOL) == {public(ANN): 500}


# Cash-outs.


def test_a_cash_out_is_answered_again_and_never_given_twice(rig):
    """spec: EW-35, EW-36"""
    keyset = rig.mint.current(POOL)
    rig.mine(POOL, 3, price=1_990)
    left = (1_990 << 3) - 8_000
    messages = [rig.wallet.message() for _ in range(3)]
    [told] = rig.mint._cashier.residues(public(ANN))
    assert (told.keyset_id, told.units, told.value) == (keyset.id, 7, left)
    first = rig.cash_out(ANN, POOL, [1, 2, 4], messages)
    assert units(first) == 7
    assert rig.residues(POOL) == {public(ANN): left - 7_000}
    assert rig.cash_out(ANN, POOL, [1, 2, 4], messages) == first
    assert rig.residues(POOL) == {public(ANN): left - 7_000}
    assert rig.row(keyset.id).work == 8 + 7
    assert code_of(rig.cash_out, ANN, POOL, [2, 1, 4], messages) == "blinded-message-reused"
    mixed = [rig.wallet.message(), *messages[1:]]
    assert code_of(rig.cash_out, ANN, POOL, [1, 2, 4], mixed) == "blinded-message-reused"
    fresh = [rig.wallet.message() for _ in messages]
    assert code_of(rig.cash_out, ANN, POOL, [1, 2, 4], fresh) == "amount-mismatch"
    assert code_of(rig.cash_out, BEN, POOL, [1, 2, 4], messages) == "blinded-message-reused"


def test_the_same_cash_out_is_answered_when_its_keyset_has_closed(rig):
    """spec: EW-36"""
    rig.mine(POOL, 3, price=1_990)
    keyset = rig.mint.current(POOL)
    messages = [rig.wallet.message()]
    [token] = rig.cash_out(ANN, POOL, [4], messages)
    before = rig.residues(POOL)
    rig.settle()
    outputs = [(4, messages[0])]
    signature = signed(ANN, keyset.id, outputs)
    done = rig.mint._cashier.cash_out(public(ANN), keyset.id, made(keyset.id, outputs), signature)
    assert len(done.signatures) == 1
    assert rig.residues(POOL) == before
    fresh = [(2, rig.wallet.message())]
    arguments = public(ANN), keyset.id, made(keyset.id, fresh), signed(ANN, keyset.id, fresh)
    assert code_of(rig.mint._cashier.cash_out, *arguments) == "stale-keyset"
    # What was cashed out is money as any other.
    assert units(rig.redeem([token])) == rig.worth([token])


def made(keyset, outputs):
    return [Output(amount, keyset, message) for amount, message in outputs]


def signed(key, keyset, outputs):
    return key.sign_schnorr(cash_out_hash(public(key), keyset, outputs))


def test_only_the_holder_of_the_key_cashes_out(rig):
    """spec: EW-34"""
    rig.mine(POOL, 3, price=1_990)
    keyset = rig.mint.current(POOL).id
    outputs = [(4, rig.wallet.message())]
    cash_out = rig.mint._cashier.cash_out
    good = signed(ANN, keyset, outputs)
    other = [(2, outputs[0][1])]
    for key, asked, signature, code in (
        (public(ANN), outputs, signed(BEN, keyset, outputs), "invalid-signature"),
        (public(BEN), outputs, good, "invalid-signature"),
        (public(ANN), other, good, "invalid-signature"),
        (public(ANN), outputs, good[:63], "invalid-signature"),
        (bytes(33), outputs, good, "invalid-claim-pubkey"),
        (public(ANN), [], good, "too-many-items"),
        (public(ANN), [(1, bytes(33))] * 65, good, "too-many-items"),
        (public(ANN), [(3, outputs[0][1])], good, "amount-mismatch"),
        (public(ANN), [(1, b"\x02" + bytes(32))], good, "invalid-blinded-message"),
    ):
        assert code_of(cash_out, key, keyset, made(keyset, asked), signature) == code
    unknown = signed(ANN, bytes(33), outputs)
    refused = code_of(cash_out, public(ANN), bytes(33), made(bytes(33), outputs), unknown)
    assert refused == "unknown-epoch"
    assert units(rig.cash_out(ANN, POOL, [4])) == 4


# Money.


def test_a_payment_is_divided_by_what_tokens_cost(rig):
    """spec: ES-7"""
    rig.mine(POOL, 3)
    first = rig.mint.current(POOL)
    # The epoch's block is orphaned, and difficulty doubles: a unit of the next keyset costs half.
    block = rig.block(1_000)
    rig.chain.block_target = target_of(7).to_bytes(32, "little")
    rig.orphan(block)
    rig.block(1_000)
    second = rig.mint.current(POOL)
    rig.mine(POOL, 3, price=500)
    rig.settle(1_000)
    rows = [rig.row(keyset.id) for keyset in (first, second)]
    assert rows[0].unit_value == UNIT
    assert all(row.state == KeysetState.FINAL for row in rows)
    with rig.store.look() as connection:
        for row in rows:
            for allocated, paid, *_ in table.allocations_of_keyset(connection, row.number):
                assert paid.by_value
                weight = row.work * row.unit_value
                least = (paid.theta_sats * 1000 + paid.carry_in_msat) * weight // paid.work
                assert least <= allocated.msat <= least + 1


def test_keysets_of_work_among_them_are_divided_by_work(tmp_path):
    """spec: ES-7"""
    rig = Rig(tmp_path, unit_exponent=0)
    rig.mine(WINDOW, 3)
    rig.rule = BY_VALUE
    rig.restart()
    rig.advance()
    rig.mine(WINDOW, 4, price=1_000)
    rig.settle(3_000)
    rows = [row for row in rig.rows(WINDOW) if row.work]
    assert [bool(row.unit_value) for row in rows] == [False, True]
    assert [row.theta_msat for row in rows] == share_out(3_000_000, [8, 16])
    rig.store.close()


def test_difficulty_weighs_as_ever(tmp_path):
    """Where shares count their work, prices mean nothing and nothing is left over.

    spec: WT-12
    """
    rig = Rig(tmp_path, unit_exponent=0)
    tokens = [*rig.mine(POOL, 3, price=1_999), *rig.mine(POOL, 3, price=1)]
    assert [token.amount for token in tokens] == [8, 8]
    assert rig.residues(POOL) == {}
    assert rig.row(rig.mint.current(POOL).id).unit_value == 0
    rig.store.close()


def test_the_statement_tells_values_and_hands_residues_on(rig):
    """spec: ES-20, ES-24"""
    first = rig.mint.current(POOL).id
    rig.mine(POOL, 3, price=1_990)
    rig.mine(POOL, 0, price=5, channel=2)
    rig.settle()
    second = rig.mint.current(POOL).id
    rig.cash_out(ANN, POOL, [1, 4])
    rig.mine(POOL, 1, price=1_100)
    rig.settle()
    one, two = (
        json.loads(rig.mint._publisher.statement(keyset).document)["statement"]
        for keyset in (first, second)
    )
    assert one["format"] == "radpool-ecash-statement/2"
    assert (one["unit_value"], one["value"]) == ("1000", str((1_990 << 3) + 5))
    assert (one["previous"], one["residue_in"]) == (None, "0")
    assert (one["claims"], one["tokens"], one["cash_outs"]) == (2, {"3": 1}, {})
    assert two["previous"] == first.hex()
    assert two["residue_in"] == one["residue_out"] == str((1_990 << 3) + 5 - 8_000)
    assert two["cash_outs"] == {"0": 1, "2": 1}
    spent = int(two["residue_in"]) + int(two["value"]) - int(two["residue_out"])
    assert spent == two["work"] * UNIT
    [row] = two["settlements"]
    assert (row["by"], row["weight"]) == ("value", str(two["work"] * UNIT))
    # A claim without token and a token without share have their places in the tree.
    with rig.store.look() as connection:
        query = "SELECT message FROM blinded WHERE exponent = 255 OR id < -(1 << 61)"
        messages = [message for (message,) in connection.execute(query)]
    assert len(messages) == 3
    assert sorted(rig.mint._publisher.inclusion(each).units for each in messages) == [0, 1, 4]


# What the verifier recomputes.


@pytest.fixture
def export(rig, tmp_path):
    """Two keysets of one epoch's payment: a residue, a share without token, a cash-out."""
    rig.mine(POOL, 0, price=5, channel=2)
    rig.mine(POOL, 3, price=1_990)
    rig.block(1_000)
    rig.cash_out(ANN, POOL, [1, 2])
    rig.mine(POOL, 2, price=1_140)
    rig.settle(1_000)
    directory = tmp_path / "export"
    with rig.store.look() as connection:
        epochs = [epoch for (epoch,) in connection.execute("SELECT epoch FROM settlement_epoch")]
    published = published_keysets(rig.store, epochs)
    export_epoch(rig.store, KEY, directory, epochs[-1], lambda _scope: claimed_batches(published))
    export_keysets(directory, published)
    return directory


def test_what_is_told_of_values_verifies(export):
    """spec: ES-23, ES-24"""
    report = verify_export(export)
    assert len(report.keysets) == 2
    assert sum(each.claims for each in report.keysets) == 3
    assert not any("residue" in note for note in report.notes)


def resign(file, change):
    """Lets the MSP sign something else."""
    told = json.loads(file.read_bytes())["statement"]
    change(told)

    def canonical(value):
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    signature = KEY.sign(tagged_hash("radpool/statement", canonical(told))).hex()
    file.write_bytes(canonical({"statement": told, "signature": signature}))


def add(name, number):
    return lambda told: told.update({name: str(int(told[name]) + number)})


def cheaper(told):
    told["unit_value"] = "999"
    left = int(told["residue_in"]) + int(told["value"]) - told["work"] * 999
    told["residue_out"] = str(left)
    for row in told["settlements"]:
        row["weight"] = str(told["work"] * 999)


LIES = {
    "value": (1, add("value", 1), "its shares are worth"),
    "out": (1, add("residue_out", 1), "residues are"),
    "in": (1, add("residue_in", 1), "residues are"),
    "in-and-out": (
        1,
        lambda told: (add("residue_in", 9)(told), add("residue_out", 9)(told)),
        "behind keyset",
    ),
    "no-previous": (1, lambda told: told.update(previous=None), "is the first of its policy"),
    "weight": (
        1,
        lambda told: told["settlements"][0].update(weight="1"),
        "weighs it by another number",
    ),
    "by-work": (0, lambda told: told["settlements"][0].update(by="work"), "another number"),
    "unit": (1, cheaper, "settlement"),
    "cash-outs": (1, lambda told: told.update(cash_outs={"0": 1}), "tokens are not those"),
    "unit-of-nothing": (1, lambda told: told.update(unit_value="0"), "a wrong one"),
    "by-nothing": (1, lambda told: told["settlements"][0].update(by="luck"), "a wrong one"),
}


@pytest.mark.parametrize("lie", LIES)
def test_signed_lies_about_values_are_found(export, lie):
    """spec: ES-23, ES-24"""
    which, change, words = LIES[lie]
    files = sorted(
        (export / "ecash").glob("*.json"),
        key=lambda file: json.loads(file.read_bytes())["statement"]["number"],
    )
    resign(files[which], change)
    with pytest.raises(FaultyMSPError, match=words):
        verify_export(export)


def test_cash_outs_that_are_left_out_or_made_up_are_found(export):
    """spec: ES-22, ES-23"""
    [file] = (export / "ecash").glob("*.cashouts")
    good = file.read_bytes()
    assert len(good) == 2 * 34
    for wrong in (b"", good[:34], good[:-1], good + good[:34], b"\x40" + good[1:]):
        file.write_bytes(wrong)
        with pytest.raises(FaultyMSPError):
            verify_export(export)
    file.unlink()
    with pytest.raises(FaultyMSPError, match="are not those of the statement"):
        verify_export(export)


def test_residues_of_a_keyset_elsewhere_are_noted(export):
    """spec: ES-24"""
    files = sorted(
        (export / "ecash").glob("*.json"),
        key=lambda file: json.loads(file.read_bytes())["statement"]["number"],
    )
    resign(files[1], lambda told: told.update(previous="01" * 33))
    assert any("is not in this export" in note for note in verify_export(export).notes)


# Crashes.


@pytest.mark.parametrize("after", [False, True])
def test_the_mint_dies_between_any_two_statements_and_loses_nothing(tmp_path, monkeypatch, after):
    """attack: A25
    spec: WT-14, WT-18, EW-36
    """
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3,
        "connect",
        lambda *args, **given: connect(*args, factory=FailingConnection, **given),
    )
    FUSE.left = None
    rig = Rig(tmp_path, rule=BY_VALUE)

    def name():
        rig.mint.name_claimant(1, 1, public(ANN))
        rig.mint.name_claimant(1, 2, public(BEN))

    name()
    [known] = rig.mine(POOL, 1)
    keyset = rig.mint.current(POOL)
    specs = [(0, 10, 1), (2, 1_140, 2), (2, 1_140, 1), (0, 5, 7), (3, 1_990, 1)]
    shares = [rig.share(POOL, z, price=price, channel=channel) for z, price, channel in specs]
    messages = [rig.wallet.message() for _ in shares]
    messages[2] = known.message
    claims = [(keyset.short, message) for message in messages]
    later = rig.wallet.message()
    taken = [rig.wallet.message() for _ in range(2)]
    acts = (
        lambda: rig.submit(shares, claims),
        lambda: rig.mint._register.claim(rig.repeated(shares[2], keyset.short, later)),
        lambda: rig.cash_out(ANN, POOL, [1, 2], taken),
    )
    for act in acts:
        deaths = 0
        while True:
            FUSE.left, FUSE.after = deaths, after
            try:
                act()
            except StoreError:
                FUSE.left = None
                deaths += 1
                rig.restart()
                name()
            else:
                FUSE.left = None
                break
            assert balanced(rig)
        assert deaths > 5
    assert balanced(rig)
    row = rig.row(keyset.id)
    values = [(price << z) for z, price, _ in specs]
    assert row.value == 2_000 + sum(values)
    assert rig.residues(POOL)[public(BEN)] == values[1] - 4_000
    assert rig.residues(POOL)[public(ANN)] == 10 + values[4] - 8_000 + values[2] - 8_000 - 3_000
    assert row.work == 2 + 4 + 8 + 8 + 3
    rig.store.close()


def balanced(rig):
    rows = rig.rows(POOL)
    return sum(row.value - row.work * row.unit_value for row in rows) == sum(
        rig.residues(POOL).values()
    )


# Old files.


def test_a_file_of_the_schema_before_goes_on(tmp_path):
    """Its keysets count work and are closed; what their tokens are worth is what it was."""
    rig = Rig(tmp_path, unit_exponent=0)
    [token] = rig.mine(POOL, 3, price=1_700)
    keyset = rig.mint.current(POOL).id
    rig.store.close()
    with sqlite3.connect(rig.file) as connection:
        newer = ("registration_order", "registration_told")
        for name in (
            "cash_out",
            "value_settlement",
            "residue",
            "keyset_value",
            "unclaimed",
            *newer,
        ):
            connection.execute(f"DROP TABLE {name}")
        connection.execute(
            "CREATE TABLE unclaimed (hash BLOB NOT NULL PRIMARY KEY CHECK (length(hash) = 32), "
            "sequence INTEGER NOT NULL, place INTEGER NOT NULL, time_ms INTEGER NOT NULL) STRICT, "
            "WITHOUT ROWID"
        )
        connection.execute("CREATE INDEX unclaimed_time ON unclaimed (time_ms)")
        connection.execute("INSERT INTO unclaimed VALUES (?, 0, 0, ?)", (bytes(32), EPOCH_MS))
        connection.execute("PRAGMA user_version = 3")
    connection.close()
    rig.rule = BY_VALUE
    rig.open()
    rig.advance()
    assert rig.state(keyset) == KeysetState.CLOSED
    assert rig.row(keyset).unit_value == 0
    assert rig.mint.current(POOL).unit_value == UNIT
    rig.mine(POOL, 3, price=1_700)
    rig.settle(1_000)
    assert rig.row(keyset).state == KeysetState.FINAL
    assert sum(each.amount for each in rig.redeem([token])) == rig.row(keyset).theta_msat // 1000
    rig.store.close()

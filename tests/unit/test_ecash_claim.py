"""Claims of shares: one token for one share and one blinded message, whatever is sent again."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mint_rig import KEY, Rig, Wallet
from radpool_sv2_extensions.ecash import message as wire

from radpool_sv2.ecash.policy import KeysetState, Policy
from radpool_sv2.ecash.price import WORK_MAX
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.slot import parse_claim
from radpool_sv2.store import ecash as table
from radpool_sv2.store import ecash_token as tokens
from radpool_sv2.verify.bip340 import is_signed_by

POOL, WINDOW, NETWORK = Policy.POOL, Policy.WINDOW, Policy.NETWORK


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path, grace_s=120)
    yield rig
    rig.store.close()


def refused(code, function, *args, **options):
    with pytest.raises(RefusedError) as caught:
        function(*args, **options)
    assert caught.value.error_code == code, caught.value


def claimed(rig):
    with rig.store.look() as connection:
        [(count,)] = connection.execute("SELECT COUNT(*) FROM blinded WHERE id >= 0")
    return count


# In a batch.


def test_claims_are_stored_with_their_shares(rig):
    tokens_ = rig.mine(WINDOW, 0, 3, 5)
    assert [token.amount for token in tokens_] == [1, 8, 32]
    row = rig.row(tokens_[0].keyset)
    assert row.work == 41
    with rig.store.look() as connection:
        rows = list(tokens.claims_of_keyset(connection, row.number, 0, 10))
    assert [(sequence, place, exponent) for sequence, place, exponent, _ in rows] == [
        (0, 0, 0),
        (0, 1, 3),
        (0, 2, 5),
    ]


def test_a_blinded_message_is_signed_for_one_share_only(rig):
    """attack: A3"""
    first = rig.mine(WINDOW, 3)
    again = first[0].message
    keyset = rig.mint.current(WINDOW)
    pool = rig.mint.current(POOL)
    shares = [rig.share(WINDOW, 2), rig.share(POOL, 2), rig.share(WINDOW, 1)]
    fresh = rig.wallet.message()
    claims = [(keyset.short, again), (pool.short, again), (keyset.short, fresh)]
    enclosure, duplicates = rig.submit(shares, claims)
    assert duplicates == []
    assert enclosure.rejected == [(0, "blinded-message-reused"), (1, "blinded-message-reused")]
    assert rig.row(keyset.id).work == 8 + 2
    assert rig.row(pool.id).work == 0
    # Both may be claimed with another message.
    for share, short in zip(shares, (keyset.short, pool.short), strict=False):
        rig.mint._register.claim(rig.repeated(share, short, rig.wallet.message()))
    assert claimed(rig) == 4


def test_a_message_of_an_output_is_no_claim(rig):
    """attack: A3"""
    held = rig.mine(WINDOW, 3)
    [output] = rig.wallet.outputs(held[0].keyset, 8)
    rig.exchange(held[0].keyset, [held[0].proof], [output], into_sats=False)
    keyset = rig.mint.current(WINDOW)
    enclosure, _ = rig.submit([rig.share(WINDOW, 1)], [(keyset.short, output.blinded)])
    assert enclosure.rejected == [(0, "blinded-message-reused")]


def test_messages_that_agree_where_the_index_looks_are_refused_not_lost(rig):
    first = b"\x02" + b"\x05" * 16 + b"\x01" * 16
    second = b"\x03" + b"\x05" * 16 + b"\x02" * 16
    with rig.store.change() as connection:
        assert tokens.add_claims(connection, [(1 << 40, first, 1, 0)]) == []
        assert tokens.add_claims(connection, [((1 << 40) + 1, second, 1, 0)]) == [0]
        assert tokens.find_blinded(connection, first).id == 1 << 40
        assert tokens.find_blinded(connection, second) is None


def test_shares_that_the_ledger_has_get_no_second_token(rig):
    """attack: A2"""
    keyset = rig.mint.current(WINDOW)
    share, other = rig.share(WINDOW, 2), rig.share(WINDOW, 2)
    rig.submit([share], [(keyset.short, rig.wallet.message())])
    claims = [(keyset.short, rig.wallet.message()), (keyset.short, rig.wallet.message())]
    enclosure, duplicates = rig.submit([share, other], claims)
    assert duplicates == [(0, "duplicate-share")]
    assert enclosure.rejected == []
    with rig.store.look() as connection:
        assert tokens.find_blinded(connection, claims[0][1]) is None
        assert tokens.find_blinded(connection, claims[1][1]).share == (1, 0)
    assert rig.row(keyset.id).work == 8
    refused(
        "duplicate-share",
        rig.mint._register.claim,
        rig.repeated(share, keyset.short, rig.wallet.message()),
    )


def test_a_keyset_takes_claims_of_its_policys_shares_only(rig):
    pool = rig.mint.current(POOL)
    shares = [rig.share(WINDOW, 2), rig.share(None, 2)]
    claims = [(pool.short, rig.wallet.message()) for _ in shares]
    enclosure, _ = rig.submit(shares, claims)
    assert enclosure.rejected == [(0, "unknown-keyset"), (1, "unknown-keyset")]
    # A share that is paid otherwise never has a token.
    refused(
        "unknown-keyset",
        rig.mint._register.claim,
        rig.repeated(shares[1], pool.short, rig.wallet.message()),
    )
    with rig.store.look() as connection:
        [(count,)] = connection.execute("SELECT COUNT(*) FROM unclaimed")
    assert count == 1


def test_a_keyset_counts_to_2_63(rig):
    """attack: A14"""
    keyset = rig.mint.current(POOL)
    with rig.store.change() as connection:
        table.change_keyset(connection, keyset.number, work=WORK_MAX - 10)
    shares = [rig.share(POOL, z) for z in (3, 2, 0)]
    claims = [(keyset.short, rig.wallet.message()) for _ in shares]
    enclosure, _ = rig.submit(shares, claims)
    assert enclosure.rejected == [(1, "epoch-closed"), (2, "epoch-closed")]
    assert rig.row(keyset.id).work == WORK_MAX - 2
    rig.advance()
    assert rig.mint.current(POOL).id != keyset.id, "a keyset that is half full ends"


def test_a_batch_that_could_not_be_written_is_stored_whole_the_next_time(rig):
    """attack: A25"""
    keyset = rig.mint.current(WINDOW)
    again = rig.mine(WINDOW, 1)[0].message
    shares = [rig.share(WINDOW, 2), rig.share(WINDOW, 3)]
    claims = [(keyset.short, again), (keyset.short, rig.wallet.message())]
    _, enclosure = rig.enclose(shares, claims)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), rig.store.change() as connection:
            enclosure.store(connection, 7, ())
            raise ZeroDivisionError
    assert claimed(rig) == 1
    with rig.store.change() as connection:
        enclosure.store(connection, 7, ())
    assert enclosure.rejected == [(0, "blinded-message-reused")]
    assert claimed(rig) == 2
    assert rig.row(keyset.id).work == 2 + 8


# Which keyset.


def test_an_open_keyset_takes_shares_of_earlier_epochs(rig):
    late = rig.share(POOL, 2)
    rig.block(10)
    keyset = rig.mint.current(POOL)
    enclosure, _ = rig.submit([late], [(keyset.short, rig.wallet.message())])
    assert enclosure.rejected == []


def test_a_closed_keyset_takes_shares_of_its_own_epoch_for_a_while(rig):
    """attack: A23 spec: WT-9"""
    keyset = rig.mint.current(POOL)
    shares = [rig.share(POOL, 2) for _ in range(3)]
    rig.block(10)
    own = rig.share(POOL, 2)
    claims = [(keyset.short, rig.wallet.message()), (keyset.short, rig.wallet.message())]
    enclosure, _ = rig.submit([shares[0], own], claims)
    assert enclosure.rejected == [(1, "stale-keyset")]
    rig.now_ms = rig.row(keyset.id).closed_ms + 120_000
    enclosure, _ = rig.submit([shares[1]], [(keyset.short, rig.wallet.message())])
    assert enclosure.rejected == []
    rig.now_ms += 1
    enclosure, _ = rig.submit([shares[2]], [(keyset.short, rig.wallet.message())])
    assert enclosure.rejected == [(0, "stale-keyset")]


def test_a_share_of_an_epoch_that_the_mint_has_not_reached_is_stale(rig):
    keyset = rig.mint.current(POOL)
    rig.books.record_block(bytes(32), 101, 1, 0)
    early = rig.share(POOL, 2)
    enclosure, _ = rig.submit([early], [(keyset.short, rig.wallet.message())])
    assert enclosure.rejected == [(0, "stale-keyset")]


def test_a_heights_keyset_takes_shares_of_that_height(rig):
    """attack: A23"""
    keyset = rig.mint.current(NETWORK)
    on_time, late = rig.share(NETWORK, 2), rig.share(NETWORK, 2)
    rig.grow(1)
    after = rig.share(NETWORK, 2)
    claims = [(keyset.short, rig.wallet.message()), (keyset.short, rig.wallet.message())]
    enclosure, _ = rig.submit([on_time, after], claims)
    assert enclosure.rejected == [(1, "stale-keyset")]
    current = rig.mint.current(NETWORK)
    enclosure, _ = rig.submit([late], [(current.short, rig.wallet.message())])
    assert enclosure.rejected == [], "an open keyset takes late shares"


def test_a_keyset_that_froze_behind_the_batchs_back_takes_nothing(rig):
    """attack: A23 spec: ES-8"""
    keyset = rig.mint.current(POOL)
    share = rig.share(POOL, 2)
    slots = rig.mint._register.rack.slots
    rig.mine(POOL, 3)
    rig.settle(100)
    rig.mint._register.rack.slots = slots
    enclosure, _ = rig.submit([share], [(keyset.short, rig.wallet.message())])
    assert enclosure.rejected == [(0, "stale-keyset")]
    assert rig.row(keyset.id).work == 8


def test_an_empty_keyset_of_a_paid_epoch_takes_nothing_more(rig):
    keyset = rig.mint.current(POOL)
    late = rig.share(POOL, 2)
    rig.mine(WINDOW, 2)
    rig.settle(100)
    enclosure, _ = rig.submit([late], [(keyset.short, rig.wallet.message())])
    assert enclosure.rejected == [(0, "stale-keyset")], "nothing would ever pay it"


# Once more.


def test_the_same_claim_has_the_same_token_for_ever(rig):
    """attack: A25"""
    keyset = rig.mint.current(POOL)
    share, message = rig.share(POOL, 2), rig.wallet.message()
    rig.submit([share], [(keyset.short, message)])
    repeated = rig.repeated(share, keyset.short, message)
    assert not rig.mint._register.claim(repeated).new
    receipts = {rig.mint._receipts.repeat(repeated, lazy=False)}
    rig.settle(100)
    rig.restart()
    rig.advance()
    receipts.add(rig.mint._receipts.repeat(repeated, lazy=False))
    assert len(receipts) == 1
    assert claimed(rig) == 1
    other = rig.share(POOL, 2)
    rig.submit([other], [None])
    refused(
        "blinded-message-reused",
        rig.mint._register.claim,
        rig.repeated(other, keyset.short, message),
    )


def test_a_lazy_receipt_signs_the_running_hash(rig):
    """attack: A8 spec: EW-13"""
    keyset = rig.mint.current(POOL)
    root = bytes(32)
    for number in range(3):
        share, message = rig.share(POOL, 2), rig.wallet.message()
        rig.submit([share], [(bytes(8), message)])
        repeated = rig.repeated(share, keyset.short, message, sequence=number)
        payload = rig.mint._receipts.repeat(repeated, lazy=True)
        assert rig.mint._receipts.repeat(repeated, lazy=True) == payload
        receipt = wire.SubmitSharesEcashExtendedSuccess.decode(payload)
        root = wire.receipt_root(root, message, 2, share.hash(KEY.public))
        assert receipt.receipt_root == root
        assert is_signed_by(KEY.public, receipt.receipts_hash(), receipt.receipt_sig)
        assert (receipt.new_submits_accepted_count, receipt.new_shares_sum) == (0, 0)
        assert [(each.sequence_number, each.z) for each in receipt.receipts] == [(number, 2)]


def test_a_share_whose_claim_was_bad_is_claimed_by_its_resend(rig):
    keyset = rig.mint.current(POOL)
    share = rig.share(POOL, 3)
    enclosure, _ = rig.submit([share], [(b"\x01" * 8, rig.wallet.message())])
    assert enclosure.rejected == [(0, "unknown-keyset")]
    claim = rig.mint._register.claim
    refused("unknown-keyset", claim, rig.repeated(share, b"\x01" * 8, rig.wallet.message()))
    refused("invalid-blinded-message", claim, rig.repeated(share, keyset.short, b"\x04" * 33))
    refused("invalid-blinded-message", claim, rig.repeated(share, keyset.short, b"\x02" * 32))
    done = claim(rig.repeated(share, keyset.short, message := rig.wallet.message()))
    assert (done.new, done.exponent, done.keyset) == (True, 3, keyset.number)
    assert rig.row(keyset.id).work == 8
    refused("duplicate-share", claim, rig.repeated(share, keyset.short, rig.wallet.message()))
    assert not claim(rig.repeated(share, keyset.short, message)).new
    [token] = rig.unblind(keyset.id, [message])
    rig.settle(50)
    assert sum(each.amount for each in rig.redeem([token])) == 50


def test_old_unclaimed_shares_are_forgotten(rig):
    """attack: A26"""
    keyset = rig.mint.current(POOL)
    share = rig.share(POOL, 3)
    rig.submit([share], [(b"\x01" * 8, rig.wallet.message())])
    rig.wait(2 * 3600 + 1)
    refused(
        "duplicate-share",
        rig.mint._register.claim,
        rig.repeated(share, keyset.short, rig.wallet.message()),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08" + bytes(8),
        b"\x08" + bytes(8) + b"\x21" + bytes(32),
        b"\x08" + bytes(8) + b"\x21" + bytes(34),
        b"\x07" + bytes(8) + b"\x21" + bytes(33),
        b"\x08" + bytes(8) + b"\x20" + bytes(33),
    ],
)
def test_a_malformed_claim_is_told_so(data):
    """attack: A4"""
    refused("invalid-blinded-message", parse_claim, data, tlvs=False)
    refused("invalid-blinded-message", parse_claim, data, tlvs=True)


def test_both_forms_of_a_claim():
    short, message = b"12345678", b"\x02" + b"\x09" * 32
    tail = b"\x08" + short + b"\x21" + message
    tlv = b"\x45\x4e\x01\x29\x00" + short + message
    assert parse_claim(tail, tlvs=False) == parse_claim(tlv, tlvs=True) == (short, message)
    refused("invalid-blinded-message", parse_claim, tlv + b"\x00", tlvs=True)
    refused("invalid-blinded-message", parse_claim, b"\x45\x4e\x02" + tlv[3:], tlvs=True)


@given(seed=st.integers(0, 2**32), steps=st.integers(5, 25))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_permutation_of_replays_makes_one_token(tmp_path_factory, seed, steps):
    """attack: A2, A3"""
    rig = Rig(tmp_path_factory.mktemp("replays"), grace_s=120)
    chance = random.Random(seed)
    keysets = [rig.mint.current(POOL), rig.mint.current(WINDOW)]
    shares = [rig.share(policy, 2) for policy in (POOL, WINDOW, POOL)]
    messages = [rig.wallet.message() for _ in range(3)]
    try:
        for _ in range(steps):
            share = chance.choice(shares)
            short = chance.choice(keysets).short
            message = chance.choice(messages)
            if chance.random() < 0.5:
                picked = chance.sample(shares, 2)
                rig.submit(picked, [(short, message), (short, chance.choice(messages))])
            else:
                try:
                    rig.mint._register.claim(rig.repeated(share, short, message))
                except RefusedError as error:
                    assert error.error_code != ""
            if chance.random() < 0.1:
                rig.restart()
        with rig.store.look() as connection:
            rows = connection.execute("SELECT id, message FROM blinded").fetchall()
        assert len({row[0] for row in rows}) == len({row[1] for row in rows}) == len(rows) <= 3
        work = sum(rig.row(keyset.id).work for keyset in keysets)
        assert work == 4 * len(rows)
    finally:
        rig.store.close()


def test_states_of_keysets_are_those_of_the_wire():
    names = ["open", "closed", "provisional", "final", "void", "expired"]
    assert [state.word for state in KeysetState] == names
    assert [policy.word for policy in Policy] == ["network", "pool", "window", "fixed"]
    assert Wallet().message() == Wallet().message()

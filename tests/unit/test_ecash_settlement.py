"""Settlements become prices: the policies, fees, carry, reorgs, expiry."""

import pytest
from mint_rig import BLOCK_BITS, Rig
from radpool_sv2_extensions.ecash import message

from radpool_sv2.ecash.policy import KeysetState, Policy
from radpool_sv2.ecash.price import fee_of, share_out, value_of, value_of_each
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.store import ecash as table

POOL, WINDOW, NETWORK, FIXED = Policy.POOL, Policy.WINDOW, Policy.NETWORK, Policy.FIXED


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    rig.store.close()


@pytest.fixture
def make(tmp_path):
    made = []

    def make(**settings):
        rig = Rig(tmp_path, **settings)
        made.append(rig)
        return rig

    yield make
    for rig in made:
        rig.store.close()


def refused(code, function, *args, **options):
    with pytest.raises(RefusedError) as caught:
        function(*args, **options)
    assert caught.value.error_code == code, caught.value
    return caught.value


# Pool.


def test_a_pool_epoch_is_paid_by_its_block(rig):
    """spec: ES-4, ES-9"""
    held = rig.mine(POOL, 3, 4, 3)
    keyset = held[0].keyset
    rig.block(1_000)
    assert rig.state(keyset) is KeysetState.PROVISIONAL
    rig.grow(2)
    assert rig.state(keyset) is KeysetState.FINAL
    assert rig.row(keyset).theta_msat == 1_000_000
    assert refused("immature", rig.redeem, held).retry_after_s > 0
    rig.grow(2)
    sats = rig.redeem(held)
    assert sum(token.amount for token in sats) == 1_000
    assert rig.books_of(POOL) == {"reward": -1_000_000, "keyset": 0, "issued": 1_000_000}


def test_an_orphaned_blocks_keysets_are_paid_by_the_next(rig):
    """spec: ES-10, ES-18"""
    first = rig.mine(POOL, 4)
    orphan = rig.block(700)
    second = rig.mine(POOL, 4, 4, 4)
    rig.grow(1)
    rig.orphan(orphan)
    assert rig.state(first[0].keyset) is KeysetState.CLOSED
    rig.settle(1_000)
    assert rig.row(first[0].keyset).theta_msat == 250_000
    assert rig.row(second[0].keyset).theta_msat == 750_000
    assert len(rig.redeem(first)) > 0


def test_odd_millisats_go_to_the_largest_remainders(rig):
    """spec: ES-7"""
    tokens = []
    for _ in range(3):
        tokens.append(rig.mine(POOL, 4)[0])
        rig.orphan(rig.block(5))
    rig.mine(NETWORK, 0)
    rig.settle(1)
    thetas = [rig.row(token.keyset).theta_msat for token in tokens]
    assert sum(thetas) <= 1_000
    # 1 sat over 48 units of pool and 1 of network: the ledger gives the satoshi to the pool's.
    assert thetas == [334, 333, 333]


def test_claims_freeze_with_the_first_allocation(rig):
    """attack: A23 spec: ES-8"""
    rig.mine(POOL, 4)
    keyset = rig.mint.current(POOL)
    share = rig.share(POOL, 3)
    rig.settle(1_000)
    rig.now_ms -= 10_000
    enclosure, _ = rig.submit([share], [(keyset.short, rig.wallet.message())])
    assert enclosure.rejected == [(0, "stale-keyset")]
    assert rig.row(keyset.id).work == 16


# Network.


def test_only_the_height_of_the_pools_block_is_paid(rig):
    """spec: ES-9"""
    lost = rig.mine(NETWORK, 4)
    rig.grow(1)
    won = rig.mine(NETWORK, 3)
    rig.block(1_000)
    assert rig.state(won[0].keyset) is KeysetState.PROVISIONAL
    assert rig.state(lost[0].keyset) is KeysetState.CLOSED
    rig.grow(rig.settings.coinbase_maturity)
    assert rig.state(won[0].keyset) is KeysetState.FINAL
    assert rig.row(won[0].keyset).theta_msat == 1_000_000
    assert rig.state(lost[0].keyset) in {KeysetState.VOID, KeysetState.EXPIRED}
    rig.redeem(won)


def test_a_height_that_another_won_is_void_when_it_is_deep(rig):
    lost = rig.mine(NETWORK, 4)
    rig.grow(rig.confirmations - 1)
    rig.wait(2)
    assert rig.state(lost[0].keyset) is KeysetState.CLOSED
    rig.grow(1)
    assert rig.state(lost[0].keyset) is KeysetState.VOID
    refused("epoch-void", rig.redeem, lost, 1)
    refused("epoch-void", rig.swap, lost, [8, 8])


def test_a_void_height_lives_again_when_the_payment_is_taken_back(rig):
    """attack: A20"""
    first = rig.mine(NETWORK, 4)
    orphan = rig.block(1_000)
    second = rig.mine(NETWORK, 4)
    rig.orphan(orphan)
    winner = rig.block(500)
    rig.grow(2)
    assert rig.row(second[0].keyset).theta_msat == 500_000
    assert rig.state(first[0].keyset) is KeysetState.VOID
    rig.orphan(winner)
    rig.revive(orphan)
    assert rig.row(first[0].keyset).theta_msat == 1_000_000
    assert rig.row(second[0].keyset).theta_msat == 0


def test_a_block_at_a_height_without_work_is_carried(rig):
    """spec: ES-6"""
    rig.mine(NETWORK, 4)
    rig.grow(1)
    rig.settle(900)
    assert rig.books_of(NETWORK) == {"reward": -900_000, "carry": 900_000}
    held = rig.mine(NETWORK, 2)
    rig.settle(100)
    assert rig.row(held[0].keyset).theta_msat == 1_000_000
    assert rig.books_of(NETWORK)["carry"] == 0


# Window.


def test_a_block_pays_whole_slices_back_to_n_difficulties(rig):
    """spec: ES-5"""
    slices = []
    for _ in range(8):
        slices.append(rig.mine(WINDOW, BLOCK_BITS - 1)[0].keyset)
        rig.advance()
        assert rig.mint.current(WINDOW).id != slices[-1]
    rig.block(4_000)
    rig.grow(rig.confirmations)
    paid = [rig.row(keyset).theta_msat for keyset in slices]
    # Two difficulties of work are four slices of half a difficulty.
    assert paid == [0] * 4 + [1_000_000] * 4
    states = [rig.state(keyset) for keyset in slices]
    rig.wait(2)
    states = [rig.state(keyset) for keyset in slices]
    assert states[:4] == [KeysetState.VOID] * 4
    assert states[4:] == [KeysetState.CLOSED] * 4, "the next block may pay them once more"
    for _ in range(4):
        rig.mine(WINDOW, BLOCK_BITS - 1)
        rig.advance()
    rig.wait(2)
    assert [rig.state(keyset) for keyset in slices[4:]] == [KeysetState.FINAL] * 4


def test_a_slice_is_paid_by_several_blocks(rig):
    token = rig.mine(WINDOW, BLOCK_BITS - 1)[0]
    rig.settle(1_000)
    assert rig.row(token.keyset).theta_msat == 1_000_000
    rig.mine(WINDOW, BLOCK_BITS - 1)
    rig.settle(1_000)
    assert rig.row(token.keyset).theta_msat == 1_500_000
    refused("epoch-open", rig.redeem, [token], 1_500)


def test_a_slice_waits_for_blocks_that_could_still_pay_it(rig):
    token = rig.mine(WINDOW, BLOCK_BITS - 1)[0]
    rig.block(1_000)
    for _ in range(8):
        rig.mine(WINDOW, BLOCK_BITS - 1)
        rig.advance()
    rig.wait(2)
    assert rig.state(token.keyset) is KeysetState.PROVISIONAL
    rig.grow(rig.confirmations)
    rig.wait(2)
    assert rig.state(token.keyset) is KeysetState.FINAL
    assert rig.row(token.keyset).theta_msat == 1_000_000


def test_a_harder_chain_does_not_reach_back_to_final_slices(rig):
    """spec: ES-18"""
    token = rig.mine(WINDOW, BLOCK_BITS - 1)[0]
    rig.settle(1_000)
    for _ in range(4):
        rig.mine(WINDOW, BLOCK_BITS - 1)
        rig.advance()
    rig.wait(2)
    assert rig.state(token.keyset) is KeysetState.FINAL
    rig.chain.block_target = (int.from_bytes(rig.chain.block_target, "little") >> 3).to_bytes(
        32, "little"
    )
    later = rig.mine(WINDOW, BLOCK_BITS - 1)
    rig.settle(1_000)
    assert rig.row(token.keyset).theta_msat == 1_000_000
    assert rig.row(later[0].keyset).theta_msat > 0
    assert rig.books_of(WINDOW).get("carry", 0) == 0, "the others share all of it"


# Fixed.


def fixed(make, **settings):
    return make(
        policies=("fixed",),
        fixed_price_msat=3_000,
        fixed_price_units=2,
        fixed_reserve_msat=60_000,
        **settings,
    )


def test_fixed_tokens_are_redeemed_at_once(make):
    """spec: ES-14"""
    rig = fixed(make)
    held = rig.mine(FIXED, 3, 2)
    sats = rig.redeem(held)
    assert sum(token.amount for token in sats) == 18
    assert rig.books_of(FIXED) == {"operator": -18_000, "issued": 18_000}


def test_no_more_work_is_bought_than_the_reserve_pays(make):
    """attack: A12 spec: ES-14"""
    rig = fixed(make)
    rig.mine(FIXED, 5)
    keyset = rig.mint.current(FIXED)
    shares = [rig.share(FIXED, z) for z in (2, 2, 2)]
    claims = [(keyset.short, rig.wallet.message()) for _ in shares]
    enclosure, _ = rig.submit(shares, claims)
    # The reserve pays 40 units, of which 32 are claimed.
    assert enclosure.rejected == [(2, "mint-unavailable")]
    assert rig.row(keyset.id).work == 40
    rig.advance()
    refused("insolvent", rig.mint.choose_policy, 8, 1)
    rig.settle(300)
    assert rig.mint.choose_policy(8, 1)[0] is FIXED
    assert rig.books_of(FIXED) == {"reward": -300_000, "operator": 300_000}


def test_a_reward_that_is_taken_back_does_not_pay_fixed_prices(make):
    """attack: A12"""
    rig = fixed(make)
    held = rig.mine(FIXED, 5)
    block = rig.settle(300)
    more = rig.mine(FIXED, 6)
    rig.orphan(block)
    rig.redeem(held)
    refused("insolvent", rig.redeem, more)
    assert rig.books_of(FIXED)["operator"] == -48_000


def test_fixed_prices_end_by_the_clock_and_stay_payable(make):
    rig = fixed(make, fixed_hours=1)
    empty = rig.mint.current(FIXED)
    rig.wait(3_700)
    assert rig.mint.current(FIXED).id == empty.id, "nobody has a claim: the keyset goes on"
    [token] = rig.mine(FIXED, 3)
    rig.wait(3_700)
    assert rig.mint.current(FIXED).id != token.keyset
    assert rig.state(token.keyset) is KeysetState.CLOSED
    rig.wait(2)
    assert rig.state(token.keyset) is KeysetState.FINAL
    rig.redeem([token])


# Fees, carry, expiry.


def test_the_fee_is_the_least_that_was_announced(make):
    """attack: A9 spec: ES-6"""
    rig = make(fee_ppm=10_000, fee_fixed_msat=500)
    first = rig.mine(POOL, 4)
    rig.orphan(rig.block(5))
    rig.restart(fee_ppm=100_000)
    rig.advance()
    announced = message.EcashKeysetAnnounce.decode(rig.view(first[0].keyset).announcement)
    assert (announced.fee_ppm, announced.fee_fixed_msat) == (10_000, 500)
    second = rig.mine(POOL, 4)
    rig.settle(1_000)
    fee = 10_000 + 500
    assert rig.books_of(POOL)["fee"] == fee
    assert rig.row(first[0].keyset).theta_msat + rig.row(second[0].keyset).theta_msat == (
        1_000_000 - fee
    )


def test_terms_change_with_the_next_keyset_only(make):
    """attack: A9"""
    rig = make(fee_ppm=0)
    before = rig.mint.current(POOL)
    rig.restart(fee_ppm=500)
    rig.advance()
    assert rig.mint.current(POOL).id == before.id
    rig.block(1)
    after = rig.mint.current(POOL)
    announced = message.EcashKeysetAnnounce.decode(after.announcement)
    assert announced.fee_ppm == 500
    assert announced.supersedes == before.id


def test_what_nobody_redeems_goes_to_the_next_settlement(make):
    """spec: ES-19"""
    rig = make(expiry_days=1)
    held = rig.mine(POOL, 3, 3, 3)
    keyset = held[0].keyset
    rig.settle(1_000)
    assert sum(token.amount for token in rig.redeem(held[:1])) == 333
    rig.wait(24 * 3600 + 1)
    assert rig.state(keyset) is KeysetState.EXPIRED
    assert rig.books_of(POOL)["carry"] == 667_000
    refused("expired", rig.redeem, held[1:], 666)
    refused("expired", rig.swap, held[1:], [16])
    later = rig.mine(POOL, 3)
    rig.settle(1)
    assert rig.row(later[0].keyset).theta_msat == 668_000
    with rig.store.look() as connection:
        assert connection.execute("SELECT COUNT(*) FROM spent").fetchone() == (0,)


def test_a_redemption_is_answered_after_its_keyset_expired(make):
    rig = make(expiry_days=1)
    held = rig.mine(POOL, 3)
    rig.settle(1_000)
    outputs = rig.wallet.outputs(rig.mint.sat_keyset_id, 1_000)
    request = held[0].keyset, [held[0].proof], outputs
    answer = rig.exchange(*request, into_sats=True)
    rig.wait(24 * 3600 + 1)
    assert rig.exchange(*request, into_sats=True) == answer


def test_empty_keysets_are_forgotten(rig):
    """attack: A26"""
    for _ in range(10):
        rig.grow(1)
        rig.wait(2)
    with rig.store.look() as connection:
        assert table.count_keysets(connection) < 3 + 1 + 10
    numbers = [row.number for row in rig.rows(NETWORK)]
    assert numbers[-1] > 10, "no number is used again: its keys would be the same"


# Reorgs.


@pytest.mark.parametrize("depth", [1, 5, 6, 99])
def test_a_block_that_is_orphaned_has_paid_nobody(make, depth):
    """attack: A20 spec: ES-13, ES-16"""
    rig = make(confirmations=6, coinbase_maturity=100)
    held = rig.mine(POOL, 4, 4)
    block = rig.block(1_000)
    rig.grow(depth - 1)
    expected = KeysetState.PROVISIONAL if depth < 6 else KeysetState.FINAL
    assert rig.state(held[0].keyset) is expected
    refused("epoch-open" if depth < 6 else "immature", rig.redeem, held, 1_000)
    rig.orphan(block)
    assert rig.state(held[0].keyset) is KeysetState.CLOSED
    assert rig.row(held[0].keyset).theta_msat == 0
    refused("epoch-open", rig.redeem, held, 1_000)
    assert sum(rig.books_of(POOL).values()) == 0
    assert rig.books_of(POOL).get("operator", 0) == 0
    rig.settle(600)
    rig.grow(100)
    assert sum(token.amount for token in rig.redeem(held)) == 600


def test_at_maturity_it_pays(make):
    rig = make(confirmations=6, coinbase_maturity=100)
    held = rig.mine(POOL, 4)
    rig.block(1_000)
    rig.grow(98)
    refused("immature", rig.redeem, held)
    rig.grow(1)
    rig.redeem(held)


def test_an_orphan_whose_reversal_is_not_booked_yet_pays_nobody(make):
    """attack: A20"""
    rig = make(advance_cap_sats=10_000)
    held = rig.mine(POOL, 4)
    block = rig.block(1_000)
    rig.grow(2)
    assert rig.state(held[0].keyset) is KeysetState.FINAL
    # The ledger has seen that the block is gone, and died before it took the payment back.
    rig.store.see_blocks({block: None})
    refused("immature", rig.redeem, held)


def test_an_advance_that_is_lost_is_the_operators(make):
    """attack: A12, A20 spec: ES-16"""
    rig = make(advance_cap_sats=600)
    held = rig.mine(POOL, 3, 3, 3, 3)
    block = rig.block(1_000)
    rig.grow(2)
    rig.redeem(held[:2])
    refused("immature", rig.redeem, held[2:3])
    rig.orphan(block)
    books = rig.books_of(POOL)
    assert books == {"reward": 0, "keyset": 0, "issued": 500_000, "operator": -500_000}
    # What is paid later to tokens that were redeemed already is the operator's, at expiry.
    rig.settle(800)
    assert sum(token.amount for token in rig.redeem(held[2:])) == 400
    rig.wait(91 * 24 * 3600)
    books = rig.books_of(POOL)
    assert books["operator"] == -100_000
    assert books.get("carry", 0) == 0


def test_a_loss_is_made_up_for_by_the_carry_that_came_of_it(make):
    rig = make(expiry_days=1, advance_cap_sats=1_000)
    held = rig.mine(POOL, 3, 3)
    block = rig.settle(1_000)
    rig.redeem(held[:1])
    rig.wait(25 * 3600)
    assert rig.books_of(POOL)["carry"] == 500_000
    rig.orphan(block)
    books = rig.books_of(POOL)
    assert books == {"reward": 0, "keyset": 0, "issued": 500_000, "carry": 0, "operator": -500_000}


def test_a_restart_between_settlement_and_mint_loses_nothing(rig):
    """attack: A25"""
    held = rig.mine(POOL, 4)
    block = rig.block(1_000)
    height = rig.chain.tip.height
    rig.books.reconcile({block: 5})
    rig.chain.tip = type(rig.chain.tip)(height + 4, bytes(32))
    rig.restart()
    rig.advance()
    assert rig.row(held[0].keyset).theta_msat == 1_000_000
    rig.advance()
    assert rig.row(held[0].keyset).theta_msat == 1_000_000


# Formulas.


def test_the_drafts_example():
    """spec: ES-11"""
    theta = 312_500_000_000
    alice, bob, carol = 7 << 10, 3 << 12, 1 << 13
    work = alice + bob + carol
    sats = [value_of(theta, work, units) // 1_000 for units in (alice, bob, carol)]
    assert sats == [81_018_518, 138_888_888, 92_592_592]
    each = [
        value_of_each(theta, work, [1 << 10] * 7),
        value_of_each(theta, work, [1 << 12] * 3),
        value_of_each(theta, work, [1 << 13]),
    ]
    together = [value_of(theta, work, units) for units in (alice, bob, carol)]
    assert all(a <= b for a, b in zip(each, together, strict=True))
    assert theta - 11 < sum(each) <= sum(together) <= theta


@pytest.mark.parametrize("per_share", [False, True])
def test_the_drafts_example_through_the_mint(make, per_share):
    rig = make(per_share_price=per_share)
    alice = rig.mine(POOL, *[0] * 7)
    bob = rig.mine(POOL, *[2] * 3)
    carol = rig.mine(POOL, 3)
    rig.settle(312_500_000)
    assert sum(token.amount for token in rig.redeem(alice, 81_018_518)) == 81_018_518
    assert sum(token.amount for token in rig.redeem(bob, 138_888_888)) == 138_888_888
    assert sum(token.amount for token in rig.redeem(carol, 92_592_592)) == 92_592_592
    assert rig.books_of(POOL)["keyset"] == 2_000


def test_per_share_prices_lose_what_the_sum_does_not(make):
    rig = make(per_share_price=True)
    held = rig.mine(POOL, *[0] * 7)
    rig.settle(7)
    assert rig.row(held[0].keyset).theta_msat == 7_000
    rig.mine(POOL, *[0] * 7)
    held = rig.mine(POOL, *[0] * 23)
    rig.settle(40)
    # 40,000 msat over 30 units: 1,333 each, of which 23 are 30,659 and not 30,666.
    assert sum(token.amount for token in rig.redeem(held, 30)) == 30


@pytest.mark.parametrize(
    ("theta", "work", "units", "value"),
    [
        (2**63 - 1, 2**63 - 1, 2**63 - 1, 2**63 - 1),
        (2**62, 2**63 - 1, 2**62, 2**62 * 2**62 // (2**63 - 1)),
        (2**62, 3, 1, 2**62 // 3),
        (1, 2**63 - 1, 2**63 - 2, 0),
        (2**64 - 1, 2**64 - 1, 2**64 - 1, 2**64 - 1),
        (0, 1, 1, 0),
    ],
)
def test_products_take_as_many_bits_as_they_need(theta, work, units, value):
    """attack: A14"""
    assert value_of(theta, work, units) == value


def test_shares_of_large_amounts_are_exact():
    """attack: A14"""
    works = [2**63 - 1, 1, 2**62]
    parts = share_out(2**62, works)
    assert sum(parts) == 2**62
    assert all(
        abs(part * sum(works) - 2**62 * work) < sum(works)
        for part, work in zip(parts, works, strict=True)
    )


def test_fees_never_exceed_what_there_is():
    assert fee_of(1_000, [(500_000, 0)]) == 500
    assert fee_of(1_000, [(1_000_000, 5)]) == 1_000
    assert fee_of(1_000, [(0, 5), (999, 0)]) == 0
    assert fee_of(1_000, []) == 0


def test_a_pool_keyset_whose_epoch_is_paid_nothing_waits(rig):
    """attack: A23. spec: ES-4, ES-10.

    Two blocks follow each other at once: shares of the first epoch are claimed in the keyset of the
    second, whose own payment has nothing for them. What is carried then may be its epoch's payment,
    as here, or a few millisats that others left: it is no price by itself.
    """
    late = rig.share(POOL, 3)
    rig.block(600)
    keyset = rig.mint.current(POOL)
    message = rig.wallet.message()
    enclosure, _ = rig.submit([late], [(keyset.short, message)])
    assert enclosure.rejected == []
    rig.block(700)
    held = rig.unblind(keyset.id, [message])
    rig.grow(10)
    assert rig.state(keyset.id) is KeysetState.CLOSED
    assert rig.books_of(POOL)["carry"] == 600_000
    next_ones = rig.mine(POOL, 3)
    rig.settle(700)
    assert rig.books_of(POOL)["carry"] == 0
    # The ledger itself carried the second block's reward to the third's.
    assert rig.row(next_ones[0].keyset).theta_msat == (600_000 + 700_000 + 700_000) // 2
    assert sum(token.amount for token in rig.redeem(held)) == 1_000


def test_a_pool_keyset_without_money_is_paid_with_the_next(rig):
    first = rig.mine(POOL, 3)
    rig.settle(0)
    assert rig.state(first[0].keyset) is KeysetState.CLOSED
    second = rig.mine(POOL, 3)
    rig.settle(500)
    assert rig.row(first[0].keyset).theta_msat == rig.row(second[0].keyset).theta_msat == 250_000


def test_a_fee_that_takes_all_prices_no_keyset_of_pool(make):
    """spec: ES-4, ES-6"""
    rig = make(fee_fixed_msat=7_000)
    first = rig.mine(POOL, 3)
    rig.settle(7)
    assert rig.state(first[0].keyset) is KeysetState.CLOSED
    assert rig.books_of(POOL)["carry"] == 7_000
    second = rig.mine(POOL, 3)
    rig.settle(15)
    assert rig.row(first[0].keyset).theta_msat == rig.row(second[0].keyset).theta_msat == 7_500
    assert rig.books_of(POOL)["fee"] == 7_000


def test_a_network_block_pays_all_work_for_its_height(rig):
    """attack: A23. spec: ES-4, ES-9.

    The tip moves before the books have the block: jobs for the next height then still name the
    epoch before, and two keysets have that height.
    """
    first = rig.mine(NETWORK, 3)
    height = rig.chain.tip.height + 1
    block = bytes([7]) * 32
    rig.known[block] = rig.blocks[block] = height
    rig.tip(height)
    early = rig.mine(NETWORK, 3)
    rig.books.record_block(block, height, 600, 0)
    rig.advance()
    late = rig.mine(NETWORK, 3)
    assert len({each.keyset for each in first + early + late}) == 3
    rig.block(700)
    rig.grow(10)
    assert [rig.row(each.keyset).theta_msat for each in first + early + late] == [
        600_000,
        350_000,
        350_000,
    ]


def test_a_keyset_is_announced_once(rig):
    """spec: ES-2. A miner whom an old keyset is announced to as new takes the mint for a cheat."""
    rig.mine(NETWORK, 3)
    rig.grow(10)
    rig.settle()
    gallery, numbers = rig.mint._gallery, [row.number for row in rig.rows(NETWORK)]
    for number in numbers:
        gallery._forget(number)
    with rig.store.look() as connection:
        changes = gallery.refresh(connection, numbers)
    assert changes
    assert not any(each.announcement for each in changes)
    announced = [each.keyset.number for each in rig.changes if each.announcement is not None]
    assert len(set(announced)) == len(announced) > 0

"""Each policy from shares to sats on a real node, its books repeated to the millisat.

The two wallets of a test hold all that the mint has ever signed: what it issued is what they have,
and what is left of a keyset is what they can still redeem.
"""

import contextlib
import signal
import sqlite3

import pytest
from rig.ecash import COINBASE_MATURITY, MATURITY, EcashScene, paid, reasons, refusals, tokens_of
from rig.mint_book import (
    CLOSED,
    EXPIRED,
    FINAL,
    FIXED,
    NETWORK,
    OPEN,
    POOL,
    PROVISIONAL,
    VOID,
    WINDOW,
)
from rig.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

# More than the blocks that are found before it matters.
DEEP = 30

WORTHLESS = {"no block pays this epoch", "expired: the mint no longer pays it"}


def let_expire(node):
    """Puts the end of all final prices into the past, as 90 days would; the node does not run."""
    with contextlib.closing(sqlite3.connect(node.database)) as database, database:
        changed = database.execute("UPDATE keyset SET expires_ms = 1 WHERE state = ?", (FINAL,))
        assert changed.rowcount > 0


def test_pool_through_orphans_to_expiry(tmp_path):
    """spec: ES-3, ES-7, ES-10, ES-13, ES-16, ES-17, ES-19, ES-23. attack: A20."""
    scene = EcashScene(tmp_path, POOL, coinbase_maturity=DEEP)
    book = scene.book
    with scene.serving():
        scene.find(2)
        scene.grow(MATURITY)
        orphaned = until(lambda: scene.in_state(FINAL), scene.describe)
        # The price is final; the money is not there yet.
        early = [each for each in scene.redeem() if each["keyset"] in orphaned]
        assert paid(early) == 0
        assert all("the mint pays from height" in each for each in reasons(early))
        scene.check()

        # All blocks of the pool leave the chain, and with them what they paid.
        payments = book.events("payment")
        scene.reorganise(max(each.confirmations or 0 for each in book.blocks()))
        until(lambda: orphaned <= scene.in_state(CLOSED), scene.describe)
        assert book.events("reversal") == payments > 0
        assert book.balance(POOL, "reward") == book.balance(POOL, "keyset") == 0
        assert paid(scene.redeem()) == 0 == scene.check()

        # The next block pays the work of them all.
        scene.decide(orphaned, DEEP)
        assert orphaned <= scene.in_state(FINAL)
        answers = scene.redeem()
        redeemed = [each for each in answers if each["keyset"] in orphaned]
        assert paid(redeemed) > 0
        assert reasons(redeemed) == {""}
        assert scene.check() > 0
        # Of each redemption, of other keysets too, less than a satoshi stays behind.
        rest = book.balance(POOL, "keyset")
        assert 0 < rest < 1_000 * sum(1 for each in answers if each["sats"] > 0)
        epoch = min(each.epoch for each in book.keysets(POOL))
        report = scene.verify(epoch)
        assert orphaned <= report.keys()
        assert {each["state"] for each in report.values()} == {"final"}

    let_expire(scene.node)
    with scene.serving():
        until(lambda: orphaned <= scene.in_state(EXPIRED), scene.describe)
        assert (book.balance(POOL, "carry"), book.balance(POOL, "keyset")) == (rest, 0)
        scene.check()
        assert all(each["issued_msat"] for each in scene.verify(epoch).values())
        # What was left comes with the next payment.
        scene.find_until(lambda: book.balance(POOL, "carry") == 0, DEEP)
        scene.earn(DEEP)
        scene.check()


def test_window_pays_slices_and_orphans_take_it_back(tmp_path):
    """spec: ES-5, ES-6, ES-8, ES-9, ES-16, ES-18, ES-23. attack: A20."""
    scene = EcashScene(tmp_path, WINDOW)
    book = scene.book
    with scene.serving():
        scene.find(5)
        scene.grow(COINBASE_MATURITY)
        # Slices that the window has left have their price; the last may be paid once more.
        scene.find_until(
            lambda: {CLOSED, FINAL} <= {each.state for each in book.keysets(WINDOW)},
            COINBASE_MATURITY,
        )
        redeemed = scene.earn(COINBASE_MATURITY)
        assert "waits for a block that pays it" in reasons(redeemed)
        issued = scene.check()
        payments = book.events("payment")

        # The last block that paid is orphaned after that: what it gave is taken back.
        lost = [each for each in book.blocks() if book.given(each.hash)][-1]
        touched = book.given(lost.hash)
        before = {each.number: each.theta for each in book.keysets(WINDOW)}
        scene.reorganise(lost.confirmations)
        assert book.events("reversal") >= 1
        after = {each.number: each for each in book.keysets(WINDOW)}
        for number in touched:
            assert after[number].theta < before[number]
        assert scene.check() == issued

        # Some of these slices are paid by the next blocks, others may be left behind: void.
        ids = {after[number].id for number in touched}
        scene.decide(ids, COINBASE_MATURITY)
        for each in book.keysets(WINDOW):
            assert each.id not in ids or (each.state == FINAL) == (each.theta > 0), each
        scene.find_until(lambda: book.events("payment") > payments, COINBASE_MATURITY)
        scene.earn(COINBASE_MATURITY)
        assert scene.check() > issued
        epoch = min(each.epoch for each in book.keysets(WINDOW) if each.state == FINAL)
        report = scene.verify(epoch)
        assert {each["state"] for each in report.values()} <= {"final", "void", "expired"}
        assert report.keys() & scene.in_state(FINAL)


def test_network_pays_the_epoch_of_its_own_block_alone(tmp_path):
    """spec: ES-3, ES-4, ES-9, ES-12, ES-19, ES-23."""
    scene = EcashScene(tmp_path, NETWORK)
    book = scene.book
    # Others find a block now and then: the tokens of that epoch of the network are worth nothing.
    begun, foreign = None, 0

    def enough():
        nonlocal begun, foreign
        own = book.blocks()
        heights = {each.height for each in own}
        others = [each for each in book.keysets(NETWORK) if each.height not in heights]
        if (
            foreign < 3 * (1 + len(own))
            and book.number("SELECT max(work) FROM keyset WHERE state = 0 AND policy = 0") > 3
        ):
            scene.running.chain("mine", 1)
            foreign += 1
        return len(own) >= 2 and own[-1].confirmations and len(others) >= 2

    with scene.serving():
        scene.mine(enough, "own blocks and others'")
        scene.grow(COINBASE_MATURITY)
        own = {each.height for each in book.blocks() if each.confirmations}
        until(
            lambda: not {CLOSED, PROVISIONAL} & {each.state for each in book.keysets(NETWORK)},
            scene.describe,
        )
        for each in book.keysets(NETWORK):
            brought = book.number(
                "SELECT sum(theta_sats * 1000 + carry_in_msat) FROM allocation "
                "JOIN mint_settlement USING (settlement) WHERE keyset = ? AND policy = ?",
                each.number,
                NETWORK,
            )
            # The ledger pays nothing for an epoch whose shares are all tagged for the one before;
            # what a block found nobody to pay for is carried to the next one's.
            pays = each.height in own and brought > 0
            assert each.state == OPEN or (each.state == FINAL) == pays, each
        redeemed = scene.earn(COINBASE_MATURITY)
        assert "" in reasons(redeemed)
        assert reasons(redeemed) & WORTHLESS
        assert scene.check() > 0
        epoch = min(each.epoch for each in book.keysets(NETWORK))
        assert {each["state"] for each in scene.verify(epoch).values()} <= {
            "final",
            "void",
            "expired",
        }
        # What is worth nothing is over after some blocks.
        scene.grow(MATURITY + 1)
        until(lambda: VOID not in {each.state for each in book.keysets(NETWORK)}, scene.describe)
        assert EXPIRED in {each.state for each in book.keysets(NETWORK)}
        assert paid(scene.redeem()) == 0
        scene.check()


def test_fixed_pays_at_once_until_its_cover_is_used_up(tmp_path):
    """spec: ES-12, ES-14. attack: A12."""
    price_msat, units = 7_000, 3
    reserve_sats = 400
    scene = EcashScene(
        tmp_path,
        FIXED,
        fixed_price_msat=price_msat,
        fixed_price_units=units,
        fixed_reserve_msat=reserve_sats * 1_000,
    )
    scene.node.change({"templates.block_zeros": 48})
    book = scene.book
    with scene.serving() as running:
        with scene.miner("alice") as alice:
            # No share counts for a token that nothing covers.
            refused = lambda: refusals(alice).get("mint-unavailable")  # noqa: E731
            until(refused, alice.tail)
            [row] = book.keysets(FIXED)
            assert row.state == OPEN
            told = running.get(f"/work/v1/keysets/{row.id}").json()
            assert (told["state"], told["work"]) == ("open", row.work)
            assert row.work * price_msat // units <= reserve_sats * 1_000
            # The price is that of the announcement, while the keyset is open.
            [done] = [each for each in scene.redeem() if each["units"]]
            assert done["reason"] == ""
            assert done["sats"] == price_msat * done["units"] // units // 1_000 > 0
            alice.signal(signal.SIGTERM)
            assert alice.wait() == 0, alice.tail()
        issued = scene.check()
        assert done["sats"] <= issued <= reserve_sats
        assert -book.balance(FIXED, "operator") == issued * 1_000


def test_fixed_owes_no_more_than_there_is(tmp_path):
    """spec: ES-3, ES-14, ES-15, ES-23. attack: A12. What blocks bring counts when mature."""
    scene = EcashScene(
        tmp_path,
        FIXED,
        coinbase_maturity=DEEP,
        fixed_price_msat=10_000,
        fixed_price_units=1,
        fixed_reserve_msat=1_000_000_000,
    )
    book = scene.book
    with scene.serving():
        scene.find(1)
        scene.grow(MATURITY)
        until(lambda: scene.in_state(FINAL), scene.describe)
        assert book.balance(FIXED, "operator") > 0
    # The operator takes the reserve away.
    scene.node.change({"ecash.fixed_reserve_msat": 1})
    with scene.serving():
        [refused] = {each["reason"] for each in scene.redeem() if each["units"] or each["reason"]}
        assert "insolvent" in refused or "reserve" in refused
        assert scene.check() == 0
        with scene.miner("alice") as alice:
            until(lambda: "insolvent" in alice.stdout.read_text(), alice.tail)
            assert tokens_of(alice) == 0
        scene.grow(DEEP)
        redeemed = scene.redeem()
        assert reasons(redeemed) == {""}
        assert (
            scene.check() == paid(redeemed) == 10 * sum(each.work for each in book.keysets(FIXED))
        )
        [state] = {each["state"] for each in scene.verify(1).values()}
        assert state == "final"

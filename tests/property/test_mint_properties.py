"""The mint under random histories: every millisat is somewhere, once, whatever the chain does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from mint_rig import Rig

from radpool_sv2.ecash.policy import KeysetState, Policy
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.store import ecash as table

NOT_NOW = {"epoch-open", "epoch-void", "immature", "expired"}
"""Why tokens that were never spent may not be redeemed at a moment."""

PAID = (Policy.WINDOW, Policy.POOL, Policy.NETWORK)


class MintHistory(RuleBasedStateMachine):
    """Drives a mint and its ledger, with wallets beside them that remember what they hold."""

    options: ClassVar[dict] = {}

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.rig = Rig(Path(self.directory.name), expiry_days=1, **self.options)
        self.held: dict[bytes, list] = {}
        self.spent: list = []
        self.sats: list = []
        self.deepest_orphan = 0

    def teardown(self) -> None:
        self.rig.store.close()
        self.directory.cleanup()

    def draw(self, number: int):
        keysets = sorted(keyset for keyset, tokens in self.held.items() if tokens)
        return keysets[number % len(keysets)]

    @rule(
        policy=st.sampled_from(PAID), exponents=st.lists(st.integers(0, 5), min_size=1, max_size=4)
    )
    def miners_work(self, policy, exponents):
        if policy not in self.rig.mint._gallery.opened:
            return
        for token in self.rig.mine(policy, *exponents):
            self.held.setdefault(token.keyset, []).append(token)
        self.rig.advance()

    @rule(value_sats=st.sampled_from([0, 1, 7, 1_000, 312_500_000]))
    def pool_finds_a_block(self, value_sats):
        self.rig.block(value_sats)

    @rule(blocks=st.integers(1, 4))
    def chain_grows(self, blocks):
        self.rig.grow(blocks)

    @precondition(lambda self: self.rig.blocks)
    @rule(which=st.integers(0, 100))
    def block_is_orphaned(self, which):
        block = sorted(self.rig.blocks)[which % len(self.rig.blocks)]
        depth = self.rig.chain.tip.height - self.rig.known[block] + 1
        self.deepest_orphan = max(self.deepest_orphan, depth)
        self.rig.orphan(block)

    @precondition(lambda self: len(self.rig.known) > len(self.rig.blocks))
    @rule(which=st.integers(0, 100))
    def orphan_returns(self, which):
        orphans = sorted(set(self.rig.known) - set(self.rig.blocks))
        self.rig.revive(orphans[which % len(orphans)])

    @precondition(lambda self: any(self.held.values()))
    @rule(which=st.integers(0, 100), share=st.integers(1, 8))
    def tokens_are_redeemed(self, which, share):
        keyset = self.draw(which)
        given_up = self.held[keyset][: max(1, len(self.held[keyset]) * share // 8)]
        sats = self.rig.worth(given_up) if self.rig.view(keyset).price_den else 0
        try:
            received = self.rig.redeem(given_up, sats or 1)
        except RefusedError as error:
            assert error.error_code in NOT_NOW | {"amount-mismatch"}
            assert error.error_code != "amount-mismatch" or sats == 0
            return
        assert sum(token.amount for token in received) == sats
        self.sats += received
        self.held[keyset] = self.held[keyset][len(given_up) :]
        self.spent.append(given_up[0])

    @precondition(lambda self: any(self.held.values()))
    @rule(which=st.integers(0, 100))
    def tokens_are_merged(self, which):
        keyset = self.draw(which)
        units = sum(token.amount for token in self.held[keyset])
        amounts = [1 << bit for bit in range(units.bit_length()) if units >> bit & 1]
        before = self.held[keyset]
        try:
            self.held[keyset] = self.rig.swap(before, amounts)
        except RefusedError as error:
            assert error.error_code in {"epoch-void", "expired"}
            return
        self.spent.append(before[0])

    @precondition(lambda self: self.spent)
    @rule(which=st.integers(0, 100))
    def spent_token_is_tried_again(self, which):
        token = self.spent[which % len(self.spent)]
        with pytest.raises(RefusedError) as caught:
            self.rig.redeem([token], 1)
        assert caught.value.error_code in NOT_NOW | {"already-spent", "amount-mismatch"}

    @rule(hours=st.sampled_from([1, 7, 25]))
    def time_passes(self, hours):
        self.rig.wait(3600 * hours)

    @rule()
    def node_restarts(self):
        self.rig.restart()
        self.rig.advance()

    @invariant()
    def every_event_sums_to_zero(self):
        with self.rig.store.look() as connection:
            query = "SELECT event FROM mint_entry GROUP BY event HAVING SUM(msat) <> 0"
            assert connection.execute(query).fetchall() == []

    @invariant()
    def books_agree_with_the_ledger(self):
        """What the ledger paid a policy is fees, carry, keysets' books and issued sats.

        spec: ES-15, ES-17
        """
        with self.rig.store.look() as connection:
            totals = table.totals(connection)
            for policy in Policy:
                account = self.rig.mint.owner(policy).account
                [(sats,)] = connection.execute(
                    "SELECT COALESCE(SUM(sats), 0) FROM entry WHERE book = 'miner' "
                    "AND account = ? AND rail = 1",
                    (account,),
                )
                books = {book: msat for (each, book), msat in totals.items() if each == policy}
                assert books.get("reward", 0) == -1000 * sats
                assert sum(books.values()) == 0
            [(issued,)] = connection.execute("SELECT COALESCE(SUM(issued_sats), 0) FROM redemption")
        assert issued == sum(token.amount for token in self.sats)
        assert 1000 * issued == sum(msat for (_, book), msat in totals.items() if book == "issued")

    @invariant()
    def no_keyset_owes_more_than_it_has(self):
        with self.rig.store.look() as connection:
            for row in table.keysets(connection, "unit = 'work'"):
                balance = table.balance(connection, row.policy, "keyset", row.number)
                allocated = sum(
                    each.msat for each, *_ in table.allocations_of_keyset(connection, row.number)
                )
                assert allocated == row.theta_msat >= 0
                assert balance >= 0
                if row.state == KeysetState.EXPIRED:
                    assert balance == 0
                elif row.work:
                    assert balance >= row.theta_msat * (row.work - row.redeemed) // row.work
                [(work,)] = connection.execute(
                    "SELECT COALESCE(SUM(count << exponent), 0) FROM keyset_sum WHERE keyset = ?",
                    (row.number,),
                )
                [(claimed,)] = connection.execute(
                    "SELECT COALESCE(SUM(1 << exponent), 0) FROM blinded WHERE keyset = ? "
                    "AND exponent <> 255 AND (id >= 0 OR id <= -(1 << 62))",
                    (row.number,),
                )
                assert work == claimed == row.work

    @invariant()
    def operator_loses_nothing_by_what_maturity_covers(self):
        """attack: A12, A20"""
        maturity = self.rig.settings.coinbase_maturity
        if self.deepest_orphan < maturity and not self.rig.settings.advance_cap_sats:
            with self.rig.store.look() as connection:
                for (_, book), msat in table.totals(connection).items():
                    assert book != "operator" or msat == 0

    @invariant()
    def nothing_changes_without_news(self):
        with self.rig.store.look() as connection:
            before = connection.execute("SELECT * FROM keyset ORDER BY number").fetchall()
        judged = self.rig.advance()
        with self.rig.store.look() as connection:
            after = connection.execute("SELECT * FROM keyset ORDER BY number").fetchall()
        assert before == after
        assert judged == []


class AdvancingHistory(MintHistory):
    """The same, for an operator who lends."""

    options: ClassVar[dict] = {"advance_cap_sats": 500, "fee_ppm": 10_000, "fee_fixed_msat": 7}

    @invariant()
    def advances_stay_below_their_cap(self):
        """attack: A12"""
        with self.rig.store.look() as connection:
            if self.deepest_orphan == 0:
                used = table.immature_advance(connection, self.rig.settings.coinbase_maturity)
                assert used <= 500_000


COMMON = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}

TestMintHistory = MintHistory.TestCase
TestMintHistory.settings = settings(max_examples=25, stateful_step_count=30, **COMMON)
TestAdvancingHistory = AdvancingHistory.TestCase
TestAdvancingHistory.settings = settings(max_examples=15, stateful_step_count=30, **COMMON)

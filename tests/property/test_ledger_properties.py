"""The ledger under random histories: nothing is created, lost or counted twice."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import defaultdict
from itertools import count
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from shares import Key, Owner, Share, ShareBatch

from radpool_sv2.ledger.books import Books
from radpool_sv2.ledger.export import export_epoch
from radpool_sv2.store import SqliteStore
from radpool_sv2.verify import verify_export
from radpool_sv2.verify.payout import payouts_of

KEY = Key()
MATURITY = 2
NAMES = ("alice", "bob", "carol")


class LedgerHistory(RuleBasedStateMachine):
    """Drives the books with a model beside them that only counts."""

    blocks = Bundle("blocks")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.file = Path(self.directory.name) / "ledger.sqlite"
        self.clock = count(1_700_000_000_000)
        self.numbers = count(1)
        self.exports = count()
        self.books = self.open()
        self.accounts = [self.books.account(name) for name in NAMES]
        self.sent: list[Share] = []
        self.counted: dict[tuple[int, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
        self.frozen = 0
        self.active: dict[bytes, int | None] = {}
        self.values: dict[bytes, int] = {}

    def open(self) -> Books:
        store = SqliteStore(self.file, owner=KEY.public, time_ms=0)
        return Books(store, KEY, maturity_blocks=MATURITY, unix_ms=lambda: next(self.clock))

    def teardown(self) -> None:
        self.books.store.close()
        self.directory.cleanup()

    @rule(
        owners=st.lists(
            st.tuples(st.integers(0, 2), st.integers(0, 3), st.booleans()), min_size=1, max_size=6
        ),
        replayed=st.lists(st.integers(0, 10_000), max_size=3),
    )
    def shares_arrive(self, owners, replayed):
        shares = []
        for account, z, late in owners:
            epoch = max(1, self.books.current_epoch - late)
            owner = Owner(self.accounts[account].commitment, epoch, 0, self.accounts[account].id)
            shares.append(Share(owner, z=z, ntime=1 + next(self.numbers)).mined(KEY.public))
        fresh = len(shares)
        shares += [self.sent[index % len(self.sent)] for index in replayed if self.sent]
        refused = [index for index, _ in self.books.commit(ShareBatch(shares))]
        assert refused == list(range(fresh, len(shares)))
        for share in shares[:fresh]:
            self.sent.append(share)
            key = (max(share.owner.epoch, self.frozen + 1), share.owner.account)
            shares_before, work_before = self.counted[key]
            self.counted[key] = (shares_before + 1, work_before + (1 << share.z))

    @rule(target=blocks, value_sats=st.integers(0, 10_000))
    def block_is_found(self, value_sats):
        number = next(self.numbers)
        block = number.to_bytes(4, "little") * 8
        epoch = self.books.current_epoch
        assert self.books.record_block(block, number, value_sats, self.accounts[0].id) == epoch + 1
        self.active[block] = 1
        self.values[block] = value_sats
        return block

    @rule(block=blocks, confirmations=st.sampled_from([None, 1, MATURITY, 100]))
    def chain_moves(self, block, confirmations):
        self.active[block] = confirmations
        done = self.books.reconcile({block: confirmations})
        for payment in done.paid:
            self.frozen = max(self.frozen, *payment.epochs)

    @rule(block=consumes(blocks))
    def block_is_forgotten(self, block):
        """Leaves a block in whatever state it is for the rest of the history."""

    @rule()
    def everything_is_looked_at_again(self):
        done = self.books.reconcile(self.active)
        for payment in done.paid:
            self.frozen = max(self.frozen, *payment.epochs)
        again = self.books.reconcile(self.active)
        assert (again.paid, again.reversed) == ((), ())

    @rule()
    def node_restarts(self):
        self.books.store.close()
        self.books = self.open()

    @rule(which=st.integers(0, 100))
    def epoch_is_exported_and_verified(self, which):
        epoch = 1 + which % self.books.current_epoch
        directory = Path(self.directory.name) / f"export{next(self.exports)}"
        export_epoch(self.books.store, KEY, directory, epoch)
        report = verify_export(directory)
        own = sum(work for (number, _), (_, work) in self.counted.items() if number == epoch)
        assert report.work == own

    @invariant()
    def sums_are_those_of_the_shares_sent(self):
        epochs = range(1, self.books.current_epoch + 1)
        rows = self.books.store.sums(epochs)
        assert {(row.epoch, row.account): (row.count, row.work) for row in rows} == self.counted

    @invariant()
    def sql_python_and_verifier_agree_on_each_payment(self):
        commitments = {account.id: account.commitment for account in self.accounts}
        with sqlite3.connect(self.file) as connection:
            payments = connection.execute(
                "SELECT id, block, value_sats, carry_in, carry_out FROM settlement "
                "WHERE reverses IS NULL"
            ).fetchall()
            for number, block, value_sats, carry_in, carry_out in payments:
                work = connection.execute(
                    "SELECT account, SUM(work_0) + (SUM(work_40) << 40) FROM epoch_sum "
                    "WHERE epoch IN (SELECT epoch FROM settlement_epoch WHERE settlement = ?) "
                    "GROUP BY account",
                    (number,),
                ).fetchall()
                paid = connection.execute(
                    "SELECT account, sats FROM entry WHERE settlement = ? AND book = 'miner'",
                    (number,),
                ).fetchall()
                owners = {(commitments[account], 0): own for account, own in work}
                payouts, carry = payouts_of(value_sats + carry_in, owners, block)
                assert {(commitments[account], 0): sats for account, sats in paid} == payouts
                assert carry == carry_out
                assert sum(payouts.values()) + carry_out == value_sats + carry_in
        connection.close()

    @invariant()
    def nothing_is_created_or_lost(self):
        store = self.books.store
        _, blocks = store.blocks(0, 1000)
        brought = sum(block.value_sats for block in blocks if block.settlement is not None)
        assert sum(store.balances().values()) + store.carry() == brought
        for block in blocks:
            if self.active[block.hash] is None and block.settlement is not None:
                raise AssertionError("an orphan that was looked at is still paid out")


LedgerHistory.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestLedgerHistory = LedgerHistory.TestCase

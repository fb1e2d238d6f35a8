"""The mint's tables: older files become newer ones, and a claim takes little room."""

import random
import sqlite3

import pytest

from radpool_sv2.errors import StoreError
from radpool_sv2.store import SqliteStore, SumRow, schema
from radpool_sv2.store import ecash as table
from radpool_sv2.store import ecash_token as tokens
from radpool_sv2.store.value_schema import EPOCH_SUM

OWNER = b"\x05" * 32

CLAIMS = 100_000
BATCH = 4_096
BYTES_PER_CLAIM_MAX = 100


@pytest.fixture
def file(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def store(file):
    store = SqliteStore(file, owner=OWNER, time_ms=1)
    yield store
    store.close()


OLD_SUMS = """
    CREATE TABLE epoch_sum (
        epoch INTEGER NOT NULL REFERENCES epoch,
        account INTEGER NOT NULL REFERENCES account,
        rail INTEGER NOT NULL,
        count INTEGER NOT NULL,
        work_0 INTEGER NOT NULL CHECK (work_0 BETWEEN 0 AND 0xffffffffff),
        work_40 INTEGER NOT NULL CHECK (work_40 BETWEEN 0 AND 0xffffffffff),
        work_80 INTEGER NOT NULL CHECK (work_80 BETWEEN 0 AND 0xffffffffffff),
        PRIMARY KEY (epoch, account, rail)
    ) STRICT, WITHOUT ROWID
"""


def make_version_1(file):
    """Writes a ledger as it was before there was a mint, and before shares had a value."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    for statement in schema.STATEMENTS:
        connection.execute(OLD_SUMS if statement == EPOCH_SUM else statement)
    for name in schema.APPEND_ONLY:
        for change in ("UPDATE", "DELETE"):
            connection.execute(
                f"CREATE TRIGGER {name}_no_{change.lower()} BEFORE {change} ON {name} "
                f"BEGIN SELECT RAISE(ABORT, '{name} is append-only'); END"
            )
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    connection.execute("INSERT INTO meta VALUES ('owner', ?)", (OWNER,))
    connection.execute("INSERT INTO meta VALUES ('prefix', 77)")
    connection.execute("INSERT INTO epoch VALUES (1, 0, 1, NULL, NULL)")
    connection.execute("INSERT INTO account VALUES (1, 'alice', ?, ?, 5)", (b"s" * 16, b"c" * 32))
    connection.execute("INSERT INTO batch VALUES (0, ?, 1, 1, 1, ?)", (b"h" * 32, b"blob"))
    connection.execute("INSERT INTO epoch_sum VALUES (1, 1, 0, 3, 5, 6, 7)")
    connection.execute("COMMIT")
    connection.close()


def layout(file):
    connection = sqlite3.connect(file)
    try:
        rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")
        return sorted(rows, key=str), connection.execute("PRAGMA user_version").fetchone()
    finally:
        connection.close()


def test_a_ledger_without_a_mint_becomes_one_with(file, tmp_path):
    make_version_1(file)
    store = SqliteStore(file, owner=OWNER, time_ms=1)
    assert store.head() == (0, b"h" * 32)
    assert store.find_account("alice").id == 1
    assert store.lease_prefixes(1) == 77
    work = 5 + (6 << 40) + (7 << 80)
    assert store.sums([1]) == [SumRow(1, 1, 0, 3, work, 0)]
    # Its shares had no prices, so that of this epoch none will ever count by value.
    assert store.weights_of_epochs([1]) == [(1, (0, 0, 0))]
    with store.change() as connection:
        assert table.next_keyset_number(connection) == 1
        assert list(table.settlements_after(connection)) == []
    store.close()
    fresh = tmp_path / "fresh.sqlite"
    SqliteStore(fresh, owner=OWNER, time_ms=1).close()
    assert layout(file) == layout(fresh)
    assert layout(file)[1] == (schema.VERSION,)


def test_a_migration_that_fails_leaves_the_old_file(file, monkeypatch):
    make_version_1(file)
    before = layout(file)

    def fail(connection):
        schema.create_mint(connection)
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setitem(schema.MIGRATIONS, 1, fail)
    with pytest.raises(StoreError):
        SqliteStore(file, owner=OWNER, time_ms=1)
    assert layout(file) == before
    monkeypatch.undo()
    SqliteStore(file, owner=OWNER, time_ms=1).close()
    assert layout(file)[1] == (schema.VERSION,)


def add_keyset(store, number=1):
    with store.change() as connection:
        row = table.KeysetRow(
            number=number,
            id=number.to_bytes(33, "big"),
            unit="work",
            policy=2,
            epoch=1,
            height=1,
            z0=0,
            opened_ms=1,
            closed_ms=None,
            first_sequence=0,
            last_sequence=None,
            state=0,
            frozen=0,
            price_num=0,
            price_den=0,
            fee_ppm=0,
            fee_fixed_msat=0,
            work=0,
            theta_msat=0,
            paid_msat=0,
            redeemed=0,
            block=None,
            redeem_after=0,
            final_ms=None,
            expires_ms=None,
            expires_height=None,
        )
        table.add_keyset(connection, row, b"announcement")


def used_bytes(store):
    with store.look() as connection:
        [(pages,)] = connection.execute("PRAGMA page_count")
        [(size,)] = connection.execute("PRAGMA page_size")
        [(free,)] = connection.execute("PRAGMA freelist_count")
    return (pages - free) * size


def test_a_claim_takes_at_most_100_bytes(store):
    """attack: A26"""
    add_keyset(store)
    chance = random.Random(4)
    before = used_bytes(store)
    for sequence in range(-(-CLAIMS // BATCH)):
        count = min(BATCH, CLAIMS - sequence * BATCH)
        rows = [
            (
                tokens.claim_id(1_000_000 + sequence, place),
                bytes([2 + place % 2]) + chance.randbytes(32),
                1,
                place % 20,
            )
            for place in range(count)
        ]
        with store.change() as connection:
            assert tokens.add_claims(connection, rows) == []
            tokens.count_claims(connection, tokens.new_sums(connection, 1_000_000 + sequence))
    with store.look() as connection:
        [(claims,)] = connection.execute("SELECT SUM(count) FROM keyset_sum")
    assert claims == CLAIMS
    assert (used_bytes(store) - before) / CLAIMS <= BYTES_PER_CLAIM_MAX


def test_claims_and_outputs_never_share_a_number(store):
    add_keyset(store)
    message = b"\x02" + bytes(32)
    with store.change() as connection:
        assert tokens.add_claims(connection, [(tokens.claim_id(0, 0), message, 1, 3)]) == []
        assert not tokens.add_outputs(connection, 1, [(message, 1, 0)])
        assert tokens.add_outputs(connection, 1, [(b"\x02" + b"\x01" * 32, 1, 0)])
        assert tokens.find_blinded(connection, message).share == (0, 0)
        assert tokens.find_blinded(connection, b"\x02" + b"\x01" * 32).share is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE blinded SET keyset = 2",
        "DELETE FROM blinded",
        "UPDATE mint_entry SET msat = 0",
        "DELETE FROM mint_entry",
        "DELETE FROM mint_event",
        "DELETE FROM redemption",
        "UPDATE allocation SET msat = 1",
        "UPDATE spent SET y = y",
        "UPDATE mint_settlement SET fee_msat = 1",
    ],
)
def test_what_is_entered_is_not_changed(store, statement):
    """attack: A12"""
    add_keyset(store)
    with store.change() as connection:
        tokens.add_claims(connection, [(1, b"\x02" + bytes(32), 1, 3)])
        table.post(connection, "expiry", 2, 1, 1, {("keyset", 1): -5, ("carry", 1): 5})
        number = tokens.add_redemption(
            connection, tokens.RedemptionRow(0, b"r" * 32, 1, 1, 0, 0, 0, 1)
        )
        tokens.add_spent(connection, number, [b"\x02" + bytes(32)])
        connection.execute("INSERT INTO block VALUES (?, 1, 1, 1, 1, 1, 1)", (b"b" * 32,))
        connection.execute(
            "INSERT INTO settlement VALUES (1, ?, NULL, 0, 1, 1, 0, 0)", (b"b" * 32,)
        )
        table.add_allocations(connection, [table.AllocationRow(1, 1, 1, 1)])
        table.settle_mint(connection, table.MintSettlementRow(1, 2, 1, 0, 0, 0, 1))
    with pytest.raises(StoreError), store.change() as connection:
        connection.execute(statement)


def test_an_event_that_does_not_balance_is_found_at_start(file, store):
    """attack: A12"""
    with store.change() as connection:
        connection.execute("INSERT INTO mint_event VALUES (1, 'loss', 1, 1, 1)")
        connection.execute("INSERT INTO mint_entry VALUES (1, 1, 'operator', 0, 5)")
    store.close()
    with pytest.raises(StoreError, match="event 1 of the mint"):
        SqliteStore(file, owner=OWNER, time_ms=1)


def test_a_number_is_taken_once(store):
    with store.change() as connection:
        assert [table.next_keyset_number(connection) for _ in range(3)] == [1, 2, 3]
    add_keyset(store, 3)
    with store.change() as connection:
        table.drop_keyset(connection, 3)
        assert table.next_keyset_number(connection) == 4

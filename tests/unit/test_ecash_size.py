"""What a claim costs on disk."""

import random

import pytest

from radpool_sv2.store import SqliteStore
from radpool_sv2.store import ecash as table
from radpool_sv2.store import ecash_token as tokens

BATCH = 250
BATCHES = 80
BYTES_MAX = 100
KEYSET = 3


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "ledger.sqlite", owner=bytes(32), time_ms=0)
    keyset = dict.fromkeys(table.KeysetRow.__dataclass_fields__, 0)
    unclosed = dict.fromkeys(("closed_ms", "last_sequence", "block", "final_ms"))
    named = {"number": KEYSET, "id": b"\x01" * 33, "unit": "work", "policy": 2}
    with store.change() as connection:
        row = table.KeysetRow(**{**keyset, **unclosed, **named, "expires_ms": None})
        table.add_keyset(connection, row, b"")
    yield store
    store.close()


def bytes_used(store):
    with store.look() as connection:
        [(pages,)] = connection.execute("PRAGMA page_count")
        [(free,)] = connection.execute("PRAGMA freelist_count")
        [(size,)] = connection.execute("PRAGMA page_size")
    return (pages - free) * size


def test_a_claim_takes_at_most_100_bytes(store):
    """`B_`, where its share is, keyset and exponent; the signature is made again when asked for.

    attack: A26
    """
    luck = random.Random(26)
    before = bytes_used(store)
    for sequence in range(BATCHES):
        rows = [
            (tokens.claim_id(sequence, place), b"\x02" + luck.randbytes(32), KEYSET, 5)
            for place in range(BATCH)
        ]
        with store.change() as connection:
            assert tokens.add_claims(connection, rows) == []
    assert (bytes_used(store) - before) / (BATCH * BATCHES) <= BYTES_MAX

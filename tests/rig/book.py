"""Reads a node's database as an auditor with nothing but SQLite would."""

import contextlib
import sqlite3

# The store's key of a share is its ntime and then this much of its header hash.
NTIME_LEN = 4
KEY_LEN = 16
LIMBS = (0, 40, 80)


class Book:
    """Is a ledger's file; the node may run at the same time."""

    def __init__(self, path):
        self.path = path

    def rows(self, query, *values):
        with contextlib.closing(
            sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=60)
        ) as connection:
            return connection.execute(query, values).fetchall()

    def number(self, query, *values):
        return self.rows(query, *values)[0][0] or 0

    def keys(self):
        """Returns what each stored share is known by, of its header hash."""
        return {key[NTIME_LEN:] for (key,) in self.rows("SELECT key FROM share")}

    def missing(self, hashes):
        """Returns those of some header hashes that are not stored."""
        keys = self.keys()
        return [each for each in hashes if each[:KEY_LEN] not in keys]

    def check(self):
        """Checks that no share is there twice, however one counts; returns their number."""
        shares = self.number("SELECT count(*) FROM share")
        assert len(self.keys()) == shares
        assert self.number("SELECT sum(count) FROM batch") == shares
        assert self.number("SELECT sum(count) FROM epoch_sum") == shares
        sequences = [number for (number,) in self.rows("SELECT sequence FROM batch ORDER BY 1")]
        assert sequences == list(range(len(sequences))), "the chain of batches has a gap"
        assert self.rows("PRAGMA integrity_check") == [("ok",)]
        return shares

    def work(self):
        """Returns the work of all shares, exact."""
        row = self.rows(f"SELECT {', '.join(f'sum(work_{limb})' for limb in LIMBS)} FROM epoch_sum")
        return sum((limb or 0) << bits for limb, bits in zip(row[0], LIMBS, strict=True))

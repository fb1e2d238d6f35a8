"""The mint dies between every two statements, and at each commit: nothing is half done."""

import sqlite3

import pytest
from mint_rig import Rig

from radpool_sv2.ecash.policy import Policy
from radpool_sv2.errors import StoreError
from radpool_sv2.store import ecash as table

POOL, WINDOW, NETWORK = Policy.POOL, Policy.WINDOW, Policy.NETWORK


class Fuse:
    """Blows at the so-manieth statement that a connection is given."""

    def __init__(self) -> None:
        self.left = None
        self.after = False
        """Whether the statement is carried out all the same: a COMMIT may be."""

    def burn(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0


FUSE = Fuse()


class FailingConnection(sqlite3.Connection):
    def _run(self, function, sql, *args):
        if not FUSE.burn():
            return function(sql, *args)
        if FUSE.after:
            function(sql, *args)
        raise sqlite3.OperationalError(f"the disk is gone at: {sql.strip()[:60]}")

    def execute(self, sql, *args):
        return self._run(super().execute, sql, *args)

    def executemany(self, sql, *args):
        return self._run(super().executemany, sql, *args)


@pytest.fixture
def rig(tmp_path, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3,
        "connect",
        lambda *args, **given: connect(*args, factory=FailingConnection, **given),
    )
    FUSE.left = None
    rig = Rig(tmp_path, advance_cap_sats=10_000)
    yield rig
    FUSE.left = None
    rig.store.close()


TABLES = (
    "keyset",
    "keyset_sum",
    "blinded",
    "unclaimed",
    "redemption",
    "spent",
    "mint_event",
    "mint_entry",
    "mint_settlement",
    "allocation",
    "mint_block",
    "statement",
    "batch",
    "meta",
)


def content(rig):
    with rig.store.look() as connection:
        return {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()
            for name in TABLES
        }


def die_everywhere(rig, act, *, after=False):
    """Runs an act with a failure at its first statement, its second, and so on until none is left.

    Returns:
        How many times it failed, and what it returned in the end.
    """
    deaths = 0
    before = content(rig)
    while True:
        FUSE.left, FUSE.after = deaths, after
        try:
            done = act()
        except StoreError:
            FUSE.left = None
            deaths += 1
            if deaths % 3 == 0:
                rig.restart()
            now = content(rig)
            if now != before:
                # Only a commit that took effect and failed to say so may have changed anything.
                assert after
                return deaths, None
        else:
            FUSE.left = None
            return deaths, done


@pytest.mark.parametrize("after", [False, True])
def test_claims_and_shares_are_stored_together_or_not_at_all(rig, after):
    """attack: A25"""
    keyset = rig.mint.current(POOL)
    known = rig.mine(POOL, 1)[0].message
    shares = [rig.share(POOL, z) for z in (2, 3, 0)]
    messages = [rig.wallet.message(), known, rig.wallet.message()]
    claims = [(keyset.short, message) for message in messages]

    def act():
        return rig.submit(shares, claims)

    deaths, _ = die_everywhere(rig, act, after=after)
    assert deaths > 5
    # Whatever the client was told, it sends its shares again.
    rig.restart()
    rig.submit(shares, claims)
    rows = content(rig)
    assert len(rows["blinded"]) == 3
    assert len(rows["unclaimed"]) == 1
    assert rig.row(keyset.id).work == 2 + 4 + 1


def test_a_repeated_claim_is_there_or_not(rig):
    """attack: A25"""
    keyset = rig.mint.current(POOL)
    share, message = rig.share(POOL, 3), rig.wallet.message()
    rig.submit([share], [(bytes(8), rig.wallet.message())])
    repeated = rig.repeated(share, keyset.short, message)
    deaths, done = die_everywhere(rig, lambda: rig.mint._register.claim(repeated))
    assert deaths > 5
    assert done.new
    again = rig.mint._register.claim(repeated)
    assert (again.message, again.keyset, again.new) == (message, keyset.number, False)
    assert rig.row(keyset.id).work == 8


@pytest.mark.parametrize("after", [False, True])
def test_a_redemption_is_whole_and_its_answer_is_the_same(rig, after):
    """attack: A1, A25"""
    held = rig.mine(POOL, 3, 3)
    rig.settle(1_000)
    outputs = rig.wallet.outputs(rig.mint.sat_keyset_id, 500)
    request = held[0].keyset, [held[0].proof], outputs

    def act():
        return rig.exchange(*request, into_sats=True)

    deaths, answer = die_everywhere(rig, act, after=after)
    assert deaths > 8
    rig.restart()
    again = act()
    assert answer is None or again == answer
    assert act() == again
    assert len(content(rig)["redemption"]) == 1
    assert rig.books_of(POOL) == {"reward": -1_000_000, "keyset": 500_000, "issued": 500_000}


def test_a_swap_is_whole(rig):
    """attack: A25"""
    held = rig.mine(POOL, 3, 3)
    outputs = rig.wallet.outputs(held[0].keyset, 16)
    proofs = [token.proof for token in held]

    def act():
        return rig.exchange(held[0].keyset, proofs, outputs, into_sats=False)

    deaths, answer = die_everywhere(rig, act)
    assert deaths > 6
    assert act() == answer
    assert len(content(rig)["spent"]) == 2


def step(rig):
    """Moves the mint without waiting for anything; the clock stands still."""
    rig.mint._judged = (0, None)
    return rig.mint._advance(None)


def test_every_move_of_keysets_is_whole(rig):
    """attack: A12, A25"""
    deaths = 0
    for policy in (POOL, WINDOW, NETWORK):
        rig.mine(policy, 4)
    block = b"\x77" * 32
    rig.books.record_block(block, rig.chain.tip.height + 1, 900, 0)
    stages = [
        {block: 1},
        {block: 3},
        {block: None},
        {block: 200},
        {block: None},
    ]
    for active in stages:
        rig.books.reconcile(active)
        rig.chain.tip = type(rig.chain.tip)(rig.chain.tip.height + 1, bytes(32))
        rig.now_ms += 10_000
        more, _ = die_until_quiet(rig)
        deaths += more
        with rig.store.look() as connection:
            totals = table.totals(connection)
        for policy in (POOL, WINDOW, NETWORK):
            assert sum(msat for (each, _), msat in totals.items() if each == policy) == 0
    assert deaths > 100
    rig.books.reconcile({block: 201})
    rig.chain.tip = type(rig.chain.tip)(400, bytes(32))
    rig.now_ms += 91 * 24 * 3600 * 1000
    die_until_quiet(rig)
    rig.now_ms += 91 * 24 * 3600 * 1000
    die_until_quiet(rig)
    with rig.store.look() as connection:
        totals = table.totals(connection)
    assert (
        totals[POOL, "carry"]
        + totals[NETWORK, "carry"]
        + totals.get((WINDOW, "carry"), 0)
        + totals.get((WINDOW, "keyset"), 0)
        == 900_000
    )


def die_until_quiet(rig):
    """Fails at every statement of a move in turn, each time going on where it stopped."""
    deaths = 0
    done = None
    while True:
        FUSE.left, FUSE.after = deaths, False
        try:
            done = step(rig)
        except StoreError:
            FUSE.left = None
            deaths += 1
            if deaths % 20 == 0:
                rig.restart()
        else:
            FUSE.left = None
            before = content(rig)
            step(rig)
            assert content(rig) == before
            return deaths, done


def test_signatures_are_the_same_after_a_restart(rig):
    """attack: A5, A25"""
    held = rig.mine(WINDOW, 0, 1, 2)
    number = rig.row(held[0].keyset).number
    items = [(token.amount, token.message) for token in held]
    first = rig.mint._keyring.keys(number, "work").sign(items)
    rig.restart()
    assert rig.mint._keyring.keys(number, "work").sign(items) == first

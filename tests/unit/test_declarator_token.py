"""Tokens of job declaration: one use, one holder, a while."""

import pytest
from declarator_rig.part import job, named, owner, tip

from radpool_sv2.declarator.token import TokenLimits, TokenStore
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.templates.declared import Unrevealed

ALICE, BOB = owner("alice"), owner("bob")
TIP = tip()


@pytest.fixture
def store():
    return TokenStore(
        TokenLimits(
            allocated_per_connection_max=3,
            allocated_max=5,
            declared_per_connection_max=2,
            declared_max=3,
            lifetime_s=100.0,
        )
    )


def refused(call, *args, **more):
    with pytest.raises(RemoteProtocolError) as caught:
        call(*args, **more)
    return caught.value.error_code


def test_allocated_token_pays_for_one_declaration(store):
    """spec: JD-5"""
    store.allocate(named("a"), 1, ALICE, whole=True, now=0.0)
    assert store.spend(named("a"), 1, 1.0) == ALICE
    assert refused(store.spend, named("a"), 1, 1.0) == "invalid-mining-job-token"


def test_allocated_token_is_of_one_connection(store):
    """spec: JD-5"""
    store.allocate(named("a"), 1, ALICE, whole=True, now=0.0)
    assert refused(store.spend, named("a"), 2, 1.0) == "invalid-mining-job-token"
    assert store.spend(named("a"), 1, 1.0) == ALICE, "a stranger's try does not use it up"


def test_token_of_a_hiding_connection_pays_for_no_declaration(store):
    """spec: JD-5"""
    store.allocate(named("a"), 1, ALICE, whole=False, now=0.0)
    assert refused(store.spend, named("a"), 1, 1.0) == "invalid-mining-job-token"


def test_declared_token_is_of_one_owner_and_one_block(store):
    """spec: JD-6"""
    declared = job(ALICE, on=TIP)
    store.declare(named("d"), declared, 0.0)
    assert refused(store.claim, named("d"), BOB.key, TIP.prev_hash, 1.0) == (
        "invalid-mining-job-token"
    )
    ecash = owner("alice", rail=1, account=ALICE.account)
    assert refused(store.claim, named("d"), ecash.key, TIP.prev_hash, 1.0) == (
        "invalid-mining-job-token"
    )
    assert store.claim(named("d"), ALICE.key, TIP.prev_hash, 1.0) is declared
    assert refused(store.claim, named("d"), ALICE.key, TIP.prev_hash, 1.0) == (
        "invalid-mining-job-token"
    )


def test_declared_token_on_another_block_is_stale_and_used_up(store):
    """spec: JD-6"""
    store.declare(named("d"), job(ALICE, on=TIP), 0.0)
    other = named("another block")
    assert refused(store.claim, named("d"), ALICE.key, other, 1.0) == "stale-chain-tip"
    assert refused(store.claim, named("d"), ALICE.key, TIP.prev_hash, 1.0) == (
        "invalid-mining-job-token"
    )


def test_allocated_token_of_a_hiding_connection_is_one_job(store):
    """spec: JD-7"""
    store.allocate(named("a"), 1, ALICE, whole=False, now=0.0)
    assert refused(store.claim, named("a"), BOB.key, TIP.prev_hash, 1.0) == (
        "invalid-mining-job-token"
    )
    claimed = store.claim(named("a"), ALICE.key, TIP.prev_hash, 1.0)
    assert claimed == Unrevealed(ALICE, named("a"))
    assert refused(store.claim, named("a"), ALICE.key, TIP.prev_hash, 1.0) == (
        "invalid-mining-job-token"
    )


def test_token_whose_declaration_is_due_is_not_yet_a_job(store):
    """spec: JD-7"""
    store.allocate(named("a"), 1, ALICE, whole=True, now=0.0)
    assert refused(store.claim, named("a"), ALICE.key, TIP.prev_hash, 1.0) == (
        "job-not-yet-validated"
    )
    assert store.spend(named("a"), 1, 1.0) == ALICE


def test_tokens_grow_old(store):
    """spec: JD-8"""
    store.allocate(named("a"), 1, ALICE, whole=True, now=0.0)
    store.declare(named("d"), job(ALICE, on=TIP), 0.5)
    assert refused(store.spend, named("a"), 1, 100.0) == "invalid-mining-job-token"
    assert store.declared == 1
    store.expire(100.5)
    assert store.declared == 0


def test_token_is_good_until_its_last_moment(store):
    """spec: JD-8"""
    store.allocate(named("a"), 1, ALICE, whole=True, now=0.0)
    assert store.spend(named("a"), 1, 99.9) == ALICE


def test_connection_takes_its_allocated_tokens_with_it(store):
    """spec: JD-8"""
    store.allocate(named("a"), 1, ALICE, whole=True, now=0.0)
    store.allocate(named("b"), 2, ALICE, whole=True, now=0.0)
    store.declare(named("d"), job(ALICE, on=TIP, connection=1), 0.0)
    store.disconnected(1)
    assert refused(store.spend, named("a"), 1, 1.0) == "invalid-mining-job-token"
    assert store.spend(named("b"), 2, 1.0) == ALICE
    assert store.claim(named("d"), ALICE.key, TIP.prev_hash, 1.0)


def test_the_oldest_token_of_a_connection_makes_room(store):
    """spec: JD-8"""
    for name in "abcd":
        store.allocate(named(name), 1, ALICE, whole=True, now=0.0)
    assert store.allocated == 3
    assert refused(store.spend, named("a"), 1, 1.0) == "invalid-mining-job-token"
    assert store.spend(named("b"), 1, 1.0) == ALICE


def test_the_oldest_token_of_all_makes_room(store):
    """spec: JD-8"""
    for connection in range(7):
        store.allocate(named(str(connection)), connection, ALICE, whole=True, now=0.0)
    assert store.allocated == 5
    assert refused(store.spend, named("1"), 1, 1.0) == "invalid-mining-job-token"
    assert store.spend(named("2"), 2, 1.0) == ALICE


def test_the_oldest_template_of_a_connection_makes_room(store):
    """spec: JD-8"""
    for name in "abc":
        store.declare(named(name), job(ALICE, on=TIP, connection=1), 0.0)
    store.declare(named("x"), job(BOB, on=TIP, connection=2), 0.0)
    assert store.declared == 3
    assert refused(store.claim, named("a"), ALICE.key, TIP.prev_hash, 1.0) == (
        "invalid-mining-job-token"
    )
    # All are too many: the connection with the most makes room, not the oldest token.
    store.declare(named("y"), job(owner("carol"), on=TIP, connection=3), 0.0)
    assert store.declared == 3
    assert refused(store.claim, named("b"), ALICE.key, TIP.prev_hash, 1.0) == (
        "invalid-mining-job-token"
    )
    assert store.claim(named("x"), BOB.key, TIP.prev_hash, 1.0)


def test_who_declares_in_anothers_name_takes_nothing_from_it(store):
    """spec: JD-8"""
    store.declare(named("honest"), job(ALICE, on=TIP, connection=1), 0.0)
    for n in range(20):
        store.declare(named(str(n)), job(ALICE, on=TIP, connection=2), 0.0)
    assert store.claim(named("honest"), ALICE.key, TIP.prev_hash, 1.0)


def test_template_that_was_let_go_is_no_job(store):
    """spec: JD-33"""
    gone, kept = job(ALICE, on=TIP), job(ALICE, on=TIP)
    store.declare(named("gone"), gone, 0.0)
    store.declare(named("kept"), kept, 0.0)
    store.keep_templates(lambda each: each is not gone)
    assert refused(store.claim, named("gone"), ALICE.key, TIP.prev_hash, 1.0) == (
        "invalid-mining-job-token"
    )
    assert store.claim(named("kept"), ALICE.key, TIP.prev_hash, 1.0) is kept


def test_templates_of_forgotten_tips_go(store):
    old, new = tip(100), tip(101)
    store.declare(named("old"), job(ALICE, on=old), 0.0)
    store.declare(named("new"), job(ALICE, on=new), 0.0)
    store.keep_tips((new.prev_hash,))
    assert store.declared == 1
    assert store.claim(named("new"), ALICE.key, new.prev_hash, 1.0)


@pytest.mark.parametrize("presented", [b"", b"\x00", bytes(31), bytes(32), bytes(33), bytes(255)])
def test_what_was_never_given_is_no_token(store, presented):
    """spec: JD-4"""
    assert refused(store.spend, presented, 1, 0.0) == "invalid-mining-job-token"
    assert refused(store.claim, presented, ALICE.key, TIP.prev_hash, 0.0) == (
        "invalid-mining-job-token"
    )


def test_replay_matrix(store):
    """Every holder tries every token twice: each is used once, by its own holder.

    spec: JD-5, JD-6, JD-7
    """
    holders = {1: ALICE, 2: BOB}
    for connection, of in holders.items():
        store.allocate(named(f"w{connection}"), connection, of, whole=True, now=0.0)
        store.allocate(named(f"h{connection}"), connection, of, whole=False, now=0.0)
        store.declare(named(f"d{connection}"), job(of, on=TIP, connection=connection), 0.0)
    used = []
    for _ in range(2):
        for connection, of in holders.items():
            for number in holders:
                for kind in "whd":
                    token = named(f"{kind}{number}")
                    calls = [
                        ("spend", store.spend, (token, connection, 1.0)),
                        ("claim", store.claim, (token, of.key, TIP.prev_hash, 1.0)),
                    ]
                    for name, call, args in calls:
                        try:
                            call(*args)
                        except RemoteProtocolError:
                            continue
                        used.append((name, kind, number, connection))
    assert sorted(used) == [
        ("claim", "d", 1, 1),
        ("claim", "d", 2, 2),
        ("claim", "h", 1, 1),
        ("claim", "h", 2, 2),
        ("spend", "w", 1, 1),
        ("spend", "w", 2, 2),
    ]

"""What the ecash extension keeps for a connection, and how often one may ask."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radpool_sv2_extensions.ecash import subscription
from radpool_sv2_extensions.ecash.allowance import Allowance
from radpool_sv2_extensions.ecash.subscription import Subscriptions, Terms

from radpool_sv2.ecash.policy import Policy

WINDOW = Terms(Policy.WINDOW, lazy=False, keyset_id=b"w")
POOL = Terms(Policy.POOL, lazy=True, keyset_id=b"p")


def test_a_bucket_begins_full_and_fills_by_itself():
    """attack: A15"""
    allowance = Allowance.full(60, 3, 1_000)
    assert [allowance.take(1_000) for _ in range(4)] == [0, 0, 0, 1]
    assert allowance.take(1_999) == 1
    assert [allowance.take(2_000), allowance.take(2_000)] == [0, 1]
    assert [allowance.take(10**9) for _ in range(4)] == [0, 0, 0, 1]


def test_the_wait_is_told_in_whole_seconds_and_is_enough():
    allowance = Allowance.full(1, 1, 0)
    assert allowance.take(0) == 0
    assert allowance.take(0) == 60
    assert allowance.take(30_001) == 30
    assert allowance.take(59_999) == 1
    assert allowance.take(60_000) == 0


def test_a_clock_that_goes_back_gives_nothing():
    allowance = Allowance.full(60, 1, 5_000)
    assert allowance.take(5_000) == 0
    assert allowance.take(1_000) == 1
    assert allowance.take(5_999) == 1
    assert allowance.take(6_000) == 0


@settings(deadline=None)
@given(
    st.integers(1, 1_000_000),
    st.integers(1, 1_000),
    st.lists(st.integers(0, 10_000), min_size=1, max_size=200),
)
def test_nobody_gets_more_than_burst_and_rate(per_minute, burst, steps):
    """attack: A15"""
    now, granted = 0, 0
    allowance = Allowance.full(per_minute, burst, now)
    for step in steps:
        now += step
        granted += allowance.take(now) == 0
        assert granted <= burst + now * per_minute // 60_000


def test_terms_wait_for_their_channel():
    kept = Subscriptions()
    kept.grant(1, 0, WINDOW)
    kept.grant(1, 1, POOL)
    assert kept.policies(1) == []
    assert kept.open(1, 1, 7) is POOL
    assert kept.open(1, 0, 8) is WINDOW
    assert kept.open(1, 0, 9) is None
    assert kept.policies(1) == [Policy.POOL, Policy.WINDOW]
    assert kept.lazy == {(1, 7)}
    kept.close(1, 7)
    assert kept.lazy == set()
    kept.grant(1, 2, POOL)
    kept.open(1, 2, 9)
    assert kept.lazy == {(1, 9)}
    kept.disconnect(1)
    assert kept.lazy == set()


def test_news_go_to_whom_they_concern_once():
    kept = Subscriptions()
    for connection in (1, 2, 3):
        kept.grant(connection, 0, WINDOW if connection < 3 else POOL)
        kept.grant(connection, 1, WINDOW if connection < 3 else POOL)
        kept.open(connection, 0, 7)
        kept.open(connection, 1, 8)
    assert list(kept.of_policy(Policy.WINDOW)) == [1, 2]
    kept.close(1, 7)
    assert list(kept.of_policy(Policy.WINDOW)) == [1, 2]
    kept.close(1, 8)
    kept.disconnect(3)
    kept.close(3, 7)
    assert list(kept.of_policy(Policy.WINDOW)) == [2]
    assert list(kept.of_policy(Policy.POOL)) == []


def test_connections_may_leave_while_they_are_told():
    kept = Subscriptions()
    for connection in (1, 2):
        kept.grant(connection, 0, WINDOW)
        kept.open(connection, 0, 7)
    told = []
    for connection in kept.of_policy(Policy.WINDOW):
        kept.disconnect(1)
        kept.disconnect(2)
        told.append(connection)
    assert told[0] == 1


def test_terms_of_clients_that_left_make_room(monkeypatch):
    """attack: A15"""
    monkeypatch.setattr(subscription, "GRANTS_PENDING_MAX", 2)
    kept = Subscriptions()
    for request in range(3):
        kept.grant(1, request, WINDOW)
    assert [kept.open(1, request, request) for request in range(3)] == [None, WINDOW, WINDOW]


@pytest.mark.parametrize("policy", list(Policy))
def test_nobody_is_told_when_nobody_is_there(policy):
    assert list(Subscriptions().of_policy(policy)) == []

"""User identities: accounts, workers, options, and everything that is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.pool.account import OpeningBudget, UserIdentity


@pytest.mark.parametrize(
    ("raw", "account", "worker", "exponent"),
    [
        (b"alice", "alice", "", None),
        (b"alice.rig1", "alice", "rig1", None),
        (b"alice.rig.1", "alice", "rig.1", None),
        (b"alice,z=20", "alice", "", 20),
        (b"alice.rig,d=1", "alice", "rig", 32),
        (b"alice,d=2", "alice", "", 33),
        (b"alice,d=3", "alice", "", 33),
        (b"alice,d=4", "alice", "", 34),
        (b"alice,z=0", "alice", "", 0),
        (b"alice,z=120", "alice", "", 120),
        (b"alice,d=" + b"9" * 40, "alice", "", 120),
        (b" alice .rig , z=7 ", "alice", "rig", 7),
        ("jürgen.grün".encode(), "jürgen", "grün", None),
        (b"a" * 255, "a" * 255, "", None),
    ],
)
def test_identities(raw, account, worker, exponent):
    assert UserIdentity.parse(raw) == UserIdentity(account, worker, exponent)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b".rig",
        b",z=1",
        b"alice\n",
        b"alice\x00",
        b"\x1b[2Jalice",
        b"\xff",
        "ali\u202ece".encode(),
        "ali\u200bce".encode(),
        b"alice,z=121",
        b"alice,z=-1",
        b"alice,z=",
        b"alice,d=0",
        b"alice,d=1_0",
        "alice,d=١".encode(),
        b"alice,d=1.5",
        b"alice,d=" + b"9" * 41,
        b"alice,x=1",
        b"alice,",
        b"alice,z=1,z=1",
        b"alice,z=1,d=1",
    ],
)
def test_refused(raw):
    with pytest.raises(RemoteProtocolError) as caught:
        UserIdentity.parse(raw)
    assert caught.value.error_code == "invalid-user-identity"


@pytest.mark.parametrize(
    ("raw", "worker", "exponent"),
    [(b"", "", None), (b" ", "", None), (b".rig", "rig", None), (b",z=1", "", 1)],
)
def test_where_an_extension_says_who_earns_no_account_is_needed(raw, worker, exponent):
    assert UserIdentity.parse(raw, anonymous=True) == UserIdentity("", worker, exponent)
    with pytest.raises(RemoteProtocolError):
        UserIdentity.parse(raw + b"\n", anonymous=True)


@given(st.binary(max_size=255))
def test_any_bytes_are_read_or_refused(raw):
    try:
        identity = UserIdentity.parse(raw)
    except RemoteProtocolError:
        return
    assert identity.account
    assert (identity.account + identity.worker).isprintable()
    assert not set(identity.account) & set(".,")


def test_openings_come_back_with_time_and_never_beyond_a_minutes_worth():
    budget = OpeningBudget(60, 100.0)
    assert [budget.take(100.0) for _ in range(61)] == [True] * 60 + [False]
    assert not budget.take(100.9)
    assert budget.take(101.0)
    assert not budget.take(101.0)
    assert [budget.take(10_000.0) for _ in range(61)] == [True] * 60 + [False]

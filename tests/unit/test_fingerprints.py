"""Tests the set of shares that have counted."""

from __future__ import annotations

from hashlib import sha256

from radpool_sv2._native.ledger import Fingerprints


def name(number: int) -> bytes:
    """Returns a fingerprint."""
    return sha256(bytes([number])).digest()[:16]


def test_shares_meet_those_that_are_there() -> None:
    known = Fingerprints(name(0) + name(1))
    assert known.meet(name(1))
    assert known.meet(name(2) + name(0))
    assert not known.meet(name(2) + name(3))
    assert not known.meet(b"")
    known.add(name(2) + name(1))
    assert known.meet(name(3) + name(2))
    assert not known.meet(name(3))


def test_fingerprints_are_met_as_a_whole() -> None:
    known = Fingerprints(name(0) + name(1)[:15])
    assert not known.meet((name(0) + name(0))[8:24])
    assert not known.meet(name(1))
    assert not known.meet(name(0)[:15])
    known.add(name(2) + name(3)[:1])
    assert known.meet(name(2))
    assert not known.meet(name(3))

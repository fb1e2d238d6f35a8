"""The tree of errors: one root, and messages that name the parts that they were given."""

from pathlib import Path

import pytest

from radpool_sv2 import errors

CLASSES = [getattr(errors, name) for name in errors.__all__ if name != "RadpoolError"]

PARENTS = {errors.ConnectionEnded: errors.RemoteProtocolError}
"""Whoever reacts to a broken protocol by leaving reacts to a link's end in the same way."""


@pytest.mark.parametrize("error", CLASSES)
def test_every_class_has_one_root_and_says_who_is_at_fault(error):
    assert error.__mro__[1] is PARENTS.get(error, errors.RadpoolError)
    assert str(error("what happened")) == "what happened"
    assert "fault" in error.__doc__ or "wrong" in error.__doc__


def test_all_names_every_class_of_the_module():
    found = {name for name, item in vars(errors).items() if isinstance(item, type)}
    assert found == set(errors.__all__)


def test_config_error_names_what_it_knows():
    error = errors.ConfigError(
        "is too large",
        file=Path("/a/b.toml"),
        line=3,
        key="limits.x",
        value="9",
        allowed="1 to 8",
    )
    assert str(error) == "/a/b.toml, line 3: limits.x = 9: is too large Allowed: 1 to 8."
    assert str(errors.ConfigError("is empty", file=Path("/a"))) == "/a: is empty"


def test_parts_are_attributes():
    remote = errors.RemoteProtocolError("bad", "invalid-user-identity", "1.2.3.4")
    assert (remote.error_code, remote.peer) == ("invalid-user-identity", "1.2.3.4")
    faulty = errors.FaultyMSPError("bad", "ab", b"x")
    assert (faulty.msp, faulty.evidence) == ("ab", b"x")

"""Reads the files in `spec/vectors`."""

import json
from pathlib import Path

import pytest

DIRECTORY = Path(__file__).parents[2] / "spec" / "vectors"


def load(file):
    """Returns all groups of a file."""
    return json.loads((DIRECTORY / file).read_text(encoding="ascii"))


def cases(file, group):
    """Returns a parametrisation over the cases of a group."""
    found = load(file)[group]
    assert found
    return pytest.mark.parametrize("case", found, ids=lambda case: case["id"])


def bodies_of(value):
    """Reads a map of digests to encoded bodies."""
    return {bytes.fromhex(digest): bytes.fromhex(body) for digest, body in value.items()}

"""Checks the table of rules itself."""

import ast
from pathlib import Path

from peer.message import LAYOUTS
from rows import ROWS

HERE = Path(__file__).parent


def defined():
    trees = (ast.parse(path.read_text()) for path in HERE.glob("test_*.py"))
    return {
        node.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def test_each_row_has_a_test_that_exists():
    tests = defined()
    missing = {row: [name for name in names if name not in tests] for row, names in ROWS.items()}
    assert all(ROWS.values()), "a row without any test"
    assert not {row: names for row, names in missing.items() if names}


def test_each_message_of_the_protocols_has_a_row():
    rows = " ".join(ROWS)
    for name in LAYOUTS:
        subject = name.removesuffix("Success").removesuffix("Error")
        # The two answers to an open request go by the request's row.
        subject = subject.replace("OpenMiningChannel", "OpenMiningChannel.Error")
        assert subject in rows, f"no row speaks of {name}"

"""Holds the list of attacks on ecash and the tests together: each has one that says so."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "ecash-attacks.md"
NUTX = ROOT / "docs" / "nutx.md"
ATTACKS = [f"A{number}" for number in range(1, 28)]
STATEMENTS = list(range(1, 34))

NAMED = r"attack: (A[0-9]+(?:, A[0-9]+)*)"
RUST_TEST = r"((?:^[ \t]*///.*\n|^[ \t]*#\[.*\]\n)+)[ \t]*(?:async )?fn (\w+)"


def attacks_of(text):
    """Returns the attacks that a docstring or a comment names."""
    return {each for names in re.findall(NAMED, text) for each in names.split(", ")}


def python_tests(path):
    """Yields each test function with the attacks that its docstring names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    whole = attacks_of(ast.get_docstring(tree) or "")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("test_"):
                yield node.name, whole | attacks_of(ast.get_docstring(node) or "")
        elif isinstance(node, ast.ClassDef):
            # A stateful property is a class; its test is made of it.
            yield node.name, whole | attacks_of(ast.get_docstring(node) or "")


def rust_tests(path):
    """Yields each function with the attacks that the comment above it names."""
    for comment, name in re.findall(RUST_TEST, path.read_text(encoding="utf-8"), re.MULTILINE):
        yield name, attacks_of(comment)


def catalogue():
    """Returns each test, as `path::name`, with the attacks that it is for."""
    found = {}
    for path in ROOT.glob("tests/**/*.py"):
        for name, attacks in python_tests(path):
            found[f"{path.relative_to(ROOT).as_posix()}::{name}"] = attacks
    for path in [*ROOT.glob("rust/*/tests/**/*.rs"), *ROOT.glob("rust/*/src/**/*.rs")]:
        for name, attacks in rust_tests(path):
            found[f"{path.relative_to(ROOT).as_posix()}::{name}"] = attacks
    return found


TESTS = catalogue()


def rows(page, first):
    """Returns the cells of a page's table rows whose first cell is of a form."""
    lines = page.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if re.fullmatch(first, row[0])]


def test_every_attack_is_on_the_page_once():
    assert [row[0] for row in rows(PAGE, r"A[0-9]+")] == ATTACKS


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_has_a_test_that_says_so(attack):
    assert [name for name, attacks in TESTS.items() if attack in attacks]


@pytest.mark.parametrize("row", rows(PAGE, r"A[0-9]+"), ids=lambda row: row[0])
def test_the_tests_on_the_page_are_there(row):
    attack, *_, listed = row
    named = re.findall(r"`([\w./-]+::\w+)`", listed)
    assert named, f"{attack} has no test"
    for name in named:
        assert name in TESTS, f"{name} does not exist"
        assert attack in TESTS[name], f"{name} does not say that it is for {attack}"


def test_no_test_names_an_attack_that_is_none():
    assert set().union(*TESTS.values()) <= set(ATTACKS)


def test_every_statement_of_the_draft_is_answered_once():
    assert sorted(int(row[0]) for row in rows(NUTX, r"[0-9]+")) == STATEMENTS


@pytest.mark.parametrize("row", rows(NUTX, r"[0-9]+"), ids=lambda row: row[0])
def test_the_answers_name_what_is_there(row):
    """An anchor of the specification, a test or a file of tests."""
    spec = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("spec/0*.md"))
    functions = {name.split("::")[1] for name in TESTS}
    named = re.findall(r"`([^`]+)`", row[-1])
    assert named
    for name in named:
        if name.startswith("spec: "):
            assert f"\n- [{name.removeprefix('spec: ')}]" in spec, name
        else:
            assert name in functions or (ROOT / name).is_file(), name

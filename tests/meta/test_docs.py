"""Holds the pages for people together: what they link to, and what one is to type, is there."""

import re
from pathlib import Path

import pytest

from radpool_sv2.cli import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
INDEX = DOCS / "index.md"
PAGES = sorted(DOCS.glob("**/*.md"))
FRONT = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]

COMMAND = r"radpool ((?:[a-z][a-z-]+ ?)+)"


def text(path):
    return path.read_text(encoding="utf-8")


def each(paths):
    return pytest.mark.parametrize(
        "path", paths, ids=lambda path: path.relative_to(ROOT).as_posix()
    )


def commands(of, before=()):
    """Yields every command with its subcommands, as words."""
    for name in of:
        if name.startswith("-"):
            continue
        yield (*before, name)
        yield from commands(of[name], (*before, name))


KNOWN = set(commands(app))


def test_every_page_is_in_the_index():
    linked = set(re.findall(r"\]\(([^)#]+\.md)", text(INDEX)))
    pages = {path.relative_to(DOCS).as_posix() for path in PAGES if path != INDEX}
    assert pages - linked == set()


@each(PAGES + FRONT)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text(path)):
        if "://" not in link:
            assert (path.parent / link).exists(), link


@each(PAGES + FRONT)
def test_paths_in_pages_are_there(path):
    named = re.findall(r"`((?:spec|docs|tests|scripts)/[\w./-]+\.(?:md|py|json|rs))`", text(path))
    for name in named:
        assert (ROOT / name).is_file(), name


@each([*PAGES, ROOT / "README.md"])
def test_commands_in_pages_are_there(path):
    code = re.findall(r"```sh\n(.*?)```", text(path), re.DOTALL)
    code += re.findall(r"`(radpool [^`:]*)`", text(path))
    for words in re.findall(COMMAND, "\n".join(code)):
        first, *rest = words.split()
        assert (first,) in KNOWN, f"radpool {first}"
        if rest and any(command[0] == first and len(command) > 1 for command in KNOWN):
            is_argument = app[first].default_command is not None
            assert is_argument or (first, rest[0]) in KNOWN, f"radpool {first} {rest[0]}"


@pytest.mark.parametrize("command", sorted(name for name, *rest in KNOWN if not rest))
def test_every_command_is_in_a_page(command):
    everything = "".join(text(path) for path in [*PAGES, ROOT / "README.md"])
    assert f"radpool {command}" in everything

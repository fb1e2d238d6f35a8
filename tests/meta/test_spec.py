"""Holds the specification, its vectors and the tests together."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "spec"
PAGES = sorted(SPEC.glob("[0-9]*.md"))
VECTORS = sorted((SPEC / "vectors").glob("*.json"))
GENERATORS = sorted((SPEC / "vectors").glob("generate_*.py"))
RUST_TESTS = [*ROOT.glob("rust/*/tests/**/*.rs"), *ROOT.glob("rust/*/src/**/vectors.rs")]
PYTHON_TESTS = [path for path in ROOT.glob("tests/**/*.py") if path != Path(__file__)]

ANCHOR = r"[A-Z]{2}-[1-9][0-9]*"
SECTIONS = [
    "Abstract",
    "Motivation",
    "Terms",
    "Specification",
    "Rationale",
    "Security and privacy",
    "Compatibility",
    "Vectors",
    "Changelog",
]
HEADER = ["Title", "Status", "Version", "Requires", "Vectors"]


def text(path):
    return path.read_text(encoding="utf-8")


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.name)


def defined():
    """Returns each anchor with the sentences behind it, in the order of the pages."""
    return [
        (anchor, page.name)
        for page in PAGES
        for anchor in re.findall(rf"^- \[({ANCHOR})\]", text(page), re.MULTILINE)
    ]


def named():
    """Returns the anchors that tests name, with the files that do."""
    return {
        (anchor, path.relative_to(ROOT).as_posix())
        for path in RUST_TESTS + PYTHON_TESTS
        for names in re.findall(rf"spec: ({ANCHOR}(?:, {ANCHOR})*)", text(path))
        for anchor in names.split(", ")
    }


def test_there_are_pages_and_vectors():
    assert PAGES
    assert GENERATORS
    assert [path.name[:2] for path in VECTORS] == [
        "01",
        "01",
        "02",
        "03",
        "04",
        "05",
        "06",
        "07",
        "08",
        "09",
        "10",
        "11",
        "12",
        "13",
        "14",
        "15",
        "16",
        "17",
    ]


def test_anchors_are_numbered_without_gap_or_repeat():
    numbers = {}
    for anchor, page in defined():
        letters, number = anchor.split("-")
        numbers.setdefault((letters, page), []).append(int(number))
    assert len(numbers) == len(PAGES)
    for place, found in numbers.items():
        assert sorted(found) == list(range(1, len(found) + 1)), place


def test_every_anchor_is_named_by_a_test():
    assert {anchor for anchor, _ in defined()} - {anchor for anchor, _ in named()} == set()


def test_no_test_names_an_anchor_that_is_none():
    known = {anchor for anchor, _ in defined()}
    assert {(anchor, path) for anchor, path in named() if anchor not in known} == set()


@each(PAGES)
def test_pages_refer_to_anchors_that_are_there(path):
    known = {anchor for anchor, _ in defined()}
    assert set(re.findall(rf"\[({ANCHOR})\]", text(path))) - known == set()


@each(PAGES)
def test_every_normative_sentence_has_an_anchor(path):
    specification = text(path).split("\n## Specification\n")[1].split("\n## Rationale\n")[0]
    items = re.split(r"\n\n|\n(?=- |\|)", specification)
    loose = [item for item in items if re.search(r"\b(MUST|SHOULD|SHALL)\b", item)]
    assert [item for item in loose if not re.match(rf"\n*- \[{ANCHOR}\]", item)] == []


@each(PAGES)
def test_pages_have_the_house_style(path):
    page = text(path)
    assert page.startswith(f"# {path.name[:2]} ")
    assert (
        re.findall(r"^\| ([A-Z][a-z]+) \| .* \|$", page.split("\n## ")[0], re.MULTILINE) == HEADER
    )
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == SECTIONS
    assert f"`{path.stem}.json`" in page or f"vectors/{path.stem}.json" in page
    for link in re.findall(r"\]\(([^)#]+)\)", page):
        assert (SPEC / link).is_file(), link


def test_every_page_and_every_file_of_vectors_is_in_the_readme():
    readme = text(SPEC / "README.md")
    for page in PAGES:
        assert f"({page.name})" in readme
    for path in VECTORS:
        assert f"vectors/{path.name}" in readme


@each(PAGES)
def test_bytes_in_pages_are_those_of_the_vectors(path):
    """A long run of hex in a page is an example, and stands in the page's vectors."""
    vectors = "".join(text(file) for file in VECTORS if file.name[:2] == path.name[:2])
    for example in re.findall(r"\b[0-9a-f]{32,}\b", text(path)):
        assert example in vectors, example


@each(VECTORS)
def test_vectors_are_read_in_both_languages(path):
    assert any(path.name in text(file) for file in RUST_TESTS)
    assert any(path.name in text(file) for file in PYTHON_TESTS)


@each(VECTORS)
def test_vectors_have_ids_inputs_and_an_outcome(path):
    groups = json.loads(text(path))
    ids = []
    for cases in groups.values():
        for case in cases:
            if isinstance(case, dict):
                ids.append(case["id"])
                assert "inputs" in case
                assert ("expected" in case) != ("expected_error" in case)
    assert ids
    assert len(ids) == len(set(ids))
    assert not re.search(r'": -?[0-9]+\.', text(path)), "a float"


@each(GENERATORS)
def test_generators_write_the_same_bytes_again(path, tmp_path):
    subprocess.run([sys.executable, path, tmp_path], check=True, timeout=600)
    [made] = tmp_path.iterdir()
    assert made.name[:2] == path.stem[-2:]
    assert made.read_bytes() == (SPEC / "vectors" / made.name).read_bytes()


def test_generators_import_nothing_but_the_standard_library():
    own = {path.stem for path in (SPEC / "vectors").glob("*.py")}
    for path in (SPEC / "vectors").glob("*.py"):
        for module in re.findall(r"^\s*(?:from|import) ([a-z_0-9]+)", text(path), re.MULTILINE):
            assert module in sys.stdlib_module_names | own, f"{path.name} imports {module}"


def test_tags_mean_one_thing():
    """spec: CV-6"""
    listed = re.findall(
        r"^\| `(radpool/[a-z-]+(?:/[0-9]+)?)` \|",
        text(SPEC / "01-conventions.md"),
        re.MULTILINE,
    )
    assert len(listed) == len(set(listed))
    sources = [
        *(path for path in ROOT.glob("rust/*/src/**/*.rs")),
        *ROOT.glob("radpool_sv2/**/*.py"),
        *ROOT.glob("extensions/**/*.py"),
        *(SPEC / "vectors").glob("*.py"),
    ]
    used = {
        tag
        for path in sources
        for tag in re.findall(r'"(radpool/[a-z-]+(?:/[0-9]+)?)"', text(path))
    }
    assert used == set(listed)
    [vectors] = (SPEC / "vectors").glob("01-conventions.json")
    cases = json.loads(text(vectors))["tagged_hashes"]
    assert {case["inputs"]["tag"] for case in cases} == set(listed)


def test_sources_cite_pages_that_are_there():
    """A docstring's `Source:` leads somewhere."""
    sources = [
        *ROOT.glob("rust/*/src/**/*.rs"),
        *ROOT.glob("radpool_sv2/**/*.py*"),
        *ROOT.glob("extensions/**/*.py"),
    ]
    cited = {
        (page, path.relative_to(ROOT).as_posix())
        for path in sources
        if path.suffix in {".rs", ".py", ".pyi"}
        for page in re.findall(r"spec/([0-9][\w-]*\.md)", text(path))
    }
    assert {(page, path) for page, path in cited if not (SPEC / page).is_file()} == set()

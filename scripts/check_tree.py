"""Checks the rules of the tree that no linter knows: sizes, names, words, who may name what.

Each rule is a function that yields findings as (path, line, text); none means the rule holds.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

Finding = tuple[Path, int, str]

ROOT = Path(__file__).resolve().parent.parent
LINES_MAX = 1000
CODE = {".py", ".pyi", ".rs"}
TEXT = CODE | {".md", ".toml", ".txt", ".in", ".html", ".css", ".js", ".json", ".yml", ""}

# Names that say nothing about what is inside.
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
# The message crates of SRI; radpool-wire hides them, stratum-core is the oracle of tests.
SRI_CRATES = re.compile(
    r"\b(binary_sv2|mining_sv2|common_messages_sv2|extensions_sv2|noise_sv2|codec_sv2|framing_sv2|channels_sv2)::"
)
UNFINISHED = re.compile(
    r"\b(TODO|FIXME|XXX|HACK)\b|\b(todo|unimplemented)!\(|\bNotImplementedError\b"
)
LEFT_OUT = re.compile(r"#\[ignore|mark\.(skip|xfail)|pytest\.(skip|xfail|importorskip)\(")
UNBOUNDED = re.compile(
    r"open_memory_channel\S*\(\s*math\.inf|open_memory_channel.*\]\(math\.inf|\bunbounded_channel\b"
)
ASYNCIO = re.compile(r"^\s*(import|from)\s+asyncio\b")
ADDRESS = re.compile(r"https?://|--index-url|--find-links|--extra-index-url")
RUST_WAIVER = "check_tree: allow"


def tracked() -> list[Path]:
    """Returns the files that git tracks or would track, relative to the root."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return [Path(name) for name in listed if (ROOT / name).is_file()]


FILES = tracked()


def lines(path: Path) -> list[str]:
    """Returns the lines of a text file."""
    return (ROOT / path).read_text(encoding="utf-8").splitlines()


def matches(
    pattern: re.Pattern[str], text: str, *, suffixes: set[str], under: str = ""
) -> Iterator[Finding]:
    """Yields each line of matching files in which the pattern is found."""
    for path in FILES:
        if path.suffix not in suffixes or not str(path).startswith(under):
            continue
        if path == Path(__file__).relative_to(ROOT):
            continue
        for number, line in enumerate(lines(path), 1):
            if pattern.search(line) and RUST_WAIVER not in line:
                yield path, number, text


def modules_are_small() -> Iterator[Finding]:
    """A module over the limit is two modules."""
    for path in FILES:
        if path.suffix in CODE and (count := len(lines(path))) > LINES_MAX:
            yield path, count, f"{count} lines: {LINES_MAX} is the most; split it by idea"


def names_say_something() -> Iterator[Finding]:
    """A file is named after what it holds."""
    for path in FILES:
        if path.suffix in CODE and path.stem in VAGUE_NAMES:
            yield path, 1, f"'{path.stem}' says nothing about what is inside"


def tests_have_names_of_their_own() -> Iterator[Finding]:
    """Test files are in no package: two of one name cannot be collected in one run."""
    first: dict[str, Path] = {}
    for path in FILES:
        if path.match("tests/**/test_*.py") and first.setdefault(path.name, path) != path:
            yield path, 1, f"is named like {first[path.name]}; pytest takes one of them only"


def nothing_is_unfinished() -> Iterator[Finding]:
    """What is not there is told in the README, not in the code."""
    yield from matches(UNFINISHED, "unfinished work in the tree", suffixes=CODE)


def no_test_is_left_out() -> Iterator[Finding]:
    """A test that nobody runs is no test."""
    yield from matches(LEFT_OUT, "a test that is not run", suffixes=CODE)


def queues_are_bounded() -> Iterator[Finding]:
    """Every queue has a limit."""
    yield from matches(UNBOUNDED, "a queue without a limit", suffixes=CODE)


def trio_is_the_only_loop() -> Iterator[Finding]:
    """asyncio is not imported."""
    yield from matches(
        ASYNCIO, "asyncio is imported: trio is the only loop", suffixes={".py", ".pyi"}
    )


def only_wire_names_sri() -> Iterator[Finding]:
    """SRI's crates stay behind radpool-wire."""
    for path, number, text in matches(
        SRI_CRATES, "an SRI crate outside radpool-wire", suffixes={".rs"}, under="rust/"
    ):
        parts = path.parts
        in_tests = "tests" in parts or "benches" in parts
        if (
            parts[1] != "radpool-wire"
            and not in_tests
            and "stratum_core" not in lines(path)[number - 1]
        ):
            yield path, number, text


def the_verifier_is_pure_python() -> Iterator[Finding]:
    """Who checks the pool's books runs none of the pool's native code."""
    yield from matches(
        re.compile(r"_native"),
        "the verifier names the native module",
        suffixes={".py"},
        under="radpool_sv2/verify",
    )


def pins_name_no_address() -> Iterator[Finding]:
    """Lock files hold names, versions and hashes."""
    for path in FILES:
        if path.parts[0] == "requirements":
            for number, line in enumerate(lines(path), 1):
                if ADDRESS.search(line):
                    yield path, number, "a download address in a file of pins"
    yield from (
        (path, 1, "uv.lock holds download addresses") for path in FILES if path.name == "uv.lock"
    )


RULES: list[Callable[[], Iterator[Finding]]] = [
    modules_are_small,
    names_say_something,
    tests_have_names_of_their_own,
    nothing_is_unfinished,
    no_test_is_left_out,
    queues_are_bounded,
    trio_is_the_only_loop,
    only_wire_names_sri,
    the_verifier_is_pure_python,
    pins_name_no_address,
]


def main() -> int:
    """Runs every rule; returns 1 when one found something."""
    findings = [finding for rule in RULES for finding in rule()]
    for path, number, text in findings:
        print(f"{path}:{number}: {text}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

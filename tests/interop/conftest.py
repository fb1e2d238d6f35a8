"""Gathers what each test with foreign software has shown, and writes it down.

A test names its pair with `@pytest.mark.pair(ours, theirs)`, and what was mined with
`record_property("mined", …)`. With `--result-file` a run ends with a page of them.
"""

import datetime as dt
import re
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from rig import sri
from rig.bitcoind import CORE_DIRECTORY, DIRECTORY
from rig.process import RADPOOL, ROOT

PROGRAMS = {
    "radpool": RADPOOL,
    "Bitcoin Knots": DIRECTORY / "bin" / "bitcoind",
    "Bitcoin Core": CORE_DIRECTORY / "bin" / "bitcoin-node",
    "pool_sv2": sri.DIRECTORY / "pool_sv2",
    "jd_client_sv2": sri.DIRECTORY / "jd_client_sv2",
    "translator_sv2": sri.DIRECTORY / "translator_sv2",
    "mining_device": sri.DIRECTORY / "mining_device",
    "stratum-client": ROOT / "tests" / "rig" / "stratum_client.js",
}
PAIRS = pytest.StashKey()
HEAD = """# With foreign software

`make interop` installs the programs below, lets them work with ours on regtest, and writes this
page. A pair has passed when every test of it has. A block counts when the node has it on its chain;
where our pool has found it, its coinbase pays what the ledger recorded, settlement and exported
epoch included.
"""
COLUMNS = "| ours | theirs | what was mined | outcome | date |"


def pytest_addoption(parser):
    parser.addoption("--result-file", type=Path, help="where the page of results is written")


def pytest_configure(config):
    config.addinivalue_line("markers", "pair(ours, theirs): which programs work together")
    config.stash[PAIRS] = defaultdict(list)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent and item.get_closest_marker("pair") is None:
            raise pytest.UsageError(f"{item.nodeid} names no pair: see {__file__}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    marker = item.get_closest_marker("pair")
    if marker is not None and (report.when == "call" or not report.passed):
        mined = [value for name, value in item.user_properties if name == "mined"]
        item.config.stash[PAIRS][marker.args].append((report.passed, mined))
    return report


def pytest_sessionfinish(session):
    file = session.config.getoption("--result-file")
    if file is not None:
        before = file.read_text() if file.exists() else ""
        file.write_text(page(session.config.stash[PAIRS], before))


def page(pairs, before):
    """Writes the page; rows of pairs that did not run stay as they were before."""
    day = dt.datetime.now(dt.UTC).date().isoformat()
    lines = [HEAD, "| program | version |", "|---|---|"]
    lines += [f"| {name} | {version(program)} |" for name, program in PROGRAMS.items()]
    lines += ["", COLUMNS, "|---|---|---|---|---|"]
    rows = [line.split(" | ") for line in before.partition(COLUMNS)[2].splitlines()[2:]]
    lines += [
        " | ".join(cells) for cells in rows if (cells[0].removeprefix("| "), cells[1]) not in pairs
    ]
    for (ours, theirs), results in pairs.items():
        passed = sum(is_passed for is_passed, _ in results)
        mined = "; ".join(each for _, found in results for each in found)
        outcome = "passed" if passed == len(results) else "**failed**"
        outcome += f", {passed} of {len(results)} tests"
        lines.append(f"| {ours} | {theirs} | {mined} | {outcome} | {day} |")
    # Sorted, so that a run of a part moves nothing.
    head = lines.index(COLUMNS) + 2
    return "\n".join(lines[:head] + sorted(lines[head:])) + "\n"


def version(program):
    """Returns what a program calls its version."""
    told = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    found = re.search(r"v?\d+\.\d+\S*", told)
    assert found, told
    return found[0]

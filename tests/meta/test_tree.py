"""Holds what import-linter cannot see: each module stands on its own feet."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "radpool_sv2").rglob("*.py")
    # Importing it runs the command line.
    if path.name != "__main__.py"
)


def complaint(module):
    """Imports a module in a fresh interpreter; returns what it said."""
    command = [sys.executable, "-W", "error", "-c", f"import {module}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.mark.slow
def test_every_module_imports_alone_and_in_silence():
    assert "radpool_sv2.units" in MODULES
    with ThreadPoolExecutor(max_workers=4) as pool:
        said = dict(zip(MODULES, pool.map(complaint, MODULES), strict=True))
    assert {module: words for module, words in said.items() if words} == {}

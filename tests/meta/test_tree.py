"""Holds what import-linter cannot see: each module stands on its own feet."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "radpool_sv2").rglob("*.py")
    # Importing it runs the command line.
    if path.name != "__main__.py"
)


# The libraries are read once, before the interpreter divides: they are most of each import's time.
IMPORTER = """
import io, os, sys, traceback
import cyclopts, httpx, msgspec, rich, structlog, trio

for module in sys.stdin.read().split():
    assert not any(name.startswith("radpool") for name in sys.modules)
    child = os.fork()
    if not child:
        sys.stdout = sys.stderr = said = io.StringIO()
        try:
            __import__(module)
        except BaseException:
            traceback.print_exc()
        os.write(1, (module + chr(9) + repr(said.getvalue()) + chr(10)).encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, module
"""


def test_every_module_imports_alone_and_in_silence():
    assert "radpool_sv2.units" in MODULES
    command = [sys.executable, "-W", "error", "-c", IMPORTER]
    text = "\n".join(MODULES)
    done = subprocess.run(
        command, cwd=ROOT, input=text, capture_output=True, text=True, timeout=3_000, check=True
    )
    assert done.stderr == ""
    said = dict(line.split("\t") for line in done.stdout.splitlines())
    assert list(said) == MODULES
    assert {module: words for module, words in said.items() if words != "''"} == {}

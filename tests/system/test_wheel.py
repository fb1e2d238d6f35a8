"""The wheel, installed where nothing else is: the demo runs from it."""

import os
import sys
import time
from pathlib import Path

import pytest
from rig.process import ROOT, Process, run

pytestmark = pytest.mark.slow

TOOLS = Path(sys.executable).parent
DEMO_S = 60
PYTHON_VARIABLES = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}


def succeed(*command, seconds=300, **kwargs):
    done = run(command, seconds, **kwargs)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(900)
def test_demo_runs_from_a_wheel_in_a_clean_environment(tmp_path):
    # The profile and the target directory of `make build`: cargo finds everything made already.
    succeed(
        TOOLS / "maturin", "build", "--release", "--locked", "--interpreter", sys.executable,
        "--out", tmp_path / "dist", seconds=800, cwd=ROOT,
        env={**os.environ, "PATH": f"{Path.home() / '.cargo' / 'bin'}:{os.environ['PATH']}"},
    )  # fmt: skip
    [wheel] = (tmp_path / "dist").iterdir()
    assert "-cp311-abi3-" in wheel.name

    env = {name: value for name, value in os.environ.items() if name not in PYTHON_VARIABLES}
    clean = tmp_path / "clean"
    succeed(TOOLS / "uv", "venv", "--quiet", "--python", sys.executable, clean, env=env)
    succeed(
        TOOLS / "uv", "pip", "install", "--quiet", "--python", clean / "bin" / "python",
        "--constraint", ROOT / "requirements" / "dev.txt", wheel, env=env,
    )  # fmt: skip
    place = "import radpool_sv2._native as native; print(native.__file__)"
    found = succeed(clean / "bin" / "python", "-c", place, cwd=tmp_path, env=env)
    assert Path(found.strip()).is_relative_to(clean)

    began = time.monotonic()
    for name in PYTHON_VARIABLES:
        env[name] = ""
    with Process([clean / "bin" / "radpool", "demo"], tmp_path, "demo", env) as demo:
        assert demo.wait(DEMO_S + 30) == 0, demo.tail()
        assert time.monotonic() - began < DEMO_S
        assert demo.is_gone()
    assert "block" in demo.stdout.read_text()

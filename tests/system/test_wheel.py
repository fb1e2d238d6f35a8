"""What users install: the wheels alone, in an environment that knows nothing of the checkout."""

import os
import re
import sys
import zipfile
from pathlib import Path

import pytest
from rig.process import ROOT, run

pytestmark = pytest.mark.slow

UV = Path(sys.executable).with_name("uv")
MATURIN = Path(sys.executable).with_name("maturin")
BUILD_S = 900
DEMO_S = 600


def must(command, seconds, **kwargs):
    done = run(command, seconds, **kwargs)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built as for a release; what `make build` has compiled is not compiled again."""
    target = tmp_path_factory.mktemp("wheel")
    command = [MATURIN, "build", "--release", "--locked", "--strip", "--out", target]
    must(command, BUILD_S, cwd=ROOT)
    (built,) = target.glob("radpool_sv2-*.whl")
    return built


@pytest.fixture(scope="module")
def further(tmp_path_factory):
    """The wheels of the protocol extensions, which the demo's miners earn ecash by, and of the
    translator, which brings it a device."""
    target = tmp_path_factory.mktemp("further")
    command = [UV, "build", "--quiet", "--wheel", "--no-build-isolation", "--out-dir", target]
    for package in ("extensions", "translator"):
        must([*command, "--python", sys.executable, ROOT / package], BUILD_S)
    built = list(target.glob("*.whl"))
    assert len(built) == 2, built
    return built


@pytest.mark.timeout(BUILD_S + 60)
def test_wheel_holds_the_package_and_nothing_else(wheel):
    assert re.search(r"-cp311-abi3-.*linux.*\.whl$", wheel.name), wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.startswith("radpool_sv2/_native.abi3") for name in names)
    assert "radpool_sv2/py.typed" in names
    assert "radpool_sv2/_native/engine.pyi" in names
    tops = {name.split("/")[0] for name in names}
    assert all(top.startswith("radpool_sv2") for top in tops), tops
    assert not [name for name in names if "__pycache__" in name or name.endswith(".rs")]


@pytest.mark.timeout(BUILD_S + DEMO_S + 120)
def test_demo_runs_from_installed_wheels(wheel, further, tmp_path):
    """With the pinned versions of what it depends on, and no word of this environment."""
    place = tmp_path / "environment"
    must([UV, "venv", "--quiet", "--python", sys.executable, place], 300)
    python = place / "bin" / "python"
    pins = ROOT / "requirements" / "dev.txt"
    install = [UV, "pip", "install", "--quiet", "--python", python, "--constraints", pins]
    must([*install, wheel, *further], 300)

    home = tmp_path / "home"
    home.mkdir()
    kept = ("LANG", "LC_ALL", "TMPDIR")
    env = {name: os.environ[name] for name in kept if name in os.environ}
    env |= {"HOME": str(home), "PATH": f"{place / 'bin'}:/usr/bin:/bin"}
    where = must(
        [python, "-c", "import radpool_sv2; print(radpool_sv2.__file__)"], 60, env=env, cwd=home
    )
    assert str(place) in where.stdout
    demo = must([place / "bin" / "radpool", "demo"], DEMO_S, env=env, cwd=home)
    print(demo.stdout)
    assert "dora" in demo.stdout, "the device behind the translator took part"
    leftovers = [each.name for each in home.iterdir() if not each.name.startswith(".")]
    assert leftovers == [], "the demo leaves nothing behind in the directory it was called in"

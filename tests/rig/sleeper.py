"""An extension that puts all of Python to sleep when it is told to; installed as any other is.

SIGUSR1 makes the node's main thread, where trio runs, sleep for STALL_SECONDS without giving the
interpreter's lock away: no Python code of the process runs meanwhile.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

from radpool_sv2.pool.extension import Extension

EXTENSION_TYPE = 0x7FFE
STALL_SECONDS = "RADPOOL_TEST_STALL_SECONDS"


class Sleeper(Extension):
    """Takes part in nothing; it is there to be loaded."""

    extension_type = EXTENSION_TYPE

    def __init__(self, host):
        signal.signal(signal.SIGUSR1, stall)


def stall(_number, _frame):
    print("stalled", file=sys.stderr, flush=True)
    # PyDLL, unlike CDLL, keeps the lock during the call.
    ctypes.PyDLL(None).sleep(int(os.environ[STALL_SECONDS]))
    print("awake", file=sys.stderr, flush=True)


def install(directory, seconds):
    """Makes a package of this file in a directory; returns the environment that a node needs."""
    directory.mkdir()
    (directory / "radpool_test_sleeper.py").write_text(Path(__file__).read_text())
    about = directory / "radpool_test_sleeper-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: radpool-test-sleeper\nVersion: 1\n"
    )
    (about / "entry_points.txt").write_text(
        "[radpool_sv2.extensions]\nsleeper = radpool_test_sleeper:Sleeper\n"
    )
    return {"PYTHONPATH": str(directory), STALL_SECONDS: str(seconds)}

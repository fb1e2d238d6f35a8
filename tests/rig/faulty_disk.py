"""A disk that refuses, on command: `faulty_disk.c` compiled and preloaded into the node."""

import mmap
import shutil
import struct
from pathlib import Path

from .process import run

SOURCE = Path(__file__).with_name("faulty_disk.c")
# The same order as in the source.
SOUND, SYNC_EIO, WRITE_EIO, WRITE_ENOSPC = range(4)
CONTROL_LEN = 8


class FaultyDisk:
    """Refuses to write below `affected` in each process that is started with `env`."""

    def __init__(self, directory, affected):
        compiler = shutil.which("cc")
        assert compiler, "no C compiler: without it the failing disk is not tested"
        library = directory / "faulty_disk.so"
        done = run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, SOURCE])
        assert done.returncode == 0, done.stderr
        control = directory / "faulty_disk.control"
        control.write_bytes(bytes(CONTROL_LEN))
        with control.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), CONTROL_LEN)
        self.env = {
            "LD_PRELOAD": str(library),
            "FAULTY_DISK_CONTROL": str(control),
            "FAULTY_DISK_PATH": str(affected),
        }

    def set(self, mode):
        """Says what happens from now on."""
        self._shared[:4] = struct.pack("=I", mode)

    @property
    def refused(self):
        """How often something was refused."""
        return struct.unpack("=I", self._shared[4:8])[0]

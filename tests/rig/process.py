"""Starts processes whose output goes to files, and sees to it that nothing outlives its test."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

from .wait import until

ROOT = Path(__file__).resolve().parents[2]
RADPOOL = Path(sys.executable).with_name("radpool")
LOAD = ROOT / "rust" / "target" / "release" / "radpool-load"

# Inherited by all children, so that each process of a test can be found, whoever started it.
MARK = "RADPOOL_TEST_MARK"
TAIL_LINES = 25


class Process:
    """Is a process in a session of its own; its output is in `stdout` and `stderr`, both files."""

    def __init__(self, command, directory, name, env=None, stderr=None):
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.stdout = directory / f"{name}.out"
        self.stderr = Path(stderr) if stderr else directory / f"{name}.err"
        self.mark = uuid.uuid4().hex
        # What an earlier process of the name has written stays; its lines are not ours.
        self._skip = self.stdout.stat().st_size if self.stdout.exists() else 0
        with self.stdout.open("ab") as out, self.stderr.open("ab") as err:
            self.popen = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **(env or {}), MARK: self.mark},
                start_new_session=True,
            )
        self.pid = self.popen.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        kill_all(self.mark)

    @property
    def is_alive(self):
        return self.popen.poll() is None

    def lines(self):
        """Returns the whole lines that this process has printed."""
        with self.stdout.open("rb") as file:
            file.seek(self._skip)
            return file.read().decode(errors="replace").split("\n")[:-1]

    def messages(self, event):
        """Returns the JSON lines of one kind that this process has printed."""
        found = []
        for line in self.lines():
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if message.get("event") == event:
                    found.append(message)
        return found

    def message(self, event, seconds=60.0):
        """Waits for the first JSON line of a kind."""

        def look():
            found = self.messages(event)
            if not found and not self.is_alive:
                # It may have printed between the look and its end.
                found = self.messages(event)
                assert found, f"{self.name} ended without {event!r}; {self.tail()}"
            return found

        return until(look, lambda: f"{event!r} from {self.name}; {self.tail()}", seconds)[0]

    def wait(self, seconds=60.0):
        """Waits for the end; returns the exit status, negative for a signal."""
        until(lambda: not self.is_alive, lambda: f"the end of {self.name}; {self.tail()}", seconds)
        return self.popen.returncode

    def signal(self, number):
        self.popen.send_signal(number)

    def kill(self):
        """Kills the process itself, as the kernel would when memory is short."""
        if self.is_alive:
            self.popen.kill()
        self.popen.wait()

    def is_gone(self):
        """Whether nothing runs any more of all that it has started."""
        return not marked(self.mark)

    def tail(self):
        """Returns the end of both outputs, for the text of a failure."""
        parts = []
        for file in (self.stdout, self.stderr):
            if not file.is_file():
                continue
            lines = file.read_text(errors="replace").splitlines()[-TAIL_LINES:]
            parts.append(f"end of {file}:\n" + "\n".join(lines))
        return "\n".join(parts)


def kill_all(mark):
    """Kills whatever still carries a mark."""
    for pid in marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def marked(mark):
    """Finds the processes that carry a mark in their environment, zombies left out."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # A zombie has no environment left.
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def command_line(pid):
    """Returns the words a process was started with; none when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def run(command, seconds=180.0, **kwargs):
    """Runs a command to its end and returns its status and texts."""
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
        check=False,
        **kwargs,
    )


def radpool(*arguments, seconds=180.0):
    """Runs a radpool command that must succeed; returns what it printed."""
    done = run([RADPOOL, *arguments], seconds)
    assert done.returncode == 0, (
        f"radpool {arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout


def resident_bytes(pid):
    """Returns the memory of a process that is in RAM."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no memory")

"""Runs radpool commands as processes of their own, as a user would, and ends them in order."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2.errors import RadpoolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

__all__ = ["command", "kill_all", "leave", "lines_of", "open_process", "run_radpool", "tail"]

LEAVE_SECONDS_MAX: Final = 5.0
"""What a process may take to leave in order after SIGTERM."""


def command(*arguments: str) -> list[str]:
    """Makes the command line of a radpool process."""
    return [sys.executable, "-m", "radpool_sv2", *arguments]


async def open_process(line: Sequence[str], log: Path) -> trio.Process:
    """Starts a process whose output is read and whose errors go to a file."""
    # A group of its own: Ctrl-C reaches the demo alone, which then lets everybody leave in order.
    with log.open("ab") as errors:
        return await trio.lowlevel.open_process(
            line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )


async def kill_all(processes: Sequence[trio.Process]) -> None:
    """Leaves no process behind, the youngest first."""
    with trio.CancelScope(shield=True):
        for process in reversed(processes):
            if process.returncode is None:
                process.kill()
                await process.wait()


async def leave(process: trio.Process) -> float:
    """Lets a process leave in order; returns the seconds it took.

    Raises:
        RadpoolError: It did not leave in time and was killed, or it says that it failed.
    """
    begin = trio.current_time()
    process.terminate()
    with trio.move_on_after(LEAVE_SECONDS_MAX):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
        raise RadpoolError(f"process {process.pid} did not leave within {LEAVE_SECONDS_MAX:.0f} s")
    if process.returncode != 0:
        raise RadpoolError(f"process {process.pid} left with status {process.returncode}")
    return trio.current_time() - begin


async def run_radpool(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a radpool command to its end and returns its status and output."""
    return await trio.run_process(
        command(*arguments), capture_stdout=True, capture_stderr=True, check=False
    )


async def lines_of(stream: trio.abc.ReceiveStream) -> AsyncIterator[str]:
    """Cuts what a process prints into lines."""
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")


def tail(file: Path) -> str:
    """Returns the last lines of a log."""
    return "\n".join(file.read_text(errors="replace").splitlines()[-8:])

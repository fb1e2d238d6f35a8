"""Runs radpool commands as processes of their own, as a user would, and ends them in order."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from radpool_sv2.errors import RadpoolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

__all__ = [
    "Server",
    "command",
    "kill_all",
    "leave",
    "lines_of",
    "open_process",
    "run_radpool",
    "serve",
    "tail",
]

SERVE_SECONDS_MAX: Final = 90.0
"""A pool with an embedded chain makes its first hundred blocks before it serves, and four pools may
start at once."""

LEAVE_SECONDS_MAX: Final = 60.0
"""What a process may take to leave in order after SIGTERM. It takes a second, on a machine that has
nothing else to do."""


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


@dataclass(frozen=True, slots=True)
class Server:
    """Is a process that serves.

    Attributes:
        process: The process.
        fields: What it has said of where it serves.
        lines: What it prints behind that.
    """

    process: trio.Process
    fields: dict[str, Any]
    lines: AsyncIterator[str]


async def serve(name: str, line: Sequence[str], log: Path, processes: list[trio.Process]) -> Server:
    """Starts a command that tells in a line of JSON where it serves.

    Args:
        name: What errors call it.
        line: The command line.
        log: The file of what it says of itself.
        processes: Gets the process, to be ended even when it does not serve.

    Raises:
        RadpoolError: It does not serve; the message ends with what it said last.
    """
    process = await open_process(line, log)
    processes.append(process)
    assert process.stdout is not None
    lines, first = lines_of(process.stdout), ""
    try:
        with trio.move_on_after(SERVE_SECONDS_MAX):
            first = await anext(lines, "")
        return Server(process, json.loads(first), lines)
    except ValueError as error:
        raise RadpoolError(f"{name} did not start; the end of {log}:\n{tail(log)}") from error


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

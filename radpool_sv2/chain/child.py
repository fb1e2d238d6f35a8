"""Runs the embedded chain in a process of its own: `python -m radpool_sv2.chain.child --dir D`.

The engine is a C++ library behind an alpha binding, and its assertions abort the process; so it has
one to itself. Everything that counts is on disk before it is told, so this process may be killed at
any moment. It ends by itself when its parent does: the kernel kills it (Linux), and standard input,
a pipe that only the parent holds, ends.

Exit status: 0 the parent has gone, 3 the disk or a file refuses, 4 another process runs this chain.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Final

import trio

from radpool_sv2.chain.node import BLOCK_ZEROS_MAX, Node
from radpool_sv2.chain.service import ChainService
from radpool_sv2.errors import StoreError
from radpool_sv2.residence import lock

__all__ = ["EXIT_LOCKED", "EXIT_STORE", "main"]

EXIT_STORE: Final = 3
EXIT_LOCKED: Final = 4
_PR_SET_PDEATHSIG: Final = 1
_BACKLOG: Final = 64
_LOCK_TRIES: Final = 100
"""The child of a parent that was killed just now may take a moment to die: five seconds."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m radpool_sv2.chain.child")
    parser.add_argument("--dir", type=Path, required=True, help="the chain's directory")
    parser.add_argument(
        "--block-zeros", type=int, required=True, choices=range(BLOCK_ZEROS_MAX + 1)
    )
    parser.add_argument("--payments-per-minute", type=int, default=0)
    parser.add_argument("--template-interval-s", type=int, default=5)
    parser.add_argument("--parent", type=int, help="end when this process does, or stdin ends")
    return parser.parse_args()


def _follow_parent(parent: int) -> None:
    """Sees to it that this process does not outlive its parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(0)

    def wait_for_the_end() -> None:
        while os.read(0, 1):
            pass
        os._exit(0)

    threading.Thread(target=wait_for_the_end, daemon=True).start()


def _lock(directory: Path) -> bool:
    """Takes the directory's lock as long as this process lives; says whether nobody else has it."""
    descriptor = os.open(directory / "chain.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return lock(descriptor, _LOCK_TRIES)


def _listen(path: Path) -> socket.socket:
    # The lock is held, so a socket that is there belongs to a process that is gone.
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    listening.listen(_BACKLOG)
    return listening


async def _run(arguments: argparse.Namespace) -> None:
    listening = trio.socket.from_stdlib_socket(_listen(arguments.dir / "chain.sock"))
    node = Node(arguments.dir, arguments.block_zeros)
    service = ChainService(
        node,
        payments_per_minute=arguments.payments_per_minute,
        template_interval_s=arguments.template_interval_s,
    )
    await service.run(trio.SocketListener(listening))


def main() -> int:
    """Runs the child; returns the exit status."""
    arguments = _arguments()
    # Files and the socket are for this user alone.
    os.umask(0o077)
    if arguments.parent is not None:
        _follow_parent(arguments.parent)
    if not _lock(arguments.dir):
        print(f"another process runs the chain in {arguments.dir}", file=sys.stderr)  # noqa: T201
        return EXIT_LOCKED
    try:
        trio.run(_run, arguments)
    except* StoreError as group:
        for error in _leaves(group):
            print(error, file=sys.stderr)  # noqa: T201 - the log file is this process's voice
        sys.stderr.flush()
        # The engine's destructors have nothing to save, and the maps may disagree with the log.
        os._exit(EXIT_STORE)
    return 0


def _leaves(group: BaseExceptionGroup[StoreError]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves


if __name__ == "__main__":
    sys.exit(main())

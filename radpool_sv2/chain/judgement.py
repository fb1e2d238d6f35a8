"""Judges a block without proof of work, exactly and without a trace: in a fork of this process.

The engine's interface has no test of a block that leaves the chain as it is. So the process forks;
the child has the whole engine in its memory, solves the block's header (two hashes on average),
gives it to the engine, tells the verdict through a pipe, and is gone. The parent goes on meanwhile.

    begun -> told (the pipe has the verdict and ends) -> ended
    begun -> given up (killed; the pipe ends without one) -> ended

What makes the fork safe: the engine has no threads (none of its own are started, its databases are
in memory), and the only other thread of this process waits for its input. The one thing that both
share is the scratch directory's block file, in which parent and child would write a new block to
the same place: `give_up` is therefore called before the parent takes a block. A verdict that is
lost so is out of date anyway when the block became the tip.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from radpool_sv2.chain.block import HEADER_LEN, Header
from radpool_sv2.chain.kernel import Status, Verdict
from radpool_sv2.errors import NodeError

if TYPE_CHECKING:
    from radpool_sv2.chain.kernel import Kernel

__all__ = ["Judgement"]

_PR_SET_PDEATHSIG: Final = 1
# The answer is written at once whatever it holds: as JSON below the 4,096 bytes of PIPE_BUF.
_DETAIL_LEN_MAX: Final = 500
_ANSWER_LEN_MAX: Final = 65_536
_FIRST_INHERITED: Final = 3


class Judgement:
    """Is one verdict under way.

    Args:
        kernel: The engine, on whose tip the block builds.
        raw: The serialised block.
        target: What its hash, as a number, must not exceed.
    """

    def __init__(self, kernel: Kernel, raw: bytes, target: int) -> None:
        self.fd, answer = os.pipe()
        parent = os.getpid()
        with warnings.catch_warnings():
            # Python warns of threads at a fork, whatever they do; the module tells why it is safe.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._child: int | None = os.fork()
        if self._child == 0:
            _judge_and_exit(kernel, raw, target, answer, parent)
        os.close(answer)

    def give_up(self) -> None:
        """Ends the child at once; `end` then returns None. Harmless when it has ended."""
        if self._child is not None:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            self._child = None

    def end(self) -> Verdict | None:
        """Returns the verdict once `fd` can be read, or None when it was given up; call it once.

        Raises:
            NodeError: The engine has failed in the child, which says nothing about the block.
        """
        try:
            # A child that was not heard of yet is given up: nobody waits for it any more.
            os.set_blocking(self.fd, False)
            told = b""
            with contextlib.suppress(BlockingIOError):
                while piece := os.read(self.fd, _ANSWER_LEN_MAX):
                    told += piece
        finally:
            given_up = self._child is None
            self.give_up()
            os.close(self.fd)
        if given_up:
            return None
        answer = json.loads(told or b"{}")
        if "status" not in answer:
            why = answer.get("failed", "its process ended")
            raise NodeError(f"the consensus engine came to no verdict: {why}", "embedded")
        return Verdict(Status(answer["status"]), answer["reason"], answer["detail"])


def _judge_and_exit(kernel: Kernel, raw: bytes, target: int, answer: int, parent: int) -> NoReturn:
    """Is the child's whole life; nothing above it on the stack may run again."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            _close_inherited(answer)
            os.write(answer, json.dumps(_judge(kernel, raw, target)).encode())
    finally:
        os._exit(0)


def _close_inherited(kept: int) -> None:
    """Closes the connections: whoever waits for their end must not wait for this child."""
    for number in [int(each.name) for each in Path("/dev/fd").iterdir()]:
        if number >= _FIRST_INHERITED and number != kept:
            with contextlib.suppress(OSError):
                os.close(number)


def _judge(kernel: Kernel, raw: bytes, target: int) -> dict[str, str]:
    header = Header.from_bytes(raw[:HEADER_LEN])
    while int.from_bytes(header.hash, "little") > target:
        header = replace(header, nonce=(header.nonce + 1) & 0xFFFFFFFF)
    try:
        verdict = kernel.process(header.to_bytes() + raw[HEADER_LEN:], header.hash)
    except Exception as error:  # noqa: BLE001 - told to the parent, which raises it
        return {"failed": str(error)[:_DETAIL_LEN_MAX]}
    if verdict.status is not Status.REJECTED and kernel.hash_at(kernel.height) != header.hash:
        return {"failed": "it took the block and did not make it the tip"}
    detail = verdict.detail[:_DETAIL_LEN_MAX]
    return {"status": verdict.status.value, "reason": verdict.reason, "detail": detail}

"""Keeps the embedded chain's process running, and gives the pool a chain that never goes away.

States of the child, and who moves them:

    started -> answering (its socket opens) -> serving (the log is replayed) -> lost -> started …

A child is lost when it ends, when its connection breaks, or when a ping stays without an answer for
`ping_deadline_s`. It is then killed, which stops a hung one too, and started again after a pause
that doubles up to `pause_max_s` and starts small again once a child has lived for a while. The
block log makes the new child what the old one was.

`EmbeddedChain.request` waits while the chain is away and asks again when it is back. All methods
that the pool uses are idempotent, so a request whose answer was lost does no harm when repeated.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.chain.child import EXIT_LOCKED, EXIT_STORE
from radpool_sv2.chain.client import ChainUnavailableError, open_client
from radpool_sv2.chain.link import PAUSE_MIN_S, POLL_S, ChainLink
from radpool_sv2.chain.node import BLOCK_ZEROS_MAX
from radpool_sv2.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BLOCK_ZEROS_DEFAULT", "EmbeddedChain"]

# 2^24 hashes: about one block in 10 s for the demo's four miners at 1.7 MH/s together.
BLOCK_ZEROS_DEFAULT: Final = 24
# A child that has lived this long was sound: its end is a new story.
SOUND_AFTER_S: Final = 30.0
# The interpreter and the engine load in 0.5 s; a busy machine gets time.
START_DEADLINE_S: Final = 30.0
_STOP_S: Final = 0.5
_LOG_BYTES_MAX: Final = 4_000_000
# Ends that a restart will hardly mend; the operator has to act when the very first start ends so.
_HOPELESS: Final = {EXIT_STORE, EXIT_LOCKED, 2}

_log = structlog.get_logger(__name__)


class EmbeddedChain(ChainLink):
    """Is the embedded chain as the pool sees it.

    Args:
        directory: Where the chain keeps its files and its socket; made when it is missing.
        block_zeros: How many leading zero bits a submitted block's hash needs.
        payments_per_minute: How many demo payments the faucet makes.
        template_interval_s: How often a changed mempool makes a new template, at most.
        ping_interval_s: How often the child is asked whether it lives.
        ping_deadline_s: How long it may take to answer.
        pause_max_s: The longest pause before a lost child is replaced.
    """

    def __init__(  # noqa: PLR0913 - settings, each with a name at every call
        self,
        directory: Path,
        *,
        block_zeros: int = BLOCK_ZEROS_DEFAULT,
        payments_per_minute: int = 0,
        template_interval_s: int = 5,
        ping_interval_s: float = 1.0,
        ping_deadline_s: float = 5.0,
        pause_max_s: float = 5.0,
    ) -> None:
        if not 0 <= block_zeros <= BLOCK_ZEROS_MAX:
            raise ConfigError(
                "No demo asks for that.",
                key="block_zeros",
                value=str(block_zeros),
                allowed=f"0 to {BLOCK_ZEROS_MAX}",
            )
        super().__init__(directory, ping_interval_s, ping_deadline_s)
        self.block_zeros = block_zeros
        self.restarts = 0
        self.child_pid: int | None = None
        self._settings = {
            "--block-zeros": block_zeros,
            "--payments-per-minute": payments_per_minute,
            "--template-interval-s": template_interval_s,
        }
        self._pause_max_s = pause_max_s

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs the chain until cancelled; has started once the first child serves.

        Raises:
            StoreError: The chain cannot start at all, because of its files.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._has_served = False
        pause = PAUSE_MIN_S
        while True:
            began = trio.current_time()
            end = await self._run_child(task_status)
            if not self._has_served and end in _HOPELESS:
                raise StoreError(f"the embedded chain cannot start: {self._last_words()}")
            self.restarts += 1
            pause = PAUSE_MIN_S if trio.current_time() - began > SOUND_AFTER_S else pause
            _log.warning(
                "embedded chain restarts", status=end, said=self._last_words(), pause_s=pause
            )
            await trio.sleep(pause)
            pause = min(2 * pause, self._pause_max_s)

    async def _run_child(self, task_status: trio.TaskStatus[None]) -> int | None:
        """Starts a child and stays until it is lost; returns its exit status."""
        process = self._spawn()
        self.child_pid = process.pid
        try:
            await self._wait_for_socket(process)
            async with open_client(self.socket_path, self._take_template) as client:
                await self._watch(client, task_status)
        except (ChainUnavailableError, StoreError) as error:
            _log.warning("embedded chain lost", error=str(error))
        finally:
            self.child_pid = None
            self._set_client(None)
            with trio.CancelScope(shield=True):
                await _end(process)
        return process.returncode

    def _spawn(self) -> subprocess.Popen[bytes]:
        """Starts the child from this very thread, whose end the child is to notice."""
        command = [sys.executable, "-m", "radpool_sv2.chain.child", "--dir", str(self.directory)]
        command += ["--parent", str(os.getpid())]
        for name, value in self._settings.items():
            command += [name, str(value)]
        path = self.directory / "chain.log"
        if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
            path.replace(path.with_name("chain.log.1"))
        with path.open("ab") as log:
            # A session of its own: Ctrl-C reaches the pool, which then ends the chain in order.
            return subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _wait_for_socket(self, process: subprocess.Popen[bytes]) -> None:
        with trio.move_on_after(START_DEADLINE_S):
            while process.poll() is None:
                try:
                    async with open_client(self.socket_path) as client:
                        await client.request("ping", timeout_s=self._ping_deadline_s)
                        return
                except ChainUnavailableError:
                    await trio.sleep(POLL_S)
            raise ChainUnavailableError(f"the child ended with status {process.returncode}")
        raise ChainUnavailableError(f"the child did not answer within {START_DEADLINE_S} s")

    def _last_words(self) -> str:
        """Returns the last line that the child has written."""
        try:
            with (self.directory / "chain.log").open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 4_096))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""


async def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the child: by the end of its standard input, then by force; and reaps it."""
    if process.stdin is not None:
        process.stdin.close()
    with trio.move_on_after(_STOP_S):
        while process.poll() is None:  # noqa: ASYNC110 - a process has no trio.Event
            await trio.sleep(POLL_S)
    if process.returncode is None:
        process.kill()
        process.wait()

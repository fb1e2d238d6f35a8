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
from typing import TYPE_CHECKING, Any, Final

import structlog
import trio

from radpool_sv2.chain.child import EXIT_LOCKED, EXIT_STORE
from radpool_sv2.chain.client import (
    ChainClient,
    ChainUnavailableError,
    check_socket_path,
    open_client,
)
from radpool_sv2.chain.node import BLOCK_ZEROS_MAX
from radpool_sv2.errors import ConfigError, NodeError, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["BLOCK_ZEROS_DEFAULT", "EmbeddedChain"]

# 2^24 hashes: about one block in 10 s for the demo's three miners at 1.4 MH/s together.
BLOCK_ZEROS_DEFAULT: Final = 24
PAUSE_MIN_S: Final = 0.1
# A child that has lived this long was sound: its end is a new story.
SOUND_AFTER_S: Final = 30.0
# The interpreter and the engine load in 0.5 s; a busy machine gets time.
START_DEADLINE_S: Final = 30.0
# Longer than the chain itself gives a verdict.
APART_DEADLINE_S: Final = 30.0
# Requests that may take long; each has one of the chain's 32 connections.
APART_MAX: Final = 8
_POLL_S: Final = 0.02
_STOP_S: Final = 0.5
_LOG_BYTES_MAX: Final = 4_000_000
# Ends that a restart will hardly mend; the operator has to act when the very first start ends so.
_HOPELESS: Final = {EXIT_STORE, EXIT_LOCKED, 2}

_log = structlog.get_logger(__name__)


class EmbeddedChain:
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
        self.directory = directory.absolute()
        self.socket_path = self.directory / "chain.sock"
        check_socket_path(self.socket_path)
        self.block_zeros = block_zeros
        self.restarts = 0
        self.child_pid: int | None = None
        self._settings = {
            "--block-zeros": block_zeros,
            "--payments-per-minute": payments_per_minute,
            "--template-interval-s": template_interval_s,
        }
        self._ping_interval_s = ping_interval_s
        self._ping_deadline_s = ping_deadline_s
        self._pause_max_s = pause_max_s
        self._client: ChainClient | None = None
        self._template: dict[str, Any] | None = None
        self._changed = trio.Event()
        self._has_served = False
        self._apart = trio.CapacityLimiter(APART_MAX)

    @property
    def is_serving(self) -> bool:
        """Whether a child serves right now."""
        return self._client is not None

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

    async def request(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Asks the chain, waiting for it while it is away.

        Args:
            method: An idempotent method of the socket.
            params: Its parameters.

        Raises:
            LocalProtocolError: The chain says that the request is wrong.
        """
        while True:
            client = self._client
            if client is None:
                await self._changed.wait()
                continue
            try:
                return await client.request(method, params)
            except (ChainUnavailableError, StoreError):
                # The watcher notices too and replaces the child; it must not be asked in a hurry.
                await trio.sleep(PAUSE_MIN_S)

    async def request_apart(
        self, method: str, params: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Asks on a connection of its own, so that what takes long keeps nothing else waiting.

        Args:
            method: An idempotent method of the socket.
            params: Its parameters.

        Raises:
            LocalProtocolError: The chain says that the request is wrong.
            NodeError: There is no answer within `APART_DEADLINE_S`.
        """
        async with self._apart:
            with trio.move_on_after(APART_DEADLINE_S):
                while True:
                    try:
                        async with open_client(self.socket_path) as client:
                            return await client.request(method, params)
                    except (ChainUnavailableError, StoreError):
                        await trio.sleep(PAUSE_MIN_S)
        raise NodeError(
            f"the embedded chain did not answer to {method} within {APART_DEADLINE_S} s", "embedded"
        )

    async def next_template(self, after: int = 0) -> dict[str, Any]:
        """Waits until there is a template other than number `after`, and returns the newest."""
        while self._template is None or self._template["id"] == after:
            await self._changed.wait()
        return self._template

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
                    await trio.sleep(_POLL_S)
            raise ChainUnavailableError(f"the child ended with status {process.returncode}")
        raise ChainUnavailableError(f"the child did not answer within {START_DEADLINE_S} s")

    async def _watch(self, client: ChainClient, task_status: trio.TaskStatus[None]) -> None:
        """Pings for ever; subscribes as soon as the log is replayed."""
        while True:
            answer = await client.request("ping", timeout_s=self._ping_deadline_s)
            if not answer["serving"]:
                await trio.sleep(_POLL_S)
                continue
            if self._client is None:
                first = await client.request("subscribe", timeout_s=self._ping_deadline_s)
                self._take_template(first)
                self._set_client(client)
                if not self._has_served:
                    self._has_served = True
                    task_status.started()
            with trio.move_on_after(self._ping_interval_s):
                await client.ended.wait()

    def _take_template(self, template: dict[str, Any]) -> None:
        # Ids grow, across restarts too; what overtook another on the way is older.
        if self._template is None or template["id"] > self._template["id"]:
            self._template = template
            self._notify()

    def _set_client(self, client: ChainClient | None) -> None:
        self._client = client
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

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
            await trio.sleep(_POLL_S)
    if process.returncode is None:
        process.kill()
        process.wait()

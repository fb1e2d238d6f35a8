"""Holds a connection to an embedded chain that comes and goes, for who asks it things.

Whoever runs or finds the chain connects; requests wait while it is away and are asked again when it
is back. All methods of the chain that are used so are idempotent: a request whose answer was lost
does no harm when it is repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from radpool_sv2.chain.client import (
    ChainClient,
    ChainUnavailableError,
    check_socket_path,
    open_client,
)
from radpool_sv2.errors import NodeError, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["PAUSE_MIN_S", "POLL_S", "ChainLink"]

PAUSE_MIN_S: Final = 0.1
# Longer than the chain itself gives a verdict.
APART_DEADLINE_S: Final = 30.0
# Requests that may take long; each has one of the chain's 32 connections.
APART_MAX: Final = 8
POLL_S: Final = 0.02


class ChainLink:
    """Is the way to the chain whose socket is in a directory.

    Args:
        directory: The directory of the chain.
        ping_interval_s: How often the chain is asked whether it lives.
        ping_deadline_s: How long it may take to answer.
    """

    def __init__(self, directory: Path, ping_interval_s: float, ping_deadline_s: float) -> None:
        self.directory = directory.absolute()
        self.socket_path = self.directory / "chain.sock"
        check_socket_path(self.socket_path)
        self._ping_interval_s = ping_interval_s
        self._ping_deadline_s = ping_deadline_s
        self._client: ChainClient | None = None
        self._template: dict[str, Any] | None = None
        self._changed = trio.Event()
        self._has_served = False
        self._apart = trio.CapacityLimiter(APART_MAX)

    @property
    def is_serving(self) -> bool:
        """Whether the chain serves right now."""
        return self._client is not None

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

    async def _watch(self, client: ChainClient, task_status: trio.TaskStatus[None]) -> None:
        """Pings for ever; subscribes as soon as the log is replayed."""
        while True:
            answer = await client.request("ping", timeout_s=self._ping_deadline_s)
            if not answer["serving"]:
                await trio.sleep(POLL_S)
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

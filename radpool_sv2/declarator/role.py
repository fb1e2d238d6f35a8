"""Runs the job declarator of a Mining Service Provider: a listener and what its connections share.

Theory of operation. `Declarator` outlives its listener: when the role fails, `run` is called again
and listens on the same port; tokens and hidden jobs are kept, connections are not. While it runs,
one nursery holds the listener, the verdicts, and a task that draws lots when the tip moves and
writes hidden jobs off that nobody has revealed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog
import trio

from radpool_sv2.declarator.machine import ConnectionLimits, DeclaringMachine
from radpool_sv2.declarator.session import Session
from radpool_sv2.wire.listener import Listener, ListenerLimits
from radpool_sv2.wire.message.connection import Protocol
from radpool_sv2.wire.message.job_declaration import DECLARE_TX_DATA
from radpool_sv2.wire.setup import take_setup

if TYPE_CHECKING:
    from radpool_sv2._native.keys import ServerIdentity
    from radpool_sv2.config import Endpoint
    from radpool_sv2.config.declarator import DeclaratorSection
    from radpool_sv2.declarator.desk import DeclaratorDesk
    from radpool_sv2.declarator.verdict import VerdictDesk
    from radpool_sv2.wire.stream import Sv2Stream

__all__ = ["Declarator", "connection_limits"]

log = structlog.get_logger(__name__)

BURST_SECONDS: Final = 20
"""A connection may ask for so many seconds' worth at once, when a block comes or at the start."""


def connection_limits(config: DeclaratorSection) -> ConnectionLimits:
    """Makes the bounds of each connection of the configuration."""
    return ConnectionLimits(
        tokens_per_minute=config.tokens_per_minute_max,
        tokens_burst=max(4, config.tokens_per_minute_max * BURST_SECONDS // 60),
        declarations_per_minute=config.declarations_per_minute_max,
        declarations_burst=max(4, config.declarations_per_minute_max * BURST_SECONDS // 60),
        declarations_pending_max=config.declarations_pending_max,
        provide_deadline_s=config.provide_deadline_ms / 1_000,
    )


class Declarator:
    """Is the job declarator; `run` is its role.

    Attributes:
        address: Where declaring miners connect, once it serves.
        desk: What its connections share.
        closed: How many connections have ended, by reason.
    """

    def __init__(
        self,
        config: DeclaratorSection,
        identity: ServerIdentity,
        desk: DeclaratorDesk,
        verdicts: VerdictDesk,
        *,
        listen: Endpoint | None = None,
    ) -> None:
        """Takes what the role joins; `listen` replaces the address of the configuration."""
        self._config = config
        self._identity = identity
        self.desk = desk
        self._verdicts = verdicts
        self._listen = listen or config.listen
        self._limits = connection_limits(config)
        self._listener: Listener | None = None
        self._sessions: dict[int, Session] = {}
        self._numbers = 0
        self.address: Endpoint | None = None
        self.closed: dict[str, int] = {}

    def problems(self) -> list[str]:
        """Tells what keeps the declarator from working, in plain words."""
        if self._listener is None:
            return ["the job declarator does not serve now; the log says why"]
        return []

    def metrics(self) -> dict[str, int]:
        """Returns counters and gauges by the names of metrics."""
        found = {
            "declarer_connections": len(self._sessions),
            "declarer_tokens_allocated": self.desk.tokens.allocated,
            "declarer_templates": self.desk.tokens.declared,
            "declarer_reveals_due": self.desk.challenges.due,
            "declarer_transfers": self.desk.intake.held,
            "declarer_transfers_waiting": self.desk.intake.waiting,
        }
        for name, value in self.desk.quality.totals().items():
            found[f"declarer_{name}_total"] = value
        return found

    def page(self, offset: int, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """Returns how many declarers there are, and some of them, JSON-ready."""
        return self.desk.quality.page(offset, limit)

    def set_identity(self, identity: ServerIdentity) -> None:
        """Shows another certificate to clients that connect from now on."""
        self._identity = identity
        if self._listener is not None:
            self._listener.identity = identity

    async def run(self, stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        """Serves declaring miners until `stop` is set.

        Raises:
            ConfigError: The listener's address cannot be had.
        """
        limits = ListenerLimits(
            connections_max=self._config.connections_max,
            connections_per_address_max=self._config.connections_per_address_max,
        )
        listener = Listener(self._listen, self._identity, limits, self._serve)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._verdicts.run)
                await nursery.start(listener.run)
                assert listener.address is not None
                # Port 0 means any free one the first time; miners then expect to find it again.
                self._listen = self.address = listener.address
                self._listener = listener
                nursery.start_soon(self._write_off)
                nursery.start_soon(self.desk.bury)
                task_status.started()
                await stop.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._listener = None

    async def _write_off(self) -> None:
        while True:
            await self.desk.write_off()
            await self.desk.until_late()

    async def _serve(self, stream: Sv2Stream) -> None:
        flag = 0 if self._config.coinbase_only else DECLARE_TX_DATA
        required = {flag: "missing-declare-tx-data-flag"} if flag else {}
        setup = await take_setup(
            stream,
            Protocol.JOB_DECLARATION,
            allowed_flags=DECLARE_TX_DATA,
            required=required,
        )
        self._numbers += 1
        number = self._numbers
        whole = bool(setup.flags & DECLARE_TX_DATA)
        log.info("declarer came", connection=number, peer=stream.peer, whole_templates=whole)
        machine = DeclaringMachine(
            connection=number,
            whole=whole,
            tokens=self.desk.tokens,
            terms=self.desk.terms,
            challenges=self.desk.challenges,
            limits=self._limits,
            now=trio.current_time(),
        )
        session = Session(
            number=number,
            whole=whole,
            stream=stream,
            machine=machine,
            desk=self.desk,
            bytes_per_second=self._config.bytes_per_second_max,
            frame_seconds_max=self._config.provide_deadline_ms / 1_000,
            idle_seconds_max=self._config.idle_deadline_ms / 1_000,
        )
        self._sessions[number] = session
        reason = "cancelled"
        try:
            reason = await session.run()
        finally:
            del self._sessions[number]
            self.desk.tokens.disconnected(number)
            self.closed[reason] = self.closed.get(reason, 0) + 1
            log.info("declarer left", connection=number, reason=reason)

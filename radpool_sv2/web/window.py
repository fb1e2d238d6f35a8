"""Shows a running pool to the HTTP API: snapshots of its roster and rows of its books."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from radpool_sv2.web.view import ChannelView, ClientView, Sv1Figures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from radpool_sv2.pool.role import Pool
    from radpool_sv2.pool.roster import Channel, Client
    from radpool_sv2.web.view import LedgerView

__all__ = ["DeclaratorView", "FederationView", "RegisterView", "Sv1View", "Troubled", "Window"]


class Troubled(Protocol):
    """Is a part of the node that says what keeps it from working."""

    @property
    def problem(self) -> str:
        """In plain words; empty when nothing does."""


class DeclaratorView(Protocol):
    """Is the node's job declarator, seen from outside."""

    def metrics(self) -> Mapping[str, int]:
        """Returns counters and gauges by name."""

    def problems(self) -> Sequence[str]:
        """Tells what keeps it from working, in plain words."""

    def page(self, offset: int, limit: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Returns how many declarers there are, and some of them, JSON-ready."""


class RegisterView(Protocol):
    """Is the register of owners, seen from outside."""

    async def rows(self, offset: int, limit: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Returns how many registrations there are, and some of them, JSON-ready."""


class Sv1View(Troubled, Protocol):
    """Is what serves devices that speak Stratum V1, seen from outside."""

    def metrics(self) -> Mapping[str, int]:
        """Returns counters and gauges by name."""

    def hash_rate(self) -> float:
        """Returns the hash rate of all devices, H/s."""

    def page(self, offset: int, limit: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Returns how many devices there are, and some of them, JSON-ready."""


class FederationView(Troubled, Protocol):
    """Is the pool's seat in its federation, seen from outside."""

    def figures(self) -> Mapping[str, Any]:
        """Returns what an operator looks at, JSON-ready."""


class Window:
    """Is the `PoolView` of a pool."""

    def __init__(  # noqa: PLR0913 - the parts of a node that it shows
        self,
        pool: Pool,
        shares_per_minute: int,
        beside: Sequence[Troubled] = (),
        declarator: DeclaratorView | None = None,
        register: RegisterView | None = None,
        *,
        sv1: Sv1View | None = None,
        federation: FederationView | None = None,
    ) -> None:
        """Takes what is shown.

        Args:
            pool: The pool.
            shares_per_minute: What vardiff aims at.
            beside: What else the node cannot do without.
            declarator: The job declarator, if there is one.
            register: The register of owners, if there is one.
            sv1: Who serves devices that speak Stratum V1, if anybody does.
            federation: The seat in a federation, if the pool is a member of one.
        """
        self._federation = federation
        self._sv1 = sv1
        self._register = register
        self._declarator = declarator
        self._pool = pool
        self._shares_per_minute = shares_per_minute
        self._beside = (
            *beside,
            *(() if sv1 is None else (sv1,)),
            *(() if federation is None else (federation,)),
        )

    @property
    def started_unix_ms(self) -> int:
        """When the pool began to serve, milliseconds since 1970."""
        return self._pool.started_unix_ms

    @property
    def ledger(self) -> LedgerView:
        """The books."""
        return self._pool.ledger

    def clients(self) -> Sequence[ClientView]:
        """Returns every connection that has been set up, ordered by `client_id`."""
        clients = sorted(self._pool.roster, key=lambda client: client.connection)
        return [self._client(client) for client in clients]

    def client(self, client_id: int) -> ClientView | None:
        """Returns one connection, or None when there is none of that id."""
        client = self._pool.roster.get(client_id)
        return None if client is None else self._client(client)

    def engine_metrics(self) -> Mapping[str, int]:
        """Returns the native engine's counters and gauges by name."""
        return self._pool.metrics()

    def problems(self) -> Sequence[str]:
        """Returns what keeps the pool from working, in plain words; empty when healthy."""
        beside = [part.problem for part in self._beside if part.problem]
        declarator = [] if self._declarator is None else self._declarator.problems()
        return [*self._pool.problems(), *beside, *declarator]

    def declarator_metrics(self) -> Mapping[str, int]:
        """Returns the job declarator's counters and gauges by name; none without one."""
        return {} if self._declarator is None else self._declarator.metrics()

    def sv1_figures(self) -> Sv1Figures | None:
        """Returns what devices do that speak Stratum V1; None where nobody serves them."""
        if self._sv1 is None:
            return None
        devices, _ = self._sv1.page(0, 0)
        return Sv1Figures(devices, self._sv1.hash_rate(), self._sv1.metrics())

    async def sv1_clients(self, offset: int, limit: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Returns how many of them there are, and some of them, JSON-ready."""
        return (0, []) if self._sv1 is None else self._sv1.page(offset, limit)

    def federation(self) -> Mapping[str, Any] | None:
        """Returns how the pool's member of a federation fares, JSON-ready; None without one."""
        return None if self._federation is None else self._federation.figures()

    async def declarers(self, offset: int, limit: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Returns how many miners declare templates, and some of them, JSON-ready."""
        return (0, []) if self._declarator is None else self._declarator.page(offset, limit)

    async def registrations(
        self, offset: int, limit: int
    ) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Returns how many owners are registered, and some of them, JSON-ready."""
        return (0, []) if self._register is None else await self._register.rows(offset, limit)

    def blocks_found(self) -> int:
        """Returns how many blocks the pool has found since it keeps books."""
        return self._pool.ledger.blocks_found

    def status(self) -> Mapping[str, Any]:
        """Returns tip, template, epoch and addresses, JSON-ready, for `radpool status`."""
        work = self._pool.work
        tip = None if work is None else work.tip
        template = None
        if work is not None:
            template = {
                "id": work.template.id,
                "height": work.template.height,
                "value_sats": work.template.value_sats,
                "fees_sats": work.template.fees_sats,
                "tx_count": work.template.tx_count,
                "rule": work.template.rule,
            }
        return {
            "sv2": str(self._pool.address),
            "tip_height": self._pool.tip_height,
            "tip_hash": None if tip is None else tip.prev_hash[::-1].hex(),
            "template": template,
            "epoch": self._pool.ledger.current_epoch,
            "blocks_found": self.blocks_found(),
            "federation": self.federation(),
            "problems": list(self.problems()),
        }

    def _client(self, client: Client) -> ClientView:
        return ClientView(
            client_id=client.connection,
            address=client.address,
            vendor=client.vendor,
            hardware_version=client.hardware_version,
            firmware=client.firmware,
            channels=[self._channel(channel) for channel in client.channels.values()],
        )

    def _channel(self, channel: Channel) -> ChannelView:
        return ChannelView(
            channel_id=channel.channel,
            kind=cast("Literal['standard', 'extended']", channel.kind),
            user_identity=channel.user_identity,
            account=channel.identity.account,
            nominal_hash_rate=channel.nominal_hash_rate,
            exponent=channel.exponent,
            max_target=channel.max_target,
            extranonce_prefix=channel.extranonce_prefix,
            rollable_extranonce_size=channel.rollable,
            shares_per_minute=self._shares_per_minute,
            shares_accepted=channel.accepted,
            shares_rejected=channel.rejected,
            work=channel.work,
            blocks_found=channel.blocks_found,
            workers=tuple(channel.workers.values()),
        )

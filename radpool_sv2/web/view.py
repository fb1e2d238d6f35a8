"""What the HTTP API may see of a running pool: frozen snapshots, nothing that it could change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class ChannelView:
    """One open mining channel.

    `exponent` is z of the channel's target; `work` is the sum of `2^z` over its acknowledged
    shares, in hashes.
    """

    channel_id: int
    kind: Literal["standard", "extended"]
    user_identity: str
    account: str
    nominal_hash_rate: float
    exponent: int
    max_target: bytes
    extranonce_prefix: bytes
    rollable_extranonce_size: int
    shares_per_minute: int
    shares_accepted: int
    shares_rejected: Mapping[str, int]
    work: int
    blocks_found: int
    workers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ClientView:
    """One connection that has been set up, with its channels."""

    client_id: int
    address: str
    vendor: str
    hardware_version: str
    firmware: str
    channels: Sequence[ChannelView] = field(default_factory=tuple)


class LedgerView(Protocol):
    """The ledger's books, as JSON-ready rows, newest first."""

    async def epochs(self, offset: int, limit: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Returns how many epochs there are, and `limit` of them from `offset`."""

    async def epoch(self, number: int) -> Mapping[str, Any] | None:
        """Returns who worked in an epoch and what it paid; None when there is no such epoch."""

    async def blocks(self, offset: int, limit: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Returns how many blocks the pool found, and `limit` of them from `offset`."""

    async def accounts(self, offset: int, limit: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Returns how many accounts there are, and `limit` of them from `offset`."""


@dataclass(frozen=True, slots=True)
class Sv1Figures:
    """What the devices do that speak Stratum V1.

    Attributes:
        devices: how many are connected.
        hash_rate: H/s of all of them.
        metrics: counters, whose names end in `_total`, and gauges of their translator.
    """

    devices: int
    hash_rate: float
    metrics: Mapping[str, int]


class PoolView(Protocol):
    """A running pool, seen from outside."""

    @property
    def started_unix_ms(self) -> int:
        """When the pool began to serve, milliseconds since 1970."""

    @property
    def ledger(self) -> LedgerView:
        """The books."""

    def clients(self) -> Sequence[ClientView]:
        """Returns every connection that has been set up, ordered by `client_id`."""

    def client(self, client_id: int) -> ClientView | None:
        """Returns one connection, or None when there is none of that id."""

    def engine_metrics(self) -> Mapping[str, int]:
        """Returns the native engine's counters and gauges by name."""

    def declarator_metrics(self) -> Mapping[str, int]:
        """Returns the job declarator's counters and gauges by name; none without one."""

    def sv1_figures(self) -> Sv1Figures | None:
        """Returns what devices do that speak Stratum V1; None where nobody serves them."""

    async def sv1_clients(self, offset: int, limit: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Returns how many of them there are, and some of them, JSON-ready."""

    def federation(self) -> Mapping[str, Any] | None:
        """Returns how the pool's member of a federation fares, JSON-ready; None without one."""

    async def declarers(self, offset: int, limit: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Returns how many miners declare templates, and some of them, JSON-ready."""

    async def registrations(
        self, offset: int, limit: int
    ) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Returns how many owners are registered, and some of them, JSON-ready."""

    def status(self) -> Mapping[str, Any]:
        """Returns tip, template, epoch and addresses, JSON-ready, for `radpool status`."""

    def blocks_found(self) -> int:
        """Returns how many blocks the pool has found since it keeps books."""

    def problems(self) -> Sequence[str]:
        """Returns what keeps the pool from working, in plain words; empty when healthy."""

"""Prometheus metrics: SRI's names where it has one, `radpool_*` for the rest.

A snapshot is taken where the pool runs, in one go; printing it may then take its time in a thread.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from radpool_sv2.web.view import ChannelView, ClientView, PoolView, Sv1Figures

MINT = {
    "claims": "Claims of shares that have a token.",
    "keysets": "Work keysets by state.",
    "tokens": "Units of work that were claimed, by state of their keyset.",
    "theta_msat": "What settlements gave all keysets.",
    "issued_msat": "What was paid out for work tokens.",
    "liabilities_sats": "Sat tokens in circulation.",
    "carry_msat": "What is carried to the next settlements.",
    "fee_msat": "What the mint kept of settlements.",
    "operator_msat": "The operator's account: negative what reorganisations have cost.",
    "advance_used_msat": "What was paid out against coinbases that cannot be spent yet.",
    "advance_cap_msat": "The most that may be.",
}
"""The figures of a mint that are metrics, and what they are."""

FEDERATION = {
    "members": "Members of the federation.",
    "next_batch": "Number of the next batch of shares that goes to the federation.",
    "registrations": "Owners that the federation has been told of.",
    "stale_shares": "Shares of all members that came too late for the last certified epoch.",
    "void_batches": "Batches of all members that count nothing in the last certified epoch.",
}
"""The figures of a pool's seat in a federation that are metrics, and what they are."""

_CHANNEL = ("client_id", "channel_id", "user_identity")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Is what the metrics of one moment are made of."""

    uptime_ms: int
    clients: Sequence[ClientView]
    blocks_found: int
    engine: Mapping[str, int]
    mint: Mapping[str, Any]
    declarator: Mapping[str, int]
    sv1: Sv1Figures | None
    federation: Mapping[str, Any] | None

    @classmethod
    def of(cls, pool: PoolView, now_unix_ms: int, mint: Mapping[str, Any]) -> "Snapshot":
        """Takes it from a pool; must run where the pool runs."""
        return cls(
            now_unix_ms - pool.started_unix_ms,
            pool.clients(),
            pool.blocks_found(),
            pool.engine_metrics(),
            mint,
            pool.declarator_metrics(),
            pool.sv1_figures(),
            pool.federation(),
        )


class SnapshotCollector(Collector):
    """Turns a snapshot into metrics."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        """Yields every metric of the pool."""
        seen = self._snapshot
        yield GaugeMetricFamily(
            "sv2_uptime_seconds", "Seconds since the pool began to serve.", seen.uptime_ms / 1000
        )
        yield GaugeMetricFamily(
            "sv2_clients_total", "Connections that are set up.", len(seen.clients)
        )
        yield from _channel_sums(seen.clients)
        yield from _per_channel(seen.clients)
        yield CounterMetricFamily(
            "sv2_client_blocks_found", "Blocks that the pool has found.", seen.blocks_found
        )
        for name, value in sorted(seen.engine.items()):
            yield _engine_metric(name, value)
        for name, value in sorted(seen.declarator.items()):
            yield _declarator_metric(name, value)
        yield from _mint_metrics(seen.mint)
        if seen.sv1 is not None:
            yield from _sv1_metrics(seen.sv1)
        if seen.federation is not None:
            yield from _federation_metrics(seen.federation)


def _mint_metrics(figures: Mapping[str, Any]) -> Iterable[Metric]:
    """Yields the figures of a mint: numbers as they are, tables labelled by keyset state."""
    for name, text in MINT.items():
        value = figures.get(name)
        if isinstance(value, Mapping):
            metric = GaugeMetricFamily(f"radpool_mint_{name}", text, labels=["state"])
            for state, count in sorted(value.items()):
                metric.add_metric([state], count)
            yield metric
        elif value is not None:
            yield GaugeMetricFamily(f"radpool_mint_{name}", text, value)


def _engine_metric(name: str, value: int) -> Metric:
    """Makes a metric of one of the engine's numbers: counters have names that end in `_total`."""
    if name.endswith("_total"):
        plain = name.removesuffix("_total")
        return CounterMetricFamily(f"radpool_engine_{plain}", f"Engine: {plain}.", value)
    return GaugeMetricFamily(f"radpool_engine_{name}", f"Engine: {name}.", value)


def _declarator_metric(name: str, value: int) -> Metric:
    """Makes a metric of one of the declarator's numbers, likewise."""
    words = name.removesuffix("_total").replace("_", " ")
    if name.endswith("_total"):
        plain = name.removesuffix("_total")
        return CounterMetricFamily(f"radpool_{plain}", f"Job declaration: {words}.", value)
    return GaugeMetricFamily(f"radpool_{name}", f"Job declaration: {words}.", value)


def _sv1_metrics(figures: Sv1Figures) -> Iterable[Metric]:
    """Yields what a translator of its own shows under the same names."""
    yield GaugeMetricFamily("sv1_clients_total", "Devices that are connected.", figures.devices)
    yield GaugeMetricFamily("sv1_hashrate_total", "Their hash rate, H/s.", figures.hash_rate)
    for name, value in sorted(figures.metrics.items()):
        plain = name.removesuffix("_total")
        family = GaugeMetricFamily if plain == name else CounterMetricFamily
        yield family(f"radpool_translator_{plain}", f"SV1 devices: {plain}.", value)


def _federation_metrics(figures: Mapping[str, Any]) -> Iterable[Metric]:
    """Yields how a pool's member fares; without the member, only that it is not there."""
    for name, text in FEDERATION.items():
        yield GaugeMetricFamily(f"radpool_federation_{name}", text, figures[name])
    yield GaugeMetricFamily(
        "radpool_federation_blocks", "Blocks in its books.", len(figures["blocks"])
    )
    yield CounterMetricFamily(
        "radpool_federation_batches_too_late",
        "Batches left out: they came too late to count.",
        figures["batches_too_late"],
    )
    node = figures.get("node")
    healthy = node is not None and not figures["problem"]
    yield GaugeMetricFamily(
        "radpool_federation_healthy", "1, or 0: /api/v1/health says why.", int(healthy)
    )
    if node is None:
        return
    yield GaugeMetricFamily(
        "radpool_federation_links", "Links to other members that are up.", len(node["links"])
    )
    yield GaugeMetricFamily(
        "radpool_federation_waiting_payloads",
        "Payloads that wait for their turn in the own stream.",
        node["waiting_payloads"],
    )
    epochs = GaugeMetricFamily(
        "radpool_federation_epochs", "Epochs by how far they are.", labels=["stage"]
    )
    for stage in ("decided", "applied", "certified"):
        epochs.add_metric([stage], node["epochs"][stage])
    behind = GaugeMetricFamily(
        "radpool_federation_behind_entries",
        "Entries of the own stream that a linked member has not certified.",
        labels=["member"],
    )
    for member, link in node["links"].items():
        behind.add_metric([member], link["behind_entries"])
    yield from (epochs, behind)


def _channel_sums(clients: Iterable[ClientView]) -> Iterable[Metric]:
    counts = {"extended": 0, "standard": 0}
    hash_rate = 0.0
    for client in clients:
        for channel in client.channels:
            counts[channel.kind] += 1
            hash_rate += channel.nominal_hash_rate
    channels = GaugeMetricFamily(
        "sv2_client_channels", "Open channels by type.", labels=["channel_type"]
    )
    for kind, count in counts.items():
        channels.add_metric([kind], count)
    yield channels
    yield GaugeMetricFamily(
        "sv2_client_hashrate_total", "Hash rate that miners declared, H/s.", hash_rate
    )


def _per_channel(clients: Iterable[ClientView]) -> Iterable[Metric]:
    hash_rate = GaugeMetricFamily(
        "sv2_client_channel_hashrate", "Hash rate that the miner declared, H/s.", labels=_CHANNEL
    )
    work = CounterMetricFamily(
        "sv2_client_channel_share_work", "Work of acknowledged shares, hashes.", labels=_CHANNEL
    )
    accepted = CounterMetricFamily(
        "sv2_client_shares_accepted", "Acknowledged shares.", labels=_CHANNEL
    )
    rejected = CounterMetricFamily(
        "sv2_client_shares_rejected",
        "Rejected shares by error code.",
        labels=[*_CHANNEL, "error_code"],
    )
    exponent = GaugeMetricFamily(
        "radpool_channel_exponent", "Leading zero bits asked of shares.", labels=_CHANNEL
    )
    for client in clients:
        for channel in client.channels:
            labels = _labels(client, channel)
            hash_rate.add_metric(labels, channel.nominal_hash_rate)
            work.add_metric(labels, channel.work)
            accepted.add_metric(labels, channel.shares_accepted)
            exponent.add_metric(labels, channel.exponent)
            for code, count in channel.shares_rejected.items():
                rejected.add_metric([*labels, code], count)
    return (hash_rate, work, accepted, rejected, exponent)


def _labels(client: ClientView, channel: ChannelView) -> list[str]:
    return [str(client.client_id), str(channel.channel_id), channel.user_identity]


def exposition(snapshot: Snapshot) -> bytes:
    """Prints the metrics of a snapshot as Prometheus reads them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SnapshotCollector(snapshot))
    return generate_latest(registry)

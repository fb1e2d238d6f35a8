"""Prometheus metrics: SRI's names where it has one, `radpool_*` for the rest.

Values are read from the pool's snapshots when they are asked for; nothing is counted here.
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from radpool_sv2.web.view import ChannelView, ClientView, PoolView

_CHANNEL = ("client_id", "channel_id", "user_identity")


class PoolCollector(Collector):
    """Turns a pool's snapshots into metrics."""

    def __init__(self, pool: PoolView, now_unix_ms: Callable[[], int]) -> None:
        self._pool = pool
        self._now_unix_ms = now_unix_ms

    def collect(self) -> Iterable[Metric]:
        """Yields every metric of the pool."""
        uptime = (self._now_unix_ms() - self._pool.started_unix_ms) / 1000
        yield GaugeMetricFamily(
            "sv2_uptime_seconds", "Seconds since the pool began to serve.", uptime
        )
        clients = self._pool.clients()
        yield GaugeMetricFamily("sv2_clients_total", "Connections that are set up.", len(clients))
        yield from _channel_sums(clients)
        yield from _per_channel(clients)
        yield CounterMetricFamily(
            "sv2_client_blocks_found", "Blocks that the pool has found.", self._pool.blocks_found()
        )
        for name, value in sorted(self._pool.engine_metrics().items()):
            yield GaugeMetricFamily(f"radpool_engine_{name}", f"Engine: {name}.", value)


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


def pool_registry(pool: PoolView, now_unix_ms: Callable[[], int]) -> CollectorRegistry:
    """Returns a registry with the metrics of one pool and nothing else."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PoolCollector(pool, now_unix_ms))
    return registry

"""Serves a translator's figures by HTTP: its devices, its workers' wallets, health."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from radpool_sv2_translator.view import (
    by_worker,
    client_figures,
    figures,
    hash_rate,
    rejected_by_reason,
    wallet_figures,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from starlette.requests import Request

    from radpool_sv2_translator.role import TranslatorRole

__all__ = ["application"]

T = TypeVar("T")

PAGE_MAX: Final = 200
WORKERS_SHOWN: Final = 1_000
"""Workers with figures of their own in the metrics: names are whatever devices send."""
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def application(translator: TranslatorRole) -> Starlette:
    """Makes the application."""

    async def clients(request: Request) -> Response:
        listed = translator.clients()
        return _page(request, listed, lambda each: client_figures(translator, each))

    async def wallets(request: Request) -> Response:
        listed = [] if translator.workers is None else list(translator.workers)
        return _page(request, listed, wallet_figures)

    async def health(_request: Request) -> Response:
        told = figures(translator)
        problems = [] if told["pool"] else ["no pool works"]
        if translator.keeper is not None and translator.keeper.problem:
            problems.append(translator.keeper.problem)
        # A certificate that ends in a week keeps nobody from mining today.
        status = 200 if told["pool"] else 503
        return JSONResponse({"problems": problems, **told}, status_code=status)

    async def metrics(_request: Request) -> Response:
        registry = CollectorRegistry()
        registry.register(_Figures(translator))
        return Response(generate_latest(registry), media_type=METRICS_TYPE)

    return Starlette(
        routes=[
            Route("/api/v1/sv1/clients", clients),
            Route("/api/v1/sv1/wallets", wallets),
            Route("/api/v1/health", health),
            Route("/metrics", metrics),
        ]
    )


def _page(request: Request, listed: Sequence[T], show: Callable[[T], object]) -> Response:
    offset, limit = _number(request, "offset", 0), _number(request, "limit", PAGE_MAX)
    if offset is None or limit is None or limit > PAGE_MAX:
        error = {"error": f"offset is a number from 0, limit one up to {PAGE_MAX}"}
        return JSONResponse(error, status_code=400)
    items = [show(each) for each in listed[offset : offset + limit]]
    told = {"total": len(listed), "offset": offset, "limit": limit, "items": items}
    return JSONResponse(told)


def _number(request: Request, name: str, default: int) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return default
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


class _Figures(Collector):
    """Turns a translator's figures into metrics: SRI's names where it has one."""

    def __init__(self, translator: TranslatorRole) -> None:
        self._translator = translator

    def _pool(self) -> Iterator[Metric]:
        """Yields what the pools say, under the names that SRI's translator gives it."""
        metrics = self._translator.metrics()
        channels = GaugeMetricFamily(
            "sv2_server_channels", "Channels with the pools.", labels=["channel_type"]
        )
        channels.add_metric(["extended"], metrics.get("upstream_channels", 0))
        yield channels
        yield CounterMetricFamily(
            "sv2_server_shares_accepted",
            "Shares that the pools have accepted.",
            metrics.get("pool_shares_accepted_total", 0),
        )
        refused = CounterMetricFamily(
            "sv2_server_shares_rejected", "Shares that they refused.", labels=["error_code"]
        )
        for code, count in sorted(self._translator.refusals().items()):
            refused.add_metric([code], count)
        yield refused

    def _reasons(self) -> Iterator[Metric]:
        """Yields why shares were refused here, those of devices that are gone included."""
        refused = CounterMetricFamily(
            "radpool_translator_shares_rejected",
            "Shares of devices that were refused here, by the reason.",
            labels=["reason"],
        )
        for reason, count in sorted(rejected_by_reason(self._translator).items()):
            refused.add_metric([reason], count)
        yield refused

    def _workers(self) -> Iterator[Metric]:
        """Yields the figures of workers whose devices are connected."""
        name = "radpool_translator_worker"
        accepted = CounterMetricFamily(
            f"{name}_shares_accepted", "Shares of a worker that were good.", labels=["worker"]
        )
        refused = CounterMetricFamily(
            f"{name}_shares_rejected", "Those that were not.", labels=["worker", "reason"]
        )
        rate = GaugeMetricFamily(
            f"{name}_hashrate",
            "Hash rate of a worker, H/s, and between what it lies in 95 cases of 100.",
            labels=["worker", "bound"],
        )
        for worker in by_worker(self._translator, WORKERS_SHOWN):
            accepted.add_metric([worker.name], worker.accepted)
            for reason, count in sorted(worker.rejected.items()):
                refused.add_metric([worker.name, reason], count)
            if worker.rate is not None:
                rate.add_metric([worker.name, "estimate"], worker.rate.rate)
                rate.add_metric([worker.name, "low"], worker.rate.low)
                rate.add_metric([worker.name, "high"], worker.rate.high)
        yield from (accepted, refused, rate)

    def collect(self) -> Iterator[Metric]:
        translator = self._translator
        clients = len(translator.clients())
        yield GaugeMetricFamily("sv1_clients_total", "Devices that are connected.", clients)
        rate = hash_rate(translator)
        yield GaugeMetricFamily("sv1_hashrate_total", "Their hash rate, H/s.", rate)
        started_s = translator.started_unix_ms / 1_000
        yield GaugeMetricFamily("sv2_uptime_seconds", "Since it started.", time.time() - started_s)
        yield from self._pool()
        yield from self._reasons()
        yield from self._workers()
        if translator.keeper is not None:
            ends = translator.keeper.identity.certificate.not_after_unix_s
            metric = "radpool_translator_tls_certificate_ends_unix_s"
            yield GaugeMetricFamily(metric, "Until when the certificate holds.", ends)
        for name, value in sorted(translator.metrics().items()):
            if name.endswith("_total"):
                metric = f"radpool_translator_{name.removesuffix('_total')}"
                yield CounterMetricFamily(metric, "A counter of the translator.", value)
            else:
                yield GaugeMetricFamily(f"radpool_translator_{name}", "A gauge of it.", value)

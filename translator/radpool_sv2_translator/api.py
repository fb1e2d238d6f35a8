"""Serves a translator's figures by HTTP: `/api/v1/sv1/clients`, `/api/v1/health`, `/metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from radpool_sv2_translator.view import client_figures, figures, hash_rate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from radpool_sv2_translator.role import TranslatorRole

__all__ = ["application"]

PAGE_MAX: Final = 200
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def application(translator: TranslatorRole) -> Starlette:
    """Makes the application."""

    async def clients(request: Request) -> Response:
        offset, limit = _number(request, "offset", 0), _number(request, "limit", PAGE_MAX)
        if offset is None or limit is None or limit > PAGE_MAX:
            error = {"error": f"offset is a number from 0, limit one up to {PAGE_MAX}"}
            return JSONResponse(error, status_code=400)
        listed = translator.clients()
        items = [client_figures(translator, each) for each in listed[offset : offset + limit]]
        return JSONResponse({"total": len(listed), "offset": offset, "items": items})

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
            Route("/api/v1/health", health),
            Route("/metrics", metrics),
        ]
    )


def _number(request: Request, name: str, default: int) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return default
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


class _Figures(Collector):
    """Turns a translator's figures into metrics: SRI's names where it has one."""

    def __init__(self, translator: TranslatorRole) -> None:
        self._translator = translator

    def collect(self) -> Iterator[Metric]:
        translator = self._translator
        clients = len(translator.clients())
        yield GaugeMetricFamily("sv1_clients_total", "Devices that are connected.", clients)
        rate = hash_rate(translator)
        yield GaugeMetricFamily("sv1_hashrate_total", "Their hash rate, H/s.", rate)
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

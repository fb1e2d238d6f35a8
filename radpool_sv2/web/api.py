"""The JSON API: SRI's monitoring endpoints and shapes, and the pool's books beside them.

Source: sv2-apps, `stratum-apps/src/monitoring` (paths, field names, pagination).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import trio
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from radpool_sv2.units import target_of
from radpool_sv2.web import cashu_api, work_api
from radpool_sv2.web.allowance import Allowance
from radpool_sv2.web.federation_page import HEADERS, federation_page
from radpool_sv2.web.metrics import Snapshot, exposition
from radpool_sv2.web.mint import MintView
from radpool_sv2.web.page import Page
from radpool_sv2.web.view import ChannelView, ClientView, PoolView

EPOCH_MAX = (1 << 32) - 1
"""Epochs have 32 bits in the owner tag; a path may hold any number."""

Rows = Callable[[int, int], Awaitable[tuple[int, Sequence[Mapping[str, Any]]]]]


def target_hex(exponent: int) -> str:
    """Returns the target of a ladder step as 64 hex digits, most significant first."""
    return f"{target_of(exponent):064x}"


def channel_json(channel: ChannelView) -> dict[str, Any]:
    """Returns a channel in SRI's shape; `share_work_sum` counts hashes, exactly."""
    row = {
        "channel_id": channel.channel_id,
        "user_identity": channel.user_identity,
        "account": channel.account,
        "nominal_hashrate": channel.nominal_hash_rate,
        "target_hex": target_hex(channel.exponent),
        "exponent": channel.exponent,
        "requested_max_target_hex": channel.max_target[::-1].hex(),
        "extranonce_prefix_hex": channel.extranonce_prefix.hex(),
        "expected_shares_per_minute": channel.shares_per_minute,
        "shares_accepted": channel.shares_accepted,
        "shares_rejected": sum(channel.shares_rejected.values()),
        "shares_rejected_by_reason": dict(channel.shares_rejected),
        "share_work_sum": channel.work,
        "blocks_found": channel.blocks_found,
        "workers": list(channel.workers),
    }
    if channel.kind == "extended":
        row["full_extranonce_size"] = (
            len(channel.extranonce_prefix) + channel.rollable_extranonce_size
        )
        row["rollable_extranonce_size"] = channel.rollable_extranonce_size
    return row


def client_json(client: ClientView) -> dict[str, Any]:
    """Returns a connection without its channels, in SRI's shape."""
    return {
        "client_id": client.client_id,
        "client_kind": client_kind(client),
        "address": client.address,
        "vendor": client.vendor,
        "hardware_version": client.hardware_version,
        "firmware": client.firmware,
        "extended_channels_count": len(_of_kind(client.channels, "extended")),
        "standard_channels_count": len(_of_kind(client.channels, "standard")),
        "total_hashrate": sum(channel.nominal_hash_rate for channel in client.channels),
    }


def client_kind(client: ClientView) -> str:
    """Returns what SRI's dashboards call this kind of client."""
    if (client.vendor, client.hardware_version) == ("SRI", "Translator Proxy"):
        return "translator_proxy"
    return "miner" if client.vendor or client.hardware_version else "unknown"


def _of_kind(channels: Sequence[ChannelView], kind: str) -> list[ChannelView]:
    return [channel for channel in channels if channel.kind == kind]


def _clients_summary(clients: Sequence[ClientView]) -> dict[str, Any]:
    channels = [channel for client in clients for channel in client.channels]
    return {
        "total_clients": len(clients),
        "total_channels": len(channels),
        "extended_channels": len(_of_kind(channels, "extended")),
        "standard_channels": len(_of_kind(channels, "standard")),
        "total_hashrate": sum(channel.nominal_hash_rate for channel in channels),
    }


class Api:
    """Answers the requests of one pool's API, and of its mint if it has one."""

    def __init__(
        self, pool: PoolView, now_unix_ms: Callable[[], int], mint: MintView | None = None
    ) -> None:
        self._pool = pool
        self._now_unix_ms = now_unix_ms
        self._mint = mint

    def application(self) -> Starlette:
        """Returns the ASGI application."""
        books = self._pool.ledger
        routes = {
            "/": (self._root, "this list"),
            "/metrics": (self._metrics, "Prometheus metrics"),
            "/federation": (self._federation, "the pool's member of a federation, for a browser"),
            "/api/v1/health": (self._health, "whether the pool works"),
            "/api/v1/global": (self._global, "sums over all connections"),
            "/api/v1/status": (self._status, "tip, template, epoch, addresses"),
            "/api/v1/server": (self._server, "upstream channels: a pool has none"),
            "/api/v1/server/channels": (self._server_channels, "upstream channels"),
            "/api/v1/clients": (self._clients, "connections (offset, limit)"),
            "/api/v1/clients/{client_id:int}": (self._client, "one connection"),
            "/api/v1/clients/{client_id:int}/channels": (
                self._client_channels,
                "its channels (offset, limit)",
            ),
            "/api/v1/epochs": (self._rows(books.epochs), "epochs (offset, limit)"),
            "/api/v1/epochs/{epoch:int}": (self._epoch, "who worked in an epoch and what it paid"),
            "/api/v1/blocks": (self._rows(books.blocks), "blocks found (offset, limit)"),
            "/api/v1/accounts": (self._rows(books.accounts), "accounts (offset, limit)"),
            "/api/v1/declarers": (
                self._rows(self._pool.declarers),
                "miners with templates of their own, and how good these are (offset, limit)",
            ),
            "/api/v1/sv1/clients": (
                self._rows(self._pool.sv1_clients),
                "devices that speak Stratum V1 (offset, limit)",
            ),
            "/api/v1/registrations": (
                self._rows(self._pool.registrations),
                "which miner keys own which commitments, signed by both sides (offset, limit)",
            ),
        }
        self._endpoints = {path: text for path, (_, text) in routes.items()}
        gets: list[BaseRoute] = [
            Route(path, endpoint, methods=["GET"]) for path, (endpoint, _) in routes.items()
        ]
        return Starlette(
            routes=gets + self._mint_routes(), exception_handlers={HTTPException: _error}
        )

    def _mint_routes(self) -> list[BaseRoute]:
        """Returns where the mint answers, each side by itself; nothing without a mint."""
        if self._mint is None:
            return []
        self._endpoints |= work_api.ENDPOINTS | cashu_api.ENDPOINTS
        allowance = Allowance()
        work = work_api.WorkApi(self._mint, allowance)
        cashu = cashu_api.CashuApi(self._mint, allowance, self._now_unix_ms)
        return [
            Mount("/work/v1", app=work.application()),
            Mount("/v1", app=cashu.application()),
        ]

    async def _root(self, _request: Request) -> Response:
        return JSONResponse(
            {
                "service": "radpool-sv2",
                "version": version("radpool-sv2"),
                "endpoints": self._endpoints,
            }
        )

    async def _metrics(self, _request: Request) -> Response:
        # Thousands of channels take a while to print: not on the event loop.
        mint = {} if self._mint is None else await self._mint.figures()
        snapshot = Snapshot.of(self._pool, self._now_unix_ms(), mint)
        text = await trio.to_thread.run_sync(exposition, snapshot)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def _federation(self, _request: Request) -> Response:
        figures = self._pool.federation()
        if figures is None:
            raise HTTPException(404, "this pool is a member of no federation: [federation] dir")
        return HTMLResponse(federation_page(figures), headers=HEADERS)

    async def _health(self, _request: Request) -> Response:
        problems = list(self._pool.problems())
        return JSONResponse(
            {
                "status": "unhealthy" if problems else "ok",
                "timestamp": self._now_unix_ms() // 1000,
                "problems": problems,
            },
            status_code=503 if problems else 200,
        )

    async def _global(self, _request: Request) -> Response:
        sv1 = self._pool.sv1_figures()
        return JSONResponse(
            {
                "server": None,
                "sv2_clients": _clients_summary(self._pool.clients()),
                "sv1_clients": None
                if sv1 is None
                else {
                    "total_clients": sv1.devices,
                    "total_hashrate": sv1.hash_rate,
                },
                "uptime_secs": (self._now_unix_ms() - self._pool.started_unix_ms) // 1000,
                "blocks_found": self._pool.blocks_found(),
            }
        )

    async def _status(self, _request: Request) -> Response:
        mint = None if self._mint is None else dict(await self._mint.figures())
        return JSONResponse({**self._pool.status(), "mint": mint})

    async def _server(self, _request: Request) -> Response:
        return JSONResponse(
            {"extended_channels_count": 0, "standard_channels_count": 0, "total_hashrate": 0.0}
        )

    async def _server_channels(self, request: Request) -> Response:
        page = Page.of(request)
        return JSONResponse(_channels_page(page, ()))

    async def _clients(self, request: Request) -> Response:
        page = Page.of(request)
        clients = self._pool.clients()
        return JSONResponse(
            {
                "offset": page.offset,
                "limit": page.limit,
                "total": len(clients),
                "items": [client_json(client) for client in page.cut(clients)],
            }
        )

    async def _client(self, request: Request) -> Response:
        return JSONResponse(client_json(self._found(request)))

    async def _client_channels(self, request: Request) -> Response:
        client = self._found(request)
        page = Page.of(request)
        return JSONResponse(
            {"client_id": client.client_id, **_channels_page(page, client.channels)}
        )

    async def _epoch(self, request: Request) -> Response:
        number = int(request.path_params["epoch"])
        page = await self._pool.ledger.epoch(min(number, EPOCH_MAX))
        if page is None:
            raise HTTPException(404, f"no epoch {number}: /api/v1/epochs lists them")
        return JSONResponse(dict(page))

    def _found(self, request: Request) -> ClientView:
        client_id = int(request.path_params["client_id"])
        client = self._pool.client(client_id)
        if client is None:
            raise HTTPException(404, f"no client {client_id}: /api/v1/clients lists them")
        return client

    @staticmethod
    def _rows(rows: Rows) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            page = Page.of(request)
            total, items = await rows(page.offset, page.limit)
            return JSONResponse(
                {
                    "offset": page.offset,
                    "limit": page.limit,
                    "total": total,
                    "items": [dict(item) for item in items],
                }
            )

        return endpoint


def _channels_page(page: Page, channels: Sequence[ChannelView]) -> dict[str, Any]:
    extended, standard = _of_kind(channels, "extended"), _of_kind(channels, "standard")
    return {
        "offset": page.offset,
        "limit": page.limit,
        "total_extended": len(extended),
        "total_standard": len(standard),
        "extended_channels": [channel_json(channel) for channel in page.cut(extended)],
        "standard_channels": [channel_json(channel) for channel in page.cut(standard)],
    }


async def _error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code)

"""The HTTP server around the API: hypercorn under trio."""

import math
import time
from collections.abc import Callable
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import ASGIFramework
from starlette.applications import Starlette
from starlette.responses import JSONResponse

from radpool_sv2.web.api import Api
from radpool_sv2.web.mint import MintView
from radpool_sv2.web.view import PoolView

# The head of a request fits in a few hundred bytes; more is somebody trying what happens.
REQUEST_BYTES_MAX = 8 * 1024
CONCURRENT_STREAMS_MAX = 32
KEEP_ALIVE_S = 15


def unix_ms() -> int:
    """Returns the wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


async def serve_http(  # noqa: PLR0913 - settings, each with a name at every call
    pool: PoolView,
    host: str,
    port: int,
    *,
    requests_max: int,
    request_deadline_s: float,
    mint: MintView | None = None,
    now_unix_ms: Callable[[], int] = unix_ms,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves the API until it is cancelled; reports the bound address through `task_status`.

    Args:
        pool: what is shown.
        host: address to bind; 127.0.0.1 unless the operator decides otherwise.
        port: TCP port; 0 takes any free one.
        requests_max: requests answered at the same time; further ones get 503.
        request_deadline_s: how long a request may take to arrive, and its answer to be made.
        mint: what answers under /work/v1 and /v1; there is nothing without it.
        now_unix_ms: wall clock in milliseconds.
        task_status: is started with (host, port) once the socket listens.

    Raises:
        OSError: the address cannot be bound.
    """
    api = Api(pool, now_unix_ms, mint).application()
    await serve_application(
        api,
        host,
        port,
        requests_max=requests_max,
        request_deadline_s=request_deadline_s,
        task_status=task_status,
    )


async def serve_application(  # noqa: PLR0913 - settings, each with a name at every call
    application: Starlette,
    host: str,
    port: int,
    *,
    requests_max: int,
    request_deadline_s: float,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves any application within the same bounds; the arguments are those of `serve_http`.

    Raises:
        OSError: the address cannot be bound.
    """
    config = Config()
    config.bind = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
    config.accesslog = None
    config.errorlog = None
    config.h11_max_incomplete_size = REQUEST_BYTES_MAX
    config.h2_max_concurrent_streams = CONCURRENT_STREAMS_MAX
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.read_timeout = math.ceil(request_deadline_s)
    config.include_server_header = False
    async with trio.open_nursery() as nursery:
        bounded = _bounded(application, requests_max, request_deadline_s)
        bound = await nursery.start(serve, bounded, config)
        address, _, bound_port = str(bound[0]).removeprefix("http://").rpartition(":")
        task_status.started((address.strip("[]"), int(bound_port)))


def _bounded(app: Starlette, requests_max: int, deadline_s: float) -> ASGIFramework:
    """Answers at most so many requests at once, each within a deadline."""
    running = trio.CapacityLimiter(requests_max)

    async def bounded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        try:
            running.acquire_nowait()
        except trio.WouldBlock:
            await _busy(scope, receive, send)
            return
        answered = False

        async def send_on(message: Any) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            with trio.move_on_after(deadline_s) as deadline:
                await app(scope, receive, send_on)
            if deadline.cancelled_caught and not answered:
                with trio.move_on_after(deadline_s):
                    await _late(scope, receive, send)
        finally:
            running.release()

    return bounded


async def _late(scope: Any, receive: Any, send: Any) -> None:
    answer = JSONResponse({"error": "no answer in time: ask again"}, status_code=504)
    await answer(scope, receive, send)


async def _busy(scope: Any, receive: Any, send: Any) -> None:
    answer = JSONResponse({"error": "too many requests at once: try again"}, status_code=503)
    await answer(scope, receive, send)

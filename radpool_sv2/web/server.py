"""The HTTP server around the API: hypercorn under trio."""

import time
from collections.abc import Callable

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from radpool_sv2.web.api import Api
from radpool_sv2.web.view import PoolView

# A GET of this API fits in a few hundred bytes; more is somebody trying what happens.
REQUEST_BYTES_MAX = 8 * 1024
CONCURRENT_STREAMS_MAX = 32
KEEP_ALIVE_S = 15
READ_DEADLINE_S = 15


def unix_ms() -> int:
    """Returns the wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


async def serve_http(
    pool: PoolView,
    host: str,
    port: int,
    *,
    now_unix_ms: Callable[[], int] = unix_ms,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves the API until it is cancelled; reports the bound address through `task_status`.

    Args:
        pool: what is shown.
        host: address to bind; 127.0.0.1 unless the operator decides otherwise.
        port: TCP port; 0 takes any free one.
        now_unix_ms: wall clock in milliseconds.
        task_status: is started with (host, port) once the socket listens.

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
    config.read_timeout = READ_DEADLINE_S
    config.include_server_header = False
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(serve, Api(pool, now_unix_ms).application(), config)
        address, _, bound_port = str(bound[0]).removeprefix("http://").rpartition(":")
        task_status.started((address.strip("[]"), int(bound_port)))

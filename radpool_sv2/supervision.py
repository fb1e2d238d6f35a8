"""Runs the roles of a node: starts them in order, restarts the failing, ends them in order.

Theory of operation. A role is an async function that reports `started` once it serves, runs until
it is told to stop, and leaves its own work in order before it returns. `supervise` starts roles one
after the other, each when the one before it serves. A role that fails

- before it has ever served, ends the node with its error: the operator has to mend something;
- later, is reported with its reason and started again after a back-off, while the others run on.

To stop, roles are told one by one in reverse order, so that whoever takes work from outside ends
before what it depends on. All of them share one deadline; who overstays it is cancelled.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import structlog
import trio

from radpool_sv2.errors import InternalError, RadpoolError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

__all__ = ["Role", "RoleState", "RunRole", "stop_on_signal", "supervise"]

log = structlog.get_logger(__name__)

STOP_SECONDS_MAX = 5.0
"""What all roles together may take to leave. Service managers kill after 10 s or more."""

BACKOFF_SECONDS_MIN = 0.5
"""The first wait before a restart: long enough that a role failing at once cannot fill the log."""

BACKOFF_SECONDS_MAX = 30.0
"""The longest wait: whoever mends the cause should not have to wait longer to see it work."""

SECOND_SIGNAL_SECONDS_MIN = 1.0
"""A second signal sooner than this is the first one's echo: a terminal or a service manager signals
a whole group, and a parent in it passes its own on."""

HEALTHY_SECONDS = 60.0
"""A role that served this long starts again with the shortest wait when it fails."""


class RunRole(Protocol):
    """Is what a role does: serve until `stop` is set, then leave in order and return."""

    def __call__(
        self, stop: trio.Event, *, task_status: trio.TaskStatus[None]
    ) -> Coroutine[Any, Any, None]:
        """Runs the role once; may be called again after it failed."""


@dataclass(slots=True)
class RoleState:
    """Tells how a role fares, for the health page.

    Attributes:
        name: The role.
        serving: Whether it serves now.
        restarts: How often it was started again.
        failure: Why it failed last; empty when it never did.
    """

    name: str
    serving: bool = False
    restarts: int = 0
    failure: str = ""


@dataclass(slots=True)
class Role:
    """Names a role and how to run it."""

    name: str
    run: RunRole
    state: RoleState = field(init=False)

    def __post_init__(self) -> None:
        self.state = RoleState(self.name)


async def supervise(
    roles: Sequence[Role],
    stop: trio.Event,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Runs roles until `stop` is set; reports `started` when all of them serve.

    When `stop` is set before that, the start is given up and `started` is reported all the same.

    Raises:
        RadpoolError: A role failed before it had ever served; the others have left in order.
    """
    async with trio.open_nursery() as nursery:
        running: list[tuple[trio.Event, trio.Event, trio.CancelScope]] = []
        try:
            async with trio.open_nursery() as starting:
                starting.start_soon(_give_up_when_told, stop, starting.cancel_scope)
                for role in roles:
                    told, gone, scope = trio.Event(), trio.Event(), trio.CancelScope()
                    running.append((told, gone, scope))
                    await nursery.start(_keep_running, role, told, gone, scope)
                starting.cancel_scope.cancel()
            task_status.started()
            await stop.wait()
        finally:
            with trio.CancelScope(shield=True):
                await _leave(running)


async def _give_up_when_told(stop: trio.Event, starting: trio.CancelScope) -> None:
    await stop.wait()
    starting.cancel()


async def _leave(running: list[tuple[trio.Event, trio.Event, trio.CancelScope]]) -> None:
    deadline = trio.current_time() + STOP_SECONDS_MAX
    for told, gone, scope in reversed(running):
        told.set()
        with trio.move_on_at(deadline):
            await gone.wait()
        scope.cancel()


async def _keep_running(
    role: Role,
    stop: trio.Event,
    gone: trio.Event,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    wait_seconds = BACKOFF_SECONDS_MIN
    first_start: trio.TaskStatus[None] | None = task_status
    try:
        with scope:
            while not stop.is_set():
                served_seconds = await _run_once(role, stop, first_start)
                if served_seconds is None:
                    return
                first_start = None
                if served_seconds >= HEALTHY_SECONDS:
                    wait_seconds = BACKOFF_SECONDS_MIN
                log.error(
                    "a role failed and is started again",
                    role=role.name,
                    reason=role.state.failure,
                    wait_seconds=wait_seconds,
                )
                with trio.move_on_after(wait_seconds):
                    await stop.wait()
                    return
                role.state.restarts += 1
                wait_seconds = min(2 * wait_seconds, BACKOFF_SECONDS_MAX)
        if scope.cancelled_caught:
            log.error("a role did not leave in time and was cut off", role=role.name)
    finally:
        gone.set()


async def _run_once(
    role: Role, stop: trio.Event, first_start: trio.TaskStatus[None] | None
) -> float | None:
    """Runs a role until it leaves (None) or fails (the seconds that it had served)."""
    served_from: float | None = None
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(role.run, stop)
            served_from = trio.current_time()
            role.state.serving = True
            if first_start is not None:
                first_start.started()
            log.info("role serves", role=role.name)
        _check_told(role, stop)
    # This is the root of the role's nursery: whatever comes out of it ended the role, and nothing
    # but the role.
    except Exception as failure:
        reason = _reason(failure)
        if served_from is None and first_start is not None:
            raise _single(failure) from None
        if stop.is_set():
            log.exception("a role failed while it left", role=role.name, reason=reason)
            return None
        role.state.failure = reason
        log.debug("traceback of a failed role", role=role.name, exc_info=failure)
        return 0.0 if served_from is None else trio.current_time() - served_from
    finally:
        role.state.serving = False
    return None


def _check_told(role: Role, stop: trio.Event) -> None:
    if not stop.is_set():
        raise InternalError(f"role {role.name} ended although nobody had told it to")


def _single(failure: Exception) -> Exception:
    """Takes an error out of the groups that nurseries wrapped around it."""
    while isinstance(failure, ExceptionGroup) and len(failure.exceptions) == 1:
        failure = failure.exceptions[0]
    return failure


def _reason(failure: Exception) -> str:
    failure = _single(failure)
    if isinstance(failure, ExceptionGroup):
        return "; ".join(_reason(part) for part in failure.exceptions)
    if isinstance(failure, RadpoolError):
        return str(failure)
    return f"{type(failure).__name__}: {failure}"


async def stop_on_signal(
    stop: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Sets `stop` at the first SIGTERM or Ctrl-C; when asked again later gives up waiting.

    Raises:
        KeyboardInterrupt: The operator asked twice.
    """
    first_s = 0.0
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if not stop.is_set():
                first_s = trio.current_time()
                log.info("leaving in order", signal=name)
                stop.set()
            elif trio.current_time() - first_s >= SECOND_SIGNAL_SECONDS_MIN:
                log.warning("leaving at once", signal=name)
                raise KeyboardInterrupt

"""Supervision on a virtual clock: order of start and stop, back-off, reasons, the deadline."""

import itertools
import os
import signal

import pytest
import structlog
import trio

from radpool_sv2.errors import ConfigError, StoreError
from radpool_sv2.supervision import (
    BACKOFF_SECONDS_MAX,
    HEALTHY_SECONDS,
    SECOND_SIGNAL_SECONDS_MIN,
    STOP_SECONDS_MAX,
    Role,
    stop_on_signal,
    supervise,
)


@pytest.fixture(autouse=True)
def said():
    """Keeps log lines from being drawn, which takes longer than all the rest."""
    with structlog.testing.capture_logs() as lines:
        yield lines


def steady(name, story):
    async def run(stop, *, task_status):
        story.append(f"{name} serves")
        task_status.started()
        await stop.wait()
        story.append(f"{name} leaves")

    return Role(name, run)


async def test_roles_start_in_order_and_leave_in_reverse(autojump_clock):
    story = []
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervise, [steady("a", story), steady("b", story)], stop)
        assert story == ["a serves", "b serves"]
        stop.set()
    assert story == ["a serves", "b serves", "b leaves", "a leaves"]


async def test_a_role_that_never_served_ends_the_node_and_the_others_leave(autojump_clock):
    story = []

    async def run(stop, *, task_status):
        raise ConfigError("the port is taken")

    async def node():
        await supervise([steady("a", story), Role("b", run)], trio.Event())

    taken = pytest.RaisesExc(ConfigError, match="the port is taken")
    with pytest.RaisesGroup(taken, flatten_subgroups=True):
        await node()
    assert story == ["a serves", "a leaves"]


async def test_a_failing_role_is_restarted_with_back_off_and_says_why(autojump_clock):
    times = []

    async def run(stop, *, task_status):
        times.append(trio.current_time())
        task_status.started()
        raise StoreError("the disk is full")

    role = Role("pool", run)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervise, [role], stop)
        await trio.sleep(100)
        stop.set()
    waits = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert waits[:7] == pytest.approx([0.5, 1, 2, 4, 8, 16, BACKOFF_SECONDS_MAX], abs=0.01)
    assert role.state.failure == "the disk is full"
    assert role.state.restarts == len(times) - 1


async def test_a_role_that_was_healthy_starts_with_the_shortest_wait_again(autojump_clock):
    times = []

    async def run(stop, *, task_status):
        times.append(trio.current_time())
        task_status.started()
        await trio.sleep(HEALTHY_SECONDS)
        raise StoreError("gone")

    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervise, [Role("pool", run)], stop)
        await trio.sleep(5 * HEALTHY_SECONDS)
        stop.set()
    waits = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert waits == pytest.approx([HEALTHY_SECONDS + 0.5] * len(waits), abs=0.01)


async def test_a_role_that_ends_by_itself_is_restarted(autojump_clock):
    async def run(stop, *, task_status):
        task_status.started()

    role = Role("pool", run)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervise, [role], stop)
        await trio.sleep(1)
        stop.set()
    assert "nobody had told it to" in role.state.failure


async def test_the_others_run_on_while_one_fails(autojump_clock):
    story = []

    async def run(stop, *, task_status):
        task_status.started()
        raise StoreError("gone")

    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervise, [steady("a", story), Role("b", run)], stop)
        await trio.sleep(10)
        assert story == ["a serves"]
        stop.set()


async def test_who_overstays_is_cut_off_at_the_deadline(autojump_clock):
    story = []

    async def run(stop, *, task_status):
        task_status.started()
        await trio.sleep_forever()

    stop = trio.Event()
    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervise, [steady("a", story), Role("b", run)], stop)
        stop.set()
    assert trio.current_time() - begin == pytest.approx(STOP_SECONDS_MAX, abs=0.1)
    # The deadline is one for all: whoever comes after the one that overstayed is still told.
    assert story == ["a serves"] or story == ["a serves", "a leaves"]


async def test_stop_during_the_start_gives_it_up(autojump_clock):
    story = []

    async def run(stop, *, task_status):
        await trio.sleep_forever()

    stop = trio.Event()
    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        roles = [steady("a", story), Role("b", run), steady("c", story)]
        nursery.start_soon(supervise, roles, stop)
        await trio.sleep(1)
        stop.set()
    assert trio.current_time() - begin < 1.1
    assert story == ["a serves", "a leaves"]


async def test_failing_while_it_leaves_is_no_restart(autojump_clock):
    async def run(stop, *, task_status):
        task_status.started()
        await stop.wait()
        raise StoreError("too late")

    role = Role("pool", run)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervise, [role], stop)
        stop.set()
    assert role.state.restarts == 0


async def test_stop_during_back_off_does_not_wait_for_it(autojump_clock):
    async def run(stop, *, task_status):
        task_status.started()
        raise StoreError("gone")

    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervise, [Role("pool", run)], stop)
        await trio.sleep(40)
        begin = trio.current_time()
        stop.set()
    assert trio.current_time() - begin < 0.01


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_its_echo_does_nothing_and_a_later_one_gives_up(
    number, autojump_clock
):
    stop = trio.Event()

    async def signals():
        async with trio.open_nursery() as nursery:
            await nursery.start(stop_on_signal, stop)
            os.kill(os.getpid(), number)
            await stop.wait()
            os.kill(os.getpid(), number)
            await trio.sleep(SECOND_SIGNAL_SECONDS_MIN)
            echoed.append(True)
            os.kill(os.getpid(), number)

    echoed = []
    with pytest.RaisesGroup(KeyboardInterrupt):
        await signals()
    assert echoed

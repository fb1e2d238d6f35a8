"""The extension desk: bounded queues, and repeats only behind what is durable."""

from dataclasses import dataclass

import pytest
import trio
import trio.testing

from radpool_sv2.errors import StoreError
from radpool_sv2.pool.desk import (
    FRAMES_PENDING_MAX,
    REPEATS_AT_ONCE,
    REPEATS_PENDING_MAX,
    ExtensionDesk,
)


@dataclass(frozen=True)
class Frame:
    connection: int


class Engine:
    def __init__(self):
        self.disconnected = []

    def disconnect(self, connection):
        self.disconnected.append(connection)


class Extensions:
    def __init__(self):
        self.delivered, self.repeated, self.refused = [], [], []
        self.gate = trio.Event()
        self.gate.set()
        self.failing = False

    async def run(self, task_status):
        task_status.started()
        await trio.sleep_forever()

    async def deliver(self, frame):
        self.delivered.append(frame)

    async def repeat(self, share):
        self.repeated.append(share)
        await self.gate.wait()
        if self.failing:
            raise StoreError("no space left")

    def reject_repeated(self, share, error_code):
        self.refused.append((share, error_code))


@pytest.fixture
def desk():
    return ExtensionDesk(Engine(), Extensions())


async def settle():
    await trio.testing.wait_all_tasks_blocked()


async def test_frames_are_delivered_in_order(desk, nursery):
    await nursery.start(desk.run)
    frames = [Frame(number) for number in range(5)]
    for frame in frames:
        desk.frame(frame)
    await settle()
    assert desk._extensions.delivered == frames
    nursery.cancel_scope.cancel()


async def test_whoever_sends_frames_faster_than_they_are_taken_is_disconnected(desk):
    for number in range(FRAMES_PENDING_MAX + 2):
        desk.frame(Frame(number))
    assert desk._engine.disconnected == [FRAMES_PENDING_MAX, FRAMES_PENDING_MAX + 1]


async def test_repeats_wait_for_what_was_drained_with_them(desk, nursery):
    await nursery.start(desk.run)
    desk.repeated("share")
    await settle()
    assert desk._extensions.repeated == []
    desk.release()
    await settle()
    assert desk._extensions.repeated == ["share"]
    desk.release()
    await settle()
    assert desk._extensions.repeated == ["share"]
    nursery.cancel_scope.cancel()


async def test_several_repeats_run_at_once(desk, nursery):
    extensions = desk._extensions
    extensions.gate = trio.Event()
    await nursery.start(desk.run)
    for number in range(REPEATS_AT_ONCE + 3):
        desk.repeated(number)
    desk.release()
    await settle()
    assert sorted(extensions.repeated) == list(range(REPEATS_AT_ONCE))
    extensions.gate.set()
    await settle()
    assert sorted(extensions.repeated) == list(range(REPEATS_AT_ONCE + 3))
    nursery.cancel_scope.cancel()


async def test_repeats_are_bounded_twice(desk):
    for number in range(REPEATS_PENDING_MAX + 1):
        desk.repeated(number)
    assert desk._extensions.refused == [(REPEATS_PENDING_MAX, "submit-rate-exceeded")]
    desk.release()
    # Nobody takes them, so that the queue is full by now.
    desk.repeated("one more")
    desk.release()
    assert desk._extensions.refused[1:] == [("one more", "submit-rate-exceeded")]


async def test_a_store_that_fails_refuses_the_repeat_and_nothing_else(desk, nursery):
    desk._extensions.failing = True
    await nursery.start(desk.run)
    desk.repeated("share")
    desk.release()
    await settle()
    assert desk._extensions.refused == [("share", "internal-error")]
    desk._extensions.failing = False
    desk.repeated("another")
    desk.release()
    await settle()
    assert desk._extensions.repeated == ["share", "another"]
    nursery.cancel_scope.cancel()

"""The intake against a fake engine: acknowledged after it is durable, never before, never twice."""

import contextlib
import os
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio
import trio.testing

from radpool_sv2.config import MspConfig, loads
from radpool_sv2.errors import InternalError, StoreError
from radpool_sv2.pool.extension import Extension, RejectedShare
from radpool_sv2.pool.intake import RETRY_SECONDS_MIN, Intake
from radpool_sv2.pool.registry import ExtensionRegistry

MINIMAL = """
[keys]
authority_public_key = "key"
[templates]
payout_address = "bcrt1q"
"""
SETTINGS = loads(MspConfig, MINIMAL, Path("/x/msp.toml")).ledger


@dataclass
class Batch:
    shares: int
    types: list = field(default_factory=list)

    def __len__(self):
        return self.shares

    def attachment_types(self):
        return self.types


@dataclass
class Drained:
    batch: Batch | None = None
    events: list = field(default_factory=list)
    completions: list = field(default_factory=list)
    more: bool = False
    stopped: bool = False


class Engine:
    """Is a queue of what `drain` is to return, behind a descriptor as the real one has it."""

    def __init__(self):
        self.queue = deque()
        self.acknowledged = []
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)

    def push(self, drained):
        self.queue.append(drained)
        os.eventfd_write(self.fd, 1)

    def event_fd(self):
        return self.fd

    def drain(self, records_max):
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        if not self.queue:
            return Drained()
        drained = self.queue.popleft()
        return replace(drained, more=drained.more or bool(self.queue))

    def acknowledge(self, batch, rejected=()):
        self.acknowledged.append((batch, list(rejected)))


class Ledger:
    def __init__(self):
        self.committed = []
        self.enclosed = []
        self.failures = 0
        self.refusals = []
        self.gate = trio.Event()
        self.gate.set()

    async def commit(self, batch, enclosures):
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise StoreError("no space left on device")
        self.committed.append(batch)
        self.enclosed.append(enclosures)
        return self.refusals


class Scene:
    def __init__(self, registry=None, settings=SETTINGS):
        self.engine = Engine()
        self.ledger = Ledger()
        self.story = []
        self.intake = Intake(
            self.engine,
            self.ledger,
            registry or ExtensionRegistry({}, []),
            settings,
            self.story.append,
            lambda: self.story.append("emptied"),
        )


@pytest.fixture
async def scene():
    scene = Scene()
    yield scene
    os.close(scene.engine.fd)


async def settle():
    await trio.testing.wait_all_tasks_blocked()


async def test_a_batch_is_acknowledged_after_its_commit(scene, nursery):
    nursery.start_soon(scene.intake.run)
    scene.ledger.gate = trio.Event()
    batch = Batch(3)
    scene.engine.push(Drained(batch))
    await settle()
    assert scene.engine.acknowledged == []
    scene.ledger.gate.set()
    await settle()
    assert scene.engine.acknowledged == [(batch, [])]
    scene.intake.finish()


async def test_events_come_before_the_batch_that_was_drained_with_them(scene, nursery):
    scene.engine.push(Drained(Batch(1), events=["a", "b"]))
    scene.engine.push(Drained(Batch(2), events=["c"]))
    nursery.start_soon(scene.intake.run)
    await settle()
    assert scene.story[:4] == ["a", "b", "c", "emptied"]
    assert [len(batch) for batch in scene.ledger.committed] == [1, 2]
    scene.intake.finish()


async def test_a_disk_that_refuses_holds_the_batch_until_it_writes_again(scene, autojump_clock):
    scene.ledger.failures = 3
    batch = Batch(2)
    scene.engine.push(Drained(batch))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.intake.run)
        await trio.sleep(RETRY_SECONDS_MIN / 2)
        assert "no space left" in scene.intake.problem
        assert scene.engine.acknowledged == []
        await trio.sleep(20)
        assert scene.engine.acknowledged == [(batch, [])]
        assert scene.ledger.committed == [batch]
        assert scene.intake.problem == ""
        scene.intake.finish()


async def test_finish_takes_one_more_drain(scene):
    scene.engine.push(Drained(Batch(1)))
    scene.intake.finish()
    await scene.intake.run()
    assert len(scene.engine.acknowledged) == 1


async def test_finish_wakes_a_waiting_loop(scene, nursery):
    nursery.start_soon(scene.intake.run)
    await settle()
    scene.engine.queue.append(Drained(Batch(4), stopped=True))
    scene.intake.finish()
    await settle()
    assert len(scene.engine.acknowledged) == 1


async def test_an_engine_that_stops_by_itself_is_a_failure(scene):
    scene.engine.push(Drained(stopped=True))
    with pytest.raises(InternalError, match="nobody had told it to"):
        await scene.intake.run()


class Mint(Extension):
    """Encloses a name with each batch, refuses the shares it is told to, and can fail."""

    def __init__(self, story, number=7, refusing=()):
        self.story, self.number, self.refusing = story, number, refusing
        self.failures = {"enclose": 0, "accept": 0}

    @property
    def extension_type(self):
        return self.number

    def fail(self, where):
        if self.failures[where]:
            self.failures[where] -= 1
            raise StoreError("no space left on device")

    async def enclose(self, batch):
        self.fail("enclose")
        self.story.append(f"enclosed by {self.number}")
        return None if self.number == 9 else f"enclosure of {self.number}"

    async def accept(self, batch, enclosure):
        self.fail("accept")
        self.story.append(f"accepted by {self.number} with {enclosure}")
        return [RejectedShare(index, f"no-{self.number}") for index in self.refusing]


def scene_with(*mints):
    story = []
    made = [Mint(story, *arguments) for arguments in mints]
    registry = ExtensionRegistry({str(each.number): lambda _, each=each: each for each in made}, [])
    scene = Scene(registry)
    scene.story = story
    return scene, made


async def test_extensions_enclose_before_the_commit_and_answer_behind_it(nursery):
    scene, _ = scene_with((7, (0, 2)), (9, (2, 3)), (11,))
    scene.ledger.refusals = [(0, "duplicate-share")]
    batch = Batch(4, types=[7, 9])
    plain = Batch(2)
    scene.engine.push(Drained(batch))
    scene.engine.push(Drained(plain))
    nursery.start_soon(scene.intake.run)
    await settle()
    assert scene.story == [
        "enclosed by 7",
        "enclosed by 9",
        "accepted by 7 with enclosure of 7",
        "accepted by 9 with None",
        "emptied",
    ]
    assert scene.ledger.enclosed == [["enclosure of 7"], []]
    # Each share is told once, with the code of whoever refused it first.
    refused = [(0, "duplicate-share"), (2, "no-7"), (3, "no-9")]
    assert scene.engine.acknowledged == [(batch, refused), (plain, [(0, "duplicate-share")])]
    scene.intake.finish()
    await settle()
    os.close(scene.engine.fd)


async def test_a_store_that_fails_is_tried_again_at_the_step_that_failed(autojump_clock):
    scene, [first, second] = scene_with((7,), (9,))
    first.failures["enclose"] = second.failures["accept"] = 2
    scene.ledger.failures = 2
    batch = Batch(1, types=[7, 9])
    scene.engine.push(Drained(batch))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.intake.run)
        await trio.sleep(60)
        assert scene.story == [
            "enclosed by 7",
            "enclosed by 9",
            "accepted by 7 with enclosure of 7",
            "accepted by 9 with None",
            "emptied",
        ]
        assert scene.engine.acknowledged == [(batch, [])]
        assert scene.intake.problem == ""
        scene.intake.finish()
    os.close(scene.engine.fd)


async def test_large_batches_are_paced_and_small_ones_are_not(autojump_clock):
    settings = replace(SETTINGS, pace_shares=2, pace_ms=50)
    scene = Scene(settings=settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.intake.run)
        await settle()
        begin = trio.current_time()
        scene.engine.push(Drained(Batch(1)))
        while not scene.engine.acknowledged:
            await trio.sleep(0)
        assert trio.current_time() - begin < 0.04
        scene.engine.push(Drained(Batch(2)))
        while len(scene.engine.acknowledged) < 2:
            await trio.sleep(0)
        begin = trio.current_time()
        scene.engine.push(Drained(Batch(1)))
        while len(scene.engine.acknowledged) < 3:
            await trio.sleep(0.001)
        assert trio.current_time() - begin > 0.04
        scene.intake.finish()
    os.close(scene.engine.fd)

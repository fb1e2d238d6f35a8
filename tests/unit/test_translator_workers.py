"""Connections of workers: which wallet, which pool, when again, and what is kept of names."""

from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from radpool_sv2_translator import workers as module
from radpool_sv2_translator.pools import Place
from radpool_sv2_translator.wallets import WorkerWallet
from radpool_sv2_translator.workers import LINGER_S, REDIRECTIONS_MAX, Workers

from radpool_sv2.config import Endpoint
from radpool_sv2.errors import ConfigError, LocalProtocolError, RemoteProtocolError, StoreError


class Engine:
    """Stands for the native translator: keeps what it is told."""

    def __init__(self):
        self.connected = []
        self.assigned = {}
        self.left = []
        self.shown = []

    def connect(self, *, host, port, desk, carrier, aggregated, probe_required, **_):
        assert aggregated
        assert probe_required
        self.connected.append((host, port, carrier))
        return len(self.connected) + 100

    def assign(self, devices, upstream):
        if upstream in self.left:
            raise LocalProtocolError("it has ended")
        self.assigned |= dict.fromkeys(devices, upstream)

    def disconnect(self, upstream):
        self.left.append(upstream)

    def show(self, devices, text):
        self.shown += [(device, text) for device in devices]


class Side:
    """Stands for the extension's side of one wallet."""

    def __init__(self, directory):
        self.carrier = directory.name
        self.fails = trio.Event()
        self.error = None

    async def run(self, _desk):
        await self.fails.wait()
        raise self.error

    def fail(self, error):
        self.error = error
        self.fails.set()


class Wallets:
    """Stands for the directory of wallets."""

    def __init__(self, count_max):
        self.made = {}
        self.count_max = count_max
        self.broken = set()

    def find(self, user):
        if user in self.broken:
            raise ConfigError("others can look into it")
        if user not in self.made and len(self.made) == self.count_max:
            return None
        number = len(self.made) + 1
        return self.made.setdefault(user, WorkerWallet(number, user, "d", Path(f"/w/{user}")))


class Ended:
    """Stands for a native event, which only the native part can make."""

    def __init__(self, upstream, reason="it broke", elsewhere=None):
        self.upstream, self.reason, self.elsewhere = upstream, reason, elsewhere


class Rig:
    def __init__(self, stack, wallets):
        self.engine, self.wallets = Engine(), wallets
        self.notes, self.distrusted, self.sides = [], [], {}
        self.workers = Workers(
            self.engine,
            wallets,
            self._open,
            stack,
            pauses_s=(2.0, 60.0),
            user="us",
            note=self.notes.append,
            distrust=lambda place, error: self.distrusted.append((place.name, str(error))),
        )
        self.places = [
            Place(Endpoint("a", 1), None, upstream=1, side="common"),
            Place(Endpoint("b", 2), None, upstream=2, side="common"),
            Place(Endpoint("plain", 3), None, upstream=3),
        ]

    @asynccontextmanager
    async def _open(self, directory):
        side = self.sides[directory.name] = Side(directory)
        yield side

    async def join(self, device, user):
        self.workers.joined(device, user)
        await self.settle()

    async def follow(self, place):
        self.workers.follow(place)
        await self.settle()

    async def settle(self):
        # Wallets are found on a thread.
        with trio.fail_after(60):
            for _ in range(3):
                while module_threads(self.workers):
                    await trio.sleep(0)
                await trio.testing.wait_all_tasks_blocked(0.01)


def module_threads(workers):
    return workers._opening.borrowed_tokens


@pytest.fixture
async def rig(nursery, monkeypatch):
    monkeypatch.setattr(module, "Desk", object)
    async with AsyncExitStack() as stack:
        rig = Rig(stack, Wallets(2))
        await nursery.start(rig.workers.run)
        yield rig
        nursery.cancel_scope.cancel()


async def test_devices_of_a_name_share_its_wallets_connection(rig):
    await rig.follow(rig.places[0])
    await rig.join(1, "a")
    await rig.join(2, "a")
    await rig.join(3, "b")
    assert rig.engine.connected == [("a", 1, "a"), ("a", 1, "b")]
    assert rig.engine.assigned == {}, "nothing works yet"
    assert rig.workers.ready(101)
    assert rig.engine.assigned == {1: 101, 2: 101}
    await rig.join(4, "a")
    assert rig.engine.assigned[4] == 101
    assert not rig.workers.ready(1), "that is the common one"


async def test_who_comes_when_all_wallets_are_taken_mines_for_the_common_one(rig):
    await rig.follow(rig.places[0])
    for device, user in enumerate(("a", "b", "c", "d")):
        await rig.join(device, user)
    assert rig.engine.assigned == {2: 1, 3: 1}
    assert len([text for text in rig.notes if "all wallets are taken" in text]) == 1
    await rig.follow(rig.places[1])
    assert (rig.engine.assigned[2], rig.engine.assigned[3]) == (2, 2)


async def test_nothing_is_kept_of_names_that_came_and_went(rig):
    await rig.follow(rig.places[0])
    await rig.join(0, "a")
    await rig.join(1, "b")
    for device in range(2, 1_002):
        rig.workers.joined(device, f"w{device}")
        # Some stay until their wallet was looked for, the others are gone before.
        if device % 10 == 0:
            await rig.settle()
        rig.workers.left(device)
    await rig.settle()
    rig.workers.left(0)
    assert [each.user for each in rig.workers] == ["a", "b"], "who has a wallet keeps it open"
    assert len(rig.engine.connected) == 2


async def test_connection_that_ends_is_made_again_after_a_pause(autojump_clock, rig):
    await rig.follow(rig.places[0])
    await rig.join(1, "a")
    await rig.join(2, "b")
    for pause_s in (2, 4, 8):
        upstream = max(rig.workers._links)
        count = len(rig.engine.connected)
        assert rig.workers.ended(Ended(upstream, "refused: full"))
        await trio.sleep(pause_s - 0.5)
        assert len(rig.engine.connected) == count
        await trio.sleep(1)
        assert len(rig.engine.connected) == count + 1
    assert rig.engine.shown == [(2, "The pool refuses: refused: full")], "told once, to its own"
    assert not rig.workers.ended(Ended(101 + 99))


async def test_redirections_are_followed_but_not_for_ever(autojump_clock, rig):
    await rig.follow(rig.places[0])
    await rig.join(1, "a")
    for _ in range(REDIRECTIONS_MAX + 1):
        rig.workers.ended(Ended(max(rig.workers._links), elsewhere=("c", 9)))
        await trio.sleep(100)
    hosts = [host for host, _, _ in rig.engine.connected]
    assert hosts == ["a"] + ["c"] * REDIRECTIONS_MAX + ["a"]


async def test_another_pool_is_changed_over_to_without_a_hole(autojump_clock, rig):
    await rig.follow(rig.places[0])
    await rig.join(1, "a")
    rig.workers.ready(101)
    await rig.follow(rig.places[1])
    assert rig.engine.connected[1][:2] == ("b", 2)
    assert (rig.engine.assigned, rig.engine.left) == ({1: 101}, [])
    rig.workers.ready(102)
    assert rig.engine.assigned == {1: 102}
    await trio.sleep(LINGER_S + 1)
    assert rig.engine.left == [101]


async def test_pool_that_is_back_before_it_was_left_is_used_as_it_is(rig):
    await rig.follow(rig.places[0])
    await rig.join(1, "a")
    rig.workers.ready(101)
    await rig.follow(rig.places[1])
    await rig.follow(rig.places[0])
    assert len(rig.engine.connected) == 2
    assert rig.engine.assigned == {1: 101}
    assert not rig.workers.ready(102), "it is being left"


async def test_pool_without_ecash_has_one_connection_for_all(rig):
    await rig.follow(rig.places[2])
    await rig.join(1, "a")
    await rig.join(2, "b")
    assert rig.engine.assigned == {1: 3, 2: 3}
    assert rig.engine.connected == []


async def test_wallet_that_cannot_be_used_is_nobody_elses_matter(rig):
    await rig.follow(rig.places[0])
    rig.wallets.broken.add("a")
    await rig.join(1, "a")
    await rig.join(2, "b")
    assert rig.engine.connected == [("a", 1, "b")]
    assert rig.engine.shown[0][0] == 1
    assert "others can look into it" in rig.engine.shown[0][1]
    await rig.join(3, "a")
    assert rig.engine.shown[1][0] == 3
    rig.workers.left(1)
    rig.workers.left(3)
    rig.wallets.broken.clear()
    await rig.join(4, "a")
    assert rig.engine.connected[1] == ("a", 1, "a"), "it is looked at again"


async def test_disk_that_fails_stops_one_worker_and_a_pool_that_cheats_stops_all(rig):
    await rig.follow(rig.places[0])
    await rig.join(1, "a")
    await rig.join(2, "b")
    rig.sides["a"].fail(StoreError("the disk is full"))
    await rig.settle()
    assert (rig.engine.left, rig.distrusted) == ([101], [])
    assert "the disk is full" in next(iter(rig.workers)).refused
    rig.workers.left(1)
    await rig.join(3, "a")
    assert len(rig.engine.connected) == 2, "its wallet is open, and stays refused"
    rig.sides["b"].fail(RemoteProtocolError("a wrong signature"))
    await rig.settle()
    assert rig.distrusted == [("a:1", "a wrong signature")]


async def test_wallet_that_cannot_be_opened_is_looked_at_again_when_its_device_comes_back(rig):
    await rig.follow(rig.places[0])
    opened, rig.workers._open_side = rig.workers._open_side, fails
    await rig.join(1, "a")
    assert "damaged" in rig.engine.shown[0][1]
    rig.workers.left(1)
    assert list(rig.workers) == []
    rig.workers._open_side = opened
    await rig.join(2, "a")
    assert rig.engine.connected == [("a", 1, "a")]


@asynccontextmanager
async def fails(_directory):
    raise StoreError("it is damaged")
    yield

"""Gives each worker a wallet of its own, and that wallet a connection to the pool in use.

Theory of operation. Devices are told apart by the first user name that they give. The first device
of a name has its wallet opened, or made; then the side of the extension is opened over that wallet
and a desk of its own, and the native translator connects to the pool in use for it. Devices are
assigned to that connection when it works; until then they wait, and who waits too long is closed by
the native part, so that its firmware looks elsewhere.

    name seen --wallet--> waiting --pool in use--> connecting --job--> mining
      |                                 ^ pause, doubled each time <-- ended |
      '-- all wallets taken --> the common wallet's connection
      '-- its wallet is damaged --> refused, and nobody else

A connection to the pool that was left stays for a while, so that its devices change over without a
hole. Where the pool in use earns no ecash all devices share its one connection.

A pool that breaks what the extension promises to one wallet loses all trust; a wallet that fails
(its disk, say) is no other worker's matter.

Bounds: as many wallets as `WorkerWallets` makes; nothing is kept of other names than those of
devices that are connected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2._native.translator import Desk
from radpool_sv2.errors import LocalProtocolError, RadpoolError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager, AsyncExitStack
    from pathlib import Path

    from radpool_sv2._native.translator import Translator, UpstreamEnded
    from radpool_sv2.miner.side import MinerSide
    from radpool_sv2_translator.pools import Place
    from radpool_sv2_translator.wallets import WorkerWallet, WorkerWallets

__all__ = ["Worker", "Workers"]

log = structlog.get_logger(__name__)

LINGER_S: Final = 10.0
"""How long a connection that is left stays: devices have work of the next one in less."""

REDIRECTIONS_MAX: Final = 5
"""Redirections in a row that are followed without a job in between."""

OPENED_AT_ONCE: Final = 4
"""Wallets that are opened at once: each costs a thread and some milliseconds."""


@dataclass(slots=True)
class _Link:
    """Is a connection to a pool for one worker."""

    place: Place
    upstream: int
    works: bool = False


@dataclass(slots=True)
class _Service:
    """Is what serves a worker's wallet at one pool."""

    place: Place
    side: MinerSide
    desk: Desk


@dataclass(slots=True)
class Worker:
    """Is a user name and what belongs to it.

    Attributes:
        user: The name, as devices give it.
        devices: The devices that gave it.
        wallet: Its wallet; None before it is opened, and for who mines for the common one.
        is_common: Whether it mines for the common wallet, because all others were taken.
        searches: Whether its wallet is still looked for.
        refused: Why it is not mined for, if it is not.
        failure: Why its last connection ended.
        links: Its connections, the newest last.
        services: What serves its wallet, by the name of the pool.
    """

    user: str
    devices: set[int] = field(default_factory=set)
    wallet: WorkerWallet | None = None
    is_common: bool = False
    searches: bool = True
    refused: str = ""
    failure: str = ""
    links: list[_Link] = field(default_factory=list)
    services: dict[str, _Service] = field(default_factory=dict)
    due_s: float = 0.0
    failures: int = 0
    elsewhere: tuple[str, int] | None = None
    redirections: int = 0
    stirred: trio.Event = field(default_factory=trio.Event)

    @property
    def works(self) -> bool:
        """Whether its newest connection has a job."""
        return bool(self.links) and self.links[-1].works


class Workers:
    """Drives the connections of workers; `run` serves until it is cancelled.

    Args:
        engine: The native translator.
        wallets: Finds and makes their wallets.
        open_side: Opens the extension's side over the wallet of a directory.
        stack: Keeps the sides open until the translator has ended.
        pauses_s: The first pause after a connection failed, and the longest.
        user: As whom connections are made.
        note: Takes what people want to know.
        distrust: Takes a pool that broke what its extension promises, and how.
    """

    def __init__(  # noqa: PLR0913 - what it works with, each with a name at the call
        self,
        engine: Translator,
        wallets: WorkerWallets,
        open_side: Callable[[Path], AbstractAsyncContextManager[MinerSide]],
        stack: AsyncExitStack,
        *,
        pauses_s: tuple[float, float],
        user: str,
        note: Callable[[str], None],
        distrust: Callable[[Place, RadpoolError], None],
    ) -> None:
        self._engine = engine
        self._wallets = wallets
        self._open_side = open_side
        self._stack = stack
        self._pause_s, self._pause_s_max = pauses_s
        self._user = user
        self._note = note
        self._distrust = distrust
        self._opening = trio.CapacityLimiter(OPENED_AT_ONCE)
        self._workers: dict[str, Worker] = {}
        self._names: dict[int, str] = {}
        self._links: dict[int, tuple[Worker, _Link]] = {}
        self._place: Place | None = None
        self._has_overflowed = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves workers until it is cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    # What happens

    def joined(self, device: int, user: str) -> None:
        """Takes in a device that is subscribed and authorized."""
        self._names[device] = user
        worker = self._workers.get(user)
        if worker is None:
            worker = self._workers[user] = Worker(user)
            self._nursery.start_soon(self._serve, worker)
        worker.devices.add(device)
        if worker.refused:
            self._engine.show([device], worker.refused)
        worker.stirred.set()
        self._assign(worker, [device])

    def left(self, device: int) -> None:
        """Takes in that a device is gone."""
        worker = self._workers.get(self._names.pop(device, ""))
        if worker is None:
            return
        worker.devices.discard(device)
        self._forget(worker)

    def follow(self, place: Place | None) -> None:
        """Takes in which pool is in use."""
        self._place = place
        for worker in self._workers.values():
            worker.due_s, worker.elsewhere = 0.0, None
            worker.stirred.set()

    def ready(self, upstream: int) -> bool:
        """Takes in that a connection works; says whether it is a worker's."""
        if upstream not in self._links:
            return False
        worker, link = self._links[upstream]
        link.works = True
        worker.failures = worker.redirections = 0
        if worker.failure:
            self._note(f"{worker.user} mines for its wallet again")
        worker.failure = ""
        self._assign(worker, list(worker.devices))
        worker.stirred.set()
        return True

    def ended(self, event: UpstreamEnded) -> bool:
        """Takes in that a connection is over; says whether it was a worker's."""
        if event.upstream not in self._links:
            return False
        worker, link = self._links.pop(event.upstream)
        is_newest = worker.links[-1] is link
        worker.links.remove(link)
        if not is_newest or link.place is not self._place:
            worker.stirred.set()
            return True
        now_s = trio.current_time()
        if event.elsewhere is not None and worker.redirections < REDIRECTIONS_MAX:
            worker.elsewhere, worker.due_s = event.elsewhere, now_s
            worker.redirections += 1
        else:
            worker.elsewhere = None
            pause_s = min(self._pause_s * 2.0**worker.failures, self._pause_s_max)
            worker.failures = min(worker.failures + 1, 32)
            worker.due_s = now_s + pause_s
        if event.reason != worker.failure:
            log.warning("a worker lost the pool", worker=worker.user, reason=event.reason)
            self._note(f"{worker.user} is not mined for: {event.reason}")
            self._engine.show(list(worker.devices), f"The pool refuses: {event.reason}")
        worker.failure = event.reason
        worker.stirred.set()
        return True

    # What there is to show

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def services(self) -> Iterator[tuple[Place, str, MinerSide, Desk]]:
        """Returns what serves wallets: the pool, the worker's name, the side and its desk."""
        for worker in self._workers.values():
            for service in worker.services.values():
                yield service.place, worker.user, service.side, service.desk

    # One worker

    def _forget(self, worker: Worker) -> None:
        """Keeps nothing of a name without devices, unless its wallet is open.

        When it comes again there may be a wallet for it, or the disk is well.
        """
        is_known = self._workers.get(worker.user) is worker
        is_idle = not (worker.devices or worker.services or worker.searches)
        if is_known and is_idle and (worker.wallet is None or worker.refused):
            del self._workers[worker.user]
            worker.stirred.set()

    async def _serve(self, worker: Worker) -> None:
        async with self._opening:
            if worker.devices:
                await self._find_wallet(worker)
        worker.searches = False
        self._forget(worker)
        if worker.refused:
            return
        while self._workers.get(worker.user) is worker:
            worker.stirred = trio.Event()
            try:
                due_s = await self._step(worker)
            except (RadpoolError, OSError) as error:
                self._refuse(worker, error)
                return
            with trio.move_on_at(due_s):
                await worker.stirred.wait()

    async def _find_wallet(self, worker: Worker) -> None:
        """Finds its wallet, or makes it."""
        try:
            worker.wallet = await trio.to_thread.run_sync(self._wallets.find, worker.user)
        except (RadpoolError, OSError) as error:
            self._refuse(worker, error)
            return
        if worker.wallet is None:
            worker.is_common = True
            if not self._has_overflowed:
                self._has_overflowed = True
                log.warning(
                    "all wallets of workers are taken: others mine for the common one from here "
                    "on. Raise wallet.workers_max, or remove empty ones",
                    worker=worker.user,
                )
                self._note(f"all wallets are taken: {worker.user} mines for the common one")

    async def _step(self, worker: Worker) -> float:
        """Does what is to be done for a worker now; returns when to look again."""
        place = self._place
        if place is None or worker.refused:
            return float("inf")
        if worker.is_common or place.side is None:
            self._assign(worker, list(worker.devices))
            self._leave_old(worker, keep=None)
            return float("inf")
        link = next((each for each in worker.links if each.place is place), None)
        if link is not None:
            # It may be one that was about to be left.
            worker.links.remove(link)
            worker.links.append(link)
            if link.works:
                self._assign(worker, list(worker.devices))
                self._leave_old(worker, keep=link)
            return float("inf")
        if trio.current_time() < worker.due_s:
            return worker.due_s
        if worker.wallet is None:
            # It had left before its wallet was looked for, and has come again.
            await self._find_wallet(worker)
            return trio.current_time()
        service = await self._service(worker, place)
        if self._place is place and not place.broken:
            self._connect(worker, place, service)
        return float("inf")

    async def _service(self, worker: Worker, place: Place) -> _Service:
        service = worker.services.get(place.name)
        if service is None:
            assert worker.wallet is not None, "the others mine for the common wallet"
            opening = self._open_side(worker.wallet.directory)
            service = _Service(place, await self._stack.enter_async_context(opening), Desk())
            worker.services[place.name] = service
            self._nursery.start_soon(self._run_side, worker, place, service)
        return service

    def _connect(self, worker: Worker, place: Place, service: _Service) -> None:
        host, port = worker.elsewhere or place.elsewhere
        try:
            upstream = self._engine.connect(
                host=host or place.address.host,
                port=port or place.address.port,
                authority=place.authority,
                user=self._user,
                probe_required=True,
                aggregated=True,
                carrier=service.side.carrier,
                desk=service.desk,
            )
        except LocalProtocolError:
            return  # it stops
        link = _Link(place, upstream)
        worker.links.append(link)
        self._links[upstream] = worker, link

    def _assign(self, worker: Worker, devices: list[int]) -> None:
        """Has devices mine over their connection, if there is one that works."""
        place = self._place
        upstream: int | None = None
        if place is not None and (worker.is_common or place.side is None):
            upstream = place.upstream
        elif worker.works:
            upstream = worker.links[-1].upstream
        if upstream is None or not devices:
            return
        try:
            self._engine.assign(devices, upstream)
        except LocalProtocolError:
            return  # its end is under way

    def _leave_old(self, worker: Worker, keep: _Link | None) -> None:
        for link in [each for each in worker.links if each is not keep]:
            worker.links.remove(link)
            self._links.pop(link.upstream, None)
            self._nursery.start_soon(self._leave, link.upstream)

    async def _leave(self, upstream: int) -> None:
        await trio.sleep(LINGER_S)
        try:
            self._engine.disconnect(upstream)
        except LocalProtocolError:
            return  # it has ended by itself

    async def _run_side(self, worker: Worker, place: Place, service: _Service) -> None:
        try:
            await service.side.run(service.desk)
        except RemoteProtocolError as error:
            self._note(f"{worker.user}: {error}")
            self._distrust(place, error)
        except RadpoolError as error:
            self._refuse(worker, error)

    def _refuse(self, worker: Worker, error: Exception) -> None:
        """Mines no more for a worker whose wallet fails: another's would get what it earns."""
        worker.refused = f"The wallet of this worker cannot be used: {error}"
        log.error("the wallet of a worker cannot be used", worker=worker.user, reason=str(error))
        self._note(f"{worker.user} is not mined for: {error}")
        self._engine.show(list(worker.devices), worker.refused)
        for link in worker.links:
            self._links.pop(link.upstream, None)
            try:
                self._engine.disconnect(link.upstream)
            except LocalProtocolError:
                continue  # it has ended by itself
        worker.links.clear()

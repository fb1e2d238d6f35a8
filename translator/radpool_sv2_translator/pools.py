"""Keeps devices on the first pool of the list that works.

The native translator connects and carries; `radpool_sv2.jdc.ladder` decides. Where shares earn
ecash, the side of the extension serves the pool's desk through all its connections; a pool that
breaks what the extension promises is not tried again. A pool works once it
has given a job on a channel of the translator's own name. A better one that works again is returned
to: devices change over when they have its work, so the one that is left stays connected for a
while.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.errors import LocalProtocolError, RadpoolError
from radpool_sv2.jdc.ladder import Drop, Failed, Ladder, Try, Use, Worked

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2._native.keys import AuthorityPublicKey
    from radpool_sv2._native.translator import Desk, Translator, UpstreamEnded, UpstreamReady
    from radpool_sv2.config import Endpoint
    from radpool_sv2.miner.side import MinerSide

__all__ = ["Place", "Pools"]

log = structlog.get_logger(__name__)

LINGER_S: Final = 10.0
"""How long a pool that is left for a better one stays connected: a channel is open in less."""

REDIRECTIONS_MAX: Final = 5
"""Redirections in a row that are followed without a job in between."""

ANONYMOUS: Final = "anonymous"
"""The name of the first channel where devices bring their own."""


@dataclass(slots=True)
class Place:
    """Is a pool of the list.

    Attributes:
        address: Where it is, as the configuration says.
        authority: Who must have certified it; None trusts whoever answers.
        upstream: The number of its connection while there is one.
        works: Whether it has given a job on that.
        failure: Why it was given up last.
        elsewhere: Where it asked to be called instead.
        redirections: How often it has, since it last worked.
        user: Whom it is to pay, where it is not whom all pools are.
        side: Who knows the extension that carries the shares, if one does.
        desk: Over which the side is served.
        broken: Whether the side has found the pool out.
    """

    address: Endpoint
    authority: AuthorityPublicKey | None
    upstream: int | None = None
    works: bool = False
    failure: str = ""
    elsewhere: tuple[str, int] = ("", 0)
    redirections: int = 0
    user: str = ""
    side: MinerSide | None = None
    desk: Desk | None = None
    broken: bool = False

    @property
    def name(self) -> str:
        """What people know it by."""
        return str(self.address)


class Pools:
    """Drives the ladder; `run` keeps its time.

    Args:
        engine: The native translator.
        places: The pools, best first.
        pauses_s: The first pause after a failure, and the longest.
        user: Whom pools are to pay; empty for whom the devices name.
        aggregated: Whether all devices share one channel.
        note: Takes what people want to know.
        follow: Takes the pool in use each time that another one is, or none.
    """

    def __init__(  # noqa: PLR0913 - settings, each with a name at the call
        self,
        engine: Translator,
        places: list[Place],
        pauses_s: tuple[float, float],
        user: str,
        note: Callable[[str], None],
        *,
        aggregated: bool,
        follow: Callable[[Place | None], None] | None = None,
    ) -> None:
        self._engine = engine
        self.places = places
        self._user = user
        self._aggregated = aggregated
        self._note = note
        self._follow = follow or _ignore
        self._ladder = Ladder(len(places), *pauses_s)
        self._stirred = trio.Event()
        self._has_worked = False

    @property
    def in_use(self) -> Place | None:
        """The pool that is mined for."""
        rung = self._ladder.in_use
        return None if rung is None else self.places[rung]

    async def run(self) -> None:
        """Tries and drops pools until it is cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for rung, place in enumerate(self.places):
                if place.side is not None and place.desk is not None:
                    nursery.start_soon(self._run_side, rung, place.side, place.desk)
            self._ladder.start(trio.current_time())
            self._climb()
            while True:
                self._stirred = trio.Event()
                due_s = self._ladder.next_deadline()
                with trio.move_on_at(float("inf") if due_s is None else due_s):
                    await self._stirred.wait()
                self._ladder.handle_deadline(trio.current_time())
                self._climb()

    def ready(self, event: UpstreamReady) -> None:
        """Takes in that a pool works."""
        rung = self._rung_of(event.upstream)
        if rung is None:
            return  # it was dropped before
        place = self.places[rung]
        place.works, place.redirections = True, 0
        self._ladder.handle(Worked(rung), trio.current_time())
        self._climb()

    def ended(self, event: UpstreamEnded) -> None:
        """Takes in that a connection is over."""
        rung = self._rung_of(event.upstream)
        if rung is None:
            return
        place = self.places[rung]
        place.upstream, place.works = None, False
        at_once = event.elsewhere is not None and place.redirections < REDIRECTIONS_MAX
        if at_once and event.elsewhere is not None:
            place.elsewhere = event.elsewhere
            place.redirections += 1
        else:
            place.elsewhere = ("", 0)
        if event.reason != place.failure:
            log.warning("a pool is given up", pool=place.name, reason=event.reason)
            self._note(f"{place.name} is given up: {event.reason}")
        place.failure = event.reason
        self._ladder.handle(Failed(rung, at_once=at_once), trio.current_time())
        self._climb()

    def _rung_of(self, upstream: int) -> int | None:
        found = (rung for rung, each in enumerate(self.places) if each.upstream == upstream)
        return next(found, None)

    def _climb(self) -> None:
        while (effect := self._ladder.poll()) is not None:
            match effect:
                case Try(rung):
                    self._try(self.places[rung])
                case Drop(rung):
                    self._drop(self.places[rung])
                case Use(None):
                    self._follow(None)
                    if self._has_worked:
                        self._note("no pool works: devices are disconnected soon")
                case Use(int(rung)):
                    self._use(self.places[rung])
        self._stirred.set()

    def _try(self, place: Place) -> None:
        host, port = place.elsewhere
        place.upstream = self._engine.connect(
            host=host or place.address.host,
            port=port or place.address.port,
            authority=place.authority,
            user=self._user_at(place) or ANONYMOUS,
            # Without a channel of its own name nothing can be shared, or carried.
            probe_required=bool(self._user_at(place)) or self._aggregated or place.side is not None,
            aggregated=self._aggregated or place.side is not None,
            pays=place.user or None,
            carrier=None if place.side is None else place.side.carrier,
            desk=place.desk,
        )

    def _user_at(self, place: Place) -> str:
        return place.user or self._user

    def _use(self, place: Place) -> None:
        place.failure, self._has_worked = "", True
        if place.upstream is None:
            return  # its end is under way
        try:
            self._engine.use_upstream(place.upstream)
        except LocalProtocolError:
            return  # the same
        self._follow(place)
        self._note(f"mining for {place.name}")
        log.info("mining for a pool", pool=place.name)

    def _drop(self, place: Place) -> None:
        upstream, place.upstream = place.upstream, None
        place.works = False
        if upstream is not None:
            self._nursery.start_soon(self._leave, upstream)

    async def _leave(self, upstream: int) -> None:
        await trio.sleep(LINGER_S)
        try:
            self._engine.disconnect(upstream)
        except LocalProtocolError:
            return  # it has ended by itself

    async def _run_side(self, rung: int, side: MinerSide, desk: Desk) -> None:
        """Lets the extension's side serve; what it finds wrong ends all trust in the pool."""
        try:
            await side.run(desk)
        except RadpoolError as error:
            self.distrust(self.places[rung], error)

    def distrust(self, place: Place, error: RadpoolError) -> None:
        """Mines no more for a pool that broke what its extension promises."""
        if place.broken:
            return
        log.error("a pool broke what its extension promises", pool=place.name, reason=str(error))
        place.failure, place.broken = str(error), True
        self._note(f"{place.name} is not mined for any more: {error}")
        rung = self.places.index(place)
        self._ladder.handle(Failed(rung, for_good=True), trio.current_time())
        self._climb()


def _ignore(_place: Place | None) -> None:
    """Is who follows nothing."""

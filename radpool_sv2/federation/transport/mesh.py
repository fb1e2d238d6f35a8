"""Keeps one link to each other member: dials, accepts, and decides which of two stays.

Theory of operation. Each member that has addresses is dialled while there is no link to it, with
pauses that grow and that chance spreads; each may dial us. So one reachable end of two is enough.
Where both dial at once there are two links for a moment:

- of two links that the same member dialled, the later stays: who dials again has lost the other;
- of two that different members dialled, that of the smaller identity key stays, since both ends
  know which one that is; unless it has been up for long, because then its dialled end has lost it.

Peers are independent of each other: each link has its own tasks, and whatever comes of them ends
that link and nothing else. Strangers can hold at most `handshakes_max` connections; the oldest of
more gives way, so silence keeps no member out.

Source: `spec/12-federation-transport.md`; design notes in `spec/13-broadcast.md`, "Committee".
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from radpool_sv2.config import Endpoint
from radpool_sv2.errors import ConfigError, LocalProtocolError, RemoteProtocolError
from radpool_sv2.federation.transport.link import KEEP_ALIVE, Link, LinkLimits, accept, dial

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from radpool_sv2._native.threshold import TransportKey
    from radpool_sv2.federation.committee import Committee
    from radpool_sv2.federation.identity import MemberRecord, Verifier
    from radpool_sv2.federation.transport.link import Opened

__all__ = ["Inbox", "Mesh", "MeshLimits", "open_address"]

log = structlog.get_logger(__name__)

HEALTHY_SECONDS: Final = 10.0
"""A link that was up this long is dialled again with the shortest pause when it ends."""

SIMULTANEOUS_SECONDS: Final = 30.0
"""How long after a link another one of the same two members may still have begun before it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeshLimits:
    """Bounds the mesh.

    Attributes:
        dial_seconds_min: The first pause before a member is dialled again, on average.
        dial_seconds_max: The longest: a member that is back should not be waited for longer.
        handshakes_max: Connections of nobody knows whom.
    """

    dial_seconds_min: float = 0.5
    dial_seconds_max: float = 30.0
    handshakes_max: int = 64


class Inbox(Protocol):
    """Is told what happens on links."""

    def opened(self, link: Link) -> None:
        """Is told that a link is up; an earlier one to the member was told to be down before."""

    def closed(self, link: Link) -> None:
        """Is told that a link is down."""

    async def received(self, link: Link, messages: list[bytes]) -> None:
        """Deals with messages; no others of the link are read meanwhile."""


@dataclass(slots=True)
class _Peer:
    member: int
    record: MemberRecord
    link: Link | None = None
    freed: trio.Event = field(default_factory=trio.Event)
    dialling: trio.CancelScope | None = None
    links: int = 0
    failure: str = ""


async def open_address(address: str) -> trio.abc.Stream:
    """Connects to HOST:PORT over TCP.

    Raises:
        ConfigError: It is no address.
        OSError: It cannot be reached.
    """
    try:
        endpoint = Endpoint.parse(address)
    except ValueError as error:
        raise ConfigError(f"is no address of a member: {error}", value=address) from error
    return await trio.open_tcp_stream(endpoint.host, endpoint.port)


class Mesh:
    """Is the links of a member.

    Args:
        committee: The committee.
        me: The own number.
        key: The own transport key.
        records: The records of all members, in the committee's order.
        verifier: Checks the records.
        inbox: Who is told.
        link_limits: Bounds of each link.
        limits: Bounds of the mesh.
        connect: Connects to an address.
        random: Draws the pauses.

    Raises:
        LocalProtocolError: The records are not those of the committee, or the key is another.
        RemoteProtocolError: A record is not signed by its member.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - all that a mesh depends on
        self,
        committee: Committee,
        me: int,
        key: TransportKey,
        records: Sequence[MemberRecord],
        verifier: Verifier,
        inbox: Inbox,
        *,
        link_limits: LinkLimits | None = None,
        limits: MeshLimits | None = None,
        connect: Callable[[str], Awaitable[trio.abc.Stream]] = open_address,
        random: Random | None = None,
    ) -> None:
        if tuple(record.identity for record in records) != committee.members:
            raise LocalProtocolError("there must be one record of each member, in their order")
        for record in records:
            record.verify(verifier)
        if records[me].transport != key.public:
            raise LocalProtocolError(
                f"the transport key is not that of the own record, {records[me].transport.hex()}"
            )
        if len({record.transport for record in records}) != len(records):
            raise LocalProtocolError("two members have the same transport key")
        self._committee = committee
        self._me = me
        self._key = key
        self._inbox = inbox
        self._link_limits = link_limits or LinkLimits()
        self._limits = limits or MeshLimits()
        self._connect = connect
        self._random = random or Random()  # noqa: S311 - it spreads load and hides nothing
        self._peers = {
            number: _Peer(number, record) for number, record in enumerate(records) if number != me
        }
        self._numbers = {peer.record.transport: peer.member for peer in self._peers.values()}
        self._handshakes: OrderedDict[trio.CancelScope, None] = OrderedDict()

    def link(self, member: int) -> Link | None:
        """Returns the link to a member, if it is up."""
        return self._peers[member].link

    def failure(self, member: int) -> str:
        """Returns why the last link or attempt ended; empty if none did."""
        return self._peers[member].failure

    def count(self, member: int) -> int:
        """Returns how many links to a member there have been."""
        return self._peers[member].links

    async def run(
        self,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Keeps links until it is cancelled.

        Args:
            listeners: Where other members dial; none behind a NAT.
            task_status: Told once the mesh listens.
        """
        async with trio.open_nursery() as nursery:
            for peer in self._peers.values():
                if peer.record.addresses:
                    nursery.start_soon(self._keep_dialling, peer)
            if listeners:
                nursery.start_soon(trio.serve_listeners, self._answer, list(listeners))
            task_status.started()
            await trio.sleep_forever()

    # Dialling.

    async def _keep_dialling(self, peer: _Peer) -> None:
        pause = self._limits.dial_seconds_min
        # The larger key waits a little at first: most often it need not dial then.
        first = pause if self._me > peer.member else 0.0
        await trio.sleep(first * (1 + self._random.random()))
        while True:
            began, links = trio.current_time(), peer.links
            was_up = peer.link is not None
            if was_up:
                await peer.freed.wait()
            for address in () if was_up else peer.record.addresses:
                if peer.link is None:
                    await self._dial(peer, address)
            is_healthy = trio.current_time() - began >= HEALTHY_SECONDS
            if is_healthy and (was_up or peer.links > links):
                pause = self._limits.dial_seconds_min
            await trio.sleep(pause * (0.5 + self._random.random()))
            pause = min(2 * pause, self._limits.dial_seconds_max)

    async def _dial(self, peer: _Peer, address: str) -> None:
        """Dials once, and runs the link that may come of it."""
        try:
            with trio.CancelScope() as scope:
                peer.dialling = scope
                with trio.fail_after(self._link_limits.handshake_seconds):
                    opened = await self._reach(peer, address)
                peer.dialling = None
                await self._hold(opened, peer, self._me)
        except (
            OSError,
            # A record may have a name that cannot be asked for: labels have 1 to 63 characters.
            UnicodeError,
            RemoteProtocolError,
            LocalProtocolError,
            ConfigError,
        ) as error:
            peer.failure = f"{address}: {error}"
            log.debug("a member was not reached", member=peer.member, reason=peer.failure)
        except trio.TooSlowError:
            peer.failure = f"{address}: nobody answered in time"
            log.debug("a member was not reached", member=peer.member, reason=peer.failure)
        finally:
            peer.dialling = None

    async def _reach(self, peer: _Peer, address: str) -> Opened:
        stream = await self._connect(address)
        try:
            return await dial(stream, self._key, peer.record.transport, self._committee.id)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise

    # Being dialled.

    async def _answer(self, stream: trio.abc.Stream) -> None:
        try:
            opened = await self._admit(stream)
        except RemoteProtocolError as error:
            log.debug("whoever dialled is no member", reason=str(error))
        else:
            if opened is not None:
                await self._hold(opened, self._peers[self._numbers[opened.remote]], None)
                return
        await trio.aclose_forcefully(stream)

    async def _admit(self, stream: trio.abc.Stream) -> Opened | None:
        if len(self._handshakes) >= self._limits.handshakes_max:
            oldest, _ = self._handshakes.popitem(last=False)
            oldest.cancel()
        opened = None
        with trio.move_on_after(self._link_limits.handshake_seconds) as scope:
            self._handshakes[scope] = None
            try:
                opened = await accept(stream, self._key, list(self._numbers), self._committee.id)
            finally:
                self._handshakes.pop(scope, None)
        return opened

    # Holding a link.

    async def _hold(self, opened: Opened, peer: _Peer, dialler: int | None) -> None:
        """Runs a link until it ends, unless another one stays."""
        link = Link(
            opened, peer.member, peer.member if dialler is None else dialler, self._link_limits
        )
        if not self._stays(link, peer.link):
            await trio.aclose_forcefully(opened.stream)
            return
        if peer.link is not None:
            self._let_go(peer, peer.link, "another link to the member took its place")
        if link.dialler != self._me:
            link.post(KEEP_ALIVE)
            if peer.dialling is not None and self._me > peer.member:
                peer.dialling.cancel()
        peer.link = link
        peer.links += 1
        peer.freed = trio.Event()
        log.info("link to a member is up", member=peer.member, dialled=link.dialler == self._me)
        self._inbox.opened(link)
        try:
            await link.run(self._inbox.received)
        finally:
            self._let_go(peer, link, "we leave")

    def _stays(self, link: Link, earlier: Link | None) -> bool:
        """Says whether a new link takes the place of the earlier one."""
        if earlier is None or earlier.is_closed or earlier.dialler == link.dialler:
            return True
        if link.dialler < earlier.dialler:
            return True
        return link.opened_at - earlier.opened_at > SIMULTANEOUS_SECONDS

    def _let_go(self, peer: _Peer, link: Link, reason: str) -> None:
        link.close(reason)
        if peer.link is link:
            peer.link = None
            peer.failure = link.reason
            peer.freed.set()
            log.info("link to a member is down", member=peer.member, reason=link.reason)
            self._inbox.closed(link)

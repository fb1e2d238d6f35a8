"""Runs a member: its files, its bitcoin node, its links, and what it tells of itself.

It may have a process of its own, or be a part of a pool's. While it runs, it writes its figures to
`federation.json` in its data directory once a second.
"""

from __future__ import annotations

import json
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
import trio

from radpool_sv2._native.threshold import CHECKPOINT, TREASURY, IdentityKey, TransportKey
from radpool_sv2.config import Endpoint
from radpool_sv2.errors import ConfigError, LocalProtocolError
from radpool_sv2.federation.chain import NodeChain
from radpool_sv2.federation.dkg.generation import MEMBERS_MIN
from radpool_sv2.federation.identity import Bip340Verifier
from radpool_sv2.federation.installation import Convention
from radpool_sv2.federation.keys.keyring import Keyring
from radpool_sv2.federation.node import FederationNode
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.federation.state.spends import spends
from radpool_sv2.federation.store import FederationStore
from radpool_sv2.federation.transport.link import LinkLimits
from radpool_sv2.federation.transport.mesh import Mesh, MeshLimits
from radpool_sv2.federation.transport.proxy import connector
from radpool_sv2.federation.watch import ChainWatch
from radpool_sv2.keyfile import read_text
from radpool_sv2.node.rpc import NodeRpc, NodeSettings
from radpool_sv2.residence import is_running, reside
from radpool_sv2.supervision import stop_on_signal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from radpool_sv2.config.federation import ChainSection, FederationConfig, LinksSection
    from radpool_sv2.federation.identity import Verifier
    from radpool_sv2.federation.state.accounting import Accounting
    from radpool_sv2.federation.state.ledger import Ledger

__all__ = [
    "STORE_NAME",
    "CertifiedBooks",
    "OpenMember",
    "first_block",
    "identity_of",
    "node_rpc",
    "open_member",
    "opened_member",
    "read_figures",
    "run_member",
    "serve_member",
]

log = structlog.get_logger(__name__)

FIGURES_NAME: Final = "federation.json"
STORE_NAME: Final = "federation.sqlite"
FIGURES_SECONDS: Final = 1.0

HEAP_SECONDS: Final = 4
"""What a member may send at once, in seconds of what it may send over time."""


def node_rpc(section: ChainSection) -> NodeRpc:
    """Makes what asks a member's own bitcoin node.

    Raises:
        ConfigError: The password cannot be read.
    """
    password = ""
    if section.rpc_user:
        password = read_text(section.rpc_password_file, "the RPC password", secret=True)
    return NodeRpc(
        NodeSettings(
            url=section.rpc_url.rstrip("/"),
            deadline_s=section.rpc_deadline_ms / 1_000,
            cookie_file=None if section.rpc_user else section.rpc_cookie_file,
            user=section.rpc_user,
            password=password,
        )
    )


async def first_block(section: ChainSection) -> tuple[bytes, int]:
    """Asks the own node which chain it is on: the hash of its first block, and its height.

    Raises:
        NodeError: It does not say.
    """
    async with aclosing(node_rpc(section)) as rpc:
        chain = NodeChain(rpc)
        return await chain.block_hash(0), await chain.height()


def _secret(file: Path, what: str) -> bytes:
    text = read_text(file, what, secret=True)
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise ConfigError(f"{what} is not there: 64 hex digits expected", file=file) from error


def identity_of(settings: FederationConfig) -> IdentityKey:
    """Reads the key that a member signs with.

    Raises:
        ConfigError: It is not there.
    """
    return IdentityKey.from_secret(_secret(settings.member.identity_key_file, "the identity key"))


def _link_limits(section: LinksSection) -> LinkLimits:
    return LinkLimits(
        handshake_seconds=section.handshake_deadline_ms / 1_000,
        keep_alive_seconds=section.keep_alive_ms / 1_000,
        silence_seconds=section.silence_ms / 1_000,
        write_seconds=section.write_deadline_ms / 1_000,
        outbox_bytes_max=section.outbox_bytes_max,
        received_per_second=section.received_bytes_per_second,
        received_at_once=HEAP_SECONDS * section.received_bytes_per_second,
    )


class CertifiedBooks:
    """Reads the latest certified books of a member, each once for all who ask.

    They are as large as all templates in them: reading takes a while, and memory.

    Args:
        node: The member.
        store: What it remembers.
        function: Reads a state; what it has just counted it has at hand.
    """

    def __init__(self, node: FederationNode, store: FederationStore, function: Accounting) -> None:
        self._node = node
        self._store = store
        self._function = function
        self._reading = trio.Lock()
        self._known: tuple[int, Ledger] | None = None

    async def __call__(self) -> Ledger | None:
        """Returns them, not to be changed; nothing before the first.

        Raises:
            StoreError: The store cannot be read.
        """
        async with self._reading:
            count = self._node.certified
            if count and (self._known is None or self._known[0] != count):
                ledger = await trio.to_thread.run_sync(self._read, count - 1)
                # One that is not there is on its way to the disk, or a later one took its place.
                self._known = self._known if ledger is None else (count, ledger)
        return self._known and self._known[1]

    def _read(self, epoch: int) -> Ledger | None:
        state = self._store.state(epoch)
        return None if state is None else self._function.ledger(state)


@dataclass(frozen=True, slots=True)
class OpenMember:
    """Is a member whose files are open; it runs once.

    Attributes:
        settings: Its configuration.
        convention: Its committee.
        number: Its number there.
        node: The member.
        mesh: Its links.
        store: What it remembers.
        books: What it knows to be certified.
    """

    settings: FederationConfig
    convention: Convention
    number: int
    node: FederationNode
    mesh: Mesh
    store: FederationStore
    books: CertifiedBooks


@contextmanager
def open_member(
    settings: FederationConfig, convention: Convention, function: Accounting
) -> Iterator[OpenMember]:
    """Opens a member's files as long as the context lasts.

    Args:
        settings: Its configuration.
        convention: The committee.
        function: Computes the state.

    Raises:
        ConfigError: A file cannot be used, or the committee is one of others.
        StoreError: What the member remembers cannot be read.
    """
    committee = convention.committee
    signer = identity_of(settings)
    key = TransportKey.from_secret(_secret(settings.member.transport_key_file, "the transport key"))
    if signer.public not in committee.members:
        raise ConfigError(
            f"this member, {signer.public.hex()}, is not in the committee",
            file=settings.member.committee_file,
        )
    directory = settings.node.data_dir
    with reside(directory):
        store = FederationStore(
            directory / STORE_NAME,
            committee,
            signer.public,
            keep_epochs=settings.store.keep_epochs,
        )
        try:
            verifier = Bip340Verifier()
            keys = _keyring(convention, signer, verifier, function, store)
            node = FederationNode(committee, signer, verifier, store, function, keys=keys)
            number = committee.number_of(signer.public)
            try:
                mesh = Mesh(
                    committee,
                    number,
                    key,
                    convention.records,
                    verifier,
                    node,
                    link_limits=_link_limits(settings.links),
                    limits=MeshLimits(handshakes_max=settings.links.handshakes_max),
                    connect=connector(settings.links.proxy),
                )
            except LocalProtocolError as error:
                raise ConfigError(
                    f"{error}. The committee needs the record that belongs to each member's keys",
                    file=settings.member.committee_file,
                    key="member.transport_key_file",
                    value=str(settings.member.transport_key_file),
                ) from error
            books = CertifiedBooks(node, store, function)
            yield OpenMember(settings, convention, number, node, mesh, store, books)
        finally:
            store.close()


@asynccontextmanager
async def opened_member(
    settings: FederationConfig, convention: Convention, function: Accounting
) -> AsyncIterator[OpenMember]:
    """Does as `open_member`, and holds up nobody else: a disk may take its time to open or close.

    Raises:
        ConfigError: A file cannot be used, or the committee is one of others.
        StoreError: What the member remembers cannot be read.
    """
    context = open_member(settings, convention, function)
    member = await trio.to_thread.run_sync(context.__enter__)
    try:
        yield member
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(context.__exit__, None, None, None)


def _keyring(
    convention: Convention,
    signer: IdentityKey,
    verifier: Verifier,
    function: Accounting,
    store: FederationStore,
) -> Keyring | None:
    """Makes the keys that the rules want; none in a committee that is too small for any."""
    rules = convention.rules
    if convention.committee.n < MEMBERS_MIN:
        return None
    purposes = (CHECKPOINT,) if rules.payout is PayoutMode.DIRECT else (CHECKPOINT, TREASURY)
    return Keyring(
        convention.committee,
        signer,
        verifier,
        function,
        store,
        purposes=purposes,
        spends=spends(rules, read=function.ledger),
    )


async def serve_member(
    member: OpenMember,
    *,
    tips: bool = False,
    task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Runs a member until it is cancelled, and writes down its figures.

    Args:
        member: The member.
        tips: Whether it says tips by itself: where no pool does.
        task_status: Told where it listens, once it does.

    Raises:
        ConfigError: It cannot listen, or its bitcoin node is on another chain.
        StoreError: What it remembers cannot be read.
    """
    settings, node = member.settings, member.node
    async with (
        aclosing(node_rpc(settings.chain)) as rpc,
        _listening(settings.links.listen) as listeners,
        trio.open_nursery() as nursery,
    ):
        chain = NodeChain(rpc, member.convention.committee.chain)

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            await node.run(
                member.mesh,
                listeners,
                chain,
                chain_seconds=settings.chain.poll_ms / 1_000,
                task_status=task_status,
            )

        await nursery.start(run)
        watch = ChainWatch(
            rpc,
            member.convention.rules,
            member.number,
            node,
            member.books,
            tips=tips,
        )
        node.on_signed(watch.signed, TREASURY)
        nursery.start_soon(watch.run, settings.chain.poll_ms / 1_000)
        port = listeners[0].socket.getsockname()[1]
        failure = await _tell_figures(member, watch, "")
        task_status.started(Endpoint(settings.links.listen.host, port))
        while True:
            await trio.sleep(FIGURES_SECONDS)
            failure = await _tell_figures(member, watch, failure)


async def _tell_figures(member: OpenMember, watch: ChainWatch, earlier: str) -> str:
    """Writes down the figures; returns why it cannot be done, which is told when it is news."""
    file = member.settings.node.data_dir / FIGURES_NAME
    figures = member.node.status() | {"watch": watch.status(), "down": _down(member)}
    failure = await trio.to_thread.run_sync(_write_figures, file, figures)
    if failure and not earlier:
        log.warning("the figures cannot be written", reason=failure)
    return failure


def _down(member: OpenMember) -> dict[str, str]:
    """Says of each member without a link why the last one, or attempt, ended."""
    others = range(member.convention.committee.n)
    return {
        str(each): member.mesh.failure(each)
        for each in others
        if each != member.number and member.mesh.link(each) is None
    }


async def run_member(
    settings: FederationConfig, function: Accounting, tell: Callable[[dict[str, Any]], None]
) -> None:
    """Runs a member by itself until a signal ends it.

    Args:
        settings: Its configuration.
        function: Computes the state.
        tell: Told once it listens: where, who it is, and in which committee.

    Raises:
        ConfigError: A file cannot be used, or the committee is one of others.
        StoreError: What the member remembers cannot be read.
    """
    convention = Convention.read(settings.member.committee_file)
    async with opened_member(settings, convention, function) as member:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(stop_on_signal, stop)
            links = await nursery.start(partial(serve_member, member, tips=True))
            status = member.node.status()
            tell(
                {
                    "event": "serving",
                    "links": str(links),
                    "member": status["member"],
                    "members": status["members"],
                    "committee": status["committee"],
                }
            )
            await stop.wait()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _listening(endpoint: Endpoint) -> AsyncIterator[list[trio.SocketListener]]:
    """Listens as long as the context lasts: whoever starts again needs the same port."""
    try:
        listeners = await trio.open_tcp_listeners(endpoint.port, host=endpoint.host)
    except OSError as error:
        raise ConfigError(
            f"cannot listen: {error.strerror}", key="links.listen", value=str(endpoint)
        ) from error
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.socket.close()


def _write_figures(file: Path, figures: dict[str, Any]) -> str:
    """Writes figures; returns why it cannot be done, or nothing."""
    draft = file.with_name(f".{file.name}")
    try:
        draft.write_text(json.dumps(figures), encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        return str(error.strerror)
    return ""


def read_figures(directory: Path) -> dict[str, Any]:
    """Reads the figures of the member that runs on a data directory.

    Raises:
        ConfigError: None does.
    """
    file = directory / FIGURES_NAME
    if not is_running(directory):
        raise ConfigError(
            "no member runs on this directory: `radpool federation join` starts it",
            file=directory,
        )
    try:
        figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError("the member does not listen yet: try again", file=file) from error
    return figures

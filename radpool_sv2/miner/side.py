"""Finds whoever knows the extension that carries a miner's shares, and says what it must do.

The native miner speaks any extension whose messages begin with the core's fields; it knows no more
of it. What the rest of the bytes means is known to a *side*: it gives an attachment for each share
and takes in what the pool answers. The package that brings the extension registers a factory under
the entry point group `radpool_sv2.miner_extensions`; the core imports none.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from radpool_sv2.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from radpool_sv2._native.miner import Carrier

__all__ = [
    "ENTRY_POINT_GROUP",
    "CarriedMiner",
    "DeclarerSide",
    "MinerNews",
    "MinerSide",
    "SideFactory",
    "SideOptions",
    "find_side",
]

ENTRY_POINT_GROUP = "radpool_sv2.miner_extensions"


@dataclass(frozen=True, slots=True)
class SideOptions:
    """Is what the user said.

    Attributes:
        directory: Where the side keeps what is its user's: the wallet, or the owner's key.
        policy: The only epoch policy that will do; None for whichever the pool prefers.
        sign_mode: The only mode of signing that will do.
        unsigned_max: How many shares may go without a token before no more are submitted.
        mint_url: Where the mint answers over HTTP; None for where the pool says.
    """

    directory: Path
    policy: str | None
    sign_mode: str
    unsigned_max: int
    mint_url: str | None


class MinerNews(Protocol):
    """Is what has happened in one session; see `radpool_sv2._native.miner.News`."""

    @property
    def session(self) -> int:
        """The connection's number, counted from 1."""

    @property
    def opened(self) -> tuple[int, bytes] | None:
        """The channel and what the extension said with it, when it was opened."""

    @property
    def submitted(self) -> list[tuple[int, int | None, int, bytes]]:
        """Shares that were sent: sequence number, exponent, attachment, hash."""

    @property
    def refused(self) -> list[tuple[int, str, bool]]:
        """Refused shares: sequence number, code, whether it goes out again."""

    @property
    def frames(self) -> list[tuple[int, bool, bytes]]:
        """The extension's frames: type, channel bit, payload."""

    @property
    def withdrawn(self) -> list[int]:
        """Attachments that were given and will not be used."""

    @property
    def dropped(self) -> int:
        """Shares that were given up unsent."""

    @property
    def ended(self) -> str | None:
        """Why the session is over, when it is."""


class CarriedMiner(Protocol):
    """Is whoever sends shares with attachments: the native miner, or a client of a declarator.

    `radpool_sv2._native.miner.Miner` tells what the methods do.
    """

    def event_fd(self) -> int:
        """Returns a descriptor that is readable while there are news."""

    def take(self) -> MinerNews:
        """Takes the news."""

    def give(self, session: int, lot: int, attachments: Sequence[tuple[int, bytes]]) -> bool:
        """Gives attachments for the shares of a session."""

    def send(self, session: int, msg_type: int, *, channel_msg: bool, payload: bytes) -> bool:
        """Sends a frame of the extension."""


class MinerSide(Protocol):
    """Is one side of a conversation whose other side is the pool's extension.

    Attributes:
        word: What its figures are called among the miner's.
    """

    word: str

    @property
    def carrier(self) -> Carrier:
        """How the miner is to speak the extension."""

    async def run(self, machine: CarriedMiner) -> None:
        """Serves a miner that was started, until it is cancelled.

        Raises:
            RemoteProtocolError: The pool did what ends all trust in it.
        """

    async def finish(self, machine: CarriedMiner) -> None:
        """Takes in what came last, once the miner has stopped."""

    def events(self) -> list[tuple[int, str]]:
        """Returns what happened since the last call: milliseconds since 1970 and a sentence."""

    def figures(self) -> dict[str, object]:
        """Returns the figures for programs."""

    def rows(self) -> list[tuple[str, str]]:
        """Returns the figures for people: a name and a text each."""


@runtime_checkable
class DeclarerSide(MinerSide, Protocol):
    """Is a side whose shares may be those of declared jobs."""

    def declarer(self, tail: bytes) -> str:
        """Says whom a job declarator is to pay.

        Args:
            tail: What the extension said with the channel.
        """


SideFactory: TypeAlias = "Callable[[SideOptions], AbstractAsyncContextManager[MinerSide]]"


def find_side(name: str) -> SideFactory:
    """Returns the factory of an extension's side.

    Raises:
        ConfigError: No such extension is installed.
    """
    installed = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in installed:
        known = ", ".join(sorted(installed)) or "none"
        raise ConfigError(
            f"mining needs the extension {name!r}, which is not installed; installed: {known}. "
            "Install the package radpool-sv2-extensions"
        )
    factory: SideFactory = installed[name].load()
    return factory

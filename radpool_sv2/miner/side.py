"""Finds whoever knows the extension that carries a miner's shares, and says what it must do.

The native miner speaks any extension whose messages begin with the core's fields; it knows no more
of it. What the rest of the bytes means is known to a *side*: it gives an attachment for each share
and takes in what the pool answers. The package that brings the extension registers a factory under
the entry point group `radpool_sv2.miner_extensions`; the core imports none.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Protocol, TypeAlias

from radpool_sv2.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from radpool_sv2._native.miner import Carrier, Miner

__all__ = ["ENTRY_POINT_GROUP", "MinerSide", "SideFactory", "SideOptions", "find_side"]

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


class MinerSide(Protocol):
    """Is one side of a conversation whose other side is the pool's extension.

    Attributes:
        word: What its figures are called among the miner's.
    """

    word: str

    @property
    def carrier(self) -> Carrier:
        """How the miner is to speak the extension."""

    async def run(self, machine: Miner) -> None:
        """Serves a miner that was started, until it is cancelled.

        Raises:
            RemoteProtocolError: The pool did what ends all trust in it.
        """

    async def finish(self, machine: Miner) -> None:
        """Takes in what came last, once the miner has stopped."""

    def events(self) -> list[tuple[int, str]]:
        """Returns what happened since the last call: milliseconds since 1970 and a sentence."""

    def figures(self) -> dict[str, object]:
        """Returns the figures for programs."""

    def rows(self) -> list[tuple[str, str]]:
        """Returns the figures for people: a name and a text each."""


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

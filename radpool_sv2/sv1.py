"""Finds who serves devices that speak Stratum V1 at a pool's port: a package of its own.

The package names a function in the entry-point group `radpool_sv2.sv1`. It is told of the pool and
gives a role, which takes devices over from the pool's engine and mines for the pool as any other
client does: by its port, with its key, for accounts or ecash.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from radpool_sv2.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import trio

    from radpool_sv2._native.translator import Translator
    from radpool_sv2.config import Endpoint, MspConfig

__all__ = ["GROUP", "PACKAGE", "Sv1Pool", "Sv1Role", "is_installed", "open_sv1"]

GROUP: Final = "radpool_sv2.sv1"
PACKAGE: Final = "radpool-sv2-translator"


@dataclass(frozen=True, slots=True)
class Sv1Pool:
    """Tells of the pool whose devices are to be served.

    Attributes:
        config: The configuration of the node.
        address: Returns where the pool takes connections; to be asked once it serves.
        lead: Leads the devices that call there to a native translator, or to nobody.
    """

    config: MspConfig
    address: Callable[[], Endpoint]
    lead: Callable[[Translator | None], None]


class Sv1Role(Protocol):
    """Serves the devices; `run` is a role as `radpool_sv2.supervision` runs them."""

    async def run(self, stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        """Serves until `stop` is set."""

    @property
    def problem(self) -> str:
        """What keeps it from working, in plain words; empty when nothing does."""

    def metrics(self) -> Mapping[str, int]:
        """Returns counters, which have names that end in `_total`, and gauges."""

    def hash_rate(self) -> float:
        """Returns the hash rate of all devices, H/s."""

    def page(self, offset: int, limit: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Returns how many devices there are, and some of them, JSON-ready."""


_Opening: TypeAlias = "Callable[[Sv1Pool], Sv1Role]"


def is_installed() -> bool:
    """Tells whether there is a package that serves such devices."""
    return bool(entry_points(group=GROUP))


def open_sv1(pool: Sv1Pool) -> Sv1Role:
    """Makes the role that serves the devices; nothing runs yet.

    Raises:
        ConfigError: The package is not installed, or something that it needs is not there.
    """
    found = next(iter(entry_points(group=GROUP)), None)
    if found is None:
        raise ConfigError(
            f"devices that speak Stratum V1 are served by the package {PACKAGE}, which is not "
            "installed: install it",
            key="sv1.on_same_port",
            value="true",
            allowed=f"false without {PACKAGE}",
        )
    opening: _Opening = found.load()
    return opening(pool)

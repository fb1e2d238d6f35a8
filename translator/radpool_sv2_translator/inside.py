"""Serves SV1 devices that call at a pool's own port: a translator in the process of the pool.

It is what `radpool translator` is, with that pool as its only one, which it reaches by the pool's
port on this machine as any client does. The pool's engine leads the devices to it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from radpool_sv2.config import Endpoint, loads
from radpool_sv2.errors import ConfigError
from radpool_sv2.wallet.file import FILE_NAME
from radpool_sv2_translator.config import PoolSection, TranslatorConfig
from radpool_sv2_translator.role import TranslatorRole
from radpool_sv2_translator.view import client_figures, hash_rate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import trio

    from radpool_sv2.config import MspConfig
    from radpool_sv2.sv1 import Sv1Pool

__all__ = ["Inside", "inside_config"]

LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with
"""Where to find on this machine who listens everywhere."""


def inside_config(config: MspConfig, address: Endpoint) -> TranslatorConfig:
    """Makes the configuration of a translator inside of a pool.

    Args:
        config: The pool's.
        address: Where the pool takes connections.
    """
    defaults = loads(TranslatorConfig, '[[pools]]\naddress = "localhost:1"', config.sv1.wallet_dir)
    section, limits = config.sv1, config.limits
    here = Endpoint(LOOPBACK.get(address.host, address.host), address.port)
    key = config.keys.authority_public_key
    return replace(
        defaults,
        devices=replace(
            defaults.devices,
            exponent_min=section.exponent_min,
            nominal_hash_rate_mh=section.nominal_hash_rate_mh,
            shares_per_minute=config.mining.shares_per_minute,
        ),
        pools=(PoolSection(address=here, authority_public_key=key, ecash=section.ecash),),
        # It is never elsewhere, and back as soon as it has started again.
        fallback=replace(defaults.fallback, retry_s=1, retry_s_max=2),
        wallet=replace(defaults.wallet, dir=section.wallet_dir, policy=section.wallet_policy),
        limits=replace(
            defaults.limits,
            connections_max=limits.connections_max,
            io_threads=limits.io_threads,
        ),
    )


class Inside:
    """Is the `radpool_sv2.sv1.Sv1Role` of this package.

    Args:
        pool: The pool whose devices are to be served.

    Raises:
        ConfigError: There is no wallet where the configuration says.
    """

    def __init__(self, pool: Sv1Pool) -> None:
        self._pool = pool
        self._role: TranslatorRole | None = None
        section = pool.config.sv1
        if section.ecash and not (section.wallet_dir / FILE_NAME).exists():
            raise ConfigError(
                "there is no wallet for what SV1 devices earn; make one with `radpool wallet "
                f"create --dir {section.wallet_dir} --mint http://{pool.config.http.listen}`",
                key="sv1.wallet_dir",
                value=str(section.wallet_dir),
            )

    async def run(self, stop: trio.Event, *, task_status: trio.TaskStatus[None]) -> None:
        """Serves until `stop` is set."""
        config = inside_config(self._pool.config, self._pool.address())
        # Each run has a translator of its own: what the last one knew of its pool is over.
        self._role = TranslatorRole(config, lead=self._pool.lead)
        await self._role.run(stop, task_status=task_status)

    @property
    def problem(self) -> str:
        """What keeps it from working, in plain words; empty when nothing does."""
        pools = None if self._role is None else self._role.pools
        place = None if pools is None else pools.places[0]
        if place is None or place.works or not place.failure:
            return ""
        return f"SV1 devices have no work: the translator's connection ended: {place.failure}"

    def metrics(self) -> Mapping[str, int]:
        """Returns the counters and gauges of the native translator."""
        return {} if self._role is None else self._role.metrics()

    def hash_rate(self) -> float:
        """Returns the hash rate of all devices, H/s."""
        return 0.0 if self._role is None else hash_rate(self._role)

    def page(self, offset: int, limit: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Returns how many devices there are, and some of them, JSON-ready."""
        role = self._role
        if role is None:
            return 0, []
        clients = role.clients()
        return len(clients), [client_figures(role, each) for each in clients[offset:][:limit]]

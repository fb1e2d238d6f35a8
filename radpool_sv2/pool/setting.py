"""Makes of the configuration what the native engine and the templates need."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Final

from radpool_sv2._native.engine import EngineSettings
from radpool_sv2.errors import ConfigError, LocalProtocolError
from radpool_sv2.network import NETWORKS, script_from_address
from radpool_sv2.weight import OwnReference, Weighing, WeightMode, scale_of

if TYPE_CHECKING:
    from radpool_sv2.config import MspConfig
    from radpool_sv2.config.msp import LedgerSection
    from radpool_sv2.pool.registry import ExtensionRegistry

__all__ = ["SOLUTION_LOG", "engine_settings", "gathering_of", "payout_script", "weighing_of"]

SOLUTION_LOG: Final = "blocks.jsonl"


def payout_script(address: str, network: str) -> bytes:
    """Makes the output script that blocks pay.

    Raises:
        ConfigError: It is no address of the network that is mined on.
    """
    try:
        return script_from_address(address, NETWORKS[network])
    except LocalProtocolError as error:
        raise ConfigError(
            str(error), key="templates.payout_address", value=repr(address)
        ) from error


def weighing_of(config: MspConfig, script: bytes) -> tuple[Weighing, OwnReference]:
    """Makes what prices templates, and the reference that follows the pool's own node.

    Raises:
        ConfigError: Channels could be given shares that are too easy to be weighed.
    """
    scale = scale_of(config.templates.network)
    if config.mining.exponent_min < scale.base:
        raise ConfigError(
            f"shares on {config.templates.network} are weighed from 2^{scale.base} hashes on",
            key="mining.exponent_min",
            value=str(config.mining.exponent_min),
            allowed=f"{scale.base} and more",
        )
    reference = OwnReference()
    mode = WeightMode[config.weight.mode.upper()]
    return Weighing(mode, scale, script=script, reference=reference), reference


def gathering_of(config: MspConfig) -> LedgerSection:
    """Says how shares are gathered into batches: in a federation fewer of them, and not larger."""
    federation = config.federation
    if federation.dir is None:
        return config.ledger
    return replace(
        config.ledger,
        batch_shares=federation.batch_shares,
        pace_shares=1,
        pace_ms=federation.batch_ms,
    )


def engine_settings(
    config: MspConfig, msp_key: bytes, extensions: ExtensionRegistry, solution_socket: str | None
) -> EngineSettings:
    """Makes the engine's settings: the keys of `mining` and `limits` have the same names there.

    Raises:
        ConfigError: The engine does not take a combination of settings.
    """
    mining = {
        field.name: getattr(config.mining, field.name)
        for field in fields(config.mining)
        if field.name != "listen"
    }
    return EngineSettings(
        **mining,
        **asdict(config.limits),
        msp_key=msp_key,
        work_selection=config.declarator.enabled,
        rollable_fixed=None,
        supported_extensions=extensions.supported,
        required_extensions=extensions.required,
        share_messages=extensions.share_messages,
        open_messages=extensions.open_messages,
        prefixes_low=config.ledger.prefixes_low,
        solution_log=str(config.node.data_dir / SOLUTION_LOG),
        solution_socket=solution_socket,
    )

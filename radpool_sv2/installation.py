"""Writes the directories of new roles: keys and commented configuration."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from coincurve import PrivateKey, PublicKeyXOnly

from radpool_sv2._native.ecash import MintSeed
from radpool_sv2._native.keys import AuthoritySecretKey, StaticKey
from radpool_sv2._native.ledger import MspKey
from radpool_sv2.chain.address import address_from_script
from radpool_sv2.config import MspConfig, render
from radpool_sv2.config.jdc import JdcConfig
from radpool_sv2.errors import ConfigError
from radpool_sv2.keyfile import sign_certificate, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = [
    "CONFIG_NAME",
    "ECASH",
    "JDC_CONFIG_NAME",
    "Installation",
    "JdcInstallation",
    "install_jdc",
    "install_msp",
]

CONFIG_NAME: Final = "msp.toml"
JDC_CONFIG_NAME: Final = "jdc.toml"

CERTIFICATE_DAYS: Final = 90

ECASH: Final = "ecash"
"""The name of the extension that makes the node a mint, where it is installed."""

EXTENSIONS_GROUP: Final = "radpool_sv2.extensions"

EMBEDDED_EXPONENT_MIN: Final = 16
"""The easiest share on the embedded chain: CPU miners find one of 2^16 hashes within a second."""

OWN_SUBMITS_PER_SECOND: Final = 2_000
"""Shares of one connection of the owner's own miners: some thousand channels."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Tells what was made.

    Attributes:
        directory: Where it is.
        config: The configuration file.
        authority_public_key: The key that miners pin, as text.
        msp_public_key: The key that names the MSP in every owner tag, 32 bytes x-only.
        payout_address: The address that blocks pay.
        payout_key: The file with its secret, unless the address was given.
    """

    directory: Path
    config: Path
    authority_public_key: str
    msp_public_key: bytes
    payout_address: str
    payout_key: Path | None


def install_msp(
    directory: Path,
    *,
    payout_address: str | None = None,
    settings: Mapping[str, object] | None = None,
) -> Installation:
    """Makes the keys and the configuration of an MSP that mines on the embedded chain.

    Args:
        directory: Where to write; made if it is not there.
        payout_address: The address that blocks pay; None makes a key for one.
        settings: Values that replace defaults of the configuration, by dotted key.

    Raises:
        ConfigError: There is an MSP already, or the directory cannot be written.
    """
    config = directory / CONFIG_NAME
    if config.exists():
        raise ConfigError(
            "there is an MSP already; its keys are not overwritten. Give another --dir", file=config
        )
    keys = directory / "keys"
    try:
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the directory: {error.strerror}", file=keys) from error
    authority = AuthoritySecretKey.generate()
    static_key = StaticKey.generate()
    msp = MspKey.generate()
    certificate = sign_certificate(authority, static_key, CERTIFICATE_DAYS)
    write_text(keys / "authority.key", authority.expose_text(), secret=True)
    write_text(keys / "server.key", static_key.expose_text(), secret=True)
    write_text(keys / "server.cert", certificate.to_bytes().hex(), secret=False)
    write_text(keys / "msp.key", msp.expose_secret().hex(), secret=True)
    write_text(keys / "mint.key", MintSeed.generate().expose_secret().hex(), secret=True)
    payout_key = None
    if payout_address is None:
        payout_key = keys / "payout.key"
        secret, payout_address = _payout()
        write_text(payout_key, secret.hex(), secret=True)
    public = authority.public_key().to_text()
    values: dict[str, object] = {
        "keys.authority_public_key": public,
        "templates.payout_address": payout_address,
        "mining.exponent_min": EMBEDDED_EXPONENT_MIN,
        "declarator.enabled": True,
        # The easiest share is worth one unit, also where it is made easier.
        "ecash.unit_exponent": (settings or {}).get("mining.exponent_min", EMBEDDED_EXPONENT_MIN),
        **_mint_settings(),
        **(settings or {}),
    }
    # Last: whoever sees the configuration may rely on everything that it names.
    write_text(config, render(MspConfig, values), secret=False)
    return Installation(directory, config, public, msp.public, payout_address, payout_key)


@dataclass(frozen=True, slots=True)
class JdcInstallation:
    """Tells what was made for a job declarator client.

    Attributes:
        directory: Where it is.
        config: The configuration file.
        authority_public_key: The key that the miners behind it pin, as text.
        payout_address: The address that blocks pay which are mined solo.
        payout_key: The file with its secret, unless the address was given.
    """

    directory: Path
    config: Path
    authority_public_key: str
    payout_address: str
    payout_key: Path | None


def install_jdc(
    directory: Path,
    *,
    pools: Sequence[Mapping[str, object]] = (),
    payout_address: str | None = None,
    settings: Mapping[str, object] | None = None,
) -> JdcInstallation:
    """Makes the key and the configuration of a job declarator client.

    Args:
        directory: Where to write; made if it is not there.
        pools: The keys of each pool, the most wanted first.
        payout_address: The address that blocks pay which are mined solo; None makes a key for one.
        settings: Values that replace defaults of the configuration, by dotted key.

    Raises:
        ConfigError: There is a client already, the directory cannot be written, or an address is
            needed because coins would be worth something.
    """
    config = directory / JDC_CONFIG_NAME
    if config.exists():
        raise ConfigError(
            "there is a job declarator client already; its key is not overwritten. Give another "
            "--dir",
            file=config,
        )
    given = dict(settings or {})
    network = given.get("templates.network", "regtest")
    payout_address = payout_address or str(given.get("templates.payout_address", "")) or None
    if payout_address is None and network != "regtest":
        raise ConfigError(
            "blocks that are mined solo must pay somebody, and a key for coins that are worth "
            "something is better made by a wallet of yours",
            key="--payout-address",
            allowed=f"an address of {network}",
        )
    keys = directory / "keys"
    try:
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the directory: {error.strerror}", file=keys) from error
    authority = AuthoritySecretKey.generate()
    write_text(keys / "authority.key", authority.expose_text(), secret=True)
    payout_key = None
    if payout_address is None:
        payout_key = keys / "payout.key"
        secret, payout_address = _payout()
        write_text(payout_key, secret.hex(), secret=True)
    values: dict[str, object] = {
        "mining.exponent_min": EMBEDDED_EXPONENT_MIN if network == "regtest" else 32,
        # One translator of the owner's may bring thousands of channels.
        "limits.submits_per_second_max": OWN_SUBMITS_PER_SECOND,
        "limits.submits_burst_max": 10 * OWN_SUBMITS_PER_SECOND,
        **{
            f"pools[{number}].{key}": value
            for number, pool in enumerate(pools, start=1)
            for key, value in pool.items()
        },
        **given,
        "templates.payout_address": payout_address,
    }
    # Last: whoever sees the configuration may rely on everything that it names.
    write_text(config, render(JdcConfig, values), secret=False)
    public = authority.public_key().to_text()
    return JdcInstallation(directory, config, public, payout_address, payout_key)


def _mint_settings() -> Mapping[str, object]:
    """Makes the node a mint where the extension is there that miners need for it."""
    if not any(entry.name == ECASH for entry in entry_points(group=EXTENSIONS_GROUP)):
        return {}
    return {"ecash.enabled": True, "extensions.enabled": [ECASH]}


def _payout() -> tuple[bytes, str]:
    """Makes a key and the regtest address that pays it by a taproot key path without scripts.

    Source: BIP341, BIP86 (the output key is the internal key tweaked by its own hash).
    """
    secret = PrivateKey()
    internal = PublicKeyXOnly.from_secret(secret.secret)
    tag = hashlib.sha256(b"TapTweak").digest()
    internal.tweak_add(hashlib.sha256(tag + tag + internal.format()).digest())
    address = address_from_script(b"\x51\x20" + internal.format())
    assert address is not None, "a version 1 witness program of 32 bytes has an address"
    return secret.secret, address

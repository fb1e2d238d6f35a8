"""Writes the directory of a new template provider: its key and commented configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2._native.keys import AuthoritySecretKey
from radpool_sv2.config import render
from radpool_sv2.config.template_provider import TemplateProviderConfig
from radpool_sv2.errors import ConfigError
from radpool_sv2.keyfile import write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["CONFIG_NAME", "ProviderInstallation", "install_template_provider"]

CONFIG_NAME: Final = "template-provider.toml"


@dataclass(frozen=True, slots=True)
class ProviderInstallation:
    """Tells what was made.

    Attributes:
        directory: Where it is.
        config: The configuration file.
        authority_public_key: The key that clients pin, as text.
    """

    directory: Path
    config: Path
    authority_public_key: str


def install_template_provider(
    directory: Path, settings: Mapping[str, object] | None = None
) -> ProviderInstallation:
    """Makes the key and the configuration of a template provider on the embedded chain.

    Args:
        directory: Where to write; made if it is not there.
        settings: Values that replace defaults of the configuration, by dotted key.

    Raises:
        ConfigError: There is one already, or the directory cannot be written.
    """
    config = directory / CONFIG_NAME
    if config.exists():
        raise ConfigError(
            "there is a template provider already; its key is not overwritten. Give another --dir",
            file=config,
        )
    keys = directory / "keys"
    try:
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the directory: {error.strerror}", file=keys) from error
    authority = AuthoritySecretKey.generate()
    write_text(keys / "authority.key", authority.expose_text(), secret=True)
    # Last: whoever sees the configuration may rely on everything that it names.
    write_text(config, render(TemplateProviderConfig, settings or {}), secret=False)
    return ProviderInstallation(directory, config, authority.public_key().to_text())

"""Gives the listener a key of its own and keeps it signed by the authority's key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2._native.keys import AuthoritySecretKey, ServerIdentity, StaticKey
from radpool_sv2.errors import ConfigError
from radpool_sv2.keyfile import DAY_S, read_text, sign_certificate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from radpool_sv2._native.keys import AuthorityPublicKey

__all__ = ["ProviderIdentity"]

CERTIFICATE_DAYS: Final = 30
"""How long a signature holds: it is made anew each day, and dies with the process."""


class ProviderIdentity:
    """Is a fresh key for a listener, signed by the authority's key."""

    def __init__(self, authority: AuthoritySecretKey) -> None:
        self._authority = authority
        self._static_key = StaticKey.generate()

    @classmethod
    def load(cls, file: Path) -> ProviderIdentity:
        """Reads the authority's key.

        Raises:
            ConfigError: The file is missing, lies open or holds something else.
        """
        text = read_text(file, "the authority's key", secret=True)
        try:
            return cls(AuthoritySecretKey.from_text(text))
        except ConfigError as error:
            raise ConfigError(str(error), file=file) from error

    @property
    def public_key(self) -> AuthorityPublicKey:
        """The key that clients pin."""
        return self._authority.public_key()

    def sign(self) -> ServerIdentity:
        """Returns what clients are shown, valid from yesterday on."""
        certificate = sign_certificate(self._authority, self._static_key, CERTIFICATE_DAYS)
        return ServerIdentity(self._static_key, certificate)

    async def keep_signed(self, show: Callable[[ServerIdentity], None]) -> None:
        """Signs again each day, for ever."""
        while True:
            await trio.sleep(DAY_S)
            show(self.sign())

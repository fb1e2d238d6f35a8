"""Holds the keys and certificates of Stratum V2 connections.

Text forms are those of SRI's roles, so that keys can be moved between them and this node. Secrets
have a redacted repr and are wiped from memory when their object goes.
"""

from typing import final

@final
class AuthorityPublicKey:
    """Is the key that miners pin: whoever holds its secret may vouch for a server."""

    @staticmethod
    def from_text(text: str) -> AuthorityPublicKey:
        """Reads the base58check form that SRI's roles print.

        Raises:
            ConfigError: If the text is no such key; the message says what is wrong with it.
        """

    def to_text(self) -> str:
        """Writes the base58check form."""

    def to_bytes(self) -> bytes:
        """Returns the 32 bytes of the x-only key."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class AuthoritySecretKey:
    """Signs certificates. It may stay offline: a running node needs only what it has signed."""

    @staticmethod
    def generate() -> AuthoritySecretKey:
        """Makes a new key from the system's randomness."""

    @staticmethod
    def from_text(text: str) -> AuthoritySecretKey:
        """Reads the base58check form that SRI's roles print.

        Raises:
            ConfigError: If the text is no such key; the message never repeats the text.
        """

    def expose_text(self) -> str:
        """Writes the secret as base58check, to be stored in a file that only its owner can read."""

    def public_key(self) -> AuthorityPublicKey:
        """Returns the key that miners pin."""

@final
class StaticKey:
    """Is the long-lived Noise key of a server; the certificate vouches for it."""

    @staticmethod
    def generate() -> StaticKey:
        """Makes a new key from the system's randomness."""

    @staticmethod
    def from_text(text: str) -> StaticKey:
        """Reads the base58check form that `expose_text` writes.

        Raises:
            ConfigError: If the text is no key; the message never repeats the text.
        """

    def expose_text(self) -> str:
        """Writes the secret as base58check, to be stored in a file that only its owner can read."""

    def public_bytes(self) -> bytes:
        """Returns the 32 bytes of the x-only public key."""

@final
class Certificate:
    """Vouches for a static key during a span of time."""

    @staticmethod
    def sign(
        authority: AuthoritySecretKey,
        static_key: StaticKey,
        *,
        valid_from: int,
        not_valid_after: int,
    ) -> Certificate:
        """Signs a static key.

        Args:
            authority: The key that miners pin.
            static_key: The key of the server.
            valid_from: First second since 1970 at which the certificate holds.
            not_valid_after: Last second since 1970 at which it holds.

        Raises:
            ConfigError: If the span is empty or does not fit 32 bits.
        """

    @staticmethod
    def from_text(text: str) -> Certificate:
        """Reads the base58check form that `to_text` writes.

        Raises:
            ConfigError: If the text is no certificate; the message says what is wrong with it.
        """

    def to_text(self) -> str:
        """Writes the base58check form, for files; a certificate is no secret."""

    @staticmethod
    def from_bytes(data: bytes) -> Certificate:
        """Reads the 74 bytes of the wire form.

        Raises:
            ConfigError: If there are more or fewer bytes, or the version is unknown.
        """

    def to_bytes(self) -> bytes:
        """Writes the 74 bytes of the wire form."""

    def verify(self, authority: AuthorityPublicKey, static_key: StaticKey, unix_s: int) -> None:
        """Checks that the authority vouches for the key at a moment.

        Args:
            authority: The key that miners pin.
            static_key: The key of the server.
            unix_s: Seconds since 1970.

        Raises:
            ConfigError: If the signature is not the authority's or the moment is outside the span.
        """

    @property
    def valid_from(self) -> int:
        """First second since 1970 at which the certificate holds."""

    @property
    def not_valid_after(self) -> int:
        """Last second since 1970 at which the certificate holds."""

@final
class ServerIdentity:
    """Is what a listener shows to miners: a static key and the certificate for it."""

    def __new__(cls, static_key: StaticKey, certificate: Certificate) -> ServerIdentity:
        """Joins the two; whether they fit only a miner, or `Certificate.verify`, can say."""

    @property
    def not_valid_after(self) -> int:
        """Last second since 1970 at which miners accept this identity."""

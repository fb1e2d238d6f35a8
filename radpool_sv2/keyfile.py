"""Reads and writes the key files of a node.

Each secret has a file of its own, so that the authority's can be kept offline, and the file is for
its owner alone: one that others can read is refused, because whoever set that up believes the key
to be secret. Files are written under another name first and then moved, so that a crash leaves
either the old or the new key and never half of one.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from radpool_sv2._native.ecash import MintSeed
from radpool_sv2._native.keys import (
    AuthorityPublicKey,
    AuthoritySecretKey,
    Certificate,
    ServerIdentity,
    StaticKey,
)
from radpool_sv2._native.ledger import MspKey
from radpool_sv2.durable import READABLE_MODE, SECRET_MODE, write_whole
from radpool_sv2.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from radpool_sv2.config.msp import Keys

A = TypeVar("A")
T = TypeVar("T")

__all__ = [
    "DAY_S",
    "KeyRing",
    "load_authority_key",
    "load_keys",
    "load_mint_seed",
    "read_text",
    "sign_certificate",
    "write_text",
]

DAY_S = 86_400

BACKDATED_S = DAY_S
"""How long before now a certificate begins: miners whose clock is behind must not refuse it."""

FILE_BYTES_MAX = 4_096
OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Holds what a running MSP needs of its keys; secrets stay in native memory.

    Attributes:
        authority: The key that miners pin.
        static_key: The listener's key.
        certificate: The authority's signature over it.
        msp: The key that signs share batches.
    """

    authority: AuthorityPublicKey
    static_key: StaticKey
    certificate: Certificate
    msp: MspKey

    def identity(self) -> ServerIdentity:
        """Joins the listener's key and its certificate for the engine."""
        return ServerIdentity(self.static_key, self.certificate)


def read_text(file: Path, what: str, *, secret: bool) -> str:
    """Reads a key file.

    Args:
        file: The file.
        what: What it holds, for the error.
        secret: Whether others must not be able to read it.

    Raises:
        ConfigError: The file is missing, is not text, or lies open.
    """
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            raw = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {what}: {error.strerror}", file=file) from error
    if secret and mode & OTHERS:
        raise ConfigError(
            f"{what} can be read by others (mode {stat.S_IMODE(mode):04o}): "
            "`chmod 600` it, and make a new one if anybody else may have read it",
            file=file,
        )
    try:
        text = raw.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what} is not text: another file?", file=file) from error
    if not text or len(raw) > FILE_BYTES_MAX:
        raise ConfigError(f"{what} is empty or far too long: another file?", file=file)
    return text


def write_text(file: Path, text: str, *, secret: bool, replace: bool = False) -> None:
    """Writes a key file durably, all of it or nothing.

    Raises:
        ConfigError: The file is there already and `replace` is not set, or cannot be written.
    """
    if not replace and file.exists():
        raise ConfigError("is there already and is not overwritten", file=file)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        mode = SECRET_MODE if secret else READABLE_MODE
        write_whole(file, f"{text}\n".encode("ascii"), draft=draft, mode=mode)
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror}", file=file) from error


def load_keys(keys: Keys) -> KeyRing:
    """Reads the keys of an MSP and checks that the authority vouches for the listener now.

    Raises:
        ConfigError: Names the file and what to do.
    """
    authority = _named(
        keys.certificate_file, AuthorityPublicKey.from_text, keys.authority_public_key
    )
    server = read_text(keys.server_key_file, "the listener's key", secret=True)
    static_key = _named(keys.server_key_file, StaticKey.from_text, server)
    certificate = load_certificate(keys.certificate_file)
    try:
        certificate.verify(authority, static_key, int(time.time()))
    except ConfigError as error:
        raise ConfigError(
            f"{error}. `radpool certify` signs a new certificate", file=keys.certificate_file
        ) from error
    secret = read_text(keys.msp_key_file, "the MSP's key", secret=True)
    msp = _named(keys.msp_key_file, _msp_key, secret)
    return KeyRing(authority, static_key, certificate, msp)


def load_mint_seed(keys: Keys) -> MintSeed:
    """Reads the seed of the mint's keysets.

    Raises:
        ConfigError: Names the file and what to do.
    """
    file = keys.mint_key_file
    if not file.exists():
        raise ConfigError(
            "the mint's key is not there. Put it back from your copy, or, if this node was never a "
            "mint, make one: `openssl rand -hex 32`, in a file of mode 0600",
            file=file,
            key="keys.mint_key_file",
        )
    return _named(file, _mint_seed, read_text(file, "the mint's key", secret=True))


def load_certificate(file: Path) -> Certificate:
    """Reads a certificate: 74 bytes as hex digits.

    Raises:
        ConfigError: The file is missing or holds something else.
    """
    text = read_text(file, "the certificate", secret=False)
    try:
        raw = bytes.fromhex(text)
    except ValueError as error:
        raise ConfigError("is not a certificate: 148 hex digits expected", file=file) from error
    return _named(file, Certificate.from_bytes, raw)


def load_authority_key(file: Path, pinned: str) -> AuthoritySecretKey:
    """Reads the authority's secret key.

    Args:
        file: The file.
        pinned: The public key that miners pin, as text: it must be the key's other half.

    Raises:
        ConfigError: The file is missing, lies open or holds something else.
    """
    text = read_text(file, "the authority's key", secret=True)
    key = _named(file, AuthoritySecretKey.from_text, text)
    public = key.public_key().to_text()
    if public != pinned:
        raise ConfigError(f"miners pin {pinned}, but this is the key of {public}", file=file)
    return key


def sign_certificate(
    authority: AuthoritySecretKey, static_key: StaticKey, days: int
) -> Certificate:
    """Signs a listener's key from a day ago until so many days from now."""
    now = int(time.time())
    return Certificate.sign(
        authority, static_key, valid_from=now - BACKDATED_S, not_valid_after=now + days * DAY_S
    )


def _msp_key(text: str) -> MspKey:
    try:
        raw = bytes.fromhex(text)
    except ValueError as error:
        raise ConfigError("is not an MSP key: 64 hex digits expected") from error
    return MspKey.from_secret(raw)


def _mint_seed(text: str) -> MintSeed:
    try:
        raw = bytes.fromhex(text)
    except ValueError as error:
        raise ConfigError("is not a mint's key: 64 hex digits expected") from error
    return MintSeed.from_secret(raw)


def _named(file: Path, read: Callable[[A], T], value: A) -> T:
    """Adds the file to the errors of a reader that knows only the content."""
    try:
        return read(value)
    except ConfigError as error:
        raise ConfigError(str(error), file=file) from error

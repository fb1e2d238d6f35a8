"""Keeps a miner's key and its receipts in a directory."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

import trio
from coincurve import PrivateKey, PublicKeyXOnly

from radpool_sv2.errors import ConfigError
from radpool_sv2.keyfile import read_text, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["KEY_FILE", "RECEIPT_FILE", "Owner"]

KEY_FILE: Final = "owner.key"
RECEIPT_FILE: Final = "receipts.jsonl"


class Owner:
    """Is a miner who owns shares under a key.

    Attributes:
        public: The x-only public key, 32 bytes.
    """

    def __init__(self, secret: PrivateKey, directory: Path) -> None:
        self._secret = secret
        self._receipts = directory / RECEIPT_FILE
        self.public: bytes = PublicKeyXOnly.from_secret(secret.secret).format()

    @classmethod
    def open(cls, directory: Path) -> Owner:
        """Reads the key in a directory, or makes one.

        Raises:
            ConfigError: The file cannot be read or written, or holds no key.
        """
        file = directory / KEY_FILE
        if not file.exists():
            secret = PrivateKey()
            write_text(file, secret.to_hex(), secret=True)
            return cls(secret, directory)
        text = read_text(file, "the owner's key", secret=True)
        try:
            return cls(PrivateKey(bytes.fromhex(text)), directory)
        except ValueError as error:
            raise ConfigError("is no secret key: 64 hex digits are expected", file=file) from error

    def __repr__(self) -> str:
        return f"Owner({self.public.hex()})"

    def sign(self, signed: bytes) -> bytes:
        """Returns the BIP340 signature of a 32-byte hash."""
        return bytes(self._secret.sign_schnorr(signed, os.urandom(32)))

    async def keep(self, line: Mapping[str, object]) -> None:
        """Appends a line to the file of receipts, durably."""
        text = json.dumps(line, separators=(",", ":")) + "\n"
        await trio.to_thread.run_sync(self._append, text)

    def _append(self, text: str) -> None:
        with self._receipts.open("a", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

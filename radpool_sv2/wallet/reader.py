"""Takes the fields of a signed message from its bytes, and checks a mint's signature over them.

The wallet reads what mints sign with code of its own: it must judge what a pool's software writes,
and so shares none of it.

Source: SV2, section 3.1, "Data Types Mapping"; `spec/05-ecash-messages.md`.
"""

from __future__ import annotations

from typing import Final

from coincurve import PublicKeyXOnly

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.units import tagged_hash

__all__ = ["POINT_LEN", "SIGNATURE_LEN", "Reader", "check_signature"]

POINT_LEN: Final = 33
SIGNATURE_LEN: Final = 64
MINT_KEY_PREFIX: Final = 2
"""A mint's identity is an x-only key; written as a point it has the even y."""


class Reader:
    """Takes fields from the front of a payload.

    Args:
        payload: The payload of the message.
        what: What it is, for errors.
    """

    def __init__(self, payload: bytes, what: str) -> None:
        self._payload = payload
        self._what = what
        self._at = 0

    def take(self, count: int) -> bytes:
        """Returns the next bytes.

        Raises:
            RemoteProtocolError: There are fewer.
        """
        taken = self._payload[self._at : self._at + count]
        if len(taken) != count:
            raise RemoteProtocolError(
                f"{self._what} ends after {len(self._payload)} bytes, inside a field"
            )
        self._at += count
        return taken

    def unsigned(self, size: int) -> int:
        """Returns an integer of so many bytes."""
        return int.from_bytes(self.take(size), "little")

    def octets(self, *lengths: int) -> bytes:
        """Returns the bytes after a length of one byte.

        Raises:
            RemoteProtocolError: Their length is none of these.
        """
        length = self.unsigned(1)
        if length not in lengths:
            allowed = " or ".join(map(str, lengths))
            raise RemoteProtocolError(
                f"{self._what} has a field of {length} bytes where {allowed} belong"
            )
        return self.take(length)

    def text(self) -> str:
        """Returns the text after a length of one byte.

        Raises:
            RemoteProtocolError: It is not UTF-8.
        """
        try:
            return self.take(self.unsigned(1)).decode()
        except UnicodeDecodeError as error:
            raise RemoteProtocolError(f"{self._what} has a text that is not UTF-8") from error

    def finish(self) -> None:
        """Makes sure that nothing is left.

        Raises:
            RemoteProtocolError: Something is.
        """
        left = len(self._payload) - self._at
        if left:
            raise RemoteProtocolError(f"{left} bytes follow the last field of {self._what}")


def check_signature(mint: bytes, tag: str, payload: bytes, what: str) -> None:
    """Makes sure that a mint signed a payload, whose last 64 bytes are the signature.

    Args:
        mint: The mint's identity, 33 bytes.
        tag: The tag of the hash that is signed.
        payload: The whole message.
        what: What it is, for errors.

    Raises:
        RemoteProtocolError: It did not.
    """
    if len(mint) != POINT_LEN or mint[0] != MINT_KEY_PREFIX:
        raise RemoteProtocolError(f"{mint.hex()} is no mint's key: 02 and 32 bytes are expected")
    body, signature = payload[:-SIGNATURE_LEN], payload[-SIGNATURE_LEN:]
    try:
        good = PublicKeyXOnly(mint[1:]).verify(signature, tagged_hash(tag, body))
    except ValueError:
        good = False
    if not good:
        raise RemoteProtocolError(f"{what} is not signed by the mint {mint.hex()}")

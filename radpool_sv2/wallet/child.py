"""Derives the words of further wallets from those of one: BIP85.

A wallet's words give the words of as many others as are wanted, each by its number. From those of a
child nobody finds the parent's, or another child's.

Source: BIP32 (master key, hardened derivation), BIP85 (application 39, language 0, 12 words).
"""

from __future__ import annotations

import hmac
from hashlib import sha512
from typing import Final, NamedTuple

from coincurve import PrivateKey

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.wallet.seed import check_words, seed_of, words_of

__all__ = ["CHILD_MAX", "Node", "child_entropy", "child_words"]

HARDENED: Final = 1 << 31
CHILD_MAX: Final = HARDENED - 1
KEY_LEN: Final = 32
ENTROPY_LEN: Final = 16
"""Twelve words."""
PATH: Final = (83696968, 39, 0, 12)
"""BIP85, words, English, twelve of them; the number of the child follows."""


class Node(NamedTuple):
    """Is a private key of BIP32 with its chain code."""

    key: bytes
    chain_code: bytes

    @classmethod
    def master(cls, seed: bytes) -> Node:
        """Derives the first key of a seed."""
        digest = hmac.digest(b"Bitcoin seed", seed, sha512)
        return cls(digest[:KEY_LEN], digest[KEY_LEN:])

    def child(self, number: int) -> Node:
        """Derives a hardened child.

        Raises:
            LocalProtocolError: The number is out of range, or one of the 2^-127 without a key.
        """
        if not 0 <= number <= CHILD_MAX:
            raise LocalProtocolError(f"child {number}: numbers go from 0 to {CHILD_MAX}")
        index = (number + HARDENED).to_bytes(4, "big")
        digest = hmac.digest(self.chain_code, b"\x00" + self.key + index, sha512)
        try:
            key = PrivateKey(self.key).add(digest[:KEY_LEN]).secret
        except ValueError as error:
            raise LocalProtocolError(f"child {number} does not exist: take the next") from error
        return Node(key, digest[KEY_LEN:])

    def __repr__(self) -> str:
        return "Node()"


def child_entropy(master: Node, number: int) -> bytes:
    """Returns the 16 bytes that a child's words stand for."""
    node = master
    for step in (*PATH, number):
        node = node.child(step)
    return hmac.digest(b"bip-entropy-from-k", node.key, sha512)[:ENTROPY_LEN]


def child_words(words: str, number: int) -> str:
    """Returns the words of a child; takes some milliseconds by design.

    Args:
        words: The parent's.
        number: Which child, from 0 to 2^31 - 1.

    Raises:
        ConfigError: The words are wrong.
        LocalProtocolError: The number is out of range.
    """
    return words_of(child_entropy(Node.master(seed_of(check_words(words))), number))

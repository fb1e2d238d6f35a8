"""Turns randomness into words that people can write down, and words into the seed of a wallet.

The words alone bring back all money of a wallet, so a mistake in them must be found at once: the
last word carries a checksum, and what is no word of the list is named with the words that come
nearest.

The list stands in `english.txt`, as the BIP has it (MIT licence).

Source: BIP39.
"""

from __future__ import annotations

import difflib
import hashlib
import unicodedata
from functools import cache
from importlib.resources import files
from typing import Final

from radpool_sv2.errors import ConfigError, LocalProtocolError

__all__ = ["WORD_COUNTS", "check_words", "seed_of", "word_list", "words_of"]

WORD_COUNTS: Final = (12, 15, 18, 21, 24)
WORD_BITS: Final = 11
ROUNDS: Final = 2048
"""Of PBKDF2: set by the BIP."""
SUGGESTIONS: Final = 3


@cache
def word_list() -> tuple[str, ...]:
    """Returns the 2048 words; the place of a word is the number that it stands for."""
    return tuple((files(__package__) / "english.txt").read_text(encoding="ascii").split())


def words_of(entropy: bytes) -> str:
    """Writes randomness as words.

    Args:
        entropy: 16, 20, 24, 28 or 32 bytes; from the system's randomness, and used once.

    Returns:
        12 to 24 words with single spaces between them; the last one ends with the checksum.

    Raises:
        LocalProtocolError: The entropy has another length.
    """
    if len(entropy) not in range(16, 33, 4):
        raise LocalProtocolError(f"{len(entropy)} bytes of entropy: give 16, 20, 24, 28 or 32")
    checksum_bits = len(entropy) // 4
    checksum = hashlib.sha256(entropy).digest()[0] >> (8 - checksum_bits)
    number = int.from_bytes(entropy, "big") << checksum_bits | checksum
    count = (len(entropy) * 8 + checksum_bits) // WORD_BITS
    words = word_list()
    places = (number >> WORD_BITS * place & 0x7FF for place in range(count - 1, -1, -1))
    return " ".join(words[place] for place in places)


def check_words(text: str) -> str:
    """Reads words as a person typed them: any case, any space between them.

    Returns:
        The words as `words_of` writes them.

    Raises:
        ConfigError: They are not 12 to 24 words of the list, or the checksum does not fit.
    """
    words = unicodedata.normalize("NFKD", text).lower().split()
    if len(words) not in WORD_COUNTS:
        raise ConfigError(
            f"{len(words)} words: a wallet has {', '.join(map(str, WORD_COUNTS[:-1]))} or "
            f"{WORD_COUNTS[-1]}"
        )
    numbers = {word: place for place, word in enumerate(word_list())}
    number = 0
    for place, word in enumerate(words, 1):
        if word not in numbers:
            near = difflib.get_close_matches(word, word_list(), n=SUGGESTIONS)
            hint = f": is it {' or '.join(near)}?" if near else ""
            raise ConfigError(f"word {place} of {len(words)} is not on the list{hint}")
        number = number << WORD_BITS | numbers[word]
    checksum_bits = len(words) // 3
    entropy = (number >> checksum_bits).to_bytes(len(words) * 4 // 3, "big")
    checksum = hashlib.sha256(entropy).digest()[0] >> (8 - checksum_bits)
    if number & ((1 << checksum_bits) - 1) != checksum:
        raise ConfigError(
            "all of these are words of the list, but together they are no seed: one is wrong, or "
            "two are exchanged"
        )
    return " ".join(words)


def seed_of(words: str, passphrase: str = "") -> bytes:
    """Computes the seed of a wallet; takes some milliseconds by design.

    Args:
        words: Words as `check_words` returns them.
        passphrase: Has no checksum: another one is another wallet. Wallets of radpool use none.

    Returns:
        64 bytes.
    """
    salt = "mnemonic" + unicodedata.normalize("NFKD", passphrase)
    password = unicodedata.normalize("NFKD", words).encode()
    return hashlib.pbkdf2_hmac("sha512", password, salt.encode(), ROUNDS)

"""Signs, seals and verifies batches of shares.

Source: `spec/03-share-batch.md`.
"""

from collections.abc import Mapping
from typing import final

@final
class MspKey:
    """Signs batches: the identity of a Mining Service Provider. Wiped when it goes."""

    @staticmethod
    def generate() -> MspKey:
        """Makes a new key from the system's randomness."""

    @staticmethod
    def from_secret(secret: bytes) -> MspKey:
        """Reads the 32 bytes of the secret.

        Raises:
            ConfigError: If the bytes are no secret key.
        """

    def expose_secret(self) -> bytes:
        """Returns the 32 bytes of the secret, to be stored where only its owner can read."""

    def sign(self, hash: bytes) -> bytes:  # noqa: A002 - what is signed is a hash
        """Returns the BIP340 signature of a 32-byte hash, the same each time.

        Raises:
            LocalProtocolError: If the hash is not of 32 bytes.
        """

    @property
    def public(self) -> bytes:
        """The 32 bytes of the x-only public key (BIP340)."""

@final
class SealedBatch:
    """Is a batch of shares, signed and chained, ready to be made durable."""

    @property
    def blob(self) -> bytes:
        """The batch as it is stored and exported."""

    @property
    def hash(self) -> bytes:
        """The 32-byte tagged hash of the batch that the signature covers."""

    @property
    def root(self) -> bytes:
        """The 32-byte root of the Merkle-sum tree over its shares."""

    @property
    def count(self) -> int:
        """How many shares are in it."""

    @property
    def work(self) -> int:
        """The sum of their work in expected hashes, exact."""

    @property
    def value(self) -> int:
        """The sum of what they are worth, in the unit of the rule of weight."""

    @property
    def sums(self) -> list[tuple[int, int, int, int, int, int]]:
        """Per account, epoch and rail: `(account, epoch, rail, count, work, value)`."""

    @property
    def header_hashes(self) -> bytes:
        """The header hashes of its shares in order, 32 bytes each, internal byte order."""

    @property
    def share_keys(self) -> bytes:
        """What tells the shares apart in an index of all shares: 20 bytes each, in order.

        Four bytes of ntime, big-endian, and the first 16 of the header hash: shares of one moment
        have neighbouring keys.
        """

    @property
    def bodies(self) -> list[tuple[bytes, bytes, int, int]]:
        """The template bodies that its shares refer to: `(digest, body, height, price)`."""

    @property
    def channel_sums(self) -> list[tuple[int, int, int, int]]:
        """Per channel: `(connection, channel, count, work)`."""

@final
class BatchSummary:
    """Is what the verifier has recomputed from a blob and its template bodies."""

    @property
    def hash(self) -> bytes:
        """The 32-byte tagged hash of the batch."""

    @property
    def msp_key(self) -> bytes:
        """The 32-byte key whose signature over the hash was verified."""

    @property
    def sequence(self) -> int:
        """The number of the batch in its MSP's chain, from 0."""

    @property
    def previous(self) -> bytes:
        """The hash of the batch before it, 32 bytes."""

    @property
    def time_ms(self) -> int:
        """When it was sealed: milliseconds since 1970."""

    @property
    def epoch_min(self) -> int:
        """The lowest epoch that was not settled then: shares of earlier tags count in it."""

    @property
    def count(self) -> int:
        """How many shares are in it."""

    @property
    def work(self) -> int:
        """The sum of their work in expected hashes."""

    @property
    def value(self) -> int:
        """The sum of what they are worth; 0 in a batch without prices."""

    @property
    def weight(self) -> tuple[int, int, int] | None:
        """The rule that they are weighed by: mode, scale, base; None in a batch without prices."""

    @property
    def root(self) -> bytes:
        """The 32-byte root of the Merkle-sum tree."""

    @property
    def header_hashes(self) -> bytes:
        """The header hashes of its shares in order, 32 bytes each, internal byte order."""

    @property
    def template_shares(self) -> list[tuple[bytes, int, int, bytes]]:
        """Its shares by their templates: `(digest, price, lowest exponent, fingerprints)`.

        A fingerprint is the first 16 bytes of a header hash in internal byte order; they are in the
        order of the shares.
        """

@final
class Fingerprints:
    """Is a set of shares, each known by the first 16 bytes of its header hash.

    Args:
        fingerprints: Those to begin with, one behind the other; bytes left over are none.
    """

    def __new__(cls, fingerprints: bytes, /) -> Fingerprints: ...
    def meet(self, fingerprints: bytes, /) -> bool:
        """Returns whether one of these is in the set."""

    def add(self, fingerprints: bytes, /) -> None:
        """Adds these; those that are there already stay."""

def verify_batch(blob: bytes, bodies: Mapping[bytes, bytes]) -> BatchSummary:
    """Recomputes everything that a batch claims.

    Args:
        blob: A batch as `SealedBatch.blob` gives it.
        bodies: The template bodies by digest; all that the batch refers to.

    Raises:
        FaultyMSPError: If a share, a sum, the root or the signature is not as claimed.
    """

def template_sums(blob: bytes) -> list[tuple[bytes, int, bytes, int, int, int, int, int]]:
    """Sums a batch up by template and owner; nothing is verified.

    Returns:
        `(digest, price, commitment, epoch, rail, count, work, value)`; the epoch is the one that
        the shares count in.

    Raises:
        LocalProtocolError: If the bytes are no batch.
    """

def share_coinbase(blob: bytes, bodies: Mapping[bytes, bytes], index: int) -> bytes:
    """Writes the coinbase, without witness, of one share of a batch that was verified before.

    Args:
        blob: The batch.
        bodies: The template bodies by digest; the share's suffices.
        index: The share's place in the batch.

    Raises:
        LocalProtocolError: If the bytes are no batch, or it has no such share, or its template
            body is not given.
    """

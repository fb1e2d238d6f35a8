"""Makes and uses keys that no member holds alone, and links between members.

Key generation takes three rounds over a broadcast that gives all members the same messages:

1. each makes a `Dealing` and broadcasts its `message`; `Round1.decode` verifies those of others;
2. with all of them in a `Round1Set`, `Dealing.deal` gives the second message to broadcast;
3. with all of these, `Dealt.finish` gives a `KeyShare`, which is stored (`KeyShare.seal`), and then
   the member broadcasts its signature of `PublicKey.certificate_hash`. The key is used once
   `PublicKey.unsigned_by` is empty. Or `finish` gives complaints to broadcast, and everyone learns
   from `judge` who is at fault; the run is repeated without, under the next attempt number.

Signing takes one message of each of exactly `threshold` members: all make the same `Session` of
what they derived themselves, each signs it by its `NoncePool`, and anyone joins the shares.

Members are numbers: positions in the run's members, which are sorted by identity key. Points are 33
bytes, compressed; public keys 32 bytes, x-only; scalars big-endian; numbers in encodings
little-endian. Whatever takes over 20 µs runs without the GIL.

Source: `spec/16-threshold-keys.md`; `spec/12-federation-transport.md`; RFC 9591; RFC 9180; BIP340;
BIP341.
"""

from collections.abc import Sequence
from typing import Final, final

CHECKPOINT: Final[int]
"""Purpose of a key that signs certified state roots."""
TREASURY: Final[int]
"""Purpose of a key that spends the syndicate's outputs; the only one with tweaks."""
ORACLE: Final[int]
"""Purpose of a key that attests by announced nonces; it never signs in a `Session`."""
MEMBERS_MAX: Final[int]
"""Most members of one key."""
NONCES_MAX: Final[int]
"""Most unspent nonces of one pool."""
COMMITMENT_LEN: Final[int]
"""Bytes of a nonce commitment."""
COMPLAINT_LEN: Final[int]
"""Bytes of a complaint."""
SHARE_LEN: Final[int]
"""Bytes of a signature share."""
MESSAGE_LEN_MAX: Final[int]
"""Most bytes of one message on a link."""

@final
class IdentityKey:
    """Speaks for a member (BIP340). Wiped when it goes."""

    @staticmethod
    def generate() -> IdentityKey:
        """Makes a new key from the system's randomness."""

    @staticmethod
    def from_secret(secret: bytes) -> IdentityKey:
        """Reads the 32 bytes of the secret, big-endian.

        Raises:
            ConfigError: If the bytes are no secret key.
        """

    def expose_secret(self) -> bytes:
        """Returns the 32 bytes of the secret, to be stored where only its owner can read."""

    def sign(self, hash: bytes, /) -> bytes:  # noqa: A002 - what is signed is a hash
        """Returns the 64-byte signature of a 32-byte hash, the same each time.

        Raises:
            LocalProtocolError: If the hash is not of 32 bytes.
        """

    @property
    def public(self) -> bytes:
        """The 32 bytes of the x-only public key."""

def invalid_signatures(items: Sequence[tuple[bytes, bytes, bytes]]) -> list[int]:
    """Verifies many BIP340 signatures, on as many cores as they are worth.

    Args:
        items: Public key (32, x-only), hash (32), signature (64); what has another length is
            invalid.

    Returns:
        The positions of those that do not hold, ascending.
    """

@final
class Run:
    """Is one attempt to generate one key."""

    def __new__(
        cls,
        committee: bytes,
        purpose: int,
        attempt: int,
        threshold: int,
        members: Sequence[bytes],
    ) -> Run:
        """Names a run.

        Args:
            committee: The committee's id, 32 bytes.
            purpose: `CHECKPOINT`, `TREASURY` or `ORACLE`.
            attempt: 0 at first, one higher each time.
            threshold: How many sign, 2 to the number of members.
            members: Identity keys, 32 bytes each, ascending; 2 to `MEMBERS_MAX`.

        Raises:
            LocalProtocolError: If something does not fit; the message says what.
        """

    @property
    def id(self) -> bytes:
        """The 32-byte hash that every message of the run begins with."""

    @property
    def committee(self) -> bytes:
        """The committee's id, 32 bytes."""

    @property
    def purpose(self) -> int:
        """What the key is for."""

    @property
    def attempt(self) -> int:
        """The number of this attempt."""

    @property
    def threshold(self) -> int:
        """How many members sign."""

    @property
    def members(self) -> list[bytes]:
        """The members' identity keys, ascending."""

@final
class Round1:
    """Is a member's first message, verified."""

    @staticmethod
    def decode(run: Run, author: int, data: bytes) -> Round1:
        """Reads and verifies what the broadcast delivered of a member.

        Raises:
            FaultyMSPError: If the author must not have sent it; `evidence` is `data`.
            LocalProtocolError: If the run has no such member.
        """

    @property
    def author(self) -> int:
        """Who sent it."""

@final
class Round1Set:
    """Holds the first messages of all members."""

    def __new__(cls, run: Run, messages: Sequence[Round1]) -> Round1Set:
        """Joins the messages, in any order.

        Raises:
            LocalProtocolError: If one is missing or there twice.
        """

    @property
    def digest(self) -> bytes:
        """The 32-byte hash over all of them, which second messages name."""

@final
class Round2:
    """Is a member's second message; what is in its boxes only their recipients know."""

    @staticmethod
    def decode(round1: Round1Set, author: int, data: bytes) -> Round2:
        """Reads what the broadcast delivered of a member.

        Raises:
            FaultyMSPError: If the author must not have sent it; `evidence` is `data`.
            LocalProtocolError: If the run has no such member.
        """

    @property
    def author(self) -> int:
        """Who sent it."""

@final
class Dealing:
    """Is a member that has drawn its polynomial. In memory only; a crash spoils the run."""

    def __new__(cls, run: Run, index: int) -> Dealing:
        """Draws a polynomial and a sealing key.

        Raises:
            LocalProtocolError: If the run has no such member.
        """

    @property
    def message(self) -> bytes:
        """The first message, to be broadcast."""

    def deal(self, round1: Round1Set) -> tuple[Dealt, bytes]:
        """Deals the shares; returns the next state and the second message, to be broadcast.

        May be called once, whatever comes of it.

        Raises:
            LocalProtocolError: If it was called before, or the messages are of another run.
        """

@final
class Dealt:
    """Is a member that has dealt. In memory only."""

    def finish(self, round2: Sequence[Round2]) -> tuple[KeyShare | None, list[tuple[int, bytes]]]:
        """Opens, verifies and sums up the shares of all. May be called once.

        Args:
            round2: The second messages of all members, in any order.

        Returns:
            The share of the key, to be stored before anything is signed about it; or nothing and
            the complaints to broadcast, each with whom it is about.

        Raises:
            LocalProtocolError: If it was called before, or a message is missing.
        """

def judge(
    round1: Round1Set, round2: Sequence[Round2], accuser: int, complaint: bytes
) -> tuple[int, str]:
    """Judges a complaint by what the broadcast delivered; everyone comes to the same verdict.

    Args:
        round1: The first messages.
        round2: Second messages, among them that of the accused.
        accuser: Who broadcast the complaint.
        complaint: What it broadcast.

    Returns:
        Who is at fault, and for what: `unreadable-share` or `wrong-share` (the accused),
        `foreign-secret` or `false-complaint` (the accuser).

    Raises:
        FaultyMSPError: If the bytes are no complaint of this run: the accuser is at fault.
        LocalProtocolError: If the message of the accused is missing.
    """

@final
class PublicKey:
    """Is a key that some members of a run sign with together."""

    @staticmethod
    def from_broadcast(round1: Round1Set, round2: Sequence[Round2]) -> PublicKey:
        """Computes the key from what all members broadcast, as an outsider does.

        Raises:
            LocalProtocolError: If a second message is missing.
        """

    @staticmethod
    def decode(data: bytes) -> PublicKey:
        """Reads a key; only a certificate tells whether it is the members'.

        Raises:
            RemoteProtocolError: If the bytes are no key.
        """

    def encode(self) -> bytes:
        """Returns the run, the transcript, the group's key and the members' verifying shares."""

    @property
    def run(self) -> Run:
        """The run that generated it."""

    @property
    def transcript(self) -> bytes:
        """The 32-byte hash over all that was broadcast and came of it: the key's name."""

    @property
    def certificate_hash(self) -> bytes:
        """The 32-byte hash that each member signs with its identity key."""

    def unsigned_by(self, signatures: Sequence[bytes | None]) -> list[int]:
        """Tells which members have not validly signed the certificate; none, and it is certified.

        Args:
            signatures: One of 64 bytes or `None` for each member of the run.

        Raises:
            LocalProtocolError: If there are not as many as members.
        """

    @property
    def internal_key(self) -> bytes:
        """The 32-byte x-only key: BIP341's internal key."""

    def output_key(self, merkle_root: bytes | None = None) -> bytes:
        """Returns the 32-byte x-only key that signatures verify under.

        Args:
            merkle_root: The root of the script tree, 32 bytes; without one the internal key is
                the output key, as no script can be hidden in it.

        Raises:
            LocalProtocolError: If a root is given and the key is not the treasury's.
        """

    def verify(self, message: bytes, signature: bytes, merkle_root: bytes | None = None) -> None:
        """Verifies a signature of the group (BIP340).

        Args:
            message: What is signed, 32 bytes.
            signature: 64 bytes.
            merkle_root: As in `output_key`.

        Raises:
            RemoteProtocolError: If it does not hold.
            LocalProtocolError: If an argument has another length, or the key has no tweaks.
        """

@final
class KeyShare:
    """Is a member's share of a key. Wiped when it goes."""

    @staticmethod
    def open(owner: IdentityKey, data: bytes) -> KeyShare:
        """Decrypts a stored share and checks that it belongs to its key and its owner.

        Raises:
            ConfigError: If it is damaged, of another owner, or of another version.
        """

    def seal(self, owner: IdentityKey) -> bytes:
        """Encrypts the share for its owner's disk, differently each time.

        Raises:
            LocalProtocolError: If the share is another member's.
        """

    @property
    def public(self) -> PublicKey:
        """The key that it is a share of."""

    @property
    def index(self) -> int:
        """Whose share it is."""

@final
class NoncePool:
    """Holds a member's unspent nonces for one key, in memory only; it has no encoding.

    A nonce is gone before a share is computed with it. A forked child finds its pools empty.
    """

    def __new__(cls, share: KeyShare, boot: int) -> NoncePool:
        """Opens an empty pool.

        Args:
            share: The key share that signs.
            boot: Higher than that of any pool of this key before: durably raised at each start.
        """

    def commit(self, count: int) -> list[Commitment]:
        """Draws nonces of fresh randomness and returns their commitments. Slots count up from 0.

        Raises:
            LocalProtocolError: If more than `NONCES_MAX` would be unspent, or after a fork.
        """

    def sign(self, session: Session) -> bytes:
        """Spends the nonce that the session names and returns the share, `SHARE_LEN` bytes.

        For a session that was signed before, returns the same bytes again.

        Raises:
            LocalProtocolError: If the nonce is spent, burnt, of another boot or of another
                commitment; if another session of this number was signed; if the member does not
                sign in it; after a fork. No nonce is spent then.
        """

    def burn(self, slots: Sequence[int]) -> None:
        """Wipes nonces that will not be used; slots that hold none are let be."""

    def wipe(self) -> None:
        """Wipes all nonces, and forgets the shares that were given out."""

    @property
    def boot(self) -> int:
        """The boot counter."""

    @property
    def unspent(self) -> int:
        """How many nonces are unspent."""

def wipe_nonces() -> None:
    """Wipes all pools of the process; a forked child does so by itself."""

@final
class Commitment:
    """Is the public side of a nonce. Its points are read once: keep it, not its bytes."""

    @staticmethod
    def decode(data: bytes) -> Commitment:
        """Reads what a member published: boot (u64), slot (u64), hiding point, binding point.

        Raises:
            RemoteProtocolError: If it is no commitment.
        """

    def encode(self) -> bytes:
        """Returns the `COMMITMENT_LEN` bytes to publish."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    @property
    def boot(self) -> int:
        """The boot counter of the pool that it is of."""

    @property
    def slot(self) -> int:
        """Its number in that pool."""

@final
class Session:
    """Is one attempt of exactly `threshold` members to sign one message.

    Who makes it of the same data has the same session. A signer makes it of a message that it
    derived itself, never of one that it was sent.
    """

    def __new__(
        cls,
        key: PublicKey,
        message: bytes,
        signers: Sequence[tuple[int, Commitment]],
        number: int = 0,
        merkle_root: bytes | None = None,
    ) -> Session:
        """Names a session.

        Args:
            key: What is signed with.
            message: What is signed, 32 bytes.
            signers: Member and nonce commitment, ascending by member, as many as the threshold.
            number: Tells apart the sessions for one signature; 64 bits.
            merkle_root: As in `PublicKey.output_key`.

        Raises:
            LocalProtocolError: If something does not fit; always for an `ORACLE` key.
        """

    @property
    def id(self) -> bytes:
        """The 32-byte hash over all that fixes the session."""

    @property
    def signing_id(self) -> bytes:
        """The 32-byte hash over key, message and root: of all sessions for one signature."""

    @property
    def number(self) -> int:
        """The number among the sessions for one signature."""

    @property
    def signers(self) -> list[int]:
        """Who signs, ascending."""

    def verify_share(self, author: int, data: bytes) -> None:
        """Verifies the share that a member sent over its own link, or signed.

        Raises:
            FaultyMSPError: If it does not hold, or is of another session.
            LocalProtocolError: If the run has no such member.
        """

    def aggregate(self, shares: Sequence[tuple[int, bytes]]) -> tuple[bytes | None, list[int]]:
        """Joins the shares of all signers.

        Args:
            shares: Member and share.

        Returns:
            The 64-byte signature, verified; or nothing, and all whose shares do not hold.

        Raises:
            LocalProtocolError: If shares are missing, or one is of another session or of no signer.
        """

@final
class TransportKey:
    """Is the X25519 key of a member's links. Wiped when it goes."""

    @staticmethod
    def generate() -> TransportKey:
        """Makes a new key from the system's randomness."""

    @staticmethod
    def from_secret(secret: bytes) -> TransportKey:
        """Reads the 32 bytes of the secret.

        Raises:
            ConfigError: If there are more or fewer.
        """

    def expose_secret(self) -> bytes:
        """Returns the 32 bytes of the secret, to be stored where only its owner can read."""

    @property
    def public(self) -> bytes:
        """The 32 bytes of the public key."""

@final
class Link:
    """Is one end of a Noise XK link between members; sockets are for the caller.

    What `receive` and `send` return must reach the other end in the order of the calls. After a
    `RemoteProtocolError` the link is closed and nothing more is to be sent.
    """

    @staticmethod
    def dial(key: TransportKey, remote: bytes, committee: bytes) -> tuple[Link, bytes]:
        """Dials a member; returns the link and the bytes to send first.

        Args:
            key: Our key.
            remote: The transport key of whom we dial, 32 bytes.
            committee: The committee's id, 32 bytes.

        Raises:
            LocalProtocolError: If nothing can be agreed with the remote key.
        """

    @staticmethod
    def accept(key: TransportKey, allowed: Sequence[bytes], committee: bytes) -> Link:
        """Waits to be dialled; who is not allowed is told nothing.

        Args:
            key: Our key.
            allowed: The transport keys of those who may dial, 32 bytes each.
            committee: The committee's id, 32 bytes.
        """

    def receive(self, data: bytes) -> tuple[bytes, list[bytes]]:
        """Takes bytes as they come, in any pieces.

        Returns:
            Bytes to send at once, if any, and whole messages in order.

        Raises:
            RemoteProtocolError: If the other end is a stranger, or breaks the protocol.
            LocalProtocolError: If the link is closed.
        """

    def send(self, messages: Sequence[bytes]) -> bytes:
        """Encrypts messages, in order, 1 to `MESSAGE_LEN_MAX` bytes each.

        Raises:
            LocalProtocolError: If one is empty or too long, and none is encrypted then; or the
                link is not open.
        """

    def close(self) -> None:
        """Forgets keys and buffers."""

    @property
    def is_open(self) -> bool:
        """Whether the handshake is over and the link not closed."""

    @property
    def remote(self) -> bytes | None:
        """The transport key of the other end, once it is known."""

    @property
    def handshake_hash(self) -> bytes | None:
        """The 32-byte hash over the handshake, once it is over; another for each link."""

"""Blinds, signs, proves and verifies tokens, in batches.

Points are 33 bytes, compressed; scalars are 32 bytes, big-endian, above 0 and below the curve's
order. Every batch runs without the GIL, on as many cores as it is worth. Nothing here draws
randomness but `MintSeed.generate`: the same input has the same output, byte by byte.

Source: NUT-00, NUT-02, NUT-12, NUT-13; `spec/06-work-tokens.md`.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import final

from radpool_sv2._native.engine import ShareBatch
from radpool_sv2._native.ledger import MspKey

def hash_to_curve(messages: Sequence[bytes]) -> list[bytes]:
    """Maps each message to a point whose logarithm nobody knows.

    Source: NUT-00.
    """

def check_points(points: Sequence[bytes]) -> list[bool]:
    """Tells of each whether it is a point: 33 bytes, 02 or 03 first, x on the curve."""

def keyset_id(
    keys: Sequence[tuple[int, bytes]],
    unit: str,
    input_fee_ppk: int = 0,
    final_expiry: int | None = None,
) -> bytes:
    """Computes the 33-byte id of public keys by amount, version 2.

    Args:
        keys: Amount and compressed public key, in any order.
        unit: The unit; it is lower-cased.
        input_fee_ppk: The fee per thousand inputs; 0 is none.
        final_expiry: Seconds since 1970; 0 is none.

    Raises:
        LocalProtocolError: If there is no key, an amount has two, or one is no point.

    Source: NUT-02.
    """

def blind(items: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """Blinds messages with given factors: `hash_to_curve(message) + r * G`.

    For who chooses blinding factors by other means than a `WalletSeed`. A factor is used once.

    Args:
        items: Message and blinding factor.

    Raises:
        LocalProtocolError: If a factor is no scalar.
    """

def unblind(items: Sequence[tuple[bytes, bytes, bytes]]) -> list[bytes]:
    """Unblinds signatures with given factors: `C_ - r * A`. Verifies no proof.

    Args:
        items: Blind signature, blinding factor and the mint's public key.

    Raises:
        LocalProtocolError: If a point or a factor is none.
    """

def verify_signature_dleqs(
    items: Sequence[tuple[bytes, bytes, bytes, bytes, bytes]],
) -> list[bool]:
    """Tells of each blind signature whether its proof holds; malformed ones do not.

    Args:
        items: The announced key `A`, blinded message `B_`, blind signature `C_`, challenge `e`,
            response `s`.

    Source: NUT-12, "Alice verifies".
    """

def verify_proof_dleqs(
    items: Sequence[tuple[str, bytes, bytes, bytes, bytes, bytes]],
) -> list[bool]:
    """Tells of each unblinded token whether its proof holds; malformed ones do not.

    Args:
        items: Secret, signature `C`, challenge `e`, response `s`, blinding factor `r`, and the
            announced key `A`.

    Source: NUT-12, "Carol verifies".
    """

def denominate(
    residue: int, value: int, z0: int, unit_value: int | None = None
) -> tuple[int | None, int]:
    """Splits a share's value and its claimant's residue into one token and what stays.

    Args:
        residue: What the claimant has not been given tokens for.
        value: What the share is worth.
        z0: The exponent of the token of one unit.
        unit_value: What that costs; None where values are work, and it is `2^z0` hashes.

    Returns:
        The exponent z of the largest token that costs no more than the sum (`None` below one unit;
        at most `z0 + 63` and 120), and the residue that stays.

    Raises:
        LocalProtocolError: If the sum exceeds 2^128 - 1, z0 exceeds 120, or a unit costs
            nothing.
    """

@final
class MintSeed:
    """Is the seed that all of a mint's keys come of. Wiped when it goes."""

    @staticmethod
    def generate() -> MintSeed:
        """Makes a new seed from the system's randomness."""

    @staticmethod
    def from_secret(secret: bytes) -> MintSeed:
        """Reads the 32 bytes of the seed.

        Raises:
            ConfigError: If there are not 32.
        """

    def expose_secret(self) -> bytes:
        """Returns the 32 bytes of the seed, to be stored where only its owner can read."""

@final
class KeysetKeys:
    """Is the mint's keys of one keyset. Wiped when it goes."""

    @staticmethod
    def derive(
        seed: MintSeed, unit: str, number: int, first_exponent: int, count: int
    ) -> KeysetKeys:
        """Derives the keys of keyset `number` for `count` amounts from `2^first_exponent` on.

        Raises:
            LocalProtocolError: If `count` is 0 or an amount exceeds 2^63.
        """

    @staticmethod
    def from_secrets(secrets: Sequence[tuple[int, bytes]], unit: str) -> KeysetKeys:
        """Makes a keyset of an amount and a secret scalar each, as another mint may have them.

        Raises:
            LocalProtocolError: If there is no key, an amount has two, or a secret is no scalar.
        """

    @property
    def id(self) -> bytes:
        """The 33-byte id, version 2, without fee and expiry."""

    @property
    def public(self) -> list[tuple[int, bytes]]:
        """Amount and compressed public key, by ascending amount."""

    def sign(self, items: Sequence[tuple[int, bytes]]) -> list[tuple[bytes, bytes, bytes]]:
        """Signs blinded messages; the same message and amount have the same answer for ever.

        Args:
            items: Amount and blinded message `B_`.

        Returns:
            Blind signature `C_`, challenge `e` and response `s` of each.

        Raises:
            LocalProtocolError: If the keyset has no key for an amount, or a message is no point
                (`check_points` tells beforehand). Nothing is signed then.
        """

    def verify(self, proofs: Sequence[tuple[int, str, bytes]]) -> list[bool]:
        """Tells of each token whether this keyset signed it.

        An amount without a key and a malformed signature are `False`.

        Args:
            proofs: Amount, secret and unblinded signature `C`.
        """

    @staticmethod
    def ys(secrets: Sequence[str]) -> list[bytes]:
        """Returns the point `Y` of each secret, by which spent tokens are known."""

@final
class DerivedOutputs:
    """Is what a wallet keeps and sends for tokens to be, by ascending counter."""

    @property
    def secrets(self) -> list[str]:
        """The secrets: 64 lower-case hexadecimal digits each. Never logged, never sent unspent."""

    @property
    def blinded(self) -> list[bytes]:
        """The blinded messages `B_` for the mint."""

    def __len__(self) -> int: ...

@final
class WalletSeed:
    """Is the seed that all of a wallet's secrets come of. Wiped when it goes."""

    @staticmethod
    def from_seed(seed: bytes) -> WalletSeed:
        """Takes the 64 bytes that BIP39 makes of the seed words.

        Raises:
            ConfigError: If there are not 64.
        """

    def derive(self, keyset_id: bytes, start: int, count: int) -> DerivedOutputs:
        """Derives the outputs of the counters from `start` on; each is used once.

        The counters must be durably reserved before a blinded message leaves the machine.

        Raises:
            LocalProtocolError: If the keyset id is not of version 2, or a counter exceeds 64 bits.

        Source: NUT-13.
        """

    def unblind(
        self, keyset_id: bytes, items: Sequence[tuple[int, bytes, bytes, bytes, bytes]]
    ) -> list[bytes | None]:
        """Verifies the mint's proofs and unblinds its signatures.

        Args:
            keyset_id: The keyset that the counters belong to.
            items: Counter, blind signature `C_`, challenge `e`, response `s`, and the announced
                public key `A` for the amount that the mint says it signed.

        Returns:
            The token's signature `C`, or `None` when the proof is missing, malformed or wrong.

        Raises:
            LocalProtocolError: If the keyset id is not of version 2.
        """

    def expose_blinding_factors(self, keyset_id: bytes, counters: Sequence[int]) -> list[bytes]:
        """Returns the blinding factors of counters, which let a third party verify a token.

        Never to the mint, which could tell by them which signature the token was.

        Raises:
            LocalProtocolError: If the keyset id is not of version 2.
        """

@final
class ClaimSlot:
    """Is what a claim is admitted by: one keyset that claims may name."""

    def __new__(
        cls,
        short: bytes,
        number: int,
        account: int,
        epoch: int,
        height: int | None,
        z0: int,
        state: str,
        unit_value: int = ...,
    ) -> ClaimSlot:
        """Describes a keyset.

        Args:
            short: The first 8 bytes of its id.
            number: Its number.
            account: The account of its policy: shares of other accounts have no such keyset.
            epoch: Its epoch.
            height: Its height, where it belongs to one (policy `network`); it decides then, and
                the epoch does not.
            z0: Its unit is `2^z0` hashes.
            state: `open`: it takes shares of its epoch (height) and of earlier ones; `closed`: of
                its own only, for the time of grace; `stale`: none any more.
            unit_value: What a unit costs of what shares are worth; 0 where shares count their work,
                and the unit is `2^z0` hashes.

        Raises:
            LocalProtocolError: If an argument is out of range.
        """

@final
class Claimants:
    """Knows whose residue the shares of a channel join, by connection and channel."""

    def __new__(cls) -> Claimants:
        """Knows of no claim key yet."""

    def __len__(self) -> int:
        """Returns how many channels have a claim key."""

    def put(self, connection: int, channel: int, key: bytes) -> None:
        """Learns the claim key of a channel.

        Raises:
            LocalProtocolError: If it has not 33 bytes.
        """

    def forget(self, connection: int, channel: int) -> bool:
        """Forgets the claim key of a channel; returns whether it had one."""

    def clear(self) -> None:
        """Forgets all."""

    def of(self, connection: int, channel: int) -> bytes:
        """Returns whose residue it is: the claim key, or a name of the channel's own.

        Either has 33 bytes. A claim key begins with 2 or 3, a channel's name with 0 and 1.
        """

@final
class ClaimBatch:
    """Is the claims of a batch of shares, from the wire to their receipts.

    The order is: make it, `rows` inside the transaction, `refuse` and `standing` as often as need
    be, `sign` once that is durable, `replies`.
    Only shares are in a batch, and they are proofs of work that were checked: nothing is multiplied
    for less. What `rows` did not hand out is never signed.
    """

    def __new__(
        cls,
        batch: ShareBatch,
        *,
        extension_type: int,
        submit_type: int,
        slots: Sequence[ClaimSlot],
        weight: tuple[int, int, int] | None = None,
        claimants: Claimants | None = None,
    ) -> ClaimBatch:
        """Reads and admits the claims of all shares, in one call.

        A claim is what follows the fields of the extension's own message `submit_type`, or the one
        TLV of the extension (field 1) behind the core message. Of two shares with one blinded
        message the first has it.

        Args:
            batch: The shares.
            extension_type: The number of the ecash extension.
            submit_type: Its message that carries a share.
            slots: The keysets that claims may name.
            weight: The rule that prices are made by: mode, scale, base. None where prices say
                nothing of value: keysets with a unit value take no claims then.
            claimants: The claim keys of channels; None when there are none.

        Raises:
            LocalProtocolError: If two slots have the same short id, or there is no such rule.
        """

    def __len__(self) -> int:
        """Returns how many shares brought a claim, whatever became of it."""

    @property
    def indices(self) -> list[int]:
        """The indices in the batch of the shares that brought a claim, ascending."""

    @property
    def statuses(self) -> list[tuple[int, str]]:
        """Index and error code of the claims that were refused, ascending.

        Shares that `rows` left out are not among them: the ledger refuses those. The others are
        good shares: whoever submits one again, with a sound claim, gets its token.
        """

    @property
    def residue_keys(self) -> list[tuple[int, bytes]]:
        """Account and claimant of all whose residues the batch depends on and changes."""

    @property
    def residues(self) -> list[tuple[tuple[int, bytes], int]]:
        """What they have after the batch, of all whose claims `rows` handed out and stand."""

    @property
    def values(self) -> list[tuple[int, int]]:
        """What the shares of claims that stand are worth together, by keyset number.

        Only of keysets that have a unit value.
        """

    @property
    def standing(self) -> list[tuple[bytes, int, int, int, int]]:
        """The rows of claims that were handed out and not refused; see `rows`."""

    def rows(
        self, excluded: Sequence[int], residues: Mapping[tuple[int, bytes], int] | None = None
    ) -> list[tuple[bytes, int, int, int, int]]:
        """Hands out the claims to be made durable; called again when a transaction starts anew.

        What `refuse` said before is forgotten.

        Args:
            excluded: Indices of the shares that the batch is sealed without.
            residues: What claimants have before the batch; whoever is not in it has nothing.

        Returns:
            Blinded message, keyset number, z of the token, the share's place in the sealed batch,
            and its index in this batch. z is 255 for a share that brings no token and whose value
            joins a residue; shares that count their work and are below a unit have no row.
        """

    def refuse(self, indices: Sequence[int], code: str) -> None:
        """Refuses claims that `rows` handed out, by their index.

        The tokens of others of the same claimants may change by it: `standing` has them.

        Raises:
            LocalProtocolError: If a share has no claim that was handed out, or nothing is refused
                by that code. Nothing is refused then.
        """

    def sign(
        self,
        keys: Mapping[int, KeysetKeys],
        *,
        lazy: AbstractSet[tuple[int, int]] | None = None,
    ) -> None:
        """Signs every claim that was handed out and not refused.

        To be called once they are durable. The same claims have the same signatures for ever.

        Args:
            keys: The keys by the keyset's number; those that the claims need.
            lazy: `(connection, channel)` of channels whose claims are signed when they are fetched.

        Raises:
            LocalProtocolError: If keys are missing. Nothing is signed then.
        """

    def replies(
        self, key: MspKey, roots: Mapping[tuple[int, int], bytes] | None = None
    ) -> tuple[list[tuple[int, bytes]], list[tuple[tuple[int, int], bytes]]]:
        """Writes the receipts: payloads of SubmitSharesEcashExtended.Success.

        Each has up to 600 receipts of one channel, in the order of its shares. Shares that came by
        the core message are counted by the core answer, and have payloads of their own with a
        count of 0.

        Args:
            key: Signs the running hashes of lazy channels.
            roots: `(connection, channel)` of lazy channels, and where their running hash stands: 32
                zero bytes before the first receipt.

        Returns:
            Connection and payload, in order; and the roots as they stand now.

        Raises:
            LocalProtocolError: If a claim of another channel is not signed, or a root has not 32
                bytes.
        """

def claims_root(packed: bytes) -> tuple[bytes, int]:
    """Computes the root of the Merkle-sum tree over a keyset's claims, and the sum of their units.

    Args:
        packed: 73 bytes for each claim, in order: share hash (internal order), blinded message,
            units (u64, little-endian).

    Returns:
        The 32-byte root, zeros without claims, and the units.

    Raises:
        LocalProtocolError: If the length is no multiple of 73.
    """

def claims_path(packed: bytes, index: int) -> list[tuple[bytes, int]]:
    """Returns the siblings of a claim from the leaves up: hash and units of each.

    Raises:
        LocalProtocolError: If there is no such claim, or the length is no multiple of 73.
    """

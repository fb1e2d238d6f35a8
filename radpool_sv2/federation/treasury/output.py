"""Builds the syndicate's output: the committee's key, and what is left when it cannot sign.

The key path is the treasury key: a quorum spends at once, and nobody sees that it was more than one
signer. When fewer are left, the first script is open after some time: as many identity keys as are
sure to have an honest one among them. No script that the members' keys open asks for fewer: whoever
could take all alone would only have to hold out. A recovery set of other keys has a second script.

The scripts are miniscript, so `descriptor` is all that a wallet needs to find and to spend them.

Source: `spec/17-federation-coinbase.md`, "Output".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from coincurve import PublicKeyXOnly

from radpool_sv2.chain.taproot import TapLeaf, Taproot
from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.federation.codec import KEY_LEN, SIGNATURE_LEN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["RECOVERY_BLOCKS_MAX", "RecoveryLeaf", "RecoverySet", "SyndicateOutput", "check_key"]

RECOVERY_BLOCKS_MAX: Final = 0xFFFF
"""BIP68 counts blocks in 16 bits."""

RECOVERY_KEYS_MAX: Final = 128
"""As many as a committee has members."""

OP_1: Final = 0x51
OP_CHECKSIG: Final = 0xAC
OP_CHECKSIGADD: Final = 0xBA
OP_NUMEQUALVERIFY: Final = 0x9D
OP_CHECKSEQUENCEVERIFY: Final = 0xB2


@dataclass(frozen=True)
class RecoverySet:
    """Is who may take the money when even the members' keys are lost.

    Attributes:
        threshold: How many of them sign.
        keys: Their keys, 32 bytes x-only each.
    """

    threshold: int
    keys: tuple[bytes, ...]


@dataclass(frozen=True)
class RecoveryLeaf:
    """Is a script by which some keys spend after a time.

    Attributes:
        blocks: How many confirmations the output needs.
        threshold: How many keys sign.
        keys: The keys, 32 bytes x-only each, in the script's order.
    """

    blocks: int
    threshold: int
    keys: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.blocks <= RECOVERY_BLOCKS_MAX:
            raise LocalProtocolError(
                f"a recovery waits for 1 to {RECOVERY_BLOCKS_MAX} blocks, not {self.blocks}"
            )
        if not 1 <= self.threshold <= len(self.keys) <= RECOVERY_KEYS_MAX:
            raise LocalProtocolError(
                f"{self.threshold} of {len(self.keys)} keys: a recovery has 1 to "
                f"{RECOVERY_KEYS_MAX} keys and needs at least one of them"
            )
        for key in self.keys:
            check_key(key)

    @property
    def leaf(self) -> TapLeaf:
        """The script as a leaf."""
        script = b""
        for number, key in enumerate(self.keys):
            check = OP_CHECKSIGADD if number else OP_CHECKSIG
            script += bytes([KEY_LEN]) + key + bytes([check])
        script += _push_number(self.threshold) + bytes([OP_NUMEQUALVERIFY])
        return TapLeaf(script + _push_number(self.blocks) + bytes([OP_CHECKSEQUENCEVERIFY]))

    @property
    def miniscript(self) -> str:
        """The script as wallets read it."""
        keys = ",".join(key.hex() for key in self.keys)
        return f"and_v(v:multi_a({self.threshold},{keys}),older({self.blocks}))"

    def items(self, signatures: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
        """Returns what a witness has in front of the script.

        Args:
            signatures: By key, 64 bytes each; of more than the threshold, some are left out.

        Raises:
            LocalProtocolError: They are too few, or of other lengths.
        """
        signers = [key for key in self.keys if key in signatures][: self.threshold]
        if len(signers) < self.threshold:
            raise LocalProtocolError(
                f"{self.threshold} of the script's keys must sign, {len(signers)} have"
            )
        if any(len(signatures[key]) != SIGNATURE_LEN for key in signers):
            raise LocalProtocolError(f"a signature has {SIGNATURE_LEN} bytes")
        # The script takes the first key's from the top.
        return tuple(signatures[key] if key in signers else b"" for key in reversed(self.keys))


@dataclass(frozen=True)
class SyndicateOutput:
    """Is where a federation's blocks pay.

    Attributes:
        taproot: The key and its script tree.
        leaves: The scripts: the members', and that of the recovery set if there is one.
    """

    taproot: Taproot
    leaves: tuple[RecoveryLeaf, ...]

    @classmethod
    def of(
        cls,
        key: bytes,
        members: Sequence[bytes],
        faulty_max: int,
        recovery_blocks: tuple[int, int],
        recovery: RecoverySet | None = None,
    ) -> SyndicateOutput:
        """Builds the output.

        Args:
            key: The treasury's internal key, 32 bytes x-only.
            members: The committee's identity keys, in its order.
            faulty_max: How many of them may be faulty.
            recovery_blocks: After how many blocks members may spend, and the recovery set.
            recovery: Who that is; without it there is no second script.

        Raises:
            LocalProtocolError: A key is none, or a number is out of bounds.
        """
        if recovery_blocks[0] >= recovery_blocks[1]:
            raise LocalProtocolError(
                "the recovery set waits for longer than the members: "
                f"{recovery_blocks[1]} blocks are not more than {recovery_blocks[0]}"
            )
        leaves = [RecoveryLeaf(recovery_blocks[0], faulty_max + 1, tuple(members))]
        if recovery is not None:
            leaves.append(RecoveryLeaf(recovery_blocks[1], recovery.threshold, recovery.keys))
        tree = leaves[0].leaf if len(leaves) == 1 else (leaves[0].leaf, leaves[1].leaf)
        return cls(Taproot.of(key, tree), tuple(leaves))

    @property
    def script(self) -> bytes:
        """The output script, 34 bytes."""
        return self.taproot.script

    @property
    def merkle_root(self) -> bytes:
        """What the treasury key is tweaked with to sign, 32 bytes."""
        return self.taproot.merkle_root

    @property
    def output_key(self) -> bytes:
        """What signatures by the key path verify under, 32 bytes x-only."""
        return self.taproot.output_key

    @property
    def descriptor(self) -> str:
        """The output as wallets read it, without a checksum.

        Source: BIP380, BIP386, BIP387.
        """
        scripts = ",".join(leaf.miniscript for leaf in self.leaves)
        if len(self.leaves) > 1:
            scripts = f"{{{scripts}}}"
        return f"tr({self.taproot.internal_key.hex()},{scripts})"

    def recovery_witness(
        self, leaf: RecoveryLeaf, signatures: Mapping[bytes, bytes]
    ) -> tuple[bytes, ...]:
        """Builds the witness that spends by a script; raises as `RecoveryLeaf.items`."""
        script = leaf.leaf
        return *leaf.items(signatures), script.script, self.taproot.control_block(script)


def check_key(key: bytes) -> None:
    """Checks that outputs can be made of an x-only key.

    Raises:
        LocalProtocolError: It is none.
    """
    if len(key) != KEY_LEN:
        raise LocalProtocolError(f"what has {len(key)} bytes is no key: it has {KEY_LEN}")
    try:
        PublicKeyXOnly(key)
    except ValueError as error:
        raise LocalProtocolError(f"{key.hex()} is no key: {error}") from error


def _push_number(number: int) -> bytes:
    """Writes a number from 1 on as a script pushes it: in the shortest way."""
    if number <= 16:
        return bytes([OP_1 - 1 + number])
    # The highest bit would be the sign.
    data = number.to_bytes(number.bit_length() // 8 + 1, "little")
    return bytes([len(data)]) + data

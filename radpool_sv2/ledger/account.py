"""Names whom the ledger owes."""

from __future__ import annotations

from dataclasses import dataclass

from radpool_sv2.units import tagged_hash

__all__ = ["SALT_LEN", "Account", "commitment_of"]

SALT_LEN = 16


@dataclass(frozen=True, slots=True)
class Account:
    """Is an account, open for ever.

    Attributes:
        id: The ledger's number of it.
        name: What miners give when they open a channel.
        salt: What its owner needs, besides the name, to show that a commitment is theirs.
        commitment: What owner tags commit to, 32 bytes.
    """

    id: int
    name: str
    salt: bytes
    commitment: bytes


def commitment_of(name: str, salt: bytes) -> bytes:
    """Computes the owner commitment of an account.

    Args:
        name: The account's name.
        salt: 16 random bytes: without them anybody could try names.

    Source: `spec/02-owner-tag.md`, "Owner commitment".
    """
    assert len(salt) == SALT_LEN, "the salt has a fixed length, so that no two inputs hash alike"
    return tagged_hash("radpool/account", name.encode(), salt)

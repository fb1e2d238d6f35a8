"""Writes what a mint signs about a keyset when its price is final: the settlement statement.

It says which settlements paid the keyset, what each of them divided over how much work, which
tokens were claimed, and commits to every claim by a Merkle-sum tree. With the share batches of the
same epochs anyone recomputes all of it; with a path, a miner finds an own claim in it.

A keyset has one statement from the moment its price is final until it expires; the one at expiry
adds what was issued and what is carried on.

Source: `spec/07-ecash-epochs.md`, "Statement".
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from radpool_sv2._native.ecash import claims_root
from radpool_sv2.errors import InternalError
from radpool_sv2.units import HASH_LEN, tagged_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from radpool_sv2.ecash.archive import Archive

__all__ = [
    "CLAIM_RECORD_LEN",
    "Allocation",
    "CashOutRow",
    "ClaimRow",
    "ClaimTree",
    "Inclusion",
    "KeysetAccount",
    "SignedStatement",
    "StatementKey",
    "build_statement",
    "cash_out_leaves",
    "cash_out_record",
    "claim_leaves",
    "claim_record",
]

FORMAT_WORK = "radpool-ecash-statement/1"
FORMAT_VALUE = "radpool-ecash-statement/2"
"""Of keysets whose tokens cost value; those whose tokens are work have the first."""

NO_TOKEN = 255
"""The exponent of a claim whose share brought no token: its value joined a residue."""

CASH_OUT_RECORD_LEN = 1 + 33

NO_ROOT = bytes(32)
"""The root over no claims."""

CLAIM_RECORD_LEN = 8 + 2 + 1 + 33

BLINDED_AT = HASH_LEN
UNITS_AT = BLINDED_AT + 33
LEAF_LEN = UNITS_AT + 8
NODE_LEN = HASH_LEN + 16

Node = tuple[bytes, int]
"""A node of the Merkle-sum tree: its hash and the units below it."""


class StatementKey(Protocol):
    """Is what a statement needs of the MSP's key."""

    @property
    def public(self) -> bytes:
        """The x-only public key, 32 bytes."""

    def sign(self, hash: bytes) -> bytes:  # noqa: A002 - the native class calls it so
        """Returns the BIP340 signature of a 32-byte hash."""


class ClaimRow(NamedTuple):
    """Is a share's claim as the store has it: where the share is, its exponent, its `B_`.

    The exponent is that of its token, or 255 when its value joined a residue.
    """

    sequence: int
    place: int
    exponent: int
    blinded: bytes


class CashOutRow(NamedTuple):
    """Is a token that was given for a residue: its exponent, its `B_`."""

    exponent: int
    blinded: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """Is what one settlement gave one keyset; a reversal has the opposite signs.

    Attributes:
        settlement: The ledger's number of the settlement.
        reverses: The payment that it takes back; None for a payment.
        block: The block that pays, internal byte order.
        height: Its height.
        theta_sats: What the settlement paid the policy's account.
        fee_msat: What the mint kept of it.
        carry_in_msat: What was carried to it from before.
        work: The units of all keysets that it was divided over, or what they cost.
        allocated_msat: What this keyset got.
        by_value: Whether it was divided by what units cost.
    """

    settlement: int
    reverses: int | None
    block: bytes
    height: int
    theta_sats: int
    fee_msat: int
    carry_in_msat: int
    work: int
    allocated_msat: int
    by_value: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class KeysetAccount:
    """Is what the mint's books say about a keyset whose price is final.

    Attributes:
        id: The keyset id, 33 bytes.
        number: The mint's number of it: ties of a division go to the lowest.
        policy: The name of its policy.
        commitment: The owner commitment that the tags of its shares carry.
        z0: The exponent of one unit.
        epochs: The epochs whose shares it takes, ascending.
        state: `final`, `void` or `expired`.
        price_num: Announced price in msat of `price_den` units, policy `fixed` only; 0 otherwise.
        price_den: See `price_num`.
        allocations: What settlements gave it, in their order.
        theta_msat: The sum of them.
        work: The units of all its claims.
        issued_msat: What was paid out for its tokens; None before it expires.
        carry_out_msat: What nobody redeemed; None before it expires.
        unit_value: What a unit costs of what shares are worth; 0 where shares count their work.
        value: What the shares with claims of it are worth.
        residue_in: What the residues of its policy were together by earlier keysets.
        previous: The last of these that has claims; None for the first.
    """

    id: bytes
    number: int
    policy: str
    commitment: bytes
    z0: int
    epochs: tuple[int, ...]
    state: str
    price_num: int = 0
    price_den: int = 0
    allocations: tuple[Allocation, ...]
    theta_msat: int
    work: int
    issued_msat: int | None = None
    carry_out_msat: int | None = None
    unit_value: int = 0
    value: int = 0
    residue_in: int = 0
    previous: bytes | None = None

    @property
    def residue_out(self) -> int:
        """What the residues of its policy are together behind it."""
        return self.residue_in + self.value - self.work * self.unit_value


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """Is a signed statement: the canonical document, and the hash that is signed."""

    document: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Inclusion:
    """Proves that a claim is in a statement's root.

    Attributes:
        keyset: The keyset id.
        index: The claim's place among the keyset's claims, from 0.
        count: How many claims there are.
        share_hash: The header hash of its share, internal byte order.
        units: What it is worth.
        path: The siblings on the way to the root, from the leaves up.
    """

    keyset: bytes
    index: int
    count: int
    share_hash: bytes
    units: int
    path: tuple[Node, ...]


def build_statement(
    account: KeysetAccount,
    claims: Sequence[ClaimRow],
    archive: Archive,
    key: StatementKey,
    cash_outs: Sequence[CashOutRow] = (),
) -> SignedStatement:
    """Writes and signs the statement of a keyset.

    Args:
        account: What the books say.
        claims: The claims of its shares, ascending by sequence and place.
        archive: Where the shares are.
        key: The MSP's.
        cash_outs: The tokens that were given for residues, in their order.

    Raises:
        InternalError: The books do not say the same as the claims.
        StoreError: A share cannot be read.
    """
    leaves = (
        *claim_leaves(account.z0, claims, archive),
        *cash_out_leaves(account.z0, cash_outs),
    )
    root, work = claims_root(_packed(leaves))
    if work != account.work:
        raise InternalError(
            f"keyset {account.id.hex()}: its claims are worth {work} units, the books say "
            f"{account.work}"
        )
    given = sum(allocation.allocated_msat for allocation in account.allocations)
    if given != account.theta_msat:
        raise InternalError(
            f"keyset {account.id.hex()}: settlements gave it {given} msat, the books say "
            f"{account.theta_msat}"
        )
    if account.residue_out < 0:
        raise InternalError(
            f"keyset {account.id.hex()}: its tokens cost {-account.residue_out} more than shares "
            "have earned"
        )
    statement = {
        "format": FORMAT_VALUE if account.unit_value else FORMAT_WORK,
        "msp_key": key.public.hex(),
        "keyset": account.id.hex(),
        "number": account.number,
        "policy": account.policy,
        "commitment": account.commitment.hex(),
        "z0": account.z0,
        "epochs": list(account.epochs),
        "state": account.state,
        "price_num": account.price_num,
        "price_den": account.price_den,
        "settlements": _settlements(account, archive),
        "theta_msat": account.theta_msat,
        "work": account.work,
        "tokens": _count(claim.exponent for claim in claims if claim.exponent != NO_TOKEN),
        "claims": len(claims),
        "root": root.hex(),
        "issued_msat": account.issued_msat,
        "carry_out_msat": account.carry_out_msat,
    }
    if account.unit_value:
        # Values may be beyond what readers of JSON count to: they are texts.
        statement |= {
            "unit_value": str(account.unit_value),
            "value": str(account.value),
            "previous": None if account.previous is None else account.previous.hex(),
            "residue_in": str(account.residue_in),
            "residue_out": str(account.residue_out),
            "cash_outs": _count(row.exponent for row in cash_outs),
        }
    digest = tagged_hash("radpool/statement", _canonical(statement))
    signed = {"statement": statement, "signature": key.sign(digest).hex()}
    return SignedStatement(_canonical(signed), digest)


def _count(exponents: Iterable[int]) -> Mapping[str, int]:
    return {str(exponent): count for exponent, count in Counter(exponents).items()}


def _settlements(account: KeysetAccount, archive: Archive) -> list[Mapping[str, Any]]:
    carried: dict[int, int] = {}
    settlements: list[Mapping[str, Any]] = []
    for row in account.allocations:
        # A reversal undoes its payment, whatever the carry has become since.
        carry = row.carry_in_msat if row.reverses is None else -carried[row.reverses]
        carried[row.settlement] = carry
        told = dict(_settlement(replace(row, carry_in_msat=carry), archive))
        if account.unit_value:
            del told["work"]
            told |= {
                "by": "value" if row.by_value else "work",
                "weight": str(account.work * (account.unit_value if row.by_value else 1)),
                "weights": str(row.work),
            }
        settlements.append(told)
    return settlements


def _settlement(row: Allocation, archive: Archive) -> Mapping[str, Any]:
    coinbase = archive.coinbase_output(row.block)
    return {
        "id": row.settlement,
        "reverses": row.reverses,
        "block": row.block[::-1].hex(),
        "height": row.height,
        "coinbase": None if coinbase is None else f"{coinbase[0][::-1].hex()}:{coinbase[1]}",
        "theta_sats": row.theta_sats,
        "fee_msat": row.fee_msat,
        "carry_in_msat": row.carry_in_msat,
        "work": row.work,
        "allocated_msat": row.allocated_msat,
    }


def _canonical(value: object) -> bytes:
    """Writes JSON in the one form that is signed: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


class Leaf(NamedTuple):
    """Is a claim with the header hash of its share, as the tree has it."""

    share_hash: bytes
    blinded: bytes
    units: int


def claim_leaves(z0: int, claims: Iterable[ClaimRow], archive: Archive) -> Iterator[Leaf]:
    """Looks up the shares of some claims.

    Raises:
        StoreError: A share cannot be read.
    """
    for claim in claims:
        share_hash = archive.share_hash(claim.sequence, claim.place)
        units = 0 if claim.exponent == NO_TOKEN else 1 << claim.exponent - z0
        yield Leaf(share_hash, claim.blinded, units)


def cash_out_leaves(z0: int, cash_outs: Iterable[CashOutRow]) -> Iterator[Leaf]:
    """Makes the leaves of tokens that were given for residues: zeros stand for a share's hash."""
    for row in cash_outs:
        yield Leaf(bytes(HASH_LEN), row.blinded, 1 << row.exponent - z0)


class ClaimTree:
    """Is the Merkle-sum tree over a keyset's claims, with all its levels.

    A leaf is `H("radpool/claim", share hash || B_ || units)`, `u64`; nodes above are those of share
    batches. It takes some microseconds a claim to make, once, and 170 bytes; a path is then read
    off.
    """

    def __init__(self, leaves: Iterable[Leaf]) -> None:
        self._leaves = _packed(leaves)
        level = b"".join(
            tagged_hash("radpool/claim", self._leaves[at : at + LEAF_LEN])
            + self._leaves[at + UNITS_AT : at + LEAF_LEN]
            + bytes(8)
            for at in range(0, len(self._leaves), LEAF_LEN)
        )
        self._levels = [level]
        while len(level) > NODE_LEN:
            # A last node without a sibling rises unchanged.
            level = b"".join(
                _join(level[at : at + 2 * NODE_LEN]) for at in range(0, len(level), 2 * NODE_LEN)
            )
            self._levels.append(level)

    def __len__(self) -> int:
        return len(self._leaves) // LEAF_LEN

    @property
    def root(self) -> Node:
        """The root: its hash, and the units of all claims."""
        top = self._levels[-1]
        return _node(top, 0) if top else (NO_ROOT, 0)

    def find(self, blinded: bytes) -> int | None:
        """Returns the index of a claim; None when it is not in the tree."""
        at = self._leaves.find(blinded)
        while at >= 0 and at % LEAF_LEN != BLINDED_AT:
            at = self._leaves.find(blinded, at + 1)
        return None if at < 0 else at // LEAF_LEN

    def path(self, index: int) -> tuple[Node, ...]:
        """Returns the siblings on the way from a leaf to the root, from the leaves up."""
        path = []
        for level in self._levels[:-1]:
            if (index ^ 1) * NODE_LEN < len(level):
                path.append(_node(level, index ^ 1))
            index //= 2
        return tuple(path)

    def inclusion(self, keyset: bytes, index: int) -> Inclusion:
        """Proves that the leaf of an index is in the root."""
        leaf = self._leaves[LEAF_LEN * index : LEAF_LEN * (index + 1)]
        units = int.from_bytes(leaf[UNITS_AT:], "little")
        return Inclusion(keyset, index, len(self), leaf[:BLINDED_AT], units, self.path(index))


def _packed(leaves: Iterable[Leaf]) -> bytes:
    return b"".join(
        leaf.share_hash + leaf.blinded + leaf.units.to_bytes(8, "little") for leaf in leaves
    )


def _node(level: bytes, index: int) -> Node:
    at = NODE_LEN * index
    return level[at : at + HASH_LEN], int.from_bytes(level[at + HASH_LEN : at + NODE_LEN], "little")


def _join(pair: bytes) -> bytes:
    if len(pair) == NODE_LEN:
        return pair
    (left, left_units), (right, right_units) = _node(pair, 0), _node(pair, 1)
    sums = pair[HASH_LEN:NODE_LEN] + pair[NODE_LEN + HASH_LEN :]
    hashed = tagged_hash("radpool/node", left, right, sums)
    return hashed + (left_units + right_units).to_bytes(16, "little")


def claim_record(claim: ClaimRow) -> bytes:
    """Writes a claim as an export has it: sequence, place, exponent, `B_`; 44 bytes."""
    fixed = claim.sequence.to_bytes(8, "little") + claim.place.to_bytes(2, "little")
    return fixed + bytes([claim.exponent]) + claim.blinded


def cash_out_record(row: CashOutRow) -> bytes:
    """Writes a token that was given for a residue as an export has it: exponent, `B_`; 34 bytes."""
    return bytes([row.exponent]) + row.blinded

"""Gives tokens for residues: whole units of value that shares have earned and no token stands for.

Theory of operation. Whoever holds the secret of a claim key signs for the keyset that is open and
the blinded messages; the mint takes what they cost off the residue and signs them, in one
transaction. What is below a unit stays. The tokens count in the keyset's work as those of shares
do: their value was claimed by shares before, of this keyset or of earlier ones.

A cash-out is known by its blinded messages: the same one is answered again, word for word, whatever
the residue or the keyset has become.

Source: `spec/05-ecash-messages.md`, "Residues"; `spec/06-work-tokens.md`, "Cash-outs".
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from coincurve import PublicKeyXOnly

from radpool_sv2._native.ecash import check_points
from radpool_sv2.ecash import refusal
from radpool_sv2.ecash.policy import WORK_UNIT, KeysetState, Policy
from radpool_sv2.ecash.price import WORK_MAX
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.request import check_outputs
from radpool_sv2.ecash.token import BlindSignature
from radpool_sv2.store import ecash as table
from radpool_sv2.store import ecash_residue as residues
from radpool_sv2.store import ecash_token as tokens
from radpool_sv2.units import tagged_hash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from radpool_sv2.ecash.claim import ClaimRegister
    from radpool_sv2.ecash.keyring import Keyring
    from radpool_sv2.ecash.token import Output
    from radpool_sv2.store import SqliteStore
    from radpool_sv2.store.ecash import KeysetRow

__all__ = ["CashedOut", "Cashier", "Residue", "cash_out_hash"]

OUTPUTS_MAX: Final = 64
"""One for each amount of a keyset."""

SIGNATURE_LEN: Final = 64


class Residue(NamedTuple):
    """Is what a claim key has left over under a policy.

    Attributes:
        policy: The policy.
        keyset_id: Its open keyset; None when there is none.
        unit_value: What a unit of that costs; 0 when there is none, or when it counts work.
        units: How many whole units can be had for it now.
        value: What it is worth.
    """

    policy: Policy
    keyset_id: bytes | None
    unit_value: int
    units: int
    value: int


class CashedOut(NamedTuple):
    """Answers a cash-out; a repeated one has the same signatures.

    Attributes:
        signatures: One for each output, in order.
        value: What is left.
    """

    signatures: tuple[BlindSignature, ...]
    value: int


def cash_out_hash(
    claim_key: bytes, keyset_id: bytes, outputs: Sequence[tuple[int, bytes]]
) -> bytes:
    """Returns what the holder of a claim key signs.

    Args:
        claim_key: The key as the channel was opened with, 33 bytes.
        keyset_id: The keyset that is to sign, 33 bytes.
        outputs: Amount and blinded message of each token.
    """
    parts = [struct.pack("<Q", amount) + blinded for amount, blinded in outputs]
    return tagged_hash("radpool/cash-out", claim_key, keyset_id, *parts)


class Cashier:
    """Tells residues and cashes them out; any thread may ask."""

    def __init__(
        self,
        store: SqliteStore,
        keyring: Keyring,
        register: ClaimRegister,
        accounts: Mapping[Policy, int],
        unix_ms: Callable[[], int],
    ) -> None:
        """Takes what stays the same.

        Args:
            store: The ledger's store.
            keyring: The mint's keys.
            register: Who books claims: it knows how much a keyset takes.
            accounts: The ledger's account of each policy.
            unix_ms: Gives the milliseconds since 1970.
        """
        self._store = store
        self._keyring = keyring
        self._register = register
        self._accounts = dict(accounts)
        self._policies = {account: policy for policy, account in self._accounts.items()}
        self._unix_ms = unix_ms

    def residues(self, claim_key: bytes) -> list[Residue]:
        """Returns what a claim key has, of all policies under which it was ever used.

        Raises:
            RefusedError: It is no point.
        """
        _check_key(claim_key)
        with self._store.look() as connection:
            return [
                self._residue(connection, self._policies[account], value)
                for account, value in residues.residues_of_claimant(connection, claim_key).items()
            ]

    def _residue(self, connection: sqlite3.Connection, policy: Policy, value: int) -> Residue:
        found = table.keysets(
            connection,
            "policy = ? AND state = ? AND frozen = 0 ORDER BY number DESC LIMIT 1",
            (policy, KeysetState.OPEN),
        )
        if not found:
            return Residue(policy, None, 0, 0, value)
        [row] = found
        return Residue(policy, row.id, row.unit_value, _units(row, value), value)

    def cash_out(
        self, claim_key: bytes, keyset_id: bytes, outputs: Sequence[Output], signature: bytes
    ) -> CashedOut:
        """Gives tokens for a residue; runs a transaction.

        Args:
            claim_key: Whose residue.
            keyset_id: The open keyset of the residue's policy.
            outputs: The tokens: together at most the whole units that the residue is worth.
            signature: By the claim key, of `cash_out_hash`.

        Raises:
            RefusedError: The code tells why; nothing has changed.
            StoreError: Whether it is durable is not known; the same request tells.
        """
        self._check(claim_key, keyset_id, outputs, signature)
        with self._store.look() as connection:
            row = table.find_keyset(connection, keyset_id)
        if row is None or row.unit != WORK_UNIT:
            raise RefusedError("there is no such keyset", refusal.UNKNOWN_EPOCH)
        with self._store.change() as connection:
            left = self._book(connection, claim_key, row.number, outputs)
        keys = self._keyring.keys(row.number, WORK_UNIT)
        signed = keys.sign([(each.amount, each.blinded) for each in outputs])
        signatures = (
            BlindSignature(index, output.amount, *parts)
            for index, (output, parts) in enumerate(zip(outputs, signed, strict=True))
        )
        return CashedOut(tuple(signatures), left)

    def _check(
        self, claim_key: bytes, keyset_id: bytes, outputs: Sequence[Output], signature: bytes
    ) -> None:
        """Checks what needs no store: form, points, signature."""
        if not 0 < len(outputs) <= OUTPUTS_MAX:
            raise RefusedError(
                f"{len(outputs)} outputs: give 1 to {OUTPUTS_MAX}", refusal.TOO_MANY_ITEMS
            )
        for output in outputs:
            if not 0 < output.amount <= WORK_MAX or output.amount.bit_count() != 1:
                raise RefusedError(
                    f"{output.amount} is no amount: give a power of two below 2^63",
                    refusal.AMOUNT_MISMATCH,
                )
        check_outputs(outputs, keyset_id)
        _check_key(claim_key)
        hashed = cash_out_hash(
            claim_key, keyset_id, [(output.amount, output.blinded) for output in outputs]
        )
        if len(signature) != SIGNATURE_LEN or not _is_signed(claim_key, signature, hashed):
            raise RefusedError(
                "the signature is not that of the claim key over this request",
                refusal.INVALID_SIGNATURE,
            )

    def _book(
        self,
        connection: sqlite3.Connection,
        claim_key: bytes,
        number: int,
        outputs: Sequence[Output],
    ) -> int:
        """Takes tokens off a residue, once; returns what is left."""
        row = table.keyset_at(connection, number)
        account = self._accounts[Policy(row.policy)]
        key = account, claim_key
        before = residues.residues_of(connection, [key])[key]
        if _was_done(connection, claim_key, number, outputs):
            return before
        if row.state != KeysetState.OPEN or row.frozen:
            raise RefusedError("the keyset is not open: take its successor", refusal.STALE_KEYSET)
        units = sum(output.amount for output in outputs)
        if units > _units(row, before):
            raise RefusedError(
                f"the residue is worth {_units(row, before)} whole units, not {units}: ask for it "
                "again",
                refusal.AMOUNT_MISMATCH,
            )
        room, code = self._register.room(connection, number)
        if units > room:
            raise RefusedError("the keyset takes no more tokens", code)
        amounts = [(each.blinded, each.amount.bit_length() - 1) for each in outputs]
        now_ms = self._unix_ms()
        if not residues.add_cash_out(connection, number, key, units, now_ms, amounts):
            raise RefusedError(
                "a blinded message was used before: take fresh ones",
                refusal.BLINDED_MESSAGE_REUSED,
            )
        left = before - units * row.unit_value
        residues.put_residues(connection, [(key, left)])
        tokens.count_claims(connection, [(number, exponent, 1) for _, exponent in amounts])
        return left


def _was_done(
    connection: sqlite3.Connection, claim_key: bytes, number: int, outputs: Sequence[Output]
) -> bool:
    """Says whether this very cash-out was carried out before.

    Raises:
        RefusedError: Its blinded messages were used for something else.
    """
    known = [tokens.find_blinded(connection, output.blinded) for output in outputs]
    if not any(known):
        return False
    wanted = [(each.blinded, number, each.amount.bit_length() - 1) for each in outputs]
    first = known[0]
    if first and residues.cash_out_of(connection, first.id) == (claim_key, wanted):
        return True
    raise RefusedError(
        "a blinded message was used before: take fresh ones", refusal.BLINDED_MESSAGE_REUSED
    )


def _units(row: KeysetRow, value: int) -> int:
    """Returns how many whole units of a keyset a value pays for; 0 where it counts work."""
    return min(value // row.unit_value, WORK_MAX) if row.unit_value else 0


def _check_key(claim_key: bytes) -> None:
    if check_points([claim_key]) != [True]:
        raise RefusedError("the claim key is no compressed point", refusal.INVALID_CLAIM_PUBKEY)


def _is_signed(claim_key: bytes, signature: bytes, hashed: bytes) -> bool:
    return PublicKeyXOnly(claim_key[1:]).verify(signature, hashed)

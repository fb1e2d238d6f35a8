"""Publishes the settlement statements of keysets, and proofs that a claim is in one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from radpool_sv2.ecash import refusal
from radpool_sv2.ecash.policy import KeysetState, Policy
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.statement import (
    Allocation,
    CashOutRow,
    ClaimRow,
    ClaimTree,
    Inclusion,
    KeysetAccount,
    SignedStatement,
    build_statement,
    cash_out_leaves,
    claim_leaves,
)
from radpool_sv2.store import ecash as table
from radpool_sv2.store import ecash_residue as residues
from radpool_sv2.store import ecash_token as tokens

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from radpool_sv2.ecash.announcement import MintKey
    from radpool_sv2.ecash.archive import Archive
    from radpool_sv2.ecash.keyset import OwnerOf
    from radpool_sv2.store import SqliteStore
    from radpool_sv2.store.ecash import KeysetRow

__all__ = ["Publisher"]

TREES_MAX: Final = 4
"""How many keysets' trees are kept: some hundred bytes a claim."""


class Publisher:
    """Writes statements; use it in any thread."""

    def __init__(
        self,
        store: SqliteStore,
        key: MintKey,
        owners: Mapping[Policy, OwnerOf],
        archive: Archive,
    ) -> None:
        """Takes what stays the same.

        Args:
            store: The ledger's store.
            key: The MSP's key.
            owners: The ledger's account of each policy.
            archive: Where the shares are.
        """
        self._store = store
        self._key = key
        self._owners = owners
        self._archive = archive
        self._lock = threading.Lock()
        self._trees: dict[int, ClaimTree] = {}

    def publish(self, limit: int) -> set[int]:
        """Writes statements that are due.

        Args:
            limit: How many at most; one takes some ten microseconds a claim.

        Returns:
            The numbers of the keysets that got one.
        """
        with self._store.look() as connection:
            due = table.without_statement(connection, limit)
        return {number for number in due if self._publish(number)}

    def _publish(self, number: int) -> bool:
        with self._lock:
            self._end_claims(number)
            with self._store.look() as connection:
                row = table.keyset_at(connection, number)
                account = self._account(connection, row)
                claims = self.claims(connection, row)
                cash_outs = self.cash_outs(connection, row)
            signed = build_statement(account, claims, self._archive, self._key, cash_outs)
        with self._store.change() as connection:
            if table.keyset_at(connection, number) != row:
                # It was taken back, or has expired, while its statement was written.
                return False
            if row.unit_value:
                residues.set_residue_out(connection, number, account.residue_out)
            table.put_statement(connection, number, row.state, signed.hash, signed.document)
        return True

    def _end_claims(self, number: int) -> None:
        """Lets earlier keysets of a policy take no claims any more: residues are told in order.

        They have closed before this one did; what they do not take another keyset takes.
        """
        with self._store.change() as connection:
            connection.execute(
                "UPDATE keyset SET frozen = 1 WHERE frozen = 0 AND state IN (1, 2) AND number < ?1 "
                "AND policy = (SELECT policy FROM keyset WHERE number = ?1) "
                "AND EXISTS (SELECT 1 FROM keyset_value WHERE keyset = ?1)",
                (number,),
            )

    def cash_outs(self, connection: sqlite3.Connection, row: KeysetRow) -> list[CashOutRow]:
        """Returns the tokens of a keyset that were given for residues, in order."""
        found = residues.cash_outs_of_keyset(connection, row.number)
        return [CashOutRow(exponent + row.z0, message) for exponent, message in found]

    def claims(self, connection: sqlite3.Connection, row: KeysetRow) -> list[ClaimRow]:
        """Returns the claims of a keyset, in order."""
        last = table.last_sequence(connection) if row.last_sequence is None else row.last_sequence
        found = tokens.claims_of_keyset(connection, row.number, row.first_sequence, last)
        return [
            ClaimRow(sequence, place, tokens.step_of(exponent, row.z0), message)
            for sequence, place, exponent, message in found
        ]

    def _account(self, connection: sqlite3.Connection, row: KeysetRow) -> KeysetAccount:
        policy = Policy(row.policy)
        allocations = tuple(
            Allocation(
                settlement=allocated.settlement,
                reverses=reverses,
                block=block,
                height=height,
                theta_sats=paid.theta_sats,
                fee_msat=paid.fee_msat,
                carry_in_msat=paid.carry_in_msat,
                work=paid.work,
                allocated_msat=allocated.msat,
                by_value=paid.by_value,
            )
            for allocated, paid, reverses, block, height in table.allocations_of_keyset(
                connection, row.number
            )
            # What made it void, without giving it a part, has not paid it.
            if allocated.work
        )
        expired = row.state == KeysetState.EXPIRED
        carried = table.balance(connection, row.policy, "carry", row.number)
        before: tuple[int, bytes | None] = (0, None)
        if row.unit_value:
            before = residues.residue_before(connection, row.policy, row.number)
        return KeysetAccount(
            id=row.id,
            number=row.number,
            policy=policy.word,
            commitment=self._owners[policy].commitment,
            z0=row.z0,
            epochs=(row.epoch,),
            state=KeysetState(row.state).word,
            price_num=row.price_num,
            price_den=row.price_den,
            allocations=allocations,
            theta_msat=row.theta_msat,
            work=row.work,
            issued_msat=row.paid_msat if expired else None,
            carry_out_msat=carried if expired else None,
            unit_value=row.unit_value,
            value=row.value,
            residue_in=before[0],
            previous=before[1],
        )

    def statement(self, keyset_id: bytes) -> SignedStatement:
        """Returns the statement of a keyset.

        Raises:
            RefusedError: There is no such keyset, or it has no statement yet.
        """
        with self._store.look() as connection:
            row = table.find_keyset(connection, keyset_id)
            found = None if row is None else table.statement_of(connection, row.number, row.state)
        if row is None:
            raise RefusedError("there is no such keyset", refusal.UNKNOWN_EPOCH)
        if found is None:
            raise RefusedError("the keyset has no price yet", refusal.EPOCH_OPEN)
        return SignedStatement(document=found[1], hash=found[0])

    def inclusion(self, message: bytes) -> Inclusion:
        """Proves that the claim of a blinded message is in its keyset's statement.

        Raises:
            RefusedError: There is no such claim, or no statement yet.
        """
        with self._store.look() as connection:
            known = tokens.find_blinded(connection, message)
            if known is None or not known.is_counted:
                raise RefusedError("no share was claimed by this", refusal.UNKNOWN_EPOCH)
            row = table.keyset_at(connection, known.keyset)
            if table.statement_of(connection, row.number, row.state) is None:
                raise RefusedError("the keyset has no price yet", refusal.EPOCH_OPEN)
            tree = self._trees.get(row.number)
            claims = self.claims(connection, row) if tree is None else []
            cash_outs = self.cash_outs(connection, row) if tree is None else []
        with self._lock:
            if tree is None:
                leaves = claim_leaves(row.z0, claims, self._archive)
                tree = ClaimTree([*leaves, *cash_out_leaves(row.z0, cash_outs)])
                while len(self._trees) >= TREES_MAX:
                    self._trees.pop(next(iter(self._trees)))
                self._trees[row.number] = tree
        index = tree.find(message)
        if index is None:
            raise RefusedError("the claim is not in the keyset's statement", refusal.EPOCH_OPEN)
        return tree.inclusion(row.id, index)

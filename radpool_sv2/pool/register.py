"""Keeps the register of owners: which miner key owns which commitment, signed by both sides.

A registration begins with the MSP's signature and is whole once the miner's has come, together with
a share. A miner's key keeps its registration for ever; so does its commitment.

Source: `spec/11-owner-registration.md`, "Registration".
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio
from coincurve import PublicKeyXOnly

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.pool.account import UNKNOWN_USER, OpeningBudget
from radpool_sv2.store import registration as table
from radpool_sv2.units import tagged_hash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from radpool_sv2.ledger import Ledger

__all__ = ["INVALID_MINER_KEY", "RAIL", "OwnerRegister", "Registration", "registration_hash"]

INVALID_MINER_KEY: Final = "invalid-miner-key"

RAIL: Final = 0
"""Registered owners are paid to their account in the ledger."""

REMEMBERED_MAX: Final = 50_000
"""Registrations in memory; a forgotten one costs a look into the store."""


class Signer(Protocol):
    """Is the MSP's key."""

    @property
    def public(self) -> bytes:
        """The x-only public key, 32 bytes."""

    def sign(self, hash: bytes) -> bytes:  # noqa: A002 - the native class calls it so
        """Returns the BIP340 signature of a 32-byte hash."""


@dataclass(frozen=True, slots=True)
class Registration:
    """Says that a miner's key owns a commitment.

    Attributes:
        number: Its number in the register, from 1.
        account: The ledger's number of the account.
        miner_key: The miner's x-only key, 32 bytes.
        salt: The salt of the account's commitment, 16 bytes: for the miner alone.
        commitment: What owner tags commit to, 32 bytes.
        epoch: The epoch that was open when the key was registered.
        signed_hash: What both sides sign, 32 bytes.
        msp_signature: The MSP's signature, 64 bytes.
        miner_signature: The miner's; empty until it has come.
    """

    number: int
    account: int
    miner_key: bytes
    salt: bytes
    commitment: bytes
    epoch: int
    signed_hash: bytes
    msp_signature: bytes
    miner_signature: bytes

    def is_signed_by_miner(self, signature: bytes) -> bool:
        """Tells whether a signature is the miner's; the one that is known costs no arithmetic."""
        if self.miner_signature == signature:
            return True
        try:
            return PublicKeyXOnly(self.miner_key).verify(signature, self.signed_hash)
        except ValueError:
            return False


def registration_hash(
    msp_key: bytes, miner_key: bytes, commitment: bytes, epoch: int, number: int
) -> bytes:
    """Computes what both sides of a registration sign.

    Args:
        msp_key: The MSP's x-only key, 32 bytes.
        miner_key: The miner's, 32 bytes.
        commitment: The owner commitment, 32 bytes.
        epoch: The epoch that was open.
        number: The registration's number.

    Source: `spec/11-owner-registration.md`, [OR-5].
    """
    numbers = bytes([RAIL]) + epoch.to_bytes(4, "little") + number.to_bytes(8, "little")
    return tagged_hash("radpool/owner-registration", msp_key, miner_key, commitment, numbers)


class OwnerRegister:
    """Is the register of one MSP; calls come from trio's thread.

    Attributes:
        msp_key: The MSP's x-only key, 32 bytes.
    """

    def __init__(
        self,
        ledger: Ledger,
        key: Signer,
        *,
        new_per_minute_max: int,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes the ledger whose accounts are owned, the MSP's key, and a bound on new owners."""
        self._ledger = ledger
        self._key = key
        self.msp_key = key.public
        self._now_s = now_s
        self._budget = OpeningBudget(new_per_minute_max, now_s())
        self._adding = trio.Lock()
        self._by_account: dict[int, Registration] = {}

    async def register(self, miner_key: bytes) -> Registration:
        """Returns the registration of a miner's key, making it if the key is new.

        Args:
            miner_key: The x-only key, 32 bytes.

        Raises:
            RemoteProtocolError: It is no key, or too many new ones have come.
            StoreError: It could not be made durable.
        """
        try:
            PublicKeyXOnly(miner_key)
        except ValueError as error:
            raise RemoteProtocolError(
                f"{miner_key.hex()} is no x-only public key", INVALID_MINER_KEY
            ) from error
        async with self._adding:
            found = await trio.to_thread.run_sync(self._find, miner_key)
            if found is None:
                found = await self._add(miner_key)
        return self._remember(found)

    def of_account(self, account: int) -> Registration | None:
        """Returns the registration of an account whose channel is open."""
        return self._by_account.get(account)

    def confirm(
        self, connection: sqlite3.Connection, registration: Registration, miner_signature: bytes
    ) -> None:
        """Keeps the miner's signature, which the caller has checked; in a transaction."""
        table.confirm_registration(connection, registration.number, miner_signature)

    def confirmed(self, registration: Registration, miner_signature: bytes) -> None:
        """Learns that a signature is durable."""
        if not registration.miner_signature:
            self._remember(replace(registration, miner_signature=miner_signature))

    async def confirm_alone(self, registration: Registration, miner_signature: bytes) -> None:
        """Makes the miner's signature durable apart from a batch.

        Raises:
            StoreError: It is not durable.
        """

        def store() -> None:
            with self._ledger.store.change() as connection:
                self.confirm(connection, registration, miner_signature)

        await trio.to_thread.run_sync(store)
        self.confirmed(registration, miner_signature)

    async def page(self, offset: int, limit: int) -> tuple[int, Sequence[Registration]]:
        """Returns how many registrations there are, and some of them, the newest first.

        Raises:
            StoreError: They cannot be read.
        """

        def read() -> tuple[int, list[Registration]]:
            with self._ledger.store.look() as connection:
                total, rows = table.registrations(connection, offset, limit)
            return total, [self._read(row) for row in rows]

        return await trio.to_thread.run_sync(read)

    async def rows(self, offset: int, limit: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """Returns how many registrations there are, and some of them, the newest first, JSON-ready.

        Salts are not among it: they are the miners' own.

        Raises:
            StoreError: They cannot be read.
        """
        total, found = await self.page(offset, limit)
        return total, [
            {
                "msp_key": self.msp_key.hex(),
                "miner_key": each.miner_key.hex(),
                "commitment": each.commitment.hex(),
                "rail": RAIL,
                "epoch": each.epoch,
                "number": each.number,
                "msp_signature": each.msp_signature.hex(),
                "miner_signature": each.miner_signature.hex() or None,
            }
            for each in found
        ]

    def sign_receipt(self, signed_hash: bytes) -> bytes:
        """Signs the hash of a running receipt."""
        return self._key.sign(signed_hash)

    def _remember(self, registration: Registration) -> Registration:
        # The oldest gives way: its channel opens it again, or its next share is refused and comes
        # again behind another opening.
        self._by_account.pop(registration.account, None)
        while len(self._by_account) >= REMEMBERED_MAX:
            del self._by_account[next(iter(self._by_account))]
        self._by_account[registration.account] = registration
        return registration

    def _find(self, miner_key: bytes) -> Registration | None:
        with self._ledger.store.look() as connection:
            row = table.find_registration(connection, miner_key)
        return None if row is None else self._read(row)

    async def _add(self, miner_key: bytes) -> Registration:
        if not self._budget.take(self._now_s()):
            raise RemoteProtocolError(
                "too many keys are new: ledger.new_accounts_per_minute_max is reached", UNKNOWN_USER
            )
        account = await self._ledger.account(miner_key.hex())
        epoch = self._ledger.current_epoch
        time_ms = time.time_ns() // 1_000_000

        def store() -> None:
            with self._ledger.store.change() as connection:
                number = table.next_registration(connection)
                signed = registration_hash(
                    self.msp_key, miner_key, account.commitment, epoch, number
                )
                signature = self._key.sign(signed)
                table.add_registration(
                    connection, number, account.id, miner_key, epoch, signature, time_ms
                )

        await trio.to_thread.run_sync(store)
        found = await trio.to_thread.run_sync(self._find, miner_key)
        assert found is not None, "it was added a moment ago"
        return found

    def _read(self, row: table.RegistrationRow) -> Registration:
        return Registration(
            number=row.number,
            account=row.account,
            miner_key=row.miner_key,
            salt=row.salt,
            commitment=row.commitment,
            epoch=row.epoch,
            signed_hash=registration_hash(
                self.msp_key, row.miner_key, row.commitment, row.epoch, row.number
            ),
            msp_signature=row.msp_signature,
            miner_signature=row.miner_signature,
        )

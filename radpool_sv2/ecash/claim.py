"""Books the claims of shares: one token for one share and one blinded message, for ever.

Theory of operation. The claims of a batch are read before it is committed, and stored in the
transaction that makes its shares durable: neither is there without the other. Signatures are made
afterwards, whenever somebody asks; they are always the same, so none is stored.

In a keyset that goes by value a share's token depends on what its claimant has left over: residues
are read, dealt from and written in the same transaction, so that a crash or a second try never
finds half of it.

A claim may be refused although its share is good. The share is noted then, and whoever submits it
once more can claim it with a fresh blinded message. What was claimed before with the same message
is answered again.

Which keysets take claims is looked up before, in memory, and once more in the transaction: a price
that was fixed meanwhile counts all claims there are, and no other comes in behind it.

Source: `spec/06-work-tokens.md`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2._native.ecash import ClaimBatch, check_points, denominate
from radpool_sv2.ecash import refusal
from radpool_sv2.ecash.claimant import Claimants
from radpool_sv2.ecash.policy import KeysetState, Policy
from radpool_sv2.ecash.price import WORK_MAX
from radpool_sv2.ecash.redemption import cover_of
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.slot import Rack, parse_claim
from radpool_sv2.store import ecash as table
from radpool_sv2.store import ecash_residue as residues
from radpool_sv2.store import ecash_token as tokens
from radpool_sv2.store.ecash_schema import NO_TOKEN
from radpool_sv2.units import HASH_LEN

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from radpool_sv2._native.engine import RepeatedShare, ShareBatch
    from radpool_sv2.config.ecash import EcashSection
    from radpool_sv2.ecash.archive import Archive
    from radpool_sv2.ecash.slot import Slot
    from radpool_sv2.ecash.value import ValueRule
    from radpool_sv2.store import SqliteStore

__all__ = ["ClaimEnclosure", "ClaimRegister", "Claimed"]

TAKING: Final = (KeysetState.OPEN, KeysetState.CLOSED, KeysetState.PROVISIONAL)
"""States in which a keyset that is not frozen may take claims."""

# Where a share record of the engine has its account, and its header's hash.
ACCOUNT_AT: Final = 16
HASH_AT: Final = 68


@dataclass(frozen=True, slots=True)
class Claimed:
    """Is a claim that is durable.

    Attributes:
        message: The blinded message.
        keyset: The number of the keyset that signs it.
        exponent: The binary logarithm of its units; 255 when it brought no token.
        z0: The exponent of one unit.
        new: Whether it was not there before.
    """

    message: bytes
    keyset: int
    exponent: int
    z0: int
    new: bool


class ClaimRegister:
    """Books claims; any thread may ask.

    Attributes:
        rack: The keysets that claims may name.
        claimants: Whose residue the shares of a channel join.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what claims depend on
        self,
        store: SqliteStore,
        settings: EcashSection,
        accounts: Mapping[Policy, int],
        archive: Archive,
        unix_ms: Callable[[], int],
        rule: ValueRule | None = None,
    ) -> None:
        """Takes what stays the same.

        Args:
            store: The ledger's store.
            settings: The section `ecash`.
            accounts: The ledger's account of each policy.
            archive: Where shares that were claimed before are found.
            unix_ms: Gives the milliseconds since 1970.
            rule: How the pool weighs templates by value; None when shares count their work.
        """
        self._store = store
        self._settings = settings
        self._accounts = dict(accounts)
        self._archive = archive
        self._archive_lock = threading.Lock()
        self._unix_ms = unix_ms
        self._rule = rule
        self.rack = Rack(accounts, settings.grace_s * 1_000)
        self.claimants = Claimants()

    def now_ms(self) -> int:
        """Returns the milliseconds since 1970."""
        return self._unix_ms()

    @property
    def accounts(self) -> frozenset[int]:
        """The ledger's accounts of all policies."""
        return frozenset(self._accounts.values())

    def enclose(
        self, batch: ShareBatch, extension_type: int, submit_type: int
    ) -> ClaimEnclosure | None:
        """Reads the claims of a batch; None when it has none."""
        slots = self.rack.slots
        claims = ClaimBatch(
            batch,
            extension_type=extension_type,
            submit_type=submit_type,
            slots=self.rack.native(slots, self._unix_ms()),
            weight=None if self._rule is None else self._rule.weight,
            claimants=self.claimants.native,
        )
        if len(claims) == 0:
            return None
        return ClaimEnclosure(batch, claims, self, {slot.number: slot.z0 for slot in slots})

    # In the transaction of the batch.

    def room(self, connection: sqlite3.Connection, number: int) -> tuple[int, str]:
        """Returns how many more units a keyset takes, and the code to refuse any beyond with.

        A keyset that takes no claims at all has a room of -1.

        Args:
            connection: In a transaction.
            number: The keyset's number.
        """
        found = table.keysets(connection, "number = ?", (number,))
        if not found or found[0].frozen or found[0].state not in TAKING:
            return -1, refusal.STALE_KEYSET
        [row] = found
        room = WORK_MAX - row.work
        if row.policy != Policy.FIXED:
            return room, refusal.EPOCH_CLOSED
        cover = cover_of(connection, self._settings) - _owed(connection)
        covered = max(0, cover) * row.price_den // row.price_num
        code = refusal.MINT_UNAVAILABLE if covered < room else refusal.EPOCH_CLOSED
        return min(room, covered), code

    def is_covered(self, connection: sqlite3.Connection) -> bool:
        """Says whether the operator can pay for more work at the fixed price."""
        return cover_of(connection, self._settings) > _owed(connection)

    # Shares that are submitted once more.

    def claim(self, share: RepeatedShare) -> Claimed:
        """Books the claim of a share that is in the ledger; runs a transaction.

        Raises:
            RefusedError: The code tells what is wrong with the claim.
            StoreError: It is not durable.
        """
        short, message = parse_claim(share.data, tlvs=share.tlvs)
        slot = self.rack.admit(
            short,
            account=share.account,
            epoch=share.epoch,
            height=share.height,
            now_ms=self._unix_ms(),
        )
        if not check_points([message])[0]:
            raise RefusedError(
                "the blinded message is no compressed point", refusal.INVALID_BLINDED_MESSAGE
            )
        with self._store.look() as connection:
            known = tokens.find_blinded(connection, message)
        if known is not None:
            return self._again(share, known)
        if isinstance(slot, RefusedError):
            raise slot
        with self._store.change() as connection:
            found = tokens.find_unclaimed(connection, share.hash)
            if found is None:
                raise RefusedError(
                    "the share has its token, or is too old", refusal.DUPLICATE_SHARE
                )
            sequence, place, price = found
            exponent = self._deal(connection, share, slot, price)
            units = 0 if exponent == NO_TOKEN else 1 << exponent
            room, code = self.room(connection, slot.number)
            if units > room:
                raise RefusedError("the keyset takes no more claims", code)
            row = (tokens.claim_id(sequence, place), message, slot.number, exponent)
            if tokens.add_claims(connection, [row]):
                raise RefusedError(
                    "the blinded message was used before: take a fresh one",
                    refusal.BLINDED_MESSAGE_REUSED,
                )
            if units:
                tokens.count_claims(connection, [(slot.number, exponent, 1)])
            # The share may be older than the keyset that takes its claim.
            if sequence < table.keyset_at(connection, slot.number).first_sequence:
                table.change_keyset(connection, slot.number, first_sequence=sequence)
            tokens.take_unclaimed(connection, share.hash)
        return Claimed(message, slot.number, exponent, slot.z0, new=True)

    def _deal(
        self, connection: sqlite3.Connection, share: RepeatedShare, slot: Slot, price: int
    ) -> int:
        """Returns the exponent of the token that a share earns now, and books what is left."""
        if not slot.unit_value:
            return min(share.exponent - slot.z0, 63)
        if self._rule is None:
            raise RefusedError("the pool does not weigh by value now", refusal.STALE_KEYSET)
        key = share.account, self.claimants.of(share.connection, share.channel)
        before = residues.residues_of(connection, [key])[key]
        value = self._rule.value(price, share.exponent)
        z, after = denominate(before, value, slot.z0, slot.unit_value)
        residues.put_residues(connection, [(key, after)])
        residues.add_values(connection, [(slot.number, value)])
        return NO_TOKEN if z is None else z - slot.z0

    def _again(self, share: RepeatedShare, known: tokens.BlindedRow) -> Claimed:
        place = known.share
        if place is not None:
            with self._archive_lock:
                same = self._archive.share_hash(*place) == share.hash
            if same:
                with self._store.look() as connection:
                    z0 = table.keyset_at(connection, known.keyset).z0
                return Claimed(known.message, known.keyset, known.exponent, z0, new=False)
        raise RefusedError(
            "the blinded message was used before: take a fresh one",
            refusal.BLINDED_MESSAGE_REUSED,
        )


class ClaimEnclosure:
    """Is the claims of a batch, on their way into the transaction that stores its shares.

    Attributes:
        claims: The native batch.
    """

    def __init__(
        self,
        batch: ShareBatch,
        claims: ClaimBatch,
        register: ClaimRegister,
        z0: Mapping[int, int],
    ) -> None:
        self.claims = claims
        self._batch = batch
        self._register = register
        self._z0 = z0
        self.keysets: tuple[int, ...] = ()

    @property
    def indices(self) -> list[int]:
        """The shares that brought a claim."""
        return self.claims.indices

    @property
    def rejected(self) -> list[tuple[int, str]]:
        """Index and error code of the claims that were refused; their shares are good."""
        return self.claims.statuses

    def store(self, connection: sqlite3.Connection, sequence: int, excluded: Sequence[int]) -> None:
        """Stores the claims in the transaction that appends the batch; see `Enclosure`."""
        self.claims.rows(excluded, residues.residues_of(connection, self.claims.residue_keys))
        while True:
            self._limit(connection)
            connection.execute("SAVEPOINT claims")
            rows = self.claims.standing
            reused = tokens.add_claims(
                connection,
                [
                    (tokens.claim_id(sequence, place), message, number, self._exponent(number, z))
                    for message, number, z, place, _ in rows
                ],
            )
            if not reused:
                break
            # Others of the same claimant may earn other tokens now.
            connection.execute("ROLLBACK TO claims")
            connection.execute("RELEASE claims")
            self.claims.refuse([rows[at][4] for at in reused], refusal.BLINDED_MESSAGE_REUSED)
        connection.execute("RELEASE claims")
        sums = tokens.new_sums(connection, sequence)
        tokens.count_claims(connection, sums)
        residues.put_residues(connection, self.claims.residues)
        residues.add_values(connection, self.claims.values)
        self.keysets = tuple(sorted({number for number, _, _ in sums}))
        self._note_unclaimed(connection, sequence, excluded)

    def _exponent(self, number: int, z: int) -> int:
        return NO_TOKEN if z == NO_TOKEN else z - self._z0[number]

    def _units(self, number: int, z: int) -> int:
        return 0 if z == NO_TOKEN else 1 << z - self._z0[number]

    def _limit(self, connection: sqlite3.Connection) -> None:
        """Refuses what keysets have no room for, from the first claim on that does not fit."""
        while True:
            rows = self.claims.standing
            wanted: dict[int, int] = {}
            for _, number, z, _, _ in rows:
                wanted[number] = wanted.get(number, 0) + self._units(number, z)
            over: list[int] = []
            for number, units in wanted.items():
                room, code = self._register.room(connection, number)
                if units <= room:
                    continue
                for _, owner, z, _, index in rows:
                    if owner == number:
                        room -= self._units(number, z)
                        if room < 0:
                            over.append(index)
                # Those behind are dealt anew, so all are looked at once more.
                self.claims.refuse(over, code)
                break
            if not over:
                return

    def _note_unclaimed(
        self, connection: sqlite3.Connection, sequence: int, excluded: Sequence[int]
    ) -> None:
        rejected = self.claims.statuses
        if not rejected:
            return
        records = memoryview(self._batch)
        length = self._batch.RECORD_LEN
        left_out = set(excluded)
        accounts = self._register.accounts
        now_ms = self._register.now_ms()
        rows = []
        for index, _ in rejected:
            at = index * length
            account = int.from_bytes(records[at + ACCOUNT_AT : at + ACCOUNT_AT + 8], "little")
            if index in left_out or account not in accounts:
                continue
            place = index - sum(1 for other in excluded if other < index)
            header_hash = bytes(records[at + HASH_AT : at + HASH_AT + HASH_LEN])
            rows.append((header_hash, sequence, place, now_ms, self._batch.price_of(index)))
        tokens.add_unclaimed(connection, rows)


def _owed(connection: sqlite3.Connection) -> int:
    """Returns what holders of unexpired tokens of a fixed price could still ask for, millisats."""
    query = (
        "SELECT price_num, price_den, work, paid_msat FROM keyset "
        "WHERE policy = 3 AND state IN (0, 1, 3)"
    )
    return sum(
        max(0, -(-num * work // den) - paid) for num, den, work, paid in connection.execute(query)
    )

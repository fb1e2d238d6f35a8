"""Offers the mint to trio: keysets that rotate, claims, redemptions, statements.

The work is done by machines over the store, which know neither tasks nor clocks: `epoch` moves
keysets, `settlement` passes on what blocks pay, `claim` books shares' claims, `redemption` takes
tokens. Here they are put together, given the time, and run in worker threads. Whatever was begun is
finished even when its caller is cancelled, so no outcome is left in doubt.

Nothing is kept in memory but views of what is in the store. After any crash `Mint.open` and `start`
go on where the store stands.

Source: `spec/06-work-tokens.md`, `spec/07-ecash-epochs.md`.
"""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
import trio

from radpool_sv2.ecash import refusal
from radpool_sv2.ecash.archive import ShareArchive
from radpool_sv2.ecash.cash_out import CashedOut, Cashier, Residue
from radpool_sv2.ecash.claim import ClaimEnclosure, ClaimRegister
from radpool_sv2.ecash.epoch import Calendar, Moment
from radpool_sv2.ecash.figure import figures_of
from radpool_sv2.ecash.keyring import Keyring
from radpool_sv2.ecash.keyset import OwnerOf
from radpool_sv2.ecash.policy import SAT_UNIT, Policy, SignMode
from radpool_sv2.ecash.publication import Publisher
from radpool_sv2.ecash.receipt import ReceiptBook
from radpool_sv2.ecash.redemption import Teller, price_of
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.request import CLAIMS_MAX, Request
from radpool_sv2.ecash.slot import SLOTS_MAX
from radpool_sv2.ecash.token import BlindSignature, Fetched, Output, Proof, Redeemed, Restored
from radpool_sv2.ecash.turn import Turns
from radpool_sv2.ecash.view import Gallery
from radpool_sv2.errors import ConfigError, StoreError
from radpool_sv2.store import ecash as table
from radpool_sv2.store import ecash_token as tokens
from radpool_sv2.store.ecash_residue import leave_behind
from radpool_sv2.units import tagged_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from radpool_sv2._native.ecash import MintSeed
    from radpool_sv2._native.engine import RepeatedShare, ShareBatch
    from radpool_sv2._native.ledger import MspKey
    from radpool_sv2.config.ecash import EcashSection
    from radpool_sv2.ecash.keyset import ChainTip, ChainView, KeysetChange, KeysetView
    from radpool_sv2.ecash.statement import Inclusion, SignedStatement
    from radpool_sv2.ecash.value import ValueRule
    from radpool_sv2.store import SqliteStore
    from radpool_sv2.store.ecash_token import BlindedRow, RedemptionRow

__all__ = ["Mint"]

T = TypeVar("T")

log = structlog.get_logger(__name__)

SALT_LEN: Final = 16
STATES_MAX: Final = 1_000
"""How many tokens' states are told at once."""

STATEMENTS_AT_ONCE: Final = 4
JUDGE_MS: Final = 1_000
"""How often closed keysets are looked at when nothing tells that one has changed."""


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


class Mint:
    """Is the node's mint; `Mint.open` makes one, `start` opens its keysets.

    Attributes:
        public_key: Its identity: the MSP's key as a compressed point, 33 bytes.
        z0: The exponent of one unit of work.
        sat_keyset_id: The id of the sat keyset, 33 bytes.
        sat_keyset: The sat keyset.
        sat_keys: Amount and public key of each kind of sat token, ascending.
        url: Where wallets reach it; empty when that is not known.
        policies: What it offers, the most wanted first.
        settings: The section `ecash`.
        confirmations: From how many on prices are final.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - see `open`
        self,
        store: SqliteStore,
        key: MspKey,
        seed: MintSeed,
        settings: EcashSection,
        chain: ChainView,
        confirmations: int,
        unix_ms: Callable[[], int],
        rule: ValueRule | None = None,
    ) -> None:
        """Reads the store; see `open`."""
        self._store = store
        self._key = key
        self._chain = chain
        self._unix_ms = unix_ms
        self.settings = settings
        self.confirmations = confirmations
        self.public_key = b"\x02" + key.public
        self.z0 = settings.unit_exponent
        self.url = settings.url
        self.policies = tuple(Policy[name.upper()] for name in settings.policies)
        self._owners = {policy: _owner(store, policy, unix_ms()) for policy in Policy}
        accounts = {policy: owner.account for policy, owner in self._owners.items()}
        self._keyring = Keyring(seed)
        self._calendar = Calendar(key, self._keyring, settings, confirmations, accounts, rule)
        with store.change() as connection:
            sat = self._calendar.open_sat_keyset(connection, unix_ms())
        self._sat = sat.number
        self.sat_keyset_id = sat.id
        keys = self._keyring.keys(sat.number, SAT_UNIT)
        if keys.id != sat.id:
            raise ConfigError(
                "is not the key that this ledger's tokens were signed with: they could not be "
                "redeemed. Put that file back from your copy",
                key="keys.mint_key_file",
            )
        self.sat_keys = tuple(keys.public)
        shown = max(confirmations, settings.coinbase_maturity)
        self._gallery = Gallery(key, shown)
        archive = ShareArchive(store)
        self._register = ClaimRegister(
            store, settings, accounts, ShareArchive(store), unix_ms, rule
        )
        self._cashier = Cashier(store, self._keyring, self._register, accounts, unix_ms)
        self._publisher = Publisher(store, key, self._owners, archive)
        self._teller = Teller(store, self._keyring, settings, self._sat)
        self._turns: Turns[Request, RedemptionRow | RefusedError] = Turns(
            self._carry_out, settings.requests_pending_max
        )
        self._moving = trio.Lock()
        self._receipts = ReceiptBook(key, self._keyring, self._register)
        self._writing_receipts = trio.Lock()
        self._checking = trio.CapacityLimiter(2)
        self._tip = chain.tip
        self._judged: tuple[int, ChainTip | None] = (0, None)
        self._fixed_covered = True
        with store.look() as connection:
            living = table.keysets(connection, "state < 5 ORDER BY number DESC")
            self._gallery.refresh(connection, {row.number for row in living})
        self.sat_keyset = self._gallery.views[self._sat]
        self._look_around()

    @classmethod
    async def open(  # noqa: PLR0913 - what a mint is made of
        cls,
        store: SqliteStore,
        key: MspKey,
        seed: MintSeed,
        settings: EcashSection,
        chain: ChainView,
        *,
        confirmations: int,
        rule: ValueRule | None = None,
        unix_ms: Callable[[], int] = _unix_ms,
    ) -> Mint:
        """Opens the mint of a ledger.

        Args:
            store: The ledger's store.
            key: The MSP's key.
            seed: The seed of all keysets.
            settings: The section `ecash`.
            chain: What is known of the chain.
            confirmations: From how many on the ledger pays a block: `ledger.maturity_blocks`.
            rule: How the pool weighs templates by value; None when shares count their work.
            unix_ms: Gives the milliseconds since 1970.

        Raises:
            ConfigError: The seed is another one than the ledger's tokens were signed with.
            StoreError: The store cannot be read or written.
        """

        def make() -> Mint:
            return cls(store, key, seed, settings, chain, confirmations, unix_ms, rule)

        return await trio.to_thread.run_sync(make)

    async def start(self) -> None:
        """Opens the keysets that are missing, and does what a crash has left undone.

        Raises:
            StoreError: Some of it is not durable; call it again.
        """
        await self.advance()

    # What channels are opened with.

    @property
    def tip_height(self) -> int:
        """The height of the chain; 0 until it is known."""
        return 0 if self._tip is None else self._tip.height

    def choose_policy(self, accepted: int, sign_modes: int) -> tuple[Policy, SignMode]:
        """Chooses on what terms a channel is opened.

        Args:
            accepted: Bit i stands for policy i.
            sign_modes: Bit 0 eager, bit 1 lazy.

        Raises:
            RefusedError: None of them can be had; the code tells which and why.
        """
        offered = [policy for policy in self.policies if accepted >> policy & 1]
        if not offered:
            raise RefusedError("no accepted policy is offered", refusal.UNSUPPORTED_POLICY)
        modes = [mode for mode in SignMode if sign_modes >> (mode - 1) & 1]
        if not modes:
            raise RefusedError("no accepted way to sign is offered", refusal.UNSUPPORTED_SIGN_MODE)
        solvent = [
            policy for policy in offered if policy is not Policy.FIXED or self._fixed_covered
        ]
        if not solvent:
            raise RefusedError(
                "the operator's reserve is used up", refusal.INSOLVENT, retry_after_s=600
            )
        for policy in solvent:
            if policy in self._gallery.opened:
                return policy, modes[0]
        raise RefusedError("the chain is not known yet", refusal.NO_OPEN_EPOCH, retry_after_s=1)

    def owner(self, policy: Policy) -> OwnerOf:
        """Returns whose shares the channels of a policy make."""
        return self._owners[policy]

    def current(self, policy: Policy) -> KeysetView:
        """Returns the open keyset of a policy.

        Raises:
            RefusedError: There is none at the moment.
        """
        view = self._gallery.opened.get(policy)
        if view is not None:
            return view
        raise RefusedError("there is no open keyset", refusal.NO_OPEN_EPOCH, retry_after_s=1)

    def keyset(self, keyset_id: bytes) -> KeysetView | None:
        """Returns a keyset that has not expired."""
        return self._gallery.find(keyset_id)

    async def find_keyset(self, keyset_id: bytes) -> KeysetView | None:
        """Returns any keyset, expired ones too.

        Raises:
            StoreError: The store cannot be read.
        """

        def find() -> KeysetView | None:
            with self._store.look() as connection:
                row = table.find_keyset(connection, keyset_id)
                return None if row is None else self._gallery.show(connection, row)

        return await self._read(find)

    async def keysets(self, offset: int, limit: int) -> tuple[int, Sequence[KeysetView]]:
        """Returns how many work keysets there are, and some of them, the newest first.

        Raises:
            StoreError: The store cannot be read.
        """

        def find() -> tuple[int, Sequence[KeysetView]]:
            with self._store.look() as connection:
                rows = table.keysets(
                    connection,
                    "number <> ? ORDER BY number DESC LIMIT ? OFFSET ?",
                    (self._sat, limit, offset),
                )
                total = table.count_keysets(connection) - 1
                return total, [self._gallery.show(connection, row) for row in rows]

        return await self._read(find)

    # Claims.

    def enclose(
        self, batch: ShareBatch, extension_type: int, submit_type: int
    ) -> ClaimEnclosure | None:
        """Reads the claims of a batch, to be stored with it; use a worker thread.

        Args:
            batch: The shares.
            extension_type: The number of the ecash extension.
            submit_type: Its message that carries a share.

        Returns:
            The claims; None when no share has one.
        """
        return self._register.enclose(batch, extension_type, submit_type)

    async def sign(
        self, enclosure: ClaimEnclosure, *, lazy_channels: Collection[tuple[int, int]] = ()
    ) -> list[tuple[int, bytes]]:
        """Signs the claims of a batch that is durable, and writes the receipts.

        Args:
            enclosure: The claims.
            lazy_channels: Connection and channel of those whose claims are signed when they are
                fetched.

        Returns:
            Connection and payload of each SubmitSharesEcashExtended.Success, in order.
        """
        async with self._writing_receipts:
            return await trio.to_thread.run_sync(
                self._receipts.sign, enclosure, tuple(lazy_channels)
            )

    async def claim_repeated(self, share: RepeatedShare, *, lazy: bool = False) -> bytes:
        """Books the claim of a share that is in the ledger already.

        Args:
            share: The share, submitted once more.
            lazy: Whether its channel's claims are signed when they are fetched.

        Returns:
            The payload of the SubmitSharesEcashExtended.Success; it counts no share.

        Raises:
            RefusedError: The claim is no good; the code tells why.
            StoreError: It is not durable; the share may be submitted again.
        """
        async with self._writing_receipts:
            return await trio.to_thread.run_sync(partial(self._receipts.repeat, share, lazy=lazy))

    def name_claimant(self, connection: int, channel: int, claim_key: bytes) -> None:
        """Learns of a channel, and whose residue its shares join.

        A lazy channel's running hash begins with it, whatever had this number before.

        Args:
            connection: The engine's number of the connection.
            channel: The channel.
            claim_key: The point that its client gave; empty when it gave none.
        """
        self._receipts.forget(connection, channel)
        self._register.claimants.open(connection, channel, claim_key)

    def forget_channel(self, connection: int, channel: int) -> None:
        """Forgets a channel that is gone: the running hash of a lazy one, and its claimant."""
        self._receipts.forget(connection, channel)
        self._register.claimants.close(connection, channel)

    def forget_channels(self) -> None:
        """Forgets the claimants of all channels: an engine that is started anew counts from 0."""
        self._register.claimants.close_all()

    # Residues.

    async def residues(self, claim_key: bytes) -> Sequence[Residue]:
        """Returns what a claim key has left over, of all policies under which it was used.

        Raises:
            RefusedError: It is no point.
            StoreError: The store cannot be read.
        """
        return await self._read(self._cashier.residues, claim_key)

    async def cash_out(
        self, claim_key: bytes, keyset_id: bytes, outputs: Sequence[Output], signature: bytes
    ) -> CashedOut:
        """Gives tokens of an open keyset for the residue of a claim key.

        Raises:
            RefusedError: The code tells why; nothing has changed.
            StoreError: Whether it is durable is not known; the same request tells.
        """
        wanted = [Output(*each) for each in outputs]
        return await self._check(
            lambda: self._cashier.cash_out(claim_key, keyset_id, wanted, signature)
        )

    # Tokens.

    async def fetch(self, keyset_id: bytes, claims: Sequence[bytes]) -> Fetched:
        """Returns the signatures of blinded messages: of claims and of outputs.

        Args:
            keyset_id: The keyset that signs them.
            claims: The blinded messages.

        Raises:
            RefusedError: There is no such keyset, or there are too many.
            StoreError: The store cannot be read.
        """
        _check_count(len(claims), CLAIMS_MAX)

        def find() -> Fetched:
            with self._store.look() as connection:
                row = table.find_keyset(connection, keyset_id)
                known = [tokens.find_blinded(connection, message) for message in claims]
            if row is None:
                raise RefusedError("there is no such keyset", refusal.UNKNOWN_EPOCH)
            own = [
                (index, found)
                for index, found in enumerate(known)
                if found is not None and found.keyset == row.number and found.is_signed
            ]
            there = {index for index, _ in own}
            unknown = tuple(index for index in range(len(claims)) if index not in there)
            signatures = self._sign(row.number, row.unit, own)
            return Fetched(signatures, (), unknown, *price_of(row))

        return await self._check(find)

    async def redeem(
        self, keyset_id: bytes, inputs: Sequence[Proof], outputs: Sequence[Output]
    ) -> Redeemed:
        """Turns work tokens of one keyset into sat tokens, whose sum is their value exactly.

        Raises:
            RefusedError: The code tells why; nothing is spent.
            StoreError: Whether it is durable is not known; the same request tells.
        """
        return await self._exchange(keyset_id, inputs, outputs, into_sats=True)

    async def swap(
        self, keyset_id: bytes, inputs: Sequence[Proof], outputs: Sequence[Output]
    ) -> Redeemed:
        """Turns tokens into others of the same keyset, with the same sum.

        Raises:
            RefusedError: The code tells why; nothing is spent.
            StoreError: Whether it is durable is not known; the same request tells.
        """
        return await self._exchange(keyset_id, inputs, outputs, into_sats=False)

    async def sat_swap(self, inputs: Sequence[Proof], outputs: Sequence[Output]) -> Redeemed:
        """Turns sat tokens into others, with the same sum; see `swap`."""
        return await self.swap(self.sat_keyset_id, inputs, outputs)

    async def sat_restore(self, blinded: Sequence[bytes]) -> Sequence[Restored]:
        """Returns the signatures of those blinded messages that the sat keyset has signed.

        Raises:
            RefusedError: There are too many.
            StoreError: The store cannot be read.
        """
        fetched = await self.fetch(self.sat_keyset_id, blinded)
        return [
            Restored(each.index, each.amount, self.sat_keyset_id, *each[2:])
            for each in fetched.signatures
        ]

    async def check_state(self, ys: Sequence[bytes]) -> Sequence[bool]:
        """Tells of each token, by the point of its secret, whether it is spent.

        Raises:
            RefusedError: There are too many.
            StoreError: The store cannot be read.
        """
        _check_count(len(ys), STATES_MAX)

        def find() -> list[bool]:
            with self._store.look() as connection:
                return tokens.spent_among(connection, ys)

        return await self._read(find)

    async def _exchange(
        self,
        keyset_id: bytes,
        inputs: Sequence[Proof],
        outputs: Sequence[Output],
        *,
        into_sats: bool,
    ) -> Redeemed:
        proofs = [Proof(*each) for each in inputs]
        wanted = [Output(*each) for each in outputs]

        def prepare() -> Request | Redeemed:
            return self._teller.prepare(keyset_id, proofs, wanted, into_sats=into_sats)

        request = await self._check(prepare)
        if isinstance(request, Redeemed):
            return request
        done = await self._turns.take(request)
        if isinstance(done, RefusedError):
            raise done
        return await self._check(lambda: self._teller.answer(request, done))

    def _carry_out(self, requests: Sequence[Request]) -> list[RedemptionRow | RefusedError]:
        return self._teller.carry_out(requests, self._unix_ms())

    def _sign(
        self, number: int, unit: str, known: Sequence[tuple[int, BlindedRow]]
    ) -> tuple[BlindSignature, ...]:
        items = [(1 << found.exponent, found.message) for _, found in known]
        signed = self._keyring.keys(number, unit).sign(items)
        return tuple(
            BlindSignature(index, amount, *signature)
            for (index, _), (amount, _), signature in zip(known, items, signed, strict=True)
        )

    # Time.

    async def advance(self, tip: ChainTip | None = None) -> list[KeysetChange]:
        """Moves keysets: to be called at least each second, and whenever something happened.

        Another tip, a block, a settlement, shares: all of them may close a keyset, open one, or
        give one its price. A call too many does no harm.

        Args:
            tip: The chain's tip, if it is known better than the mint's `ChainView` does.

        Returns:
            News for all clients.

        Raises:
            StoreError: Some of it is not durable; the next call does the rest.
        """
        async with self._moving:
            return await trio.to_thread.run_sync(self._advance, tip)

    def _advance(self, tip: ChainTip | None) -> list[KeysetChange]:
        before = self.tip_height
        self._tip = tip or self._chain.tip
        now_ms = self._unix_ms()
        judged_ms, judged_tip = self._judged
        judge = self._tip != judged_tip or not 0 <= now_ms - judged_ms < JUDGE_MS
        moment = Moment(now_ms, self._tip, _difficulty(self._chain.block_target))
        gone = self._register.claimants.take_gone()
        try:
            with self._store.change() as connection:
                touched = self._calendar.advance(connection, moment, judge=judge)
                if gone is None or gone:
                    leave_behind(connection, gone)
        except StoreError:
            self._register.claimants.give_back(gone)
            raise
        if touched or judge:
            self._look_around()
        if judge:
            self._judged = now_ms, self._tip
            touched |= self._publish() | self._gallery.moving(before)
        touched |= self._gallery.open_numbers()
        with self._store.look() as connection:
            return self._gallery.refresh(connection, touched)

    def _publish(self) -> set[int]:
        try:
            return self._publisher.publish(STATEMENTS_AT_ONCE)
        except StoreError as error:
            # Prices, claims and redemptions do not wait for it; the next call tries again.
            log.error("a settlement statement cannot be written yet", reason=str(error))  # noqa: TRY400
            return set()

    def _look_around(self) -> None:
        """Learns what claims and channels go by."""
        with self._store.look() as connection:
            recent = table.keysets(
                connection, "number <> ? ORDER BY number DESC LIMIT ?", (self._sat, SLOTS_MAX)
            )
            if Policy.FIXED in self.policies:
                self._fixed_covered = self._register.is_covered(connection)
        self._register.rack.fill(recent)

    # What is published.

    async def statement(self, keyset_id: bytes) -> SignedStatement:
        """Returns the signed statement of a keyset whose price is final.

        Raises:
            RefusedError: There is none.
            StoreError: The store cannot be read.
        """
        return await self._read(self._publisher.statement, keyset_id)

    async def inclusion(self, blinded: bytes) -> Inclusion:
        """Proves that the claim of a blinded message is in the statement of its keyset.

        Raises:
            RefusedError: There is no such claim, or no statement.
            StoreError: The store cannot be read.
        """
        return await self._check(lambda: self._publisher.inclusion(blinded))

    async def figures(self) -> Mapping[str, Any]:
        """Returns the mint's figures, JSON-ready; see `radpool_sv2.ecash.figure`.

        Raises:
            StoreError: The store cannot be read.
        """

        def find() -> Mapping[str, Any]:
            with self._store.look() as connection:
                return figures_of(connection, self.settings)

        return await self._read(find)

    async def _read(self, function: Callable[..., T], *args: object) -> T:
        return await trio.to_thread.run_sync(function, *args)

    async def _check(self, function: Callable[[], T]) -> T:
        """Runs what takes a core for a while; two at a time, so that miners have the others."""
        return await trio.to_thread.run_sync(function, limiter=self._checking)


def _owner(store: SqliteStore, policy: Policy, now_ms: int) -> OwnerOf:
    """Returns the ledger's account of a policy, which is opened once.

    Source: `spec/02-owner-tag.md`, "Owner commitment".
    """
    row = store.find_account(policy.account)
    if row is None:
        salt = os.urandom(SALT_LEN)
        commitment = tagged_hash("radpool/account", policy.account.encode(), salt)
        row = store.add_account(policy.account, salt, commitment, now_ms)
    return OwnerOf(row.id, row.commitment)


def _difficulty(target: bytes | None) -> int | None:
    """Returns how many hashes it takes on average to meet a target."""
    return None if target is None else (1 << 256) // (int.from_bytes(target, "little") + 1)


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise RefusedError(f"{count} items: {most} is the most", refusal.TOO_MANY_ITEMS)

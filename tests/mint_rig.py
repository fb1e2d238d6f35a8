"""Sets a mint up over a ledger, with a chain, a clock and wallets that tests hold in their hands.

Shares and their batches are those of `shares`; claims are admitted by the same rule as the native
`ClaimBatch` does, in a few lines of Python. Everything else is the real thing.
"""

from __future__ import annotations

import dataclasses
import struct
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

from coincurve import PrivateKey
from shares import Owner, Share, Template
from shares import ShareBatch as SealableBatch

from radpool_sv2._native.ecash import MintSeed, blind, unblind
from radpool_sv2._native.ledger import MspKey
from radpool_sv2.config.ecash import EcashSection
from radpool_sv2.ecash import mint as mint_module
from radpool_sv2.ecash.cash_out import cash_out_hash
from radpool_sv2.ecash.claim import ClaimEnclosure
from radpool_sv2.ecash.keyset import ChainTip
from radpool_sv2.ecash.mint import Mint
from radpool_sv2.ecash.policy import KeysetState, Policy
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.request import Request
from radpool_sv2.ecash.token import Output, Proof
from radpool_sv2.ecash.value import ValueRule
from radpool_sv2.ledger.books import Books
from radpool_sv2.store import SqliteStore
from radpool_sv2.store import ecash as table
from radpool_sv2.store import ecash_token as tokens
from radpool_sv2.units import target_of

if TYPE_CHECKING:
    from pathlib import Path

KEY = MspKey.from_secret(b"\x01" * 32)
SEED = MintSeed.from_secret(b"\x07" * 32)

BLOCK_BITS = 6
"""A block takes 2^6 hashes: shares of some units fill a window."""

BY_VALUE = ValueRule(0, 0, lambda _height: 1_000 << BLOCK_BITS)
"""A unit costs 1,000: what a share of z = 0 is worth at the price that shares have."""

EPOCH_MS = 1_700_000_000_000

RECORD_LEN = 132

# So that one step does all there is to do.
mint_module.STATEMENTS_AT_ONCE = 1_000


class Batch(bytes):
    """Stands in for the engine's batch: records to look at, and shares to seal."""

    RECORD_LEN = RECORD_LEN

    def __new__(cls, shares: list[Share], claims: list[tuple[bytes, bytes] | None]) -> Self:
        records = b""
        for index, share in enumerate(shares):
            record = struct.pack("<QQQQ", 0, share.connection, share.owner.account, 0)
            record += struct.pack("<II", share.channel, index)
            record += bytes(68 - len(record)) + share.hash(KEY.public) + bytes(32)
            records += record
        batch = super().__new__(cls, records)
        batch.sealable = SealableBatch(shares)
        batch.shares = shares
        batch.brought = claims
        return batch

    sealable: SealableBatch
    shares: list[Share]
    brought: list[tuple[bytes, bytes] | None]

    def __len__(self) -> int:
        return len(self.shares)

    def seal(self, *args: Any, **options: Any) -> Any:
        return self.sealable.seal(*args, **options)

    def price_of(self, index: int) -> int:
        return self.shares[index].price


class Claims:
    """Admits claims as the native `ClaimBatch` does."""

    def __init__(self, batch: Batch, register: Any, now_ms: int) -> None:
        self.codes: dict[int, str] = {}
        self.admitted: dict[int, tuple[bytes, int]] = {}
        self.batch = batch
        seen: set[bytes] = set()
        for index, (share, claim) in enumerate(zip(batch.shares, batch.brought, strict=True)):
            if claim is None:
                continue
            short, message = claim
            named = [
                slot
                for slot in register.rack.slots
                if slot.short == short and slot.account == share.owner.account
            ]
            if not named:
                self.codes[index] = "unknown-keyset"
            elif not named[0].takes(share.owner.epoch, share.template.height, now_ms):
                self.codes[index] = "stale-keyset"
            elif message in seen:
                self.codes[index] = "blinded-message-reused"
            else:
                seen.add(message)
                self.admitted[index] = (message, named[0].number)
        self.at_first = dict(self.codes)
        self.excluded: set[int] = set()
        self.slots = {slot.number: slot for slot in register.rack.slots}
        self.claimants = register.claimants
        self.before: dict[tuple[int, bytes], int] = {}
        self.after: dict[tuple[int, bytes], int] = {}
        self.tokens: dict[int, int] = {}
        self.worth: dict[int, int] = {}

    @property
    def indices(self) -> list[int]:
        return sorted({*self.at_first, *self.admitted})

    @property
    def statuses(self) -> list[tuple[int, str]]:
        return sorted((i, code) for i, code in self.codes.items() if i not in self.excluded)

    def _key(self, index: int) -> tuple[int, bytes] | None:
        if not self.slots[self.admitted[index][1]].unit_value:
            return None
        share = self.batch.shares[index]
        return share.owner.account, self.claimants.of(share.connection, share.channel)

    @property
    def residue_keys(self) -> list[tuple[int, bytes]]:
        return sorted({key for key in map(self._key, self.admitted) if key is not None})

    @property
    def residues(self) -> list[tuple[tuple[int, bytes], int]]:
        return sorted(self.after.items())

    @property
    def values(self) -> list[tuple[int, int]]:
        return sorted(self.worth.items())

    def rows(self, excluded: Any, residues: Any = None) -> list[tuple[bytes, int, int, int, int]]:
        self.codes = dict(self.at_first)
        self.excluded = set(excluded)
        self.before = dict(residues or {})
        self.deal()
        return self.standing

    def deal(self) -> None:
        """Gives each claim that stands the largest token that its claimant's value pays for."""
        self.after, self.tokens, self.worth = {}, {}, {}
        for index, (_, number) in sorted(self.admitted.items()):
            share, slot, key = self.batch.shares[index], self.slots[number], self._key(index)
            if index in self.excluded or index in self.codes:
                continue
            self.tokens[index] = share.z
            if key is None:
                continue
            value = share.price << share.z
            self.worth[number] = self.worth.get(number, 0) + value
            together = self.after.get(key, self.before.get(key, 0)) + value
            units = min(together // slot.unit_value, 2**63)
            self.tokens[index] = slot.z0 + units.bit_length() - 1 if units else 255
            cost = slot.unit_value << units.bit_length() - 1 if units else 0
            self.after[key] = together - cost

    @property
    def standing(self) -> list[tuple[bytes, int, int, int, int]]:
        kept = [index for index in range(len(self.batch)) if index not in self.excluded]
        return [
            (*self.admitted[index], self.tokens[index], place, index)
            for place, index in enumerate(kept)
            if index in self.tokens
        ]

    def refuse(self, indices: Any, code: str) -> None:
        self.codes |= dict.fromkeys(indices, code)
        self.deal()


@dataclass
class Chain:
    tip: ChainTip | None = None
    block_target: bytes | None = target_of(BLOCK_BITS).to_bytes(32, "little")


@dataclass(frozen=True)
class Token:
    """Is what a wallet knows of one of its tokens."""

    keyset: bytes
    amount: int
    secret: str
    signature: bytes
    message: bytes

    @property
    def proof(self) -> Proof:
        return Proof(self.amount, self.secret, self.signature)


@dataclass
class Wallet:
    """Makes blinded messages and unblinds signatures."""

    name: bytes = b"wallet"
    numbers: Any = field(default_factory=count)
    kept: dict[bytes, tuple[str, bytes]] = field(default_factory=dict)

    def message(self) -> bytes:
        seed = sha256(self.name + next(self.numbers).to_bytes(8, "big")).digest()
        secret, factor = seed.hex(), sha256(seed).digest()
        [message] = blind([(secret.encode(), factor)])
        self.kept[message] = (secret, factor)
        return message

    def token(self, keyset: bytes, amount: int, message: bytes, blind_signature: bytes, key: bytes):
        secret, factor = self.kept[message]
        [signature] = unblind([(blind_signature, factor, key)])
        return Token(keyset, amount, secret, signature, message)

    def outputs(self, keyset: bytes, amount: int) -> list[Output]:
        """Makes outputs of powers of two that sum to an amount."""
        powers = [1 << bit for bit in range(amount.bit_length()) if amount >> bit & 1]
        return [Output(power, keyset, self.message()) for power in powers]


class Rig:
    """Is a mint with everything around it; all in one thread."""

    def __init__(
        self,
        directory: Path,
        *,
        confirmations: int = 3,
        rule: ValueRule | None = None,
        **settings: Any,
    ) -> None:
        given = {
            "unit_exponent": 0,
            "policies": ("window", "pool", "network"),
            "coinbase_maturity": 5,
            "window_difficulties": 2,
            "slice_divisor": 2,
            "slice_seconds_min": 0,
            "grace_s": 1,
        }
        self.settings = dataclasses.replace(EcashSection(), **given | settings)
        self.confirmations = confirmations
        self.rule = rule
        self.file = directory / "ledger.sqlite"
        self.now_ms = EPOCH_MS
        self.numbers = count(1)
        self.chain = Chain()
        self.blocks: dict[bytes, int] = {}
        """Height of each block of the pool that is on the active chain."""
        self.known: dict[bytes, int] = {}
        self.wallet = Wallet()
        self.changes: list[Any] = []
        self.open()
        self.tip(100)

    def open(self) -> None:
        self.store = SqliteStore(self.file, owner=KEY.public, time_ms=EPOCH_MS)
        self.books = Books(
            self.store, KEY, maturity_blocks=self.confirmations, unix_ms=lambda: self.now_ms
        )
        self.mint = Mint(
            self.store,
            KEY,
            SEED,
            self.settings,
            self.chain,
            self.confirmations,
            lambda: self.now_ms,
            self.rule,
        )

    def restart(self, **settings: Any) -> None:
        self.store.close()
        self.settings = dataclasses.replace(self.settings, **settings)
        self.open()

    # Time and chain.

    def advance(self) -> list[Any]:
        self.now_ms += 1
        self.mint._judged = (0, None)
        changes = self.mint._advance(None)
        self.changes += changes
        return changes

    def wait(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)
        self.advance()

    def tip(self, height: int) -> None:
        """Moves the tip; the blocks of the pool that are active get their confirmations."""
        number = next(self.numbers)
        self.chain.tip = ChainTip(height, sha256(number.to_bytes(8, "big")).digest())
        self.look()

    def look(self) -> None:
        height = self.chain.tip.height
        active = {
            block: height - self.blocks[block] + 1 if block in self.blocks else None
            for block in self.known
        }
        active = {
            block: None if depth is None or depth < 1 else depth for block, depth in active.items()
        }
        self.books.reconcile(active)
        self.advance()

    def grow(self, blocks: int) -> None:
        for _ in range(blocks):
            self.tip(self.chain.tip.height + 1)

    def block(self, value_sats: int = 1_000) -> bytes:
        """Lets the pool find a block, which becomes the tip."""
        number = next(self.numbers)
        block = sha256(b"block" + number.to_bytes(8, "big")).digest()
        height = self.chain.tip.height + 1
        self.books.record_block(block, height, value_sats, 0)
        self.known[block] = height
        self.blocks[block] = height
        self.advance()
        self.tip(height)
        return block

    def orphan(self, block: bytes) -> None:
        """Takes a block off the active chain; another one of the same height replaces it."""
        del self.blocks[block]
        self.look()

    def revive(self, block: bytes) -> None:
        self.blocks[block] = self.known[block]
        self.look()

    def settle(self, value_sats: int = 1_000) -> bytes:
        """Finds a block and lets it mature."""
        block = self.block(value_sats)
        self.grow(max(self.confirmations, self.settings.coinbase_maturity))
        return block

    # Shares.

    def share(
        self,
        policy: Policy | None,
        z: int,
        *,
        epoch: int | None = None,
        height: int | None = None,
        **fields: Any,
    ) -> Share:
        epoch = self.books.current_epoch if epoch is None else epoch
        height = self.chain.tip.height + 1 if height is None else height
        if policy is None:
            account = self.books.account("alice")
            owner = Owner(account.commitment, epoch, 0, account.id)
        else:
            of = self.mint.owner(policy)
            owner = Owner(of.commitment, epoch, 1, of.account)
        template = Template(height=height)
        given = {"z": z, "ntime": next(self.numbers)} | fields
        return Share(owner, template, **given).mined(KEY.public)

    def enclose(self, shares: list[Share], claims: list[Any]) -> tuple[Batch, Any]:
        batch = Batch(shares, claims)
        register = self.mint._register
        native = Claims(batch, register, self.now_ms)
        z0 = {slot.number: slot.z0 for slot in register.rack.slots}
        return batch, ClaimEnclosure(batch, native, register, z0)

    def submit(self, shares: list[Share], claims: list[Any]) -> tuple[Any, list[Any]]:
        """Commits a batch; returns the enclosure, and what the ledger refused."""
        batch, enclosure = self.enclose(shares, claims)
        refused = self.books.commit(batch, [enclosure] if enclosure.indices else ())
        return enclosure, refused

    def mine(
        self, policy: Policy, *exponents: int, wallet: Wallet | None = None, **fields: Any
    ) -> list[Token]:
        """Submits shares that claim tokens of the open keyset; returns the tokens."""
        wallet = wallet or self.wallet
        keyset = self.mint.current(policy)
        shares = [self.share(policy, z, **fields) for z in exponents]
        claims = [(keyset.short, wallet.message()) for _ in exponents]
        enclosure, refused = self.submit(shares, claims)
        assert refused == []
        assert enclosure.rejected == []
        return self.unblind(keyset.id, [message for _, message in claims], wallet)

    def unblind(self, keyset_id: bytes, messages: list[bytes], wallet: Wallet | None = None):
        wallet = wallet or self.wallet
        row = self.row(keyset_id)
        keys = self.mint._keyring.keys(row.number, row.unit)
        public = dict(keys.public)
        with self.store.look() as connection:
            known = [tokens.find_blinded(connection, message) for message in messages]
        made = []
        for message, found in zip(messages, known, strict=True):
            if not found.is_signed:
                continue
            amount = 1 << found.exponent
            [(signature, _, _)] = keys.sign([(amount, message)])
            made.append(wallet.token(keyset_id, amount, message, signature, public[amount]))
        return made

    def repeated(self, share: Share, short: bytes, message: bytes, **fields: Any) -> Any:
        given = {
            "connection": 1,
            "channel": 1,
            "sequence": 9,
            "hash": share.hash(KEY.public),
            "exponent": share.z,
            "account": share.owner.account,
            "epoch": share.owner.epoch,
            "height": share.template.height,
            "tlvs": False,
            "data": bytes([8]) + short + bytes([33]) + message,
        }
        return SimpleNamespace(**given | fields)

    # Residues.

    def residues(self, policy: Policy) -> dict[bytes, int]:
        """Returns what each claimant of a policy has left over."""
        account = self.mint.owner(policy).account
        with self.store.look() as connection:
            query = "SELECT claimant, value FROM residue WHERE account = ?"
            rows = connection.execute(query, (account,)).fetchall()
        return {claimant: int.from_bytes(value, "big") for claimant, value in rows}

    def cash_out(
        self, key: PrivateKey, policy: Policy, amounts: list[int], messages: Any = None
    ) -> list[Token]:
        """Takes tokens of the open keyset for what a claim key has left over."""
        keyset = self.mint.current(policy).id
        messages = [self.wallet.message() for _ in amounts] if messages is None else messages
        outputs = [
            Output(amount, keyset, message)
            for amount, message in zip(amounts, messages, strict=True)
        ]
        claim_key = key.public_key.format()
        pairs = [(each.amount, each.blinded) for each in outputs]
        signature = key.sign_schnorr(cash_out_hash(claim_key, keyset, pairs))
        self.mint._cashier.cash_out(claim_key, keyset, outputs, signature)
        return self.unblind(keyset, messages)

    # Tokens.

    def exchange(self, keyset_id: bytes, inputs: Any, outputs: Any, *, into_sats: bool):
        teller = self.mint._teller
        request = teller.prepare(keyset_id, inputs, outputs, into_sats=into_sats)
        if not isinstance(request, Request):
            return request
        [done] = teller.carry_out([request], self.now_ms)
        if isinstance(done, RefusedError):
            raise done
        return teller.answer(request, done)

    def worth(self, held: list[Token]) -> int:
        """Computes what tokens of one keyset are worth by its announced price, sats."""
        view = self.view(held[0].keyset)
        units = sum(token.amount for token in held)
        return view.price_num * units // view.price_den // 1000

    def redeem(self, held: list[Token], sats: int | None = None) -> list[Token]:
        sats = self.worth(held) if sats is None else sats
        outputs = self.wallet.outputs(self.mint.sat_keyset_id, sats)
        proofs = [token.proof for token in held]
        self.exchange(held[0].keyset, proofs, outputs, into_sats=True)
        return self.unblind(self.mint.sat_keyset_id, [each.blinded for each in outputs])

    def swap(self, held: list[Token], amounts: list[int]) -> list[Token]:
        keyset = held[0].keyset
        outputs = [Output(amount, keyset, self.wallet.message()) for amount in amounts]
        self.exchange(keyset, [token.proof for token in held], outputs, into_sats=False)
        return self.unblind(keyset, [each.blinded for each in outputs])

    # What the store says.

    def row(self, keyset_id: bytes) -> Any:
        with self.store.look() as connection:
            return table.find_keyset(connection, keyset_id)

    def view(self, keyset_id: bytes) -> Any:
        with self.store.look() as connection:
            row = table.find_keyset(connection, keyset_id)
            return self.mint._gallery.show(connection, row)

    def state(self, keyset_id: bytes) -> KeysetState:
        return KeysetState(self.row(keyset_id).state)

    def books_of(self, policy: Policy) -> dict[str, int]:
        with self.store.look() as connection:
            return {
                book: msat
                for (each, book), msat in table.totals(connection).items()
                if each == policy
            }

    def rows(self, policy: Policy) -> list[Any]:
        with self.store.look() as connection:
            return table.keysets(connection, "policy = ? ORDER BY number", (policy,))

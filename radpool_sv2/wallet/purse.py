"""Derives, reserves, verifies and keeps tokens: the wallet without a network.

Theory of operation. Every secret of the wallet follows from its words, a keyset and a counter, so
the words alone bring everything back. In return a counter must never be used twice: two tokens with
one secret are one token. Hence:

- A counter is reserved by a durable transaction before anything derived from it leaves the machine,
  and never given to anybody else. Reservations are in blocks; a block begins small and doubles, so
  that a crash leaves a gap that is small beside what restoring looks beyond. What is left of a
  block when the wallet is closed goes back, unless another process has reserved behind it.
- Tokens leave only by an exchange: its inputs are held, its outputs reserved and its request
  written down in one transaction before the request leaves. The request is repeated byte for byte
  until the mint's answer is known; a mint answers the same request alike. The answer and what
  became of the inputs go into one transaction again. A crash at any point leaves either no
  exchange or one that can be repeated.
- A signature counts only with a proof (NUT-12) that it was made by the announced key; one without
  is as bad as a wrong one.
- A keyset belongs to the mint that the wallet first saw it from, for ever.

Several processes may do all this at once on one file: whatever is decided here is decided inside a
transaction.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from radpool_sv2._native.ecash import WalletSeed
from radpool_sv2.errors import LocalProtocolError, RadpoolError, RemoteProtocolError
from radpool_sv2.wallet.announcement import WORK_UNIT, Announcement, EpochUpdate, Policy
from radpool_sv2.wallet.claim_key import ClaimKey
from radpool_sv2.wallet.deposit import DepositStore
from radpool_sv2.wallet.file import WalletFile
from radpool_sv2.wallet.seed import seed_of
from radpool_sv2.wallet.store import Keyset, Mint, Token, TokenState, WalletStore

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = [
    "BLOCK_MAX",
    "Output",
    "Purse",
    "Receipt",
    "Received",
    "SignedOutput",
    "Trusted",
    "log2",
    "runs",
    "unix_ms",
]

BLOCK_FIRST: Final = 16
BLOCK_MAX: Final = 256
"""How many counters one durable transaction reserves once a process has shown that it uses them."""
RESERVE_MAX: Final = 10_000
SKIP: Final = 100
"""How far to go beyond a counter that proved to be used already."""
COUNTERS: Final = 1 << 62
"""Far more than will ever be used, and few enough for the file."""
SLICES_PER_TIP: Final = 64
"""A mint that opens more keysets than this on one tip, for one policy, sorts its miners into small
crowds: slices have an eighth of a block's expected work, so even a pool that is the whole network
opens some eight."""

Receipt = tuple[int, int, bytes, bytes, bytes]
"""Counter, amount, blind signature C_, and its proof e and s."""

SignedOutput = tuple[int, bytes, bytes, bytes]
"""Amount, blind signature C_, and its proof e and s, in the order of an exchange's outputs."""


@dataclass(frozen=True, slots=True)
class Output:
    """Is a token to be: what to keep and what to have signed.

    Attributes:
        counter: Which of the keyset's it is.
        secret: What nobody may see before the token is spent.
        blinded: B_, 33 bytes, for the mint.
    """

    counter: int
    secret: str = field(repr=False)
    blinded: bytes


@dataclass(frozen=True, slots=True)
class Received:
    """Is what became of receipts.

    Attributes:
        stored: How many are tokens now; those that were tokens before count too.
        units: What these are worth together.
        bad: The counters whose signature is missing, wrong or unproven: no money.
    """

    stored: int
    units: int
    bad: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trusted:
    """Is a keyset that the wallet now trusts.

    Attributes:
        keyset: The keyset.
        new: Whether it was unknown before.
        warnings: What speaks against the mint although nothing is wrong with the keyset.
    """

    keyset: Keyset
    new: bool
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Block:
    """Is what is left of reserved counters: from `first` up to, not including, `end`."""

    first: int
    end: int
    size: int


class Purse:
    """Is the wallet without a network. Its methods may be called from any thread.

    Args:
        directory: The wallet's directory.
        clock_ms: Tells the time, in milliseconds since 1970.
    """

    def __init__(self, directory: Path, clock_ms: Callable[[], int] | None = None) -> None:
        self.file = WalletFile(directory)
        self.store = WalletStore()
        self.deposits = DepositStore()
        self.clock_ms = clock_ms or unix_ms
        self._blocks: dict[int, _Block] = {}
        self._lock = threading.RLock()
        with self.file.read() as connection:
            [(words,)] = connection.execute("SELECT value FROM meta WHERE key = 'words'")
        self._words = str(words)
        self._seed_bytes = seed_of(self._words)
        self.seed = WalletSeed.from_seed(self._seed_bytes)

    def close(self) -> None:
        """Gives back counters that nobody saw, and the file."""
        with self._lock:
            left = {
                number: block for number, block in self._blocks.items() if block.first < block.end
            }
            self._blocks.clear()
            # What cannot be given back is a gap, as after a crash.
            with suppress(RadpoolError):
                if left:
                    with self.file.write() as connection:
                        for number, block in left.items():
                            if self.store.next_counter(connection, number) == block.end:
                                self.store.set_next_counter(connection, number, block.first)
            self.file.close()

    def words(self) -> str:
        """Returns the words that bring the wallet back: whoever has them has the money."""
        return self._words

    # Mints and keysets

    def know_mint(self, public_key: bytes, url: str | None) -> Mint:
        """Makes a mint known, or says where a known one answers.

        Raises:
            RemoteProtocolError: Another mint answered at this address before.
        """
        with self.file.write() as connection:
            return self._know_mint(connection, public_key, url)

    def _know_mint(
        self, connection: sqlite3.Connection, public_key: bytes, url: str | None
    ) -> Mint:
        mints = self.store.mints(connection)
        for mint in mints:
            if url is not None and mint.url == url and mint.public_key != public_key:
                raise RemoteProtocolError(
                    f"{url}: the mint here has the key {public_key.hex()} now, and had "
                    f"{mint.public_key.hex()} when this wallet first met it: ask its operator. "
                    "Nothing was sent."
                )
        for mint in mints:
            if mint.public_key == public_key:
                # The first address stays: a hostile announcement must not redirect the wallet.
                return mint if mint.url or not url else self.store.set_url(connection, mint, url)
        return self.store.add_mint(connection, public_key, url)

    def mints(self) -> list[Mint]:
        """Returns all mints that the wallet knows."""
        with self.file.read() as connection:
            return self.store.mints(connection)

    def trust(self, payload: bytes, mint: bytes, url: str | None = None) -> Trusted:
        """Checks an announced keyset and keeps it, bound to its mint for ever.

        Args:
            payload: The mint's EcashKeysetAnnounce.
            mint: The mint's key, 33 bytes, as the connection vouched for it.
            url: Where the mint answers over HTTP, if that is known.

        Raises:
            RemoteProtocolError: The announcement is wrong, or another mint has shown this keyset.
        """
        found = Announcement.read(payload, mint)
        with self.file.write() as connection:
            known = self.store.keyset(connection, found.keyset_id)
            if known is not None:
                if known.mint.public_key != mint:
                    raise RemoteProtocolError(
                        f"keyset {found.keyset_id.hex()} belongs to the mint {known.mint.place}, "
                        f"and {mint.hex()} shows it as its own: it could spend what this wallet "
                        "gets there. Refused."
                    )
                if not found.agrees_with(known.announcement):
                    raise RemoteProtocolError(
                        f"keyset {found.keyset_id.hex()} was announced before with other terms, by "
                        f"the same mint {known.mint.place}: one of the two is for you alone. "
                        "Refused."
                    )
                return Trusted(known, new=False)
            warnings = self._sanity(connection, found, mint)
            keyset = self.store.add_keyset(
                connection, self._know_mint(connection, mint, url), found, self.clock_ms()
            )
            return Trusted(keyset, new=True, warnings=warnings)

    def _sanity(
        self, connection: sqlite3.Connection, found: Announcement, mint: bytes
    ) -> tuple[str, ...]:
        if found.policy is None:
            return ()
        on_tip = sum(
            keyset.mint.public_key == mint
            and keyset.announcement.policy is found.policy
            and keyset.announcement.opened_block == found.opened_block
            for keyset in self.store.keysets(connection)
        )
        allowed = SLICES_PER_TIP if found.policy in {Policy.WINDOW, Policy.FIXED} else 1
        if on_tip < allowed:
            return ()
        warning = (
            f"the mint {mint.hex()} has opened {on_tip + 1} keysets of the policy "
            f"{found.policy.word} on one tip: that many small crowds make it easy to tell who "
            "redeems. Ask its operator why"
        )
        return (warning,)

    def take_update(self, payload: bytes, expected: bytes | None = None) -> Keyset:
        """Keeps what a mint signed about the epoch of a keyset that the wallet trusts.

        Args:
            payload: The mint's EcashEpochUpdate.
            expected: The keyset that it must be about, if one was asked for.

        Raises:
            RemoteProtocolError: It is malformed, of another keyset, or not signed by its mint.
        """
        about = EpochUpdate.parse(payload).keyset_id
        if expected is not None and about != expected:
            raise RemoteProtocolError(
                f"the mint gave the update of keyset {about.hex()}, not of {expected.hex()}"
            )
        with self.file.write() as connection:
            keyset = self._require(connection, about)
            if keyset.update is not None and keyset.update.payload == payload:
                return keyset
            update = EpochUpdate.read(payload, keyset.mint.public_key)
            self.store.set_update(connection, keyset.number, update)
            return self._require(connection, update.keyset_id)

    def keyset(self, identifier: bytes) -> Keyset:
        """Returns a keyset that the wallet trusts.

        Raises:
            RemoteProtocolError: It does not.
        """
        with self.file.read() as connection:
            return self._require(connection, identifier)

    def keysets(self, unit: str = WORK_UNIT) -> list[Keyset]:
        """Returns all keysets of a unit that the wallet trusts, oldest first."""
        with self.file.read() as connection:
            return [keyset for keyset in self.store.keysets(connection) if keyset.unit == unit]

    def _require(self, connection: sqlite3.Connection, identifier: bytes) -> Keyset:
        keyset = self.store.keyset(connection, identifier)
        if keyset is None:
            raise RemoteProtocolError(
                f"keyset {identifier.hex()} is unknown to the wallet: no announcement of it was "
                "trusted",
                "unknown-keyset",
            )
        return keyset

    # Counters

    def reserve(self, identifier: bytes, count: int) -> list[Output]:
        """Derives outputs that nobody had before; their counters are durably used on return.

        Args:
            identifier: The keyset, which `trust` has accepted.
            count: How many, 1 to 10,000.

        Raises:
            LocalProtocolError: The count is out of range.
            RemoteProtocolError: The keyset is unknown.
            StoreError: The reservation is not durable; nothing may be sent.
        """
        if not 0 < count <= RESERVE_MAX:
            raise LocalProtocolError(f"{count} outputs: 1 to {RESERVE_MAX} can be reserved at once")
        with self._lock:
            ranges = list(self._reserve(self.keyset(identifier).number, count))
        return [
            output for first, number in ranges for output in self.derive(identifier, first, number)
        ]

    def _reserve(self, keyset: int, count: int) -> Iterator[tuple[int, int]]:
        """Yields ranges of counters (first, how many) that were not used before."""
        block = self._blocks.setdefault(keyset, _Block(0, 0, BLOCK_FIRST))
        if taken := min(count, block.end - block.first):
            yield block.first, taken
            block.first += taken
        missing = count - taken
        if missing:
            with self.file.write() as connection:
                first = self.store.next_counter(connection, keyset)
                end = first + max(missing, block.size)
                self.store.set_next_counter(connection, keyset, end)
            yield first, missing
            size = min(2 * block.size, BLOCK_MAX)
            self._blocks[keyset] = _Block(first + missing, end, size)

    def derive(self, identifier: bytes, first: int, count: int) -> list[Output]:
        """Derives outputs again; reserves nothing."""
        derived = self.seed.derive(identifier, first, count)
        return [
            Output(counter, secret, blinded)
            for counter, secret, blinded in zip(
                range(first, first + count), derived.secrets, derived.blinded, strict=True
            )
        ]

    def derive_all(self, identifier: bytes, counters: Iterable[int]) -> dict[int, Output]:
        """Derives the outputs of any counters again."""
        return {
            output.counter: output
            for first, count in runs(counters)
            for output in self.derive(identifier, first, count)
        }

    def skip(self, identifier: bytes, counter: int) -> int:
        """Goes beyond a counter of which the mint says that it was used: the file is an old copy.

        Returns:
            The first counter that is used from now on.
        """
        with self._lock, self.file.write() as connection:
            keyset = self._require(connection, identifier)
            self._blocks.pop(keyset.number, None)
            beyond = max(keyset.next_counter, counter + 1 + SKIP)
            if counter < 0 or beyond >= COUNTERS:
                raise LocalProtocolError(f"counter {counter} is out of range")
            self.store.set_next_counter(connection, keyset.number, beyond)
            self.store.add_event(
                connection,
                "rollback",
                self.clock_ms(),
                keyset=keyset.number,
                note=f"the mint had seen counter {counter} before: this file was an old copy",
            )
            return beyond

    def advance(self, identifier: bytes, highest: int) -> None:
        """Goes beyond the highest counter that restoring found."""
        with self._lock, self.file.write() as connection:
            keyset = self._require(connection, identifier)
            self._blocks.pop(keyset.number, None)
            beyond = max(keyset.next_counter, highest + 1 + SKIP)
            self.store.set_next_counter(connection, keyset.number, beyond)

    # Claim keys

    def claim_key(self, counter: int) -> ClaimKey:
        """Derives a claim key again; reserves nothing."""
        return ClaimKey.derive(self._seed_bytes, counter)

    def take_claim_key(self) -> ClaimKey:
        """Derives the claim key of a channel that is to open; durably noted on return.

        Raises:
            StoreError: It is not durable; nothing may be sent.
        """
        with self.file.write() as connection:
            counter = self.deposits.take(connection, self.clock_ms())
        return self.claim_key(counter)

    def open_claim_key(self, counter: int, mint: bytes, policy: Policy) -> None:
        """Notes that a channel of a known mint has a claim key, or still has it.

        Raises:
            RemoteProtocolError: The mint is unknown.
        """
        with self.file.write() as connection:
            known = self._known(connection, mint)
            now_ms = self.clock_ms()
            self.deposits.open(connection, counter, known.number, policy.word, now_ms)

    def mint(self, public_key: bytes) -> Mint:
        """Returns a mint by its key.

        Raises:
            RemoteProtocolError: The wallet does not know it.
        """
        with self.file.read() as connection:
            return self._known(connection, public_key)

    def _known(self, connection: sqlite3.Connection, public_key: bytes) -> Mint:
        for mint in self.store.mints(connection):
            if mint.public_key == public_key:
                return mint
        raise RemoteProtocolError(f"the mint {public_key.hex()} is unknown to the wallet")

    # Tokens

    def receive(self, identifier: bytes, receipts: Sequence[Receipt]) -> Received:
        """Verifies signatures of shares and keeps them as tokens, durable on return.

        Args:
            identifier: The keyset.
            receipts: What the mint signed; a receipt may come again.

        Raises:
            LocalProtocolError: A counter was never reserved.
            StoreError: Nothing was kept; give the receipts again.
        """
        keyset = self.keyset(identifier)
        good, bad = self.verify(keyset, receipts, mined=True)
        with self.file.write() as connection:
            beyond = self.store.next_counter(connection, keyset.number)
            if any(token.counter >= beyond for token in good):
                raise LocalProtocolError(
                    f"a receipt for a counter from {beyond} on: none is reserved"
                )
            self.store.add_tokens(connection, keyset.number, good)
        return Received(len(good), sum(1 << token.exponent for token in good), tuple(bad))

    def verify(
        self, keyset: Keyset, receipts: Sequence[Receipt], *, mined: bool
    ) -> tuple[list[Token], list[int]]:
        """Verifies and unblinds signatures.

        Returns:
            The tokens, and the counters of signatures that are none.
        """
        keys = keyset.announcement.keys
        known = [
            (counter, exponent, blind, e, s)
            for counter, amount, blind, e, s in receipts
            if (exponent := log2(amount)) in keys
        ]
        unblinded = self.seed.unblind(
            keyset.id,
            [(counter, blind, e, s, keys[exponent]) for counter, exponent, blind, e, s in known],
        )
        tokens = {
            counter: Token(counter, exponent, signature, mined)
            for (counter, exponent, *_), signature in zip(known, unblinded, strict=True)
            if signature is not None
        }
        bad = dict.fromkeys(counter for counter, *_ in receipts if counter not in tokens)
        return list(tokens.values()), list(bad)

    def forget(self, keyset: int, counters: Sequence[int]) -> None:
        """Notes that tokens which the file believed ours are spent."""
        with self.file.write() as connection:
            self.store.move_tokens(connection, keyset, counters, TokenState.SPENT)

    def missing(self, identifier: bytes) -> list[Output]:
        """Returns the outputs that were reserved, never came back as tokens, and are not under way.

        Raises:
            RemoteProtocolError: The keyset is unknown.
        """
        with self.file.read() as connection:
            keyset = self._require(connection, identifier)
            known = self.store.known_counters(connection, keyset.number)
            known |= self.store.planned_counters(connection, keyset.number)
        counters = [counter for counter in range(keyset.next_counter) if counter not in known]
        return list(self.derive_all(identifier, counters).values())


def log2(amount: int) -> int:
    """Returns the exponent of a power of two; -1 if it is none."""
    return amount.bit_length() - 1 if amount > 0 and amount & (amount - 1) == 0 else -1


def runs(counters: Iterable[int]) -> list[tuple[int, int]]:
    """Joins counters to ranges: the first of each and how many."""
    found: list[tuple[int, int]] = []
    for counter in sorted(set(counters)):
        if found and counter == sum(found[-1]):
            found[-1] = found[-1][0], found[-1][1] + 1
        else:
            found.append((counter, 1))
    return found


def unix_ms() -> int:
    """Returns the time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000

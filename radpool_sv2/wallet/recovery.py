"""Finds tokens that the wallet's file does not have: lost receipts, an old copy, nothing but words.

Every output follows from the words, so whatever a mint has ever signed can be asked for again.
Asking goes upward by counters and ends after a stretch of which the mint knows nothing. The stretch
is longer than the 300 of NUT-13, because a miner that is killed leaves outputs that it had ready
and never used.

A copy of the file from earlier is behind the mint: the mint has signatures for counters that the
file believes unused. They are fetched, and the counters skipped, before any is used again.

Source: NUT-09, NUT-13; `spec/08-wallet-recovery.md`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2._native.ecash import KeysetKeys
from radpool_sv2.errors import RadpoolError, RemoteProtocolError
from radpool_sv2.wallet.announcement import SAT_UNIT, WORK_UNIT, EpochState, Policy
from radpool_sv2.wallet.exchange import resume
from radpool_sv2.wallet.mint import MintRefusedError
from radpool_sv2.wallet.store import TokenState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from radpool_sv2.wallet.mint import KeysetRow, MintClient, MintInfo
    from radpool_sv2.wallet.purse import Output, Purse
    from radpool_sv2.wallet.store import Keyset, Mint, Token

__all__ = [
    "Caught",
    "Restored",
    "Scan",
    "adopt",
    "catch_up",
    "look_ahead",
    "meet",
    "restore",
]

BATCH: Final = 100
"""How many outputs one request asks for (NUT-13)."""
GAP: Final = 10
"""How many such requests in a row must find nothing before the search ends; NUT-13 has 3."""
GAP_AHEAD: Final = 1
"""The same, where most likely there is nothing: a copy of the file that is older than others leaves
off where they go on."""
REQUESTS: Final = 8
"""How many requests are under way at once."""


@dataclass(slots=True)
class Found:
    """Is what a mint gave back.

    Attributes:
        tokens: How many tokens it has signed that the file did not have.
        amount: What those that are not spent are worth.
        highest: The highest counter that it knows; -1 if it knows none.
        unproven: How many of its signatures are unproven: no money.
    """

    tokens: int = 0
    amount: int = 0
    highest: int = -1
    unproven: int = 0

    def add(self, other: Found) -> None:
        """Adds what another request found."""
        self.tokens += other.tokens
        self.amount += other.amount
        self.highest = max(self.highest, other.highest)
        self.unproven += other.unproven


class Scan:
    """Is the order in which counters are asked for: upward, until a stretch is unknown.

    Args:
        first: The first counter to ask for.
        batch: How many are asked for at once.
        gap: After how many batches in a row without any the search ends.
    """

    def __init__(self, first: int, batch: int = BATCH, gap: int = GAP) -> None:
        self.batch = batch
        self.highest = -1
        self._first = first
        self._gap = gap
        self._end = first

    def wanted(self) -> list[int]:
        """Returns the first counters of batches that have to be asked for whatever comes back."""
        beyond = max(self.highest + 1, self._first)
        last = self._first + -(-(beyond - self._first) // self.batch) * self.batch
        starts = range(self._end, last + self._gap * self.batch, self.batch)
        self._end = max(self._end, starts.stop)
        return list(starts)

    def record(self, start: int, highest: int) -> None:
        """Notes the highest counter that the mint knows in a batch; -1 if it knows none.

        Raises:
            RemoteProtocolError: It answered for counters that were not asked for.
        """
        if highest >= 0 and not start <= highest < start + self.batch:
            raise RemoteProtocolError(f"the mint answered for counter {highest}, not {start}")
        self.highest = max(self.highest, highest)


@dataclass(frozen=True, slots=True)
class Caught:
    """Is what a visit to a mint found.

    Attributes:
        info: What the mint says about itself.
        sat: Its sat keyset.
        notes: What people should know, in words.
    """

    info: MintInfo
    sat: Keyset
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """Is what was brought back from the words.

    Attributes:
        keysets: How many keysets the mint was asked about.
        tokens: How many tokens it had signed, spent ones included.
        notes: What people should know, in words.
        claim_keys: Under how many claim keys it holds, or held, what shares left over.
    """

    keysets: int
    tokens: int
    notes: tuple[str, ...]
    claim_keys: int = 0


async def meet(purse: Purse, mint: MintClient, pinned: bytes | None = None) -> Caught:
    """Asks a mint who it is, and trusts its sat keyset.

    Args:
        purse: The wallet.
        mint: The mint.
        pinned: The key that it must have, 33 bytes, if the user knows it.

    Raises:
        RemoteProtocolError: It is not the mint that it should be, or what it shows is wrong.
    """
    info = await mint.info()
    key = info.public_key
    if pinned is not None and key != pinned:
        raise RemoteProtocolError(
            f"the mint at {mint.url} has the key {key.hex()}, not {pinned.hex()}: it is another one"
        )
    await trio.to_thread.run_sync(purse.know_mint, key, mint.url)
    row = await mint.keyset(info.sat_keyset_id)
    trusted = await trio.to_thread.run_sync(purse.trust, row.announced, key, mint.url)
    if trusted.keyset.unit != SAT_UNIT:
        raise RemoteProtocolError(
            f"the mint at {mint.url} calls keyset {row.id} its sats, but it is of "
            f"{trusted.keyset.unit}"
        )
    return Caught(info, trusted.keyset, trusted.warnings)


async def catch_up(
    purse: Purse, mint: MintClient, of: Mint, *, for_redeeming: bool = False
) -> Caught:
    """Brings the wallet up to date with a mint before anything else is done there.

    Interrupted exchanges are finished, lost receipts fetched, an old copy of the file is found out,
    and what the mint signed about the epochs is kept.

    Args:
        purse: The wallet.
        mint: A way to the mint.
        of: The mint.
        for_redeeming: Whether to ask for no outputs of epochs that nothing is paid for yet: those
            that a miner has ready are seen with its shares soon after, and would tell the mint
            whose shares these tokens are from.

    Raises:
        RemoteProtocolError: It is not the mint that this wallet knows.
    """
    met = await meet(purse, mint, of.public_key)
    notes = [*met.notes, *await resume(purse, mint, of)]
    concerned = await trio.to_thread.run_sync(_concerned, purse, of)
    limit = trio.CapacityLimiter(REQUESTS)
    old: list[Keyset] = []

    async def visit(keyset: Keyset) -> None:
        if await _visit(purse, mint, keyset, limit, notes, for_redeeming=for_redeeming):
            old.append(keyset)

    async with _together() as nursery:
        for keyset in [met.sat, *concerned]:
            nursery.start_soon(visit, keyset)
    if old:
        for keyset in [met.sat, *concerned]:
            await _recount(purse, mint, keyset, limit)
    return Caught(met.info, met.sat, tuple(notes))


async def look_ahead(
    purse: Purse, mint: MintClient, keyset: Keyset, limit: trio.CapacityLimiter | None = None
) -> Found:
    """Skips counters that the file believes unused and the mint has signed; fetches the tokens."""
    first = (await trio.to_thread.run_sync(purse.keyset, keyset.id)).next_counter
    limit = limit or trio.CapacityLimiter(REQUESTS)
    found = await _scan(purse, mint, keyset, Scan(first, gap=GAP_AHEAD), limit)
    if found.highest >= first:
        found.add(await _scan(purse, mint, keyset, Scan(found.highest + 1), limit))
    if found.highest >= (await trio.to_thread.run_sync(purse.keyset, keyset.id)).next_counter:
        await trio.to_thread.run_sync(purse.skip, keyset.id, found.highest)
    else:
        # Another process reserved and used them meanwhile: that is no old copy.
        found.highest = -1
    return found


async def restore(
    purse: Purse,
    mint: MintClient,
    *,
    pinned: bytes | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Restored:
    """Brings back everything that a mint has ever signed for the wallet's words.

    Args:
        purse: The wallet; it may be new, or have some of the tokens.
        mint: The mint.
        pinned: The key that it must have, if the user knows it.
        progress: Is told how many keysets are done, and how many there are.
    """
    met = await meet(purse, mint, pinned)
    notes = list(met.notes)
    keysets = {met.sat.id: met.sat}
    for row in await mint.keysets():
        try:
            keyset = await adopt(purse, mint, met.info.public_key, row)
        except RemoteProtocolError as error:
            notes.append(f"left out: {error}")
        else:
            if keyset.update is None or keyset.update.state is not EpochState.EXPIRED:
                keysets[keyset.id] = keyset
    limit = trio.CapacityLimiter(REQUESTS)
    total, done = Found(), 0

    async def restore_one(keyset: Keyset) -> None:
        nonlocal done
        found = await _scan(purse, mint, keyset, Scan(0), limit)
        if found.highest >= keyset.next_counter:
            await trio.to_thread.run_sync(purse.advance, keyset.id, found.highest)
        total.add(found)
        done += 1
        if progress is not None:
            progress(done, len(keysets))

    async with _together() as nursery:
        for keyset in keysets.values():
            nursery.start_soon(restore_one, keyset)
    if total.unproven:
        notes.append(_unproven(mint, total.unproven))
    return Restored(len(keysets), total.tokens, tuple(notes))


async def adopt(purse: Purse, mint: MintClient, key: bytes, row: KeysetRow) -> Keyset:
    """Trusts a keyset that a mint lists, and keeps its update."""
    trusted = await trio.to_thread.run_sync(purse.trust, row.announced, key, mint.url)
    if trusted.keyset.id.hex() != row.id:
        raise RemoteProtocolError(
            f"the mint lists {row.id} and announces {trusted.keyset.id.hex()}"
        )
    if row.updated is None:
        return trusted.keyset
    return await trio.to_thread.run_sync(purse.take_update, row.updated, trusted.keyset.id)


def _concerned(purse: Purse, of: Mint) -> list[Keyset]:
    """Returns the work keysets of a mint that still have tokens, or may get some."""
    with purse.file.read() as connection:
        sums = purse.store.sums(connection)
        return [
            keyset
            for keyset in purse.store.keysets(connection)
            if keyset.unit == WORK_UNIT and keyset.mint.number == of.number
            if keyset.update is None or keyset.update.state is not EpochState.EXPIRED
            if not keyset.swept
            or (keyset.number, TokenState.OURS) in sums
            or (keyset.number, TokenState.HELD) in sums
        ]


async def _visit(  # noqa: PLR0913 - what a visit is made of, and an option
    purse: Purse,
    mint: MintClient,
    keyset: Keyset,
    limit: trio.CapacityLimiter,
    notes: list[str],
    *,
    for_redeeming: bool,
) -> bool:
    """Brings one keyset up to date; returns whether the file proved to be an old copy."""
    if keyset.unit == WORK_UNIT:
        async with limit:
            if (row := await _row(mint, keyset, notes)) is None:
                return False
        if row.updated is not None:
            keyset = await trio.to_thread.run_sync(purse.take_update, row.updated, keyset.id)
    state = EpochState.OPEN if keyset.update is None else keyset.update.state
    if state is EpochState.EXPIRED:
        # A mint answers for a keyset until it expires, and pays nothing for it afterwards.
        return False
    fixed = keyset.announcement.policy is Policy.FIXED
    if for_redeeming and keyset.unit == WORK_UNIT and state < EpochState.FINAL and not fixed:
        return False
    found = Found() if keyset.swept else await _sweep(purse, mint, keyset, limit)
    lost = found.tokens
    ahead = await look_ahead(purse, mint, keyset, limit)
    found.add(ahead)
    # Sats come by exchanges alone, and interrupted ones are finished by now: whatever else the mint
    # has signed was asked for by somebody with the same words.
    old = ahead.highest >= 0 or (keyset.unit == SAT_UNIT and lost > 0)
    if old:
        notes.append(
            f"the wallet's file is an old copy, or one of two: the mint knew {found.tokens} tokens "
            f"of keyset {keyset.id.hex()[:16]} that it lacked. They are back. Do not use two "
            "copies of one wallet"
        )
    elif lost:
        notes.append(f"{lost} signatures that had not arrived are fetched")
    if found.unproven:
        notes.append(_unproven(mint, found.unproven))
    if state >= EpochState.FINAL and not keyset.swept:
        await trio.to_thread.run_sync(_mark_swept, purse, keyset)
    return old


async def _recount(
    purse: Purse, mint: MintClient, keyset: Keyset, limit: trio.CapacityLimiter
) -> None:
    """Asks which tokens of an old copy are still unspent."""
    tokens = await trio.to_thread.run_sync(_ours, purse, keyset)

    async def recount_batch(batch: Sequence[Token]) -> None:
        derive = partial(purse.derive_all, keyset.id, [token.counter for token in batch])
        outputs = await trio.to_thread.run_sync(derive)
        ys = KeysetKeys.ys([outputs[token.counter].secret for token in batch])
        async with limit:
            spent = await mint.spent(keyset.unit, ys)
        gone = [token.counter for token, taken in zip(batch, spent, strict=True) if taken]
        await trio.to_thread.run_sync(purse.forget, keyset.number, gone)

    async with _together() as nursery:
        for at in range(0, len(tokens), BATCH):
            nursery.start_soon(recount_batch, tokens[at : at + BATCH])


def _ours(purse: Purse, keyset: Keyset) -> list[Token]:
    with purse.file.read() as connection:
        return purse.store.tokens(connection, keyset.number)


async def _row(mint: MintClient, keyset: Keyset, notes: list[str]) -> KeysetRow | None:
    """Asks for a keyset in public, and compares it with what a connection announced."""
    try:
        row = await mint.keyset(keyset.id)
    except MintRefusedError as error:
        notes.append(
            f"the mint does not show keyset {keyset.id.hex()} in public ({error}): if it announced "
            "it to you alone, it can tell your tokens from everybody else's"
        )
        return None
    if row.announced != keyset.announcement.payload:
        notes.append(
            f"the mint announces keyset {keyset.id.hex()} differently in public: ask its operator"
        )
    return row


async def _scan(
    purse: Purse, mint: MintClient, keyset: Keyset, scan: Scan, limit: trio.CapacityLimiter
) -> Found:
    """Asks for signatures upward from a counter, until the mint knows no more."""
    total = Found()

    async def ask(start: int) -> None:
        async with limit:
            outputs = await trio.to_thread.run_sync(purse.derive, keyset.id, start, scan.batch)
            # Which of these were shares and which outputs of a merge, nobody can tell.
            found = await _fetch_batch(purse, mint, keyset, outputs, mined=False)
        total.add(found)
        scan.record(start, found.highest)

    while starts := scan.wanted():
        async with _together() as nursery:
            for start in starts:
                nursery.start_soon(ask, start)
    return total


async def _sweep(
    purse: Purse, mint: MintClient, keyset: Keyset, limit: trio.CapacityLimiter
) -> Found:
    """Asks for the signatures of outputs that were reserved and never came back."""
    outputs = await trio.to_thread.run_sync(purse.missing, keyset.id)
    total = Found()

    async def fetch_batch(batch: Sequence[Output]) -> None:
        async with limit:
            total.add(await _fetch_batch(purse, mint, keyset, batch, mined=True))

    async with _together() as nursery:
        for at in range(0, len(outputs), BATCH):
            nursery.start_soon(fetch_batch, outputs[at : at + BATCH])
    return total


async def _fetch_batch(
    purse: Purse, mint: MintClient, keyset: Keyset, outputs: Sequence[Output], *, mined: bool
) -> Found:
    known = {output.blinded: output for output in outputs}
    signed = await mint.signed(keyset.id, keyset.unit, list(known))
    if not signed:
        return Found()
    receipts = [(known[blinded].counter, *answer) for blinded, answer in signed.items()]
    verify = partial(purse.verify, keyset, receipts, mined=mined)
    tokens, bad = await trio.to_thread.run_sync(verify)
    secrets = {output.counter: output.secret for output in outputs}
    ys = KeysetKeys.ys([secrets[token.counter] for token in tokens])
    spent = await mint.spent(keyset.unit, ys) if ys else []
    kept = [token for token, gone in zip(tokens, spent, strict=True) if not gone]
    gone = [token for token, gone in zip(tokens, spent, strict=True) if gone]
    new, amount = await trio.to_thread.run_sync(_keep, purse, keyset, kept, gone)
    return Found(new, amount, max(counter for counter, *_ in receipts), len(bad))


def _keep(
    purse: Purse, keyset: Keyset, kept: Sequence[Token], gone: Sequence[Token]
) -> tuple[int, int]:
    """Adds tokens that a mint gave back; returns how many are new and the worth of unspent ones."""
    with purse.file.write() as connection:
        known = purse.store.known_counters(connection, keyset.number)
        # What another process is exchanging right now is its own to keep, or to hand to others.
        known |= purse.store.planned_counters(connection, keyset.number)
        new = [token for token in kept if token.counter not in known]
        spent = [token for token in gone if token.counter not in known]
        purse.store.add_tokens(connection, keyset.number, new)
        purse.store.add_tokens(connection, keyset.number, spent, TokenState.SPENT)
        return len(new) + len(spent), sum(1 << token.exponent for token in new)


def _mark_swept(purse: Purse, keyset: Keyset) -> None:
    with purse.file.write() as connection:
        purse.store.set_swept(connection, keyset.number)


@asynccontextmanager
async def _together() -> AsyncIterator[trio.Nursery]:
    """Is a nursery out of which one error comes, not a group that says the same many times."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        known, other = group.split(RadpoolError)
        if known is None or other is not None:
            raise
        error: BaseException = known
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group


def _unproven(mint: MintClient, count: int) -> str:
    return (
        f"the mint at {mint.url} did not prove {count} of its signatures: they are no money. Tell "
        "its operator"
    )

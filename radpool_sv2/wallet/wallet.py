"""Is the wallet: everything that `radpool wallet` and a miner ask of it."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import trio

from radpool_sv2.errors import ConfigError, RemoteProtocolError
from radpool_sv2.wallet import payment, recovery, redemption, residue, view
from radpool_sv2.wallet.exchange import resume
from radpool_sv2.wallet.file import FILE_NAME, make_file
from radpool_sv2.wallet.mint import MintClient, MintRefusedError, MintUnreachableError, check_url
from radpool_sv2.wallet.purse import Purse, unix_ms
from radpool_sv2.wallet.seed import check_words, words_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    import httpx

    from radpool_sv2.wallet.announcement import Policy
    from radpool_sv2.wallet.claim_key import ClaimKey
    from radpool_sv2.wallet.purse import Output, Receipt, Received, Trusted
    from radpool_sv2.wallet.recovery import Caught, Restored
    from radpool_sv2.wallet.redemption import Redeemed
    from radpool_sv2.wallet.residue import CashedOut
    from radpool_sv2.wallet.store import Event, Keyset, Mint, Transfer
    from radpool_sv2.wallet.view import Balance

__all__ = ["Wallet"]

ENTROPY_LEN: Final = 16
"""Twelve words."""
TOKENS_MANY: Final = 200
"""From so many sat tokens on they are merged before some are sent."""


class Wallet:
    """Is one wallet directory. Close it, so that counters nobody saw are not skipped.

    What touches the disk or computes runs in worker threads; nothing here blocks the loop.
    """

    def __init__(self, purse: Purse, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._purse = purse
        self._transport = transport

    @classmethod
    async def create(
        cls,
        directory: Path,
        *,
        words: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> Self:
        """Makes a new wallet.

        Args:
            directory: Where; made for its owner alone if it does not exist.
            words: The words to begin with; new ones are drawn without.
            transport: Carries requests to mints instead of the network.

        Raises:
            ConfigError: There is a wallet already, the directory cannot be used, or the words are
                wrong.
        """
        words = words_of(secrets.token_bytes(ENTROPY_LEN)) if words is None else check_words(words)
        meta: dict[str, str | int] = {"words": words, "created_ms": unix_ms()}
        await trio.to_thread.run_sync(make_file, directory, meta)
        return await cls.open(directory, transport=transport)

    @classmethod
    async def open(
        cls, directory: Path, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> Self:
        """Opens a wallet; other processes may have it open too.

        Args:
            directory: Where it is.
            transport: Carries requests to mints instead of the network.

        Raises:
            ConfigError: There is none, or others can read it.
            StoreError: It is damaged or of a newer version.
        """
        return cls(await trio.to_thread.run_sync(Purse, directory), transport)

    @classmethod
    async def restore(  # noqa: PLR0913 - what to restore from, and three options
        cls,
        directory: Path,
        words: str,
        url: str,
        *,
        pinned: bytes | None = None,
        progress: Callable[[int, int], None] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> tuple[Self, Restored]:
        """Makes a wallet out of nothing but its words and the mint's address.

        A restore that was interrupted can be repeated.

        Args:
            directory: Where; a wallet there must have the same words.
            words: The words.
            url: The mint.
            pinned: The key that the mint must have, 33 bytes, if it is known.
            progress: Is told how many keysets are done, and how many there are.
            transport: Carries requests to mints instead of the network.

        Raises:
            ConfigError: The words are wrong, or another wallet is there.
        """
        words, url = check_words(words), check_url(url)
        if await trio.Path(directory / FILE_NAME).exists():
            wallet = await cls.open(directory, transport=transport)
            if wallet.words() != words:
                await wallet.close()
                raise ConfigError(
                    "another wallet is here already: give another directory", file=directory
                )
        else:
            wallet = await cls.create(directory, words=words, transport=transport)
        try:
            async with wallet._client(url) as mint:  # noqa: SLF001 - its own
                purse = wallet._purse  # noqa: SLF001 - its own
                found = await recovery.restore(purse, mint, pinned=pinned, progress=progress)
                found = await wallet._find_residues(mint, found)  # noqa: SLF001 - its own
        except BaseException:
            await wallet.close()
            raise
        return wallet, found

    @classmethod
    @asynccontextmanager
    async def using(cls, directory: Path) -> AsyncIterator[Self]:
        """Opens a wallet for as long as the context lasts."""
        wallet = await cls.open(directory)
        try:
            yield wallet
        finally:
            await wallet.close()

    async def close(self) -> None:
        """Gives back what nobody saw, and the file."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._purse.close)

    def words(self) -> str:
        """Returns the words that bring the wallet back: whoever has them has the money."""
        return self._purse.words()

    # What a miner asks

    async def trust(self, announcement: bytes, mint: bytes, url: str | None = None) -> Trusted:
        """Checks an announced keyset and keeps it, bound to its mint for ever.

        Args:
            announcement: The payload of EcashKeysetAnnounce.
            mint: The mint's key, 33 bytes, as the connection vouched for it.
            url: Where the mint answers over HTTP, if that is known.

        Raises:
            RemoteProtocolError: The announcement is malformed, not the mint's, its id not the one
                of its keys, or another mint has shown the keyset before.
        """
        return await trio.to_thread.run_sync(self._purse.trust, announcement, mint, url)

    async def reserve(self, keyset_id: bytes, count: int) -> list[Output]:
        """Derives outputs that nobody had before; they are durably used on return.

        Args:
            keyset_id: A keyset that `trust` has accepted, 33 bytes.
            count: How many, 1 to 10,000.

        Raises:
            RemoteProtocolError: The keyset is unknown.
            StoreError: The reservation is not durable; nothing may be sent.
        """
        return await trio.to_thread.run_sync(self._purse.reserve, keyset_id, count)

    async def receive(self, keyset_id: bytes, receipts: Sequence[Receipt]) -> Received:
        """Verifies signatures of shares and keeps them as tokens, durable on return.

        Args:
            keyset_id: The keyset.
            receipts: Counter, amount in units (2^(z - z0)), C_, e, s of each; one may come again.

        Returns:
            How many are tokens now, and the counters of those whose proof is missing or wrong.

        Raises:
            StoreError: Nothing was kept; give the receipts again.
        """
        return await trio.to_thread.run_sync(self._purse.receive, keyset_id, receipts)

    async def missing(self, keyset_id: bytes) -> list[Output]:
        """Returns the outputs that were reserved and never came back as tokens.

        Raises:
            RemoteProtocolError: The keyset is unknown.
        """
        return await trio.to_thread.run_sync(self._purse.missing, keyset_id)

    async def skip(self, keyset_id: bytes, counter: int) -> int:
        """Goes beyond a counter of which the mint says `blinded-message-reused`.

        That happens when the wallet's file is an old copy: later counters may be used as well.

        Returns:
            The first counter that is used from now on.
        """
        return await trio.to_thread.run_sync(self._purse.skip, keyset_id, counter)

    async def take_claim_key(self) -> ClaimKey:
        """Derives what a channel is to be opened with; durably noted on return.

        What the channel's shares earn above their tokens belongs to it.

        Raises:
            StoreError: It is not durable; nothing may be sent.
        """
        return await trio.to_thread.run_sync(self._purse.take_claim_key)

    async def open_claim_key(self, counter: int, mint: bytes, policy: Policy) -> None:
        """Notes that a channel of a mint has a claim key, or has it still.

        Args:
            counter: The claim key's.
            mint: The mint's key; the wallet has trusted a keyset of it.
            policy: What the channel is paid by.
        """
        await trio.to_thread.run_sync(self._purse.open_claim_key, counter, mint, policy)

    async def unit_value(self, keyset_id: bytes) -> int:
        """Asks the keyset's mint what one unit of it costs of shares' value.

        Returns:
            It; 0 where units count work alone.

        Raises:
            ConfigError: Nobody knows where the mint answers.
            MintUnreachableError: It does not.
            MintRefusedError: It does not show the keyset.
            RemoteProtocolError: The keyset is unknown to the wallet, or the answer worth nothing.
        """
        keyset = await self.keyset(keyset_id)
        async with self._client(_url(keyset.mint)) as mint:
            return (await mint.keyset(keyset_id)).value_of_unit

    async def take_update(self, update: bytes) -> Keyset:
        """Keeps the payload of an EcashEpochUpdate.

        Raises:
            RemoteProtocolError: It is malformed, of an unknown keyset, or not signed by its mint.
        """
        return await trio.to_thread.run_sync(self._purse.take_update, update)

    async def keyset(self, keyset_id: bytes) -> Keyset:
        """Returns a keyset that the wallet trusts.

        Raises:
            RemoteProtocolError: It does not.
        """
        return await trio.to_thread.run_sync(self._purse.keyset, keyset_id)

    # What a person asks

    async def add_mint(self, url: str, pinned: bytes | None = None) -> Caught:
        """Meets a mint: from now on its key must stay the same.

        Args:
            url: Where it answers.
            pinned: The key that it must have, 33 bytes, if it is known.

        Raises:
            ConfigError: The address is none.
            MintUnreachableError: Nobody answers.
            RemoteProtocolError: It is another mint, or what it shows is wrong.
        """
        async with self._client(check_url(url)) as mint:
            return await recovery.meet(self._purse, mint, pinned)

    async def mints(self) -> list[Mint]:
        """Returns the mints that the wallet knows."""
        return await trio.to_thread.run_sync(self._purse.mints)

    async def balance(self, *, ask: bool = True, spent: bool = False) -> Balance:
        """Tells what the wallet has, with today's value of work tokens.

        Args:
            ask: Whether to ask the mints first; a mint that does not answer is noted.
            spent: Whether to show keysets of which nothing is left.
        """
        tips: dict[int, int] = {}
        notes: list[str] = []
        fresh = ask
        for known in await self.mints() if ask else []:
            try:
                async with self._at(known) as (mint, caught):
                    tips[known.number] = caught.info.tip_height
                    notes += caught.notes
                    await self._look_at_residues(mint, known, notes)
            except (ConfigError, MintUnreachableError) as error:
                fresh = False
                notes.append(f"{error}; what the mint said last is shown")
        show = partial(view.look, self._purse, tips, fresh=fresh, notes=tuple(notes), spent=spent)
        return await trio.to_thread.run_sync(show)

    async def _look_at_residues(self, mint: MintClient, known: Mint, notes: list[str]) -> None:
        try:
            await residue.look(self._purse, mint, known)
        except (MintRefusedError, RemoteProtocolError) as error:
            notes.append(f"what shares have left over is shown as of the last time: {error}")

    async def redeem(
        self,
        keyset_id: bytes | None = None,
        *,
        early: bool = False,
        spread_s: float = 0,
        progress: Callable[[int, int], None] | None = None,
        notes: list[str] | None = None,
    ) -> list[Redeemed]:
        """Redeems work tokens for sats, each keyset's as a whole.

        Args:
            keyset_id: Only this keyset; all that can be without.
            early: Whether to ask for what has not matured: the mint may advance it.
            spread_s: How long to wait before each request on average, at random.
            progress: Is told how many tokens there were and how many there are while merging.
            notes: Takes what people should know, in words.

        Returns:
            What came of each keyset that has tokens; the reason where nothing did.
        """
        results: list[Redeemed] = []
        for known in await self.mints():
            async with self._at(known, for_redeeming=True) as (mint, caught):
                _note(notes, caught.notes)
                for keyset in await self._with_tokens(known, keyset_id):
                    try:
                        done = await redemption.redeem(
                            self._purse,
                            mint,
                            keyset,
                            caught.sat,
                            tip=None if early else caught.info.tip_height,
                            spread_s=spread_s,
                            progress=progress,
                        )
                    except MintRefusedError as refusal:
                        done = redemption.Redeemed(keyset, 0, None, 0, str(refusal))
                    results.append(done)
        return results

    async def cash_out(
        self,
        mint: bytes | None = None,
        counters: Sequence[int] | None = None,
        *,
        spread_s: float = 0,
        notes: list[str] | None = None,
    ) -> list[CashedOut]:
        """Has what shares earned above their tokens turned into tokens.

        It speaks with the mint on a connection of its own: a claim key is known to be a miner's.

        Args:
            mint: Only this mint, by its key; all without.
            counters: Only these claim keys; all under which something may be, without.
            spread_s: How long to wait before each request on average, at random.
            notes: Takes what people should know, in words.

        Returns:
            What came of each claim key that has a whole unit; the reason where nothing did.

        Raises:
            ConfigError: Nobody knows where the mint answers.
            MintUnreachableError: It does not.
            RemoteProtocolError: Its answer is worth nothing; what was asked for is asked for again.
        """
        done: list[CashedOut] = []
        for known in await self.mints():
            if mint not in {None, known.public_key}:
                continue
            async with self._client(_url(known)) as client:
                met = await recovery.meet(self._purse, client, known.public_key)
                _note(notes, [*met.notes, *await resume(self._purse, client, known)])
                try:
                    done += await residue.cash_out(
                        self._purse, client, known, counters, spread_s=spread_s
                    )
                except MintRefusedError as refusal:
                    _note(notes, [f"what shares left over cannot be asked for: {refusal}"])
        return done

    async def _find_residues(self, mint: MintClient, restored: Restored) -> Restored:
        """Looks for claim keys of a wallet that has nothing but its words."""
        known = await trio.to_thread.run_sync(
            self._purse.know_mint, (await mint.info()).public_key, mint.url
        )
        try:
            found = await residue.find(self._purse, mint, known)
        except (MintRefusedError, MintUnreachableError) as error:
            note = f"whether the mint holds anything that shares left over is not known: {error}"
            return replace(restored, notes=(*restored.notes, note))
        return replace(restored, claim_keys=found)

    async def merge(
        self,
        keyset_id: bytes | None = None,
        *,
        spread_s: float = 0,
        progress: Callable[[int, int], None] | None = None,
        notes: list[str] | None = None,
    ) -> list[tuple[Keyset, int, int]]:
        """Exchanges many small work tokens for few; returns keyset, tokens before and after."""
        results: list[tuple[Keyset, int, int]] = []
        for known in await self.mints():
            async with self._at(known) as (mint, caught):
                _note(notes, caught.notes)
                for keyset in await self._with_tokens(known, keyset_id):
                    if redemption.is_over(keyset):
                        continue
                    before, after = await redemption.merge(
                        self._purse, mint, keyset, spread_s=spread_s, progress=progress
                    )
                    results.append((keyset, before, after))
        return results

    async def send(
        self, sats: int, memo: str = "", *, url: str | None = None, notes: list[str] | None = None
    ) -> Transfer:
        """Makes a token for somebody else.

        Args:
            sats: The amount.
            memo: What the receiver reads.
            url: At which mint, if the wallet has several.
            notes: Takes what people should know, in words.

        Raises:
            ConfigError: There is not so much at one mint.
        """
        async with self._at(await self._mint(url)) as (mint, caught):
            _note(notes, caught.notes)
            count = await trio.to_thread.run_sync(redemption.count, self._purse, caught.sat)
            if count > TOKENS_MANY:
                await redemption.merge(self._purse, mint, caught.sat)
            return await payment.send(self._purse, mint, caught.sat, sats, memo)

    async def take(self, token: str, *, notes: list[str] | None = None) -> int:
        """Takes a token from somebody else by exchanging it at once; returns its sats.

        Raises:
            RemoteProtocolError: It is damaged, of an unknown mint, or spent.
        """
        handed, url = payment.mint_of(token)
        known = await self._mint(url)
        async with self._at(known) as (mint, caught):
            _note(notes, caught.notes)
            sats = await trio.to_thread.run_sync(self._purse.keysets, caught.sat.unit)
            of_mint = [k for k in sats if k.mint.number == known.number and k.id != caught.sat.id]
            return await payment.receive(self._purse, mint, [*of_mint, caught.sat], handed)

    async def transfers(self, *, ask: bool = True) -> list[Transfer]:
        """Returns what was sent, newest first, and whether it was claimed."""
        for known in await self.mints() if ask else []:
            async with self._at(known) as (mint, caught):
                await payment.settle_transfers(self._purse, mint, caught.sat)
        return await trio.to_thread.run_sync(payment.transfers, self._purse)

    async def reclaim(self, number: int, *, notes: list[str] | None = None) -> Transfer:
        """Takes back what was sent and nobody has claimed.

        Raises:
            ConfigError: There is no such transfer, or it is not pending.
            MintRefusedError: Somebody has claimed it meanwhile.
        """
        url = await trio.to_thread.run_sync(payment.mint_of_transfer, self._purse, number)
        async with self._at(await self._mint(url)) as (mint, caught):
            _note(notes, caught.notes)
            return await payment.reclaim(self._purse, mint, number)

    async def history(self) -> list[Event]:
        """Returns what happened, oldest first."""
        return await trio.to_thread.run_sync(view.history, self._purse)

    # Mints

    def _client(self, url: str) -> MintClient:
        return MintClient(url, self._transport)

    @asynccontextmanager
    async def _at(
        self, known: Mint, *, for_redeeming: bool = False
    ) -> AsyncIterator[tuple[MintClient, Caught]]:
        """Visits a mint; what was interrupted there is finished first.

        Raises:
            ConfigError: Nobody knows where it answers.
        """
        async with self._client(_url(known)) as mint:
            caught = await recovery.catch_up(self._purse, mint, known, for_redeeming=for_redeeming)
            yield mint, caught

    async def _mint(self, url: str | None) -> Mint:
        """Returns the mint at an address; without one the only mint that there is."""
        mints = await self.mints()
        found = [mint for mint in mints if url is None or mint.url == check_url(url)]
        if len(found) == 1:
            return found[0]
        if url is None and found:
            raise ConfigError("the wallet has several mints: name one with --mint")
        raise ConfigError(
            f"the wallet does not know the mint {url or ''}: `radpool wallet create --mint URL` on "
            "this directory adds it, if you trust it"
        )

    async def _with_tokens(self, known: Mint, keyset_id: bytes | None) -> list[Keyset]:
        keysets = await trio.to_thread.run_sync(redemption.with_tokens, self._purse, known)
        return [keyset for keyset in keysets if keyset_id in {None, keyset.id}]


def _url(mint: Mint) -> str:
    if mint.url is None:
        raise ConfigError(
            f"where the mint {mint.public_key.hex()} answers is unknown: "
            "`radpool wallet create --mint URL` on this directory tells it"
        )
    return mint.url


def _note(notes: list[str] | None, more: Sequence[str]) -> None:
    if notes is not None:
        notes += more

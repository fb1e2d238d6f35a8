"""Hands sats to somebody else as a token, takes tokens, and takes back what nobody claimed.

A token is like a note of money: whoever exchanges it at the mint first has it. So what is received
is exchanged at once, and what is sent stays written down until somebody has claimed it.

Source: NUT-00, NUT-03, NUT-07.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2._native.ecash import KeysetKeys, verify_proof_dleqs
from radpool_sv2.errors import ConfigError, RemoteProtocolError
from radpool_sv2.wallet.announcement import SAT_UNIT
from radpool_sv2.wallet.exchange import hand_over, perform, plan
from radpool_sv2.wallet.mint import check_url
from radpool_sv2.wallet.price import split
from radpool_sv2.wallet.purse import log2
from radpool_sv2.wallet.redemption import CHUNK
from radpool_sv2.wallet.store import TokenState
from radpool_sv2.wallet.token import MEMO_MAX, decode_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radpool_sv2.wallet.mint import MintClient
    from radpool_sv2.wallet.purse import Purse
    from radpool_sv2.wallet.store import Exchange, Keyset, Token, Transfer
    from radpool_sv2.wallet.token import Handed, HandedToken

__all__ = [
    "mint_of",
    "mint_of_transfer",
    "receive",
    "reclaim",
    "send",
    "settle_transfers",
    "transfers",
]

SATS_MAX: Final = 21 * 10**14


def mint_of(text: str) -> tuple[HandedToken, str]:
    """Reads a token and tells which mint it is of.

    Raises:
        RemoteProtocolError: It is damaged, or of another unit than sats.
    """
    token = decode_token(text)
    if token.unit != SAT_UNIT:
        raise RemoteProtocolError(f"the token is of the unit {token.unit!r}: only sats are taken")
    try:
        return token, check_url(token.mint)
    except ConfigError as error:
        raise RemoteProtocolError(f"the token names no mint: {error.message}") from error


async def send(purse: Purse, mint: MintClient, sat: Keyset, sats: int, memo: str) -> Transfer:
    """Makes a token for somebody else.

    Args:
        purse: The wallet.
        mint: The mint.
        sat: Its sat keyset.
        sats: The amount.
        memo: What the receiver reads.

    Raises:
        ConfigError: There is not so much.
        MintRefusedError: The mint refused to split tokens; they are still ours.
    """
    if not 0 < sats <= SATS_MAX:
        raise ConfigError(f"{sats} sat cannot be sent", allowed=f"1 to {SATS_MAX}")
    if len(memo) > MEMO_MAX:
        raise ConfigError(f"the memo has {len(memo)} characters", allowed=f"up to {MEMO_MAX}")
    number, exchange = await trio.to_thread.run_sync(_plan_send, purse, sat, sats, memo)
    if exchange is not None:
        await perform(purse, mint, exchange)
    return await trio.to_thread.run_sync(_transfer, purse, number)


def _plan_send(purse: Purse, sat: Keyset, sats: int, memo: str) -> tuple[int, Exchange | None]:
    """Takes tokens of exactly that amount, or plans to have some split."""
    store = purse.store
    with purse.file.write() as connection:
        tokens = store.tokens(connection, sat.number)
        chosen = _choose(tokens, sats)
        total = sum(1 << token.exponent for token in chosen)
        if total < sats:
            raise ConfigError(f"there are {total} sat at {sat.mint.place}, less than {sats}")
        number = store.add_transfer(connection, sats, memo, purse.clock_ms())
        if total == sats:
            counters = [token.counter for token in chosen]
            store.send_tokens(connection, sat.number, counters, number)
            hand_over(purse, connection, number, sat, chosen)
            return number, None
        amounts = [(exponent, True) for exponent in split(sats)]
        amounts += [(exponent, False) for exponent in split(total - sats)]
        exchange = plan(
            purse,
            connection,
            kind="send",
            inputs=sat,
            given=chosen,
            outputs=sat,
            amounts=amounts,
            transfer=number,
        )
        return number, exchange


def _choose(tokens: Sequence[Token], sats: int) -> list[Token]:
    """Chooses tokens of exactly the amount if there are such, otherwise few of at least that.

    Powers of two: taking the largest that still fits finds an exact choice if there is one.
    """
    chosen: list[Token] = []
    left = sats
    descending = sorted(tokens, key=lambda token: -token.exponent)
    for token in descending:
        if 1 << token.exponent <= left:
            chosen.append(token)
            left -= 1 << token.exponent
    if left:
        taken = {token.counter for token in chosen}
        larger = [token for token in descending if token.counter not in taken]
        # Whatever was not chosen is larger than what is missing: the smallest of it is enough.
        chosen += larger[-1:]
    return chosen


async def receive(
    purse: Purse, mint: MintClient, sats: Sequence[Keyset], token: HandedToken
) -> int:
    """Takes a token by exchanging it at once; returns its sats.

    Args:
        purse: The wallet.
        mint: The token's mint.
        sats: The mint's sat keysets that the wallet trusts, the current one last.
        token: The token.

    Raises:
        RemoteProtocolError: Something in it is wrong.
        MintRefusedError: The mint refused, as when it was spent before.
    """
    groups: dict[int, tuple[Keyset, list[Handed]]] = {}
    for proof in token.proofs:
        keyset = _resolve(sats, proof.keyset)
        if log2(proof.amount) not in keyset.announcement.keys:
            raise RemoteProtocolError(f"the token has a part of {proof.amount}, which has no key")
        groups.setdefault(keyset.number, (keyset, []))[1].append(proof)
    for keyset, proofs in groups.values():
        _check_dleqs(keyset, proofs)
    exchanges = await trio.to_thread.run_sync(_plan_receive, purse, sats[-1], list(groups.values()))
    for exchange in exchanges:
        await perform(purse, mint, exchange)
    return token.amount


def _resolve(sats: Sequence[Keyset], identifier: bytes) -> Keyset:
    """Finds the keyset of a proof by its id or the first bytes of it."""
    found = [keyset for keyset in sats if keyset.id.startswith(identifier)]
    if len(found) != 1:
        what = "several keysets" if found else "no keyset"
        raise RemoteProtocolError(
            f"the token is of keyset {identifier.hex()}, which is {what} of this mint"
        )
    return found[0]


def _check_dleqs(keyset: Keyset, proofs: Sequence[Handed]) -> None:
    """Verifies the proofs that the sender gave, if any."""
    items = [
        (p.secret, p.signature, *p.dleq, keyset.announcement.keys[log2(p.amount)])
        for p in proofs
        if p.dleq is not None
    ]
    if not all(verify_proof_dleqs(items)):
        raise RemoteProtocolError("the token has a signature that the mint's keys did not make")


def _plan_receive(
    purse: Purse, into: Keyset, groups: Sequence[tuple[Keyset, Sequence[Handed]]]
) -> list[Exchange]:
    """Plans all exchanges of a token in one transaction: a crash leaves all of them pending."""
    with purse.file.write() as connection:
        return [
            plan(
                purse,
                connection,
                kind="receive",
                inputs=keyset,
                given=proofs[at : at + CHUNK],
                outputs=into,
                amounts=[
                    (exponent, False)
                    for exponent in split(sum(p.amount for p in proofs[at : at + CHUNK]))
                ],
            )
            for keyset, proofs in groups
            for at in range(0, len(proofs), CHUNK)
        ]


async def reclaim(purse: Purse, mint: MintClient, number: int) -> Transfer:
    """Takes back what was sent and nobody has claimed.

    Raises:
        MintRefusedError: Somebody has claimed it meanwhile.
    """
    exchanges = await trio.to_thread.run_sync(_plan_reclaim, purse, number)
    for exchange in exchanges:
        await perform(purse, mint, exchange)
    return await trio.to_thread.run_sync(_transfer, purse, number)


def _plan_reclaim(purse: Purse, number: int) -> list[Exchange]:
    store = purse.store
    with purse.file.write() as connection:
        return [
            plan(
                purse,
                connection,
                kind="reclaim",
                inputs=keyset,
                given=given,
                outputs=keyset,
                amounts=[(e, False) for e in split(sum(1 << token.exponent for token in given))],
                transfer=number,
            )
            for keyset in store.keysets(connection)
            if (given := store.sent_tokens(connection, keyset.number, number))
        ]


async def settle_transfers(purse: Purse, mint: MintClient, keyset: Keyset) -> None:
    """Asks which transfers have been claimed."""
    pending = await trio.to_thread.run_sync(_sent, purse, keyset)
    for number, secrets in pending.items():
        for at in range(0, len(secrets), CHUNK):
            if any(await mint.spent(keyset.unit, KeysetKeys.ys(secrets[at : at + CHUNK]))):
                await trio.to_thread.run_sync(_claimed, purse, number)
                break


def transfers(purse: Purse) -> list[Transfer]:
    """Returns what was sent, newest first."""
    with purse.file.read() as connection:
        return purse.store.transfers(connection)


def mint_of_transfer(purse: Purse, number: int) -> str:
    """Returns where the mint of a transfer answers.

    Raises:
        ConfigError: There is no such transfer, or it is not pending.
    """
    found = _transfer(purse, number)
    if found.state != "pending":
        raise ConfigError(f"transfer {number} is {found.state}: there is nothing to take back")
    return decode_token(found.token).mint


def _sent(purse: Purse, keyset: Keyset) -> dict[int, list[str]]:
    """Returns the secrets of each pending transfer's tokens of a keyset."""
    store = purse.store
    with purse.file.read() as connection:
        tokens = {
            transfer.number: store.sent_tokens(connection, keyset.number, transfer.number)
            for transfer in store.transfers(connection)
            if transfer.state == "pending"
        }
    return {
        number: [
            output.secret
            for output in purse.derive_all(keyset.id, [token.counter for token in sent]).values()
        ]
        for number, sent in tokens.items()
    }


def _claimed(purse: Purse, number: int) -> None:
    """Notes that somebody has claimed a transfer."""
    store, time_ms = purse.store, purse.clock_ms()
    with purse.file.write() as connection:
        store.set_transfer(connection, number, "claimed", ended_ms=time_ms)
        for keyset in store.keysets(connection):
            sent = store.sent_tokens(connection, keyset.number, number)
            counters = [token.counter for token in sent]
            store.move_tokens(connection, keyset.number, counters, TokenState.SPENT)
        store.add_event(connection, "claimed", time_ms, note=f"transfer {number}")


def _transfer(purse: Purse, number: int) -> Transfer:
    with purse.file.read() as connection:
        found = [row for row in purse.store.transfers(connection) if row.number == number]
    if not found:
        raise ConfigError(f"there is no transfer {number}: `radpool wallet send --list` shows all")
    return found[0]

"""Gives tokens to a mint for other tokens, so that no crash and no answer loses or doubles any.

Theory of operation. An exchange is `pending` from the transaction that plans it until the one that
ends it; its inputs are held meanwhile. The request is sent, byte for byte the same each time, until
there is an outcome:

- Proven signatures for all outputs: the inputs are spent, the outputs are ours. `done`.
- A refusal. It may be the answer to a second request after the first one was carried out, or the
  fault of an old copy of the wallet, so it is not believed by itself: the mint is asked which
  inputs are spent and which outputs it has signed, and each token becomes what that says. `done` if
  all inputs are spent and all outputs signed, `refused` otherwise.
- Anything else, such as silence, an unproven signature, or a broken answer: nobody knows. The
  exchange stays pending, with what was wrong, and is repeated when the wallet is used again.
"""

from __future__ import annotations

import json
from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2._native.ecash import KeysetKeys
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.wallet.announcement import SAT_UNIT, SHORT_ID_LEN
from radpool_sv2.wallet.mint import MintRefusedError
from radpool_sv2.wallet.purse import log2
from radpool_sv2.wallet.store import Planned, TokenState
from radpool_sv2.wallet.token import Handed, HandedToken, encode_token

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from radpool_sv2.wallet.claim_key import ClaimKey
    from radpool_sv2.wallet.mint import MintClient
    from radpool_sv2.wallet.purse import Purse, SignedOutput
    from radpool_sv2.wallet.store import Exchange, Keyset, Mint, Token

__all__ = ["CASH_OUT", "hand_over", "perform", "plan", "plan_cash_out", "resume"]

RANDOM = SystemRandom()
CASH_OUT: Final = "cash-out"
"""An exchange that gives no tokens, but the signature of a claim key."""


def plan_cash_out(
    purse: Purse,
    connection: sqlite3.Connection,
    *,
    key: ClaimKey,
    keyset: Keyset,
    exponents: Sequence[int],
) -> Exchange:
    """Plans within a transaction to have what a claim key holds turned into tokens.

    Args:
        purse: The wallet.
        connection: The transaction.
        key: The claim key.
        keyset: The keyset that the tokens are to be of; it must take claims now.
        exponents: What the tokens are to be, ascending; together no more than the key holds.
    """
    planned = _reserve(purse, connection, keyset, [(exponent, False) for exponent in exponents])
    derived = purse.derive(keyset.id, planned[0].counter, len(planned))
    outputs = [
        (1 << output.exponent, made.blinded) for output, made in zip(planned, derived, strict=True)
    ]
    request = {
        "claim_key": key.public.hex(),
        "keyset_id": keyset.id.hex(),
        "outputs": [
            {"amount": amount, "id": keyset.id.hex(), "B_": blinded.hex()}
            for amount, blinded in outputs
        ],
        "signature": key.sign(keyset.id, outputs).hex(),
    }
    return purse.store.add_exchange(
        connection,
        kind=CASH_OUT,
        inputs=keyset,
        outputs=keyset,
        planned=planned,
        request=json.dumps(request).encode(),
        transfer=None,
        time_ms=purse.clock_ms(),
    )


def _reserve(
    purse: Purse,
    connection: sqlite3.Connection,
    keyset: Keyset,
    amounts: Sequence[tuple[int, bool]],
) -> list[Planned]:
    """Takes counters for outputs, in their order; durable with the transaction."""
    first = purse.store.next_counter(connection, keyset.number)
    purse.store.set_next_counter(connection, keyset.number, first + len(amounts))
    return [Planned(first + place, *amount) for place, amount in enumerate(amounts)]


def plan(  # noqa: PLR0913 - an exchange has that many sides
    purse: Purse,
    connection: sqlite3.Connection,
    *,
    kind: str,
    inputs: Keyset,
    given: Sequence[Token] | Sequence[Handed],
    outputs: Keyset,
    amounts: Iterable[tuple[int, bool]],
    transfer: int | None = None,
) -> Exchange:
    """Plans an exchange within a transaction: holds the inputs, reserves the outputs.

    Inputs are shuffled and outputs ascend, so that their order tells the mint nothing (NUT-03).

    Args:
        purse: The wallet.
        connection: The transaction.
        kind: `merge`, `redeem`, `send`, `receive` or `reclaim`.
        inputs: The keyset of what is given.
        given: Tokens of ours, or those that somebody handed us.
        outputs: The keyset of what is asked for.
        amounts: Exponent of each output, and whether it is for somebody else.
        transfer: What it makes ready for somebody else, or takes back.
    """
    store, time_ms = purse.store, purse.clock_ms()
    proofs = [
        {"amount": amount, "id": inputs.id.hex(), "secret": secret, "C": signature.hex()}
        for amount, secret, signature in _proofs(purse, inputs, given)
    ]
    RANDOM.shuffle(proofs)
    planned = _reserve(purse, connection, outputs, sorted(amounts))
    blinded = [
        {"amount": 1 << output.exponent, "id": outputs.id.hex(), "B_": derived.blinded.hex()}
        for output, derived in zip(
            planned, purse.derive(outputs.id, planned[0].counter, len(planned)), strict=True
        )
    ]
    request: dict[str, object] = {"inputs": proofs, "outputs": blinded}
    if inputs.unit != SAT_UNIT:
        request = {"keyset_id": inputs.id.hex()} | request
    exchange = store.add_exchange(
        connection,
        kind=kind,
        inputs=inputs,
        outputs=outputs,
        planned=planned,
        request=json.dumps(request).encode(),
        transfer=transfer,
        time_ms=time_ms,
    )
    ours = [token.counter for token in given if not isinstance(token, Handed)]
    store.move_tokens(connection, inputs.number, ours, TokenState.HELD, exchange.number)
    return exchange


def _proofs(
    purse: Purse, keyset: Keyset, given: Sequence[Token] | Sequence[Handed]
) -> list[tuple[int, str, bytes]]:
    """Returns amount, secret and signature of tokens; proofs of the signature stay here."""
    counters = [token.counter for token in given if not isinstance(token, Handed)]
    derived = purse.derive_all(keyset.id, counters)
    return [
        (token.amount, token.secret, token.signature)
        if isinstance(token, Handed)
        else (1 << token.exponent, derived[token.counter].secret, token.signature)
        for token in given
    ]


async def perform(purse: Purse, mint: MintClient, exchange: Exchange) -> None:
    """Carries an exchange out, the first time or again.

    Raises:
        MintRefusedError: The mint did not do it; the inputs are ours again, unless the mint says
            that they were spent before.
        MintUnreachableError: Nobody knows whether it did; the exchange stays pending.
        RemoteProtocolError: Its answer is worth nothing; the exchange stays pending.
    """
    try:
        try:
            signed = await _ask(mint, exchange)
            await trio.to_thread.run_sync(_settle, purse, exchange, signed)
        except MintRefusedError as refusal:
            # A busy mint has not looked at it: the same request is sent again later.
            if refusal.busy or not await _clear_up(purse, mint, exchange, refusal):
                raise
    except MintRefusedError:
        raise
    except RemoteProtocolError as error:
        await trio.to_thread.run_sync(_note_fault, purse, exchange, str(error))
        raise


async def _ask(mint: MintClient, exchange: Exchange) -> list[SignedOutput]:
    if exchange.kind == CASH_OUT:
        return await mint.cash_out(exchange.request)
    return await mint.exchange(exchange.inputs.unit, exchange.outputs.unit, exchange.request)


async def resume(purse: Purse, mint: MintClient, of: Mint) -> list[str]:
    """Finds out what became of exchanges that a crash or a silent mint left.

    Returns:
        What people should know, in words.

    Raises:
        MintUnreachableError: The mint is still silent.
    """
    notes = []
    for exchange in await trio.to_thread.run_sync(_pending, purse):
        if exchange.inputs.mint.number != of.number:
            continue
        try:
            await perform(purse, mint, exchange)
            notes.append(f"an interrupted {exchange.kind} is finished now")
        except MintRefusedError as error:
            notes.append(f"an interrupted {exchange.kind} was not carried out: {error}")
        except RemoteProtocolError as error:
            notes.append(f"an interrupted {exchange.kind} is still under way: {error}")
    return notes


def _pending(purse: Purse) -> list[Exchange]:
    with purse.file.read() as connection:
        return purse.store.pending_exchanges(connection)


def _settle(purse: Purse, exchange: Exchange, signed: Sequence[SignedOutput]) -> None:
    """Verifies what the mint signed and makes the outcome durable."""
    amounts = [log2(amount) for amount, *_ in signed]
    if amounts != [output.exponent for output in exchange.planned]:
        raise RemoteProtocolError(
            f"the mint {exchange.inputs.mint.place} signed {len(signed)} tokens, not the "
            f"{len(exchange.planned)} amounts that were asked for. Nothing is lost: it is asked "
            "again next time"
        )
    receipts = [
        (output.counter, *answer) for output, answer in zip(exchange.planned, signed, strict=True)
    ]
    tokens, bad = purse.verify(exchange.outputs, receipts, mined=False)
    if bad:
        raise RemoteProtocolError(
            f"the mint {exchange.inputs.mint.place} did not prove {len(bad)} of {len(signed)} "
            "signatures, so they may be worth nothing. Nothing is lost yet: it is asked again next "
            "time. Tell its operator"
        )
    with purse.file.write() as connection:
        if purse.store.end_exchange(connection, exchange.number, "done", "", purse.clock_ms()):
            purse.store.spend_tokens(connection, exchange.number)
            _take(purse, connection, exchange, tokens)
        elif not purse.store.is_done(connection, exchange.number):
            # Another process was told that it was refused; the tokens are good all the same.
            purse.store.add_tokens(connection, exchange.outputs.number, tokens)


def _take(
    purse: Purse, connection: sqlite3.Connection, exchange: Exchange, tokens: Sequence[Token]
) -> None:
    """Keeps the outputs of an exchange that is done, and says what it was."""
    store, time_ms = purse.store, purse.clock_ms()
    sent = {output.counter for output in exchange.planned if output.sent}
    for_others = [token for token in tokens if token.counter in sent]
    ours = [token for token in tokens if token.counter not in sent]
    number = exchange.outputs.number
    store.add_tokens(connection, number, [*ours, *for_others])
    if for_others and exchange.transfer is not None:
        counters = [token.counter for token in for_others]
        store.send_tokens(connection, number, counters, exchange.transfer)
    if exchange.kind == "send" and exchange.transfer is not None:
        hand_over(purse, connection, exchange.transfer, exchange.outputs, for_others)
        return
    if exchange.kind == "reclaim" and exchange.transfer is not None:
        store.set_transfer(connection, exchange.transfer, "reclaimed", ended_ms=time_ms)
    given = store.tokens_of(connection, exchange.number)
    amount = sum(1 << token.exponent for token in tokens)
    in_sats = exchange.outputs.unit == SAT_UNIT
    store.add_event(
        connection,
        exchange.kind,
        time_ms,
        keyset=exchange.inputs.number,
        units=_units(exchange, given, amount),
        sats=amount if in_sats else 0,
        note=_became(exchange, given, tokens),
    )


def _units(exchange: Exchange, given: Sequence[Token], amount: int) -> int:
    """Returns the units that an event is about."""
    if exchange.kind == CASH_OUT:
        return amount
    if exchange.inputs.unit == SAT_UNIT:
        return 0
    return sum(1 << token.exponent for token in given)


def _became(exchange: Exchange, given: Sequence[Token], tokens: Sequence[Token]) -> str:
    if exchange.kind == CASH_OUT:
        return f"what was left over of shares became {len(tokens)} tokens"
    return f"{len(given) or 'received'} tokens became {len(tokens)}"


def hand_over(
    purse: Purse,
    connection: sqlite3.Connection,
    transfer: int,
    keyset: Keyset,
    tokens: Sequence[Token],
) -> None:
    """Writes the text that somebody else gets; the tokens are marked as sent already."""
    [found] = [row for row in purse.store.transfers(connection) if row.number == transfer]
    token = HandedToken(
        mint=keyset.mint.url or "",
        unit=keyset.unit,
        memo=found.memo,
        proofs=tuple(
            Handed(keyset.id[:SHORT_ID_LEN], amount, secret, signature)
            for amount, secret, signature in _proofs(purse, keyset, tokens)
        ),
    )
    store = purse.store
    store.set_transfer(connection, transfer, "pending", token=encode_token(token))
    store.add_event(
        connection,
        "send",
        purse.clock_ms(),
        keyset=keyset.number,
        sats=-found.sats,
        note=f"transfer {transfer}" + (f": {found.memo}" if found.memo else ""),
    )


async def _clear_up(
    purse: Purse, mint: MintClient, exchange: Exchange, refusal: MintRefusedError
) -> bool:
    """Asks what became of each token of a refused exchange; returns whether it was done."""
    secrets = [proof["secret"] for proof in json.loads(exchange.request).get("inputs", [])]
    states = await mint.spent(exchange.inputs.unit, KeysetKeys.ys(secrets)) if secrets else []
    spent = {secret for secret, state in zip(secrets, states, strict=True) if state}
    outputs = await trio.to_thread.run_sync(
        purse.derive_all, exchange.outputs.id, [output.counter for output in exchange.planned]
    )
    messages = {output.blinded: output for output in outputs.values()}
    signed = await mint.signed(exchange.outputs.id, exchange.outputs.unit, list(messages))
    receipts = [(messages[blinded].counter, *answer) for blinded, answer in signed.items()]
    tokens, bad = purse.verify(exchange.outputs, receipts, mined=False)
    if bad:
        raise RemoteProtocolError(
            f"the mint {exchange.inputs.mint.place} refused, has signed all the same, and did not "
            f"prove {len(bad)} signatures. Nothing is lost yet: it is asked again next time"
        )
    found = KeysetKeys.ys([outputs[token.counter].secret for token in tokens])
    gone = await mint.spent(exchange.outputs.unit, found) if found else []
    fates = list(zip(tokens, gone, strict=True))
    everything = len(spent) == len(secrets)
    conclude = partial(_conclude, purse, exchange, str(refusal), everything=everything)
    return await trio.to_thread.run_sync(conclude, spent, fates)


def _conclude(  # noqa: PLR0913 - what is known of an exchange
    purse: Purse,
    exchange: Exchange,
    refusal: str,
    spent: set[str],
    fates: list[tuple[Token, bool]],
    *,
    everything: bool,
) -> bool:
    """Makes each token of a refused exchange what the mint says that it is.

    Args:
        purse: The wallet.
        exchange: The exchange.
        refusal: What the mint said.
        spent: The secrets of inputs that are spent.
        fates: The outputs that the mint has signed, and whether they are spent.
        everything: Whether all inputs are spent.

    Returns:
        Whether it was carried out after all.
    """
    store, time_ms = purse.store, purse.clock_ms()
    wanted = {output.counter: output.exponent for output in exchange.planned}
    signed = {token.counter: token.exponent for token, _ in fates}
    done = everything and signed == wanted
    with purse.file.write() as connection:
        state = "done" if done else "refused"
        if not store.end_exchange(connection, exchange.number, state, refusal, time_ms):
            return store.is_done(connection, exchange.number)
        if done and not any(gone for _, gone in fates):
            store.spend_tokens(connection, exchange.number)
            _take(purse, connection, exchange, [token for token, _ in fates])
            return True
        inputs = store.tokens_of(connection, exchange.number)
        derived = purse.derive_all(exchange.inputs.id, [token.counter for token in inputs])
        taken = [token.counter for token in inputs if derived[token.counter].secret in spent]
        kept = [token.counter for token in inputs if token.counter not in set(taken)]
        back = TokenState.SENT if exchange.kind == "reclaim" else TokenState.OURS
        store.move_tokens(connection, exchange.inputs.number, taken, TokenState.SPENT)
        store.move_tokens(connection, exchange.inputs.number, kept, back)
        for token, gone in fates:
            fate = TokenState.SPENT if gone else TokenState.OURS
            store.add_tokens(connection, exchange.outputs.number, [token], fate)
        if exchange.transfer is not None:
            _end_transfer(purse, connection, exchange, claimed=bool(taken))
        if not fates:
            _ask_again_for(purse, connection, exchange)
        if taken or fates:
            store.add_event(
                connection,
                "refused",
                time_ms,
                keyset=exchange.inputs.number,
                note=f"{exchange.kind}: {refusal}; {len(taken)} tokens were spent before",
            )
    return False


def _ask_again_for(purse: Purse, connection: sqlite3.Connection, exchange: Exchange) -> None:
    """Leaves the outputs of a refused exchange to the next one, if nothing was reserved since.

    The mint has signed none of them. Leaving them out each time would make a gap, and a restore
    does not look across a long one.
    """
    counters = [output.counter for output in exchange.planned]
    keyset = exchange.outputs.number
    if counters and purse.store.next_counter(connection, keyset) == max(counters) + 1:
        purse.store.set_next_counter(connection, keyset, min(counters))


def _end_transfer(
    purse: Purse, connection: sqlite3.Connection, exchange: Exchange, *, claimed: bool
) -> None:
    """Says what a refused exchange means for a transfer."""
    if exchange.transfer is None:
        return
    time_ms = purse.clock_ms()
    if exchange.kind == "send":
        purse.store.set_transfer(connection, exchange.transfer, "reclaimed", ended_ms=time_ms)
    elif claimed:
        purse.store.set_transfer(connection, exchange.transfer, "claimed", ended_ms=time_ms)


def _note_fault(purse: Purse, exchange: Exchange, fault: str) -> None:
    with purse.file.write() as connection:
        purse.store.set_fault(connection, exchange.number, fault)

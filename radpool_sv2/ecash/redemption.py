"""Takes tokens and gives others: redeems work for sats, swaps within a keyset.

Theory of operation. A request is checked in two steps. Without the database: its size, its points,
and that the mint has signed its tokens, which takes most of the time. Then in a transaction, which
requests that wait share: the keyset's state, the price, that no token was spent and no blinded
message used. A request that fails there is undone to its savepoint; the others go on.

A request is known by the hash of all its bytes. What was done once is answered again, word for
word, however often and long after: the signatures are made anew, the price of that time is kept.

Source: `spec/07-ecash-epochs.md`, "Price and redemption".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from radpool_sv2._native.ecash import KeysetKeys
from radpool_sv2.ecash import refusal
from radpool_sv2.ecash.policy import SAT, WORK_UNIT, KeysetState, Policy
from radpool_sv2.ecash.price import MSAT_PER_SAT, value_of, value_of_each
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.request import Request, check_form, check_outputs, hash_of
from radpool_sv2.ecash.token import BlindSignature, Redeemed
from radpool_sv2.errors import InternalError
from radpool_sv2.store import ecash as table
from radpool_sv2.store import ecash_token as tokens

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from radpool_sv2.config.ecash import EcashSection
    from radpool_sv2.ecash.keyring import Keyring
    from radpool_sv2.ecash.token import Output, Proof
    from radpool_sv2.store import SqliteStore
    from radpool_sv2.store.ecash import KeysetRow
    from radpool_sv2.store.ecash_token import RedemptionRow

__all__ = ["Request", "Teller", "cover_of", "price_of"]

RETRY_S: Final = 600
"""After how long to ask for a price again: about as long as the network takes for a block."""


class Teller:
    """Carries out requests; any thread may ask, one at a time writes."""

    def __init__(
        self, store: SqliteStore, keyring: Keyring, settings: EcashSection, sat_number: int
    ) -> None:
        """Takes what stays the same.

        Args:
            store: The ledger's store.
            keyring: The mint's keys.
            settings: The section `ecash`.
            sat_number: The number of the sat keyset.
        """
        self._store = store
        self._keyring = keyring
        self._settings = settings
        self._sat = sat_number

    # Without writing.

    def prepare(
        self,
        keyset_id: bytes,
        inputs: Sequence[Proof],
        outputs: Sequence[Output],
        *,
        into_sats: bool,
    ) -> Request | Redeemed:
        """Checks what needs no writing; takes some milliseconds for many tokens.

        Args:
            keyset_id: The keyset whose tokens are spent.
            inputs: The tokens.
            outputs: The blinded messages.
            into_sats: Whether the sat keyset signs the outputs, else the tokens' own.

        Returns:
            The request, to be carried out; or its answer, if it was carried out before.

        Raises:
            RefusedError: It is malformed, or a token is not the mint's.
        """
        check_form(inputs, outputs)
        request_hash = hash_of(keyset_id, inputs, outputs, into_sats=into_sats)
        with self._store.look() as connection:
            row = table.find_keyset(connection, keyset_id)
            done = tokens.find_redemption(connection, request_hash)
            signer = None
            if row is not None:
                number = self._sat if into_sats else row.number
                signer = table.keyset_at(connection, number)
        if row is None or signer is None or (into_sats and row.number == self._sat):
            raise RefusedError("there is no such keyset", refusal.UNKNOWN_EPOCH)
        check_outputs(outputs, signer.id)
        request = Request(
            request_hash, row.number, signer.number, tuple(inputs), (), tuple(outputs)
        )
        if done is not None:
            return self.answer(request, done)
        keys = self._keyring.keys(row.number, row.unit)
        if not all(keys.verify([(each.amount, each.secret, each.signature) for each in inputs])):
            raise RefusedError(
                "a token was not signed by this keyset, or not for this amount",
                refusal.INVALID_PROOF,
            )
        ys = tuple(KeysetKeys.ys([each.secret for each in inputs]))
        if len(set(ys)) < len(ys):
            raise RefusedError("a token is in the request twice", refusal.ALREADY_SPENT)
        return Request(request_hash, row.number, signer.number, request.inputs, ys, request.outputs)

    def answer(self, request: Request, done: RedemptionRow) -> Redeemed:
        """Signs the outputs of a request that was carried out; the same each time."""
        unit = "sat" if request.signer == self._sat else WORK_UNIT
        keys = self._keyring.keys(request.signer, unit)
        signed = keys.sign([(each.amount, each.blinded) for each in request.outputs])
        return Redeemed(
            tuple(
                BlindSignature(index, output.amount, *signature)
                for index, (output, signature) in enumerate(
                    zip(request.outputs, signed, strict=True)
                )
            ),
            done.price_num,
            done.price_den,
        )

    # Writing.

    def carry_out(
        self, requests: Sequence[Request], now_ms: int
    ) -> list[RedemptionRow | RefusedError]:
        """Carries out requests in one transaction, each wholly or not at all.

        Raises:
            StoreError: None of them is durable for certain; the same requests may be made again.
        """
        results: list[RedemptionRow | RefusedError] = []
        with self._store.change() as connection:
            for request in requests:
                connection.execute("SAVEPOINT request")
                try:
                    results.append(self._spend(connection, request, now_ms))
                except RefusedError as error:
                    connection.execute("ROLLBACK TO request")
                    results.append(error)
                connection.execute("RELEASE request")
        return results

    def _spend(
        self, connection: sqlite3.Connection, request: Request, now_ms: int
    ) -> RedemptionRow:
        done = tokens.find_redemption(connection, request.hash)
        if done is not None:
            return done
        # First of all: what the books say below holds for tokens that are not spent.
        if any(tokens.spent_among(connection, request.ys)):
            raise RefusedError("a token was spent before", refusal.ALREADY_SPENT)
        row = table.keyset_at(connection, request.keyset)
        price = price_of(row)
        issued = 0
        if request.signer != request.keyset:
            issued = self._issue(connection, row, request)
        else:
            _check_swap(row, request)
        redemption = tokens.RedemptionRow(
            0, request.hash, row.number, request.amount, issued, *price, now_ms
        )
        number = tokens.add_redemption(connection, redemption)
        if not tokens.add_spent(connection, number, request.ys):
            raise RefusedError("a token was spent before", refusal.ALREADY_SPENT)
        outputs = [
            (each.blinded, request.signer, each.amount.bit_length() - 1) for each in request.outputs
        ]
        if not tokens.add_outputs(connection, number, outputs):
            raise RefusedError(
                "a blinded message was used before: take fresh ones",
                refusal.BLINDED_MESSAGE_REUSED,
            )
        if issued:
            msat = issued * MSAT_PER_SAT
            book = "operator" if row.policy == Policy.FIXED else "keyset"
            entries = {(book, row.number): -msat, ("issued", row.number): msat}
            table.post(connection, "redemption", row.policy, number, now_ms, entries)
            table.change_keyset(
                connection,
                row.number,
                paid_msat=row.paid_msat + msat,
                redeemed=row.redeemed + request.amount,
            )
        return redemption

    def _issue(self, connection: sqlite3.Connection, row: KeysetRow, request: Request) -> int:
        """Returns how many sats to issue for work tokens, if that may be now."""
        _check_redeemable(row)
        price_num, price_den = price_of(row)
        if self._settings.per_share_price:
            amounts = (proof.amount for proof in request.inputs)
            value = value_of_each(price_num, price_den, amounts)
        else:
            value = value_of(price_num, price_den, request.amount)
        sats = value // MSAT_PER_SAT
        if sats == 0:
            raise RefusedError(
                f"these tokens are worth {value} millisats: bring more of them together",
                refusal.AMOUNT_MISMATCH,
            )
        if sats != request.wanted:
            raise RefusedError(
                f"these tokens are worth {sats} sats; the outputs sum to {request.wanted}",
                refusal.AMOUNT_MISMATCH,
            )
        msat = sats * MSAT_PER_SAT
        if row.policy == Policy.FIXED:
            if msat > cover_of(connection, self._settings):
                raise RefusedError(
                    "the operator's reserve is used up until blocks bring more",
                    refusal.INSOLVENT,
                    retry_after_s=RETRY_S,
                )
            return sats
        self._check_mature(connection, row, msat)
        lent = -table.balance(connection, row.policy, "operator", row.number)
        if msat > row.theta_msat - row.paid_msat + lent:
            raise InternalError(
                f"keyset {row.id.hex()}: its tokens are worth more than its book holds"
            )
        if row.redeemed + request.amount > row.work:
            raise InternalError(f"keyset {row.id.hex()}: more tokens than its claims were signed")
        return sats

    def _check_mature(self, connection: sqlite3.Connection, row: KeysetRow, msat: int) -> None:
        maturity = self._settings.coinbase_maturity
        least = table.least_confirmations(connection, row.number)
        if least is None or least >= maturity:
            return
        # An orphaned block whose payment is about to be taken back has none.
        if least > 0:
            cap = self._settings.advance_cap_sats * MSAT_PER_SAT
            if table.immature_advance(connection, maturity) + msat <= cap:
                return
        raise RefusedError(
            f"the block that pays has {least} of {maturity} confirmations",
            refusal.IMMATURE,
            retry_after_s=RETRY_S * (maturity - least),
        )


def cover_of(connection: sqlite3.Connection, settings: EcashSection) -> int:
    """Returns what is left to pay fixed prices with: reserve and mature rewards, less payments.

    Args:
        connection: A connection.
        settings: The section `ecash`.
    """
    rewards = table.mature_rewards(connection, Policy.FIXED, settings.coinbase_maturity)
    paid = table.paid_by(connection, Policy.FIXED)
    return settings.fixed_reserve_msat + rewards - paid


def price_of(row: KeysetRow) -> tuple[int, int]:
    """Returns the price of a keyset, msat and units; 0 and 0 while it has none."""
    if row.price_den:
        return row.price_num, row.price_den
    if row.state in {KeysetState.FINAL, KeysetState.EXPIRED} and row.work:
        return row.theta_msat, row.work
    return 0, 0


# State.


def _check_swap(row: KeysetRow, request: Request) -> None:
    if row.state == KeysetState.VOID:
        raise RefusedError("the epoch was not paid", refusal.EPOCH_VOID)
    if row.state == KeysetState.EXPIRED:
        raise RefusedError("the keyset has expired", refusal.EXPIRED)
    if request.amount != request.wanted:
        raise RefusedError(
            f"the tokens sum to {request.amount}, the outputs to {request.wanted}",
            refusal.AMOUNT_MISMATCH,
        )


def _check_redeemable(row: KeysetRow) -> None:
    """Refuses what has no price.

    Raises:
        RefusedError: The code tells why.
    """
    state = KeysetState(row.state)
    assert row.policy != SAT, "sat tokens are not redeemed but swapped"
    if state is KeysetState.VOID:
        raise RefusedError("the epoch was not paid", refusal.EPOCH_VOID)
    if state is KeysetState.EXPIRED:
        raise RefusedError("the keyset has expired", refusal.EXPIRED)
    if row.policy == Policy.FIXED or state is KeysetState.FINAL:
        return
    raise RefusedError(
        "no confirmed block has paid this epoch yet", refusal.EPOCH_OPEN, retry_after_s=RETRY_S
    )

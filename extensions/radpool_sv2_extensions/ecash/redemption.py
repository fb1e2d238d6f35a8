"""Answers RedeemSharesEcash: fetching signatures, redeeming, swapping.

Requests of all connections wait in one bounded queue for a few workers, so that what they write can
share a turn of the disk. A connection may ask so often in a time; beyond that, and while the queue
is full, it is told when to ask again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.ecash.refusal import (
    AMOUNT_MISMATCH,
    INVALID_PROOF,
    MINT_UNAVAILABLE,
    RATE_LIMITED,
    UNKNOWN_EPOCH,
    RefusedError,
)
from radpool_sv2.ecash.token import Output, Proof
from radpool_sv2.errors import RemoteProtocolError, StoreError
from radpool_sv2_extensions.ecash import message
from radpool_sv2_extensions.ecash.allowance import Allowance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from radpool_sv2.ecash.mint import Mint
    from radpool_sv2.ecash.token import BlindSignature

    Send = Callable[[int, type[message.Message], bytes], None]

__all__ = ["RedemptionDesk"]

log = structlog.get_logger(__name__)

REQUESTS_PENDING_MAX: Final = 256
"""Of at most 64 KiB each."""

WORKERS: Final = 8
"""More than one, so that the next request is read while the disk writes the last."""

ALLOWANCES_MAX: Final = 65_536
"""Of more connections the one that has not asked for longest begins anew. Requests may be read
after their connection has gone, so there may be more than connections."""

RETRY_S: Final = 1
"""When the queue is worth another try."""

MS_PER_NS: Final = 1_000_000


class RedemptionDesk:
    """Takes requests by `ask`; `start` sets the workers to it."""

    def __init__(self, mint: Mint, send: Send) -> None:
        self._mint = mint
        self._send = send
        self._allowances: OrderedDict[int, Allowance] = OrderedDict()
        self._requests, self._pending = trio.open_memory_channel[
            tuple[int, message.RedeemSharesEcash]
        ](REQUESTS_PENDING_MAX)

    def start(self, nursery: trio.Nursery) -> None:
        """Starts the workers; whoever asks from now on has a full allowance."""
        self._allowances.clear()
        for _ in range(WORKERS):
            nursery.start_soon(self._work)

    def ask(self, connection: int, request: message.RedeemSharesEcash) -> None:
        """Queues a request, or tells when to ask again."""
        if not self.allow(connection, request.request_id):
            return
        try:
            self._requests.send_nowait((connection, request))
        except trio.WouldBlock:
            self.refuse(connection, request.request_id, _too_many(RETRY_S))

    def allow(self, connection: int, request_id: int) -> bool:
        """Says whether a connection may ask now; if not, it is told when."""
        now_ms = time.monotonic_ns() // MS_PER_NS
        allowance = self._allowances.get(connection)
        if allowance is None:
            settings = self._mint.settings
            allowance = Allowance.full(settings.redeems_per_minute, settings.redeems_burst, now_ms)
            self._allowances[connection] = allowance
            if len(self._allowances) > ALLOWANCES_MAX:
                self._allowances.popitem(last=False)
        self._allowances.move_to_end(connection)
        wait_s = allowance.take(now_ms)
        if wait_s:
            self.refuse(connection, request_id, _too_many(wait_s))
        return not wait_s

    def refuse(self, connection: int, request_id: int, error: RemoteProtocolError) -> None:
        """Sends RedeemSharesEcash.Error."""
        retry_after_s = error.retry_after_s if isinstance(error, RefusedError) else 0
        answer = message.RedeemSharesEcashError(request_id, error.error_code, retry_after_s)
        self._send(connection, message.RedeemSharesEcashError, answer.encode())

    def disconnected(self, connection: int) -> None:
        """Forgets a connection."""
        self._allowances.pop(connection, None)

    async def _work(self) -> None:
        async for connection, request in self._pending:
            try:
                answer = await self._answer(request)
            except StoreError as error:
                log.error("a redemption cannot be stored", reason=str(error))  # noqa: TRY400
                refusal = RefusedError(str(error), MINT_UNAVAILABLE, retry_after_s=RETRY_S)
                self.refuse(connection, request.request_id, refusal)
            except RemoteProtocolError as error:
                self.refuse(connection, request.request_id, error)
            else:
                self._send(connection, message.RedeemSharesEcashSuccess, answer.encode())

    async def _answer(self, request: message.RedeemSharesEcash) -> message.RedeemSharesEcashSuccess:
        pending: tuple[int, ...] = ()
        unknown: tuple[int, ...] = ()
        if request.mode == message.MODE_FETCH:
            fetched = await self._mint.fetch(request.keyset_id, request.claims)
            signatures, pending, unknown = fetched.signatures, fetched.pending, fetched.unknown
            price = fetched.price_num, fetched.price_den
        else:
            inputs, outputs = self._inputs(request), _outputs(request)
            spend = self._mint.swap if self._is_swap(request) else self._mint.redeem
            redeemed = await spend(request.keyset_id, inputs, outputs)
            signatures, price = redeemed.signatures, (redeemed.price_num, redeemed.price_den)
        return message.RedeemSharesEcashSuccess(
            request_id=request.request_id,
            mode=request.mode,
            signatures=_signed(signatures),
            pending=pending,
            unknown=unknown,
            price_num=price[0],
            price_den=price[1],
        )

    def _is_swap(self, request: message.RedeemSharesEcash) -> bool:
        """Says whether the outputs are of the work keyset itself; they are all of one keyset.

        Raises:
            RefusedError: They are not, or of one that a request cannot ask for.
        """
        shorts = {output.keyset_short for output in request.outputs}
        if len(shorts) != 1:
            raise RefusedError("outputs of no keyset, or of several", AMOUNT_MISMATCH)
        short = shorts.pop()
        if short == request.keyset_id[: len(short)]:
            return True
        if short == self._mint.sat_keyset_id[: len(short)]:
            return False
        raise RefusedError("outputs of a keyset that has no part in it", UNKNOWN_EPOCH)

    def _inputs(self, request: message.RedeemSharesEcash) -> list[Proof]:
        # The mint says what is wrong with a keyset that is not there any more.
        keyset = self._mint.keyset(request.keyset_id)
        z0 = self._mint.z0 if keyset is None else keyset.z0
        if any(not 0 <= each.z - z0 < message.AMOUNTS for each in request.inputs):
            raise RefusedError("a token of an exponent that has no key", INVALID_PROOF)
        return [Proof(1 << (each.z - z0), each.secret, each.signature) for each in request.inputs]


def _too_many(wait_s: int) -> RefusedError:
    return RefusedError("too many requests", RATE_LIMITED, retry_after_s=wait_s)


def _outputs(request: message.RedeemSharesEcash) -> list[Output]:
    return [Output(each.amount, each.keyset_short, each.blinded) for each in request.outputs]


def _signed(signatures: Sequence[BlindSignature]) -> tuple[message.RedeemSignature, ...]:
    return tuple(message.RedeemSignature(*signature) for signature in signatures)

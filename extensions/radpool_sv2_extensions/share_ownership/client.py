"""Is a miner's side of the ownership extension: consents, submits, and keeps the receipts.

Theory of operation. When a channel is opened, the pool says which registration its shares belong
to. That is checked, signed with the miner's key, and the signature given to each share. From then
on the root of the running receipt is computed here from the shares that were sent; one that differs
from what the pool signs ends the run, because a share is about to be denied. A refusal may come
behind the receipt that leaves its share out, so a receipt that does not fit waits for it a while.

Header hashes and receipts are kept in a file: together with the pool's published batches they show
a share that was accepted and withheld.

Source: `spec/11-owner-registration.md`.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio
from coincurve import PublicKeyXOnly

from radpool_sv2._native.miner import Carrier
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.pool.register import registration_hash
from radpool_sv2.units import tagged_hash
from radpool_sv2_extensions.share_ownership import message
from radpool_sv2_extensions.share_ownership.owner import Owner
from radpool_sv2_extensions.share_ownership.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from radpool_sv2._native.miner import Miner, News
    from radpool_sv2.miner.side import SideOptions

__all__ = ["OwnerSide", "open_side"]

ATTACHMENTS: Final = 256
"""Signatures that wait in the native miner: all the same, so none is ever missing."""
TICK_S: Final = 1.0
EVENTS_MAX: Final = 256
PATIENCE_S: Final = 10.0
"""How long a receipt that does not fit waits for refusals. Source: spec page 11, [OR-11]."""
RECEIPTS_WAITING_MAX: Final = 1_000


@dataclass(slots=True)
class _Channel:
    """Is the channel of a session.

    Attributes:
        session: The native miner's number of the session.
        msp_key: Who signs its receipts.
        number: The registration.
        signature: The miner's consent.
        receipt: What the shares so far make.
        unanswered: Sequence number, exponent and hash of shares without an answer, in order.
        waiting: Receipts that were not taken in yet, each with the time since when.
        given: Attachments that wait in the native miner.
    """

    session: int
    msp_key: bytes
    number: int
    signature: bytes
    receipt: Receipt = field(default_factory=Receipt)
    unanswered: deque[tuple[int, int, bytes]] = field(default_factory=deque)
    waiting: deque[tuple[message.SubmitSharesOwnedSuccess, float]] = field(default_factory=deque)
    given: int = 0


class OwnerSide:
    """Is the side of one miner; see the module's head.

    Args:
        owner: The miner's key and file of receipts.
    """

    word = "owner"

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._channel: _Channel | None = None
        self._next = 0
        self._msp_key = b""
        self._events: deque[tuple[int, str]] = deque(maxlen=EVENTS_MAX)
        self._shares = 0
        self._work = 0
        self._number: int | None = None

    # What the core's miner asks

    @property
    def carrier(self) -> Carrier:
        """How the miner is to speak the extension."""
        return Carrier(
            extension_type=message.EXTENSION_TYPE,
            open_messages=(message.OPEN, message.OPEN_SUCCESS, message.OPEN_ERROR),
            open_tail=message.OwnerAsked(self._owner.public).encode(),
            share_messages=(message.SHARE, message.SHARE_SUCCESS, message.SHARE_ERROR),
            renewing_codes=(),
            lapsing_codes=(),
        )

    async def run(self, machine: Miner) -> None:
        """Serves a miner that was started, until it is cancelled.

        Raises:
            RemoteProtocolError: The pool did what ends all trust in it.
        """
        descriptor = machine.event_fd()
        while True:
            with trio.move_on_after(TICK_S):
                await trio.lowlevel.wait_readable(descriptor)
            # What was taken is taken in to the end: nobody would tell it again.
            with trio.CancelScope(shield=True):
                await self.handle(machine, machine.take())

    async def finish(self, machine: Miner) -> None:
        """Takes in what came last, once the miner has stopped."""
        await self.handle(machine, machine.take())

    def events(self) -> list[tuple[int, str]]:
        """Returns what happened since the last call: milliseconds since 1970 and a sentence."""
        events = list(self._events)
        self._events.clear()
        return events

    def figures(self) -> dict[str, object]:
        """Returns the figures for programs: shares and hashes with a receipt since the start."""
        return {
            "owner": self._owner.public.hex(),
            "registration": self._number,
            "receipts": self._shares,
            "work": self._work,
        }

    def rows(self) -> list[tuple[str, str]]:
        """Returns the figures for people: a name and a text each."""
        rows = [("owner", self._owner.public.hex())]
        if self._number is not None:
            rows.append(("registration", f"{self._number}, signed by both sides"))
        rows.append(("receipts", f"{self._shares} shares, {self._work} hashes, signed by the pool"))
        return rows

    # News

    async def handle(self, machine: Miner, news: News) -> None:
        """Takes in what the native miner tells, and gives it what it may have."""
        if news.opened is not None:
            await self._open(news.session, news.opened[1])
        channel = self._channel
        if channel is not None:
            for sequence, exponent, _number, share_hash in news.submitted:
                if exponent is None:
                    raise RemoteProtocolError(
                        "the pool's target is no power of two: what a share weighs is then not in "
                        "the share"
                    )
                channel.given -= 1
                channel.unanswered.append((sequence, exponent, share_hash))
            channel.given -= len(news.withdrawn)
            await self._hear(channel, news)
        if news.ended is not None:
            self._channel = None
        elif channel is not None:
            self._give(machine, channel)

    async def _open(self, session: int, tail: bytes) -> None:
        granted = message.OwnerGranted.decode(tail)
        if self._msp_key not in {b"", granted.msp_key}:
            raise RemoteProtocolError(
                f"the pool's key is {granted.msp_key.hex()} now, and was {self._msp_key.hex()} on "
                "the last connection: ask its operator before mining on"
            )
        public = self._owner.public
        commitment = tagged_hash("radpool/account", public.hex().encode(), granted.salt)
        signed = registration_hash(
            granted.msp_key, public, commitment, granted.epoch, granted.number
        )
        if not _is_signed(granted.msp_key, granted.msp_signature, signed):
            raise RemoteProtocolError(
                f"the pool's registration of {public.hex()} is not signed by its key "
                f"{granted.msp_key.hex()}"
            )
        self._msp_key = granted.msp_key
        self._number = granted.number
        signature = self._owner.sign(signed)
        self._channel = _Channel(session, granted.msp_key, granted.number, signature)
        await self._owner.keep(
            {
                "registration": {
                    "msp_key": granted.msp_key.hex(),
                    "miner_key": public.hex(),
                    "salt": granted.salt.hex(),
                    "commitment": commitment.hex(),
                    "epoch": granted.epoch,
                    "number": granted.number,
                    "msp_signature": granted.msp_signature.hex(),
                    "miner_signature": signature.hex(),
                }
            }
        )
        self._note(f"shares belong to registration {granted.number} of this pool")

    async def _hear(self, channel: _Channel, news: News) -> None:
        refused = {sequence: code for sequence, code, _again in news.refused}
        if refused:
            channel.unanswered = deque(
                each for each in channel.unanswered if each[0] not in refused
            )
        if message.INVALID_SIGNATURE in refused.values():
            raise RemoteProtocolError(
                "the pool says that this miner's signature of its registration is not true"
            )
        now_s = trio.current_time()
        for msg_type, channel_msg, payload in news.frames:
            if msg_type == message.SHARE_SUCCESS and channel_msg:
                said = message.SubmitSharesOwnedSuccess.decode(payload)
                channel.waiting.append((said, now_s))
        if len(channel.waiting) > RECEIPTS_WAITING_MAX:
            raise RemoteProtocolError("the pool sends receipts that fit no shares")
        while channel.waiting:
            said, since_s = channel.waiting[0]
            if not await self._take(channel, said):
                if now_s - since_s <= PATIENCE_S:
                    return
                raise RemoteProtocolError(
                    "the pool's receipt is not that of the shares that were sent: one of them "
                    "could be denied later"
                )
            channel.waiting.popleft()

    async def _take(self, channel: _Channel, said: message.SubmitSharesOwnedSuccess) -> bool:
        """Checks a receipt against the shares that it answers, and keeps both if it fits."""
        count = said.count - channel.receipt.count
        if not 0 <= count <= len(channel.unanswered):
            return False
        before = receipt = channel.receipt
        shares = []
        for _sequence, exponent, share_hash in islice(channel.unanswered, count):
            receipt = receipt.extended(share_hash, exponent)
            shares.append([share_hash.hex(), exponent])
        if (said.count, said.work, said.root) != receipt.state:
            return False
        if not _is_signed(channel.msp_key, said.signature, receipt.signed_hash(channel.number)):
            raise RemoteProtocolError("the pool's receipt is not signed by its key")
        for _ in range(count):
            channel.unanswered.popleft()
        channel.receipt = receipt
        self._shares += len(shares)
        self._work += receipt.work - before.work
        await self._owner.keep(
            {
                "receipt": {
                    "number": channel.number,
                    "session": channel.session,
                    "shares": shares,
                    "count": receipt.count,
                    "work": str(receipt.work),
                    "root": receipt.root.hex(),
                    "signature": said.signature.hex(),
                }
            }
        )
        return True

    def _give(self, machine: Miner, channel: _Channel) -> None:
        wanted = ATTACHMENTS - channel.given
        if wanted <= ATTACHMENTS // 2:
            return
        numbers = range(self._next, self._next + wanted)
        if machine.give(channel.session, 1, [(number, channel.signature) for number in numbers]):
            self._next += wanted
            channel.given += wanted

    def _note(self, text: str) -> None:
        self._events.append((time.time_ns() // 1_000_000, text))


def _is_signed(public: bytes, signature: bytes, signed: bytes) -> bool:
    try:
        return PublicKeyXOnly(public).verify(signature, signed)
    except ValueError:
        return False


@asynccontextmanager
async def open_side(options: SideOptions) -> AsyncIterator[OwnerSide]:
    """Opens the owner's directory, making it with a new key if it is not there.

    Raises:
        ConfigError: The key cannot be read or written.
    """
    yield OwnerSide(await trio.to_thread.run_sync(Owner.open, options.directory))

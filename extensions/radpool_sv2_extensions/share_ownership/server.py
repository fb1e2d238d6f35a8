"""Is the pool's side of the ownership extension, in front of the node's register of owners.

Theory of operation. A channel is opened for a miner's key: the register gives it an account whose
commitment goes into the owner tag of its jobs, and signs that. Each share brings the miner's
signature of the same statement; the first becomes durable in the transaction that stores the share.
When a batch is durable, each of its channels gets the running receipt over all its shares so far.

A share without a true signature is counted as any other and refused here; it may come again.

Source: `spec/11-owner-registration.md`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from radpool_sv2._native.engine import group_attachments, run_receipts
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.pool.extension import (
    DUPLICATE_SHARE,
    ChannelGrant,
    Extension,
    OpenMessage,
    RejectedShare,
    ShareMessage,
)
from radpool_sv2.pool.register import RAIL, OwnerRegister
from radpool_sv2_extensions.share_ownership import message
from radpool_sv2_extensions.share_ownership.receipt import Receipt

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from radpool_sv2._native.engine import (
        ChannelClosed,
        ChannelOpened,
        ChannelRequested,
        RepeatedShare,
        ShareBatch,
    )
    from radpool_sv2.pool.extension import Enclosure, ExtensionHost
    from radpool_sv2.pool.register import Registration

__all__ = ["OwnershipServer"]

REFUSED_MAX: Final = 64
"""Refused shares of a channel that may still come again with the right signature."""


Key = tuple[int, int]
"""Connection and channel."""


@dataclass(slots=True)
class _Channel:
    """Is an open channel of an owner.

    Attributes:
        registration: Whose it is.
        receipt: What was signed last.
        refused: Header hashes of shares without a true signature, oldest first.
    """

    registration: Registration
    receipt: Receipt = field(default_factory=Receipt)
    refused: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def refuse(self, share_hash: bytes) -> None:
        while len(self.refused) >= REFUSED_MAX:
            self.refused.popitem(last=False)
        self.refused[share_hash] = None


class _Signatures:
    """Is what a batch brings for the register; stored with its shares.

    Attributes:
        channels: The channels that its shares came by.
        wrong: The shares without a true signature.
        first: The first signature of owners who had none, by account.
        excluded: The shares that the ledger has refused.
    """

    def __init__(self, register: OwnerRegister) -> None:
        self._register = register
        self.channels: set[Key] = set()
        self.wrong: list[int] = []
        self.first: dict[int, tuple[Registration, bytes]] = {}
        self.excluded: tuple[int, ...] = ()

    def store(self, connection: sqlite3.Connection, sequence: int, excluded: Sequence[int]) -> None:
        """Keeps the first signature of each owner."""
        del sequence
        self.excluded = tuple(excluded)
        for registration, signature in self.first.values():
            self._register.confirm(connection, registration, signature)


class OwnershipServer(Extension):
    """Serves owners on the pool's connections."""

    def __init__(self, host: ExtensionHost) -> None:
        """Takes what the extension may do.

        Raises:
            ConfigError: The node has no register of owners.
        """
        self._host = host
        self._register = host.part(OwnerRegister)
        self._asked: dict[Key, Registration] = {}
        self._channels: dict[Key, _Channel] = {}
        self._extending = trio.Lock()

    @property
    def extension_type(self) -> int:
        """The number that clients negotiate."""
        return message.EXTENSION_TYPE

    @property
    def share_messages(self) -> Sequence[ShareMessage]:
        """SubmitSharesOwned and its error."""
        return (ShareMessage(message.SHARE, message.SHARE_ERROR),)

    @property
    def open_message(self) -> OpenMessage:
        """OpenExtendedOwnedMiningChannel and its answers."""
        return OpenMessage(message.OPEN, message.OPEN_SUCCESS, message.OPEN_ERROR)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Forgets the connections of an engine that is no more."""
        self._asked.clear()
        self._channels.clear()
        task_status.started()

    # --- channels

    async def open(self, request: ChannelRequested) -> ChannelGrant:
        """Grants a channel to a miner's key, registering it if it is new."""
        asked = message.OwnerAsked.decode(request.tail)
        found = await self._register.register(asked.miner_key)
        self._asked[request.connection, request.request] = found
        granted = message.OwnerGranted(
            msp_key=self._register.msp_key,
            salt=found.salt,
            epoch=found.epoch,
            number=found.number,
            msp_signature=found.msp_signature,
        )
        return ChannelGrant(found.account, found.commitment, RAIL, None, granted.encode())

    def opened(self, event: ChannelOpened) -> None:
        """Begins the channel's receipt."""
        registration = self._asked.pop((event.connection, event.request), None)
        if registration is not None:
            self._channels[event.connection, event.channel] = _Channel(registration)

    def closed(self, event: ChannelClosed) -> None:
        """Forgets a channel."""
        self._channels.pop((event.connection, event.channel), None)

    def disconnected(self, connection: int) -> None:
        """Forgets a connection."""
        for request in [key for key in self._asked if key[0] == connection]:
            del self._asked[request]
        for channel in [key for key in self._channels if key[0] == connection]:
            del self._channels[channel]

    # --- shares

    async def enclose(self, batch: ShareBatch) -> Enclosure | None:
        """Reads the signatures of a batch; most are known."""
        found = _Signatures(self._register)
        groups = await trio.to_thread.run_sync(
            group_attachments, batch, message.EXTENSION_TYPE, message.SHARE
        )
        for connection, channel, account, data, indices in groups:
            found.channels.add((connection, channel))
            if not self._is_true(self._register.of_account(account), data, found.first):
                found.wrong += indices
        return found

    @staticmethod
    def _is_true(
        registration: Registration | None,
        data: bytes,
        first: dict[int, tuple[Registration, bytes]],
    ) -> bool:
        if registration is None:
            return False
        try:
            signature = message.OwnedShare.decode(data).miner_signature
        except RemoteProtocolError:
            return False
        known = first.get(registration.account)
        if known is not None and known[1] == signature:
            return True
        if not registration.is_signed_by_miner(signature):
            return False
        if not registration.miner_signature:
            first.setdefault(registration.account, (registration, signature))
        return True

    async def accept(
        self, batch: ShareBatch, enclosure: Enclosure | None
    ) -> Sequence[RejectedShare]:
        """Sends the receipts of a batch that is durable; returns the shares without a signature."""
        assert isinstance(enclosure, _Signatures), "what `enclose` has made"
        for registration, signature in enclosure.first.values():
            self._register.confirmed(registration, signature)
        for index in enclosure.wrong:
            channel = self._channels.get((batch.connection_of(index), batch.channel_of(index)))
            if channel is not None:
                channel.refuse(batch.hash_of(index))
        excluded = [*enclosure.excluded, *enclosure.wrong]
        async with self._extending:
            before = {
                key: self._channels[key].receipt.state
                for key in enclosure.channels
                if key in self._channels
            }
            await trio.to_thread.run_sync(self._run, batch, excluded, before)
        return [RejectedShare(index, message.INVALID_SIGNATURE) for index in enclosure.wrong]

    def _run(
        self,
        batch: ShareBatch,
        excluded: Sequence[int],
        before: Mapping[Key, tuple[int, int, bytes]],
    ) -> None:
        """Extends, signs and sends, holding `_extending`."""
        told = run_receipts(batch, message.EXTENSION_TYPE, message.SHARE, excluded, before)
        for connection, number, last, accepted, hashes, count, work, root in told:
            channel = self._channels.get((connection, number))
            if channel is None:
                continue  # it was closed meanwhile; its shares are kept
            channel.receipt = Receipt(count, work, root)
            self._tell(connection, number, channel, last, (accepted, hashes))

    def _tell(
        self, connection: int, number: int, channel: _Channel, last: int, new: tuple[int, int]
    ) -> None:
        receipt = channel.receipt
        signed = receipt.signed_hash(channel.registration.number)
        payload = message.SubmitSharesOwnedSuccess(
            channel_id=number,
            last_sequence_number=last,
            new_submits_accepted_count=new[0],
            new_shares_sum=new[1],
            count=receipt.count,
            work=receipt.work,
            root=receipt.root,
            signature=self._register.sign_receipt(signed),
        ).encode()
        self._host.send(
            connection,
            message.EXTENSION_TYPE,
            message.SHARE_SUCCESS,
            channel_msg=True,
            payload=payload,
        )

    async def repeat(self, share: RepeatedShare) -> None:
        """Takes a share that was refused for its signature and brings another."""
        channel = self._channels.get((share.connection, share.channel))
        if channel is None or share.hash not in channel.refused:
            raise RemoteProtocolError("the share has its receipt", DUPLICATE_SHARE)
        first: dict[int, tuple[Registration, bytes]] = {}
        registration = self._register.of_account(share.account)
        if not self._is_true(registration, share.data, first):
            raise RemoteProtocolError(
                "the share brings no signature of its registration", message.INVALID_SIGNATURE
            )
        for found, signature in first.values():
            await self._register.confirm_alone(found, signature)
        async with self._extending:
            if share.hash not in channel.refused:
                raise RemoteProtocolError("the share has its receipt", DUPLICATE_SHARE)
            del channel.refused[share.hash]
            channel.receipt = channel.receipt.extended(share.hash, share.exponent)
            # It was counted when it came first: here it adds nothing to the counters.
            self._tell(share.connection, share.channel, channel, share.sequence, (0, 0))

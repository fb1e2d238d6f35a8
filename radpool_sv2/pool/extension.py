"""Defines what a Stratum V2 protocol extension offers to a pool, and what it is given.

The engine knows the core protocol and two general ideas. A share may carry opaque bytes, an
attachment, either as TLVs of `SubmitSharesExtended` or as what follows the fields of that message
in a message of the extension. And a channel may be opened by a message of the extension whose first
fields are those of `OpenExtendedMiningChannel`. The engine validates both and hands the rest up.
All other frames of an extension are handed up whole. Which bytes mean what is the extension's
business alone.

An extension is a package of its own. It registers a factory under the entry point group
`radpool_sv2.extensions`; the operator names it in the configuration. The core imports none.
"""

# The defaults of `Extension` do nothing with what they are given.
# ruff: noqa: ARG002

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from radpool_sv2.errors import InternalError, RemoteProtocolError
from radpool_sv2.store import Enclosure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import trio

    from radpool_sv2._native.engine import (
        ChannelClosed,
        ChannelOpened,
        ChannelRequested,
        ExtensionFrame,
        RepeatedShare,
        ShareBatch,
    )

__all__ = [
    "DUPLICATE_SHARE",
    "Attachment",
    "ChannelGrant",
    "Enclosure",
    "Extension",
    "ExtensionHost",
    "OpenMessage",
    "RejectedShare",
    "ShareMessage",
    "attachments_of",
    "split_tlvs",
]

T = TypeVar("T")

SUBMIT_SHARES_EXTENDED = 0x1B
"""The core message that TLVs follow."""

DUPLICATE_SHARE = "duplicate-share"

_TLV_HEADER = struct.Struct("<HBH")
"""Extension type, field, length of the value. Source: SV2, extension 0x0002, "TLV"."""


@dataclass(frozen=True, slots=True)
class ShareMessage:
    """Is a message whose first fields are those of SubmitSharesExtended.

    Its shares get no SubmitShares.Success: the extension tells the client what is durable. Those
    that are refused get the extension's own error message.

    Attributes:
        msg_type: Its number, not 0x1b.
        error_type: The number of the message that refuses one of its shares; that has the fields of
            SubmitShares.Error.
    """

    msg_type: int
    error_type: int


@dataclass(frozen=True, slots=True)
class OpenMessage:
    """Is a message whose first fields are those of OpenExtendedMiningChannel.

    Attributes:
        open: Its number.
        success: The number of the answer that begins with the fields of
            OpenExtendedMiningChannel.Success.
        error: The number of the answer that has the fields of OpenMiningChannel.Error.
    """

    open: int
    success: int
    error: int


@dataclass(frozen=True, slots=True)
class ChannelGrant:
    """Is what an extension opens a channel with.

    Attributes:
        account: The ledger's number of the owner.
        commitment: The owner's commitment, 32 bytes.
        rail: How the owner is paid: 0 account, 1 ecash, 2 contract.
        exponent: The first step on the ladder; None takes it from the client's user identity or its
            declared hash rate.
        tail: What follows the core fields of the Success.
        before: Frames of the extension, message type and payload, that leave right before the
            Success: nothing comes between.
    """

    account: int
    commitment: bytes
    rail: int
    exponent: int | None
    tail: bytes
    before: Sequence[tuple[int, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Attachment:
    """Is what a share of a batch carries for one extension.

    Attributes:
        index: The share's place in the batch.
        msg_type: The message that it came by.
        data: For SubmitSharesExtended the extension's own TLVs, whole and in order; for a share
            message of the extension whatever follows the share's fields.
    """

    index: int
    msg_type: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RejectedShare:
    """Is a share that an extension does not let pass, and the error code to refuse it with."""

    index: int
    error_code: str


class ExtensionHost(Protocol):
    """Is what an extension may do."""

    def send(
        self,
        connection: int,
        extension_type: int,
        msg_type: int,
        *,
        channel_msg: bool,
        payload: bytes,
    ) -> None:
        """Sends a frame on a connection; does nothing when the connection is gone.

        Frames leave in the order of the calls. What is sent from `Extension.open` leaves before the
        channel's Success, which leaves before its first job.

        Raises:
            LocalProtocolError: A number or the payload is out of range.
        """

    def reject_repeated(self, share: RepeatedShare, error_code: str) -> None:
        """Refuses what a repeated share carried, by the error message that fits how it came.

        Raises:
            LocalProtocolError: The code is no printable ASCII of 1 to 255 characters.
        """

    def disconnect(self, connection: int) -> None:
        """Ends a connection whose client breaks the extension's protocol."""

    def part(self, kind: type[T]) -> T:
        """Returns the part of the node that is of a class, such as its mint.

        Raises:
            ConfigError: The node has no such part.
        """


class Extension(Protocol):
    """Is a protocol extension at work in a pool.

    A class that derives from this one needs `extension_type` and what it takes part in; the rest
    does nothing. All calls come from trio's thread. A method that raises anything but what it
    documents makes the pool's role fail.
    """

    @property
    def extension_type(self) -> int:
        """The number that clients negotiate, without the channel bit."""

    @property
    def share_messages(self) -> Sequence[ShareMessage]:
        """The messages that carry a share."""
        return ()

    @property
    def open_message(self) -> OpenMessage | None:
        """The message that opens a channel, if there is one."""
        return None

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Does what the extension has to do besides; is cancelled when the pool leaves.

        The pool listens for miners once `task_status.started()` was called. It is called again when
        the pool's role had failed and starts anew.
        """
        task_status.started()

    async def enclose(self, batch: ShareBatch) -> Enclosure | None:
        """Prepares what is to become durable together with a batch's shares.

        It is called before the batch is committed, only if a share of it carries something for this
        extension. Work of more than a millisecond belongs in a worker thread.

        Raises:
            StoreError: It is called again later; miners wait meanwhile.
        """
        return None

    async def accept(
        self, batch: ShareBatch, enclosure: Enclosure | None
    ) -> Sequence[RejectedShare]:
        """Looks at a batch that is durable but not yet acknowledged.

        It is called if a share of it carries something for this extension. The extension answers
        the shares that came by a message of its own, but for those that are refused. A share whose
        attachment is refused stays in the ledger, where it is paid as any other.

        Args:
            batch: All shares, for their accounts, channels and weights.
            enclosure: What `enclose` returned; stored, unless the ledger has refused all shares.

        Returns:
            The shares to refuse, because their attachment is.

        Raises:
            StoreError: It is called again later; miners wait meanwhile.
        """
        return ()

    async def open(self, request: ChannelRequested) -> ChannelGrant:
        """Decides about a channel that a client wants to open by this extension's message.

        Raises:
            RemoteProtocolError: The channel is refused with its error code.
            StoreError: The channel is refused; the client may ask again.
        """
        raise InternalError(f"extension {self.extension_type:#06x} does not open channels")

    def opened(self, event: ChannelOpened) -> None:
        """Learns that a channel which it granted is open; its Success is on its way."""
        return

    def closed(self, event: ChannelClosed) -> None:
        """Learns that a channel is gone, whoever opened it; its connection goes on."""
        return

    async def repeat(self, share: RepeatedShare) -> None:
        """Takes a share that was submitted again with something attached, and answers the client.

        Its first submission was valid and counted; whatever was drained with this one or before is
        durable. This is how a client that was refused for its attachment tries another. Several
        calls may run at once.

        Raises:
            RemoteProtocolError: The client is refused with its error code.
            StoreError: The client is refused; it may try again.
        """
        raise RemoteProtocolError("nothing is to be had for a repeated share", DUPLICATE_SHARE)

    async def deliver(self, frame: ExtensionFrame) -> None:
        """Takes a frame that carries no share; answers by the host when it wants to.

        Frames of all connections come one after another: who keeps one waiting keeps all.
        """
        return

    def disconnected(self, connection: int) -> None:
        """Learns that a connection is gone, to forget what it kept for it."""
        return


def attachments_of(batch: ShareBatch, extension: Extension) -> list[Attachment]:
    """Returns what the shares of a batch carry for one extension, in the order of the batch."""
    number = extension.extension_type
    own = {message.msg_type for message in extension.share_messages}
    found = []
    for index, extension_type, msg_type, data in batch.attachments():
        if extension_type == number and msg_type in own:
            found.append(Attachment(index, msg_type, data))
        elif msg_type == SUBMIT_SHARES_EXTENDED:
            part = split_tlvs(data).get(number)
            if part is not None:
                found.append(Attachment(index, msg_type, part))
    return found


def split_tlvs(tail: bytes) -> dict[int, bytes]:
    """Takes the TLVs behind a share apart, by extension.

    Raises:
        InternalError: They are malformed: the engine lets no such share pass.
    """
    parts: dict[int, bytes] = {}
    position = 0
    while position < len(tail):
        end = position + _TLV_HEADER.size
        if end > len(tail):
            raise InternalError("the engine let a share pass whose TLVs are cut off")
        extension_type, _field, length = _TLV_HEADER.unpack_from(tail, position)
        end += length
        if end > len(tail):
            raise InternalError("the engine let a share pass whose TLVs are cut off")
        parts[extension_type] = parts.get(extension_type, b"") + tail[position:end]
        position = end
    return parts

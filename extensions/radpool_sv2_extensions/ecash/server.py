"""Is the pool's side of the ecash extension, in front of the node's mint.

Theory of operation. A channel is opened under an epoch policy; its owner in the ledger is the
policy, not the miner, so all its shares look alike in the public log. A share brings a blinded
message. What is claimed becomes durable in the transaction that stores the share; then the mint
signs, and the receipts leave. Whatever is wrong with a claim, the share itself is counted: the
client is told to send it again with another blinded message, and gets its token then. The engine
has checked the proof of work before anything here sees the share, so that no curve arithmetic is
to be had for less.

A keyset is announced before a channel is granted on it, and again to all its policy's connections
when another takes its place. Requests about tokens go to `redemption`.

Source: `spec/05-ecash-messages.md`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2._native.ecash import check_points
from radpool_sv2.ecash.claim import ClaimEnclosure
from radpool_sv2.ecash.desk import MintDesk
from radpool_sv2.ecash.mint import Mint
from radpool_sv2.ecash.policy import RAIL, SignMode
from radpool_sv2.ecash.refusal import MINT_UNAVAILABLE, UNKNOWN_EPOCH, RefusedError
from radpool_sv2.errors import RemoteProtocolError, StoreError
from radpool_sv2.pool.extension import (
    ChannelGrant,
    Extension,
    OpenMessage,
    RejectedShare,
    ShareMessage,
)
from radpool_sv2_extensions.ecash import message
from radpool_sv2_extensions.ecash.redemption import RedemptionDesk
from radpool_sv2_extensions.ecash.subscription import Subscriptions, Terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radpool_sv2._native.engine import (
        ChannelClosed,
        ChannelOpened,
        ChannelRequested,
        ExtensionFrame,
        RepeatedShare,
        ShareBatch,
    )
    from radpool_sv2.ecash.keyset import KeysetChange, KeysetView
    from radpool_sv2.ecash.policy import Policy
    from radpool_sv2.pool.extension import Enclosure, ExtensionHost

__all__ = ["EcashServer"]

log = structlog.get_logger(__name__)

VERSION_MISMATCH: Final = "protocol-version-mismatch"
INVALID_CLAIM_PUBKEY: Final = "invalid-claim-pubkey"

Z_STEP: Final = 1
"""Channels move on the ladder by any whole step."""

SENDS_AT_ONCE: Final = 256
"""Announcements in a row before other tasks have their turn: less than a millisecond."""


_NO_KEYSET: Final = RefusedError("no such keyset", UNKNOWN_EPOCH)


class EcashServer(Extension):
    """Serves ecash on the pool's connections."""

    def __init__(self, host: ExtensionHost) -> None:
        """Takes what the extension may do.

        Raises:
            ConfigError: The node has no mint.
        """
        self._host = host
        self._mint = host.part(Mint)
        self._desk = host.part(MintDesk)
        self._subscriptions = Subscriptions()
        self._redemptions = RedemptionDesk(self._mint, self._send)

    @property
    def extension_type(self) -> int:
        """The number that clients negotiate."""
        return message.EXTENSION_TYPE

    @property
    def share_messages(self) -> Sequence[ShareMessage]:
        """SubmitSharesEcashExtended and its error."""
        submit = message.SubmitSharesEcashExtended.msg_type
        return (ShareMessage(submit, message.SubmitSharesEcashExtendedError.msg_type),)

    @property
    def open_message(self) -> OpenMessage:
        """OpenExtendedEcashMiningChannel and its answers."""
        return OpenMessage(
            message.OpenExtendedEcashMiningChannel.msg_type,
            message.OpenExtendedEcashMiningChannelSuccess.msg_type,
            message.OpenExtendedEcashMiningChannelError.msg_type,
        )

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Passes on the mint's changes and answers requests, until cancelled.

        An engine that was started anew counts its connections from the beginning, so nothing is
        known of those of the one before.
        """
        self._subscriptions = Subscriptions()
        self._mint.forget_channels()
        self._desk.follow(self._tell)
        try:
            async with trio.open_nursery() as nursery:
                self._redemptions.start(nursery)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._desk.leave(self._tell)

    # --- channels

    async def open(self, request: ChannelRequested) -> ChannelGrant:
        """Grants a channel on terms that the client accepts, and announces its keyset."""
        asked = message.TermsAsked.decode(request.tail)
        if asked.min_protocol > message.PROTOCOL_VERSION:
            raise RemoteProtocolError(
                f"version {asked.min_protocol} of the ecash extension is asked for",
                VERSION_MISMATCH,
            )
        if asked.claim_pubkey and check_points([asked.claim_pubkey]) != [True]:
            raise RemoteProtocolError("the claim key is no point", INVALID_CLAIM_PUBKEY)
        policy, mode = self._mint.choose_policy(asked.policies_accepted, asked.sign_modes_accepted)
        keyset = self._mint.current(policy)
        owner = self._mint.owner(policy)
        granted = message.TermsGranted(
            policy=policy,
            sign_mode=mode,
            z0=self._mint.z0,
            z_step=Z_STEP,
            keyset_id=keyset.id,
            mint_pubkey=self._mint.public_key,
            mint_url=self._mint.url,
            max_batch=message.CLAIMS_MAX,
        )
        terms = Terms(policy, mode is SignMode.LAZY, keyset.id, asked.claim_pubkey)
        self._subscriptions.grant(request.connection, request.request, terms)
        return ChannelGrant(
            owner.account,
            owner.commitment,
            RAIL,
            None,
            granted.encode(),
            before=((message.EcashKeysetAnnounce.msg_type, keyset.announcement),),
        )

    def opened(self, event: ChannelOpened) -> None:
        """Tells the state of the channel's keyset, or of the one that has taken its place."""
        terms = self._subscriptions.open(event.connection, event.request, event.channel)
        if terms is None:
            log.warning("terms forgotten", connection=event.connection, channel=event.channel)
            return
        self._mint.name_claimant(event.connection, event.channel, terms.claim_key)
        for keyset in self._current([terms.policy]):
            if keyset.id != terms.keyset_id:
                self._announce(event.connection, keyset)
            self._update(event.connection, keyset)

    def closed(self, event: ChannelClosed) -> None:
        """Forgets a channel."""
        self._subscriptions.close(event.connection, event.channel)
        self._mint.forget_channel(event.connection, event.channel)

    def disconnected(self, connection: int) -> None:
        """Forgets a connection."""
        for channel in self._subscriptions.disconnect(connection):
            self._mint.forget_channel(connection, channel)
        self._redemptions.disconnected(connection)

    # --- shares

    async def enclose(self, batch: ShareBatch) -> Enclosure | None:
        """Reads the claims of a batch, to be stored with its shares."""
        return await trio.to_thread.run_sync(
            self._mint.enclose,
            batch,
            message.EXTENSION_TYPE,
            message.SubmitSharesEcashExtended.msg_type,
        )

    async def accept(
        self, batch: ShareBatch, enclosure: Enclosure | None
    ) -> Sequence[RejectedShare]:
        """Sends the receipts of claims that are durable; returns those that are not good."""
        if not isinstance(enclosure, ClaimEnclosure):
            return ()
        lazy = frozenset(self._subscriptions.lazy)
        try:
            payloads = await self._mint.sign(enclosure, lazy_channels=lazy)
        except StoreError as error:
            # The claims are durable: whoever asks for the signatures later gets them.
            log.error("claims cannot be signed now", shares=len(batch), reason=str(error))  # noqa: TRY400
            codes = dict.fromkeys(enclosure.indices, MINT_UNAVAILABLE) | dict(enclosure.rejected)
            return [RejectedShare(index, code) for index, code in codes.items()]
        for connection, payload in payloads:
            self._send(connection, message.SubmitSharesEcashExtendedSuccess, payload)
        self._desk.wake()
        return [RejectedShare(index, code) for index, code in enclosure.rejected]

    async def repeat(self, share: RepeatedShare) -> None:
        """Takes the claim of a share that was counted before; the same claim, the same receipt."""
        lazy = (share.connection, share.channel) in self._subscriptions.lazy
        try:
            payload = await self._mint.claim_repeated(share, lazy=lazy)
        except StoreError as error:
            log.error("a claim cannot be stored now", reason=str(error))  # noqa: TRY400
            raise RefusedError(str(error), MINT_UNAVAILABLE) from error
        self._send(share.connection, message.SubmitSharesEcashExtendedSuccess, payload)

    # --- frames

    async def deliver(self, frame: ExtensionFrame) -> None:
        """Answers a request, or queues it; frames that only a server sends mean nothing here."""
        kind = message.MESSAGES.get(frame.msg_type)
        if kind not in (message.RedeemSharesEcash, message.EcashKeysetRequest):
            return
        try:
            read = message.decode(frame.msg_type, frame.payload, channel_msg=frame.channel_msg)
        except RemoteProtocolError as error:
            self._refuse_frame(frame, error)
            return
        if isinstance(read, message.RedeemSharesEcash):
            self._redemptions.ask(frame.connection, read)
        elif isinstance(read, message.EcashKeysetRequest):
            await self._tell_keysets(frame.connection, read.keyset_id)

    def _refuse_frame(self, frame: ExtensionFrame, error: RemoteProtocolError) -> None:
        """Answers what cannot be read by its code, or ends the connection where there is none."""
        if not error.error_code:
            log.warning(
                "an ecash request is malformed", connection=frame.connection, why=str(error)
            )
            self._host.disconnect(frame.connection)
            return
        number = 0
        if frame.msg_type == message.RedeemSharesEcash.msg_type:
            number = int.from_bytes(frame.payload[:4], "little")
        self._redemptions.refuse(frame.connection, number, error)

    async def _tell_keysets(self, connection: int, keyset_id: bytes) -> None:
        """Announces one keyset, or the current ones of a connection and that of sats."""
        if not self._redemptions.allow(connection, 0):
            return
        if keyset_id:
            keyset = self._mint.keyset(keyset_id) or await self._mint.find_keyset(keyset_id)
            if keyset is None:
                self._redemptions.refuse(connection, 0, _NO_KEYSET)
                return
            wanted = [keyset]
        else:
            wanted = self._current(self._subscriptions.policies(connection))
            wanted.append(self._mint.sat_keyset)
        for keyset in wanted:
            self._announce(connection, keyset)
            if keyset.policy is not None:
                self._update(connection, keyset)

    # --- news

    async def _tell(self, changes: Sequence[KeysetChange]) -> None:
        sent = 0
        for change in changes:
            if change.keyset.policy is None:
                continue
            for connection in self._subscriptions.of_policy(change.keyset.policy):
                if change.announcement is not None:
                    self._announce(connection, change.keyset)
                self._update(connection, change.keyset)
                sent += 1
                if sent % SENDS_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()

    def _current(self, policies: Sequence[Policy]) -> list[KeysetView]:
        """Returns the open keysets of policies, as far as there are any at the moment."""
        found = []
        for policy in policies:
            with suppress(RefusedError):
                found.append(self._mint.current(policy))
        return found

    def _announce(self, connection: int, keyset: KeysetView) -> None:
        self._send(connection, message.EcashKeysetAnnounce, keyset.announcement)

    def _update(self, connection: int, keyset: KeysetView) -> None:
        self._send(connection, message.EcashEpochUpdate, keyset.update)

    def _send(self, connection: int, kind: type[message.Message], payload: bytes) -> None:
        self._host.send(
            connection,
            message.EXTENSION_TYPE,
            kind.msg_type,
            channel_msg=kind.channel_msg,
            payload=payload,
        )

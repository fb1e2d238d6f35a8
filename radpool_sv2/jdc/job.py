"""Defines a job as a pool sees it, and a share that was found on it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.units import target_of
from radpool_sv2.wire.message.job_declaration import (
    DeclareMiningJob,
    ProvideMissingTransactions,
    ProvideMissingTransactionsSuccess,
)
from radpool_sv2.wire.message.mining import SubmitSharesExtended

if TYPE_CHECKING:
    from radpool_sv2.jdc.coinbase import Coinbase
    from radpool_sv2.jdc.work import OwnTemplate

__all__ = ["FoundShare", "Job", "JobState"]

REQUEST_MASK = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class FoundShare:
    """Is a share that a miner behind this client has found and the engine has checked.

    Attributes:
        number: The job's number.
        version: The header's version.
        ntime: The header's time, s.
        nonce: The header's nonce.
        extranonce: The part of the extranonce behind the job's head.
        hash: The header's hash, 32 bytes, internal order.
    """

    number: int
    version: int
    ntime: int
    nonce: int
    extranonce: bytes
    hash: bytes

    def meets(self, target: int) -> bool:
        """Tells whether the hash is not above a target."""
        return int.from_bytes(self.hash, "little") <= target


class JobState(Enum):
    """Says how far a pool has taken a job in."""

    DECLARED = "declared"
    """Its template is being judged."""
    OFFERED = "offered"
    """It is to become a custom job."""
    ACCEPTED = "accepted"
    """The pool pays for its shares."""
    REFUSED = "refused"
    """The pool does not, or nobody waits for its answer any more."""


@dataclass(eq=False)
class Job:
    """Is a template with the coinbase that a pool asked for.

    Attributes:
        number: The client's number of it: of the template in the engine, of the request upstream.
        own: The template.
        coinbase: The coinbase.
        token: The token that it became a custom job by.
        pad: What the channel's extranonce has before the part that the engine fills.
        state: How far it is; an own block has no pool and is accepted from the start.
        job_id: The pool's number, once it is accepted.
        judged: Whether the pool has found its template valid.
        denied: Whether the pool itself has refused it, so that it counts nothing for it.
        asked_for: How often the pool has asked for transactions of it.
        cached: Shares that wait until it is accepted.
        given_s: When the miners got it.
    """

    number: int
    own: OwnTemplate
    coinbase: Coinbase
    pad: bytes = b""
    token: bytes = b""
    state: JobState = JobState.ACCEPTED
    job_id: int = 0
    judged: bool = False
    denied: bool = False
    asked_for: int = 0
    cached: deque[FoundShare] = field(default_factory=deque)
    given_s: float = 0.0

    @property
    def prev_hash(self) -> bytes:
        """The block that it builds on."""
        return self.own.tip.prev_hash

    def submission(self, channel: int, sequence: int, share: FoundShare) -> SubmitSharesExtended:
        """Makes the message that submits a share of it."""
        return SubmitSharesExtended(
            channel_id=channel,
            sequence_number=sequence,
            job_id=self.job_id,
            nonce=share.nonce,
            ntime=share.ntime,
            version=share.version,
            extranonce=self.pad + share.extranonce,
        )

    def declaration(self, token: bytes) -> DeclareMiningJob:
        """Makes the message that shows its template."""
        return DeclareMiningJob(
            request_id=self.request,
            mining_job_token=token,
            version=self.own.template.version,
            coinbase_tx_prefix=self.coinbase.prefix(),
            coinbase_tx_suffix=self.coinbase.suffix(),
            wtxid_list=self.own.wtxids,
            excess_data=b"",
        )

    def provide(self, asked: ProvideMissingTransactions) -> ProvideMissingTransactionsSuccess:
        """Makes the message with transactions that a pool lacks.

        Raises:
            RemoteProtocolError: It asks for one that is not there, or twice for one.
        """
        transactions, positions = self.own.transactions, asked.unknown_tx_position_list
        if any(at >= len(transactions) for at in positions):
            raise RemoteProtocolError(
                f"the declarator asked for transaction {max(positions)} of a job that has "
                f"{len(transactions)}"
            )
        if len(set(positions)) != len(positions):
            raise RemoteProtocolError("the declarator asked for a transaction twice")
        return ProvideMissingTransactionsSuccess(
            request_id=asked.request_id,
            transaction_list=tuple(transactions[at] for at in positions),
        )

    @property
    def request(self) -> int:
        """Its number in requests to a pool."""
        return self.number & REQUEST_MASK

    @property
    def target(self) -> int | None:
        """What the hashes of its shares must not exceed; None where that is up to the channel."""
        exponent = self.coinbase.asked.exponent
        return None if exponent is None else target_of(exponent)

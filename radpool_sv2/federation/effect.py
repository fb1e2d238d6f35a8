"""Defines what the machines of the federation are told, and what they want done.

Effects leave in order, and the driver keeps it: whatever stands behind a `Persist` is done only
once the record is durable. That is what makes a crash harmless: nobody has seen what it can forget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.federation.broadcast.payload import ENTRY_OVERHEAD, PAYLOAD_BYTES_MAX

if TYPE_CHECKING:
    from radpool_sv2.federation.agreement.mark import Cut
    from radpool_sv2.federation.broadcast.entry import Entry
    from radpool_sv2.federation.certificate import Certificate
    from radpool_sv2.federation.evidence import Evidence
    from radpool_sv2.federation.messages import Message
    from radpool_sv2.federation.record import Record

__all__ = [
    "Append",
    "AppliedState",
    "Apply",
    "Blame",
    "Certify",
    "ChainTip",
    "Close",
    "Decide",
    "Deliver",
    "Effect",
    "Event",
    "Halt",
    "Limits",
    "LinkDown",
    "LinkUp",
    "Persist",
    "Received",
    "Segment",
    "Send",
    "Serve",
    "ServeEpochs",
    "Served",
]


# Events.


@dataclass(frozen=True, slots=True)
class LinkUp:
    """Says that a link to a member is open; what was sent on an earlier one may be lost."""

    member: int


@dataclass(frozen=True, slots=True)
class LinkDown:
    """Says that a link to a member is closed."""

    member: int


@dataclass(frozen=True, slots=True)
class Received:
    """Says that a member sent a message on its link."""

    member: int
    message: Message


@dataclass(frozen=True, slots=True)
class Append:
    """Asks to append a payload to the own stream."""

    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class ChainTip:
    """Says that the own chain has reached a height: one for each height, in order.

    After a start, the first is that of `Epochs.next_height`, or of the tip if it is lower.

    Attributes:
        height: Of its tip.
        block_hash: Of the tip, internal byte order.
    """

    height: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class AppliedState:
    """Answers `Apply`: the root of the state behind the epoch, 32 bytes.

    What members sign is a hash of it and of where the streams go on: `Started.root`.
    """

    epoch: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Served:
    """Says that a `Serve` or `ServeEpochs` of a member is done with.

    Attributes:
        member: Whom it was for.
        sender: The stream; -1 for epochs.
    """

    member: int
    sender: int


Event: TypeAlias = LinkUp | LinkDown | Received | Append | ChainTip | AppliedState | Served


# Effects.


@dataclass(frozen=True, slots=True)
class Send:
    """Asks to send a message on the link of a member, if there is one."""

    member: int
    message: Message


@dataclass(frozen=True, slots=True)
class Persist:
    """Asks to make a record durable before anything that stands behind it is done."""

    record: Record


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hands over the next entry of a stream: it is the same at every member."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Serve:
    """Asks to answer a pull out of the store, with `sync.answer`, and to say `Served` then."""

    member: int
    sender: int
    first: int


@dataclass(frozen=True, slots=True)
class ServeEpochs:
    """Asks to answer a pull of epochs out of the store, and to say `Served` then."""

    member: int
    first: int


@dataclass(frozen=True, slots=True)
class Blame:
    """Says that a member is proven to be faulty."""

    member: int
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Close:
    """Asks to close the link of a member that broke the protocol; it may be opened again."""

    member: int
    reason: str


@dataclass(frozen=True, slots=True)
class Segment:
    """Is the part of a stream that counts in an epoch: entries from `first` to before `end`."""

    member: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Decide:
    """Says how an epoch is cut: for good, and the same at every member."""

    certificate: Certificate
    cut: Cut


@dataclass(frozen=True, slots=True)
class Apply:
    """Asks to compute the state behind an epoch from these segments, and to say `AppliedState`."""

    epoch: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Certify:
    """Says that a quorum signed the root of an epoch: what it says may be acted on."""

    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Halt:
    """Asks to stop signing anything until an operator has looked: the machine does nothing more."""

    reason: str


Effect: TypeAlias = (
    Send | Persist | Deliver | Serve | ServeEpochs | Blame | Close | Decide | Apply | Certify | Halt
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds what a member keeps, and how long it waits; all members have the first three alike.

    Attributes:
        window: Entries of a stream above its last certified one that are echoed.
        segment_bytes_max: What a member may append between two marks, headers counted.
        payload_bytes_max: The largest payload.
        append_queue: Own payloads that wait for their turn.
        pull_delay_ms: How long a stream may be behind before entries are asked for.
        pull_timeout_ms: How long an answer may take before another member is asked.
        ready_interval_ms: How often members are told how far streams are.
        grace_ms: How long marks are waited for once enough members have theirs; and how long a
            mark must be known before a cut without it is no longer voted for.
        view_timeout_ms: How long the first view may take.
        view_timeout_max_ms: How long any view may take.

    Raises:
        LocalProtocolError: With them a member could not work.
    """

    window: int = 8
    segment_bytes_max: int = 1 << 28
    payload_bytes_max: int = 1 << 20
    append_queue: int = 64
    pull_delay_ms: int = 400
    pull_timeout_ms: int = 5_000
    ready_interval_ms: int = 250
    grace_ms: int = 2_000
    view_timeout_ms: int = 2_000
    view_timeout_max_ms: int = 60_000

    def __post_init__(self) -> None:
        if not 1 <= self.payload_bytes_max <= PAYLOAD_BYTES_MAX:
            raise LocalProtocolError(f"payloads have 1 to {PAYLOAD_BYTES_MAX} bytes at most")
        if self.segment_bytes_max < self.payload_bytes_max + ENTRY_OVERHEAD:
            raise LocalProtocolError(
                "the budget must have room for one entry of the largest payload: at least "
                f"{self.payload_bytes_max + ENTRY_OVERHEAD} bytes"
            )
        counts = (self.window, self.append_queue)
        waits = (self.pull_delay_ms, self.pull_timeout_ms, self.ready_interval_ms)
        if min(counts + waits + (self.view_timeout_ms,)) < 1 or self.grace_ms < 0:
            raise LocalProtocolError("window, queue and times of a member are at least 1")


FOREVER: Final = 1 << 62
"""A time that does not come."""

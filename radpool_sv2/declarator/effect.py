"""Names what a declaring connection is told and what it wants done.

`Event` goes into `radpool_sv2.declarator.machine.DeclaringMachine`, `Effect` comes out of it. A
`ticket` pairs an effect that takes time with the event that ends it; tickets are the machine's own
numbers and never repeat on a connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from radpool_sv2.templates.coinbase import CoinbaseParts
    from radpool_sv2.templates.declared import DeclaredJob, Owner
    from radpool_sv2.wire.frame import Frame
    from radpool_sv2.wire.message.base import Message
    from radpool_sv2.wire.message.job_declaration import PushSolution

__all__ = [
    "Close",
    "Declaration",
    "Effect",
    "Event",
    "FindOwner",
    "Forget",
    "Judge",
    "Judged",
    "OwnerFound",
    "Publish",
    "Received",
    "Refused",
    "Resolve",
    "Resolved",
    "Send",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """Is a template as a miner declared it.

    Attributes:
        owner: Whose it is.
        token: The token it was declared with.
        challenged: Whether it reveals a template that was mined unseen, on an earlier block.
        version: The header's version before rolling.
        prefix: The coinbase before the extranonce, with BIP 141's bytes.
        suffix: The coinbase behind the extranonce.
        coinbase: The coinbase, taken apart.
        wtxids: The transactions in order, without the coinbase.
    """

    owner: Owner
    token: bytes
    challenged: bool
    version: int
    prefix: bytes
    suffix: bytes
    coinbase: CoinbaseParts
    wtxids: tuple[bytes, ...]


# Events.


@dataclass(frozen=True, slots=True)
class Received:
    """Says that a frame came, not yet read."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class OwnerFound:
    """Ends `FindOwner`: gives the owner, what its coinbases must have, and a fresh token.

    Attributes:
        ticket: That of the effect.
        owner: Whose shares the token is for.
        outputs: Serialised outputs behind their count: the pool's first, then the owner's tag.
        token: 32 fresh random bytes.
    """

    ticket: int
    owner: Owner
    outputs: bytes
    token: bytes


@dataclass(frozen=True, slots=True)
class Resolved:
    """Ends `Resolve`: tells which transactions only the miner has, by position, ascending."""

    ticket: int
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """Ends `Judge`: the template is valid.

    Attributes:
        ticket: That of the effect.
        job: The template that may be mined; None when a challenged one was revealed as it should.
        token: 32 fresh random bytes.
    """

    ticket: int
    job: DeclaredJob | None
    token: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Ends `FindOwner`, `Resolve` or `Judge`: it cannot be.

    Attributes:
        ticket: That of the effect.
        error_code: A word for programs.
        detail: The exact reason, for people.
    """

    ticket: int
    error_code: str
    detail: str


Event: TypeAlias = Received | OwnerFound | Resolved | Judged | Refused


# Effects.


@dataclass(frozen=True, slots=True)
class Send:
    """Wants a message sent."""

    message: Message


@dataclass(frozen=True, slots=True)
class FindOwner:
    """Wants to know who earns by the text that a miner gave; ends by `OwnerFound` or `Refused`."""

    ticket: int
    user_identifier: str


@dataclass(frozen=True, slots=True)
class Resolve:
    """Wants to know which transactions are at hand; ends by `Resolved` or `Refused`."""

    ticket: int
    declaration: Declaration


@dataclass(frozen=True, slots=True)
class Judge:
    """Wants a template judged; ends by `Judged` or `Refused`.

    Attributes:
        ticket: Pairs it with its end.
        declaration: The template.
        missing: The positions that were asked for.
        provided: The transactions at these positions, as the miner sent them.
    """

    ticket: int
    declaration: Declaration
    missing: tuple[int, ...]
    provided: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """Says that a declaration which was resolved will not be judged; ends by nothing."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Wants a block sent to the node; it has been checked against its target.

    Attributes:
        job: The template that it was mined on.
        solution: What the miner found.
        header: The 80 bytes that meet the target.
    """

    job: DeclaredJob
    solution: PushSolution
    header: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Wants the connection closed, once all that was to be sent has been.

    Attributes:
        reason: A word, as in the metrics.
        detail: What happened, for the log.
    """

    reason: str
    detail: str


Effect: TypeAlias = Send | FindOwner | Resolve | Judge | Forget | Publish | Close

"""Names what passes between the declarator and the pool: owners, declared jobs, what may be mined.

The declarator judges templates, the pool judges the jobs that miners make of them. Neither imports
the other; both know these words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radpool_sv2.templates.coinbase import CoinbaseParts

__all__ = [
    "DECLARED_ID_MIN",
    "INVALID_JOB",
    "INVALID_TOKEN",
    "JOB_NOT_YET_VALIDATED",
    "STALE_CHAIN_TIP",
    "DeclaredBlock",
    "DeclaredJob",
    "HiddenJob",
    "Owner",
    "TipView",
    "Unrevealed",
]

DECLARED_ID_MIN: Final = 1 << 63
"""Templates of miners have numbers from here on; those of the pool's own sources are below."""

INVALID_TOKEN: Final = "invalid-mining-job-token"  # noqa: S105 - an error code
INVALID_JOB: Final = "invalid-job"
JOB_NOT_YET_VALIDATED: Final = "job-not-yet-validated"
STALE_CHAIN_TIP: Final = "stale-chain-tip"


@dataclass(frozen=True, slots=True)
class Owner:
    """Is whom the shares of a job are due to.

    Attributes:
        account: The ledger's number of it.
        name: What the ledger calls it, for people.
        commitment: What owner tags commit to, 32 bytes.
        rail: How it is paid: 0 account, 1 ecash.
    """

    account: int
    name: str
    commitment: bytes
    rail: int

    @property
    def key(self) -> tuple[int, int]:
        """What tells owners apart: account and rail."""
        return self.account, self.rail


@dataclass(frozen=True, slots=True)
class TipView:
    """Is what the pool says of the block to be found.

    Attributes:
        height: Its height.
        prev_hash: The tip, 32 bytes in internal order.
        min_ntime: A time that its header may have, s: the least that the pool gives miners.
        nbits: Its compact target.
        target: What its hash must not exceed, 32 bytes, least significant first.
        time_min: The least time that consensus allows, s; None where the pool's source does not
            tell.
    """

    height: int
    prev_hash: bytes
    min_ntime: int
    nbits: int
    target: bytes
    time_min: int | None = None


class DeclaredBlock(Protocol):
    """Is a declared template with all its transactions; `_native.template.Declaration` is one."""

    @property
    def merkle_path(self) -> Sequence[bytes]:
        """The siblings of the coinbase, from the leaves up."""

    def block_of(self, header: bytes, coinbase_tx: bytes) -> bytes:
        """Assembles the block of a solved header and the coinbase that was mined.

        Raises:
            LocalProtocolError: They do not belong to this template.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class DeclaredJob:
    """Is a template that passed the full verdict.

    Attributes:
        owner: Who declared it.
        connection: The declarator's number of the connection that declared it.
        tip: What it was judged on.
        version: The header's version before rolling.
        coinbase: Its coinbase.
        merkle_path: The siblings of the coinbase, from the leaves up.
        template: The template with its transactions.
    """

    owner: Owner
    connection: int
    tip: TipView
    version: int
    coinbase: CoinbaseParts
    merkle_path: tuple[bytes, ...]
    template: DeclaredBlock


@dataclass(frozen=True, slots=True)
class Unrevealed:
    """Is the right to mine one template whose transactions the declarator does not know.

    Attributes:
        owner: Who may.
        token: The token it was given by: a challenge names it.
    """

    owner: Owner
    token: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class HiddenJob:
    """Is a custom job whose transactions nobody here has seen.

    Attributes:
        owner: Whose it is.
        token: The token that it was accepted with.
        template_id: The pool's number for it.
        tip: What it builds on.
        version: The header's version before rolling.
        coinbase: Its coinbase; `reserved` is not known.
        merkle_path: The siblings of the coinbase, from the leaves up.
    """

    owner: Owner
    token: bytes
    template_id: int
    tip: TipView
    version: int
    coinbase: CoinbaseParts
    merkle_path: tuple[bytes, ...]

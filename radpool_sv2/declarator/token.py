"""Keeps the tokens of job declaration: 32 random bytes that each do one thing, once, for a while.

Theory of operation. An *allocated* token belongs to the connection it was given on. On a connection
of whole templates it pays for one declaration; on the others it is the right to one custom job
whose transactions stay hidden. A *declared* token stands for one template that passed the verdict;
it belongs to the template's owner and to the block that the template builds on, and is the right
to one custom job.

A token is used up by the first try of whoever it belongs to, whatever comes of it; a try by anybody
else does not touch it and learns nothing. Tokens end by use, by age, with their connection (the
allocated), or when a bound is reached: then the oldest make room, of the same connection, or where
all are too many, of a connection that has the most. Names are free, so no bound is on an owner: who
declares in another's name takes nothing away from it.

The store reads no clock and no random source: it is given time and entropy.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.templates.declared import (
    INVALID_TOKEN,
    JOB_NOT_YET_VALIDATED,
    STALE_CHAIN_TIP,
    DeclaredJob,
    Owner,
    Unrevealed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable

__all__ = ["TOKEN_LEN", "TokenLimits", "TokenStore"]

T = TypeVar("T")

TOKEN_LEN: Final = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLimits:
    """Bounds the store.

    Attributes:
        allocated_per_connection_max: Allocated tokens of one connection.
        allocated_max: Allocated tokens in all.
        declared_per_connection_max: Declared tokens of one connection; each holds a template.
        declared_max: Declared tokens in all.
        lifetime_s: How long an unused token lives.
    """

    allocated_per_connection_max: int = 32
    allocated_max: int = 16_384
    declared_per_connection_max: int = 8
    declared_max: int = 8_192
    lifetime_s: float = 1_800.0


@dataclass(frozen=True, slots=True)
class _Allocated:
    connection: int
    owner: Owner
    whole: bool


class _Shelf(Generic[T]):
    """Holds tokens of one kind, the oldest first, with bounds on each holder and on all."""

    def __init__(self, per_holder_max: int, total_max: int, lifetime_s: float) -> None:
        self._per_holder_max = per_holder_max
        self._total_max = total_max
        self._lifetime_s = lifetime_s
        self._items: OrderedDict[bytes, tuple[float, Hashable, T]] = OrderedDict()
        self._holders: dict[Hashable, OrderedDict[bytes, None]] = {}
        # Those who hold n tokens are the nth.
        self._by_count: list[OrderedDict[Hashable, None]] = [
            OrderedDict() for _ in range(per_holder_max + 1)
        ]

    def __len__(self) -> int:
        return len(self._items)

    def put(self, token: bytes, holder: Hashable, item: T, now: float) -> None:
        assert token not in self._items, "32 random bytes do not repeat"
        held = self._holders.get(holder)
        if held is not None and len(held) >= self._per_holder_max:
            self.drop(next(iter(held)))
        elif len(self._items) >= self._total_max:
            largest = next(each for each in reversed(self._by_count) if each)
            self.drop(next(iter(self._holders[next(iter(largest))])))
        self._items[token] = (now + self._lifetime_s, holder, item)
        held = self._holders.setdefault(holder, OrderedDict())
        held[token] = None
        self._counted(holder, len(held) - 1, len(held))

    def get(self, token: bytes) -> T | None:
        found = self._items.get(token)
        return None if found is None else found[2]

    def drop(self, token: bytes) -> None:
        found = self._items.pop(token, None)
        if found is not None:
            holder = found[1]
            held = self._holders[holder]
            del held[token]
            if not held:
                del self._holders[holder]
            self._counted(holder, len(held) + 1, len(held))

    def drop_holder(self, holder: Hashable) -> None:
        for token in list(self._holders.get(holder, ())):
            self.drop(token)

    def drop_if(self, unwanted: Callable[[T], bool]) -> None:
        for token in [each for each, (_, _, item) in self._items.items() if unwanted(item)]:
            self.drop(token)

    def _counted(self, holder: Hashable, before: int, after: int) -> None:
        self._by_count[before].pop(holder, None)
        if after:
            self._by_count[after][holder] = None

    def expire(self, now: float) -> None:
        while self._items:
            token, (deadline, _, _) = next(iter(self._items.items()))
            if deadline > now:
                return
            self.drop(token)


class TokenStore:
    """Is all tokens of a declarator."""

    def __init__(self, limits: TokenLimits) -> None:
        self._allocated: _Shelf[_Allocated] = _Shelf(
            limits.allocated_per_connection_max, limits.allocated_max, limits.lifetime_s
        )
        self._declared: _Shelf[DeclaredJob] = _Shelf(
            limits.declared_per_connection_max, limits.declared_max, limits.lifetime_s
        )

    @property
    def allocated(self) -> int:
        """How many allocated tokens are unused."""
        return len(self._allocated)

    @property
    def declared(self) -> int:
        """How many declared tokens are unused."""
        return len(self._declared)

    def allocate(
        self, token: bytes, connection: int, owner: Owner, *, whole: bool, now: float
    ) -> None:
        """Allocates a token.

        Args:
            token: 32 fresh random bytes.
            connection: Whose it is.
            owner: Whose shares it is for.
            whole: Whether the connection declares whole templates.
            now: The time, s.
        """
        assert len(token) == TOKEN_LEN, "tokens have 256 bits"
        self.expire(now)
        self._allocated.put(token, connection, _Allocated(connection, owner, whole), now)

    def spend(self, token: bytes, connection: int, now: float) -> Owner:
        """Uses up an allocated token for a declaration.

        Raises:
            RemoteProtocolError: It is none of this connection's; the error code is
                `invalid-mining-job-token`.
        """
        self.expire(now)
        found = self._allocated.get(token)
        if found is None or found.connection != connection or not found.whole:
            raise _unknown()
        self._allocated.drop(token)
        return found.owner

    def declare(self, token: bytes, job: DeclaredJob, now: float) -> None:
        """Keeps a template that passed the verdict under a fresh token of 32 random bytes."""
        assert len(token) == TOKEN_LEN, "tokens have 256 bits"
        self.expire(now)
        self._declared.put(token, job.connection, job, now)

    def claim(
        self, token: bytes, owner: tuple[int, int], prev_hash: bytes, now: float
    ) -> DeclaredJob | Unrevealed:
        """Uses up a token for a custom job.

        Args:
            token: What the miner presents.
            owner: The account and rail of the mining channel.
            prev_hash: The block that the job builds on.
            now: The time, s.

        Raises:
            RemoteProtocolError: The error code is `invalid-mining-job-token` for a token that is
                not this owner's, `job-not-yet-validated` for one that a declaration is due for, and
                `stale-chain-tip` for one of a template on another block.
        """
        self.expire(now)
        declared = self._declared.get(token)
        if declared is not None and declared.owner.key == owner:
            self._declared.drop(token)
            if declared.tip.prev_hash != prev_hash:
                raise RemoteProtocolError(
                    "the template was declared on another block than the job builds on",
                    STALE_CHAIN_TIP,
                )
            return declared
        allocated = self._allocated.get(token)
        if allocated is None or allocated.owner.key != owner:
            raise _unknown()
        if allocated.whole:
            # Not used up: its declaration may be on its way.
            raise RemoteProtocolError(
                "the token's template has not been declared", JOB_NOT_YET_VALIDATED
            )
        self._allocated.drop(token)
        return Unrevealed(allocated.owner, token)

    def keep_tips(self, tips: Collection[bytes]) -> None:
        """Forgets declared templates that build on none of these blocks."""
        self._declared.drop_if(lambda job: job.tip.prev_hash not in tips)

    def keep_templates(self, is_kept: Callable[[DeclaredJob], bool]) -> None:
        """Forgets declared templates that were let go."""
        self._declared.drop_if(lambda job: not is_kept(job))

    def disconnected(self, connection: int) -> None:
        """Forgets the allocated tokens of a connection."""
        self._allocated.drop_holder(connection)

    def expire(self, now: float) -> None:
        """Forgets what is too old."""
        self._allocated.expire(now)
        self._declared.expire(now)


def _unknown() -> RemoteProtocolError:
    return RemoteProtocolError("no such token is due here", INVALID_TOKEN)

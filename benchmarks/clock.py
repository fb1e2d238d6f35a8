"""Adds up the CPU time of parts of the pool's worker threads, to tell them apart.

What a part costs is the time of the thread that runs it. Signing spreads over all processors that
the process may use, so its figure is whole only in a process that has one.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from radpool_sv2._native.ecash import ClaimBatch
from radpool_sv2.ecash import claim
from radpool_sv2.ecash.mint import Mint
from radpool_sv2.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class PartClock:
    """Knows how much each part has used so far."""

    def __init__(self) -> None:
        self.used_ns: Counter[str] = Counter()

    @contextmanager
    def count(self, part: str) -> Iterator[None]:
        """Counts what the block uses as part of it."""
        before = time.thread_time_ns()
        try:
            yield
        finally:
            self.used_ns[part] += time.thread_time_ns() - before

    def watch(self) -> None:
        """Counts SQLite's part of the commits, and all that the mint does for claims.

        `store` holds `claims_store`, and that holds `claims_rows`; the others are beside them.
        """
        self._wrap(SqliteStore, "append_batch", "store")
        self._wrap(claim.ClaimEnclosure, "store", "claims_store")
        self._wrap(Mint, "enclose", "claims_read")
        clock = self

        class TimedClaims:
            """Is a batch of claims whose parts are counted."""

            def __init__(self, *batch: Any, **options: Any) -> None:
                self._claims = ClaimBatch(*batch, **options)

            def __len__(self) -> int:
                return len(self._claims)

            def __getattr__(self, name: str) -> Any:
                return getattr(self._claims, name)

            def rows(self, *given: Any) -> Any:
                with clock.count("claims_rows"):
                    return self._claims.rows(*given)

            def sign(self, *keys: Any, **options: Any) -> None:
                with clock.count("claims_sign"):
                    self._claims.sign(*keys, **options)

            def replies(self, *options: Any) -> Any:
                with clock.count("claims_replies"):
                    return self._claims.replies(*options)

        setattr(claim, "ClaimBatch", TimedClaims)  # noqa: B010 - it is imported there, not its own

    def _wrap(self, owner: type, name: str, part: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(*given: Any, **options: Any) -> Any:
            with self.count(part):
                return inner(*given, **options)

        setattr(owner, name, timed)

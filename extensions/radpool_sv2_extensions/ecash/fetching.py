"""Asks for tokens that did not come: one request at a time, ever less often while nothing comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2_extensions.ecash.message import CLAIMS_MAX, RedeemSharesEcash

if TYPE_CHECKING:
    from radpool_sv2_extensions.ecash.claims import Claim, Claims

__all__ = ["Asked", "Fetching"]

PAUSE_FIRST_S: Final = 2.0
PAUSE_LAST_S: Final = 60.0
ANSWER_S_MAX: Final = 60.0


@dataclass(frozen=True, slots=True)
class Asked:
    """Is a request that waits for its answer."""

    request_id: int
    keyset: bytes
    claims: list[Claim]
    until_s: float


class Fetching:
    """Is the asking on one connection."""

    def __init__(self) -> None:
        self._asked: Asked | None = None
        self._requests = 0
        self._at_s = 0.0
        self._pause_s = PAUSE_FIRST_S

    def next(self, claims: Claims, now_s: float) -> RedeemSharesEcash | None:
        """Returns the request that is to be sent now, if there is one."""
        if self._asked is not None and now_s >= self._asked.until_s:
            self._asked = None
            self.put_off(now_s)
        if self._asked is not None or now_s < self._at_s:
            return None
        found = claims.next_fetch(CLAIMS_MAX)
        if found is None:
            self._pause_s = PAUSE_FIRST_S
            return None
        keyset, wanted = found
        self._requests += 1
        self._asked = Asked(self._requests, keyset, wanted, now_s + ANSWER_S_MAX)
        return RedeemSharesEcash(
            request_id=self._requests,
            mode=0,
            keyset_id=keyset,
            claims=tuple(claim.output.blinded for claim in wanted),
            inputs=(),
            outputs=(),
        )

    def answer(self, request_id: int) -> Asked | None:
        """Takes the request that an answer is to; None for an answer to nothing."""
        asked = self._asked
        if asked is None or asked.request_id != request_id:
            return None
        self._asked = None
        return asked

    def put_off(self, now_s: float, pause_s: float = 0.0) -> None:
        """Asks again later, in `pause_s` at the earliest."""
        self._at_s = now_s + max(pause_s, self._pause_s)
        self._pause_s = min(2 * self._pause_s, PAUSE_LAST_S)

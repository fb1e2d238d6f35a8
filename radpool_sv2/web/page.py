"""The part of a list that a request asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

__all__ = ["LIMIT_DEFAULT", "LIMIT_MAX", "Page"]

# SRI's own page size and bound, so that its dashboards page through ours as through its own.
LIMIT_DEFAULT = 25
LIMIT_MAX = 100


@dataclass(frozen=True, slots=True)
class Page:
    """The part of a list that a request asks for."""

    offset: int
    limit: int

    @classmethod
    def of(cls, request: Request) -> "Page":
        """Reads `offset` and `limit`.

        Raises:
            HTTPException: 400 when one is no number of 0 or more.
        """
        return cls(
            offset=_count(request, "offset", 0),
            limit=min(_count(request, "limit", LIMIT_DEFAULT), LIMIT_MAX),
        )

    def cut(self, items: Sequence[Any]) -> Sequence[Any]:
        """Returns the page of a list."""
        return items[self.offset : self.offset + self.limit]


def _count(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise HTTPException(400, f"{name}={text[:20]!r}: give a whole number from 0 to 999999999")
    return int(text)

"""Writes the mint's answers: a thousand signatures must not hold up the miners' event loop."""

from typing import Any

from msgspec.json import encode
from starlette.responses import JSONResponse

__all__ = ["JsonResponse"]


class JsonResponse(JSONResponse):
    """Is an answer in JSON, written in a tenth of the time that the standard library takes."""

    def render(self, content: Any) -> bytes:
        """Returns the body."""
        return encode(content)

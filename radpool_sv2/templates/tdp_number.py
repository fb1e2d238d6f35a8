"""Numbers the templates of a template provider, which may begin anew with 1 when it restarts.

The last `KNOWN_MAX` numbers are remembered with what they stand for, the newest in a file too, so
that a block that was found before a crash can be sent after it.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
import trio

from radpool_sv2.errors import LocalProtocolError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KnownTemplate", "TemplateNumbers"]

log = structlog.get_logger(__name__)

KNOWN_MAX: Final = 4_096
"""Templates whose solutions can be submitted: an hour at one each second; no job lasts longer."""

FILED_MAX: Final = 64
"""Templates that the file names: a crash comes seconds after a block, not minutes."""


@dataclass(frozen=True, slots=True)
class KnownTemplate:
    """Is what a number stands for.

    Args:
        remote: The provider's number.
        connection: On which connection it came; 0 is an earlier process's.
    """

    remote: int
    connection: int


class TemplateNumbers:
    """Gives numbers that no template has had, across restarts too."""

    def __init__(self, file: Path | None, first: int | None) -> None:
        """Reads what an earlier process has filed.

        Args:
            file: Where the last numbers outlive the process; None forgets them.
            first: The first number; by default microseconds since 1970, as no process takes a
                million templates a second.
        """
        self._file = file
        self._known = _filed(file)
        self._next = time.time_ns() // 1_000 if first is None else first
        if self._known:
            # The clock may have gone back.
            self._next = max(self._next, max(self._known) + 1)

    def take(self, remote: int, connection: int) -> int:
        """Returns a new number for the provider's one."""
        number = self._next
        self._next += 1
        self._known[number] = KnownTemplate(remote, connection)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return number

    def find(self, number: int) -> KnownTemplate:
        """Returns what a number stands for.

        Raises:
            LocalProtocolError: It is not remembered.
        """
        known = self._known.get(number)
        if known is None:
            raise LocalProtocolError(f"template-id-not-found: {number} is not remembered")
        return known

    async def write_down(self) -> None:
        """Files what the newest numbers stand for; a disk that refuses costs only a warning."""
        if self._file is None:
            return
        newest = list(self._known.items())[-FILED_MAX:]
        text = json.dumps({str(number): known.remote for number, known in newest})
        try:
            await trio.to_thread.run_sync(_replace, self._file, text)
        except OSError as error:
            log.warning("template numbers cannot be filed", file=str(self._file), reason=str(error))


def _filed(file: Path | None) -> OrderedDict[int, KnownTemplate]:
    """Reads a file; one that cannot be read is none."""
    if file is None:
        return OrderedDict()
    try:
        filed = json.loads(file.read_text(encoding="ascii"))
        pairs = [(int(number), KnownTemplate(int(remote), 0)) for number, remote in filed.items()]
    except FileNotFoundError:
        return OrderedDict()
    except (OSError, ValueError, AttributeError, TypeError) as error:
        log.warning("filed template numbers cannot be read", file=str(file), reason=str(error))
        return OrderedDict()
    return OrderedDict(pairs)


def _replace(file: Path, text: str) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    draft.write_text(text, encoding="ascii")
    draft.replace(file)

"""Sets up logging: one line per event on stderr, its variables as fields.

Messages are constant texts, so that a search for one finds all of its kind. debug tells each
message, info the life cycle, warning that a peer misbehaved and was handled, error that the
operator must act. Secrets are never logged: native keys have no repr that shows them.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

import structlog

__all__ = ["configure_logging"]


def configure_logging(level: str, form: str) -> None:
    """Directs all log lines of the process to stderr.

    Args:
        level: The least level that is written: debug, info, warning or error.
        form: console for people, json for programs, auto for whichever stderr is.
    """
    if form == "auto":
        form = "console" if sys.stderr.isatty() else "json"
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        processors += [
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        # Plain tracebacks: decorated ones with all local variables would show what must not be
        # shown, and fill the screen.
        processors.append(
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        )
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_LossyLogger,
        cache_logger_on_first_use=True,
    )
    # Libraries that log by the standard library: their warnings only.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, force=True)


class _LossyLogger:
    """Writes lines to stderr, and goes without them when it cannot.

    The log often lies on the disk that the shares lie on: when that is full, a node that died of
    saying so would not be there when it is mended. The same goes for a reader that has left.
    """

    def __init__(self, *_: object) -> None:
        """Takes the name that loggers are asked for by, which every line bears already."""

    def msg(self, line: str) -> None:
        """Writes one line at once."""
        with suppress(OSError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    debug = info = warning = warn = error = critical = exception = fatal = log = msg

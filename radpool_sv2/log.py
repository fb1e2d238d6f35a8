"""Sets up logging: one line per event on stderr, its variables as fields.

Messages are constant texts, so that a search for one finds all of its kind. debug tells each
message, info the life cycle, warning that a peer misbehaved and was handled, error that the
operator must act. Secrets are never logged: native keys have no repr that shows them.
"""

from __future__ import annotations

import logging
import sys

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
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries that log by the standard library: their warnings only.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, force=True)

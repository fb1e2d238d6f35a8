"""Marks a data directory as in use by one process, and tells others where that process serves.

Two nodes on one ledger would lease the same extranonce prefixes and chain two batches onto one, so
a second one must not start. The mark is a file lock: it goes with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from radpool_sv2.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Serving", "is_running", "lock", "reside", "serving_at", "tell_serving"]

LOCK_NAME: Final = "radpool.lock"
SERVING_NAME: Final = "serving.json"
LOCK_TRIES: Final = 4
LOCK_TRY_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Serving:
    """Tells where a node serves; addresses are `HOST:PORT`, empty for what it does not serve."""

    sv2: str
    http: str
    authority_public_key: str
    declarator: str = ""

    def to_json(self) -> str:
        """Returns the line that `radpool msp --json` prints once it serves."""
        return json.dumps({"event": "serving", **asdict(self)})


@contextmanager
def reside(data_dir: Path) -> Iterator[None]:
    """Takes a data directory for this process as long as the context lasts.

    Raises:
        ConfigError: Another process has it, or it cannot be made.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot be used: {error.strerror}", file=data_dir) from error
    try:
        # Whoever looks for a node holds it too, for a moment.
        if not lock(descriptor, LOCK_TRIES):
            raise ConfigError(
                "another radpool runs on this directory; `radpool status` shows it", file=data_dir
            )
        serving = data_dir / SERVING_NAME
        serving.unlink(missing_ok=True)
        try:
            yield
        finally:
            serving.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def lock(descriptor: int, tries: int) -> bool:
    """Takes the lock on an open file for this process; says whether nobody else has it.

    Args:
        descriptor: The file's; the lock goes with it.
        tries: How often to try, every `LOCK_TRY_SECONDS`.
    """
    for remaining in reversed(range(tries)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if remaining:
                time.sleep(LOCK_TRY_SECONDS)
        else:
            return True
    return False


def is_running(data_dir: Path) -> bool:
    """Tells whether a process has the data directory."""
    try:
        descriptor = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def tell_serving(data_dir: Path, serving: Serving) -> None:
    """Writes down where this process serves, for `radpool status`."""
    draft = data_dir / f".{SERVING_NAME}"
    draft.write_text(serving.to_json() + "\n", encoding="utf-8")
    draft.replace(data_dir / SERVING_NAME)


def serving_at(data_dir: Path) -> Serving:
    """Reads where the node of a data directory serves.

    Raises:
        ConfigError: None does.
    """
    if not is_running(data_dir):
        raise ConfigError(
            "no radpool runs on this directory: `radpool msp` starts it", file=data_dir
        )
    file = data_dir / SERVING_NAME
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError("the node is not serving yet: try again", file=file) from error
    return Serving(
        fields["sv2"], fields["http"], fields["authority_public_key"], fields["declarator"]
    )

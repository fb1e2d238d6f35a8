"""Describes one key of a configuration file: meaning, unit, reason, default and allowed range.

A role's configuration is a frozen dataclass of sections, each a frozen dataclass whose fields are
made by the functions below. What a function is told is all there is to know about the key: the
reader checks values with it, and the commented file of `radpool init` is written from it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REQUIRED = object()
"""Stands for the default of a key that has none: the file must give it."""

PORT_MAX = 65_535
EXTENSION_TYPE_MAX = 0x7FFF
"""Largest extension type: the highest bit of the field marks a channel message."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Is a host and a TCP port to listen on or to connect to."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Reads `HOST:PORT`, or `[HOST]:PORT` for IPv6.

        Raises:
            ValueError: Says what is missing.
        """
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError("put an IPv6 address into brackets: [::1]:3333")
        if not colon or not host:
            raise ValueError("give HOST:PORT")
        if not (port.isascii() and port.isdigit()) or int(port) > PORT_MAX:
            raise ValueError(f"{port!r} is no port: give 0 to {PORT_MAX}")
        return cls(host, int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Setting:
    """Holds what is known about one key.

    Attributes:
        read: Turns the value in the file, and the directory of the file, into the value for the
            program; raises ValueError with what is wrong.
        default: The value as it would stand in the file, or `REQUIRED`.
        about: What the key does.
        why: Why the default is what it is.
        allowed: The allowed range in words.
        unit: What a number counts.
    """

    read: Callable[[object, Path], object]
    default: object
    about: str
    why: str
    allowed: str
    unit: str = ""


def _field(setting: Setting) -> Any:
    if setting.default is REQUIRED:
        return dataclasses.field(metadata={"setting": setting})
    value = setting.read(setting.default, Path())
    if value is None or isinstance(value, (tuple, str, int, Path, Endpoint)):
        return dataclasses.field(default=value, metadata={"setting": setting})
    raise TypeError(f"{value!r} is no immutable default")


def integer(  # noqa: PLR0913 - the parts of a description
    default: object, low: int, high: int, *, unit: str, about: str, why: str
) -> Any:
    """Declares a whole number from `low` to `high`, both included."""

    def read(value: object, _base: Path) -> int:
        # TOML has booleans of its own; Python counts them among the integers.
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("give a whole number")  # noqa: TRY004 - the reader adds the position
        if not low <= value <= high:
            raise ValueError("the number is out of range")
        return value

    allowed = f"{low} to {high}"
    return _field(Setting(read, default, about, why, allowed, unit))


def flag(default: object, *, about: str, why: str) -> Any:
    """Declares a yes or no."""

    def read(value: object, _base: Path) -> bool:
        if not isinstance(value, bool):
            raise ValueError("give true or false")  # noqa: TRY004 - the reader adds the position
        return value

    return _field(Setting(read, default, about, why, "true or false"))


def text(  # noqa: PLR0913 - the parts of a description
    default: object,
    *,
    about: str,
    why: str,
    bytes_max: int = 1_000,
    read: Callable[[str], object] | None = None,
    allowed: str = "",
) -> Any:
    """Declares a line of text; `read` checks it further and may turn it into something else."""

    def read_text(value: object, _base: Path) -> object:
        if not isinstance(value, str):
            raise ValueError("give text in quotes")  # noqa: TRY004 - the reader adds the position
        if len(value.encode()) > bytes_max:
            raise ValueError(f"the text is longer than {bytes_max} bytes")
        if not value.isprintable():
            raise ValueError("the text has characters that cannot be printed")
        return value if read is None else read(value)

    allowed = allowed or f"printable text of at most {bytes_max} bytes"
    return _field(Setting(read_text, default, about, why, allowed))


def choice(default: object, choices: Sequence[str], *, about: str, why: str) -> Any:
    """Declares one word out of a few."""
    words = ", ".join(choices)

    def read(value: str) -> str:
        if value not in choices:
            raise ValueError(f"there is only: {words}")
        return value

    return text(default, about=about, why=why, read=read, allowed=f"one of {words}")


def endpoint(default: object, *, about: str, why: str) -> Any:
    """Declares an address to listen on."""
    allowed = f"HOST:PORT with a port from 0 (any free one) to {PORT_MAX}"
    return text(default, about=about, why=why, read=Endpoint.parse, allowed=allowed)


def path(default: object, *, about: str, why: str) -> Any:
    """Declares a file or directory; a relative one starts at the configuration file."""

    def read(value: object, base: Path) -> Path:
        if not isinstance(value, str) or not value:
            raise ValueError("give a path in quotes")
        return base / Path(value).expanduser()

    allowed = "a path; a relative one starts at the directory of this file"
    return _field(Setting(read, default, about, why, allowed))


def optional_path(*, about: str, why: str) -> Any:
    """Declares a file or directory that need not be; without it the value is None."""

    def read(value: object, base: Path) -> Path | None:
        if not isinstance(value, str):
            raise ValueError("give a path in quotes, or nothing in them")  # noqa: TRY004 - as above
        return base / Path(value).expanduser() if value else None

    allowed = "empty, or a path; a relative one starts at the directory of this file"
    return _field(Setting(read, "", about, why, allowed))


def paths(default: object, *, about: str, why: str) -> Any:
    """Declares a list of files; relative ones start at the configuration file."""

    def read(value: object, base: Path) -> tuple[Path, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise ValueError('give a list of paths: ["one", "two"]')
        return tuple(base / Path(item).expanduser() for item in value)

    allowed = (
        "a list of paths, which may be empty; relative ones start at the directory of this file"
    )
    return _field(Setting(read, default, about, why, allowed))


def names(default: object, *, about: str, why: str) -> Any:
    """Declares a list of names."""

    def read(value: object, _base: Path) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError('give a list of names: ["one", "two"]')
        if len(set(value)) != len(value):
            raise ValueError("a name stands in it twice")
        return tuple(value)

    return _field(Setting(read, default, about, why, "a list of names, which may be empty"))


def selection(default: object, choices: Sequence[str], *, about: str, why: str) -> Any:
    """Declares a list of some words out of a few, in an order that matters."""
    words = ", ".join(choices)

    def read(value: object, _base: Path) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            raise ValueError(f'give a list: ["{choices[0]}"]')
        for item in value:
            if item not in choices:
                raise ValueError(f"there is only: {words}")
        if len(set(value)) != len(value):
            raise ValueError("a word stands in it twice")
        return tuple(value)

    return _field(Setting(read, default, about, why, f"a list of some of {words}"))


def setting_of(field: dataclasses.Field[Any]) -> Setting:
    """Gives the description that a field was declared with."""
    setting = field.metadata["setting"]
    assert isinstance(setting, Setting)
    return setting

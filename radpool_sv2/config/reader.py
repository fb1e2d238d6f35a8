"""Reads a role's configuration file into its frozen dataclass.

The file is TOML. The first fault found is raised as a `ConfigError` with file, line, key, value and
the allowed range; a key that does not exist is refused with the nearest one that does, because a
misspelt limit that silently keeps its default is a hole nobody sees.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from radpool_sv2.config.setting import REQUIRED, setting_of
from radpool_sv2.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

T = TypeVar("T")

FILE_BYTES_MAX = 1 << 20
"""A configuration has some hundred lines; whatever is longer than this is another file."""

VALUE_CHARACTERS_MAX = 80
"""How much of an offending value an error repeats."""

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$")
_REPEATED = re.compile(r"\s*\[\[\s*([^\[\]]+?)\s*\]\]\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*(?:([A-Za-z0-9_-]+)|"([^"]*)"|'([^']*)')\s*=""")
_POSITION = re.compile(r"\(at line (\d+), column \d+\)|\(at end of document\)")


def load(config: type[T], file: Path) -> T:
    """Reads a configuration file.

    Args:
        config: The dataclass of the role; its fields are the sections.
        file: The file to read.

    Returns:
        The configuration, with defaults for the keys that the file leaves out.

    Raises:
        ConfigError: The file cannot be read or used.
    """
    try:
        with file.open("rb") as stream:
            raw = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        message = f"cannot read the configuration: {error.strerror}."
        raise ConfigError(
            f"{message} `radpool init msp --dir DIRECTORY` writes one", file=file
        ) from error
    if len(raw) > FILE_BYTES_MAX:
        raise ConfigError(f"is larger than {FILE_BYTES_MAX} bytes: this is another file", file=file)
    try:
        content = raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError("is not UTF-8 text", file=file, line=line) from error
    return loads(config, content, file)


def loads(config: type[T], content: str, file: Path) -> T:
    """Reads a configuration from text; `file` names it in errors and is the base of its paths."""
    try:
        table = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        found = _POSITION.search(str(error))
        line = int(found[1]) if found and found[1] else content.count("\n") + 1
        reason = _POSITION.sub("", str(error)).strip()
        raise ConfigError(f"this is not TOML: {reason}", file=file, line=line) from error
    place = _Place(file, {key: line for line, key in _lines(content)})
    sections = get_type_hints(config)
    place.check_names("section", "", table, sections)
    values: dict[str, Any] = {}
    # Sections that are there first: what stands in the file wrongly is told before what is missing.
    for name, section in sorted(sections.items(), key=lambda item: item[0] not in table):
        if (repeated := repeated_section(section)) is not None:
            values[name] = _sections(repeated, name, table.get(name, []), place)
            continue
        given = table.get(name, {})
        if not isinstance(given, dict):
            raise place.fault(name, given, f"is a section: write [{name}]", "a section")
        values[name] = _section(section, name, given, place)
    try:
        return config(**values)
    except ConfigError as error:
        # What concerns several keys is checked by the configuration itself, which knows no file.
        raise ConfigError(
            error.message,
            file=file,
            line=place.lines.get(error.key or ""),
            key=error.key,
            value=error.value,
            allowed=error.allowed,
        ) from error


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    file: Path
    lines: Mapping[str, int]

    def fault(self, key: str, value: object, message: str, allowed: str | None) -> ConfigError:
        shown = repr(value) if not isinstance(value, bool) else str(value).lower()
        if len(shown) > VALUE_CHARACTERS_MAX:
            shown = shown[:VALUE_CHARACTERS_MAX] + "…"
        return ConfigError(
            message,
            file=self.file,
            line=self.lines.get(key),
            key=key,
            value=shown,
            allowed=allowed,
        )

    def check_names(
        self, what: str, prefix: str, given: Mapping[str, object], known: Mapping[str, object]
    ) -> None:
        for name in given:
            if name in known:
                continue
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            advice = f"did you mean {prefix}{near[0]}?" if near else f"there is {', '.join(known)}"
            key = f"{prefix}{name}"
            raise ConfigError(
                f"there is no such {what}; {advice}",
                file=self.file,
                line=self.lines.get(key),
                key=key,
            )


def repeated_section(hint: object) -> type[Any] | None:
    """Returns the section of a field that may stand in the file any number of times."""
    if get_origin(hint) is not tuple:
        return None
    section: type[Any] = get_args(hint)[0]
    return section


def _sections(section: type[Any], name: str, given: object, place: _Place) -> tuple[Any, ...]:
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        how = f"is a section that may be repeated: write [[{name}]]"
        raise place.fault(name, given, how, "repeated sections")
    numbered = enumerate(given, start=1)
    return tuple(_section(section, f"{name}[{number}]", each, place) for number, each in numbered)


def _section(section: type[Any], name: str, given: Mapping[str, object], place: _Place) -> Any:
    fields = {field.name: field for field in dataclasses.fields(section)}
    place.check_names("key", f"{name}.", given, fields)
    values = {}
    for key, field in fields.items():
        setting = setting_of(field)
        value = given.get(key, setting.default)
        dotted = f"{name}.{key}"
        if value is REQUIRED:
            raise ConfigError(
                f"the key is missing. {setting.about}",
                file=place.file,
                line=place.lines.get(name),
                key=dotted,
                allowed=setting.allowed,
            )
        try:
            values[key] = setting.read(value, place.file.parent)
        except ValueError as error:
            raise place.fault(dotted, value, f"{error}.", setting.allowed) from error
    return section(**values)


def _lines(content: str) -> Iterator[tuple[int, str]]:
    """Finds the line of every section and key.

    The standard library's parser keeps no positions. This looks at one line at a time, which is
    right for every file without text of several lines; a key it misses is reported without line.
    """
    section = ""
    repeats: Counter[str] = Counter()
    for number, line in enumerate(content.splitlines(), start=1):
        if header := _HEADER.match(line):
            section = header[1].strip("\"'")
            yield number, section
        elif header := _REPEATED.match(line):
            name = header[1].strip("\"'")
            repeats[name] += 1
            section = f"{name}[{repeats[name]}]"
            yield number, section
        elif key := _KEY.match(line):
            name = key[1] or key[2] or key[3] or ""
            yield number, f"{section}.{name}" if section else name

"""Writes the commented configuration file of a role from the descriptions of its keys."""

from __future__ import annotations

import dataclasses
import textwrap
from itertools import count
from typing import TYPE_CHECKING, Any, get_type_hints

import tomlkit

from radpool_sv2.config.reader import repeated_section
from radpool_sv2.config.setting import REQUIRED, Setting, setting_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WIDTH = 96


def render(config: type[Any], values: Mapping[str, object]) -> str:
    """Writes a configuration file with every key, its meaning and its value.

    Args:
        config: The dataclass of the role.
        values: Values that replace defaults, by dotted key; keys without default are required.
            A section that may be repeated is numbered from 1: `pools[1].address`.

    Returns:
        The text of the file. Reading it gives the defaults with those replacements.
    """
    blocks = [_comment(config.__doc__ or "")]
    for name, section in get_type_hints(config).items():
        if (repeated := repeated_section(section)) is not None:
            blocks.extend(_repeated(repeated, name, values))
            continue
        blocks.append(f"{_comment(section.__doc__ or '')}\n[{name}]")
        blocks.extend(_entries(section, name, values))
    return "\n\n".join(blocks) + "\n"


def _repeated(section: type[Any], name: str, values: Mapping[str, object]) -> Iterator[str]:
    """Writes sections whose keys are given as `name[1].key`, `name[2].key` and so on."""
    yield _comment(section.__doc__ or "")
    for number in count(1):
        place = f"{name}[{number}]"
        if not any(key.startswith(f"{place}.") for key in values):
            return
        yield f"[[{name}]]"
        yield from _entries(section, place, values)


def _entries(section: type[Any], place: str, values: Mapping[str, object]) -> Iterator[str]:
    return (
        _entry(field.name, setting_of(field), values.get(f"{place}.{field.name}"))
        for field in dataclasses.fields(section)
    )


def _entry(key: str, setting: Setting, given: object) -> str:
    value = setting.default if given is None else given
    assert value is not REQUIRED, f"{key} has no default and was not given"
    facts = [f"Unit: {setting.unit}."] if setting.unit else []
    facts.append(f"Allowed: {setting.allowed}.")
    if setting.default is not REQUIRED:
        facts.append(f"Default: {_toml(setting.default)}.")
    lines = [
        *_wrapped(setting.about),
        *_wrapped(f"Why: {setting.why}"),
        *_wrapped(" ".join(facts)),
        f"{key} = {_toml(value)}",
    ]
    return "\n".join(lines)


def _toml(value: object) -> str:
    return str(tomlkit.item(value).as_string())


def _wrapped(paragraph: str) -> Iterator[str]:
    return (f"# {line}" for line in textwrap.wrap(" ".join(paragraph.split()), WIDTH))


def _comment(docstring: str) -> str:
    paragraphs = docstring.strip().split("\n\n")
    return "\n#\n".join("\n".join(_wrapped(paragraph)) for paragraph in paragraphs)

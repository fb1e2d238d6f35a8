"""Writes the commented configuration file of a role from the descriptions of its keys."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import TYPE_CHECKING, Any, get_type_hints

import tomlkit

from radpool_sv2.config.setting import REQUIRED, Setting, setting_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WIDTH = 96


def render(config: type[Any], values: Mapping[str, object]) -> str:
    """Writes a configuration file with every key, its meaning and its value.

    Args:
        config: The dataclass of the role.
        values: Values that replace defaults, by dotted key; keys without default are required.

    Returns:
        The text of the file. Reading it gives the defaults with those replacements.
    """
    blocks = [_comment(config.__doc__ or "")]
    for name, section in get_type_hints(config).items():
        blocks.append(f"{_comment(section.__doc__ or '')}\n[{name}]")
        blocks.extend(
            _entry(field.name, setting_of(field), values.get(f"{name}.{field.name}"))
            for field in dataclasses.fields(section)
        )
    return "\n\n".join(blocks) + "\n"


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

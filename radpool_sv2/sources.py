"""Chooses the source of block templates that a configuration names.

It stands above the sources and above the embedded chain, which know nothing of each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.chain.supervisor import EmbeddedChain
from radpool_sv2.errors import ConfigError
from radpool_sv2.templates.embedded import EmbeddedSource

if TYPE_CHECKING:
    from pathlib import Path

    from radpool_sv2.config.template import Sources
    from radpool_sv2.templates.source import TemplateSource

__all__ = ["choose_source"]


def choose_source(templates: Sources, directory: Path) -> TemplateSource:  # noqa: ARG001
    """Makes the source that a configuration's section names; nothing runs yet.

    Args:
        templates: The section.
        directory: Where a source may keep what has to outlive the process; made when needed.

    Raises:
        ConfigError: There is no such source, or a file that it needs cannot be read.
    """
    if templates.source == "embedded":
        return _embedded(templates)
    raise ConfigError(
        "this version has no such source",
        key="templates.source",
        value=repr(templates.source),
        allowed="embedded",
    )


def _embedded(templates: Sources) -> TemplateSource:
    chain = EmbeddedChain(
        templates.chain_dir,
        block_zeros=templates.block_zeros,
        payments_per_minute=templates.payments_per_minute,
        template_interval_s=templates.interval_s,
    )
    return EmbeddedSource(chain)

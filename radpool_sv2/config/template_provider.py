"""Describes the configuration of a template provider: every key of `template-provider.toml`.

The sections `node` and `templates` are those of `msp.toml`.
"""
# ruff: noqa: RUF009 - the functions return dataclass fields, which the rule cannot see.

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the reader resolves the annotations at run time

from radpool_sv2.config.msp import Node  # noqa: TC001 - as above
from radpool_sv2.config.setting import Endpoint, endpoint, flag, integer, path
from radpool_sv2.config.template import Sources, check_templates


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderKeys:
    """The key that clients pin."""

    authority_key_file: Path = path(
        "keys/authority.key",
        about="The secret authority key. The provider makes a fresh key for its listener whenever "
        "it starts, and signs it with this one.",
        why="Where `radpool init template-provider` writes it. Whoever steals it can make your "
        "pool mine what they like.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderSection:
    """The provider as its clients see it: pools and job declarator clients."""

    listen: Endpoint = endpoint(
        "127.0.0.1:8336",
        about="Address of the listener for the Template Distribution Protocol.",
        why="Only this machine, on the port that other template providers take.",
    )
    future_ahead: bool = flag(
        False,
        about="Whether clients get, with each new tip, a template without transactions for the tip "
        "after it, so that they have work for that one before anybody knows it.",
        why="SRI's pool_sv2 0.7.0 ends when a client connects while such a template waits. Other "
        "clients lose some milliseconds of work on an old tip without it.",
    )
    repeat_on_tip: bool = flag(
        False,
        about="Whether the template that comes with a new tip is sent once more, as one for the "
        "present tip.",
        why="SRI's jd_client_sv2 0.6.0 in COINBASEONLY mode makes no job of a template that came "
        "with its tip: set it for that client. All others would give their miners a second job.",
    )
    room_size_max: int = integer(
        20_000,
        100,
        400_000,
        unit="bytes",
        about="Coinbase outputs for which a client may ask room in the template.",
        why="Some hundred outputs. Room for more is taken from the fees of all clients.",
    )
    connections_max: int = integer(
        256,
        1,
        100_000,
        unit="connections",
        about="Clients in all.",
        why="One pool or job declarator client each.",
    )
    connections_per_address_max: int = integer(
        64,
        1,
        100_000,
        unit="connections",
        about="Clients of one IP address (IPv6: one /64).",
        why="Several roles on one machine, and their reconnects.",
    )
    handshake_deadline_ms: int = integer(
        5_000,
        100,
        600_000,
        unit="milliseconds",
        about="What the Noise handshake of a client may take.",
        why="It is one round trip.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateProviderConfig:
    """The configuration of a template provider.

    Every key stands here with its default. A key that you delete has its default; a key that does
    not exist is refused.
    """

    node: Node
    keys: ProviderKeys
    provider: ProviderSection
    templates: Sources

    def __post_init__(self) -> None:
        """Checks what concerns several keys.

        Raises:
            ConfigError: The template source lacks something.
        """
        check_templates(self.templates)

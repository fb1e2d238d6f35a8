"""Describes the configuration of a member of a federation: every key of `federation.toml`."""
# ruff: noqa: RUF009 - the functions return dataclass fields, which the rule cannot see.

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the reader resolves the annotations at run time

from radpool_sv2.config.limit import MINUTE_MS
from radpool_sv2.config.msp import Node  # noqa: TC001 - as above
from radpool_sv2.config.setting import Endpoint, endpoint, integer, path, text
from radpool_sv2.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberSection:
    """Who this member is, and whom it is in a committee with."""

    identity_key_file: Path = path(
        "keys/identity.key",
        about="The secret key that signs all that the member says. Never run two members with it, "
        "and never one on an older copy of its data: both look like fraud and stop the member.",
        why="Where `radpool federation init` writes it.",
    )
    transport_key_file: Path = path(
        "keys/transport.key",
        about="The secret key of the member's links.",
        why="Where `radpool federation init` writes it.",
    )
    committee_file: Path = path(
        "committee.json",
        about="The committee: the same file at every member.",
        why="Where `radpool federation invite` and `join` write it.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class LinksSection:
    """The links to other members."""

    listen: Endpoint = endpoint(
        "0.0.0.0:8444",
        about="Where other members dial. Behind a NAT that passes nothing on, the member dials "
        "them, and needs no address in its record.",
        why="Every interface; strangers are told nothing.",
    )
    handshake_deadline_ms: int = integer(
        60_000,
        1_000,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="From the first packet to the end of the handshake, a proxy's part included.",
        why="Tor takes most of it for a first circuit to an onion service; nobody else needs it.",
    )
    keep_alive_ms: int = integer(
        15_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long a link is silent before a message says that it is alive.",
        why="NATs forget connections that are silent for minutes.",
    )
    silence_ms: int = integer(
        45_000,
        1_000,
        60 * MINUTE_MS,
        unit="milliseconds",
        about="How long nothing may come before a link is given up.",
        why="Three times the silence that other members allow themselves.",
    )
    write_deadline_ms: int = integer(
        30_000,
        1_000,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long a member may take no 64 KiB while some wait for it.",
        why="The slowest link that can carry a federation has ten times as much.",
    )
    outbox_bytes_max: int = integer(
        32 << 20,
        16 << 20,
        1 << 30,
        unit="bytes",
        about="What may wait to be sent to one member; a slower one is told all on its next link.",
        why="Four windows of the largest entries.",
    )
    received_bytes_per_second: int = integer(
        16 << 20,
        64 << 10,
        1 << 30,
        unit="bytes per second",
        about="How fast a member is read, on average; four seconds of it may come at once. Who "
        "sends more waits.",
        why="A hundred times what a large pool says, and what a disk takes when it catches up.",
    )
    socks5: str = text(
        "",
        about='A SOCKS5 proxy as HOST:PORT, such as Tor\'s "127.0.0.1:9050", through which '
        "members are dialled, all of them; onion addresses need it. Empty dials directly.",
        why="Whoever does not use Tor has none.",
    )
    handshakes_max: int = integer(
        64,
        1,
        10_000,
        unit="connections",
        about="Connections of nobody knows whom; the oldest of more gives way.",
        why="As many as members at once; strangers cost a file descriptor each.",
    )

    def __post_init__(self) -> None:
        """Checks what no range says.

        Raises:
            ConfigError: The proxy's address is none.
        """
        _ = self.proxy

    @property
    def proxy(self) -> Endpoint | None:
        """The proxy, if there is one."""
        if not self.socks5:
            return None
        try:
            return Endpoint.parse(self.socks5)
        except ValueError as error:
            raise ConfigError(
                f"is no address of a proxy: {error}", key="links.socks5", value=self.socks5
            ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreSection:
    """What the member remembers."""

    keep_epochs: int = integer(
        4_032,
        144,
        1_000_000,
        unit="epochs",
        about="How many certified epochs are kept, with their entries, for members that were away "
        "and for the public log. Older ones are deleted, a few behind each epoch.",
        why="Four weeks of blocks: nobody waits longer for a member to come back by itself.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainSection:
    """The own bitcoin node: its blocks end the epochs."""

    rpc_url: str = text(
        "http://127.0.0.1:8332",
        about="The node's RPC interface.",
        why="This machine, the port of the main network.",
    )
    rpc_cookie_file: Path = path(
        "~/.bitcoin/.cookie",
        about="The file that the node writes its cookie to; not looked at when rpc_user is given.",
        why="Where Bitcoin Core and Knots write it on the main network.",
    )
    rpc_user: str = text("", about="The RPC user, instead of a cookie.", why="A cookie is safer.")
    rpc_password_file: Path = path(
        "keys/rpc.password",
        about="The file with the user's password.",
        why="Beside the other secrets.",
    )
    rpc_deadline_ms: int = integer(
        10_000,
        100,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How long an answer may take.",
        why="A node that is busy with a block takes seconds.",
    )
    poll_ms: int = integer(
        1_000,
        10,
        10 * MINUTE_MS,
        unit="milliseconds",
        about="How often the node is asked for its height.",
        why="Members wait two seconds for each other at the end of an epoch.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class FederationConfig:
    """The configuration of a member of a federation.

    Every key stands here with its default. A key that you delete has its default; a key that does
    not exist is refused.
    """

    node: Node
    member: MemberSection
    links: LinksSection
    store: StoreSection
    chain: ChainSection

    def __post_init__(self) -> None:
        """Checks what concerns several keys.

        Raises:
            ConfigError: A link would be given up before it could say that it is alive.
        """
        if self.links.silence_ms < 2 * self.links.keep_alive_ms:
            raise ConfigError(
                "must be at least twice links.keep_alive_ms, or links end for nothing",
                key="links.silence_ms",
                value=str(self.links.silence_ms),
            )

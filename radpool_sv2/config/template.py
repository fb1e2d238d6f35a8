"""Describes the section `templates`: where blocks to mine come from, and what they pay."""
# ruff: noqa: RUF009 - the functions return dataclass fields, which the rule cannot see.

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the reader resolves the annotations at run time
from urllib.parse import urlsplit

from radpool_sv2._native.keys import AuthorityPublicKey
from radpool_sv2.config.setting import (
    REQUIRED,
    Endpoint,
    choice,
    integer,
    names,
    path,
    paths,
    text,
)
from radpool_sv2.errors import ConfigError
from radpool_sv2.network import NETWORKS, REGTEST

__all__ = ["SOURCES", "Sources", "Templates", "check_templates"]

SOURCES = ("embedded", "bitcoind", "tdp", "core_ipc")
NODES_MAX = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """Where blocks to mine come from."""

    source: str = choice(
        "embedded",
        SOURCES,
        about="embedded is a regtest chain inside this node, run by Bitcoin Core's consensus "
        "engine: its coins are worth nothing. bitcoind is any full node, asked by "
        "getblocktemplate; several of them back each other up. tdp is a template provider, such as "
        "`radpool template-provider` or sv2-tp, with a node of rpc_urls beside it. core_ipc is "
        "Bitcoin Core on this machine, asked over its unix socket: the fastest of them.",
        why="It needs no set-up.",
    )
    network: str = choice(
        "regtest",
        tuple(NETWORKS),
        about="The network that is mined on. A node of another one is refused. The embedded chain "
        "is always regtest.",
        why="Nobody should mine for money by accident.",
    )
    rpc_urls: tuple[str, ...] = names(
        [],
        about="The RPC interfaces of the nodes, the most wanted first: http://127.0.0.1:8332 is "
        "bitcoind's own default on main. Templates come from the first that is healthy; blocks go "
        "to all.",
        why="It has no default: name at least one for source = bitcoind.",
    )
    rpc_cookie_files: tuple[Path, ...] = paths(
        [],
        about="The cookie file of each node, in the same order: .cookie in its data directory. "
        "Empty when rpc_user is given.",
        why="A node makes a new cookie at each start; no password has to be kept.",
    )
    rpc_user: str = text(
        "",
        bytes_max=255,
        about="The RPC user on all nodes, instead of cookie files.",
        why="Cookie files need no secret of yours; nodes on other machines need a user.",
    )
    rpc_password_file: Path = path(
        "keys/rpc.password",
        about="File of mode 0600 with the password of rpc_user in its first line.",
        why="Beside the other secrets. Without rpc_user it is not read.",
    )
    rpc_deadline_ms: int = integer(
        15_000,
        100,
        600_000,
        unit="milliseconds",
        about="How long a node may take to answer before the next one is asked.",
        why="A node on a slow disk stands still for seconds when it connects a block.",
    )
    zmq_urls: tuple[str, ...] = names(
        [],
        about="Where each node tells of new blocks, in the same order: what -zmqpubhashblock of "
        "that node says, as in tcp://127.0.0.1:28332. May be empty.",
        why="New blocks are learnt of by long polling anyway; this is a second way.",
    )
    tdp_address: str = text(
        "",
        bytes_max=300,
        about="HOST:PORT of the template provider, for source = tdp.",
        why="It has no default: whoever runs the provider knows it.",
    )
    tdp_authority_key: str = text(
        "",
        bytes_max=100,
        about="The key that vouches for the template provider, as base58 text. Empty takes whoever "
        "answers for it.",
        why="A provider on the same machine needs no proof; one across a network does, as it "
        "decides what is mined.",
    )
    ipc_socket: Path = path(
        "~/.bitcoin/node.sock",
        about="The unix socket of Bitcoin Core 31 or later, for source = core_ipc: what its "
        "-ipcbind=unix makes in the directory of the network. Version 31 needs its RPC interface "
        "in rpc_urls too.",
        why="Where bitcoin-node makes it on main.",
    )
    ipc_user: str = text(
        "",
        bytes_max=100,
        about="The system user that runs the node behind ipc_socket, when it is neither root nor "
        "the one that runs this. Whoever else listens there is not spoken to.",
        why="A socket in a directory that others may write to could be anybody's.",
    )
    chain_dir: Path = path(
        "data/chain",
        about="Directory of the embedded chain.",
        why="In the data directory.",
    )
    block_zeros: int = integer(
        24,
        0,
        48,
        unit="leading zero bits",
        about="Blocks with fewer leading zero bits in their hash are not taken by the embedded "
        "chain, and not given to a node on regtest. Regtest itself asks one bit, so that nearly "
        "every share would be a block.",
        why="2^24 hashes: some ten seconds of three CPU miners.",
    )
    payments_per_minute: int = integer(
        0,
        0,
        600,
        unit="payments a minute",
        about="How many payments between made-up wallets the embedded chain makes, so that blocks "
        "have transactions and fees.",
        why="A chain should do by itself only what it is asked to; the demo asks for some.",
    )
    interval_s: int = integer(
        5,
        1,
        3600,
        unit="seconds",
        about="How often new transactions make a new template, at most. A new block always does.",
        why="Fees grow slowly; each template is a new job for every channel.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Templates(Sources):
    """Where blocks to mine come from, and what they pay."""

    payout_address: str = text(
        REQUIRED,
        bytes_max=100,
        about="The address that the coinbase of every block pays, of the network above.",
        why="It has no default: `radpool init msp` makes a key and an address for regtest.",
    )


def check_templates(templates: Sources) -> None:
    """Checks what concerns several keys of the section.

    Raises:
        ConfigError: The source lacks something, or settings contradict each other.
    """
    if templates.source == "embedded" and templates.network != REGTEST.name:
        raise ConfigError(
            'the embedded chain is regtest: give source = "bitcoind" for a real network',
            key="templates.network",
            value=repr(templates.network),
            allowed=REGTEST.name,
        )
    if templates.source == "tdp":
        _check_provider(templates)
    if templates.source == "core_ipc" and len(templates.rpc_urls) > 1:
        raise ConfigError(
            'source = "core_ipc" is one node: name no other\'s RPC interface',
            key="templates.rpc_urls",
            value=repr(list(templates.rpc_urls)),
            allowed="the address of the node behind ipc_socket, or none",
        )
    if templates.source == "bitcoind" or (
        templates.source in ("tdp", "core_ipc") and templates.rpc_urls
    ):
        _check_nodes(templates)


def _check_provider(templates: Sources) -> None:
    try:
        Endpoint.parse(templates.tdp_address)
    except ValueError as error:
        raise ConfigError(
            f'source = "tdp" needs the template provider\'s address: {error}',
            key="templates.tdp_address",
            value=repr(templates.tdp_address),
            allowed="HOST:PORT",
        ) from error
    if templates.tdp_authority_key:
        try:
            AuthorityPublicKey.from_text(templates.tdp_authority_key)
        except ConfigError as error:
            raise ConfigError(
                f"{error}",
                key="templates.tdp_authority_key",
                value=repr(templates.tdp_authority_key),
                allowed="the key that the provider prints when it starts, or nothing",
            ) from error


def _check_nodes(templates: Sources) -> None:
    count = len(templates.rpc_urls)
    if not 1 <= count <= NODES_MAX:
        raise ConfigError(
            'source = "bitcoind" needs the node\'s RPC interface',
            key="templates.rpc_urls",
            value=repr(list(templates.rpc_urls)),
            allowed=f"1 to {NODES_MAX} addresses",
        )
    for url in templates.rpc_urls:
        _check_url("templates.rpc_urls", url, ("http", "https"))
    for url in templates.zmq_urls:
        _check_url("templates.zmq_urls", url, ("tcp",))
    if len(templates.zmq_urls) not in (0, count):
        raise ConfigError(
            f"there are {count} nodes in rpc_urls",
            key="templates.zmq_urls",
            value=repr(list(templates.zmq_urls)),
            allowed="one address for each node, or none",
        )
    if len(templates.rpc_cookie_files) != (0 if templates.rpc_user else count):
        raise ConfigError(
            f"there are {count} nodes in rpc_urls"
            + (" and rpc_user logs in to them" if templates.rpc_user else ""),
            key="templates.rpc_cookie_files",
            value=repr([str(each) for each in templates.rpc_cookie_files]),
            allowed="one file for each node, or none and rpc_user",
        )


def _check_url(key: str, url: str, schemes: tuple[str, ...]) -> None:
    """Refuses what is not SCHEME://HOST:PORT; a password would end up in logs."""
    example = f"{schemes[0]}://127.0.0.1:8332"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        port = None
    if port is None or parts.scheme not in schemes or not parts.hostname:
        raise ConfigError("is no address", key=key, value=repr(url), allowed=f"like {example}")
    if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(
            "holds more than scheme, host and port. A user goes into templates.rpc_user, the "
            "password into templates.rpc_password_file",
            key=key,
            value=f"'{parts.scheme}://…@{parts.hostname}:{port}…'",
            allowed=f"like {example}",
        )

"""Checks everything a node needs before it serves: the machine, the keys, the configuration.

Each check looks, measures and says in plain words what it found and what to do. Nothing is changed:
what is written to measure the disk is removed again.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass
from enum import Enum
from functools import partial
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, TypeAlias

import trio

from radpool_sv2.config import MspConfig, load
from radpool_sv2.errors import ConfigError, LocalProtocolError
from radpool_sv2.federating import Federating
from radpool_sv2.installation import ECASH
from radpool_sv2.keyfile import DAY_S, load_keys, load_mint_seed
from radpool_sv2.network import NETWORKS, script_from_address
from radpool_sv2.node.report import report_core, report_node
from radpool_sv2.residence import is_running
from radpool_sv2.sources import node_settings, trusted_uids
from radpool_sv2.sv1 import PACKAGE, is_installed
from radpool_sv2.wallet.file import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from radpool_sv2.config import Endpoint

__all__ = [
    "EXAMINATIONS",
    "Examination",
    "Finding",
    "Verdict",
    "examine",
    "examine_clock",
    "examine_listener",
    "find_examination",
]

EXAMINATIONS = "radpool_sv2.examinations"
"""The entry point group by which other packages examine roles of theirs."""

DISK_BYTES_MIN = 1 << 30
"""A pool of a thousand channels writes some 50 MB a day: this is three weeks' notice."""

FLUSHES = 20
FLUSH_MS_MAX = 20.0
"""An acknowledgement waits for one flush; above this miners see it."""

DESCRIPTORS_OWN = 256
"""What the node opens besides connections: files, the chain, HTTP."""

EARLIEST_UNIX_S = 1_767_225_600
"""2026-01-01: a clock before it was never set."""

_ADJTIMEX_UNSYNCHRONISED = 5


class Verdict(Enum):
    """Is how bad a finding is."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """Is what a check has found, and what to do about it unless it is good."""

    subject: str
    verdict: Verdict
    text: str


def examine(file: Path) -> Iterator[Finding]:
    """Checks a node by its configuration file; yields findings as they come.

    Some checks take up to a second. Without a readable configuration only the machine is checked.
    """
    yield from examine_clock()
    try:
        config = load(MspConfig, file)
    except ConfigError as error:
        yield Finding("configuration", Verdict.BAD, str(error))
        return
    yield Finding("configuration", Verdict.GOOD, f"{file} can be used")
    yield from _keys(config)
    yield from _payout(config)
    yield from _mint(config)
    yield from _sv1(config)
    yield from _descriptors(config)
    yield from _ports(config)
    yield from _disk(config)
    yield from _source(config)
    yield from _federation(config)


Examination: TypeAlias = "Callable[[Path], Iterator[Finding]]"
"""Checks a role by its configuration file."""


def find_examination(name: str) -> Examination:
    """Returns the examination of a role that another package brings.

    Raises:
        ConfigError: The package is not installed.
    """
    installed = {entry.name: entry for entry in entry_points(group=EXAMINATIONS)}
    if name not in installed:
        raise ConfigError(
            f"there is no {name} to be checked: install the package radpool-sv2-{name}"
        )
    examination: Examination = installed[name].load()
    return examination


def _good(subject: str, text: str) -> Finding:
    return Finding(subject, Verdict.GOOD, text)


def _warning(subject: str, text: str) -> Finding:
    return Finding(subject, Verdict.WARNING, text)


def _bad(subject: str, text: str) -> Finding:
    return Finding(subject, Verdict.BAD, text)


def examine_clock() -> Iterator[Finding]:
    """Checks whether the clock was set, and whether anything keeps it right."""
    now = int(time.time())
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < EARLIEST_UNIX_S:
        yield _bad(
            "clock", f"it is not {shown}: set the clock, miners check certificates by theirs"
        )
    elif _is_synchronised() is False:
        yield _warning(
            "clock",
            f"{shown}, but the kernel says that nothing keeps the clock right: run an NTP client. "
            "A clock that is some minutes off makes templates and certificates invalid",
        )
    else:
        yield _good("clock", shown)


def _is_synchronised() -> bool | None:
    """Asks the kernel whether an NTP client disciplines the clock; None when it does not tell."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    # `struct timex` has 208 bytes on 64-bit Linux; its first field, modes = 0, only reads.
    state = int(adjtimex(ctypes.create_string_buffer(512)))
    return None if state < 0 else state != _ADJTIMEX_UNSYNCHRONISED


def _keys(config: MspConfig) -> Iterator[Finding]:
    try:
        keys = load_keys(config.keys)
    except ConfigError as error:
        yield _bad("keys", str(error))
        return
    yield _good("keys", f"miners pin {config.keys.authority_public_key}")
    days = (keys.certificate.not_valid_after - int(time.time())) // DAY_S
    has_authority = config.keys.authority_key_file.exists()
    if days >= config.keys.certificate_renew_days or has_authority:
        yield _good("certificate", f"valid for {days} more days")
    else:
        yield _warning("certificate", f"ends in {days} days: `radpool certify` renews it")
    if has_authority:
        yield _warning(
            "authority key",
            f"{config.keys.authority_key_file} is on this machine: move it to a safe place before "
            "strangers mine with you",
        )


def _payout(config: MspConfig) -> Iterator[Finding]:
    address = config.templates.payout_address
    try:
        script_from_address(address, NETWORKS[config.templates.network])
    except LocalProtocolError as error:
        yield _bad("payout address", f"templates.payout_address: {error}")
    else:
        yield _good("payout address", f"blocks pay {address} on {config.templates.network}")


def _mint(config: MspConfig) -> Iterator[Finding]:
    """Checks what the mint needs that the configuration alone does not show."""
    settings = config.ecash
    if not settings.enabled:
        yield _good("mint", "not enabled: shares earn sats in the ledger's accounts alone")
        return
    try:
        load_mint_seed(config.keys)
    except ConfigError as error:
        yield _bad("mint", str(error))
        return
    if ECASH in config.extensions.enabled:
        yield _good(
            "mint",
            f"pays by {', '.join(settings.policies)}; unit 2^{settings.unit_exponent} hashes",
        )
    else:
        yield _warning(
            "mint",
            f"miners cannot reach it: extensions.enabled does not name {ECASH!r}",
        )
    if not settings.url:
        yield _warning(
            "mint",
            "ecash.url is empty: wallets are not told where to redeem. Give the address at which "
            "miners reach the HTTP interface",
        )
    if settings.advance_cap_sats:
        yield _warning(
            "mint",
            f"up to {settings.advance_cap_sats:,} sat of your own are paid out for blocks that may "
            "still be orphaned: ecash.advance_cap_sats",
        )
    if "fixed" in settings.policies and not settings.fixed_reserve_msat:
        yield _warning(
            "mint",
            "ecash.fixed_reserve_msat is 0: the policy fixed takes no work before blocks have paid "
            "for it",
        )


def _sv1(config: MspConfig) -> Iterator[Finding]:
    """Checks what devices that speak Stratum V1 need, where they are served."""
    section, limits, subject = config.sv1, config.limits, "SV1 devices"
    if not section.on_same_port:
        return
    if not is_installed():
        yield _bad(subject, f"sv1.on_same_port needs the package {PACKAGE}: install it")
        return
    if section.ecash and not (section.wallet_dir / FILE_NAME).exists():
        yield _bad(
            subject,
            f"there is no wallet in {section.wallet_dir}: `radpool wallet create` makes one",
        )
        return
    yield _good(
        subject,
        f"served at {config.mining.listen}, {limits.connections_per_address_max} of an address: "
        "limits.connections_per_address_max",
    )


def _federation(config: MspConfig) -> Iterator[Finding]:
    if config.federation.dir is None:
        return
    try:
        seat = Federating(config, load_keys(config.keys))
    except ConfigError as error:
        yield _bad("federation", str(error))
        return
    figures = seat.figures()
    yield _good(
        "federation",
        f"member {figures['member']} of {figures['members']}, committee {figures['committee']}; "
        f"blocks pay by {figures['payout']}",
    )


def _descriptors(config: MspConfig) -> Iterator[Finding]:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = config.limits.connections_max + config.http.requests_max + DESCRIPTORS_OWN
    if hard == resource.RLIM_INFINITY or hard >= needed:
        yield _good("open files", f"up to {hard}; {needed} are needed at most")
    else:
        yield _warning(
            "open files",
            f"the limit is {hard}, but {needed} are needed when limits.connections_max are "
            "connected: raise it (LimitNOFILE= in systemd, or `ulimit -n`), or lower the key",
        )


def _ports(config: MspConfig) -> Iterator[Finding]:
    if is_running(config.node.data_dir):
        yield _good("ports", "the node runs and has them")
        return
    listeners = [("mining.listen", config.mining.listen), ("http.listen", config.http.listen)]
    if config.declarator.enabled:
        listeners.append(("declarator.listen", config.declarator.listen))
    for key, endpoint in listeners:
        yield examine_listener(key, endpoint)


def examine_listener(key: str, endpoint: Endpoint) -> Finding:
    """Checks whether an address can be listened on; `key` is the configuration's word for it."""
    try:
        _bind(endpoint)
    except OSError as error:
        return _bad("ports", f"{key} = {endpoint}: {error.strerror or error}. Give another one")
    return _good("ports", f"{key} = {endpoint} is free")


def _bind(endpoint: Endpoint) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(
        endpoint.host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)


def _disk(config: MspConfig) -> Iterator[Finding]:
    directory = config.node.data_dir
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    text = f"{free / (1 << 30):.1f} GiB free in {directory}"
    yield _good("disk", text) if free >= DISK_BYTES_MIN else _warning("disk", f"only {text}")
    try:
        middle, worst = _flush_ms(directory)
    except OSError as error:
        yield _bad("disk", f"cannot write in {directory}: {error.strerror}")
        return
    text = f"a flush takes {middle:.1f} ms, at worst {worst:.1f} ms"
    if middle <= FLUSH_MS_MAX:
        yield _good("disk", text)
    else:
        yield _warning("disk", f"{text}: every acknowledgement waits for one; use a faster disk")


def _flush_ms(directory: Path) -> tuple[float, float]:
    """Measures a durable append of a page; returns the median and the worst of some."""
    times: list[float] = []
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".radpool-doctor-") as file:
        for _ in range(FLUSHES):
            begin = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fdatasync(file.fileno())
            times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times), max(times)


def _source(config: MspConfig) -> Iterator[Finding]:
    """Checks where templates come from."""
    if config.templates.source == "embedded":
        yield from _chain()
        return
    templates = config.templates
    found: list[tuple[bool | None, str]] = []
    network = NETWORKS[templates.network]
    try:
        if templates.source == "core_ipc":
            uids = trusted_uids(templates.ipc_user)
            report = partial(report_core, has_rpc=bool(templates.rpc_urls))
            found += trio.run(report, templates.ipc_socket, uids, network)
        nodes = node_settings(templates)
    except ConfigError as error:
        yield _bad("bitcoin node", str(error))
        return
    for settings in nodes:
        found += trio.run(report_node, settings, network)
    for is_good, text in found:
        kind = {True: _good, None: _warning, False: _bad}[is_good]
        yield kind("bitcoin node", text)


def _chain() -> Iterator[Finding]:
    try:
        import pbk  # noqa: PLC0415 - whether it can be imported is the question
    except ImportError as error:
        yield _bad("consensus engine", f"py-bitcoinkernel cannot be loaded: {error}")
    else:
        yield _good(
            "consensus engine", f"py-bitcoinkernel {getattr(pbk, '__version__', '')}".strip()
        )

"""Checks what a translator needs: `radpool doctor --translator`.

Each pool is called as the translator would call it: it must be certified by the key of the file,
open a channel and give a job on it. What the pool asks for is compared with what devices can do.
Where there is a TLS port its certificate is looked at. Where the translator runs and serves its
figures, its devices are looked at as well.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import httpx
import trio

from radpool_sv2._native.keys import AuthorityPublicKey
from radpool_sv2.config import Endpoint, load
from radpool_sv2.doctor import Finding, Verdict, examine_clock, examine_listener
from radpool_sv2.errors import ConfigError, RadpoolError, RemoteProtocolError
from radpool_sv2.miner.side import find_side
from radpool_sv2.wallet.file import FILE_NAME
from radpool_sv2.wire.message.base import decode
from radpool_sv2.wire.message.connection import Protocol
from radpool_sv2.wire.message.mining import (
    MINING,
    NewExtendedMiningJob,
    OpenExtendedMiningChannel,
    OpenExtendedMiningChannelSuccess,
    OpenMiningChannelError,
    SetNewPrevHash,
    SetTarget,
)
from radpool_sv2.wire.setup import request_extensions, set_up
from radpool_sv2.wire.stream import Sv2Stream
from radpool_sv2_translator.certificate import load_identity
from radpool_sv2_translator.config import TranslatorConfig
from radpool_sv2_translator.pools import ANONYMOUS
from radpool_sv2_translator.wallets import WorkerWallets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from radpool_sv2_translator.config import PoolSection

__all__ = ["examine"]

ECASH: Final = "ecash"
ECASH_EXTENSION: Final = 0x4E45
"""What a pool with a mint agrees to speak. Source: page 05."""

CONNECT_S_MAX: Final = 10.0
JOB_S_MAX: Final = 15.0
"""A pool gives a job with the channel; while it waits for a block it may take some seconds."""

EXTRANONCE_WANTED: Final = 12
EXTRANONCE_LEAST: Final = 8
"""What the translator asks for, and what it asks for where that is refused."""

SHARE_S_MAX: Final = 600
"""A device whose shares are rarer looks dead for most of the time, also to its own firmware."""

SHARES_MISSED: Final = 10
"""A device that works misses so many shares in a row once in 22,000 times."""

QUIET_S_MIN: Final = 60
"""What is shorter is no silence."""

DEVICES_MAX: Final = 100_000
ODD_SHOWN: Final = 20

HTTP_S_MAX: Final = 5.0
TERAHASH: Final = 10**12


def examine(file: Path) -> Iterator[Finding]:
    """Checks a translator by its configuration file; yields findings as they come.

    A pool that is silent takes some seconds.
    """
    yield from examine_clock()
    try:
        config = load(TranslatorConfig, file)
    except ConfigError as error:
        yield Finding("configuration", Verdict.BAD, str(error))
        return
    yield Finding("configuration", Verdict.GOOD, f"{file} can be used")
    if any(each.ecash for each in config.pools):
        yield _wallet(config)
    for pool in config.pools:
        yield from trio.run(_pool, pool, config)
    if config.devices.tls_listen:
        yield from _certificate(config)
    yield from _devices(config)


def _good(subject: str, text: str) -> Finding:
    return Finding(subject, Verdict.GOOD, text)


def _warning(subject: str, text: str) -> Finding:
    return Finding(subject, Verdict.WARNING, text)


def _bad(subject: str, text: str) -> Finding:
    return Finding(subject, Verdict.BAD, text)


def _wallet(config: TranslatorConfig) -> Finding:
    try:
        find_side(ECASH)
    except ConfigError as error:
        return _bad("wallet", str(error))
    directory = config.wallet.dir
    if (directory / FILE_NAME).exists():
        if config.wallet.per_worker:
            return _workers(config)
        return _good("wallet", f"{directory} has one")
    return _good(
        "wallet", f"is made in {directory} when the translator starts, and shows its words"
    )


def _certificate(config: TranslatorConfig) -> Iterator[Finding]:
    """Checks what the TLS port shows, and what it will show to who checks it."""
    subject, now_s = "certificate", time.time()
    try:
        identity = load_identity(config.devices)
    except ConfigError as error:
        yield _bad(subject, str(error))
        return
    file = config.devices.tls_certificate_file
    if fault := identity.fault(now_s):
        yield _bad(subject, f"{file} {fault}. Put a new one in its place")
    elif notice := identity.notice(now_s):
        yield _warning(subject, f"{file} {notice}")
    else:
        names = ", ".join(identity.certificate.names) or "no name of a host"
        yield _good(
            subject,
            f"{file} is for {names}, holds until {identity.ends}, and the key is its own; SHA-256 "
            f"{identity.certificate.sha256.hex()}",
        )
    shown = trio.run(_shown, Endpoint.parse(config.devices.tls_listen))
    if shown is None:
        return
    if shown == identity.certificate.sha256:
        yield _good(subject, f"devices.tls_listen = {config.devices.tls_listen} shows it")
    else:
        yield _bad(
            subject,
            f"devices.tls_listen = {config.devices.tls_listen} shows another certificate, SHA-256 "
            f"{shown.hex()}: see the log of the translator, or who else listens there",
        )


async def _shown(listen: Endpoint) -> bytes | None:
    """Returns the hash of the certificate that is shown there; None when nobody shows any."""
    context = ssl.create_default_context()
    # Whatever is shown is compared with the file: who vouches for it does not matter here.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)  # noqa: S104
    with trio.move_on_after(CONNECT_S_MAX):
        try:
            stream = await trio.open_ssl_over_tcp_stream(host, listen.port, ssl_context=context)
            async with stream:
                await stream.do_handshake()
                return sha256(stream.getpeercert(binary_form=True)).digest()
        except (OSError, trio.BrokenResourceError):
            return None
    return None


def _workers(config: TranslatorConfig) -> Finding:
    """Says how many wallets of workers there are, and whether there is room for more."""
    directory, count_max = config.wallet.dir, config.wallet.workers_max
    try:
        count = len(WorkerWallets(directory, str, count_max).all())
    except ConfigError as error:
        return _bad("wallet", str(error))
    text = f"{directory} has one, and {count} of at most {count_max} of workers"
    if count < count_max:
        return _good("wallet", text)
    return _warning(
        "wallet",
        f"{text}: new workers mine for the common one. Raise wallet.workers_max, as far as the "
        "pool takes so many connections of one address",
    )


@dataclass(slots=True)
class _Offer:
    """Is what a pool gave."""

    extensions: tuple[int, ...]
    size: int
    target: int
    job_s: float | None = None


async def _pool(pool: PoolSection, config: TranslatorConfig) -> Sequence[Finding]:
    """Calls a pool as the translator would."""
    name = f"pool {pool.address}"
    key = None
    found: list[Finding] = []
    if pool.authority_public_key:
        try:
            key = AuthorityPublicKey.from_text(pool.authority_public_key)
        except ConfigError as error:
            return [_bad(name, f"authority_public_key: {error}")]
    else:
        found.append(
            _warning(name, "authority_public_key is empty: whoever sits on the line can take work")
        )
    try:
        stream = await Sv2Stream.connect(pool.address, key, CONNECT_S_MAX)
    except RadpoolError as error:
        return [*found, _bad(name, await _why(pool.address, error))]
    try:
        offer = await _ask(stream, pool, config)
    except RadpoolError as error:
        return [*found, _bad(name, str(error))]
    finally:
        with trio.CancelScope(shield=True):
            await stream.aclose()
    if key is not None:
        found.append(_good(name, "answers, and the key of the file vouches for it"))
    return [*found, *_judge(name, offer, pool, config)]


async def _why(address: Endpoint, error: RadpoolError) -> str:
    """Says of a pool that cannot be used whether only its key is not the right one."""
    if not isinstance(error, RemoteProtocolError):
        return str(error)
    try:
        stream = await Sv2Stream.connect(address, None, CONNECT_S_MAX)
    except RadpoolError:
        return str(error)
    await stream.aclose()
    return (
        f"answers, but is not who authority_public_key says: {error}. Ask the pool for its key; if "
        "it is right, somebody sits on the line, or this machine's clock is wrong"
    )


async def _ask(stream: Sv2Stream, pool: PoolSection, config: TranslatorConfig) -> _Offer:
    """Opens a channel and waits for a job.

    Raises:
        RadpoolError: The pool refuses, or ends the connection.
    """
    await set_up(stream, Protocol.MINING, endpoint=pool.address)
    extensions: tuple[int, ...] = ()
    if pool.ecash:
        extensions = await request_extensions(stream, [ECASH_EXTENSION])
    offer = await _open(stream, pool, config, EXTRANONCE_WANTED) or await _open(
        stream, pool, config, EXTRANONCE_LEAST
    )
    if offer is None:
        raise RemoteProtocolError(f"grants no channel with {EXTRANONCE_LEAST} bytes of extranonce")
    offer.extensions = extensions
    begin_s, has_job, has_tip = trio.current_time(), False, False
    with trio.move_on_after(JOB_S_MAX):
        while not (has_job and has_tip):
            match decode(await stream.receive(), MINING):
                case NewExtendedMiningJob():
                    has_job = True
                case SetNewPrevHash():
                    has_tip = True
                case SetTarget(maximum_target=target):
                    offer.target = int.from_bytes(target, "little")
                case _:
                    pass
        offer.job_s = trio.current_time() - begin_s
    return offer


async def _open(
    stream: Sv2Stream, pool: PoolSection, config: TranslatorConfig, size: int
) -> _Offer | None:
    """Opens a channel; None when the pool has not so many bytes of extranonce to give."""
    request = OpenExtendedMiningChannel(
        request_id=size,
        user_identity=pool.user or config.devices.user or ANONYMOUS,
        nominal_hash_rate=config.devices.nominal_hash_rate_mh * 1e6,
        max_target=b"\xff" * 32,
        min_extranonce_size=size,
    )
    await stream.send(request)
    with trio.move_on_after(JOB_S_MAX):
        while True:
            match decode(await stream.receive(), MINING):
                case OpenExtendedMiningChannelSuccess(target=target, extranonce_size=granted):
                    return _Offer((), granted, int.from_bytes(target, "little"))
                case OpenMiningChannelError(error_code=code):
                    if size == EXTRANONCE_WANTED:
                        return None
                    raise RemoteProtocolError(
                        f"opens no channel for {request.user_identity!r}: {code}. Give a name that "
                        "it knows in devices.user",
                        code,
                    )
                case _:
                    pass
    raise RemoteProtocolError(f"did not answer the request for a channel within {JOB_S_MAX:.0f} s")


def _judge(
    name: str, offer: _Offer, pool: PoolSection, config: TranslatorConfig
) -> Iterator[Finding]:
    if pool.ecash and ECASH_EXTENSION not in offer.extensions:
        yield _bad(name, "does not speak the extension for ecash: set ecash = false, and a user")
    if offer.job_s is None:
        yield _bad(
            name,
            f"opened a channel and gave no job within {JOB_S_MAX:.0f} s: its node may have none",
        )
    else:
        yield _good(name, f"gave a job {offer.job_s:.1f} s after the channel")
    if offer.size < EXTRANONCE_WANTED:
        yield _warning(
            name,
            f"leaves {offer.size} bytes of extranonce, so devices roll {offer.size - 4} and not 8: "
            "some firmware expects 4 at least",
        )
    rate = config.devices.nominal_hash_rate_mh * 10**6
    yield _pace(name, (1 << 256) // (offer.target + 1) / rate, rate)


def _pace(name: str, seconds: float, rate: int) -> Finding:
    text = f"asks a device of {rate / TERAHASH:g} TH/s for a share each {seconds:,.1f} s"
    if seconds <= SHARE_S_MAX:
        return _good(name, text)
    return _warning(
        name,
        f"{text}: its difficulty is too high for such a device, which will look dead. Set "
        "devices.aggregated, or choose a pool for small devices; if yours are faster, say so in "
        "devices.nominal_hash_rate_mh",
    )


def _devices(config: TranslatorConfig) -> Iterator[Finding]:
    """Looks at the devices of a translator that runs."""
    told = _running(config.http.listen)
    if told is None:
        finding = examine_listener("devices.listen", config.devices.listen)
        if finding.verdict is Verdict.BAD:
            finding = _warning(
                "ports",
                f"{finding.text}, unless it is the translator itself that runs: with http.listen "
                "set its devices would be looked at",
            )
        yield finding
        if config.devices.tls_listen:
            yield _tls_port(Endpoint.parse(config.devices.tls_listen))
        return
    if not told:
        yield _good("devices", "the translator runs; no device is connected")
        return
    now_ms = time.time_ns() // 1_000_000
    nominal = config.devices.nominal_hash_rate_mh * 10**6
    odd = [text for each in told if (text := _oddity(each, now_ms, nominal))]
    yield from (_warning("devices", text) for text in odd[:ODD_SHOWN])
    if len(odd) > ODD_SHOWN:
        yield _warning("devices", f"and {len(odd) - ODD_SHOWN} more of {len(told)} are like these")
    if not odd:
        yield _good("devices", f"all {len(told)} have work, and send shares as fast as they hash")


def _tls_port(listen: Endpoint) -> Finding:
    finding = examine_listener("devices.tls_listen", listen)
    if finding.verdict is Verdict.BAD:
        return _warning("ports", f"{finding.text}, unless it is the translator itself that runs")
    return finding


def _running(address: str) -> list[dict[str, Any]] | None:
    """Returns all devices of a translator that runs; None where none does."""
    if not address:
        return None
    devices: dict[int, dict[str, Any]] = {}
    offset, total = 0, 1
    try:
        with httpx.Client(base_url=f"http://{address}", timeout=HTTP_S_MAX) as web:
            # Devices come and go meanwhile: each counts once, and what is beyond the end is none.
            while offset < min(total, DEVICES_MAX):
                answer = web.get("/api/v1/sv1/clients", params={"offset": offset})
                page = answer.raise_for_status().json()
                total, items = page["total"], page["items"]
                devices |= {each["client_id"]: each for each in items}
                if not items:
                    break
                offset += len(items)
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None
    return list(devices.values())


def _oddity(device: dict[str, Any], now_ms: int, nominal: int) -> str:
    """Says what is wrong with a device; nothing when all is well.

    Its difficulty is judged by the hash rate that its own shares tell, and before it has sent
    any by the nominal one: what a device says that it is does not tell how fast it is.
    """
    workers = device["workers"]
    name = ", ".join(each["name"] for each in workers) or "a device without a name"
    since_ms = max(
        [device["connected_since_unix_ms"]] + [each["last_share_unix_ms"] or 0 for each in workers]
    )
    quiet_s = (now_ms - since_ms) / 1_000
    if not device["jobs"]:
        return f"{name} has had no job for {quiet_s:.0f} s: does the pool refuse it? See the log"
    measured = sum(each["hash_rate"] or 0 for each in workers)
    asked = device["difficulty"] or 0
    share_s = asked * (1 << 32) / (measured or nominal)
    how = "hashes" if measured else "is said to hash (devices.nominal_hash_rate_mh)"
    if share_s > SHARE_S_MAX:
        return (
            f"{name} {how} {(measured or nominal) / TERAHASH:g} TH/s: at difficulty {asked:g} that "
            f"is a share each {share_s:,.0f} s, and it looks dead. The pool's difficulty is too "
            "high for it: set devices.aggregated, or choose a pool for small devices"
        )
    if quiet_s <= max(QUIET_S_MIN, SHARES_MISSED * share_s):
        return ""
    if measured:
        return f"{name} has sent no share for {quiet_s:.0f} s: has it stopped?"
    return (
        f"{name} has sent no share for {quiet_s:.0f} s at difficulty {asked:g}: "
        "that is too high for it, or it does not hash. `d=1` in its password has it begin low"
    )

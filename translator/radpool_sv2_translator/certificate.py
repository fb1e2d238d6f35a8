"""Reads the certificate of the TLS port, and reads it again when the operator has renewed it.

The files are the operator's: an ACME client, or whoever made them, replaces them when they like. A
change is taken once both files have been still for a look, since they are written one after the
other. One that cannot be used changes nothing but what is told: the certificate before it stays.
"""

from __future__ import annotations

import os
import stat
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from radpool_sv2._native import translator as native
from radpool_sv2.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from radpool_sv2_translator.config import Devices

__all__ = ["Identity", "Keeper", "load_identity"]

log = structlog.get_logger(__name__)

FILE_BYTES_MAX: Final = 1 << 17
"""A chain of certificates has some 8 KiB."""

LOOK_S: Final = 2.0
DAY_S: Final = 86_400
NOTICE_S_MAX: Final = 7 * DAY_S
NOTICE_PART: Final = 6
"""ACME clients renew when a third of the time is left: at a sixth something is wrong."""

MAKE: Final = "docs/guide/translator.md says how to make one"


class Identity:
    """Is a certificate with its key, and what people want to know of it.

    Attributes:
        certificate: The certificate.
        native: Both, for the native translator.
    """

    def __init__(self, certificate: native.TlsCertificate, key: bytes) -> None:
        self.certificate = certificate
        self.native = native.TlsIdentity(certificate, key)

    @property
    def ends(self) -> str:
        """The day until which it holds."""
        return day(self.certificate.not_after_unix_s)

    def fault(self, now_s: float) -> str:
        """Says what is wrong with its time, for a sentence; nothing when it holds."""
        if now_s > self.certificate.not_after_unix_s:
            return f"ended on {self.ends}: devices that check it do not come"
        if now_s < self.certificate.not_before_unix_s:
            begins = day(self.certificate.not_before_unix_s)
            return f"begins only on {begins}: is this machine's clock right?"
        return ""

    def notice(self, now_s: float) -> str:
        """Says that it ends soon; nothing before."""
        certificate = self.certificate
        lifetime_s = certificate.not_after_unix_s - certificate.not_before_unix_s
        if certificate.not_after_unix_s - now_s < min(NOTICE_S_MAX, lifetime_s / NOTICE_PART):
            return f"ends on {self.ends}: put a new one in its place"
        return ""


def day(unix_s: int) -> str:
    """Returns a day as people write it; certificates may end later than calendars."""
    try:
        return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return "a day after all calendars"


def load_identity(devices: Devices) -> Identity:
    """Reads certificate and key.

    Raises:
        ConfigError: Names the file and what to do.
    """
    file, key = devices.tls_certificate_file, "devices.tls_certificate_file"
    raw = _read(file, key, "the certificate")
    try:
        certificate = native.TlsCertificate.from_pem(raw)
    except ConfigError as error:
        raise ConfigError(str(error), file=file, key=key) from error
    file, key = devices.tls_key_file, "devices.tls_key_file"
    raw = _read(file, key, "the key", secret=True)
    try:
        return Identity(certificate, raw)
    except ConfigError as error:
        raise ConfigError(str(error), file=file, key=key) from error


def _read(file: Path, key: str, what: str, *, secret: bool = False) -> bytes:
    try:
        with file.open("rb") as stream:
            status = os.fstat(stream.fileno())
            raw = stream.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        message = f"{what} of the TLS port is not there; {MAKE}"
        raise ConfigError(message, file=file, key=key) from error
    except OSError as error:
        message = f"cannot read {what} of the TLS port: {error.strerror}"
        raise ConfigError(message, file=file, key=key) from error
    if secret and (mode := _open_mode(status)):
        raise ConfigError(
            f"{what} of the TLS port can be read by others (mode {mode:04o}): `chmod 600` it, and "
            "make a new one if anybody else may have read it",
            file=file,
            key=key,
        )
    if len(raw) > FILE_BYTES_MAX:
        message = f"{what} is larger than {FILE_BYTES_MAX} bytes: this is another file"
        raise ConfigError(message, file=file, key=key)
    return raw


def _open_mode(status: os.stat_result) -> int:
    """Returns the mode of a file that others than its owner may read; 0 when none may.

    A group may read root's: that is how system services share a key, and PostgreSQL's rule.
    """
    mode = stat.S_IMODE(status.st_mode)
    theirs = mode & (stat.S_IRWXG | stat.S_IRWXO)
    if status.st_uid == 0:
        theirs &= ~stat.S_IRGRP
    return mode if theirs else 0


class Engine(Protocol):
    """Is what takes another certificate."""

    def set_tls_identity(self, identity: native.TlsIdentity) -> None:
        """Shows it from now on."""


class Keeper:
    """Keeps the certificate that is shown up to date.

    Args:
        devices: Names the files.
        note: Takes sentences for people.
        clock: Tells the time, in seconds since 1970.

    Attributes:
        identity: What is shown.
        problem: What the operator should mend; empty when all is well.

    Raises:
        ConfigError: There is no certificate to begin with.
    """

    def __init__(
        self,
        devices: Devices,
        note: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._devices = devices
        self._note = note
        self._clock = clock
        # Looked at before it is read: what changes meanwhile is read again.
        self._taken = self._seen = self._marks()
        self.identity = load_identity(devices)
        self._refused = self._age = ""
        self._judge()

    @property
    def problem(self) -> str:
        """What the operator should mend; empty when all is well."""
        return self._refused or self._age

    async def watch(self, engine: Engine) -> None:
        """Looks at the files again and again, until it is cancelled."""
        while True:
            await trio.sleep(LOOK_S)
            marks = await trio.to_thread.run_sync(self._marks)
            if marks == self._seen and marks != self._taken:
                self._taken = marks
                await self._renew(engine)
            self._seen = marks
            self._judge()

    async def _renew(self, engine: Engine) -> None:
        try:
            identity = await trio.to_thread.run_sync(load_identity, self._devices)
            if fault := identity.fault(self._clock()):
                raise ConfigError(  # noqa: TRY301 - a certificate like any other that is no good
                    f"the new certificate {fault}", file=self._devices.tls_certificate_file
                )
        except ConfigError as error:
            self._refused = f"the old certificate is shown on: {error}"
            log.error("a new certificate cannot be used", reason=str(error))  # noqa: TRY400
            self._note(self._refused)
            return
        self._refused = ""
        self.identity = identity
        engine.set_tls_identity(identity.native)
        log.info("another certificate is shown", ends=identity.ends)
        self._note(f"another certificate is shown, which holds until {identity.ends}")

    def _judge(self) -> None:
        now_s = self._clock()
        fault, notice = self.identity.fault(now_s), self.identity.notice(now_s)
        age = f"the certificate {fault or notice}" if fault or notice else ""
        if age and age != self._age:
            tell = log.error if fault else log.warning
            tell("the certificate needs a look", reason=age)
            self._note(age)
        self._age = age

    def _marks(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Returns what differs when a file was replaced, written to, or given to others."""
        return tuple(
            _mark(file) for file in (self._devices.tls_certificate_file, self._devices.tls_key_file)
        )


def _mark(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns, status.st_size

"""Keeps the listener's certificate valid: takes up a new one, signs one, or warns in time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import structlog
import trio

from radpool_sv2._native.keys import ServerIdentity
from radpool_sv2.errors import ConfigError
from radpool_sv2.keyfile import (
    DAY_S,
    load_authority_key,
    load_certificate,
    sign_certificate,
    write_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2._native.keys import Certificate
    from radpool_sv2.config.msp import Keys
    from radpool_sv2.keyfile import KeyRing

__all__ = ["CertificateWatch", "IdentityBearer"]

log = structlog.get_logger(__name__)

LOOK_SECONDS = 60.0
"""How long `radpool certify` may wait until a running node shows the new certificate."""


class IdentityBearer(Protocol):
    """Is whatever shows the certificate to clients; it may be called in any thread."""

    def set_identity(self, identity: ServerIdentity) -> None:
        """Shows another certificate to clients that connect from now on."""


class CertificateWatch:
    """Looks at the certificate file once a minute.

    A new certificate in it is shown to clients that connect from then on. When the end of the
    present one is near, the authority's key signs another, if it is on this machine; if it is not,
    the operator is warned once a day, and the health page says so.
    """

    def __init__(
        self,
        keys: KeyRing,
        config: Keys,
        server: IdentityBearer,
        *,
        now_unix_s: Callable[[], int] = lambda: int(time.time()),
    ) -> None:
        self._keys = keys
        self._config = config
        self._server = server
        self._now_unix_s = now_unix_s
        self._certificate = keys.certificate
        self._warned_s = -DAY_S
        self.problem = ""

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            await trio.to_thread.run_sync(self.look)
            await trio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Takes up a new certificate, then sees to the next one."""
        now = self._now_unix_s()
        self._take_up(now)
        if self._certificate.not_valid_after - now < self._config.certificate_renew_days * DAY_S:
            self._renew(now)
        else:
            self.problem = ""

    def _take_up(self, now: int) -> None:
        try:
            certificate = load_certificate(self._config.certificate_file)
            if certificate.to_bytes() == self._certificate.to_bytes():
                return
            certificate.verify(self._keys.authority, self._keys.static_key, now)
        except ConfigError as error:
            log.warning("the certificate file cannot be used", reason=str(error))
            return
        self._show(certificate)

    def _show(self, certificate: Certificate) -> None:
        self._certificate = certificate
        self._server.set_identity(ServerIdentity(self._keys.static_key, certificate))
        log.info("a new certificate is shown", valid_until_unix_s=self._certificate.not_valid_after)

    def _renew(self, now: int) -> None:
        days_left = max(0, (self._certificate.not_valid_after - now) // DAY_S)
        try:
            authority = load_authority_key(
                self._config.authority_key_file, self._config.authority_public_key
            )
            certificate = sign_certificate(
                authority, self._keys.static_key, self._config.certificate_days
            )
            text = certificate.to_bytes().hex()
            write_text(self._config.certificate_file, text, secret=False, replace=True)
        except ConfigError as error:
            self.problem = (
                f"the certificate ends in {days_left} days, then miners cannot connect: "
                "`radpool certify` renews it"
            )
            if now - self._warned_s >= DAY_S:
                self._warned_s = now
                log.warning(
                    "the certificate must be renewed: run `radpool certify`",
                    days_left=days_left,
                    not_renewed_because=str(error),
                )
            return
        self.problem = ""
        self._show(certificate)

"""Holds the translator's sockets: SV1 devices on one side, pools on the other, on its own threads.

No share crosses this border. Its owner decides which pool is mined for, and shows how it goes.
"""

from collections.abc import Sequence
from typing import final

from .keys import AuthorityPublicKey
from .miner import Carrier, News

@final
class TranslatorSettings:
    """Is what is decided once for all devices."""

    def __new__(
        cls,
        *,
        shares_per_minute: int,
        exponent_start: int,
        exponent_min: int,
        handshake_deadline_ms: int,
        silence_ms: int,
        keepalive_ms: int,
        ntime_ahead_s: int,
        submits_per_second_max: int,
        submits_burst_max: int,
        requests_per_second_max: int,
        requests_burst_max: int,
        malformed_max: int,
        names_max: int,
        jobs_max: int,
        user: str | None,
        nominal_hash_rate: float,
        linger_ms: int,
        io_threads: int,
        connections_max: int,
        connections_per_address_max: int,
        connects_per_second_per_address_max: int,
        connects_burst_per_address_max: int,
        tls_handshakes_max: int,
        tls_handshakes_per_address_max: int,
        tls_handshake_deadline_ms: int,
        line_deadline_ms: int,
        write_deadline_ms: int,
        seen_shares_max: int,
    ) -> TranslatorSettings:
        """Takes every setting; `radpool_sv2_translator.config` says what each means.

        Raises:
            ConfigError: If one cannot be used.
        """

@final
class UpstreamReady:
    """Says that a pool works: it has given a job."""

    @property
    def upstream(self) -> int: ...
    @property
    def extranonce_size(self) -> int | None:
        """How many bytes of extranonce it leaves to us; None when no channel was granted yet."""

@final
class UpstreamEnded:
    """Says that the connection to a pool is over."""

    @property
    def upstream(self) -> int: ...
    @property
    def reason(self) -> str:
        """Why, for people."""

    @property
    def lasting(self) -> bool:
        """Whether another try with the same settings is hopeless."""

    @property
    def elsewhere(self) -> tuple[str, int] | None:
        """Where it asked to be called instead; empty host and 0 mean the same place."""

@final
class DeviceJoined:
    """Says that a device is subscribed and authorized. Its user name is its own text."""

    @property
    def device(self) -> int: ...
    @property
    def address(self) -> str: ...
    @property
    def user(self) -> str: ...

@final
class DeviceLeft:
    """Says that a device which had joined is gone."""

    @property
    def device(self) -> int: ...
    @property
    def reason(self) -> str: ...

@final
class ChannelRefused:
    """Says that a pool opens no channel for a device, or has closed it."""

    @property
    def device(self) -> int: ...
    @property
    def upstream(self) -> int: ...
    @property
    def code(self) -> str: ...

@final
class TlsFailed:
    """Says that there is no encrypted connection with a device that came for one.

    Of many in a second one is told; the counters `tls_failed_*_total` have all.
    """

    @property
    def address(self) -> str: ...
    @property
    def reason(self) -> str:
        """What is wrong, and what to do about it."""

@final
class EventsDropped:
    """Says that events of devices were dropped, because nobody took them."""

    @property
    def count(self) -> int: ...

@final
class Worker:
    """Is what is counted of a worker of a device."""

    @property
    def name(self) -> str: ...
    @property
    def accepted(self) -> int:
        """Shares that met what was asked for."""

    @property
    def work(self) -> int:
        """What they are worth, in expected hashes."""

    @property
    def forwarded(self) -> int:
        """Those of them that went to the pool."""

    @property
    def rejected(self) -> dict[str, int]:
        """Refused shares by reason."""

    @property
    def last_share_unix_ms(self) -> int:
        """When the last share came; 0 for never."""

@final
class Client:
    """Is a device at one moment."""

    @property
    def device(self) -> int: ...
    @property
    def address(self) -> str: ...
    @property
    def since_unix_ms(self) -> int: ...
    @property
    def agent(self) -> str:
        """What it says that it is: printable ASCII."""

    @property
    def workers(self) -> list[Worker]: ...
    @property
    def version_mask(self) -> int: ...
    @property
    def exponent(self) -> int | None:
        """What it is asked for."""

    @property
    def pool_exponent(self) -> int | None:
        """What the pool asks for."""

    @property
    def jobs(self) -> int: ...
    @property
    def pool_accepted(self) -> int: ...
    @property
    def pool_work(self) -> int:
        """What the pool says that these are worth, in expected hashes."""

    @property
    def pool_rejected(self) -> dict[str, int]:
        """Shares that the pool refused, by its code."""

    @property
    def refused(self) -> int:
        """Requests that were refused before any worker was known."""

@final
class TlsCertificate:
    """Is a certificate that devices are shown, with those that sign it."""

    @staticmethod
    def from_pem(text: bytes) -> TlsCertificate:
        """Reads PEM text, in which the own certificate comes first.

        Raises:
            ConfigError: If there is none in it, or it cannot be read.
        """

    @property
    def names(self) -> list[str]:
        """The host names that it is for."""

    @property
    def not_before_unix_s(self) -> int:
        """From when it holds."""

    @property
    def not_after_unix_s(self) -> int:
        """Until when it holds."""

    @property
    def sha256(self) -> bytes:
        """The hash by which people compare it."""

@final
class TlsIdentity:
    """Is a certificate with its key, which stays in native memory."""

    def __new__(cls, certificate: TlsCertificate, key: bytes) -> TlsIdentity:
        """Joins a certificate and its key.

        Args:
            certificate: The certificate.
            key: PEM text of the private key: PKCS #8, PKCS #1 or SEC 1, without a pass phrase.

        Raises:
            ConfigError: If the key cannot be used, or is not the certificate's.
        """

@final
class Desk:
    """Is the counter between a pool and the side of the extension that carries its shares.

    It outlives the pool's connections, each of which is a session. What its methods do is told of
    `radpool_sv2._native.miner.Miner`.
    """

    def __new__(cls) -> Desk:
        """Makes one.

        Raises:
            ConfigError: If the system gives no socket.
        """

    def event_fd(self) -> int: ...
    def take(self) -> News: ...
    def give(self, session: int, lot: int, attachments: Sequence[tuple[int, bytes]]) -> bool: ...
    def send(self, session: int, msg_type: int, *, channel_msg: bool, payload: bytes) -> bool: ...

@final
class Translator:
    """Serves SV1 devices, each by an extended channel of its own with the pool in use."""

    def __new__(cls, settings: TranslatorSettings) -> Translator:
        """Starts the threads; nothing listens yet.

        Raises:
            ConfigError: If a setting is out of its range, or the system gives no threads.
        """

    def listen(self, host: str, port: int) -> tuple[str, int]:
        """Starts to accept devices and returns the address; port 0 takes any free one.

        Raises:
            ConfigError: If the address cannot be had.
            LocalProtocolError: If it has stopped.
        """

    def listen_tls(self, host: str, port: int, identity: TlsIdentity) -> tuple[str, int]:
        """Starts to accept devices over TLS 1.2 and 1.3; otherwise like `listen`."""

    def set_tls_identity(self, identity: TlsIdentity) -> None:
        """Has handshakes that begin from now on show another certificate."""

    def event_fd(self) -> int:
        """Returns the descriptor that is readable when there is something to drain."""

    def drain(
        self,
    ) -> tuple[
        list[
            UpstreamReady
            | UpstreamEnded
            | DeviceJoined
            | DeviceLeft
            | ChannelRefused
            | TlsFailed
            | EventsDropped
        ],
        bool,
    ]:
        """Takes what has happened, and says whether nothing will ever follow."""

    def connect(
        self,
        *,
        host: str,
        port: int,
        authority: AuthorityPublicKey | None,
        user: str,
        probe_required: bool,
        aggregated: bool,
        pays: str | None = None,
        carrier: Carrier | None = None,
        desk: Desk | None = None,
    ) -> int:
        """Starts to connect to a pool and returns its number.

        `UpstreamReady` follows once a channel of this user has a job, `UpstreamEnded` in any case.

        Args:
            host: Name or address of the pool.
            port: Its port.
            authority: Who must have certified it; None trusts whoever answers.
            user: As whom the first channel is opened.
            probe_required: Whether a pool that refuses this channel is of no use.
            aggregated: Whether all devices share that channel.
            pays: Whom the pool is to pay, with each device's worker behind it; None for whom the
                settings name.
            carrier: The extension that is to carry the shares; then `aggregated` must hold.
            desk: Over which it is served. No connection starts while another one uses it, or
                before the end of the last one was taken.

        Raises:
            LocalProtocolError: If it has stopped, 4,096 connections are open, or arguments
                contradict each other.
        """

    def use_upstream(self, upstream: int) -> None:
        """Has devices mine for a pool; each changes over when it has work of it.

        Raises:
            LocalProtocolError: If the pool's connection has ended.
        """

    def assign_each(self) -> None:
        """From now on has each device mine only for the pool that it is assigned to."""

    def assign(self, devices: Sequence[int], upstream: int) -> None:
        """Assigns devices to a pool that is ready; those that are gone are passed over.

        Raises:
            LocalProtocolError: If the pool's connection has ended.
        """

    def show(self, devices: Sequence[int], text: str) -> None:
        """Shows a text to those of the devices that can show one."""

    def disconnect(self, upstream: int) -> None:
        """Leaves a pool in order; `UpstreamEnded` follows.

        Raises:
            LocalProtocolError: If its connection has ended.
        """

    def clients(self) -> list[Client]:
        """Returns all devices, in the order in which they came."""

    def metrics(self) -> dict[str, int]:
        """Returns all counters and gauges by name."""

    def refusals(self) -> dict[str, int]:
        """Returns how many shares the pools have refused, by their code."""

    def stop(self, timeout_ms: int) -> None:
        """Says goodbye to devices and pools and ends the threads; blocks for about that long."""

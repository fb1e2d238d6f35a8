"""Holds the CPU miner, which runs on threads of its own."""

from collections.abc import Sequence
from typing import final

from .keys import AuthorityPublicKey

@final
class Carrier:
    """Is how a miner speaks an extension that opens its channel and carries its shares.

    The first fields of such messages are those of the core's; what follows, the tail, is the
    extension's alone. A share waits until it is given an attachment, the tail of its message.
    """

    def __new__(
        cls,
        *,
        extension_type: int,
        open_messages: tuple[int, int, int],
        open_tail: bytes,
        share_messages: tuple[int, int, int],
        renewing_codes: Sequence[str],
        lapsing_codes: Sequence[str],
    ) -> Carrier:
        """Checks the arguments.

        Args:
            extension_type: The extension's number, 2 to 0x7fff; the pool must agree to it.
            open_messages: The messages that ask for a channel, grant and refuse it.
            open_tail: What follows the core fields in the first of them.
            share_messages: The messages that submit a share, accept and refuse it.
            renewing_codes: Codes of refusals after which a share is sent again with the next
                attachment.
            lapsing_codes: The same, where the refused attachment's whole lot is of no use any more.

        Raises:
            LocalProtocolError: If one is out of its range, or two messages have the same number.
        """

    @property
    def extension_type(self) -> int: ...
    @property
    def open_messages(self) -> tuple[int, int, int]: ...
    @property
    def open_tail(self) -> bytes: ...
    @property
    def share_messages(self) -> tuple[int, int, int]: ...
    @property
    def renewing_codes(self) -> list[str]: ...
    @property
    def lapsing_codes(self) -> list[str]: ...

@final
class News:
    """Is what has happened in one session since the last look.

    Each list is in the order in which things happened. A share stands in `submitted` no later than
    its answer stands in `refused` or `frames`.
    """

    @property
    def session(self) -> int:
        """The connection's number, counted from 1."""

    @property
    def opened(self) -> tuple[int, bytes] | None:
        """The channel and what the extension says behind the core fields, when it was opened."""

    @property
    def submitted(self) -> list[tuple[int, int | None, int, bytes]]:
        """Shares that were sent: sequence number, exponent, attachment, hash in internal order.

        The exponent is None when the target is no step of the ladder.
        """

    @property
    def refused(self) -> list[tuple[int, str, bool]]:
        """Refused shares: sequence number, code, whether it goes out again under another number."""

    @property
    def frames(self) -> list[tuple[int, bool, bytes]]:
        """The extension's frames, answers to shares included: type, channel bit, payload."""

    @property
    def withdrawn(self) -> list[int]:
        """Attachments that were given and will not be used."""

    @property
    def dropped(self) -> int:
        """Shares that were given up unsent: no attachment came while they were of use."""

    @property
    def ended(self) -> str | None:
        """Why the session is over, when it is."""

@final
class Miner:
    """Mines on a pool with this machine's processors: for tests, demonstrations and learning."""

    def __new__(
        cls,
        *,
        host: str,
        port: int,
        authority: AuthorityPublicKey | None,
        user: str,
        kind: str,
        threads: int,
        hash_rate_limit: int | None,
        carrier: Carrier | None = None,
        sv1: bool = False,
    ) -> Miner:
        """Checks the arguments; nothing runs yet.

        Args:
            host: Name or address of the pool.
            port: Its port.
            authority: Who must have certified the pool; None trusts whoever answers.
            user: Who is to be paid, at most 255 bytes of UTF-8.
            kind: `standard` or `extended`: which channel to open.
            threads: Threads that hash, 1 to 1024.
            hash_rate_limit: Hashes per second of all threads together; None for all they can.
            carrier: The extension that is to carry the shares, on an extended channel; None for
                the core's own messages.
            sv1: Whether to speak Stratum V1, without a key and without an extension.

        Raises:
            ConfigError: If an argument is out of its range.
        """

    def start(self) -> None:
        """Starts the threads; the miner then connects, and connects again, by itself.

        Raises:
            LocalProtocolError: If it was started before.
            ConfigError: If the system gives no threads.
        """

    def stats(self) -> MinerStats:
        """Returns the figures as of now; also after the end."""

    def events(self) -> list[tuple[int, str]]:
        """Returns what happened since the last call: milliseconds since 1970 and a sentence.

        At most the last 256 are kept.
        """

    def event_fd(self) -> int:
        """Returns a descriptor that is readable while there are news.

        Raises:
            LocalProtocolError: If it was not started, or is just being stopped.
        """

    def take(self) -> News:
        """Takes the news of the shares that an extension carries.

        The pool is not listened to while too much of it lies here, and a new connection waits until
        the end of the last one was taken.

        Raises:
            LocalProtocolError: If it was not started, or is just being stopped.
        """

    def give(self, session: int, lot: int, attachments: Sequence[tuple[int, bytes]]) -> bool:
        """Gives attachments for the shares of a session.

        Those of the present lot wait behind the others; those of a later lot take their place. A
        lot ends when a share is refused with a lapsing code.

        Args:
            session: The session, which must still run.
            lot: Counted from 1 in each session.
            attachments: Number and bytes of each, at most 1 KiB; no more than 4096 may wait.

        Returns:
            Whether they were taken; None of them was if not: session or lot are over, or they are
            too many.

        Raises:
            LocalProtocolError: If a number or a length is out of range, or the miner does not run.
        """

    def send(self, session: int, msg_type: int, *, channel_msg: bool, payload: bytes) -> bool:
        """Sends a frame of the extension; False when the session is over or 64 frames wait.

        Raises:
            LocalProtocolError: If a number or a length is out of range, or the miner does not run.
        """

    def leave(self) -> None:
        """Tells it to leave in order, and does not wait: its state is `stopped` soon after.

        Meanwhile, for a second at most, the last answers come in, and shares whose attachment was
        refused go out again.

        Raises:
            LocalProtocolError: If it was not started, or is just being stopped.
        """

    def stop(self) -> None:
        """Leaves in order: waits up to a second for the last answers, closes, ends the threads.

        Blocks meanwhile without the GIL. A second call does nothing.
        """

@final
class MinerStats:
    """Is what a miner has done up to a moment."""

    @property
    def state(self) -> str:
        """`connecting`, `mining`, `waiting` (to connect again) or `stopped`."""

    @property
    def hashes(self) -> int:
        """Hashes since the start."""

    @property
    def hash_rate(self) -> int:
        """Hashes per second over the last ten seconds."""

    @property
    def submitted(self) -> int:
        """Shares that were sent."""

    @property
    def accepted(self) -> int:
        """Shares that the pool acknowledged."""

    @property
    def accepted_hashes(self) -> int:
        """What the pool says that these are worth, in expected hashes."""

    @property
    def rejected(self) -> dict[str, int]:
        """Shares that the pool refused and that were not sent again, by its error code."""

    @property
    def unanswered(self) -> int:
        """Shares that wait for an answer."""

    @property
    def waiting(self) -> int:
        """Shares that wait for an attachment."""

    @property
    def resent(self) -> int:
        """Shares that were sent again with another attachment."""

    @property
    def lost(self) -> int:
        """Shares whose answer the end of a connection cut off."""

    @property
    def mismatches(self) -> int:
        """Answers that do not fit what was sent: not 0 means that the pool miscounts."""

    @property
    def exponent(self) -> int | None:
        """Leading zero bits that a share needs now, rounded up; None before a channel is open."""

    @property
    def target(self) -> bytes | None:
        """What the pool asks of shares now: 32 bytes, least significant first."""

    @property
    def channel(self) -> int | None:
        """The number of the open channel."""

    @property
    def job(self) -> int | None:
        """The number of the job that is mined."""

    @property
    def prev_hash(self) -> bytes | None:
        """The block that is built on: 32 bytes, internal order."""

    @property
    def tips(self) -> int:
        """How many tips were mined on."""

    @property
    def sessions(self) -> int:
        """How many connections came to an open channel."""

    @property
    def latency_p50_us(self) -> int | None:
        """Microseconds from a share to its acknowledgement, median of the last 1024."""

    @property
    def latency_p99_us(self) -> int | None:
        """The same: 99 of 100 were not slower."""

    @property
    def last_end(self) -> str | None:
        """Why the last connection ended, in words."""

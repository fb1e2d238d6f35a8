"""Holds the CPU miner, which runs on threads of its own."""

from typing import final

from .keys import AuthorityPublicKey

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
        """Shares that the pool refused, by its error code."""

    @property
    def unanswered(self) -> int:
        """Shares that wait for an answer."""

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

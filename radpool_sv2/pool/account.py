"""Reads what a miner gives as user identity when it opens a channel.

    identity = account [ "." worker ] *( "," option )
    option   = "d=" difficulty | "z=" exponent

The account earns, and is the text up to the first dot or comma. The worker only labels statistics.
Both options ask for a starting difficulty: `d` in the units that SV1 miners know (difficulty 1 is
2^32 hashes), rounded down to a step of the ladder, `z` as the step itself. Spaces around a part do
not count, so that a stray one does not make another account.

Miners choose these texts freely and they are shown to people, so characters that are invisible or
control a terminal are refused, whatever the script they come from.
"""

from __future__ import annotations

from dataclasses import dataclass

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.units import EXPONENT_MAX

__all__ = [
    "INTERNAL_ERROR",
    "INVALID_USER_IDENTITY",
    "UNKNOWN_USER",
    "OpeningBudget",
    "UserIdentity",
]

INVALID_USER_IDENTITY = "invalid-user-identity"
UNKNOWN_USER = "unknown-user"

INTERNAL_ERROR = "internal-error"
"""What a client is told when the ledger cannot answer; it may ask again."""

DIFFICULTY_1_EXPONENT = 32
"""Difficulty 1 takes 2^32 hashes on average (its target is 0xffff * 2^208)."""

NUMBER_DIGITS_MAX = 40


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """Is a user identity taken apart.

    Attributes:
        account: Who earns; may be empty where an extension says so.
        worker: The label of the device; empty when none was given.
        exponent: The step of the ladder to start with; None leaves it to the pool.
    """

    account: str
    worker: str
    exponent: int | None

    @classmethod
    def parse(cls, raw: bytes, *, anonymous: bool = False) -> UserIdentity:
        """Reads the bytes of `user_identity`, at most 255.

        Args:
            raw: The bytes as the client sent them.
            anonymous: Whether it may name no account: an extension says who earns.

        Raises:
            RemoteProtocolError: They cannot be read so; the error code is the one to refuse with.
        """
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise _fault("is not UTF-8") from error
        if not text.isprintable():
            raise _fault("has characters that cannot be printed")
        name, *options = text.split(",")
        account, _, worker = name.partition(".")
        account = account.strip()
        if not account and not anonymous:
            raise _fault("names no account")
        exponent = None
        for option in options:
            if exponent is not None:
                raise _fault("asks for a starting difficulty twice")
            exponent = _exponent(option.strip())
        return cls(account, worker.strip(), exponent)


def _exponent(option: str) -> int:
    key, _, value = option.partition("=")
    # `isdigit` alone takes digits of other scripts, and `int` takes underscores and signs.
    if not (value.isascii() and value.isdigit() and len(value) <= NUMBER_DIGITS_MAX):
        raise _fault("has an option that is neither d=NUMBER nor z=NUMBER")
    number = int(value)
    if key == "d" and number > 0:
        return min(DIFFICULTY_1_EXPONENT + number.bit_length() - 1, EXPONENT_MAX)
    if key == "z" and number <= EXPONENT_MAX:
        return number
    raise _fault("has an option that is neither d=NUMBER above 0 nor z=NUMBER up to 120")


def _fault(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"the user identity {what}", INVALID_USER_IDENTITY)


class OpeningBudget:
    """Says whether one more new account may be opened.

    A minute's worth may be opened at once, and then as many more as time allows.

    Args:
        per_minute: Accounts a minute in the long run.
        now_s: Seconds of a clock that never goes back.
    """

    def __init__(self, per_minute: int, now_s: float) -> None:
        self._per_minute = per_minute
        self._left = float(per_minute)
        self._seen_s = now_s

    def take(self, now_s: float) -> bool:
        """Takes one opening, if there is one."""
        gained = (now_s - self._seen_s) * self._per_minute / 60
        self._left = min(self._left + gained, float(self._per_minute))
        self._seen_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True

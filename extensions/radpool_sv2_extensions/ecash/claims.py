"""Keeps count of a miner's claims, so that a pool never has much work for which it gave no token.

A *claim* is a blinded message that went out with a share. It is

- *under way* from then on until the pool answers, or for at most `OVERDUE_S`;
- *signed* once the wallet has verified the token: the end that each should have;
- *unsigned* when the answer came without a usable token, or none came in time;
- *lost* when the connection ended before the answer: the next one asks what became of it. If the
  pool never got the share, nothing is owed; if it did, the claim is signed or unsigned.

A share whose claim was refused is *kept*, and goes out again with another claim on the same
connection only. One that cannot any more has no token for good. A claim that was refused because
the mint could not store it may be stored all the same: it is asked for before another takes its
place.

Two rules bound what a pool can get for nothing. With `unsigned_max` unsigned claims nothing more is
submitted until one of them is signed. And on a connection there may be as many under way and
unsigned together, and one more for each that it has signed: a pool that never signs gets no more
than `unsigned_max` shares, at any rate of shares, and one that does is soon not waited for. What
earlier connections have lost since a token came is taken off; but one at a time may always go.

An unsigned claim that no request can get signed any more (the pool kept the share and refused each
claim, or signed less than it was worth) counts for `FORGIVEN_S`: what can happen once in a while at
a change of keysets does not stop a miner, and what happens often does.

Source: `spec/08-wallet-recovery.md`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from radpool_sv2.wallet import Output

__all__ = ["OVERDUE_S", "Claim", "Claims", "Reason"]

OVERDUE_S = 10.0
"""A pool commits some fifty times a second: an answer that takes this long is none."""
FORGIVEN_S = 3600.0
WINDOW_MAX = 32
"""Claims under way at most, however many were signed: some hundred shares per second. What a crash
leaves unsent of them, and of the wallet's block of 256, must be less than the 300 counters that a
restoring wallet looks beyond."""
LOST_MAX = 10_000
"""Lost claims that are asked for; the wallet still knows of older ones."""


class Reason(Enum):
    """Is why a claim is unsigned, in words."""

    UNANSWERED = f"not answered for {OVERDUE_S:.0f} s"
    BARE = "accepted without a token"
    SHORT = "accepted with a token of less than the share's worth"
    UNCLAIMED = "kept while each claim for it was refused"
    UNAVAILABLE = "accepted while the mint could not sign"
    PENDING = "known to the mint and not signed"

    @property
    def is_fetchable(self) -> bool:
        """Whether asking again may bring the token."""
        return self not in {Reason.SHORT, Reason.UNCLAIMED}


@dataclass(frozen=True, slots=True)
class Claim:
    """Is a claim that went out with a share.

    Attributes:
        keyset: The keyset that it names.
        output: Its place in the wallet.
        exponent: What the share is worth; None when nobody knows any more.
        share_hash: The hash of the share.
        sent_s: When it went out.
        lot: The lot of attachments that it came from.
    """

    keyset: bytes
    output: Output
    exponent: int | None = None
    share_hash: bytes = b""
    sent_s: float = 0.0
    lot: int = 0

    @property
    def key(self) -> tuple[bytes, int]:
        """Is what the wallet knows it by."""
        return self.keyset, self.output.counter


@dataclass(slots=True)
class _Unsigned:
    claim: Claim
    reason: Reason
    since_s: float


@dataclass
class Claims:
    """Is the count. Times are seconds of any clock that does not go back."""

    unsigned_max: int
    lost: dict[tuple[bytes, int], Claim] = field(default_factory=dict)
    """Claims to ask for: of earlier connections, and what the wallet misses."""
    gone: int = 0
    """Claims that were lost with their share: the pool never got it."""
    kept: int = 0
    """Shares that the pool has and that can bring no token any more: each claim was refused."""
    _under_way: dict[int, Claim] = field(default_factory=dict)
    _unsigned: dict[tuple[bytes, int], _Unsigned] = field(default_factory=dict)
    _standing: dict[bytes, None] = field(default_factory=dict)
    _signed_here: int = 0
    _doubtful: int = 0

    # What may be done

    @property
    def unsigned(self) -> int:
        """How many claims are unsigned."""
        return len(self._unsigned)

    @property
    def reasons(self) -> Counter[str]:
        """Why they are, and how many for each reason."""
        return Counter(item.reason.value for item in self._unsigned.values())

    @property
    def credit(self) -> int:
        """How many more may go out."""
        if self.unsigned >= self.unsigned_max:
            return 0
        lost = self._doubtful + sum(claim.exponent is not None for claim in self.lost.values())
        window = self.unsigned_max - lost + self._signed_here
        waiting = self._waiting()
        # One at a time is always worth trying: nothing else could win trust back.
        return max(min(window, WINDOW_MAX) - waiting - self.unsigned, 0 if waiting else 1)

    def _waiting(self) -> int:
        return sum(claim.key not in self._unsigned for claim in self._under_way.values())

    def is_owed(self, claim: Claim) -> bool:
        """Whether a claim is unsigned."""
        return claim.key in self._unsigned

    @property
    def in_doubt(self) -> bool:
        """Whether a share is to go out again while the mint may have its last claim."""
        return any(
            item.reason is Reason.UNAVAILABLE and item.claim.share_hash in self._standing
            for item in self._unsigned.values()
        )

    def knows(self, claim: Claim) -> bool:
        """Whether a claim is under way, unsigned or lost."""
        under_way = any(item.key == claim.key for item in self._under_way.values())
        return under_way or self.is_owed(claim) or claim.key in self.lost

    # What happens to claims

    def begin(self) -> None:
        """Starts a connection."""
        self._signed_here = 0

    def end(self) -> None:
        """Ends a connection: what is under way is lost."""
        for claim in self._under_way.values():
            owed = self._unsigned.get(claim.key)
            if owed is None or owed.reason is Reason.UNANSWERED:
                self._unsigned.pop(claim.key, None)
                self.lost[claim.key] = claim
        # A pool that refuses claims and hangs up must not get more than one that only hangs up.
        asked = {claim.share_hash for claim in self._under_way.values()}
        asked |= {item.claim.share_hash for item in self._unsigned.values()}
        given_up = len(self._standing.keys() - asked)
        self.kept += given_up
        self._doubtful = min(self._doubtful + given_up, self.unsigned_max)
        while len(self.lost) > LOST_MAX:
            del self.lost[next(iter(self.lost))]
        self._under_way.clear()
        self._standing.clear()

    def send(self, sequence: int, claim: Claim) -> None:
        """Notes that a claim went out."""
        self._under_way[sequence] = claim

    def answer(self, sequence: int) -> Claim | None:
        """Takes the claim that an answer names off those under way."""
        claim = self._under_way.pop(sequence, None)
        if claim is not None:
            self._standing.pop(claim.share_hash, None)
        return claim

    def pass_over(self, last: int, count: int, now_s: float) -> None:
        """Takes in that `count` shares up to number `last` were accepted without a receipt."""
        passed = (
            claim
            for sequence, claim in self._under_way.items()
            if (last - sequence) & 0xFFFFFFFF < 1 << 31 and claim.key not in self._unsigned
        )
        for claim in list(islice(passed, max(0, count))):
            self.owe(claim, Reason.BARE, now_s)

    def refuse(
        self, sequence: int, *, again: bool, stands: bool, available: bool, now_s: float
    ) -> Claim | None:
        """Takes in a refusal.

        Args:
            sequence: The share's number.
            again: Whether the share goes out again with another claim.
            stands: Whether the refusal says that the share itself is good and kept.
            available: Whether the mint refused, and not only could not sign at the moment.
            now_s: The time.

        Returns:
            The claim that was refused.
        """
        claim = self._under_way.pop(sequence, None)
        if claim is None:
            return None
        self._unsigned.pop(claim.key, None)
        stands = claim.share_hash in self._standing or stands
        if not available:
            self.owe(claim, Reason.UNAVAILABLE, now_s)
        elif stands and not again:
            self.kept += 1
            self.owe(claim, Reason.UNCLAIMED, now_s)
        if again:
            self._standing[claim.share_hash] = None
        else:
            self._standing.pop(claim.share_hash, None)
        return claim

    def owe(self, claim: Claim, reason: Reason, now_s: float) -> None:
        """Counts a claim as unsigned."""
        self.lost.pop(claim.key, None)
        self._unsigned[claim.key] = _Unsigned(claim, reason, now_s)

    def sign(self, claims: Iterable[Claim]) -> None:
        """Takes in that claims are tokens now."""
        for claim in claims:
            self._unsigned.pop(claim.key, None)
            self.lost.pop(claim.key, None)
            self._standing.pop(claim.share_hash, None)
            self._signed_here += 1
            self._doubtful = 0

    def forget(self, claim: Claim) -> None:
        """Takes in that the pool does not know a claim; what it has acknowledged stays owed."""
        owed = self._unsigned.get(claim.key)
        if owed is not None and owed.reason is Reason.UNAVAILABLE:
            if claim.share_hash in self._standing:
                del self._unsigned[claim.key]  # another claim takes its place
            else:
                owed.reason = Reason.UNCLAIMED
                self.kept += 1
        if self.lost.pop(claim.key, None) is not None and claim.exponent is not None:
            self.gone += 1
            self._doubtful = min(self._doubtful + 1, self.unsigned_max)

    def drop(self, claim: Claim) -> None:
        """Asks for a claim no more; the wallet still knows of it."""
        self.lost.pop(claim.key, None)
        self._unsigned.pop(claim.key, None)

    def check(self, now_s: float) -> None:
        """Counts what is overdue, and no longer what is forgiven."""
        for claim in list(self._under_way.values()):
            if now_s - claim.sent_s >= OVERDUE_S and claim.key not in self._unsigned:
                self.owe(claim, Reason.UNANSWERED, now_s)
        for key, item in list(self._unsigned.items()):
            if not item.reason.is_fetchable and now_s - item.since_s >= FORGIVEN_S:
                del self._unsigned[key]

    def next_fetch(self, count: int) -> tuple[bytes, list[Claim]] | None:
        """Returns a keyset and up to `count` claims that are to be asked for, if there are any."""
        owed = (item.claim for item in self._unsigned.values() if item.reason.is_fetchable)
        wanted = [*self.lost.values(), *owed]
        if not wanted:
            return None
        keyset = wanted[0].keyset
        return keyset, [claim for claim in wanted if claim.keyset == keyset][:count]

"""Follows one connection of a job declarator client; knows no socket, clock, disk or chance.

Theory of operation. A client is given tokens, declares templates with them, sends the transactions
that nobody here has, and may push a block that it found. Each declaration walks one way:

    DeclareMiningJob -> RESOLVING -> JUDGING -> Success or Error
    DeclareMiningJob -> RESOLVING -> ASKING -> JUDGING -> Success or Error
    DeclareMiningJob -> RESOLVING -> ASKING -> Error and close: the transactions did not come

RESOLVING and JUDGING wait for the driver, which looks transactions up and gets the verdict; ASKING
waits for the client until a deadline. Whatever a declaration's end, its token is used up.

Requests for tokens wait, up to a bound, while the client asks faster than the meter allows; the
protocol has no message to refuse one. Declarations beyond their meter, or beyond those that may be
under way at once, are refused. Frames are bounded by what may come now: a long one is let in only
while transactions are due.

A pushed block is looked at only if it was mined on one of the templates that this connection had
accepted last, and its hash meets the target; so a flood of them costs some hashes, then the
connection. One that was pushed before is passed over.

What is published, judged and paid is decided elsewhere: this machine says what is due.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from radpool_sv2.declarator.effect import (
    Close,
    Declaration,
    Effect,
    Event,
    FindOwner,
    Forget,
    Judge,
    Judged,
    OwnerFound,
    Publish,
    Received,
    Refused,
    Resolve,
    Resolved,
    Send,
)
from radpool_sv2.declarator.rate import Meter
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.templates.coinbase import CoinbaseParts, root_of
from radpool_sv2.units import sha256d
from radpool_sv2.wire.frame import CORE
from radpool_sv2.wire.message.base import decode
from radpool_sv2.wire.message.job_declaration import (
    JOB_DECLARATION,
    TRANSACTIONS_MAX,
    AllocateMiningJobToken,
    AllocateMiningJobTokenSuccess,
    DeclareMiningJob,
    DeclareMiningJobError,
    DeclareMiningJobSuccess,
    ProvideMissingTransactions,
    ProvideMissingTransactionsSuccess,
    PushSolution,
)

if TYPE_CHECKING:
    from radpool_sv2.declarator.token import TokenStore
    from radpool_sv2.templates.declared import DeclaredJob, Owner
    from radpool_sv2.wire.frame import Frame
    from radpool_sv2.wire.message.base import Message

__all__ = ["ConnectionLimits", "DeclaringMachine", "Terms"]

MISSING_TXS: Final = "missing-txs"
RATE_EXCEEDED: Final = "declaration-rate-exceeded"
MISSING_FLAG: Final = "missing-declare-tx-data-flag"

DETAIL_BYTES_MAX: Final = 1_000
"""The longest explanation that goes into an Error."""

DECLARATION_BYTES_MAX: Final = 4 + 256 + 4 + 3 * (2 + 0xFFFF) + 2 + 32 * TRANSACTIONS_MAX + 1_024
"""The longest DeclareMiningJob, with a kilobyte for fields of extensions."""

TRANSACTIONS_BYTES_MAX: Final = 4 + 2 + 3 * TRANSACTIONS_MAX + 4_000_000 + 1_024
"""The longest ProvideMissingTransactions.Success: no block has more than 4,000,000 bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionLimits:
    """Bounds one connection.

    Attributes:
        tokens_per_minute: Tokens in the long run.
        tokens_burst: Tokens at once.
        tokens_waiting_max: Requests for tokens that wait for their turn; more close it.
        declarations_per_minute: Declarations in the long run.
        declarations_burst: Declarations at once.
        declarations_pending_max: Declarations under way at the same time.
        provide_deadline_s: How long transactions may take that were asked for.
        jobs_kept_max: Accepted templates that a pushed block may be of.
        solutions_per_minute: Pushed blocks that are looked at.
        solutions_bad_max: Pushed blocks that are none; one more closes it.
    """

    tokens_per_minute: int = 60
    tokens_burst: int = 20
    tokens_waiting_max: int = 16
    declarations_per_minute: int = 60
    declarations_burst: int = 20
    declarations_pending_max: int = 4
    provide_deadline_s: float = 20.0
    jobs_kept_max: int = 8
    solutions_per_minute: int = 60
    solutions_bad_max: int = 16


class Terms(Protocol):
    """Is what a declared coinbase must have; the pool decides it."""

    def check(self, owner: Owner, coinbase: CoinbaseParts) -> None:
        """Looks at the outputs of a coinbase.

        Raises:
            RemoteProtocolError: It does not pay the pool, or not for this owner; the error code
                says what is wrong.
        """


class Challenges(Protocol):
    """Knows which templates that were mined unseen are due to be revealed."""

    def owner(self, token: bytes) -> Owner | None:
        """Returns whose template a token stands for, if it is due."""


class _State(Enum):
    RESOLVING = auto()
    ASKING = auto()
    JUDGING = auto()


@dataclass(slots=True)
class _Pending:
    ticket: int
    request_id: int
    declaration: Declaration
    state: _State = _State.RESOLVING
    missing: tuple[int, ...] = ()
    deadline: float = 0.0


@dataclass(slots=True)
class _Waiting:
    request: AllocateMiningJobToken
    ticket: int = 0


@dataclass(slots=True)
class Counts:
    """Counts what a connection has done, for people."""

    tokens: int = 0
    declared: int = 0
    accepted: int = 0
    asked_for: int = 0
    solutions: int = 0
    refused: dict[str, int] = field(default_factory=dict)


class DeclaringMachine:
    """Is one connection behind its set-up; see the module's head.

    Attributes:
        counts: What has happened on it.
        closed: Whether it asked to be closed; from then on nothing moves it.
    """

    def __init__(  # noqa: PLR0913 - what a connection is made of
        self,
        *,
        connection: int,
        whole: bool,
        tokens: TokenStore,
        terms: Terms,
        challenges: Challenges,
        limits: ConnectionLimits,
        now: float,
    ) -> None:
        """Takes what the connection joins.

        Args:
            connection: The declarator's number of it.
            whole: Whether the client declares whole templates (DECLARE_TX_DATA).
            tokens: All tokens of the declarator.
            terms: What coinbases must have.
            challenges: Which templates are due to be revealed.
            limits: The bounds.
            now: The time, s.
        """
        self._connection = connection
        self._whole = whole
        self._tokens = tokens
        self._terms = terms
        self._challenges = challenges
        self._limits = limits
        self._effects: deque[Effect] = deque()
        self._tickets = 0
        self._waiting: deque[_Waiting] = deque()
        self._finding: dict[int, int] = {}
        self._pending: dict[int, _Pending] = {}
        self._jobs: deque[DeclaredJob] = deque(maxlen=limits.jobs_kept_max)
        self._bad_solutions = 0
        self._published: deque[bytes] = deque(maxlen=limits.jobs_kept_max)
        self._token_meter = Meter(limits.tokens_per_minute, limits.tokens_burst, now)
        self._declaration_meter = Meter(
            limits.declarations_per_minute, limits.declarations_burst, now
        )
        self._solution_meter = Meter(limits.solutions_per_minute, limits.solutions_per_minute, now)
        self.counts = Counts()
        self.closed = False

    @property
    def frame_bytes_max(self) -> int:
        """The longest payload that may come now."""
        asking = any(each.state is _State.ASKING for each in self._pending.values())
        return TRANSACTIONS_BYTES_MAX if asking else DECLARATION_BYTES_MAX

    @property
    def pending(self) -> int:
        """How many declarations are under way."""
        return len(self._pending)

    def poll(self) -> Effect | None:
        """Takes out the next effect; they are to be carried out in order."""
        return self._effects.popleft() if self._effects else None

    def next_deadline(self) -> float | None:
        """Returns when `handle_deadline` is due."""
        if self.closed:
            return None
        due = [each.deadline for each in self._pending.values() if each.state is _State.ASKING]
        if self._waiting:
            due.append(self._token_meter.ready_at(1))
        return min(due, default=None)

    def handle_deadline(self, now: float) -> None:
        """Does what is due at a time."""
        if self.closed:
            return
        self._find_owners(now)
        for each in list(self._pending.values()):
            if each.state is _State.ASKING and each.deadline <= now:
                detail = f"{len(each.missing)} transactions were asked for and did not come in time"
                self._refuse(each, MISSING_TXS, detail)
                self._close("transactions-timeout", detail)
                return

    def handle(self, event: Event, now: float) -> None:
        """Takes up what happened at a time."""
        if self.closed:
            return
        match event:
            case Received(frame):
                self._receive(frame, now)
            case OwnerFound():
                self._owner_found(event, now)
            case Resolved(ticket, missing):
                self._resolved(self._pending[ticket], missing, now)
            case Judged():
                self._judged(event, now)
            case Refused(ticket, error_code, detail):
                if ticket in self._finding:
                    # The protocol has no message that refuses a token.
                    self._close(error_code, detail)
                else:
                    self._refuse(self._pending[ticket], error_code, detail)
            case _:
                assert_never(event)

    # What the client sends.

    def _receive(self, frame: Frame, now: float) -> None:
        if frame.extension_type != CORE or frame.msg_type not in JOB_DECLARATION:
            return  # of an extension or a version that nobody here speaks
        try:
            message = decode(frame, JOB_DECLARATION)
        except RemoteProtocolError as error:
            self._close("malformed-message", str(error))
            return
        match message:
            case AllocateMiningJobToken():
                self._allocate(message, now)
            case DeclareMiningJob():
                self._declare(message, now)
            case ProvideMissingTransactionsSuccess():
                self._provided(message)
            case PushSolution():
                self._pushed(message, now)
            case _:
                pass  # a message that only a server sends

    def _allocate(self, request: AllocateMiningJobToken, now: float) -> None:
        if len(self._waiting) + len(self._finding) >= self._limits.tokens_waiting_max:
            self._close("token-rate-exceeded", "more tokens are asked for than are given in time")
            return
        self._waiting.append(_Waiting(request))
        self._find_owners(now)

    def _find_owners(self, now: float) -> None:
        while self._waiting and self._token_meter.take(1, now):
            request = self._waiting.popleft().request
            ticket = self._ticket()
            self._finding[ticket] = request.request_id
            self._effects.append(FindOwner(ticket, request.user_identifier))

    def _owner_found(self, event: OwnerFound, now: float) -> None:
        request_id = self._finding.pop(event.ticket)
        self._tokens.allocate(
            event.token, self._connection, event.owner, whole=self._whole, now=now
        )
        self.counts.tokens += 1
        self._send(AllocateMiningJobTokenSuccess(request_id, event.token, event.outputs))

    def _declare(self, message: DeclareMiningJob, now: float) -> None:
        if any(each.request_id == message.request_id for each in self._pending.values()):
            self._close(
                "request-id-reused",
                f"request {message.request_id} is under way, a second one cannot be told apart",
            )
            return
        self.counts.declared += 1
        try:
            declaration = self._admit(message, now)
        except RemoteProtocolError as error:
            self._send_error(message.request_id, error.error_code, str(error))
            return
        pending = _Pending(self._ticket(), message.request_id, declaration)
        self._pending[pending.ticket] = pending
        self._effects.append(Resolve(pending.ticket, declaration))

    def _admit(self, message: DeclareMiningJob, now: float) -> Declaration:
        if not self._whole:
            raise RemoteProtocolError(
                "the connection was set up without DECLARE_TX_DATA", MISSING_FLAG
            )
        if len(self._pending) >= self._limits.declarations_pending_max:
            raise RemoteProtocolError(
                f"{len(self._pending)} declarations are under way, which is the most", RATE_EXCEEDED
            )
        if not self._declaration_meter.take(1, now):
            raise RemoteProtocolError(
                f"{self._limits.declarations_per_minute} declarations a minute are the most",
                RATE_EXCEEDED,
            )
        owner = self._challenges.owner(message.mining_job_token)
        challenged = owner is not None
        if owner is None:
            owner = self._tokens.spend(message.mining_job_token, self._connection, now)
        coinbase = CoinbaseParts.declared(message.coinbase_tx_prefix, message.coinbase_tx_suffix)
        if not challenged:
            self._terms.check(owner, coinbase)
        return Declaration(
            owner=owner,
            token=message.mining_job_token,
            challenged=challenged,
            version=message.version,
            prefix=message.coinbase_tx_prefix,
            suffix=message.coinbase_tx_suffix,
            coinbase=coinbase,
            wtxids=message.wtxid_list,
        )

    def _resolved(self, pending: _Pending, missing: tuple[int, ...], now: float) -> None:
        assert pending.state is _State.RESOLVING, "a declaration is resolved once"
        pending.missing = missing
        if not missing:
            self._judge(pending, ())
            return
        pending.state = _State.ASKING
        pending.deadline = now + self._limits.provide_deadline_s
        self.counts.asked_for += len(missing)
        self._send(ProvideMissingTransactions(pending.request_id, missing))

    def _provided(self, message: ProvideMissingTransactionsSuccess) -> None:
        for each in self._pending.values():
            if each.state is _State.ASKING and each.request_id == message.request_id:
                break
        else:
            self._close("unasked-transactions", "transactions came that nobody had asked for")
            return
        given, due = len(message.transaction_list), len(each.missing)
        if given == due:
            self._judge(each, message.transaction_list)
        else:
            self._refuse(each, MISSING_TXS, f"{given} transactions came where {due} were asked for")

    def _judge(self, pending: _Pending, provided: tuple[bytes, ...]) -> None:
        pending.state = _State.JUDGING
        self._effects.append(Judge(pending.ticket, pending.declaration, pending.missing, provided))

    def _judged(self, event: Judged, now: float) -> None:
        pending = self._pending.pop(event.ticket)
        assert pending.state is _State.JUDGING, "a declaration is judged once"
        self.counts.accepted += 1
        if event.job is not None:
            self._tokens.declare(event.token, event.job, now)
            self._jobs.append(event.job)
        self._send(DeclareMiningJobSuccess(pending.request_id, event.token))

    def _pushed(self, solution: PushSolution, now: float) -> None:
        self.counts.solutions += 1
        for job in reversed(self._jobs):
            header = _solved(job, solution)
            if header is not None:
                if header not in self._published and self._solution_meter.take(1, now):
                    self._published.append(header)
                    self._effects.append(Publish(job, solution, header))
                return
        self._bad_solutions += 1
        if self._bad_solutions > self._limits.solutions_bad_max:
            self._close("bad-solutions", "blocks were pushed that no declared template makes")

    # What it is answered.

    def _refuse(self, pending: _Pending, error_code: str, detail: str) -> None:
        del self._pending[pending.ticket]
        if pending.state is _State.ASKING:
            self._effects.append(Forget(pending.ticket))
        self._send_error(pending.request_id, error_code, detail)

    def _send_error(self, request_id: int, error_code: str, detail: str) -> None:
        self.counts.refused[error_code] = self.counts.refused.get(error_code, 0) + 1
        told = detail.encode()[:DETAIL_BYTES_MAX].decode(errors="ignore").encode()
        self._send(DeclareMiningJobError(request_id, error_code, told))

    def _send(self, message: Message) -> None:
        self._effects.append(Send(message))

    def _close(self, reason: str, detail: str) -> None:
        self.closed = True
        self._pending.clear()
        self._finding.clear()
        self._waiting.clear()
        self._effects.append(Close(reason, detail))

    def _ticket(self) -> int:
        self._tickets += 1
        return self._tickets


def _solved(job: DeclaredJob, solution: PushSolution) -> bytes | None:
    """Returns the header of a block, if a solution makes one of a template."""
    tip, coinbase = job.tip, job.coinbase
    if solution.prev_hash != tip.prev_hash or solution.nbits != tip.nbits:
        return None
    if len(solution.extranonce) != coinbase.extranonce_len:
        return None
    root = root_of(coinbase.transaction(solution.extranonce, witness=False), job.merkle_path)
    numbers = (solution.ntime, solution.nbits, solution.nonce)
    header = (
        solution.version.to_bytes(4, "little")
        + solution.prev_hash
        + root
        + b"".join(each.to_bytes(4, "little") for each in numbers)
    )
    found = int.from_bytes(sha256d(header), "little")
    return header if found <= int.from_bytes(tip.target, "little") else None

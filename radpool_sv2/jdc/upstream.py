"""Speaks to one pool: tokens, declarations, custom jobs, shares. A machine without IO.

Theory of operation. One pool is two connections, for mining and for job declaration. Once both are
set up, the machine is started, and is in one of these phases:

    opening ── channel granted ──> ready ── first job accepted ──> working
       └──────────────┴──────────────────────────┴── a fault, see below ──> failed

When ready it keeps tokens ahead and takes each newest own template through these states; a new tip
supersedes whatever is under way:

    declared ── DeclareMiningJob.Success ──> offered ── SetCustomMiningJob.Success ──> accepted
        └── .Error, or superseded ──> refused <── .Error, or superseded ──┘

A token says in which epoch and at which target shares count, and may be older than the tip. So the
first job on a tip is made with a token at hand; once it is accepted, tokens are renewed, and if
they ask for other outputs, the next job follows at once.

In coinbase-only mode a job begins as offered, with the allocated token itself. While the pool is in
use, a job goes to the miners at once (optimistic mining): its shares are kept until it is accepted
and then go out in order, or are given up with it. When it is refused, the miners go back to the
last job that the pool accepted on the tip, or are let go until there is one.

What fails a pool, each by its own state and never by the code of an error: a connection that ends,
a channel that is refused or closed, no token in time, no verdict in time, no answer to a custom job
in time, `refusals_max` jobs refused in a row, no answer to a share in time, `rejected_shares_max`
shares of the present tip rejected in a row, and whatever no pool may say (RemoteProtocolError).

Bounds: JOBS_MAX jobs, `cached_shares_max` shares that wait, 65,536 under way, one declaration under
way for a tip, MISSING_MAX answers with transactions for one job, HIDDEN_MAX hidden jobs on a tip.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.jdc.coinbase import Coinbase, JobOutputs
from radpool_sv2.jdc.job import FoundShare, Job, JobState
from radpool_sv2.jdc.submission import Submissions, Totals
from radpool_sv2.jdc.token import Token, TokenStock
from radpool_sv2.wire.message.base import Message, decode
from radpool_sv2.wire.message.connection import Reconnect
from radpool_sv2.wire.message.job_declaration import (
    JOB_DECLARATION,
    AllocateMiningJobToken,
    AllocateMiningJobTokenSuccess,
    DeclareMiningJobError,
    DeclareMiningJobSuccess,
    ProvideMissingTransactions,
    PushSolution,
)
from radpool_sv2.wire.message.mining import (
    MINING,
    CloseChannel,
    OpenExtendedMiningChannel,
    OpenExtendedMiningChannelSuccess,
    OpenMiningChannelError,
    SetCustomMiningJob,
    SetCustomMiningJobError,
    SetCustomMiningJobSuccess,
    SetExtranoncePrefix,
    SetTarget,
    SubmitSharesError,
    SubmitSharesSuccess,
    UpdateChannel,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from radpool_sv2.jdc.carried import Carried
    from radpool_sv2.jdc.work import OwnTemplate
    from radpool_sv2.wire.frame import Frame

__all__ = [
    "Constrain",
    "Effect",
    "Fails",
    "Hidden",
    "Phase",
    "Publish",
    "Retargets",
    "ToDeclarator",
    "ToPool",
    "Upstream",
    "UpstreamSettings",
    "Withdraws",
    "Works",
]

JOBS_MAX: Final = 8
"""Jobs that are remembered: of the present tip, and what is still under way of the last."""

MISSING_MAX: Final = 4
"""How often a pool may ask for transactions of one job; once is what it needs."""

HIDDEN_MAX: Final = 256
"""Hidden jobs on one tip: an hour of them at one every 15 s. Each must be kept to be shown."""

REFUSAL_PAUSE_S: Final = 1.0
"""Before another try after a refusal: as long as a pool's node may lag behind at a new tip."""

RATE_MAX: Final = 1e30
"""Hashes a second: far above the whole world's, far below what a message cannot hold."""

RATE_PAUSE_S: Final = 10.0
RATE_STEP: Final = 10
"""The hash rate is told again when it has changed by a tenth, at most this often."""

REQUEST: Final = 1
TARGET_MAX: Final = b"\xff" * 32
CONNECTION_MESSAGES: Final = {Reconnect.msg_type: Reconnect}


class Phase(Enum):
    """Says how far a pool is."""

    OPENING = "opening"
    READY = "ready"
    WORKING = "working"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ToPool:
    """Asks to send on the mining connection."""

    message: Frame | Message


@dataclass(frozen=True, slots=True)
class ToDeclarator:
    """Asks to send on the connection for job declaration."""

    message: Message


@dataclass(frozen=True, slots=True)
class Publish:
    """Asks to give a job to the miners."""

    job: Job


@dataclass(frozen=True, slots=True)
class Withdraws:
    """Says that the pool pays for no job on this tip now: the miners are free until the next."""


@dataclass(frozen=True, slots=True)
class Retargets:
    """Says that the channel's target has changed, which jobs without a tag follow."""


@dataclass(frozen=True, slots=True)
class Constrain:
    """Asks that templates leave room for so many bytes and signature operations of outputs."""

    size: int
    sigops: int


@dataclass(frozen=True, slots=True)
class Hidden:
    """Says that the pool is given a job whose transactions it has not seen.

    It may count the job although its answer is never heard, so this does not wait for the answer.
    """

    job: Job


@dataclass(frozen=True, slots=True)
class Works:
    """Says that the pool has accepted a job: it can be used."""


@dataclass(frozen=True, slots=True)
class Fails:
    """Says that the pool is of no use now, and why; nothing follows.

    Attributes:
        reason: For people.
        elsewhere: Where it asked to be called instead; empty host and 0 mean the same place.
        of_declarator: Whether it was the declarator that asked.
    """

    reason: str
    elsewhere: tuple[str, int] | None = None
    of_declarator: bool = False


Effect: TypeAlias = (
    ToPool | ToDeclarator | Publish | Withdraws | Retargets | Constrain | Hidden | Works | Fails
)


@dataclass(frozen=True, kw_only=True, slots=True)
class UpstreamSettings:
    """Is what the configuration says of a pool; see `radpool_sv2.config.jdc`.

    Attributes:
        user: Whom the pool is to pay.
        full_template: Whether transactions are declared.
        extranonce_len: How many bytes of the channel's extranonce the engine fills.
    """

    user: str
    full_template: bool
    extranonce_len: int
    interval_s: float
    tokens_ahead: int
    open_deadline_s: float
    token_deadline_s: float
    declare_deadline_s: float
    custom_job_deadline_s: float
    share_deadline_s: float
    refusals_max: int
    rejected_shares_max: int
    cached_shares_max: int


@dataclass(slots=True)
class _Channel:
    number: int
    target: int
    prefix: bytes
    size: int


class Upstream:
    """Is the machine; see the module's head. Times are seconds of a clock that only goes on.

    Args:
        settings: The pool.
        numbers: Returns the next number for a job; never the same twice.
        totals: Where shares are counted.
        carried: The extension that carries the shares, if one does.
        name_owner: Says whom tokens are to pay, from what the extension said with the channel.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        numbers: Callable[[], int],
        totals: Totals,
        carried: Carried | None = None,
        name_owner: Callable[[bytes], str] | None = None,
    ) -> None:
        self._settings = settings
        self._numbers = numbers
        self._carried = carried
        self._name_owner = name_owner
        self._user = settings.user
        self.phase = Phase.OPENING
        self.submissions = Submissions(totals, settings.cached_shares_max)
        self.refusal = ""
        self._tokens = TokenStock(settings.tokens_ahead, settings.token_deadline_s)
        self._channel: _Channel | None = None
        self._newest: OwnTemplate | None = None
        self._jobs: dict[int, Job] = {}
        self._latest: Job | None = None
        self._accepted: Job | None = None
        self._under_way: tuple[Job, float] | None = None
        self._plan_s = 0.0
        self._refusals = 0
        self._rejected_row = 0
        self._hidden = (b"", 0)
        self._opened_by_s: float | None = None
        self._renewed_on = b""
        self._renewing = False
        self._rate = 0.0
        self._rate_told = (0.0, 0.0)
        self._in_use = False
        self._constraints = (0, 0)
        self._effects: deque[Effect] = deque()

    # What is known

    @property
    def job(self) -> Job | None:
        """The job that miners should have: the latest one."""
        return self._latest

    @property
    def is_failed(self) -> bool:
        """Whether it is of no use any more."""
        return self.phase is Phase.FAILED

    @property
    def declares(self) -> bool:
        """Whether whole templates are declared."""
        return self._settings.full_template

    @property
    def accepted_job(self) -> Job | None:
        """The latest job that the pool has accepted."""
        return self._accepted

    def knows(self, job: Job) -> bool:
        """Tells whether shares of a job are of use."""
        return not self.is_failed and job.state is not JobState.REFUSED and job.number in self._jobs

    def target_of(self, job: Job) -> int:
        """Returns what the hash of a share must not exceed to be sent to the pool."""
        if job.target is not None:
            return job.target
        assert self._channel is not None, "jobs are made of a channel"
        return self._channel.target

    # What happens

    def start(self, rate: float, now_s: float) -> None:
        """Asks for a channel: both connections are set up. `rate` is in hashes a second."""
        self._rate = rate = min(rate, RATE_MAX)
        self._rate_told = (rate, now_s)
        self._opened_by_s = now_s + self._settings.open_deadline_s
        request = OpenExtendedMiningChannel(
            request_id=REQUEST,
            user_identity=self._settings.user,
            nominal_hash_rate=rate,
            max_target=TARGET_MAX,
            min_extranonce_size=self._settings.extranonce_len,
        )
        self._to_pool(request if self._carried is None else self._carried.opening(request))

    def offer(self, own: OwnTemplate, now_s: float) -> None:
        """Takes the newest own template."""
        self._newest = own
        self._advance(now_s)

    def use(self, now_s: float) -> None:
        """Lets jobs go to the miners from now on."""
        self._in_use = True
        latest = self._latest
        self._advance(now_s)
        if latest is not None and self._latest is latest:
            self._effects.append(Publish(latest))

    def submit(self, share: FoundShare, now_s: float) -> None:
        """Takes a share of one of this pool's jobs; what does not meet the target stays here."""
        job = self._jobs.get(share.number)
        is_void = job is None or job.state is JobState.REFUSED or self.is_failed
        if job is None or is_void or self._channel is None:
            self.submissions.totals.given_up += 1
        elif not share.meets(self.target_of(job)):
            pass  # it was for this client only
        elif job.state is not JobState.ACCEPTED:
            self.submissions.cache(share, job, self._jobs.values())
        else:
            self._send_share(share, job, now_s)

    def solve(self, share: FoundShare) -> None:
        """Tells the declarator of a block, if the template is one that it has seen."""
        job = self._jobs.get(share.number)
        if job is None or not job.judged or not self._settings.full_template:
            return
        tip = job.own.tip
        solution = PushSolution(
            extranonce=job.coinbase.head + share.extranonce,
            prev_hash=tip.prev_hash,
            nonce=share.nonce,
            ntime=share.ntime,
            nbits=tip.nbits,
            version=share.version,
        )
        self._effects.append(ToDeclarator(solution))

    def set_rate(self, rate: float, now_s: float) -> None:
        """Takes the hash rate of all miners, hashes a second."""
        self._rate = rate = min(rate, RATE_MAX)
        told, since_s = self._rate_told
        step = abs(rate - told) * RATE_STEP
        if self._channel is None or step <= told or now_s - since_s < RATE_PAUSE_S:
            return
        self._rate_told = (rate, now_s)
        self._to_pool(UpdateChannel(self._channel.number, rate, TARGET_MAX))

    def stir(self, now_s: float) -> None:
        """Sends what the extension that carries the shares has for the pool."""
        if self._carried is not None and self._channel is not None and self._newest is not None:
            frames = self._carried.pass_on(
                self._channel.number, self.submissions, self._newest.tip.prev_hash, now_s
            )
            for frame in frames:
                self._to_pool(frame)

    def fail(
        self,
        reason: str,
        elsewhere: tuple[str, int] | None = None,
        *,
        of_declarator: bool = False,
    ) -> None:
        """Ends it; the first reason counts."""
        if self.phase is Phase.FAILED:
            return
        self.phase = Phase.FAILED
        self._in_use = False
        self._under_way = None
        self._effects.clear()
        self._effects.append(Fails(reason, elsewhere, of_declarator))
        self.submissions.end(self._jobs.values())
        if self._carried is not None:
            self._carried.end(reason)

    def leave(self) -> None:
        """Counts what has no answer when the connection is left; nothing if it has failed."""
        self.submissions.end(self._jobs.values())

    def poll(self) -> Effect | None:
        """Returns the next effect, in order."""
        return self._effects.popleft() if self._effects else None

    # Time

    def next_deadline(self) -> float | None:
        """Returns when `handle_deadline` is to be called."""
        return min((due_s for due_s, _ in self._deadlines()), default=None)

    def handle_deadline(self, now_s: float) -> None:
        """Gives up what is late, and declares what had to wait."""
        for due_s, reason in self._deadlines():
            if now_s >= due_s and reason:
                return self.fail(reason)
        return self._advance(now_s)

    def _deadlines(self) -> list[tuple[float, str]]:
        if self.phase is Phase.FAILED:
            return []
        settings, found = self._settings, list[tuple[float, str]]()
        if self.phase is Phase.OPENING and self._opened_by_s is not None:
            limit = f"{settings.open_deadline_s:g} s"
            found.append((self._opened_by_s, f"it opened no channel within {limit}"))
        token_s = self._tokens.next_deadline()
        if token_s is not None:
            found.append((token_s, f"it gave no token within {settings.token_deadline_s:g} s"))
        if self._under_way is not None:
            job, due_s = self._under_way
            what = "did not judge" if job.state is JobState.DECLARED else "did not answer to"
            found.append((due_s, f"it {what} a job in time"))
        elif self._is_plan_wanted() and self._tokens.is_ready:
            found.append((self._plan_s, ""))
        oldest_s = self.submissions.oldest_s
        if oldest_s is not None:
            limit = f"{settings.share_deadline_s:g} s"
            late = f"it did not answer to a share within {limit}"
            found.append((oldest_s + settings.share_deadline_s, late))
        return found

    # Jobs

    def _is_plan_wanted(self) -> bool:
        if self._channel is None or self._newest is None or self.phase is Phase.FAILED:
            return False
        latest = self._latest
        on, hidden = self._hidden
        if latest is not None and on == self._newest.tip.prev_hash and hidden >= HIDDEN_MAX:
            return False
        done = latest is not None and latest.own is self._newest
        return not done or (latest is not None and latest.state is JobState.REFUSED)

    def _advance(self, now_s: float) -> None:
        """Declares the newest template, if it is time to."""
        if not self._is_plan_wanted():
            return
        assert self._newest is not None, "nothing is wanted without a template"
        latest = self._latest
        is_tip_known = latest is not None and latest.prev_hash == self._newest.tip.prev_hash
        if is_tip_known and (self._under_way is not None or now_s < self._plan_s):
            return
        token = self._tokens.draw(now_s)
        self._ask_for_tokens(now_s)
        # Without one, the next that comes leads here again; its deadline is watched.
        if token is not None:
            self._plan(self._newest, token, now_s)

    def _plan(self, own: OwnTemplate, token: Token, now_s: float) -> None:
        channel = self._channel
        assert channel is not None, "a plan is made of a channel"
        if self._under_way is not None:
            self._drop(self._under_way[0])
        pad = bytes(channel.size - self._settings.extranonce_len)
        head = channel.prefix + pad
        whole = len(channel.prefix) + channel.size
        try:
            coinbase = Coinbase(own.template, token.outputs, head, whole)
        except LocalProtocolError as error:
            return self.fail(f"no block can have its extranonce: {error}")
        job = Job(self._numbers(), own, coinbase, pad, state=JobState.DECLARED)
        self._remember(job)
        self.submissions.totals.jobs_declared += 1
        self._plan_s = now_s + self._settings.interval_s
        if self._in_use:
            self._effects.append(Publish(job))
        if self._settings.full_template:
            self._declare(job, token, now_s)
        else:
            self._set_custom(job, token.token, now_s)
        return None

    def _remember(self, job: Job) -> None:
        self._latest = job
        self._jobs[job.number] = job
        while len(self._jobs) > JOBS_MAX:
            self.submissions.give_up(self._jobs.pop(next(iter(self._jobs))))

    def _drop(self, job: Job) -> None:
        """Waits for a job no longer."""
        job.state = JobState.REFUSED
        self.submissions.give_up(job)
        self._under_way = None

    def _declare(self, job: Job, token: Token, now_s: float) -> None:
        self._under_way = (job, now_s + self._settings.declare_deadline_s)
        self._effects.append(ToDeclarator(job.declaration(token.token)))

    def _set_custom(self, job: Job, token: bytes, now_s: float) -> None:
        channel, template, tip = self._channel, job.own.template, job.own.tip
        assert channel is not None, "a job is made of a channel"
        job.state, job.token = JobState.OFFERED, token
        self._under_way = (job, now_s + self._settings.custom_job_deadline_s)
        if not self._settings.full_template:
            on, count = self._hidden
            self._hidden = (tip.prev_hash, count + 1 if on == tip.prev_hash else 1)
            self._effects.append(Hidden(job))
        custom_job = SetCustomMiningJob(
            channel_id=channel.number,
            request_id=job.request,
            token=token,
            version=template.version,
            prev_hash=tip.prev_hash,
            min_ntime=tip.min_ntime,
            nbits=tip.nbits,
            coinbase_tx_version=template.coinbase_tx_version,
            coinbase_prefix=job.coinbase.script_prefix,
            coinbase_tx_input_n_sequence=template.coinbase_sequence,
            coinbase_tx_outputs=job.coinbase.outputs,
            coinbase_tx_locktime=template.coinbase_locktime,
            merkle_path=template.merkle_path,
        )
        self._to_pool(custom_job)

    def _awaited(self, request: int, state: JobState) -> Job | None:
        """Returns the job that an answer is about, if it is the one that is waited for."""
        if self._under_way is None:
            return None
        job, _ = self._under_way
        is_it = job.request == request and job.state is state
        return job if is_it else None

    def _refuse(self, job: Job, reason: str, now_s: float) -> None:
        self._drop(job)
        job.denied = True
        self.submissions.totals.jobs_refused += 1
        self.refusal = reason
        self._refusals += 1
        if self._refusals >= self._settings.refusals_max:
            return self.fail(f"it refused {self._refusals} jobs in a row, the last: {reason}")
        self._plan_s = now_s + REFUSAL_PAUSE_S
        if self._in_use:
            last = self._accepted
            stands = last is not None and self.knows(last) and last.prev_hash == job.prev_hash
            self._effects.append(Publish(last) if last is not None and stands else Withdraws())
        return None

    # Shares

    def _send_share(self, share: FoundShare, job: Job, now_s: float) -> None:
        if self._carried is not None:
            self._carried.take_in(share, job)
            return self.stir(now_s)
        assert self._channel is not None, "jobs are accepted on a channel"
        sequence = self.submissions.send(share, job, now_s)
        return self._to_pool(job.submission(self._channel.number, sequence, share))

    def _to_pool(self, message: Message | Frame) -> None:
        self._effects.append(ToPool(message))

    # What the declarator says

    def hear_declarator(self, frame: Frame, now_s: float) -> None:
        """Takes a frame of the connection for job declaration in.

        Raises:
            RemoteProtocolError: It says what no declarator may say.
        """
        if self.phase is Phase.FAILED:
            return None
        if frame.msg_type == Reconnect.msg_type:
            message = decode(frame, CONNECTION_MESSAGES)
            return self._hear_reconnect(message, of_declarator=True)
        match decode(frame, JOB_DECLARATION):
            case AllocateMiningJobTokenSuccess() as message:
                self._hear_token(message, now_s)
            case DeclareMiningJobSuccess() as message:
                job = self._awaited(message.request_id, JobState.DECLARED)
                if job is not None:
                    job.judged = True
                    self._set_custom(job, message.new_mining_job_token, now_s)
            case DeclareMiningJobError() as message:
                job = self._awaited(message.request_id, JobState.DECLARED)
                if job is not None:
                    self._refuse(job, _told(message.error_code, message.error_details), now_s)
            case ProvideMissingTransactions() as message:
                self._hear_missing(message)
            case None:
                pass  # of an extension that was not agreed on
            case other:
                raise RemoteProtocolError(f"a declarator sent {other.name}")
        return None

    def _hear_token(self, message: AllocateMiningJobTokenSuccess, now_s: float) -> None:
        outputs = JobOutputs.read(message.coinbase_tx_outputs)
        if not self._tokens.take_in(message.request_id, message.mining_job_token, outputs, now_s):
            return None
        room = (outputs.size, outputs.sigops)
        if room != self._constraints:
            self._constraints = room
            self._effects.append(Constrain(*room))
        if self._renewing:
            self._renewing = False
            latest = self._latest
            if latest is not None and latest.coinbase.asked != outputs and not self._under_way:
                return self._plan_again(now_s)
        return self._advance(now_s)

    def _plan_again(self, now_s: float) -> None:
        """Makes a job of the newest template with a token of now."""
        token = self._tokens.draw(now_s)
        self._ask_for_tokens(now_s)
        if token is not None and self._newest is not None:
            self._plan(self._newest, token, now_s)

    def _renew(self, job: Job, now_s: float) -> None:
        """Asks for tokens of now when the first job on a tip was accepted."""
        previous, self._renewed_on = self._renewed_on, job.prev_hash
        if previous not in {b"", job.prev_hash}:
            self._tokens.renew()
            self._renewing = True
            self._ask_for_tokens(now_s)

    def _ask_for_tokens(self, now_s: float) -> None:
        for request in self._tokens.ask(now_s):
            self._effects.append(ToDeclarator(AllocateMiningJobToken(self._user, request)))

    def _hear_missing(self, message: ProvideMissingTransactions) -> None:
        job = self._awaited(message.request_id, JobState.DECLARED)
        if job is None:
            return
        job.asked_for += 1
        if job.asked_for > MISSING_MAX:
            raise RemoteProtocolError(
                f"the declarator asked {job.asked_for} times for transactions of one job"
            )
        self._effects.append(ToDeclarator(job.provide(message)))

    def _hear_reconnect(self, message: Message | None, *, of_declarator: bool = False) -> None:
        assert isinstance(message, Reconnect)
        elsewhere = (message.new_host, message.new_port)
        self.fail("it asked to be called again", elsewhere, of_declarator=of_declarator)

    # What the pool says

    def hear_pool(self, frame: Frame, now_s: float) -> None:
        """Takes a frame of the mining connection in.

        Raises:
            RemoteProtocolError: It says what no pool may say.
        """
        if self.phase is Phase.FAILED:
            return None
        carried = self._carried
        if carried is not None and frame.extension_type == carried.carrier.extension_type:
            message = carried.hear(frame)
            if carried.is_overfull:
                return self.fail("it told more of its extension than could be taken in")
        elif frame.extension_type == 0 and frame.msg_type == Reconnect.msg_type:
            return self._hear_reconnect(decode(frame, CONNECTION_MESSAGES))
        else:
            message = decode(frame, MINING)
        return self._hear(message, now_s)

    def _hear(self, message: Message | None, now_s: float) -> None:
        match message:
            case OpenExtendedMiningChannelSuccess():
                self._hear_opened(message, now_s)
            case OpenMiningChannelError():
                self.fail(f"it refused the channel: {message.error_code}")
            case SetCustomMiningJobSuccess():
                self._hear_accepted(message, now_s)
            case SetCustomMiningJobError():
                job = self._awaited(message.request_id, JobState.OFFERED)
                if job is not None:
                    self._refuse(job, message.error_code, now_s)
            case SubmitSharesSuccess():
                self._rejected_row = 0
                self.submissions.accept(
                    message.last_sequence_number,
                    message.new_submits_accepted_count,
                    message.new_shares_sum,
                )
            case SubmitSharesError():
                self._hear_rejected(message)
            case SetTarget() | SetExtranoncePrefix() | CloseChannel():
                self._hear_channel(message, now_s)
            case _:
                pass  # jobs of the pool's own, groups, and what later versions may bring

    def _hear_opened(self, message: OpenExtendedMiningChannelSuccess, now_s: float) -> None:
        if self._channel is not None:
            raise RemoteProtocolError("the pool opened a second channel")
        if message.extranonce_size < self._settings.extranonce_len:
            return self.fail(
                f"it grants {message.extranonce_size} bytes of extranonce, and "
                f"{self._settings.extranonce_len} were asked for"
            )
        self._channel = _Channel(
            message.channel_id,
            int.from_bytes(message.target, "little"),
            message.extranonce_prefix,
            message.extranonce_size,
        )
        if self._carried is not None and self._name_owner is not None:
            self._user = self._name_owner(self._carried.granted)
        self.phase = Phase.READY
        return self._ask_for_tokens(now_s)

    def _hear_accepted(self, message: SetCustomMiningJobSuccess, now_s: float) -> None:
        job = self._awaited(message.request_id, JobState.OFFERED)
        if job is None:
            return
        job.state, job.job_id = JobState.ACCEPTED, message.job_id
        self.submissions.totals.jobs_accepted += 1
        self._under_way, self._accepted = None, job
        self._refusals = 0
        waiting, job.cached = job.cached, deque()
        for share in waiting:
            self._send_share(share, job, now_s)
        if self.phase is Phase.READY:
            self.phase = Phase.WORKING
            self._effects.append(Works())
        self._renew(job, now_s)
        self._advance(now_s)

    def _hear_rejected(self, message: SubmitSharesError) -> None:
        sequence, code = message.sequence_number, message.error_code
        if self._carried is not None and self._carried.refuse(sequence, code):
            self.submissions.withdraw(sequence)
            return
        sent = self.submissions.reject(sequence, code)
        newest = self._newest
        if sent is None or newest is None or sent.job.prev_hash != newest.tip.prev_hash:
            return  # a share of the last tip may have come late
        self._rejected_row += 1
        if self._rejected_row >= self._settings.rejected_shares_max:
            self.fail(
                f"it rejected {self._rejected_row} shares in a row on jobs that it had accepted, "
                f"the last with {code}"
            )

    def _hear_channel(
        self, message: SetTarget | SetExtranoncePrefix | CloseChannel, now_s: float
    ) -> None:
        channel = self._channel
        if channel is None or message.channel_id != channel.number:
            return
        if isinstance(message, CloseChannel):
            self.fail(f"it closed the channel: {message.reason_code}")
        elif isinstance(message, SetTarget):
            channel.target = int.from_bytes(message.maximum_target, "little")
            self._effects.append(Retargets())
        elif message.extranonce_prefix != channel.prefix:
            channel.prefix = message.extranonce_prefix
            if self._latest is not None and self._newest is not None:
                # Jobs that follow have it, so the next one follows now.
                self._plan_s = now_s
                self._latest = None
                self._advance(now_s)


def _told(code: str, details: bytes) -> str:
    """Joins an error code and its details to a line that can be shown."""
    text = details[:500].decode(errors="replace")
    shown = "".join(character if character.isprintable() else " " for character in text)
    return f"{code}: {shown}" if shown else code

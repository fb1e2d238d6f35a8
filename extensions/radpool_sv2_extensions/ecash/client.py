"""Is a miner's side of the extension: gives each share its claim and keeps the tokens.

Theory of operation. The native miner sends a share only with an attachment, and the attachments are
given here, so here is decided how much work the pool may hold: `claims` counts. One connection goes

    opened ── terms and keyset checked ──> mining ──> … ──> ended ──> the next one

and on each of them, before the first share leaves, the announced keyset is checked: signature, id,
policy, the mint's public list over a second path (`witness`), and the wallet's memory of which mint
showed it first. A keyset's successor is checked alike and takes its place with a new lot of
attachments. What was answered without a token, or not at all, is asked for (RedeemSharesEcash, mode
0) by blinded message, on whichever connection there is.

What no honest pool does ends the run: a wrong or unproven signature, a keyset that is not what it
says, messages that cannot be read. What an honest pool may do for a while (not signing) only stops
the submitting, until it signs again.

Source: `spec/05-ecash-messages.md`, `spec/08-wallet-recovery.md`.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from radpool_sv2._native.miner import Carrier
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.wallet import Wallet
from radpool_sv2.wallet.announcement import Announcement, Policy
from radpool_sv2_extensions.ecash.claims import Claim, Claims, Reason
from radpool_sv2_extensions.ecash.message import (
    CLAIMS_MAX,
    EXTENSION_TYPE,
    NO_TOKEN,
    EcashEpochUpdate,
    EcashKeysetAnnounce,
    EcashKeysetRequest,
    Message,
    OpenExtendedEcashMiningChannel,
    OpenExtendedEcashMiningChannelError,
    OpenExtendedEcashMiningChannelSuccess,
    RedeemSharesEcash,
    RedeemSharesEcashError,
    RedeemSharesEcashSuccess,
    SubmitSharesEcashExtended,
    SubmitSharesEcashExtendedError,
    SubmitSharesEcashExtendedSuccess,
    TermsAsked,
    TermsGranted,
    decode,
)
from radpool_sv2_extensions.ecash.message import Claim as ClaimTail
from radpool_sv2_extensions.ecash.running import RunningReceipt
from radpool_sv2_extensions.ecash.witness import UnreachableError, Witness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from radpool_sv2._native.miner import Miner, News
    from radpool_sv2.miner.side import SideOptions
    from radpool_sv2.wallet import Output
    from radpool_sv2_extensions.ecash.message import Receipt

__all__ = ["EcashMiner", "open_side"]

EAGER: Final = 1
LAZY: Final = 2
SIGN_MODES: Final = {"eager": EAGER, "lazy": LAZY}
POLICIES: Final = {policy.word: policy for policy in Policy}
PROTOCOL: Final = 1

REUSED: Final = "blinded-message-reused"
UNAVAILABLE: Final = "mint-unavailable"
RENEWING: Final = ("invalid-blinded-message",)
LAPSING: Final = ("stale-keyset", "unknown-keyset", "epoch-closed", REUSED)
"""After these the share is good and kept, and goes out again with another claim; after the latter
no claim for the same keyset would fare better, or the wallet has to skip some first."""

TICK_S: Final = 1.0
FETCH_FIRST_S: Final = 2.0
FETCH_LAST_S: Final = 60.0
EVENTS_MAX: Final = 256
SHORT_LEN: Final = 8
ANNOUNCED_MAX: Final = 4
"""Keysets that may be announced before the channel that they are for."""


class _Signature(NamedTuple):
    """Is what the wallet verifies for a claim."""

    amount: int
    blinded: bytes
    e: bytes
    s: bytes


@dataclass(slots=True)
class _Given:
    """Is an attachment that the native miner has."""

    keyset: bytes
    output: Output
    lot: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """Is a request for tokens that waits for its answer."""

    request_id: int
    keyset: bytes
    claims: list[Claim]
    until_s: float


@dataclass(slots=True)
class _Session:
    """Is one connection."""

    number: int
    channel: int
    terms: TermsGranted
    lot: int = 1
    keyset: Announcement | None = None
    lapsed: bool = False
    asked: _Asked | None = None
    requests: int = 0
    running: RunningReceipt | None = None


class EcashMiner:
    """Is the side of one miner; see the module's head.

    Args:
        wallet: Where tokens go.
        options: What the user said.
        witness: The second path.
    """

    def __init__(
        self, wallet: Wallet, options: SideOptions, witness: Witness | None = None
    ) -> None:
        self._wallet = wallet
        self._options = options
        self._witness = witness or Witness()
        self._sign_mode = SIGN_MODES[options.sign_mode]
        asked = list(Policy) if options.policy is None else [POLICIES[options.policy]]
        self._policies = sum(1 << policy for policy in asked)
        self.claims = Claims(options.unsigned_max)
        self._session: _Session | None = None
        self._announced: dict[bytes, bytes] = {}
        self._given: dict[int, _Given] = {}
        self._next_attachment = 0
        self._stock: deque[Output] = deque()
        self._stock_keyset = b""
        self._looked_back: set[bytes] = set()
        self._mint = b""
        self._keyset: Announcement | None = None
        self._fetch_at_s = 0.0
        self._fetch_pause_s = FETCH_FIRST_S
        self._events: deque[tuple[int, str]] = deque(maxlen=EVENTS_MAX)
        self._held = ""
        self._tokens = 0
        self._units = 0
        self._promised = 0
        self._dropped = 0
        self._refused: dict[str, int] = {}

    # What the core's miner asks

    @property
    def carrier(self) -> Carrier:
        """How the miner is to speak the extension."""
        return Carrier(
            extension_type=EXTENSION_TYPE,
            open_messages=(
                OpenExtendedEcashMiningChannel.msg_type,
                OpenExtendedEcashMiningChannelSuccess.msg_type,
                OpenExtendedEcashMiningChannelError.msg_type,
            ),
            open_tail=TermsAsked(
                policies_accepted=self._policies,
                sign_modes_accepted=1 << (self._sign_mode - 1),
                min_protocol=PROTOCOL,
                claim_pubkey=b"",
            ).encode(),
            share_messages=(
                SubmitSharesEcashExtended.msg_type,
                SubmitSharesEcashExtendedSuccess.msg_type,
                SubmitSharesEcashExtendedError.msg_type,
            ),
            renewing_codes=RENEWING,
            lapsing_codes=LAPSING,
        )

    async def run(self, machine: Miner) -> None:
        """Serves a miner that was started, until it is cancelled.

        Raises:
            RemoteProtocolError: The pool did what ends all trust in it.
        """
        descriptor = machine.event_fd()
        try:
            while True:
                with trio.move_on_after(TICK_S):
                    await trio.lowlevel.wait_readable(descriptor)
                # What was taken is taken in to the end: nobody would tell it again.
                with trio.CancelScope(shield=True):
                    await self.handle(machine, machine.take())
        finally:
            # Whatever ends this, no share leaves that nobody would look after.
            if self._session is not None:
                self._start_lot(machine, self._session)

    async def finish(self, machine: Miner) -> None:
        """Takes in what came last, once the miner has stopped."""
        await self.handle(machine, machine.take())
        if self.claims.lost:
            self._note(
                f"{len(self.claims.lost)} shares were not answered when the miner left: their "
                "tokens are asked for when it starts again, or by the wallet"
            )

    def events(self) -> list[tuple[int, str]]:
        """Returns what happened since the last call: milliseconds since 1970 and a sentence."""
        events = list(self._events)
        self._events.clear()
        return events

    def figures(self) -> dict[str, object]:
        """Returns the figures for programs.

        `tokens` and `units` were received since the start; `unsigned` is explained in `claims`;
        `refused` counts refused claims by code; `dropped` shares found no claim in time; `gone`
        ones the pool never got.
        """
        keyset = self._keyset
        return {
            "tokens": self._tokens,
            "units": self._units,
            "promised": self._promised,
            "unsigned": self.claims.unsigned,
            "unsigned_reasons": dict(self.claims.reasons),
            "lost": len(self.claims.lost),
            "gone": self.claims.gone,
            "dropped": self._dropped,
            "refused": dict(self._refused),
            "held": self._held or None,
            "policy": None if keyset is None or keyset.policy is None else keyset.policy.word,
            "sign_mode": self._options.sign_mode,
            "keyset": None if keyset is None else keyset.keyset_id.hex(),
        }

    def rows(self) -> list[tuple[str, str]]:
        """Returns the figures for people: a name and a text each."""
        rows = [("tokens", f"{self._tokens} worth {self._units} units of work")]
        if self._keyset is not None and self._keyset.policy is not None:
            name = self._keyset.keyset_id.hex()[:16]
            rows.append(("paid by", f"{self._keyset.policy.word}, keyset {name}"))
        if self._sign_mode == LAZY:
            rows.append(("promised", f"{self._promised} tokens, signed receipts"))
        if self.claims.unsigned:
            reasons = ", ".join(f"{count} {why}" for why, count in self.claims.reasons.items())
            rows.append(("unsigned", reasons))
        if self._refused:
            codes = ", ".join(f"{count} {code}" for code, count in sorted(self._refused.items()))
            rows.append(("claims refused", codes))
        if self._held:
            rows.append(("holding", self._held))
        return rows

    # News

    async def handle(self, machine: Miner, news: News) -> None:
        """Takes in what the native miner tells, and gives it what it may have."""
        now_s = trio.current_time()
        if news.opened is not None:
            await self._open(machine, news.session, *news.opened)
        for sequence, exponent, number, share_hash in news.submitted:
            given = self._given.pop(number)
            claim = Claim(given.keyset, given.output, exponent, share_hash, now_s, given.lot)
            self.claims.send(sequence, claim)
        for number in news.withdrawn:
            self._put_back(self._given.pop(number))
        self._dropped += news.dropped
        for message in [
            decode(msg_type, payload, channel_msg=bool(channel_msg))
            for msg_type, channel_msg, payload in news.frames
        ]:
            await self._take(machine, message, now_s)
        for sequence, code, again in news.refused:
            await self._refuse(machine, sequence, code, again=again, now_s=now_s)
        self.claims.check(now_s)
        if news.ended is not None:
            self._session = None
            self.claims.end()
        await self._go_on(machine, now_s)

    async def _take(self, machine: Miner, message: Message, now_s: float) -> None:
        match message:
            case EcashKeysetAnnounce():
                await self._hear_announcement(machine, message)
            case EcashEpochUpdate():
                await self._hear_update(message)
            case SubmitSharesEcashExtendedSuccess():
                await self._hear_receipts(message, now_s)
            case RedeemSharesEcashSuccess():
                await self._hear_signatures(message, now_s)
            case RedeemSharesEcashError():
                self._hear_refusal(message, now_s)
            case _:
                raise RemoteProtocolError(f"the pool sent {type(message).__name__} to a miner")

    # Terms and keysets

    async def _open(self, machine: Miner, number: int, channel: int, tail: bytes) -> None:
        terms = TermsGranted.decode(tail)
        if not self._policies >> terms.policy & 1 or terms.sign_mode != self._sign_mode:
            raise RemoteProtocolError(
                f"the pool opened the channel with policy {terms.policy} and sign mode "
                f"{terms.sign_mode}, which were not asked for"
            )
        if self._mint not in {b"", terms.mint_pubkey}:
            raise RemoteProtocolError(
                f"the pool's mint is {terms.mint_pubkey.hex()} now, and was {self._mint.hex()} on "
                "the last connection: ask its operator before mining on"
            )
        self._mint = terms.mint_pubkey
        self._session = _Session(number, channel, terms)
        if self._sign_mode == LAZY:
            self._session.running = RunningReceipt(self._mint, channel, self._options.wallet)
        self.claims.begin()
        self._fetch_at_s, self._fetch_pause_s = 0.0, FETCH_FIRST_S
        announced = self._announced.get(terms.keyset_id)
        if announced is not None:
            await self._adopt(machine, self._session, announced)

    async def _hear_announcement(self, machine: Miner, message: EcashKeysetAnnounce) -> None:
        payload = message.encode()
        session = self._session
        if session is None:
            while len(self._announced) >= ANNOUNCED_MAX:
                del self._announced[next(iter(self._announced))]
            self._announced[message.keyset_id] = payload
            return
        current = session.keyset
        wanted = session.terms.keyset_id if current is None else current.keyset_id
        if wanted in {message.keyset_id, message.supersedes}:
            await self._adopt(machine, session, payload)
        elif message.policy == session.terms.policy:
            raise RemoteProtocolError(
                f"the pool announced keyset {message.keyset_id.hex()} for this channel's policy, "
                f"and it does not supersede {wanted.hex()}"
            )

    async def _adopt(self, machine: Miner, session: _Session, payload: bytes) -> None:
        """Checks a keyset and uses it from now on."""
        found = Announcement.read(payload, self._mint)
        current = session.keyset
        if current is not None and found.payload == current.payload and not session.lapsed:
            return
        if (found.policy, found.z0) != (session.terms.policy, session.terms.z0):
            raise RemoteProtocolError(
                f"keyset {found.keyset_id.hex()} has policy {found.policy} and z0 {found.z0}; the "
                f"channel was opened with {session.terms.policy} and {session.terms.z0}"
            )
        url = self._options.mint_url or session.terms.mint_url
        if current is None or current.keyset_id != found.keyset_id:
            await self._compare(found, url)
        trusted = await self._wallet.trust(payload, self._mint, url or None)
        for warning in trusted.warnings:
            self._note(f"warning: {warning}")
        if current is None:
            await self._look_back(found)
        elif current.keyset_id != found.keyset_id:
            self._note(
                f"keyset {found.keyset_id.hex()[:16]} follows {current.keyset_id.hex()[:16]}"
            )
        if self._stock_keyset != found.keyset_id:
            self._stock.clear()
            self._stock_keyset = found.keyset_id
        self._keyset = session.keyset = found
        session.lapsed = False
        self._start_lot(machine, session)

    async def _compare(self, found: Announcement, url: str) -> None:
        if not url:
            self._note(
                "warning: the pool names no address of its mint, so nobody sees whether other "
                "miners are shown the same keyset: give --mint-url"
            )
            return
        try:
            await self._witness.compare(found, url)
        except UnreachableError as error:
            self._note(
                f"warning: whether other miners are shown the same keyset is not known: {error}"
            )

    async def _look_back(self, found: Announcement) -> None:
        """Asks for what an earlier run did not get: of this keyset and of the one before."""
        for keyset_id in filter(None, (found.keyset_id, found.supersedes)):
            if keyset_id in self._looked_back:
                continue
            self._looked_back.add(keyset_id)
            try:
                await self._wallet.keyset(keyset_id)
            except RemoteProtocolError:
                continue  # the wallet never mined with it
            await self._ask_for_missing(keyset_id)

    async def _ask_for_missing(self, keyset_id: bytes) -> None:
        stocked = {(given.keyset, given.output.counter) for given in self._given.values()}
        for output in await self._wallet.missing(keyset_id):
            claim = Claim(keyset_id, output)
            if claim.key not in stocked and not self.claims.knows(claim):
                self.claims.lost[claim.key] = claim

    async def _hear_update(self, message: EcashEpochUpdate) -> None:
        try:
            await self._wallet.take_update(message.encode())
        except RemoteProtocolError as error:
            if error.error_code != "unknown-keyset":
                raise

    # Claims

    def _put_back(self, given: _Given) -> None:
        """Keeps an output that nobody saw for the next share."""
        if given.keyset == self._stock_keyset:
            self._stock.append(given.output)

    def _start_lot(self, machine: Miner, session: _Session) -> None:
        session.lot += 1
        machine.give(session.number, session.lot, [])

    async def _go_on(self, machine: Miner, now_s: float) -> None:
        session = self._session
        if session is None:
            return
        await self._fetch(machine, session, now_s)
        held = self._why_held()
        if held != self._held:
            self._note(held or "the pool has signed: shares are submitted again")
            self._held = held
            if held:
                self._start_lot(machine, session)
        wanted = self.claims.credit - len(self._given)
        if session.keyset is None or session.lapsed or wanted <= 0:
            return
        keyset_id = session.keyset.keyset_id
        outputs = [self._stock.popleft() for _ in range(min(wanted, len(self._stock)))]
        if len(outputs) < wanted:
            outputs += await self._wallet.reserve(keyset_id, wanted - len(outputs))
        items = []
        for output in outputs:
            self._given[self._next_attachment] = _Given(keyset_id, output, session.lot)
            tail = ClaimTail(keyset_id[:SHORT_LEN], output.blinded).encode()
            items.append((self._next_attachment, tail))
            self._next_attachment += 1
        if not machine.give(session.number, session.lot, items):
            for number, _ in items:
                self._put_back(self._given.pop(number))

    def _why_held(self) -> str:
        if self.claims.unsigned < self.claims.unsigned_max:
            return ""
        reasons = ", ".join(f"{count} {why}" for why, count in self.claims.reasons.items())
        return (
            f"nothing more is submitted: {self.claims.unsigned} shares have no token ({reasons}). "
            "The pool is asked for them; choose another one if it does not sign"
        )

    async def _refuse(
        self, machine: Miner, sequence: int, code: str, *, again: bool, now_s: float
    ) -> None:
        stands = code in RENEWING or code in LAPSING
        claim = self.claims.refuse(
            sequence, again=again, stands=stands, available=code != UNAVAILABLE, now_s=now_s
        )
        if claim is None:
            return
        self._refused[code] = self._refused.get(code, 0) + 1
        session = self._session
        if code == REUSED:
            beyond = await self._wallet.skip(claim.keyset, claim.output.counter)
            self._note(
                f"the mint has seen claim {claim.output.counter} before: this wallet is an old "
                f"copy. It goes on at {beyond}, and asks for the tokens that it does not have"
            )
            self._stock.clear()
            await self._ask_for_missing(claim.keyset)
        if session is None or code not in LAPSING or claim.lot != session.lot:
            return
        if code == REUSED:
            self._start_lot(machine, session)
        elif not session.lapsed:
            session.lapsed = True
            request = EcashKeysetRequest(keyset_id=b"")
            self._send(machine, session, request)

    # Answers

    async def _hear_receipts(self, message: SubmitSharesEcashExtendedSuccess, now_s: float) -> None:
        answered = [
            (receipt, claim)
            for receipt in message.receipts
            if (claim := self.claims.answer(receipt.sequence_number)) is not None
        ]
        bare = message.new_submits_accepted_count - len(message.receipts)
        self.claims.pass_over(message.last_sequence_number, bare, now_s)
        running = None if self._session is None else self._session.running
        if running is not None:
            await running.take(message, answered)
            self._promised += len(answered)
            self.claims.sign(claim for _, claim in answered)
            return
        for receipt, claim in answered:
            if not receipt.signature:
                short = receipt.z == NO_TOKEN
                self.claims.owe(claim, Reason.SHORT if short else Reason.BARE, now_s)
        signed = [(receipt, claim) for receipt, claim in answered if receipt.signature]
        await self._receive([(claim, receipt) for receipt, claim in signed])
        for receipt, claim in signed:
            if claim.exponent is not None and receipt.z < claim.exponent:
                self.claims.owe(claim, Reason.SHORT, now_s)

    async def _receive(self, signed: Sequence[tuple[Claim, Receipt]]) -> None:
        """Has the wallet verify and keep tokens, keyset by keyset."""
        z0 = 0 if self._session is None else self._session.terms.z0

        def amount(receipt: Receipt) -> int:
            # Below z0 there is no key, and for no amount there is none either.
            return 1 << (receipt.z - z0) if receipt.z >= z0 else 0

        for keyset_id in dict.fromkeys(claim.keyset for claim, _ in signed):
            await self._keep(
                keyset_id,
                [
                    (claim, _Signature(amount(receipt), receipt.signature, receipt.e, receipt.s))
                    for claim, receipt in signed
                    if claim.keyset == keyset_id
                ],
            )

    async def _keep(self, keyset_id: bytes, signed: Sequence[tuple[Claim, _Signature]]) -> None:
        if not signed:
            return
        receipts = [(claim.output.counter, *signature) for claim, signature in signed]
        received = await self._wallet.receive(keyset_id, receipts)
        self._tokens += received.stored
        self._units += received.units
        self.claims.sign(claim for claim, _ in signed if claim.output.counter not in received.bad)
        if received.bad:
            raise RemoteProtocolError(
                f"{len(received.bad)} of {len(receipts)} signatures are not by the announced keys "
                f"of keyset {keyset_id.hex()}: such tokens are worth nothing, and a key of its own "
                "marks a miner. Nothing more was submitted; do not mine on this pool"
            )

    # Fetching

    async def _fetch(self, machine: Miner, session: _Session, now_s: float) -> None:
        if session.asked is not None and now_s >= session.asked.until_s:
            session.asked = None
            self._fetch_later(now_s)
        if session.asked is not None or now_s < self._fetch_at_s or session.keyset is None:
            return
        found = self.claims.next_fetch(CLAIMS_MAX)
        if found is None:
            self._fetch_pause_s = FETCH_FIRST_S
            return
        keyset_id, claims = found
        session.requests += 1
        request = RedeemSharesEcash(
            request_id=session.requests,
            mode=0,
            keyset_id=keyset_id,
            claims=tuple(claim.output.blinded for claim in claims),
            inputs=(),
            outputs=(),
        )
        if self._send(machine, session, request):
            session.asked = _Asked(session.requests, keyset_id, claims, now_s + FETCH_LAST_S)

    def _fetch_later(self, now_s: float, pause_s: float = 0.0) -> None:
        self._fetch_at_s = now_s + max(pause_s, self._fetch_pause_s)
        self._fetch_pause_s = min(2 * self._fetch_pause_s, FETCH_LAST_S)

    def _answered(self, request_id: int) -> _Asked | None:
        session = self._session
        if session is None or session.asked is None or session.asked.request_id != request_id:
            return None
        asked, session.asked = session.asked, None
        return asked

    async def _hear_signatures(self, message: RedeemSharesEcashSuccess, now_s: float) -> None:
        asked = self._answered(message.request_id)
        if asked is None:
            return
        claims = dict(enumerate(asked.claims))
        signed = [
            (claims[item.index], _Signature(item.amount, item.signature, item.e, item.s))
            for item in message.signatures
            if item.index in claims
        ]
        for claim in filter(None, map(claims.get, message.unknown)):
            self.claims.forget(claim)
        for claim in filter(None, map(claims.get, message.pending)):
            # What an earlier run left, and what is signed only later, is the wallet's to ask for.
            if claim.exponent is None or self._sign_mode == LAZY:
                self.claims.drop(claim)
            elif not self.claims.is_owed(claim):
                self.claims.owe(claim, Reason.PENDING, now_s)
        if message.pending or not message.signatures:
            self._fetch_later(now_s)
        await self._keep(asked.keyset, signed)

    def _hear_refusal(self, message: RedeemSharesEcashError, now_s: float) -> None:
        if self._answered(message.request_id) is None:
            return
        self._note(f"the pool did not look for missing tokens: {message.error_code}")
        self._fetch_later(now_s, float(message.retry_after_s))

    def _send(self, machine: Miner, session: _Session, message: Message) -> bool:
        return machine.send(
            session.number,
            message.msg_type,
            channel_msg=message.channel_msg,
            payload=message.encode(),
        )

    def _note(self, text: str) -> None:
        self._events.append((time.time_ns() // 1_000_000, text))


@asynccontextmanager
async def open_side(options: SideOptions) -> AsyncIterator[EcashMiner]:
    """Opens the wallet and gives the side that fills it.

    Raises:
        ConfigError: There is no wallet in the directory.
    """
    async with Wallet.using(options.wallet) as wallet:
        yield EcashMiner(wallet, options)

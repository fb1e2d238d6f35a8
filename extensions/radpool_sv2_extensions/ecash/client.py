"""Is a miner's side of the extension: gives each share its claim and keeps the tokens.

Theory of operation. The native miner sends a share only with an attachment, and the attachments are
given here, so here is decided how much work the pool may hold: `claims` counts. One connection goes

    opened ── terms and keyset checked ──> mining ──> … ──> ended ──> the next one

and on each of them, before the first share leaves, the announced keyset is checked: signature, id,
policy, the mint's public list over a second path (`witness`), and the wallet's memory of which mint
showed it first. A keyset's successor is checked alike and takes its place with a new lot of
attachments. What was answered without a token, or not at all, is asked for (RedeemSharesEcash, mode
0) by blinded message, on whichever connection there is.

What shares earn above their tokens belongs to the claim key that the channel was opened with: one
for each run, kept when the connection changes. Leaving, the miner asks for it (`leaving`).

What no honest pool does ends the run: a wrong or unproven signature, a keyset that is not what it
says, messages that cannot be read. What an honest pool may do for a while (not signing) only stops
the submitting, until it signs again.

Source: `spec/05-ecash-messages.md`, `spec/08-wallet-recovery.md`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from radpool_sv2._native.miner import Carrier
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.wallet import Wallet
from radpool_sv2.wallet.announcement import Announcement, Policy
from radpool_sv2_extensions.ecash.claims import Claim, Claims, Reason
from radpool_sv2_extensions.ecash.fetching import Fetching
from radpool_sv2_extensions.ecash.leaving import cash_out
from radpool_sv2_extensions.ecash.message import (
    EXTENSION_TYPE,
    NO_TOKEN,
    SIGNATURE_LEN,
    EcashEpochUpdate,
    EcashKeysetAnnounce,
    EcashKeysetRequest,
    Message,
    OpenExtendedEcashMiningChannel,
    OpenExtendedEcashMiningChannelError,
    OpenExtendedEcashMiningChannelSuccess,
    RedeemSharesEcashError,
    RedeemSharesEcashSuccess,
    SubmitSharesEcashExtended,
    SubmitSharesEcashExtendedError,
    SubmitSharesEcashExtendedSuccess,
    TermsAsked,
    TermsGranted,
    decode,
)
from radpool_sv2_extensions.ecash.report import Report
from radpool_sv2_extensions.ecash.running import RunningReceipt
from radpool_sv2_extensions.ecash.stock import Stock
from radpool_sv2_extensions.ecash.witness import UnreachableError, Witness
from radpool_sv2_extensions.ecash.worth import Worth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from radpool_sv2.miner.side import CarriedMiner, MinerNews, SideOptions
    from radpool_sv2.wallet.claim_key import ClaimKey
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
LAPSING: Final = ("stale-keyset", "unknown-keyset", "epoch-closed", REUSED, UNAVAILABLE)
"""After these the share is good and kept, and goes out again with another claim; after the latter
no claim for the same keyset would fare better, or not now, or the wallet has to skip some first."""

UNAVAILABLE_S: Final = 10.0
"""How long no share goes out when the mint was unavailable: seven times that, as often as a share
goes out again, is less than the two minutes for which a pool knows a job."""

WORTHLESS: Final = frozenset({"epoch-void", "expired"})
UNKNOWN: Final = "unknown-epoch"
"""What a refused request says of the keyset that was asked about."""

TICK_S: Final = 1.0
WORTHS_MAX: Final = 4
ANNOUNCED_MAX: Final = 4
"""Keysets that may be announced before the channel that they are for."""


class _Signature(NamedTuple):
    """Is what the wallet verifies for a claim."""

    amount: int
    blinded: bytes
    e: bytes
    s: bytes

    @classmethod
    def of(cls, receipt: Receipt, z0: int) -> _Signature:
        """Reads a receipt; below z0 there is no key, as there is none for no amount."""
        amount = 1 << (receipt.z - z0) if receipt.z >= z0 else 0
        return cls(amount, receipt.signature, receipt.e, receipt.s)


@dataclass(slots=True)
class _Session:
    """Is one connection.

    Attributes:
        number: The native miner's number for it.
        terms: What the pool granted.
        running: The running receipt of its channel, in lazy mode.
        lot: The present lot of attachments.
        keyset: What shares claim now.
        lapsed: Whether the pool has refused that keyset; then its successor is waited for.
        resume_s: When shares go out again, if the mint was unavailable.
        fetching: The asking for tokens.
    """

    number: int
    terms: TermsGranted
    running: RunningReceipt | None
    lot: int = 1
    keyset: Announcement | None = None
    lapsed: bool = False
    resume_s: float | None = None
    fetching: Fetching = field(default_factory=Fetching)


class EcashMiner:
    """Is the side of one miner; see the module's head.

    Args:
        wallet: Where tokens go.
        options: What the user said.
        witness: The second path.
        claim_key: What belongs to it that no token stands for; without, it ends with the channel.
    """

    word = "wallet"

    def __init__(
        self,
        wallet: Wallet,
        options: SideOptions,
        witness: Witness | None = None,
        claim_key: ClaimKey | None = None,
    ) -> None:
        self._wallet = wallet
        self._options = options
        self._witness = witness or Witness()
        self._sign_mode = SIGN_MODES[options.sign_mode]
        asked = list(Policy) if options.policy is None else [POLICIES[options.policy]]
        self._policies = sum(1 << policy for policy in asked)
        self.claims = Claims(options.unsigned_max)
        self._report = Report(self.claims, options.sign_mode)
        self._stock = Stock()
        self._session: _Session | None = None
        self._announced: dict[bytes, bytes] = {}
        self._looked_back: set[bytes] = set()
        self._mint = b""
        self._claim_key = claim_key
        self._worths: dict[bytes, Worth] = {}
        self._left_over_min = 0

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
            open_tail=self._terms_asked.encode(),
            share_messages=(
                SubmitSharesEcashExtended.msg_type,
                SubmitSharesEcashExtendedSuccess.msg_type,
                SubmitSharesEcashExtendedError.msg_type,
            ),
            renewing_codes=RENEWING,
            lapsing_codes=LAPSING,
        )

    @property
    def _terms_asked(self) -> TermsAsked:
        return TermsAsked(
            policies_accepted=self._policies,
            sign_modes_accepted=1 << (self._sign_mode - 1),
            min_protocol=PROTOCOL,
            claim_pubkey=b"" if self._claim_key is None else self._claim_key.public,
        )

    def declarer(self, tail: bytes) -> str:
        """Says whom a job declarator is to pay: the ecash of the policy that was granted."""
        return f"ecash:{Policy(TermsGranted.decode(tail).policy).word}"

    async def run(self, machine: CarriedMiner) -> None:
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

    async def finish(self, machine: CarriedMiner) -> None:
        """Takes in what came last, once the miner has stopped."""
        await self.handle(machine, machine.take())
        await self._cash_out()
        if self.claims.lost:
            self._report.note(
                f"{len(self.claims.lost)} shares were not answered when the miner left: their "
                "tokens are asked for when it starts again, or by the wallet"
            )

    async def _cash_out(self) -> None:
        """Asks for what shares left over, where anything can be."""
        if self._claim_key is None or not self._report.by_value:
            return
        units, notes = await cash_out(self._wallet, self._mint, self._claim_key.counter)
        for note in notes:
            self._report.note(note)
        worth = self._report.worth
        owed = self._left_over_min + sum(each.left_over_min for each in self._worths.values())
        if units is not None and worth is not None and worth.unit_value:
            missing = owed // worth.unit_value - units
            if missing > 0:
                self._report.note(
                    f"warning: at the price of the subsidy alone {missing} units more are left "
                    "over than the mint gave: templates paid the pool less, the difficulty rose "
                    "meanwhile, or the mint keeps part. Its published books tell which"
                )

    def events(self) -> list[tuple[int, str]]:
        """Returns what happened since the last call: milliseconds since 1970 and a sentence."""
        return self._report.events()

    def figures(self) -> dict[str, object]:
        """Returns the figures for programs: see `Report.figures`."""
        return self._report.figures()

    def rows(self) -> list[tuple[str, str]]:
        """Returns the figures for people: a name and a text each."""
        return self._report.rows()

    # News

    async def handle(self, machine: CarriedMiner, news: MinerNews) -> None:
        """Takes in what the native miner tells, and gives it what it may have."""
        now_s = trio.current_time()
        if news.opened is not None:
            await self._open(machine, news.session, *news.opened)
        for sequence, exponent, number, share_hash in news.submitted:
            given = self._stock.send(number)
            claim = Claim(given.keyset, given.output, exponent, share_hash, now_s, given.lot)
            self.claims.send(sequence, claim)
        self._stock.put_back(news.withdrawn)
        self._report.dropped += news.dropped
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

    async def _take(self, machine: CarriedMiner, message: Message, now_s: float) -> None:
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

    async def _open(self, machine: CarriedMiner, number: int, channel: int, tail: bytes) -> None:
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
        running = None
        if self._sign_mode == LAZY:
            running = RunningReceipt(self._mint, channel, self._options.directory)
        self._session = _Session(number, terms, running)
        self.claims.begin()
        announced = self._announced.get(terms.keyset_id)
        if announced is not None:
            await self._adopt(machine, self._session, announced)

    async def _hear_announcement(self, machine: CarriedMiner, message: EcashKeysetAnnounce) -> None:
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

    async def _adopt(self, machine: CarriedMiner, session: _Session, payload: bytes) -> None:
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
        url = self._options.mint_url or session.terms.mint_url or await self._known_url()
        if current is None or current.keyset_id != found.keyset_id:
            self._weigh(found, await self._compare(found, url))
        trusted = await self._wallet.trust(payload, self._mint, url or None)
        kept = trusted.keyset.announcement.payload
        if kept[:-SIGNATURE_LEN] != payload[:-SIGNATURE_LEN]:
            raise RemoteProtocolError(
                f"keyset {found.keyset_id.hex()} was announced to this wallet before with other "
                "terms: what is announced holds to the keyset's end. Ask the operator"
            )
        for warning in trusted.warnings:
            self._report.note(f"warning: {warning}")
        if self._claim_key is not None and found.policy is not None:
            counter = self._claim_key.counter
            await self._wallet.open_claim_key(counter, self._mint, found.policy)
        if current is None:
            await self._look_back(found)
        elif current.keyset_id != found.keyset_id:
            self._report.note(
                f"keyset {found.keyset_id.hex()[:16]} follows {current.keyset_id.hex()[:16]}"
            )
        self._stock.turn_to(found.keyset_id)
        self._report.keyset = session.keyset = found
        session.lapsed = False
        self._start_lot(machine, session)

    async def _known_url(self) -> str:
        """Returns where the wallet has met this mint before; empty if nowhere."""
        places = [each.url for each in await self._wallet.mints() if each.public_key == self._mint]
        return next((url for url in places if url), "")

    def _weigh(self, found: Announcement, unit_value: int | None) -> None:
        """Begins to count for a keyset, or goes on; the last few are kept for late answers."""
        known = self._worths.get(found.keyset_id)
        if known is None or known.unit_value is None:
            known = self._worths[found.keyset_id] = Worth(found.z0, unit_value)
        elif unit_value not in {None, known.unit_value}:
            raise RemoteProtocolError(
                f"a unit of keyset {found.keyset_id.hex()} costs {unit_value} now, and cost "
                f"{known.unit_value} before: what it costs holds to the keyset's end"
            )
        while len(self._worths) > WORTHS_MAX:
            self._left_over_min += self._worths.pop(next(iter(self._worths))).left_over_min
        self._report.weigh(known)

    async def _compare(self, found: Announcement, url: str) -> int | None:
        """Returns what a unit of a keyset costs of shares' value; None if nobody knows."""
        if not url:
            self._report.note(
                "warning: the pool names no address of its mint, so nobody sees whether other "
                "miners are shown the same keyset: give --mint-url"
            )
            return None
        try:
            return await self._witness.compare(found, url)
        except UnreachableError as error:
            self._report.note(
                f"warning: whether other miners are shown the same keyset is not known: {error}"
            )
            return None

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
        unsent = self._stock.keys
        for output in await self._wallet.missing(keyset_id):
            claim = Claim(keyset_id, output)
            if claim.key not in unsent and not self.claims.knows(claim):
                self.claims.lost[claim.key] = claim

    async def _hear_update(self, message: EcashEpochUpdate) -> None:
        try:
            await self._wallet.take_update(message.encode())
        except RemoteProtocolError as error:
            if error.error_code != "unknown-keyset":
                raise

    # Claims

    def _start_lot(self, machine: CarriedMiner, session: _Session) -> None:
        session.lot += 1
        machine.give(session.number, session.lot, [])

    async def _go_on(self, machine: CarriedMiner, now_s: float) -> None:
        session = self._session
        if session is None:
            return
        if session.keyset is not None:
            request = session.fetching.next(self.claims, now_s)
            if request is not None:
                self._send(machine, session, request)
        was_held = bool(self._report.held)
        if self._report.hold() and not was_held:
            self._start_lot(machine, session)
        if session.resume_s is not None and now_s >= session.resume_s and not self.claims.in_doubt:
            session.resume_s = None
            self._start_lot(machine, session)
        is_waiting = session.lapsed or session.resume_s is not None
        wanted = self.claims.credit - self._stock.given
        if session.keyset is None or is_waiting or wanted <= 0:
            return
        outputs = self._stock.draw(wanted)
        if len(outputs) < wanted:
            missing = wanted - len(outputs)
            outputs += await self._wallet.reserve(session.keyset.keyset_id, missing)
        attachments = self._stock.give(outputs, session.lot)
        if not machine.give(session.number, session.lot, attachments):
            self._stock.put_back(number for number, _ in attachments)

    async def _refuse(
        self, machine: CarriedMiner, sequence: int, code: str, *, again: bool, now_s: float
    ) -> None:
        stands = code in RENEWING or code in LAPSING
        claim = self.claims.refuse(
            sequence, again=again, stands=stands, available=code != UNAVAILABLE, now_s=now_s
        )
        if claim is None:
            return
        self._report.refused[code] += 1
        session = self._session
        if code == REUSED:
            beyond = await self._wallet.skip(claim.keyset, claim.output.counter)
            self._report.note(
                f"the mint has seen claim {claim.output.counter} before: this wallet is an old "
                f"copy. It goes on at {beyond}, and asks for the tokens that it does not have"
            )
            self._stock.clear()
            await self._ask_for_missing(claim.keyset)
        if session is None or code not in LAPSING or claim.lot != session.lot:
            return
        if code == REUSED:
            self._start_lot(machine, session)
        elif code == UNAVAILABLE:
            if session.resume_s is None:
                self._report.note(f"the mint is unavailable: shares wait for {UNAVAILABLE_S:.0f} s")
            session.resume_s = now_s + UNAVAILABLE_S
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
            self._hear_promises(answered, now_s)
            return
        for receipt, claim in answered:
            if receipt.signature:
                continue
            if receipt.z != NO_TOKEN:
                self.claims.owe(claim, Reason.BARE, now_s)
            elif self._is_paid(claim, 0):
                self._leave_over(claim)
            else:
                self.claims.owe(claim, Reason.SHORT, now_s)
        signed = [(claim, receipt) for receipt, claim in answered if receipt.signature]
        for keyset_id in dict.fromkeys(claim.keyset for claim, _ in signed):
            await self._keep(
                keyset_id,
                [
                    (claim, _Signature.of(receipt, self._z0))
                    for claim, receipt in signed
                    if claim.keyset == keyset_id
                ],
                now_s,
            )

    def _hear_promises(self, answered: Sequence[tuple[Receipt, Claim]], now_s: float) -> None:
        """Takes in what a running receipt says of shares whose tokens come later."""
        for receipt, claim in answered:
            units = 1 << (receipt.z - self._z0) if self._z0 <= receipt.z < NO_TOKEN else 0
            if not self._is_paid(claim, units):
                self.claims.owe(claim, Reason.SHORT, now_s)
            elif units:
                self._report.promised += 1
                self.claims.sign([claim])
            else:
                self._leave_over(claim)

    def _is_paid(self, claim: Claim, units: int, *, in_turn: bool = True) -> bool:
        """Counts what a share brought; says whether that is good for the share."""
        if claim.exponent is None:
            return True
        worth = self._worths.get(claim.keyset) or Worth(self._z0, None)
        good = worth.take(claim.exponent, units, in_turn=in_turn)
        self._report.look_at(worth)
        return good

    def _leave_over(self, claim: Claim) -> None:
        """Takes in that a share's value waits with the mint: it is answered."""
        self._report.left_over += 1
        self.claims.sign([claim])

    @property
    def _z0(self) -> int:
        return 0 if self._session is None else self._session.terms.z0

    async def _keep(
        self,
        keyset_id: bytes,
        signed: Sequence[tuple[Claim, _Signature]],
        now_s: float,
        *,
        in_turn: bool = True,
    ) -> None:
        """Has the wallet verify and keep tokens of one keyset."""
        receipts = [(claim.output.counter, *signature) for claim, signature in signed]
        received = await self._wallet.receive(keyset_id, receipts)
        self._report.tokens += received.stored
        self._report.units += received.units
        good = [item for item in signed if item[0].output.counter not in received.bad]
        self.claims.sign(claim for claim, _ in good)
        for claim, signature in good:
            if not self._is_paid(claim, signature.amount, in_turn=in_turn):
                self.claims.owe(claim, Reason.SHORT, now_s)
        if received.bad:
            raise RemoteProtocolError(
                f"{len(received.bad)} of {len(receipts)} signatures are not by the announced keys "
                f"of keyset {keyset_id.hex()}: such tokens are worth nothing, and a key of its own "
                "marks a miner. Nothing more was submitted; do not mine on this pool"
            )

    async def _hear_signatures(self, message: RedeemSharesEcashSuccess, now_s: float) -> None:
        session = self._session
        asked = None if session is None else session.fetching.answer(message.request_id)
        if session is None or asked is None:
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
        if message.pending or not signed:
            session.fetching.put_off(now_s)
        if signed:
            await self._keep(asked.keyset, signed, now_s, in_turn=False)

    def _hear_refusal(self, message: RedeemSharesEcashError, now_s: float) -> None:
        session = self._session
        asked = None if session is None else session.fetching.answer(message.request_id)
        if session is None or asked is None:
            return
        code = message.error_code
        self._report.note(f"the pool did not look for missing tokens: {code}")
        for claim in asked.claims:
            if code in WORTHLESS:
                self.claims.drop(claim)
            elif code == UNKNOWN:
                self.claims.forget(claim)
        session.fetching.put_off(now_s, float(message.retry_after_s))

    def _send(self, machine: CarriedMiner, session: _Session, message: Message) -> bool:
        return machine.send(
            session.number,
            message.msg_type,
            channel_msg=message.channel_msg,
            payload=message.encode(),
        )


@asynccontextmanager
async def open_side(options: SideOptions) -> AsyncIterator[EcashMiner]:
    """Opens the wallet and gives the side that fills it.

    Raises:
        ConfigError: There is no wallet in the directory.
    """
    async with Wallet.using(options.directory) as wallet:
        yield EcashMiner(wallet, options, claim_key=await wallet.take_claim_key())

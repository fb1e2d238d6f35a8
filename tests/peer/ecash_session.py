"""Mines for ecash and judges the mint: a wallet in memory on a mining session.

Every announcement, update, receipt and answer is checked as it comes; an AssertionError is a breach
of `spec/05-ecash-messages.md` to `spec/08-wallet-recovery.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import ecash, work
from . import ecash_message as wire
from .ecash import Output, Paid, Seed, Token
from .message import Message, RawFrame, tlv
from .session import MAX_TARGET, MiningChannel, Session, Share

if TYPE_CHECKING:
    from .client import Client

EAGER, LAZY = 1, 2
NETWORK, POOL, WINDOW, FIXED = range(4)
NO_TOKEN = 255
RAIL_ECASH = 1
SAT_POLICY = 255
CLAIM_LEN = 41


class RefusedError(Exception):
    """Says that the mint refused a claim or a request."""

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        super().__init__(f"{name}: {fields['error_code']}")
        self.name = name
        self.code = fields["error_code"]
        self.retry_after_s = fields.get("retry_after_s")


@dataclass
class Extended:
    """Is a message of the extension as it came."""

    name: str
    fields: dict[str, Any]


@dataclass
class Keyset:
    """Is a keyset as it was announced."""

    payload: bytes
    fields: dict[str, Any]
    counter: int = 0

    @property
    def id(self) -> bytes:
        return self.fields["keyset_id"]

    def key(self, z: int) -> bytes:
        return next(row["A"] for row in self.fields["keys"] if row["z"] == z)

    def units(self, z: int) -> int:
        return 2 ** (z - self.fields["z0"])


@dataclass
class Terms:
    """Is what a channel was opened with, and what it has claimed."""

    policy: int
    sign_mode: int
    z0: int
    keyset: bytes
    paid: Paid
    waiting: dict[int, tuple[Share, Output]] = field(default_factory=dict)
    root: bytes = bytes(32)
    owed: list[Output] = field(default_factory=list)


class EcashSession(Session):
    """Is a session with a wallet; see the module's head."""

    def __init__(self, client: Client, msp_key: bytes, wallet: Seed, *, seed: int = 0) -> None:
        super().__init__(client, seed=seed)
        self.msp_key = msp_key
        self.wallet = wallet
        self.keysets: dict[bytes, Keyset] = {}
        self.updates: dict[bytes, dict[str, Any]] = {}
        self.terms: dict[int, Terms] = {}
        self.tokens: list[Token] = []
        self.last: str = ""
        self.requests_made = 0
        self.unit_value = 0
        """What a unit costs of value, as the mint tells over HTTP; 0 by work."""

    # --- the server's messages ---

    async def receive(self) -> Any:
        message = await super().receive()
        if not isinstance(message, RawFrame) or message.extension != wire.EXTENSION:
            self.last = message.name
            return message
        name, fields = wire.read(message)
        handler = "_judge_" + name.replace(".", "")
        getattr(self, handler, lambda *_: None)(fields, message.payload_bytes)
        self.last = name
        return Extended(name, fields)

    async def hear(self, *names: str) -> Any:
        """Receives until one of these messages."""
        while True:
            message = await self.receive()
            if message.name in names:
                return message

    def _judge_EcashKeysetAnnounce(self, fields: dict[str, Any], payload: bytes) -> None:
        assert wire.is_signed("EcashKeysetAnnounce", payload, self.msp_key), "not the mint's"
        z0, rows = fields["z0"], fields["keys"]
        exponents = [row["z"] for row in rows]
        assert exponents == list(range(z0, z0 + len(rows))), "keys are in order, without a gap"
        amounts = {2 ** (row["z"] - z0): row["A"] for row in rows}
        for key in amounts.values():
            ecash.decode(key)
        assert ecash.keyset_id(amounts, fields["unit"]) == fields["keyset_id"]
        assert (fields["input_fee_ppk"], fields["final_expiry"]) == (0, 0)
        assert fields["unit"] == ("sat" if fields["policy"] == SAT_POLICY else "work")
        known = self.keysets.setdefault(fields["keyset_id"], Keyset(payload, fields))
        assert known.payload == payload, "a keyset is announced in the same bytes for ever"
        for terms in self.terms.values():
            if terms.policy == fields["policy"] and fields["supersedes"] == terms.keyset:
                terms.keyset = fields["keyset_id"]

    def _judge_EcashEpochUpdate(self, fields: dict[str, Any], payload: bytes) -> None:
        assert wire.is_signed("EcashEpochUpdate", payload, self.msp_key), "not the mint's"
        assert fields["keyset_id"] in self.keysets, "the state of a keyset that is not known"
        self.updates[fields["keyset_id"]] = fields

    def _judge_OpenExtendedEcashMiningChannelSuccess(
        self, fields: dict[str, Any], payload: bytes
    ) -> None:
        del payload
        assert self.last == "EcashKeysetAnnounce", "the announcement comes right before"
        keyset = self.keysets[fields["keyset_id"]]
        assert fields["mint_pubkey"] == b"\x02" + self.msp_key
        assert keyset.fields["policy"] == fields["policy"]
        assert keyset.fields["z0"] == fields["z0"]
        core = ("request_id", "channel_id", "target", "extranonce_size", "extranonce_prefix")
        names = (*core, "group_channel_id")
        opened = Message("OpenExtendedMiningChannelSuccess", **{n: fields[n] for n in names})
        self._opened(opened, "extended", opened.extranonce_size)
        self.terms[opened.channel_id] = Terms(
            fields["policy"],
            fields["sign_mode"],
            fields["z0"],
            keyset.id,
            Paid(self.unit_value),
        )

    def _on_NewExtendedMiningJob(self, message: Message) -> None:
        super()._on_NewExtendedMiningJob(message)
        for channel in self.members(message.channel_id):
            if channel.id in self.terms:
                rolled = bytes(channel.rollable)
                coinbase = channel.coinbase(channel.jobs[message.job_id], rolled)
                tag = work.find_owner_tag(work.parse_coinbase(coinbase))
                assert tag.rail == RAIL_ECASH, "shares of this channel earn ecash"

    def _judge_SubmitSharesEcashExtendedSuccess(
        self, fields: dict[str, Any], payload: bytes
    ) -> None:
        del payload
        terms = self.terms[fields["channel_id"]]
        assert fields["receipts"], "a message about nothing"
        assert fields["last_sequence_number"] == fields["receipts"][-1]["sequence_number"]
        lazy = terms.sign_mode == LAZY
        assert bool(fields["receipt_root"]) == lazy
        for receipt in fields["receipts"]:
            share, output = terms.waiting.pop(receipt["sequence_number"])
            left_over = receipt["z"] == NO_TOKEN
            units = 0 if left_over else 2 ** (receipt["z"] - terms.z0)
            assert terms.paid.takes(2 ** (share.job.z - terms.z0), units), "not half of its worth"
            if lazy:
                self._judge_receipt(terms, receipt, share, output)
            elif left_over:
                assert receipt["C_"] == receipt["e"] == receipt["s"] == b""
            else:
                self.take_token(output, receipt["z"], receipt)
        if lazy:
            last = fields["last_sequence_number"]
            digest = ecash.receipt_digest(fields["channel_id"], last, terms.root)
            assert fields["receipt_root"] == terms.root, "the root leaves a claim out"
            assert ecash.curve.verify(self.msp_key, digest, fields["receipt_sig"])
        if fields["new_submits_accepted_count"]:
            names = ("channel_id", "last_sequence_number", "new_submits_accepted_count")
            counted = {name: fields[name] for name in (*names, "new_shares_sum")}
            self._on_SubmitSharesSuccess(Message("SubmitSharesSuccess", **counted))
        else:
            assert fields["new_shares_sum"] == 0

    @staticmethod
    def _judge_receipt(terms: Terms, receipt: dict[str, Any], share: Share, output: Output) -> None:
        assert receipt["C_"] == receipt["e"] == receipt["s"] == b""
        terms.root = ecash.receipt_root(terms.root, output.blinded, receipt["z"], share.hash)
        terms.owed.append(output)

    def _judge_SubmitSharesEcashExtendedError(self, fields: dict[str, Any], payload: bytes) -> None:
        del payload
        self._on_SubmitSharesError(Message("SubmitSharesError", **fields))

    def take_token(self, output: Output, z: int, signed: dict[str, Any]) -> Token:
        """Checks a signature's proof against the announced key, and unblinds it."""
        key = self.keysets[output.keyset].key(z)
        parts = (signed["C_"], signed["e"], signed["s"])
        assert ecash.proves(key, output.blinded, *parts), "the proof shows nothing"
        whole = ecash.unblind(signed["C_"], output.factor, key)
        token = Token(output.keyset, z, output.secret, whole)
        self.tokens.append(token)
        return token

    # --- the client's messages ---

    async def send_extended(self, name: str, **fields: Any) -> None:
        await self.client.send_frames(wire.write_frame(name, **fields))

    async def open_ecash(
        self,
        policy: int,
        *,
        sign_modes: int = 1,
        max_target: bytes = MAX_TARGET,
        claim_key: bytes = b"",
    ) -> MiningChannel:
        """Opens a channel and waits for its first job to be active."""
        request_id = self.random.getrandbits(32)
        self.requests[request_id] = "extended"
        opening = "OpenExtendedEcashMiningChannel"
        await self.send_extended(
            opening,
            request_id=request_id,
            user_identity="",
            nominal_hash_rate=0.0,
            max_target=max_target,
            min_extranonce_size=4,
            policies_accepted=1 << policy,
            sign_modes_accepted=sign_modes,
            min_protocol=1,
            claim_pubkey=claim_key,
        )
        opened = await self.hear(f"{opening}.Success", f"{opening}.Error")
        if opened.name.endswith(".Error"):
            raise RefusedError(opened.name, opened.fields)
        assert self.terms[opened.fields["channel_id"]].policy == policy
        channel = self.channels[opened.fields["channel_id"]]
        while channel.active is None:
            await self.receive()
        return channel

    def output(self, keyset: bytes) -> Output:
        """Takes the next counter of a keyset."""
        known = self.keysets[keyset]
        known.counter += 1
        return self.wallet.output(keyset, known.counter - 1)

    async def claim(
        self, share: Share, *, by_tlv: bool = False, output: Output | None = None
    ) -> Output:
        """Submits a share with a claim; its answer is judged when it comes."""
        channel_id, sequence = share.message.channel_id, share.message.sequence_number
        terms = self.terms[channel_id]
        output = output or self.output(terms.keyset)
        terms.waiting[sequence] = (share, output)
        self.channels[channel_id].outstanding.append((sequence, share.work))
        if by_tlv:
            value = output.keyset[:8] + output.blinded
            assert len(value) == CLAIM_LEN
            share.message.tail = tlv(wire.EXTENSION, wire.CLAIM_FIELD, value)
            await self.client.send(share.message)
        else:
            claimed = {"keyset_short": output.keyset[:8], "B_": output.blinded}
            fields = {**share.message.fields, **claimed}
            await self.send_extended("SubmitSharesEcashExtended", **fields)
        return output

    async def answered(self, share: Share) -> Any:
        """Waits for the receipt of a share that was submitted with a claim.

        Raises:
            RefusedError: The share or its claim was refused.
        """
        channel_id, sequence = share.message.channel_id, share.message.sequence_number
        success = "SubmitSharesEcashExtended.Success"
        errors = ("SubmitSharesEcashExtended.Error", "SubmitSharesError")
        while True:
            message = await self.hear(success, *errors)
            fields = message.fields
            if fields["channel_id"] != channel_id:
                continue
            if message.name in errors and fields["sequence_number"] == sequence:
                self.terms[channel_id].waiting.pop(sequence)
                raise RefusedError(message.name, fields)
            if message.name == success and sequence not in self.terms[channel_id].waiting:
                return message

    async def redeem_request(self, **fields: Any) -> dict[str, Any]:
        """Sends RedeemSharesEcash and returns its answer.

        Raises:
            RefusedError: The request was refused.
        """
        self.requests_made += 1
        number = self.requests_made
        asked = {"claims": [], "inputs": [], "outputs": [], **fields}
        name = "RedeemSharesEcash"
        await self.send_extended(name, request_id=number, **asked)
        answer = await self.hear(f"{name}.Success", f"{name}.Error")
        assert answer.fields["request_id"] == number
        if answer.name.endswith(".Error"):
            raise RefusedError(answer.name, answer.fields)
        assert answer.fields["mode"] == asked["mode"]
        return answer.fields

    async def fetch(self, keyset: bytes, outputs: list[Output]) -> dict[str, Any]:
        """Asks for the signatures of claims and takes those that come."""
        claims = [output.blinded for output in outputs]
        answer = await self.redeem_request(mode=0, keyset_id=keyset, claims=claims)
        named = [row["index"] for row in answer["signatures"]]
        every = sorted([*named, *answer["pending"], *answer["unknown"]])
        assert every == list(range(len(outputs))), "each claim has one answer"
        z0 = self.keysets[keyset].fields["z0"]
        for row in answer["signatures"]:
            z = z0 + row["amount"].bit_length() - 1
            self.take_token(outputs[row["index"]], z, row)
        return answer

    async def spend(self, tokens: list[Token], keyset: bytes, amounts: list[int]) -> dict[str, Any]:
        """Spends tokens of one keyset for outputs of a keyset, and takes what comes."""
        tokens = list(tokens)
        inputs = [{"z": t.z, "secret": t.secret, "C": t.signature} for t in tokens]
        outputs = [self.output(keyset) for _ in amounts]
        wanted = [
            {"amount": amount, "keyset_short": keyset[:8], "B_": output.blinded}
            for amount, output in zip(amounts, outputs, strict=True)
        ]
        [source] = {token.keyset for token in tokens}
        asked = {"mode": 1, "keyset_id": source, "inputs": inputs, "outputs": wanted}
        answer = await self.redeem_request(**asked)
        rows = sorted(answer["signatures"], key=lambda row: row["index"])
        assert [(row["index"], row["amount"]) for row in rows] == list(enumerate(amounts))
        before = len(self.tokens)
        z0 = self.keysets[keyset].fields["z0"]
        for row, output in zip(rows, outputs, strict=True):
            self.take_token(output, z0 + row["amount"].bit_length() - 1, row)
        self.tokens = [token for token in self.tokens if token not in tokens]
        # What was asked is answered again, in the same bytes.
        again = await self.redeem_request(**asked)
        assert again["signatures"] == answer["signatures"]
        assert len(self.tokens) == before + len(amounts) - len(tokens)
        return answer

    async def learn_keysets(self) -> bytes:
        """Asks for all current keysets; returns the id of the one of sats."""
        await self.send_extended("EcashKeysetRequest", keyset_id=b"")
        while True:
            told = await self.hear("EcashKeysetAnnounce")
            if told.fields["policy"] == SAT_POLICY:
                assert isinstance(told.fields["keyset_id"], bytes)
                return told.fields["keyset_id"]


def powers_of_two(amount: int) -> list[int]:
    """Splits an amount into powers of two, the smallest first."""
    return [1 << bit for bit in range(amount.bit_length()) if amount >> bit & 1]

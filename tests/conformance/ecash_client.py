"""A client that mines for ecash and judges what the mint tells it.

It is the peer's mining session with the extension's messages beside: every announcement's id and
signature, every update's signature and every signature's proof is checked as it comes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from peer.message import Message, RawFrame, frame
from peer.session import MAX_TARGET, MiningChannel, Session, Share
from radpool_sv2_extensions.ecash import message as m

from radpool_sv2._native.ecash import WalletSeed, keyset_id
from radpool_sv2.verify.bip340 import is_signed_by

if TYPE_CHECKING:
    from peer.client import Client

ALL_POLICIES = 0b1111
EAGER, LAZY = 0b01, 0b10


@dataclass
class Token:
    """Is a token of the client: what it must show to spend it."""

    keyset: bytes
    z: int
    secret: str
    signature: bytes

    @property
    def proof(self) -> m.RedeemInput:
        return m.RedeemInput(self.z, self.secret, self.signature)


@dataclass
class Output:
    """Is a blinded message with what unblinds its signature."""

    keyset: bytes
    counter: int
    secret: str
    blinded: bytes


@dataclass
class Refusal(Exception):
    """Is a request's refusal."""

    answer: m.Message

    @property
    def code(self) -> str:
        return self.answer.error_code


class EcashSession(Session):
    """Is a mining session with a wallet in memory."""

    def __init__(self, client: Client, mint_key: bytes, *, seed: int = 0) -> None:
        super().__init__(client, seed=seed)
        self.mint_key = mint_key
        self.wallet = WalletSeed.from_seed(random.Random(seed ^ 0x5EED).randbytes(64))
        self.counters: dict[bytes, int] = {}
        self.keysets: dict[bytes, m.EcashKeysetAnnounce] = {}
        self.news: list[m.Message] = []
        self.terms: dict[int, m.TermsGranted] = {}
        self.roots: dict[int, bytes] = {}
        self.requested = 0
        self.answers: list = []

    # --- what the server says

    async def receive(self):
        """Returns the next message; those of the extension are read and judged."""
        received = await super().receive()
        if isinstance(received, RawFrame) and received.extension == m.EXTENSION_TYPE:
            read = m.decode(received.number, received.payload_bytes, channel_msg=received.channel)
            self._judge(read)
            received = read
        if numbers_of(received):
            self.answers.append(received)
        return received

    async def kind(self, *kinds: type[m.Message]):
        """Receives until one of these messages."""
        while True:
            received = await self.receive()
            if isinstance(received, kinds):
                return received

    def _judge(self, read: m.Message) -> None:
        if isinstance(read, m.EcashKeysetAnnounce):
            self._judge_keyset(read)
        elif isinstance(read, m.EcashEpochUpdate):
            assert is_signed_by(self.mint_key, read.signed_hash(), read.signature)
            self.news.append(read)
        elif isinstance(read, m.OpenExtendedEcashMiningChannelSuccess):
            assert read.terms.keyset_id in self.keysets, "a channel on a keyset nobody announced"
            assert read.terms.mint_pubkey == b"\x02" + self.mint_key
            self._opened(core_success(read), "extended", read.extranonce_size)
            self.terms[read.channel_id] = read.terms
        elif isinstance(read, m.SubmitSharesEcashExtendedSuccess):
            self._judge_receipts(read)
        elif isinstance(read, m.SubmitSharesEcashExtendedError):
            self._on_SubmitSharesError(read)

    def _judge_keyset(self, read: m.EcashKeysetAnnounce) -> None:
        assert is_signed_by(self.mint_key, read.signed_hash(), read.signature)
        amounts = [(1 << (entry.z - read.z0), entry.key) for entry in read.keys]
        assert keyset_id(amounts, read.unit) == read.keyset_id
        self.keysets[read.keyset_id] = read
        self.news.append(read)

    def _judge_receipts(self, read: m.SubmitSharesEcashExtendedSuccess) -> None:
        assert read.receipts
        assert read.last_sequence_number == read.receipts[-1].sequence_number
        if read.new_submits_accepted_count:
            self._on_SubmitSharesSuccess(read)
        if read.receipt_root:
            assert is_signed_by(self.mint_key, read.receipts_hash(), read.receipt_sig)

    # --- channels

    async def ask(
        self,
        *,
        policies: int = ALL_POLICIES,
        sign_modes: int = EAGER,
        min_protocol: int = 1,
        claim_pubkey: bytes = b"",
        user: str = "",
        max_target: bytes = MAX_TARGET,
        tail: bytes | None = None,
    ) -> int:
        """Asks for a channel; `tail` replaces the terms."""
        request_id = self.random.getrandbits(32)
        self.requests[request_id] = "extended"
        terms = m.TermsAsked(policies, sign_modes, min_protocol, claim_pubkey)
        whole = m.OpenExtendedEcashMiningChannel(
            request_id, user, 0.0, max_target, 4, terms
        ).encode()
        if tail is not None:
            whole = whole[: -len(terms.encode())] + tail
        await self.send(m.OpenExtendedEcashMiningChannel.msg_type, whole, channel=False)
        return request_id

    async def mine_for(self, **asked) -> MiningChannel:
        """Opens a channel and waits for its first job to be active."""
        await self.ask(**asked)
        opened = await self.kind(
            m.OpenExtendedEcashMiningChannelSuccess, m.OpenExtendedEcashMiningChannelError
        )
        if isinstance(opened, m.OpenExtendedEcashMiningChannelError):
            raise Refusal(opened)
        channel = self.channels[opened.channel_id]
        while channel.active is None:
            await self.receive()
        return channel

    def current(self, channel: MiningChannel) -> bytes:
        """Returns the newest announced keyset of the channel's policy."""
        policy = self.terms[channel.id].policy
        return next(
            item.keyset_id
            for item in reversed(self.news)
            if isinstance(item, m.EcashKeysetAnnounce) and item.policy == policy
        )

    # --- shares

    def output(self, keyset: bytes) -> Output:
        """Makes the next blinded message of a keyset."""
        counter = self.counters.get(keyset, 0)
        self.counters[keyset] = counter + 1
        derived = self.wallet.derive(keyset, counter, 1)
        return Output(keyset, counter, derived.secrets[0], derived.blinded[0])

    async def send(self, number: int, payload: bytes, *, channel: bool) -> None:
        """Sends a frame of the extension."""
        await self.client.send_frames(frame(m.EXTENSION_TYPE, number, payload, channel=channel))

    def share_frame(self, share: Share, tail: bytes, *, tlv: bool = False) -> bytes:
        """Returns the frame that submits a share with a claim."""
        if tlv:
            share.message.tail = tail
            return share.message.frame()
        payload = share.message.payload() + tail
        return frame(m.EXTENSION_TYPE, 0x03, payload, channel=True)

    async def offer(self, share: Share, claim: bytes, *, tlv: bool = False) -> None:
        """Submits a share with the bytes of a claim, and books it as outstanding."""
        channel = self.channels[share.message.channel_id]
        channel.outstanding.append((share.message.sequence_number, share.work))
        await self.client.send_frames(self.share_frame(share, claim, tlv=tlv))

    async def claim(self, share: Share, output: Output, *, tlv: bool = False):
        """Submits a share with an output; returns its receipt message, or raises `Refusal`."""
        await self.offer(share, claim_bytes(output, tlv=tlv), tlv=tlv)
        return await self.answer(share)

    async def answer(self, share: Share):
        """Returns the receipts of a share, or raises its refusal, in whatever order they come."""
        sequence = share.message.sequence_number
        while True:
            for answer in self.answers:
                if sequence in numbers_of(answer):
                    self.answers.remove(answer)
                    if isinstance(answer, m.SubmitSharesEcashExtendedSuccess):
                        return answer
                    raise Refusal(answer)
            await self.receive()

    def core_successes(self) -> list[Message]:
        """Returns the core's acknowledgements so far."""
        return [item for item in self.log if item.name == "SubmitSharesSuccess"]

    async def earn(self, channel: MiningChannel, *, tlv: bool = False) -> Token:
        """Mines a share and returns its token."""
        share, output = self.mine(channel), self.output(self.current(channel))
        receipts = await self.claim(share, output, tlv=tlv)
        [receipt] = receipts.receipts
        while tlv and not share_settled(channel, share):
            await self.receive()
        return self.token(output, receipt.z, receipt)

    def token(self, output: Output, z: int, signed) -> Token:
        """Unblinds a signature whose proof must be true."""
        keyset = self.keysets[output.keyset]
        [key] = [entry.key for entry in keyset.keys if entry.z == z]
        item = (output.counter, signed.signature, signed.e, signed.s, key)
        [signature] = self.wallet.unblind(output.keyset, [item])
        assert signature is not None, "the proof is wrong"
        return Token(output.keyset, z, output.secret, signature)

    # --- redemption

    async def send_redeem(self, *, mode: int, keyset_id: bytes, **items) -> int:
        """Sends RedeemSharesEcash and returns the request's id."""
        self.requested += 1
        items = {"claims": (), "inputs": (), "outputs": (), **items}
        request = m.RedeemSharesEcash(self.requested, mode, keyset_id, **items)
        await self.send(request.msg_type, request.encode(), channel=False)
        return self.requested

    async def redeem(self, **fields) -> m.RedeemSharesEcashSuccess:
        """Sends RedeemSharesEcash and returns its answer; raises `Refusal`."""
        number = await self.send_redeem(**fields)
        while True:
            answer = await self.kind(m.RedeemSharesEcashSuccess, m.RedeemSharesEcashError)
            if answer.request_id == number:
                break
        if isinstance(answer, m.RedeemSharesEcashError):
            raise Refusal(answer)
        return answer

    async def fetch(self, keyset: bytes, *blinded: bytes) -> m.RedeemSharesEcashSuccess:
        """Asks for the signatures of claims."""
        return await self.redeem(mode=m.MODE_FETCH, keyset_id=keyset, claims=blinded)


def numbers_of(answer) -> list[int]:
    """Returns the shares that an answer with receipts, or a refusal, is about."""
    if isinstance(answer, m.SubmitSharesEcashExtendedSuccess):
        # Each is looked for once: a message about several is taken by the first.
        return [receipt.sequence_number for receipt in answer.receipts]
    if answer.name in ("SubmitSharesError", "SubmitSharesEcashExtendedError"):
        return [answer.sequence_number]
    return []


@dataclass
class Money:
    """Is outputs of a keyset that make an amount together."""

    outputs: list[Output] = field(default_factory=list)
    amounts: list[int] = field(default_factory=list)

    @property
    def wanted(self) -> tuple[m.RedeemOutput, ...]:
        return tuple(
            m.RedeemOutput(amount, output.keyset[:8], output.blinded)
            for amount, output in zip(self.amounts, self.outputs, strict=True)
        )


def money(session: EcashSession, keyset: bytes, amount: int) -> Money:
    """Makes outputs of the powers of two in an amount."""
    made = Money()
    for bit in range(amount.bit_length()):
        if amount >> bit & 1:
            made.outputs.append(session.output(keyset))
            made.amounts.append(1 << bit)
    return made


def claim_bytes(output: Output, *, tlv: bool = False) -> bytes:
    """Writes a claim as it follows a share."""
    short = output.keyset[:8]
    return m.claim_tlv(short, output.blinded) if tlv else m.Claim(short, output.blinded).encode()


def share_settled(channel: MiningChannel, share: Share) -> bool:
    return all(number != share.message.sequence_number for number, _ in channel.outstanding)


def core_success(read: m.OpenExtendedEcashMiningChannelSuccess) -> Message:
    """Returns the core message that the extension's success begins with."""
    return Message(
        "OpenExtendedMiningChannelSuccess",
        request_id=read.request_id,
        channel_id=read.channel_id,
        target=read.target,
        extranonce_size=read.extranonce_size,
        extranonce_prefix=read.extranonce_prefix,
        group_channel_id=read.group_channel_id,
    )

"""Lists what the pool does about what is wrong in ecash: entries of `bad_input.py`'s page.

They run against a whole pool with its ledger and mint. An answer that ends in "share counted" was
given to a share that is in the ledger nevertheless.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio
from ecash_client import EcashSession, Refusal, claim_bytes, money
from radpool_sv2_extensions.ecash import message as m
from visit import CLOSED, Entry

if TYPE_CHECKING:
    from ecash_pool import EcashPool
    from peer.session import MiningChannel

POOL, FIXED = 1, 3
NO_POINT = b"\x02" + bytes(32)
KEYSET = b"\x01" + b"\x0a" * 32
POINT = b"\x02" + b"\x55" * 32

ENTRIES: list[Entry] = []


@dataclass
class EcashVisit:
    """Is a client that mines for ecash, and what it was answered."""

    pool: EcashPool
    session: EcashSession
    channel: MiningChannel
    answers: list[str] = field(default_factory=list)

    @property
    def keyset(self) -> bytes:
        return self.session.current(self.channel)

    def hear(self, answer, *, counted: bool = False) -> None:
        """Notes an answer in the words of the page."""
        code = getattr(answer, "error_code", "")
        text = answer.name + (f" `{code}`" if code else "")
        self.answers.append(text + (", share counted" if counted else ""))

    async def offer(self, tail: bytes, *, good: bool = True, tlv: bool = False):
        """Submits a share with some bytes behind and notes the refusal."""
        before = await self.pool.shares()
        share = self.session.mine(self.channel, good=good)
        await self.session.offer(share, tail, tlv=tlv)
        try:
            answer = await self.session.answer(share)
        except Refusal as refusal:
            answer = refusal.answer
        self.hear(answer, counted=await self.pool.shares() > before)
        return share

    async def redeem(self, **fields) -> None:
        """Sends RedeemSharesEcash and notes the answer."""
        try:
            self.hear(await self.session.redeem(**fields))
        except Refusal as refusal:
            self.hear(refusal.answer)

    async def spend(self, token, outputs) -> None:
        await self.redeem(
            mode=1, keyset_id=token.keyset, inputs=(token.proof,), outputs=tuple(outputs)
        )


def add(group: str, text: str, *answers: str, then: str | None = None):
    """Enters what the decorated function does."""

    def enter(act):
        more = {} if then is None else {"then": then}
        ENTRIES.append(Entry(group, text, act, answers, stage="ecash", **more))
        return act

    return enter


async def run(entry: Entry, pool: EcashPool) -> None:
    """Does what an entry says and checks what becomes of it."""
    session = await pool.session()
    channel = await session.mine_for(policies=1 << FIXED)
    visit = EcashVisit(pool, session, channel)
    await entry.act(visit)
    if entry.then == CLOSED:
        with trio.fail_after(60):
            await session.client.closed()
    else:
        await session.earn(channel)
    assert tuple(visit.answers) == entry.answers, visit.answers
    # Nobody else notices.
    other = await pool.session()
    await other.earn(await other.mine_for(policies=1 << FIXED))


# --- opening

OPENING = "Ecash: opening a channel"
NOT_OPENED = "OpenExtendedEcashMiningChannelError"


def ask(**asked):
    async def act(visit: EcashVisit) -> None:
        try:
            await visit.session.mine_for(**asked)
        except Refusal as refusal:
            visit.hear(refusal.answer)

    return act


for text, asked, code in (
    ("accepts no policy that the mint offers", {"policies": 1 << 31}, "unsupported-policy"),
    ("accepts no sign mode", {"sign_modes": 0}, "unsupported-sign-mode"),
    ("wants version 2 of the extension", {"min_protocol": 2}, "protocol-version-mismatch"),
    ("gives a claim key that is no point", {"claim_pubkey": NO_POINT}, "invalid-claim-pubkey"),
    ("leaves out the terms", {"tail": b""}, "malformed-terms"),
    (
        "sends a byte behind the terms",
        {"tail": struct.pack("<IBBBB", 8, 1, 1, 0, 0)},
        "malformed-terms",
    ),
    ("accepts no target", {"max_target": bytes(32)}, "max-target-out-of-range"),
):
    add(OPENING, text, f"{NOT_OPENED} `{code}`")(ask(**asked))


# --- claims

CLAIMS = "Ecash: claims of good shares"
NOT_TAKEN = "SubmitSharesEcashExtendedError"


def offer(make, *, tlv: bool = False):
    async def act(visit: EcashVisit) -> None:
        await visit.offer(make(visit), tlv=tlv)

    return act


def kept(code: str) -> str:
    return f"{NOT_TAKEN} `{code}`, share counted"


INVALID = kept("invalid-blinded-message")

add(CLAIMS, "sends nothing behind the share", INVALID)(offer(lambda _: b""))
add(CLAIMS, "sends a `B_` of 32 bytes", INVALID)(
    offer(lambda visit: b"\x08" + visit.keyset[:8] + b"\x20" + bytes(32))
)
add(CLAIMS, "sends an uncompressed `B_`", INVALID)(
    offer(lambda visit: b"\x08" + visit.keyset[:8] + b"\x41\x04" + bytes(64))
)
add(CLAIMS, "sends a `B_` off the curve", INVALID)(
    offer(lambda visit: m.Claim(visit.keyset[:8], NO_POINT).encode())
)
add(CLAIMS, "sends infinity as `B_`", INVALID)(
    offer(lambda visit: m.Claim(visit.keyset[:8], bytes(33)).encode())
)
add(CLAIMS, "sends a byte behind the claim", INVALID)(
    offer(lambda visit: claim_bytes(visit.session.output(visit.keyset)) + b"\0")
)
add(
    CLAIMS,
    "sends a `B_` off the curve as a TLV",
    "SubmitSharesError `invalid-blinded-message`, share counted",
)(offer(lambda visit: m.claim_tlv(visit.keyset[:8], NO_POINT), tlv=True))
add(CLAIMS, "names a keyset that nobody announced", kept("unknown-keyset"))(
    offer(lambda visit: m.Claim(b"\x01" * 8, visit.session.output(visit.keyset).blinded).encode())
)
add(CLAIMS, "names the keyset of sats", kept("unknown-keyset"))(
    offer(lambda visit: claim_bytes(visit.session.output(visit.pool.mint.sat_keyset_id)))
)


@add(
    CLAIMS,
    "sends a `B_` for a second share, then the share with another",
    kept("blinded-message-reused"),
    "SubmitSharesEcashExtendedSuccess",
)
async def reuse(visit: EcashVisit) -> None:
    output = visit.session.output(visit.keyset)
    await visit.session.claim(visit.session.mine(visit.channel), output)
    share = await visit.offer(claim_bytes(output))
    fresh = visit.session.output(visit.keyset)
    answer = await visit.session.claim(share, fresh)
    assert visit.session.token(fresh, visit.channel.z, answer.receipts[0])
    visit.hear(answer)


@add(CLAIMS, "sends a share and its claim twice", "SubmitSharesEcashExtendedSuccess")
async def repeat(visit: EcashVisit) -> None:
    share, output = visit.session.mine(visit.channel), visit.session.output(visit.keyset)
    first = await visit.session.claim(share, output)
    again = await visit.session.claim(share, output)
    assert again.receipts == first.receipts
    visit.hear(again)


@add(CLAIMS, "sends a share twice with two claims", f"{NOT_TAKEN} `duplicate-share`")
async def repeat_with_another(visit: EcashVisit) -> None:
    share = visit.session.mine(visit.channel)
    await visit.session.claim(share, visit.session.output(visit.keyset))
    try:
        await visit.session.claim(share, visit.session.output(visit.keyset))
    except Refusal as refusal:
        visit.hear(refusal.answer)


@add(
    CLAIMS,
    "sends a share above its target with a claim that is no point",
    f"{NOT_TAKEN} `difficulty-too-low`",
)
async def no_work(visit: EcashVisit) -> None:
    await visit.offer(m.Claim(visit.keyset[:8], NO_POINT).encode(), good=False)


# --- requests

REQUESTS = "Ecash: requests about tokens"
NO = "RedeemSharesEcashError"


def raw(number: int, payload: bytes, *, channel: bool = False, answered: bool = True):
    async def act(visit: EcashVisit) -> None:
        await visit.session.send(number, payload, channel=channel)
        if answered:
            visit.hear(await visit.session.kind(m.RedeemSharesEcashError))

    return act


def request(*, keyset=KEYSET, claims=b"\0\0", inputs=b"\0\0", outputs=b"\0\0", mode=1) -> bytes:
    return struct.pack("<IBB", 9, mode, len(keyset)) + keyset + claims + inputs + outputs


for text, payload, code in (
    ("asks for 501 claims", request(mode=0, claims=b"\xf5\1"), "too-many-items"),
    ("announces 65,535 inputs and sends none", request(inputs=b"\xff\xff"), "too-many-items"),
    ("spends for 251 outputs", request(outputs=b"\xfb\0"), "too-many-items"),
    (
        "asks for a claim of 32 bytes",
        request(mode=0, claims=b"\1\0\x20" + bytes(32)),
        "invalid-blinded-message",
    ),
    ("names a keyset by 8 bytes", request(keyset=KEYSET[:8]), "unknown-epoch"),
    ("names a keyset that is none", request(mode=0), "unknown-epoch"),
    (
        "spends a secret that is no UTF-8",
        request(inputs=b"\1\0\5\1\xff\x21" + POINT),
        "invalid-proof",
    ),
    (
        "fetches and spends in one request",
        request(mode=0, outputs=b"\1\0" + m.RedeemOutput(1, KEYSET[:8], POINT).encode()),
        "amount-mismatch",
    ),
):
    add(REQUESTS, text, f"{NO} `{code}`")(raw(0x06, payload))

add(REQUESTS, "asks for a keyset that is none", f"{NO} `unknown-epoch`")(
    raw(0x0A, m.EcashKeysetRequest(KEYSET).encode())
)

for text, number, payload in (
    ("cuts a request off", 0x06, request()[:-1]),
    ("sends a byte behind a request", 0x06, request() + b"\0"),
    ("names a mode that is none", 0x06, request(mode=2)),
    ("sends a byte behind a keyset request", 0x0A, b"\0\0"),
    ("sends a request of 64 KiB and one byte", 0x06, request() + bytes(65_537 - len(request()))),
):
    add(REQUESTS, text, then=CLOSED)(raw(number, payload, answered=False))

add(REQUESTS, "sets the channel bit of a request", then=CLOSED)(
    raw(0x06, request(), channel=True, answered=False)
)
add(REQUESTS, "sends a message of the extension that only a server sends")(
    raw(0x09, b"\xff" * 100, answered=False)
)
add(REQUESTS, "sends a message that the extension does not have")(
    raw(0x40, b"\xff" * 100, answered=False)
)


# --- tokens

TOKENS = "Ecash: tokens"


@add(TOKENS, "spends a token twice", "RedeemSharesEcashSuccess", f"{NO} `already-spent`")
async def spend_twice(visit: EcashVisit) -> None:
    token = await visit.session.earn(visit.channel)
    sats = 2 << (token.z - 4)
    for _ in range(2):
        wanted = money(visit.session, visit.pool.mint.sat_keyset_id, sats).wanted
        await visit.spend(token, wanted)


@add(TOKENS, "repeats a request whose answer was lost", *["RedeemSharesEcashSuccess"] * 2)
async def spend_again(visit: EcashVisit) -> None:
    token = await visit.session.earn(visit.channel)
    sats = 2 << (token.z - 4)
    wanted = money(visit.session, visit.pool.mint.sat_keyset_id, sats).wanted
    for _ in range(2):
        await visit.spend(token, wanted)


@add(TOKENS, "asks for a sat more than a token is worth", f"{NO} `amount-mismatch`")
async def too_much(visit: EcashVisit) -> None:
    token = await visit.session.earn(visit.channel)
    sats = (2 << (token.z - 4)) + 1
    await visit.spend(token, money(visit.session, visit.pool.mint.sat_keyset_id, sats).wanted)


@add(TOKENS, "calls a token one of twice the work", f"{NO} `invalid-proof`")
async def wrong_amount(visit: EcashVisit) -> None:
    token = await visit.session.earn(visit.channel)
    token.z += 1
    sats = 2 << (token.z - 4)
    await visit.spend(token, money(visit.session, visit.pool.mint.sat_keyset_id, sats).wanted)


@add(TOKENS, "spends a token of a keyset without a price", f"{NO} `epoch-open`")
async def too_early(visit: EcashVisit) -> None:
    channel = await visit.session.mine_for(policies=1 << POOL)
    token = await visit.session.earn(channel)
    await visit.spend(token, money(visit.session, visit.pool.mint.sat_keyset_id, 1).wanted)

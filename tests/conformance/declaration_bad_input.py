"""Lists what the job declarator does about what is wrong: entries of `bad_input.py`'s page."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio
from declaring_pool import SUBSIDY, DeclaringPool, transactions
from peer import work
from peer.message import Message, frame
from visit import CLOSED, Entry

from radpool_sv2.templates.source import BlockVerdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from peer.declarer import Declarer

GROUP = "Job declaration"
ENTRIES: list[Entry] = []


@dataclass
class DeclarationVisit:
    """Is a declaring client, and what it was answered."""

    pool: DeclaringPool
    declarer: Declarer
    answers: list[str] = field(default_factory=list)

    async def declare(self, **changes: object) -> None:
        """Declares a template and notes the refusal."""
        fields = {name: changes.pop(name) for name in ("token",) if name in changes}
        token, outputs = await self.declarer.token()
        template = self.pool.template(outputs, **changes)
        _, code, detail = await self.declarer.declare(template, fields.get("token", token))
        self.note(code, detail)

    def note(self, code: str, detail: str) -> None:
        """Notes a refusal in the words of the page, with the reason of consensus if it is one."""
        reason = f": `{detail.partition(':')[0]}`" if code == "invalid-job" else ""
        self.answers.append(f"DeclareMiningJobError `{code}`{reason}")


def add(
    text: str, act: Callable[[DeclarationVisit], Awaitable[None]], *answers: str, **more: object
) -> None:
    ENTRIES.append(
        Entry(GROUP, text, act, answers, stage="declaring", **more)  # type: ignore[arg-type]
    )


def refused(code: str, reason: str = "") -> str:
    return f"DeclareMiningJobError `{code}`" + (f": `{reason}`" if reason else "")


async def nobody(visit: DeclarationVisit) -> None:
    await visit.declarer.client.send(
        Message("AllocateMiningJobToken", user_identifier="", request_id=1)
    )


add(
    "asks for a token for nobody: the protocol has no refusal",
    nobody,
    then=CLOSED,
    reason="invalid-user-identity",
)


async def too_many(visit: DeclarationVisit) -> None:
    message = Message("AllocateMiningJobToken", user_identifier="alice", request_id=1)
    await visit.declarer.client.send(*[message] * 40)


add(
    "asks for more tokens than `declarator.tokens_per_minute_max` gives in time",
    too_many,
    then=CLOSED,
    reason="token-rate-exceeded",
    settings={"tokens_per_minute_max": 1},
)


async def guessed(visit: DeclarationVisit) -> None:
    await visit.declare(token=bytes(32))


async def twice(visit: DeclarationVisit) -> None:
    token, outputs = await visit.declarer.token()
    template = visit.pool.template(outputs)
    await visit.declarer.declare(template, token)
    _, code, detail = await visit.declarer.declare(template, token)
    visit.note(code, detail)


async def stolen(visit: DeclarationVisit) -> None:
    other = await visit.pool.declarer()
    token, _ = await other.token()
    await visit.declare(token=token)


TOKEN = refused("invalid-mining-job-token")
add("declares with a token that was never given", guessed, TOKEN)
add("declares with a token a second time", twice, TOKEN)
add("declares with a token of another connection", stolen, TOKEN)


def declaring(**changes: object) -> Callable[[DeclarationVisit], Awaitable[None]]:
    async def act(visit: DeclarationVisit) -> None:
        await visit.declare(**changes)

    return act


def judged(reason: str) -> Callable[[DeclarationVisit], Awaitable[None]]:
    async def act(visit: DeclarationVisit) -> None:
        visit.pool.node.verdict = BlockVerdict(False, reason, "as the node explains")
        await visit.declare()

    return act


async def late(visit: DeclarationVisit) -> None:
    await visit.declare(height=visit.pool.height - 1)


async def away(visit: DeclarationVisit) -> None:
    visit.pool.node.away = True
    await visit.declare()
    visit.pool.node.away = False


async def untagged(visit: DeclarationVisit) -> None:
    token, outputs = await visit.declarer.token()
    _, code, detail = await visit.declarer.declare(visit.pool.template(outputs[:1]), token)
    visit.note(code, detail)


async def misread(visit: DeclarationVisit) -> None:
    token, outputs = await visit.declarer.token()
    template = visit.pool.template(outputs)
    _, code, detail = await visit.declarer.declare(
        template, token, coinbase_tx_suffix=template.suffix[:-1]
    )
    visit.note(code, detail)


COINBASE = refused("invalid-coinbase-tx")
add("declares a coinbase that cannot be read", misread, COINBASE)
add("declares a coinbase without the owner output", untagged, COINBASE)
add("declares a coinbase that pays the pool nothing", declaring(value=0), COINBASE)
add("declares a template for another height", late, refused("stale-chain-tip"))
add(
    "declares a template that consensus refuses",
    judged("bad-cb-amount"),
    refused("invalid-job", "bad-cb-amount"),
)
add(
    "declares a template whose structure is wrong",
    declaring(transactions=transactions(1) * 2),
    refused("invalid-job", "bad-txns-inputs-missingorspent"),
)
add("declares while the pool's node is away", away, refused("internal-error"))


async def marked(visit: DeclarationVisit) -> None:
    mark = work.Output(0, b"\x6a\x24RADH" + bytes(32))
    await visit.declare(extra_outputs=[mark])


async def foreign_tag(visit: DeclarationVisit) -> None:
    other = await visit.pool.declarer()
    _, outputs = await other.token("bob")
    token, _ = await visit.declarer.token()
    template = visit.pool.template(outputs)
    visit.note(*(await visit.declarer.declare(template, token))[1:])


add(
    "declares a coinbase with another's owner output",
    foreign_tag,
    refused("invalid-coinbase-tx"),
)
add(
    "declares a coinbase with the mark of hidden jobs",
    marked,
    refused("invalid-coinbase-tx"),
)


async def flood(visit: DeclarationVisit) -> None:
    for _ in range(5):
        token, outputs = await visit.declarer.token()
        template = visit.pool.template(outputs)
        _, code, detail = await visit.declarer.declare(template, token)
    visit.note(code, detail)


add(
    "declares more often than `declarator.declarations_per_minute_max`",
    flood,
    refused("declaration-rate-exceeded"),
    settings={"declarations_per_minute_max": 1},
)


async def asked(visit: DeclarationVisit) -> tuple[object, list[bytes]]:
    token, outputs = await visit.declarer.token()
    template = visit.pool.template(outputs, transactions=transactions(2))
    await visit.declarer.client.send(template.declare(token, 9))
    await visit.declarer.client.expect("ProvideMissingTransactions")
    return template, template.transactions


async def provide(visit: DeclarationVisit, raws: list[bytes]) -> None:
    await visit.declarer.client.send(
        Message("ProvideMissingTransactionsSuccess", request_id=9, transaction_list=raws)
    )


async def others(visit: DeclarationVisit) -> None:
    _, raws = await asked(visit)
    await provide(visit, raws[::-1])
    answer = await visit.declarer.client.expect("DeclareMiningJobError")
    visit.note(answer.error_code, "")


async def never(visit: DeclarationVisit) -> None:
    await asked(visit)
    answer = await visit.declarer.client.expect("DeclareMiningJobError")
    visit.note(answer.error_code, "")


async def unasked(visit: DeclarationVisit) -> None:
    await provide(visit, transactions(1))


async def fewer(visit: DeclarationVisit) -> None:
    _, raws = await asked(visit)
    await provide(visit, raws[:1])
    answer = await visit.declarer.client.expect("DeclareMiningJobError")
    visit.note(answer.error_code, "")


async def same_request(visit: DeclarationVisit) -> None:
    await asked(visit)
    token, outputs = await visit.declarer.token()
    await visit.declarer.client.send(visit.pool.template(outputs).declare(token, 9))


async def too_many_under_way(visit: DeclarationVisit) -> None:
    await asked(visit)
    await visit.declare()


MISSING = refused("missing-txs")
add("sends fewer transactions than it was asked for", fewer, MISSING)
add(
    "uses the number of a declaration that is under way",
    same_request,
    then=CLOSED,
    reason="request-id-reused",
)
add(
    "has more declarations under way than `declarator.declarations_pending_max`",
    too_many_under_way,
    refused("declaration-rate-exceeded"),
    settings={"declarations_pending_max": 1},
)
add("sends other transactions than it was asked for", others, MISSING)
add(
    "does not send what it was asked for until `declarator.provide_deadline_ms`",
    never,
    MISSING,
    then=CLOSED,
    reason="transactions-timeout",
    settings={"provide_deadline_ms": 150},
)
add(
    "sends transactions that nobody asked for",
    unasked,
    then=CLOSED,
    reason="unasked-transactions",
)


async def huge(visit: DeclarationVisit) -> None:
    header = frame(0, 0x57, b"", channel=False)[:3] + (1_000_000).to_bytes(3, "little")
    sealed = visit.declarer.client.send_cipher.seal_frame(header + b"?")[:22]
    await visit.declarer.client.send_bytes(sealed)


async def broken(visit: DeclarationVisit) -> None:
    await visit.declarer.client.send_frames(frame(0, 0x57, bytes(9), channel=False))


async def unknown(visit: DeclarationVisit) -> None:
    await visit.declarer.client.send_frames(frame(0, 0x7E, bytes(9), channel=False))


async def false_block(visit: DeclarationVisit) -> None:
    visit.pool.new_tip(target=bytes(30) + b"\x01\x00")
    token, outputs = await visit.declarer.token()
    template = visit.pool.template(outputs)
    await visit.declarer.declare(template, token)
    solution = template.solve(bytes(20), 2**256)
    await visit.declarer.client.send(*[solution] * 17)


async def foreign_block(visit: DeclarationVisit) -> None:
    other = await visit.pool.declarer()
    token, outputs = await other.token("bob")
    template = visit.pool.template(outputs, value=SUBSIDY)
    await other.declare(template, token)
    limit = work.nbits_target(template.nbits)
    await visit.declarer.client.send(template.solve(bytes(20), limit))


add(
    "announces a declaration of a megabyte, or transactions that are not due",
    huge,
    then=CLOSED,
    reason="malformed-frame",
)
add("DeclareMiningJob that does not parse", broken, then=CLOSED, reason="malformed-message")
add("unknown message", unknown)
add("pushes a block of another connection's template", foreign_block)
add(
    "pushes 17 blocks without proof of work",
    false_block,
    then=CLOSED,
    reason="bad-solutions",
)


async def unfinished(visit: DeclarationVisit) -> None:
    header = frame(0, 0x57, b"", channel=False)[:3] + (700_000).to_bytes(3, "little")
    sealed = visit.declarer.client.send_cipher.seal_frame(header + b"?")[:22]
    await visit.declarer.client.send_bytes(sealed + bytes(100_000))


add(
    "begins a message and does not end it until `declarator.provide_deadline_ms`",
    unfinished,
    then=CLOSED,
    reason="frame-timeout",
    settings={"provide_deadline_ms": 200},
)


async def silent(_visit: DeclarationVisit) -> None:
    """Says nothing at all."""


add(
    "sends nothing until `declarator.idle_deadline_ms`",
    silent,
    then=CLOSED,
    reason="idle",
    settings={"idle_deadline_ms": 1_000},
)


async def run(entry: Entry, pool: DeclaringPool) -> None:
    """Does what an entry says and checks what becomes of it."""
    visit = DeclarationVisit(pool, await pool.declarer())
    await entry.act(visit)  # type: ignore[arg-type]
    with trio.fail_after(60):
        if entry.then == CLOSED:
            await visit.declarer.client.closed()
            await visit.declarer.client.aclose()
            while not pool.role.closed:
                await trio.sleep(0.005)
            assert entry.reason in pool.role.closed
        else:
            await visit.declarer.token()
    assert tuple(visit.answers) == entry.answers, visit.answers
    assert pool.blocks.pushed_blocks == []
    # Nobody else notices.
    other = await pool.declarer()
    token, outputs = await other.token("carol")
    pool.node.verdict = BlockVerdict(True)
    template = replace(pool.template(outputs), text=b"\x05carol")
    assert (await other.declare(template, token))[0]

"""Runs the entries of `bad_input.py` and writes their page.

An entry starts a pool with its settings, brings a client to its stage, lets it act, and compares
what the pool answered, whether the connection lives on, and which reason the pool gives in its
metrics when it does not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio
from engine_pool import REQUIRES_WORK_SELECTION, TEST_EXTENSION
from peer.client import Client, open_stream
from peer.session import MiningChannel, Session

if TYPE_CHECKING:
    from engine_pool import EnginePool

OPEN, CLOSED = "stays open", "closed"


@dataclass
class Visit:
    """Is a client at the stage that an entry wants."""

    pool: EnginePool
    session: Session | None = None
    channel: MiningChannel | None = None
    stream: trio.SocketStream | None = None
    answers: list[str] = field(default_factory=list)

    @property
    def client(self) -> Client:
        assert self.session is not None
        return self.session.client

    def hear(self, *messages: object) -> None:
        """Notes answers in the words of the page."""
        for message in messages:
            code = getattr(message, "fields", {}).get("error_code")
            self.answers.append(message.name + (f" `{code}`" if code else ""))


Act = Callable[[Visit], Awaitable[None]]


@dataclass(frozen=True)
class Entry:
    """Is one thing that a client may do, and what becomes of it.

    Attributes:
        group: The heading on the page.
        text: What the client does.
        act: Does it.
        answers: What the pool says, in order.
        then: Whether the connection lives on.
        reason: The pool's word for the close; None when it counts none.
        stage: raw (TCP alone), fresh (handshake done), set-up, extension (negotiated), channel,
            selecting (a channel of a client that selects its work), ecash (a channel for ecash; see
            `ecash_bad_input.py`).
        settings: Settings of the pool that differ from those of the tests.
    """

    group: str
    text: str
    act: Act
    answers: tuple[str, ...] = ()
    then: str = OPEN
    reason: str | None = None
    stage: str = "channel"
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def id(self) -> str:
        words = "".join(letter if letter.isalnum() else " " for letter in self.text).split()
        return "-".join(words)[:70]


class suppress_broken:
    """Takes for granted that the pool may close at any moment."""

    def __enter__(self):
        return self

    def __exit__(self, kind, _error, _traceback):
        return kind is not None and issubclass(kind, trio.BrokenResourceError)


async def bring(pool: EnginePool, stage: str) -> Visit:
    """Brings a client to a stage."""
    visit = Visit(pool)
    if stage == "raw":
        visit.stream = await open_stream(pool.address)
    elif stage == "fresh":
        visit.session = Session(await pool.connect())
    else:
        extensions = (2, TEST_EXTENSION) if stage == "extension" else ()
        flags = REQUIRES_WORK_SELECTION if stage == "selecting" else 0
        visit.session = await pool.session(flags, extensions)
        if stage in ("channel", "extension", "selecting"):
            visit.channel = await visit.session.open()
    return visit


async def run(entry_: Entry, pool: EnginePool) -> Visit:
    """Does what an entry says and checks what becomes of it."""
    visit = await bring(pool, entry_.stage)
    await entry_.act(visit)
    if visit.stream is not None:
        await expect_end(visit.stream)
    elif entry_.then == CLOSED:
        if visit.session is not None:
            visit.hear(*await visit.client.closed())
    else:
        if entry_.stage == "fresh" and not visit.answers:
            visit.hear(await visit.client.receive())
        visit.hear(*await visit.session.settle())
    assert tuple(visit.answers) == entry_.answers
    pool.stalled = False
    pool.wake()
    for client in pool.clients:
        await client.aclose()
    await pool.until(lambda: pool.gauge("sockets") == 0)
    if entry_.reason is not None:
        assert pool.gauge(f"closed_{entry_.reason.replace('-', '_')}_total") == 1
    assert pool.gauge("connections") == pool.gauge("channels") == 0
    assert pool.gauge("tasks_panicked_total") == 0
    return visit


async def expect_end(stream: trio.SocketStream) -> None:
    """Waits for the pool to close a connection that never got behind its handshake."""
    with trio.fail_after(60), suppress_broken():
        assert await stream.receive_some(1) == b""
    await trio.aclose_forcefully(stream)


INTRODUCTION = """# Bad input: what the pool does about it

What the pool answers to each limit that a client reaches and each message that is wrong, whether
the connection lives on, and the reason that the pool gives: in the log, and in the metric
`closed_REASON_total` with underscores. Every line is a test: this page is written by
`tests/conformance/bad_input.py`, which holds the tests' data, and a test fails when they differ.

A connection that is closed is closed after its last answer was sent. A limit is named as in
`msp.toml`; none of them ever costs more than the connection that reached it.

The lines on job declaration are about another listener, the declarator's; each reason there is
counted by it.

The lines on ecash were seen with a mint behind the pool; no reason is counted for a close there.
*Share counted*: only the claim was refused; the share is in the ledger, and sent again with a good
claim it earns its token.
"""


def render(entries: list[Entry]) -> str:
    """Writes the page."""
    parts = [INTRODUCTION]
    for group in dict.fromkeys(item.group for item in entries):
        parts.append(
            f"\n## {group}\n\n| a client … | the pool answers | the connection |\n|---|---|---|\n"
        )
        for item in (item for item in entries if item.group == group):
            parts.append(f"| {item.text} | {shown_answers(item.answers)} | {shown_end(item)} |\n")
    return "".join(parts)


def shown_answers(answers: tuple[str, ...]) -> str:
    if not answers:
        return "nothing"
    counted: list[tuple[str, int]] = []
    for answer in answers:
        if counted and counted[-1][0] == answer:
            counted[-1] = (answer, counted[-1][1] + 1)
        else:
            counted.append((answer, 1))
    return ", ".join(f"{count} × {text}" if count > 1 else text for text, count in counted)


def shown_end(item: Entry) -> str:
    if item.then == OPEN:
        return OPEN
    if item.reason is None:
        return CLOSED if item.stage == "ecash" else f"{CLOSED} before it is set up"
    return f"{CLOSED}: `{item.reason}`"

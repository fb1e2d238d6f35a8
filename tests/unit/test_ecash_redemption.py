"""The desk that answers requests about tokens, in front of a mint that a test plays."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import trio
import trio.testing
from radpool_sv2_extensions.ecash import message as m
from radpool_sv2_extensions.ecash import redemption
from radpool_sv2_extensions.ecash.redemption import RedemptionDesk

from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.token import BlindSignature, Fetched, Output, Proof, Redeemed
from radpool_sv2.errors import StoreError

POINT = b"\x02" + b"\x55" * 32
KEYSET = b"\x01" + b"\x0a" * 32
SATS = b"\x01" + b"\x0b" * 32
SIGNATURE = BlindSignature(0, 8, POINT, bytes(32), bytes(32))


@dataclass
class Mint:
    settings: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(redeems_per_minute=60, redeems_burst=1_000)
    )
    z0: int = 4
    sat_keyset_id: bytes = SATS
    calls: list = field(default_factory=list)
    answer: object = None
    held: trio.Event | None = None

    def keyset(self, id_):
        return SimpleNamespace(z0=5) if id_ == KEYSET else None

    async def _answer(self, *call):
        self.calls.append(call)
        if self.held is not None:
            await self.held.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def fetch(self, *call):
        return await self._answer("fetch", *call)

    async def redeem(self, *call):
        return await self._answer("redeem", *call)

    async def swap(self, *call):
        return await self._answer("swap", *call)


class Scene:
    def __init__(self, mint):
        self.sent = []
        self.desk = RedemptionDesk(mint, lambda *sent: self.sent.append(sent))

    def answers(self):
        return [(number, kind.decode(payload)) for number, kind, payload in self.sent]


def fetching(number=1, *claims):
    return m.RedeemSharesEcash(number, 0, KEYSET, claims, (), ())


def spending(keyset=KEYSET, outputs=((8, SATS),), inputs=((7, "secret"),)):
    return m.RedeemSharesEcash(
        1,
        1,
        keyset,
        (),
        tuple(m.RedeemInput(z, secret, POINT) for z, secret in inputs),
        tuple(m.RedeemOutput(amount, short[:8], POINT) for amount, short in outputs),
    )


async def settle():
    await trio.testing.wait_all_tasks_blocked()


async def test_fetching(nursery):
    mint = Mint(answer=Fetched((SIGNATURE,), (1,), (2,), 7, 9))
    scene = Scene(mint)
    scene.desk.start(nursery)
    scene.desk.ask(3, fetching(11, POINT, POINT, POINT))
    await settle()
    assert mint.calls == [("fetch", KEYSET, (POINT,) * 3)]
    [(connection, answer)] = scene.answers()
    assert (connection, answer.request_id, answer.mode) == (3, 11, 0)
    assert answer.signatures == (m.RedeemSignature(0, 8, POINT, bytes(32), bytes(32)),)
    assert (answer.pending, answer.unknown) == ((1,), (2,))
    assert (answer.price_num, answer.price_den) == (7, 9)


@pytest.mark.parametrize(
    ("request_", "call"),
    [
        (spending(), "redeem"),
        (spending(outputs=((1, SATS), (2, SATS))), "redeem"),
        (spending(outputs=((4, KEYSET),)), "swap"),
    ],
)
async def test_spending(nursery, request_, call):
    mint = Mint(answer=Redeemed((SIGNATURE,), 7, 9))
    scene = Scene(mint)
    scene.desk.start(nursery)
    scene.desk.ask(3, request_)
    await settle()
    [(name, keyset, inputs, outputs)] = mint.calls
    assert (name, keyset) == (call, KEYSET)
    # The keyset's own z0 tells what an exponent is worth.
    assert inputs == [Proof(4, "secret", POINT)]
    assert outputs == [Output(each.amount, each.keyset_short, POINT) for each in request_.outputs]


async def test_a_keyset_that_is_gone_is_left_to_the_mint(nursery):
    mint = Mint(answer=RefusedError("long ago", "expired"))
    scene = Scene(mint)
    scene.desk.start(nursery)
    scene.desk.ask(3, spending(keyset=b"\x01" * 33))
    await settle()
    [(_, answer)] = scene.answers()
    assert answer.error_code == "expired"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (spending(outputs=()), "amount-mismatch"),
        (spending(outputs=((1, SATS), (1, KEYSET))), "amount-mismatch"),
        (spending(outputs=((1, b"\x01" * 33),)), "unknown-epoch"),
        (spending(inputs=((4, "a"),)), "invalid-proof"),
        (spending(inputs=((69, "a"),)), "invalid-proof"),
    ],
)
async def test_requests_that_need_no_mint_to_be_refused(nursery, request_, code):
    """attack: A14"""
    mint = Mint()
    scene = Scene(mint)
    scene.desk.start(nursery)
    scene.desk.ask(3, request_)
    await settle()
    [(_, answer)] = scene.answers()
    assert (answer.error_code, answer.retry_after_s) == (code, 0)
    assert mint.calls == []


async def test_the_mints_refusals_are_passed_on(nursery):
    mint = Mint(answer=RefusedError("wait", "immature", retry_after_s=600))
    scene = Scene(mint)
    scene.desk.start(nursery)
    scene.desk.ask(3, spending())
    await settle()
    [(_, answer)] = scene.answers()
    assert (answer.request_id, answer.error_code, answer.retry_after_s) == (1, "immature", 600)


async def test_a_store_that_cannot_write_ends_nothing(nursery):
    mint = Mint(answer=StoreError("full"))
    scene = Scene(mint)
    scene.desk.start(nursery)
    scene.desk.ask(3, spending())
    await settle()
    mint.answer = Redeemed((SIGNATURE,), 7, 9)
    scene.desk.ask(3, spending())
    await settle()
    [(_, first), (_, second)] = scene.answers()
    assert (first.error_code, first.retry_after_s) == ("mint-unavailable", 1)
    assert isinstance(second, m.RedeemSharesEcashSuccess)


async def test_the_queue_is_bounded(nursery, monkeypatch):
    """attack: A15"""
    monkeypatch.setattr(redemption, "REQUESTS_PENDING_MAX", 2)
    mint = Mint(answer=Fetched((), (), (), 0, 0), held=trio.Event())
    scene = Scene(mint)
    scene.desk.start(nursery)
    for number in range(redemption.WORKERS):
        scene.desk.ask(3, fetching(number))
        await settle()
    for number in range(100, 103):
        scene.desk.ask(4, fetching(number))
    [(connection, answer)] = scene.answers()
    assert (connection, answer.request_id, answer.error_code) == (4, 102, "rate-limited")
    assert answer.retry_after_s == 1
    mint.held.set()
    await settle()
    assert len(scene.sent) == 1 + redemption.WORKERS + 2


async def test_each_connection_has_an_allowance_of_its_own(nursery):
    """attack: A15"""
    mint = Mint(
        settings=SimpleNamespace(redeems_per_minute=1, redeems_burst=2),
        answer=Fetched((), (), (), 0, 0),
    )
    scene = Scene(mint)
    scene.desk.start(nursery)
    for connection in (1, 1, 1, 2):
        scene.desk.ask(connection, fetching())
    assert not scene.desk.allow(1, 5)
    await settle()
    refused = [
        (number, answer) for number, answer in scene.answers() if hasattr(answer, "error_code")
    ]
    assert [(number, answer.request_id, answer.error_code) for number, answer in refused] == [
        (1, 1, "rate-limited"),
        (1, 5, "rate-limited"),
    ]
    assert 1 <= refused[0][1].retry_after_s <= 60
    assert len(mint.calls) == 3
    # Who comes back on another connection begins anew; what was kept for the old one is gone.
    scene.desk.disconnected(1)
    assert scene.desk.allow(1, 6)


async def test_what_is_kept_of_connections_is_bounded(monkeypatch):
    """attack: A15"""
    monkeypatch.setattr(redemption, "ALLOWANCES_MAX", 2)
    mint = Mint(settings=SimpleNamespace(redeems_per_minute=1, redeems_burst=1))
    desk = Scene(mint).desk
    assert [desk.allow(connection, 0) for connection in (1, 2, 1, 3)] == [True, True, False, True]
    # 2 had not asked for longest, and begins anew; 1 and 3 were kept but for its coming.
    assert [desk.allow(connection, 0) for connection in (3, 2)] == [False, True]

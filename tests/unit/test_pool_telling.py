"""What a pool tells its federation of owners: each once, in order, whatever crashes."""

import sqlite3

import pytest
import trio
from coincurve import PrivateKey
from test_pool_feed import FIRST, RULES, SCRIPT, Book, Stream, body, books, rest

from radpool_sv2._native.ledger import MspKey
from radpool_sv2.federation.broadcast.payload import ENTRY_OVERHEAD, Kind
from radpool_sv2.federation.codec import CodecError
from radpool_sv2.federation.state.registration import (
    REGISTRATION_BYTES,
    REGISTRATIONS_MAX,
    RegisterCheck,
    SignedRegistration,
    decode_registrations,
    encode_registrations,
)
from radpool_sv2.ledger import Ledger
from radpool_sv2.pool.feed import Feed
from radpool_sv2.pool.register import OwnerRegister
from radpool_sv2.pool.telling import ENTRIES_UNSETTLED_MAX, REGISTRATIONS_PART, ToldRegister

MSP = MspKey.from_secret(bytes(31) + b"\x05")
COMMITTEE, OTHER = b"c" * 32, b"o" * 32


def registration(number, **changes):
    fields = {
        "msp_key": MSP.public,
        "miner_key": number.to_bytes(32, "big"),
        "commitment": (number + (1 << 40)).to_bytes(32, "big"),
        "epoch": 1,
        "number": number,
        "msp_signature": bytes(64),
        "miner_signature": bytes(64),
    }
    return SignedRegistration(**(fields | changes))


class Owners:
    """A register whose registrations are whole in the order of a list."""

    def __init__(self, count=0):
        self.rows = []
        self.kept = None
        self.add(count)

    def add(self, count):
        # Numbers are not in the order in which both have signed.
        first = len(self.rows)
        self.rows += [registration(1 + (first + each) ^ 1) for each in range(count)]

    async def told(self):
        return self.kept

    async def tell(self, place, entries):
        self.kept = place, entries

    async def place_of(self, found):
        statements = [each.statement() for each in self.rows]
        here = found.statement() in statements
        return 1 + statements.index(found.statement()) if here else None

    async def confirmed(self, place, limit):
        return self.rows[place : place + limit]


class CertifiedStream(Stream):
    """A stream that is certified as far as it goes, unless it is held."""

    certified_max = 1 << 40

    @property
    def certified(self):
        return min(len(self.entries), self.certified_max)

    def told(self):
        return [each for payload in self.of(Kind.REGISTRATION) for each in read(payload)]


def read(payload):
    return decode_registrations(payload)


async def run_once(stream, owners, book=None, budget=1 << 16, times=1):
    """Runs a feed until it rests; returns it."""
    feed = Feed(
        stream, book or Book(), RULES, script=SCRIPT, pays=lambda _body: True, owners=owners
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run, books(budget=budget))
        feed.begin()
        for _ in range(times):
            await rest(feed)
        nursery.cancel_scope.cancel()
    return feed


async def test_whole_registrations_are_told_once_in_their_order(autojump_clock):
    stream, owners = CertifiedStream(), Owners(5)
    feed = await run_once(stream, owners)
    assert stream.told() == owners.rows
    assert feed.telling.place == 5
    owners.add(3)
    await run_once(stream, owners)
    assert stream.told() == owners.rows


async def test_shares_go_first(autojump_clock):
    stream, book = CertifiedStream(), Book()
    book.add(body(FIRST))
    await run_once(stream, Owners(1), book)
    kinds = [kind for kind, _ in stream.entries]
    assert kinds == [Kind.TEMPLATE, Kind.SHARE_BATCH, Kind.REGISTRATION]


@pytest.mark.parametrize("certified", [0, 1, 2, 3, 4])
async def test_a_crash_anywhere_leaves_no_owner_out_and_tells_none_twice(autojump_clock, certified):
    """What is kept beside the register is never ahead of what a crash leaves of the stream."""
    whole, owners = CertifiedStream(), Owners()
    whole.certified_max = certified
    kept = []
    for count in (2, 1, 3):
        owners.add(count)
        await run_once(whole, owners, times=3)
        kept.append((len(owners.rows), owners.kept))
    assert len(whole.entries) == 3
    for rows, told in kept:
        # What is certified is durable; of what follows any part may be lost.
        for left in range(min(certified, 3), 4):
            again = Owners()
            again.rows = list(owners.rows)
            again.kept = told
            stream = CertifiedStream(whole.entries[:left])
            if len(stream.told()) < rows and told is not None and told[0] > len(stream.told()):
                pytest.fail("kept ahead of the stream")
            await run_once(stream, again)
            assert stream.told() == owners.rows, (rows, told, left)


async def test_nothing_is_kept_before_it_is_certified(autojump_clock):
    stream, owners = CertifiedStream(), Owners(2)
    stream.certified_max = 0
    await run_once(stream, owners, times=3)
    assert owners.kept == (0, 0)
    owners.add(1)
    stream.certified_max = 1
    await run_once(stream, owners, times=3)
    assert len(stream.entries) == 2
    assert owners.kept == (2, 1)
    stream.certified_max = 2
    await run_once(stream, owners, times=3)
    assert owners.kept == (3, 2)


async def test_what_waits_in_the_queue_is_not_kept(autojump_clock):
    stream, owners = CertifiedStream(), Owners(2)
    stream.holds = True
    await run_once(stream, owners, times=3)
    assert (stream.waiting, stream.told(), owners.kept) == (1, [], (0, 0))
    # The queue is lost with the process.
    stream.queue.clear()
    stream.holds = False
    await run_once(stream, owners)
    assert stream.told() == owners.rows


async def test_a_long_stream_is_not_read_again_whole(autojump_clock):
    entries = [(Kind.EVIDENCE, b"")] * ENTRIES_UNSETTLED_MAX
    stream, owners = CertifiedStream(), Owners(1)
    await run_once(stream, owners, times=2)
    assert owners.kept == (1, 1)
    stream.entries += entries
    await run_once(stream, owners, times=2)
    assert owners.kept == (1, 1 + ENTRIES_UNSETTLED_MAX)


async def test_owners_take_no_more_than_a_part_between_two_marks(autojump_clock):
    stream, owners = CertifiedStream(), Owners(100)
    part = (1 << 16) // REGISTRATIONS_PART
    fit = (part - ENTRY_OVERHEAD - 2) // REGISTRATION_BYTES
    feed = await run_once(stream, owners, times=3)
    assert len(stream.told()) == fit
    assert feed.problem == ""
    stream.mark(0)
    await run_once(stream, owners, times=3)
    assert len(stream.told()) == 2 * fit
    # However small a budget is, it has room for one.
    stream.mark(1)
    await run_once(stream, owners, budget=1_000, times=3)
    assert stream.told() == owners.rows[: len(stream.told())]
    assert len(stream.told()) > 2 * fit


async def test_owners_wait_while_the_queue_is_full(autojump_clock):
    stream, owners = CertifiedStream(), Owners(2)
    stream.queue_max = 0
    await run_once(stream, owners)
    assert stream.entries == []
    stream.queue_max = 64
    await run_once(stream, owners)
    assert stream.told() == owners.rows


async def test_a_payload_has_a_bounded_number(autojump_clock):
    """spec: OR-15"""
    stream, owners = CertifiedStream(), Owners(REGISTRATIONS_MAX + 1)
    await run_once(stream, owners, budget=1 << 24)
    # The rules' own base is what counts below it.
    assert all(len(read(each)) <= REGISTRATIONS_MAX for each in stream.of(Kind.REGISTRATION))
    most = encode_registrations([registration(1)] * REGISTRATIONS_MAX)
    assert len(decode_registrations(most)) == REGISTRATIONS_MAX
    with pytest.raises(CodecError, match="257 registrations"):
        decode_registrations(encode_registrations([registration(1)] * (REGISTRATIONS_MAX + 1)))


async def test_a_ledger_from_a_backup_tells_nothing_and_says_why(autojump_clock):
    stream, owners = CertifiedStream(), Owners(3)
    await run_once(stream, owners)
    older = Owners(2)
    older.kept = 0, 0
    feed = await run_once(stream, older)
    assert "older than the member's store" in feed.problem
    older.add(2)
    older.rows[2] = registration(3, commitment=b"x" * 32)
    await run_once(stream, older)
    assert stream.told() == owners.rows


async def test_a_payload_that_cannot_be_read_is_passed_over(autojump_clock):
    stream, owners = CertifiedStream([(Kind.REGISTRATION, b"\x00")]), Owners(1)
    owners.kept = 0, 0
    await run_once(stream, owners)
    assert read(stream.entries[1][1]) == owners.rows


# The register itself.


@pytest.fixture
async def ledger(tmp_path):
    ledger = await Ledger.open(tmp_path / "ledger.sqlite", MSP, maturity_blocks=100)
    yield ledger
    await ledger.close()


async def sign(register, found, secret):
    await register.confirm_alone(found, secret.sign_schnorr(found.signed_hash))


async def test_the_register_tells_who_has_signed_in_the_order_of_that(ledger):
    """spec: OR-15"""
    register = OwnerRegister(ledger, MSP, new_per_minute_max=60)
    told = ToldRegister(ledger, MSP.public, COMMITTEE)
    secrets = [PrivateKey(bytes(31) + bytes([number])) for number in (1, 2, 3)]
    found = [await register.register(each.public_key_xonly.format()) for each in secrets]
    assert await told.confirmed(0, 10) == []
    for which in (2, 0):
        await sign(register, found[which], secrets[which])
    await sign(register, found[2], secrets[2])
    rows = await told.confirmed(0, 10)
    assert [each.number for each in rows] == [3, 1]
    assert await told.confirmed(1, 10) == await told.confirmed(1, 1) == rows[1:]
    await sign(register, found[1], secrets[1])
    rows = await told.confirmed(0, 10)
    assert [each.number for each in rows] == [3, 1, 2]
    assert [await told.place_of(each) for each in rows] == [1, 2, 3]
    check = RegisterCheck(MSP.public)
    assert check.take(encode_registrations(rows)) is None
    assert check.count == 3
    assert await told.place_of(registration(3)) is None
    assert await told.place_of(registration(4)) is None


async def test_each_federation_is_told_by_itself(ledger):
    told, other = (ToldRegister(ledger, MSP.public, each) for each in (COMMITTEE, OTHER))
    assert await told.told() is None
    await told.tell(0, 7)
    await told.tell(3, 9)
    assert await told.told() == (3, 9)
    assert await other.told() is None


async def test_a_feed_tells_the_register(ledger):
    # Threads of the ledger work for it: a clock that leaps would not wait for them.
    register = OwnerRegister(ledger, MSP, new_per_minute_max=60)
    secret = PrivateKey(bytes(31) + b"\x01")
    found = await register.register(secret.public_key_xonly.format())
    told, stream = ToldRegister(ledger, MSP.public, COMMITTEE), CertifiedStream()
    await told.tell(0, 0)
    await sign(register, found, secret)
    feed = Feed(stream, Book(), RULES, script=SCRIPT, pays=bool, owners=told)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run, books())
        with trio.fail_after(60):
            while not stream.told():
                await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    [row] = stream.told()
    assert (row.miner_key, row.number) == (found.miner_key, 1)


async def test_a_ledger_of_the_schema_before_has_its_owners_to_tell(tmp_path):
    file = tmp_path / "ledger.sqlite"
    ledger = await Ledger.open(file, MSP, maturity_blocks=100)
    register = OwnerRegister(ledger, MSP, new_per_minute_max=60)
    secrets = [PrivateKey(bytes(31) + bytes([number])) for number in (1, 2, 3, 4)]
    found = [await register.register(each.public_key_xonly.format()) for each in secrets]
    for which in (2, 0):
        await sign(register, found[which], secrets[which])
    await ledger.close()
    connection = sqlite3.connect(file)
    for name in ("registration_order", "registration_told"):
        connection.execute(f"DROP TABLE {name}")
    connection.execute("PRAGMA user_version = 4")
    connection.commit()
    connection.close()
    ledger = await Ledger.open(file, MSP, maturity_blocks=100)
    told = ToldRegister(ledger, MSP.public, COMMITTEE)
    assert [each.number for each in await told.confirmed(0, 10)] == [1, 3]
    register = OwnerRegister(ledger, MSP, new_per_minute_max=60)
    await sign(register, found[1], secrets[1])
    assert [each.number for each in await told.confirmed(0, 10)] == [1, 3, 2]
    await ledger.close()

"""A pool's seat in a federation: what it refuses, whom blocks pay, and what it books of them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from radpool_sv2._native.threshold import TREASURY, IdentityKey, TransportKey
from radpool_sv2.config import MspConfig, load
from radpool_sv2.doctor import examine
from radpool_sv2.errors import ConfigError
from radpool_sv2.federating import Federating
from radpool_sv2.federation.identity import MemberRecord
from radpool_sv2.federation.installation import Convention, install_member, read_record
from radpool_sv2.federation.state.ledger import Block, KnownKey, Slot, output_of_key
from radpool_sv2.federation.state.payout import direct_outputs, part_of
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.installation import install_msp
from radpool_sv2.keyfile import load_keys
from radpool_sv2.network import MAIN, REGTEST
from radpool_sv2.pool.work import Payee
from radpool_sv2.weight import REAL, WeightMode
from radpool_sv2.weight import REGTEST as SCALE

SETTINGS = {
    "templates.source": "bitcoind",
    "templates.rpc_urls": ["http://127.0.0.1:1"],
    "templates.rpc_cookie_files": ["cookie"],
    "ledger.maturity_blocks": 100,
    "declarator.enabled": False,
    "federation.dir": "member",
}
FUTURE_ADDRESS = "bcrt1zqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqwltss7"
"""Of witness version 2."""
AGREED = {"scale": SCALE, "exponent_floor": 8}


def pool_of(directory, settings=None, agreed=None, network=REGTEST, own_key=True, others=()):
    """Makes a pool with a member's directory in it; returns its configuration and keys."""
    install_msp(directory, settings=SETTINGS | (settings or {}))
    key = directory / "keys" / "msp.key" if own_key else None
    place = directory / "member"
    install_member(place, ["127.0.0.1:1"], msp_key=key)
    Convention.of(
        [read_record(place / "member.txt"), *others],
        chain=bytes.fromhex(network.first_block)[::-1],
        height_first=101,
        agreed=AGREED | (agreed or {}),
    ).write(place / "committee.json")
    config = load(MspConfig, directory / "msp.toml")
    return config, load_keys(config.keys)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"own_key": False}, "another key than this pool"),
        ({"network": MAIN}, "another network than regtest"),
        ({"agreed": {"mode": WeightMode.DIFFICULTY}}, "Allowed: difficulty"),
        ({"settings": {"weight.mode": "slice"}}, "Allowed: value"),
        ({"agreed": {"scale": REAL, "exponent_floor": 32}}, "another scale"),
        ({"settings": {"ledger.maturity_blocks": 99}}, "at least 100"),
        ({"settings": {"templates.source": "embedded"}}, "the embedded chain"),
        ({"settings": {"templates.payout_address": FUTURE_ADDRESS}}, "templates.payout_address"),
        (
            {"settings": {"declarator.enabled": True}, "agreed": {"payout": PayoutMode.DIRECT}},
            "declarator.enabled",
        ),
    ],
)
def test_a_member_that_the_pool_cannot_be_is_refused(tmp_path, change, words):
    config, keys = pool_of(tmp_path, **change)
    with pytest.raises(ConfigError, match=words):
        Federating(config, keys)


def test_a_pool_that_is_not_in_the_committee_is_told_so(tmp_path):
    config, keys = pool_of(tmp_path)
    install_member(tmp_path / "other", ["127.0.0.1:1"])
    (tmp_path / "member" / "committee.json").unlink()
    Convention.of(
        [read_record(tmp_path / "other" / "member.txt")],
        chain=bytes.fromhex(REGTEST.first_block)[::-1],
        height_first=101,
        agreed=AGREED,
    ).write(tmp_path / "member" / "committee.json")
    with pytest.raises(ConfigError, match="not in the committee"):
        Federating(config, keys)


def test_the_doctor_looks_at_the_seat(tmp_path):
    pool_of(tmp_path / "good")
    pool_of(tmp_path / "bad", own_key=False)
    for name, verdict in (("good", "GOOD"), ("bad", "BAD")):
        findings = {each.subject: each for each in examine(tmp_path / name / "msp.toml")}
        assert findings["federation"].verdict.name == verdict, findings["federation"]


class Pool:
    """What a seat asks of a pool."""

    def __init__(self):
        self.script = b"\x51\x20" + b"\x01" * 32
        self.payee = Payee.one(self.script)
        self.ledger = SimpleNamespace(committed=set())
        self.offered = set()
        self.floor = 0
        self.serves = True
        self.recorded = []

    def pay(self, payee):
        self.payee = payee

    def set_floor(self, exponent):
        self.floor = exponent

    async def record_part(self, block_hash, height, value_sats):
        if self.serves:
            self.recorded.append((block_hash, height, value_sats))
        return self.serves


def seat_of(directory, payout):
    """Returns a seat among four, its pool, and books in which all have weight."""
    others = [
        MemberRecord.sign(IdentityKey.generate(), TransportKey.generate().public, (), 1)
        for _ in range(3)
    ]
    config, keys = pool_of(directory, agreed={"payout": payout}, others=others)
    seat, pool = Federating(config, keys), Pool()
    seat.watch(pool)
    ledger = seat._function.start()
    members = tuple(
        replace(books, script=pool.script if number == seat._me else SCRIPTS[number])
        for number, books in enumerate(ledger.members)
    )
    earned = tuple((number, 1, 10 + number) for number in range(4))
    ledger = replace(ledger, members=members, window=(Slot(0, 1, earned),))
    return seat, pool, ledger


SCRIPTS = [b"\x51\x20" + bytes([number + 2]) * 32 for number in range(4)]
TREASURY_KEY = IdentityKey.from_secret(bytes(31) + b"\x07").public
VALUE = 5_000_000_000


def coinbase_of(outputs):
    return SimpleNamespace(
        outputs=[SimpleNamespace(script=script, value_sats=sats) for script, sats in outputs]
    )


def with_block(ledger, number, height):
    block = Block(height, bytes(32), 0, VALUE, TREASURY_KEY, 0, tuple(ledger.stakes()))
    return replace(ledger, blocks={**ledger.blocks, bytes([number]) * 32: block})


def test_blocks_pay_the_syndicate_once_books_know_its_key(tmp_path):
    seat, pool, ledger = seat_of(tmp_path, PayoutMode.SYNDICATE)
    assert pool.floor == AGREED["exponent_floor"]
    seat._take_in(ledger)
    assert not pool.payee.is_shared
    known = {TREASURY: KnownKey(TREASURY_KEY, bytes(32), 0)}
    seat._take_in(replace(ledger, keys=known, exponents=(8, 13)))
    script = output_of_key(seat._rules, TREASURY_KEY).script
    assert pool.payee.is_shared
    assert pool.payee.divide(VALUE) == [(script, VALUE)]
    assert pool.floor == 13
    assert seat._is_shared(coinbase_of([(script, VALUE), (b"\x6a", 0)]))
    assert not seat._is_shared(coinbase_of([(pool.script, VALUE), (script, 0)]))
    assert seat.figures()["script"] == script.hex()


def test_a_block_that_pays_a_former_key_is_not_the_pools_own(tmp_path):
    seat, _, ledger = seat_of(tmp_path, PayoutMode.SYNDICATE)
    other = IdentityKey.from_secret(bytes(31) + b"\x08").public
    seat._take_in(replace(with_block(ledger, 1, 111), keys={TREASURY: KnownKey(other, b"", 9)}))
    script = output_of_key(seat._rules, TREASURY_KEY).script
    assert seat._is_shared(coinbase_of([(script, VALUE)]))


def test_blocks_pay_the_members_by_the_latest_books(tmp_path):
    seat, pool, ledger = seat_of(tmp_path, PayoutMode.DIRECT)
    seat._take_in(ledger)
    assert pool.payee.is_shared
    outputs = pool.payee.divide(VALUE)
    assert outputs == direct_outputs(ledger, VALUE)
    assert [script for script, _ in outputs] == [each.script for each in ledger.members]
    assert sum(sats for _, sats in outputs) == VALUE
    assert seat._is_shared(coinbase_of(outputs))
    assert not seat._is_shared(coinbase_of([(pool.script, VALUE)]))


def test_while_no_books_are_there_only_blocks_that_pay_the_pool_alone_are_its_own(tmp_path):
    seat, pool, _ = seat_of(tmp_path, PayoutMode.SYNDICATE)
    script = output_of_key(seat._rules, TREASURY_KEY).script
    assert seat._is_shared(coinbase_of([(script, VALUE), (b"\x6a", 0)]))
    assert seat._is_shared(coinbase_of([(pool.script, VALUE), (script, 1)]))
    assert not seat._is_shared(coinbase_of([(pool.script, VALUE), (b"\x6a", 0)]))


async def test_each_block_is_booked_once_with_the_own_part(tmp_path):
    seat, pool, ledger = seat_of(tmp_path, PayoutMode.SYNDICATE)
    ledger = with_block(with_block(ledger, 1, 111), 2, 110)
    unknown = Block(112, bytes(32), 0, VALUE, TREASURY_KEY, 0)
    seat._take_in(replace(ledger, blocks={**ledger.blocks, b"\x03" * 32: unknown}))
    pool.serves = False
    await seat._record_parts()
    assert pool.recorded == []
    pool.serves = True
    await seat._record_parts()
    await seat._record_parts()
    assert pool.recorded == [
        (bytes([number]) * 32, height, part_of(seat._rules, ledger, bytes([number]) * 32, seat._me))
        for number, height in ((2, 110), (1, 111))
    ]
    shown = {each["height"]: each["own_part_sats"] for each in seat.figures()["blocks"]}
    assert shown == {height: part for _, height, part in pool.recorded} | {112: None}
    # Nobody could be paid for it; now they can.
    seat._take_in(with_block(ledger, 3, 112))
    await seat._record_parts()
    assert [height for _, height, _ in pool.recorded] == [110, 111, 112]

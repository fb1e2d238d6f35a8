"""What mints sign: keysets and updates, with everything in them that can be wrong."""

import pytest
from wallet_rig.message import Key, announce, octets, octets_of, u, update

from radpool_sv2._native.ecash import KeysetKeys, MintSeed
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.wallet.announcement import Announcement, EpochState, EpochUpdate, Policy
from radpool_sv2.wallet.price import price_of, split
from radpool_sv2.wallet.store import Keyset, Mint

KEY = Key(b"\1" * 32)
OTHER = Key(b"\2" * 32)
SEED = MintSeed.from_secret(b"\3" * 32)
KEYS = KeysetKeys.derive(SEED, "work", 1, 0, 8)
SAT = KeysetKeys.derive(SEED, "sat", 0, 0, 64)


def test_a_keyset():
    found = Announcement.read(announce(KEY, KEYS, z0=32, epoch=u(4, 7)), KEY.public)
    assert (found.keyset_id, found.policy, found.epoch, found.z0) == (KEYS.id, Policy.WINDOW, 7, 32)
    assert found.keys == {amount.bit_length() - 1: point for amount, point in KEYS.public}
    assert Announcement.parse(found.payload) == found


def test_the_keyset_of_sats():
    payload = announce(KEY, SAT, unit_text="sat", policy=u(1, 255))
    found = Announcement.read(payload, KEY.public)
    assert (found.unit, found.policy, len(found.keys)) == ("sat", None, 64)


def test_cut_off_and_followed():
    payload = announce(KEY, KEYS)
    for end in range(len(payload)):
        with pytest.raises(RemoteProtocolError):
            Announcement.parse(payload[:end])
    with pytest.raises(RemoteProtocolError, match="1 bytes follow"):
        Announcement.parse(payload + b"\0")


def test_signed_by_somebody_else():
    """attack: A6. What another key signed is not the mint's announcement."""
    payload = announce(OTHER, KEYS)
    with pytest.raises(RemoteProtocolError, match="not signed by the mint"):
        Announcement.read(payload, KEY.public)
    for mint in (b"", KEY.public[1:], b"\x03" + KEY.public[1:], b"\x02" + b"\xff" * 32):
        with pytest.raises(RemoteProtocolError):
            Announcement.read(announce(KEY, KEYS), mint)


def test_every_bit_is_signed():
    """spec: EW-30. attack: A6."""
    payload = announce(KEY, KeysetKeys.derive(SEED, "work", 1, 0, 1))
    for at in range(len(payload)):
        changed = payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]
        with pytest.raises(RemoteProtocolError):
            Announcement.read(changed, KEY.public)


def keys_of(*rows):
    return u(1, len(rows)) + b"".join(u(1, z) + octets(point) for z, point in rows)


POINT = KEYS.public[0][1]


@pytest.mark.parametrize(
    "change",
    [
        # Keys that are not those of the id: one set of keys for each miner would mark its tokens.
        {"keys": octets_of(KeysetKeys.derive(SEED, "work", 2, 0, 8), 0)},
        {"keyset_id": octets(KeysetKeys.derive(SEED, "work", 2, 0, 8).id)},
        {"keys": octets_of(KeysetKeys.derive(SEED, "work", 1, 0, 7), 0)},
        {"unit_text": "sat", "policy": u(1, 255)},
        {"unit_text": "hash"},
        {"unit_text": "Work"},
        # Other versions of ids, and other lengths.
        {"keyset_id": octets(b"\0" + KEYS.id[1:])},
        {"keyset_id": octets(b"\2" + KEYS.id[1:])},
        {"keyset_id": octets(KEYS.id[:8])},
        {"keyset_id": octets(b"")},
        # Points, and the ladder.
        {"keys": keys_of()},
        {"keys": keys_of((0, POINT), (0, POINT))},
        {"keys": keys_of((0, POINT[:-1]))},
        {"keys": keys_of((0, b"\x04" + POINT[1:]))},
        {"keys": keys_of((0, b"\x02" + b"\xff" * 32))},
        {"keys": keys_of((64, POINT))},
        {"policy": u(1, 4)},
        {"policy": u(1, 255)},
        {"supersedes": octets(KEYS.id[:8])},
        # What this version does not have.
        {"input_fee_ppk": u(4, 1)},
        {"final_expiry": u(8, 1)},
        # A price is the fixed policy's.
        {"price_num": u(8, 1)},
        {"price_num": u(8, 1), "price_den": u(8, 1)},
        {"policy": u(1, 3)},
    ],
)
def test_a_wrong_field(change):
    """spec: EW-30, RC-8. attack: A6, A27."""
    with pytest.raises(RemoteProtocolError):
        Announcement.read(announce(KEY, KEYS, **change), KEY.public)


def test_a_ladder_that_begins_too_high():
    with pytest.raises(RemoteProtocolError):
        Announcement.read(announce(KEY, KEYS, z0=121), KEY.public)
    with pytest.raises(RemoteProtocolError):
        Announcement.read(announce(KEY, KEYS, z0=8, keys=octets_of(KEYS, 7)), KEY.public)


def test_an_update():
    payload = update(KEY, KEYS.id, state=3, theta_msat=2**64 - 1, work_total=2**64 - 1)
    found = EpochUpdate.read(payload, KEY.public)
    assert (found.state, found.theta_msat, found.work_total) == (
        EpochState.FINAL,
        2**64 - 1,
        2**64 - 1,
    )
    for end in range(len(payload)):
        with pytest.raises(RemoteProtocolError):
            EpochUpdate.parse(payload[:end])
    for at in range(len(payload)):
        changed = payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]
        with pytest.raises(RemoteProtocolError):
            EpochUpdate.read(changed, KEY.public)


def test_an_update_of_a_group():
    payload = update(KEY, KEYS.id, group=u(1, 2) + octets(KEYS.id) + octets(SAT.id))
    assert EpochUpdate.read(payload, KEY.public).group == (KEYS.id, SAT.id)


@pytest.mark.parametrize(
    "change", [{"state": 6}, {"group": u(1, 1) + octets(b"x")}, {"statement_hash": octets(b"x")}]
)
def test_an_update_that_is_wrong(change):
    with pytest.raises(RemoteProtocolError):
        EpochUpdate.read(update(KEY, KEYS.id, **change), KEY.public)


def keyset(announcement=None, last=None):
    found = Announcement.read(announcement or announce(KEY, KEYS), KEY.public)
    known = None if last is None else EpochUpdate.read(last, KEY.public)
    return Keyset(1, Mint(1, KEY.public, None), found, known, 0, False, 0)


@pytest.mark.parametrize(
    ("theta", "work", "units", "msat", "sats"),
    [
        (1000, 1, 1, 1000, 1),
        (999, 1, 1, 999, 0),
        (1999, 2, 2, 1999, 1),
        (5, 3, 2, 3, 0),
        # The product needs 128 bits.
        (2**62, 2**63 - 1, 2**63 - 1, 2**62, 2**62 // 1000),
        (2**64 - 1, 2**64 - 1, 2**64 - 2, 2**64 - 2, (2**64 - 2) // 1000),
    ],
)
def test_the_price(theta, work, units, msat, sats):
    """spec: ES-11. attack: A14."""
    price = price_of(keyset(last=update(KEY, KEYS.id, state=3, theta_msat=theta, work_total=work)))
    assert (price.msat(units), price.sats(units), price.final) == (msat, sats, True)


def test_no_price():
    assert price_of(keyset()) is None
    assert price_of(keyset(last=update(KEY, KEYS.id, state=1, work_total=5))) is None
    assert price_of(keyset(last=update(KEY, KEYS.id, state=3, theta_msat=5))) is None


def test_the_fixed_price():
    """spec: ES-14."""
    fixed = announce(KEY, KEYS, policy=u(1, 3), price_num=u(8, 7), price_den=u(8, 2))
    other = update(KEY, KEYS.id, state=0, theta_msat=1, work_total=1)
    price = price_of(keyset(fixed, other))
    assert (price.num, price.den, price.msat(3)) == (7, 2, 10)


def test_split():
    assert split(1) == [0]
    assert split(2**64 - 1) == list(range(64))
    assert sum(1 << exponent for exponent in split(123_456_789)) == 123_456_789
    assert split(123_456_789) == sorted(set(split(123_456_789)))

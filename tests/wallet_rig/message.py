"""Writes and signs what a mint announces; written from the page, sharing no code with a reader."""

from dataclasses import dataclass, field

from coincurve import PrivateKey

from radpool_sv2.units import tagged_hash

OPEN, CLOSED, PROVISIONAL, FINAL, VOID, EXPIRED = range(6)


def u(size, value):
    return value.to_bytes(size, "little")


def octets(data):
    return u(1, len(data)) + data


@dataclass
class Key:
    """Is a mint's identity."""

    secret: bytes
    public: bytes = field(init=False)

    def __post_init__(self):
        self.key = PrivateKey(self.secret)
        self.public = b"\x02" + self.key.public_key.format()[1:]

    def sign(self, tag, payload):
        return payload + self.key.sign_schnorr(tagged_hash(tag, payload), b"\0" * 32)


def announce(key, keys, /, **change):
    """Writes an EcashKeysetAnnounce of `keys`, a `KeysetKeys`; `change` replaces single fields."""
    z0 = change.get("z0", 0)
    fields = {
        "keyset_id": octets(keys.id),
        "unit": octets(change.pop("unit_text", "work").encode()),
        "policy": u(1, 2),
        "epoch": u(4, 1),
        "opened_height": u(4, 100),
        "opened_block": bytes(32),
        "z0": u(1, z0),
        "keys": octets_of(keys, z0),
        "input_fee_ppk": u(4, 0),
        "final_expiry": u(8, 0),
        "fee_ppm": u(4, 0),
        "fee_fixed_msat": u(8, 0),
        "price_num": u(8, 0),
        "price_den": u(8, 0),
        "supersedes": octets(b""),
    }
    change.pop("z0", None)
    assert change.keys() <= fields.keys()
    return key.sign("radpool/keyset", b"".join((fields | change).values()))


def octets_of(keys, z0):
    rows = [(amount.bit_length() - 1 + z0, point) for amount, point in keys.public]
    return u(1, len(rows)) + b"".join(u(1, z) + octets(point) for z, point in rows)


def update(key, keyset_id, **change):
    """Writes an EcashEpochUpdate."""
    fields = {
        "keyset_id": octets(keyset_id),
        "state": u(1, change.pop("state", OPEN)),
        "block_hash": bytes(32),
        "height": u(4, change.pop("height", 0)),
        "confirmations": u(2, 0),
        "theta_msat": u(8, change.pop("theta_msat", 0)),
        "work_total": u(8, change.pop("work_total", 0)),
        "group": u(1, 0),
        "statement_hash": octets(b""),
        "redeem_after_height": u(4, change.pop("redeem_after_height", 0)),
        "expires_at": u(8, change.pop("expires_at", 0)),
    }
    assert change.keys() <= fields.keys()
    return key.sign("radpool/epoch-update", b"".join((fields | change).values()))

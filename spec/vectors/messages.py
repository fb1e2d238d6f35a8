"""Writes the twelve messages of the ecash extension as page 05 has them."""

from __future__ import annotations

from typing import Any

from layout import le
from secp256k1 import sign, tagged_hash

Kind = str | tuple[str, Any]
Fields = list[tuple[str, Kind]]

EXTENSION = 0x4E45

OPEN: Fields = [
    ("request_id", "u32"),
    ("user_identity", "str"),
    ("nominal_hash_rate", "f32"),
    ("max_target", "u256"),
    ("min_extranonce_size", "u16"),
]
OPENED: Fields = [
    ("request_id", "u32"),
    ("channel_id", "u32"),
    ("target", "u256"),
    ("extranonce_size", "u16"),
    ("extranonce_prefix", "b032"),
    ("group_channel_id", "u32"),
]
SUBMIT: Fields = [
    ("channel_id", "u32"),
    ("sequence_number", "u32"),
    ("job_id", "u32"),
    ("nonce", "u32"),
    ("ntime", "u32"),
    ("version", "u32"),
    ("extranonce", "b032"),
]
SIGNED: Fields = [("C_", "b0255"), ("e", "b032"), ("s", "b032")]

MESSAGES: dict[str, tuple[int, bool, Fields]] = {
    "OpenExtendedEcashMiningChannel": (
        0x00,
        False,
        [
            *OPEN,
            ("policies_accepted", "u32"),
            ("sign_modes_accepted", "u8"),
            ("min_protocol", "u8"),
            ("claim_pubkey", "b0255"),
        ],
    ),
    "OpenExtendedEcashMiningChannel.Success": (
        0x01,
        False,
        [
            *OPENED,
            ("policy", "u8"),
            ("sign_mode", "u8"),
            ("z0", "u8"),
            ("z_step", "u8"),
            ("keyset_id", "b0255"),
            ("mint_pubkey", "b0255"),
            ("mint_url", "str"),
            ("max_batch", "u16"),
        ],
    ),
    "OpenExtendedEcashMiningChannel.Error": (
        0x02,
        False,
        [("request_id", "u32"), ("error_code", "str")],
    ),
    "SubmitSharesEcashExtended": (
        0x03,
        True,
        [*SUBMIT, ("keyset_short", "b0255"), ("B_", "b0255")],
    ),
    "SubmitSharesEcashExtended.Success": (
        0x04,
        True,
        [
            ("channel_id", "u32"),
            ("last_sequence_number", "u32"),
            ("new_submits_accepted_count", "u32"),
            ("new_shares_sum", "u64"),
            ("receipts", ("seq64k", [("sequence_number", "u32"), ("z", "u8"), *SIGNED])),
            ("receipt_root", "b032"),
            ("receipt_sig", "b0255"),
        ],
    ),
    "SubmitSharesEcashExtended.Error": (
        0x05,
        True,
        [("channel_id", "u32"), ("sequence_number", "u32"), ("error_code", "str")],
    ),
    "RedeemSharesEcash": (
        0x06,
        False,
        [
            ("request_id", "u32"),
            ("mode", "u8"),
            ("keyset_id", "b0255"),
            ("claims", ("seq64k", "b0255")),
            ("inputs", ("seq64k", [("z", "u8"), ("secret", "str"), ("C", "b0255")])),
            (
                "outputs",
                ("seq64k", [("amount", "u64"), ("keyset_short", "b0255"), ("B_", "b0255")]),
            ),
        ],
    ),
    "RedeemSharesEcash.Success": (
        0x07,
        False,
        [
            ("request_id", "u32"),
            ("mode", "u8"),
            ("signatures", ("seq64k", [("index", "u16"), ("amount", "u64"), *SIGNED])),
            ("pending", ("seq64k", "u16")),
            ("unknown", ("seq64k", "u16")),
            ("price_num", "u64"),
            ("price_den", "u64"),
        ],
    ),
    "RedeemSharesEcash.Error": (
        0x08,
        False,
        [("request_id", "u32"), ("error_code", "str"), ("retry_after_s", "u32")],
    ),
    "EcashKeysetAnnounce": (
        0x09,
        False,
        [
            ("keyset_id", "b0255"),
            ("unit", "str"),
            ("policy", "u8"),
            ("epoch", "u32"),
            ("opened_height", "u32"),
            ("opened_block", "u256"),
            ("z0", "u8"),
            ("keys", ("seq255", [("z", "u8"), ("A", "b0255")])),
            ("input_fee_ppk", "u32"),
            ("final_expiry", "u64"),
            ("fee_ppm", "u32"),
            ("fee_fixed_msat", "u64"),
            ("price_num", "u64"),
            ("price_den", "u64"),
            ("supersedes", "b0255"),
            ("sig", "signature"),
        ],
    ),
    "EcashKeysetRequest": (0x0A, False, [("keyset_id", "b0255")]),
    "EcashEpochUpdate": (
        0x0B,
        False,
        [
            ("keyset_id", "b0255"),
            ("state", "u8"),
            ("block_hash", "u256"),
            ("height", "u32"),
            ("confirmations", "u16"),
            ("theta_msat", "u64"),
            ("work_total", "u64"),
            ("group", ("seq255", "b0255")),
            ("statement_hash", "b032"),
            ("redeem_after_height", "u32"),
            ("expires_at", "u64"),
            ("sig", "signature"),
        ],
    ),
}

INTEGERS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
RAW = {"f32": 4, "u256": 32, "signature": 64}
COUNTS = {"seq255": 1, "seq64k": 2}


def encode_field(kind: Kind, value: Any) -> bytes:
    """Writes a field; bytes are given in hex, as in the vectors."""
    if isinstance(kind, tuple):
        form, inner = kind
        fields = inner if isinstance(inner, list) else None
        items = [encode_fields(fields, i) if fields else encode_field(inner, i) for i in value]
        return le(len(items), COUNTS[form]) + b"".join(items)
    if kind in INTEGERS:
        return le(value, INTEGERS[kind])
    if kind in RAW:
        raw = bytes.fromhex(value)
        assert len(raw) == RAW[kind]
        return raw
    raw = value.encode() if kind == "str" else bytes.fromhex(value)
    assert len(raw) <= {"b032": 32}.get(kind, 255)
    return le(len(raw), 1) + raw


def encode_fields(fields: Fields, values: dict[str, Any]) -> bytes:
    assert [name for name, _ in fields] == list(values), "the fields are not those of the page"
    return b"".join(encode_field(kind, values[name]) for name, kind in fields)


def encode(name: str, values: dict[str, Any]) -> bytes:
    """Writes the payload of a message."""
    return encode_fields(MESSAGES[name][2], values)


SIGNATURE_TAGS = {
    "EcashKeysetAnnounce": "radpool/keyset",
    "EcashEpochUpdate": "radpool/epoch-update",
}


def signed(secret: bytes, name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Returns an announcement's or an update's fields with the signature behind them."""
    unsigned = encode_fields(MESSAGES[name][2][:-1], values)
    digest = tagged_hash(SIGNATURE_TAGS[name], unsigned)
    return {**values, "sig": sign(secret, digest).hex()}

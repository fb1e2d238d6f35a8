"""Writes and reads the twelve messages of the ecash extension.

Source: `spec/05-ecash-messages.md`. A message is its name and its fields, records of a list are
dictionaries. Reading is strict: every byte accounted for, every length one of those allowed.
"""

from __future__ import annotations

from typing import Any

from . import curve
from .message import RawFrame, Reader, encode, frame

EXTENSION = 0x4E45
CLAIM_FIELD = 0x01

# What a field may be: a kind of the core's, "raw:N" for N bytes without a length, "bytes:N|M" for
# a length byte and one of so many bytes, "list8" and "list16" of fields or of one kind.
Fields = list[tuple[str, Any]]
POINT, SCALAR, ID, SHORT = "bytes:33", "bytes:32", "bytes:33", "bytes:8"
SIGNED: Fields = [("C_", POINT), ("e", SCALAR), ("s", SCALAR)]
RECEIPT: Fields = [
    ("sequence_number", "u32"),
    ("z", "u8"),
    ("C_", "bytes:0|33"),
    ("e", "bytes:0|32"),
    ("s", "bytes:0|32"),
]

MESSAGES: dict[str, tuple[int, Fields]] = {
    "OpenExtendedEcashMiningChannel": (
        0x00,
        [
            ("request_id", "u32"),
            ("user_identity", "str"),
            ("nominal_hash_rate", "f32"),
            ("max_target", "u256"),
            ("min_extranonce_size", "u16"),
            ("policies_accepted", "u32"),
            ("sign_modes_accepted", "u8"),
            ("min_protocol", "u8"),
            ("claim_pubkey", "bytes:0|33"),
        ],
    ),
    "OpenExtendedEcashMiningChannel.Success": (
        0x01,
        [
            ("request_id", "u32"),
            ("channel_id", "u32"),
            ("target", "u256"),
            ("extranonce_size", "u16"),
            ("extranonce_prefix", "b032"),
            ("group_channel_id", "u32"),
            ("policy", "u8"),
            ("sign_mode", "u8"),
            ("z0", "u8"),
            ("z_step", "u8"),
            ("keyset_id", ID),
            ("mint_pubkey", POINT),
            ("mint_url", "str"),
            ("max_batch", "u16"),
        ],
    ),
    "OpenExtendedEcashMiningChannel.Error": (
        0x02,
        [("request_id", "u32"), ("error_code", "str")],
    ),
    "SubmitSharesEcashExtended": (
        0x03,
        [
            ("channel_id", "u32"),
            ("sequence_number", "u32"),
            ("job_id", "u32"),
            ("nonce", "u32"),
            ("ntime", "u32"),
            ("version", "u32"),
            ("extranonce", "b032"),
            ("keyset_short", SHORT),
            ("B_", POINT),
        ],
    ),
    "SubmitSharesEcashExtended.Success": (
        0x04,
        [
            ("channel_id", "u32"),
            ("last_sequence_number", "u32"),
            ("new_submits_accepted_count", "u32"),
            ("new_shares_sum", "u64"),
            ("receipts", ("list16", RECEIPT)),
            ("receipt_root", "bytes:0|32"),
            ("receipt_sig", "bytes:0|64"),
        ],
    ),
    "SubmitSharesEcashExtended.Error": (
        0x05,
        [("channel_id", "u32"), ("sequence_number", "u32"), ("error_code", "str")],
    ),
    "RedeemSharesEcash": (
        0x06,
        [
            ("request_id", "u32"),
            ("mode", "u8"),
            ("keyset_id", ID),
            ("claims", ("list16", POINT)),
            ("inputs", ("list16", [("z", "u8"), ("secret", "str"), ("C", POINT)])),
            ("outputs", ("list16", [("amount", "u64"), ("keyset_short", SHORT), ("B_", POINT)])),
        ],
    ),
    "RedeemSharesEcash.Success": (
        0x07,
        [
            ("request_id", "u32"),
            ("mode", "u8"),
            ("signatures", ("list16", [("index", "u16"), ("amount", "u64"), *SIGNED])),
            ("pending", ("list16", "u16")),
            ("unknown", ("list16", "u16")),
            ("price_num", "u64"),
            ("price_den", "u64"),
        ],
    ),
    "RedeemSharesEcash.Error": (
        0x08,
        [("request_id", "u32"), ("error_code", "str"), ("retry_after_s", "u32")],
    ),
    "EcashKeysetAnnounce": (
        0x09,
        [
            ("keyset_id", ID),
            ("unit", "str"),
            ("policy", "u8"),
            ("epoch", "u32"),
            ("opened_height", "u32"),
            ("opened_block", "u256"),
            ("z0", "u8"),
            ("keys", ("list8", [("z", "u8"), ("A", POINT)])),
            ("input_fee_ppk", "u32"),
            ("final_expiry", "u64"),
            ("fee_ppm", "u32"),
            ("fee_fixed_msat", "u64"),
            ("price_num", "u64"),
            ("price_den", "u64"),
            ("supersedes", "bytes:0|33"),
            ("sig", "raw:64"),
        ],
    ),
    "EcashKeysetRequest": (0x0A, [("keyset_id", "bytes:0|33")]),
    "EcashEpochUpdate": (
        0x0B,
        [
            ("keyset_id", ID),
            ("state", "u8"),
            ("block_hash", "u256"),
            ("height", "u32"),
            ("confirmations", "u16"),
            ("theta_msat", "u64"),
            ("work_total", "u64"),
            ("group", ("list8", ID)),
            ("statement_hash", "bytes:0|32"),
            ("redeem_after_height", "u32"),
            ("expires_at", "u64"),
            ("sig", "raw:64"),
        ],
    ),
}
NAMES = {number: name for name, (number, _) in MESSAGES.items()}
OF_A_CHANNEL = {0x03, 0x04, 0x05}
RANGES = {"mode": 1, "state": 5}
SIGNATURE_LEN = 64
TAGS = {"EcashKeysetAnnounce": "radpool/keyset", "EcashEpochUpdate": "radpool/epoch-update"}


def write(name: str, **fields: Any) -> bytes:
    """Writes a payload."""
    return _write_fields(MESSAGES[name][1], fields)


def write_frame(name: str, **fields: Any) -> bytes:
    """Writes a frame, header included."""
    number = MESSAGES[name][0]
    return frame(EXTENSION, number, write(name, **fields), channel=number in OF_A_CHANNEL)


def _write_fields(layout: Fields, values: dict[str, Any]) -> bytes:
    assert set(values) == {name for name, _ in layout}, sorted(values)
    return b"".join(_write(kind, values[name]) for name, kind in layout)


def _write(kind: Any, value: Any) -> bytes:
    if isinstance(kind, tuple):
        form, inner = kind
        items = [
            _write_fields(inner, item) if isinstance(inner, list) else _write(inner, item)
            for item in value
        ]
        return len(items).to_bytes(1 if form == "list8" else 2, "little") + b"".join(items)
    if kind.startswith("raw:"):
        return bytes(value)
    return encode("b0255" if kind.startswith("bytes:") else kind, value)


def read(raw: RawFrame) -> tuple[str, dict[str, Any]]:
    """Reads a frame of the extension; raises ValueError when it breaks the rules."""
    assert raw.extension == EXTENSION
    name = NAMES[raw.number]
    if raw.channel != (raw.number in OF_A_CHANNEL):
        raise ValueError(f"{name} with channel bit {int(raw.channel)}")
    return name, read_payload(name, raw.payload_bytes)


def read_payload(name: str, payload: bytes) -> dict[str, Any]:
    reader = Reader(payload)
    fields = _read_fields(reader, MESSAGES[name][1])
    if reader.at != len(payload):
        raise ValueError(f"{len(payload) - reader.at} bytes behind {name}")
    _check(fields)
    return fields


def _check(fields: dict[str, Any]) -> None:
    """Checks what the form alone does not."""
    for field, greatest in RANGES.items():
        if fields.get(field, 0) > greatest:
            raise ValueError(f"{field} {fields[field]} has no meaning")
    for receipt in fields.get("receipts", []):
        if len({bool(receipt[part]) for part in ("C_", "e", "s")}) != 1:
            raise ValueError("a signature without its proof")
    if bool(fields.get("receipt_root")) != bool(fields.get("receipt_sig")):
        raise ValueError("a root without its signature")


def _read_fields(reader: Reader, layout: Fields) -> dict[str, Any]:
    return {name: _read(reader, kind) for name, kind in layout}


def _read(reader: Reader, kind: Any) -> Any:
    if isinstance(kind, tuple):
        form, inner = kind
        count = reader.number("<B" if form == "list8" else "<H")
        return [
            _read_fields(reader, inner) if isinstance(inner, list) else _read(reader, inner)
            for _ in range(count)
        ]
    name, _, allowed = kind.partition(":")
    if name == "raw":
        return reader.take(int(allowed))
    if name == "bytes":
        value = reader.field("b0255")
        if str(len(value)) not in allowed.split("|"):
            raise ValueError(f"{len(value)} bytes where {allowed} are allowed")
        return value
    return reader.field(kind)


def is_signed(name: str, payload: bytes, msp_key: bytes) -> bool:
    """Tells whether an announcement or update bears the signature of the MSP."""
    unsigned, signature = payload[:-SIGNATURE_LEN], payload[-SIGNATURE_LEN:]
    return curve.verify(msp_key, curve.tagged_hash(TAGS[name], unsigned), signature)

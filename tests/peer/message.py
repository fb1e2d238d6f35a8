"""Lays out the messages of SV2: common, mining, job declaration, templates, negotiation.

A message is a name with fields; LAYOUTS says how each name looks on the wire. Source: sv2-spec,
sections 3 (data types, framing), 3.6 (common), 5 (mining), 6 (job declaration) and 7 (template
distribution, whose SetNewPrevHash is called TemplateSetNewPrevHash here); extension 0x0001.
"""

from __future__ import annotations

import struct
from typing import Any

CHANNEL_BIT = 0x8000

Layout = tuple[int, int, bool, tuple[tuple[str, str], ...]]


def layout(extension: int, number: int, channel: bool, fields: str) -> Layout:
    pairs = tuple(tuple(field.split(":")) for field in fields.split())
    return extension, number, channel, pairs  # type: ignore[return-value]


LAYOUTS: dict[str, Layout] = {
    "SetupConnection": layout(
        0,
        0x00,
        False,
        "protocol:u8 min_version:u16 max_version:u16 flags:u32 endpoint_host:str endpoint_port:u16"
        " vendor:str hardware_version:str firmware:str device_id:str",
    ),
    "SetupConnectionSuccess": layout(0, 0x01, False, "used_version:u16 flags:u32"),
    "SetupConnectionError": layout(0, 0x02, False, "flags:u32 error_code:str"),
    "ChannelEndpointChanged": layout(0, 0x03, True, "channel_id:u32"),
    "Reconnect": layout(0, 0x04, False, "new_host:str new_port:u16"),
    "OpenStandardMiningChannel": layout(
        0, 0x10, False, "request_id:u32 user_identity:str nominal_hash_rate:f32 max_target:u256"
    ),
    "OpenStandardMiningChannelSuccess": layout(
        0,
        0x11,
        False,
        "request_id:u32 channel_id:u32 target:u256 extranonce_prefix:b032 group_channel_id:u32",
    ),
    "OpenMiningChannelError": layout(0, 0x12, False, "request_id:u32 error_code:str"),
    "OpenExtendedMiningChannel": layout(
        0,
        0x13,
        False,
        "request_id:u32 user_identity:str nominal_hash_rate:f32 max_target:u256"
        " min_extranonce_size:u16",
    ),
    "OpenExtendedMiningChannelSuccess": layout(
        0,
        0x14,
        False,
        "request_id:u32 channel_id:u32 target:u256 extranonce_size:u16 extranonce_prefix:b032"
        " group_channel_id:u32",
    ),
    "NewMiningJob": layout(
        0, 0x15, True, "channel_id:u32 job_id:u32 min_ntime:option version:u32 merkle_root:u256"
    ),
    "UpdateChannel": layout(
        0, 0x16, True, "channel_id:u32 nominal_hash_rate:f32 maximum_target:u256"
    ),
    "UpdateChannelError": layout(0, 0x17, True, "channel_id:u32 error_code:str"),
    "CloseChannel": layout(0, 0x18, True, "channel_id:u32 reason_code:str"),
    "SetExtranoncePrefix": layout(0, 0x19, True, "channel_id:u32 extranonce_prefix:b032"),
    "SubmitSharesStandard": layout(
        0,
        0x1A,
        True,
        "channel_id:u32 sequence_number:u32 job_id:u32 nonce:u32 ntime:u32 version:u32",
    ),
    "SubmitSharesExtended": layout(
        0,
        0x1B,
        True,
        "channel_id:u32 sequence_number:u32 job_id:u32 nonce:u32 ntime:u32 version:u32"
        " extranonce:b032",
    ),
    "SubmitSharesSuccess": layout(
        0,
        0x1C,
        True,
        "channel_id:u32 last_sequence_number:u32 new_submits_accepted_count:u32 new_shares_sum:u64",
    ),
    "SubmitSharesError": layout(0, 0x1D, True, "channel_id:u32 sequence_number:u32 error_code:str"),
    "NewExtendedMiningJob": layout(
        0,
        0x1F,
        True,
        "channel_id:u32 job_id:u32 min_ntime:option version:u32 version_rolling_allowed:bool"
        " merkle_path:hashes coinbase_tx_prefix:b064k coinbase_tx_suffix:b064k",
    ),
    "SetNewPrevHash": layout(
        0, 0x20, True, "channel_id:u32 job_id:u32 prev_hash:u256 min_ntime:u32 nbits:u32"
    ),
    "SetTarget": layout(0, 0x21, True, "channel_id:u32 maximum_target:u256"),
    "SetCustomMiningJob": layout(
        0,
        0x22,
        True,
        "channel_id:u32 request_id:u32 mining_job_token:b0255 version:u32 prev_hash:u256"
        " min_ntime:u32 nbits:u32 coinbase_tx_version:u32 coinbase_prefix:b0255"
        " coinbase_tx_input_n_sequence:u32 coinbase_tx_outputs:b064k coinbase_tx_locktime:u32"
        " merkle_path:hashes",
    ),
    "SetCustomMiningJobSuccess": layout(0, 0x23, True, "channel_id:u32 request_id:u32 job_id:u32"),
    "SetCustomMiningJobError": layout(
        0, 0x24, True, "channel_id:u32 request_id:u32 error_code:str"
    ),
    "SetGroupChannel": layout(0, 0x25, False, "group_channel_id:u32 channel_ids:u32s"),
    "AllocateMiningJobToken": layout(0, 0x50, False, "user_identifier:str request_id:u32"),
    "AllocateMiningJobTokenSuccess": layout(
        0, 0x51, False, "request_id:u32 mining_job_token:b0255 coinbase_tx_outputs:b064k"
    ),
    "ProvideMissingTransactions": layout(
        0, 0x55, False, "request_id:u32 unknown_tx_position_list:u16s"
    ),
    "ProvideMissingTransactionsSuccess": layout(
        0, 0x56, False, "request_id:u32 transaction_list:transactions"
    ),
    "DeclareMiningJob": layout(
        0,
        0x57,
        False,
        "request_id:u32 mining_job_token:b0255 version:u32 coinbase_tx_prefix:b064k"
        " coinbase_tx_suffix:b064k wtxid_list:hashes64k excess_data:b064k",
    ),
    "DeclareMiningJobSuccess": layout(0, 0x58, False, "request_id:u32 new_mining_job_token:b0255"),
    "DeclareMiningJobError": layout(
        0, 0x59, False, "request_id:u32 error_code:str error_details:b064k"
    ),
    "PushSolution": layout(
        0,
        0x60,
        False,
        "extranonce:b032 prev_hash:u256 nonce:u32 ntime:u32 nbits:u32 version:u32",
    ),
    "CoinbaseOutputConstraints": layout(
        0,
        0x70,
        False,
        "coinbase_output_max_additional_size:u32 coinbase_output_max_additional_sigops:u16",
    ),
    "NewTemplate": layout(
        0,
        0x71,
        False,
        "template_id:u64 future_template:bool version:u32 coinbase_tx_version:u32"
        " coinbase_prefix:b0255 coinbase_tx_input_sequence:u32 coinbase_tx_value_remaining:u64"
        " coinbase_tx_outputs_count:u32 coinbase_tx_outputs:b064k coinbase_tx_locktime:u32"
        " merkle_path:hashes",
    ),
    "TemplateSetNewPrevHash": layout(
        0, 0x72, False, "template_id:u64 prev_hash:u256 header_timestamp:u32 nbits:u32 target:u256"
    ),
    "RequestTransactionData": layout(0, 0x73, False, "template_id:u64"),
    "RequestTransactionDataSuccess": layout(
        0, 0x74, False, "template_id:u64 excess_data:b064k transaction_list:transactions"
    ),
    "RequestTransactionDataError": layout(0, 0x75, False, "template_id:u64 error_code:str"),
    "SubmitSolution": layout(
        0,
        0x76,
        False,
        "template_id:u64 version:u32 header_timestamp:u32 header_nonce:u32 coinbase_tx:b064k",
    ),
    "RequestExtensions": layout(1, 0x00, False, "request_id:u16 requested_extensions:u16s"),
    "RequestExtensionsSuccess": layout(1, 0x01, False, "request_id:u16 supported_extensions:u16s"),
    "RequestExtensionsError": layout(
        1, 0x02, False, "request_id:u16 unsupported_extensions:u16s required_extensions:u16s"
    ),
}
BY_NUMBER = {(extension, number): name for name, (extension, number, _, _) in LAYOUTS.items()}

FIXED = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q", "f32": "<f"}


class Message:
    """Is a message: `Message("SetTarget", channel_id=1, maximum_target=bytes(32))`."""

    def __init__(self, name: str, /, tail: bytes = b"", **fields: Any) -> None:
        self.name = name
        self.tail = tail
        expected = [field for field, _ in LAYOUTS[name][3]]
        assert list(fields) == expected or set(fields) == set(expected), (
            f"{name} has the fields {expected}, not {list(fields)}"
        )
        self.fields = fields

    def __getattr__(self, field: str) -> Any:
        try:
            return self.__dict__["fields"][field]
        except KeyError:
            raise AttributeError(f"{self.__dict__.get('name')} has no {field}") from None

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{key}={value.hex() if isinstance(value, bytes) else value!r}"
            for key, value in self.fields.items()
        )
        return f"{self.name}({shown})"

    def replace(self, **changes: Any) -> Message:
        return Message(self.name, tail=self.tail, **{**self.fields, **changes})

    def payload(self) -> bytes:
        return (
            b"".join(encode(kind, self.fields[field]) for field, kind in LAYOUTS[self.name][3])
            + self.tail
        )

    def frame(self) -> bytes:
        extension, number, channel, _ = LAYOUTS[self.name]
        return frame(extension, number, self.payload(), channel=channel)


class RawFrame:
    """Is a frame of an extension or type that this peer has no layout for."""

    name = "RawFrame"

    def __init__(self, extension: int, number: int, channel: bool, payload: bytes) -> None:
        self.extension, self.number, self.channel, self.payload_bytes = (
            extension,
            number,
            channel,
            payload,
        )

    def __repr__(self) -> str:
        bit = "|channel" if self.channel else ""
        return (
            f"RawFrame({self.extension:#06x}{bit}, {self.number:#04x}, {self.payload_bytes.hex()})"
        )


def frame(extension: int, number: int, payload: bytes, *, channel: bool) -> bytes:
    """Writes header and payload."""
    kind = extension | (CHANNEL_BIT if channel else 0)
    return struct.pack("<HB", kind, number) + len(payload).to_bytes(3, "little") + payload


def header(raw: bytes) -> tuple[int, bool, int, int]:
    """Returns extension, channel bit, message number and payload length of six bytes."""
    kind, number = struct.unpack("<HB", raw[:3])
    return kind & 0x7FFF, bool(kind & CHANNEL_BIT), number, int.from_bytes(raw[3:6], "little")


def encode(kind: str, value: Any) -> bytes:
    if kind in FIXED:
        return struct.pack(FIXED[kind], value)
    match kind:
        case "bool":
            return bytes([value])
        case "u256":
            assert len(value) == 32
            return bytes(value)
        case "str":
            raw = value.encode() if isinstance(value, str) else value
            return bytes([len(raw)]) + raw
        case "b032" | "b0255":
            return bytes([len(value)]) + value
        case "b064k":
            return struct.pack("<H", len(value)) + value
        case "option":
            return b"\0" if value is None else b"\1" + struct.pack("<I", value)
        case "hashes":
            return bytes([len(value)]) + b"".join(value)
        case "hashes64k":
            return struct.pack("<H", len(value)) + b"".join(value)
        case "transactions":
            items = (len(item).to_bytes(3, "little") + item for item in value)
            return struct.pack("<H", len(value)) + b"".join(items)
        case "u16s" | "u32s":
            return struct.pack(
                f"<H{len(value)}{'H' if kind == 'u16s' else 'I'}", len(value), *value
            )
    raise AssertionError(kind)


class Reader:
    """Takes fields from a payload; too short raises ValueError."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.raw):
            raise ValueError(f"{count} bytes wanted at {self.at} of {len(self.raw)}")
        self.at += count
        return self.raw[self.at - count : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def field(self, kind: str) -> Any:
        if kind in FIXED:
            return self.number(FIXED[kind])
        match kind:
            case "bool":
                return self._flag()
            case "u256":
                return self.take(32)
            case "str":
                return self.take(self.number("<B")).decode()
            case "b032":
                length = self.number("<B")
                if length > 32:
                    raise ValueError("more than 32 bytes in a B0_32")
                return self.take(length)
            case "b0255":
                return self.take(self.number("<B"))
            case "b064k":
                return self.take(self.number("<H"))
            case "option":
                return self.number("<I") if self._flag() else None
            case "hashes":
                return [self.take(32) for _ in range(self.number("<B"))]
            case "hashes64k":
                return [self.take(32) for _ in range(self.number("<H"))]
            case "transactions":
                return [self._transaction() for _ in range(self.number("<H"))]
            case "u16s":
                return [self.number("<H") for _ in range(self.number("<H"))]
            case "u32s":
                return [self.number("<I") for _ in range(self.number("<H"))]
        raise AssertionError(kind)

    def _transaction(self) -> bytes:
        return self.take(int.from_bytes(self.take(3), "little"))

    def _flag(self) -> bool:
        value = self.number("<B")
        if value > 1:
            raise ValueError(f"{value} is neither 0 nor 1")
        return bool(value)


def decode(extension: int, channel: bool, number: int, payload: bytes) -> Message | RawFrame:
    """Reads a frame strictly: right channel bit, every byte accounted for but a tail of TLVs."""
    name = BY_NUMBER.get((extension, number))
    if name is None:
        return RawFrame(extension, number, channel, payload)
    if channel != LAYOUTS[name][2]:
        raise ValueError(f"{name} with channel bit {int(channel)}")
    reader = Reader(payload)
    fields = {field: reader.field(kind) for field, kind in LAYOUTS[name][3]}
    return Message(name, tail=payload[reader.at :], **fields)


def tlv(extension: int, field: int, value: bytes) -> bytes:
    """Writes a field of an extension behind a message: little-endian as all of SV2."""
    return struct.pack("<HBH", extension, field, len(value)) + value

"""Defines a frame: what stands around each message.

Source: sv2-spec, section 3.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from radpool_sv2.errors import LocalProtocolError

__all__ = ["CORE", "HEADER_LEN", "NEGOTIATION", "PAYLOAD_LEN_MAX", "Frame"]

HEADER_LEN: Final = 6

PAYLOAD_LEN_MAX: Final = 0xFF_FFFF
"""A header has 24 bits for the length."""

CORE: Final = 0x0000
"""The extension type of the messages that every peer knows."""

NEGOTIATION: Final = 0x0001
"""The extension by which peers agree on others."""

_CHANNEL_BIT: Final = 0x8000

_HEAD: Final = struct.Struct("<HBHB")


@dataclass(frozen=True, slots=True)
class Frame:
    """Is one message on its way.

    Args:
        extension_type: The extension that defines the message, without the channel bit; 0 is core.
        msg_type: The message within its extension.
        channel_msg: Whether it belongs to one channel, whose id then opens the payload.
        payload: The fields.
    """

    extension_type: int
    msg_type: int
    channel_msg: bool
    payload: bytes

    def to_bytes(self) -> bytes:
        """Writes header and payload.

        Raises:
            LocalProtocolError: The payload is longer than a header can say.
        """
        length = len(self.payload)
        if length > PAYLOAD_LEN_MAX:
            raise LocalProtocolError(f"a message of {length} bytes: {PAYLOAD_LEN_MAX} is the most")
        extension = self.extension_type | (_CHANNEL_BIT if self.channel_msg else 0)
        head = _HEAD.pack(extension, self.msg_type, length & 0xFFFF, length >> 16)
        return head + self.payload

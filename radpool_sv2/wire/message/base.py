"""Holds what all messages have in common.

Fields of extensions that were not agreed on may follow a message's own: they are skipped, must be
whole, and are at most FIELDS_MAX.

Source: sv2-spec, sections 3.2 and 3.4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.wire.encoding import Fields, Reader
from radpool_sv2.wire.frame import CORE, Frame

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Message", "decode", "messages"]

_TLV_HEAD_LEN = 5
"""An extension type (2), a field's number (1) and a length (2) stand before a value."""


FIELDS_MAX = 64
"""More than all extensions that there are; a frame of nothing but empty fields costs time."""


class Message(Fields):
    """Is a message that knows how to travel.

    Attributes:
        extension_type: The extension that defines it; 0 is core.
        msg_type: Its number there.
        channel_msg: Whether it belongs to one channel.
    """

    __slots__ = ()

    extension_type: ClassVar[int] = CORE
    msg_type: ClassVar[int]
    channel_msg: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """What Stratum V2 calls it, without the dot."""
        return type(self).__name__

    def encode(self) -> Frame:
        """Writes the message.

        Raises:
            LocalProtocolError: A value does not fit its field.
        """
        return Frame(self.extension_type, self.msg_type, self.channel_msg, self.written())

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Reads the message from a frame's payload.

        Raises:
            RemoteProtocolError: It is malformed; the error names the message.
        """
        reader = Reader(payload)
        try:
            message = cls.read(reader)
            _skip_tail(reader.rest())
        except RemoteProtocolError as error:
            text = f"{cls.__name__}: {error}"
            raise RemoteProtocolError(text, error.error_code or cls.malformed) from error
        return message


def messages(*kinds: type[Message]) -> dict[int, type[Message]]:
    """Returns messages by their numbers."""
    return {kind.msg_type: kind for kind in kinds}


def decode(frame: Frame, kinds: Mapping[int, type[Message]]) -> Message | None:
    """Reads a frame of the core protocol that may be any of `kinds`.

    Returns:
        The message; None when it belongs to an extension that nobody here speaks, which is to be
        ignored.

    Raises:
        RemoteProtocolError: It is malformed, or has no place in this protocol.
    """
    if frame.extension_type != CORE:
        return None
    kind = kinds.get(frame.msg_type)
    if kind is None:
        raise RemoteProtocolError(f"message {frame.msg_type:#04x} has no place in this protocol")
    if frame.channel_msg != kind.channel_msg:
        wrong = "with" if frame.channel_msg else "without"
        raise RemoteProtocolError(f"{kind.__name__} {wrong} the channel bit")
    return kind.decode(frame.payload)


def _skip_tail(tail: bytes) -> None:
    at, count = 0, 0
    while at < len(tail):
        end = at + _TLV_HEAD_LEN + int.from_bytes(tail[at + 3 : at + _TLV_HEAD_LEN], "little")
        if len(tail) < max(end, at + _TLV_HEAD_LEN):
            raise RemoteProtocolError(
                f"{len(tail) - at} bytes follow the last field, and are no field of an extension"
            )
        at, count = end, count + 1
        if count > FIELDS_MAX:
            raise RemoteProtocolError(
                f"more than {FIELDS_MAX} fields of extensions follow the last field"
            )

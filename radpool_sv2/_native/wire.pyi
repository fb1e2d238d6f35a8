"""Seals and opens the frames of one Stratum V2 connection; sockets are for the caller.

The handshake is one message each way; behind it stands a transport with two independent directions.
"""

from typing import final

from radpool_sv2._native.keys import ServerIdentity

@final
class Initiator:
    """Is the client's side of one handshake."""

    def __new__(cls, authority_key: bytes | None = None) -> Initiator:
        """Begins a handshake.

        Args:
            authority_key: The 32 bytes of the key that must have signed the server's certificate;
                without it anybody is taken for the server.

        Raises:
            LocalProtocolError: It is no key.
        """

    def act1(self) -> bytes:
        """Returns the 64 bytes to send."""

    def finish(self, act2: bytes, unix_s: int | None = None) -> Transport:
        """Reads the server's 234 bytes; may be called once.

        Args:
            act2: What the server answered.
            unix_s: When its certificate must hold, s since 1970; now, when not given.

        Raises:
            RemoteProtocolError: The server is not who it should be, or speaks something else.
            LocalProtocolError: There are more or fewer bytes, or the handshake is over.
        """

@final
class Responder:
    """Is the server's side, for any number of handshakes."""

    def __new__(cls, identity: ServerIdentity) -> Responder:
        """Takes what is shown to clients."""

    def respond(self, act1: bytes) -> tuple[bytes, Transport]:
        """Answers a client's 64 bytes, whatever they are, with 234.

        Raises:
            LocalProtocolError: There are more or fewer bytes.
        """

@final
class Transport:
    """Is both directions of a connection; each may be used while the other is."""

    frame_bytes_max: int
    """What one frame may measure, with its 6 bytes of header; 4096 at first. A longer one is
    refused by its header, before any of it is kept."""

    @property
    def pending_bytes(self) -> int:
        """Returns the memory held for a frame whose rest is still on its way, in bytes."""

    @property
    def inside_frame(self) -> bool:
        """Says whether a frame has begun and is not complete."""

    def seal(self, frames: bytes) -> bytes:
        """Seals whole plain frames that stand back to back; what comes out must be sent in order.

        Raises:
            LocalProtocolError: They are not whole.
        """

    def feed(self, data: bytes) -> list[tuple[int, int, bool, bytes]]:
        """Takes what has arrived, cut anywhere, and returns the frames that are complete.

        Returns:
            Extension type, message type, whether it belongs to a channel, and payload of each.

        Raises:
            RemoteProtocolError: A frame is too long or was altered, and all frames before it have
                been returned. Every further call raises it again.
        """

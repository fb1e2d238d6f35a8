"""Defines the one tree of exceptions that radpool-sv2 raises on purpose.

A class exists for each different reaction of whoever catches it, and each docstring says who is at
fault. The native module raises the same classes: it imports them from here by name.

Every message says what happened, where, and what to do about it, in words for the person who has
to act; the attributes repeat the parts that a program may want.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "ConfigError",
    "ConnectionEnded",
    "FaultyMSPError",
    "InternalError",
    "LocalProtocolError",
    "NodeError",
    "RadpoolError",
    "RemoteProtocolError",
    "StoreError",
]


class RadpoolError(Exception):
    """Is the root of the tree; nobody raises it itself."""


class LocalProtocolError(RadpoolError):
    """Says that our side used an interface wrongly: the argument of the caller is at fault.

    Nothing was sent and nothing was changed. Repeating the call with the same argument fails again.
    """


class RemoteProtocolError(RadpoolError):
    """Says that the other end of a link broke the protocol: the peer is at fault.

    The reaction is to answer with the error code, or to close the link; never to stop the node.

    Args:
        message: What the peer did and what was expected instead.
        error_code: The code of the specification for it, such as `invalid-user-identity`; empty
            when the specification has none.
        peer: Whom to name in the log: an address, a connection number or a key.
    """

    def __init__(self, message: str, error_code: str = "", peer: str = "") -> None:
        super().__init__(message)
        self.error_code = error_code
        self.peer = peer


class NodeError(RadpoolError):
    """Says that a bitcoin node does not answer, or answers what no healthy node would.

    The node or the way to it is at fault. The reaction is to ask another node, or this one later;
    nothing is known about what was asked.

    Args:
        message: Which node, what was asked, and what came instead.
        node: The node's name in the configuration: its address without credentials.
    """

    def __init__(self, message: str, node: str = "") -> None:
        super().__init__(message)
        self.node = node


class ConnectionEnded(RemoteProtocolError):  # noqa: N818 - it is no fault, only an end
    """Says that a link is no more: the other end closed it, or the network did.

    Nobody need be at fault. The reaction is to let go of whatever belonged to the link, and to
    connect again where that is of use.
    """


class FaultyMSPError(RadpoolError):
    """Says that a Mining Service Provider published something that is provably wrong.

    The MSP that signed it is at fault, and `evidence` convinces anyone else of it.

    Args:
        message: What is wrong, and where in the published data.
        msp: The public key of the MSP, 32 bytes x-only, as 64 hex digits; empty when the fault is
            that nobody's valid signature covers the data.
        evidence: The offending bytes as published.
    """

    def __init__(self, message: str, msp: str = "", evidence: bytes = b"") -> None:
        super().__init__(message)
        self.msp = msp
        self.evidence = evidence


class StoreError(RadpoolError):
    """Says that durable storage refused or lost something: the disk or its set-up is at fault.

    Whatever was to be made durable is not, so nothing that depends on it may be acknowledged. The
    reaction is to hold back and to try again.
    """


class ConfigError(RadpoolError):
    """Says that the operator's configuration, command line or key file cannot be used.

    The operator is at fault and nothing has started. The message alone must suffice to mend it.

    Args:
        message: What is wrong and what would be right.
        file: The file it stands in, when there is one.
        line: Its line there, counted from 1.
        key: The dotted key, such as `mining.shares_per_minute`.
        value: The value that was found, as text.
        allowed: The allowed range in words.
    """

    def __init__(  # noqa: PLR0913 - each is a separate thing that a message must be able to name
        self,
        message: str,
        *,
        file: Path | None = None,
        line: int | None = None,
        key: str | None = None,
        value: str | None = None,
        allowed: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.key = key
        self.value = value
        self.allowed = allowed

    def __str__(self) -> str:
        where = "" if self.file is None else f"{self.file}"
        if where and self.line is not None:
            where += f", line {self.line}"
        what = "" if self.key is None else self.key
        if what and self.value is not None:
            what += f" = {self.value}"
        tail = "" if self.allowed is None else f" Allowed: {self.allowed}."
        return ": ".join(part for part in (where, what, self.message) if part) + tail


class InternalError(RadpoolError):
    """Says that radpool-sv2 itself is wrong: a broken invariant, found before it did harm.

    Nobody can mend it from outside. The node, or the role that found it, stops and reports it.
    """

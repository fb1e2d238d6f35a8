"""Defines what it is called when a node hears a question and refuses it."""

from __future__ import annotations

from radpool_sv2.errors import NodeError

__all__ = ["NOT_FOUND", "RpcRefusedError"]

NOT_FOUND = -5
"""RPC_INVALID_ADDRESS_OR_KEY: the node knows no such thing (Bitcoin Core, `src/rpc/protocol.h`)."""


class RpcRefusedError(NodeError):
    """Says that a node answered a question with an error: it is there, but says no.

    Args:
        message: What was asked and what the node said.
        code: The node's number for the error.
        node: The node's name in the configuration.
    """

    def __init__(self, message: str, code: int, node: str = "") -> None:
        super().__init__(message, node)
        self.code = code

"""Defines what it is called when a node hears a question and refuses it."""

from __future__ import annotations

from radpool_sv2.errors import NodeError

__all__ = ["NOT_FOUND", "RpcRefusedError"]

NOT_FOUND = -5
"""RPC_INVALID_ADDRESS_OR_KEY: the node knows no such thing (Bitcoin Core, `src/rpc/protocol.h`)."""


class RpcRefusedError(NodeError):
    """Says that a node answered a call with an error: what was asked for cannot be had from it.

    Args:
        message: Which node, what was asked, and its words.
        node: The node.
        code: bitcoind's error code.
        reason: The node's own words alone.
    """

    def __init__(self, message: str, node: str = "", code: int = 0, reason: str = "") -> None:
        super().__init__(message, node)
        self.code = code
        self.reason = reason

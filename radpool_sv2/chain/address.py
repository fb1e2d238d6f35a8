"""Turns regtest addresses into output scripts and back: the embedded chain knows no others."""

from __future__ import annotations

from radpool_sv2 import network

__all__ = ["address_from_script", "script_from_address"]


def address_from_script(script: bytes) -> str | None:
    """Returns the regtest address of a witness program's script, or None for other scripts."""
    return network.address_from_script(script, network.REGTEST)


def script_from_address(address: str) -> bytes:
    """Returns the output script that pays a regtest address.

    Raises:
        LocalProtocolError: It is not an address of this chain; the message says why.
    """
    return network.script_from_address(address, network.REGTEST)

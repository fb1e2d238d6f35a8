"""Turns templates into messages of the Template Distribution Protocol and back.

Whatever comes from a provider is checked before anybody mines on it: a pool would otherwise hand
work to its miners that no node takes.

Source: sv2-spec, section 7; BIP 34.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from radpool_sv2.consensus import MONEY_SATS_MAX, subsidy_sats, target_of_nbits
from radpool_sv2.errors import RemoteProtocolError
from radpool_sv2.templates.source import Template, Tip
from radpool_sv2.wire.message.template_distribution import NewTemplate, SetNewPrevHash

__all__ = [
    "new_template",
    "retold",
    "set_new_prev_hash",
    "template_of",
    "tip_of",
]

PREFIX_LEN_MAX: Final = 8
"""The specification's limit for the beginning of the coinbase's script."""

PATH_LEN_MAX: Final = 14
"""No block has 2^14 transactions or more: the smallest weighs 240 of 4,000,000 units."""

HEIGHT_MAX: Final = 0x7FFF_FFFF

_OP_0: Final = 0x00
_OP_1: Final = 0x51
_OP_16: Final = 0x60
_HEIGHT_LEN_MAX: Final = 4
_OUTPUT_LEN_MIN: Final = 9


def new_template(template: Template, *, future: bool) -> NewTemplate:
    """Writes a template as a message."""
    return NewTemplate(
        template_id=template.id,
        future_template=future,
        version=template.version,
        coinbase_tx_version=template.coinbase_tx_version,
        coinbase_prefix=template.coinbase_prefix,
        coinbase_tx_input_sequence=template.coinbase_sequence,
        coinbase_tx_value_remaining=template.value_sats,
        coinbase_tx_outputs_count=template.template_output_count,
        coinbase_tx_outputs=template.template_outputs,
        coinbase_tx_locktime=template.coinbase_locktime,
        merkle_path=template.merkle_path,
    )


def set_new_prev_hash(tip: Tip) -> SetNewPrevHash:
    """Writes a tip as a message; the template is the one that it names."""
    return SetNewPrevHash(
        template_id=tip.template_id,
        prev_hash=tip.prev_hash,
        header_timestamp=tip.min_ntime,
        nbits=tip.nbits,
        target=tip.target,
    )


def template_of(message: NewTemplate, number: int, halving_blocks: int) -> Template:
    """Reads a template.

    Args:
        message: What the provider sent.
        number: What the template is called here.
        halving_blocks: After how many blocks the subsidy halves on this network.

    Raises:
        RemoteProtocolError: Nobody could mine on it.
    """
    height = _height(message.coinbase_prefix)
    _check_outputs(message.coinbase_tx_outputs, message.coinbase_tx_outputs_count)
    value, path = message.coinbase_tx_value_remaining, message.merkle_path
    if value > MONEY_SATS_MAX:
        raise RemoteProtocolError(f"a template that pays {value} sats: there are not so many")
    if len(path) > PATH_LEN_MAX:
        raise RemoteProtocolError(
            f"{len(path)} hashes in the merkle path: {PATH_LEN_MAX} is the most"
        )
    return Template(
        id=number,
        height=height,
        version=message.version,
        coinbase_tx_version=message.coinbase_tx_version,
        coinbase_prefix=message.coinbase_prefix,
        coinbase_sequence=message.coinbase_tx_input_sequence,
        template_outputs=message.coinbase_tx_outputs,
        template_output_count=message.coinbase_tx_outputs_count,
        coinbase_locktime=message.coinbase_tx_locktime,
        merkle_path=path,
        value_sats=value,
        fees_sats=max(0, value - subsidy_sats(height, halving_blocks)),
        # The protocol does not tell: a path of n hashes has at least 2^(n-1) transactions.
        tx_count=1 << (len(path) - 1) if path else 0,
        weight=0,
    )


def tip_of(message: SetNewPrevHash, number: int) -> Tip:
    """Reads a tip; its target is the provider's, but never easier than the header's own.

    Args:
        message: What the provider sent.
        number: What the template that it names is called here.

    Raises:
        RemoteProtocolError: No block could meet it.
    """
    try:
        of_header = target_of_nbits(message.nbits)
    except ValueError as error:
        raise RemoteProtocolError(str(error)) from error
    target = min(of_header, int.from_bytes(message.target, "little"))
    if not target:
        raise RemoteProtocolError(f"a target of zero (nBits {message.nbits:#010x})")
    return Tip(
        template_id=number,
        prev_hash=message.prev_hash,
        min_ntime=message.header_timestamp,
        nbits=message.nbits,
        target=target.to_bytes(32, "little"),
    )


def retold(tip: Tip, number: int) -> Tip:
    """Returns the tip for another template on it."""
    return dataclasses.replace(tip, template_id=number)


def _height(prefix: bytes) -> int:
    """Reads the height that a coinbase's script begins with."""
    if not 1 <= len(prefix) <= PREFIX_LEN_MAX:
        raise RemoteProtocolError(
            f"a coinbase prefix of {len(prefix)} bytes: 1 to {PREFIX_LEN_MAX} are allowed"
        )
    first = prefix[0]
    if first == _OP_0:
        return 0
    if _OP_1 <= first <= _OP_16:
        return first - _OP_1 + 1
    height = int.from_bytes(prefix[1 : 1 + first], "little", signed=True)
    is_pushed = first <= _HEIGHT_LEN_MAX + 1 and len(prefix) > first
    if not is_pushed or not _OP_16 - _OP_1 + 1 < height <= HEIGHT_MAX:
        raise RemoteProtocolError(f"the coinbase prefix {prefix.hex()} begins with no height")
    return height


def _check_outputs(outputs: bytes, count: int) -> None:
    """Makes sure that serialised outputs are so many; their scripts are shorter than 253 bytes."""
    at, found = 0, 0
    while at < len(outputs):
        script_len = outputs[at + _OUTPUT_LEN_MIN - 1 : at + _OUTPUT_LEN_MIN]
        end = at + _OUTPUT_LEN_MIN + (script_len[0] if script_len else 0)
        if not script_len or script_len[0] >= 0xFD or end > len(outputs):
            raise RemoteProtocolError(f"the template's output {found} is cut off or far too long")
        at, found = end, found + 1
    if found != count:
        raise RemoteProtocolError(f"{found} outputs in a template that announces {count}")

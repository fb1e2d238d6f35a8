"""Builds the few scripts the chain writes and counts signature operations as consensus does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from radpool_sv2.chain.transaction import WITNESS_SCALE_FACTOR, Transaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from radpool_sv2.chain.transaction import TxInput, TxOutput

__all__ = ["MAX_PUBKEYS_PER_MULTISIG", "is_unspendable", "push", "sigop_cost"]

MAX_PUBKEYS_PER_MULTISIG: Final = 20
MAX_SCRIPT_SIZE: Final = 10_000
OP_PUSHDATA1, OP_PUSHDATA2, OP_PUSHDATA4 = 0x4C, 0x4D, 0x4E
OP_1, OP_16, OP_RETURN = 0x51, 0x60, 0x6A
OP_CHECKSIG, OP_CHECKSIGVERIFY = 0xAC, 0xAD
OP_CHECKMULTISIG, OP_CHECKMULTISIGVERIFY = 0xAE, 0xAF


def push(data: bytes) -> bytes:
    """Returns the script that pushes `data`, at most 255 bytes."""
    if len(data) < OP_PUSHDATA1:
        return bytes([len(data)]) + data
    return bytes([OP_PUSHDATA1, len(data)]) + data


def is_unspendable(script: bytes) -> bool:
    """Tells whether no input can ever spend an output with this script."""
    return script[:1] == bytes([OP_RETURN]) or len(script) > MAX_SCRIPT_SIZE


def _operations(script: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields opcodes with what they push; stops where the script stops making sense."""
    at = 0
    while at < len(script):
        opcode = script[at]
        at += 1
        length = 0
        if opcode < OP_PUSHDATA1:
            length = opcode
        elif opcode <= OP_PUSHDATA4:
            width = 1 << (opcode - OP_PUSHDATA1)
            if at + width > len(script):
                return
            length = int.from_bytes(script[at : at + width], "little")
            at += width
        if at + length > len(script):
            return
        yield opcode, script[at : at + length]
        at += length


def _count(script: bytes, *, accurate: bool) -> int:
    """Counts signature operations; accurately, a multisig counts its keys, else always 20."""
    total = 0
    last = 0xFF
    for opcode, _ in _operations(script):
        if opcode in (OP_CHECKSIG, OP_CHECKSIGVERIFY):
            total += 1
        elif opcode in (OP_CHECKMULTISIG, OP_CHECKMULTISIGVERIFY):
            known = accurate and OP_1 <= last <= OP_16
            total += last - OP_1 + 1 if known else MAX_PUBKEYS_PER_MULTISIG
        last = opcode
    return total


def _is_p2sh(script: bytes) -> bool:
    return len(script) == 23 and script[:2] == b"\xa9\x14" and script[-1] == 0x87


def _witness_program(script: bytes) -> tuple[int, bytes] | None:
    if not 4 <= len(script) <= 42 or script[1] != len(script) - 2:
        return None
    if script[0] == 0:
        return 0, script[2:]
    return (script[0] - OP_1 + 1, script[2:]) if OP_1 <= script[0] <= OP_16 else None


def _last_push(script: bytes) -> bytes | None:
    """Returns what a script of pushes alone leaves on top, or None when it does more."""
    top = b""
    count = 0
    for opcode, data in _operations(script):
        if opcode > OP_16:
            return None
        top, count = data, count + 1
    return top if count else None


def _witness_sigops(program: tuple[int, bytes], witness: Sequence[bytes]) -> int:
    version, payload = program
    if version != 0:
        return 0  # taproot's signature operations are limited inside each input
    if len(payload) == 20:
        return 1
    if len(payload) == 32 and witness:
        return _count(witness[-1], accurate=True)
    return 0


def _input_sigop_cost(each: TxInput, spent: TxOutput) -> int:
    cost = 0
    program = _witness_program(spent.script)
    if _is_p2sh(spent.script):
        redeem = _last_push(each.script)
        if redeem is not None:
            cost += _count(redeem, accurate=True) * WITNESS_SCALE_FACTOR
            program = _witness_program(redeem)
    if program is not None:
        cost += _witness_sigops(program, each.witness)
    return cost


def sigop_cost(transaction: Transaction, spent: Sequence[TxOutput]) -> int:
    """Returns the signature operation cost that counts against the block's 80,000.

    Args:
        transaction: The transaction.
        spent: The outputs its inputs spend, in order; empty for a coinbase.
    """
    legacy = sum(_count(each.script, accurate=False) for each in transaction.inputs)
    legacy += sum(_count(each.script, accurate=False) for each in transaction.outputs)
    cost = legacy * WITNESS_SCALE_FACTOR
    for each, output in zip(transaction.inputs, spent, strict=False):
        cost += _input_sigop_cost(each, output)
    return cost

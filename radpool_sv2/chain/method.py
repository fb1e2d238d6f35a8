"""Answers the requests of the chain's socket; one function per method.

Each takes the service and the request's `params` and returns the `result`. Parameters are checked
before anything happens; `BadRequestError` names the one that is wrong. Hashes travel as hex in
internal byte order, amounts in satoshi.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, cast

import trio

from radpool_sv2.chain.address import address_from_script, script_from_address
from radpool_sv2.chain.assembly import (
    BLOCK_VERSION,
    COINBASE_SEQUENCE,
    COINBASE_VERSION,
    Room,
)
from radpool_sv2.chain.kernel import Status
from radpool_sv2.chain.node import MINE_MAX, REORG_DEPTH_MAX
from radpool_sv2.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from radpool_sv2.chain.assembly import BlockTemplate
    from radpool_sv2.chain.node import Node, Submitted
    from radpool_sv2.chain.service import ChainService
    from radpool_sv2.chain.transaction import Transaction

__all__ = ["ASYNC_METHODS", "METHODS", "BadRequestError", "rule_text", "template_message"]

Params = "Mapping[str, Any]"
_U32_MAX: Final = 0xFFFFFFFF
_AMOUNT_MAX_SATS: Final = 21_000_000 * 100_000_000
_FEE_RATE_MAX: Final = 10_000
HASHES_MAX: Final = 10_000
PAYMENTS_PER_MINUTE_MAX: Final = 600
_FEE_RATE_DEFAULT: Final = 5
_HASH_LEN: Final = 32
# No block has more transactions, and none has more bytes.
WTXIDS_MAX: Final = 16_666
KNOWN_BYTES_MAX: Final = 4_000_000
# Half a block of outputs, and half of its signature operations, are more than any pool asks for.
ROOM_SIZE_MAX: Final = 500_000
ROOM_SIGOPS_MAX: Final = 10_000


class BadRequestError(LocalProtocolError):
    """Says that a request's parameters are wrong; whoever sent it is at fault."""


def _number(
    params: Mapping[str, Any], name: str, least: int, most: int, default: Any = None
) -> int:
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadRequestError(f"{name} is {value!r:.60}, allowed: an integer, {least} to {most}")
    return value


def _bytes(params: Mapping[str, Any], name: str, length: int | None = None) -> bytes:
    return _hex(params.get(name), name, length)


def _hex(value: object, name: str, length: int | None) -> bytes:
    try:
        data = bytes.fromhex(cast("str", value))
    except (ValueError, TypeError) as error:
        raise BadRequestError(f"{name} is {value!r:.60}, allowed: hex digits") from error
    if length is not None and len(data) != length:
        raise BadRequestError(f"{name} has {len(data)} bytes, {length} are needed")
    return data


def _blob(params: Mapping[str, Any]) -> bytes:
    data = params.get("blob")
    if not isinstance(data, bytes):
        raise BadRequestError("blob is missing: bytes that follow the JSON")
    return data


def _script(params: Mapping[str, Any]) -> bytes:
    """Returns the script of `address` or of `script`."""
    if "script" in params:
        return _bytes(params, "script")
    address = params.get("address")
    if not isinstance(address, str):
        raise BadRequestError(f"address is {address!r:.60}, allowed: a regtest address (bcrt1…)")
    return script_from_address(address)


def rule_text(block_zeros: int) -> str:
    """Returns the demo rule in words, for everywhere the chain shows."""
    if block_zeros <= 1:
        return "plain regtest: one bit of work makes a block"
    return (
        f"demo rule, not consensus: submitted blocks need {block_zeros} leading zero bits; "
        "blocks ordered by `radpool chain mine` and `reorg` are exempt"
    )


def template_message(node: Node, template: BlockTemplate) -> dict[str, Any]:
    """Returns a template as it travels."""
    return {
        "id": template.id,
        "height": template.height,
        "previous": template.previous.hex(),
        "version": BLOCK_VERSION,
        "nbits": template.nbits,
        "target": node.target.to_bytes(32, "little").hex(),
        "time_min": template.time_min,
        "time": template.time,
        "coinbase_tx_version": COINBASE_VERSION,
        "coinbase_prefix": template.coinbase_prefix.hex(),
        "coinbase_sequence": COINBASE_SEQUENCE,
        "coinbase_locktime": 0,
        "template_outputs": template.commitment.to_bytes().hex(),
        "template_output_count": 1,
        "merkle_path": [each.hex() for each in template.path],
        "value_sats": template.value_sats,
        "fees_sats": template.fees_sats,
        "tx_count": len(template.transactions),
        "weight": template.weight,
        "room_size": template.room.size,
        "room_sigops": template.room.sigops,
        "block_zeros": node.block_zeros,
        "rule": rule_text(node.block_zeros),
    }


def _submitted(answer: Submitted) -> dict[str, Any]:
    return {
        "status": answer.status.value,
        "reason": answer.reason,
        "detail": answer.detail,
        "hash": answer.hash.hex(),
        "active": answer.active,
    }


def _status(service: ChainService, _params: Mapping[str, Any]) -> dict[str, Any]:
    node = service.node
    balance = sum(coin.output.value_sats for _, coin in node.chain.of_script(node.wallet.script))
    return {
        "chain": "regtest",
        "height": node.chain.height,
        "tip": node.chain.tip.hash.hex(),
        "tip_time": node.chain.tip.time,
        "block_zeros": node.block_zeros,
        "rule": rule_text(node.block_zeros),
        "mempool_count": len(node.mempool.entries),
        "mempool_weight": node.mempool.weight,
        "mempool_fees_sats": sum(each.fee_sats for each in node.mempool.in_order()),
        "coins": len(node.chain.coins),
        "supply_sats": sum(coin.output.value_sats for coin in node.chain.coins.values()),
        "template_id": service.template().id,
        "payments_per_minute": service.payments_per_minute,
        "faucet_address": address_from_script(node.wallet.script),
        "faucet_sats": balance,
        "log_bytes": node.log_bytes,
        "pid": os.getpid(),
    }


def _template(service: ChainService, _params: Mapping[str, Any]) -> dict[str, Any]:
    return template_message(service.node, service.template())


def _submit_solution(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    template_id = _number(params, "template_id", 0, (1 << 64) - 1)
    version = _number(params, "version", 0, _U32_MAX)
    ntime = _number(params, "ntime", 0, _U32_MAX)
    nonce = _number(params, "nonce", 0, _U32_MAX)
    coinbase = _bytes(params, "coinbase_tx")
    answer = service.node.submit_solution(template_id, version, ntime, nonce, coinbase)
    service.tip_may_have_changed()
    result = _submitted(answer)
    expected = params.get("hash")
    # The verdict stands either way: it tells that the sender has hashed something else.
    if answer.hash and isinstance(expected, str) and expected.lower() != answer.hash.hex():
        result["detail"] = f"the sender hashed to {expected[:64]!r}. {answer.detail}".strip()
    return result


def _submit_block(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    raw = _blob(params) if "blob" in params else _bytes(params, "block")
    answer = service.node.submit_block(raw)
    service.tip_may_have_changed()
    return _submitted(answer)


def _transactions(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    template_id = _number(params, "template_id", 0, 1 << 63)
    template = service.node.remembered(template_id)
    if template is None:
        raise BadRequestError(f"template-id-not-found: template {template_id} is not remembered")
    return _joined(template.transactions) | {"fees_sats": template.tx_fees_sats}


def _known_transactions(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the waiting transactions among `blob`, which is wtxids behind each other."""
    wtxids = _blob(params)
    if len(wtxids) % _HASH_LEN or len(wtxids) > WTXIDS_MAX * _HASH_LEN:
        raise BadRequestError(f"blob must be at most {WTXIDS_MAX} wtxids of {_HASH_LEN} bytes")
    found: dict[int, Transaction] = {}
    size = 0
    for position in range(len(wtxids) // _HASH_LEN):
        wtxid = wtxids[position * _HASH_LEN : (position + 1) * _HASH_LEN]
        transaction = service.node.mempool.find(wtxid)
        if transaction is None:
            continue
        size += len(transaction.raw)
        if size > KNOWN_BYTES_MAX:
            break  # more than any block holds, or the same again and again
        found[position] = transaction
    return _joined(found.values()) | {"positions": list(found)}


def _joined(transactions: Iterable[Transaction]) -> dict[str, Any]:
    raws = [each.raw for each in transactions]
    return {"lengths": [len(each) for each in raws], "blob": b"".join(raws)}


def _constrain(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    size = _number(params, "size", 0, ROOM_SIZE_MAX)
    sigops = _number(params, "sigops", 0, ROOM_SIGOPS_MAX)
    service.widen_room(Room(size, sigops))
    return {"template_id": service.template().id}


def _submit_transaction(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    transaction = service.node.submit_transaction(_bytes(params, "transaction"))
    return {"txid": transaction.txid.hex()}


def _send(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    amount = _number(params, "amount_sats", 1, _AMOUNT_MAX_SATS)
    rate = _number(params, "fee_rate_sats_per_vbyte", 1, _FEE_RATE_MAX, _FEE_RATE_DEFAULT)
    transaction = service.node.send(_script(params), amount, rate)
    entry = service.node.mempool.entries[transaction.txid]
    return {"txid": transaction.txid.hex(), "fee_sats": entry.fee_sats, "weight": entry.weight}


def _balance(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    coins = [coin for _, coin in service.node.chain.of_script(_script(params))]
    return {"coins": len(coins), "sats": sum(coin.output.value_sats for coin in coins)}


def _transaction(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    txid = _bytes(params, "txid", 32)
    entry = service.node.mempool.entries.get(txid)
    if entry is not None:
        return {"where": "mempool", "fee_sats": entry.fee_sats, "weight": entry.weight}
    heights = [c.height for p, c in service.node.chain.coins.items() if p[0] == txid]
    if heights:
        return {"where": "chain", "confirmations": service.node.chain.height - heights[0] + 1}
    return {"where": "unknown"}  # never seen, or confirmed and spent since


def _block(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    node = service.node
    height = _number(params, "height", 0, node.chain.height)
    return {"hash": node.chain.tips[height].hash.hex(), "block": node.block_at(height).hex()}


def _active_blocks(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    hashes = params.get("hashes")
    if not isinstance(hashes, list) or len(hashes) > HASHES_MAX:
        raise BadRequestError(f"hashes must be a list of at most {HASHES_MAX} hashes")
    keys = [_hex(each, "hashes", 32) for each in hashes]
    return {"confirmations": {key.hex(): service.node.confirmations(key) for key in keys}}


def _changes_since(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    changes = service.node.changes_since(_bytes(params, "since", 32))
    return {
        "known": changes.known,
        "height": changes.height,
        "tip": changes.tip.hex(),
        "disconnected": [each.hex() for each in changes.disconnected],
        "connected": [each.hex() for each in changes.connected],
    }


def _traffic(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    rate = _number(params, "payments_per_minute", 0, PAYMENTS_PER_MINUTE_MAX)
    service.set_payments(rate)
    return {"payments_per_minute": rate}


async def _mine(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    count = _number(params, "count", 1, MINE_MAX, 1)
    node = service.node
    script = _script(params) if {"address", "script"} & params.keys() else node.wallet.script
    hashes: list[str] = []
    try:
        for _ in range(count):
            answer = node.mine(script)
            if not answer.active:
                raise BadRequestError(f"the engine refused the block: {answer.reason}")
            hashes.append(answer.hash.hex())
            await trio.lowlevel.checkpoint()
    finally:
        service.tip_may_have_changed()
    return {"hashes": hashes, "height": node.chain.height}


async def _reorg(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    depth = _number(params, "depth", 1, REORG_DEPTH_MAX, 1)
    before = service.node.chain.tip.hash
    service.node.reorg(depth)
    service.tip_may_have_changed()
    await trio.lowlevel.checkpoint()
    return _changes_since(service, {"since": before.hex()})


METHODS: Final[dict[str, Callable[[ChainService, Mapping[str, Any]], dict[str, Any]]]] = {
    "status": _status,
    "template": _template,
    "submit_solution": _submit_solution,
    "submit_block": _submit_block,
    "submit_transaction": _submit_transaction,
    "transactions": _transactions,
    "known_transactions": _known_transactions,
    "constrain": _constrain,
    "send": _send,
    "balance": _balance,
    "transaction": _transaction,
    "block": _block,
    "active_blocks": _active_blocks,
    "changes_since": _changes_since,
    "traffic": _traffic,
}


async def _check_block(service: ChainService, params: Mapping[str, Any]) -> dict[str, Any]:
    verdict = await service.judge(_blob(params))
    valid = verdict.status is not Status.REJECTED
    return {"valid": valid, "reason": verdict.reason, "detail": verdict.detail}


ASYNC_METHODS: Final[
    dict[str, Callable[[ChainService, Mapping[str, Any]], Awaitable[dict[str, Any]]]]
] = {"mine": _mine, "reorg": _reorg, "check_block": _check_block}

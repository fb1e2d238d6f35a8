"""Marks jobs whose transactions stay hidden, and names them as the ledger does.

The ledger writes off whole template bodies. Bodies of two owners are equal when their coinbases
differ in the owner output alone, so a liar could hide behind a copy of an honest job and take it
along. A hidden job therefore carries an output that no other owner's job has.

Source: `spec/10-job-declaration.md`, "Hidden jobs"; `spec/03-share-batch.md`, "Template body".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from radpool_sv2.pool.tag import is_owner_script
from radpool_sv2.units import tagged_hash

if TYPE_CHECKING:
    from radpool_sv2.templates.declared import HiddenJob, Owner

__all__ = ["body_digest", "hidden_script", "is_hidden_script"]

_START = b"\x6a\x24RADH"


def hidden_script(msp_key: bytes, owner: Owner) -> bytes:
    """Writes the script of the output that marks an owner's hidden jobs, 38 bytes."""
    return _START + tagged_hash("radpool/hidden", msp_key, owner.commitment, bytes([owner.rail]))


def is_hidden_script(script: bytes) -> bool:
    """Says whether an output marks hidden jobs, whoever's."""
    return script.startswith(_START)


def body_digest(job: HiddenJob) -> bytes:
    """Computes the digest by which the ledger knows a job's template body, 32 bytes."""
    coinbase = job.coinbase
    outputs = coinbase.outputs
    [place] = [at for at, each in enumerate(outputs) if is_owner_script(each.script)]
    written = coinbase.transaction(bytes(coinbase.extranonce_len), witness=False)
    # version, input count, outpoint, script length, script
    prefix = written[: 4 + 1 + 36 + 1 + len(coinbase.script_prefix)]
    rest = written[len(prefix) + coinbase.extranonce_len :]
    after = b"".join(each.to_bytes() for each in outputs[place + 1 :])
    after += coinbase.locktime.to_bytes(4, "little")
    before = rest[: len(rest) - len(after) - len(outputs[place].to_bytes())]
    body = b"".join(
        (
            job.version.to_bytes(4, "little"),
            job.tip.prev_hash,
            job.tip.nbits.to_bytes(4, "little"),
            job.tip.height.to_bytes(4, "little"),
            *(len(part).to_bytes(2, "little") + part for part in (prefix, before, after)),
            bytes([len(job.merkle_path)]),
            *job.merkle_path,
        )
    )
    return tagged_hash("radpool/template", body)

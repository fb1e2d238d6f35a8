"""Takes templates from the embedded chain.

The chain's supervisor brings back a chain that was away; this source compares what it last told the
pool with what the chain says now, so that no change of the tip is missed or told twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from radpool_sv2.templates.source import (
    ChainEvent,
    Solution,
    SubmitResult,
    SubmitStatus,
    Template,
    TemplateUpdate,
    Tip,
    TipChanged,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["Chain", "EmbeddedSource"]

# Hashes asked for at once; the chain takes up to 10,000.
_HASHES_AT_ONCE: Final = 1_000


class Chain(Protocol):
    """Is what this source needs of the chain: `radpool_sv2.chain.supervisor.EmbeddedChain` is one.

    `request` and `next_template` wait while the chain is away.
    """

    @property
    def socket_path(self) -> Path:
        """The chain's unix socket."""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Keeps the chain running until cancelled."""

    async def request(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Asks the chain one thing."""

    async def next_template(self, after: int = 0) -> dict[str, Any]:
        """Waits for a template other than number `after`."""


class EmbeddedSource:
    """Is the template source in front of the embedded chain."""

    name = "embedded"

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._tip: bytes | None = None

    async def run(
        self,
        updates: trio.MemorySendChannel[TemplateUpdate],
        chain_events: trio.MemorySendChannel[ChainEvent],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Runs the chain and passes on its templates and changes of tip until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._run_chain)
            newest = await self._chain.next_template()
            task_status.started()
            while True:
                await updates.send(_update(newest))
                await self._tell_changes(newest, chain_events)
                newest = await self._chain.next_template(after=newest["id"])

    async def submit_solution(self, solution: Solution) -> SubmitResult:
        """Gives a block to the chain, waiting for it while it is away; idempotent."""
        answer = await self._chain.request(
            "submit_solution",
            {
                "template_id": solution.template_id,
                "version": solution.version,
                "ntime": solution.ntime,
                "nonce": solution.nonce,
                "coinbase_tx": solution.coinbase_tx.hex(),
                "hash": solution.hash.hex(),
            },
        )
        status = SubmitStatus(answer["status"])
        return SubmitResult(status, answer["reason"], answer["detail"], answer["active"])

    def solution_socket(self) -> Path | None:
        """Returns the chain's unix socket."""
        return self._chain.socket_path

    async def active_blocks(self, hashes: Sequence[bytes]) -> dict[bytes, int | None]:
        """Returns how deep each block is on the active chain, the tip being 1; else None."""
        found: dict[bytes, int | None] = {}
        for start in range(0, len(hashes), _HASHES_AT_ONCE):
            some = [each.hex() for each in hashes[start : start + _HASHES_AT_ONCE]]
            answer = await self._chain.request("active_blocks", {"hashes": some})
            for key, confirmations in answer["confirmations"].items():
                found[bytes.fromhex(key)] = confirmations
        return found

    async def _run_chain(self, *, task_status: trio.TaskStatus[None]) -> None:
        await self._chain.run(task_status=task_status)

    async def _tell_changes(
        self, template: dict[str, Any], chain_events: trio.MemorySendChannel[ChainEvent]
    ) -> None:
        previous = bytes.fromhex(template["previous"])
        if previous == self._tip:
            return
        since = previous if self._tip is None else self._tip
        answer = await self._chain.request("changes_since", {"since": since.hex()})
        tip = bytes.fromhex(answer["tip"])
        if self._tip == tip:
            return  # the template was of a moment that an earlier answer has covered
        event = TipChanged(
            answer["height"], tip, _hashes(answer, "connected"), _hashes(answer, "disconnected")
        )
        await chain_events.send(event)
        self._tip = tip


def _hashes(answer: dict[str, Any], name: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(each) for each in answer[name])


def _update(fields: dict[str, Any]) -> TemplateUpdate:
    template = Template(
        id=fields["id"],
        height=fields["height"],
        version=fields["version"],
        coinbase_tx_version=fields["coinbase_tx_version"],
        coinbase_prefix=bytes.fromhex(fields["coinbase_prefix"]),
        coinbase_sequence=fields["coinbase_sequence"],
        template_outputs=bytes.fromhex(fields["template_outputs"]),
        template_output_count=fields["template_output_count"],
        coinbase_locktime=fields["coinbase_locktime"],
        merkle_path=_hashes(fields, "merkle_path"),
        value_sats=fields["value_sats"],
        fees_sats=fields["fees_sats"],
        tx_count=fields["tx_count"],
        weight=fields["weight"],
        rule=fields["rule"],
    )
    tip = Tip(
        template_id=fields["id"],
        prev_hash=bytes.fromhex(fields["previous"]),
        min_ntime=fields["time"],
        nbits=fields["nbits"],
        target=bytes.fromhex(fields["target"]),
    )
    return TemplateUpdate(template, tip)

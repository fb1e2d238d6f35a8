"""Takes templates from the embedded chain.

The chain's supervisor brings back a chain that was away; this source compares what it last told the
pool with what the chain says now, so that no change of the tip is missed or told twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from radpool_sv2.templates.source import (
    BlockVerdict,
    ChainEvent,
    Solution,
    SubmitResult,
    SubmitStatus,
    Template,
    TemplateTransactions,
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
# What the chain takes at most.
_WTXIDS_AT_ONCE: Final = 16_666
_ROOM_SIZE_MAX: Final = 500_000
_ROOM_SIGOPS_MAX: Final = 10_000


class Chain(Protocol):
    """Is what this source needs of the chain: `radpool_sv2.chain.supervisor.EmbeddedChain` is one.

    `request` and `next_template` wait while the chain is away; `request_apart` raises NodeError
    when that takes too long.
    """

    @property
    def socket_path(self) -> Path:
        """The chain's unix socket."""

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Keeps the chain running until cancelled."""

    async def request(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Asks the chain one thing."""

    async def request_apart(
        self, method: str, params: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Asks what may take long, while other requests are answered."""

    async def next_template(self, after: int = 0) -> dict[str, Any]:
        """Waits for a template other than number `after`."""

    @property
    def is_serving(self) -> bool:
        """Whether the chain is there right now."""


class EmbeddedSource:
    """Is the template source in front of the embedded chain."""

    name = "embedded"

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._tip: bytes | None = None
        self._room = (0, 0)
        self._room_changed = trio.Event()

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
            nursery.start_soon(self._keep_room)
            task_status.started()
            while True:
                # A chain that was started again has forgotten what was asked of it.
                if newest["room_size"] < self._room[0] or newest["room_sigops"] < self._room[1]:
                    self._room_changed.set()
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

    async def submit_block(self, block: bytes) -> SubmitResult:
        """Gives a whole block to the chain, waiting for it while it is away; idempotent."""
        answer = await self._chain.request("submit_block", {"blob": block})
        status = SubmitStatus(answer["status"])
        return SubmitResult(status, answer["reason"], answer["detail"], answer["active"])

    async def check_block(self, block: bytes) -> BlockVerdict:
        """Judges a whole block by all rules but the proof of work.

        Raises:
            NodeError: The chain comes to no verdict.
        """
        answer = await self._chain.request_apart("check_block", {"blob": block})
        return BlockVerdict(answer["valid"], answer["reason"], answer["detail"])

    async def transactions(self, template_id: int) -> TemplateTransactions:
        """Returns the transactions of one of the newest templates, and the fee of each.

        Raises:
            LocalProtocolError: The template is not remembered.
            NodeError: The chain does not answer.
        """
        answer = await self._chain.request_apart("transactions", {"template_id": template_id})
        fees = answer["fees_sats"]
        return TemplateTransactions(_pieces(answer), None if fees is None else tuple(fees))

    async def known_transactions(self, wtxids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Returns those transactions that wait for a block, with their witnesses.

        Raises:
            NodeError: The chain does not answer.
        """
        found: dict[bytes, bytes] = {}
        for start in range(0, len(wtxids), _WTXIDS_AT_ONCE):
            some = wtxids[start : start + _WTXIDS_AT_ONCE]
            answer = await self._chain.request_apart("known_transactions", {"blob": b"".join(some)})
            names = [some[position] for position in answer["positions"]]
            found.update(zip(names, _pieces(answer), strict=True))
        return found

    def constrain(self, size: int, sigops: int) -> None:
        """Asks that further templates leave room for the coinbase's outputs."""
        self._room = (min(size, _ROOM_SIZE_MAX), min(sigops, _ROOM_SIGOPS_MAX))
        self._room_changed.set()

    def problems(self) -> list[str]:
        """Tells whether the chain is away; it has no other problem that its owner could mend."""
        return [] if self._chain.is_serving else ["The embedded chain is being started again."]

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

    async def _keep_room(self) -> None:
        """Tells the chain what room to leave, whenever that changes or was forgotten."""
        while True:
            await self._room_changed.wait()
            self._room_changed = trio.Event()
            size, sigops = self._room
            await self._chain.request("constrain", {"size": size, "sigops": sigops})

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


def _pieces(answer: dict[str, Any]) -> tuple[bytes, ...]:
    """Cuts transactions that came behind each other apart."""
    blob, at, pieces = answer["blob"], 0, []
    for length in answer["lengths"]:
        pieces.append(blob[at : at + length])
        at += length
    return tuple(pieces)


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
        time_min=fields["time_min"],
    )
    return TemplateUpdate(template, tip)

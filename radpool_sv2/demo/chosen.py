"""Plays the demo on real nodes: miners choose the transactions and are paid for their choice.

1. Two bitcoin nodes on regtest, and payments that wait; the second knows some with higher fees.
2. A pool on the first node, and three miners with equal machines: one mines the pool's templates,
   one declares those of the second node, one declares empty blocks.
3. Blocks, until each of the three has found one, but not longer than `PLAY_SECONDS_MAX`.
4. Miners leave; the books are compared with the nodes and with arithmetic, and an epoch is exported
   and recomputed from the export alone.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import trio

from radpool_sv2.demo.books import look, read_commitments, read_epoch
from radpool_sv2.demo.check import Outcome, check_payments, check_report
from radpool_sv2.demo.chosen_stage import CHOOSERS, market
from radpool_sv2.demo.process import leave, lines_of, run_radpool, tail
from radpool_sv2.demo.regtest import SATS
from radpool_sv2.errors import RadpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from radpool_sv2.demo.books import Block, Epoch, Seen
    from radpool_sv2.demo.chosen_stage import Market
    from radpool_sv2.demo.view import View

__all__ = ["Held", "check_choosers", "check_earnings", "payments_of", "play_chosen"]

PLAY_SECONDS_MIN: Final = 20.0
PLAY_SECONDS_MAX: Final = 120.0
"""Three in ten thousand plays have a miner without a block after so long: that is no failure."""

SHOW_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.5
AGREE_SECONDS_MAX: Final = 60.0
HTTP_SECONDS_MAX: Final = 30.0


@dataclass(frozen=True, slots=True)
class Held:
    """Is what a node has of a block.

    Attributes:
        is_active: Whether the block is on the active chain.
        lost_race: Whether another block of its height is.
        value_sats: What its coinbase pays to the pool; 0 off the chain.
        transactions: How many payments are in it; 0 off the chain.
    """

    is_active: bool
    lost_race: bool
    value_sats: int
    transactions: int


async def play_chosen(view: View, bitcoind: Path) -> bool:
    """Plays the demo; returns whether every check held.

    Args:
        view: Who is told.
        bitcoind: The node's program.

    Raises:
        RadpoolError: Something did not start or did not answer.
    """
    directory = Path(tempfile.mkdtemp(prefix="radpool-demo-"))
    try:
        return await _play_in(directory, view, bitcoind)
    finally:
        view.close()
        shutil.rmtree(directory, ignore_errors=True)


async def _play_in(directory: Path, view: View, bitcoind: Path) -> bool:
    outcomes: list[Outcome] = []

    def tell(*found: Outcome) -> None:
        for outcome in found:
            view.outcome(outcome)
        outcomes.extend(found)

    view.say(f"Two real nodes on regtest ({bitcoind}): 600 blocks, and payments that wait")
    async with market(directory, bitcoind) as stage:
        _introduce(view, stage)
        base = f"http://{stage.http}"
        async with httpx.AsyncClient(base_url=base, timeout=HTTP_SECONDS_MAX) as client:
            async with trio.open_nursery() as readers:
                for miner in stage.miners:
                    readers.start_soon(miner.read)
                for process in stage.leaving[len(stage.miners) : -1]:
                    readers.start_soon(_drain, process)
                await _mine(client, stage, view)
                for process in stage.leaving[:-1]:
                    await leave(process)
            view.say("The miners have left. The books, compared with the nodes and arithmetic:")
            seen, held = await _agreed(client, stage)
            epochs = [await read_epoch(client, number) for number in range(1, seen.epoch + 1)]
            paid = payments_of(epochs)
            tell(*check_choosers(seen.blocks, held), *check_payments(paid))
            _show_earnings(view, paid)
            tell(*check_earnings(paid))
            commitments = await read_commitments(client)
        seconds = await leave(stage.leaving[-1])
        tell(Outcome(True, "the pool left in order", f"in {seconds:.1f} s"))
        tell(*await _check_export(stage, paid, commitments))
    return all(outcome.holds for outcome in outcomes)


def _introduce(view: View, stage: Market) -> None:
    view.say(f"The pool serves on {stage.http}; it takes its templates from {stage.node.name}")
    for miner in stage.miners:
        view.say(f"{miner.plan.name} mines {miner.plan.choice}", miner=miner.plan.name)


async def _drain(process: trio.Process) -> None:
    """Reads what nobody needs, so that its writer never waits."""
    assert process.stdout is not None
    async for _line in lines_of(process.stdout):
        pass


async def _mine(client: httpx.AsyncClient, stage: Market, view: View) -> None:
    """Shows blocks until everybody has found one."""
    begin = trio.current_time()
    told: set[str] = set()
    finders: set[str] = set()
    while (elapsed := trio.current_time() - begin) < PLAY_SECONDS_MAX:
        for miner in stage.miners:
            if miner.process.returncode is not None:
                raise RadpoolError(
                    f"miner {miner.plan.name} ended by itself; the end of its log:\n"
                    f"{tail(miner.log)}"
                )
        try:
            seen = await look(client)
        except httpx.HTTPError as error:
            raise RadpoolError(f"the pool does not answer on {client.base_url}: {error}") from error
        for block in seen.paid_blocks():
            if block.hash not in told:
                told.add(block.hash)
                finders.add(block.finder)
                view.say(
                    f"Block {block.height}, found by {block.finder}, is on the chain: it pays the "
                    f"pool {block.value_sats / SATS:.4f} coins",
                    block=block.hash,
                    height=block.height,
                    finder=block.finder,
                )
        if elapsed >= PLAY_SECONDS_MIN and finders.issuperset(plan.name for plan in CHOOSERS):
            return
        await trio.sleep(LOOK_SECONDS)


async def _agreed(client: httpx.AsyncClient, stage: Market) -> tuple[Seen, dict[str, Held]]:
    """Returns what the pool says at last, and what its node has of these blocks.

    The last block may be on its way yet, so both are asked until they mean the same chain, though
    not for longer than `AGREE_SECONDS_MAX`: then they contradict each other.
    """
    end = trio.current_time() + AGREE_SECONDS_MAX
    while True:
        seen = await look(client)
        held = {block.hash: await _held(stage, block) for block in seen.blocks}
        agree = all(
            (block.confirmations is not None) == held[block.hash].is_active for block in seen.blocks
        )
        if agree or trio.current_time() > end:
            return seen, held
        await trio.sleep(LOOK_SECONDS)


async def _held(stage: Market, block: Block) -> Held:
    """Asks the node for a block, and for its place on the chain."""
    rpc = stage.node.rpc
    tip_height = await rpc.call("getblockcount")
    if block.height > tip_height:
        return Held(False, False, 0, 0)
    if await rpc.call("getblockhash", block.height) != block.hash:
        return Held(False, True, 0, 0)
    told = await rpc.call("getblock", block.hash, 2)
    script = await _script_of(stage)
    outputs = told["tx"][0]["vout"]
    paid = [each["value"] for each in outputs if each["scriptPubKey"]["hex"] == script]
    sats = sum(round(value * SATS) for value in paid)
    return Held(True, False, sats, len(told["tx"]) - 1)


async def _script_of(stage: Market) -> str:
    told = await stage.node.rpc.call("validateaddress", stage.installation.payout_address)
    return str(told["scriptPubKey"])


def check_choosers(blocks: Sequence[Block], held: Mapping[str, Held]) -> Iterator[Outcome]:
    """Compares the pool's blocks with what its node has of them, a miner at a time.

    Two miners may solve the same height within the milliseconds that a block takes to everybody.
    One of the two blocks is lost then: the books must not count it, and that is all.
    """
    yield Outcome(bool(blocks), "the pool has found blocks", f"{len(blocks)} found")
    for plan in CHOOSERS:
        theirs = [block for block in blocks if block.finder == plan.name]
        active = [block for block in theirs if held[block.hash].is_active]
        wrong = list(filter(None, (_fault(block, held[block.hash]) for block in theirs)))
        transactions = sum(held[block.hash].transactions for block in active)
        lost = len(theirs) - len(active)
        detail = f"{len(active)} blocks, {transactions} payments in them"
        if lost:
            detail += f"; {lost} lost to another block of its height, which the books say, too"
        yield Outcome(
            not wrong,
            f"bitcoind has {plan.name}'s blocks on its chain, and each coinbase pays the pool "
            "what the books say",
            "; ".join(wrong) or detail,
        )


def _fault(block: Block, held: Held) -> str:
    """Says what is wrong with a block; nothing if the books and the node agree."""
    counted = block.confirmations is not None
    books = f"{block.height}: {block.value_sats} in the books"
    if counted and not held.is_active:
        return f"{books}, not on the chain"
    if not counted and held.is_active:
        return f"{books} as lost, but it is on the chain"
    if not counted:
        return "" if held.lost_race else f"{books}, and its node has no block of this height"
    if held.value_sats != block.value_sats:
        return f"{books}, {held.value_sats} in its coinbase"
    return ""


def payments_of(epochs: Sequence[Epoch]) -> list[Epoch]:
    """Returns each payment once: that of the epoch whose block it is.

    An epoch whose own block was lost is paid with a later one.
    """
    newest = {epoch.block: epoch for epoch in epochs if epoch.block}
    return list(newest.values())


@dataclass(slots=True)
class _Earned:
    """Sums what an account did and got."""

    work: int = 0
    value: int = 0
    sats: int = 0

    @property
    def worth(self) -> float:
        """What a hash counted for."""
        return self.value / self.work if self.work else 0.0


def _earned(paid: Sequence[Epoch]) -> dict[str, _Earned]:
    sums: dict[str, _Earned] = defaultdict(_Earned)
    for epoch in paid:
        for part in epoch.parts:
            sums[part.account].work += part.work
            sums[part.account].value += part.value
            sums[part.account].sats += part.sats
    return sums


def _show_earnings(view: View, paid: Sequence[Epoch]) -> None:
    earned = _earned(paid)
    usual = earned[CHOOSERS[0].name].worth
    view.table(
        "What each choice has earned",
        ["miner", "its blocks hold", "hashes", "worth of a hash", "sats"],
        [
            [
                plan.name,
                plan.choice,
                f"{earned[plan.name].work:,}",
                f"{100 * earned[plan.name].worth / usual:.1f} %" if usual else "",
                f"{earned[plan.name].sats:,}",
            ]
            for plan in CHOOSERS
        ],
    )


def check_earnings(paid: Sequence[Epoch]) -> Iterator[Outcome]:
    """Checks that the better template earned more for the same work, and the empty one less.

    Within an epoch sats are proportional to what shares are worth, which is checked apart; between
    epochs luck decides how much work a block pays.
    """
    earned = _earned(paid)
    plain, better, empty = (earned[plan.name].worth for plan in CHOOSERS)
    for holds, claim, worth in (
        (0 < plain < better, "the template with higher fees earned more", better),
        (0 < empty < plain, "the empty template earned less", empty),
    ):
        detail = f"{100 * worth / plain - 100:+.1f} %" if plain else "nothing was earned"
        yield Outcome(holds, f"{claim} for the same work", detail)


async def _check_export(
    stage: Market, paid: Sequence[Epoch], commitments: dict[str, str]
) -> list[Outcome]:
    """Exports the newest paid epoch and recomputes it from the export alone."""
    if not paid:
        return []
    directory, epoch = stage.installation.directory, paid[-1]
    whole = directory / "export"
    arguments = ("verify", "export", str(epoch.number), "--dir", str(directory), "--to", str(whole))
    exported = await run_radpool(*arguments)
    if exported.returncode != 0:
        said = (exported.stdout + exported.stderr).decode(errors="replace")[-500:]
        return [Outcome(False, f"epoch {epoch.number} is exported", said)]
    verified = await run_radpool("verify", str(whole), "--json")
    return [check_report(verified.stdout, epoch, commitments)]

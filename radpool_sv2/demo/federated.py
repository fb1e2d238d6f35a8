"""Plays the demo of a federation: four pools whose blocks nobody holds alone.

1. Four bitcoin nodes on regtest, four pools, a committee.
2. Members generate a key of which each has a share; from then on blocks pay its output.
3. Miners mine at all four, until a block pays the federation and everybody's shares count.
4. A member is killed; the others go on. It comes back and catches up with their books.
5. The miners leave. A hundred blocks later the members sign the payouts, which are mined.
6. An outsider computes all books again from the public log, and compares them with the chain.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import trio

from radpool_sv2.demo.check import Outcome
from radpool_sv2.demo.federated_check import (
    Paid,
    Roots,
    check_keys,
    check_log,
    check_payouts,
    parts_of,
    read_report,
)
from radpool_sv2.demo.federated_stage import MATURITY, SAY_SECONDS, alliance, telling
from radpool_sv2.demo.process import leave, lines_of, run_radpool, tail
from radpool_sv2.demo.regtest import SATS
from radpool_sv2.errors import RadpoolError
from radpool_sv2.federation.installation import Convention

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from radpool_sv2.demo.federated_stage import Alliance, Ally
    from radpool_sv2.demo.view import View

__all__ = ["play_federated"]

LOOK_SECONDS: Final = 0.3
STEP_SECONDS_MAX: Final = 240.0
"""What one step may take on a machine that has other things to do; each takes seconds else."""

BLOCK_SECONDS: Final = 1.0
"""How often the demo has a block mined where nobody mines yet, or any more."""

BLOCKS_WITHOUT: Final = 3
"""How many blocks are found while a member is away."""

HTTP_SECONDS_MAX: Final = 30.0


async def play_federated(view: View, bitcoind: Path) -> bool:
    """Plays the demo; returns whether every check held.

    Args:
        view: Who is told.
        bitcoind: The nodes' program.

    Raises:
        RadpoolError: Something did not start, or does not go on.
    """
    directory = Path(tempfile.mkdtemp(prefix="radpool-demo-"))
    try:
        view.say(f"Four real nodes on regtest ({bitcoind}), four pools, and their committee")
        async with alliance(directory, bitcoind, view.say) as stage:
            return await _Play(stage, view).run()
    finally:
        view.close()
        shutil.rmtree(directory, ignore_errors=True)


class _Play:
    """Is a play; `run` is called once."""

    def __init__(self, stage: Alliance, view: View) -> None:
        self.stage = stage
        self.view = view
        self.roots = Roots()
        self.held: list[bool] = []
        self.script = ""
        self._height = 0

    async def run(self) -> bool:
        allies = self.stage.allies
        async with trio.open_nursery() as readers:
            readers.start_soon(self._watch_roots)
            for ally in allies:
                self._drain(readers, ally.process)
            self.view.say(
                "Pools: " + ", ".join(f"{ally.name} (http://{ally.http})" for ally in allies)
            )
            await self._generate()
            async with trio.open_nursery() as starters:
                for ally in allies:
                    starters.start_soon(self.stage.start_miner, ally)
            for ally in allies:
                self._drain(readers, ally.miner)
            await self._mine()
            await self._lose_and_return(readers)
            for ally in allies:
                if ally.miner is not None:
                    await leave(ally.miner)
                    ally.miner = None
            await self._pay_out()
            readers.cancel_scope.cancel()
        await self._compare()
        for ally in allies:
            if ally.process is not None:
                seconds = await leave(ally.process)
                ally.process = None
                self._tell(Outcome(True, f"{ally.name} left in order", f"in {seconds:.1f} s"))
        count = sum(self.held)
        self.view.say(f"{count} of {len(self.held)} checks held", held=count, checks=len(self.held))
        return all(self.held)

    # Steps.

    async def _generate(self) -> None:
        """Has blocks mined, each of which ends an epoch, until blocks pay the federation's key."""
        self.view.say(
            "The members make a key together: each deals shares of a secret of its own to the "
            "others, all is written into their logs, and nobody ever has the whole"
        )

        async def go_on() -> str:
            await self.stage.node.mine(1)
            return f"block {await self._tip()}: {self._epochs()}; {self._generations()}"

        async def is_done() -> bool:
            told = [await self._federation(ally) for ally in self.stage.allies]
            scripts = {each.get("script", "") for each in told}
            if len(scripts) == 1 and "" not in scripts:
                [self.script] = scripts
            return bool(self.script)

        await self._until(is_done, "blocks pay the federation's key", go_on)
        figures = {ally.name: ally.figures() for ally in self.stage.allies}
        self._tell(*check_keys(figures, self.script))
        convention = Convention.read(self.stage.allies[0].committee_file)
        committee, blocks = convention.committee, convention.rules.recovery_blocks[0]
        self.view.say(
            f"From now on blocks pay {self.script}: {committee.quorum} members together spend it; "
            f"{committee.faulty_max + 1} of their own keys do after {blocks:,} blocks, should too "
            "few be left"
        )

    async def _mine(self) -> None:
        """Lets miners mine until a block pays the federation that all members have a part of."""
        rates = ", ".join(
            f"{each.hash_rate // 1000} kH/s at {each.name}" for each in self.stage.allies
        )
        self.view.say(f"A miner at each pool: {rates}")
        self._height = await self._tip()

        async def all_count() -> bool:
            await self._tell_blocks()
            told = await self._federation(self.stage.allies[0])
            weights = [int(weight) for weight in told.get("weights", {}).values()]
            return len(weights) == len(self.stage.allies) and all(weights)

        await self._until(all_count, "shares of every member count", self._progress)
        known = len((await self._federation(self.stage.allies[0]))["blocks"])

        async def is_found() -> bool:
            await self._tell_blocks()
            told = [await self._federation(each) for each in self.stage.allies]
            return all(len(each.get("blocks", ())) > known for each in told)

        await self._until(is_found, "a block that all members have in their books", self._progress)

    async def _lose_and_return(self, readers: trio.Nursery) -> None:
        lost, others = self.stage.allies[-1], self.stage.allies[:-1]
        assert lost.process is not None
        assert lost.miner is not None
        before = self._applied(lost)
        for process in (lost.process, lost.miner):
            process.kill()
            await process.wait()
        self.view.say(f"{lost.name} is killed, with no chance to say goodbye; the others go on")
        end = await self._tip() + BLOCKS_WITHOUT

        async def go_on_without() -> bool:
            await self._tell_blocks()
            reached = min(self._applied(ally) for ally in others)
            return await self._tip() >= end and reached >= before + BLOCKS_WITHOUT

        await self._until(go_on_without, "blocks and books without a member", self._progress)
        missed = min(self._applied(ally) for ally in others) - before
        self.view.say(f"{lost.name} starts again, {missed} epochs behind")
        await self.stage.start_pool(lost)
        self._drain(readers, lost.process)
        await self.stage.start_miner(lost)
        self._drain(readers, lost.miner)
        behind = before + missed

        async def is_back() -> bool:
            await self._tell_blocks()
            seen = [by for epoch, by in self.roots.seen.items() if epoch > behind]
            return any(len(by) == len(self.stage.allies) for by in seen)

        await self._until(is_back, f"{lost.name} has the others' books", self._progress)
        both = [by for epoch, by in self.roots.seen.items() if epoch > behind and lost.name in by]
        self._tell(
            Outcome(
                all(len(set(by.values())) == 1 for by in both),
                f"{lost.name} was killed, missed {missed} epochs and has the same books again",
                f"{len(both)} roots compared since it is back",
            )
        )

    async def _pay_out(self) -> None:
        self.view.say(
            f"The miners have left. The chain goes on for {MATURITY} blocks: before, nobody can "
            "spend what a coinbase pays"
        )
        end = await self._tip() + MATURITY

        async def go_on() -> str:
            left = end - await self._tip()
            behind = await self._tip() - min(map(self._applied, self.stage.allies))
            # Members decide on each epoch: they are not given more at once than they count.
            if behind < 2 * MATURITY // 10:
                await self.stage.node.mine(min(left, MATURITY // 10) if left > 0 else 1)
            return f"block {await self._tip()}: {self._epochs()}; {self._payouts()}"

        async def is_paid() -> bool:
            if await self._tip() < end:
                return False
            told = [ally.figures().get("watch", {}) for ally in self.stage.allies]
            counts = {(each.get("payouts_signed"), each.get("payouts_confirmed")) for each in told}
            [mature] = {
                sum(block["is_mature"] for block in (await self._federation(ally))["blocks"])
                for ally in self.stage.allies[:1]
            }
            return len(counts) == 1 and counts == {(mature, mature)} and mature > 0

        await self._until(is_paid, "payouts are signed and in the chain", go_on)

        convention = Convention.read(self.stage.allies[0].committee_file)

        async def agree() -> bool:
            last = convention.committee.epochs_ended(await self._tip())
            names = {ally.name for ally in self.stage.allies}
            certified = [ally.figures()["epochs"]["certified"] for ally in self.stage.allies]
            return set(certified) == {last} and self.roots.seen[last].keys() == names

        await self._until(agree, "all members have counted the last block", self._progress)

    async def _compare(self) -> None:
        """Compares members with each other, with the chain, and with an outsider."""
        allies = self.stage.allies
        self.view.say("The books of the members, the chain, and an outsider with the public log:")
        self._tell(*self.roots.check([ally.name for ally in allies]))
        log = self.stage.directory / "log"
        member_place = str(allies[0].member_place)
        self.view.say("A member writes its public log")
        made = await run_radpool("federation", "log", "--dir", member_place, "--out", str(log))
        if made.returncode != 0:
            said = (made.stdout + made.stderr).decode(errors="replace")[-500:]
            self._tell(Outcome(False, "a member publishes its log", said))
            return
        self.view.say("The outsider computes all of it again, by another program than members run")
        async with telling(self.view.say, "the outsider computes"):
            verified = await run_radpool("verify", "federation", str(log), "--json")
        report = read_report(verified.stdout)
        self._tell(check_log(report, self.roots))
        numbers = {ally.figures()["member"]: ally for ally in allies}
        scripts = {number: ally.script.hex() for number, ally in numbers.items()}
        paid = await self._paid(report)
        self._tell(check_payouts(paid, report, scripts))
        self._show(paid, report, numbers)

    # What is looked at.

    async def _spends(self) -> dict[tuple[str, int], tuple[dict[str, Any], int]]:
        """Reads the chain: by what is spent, the transaction and how deep it lies."""
        rpc = self.stage.node.rpc
        found = {}
        for height in range(1, await self._tip() + 1):
            mined = await rpc.call("getblock", await rpc.call("getblockhash", height), 2)
            for each in mined["tx"][1:]:
                for spent in each["vin"]:
                    found[spent["txid"], spent["vout"]] = each, mined["confirmations"]
        return found

    async def _paid(self, report: Mapping[str, Any]) -> list[Paid]:
        """Asks the chain for the payouts of all blocks that the outsider says are mature."""
        spends, paid = await self._spends(), []
        for block in report.get("blocks", ()):
            if not block["mature"] or not block["payout"]:
                continue
            told = await self.stage.node.rpc.call("getblock", block["block"], 2)
            coinbase = told["tx"][0]
            outputs = [each["scriptPubKey"]["hex"] for each in coinbase["vout"]]
            vout = outputs.index(self.script)
            sats = round(coinbase["vout"][vout]["value"] * SATS)
            if (coinbase["txid"], vout) not in spends:
                paid.append(Paid(block["block"], block["payout"], 0, sats, (), ()))
                continue
            payout, depth = spends[coinbase["txid"], vout]
            pays = tuple(
                (each["scriptPubKey"]["hex"], round(each["value"] * SATS))
                for each in payout["vout"]
            )
            witness = tuple(payout["vin"][0]["txinwitness"])
            paid.append(Paid(block["block"], payout["txid"], depth, sats, pays, witness))
        return paid

    def _show(
        self, paid: Sequence[Paid], report: Mapping[str, Any], numbers: Mapping[int, Ally]
    ) -> None:
        rows = []
        for number, ally in sorted(numbers.items()):
            sats = [
                part
                for each in paid
                for member, part, _ in parts_of(report, each.txid)
                if member == number
            ]
            total = sum(sum(amount for _, amount in each.outputs) for each in paid)
            share = f"{100 * sum(sats) / total:.1f} %" if total else ""
            rate = f"{ally.hash_rate // 1000} kH/s"
            rows.append(
                [ally.name, f"member {number}", rate, str(len(sats)), f"{sum(sats):,}", share]
            )
        columns = ["pool", "in the committee", "its miner", "payouts", "sats", "of all"]
        self.view.table("Who was paid what", columns, rows)

    async def _tell_blocks(self) -> None:
        """Tells of blocks in the chain that pay the federation."""
        rpc = self.stage.node.rpc
        for height in range(self._height + 1, await self._tip() + 1):
            shown = await rpc.call("getblockhash", height)
            coinbase = (await rpc.call("getblock", shown, 2))["tx"][0]
            for each in coinbase["vout"]:
                if each["scriptPubKey"]["hex"] == self.script:
                    self.view.say(
                        f"Block {height} is on the chain and pays the federation "
                        f"{each['value']:.4f} coins",
                        block=shown,
                        height=height,
                    )
            self._height = height

    async def _watch_roots(self) -> None:
        while True:
            for ally in self.stage.allies:
                self.roots.take(ally.name, ally.figures())
            await trio.sleep(LOOK_SECONDS)

    async def _federation(self, ally: Ally) -> dict[str, Any]:
        """Asks a pool about the federation; nothing while it does not say."""
        try:
            async with httpx.AsyncClient(timeout=HTTP_SECONDS_MAX) as client:
                answer = await client.get(f"http://{ally.http}/api/v1/status")
                told: dict[str, Any] | None = answer.raise_for_status().json()["federation"]
        except httpx.HTTPError as error:
            raise RadpoolError(f"the pool of {ally.name} does not answer: {error}") from error
        return told or {}

    async def _tip(self) -> int:
        return int(await self.stage.node.rpc.call("getblockcount"))

    def _applied(self, ally: Ally) -> int:
        return int(ally.figures().get("epochs", {}).get("applied", 0))

    def _epochs(self) -> str:
        applied = [f"{ally.name} {self._applied(ally)}" for ally in self.stage.allies]
        return f"epochs counted: {', '.join(applied)}"

    def _generations(self) -> str:
        keys = [ally.figures().get("keys", {}).get("treasury", {}) for ally in self.stage.allies]
        made = sum(bool(each.get("generated")) for each in keys)
        return f"{made} of {len(keys)} members have the key"

    def _payouts(self) -> str:
        watches = [ally.figures().get("watch", {}) for ally in self.stage.allies]
        signed = max(each.get("payouts_signed", 0) for each in watches)
        confirmed = min(each.get("payouts_confirmed", 0) for each in watches)
        return f"payouts: {signed} signed, {confirmed} in the chain"

    async def _progress(self) -> str:
        return f"block {await self._tip()}: {self._epochs()}"

    # How it goes on.

    async def _until(
        self,
        condition: Callable[[], Awaitable[bool]],
        what: str,
        go_on: Callable[[], Awaitable[str]],
    ) -> None:
        """Waits until something is so, and says how far it is.

        Raises:
            RadpoolError: It is not in time, or somebody ended.
        """
        begin = said = trio.current_time()
        while True:
            words = await go_on()
            if await condition():
                return
            self._check_alive()
            now = trio.current_time()
            if now - begin > STEP_SECONDS_MAX:
                logs = "\n".join(tail(ally.log) for ally in self.stage.allies)
                raise RadpoolError(
                    f"not within {STEP_SECONDS_MAX:.0f} s: {what}; {words}. The pools' logs end "
                    f"with:\n{logs}"
                )
            if now - said >= SAY_SECONDS:
                said = now
                self.view.say(f"  {words}")
            await trio.sleep(BLOCK_SECONDS)

    def _check_alive(self) -> None:
        for ally in self.stage.allies:
            for process in (ally.process, ally.miner):
                if process is not None and process.returncode not in {None, -9}:
                    raise RadpoolError(
                        f"a process of {ally.name} ended by itself; the end of its log:\n"
                        f"{tail(ally.log)}"
                    )

    def _tell(self, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            self.view.outcome(outcome)
            self.held.append(outcome.holds)

    def _drain(self, readers: trio.Nursery, process: trio.Process | None) -> None:
        """Reads what nobody needs, so that its writer never waits."""

        async def read() -> None:
            assert process is not None
            assert process.stdout is not None
            async for _line in lines_of(process.stdout):
                pass

        readers.start_soon(read)

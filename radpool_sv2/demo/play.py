"""Plays the demo from curtain to curtain.

1. A new MSP: keys, certificate, configuration.
2. Its node: an embedded chain, the pool and the ledger; then three miners, over TCP and Noise,
   and a fourth that speaks Stratum V1 with a translator.
3. Shares, each of which earns a work token, until a block pays tokens of every miner, but not
   longer than `PLAY_SECONDS_MAX`.
4. Miners leave; the books are compared with what the miners, the chain and arithmetic say.
5. The chain goes on until the coinbases can be spent. One wallet is deleted and restored from its
   words; then each wallet redeems its tokens, and the sums are compared.
6. The pool leaves; its books are searched for a link between spent tokens and shares; an epoch is
   exported and recomputed from the export alone, once as it is and once with a bit altered, which
   must be found.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import trio

from radpool_sv2.chain.client import open_client
from radpool_sv2.demo.books import look, read_commitments, read_epoch
from radpool_sv2.demo.check import (
    Outcome,
    check_blocks,
    check_miners,
    check_payments,
    check_report,
    each_payment,
)
from radpool_sv2.demo.process import leave, run_radpool, tail
from radpool_sv2.demo.redeemed import check_links, check_redemptions, check_restored, check_tokens
from radpool_sv2.demo.stage import (
    BLOCK_ZEROS,
    ECASH_ACCOUNT,
    UNIT_EXPONENT,
    stage,
)
from radpool_sv2.demo.tokens import (
    read_keysets,
    read_records,
    read_wallet,
    redeem,
    restore,
    wait_until_payable,
)
from radpool_sv2.errors import RadpoolError
from radpool_sv2.supervision import stop_on_signal

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

    from radpool_sv2.demo.books import Block, Epoch, Seen
    from radpool_sv2.demo.stage import Miner, Pool
    from radpool_sv2.demo.view import View

__all__ = ["play"]

PLAY_SECONDS_MIN: Final = 12.0
"""So that there is something to see when the first block comes at once."""

PLAY_SECONDS_MAX: Final = 120.0
"""Miners that have a machine to themselves are paid within a quarter of it."""

LOOK_SECONDS: Final = 0.5
EPOCHS_SHOWN: Final = 3
HTTP_SECONDS_MAX: Final = 30.0
SETTLE_SECONDS_MAX: Final = 60.0
"""The ledger follows the chain within a second or two, where the machine has time for it."""

MATURITY_BLOCKS: Final = 100
"""The network lets nobody spend a coinbase earlier, and the mint pays from it no earlier."""


async def play(view: View, *, keep: bool) -> bool:
    """Plays the demo; returns whether every check held.

    Args:
        view: Who is told.
        keep: Whether pool and miners go on until Ctrl-C after the checks that can be made so.

    Raises:
        RadpoolError: The pool did not start or did not answer.
    """
    directory = Path(tempfile.mkdtemp(prefix="radpool-demo-"))
    try:
        held = await _play_in(directory, view, keep=keep)
    finally:
        view.close()
        shutil.rmtree(directory, ignore_errors=True)
    return held


async def _play_in(directory: Path, view: View, *, keep: bool) -> bool:
    tally = _Tally(view)
    view.say("A new Mining Service Provider: keys, certificate, configuration, embedded chain")
    async with stage(directory) as (pool, miners):
        _introduce(view, pool, miners)
        async with httpx.AsyncClient(
            base_url=f"http://{pool.http}", timeout=HTTP_SECONDS_MAX
        ) as client:
            # Left only when the output of the miners has ended: then their last figures are read.
            async with trio.open_nursery() as readers:
                for miner in miners:
                    readers.start_soon(miner.read)
                await _mine(client, miners, view)
                if keep:
                    view.say("It goes on until Ctrl-C, then everything is checked")
                    await _until_signal(client, miners, view)
                for miner in miners:
                    for process in miner.processes:
                        await leave(process)
            view.close()
            view.say("The miners have left. The books, compared with miners, chain, arithmetic:")
            paid = await _check_books(client, pool, miners, tally)
            await _redeem(client, pool, miners, paid, view, tally)
            commitments = await read_commitments(client)
        seconds = await leave(pool.process)
        tally.add(Outcome(True, "the pool left in order", f"in {seconds:.1f} s"))
        database = pool.installation.directory / "data" / "ledger.sqlite"
        tally.add(*check_links(await trio.to_thread.run_sync(read_records, database)))
        await _check_export(pool, paid, commitments, tally)
    return tally.held


class _Tally:
    """Shows outcomes and remembers whether all held."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.held = True

    def add(self, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            self.held = self.held and outcome.holds
            self._view.outcome(outcome)


def _introduce(view: View, pool: Pool, miners: Sequence[Miner]) -> None:
    view.say(
        f"Pool at {pool.sv2} (Stratum V2 over Noise), status at http://{pool.http}",
        sv2=pool.sv2,
        http=pool.http,
        authority_public_key=pool.authority_public_key,
    )
    plans = ", ".join(
        f"{miner.plan.name} {miner.plan.hash_rate_limit // 1000} kH/s" for miner in miners
    )
    view.say(
        f"{len(miners)} miners on this CPU, each with a wallet and without an account: {plans}"
    )
    for miner in miners:
        if miner.device is not None:
            view.say(
                f"{miner.plan.name}'s machine speaks Stratum V1, as devices that one can buy do: a "
                "translator mines for it and keeps its wallet"
            )
    view.say(
        f"Each share earns a work token: one unit of work is 2^{UNIT_EXPONENT} hashes. The pool "
        "signs it blindly: it sees the share, but not the token"
    )
    view.say(
        f"The chain is regtest and takes only blocks with {BLOCK_ZEROS} leading zero bits, about "
        f"{1 << BLOCK_ZEROS:,} hashes: a rule of this demo, not of consensus"
    )


async def _mine(client: httpx.AsyncClient, miners: Sequence[Miner], view: View) -> None:
    """Lets the miners mine until a block pays tokens of each, within the time there is."""
    begin = trio.current_time()
    told: set[str] = set()
    earning: set[str] = set()
    paid: set[str] = set()
    while (elapsed := trio.current_time() - begin) < PLAY_SECONDS_MAX:
        seen = await _look(client, miners, view)
        for block in seen.paid_blocks():
            if block.hash not in told:
                told.add(block.hash)
                _tell_block(view, block)
                paid |= earning
                earning = set()
        earning |= {miner.plan.name for miner in miners if miner.tokens_since(len(told))}
        if elapsed >= PLAY_SECONDS_MIN and paid.issuperset(miner.plan.name for miner in miners):
            return
        await trio.sleep(LOOK_SECONDS)


async def _until_signal(client: httpx.AsyncClient, miners: Sequence[Miner], view: View) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signal, stop)
        while not stop.is_set():
            await _look(client, miners, view)
            with trio.move_on_after(LOOK_SECONDS):
                await stop.wait()
        nursery.cancel_scope.cancel()


async def _look(client: httpx.AsyncClient, miners: Sequence[Miner], view: View) -> Seen:
    for miner in miners:
        if any(process.returncode is not None for process in miner.processes):
            raise RadpoolError(
                f"miner {miner.plan.name} ended by itself; the end of its log:\n{tail(miner.log)}"
            )
    try:
        seen = await look(client)
    except httpx.HTTPError as error:
        raise RadpoolError(f"the pool does not answer on {client.base_url}: {error}") from error
    view.figures(miners, seen)
    return seen


def _tell_block(view: View, block: Block) -> None:
    view.say(
        f"Block {block.height} is on the chain: {block.hash}; it pays {block.value_sats:,} sats "
        f"for the tokens of epoch {block.epoch}",
        block=block.hash,
        height=block.height,
    )


async def _check_books(
    client: httpx.AsyncClient, pool: Pool, miners: Sequence[Miner], tally: _Tally
) -> list[Epoch]:
    seen, depths = await _look_when_settled(client, pool)
    epochs = [await read_epoch(client, number) for number in range(1, seen.epoch + 1)]
    tally.add(*check_miners(miners, epochs, ECASH_ACCOUNT))
    held = {miner.plan.name: await read_wallet(miner.wallet) for miner in miners}
    tally.add(*check_tokens(miners, held, await read_keysets(client), epochs))
    tally.add(*check_blocks(seen.blocks, depths))
    paid = [epoch for epoch in epochs if epoch.block]
    tally.add(*check_payments(each_payment(paid)))
    return paid


async def _look_when_settled(
    client: httpx.AsyncClient, pool: Pool
) -> tuple[Seen, dict[str, int | None]]:
    """Looks at the books once they know what became of each block, or late enough to say so.

    Returns:
        The books, and how deep the consensus engine says that each block lies.
    """
    deadline = trio.current_time() + SETTLE_SECONDS_MAX
    while True:
        seen = await look(client)
        depths = await _depths(pool, seen.blocks)
        differs = any(
            (block.confirmations is None) != (depths.get(block.hash) is None)
            for block in seen.blocks
        )
        if not differs or trio.current_time() > deadline:
            return seen, depths
        await trio.sleep(LOOK_SECONDS)


async def _redeem(  # noqa: PLR0913, PLR0917 - everybody who takes part
    client: httpx.AsyncClient,
    pool: Pool,
    miners: Sequence[Miner],
    paid: Sequence[Epoch],
    view: View,
    tally: _Tally,
) -> None:
    view.say(
        f"The chain goes on for {MATURITY_BLOCKS} blocks: nobody can spend a coinbase earlier, and "
        "the mint pays only money that is there"
    )
    height = await _bury(pool)
    keysets = await wait_until_payable(client, [epoch.number for epoch in paid], height)
    lost = miners[-1]
    view.say(f"The wallet of {lost.plan.name} is deleted, and made again from its twelve words")
    tally.add(check_restored(lost.plan.name, await restore(lost, f"http://{pool.http}")))
    view.say("Each wallet redeems its tokens:")
    redemptions = [done for miner in miners for done in await redeem(miner, keysets)]
    numbers = {keyset.id for keyset in keysets}
    after = [keyset for keyset in await read_keysets(client) if keyset.id in numbers]
    for keyset in after[-EPOCHS_SHOWN:]:
        view.redeemed(keyset, [done for done in redemptions if done.keyset == keyset.id])
    tally.add(*check_redemptions(redemptions, after, paid, ECASH_ACCOUNT))
    earners = {done.miner for done in redemptions if done.sats}
    tally.add(
        Outcome(
            earners == {miner.plan.name for miner in miners},
            "every miner has redeemed sats",
            ", ".join(sorted(earners)) or "nobody",
        )
    )


async def _bury(pool: Pool) -> int:
    """Mines on until every coinbase of the demo can be spent; returns the height."""
    async with open_client(_chain_socket(pool)) as chain:
        answer = await chain.request("mine", {"count": MATURITY_BLOCKS})
    return int(answer["height"])


def _chain_socket(pool: Pool) -> Path:
    return pool.installation.directory / "data" / "chain" / "chain.sock"


async def _depths(pool: Pool, blocks: Sequence[Block]) -> dict[str, int | None]:
    """Asks the consensus engine itself how deep the blocks lie, past the pool."""
    # People write hashes backwards.
    internal = {bytes.fromhex(block.hash)[::-1].hex(): block.hash for block in blocks}
    async with open_client(_chain_socket(pool)) as chain:
        answer = await chain.request("active_blocks", {"hashes": list(internal)})
    return {internal[key]: depth for key, depth in answer["confirmations"].items()}


async def _check_export(
    pool: Pool, paid: Sequence[Epoch], commitments: Mapping[str, str], tally: _Tally
) -> None:
    """Exports the newest paid epoch and recomputes it, as it is and with one bit altered."""
    if not paid:
        return
    directory, epoch = pool.installation.directory, paid[-1]
    whole, altered = directory / "export", directory / "altered"
    exported = await run_radpool(
        *("verify", "export", str(epoch.number), "--dir", str(directory), "--to", str(whole))
    )
    tally.add(
        Outcome(exported.returncode == 0, f"epoch {epoch.number} is exported", _said(exported))
    )
    if exported.returncode != 0:
        return
    verified = await run_radpool("verify", str(whole), "--json")
    tally.add(check_report(verified.stdout, epoch, commitments))
    shutil.copytree(whole, altered)
    file = await trio.to_thread.run_sync(_alter, altered)
    found = await run_radpool("verify", str(altered))
    tally.add(
        Outcome(found.returncode == 1, f"one altered bit in a copy ({file}) is found", _said(found))
    )


def _alter(directory: Path) -> str:
    """Changes one bit in the middle of a batch; returns the file's name."""
    file = max((directory / "batches").iterdir())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return f"{file.parent.name}/{file.name}"


def _said(process: subprocess.CompletedProcess[bytes]) -> str:
    """Returns the last line that a command printed."""
    text = (process.stdout + process.stderr).decode(errors="replace").strip()
    return text.splitlines()[-1] if text else f"status {process.returncode}"

"""The chain as a process: killed, hung, orphaned, refused. What was accepted is never lost."""

import contextlib
import fcntl
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from chain_rig import ANYONE, solve

from radpool_sv2.chain.block import Block
from radpool_sv2.chain.child import EXIT_LOCKED
from radpool_sv2.chain.client import open_client
from radpool_sv2.chain.supervisor import EmbeddedChain
from radpool_sv2.errors import LocalProtocolError, StoreError
from radpool_sv2.templates.embedded import EmbeddedSource
from radpool_sv2.templates.source import Solution, SubmitStatus

pytestmark = pytest.mark.slow

CYCLES = int(os.environ.get("RADPOOL_KILL_CYCLES", "20"))
SEED = int(os.environ.get("RADPOOL_SEED", "0")) or random.SystemRandom().randrange(1 << 32)


# Restarts are quick here: their growing pause would only make the tests slow.
SETTINGS = {"block_zeros": 4, "template_interval_s": 1, "pause_max_s": 0.1}


@contextlib.asynccontextmanager
async def running(directory, **settings):
    chain = EmbeddedChain(directory, **{**SETTINGS, **settings})
    async with trio.open_nursery() as nursery:
        await nursery.start(run, chain)
        yield chain
        nursery.cancel_scope.cancel()


async def run(chain, *, task_status):
    await chain.run(task_status=task_status)


def solution_of(fields, number):
    params = solve(fields, extranonce=number.to_bytes(12, "big"))
    return Solution(
        template_id=params["template_id"],
        version=params["version"],
        ntime=params["ntime"],
        nonce=params["nonce"],
        coinbase_tx=bytes.fromhex(params["coinbase_tx"]),
        hash=bytes.fromhex(params["hash"]),
    )


@pytest.mark.timeout(900)
async def test_child_killed_at_random_instants_loses_nothing(tmp_path):
    print(f"RADPOOL_SEED={SEED}")
    chance = random.Random(SEED)
    accepted, txids = [], set()
    async with running(tmp_path / "c", payments_per_minute=600) as chain:
        source = EmbeddedSource(chain)
        stopping = trio.Event()

        async def find_blocks():
            number = 0
            while not stopping.is_set():
                number += 1
                fields = await chain.next_template()
                solution = solution_of(fields, number)
                answer = await source.submit_solution(solution)
                assert answer.status is not SubmitStatus.REJECTED, (answer, SEED)
                # After a kill the same solution may have been kept already: a duplicate.
                accepted.append(solution.hash)
                await trio.sleep(0.01)

        async def pay():
            while not stopping.is_set():
                try:
                    sent = await chain.request("send", {"script": "51", "amount_sats": 1_000})
                except LocalProtocolError:
                    pass  # the wallet waits for a block
                else:
                    txids.add(sent["txid"])
                await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(find_blocks)
            nursery.start_soon(pay)
            for _ in range(CYCLES):
                # Mostly at work, sometimes while it still starts or replays.
                starting = chance.random() < 0.25
                busy = len(accepted)
                while chain.child_pid is None or not (len(accepted) > busy or starting):
                    await trio.sleep(0.001)
                await trio.sleep(chance.uniform(0, 0.3))
                while chain.child_pid is None:
                    await trio.sleep(0.001)
                os.kill(chain.child_pid, signal.SIGKILL)
                before = chain.restarts
                with trio.fail_after(60):
                    while chain.restarts == before:
                        await trio.sleep(0.005)
            # It goes on after the last one, too.
            with trio.fail_after(60):
                while len(accepted) <= CYCLES:
                    await trio.sleep(0.01)
            stopping.set()
        assert chain.restarts >= CYCLES
        assert len(accepted) > CYCLES
        found = await source.active_blocks(accepted)
        assert all(depth is not None for depth in found.values()), SEED
        # Each payment is in a block or waits; none is lost, none is there twice.
        await chain.request("mine")
        confirmed = await transactions_on(chain)
        assert txids <= set(confirmed)
        assert len(confirmed) == len(set(confirmed))


async def transactions_on(chain):
    status = await chain.request("status")
    found = []
    for height in range(102, status["height"] + 1):
        answer = await chain.request("block", {"height": height})
        block = Block.from_bytes(bytes.fromhex(answer["block"]))
        found += [each.txid.hex() for each in block.transactions[1:]]
    return found


@pytest.mark.timeout(300)
async def test_hung_child_is_replaced_and_the_waiting_solution_gets_in(tmp_path):
    settings = {"ping_interval_s": 0.1, "ping_deadline_s": 2.0}
    async with running(tmp_path / "c", **settings) as chain:
        source = EmbeddedSource(chain)
        solution = solution_of(await chain.next_template(), 1)
        hung = chain.child_pid
        os.kill(hung, signal.SIGSTOP)
        with trio.fail_after(60):
            answer = await source.submit_solution(solution)
        assert (answer.status, answer.active) == (SubmitStatus.ACCEPTED, True)
        assert chain.child_pid != hung
        assert not alive(hung)


@pytest.mark.timeout(300)
async def test_template_source_tells_every_change_of_tip_once(tmp_path):
    async with trio.open_nursery() as nursery:
        chain = EmbeddedChain(tmp_path / "c", block_zeros=4)
        source = EmbeddedSource(chain)
        update_send, updates = trio.open_memory_channel(100)
        event_send, events = trio.open_memory_channel(100)

        async def go(*, task_status):
            await source.run(update_send, event_send, task_status=task_status)

        await nursery.start(go)
        first = await updates.receive()
        assert first.tip.template_id == first.template.id
        assert "4 leading zero bits" in first.template.rule
        told = await events.receive()
        assert (told.height, told.connected, told.disconnected) == (101, (), ())
        assert told.hash == first.tip.prev_hash

        mined = await chain.request("mine", {"count": 3})
        assert await follow(events, told.hash) == mined["hashes"]
        os.kill(chain.child_pid, signal.SIGKILL)
        await chain.request("mine", {"count": 2})
        changes = await chain.request("reorg", {"depth": 2})
        status = await chain.request("status")
        tip = mined["hashes"][-1]
        while tip != status["tip"]:
            event = await events.receive()
            assert event.disconnected == () or event.disconnected[0].hex() == tip
            assert event.connected[-1] == event.hash
            tip = event.hash.hex()
        assert status["tip"] == changes["connected"][-1]
        assert source.solution_socket() == chain.socket_path
        nursery.cancel_scope.cancel()


async def follow(events, tip):
    event = await events.receive()
    assert event.disconnected == ()
    assert event.hash != tip
    return [each.hex() for each in event.connected]


@pytest.mark.timeout(300)
async def test_chain_ends_with_its_pool_even_when_that_is_killed(tmp_path):
    """Whatever the child is doing, hung too, it does not outlive its parent."""
    script = (
        "import sys, trio\n"
        "from pathlib import Path\n"
        "from radpool_sv2.chain.supervisor import EmbeddedChain\n"
        "async def main():\n"
        "    chain = EmbeddedChain(Path(sys.argv[1]), block_zeros=0)\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        nursery.start_soon(chain.run)\n"
        "        await chain.next_template()\n"
        "        print(chain.child_pid, flush=True)\n"
        "trio.run(main)\n"
    )
    for hang in (False, True):
        command = [sys.executable, "-c", script, str(tmp_path / "c")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
            try:
                pid = int(parent.stdout.readline())
                if hang:
                    os.kill(pid, signal.SIGSTOP)
            finally:
                parent.kill()
        with trio.fail_after(60):
            while alive(pid):
                await trio.sleep(0.01)
        # And the next pool takes over at once.
        async with running(tmp_path / "c"):
            pass


@pytest.mark.timeout(300)
async def test_chain_stops_in_order_and_leaves_no_process(tmp_path):
    async with running(tmp_path / "c") as chain:
        pid = chain.child_pid
        with trio.fail_after(60):
            await chain.request("mine")
    assert not alive(pid)


@pytest.mark.timeout(300)
async def test_chain_object_runs_again_after_it_was_stopped(tmp_path):
    chain = EmbeddedChain(tmp_path / "c", **SETTINGS)
    for height in (102, 103):
        async with trio.open_nursery() as nursery:
            with trio.fail_after(60):
                await nursery.start(run, chain)
                assert (await chain.request("mine"))["height"] == height
            nursery.cancel_scope.cancel()


@pytest.mark.timeout(300)
async def test_second_chain_in_one_directory_is_refused_with_the_reason(tmp_path):
    async with running(tmp_path / "c") as chain:
        second = EmbeddedChain(tmp_path / "c", block_zeros=4)
        command = [sys.executable, "-m", "radpool_sv2.chain.child", "--block-zeros", "4"]
        command += ["--dir", str(tmp_path / "c")]
        ended = await trio.run_process(command, check=False, capture_stderr=True)
        assert ended.returncode == EXIT_LOCKED
        assert b"another process runs the chain" in ended.stderr
        # Its first is not disturbed.
        assert (await chain.request("status"))["height"] == 101
        assert second.child_pid is None


@pytest.mark.timeout(300)
async def test_chain_starts_while_the_one_before_is_still_dying(tmp_path):
    async with running(tmp_path):
        pass
    with (tmp_path / "chain.lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        chain = EmbeddedChain(tmp_path, **SETTINGS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nursery.start, run, chain)
            while chain.child_pid is None:
                await trio.sleep(0.01)
            waits = chain.child_pid
            while not has_open(waits, tmp_path / "chain.lock"):
                await trio.sleep(0.01)
            await trio.sleep(0.2)
            fcntl.flock(held, fcntl.LOCK_UN)
            assert (await chain.request("status"))["height"] == 101
            assert chain.child_pid == waits
            nursery.cancel_scope.cancel()


@pytest.mark.timeout(300)
async def test_damaged_log_is_told_and_not_thrown_away(tmp_path):
    directory = tmp_path / "c"
    async with running(directory):
        pass
    log = directory / "chain.blocks"
    data = bytearray(log.read_bytes())
    data[1_000] ^= 1
    log.write_bytes(data)
    with pytest.RaisesGroup(pytest.RaisesExc(StoreError, match="damaged at byte")):
        async with running(directory):
            pass
    assert log.read_bytes() == data


@pytest.mark.timeout(300)
async def test_replay_of_a_long_log_answers_pings(tmp_path):
    async with running(tmp_path / "c") as chain:
        for _ in range(15):
            await chain.request("mine", {"count": 100})
        # More when the chain was lost on the way, and the request made again.
        height = (await chain.request("status"))["height"]
        assert height >= 1_601
        os.kill(chain.child_pid, signal.SIGKILL)
        with trio.fail_after(60):
            status = await chain.request("status")
        assert status["height"] == height


@pytest.mark.timeout(300)
async def test_commands_drive_the_running_chain(tmp_path):
    async with running(tmp_path / "data" / "chain") as chain:
        out = await command(tmp_path, "mine", "2")
        assert "height 103" in out
        template = await chain.next_template()
        address = (await chain.request("status"))["faucet_address"]
        assert " sats" in await command(tmp_path, "send", address, "0.5")
        assert "leading zero bits" in await command(tmp_path, "status")
        assert str(template["height"]) in await command(tmp_path, "template")
        out = await command(tmp_path, "reorg", "2")
        assert out.count("left ") == 2
        assert out.count("joined ") == 3
        assert "not an address of regtest" in await command(
            tmp_path, "send", "nobody", "1", status=1
        )
        assert "not an amount" in await command(tmp_path, "send", address, "1.123456789", status=1)
    assert "no embedded chain answers" in await command(tmp_path, "status", status=1)


async def command(directory, *words, status=0):
    radpool = str(Path(sys.executable).with_name("radpool"))
    ended = await trio.run_process(
        [radpool, "chain", *words, "--dir", str(directory)],
        check=False,
        capture_stdout=True,
        stderr=subprocess.STDOUT,
    )
    assert ended.returncode == status, ended.stdout
    return ended.stdout.decode()


async def test_client_of_a_running_chain_needs_no_supervisor(tmp_path):
    async with running(tmp_path / "c") as chain, open_client(chain.socket_path) as client:
        answer = await client.request("mine", {"script": ANYONE.hex()})
        assert answer["height"] == 102


def has_open(pid, file):
    with contextlib.suppress(OSError):
        return any(each.readlink() == file for each in Path(f"/proc/{pid}/fd").iterdir())
    return False


def alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"

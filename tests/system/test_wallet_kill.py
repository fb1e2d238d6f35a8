"""A wallet that is killed at random instants, fifty times and more, while it mines and redeems."""

import json
import random
import subprocess
import sys
import time

import pytest
import trio
from wallet_rig.mint import FakeMint
from wallet_rig.serve import served

from radpool_sv2.wallet import Wallet

CYCLES = 60
THETA_MSAT = 10**9

WORKER = """
import json, sys
from pathlib import Path
import httpx, trio
from radpool_sv2.wallet import Wallet

directory, url, keyset = Path(sys.argv[1]), sys.argv[2], bytes.fromhex(sys.argv[3])

async def main():
    async with Wallet.using(directory) as wallet, httpx.AsyncClient(base_url=url) as pool:
        while True:
            outputs = await wallet.reserve(keyset, 4)
            print(json.dumps([output.blinded.hex() for output in outputs]), flush=True)
            asked = {"keyset": keyset.hex(), "items": [[o.blinded.hex(), 2] for o in outputs]}
            answer = await pool.post("/mine", json=asked)
            rows = answer.raise_for_status().json()
            receipts = [
                (output.counter, amount, *map(bytes.fromhex, parts))
                for output, (amount, *parts) in zip(outputs, rows)
            ]
            received = await wallet.receive(keyset, receipts)
            assert received.stored == 4
            print(json.dumps("kept"), flush=True)
            if sys.argv[4] == "redeem":
                await wallet.redeem()

trio.run(main)
"""


ON_ITS_WAY_S = 0.1
"""In this time the mint nearly always has what a killed process sent."""

AT_THE_END_S = 3
"""The last one's is to be there before the wallet is looked at."""


def live(directory, url, keyset, *, work, seconds):
    """Lets a wallet work and kills it; returns what it had shown to the pool, and what it kept."""
    child = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(directory), url, keyset.hex(), work],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    # The instant is random from the first line on, which is when the interpreter has started.
    first = child.stdout.readline()
    time.sleep(seconds)
    child.kill()
    rest, error = child.communicate()
    time.sleep(ON_ITS_WAY_S)
    assert child.returncode == -9, error.decode()
    lines = [
        json.loads(line) for line in (first + rest).split(b"\n") if line.endswith((b"]", b'"'))
    ]
    shown = [blinded for line in lines if line != "kept" for blinded in line]
    return shown, 4 * lines.count("kept")


@pytest.mark.slow
def test_fifty_kills(tmp_path):
    """spec: RC-4, RC-18. attack: A1, A19, A25. No token is lost, no counter used twice."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    mint, directory = FakeMint(), tmp_path / "w"
    mint.reused = False
    with served(mint) as url:

        async def create():
            wallet = await Wallet.create(directory)
            met = await wallet.add_mint(url)
            await wallet.close()
            return met, wallet.words()

        _, words = trio.run(create)
        paid, open_one = mint.open(), mint.open()

        async def trust():
            async with Wallet.using(directory) as wallet:
                for keyset in (paid, open_one):
                    await wallet.trust(mint.epochs[keyset].announcement, mint.key.public)

        trio.run(trust)
        mint.close(paid, THETA_MSAT, work=10**6)
        shown, kept = [], {paid: 0, open_one: 0}
        cycle = 0
        while cycle < CYCLES or not all(kept.values()):
            keyset, work = (paid, "redeem") if cycle % 2 else (open_one, "mine")
            # On a machine that is too slow for this they live longer, until they get that far.
            seconds = rng.random() * 0.25 * (1 + max(0, cycle - CYCLES))
            seen, acknowledged = live(directory, url, keyset, work=work, seconds=seconds)
            shown += seen
            kept[keyset] += acknowledged
            cycle += 1
        time.sleep(AT_THE_END_S)
        assert len(set(shown)) == len(shown), "a counter was used twice"
        assert not mint.reused

        async def finish():
            async with Wallet.using(directory) as wallet:
                await wallet.redeem()
                balance = await wallet.balance()
            again, _ = await Wallet.restore(tmp_path / "r", words, url)
            restored = await again.balance()
            await again.close()
            return balance, restored

        balance, restored = trio.run(finish)
    signed = dict.fromkeys(kept, 0)
    for keyset, amount in mint.signed.values():
        if keyset == open_one:
            signed[keyset] += amount
    [line] = balance.epochs[:1]
    assert line.keyset == open_one.hex()
    assert signed[open_one] >= line.units >= 2 * kept[open_one] > 0
    assert balance.sats == mint.redeemed_sats > 0
    assert mint.epochs[paid].paid == mint.redeemed_sats * 1000
    assert restored.sats == balance.sats
    # What a killed process had sent may reach the mint after the next one has asked for it: the
    # words find that, too.
    found = {each.keyset: each.units for each in restored.epochs}
    assert found[open_one.hex()] == signed[open_one]
    assert all(found[each.keyset] >= each.units for each in balance.epochs)
    assert line.held_units == 0

"""Our miner for ecash against our pool: every policy, changes of keyset, restarts, both modes.

Real proofs of work, a real wallet, the real mint on a chain that the test writes. What the wallet
has at the end is compared with what the mint's books say.
"""

from functools import partial
from types import SimpleNamespace

import pytest
import trio
from ecash_pool import ecash_pool
from list_chain import ListChain
from radpool_sv2_extensions.ecash import client, fetching
from radpool_sv2_extensions.ecash.client import EcashMiner

from radpool_sv2._native.keys import AuthorityPublicKey
from radpool_sv2._native.miner import Miner
from radpool_sv2.errors import StoreError
from radpool_sv2.miner.side import SideOptions
from radpool_sv2.wallet import Wallet
from radpool_sv2.web.server import serve_http

POLICIES = ["network", "pool", "window", "fixed"]


@pytest.fixture
async def wallet(tmp_path):
    wallet = await Wallet.create(tmp_path / "wallet")
    yield wallet
    await wallet.close()


class Tap:
    """Is the miner as its side sees it; closed, it takes no claims, so that no share leaves it."""

    def __init__(self, machine):
        self.machine = machine
        self.is_closed = False
        self.told = 0
        """Of how many shares the side knows that they were sent."""

    def __getattr__(self, name):
        return getattr(self.machine, name)

    def give(self, session, lot, items):
        return not (self.is_closed and items) and self.machine.give(session, lot, items)

    def take(self):
        news = self.machine.take()
        self.told += len(news.submitted)
        return news


class Run:
    """Is a miner at work on the pool."""

    def __init__(self, pool, tmp_path, wallet, *, claim_key=None, **change):
        options = {"policy": None, "sign_mode": "eager", "unsigned_max": 3, "mint_url": None}
        self.side = EcashMiner(
            wallet,
            SideOptions(directory=tmp_path / "wallet", **options | change),
            claim_key=claim_key,
        )
        self.machine = Miner(
            host=pool.pool.address.host,
            port=pool.pool.address.port,
            authority=AuthorityPublicKey.from_text(pool.config.keys.authority_public_key),
            user="alice",
            kind="extended",
            threads=1,
            hash_rate_limit=20_000,
            carrier=self.side.carrier,
        )

    async def until(self, enough):
        """Mines until it is enough, and leaves in order."""
        self.machine.start()
        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                tap = Tap(self.machine)
                nursery.start_soon(self.side.run, tap)
                while not enough(self.side.figures()):
                    await trio.sleep(0.01)
                    assert self.machine.stats().state != "stopped", self.machine.events()
                await self.settle(tap)
                self.machine.leave()
                while self.machine.stats().state != "stopped":
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
        await trio.to_thread.run_sync(self.machine.stop)
        await self.side.finish(self.machine)
        return self.side.figures()

    async def settle(self, tap):
        """Waits until each share has its answer: a leaving miner waits for them a second only."""
        claims = self.side.claims
        while True:
            tap.is_closed = True
            self.side._start_lot(tap, self.side._session)
            while tap.told < self.machine.stats().submitted or claims._under_way:
                await trio.sleep(0.01)
            if not claims._standing:
                return
            # Claims that were refused go out again.
            tap.is_closed = False
            while claims._standing:
                await trio.sleep(0.01)


async def units(pool):
    """What the books say that all shares are worth."""
    epochs = range(1, pool.ledger.current_epoch + 1)
    rows = await pool.ledger.sums(list(epochs))
    return sum(row.work for row in rows) >> pool.mint.z0


@pytest.mark.parametrize("policy", POLICIES)
async def test_tokens_are_what_the_books_say(tmp_path, wallet, policy):
    async with ecash_pool(tmp_path / "pool") as pool:
        run = Run(pool, tmp_path, wallet, policy=policy)
        figures = await run.until(lambda figures: figures["tokens"] >= 30)
        assert figures["policy"] == policy
        assert figures["tokens"] == await pool.shares()
        assert figures["units"] == await units(pool)
        assert (figures["unsigned"], figures["refused"], figures["held"]) == (0, {}, None)
        assert run.machine.stats().mismatches == 0


@pytest.mark.parametrize("policy", ["network", "pool", "window"])
async def test_blocks_change_the_keyset_and_cost_no_token(tmp_path, wallet, policy):
    async with ecash_pool(tmp_path / "pool") as pool:
        run = Run(pool, tmp_path, wallet, policy=policy)
        seen = set()
        tips = 0

        def enough(figures):
            seen.add(figures["keyset"])
            return figures["tokens"] >= 30 and tips >= 3

        async with trio.open_nursery() as nursery:

            async def find_blocks():
                nonlocal tips
                for _ in range(3):
                    before = run.side.figures()["tokens"]
                    while run.side.figures()["tokens"] < before + 5:
                        await trio.sleep(0.01)
                    height, keyset = pool.chain.height, run.side.figures()["keyset"]
                    await pool.chain.ask_for(11)
                    while pool.chain.height == height:
                        await trio.sleep(0.01)
                    await pool.chain.ask_for(64)
                    # Two blocks at once would change the keyset once.
                    while run.side.figures()["keyset"] == keyset:
                        await trio.sleep(0.01)
                    seen.add(run.side.figures()["keyset"])
                    tips += 1

            nursery.start_soon(find_blocks)
            figures = await run.until(enough)
        assert len(seen - {None}) >= 3
        assert figures["tokens"] == await pool.shares()
        assert figures["units"] == await units(pool)
        assert (figures["unsigned"], figures["held"]) == (0, None)


async def test_lazy_shares_are_promised(tmp_path, wallet):
    """spec: RC-15"""
    async with ecash_pool(tmp_path / "pool") as pool:
        run = Run(pool, tmp_path, wallet, sign_mode="lazy")
        figures = await run.until(lambda figures: figures["promised"] >= 20)
        assert figures["promised"] == await pool.shares()
        assert (figures["tokens"], figures["unsigned"]) == (0, 0)


@pytest.mark.parametrize("sign_mode", ["eager", "lazy"])
async def test_claims_that_cannot_be_booked_are_made_later(
    tmp_path, wallet, monkeypatch, sign_mode
):
    """spec: WT-20, EW-12. Nothing covers a fixed price, then the disk is full, then all is well."""
    monkeypatch.setattr(client, "UNAVAILABLE_S", 0.05)
    monkeypatch.setattr(client, "TICK_S", 0.05)
    monkeypatch.setattr(fetching, "PAUSE_FIRST_S", 0.05)
    async with ecash_pool(tmp_path / "pool") as pool:
        register, book = pool.mint._register, pool.mint.claim_repeated
        find_room, troubles = register.room, [0, 0]

        def room(connection, number):
            troubles[0] += 1
            uncovered = 0, "mint-unavailable"
            return uncovered if troubles[0] <= 2 else find_room(connection, number)

        async def claim_repeated(share, *, lazy):
            troubles[1] += 1
            if troubles[1] <= 2:
                raise StoreError("the disk is full")
            return await book(share, lazy=lazy)

        monkeypatch.setattr(register, "room", room)
        monkeypatch.setattr(pool.mint, "claim_repeated", claim_repeated)
        run = Run(pool, tmp_path, wallet, sign_mode=sign_mode)
        figures = await run.until(lambda figures: figures["tokens"] + figures["promised"] >= 10)
        assert set(figures["refused"]) == {"mint-unavailable"}
        assert min(troubles) > 2
        assert figures["tokens"] + figures["promised"] == await pool.shares()
        assert (figures["kept"], figures["unsigned"], figures["held"]) == (0, 0, None)
        stats = run.machine.stats()
        assert (stats.accepted, stats.mismatches) == (await pool.shares(), 0)


async def test_run_after_run_uses_no_counter_twice(tmp_path, wallet):
    """attack: A3, A19"""
    async with ecash_pool(tmp_path / "pool") as pool:
        total = 0
        for _ in range(3):
            run = Run(pool, tmp_path, wallet)
            figures = await run.until(lambda figures: figures["tokens"] >= 10)
            total += figures["tokens"]
            assert not figures["refused"]
        assert total == await pool.shares()


async def test_shares_by_value_leave_nothing_behind(tmp_path, wallet):
    """spec: RC-20, RC-22, RC-26, WT-13. What tokens do not hold is held under the claim key."""
    chain = ListChain()
    chain.block_zeros = 30
    async with ecash_pool(tmp_path / "pool", chain, weight__mode="value") as pool:
        async with trio.open_nursery() as nursery:
            serve = partial(
                serve_http,
                SimpleNamespace(
                    ledger=pool.ledger, declarers=None, registrations=None, sv1_clients=None
                ),
                "127.0.0.1",
                0,
                mint=pool.mint,
                requests_max=64,
                request_deadline_s=60,
            )
            host, port = await nursery.start(serve)
            url = f"http://{host}:{port}"
            key = await wallet.take_claim_key()
            run = Run(pool, tmp_path, wallet, policy="window", mint_url=url, claim_key=key)
            figures = await run.until(lambda figures: figures["tokens"] >= 30)
            assert int(figures["unit_value"]) > 0
            assert (figures["unsigned"], figures["refused"], figures["held"]) == (0, {}, None)
            notes = [text for _, text in run.side.events()]
            assert not [text for text in notes if "warning" in text]
            [line] = (await wallet.balance()).epochs
            epochs = list(range(1, pool.ledger.current_epoch + 1))
            value = sum(row.value for row in await pool.ledger.sums(epochs))
            held = await pool.mint.residues(key.public)
            left = sum(row.value for row in held)
            assert left < int(figures["unit_value"])
            assert line.units * int(figures["unit_value"]) + left == value
            again, found = await Wallet.restore(tmp_path / "again", wallet.words(), url)
            assert [each.units for each in (await again.balance()).epochs] == [line.units]
            assert found.claim_keys == 1
            await again.close()
            nursery.cancel_scope.cancel()

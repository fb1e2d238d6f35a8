"""A pool with its ledger, its mint and all extensions, on a chain that a test writes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
from ecash_client import EcashSession
from list_chain import ListChain
from peer.client import Client
from peer.key import public_key_from_text
from peer.message import Message
from radpool_sv2_extensions.ecash import message as m
from radpool_sv2_extensions.ecash.server import EcashServer
from radpool_sv2_extensions.share_ownership.server import OwnershipServer

from radpool_sv2.config import Endpoint, MspConfig, load
from radpool_sv2.ecash.mint import Mint
from radpool_sv2.installation import install_msp
from radpool_sv2.keyfile import load_keys
from radpool_sv2.ledger import Ledger
from radpool_sv2.minting import open_minting
from radpool_sv2.pool.register import OwnerRegister
from radpool_sv2.pool.registry import ExtensionRegistry
from radpool_sv2.pool.role import Pool
from radpool_sv2.store.ecash import least_confirmations
from radpool_sv2.supervision import Role, supervise

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = Endpoint("127.0.0.1", 0)

MATURITY = 2
COINBASE_MATURITY = 4

SETTINGS: dict[str, object] = {
    # Blocks take so much work on the chain of these tests that by value a share is worth nothing.
    "weight.mode": "difficulty",
    "mining.exponent_min": 4,
    "mining.exponent_max": 8,
    "ledger.maturity_blocks": MATURITY,
    "ecash.enabled": True,
    "ecash.url": "http://mint.invalid:8080",
    "ecash.unit_exponent": 4,
    "ecash.policies": ["window", "pool", "network", "fixed"],
    "ecash.coinbase_maturity": COINBASE_MATURITY,
    "ecash.fixed_price_msat": 2_000,
    "ecash.fixed_price_units": 1,
    "ecash.fixed_reserve_msat": 1_000_000_000,
    "ecash.redeems_per_minute": 60_000,
    "ecash.redeems_burst": 10_000,
}


class EcashPool:
    """Is a running pool; clients connect by `session`."""

    def __init__(self, chain: ListChain, config: MspConfig) -> None:
        self.chain = chain
        self.config = config
        self.stop = trio.Event()
        self.sessions: list[EcashSession] = []
        self.ledger: Ledger
        self.mint: Mint
        self.register: OwnerRegister
        self.pool: Pool
        self.msp_key = b""

    async def connect(self) -> Client:
        address = (self.pool.address.host, self.pool.address.port)
        key = public_key_from_text(self.config.keys.authority_public_key)
        return await Client.connect(address, key)

    async def session(self, *extensions: int, seed: int | None = None) -> EcashSession:
        """A client that has negotiated the extension, and others if asked for."""
        client = await self.connect()
        assert (await client.set_up()).name == "SetupConnectionSuccess"
        wanted = [m.EXTENSION_TYPE, *extensions]
        await client.send(Message("RequestExtensions", request_id=1, requested_extensions=wanted))
        await client.expect("RequestExtensionsSuccess")
        seed = len(self.sessions) if seed is None else seed
        session = EcashSession(client, self.msp_key, seed=seed)
        self.sessions.append(session)
        return session

    async def until(self, condition) -> None:
        with trio.fail_after(60):
            while not condition():
                await trio.sleep(0.005)

    async def new_engine(self) -> None:
        """Stops the engine as a fault would, and waits until another one serves in its place."""
        engine = self.pool._engine
        await trio.to_thread.run_sync(engine.stop, 0)
        await self.until(lambda: self.pool._engine is not engine and self.pool.is_serving)

    async def shares(self) -> int:
        """How many shares are in the books."""
        epochs = range(1, self.ledger.current_epoch + 1)
        return sum(row.count for row in await self.ledger.sums(list(epochs)))

    def state(self, keyset: bytes) -> int:
        """The state of a keyset as the mint has it now."""
        return self.mint.keyset(keyset).state

    def is_mature(self, keyset: bytes) -> bool:
        """Whether the blocks that pay a keyset are deep enough, as the ledger has last looked."""
        with self.mint._store.look() as connection:
            least = least_confirmations(connection, self.mint.keyset(keyset).number)
        return least is not None and least >= COINBASE_MATURITY

    async def find_block(self, session: EcashSession, channel) -> bytes:
        """A client finds a block, which the ledger records and the chain takes."""
        epoch = self.ledger.current_epoch
        zeros = self.chain.block_zeros
        before = self.chain.height
        await self.chain.ask_for(channel.z)
        job = channel.active
        while channel.active == job:
            await session.receive()
        share = session.mine(channel)
        keyset = session.current(channel)
        await session.claim(share, session.output(keyset))
        await self.until(lambda: self.ledger.current_epoch > epoch)
        await self.until(lambda: self.chain.height > before)
        await self.chain.ask_for(zeros)
        return share.hash


async def leave(pool: EcashPool) -> None:
    with trio.CancelScope(shield=True):
        for session in pool.sessions:
            await session.client.aclose()


@asynccontextmanager
async def ecash_pool(directory: Path, chain: ListChain | None = None, **changes: object):
    """Runs a pool; in a directory where one has run, it goes on from there."""
    if not (directory / "msp.toml").exists():
        directory.mkdir(exist_ok=True)
        settings = {name.replace("__", "."): value for name, value in changes.items()}
        install_msp(directory, settings=SETTINGS | settings)
    config = load(MspConfig, directory / "msp.toml")
    config.node.data_dir.mkdir(exist_ok=True)
    keys = load_keys(config.keys)
    chain = chain or ListChain()
    scene = EcashPool(chain, config)
    scene.msp_key = keys.msp.public
    scene.ledger = await Ledger.open(
        config.ledger.file, keys.msp, maturity_blocks=config.ledger.maturity_blocks
    )
    try:
        minting = await open_minting(config, keys, scene.ledger)
        scene.mint = minting.mint
        scene.register = OwnerRegister(
            scene.ledger, keys.msp, new_per_minute_max=config.ledger.new_accounts_per_minute_max
        )
        factories = {"ecash": EcashServer, "share_ownership": OwnershipServer}
        registry = ExtensionRegistry(factories, [], (scene.register, *minting.parts))
        scene.pool = Pool(config, keys, scene.ledger, chain, registry, listen=LOCAL)
        minting.watch(scene.pool)
        await chain.begin()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.pool.follow_work, chain.updates)
            nursery.start_soon(scene.pool.follow_chain, chain.events)
            roles = [Role("mint", minting.desk.run), Role("pool", scene.pool.run)]
            await nursery.start(supervise, roles, scene.stop)
            yield scene
            scene.stop.set()
            await scene.until(lambda: scene.pool.problems() != [])
            nursery.cancel_scope.cancel()
    finally:
        await leave(scene)
        with trio.CancelScope(shield=True):
            await scene.ledger.close()

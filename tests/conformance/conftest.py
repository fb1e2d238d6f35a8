"""Starts engines for the tests and ends them, with whatever clients are left."""

import pytest
from engine_pool import EnginePool


@pytest.fixture
async def start_pool(nursery, tmp_path):
    """Starts a pool with some settings as given."""
    pools = []

    async def start(**settings):
        directory = tmp_path / str(len(pools))
        directory.mkdir()
        pool = EnginePool(directory, **settings)
        pools.append(pool)
        await nursery.start(pool.run)
        return pool

    yield start
    for pool in pools:
        await pool.close()


@pytest.fixture
async def pool(start_pool):
    return await start_pool()

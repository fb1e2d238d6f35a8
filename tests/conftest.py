"""Puts the independent peer on the path of all tests, and the real node among their fixtures."""

import os
import sys
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, settings
from trio.testing import MockClock

sys.path.insert(0, str(Path(__file__).parent))

from rig.bitcoind import bitcoind, bitcoinds  # noqa: F401 - fixtures are found by their name

# How long an example takes says how busy the machine is.
CALM = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
# The same commit has the same examples everywhere; who wants others asks for them.
settings.register_profile("steady", derandomize=True, **CALM)
settings.register_profile("explore", derandomize=False, **CALM)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture
def autojump_clock(monkeypatch):
    """The clock that leaps while all tasks wait, but not while a thread works for one of them.

    Otherwise a slow disk would be hours to a test that counts seconds.
    """
    leap, run_sync, under_way = MockClock._autojump, trio.to_thread.run_sync, 0

    async def run_and_count(*given, **options):
        nonlocal under_way
        under_way += 1
        try:
            return await run_sync(*given, **options)
        finally:
            under_way -= 1

    def leap_unless_at_work(clock):
        # Trio's own threads go by its limiter; those that have another one are counted.
        is_at_work = under_way or trio.to_thread.current_default_thread_limiter().borrowed_tokens
        if not is_at_work:
            leap(clock)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_and_count)
    monkeypatch.setattr(MockClock, "_autojump", leap_unless_at_work)
    return MockClock(autojump_threshold=0)

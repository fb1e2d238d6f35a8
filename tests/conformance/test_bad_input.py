"""Does what each line of `docs/reference/bad-input.md` says, and compares the page itself."""

import bad_input
import declaration_bad_input
import ecash_bad_input
import pytest
import visit
from declaring_pool import DeclaringPool
from ecash_pool import ecash_pool
from engine_pool import SETTINGS


@pytest.mark.parametrize("entry", bad_input.ENTRIES, ids=lambda entry: entry.id)
async def test_bad_input(start_pool, entry):
    pool = await start_pool(**entry.settings)
    await visit.run(entry, pool)


@pytest.mark.parametrize("entry", ecash_bad_input.ENTRIES, ids=lambda entry: entry.id)
async def test_bad_ecash_input(tmp_path, entry):
    """attack: A4, attack: A15"""
    async with ecash_pool(tmp_path) as pool:
        await ecash_bad_input.run(entry, pool)


@pytest.mark.parametrize("entry", declaration_bad_input.ENTRIES, ids=lambda entry: entry.id)
async def test_bad_declarations(nursery, entry):
    pool = DeclaringPool(**entry.settings)
    await nursery.start(pool.run)
    try:
        await declaration_bad_input.run(entry, pool)
    finally:
        await pool.close()


def test_page_is_that_of_the_tests():
    written = bad_input.PAGE.read_text(encoding="utf-8")
    assert written == visit.render(bad_input.ALL), "run `python tests/conformance/bad_input.py`"


def test_entries_have_names_of_their_own():
    ids = [entry.id for entry in bad_input.ALL]
    assert len(ids) == len(set(ids))


def test_each_setting_that_an_entry_names_exists():
    for entry in bad_input.ENTRIES:
        named = set(entry.text.split("`")[1::2])
        assert named <= set(SETTINGS), entry.text


def test_each_limit_on_input_has_an_entry():
    """Limits of time, size, number and rate; the rest of the settings are no limits on clients."""
    text = " ".join(entry.text for entry in bad_input.ENTRIES)
    tested = {name for entry in bad_input.ENTRIES for name in entry.settings}
    # These have tests of their own: see `test_limits.py` and `test_custom_job.py`.
    elsewhere = {
        "workers_per_connection_max",
        "custom_jobs_kept_max",
        "ring_records_max",
        "events_max",
        "seen_shares_max",
        "seen_shares_expected",
        "seen_tips",
    }
    limits = {
        name
        for name in SETTINGS
        if name.endswith(("_max", "deadline_ms", "retry_ms")) and not name.startswith("exponent")
    }
    missing = {name for name in limits - elsewhere if name not in text and name not in tested}
    assert not missing

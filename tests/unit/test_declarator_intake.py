"""Places for transactions: few, and sites take turns."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from radpool_sv2.declarator.intake import Intake


@pytest.fixture
async def crowd(nursery):
    """Starts entries that hold their places until they are told to leave."""

    class Crowd:
        def __init__(self):
            self.intake = Intake(places=3, per_site=2)
            self.inside, self.scopes = [], {}

        async def come(self, *names):
            for name in names:
                scope = self.scopes[name] = trio.CancelScope()
                nursery.start_soon(self._enter, name, scope)
                await wait_all_tasks_blocked()

        async def _enter(self, name, scope):
            with scope:
                await self.intake.enter(name[0])
                self.inside.append(name)

        async def leave(self, name):
            self.inside.remove(name)
            self.intake.leave(name[0])
            await wait_all_tasks_blocked()

    return Crowd()


async def test_places_are_bounded_for_a_site_and_in_all(crowd):
    """spec: JD-34"""
    await crowd.come("a1", "a2", "a3", "b1", "b2", "c1")
    assert crowd.inside == ["a1", "a2", "b1"]
    assert (crowd.intake.held, crowd.intake.waiting) == (3, 3)


async def test_sites_take_turns(crowd):
    """Whoever comes with many connections delays the others by one turn."""
    await crowd.come("a1", "a2", "b1", "a3", "a4", "a5", "a6", "c1", "d1")
    for leaver in ("a1", "a2"):
        await crowd.leave(leaver)
    assert crowd.inside == ["b1", "a3", "c1"]
    await crowd.leave("b1")
    assert crowd.inside == ["a3", "c1", "d1"]
    await crowd.leave("c1")
    assert crowd.inside == ["a3", "d1", "a4"]


async def test_who_goes_while_waiting_leaves_no_trace(crowd):
    await crowd.come("a1", "a2", "a3", "a4")
    crowd.scopes["a3"].cancel()
    await wait_all_tasks_blocked()
    await crowd.leave("a1")
    assert crowd.inside == ["a2", "a4"]
    for name in ("a2", "a4"):
        await crowd.leave(name)
    assert (crowd.intake.held, crowd.intake.waiting) == (0, 0)


async def test_place_of_who_is_cancelled_when_called_goes_on(crowd):
    await crowd.come("a1", "a2", "b1", "c1", "d1")
    crowd.inside.remove("a1")
    crowd.intake.leave("a")
    crowd.scopes["c1"].cancel()
    await wait_all_tasks_blocked()
    if "c1" in crowd.inside:
        await crowd.leave("c1")
    assert "d1" in crowd.inside
    assert crowd.intake.held == 3


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=60))
def test_no_place_is_lost_and_none_stays_empty(acts):
    intake = Intake(places=3, per_site=2)

    async def run():
        inside = []

        async def enter(site):
            await intake.enter(site)
            inside.append(site)

        async with trio.open_nursery() as nursery:
            for site, comes in acts:
                if comes:
                    nursery.start_soon(enter, site)
                elif inside:
                    intake.leave(inside.pop(0))
                await wait_all_tasks_blocked()
                assert intake.held == len(inside) <= 3
                assert all(inside.count(each) <= 2 for each in inside)
                free_sites = [each for each in "abcd" if inside.count(each) < 2]
                waiting = intake._waiting
                assert intake.held == 3 or not any(each in waiting for each in free_sites)
            nursery.cancel_scope.cancel()
        assert intake.waiting == 0

    trio.run(run)

"""Which pool is mined for: every edge of the ladder, and that it always ends on the best."""

import random

import pytest

from radpool_sv2.jdc.ladder import HEALTHY_S, Drop, Failed, Ladder, Try, Use, Worked

PAUSE, LONGEST = 10.0, 80.0


def effects(ladder):
    found = []
    while (effect := ladder.poll()) is not None:
        found.append(effect)
    return found


def started(count):
    ladder = Ladder(count, PAUSE, LONGEST)
    ladder.start(0.0)
    return ladder


def test_it_begins_solo_and_tries_the_first():
    assert effects(started(2)) == [Use(None), Try(0)]


def test_without_pools_it_stays_solo():
    ladder = started(0)
    assert effects(ladder) == [Use(None)]
    assert ladder.next_deadline() is None


def test_a_pool_that_works_is_used_and_nothing_else_is_tried():
    ladder = started(3)
    effects(ladder)
    ladder.handle(Worked(0), 1.0)
    assert effects(ladder) == [Use(0)]
    assert ladder.next_deadline() is None


def test_a_pool_that_fails_while_tried_is_followed_by_the_next():
    ladder = started(2)
    effects(ladder)
    ladder.handle(Failed(0), 1.0)
    assert effects(ladder) == [Drop(0), Try(1)]
    ladder.handle(Worked(1), 2.0)
    assert effects(ladder) == [Use(1)]
    assert ladder.next_deadline() == 1.0 + PAUSE


def test_a_pool_that_fails_in_use_leaves_solo_until_another_works():
    ladder = started(2)
    ladder.handle(Worked(0), 1.0)
    effects(ladder)
    ladder.handle(Failed(0), 5.0)
    assert effects(ladder) == [Use(None), Drop(0), Try(1)]
    assert ladder.in_use is None
    ladder.handle(Worked(1), 6.0)
    assert effects(ladder) == [Use(1)]


def test_when_all_fail_it_is_solo_until_one_is_due():
    ladder = started(2)
    ladder.handle(Failed(0), 1.0)
    ladder.handle(Failed(1), 2.0)
    assert effects(ladder) == [Use(None), Try(0), Drop(0), Try(1), Drop(1)]
    assert ladder.next_deadline() == 1.0 + PAUSE
    ladder.handle_deadline(1.0 + PAUSE)
    assert effects(ladder) == [Try(0)]


def test_the_better_pool_is_returned_to_and_the_worse_one_left():
    ladder = started(2)
    ladder.handle(Failed(0), 1.0)
    ladder.handle(Worked(1), 2.0)
    effects(ladder)
    ladder.handle_deadline(1.0 + PAUSE)
    assert effects(ladder) == [Try(0)]
    assert ladder.in_use == 1, "miners stay where they are until the better pool works"
    ladder.handle(Worked(0), 12.0)
    assert effects(ladder) == [Use(0), Drop(1)]


def test_the_worse_pool_is_used_on_when_the_better_one_fails_again():
    ladder = started(2)
    ladder.handle(Failed(0), 0.0)
    ladder.handle(Worked(1), 0.0)
    ladder.handle_deadline(PAUSE)
    effects(ladder)
    ladder.handle(Failed(0), PAUSE)
    assert effects(ladder) == [Drop(0)]
    assert ladder.in_use == 1
    assert ladder.next_deadline() == 3 * PAUSE


def test_a_pool_left_for_a_better_one_is_due_at_once():
    ladder = started(2)
    ladder.handle(Failed(0), 0.0)
    ladder.handle(Worked(1), 0.0)
    ladder.handle_deadline(PAUSE)
    ladder.handle(Worked(0), PAUSE)
    effects(ladder)
    ladder.handle(Failed(0), PAUSE + 1)
    assert effects(ladder) == [Use(None), Drop(0), Try(1)]


def test_when_the_one_in_use_fails_while_a_better_is_tried_the_trial_goes_on():
    ladder = started(2)
    ladder.handle(Failed(0), 0.0)
    ladder.handle(Worked(1), 0.0)
    ladder.handle_deadline(PAUSE)
    effects(ladder)
    ladder.handle(Failed(1), PAUSE)
    assert effects(ladder) == [Use(None), Drop(1)]
    assert ladder.tried == 0


def test_pauses_double_up_to_the_longest():
    ladder = started(1)
    now, pauses = 0.0, []
    for _ in range(6):
        ladder.handle(Failed(0), now)
        pauses.append(ladder.next_deadline() - now)
        now = ladder.next_deadline()
        ladder.handle_deadline(now)
    assert pauses == [10.0, 20.0, 40.0, 80.0, 80.0, 80.0]


@pytest.mark.parametrize(("served_s", "pause"), [(HEALTHY_S, PAUSE), (HEALTHY_S - 1, 4 * PAUSE)])
def test_the_pause_starts_small_again_after_a_healthy_time(served_s, pause):
    ladder = started(1)
    for now in (0.0, PAUSE):
        ladder.handle(Failed(0), now)
        ladder.handle_deadline(now + 2 * PAUSE)
    ladder.handle(Worked(0), 100.0)
    ladder.handle(Failed(0), 100.0 + served_s)
    assert ladder.next_deadline() == 100.0 + served_s + pause


def test_a_pool_that_asks_to_be_tried_again_is_tried_at_once():
    ladder = started(2)
    ladder.handle(Worked(0), 1.0)
    effects(ladder)
    ladder.handle(Failed(0, at_once=True), 2.0)
    assert effects(ladder) == [Use(None), Drop(0), Try(0)]


def test_a_pool_that_only_ever_asks_to_be_tried_again_does_not_keep_the_next_from_its_turn():
    ladder = started(2)
    effects(ladder)
    ladder.handle(Failed(0, at_once=True), 1.0)
    assert effects(ladder) == [Drop(0), Try(0)]
    ladder.handle(Failed(0, at_once=True), 2.0)
    assert effects(ladder) == [Drop(0), Try(1)]


def test_trust_may_be_lost_in_an_idle_pool():
    ladder = started(2)
    ladder.handle(Failed(0), 1.0)
    ladder.handle(Worked(1), 2.0)
    effects(ladder)
    ladder.handle(Failed(0, for_good=True), 3.0)
    assert effects(ladder) == [] and ladder.next_deadline() is None
    ladder.handle_deadline(1e9)
    assert effects(ladder) == []


def test_what_is_told_of_an_idle_pool_is_no_news():
    ladder = started(3)
    ladder.handle(Worked(0), 1.0)
    effects(ladder)
    for event in (Worked(1), Failed(1), Worked(0)):
        ladder.handle(event, 2.0)
        assert effects(ladder) == []


@pytest.mark.parametrize("seed", range(20))
def test_once_failures_end_the_best_pool_that_works_is_used(seed):
    chance = random.Random(seed)
    count = chance.randint(1, 4)
    ladder, now = started(count), 0.0
    tried, in_use = None, None

    def apply():
        nonlocal tried, in_use
        while (effect := ladder.poll()) is not None:
            match effect:
                case Try(rung):
                    assert tried is None and rung != in_use
                    tried = rung
                case Use(rung):
                    tried = None if rung == tried else tried
                    in_use = rung
                case Drop(rung):
                    assert rung != in_use
                    tried = None if rung == tried else tried

    apply()
    for _ in range(200):
        now += chance.random() * 5
        rung = chance.choice([tried, in_use, chance.randrange(count)])
        if rung is not None:
            ladder.handle(chance.choice([Worked, Failed])(rung), now)
        ladder.handle_deadline(now)
        apply()
        assert (ladder.tried, ladder.in_use) == (tried, in_use)
    for _ in range(10 * count):
        now = max(now, ladder.next_deadline() or now)
        ladder.handle_deadline(now)
        apply()
        if tried is not None:
            ladder.handle(Worked(tried), now)
            apply()
    assert in_use == 0


def test_a_pool_that_lost_all_trust_is_never_tried_again():
    ladder = started(2)
    ladder.handle(Worked(0), 1.0)
    effects(ladder)
    ladder.handle(Failed(0, for_good=True), 2.0)
    assert effects(ladder) == [Use(None), Drop(0), Try(1)]
    ladder.handle(Worked(1), 3.0)
    assert ladder.next_deadline() is None
    ladder.handle_deadline(1e9)
    assert effects(ladder) == [Use(1)]

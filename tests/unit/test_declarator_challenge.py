"""Lots over hidden jobs: who is drawn, what a failure costs, what is never forgotten."""

import hashlib

from declarator_rig.part import named, owner, parts, tip
from hypothesis import given
from hypothesis import strategies as st

from radpool_sv2.declarator.challenge import ChallengeBook, ChallengeLimits, is_challenged
from radpool_sv2.templates.declared import HiddenJob

ALICE, BOB = owner("alice"), owner("bob")
OLD, NEW = tip(100), tip(101)


def hidden(token, of=ALICE, on=OLD):
    return HiddenJob(
        owner=of,
        token=token,
        template_id=1 << 63,
        tip=on,
        version=0x20000000,
        coinbase=parts(),
        merkle_path=(),
    )


def drawing(token, *, drawn=True):
    """Returns a block hash that draws a token, or one that does not."""
    n = 0
    while True:
        found = hashlib.sha256(b"%d" % n).digest()
        if is_challenged(found, token) == drawn:
            return found
        n += 1


def drawing_all(names):
    """Returns a block hash that draws the tokens of all these names."""
    n = 0
    while True:
        found = hashlib.sha256(b"%d" % n).digest()
        if all(is_challenged(found, named(name)) for name in names):
            return found
        n += 1


def book(**limits):
    return ChallengeBook(ChallengeLimits(reveal_s=600.0, banned_s=86_400.0, **limits))


def test_job_that_is_not_drawn_is_free():
    """spec: JD-26"""
    kept = book()
    kept.mined(hidden(named("a")))
    block = drawing(named("a"), drawn=False)
    assert kept.tip_changed(OLD.prev_hash, block, 0.0) == []
    assert kept.owner(named("a")) is None
    assert kept.failed(10_000.0) == []
    assert kept.may_hide(ALICE, 10_000.0)


def test_job_of_another_tip_waits():
    """spec: JD-26"""
    kept = book()
    kept.mined(hidden(named("a"), on=NEW))
    block = drawing(named("a"))
    assert kept.tip_changed(OLD.prev_hash, block, 0.0) == []
    assert len(kept.tip_changed(NEW.prev_hash, block, 1.0)) == 1


def test_job_that_is_drawn_and_revealed():
    """spec: JD-27"""
    kept = book()
    job = hidden(named("a"))
    kept.mined(job)
    assert kept.tip_changed(OLD.prev_hash, drawing(named("a")), 0.0) == [job]
    assert (kept.owner(named("a")), kept.job(named("a"))) == (ALICE, job)
    assert kept.next_deadline() == 600.0
    kept.revealed(named("a"))
    assert kept.owner(named("a")) is None
    assert kept.failed(10_000.0) == []
    assert kept.may_hide(ALICE, 10_000.0)


def test_job_that_is_drawn_and_not_revealed():
    """spec: JD-28"""
    kept = book()
    job = hidden(named("a"))
    kept.mined(job)
    kept.tip_changed(OLD.prev_hash, drawing(named("a")), 0.0)
    assert kept.failed(599.9) == []
    assert kept.failed(600.0) == [job]
    assert kept.failed(601.0) == [job], "until its shares are worth nothing, for certain"
    assert kept.owner(named("a")) is None, "it is too late to reveal it"
    kept.written_off(named("a"))
    assert kept.failed(602.0) == [], "it fails once"
    assert not kept.may_hide(ALICE, 600.0)
    assert not kept.may_hide(ALICE, 600.0 + 86_399.9)
    assert kept.may_hide(ALICE, 600.0 + 86_400.0)
    assert kept.may_hide(BOB, 600.0)


def test_hidden_jobs_of_an_owner_are_bounded_and_kept():
    """spec: JD-29"""
    kept = book(jobs_per_owner_max=2)
    for name in "ab":
        assert kept.may_hide(ALICE, 0.0)
        kept.mined(hidden(named(name)))
    assert not kept.may_hide(ALICE, 0.0)
    assert kept.may_hide(BOB, 0.0)
    block = drawing(named("a"))
    drawn = [job.token for job in kept.tip_changed(OLD.prev_hash, block, 0.0)]
    assert named("a") in drawn
    assert kept.may_hide(ALICE, 0.0), "the other one was let go, or both are due"


def test_hidden_jobs_in_all_are_bounded():
    """spec: JD-29"""
    kept = book(jobs_max=2)
    for name in "ab":
        kept.mined(hidden(named(name), owner(name)))
    assert not kept.may_hide(owner("d"), 0.0)
    # Those that are due count until they are revealed, or have failed and are written off.
    [*drawn] = kept.tip_changed(OLD.prev_hash, drawing_all("ab"), 0.0)
    assert len(drawn) == 2
    late = kept.failed(10_000.0)
    assert late == drawn
    assert not kept.may_hide(owner("d"), 10_000.0)
    for job in late:
        kept.written_off(job.token)
    assert kept.may_hide(owner("d"), 10_000.0)


def test_job_that_was_never_set_is_forgotten():
    """spec: JD-26"""
    kept = book(jobs_per_owner_max=1)
    kept.mined(hidden(named("a")))
    kept.unmined(named("a"))
    assert kept.may_hide(ALICE, 0.0)
    kept.mined(hidden(named("a")))
    kept.tip_changed(OLD.prev_hash, drawing(named("a")), 0.0)
    kept.unmined(named("a"))
    kept.unmined(named("a"))
    assert kept.failed(10_000.0) == []
    assert kept.may_hide(ALICE, 10_000.0)


def test_reason_tells_the_last_try():
    """spec: JD-28"""
    kept = book()
    kept.mined(hidden(named("a")))
    kept.tried(named("a"), "too early: nobody has asked")
    kept.tip_changed(OLD.prev_hash, drawing(named("a")), 0.0)
    assert kept.reason(named("a")) == "not revealed"
    kept.tried(named("a"), "bad-txns-duplicate")
    kept.tried(named("a"), "it is another template" + "." * 1_000)
    kept.failed(600.0)
    kept.tried(named("a"), "too late")
    reason = kept.reason(named("a"))
    assert reason.startswith("not revealed: it is another template...")
    assert len(reason) < 250
    kept.written_off(named("a"))
    assert kept.reason(named("a")) == "not revealed"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=60))
def test_book_counts_what_it_holds(acts):
    """spec: JD-29"""
    kept = book(jobs_per_owner_max=4, jobs_max=8)
    owners = [owner(name) for name in "abcd"]
    held, now = {}, 0.0
    for n, (act, who) in enumerate(acts):
        if act <= 2:
            per_owner = sum(each.owner == owners[who] for each in held.values())
            if kept.may_hide(owners[who], now):
                job = hidden(named(f"token {n}"), owners[who])
                kept.mined(job)
                held[job.token] = job
                assert per_owner < 4
                assert len(held) <= 8
        elif act == 3:
            drawn = kept.tip_changed(OLD.prev_hash, named(f"block {n}"), now)
            held = {job.token: job for job in drawn} | {
                token: job for token, job in held.items() if kept.job(token)
            }
        elif act == 4 and held:
            token = next(iter(held))
            if kept.job(token):
                kept.revealed(token)
                del held[token]
        else:
            now += 700.0
            for job in kept.failed(now):
                kept.written_off(job.token)
                del held[job.token]
        assert kept.due <= len(held) <= 8

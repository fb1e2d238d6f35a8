"""Waits for a condition by looking again and again, never longer than a deadline."""

import time

LOOK_S = 0.01


def until(condition, what, seconds=60.0):
    """Returns the first true answer of `condition`; fails with `what` when none came in time."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(LOOK_S)
    return answer


def steady(observe, what, seconds):
    """Checks that what `observe` returns stays the same for so many seconds; returns it."""
    first = observe()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        now = observe()
        assert now == first, f"{what} changed from {first} to {now}"
        time.sleep(LOOK_S)
    return first

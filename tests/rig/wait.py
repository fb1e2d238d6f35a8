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
    """Waits until what `observe` returns has stayed the same for so many seconds; returns it."""
    last, since = observe(), time.monotonic()

    def is_steady():
        nonlocal last, since
        now = observe()
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > seconds

    until(is_steady, lambda: f"{what} goes on changing: {last}")
    return last

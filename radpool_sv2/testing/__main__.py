"""Runs worlds: `python -m radpool_sv2.testing --seed 7`, or `--seeds 0..2000` for many.

With `--small` they are small ones, of which ten cost as one other; with `--keys` their members
generate a key and sign with it.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING

from radpool_sv2.testing.keys import KEY_SIZES, KeyWorld
from radpool_sv2.testing.plan import MISDEEDS, SIZES, SIZES_SMALL, Plan
from radpool_sv2.testing.simulator import World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRESS_EVERY_S = 10

COLLECT_EVERY = 50
"""Worlds that are let go of at a time; looking for rings of objects inside one is for nothing."""


def main(arguments: Sequence[str]) -> int:
    """Runs what the command line says; returns 1 when a world failed."""
    parser = argparse.ArgumentParser(
        prog="python -m radpool_sv2.testing",
        description="Runs members of a federation in worlds that are drawn from seeds.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="the one world to run, told in full")
    which.add_argument("--seeds", type=_span, help="A..B: the worlds A to before B; or a count")
    sort = parser.add_mutually_exclusive_group()
    sort.add_argument("--small", action="store_true", help="small worlds: tens a second")
    sort.add_argument("--keys", action="store_true", help="members generate a key and sign with it")
    parser.add_argument("--members", type=int, help="instead of drawing it")
    parser.add_argument(
        "--misdeeds",
        type=lambda text: tuple(text.split("+")),
        help=f"what all t faulty members do, joined by +: {', '.join(MISDEEDS)}",
    )
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.misdeeds or ()) - set(MISDEEDS)
    if unknown:
        parser.error(f"no such misdeeds: {', '.join(sorted(unknown))}")
    sizes = SIZES_SMALL if chosen.small else KEY_SIZES if chosen.keys else SIZES
    if chosen.members not in (None, *sizes):
        parser.error(f"such worlds have {', '.join(map(str, sizes))} members")
    if chosen.keys and chosen.misdeeds:
        parser.error("who is faulty in worlds with keys is drawn")

    def world_of(seed: int) -> World:
        if chosen.keys:
            return KeyWorld.draw(seed, chosen.members)
        draw = Plan.draw_small if chosen.small else Plan.draw
        return World(draw(seed, chosen.members, chosen.misdeeds))

    if chosen.seed is not None:
        world = world_of(chosen.seed)
        print(world.plan.describe())
        return _run_one(world)
    return _run_many(chosen.seeds, world_of, arguments)


def _span(text: str) -> range:
    first, dots, end = text.partition("..")
    return range(int(first), int(end)) if dots else range(int(first))


def _run_one(world: World) -> int:
    try:
        world.run()
    except Exception:  # noqa: BLE001 - whatever a world ends with is its finding
        traceback.print_exc()
        return 1
    checker = world.checker
    print(
        f"at rest after {world.now} ms: {world.messages} messages, "
        f"{len(checker.evidence)} accusations, {len(checker.closes)} links closed, trace "
        f"{world.trace:08x}"
    )
    return 0


def _run_many(seeds: range, world_of: Callable[[int], World], arguments: Sequence[str]) -> int:
    """Runs worlds one after the other; tells how it goes, and at the end which failed."""
    start = said = time.monotonic()
    failed: list[int] = []
    seen: Counter[str] = Counter()
    gc.disable()
    try:
        for done, seed in enumerate(seeds, 1):
            world = world_of(seed)
            try:
                world.run()
            except Exception as error:  # noqa: BLE001 - whatever a world ends with is its finding
                failed.append(seed)
                print(f"FAILED {type(error).__name__}: {error}", flush=True)
            seen.update(_met(world))
            if done % COLLECT_EVERY == 0:
                gc.collect()
            if time.monotonic() - said >= PROGRESS_EVERY_S:
                said = time.monotonic()
                rate = done / (said - start)
                print(
                    f"{done} of {len(seeds)}, {len(failed)} failed, {rate:.1f} a second", flush=True
                )
    finally:
        gc.enable()
    took = time.monotonic() - start
    print(f"{len(seeds)} worlds, {seen['messages']} messages, {took:.0f} s, {len(failed)} failed")
    print("; ".join(f"{what}: {count}" for what, count in seen.items()))
    options = " ".join(each for each in _without_seeds(arguments))
    for seed in failed:
        print(f"  again: python -m radpool_sv2.testing --seed {seed} {options}".rstrip())
    return 1 if failed else 0


def _met(world: World) -> dict[str, int]:
    """Counts what a world went through."""
    plan, checker = world.plan, world.checker
    return {
        "messages": world.messages,
        "entries": checker.entries,
        "epochs": checker.epochs,
        "crashes": len(plan.crashes),
        "partitions": len(plan.partitions),
        "links broken": len(plan.breaks),
        "worlds with faulty members": int(bool(plan.byzantine)),
        "accusations": len(checker.evidence),
        "links closed for what came": len(checker.closes),
    } | (
        {"nonces spent": len(world.spent), "liars named": len(world.accused)}
        if isinstance(world, KeyWorld)
        else {}
    )


def _without_seeds(arguments: Sequence[str]) -> list[str]:
    at = next(index for index, each in enumerate(arguments) if each.startswith("--seeds"))
    taken = 1 if "=" in arguments[at] else 2
    return [*arguments[:at], *arguments[at + taken :]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Draws what happens in a world from its seed: size, delays, faults, and who is up to what.

All faults end at `calm_ms`; a world must come to rest some time after that, whatever happened
before. Everything is drawn here or from the world's own generator, so the seed is all there is.

There are two sorts of plans: whole ones (`Plan.draw`), and small ones (`Plan.draw_small`) of four
or seven members, few entries and one to three epochs, with as many faults for their size, which
cost a tenth. The same seed is another world in each sort.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

__all__ = ["MISDEEDS", "SIZES", "SIZES_SMALL", "Plan"]

SIZES = (4, 7, 10, 13)
SIZES_SMALL = (4, 7)
READS_MS = (0, 0, 0, 5, 50)

MISDEEDS = (
    "twins",
    "split-echoes",
    "withhold",
    "forge-sender",
    "flood",
    "replay",
    "double-vote",
    "favour",
    "select",
    "lie-about-marks",
    "lie-about-roots",
    "silent",
    "rewind",
)


@dataclass(kw_only=True)
class Plan:
    """Says what happens in a world.

    Attributes:
        seed: What it is drawn from.
        n: Members.
        byzantine: Misdeeds of each faulty member; the others are honest.
        is_bip340: Whether members sign by BIP340.
        calm_ms: When the last fault ends.
        delay_ms: The least and the most that a message takes, while there are faults.
        disk_ms: The least and the most that a sync takes.
        blocks_ms: When the chain grows.
        append_every_ms: How often an honest member appends.
        partitions: From, to, and the members on one side.
        breaks: When the link of two members breaks.
        crashes: When a member crashes, and when it is back.
        duplicate_per_mille: How many messages come twice.
        view_timeout_ms: How long the first view may take: short ones make many views.
        grace_ms: How long marks are waited for.
        window: Entries of a stream above its last certified one that are echoed.
        read_ms: How long messages of a link wait to be dealt with together; 0 for not at all.
    """

    seed: int
    n: int
    byzantine: dict[int, tuple[str, ...]] = field(default_factory=dict)
    is_bip340: bool = False
    calm_ms: int = 0
    delay_ms: tuple[int, int] = (1, 20)
    disk_ms: tuple[int, int] = (1, 10)
    blocks_ms: tuple[int, ...] = ()
    append_every_ms: int = 1_000
    partitions: tuple[tuple[int, int, frozenset[int]], ...] = ()
    breaks: tuple[tuple[int, int, int], ...] = ()
    crashes: tuple[tuple[int, int, int], ...] = ()
    duplicate_per_mille: int = 0
    view_timeout_ms: int = 1_500
    grace_ms: int = 1_000
    window: int = 8
    read_ms: int = 0

    @classmethod
    def draw(cls, seed: int, n: int | None = None, misdeeds: tuple[str, ...] | None = None) -> Plan:
        """Draws a plan.

        Args:
            seed: Any number.
            n: How many members, instead of drawing it.
            misdeeds: What as many members as may be faulty do, instead of drawing it.
        """
        random = Random(f"plan {seed}")
        drawn = random.choices(SIZES, weights=(60, 25, 10, 5))[0]
        n = drawn if n is None else n
        faulty_max = (n - 1) // 3
        faulty = random.randint(0, faulty_max) if misdeeds is None else faulty_max
        byzantine = {}
        for member in random.sample(range(n), faulty):
            several = tuple(random.sample(MISDEEDS, random.choice((1, 1, 2, 3))))
            byzantine[member] = several if misdeeds is None else misdeeds
        calm = random.randint(6_000, 16_000)
        plan = cls(
            seed=seed,
            n=n,
            byzantine=byzantine,
            is_bip340=n == SIZES[0] and random.random() < 0.02,
            calm_ms=calm,
            delay_ms=random.choice(((1, 5), (1, 50), (20, 120), (1, 900), (300, 600))),
            disk_ms=random.choice(((0, 0), (1, 10), (1, 300))),
            append_every_ms=random.choice((400, 1_000, 2_500)) * n // 4,
            duplicate_per_mille=random.choice((0, 0, 20)),
            view_timeout_ms=random.choice((30, 200, 600, 1_500, 1_500)),
            grace_ms=random.choice((0, 300, 1_000, 1_000)),
            window=random.choice((1, 3, 8, 8, 8)),
        )
        plan._draw_faults(random)
        plan.read_ms = random.choice(READS_MS)
        return plan

    @classmethod
    def draw_small(
        cls, seed: int, n: int | None = None, misdeeds: tuple[str, ...] | None = None
    ) -> Plan:
        """Draws a plan of little that happens close together: many of them cost as one whole plan.

        Args:
            seed: Any number.
            n: How many members, instead of drawing it.
            misdeeds: What as many members as may be faulty do, instead of drawing it.
        """
        random = Random(f"small plan {seed}")
        drawn = random.choices(SIZES_SMALL, weights=(9, 1))[0]
        n = drawn if n is None else n
        faulty_max = (n - 1) // 3
        faulty = faulty_max if misdeeds else random.choice((0, faulty_max, faulty_max))
        byzantine = {}
        for member in random.sample(range(n), faulty):
            several = tuple(random.sample(MISDEEDS, random.choice((1, 1, 2))))
            byzantine[member] = several if misdeeds is None else misdeeds
        calm = random.choice((400, 1_000, 2_000, 3_500))
        plan = cls(
            seed=seed,
            n=n,
            byzantine=byzantine,
            is_bip340=n == SIZES[0] and random.random() < 0.01,
            calm_ms=calm,
            delay_ms=random.choice(((1, 5), (1, 50), (20, 120), (1, 900), (300, 600))),
            disk_ms=random.choice(((0, 0), (1, 10), (1, 300))),
            append_every_ms=calm // random.choice((1, 1, 2)),
            duplicate_per_mille=random.choice((0, 0, 50)),
            view_timeout_ms=random.choice((30, 200, 600, 1_500)),
            grace_ms=random.choice((0, 300, 1_000)),
            window=random.choice((1, 2, 8)),
        )
        plan._draw_few_faults(random)
        plan.read_ms = random.choice(READS_MS)
        return plan

    def _draw_few_faults(self, random: Random) -> None:
        calm = self.calm_ms
        blocks = random.choices((1, 2, 3), weights=(5, 3, 1))[0]
        self.blocks_ms = tuple(sorted(random.randint(0, calm) for _ in range(blocks)))
        if random.random() < 0.3:
            start = random.randint(0, calm)
            side = random.sample(range(self.n), random.randint(1, self.n - 1))
            self.partitions = ((start, random.randint(start, calm), frozenset(side)),)
        breaks = []
        for _ in range(random.choice((0, 0, 1, 3, 8))):
            left, right = random.sample(range(self.n), 2)
            breaks.append((random.randint(0, calm), left, right))
        self.breaks = tuple(breaks)
        crashes = []
        for _ in range(random.choice((0, 0, 1, 1, 2, 5))):
            at = random.randint(0, calm)
            back = min(calm, at + random.choice((1, 30, 300, calm)))
            crashes.append((at, back, random.randrange(self.n)))
        if random.random() < 0.05:
            # The whole federation at once.
            at = random.randint(0, calm - 1)
            crashes = [(at, min(calm, at + 100), member) for member in range(self.n)]
        self.crashes = tuple(sorted(crashes))

    def _draw_faults(self, random: Random) -> None:
        calm = self.calm_ms
        count = random.randint(2, 7) if self.n <= 7 else 2
        self.blocks_ms = tuple(sorted(random.randint(0, calm) for _ in range(count)))
        if random.random() < 0.1:
            # Blocks that come at once.
            self.blocks_ms += (self.blocks_ms[-1],)
        cuts = []
        for _ in range(random.choice((0, 0, 1, 2))):
            start = random.randint(0, calm)
            end = min(calm, start + random.randint(200, calm))
            side = random.sample(range(self.n), random.randint(1, self.n - 1))
            cuts.append((start, end, frozenset(side)))
        self.partitions = tuple(cuts)
        breaks = []
        for _ in range(random.choice((0, 1, 4, 12, 60))):
            left, right = random.sample(range(self.n), 2)
            breaks.append((random.randint(0, calm), left, right))
        self.breaks = tuple(breaks)
        crashes = []
        count, longest = random.choice(((0, calm), (1, calm), (2, calm), (4, calm), (30, 600)))
        for _ in range(count):
            at = random.randint(0, calm)
            back = min(calm, at + random.randint(50, longest))
            crashes.append((at, back, random.randrange(self.n)))
        if random.random() < 0.05:
            # The whole federation at once.
            at = random.randint(0, calm - 1)
            crashes = [(at, min(calm, at + 500), member) for member in range(self.n)]
        self.crashes = tuple(sorted(crashes))

    def describe(self) -> str:
        """Tells the plan in a line."""
        faulty = ", ".join(
            f"{member}: {'+'.join(misdeeds)}" for member, misdeeds in sorted(self.byzantine.items())
        )
        return (
            f"seed {self.seed}: n = {self.n}, faulty {{{faulty}}}, delay {self.delay_ms} ms, disk "
            f"{self.disk_ms} ms, {len(self.partitions)} partitions, {len(self.breaks)} breaks, "
            f"{len(self.crashes)} crashes, {len(self.blocks_ms)} blocks, calm at {self.calm_ms} ms"
            f"{f', reads {self.read_ms} ms together' if self.read_ms else ''}"
            f"{', BIP340' if self.is_bip340 else ''}"
        )

"""Templates are kept within a bound, and whoever takes the most gives way."""

import gc

import pytest
import trio
import trio.testing

from radpool_sv2.declarator.keep import BYTES_PER_TRANSACTION, TemplateKeep
from radpool_sv2.errors import LocalProtocolError

TIP, NEXT = b"\x01" * 32, b"\x02" * 32


class Memory:
    """Counts the transactions of native templates that live, as the cache does."""

    def __init__(self):
        self.living = []

    @property
    def bytes(self):
        return sum(each.size for each in self.living)

    async def tidy(self):
        gc.collect()


class Native:
    merkle_path = (b"\x07" * 32,)

    def __init__(self, memory, size, tx_count=0):
        self.size, self.tx_count = size, tx_count
        self._entry = _Entry(size)
        memory.living.append(self._entry)
        self._memory = memory

    def __del__(self):
        self._memory.living.remove(self._entry)

    def block_of(self, header, coinbase_tx):
        return header + coinbase_tx


class _Entry:
    def __init__(self, size):
        self.size = size


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def keep(memory):
    return TemplateKeep(memory, 1_000)


async def test_the_largest_site_lets_go_of_its_oldest(keep, memory):
    """spec: JD-33"""
    honest = keep.keep(Native(memory, 300), "honest", TIP)
    liars = [keep.keep(Native(memory, 200), "liar", TIP) for _ in range(5)]
    assert await keep.make_room(memory.tidy) == 2
    assert honest.is_kept
    assert [each.is_kept for each in liars] == [False, False, True, True, True]
    assert keep.bytes_held <= 1_000


async def test_sites_of_many_connections_count_as_one(keep, memory):
    """spec: JD-33"""
    many = [keep.keep(Native(memory, 150), "many", TIP) for _ in range(4)]
    one = keep.keep(Native(memory, 500), "one", TIP)
    assert await keep.make_room(memory.tidy) == 1
    assert one.is_kept
    assert not many[0].is_kept


async def test_lists_count_too(keep, memory):
    """Templates that share all transactions still take room."""
    count = 500 // BYTES_PER_TRANSACTION + 1
    kept = [keep.keep(Native(memory, 0, tx_count=count), "a", TIP) for _ in range(3)]
    assert await keep.make_room(memory.tidy) >= 1
    assert not kept[0].is_kept


async def test_what_nobody_holds_is_gone(keep, memory):
    kept = keep.keep(Native(memory, 2_000), "a", TIP)
    assert len(keep) == 1
    del kept
    gc.collect()
    assert len(keep) == 0
    assert keep.bytes_held == 0
    assert await keep.make_room(memory.tidy) == 0


async def test_bound_that_others_exceed_ends_the_search(keep, memory):
    """What the cache holds for declarations on their way is not the templates' fault for ever."""
    on_its_way = Native(memory, 5_000)
    kept = keep.keep(Native(memory, 10), "a", TIP)
    assert await keep.make_room(memory.tidy) == 1
    assert not kept.is_kept
    assert on_its_way.size == 5_000


async def test_templates_of_blocks_that_are_gone_are_let_go(keep, memory, nursery):
    """spec: JD-33"""
    old, new = (keep.keep(Native(memory, 10), "a", tip) for tip in (TIP, NEXT))
    keep.keep_tips((NEXT,))
    assert (old.is_kept, new.is_kept) == (False, True)
    assert len(memory.living) == 2, "miners wait for their jobs: freeing it has time"
    nursery.start_soon(keep.bury)
    await trio.testing.wait_all_tasks_blocked()
    assert len(memory.living) == 1
    keep.keep_tips(())
    await trio.testing.wait_all_tasks_blocked()
    assert memory.living == []
    assert old.merkle_path == ()
    with pytest.raises(LocalProtocolError, match="let go"):
        old.block_of(b"", b"")


def test_template_that_is_kept_makes_blocks(keep, memory):
    kept = keep.keep(Native(memory, 10), "a", TIP)
    assert kept.block_of(b"h", b"c") == b"hc"
    assert kept.merkle_path == Native.merkle_path

"""Worlds whose members mine: small real batches, the same books at every member."""

from dataclasses import replace

import pytest
from shares import Template
from state_rig import KEY_SAID, NBITS, TARGET, Stream, rules_of

from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.state.accounting import Accounting, Fault
from radpool_sv2.federation.state.ledger import output_of_key, syndicate_script
from radpool_sv2.federation.state.payload import Found, Tip
from radpool_sv2.federation.state.payout import direct_outputs
from radpool_sv2.federation.state.rules import PayoutMode
from radpool_sv2.federation.state.spends import payouts_of
from radpool_sv2.testing.plan import Plan
from radpool_sv2.testing.simulator import World
from radpool_sv2.verify import decode_batch


class Mining:
    """Is the office of members that mine; those that may be faulty cheat now and then.

    Batches are signed by keys of their own, so that worlds need not sign by BIP340 throughout.
    """

    def __init__(self, **changes) -> None:
        rules = rules_of(height_first=1, shares_target=6, **changes)
        self.function = Accounting(rules)
        self.script = output_of_key(rules, KEY_SAID.key).script
        self.streams = [Stream(member) for member in range(4)]
        self.told = [-1] * 4
        for stream in self.streams:
            stream.add(Kind.KEY_SAID, KEY_SAID.encode())
            stream.add(Kind.PAYOUT_SCRIPT, b"\x00\x14" + bytes([stream.member]) * 20)

    def work(self, world, member):
        stream, height = self.streams[member], max(world.nodes[member].height, 0)
        random, script = world.random, self.script
        states = world.nodes[member].states
        ledger = self.function.ledger(states[max(states)] if states else b"")
        prev_hash = world.heights[height]
        if self.told[member] != height:
            self.told[member] = height
            fees = random.choice((0, 1_000_000, 10**8))
            stream.add(Kind.TIP, Tip(prev_hash, height + 1, NBITS, TARGET, fees).encode())
            self.say_blocks(world, stream, ledger, height)
        elif not self.may_mine(ledger):
            # Nobody mines while there is nobody to pay.
            pass
        else:
            template = Template(
                height=height + 1,
                prev_hash=prev_hash,
                nbits=NBITS,
                value_sats=random.choice((10**9, 5_000_000_000, 5_100_000_000)),
                script=script,
            )
            if self.is_direct:
                paid = direct_outputs(ledger, template.value_sats)
                template = replace(template, outputs=tuple(paid))
            price = (template.value_sats << 32) // 2
            count = random.randint(1, 4)
            z = ledger.exponents[-1] + random.randint(0, 3)
            shares = stream.shares(height + 1, count, of=template, price=price, z=z)
            if member in world.plan.byzantine and random.random() < 0.4:
                shares = self.cheat(random, shares)
            stream.batch(shares, epoch_min=1)
        return [(entry.header.kind, entry.payload) for entry in stream.take()]

    @property
    def is_direct(self):
        return self.function.rules.payout is PayoutMode.DIRECT

    def may_mine(self, ledger):
        if self.is_direct:
            return bool(ledger.direct_stakes())
        return syndicate_script(self.function.rules, ledger) == self.script

    def say_blocks(self, world, stream, ledger, height):
        """Says that the tip pays the federation, if it does, and what is mature behind it."""
        name = world.heights[height]
        if name[0] % 4:
            found = Found(name, height, name, 0, 5_000_000_000 + name[1], self.script[2:])
            stream.add(Kind.BLOCK_FOUND, found.encode())
        for known, block in ledger.blocks.items():
            if block.matured_epoch < 0 and height > block.height:
                stream.add(Kind.BLOCK_MATURE, known)

    def cheat(self, random, shares):
        return random.choice(
            (
                [shares[0], *shares],
                [replace(share, price=share.price + 1) for share in shares],
                [replace(share, z=40) for share in shares],
            )
        )


def steady(seed):
    """Plans a world in which nothing holds streams up: neither disks nor windows nor budgets."""
    plan = Plan.draw(seed, 4, ())
    plan.byzantine, plan.crashes, plan.partitions, plan.breaks = {}, (), (), ()
    plan.append_every_ms, plan.window = 300, 8
    plan.disk_ms, plan.delay_ms = (1, 10), (1, 50)
    plan.blocks_ms = (*range(1_000, plan.calm_ms, 1_500), plan.calm_ms + 1_500)
    return plan


def run(plan, **changes):
    office = Mining(**changes)
    world = World(plan, office=office)
    # Blocks may stay away for long in a world, and batches are larger than what else is appended.
    world.limits = replace(world.limits, segment_bytes_max=1 << 20)
    world.run()
    return world, office


def ledgers(world, office, member):
    states = world.nodes[member].states
    return [office.function.ledger(states[epoch]) for epoch in sorted(states)]


def check(world, office):
    """Checks that honest members have the same books, and that nothing is lost in them."""
    honest = [member for member in range(4) if member not in world.plan.byzantine]
    first = world.nodes[honest[0]].states
    for member in honest[1:]:
        states = world.nodes[member].states
        assert all(states[epoch] == first[epoch] for epoch in states.keys() & first.keys())
    books = ledgers(world, office, honest[0])
    for ledger in books:
        slot = next((each for each in ledger.window if each.epoch == ledger.epochs - 1), None)
        earned = () if slot is None else slot.earned
        assert sum(row.work for row in ledger.rows) == sum(work for _, work, _ in earned)
        assert sum(row.value for row in ledger.rows) == sum(value for _, _, value in earned)
    return books


@pytest.mark.parametrize("seed", range(12))
def test_members_have_the_same_books(seed):
    """spec: CS-6"""
    plan = Plan.draw(1_000 + seed, 4)
    world, office = run(plan)
    for ledger in check(world, office):
        for verdict in ledger.verdicts:
            is_excused = bool(plan.crashes) and verdict.code in {Fault.CHAIN, Fault.BATCH}
            assert verdict.member in plan.byzantine or is_excused


def cut_shares(world):
    """Counts the shares in all segments that were ever in a cut."""
    store, ends = world.nodes[0].store, world.checker._ends
    entries = [store.entry(member, seq) for member in range(4) for seq in range(ends[member])]
    batches = [entry.payload for entry in entries if entry.header.kind == Kind.SHARE_BATCH]
    return sum(decode_batch(batch).count for batch in batches)


def test_what_is_mined_is_counted_once():
    """spec: CS-6, CS-11"""
    world, office = run(steady(7))
    books = check(world, office)
    assert [ledger.verdicts for ledger in books] == [()] * len(books)
    counted = sum(row.count for ledger in books for row in ledger.rows)
    assert counted + sum(ledger.stale for ledger in books) == cut_shares(world) > 100
    # Whatever pays the federation is paid on, by what was known when it was.
    payouts = payouts_of(office.function.rules, books[-1])
    assert payouts
    assert all(len(books[-1].blocks[name].stakes) == 4 for name in payouts)


def test_coinbases_that_pay_the_members_follow_books_that_all_have():
    """spec: CS-18, CS-28"""
    world, office = run(steady(5), payout=PayoutMode.DIRECT)
    books = check(world, office)
    assert [ledger.verdicts for ledger in books] == [()] * len(books)
    assert sum(row.count for ledger in books for row in ledger.rows) > 50
    assert len({each.root for each in books[-1].distributions}) == len(books)


def test_cheats_are_found_and_do_no_harm():
    """spec: CS-7, CS-9"""
    plan = steady(11)
    plan.byzantine = {2: ()}
    world, office = run(plan)
    verdicts = [each for ledger in check(world, office) for each in ledger.verdicts]
    assert {each.member for each in verdicts} == {2}
    assert {Fault(each.code) for each in verdicts} >= {Fault.BATCH, Fault.PRICE}

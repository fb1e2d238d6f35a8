"""Members with keys over real TCP and real disks: they generate them, sign, and come back."""

from functools import partial

import trio
from federation_keyed import KeyedNet, check_nonces, quiet
from federation_net import wait_until

from radpool_sv2._native.threshold import CHECKPOINT, TREASURY
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.keys.table import Proof, generations
from radpool_sv2.federation.signing.evidence import ShareEvidence
from radpool_sv2.federation.state.payload import KeySaid


async def test_members_generate_keys_and_sign_and_one_comes_back(tmp_path):
    async with trio.open_nursery() as nursery:
        net = KeyedNet(tmp_path)
        await net.begin(nursery)
        await net.generate()
        await net.sign(2)
        before = dict(net.told[2])
        assert before

        await net.stop(2)
        await net.sign(1, (0, 1, 3))
        net.told[2].clear()
        await net.start(2)
        await net.signed()
        # It is told again of all that was signed, and then of what was signed without it.
        assert before.items() <= net.told[2].items()
        await net.sign(3)
        await quiet(net, range(4))
        figures = [net.keys(me) for me in range(4)]
        await net.end()
    assert figures[2]["checkpoint"]["boot"] == 2
    for name in ("checkpoint", "treasury"):
        assert len({each[name]["transcript"] for each in figures}) == 1
        assert all(each[name]["has_share"] and each[name]["threshold"] == 3 for each in figures)
        assert all(set(each[name]["commitments"]) == {"0", "1", "2", "3"} for each in figures)
    assert not any(each["evidence"] or each["stopped"] for each in figures)
    check_signatures(net, figures)
    check_nonces(net.spent())


async def test_who_goes_on_from_a_snapshot_signs_although_its_book_has_a_gap(tmp_path):
    """spec: TK-56"""
    async with trio.open_nursery() as nursery:
        net = KeyedNet(tmp_path)
        await net.begin(nursery)
        await net.generate()
        await net.sign(1)
        await net.stop(2)
        await net.sign(3, (0, 1, 3))
        giver, taker = net.store(0), net.store(2)
        begins = giver.latest()[0].decided
        taker.adopt(*giver.latest())
        assert taker.state(begins - 2) is None
        for store in (giver, taker):
            store.close()
        await net.start(2)
        # Without one of the others nothing is signed but with it.
        await net.stop(0)
        await net.sign(2, (1, 2, 3))
        figures = [net.keys(me) for me in (1, 2, 3)]
        for me in (1, 2, 3):
            await net.stop(me)
        net.close()
    assert not any(each["evidence"] or each["stopped"] for each in figures)
    epochs = {
        task.epoch for (purpose, _), (task, _) in net.told[2].items() if purpose == CHECKPOINT
    }
    assert {net.chain.tip - 2, net.chain.tip - 1} <= epochs
    own = [row for me, row in net.spent() if me == 2 and row.boot == 2]
    assert own
    check_nonces(net.spent())


async def test_who_signs_what_does_not_hold_is_known_everywhere_and_stops_nothing(tmp_path):
    """spec: TK-45, TK-49"""
    async with trio.open_nursery() as nursery:
        net = KeyedNet(tmp_path, liars=(3,))
        await net.begin(nursery)
        await net.generate()
        for _ in range(10):
            await net.sign(1)
            if all(net.keys(me)["evidence"].get("shares") for me in range(4)):
                break
        # Who is found out is given no more tasks: then one round signs again.
        await net.sign(1)
        await net.end()
    stores = [net.store(me) for me in range(4)]
    ended = stores[0].read(partial(generations, committee=net.committee))
    keys = {each.public.transcript: each.public for each in ended}
    for store in stores:
        found = store.evidence()
        store.close()
        assert found
        assert {(each.kind, each.member) for each in found} == {(Proof.SHARE, 3)}
        for each in found:
            evidence = ShareEvidence.decode(each.blob)
            evidence.verify(keys[evidence.transcript], net.verifier)
    check_nonces(net.spent())


async def test_an_old_copy_of_a_member_signs_nothing(tmp_path):
    """spec: TK-26"""
    async with trio.open_nursery() as nursery:
        net = KeyedNet(tmp_path)
        await net.begin(nursery)
        await net.generate()
        await net.sign(1)
        await net.stop(2)
        file = tmp_path / "2.sqlite"
        old = file.read_bytes()
        await net.start(2)
        known = own_of(net.spent())
        # Chance says who signs: the member has to, in the life that its copy knows nothing of.
        for _ in range(20):
            await net.sign(1)
            if own_of(net.spent()) > known:
                break
        await net.stop(2)
        spent = own_of(net.spent())
        assert spent > known
        lived = file.rename(tmp_path / "lived")
        file.write_bytes(old)
        await net.start(2)
        await wait_until(lambda: net.nodes[2].status()["halted"])
        await net.sign(2, (0, 1, 3))
        figures = net.keys(2)
        await net.end()
    assert "older copy" in figures["stopped"]
    # What it told others of this boot's nonces, it told of other nonces than in its other life.
    file.rename(tmp_path / "copied")
    lived.rename(file)
    assert spent <= own_of(net.spent())
    copied = net.store(2, tmp_path / "copied")
    assert set(copied.spent()) < spent
    copied.close()
    check_nonces(net.spent())


def own_of(spent):
    """What member 2 has spent."""
    return {row for me, row in spent if me == 2}


def check_signatures(net, figures):
    """All members have the same signatures, which hold; and all have said by which keys."""
    asked = {place: task for place, (task, _) in net.told[0].items()}
    assert {purpose for purpose, _ in asked} == {CHECKPOINT, TREASURY}
    store = net.store(0)
    ended = store.read(partial(generations, committee=net.committee))
    said = [
        KeySaid.decode(entry.payload)
        for member in range(4)
        for entry in store.entries_of(member, 0, store.end(member), [Kind.KEY_SAID])
    ]
    store.close()
    keys = {each.purpose: each.public for each in ended}
    assert len(said) == 2 * 5
    assert set(said) == {
        KeySaid(purpose, key.internal_key, key.transcript) for purpose, key in keys.items()
    }
    assert keys[CHECKPOINT].internal_key.hex() == figures[0]["checkpoint"]["public_key"]
    for told in net.told:
        assert {place: task for place, (task, _) in told.items()} == asked
        for (purpose, _), (task, signature) in told.items():
            keys[purpose].verify(task.message, signature, task.merkle_root)

"""What a member's store keeps of keys."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
from federation_keys import committee_of, identities
from federation_rig import Rig

from radpool_sv2.errors import StoreError
from radpool_sv2.federation.agreement.mark import Cut
from radpool_sv2.federation.broadcast.entry import START
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.effect import FOREVER, Append
from radpool_sv2.federation.identity import Bip340Verifier
from radpool_sv2.federation.keys import table
from radpool_sv2.federation.keys.keyring import PROOFS_KEPT_MAX, Keyring, ReadEpoch
from radpool_sv2.federation.keys.table import (
    KeptBoot,
    KeptEvidence,
    KeptFailure,
    KeptShare,
    KeptSignature,
    KeptSpent,
    Proof,
)
from radpool_sv2.federation.record import Grown, Started
from radpool_sv2.federation.signing.message import Ask
from radpool_sv2.federation.signing.purpose import Task
from radpool_sv2.federation.state.digest import DigestState
from radpool_sv2.federation.statement import StateRoot
from radpool_sv2.federation.store import FederationStore

KEY = b"\x11" * 32
SPENT = KeptSpent(KEY, b"\x22" * 82, 1, 0, b"\x33" * 32)


@pytest.fixture
def store(tmp_path):
    rig = Rig()
    store = FederationStore(tmp_path / "store", rig.committee, rig.signers[rig.me].public)
    yield store
    store.close()


@pytest.fixture
def member(tmp_path):
    """A member that has a store, and one generation of keys or another."""
    keys = identities(4)
    committee = committee_of(keys)
    store = FederationStore(tmp_path / "store", committee, keys[1].public)

    def ring():
        return Keyring(committee, keys[1], Bip340Verifier(), DigestState(), store)

    yield SimpleNamespace(keys=keys, committee=committee, store=store, ring=ring)
    store.close()


def keep(store, *kept):
    for each in kept:
        store.keep(each)
    if writes := store.take():
        store.commit(writes)
        store.done(writes)


def test_a_nonce_stands_in_the_store_once_or_nothing_goes_on(store):
    """spec: TK-54"""
    keep(store, SPENT, replace(SPENT, slot=1, nonce=b"\x23" * 82))
    assert store.spent() == [SPENT, replace(SPENT, slot=1, nonce=b"\x23" * 82)]
    store.keep(replace(SPENT, session=b"\x44" * 32))
    behind = store.keep(KeptShare(KEY, b"sealed"))
    for _ in range(2):
        with pytest.raises(StoreError):
            store.commit(store.take())
    assert store.durable < behind
    assert store.read(table.shares) == []
    assert len(store.spent()) == 2


def test_boot_counters_go_up(store):
    keep(store, KeptBoot(KEY, 3), KeptBoot(KEY, 2))
    assert store.read(partial(table.boot_of, transcript=KEY)) == 3
    assert store.read(partial(table.boot_of, transcript=bytes(32))) == 0


def test_evidence_is_kept_once_in_the_order_of_time(store):
    first = KeptEvidence(Proof.SHARE, 2, "what", b"\x02")
    second = KeptEvidence(Proof.STATEMENTS, 1, "that", b"\x01")
    keep(store, first, second, first)
    keep(store, first)
    assert store.evidence() == [first, second]


def test_signatures_come_back_as_they_were_made(store):
    tasks = [
        Task(bytes([n]) * 32, n, b"\x05" * 32, None if n % 2 else b"\x06" * 32) for n in (7, 8)
    ]
    keep(store, *(KeptSignature(KEY, task, bytes(64)) for task in (*tasks, tasks[0])))
    read = partial(table.signatures, transcript=KEY)
    assert store.read(read) == [(task, bytes(64)) for task in tasks]
    assert store.read(partial(read, limit=1)) == [(tasks[1], bytes(64))]
    assert store.read(partial(table.signatures, transcript=bytes(32))) == []


def test_a_generation_that_failed_is_known(store):
    keep(store, KeptFailure(1, 9, "nobody came"))
    rig = Rig()
    ended = store.read(partial(table.generations, committee=rig.committee))
    assert ended == [KeptFailure(1, 9, "nobody came")]


def test_entries_are_found_by_kind(store):
    rig = Rig()
    kinds = (Kind.SHARE_BATCH, Kind.KEY_GENERATION, Kind.SHARE_BATCH, Kind.COMMITMENTS)
    entries, place = [], START
    for kind in kinds:
        entries.append(rig.entry(1, place, kind=kind))
        place = place.after(entries[-1])
    store.write(Grown(rig.certificate(rig.echo(entries[-1])), tuple(entries)))
    keep(store)
    wanted = (Kind.KEY_GENERATION, Kind.COMMITMENTS)
    assert store.entries_of(1, 0, 4, wanted) == [entries[1], entries[3]]
    assert store.entries_of(1, 2, 3, wanted) == []
    assert store.entries_of(2, 0, 4, wanted) == []
    # The last ones, in their order.
    assert store.entries_of(1, 0, 4, (Kind.SHARE_BATCH, *wanted), 2) == entries[2:]


def test_who_begins_behind_the_generation_has_no_part_in_the_key(member):
    """spec: TK-56"""
    keys, committee, store = member.keys, member.committee, member.store
    root = StateRoot(committee.id, 2, bytes(32))
    signatures = {each: keys[each].sign(root.digest) for each in range(3)}
    start = Started(3, ())
    ring = member.ring()
    assert ring.status()["checkpoint"]["failure"] == ""
    store.adopt(start, b"state", Certificate.of(root, signatures, committee))
    ring.restore(3, 0)
    assert "history" in ring.status()["checkpoint"]["failure"]
    assert ring.poll() is None
    assert ring.next_read(9, 9) is None
    assert ring.has_counted(9)


def test_who_has_stopped_does_nothing_any_more(member):
    """spec: TK-55"""
    ring = member.ring()
    ring.restore(0, 0)
    assert isinstance(ring.poll(), Append)
    ring.stop("a copy")
    assert ring.poll() is None
    ring.linked(2, 5)
    ring.heard(2, Ask(bytes(32)), 5)
    ring.handle_deadline(9_999)
    assert (ring.poll(), ring.next_deadline(), ring.next_read(9, 9)) == (None, FOREVER, None)
    assert ring.status()["stopped"] == "a copy"


def test_states_stay_until_open_generations_have_counted_behind_them(member):
    """A member that comes back applies epochs faster than it counts them.

    spec: TK-53
    """
    ring = member.ring()
    ring.restore(0, 0)
    assert ring.has_counted(0)
    assert not ring.has_counted(1)
    ring.take(ReadEpoch(Cut(0, ()), []), 0)
    assert ring.has_counted(1)
    assert not ring.has_counted(2)
    ring.stop("a copy")
    assert ring.has_counted(2)


def test_evidence_against_one_member_fills_no_disk(member):
    store = member.store
    for _ in range(2):
        ring = member.ring()
        ring.restore(0, 0)
        for number in range(200):
            ring.prove(KeptEvidence(Proof.SHARE, 2, "what", b"%d" % number))
        ring.prove(KeptEvidence(Proof.SHARE, 3, "what", b""))
        while (effect := ring.poll()) is not None:
            if isinstance(effect, KeptEvidence):
                store.keep(effect)
        keep(store)
        assert len(store.evidence()) == PROOFS_KEPT_MAX + 1
        assert ring.status()["evidence"] == {"shares": PROOFS_KEPT_MAX + 1}

"""A federation's public log: outsiders compute the same roots, and find what is not true."""

import json
import re
from dataclasses import replace
from random import Random

import pytest
from coincurve import PrivateKey
from state_rig import KEYS
from test_federation_books import Mining, ledgers, steady

from radpool_sv2.cli.verify_federation import federation
from radpool_sv2.errors import ConfigError, FaultyMSPError, LocalProtocolError
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.state.audit import audit
from radpool_sv2.federation.state.log import publish
from radpool_sv2.federation.state.registration import SignedRegistration, encode_registrations
from radpool_sv2.testing.simulator import World
from radpool_sv2.units import tagged_hash
from radpool_sv2.verify.federation import verify_federation


def registration(member, number):
    miner = PrivateKey(bytes(30) + bytes([member + 1, number]))
    unsigned = SignedRegistration(
        KEYS[member].public,
        miner.public_key_xonly.format(),
        bytes([number]) * 32,
        1,
        number,
        b"",
        b"",
    )
    signed = tagged_hash("radpool/owner-registration", unsigned.statement())
    return replace(
        unsigned,
        msp_signature=KEYS[member].sign(signed),
        miner_signature=miner.sign_schnorr(signed),
    )


OWNERS = {
    0: [[registration(0, 1), registration(0, 2)], [registration(0, 3)], [registration(0, 1)]],
    1: [[registration(1, 1)]],
    3: [[registration(3, 1)], [replace(registration(3, 2), epoch=2)]],
}
"""What members say of owners: the last of member 3 has a false signature."""


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Publishes the log of a world in which a member cheats, signed by BIP340."""
    plan = steady(12)
    plan.byzantine, plan.is_bip340 = {2: ()}, True
    plan.calm_ms = 5_000
    plan.blocks_ms = (1_000, 2_000, 3_000, 4_000, 6_500)
    office = Mining()
    for member, rows in OWNERS.items():
        for row in rows:
            office.streams[member].add(Kind.REGISTRATION, encode_registrations(row))
    world = World(plan, office=office)
    world.run()
    node = world.nodes[0]
    states = [node.states[epoch] for epoch in sorted(node.states)]
    directory = tmp_path_factory.mktemp("log")
    publish(directory, world.committee, office.function.rules, node.store, states)
    return directory, ledgers(world, office, 0)


@pytest.fixture
def log(published, tmp_path):
    """Copies the log, to be altered."""
    directory = tmp_path / "log"
    for file in published[0].rglob("*.bin"):
        to = directory / file.relative_to(published[0])
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(file.read_bytes())
    return directory


def test_an_outsider_computes_the_same_books(published):
    """spec: CS-19, CS-20"""
    directory, books = published
    seen = []
    report = verify_federation(directory, progress=lambda done, all_: seen.append((done, all_)))
    assert report.root == books[-1].root()
    assert report.epochs == len(books) == len(seen) >= 4
    assert (report.members, report.quorum) == (4, 3)
    assert dict(enumerate(report.weights)) == books[-1].weights()
    verdicts = [(each.member, each.seq, each.code) for ledger in books for each in ledger.verdicts]
    assert sorted(report.void) == sorted(verdicts)
    assert {member for member, _, _ in verdicts} == {2}
    assert report.recomputed == report.shares > 50
    blocks = {name: block for ledger in books for name, block in ledger.blocks.items()}
    assert {each.block: (each.height, each.value) for each in report.blocks} == {
        name: (block.height, block.value) for name, block in blocks.items()
    }
    assert any(each.is_mature and each.parts and each.fee for each in report.blocks)
    assert report.unfound(1) == 0


def test_an_outsider_is_told_how_many_owners_there_are_and_which_are_false(published, capsys):
    """spec: OR-16"""
    directory, _ = published
    report = verify_federation(directory)
    assert report.owners == (3, 1, 0, 1)
    assert [(member, fault) for member, _, fault in report.false_owners] == [(3, 3)]
    native = audit(directory)
    assert (native.owners, tuple(native.false_owners)) == (report.owners, report.false_owners)
    federation(directory)
    words = capsys.readouterr().out
    assert "member 0: 3 owners, signed by both sides" in words
    assert "member 1: 1 owner, signed" in words
    assert "member 2: 0 owners" not in words
    assert re.search(r"member 3: the owners in entry \d+ are false: a signature is not", words)


@pytest.mark.parametrize("per_mille", [1, 300, 900])
def test_a_sample_gives_the_same_root_and_says_how_sure_it_is(published, per_mille):
    """spec: CS-21"""
    directory, books = published
    report = verify_federation(directory, per_mille, random=Random(1))
    assert report.root == books[-1].root()
    assert report.recomputed < report.shares
    assert 0 < report.unfound(10) <= 1


def test_the_command_says_it_in_words_and_in_json(published, capsys):
    """spec: CS-21"""
    directory, books = published
    federation(directory)
    words = capsys.readouterr().out
    assert f"{len(books)} epochs: every cut, root and sum is what 3 members signed" in words
    assert books[-1].root().hex() in words
    assert "unnoticed" not in words
    paid = re.findall(
        r"^block (\w{64}) at height (\d+) pays (\d+) sats: (.*)$", words, re.MULTILINE
    )
    assert {bytes.fromhex(each[0])[::-1] for each in paid} == set(books[-1].blocks)
    for _, _, sats, rest in paid:
        assert int(sats) == sum(map(int, re.findall(r"gets (\d+)", rest))) + int(
            re.findall(r"(\d+) are the fee", rest)[0]
        )
    federation(directory, sample_per_mille=500)
    assert "unnoticed" in capsys.readouterr().out
    federation(directory, json_output=True)
    fields = json.loads(capsys.readouterr().out)
    assert fields["verified"] is True
    assert fields["root"] == books[-1].root().hex()
    assert fields["recomputed"] == fields["shares"]
    for block in fields["blocks"]:
        parts = sum(sats for _, sats, _ in block["parts"])
        assert parts + block["fee_sats"] == block["sats"]


def test_the_members_own_program_says_the_same(published, capsys):
    """spec: CS-19, CS-20"""
    directory, _ = published
    federation(directory, json_output=True)
    independent = json.loads(capsys.readouterr().out)
    federation(directory, native=True, json_output=True)
    members = json.loads(capsys.readouterr().out)
    assert (independent.pop("program"), members.pop("program")) == ("independent", "members")
    # The one counts batches that can be read, the other those that hold what they claim.
    for name in ("batches", "shares", "recomputed"):
        assert 0 < members.pop(name) <= independent.pop(name)
    assert members == independent
    federation(directory, native=True)
    assert "its own mistakes it does not find" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="all shares"):
        federation(directory, native=True, sample_per_mille=500)


def alterations(log, random):
    """Alters a bit in one file of a log after the other; yields each with what it had before."""
    files = [log / "committee.bin", log / "rules.bin", *sorted((log / "epochs").iterdir())]
    for file in files + random.sample(sorted((log / "streams").rglob("*.bin")), 8):
        good = file.read_bytes()
        at = random.randrange(len(good))
        # A sender's signature of its entry proves nothing that a certificate does not.
        if "streams" in file.parts and 79 <= at < 143:
            at = 78
        file.write_bytes(good[:at] + bytes([good[at] ^ 1 << random.randrange(8)]) + good[at + 1 :])
        yield file, good


def test_the_members_own_program_finds_whatever_is_altered(log):
    """spec: CS-20"""
    for file, good in alterations(log, Random(6)):
        with pytest.raises(FaultyMSPError):
            audit(log)
        if "streams" in file.parts:
            file.unlink()
            with pytest.raises(LocalProtocolError, match="is missing"):
                audit(log)
        file.write_bytes(good)
    assert audit(log, threads=1).epochs >= 4


@pytest.mark.parametrize("count", [audit, verify_federation])
def test_rules_with_a_key_that_is_none_are_refused(log, count):
    """spec: CS-20"""
    rules = log / "rules.bin"
    good = rules.read_bytes()
    rules.write_bytes(good[:2] + b"\xff" * 32 + good[34:])
    with pytest.raises(FaultyMSPError):
        count(log)


@pytest.mark.parametrize("per_mille", [1_000, 500])
def test_whatever_is_altered_is_found(log, per_mille):
    """spec: CS-20, CS-21"""
    for file, good in alterations(log, Random(2)):
        with pytest.raises(FaultyMSPError):
            verify_federation(log, per_mille, random=Random(3))
        file.write_bytes(good)
    verify_federation(log, per_mille, random=Random(3))


def test_served_fingerprints_must_be_those_that_were_signed(log):
    """spec: CS-21"""
    file = min((log / "books").iterdir())
    good = file.read_bytes()
    refused = 0
    for at in range(100, len(good), len(good) // 12):
        file.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        try:
            verify_federation(log, 1, random=Random(4))
        except FaultyMSPError:
            refused += 1
    assert refused > 0


def test_files_that_are_missing_or_too_many_are_told(log):
    """spec: CS-19"""
    (log / "extra.bin").write_bytes(b"")
    with pytest.raises(FaultyMSPError, match="not part"):
        verify_federation(log)
    (log / "extra.bin").unlink()
    first = min((log / "epochs").iterdir())
    data = first.read_bytes()
    first.unlink()
    with pytest.raises(FaultyMSPError, match="should come"):
        verify_federation(log)
    first.write_bytes(data)
    (log / "streams" / "001" / "0000000000.bin").unlink()
    with pytest.raises(LocalProtocolError, match="missing"):
        verify_federation(log)
    with pytest.raises(LocalProtocolError):
        verify_federation(log / "nowhere")
    with pytest.raises(LocalProtocolError, match="sample"):
        verify_federation(log, 0)

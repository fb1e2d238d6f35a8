"""What an operator asks of a member's store: evidence, payouts, words about keys."""

import json

import pytest
from test_federation_signing import CHECKPOINTS, TREASURIES, _evidence

from radpool_sv2._native.threshold import TREASURY, IdentityKey
from radpool_sv2.chain.transaction import Transaction
from radpool_sv2.cli.federation_books import evidence as command
from radpool_sv2.cli.federation_books import sign
from radpool_sv2.cli.federation_keys import keys_in_words
from radpool_sv2.config import load
from radpool_sv2.config.federation import FederationConfig
from radpool_sv2.errors import ConfigError, StoreError
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.evidence import Evidence
from radpool_sv2.federation.installation import (
    CONFIG_NAME,
    Convention,
    install_member,
    read_record,
)
from radpool_sv2.federation.keys.keyring import proof_of_statements
from radpool_sv2.federation.keys.table import KeptEvidence, KeptKey, KeptSignature, Proof
from radpool_sv2.federation.operation import finished_payouts, guilt, reading, verify_evidence
from radpool_sv2.federation.record import Started
from radpool_sv2.federation.role import STORE_NAME, identity_of
from radpool_sv2.federation.signing.purpose import Task
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.state.ledger import Block, KnownKey, Stake, output_of_key
from radpool_sv2.federation.state.spends import payout_of
from radpool_sv2.federation.statement import Echo, Header, Phase, Proposal, StateRoot, Vote
from radpool_sv2.federation.store import FederationStore

HASH = bytes(32)
OTHER = b"\1" * 32


class Federation:
    """Four members' directories, and one committee in the first."""

    def __init__(self, tmp_path):
        made = [install_member(tmp_path / f"{each}", ()) for each in range(4)]
        self.directory = made[0].directory
        self.settings = load(FederationConfig, self.directory / CONFIG_NAME)
        self.convention = Convention.of(
            [read_record(each.record) for each in made], chain=HASH, height_first=1
        )
        self.file = self.settings.member.committee_file
        self.convention.write(self.file)
        self.committee = self.convention.committee
        keys = [
            IdentityKey.from_secret(
                bytes.fromhex((each.directory / "keys" / "identity.key").read_text().strip())
            )
            for each in made
        ]
        self.keys = sorted(keys, key=lambda key: key.public)

    def evidence(self, offender, first, second):
        key = self.keys[offender]
        return Evidence(offender, first, key.sign(first.digest), second, key.sign(second.digest))

    def store(self):
        member = identity_of(self.settings).public
        return FederationStore(self.settings.node.data_dir / STORE_NAME, self.committee, member)

    def keep(self, *kept):
        store = self.store()
        for each in kept:
            store.keep(each)
        writes = store.take()
        if writes:
            store.commit(writes)
            store.done(writes)
        store.close()


@pytest.fixture
def federation(tmp_path):
    return Federation(tmp_path)


def test_each_guilt_is_said_in_words(federation):
    """spec: FB-23"""
    of = federation.committee.id
    for first, second, words in (
        (
            Header(of, 2, 7, HASH, 1, 0, HASH),
            Header(of, 2, 7, HASH, 1, 0, OTHER),
            "has written two different entries 7 into its stream",
        ),
        (Echo(of, 1, 7, HASH, HASH), Echo(of, 1, 7, HASH, OTHER), "entries 7 of member 1"),
        (Proposal(of, 5, 2, None, HASH), Proposal(of, 5, 2, None, OTHER), "two different cuts"),
        (Vote(of, 5, 2, Phase.NOTARISE, OTHER), Vote(of, 5, 2, Phase.NOTARISE, of), "two cuts"),
        (Vote(of, 5, 2, Phase.SKIP, HASH), Vote(of, 5, 2, Phase.FINALISE, of), "to skip and"),
        (StateRoot(of, 5, HASH), StateRoot(of, 5, OTHER), "two different states behind epoch 5"),
    ):
        proof = federation.evidence(2, first, second)
        member, what = verify_evidence(proof.encode(), federation.committee)
        assert (member, what) == (2, guilt(first))
        assert words in what


def test_evidence_is_checked_with_nothing_but_the_committee(federation, tmp_path, capsys):
    """spec: FB-23"""
    of = federation.committee.id
    proof = federation.evidence(1, StateRoot(of, 3, HASH), StateRoot(of, 3, OTHER)).encode()
    command(proof.hex(), committee=federation.file)
    told = capsys.readouterr().out
    assert "It is proven: member 1" in told
    assert federation.committee.members[1].hex() in told
    file = tmp_path / "evidence.txt"
    file.write_text(proof.hex() + "\n")
    command(str(file), committee=federation.file, json_line=True)
    assert json.loads(capsys.readouterr().out) == {
        "proven": True,
        "member": 1,
        "identity": federation.committee.members[1].hex(),
        "what": "has signed two different states behind epoch 3",
    }
    wrong = {
        proof[:-1] + bytes([proof[-1] ^ 1]): "does not convince",
        federation.evidence(1, StateRoot(of, 3, HASH), StateRoot(of, 4, OTHER)).encode(): "may",
        federation.evidence(1, StateRoot(OTHER, 3, HASH), StateRoot(OTHER, 3, OTHER)).encode(): (
            "another committee"
        ),
        proof[:-1]: "is no evidence",
        b"": "is no evidence",
    }
    for data, words in wrong.items():
        with pytest.raises(ConfigError, match=words):
            command(data.hex(), committee=federation.file)
    with pytest.raises(ConfigError, match="no hex digits and no file"):
        command("nothing", committee=federation.file)
    file.write_bytes(b"0" * (1 << 16) + b"00")
    with pytest.raises(ConfigError, match="too long"):
        command(str(file), committee=federation.file)
    file.write_bytes(b"evidence")
    with pytest.raises(ConfigError, match="holds no hex"):
        command(str(file), committee=federation.file)
    with pytest.raises(ConfigError, match="give --dir"):
        command(committee=federation.file)


def test_a_share_convinces_whoever_has_the_key():
    """spec: TK-44"""
    log, keys = CHECKPOINTS
    evidence = _evidence(log, keys)
    public = keys[0].public
    member, what = verify_evidence(evidence.encode(), log.committee, (public,))
    assert member == log.committee.number_of(log.keys[3].public)
    assert "does not hold" in what
    with pytest.raises(ConfigError, match="whoever has that key"):
        verify_evidence(evidence.encode(), log.committee)
    honest = _evidence(log, keys, honest=True).encode()
    with pytest.raises(ConfigError, match="does not convince"):
        verify_evidence(honest, log.committee, (public,))


def test_a_member_lists_what_it_has(federation, capsys):
    with pytest.raises(StoreError, match="never run"):
        command(dir=federation.directory)
    federation.keep()
    command(dir=federation.directory)
    assert "No member is proven" in capsys.readouterr().out
    of = federation.committee.id
    proof = federation.evidence(3, StateRoot(of, 3, HASH), StateRoot(of, 3, OTHER))
    silent = KeptEvidence(Proof.GENERATION, 2, "did not send its round 2 in attempt 1", b"")
    federation.keep(proof_of_statements(proof), silent)
    command(dir=federation.directory)
    told = capsys.readouterr().out
    assert "has signed two different states behind epoch 3" in told
    assert proof.encode().hex() in told
    assert "attempt 1\n  proven by the streams" in told
    command(dir=federation.directory, json_line=True)
    listed = json.loads(capsys.readouterr().out)["evidence"]
    assert [(each["member"], each["proof"]) for each in listed] == [
        (3, "statements"),
        (2, "generation"),
    ]
    # Each can be given to anybody.
    command(listed[0]["evidence"], committee=federation.file)
    command(listed[0]["evidence"], dir=federation.directory)
    assert capsys.readouterr().out.count("It is proven") == 2


def test_what_is_signed_is_shown_without_a_member_that_runs(federation, capsys):
    _, keys = CHECKPOINTS
    key = KeptKey(keys[0].public.run.purpose, 5, keys[0].public, (0, 1, 2, 3), Started(0, ()))
    federation.keep(key)
    with reading(federation.settings, federation.convention) as store:
        assert finished_payouts(store, federation.convention) == []
    sign(dir=federation.directory)
    told = capsys.readouterr().out
    assert "nothing is being signed" in told
    assert "No payout is finished" in told
    sign(dir=federation.directory, json_line=True)
    assert json.loads(capsys.readouterr().out) == {"keys": {}, "descriptors": [], "payouts": []}


def test_finished_payouts_are_shown_as_the_network_takes_them(federation, capsys):
    """spec: SO-8, SO-9"""
    convention, public = federation.convention, TREASURIES[1][0].public
    key = public.internal_key
    ledger = Accounting(convention.rules).start()
    ledger.keys[TREASURY] = KnownKey(key, public.transcript, 0)
    stakes = tuple(Stake(each, each + 1, b"\x00\x14" + bytes([each]) * 20) for each in range(4))
    for name, matured in ((OTHER, 3), (b"\2" * 32, 3), (b"\3" * 32, -1)):
        ledger.blocks[name] = Block(9, name, 1, 5_000_000_000, key, 0, stakes, matured)
    payout = payout_of(convention.rules, OTHER, ledger.blocks[OTHER])
    task = Task(HASH, 4, payout.sighash, payout.merkle_root)
    federation.keep(
        KeptKey(TREASURY, 1, public, (0, 1, 2, 3), Started(0, ())),
        KeptSignature(public.transcript, task, b"\7" * 64),
    )
    root = StateRoot(federation.committee.id, 4, HASH)
    signed = {each: federation.keys[each].sign(root.digest) for each in range(3)}
    store = federation.store()
    store.adopt(Started(5, ()), ledger.encode(), Certificate.of(root, signed, federation.committee))
    store.close()

    sign(dir=federation.directory, json_line=True)
    told = json.loads(capsys.readouterr().out)
    assert told["descriptors"] == [output_of_key(convention.rules, key).descriptor]
    assert key.hex() in told["descriptors"][0]
    [shown] = told["payouts"]
    raw = bytes.fromhex(shown.pop("transaction"))
    assert shown == {
        "block": OTHER.hex(),
        "txid": payout.txid[::-1].hex(),
        "sats": 5_000_000_000,
        "published": "",
    }
    transaction = Transaction.from_bytes(raw)
    assert transaction.txid == payout.txid
    assert transaction.inputs[0].witness == (b"\7" * 64,)
    assert len(transaction.outputs) == 4
    sign(dir=federation.directory)
    assert f"payout {payout.txid[::-1].hex()} of block" in capsys.readouterr().out


def test_keys_are_said_in_words():
    generated = {
        "generated": True,
        "failure": "",
        "public_key": "ab",
        "threshold": 3,
        "members": [0, 1, 2, 3],
        "signatures": 7,
        "open_tasks": 2,
        "unspent_nonces": 4,
        "has_share": False,
        "tasks": [
            {"epoch": 9, "message": "cd", "missing": [1, 3]},
            {"epoch": 9, "message": "ef", "missing": []},
        ],
    }
    waiting = {"generated": False, "failure": ""}
    lines = keys_in_words({"checkpoint": generated, "treasury": waiting, "evidence": {}})
    assert lines == [
        "checkpoint key ab: 3 of 4 sign; 7 signatures, 2 wait, 4 own nonces are ready",
        "  this member has no share of it: it cannot sign with it",
        "  epoch 9, cd: waits for members 1, 3",
        "  epoch 9, ef: waits for coordinators to gather signers",
        "treasury key: is being generated",
    ]
    assert keys_in_words({}) == []

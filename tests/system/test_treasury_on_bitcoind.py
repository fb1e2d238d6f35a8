"""What a block pays the syndicate is spent on a real chain: by its threshold, and without it."""

from collections import deque
from dataclasses import replace
from hashlib import sha256

import pytest
from coincurve import PrivateKey
from federation_keys import Log
from rig.bitcoind import RpcFailure

from radpool_sv2._native.threshold import TREASURY
from radpool_sv2.chain.block import Block
from radpool_sv2.chain.taproot import signature_hash
from radpool_sv2.chain.transaction import Transaction, TxInput, TxOutput
from radpool_sv2.federation.broadcast.entry import Entry
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.certificate import Certificate
from radpool_sv2.federation.codec import Tag, u16
from radpool_sv2.federation.effect import Append, LinkUp
from radpool_sv2.federation.identity import Bip340Verifier
from radpool_sv2.federation.record import Started
from radpool_sv2.federation.signing.evidence import SignedShare
from radpool_sv2.federation.signing.message import Share
from radpool_sv2.federation.signing.purpose import Certified, Spend, tasks_of
from radpool_sv2.federation.signing.signing import (
    Accuse,
    CertifiedEpoch,
    Heard,
    Say,
    Signed,
    Signing,
    SigningLimits,
)
from radpool_sv2.federation.statement import StateRoot
from radpool_sv2.federation.treasury.output import RecoverySet, SyndicateOutput
from radpool_sv2.federation.treasury.payout import fee_of, payout_transaction
from radpool_sv2.testing.fold import Fold

RECOVERY = (3, 6)
MATURITY = 100
SECRETS = [PrivateKey(sha256(b"recovery %d" % number).digest()) for number in range(7)]
KEYS = tuple(secret.public_key.format()[1:] for secret in SECRETS)


class Signers:
    """Members with a key that sign what a state wants; links deliver at once."""

    def __init__(self, log, spends):
        self.log, self.spends = log, spends
        self.keys = log.generated()
        self.now, self.wire, self.waiting = 0, deque(), []
        self.quiet, self.lying = set(), set()
        self.signed, self.accused = {}, set()
        self.machines = [self.machine(member) for member in range(log.n)]
        for member, machine in enumerate(self.machines):
            machine.restore([], {}, 0)
            for peer in range(log.n):
                if peer != member:
                    machine.handle(LinkUp(peer), 0)
        self.settle()

    def machine(self, member):
        return Signing(
            self.keys[member],
            member,
            self.log.keys[member],
            Bip340Verifier(),
            self.spends,
            boot=0,
            limits=SigningLimits(window=4, patience_ms=1_000, again_ms=500),
        )

    @property
    def public(self):
        return self.keys[0].public

    def certified(self):
        """The one epoch that is certified, by a quorum of the members."""
        committee, start = self.log.committee, Started(1, ())
        root = StateRoot(committee.id, 0, start.root(Fold().root(b"state")))
        by = {each: self.log.keys[each].sign(root.digest) for each in range(committee.quorum)}
        certificate = Certificate.of(root, by, committee)
        return Certified.verify(committee, Bip340Verifier(), Fold(), certificate, start, b"state")

    def order(self):
        """Members in the order in which they are asked for the first task."""
        [task] = tasks_of(self.certified(), self.public, self.spends)
        tag = Tag("radpool/signing-order")
        return sorted(range(self.log.n), key=lambda each: tag.hash(task.id, b"signer", u16(each)))

    def certify(self):
        for member in range(self.log.n):
            self.append(member, Kind.SHARE_BATCH, b"")
        event = CertifiedEpoch(self.waiting, self.certified())
        for machine in self.machines:
            machine.handle(event, self.now)
        self.settle()

    def append(self, member, kind, payload):
        log = self.log
        entry = Entry.sign(
            log.committee, member, log.keys[member], log.tips[member], (kind, payload)
        )
        self.waiting.append(entry)

    def settle(self):
        going = True
        while going:
            going = bool(self.wire)
            while self.wire:
                author, to, message = self.wire.popleft()
                self.machines[to].handle(Heard(author, message), self.now)
            for member, machine in enumerate(self.machines):
                while (effect := machine.poll()) is not None:
                    going = True
                    self.perform(member, effect)

    def perform(self, member, effect):
        match effect:
            case Append(kind, payload):
                self.append(member, kind, payload)
            case Say(to, message) if member not in self.quiet:
                if member in self.lying and isinstance(message, Share):
                    message = self.spoilt(member, message)
                self.wire.append((member, to, message))
            case Signed(_, signature):
                self.signed[member] = signature
            case Accuse(offender, _):
                self.accused.add(offender)

    def spoilt(self, member, message):
        share = bytearray(message.signed.share)
        share[-1] ^= 1
        return replace(message, signed=SignedShare.sign(self.log.keys[member], bytes(share)))

    def sign(self, honest):
        """Goes on until each of the honest members has a signature; returns it."""
        self.certify()
        for _ in range(1_000):
            if honest <= self.signed.keys():
                [signature] = {self.signed[member] for member in honest}
                return signature
            self.now = max(self.now, min(each.next_deadline() for each in self.machines))
            for machine in self.machines:
                machine.handle_deadline(self.now)
            self.settle()
        raise AssertionError(f"signed by {sorted(self.signed)} only, at {self.now} ms")


def coinbase_to(node, script):
    """Mines a block that pays a script; returns txid, output and amount."""
    [shown] = node.rpc("generatetodescriptor", 1, f"raw({script.hex()})")
    coinbase = Block.from_bytes(bytes.fromhex(node.rpc("getblock", shown, 0))).transactions[0]
    [vout] = [number for number, each in enumerate(coinbase.outputs) if each.script == script]
    return coinbase.txid, vout, coinbase.outputs[vout].value_sats


@pytest.mark.parametrize(("n", "silent", "lying"), [(4, 1, 0), (4, 0, 1), (16, 1, 1)])
def test_a_threshold_pays_out_what_a_block_paid_the_syndicate(bitcoinds, n, silent, lying):
    """spec: SO-1, SO-9, SO-10"""
    node = bitcoinds(blocks=0)
    log = Log(n=n, purpose=TREASURY)
    log.decide()
    committee = log.committee
    assert committee.quorum == {4: 3, 16: 11}[n]
    output = SyndicateOutput.of(
        log.generated()[0].public.internal_key, committee.members, committee.faulty_max, RECOVERY
    )
    point = coinbase_to(node, output.script)
    scripts = [b"\x51\x20" + key for key in committee.members]
    fee = fee_of(scripts, 5)
    each = (point[2] - fee) // n
    parts = [(script, each) for script in scripts[1:]]
    parts.insert(0, (scripts[0], point[2] - fee - each * (n - 1)))
    payout = payout_transaction(*point, output, parts)

    members = Signers(log, lambda *_: [Spend(payout.sighash, payout.merkle_root)])
    assert members.public.output_key(payout.merkle_root) == output.output_key
    first, second = members.order()[:2]
    members.lying = {first} if lying else set()
    members.quiet = ({second} if lying else {first}) if silent else set()
    signature = members.sign(set(range(n)) - members.lying - members.quiet)
    assert members.accused == members.lying
    members.public.verify(payout.sighash, signature, payout.merkle_root)

    raw = payout.signed(signature).hex()
    with pytest.raises(RpcFailure, match="premature-spend-of-coinbase"):
        node.rpc("sendrawtransaction", raw)
    node.mine(MATURITY - 1)
    txid = node.rpc("sendrawtransaction", raw)
    assert bytes.fromhex(txid)[::-1] == payout.txid
    assert node.rpc("getmempoolentry", txid)["vsize"] * 5 == fee
    [shown] = node.mine()
    assert txid in node.rpc("getblock", shown)["tx"]
    paid = {
        each["scriptPubKey"]["hex"]: round(each["value"] * 100_000_000)
        for each in node.rpc("getrawtransaction", txid, 2, shown)["vout"]
    }
    assert paid == {script.hex(): sats for script, sats in parts}


def recovery_of(point, output, leaf, signers, blocks=None):
    """A transaction that spends by a script, signed by some keys; it pays one output on."""
    txid, vout, sats = point
    spends = TxInput((txid, vout), b"", blocks or leaf.blocks)
    transaction = Transaction(2, (spends,), (TxOutput(sats - 2_000, output.script),), 0)
    message = signature_hash(transaction, [TxOutput(sats, output.script)], 0, leaf.leaf)
    signatures = {KEYS[each]: SECRETS[each].sign_schnorr(message) for each in signers}
    witness = output.recovery_witness(leaf, signatures)
    return replace(transaction, inputs=(replace(spends, witness=witness),)).to_bytes().hex()


def test_members_recover_after_a_time_and_the_recovery_set_after_a_longer_one(bitcoinds):
    """spec: SO-2, SO-3, SO-12"""
    node = bitcoinds(blocks=0)
    output = SyndicateOutput.of(KEYS[6], KEYS[:4], 1, RECOVERY, RecoverySet(1, KEYS[4:6]))
    members, others = output.leaves
    # A wallet finds the same output by its descriptor.
    told = node.rpc("getdescriptorinfo", output.descriptor)
    [address] = node.rpc("deriveaddresses", told["descriptor"])
    assert node.rpc("validateaddress", address)["scriptPubKey"] == output.script.hex()

    points = [coinbase_to(node, output.script) for _ in range(2)]
    node.mine(MATURITY)
    # One confirmation each: the coinbases alone would have waited for longer than the scripts.
    fresh = []
    for point in points:
        raw = recovery_of(point, output, members, (1, 3))
        fresh.append(Transaction.from_bytes(bytes.fromhex(raw)))
        node.rpc("sendrawtransaction", raw)
    node.mine()
    points = [(each.txid, 0, each.outputs[0].value_sats) for each in fresh]

    by_members = recovery_of(points[0], output, members, (0, 2))
    by_others = recovery_of(points[1], output, others, (5,))
    node.mine(members.blocks - 2)
    with pytest.raises(RpcFailure, match="non-BIP68-final"):
        node.rpc("sendrawtransaction", by_members)
    early = recovery_of(points[0], output, members, (0, 2), blocks=1)
    with pytest.raises(RpcFailure, match="Locktime requirement not satisfied"):
        node.rpc("sendrawtransaction", early)
    node.mine()
    for forged in (spoilt_signature(by_members), one_signature_less(by_members)):
        with pytest.raises(RpcFailure, match=r"Invalid Schnorr signature|OP_NUMEQUALVERIFY"):
            node.rpc("sendrawtransaction", forged)
    txid = node.rpc("sendrawtransaction", by_members)
    [shown] = node.mine()
    assert txid in node.rpc("getblock", shown)["tx"]

    node.mine(others.blocks - members.blocks - 2)
    with pytest.raises(RpcFailure, match="non-BIP68-final"):
        node.rpc("sendrawtransaction", by_others)
    node.mine()
    txid = node.rpc("sendrawtransaction", by_others)
    [shown] = node.mine()
    assert txid in node.rpc("getblock", shown)["tx"]


def changed(raw, change):
    transaction = Transaction.from_bytes(bytes.fromhex(raw))
    [spends] = transaction.inputs
    witness = tuple(change(item) for item in spends.witness)
    return replace(transaction, inputs=(replace(spends, witness=witness),)).to_bytes().hex()


def spoilt_signature(raw):
    return changed(raw, lambda item: item[:-1] + bytes([item[-1] ^ 1]) if len(item) == 64 else item)


def one_signature_less(raw):
    left = iter((b"",))
    return changed(raw, lambda item: next(left, item) if len(item) == 64 else item)

"""Runs a member as a process that has shares to count until it is told to rest, or is killed.

    python federation_process.py HOME MEMBER PORT...      the ports of its ways to the others

HOME holds the store. Beside it, in the directory above, `tip` is the height of everybody's chain,
and members rest while there is a file `rest`; one does while there is one in its HOME, and one that
finds `keyless` there at its start has no keys and says nothing of them. To HOME it writes

    status.json     its port and figures
    acknowledged    each own batch once it is certified: digest of the payload, number of shares
    said            each statement that it signed, before it leaves: kind, slot, digest

What it cannot write, for want of a disk, it keeps and writes later, as it does with all it says.
"""

import json
import os
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio
from federation_net import SMALL, Net, Proxy, is_quiet, rules_of
from shares import NO_BATCH, Key, Owner, Share, Template, seal, sha256d

from radpool_sv2._native.ledger import verify_batch
from radpool_sv2.federation.broadcast.payload import Kind, payload_digest
from radpool_sv2.federation.keys.keyring import Keyring
from radpool_sv2.federation.messages import Propose, Said, SentEntry, decode_message
from radpool_sv2.federation.node import FederationNode
from radpool_sv2.federation.signing.message import is_signing
from radpool_sv2.federation.signing.purpose import Spend
from radpool_sv2.federation.signing.signing import SigningLimits
from radpool_sv2.federation.state.accounting import Accounting, body_digest
from radpool_sv2.federation.state.ledger import syndicate_script
from radpool_sv2.federation.state.payload import Tip, decode_bodies, encode_bodies
from radpool_sv2.log import configure_logging

NBITS = 0x207FFFFF
TARGET = 0x7FFFFF << 232
PRICE = (5_000_000_000 << 32) // 2
"""What a template of 50 bitcoin is worth where blocks take two hashes."""

TIPS_AHEAD = 8
"""This chain is known before it is there. So members can say early what builds on which block, and
no share is stale because others were late with that: all have to count."""

BATCHES = 12
"""So many batches has a member on each block: a slow machine has more time, and no more to do."""


class FileChain:
    def __init__(self, net):
        self.net = net

    async def height(self):
        return int((self.net.directory / "tip").read_text())

    async def block_hash(self, height):
        return await self.net.chain.block_hash(height)


class Lines:
    """Is a file that grows by lines; those that do not fit on the disk wait for room."""

    def __init__(self, file):
        self.file = file
        # A kill can have cut the last line short; it is written again.
        self.known = set(whole_lines(file)) if file.exists() else set()
        self._waiting = ["\n"] if file.exists() else []

    def add(self, line):
        if line not in self.known:
            self.known.add(line)
            self._waiting.append(line + "\n")
            self.flush()

    def flush(self):
        with suppress(OSError), self.file.open("ab", buffering=0) as stream:
            while self._waiting:
                data = self._waiting[0].encode()
                written = stream.write(data)
                if written < len(data):
                    # What is cut short is no line: nobody reads it.
                    self._waiting[0] = "\n" + self._waiting[0].lstrip("\n")
                    return
                self._waiting.pop(0)


def whole_lines(file):
    """Reads the lines that were written whole: each ends by a full stop."""
    return [line for line in file.read_text().split("\n") if line.endswith(".")]


def spends(epoch, _state):
    """Says what states want spent: something else every third epoch, until the next."""
    return () if epoch < 3 else (Spend(sha256d(b"spend %d" % (epoch // 3)), sha256d(b"root")),)


@dataclass
class Miner:
    """Makes batches of real shares, from where the own stream ends.

    It begins when the syndicate has a script to pay.
    """

    me: int
    key: Key
    lines: Lines
    accounting: Accounting
    life: bytes = field(default_factory=lambda: os.urandom(6))
    sequence: int = 0
    previous: bytes = NO_BATCH
    told: int = 0
    count: int = 0
    bodies: dict = field(default_factory=dict)
    said_bodies: set = field(default_factory=set)
    last: bytes = b""
    script: bytes = b""
    looked_at: int = 0
    made: Counter = field(default_factory=Counter)

    # What a node tells of certified entries.

    def next_seq(self, sender):
        return 0 if sender == self.me else 1 << 40

    def take(self, entry):
        if entry.header.sender != self.me:
            return
        self.see(entry)
        if entry.header.kind == Kind.SHARE_BATCH:
            digest = payload_digest(entry.payload).hex()
            self.lines.add(f"{digest} {shares_of(entry.payload)}.")

    def see(self, entry):
        if entry.header.kind == Kind.TEMPLATE:
            for body in decode_bodies(entry.payload):
                self.bodies[body_digest(body)] = body
        elif entry.header.kind == Kind.SHARE_BATCH:
            self.last = entry.payload
        elif entry.header.kind == Kind.TIP:
            self.told = max(self.told, Tip.decode(entry.payload).height)

    def look(self, node):
        """Finds out whom templates have to pay."""
        if not self.script and node.applied > self.looked_at:
            self.looked_at = node.applied
            ledger = self.accounting.ledger(node._state)
            self.script = syndicate_script(self.accounting.rules, ledger)

    # What it makes.

    def go_on(self, echoed):
        """Finds out where the own chain of batches ends: with what was said, certified or not."""
        for entry in echoed:
            self.see(entry)
        if self.last:
            summary = verify_batch(self.last, self.bodies)
            self.sequence, self.previous = summary.sequence + 1, summary.hash

    def tips(self, height, hash_of):
        """Returns what is to be said of tips, with a chain of that height."""
        for each in range(max(self.told, height) + 1, height + TIPS_AHEAD + 2):
            self.told = each
            yield Kind.TIP, Tip(hash_of(each - 1), each, NBITS, TARGET, 0).encode()

    def batch(self, height, prev_hash, count):
        """Returns the payloads of a batch of shares on a block, and of what it refers to."""
        template = Template(height, prev_hash=prev_hash, text=b"/%d/" % self.me, script=self.script)
        shares = []
        for _ in range(count):
            self.count += 1
            extranonce = self.life + self.count.to_bytes(6, "little")
            owner = Owner(sha256d(b"miner %d" % (self.count % 3)))
            share = Share(owner, template, nonce=0, price=PRICE, extranonce=extranonce)
            shares.append(share.mined(self.key.public))
        sealed = seal(shares, self.key, self.sequence, self.previous)
        self.sequence, self.previous = self.sequence + 1, sealed.hash
        body = template.encode()
        if body not in self.said_bodies:
            self.said_bodies.add(body)
            yield Kind.TEMPLATE, encode_bodies([body])
        yield Kind.SHARE_BATCH, sealed.blob


def shares_of(blob):
    """Counts the shares of a sealed batch of this rig: each takes the same room."""
    at = 94 + 48 * int.from_bytes(blob[92:94], "little")
    at += 2 + 37 * int.from_bytes(blob[at : at + 2], "little")
    return int.from_bytes(blob[at : at + 4], "little")


class OverheardNode(FederationNode):
    """Is a node that writes down what it signed before that leaves."""

    said = None
    heard_last = None

    def opened(self, link):
        link.post = partial(self._post, link.post)
        super().opened(link)

    def _post(self, post, data):
        if data is not self.heard_last:
            self.heard_last = data
            self._overhear(data)
        post(data)

    def _overhear(self, data):
        if is_signing(data):
            return
        match decode_message(data, self._committee):
            case Said(statement, _):
                pass
            case SentEntry(entry):
                statement = entry.header
            case Propose(statement, _, _):
                pass
            case _:
                return
        slot = ",".join(map(str, statement.slot))
        self.said.add(f"{statement.NUMBER} {slot} {statement.digest.hex()}.")


async def main(home, me, ports):
    net = Net(home.parent, len(ports) + 1, link_limits=SMALL)
    rules = rules_of(net.committee)
    others = [each for each in range(net.n) if each != me]
    net.proxies = {(me, each): Proxy(port=port) for each, port in zip(others, ports, strict=True)}
    miner = Miner(me, Key(net.secrets[me]), Lines(home / "acknowledged"), Accounting(rules))
    store = net.store(me, home / "federation.sqlite")
    function = Accounting(rules)
    keyring = Keyring(
        net.committee,
        net.signers[me],
        net.verifier,
        function,
        store,
        spends=spends,
        patience=3,
        limits=SigningLimits(window=8, patience_ms=1_000, again_ms=2_000),
    )
    keys = None if (home / "keyless").exists() else keyring
    more = {"store": store, "function": function, "keys": keys, "node_type": OverheardNode}
    node, mesh, _ = net.member(me, miner, **more)
    node.said = Lines(home / "said")
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: node.run(
                mesh, listeners, FileChain(net), chain_seconds=0.05, task_status=task_status
            )
        )
        miner.go_on(node.machine.broadcast.own.echoed_entries())
        # It outlives nobody who could end it.
        parent = os.getppid()
        while os.getppid() == parent:
            if not any((place / "rest").exists() for place in (net.directory, home)):
                work(node, miner, net)
            more = {"port": port, "shares": miner.count, "is_quiet": is_quiet(node)}
            status = node.status() | more
            with suppress(OSError):
                draft = home / ".status.json"
                draft.write_text(json.dumps(status))
                draft.replace(home / "status.json")
            for lines in (miner.lines, node.said):
                lines.flush()
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()


def work(node, miner, net):
    """Appends a batch, and what is to be said of the chain, if the member has time for it."""
    height = node.status()["height"]
    miner.look(node)
    if height < 0 or node.machine.epochs.next_height <= height or node.waiting > 4:
        return
    if node.machine.is_halted:
        return
    for payload in miner.tips(height, net.chain.hash_of):
        node.append(*payload)
    if node.waiting <= 8 and miner.script and miner.made[height] < BATCHES:
        miner.made[height] += 1
        for payload in miner.batch(height + 1, net.chain.hash_of(height), 3):
            node.append(*payload)


if __name__ == "__main__":
    configure_logging("info", "json")
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]), [int(port) for port in sys.argv[3:]])

"""Runs one member of a federation as a process, fed with batches that were sealed beforehand.

    python -m benchmarks.federation_member DIRECTORY MEMBER MEMBERS

It says on which port it listens, and then does what lines on stdin say, answering in JSON lines:

    peers PORT...     the members' ports in their order: links are made, `linked` says all are up
    tip HEIGHT        the chain has a new block
    feed HEIGHT       the tip below that height and its batches go into the own stream; `fed` says
                      that a quorum holds them all
    status            figures

What it runs is the member that is run in earnest: node, machines, store, links and the state
function. Only the chain is made up, and the pool is a file.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections import defaultdict
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import structlog
import trio

from benchmarks.process import run_load
from radpool_sv2._native.threshold import TREASURY, IdentityKey, TransportKey
from radpool_sv2.federation.broadcast.payload import Kind
from radpool_sv2.federation.committee import Committee
from radpool_sv2.federation.effect import Limits
from radpool_sv2.federation.identity import Bip340Verifier, MemberRecord
from radpool_sv2.federation.node import FederationNode
from radpool_sv2.federation.state.accounting import Accounting
from radpool_sv2.federation.state.ledger import output_of_key
from radpool_sv2.federation.state.payload import KeySaid, Tip, encode_bodies
from radpool_sv2.federation.state.rules import Rules
from radpool_sv2.federation.store import FederationStore
from radpool_sv2.federation.transport.mesh import Mesh, MeshLimits, open_address
from radpool_sv2.weight import REGTEST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from radpool_sv2.federation.broadcast.entry import Entry

BATCH_SHARES = 1_000
HEIGHT_FIRST = 101
"""The height at which epoch 0 ends."""
NBITS = 0x207FFFFF
TARGET = 0x7FFFFF << 232
KEY = IdentityKey.from_secret(sha256(b"treasury").digest()).public
"""What members say that their treasury key is: its generation is measured elsewhere."""
QUEUED = 16
"""Own payloads that wait, so that the stream never does."""
CHAIN_SECONDS = 0.02


def secret_of(member: int) -> bytes:
    """Returns a secret of a member; the committee's order is that of the public keys."""
    return sha256(b"member %d" % member).digest()


def identities(members: int) -> list[IdentityKey]:
    """Returns the identity keys in the committee's order."""
    keys = (IdentityKey.from_secret(secret_of(each)) for each in range(members))
    return sorted(keys, key=lambda key: key.public)


def committee_of(members: int) -> Committee:
    """Returns the committee of so many members."""
    keys = tuple(key.public for key in identities(members))
    return Committee(sha256(b"a chain").digest(), 0, keys, height_first=HEIGHT_FIRST)


def rules_of(committee: Committee) -> Rules:
    """Returns rules that count any share, with budgets that are not reached."""
    return Rules(
        msp_keys=committee.members,
        faulty_max=committee.faulty_max,
        height_first=HEIGHT_FIRST,
        scale=REGTEST,
        exponent_floor=0,
        shares_target=1 << 40,
        bytes_base=1 << 28,
    )


def script_of(committee: Committee) -> bytes:
    """Returns the script that templates pay."""
    return output_of_key(rules_of(committee), KEY).script


def block(height: int) -> bytes:
    """Returns the hash of the made-up block at a height."""
    return sha256(sha256(b"block %d" % height).digest()).digest()


def tip_below(height: int) -> bytes:
    """Returns the payload that says on which tip shares of a height are."""
    return Tip(block(height - 1), height, NBITS, TARGET, 0).encode()


def write_batches(directory: Path, members: int, heights: int, batches: int) -> int:
    """Seals batches of all members into files; returns the bytes of all.

    Args:
        directory: Where.
        members: How many.
        heights: How many heights, one for each epoch.
        batches: Batches of each member at each height.
    """
    secrets = {
        IdentityKey.from_secret(secret_of(each)).public: secret_of(each) for each in range(members)
    }
    committee, total = committee_of(members), 0
    for each, key in enumerate(committee.members):
        options = [
            "--secret", secrets[key].hex(), "--out", str(directory / f"{each}.batches"),
            "--first", str(HEIGHT_FIRST), "--heights", str(heights), "--batches", str(batches),
            "--shares", str(BATCH_SHARES), "--script", script_of(committee).hex(),
        ]  # fmt: skip
        [line] = run_load("batches", options)
        total += line["bytes"]
    return total


def said_before(height: int) -> list[tuple[int, bytes]]:
    """Returns what a member says before its batches of a height: the tip, and once the key."""
    said = [(int(Kind.TIP), tip_below(height))]
    if height == HEIGHT_FIRST:
        said.append((int(Kind.KEY_SAID), KeySaid(TREASURY, KEY, bytes(32)).encode()))
    return said


def read_batches(file: Path) -> dict[int, list[tuple[int, bytes]]]:
    """Reads what `radpool-load batches` wrote; returns kinds and payloads by height."""
    data, at, height = file.read_bytes(), 0, 0
    payloads: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
    while at < len(data):
        kind, length = struct.unpack_from("<BI", data, at)
        content = data[at + 5 : at + 5 + length]
        at += 5 + length
        if kind == Kind.TEMPLATE:
            (height,) = struct.unpack_from("<I", content, 40)
            content = encode_bodies([content])
        payloads[height].append((kind, content))
    return payloads


class Chain:
    """Is a chain that grows when somebody says so."""

    tip = HEIGHT_FIRST - 1

    async def height(self) -> int:
        """Returns the height of the tip."""
        return self.tip

    async def block_hash(self, height: int) -> bytes:
        """Returns the hash of the block at a height."""
        return block(height)


class Own:
    """Sees how far a quorum holds the own stream."""

    def __init__(self, me: int) -> None:
        self._me = me
        self.certified = 0
        self.grown = trio.Event()

    def next_seq(self, sender: int) -> int:  # noqa: ARG002 - nothing is read again
        """Returns which entry of a stream it wants first after a start: none of the store's."""
        return 1 << 60

    def take(self, entry: Entry) -> None:
        """Takes an entry."""
        if entry.header.sender == self._me:
            self.certified = entry.header.seq + 1
            self.grown.set()
            self.grown = trio.Event()


class Counting:
    """Is the state function, with a count of its CPU time and of what it has counted."""

    def __init__(self, accounting: Accounting) -> None:
        self._accounting = accounting
        self.cpu_ns = self.shares = self.stale = self.void = 0

    def apply(self, state: bytes, epoch: int, segments: Iterable[Iterable[Entry]]) -> bytes:
        """Returns the state behind an epoch."""
        started = time.thread_time_ns()
        found = self._accounting.apply(state, epoch, segments)
        self.cpu_ns += time.thread_time_ns() - started
        ledger = self._accounting.ledger(found)
        self.shares += sum(row.count for row in ledger.rows)
        self.stale += ledger.stale
        self.void += len(ledger.verdicts)
        return found

    def root(self, state: bytes) -> bytes:
        """Returns the root of a state."""
        return self._accounting.root(state)


class CountedStream(trio.abc.Stream):
    """Counts the bytes that go through a connection."""

    sent = 0

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Sends bytes."""
        CountedStream.sent += len(data)
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Waits until sending may be possible."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receives bytes."""
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._stream.aclose()


class CountedListener(trio.abc.Listener[CountedStream]):
    """Listens for connections that are counted."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener

    async def accept(self) -> CountedStream:
        """Waits for a connection."""
        return CountedStream(await self._listener.accept())

    async def aclose(self) -> None:
        """Stops listening."""
        await self._listener.aclose()


async def connect(address: str) -> trio.abc.Stream:
    """Connects to an address."""
    return CountedStream(await open_address(address))


def say(event: str, **fields: Any) -> None:
    """Writes a line."""
    print(json.dumps({"event": event, "at_ns": time.monotonic_ns(), **fields}), flush=True)


def pass_on(_logger: Any, _name: str, fields: Any) -> Any:
    """Makes lines of what the node logs of epochs; other things matter only when they are bad."""
    if fields["event"] == "epoch decided":
        say("decided", epoch=fields["epoch"])
    elif fields["event"] == "state certified":
        say("certified", epochs=fields["epochs"])
    elif _name in {"warning", "error"}:
        print(fields, file=sys.stderr, flush=True)
    raise structlog.DropEvent


async def lines() -> AsyncIterator[str]:
    """Reads lines of stdin."""
    text = b""
    async with trio.lowlevel.FdStream(sys.stdin.fileno()) as stream:
        async for data in stream:
            *whole, text = (text + data).split(b"\n")
            for line in whole:
                yield line.decode()


class Member:
    """Is the process.

    Args:
        directory: Where its batches are and its store is to be.
        me: Its number.
        members: How many there are.
    """

    def __init__(self, directory: Path, me: int, members: int) -> None:
        self._me = me
        self._keys = identities(members)
        self._committee = committee_of(members)
        self._chain, self._own = Chain(), Own(me)
        self._function = Counting(Accounting(rules_of(self._committee)))
        self._payloads = read_batches(directory / f"{me}.batches")
        self._store = FederationStore(
            directory / f"{me}.sqlite", self._committee, self._keys[me].public
        )
        self._verifier = Bip340Verifier()
        self._appended = 0
        self._node = FederationNode(
            self._committee,
            self._keys[me],
            self._verifier,
            self._store,
            self._function,
            limits=Limits(),
            reader=self._own,
        )

    async def run(self) -> None:
        """Runs until stdin ends."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        say("listening", port=listeners[0].socket.getsockname()[1])
        async with trio.open_nursery() as nursery:
            async for line in lines():
                word, *numbers = line.split()
                if word == "peers":
                    mesh = self._mesh([int(each) for each in numbers])
                    counted = [CountedListener(each) for each in listeners]
                    nursery.start_soon(self._node_of(mesh, counted))
                    nursery.start_soon(self._say_linked)
                elif word == "tip":
                    self._chain.tip = int(numbers[0])
                elif word == "feed":
                    nursery.start_soon(self._feed, int(numbers[0]))
                elif word == "status":
                    self._say_status()
            nursery.cancel_scope.cancel()
        self._store.close()

    def _mesh(self, ports: list[int]) -> Mesh:
        transport = [
            TransportKey.from_secret(sha256(b"transport %d" % each).digest())
            for each in range(len(ports))
        ]
        records = [
            MemberRecord.sign(key, transport[each].public, (f"127.0.0.1:{ports[each]}",), 1)
            for each, key in enumerate(self._keys)
        ]
        return Mesh(
            self._committee,
            self._me,
            transport[self._me],
            records,
            self._verifier,
            self._node,
            limits=MeshLimits(dial_seconds_min=0.2, dial_seconds_max=2.0),
            connect=connect,
            random=Random(self._me),
        )

    def _node_of(self, mesh: Mesh, listeners: list[CountedListener]) -> Any:
        async def run() -> None:
            await self._node.run(mesh, listeners, self._chain, chain_seconds=CHAIN_SECONDS)

        return run

    async def _say_linked(self) -> None:
        while len(self._node.status()["links"]) < self._committee.n - 1:  # noqa: ASYNC110 - the node tells nobody
            await trio.sleep(0.1)
        say("linked")

    async def _feed(self, height: int) -> None:
        # As in life: there are no shares on a block that the own node does not have.
        while self._node.status()["height"] < height - 1:  # noqa: ASYNC110 - the node tells nobody
            await trio.sleep(CHAIN_SECONDS)
        for kind, payload in said_before(height) + self._payloads.pop(height):
            while self._node.waiting >= QUEUED:
                await self._own.grown.wait()
            self._node.append(kind, payload)
        # Marks are in the stream besides, so that the count alone says nothing.
        while (
            self._node.waiting or self._own.certified < self._node.machine.broadcast.own.tip().count
        ):
            await self._own.grown.wait()
        say("fed", height=height)

    def _say_status(self) -> None:
        status = self._node.status()
        say(
            "status",
            bytes_sent=CountedStream.sent,
            state_cpu_ns=self._function.cpu_ns,
            process_cpu_ns=time.process_time_ns(),
            thread_cpu_ns=time.thread_time_ns(),
            halted=status["halted"],
            void=self._function.void,
            stale=self._function.stale,
            shares=self._function.shares,
        )


def main() -> None:
    """Runs the member that the command line names."""
    structlog.configure(processors=[pass_on])
    directory, me, members = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    trio.run(Member(directory, me, members).run)


if __name__ == "__main__":
    main()

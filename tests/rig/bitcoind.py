"""A real bitcoind on regtest in a directory of its own, with coins that need no wallet.

    def test_it(bitcoind):              # runs, has 110 blocks, its purse has coins to spend
        bitcoind.rpc("getblockcount")   # any method; RpcFailure(code, message) when it is refused
        bitcoind.mine(2)                # two blocks to the purse; returns their hashes as shown
        bitcoind.spend(fee_sats=1_000)  # a transaction in the mempool; returns its txid as shown
        bitcoind.hang(); bitcoind.resume(); bitcoind.kill(); bitcoind.restart()

`bitcoind.url`, `.cookie_file` and `.zmq_url` are what a configuration names. Further nodes of one
test: the fixture `bitcoinds` makes them: `bitcoinds("two", arguments=["-prune=550"])`.

Programs come from $RADPOOL_BITCOIND_DIR/bin or .nodes/bitcoind/bin, which `scripts/get-bitcoind`
makes; a `Bitcoind` can be told another program, such as Core's node of `scripts/get-bitcoin-core`.
"""

import contextlib
import hashlib
import itertools
import json
import os
import random
import signal
import socket
import struct
from pathlib import Path

import httpx
import pytest

from .process import ROOT, Process
from .wait import until

DIRECTORY = Path(os.environ.get("RADPOOL_BITCOIND_DIR", ROOT / ".nodes" / "bitcoind"))
CORE_DIRECTORY = Path(os.environ.get("RADPOOL_BITCOIN_CORE_DIR", ROOT / ".nodes" / "bitcoin-core"))
MATURE_BLOCKS = 110
START_ATTEMPTS = 3
SATS = 100_000_000

RUNNER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
RUNNERS_MAX = 64
PORTS = list(range(10_000 + RUNNER % RUNNERS_MAX, 32_768, RUNNERS_MAX))
random.SystemRandom().shuffle(PORTS)
PORTS = itertools.cycle(PORTS)

# Whoever knows the script may spend it: P2WSH of OP_TRUE, which relays as a standard payment.
WITNESS_SCRIPT = b"\x51"
PURSE_SCRIPT = b"\x00\x20" + hashlib.sha256(WITNESS_SCRIPT).digest()
PADDING_SATS = 1_000
OUTPUT_LEN = 8 + 1 + len(PURSE_SCRIPT)


class RpcFailure(Exception):
    """The node refused a call."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Bitcoind:
    """A node; it runs between `start` and `stop`, and its chain outlives both."""

    def __init__(self, directory, *, arguments=(), program=None, zmq=True):
        self.directory = directory
        self.data = directory / "bitcoin"
        self.arguments = list(arguments)
        self.program = Path(program or DIRECTORY / "bin" / "bitcoind")
        if not self.program.exists():
            script = "get-bitcoin-core" if "core" in str(self.program) else "get-bitcoind"
            place = self.program.parents[1]
            pytest.fail(f"there is no {self.program}: run scripts/{script} {place}", pytrace=False)
        self.has_zmq = zmq
        self.process = None
        self.purse = Purse(self)
        self._take_ports()
        self._numbers = itertools.count(1)
        self._client = httpx.Client(timeout=60, trust_env=False)

    def _take_ports(self):
        self.rpc_port, self.zmq_port = free_ports(2)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.rpc_port}"

    @property
    def zmq_url(self):
        return f"tcp://127.0.0.1:{self.zmq_port}"

    @property
    def cookie_file(self):
        return self.data / "regtest" / ".cookie"

    @property
    def pid(self):
        return self.process.pid

    def start(self, env=None, prefix=()):
        """Starts the node and waits until it answers; `prefix` is what runs the program."""
        assert self.process is None, "the node runs already"
        self.data.mkdir(parents=True, exist_ok=True)
        for left in range(START_ATTEMPTS)[::-1]:
            self.process = Process(self._command(prefix), self.directory, "bitcoind", env)
            try:
                until(self._answers, lambda: f"an answer of bitcoind; {self.process.tail()}")
            except AssertionError:
                # Somebody else may have taken a port between our look and the node's start.
                taken = "Unable to bind" in self.process.tail()
                self.kill()
                if not left or not taken:
                    raise
                self._take_ports()
            else:
                return self
        return self

    def _command(self, prefix):
        command = [*prefix, self.program, f"-datadir={self.data}", "-regtest", "-server"]
        command += ["-listen=0", "-listenonion=0", "-dnsseed=0", "-fixedseeds=0", "-natpmp=0"]
        command += ["-printtoconsole=0", "-fallbackfee=0.0001", "-corepolicy"]
        command += [f"-rpcport={self.rpc_port}", "-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1"]
        if self.has_zmq:
            command += [f"-zmqpubhashblock={self.zmq_url}", f"-zmqpubrawtx={self.zmq_url}"]
        else:
            command.remove("-corepolicy")  # only Knots knows it, and Core needs it not
        return command + self.arguments

    def _answers(self):
        if not self.process.is_alive:
            raise AssertionError(f"bitcoind ended; {self.process.tail()}")
        with contextlib.suppress(httpx.HTTPError, RpcFailure, OSError):
            return self.rpc("getblockcount") >= 0
        return False

    def rpc(self, method, *params):
        """Calls a method; returns its result."""
        body = {"id": next(self._numbers), "method": method, "params": params}
        user, password = self.cookie_file.read_text().split(":", 1)
        answer = self._client.post(self.url, content=json.dumps(body), auth=(user, password))
        if not answer.content:
            raise RpcFailure(answer.status_code, answer.reason_phrase)
        told = answer.json()
        if told.get("error"):
            raise RpcFailure(told["error"]["code"], told["error"]["message"])
        return told["result"]

    def mine(self, count=1):
        """Mines blocks that pay the purse; returns their hashes."""
        hashes = self.rpc("generatetodescriptor", count, f"raw({PURSE_SCRIPT.hex()})")
        self.purse.look()
        return hashes

    def spend(self, **how):
        """Puts a transaction of the purse into the mempool; see `Purse.transaction`."""
        raw = self.purse.transaction(**how)
        return self.rpc("sendrawtransaction", raw.hex(), 0)

    @property
    def tip(self):
        """The tip's hash, as shown."""
        return self.rpc("getbestblockhash")

    def kill(self):
        """Kills the node as a lack of memory would."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    def stop(self):
        """Ends the node in order."""
        if self.process is None:
            return
        if self.process.is_alive:
            self.process.signal(signal.SIGCONT)
            self.process.signal(signal.SIGTERM)
            self.process.wait()
        self.process = None

    def restart(self):
        """Ends the node if it runs, and starts it again on the same ports."""
        self.stop()
        self.start()

    def hang(self):
        """Stops the node's threads: connections are taken, nothing is answered."""
        self.process.signal(signal.SIGSTOP)

    def resume(self):
        self.process.signal(signal.SIGCONT)

    def close(self):
        """Leaves nothing behind."""
        self.kill()
        self._client.close()


class Purse:
    """Coins that anybody may spend; found by looking at the blocks, so reorgs are no problem."""

    def __init__(self, node):
        self.node = node
        self._coinbases = []
        self._seen = 0
        self._spent = set()

    def look(self):
        """Takes the coinbases of blocks that it has not seen."""
        height = self.node.rpc("getblockcount")
        for each in range(min(self._seen, height) + 1, height + 1):
            block = self.node.rpc("getblock", self.node.rpc("getblockhash", each), 2)
            coinbase = block["tx"][0]
            for number, output in enumerate(coinbase["vout"]):
                if output["scriptPubKey"]["hex"] == PURSE_SCRIPT.hex():
                    sats = round(output["value"] * SATS)
                    self._coinbases.append((each, (coinbase["txid"], number), sats))
        self._seen = height

    def coin(self):
        """Takes a mature coin out of the purse: (txid as shown, index), satoshi."""
        height = self.node.rpc("getblockcount")
        for mined, outpoint, sats in self._coinbases:
            if mined + 100 <= height + 1 and outpoint not in self._spent:
                if self.node.rpc("gettxout", outpoint[0], outpoint[1], False) is None:
                    continue
                self._spent.add(outpoint)
                return outpoint, sats
        raise AssertionError("the purse is empty: mine more blocks")

    def transaction(
        self, *, fee_sats=1_000, coin=None, outputs=1, padding=0, version=2, sequence=0xFFFFFFFD
    ):
        """Makes a signed transaction with so many equal outputs of the purse's own script.

        Args:
            fee_sats: The fee.
            coin: ((txid, index), sats) of an output with `PURSE_SCRIPT`; else a coinbase's.
            outputs: Into how many outputs the rest is split.
            padding: How many bytes of further outputs make it heavy, `PADDING_SATS` each.
            version: The transaction's version.
            sequence: The input's sequence.
        """
        outpoint, sats = coin or self.coin()
        # Not data: nodes differ in how much of that they relay.
        filling = [(PADDING_SATS, PURSE_SCRIPT)] * -(-padding // OUTPUT_LEN)
        sats -= PADDING_SATS * len(filling)
        each = (sats - fee_sats) // outputs
        scripts = [(each, PURSE_SCRIPT)] * (outputs - 1)
        scripts.append((sats - fee_sats - each * (outputs - 1), PURSE_SCRIPT))
        return transaction([outpoint], scripts + filling, version=version, sequence=sequence)


def transaction(outpoints, outputs, *, version=2, sequence=0xFFFFFFFD, locktime=0):
    """Serialises a transaction that spends outputs of the purse's script: ((txid, index), …)."""
    parts = [struct.pack("<I", version), b"\x00\x01", compact(len(outpoints))]
    for txid, index in outpoints:
        parts.append(bytes.fromhex(txid)[::-1] + struct.pack("<I", index) + b"\x00")
        parts.append(struct.pack("<I", sequence))
    parts.append(compact(len(outputs)))
    for sats, script in outputs:
        parts.append(struct.pack("<q", sats) + compact(len(script)) + script)
    witness = b"\x01" + compact(len(WITNESS_SCRIPT)) + WITNESS_SCRIPT
    parts.append(witness * len(outpoints) + struct.pack("<I", locktime))
    return b"".join(parts)


def compact(value):
    """Returns a CompactSize."""
    if value < 253:
        return bytes([value])
    if value < 1 << 16:
        return b"\xfd" + struct.pack("<H", value)
    return b"\xfe" + struct.pack("<I", value)


def free_ports(count):
    """Finds TCP ports of this machine that nobody listens on.

    They are below those that the kernel gives to whoever asks for any, and tests that run beside
    each other choose from different ones: so nobody takes them before they are used.
    """
    found = []
    while len(found) < count:
        port = next(PORTS)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            found.append(port)
    return found


@pytest.fixture
def bitcoinds(tmp_path):
    """Makes nodes that run and have coins; all are gone when the test ends."""
    made = []

    def make(name="bitcoind", *, blocks=MATURE_BLOCKS, **settings):
        node = Bitcoind(tmp_path / name, **settings)
        made.append(node)
        node.start()
        if blocks:
            node.mine(blocks)
        return node

    try:
        yield make
    finally:
        for node in made:
            node.close()


@pytest.fixture
def bitcoind(bitcoinds):
    """A node that runs, with 110 blocks and a purse of coins."""
    return bitcoinds()

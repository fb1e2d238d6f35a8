"""Starts what Stratum V1 devices connect to: our translator, SRI's, and ckpool.

Both translators stand in front of the same pool, ours, which is none of what is measured and runs
on the generator's processors. ckpool is pool and translator in one and needs a bitcoind.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Protocol, Self

from benchmarks.process import (
    ROOT,
    BenchmarkError,
    NodeAccess,
    Pool,
    Usage,
    end_process,
    free_ports,
    new_directory,
    processors,
    read_usage,
    stay_on,
)
from radpool_sv2.node.zmq import GREETING, HASHBLOCK, HELLO, ZmtpReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from benchmarks.process import Line

BITCOIND: Final = (
    Path(os.environ.get("RADPOOL_BITCOIND_DIR", ROOT / ".nodes/bitcoind")) / "bin/bitcoind"
)
ADDRESS: Final = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
"""Whom blocks pay: an address of BIP173's own examples."""
BLOCKS: Final = 110
START_SECONDS_MAX: Final = 60
POLL_SECONDS: Final = 0.05
EVERYTHING: Final = 1_000_000
MINING: Final = "mining for a pool"
"""What our translator logs when it has one."""
TOLD_CHARACTERS_MAX: Final = 2_000
CKPOOL_PORTS: Final = range(3_333, 4_000)
"""On ports above them ckpool gives its clients another first difficulty."""
CKPOOL_DIFFICULTY: Final = 1e-9
"""Four hashes a share. Its target is a 256-bit number, so there is no use in less."""

TRANSLATOR_CONFIG: Final = """\
[limits]
connections_max = {everything}
connections_per_address_max = {everything}
connects_per_second_per_address_max = {everything}
connects_burst_per_address_max = {everything}
submits_per_second_max = {everything}
submits_burst_max = {everything}

[[pools]]
address = "{address}"
authority_public_key = "{key}"
"""
SRI_CONFIG: Final = """\
downstream_address = "127.0.0.1"
downstream_port = {port}
max_supported_version = 2
min_supported_version = 2
downstream_extranonce2_size = 8
verify_payout = false
aggregate_channels = false
supported_extensions = []

[downstream_difficulty_config]
min_individual_miner_hashrate = 50000.0
shares_per_minute = 1000000.0
enable_vardiff = false
job_keepalive_interval_secs = 60

[[upstreams]]
address = "{host}"
port = {pool_port}
authority_pubkey = "{key}"
user_identity = "load"
"""


class Front(Protocol):
    """Is what devices connect to.

    Attributes:
        target: The options that lead a generator there.
    """

    target: list[str]

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def tip(self) -> Line:
        """Lets a new tip come; returns its hash and when it was known."""

    def usage(self) -> Usage:
        """Reads what it has used so far, without the pool and the node behind it."""

    def expect_upstream(self, shares: int) -> None:
        """Waits until the pool behind it has accepted so many; nothing where there is none."""


class Bitcoind:
    """Is a bitcoind on regtest with some blocks, on the generator's processors."""

    def __init__(self) -> None:
        self._directory = new_directory()
        rpc_port, zmq_port = free_ports(2)
        zmq = f"tcp://127.0.0.1:{zmq_port}"
        command: list[str | Path] = [
            BITCOIND, f"-datadir={self._directory}", "-regtest", "-server", "-listen=0",
            "-dnsseed=0", "-fixedseeds=0", "-natpmp=0", "-printtoconsole=0",
            f"-rpcport={rpc_port}", f"-zmqpubhashblock={zmq}",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=stay_on(processors()[1]),  # noqa: PLW1509 - this process has one thread
        )  # fmt: skip
        self.access = NodeAccess(
            f"http://127.0.0.1:{rpc_port}", self._directory / "regtest/.cookie", zmq
        )
        self._port = rpc_port
        self._heard: dict[str, int] = {}
        try:
            wait_for(self._answers, "bitcoind does not start")
            self.rpc("generatetoaddress", BLOCKS, ADDRESS)
            self._notices = socket.create_connection(("127.0.0.1", zmq_port), timeout=10)
            self._notices.settimeout(None)
            threading.Thread(target=self._listen, daemon=True).start()
            # A subscription has no answer: it stands when a block has been heard of.
            wait_for(self._hears, "bitcoind does not tell of blocks")
        except BaseException:
            self.end()
            raise

    def rpc(self, method: str, *params: object) -> object:
        """Calls a method; what fails is this program's fault."""
        cookie = base64.b64encode(self.access.cookie.read_bytes()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(
                "POST", "/", json.dumps({"method": method, "params": params, "id": 1}),
                {"Authorization": f"Basic {cookie}"},
            )  # fmt: skip
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if answer["error"] is not None:
            raise BenchmarkError(f"bitcoind: {method}: {answer['error']}")
        return answer["result"]

    def block(self) -> Line:
        """Lets a block come; returns its hash and when the node told of it."""
        hashes = self.rpc("generatetoaddress", 1, ADDRESS)
        assert isinstance(hashes, list)
        shown = str(hashes[0])
        wait_for(lambda: shown in self._heard, "bitcoind did not tell of its block")
        prev_hash = bytes.fromhex(shown)[::-1].hex()
        return {"event": "tip", "prev_hash": prev_hash, "sent_ns": self._heard[shown]}

    def end(self) -> None:
        """Lets it leave."""
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise BenchmarkError("bitcoind has ended")
        with suppress(OSError, ValueError, BenchmarkError):
            return self.rpc("getblockcount") == 0
        return False

    def _hears(self) -> bool:
        self.rpc("generatetoaddress", 1, ADDRESS)
        time.sleep(POLL_SECONDS)
        return bool(self._heard)

    def _listen(self) -> None:
        reader, is_subscribed = ZmtpReader(), False
        self._notices.sendall(GREETING)
        while data := self._notices.recv(4_096):
            now_ns = time.monotonic_ns()
            for message in reader.feed(data):
                if message[0] == HASHBLOCK:
                    self._heard[message[1].hex()] = now_ns
            if reader.has_greeted and not is_subscribed:
                is_subscribed = True
                self._notices.sendall(HELLO)


class _Process:
    """Is a program in a directory of its own, on the pool's processors."""

    def __init__(self, command: Sequence[str | Path], directory: Path, env: dict[str, str]) -> None:
        self._said = (directory / "said.txt").open("w+")
        self.process = subprocess.Popen(
            command,
            cwd=directory, env=os.environ | env, stdout=self._said, stderr=subprocess.STDOUT,
            preexec_fn=stay_on(processors()[0]),  # noqa: PLW1509 - this process has one thread
        )  # fmt: skip

    def said(self) -> IO[str]:
        """Returns what it has printed, from the start."""
        self._said.seek(0)
        return self._said

    def check(self) -> None:
        """Sees whether it runs.

        Raises:
            BenchmarkError: It has ended.
        """
        if self.process.poll() is not None:
            last = self.said().read()[-TOLD_CHARACTERS_MAX:]
            raise BenchmarkError(f"{self.process.args!r} has ended: {last}")

    def end(self) -> None:
        """Lets it leave."""
        end_process(self.process, 30)
        self._said.close()

    def usage(self) -> Usage:
        """Adds up what it and its children have used."""
        return _usage_of_family(self.process.pid)


def _usage_of_family(pid: int) -> Usage:
    total = read_usage(pid)
    for children in Path(f"/proc/{pid}").glob("task/*/children"):
        with suppress(OSError):  # a thread may end while it is looked at
            for child in children.read_text().split():
                more = _usage_of_family(int(child))
                total = Usage(
                    total.engine_ns + more.engine_ns,
                    total.trio_ns + more.trio_ns,
                    total.commit_ns + more.commit_ns,
                    total.rss_bytes + more.rss_bytes,
                )
    return total


class _Translator(ABC):
    """Is a translator in front of our pool; the pool has templates of its own or of a node."""

    def __init__(self, node: Bitcoind | None) -> None:
        self._node = node
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            access = None if self._node is None else self._node.access
            self._pool = stack.enter_context(Pool(beside=True, stored=False, node=access))
            directory = new_directory()
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            _, address, _, key = self._pool.target
            self._process = self._start(directory, address, key)
            stack.callback(self._process.end)
            self.target = ["--connect", self._wait(address)]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @abstractmethod
    def _start(self, directory: Path, address: str, key: str) -> _Process:
        """Starts it for the pool at this address."""

    @abstractmethod
    def _wait(self, address: str) -> str:
        """Waits until devices are served; returns where."""

    def tip(self) -> Line:
        """Lets a new tip come; returns its hash and when the pool's source, or the node, told."""
        return self._pool.tip() if self._node is None else self._node.block()

    def usage(self) -> Usage:
        """Reads what the translator has used so far."""
        return self._process.usage()

    def expect_upstream(self, shares: int) -> None:
        """Waits until the pool has accepted so many."""

        def has() -> bool:
            self._process.check()
            return int(self._pool.metrics()["shares_accepted_total"]) >= shares

        wait_for(has, f"the pool has not accepted {shares} shares")


class OwnTranslator(_Translator):
    """Is `radpool translator` as a service runs it, a channel for each device."""

    def _start(self, directory: Path, address: str, key: str) -> _Process:
        (self._port,) = free_ports(1)
        config = directory / "translator.toml"
        config.write_text(TRANSLATOR_CONFIG.format(everything=EVERYTHING, address=address, key=key))
        program = Path(sys.executable).with_name("radpool")
        command: list[str | Path] = [program, "translator", "--config", config]
        return _Process([*command, "--listen", f"127.0.0.1:{self._port}"], directory, {})

    def _wait(self, address: str) -> str:
        def is_mining() -> bool:
            self._process.check()
            return any(MINING in line and address in line for line in self._process.said())

        wait_for(is_mining, "the translator has not found its pool")
        return f"127.0.0.1:{self._port}"


class SriTranslator(_Translator):
    """Is SRI's translator with the least log level, a channel for each device.

    Args:
        program: Where it is.
        node: Where the pool's templates come from; None for templates that cost nothing.
    """

    def __init__(self, program: Path, node: Bitcoind | None) -> None:
        super().__init__(node)
        self._program = program

    def _start(self, directory: Path, address: str, key: str) -> _Process:
        (self._port,) = free_ports(1)
        host, pool_port = address.rsplit(":", 1)
        config = directory / "translator.toml"
        text = SRI_CONFIG.format(port=self._port, host=host, pool_port=pool_port, key=key)
        config.write_text(text)
        return _Process([self._program, "-c", config], directory, {"RUST_LOG": "error"})

    def _wait(self, address: str) -> str:  # noqa: ARG002 - it says nothing of its pool
        def listens() -> bool:
            self._process.check()
            return is_open(self._port)

        wait_for(listens, "SRI's translator does not listen")
        return f"127.0.0.1:{self._port}"


class Ckpool:
    """Is ckpool in front of a bitcoind, with a difficulty that every fourth hash meets.

    Args:
        program: Where it is.
        node: Its node.
    """

    def __init__(self, program: Path, node: Bitcoind) -> None:
        self._program, self._node = program, node
        self._directory = new_directory()
        port = next(port for port in CKPOOL_PORTS if is_free(port))
        self._port = port
        self.target = ["--connect", f"127.0.0.1:{port}", "--user", ADDRESS]

    def __enter__(self) -> Self:
        url = self._node.access.url.removeprefix("http://")
        cookie = str(self._node.access.cookie)
        user, password = self._node.access.cookie.read_text().split(":")
        node = {"url": url, "auth": user, "pass": password, "cookie": cookie, "notify": True}
        config = {
            "btcd": [node],
            "btcaddress": ADDRESS,
            "donaddress": ADDRESS,
            "serverurl": [f"127.0.0.1:{self._port}"],
            "zmqblock": self._node.access.zmq,
            "mindiff": CKPOOL_DIFFICULTY,
            "startdiff": CKPOOL_DIFFICULTY,
            "maxdiff": CKPOOL_DIFFICULTY,
            "logdir": str(self._directory / "logs"),
        }
        path = self._directory / "ckpool.conf"
        path.write_text(json.dumps(config))
        sockets = self._directory / "sockets"
        command: list[str | Path] = [self._program, "-q", "-l", "3", "-c", path, "-s", sockets]
        self._process = _Process(command, self._directory, {})
        try:
            wait_for(self._listens, "ckpool does not listen")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.end()
        shutil.rmtree(self._directory, ignore_errors=True)

    def tip(self) -> Line:
        """Lets a block come; returns its hash and when the node told of it."""
        return self._node.block()

    def usage(self) -> Usage:
        """Reads what it has used so far."""
        return self._process.usage()

    def expect_upstream(self, shares: int) -> None:
        """Returns at once: nothing is upstream of it."""

    def _listens(self) -> bool:
        self._process.check()
        return is_open(self._port)


def wait_for(is_so: Callable[[], bool], failure: str) -> None:
    """Looks again and again.

    Raises:
        BenchmarkError: It has not become so.
    """
    deadline = time.monotonic() + START_SECONDS_MAX
    while not is_so():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{failure} in {START_SECONDS_MAX} s")
        time.sleep(POLL_SECONDS)


def is_free(port: int) -> bool:
    """Tells whether a port can be listened on."""
    with socket.socket() as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


def is_open(port: int) -> bool:
    """Tells whether somebody listens on a port, without connecting to it."""
    wanted = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(wanted) and fields[3] == "0A":
            return True
    return False

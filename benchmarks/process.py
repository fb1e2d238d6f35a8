"""Starts the pool and the load generators on processors of their own; reads what they use."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
LOAD = ROOT / "rust/target/release/radpool-load"
IO_THREADS = ("radpool-io", "radpool-sv1")
"""How the names of the engine's threads begin, and those of the translator's."""

Line = dict[str, Any]


class BenchmarkError(Exception):
    """Says that a run is void: a share was not acknowledged, a client was not served."""


def processors() -> tuple[set[int], set[int]]:
    """Splits the processors between the pool and the generator; a single one is shared."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) == 1:
        return {available[0]}, {available[0]}
    return set(available[:-1]), {available[-1]}


def stay_on(cpus: set[int]) -> Callable[[], None]:
    """Makes what a child does before it becomes another program."""
    return lambda: os.sched_setaffinity(0, cpus)


def read_line(pipe: IO[str], whose: str) -> Line:
    """Reads a line of JSON.

    Raises:
        BenchmarkError: The process has ended.
    """
    text = pipe.readline()
    if not text:
        raise BenchmarkError(f"{whose} has ended; what it says stands above")
    line: Line = json.loads(text)
    return line


@dataclass(frozen=True)
class Usage:
    """Is what a process has used so far.

    Args:
        engine_ns: CPU time of the engine's threads.
        trio_ns: CPU time of Python's main thread.
        commit_ns: CPU time of other threads: those in which the ledger commits.
        rss_bytes: Memory that is resident now.
    """

    engine_ns: int
    trio_ns: int
    commit_ns: int
    rss_bytes: int

    def __sub__(self, before: Usage) -> Usage:
        return Usage(
            self.engine_ns - before.engine_ns,
            self.trio_ns - before.trio_ns,
            self.commit_ns - before.commit_ns,
            self.rss_bytes - before.rss_bytes,
        )

    @property
    def total_ns(self) -> int:
        """CPU time of all threads."""
        return self.engine_ns + self.trio_ns + self.commit_ns


def read_usage(pid: int) -> Usage:
    """Reads what a process has used so far, in nanoseconds and bytes."""
    process = Path(f"/proc/{pid}")
    engine = trio = commit = 0
    for task in process.glob("task/*"):
        with suppress(OSError):  # a thread may end while it is looked at
            used = int((task / "schedstat").read_text().split()[0])
            if int(task.name) == pid:
                trio += used
            elif (task / "comm").read_text().startswith(IO_THREADS):
                engine += used
            else:
                commit += used
    pages = int((process / "statm").read_text().split()[1])
    return Usage(engine, trio, commit, pages * os.sysconf("SC_PAGE_SIZE"))


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def end_process(process: subprocess.Popen[Any], seconds_max: float = 10.0) -> None:
    """Lets a process leave, and kills it when it does not."""
    process.terminate()
    try:
        process.wait(timeout=seconds_max)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class NodeAccess:
    """Is how a bitcoind is reached.

    Args:
        url: Its RPC interface.
        cookie: The file with its user and password.
        zmq: Where it tells of new blocks.
    """

    url: str
    cookie: Path
    zmq: str


class UnderTest(Protocol):
    """Is a pool that a generator can be let loose on."""

    target: list[str]

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def tip(self) -> Line:
        """Lets a new tip come; returns its hash and when the pool was told."""

    def usage(self) -> Usage:
        """Reads what the pool has used so far."""

    def metrics(self) -> Line:
        """Asks for counters, if it has any."""


class Module:
    """Is a module of this package in a process of its own; it ends when its stdin does."""

    def __init__(self, name: str, whose: str, options: Sequence[str], cpus: set[int]) -> None:
        self._whose = whose
        self._process = subprocess.Popen(
            [sys.executable, "-m", name, *options],
            cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            preexec_fn=stay_on(cpus),  # noqa: PLW1509 - this process has one thread
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        self._out, self._in = self._process.stdout, self._process.stdin

    def line(self) -> Line:
        """Reads what it says next."""
        return read_line(self._out, self._whose)

    def ask(self, word: str) -> Line:
        """Says a word and reads the answer."""
        self._in.write(f"{word}\n")
        self._in.flush()
        return self.line()

    def usage(self) -> Usage:
        """Reads what it has used so far."""
        return read_usage(self._process.pid)

    def end(self) -> bool:
        """Lets it leave; returns whether it did so by itself."""
        with suppress(BrokenPipeError):
            self._in.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        finally:
            self._out.close()
        return True


class Provider:
    """Is our template provider on the generator's processors.

    Attributes:
        address: Where it serves, as `HOST:PORT`.
        key: The key that vouches for it.
    """

    def __init__(self) -> None:
        whose = "the template provider"
        self._module = Module("benchmarks.provider", whose, (), processors()[1])
        try:
            serving = self._module.line()
        except BaseException:
            self._module.end()
            raise
        self.address, self.key = serving["tdp"], serving["key"]

    def tip(self) -> Line:
        """Lets a new tip come; returns its hash and when the provider was told."""
        return self._module.ask("tip")

    def end(self) -> None:
        """Lets it leave."""
        self._module.end()


class Pool:
    """Is the pool process of one run, with a directory that goes with it.

    Args:
        io_threads: The engine's threads; 0 for as many as it has processors.
        ecash: Whether it is a mint too.
        everywhere: Whether it may use all processors, the generator's too.
        beside: Whether it has the generator's processors, as what is measured stands before it.
        provided: Whether its templates come from our template provider, not from within it.
        stored: Whether shares are stored before they are acknowledged.
        node: The bitcoind that its templates come from; None for templates that cost nothing.
    """

    def __init__(
        self,
        io_threads: int = 0,
        *,
        ecash: bool = False,
        everywhere: bool = False,
        beside: bool = False,
        provided: bool = False,
        stored: bool = True,
        node: NodeAccess | None = None,
    ) -> None:
        self._provider = Provider() if provided else None
        self._directory = new_directory()
        options = ["--dir", str(self._directory / "msp"), "--io-threads", str(io_threads)]
        options += ["--ecash"] if ecash else []
        options += [] if stored else ["--unstored"]
        if self._provider is not None:
            options += ["--tdp", self._provider.address, self._provider.key]
        if node is not None:
            options += ["--bitcoind", node.url, str(node.cookie), node.zmq]
        measured, others = processors()
        cpus = measured | others if everywhere else others if beside else measured
        self._module = Module("benchmarks.pool", "the pool", options, cpus)

    def __enter__(self) -> Self:
        try:
            serving = self._module.line()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        self.target = ["--connect", serving["sv2"], "--key", serving["authority_public_key"]]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if not self._module.end() and kind is None:
                raise BenchmarkError("the pool did not leave within 30 s")
        finally:
            if self._provider is not None:
                self._provider.end()
            shutil.rmtree(self._directory, ignore_errors=True)

    def tip(self) -> Line:
        """Lets a new tip come; returns its hash and when the pool, or the provider, was told."""
        return self._module.ask("tip") if self._provider is None else self._provider.tip()

    def metrics(self) -> Line:
        """Asks for the engine's counters, and for `store_ns`, SQLite's part of the commits."""
        return self._module.ask("metrics")

    def usage(self) -> Usage:
        """Reads what the pool has used so far."""
        return self._module.usage()


class Load:
    """Is a load generator; it must end well for a run to count."""

    def __init__(self, subcommand: str, *options: str, cpus: set[int] | None = None) -> None:
        self._name = f"radpool-load {subcommand}"
        self._kept: list[Line] = []
        self._process = subprocess.Popen(
            [LOAD, subcommand, *options],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            preexec_fn=stay_on(cpus or processors()[1]),  # noqa: PLW1509 - this process has one thread
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        self._out, self._in = self._process.stdout, self._process.stdin

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._process.kill()
        with suppress(BrokenPipeError):
            self._in.close()
        status = self._process.wait()
        self._out.close()
        if kind is None and status != 0:
            raise BenchmarkError(f"{self._name} ended with status {status}")

    def kill(self) -> None:
        """Ends it without asking how it went."""
        self._process.kill()
        self._in.close()
        self._process.wait()
        self._out.close()

    def expect(self, event: str) -> Line:
        """Reads lines up to one of an event; what comes before it is kept for `rest`."""
        while True:
            line = read_line(self._out, self._name)
            if line["event"] == event:
                return line
            self._kept.append(line)

    def go_on(self) -> None:
        """Lets it take its next step."""
        self._in.write("\n")
        self._in.flush()

    def rest(self) -> Iterator[Line]:
        """Returns the lines that nobody has expected, up to the end."""
        yield from self._kept
        for text in self._out:
            yield json.loads(text)


def run_load(subcommand: str, options: Sequence[str]) -> list[Line]:
    """Runs a generator to its end and returns its lines."""
    with Load(subcommand, *options) as load:
        return list(load.rest())


def run_floor(writes: int) -> list[Line]:
    """Measures the floors where the pool would run, the other end where its clients would be."""
    server, clients = processors()
    options = ["--writes", str(writes), "--sink-cpu", str(min(clients))]
    with Load("floor", *options, cpus=server) as load:
        return list(load.rest())


def new_directory() -> Path:
    """Makes an empty directory inside the checkout: on a disk, unlike most /tmp."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="bench-", dir=build))

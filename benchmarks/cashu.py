"""Mints under the same requests over HTTP: ours, nutshell's, and cdk-mintd.

Each speaks Cashu's API, so each gets the same requests: one token into as many as a request
takes, as many into one, and new tokens for money. That last one is `redeem` here, which takes a
work token, and `mint` at the others, which takes an invoice that their fake wallet calls paid.

`CDK_MINTD` names the program cdk-mintd. Nutshell is the environment that `make test` and
`make bench` install it into.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from itertools import chain
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from benchmarks.process import (
    ROOT,
    BenchmarkError,
    end_process,
    free_ports,
    new_directory,
    read_line,
    stay_on,
)
from radpool_sv2._native.ecash import KeysetKeys, MintSeed, blind, hash_to_curve, unblind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

NUTSHELL = ROOT / ".venv-nutshell"
HOST = "127.0.0.1"
START_SECONDS_MAX = 60
REQUEST_SECONDS_MAX = 60
FULL = "SQLite wal, synchronous 2"
"""What nutshell 0.20.2 (SQLite's default) and cdk-sqlite 0.18.3 (`synchronous = FULL`) say."""

CDK_CONFIG = """\
[info]
url = "http://{host}:{port}/"
listen_host = "{host}"
listen_port = {port}
mnemonic = "env:BENCHMARK_MNEMONIC"

[info.logging]
output = "stderr"
console_level = "error"

[database]
engine = "sqlite"

[payment_backend]
backend = "fakewallet"

[fake_wallet]
min_delay_time = 0
max_delay_time = 0
"""
MNEMONIC = "abandon " * 11 + "about"
"""The words of BIP39's first test vector."""


class Token(NamedTuple):
    """Is a token that can be spent."""

    amount: int
    keyset: str
    secret: str
    signature: bytes

    def json(self) -> dict[str, Any]:
        """Returns it as an input of a request."""
        return {
            "amount": self.amount,
            "id": self.keyset,
            "secret": self.secret,
            "C": self.signature.hex(),
        }


@dataclass(frozen=True)
class Request:
    """Is a request, ready to be sent, with what is needed to use its answer."""

    path: str
    body: bytes
    kept: tuple[tuple[int, str, bytes], ...]

    @classmethod
    def make(cls, path: str, keyset: str, amounts: Sequence[int], **fields: Any) -> Self:
        """Makes a request for outputs of these amounts."""
        kept = tuple((each, secrets.token_hex(32), secrets.token_bytes(32)) for each in amounts)
        messages = blind([(secret.encode(), factor) for _, secret, factor in kept])
        outputs = [
            {"amount": amount, "id": keyset, "B_": message.hex()}
            for (amount, _, _), message in zip(kept, messages, strict=True)
        ]
        body = json.dumps({**fields, "outputs": outputs}).encode()
        return cls(path, body, kept)


class Mint(ABC):
    """Is a mint's process; it serves inside the `with` block.

    Attributes:
        name: What it is called in the table.
        durability: What a transaction of its database waits for.
        port: Where it listens.
        keyset: The id of its sat keyset.
        keys: The public key of each amount there.
    """

    name: str
    durability = FULL

    def __init__(self, cpus: set[int]) -> None:
        self.directory = new_directory()
        self._cpus = cpus
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.keyset = ""
        self.keys: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        try:
            self._process = self.start()
            self._wait_until_open()
            keysets = self.ask("GET", "/v1/keysets")["keysets"]
            self.keyset = next(row["id"] for row in keysets if row["unit"] == "sat")
            [found] = self.ask("GET", f"/v1/keys/{self.keyset}")["keysets"]
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.keys = {int(amount): bytes.fromhex(key) for amount, key in found["keys"].items()}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            end_process(self._process)
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @abstractmethod
    def start(self) -> subprocess.Popen[str]:
        """Starts the process and sets `port`."""

    @abstractmethod
    def issue(self, amounts: Sequence[int], count: int) -> list[Request]:
        """Makes requests for new tokens of these amounts, which sum to a power of two."""

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process is not None
        return self._process.pid

    def popen(self, *words: str | Path, **environment: str) -> subprocess.Popen[str]:
        """Starts a program in the mint's directory, on its processors."""
        return subprocess.Popen(
            words, cwd=self.directory, env=os.environ | environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=stay_on(self._cpus),  # noqa: PLW1509 - this process has one thread
        )  # fmt: skip

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Sends one request and returns the answer."""
        connection = HTTPConnection(HOST, self.port, timeout=REQUEST_SECONDS_MAX)
        try:
            data = None if body is None else json.dumps(body).encode()
            return json.loads(self._exchange(connection, method, path, data))
        finally:
            connection.close()

    def run(self, requests: Sequence[Request], at_once: int) -> tuple[float, list[Token]]:
        """Sends requests, so many at once; returns the seconds it took, and the tokens.

        Raises:
            BenchmarkError: One was refused.
        """
        queue: SimpleQueue[tuple[int, Request]] = SimpleQueue()
        for numbered in enumerate(requests):
            queue.put(numbered)
        answers: list[bytes] = [b""] * len(requests)

        def work(_: int) -> None:
            connection = HTTPConnection(HOST, self.port, timeout=REQUEST_SECONDS_MAX)
            while not queue.empty():
                number, request = queue.get()
                answers[number] = self._exchange(connection, "POST", request.path, request.body)
            connection.close()

        at_once = min(at_once, len(requests))
        with ThreadPoolExecutor(at_once) as pool:
            before = time.perf_counter()
            list(pool.map(work, range(at_once)))
            elapsed = time.perf_counter() - before
        unblinded = map(self._unblind, requests, answers)
        return elapsed, list(chain.from_iterable(unblinded))

    def _exchange(
        self, connection: HTTPConnection, method: str, path: str, body: bytes | None
    ) -> bytes:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            answer = response.read()
            if response.status != 200:
                said = answer[:300].decode(errors="replace")
                raise BenchmarkError(f"{self.name}: {path}: {response.status} {said}")
            return answer

    def _unblind(self, request: Request, answer: bytes) -> list[Token]:
        rows = json.loads(answer)["signatures"]
        if len(rows) != len(request.kept):
            raise BenchmarkError(f"{self.name}: {len(rows)} signatures of {len(request.kept)}")
        items = [
            (bytes.fromhex(row["C_"]), factor, self.keys[amount])
            for row, (amount, _, factor) in zip(rows, request.kept, strict=True)
        ]
        return [
            Token(amount, self.keyset, secret, signature)
            for (amount, secret, _), signature in zip(request.kept, unblind(items), strict=True)
        ]

    def swap(self, tokens: Sequence[Token], amounts: Sequence[int]) -> Request:
        """Makes a request that turns sat tokens into others of the same sum (NUT-03)."""
        inputs = [token.json() for token in tokens]
        return Request.make("/v1/swap", self.keyset, amounts, inputs=inputs)

    def _wait_until_open(self) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self._process and self._process.poll() is None:
            with suppress(OSError, HTTPException):
                self.ask("GET", "/v1/keysets")
                return
            time.sleep(0.1)
        raise BenchmarkError(f"{self.name} does not start")

    def take_port(self) -> int:
        """Finds a port that is free."""
        (self.port,) = free_ports(1)
        return self.port


class Radpool(Mint):
    """Is our mint, whose work tokens are signed here with the seed that it tells."""

    name = "radpool"

    def start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.mint", "--dir", str(self.directory)],
            cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            preexec_fn=stay_on(self._cpus),  # noqa: PLW1509 - this process has one thread
        )  # fmt: skip
        self._process = process
        assert process.stdout is not None
        serving = read_line(process.stdout, self.name)
        self.port, self.durability = serving["port"], serving["durability"]
        seed = MintSeed.from_secret(bytes.fromhex(serving["seed"]))
        self._work = KeysetKeys.derive(seed, "work", serving["work"], 0, 64)
        return process

    def work_tokens(self, amounts: Sequence[int]) -> list[Token]:
        """Makes tokens of work, as their mint can."""
        kept = [secrets.token_hex(32) for _ in amounts]
        points = hash_to_curve([secret.encode() for secret in kept])
        signed = self._work.sign(list(zip(amounts, points, strict=True)))
        work = self._work.id.hex()
        return [
            Token(amount, work, secret, signature)
            for amount, secret, (signature, _, _) in zip(amounts, kept, signed, strict=True)
        ]

    def redeem(self, tokens: Sequence[Token], amounts: Sequence[int]) -> Request:
        """Makes a request that turns work tokens into sats; a unit is worth one."""
        inputs = [token.json() for token in tokens]
        path, work = "/work/v1/redeem", self._work.id.hex()
        return Request.make(path, self.keyset, amounts, keyset_id=work, inputs=inputs)

    def issue(self, amounts: Sequence[int], count: int) -> list[Request]:
        paid = [self.work_tokens([sum(amounts)]) for _ in range(count)]
        return [self.redeem(tokens, amounts) for tokens in paid]


class Peer(Mint):
    """Is a mint that issues for invoices, which its fake wallet calls paid."""

    def issue(self, amounts: Sequence[int], count: int) -> list[Request]:
        asked = {"amount": sum(amounts), "unit": "sat"}
        quotes = [self.ask("POST", "/v1/mint/quote/bolt11", asked)["quote"] for _ in range(count)]
        for quote in quotes:
            self._wait_until_paid(quote)
        return [
            Request.make("/v1/mint/bolt11", self.keyset, amounts, quote=quote) for quote in quotes
        ]

    def _wait_until_paid(self, quote: str) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.ask("GET", f"/v1/mint/quote/bolt11/{quote}")["state"] == "PAID":
                return
            time.sleep(0.05)
        raise BenchmarkError(f"{self.name}: its fake wallet does not pay")


class Nutshell(Peer):
    """Is Cashu's reference mint, by its documented command."""

    name = "nutshell"

    def start(self) -> subprocess.Popen[str]:
        return self.popen(
            NUTSHELL / "bin" / "mint", "--host", HOST, "--port", str(self.take_port()),
            HOME=str(self.directory), CASHU_DIR=str(self.directory),
            MINT_DATABASE=str(self.directory / "mint"), MINT_PRIVATE_KEY="benchmark",
            MINT_BACKEND_BOLT11_SAT="FakeWallet", FAKEWALLET_DELAY_INCOMING_PAYMENT="0",
            MINT_QUOTE_BACKEND_CHECK_RATE_LIMIT="0", MINT_INPUT_FEE_PPK="0",
            MINT_RATE_LIMIT="FALSE", LOG_LEVEL="ERROR", TOR="FALSE",
        )  # fmt: skip


class Cdk(Peer):
    """Is cdk-mintd."""

    name = "cdk-mintd"

    def start(self) -> subprocess.Popen[str]:
        config = self.directory / "config.toml"
        config.write_text(CDK_CONFIG.format(host=HOST, port=self.take_port()))
        program, work = os.environ["CDK_MINTD"], self.directory / "work"
        work.mkdir()
        words = [program, "--work-dir", str(work)]
        environment = {"BENCHMARK_MNEMONIC": MNEMONIC}
        subprocess.run(
            [*words, "config", "init", "--new-mint", "--file", str(config)],
            env=os.environ | environment, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        return self.popen(*words, **environment)

"""Nutshell's wallet, a program by others, keeps sats of our mint.

`make test` installs it into an environment of its own; here it runs as it would on a user's
machine, by its command line.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import trio

from radpool_sv2._native.ecash import KeysetKeys, MintSeed, blind, unblind
from radpool_sv2._native.ledger import MspKey
from radpool_sv2.config.ecash import EcashSection
from radpool_sv2.ecash.keyset import ChainTip
from radpool_sv2.ecash.mint import Mint
from radpool_sv2.store import SqliteStore
from radpool_sv2.wallet.token import Handed, HandedToken, decode_token, encode_token
from radpool_sv2.web import serve_http

CASHU = Path(__file__).parents[2] / ".venv-nutshell" / "bin" / "cashu"
COMMAND_SECONDS_MAX = 300
"""Some ten times what its longest command takes where nothing else runs: it is slow to start."""

POOL = SimpleNamespace(
    ledger=SimpleNamespace(epochs=None, blocks=None, accounts=None),
    declarers=None,
    registrations=None,
    sv1_clients=None,
)
"""The mint's side of the API does not look at the pool."""

CHAIN = SimpleNamespace(tip=ChainTip(100, bytes(32)), block_target=b"\xff" * 32)

pytestmark = pytest.mark.slow


@dataclass
class Bank:
    """Our mint behind HTTP, and its secret keys."""

    url: str
    mint: Mint
    keys: KeysetKeys

    def token(self, *amounts: int) -> str:
        """Makes sats out of nothing, as only a mint can."""
        public = dict(self.mint.sat_keys)
        proofs = []
        for amount in amounts:
            secret, r = secrets.token_hex(32), secrets.token_bytes(32)
            [message] = blind([(secret.encode(), r)])
            [(signature, _, _)] = self.keys.sign([(amount, message)])
            [c] = unblind([(signature, r, public[amount])])
            proofs.append(Handed(self.mint.sat_keyset.id, amount, secret, c))
        return encode_token(HandedToken(self.url, "sat", "mined", tuple(proofs)))

    async def spend(self, token: str) -> httpx.Response:
        """Swaps what a token holds for outputs of our own."""
        handed = decode_token(token)
        keyset = self.mint.sat_keyset.id.hex()
        bits = [bit for bit in range(64) if handed.amount >> bit & 1]
        messages = blind([(secrets.token_bytes(32), secrets.token_bytes(32)) for _ in bits])
        inputs = [
            {"amount": p.amount, "id": keyset, "secret": p.secret, "C": p.signature.hex()}
            for p in handed.proofs
        ]
        outputs = [
            {"amount": 1 << bit, "id": keyset, "B_": message.hex()}
            for bit, message in zip(bits, messages, strict=True)
        ]
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as http:
            return await http.post("/v1/swap", json={"inputs": inputs, "outputs": outputs})


@asynccontextmanager
async def opened(directory: Path):
    key, seed = MspKey.generate(), MintSeed.generate()
    store = SqliteStore(directory / "l.sqlite", owner=key.public, time_ms=0)
    settings = EcashSection(enabled=True)
    mint = await Mint.open(store, key, seed, settings, CHAIN, confirmations=6)
    await mint.start()
    keys = KeysetKeys.derive(seed, "sat", mint.sat_keyset.number, 0, 64)
    assert keys.id == mint.sat_keyset.id
    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_http, POOL, "127.0.0.1", 0, mint=mint, requests_max=64, request_deadline_s=60
        )
        host, port = await nursery.start(serve)
        yield Bank(f"http://{host}:{port}", mint, keys)
        nursery.cancel_scope.cancel()
    store.close()


class Wallet:
    """One wallet of nutshell's command line."""

    def __init__(self, url: str, directory: Path):
        directory.mkdir()
        self.url = url
        self.directory = directory

    async def run(self, *words: str, stdin: str = "") -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "CASHU_DIR": str(self.directory),
            "MINT_URL": self.url,
            "TOR": "FALSE",
        }
        with trio.fail_after(COMMAND_SECONDS_MAX):
            done = await trio.run_process(
                [str(CASHU), "-h", self.url, "-y", *words],
                stdin=stdin.encode(),
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=environment,
                cwd=self.directory,
            )
        return done.stdout.decode() + done.stderr.decode()

    async def balance(self) -> int:
        said = await self.run("balance")
        found = re.search(r"Balance: ([0-9,]+) sat", said)
        assert found, said
        return int(found[1].replace(",", ""))


async def test_nutshell_receives_sends_and_restores_our_sats(tmp_path):
    async with opened(tmp_path) as bank:
        alice = Wallet(bank.url, tmp_path / "alice")
        said = await alice.run("info", "--mint")
        assert f"ID: {bank.mint.sat_keyset.id.hex()}  unit: sat  active: True" in said
        # The keysets of work are not for it: a unit that it does not know would stop it for good.
        assert said.count("unit:") == 1
        assert "Mint name: radpool-sv2" in said
        assert "Supported NUTS: NUT-4, NUT-5, NUT-7, NUT-9, NUT-12" in said

        token = bank.token(1, 2, 64, 4096)
        assert "Received 4163 sat" in await alice.run("receive", token)
        assert await alice.balance() == 4163
        # It has swapped the token: whoever else has it comes too late, and so does it itself.
        assert "Code: 11001" in await alice.run("receive", token)
        late = await bank.spend(token)
        assert (late.status_code, late.json()["code"]) == (400, 11001)

        sent = re.search(r"cashuB\S+", await alice.run("send", "128"))[0]
        assert (await bank.spend(sent)).status_code == 200
        assert (await bank.spend(sent)).json()["code"] == 11001
        assert await alice.balance() == 4035

        words = re.search(r"Mnemonic:\s+- (.+)", await alice.run("info", "--mnemonic"))[1]
        found = Wallet(bank.url, tmp_path / "found")
        said = await found.run("restore", stdin=f"{words}\n")
        assert "Balance: 4035 sat" in said, said
        # What was restored can be spent: it goes back to the first wallet.
        back = re.search(r"cashuB\S+", await found.run("send", "4035"))[0]
        bob = Wallet(bank.url, tmp_path / "bob")
        assert "Received 4035 sat" in await bob.run("receive", back)


async def test_nutshell_refuses_a_token_that_was_not_signed_with_our_keys(tmp_path):
    """attack: A7"""
    async with opened(tmp_path) as bank:
        wallet = Wallet(bank.url, tmp_path / "wallet")
        handed = decode_token(bank.token(8))
        [proof] = handed.proofs
        # The signature of another amount's key: the mint refuses it, the wallet has nothing.
        forged = Handed(proof.keyset, 16, proof.secret, proof.signature)
        token = encode_token(HandedToken(bank.url, "sat", "", (forged,)))
        assert "Code: 10001" in await wallet.run("receive", token)
        assert await wallet.balance() == 0

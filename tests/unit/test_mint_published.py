"""A share's money from the ledger through the real mint and its HTTP interface to the verifier."""

from __future__ import annotations

import json
import random
import secrets
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

import httpx
import pytest
import trio
from shares import Owner, Share, ShareBatch

from radpool_sv2._native.ecash import (
    KeysetKeys,
    blind,
    unblind,
    verify_signature_dleqs,
)
from radpool_sv2.cli import app
from radpool_sv2.cli.claim import _ask
from radpool_sv2.config import MspConfig, load
from radpool_sv2.config.ecash import EcashSection
from radpool_sv2.ecash.export import claimed_batches, export_keysets, published_keysets
from radpool_sv2.ecash.keyset import ChainTip
from radpool_sv2.ecash.mint import Mint
from radpool_sv2.ecash.policy import Policy
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.token import Output, Proof
from radpool_sv2.errors import FaultyMSPError
from radpool_sv2.installation import CONFIG_NAME, install_msp
from radpool_sv2.keyfile import load_keys, load_mint_seed
from radpool_sv2.ledger.books import Books
from radpool_sv2.ledger.export import export_epoch
from radpool_sv2.store import SqliteStore
from radpool_sv2.store import ecash_token as tokens
from radpool_sv2.verify import verify_export
from radpool_sv2.verify.statement import read_statement
from radpool_sv2.web import serve_http

Z0 = 1
POLICIES = (Policy.NETWORK, Policy.POOL, Policy.WINDOW)
VALUE_SATS = 5_000_000_000
POOL = SimpleNamespace(
    ledger=SimpleNamespace(epochs=None, blocks=None, accounts=None),
    declarers=None,
    registrations=None,
    sv1_clients=None,
)


@dataclass
class Chain:
    tip: ChainTip = field(default_factory=lambda: ChainTip(100, b"\x22" * 32))
    block_target: bytes = b"\xff" * 32
    unix_ms: int = 1_700_000_000_000


@dataclass
class Token:
    """What a wallet knows of one token."""

    amount: int
    secret: str
    r: bytes
    blinded: bytes
    c: bytes = b""


def token(amount: int) -> Token:
    secret, r = secrets.token_hex(32), secrets.token_bytes(32)
    [blinded] = blind([(secret.encode(), r)])
    return Token(amount, secret, r, blinded)


class Claims:
    """Stores claims with a batch, as the extension does."""

    def __init__(self, number: int, claims: list[tuple[int, Token]]):
        self.number, self.claims = number, claims

    def store(self, connection, sequence, excluded):
        rows = [
            (
                tokens.claim_id(sequence, place),
                own.blinded,
                self.number,
                own.amount.bit_length() - 1,
            )
            for place, own in self.claims
        ]
        assert tokens.add_claims(connection, rows) == []
        tokens.count_claims(connection, tokens.new_sums(connection, sequence))


class Msp:
    """A mint, its ledger, and the miners of one policy."""

    def __init__(self, node, store, key, seed, mint, chain):
        self.node, self.store, self.key, self.seed = node, store, key, seed
        self.mint, self.chain = mint, chain
        self.books = Books(store, key, maturity_blocks=1, unix_ms=lambda: 1_700_000_000_000)
        self.ntime = 1_700_000_000

    def mine(self, policy: Policy, *exponents: int, epoch: int = 1) -> tuple[list[Token], Share]:
        """Commits a batch of claimed shares; returns their tokens and the last share."""
        owner = self.mint.owner(policy)
        shares, claims = [], []
        for place, z in enumerate(exponents):
            self.ntime += 1
            tag = Owner(owner.commitment, epoch, 1, owner.account)
            shares.append(Share(tag, z=z, ntime=self.ntime).mined(self.key.public))
            claims.append((place, token(1 << z - Z0)))
        enclosure = Claims(self.mint.current(policy).number, claims)
        self.books.commit(ShareBatch(shares), [enclosure])
        return [own for _, own in claims], shares[-1]

    def block(self, share: Share) -> bytes:
        block = share.hash(self.key.public)
        self.books.record_block(block, share.template.height, VALUE_SATS, share.owner.account)
        return block

    async def settle(self, active: dict) -> None:
        self.books.reconcile(active)
        for _ in range(2):
            self.chain.tip = ChainTip(self.chain.tip.height + 1, secrets.token_bytes(32))
            # Beyond the time in which closed keysets take late claims.
            self.chain.unix_ms += 600_000
            await self.mint.advance()


@pytest.fixture
async def msp(tmp_path):
    node = tmp_path / "node"
    install_msp(node)
    config = load(MspConfig, node / CONFIG_NAME)
    key, seed, chain = load_keys(config.keys).msp, load_mint_seed(config.keys), Chain()
    store = SqliteStore(config.ledger.file, owner=key.public, time_ms=0)
    settings = EcashSection(
        enabled=True,
        unit_exponent=Z0,
        policies=("pool", "window", "network"),
        coinbase_maturity=3,
        advance_cap_sats=100_000_000_000,
        slice_seconds_min=0,
        fee_ppm=10_000,
    )
    mint = await Mint.open(
        store,
        key,
        seed,
        settings,
        chain,
        confirmations=1,
        unix_ms=lambda: chain.unix_ms,
    )
    await mint.start()
    yield Msp(node, store, key, seed, mint, chain)
    store.close()


@asynccontextmanager
async def served(mint):
    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_http, POOL, "127.0.0.1", 0, mint=mint, requests_max=64, request_deadline_s=60
        )
        host, port = await nursery.start(serve)
        url = f"http://{host}:{port}"
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            yield http, url
        nursery.cancel_scope.cancel()


async def keys_of(http, keyset: str) -> dict[int, bytes]:
    """Reads the public keys out of an announcement (0x09): 64 of `(z, A)` behind fixed fields."""
    row = (await http.get(f"/work/v1/keysets/{keyset}")).json()
    data = bytes.fromhex(row["announcement"])
    at = 1 + data[0]
    at += 1 + data[at]  # unit
    at += 1 + 4 + 4 + 32  # policy, epoch, height, block
    z0, count = data[at], data[at + 1]
    at += 2
    keys = {}
    for _ in range(count):
        z, length = data[at], data[at + 1]
        keys[1 << z - z0] = data[at + 2 : at + 2 + length]
        at += 2 + length
    return keys


async def collect(http, keyset: str, own: list[Token], signatures=None) -> None:
    """Fetches the signatures of tokens, checks each and unblinds it."""
    if signatures is None:
        body = {"keyset_id": keyset, "claims": [each.blinded.hex() for each in own]}
        answer = (await http.post("/work/v1/claims", json=body)).json()
        assert (answer["pending"], answer["unknown"]) == ([], [])
        signatures = answer["signatures"]
    keys = await keys_of(http, keyset)
    for each, row in zip(own, signatures, strict=True):
        assert row["amount"] == each.amount
        parts = [bytes.fromhex(text) for text in (row["C_"], row["dleq"]["e"], row["dleq"]["s"])]
        assert verify_signature_dleqs([(keys[each.amount], each.blinded, *parts)]) == [True]
        [each.c] = unblind([(parts[0], each.r, keys[each.amount])])


def inputs_of(keyset: str, own: list[Token]) -> list[dict]:
    return [
        {"amount": each.amount, "id": keyset, "secret": each.secret, "C": each.c.hex()}
        for each in own
    ]


def outputs_of(keyset: str, own: list[Token]) -> list[dict]:
    return [{"amount": each.amount, "id": keyset, "B_": each.blinded.hex()} for each in own]


def split(amount: int) -> list[Token]:
    return [token(1 << bit) for bit in range(amount.bit_length()) if amount >> bit & 1]


async def test_from_shares_to_sats_and_every_step_can_be_checked(msp, tmp_path):
    """spec: ES-11, ES-20, ES-22, ES-23"""
    keyset = msp.mint.current(Policy.POOL).id.hex()
    alice, _ = msp.mine(Policy.POOL, 1, 3, 4)
    bob, found = msp.mine(Policy.POOL, 3)
    block = msp.block(found)
    late, _ = msp.mine(Policy.POOL, 2)
    await msp.settle({block: 1})
    theta = VALUE_SATS * 1000 * 99 // 100
    units = sum(each.amount for each in [*alice, *bob, *late])
    async with served(msp.mint) as (http, url):
        row = (await http.get(f"/work/v1/keysets/{keyset}")).json()
        assert (row["state"], row["theta_msat"], row["work"]) == ("final", theta, units)
        info = (await http.get("/work/v1/info")).json()
        await collect(http, keyset, alice)
        # Work tokens into one, then into sats, exactly.
        merged = split(sum(each.amount for each in alice))
        body = {
            "keyset_id": keyset,
            "inputs": inputs_of(keyset, alice),
            "outputs": outputs_of(keyset, merged),
        }
        answer = (await http.post("/work/v1/swap", json=body)).json()
        await collect(http, keyset, merged, answer["signatures"])
        sats = theta * sum(each.amount for each in merged) // units // 1000
        paid = split(sats)
        body = {
            "keyset_id": keyset,
            "inputs": inputs_of(keyset, merged),
            "outputs": outputs_of(info["sat_keyset"], paid),
        }
        answer = await http.post("/work/v1/redeem", json=body)
        again = await http.post("/work/v1/redeem", json=body)
        assert answer.json() == again.json()
        assert (answer.json()["price_num"], answer.json()["price_den"]) == (theta, units)
        await collect(http, info["sat_keyset"], paid, answer.json()["signatures"])
        # The tokens that were merged are spent, and so is the merged one.
        ys = [y.hex() for y in KeysetKeys.ys([each.secret for each in [*alice, *merged, *paid]])]
        states = (await http.post("/work/v1/checkstate", json={"Ys": ys})).json()["states"]
        spent = len(alice) + len(merged)
        assert [s["state"] for s in states] == ["SPENT"] * spent + ["UNSPENT"] * len(paid)
        body["outputs"] = outputs_of(info["sat_keyset"], split(sats))
        refused = await http.post("/work/v1/redeem", json=body)
        assert (refused.status_code, refused.json()["error"]) == (400, "already-spent")
        # Sats like any others.
        change = split(sats)
        swap = {
            "inputs": inputs_of(info["sat_keyset"], paid),
            "outputs": outputs_of(info["sat_keyset"], change),
        }
        assert (await http.post("/v1/swap", json=swap)).status_code == 200
        double = await http.post(
            "/v1/swap", json=swap | {"outputs": outputs_of(info["sat_keyset"], split(sats))}
        )
        assert (double.status_code, double.json()["code"]) == (400, 11001)
        restored = (await http.post("/v1/restore", json={"outputs": swap["outputs"]})).json()
        assert [row["amount"] for row in restored["outputs"]] == [t.amount for t in change]
        figures = await msp.mint.figures()
        assert figures["liabilities_sats"] == sats
        assert figures["theta_msat"] == theta
        assert figures["tokens"]["final"] == units
        metrics = (await http.get("/work/v1/keysets")).json()
        assert metrics["total"] >= 3
        # Everybody's claims are in what the mint has signed.
        wanted = [each.blinded for each in [*alice, *bob, *late]]
        search = await trio.to_thread.run_sync(_ask, url, msp.key.public, wanted)
        assert (list(search.found), search.missing) == (wanted, {})
        assert sum(found.units for found in search.found.values()) == units
        search = await trio.to_thread.run_sync(_ask, url, msp.key.public, [token(1).blinded])
        assert search.found == {}
        with pytest.raises(FaultyMSPError, match="another MSP"):
            await trio.to_thread.run_sync(_ask, url, bytes(32), wanted[:1])
        document = (await http.get(f"/work/v1/statements/{keyset}")).content
        assert read_statement(document, msp.key.public, "").claims == 5
    report = export(msp, tmp_path / "export", 1, wanted)
    told = {each.keyset.hex(): each for each in report.keysets}
    assert (told[keyset].claims, told[keyset].work, told[keyset].theta_msat) == (5, units, theta)
    assert set(report.found) == set(wanted)
    assert not [note for note in report.notes if "ecash" in note], report.notes


def export(msp, directory, epoch, find=()):
    published = []

    def reach(epochs):
        published.extend(published_keysets(msp.store, epochs))
        return claimed_batches(published)

    export_epoch(msp.store, msp.key, directory, epoch, reach)
    export_keysets(directory, published)
    return verify_export(directory, find=find)


async def test_a_reorg_and_three_policies_verify(msp, tmp_path):
    """spec: ES-16, ES-23"""
    for policy in (Policy.POOL, Policy.WINDOW, Policy.NETWORK):
        msp.mine(policy, 2, 3)
    _, found = msp.mine(Policy.POOL, 1)
    orphan = msp.block(found)
    await msp.settle({orphan: 1})
    for policy in (Policy.POOL, Policy.WINDOW, Policy.NETWORK):
        msp.mine(policy, 1, 2, epoch=2)
    _, found = msp.mine(Policy.WINDOW, 3, epoch=2)
    block = msp.block(found)
    await msp.settle({orphan: None, block: 1})
    for policy in (Policy.POOL, Policy.WINDOW):
        _, found = msp.mine(policy, 4, 4, epoch=3)
    last = msp.block(found)
    await msp.settle({block: 2, last: 1})
    seen = {}
    for epoch in (1, 2, 3):
        report = export(msp, tmp_path / str(epoch), epoch)
        for each in report.keysets:
            fields = json.loads((await msp.mint.statement(each.keyset)).document)["statement"]
            assert fields["theta_msat"] == each.theta_msat
            seen[each.keyset] = (each.policy, fields)
    # A slice that has a price, and one that a reversal has left without.
    assert {policy for policy, _ in seen.values()} == {"pool", "window", "network"}
    rows = [[row["reverses"] for row in fields["settlements"]] for _, fields in seen.values()]
    assert [None, 1, None] in rows
    # What the policies brought is what the keysets have, and what was kept or is carried.
    figures = await msp.mint.figures()
    accounts = {msp.mint.owner(policy).account for policy in Policy}
    brought = sum(
        sats for (account, rail), sats in msp.store.balances().items() if account in accounts
    )
    assert brought * 1000 == figures["theta_msat"] + figures["fee_msat"] + figures["carry_msat"]


async def test_a_share_resubmitted_in_a_later_epoch_is_in_its_keyset(msp, tmp_path):
    """spec: ES-22: an export reaches back to the shares of its claims"""
    owner = msp.mint.owner(Policy.POOL)
    unclaimed = Share(Owner(owner.commitment, 1, 1, owner.account), z=3, ntime=5)
    unclaimed = unclaimed.mined(msp.key.public)
    msp.books.commit(ShareBatch([unclaimed]))
    header_hash = unclaimed.hash(msp.key.public)
    with msp.store.change() as connection:
        tokens.add_unclaimed(connection, [(header_hash, 0, 0, msp.chain.unix_ms, 1_000)])
    _, found = msp.mine(Policy.POOL, 2)
    first = msp.block(found)
    await msp.mint.advance()
    _, found = msp.mine(Policy.POOL, 1, epoch=2)
    own = token(4)
    view = msp.mint.current(Policy.POOL)
    repeated = SimpleNamespace(
        data=b"\x08" + view.short + b"\x21" + own.blinded,
        tlvs=False,
        account=owner.account,
        epoch=1,
        height=101,
        exponent=3,
        hash=header_hash,
        connection=1,
        channel=1,
        sequence=9,
    )
    await msp.mint.claim_repeated(repeated)
    second = msp.block(found)
    await msp.settle({first: 1, second: 1})
    report = export(msp, tmp_path / "export", 2, [own.blinded])
    assert report.found[own.blinded].share_hash == header_hash
    assert report.batches == 3


async def test_the_commands_export_and_verify_while_the_node_runs(msp, tmp_path, capsys):
    """spec: ES-22, ES-23"""
    own, found = msp.mine(Policy.POOL, 1, 4)
    keyset = msp.mint.current(Policy.POOL).id.hex()
    await msp.settle({msp.block(found): 1})
    mine = tmp_path / "mine"
    mine.write_text("\n".join(each.blinded.hex() for each in own))

    def run(*words: object) -> str:
        app([str(word) for word in words], result_action="return_value")
        return capsys.readouterr().out

    def commands() -> None:
        to = tmp_path / "export"
        said = run("verify", "export", 1, "--dir", msp.node, "--to", to)
        assert "batches: 1, ecash keysets: 1" in said
        assert f"{keyset}  pool (final): claims 2, units 9, msat" in run("verify", to)
        assert "2 of 2 claims are counted" in run("verify", "claim", mine, "--export", to)

    # Each command runs an event loop of its own.
    await trio.to_thread.run_sync(commands)


class Life:
    """Lets a mint live through a random history and remembers its wallets."""

    def __init__(self, msp, seed):
        self.msp, self.random = msp, random.Random(seed)
        self.active: dict[bytes, int | None] = {}
        self.tokens: dict[bytes, list[Token]] = {}

    def mine(self) -> Share:
        policy = self.random.choice(POLICIES)
        keyset = self.msp.mint.current(policy).id
        exponents = [self.random.randint(1, 4) for _ in range(self.random.randint(1, 4))]
        epoch = self.msp.books.current_epoch
        own, last = self.msp.mine(policy, *exponents, epoch=epoch)
        self.tokens.setdefault(keyset, []).extend(own)
        return last

    async def block(self) -> None:
        self.active[self.msp.block(self.mine())] = 0
        await self.tip()

    async def orphan(self) -> None:
        if self.active:
            self.active[self.random.choice(list(self.active))] = None
        await self.msp.settle(dict(self.active))

    async def tip(self) -> None:
        self.active = {b: None if n is None else n + 1 for b, n in self.active.items()}
        await self.msp.settle(dict(self.active))

    async def redeem(self) -> None:
        keyset = self.random.choice([b"", *self.tokens])
        some = self.tokens.get(keyset, [])[: self.random.randint(1, 5)]
        view = await self.msp.mint.find_keyset(keyset)
        if not some or not view.price_den:
            return
        fetched = await self.msp.mint.fetch(keyset, [own.blinded for own in some])
        public = dict(KeysetKeys.derive(self.msp.seed, "work", view.number, 0, 64).public)
        proofs = [
            Proof(own.amount, own.secret, *unblind([(found.signature, own.r, public[own.amount])]))
            for own, found in zip(some, fetched.signatures, strict=True)
        ]
        units = sum(own.amount for own in some)
        sats = view.price_num * units // view.price_den // 1000
        outputs = [
            Output(own.amount, self.msp.mint.sat_keyset_id, own.blinded) for own in split(sats)
        ]
        with suppress(RefusedError):
            await self.msp.mint.redeem(keyset, proofs, outputs)
            self.tokens[keyset] = [own for own in self.tokens[keyset] if own not in some]


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_verifies(msp, tmp_path, seed):
    """attack: A12, A20. spec: ES-23"""
    life = Life(msp, seed)
    for _ in range(25):
        step = life.random.choice(("mine", "mine", "block", "tip", "orphan", "redeem", "day"))
        if step == "mine":
            life.mine()
            await msp.mint.advance()
        elif step == "day":
            msp.chain.unix_ms += 30 * 86_400_000
            await msp.mint.advance()
        else:
            await getattr(life, step)()
    # The mint signs some statements at a time.
    for _ in range(12):
        msp.chain.unix_ms += 2_000
        await msp.mint.advance()
    for epoch in range(1, msp.books.current_epoch + 1):
        export(msp, tmp_path / str(epoch), epoch)

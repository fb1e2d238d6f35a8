"""Our miner for ecash against pools on real sockets: honest ones, and each kind of cheat.

What the side does with each message is tested in `tests/unit/test_ecash_client.py`; here it runs
with the native miner, real proofs of work, a real wallet and the command line.
"""

import json
from contextlib import asynccontextmanager

import pytest
import trio
from miner_rig.mint import Keyset, ScriptedMint, answer, fetched_signature
from miner_rig.pool import Pool, Z, sign
from radpool_sv2_extensions.ecash import message as wire
from radpool_sv2_extensions.ecash.client import EcashMiner

from radpool_sv2._native.keys import AuthorityPublicKey
from radpool_sv2._native.miner import Miner
from radpool_sv2.cli.miner import _run, miner
from radpool_sv2.errors import ConfigError, RemoteProtocolError
from radpool_sv2.miner.side import SideOptions
from radpool_sv2.wallet import Wallet

K = 3
QUIET_S = 0.5
"""So long nothing more may come: a miner that went on would find some thirty shares meanwhile."""


class View:
    """Shows nothing, and ends the run once `enough` says so."""

    def __init__(self, enough):
        self.enough = enough
        self.scope = trio.CancelScope()
        self.notes = []

    def __enter__(self):
        self.scope.__enter__()

    def __exit__(self, *error):
        return self.scope.__exit__(*error)

    def update(self, stats, events, side=None):
        self.notes += [text for _, text in events]
        if self.enough(stats, side):
            self.scope.cancel()

    def finish(self, stats, events, side=None):
        self.notes += [text for _, text in events]
        self.stats = stats


@asynccontextmanager
async def serving(pool):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.serve)
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
async def listener():
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    yield listener
    await listener.aclose()


@pytest.fixture
async def wallet(tmp_path):
    wallet = await Wallet.create(tmp_path / "wallet")
    yield wallet
    await wallet.close()


def make_side(wallet, tmp_path, mint_url=None):
    options = SideOptions(
        directory=tmp_path / "wallet",
        policy=None,
        sign_mode="eager",
        unsigned_max=K,
        mint_url=mint_url,
    )
    return EcashMiner(wallet, options)


async def mine(pool, side, enough):
    """Mines until it is enough; returns what the command line would have told."""
    host, port = pool.address[:2]
    machine = Miner(
        host=host,
        port=port,
        authority=AuthorityPublicKey.from_text(pool.identity.authority_text()),
        user="alice",
        kind="extended",
        threads=1,
        hash_rate_limit=20_000,
        carrier=side.carrier,
    )
    view, fault = View(enough), None
    with trio.fail_after(120):
        async with serving(pool):
            try:
                await _run(machine, view, None, side)
            except RemoteProtocolError as error:
                fault = error
    if fault is not None:
        raise fault
    return view


async def test_each_share_becomes_a_token_of_the_wallet(listener, wallet, tmp_path):
    pool = Pool(listener)
    side = make_side(wallet, tmp_path)
    view = await mine(pool, side, lambda _, side: side.figures()["tokens"] >= 20)
    figures = side.figures()
    assert figures["tokens"] == len(pool.shares) == view.stats.accepted >= 20
    assert figures["units"] == 16 * figures["tokens"]
    assert (figures["unsigned"], figures["held"], view.stats.mismatches) == (0, None, 0)
    claims = [share.claim.blinded for share in pool.shares]
    assert len(set(claims)) == len(claims)
    missing = {output.blinded for output in await wallet.missing(pool.keyset.id)}
    assert not missing & set(claims)


async def test_pool_that_never_signs_gets_k_shares(listener, wallet, tmp_path):
    """attack: A8

    spec: RC-14
    """

    async def accept_only(pool, share):
        await pool.send(answer([], last=share.sequence_number, count=1, z=Z))

    pool = Pool(listener, accept_only)
    side = make_side(wallet, tmp_path)
    quiet = []

    def enough(stats, side):
        quiet.append(trio.current_time())
        held = side.figures()["held"] is not None
        if not held:
            quiet.clear()
        return held and pool.fetches and quiet[-1] - quiet[0] > QUIET_S

    view = await mine(pool, side, enough)
    assert len(pool.shares) == K
    assert any("nothing more is submitted: 3 shares have no token" in note for note in view.notes)
    asked = {claim for fetch in pool.fetches for claim in fetch.claims}
    assert asked and asked <= {share.claim.blinded for share in pool.shares}


async def test_pool_that_signs_with_the_wrong_key_gets_no_second_look(listener, wallet, tmp_path):
    """attack: A7

    spec: RC-13
    """

    async def cheat(pool, share):
        signature = pool.keyset.sign(share.claim.blinded, Z - 1)
        await pool.send(answer([wire.Receipt(share.sequence_number, Z, *signature)], z=Z))

    pool = Pool(listener, cheat)
    side = make_side(wallet, tmp_path)
    with pytest.raises(RemoteProtocolError, match="not by the announced keys"):
        await mine(pool, side, lambda *_: False)
    assert len(pool.shares) <= K, "no more than were under way"
    assert side.figures()["tokens"] == 0


async def test_keyset_whose_id_is_wrong_gets_no_share(listener, wallet, tmp_path):
    """attack: A6

    spec: RC-8, EW-8
    """
    mint = ScriptedMint()
    pool = Pool(listener, mint=mint, announced=mint.open(keyset_id=b"\x01" + bytes(32)))
    with pytest.raises(RemoteProtocolError, match="its keys are those of"):
        await mine(pool, make_side(wallet, tmp_path), lambda *_: False)
    assert not pool.shares


async def serve_list(listener, keysets):
    """Answers HTTP requests with a list of keysets."""
    rows = [
        {
            "id": keyset.id.hex(),
            "policy": "window",
            "state": "open",
            "announcement": keyset.payload.hex(),
        }
        for keyset in keysets
    ]
    body = json.dumps({"total": len(rows), "keysets": rows}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"

    async def handle(stream):
        request = await stream.receive_some(4096)
        assert request.startswith(b"GET /work/v1/keysets?")
        await stream.send_all(head.encode() + body)
        await stream.aclose()

    await trio.serve_listeners(handle, [listener])


@pytest.fixture
async def mint_listener():
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    yield listener
    await listener.aclose()


def url_of(listener):
    return f"http://127.0.0.1:{listener.socket.getsockname()[1]}"


async def test_keyset_of_one_connection_gets_no_share(
    listener, mint_listener, wallet, tmp_path, nursery
):
    """attack: A6. Everybody else is shown another keyset."""
    mint = ScriptedMint()
    public, marked = mint.open(), mint.open()
    nursery.start_soon(serve_list, mint_listener, [public])
    pool = Pool(listener, mint=mint, announced=marked)
    side = make_side(wallet, tmp_path, url_of(mint_listener))
    with pytest.raises(RemoteProtocolError, match="the mint's list at"):
        await mine(pool, side, lambda *_: False)
    assert not pool.shares


async def test_keyset_that_the_list_shows_is_mined_with(
    listener, mint_listener, wallet, tmp_path, nursery
):
    pool = Pool(listener)
    nursery.start_soon(serve_list, mint_listener, [pool.keyset])
    side = make_side(wallet, tmp_path, url_of(mint_listener))
    view = await mine(pool, side, lambda _, side: side.figures()["tokens"] >= 1)
    assert not any("warning" in note for note in view.notes)


async def test_keyset_that_another_mint_had_first_gets_no_share(listener, wallet, tmp_path):
    """attack: A18

    spec: RC-7
    """
    honest = ScriptedMint()
    keyset = honest.open()
    await wallet.trust(keyset.payload, honest.public_key)
    thief = ScriptedMint(seed=2)
    pool = Pool(listener, mint=thief, announced=thief.open(keys=keyset.keys))
    with pytest.raises(RemoteProtocolError, match="belongs to the mint"):
        await mine(pool, make_side(wallet, tmp_path), lambda *_: False)
    assert not pool.shares


async def test_fast_changes_of_keyset_are_told(listener, wallet, tmp_path):
    """attack: A9"""
    mint = ScriptedMint()
    tip = {"policy": 2, "opened_block": bytes(32)}
    keysets = [mint.open(**tip)]

    async def churn(pool, share):
        await sign(
            pool,
            share,
            keyset=next(keyset for keyset in keysets if keyset.id[:8] == share.claim.keyset_short),
        )
        keysets.append(mint.open(keysets[-1], **tip))
        await pool.send(keysets[-1].announcement)

    pool = Pool(listener, churn, mint=mint, announced=keysets[0])
    seen = []

    def enough(stats, side):
        return any("on one tip" in note for note in seen)

    view_of = make_side(wallet, tmp_path)
    events = view_of.events

    def listening():
        told = events()
        seen.extend(text for _, text in told)
        return told

    view_of.events = listening
    await mine(pool, view_of, enough)
    assert any("keysets of the policy window on one tip" in note for note in seen)


async def test_change_of_keyset_loses_no_token(listener, wallet, tmp_path):
    """Stale claims go out again for the successor, on the same connection.

    spec: EW-12
    """
    mint = ScriptedMint()
    first = mint.open()
    second = mint.open(first)
    refused = []

    async def rotate(pool, share):
        claim = share.claim
        if len(pool.shares) <= 5:
            return await sign(pool, share, keyset=first)
        if claim.keyset_short == first.id[:8]:
            refused.append(share.nonce)
            await pool.refuse(share, "stale-keyset")
            if len(refused) == 1:
                await pool.send(second.announcement)
            return None
        repeated = share.nonce in refused
        return await sign(pool, share, keyset=second, count=0 if repeated else 1)

    pool = Pool(listener, rotate, mint=mint, announced=first)
    side = make_side(wallet, tmp_path)
    view = await mine(pool, side, lambda _, side: side.figures()["tokens"] >= 15)
    figures = side.figures()
    assert refused and figures["refused"] == {"stale-keyset": len(refused)}
    assert view.stats.resent == len(refused)
    assert figures["tokens"] == len(pool.shares) - len(refused)
    assert figures["keyset"] == second.id.hex()
    assert (figures["unsigned"], view.stats.mismatches) == (0, 0)


async def test_lost_answers_are_fetched_on_the_next_connection(listener, wallet, tmp_path):
    """spec: RC-16"""
    taken = {}

    async def forget(pool, share):
        if pool.sessions > 1:
            return await sign(pool, share)
        taken[share.claim.blinded] = share
        if len(taken) == K:
            await pool.link.aclose()
        return None

    class Remembering(Pool):
        async def fetch(self, request):
            claims = list(enumerate(request.claims))
            await self.send(
                wire.RedeemSharesEcashSuccess(
                    request.request_id,
                    0,
                    tuple(
                        fetched_signature(self.keyset, index, blinded, Z)
                        for index, blinded in claims
                        if blinded in taken
                    ),
                    (),
                    tuple(index for index, blinded in claims if blinded not in taken),
                    0,
                    0,
                )
            )

    pool = Remembering(listener, forget)
    side = make_side(wallet, tmp_path)
    await mine(pool, side, lambda _, side: side.figures()["tokens"] >= K + 2)
    figures = side.figures()
    assert len(taken) == K and pool.sessions == 2
    assert figures["tokens"] == len(pool.shares)
    assert (figures["lost"], figures["gone"], figures["unsigned"]) == (0, 0, 0)


async def test_pool_without_the_extension_ends_the_run(listener, wallet, tmp_path):
    """spec: EW-1"""
    pool = Pool(listener)
    pool.speaks = False
    with pytest.raises(RemoteProtocolError, match="does not speak extension 4e45"):
        await mine(pool, make_side(wallet, tmp_path), lambda *_: False)
    assert not pool.shares


async def test_pool_that_refuses_the_terms_ends_the_run(listener, wallet, tmp_path):
    class Refusing(Pool):
        async def _open(self, request):
            await self.send(
                wire.OpenExtendedEcashMiningChannelError(request.request_id, "unsupported-policy")
            )

    pool = Refusing(listener)
    with pytest.raises(RemoteProtocolError, match="unsupported-policy"):
        await mine(pool, make_side(wallet, tmp_path), lambda *_: False)


def test_standard_channel_is_no_place_for_a_wallet(tmp_path):
    with pytest.raises(ConfigError, match="extended channel"):
        miner(connect="127.0.0.1:1", kind="standard", wallet=tmp_path)


def test_directory_without_a_wallet_is_named(tmp_path):
    with pytest.raises(ConfigError, match=str(tmp_path)):
        miner(connect="127.0.0.1:1", wallet=tmp_path / "none")


def test_rig_bends_what_it_signs():
    """The rig's own keysets are good unless a test bends them."""
    mint = ScriptedMint()
    assert isinstance(mint.open(), Keyset)
    assert mint.open(keyset_id=b"\x01" + bytes(32)).id != mint.open().id

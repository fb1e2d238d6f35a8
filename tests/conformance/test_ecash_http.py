"""The same mint over two ways: what the peer does on its connection is done for HTTP, too."""

from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
import trio
from ecash_pool import COINBASE_MATURITY, ecash_pool
from peer import ecash
from peer.ecash_session import POOL, WINDOW, RefusedError, powers_of_two
from test_ecash_peer import earn, final, find_block, visiting, wallet

from radpool_sv2.web import serve_http
from radpool_sv2.web.window import Window


@asynccontextmanager
async def over_http(pool):
    """Serves the mint's HTTP interface beside the pool."""
    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_http,
            Window(pool.pool, pool.config.mining.shares_per_minute),
            "127.0.0.1",
            0,
            mint=pool.mint,
            requests_max=16,
            request_deadline_s=60,
        )
        host, port = await nursery.start(serve)
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=60) as http:
            yield http
        nursery.cancel_scope.cancel()


def point_of(token):
    return ecash.encode(ecash.hash_to_curve(token.secret.encode())).hex()


def inputs_of(peer, tokens):
    units = {token: peer.keysets[token.keyset].units(token.z) for token in tokens}
    return [
        {
            "amount": units[token],
            "id": token.keyset.hex(),
            "secret": token.secret,
            "C": token.signature.hex(),
        }
        for token in tokens
    ]


def outputs_of(keyset, amounts, outputs):
    return [
        {"amount": amount, "id": keyset.hex(), "B_": output.blinded.hex()}
        for amount, output in zip(amounts, outputs, strict=True)
    ]


async def test_ordinary_wallets_see_nothing_but_sats(tmp_path):
    """spec: EW-31"""
    async with (
        ecash_pool(tmp_path) as pool,
        visiting(pool, wallet("ida")) as peer,
        over_http(pool) as http,
    ):
        channel = await peer.open_ecash(WINDOW)
        await earn(peer, channel, 1)
        sat = await peer.learn_keysets()
        for path in ("/v1/keysets", "/v1/keys"):
            shown = (await http.get(path)).json()["keysets"]
            assert [(row["id"], row["unit"]) for row in shown] == [(sat.hex(), "sat")]
        work = peer.terms[channel.id].keyset.hex()
        assert (await http.get(f"/v1/keys/{work}")).status_code == 400
        listed = (await http.get("/work/v1/keysets")).json()["keysets"]
        assert work in [row["id"] for row in listed]
        # The same announcement by both ways: nobody has keys of its own.
        [row] = [row for row in listed if row["id"] == work]
        assert row["announcement"] == peer.keysets[bytes.fromhex(work)].payload.hex()


async def test_claims_are_fetched_by_both_ways(tmp_path):
    """spec: EW-21, EW-32, RC-11

    attack: A6
    """
    async with (
        ecash_pool(tmp_path) as pool,
        visiting(pool, wallet("jo")) as peer,
        over_http(pool) as http,
    ):
        channel = await peer.open_ecash(WINDOW)
        await earn(peer, channel, 2)
        keyset = peer.terms[channel.id].keyset
        outputs = [peer.wallet.output(keyset, counter) for counter in range(3)]
        told = await peer.fetch(keyset, outputs)
        body = {"keyset_id": keyset.hex(), "claims": [out.blinded.hex() for out in outputs]}
        answer = (await http.post("/work/v1/claims", json=body)).json()
        assert (answer["pending"], answer["unknown"]) == ([], [2])
        assert [row["C_"] for row in answer["signatures"]] == [
            row["C_"].hex() for row in told["signatures"]
        ]


async def test_what_is_spent_by_one_way_is_spent_by_the_other(tmp_path):
    """spec: EW-24, EW-32, ES-11, WT-22

    attack: A1
    """
    async with (
        ecash_pool(tmp_path) as pool,
        visiting(pool, wallet("kim")) as peer,
        over_http(pool) as http,
    ):
        channel = await peer.open_ecash(POOL)
        keyset = peer.terms[channel.id].keyset
        await earn(peer, channel, 3)
        await find_block(pool, peer, channel)
        update = await final(pool, peer, keyset)
        await pool.chain.extend(COINBASE_MATURITY)
        await pool.until(lambda: pool.is_mature(keyset))
        sat = await peer.learn_keysets()
        work = [token for token in peer.tokens if token.keyset == keyset]
        price = update["theta_msat"], update["work_total"]

        # The first two by HTTP, whose answer the wire repeats and whose tokens it refuses.
        amounts = powers_of_two(ecash.worth_msat(*price, 2 << (channel.z - 4)) // 1000)
        outputs = [peer.output(sat) for _ in amounts]
        wanted = outputs_of(sat, amounts, outputs)
        body = {"keyset_id": keyset.hex(), "inputs": inputs_of(peer, work[:2]), "outputs": wanted}
        answer = (await http.post("/work/v1/redeem", json=body)).json()
        assert (answer["price_num"], answer["price_den"]) == price
        again = await peer.redeem_request(
            mode=1,
            keyset_id=keyset,
            inputs=[{"z": t.z, "secret": t.secret, "C": t.signature} for t in work[:2]],
            outputs=[
                {"amount": amount, "keyset_short": sat[:8], "B_": output.blinded}
                for amount, output in zip(amounts, outputs, strict=True)
            ],
        )
        assert [row["C_"].hex() for row in again["signatures"]] == [
            row["C_"] for row in answer["signatures"]
        ]
        with pytest.raises(RefusedError, match="already-spent"):
            await peer.spend(work[:2], sat, amounts)

        # The others by the wire; HTTP knows it.
        rest = work[2:]
        units = len(rest) << (channel.z - 4)
        amounts = powers_of_two(ecash.worth_msat(*price, units) // 1000)
        await peer.spend(rest, sat, amounts)
        wanted = outputs_of(sat, amounts, [peer.output(sat) for _ in amounts])
        body = {"keyset_id": keyset.hex(), "inputs": inputs_of(peer, rest), "outputs": wanted}
        refused = await http.post("/work/v1/redeem", json=body)
        assert (refused.status_code, refused.json()["error"]) == (400, "already-spent")
        points = [point_of(token) for token in work]
        states = (await http.post("/work/v1/checkstate", json={"Ys": points})).json()["states"]
        assert [(row["Y"], row["state"]) for row in states] == [
            (point, "SPENT") for point in points
        ]

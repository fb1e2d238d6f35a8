"""The mint's HTTP endpoints over a real socket, against a mint that is made of values."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import trio
from test_web import NOW_MS, SOON_S, Pool

from radpool_sv2.ecash.cash_out import CashedOut, Residue
from radpool_sv2.ecash.keyset import KeysetView
from radpool_sv2.ecash.policy import KeysetState, Policy
from radpool_sv2.ecash.refusal import RefusedError
from radpool_sv2.ecash.statement import Inclusion, SignedStatement
from radpool_sv2.ecash.token import BlindSignature, Fetched, Output, Proof, Redeemed, Restored
from radpool_sv2.errors import StoreError
from radpool_sv2.web import serve_http
from radpool_sv2.web.allowance import ADDRESSES_MAX, Allowance
from radpool_sv2.web.body import BODY_BYTES_MAX
from radpool_sv2.web.cashu_api import CashuApi
from radpool_sv2.web.work_api import WorkApi

POINT = "02" + "ab" * 32
OTHER = "03" + "cd" * 32
SAT = "01" + "5a" * 32
WORK = "01" + "77" * 32
E, S = b"\x0e" * 32, b"\x0f" * 32


def keyset(id_hex: str = WORK, **changes: Any) -> KeysetView:
    values: dict[str, Any] = {
        "id": bytes.fromhex(id_hex),
        "number": 7,
        "unit": "work",
        "policy": Policy.WINDOW,
        "state": KeysetState.FINAL,
        "z0": 20,
        "epoch": 3,
        "height": 120,
        "opened_ms": NOW_MS,
        "theta_msat": 5_000,
        "work": 12,
        "paid_msat": 1_000,
        "price_num": 5_000,
        "price_den": 12,
        "redeem_after_height": 220,
        "expires_at": 1_800_000_000,
        "announcement": b"\x09",
        "update": b"\x0b",
    }
    return KeysetView(**(values | changes))


SAT_KEYSET = keyset(SAT, unit="sat", policy=None, number=0, z0=0)


@dataclass
class Mint:
    public_key: bytes = bytes.fromhex(POINT)
    z0: int = 20
    sat_keyset: KeysetView = SAT_KEYSET
    sat_keys: tuple = tuple((1 << i, bytes.fromhex(OTHER)) for i in range(64))
    policies: tuple = (Policy.POOL, Policy.WINDOW)
    confirmations: int = 6
    settings: Any = field(default_factory=lambda: SimpleNamespace(coinbase_maturity=100))
    tip_height: int = 321
    refuse: Exception | None = None
    asked: list = field(default_factory=list)

    def answer(self, *asked):
        self.asked.append(asked)
        if self.refuse is not None:
            raise self.refuse

    async def find_keyset(self, keyset_id):
        known = {bytes.fromhex(WORK): keyset(), bytes.fromhex(SAT): SAT_KEYSET}
        return known.get(keyset_id)

    async def keysets(self, offset, limit):
        return 1, [keyset()][offset : offset + limit]

    async def fetch(self, keyset_id, claims):
        self.answer("fetch", keyset_id, claims)
        signature = BlindSignature(1, 4, bytes.fromhex(OTHER), E, S)
        return Fetched((signature,), (), (0,), 5_000, 12)

    async def spend(self, kind, inputs, outputs):
        self.answer(kind, inputs, outputs)
        signatures = [
            BlindSignature(index, output.amount, bytes.fromhex(OTHER), E, S)
            for index, output in enumerate(outputs)
        ]
        return Redeemed(tuple(reversed(signatures)), 5_000, 12)

    async def redeem(self, keyset_id, inputs, outputs):
        return await self.spend(("redeem", keyset_id), inputs, outputs)

    async def swap(self, keyset_id, inputs, outputs):
        return await self.spend(("swap", keyset_id), inputs, outputs)

    async def sat_swap(self, inputs, outputs):
        return await self.spend("sat", inputs, outputs)

    async def sat_restore(self, blinded):
        self.answer("restore", blinded)
        return [
            Restored(1, 8, bytes.fromhex(SAT), bytes.fromhex(OTHER), E, S),
            Restored(0, 8, bytes.fromhex(WORK), bytes.fromhex(OTHER), E, S),
        ]

    async def residues(self, claim_key):
        self.answer("residues", claim_key)
        if claim_key != bytes.fromhex(POINT):
            return []
        keyset_id = bytes.fromhex(WORK)
        return [
            Residue(Policy.WINDOW, keyset_id, 1 << 61, 7, (15 << 60) + 1),
            Residue(Policy.POOL, None, 0, 0, 0),
        ]

    async def cash_out(self, claim_key, keyset_id, outputs, signature):
        spent = await self.spend(("cash-out", claim_key, keyset_id, signature), [], outputs)
        return CashedOut(spent.signatures, 1 << 70)

    async def check_state(self, ys):
        self.answer("check", ys)
        return [index == 0 for index in range(len(ys))]

    async def statement(self, keyset_id):
        self.answer("statement", keyset_id)
        return SignedStatement(b'{"signature":"00","statement":{}}', bytes(32))

    async def inclusion(self, blinded):
        self.answer("inclusion", blinded)
        return Inclusion(bytes.fromhex(WORK), 2, 5, b"\x01" * 31 + b"\x02", 4, ((b"\x03" * 32, 9),))

    async def figures(self):
        return {
            "claims": 3,
            "keysets": {"open": 4, "final": 1},
            "tokens": {"open": 8, "final": 12},
            "theta_msat": 5_000,
            "liabilities_sats": 1,
            "carry_msat": 17,
            "advance_used_msat": 0,
            "advance_cap_msat": 1_000,
        }


@asynccontextmanager
async def served(mint: Mint | None, **limits: Any):
    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_http,
            Pool(),
            "127.0.0.1",
            0,
            mint=mint,
            now_unix_ms=lambda: NOW_MS,
            **({"requests_max": 8, "request_deadline_s": 60} | limits),
        )
        host, port = await nursery.start(serve)
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=60) as http:
            yield http
        nursery.cancel_scope.cancel()


def proof(**changes: Any) -> dict:
    return {"amount": 4, "id": WORK, "secret": "5ec4e7", "C": POINT} | changes


def output(**changes: Any) -> dict:
    return {"amount": 4, "id": SAT, "B_": POINT} | changes


def spending(inputs=None, outputs=None, **changes: Any) -> dict:
    body = {"keyset_id": WORK, "inputs": inputs or [proof()], "outputs": outputs or [output()]}
    return body | changes


async def test_info_says_how_the_mint_pays():
    async with served(Mint()) as http:
        told = (await http.get("/work/v1/info")).json()
        listed = (await http.get("/")).json()["endpoints"]
    assert told == {
        "mint_pubkey": POINT,
        "z0": 20,
        "policies": ["pool", "window"],
        "sat_keyset": SAT,
        "tip_height": 321,
        "confirmations": 6,
        "coinbase_maturity": 100,
    }
    assert "/work/v1/redeem" in listed
    assert "/v1/swap" in listed


async def test_without_a_mint_there_is_nothing_of_it():
    async with served(None) as http:
        for path in ("/work/v1/info", "/v1/info", "/v1/keys"):
            assert (await http.get(path)).status_code == 404
        assert "/v1/swap" not in (await http.get("/")).json()["endpoints"]
        assert (await http.get("/api/v1/status")).json()["mint"] is None


async def test_keysets_are_listed_with_both_signed_messages():
    async with served(Mint()) as http:
        page = (await http.get("/work/v1/keysets?limit=10")).json()
        one = (await http.get(f"/work/v1/keysets/{WORK}")).json()
        sat = (await http.get(f"/work/v1/keysets/{SAT}")).json()
        unknown = await http.get("/work/v1/keysets/01ff")
    assert page == {"total": 1, "keysets": [one]}
    assert one == {
        "id": WORK,
        "policy": "window",
        "state": "final",
        "epoch": 3,
        "height": 120,
        "opened_ms": NOW_MS,
        "announcement": "09",
        "update": "0b",
        "theta_msat": 5_000,
        "work": 12,
        "paid_msat": 1_000,
        "redeem_after_height": 220,
        "expires_at": 1_800_000_000,
        "unit_value": "0",
    }
    assert (sat["policy"], sat["update"]) == ("sat", None)
    assert (unknown.status_code, unknown.json()["error"]) == (404, "unknown-keyset")


async def test_residues_are_told_for_all_policies():
    """spec: EW-34"""
    mint = Mint()
    async with served(mint) as http:
        told = (await http.post("/work/v1/residue", json={"claim_key": POINT})).json()
        other = (await http.post("/work/v1/residue", json={"claim_key": OTHER})).json()
        wrong = await http.post("/work/v1/residue", json={"claim_key": "05" + POINT[2:]})
    assert told == {
        "known": True,
        "residues": [
            {
                "policy": "window",
                "keyset_id": WORK,
                "units": 7,
                "unit_value": str(1 << 61),
                "value": str((15 << 60) + 1),
            },
            {"policy": "pool", "keyset_id": None, "units": 0, "unit_value": "0", "value": "0"},
        ],
    }
    assert other == {"known": False, "residues": []}
    assert (wrong.status_code, wrong.json()["error"]) == (400, "invalid-claim-pubkey")


async def test_a_residue_is_cashed_out_over_http():
    """spec: EW-34"""
    mint = Mint()
    body = {
        "claim_key": POINT,
        "keyset_id": WORK,
        "outputs": [output(id=WORK), output(id=WORK, amount=1, B_=OTHER)],
        "signature": "5a" * 64,
    }
    async with served(mint) as http:
        told = (await http.post("/work/v1/residue", json=body)).json()
        for field, value, code in (
            ("signature", "5A" * 64, "invalid-signature"),
            ("signature", "5a" * 63, "invalid-signature"),
            ("signature", "", "invalid-signature"),
            ("claim_key", POINT[2:], "invalid-claim-pubkey"),
            ("keyset_id", "zz", "malformed-request"),
            ("outputs", [output(amount=3)], "amount-mismatch"),
            ("outputs", [output(B_="00")], "invalid-blinded-message"),
            ("outputs", [output(), output()], "blinded-message-reused"),
        ):
            wrong = await http.post("/work/v1/residue", json=body | {field: value})
            assert (wrong.status_code, wrong.json()["error"]) == (400, code)
    dleq = {"e": E.hex(), "s": S.hex()}
    assert told == {
        "signatures": [
            {"amount": amount, "id": WORK, "C_": OTHER, "dleq": dleq} for amount in (4, 1)
        ],
        "value": str(1 << 70),
    }
    [(kind, _, outputs)] = mint.asked
    key, keyset_id = bytes.fromhex(POINT), bytes.fromhex(WORK)
    assert kind == ("cash-out", key, keyset_id, bytes.fromhex("5a" * 64))
    assert [each.amount for each in outputs] == [4, 1]


async def test_claims_are_answered_by_their_place():
    mint = Mint()
    async with served(mint) as http:
        body = {"keyset_id": WORK, "claims": [POINT, OTHER]}
        told = (await http.post("/work/v1/claims", json=body)).json()
    assert mint.asked == [
        ("fetch", bytes.fromhex(WORK), [bytes.fromhex(POINT), bytes.fromhex(OTHER)])
    ]
    dleq = {"e": E.hex(), "s": S.hex()}
    assert told == {
        "signatures": [{"index": 1, "amount": 4, "C_": OTHER, "dleq": dleq}],
        "pending": [],
        "unknown": [0],
    }


@pytest.mark.parametrize("kind", ["redeem", "swap"])
async def test_tokens_are_spent(kind):
    mint = Mint()
    outputs = [output(), output(amount=1, B_=OTHER)]
    async with served(mint) as http:
        answer = await http.post(f"/work/v1/{kind}", json=spending(outputs=outputs))
    told = answer.json()
    assert [row["amount"] for row in told["signatures"]] == [4, 1]
    assert told["signatures"][0] == {
        "amount": 4,
        "id": SAT,
        "C_": OTHER,
        "dleq": {"e": E.hex(), "s": S.hex()},
    }
    assert (told["price_num"], told["price_den"]) == (5_000, 12)
    [((asked, keyset_id), inputs, wanted)] = mint.asked
    assert (asked, keyset_id) == (kind, bytes.fromhex(WORK))
    assert inputs == [Proof(4, "5ec4e7", bytes.fromhex(POINT))]
    assert wanted[1] == Output(1, bytes.fromhex(SAT), bytes.fromhex(OTHER))


# The boundaries of amounts and everything that JSON may put where an integer belongs.
MALFORMED: dict[str, tuple[Any, str]] = {
    "no object": ([], "malformed-request"),
    "nothing": ({}, "malformed-request"),
    "amount true": (spending([proof(amount=True)]), "malformed-request"),
    "amount a float": (spending([proof(amount=4.0)]), "malformed-request"),
    "amount a string": (spending([proof(amount="4")]), "malformed-request"),
    "amount negative": (spending([proof(amount=-4)]), "malformed-request"),
    "amount null": (spending([proof(amount=None)]), "malformed-request"),
    "amount zero": (spending([proof(amount=0)]), "invalid-proof"),
    "amount no power of two": (spending([proof(amount=3)]), "invalid-proof"),
    "amount 2^64": (spending([proof(amount=1 << 64)]), "invalid-proof"),
    "amount 2^64 - 1": (spending([proof(amount=(1 << 64) - 1)]), "invalid-proof"),
    "output 2^63 + 1": (spending(outputs=[output(amount=(1 << 63) + 1)]), "amount-mismatch"),
    "output zero": (spending(outputs=[output(amount=0)]), "amount-mismatch"),
    "no inputs": (spending() | {"inputs": []}, "too-many-items"),
    "no outputs": (spending() | {"outputs": []}, "too-many-items"),
    "1001 outputs": (
        spending(outputs=[output(B_=f"02{i:064x}", id="01") for i in range(1001)]),
        "too-many-items",
    ),
    "C uncompressed": (spending([proof(C="04" + "ab" * 64)]), "invalid-proof"),
    "C of 32 bytes": (spending([proof(C="ab" * 32)]), "invalid-proof"),
    "C infinity": (spending([proof(C="00" * 33)]), "invalid-proof"),
    "C in capitals": (spending([proof(C=POINT.upper())]), "invalid-proof"),
    "B_ with a line break": (
        spending(outputs=[output(B_=POINT[:-1] + "\n")]),
        "invalid-blinded-message",
    ),
    "B_ hybrid": (spending(outputs=[output(B_="06" + "ab" * 32)]), "invalid-blinded-message"),
    "id in capitals": (spending([proof()], keyset_id=SAT.upper()), "malformed-request"),
    "id too long": (spending(keyset_id=WORK + "00"), "malformed-request"),
    "id empty": (spending(keyset_id=""), "malformed-request"),
    "input of another keyset": (spending([proof(id=SAT)]), "amount-mismatch"),
    "secret empty": (spending([proof(secret="")]), "invalid-proof"),
    "secret of 1025 bytes": (spending([proof(secret="ä" * 512 + "x")]), "invalid-proof"),
    "the same secret twice": (spending([proof(), proof(C=OTHER)]), "already-spent"),
    "the same B_ twice": (spending(outputs=[output(), output()]), "blinded-message-reused"),
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_what_is_not_strictly_right_never_reaches_the_mint(case):
    """attack: A4, A14"""
    body, code = MALFORMED[case]
    mint = Mint()
    async with served(mint) as http:
        answer = await http.post("/work/v1/redeem", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, code), answer.text
    assert answer.json()["detail"]
    assert mint.asked == []


@pytest.mark.parametrize("amount", [1, 1 << 62, 1 << 63])
async def test_amounts_up_to_2_63_are_taken(amount):
    """attack: A14"""
    mint = Mint()
    async with served(mint) as http:
        body = spending([proof(amount=amount)], [output(amount=amount)])
        assert (await http.post("/work/v1/redeem", json=body)).status_code == 200
    [(_, [spent], [wanted])] = mint.asked
    assert spent.amount == wanted.amount == amount


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"nul",
        b'{"Ys":["\xff"]}',
        b'{"Ys":["\\ud800"]}',
        b'{"Ys":NaN}',
        b'{"Ys":' + b"[" * 100_000,
        b'{"x":' + b'{"x":' * 40_000,
        b'{"Ys":[]} ' + b"x",
    ],
)
async def test_what_is_no_json_is_refused(body):
    """attack: A15"""
    async with served(Mint()) as http:
        for path in ("/work/v1/checkstate", "/v1/checkstate"):
            answer = await http.post(path, content=body)
            assert answer.status_code == 400
            assert answer.json()["detail"]
        assert (await http.get("/api/v1/health")).status_code == 200


async def test_bodies_are_bounded_and_only_here():
    """attack: A15"""
    mint = Mint()
    fits = b'{"Ys":["' + POINT.encode() + b'"]}'
    fits += b" " * (BODY_BYTES_MAX - len(fits))
    async with served(mint) as http:
        assert (await http.post("/work/v1/checkstate", content=fits)).status_code == 200
        for path in ("/work/v1/checkstate", "/v1/checkstate"):
            answer = await http.post(path, content=fits + b" ")
            assert answer.status_code == 413
        assert (await http.post("/api/v1/status", content=fits)).status_code == 405
    assert len(mint.asked) == 1


def asking(application, client: str = "192.0.2.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application, client=(client, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://mint")


async def test_a_redeemer_is_told_when_to_come_back():
    """attack: A15"""
    mint, allowance = Mint(), Allowance(items_per_second=1, burst_items=7, now=lambda: 0.0)
    application = WorkApi(mint, allowance).application()
    async with asking(application) as http:
        assert (await http.post("/redeem", json=spending())).status_code == 200
        assert (await http.post("/swap", json=spending())).status_code == 200
        answer = await http.post("/redeem", json=spending())
    assert (answer.status_code, answer.json()["error"]) == (429, "rate-limited")
    assert int(answer.headers["Retry-After"]) == answer.json()["retry_after_s"] >= 1
    assert len(mint.asked) == 2
    # Both sides draw on the same allowance, each address on its own.
    cashu = CashuApi(mint, allowance, lambda: NOW_MS).application()
    body = {"inputs": [proof(id=SAT)], "outputs": [output()]}
    async with asking(cashu) as http:
        late = await http.post("/swap", json=body)
        assert (late.status_code, late.json()["code"]) == (429, 0)
        assert int(late.headers["Retry-After"]) >= 1
    async with asking(cashu, "192.0.2.2") as http:
        assert (await http.post("/swap", json=body)).status_code == 200


async def test_looking_up_costs_little_and_signing_more():
    mint, allowance = Mint(), Allowance(items_per_second=1, burst_items=100, now=lambda: 0.0)
    async with asking(WorkApi(mint, allowance).application()) as http:
        ys = {"Ys": [f"02{i:064x}" for i in range(320)]}
        assert (await http.post("/checkstate", json=ys)).status_code == 200
        claims = {"keyset_id": WORK, "claims": [f"02{i:064x}" for i in range(160)]}
        assert (await http.post("/claims", json=claims)).status_code == 200
    # 320 / 16 + 1, 160 / 16 + 1, and one signature that was found.
    assert round(allowance._buckets["192.0.2.1"].level) == 100 - 21 - 11 - 1


async def test_several_wallets_of_one_address_redeem_without_waiting():
    mint = Mint()
    outputs = [output(B_=f"02{i:064x}", amount=1 << i % 32) for i in range(32)]
    inputs = [proof(secret=str(i)) for i in range(250)]
    claims = {"keyset_id": WORK, "claims": [f"02{i:064x}" for i in range(500)]}
    async with asking(WorkApi(mint, Allowance()).application()) as http:
        for _ in range(3):
            for _ in range(20):
                assert (await http.post("/claims", json=claims)).status_code == 200
                body = spending(inputs, outputs)
                assert (await http.post("/swap", json=body)).status_code == 200


def test_allowance_grows_back_and_one_address_leaves_room_for_others():
    now = 0.0
    allowance = Allowance(items_per_second=10, burst_items=100, now=lambda: now)
    assert allowance.take("a", 100) == 0
    assert allowance.take("a", 20) == 3
    assert allowance.take("b", 100) == 0
    now = 2.5
    assert allowance.take("a", 20) == 0
    assert allowance.take("a", 20) > 0
    # A request larger than the bucket waits for a full one rather than for ever.
    now = 100.0
    assert allowance.take("c", 1_000_000) == 0


def test_all_addresses_together_are_bounded():
    """attack: A15"""
    allowance = Allowance(items_per_second=10, burst_items=100, now=lambda: 0.0)
    granted = sum(allowance.take(str(number), 100) == 0 for number in range(2 * ADDRESSES_MAX))
    assert granted == 4
    assert len(allowance._buckets) == ADDRESSES_MAX


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (RefusedError("wait", "immature", retry_after_s=600), 400, ("immature", 600)),
        (RefusedError("spent", "already-spent"), 400, ("already-spent", None)),
        (RefusedError("what?", "unknown-epoch"), 404, ("unknown-epoch", None)),
        (RefusedError("slow", "rate-limited", retry_after_s=2), 429, ("rate-limited", 2)),
        (StoreError("/secret/path: disk full"), 503, ("mint-unavailable", None)),
    ],
)
async def test_what_the_mint_refuses_keeps_its_code(error, status, told):
    async with served(Mint(refuse=error)) as http:
        answer = await http.post("/work/v1/redeem", json=spending())
    assert answer.status_code == status
    assert (answer.json()["error"], answer.json().get("retry_after_s")) == told
    assert "secret" not in answer.text


async def test_statement_and_inclusion():
    mint = Mint()
    async with served(mint) as http:
        statement = await http.get(f"/work/v1/statements/{WORK}")
        leaf = (await http.post("/work/v1/inclusion", json={"B_": POINT})).json()
        bad = await http.post("/work/v1/inclusion", json={"B_": POINT[:-2]})
    assert statement.content == b'{"signature":"00","statement":{}}'
    assert leaf == {
        "leaf": {
            "keyset": WORK,
            "index": 2,
            "count": 5,
            "share": "02" + "01" * 31,
            "B_": POINT,
            "work": 4,
        },
        "path": [{"hash": "03" * 32, "work": 9}],
    }
    assert bad.json()["error"] == "invalid-blinded-message"


# The sat side.


async def test_wallets_see_the_sat_keyset_alone():
    async with served(Mint()) as http:
        info = (await http.get("/v1/info")).json()
        keysets = (await http.get("/v1/keysets")).json()["keysets"]
        [keys] = (await http.get("/v1/keys")).json()["keysets"]
        same = (await http.get(f"/v1/keys/{SAT}")).json()
        work = await http.get(f"/v1/keys/{WORK}")
    assert info["pubkey"] == POINT
    assert info["nuts"]["4"]["disabled"] is info["nuts"]["5"]["disabled"] is True
    assert info["time"] == NOW_MS // 1000
    assert keysets == [{"id": SAT, "unit": "sat", "active": True, "input_fee_ppk": 0}]
    assert same == {"keysets": [keys]}
    assert len(keys["keys"]) == 64
    assert keys["keys"][str(1 << 63)] == OTHER
    assert (work.status_code, work.json()["code"]) == (400, 12001)


async def test_sat_tokens_are_swapped_and_restored():
    mint = Mint()
    dleq = {"e": E.hex(), "s": S.hex()}
    async with served(mint) as http:
        body = {
            "inputs": [proof(id=SAT, dleq={"e": "", "s": "", "r": ""}, witness="{}")],
            "outputs": [output()],
        }
        swapped = await http.post("/v1/swap", json=body)
        # Who restores knows no amounts.
        restoring = {"outputs": [output(amount=0), output(amount=0, B_=OTHER)]}
        restored = (await http.post("/v1/restore", json=restoring)).json()
        states = (await http.post("/v1/checkstate", json={"Ys": [POINT, OTHER]})).json()
    signature = {"amount": 4, "id": SAT, "C_": OTHER, "dleq": dleq}
    assert swapped.json() == {"signatures": [signature]}
    # What a work keyset signed is nothing that a wallet of sats could use.
    assert restored == {
        "outputs": [{"amount": 8, "id": SAT, "B_": OTHER}],
        "signatures": [signature | {"amount": 8}],
    }
    assert states["states"] == [
        {"Y": POINT, "state": "SPENT", "witness": None},
        {"Y": OTHER, "state": "UNSPENT", "witness": None},
    ]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"inputs": [proof()], "outputs": [output()]}, 12001),
        ({"inputs": [proof(id=SAT)], "outputs": [output(id=WORK)]}, 12001),
        ({"inputs": [proof(id="00ab")], "outputs": [output()]}, 12001),
        ({"inputs": [proof(id="02" + "ab" * 32)], "outputs": [output()]}, 12001),
        ({"inputs": [proof(id=SAT, amount=3)], "outputs": [output()]}, 10001),
        ({"inputs": [proof(id=SAT)] * 2, "outputs": [output()]}, 11007),
        ({"inputs": [proof(id=SAT)], "outputs": [output()] * 2}, 11008),
        ({"inputs": [proof(id=SAT)] * 1001, "outputs": [output()]}, 11014),
        ({"inputs": [proof(id=SAT)], "outputs": [output()] * 1001}, 11015),
        ({"inputs": [proof(id=SAT)], "outputs": [output(amount=5)]}, 11005),
        ({"inputs": [proof(id=SAT)]}, 0),
    ],
)
async def test_wallets_get_the_codes_of_the_nuts(body, code):
    """attack: A27: a keyset id of another version is not known, whatever it looks like."""
    mint = Mint()
    async with served(mint) as http:
        answer = await http.post("/v1/swap", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, code), answer.text
    assert answer.json()["detail"]
    assert mint.asked == []


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RefusedError("", "already-spent"), 400, 11001),
        (RefusedError("", "blinded-message-reused"), 400, 11003),
        (RefusedError("", "amount-mismatch"), 400, 11005),
        (RefusedError("", "invalid-proof"), 400, 10001),
        (RefusedError("", "expired"), 400, 12003),
        (RefusedError("", "rate-limited", retry_after_s=1), 429, 0),
        (StoreError("disk"), 503, 0),
    ],
)
async def test_refusals_get_the_codes_of_the_nuts(error, status, code):
    async with served(Mint(refuse=error)) as http:
        body = {"inputs": [proof(id=SAT)], "outputs": [output()]}
        answer = await http.post("/v1/swap", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_sats_are_neither_minted_nor_paid_out_here():
    async with served(Mint()) as http:
        mint = await http.post("/v1/mint/quote/bolt11", json={"amount": 1, "unit": "sat"})
        melt = await http.post("/v1/melt/quote/bolt11", json={})
    assert (mint.status_code, mint.json()["code"]) == (400, 20003)
    assert (melt.status_code, melt.json()["code"]) == (400, 0)


async def test_pages_in_browsers_may_ask_the_sat_side_alone():
    origin = {"Origin": "https://wallet.example"}
    ask = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    async with served(Mint()) as http:
        assert (await http.options("/v1/swap", headers=origin | ask)).status_code == 200
        for path in ("/v1/info", "/v1/keys/00"):
            answer = await http.get(path, headers=origin)
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
        for path in ("/work/v1/info", "/api/v1/status", "/metrics"):
            answer = await http.get(path, headers=origin)
            assert "Access-Control-Allow-Origin" not in answer.headers


# Figures.


async def test_status_and_metrics_have_the_mints_figures():
    async with served(Mint()) as http:
        told = (await http.get("/api/v1/status")).json()["mint"]
        text = (await http.get("/metrics")).text
    assert told["tokens"] == {"open": 8, "final": 12}
    for line in (
        "radpool_mint_claims 3.0",
        'radpool_mint_keysets{state="open"} 4.0',
        'radpool_mint_tokens{state="final"} 12.0',
        "radpool_mint_liabilities_sats 1.0",
        "radpool_mint_carry_msat 17.0",
        "radpool_mint_advance_cap_msat 1000.0",
    ):
        assert line in text, line
    assert "radpool_mint_issued_msat" not in text


async def test_a_body_that_does_not_come_is_not_waited_for():
    """attack: A15"""
    mint = Mint()
    async with served(mint, request_deadline_s=SOON_S) as http:
        stream = await trio.open_tcp_stream(http.base_url.host, http.base_url.port)
        async with stream:
            head = b"POST /work/v1/checkstate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
            await stream.send_all(head)
            with trio.fail_after(60):
                answer = await stream.receive_some()
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert (await http.get("/work/v1/info")).status_code == 200
    assert mint.asked == []


async def test_a_flood_is_cut_off_while_it_comes():
    """attack: A15"""
    async with served(Mint()) as http:
        stream = await trio.open_tcp_stream(http.base_url.host, http.base_url.port)
        async with stream:
            head = b"POST /v1/swap HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
            await stream.send_all(head)
            sent = 0
            with trio.fail_after(60):
                try:
                    while sent < 1 << 24:
                        await stream.send_all(b" " * 65_536)
                        sent += 65_536
                        with trio.move_on_after(0.01):
                            if (answer := await stream.receive_some()) is not None:
                                break
                except trio.BrokenResourceError:
                    answer = b""
        assert sent < 1 << 23
        assert answer == b"" or answer.startswith(b"HTTP/1.1 413 ")
        assert (await http.get("/work/v1/info")).status_code == 200

"""The HTTP API over a real socket, against a pool that is made of values."""

from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest
import trio

from radpool_sv2.web import ChannelView, ClientView, serve_http
from radpool_sv2.web.page import LIMIT_MAX
from radpool_sv2.web.view import Sv1Figures

NOW_MS = 1_700_000_000_000
SOON_S = 1.01
"""A deadline that a test waits for, and that no other request of it comes near. Silence ends a
connection at the next whole second, when the answer is long on its way."""


def channel(channel_id: int = 1, kind: str = "extended", **changes: Any) -> ChannelView:
    values: dict[str, Any] = {
        "channel_id": channel_id,
        "kind": kind,
        "user_identity": "alice.rig1",
        "account": "alice",
        "nominal_hash_rate": 1e6,
        "exponent": 20,
        "max_target": bytes(31) + b"\xff",
        "extranonce_prefix": b"\x00\x00\x00\x07",
        "rollable_extranonce_size": 8,
        "shares_per_minute": 6,
        "shares_accepted": 3,
        "shares_rejected": {"stale-share": 2},
        "work": 3 << 20,
        "blocks_found": 1,
    }
    return ChannelView(**(values | changes))


def client(client_id: int, *channels: ChannelView, vendor: str = "Bitaxe") -> ClientView:
    return ClientView(client_id, "127.0.0.1:1", vendor, "Gamma", "2.14", channels)


@dataclass
class Books:
    rows: Sequence[Mapping[str, Any]] = ()

    async def epochs(self, offset: int, limit: int):
        return len(self.rows), self.rows[offset : offset + limit]

    async def epoch(self, number: int):
        return {"epoch": number, "accounts": [], "payment": None} if number == 1 else None

    blocks = accounts = epochs


@dataclass
class Pool:
    connected: list[ClientView] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    ledger: Books = field(default_factory=Books)
    started_unix_ms: int = NOW_MS - 90_000
    sv1: Sv1Figures | None = None
    seat: Mapping[str, Any] | None = None

    def clients(self):
        return self.connected

    def client(self, client_id):
        return next((one for one in self.connected if one.client_id == client_id), None)

    def engine_metrics(self):
        return {"reads_paused": 2}

    def declarator_metrics(self):
        return {"declarer_connections": 3, "declarer_jobs_total": 5}

    def sv1_figures(self):
        return self.sv1

    async def sv1_clients(self, offset, limit):
        return 2, [{"client_id": 1}, {"client_id": 2}][offset : offset + limit]

    def federation(self):
        return self.seat

    async def declarers(self, offset, limit):
        return 1, [{"account": "alice", "accepted": 2}]

    async def registrations(self, offset, limit):
        rows = [{"number": number} for number in range(30, 0, -1)]
        return len(rows), rows[offset : offset + limit]

    def status(self):
        return {"height": 7}

    def blocks_found(self):
        return 1

    def problems(self):
        return self.trouble


@asynccontextmanager
async def served(pool: Pool, **limits: Any):
    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_http,
            pool,
            "127.0.0.1",
            0,
            now_unix_ms=lambda: NOW_MS,
            **({"requests_max": 8, "request_deadline_s": 60} | limits),
        )
        host, port = await nursery.start(serve)
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=60) as http:
            yield http
        nursery.cancel_scope.cancel()


async def test_health_says_what_is_wrong():
    pool = Pool()
    async with served(pool) as http:
        answer = await http.get("/api/v1/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
        pool.trouble = ["no template for 60 s: the chain process does not answer"]
        answer = await http.get("/api/v1/health")
        assert answer.status_code == 503
        assert answer.json()["problems"] == pool.trouble


async def test_global_sums_all_connections():
    pool = Pool([client(1, channel(1), channel(2, "standard")), client(2, channel(1))])
    async with served(pool) as http:
        told = (await http.get("/api/v1/global")).json()
    assert told["uptime_secs"] == 90
    assert told["sv2_clients"] == {
        "total_clients": 2,
        "total_channels": 3,
        "extended_channels": 2,
        "standard_channels": 1,
        "total_hashrate": 3e6,
    }


async def test_devices_of_the_older_version_are_counted_where_they_are_served():
    async with served(Pool()) as http:
        assert (await http.get("/api/v1/global")).json()["sv1_clients"] is None
        assert "sv1_clients_total" not in (await http.get("/metrics")).text
    figures = Sv1Figures(2, 5e12, {"devices": 2, "lines_read_total": 7})
    async with served(Pool(sv1=figures)) as http:
        told = (await http.get("/api/v1/global")).json()
        assert told["sv1_clients"] == {"total_clients": 2, "total_hashrate": 5e12}
        page = (await http.get("/api/v1/sv1/clients?offset=1")).json()
        assert (page["total"], page["items"]) == (2, [{"client_id": 2}])
        metrics = (await http.get("/metrics")).text.splitlines()
    assert "sv1_clients_total 2.0" in metrics
    assert "sv1_hashrate_total 5e+012" in metrics or "sv1_hashrate_total 5e+12" in metrics
    assert "radpool_translator_devices 2.0" in metrics
    assert "radpool_translator_lines_read_total 7.0" in metrics


async def test_client_and_its_channels_have_sris_fields():
    async with served(Pool([client(5, channel())])) as http:
        one = (await http.get("/api/v1/clients/5")).json()
        assert one["client_kind"] == "miner"
        assert one["extended_channels_count"] == 1
        page = (await http.get("/api/v1/clients/5/channels")).json()
    (row,) = page["extended_channels"]
    assert row["target_hex"] == "00000f" + "f" * 58
    assert row["full_extranonce_size"] == 12
    assert row["shares_rejected_by_reason"] == {"stale-share": 2}
    assert row["share_work_sum"] == 3 << 20
    assert row["requested_max_target_hex"].startswith("ff00")
    assert page["standard_channels"] == []


async def test_pages_are_cut_and_bounded():
    pool = Pool([client(number, channel()) for number in range(250)])
    async with served(pool) as http:
        page = (await http.get("/api/v1/clients?offset=240&limit=20")).json()
        assert [row["client_id"] for row in page["items"]] == list(range(240, 250))
        page = (await http.get("/api/v1/clients?limit=100000")).json()
        assert len(page["items"]) == page["limit"] == LIMIT_MAX


async def test_the_register_is_paged():
    """spec: OR-14"""
    async with served(Pool()) as http:
        pages = [
            (await http.get(f"/api/v1/registrations?offset={offset}&limit=20")).json()
            for offset in (0, 20, 40)
        ]
    assert [page["total"] for page in pages] == [30] * 3
    numbers = [row["number"] for page in pages for row in page["items"]]
    assert numbers == list(range(30, 0, -1))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/clients?offset=-1", 400),
        ("/api/v1/clients?limit=ten", 400),
        ("/api/v1/clients?limit=٣", 400),
        ("/api/v1/clients/99", 404),
        ("/api/v1/clients/../../etc/passwd", 404),
        ("/nothing", 404),
    ],
)
async def test_bad_requests_get_a_json_error(path, status):
    async with served(Pool()) as http:
        answer = await http.get(path)
    assert answer.status_code == status
    assert answer.json()["error"]


async def test_only_get_is_answered():
    async with served(Pool()) as http:
        assert (await http.post("/api/v1/clients")).status_code == 405


async def test_huge_requests_are_refused():
    async with served(Pool()) as http:
        answer = await http.get("/", headers={"x": "y" * 200_000})
        assert answer.status_code == 431
        assert (await http.get("/api/v1/health")).status_code == 200


async def test_metrics_carry_sris_names():
    async with served(Pool([client(1, channel())])) as http:
        text = (await http.get("/metrics")).text
    labels = '{channel_id="1",client_id="1",user_identity="alice.rig1"}'
    for line in (
        "sv2_uptime_seconds 90.0",
        "sv2_clients_total 1.0",
        'sv2_client_channels{channel_type="extended"} 1.0',
        f"sv2_client_shares_accepted_total{labels} 3.0",
        f"sv2_client_channel_share_work_total{labels} 3.145728e+06",
        "sv2_client_blocks_found_total 1.0",
        "radpool_engine_reads_paused 2.0",
    ):
        assert line in text, line


async def test_a_hostile_name_cannot_forge_metrics():
    name = 'x"} 1\nsv2_clients_total 99 #'
    async with served(Pool([client(1, channel(user_identity=name))])) as http:
        text = (await http.get("/metrics")).text
    assert "\nsv2_clients_total 99" not in text


async def test_an_epoch_is_laid_open():
    async with served(Pool()) as http:
        assert (await http.get("/api/v1/epochs/1")).json()["epoch"] == 1
        for number in (0, 2, 1 << 70):
            answer = await http.get(f"/api/v1/epochs/{number}")
            assert answer.status_code == 404
            assert "lists them" in answer.json()["error"]


@dataclass
class SlowBooks(Books):
    asked: trio.Event = field(default_factory=trio.Event)
    gate: trio.Event = field(default_factory=trio.Event)

    async def epoch(self, number: int):
        self.asked.set()
        await self.gate.wait()
        return {"epoch": number}


async def test_requests_beyond_the_limit_are_turned_away_at_once():
    pool = Pool(ledger=SlowBooks())
    async with served(pool, requests_max=1) as http, trio.open_nursery() as nursery:
        nursery.start_soon(http.get, "/api/v1/epochs/1")
        await pool.ledger.asked.wait()
        answer = await http.get("/api/v1/health")
        assert answer.status_code == 503
        assert "too many requests" in answer.json()["error"]
        pool.ledger.gate.set()
        with trio.fail_after(60):
            while (await http.get("/api/v1/health")).status_code != 200:
                await trio.sleep(0.01)


async def test_an_answer_that_takes_too_long_is_given_up():
    async with served(Pool(ledger=SlowBooks()), request_deadline_s=SOON_S) as http:
        assert (await http.get("/api/v1/epochs/1")).status_code == 504
        assert (await http.get("/api/v1/health")).status_code == 200

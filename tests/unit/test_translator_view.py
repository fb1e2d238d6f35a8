"""What a translator shows of its devices and workers, for people and for programs."""

from types import SimpleNamespace

import httpx
import pytest
from radpool_sv2_translator import view
from radpool_sv2_translator.api import application
from radpool_sv2_translator.rate import Estimate, together
from radpool_sv2_translator.workers import Worker


def worker(name, accepted, **rejected):
    rejected = {reason.replace("_", "-"): count for reason, count in rejected.items()}
    return SimpleNamespace(
        name=name,
        accepted=accepted,
        forwarded=accepted,
        rejected=rejected,
        work=accepted << 32,
        last_share_unix_ms=0,
    )


def client(device, *workers, exponent=40, agent="cgminer"):
    return SimpleNamespace(
        device=device,
        address=f"10.0.0.{device}:4",
        since_unix_ms=1,
        agent=agent,
        workers=list(workers),
        version_mask=0x1FFFE000,
        exponent=exponent,
        pool_exponent=exponent,
        jobs=3,
        pool_accepted=2,
        pool_work=8,
        pool_rejected={"stale-share": 1},
        refused=0,
    )


class Role:
    """Stands for a translator that runs."""

    def __init__(self, clients, rates, workers=None):
        self._clients, self._rates = clients, rates
        self.workers = workers
        self.keeper = self.pools = self.tls = None
        self.started_unix_ms = 1

    def clients(self):
        return self._clients

    def metrics(self):
        return {
            "gone_shares_rejected_as_stale_share_total": 5,
            "gone_shares_rejected_as_bad_ntime_total": 0,
            "pool_shares_accepted_total": 40,
            "upstream_channels": 3,
        }

    def refusals(self):
        return {"stale-share": 7}

    def wallet(self):
        return None

    def estimate(self, device, name):
        rate = self._rates.get((device, name))
        return None if rate is None else Estimate(rate, rate / 2, rate * 2)


@pytest.fixture
def role():
    clients = [
        client(1, worker("rig", 10, stale_share=2), agent="bitaxe"),
        client(2, worker("rig", 30), worker("spare", 1, duplicate_share=1)),
        client(3, exponent=None),
    ]
    return Role(clients, {(1, "rig"): 3e12, (2, "rig"): 4e12, (2, "spare"): 1e12})


def test_busiest_devices_come_first(role):
    shown, more = view.busiest(role, 2)
    assert more == 1
    assert [row[0] for row in shown] == ["rig", "rig"]
    assert shown[0][1:] == ("5.0 TH/s", "31", "1", "256", "cgminer")
    everyone, more = view.busiest(role, 9)
    assert (len(everyone), more) == (3, 0)
    assert everyone[2][:5] == ("10.0.0.3:4", "0 H/s", "0", "0", "none yet")


def test_names_move_no_letters_about():
    assert view.printable("rig \u202e\u200b\x1b\u00e9") == "rig \ufffd\ufffd\ufffd\u00e9"
    role = Role([client(1, worker("a\u202eb", 1))], {})
    assert view.busiest(role, 1)[0][0][0] == "a\ufffdb"


def test_workers_are_summed_over_their_devices(role):
    rig, spare = view.by_worker(role, 10)
    assert (rig.name, rig.accepted, dict(rig.rejected)) == ("rig", 40, {"stale-share": 2})
    assert rig.rate == Estimate(7e12, 7e12 - 2.5e12, 7e12 + 5e12)
    assert (spare.name, dict(spare.rejected)) == ("spare", {"duplicate-share": 1})
    assert [each.name for each in view.by_worker(role, 1)] == ["rig"]


def test_errors_of_rates_that_are_summed_partly_cancel():
    assert together([]) is None
    assert together([Estimate(4.0, 1.0, 7.0)]) == Estimate(4.0, 1.0, 7.0)
    assert together([Estimate(9.0, 6.0, 12.0), Estimate(9.0, 5.0, 13.0)]) == Estimate(
        18.0, 13.0, 23.0
    )


def test_reasons_include_devices_that_are_gone(role):
    assert view.rejected_by_reason(role) == {"stale-share": 7, "duplicate-share": 1}


async def get(role, path):
    transport = httpx.ASGITransport(application(role))
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as web:
        answer = await web.get(path)
        return answer.raise_for_status()


async def test_metrics_have_sris_names_workers_and_reasons(role):
    lines = set((await get(role, "/metrics")).text.splitlines())
    assert {
        "sv1_clients_total 3.0",
        "sv1_hashrate_total 8e+12",
        'sv2_server_channels{channel_type="extended"} 3.0',
        "sv2_server_shares_accepted_total 40.0",
        'sv2_server_shares_rejected_total{error_code="stale-share"} 7.0',
        'radpool_translator_shares_rejected_total{reason="duplicate-share"} 1.0',
        'radpool_translator_shares_rejected_total{reason="stale-share"} 7.0',
        'radpool_translator_worker_shares_accepted_total{worker="rig"} 40.0',
        'radpool_translator_worker_shares_rejected_total{reason="stale-share",worker="rig"} 2.0',
        'radpool_translator_worker_hashrate{bound="low",worker="rig"} 4.5e+12',
        'radpool_translator_worker_hashrate{bound="estimate",worker="rig"} 7e+12',
        'radpool_translator_worker_hashrate{bound="high",worker="rig"} 1.2e+13',
    } <= lines
    assert any(line.startswith("sv2_uptime_seconds ") for line in lines)


async def test_clients_have_counters_reasons_and_intervals(role):
    told = (await get(role, "/api/v1/sv1/clients?offset=1&limit=1")).json()
    assert (told["total"], told["offset"], len(told["items"])) == (3, 1, 1)
    [item] = told["items"]
    sris = ("client_id", "authorized_worker_name", "hashrate", "version_rolling_mask", "target_hex")
    assert [item[name] for name in sris] == [2, "rig", 5e12, "1fffe000", "0" * 10 + "f" * 54]
    assert item["workers"][1] == {
        "name": "spare",
        "shares_accepted": 1,
        "shares_forwarded": 1,
        "shares_rejected": {"duplicate-share": 1},
        "work": 1 << 32,
        "last_share_unix_ms": None,
        "hash_rate": 10**12,
        "hash_rate_low": 5 * 10**11,
        "hash_rate_high": 2 * 10**12,
    }
    assert item["pool_shares_rejected"] == {"stale-share": 1}


async def test_wallets_of_workers_say_why_they_are_not_mined_for(role):
    assert (await get(role, "/api/v1/sv1/wallets")).json()["total"] == 0
    role.workers = [
        Worker("a", devices={1, 2}, is_common=True),
        Worker("b", refused="the disk is full"),
        Worker("c", failure="it broke"),
    ]
    items = (await get(role, "/api/v1/sv1/wallets")).json()["items"]
    assert [(each["worker"], each["state"], each["problem"]) for each in items] == [
        ("a", "common", None),
        ("b", "refused", "the disk is full"),
        ("c", "waiting", "it broke"),
    ]
    assert items[0]["devices"] == 2

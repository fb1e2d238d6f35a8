"""What `radpool init translator` writes, and what `radpool doctor --translator` says."""

import json
import socket
import sys
from pathlib import Path

import httpx
import pytest
from jdc_rig.server import Server
from radpool_sv2_translator import doctor
from radpool_sv2_translator.config import TranslatorConfig
from radpool_sv2_translator.installation import CONFIG_NAME, install_translator

from radpool_sv2._native.keys import AuthoritySecretKey
from radpool_sv2.cli import main
from radpool_sv2.config import load, loads, render
from radpool_sv2.doctor import Verdict
from radpool_sv2.errors import ConfigError
from radpool_sv2.wire.frame import NEGOTIATION
from radpool_sv2.wire.message.connection import Protocol
from radpool_sv2.wire.message.mining import (
    NewExtendedMiningJob,
    OpenExtendedMiningChannel,
    OpenExtendedMiningChannelSuccess,
    OpenMiningChannelError,
    SetNewPrevHash,
)
from radpool_sv2.wire.setup import answer_extensions

TERAHASH_SHARE = 2**256 // 10**13 - 1
"""A target that a device of 1 TH/s meets each ten seconds."""
FILE = Path("/srv/translator/translator.toml")
NOW_MS = 2_000_000_000_000


# The file


def test_file_is_written_once_and_reads_back(tmp_path):
    values = {"pools[1].address": "pool.example:3333", "pools[1].ecash": True}
    made = install_translator(tmp_path / "new", values)
    assert load(TranslatorConfig, tmp_path / "new" / CONFIG_NAME) == made
    assert made.pools[0].ecash
    with pytest.raises(ConfigError, match="there is a translator already"):
        install_translator(tmp_path / "new", values)


def test_file_that_nobody_could_start_with_is_not_written(tmp_path):
    with pytest.raises(ConfigError, match="HOST:PORT"):
        install_translator(tmp_path / "new", {"pools[1].address": "pool.example"})
    assert not (tmp_path / "new").exists()


def radpool(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["radpool", *map(str, arguments)])
    try:
        main()
    except SystemExit as left:
        return left.code or 0
    return 0


def test_wallet_for_each_worker_is_asked_for_in_a_word(monkeypatch, capsys, tmp_path):
    options = ["--pool", "pool.example:3333", "--per-worker", "--user", "us"]
    assert radpool(monkeypatch, "init", "translator", "--dir", tmp_path / "new", *options) == 0
    config = load(TranslatorConfig, tmp_path / "new" / CONFIG_NAME)
    assert (config.wallet.per_worker, config.wallet.workers_max) == (True, 48)
    assert config.pools[0].ecash
    assert "shows its words once" in capsys.readouterr().out


def test_commands(monkeypatch, capsys, tmp_path):
    where = tmp_path / "new"
    key = AuthoritySecretKey.generate().public_key().to_text()
    pool = ("--pool", "127.0.0.1:1", "--authority-key", key, "--listen", "127.0.0.1:0")
    assert radpool(monkeypatch, "init", "translator", "--dir", where, *pool) == 0
    assert f"radpool doctor --translator --dir {where}" in capsys.readouterr().out
    assert radpool(monkeypatch, "doctor", "--translator", "--dir", where, "--json") == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    bad = {each["subject"] for each in found if each["verdict"] == "bad"}
    assert bad == {"pool 127.0.0.1:1"}
    assert {"clock", "configuration", "ports"} <= {each["subject"] for each in found}


def test_without_a_file(monkeypatch, capsys, tmp_path):
    assert radpool(monkeypatch, "doctor", "--translator", "--dir", tmp_path) == 1
    assert "translator.toml" in capsys.readouterr().out


# Pools


class Pool:
    """Is a pool that opens channels with so many bytes of extranonce, and may give a job."""

    def __init__(self, *, size=12, target=TERAHASH_SHARE, jobs=True, refusal=""):
        self.size, self.target, self.jobs, self.refusal = size, target, jobs, refusal
        self.asked = []

    async def __call__(self, stream):
        while True:
            frame = await stream.receive()
            if frame.extension_type == NEGOTIATION:
                await stream.send(answer_extensions(frame, ()))
                continue
            asked = OpenExtendedMiningChannel.decode(frame.payload)
            self.asked.append(asked)
            if self.refusal or asked.min_extranonce_size > self.size:
                code = self.refusal or "min-extranonce-size-too-large"
                await stream.send(OpenMiningChannelError(asked.request_id, code))
                continue
            opened = OpenExtendedMiningChannelSuccess(
                asked.request_id, 1, self.target.to_bytes(32, "little"), self.size, b"", 1
            )
            await stream.send(opened)
            if self.jobs:
                job = NewExtendedMiningJob(1, 1, None, 0x20000000, True, (), b"", b"")
                await stream.send(job, SetNewPrevHash(1, 1, bytes(32), 1, 0x207FFFFF))


async def examined(nursery, script, *, key=None, **keys):
    """Returns the verdicts on a pool, and all that was said."""
    server = Server(Protocol.MINING, script)
    await nursery.start(server.serve)
    pool = {
        "pools[1].address": str(server.endpoint),
        "pools[1].authority_public_key": server.key if key is None else key,
    }
    config = read(pool | {"devices.nominal_hash_rate_mh": 1_000_000} | keys)
    found = await doctor._pool(config.pools[0], config)
    return [each.verdict for each in found], "; ".join(each.text for each in found)


def read(values):
    return loads(TranslatorConfig, render(TranslatorConfig, values), FILE)


async def test_good_pool(nursery):
    script = Pool()
    verdicts, said = await examined(nursery, script, **{"devices.user": "alice"})
    assert set(verdicts) == {Verdict.GOOD}
    assert "1 TH/s for a share each 10.0 s" in said
    assert [each.user_identity for each in script.asked] == ["alice"]


async def test_pool_that_knows_its_miners_by_another_name(nursery):
    script = Pool()
    await examined(nursery, script, **{"devices.user": "alice", "pools[1].user": "bob"})
    assert [each.user_identity for each in script.asked] == ["bob"]


def test_wallets_of_workers_are_counted(tmp_path):
    values = {"pools[1].address": "a:1", "pools[1].ecash": True, "wallet.per_worker": True}
    config = read(values | {"wallet.dir": str(tmp_path), "wallet.workers_max": 2})
    (tmp_path / "wallet.sqlite").touch()
    for made, verdict in enumerate((Verdict.GOOD, Verdict.GOOD, Verdict.WARNING)):
        found = doctor._wallet(config)
        assert found.verdict is verdict
        assert f"{made} of at most 2" in found.text
        (tmp_path / "workers" / f"000{made + 1}").mkdir(parents=True)


async def test_pool_of_another_key(nursery):
    other = AuthoritySecretKey.generate().public_key().to_text()
    verdicts, said = await examined(nursery, Pool(), key=other)
    assert verdicts == [Verdict.BAD]
    assert "is not who authority_public_key says" in said


async def test_pool_without_a_key(nursery):
    verdicts, said = await examined(nursery, Pool(), key="")
    assert verdicts == [Verdict.WARNING, Verdict.GOOD, Verdict.GOOD]
    assert "authority_public_key is empty" in said


async def test_pool_without_jobs(nursery, monkeypatch):
    opened = doctor._open

    async def hurried(*arguments):
        offer = await opened(*arguments)
        # Only for the job: the channel may take its time.
        monkeypatch.setattr(doctor, "JOB_S_MAX", 0.05)
        return offer

    monkeypatch.setattr(doctor, "_open", hurried)
    verdicts, said = await examined(nursery, Pool(jobs=False))
    assert Verdict.BAD in verdicts
    assert "gave no job" in said


async def test_pool_that_refuses_the_name(nursery):
    verdicts, said = await examined(nursery, Pool(refusal="unknown-user"))
    assert verdicts == [Verdict.BAD]
    assert "unknown-user" in said
    assert "devices.user" in said


async def test_pool_with_a_short_extranonce(nursery):
    script = Pool(size=8)
    verdicts, said = await examined(nursery, script)
    assert [each.min_extranonce_size for each in script.asked] == [12, 8]
    assert Verdict.WARNING in verdicts
    assert "roll 4 and not 8" in said


async def test_pool_too_hard_for_the_device(nursery):
    just = TERAHASH_SHARE // 60
    assert Verdict.WARNING not in (await examined(nursery, Pool(target=just + 1)))[0]
    verdicts, said = await examined(nursery, Pool(target=just - just // 100))
    assert verdicts[-1] is Verdict.WARNING
    assert "too high for such a device" in said


async def test_pool_that_does_not_know_ecash(nursery):
    verdicts, said = await examined(nursery, Pool(), **{"pools[1].ecash": True})
    assert Verdict.BAD in verdicts
    assert "ecash = false" in said


# Devices


def device(**changes):
    worker = {"name": "rig", "last_share_unix_ms": NOW_MS - 1_000, "hash_rate": 1 << 32}
    fields = {"connected_since_unix_ms": NOW_MS - 3_600_000, "jobs": 9, "difficulty": 8.0}
    return {"workers": [worker | changes.pop("worker", {})]} | fields | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"jobs": 0}, "has had no job"),
        # Eight seconds a share: 80 s are ten of them.
        ({"worker": {"last_share_unix_ms": NOW_MS - 80_000}}, ""),
        ({"worker": {"last_share_unix_ms": NOW_MS - 81_000}}, "has it stopped"),
        # Nothing yet: a device of 1 TH/s would have sent one each 0.034 s.
        (
            {
                "connected_since_unix_ms": NOW_MS - 61_000,
                "worker": {"last_share_unix_ms": None, "hash_rate": None},
            },
            "difficulty 8",
        ),
        (
            {
                "connected_since_unix_ms": NOW_MS - 60_000,
                "worker": {"last_share_unix_ms": None, "hash_rate": None},
            },
            "",
        ),
        # A share each 600 s and a little more, for what it hashes and for what it is said to.
        ({"difficulty": 600.0}, ""),
        ({"difficulty": 601.0}, "rig hashes 0.00429497 TH/s: at difficulty 601"),
        (
            {"difficulty": 262_144.0, "worker": {"last_share_unix_ms": None, "hash_rate": None}},
            "is said to hash (devices.nominal_hash_rate_mh) 1 TH/s",
        ),
    ],
)
def test_odd_devices(changes, said):
    told = doctor._oddity(device(**changes), NOW_MS, 10**12)
    assert (said in told) if said else (told == "")


class Clients:
    """Stands for a translator's page of devices."""

    def __init__(self, total, odd):
        self.asked = []
        self._items = [
            device(client_id=number, jobs=0 if number < odd else 1) for number in range(total)
        ]

    def answer(self, request):
        offset = int(request.url.params["offset"])
        self.asked.append(offset)
        items = self._items[offset : offset + 200]
        return httpx.Response(200, json={"total": len(self._items), "items": items})


@pytest.mark.parametrize(
    ("total", "odd", "pages", "found"),
    [(0, 0, 1, 1), (200, 0, 1, 1), (201, 0, 2, 1), (4_999, 30, 25, 21), (401, 20, 3, 20)],
)
def test_all_devices_are_looked_at(monkeypatch, total, odd, pages, found):
    clients = Clients(total, odd)
    transport, plain = httpx.MockTransport(clients.answer), httpx.Client
    monkeypatch.setattr(doctor.httpx, "Client", lambda **keys: plain(transport=transport, **keys))
    monkeypatch.setattr(doctor.time, "time_ns", lambda: NOW_MS * 10**6)
    values = {"http.listen": "127.0.0.1:1", "devices.nominal_hash_rate_mh": 10**6}
    config = read({"pools[1].address": "a:1"} | values)
    findings = list(doctor._devices(config))
    assert (len(clients.asked), len(findings)) == (pages, found)
    if odd > 20:
        assert f"and {odd - 20} more of {total}" in findings[-1].text
    assert {each.verdict for each in findings} == {Verdict.WARNING if odd else Verdict.GOOD}


def test_figures_that_are_no_figures_are_no_translator(monkeypatch):
    plain = httpx.Client
    for body in ({}, {"total": "x", "items": 3}, [], {"total": 1, "items": [{}]}):
        transport = httpx.MockTransport(lambda _, body=body: httpx.Response(200, json=body))
        with monkeypatch.context() as patched:
            patched.setattr(
                doctor.httpx, "Client", lambda t=transport, **keys: plain(transport=t, **keys)
            )
            assert doctor._running("127.0.0.1:1") is None


def test_port_that_is_taken_is_the_translator_or_not():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = read({"pools[1].address": "a:1", "devices.listen": address})
        [finding] = doctor._devices(config)
    assert finding.verdict is Verdict.WARNING
    assert "unless it is the translator itself" in finding.text

"""Devices that speak Stratum V1 mine through the translator, with real processes."""

import json
import re
import signal
import socket

import pytest
from rig import audit
from rig.book import Book
from rig.declarer import Relay
from rig.node import NO_BLOCKS, UNLIMITED, Node
from rig.process import RADPOOL, Process, radpool
from rig.sv1 import Sv1Miner
from rig.translating import Translating
from rig.wait import until

pytestmark = pytest.mark.slow

POOL = UNLIMITED | {
    "mining.exponent_min": 10,
    "mining.exponent_max": 14,
    "mining.shares_per_minute": 600,
    "mining.report_interval_ms": 1_000,
    "templates.block_zeros": 18,
    "templates.payments_per_minute": 60,
}
SHARES = 20
PATIENCE_S = 300


def mined(miners, count):
    """Returns a condition: each has so many more shares, or one has lost its connection."""
    before = [each.accepted for each in miners]

    def look():
        pairs = zip(miners, before, strict=True)
        return any(each.lost for each in miners) or all(
            each.accepted - start >= count for each, start in pairs
        )

    return look


def told(miners, translating):
    return lambda: (
        f"{[(each.accepted, each.lost, each.refused) for each in miners]}; "
        + (translating.process.tail())
    )


def listed(translating):
    """Returns the names of the workers that the API shows, which looks once a second."""
    items = translating.get("/api/v1/sv1/clients").json()["items"]
    return {each["name"] for item in items for each in item["workers"]}


def printed(miner):
    """Returns the last figures that a miner has printed."""
    lines = [json.loads(line) for line in miner.lines()]
    return next(line for line in reversed(lines) if line["event"] != "note")


def accepted(miner):
    told = [json.loads(line) for line in miner.lines()]
    return max((line.get("accepted", 0) for line in told), default=0)


def refusals(miners):
    """Returns what was refused, but for shares that a new tip has overtaken."""
    return [error for each in miners for error in each.refused if error[0] != 21]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("aggregated", [False, True])
def test_devices_earn_and_find_blocks(tmp_path, aggregated):
    node = Node(tmp_path / "msp", POOL)
    with node.running() as running:
        pools, keys = [(running.sv2, running.authority_key)], {"devices.aggregated": aggregated}
        with Translating(tmp_path / "translator", pools, keys) as translating:
            translating.mining_for(running.sv2)
            with Sv1Miner(translating.sv1, "one.a") as one, Sv1Miner(translating.sv1, "two") as two:
                miners = [one, two]
                until(mined(miners, SHARES), told(miners, translating), PATIENCE_S)
                until(
                    lambda: running.get("/api/v1/blocks").json()["items"],
                    told(miners, translating),
                    PATIENCE_S,
                )
                until(
                    lambda: listed(translating) == {"one.a", "two"},
                    told(miners, translating),
                    PATIENCE_S,
                )
                metrics = translating.get("/metrics").text
                assert "sv1_clients_total 2.0" in metrics
                assert 'radpool_translator_worker_shares_accepted_total{worker="one.a"}' in metrics
                assert "sv2_server_shares_accepted_total" in metrics
                assert (one.lost, two.lost, refusals(miners)) == ("", "", [])
                # Behind one channel some shares meet the device's difficulty and not the pool's;
                # elsewhere, too, the pool may ask for more by now, and find late what is of a tip
                # that has just gone.
                wanted = 1 if aggregated else 2 * SHARES
                translating.until(
                    lambda told: told["pool_accepted"] >= wanted, "the pool takes their shares"
                )
            translating.process.signal(signal.SIGTERM)
            assert translating.process.wait() == 0, translating.process.tail()
            figures = translating.figures
            late = figures["pool_rejected"]
            assert figures["pool_accepted"] + late == figures["forwarded"], "all is answered"
            assert sum(figures["pool_refusals"].values()) == late
            assert figures["pool_work"] >= figures["pool_accepted"] << POOL["mining.exponent_min"]
        until(lambda: audit.is_at_rest(node), "all blocks on the chain and in the books")
        assert running.leave(signal.SIGTERM, 60) == 0
    assert audit.check_batches(node) == Book(node.database).check() > 0
    assert audit.check_blocks(node)


@pytest.mark.timeout(600)
def test_own_miner_speaks_the_older_protocol(tmp_path):
    node = Node(tmp_path / "msp", POOL)
    with node.running() as running:
        pools = [(running.sv2, running.authority_key)]
        with Translating(tmp_path / "translator", pools) as translating:
            translating.mining_for(running.sv2)
            command = [RADPOOL, "miner", "--sv1", translating.sv1, "--user", "cpu.one"]
            command += ["--threads", "1", "--hash-rate-limit", "200000", "--json"]
            with Process(command, tmp_path, "miner") as miner:
                until(lambda: accepted(miner) >= SHARES, miner.tail, PATIENCE_S)
                miner.signal(signal.SIGTERM)
                assert miner.wait() == 0, miner.tail()
                last = printed(miner)
                assert last["event"] == "stopped"
                assert last["rejected"].keys() <= {"Stale share", "Job not found"}
            translating.process.signal(signal.SIGTERM)
            assert translating.process.wait() == 0, translating.process.tail()
            # A leaving miner waits for the last answers no longer than a second.
            late = translating.figures["accepted"] - last["accepted"]
            assert 0 <= late <= last["lost"]
        assert running.leave(signal.SIGTERM, 60) == 0
    assert Book(node.database).check() == translating.figures["pool_accepted"] > 0


@pytest.mark.timeout(600)
def test_devices_earn_ecash(tmp_path):
    """The wallet has a token for each share that the pool has accepted, also after a kill."""
    node = Node(tmp_path / "msp", POOL | NO_BLOCKS)
    wallet = tmp_path / "wallet"
    with node.running() as running:
        radpool("wallet", "create", "--dir", wallet, "--mint", f"http://{running.http}")
        pools, keys = [(running.sv2, running.authority_key)], {"wallet.dir": str(wallet)}
        for ends in (signal.SIGKILL, signal.SIGTERM):
            with Translating(tmp_path / ends.name, pools, keys, ecash=True) as translating:
                translating.mining_for(running.sv2)
                with Sv1Miner(translating.sv1, "a") as a, Sv1Miner(translating.sv1, "b") as b:
                    miners = [a, b]
                    until(mined(miners, SHARES), told(miners, translating), PATIENCE_S)
                    assert (a.lost, b.lost, refusals(miners)) == ("", "", [])
                    translating.process.signal(ends)
                    assert translating.process.wait() in {0, -signal.SIGKILL}
            assert translating.figures["pool_channels"] <= 1, "all devices share one"
        assert running.leave(signal.SIGTERM, 60) == 0
    figures = translating.figures
    purse = figures["wallet"]
    assert (purse["unsigned"], purse["held"]) == (0, None)
    notes = [
        note["text"] for note in map(json.loads, translating.process.lines()) if "text" in note
    ]
    assert not any("stays with the mint" in text for text in notes), notes
    assert figures["pool_accepted"] + figures["pool_rejected"] == figures["forwarded"] > 0
    # Those of the translator that was killed are among them.
    balance = json.loads(radpool("wallet", "balance", "--dir", wallet, "--json"))
    tokens = sum(epoch["tokens"] for epoch in balance["epochs"])
    assert tokens == Book(node.database).check() > figures["pool_accepted"]


@pytest.mark.timeout(600)
def test_devices_go_to_the_next_pool_and_return_without_a_new_connection(tmp_path):
    first, second = Node(tmp_path / "first", POOL), Node(tmp_path / "second", POOL)
    with first.running() as one, second.running() as two, Relay(one.sv2) as way:
        pools = [(way.address, one.authority_key), (two.sv2, two.authority_key)]
        with Translating(tmp_path / "translator", pools) as translating:
            translating.mining_for(way.address)
            with Sv1Miner(translating.sv1, "a") as a, Sv1Miner(translating.sv1, "b") as b:
                miners = [a, b]
                until(mined(miners, 5), told(miners, translating), PATIENCE_S)
                way.cut()
                translating.mining_for(two.sv2)
                until(mined(miners, 5), told(miners, translating), PATIENCE_S)
                way.mend()
                translating.mining_for(way.address)
                until(mined(miners, 5), told(miners, translating), PATIENCE_S)
                assert (a.lost, b.lost, refusals(miners)) == ("", "", [])
    assert Book(first.database).check() > 0
    assert Book(second.database).check() > 0


@pytest.mark.timeout(600)
def test_devices_are_disconnected_when_no_pool_works_for_long(tmp_path):
    node = Node(tmp_path / "msp", POOL)
    with node.running() as running, Relay(running.sv2) as way:
        settings = {"devices.silence_ms": 2_000}
        pools = [(way.address, running.authority_key)]
        with Translating(tmp_path / "translator", pools, settings) as translating:
            translating.mining_for(way.address)
            with Sv1Miner(translating.sv1, "a") as miner:
                until(mined([miner], 3), told([miner], translating), PATIENCE_S)
                way.cut()
                until(lambda: miner.lost, told([miner], translating), PATIENCE_S)
                assert "closed the connection" in miner.lost
            assert translating.get("/api/v1/health").status_code == 503
            way.mend()
            translating.mining_for(way.address)
            with Sv1Miner(translating.sv1, "a") as miner:
                until(mined([miner], 3), told([miner], translating), PATIENCE_S)


@pytest.mark.timeout(600)
def test_strangers_do_not_disturb_a_device(tmp_path):
    node = Node(tmp_path / "msp", POOL)
    with node.running() as running:
        pools = [(running.sv2, running.authority_key)]
        settings = {"devices.handshake_deadline_ms": 6_000, "limits.line_deadline_ms": 3_000}
        with Translating(tmp_path / "translator", pools, settings) as translating:
            translating.mining_for(running.sv2)
            host, port = translating.sv1.rsplit(":", 1)
            with Sv1Miner(translating.sv1, "a") as miner:
                until(mined([miner], 3), told([miner], translating), PATIENCE_S)
                # What is sent, and how much of an answer comes before the end.
                strangers = {
                    b"": 0,
                    b"{": 0,
                    b'{"id":1,"method":"mining.subscribe"}\n': 1,
                    b"x" * 1_000_000: 0,
                    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n": 2,
                    b"{}}\n" * 9: 8,
                    b"\n" * 50_000: 0,
                }
                for sent, lines in strangers.items():
                    with socket.create_connection((host, int(port)), timeout=60) as stranger:
                        try:
                            stranger.sendall(sent)
                            answer = b"".join(iter(lambda: stranger.recv(4_096), b""))
                        except ConnectionError:
                            answer = b"\n" * lines
                    assert answer.count(b"\n") == lines, sent[:40]
                    for line in filter(None, answer.split(b"\n")):
                        assert {"id", "result", "error"} == json.loads(line).keys()
                until(mined([miner], 3), told([miner], translating), PATIENCE_S)
                assert (miner.lost, refusals([miner])) == ("", [])


@pytest.mark.timeout(600)
def test_first_start_makes_a_wallet_and_shows_its_words_once(tmp_path):
    node = Node(tmp_path / "msp", POOL)
    with node.running() as running:
        command = [RADPOOL, "translator", "--pool", running.sv2, "--json"]
        command += ["--authority-key", running.authority_key, "--listen", "127.0.0.1:0"]
        command += ["--wallet", tmp_path / "wallet"]
        shown = []
        for name in ("first", "second"):
            with Process(command, tmp_path, name) as process:
                process.message("serving")
                lines = [json.loads(line) for line in process.lines()]
                shown.append([line["words"] for line in lines if line.get("words")])
                process.signal(signal.SIGTERM)
                assert process.wait() == 0, process.tail()
    assert [len(words.split()) for words in shown[0]] == [12]
    assert shown[1] == []


@pytest.mark.timeout(600)
def test_first_start_needs_nothing_but_the_pool(tmp_path):
    """Who names nobody to be paid gets a wallet, the line to type in, and tokens for shares."""
    node = Node(tmp_path / "msp", POOL | NO_BLOCKS)
    with node.running() as running:
        command = ["env", "-C", tmp_path, RADPOOL, "translator", "--pool", running.sv2]
        command += ["--authority-key", running.authority_key, "--listen", "127.0.0.1:0"]
        with Process(command, tmp_path, "translator") as process:
            until(lambda: "your own network" in process.stdout.read_text(), process.tail)
            said = process.stdout.read_text()
            assert "Type into your miners" in said
            assert len(re.findall(r"(?m)^    (?:[a-z]+ ){11}[a-z]+$", said)) == 1, said
            assert "--listen 0.0.0.0:" in said
            address = said.split("stratum+tcp://")[1].split()[0]
            with Sv1Miner(address, "anything") as miner:
                until(mined([miner], 5), process.tail, PATIENCE_S)
                assert miner.lost == ""
            process.signal(signal.SIGTERM)
            assert process.wait() == 0, process.tail()
        assert running.leave(signal.SIGTERM, 60) == 0
    balance = json.loads(radpool("wallet", "balance", "--dir", tmp_path / "wallet", "--json"))
    assert sum(epoch["tokens"] for epoch in balance["epochs"]) == Book(node.database).check() > 0


@pytest.mark.timeout(600)
def test_doctor_calls_the_pool(tmp_path):
    node = Node(tmp_path / "msp", POOL)
    with node.running() as running:
        where = tmp_path / "translator"
        options = ["--authority-key", running.authority_key, "--listen", "127.0.0.1:0", "--ecash"]
        radpool("init", "translator", "--dir", where, "--pool", running.sv2, *options)
        told = radpool("doctor", "--translator", "--dir", where, "--json")
        found = [json.loads(line) for line in told.splitlines()]
        of_pool = [each for each in found if each["subject"] == f"pool {running.sv2}"]
        assert [each["verdict"] for each in of_pool] == ["good"] * 3, of_pool
        assert "gave a job" in of_pool[1]["text"]

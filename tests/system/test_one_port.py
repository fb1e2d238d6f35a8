"""One port of a real pool for miners of both Stratum versions, with real processes."""

import json
import resource
import signal
import socket

import pytest
from rig import audit
from rig.book import Book
from rig.declarer import Relay
from rig.node import NO_BLOCKS, UNLIMITED, Node
from rig.process import LOAD, RADPOOL, Process, radpool
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
ONE_PORT = POOL | {"sv1.on_same_port": True}
SHARES = 20
CROWD = 600
PATIENCE_S = 120
SUBSCRIBE = b'{"id":1,"method":"mining.subscribe","params":["test"]}\n'


def older(where, directory, user="old.rig"):
    """Returns a miner's process that speaks Stratum V1."""
    return miner(directory, user, "--sv1", where)


def newer(where, directory, key, user="new.rig"):
    """Returns a miner's process that speaks Stratum V2."""
    return miner(directory, user, "--connect", where, "--authority-key", key)


def miner(directory, user, *words):
    command = [RADPOOL, "miner", *words, "--user", user, "--threads", "1", "--json"]
    return Process([*command, "--hash-rate-limit", "100000"], directory, user)


def accepted(process):
    lines = [json.loads(line) for line in process.lines()]
    return max((line.get("accepted", 0) for line in lines), default=0)


def both_mine(miners, count=SHARES):
    before = [accepted(each) for each in miners]
    until(
        lambda: all(
            accepted(each) >= start + count for each, start in zip(miners, before, strict=True)
        ),
        lambda: "; ".join(each.tail() for each in miners),
        PATIENCE_S,
    )


def end(miners):
    for each in miners:
        each.signal(signal.SIGTERM)
        assert each.wait() == 0, each.tail()


def paid(node):
    """Returns how many shares the ledger has of each account."""
    book = Book(node.database)
    query = "SELECT name, sum(count) FROM epoch_sum JOIN account ON account = id GROUP BY name"
    return dict(book.rows(query))


def until_more_is_paid(node, before):
    """Waits until the ledger has more shares of each account than before.

    Where the pool asks for more than the device was asked for, shares stay with the translator.
    """

    def look():
        now = paid(node)
        return all(now.get(name, 0) > count for name, count in before.items())

    until(look, lambda: f"more shares than {before}; {paid(node)}", PATIENCE_S)


def connect(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def workers_of(running):
    """Returns the names of each device's workers, as of the last look, which is once a second."""
    items = running.get("/api/v1/sv1/clients").json()["items"]
    return [[worker["name"] for worker in each["workers"]] for each in items]


def heard(address, words):
    """Returns all that somebody hears who says this and then nothing."""
    with connect(address) as stream:
        stream.sendall(words)
        answer = b""
        while more := stream.recv(65_536):
            answer += more
    return answer.decode()


@pytest.mark.timeout(600)
def test_miners_of_both_versions_earn_at_one_port(tmp_path):
    node = Node(tmp_path / "msp", ONE_PORT)
    with node.running() as running:
        with (
            older(running.sv2, tmp_path) as old,
            newer(running.sv2, tmp_path, running.authority_key) as new,
        ):
            both_mine([old, new])
            until_more_is_paid(node, {"old": 0, "new": SHARES - 1})
            until(lambda: workers_of(running) == [["old.rig"]], "one device")
            assert "sv1_clients_total 1.0" in running.get("/metrics").text
            assert running.metric("radpool_engine_sv1_taken_in_total") == 1
            until(
                lambda: running.metric("radpool_translator_pool_shares_accepted_total"),
                "the translator has seen its share accepted",
            )
            end([old, new])
        until(lambda: running.metric("sv1_clients_total") == 0, "the device has left")
        assert running.problems() == []
        assert running.leave(signal.SIGTERM, 60) == 0
    assert "a role failed" not in node.stderr()
    assert audit.check_batches(node) == Book(node.database).check() == sum(paid(node).values())
    assert paid(node).keys() == {"old", "new"}
    assert paid(node)["new"] >= SHARES
    assert paid(node)["old"] > 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_miners_of_both_versions_come_back_after_a_restart(tmp_path, ending):
    node = Node(tmp_path / "msp", ONE_PORT)
    with node.running() as first, Relay(first.sv2) as way:
        with (
            older(way.address, tmp_path) as old,
            newer(way.address, tmp_path, first.authority_key) as new,
        ):
            both_mine([old, new])
            until_more_is_paid(node, {"old": 0, "new": 0})
            way.cut()
            first.process.signal(ending)
            until(first.is_gone, lambda: f"the end of all of it; {first.process.tail()}")
            before = paid(node)
            with node.running() as second:
                way.mend(second.sv2)
                both_mine([old, new])
                until_more_is_paid(node, before)
                end([old, new])
                assert second.leave(signal.SIGTERM, 60) == 0
    assert audit.check_batches(node) == Book(node.database).check()
    after = paid(node)
    assert after["old"] > before["old"] > 0
    assert after["new"] > before["new"] > 0


@pytest.mark.timeout(600)
def test_devices_earn_the_operators_ecash_at_that_port(tmp_path):
    node = Node(tmp_path / "msp", ONE_PORT | NO_BLOCKS)
    wallet = node.directory / "sv1-wallet"
    with node.running() as running:
        radpool("wallet", "create", "--dir", wallet, "--mint", f"http://{running.http}")
        assert running.leave(signal.SIGTERM, 60) == 0
    node.change({"sv1.ecash": True})
    with node.running() as running:
        with older(running.sv2, tmp_path) as old:
            both_mine([old])
            until(lambda: Book(node.database).number("SELECT count(*) FROM share"), old.tail)
            end([old])
        assert running.leave(signal.SIGTERM, 60) == 0
    balance = json.loads(radpool("wallet", "balance", "--dir", wallet, "--json"))
    shares = Book(node.database).check()
    assert sum(epoch["tokens"] for epoch in balance["epochs"]) == shares > 0, node.stderr()
    assert "old" not in paid(node)


@pytest.mark.timeout(600)
def test_more_devices_mine_than_one_client_may_have_channels(tmp_path):
    ordinary = {
        "limits.channels_per_connection_max": 100,
        "limits.requests_per_second_max": 50,
        "limits.requests_burst_max": 100,
        "limits.submits_per_second_max": 50,
        "limits.submits_burst_max": 100,
        "mining.exponent_min": 2,
        "mining.exponent_max": 2,
    }
    node = Node(tmp_path / "msp", ONE_PORT | NO_BLOCKS | ordinary)
    shares = 2 * CROWD
    with node.running() as running:
        command = [LOAD, "sv1-shares", "--connect", running.sv2, "--shares", shares]
        command += ["--connections", CROWD, "--period-ms", 1_000]
        with Process(command, tmp_path, "devices") as devices:
            seen = devices.message("shares", 240)
            assert devices.wait() == 0, devices.tail()
        assert (seen["sent"], seen["accepted"], seen["failed"]) == (shares, shares, 0), seen
        until(
            lambda: running.metric("radpool_translator_pool_shares_accepted_total") == shares,
            "the pool has all",
        )
        assert running.metric("radpool_engine_sv1_taken_in_total") == CROWD
        assert running.leave(signal.SIGTERM, 60) == 0
    assert Book(node.database).check() == shares


@pytest.mark.timeout(600)
def test_devices_hear_why_where_the_option_is_off(tmp_path):
    node = Node(tmp_path / "msp", POOL)
    with node.running() as running:
        for _ in range(3):
            assert "Stratum V2 only" in heard(running.sv2, SUBSCRIBE)
        line = running.wait_for_log(
            "an SV1 device called at the SV2 port and was turned away; to serve such devices "
            "set sv1.on_same_port = true, or run `radpool translator` for them"
        )
        assert line["address"].startswith("127.0.0.1:")
        assert running.metric("radpool_engine_sv1_turned_away_total") == 3
        assert running.get("/api/v1/sv1/clients").json()["total"] == 0
        with newer(running.sv2, tmp_path, running.authority_key) as new:
            both_mine([new])
            end([new])
        assert running.leave(signal.SIGTERM, 60) == 0
    assert sum("called at the SV2 port" in each["event"] for each in node.log()) == 1


@pytest.mark.timeout(600)
def test_devices_keep_to_the_limits_of_the_port(tmp_path):
    limits = {"limits.connections_per_address_max": 4, "limits.handshake_deadline_ms": 5_000}
    node = Node(tmp_path / "msp", ONE_PORT | limits)
    with node.running() as running:
        # The translator itself is one of the four.
        devices = []
        for _ in range(3):
            devices.append(connect(running.sv2))
            devices[-1].sendall(SUBSCRIBE)
            assert b'"id":1' in devices[-1].recv(4096)
        assert heard(running.sv2, b"") == ""
        assert running.metric("radpool_engine_refused_connections_of_address_total") == 1
        devices.pop().close()
        until(lambda: running.metric("radpool_engine_sockets") == 3, "a place is free")
        # Who does not say who calls is no device.
        assert heard(running.sv2, b'{"id":1}\n') == ""
        until(lambda: running.metric("radpool_engine_sockets") == 3, "the place is free again")
        assert running.metric("radpool_engine_handshakes_failed_total") == 1
        # Without a free descriptor nobody comes in, and those who are there stay.
        pid = running.process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
        waiting = connect(running.sv2)
        waiting.sendall(SUBSCRIBE)
        devices[0].sendall(b'{"id":2,"method":"mining.ping","params":[]}\n')
        until(lambda: b"pong" in devices[0].recv(4096), "an answer")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert b'"id":1' in waiting.recv(4096)
        for each in (*devices, waiting):
            each.close()
        until(lambda: running.metric("radpool_engine_sockets") == 1, "all have left")
        assert running.leave(signal.SIGTERM, 60) == 0
    assert "Traceback" not in node.stderr()

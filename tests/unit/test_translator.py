"""The translator's configuration, its estimate of hash rates, and the way from pool to pool."""

import contextlib
import math
import random
import socket
from pathlib import Path

import pytest
import trio
import trio.testing
from radpool_sv2_translator.config import TranslatorConfig
from radpool_sv2_translator.pools import LINGER_S, REDIRECTIONS_MAX, Place, Pools
from radpool_sv2_translator.rate import Meter, interval

from radpool_sv2._native import translator as native
from radpool_sv2.config import Endpoint, loads, render
from radpool_sv2.errors import ConfigError, LocalProtocolError

FILE = Path("/srv/translator/translator.toml")
POOL = '[[pools]]\naddress = "pool.example:3333"\n'


# Configuration


def test_defaults_serve_one_pool():
    config = loads(TranslatorConfig, POOL, FILE)
    assert config.pools[0].address == Endpoint("pool.example", 3333)
    assert config.devices.listen == Endpoint("127.0.0.1", 3333)
    assert (config.devices.user, config.http.listen) == ("", "")


def test_written_file_reads_back():
    text = render(TranslatorConfig, {"pools[1].address": "pool.example:3333"})
    assert loads(TranslatorConfig, text, FILE) == loads(TranslatorConfig, POOL, FILE)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "pools"),
        (POOL + "[devices]\nsilence = 1\n", "silence_ms"),
        (POOL + "[devices]\nexponent_min = 121\n", "devices.exponent_min"),
        (POOL + '[http]\nlisten = "here"\n', "http.listen"),
        (POOL + "[fallback]\nretry_s = 61\n", "fallback.retry_s"),
        ('[[pools]]\naddress = "pool.example:0"\n', "pools"),
        (POOL + "[wallet]\nper_worker = true\n", "wallet.per_worker"),
        (
            POOL + "ecash = true\n[wallet]\nper_worker = true\n[devices]\naggregated = true\n",
            "wallet.per_worker",
        ),
        (POOL + "[wallet]\nworkers_max = 1001\n", "wallet.workers_max"),
    ],
)
def test_faults_are_named(text, named):
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        loads(TranslatorConfig, text, FILE)


# Hash rates


def test_interval_contains_the_rate_nineteen_times_in_twenty():
    generator = random.Random(20261121)
    for expected in (2.0, 6.0, 60.0):
        inside = 0
        for _ in range(400):
            count, left = 0, expected - generator.expovariate(1)
            while left > 0:
                count, left = count + 1, left - generator.expovariate(1)
            low, high = interval(count)
            inside += low <= expected <= high
        assert inside / 400 > 0.93, expected


def test_interval_is_close_to_the_exact_one():
    # Garwood's, from tables of chi-squared.
    for count, exact in {
        0: (0, 3.689),
        3: (0.619, 8.767),
        10: (4.795, 18.39),
        100: (81.36, 121.63),
    }.items():
        low, high = interval(count)
        assert math.isclose(low, exact[0], rel_tol=0.03) and math.isclose(
            high, exact[1], abs_tol=0.7
        )


def test_meter_forgets_what_was_long_ago():
    meter = Meter()
    assert meter.estimate() is None
    for second in range(2_001):
        # One share of 2^20 a second, then nothing for ten minutes.
        shares = min(second, 1_000)
        meter.note(float(second), shares, shares << 20)
        if second == 500:
            assert meter.estimate().rate == pytest.approx(1 << 20, rel=0.02)
    assert (meter.estimate().rate, meter.estimate().low) == (0, 0)
    assert len(meter._samples) <= 24
    # Of the long time before its first share no more than the window counts.
    idle = Meter()
    for second in range(0, 5_000, 10):
        idle.note(float(second), 0, 0)
    assert len(idle._samples) == 2
    assert idle.estimate().rate == 0
    idle.note(5_000.0, 60, 60 << 20)
    assert idle.estimate().rate == pytest.approx((60 << 20) / 600)


# Pools


class Engine:
    """Stands for the native translator: keeps what it is told."""

    def __init__(self):
        self.connected = {}
        self.used = []
        self.left = []

    def connect(self, *, host, port, user, probe_required, aggregated, **_):
        self.connected[len(self.connected) + 1] = (host, port, user, probe_required, aggregated)
        return len(self.connected)

    def use_upstream(self, upstream):
        self.used.append(upstream)

    def disconnect(self, upstream):
        if upstream in self.left:
            raise LocalProtocolError("it has ended")
        self.left.append(upstream)


class Told:
    """Stands for a native event, which only the native part can make."""

    def __init__(self, upstream, reason="it broke", elsewhere=None):
        self.upstream, self.reason, self.elsewhere = upstream, reason, elsewhere


@pytest.fixture
async def ladder(nursery, autojump_clock):
    engine, notes = Engine(), []
    places = [Place(Endpoint("a", 1), None), Place(Endpoint("b", 2), None)]
    pools = Pools(engine, places, (2.0, 60.0), "us", notes.append, aggregated=False)
    nursery.start_soon(pools.run)
    await trio.testing.wait_all_tasks_blocked()
    return engine, pools, notes


async def test_first_pool_that_works_is_used(ladder):
    engine, pools, notes = ladder
    assert engine.connected == {1: ("a", 1, "us", True, False)}
    assert pools.in_use is None
    pools.ready(Told(1))
    assert (engine.used, pools.in_use.name) == ([1], "a:1")
    assert notes == ["mining for a:1"]


async def test_next_pool_is_used_until_the_better_one_is_back(autojump_clock, ladder):
    engine, pools, notes = ladder
    pools.ready(Told(1))
    pools.ended(Told(1))
    assert engine.connected[2][:2] == ("b", 2)
    pools.ready(Told(2))
    assert engine.used == [1, 2]
    await trio.sleep(2.5)
    assert engine.connected[3][:2] == ("a", 1)
    pools.ready(Told(3))
    assert (engine.used, pools.in_use.name) == ([1, 2, 3], "a:1")
    assert engine.left == [], "devices still change over"
    await trio.sleep(LINGER_S + 1)
    assert engine.left == [2]
    assert "a:1 is given up: it broke" in notes


async def test_redirection_is_followed_at_once_but_once_in_a_row(ladder):
    engine, pools, _notes = ladder
    pools.ended(Told(1, elsewhere=("c", 0)))
    assert engine.connected[2][:2] == ("c", 1)
    pools.ended(Told(2, elsewhere=("d", 0)))
    assert engine.connected[3][:2] == ("b", 2), "the next pool has its turn"
    pools.ended(Told(3))
    await trio.sleep(2.5)
    assert engine.connected[4][:2] == ("b", 2)
    pools.ended(Told(4))
    await trio.sleep(2)
    assert engine.connected[5][:2] == ("d", 1), "it is not forgotten where the first one is"


async def test_redirections_are_not_followed_for_ever(autojump_clock, ladder):
    engine, pools, _notes = ladder
    asked = []
    for _ in range(3 * (REDIRECTIONS_MAX + 1)):
        upstream = len(engine.connected)
        asked.append(engine.connected[upstream][0])
        pools.ended(Told(upstream, elsewhere=("c", 0)))
        await trio.sleep(61)
    assert {"a", "b", "c"} == set(asked)
    assert asked.count("c") <= 2 * REDIRECTIONS_MAX, "each pool may, so often"


async def test_events_of_pools_that_were_left_are_no_news(ladder):
    engine, pools, _notes = ladder
    pools.ready(Told(7))
    pools.ended(Told(7))
    assert (engine.used, len(engine.connected)) == ([], 1)


# The native part


def settings(**changes):
    values = {
        "shares_per_minute": 6,
        "exponent_start": 120,
        "exponent_min": 0,
        "handshake_deadline_ms": 1_000,
        "silence_ms": 1_000,
        "keepalive_ms": 1_000,
        "ntime_ahead_s": 7_200,
        "submits_per_second_max": 10,
        "submits_burst_max": 10,
        "requests_per_second_max": 10,
        "requests_burst_max": 10,
        "malformed_max": 8,
        "names_max": 8,
        "jobs_max": 16,
        "user": None,
        "nominal_hash_rate": 1e12,
        "linger_ms": 1_000,
        "io_threads": 1,
        "connections_max": 10,
        "connections_per_address_max": 10,
        "connects_per_second_per_address_max": 10,
        "connects_burst_per_address_max": 10,
        "tls_handshakes_max": 4,
        "tls_handshakes_per_address_max": 2,
        "tls_handshake_deadline_ms": 1_000,
        "line_deadline_ms": 1_000,
        "write_deadline_ms": 1_000,
        "seen_shares_max": 1_000,
    }
    return native.TranslatorSettings(**(values | changes))


def test_settings_are_checked_by_name():
    with pytest.raises(TypeError, match="needs the keyword"):
        native.TranslatorSettings(exponent_min=0, shares_per_minute=6)
    with pytest.raises(TypeError, match="knows no keyword extra"):
        settings(extra=1)
    for name in ("shares_per_minute", "connections_max", "keepalive_ms", "seen_shares_max"):
        with pytest.raises(ConfigError, match=name):
            native.Translator(settings(**{name: 0}))
    with pytest.raises(ConfigError, match="nominal_hash_rate"):
        native.Translator(settings(nominal_hash_rate=0.0))


async def test_unreachable_pool_is_told_and_stopping_ends_the_events():
    translator = native.Translator(settings())
    with socket_that_refuses() as (host, port):
        upstream = translator.connect(
            host=host, port=port, authority=None, user="us", probe_required=True, aggregated=False
        )
    await trio.lowlevel.wait_readable(translator.event_fd())
    [ended], stopped = translator.drain()
    assert isinstance(ended, native.UpstreamEnded)
    assert (ended.upstream, ended.lasting, ended.elsewhere, stopped) == (
        upstream,
        False,
        None,
        False,
    )
    assert "cannot reach" in ended.reason
    with pytest.raises(LocalProtocolError, match="no upstream"):
        translator.use_upstream(upstream)
    await trio.to_thread.run_sync(translator.stop, 1_000)
    await trio.lowlevel.wait_readable(translator.event_fd())
    assert translator.drain() == ([], True)
    with pytest.raises(LocalProtocolError, match="stopped"):
        translator.listen("127.0.0.1", 0)


@contextlib.contextmanager
def socket_that_refuses():
    # Bound and not listening: nobody else gets the port, and connections are refused.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()

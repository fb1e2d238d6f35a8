"""The miner's command line: addresses, figures in words, JSON lines; the native arguments."""

import json
from types import SimpleNamespace

import pytest

from radpool_sv2._native.keys import AuthoritySecretKey
from radpool_sv2._native.miner import Carrier, Miner
from radpool_sv2.cli.miner import _figures, _JsonView, _rows, parse_address, scale
from radpool_sv2.errors import ConfigError, LocalProtocolError

ARGUMENTS = {
    "host": "127.0.0.1",
    "port": 1,
    "authority": None,
    "user": "alice",
    "kind": "extended",
    "threads": 1,
    "hash_rate_limit": 1,
}


def stats(**values):
    figures = {
        "state": "mining",
        "hashes": 5_000_000,
        "hash_rate": 1_234_567,
        "submitted": 12,
        "accepted": 10,
        "accepted_hashes": 10 << 16,
        "rejected": {"stale-share": 1, "duplicate-share": 2},
        "unanswered": 2,
        "waiting": 0,
        "resent": 0,
        "lost": 0,
        "mismatches": 0,
        "exponent": 16,
        "prev_hash": bytes(31) + b"\x01",
        "tips": 3,
        "sessions": 1,
        "latency_p50_us": 1_200,
        "latency_p99_us": 9_900,
        "last_end": None,
    }
    return SimpleNamespace(**(figures | values))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:3333", ("127.0.0.1", 3333)),
        ("pool.example:1", ("pool.example", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_address_is_host_and_port(text, expected):
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":3333", "host:0", "host:65536", "host:x", "::1:3333", "host:٣"]
)
def test_wrong_address_says_what_is_expected(text):
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "0 "),
        (999, "999 "),
        (1_000, "1.0 k"),
        (99_949, "99.9 k"),
        (999_499, "999 k"),
        (999_500, "1.0 M"),
        (1 << 40, "1.1 T"),
        (10**30, "1000000 Y"),
    ],
)
def test_numbers_are_scaled_to_three_digits(number, expected):
    assert scale(number) == expected


def test_rows_tell_shares_target_and_delay():
    rows = dict(_rows(stats()))
    assert rows["shares"] == "10 accepted, 2 under way"
    assert rows["rejected"] == "2 duplicate-share, 1 stale-share"
    assert rows["target"] == "16 zero bits: a share every 65.5 kH"
    assert rows["on block"] == "01" + "00" * 31
    assert rows["answered in"] == "1.2 ms, 99 of 100 in 9.9 ms"
    assert "miscounted" not in rows


def test_rows_before_anything_has_come():
    empty = stats(
        state="waiting", last_end="cannot reach x:1: Connection refused", exponent=None,
        prev_hash=None, latency_p50_us=None, latency_p99_us=None, rejected={}, mismatches=1,
    )  # fmt: skip
    rows = dict(_rows(empty))
    assert rows["state"] == "waiting: cannot reach x:1: Connection refused"
    assert rows["rejected"] == "none"
    assert not {"target", "on block", "answered in"} & rows.keys()
    assert "miscounted" in rows


async def test_json_view_prints_notes_at_once_and_figures_each_second(capsys, autojump_clock):
    view = _JsonView()
    view.update(stats(), [(7, "the pool opened channel 1")])
    view.update(stats(), [])
    view.finish(stats(state="stopped"), [])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["note", "stats", "stopped"]
    assert lines[0]["text"] == "the pool opened channel 1"
    assert lines[1] == _figures("stats", stats())


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("kind", "group", "standard or extended"),
        ("threads", 0, "1 to 1024"),
        ("threads", 1025, "1 to 1024"),
        ("hash_rate_limit", 0, "never find"),
        ("user", "x" * 256, "255"),
    ],
)
def test_native_miner_refuses_what_makes_no_sense(name, value, text):
    with pytest.raises(ConfigError, match=text):
        Miner(**(ARGUMENTS | {name: value}))


def test_native_miner_starts_once_and_stops_twice():
    miner = Miner(**ARGUMENTS)
    assert miner.stats().state == "connecting"
    miner.start()
    with pytest.raises(LocalProtocolError, match="started before"):
        miner.start()
    miner.stop()
    miner.stop()
    assert miner.stats().state == "stopped"
    assert isinstance(miner.events(), list)


CARRIER = {
    "extension_type": 0x4777,
    "open_messages": (10, 11, 12),
    "open_tail": b"please",
    "share_messages": (13, 14, 15),
    "renewing_codes": ["torn"],
    "lapsing_codes": ["outdated"],
}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"extension_type": 0}, "no extension's number"),
        ({"extension_type": 1}, "no extension's number"),
        ({"extension_type": 0x8000}, "no extension's number"),
        ({"extension_type": 1 << 16}, "out of range"),
        ({"open_messages": (10, 11, 256)}, "out of range"),
        ({"open_messages": (10, 11, 14)}, "same number"),
        ({"share_messages": (10, 14, 15)}, "same number"),
        ({"renewing_codes": [""]}, "cannot be sent as a code"),
        ({"lapsing_codes": ["\n"]}, "cannot be sent as a code"),
        ({"open_tail": bytes(1 << 18)}, "a tail of"),
    ],
)
def test_carrier_refuses_what_makes_no_sense(change, text):
    with pytest.raises(LocalProtocolError, match=text):
        Carrier(**(CARRIER | change))


def test_carrier_needs_an_extended_channel():
    carrier = Carrier(**CARRIER)
    assert Miner(**ARGUMENTS, carrier=carrier) is not None
    with pytest.raises(ConfigError, match="needs an extended channel"):
        Miner(**(ARGUMENTS | {"kind": "standard"}), carrier=carrier)


def test_miner_that_was_not_started_has_no_news():
    miner = Miner(**ARGUMENTS, carrier=Carrier(**CARRIER))
    for use in (miner.take, miner.event_fd, miner.leave, lambda: miner.give(1, 1, [])):
        with pytest.raises(LocalProtocolError, match="not started"):
            use()


def test_miner_takes_nothing_that_is_out_of_range():
    miner = Miner(**ARGUMENTS, carrier=Carrier(**CARRIER))
    with pytest.raises(LocalProtocolError, match="attachment of 1025 bytes"):
        miner.give(1, 1, [(1, bytes(1025))])
    with pytest.raises(LocalProtocolError, match="out of range"):
        miner.give(-1, 1, [])
    with pytest.raises(LocalProtocolError, match="payload of"):
        miner.send(1, 1, channel_msg=False, payload=bytes((1 << 18) + 1))


def test_news_of_a_miner_without_a_pool_tell_its_end():
    miner = Miner(**ARGUMENTS, carrier=Carrier(**CARRIER))
    miner.start()
    miner.stop()
    news = miner.take()
    assert (news.session, news.opened, news.submitted, news.frames) == (1, None, [], [])
    assert news.ended
    assert not miner.give(1, 1, [(1, b"")])
    assert not miner.send(1, 1, channel_msg=False, payload=b"")
    assert miner.take().ended is None


class Side:
    """Has figures to show."""

    word = "wallet"

    def figures(self):
        return {"tokens": 3}

    def rows(self):
        return [("tokens", "3 worth 48 units of work")]


def test_figures_and_rows_tell_of_the_wallet():
    assert _figures("stats", stats(), Side())["wallet"] == {"tokens": 3}
    assert "wallet" not in _figures("stats", stats())
    assert _rows(stats(), Side())[-1] == ("tokens", "3 worth 48 units of work")
    assert dict(_rows(stats(waiting=2)))["shares"] == "10 accepted, 2 under way, 2 wait for a claim"


def test_older_protocol_has_neither_keys_nor_extensions():
    assert Miner(**ARGUMENTS, sv1=True) is not None
    key = AuthoritySecretKey.generate().public_key()
    for more in ({"authority": key}, {"carrier": Carrier(**CARRIER)}):
        with pytest.raises(ConfigError, match="Stratum V1"):
            Miner(**(ARGUMENTS | {"sv1": True} | more))

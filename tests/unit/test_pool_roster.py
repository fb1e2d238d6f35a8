"""The roster and its window, fed with events as the engine makes them."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from radpool_sv2.pool import roster as module
from radpool_sv2.pool.account import UserIdentity
from radpool_sv2.pool.roster import Roster
from radpool_sv2.web.window import Window

KINDS = (
    "SetUp",
    "Disconnected",
    "ChannelOpened",
    "ChannelClosed",
    "ChannelUpdated",
    "ExponentChanged",
    "ChannelReport",
    "WorkerNamed",
)


@pytest.fixture
def event(monkeypatch):
    """Makes events: the native classes cannot be made in Python, so stand-ins take their place."""
    classes = {name: type(name, (SimpleNamespace,), {}) for name in KINDS}
    for name, stand_in in classes.items():
        monkeypatch.setattr(module, name, stand_in)
    return SimpleNamespace(**classes)


def set_up(event, connection=1, vendor=b"Bitaxe"):
    return event.SetUp(
        connection=connection,
        address="127.0.0.1:9",
        vendor=vendor,
        hardware_version=b"Gamma",
        firmware=b"2.1",
    )


def request(connection=1, number=5):
    return SimpleNamespace(
        connection=connection,
        request=number,
        kind="extended",
        user_identity=b"alice.rig",
        nominal_hash_rate=1e6,
        max_target=b"\xff" * 32,
        extension_type=0x4E45,
    )


def opened(event, connection=1, number=5, channel=2):
    return event.ChannelOpened(
        connection=connection,
        request=number,
        channel=channel,
        exponent=20,
        extranonce_prefix=b"\0\0\0\1",
        rollable=8,
    )


@pytest.fixture
def roster(event):
    roster = Roster()
    roster.apply(set_up(event))
    roster.request(request(), UserIdentity("alice", "rig", None))
    return roster


def test_a_channel_from_request_to_close(event, roster):
    assert roster.channel(1, 2) is None
    roster.apply(opened(event))
    channel = roster.channel(1, 2)
    assert (channel.user_identity, channel.exponent, channel.rollable) == ("alice.rig", 20, 8)
    roster.apply(event.ExponentChanged(connection=1, channel=2, exponent=21))
    roster.apply(
        event.ChannelReport(
            connection=1, channel=2, accepted=3, work=9, rejected={"stale-share": 1}, exponent=22
        )
    )
    roster.apply(
        event.ChannelUpdated(connection=1, channel=2, nominal_hash_rate=2e6, max_target=bytes(32))
    )
    assert (channel.accepted, channel.work, channel.exponent) == (3, 9, 22)
    assert channel.rejected == {"stale-share": 1}
    assert channel.nominal_hash_rate == 2e6
    roster.apply(event.WorkerNamed(connection=1, channel=2, worker=1, name=b"rig\x007"))
    assert channel.workers == {1: "rig\ufffd7"}
    roster.apply(event.ChannelClosed(connection=1, channel=2))
    assert roster.channel(1, 2) is None
    roster.apply(event.WorkerNamed(connection=1, channel=2, worker=1, name=b"late"))


def test_nothing_stays_of_a_connection_that_is_gone(event, roster):
    roster.apply(opened(event))
    roster.apply(event.Disconnected(connection=1))
    assert list(roster) == []
    # What arrives late about it changes nothing.
    roster.apply(opened(event))
    roster.apply(event.ExponentChanged(connection=1, channel=2, exponent=21))
    roster.apply(event.ChannelClosed(connection=1, channel=2))
    roster.apply(event.Disconnected(connection=1))
    roster.request(request(), UserIdentity("alice", "", None))
    roster.refuse(1, 5)
    assert list(roster) == []


def test_a_refused_request_is_forgotten(event, roster):
    roster.refuse(1, 5)
    assert roster.get(1).requested == {}
    roster.apply(opened(event))
    assert roster.channel(1, 2) is None


def test_what_clients_say_of_themselves_becomes_printable(event, roster):
    roster.apply(set_up(event, connection=3, vendor=b"\x1b[2J\xff\x00evil"))
    assert roster.get(3).vendor.isprintable()
    assert "evil" in roster.get(3).vendor


@dataclass
class Pool:
    roster: Roster
    work: object = None
    tip_height: int = 0
    address: object = None
    started_unix_ms: int = 0
    ledger: object = field(default_factory=lambda: SimpleNamespace(current_epoch=4, blocks_found=3))

    def problems(self):
        return ["the disk is full"]

    def metrics(self):
        return {"connections": 1}


def test_the_window_shows_it(event, roster):
    roster.apply(opened(event))
    roster.apply(set_up(event, connection=0))
    window = Window(Pool(roster), 6)
    assert [client.client_id for client in window.clients()] == [0, 1]
    [channel] = window.client(1).channels
    assert (channel.account, channel.channel_id, channel.shares_per_minute) == ("alice", 2, 6)
    assert window.client(9) is None
    assert window.status()["template"] is None
    assert window.status()["problems"] == ["the disk is full"]
    assert window.blocks_found() == 3


def test_the_window_shows_the_work(roster):
    template = SimpleNamespace(
        id=1, height=102, value_sats=50, fees_sats=1, tx_count=2, rule="demo rule"
    )
    tip = SimpleNamespace(prev_hash=bytes(31) + b"\x01")
    status = Window(Pool(roster, SimpleNamespace(template=template, tip=tip)), 6).status()
    assert status["template"]["rule"] == "demo rule"
    assert status["tip_hash"] == "01" + "00" * 31

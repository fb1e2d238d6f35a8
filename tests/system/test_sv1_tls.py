"""Devices mine over TLS through a translator, and those that do not shake hands disturb nobody."""

import json
import socket
import ssl

import pytest
import trio
from rig.device import DEVICES, Device
from rig.node import NO_BLOCKS, UNLIMITED, Node
from rig.tls import DAY_S, HOST, make_certificate, replace, trusting
from rig.translating import Translating
from rig.wait import until

pytestmark = pytest.mark.slow

# Without blocks the pool has no reason to find a share late that the translator has taken.
POOL = (
    UNLIMITED
    | NO_BLOCKS
    | {
        "mining.exponent_min": 10,
        "mining.exponent_max": 12,
        "mining.shares_per_minute": 600,
    }
)
STALE = 21
FIRMWARE = DEVICES[0]
SUBSCRIBE = b'{"id":1,"method":"mining.subscribe","params":[]}\n'


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with Node(tmp_path_factory.mktemp("pool"), POOL).running() as node:
        yield node


@pytest.fixture
def translating(tmp_path, pool):
    """A way to start a translator with a TLS port, whose certificate is in the directory."""

    def start(**settings):
        settings = {
            "devices.tls_listen": "127.0.0.1:0",
            "devices.tls_certificate_file": "translator.pem",
            "devices.tls_key_file": "translator.key",
        } | settings
        return Translating(tmp_path, [(pool.sv2, pool.authority_key)], settings)

    return start


def mine(device):
    """Mines until a share was accepted."""
    while (answer := device.mine()) is not True:
        assert answer[0] == STALE, answer


def counter(translating, name):
    """Returns a counter of the translator."""
    for line in translating.get("/metrics").text.splitlines():
        if line.startswith(f"radpool_translator_{name}_total "):
            return float(line.split()[1])
    return 0


@pytest.mark.timeout(600)
def test_devices_mine_over_both_versions(tmp_path, pool, translating):
    certificate, _key = make_certificate(tmp_path)
    with translating() as running:
        running.mining_for(pool.sv2)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with Device(FIRMWARE, running.tls, "alice.rig", trusting(certificate, version)) as one:
                one.greet()
                mine(one)
        with Device(FIRMWARE, running.sv1, "alice.plain") as plain:
            plain.greet()
            mine(plain)
        running.until(lambda told: told["pool_accepted"] >= 3, "the pool takes their shares")
        until(lambda: counter(running, "tls_handshakes") == 2, "both are counted")


@pytest.mark.timeout(600)
def test_many_devices_at_once_have_a_job_each(tmp_path, pool, translating):
    certificate, _key = make_certificate(tmp_path)
    count = 50

    async def all_of_them(address):
        host, port = address.rsplit(":", 1)
        context = trusting(certificate)

        async def one(number):
            plain = await trio.open_tcp_stream(host, int(port))
            async with trio.SSLStream(plain, context, server_hostname=HOST) as stream:
                authorize = {"id": 2, "method": "mining.authorize", "params": [f"w{number}", "x"]}
                await stream.send_all(SUBSCRIBE + json.dumps(authorize).encode() + b"\n")
                heard = b""
                while b"mining.notify" not in heard.rpartition(b"\n")[0]:
                    more = await stream.receive_some()
                    assert more, "it ended before the job"
                    heard += more

        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                for number in range(count):
                    nursery.start_soon(one, number)

    # Fewer turns than devices: they wait for one another, here as long as it takes.
    limits = {
        "limits.tls_handshakes_per_address_max": 4,
        "limits.tls_handshake_deadline_ms": 100_000,
    }
    with translating(**limits) as running:
        running.mining_for(pool.sv2)
        trio.run(all_of_them, running.tls)
        until(lambda: counter(running, "tls_handshakes") == count, "each is counted")


@pytest.mark.timeout(600)
def test_whoever_shakes_no_hands_disturbs_nobody(tmp_path, pool, translating):
    certificate, _key = make_certificate(tmp_path)
    limits = {
        "limits.tls_handshakes_per_address_max": 8,
        "limits.tls_handshake_deadline_ms": 10_000,
    }
    with translating(**limits) as running:
        running.mining_for(pool.sv2)
        with Device(FIRMWARE, running.tls, "alice.rig", trusting(certificate)) as device:
            device.greet()
            host, port = running.tls.rsplit(":", 1)

            def call():
                return socket.create_connection((host, int(port)), timeout=60)

            silent, half, plain = call(), call(), call()
            half.sendall(b"\x16\x03\x01\x02\x00\x01")
            plain.sendall(SUBSCRIBE)
            mine(device)
            for each in (plain, half, silent):
                with each:
                    assert end_of(each)
            until(lambda: counter(running, "tls_failed_plain") == 1, "the plain one is counted")
            until(lambda: counter(running, "tls_failed_timeout") == 2, "the others are counted")
            with pytest.raises(ssl.SSLCertVerificationError):
                stranger = make_certificate(tmp_path / "other")[0]
                Device(FIRMWARE, running.tls, "bob", trusting(stranger))
            until(lambda: counter(running, "tls_failed_refused") == 1, "and who knows us not")
            mine(device)
        until(lambda: "have it call stratum+ssl" in said(running), "people are told")


def said(running):
    """Returns all that it has ever written; the end alone is figures soon."""
    files = (running.process.stdout, running.process.stderr)
    return "".join(each.read_text(errors="replace") for each in files)


def end_of(connection):
    """Reads to the end; a reset is one too."""
    try:
        while connection.recv(4_096):
            pass
    except ConnectionResetError:
        return True
    return True


@pytest.mark.timeout(600)
def test_certificate_is_renewed_under_way(tmp_path, pool, translating):
    certificate, key = make_certificate(tmp_path, begins_s=-2 * DAY_S, ends_s=-DAY_S)
    with translating() as running:
        running.mining_for(pool.sv2)
        assert "ended on" in running.figures["tls"]["problem"]
        assert "ended on" in running.get("/api/v1/health").json()["problems"][0]
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            Device(FIRMWARE, running.tls, "alice.rig", trusting(certificate))
        # Much firmware checks no certificate: it need not stand still.
        with Device(FIRMWARE, running.tls, "alice.rig", trusting(None)) as before:
            before.greet()
            mine(before)
            make_certificate(tmp_path)
            running.until(lambda told: not told["tls"]["problem"], "the new one is taken")
            mine(before)
            with Device(FIRMWARE, running.tls, "alice.two", trusting(certificate)) as after:
                after.greet()
                mine(after)
            known = trusting(certificate)
            replace(key, b"half a key")
            running.until(lambda told: "is shown on" in told["tls"]["problem"], "it is told")
            with Device(FIRMWARE, running.tls, "alice.three", known) as third:
                third.greet()
                mine(third)

"""The certificate of the TLS port: what is read, what is refused, and how it is renewed."""

import sys
import time
from types import SimpleNamespace

import pytest
import trio
from radpool_sv2_translator import certificate as module
from radpool_sv2_translator import doctor
from radpool_sv2_translator.certificate import Keeper, load_identity
from radpool_sv2_translator.config import TranslatorConfig
from radpool_sv2_translator.installation import install_translator
from radpool_sv2_translator.role import _settings
from rig.tls import DAY_S, HOST, make_certificate, replace

from radpool_sv2._native import translator as native
from radpool_sv2.cli import main
from radpool_sv2.config import load, loads, render
from radpool_sv2.doctor import Verdict
from radpool_sv2.errors import ConfigError

PATIENCE_S = 60


def config_of(directory, certificate, key, listen="127.0.0.1:0"):
    values = {
        "pools[1].address": "pool.example:3333",
        "devices.tls_listen": listen,
        "devices.tls_certificate_file": str(certificate),
        "devices.tls_key_file": str(key),
    }
    text = render(TranslatorConfig, values)
    return loads(TranslatorConfig, text, directory / "translator.toml")


@pytest.fixture
def devices(tmp_path):
    return config_of(tmp_path, *make_certificate(tmp_path)).devices


# Reading


def test_certificate_is_read_with_its_key(devices):
    identity = load_identity(devices)
    assert identity.certificate.names == [HOST]
    assert abs(identity.certificate.not_after_unix_s - time.time() - 90 * DAY_S) < DAY_S
    assert abs(identity.certificate.not_before_unix_s - time.time() + DAY_S) < DAY_S
    assert "TlsIdentity(...)" in repr(identity.native)
    assert (identity.fault(time.time()), identity.notice(time.time())) == ("", "")


def test_relative_paths_start_at_the_file(tmp_path):
    devices = config_of(tmp_path, "tls/a.pem", "tls/a.key").devices
    assert devices.tls_certificate_file == tmp_path / "tls" / "a.pem"


@pytest.mark.parametrize(
    ("spoil", "file", "said"),
    [
        (lambda cert, key: cert.unlink(), "pem", "is not there"),
        (lambda cert, key: key.unlink(), "key", "is not there"),
        (lambda cert, key: cert.write_text("text"), "pem", "no certificate in it"),
        (lambda cert, key: cert.write_bytes(key.read_bytes()), "pem", "no certificate in it"),
        (lambda cert, key: cert.write_bytes(cert.read_bytes()[:300]), "pem", "cannot be read"),
        (lambda cert, key: cert.write_bytes(b"\n" * 200_000), "pem", "another file"),
        (lambda cert, key: key.write_bytes(cert.read_bytes()), "key", "no private key in it"),
        (lambda cert, key: key.chmod(0o604), "key", "mode 0604"),
        (lambda cert, key: key.chmod(0o660), "key", "chmod 600"),
        (lambda cert, key: make_certificate(key.parent, name="other")[1].replace(key), "key",
         "does not belong to the certificate"),
    ],
    ids=["no-certificate", "no-key", "text", "key-as-certificate", "cut", "large",
         "certificate-as-key", "open", "open-to-a-group", "another-key"],
)  # fmt: skip
def test_faults_name_the_file_and_the_fix(tmp_path, spoil, file, said):
    certificate, key = make_certificate(tmp_path)
    spoil(certificate, key)
    with pytest.raises(ConfigError, match=said) as raised:
        load_identity(config_of(tmp_path, certificate, key).devices)
    assert raised.value.file == (certificate if file == "pem" else key)
    assert raised.value.key in {"devices.tls_certificate_file", "devices.tls_key_file"}


@pytest.mark.parametrize(
    ("mode", "owner", "is_open"),
    [
        (0o600, 0, False),
        (0o640, 0, False),
        (0o640, 1000, True),
        (0o660, 0, True),
        (0o644, 0, True),
        (0o400, 1000, False),
    ],
)
def test_a_group_may_read_the_key_of_root_only(mode, owner, is_open):
    status = SimpleNamespace(st_mode=0o100000 | mode, st_uid=owner)
    assert module._open_mode(status) == (mode if is_open else 0)


def test_times_at_both_sides_of_the_bounds(tmp_path):
    identity = load_identity(config_of(tmp_path, *make_certificate(tmp_path)).devices)
    begins, ends = (
        identity.certificate.not_before_unix_s,
        identity.certificate.not_after_unix_s,
    )
    assert "ended on" in identity.fault(ends + 1)
    assert identity.fault(ends) == identity.fault(begins) == ""
    assert "clock" in identity.fault(begins - 1)
    assert "ends on" in identity.notice(ends - 7 * DAY_S + 1)
    assert identity.notice(ends - 7 * DAY_S) == ""


def test_short_certificates_are_not_complained_of_from_their_first_day(tmp_path):
    # Six days in all: one is a sixth.
    certificate = make_certificate(tmp_path, begins_s=0, ends_s=6 * DAY_S)
    identity = load_identity(config_of(tmp_path, *certificate).devices)
    ends = identity.certificate.not_after_unix_s
    assert identity.notice(ends - DAY_S) == ""
    assert identity.notice(ends - DAY_S + 1)


# Renewal


class Engine:
    """Stands for the native translator: keeps what it is told to show."""

    def __init__(self):
        self.shown = []

    def set_tls_identity(self, identity):
        self.shown.append(identity)


async def until(condition):
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await trio.sleep(0.01)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(module, "LOOK_S", 0.02)


async def test_renewed_certificate_is_taken_and_a_bad_one_is_not(nursery, quick, tmp_path):
    certificate, key = make_certificate(tmp_path)
    engine, notes = Engine(), []
    keeper = Keeper(config_of(tmp_path, certificate, key).devices, notes.append)
    first = keeper.identity
    nursery.start_soon(keeper.watch, engine)

    replace(certificate, b"half of")
    await until(lambda: notes)
    assert "the old certificate is shown on" in notes[0]
    assert "no certificate in it" in notes[0]
    assert (keeper.identity, keeper.problem, engine.shown) == (first, notes[0], [])

    make_certificate(tmp_path)
    await until(lambda: engine.shown)
    assert (keeper.problem, "another certificate is shown" in notes[-1]) == ("", True)
    second = keeper.identity
    assert engine.shown == [second.native]
    assert second.certificate.sha256 != first.certificate.sha256

    key.chmod(0o644)
    await until(lambda: keeper.problem)
    assert "mode 0644" in keeper.problem
    key.chmod(0o600)
    await until(lambda: not keeper.problem)

    certificate.unlink()
    await until(lambda: keeper.problem)
    assert "is not there" in keeper.problem
    make_certificate(tmp_path, begins_s=-2 * DAY_S, ends_s=-DAY_S)
    await until(lambda: "ended on" in keeper.problem)
    assert keeper.identity.certificate.sha256 == second.certificate.sha256


async def test_files_that_do_not_change_are_not_read_again(nursery, quick, monkeypatch, devices):
    reads, looks = [], []
    monkeypatch.setattr(
        module, "load_identity", lambda each: reads.append(each) or load_identity(each)
    )
    keeper = Keeper(devices, lambda _text: None)
    monkeypatch.setattr(keeper, "_marks", lambda: looks.append(1) or Keeper._marks(keeper))
    nursery.start_soon(keeper.watch, Engine())
    await until(lambda: len(looks) > 10)
    assert len(reads) == 1


async def test_the_end_is_told_before_it_comes_and_once(nursery, quick, devices):
    now, notes = [time.time()], []
    keeper = Keeper(devices, notes.append, lambda: now[0])
    ends = keeper.identity.certificate.not_after_unix_s
    nursery.start_soon(keeper.watch, Engine())
    assert keeper.problem == ""
    now[0] = ends - DAY_S
    await until(lambda: keeper.problem)
    now[0] = ends + 1
    await until(lambda: len(notes) == 2)
    await trio.sleep(0.1)
    assert ["ends on" in notes[0], "ended on" in notes[1], len(notes)] == [True, True, 2]


def test_nothing_begins_without_a_certificate(devices):
    devices.tls_certificate_file.unlink()
    with pytest.raises(ConfigError, match="is not there"):
        Keeper(devices, lambda _text: None)


# The doctor


def examined(config):
    found = list(doctor._certificate(config))
    return [each.verdict for each in found], "; ".join(each.text for each in found)


def test_doctor_looks_at_the_certificate(tmp_path):
    certificate, key = make_certificate(tmp_path)
    # Port 1: nobody shows anything there.
    config = config_of(tmp_path, certificate, key, "127.0.0.1:1")
    verdicts, said = examined(config)
    assert verdicts == [Verdict.GOOD]
    assert HOST in said
    assert load_identity(config.devices).certificate.sha256.hex() in said
    make_certificate(tmp_path, begins_s=-60 * DAY_S, ends_s=DAY_S)
    verdicts, said = examined(config)
    assert (verdicts, "ends on" in said) == ([Verdict.WARNING], True)
    make_certificate(tmp_path, begins_s=-2 * DAY_S, ends_s=-DAY_S)
    verdicts, said = examined(config)
    assert (verdicts, "ended on" in said) == ([Verdict.BAD], True)
    key.chmod(0o644)
    verdicts, said = examined(config)
    assert (verdicts, "chmod 600" in said) == ([Verdict.BAD], True)


def test_doctor_compares_with_what_is_shown(tmp_path):
    certificate, key = make_certificate(tmp_path)
    config = config_of(tmp_path, certificate, key)
    identity = load_identity(config.devices)
    translator = native.Translator(_settings(config))
    host, port = translator.listen_tls("127.0.0.1", 0, identity.native)
    config = config_of(tmp_path, certificate, key, f"{host}:{port}")
    verdicts, said = examined(config)
    assert (verdicts, "shows it" in said) == ([Verdict.GOOD] * 2, True)
    make_certificate(tmp_path)
    verdicts, said = examined(config)
    assert (verdicts, "another certificate" in said) == ([Verdict.GOOD, Verdict.BAD], True)
    assert identity.certificate.sha256.hex() in said
    translator.stop(1_000)


# Setting up


def test_init_says_how_to_make_a_certificate(tmp_path, capsys, monkeypatch):
    command = ["init", "translator", "--dir", str(tmp_path / "a b"), "--pool", "pool.example:1"]
    command += ["--tls-listen", "192.168.1.5:3334"]
    monkeypatch.setattr(sys, "argv", ["radpool", *command])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().out
    assert "openssl req -x509" in said
    assert "subjectAltName=IP:192.168.1.5" in said
    assert f"-keyout '{tmp_path}/a b/tls-key.pem'" in said
    assert "stratum+ssl://192.168.1.5:3334" in said
    written = load(TranslatorConfig, tmp_path / "a b" / "translator.toml")
    assert written.devices.tls_listen == "192.168.1.5:3334"


def test_address_of_the_port_is_checked(tmp_path):
    values = {"pools[1].address": "pool.example:1", "devices.tls_listen": "here"}
    with pytest.raises(ConfigError, match="tls_listen"):
        install_translator(tmp_path, values)

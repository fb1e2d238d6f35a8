"""Key files: round trip, modes, and every way in which one cannot be used."""

import stat
import time

import pytest

from radpool_sv2._native.keys import AuthoritySecretKey, StaticKey
from radpool_sv2.config import MspConfig, load
from radpool_sv2.errors import ConfigError
from radpool_sv2.installation import install_msp
from radpool_sv2.keyfile import (
    DAY_S,
    load_authority_key,
    load_keys,
    read_text,
    sign_certificate,
    write_text,
)
from radpool_sv2.pool.certificate import CertificateWatch


@pytest.fixture
def installation(tmp_path):
    return install_msp(tmp_path / "msp")


@pytest.fixture
def config(installation):
    return load(MspConfig, installation.config)


def test_an_installation_can_be_loaded(installation, config):
    keys = load_keys(config.keys)
    assert keys.authority.to_text() == installation.authority_public_key
    assert keys.msp.public == installation.msp_public_key
    days = (keys.certificate.not_valid_after - int(time.time())) / DAY_S
    assert 89 < days <= 90
    assert keys.certificate.valid_from < time.time() - DAY_S / 2


def test_secrets_are_for_their_owner_alone(installation):
    for file in (installation.directory / "keys").glob("*.key"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((installation.directory / "keys").stat().st_mode) == 0o700


def test_nothing_secret_shows(installation, config, capsys):
    keys = load_keys(config.keys)
    text = repr(keys) + str(keys) + installation.config.read_text()
    for file in (installation.directory / "keys").glob("*.key"):
        assert file.read_text().strip() not in text


def test_an_installation_is_not_overwritten(installation):
    before = (installation.directory / "keys" / "msp.key").read_text()
    with pytest.raises(ConfigError, match="there is an MSP already"):
        install_msp(installation.directory)
    assert (installation.directory / "keys" / "msp.key").read_text() == before


def test_a_given_payout_address_needs_no_key(tmp_path):
    made = install_msp(tmp_path, payout_address="bcrt1qxyz")
    assert made.payout_key is None
    assert not (tmp_path / "keys" / "payout.key").exists()
    assert load(MspConfig, made.config).templates.payout_address == "bcrt1qxyz"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_secret_that_others_can_read_is_refused(config, mode):
    config.keys.msp_key_file.chmod(mode)
    with pytest.raises(ConfigError, match="can be read by others") as caught:
        load_keys(config.keys)
    assert caught.value.file == config.keys.msp_key_file


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("msp_key_file", b"zz", "64 hex digits expected"),
        ("msp_key_file", b"00" * 32, r"."),
        ("msp_key_file", b"00" * 31, r"."),
        ("server_key_file", b"no key", r"."),
        ("server_key_file", b"", "empty"),
        ("server_key_file", b"\xff\xfe", "not text"),
        ("certificate_file", b"00", r"."),
        ("certificate_file", b"x" * 148, "148 hex digits"),
        ("certificate_file", b"0" * 5000, "far too long"),
    ],
)
def test_files_that_hold_something_else(config, name, content, expected):
    file = getattr(config.keys, name)
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=expected) as caught:
        load_keys(config.keys)
    assert str(file) in str(caught.value)
    # An error about a secret never repeats it.
    if content and name != "certificate_file":
        assert content.decode(errors="replace") not in str(caught.value).replace(str(file), "")


def test_a_missing_file_is_named(config):
    config.keys.server_key_file.unlink()
    with pytest.raises(ConfigError, match=r"server\.key: cannot read the listener's key: No such"):
        load_keys(config.keys)


def test_a_certificate_of_another_authority(config):
    static_key = StaticKey.from_text(read_text(config.keys.server_key_file, "", secret=True))
    certificate = sign_certificate(AuthoritySecretKey.generate(), static_key, 9)
    text = certificate.to_bytes().hex()
    write_text(config.keys.certificate_file, text, secret=False, replace=True)
    with pytest.raises(ConfigError, match="radpool certify"):
        load_keys(config.keys)


def test_the_wrong_authority_key(config, tmp_path):
    other = tmp_path / "other.key"
    write_text(other, AuthoritySecretKey.generate().expose_text(), secret=True)
    with pytest.raises(ConfigError, match="miners pin"):
        load_authority_key(other, config.keys.authority_public_key)


def test_write_text_replaces_only_when_told(tmp_path):
    file = tmp_path / "a.key"
    write_text(file, "one", secret=True)
    with pytest.raises(ConfigError, match="is there already"):
        write_text(file, "two", secret=True)
    write_text(file, "two", secret=True, replace=True)
    assert read_text(file, "it", secret=True) == "two"
    assert [each.name for each in tmp_path.iterdir()] == ["a.key"]


class Engine:
    def __init__(self):
        self.shown = []

    def set_identity(self, identity):
        self.shown.append(identity.not_valid_after)


class Watch(CertificateWatch):
    """Is the watch on a clock that the test moves."""

    def __init__(self, config, days):
        self.engine = Engine()
        keys = load_keys(config.keys)
        # The second in which it was signed, which may be over by now.
        self.now = keys.certificate.not_valid_after - config.keys.certificate_days * DAY_S
        super().__init__(keys, config.keys, self.engine, now_unix_s=lambda: self.now)
        self.now += days * DAY_S


def test_a_valid_certificate_is_left_alone(config):
    watch = Watch(config, 0)
    watch.look()
    assert watch.engine.shown == []
    assert watch.problem == ""


def test_the_node_renews_while_the_authority_key_is_here(config):
    watch = Watch(config, 80)
    before = config.keys.certificate_file.read_text()
    watch.look()
    assert len(watch.engine.shown) == 1
    assert config.keys.certificate_file.read_text() != before
    assert watch.problem == ""


def test_without_the_authority_key_it_warns(config):
    config.keys.authority_key_file.unlink()
    watch = Watch(config, 80)
    watch.look()
    assert watch.engine.shown == []
    assert "ends in 10 days" in watch.problem
    assert "radpool certify" in watch.problem


def test_a_new_certificate_in_the_file_is_taken_up_once(config):
    watch = Watch(config, 0)
    authority = load_authority_key(config.keys.authority_key_file, config.keys.authority_public_key)
    static_key = StaticKey.from_text(read_text(config.keys.server_key_file, "", secret=True))
    certificate = sign_certificate(authority, static_key, 200)
    text = certificate.to_bytes().hex()
    write_text(config.keys.certificate_file, text, secret=False, replace=True)
    watch.look()
    watch.look()
    assert watch.engine.shown == [certificate.not_valid_after]


def test_a_broken_certificate_file_changes_nothing(config):
    watch = Watch(config, 0)
    config.keys.certificate_file.write_text("nonsense")
    watch.look()
    assert watch.engine.shown == []

"""Wallets of workers: names that devices send never become paths, and words bring all back."""

import stat

import pytest
from radpool_sv2_translator.wallets import WORKERS, WorkerWallets, digest_of, shown

from radpool_sv2.errors import ConfigError
from radpool_sv2.wallet.child import child_words
from radpool_sv2.wallet.file import FILE_NAME, WalletFile

ABANDON = "abandon " * 11 + "about"
HOSTILE = [
    "../../etc/passwd",
    "/",
    ".",
    "..",
    "a/b",
    "a\\b",
    "a\u2215b",
    "\u202erig",
    "rig",
    "RIG",
    "rig ",
    "r\u00edg",
    "ri\u0301g",
    "-rf",
    "~root",
    "$(reboot)",
    "0001",
    "CON",
    "x" * 255,
    "\u00e9" * 127,
]


def wallets(directory, count_max=48):
    return WorkerWallets(directory, lambda: ABANDON, count_max)


def words_in(wallet):
    file = WalletFile(wallet.directory)
    try:
        with file.read() as connection:
            [(words,)] = connection.execute("SELECT value FROM meta WHERE key = 'words'")
    finally:
        file.close()
    return words


def test_each_worker_has_a_wallet_of_its_own_words(tmp_path):
    kept = wallets(tmp_path)
    made = [kept.find(user) for user in ("one.rig", "two", "one.rig")]
    assert made[0] == made[2] != made[1]
    assert [each.number for each in made] == [1, 2, 1]
    assert [words_in(each) for each in made[:2]] == [child_words(ABANDON, n) for n in (1, 2)]
    # Another run, and another process, find them by looking.
    assert wallets(tmp_path).find("two") == made[1]
    assert kept.all() == made[:2]
    assert made[0].directory.name == f"0001-one.rig-{digest_of('one.rig')}"
    assert stat.S_IMODE(made[0].directory.stat().st_mode) == 0o700


def test_hostile_names_stay_in_the_directory_and_apart(tmp_path):
    kept = wallets(tmp_path)
    made = [kept.find(user) for user in HOSTILE]
    assert len({each.directory for each in made}) == len(HOSTILE)
    assert len({words_in(each) for each in made}) == len(HOSTILE)
    assert {path.parent for path in tmp_path.rglob("*")} <= {
        tmp_path,
        tmp_path / WORKERS,
        *(each.directory for each in made),
    }
    for each in made:
        assert each.directory.parent == tmp_path / WORKERS
        assert each.directory.name.isascii()
        assert len(each.directory.name) < 100
    assert wallets(tmp_path).all() == made


def test_ten_thousand_names_make_no_more_wallets_than_allowed(tmp_path):
    kept = wallets(tmp_path, 3)
    made = [kept.find(f"w{number}") for number in range(10_000)]
    assert [each is None for each in made] == [False] * 3 + [True] * 9_997
    assert len(kept.all()) == 3
    assert kept.find("w2") == made[2], "who has one keeps it"
    assert wallets(tmp_path, 1).find("w2") == made[2]


def test_two_processes_give_no_number_twice(tmp_path):
    one, two = wallets(tmp_path), wallets(tmp_path)
    made = [one.find("a"), two.find("b"), one.find("c"), two.find("a"), one.find("b")]
    assert [each.number for each in made] == [1, 2, 3, 1, 2]


def test_wallet_that_was_not_finished_is_made_under_its_number(tmp_path):
    made = wallets(tmp_path).find("a")
    (made.directory / FILE_NAME).unlink()
    kept = wallets(tmp_path)
    assert (kept.find("b").number, kept.find("a")) == (2, made)
    assert words_in(made) == child_words(ABANDON, 1)


def test_restored_wallets_are_nobodys_and_keep_their_numbers(tmp_path):
    kept = wallets(tmp_path)
    restored = kept.place(5)
    assert restored.directory == tmp_path / WORKERS / "0005"
    restored.directory.mkdir(parents=True)
    assert kept.find("a").number == 6
    assert kept.place(6).directory == kept.find("a").directory
    assert [each.digest for each in kept.all()] == ["", digest_of("a")]


def test_directory_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / WORKERS).write_text("a file")
    with pytest.raises(ConfigError, match="cannot be used"):
        wallets(tmp_path).find("a")


def test_strangers_in_the_directory_are_passed_over(tmp_path):
    (tmp_path / WORKERS / "lost+found").mkdir(parents=True)
    (tmp_path / WORKERS / "0009-a-short").mkdir()
    (tmp_path / WORKERS / "0007").write_text("a file")
    assert wallets(tmp_path).find("a").number == 1


def test_what_is_left_of_names():
    assert {user: shown(user) for user in ("bc1q.rig_1", "../..", "\u00e9", "a" * 99)} == {
        "bc1q.rig_1": "bc1q.rig_1",
        "../..": "",
        "\u00e9": "",
        "a" * 99: "a" * 32,
    }

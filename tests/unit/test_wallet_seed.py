"""Words and seeds: the vectors that BIP39 names, and what people mistype."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radpool_sv2._native.ecash import WalletSeed
from radpool_sv2.errors import ConfigError, LocalProtocolError
from radpool_sv2.wallet.seed import check_words, seed_of, word_list, words_of

ROOT = Path(__file__).parents[2]
BIP39 = json.loads((ROOT / "tests/vectors/bip39/english.json").read_text())["english"]
NUT13 = json.loads((ROOT / "tests/vectors/nuts/nut-13.json").read_text())


def by_id(cases):
    return pytest.mark.parametrize("case", cases, ids=[case["id"] for case in cases])


def test_the_list():
    words = word_list()
    assert len(set(words)) == 2048
    assert list(words) == sorted(words)
    assert len({word[:4] for word in words}) == 2048


@by_id(BIP39)
def test_bip39(case):
    """spec: RC-1."""
    words, entropy = case["expected"]["words"], bytes.fromhex(case["inputs"]["entropy"])
    assert words_of(entropy) == words
    assert check_words(words) == words
    assert seed_of(words, case["inputs"]["passphrase"]).hex() == case["expected"]["seed"]


@by_id(NUT13["version_1"])
def test_keysets_of_version_1_are_refused(case):
    """attack: A27. An id of a version that is not ours derives nothing."""
    inputs = case["inputs"]
    seed = WalletSeed.from_seed(bytes.fromhex(inputs["seed"]))
    with pytest.raises(LocalProtocolError):
        seed.derive(bytes.fromhex(inputs["keyset_id"]), inputs["counter"], 1)


@settings(deadline=None)
@given(st.sampled_from([16, 20, 24, 28, 32]).flatmap(lambda n: st.binary(min_size=n, max_size=n)))
def test_words_carry_the_entropy(entropy):
    words = words_of(entropy)
    assert check_words(f"  {words.upper()}\n".replace(" ", "  ")) == words


@pytest.mark.parametrize("length", [0, 15, 17, 31, 33, 64])
def test_other_entropy(length):
    with pytest.raises(LocalProtocolError):
        words_of(bytes(length))


def test_a_mistyped_word_is_named():
    with pytest.raises(ConfigError, match=r"word 2 of 12 is not on the list: is it .*abandon"):
        check_words("abandon abandom " + "abandon " * 9 + "about")
    with pytest.raises(ConfigError, match="word 1 of 12"):
        check_words("qqqq " + "abandon " * 10 + "about")


def test_an_exchanged_word_fails_the_checksum():
    words = BIP39[1]["expected"]["words"].split()
    words[0], words[1] = words[1], words[0]
    with pytest.raises(ConfigError, match="together they are no seed"):
        check_words(" ".join(words))


@pytest.mark.parametrize("count", [0, 1, 11, 13, 23, 25, 100])
def test_a_wrong_number_of_words(count):
    with pytest.raises(ConfigError, match=f"{count} words"):
        check_words("abandon " * count)

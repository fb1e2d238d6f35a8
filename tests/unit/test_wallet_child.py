"""Words that follow from words: the vector that BIP85 names, and what must hold of any."""

import pytest

from radpool_sv2.errors import ConfigError, LocalProtocolError
from radpool_sv2.wallet.child import CHILD_MAX, Node, child_entropy, child_words
from radpool_sv2.wallet.seed import check_words, words_of

# Source: BIP85, test vectors.
XPRV = (
    "xprv9s21ZrQH143K2LBWUUQRFXhucrQqBpKdRRxNVq2zBqsx8HVqFk2uYo8kmbaLLHRdqtQpUm98uKfu3vca1LqdGhUtyo"
    "FnCNkfmXRyPXLjbKb"
)
WORDS = "girl mad pet galaxy egg matter matrix prison refuse sense ordinary nose"
ENTROPY = "6250b68daf746d12a24d58b4787a714b"
ABANDON = "abandon " * 11 + "about"


DIGITS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def master_of(xprv):
    """Reads chain code and key out of an extended private key: BIP32, serialization format."""
    number = 0
    for digit in xprv:
        number = number * 58 + DIGITS.index(digit)
    payload = number.to_bytes(82, "big")
    return Node(key=payload[46:78], chain_code=payload[13:45])


def test_bip85():
    master = master_of(XPRV)
    assert child_entropy(master, 0).hex() == ENTROPY
    assert words_of(child_entropy(master, 0)) == WORDS


def test_seed_of_bip32():
    """Source: BIP32, test vector 1, chain m/0'."""
    child = Node.master(bytes(range(16))).child(0)
    assert child.key.hex() == "edb2e14f9ee77d26dd93b4ecede8d16ed408ce149b6cd80b0715a2d911a0afea"


def test_children_are_wallets_of_their_own():
    children = [child_words(ABANDON, number) for number in (0, 1, 2, CHILD_MAX)]
    assert len({*children, ABANDON}) == 5
    for words in children:
        assert check_words(words) == words
        assert len(words.split()) == 12
    assert children[1] == child_words(ABANDON.upper(), 1), "words are words in any case"
    assert child_words(children[0], 0) != children[0]


@pytest.mark.parametrize("number", [-1, CHILD_MAX + 1])
def test_numbers_have_bounds(number):
    with pytest.raises(LocalProtocolError, match="numbers go from"):
        child_words(ABANDON, number)


def test_wrong_words_are_refused():
    with pytest.raises(ConfigError, match="one is wrong"):
        child_words("abandon " * 12, 0)


def test_nothing_secret_is_shown():
    assert repr(Node.master(b"x" * 64)) == "Node()"

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radpool_sv2.chain.address import address_from_script, script_from_address
from radpool_sv2.errors import LocalProtocolError


@given(
    st.one_of(
        st.sampled_from([20, 32]).flatmap(
            lambda n: st.binary(min_size=n, max_size=n).map(lambda p: bytes([0, len(p)]) + p)
        ),
        st.tuples(st.integers(0x51, 0x60), st.binary(min_size=2, max_size=40)).map(
            lambda pair: bytes([pair[0], len(pair[1])]) + pair[1]
        ),
    )
)
def test_witness_script_and_address_are_the_same_thing(script):
    address = address_from_script(script)
    assert script_from_address(address) == script
    assert script_from_address(address.upper()) == script


@given(st.integers(0, 61), st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7lbio1"))
def test_one_mistyped_character_is_found(at, character):
    address = address_from_script(b"\x51\x20" + bytes(range(32)))
    wrong = address[:at] + character + address[at + 1 :]
    if wrong != address:
        with pytest.raises(LocalProtocolError):
            script_from_address(wrong)


def test_known_addresses():
    assert script_from_address("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080").hex() == (
        "0014751e76e8199196d454941c45d1b3a323f1433bd6"
    )
    assert script_from_address("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn").hex() == (
        "76a914243f1394f44554f4ce3fd68649c19adc483ce92488ac"
    )
    assert script_from_address("2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc").hex() == (
        "a9144e9f39ca4688ff102128ea4ccda34105324305b087"
    )


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "another network"),
        ("tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx", "another network"),
        ("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "another network"),
        ("3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy", "another network"),
        ("bcrt1Qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "upper and lower"),
        ("bcrt1", "too short"),
        ("", "not an address of regtest"),
        ("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfo", "checksum"),
        ("x" * 5000, "not an address of regtest"),
    ],
)
def test_refusals_say_why(address, says):
    with pytest.raises(LocalProtocolError, match=says):
        script_from_address(address)

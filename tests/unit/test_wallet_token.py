"""Tokens as people hand them on: everything that can be wrong with them."""

import json
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.wallet import cbor
from radpool_sv2.wallet.token import Handed, HandedToken, decode_token, encode_token

POINT = b"\x02" + b"\x11" * 32
KEYSET = b"\x01" + b"\x22" * 32


def handed(**change):
    fields = {"keyset": KEYSET[:8], "amount": 4, "secret": "ab" * 32, "signature": POINT}
    return Handed(**(fields | change))


def token(*proofs, **change):
    fields = {"mint": "https://mint.example", "unit": "sat", "memo": "", "proofs": proofs}
    return HandedToken(**(fields | change))


def packed(body):
    return "cashuB" + urlsafe_b64encode(cbor.encode(body)).decode()


BODY = {
    "t": [{"i": KEYSET[:8], "p": [{"a": 4, "s": "ab" * 32, "c": POINT}]}],
    "m": "https://mint.example",
    "u": "sat",
}


def test_a_round_trip():
    proofs = (handed(), handed(amount=1, secret="x"), handed(keyset=b"\x01" * 8, secret="y"))
    made = token(*proofs, memo="hi")
    assert decode_token(encode_token(made)) == made
    assert made.amount == 9


def test_how_people_paste_them():
    text = encode_token(token(handed()))
    for pasted in (f"cashu:{text}", f"  {text[:20]}\n{text[20:]} ", text + "=" * (-len(text) % 4)):
        assert decode_token(pasted) == token(handed())


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_whatever_the_bytes_nothing_but_our_error_comes_out(raw):
    for version in "AB":
        with pytest.raises(RemoteProtocolError):
            decode_token(f"cashu{version}{urlsafe_b64encode(raw).decode()}")


def test_cut_off_at_every_byte():
    text = encode_token(token(handed(), memo="hello"))
    for end in range(len(text)):
        with pytest.raises(RemoteProtocolError):
            decode_token(text[:end])


def test_every_byte_changed():
    """A changed token is refused, or is another token; never an error of Python's."""
    raw = cbor.encode(BODY)
    for at in range(len(raw)):
        for bit in range(8):
            changed = raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
            try:
                found = decode_token("cashuB" + urlsafe_b64encode(changed).decode())
            except RemoteProtocolError:
                continue
            assert found != token(handed())


@pytest.mark.parametrize(
    "text",
    ["", "cashu", "cashuC", "casshuAeyJ0b2tlbiI6W119", "eyJ0", "cashuB", "cashuBé", "cashuB+/+/"],
)
def test_no_token(text):
    with pytest.raises(RemoteProtocolError):
        decode_token(text)


def wrong(**change):
    body = json.loads(json.dumps(BODY, default=bytes.hex))
    body["t"][0]["i"] = KEYSET[:8]
    body["t"][0]["p"][0]["c"] = POINT
    place = body["t"][0]["p"][0]
    for key, value in change.items():
        if key in {"m", "u", "t", "d"}:
            body[key] = value
        elif key == "i":
            body["t"][0]["i"] = value
        else:
            place[key.removeprefix("p_")] = value
    return packed(body)


@pytest.mark.parametrize(
    "text",
    [
        wrong(p_a=3),
        wrong(p_a=0),
        wrong(p_a="4"),
        wrong(p_s=""),
        wrong(p_s="x" * 1025),
        wrong(p_s=4),
        wrong(p_c=POINT[:-1]),
        wrong(p_c=POINT + b"\0"),
        wrong(p_c="02" * 33),
        wrong(i=KEYSET[:7]),
        wrong(i="01"),
        wrong(t=[]),
        wrong(t={}),
        wrong(m=b"https://mint.example"),
        wrong(m="x" * 1001),
        wrong(d="x" * 1001),
        wrong(d=7),
        wrong(p_d={"e": b"\1" * 32, "s": b"\1" * 32}),
        wrong(p_d={"e": b"\1" * 31, "s": b"\1" * 32, "r": b"\1" * 32}),
        packed({"t": [BODY["t"][0], BODY["t"][0]], "m": "x", "u": "sat"}),
        packed([]),
        packed("cashu"),
    ],
)
def test_a_wrong_field(text):
    """attack: A14."""
    with pytest.raises(RemoteProtocolError):
        decode_token(text)


def test_the_right_one_beside_them():
    assert decode_token(wrong(p_a=1 << 63)).amount == 1 << 63
    found = decode_token(
        wrong(unknown_field="is ignored", p_d={"e": POINT[:32]} | dict.fromkeys("sr", b"\1" * 32))
    )
    assert found.proofs[0].dleq is not None


def test_far_too_many_parts():
    """attack: A15."""
    many = [{"a": 1, "s": str(number), "c": POINT} for number in range(5_001)]
    with pytest.raises(RemoteProtocolError, match="5001 parts"):
        decode_token(packed({"t": [{"i": KEYSET, "p": many}], "m": "x", "u": "sat"}))
    with pytest.raises(RemoteProtocolError, match="characters"):
        decode_token("cashuB" + "A" * (1 << 20))


# CBOR

VALUES = st.recursive(
    st.integers(0, 2**64 - 1) | st.binary(max_size=30) | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(VALUES)
def test_cbor_round_trip(value):
    try:
        assert cbor.decode(cbor.encode(value)) == value
    except RemoteProtocolError as error:
        assert "deeply" in str(error)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        # RFC 8949, appendix A.
        ("00", 0),
        ("17", 23),
        ("1818", 24),
        ("1903e8", 1000),
        ("1a000f4240", 1_000_000),
        ("1bffffffffffffffff", 2**64 - 1),
        ("20", -1),
        ("3903e7", -1000),
        ("f4", False),
        ("f5", True),
        ("f6", None),
        ("40", b""),
        ("4401020304", bytes([1, 2, 3, 4])),
        ("60", ""),
        ("62c3bc", "ü"),
        ("80", []),
        ("83010203", [1, 2, 3]),
        ("a0", {}),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}),
    ],
)
def test_cbor_values(raw, value):
    assert cbor.decode(bytes.fromhex(raw)) == value


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "1817",  # 23 in two bytes
        "190018",
        "1a0000ffff",
        "1b00000000ffffffff",
        "5801",  # cut off
        "9f01ff",  # indefinite
        "5f42010243030405ff",
        "bf61610161629f0203ffff",
        "c074323031332d30332d32315432303a30343a30305a",  # a tag
        "f90000",  # floats
        "fa47c35000",
        "f7",  # undefined
        "1c",  # reserved
        "61ff",  # not UTF-8
        "a1014161",  # a key that is no text
        "a2616101616102",  # a key twice
        "0000",  # two values
        "9affffffff",  # four thousand million items in no bytes
        "bb00ffffffffffffff",
        "81" * 10 + "00",  # deep
    ],
)
def test_cbor_that_is_refused(raw):
    with pytest.raises(RemoteProtocolError):
        cbor.decode(bytes.fromhex(raw))


@pytest.mark.parametrize("value", [True, None, 1.5, -1, 1 << 64, {1: 2}.keys()])
def test_cbor_that_is_not_written(value):
    with pytest.raises(LocalProtocolError):
        cbor.encode(value)


def test_an_old_token_that_is_no_text_is_damaged():
    raw = b'{"token":[{"mint":"\xff","proofs":[]}]}'
    with pytest.raises(RemoteProtocolError, match="the token is damaged"):
        decode_token("cashuA" + urlsafe_b64encode(raw).decode())

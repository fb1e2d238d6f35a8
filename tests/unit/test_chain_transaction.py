import pbk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radpool_sv2.chain.script import sigop_cost
from radpool_sv2.chain.transaction import Transaction, TxInput, TxOutput
from radpool_sv2.consensus import merkle_path, merkle_root, push_height, root_from_path
from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.units import leading_zero_bits, sha256d

# The signed P2WPKH example of BIP 143.
SIGNED = bytes.fromhex(
    "01000000000102fff7f7881a8099afa6940d42d1e7f6362bec38171ea3edf433541db4e4ad969f00000000494830"
    "450221008b9d1dc26ba6a9cb62127b02742fa9d754cd3bebf337f7a55d114c8e5cdd30be022040529b194ba3f928"
    "1a99f2b1c0a19c0489bc22ede944ccf4ecbab4cc618ef3ed01eeffffffef51e1b804cc89d182d279655c3aa89e81"
    "5b1b309fe287d9b2b55d57b90ec68a0100000000ffffffff02202cb206000000001976a9148280b37df378db99f6"
    "6f85c95a783a76ac7a6d5988ac9093510d000000001976a9143bde42dbee7e4dbe6a21b2d50ce2f0167faa815988"
    "ac000247304402203609e17b84f6a7d30c80bfa610b5b4542f32a8a0d5447a12fb1366d7f01cc44a0220573a954c"
    "4518331561406f90300e8f3358f51928d43c212a8caed02de67eebee0121025476c2e83188368da1ff3e292e7aca"
    "fcdb3566bb0ad253f62fc70f07aeee635711000000"
)


def test_engine_and_parser_agree_on_a_known_transaction():
    transaction = Transaction.from_bytes(SIGNED)
    assert transaction.to_bytes() == SIGNED
    assert transaction.txid == bytes(pbk.Transaction(SIGNED).txid)
    assert transaction.weight == 3 * len(transaction.to_bytes(witness=False)) + len(SIGNED)


def test_truncated_at_every_byte_is_refused():
    for length in range(len(SIGNED)):
        with pytest.raises(LocalProtocolError):
            Transaction.from_bytes(SIGNED[:length])


def test_one_byte_too_many_is_refused():
    with pytest.raises(LocalProtocolError, match="1 bytes too many"):
        Transaction.from_bytes(SIGNED + b"\x00")


@given(st.binary(max_size=200))
def test_random_bytes_parse_exactly_or_are_refused(data):
    try:
        transaction = Transaction.from_bytes(data)
    except LocalProtocolError:
        return
    assert transaction.to_bytes() == data


@given(st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_mutated_transaction_parses_exactly_or_is_refused(at, piece):
    data = SIGNED[:at] + piece + SIGNED[at + len(piece) :]
    try:
        transaction = Transaction.from_bytes(data)
    except LocalProtocolError:
        return
    assert transaction.to_bytes() == data


def test_length_that_is_not_in_its_shortest_form_is_refused():
    with pytest.raises(LocalProtocolError, match="shortest form"):
        Transaction.from_bytes(bytes(4) + b"\xfd\x01\x00" + bytes(60))


def test_announced_length_beyond_any_block_is_refused():
    with pytest.raises(LocalProtocolError, match="exceeds"):
        Transaction.from_bytes(bytes(4) + b"\xfe\x01\x00\x00\x02" + bytes(60))


@given(st.integers(0, 40), st.binary(min_size=32, max_size=32))
def test_path_leads_to_the_root(count, coinbase):
    txids = [sha256d(bytes([n])) for n in range(count)]
    assert root_from_path(coinbase, merkle_path(txids)) == merkle_root([coinbase, *txids])


@pytest.mark.parametrize(
    ("height", "script"),
    [
        (1, "51"),
        (16, "60"),
        (17, "0111"),
        (127, "017f"),
        (128, "028000"),
        (32767, "02ff7f"),
        (32768, "03008000"),
        (840000, "0340d10c"),
    ],
)
def test_height_is_pushed_as_bip34_wants(height, script):
    assert push_height(height).hex() == script


def test_leading_zero_bits_are_those_of_the_number():
    assert leading_zero_bits(b"\xff" * 32) == 0
    assert leading_zero_bits(b"\xff" * 31 + b"\x01") == 7
    assert leading_zero_bits(b"\x01" + bytes(31)) == 255
    assert leading_zero_bits(bytes(32)) == 256


P2PKH = b"\x76\xa9\x14" + bytes(20) + b"\x88\xac"
P2WPKH = b"\x00\x14" + bytes(20)
P2WSH = b"\x00\x20" + bytes(32)
P2TR = b"\x51\x20" + bytes(32)
P2SH = b"\xa9\x14" + bytes(20) + b"\x87"
TWO_OF_THREE = b"\x52" + (b"\x21" + bytes(33)) * 3 + b"\x53\xae"


@pytest.mark.parametrize(
    ("spent", "script", "witness", "outputs", "cost"),
    [
        (P2PKH, b"", (), [P2PKH], 4),
        (P2WPKH, b"", (b"s", b"k"), [], 1),
        (P2WSH, b"", (b"", TWO_OF_THREE), [], 3),
        (P2TR, b"", (bytes(64),), [], 0),
        (P2SH, b"\x4c\x69" + TWO_OF_THREE, (), [], 12),
        (P2SH, b"\x16" + P2WPKH, (b"s", b"k"), [], 1),
        (b"\x51", b"", (), [b"\xae"], 80),
        (b"\x51", b"", (), [TWO_OF_THREE], 80),
        (b"\x51", b"", (), [b"\xac\x4c"], 4),
    ],
)
def test_signature_operations_cost_what_consensus_counts(spent, script, witness, outputs, cost):
    source = TxInput((bytes(32), 0), script, 0, witness)
    transaction = Transaction(2, (source,), tuple(TxOutput(0, each) for each in outputs), 0)
    assert sigop_cost(transaction, [TxOutput(0, spent)]) == cost

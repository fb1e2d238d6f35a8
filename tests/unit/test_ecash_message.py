"""The twelve messages of the ecash extension: round trips, sizes, everything that is malformed."""

import dataclasses
import random
import struct

import pytest
from radpool_sv2_extensions.ecash import message as m

from radpool_sv2.errors import LocalProtocolError, RemoteProtocolError
from radpool_sv2.units import tagged_hash

POINT = b"\x02" + b"\x55" * 32
OTHER = b"\x03" + b"\x77" * 32
SHORT = b"\x01" + b"\x0a" * 7
KEYSET = b"\x01" + b"\x0a" * 32
HASH = bytes(range(32))
SIGNATURE = b"\x99" * 64
TEXT = "x" * 255

ASKED = m.TermsAsked(0b1111, 0b11, 1, POINT)
GRANTED = m.TermsGranted(2, 1, 32, 1, KEYSET, POINT, "http://mint.invalid/work", 600)
EAGER = m.Receipt(7, 40, POINT, HASH, HASH)
LAZY = m.Receipt(7, 40, b"", b"", b"")
NO_TOKEN = m.Receipt(7, m.NO_TOKEN, b"", b"", b"")
INPUT = m.RedeemInput(33, "ab" * 32, POINT)
OUTPUT = m.RedeemOutput(1 << 63, SHORT, POINT)
SIGNED = m.RedeemSignature(0xFFFF, 2**64 - 1, POINT, HASH, HASH)

EXAMPLES = [
    m.OpenExtendedEcashMiningChannel(1, "alice.rig", 2.0**40, HASH, 8, ASKED),
    m.OpenExtendedEcashMiningChannel(
        1, "", 0.0, HASH, 0, dataclasses.replace(ASKED, claim_pubkey=b"")
    ),
    m.OpenExtendedEcashMiningChannelSuccess(1, 2, HASH, 8, b"\1\2\3\4", 3, GRANTED),
    m.OpenExtendedEcashMiningChannelError(1, "unsupported-policy"),
    m.SubmitSharesEcashExtended(1, 2, 3, 4, 5, 6, bytes(8), m.Claim(SHORT, POINT)),
    m.SubmitSharesEcashExtendedSuccess(1, 7, 2, 3, (EAGER, NO_TOKEN), b"", b""),
    m.SubmitSharesEcashExtendedSuccess(1, 7, 1, 2**64 - 1, (LAZY,), HASH, SIGNATURE),
    m.SubmitSharesEcashExtendedError(1, 2, "stale-keyset"),
    m.RedeemSharesEcash(1, 0, KEYSET, (POINT, OTHER), (), ()),
    m.RedeemSharesEcash(1, 1, KEYSET, (), (INPUT,), (OUTPUT, OUTPUT)),
    m.RedeemSharesEcashSuccess(1, 0, (SIGNED,), (0, 2), (3,), 5, 6),
    m.RedeemSharesEcashError(1, "immature", 600),
    m.EcashKeysetAnnounce(
        keyset_id=KEYSET,
        unit="work",
        policy=2,
        epoch=9,
        opened_height=101,
        opened_block=HASH,
        z0=32,
        keys=(m.KeyEntry(32, POINT), m.KeyEntry(33, OTHER)),
        input_fee_ppk=0,
        final_expiry=0,
        fee_ppm=2_500,
        fee_fixed_msat=1,
        price_num=0,
        price_den=0,
        supersedes=b"",
        signature=SIGNATURE,
    ),
    m.EcashKeysetRequest(KEYSET),
    m.EcashKeysetRequest(b""),
    m.EcashEpochUpdate(
        KEYSET, 3, HASH, 101, 6, 10**12, 2**40, (KEYSET,), HASH, 206, 1_900_000_000, SIGNATURE
    ),
    m.EcashEpochUpdate(KEYSET, 0, bytes(32), 0, 0, 0, 0, (), b"", 0, 0, SIGNATURE),
]
each_message = pytest.mark.parametrize("sample", EXAMPLES, ids=lambda item: type(item).__name__)


def again(message):
    return m.decode(message.msg_type, message.encode(), channel_msg=message.channel_msg)


def test_there_are_twelve():
    assert sorted(m.MESSAGES) == list(range(12))
    assert {type(item) for item in EXAMPLES} == set(m.MESSAGES.values())


def test_only_messages_of_channels_have_the_channel_bit():
    assert {number for number, kind in m.MESSAGES.items() if kind.channel_msg} == {3, 4, 5}


@each_message
def test_round_trip(sample):
    assert again(sample) == sample


@each_message
def test_cut_off_at_every_byte(sample):
    whole = sample.encode()
    for length in range(len(whole)):
        with pytest.raises(RemoteProtocolError):
            type(sample).decode(whole[:length])


@each_message
def test_nothing_may_follow(sample):
    with pytest.raises(RemoteProtocolError, match="1 bytes follow"):
        type(sample).decode(sample.encode() + b"\0")


@each_message
def test_wrong_channel_bit(sample):
    with pytest.raises(RemoteProtocolError, match="channel bit"):
        m.decode(sample.msg_type, sample.encode(), channel_msg=not sample.channel_msg)


@each_message
def test_any_altered_byte_is_refused_or_another_message_of_the_same_bytes(sample):
    """What can be read is written again as it was: no two payloads mean the same."""
    whole = sample.encode()
    for at in range(len(whole)):
        for change in (0x01, 0x80, 0xFF):
            altered = whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :]
            try:
                read = type(sample).decode(altered)
            except RemoteProtocolError:
                continue
            assert read.encode() == altered


def test_random_payloads_never_raise_anything_else():
    """attack: A15"""
    seed = random.SystemRandom().randrange(2**32)
    draw = random.Random(seed)
    for _ in range(20_000):
        kind = m.MESSAGES[draw.randrange(12)]
        payload = draw.randbytes(draw.randrange(300))
        try:
            read = kind.decode(payload)
        except RemoteProtocolError:
            continue
        assert read.encode() == payload, f"seed {seed}"


@pytest.mark.parametrize("number", [0x0C, 0x40, 0xFF])
def test_unknown_message(number):
    with pytest.raises(RemoteProtocolError, match="no message"):
        m.decode(number, b"", channel_msg=False)


def test_largest_messages_fit():
    """attack: A15"""
    longest = [
        m.SubmitSharesEcashExtendedSuccess(1, 2, 3, 4, (EAGER,) * 600, b"", b""),
        m.RedeemSharesEcash(1, 0, KEYSET, (POINT,) * 500, (), ()),
        m.RedeemSharesEcash(1, 1, KEYSET, (), (INPUT,) * 250, (OUTPUT,) * 250),
        m.RedeemSharesEcashSuccess(1, 0, (SIGNED,) * 500, (0,) * 500, (0,) * 500, 1, 1),
        dataclasses.replace(EXAMPLES[-5], keys=(m.KeyEntry(32, POINT),) * 255, unit=TEXT),
        dataclasses.replace(EXAMPLES[-2], group=(KEYSET,) * 255),
    ]
    for message in longest:
        assert len(message.encode()) <= m.PAYLOAD_LEN_MAX
        assert again(message) == message
    with pytest.raises(RemoteProtocolError, match="65536 is the most"):
        m.decode(0x06, bytes(m.PAYLOAD_LEN_MAX + 1), channel_msg=False)


@pytest.mark.parametrize(
    ("message", "field", "limit"),
    [
        (EXAMPLES[5], "receipts", 600),
        (EXAMPLES[8], "claims", 500),
        (EXAMPLES[9], "inputs", 250),
        (EXAMPLES[9], "outputs", 250),
        (EXAMPLES[10], "signatures", 500),
        (EXAMPLES[10], "pending", 500),
        (EXAMPLES[10], "unknown", 500),
    ],
)
def test_one_item_more_is_not_written(message, field, limit):
    items = getattr(message, field)[:1] * (limit + 1)
    with pytest.raises(LocalProtocolError, match=f"{limit} is the most"):
        dataclasses.replace(message, **{field: items}).encode()


def redeem(*, keyset=KEYSET, claims=b"\0\0", inputs=b"\0\0", outputs=b"\0\0", mode=1):
    head = struct.pack("<IBB", 9, mode, len(keyset)) + keyset
    return head + claims + inputs + outputs


def many(count):
    """A count with nothing behind it."""
    return struct.pack("<H", count)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (redeem(claims=many(501), mode=0), "too-many-items"),
        (redeem(claims=many(65_535), mode=0), "too-many-items"),
        (redeem(inputs=many(251)), "too-many-items"),
        (redeem(outputs=many(65_535)), "too-many-items"),
        (redeem(keyset=KEYSET[:-1]), "unknown-epoch"),
        (redeem(keyset=b""), "unknown-epoch"),
        (redeem(claims=b"\1\0\x20" + bytes(32), mode=0), "invalid-blinded-message"),
        (redeem(claims=b"\1\0\x22" + bytes(34), mode=0), "invalid-blinded-message"),
        (redeem(claims=b"\1\0\x41" + bytes(65), mode=0), "invalid-blinded-message"),
        (redeem(claims=b"\1\0\0", mode=0), "invalid-blinded-message"),
        (redeem(inputs=b"\1\0\x20\1a\x20" + bytes(32)), "invalid-proof"),
        (redeem(inputs=b"\1\0\x20\1\xff\x21" + bytes(33)), "invalid-proof"),
        (redeem(outputs=b"\1\0" + bytes(8) + b"\7" + bytes(7)), "unknown-epoch"),
        (
            redeem(outputs=b"\1\0" + bytes(8) + b"\x08" + bytes(8) + b"\0"),
            "invalid-blinded-message",
        ),
        (redeem(claims=b"\1\0\x21" + POINT, mode=1), "amount-mismatch"),
        (redeem(outputs=b"\1\0" + OUTPUT.encode(), mode=0), "amount-mismatch"),
        (redeem(mode=2), ""),
        (redeem() + b"\0", ""),
        (redeem(claims=many(2) + b"\x21" + POINT, mode=0)[:-4], ""),
    ],
)
def test_codes_of_requests_that_are_malformed(payload, code):
    """attack: A4"""
    with pytest.raises(RemoteProtocolError) as caught:
        m.RedeemSharesEcash.decode(payload)
    assert caught.value.error_code == code


@pytest.mark.parametrize(
    ("keyset_len", "point_len"),
    [(0, 33), (7, 33), (9, 33), (33, 33), (8, 0), (8, 32), (8, 34), (8, 65), (9, 255)],
)
def test_claims_of_wrong_lengths(keyset_len, point_len):
    """attack: A4"""
    raw = bytes([keyset_len]) + bytes(keyset_len) + bytes([point_len]) + bytes(point_len)
    for payload in (raw, raw[:-1], raw + b"\0", b""):
        with pytest.raises(RemoteProtocolError) as caught:
            m.Claim.decode(payload)
        assert caught.value.error_code == "invalid-blinded-message"


@pytest.mark.parametrize("payload", [b"", ASKED.encode()[:-1], ASKED.encode() + b"\0"])
def test_terms_that_cannot_be_read(payload):
    with pytest.raises(RemoteProtocolError) as caught:
        m.TermsAsked.decode(payload)
    assert caught.value.error_code == "malformed-terms"


@pytest.mark.parametrize("length", [1, 32, 34])
def test_claim_pubkey_of_a_wrong_length(length):
    raw = struct.pack("<IBB", 1, 1, 1) + bytes([length]) + bytes(length)
    with pytest.raises(RemoteProtocolError) as caught:
        m.TermsAsked.decode(raw)
    assert caught.value.error_code == "invalid-claim-pubkey"


@pytest.mark.parametrize("rate", [b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xbf"])
def test_hash_rates_that_are_none(rate):
    whole = EXAMPLES[0].encode()
    at = 4 + 1 + len("alice.rig")
    with pytest.raises(RemoteProtocolError) as caught:
        m.OpenExtendedEcashMiningChannel.decode(whole[:at] + rate + whole[at + 4 :])
    assert caught.value.error_code == "invalid-nominal-hashrate"


@pytest.mark.parametrize(
    "receipt",
    [
        m.Receipt(1, 40, POINT, b"", b""),
        m.Receipt(1, 40, b"", HASH, HASH),
        m.Receipt(1, 40, POINT, HASH, b""),
        m.Receipt(1, m.NO_TOKEN, POINT, HASH, HASH),
    ],
)
def test_a_signature_comes_with_its_proof_and_a_token(receipt):
    """attack: A7"""
    message = dataclasses.replace(EXAMPLES[5], receipts=(receipt,))
    with pytest.raises(RemoteProtocolError):
        again(message)


@pytest.mark.parametrize(
    "changes",
    [
        {"receipt_root": b""},
        {"receipt_sig": b""},
        {"receipts": (EAGER,)},
    ],
)
def test_receipts_are_eager_or_lazy(changes):
    with pytest.raises(RemoteProtocolError):
        again(dataclasses.replace(EXAMPLES[6], **changes))


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        (EAGER, "sequence_number", -1),
        (EAGER, "sequence_number", 2**32),
        (EAGER, "sequence_number", True),
        (EAGER, "sequence_number", 1.0),
        (OUTPUT, "amount", 2**64),
        (OUTPUT, "blinded", POINT[:-1]),
        (GRANTED, "policy", 4),
        (GRANTED, "mint_url", TEXT + "x"),
        (GRANTED, "mint_url", "\ud800"),
        (EXAMPLES[0], "max_target", HASH + b"\0"),
        (EXAMPLES[0], "nominal_hash_rate", float("nan")),
        (EXAMPLES[0], "nominal_hash_rate", -1.0),
        (EXAMPLES[0], "nominal_hash_rate", 1e300),
    ],
)
def test_values_that_do_not_fit_are_not_written(record, field, value):
    """attack: A14"""
    with pytest.raises(LocalProtocolError):
        dataclasses.replace(record, **{field: value}).encode()


def test_what_the_mint_signs():
    announce, update = EXAMPLES[-5], EXAMPLES[-2]
    assert announce.signed_hash() == tagged_hash("radpool/keyset", announce.encode()[:-64])
    assert update.signed_hash() == tagged_hash("radpool/epoch-update", update.encode()[:-64])
    lazy = EXAMPLES[6]
    expected = tagged_hash("radpool/receipts", struct.pack("<II", 1, 7) + HASH)
    assert lazy.receipts_hash() == expected


def test_running_root():
    first = m.receipt_root(bytes(32), POINT, 40, HASH)
    assert first == tagged_hash("radpool/receipt", bytes(32) + POINT + b"\x28" + HASH)
    assert m.receipt_root(first, OTHER, 40, HASH) != m.receipt_root(bytes(32), OTHER, 40, HASH)


def test_claim_behind_the_core_message():
    raw = m.claim_tlv(SHORT, POINT)
    assert raw == b"\x45\x4e\x01\x29\x00" + SHORT + POINT


def test_first_fields_are_those_of_the_core_messages():
    """Who knows the core message of a kind can read as far as it goes."""
    whole = EXAMPLES[4].encode()
    assert struct.unpack_from("<6IB", whole) == (1, 2, 3, 4, 5, 6, 8)
    assert whole[33:] == m.Claim(SHORT, POINT).encode()
    assert EXAMPLES[2].encode().endswith(GRANTED.encode())
    assert EXAMPLES[0].encode().endswith(ASKED.encode())

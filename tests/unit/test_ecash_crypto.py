"""The native arithmetic of ecash at its border: bytes in, bytes out, in batches."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from peer import curve
from peer import ecash as peer

from radpool_sv2._native import ecash
from radpool_sv2.errors import ConfigError, LocalProtocolError

SEED = ecash.MintSeed.from_secret(b"\x77" * 32)
WALLET = ecash.WalletSeed.from_seed(b"\x77" * 64)
KEYS = ecash.KeysetKeys.derive(SEED, "work", 7, 0, 64)
PUBLIC = dict(KEYS.public)
ORDER = curve.ORDER.to_bytes(32, "big")
POINT = ecash.hash_to_curve([b""])[0]


def signed(amounts, first=0):
    """Returns the outputs of counters from `first` on, and what the mint signs them with."""
    outputs = WALLET.derive(KEYS.id, first, len(amounts))
    return outputs, KEYS.sign(list(zip(amounts, outputs.blinded, strict=True)))


def test_tokens_go_from_the_seed_to_a_verified_proof():
    amounts = [1 << place for place in range(64)]
    outputs, signatures = signed(amounts)
    items = [
        (counter, *signature, PUBLIC[amount])
        for counter, (amount, signature) in enumerate(zip(amounts, signatures, strict=True))
    ]
    tokens = WALLET.unblind(KEYS.id, items)
    assert None not in tokens
    proofs = list(zip(amounts, outputs.secrets, tokens, strict=True))
    assert all(KEYS.verify(proofs))
    assert KEYS.ys(outputs.secrets) == [
        peer.encode(peer.hash_to_curve(secret.encode())) for secret in outputs.secrets
    ]
    factors = WALLET.expose_blinding_factors(KEYS.id, range(64))
    handed = [
        (secret, token, e, s, r, PUBLIC[amount])
        for secret, token, (_, e, s), r, amount in zip(
            outputs.secrets, tokens, signatures, factors, amounts, strict=True
        )
    ]
    assert all(ecash.verify_proof_dleqs(handed))
    assert ecash.unblind(
        [(item[1], r, item[4]) for item, r in zip(items, factors, strict=True)]
    ) == list(tokens)


def test_the_peer_agrees_with_a_signature():
    amounts = [1, 1 << 63]
    outputs, signatures = signed(amounts)
    for counter, (amount, (point, e, s)) in enumerate(zip(amounts, signatures, strict=True)):
        other = peer.Seed(b"\x77" * 64).output(KEYS.id, counter)
        assert (outputs.secrets[counter], outputs.blinded[counter]) == (other.secret, other.blinded)
        assert peer.proves(PUBLIC[amount], other.blinded, point, e, s)
        (token,) = WALLET.unblind(KEYS.id, [(counter, point, e, s, PUBLIC[amount])])
        assert peer.unblind(point, other.factor, PUBLIC[amount]) == token
    assert peer.keyset_id(PUBLIC, "work") == KEYS.id


@pytest.mark.parametrize("count", [0, 1, 15, 16, 31, 32, 33, 300])
def test_batches_of_every_size_are_in_order(count):
    messages = [number.to_bytes(4, "big") for number in range(count)]
    points = ecash.hash_to_curve(messages)
    assert points == [ecash.hash_to_curve([message])[0] for message in messages]
    assert ecash.check_points(points) == [True] * count
    once = KEYS.sign([(1, point) for point in points])
    assert once == [KEYS.sign([(1, point)])[0] for point in points]


def test_signatures_are_the_same_from_every_thread():
    """attack: A5. Nothing on the way draws randomness, and nothing is shared between calls."""
    items = [(1 << (n % 64), point) for n, point in enumerate(ecash.hash_to_curve([b"x"] * 64))]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: KEYS.sign(items), range(8)))
    assert all(result == results[0] for result in results)
    again = ecash.KeysetKeys.derive(ecash.MintSeed.from_secret(b"\x77" * 32), "work", 7, 0, 64)
    assert again.sign(items) == results[0]
    assert len({s for _, _, s in results[0]}) == 64


def test_malformed_points_are_told_from_points():
    """attack: A4"""
    chance = random.Random(4)
    generator = PUBLIC[1]
    wrong = [
        b"",
        bytes(1),
        bytes(33),
        generator[1:],
        generator + b"\0",
        b"\x04" + generator[1:] * 2,
        b"\x06" + generator[1:] * 2,
        *(bytes([form]) + generator[1:] for form in (0, 1, 4, 5, 6, 7, 0xFF)),
        b"\x02" + curve.P.to_bytes(32, "big"),
        b"\x03" + (curve.P + 1).to_bytes(32, "big"),
        b"\x02" + b"\xff" * 32,
        b"\x02" + bytes(32),
        b"\x02" + bytes(31) + b"\x05",
    ]
    assert ecash.check_points(wrong) == [False] * len(wrong)
    for point in wrong:
        with pytest.raises(LocalProtocolError, match="blinded message 1: "):
            KEYS.sign([(1, POINT), (1, point)])
        assert KEYS.verify([(1, "", point)]) == [False]
    strings = [bytes([chance.choice([2, 3])]) + chance.randbytes(32) for _ in range(2_000)]
    for string, is_point in zip(strings, ecash.check_points(strings), strict=True):
        assert is_point == (curve.lift_x(int.from_bytes(string[1:], "big")) is not None)


def test_a_mint_that_signs_with_another_key_is_noticed():
    """attack: A7. What the wallet was told it got decides by which key it checks."""
    outputs, [(point, e, s)] = signed([1 << 5])
    (cheap,) = KEYS.sign([(1, outputs.blinded[0])])
    right = PUBLIC[1 << 5]
    assert WALLET.unblind(KEYS.id, [(0, point, e, s, right)]) != [None]
    flawed = [
        (0, *cheap, right),
        (0, point, e, s, PUBLIC[1]),
        (1, point, e, s, right),
        (0, cheap[0], e, s, right),
        (0, point, b"", b"", right),
        (0, point, e, b"", right),
        (0, point, e[:31], s, right),
        (0, point, bytes(32), s, right),
        (0, point, e, ORDER, right),
        (0, point, s, e, right),
        (0, b"", e, s, right),
        (0, point, e, s, b""),
    ]
    assert WALLET.unblind(KEYS.id, flawed) == [None] * len(flawed)
    blinded = outputs.blinded[0]
    items = [
        (public, blinded, found, e, s) for counter, found, e, s, public in flawed if counter == 0
    ]
    assert ecash.verify_signature_dleqs(items) == [False] * len(items)


def test_only_the_keyset_and_amount_that_signed_verify():
    outputs, [(point, e, s)] = signed([8])
    (token,) = WALLET.unblind(KEYS.id, [(0, point, e, s, PUBLIC[8])])
    (secret,) = outputs.secrets
    other = ecash.KeysetKeys.derive(SEED, "work", 8, 0, 64)
    assert KEYS.verify([(8, secret, token)]) == [True]
    assert other.verify([(8, secret, token)]) == [False]
    amounts = [0, 1, 7, 9, 16, (1 << 64) - 1]
    assert KEYS.verify([(amount, secret, token) for amount in amounts]) == [False] * len(amounts)
    assert KEYS.verify([(8, secret.upper(), token), (8, secret, point)]) == [False, False]


def test_keysets_have_keys_of_their_own():
    keysets = [
        KEYS,
        ecash.KeysetKeys.derive(SEED, "work", 8, 0, 64),
        ecash.KeysetKeys.derive(SEED, "sat", 7, 0, 64),
        ecash.KeysetKeys.derive(ecash.MintSeed.generate(), "work", 7, 0, 64),
    ]
    points = [point for keyset in keysets for _, point in keyset.public]
    assert len(set(points)) == 4 * 64
    assert len({keyset.id for keyset in keysets}) == 4
    some = ecash.KeysetKeys.derive(SEED, "work", 7, 3, 2)
    assert some.public == KEYS.public[3:5]
    assert some.id == ecash.keyset_id(KEYS.public[3:5], "work")


@pytest.mark.parametrize(("first", "count"), [(0, 0), (0, 65), (63, 2), (64, 1), (255, 1)])
def test_amounts_end_at_2_to_the_63(first, count):
    """attack: A14"""
    assert len(ecash.KeysetKeys.derive(SEED, "work", 0, 63, 1).public) == 1
    with pytest.raises(LocalProtocolError, match="keys"):
        ecash.KeysetKeys.derive(SEED, "work", 0, first, count)


@pytest.mark.parametrize("amount", [-1, 1 << 64, 1 << 70])
def test_amounts_outside_64_bits_are_refused(amount):
    """attack: A14"""
    for call in (
        lambda: KEYS.sign([(amount, POINT)]),
        lambda: KEYS.verify([(amount, "", POINT)]),
        lambda: ecash.keyset_id([(amount, POINT)], "work"),
        lambda: WALLET.derive(KEYS.id, amount, 1),
    ):
        with pytest.raises(LocalProtocolError, match="out of range"):
            call()


def test_keys_that_make_no_keyset_are_refused():
    for keys in ([], [(1, POINT), (1, PUBLIC[1])], [(1, bytes(33))]):
        with pytest.raises(LocalProtocolError):
            ecash.keyset_id(keys, "work")
    for secrets in ([], [(1, bytes(32))], [(1, ORDER)], [(1, b"\1" * 31)]):
        with pytest.raises(LocalProtocolError):
            ecash.KeysetKeys.from_secrets(secrets, "work")
    with pytest.raises(LocalProtocolError, match="no key for the amount 3"):
        KEYS.sign([(3, POINT)])
    rows = [(1, PUBLIC[1])]
    assert ecash.keyset_id(rows, "WORK", 0, 0) == ecash.keyset_id(rows, "work")
    assert (
        len({ecash.keyset_id(rows, "work", fee, end) for fee in (0, 1) for end in (None, 1)}) == 4
    )


def test_ids_of_unknown_versions_are_refused():
    """attack: A27"""
    for wrong, match in (
        (b"", "without bytes"),
        (KEYS.id[:32], "32 bytes"),
        (KEYS.id + b"\0", "34 bytes"),
        (b"\x00" + KEYS.id[1:8], "version 0x00"),
        (b"\x02" + KEYS.id[1:], "version 0x02"),
        (b"\xff" + KEYS.id[1:], "version 0xff"),
    ):
        for call in (
            lambda id=wrong: WALLET.derive(id, 0, 1),
            lambda id=wrong: WALLET.unblind(id, []),
            lambda id=wrong: WALLET.expose_blinding_factors(id, [0]),
        ):
            with pytest.raises(LocalProtocolError, match=match):
                call()


def test_the_last_counter_is_usable_and_none_behind_it():
    last = (1 << 64) - 1
    assert len(WALLET.derive(KEYS.id, last, 1)) == 1
    assert len(WALLET.derive(KEYS.id, last, 0)) == 0
    with pytest.raises(LocalProtocolError, match="exceed"):
        WALLET.derive(KEYS.id, last, 2)


def test_secrets_are_in_no_text():
    outputs = WALLET.derive(KEYS.id, 0, 3)
    shown = [repr(secret) for secret in (SEED, WALLET, KEYS, outputs)]
    assert shown[0] == "MintSeed(redacted)"
    assert shown[1] == "WalletSeed(redacted)"
    assert shown[2] == f"KeysetKeys({KEYS.id.hex()}, secrets redacted)"
    assert shown[3] == "DerivedOutputs(3, secrets redacted)"
    assert SEED.expose_secret() == b"\x77" * 32
    for secret in (SEED, WALLET, KEYS, outputs):
        assert not hasattr(secret, "__dict__")
        with pytest.raises(TypeError):
            __import__("pickle").dumps(secret)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_seeds_of_other_lengths_are_refused(length):
    with pytest.raises(ConfigError, match="32 bytes"):
        ecash.MintSeed.from_secret(bytes(length))
    if length != 64:
        with pytest.raises(ConfigError, match="64 bytes"):
            ecash.WalletSeed.from_seed(bytes(length))


def test_residues_are_exact():
    assert ecash.denominate(0, 1 << 40, 32) == (40, 0)
    assert ecash.denominate(0, (1 << 32) - 1, 32) == (None, (1 << 32) - 1)
    assert ecash.denominate((1 << 32) - 1, 1, 32) == (32, 0)
    assert ecash.denominate(0, 1 << 97, 32) == (95, 3 << 95)
    chance = random.Random(8)
    residue = earned = given = 0
    for _ in range(1_000):
        value = chance.randrange(1 << chance.randrange(1, 60))
        z, residue = ecash.denominate(residue, value, 20)
        given += value
        earned += 0 if z is None else 1 << z
    assert earned + residue == given


@pytest.mark.parametrize(
    ("residue", "value", "z0"),
    [((1 << 128) - 1, 1, 0), (-1, 0, 0), (0, 1 << 128, 0), (0, 1, 121), (0, 1, -1), (0, 1, 256)],
)
def test_residues_that_overflow_are_refused(residue, value, z0):
    """attack: A14"""
    with pytest.raises(LocalProtocolError):
        ecash.denominate(residue, value, z0)

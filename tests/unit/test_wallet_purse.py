"""The wallet without a network: counters, proofs, files, several processes at once."""

import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from wallet_rig.message import announce, u
from wallet_rig.mint import FakeMint

from radpool_sv2._native.ecash import KeysetKeys
from radpool_sv2.errors import ConfigError, LocalProtocolError, RemoteProtocolError, StoreError
from radpool_sv2.wallet.file import FILE_NAME, make_file
from radpool_sv2.wallet.purse import BLOCK_MAX, Purse, runs
from radpool_sv2.wallet.seed import words_of

WORDS = words_of(b"\x42" * 16)


@pytest.fixture
def mint():
    return FakeMint()


@pytest.fixture
def directory(tmp_path):
    make_file(tmp_path / "w", {"words": WORDS, "created_ms": 1})
    return tmp_path / "w"


@pytest.fixture
def purse(directory):
    purse = Purse(directory)
    yield purse
    purse.close()


@pytest.fixture
def keyset_id(purse, mint):
    keyset_id = mint.open()
    purse.trust(mint.epochs[keyset_id].announcement, mint.key.public)
    return keyset_id


def receipts(mint, keyset_id, outputs, amount=1):
    signed = mint.mine(keyset_id, [(output.blinded, amount) for output in outputs])
    return [(output.counter, *answer) for output, answer in zip(outputs, signed, strict=True)]


# Counters


def test_counters_come_once(purse, keyset_id):
    """spec: RC-4."""
    seen = [output for count in (1, 2, 30, 300, 1, 5) for output in purse.reserve(keyset_id, count)]
    assert len({output.counter for output in seen}) == len(seen) == 339
    assert (
        len({output.blinded for output in seen}) == len({output.secret for output in seen}) == 339
    )


def test_counters_are_durable_before_anybody_has_them(directory, purse, keyset_id):
    """spec: RC-4. A process that dies at any moment leaves none that can come again."""
    used = set()
    for _ in range(20):
        other = Purse(directory)  # never closed, as after kill -9
        counters = {output.counter for output in other.reserve(keyset_id, 3)}
        assert not counters & used
        used |= counters
        assert purse.keyset(keyset_id).next_counter > max(counters)
        other.file.close()
    # A gap that a restore looks across, even after that many deaths without a single share.
    assert max(used) < 500


def test_blocks_grow_with_use(purse, keyset_id):
    ahead = []
    for _ in range(700):
        [output] = purse.reserve(keyset_id, 1)
        ahead.append(purse.keyset(keyset_id).next_counter - output.counter)
    assert ahead[0] == 16
    assert max(ahead) == BLOCK_MAX


def test_closing_gives_back(directory, mint):
    for _ in range(5):
        purse = Purse(directory)
        keyset_id = mint.open() if not mint.epochs else next(iter(mint.epochs))
        purse.trust(mint.epochs[keyset_id].announcement, mint.key.public)
        purse.reserve(keyset_id, 2)
        purse.close()
    purse = Purse(directory)
    assert purse.keyset(keyset_id).next_counter == 10
    purse.close()


def test_closing_gives_nothing_back_behind_which_another_reserved(directory, purse, keyset_id):
    other = Purse(directory)
    purse.reserve(keyset_id, 1)
    taken = other.reserve(keyset_id, 1)
    purse.close()
    assert other.keyset(keyset_id).next_counter > taken[0].counter
    other.close()
    again = Purse(directory)
    assert again.keyset(keyset_id).next_counter == taken[0].counter + 1
    again.close()


def test_many_threads_and_connections(directory, purse, keyset_id):
    purses = [purse, Purse(directory), Purse(directory)]

    def take(place):
        return [output.counter for output in purses[place % 3].reserve(keyset_id, 1 + place % 7)]

    with ThreadPoolExecutor(8) as pool:
        counters = [counter for taken in pool.map(take, range(120)) for counter in taken]
    assert len(set(counters)) == len(counters) == sum(1 + place % 7 for place in range(120))
    for other in purses[1:]:
        other.close()


CHILD = """
import sys
from pathlib import Path
from radpool_sv2.wallet.purse import Purse
purse = Purse(Path(sys.argv[1]))
for _ in range(40):
    for output in purse.reserve(bytes.fromhex(sys.argv[2]), 3):
        print(output.counter, flush=True)
"""


def test_several_processes(directory, purse, keyset_id):
    """Whoever reads meanwhile is never refused; no counter is taken twice."""
    arguments = [sys.executable, "-c", CHILD, str(directory), keyset_id.hex()]
    children = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    mine = []
    while any(child.poll() is None for child in children):
        mine += [output.counter for output in purse.reserve(keyset_id, 2)]
        assert len(purse.keysets()) == 1
    counters = mine + [int(line) for child in children for line in child.communicate()[0].split()]
    assert all(child.returncode == 0 for child in children)
    assert len(set(counters)) == len(counters) == len(mine) + 360


@pytest.mark.parametrize("count", [0, -1, 10_001])
def test_how_many_at_once(purse, keyset_id, count):
    with pytest.raises(LocalProtocolError):
        purse.reserve(keyset_id, count)


def test_a_keyset_that_nobody_trusted(purse):
    with pytest.raises(RemoteProtocolError, match="unknown to the wallet"):
        purse.reserve(b"\1" * 33, 1)


def test_skip(purse, keyset_id):
    """spec: RC-5. attack: A19."""
    [first] = purse.reserve(keyset_id, 1)
    assert purse.skip(keyset_id, 500) > 500
    [output] = purse.reserve(keyset_id, 1)
    assert output.counter > 500 > first.counter
    beyond = purse.skip(keyset_id, 3)
    assert beyond > output.counter
    for counter in (-1000, 1 << 62, 1 << 80):
        with pytest.raises(LocalProtocolError):
            purse.skip(keyset_id, counter)


def test_runs():
    assert runs([]) == []
    assert runs([5, 1, 2, 3, 9, 8, 3]) == [(1, 3), (5, 1), (8, 2)]


# Signatures


def test_receipts_become_tokens(purse, mint, keyset_id):
    outputs = purse.reserve(keyset_id, 10)
    good = receipts(mint, keyset_id, outputs, 8)
    assert purse.receive(keyset_id, good[:7]).units == 56
    received = purse.receive(keyset_id, good)
    assert (received.stored, received.units, received.bad) == (10, 80, ())
    assert purse.missing(keyset_id) == purse.derive(
        keyset_id, 10, purse.keyset(keyset_id).next_counter - 10
    )


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("with_what", [b"", b"\0" * 32, b"\xff" * 32, b"\1" * 33, b"\2" * 31, None])
def test_an_unproven_signature_is_no_money(purse, mint, keyset_id, place, with_what):
    """spec: RC-12. attack: A7. Missing, malformed and wrong are the same."""
    good = receipts(mint, keyset_id, purse.reserve(keyset_id, 3), 4)
    bad = list(good[1])
    if place == 0:
        bad[1] = 8  # the proof is of another amount's key
    else:
        bad[1 + place] = with_what if with_what is not None else good[2][1 + place]
    received = purse.receive(keyset_id, [good[0], tuple(bad), good[2]])
    assert (received.stored, received.units) == (2, 8)
    assert received.bad == (good[1][0],)
    # The right signature is still taken afterwards.
    assert purse.receive(keyset_id, good).bad == ()


@pytest.mark.parametrize("amount", [0, -1, 3, 1 << 64, 1 << 200, (1 << 63) + 1])
def test_an_amount_without_a_key(purse, mint, keyset_id, amount):
    """spec: RC-13. attack: A14."""
    [good] = receipts(mint, keyset_id, purse.reserve(keyset_id, 1))
    assert purse.receive(keyset_id, [(good[0], amount, *good[2:])]).bad == (good[0],)


def test_the_key_of_a_smaller_amount(purse, mint, keyset_id):
    """attack: A7. The mint signs with the key of less work than it says."""
    [output] = purse.reserve(keyset_id, 1)
    [answer] = mint.epochs[keyset_id].keys.sign([(1, output.blinded)])
    assert purse.receive(keyset_id, [(output.counter, 32, *answer)]).bad == (output.counter,)


def test_a_counter_that_was_never_reserved(purse, mint, keyset_id):
    beyond = purse.derive(keyset_id, 10_000, 1)
    with pytest.raises(LocalProtocolError, match="none is reserved"):
        purse.receive(keyset_id, receipts(mint, keyset_id, beyond))


# Keysets


def test_a_keyset_belongs_to_one_mint_for_ever(purse, mint, keyset_id):
    """spec: RC-7. attack: A18."""
    thief = FakeMint(secret=b"\x66" * 32)
    payload = announce(thief.key, mint.epochs[keyset_id].keys, z0=thief.z0)
    with pytest.raises(RemoteProtocolError, match="shows it as its own"):
        purse.trust(payload, thief.key.public)
    assert purse.keyset(keyset_id).mint.public_key == mint.key.public


def test_trusting_again_changes_nothing(purse, mint, keyset_id):
    again = purse.trust(mint.epochs[keyset_id].announcement, mint.key.public)
    assert (again.new, again.warnings) == (False, ())
    assert len(purse.keysets()) == 1


def test_other_terms_for_a_known_keyset(purse, mint, keyset_id):
    """spec: RC-8. attack: A6. Signed by its own mint, and still refused."""
    keys = mint.epochs[keyset_id].keys
    same = announce(mint.key, keys, z0=mint.z0, epoch=u(4, 1))
    assert not purse.trust(same, mint.key.public).new
    for change in ({"fee_ppm": u(4, 1)}, {"epoch": u(4, 2)}, {"opened_block": b"\1" * 32}):
        other = announce(mint.key, keys, z0=mint.z0, **({"epoch": u(4, 1)} | change))
        with pytest.raises(RemoteProtocolError, match="before with other terms"):
            purse.trust(other, mint.key.public)


def test_an_address_keeps_its_mint(purse, mint, keyset_id):
    thief = FakeMint(secret=b"\x66" * 32)
    purse.know_mint(mint.key.public, "http://a.example")
    with pytest.raises(RemoteProtocolError, match=r"has the key .* now"):
        purse.know_mint(thief.key.public, "http://a.example")
    # And a mint keeps its address: a connection cannot lead the wallet elsewhere.
    assert purse.know_mint(mint.key.public, "http://b.example").url == "http://a.example"


def test_rotation_that_is_too_fast(purse, mint):
    """spec: RC-8. attack: A9. Each keyset is a crowd of its own: the smaller, the less it hides."""
    warned = []
    for number in range(70):
        trusted = purse.trust(mint.epochs[mint.open()].announcement, mint.key.public)
        warned += [number] if trusted.warnings else []
    assert warned == list(range(64, 70))
    assert "many small crowds" in trusted.warnings[0]


def test_one_keyset_a_tip_in_the_network_policy(purse, mint):
    """attack: A9."""
    first = mint.epochs[mint.open(policy=u(1, 0), opened_block=b"\1" * 32)]
    second = mint.epochs[mint.open(policy=u(1, 0), opened_block=b"\1" * 32)]
    third = mint.epochs[mint.open(policy=u(1, 0), opened_block=b"\2" * 32)]
    found = [purse.trust(e.announcement, mint.key.public).warnings for e in (first, second, third)]
    assert [bool(warnings) for warnings in found] == [False, True, False]


def test_updates(purse, mint, keyset_id):
    mint.close(keyset_id, 1000, work=10)
    good = mint.update_of(keyset_id)
    assert purse.take_update(good).update.theta_msat == 1000
    assert purse.take_update(good).update.theta_msat == 1000
    with pytest.raises(RemoteProtocolError, match="not of"):
        purse.take_update(good, b"\1" * 33)
    thief = FakeMint(secret=b"\x66" * 32, epochs=mint.epochs)
    thief.close(keyset_id, 9_000, work=10)
    with pytest.raises(RemoteProtocolError, match="not signed by the mint"):
        purse.take_update(thief.update_of(keyset_id))
    with pytest.raises(RemoteProtocolError, match="unknown to the wallet"):
        purse.take_update(mint.update_of(mint.open()))


# The file


def test_only_the_owner_can_read_it(directory, purse, keyset_id):
    purse.reserve(keyset_id, 1)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for file in directory.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(directory, mode):
    (directory / FILE_NAME).chmod(mode)
    with pytest.raises(ConfigError, match="can be read by others"):
        Purse(directory)


def test_a_directory_that_others_can_enter_is_refused(directory, tmp_path):
    directory.chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        Purse(directory)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        make_file(tmp_path / "open", {"words": WORDS})


def test_a_wallet_is_not_overwritten(directory):
    before = (directory / FILE_NAME).read_bytes()
    with pytest.raises(ConfigError, match="not overwritten"):
        make_file(directory, {"words": words_of(bytes(16))})
    assert (directory / FILE_NAME).read_bytes() == before
    assert list(directory.iterdir()) == [directory / FILE_NAME]


def test_no_wallet(tmp_path):
    with pytest.raises(ConfigError, match="radpool wallet create"):
        Purse(tmp_path)


def test_other_files(directory):
    file = directory / FILE_NAME
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="newer radpool"):
        Purse(directory)
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA application_id = 5")
    connection.close()
    with pytest.raises(StoreError, match="another program"):
        Purse(directory)
    file.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError):
        Purse(directory)


def test_the_seed_is_in_no_repr(purse, keyset_id):
    [output] = purse.reserve(keyset_id, 1)
    assert output.secret not in repr(output)
    assert WORDS not in repr(purse.seed)
    assert KeysetKeys.ys([output.secret])

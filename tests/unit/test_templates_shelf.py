import hashlib
import struct

import pytest

from radpool_sv2.errors import LocalProtocolError
from radpool_sv2.templates import shelf
from radpool_sv2.templates.shelf import TemplateShelf
from radpool_sv2.templates.source import Solution, Template, TemplateTransactions, Tip

NBITS = 0x207FFFFF
WHOLE = b"\x02\0\0\0\x00\x01coinbase" + b"\x01\x20" + bytes(32) + b"lock"
BARE = b"\x02\0\0\0coinbaselock"


def double_hash(data):
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def template(number, path=(b"\x07" * 32,)):
    return Template(
        id=number,
        height=200,
        version=0x20000000,
        coinbase_tx_version=2,
        coinbase_prefix=b"\x02\xc8\x00",
        coinbase_sequence=0,
        template_outputs=b"",
        template_output_count=0,
        coinbase_locktime=0,
        merkle_path=path,
        value_sats=1,
        fees_sats=0,
        tx_count=1,
        weight=4000,
    )


def tip(number, prev_hash=b"\x01" * 32):
    return Tip(
        template_id=number, prev_hash=prev_hash, min_ntime=5, nbits=NBITS, target=b"\xff" * 32
    )


def solution(number, *, coinbase=WHOLE, root_of=BARE, prev_hash=b"\x01" * 32, path=(b"\x07" * 32,)):
    root = double_hash(root_of)
    for sibling in path:
        root = double_hash(root + sibling)
    header = struct.pack("<I", 1) + prev_hash + root + struct.pack("<III", 6, NBITS, 7)
    return Solution(
        template_id=number,
        version=1,
        ntime=6,
        nonce=7,
        coinbase_tx=coinbase,
        hash=double_hash(header),
    ), header


def put(kept, number, raws=(b"one", b"two"), prev_hash=b"\x01" * 32):
    kept.put(template(number), tip(number, prev_hash), TemplateTransactions(raws, (1,) * len(raws)))


def test_a_block_is_header_coinbase_and_transactions():
    kept = TemplateShelf(None)
    put(kept, 4)
    found, header = solution(4)
    assert kept.block(found) == header + b"\x03" + WHOLE + b"onetwo"
    bare, header = solution(4, coinbase=BARE)
    assert kept.block(bare) == header + b"\x03" + BARE + b"onetwo"


def test_a_block_of_many_transactions_counts_them_in_three_bytes():
    kept = TemplateShelf(None)
    put(kept, 4, raws=(b"x",) * 252)
    found, _header = solution(4)
    assert kept.block(found)[80:83] == b"\xfd\xfd\x00"


def test_a_solution_that_does_not_fit_is_refused():
    kept = TemplateShelf(None)
    put(kept, 4)
    with pytest.raises(LocalProtocolError, match="another hash"):
        kept.block(solution(4, prev_hash=b"\x02" * 32)[0])
    with pytest.raises(LocalProtocolError, match="template-id-not-found"):
        kept.block(solution(5)[0])


def test_templates_of_this_tip_and_the_one_before_are_kept():
    kept = TemplateShelf(None)
    for number, prev in enumerate((b"\x01", b"\x02", b"\x03"), 1):
        put(kept, number, prev_hash=prev * 32)
    assert [kept.holds(number) for number in (1, 2, 3)] == [False, True, True]
    # A chain that goes back to a tip makes that one the newest.
    put(kept, 4, prev_hash=b"\x02" * 32)
    put(kept, 5, prev_hash=b"\x04" * 32)
    assert [kept.holds(number) for number in (2, 3, 4, 5)] == [True, False, True, True]


def test_memory_is_bounded_on_a_tip_that_lasts():
    kept = TemplateShelf(None)
    for number in range(shelf.TEMPLATES_MAX + 5):
        put(kept, number)
    assert not kept.holds(4)
    assert kept.holds(5)


def test_numbers_begin_with_the_time_and_never_come_again():
    now = 1_000
    kept = TemplateShelf(None, clock_ms=lambda: now)
    first, second = kept.next_id(), kept.next_id()
    assert (first, second) == (1_000 << 20, (1_000 << 20) + 1)
    now = 999
    assert kept.next_id() == second + 1
    now = 2_000
    assert kept.next_id() == 2_000 << 20
    # The year 2248 is the last of them below 2^63, where declared templates begin.
    assert (8_790_000_000_000 << 20) < 1 << 63


async def test_the_newest_are_on_disk_and_found_after_a_restart(tmp_path):
    directory = tmp_path / "kept"
    kept = TemplateShelf(directory, clock_ms=lambda: 1_000)
    numbers = [kept.next_id() for _ in range(shelf.FILES_MAX + 3)]
    for number in numbers:
        put(kept, number)
        await kept.save()
    assert len(list(directory.iterdir())) == shelf.FILES_MAX
    again = TemplateShelf(directory, clock_ms=lambda: 1)
    found, header = solution(numbers[-1])
    assert again.block(found) == header + b"\x03" + WHOLE + b"onetwo"
    assert again.transactions(numbers[-1]) == TemplateTransactions((b"one", b"two"), None)
    with pytest.raises(LocalProtocolError, match="template-id-not-found"):
        again.transactions(numbers[0])
    # A clock that went back does not lead to old numbers.
    assert again.next_id() == numbers[-1] + 1


async def test_every_spoilt_file_counts_as_absent(tmp_path):
    kept = TemplateShelf(tmp_path)
    put(kept, 4)
    await kept.save()
    file = tmp_path / "4.template"
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(LocalProtocolError):
            TemplateShelf(tmp_path).transactions(4)
    file.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    with pytest.raises(LocalProtocolError):
        TemplateShelf(tmp_path).transactions(4)
    file.write_bytes(whole)
    assert TemplateShelf(tmp_path).transactions(4).raw == (b"one", b"two")


async def test_a_disk_that_fails_costs_no_template(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no directory")
    kept = TemplateShelf(blocked)
    put(kept, 4)
    await kept.save()
    assert kept.transactions(4).raw == (b"one", b"two")


async def test_other_files_in_the_directory_are_left_alone(tmp_path):
    for name in ("notes.template", "x.txt", ".5.99"):
        (tmp_path / name).write_text("mine")
    kept = TemplateShelf(tmp_path)
    put(kept, 4)
    await kept.save()
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        ".5.99",
        "4.template",
        "notes.template",
        "x.txt",
    ]


def test_templates_share_the_transactions_that_both_have():
    first = TemplateTransactions((b"".join([b"a", b"b"]), b"".join([b"c", b"d"])), None)
    later = TemplateTransactions((b"".join([b"c", b"d"]), b"".join([b"e", b"f"])), (1, 2))
    shared = later.sharing(first)
    assert shared == later
    assert shared.raw[0] is first.raw[1]

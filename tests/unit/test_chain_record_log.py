import os
import resource
import signal

import pytest

from radpool_sv2.chain import record_log
from radpool_sv2.chain.record_log import FILE_MAGIC, HEADER_LEN, Record, RecordLog
from radpool_sv2.errors import LocalProtocolError, StoreError

RECORDS = [Record(1, b"first"), Record(2, b""), Record(3, b"RREC" * 20)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def whole(path):
    log, found = RecordLog.open(path)
    assert found == []
    log.append(RECORDS)
    log.close()
    return path.read_bytes()


def reopened(path):
    log, records = RecordLog.open(path)
    log.close()
    return records


def test_what_was_appended_is_read_back(path, whole):
    assert reopened(path) == RECORDS


def test_log_torn_at_every_byte_of_the_last_record_keeps_the_others(path, whole):
    last = HEADER_LEN + len(RECORDS[-1].payload)
    for missing in range(1, last + 1):
        path.write_bytes(whole[: len(whole) - missing])
        assert reopened(path) == RECORDS[:2], missing
        cut = path.with_name("log.cut")
        assert missing == last or cut.read_bytes() == whole[-last:-missing]


def test_a_cut_log_takes_new_records_where_the_old_ended(path, whole):
    path.write_bytes(whole[:-1])
    log, _ = RecordLog.open(path)
    log.append([Record(9, b"new")])
    log.close()
    assert reopened(path) == [*RECORDS[:2], Record(9, b"new")]


def test_log_torn_while_it_was_created_is_empty(path):
    for length in range(len(FILE_MAGIC) + 1):
        path.write_bytes(FILE_MAGIC[:length])
        assert reopened(path) == []
        assert path.read_bytes() == FILE_MAGIC


def test_every_flipped_bit_of_the_last_record_is_found(path, whole):
    last = HEADER_LEN + len(RECORDS[-1].payload)
    for at in range(len(whole) - last, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        assert reopened(path) == RECORDS[:2], at


def test_damage_before_an_intact_record_is_refused_and_nothing_is_thrown_away(path, whole):
    for at in range(len(FILE_MAGIC), len(FILE_MAGIC) + HEADER_LEN + 5):
        damaged = bytearray(whole)
        damaged[at] ^= 0x80
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"damaged at byte 8, .* byte 30"):
            RecordLog.open(path)
        assert path.read_bytes() == damaged


def test_damage_may_be_cut_where_the_owner_says_so(path, whole):
    damaged = bytearray(whole)
    damaged[len(FILE_MAGIC) + HEADER_LEN] ^= 1
    path.write_bytes(damaged)
    log, records = RecordLog.open(path, refuse_damage=False)
    log.close()
    assert records == []


def test_a_payload_that_holds_a_record_does_not_pass_for_one(path, whole):
    inner = whole[len(FILE_MAGIC) :]
    log, _ = RecordLog.open(path)
    log.append([Record(7, b"x" * 10 + inner)])
    log.close()
    torn = path.read_bytes()[:-1]
    path.write_bytes(torn)
    assert reopened(path) == RECORDS


def test_foreign_file_is_not_touched(path):
    path.write_bytes(b"something else")
    with pytest.raises(StoreError, match="not a record log"):
        RecordLog.open(path)
    assert path.read_bytes() == b"something else"


def test_rewrite_replaces_everything(path, whole):
    log, _ = RecordLog.open(path)
    log.rewrite([Record(5, b"only")])
    log.append([Record(6, b"next")])
    log.close()
    assert reopened(path) == [Record(5, b"only"), Record(6, b"next")]


def test_payload_limit_on_both_sides(path, monkeypatch):
    monkeypatch.setattr(record_log, "PAYLOAD_LEN_MAX", 10)
    log, _ = RecordLog.open(path)
    log.append([Record(1, bytes(10))])
    with pytest.raises(LocalProtocolError, match="11 bytes"):
        log.append([Record(1, bytes(11))])
    log.close()
    assert reopened(path) == [Record(1, bytes(10))]


def test_a_disk_that_refuses_once_is_not_written_again(path, monkeypatch):
    log, _ = RecordLog.open(path)
    log.append([Record(1, b"kept")])

    def refuse(_):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refuse)
        with pytest.raises(StoreError, match="No space left"):
            log.append([Record(2, b"unknown")])
    with pytest.raises(StoreError, match="opened again"):
        log.append([Record(3, b"after")])
    log.close()


def test_full_disk_leaves_what_was_there(path):
    """A file size limit stands for a full disk: the write stops in the middle."""
    log, _ = RecordLog.open(path)
    log.append([Record(1, b"kept")])
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.size + 20, old[1]))
        with pytest.raises(StoreError, match="cannot be written"):
            log.append([Record(2, bytes(100))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    log.close()
    assert reopened(path) == [Record(1, b"kept")]

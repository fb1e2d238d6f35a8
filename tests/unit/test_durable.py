"""Files that are whole or not there, whatever the disk does."""

import errno
import stat

import pytest

from radpool_sv2 import durable
from radpool_sv2.durable import SECRET_MODE, write_whole


def test_file_is_written_and_replaced(tmp_path):
    file, draft = tmp_path / "file", tmp_path / "draft"
    draft.write_bytes(b"left over by a crash")
    for data in (b"first, and long", b"second"):
        write_whole(file, data, draft=draft, mode=SECRET_MODE)
        assert file.read_bytes() == data
    assert stat.S_IMODE(file.stat().st_mode) == SECRET_MODE
    assert not draft.exists()


def test_failing_disk_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    file, draft = tmp_path / "file", tmp_path / "draft"
    file.write_bytes(b"old")
    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(file, b"new", draft=draft)
    assert file.read_bytes() == b"old"
    assert not draft.exists()


def test_name_is_synced_after_the_contents(tmp_path, monkeypatch):
    seen, sync = [], durable.os.fsync

    def look(descriptor):
        seen.append(stat.S_ISDIR(durable.os.fstat(descriptor).st_mode))
        sync(descriptor)

    monkeypatch.setattr(durable.os, "fsync", look)
    write_whole(tmp_path / "file", b"data", draft=tmp_path / "draft")
    assert seen == [False, True]

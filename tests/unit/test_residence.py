"""A data directory belongs to one process, and tells where that process serves."""

import multiprocessing
import os

import pytest

from radpool_sv2.errors import ConfigError
from radpool_sv2.residence import Serving, is_running, reside, serving_at, tell_serving

SERVING = Serving("127.0.0.1:3333", "127.0.0.1:9090", "9a")


def test_a_second_one_is_refused_and_does_no_harm(tmp_path):
    with reside(tmp_path):
        tell_serving(tmp_path, SERVING)
        with pytest.raises(ConfigError, match="another radpool runs"), reside(tmp_path):
            pass
        assert is_running(tmp_path)
        assert serving_at(tmp_path) == SERVING
    assert not is_running(tmp_path)
    with reside(tmp_path):
        pass


def test_serving_at_before_during_after(tmp_path):
    with pytest.raises(ConfigError, match="no radpool runs"):
        serving_at(tmp_path)
    with reside(tmp_path), pytest.raises(ConfigError, match="not serving yet"):
        serving_at(tmp_path)
    with pytest.raises(ConfigError, match="no radpool runs"):
        serving_at(tmp_path)


def _die_in(directory):
    with reside(directory):
        tell_serving(directory, SERVING)
        os._exit(9)


def test_the_mark_goes_with_a_process_that_dies(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_die_in, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert not is_running(tmp_path)
    with reside(tmp_path):
        # What the dead one told is not taken for ours.
        with pytest.raises(ConfigError, match="not serving yet"):
            serving_at(tmp_path)


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"), reside(tmp_path / "file" / "data"):
        pass


def test_the_line():
    assert SERVING.to_json() == (
        '{"event": "serving", "sv2": "127.0.0.1:3333", "http": "127.0.0.1:9090", '
        '"authority_public_key": "9a", "declarator": ""}'
    )

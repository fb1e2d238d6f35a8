"""Where the wallet is when nobody has said: the pool decides, once."""

import pytest
import trio
from jdc_rig.server import Server
from radpool_sv2_translator.first_run import DIRECTORY, ECASH_EXTENSION, choose_wallet

from radpool_sv2._native.keys import AuthoritySecretKey
from radpool_sv2.config import Endpoint
from radpool_sv2.errors import ConfigError
from radpool_sv2.wallet.file import FILE_NAME
from radpool_sv2.wire.message.connection import Protocol
from radpool_sv2.wire.setup import answer_extensions


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / DIRECTORY


async def pool(nursery, supported):
    async def script(stream):
        await stream.send(answer_extensions(await stream.receive(), supported))
        await trio.sleep_forever()

    server = Server(Protocol.MINING, script)
    await nursery.start(server.serve)
    return server


async def test_pool_with_ecash_is_earned_from(nursery, here):
    server = await pool(nursery, {ECASH_EXTENSION, 1})
    assert await choose_wallet(server.endpoint, server.key) == here
    assert await choose_wallet(server.endpoint, "") == here
    assert not here.exists(), "it is made by whoever shows its words"
    nursery.cancel_scope.cancel()


async def test_pool_without_ecash_is_a_plain_one(nursery):
    server = await pool(nursery, {1})
    assert await choose_wallet(server.endpoint, server.key) is None
    nursery.cancel_scope.cancel()


async def test_pool_of_another_key_is_told_nothing(nursery):
    server = await pool(nursery, {ECASH_EXTENSION})
    other = AuthoritySecretKey.generate().public_key().to_text()
    with pytest.raises(ConfigError, match="--user NAME"):
        await choose_wallet(server.endpoint, other)
    nursery.cancel_scope.cancel()


async def test_wallet_that_is_there_is_used_without_asking(here):
    here.mkdir()
    (here / FILE_NAME).touch()
    assert await choose_wallet(Endpoint("127.0.0.1", 1), "no key") == here


async def test_pool_that_cannot_be_asked_is_named():
    with pytest.raises(ConfigError, match=r"cannot ask the pool.*--wallet DIR"):
        await choose_wallet(Endpoint("127.0.0.1", 1), "")
    with pytest.raises(ConfigError):
        await choose_wallet(Endpoint("127.0.0.1", 1), "no key")

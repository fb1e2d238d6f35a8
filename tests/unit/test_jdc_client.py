"""What joins ladder, pools and miners: targets that no pool should give, miners that are let go."""

import pytest
import trio
from jdc_rig.source import ScriptedSource
from jdc_rig.templates import own
from jdc_rig.upstream import SETTINGS, Peer, outputs

from radpool_sv2._native.keys import AuthoritySecretKey
from radpool_sv2.config import loads, render
from radpool_sv2.config.jdc import JdcConfig
from radpool_sv2.jdc.client import JOBS_REMEMBERED_MIN, DeclaringClient
from radpool_sv2.jdc.ladder import Worked
from radpool_sv2.jdc.link import PoolLink
from radpool_sv2.units import EXPONENT_MAX

KEY = AuthoritySecretKey.generate()
UNTAGGED = outputs()


class Front:
    """Stands for the miners."""

    address = "somewhere"
    extranonce_len = SETTINGS["extranonce_len"]

    def __init__(self):
        self.jobs, self.caps = [], []

    def publish(self, job):
        self.jobs.append(job)

    def cap(self, exponent):
        self.caps.append(exponent)


@pytest.fixture
def client(tmp_path):
    values = {
        "templates.payout_address": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
        "templates.network": "regtest",
        "pools[1].address": "127.0.0.1:1",
        "pools[1].authority_public_key": KEY.public_key().to_text(),
        "pools[1].declarator": "127.0.0.1:2",
        "pools[1].user": "alice.rig",
    }
    config = loads(JdcConfig, render(JdcConfig, values), tmp_path / "jdc.toml")
    made = DeclaringClient(config, KEY, ScriptedSource())
    made.front = Front()
    return made


async def in_use(client, peer, target):
    """Has the client mine for a pool whose channel has a target."""
    rung = client.rungs[0]
    client.own = own(1)
    peer.start().open(target=target).offer(client.own).give(UNTAGGED)
    rung.link = PoolLink(rung.place, peer.machine, client, version_rolling=True)
    client.ladder.tried = 0
    client.ladder.handle(Worked(0), 0.0)
    peer.judge()
    peer.accept()
    peer.machine.use(0.0)
    rung.link.act()
    return rung.link


@pytest.mark.parametrize("target", [0, 1, 2**100, 2**224, 2**256 - 1])
async def test_whatever_target_a_pool_gives_the_miners_go_on(client, target):
    await in_use(client, Peer(), target)
    wanted = client.wanted_exponent()
    assert 0 <= wanted <= EXPONENT_MAX
    assert client.front.jobs[-1] is client.job


async def test_miners_are_steered_by_a_new_target_at_once(client):
    peer = Peer()
    link = await in_use(client, peer, 2**220)
    assert client.front.caps[-1] == 256 - 221
    peer.machine._channel.target = 2**224
    client.retargeted(link)
    assert client.front.caps[-1] == 256 - 225


async def test_pool_that_counts_easier_shares_than_the_miners_send_is_told(client):
    await in_use(client, Peer(), 2**225 - 1)
    assert "lower mining.exponent_min" in client.problems()[0]
    client._present = client._make_solo()
    assert client.problems() == []


async def test_miners_of_a_pool_that_pays_for_no_job_work_for_themselves(client):
    link = await in_use(client, Peer(), 2**224)
    assert client.solo_jobs == 0
    client.withdrawn(link)
    assert client.solo_jobs == 1
    assert client.front.caps[-1] is None, "no pool asks for a target"


async def test_no_job_is_forgotten_while_a_block_may_be_found_on_it(client, autojump_clock):
    client.own = own(1)
    for _ in range(JOBS_REMEMBERED_MIN + 50):
        client._publish(client._make_solo(), None)
        await trio.sleep(1)
    kept = list(client._jobs)
    assert len(kept) == JOBS_REMEMBERED_MIN + 50, "miners may be at any of them for two minutes"
    await trio.sleep(client._job_past_s)
    client._publish(client._make_solo(), None)
    assert len(client._jobs) == JOBS_REMEMBERED_MIN

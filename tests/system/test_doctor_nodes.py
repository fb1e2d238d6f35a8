"""What `radpool doctor` says of nodes: good ones, wrong ones, and none."""

import pytest
import trio
from rig.fake_node import FakeNode, block_template, chain
from rig.node import Node
from rig.process import RADPOOL, run

from radpool_sv2.network import MAIN
from radpool_sv2.node.report import report_node

pytestmark = pytest.mark.slow


# Any free ones: the doctor tries whether it may listen, and other tests try the default ones.
PORTS = dict.fromkeys(["mining.listen", "declarator.listen", "http.listen"], "127.0.0.1:0")


def doctor_of(directory, *, url, **more):
    settings = PORTS | {"templates.source": "bitcoind", "templates.rpc_urls": [url]} | more
    return run([RADPOOL, "doctor", "--dir", Node(directory, settings).directory])


def test_a_good_node_and_one_that_is_not_there(bitcoind, tmp_path):
    bitcoind.spend()
    cookie = {"templates.rpc_cookie_files": [str(bitcoind.cookie_file)]}
    notices = {"templates.zmq_urls": [bitcoind.zmq_url]}
    told = doctor_of(tmp_path / "a", url=bitcoind.url, **cookie, **notices)
    words = " ".join(told.stdout.split())
    assert f"{bitcoind.url} is Satoshi" in words
    assert "at height 110; its template has" in words
    assert f"{bitcoind.zmq_url} tells of new blocks" in words
    assert told.returncode == 0, told.stdout
    bitcoind.stop()
    told = doctor_of(tmp_path / "b", url=bitcoind.url, **cookie, **notices)
    words = " ".join(told.stdout.split())
    assert told.returncode != 0
    assert f"the cookie {bitcoind.cookie_file} of the node" in words.replace(" /", " /")
    assert "New blocks are learnt of by long polling alone" in words


def test_a_socket_that_is_not_there(tmp_path):
    socket = {"templates.source": "core_ipc", "templates.ipc_socket": str(tmp_path / "no.sock")}
    node = Node(tmp_path / "a", socket)
    told = run([RADPOOL, "doctor", "--dir", node.directory])
    words = " ".join(told.stdout.split())
    assert told.returncode != 0
    assert "bitcoin node" in words
    assert "no.sock" in words


def report(node, **more):
    return trio.run(report_node, node.settings(**more), MAIN)


def test_what_is_good_and_what_is_not_stands_apart():
    with FakeNode() as node:
        node.answers["getblocktemplate"] = block_template(curtime=0, mintime=0)
        good, clock = report(node)
        assert good[0] is True
        assert "Satoshi:30.0.0 at height 900,000" in good[1]
        assert clock[0] is None
        assert "behind ours" in clock[1]
        node.answers["getnetworkinfo"] = {"subversion": "/Knots:1/", "connections": 1}
        assert "which fills blocks of 1,200,000 weight units" in report(node)[1][1]
        node.answers["getblockchaininfo"] = chain(chain="test")
        assert [verdict for verdict, _ in report(node)] == [False]
        assert [verdict for verdict, _ in report(node, password="x")] == [False]

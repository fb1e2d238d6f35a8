"""Pools in one federation, each with a node of its own directory, on one regtest chain."""

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx

from radpool_sv2.federation.installation import Convention, install_member, read_record
from radpool_sv2.installation import install_msp
from radpool_sv2.network import REGTEST
from radpool_sv2.weight import REGTEST as SCALE

from .bitcoind import free_ports
from .node import UNLIMITED, Node, Running
from .process import Process
from .wait import until

MATURITY = 3
RULES = {
    "maturity": MATURITY,
    "scale": SCALE,
    # Above what the pools' own settings allow.
    "exponent_floor": 10,
    "shares_target": 1_000,
    "bytes_base": 1 << 22,
    "window": 32,
}
SETTINGS = UNLIMITED | {
    "mining.exponent_min": 8,
    "mining.shares_per_minute": 1_200,
    "templates.source": "bitcoind",
    "templates.network": "regtest",
    "templates.block_zeros": 22,
    "templates.interval_s": 1,
    "templates.rpc_deadline_ms": 10_000,
    "ledger.maturity_blocks": MATURITY,
    "declarator.enabled": False,
}


TOLD = Path(__file__).with_name("federated_told.py")


class ToldNode(Node):
    """Is a pool whose member counts late, or in another way, as it is told: `federated_told`."""

    def launch(self, env=None, stderr=None, http_port=0):
        command = [sys.executable, TOLD, self._told(), "msp", "--dir", self.directory, "--json"]
        command += ["--sv2-listen", "127.0.0.1:0", "--http-listen", f"127.0.0.1:{http_port}"]
        return Running(self, Process(command, self.directory, "msp", env, stderr))

    def tell(self, what, epoch):
        """Has it `hold` or `stray`, from an epoch on."""
        (self._told() / f"{what}-{epoch}").touch()

    def let_go(self):
        """Has it hold no more."""
        for each in self._told().glob("hold-*"):
            each.unlink()

    def _told(self):
        directory = self.directory / "told"
        directory.mkdir(exist_ok=True)
        return directory


def pools(bitcoind, directory, count=4, rules=None, settings=None, node_type=Node):
    """Makes pools whose members are in one committee; none runs yet."""
    nodes = []
    places = []
    for number, port in enumerate(free_ports(count)):
        home, place = directory / f"msp-{number}", directory / f"member-{number}"
        install_msp(
            home,
            settings=SETTINGS
            | {
                "templates.rpc_urls": [bitcoind.url],
                "templates.rpc_cookie_files": [str(bitcoind.cookie_file)],
                "federation.dir": str(place),
            }
            | (settings or {}),
        )
        install_member(
            place,
            [f"127.0.0.1:{port}"],
            {
                "links.listen": f"127.0.0.1:{port}",
                "chain.rpc_url": bitcoind.url,
                "chain.rpc_cookie_file": str(bitcoind.cookie_file),
                "chain.poll_ms": 500,
            },
            msp_key=home / "keys" / "msp.key",
        )
        node = node_type.__new__(node_type)
        node.directory, node.config = home, home / "msp.toml"
        nodes.append(node)
        places.append(place)
    convention = Convention.of(
        [read_record(place / "member.txt") for place in places],
        chain=bytes.fromhex(REGTEST.first_block)[::-1],
        height_first=bitcoind.rpc("getblockcount") + 1,
        agreed=RULES | (rules or {}),
    )
    for place in places:
        convention.write(place / "committee.json")
    return nodes, convention


@dataclass
class Federated:
    """Pools that run."""

    bitcoind: object
    running: list
    client: httpx.Client

    def seat(self, number):
        """Returns what a pool tells of its seat in the federation."""
        status = self.client.get(f"http://{self.running[number].http}/api/v1/status")
        return status.json()["federation"]

    def seats(self):
        """Returns what each pool tells of its seat in the federation; no batch was void."""
        seats = [self.seat(number) for number in range(len(self.running))]
        for seat in seats:
            assert not seat["void_batches"], self.tell()
            assert not seat["batches_too_late"], self.tell()
        return seats

    def kill_and_start(self, number):
        """Kills a pool as a power cut would, and starts it again."""
        node = self.running[number].node
        self.running[number].process.kill()
        self.running[number] = node.launch()
        self.running[number].serve()

    def epochs(self):
        """Returns how many epochs each member has certified."""
        return [seat["node"]["epochs"]["certified"] for seat in self.seats()]

    def mine(self, count=1, seconds=300):
        """Mines blocks that pay nobody of them; each ends an epoch that all members certify."""
        for _ in range(count):
            wanted = min(self.epochs()) + 1
            self.bitcoind.mine()
            self.certified(wanted, seconds)

    def certified(self, epochs, seconds):
        """Waits until all members have certified so many epochs."""
        until(lambda: min(self.epochs()) >= epochs, lambda: f"an epoch; {self.tell()}", seconds)

    def mine_until(self, holds, what, blocks=40):
        """Mines block after block until something holds."""
        for _ in range(blocks):
            if holds():
                return
            self.mine()
        raise AssertionError(f"{what} did not come within {blocks} blocks; {self.tell()}")

    def end(self):
        for each in self.running:
            each.process.__exit__()

    def tell(self):
        return "\n".join(each.process.tail() for each in self.running)


@contextlib.contextmanager
def running(bitcoind, nodes):
    """Runs pools for the length of the context."""
    with contextlib.ExitStack() as stack:
        # Who asks again and again has no time to make a client for each question; a connection that
        # is kept might be closed by the other end while the next question is on its way.
        limits = httpx.Limits(max_keepalive_connections=0)
        client = stack.enter_context(httpx.Client(timeout=60, limits=limits))
        federation = Federated(bitcoind, [each.launch() for each in nodes], client)
        stack.callback(federation.end)
        for each in federation.running:
            each.serve()
        yield federation

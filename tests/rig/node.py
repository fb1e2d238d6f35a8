"""A Mining Service Provider in a directory of its own, started and ended at will."""

import contextlib
import json
import shutil

import httpx
import tomlkit

from .process import RADPOOL, Process, command_line, marked, radpool
from .wait import until

# What a load generator on one address needs: no limit of the pool is to be what stops it.
UNLIMITED = {
    "limits.connections_per_address_max": 100_000,
    "limits.handshakes_per_second_max": 100_000,
    "limits.handshakes_burst_max": 100_000,
    "limits.handshakes_per_second_per_address_max": 100_000,
    "limits.handshakes_burst_per_address_max": 100_000,
    "limits.submits_per_second_max": 1_000_000,
    "limits.submits_burst_max": 10_000_000,
}
# Shares that cost 16 hashes, and a ladder of one step: difficulty stays where it begins.
EASY_SHARES = {"mining.exponent_min": 4, "mining.exponent_max": 4}
# No share can be a block.
NO_BLOCKS = {"templates.block_zeros": 48}


class Node:
    """Is a directory that `radpool init msp` has made, with some settings changed."""

    def __init__(self, directory, settings):
        self.directory = directory
        self.config = directory / "msp.toml"
        radpool("init", "msp", "--dir", directory)
        self.change(settings)

    @classmethod
    def copy(cls, other, directory):
        """Copies a node that does not run, with its keys and all that it knows."""
        shutil.copytree(other.directory, directory, ignore=shutil.ignore_patterns("*.sock"))
        node = cls.__new__(cls)
        node.directory, node.config = directory, directory / "msp.toml"
        return node

    def change(self, settings):
        """Changes the configuration, for the next start."""
        if "mining.exponent_min" in settings:
            # The easiest share must be worth a unit of ecash at least.
            settings = {"ecash.unit_exponent": settings["mining.exponent_min"]} | settings
        document = tomlkit.parse(self.config.read_text())
        for name, value in settings.items():
            section, key = name.split(".")
            assert key in document[section], f"there is no setting {name}"
            document[section][key] = value
        self.config.write_text(tomlkit.dumps(document))

    @property
    def data(self):
        return self.directory / "data"

    @property
    def database(self):
        return self.data / "ledger.sqlite"

    def launch(self, env=None, stderr=None, http_port=0):
        """Starts the node without waiting for it."""
        command = [RADPOOL, "msp", "--dir", self.directory, "--json"]
        command += ["--sv2-listen", "127.0.0.1:0", "--http-listen", f"127.0.0.1:{http_port}"]
        return Running(self, Process(command, self.directory, "msp", env, stderr))

    @contextlib.contextmanager
    def running(self, env=None, stderr=None):
        """Runs the node for the length of the context; nothing of it is left behind."""
        running = self.launch(env, stderr)
        with running.process:
            running.serve()
            yield running

    def stderr(self):
        """Returns all that the node has ever written to stderr."""
        return (self.directory / "msp.err").read_text(errors="replace")

    def log(self):
        """Returns all log lines, as far as they are whole."""
        lines = []
        for line in self.stderr().splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return lines


class Running:
    """Is a node's process, from its start to its end."""

    def __init__(self, node, process):
        self.node = node
        self.process = process
        self.sv2 = self.http = self.authority_key = self.declarator = ""
        self.told = {}

    def serve(self, seconds=60.0):
        """Waits until the node serves, and takes its addresses."""
        told = self.told = self.process.message("serving", seconds)
        self.sv2, self.http = told["sv2"], told["http"]
        self.declarator = told["declarator"]
        self.authority_key = told["authority_public_key"]

    def get(self, path):
        """Gets a page of the HTTP interface."""
        return httpx.get(f"http://{self.http}{path}", timeout=60)

    def problems(self):
        """Returns what the health page complains of."""
        return self.get("/api/v1/health").json()["problems"]

    def metric(self, name):
        """Returns the value of a metric that has no labels; None when it is not there."""
        for line in self.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        return None

    def chain_pid(self):
        """Returns the process of the embedded chain, or None while there is none."""
        for pid in marked(self.process.mark):
            if "radpool_sv2.chain.child" in command_line(pid):
                return pid
        return None

    def chain(self, *words):
        """Drives the embedded chain: `chain("mine", 3)`."""
        return radpool("chain", *words, "--dir", self.node.directory)

    def leave(self, number, seconds=60.0):
        """Sends a signal and waits for the end; returns the exit status."""
        self.process.signal(number)
        return self.process.wait(seconds)

    def left_behind(self):
        """Returns the processes that have outlived the node."""
        return marked(self.process.mark)

    def is_gone(self):
        """Whether nothing of the node runs any more, its children included."""
        return self.process.is_gone()

    def wait_for_log(self, text, seconds=60.0):
        """Waits for a log line with this event text and returns it."""

        def look():
            return [line for line in self.node.log() if line.get("event") == text]

        return until(look, lambda: f"log line {text!r}; {self.process.tail()}", seconds)[-1]

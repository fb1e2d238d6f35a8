"""A job declarator client in a directory of its own, with pools, and a miner behind it."""

import contextlib
import json
import socket
import threading

import tomlkit

from .process import RADPOOL, Process, radpool
from .wait import until

HASH_RATE = 200_000


class Declarer:
    """Is a directory that `radpool init jdc` has made, with some settings changed."""

    def __init__(self, directory, pools=(), settings=None, chain_dir=None):
        self.directory = directory
        self.config = directory / "jdc.toml"
        words = [] if chain_dir is None else ["--chain-dir", chain_dir]
        radpool("init", "jdc", "--dir", directory, *words)
        document = tomlkit.parse(self.config.read_text())
        for name, value in (settings or {}).items():
            section, key = name.split(".")
            assert key in document[section], f"there is no setting {name}"
            document[section][key] = value
        text = tomlkit.dumps(document)
        for pool in pools:
            text += "\n[[pools]]\n"
            text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in pool.items())
        self.config.write_text(text)

    @contextlib.contextmanager
    def running(self, listen="127.0.0.1:0"):
        """Runs the client for the length of the context."""
        command = [RADPOOL, "jdc", "--dir", self.directory, "--json", "--sv2-listen", listen]
        with Process(command, self.directory, "jdc") as process:
            running = RunningDeclarer(self, process)
            running.serve()
            yield running


class RunningDeclarer:
    """Is a client's process."""

    def __init__(self, declarer, process):
        self.declarer = declarer
        self.process = process
        self.sv2 = self.authority_key = ""

    def serve(self):
        told = self.process.message("serving")
        self.sv2, self.authority_key = told["sv2"], told["authority_public_key"]

    @property
    def figures(self):
        """Returns the last figures that it has printed."""
        for line in reversed(self.process.lines()):
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if message.get("event") in {"stats", "stopped"}:
                    return message
        return None

    def pool(self, number=0):
        """Returns the figures of a pool of its list."""
        figures = self.figures
        return None if figures is None else figures["pools"][number]

    @property
    def notes(self):
        return [each["text"] for each in self.process.messages("note")]

    def mining_for(self, address, seconds=60.0):
        """Waits until it mines for a pool, or solo when that is None."""

        def look():
            figures = self.figures
            return figures is not None and figures["pool"] == address

        until(look, lambda: f"mining for {address}; {self.process.tail()}", seconds)

    def until(self, condition, what, seconds=60.0):
        """Waits until its figures are so."""

        def look():
            figures = self.figures
            return figures is not None and condition(figures)

        until(look, lambda: f"{what}; {self.process.tail()}", seconds)

    def miner(self, *, user="rig1", rate=HASH_RATE, name="miner"):
        """Starts a miner behind it."""
        command = [RADPOOL, "miner", "--connect", self.sv2, "--json", "--threads", "1"]
        command += ["--authority-key", self.authority_key, "--user", user]
        command += ["--hash-rate-limit", rate]
        return Process(command, self.declarer.directory, name)


class Relay:
    """Passes TCP connections on to an address until it is cut."""

    def __init__(self, address):
        self._target = address.rpartition(":")
        self._open = []
        self._is_up = True
        # Held while a connection is made: none is left behind by who ends them all.
        self._making = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Ends all connections and takes no more."""
        with self._making:
            self._is_up = False
            self._end()

    def mend(self, address=None):
        """Takes connections again, for another address perhaps."""
        with self._making:
            if address is not None:
                self._target = address.rpartition(":")
            self._is_up = True

    def close(self):
        # It would go on listening otherwise: the thread that waits for connections holds it too.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _end(self):
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                with self._making:
                    self._take(near)

    def _take(self, near):
        if not self._is_up:
            near.close()
            return
        try:
            far = socket.create_connection((self._target[0], int(self._target[2])))
        except OSError:
            near.close()
            return
        self._open += [near, far]
        for pair in ((near, far), (far, near)):
            threading.Thread(target=self._pass, args=pair, daemon=True).start()

    @staticmethod
    def _pass(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

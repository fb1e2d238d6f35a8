"""A template provider in a directory of its own, started and ended at will."""

import contextlib
import json

import tomlkit

from .bitcoind import free_ports
from .process import RADPOOL, Process, radpool


class ProviderNode:
    """Is a directory that `radpool init template-provider` has made, with some settings changed."""

    def __init__(self, directory, settings):
        self.directory = directory
        self.config = directory / "template-provider.toml"
        radpool("init", "template-provider", "--dir", directory)
        document = tomlkit.parse(self.config.read_text())
        for name, value in settings.items():
            section, key = name.split(".")
            assert key in document[section], f"there is no setting {name}"
            document[section][key] = value
        self.config.write_text(tomlkit.dumps(document))
        # The same in all runs, so that clients find it.
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self.authority_key = ""

    @contextlib.contextmanager
    def running(self):
        """Runs the provider for the length of the context; nothing of it is left behind."""
        command = [RADPOOL, "template-provider", "--dir", self.directory, "--json"]
        command += ["--listen", self.address]
        process = Process(command, self.directory, "provider")
        with process:
            told = process.message("serving")
            self.authority_key = told["authority_public_key"]
            yield process

    def log(self):
        """Returns all log lines, as far as they are whole."""
        lines = []
        for line in (self.directory / "provider.err").read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return lines

    def said(self, event):
        """Returns the log lines with this event text."""
        return [line for line in self.log() if line.get("event") == event]

    def chain(self, *words):
        """Drives the embedded chain: `chain("mine", 3)`."""
        return radpool("chain", *words, "--dir", self.directory)

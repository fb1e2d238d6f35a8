"""Clients that mine shares and keep their own file of what the pool has acknowledged."""

from .process import LOAD, Process

HASH_LEN = 32


class Load:
    """Is a `radpool-load` process; its shares are real."""

    def __init__(self, running, name, subcommand, *words, env=None, acknowledged=None, **options):
        assert LOAD.exists(), f"{LOAD} is missing: `make load` builds it"
        self.file = acknowledged
        command = [LOAD, subcommand, "--connect", running.sv2, "--key", running.authority_key]
        command += words
        for option, value in options.items():
            command += [f"--{option.replace('_', '-')}", value]
        if acknowledged is not None:
            command += ["--acknowledged", acknowledged]
        self.process = Process(command, running.node.directory, name, env)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.__exit__()

    def count(self):
        """Returns how many shares were acknowledged so far."""
        return self.file.stat().st_size // HASH_LEN if self.file.exists() else 0

    def hashes(self):
        """Returns their hashes, in internal byte order."""
        return read_hashes(self.file)


def read_hashes(file):
    """Reads a file of acknowledged shares; a last one that is cut off was never counted."""
    raw = file.read_bytes() if file.exists() else b""
    return [raw[at : at + HASH_LEN] for at in range(0, len(raw) - HASH_LEN + 1, HASH_LEN)]

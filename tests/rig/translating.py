"""A translator's process, and what it says."""

import contextlib
import json

import httpx

from .process import RADPOOL, Process
from .wait import until


class Translating:
    """Runs `radpool translator` for the length of the context.

    Args:
        directory: Where its output goes.
        pools: Address and authority key of each pool, best first.
        settings: Keys of the file that differ from their defaults, dotted.
        ecash: Whether shares earn ecash.
    """

    def __init__(self, directory, pools, settings=None, *, ecash=False):
        directory.mkdir(parents=True, exist_ok=True)
        sections = {"fallback": {"retry_s": 1, "retry_s_max": 2}}
        for name, value in (settings or {}).items():
            section, key = name.split(".")
            sections.setdefault(section, {})[key] = value
        text = ""
        for section, keys in sections.items():
            text += f"[{section}]\n"
            text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
        for address, key in pools:
            text += f'[[pools]]\naddress = "{address}"\nauthority_public_key = "{key}"\n'
            text += f"ecash = {json.dumps(ecash)}\n"
        self._config = directory / "translator.toml"
        self._config.write_text(text)
        self._directory = directory
        self.process = None
        self.sv1 = self.tls = self.http = ""

    def __enter__(self):
        command = [RADPOOL, "translator", "--config", self._config, "--json"]
        command += ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]
        self.process = Process(command, self._directory, "translator")
        try:
            told = self.process.message("serving")
        except BaseException:
            self.process.__exit__()
            raise
        self.sv1, self.tls, self.http = told["sv1"], told["sv1_tls"], told["http"]
        return self

    def __exit__(self, *_):
        self.process.__exit__()

    @property
    def figures(self):
        """Returns the last figures that it has printed."""
        for line in reversed(self.process.lines()):
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if message.get("event") in {"stats", "stopped"}:
                    return message
        return {}

    def until(self, condition, what, seconds=60):
        """Waits until its figures are so."""

        def look():
            figures = self.figures
            return bool(figures) and condition(figures)

        until(look, lambda: f"{what}; {self.process.tail()}", seconds)

    def mining_for(self, address):
        """Waits until it mines for a pool, or for none when that is None."""
        self.until(lambda figures: figures["pool"] == address, f"mining for {address}")

    def get(self, path):
        """Gets a page of its HTTP interface."""
        return httpx.get(f"http://{self.http}{path}", timeout=60)

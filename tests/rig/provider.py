"""Our template provider in a directory of its own."""

import tomlkit

from .process import RADPOOL, Process, radpool


class Provider:
    """Is a template provider, from `with` to its end; it has an address and a key then."""

    def __init__(self, directory, settings):
        self.directory = directory
        radpool("init", "template-provider", "--dir", directory)
        config = directory / "template-provider.toml"
        document = tomlkit.parse(config.read_text())
        for name, value in settings.items():
            section, key = name.split(".")
            assert key in document[section], f"there is no setting {name}"
            document[section][key] = value
        config.write_text(tomlkit.dumps(document))
        self.process = None
        self.address = self.authority_key = ""

    def __enter__(self):
        command = [RADPOOL, "template-provider", "--dir", self.directory]
        command += ["--listen", "127.0.0.1:0", "--json"]
        self.process = Process(command, self.directory, "provider").__enter__()
        told = self.process.message("serving")
        self.address, self.authority_key = told["tdp"], told["authority_public_key"]
        return self

    def __exit__(self, *error):
        self.process.__exit__(*error)

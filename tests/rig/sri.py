"""SRI's roles as published: their configurations, and processes that run them.

Programs come from $RADPOOL_SRI_DIR or .nodes/bin, which `make interop` fills.
"""

import os
import re
from pathlib import Path

import tomlkit

from .bitcoind import free_ports
from .process import ROOT, Process
from .wait import until

DIRECTORY = Path(os.environ.get("RADPOOL_SRI_DIR", ROOT / ".nodes" / "bin"))

# Keys of the listeners of SRI's roles, as in their own examples: nothing depends on them here.
AUTHORITY_KEY = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72"
AUTHORITY_SECRET = "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n"
# Whom SRI's pool pays, and what its client mines for when no pool is left.
SOLO_ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
# The script of that address.
SOLO_SCRIPT = "0014751e76e8199196d454941c45d1b3a323f1433bd6"


def program(name):
    found = DIRECTORY / name
    assert found.exists(), f"{found} is missing: `make interop` installs it"
    return found


class Role:
    """One of SRI's roles, from its configuration to its end."""

    def __init__(self, name, directory, settings, port):
        self.address = f"127.0.0.1:{port}"
        config = directory / f"{name}.toml"
        directory.mkdir(parents=True, exist_ok=True)
        config.write_text(tomlkit.dumps(settings))
        self.process = Process([program(name), "-c", config], directory, name, {"RUST_LOG": "info"})

    def __enter__(self):
        self.process.__enter__()
        return self

    def __exit__(self, *error):
        self.process.__exit__(*error)

    def said(self):
        """Returns all that it has printed."""
        return self.process.stdout.read_text(errors="replace")

    def heard(self, message):
        """Returns the codes of all messages of a kind that it has received."""
        return set(re.findall(rf"Received: {message}\(.*?error_code: ?=?([a-z-]+)", self.said()))

    def until_said(self, *words):
        """Waits until it has printed all of these."""

        def look():
            assert self.process.is_alive, self.process.tail()
            return all(word in self.said() for word in words)

        until(look, lambda: f"{words}; {self.process.tail()}", 120)


def provider(address, key):
    """Where templates come from: a template provider."""
    return {"Sv2Tp": {"address": address, "public_key": key}}


def core(node):
    """Where templates come from: a node of the rig with its socket where SRI looks for it."""
    return {
        "BitcoinCoreIpc": {
            "version": 31,
            "network": "regtest",
            "data_dir": str(node.data),
            "fee_threshold": 1,
            "min_interval": 1,
        }
    }


def pool(directory, templates, *, declarator=False, shares_per_minute=60.0):
    """SRI's pool, which gives up when no template is there within seconds.

    Args:
        directory: Where its files go.
        templates: Where its templates come from.
        declarator: Whether it has a job declarator server; the role's `declarator` is its address.
            It needs `core` templates, since it asks the node for verdicts itself.
        shares_per_minute: How hard shares are.
    """
    port, declarator_port = free_ports(2)
    settings = {
        "authority_public_key": AUTHORITY_KEY,
        "authority_secret_key": AUTHORITY_SECRET,
        "cert_validity_sec": 3_600,
        "listen_address": f"127.0.0.1:{port}",
        "coinbase_reward_script": f"addr({SOLO_ADDRESS})",
        "server_id": 1,
        "pool_signature": "SRI's pool",
        "shares_per_minute": shares_per_minute,
        "share_batch_size": 1,
        "supported_extensions": [],
        "required_extensions": [],
        "template_provider_type": templates,
    }
    if declarator:
        settings["jds"] = {"listen_address": f"127.0.0.1:{declarator_port}"}
    role = Role("pool_sv2", directory, settings, port)
    role.declarator = f"127.0.0.1:{declarator_port}"
    return role


def listens(address):
    """Whether somebody listens on a port of this machine, without connecting to it.

    SRI's pool does not bear clients that come and go at once.
    """
    port = int(address.rsplit(":", 1)[1])
    wanted = f"0100007F:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == wanted and fields[3] == "0A":
            return True
    return False


def job_declarator_client(directory, pool, templates, *, mode="FULLTEMPLATE", user="sri.jdc"):
    """SRI's job declarator client; `pool` is a running node of ours with a declarator."""
    (port,) = free_ports(1)
    pool_host, pool_port = pool.sv2.rsplit(":", 1)
    jds_host, jds_port = pool.declarator.rsplit(":", 1)
    settings = {
        "listening_address": f"127.0.0.1:{port}",
        "max_supported_version": 2,
        "min_supported_version": 2,
        "authority_public_key": AUTHORITY_KEY,
        "authority_secret_key": AUTHORITY_SECRET,
        "cert_validity_sec": 3600,
        "shares_per_minute": 12.0,
        "share_batch_size": 1,
        "mode": mode,
        "jdc_signature": "declared",
        "coinbase_reward_script": f"addr({SOLO_ADDRESS})",
        "supported_extensions": [],
        "required_extensions": [],
        "upstreams": [
            {
                "authority_pubkey": pool.authority_key,
                "pool_address": pool_host,
                "pool_port": int(pool_port),
                "jds_address": jds_host,
                "jds_port": int(jds_port),
                "user_identity": user,
            }
        ],
        "template_provider_type": templates,
    }
    return Role("jd_client_sv2", directory, settings, port)


def translator(
    directory, pool_address, authority_key, *, aggregates, vardiff=True, user="sri.translator"
):
    """SRI's translator, which lets SV1 miners mine on a pool or on a job declarator client."""
    (port,) = free_ports(1)
    host, pool_port = pool_address.rsplit(":", 1)
    settings = {
        "downstream_address": "127.0.0.1",
        "downstream_port": port,
        "max_supported_version": 2,
        "min_supported_version": 2,
        "downstream_extranonce2_size": 4,
        "verify_payout": False,
        "aggregate_channels": aggregates,
        "supported_extensions": [],
        "downstream_difficulty_config": {
            "min_individual_miner_hashrate": 50_000.0,
            "shares_per_minute": 60.0,
            "enable_vardiff": vardiff,
            "job_keepalive_interval_secs": 60,
        },
        "upstreams": [
            {
                "address": host,
                "port": int(pool_port),
                "authority_pubkey": authority_key,
                "user_identity": user,
            }
        ],
    }
    return Role("translator_sv2", directory, settings, port)


def mining_device(directory, address, key, *, user="sri.device"):
    """SRI's CPU miner on one core."""
    command = [program("mining_device"), "--address-pool", address, "--pubkey-pool", key]
    command += ["--id-user", user, "--id-device", "device", "--cores", "1"]
    return Process(command, directory, "device")

"""Puts the independent peer on the path of all tests, and the real node among their fixtures."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from rig.bitcoind import bitcoind, bitcoinds  # noqa: F401 - fixtures are found by their name

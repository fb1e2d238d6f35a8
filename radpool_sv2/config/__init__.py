"""Holds the configuration of each role: one TOML file, read into frozen dataclasses.

`MspConfig` and its sections describe every key once; `load` reads a file and refuses what it does
not understand, `render` writes the commented file. Defaults live here and nowhere else.
"""

from radpool_sv2.config.msp import MspConfig
from radpool_sv2.config.reader import load, loads
from radpool_sv2.config.setting import Endpoint
from radpool_sv2.config.writer import render

__all__ = ["Endpoint", "MspConfig", "load", "loads", "render"]

"""Pools that a miner for ecash is tried out against: honest ones, and each kind of cheat."""

"""Holds what a miner and an extension that carries its shares have to do with one another."""

"""Holds the CPU miner, which runs on threads of its own."""

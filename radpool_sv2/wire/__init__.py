"""Speaks Stratum V2 from Python: frames, messages, encrypted streams and listeners.

The engine speaks for itself, in Rust, where a message stands for a share; this package is for the
links whose messages are decisions: template distribution, job declaration, and a miner's side.
"""

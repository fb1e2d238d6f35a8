"""Lays out the messages of Stratum V2, one module for each of its protocols.

A message keeps its name of the specification, without the dot, and its fields keep theirs. Hashes
and targets are 32 bytes in internal byte order. `encode` gives a frame, `decode` reads a payload.
"""

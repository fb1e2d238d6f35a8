"""Runs a Mining Service Provider: a Stratum V2 pool whose books anyone can check."""

"""Stratum V2 protocol extensions of radpool-sv2."""

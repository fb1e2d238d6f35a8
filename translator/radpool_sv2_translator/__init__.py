"""Stratum V1 to V2 translator of radpool-sv2."""

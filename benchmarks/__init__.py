"""Measures the pool beside the floors that no pool can go below; `python -m benchmarks` runs it."""

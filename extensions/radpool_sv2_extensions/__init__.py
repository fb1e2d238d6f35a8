"""Holds the Stratum V2 protocol extensions of radpool-sv2, one package each.

`ecash` is one: shares become work tokens, work tokens become sats.

An extension implements `radpool_sv2.pool.extension.Extension` and registers a factory under the
entry point group `radpool_sv2.extensions` in the `pyproject.toml` of this distribution; the core
finds it there and imports nothing from here. `docs/guide/extension.md` shows how.
"""

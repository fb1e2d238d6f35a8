"""Speaks Stratum V2 from the published standards alone, to judge radpool-sv2 from outside.

Nothing here imports radpool_sv2, so an error on one side cannot hide behind the same error on the
other. Only ChaCha20-Poly1305 is foreign code (from `cryptography`). It is slow and not constant in
time: for tests only.
"""

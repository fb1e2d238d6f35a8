"""Holds the embedded chain: Bitcoin Core's consensus engine on regtest, in a process of its own.

`EmbeddedChain` is the supervisor in the pool's process, `ChainClient` talks to a running child by
its unix socket, `radpool_sv2.chain.child` is the child. `docs/reference/embedded-chain.md` tells
the messages, the files and the rules.
"""

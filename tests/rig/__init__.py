"""Runs radpool as its users do: real processes, real sockets, real files. For tests only."""

"""Plays the demo: chain, pool and four miners as real processes, and checks what they did."""

from radpool_sv2.demo.play import play

__all__ = ["play"]

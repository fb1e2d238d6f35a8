"""Talks to bitcoin nodes: JSON-RPC, ZeroMQ notices, health in plain words, and block templates."""

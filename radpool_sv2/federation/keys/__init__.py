"""Runs the generation of keys and the signing with them beside a member, over its store."""

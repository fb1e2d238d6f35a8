"""Holds the sources of block templates: one interface, and the embedded chain behind it."""

"""Certifies what the decided parts of the streams add up to."""

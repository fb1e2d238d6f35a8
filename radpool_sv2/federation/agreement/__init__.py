"""Decides once per epoch which parts of the streams count in it."""

"""Holds the job declarator client: own templates for pools that take them, and miners behind it."""

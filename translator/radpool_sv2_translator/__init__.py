"""Holds the translator: Stratum V1 devices on pools that speak Stratum V2."""

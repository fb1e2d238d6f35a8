"""Holds what a federation's blocks pay: the output, its ways out, and the payout."""

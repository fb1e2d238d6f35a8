"""Runs the machines of the federation by the hundred, in a world that is made of one number.

`python -m radpool_sv2.testing --seed N` runs one world again; `--seeds A..B` runs many.
"""

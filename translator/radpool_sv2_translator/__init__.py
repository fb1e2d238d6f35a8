"""Will hold the translator between Stratum V1 devices and a Stratum V2 pool.

There is nothing to run yet: devices that speak Stratum V1 alone cannot mine on the pool.
"""

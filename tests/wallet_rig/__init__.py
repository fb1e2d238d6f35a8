"""A mint in the test's own process, with real keys, and wallets that speak with it."""

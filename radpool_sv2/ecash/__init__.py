"""Is the mint: keysets, claims of shares, prices of settled epochs, redemption for sats."""

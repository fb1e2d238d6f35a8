"""Is the extension by which a miner owns its shares under a key and gets receipts for them."""

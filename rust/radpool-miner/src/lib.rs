//! A Stratum V2 mining client and CPU miner.

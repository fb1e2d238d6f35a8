//! The tokio shell around the machines: sockets, limits, hand-over, fan-out, solved blocks.

//! Load generators: shares, fan-out, idle connections and connect storms.

//! The mining protocol without IO: connections, channels, jobs, share validation, vardiff.

//! The Python module radpool_sv2._native: the only crate that knows PyO3.

//! Where the seeds of failures are kept, to be tried first from then on.

use proptest::test_runner::{FailurePersistence, FileFailurePersistence};

/// Keeps seeds in `path`, relative to the crate.
pub(crate) fn kept_in(path: &'static str) -> Option<Box<dyn FailurePersistence>> {
    Some(Box::new(FileFailurePersistence::Direct(path)))
}

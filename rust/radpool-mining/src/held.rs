//! Bytes of a client that wait in the pool, counted until they are dropped.

use core::{
    fmt,
    ops::Deref,
    sync::atomic::{AtomicUsize, Ordering},
};
use std::sync::Arc;

/// Bytes of a client that count against its connection's `extension_bytes_pending` while they exist.
pub struct HeldBytes {
    bytes: Box<[u8]>,
    held: Arc<AtomicUsize>,
}

impl HeldBytes {
    /// Copies `bytes` unless the connection then held more than `limit`.
    pub(crate) fn hold(bytes: &[u8], held: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let before = held.fetch_add(bytes.len(), Ordering::Relaxed);
        if before.saturating_add(bytes.len()) > limit {
            held.fetch_sub(bytes.len(), Ordering::Relaxed);
            return None;
        }
        Some(Self { bytes: bytes.into(), held: Arc::clone(held) })
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

impl Deref for HeldBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for HeldBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "HeldBytes({} bytes)", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_until_they_are_dropped() {
        let held = Arc::new(AtomicUsize::new(0));
        let first = HeldBytes::hold(&[1; 60], &held, 100).unwrap();
        assert!(HeldBytes::hold(&[2; 41], &held, 100).is_none());
        let second = HeldBytes::hold(&[2; 40], &held, 100).unwrap();
        assert_eq!((held.load(Ordering::Relaxed), &first[..1], second.len()), (100, &[1][..], 40));
        drop(first);
        assert_eq!(held.load(Ordering::Relaxed), 40);
        drop(second);
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }
}

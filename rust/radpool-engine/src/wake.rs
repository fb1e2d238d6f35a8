//! Wakes the one consumer through a file descriptor, once per drain.
//!
//! The consumer calls [`Wake::rearm`] and then takes what there is; a producer adds and then calls
//! [`Wake::wake`]. Whatever is added after the consumer took is therefore followed by a write, and
//! any number of additions in between cost one write together.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

/// An eventfd with a flag that spares writes nobody needs.
#[derive(Debug)]
pub(crate) struct Wake {
    file: File,
    armed: AtomicBool,
}

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes two integers and touches no memory of ours.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { file: File::from(owned), armed: AtomicBool::new(true) })
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Makes the descriptor readable unless it is so already.
    pub(crate) fn wake(&self) {
        if self.armed.swap(false, Ordering::SeqCst) {
            // An error could only be a counter at its end, and then the descriptor is readable.
            let _ = (&self.file).write(&1u64.to_ne_bytes());
        }
    }

    /// Makes the descriptor unreadable; to be called before the consumer looks.
    pub(crate) fn rearm(&self) {
        let mut count = [0; 8];
        // Nothing to read means that the consumer came without having been woken.
        let _ = (&self.file).read(&mut count);
        // Sequentially consistent: the consumer must look only once the flag is up.
        self.armed.swap(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_readable(wake: &Wake) -> bool {
        let mut poll = libc::pollfd { fd: wake.descriptor(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd is passed with a count of one.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    #[test]
    fn many_wakes_are_one_until_rearmed() {
        let wake = Wake::new().unwrap();
        assert!(!is_readable(&wake));
        for _ in 0..3 {
            wake.wake();
            assert!(is_readable(&wake));
        }
        wake.rearm();
        assert!(!is_readable(&wake));
        wake.rearm();
        wake.wake();
        assert!(is_readable(&wake));
    }
}

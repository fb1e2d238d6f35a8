//! What the translator tells its owner, through one file descriptor.

use std::{io, net::SocketAddr, os::fd::RawFd};

use parking_lot::Mutex;
use radpool_miner::Ended;
use radpool_sv1::DeviceClose;

use crate::wake::Wake;

/// Events of devices that wait; more are counted and dropped: they are for people.
const DEVICE_EVENTS_MAX: usize = 10_000;

/// Something that its owner decides on or shows.
#[derive(Debug)]
pub enum TranslatorEvent {
    /// A pool works: it has given a job.
    UpstreamReady { upstream: u64, extranonce_size: Option<u16> },
    /// The connection to a pool is over.
    UpstreamEnded { upstream: u64, ended: Ended },
    /// A device is subscribed and authorized.
    DeviceJoined { device: u64, address: SocketAddr, user: String },
    /// A device that had joined is gone.
    DeviceLeft { device: u64, reason: DeviceClose },
    /// A pool opens no channel for a device, or has closed it.
    ChannelRefused { device: u64, upstream: u64, code: String },
    /// There is no encrypted connection with a device that came for one.
    TlsFailed { address: SocketAddr, reason: String },
    /// So many events of devices were dropped.
    Dropped { count: u64 },
}

#[derive(Debug)]
pub(super) struct Events {
    state: Mutex<State>,
    wake: Wake,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<TranslatorEvent>,
    of_devices: usize,
    dropped: u64,
    stopped: bool,
}

impl Events {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { state: Mutex::default(), wake: Wake::new()? })
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.wake.descriptor()
    }

    /// Tells of a pool.
    pub(super) fn push(&self, event: TranslatorEvent) {
        self.state.lock().events.push(event);
        self.wake.wake();
    }

    /// Tells of a device, if there is room.
    pub(super) fn push_device(&self, event: TranslatorEvent) {
        let mut state = self.state.lock();
        if state.of_devices >= DEVICE_EVENTS_MAX {
            state.dropped += 1;
        } else {
            state.of_devices += 1;
            state.events.push(event);
        }
        drop(state);
        self.wake.wake();
    }

    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.wake.wake();
    }

    /// Takes what there is, and says whether nothing will ever follow.
    pub(super) fn drain(&self) -> (Vec<TranslatorEvent>, bool) {
        self.wake.rearm();
        let mut state = self.state.lock();
        let mut events = core::mem::take(&mut state.events);
        let dropped = core::mem::take(&mut state.dropped);
        state.of_devices = 0;
        if dropped > 0 {
            events.push(TranslatorEvent::Dropped { count: dropped });
        }
        let stopped = state.stopped;
        drop(state);
        if stopped {
            self.wake.wake();
        }
        (events, stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_devices_is_counted_and_pools_are_told_all_the_same() {
        let events = Events::new().unwrap();
        let left = || TranslatorEvent::DeviceLeft { device: 1, reason: DeviceClose::PeerClosed };
        (0..DEVICE_EVENTS_MAX + 5).for_each(|_| events.push_device(left()));
        events.push(TranslatorEvent::UpstreamReady { upstream: 1, extranonce_size: None });
        let (told, stopped) = events.drain();
        assert_eq!((told.len(), stopped), (DEVICE_EVENTS_MAX + 2, false));
        assert!(matches!(told.last(), Some(TranslatorEvent::Dropped { count: 5 })));
        events.stop();
        assert!(events.drain().1 && events.drain().1);
    }
}

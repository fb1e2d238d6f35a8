//! The connections that are past the handshake, by id.

use std::{sync::Arc, time::Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use radpool_mining::ConnectionId;

use crate::mailbox::Mailbox;

/// Gives each connection a slot and a generation; together they name it, and never another one.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    slots: RwLock<Slots>,
    open: Mutex<usize>,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Slots {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    mailbox: Option<Arc<Mailbox>>,
}

impl Registry {
    /// Takes a slot; dropping the seat gives it back.
    pub(crate) fn seat(self: &Arc<Self>) -> Seat {
        *self.open.lock() += 1;
        let mut slots = self.slots.write();
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.entries.push(Entry { generation: 0, mailbox: None });
            u32::try_from(slots.entries.len() - 1).expect("there are fewer sockets than 2^32")
        });
        let entry = &mut slots.entries[slot as usize];
        let connection = u64::from(slot) | u64::from(entry.generation) << 32;
        let mailbox = Arc::new(Mailbox::new(connection));
        entry.mailbox = Some(Arc::clone(&mailbox));
        Seat { registry: Arc::clone(self), slot, mailbox }
    }

    pub(crate) fn find(&self, connection: ConnectionId) -> Option<Arc<Mailbox>> {
        let slots = self.slots.read();
        slots.find(connection).cloned()
    }

    /// Looks several up under one lock, each with what is meant for it; passes over those gone.
    pub(crate) fn for_each_found<T>(
        &self,
        wanted: impl IntoIterator<Item = (ConnectionId, T)>,
        mut act: impl FnMut(&Mailbox, T),
    ) {
        let slots = self.slots.read();
        for (connection, item) in wanted {
            if let Some(mailbox) = slots.find(connection) {
                act(mailbox, item);
            }
        }
    }

    /// Wakes all connections, to look at what concerns them all.
    pub(crate) fn wake_all(&self) {
        let slots = self.slots.read();
        slots
            .entries
            .iter()
            .filter_map(|entry| entry.mailbox.as_ref())
            .for_each(|mail| mail.wake());
    }

    pub(crate) fn len(&self) -> usize {
        *self.open.lock()
    }

    /// Waits until no connection is left, and returns whether that was in time.
    pub(crate) fn wait_empty(&self, deadline: Instant) -> bool {
        let mut open = self.open.lock();
        while *open > 0 {
            if self.emptied.wait_until(&mut open, deadline).timed_out() {
                return *open == 0;
            }
        }
        true
    }
}

impl Slots {
    fn find(&self, connection: ConnectionId) -> Option<&Arc<Mailbox>> {
        let entry = self.entries.get((connection & 0xffff_ffff) as usize)?;
        let mailbox = entry.mailbox.as_ref()?;
        (mailbox.connection == connection).then_some(mailbox)
    }
}

/// A connection's place in the registry.
#[derive(Debug)]
pub(crate) struct Seat {
    registry: Arc<Registry>,
    slot: u32,
    pub(crate) mailbox: Arc<Mailbox>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut slots = self.registry.slots.write();
        let entry = &mut slots.entries[self.slot as usize];
        entry.mailbox = None;
        // A slot whose generations are used up stays empty: an id must never return.
        if let Some(generation) = entry.generation.checked_add(1) {
            entry.generation = generation;
            slots.free.push(self.slot);
        }
        drop(slots);
        let mut open = self.registry.open.lock();
        *open -= 1;
        if *open == 0 {
            self.registry.emptied.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_never_return_although_slots_do() {
        let registry = Arc::new(Registry::default());
        let first = registry.seat();
        let second = registry.seat();
        let (a, b) = (first.mailbox.connection, second.mailbox.connection);
        assert_eq!((a, b), (0, 1));
        drop(first);
        assert!(registry.find(a).is_none());
        let third = registry.seat();
        assert_eq!(third.mailbox.connection, 1 << 32);
        assert!(registry.find(a).is_none());
        assert!(registry.find(1 << 32).is_some());
        assert!(registry.find(99).is_none());
        assert_eq!(registry.len(), 2);
    }

    #[test]
    fn waiting_ends_with_the_last_connection_or_the_deadline() {
        let registry = Arc::new(Registry::default());
        assert!(registry.wait_empty(Instant::now()));
        let seat = registry.seat();
        assert!(!registry.wait_empty(Instant::now() + Duration::from_millis(5)));
        let waiter = {
            let registry = Arc::clone(&registry);
            std::thread::spawn(move || registry.wait_empty(Instant::now() + Duration::from_secs(5)))
        };
        drop(seat);
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn a_slot_without_generations_is_retired() {
        let registry = Arc::new(Registry::default());
        drop(registry.seat());
        registry.slots.write().entries[0].generation = u32::MAX;
        let last = registry.seat();
        assert_eq!(last.mailbox.connection >> 32, u64::from(u32::MAX));
        drop(last);
        assert_eq!(registry.seat().mailbox.connection, 1);
    }
}

//! Keeps the client's own record of what the pool has acknowledged, for whoever checks afterwards that
//! none of it is missing.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::Write,
    sync::Arc,
};

use parking_lot::Mutex;
use radpool_units::Hash256;

/// A file of header hashes, 32 bytes each in internal order, that all connections append to.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    path: Arc<str>,
    file: Arc<Mutex<File>>,
}

impl Journal {
    pub(crate) fn open(path: &str) -> Result<Self, String> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|error| format!("--acknowledged {path}: {error}"))?;
        Ok(Self { path: path.into(), file: Arc::new(Mutex::new(file)) })
    }

    fn append(&self, hashes: &[u8]) -> Result<(), String> {
        // One write: this process may be killed too, and then its file ends with a whole hash.
        self.file.lock().write_all(hashes).map_err(|error| format!("{}: {error}", self.path))
    }
}

/// The shares of one connection that wait for an answer, with their hashes.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    journal: Journal,
    waiting: VecDeque<(u32, Hash256)>,
}

impl Acknowledged {
    pub(crate) fn new(journal: Journal) -> Self {
        Self { journal, waiting: VecDeque::new() }
    }

    pub(crate) fn send(&mut self, sequence: u32, hash: Hash256) {
        self.waiting.push_back((sequence, hash));
    }

    /// Writes down the oldest `count` shares.
    pub(crate) fn accept(&mut self, count: u32) -> Result<(), String> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.waiting.len());
        let hashes: Vec<u8> = self.waiting.drain(..count).flat_map(|(_, hash)| hash.0).collect();
        self.journal.append(&hashes)
    }

    /// Strikes out a share.
    ///
    /// A rejection behind the count that passes it would make the file name the wrong share: this
    /// pool sends it before.
    pub(crate) fn reject(&mut self, sequence: u32) -> Result<(), String> {
        let waits = self.waiting.iter().position(|(waiting, _)| *waiting == sequence);
        let place = waits.ok_or(format!("share {sequence} was acknowledged, then rejected"))?;
        self.waiting.remove(place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_what_was_counted_and_not_rejected() {
        let path = std::env::temp_dir().join(format!("radpool-load-{}", std::process::id()));
        let journal = Journal::open(path.to_str().unwrap()).unwrap();
        let mut acknowledged = Acknowledged::new(journal);
        for sequence in 0..4 {
            acknowledged.send(sequence, Hash256([sequence as u8; 32]));
        }
        acknowledged.reject(1).unwrap();
        acknowledged.accept(2).unwrap();
        assert!(acknowledged.reject(2).unwrap_err().contains("share 2"));
        let written = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(written, [[0; 32], [2; 32]].concat());
    }
}

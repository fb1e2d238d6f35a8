//! Parsing and hashing many transactions on all processors.

use std::{num::NonZero, thread};

use thiserror::Error;

use crate::transaction::{Transaction, TransactionError};

/// Below this a thread costs more than it saves: some 50 us against 0.2 ms of hashing.
const BYTES_PER_THREAD_MIN: usize = 256 * 1024;
/// More threads than this never pay for one block's bytes.
const THREADS_MAX: usize = 8;

/// One of several transactions is none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("transaction {index}: {error}")]
pub struct BatchError {
    /// Its place among those given.
    pub index: usize,
    /// What is wrong with it.
    pub error: TransactionError,
}

/// Parses transactions, in order.
///
/// # Errors
/// `BatchError` about the first that is not exactly one transaction.
pub fn parse_all<T: AsRef<[u8]> + Sync>(raws: &[T]) -> Result<Vec<Transaction>, BatchError> {
    let bytes: usize = raws.iter().map(|raw| raw.as_ref().len()).sum();
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
    let share = bytes.div_ceil(threads).max(BYTES_PER_THREAD_MIN);
    let pieces = split(raws, share);
    if let [only] = pieces[..] {
        return parse_piece(only, 0);
    }
    let parsed = thread::scope(|scope| {
        let mut first = 0;
        let running: Vec<_> = pieces
            .into_iter()
            .map(|piece| {
                let from = first;
                first += piece.len();
                scope.spawn(move || parse_piece(piece, from))
            })
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("parsing does not panic"))
            .collect::<Result<Vec<_>, _>>()
    })?;
    Ok(parsed.into_iter().flatten().collect())
}

/// Cuts a list into pieces of about `share` bytes; there is always one.
fn split<T: AsRef<[u8]>>(raws: &[T], share: usize) -> Vec<&[T]> {
    let mut pieces = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, raw) in raws.iter().enumerate() {
        bytes += raw.as_ref().len();
        if bytes >= share {
            pieces.push(&raws[start..=index]);
            (start, bytes) = (index + 1, 0);
        }
    }
    if start < raws.len() || pieces.is_empty() {
        pieces.push(&raws[start..]);
    }
    pieces
}

fn parse_piece<T: AsRef<[u8]>>(piece: &[T], first: usize) -> Result<Vec<Transaction>, BatchError> {
    let numbered = piece.iter().enumerate();
    numbered
        .map(|(index, raw)| {
            Transaction::parse(raw.as_ref())
                .map_err(|error| BatchError { index: first + index, error })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_list_in_order() {
        let raws: Vec<Vec<u8>> = (0..20).map(|len| vec![0; len * 10]).collect();
        for share in [1, 100, 450, 10_000] {
            let pieces = split(&raws, share);
            assert_eq!(pieces.concat(), raws, "{share}");
            assert!(pieces.iter().all(|piece| !piece.is_empty()), "{share}");
        }
        assert_eq!(split::<Vec<u8>>(&[], 5).len(), 1);
    }

    #[test]
    fn the_first_bad_one_of_all_pieces_is_named() {
        let good = hex::decode("01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff00ffffffff01000000000000000000ffffffff").unwrap();
        let mut raws = vec![good; 40_000];
        raws[31_000].pop();
        raws[39_000].push(0);
        let error = parse_all(&raws).unwrap_err();
        assert_eq!((error.index, error.error), (31_000, TransactionError::Truncated));
        assert_eq!(error.to_string(), "transaction 31000: the bytes end inside a field");
        raws.truncate(31_000);
        assert_eq!(parse_all(&raws).unwrap().len(), 31_000);
    }
}

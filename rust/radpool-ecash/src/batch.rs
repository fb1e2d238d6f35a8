//! Work on many items at once, over the cores of the machine.

use std::{num::NonZero, thread};

/// Fewest items that are worth a thread of their own: starting one costs about what a signature
/// does.
const ITEMS_PER_THREAD_MIN: usize = 16;

/// Applies `work` to each item, on as many threads as the machine has cores and the items are
/// worth; the results are in the order of the items.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(items.len() / ITEMS_PER_THREAD_MIN).max(1);
    if threads == 1 {
        return items.iter().map(work).collect();
    }
    let (work, share) = (&work, items.len().div_ceil(threads));
    thread::scope(|scope| {
        let mut shares = items.chunks(share);
        let mine = shares.next().unwrap_or_default();
        let others: Vec<_> = shares
            .map(|share| scope.spawn(move || share.iter().map(work).collect::<Vec<R>>()))
            .collect();
        let mut results: Vec<R> = mine.iter().map(work).collect();
        results.reserve_exact(items.len() - results.len());
        for other in others {
            results.extend(other.join().expect("the work on an item does not panic"));
        }
        results
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        for count in [0, 1, 15, 16, 31, 32, 33, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let doubled: Vec<usize> = items.iter().map(|item| 2 * item).collect();
            assert_eq!(in_parallel(&items, |item| 2 * item), doubled);
        }
    }
}

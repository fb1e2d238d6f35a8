//! Blind signatures per second, beside the multiplications that nobody can do without.
//!
//! A signature is one multiplication of the blinded message by a secret, in constant time. Its proof
//! takes another one, and one of the generator. The floor is these alone, by the same library, in the
//! same run: what is above it are hashes, additions and the change between forms of points.

use std::{hint::black_box, num::NonZero, thread, time::Instant};

use radpool_ecash::{AmountKey, Point, Scalar, hash_to_curve, in_parallel};
use secp256k1::{PublicKey, SECP256K1, SecretKey, ecdh::shared_secret_point};
use serde_json::json;

use crate::{arguments::Arguments, report};

/// A blinded message in both forms: ours, and the library's.
struct Message {
    blinded: Point,
    bare: PublicKey,
}

/// What is measured: its name, and the work on one message.
type Measure<'a> = (&'static str, &'a (dyn Fn(&Message) + Sync));

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let count: u32 = arguments.take("count", 4_000)?;
    let rounds: usize = arguments.take("rounds", 3)?;
    arguments.end()?;
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let secret = [0x5a; 32];
    let key = AmountKey::new(Scalar::from_be_bytes(&secret).map_err(|error| text(&error))?);
    let bare_key = SecretKey::from_slice(&secret).map_err(|error| text(&error))?;
    let messages: Vec<_> = (0..count)
        .map(|number| {
            let blinded = hash_to_curve(&number.to_be_bytes());
            let bare = PublicKey::from_slice(&blinded.to_bytes()).map_err(|error| text(&error))?;
            Ok(Message { blinded, bare })
        })
        .collect::<Result<_, String>>()?;
    let measures: [Measure<'_>; 4] = [
        ("signature", &|message| {
            black_box(key.sign_unproved(&message.blinded));
        }),
        ("signature floor", &|message| {
            black_box(shared_secret_point(&message.bare, &bare_key));
        }),
        ("signature with proof", &|message| {
            black_box(key.sign(&message.blinded));
        }),
        ("signature with proof floor", &|message| {
            black_box(shared_secret_point(&message.bare, &bare_key));
            black_box(shared_secret_point(&message.bare, &bare_key));
            black_box(PublicKey::from_secret_key(SECP256K1, &bare_key));
        }),
    ];
    let all = thread::available_parallelism().map_or(1, NonZero::get);
    for cores in [1, all] {
        let rates = measure(&messages, &measures, cores, rounds.max(1));
        for ((what, _), per_second) in measures.iter().zip(&rates) {
            report::line(&json!({
                "event": "signatures", "what": what, "cores": cores, "per_second": per_second,
            }));
        }
        for (what, pair) in [("signature", &rates[..2]), ("signature with proof", &rates[2..])] {
            report::line(&json!({
                "event": "signatures", "what": what, "cores": cores,
                "percent_of_floor": 100 * pair[0] / pair[1].max(1),
            }));
        }
    }
    Ok(())
}

/// Returns the best rate of each over some rounds, in each of which all have their turn: what else
/// the machine does meets them alike.
fn measure(
    messages: &[Message],
    measures: &[Measure<'_>],
    cores: usize,
    rounds: usize,
) -> Vec<u128> {
    let mut rates = vec![0; measures.len()];
    for _ in 0..rounds {
        for (best, (_, work)) in rates.iter_mut().zip(measures) {
            let started = Instant::now();
            if cores == 1 {
                messages.iter().for_each(work);
            } else {
                in_parallel(messages, work);
            }
            let nanoseconds = started.elapsed().as_nanos().max(1);
            *best = (messages.len() as u128 * 1_000_000_000 / nanoseconds).max(*best);
        }
    }
    rates
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn each_message_is_worked_on_once_a_round() {
        let blinded = hash_to_curve(b"");
        let bare = PublicKey::from_slice(&blinded.to_bytes()).unwrap();
        let messages: Vec<_> = (0..100).map(|_| Message { blinded, bare }).collect();
        for cores in [1, 2] {
            let count = AtomicUsize::new(0);
            let work = |_: &Message| {
                count.fetch_add(1, Ordering::Relaxed);
            };
            let rates = measure(&messages, &[("counted", &work)], cores, 3);
            assert_eq!(count.into_inner(), 300);
            assert!(rates[0] > 0);
        }
    }
}

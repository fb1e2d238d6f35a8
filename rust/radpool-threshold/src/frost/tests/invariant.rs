//! Whatever a pool is asked for, in whatever order: no nonce is behind two shares.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use proptest::prelude::*;

use super::rig::*;
use crate::frost::{Commitment, KeyShare, NonceError, NoncePool, Purpose, Session};

static SHARES: LazyLock<Vec<Arc<KeyShare>>> = LazyLock::new(|| key(2, 2, Purpose::Checkpoint));

#[derive(Clone, Debug)]
enum Step {
    Commit(usize),
    /// Sign with a commitment that was once made, of whatever boot.
    Sign {
        own: prop::sample::Index,
        other: usize,
        number: u64,
        message: u8,
    },
    Burn(u64),
    Wipe,
    /// Start anew with a higher boot counter, as after a crash.
    Restart,
    /// Start anew with the same counter, as nobody may.
    Clone,
}

fn step() -> impl Strategy<Value = Step> {
    let sign = (any::<prop::sample::Index>(), 0..2_usize, 0..3_u64, 0..2_u8)
        .prop_map(|(own, other, number, message)| Step::Sign { own, other, number, message });
    prop_oneof![
        3 => (1..4_usize).prop_map(Step::Commit),
        12 => sign,
        1 => (0..8_u64).prop_map(Step::Burn),
        1 => Just(Step::Wipe),
        1 => Just(Step::Restart),
        1 => Just(Step::Clone),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_nonce_is_behind_two_shares(steps in prop::collection::vec(step(), 1..40)) {
        let mut random = rng(5);
        let mut boot = 1;
        let mut pool = NoncePool::new(Arc::clone(&SHARES[0]), boot);
        let others = pools(&SHARES[1..], 2).1.remove(0);
        let mut made: Vec<Commitment> = Vec::new();
        let mut given: BTreeMap<[u8; 82], [u8; 64]> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Commit(count) => made.extend(pool.commit(count, &mut random).unwrap()),
                Step::Burn(slot) => pool.burn(&[slot]),
                Step::Wipe => pool.wipe(),
                Step::Restart | Step::Clone => {
                    boot += u64::from(matches!(step, Step::Restart));
                    pool = NoncePool::new(Arc::clone(&SHARES[0]), boot);
                }
                Step::Sign { own, other, number, message } => {
                    if made.is_empty() {
                        continue;
                    }
                    let own = *own.get(&made);
                    let signers = [(0, own), (1, others[other])];
                    let public = Arc::clone(SHARES[0].public());
                    let session =
                        Session::new(public, [message; 32], None, number, &signers).unwrap();
                    let before = pool.unspent();
                    match pool.sign(&session) {
                        Ok(share) => {
                            session.verify_share(0, &share).unwrap();
                            let first = given.entry(own.encode()).or_insert(share);
                            prop_assert_eq!(*first, share);
                            prop_assert!(before - pool.unspent() <= 1);
                        }
                        Err(error) => {
                            prop_assert!(!matches!(error, NonceError::Library(_)), "{error}");
                            prop_assert_eq!(pool.unspent(), before);
                        }
                    }
                }
            }
        }
    }
}

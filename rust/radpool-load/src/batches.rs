//! Writes signed batches of shares, as a member's pool seals them, for benchmarks of what receives
//! them.
//!
//! Everything but the work is as in life: coinbases with owner tags, merkle paths, extranonces that
//! all differ, prices, sums, roots, signatures. The exponent is 0, which any hash meets, so that
//! nothing need be mined; verifying a share costs the same at any exponent.
//!
//! The file holds one item behind the other: kind (1: batch, 10: template body), length in four
//! bytes, bytes. The body of a height comes before its batches.

use std::{
    fs::File,
    io::{BufWriter, Write},
};

use radpool_identity::IdentityKey;
use radpool_ledger::{Link, Owner, Rail, ShareView, TemplateBody, Weight, seal};
use radpool_units::{Exponent, Hash256, merkle_root_from_path, sha256d};
use serde_json::json;

use crate::{arguments::Arguments, report};

const BATCH: u8 = 1;
const BODY: u8 = 10;
const VERSION: u32 = 0x2000_0000;
const NTIME: u32 = 1_700_000_000;
/// Regtest's: a block takes two hashes.
const NBITS: u32 = 0x207f_ffff;
const REWARD_SATS: u64 = 5_000_000_000;
const SCALE: u8 = 32;
const EXTRANONCE_LEN: usize = 12;

/// What is to be written.
struct Plan {
    secret: [u8; 32],
    script: Vec<u8>,
    first: u32,
    heights: u32,
    batches: u64,
    shares: u64,
    owners: u64,
    path: u8,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let secret: String = arguments.take_optional("secret")?.ok_or("--secret HEX is needed")?;
    let secret = hex::decode(secret).map_err(text)?;
    let script: String = arguments.take("script", format!("0014{}", "33".repeat(20)))?;
    let out: String = arguments.take_optional("out")?.ok_or("--out FILE is needed")?;
    let plan = Plan {
        secret: secret.try_into().map_err(|_| "--secret: 32 bytes")?,
        script: hex::decode(script).map_err(text)?,
        first: arguments.take("first", 101)?,
        heights: arguments.take("heights", 1)?,
        batches: arguments.take("batches", 10)?,
        shares: arguments.take("shares", 1_000)?,
        owners: arguments.take("owners", 100)?,
        path: arguments.take("path", 12)?,
    };
    arguments.end()?;
    let file = File::create(&out).map_err(|error| format!("{out}: {error}"))?;
    let mut file = BufWriter::new(file);
    let bytes = write(&plan, &mut file)?;
    file.flush().map_err(text)?;
    report::line(&json!({
        "event": "batches", "shares": u64::from(plan.heights) * plan.batches * plan.shares,
        "bytes": bytes,
    }));
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Writes all heights; returns the bytes of all batches.
fn write(plan: &Plan, out: &mut impl Write) -> Result<usize, String> {
    let key = IdentityKey::from_secret(&plan.secret).map_err(text)?;
    let weight = Weight::new(1, SCALE, 0).map_err(text)?;
    let price = (u128::from(REWARD_SATS) << SCALE) / 2;
    let owners: Vec<_> = (0..plan.owners.max(1))
        .map(|number| Owner {
            msp_key: *key.public(),
            commitment: *sha256d(&number.to_le_bytes()).as_bytes(),
            epoch: 1,
            rail: Rail::Account,
        })
        .collect();
    let exponent = Exponent::new(0).map_err(text)?;
    let outputs: Vec<_> = owners.iter().map(|owner| owner.tag(exponent).to_output()).collect();
    let mut link =
        Link { sequence: 0, previous: [0; 32], time_ms: 1_700_000_000_000, epoch_min: 0 };
    let (mut count, mut bytes) = (0_u64, 0);
    for height in plan.first..plan.first + plan.heights {
        let body = template(plan, height)?;
        item(out, BODY, &body.encode().map_err(text)?)?;
        for _ in 0..plan.batches {
            let mut mined = Vec::new();
            for _ in 0..plan.shares {
                count += 1;
                // Neighbours have the same owner, as shares of one connection have.
                let owner = (count / 10 % plan.owners.max(1)) as usize;
                let mut extranonce = [0; EXTRANONCE_LEN];
                extranonce[..8].copy_from_slice(&count.to_le_bytes());
                let hash = hash(&body, &extranonce, &outputs[owner], count as u32);
                mined.push((owner, extranonce, count as u32, hash));
            }
            let views = mined.iter().map(|(owner, extranonce, nonce, hash)| ShareView {
                connection: *owner as u64,
                channel: 1,
                account: *owner as u64,
                owner: &owners[*owner],
                body: &body,
                price,
                exponent,
                version: VERSION,
                ntime: NTIME,
                nonce: *nonce,
                extranonce,
                hash,
            });
            let sealed = seal(&key, link, weight, views, &[]).map_err(text)?;
            link = Link { sequence: link.sequence + 1, previous: sealed.hash, ..link };
            bytes += sealed.blob.len();
            item(out, BATCH, &sealed.blob)?;
        }
    }
    Ok(bytes)
}

fn item(out: &mut impl Write, kind: u8, data: &[u8]) -> Result<(), String> {
    let len = u32::try_from(data.len()).map_err(text)?;
    let written = out.write_all(&[kind]).and_then(|()| out.write_all(&len.to_le_bytes()));
    written.and_then(|()| out.write_all(data)).map_err(text)
}

fn hash(body: &TemplateBody, extranonce: &[u8], output: &[u8], nonce: u32) -> Hash256 {
    let coinbase = [
        &body.coinbase_prefix[..],
        extranonce,
        &body.coinbase_before_tag,
        output,
        &body.coinbase_after_tag,
    ]
    .concat();
    let root = merkle_root_from_path(sha256d(&coinbase), &body.merkle_path);
    let mut header = Vec::with_capacity(80);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&body.prev_hash);
    header.extend_from_slice(root.as_bytes());
    for field in [NTIME, body.nbits, nonce] {
        header.extend_from_slice(&field.to_le_bytes());
    }
    sha256d(&header)
}

/// Makes the template of a height; the block below it is named by its height alone.
fn template(plan: &Plan, height: u32) -> Result<TemplateBody, String> {
    let name = format!("block {}", height - 1);
    let mut push = height.to_le_bytes().to_vec();
    push.truncate(4 - (height.leading_zeros() as usize).saturating_sub(1) / 8);
    push.insert(0, push.len() as u8);
    push.extend_from_slice(b"\x09/radpool/");
    push.push(EXTRANONCE_LEN as u8);
    let mut prefix = b"\x02\0\0\0\x01".to_vec();
    prefix.extend_from_slice(&[0; 32]);
    prefix.extend_from_slice(&[0xff; 4]);
    prefix.push((push.len() + EXTRANONCE_LEN) as u8);
    prefix.extend_from_slice(&push);
    let mut before = b"\xff\xff\xff\xff\x03".to_vec();
    before.extend_from_slice(&REWARD_SATS.to_le_bytes());
    before.push(u8::try_from(plan.script.len()).map_err(text)?);
    before.extend_from_slice(&plan.script);
    // The witness commitment, and the lock time.
    let mut after = vec![0; 8];
    after.extend_from_slice(b"\x26\x6a\x24\xaa\x21\xa9\xed");
    after.extend_from_slice(&[0x44; 32]);
    after.extend_from_slice(&[0; 4]);
    Ok(TemplateBody {
        version: VERSION,
        prev_hash: *sha256d(name.as_bytes()).as_bytes(),
        nbits: NBITS,
        height,
        coinbase_prefix: prefix,
        coinbase_before_tag: before,
        coinbase_after_tag: after,
        merkle_path: (0..plan.path).map(|level| *sha256d(&[level]).as_bytes()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use radpool_ledger::verify_batch;

    use super::*;

    #[test]
    fn what_is_written_passes_the_verifier() {
        let plan = Plan {
            secret: [1; 32],
            script: vec![0x51; 34],
            first: 127,
            heights: 3,
            batches: 2,
            shares: 30,
            owners: 2,
            path: 3,
        };
        let mut file = Vec::new();
        let bytes = write(&plan, &mut file).unwrap();
        let (mut rest, mut bodies, mut batches) = (&file[..], HashMap::new(), Vec::new());
        while let Some((head, tail)) = rest.split_at_checked(5) {
            let len = u32::from_le_bytes(head[1..].try_into().unwrap()) as usize;
            let (data, tail) = tail.split_at(len);
            rest = tail;
            if head[0] == BODY {
                bodies.insert(TemplateBody::digest_of(data), data);
            } else {
                batches.push(data);
            }
        }
        assert_eq!((bodies.len(), batches.len()), (3, 6));
        assert_eq!(batches.iter().map(|blob| blob.len()).sum::<usize>(), bytes);
        for (sequence, blob) in (0..).zip(batches) {
            let verified = verify_batch(blob, |digest| bodies.get(digest).copied()).unwrap();
            assert_eq!(verified.batch.head.link.sequence, sequence);
            assert_eq!(verified.header_hashes.len(), 30);
        }
    }
}

//! Jobs for which another pool pays: what a declarator client serves to its miners.

use std::sync::Arc;

use radpool_mining::{Command, Settings, Template, WorkError};
use radpool_units::sha256d;
use radpool_wire::message::*;

use crate::{
    custom::{commitment_output, payout_output, tag_output},
    harness::*,
};

fn fixed(rollable: u8) -> Settings {
    Settings { rollable_fixed: Some(rollable), pool_text: vec![], ..settings() }
}

/// A template whose owner output and extranonce head are another pool's.
fn foreign(id: u64, owner_output: &[u8], head: &[u8]) -> Template {
    Template {
        owner_output: Some(Arc::from(owner_output)),
        extranonce_head: head.to_vec(),
        ..template(id)
    }
}

fn open(pool: &mut Pool, message: &Message<'_>) -> (Client, u32) {
    let mut client = pool.set_up(0);
    let (id, _) = client.open(message, owner(1));
    (client, id)
}

fn coinbase(client: &Client, share: &MinedShare) -> Vec<u8> {
    let JobKind::Coinbase { prefix, suffix, .. } = &client.jobs[&share.job].kind else { panic!() };
    [prefix, &client.channels[&share.channel].prefix[..], &share.extranonce, suffix].concat()
}

#[test]
fn the_owner_output_is_the_other_pools_and_shares_count_by_their_channel() {
    let tag = tag_output(owner(9), 44, z(20));
    let mut pool = Pool::idle(fixed(8));
    let first = foreign(1, &tag, &[0xee; 5]);
    pool.shared.publish_template(first, Some(tip(1, 1))).unwrap();
    let (mut client, id) = open(&mut pool, &open_extended(RATE_Z8, [0xff; 32], 8));
    let (other, _) = client.open(&open_extended(RATE_Z8 / 8.0, [0xff; 32], 8), owner(2));
    for (channel, exponent) in [(id, z(8)), (other, z(5))] {
        let mut share = client.draft(channel);
        client.grind(&mut share, exponent.get().into(), 257);
        assert_eq!(client.verdict(&share), None);
        let record = client.shares.last().unwrap();
        assert_eq!((record.exponent, record.extranonce_len), (exponent, 12));
        let coinbase = coinbase(&client, &share);
        // Version, one input, its outpoint, the script: height, one push of head and extranonce.
        let script = &coinbase[41..];
        assert_eq!(
            script[..1 + 3 + 1 + 5],
            [21, 0x02, 0x65, 0x01, 17, 0xee, 0xee, 0xee, 0xee, 0xee]
        );
        let outputs = [&[3][..], &template(1).pool_outputs, &tag, &template(1).template_outputs];
        let tail = [&outputs.concat()[..], &99u32.to_le_bytes()].concat();
        assert!(coinbase.ends_with(&tail), "the owner output is verbatim");
        let weak = {
            let mut weak = client.draft(channel);
            client.grind(&mut weak, 0, exponent.get().into());
            weak
        };
        assert_eq!(client.verdict(&weak).as_deref(), Some("difficulty-too-low"));
    }
}

#[test]
fn each_template_brings_its_own_owner_output_and_head() {
    let tags = [tag_output(owner(9), 44, z(20)), tag_output(owner(9), 45, z(21))];
    let mut pool = Pool::idle(fixed(8));
    pool.shared.publish_template(foreign(1, &tags[0], &[1; 4]), Some(tip(1, 1))).unwrap();
    let (mut client, id) = open(&mut pool, &open_extended(RATE_Z8, [0xff; 32], 0));
    let two = [payout_output(0), tags[1].clone()].concat();
    /// Owner output, head, outputs in all.
    type Case<'case> = (Option<&'case [u8]>, &'case [u8], u8);
    let cases: [Case<'_>; 6] = [
        (Some(&tags[1]), &[2; 20], 3),
        (Some(&[]), &[], 2),
        (Some(&two), &[3; 1], 4),
        // Without one it is the pool's own tag, also after another's.
        (None, &[], 3),
        (Some(&tags[0]), &[4; 63], 3),
        (None, &[5; 2], 3),
    ];
    for (at, (output, head, count)) in cases.into_iter().enumerate() {
        let number = at as u64 + 2;
        let next = Template {
            owner_output: output.map(Arc::from),
            extranonce_head: head.to_vec(),
            ..template(number)
        };
        pool.shared.publish_template(next, Some(tip(number, 1))).unwrap();
        assert_eq!(client.work().len(), 1);
        let mut share = client.draft(id);
        client.grind(&mut share, 8, 257);
        assert_eq!(client.verdict(&share), None);
        let own = tag_output(owner(1), 3, z(8));
        let coinbase = coinbase(&client, &share);
        let outputs = [
            &[count][..],
            &template(number).pool_outputs,
            output.unwrap_or(&own),
            &commitment(number),
        ];
        assert!(coinbase.ends_with(&[&outputs.concat()[..], &99u32.to_le_bytes()].concat()));
        assert_eq!(usize::from(coinbase[45]), head.len() + 12);
        assert_eq!(coinbase[46..46 + head.len()], *head);
    }
}

fn commitment(id: u64) -> Vec<u8> {
    let mut output = commitment_output();
    let at = output.len() - 32;
    output[at..].fill(id as u8);
    output
}

#[test]
fn a_move_on_the_ladder_weighs_later_jobs_by_the_new_step() {
    let mut pool = Pool::idle(fixed(8));
    pool.shared.publish_template(foreign(1, &[], &[]), Some(tip(1, 1))).unwrap();
    let (mut client, id) = open(&mut pool, &open_extended(RATE_Z8, [0xff; 32], 0));
    let mut before = client.draft(id);
    client.grind(&mut before, 8, 257);
    let replies = client.command(Command::SetExponent { channel: id, exponent: z(5) });
    assert_eq!(names(&replies), ["SetTarget", "NewExtendedMiningJob"]);
    let mut after = client.draft(id);
    client.grind(&mut after, 5, 257);
    assert_eq!([client.verdict(&before), client.verdict(&after)], [None, None]);
    assert_eq!([client.shares[0].exponent, client.shares[1].exponent], [z(8), z(5)]);
}

#[test]
fn every_channel_rolls_exactly_as_many_bytes_as_are_fixed() {
    let mut pool = Pool::idle(fixed(12));
    pool.shared.publish_template(foreign(1, &[], &[7; 8]), Some(tip(1, 1))).unwrap();
    for asked in [0, 8, 12] {
        let (client, id) = open(&mut pool, &open_extended(RATE_Z8, [0xff; 32], asked));
        assert_eq!(client.channels[&id].rollable, 12);
    }
    let mut client = pool.set_up(0);
    let replies = client.send(&open_extended(RATE_Z8, [0xff; 32], 13));
    let error_code = b"min-extranonce-size-too-large".to_vec();
    let error = OpenMiningChannelError { request_id: 77, error_code };
    assert_eq!(replies, [Message::OpenMiningChannelError(error)]);
    // A standard channel's extranonce is as long, and ends in zeros.
    let (mut client, id) = open(&mut pool, &open_standard(RATE_Z8, [0xff; 32]));
    let prefix = client.channels[&id].prefix.clone();
    assert_eq!((prefix.len(), &prefix[4..]), (16, &[0; 12][..]));
    let mut share = client.draft(id);
    client.grind(&mut share, 8, 257);
    assert_eq!(client.verdict(&share), None);
    let record = &client.shares[0];
    assert_eq!((record.extranonce_len, &record.extranonce[..16]), (16, &prefix[..]));
}

#[test]
fn a_block_leaves_with_the_head_in_its_coinbase_and_the_rest_beside() {
    let mut pool = Pool::idle(fixed(8));
    let easy = radpool_mining::Tip { target: z(8).target(), ..tip(1, 1) };
    pool.shared.publish_template(foreign(1, &[], &[6; 10]), Some(easy)).unwrap();
    let (mut client, id) = open(&mut pool, &open_extended(RATE_Z8, [0xff; 32], 0));
    let mut share = client.draft(id);
    client.grind(&mut share, 8, 257);
    assert_eq!(client.verdict(&share), None);
    let solution = client.out.solutions.pop().unwrap();
    let extranonce = [&client.channels[&id].prefix[..], &share.extranonce].concat();
    assert_eq!(solution.extranonce, extranonce);
    assert_eq!(sha256d(&solution.header), client.hash(&share));
    let whole = [&[22][..], &[6; 10], &extranonce].concat();
    assert!(solution.coinbase_tx.windows(whole.len()).any(|window| window == whole));
}

#[test]
fn lengths_that_make_no_coinbase_are_refused() {
    for rollable in [0, 29, 255] {
        let error = fixed(rollable).check().unwrap_err();
        assert!(error.to_string().starts_with("rollable_fixed ="), "{error}");
    }
    assert_eq!([fixed(1).check(), fixed(28).check()], [Ok(()), Ok(())]);
    let publish = |settings: Settings, template: Template| {
        Pool::idle(settings).shared.publish_template(template, Some(tip(1, 1)))
    };
    // One push holds 75 bytes: head, four of the pool, twelve of the miner.
    assert_eq!(publish(fixed(12), foreign(1, &[], &[0; 59])), Ok(()));
    let error = WorkError::ExtranonceHead { template: 1, len: 76 };
    assert_eq!(publish(fixed(12), foreign(1, &[], &[0; 60])), Err(error));
    // The script holds 100: height, text, push.
    let text = |len| Settings { pool_text: vec![b'a'; len], ..fixed(8) };
    assert_eq!(publish(text(20), foreign(1, &[], &[0; 63])), Ok(()));
    let error = WorkError::ScriptSig { template: 1, len: 101 };
    assert_eq!(publish(text(21), foreign(1, &[], &[0; 63])), Err(error));
    let error = WorkError::OwnerOutput { template: 1 };
    assert_eq!(publish(fixed(8), foreign(1, &[0; 9], &[])), Ok(()));
    for cut in [1, 8, 48] {
        let tag = tag_output(owner(1), 3, z(8));
        assert_eq!(publish(fixed(8), foreign(1, &tag[..cut], &[])), Err(error));
    }
    let long = [&[0; 8][..], &[0xfd, 0xff, 0xff], &[0x6a; 0xffff]].concat();
    assert!(matches!(
        publish(fixed(8), foreign(1, &long, &[])),
        Err(WorkError::CoinbaseSuffix { template: 1, .. })
    ));
}

//! The reference implementation as oracle: its clients mine on our jobs, its server hashes our shares.

use std::collections::BTreeMap;

use radpool_mining::{Command, Settings, Template, Tip};
use radpool_wire::{frame::HEADER_LEN, message::Message};
use stratum_core::{
    binary_sv2,
    bitcoin::{Amount, ScriptBuf, Target, TxOut, hashes::Hash as _},
    channels_sv2::{
        client::{
            extended::ExtendedChannel, group::GroupChannel,
            share_accounting::ShareValidationResult as ClientVerdict, standard::StandardChannel,
        },
        extranonce_manager::{ExtranonceAllocator, ExtranoncePrefix},
        server::{
            extended::ExtendedChannel as ServerChannel,
            share_accounting::ShareValidationResult as ServerVerdict,
        },
    },
    mining_sv2::{
        NewExtendedMiningJob, NewMiningJob, SetNewPrevHash, SubmitSharesExtended,
        SubmitSharesStandard,
    },
    template_distribution_sv2,
};

use crate::harness::*;

fn payload(message: &Message<'_>) -> Vec<u8> {
    let mut frame = vec![];
    message.encode(&mut frame).unwrap();
    frame.split_off(HEADER_LEN)
}

/// Channels of the reference implementation, fed as its proxies feed them.
#[derive(Default)]
struct Reference {
    extended: BTreeMap<u32, ExtendedChannel>,
    standard: BTreeMap<u32, StandardChannel>,
    groups: BTreeMap<u32, GroupChannel>,
    member_of: BTreeMap<u32, u32>,
}

impl Reference {
    fn follow(&mut self, messages: &[Message<'_>]) {
        for message in messages {
            self.follow_one(message);
        }
    }

    fn addressed(&self, id: u32) -> Vec<u32> {
        let addressed =
            |(channel, group): (&u32, &u32)| (*channel == id || *group == id).then_some(*channel);
        self.member_of.iter().filter_map(addressed).collect()
    }

    fn join(&mut self, channel: u32, group: u32, extranonce_len: usize) {
        if let Some(old) = self.member_of.insert(channel, group) {
            self.groups.get_mut(&old).unwrap().remove_channel_id(channel);
        }
        let group = self.groups.entry(group).or_insert_with(|| GroupChannel::new(group));
        group.add_channel_id(channel, extranonce_len).unwrap();
    }

    fn follow_one(&mut self, message: &Message<'_>) {
        let mut bytes = payload(message);
        match message {
            Message::OpenExtendedMiningChannelSuccess(open) => {
                let prefix = ExtranoncePrefix::from_wire(open.extranonce_prefix.clone()).unwrap();
                let target = Target::from_le_bytes(open.target);
                let (id, size) = (open.channel_id, open.extranonce_size);
                let channel =
                    ExtendedChannel::new(id, "a".into(), prefix, target, 1.0, true, size, None);
                self.extended.insert(id, channel.unwrap());
                self.join(id, open.group_channel_id, 4 + usize::from(size));
            }
            Message::OpenStandardMiningChannelSuccess(open) => {
                let prefix = ExtranoncePrefix::from_wire(open.extranonce_prefix.clone()).unwrap();
                let target = Target::from_le_bytes(open.target);
                let id = open.channel_id;
                let channel = StandardChannel::new(id, "a".into(), prefix, target, 1.0, None);
                self.standard.insert(id, channel.unwrap());
                self.join(id, open.group_channel_id, 12);
            }
            Message::NewExtendedMiningJob(job) => self.follow_job(job.channel_id, &bytes),
            Message::NewMiningJob(job) => {
                let owned =
                    binary_sv2::from_bytes::<NewMiningJob<'_>>(&mut bytes).unwrap().into_owned();
                self.standard.get_mut(&job.channel_id).unwrap().on_new_mining_job(owned).unwrap();
            }
            Message::SetNewPrevHash(new) => self.follow_tip(new.channel_id, &bytes),
            Message::SetTarget(set) => {
                let target = Target::from_le_bytes(set.maximum_target);
                match self.extended.get_mut(&set.channel_id) {
                    Some(channel) => channel.set_target(target).unwrap(),
                    None => {
                        self.standard.get_mut(&set.channel_id).unwrap().set_target(target).unwrap()
                    }
                }
            }
            Message::SetExtranoncePrefix(set) => {
                let prefix = ExtranoncePrefix::from_wire(set.extranonce_prefix.clone()).unwrap();
                match self.extended.get_mut(&set.channel_id) {
                    Some(channel) => channel.set_extranonce_prefix(prefix).unwrap(),
                    None => self
                        .standard
                        .get_mut(&set.channel_id)
                        .unwrap()
                        .set_extranonce_prefix(prefix)
                        .unwrap(),
                }
            }
            Message::SetGroupChannel(set) => {
                for id in &set.channel_ids {
                    let extranonce_len =
                        self.extended.get(id).map_or(12, ExtendedChannel::get_full_extranonce_size);
                    self.join(*id, set.group_channel_id, extranonce_len);
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn follow_job(&mut self, addressee: u32, bytes: &[u8]) {
        let owned = || {
            binary_sv2::from_bytes::<NewExtendedMiningJob<'_>>(&mut bytes.to_vec())
                .unwrap()
                .into_owned()
        };
        if let Some(group) = self.groups.get_mut(&addressee) {
            group.on_new_extended_mining_job(owned());
        }
        for id in self.addressed(addressee) {
            match self.extended.get_mut(&id) {
                Some(channel) => channel.on_new_extended_mining_job(owned()).unwrap(),
                None => {
                    let channel = self.standard.get_mut(&id).unwrap();
                    channel.on_new_group_channel_job(owned()).unwrap();
                }
            }
        }
    }

    fn follow_tip(&mut self, addressee: u32, bytes: &[u8]) {
        let owned = || {
            binary_sv2::from_bytes::<SetNewPrevHash<'_>>(&mut bytes.to_vec()).unwrap().into_owned()
        };
        if let Some(group) = self.groups.get_mut(&addressee) {
            group.on_set_new_prev_hash(owned()).unwrap();
        }
        for id in self.addressed(addressee) {
            match self.extended.get_mut(&id) {
                Some(channel) => channel.on_set_new_prev_hash(owned()).unwrap(),
                None => self.standard.get_mut(&id).unwrap().on_set_new_prev_hash(owned()).unwrap(),
            }
        }
    }

    /// Has the reference check a share before it is sent; returns the hash that it found.
    fn check(&mut self, share: &MinedShare) -> [u8; 32] {
        let mut bytes = payload(&share.message());
        let verdict = if share.standard {
            let owned = binary_sv2::from_bytes::<SubmitSharesStandard>(&mut bytes).unwrap();
            self.standard.get_mut(&share.channel).unwrap().validate_share(owned)
        } else {
            let owned = binary_sv2::from_bytes::<SubmitSharesExtended<'_>>(&mut bytes)
                .unwrap()
                .into_owned();
            self.extended.get_mut(&share.channel).unwrap().validate_share(owned)
        };
        match verdict.unwrap_or_else(|error| panic!("{error:?}: {share:?}")) {
            ClientVerdict::Valid(hash) | ClientVerdict::BlockFound(hash) => hash.to_byte_array(),
        }
    }
}

#[test]
fn reference_clients_follow_our_jobs_and_we_take_their_shares() {
    let mut pool = Pool::new(settings());
    let mut client = pool.set_up(0);
    let mut reference = Reference::default();
    let opens = [
        (open_extended(RATE_Z8, [0xff; 32], 0), 1),
        (open_extended(RATE_Z8, [0xff; 32], 0), 1),
        (open_standard(RATE_Z8, [0xff; 32]), 1),
        (open_extended(RATE_Z8, [0xff; 32], 16), 1),
        (open_standard(RATE_Z8, [0xff; 32]), 2),
    ];
    let mut ids = vec![];
    pool.shared.publish_template(template(2), None).unwrap();
    for (open, account) in &opens {
        let (id, messages) = client.open(open, owner(*account));
        reference.follow(&messages);
        ids.push(id);
    }
    let mine_all = |client: &mut Client, reference: &mut Reference| {
        // At the wanted rate, so that vardiff keeps still.
        client.pass(10_000);
        for id in &ids {
            let share = client.mine(*id);
            let hash = reference.check(&share);
            assert_eq!(client.verdict(&share), None);
            assert_eq!(client.shares.last().unwrap().hash.0, hash);
        }
    };
    mine_all(&mut client, &mut reference);
    let steps: [&dyn Fn(&Pool); 4] = [
        &|pool| pool.shared.activate_template(tip(2, 2)).unwrap(),
        &|pool| pool.shared.publish_template(template(3), Some(tip(3, 2))).unwrap(),
        &|pool| pool.shared.publish_template(template(4), None).unwrap(),
        &|pool| pool.shared.publish_template(template(5), Some(tip(5, 3))).unwrap(),
    ];
    for step in steps {
        step(&pool);
        reference.follow(&client.work());
        mine_all(&mut client, &mut reference);
    }
    for command in [
        Command::SetExponent { channel: ids[1], exponent: z(9) },
        Command::SetExponent { channel: ids[2], exponent: z(9) },
        Command::SetOwner { channel: ids[0], owner: owner(2) },
        Command::SetExtranoncePrefix { channel: ids[3] },
        Command::SetExtranoncePrefix { channel: ids[4] },
        Command::SetExponent { channel: ids[4], exponent: z(7) },
    ] {
        reference.follow(&client.command(command));
        mine_all(&mut client, &mut reference);
    }
    pool.shared.publish_template(template(6), Some(tip(6, 4))).unwrap();
    reference.follow(&client.work());
    mine_all(&mut client, &mut reference);
}

/// Makes the reference server build the same coinbase as ours: same tag text, outputs and prefix.
fn reference_server(template: &Template, tip: &Tip, owner_script: &[u8]) -> ServerChannel {
    let mut allocator = ExtranonceAllocator::new(vec![1, 0, 0], 12, 1).unwrap();
    let prefix = allocator.allocate_extended(8).unwrap();
    assert_eq!(prefix.as_bytes(), [1, 0, 0, 0]);
    let mut server = ServerChannel::new_for_pool(
        1,
        "a".into(),
        prefix,
        Target::from_le_bytes([0xff; 32]),
        0.0,
        true,
        8,
        10,
        1_000_000.0,
        "pool".into(),
        None,
    )
    .unwrap();
    server.set_target(Target::from_le_bytes([0xff; 32])).unwrap();
    let outputs = vec![
        TxOut {
            value: Amount::from_sat(5_000_000_000),
            script_pubkey: ScriptBuf::from_bytes(template.pool_outputs[9..].to_vec()),
        },
        TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(owner_script.to_vec()) },
    ];
    let new_template = template_distribution_sv2::NewTemplateOwned {
        template_id: template.id,
        future_template: true,
        version: template.version,
        coinbase_tx_version: template.coinbase_tx_version,
        coinbase_prefix: template.coinbase_prefix.clone().try_into().unwrap(),
        coinbase_tx_input_sequence: template.coinbase_sequence,
        coinbase_tx_value_remaining: 5_000_000_000,
        coinbase_tx_outputs_count: template.template_output_count.into(),
        coinbase_tx_outputs: template.template_outputs.clone().try_into().unwrap(),
        coinbase_tx_locktime: template.coinbase_locktime,
        merkle_path: template
            .merkle_path
            .iter()
            .map(|hash| (*hash).into())
            .collect::<Vec<_>>()
            .try_into()
            .unwrap(),
    };
    server.on_new_template(new_template, outputs).unwrap();
    let new_prev_hash = template_distribution_sv2::SetNewPrevHashOwned {
        template_id: template.id,
        prev_hash: tip.prev_hash.into(),
        header_timestamp: tip.min_ntime,
        n_bits: tip.nbits,
        target: tip.target.to_le_bytes().into(),
    };
    server.on_set_new_prev_hash(new_prev_hash).unwrap();
    server
}

#[test]
fn a_hundred_thousand_random_shares_hash_as_in_the_reference_server() {
    let mut settings = Settings {
        pool_text: b"Sv2/pool//".to_vec(),
        exponent_min: z(0),
        exponent_max: z(0),
        ..settings()
    };
    settings.limits.submits_burst = 1_000_000;
    let mut pool = Pool::new(settings);
    let mut client = pool.set_up(0);
    let (id, _) = client.open(&open_extended(0.0, [0xff; 32], 8), owner(1));
    let draft = client.draft(id);
    let script = client.jobs[&draft.job].tag().to_script();
    let mut server = reference_server(&template(1), &tip(1, 1), &script);
    let mut random = 1u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 32) as u32
    };
    for _ in 0..100_000 {
        let mut share = draft.clone();
        share.nonce = next();
        share.ntime += next() % 1_000;
        share.version ^= next() & 0x1fff_ffe0;
        share.extranonce[..4].copy_from_slice(&next().to_le_bytes());
        let mut bytes = payload(&share.message());
        let theirs = SubmitSharesExtended::into_owned(binary_sv2::from_bytes(&mut bytes).unwrap());
        // Both number the job by themselves.
        let theirs = stratum_core::mining_sv2::SubmitSharesExtendedOwned { job_id: 1, ..theirs };
        let hash = match server.validate_share(theirs).unwrap() {
            ServerVerdict::Valid(hash) | ServerVerdict::BlockFound(hash, ..) => hash,
        };
        client.submit(&share);
        assert_eq!(client.shares.pop().unwrap().hash.0, hash.to_byte_array());
    }
}

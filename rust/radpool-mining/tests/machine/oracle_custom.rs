//! Custom jobs as the reference declarator client makes, keeps and mines them.

use radpool_mining::{Command, Event};
use radpool_wire::{
    frame::{FrameHeader, HEADER_LEN},
    message::*,
};
use stratum_core::{
    binary_sv2,
    bitcoin::{Amount, ScriptBuf, Target, TxOut, hashes::Hash as _},
    channels_sv2::{
        chain_tip::ChainTip,
        client::{extended::ExtendedChannel, share_accounting::ShareValidationResult as Verdict},
        extranonce_manager::ExtranoncePrefix,
        server::jobs::factory::JobFactory,
    },
    mining_sv2,
    template_distribution_sv2::NewTemplateOwned,
};

use crate::{
    custom::{SELECTING, commitment_output, grant, payout_output, tag_output},
    harness::*,
};

const SATS: u64 = 5_000_000_000;

/// What the reference client keeps of its channel upstream.
struct Declarator {
    channel: ExtendedChannel,
    factory: JobFactory,
    tip: ChainTip,
    requests: u32,
}

impl Declarator {
    fn new(open: &OpenExtendedMiningChannelSuccess, block: u8) -> Self {
        let prefix = ExtranoncePrefix::from_wire(open.extranonce_prefix.clone()).unwrap();
        let target = Target::from_le_bytes(open.target);
        let (id, size) = (open.channel_id, open.extranonce_size);
        let channel = ExtendedChannel::new(id, "a".into(), prefix, target, 1.0, true, size, None);
        let factory = JobFactory::new(true, Some("pool".into()), Some("miner".into()));
        let tip = ChainTip::new([block; 32].into(), REGTEST_NBITS, tip(1, block).min_ntime + 9);
        let mut declarator = Self { channel: channel.unwrap(), factory, tip, requests: 70 };
        declarator.channel.on_chain_tip_update(declarator.tip.clone()).unwrap();
        declarator
    }

    /// Makes a job of a template with the outputs of a token, all sats on the first.
    fn job(
        &mut self,
        token_outputs: [Vec<u8>; 2],
        path_len: u8,
    ) -> mining_sv2::SetCustomMiningJobOwned {
        let template = NewTemplateOwned {
            template_id: 12,
            future_template: false,
            version: 0x2000_0000,
            coinbase_tx_version: 2,
            coinbase_prefix: vec![0x02, 0x65, 0x01].try_into().unwrap(),
            coinbase_tx_input_sequence: u32::MAX - 1,
            coinbase_tx_value_remaining: SATS,
            coinbase_tx_outputs_count: 1,
            coinbase_tx_outputs: commitment_output().try_into().unwrap(),
            coinbase_tx_locktime: 356,
            merkle_path: (0..path_len)
                .map(|level| [level; 32].into())
                .collect::<Vec<_>>()
                .try_into()
                .unwrap(),
        };
        let outputs = token_outputs.map(|output| TxOut {
            value: Amount::from_sat(u64::from_le_bytes(*output.first_chunk().unwrap())),
            script_pubkey: ScriptBuf::from_bytes(output[9..].to_vec()),
        });
        self.requests += 1;
        self.factory
            .new_custom_job(
                self.channel.get_channel_id(),
                self.requests,
                vec![0x77; 32].try_into().unwrap(),
                self.tip.clone(),
                template,
                outputs.to_vec(),
                self.channel.get_full_extranonce_size(),
            )
            .unwrap()
    }

    /// Takes what the pool answers.
    fn follow(&mut self, job: &mining_sv2::SetCustomMiningJobOwned, replies: &[Message<'_>]) {
        for reply in replies {
            match reply {
                Message::SetTarget(set) => {
                    self.channel.set_target(Target::from_le_bytes(set.maximum_target)).unwrap();
                }
                Message::SetCustomMiningJobSuccess(success) => {
                    let success = mining_sv2::SetCustomMiningJobSuccess {
                        channel_id: success.channel_id,
                        request_id: success.request_id,
                        job_id: success.job_id,
                    };
                    self.channel.on_set_custom_mining_job_success(job.clone(), success).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn hash(&mut self, share: &MinedShare) -> [u8; 32] {
        let mut frame = vec![];
        share.message().encode(&mut frame).unwrap();
        let theirs = binary_sv2::from_bytes::<mining_sv2::SubmitSharesExtended<'_>>(
            &mut frame[HEADER_LEN..],
        );
        match self.channel.validate_share(theirs.unwrap().into_owned()).unwrap() {
            Verdict::Valid(hash) | Verdict::BlockFound(hash) => hash.to_byte_array(),
        }
    }
}

/// The bytes of the reference's job as a frame, and what we read in them.
fn frame(job: &mining_sv2::SetCustomMiningJobOwned) -> (Vec<u8>, SetCustomMiningJob) {
    let mut payload = binary_sv2::to_bytes(job.clone()).unwrap();
    let payload_len = payload.len() as u32;
    let header = FrameHeader { extension_type: 0, channel_msg: true, msg_type: 0x22, payload_len };
    let frame = [&header.to_bytes()[..], &payload].concat();
    let Message::SetCustomMiningJob(read) = Message::decode(header, &mut payload).unwrap() else {
        panic!()
    };
    (frame, read)
}

#[test]
fn the_reference_declarator_client_mines_what_we_accept() {
    let mut pool = Pool::new(settings());
    let mut client = pool.set_up(SELECTING);
    // Two bytes for its own channels and eight for its miners.
    let (id, replies) = client.open(&open_extended(RATE_Z8, [0xff; 32], 10), owner(1));
    let [Message::OpenExtendedMiningChannelSuccess(open)] = &replies[..] else {
        panic!("{replies:?}")
    };
    let mut declarator = Declarator::new(open, 1);
    for (exponent, path_len) in [(8, 0), (8, 14), (6, 3), (9, 3), (4, 1)] {
        client.pass(10_000);
        let exponent = z(exponent);
        let outputs = [payout_output(SATS), tag_output(owner(1), 3, exponent)];
        let theirs = declarator.job(outputs, path_len);
        let (bytes, job) = frame(&theirs);
        assert_eq!(client.send_frame(&bytes), []);
        let Some(Event::CustomJobRequested(asked)) = client.events.last() else { panic!() };
        let asked = std::sync::Arc::clone(asked);
        let replies = client.accept(&job, &asked, grant(owner(1), exponent));
        declarator.follow(&theirs, &replies);
        let share = client.mine(id);
        let hash = declarator.hash(&share);
        assert_eq!(client.verdict(&share), None);
        let record = client.shares.last().unwrap();
        assert_eq!((record.hash.0, record.exponent), (hash, exponent));
    }
    let replies = client.command(Command::SetExtranoncePrefix { channel: id });
    let [Message::SetExtranoncePrefix(set)] = &replies[..] else { panic!() };
    let prefix = ExtranoncePrefix::from_wire(set.extranonce_prefix.clone()).unwrap();
    declarator.channel.set_extranonce_prefix(prefix).unwrap();
    let theirs = declarator.job([payout_output(SATS), tag_output(owner(1), 3, z(4))], 2);
    let (bytes, job) = frame(&theirs);
    client.send_frame(&bytes);
    let Some(Event::CustomJobRequested(asked)) = client.events.last() else { panic!() };
    let asked = std::sync::Arc::clone(asked);
    let replies = client.accept(&job, &asked, grant(owner(1), z(4)));
    declarator.follow(&theirs, &replies);
    let share = client.mine(id);
    let hash = declarator.hash(&share);
    assert_eq!((client.verdict(&share), client.shares.last().unwrap().hash.0), (None, hash));
}

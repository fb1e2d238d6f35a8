//! Strategies for messages with random fields.

use proptest::{collection::vec, prelude::*};
use radpool_wire::message::*;

/// A message that owns what a share borrows.
#[derive(Clone, Debug)]
pub(crate) enum AnyMessage {
    Share { numbers: [u32; 6], extranonce: Vec<u8>, tail: Vec<u8> },
    Other(Message<'static>),
}

impl AnyMessage {
    pub(crate) fn borrow(&self) -> Message<'_> {
        match self {
            Self::Other(message) => message.clone(),
            Self::Share { numbers, extranonce, tail } => {
                let [channel_id, sequence_number, job_id, nonce, ntime, version] = *numbers;
                Message::SubmitSharesExtended(SubmitSharesExtended {
                    channel_id,
                    sequence_number,
                    job_id,
                    nonce,
                    ntime,
                    version,
                    extranonce,
                    tail,
                })
            }
        }
    }
}

/// How many bytes of a message's payload stand behind its last field.
pub(crate) trait TailLen {
    fn tail_len(&self) -> usize;
}

impl TailLen for Message<'_> {
    fn tail_len(&self) -> usize {
        match self {
            Message::SubmitSharesExtended(share) => share.tail.len(),
            _ => 0,
        }
    }
}

/// What may follow a share.
pub(crate) fn share_tail() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), vec(any::<u8>(), 0..100)]
}

/// Payloads that look like messages: random, but with many small numbers, as lengths are.
pub(crate) fn payload() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => 0u8..3, 1 => any::<u8>()];
    prop_oneof![vec(byte, 0..200), vec(any::<u8>(), 0..600), vec(Just(0u8), 0..200)]
}

/// One change to a payload; positions are taken modulo its length.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    Set { position: usize, byte: u8 },
    Remove { position: usize, length: usize },
    Insert { position: usize, bytes: Vec<u8> },
    Truncate { position: usize },
}

impl Mutation {
    pub(crate) fn apply(&self, payload: &mut Vec<u8>) {
        let at = |position: &usize| position % (payload.len() + 1);
        match self {
            Self::Set { position, byte } => {
                let position = at(position);
                if let Some(old) = payload.get_mut(position) {
                    *old = *byte;
                }
            }
            Self::Remove { position, length } => {
                let start = at(position);
                let end = payload.len().min(start + length);
                payload.drain(start..end);
            }
            Self::Insert { position, bytes } => {
                let position = at(position);
                payload.splice(position..position, bytes.iter().copied());
            }
            Self::Truncate { position } => payload.truncate(at(position)),
        }
    }
}

pub(crate) fn mutation() -> impl Strategy<Value = Mutation> {
    let byte = || prop_oneof![any::<u8>(), Just(0), Just(1), Just(32), Just(33), Just(255)];
    prop_oneof![
        4 => (any::<usize>(), byte()).prop_map(|(position, byte)| Mutation::Set { position, byte }),
        1 => (any::<usize>(), 1usize..40)
            .prop_map(|(position, length)| Mutation::Remove { position, length }),
        1 => (any::<usize>(), vec(byte(), 1..40))
            .prop_map(|(position, bytes)| Mutation::Insert { position, bytes }),
        1 => any::<usize>().prop_map(|position| Mutation::Truncate { position }),
    ]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 0..=255)]
}

fn prefix() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=32)
}

fn numbers<T: Arbitrary + Clone>() -> impl Strategy<Value = Vec<T>> {
    vec(any::<T>(), 0..50)
}

/// Any bits that are equal to themselves.
fn hash_rate() -> impl Strategy<Value = f32> {
    any::<u32>()
        .prop_map(f32::from_bits)
        .prop_filter("NaN is not equal to itself", |it| !it.is_nan())
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![
        Just(Protocol::Mining),
        Just(Protocol::JobDeclaration),
        Just(Protocol::TemplateDistribution)
    ]
}

/// Every message.
pub(crate) fn message(
    tail: impl Strategy<Value = Vec<u8>> + 'static,
) -> impl Strategy<Value = AnyMessage> {
    let share = (any::<[u32; 6]>(), prefix(), tail)
        .prop_map(|(numbers, extranonce, tail)| AnyMessage::Share { numbers, extranonce, tail });
    let other = prop_oneof![setting_up(), opening(), channel(), work(), negotiation()];
    prop_oneof![1 => share.boxed(), 10 => other.prop_map(AnyMessage::Other).boxed()]
}

fn setting_up() -> BoxedStrategy<Message<'static>> {
    let setup =
        (protocol(), any::<(u16, u16, u32, u16)>(), [text(), text(), text(), text(), text()])
            .prop_map(|(protocol, (min_version, max_version, flags, endpoint_port), texts)| {
                let [endpoint_host, vendor, hardware_version, firmware, device_id] = texts;
                Message::SetupConnection(SetupConnection {
                    protocol,
                    min_version,
                    max_version,
                    flags,
                    endpoint_host,
                    endpoint_port,
                    vendor,
                    hardware_version,
                    firmware,
                    device_id,
                })
            });
    prop_oneof![
        setup,
        any::<(u16, u32)>().prop_map(|(used_version, flags)| Message::SetupConnectionSuccess(
            SetupConnectionSuccess { used_version, flags }
        )),
        (any::<u32>(), text()).prop_map(|(flags, error_code)| Message::SetupConnectionError(
            SetupConnectionError { flags, error_code }
        )),
        (text(), any::<u16>())
            .prop_map(|(new_host, new_port)| Message::Reconnect(Reconnect { new_host, new_port })),
    ]
    .boxed()
}

fn opening() -> BoxedStrategy<Message<'static>> {
    let standard = (any::<u32>(), text(), hash_rate(), any::<[u8; 32]>()).prop_map(
        |(request_id, user_identity, nominal_hash_rate, max_target)| OpenStandardMiningChannel {
            request_id,
            user_identity,
            nominal_hash_rate,
            max_target,
        },
    );
    let standard = standard.boxed();
    let standard_success = (any::<[u32; 3]>(), any::<[u8; 32]>(), prefix()).prop_map(
        |([request_id, channel_id, group_channel_id], target, extranonce_prefix)| {
            Message::OpenStandardMiningChannelSuccess(OpenStandardMiningChannelSuccess {
                request_id,
                channel_id,
                target,
                extranonce_prefix,
                group_channel_id,
            })
        },
    );
    let extended_success = (any::<[u32; 3]>(), any::<[u8; 32]>(), any::<u16>(), prefix()).prop_map(
        |(
            [request_id, channel_id, group_channel_id],
            target,
            extranonce_size,
            extranonce_prefix,
        )| {
            Message::OpenExtendedMiningChannelSuccess(OpenExtendedMiningChannelSuccess {
                request_id,
                channel_id,
                target,
                extranonce_size,
                extranonce_prefix,
                group_channel_id,
            })
        },
    );
    let extended = (standard.clone(), any::<u16>()).prop_map(|(standard, min_extranonce_size)| {
        Message::OpenExtendedMiningChannel(OpenExtendedMiningChannel {
            request_id: standard.request_id,
            user_identity: standard.user_identity,
            nominal_hash_rate: standard.nominal_hash_rate,
            max_target: standard.max_target,
            min_extranonce_size,
        })
    });
    let error = (any::<u32>(), text()).prop_map(|(request_id, error_code)| {
        Message::OpenMiningChannelError(OpenMiningChannelError { request_id, error_code })
    });
    prop_oneof![
        standard.prop_map(Message::OpenStandardMiningChannel),
        standard_success,
        extended,
        extended_success,
        error,
    ]
    .boxed()
}

fn channel() -> BoxedStrategy<Message<'static>> {
    prop_oneof![
        (any::<u32>(), hash_rate(), any::<[u8; 32]>()).prop_map(
            |(channel_id, nominal_hash_rate, maximum_target)| {
                Message::UpdateChannel(UpdateChannel {
                    channel_id,
                    nominal_hash_rate,
                    maximum_target,
                })
            }
        ),
        (any::<u32>(), text()).prop_map(|(channel_id, error_code)| Message::UpdateChannelError(
            UpdateChannelError { channel_id, error_code }
        )),
        (any::<u32>(), text()).prop_map(|(channel_id, reason_code)| Message::CloseChannel(
            CloseChannel { channel_id, reason_code }
        )),
        (any::<u32>(), prefix()).prop_map(|(channel_id, extranonce_prefix)| {
            Message::SetExtranoncePrefix(SetExtranoncePrefix { channel_id, extranonce_prefix })
        }),
        any::<(u32, [u8; 32])>().prop_map(|(channel_id, maximum_target)| Message::SetTarget(
            SetTarget { channel_id, maximum_target }
        )),
        (any::<u32>(), numbers()).prop_map(|(group_channel_id, channel_ids)| {
            Message::SetGroupChannel(SetGroupChannel { group_channel_id, channel_ids })
        }),
        (any::<(u32, u32)>(), text()).prop_map(|((channel_id, request_id), error_code)| {
            Message::SetCustomMiningJobError(SetCustomMiningJobError {
                channel_id,
                request_id,
                error_code,
            })
        }),
    ]
    .boxed()
}

fn work() -> BoxedStrategy<Message<'static>> {
    let job = any::<(u32, u32, Option<u32>, u32)>();
    let standard = (job.clone(), any::<[u8; 32]>()).prop_map(
        |((channel_id, job_id, min_ntime, version), merkle_root)| {
            Message::NewMiningJob(NewMiningJob {
                channel_id,
                job_id,
                min_ntime,
                version,
                merkle_root,
            })
        },
    );
    let path = vec(any::<[u8; 32]>(), 0..14);
    let coinbase = || vec(any::<u8>(), 0..300);
    let extended = (job, any::<bool>(), path, coinbase(), coinbase()).prop_map(
        |((channel_id, job_id, min_ntime, version), rolling, merkle_path, prefix, suffix)| {
            Message::NewExtendedMiningJob(NewExtendedMiningJob {
                channel_id,
                job_id,
                min_ntime,
                version,
                version_rolling_allowed: rolling,
                merkle_path,
                coinbase_tx_prefix: prefix,
                coinbase_tx_suffix: suffix,
            })
        },
    );
    let tip = any::<([u32; 4], [u8; 32])>().prop_map(
        |([channel_id, job_id, min_ntime, nbits], prev_hash)| {
            Message::SetNewPrevHash(SetNewPrevHash {
                channel_id,
                job_id,
                prev_hash,
                min_ntime,
                nbits,
            })
        },
    );
    prop_oneof![standard, extended, tip, custom_job(), share_and_answers()].boxed()
}

fn custom_job() -> BoxedStrategy<Message<'static>> {
    let job =
        (
            any::<([u32; 8], [u8; 32])>(),
            text(),
            text(),
            vec(any::<u8>(), 0..300),
            vec(any::<[u8; 32]>(), 0..14),
        )
            .prop_map(|((numbers, prev_hash), token, prefix, outputs, merkle_path)| {
                let [
                    channel_id,
                    request_id,
                    version,
                    min_ntime,
                    nbits,
                    tx_version,
                    sequence,
                    locktime,
                ] = numbers;
                Message::SetCustomMiningJob(SetCustomMiningJob {
                    channel_id,
                    request_id,
                    token,
                    version,
                    prev_hash,
                    min_ntime,
                    nbits,
                    coinbase_tx_version: tx_version,
                    coinbase_prefix: prefix,
                    coinbase_tx_input_n_sequence: sequence,
                    coinbase_tx_outputs: outputs,
                    coinbase_tx_locktime: locktime,
                    merkle_path,
                })
            });
    let success = any::<[u32; 3]>().prop_map(|[channel_id, request_id, job_id]| {
        let success = SetCustomMiningJobSuccess { channel_id, request_id, job_id };
        Message::SetCustomMiningJobSuccess(success)
    });
    prop_oneof![job, success].boxed()
}

fn share_and_answers() -> BoxedStrategy<Message<'static>> {
    let share = any::<[u32; 6]>().prop_map(|numbers| {
        let [channel_id, sequence_number, job_id, nonce, ntime, version] = numbers;
        Message::SubmitSharesStandard(SubmitSharesStandard {
            channel_id,
            sequence_number,
            job_id,
            nonce,
            ntime,
            version,
        })
    });
    let success = any::<(u32, u32, u32, u64)>().prop_map(|(channel_id, last, count, sum)| {
        Message::SubmitSharesSuccess(SubmitSharesSuccess {
            channel_id,
            last_sequence_number: last,
            new_submits_accepted_count: count,
            new_shares_sum: sum,
        })
    });
    let error =
        (any::<(u32, u32)>(), text()).prop_map(|((channel_id, sequence_number), error_code)| {
            Message::SubmitSharesError(SubmitSharesError {
                channel_id,
                sequence_number,
                error_code,
            })
        });
    prop_oneof![share, success, error].boxed()
}

fn negotiation() -> BoxedStrategy<Message<'static>> {
    prop_oneof![
        (any::<u16>(), numbers()).prop_map(|(request_id, requested_extensions)| {
            Message::RequestExtensions(RequestExtensions { request_id, requested_extensions })
        }),
        (any::<u16>(), numbers()).prop_map(|(request_id, supported_extensions)| {
            Message::RequestExtensionsSuccess(RequestExtensionsSuccess {
                request_id,
                supported_extensions,
            })
        }),
        (any::<u16>(), numbers(), numbers()).prop_map(|(request_id, unsupported, required)| {
            Message::RequestExtensionsError(RequestExtensionsError {
                request_id,
                unsupported_extensions: unsupported,
                required_extensions: required,
            })
        }),
    ]
    .boxed()
}

//! SRI's values and frames for our messages.

use radpool_wire::message::*;
use stratum_core::{
    binary_sv2::{self, Seq064KOwned, Seq0255Owned, Str0255Owned, Sv2OptionOwned},
    common_messages_sv2 as common, extensions_sv2 as extensions,
    framing_sv2::framing::{EncodableFrame, MessageFrame},
    mining_sv2 as mining,
    parsers_sv2::{
        AnyMessageOwned, CommonMessagesOwned, ExtensionsNegotiationOwned, ExtensionsOwned,
        MiningOwned,
    },
};

fn text(bytes: &[u8]) -> Str0255Owned {
    Str0255Owned::new(bytes.to_vec()).unwrap()
}

fn short(bytes: &[u8]) -> binary_sv2::B032Owned {
    binary_sv2::B032Owned::new(bytes.to_vec()).unwrap()
}

fn list<T: Clone>(items: &[T]) -> Seq064KOwned<T> {
    Seq064KOwned::new(items.to_vec()).unwrap()
}

fn optional(number: Option<u32>) -> Sv2OptionOwned<u32> {
    Sv2OptionOwned::new(number)
}

/// SRI's value for one of ours, field by field.
pub(crate) fn to_sri(message: &Message<'_>) -> Option<AnyMessageOwned> {
    common_to_sri(message)
        .map(AnyMessageOwned::Common)
        .or_else(|| opening_to_sri(message).map(AnyMessageOwned::Mining))
        .or_else(|| channel_to_sri(message).map(AnyMessageOwned::Mining))
        .or_else(|| work_to_sri(message).map(AnyMessageOwned::Mining))
        .or_else(|| {
            negotiation_to_sri(message)
                .map(|it| AnyMessageOwned::Extensions(ExtensionsOwned::ExtensionsNegotiation(it)))
        })
}

fn common_to_sri(message: &Message<'_>) -> Option<CommonMessagesOwned> {
    use CommonMessagesOwned as Sri;
    Some(match message {
        Message::SetupConnection(it) => Sri::SetupConnection(common::SetupConnectionOwned {
            protocol: match it.protocol {
                Protocol::Mining => common::Protocol::MiningProtocol,
                Protocol::JobDeclaration => common::Protocol::JobDeclarationProtocol,
                Protocol::TemplateDistribution => common::Protocol::TemplateDistributionProtocol,
                Protocol::Unknown(number) => panic!("SRI has no protocol {number}"),
            },
            min_version: it.min_version,
            max_version: it.max_version,
            flags: it.flags,
            endpoint_host: text(&it.endpoint_host),
            endpoint_port: it.endpoint_port,
            vendor: text(&it.vendor),
            hardware_version: text(&it.hardware_version),
            firmware: text(&it.firmware),
            device_id: text(&it.device_id),
        }),
        Message::SetupConnectionSuccess(it) => {
            Sri::SetupConnectionSuccess(common::SetupConnectionSuccessOwned {
                used_version: it.used_version,
                flags: it.flags,
            })
        }
        Message::SetupConnectionError(it) => {
            Sri::SetupConnectionError(common::SetupConnectionErrorOwned {
                flags: it.flags,
                error_code: text(&it.error_code),
            })
        }
        Message::Reconnect(it) => Sri::Reconnect(common::ReconnectOwned {
            new_host: text(&it.new_host),
            new_port: it.new_port,
        }),
        _ => return None,
    })
}

fn opening_to_sri(message: &Message<'_>) -> Option<MiningOwned> {
    use MiningOwned as Sri;
    Some(match message {
        Message::OpenStandardMiningChannel(it) => {
            Sri::OpenStandardMiningChannel(mining::OpenStandardMiningChannelOwned {
                request_id: it.request_id,
                user_identity: text(&it.user_identity),
                nominal_hash_rate: it.nominal_hash_rate,
                max_target: it.max_target.into(),
            })
        }
        Message::OpenStandardMiningChannelSuccess(it) => {
            Sri::OpenStandardMiningChannelSuccess(mining::OpenStandardMiningChannelSuccessOwned {
                request_id: it.request_id,
                channel_id: it.channel_id,
                target: it.target.into(),
                extranonce_prefix: short(&it.extranonce_prefix),
                group_channel_id: it.group_channel_id,
            })
        }
        Message::OpenExtendedMiningChannel(it) => {
            Sri::OpenExtendedMiningChannel(mining::OpenExtendedMiningChannelOwned {
                request_id: it.request_id,
                user_identity: text(&it.user_identity),
                nominal_hash_rate: it.nominal_hash_rate,
                max_target: it.max_target.into(),
                min_extranonce_size: it.min_extranonce_size,
            })
        }
        Message::OpenExtendedMiningChannelSuccess(it) => {
            Sri::OpenExtendedMiningChannelSuccess(mining::OpenExtendedMiningChannelSuccessOwned {
                request_id: it.request_id,
                channel_id: it.channel_id,
                target: it.target.into(),
                extranonce_size: it.extranonce_size,
                extranonce_prefix: short(&it.extranonce_prefix),
                group_channel_id: it.group_channel_id,
            })
        }
        Message::OpenMiningChannelError(it) => {
            Sri::OpenMiningChannelError(mining::OpenMiningChannelErrorOwned {
                request_id: it.request_id,
                error_code: text(&it.error_code),
            })
        }
        _ => return None,
    })
}

fn channel_to_sri(message: &Message<'_>) -> Option<MiningOwned> {
    use MiningOwned as Sri;
    Some(match message {
        Message::UpdateChannel(it) => Sri::UpdateChannel(mining::UpdateChannelOwned {
            channel_id: it.channel_id,
            nominal_hash_rate: it.nominal_hash_rate,
            maximum_target: it.maximum_target.into(),
        }),
        Message::UpdateChannelError(it) => {
            Sri::UpdateChannelError(mining::UpdateChannelErrorOwned {
                channel_id: it.channel_id,
                error_code: text(&it.error_code),
            })
        }
        Message::CloseChannel(it) => Sri::CloseChannel(mining::CloseChannelOwned {
            channel_id: it.channel_id,
            reason_code: text(&it.reason_code),
        }),
        Message::SetExtranoncePrefix(it) => {
            Sri::SetExtranoncePrefix(mining::SetExtranoncePrefixOwned {
                channel_id: it.channel_id,
                extranonce_prefix: short(&it.extranonce_prefix),
            })
        }
        Message::SetTarget(it) => Sri::SetTarget(mining::SetTargetOwned {
            channel_id: it.channel_id,
            maximum_target: it.maximum_target.into(),
        }),
        Message::SetGroupChannel(it) => Sri::SetGroupChannel(mining::SetGroupChannelOwned {
            group_channel_id: it.group_channel_id,
            channel_ids: list(&it.channel_ids),
        }),
        Message::SetCustomMiningJobError(it) => {
            Sri::SetCustomMiningJobError(mining::SetCustomMiningJobErrorOwned {
                channel_id: it.channel_id,
                request_id: it.request_id,
                error_code: text(&it.error_code),
            })
        }
        _ => return None,
    })
}

fn work_to_sri(message: &Message<'_>) -> Option<MiningOwned> {
    use MiningOwned as Sri;
    Some(match message {
        Message::NewMiningJob(it) => Sri::NewMiningJob(mining::NewMiningJobOwned {
            channel_id: it.channel_id,
            job_id: it.job_id,
            min_ntime: optional(it.min_ntime),
            version: it.version,
            merkle_root: it.merkle_root.into(),
        }),
        Message::NewExtendedMiningJob(it) => {
            Sri::NewExtendedMiningJob(mining::NewExtendedMiningJobOwned {
                channel_id: it.channel_id,
                job_id: it.job_id,
                min_ntime: optional(it.min_ntime),
                version: it.version,
                version_rolling_allowed: it.version_rolling_allowed,
                merkle_path: Seq0255Owned::new(it.merkle_path.iter().map(Into::into).collect())
                    .unwrap(),
                coinbase_tx_prefix: it.coinbase_tx_prefix.clone().try_into().unwrap(),
                coinbase_tx_suffix: it.coinbase_tx_suffix.clone().try_into().unwrap(),
            })
        }
        Message::SetCustomMiningJob(it) => {
            Sri::SetCustomMiningJob(mining::SetCustomMiningJobOwned {
                channel_id: it.channel_id,
                request_id: it.request_id,
                token: it.token.clone().try_into().unwrap(),
                version: it.version,
                prev_hash: it.prev_hash.into(),
                min_ntime: it.min_ntime,
                nbits: it.nbits,
                coinbase_tx_version: it.coinbase_tx_version,
                coinbase_prefix: it.coinbase_prefix.clone().try_into().unwrap(),
                coinbase_tx_input_n_sequence: it.coinbase_tx_input_n_sequence,
                coinbase_tx_outputs: it.coinbase_tx_outputs.clone().try_into().unwrap(),
                coinbase_tx_locktime: it.coinbase_tx_locktime,
                merkle_path: Seq0255Owned::new(it.merkle_path.iter().map(Into::into).collect())
                    .unwrap(),
            })
        }
        Message::SetCustomMiningJobSuccess(it) => {
            Sri::SetCustomMiningJobSuccess(mining::SetCustomMiningJobSuccess {
                channel_id: it.channel_id,
                request_id: it.request_id,
                job_id: it.job_id,
            })
        }
        Message::SetNewPrevHash(it) => Sri::SetNewPrevHash(mining::SetNewPrevHashOwned {
            channel_id: it.channel_id,
            job_id: it.job_id,
            prev_hash: it.prev_hash.into(),
            min_ntime: it.min_ntime,
            nbits: it.nbits,
        }),
        Message::SubmitSharesStandard(it) => {
            Sri::SubmitSharesStandard(mining::SubmitSharesStandardOwned {
                channel_id: it.channel_id,
                sequence_number: it.sequence_number,
                job_id: it.job_id,
                nonce: it.nonce,
                ntime: it.ntime,
                version: it.version,
            })
        }
        Message::SubmitSharesExtended(it) => {
            Sri::SubmitSharesExtended(mining::SubmitSharesExtendedOwned {
                channel_id: it.channel_id,
                sequence_number: it.sequence_number,
                job_id: it.job_id,
                nonce: it.nonce,
                ntime: it.ntime,
                version: it.version,
                extranonce: short(it.extranonce),
            })
        }
        Message::SubmitSharesSuccess(it) => {
            Sri::SubmitSharesSuccess(mining::SubmitSharesSuccessOwned {
                channel_id: it.channel_id,
                last_sequence_number: it.last_sequence_number,
                new_submits_accepted_count: it.new_submits_accepted_count,
                new_shares_sum: it.new_shares_sum,
            })
        }
        Message::SubmitSharesError(it) => Sri::SubmitSharesError(mining::SubmitSharesErrorOwned {
            channel_id: it.channel_id,
            sequence_number: it.sequence_number,
            error_code: text(&it.error_code),
        }),
        _ => return None,
    })
}

fn negotiation_to_sri(message: &Message<'_>) -> Option<ExtensionsNegotiationOwned> {
    use ExtensionsNegotiationOwned as Sri;
    Some(match message {
        Message::RequestExtensions(it) => {
            Sri::RequestExtensions(extensions::RequestExtensionsOwned {
                request_id: it.request_id,
                requested_extensions: list(&it.requested_extensions),
            })
        }
        Message::RequestExtensionsSuccess(it) => {
            Sri::RequestExtensionsSuccess(extensions::RequestExtensionsSuccessOwned {
                request_id: it.request_id,
                supported_extensions: list(&it.supported_extensions),
            })
        }
        Message::RequestExtensionsError(it) => {
            Sri::RequestExtensionsError(extensions::RequestExtensionsErrorOwned {
                request_id: it.request_id,
                unsupported_extensions: list(&it.unsupported_extensions),
                required_extensions: list(&it.required_extensions),
            })
        }
        _ => return None,
    })
}

/// The frame that SRI's crates write.
pub(crate) fn sri_frame(message: AnyMessageOwned) -> Vec<u8> {
    let frame: MessageFrame<AnyMessageOwned> = message.try_into().unwrap();
    let mut bytes = vec![0; frame.encoded_length()];
    frame.encode_into(&mut bytes).unwrap();
    bytes
}

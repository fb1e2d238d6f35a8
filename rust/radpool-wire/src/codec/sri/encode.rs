//! From our values to SRI's.

use binary_sv2::{B032, GetSize, Seq064K, Serialize, Str0255};
use common_messages_sv2 as common;
use extensions_sv2 as extensions;
use mining_sv2 as mining;

use crate::{
    codec::EncodeError,
    frame::HEADER_LEN,
    message::{Message, Protocol, SetupConnection, SetupConnectionSuccess},
};

/// Appends the payload of a message that is not hot; `out` ends in the frame's empty header.
pub(in crate::codec) fn encode(
    message: &Message<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let name = message.name();
    match message {
        Message::SetupConnection(setup) => encode_setup(name, setup, out),
        Message::SetupConnectionSuccess(SetupConnectionSuccess { used_version, flags }) => {
            let (used_version, flags) = (*used_version, *flags);
            append(name, common::SetupConnectionSuccess { used_version, flags }, out)
        }
        Message::SetupConnectionError(error) => {
            let error_code = string(name, "error_code", &error.error_code)?;
            append(name, common::SetupConnectionError { flags: error.flags, error_code }, out)
        }
        Message::Reconnect(reconnect) => {
            let new_host = string(name, "new_host", &reconnect.new_host)?;
            append(name, common::Reconnect { new_host, new_port: reconnect.new_port }, out)
        }
        Message::UpdateChannel(update) => {
            let sri = mining::UpdateChannel {
                channel_id: update.channel_id,
                nominal_hash_rate: update.nominal_hash_rate,
                maximum_target: (&update.maximum_target).into(),
            };
            append(name, sri, out)
        }
        Message::UpdateChannelError(error) => {
            let error_code = string(name, "error_code", &error.error_code)?;
            append(
                name,
                mining::UpdateChannelError { channel_id: error.channel_id, error_code },
                out,
            )
        }
        Message::CloseChannel(close) => {
            let reason_code = string(name, "reason_code", &close.reason_code)?;
            append(name, mining::CloseChannel { channel_id: close.channel_id, reason_code }, out)
        }
        Message::SetExtranoncePrefix(set) => {
            let extranonce_prefix = bytes(name, "extranonce_prefix", &set.extranonce_prefix)?;
            let channel_id = set.channel_id;
            append(name, mining::SetExtranoncePrefix { channel_id, extranonce_prefix }, out)
        }
        Message::SetCustomMiningJobError(error) => {
            let sri = mining::SetCustomMiningJobError {
                channel_id: error.channel_id,
                request_id: error.request_id,
                error_code: string(name, "error_code", &error.error_code)?,
            };
            append(name, sri, out)
        }
        Message::SetGroupChannel(group) => {
            let sri = mining::SetGroupChannel {
                group_channel_id: group.group_channel_id,
                channel_ids: sequence(name, "channel_ids", &group.channel_ids)?,
            };
            append(name, sri, out)
        }
        Message::RequestExtensions(_)
        | Message::RequestExtensionsSuccess(_)
        | Message::RequestExtensionsError(_) => encode_negotiation(name, message, out),
        _ => encode_open(name, message, out),
    }
}

fn encode_setup(
    name: &'static str,
    setup: &SetupConnection,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let payload_start = out.len();
    debug_assert!(payload_start >= HEADER_LEN, "the header comes first");
    let sri = common::SetupConnection {
        protocol: common::Protocol::MiningProtocol,
        min_version: setup.min_version,
        max_version: setup.max_version,
        flags: setup.flags,
        endpoint_host: string(name, "endpoint_host", &setup.endpoint_host)?,
        endpoint_port: setup.endpoint_port,
        vendor: string(name, "vendor", &setup.vendor)?,
        hardware_version: string(name, "hardware_version", &setup.hardware_version)?,
        firmware: string(name, "firmware", &setup.firmware)?,
        device_id: string(name, "device_id", &setup.device_id)?,
    };
    append(name, sri, out)?;
    // SRI's type has no room for unknown protocols.
    out[payload_start] = match setup.protocol {
        Protocol::Mining => 0,
        Protocol::JobDeclaration => 1,
        Protocol::TemplateDistribution => 2,
        Protocol::Unknown(number) => number,
    };
    Ok(())
}

fn encode_open(
    name: &'static str,
    message: &Message<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    match message {
        Message::OpenStandardMiningChannel(open) => {
            let sri = mining::OpenStandardMiningChannel {
                request_id: open.request_id,
                user_identity: string(name, "user_identity", &open.user_identity)?,
                nominal_hash_rate: open.nominal_hash_rate,
                max_target: (&open.max_target).into(),
            };
            append(name, sri, out)
        }
        Message::OpenStandardMiningChannelSuccess(success) => {
            let sri = mining::OpenStandardMiningChannelSuccess {
                request_id: success.request_id,
                channel_id: success.channel_id,
                target: (&success.target).into(),
                extranonce_prefix: bytes(name, "extranonce_prefix", &success.extranonce_prefix)?,
                group_channel_id: success.group_channel_id,
            };
            append(name, sri, out)
        }
        Message::OpenExtendedMiningChannel(open) => {
            let sri = mining::OpenExtendedMiningChannel {
                request_id: open.request_id,
                user_identity: string(name, "user_identity", &open.user_identity)?,
                nominal_hash_rate: open.nominal_hash_rate,
                max_target: (&open.max_target).into(),
                min_extranonce_size: open.min_extranonce_size,
            };
            append(name, sri, out)
        }
        Message::OpenExtendedMiningChannelSuccess(success) => {
            let sri = mining::OpenExtendedMiningChannelSuccess {
                request_id: success.request_id,
                channel_id: success.channel_id,
                target: (&success.target).into(),
                extranonce_size: success.extranonce_size,
                extranonce_prefix: bytes(name, "extranonce_prefix", &success.extranonce_prefix)?,
                group_channel_id: success.group_channel_id,
            };
            append(name, sri, out)
        }
        Message::OpenMiningChannelError(error) => {
            let error_code = string(name, "error_code", &error.error_code)?;
            let request_id = error.request_id;
            append(name, mining::OpenMiningChannelError { request_id, error_code }, out)
        }
        _ => unreachable!("{name} is coded by hand, or by the caller"),
    }
}

fn encode_negotiation(
    name: &'static str,
    message: &Message<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    match message {
        Message::RequestExtensions(request) => {
            let requested_extensions =
                sequence(name, "requested_extensions", &request.requested_extensions)?;
            let request_id = request.request_id;
            append(name, extensions::RequestExtensions { request_id, requested_extensions }, out)
        }
        Message::RequestExtensionsSuccess(success) => {
            let sri = extensions::RequestExtensionsSuccess {
                request_id: success.request_id,
                supported_extensions: sequence(
                    name,
                    "supported_extensions",
                    &success.supported_extensions,
                )?,
            };
            append(name, sri, out)
        }
        Message::RequestExtensionsError(error) => {
            let unsupported = &error.unsupported_extensions;
            let required = &error.required_extensions;
            let sri = extensions::RequestExtensionsError {
                request_id: error.request_id,
                unsupported_extensions: sequence(name, "unsupported_extensions", unsupported)?,
                required_extensions: sequence(name, "required_extensions", required)?,
            };
            append(name, sri, out)
        }
        _ => unreachable!("the caller passes no {name}"),
    }
}

fn append<T: Serialize + GetSize>(
    message: &'static str,
    sri: T,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.resize(start + sri.get_size(), 0);
    match binary_sv2::to_writer(sri, &mut out[start..]) {
        Ok(_) => Ok(()),
        // The fields were measured when they were made, so this is the whole that is too long.
        Err(_) => Err(EncodeError::TooLong { message, field: "payload" }),
    }
}

fn string<'field>(
    message: &'static str,
    field: &'static str,
    text: &'field [u8],
) -> Result<Str0255<'field>, EncodeError> {
    Str0255::new(text).map_err(|_| EncodeError::TooLong { message, field })
}

fn bytes<'field>(
    message: &'static str,
    field: &'static str,
    data: &'field [u8],
) -> Result<B032<'field>, EncodeError> {
    B032::new(data).map_err(|_| EncodeError::TooLong { message, field })
}

fn sequence<'field, T: Clone + 'field>(
    message: &'static str,
    field: &'static str,
    items: &[T],
) -> Result<Seq064K<'field, T>, EncodeError> {
    Seq064K::new(items.to_vec()).map_err(|_| EncodeError::TooLong { message, field })
}

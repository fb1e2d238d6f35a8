//! The messages of setting up, through SRI's crates.

use binary_sv2::{Deserialize, Error, GetSize, Seq064K, Serialize, Str0255};
use common_messages_sv2 as common;
use extensions_sv2 as extensions;
use mining_sv2 as mining;

use super::{CORE, DecodeError, EncodeError, NEGOTIATION};
use crate::{
    frame::HEADER_LEN,
    message::{
        CloseChannel, Message, OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess,
        OpenMiningChannelError, OpenStandardMiningChannel, OpenStandardMiningChannelSuccess,
        Protocol, Reconnect, RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess,
        SetCustomMiningJob, SetCustomMiningJobError, SetExtranoncePrefix, SetGroupChannel,
        SetupConnection, SetupConnectionError, SetupConnectionSuccess, UpdateChannel,
        UpdateChannelError,
    },
};

pub(super) fn decode<'frame>(
    name: &'static str,
    extension_type: u16,
    msg_type: u8,
    payload: &'frame mut [u8],
) -> Result<Message<'frame>, DecodeError> {
    Ok(match (extension_type, msg_type) {
        (CORE, 0x00..=0x04) => return decode_common(name, msg_type, payload),
        (CORE, 0x10..=0x14) => return decode_open(name, msg_type, payload),
        (CORE, 0x16) => {
            let sri: mining::UpdateChannel<'_> = parse(name, payload)?;
            Message::UpdateChannel(UpdateChannel {
                channel_id: sri.channel_id,
                nominal_hash_rate: sri.nominal_hash_rate,
                maximum_target: sri.maximum_target.to_array(),
            })
        }
        (CORE, 0x17) => {
            let sri: mining::UpdateChannelError<'_> = parse(name, payload)?;
            let error_code = sri.error_code.to_owned_bytes();
            Message::UpdateChannelError(UpdateChannelError {
                channel_id: sri.channel_id,
                error_code,
            })
        }
        (CORE, 0x18) => {
            let sri: mining::CloseChannel<'_> = parse(name, payload)?;
            let reason_code = sri.reason_code.to_owned_bytes();
            Message::CloseChannel(CloseChannel { channel_id: sri.channel_id, reason_code })
        }
        (CORE, 0x19) => {
            let sri: mining::SetExtranoncePrefix<'_> = parse(name, payload)?;
            Message::SetExtranoncePrefix(SetExtranoncePrefix {
                channel_id: sri.channel_id,
                extranonce_prefix: sri.extranonce_prefix.to_owned_bytes(),
            })
        }
        (CORE, 0x22) => {
            let sri: mining::SetCustomMiningJob<'_> = parse(name, payload)?;
            let (channel_id, request_id) = (sri.channel_id, sri.request_id);
            Message::SetCustomMiningJob(SetCustomMiningJob { channel_id, request_id })
        }
        (CORE, 0x24) => {
            let sri: mining::SetCustomMiningJobError<'_> = parse(name, payload)?;
            Message::SetCustomMiningJobError(SetCustomMiningJobError {
                channel_id: sri.channel_id,
                request_id: sri.request_id,
                error_code: sri.error_code.to_owned_bytes(),
            })
        }
        (CORE, 0x25) => {
            let sri: mining::SetGroupChannel<'_> = parse(name, payload)?;
            Message::SetGroupChannel(SetGroupChannel {
                group_channel_id: sri.group_channel_id,
                channel_ids: sri.channel_ids.into_inner(),
            })
        }
        (NEGOTIATION, _) => return decode_negotiation(name, msg_type, payload),
        _ => return Err(DecodeError::UnknownMessage { extension_type, msg_type }),
    })
}

fn decode_common<'frame>(
    name: &'static str,
    msg_type: u8,
    payload: &'frame mut [u8],
) -> Result<Message<'frame>, DecodeError> {
    Ok(match msg_type {
        0x00 => {
            let protocol = take_protocol(name, payload)?;
            let sri: common::SetupConnection<'_> = parse(name, payload)?;
            Message::SetupConnection(SetupConnection {
                protocol,
                min_version: sri.min_version,
                max_version: sri.max_version,
                flags: sri.flags,
                endpoint_host: sri.endpoint_host.to_owned_bytes(),
                endpoint_port: sri.endpoint_port,
                vendor: sri.vendor.to_owned_bytes(),
                hardware_version: sri.hardware_version.to_owned_bytes(),
                firmware: sri.firmware.to_owned_bytes(),
                device_id: sri.device_id.to_owned_bytes(),
            })
        }
        0x01 => {
            let sri: common::SetupConnectionSuccess = parse(name, payload)?;
            let (used_version, flags) = (sri.used_version, sri.flags);
            Message::SetupConnectionSuccess(SetupConnectionSuccess { used_version, flags })
        }
        0x02 => {
            let sri: common::SetupConnectionError<'_> = parse(name, payload)?;
            let error_code = sri.error_code.to_owned_bytes();
            Message::SetupConnectionError(SetupConnectionError { flags: sri.flags, error_code })
        }
        0x04 => {
            let sri: common::Reconnect<'_> = parse(name, payload)?;
            let new_host = sri.new_host.to_owned_bytes();
            Message::Reconnect(Reconnect { new_host, new_port: sri.new_port })
        }
        _ => return Err(DecodeError::UnknownMessage { extension_type: CORE, msg_type }),
    })
}

fn decode_open<'frame>(
    name: &'static str,
    msg_type: u8,
    payload: &'frame mut [u8],
) -> Result<Message<'frame>, DecodeError> {
    Ok(match msg_type {
        0x10 => {
            let sri: mining::OpenStandardMiningChannel<'_> = parse(name, payload)?;
            Message::OpenStandardMiningChannel(OpenStandardMiningChannel {
                request_id: sri.request_id,
                user_identity: sri.user_identity.to_owned_bytes(),
                nominal_hash_rate: sri.nominal_hash_rate,
                max_target: sri.max_target.to_array(),
            })
        }
        0x11 => {
            let sri: mining::OpenStandardMiningChannelSuccess<'_> = parse(name, payload)?;
            Message::OpenStandardMiningChannelSuccess(OpenStandardMiningChannelSuccess {
                request_id: sri.request_id,
                channel_id: sri.channel_id,
                target: sri.target.to_array(),
                extranonce_prefix: sri.extranonce_prefix.to_owned_bytes(),
                group_channel_id: sri.group_channel_id,
            })
        }
        0x12 => {
            let sri: mining::OpenMiningChannelError<'_> = parse(name, payload)?;
            let error_code = sri.error_code.to_owned_bytes();
            let request_id = sri.request_id;
            Message::OpenMiningChannelError(OpenMiningChannelError { request_id, error_code })
        }
        0x13 => {
            let sri: mining::OpenExtendedMiningChannel<'_> = parse(name, payload)?;
            Message::OpenExtendedMiningChannel(OpenExtendedMiningChannel {
                request_id: sri.request_id,
                user_identity: sri.user_identity.to_owned_bytes(),
                nominal_hash_rate: sri.nominal_hash_rate,
                max_target: sri.max_target.to_array(),
                min_extranonce_size: sri.min_extranonce_size,
            })
        }
        0x14 => {
            let sri: mining::OpenExtendedMiningChannelSuccess<'_> = parse(name, payload)?;
            Message::OpenExtendedMiningChannelSuccess(OpenExtendedMiningChannelSuccess {
                request_id: sri.request_id,
                channel_id: sri.channel_id,
                target: sri.target.to_array(),
                extranonce_size: sri.extranonce_size,
                extranonce_prefix: sri.extranonce_prefix.to_owned_bytes(),
                group_channel_id: sri.group_channel_id,
            })
        }
        _ => return Err(DecodeError::UnknownMessage { extension_type: CORE, msg_type }),
    })
}

fn decode_negotiation<'frame>(
    name: &'static str,
    msg_type: u8,
    payload: &'frame mut [u8],
) -> Result<Message<'frame>, DecodeError> {
    Ok(match msg_type {
        0x00 => {
            let sri: extensions::RequestExtensions<'_> = parse(name, payload)?;
            Message::RequestExtensions(RequestExtensions {
                request_id: sri.request_id,
                requested_extensions: sri.requested_extensions.into_inner(),
            })
        }
        0x01 => {
            let sri: extensions::RequestExtensionsSuccess<'_> = parse(name, payload)?;
            Message::RequestExtensionsSuccess(RequestExtensionsSuccess {
                request_id: sri.request_id,
                supported_extensions: sri.supported_extensions.into_inner(),
            })
        }
        0x02 => {
            let sri: extensions::RequestExtensionsError<'_> = parse(name, payload)?;
            Message::RequestExtensionsError(RequestExtensionsError {
                request_id: sri.request_id,
                unsupported_extensions: sri.unsupported_extensions.into_inner(),
                required_extensions: sri.required_extensions.into_inner(),
            })
        }
        _ => return Err(DecodeError::UnknownMessage { extension_type: NEGOTIATION, msg_type }),
    })
}

fn parse<'frame, T: Deserialize<'frame>>(
    message: &'static str,
    payload: &'frame mut [u8],
) -> Result<T, DecodeError> {
    let length = payload.len();
    binary_sv2::from_bytes(payload).map_err(|error| match error {
        // A field that would begin behind the end is reported as a failed conversion.
        Error::OutOfBound | Error::ReadError(..) | Error::DecodableConversionError => {
            DecodeError::Truncated { message, length }
        }
        Error::ValueExceedsMaxSize(..) | Error::SeqExceedsMaxSize => {
            DecodeError::Invalid { message, reason: "a field is longer than its type allows" }
        }
        _ => DecodeError::Invalid { message, reason: "a field has a value that its type excludes" },
    })
}

/// Reads the protocol number and, where SRI's decoder would refuse it, puts one that it takes in
/// its place: a server must answer unknown protocols, so they have to be read.
fn take_protocol(message: &'static str, payload: &mut [u8]) -> Result<Protocol, DecodeError> {
    let number = payload.first_mut().ok_or(DecodeError::Truncated { message, length: 0 })?;
    Ok(match *number {
        0 => Protocol::Mining,
        1 => Protocol::JobDeclaration,
        2 => Protocol::TemplateDistribution,
        unknown => {
            *number = 0;
            Protocol::Unknown(unknown)
        }
    })
}

/// Appends the payload of a message that is not hot; `out` ends in the frame's empty header.
pub(super) fn encode(message: &Message<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
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
        Message::SetCustomMiningJob(_) => Err(EncodeError::ReadOnly { message: name }),
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
        _ => Err(EncodeError::ReadOnly { message: name }),
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
        _ => Err(EncodeError::ReadOnly { message: name }),
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
) -> Result<binary_sv2::B032<'field>, EncodeError> {
    binary_sv2::B032::new(data).map_err(|_| EncodeError::TooLong { message, field })
}

fn sequence<'field, T: Clone + 'field>(
    message: &'static str,
    field: &'static str,
    items: &[T],
) -> Result<Seq064K<'field, T>, EncodeError> {
    Seq064K::new(items.to_vec()).map_err(|_| EncodeError::TooLong { message, field })
}

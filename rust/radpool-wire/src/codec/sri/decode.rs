//! From SRI's values to ours.

use binary_sv2::{Deserialize, Error};
use common_messages_sv2 as common;
use extensions_sv2 as extensions;
use mining_sv2 as mining;

use crate::{
    codec::{CORE, DecodeError, NEGOTIATION},
    message::{
        CloseChannel, Message, OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess,
        OpenMiningChannelError, OpenStandardMiningChannel, OpenStandardMiningChannelSuccess,
        Protocol, Reconnect, RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess,
        SetCustomMiningJobError, SetExtranoncePrefix, SetGroupChannel, SetupConnection,
        SetupConnectionError, SetupConnectionSuccess, UpdateChannel, UpdateChannelError,
    },
};

pub(in crate::codec) fn decode<'frame>(
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

//! A Noise XK link between two members, without IO.
//!
//! The one who dials knows whom it dials and sends `e, es`; the other answers `e, ee`; the dialler
//! tells who it is with `s, se`. The pattern is `Noise_XK_25519_ChaChaPoly_SHA256`, and both sides
//! hash `radpool-sv2/fed/1` and the committee's id first, so members of two federations never get
//! further than the first message. Who does not know the key of the one that it dials gets no byte
//! back; who is not on its list is told nothing after the third.
//!
//! Handshake messages and Noise messages are framed alike: length (u32, little-endian), then that
//! many bytes, 65,535 at most. The plaintexts are one stream of application messages, each with its
//! length (u32, little-endian) before it, 1 byte to 4 MiB; a message may span Noise messages, and a
//! Noise message may hold several. After each 2^16 Noise messages of one direction its key is
//! replaced (Noise 11.3).
//!
//! States: shaking hands → open → closed. A fault of the peer closes the link for good. Bounds: what
//! waits for the rest of a frame is under 65,539 bytes, what waits for the rest of a message under
//! 4 MiB and one Noise message; buffers grow by what came, not by what was announced.
//!
//! Source: `spec/12-federation-transport.md`.

use core::{fmt, mem};
use std::collections::BTreeSet;

use snow::{Builder, HandshakeState, TransportState};
use thiserror::Error;

use crate::{TransportKey, seal::is_low_order};

/// Longest application message.
pub const MESSAGE_MAX: usize = 4 << 20;
/// Longest Noise message.
const NOISE_MAX: usize = 65_535;
const TAG_LEN: usize = 16;
/// Longest plaintext of a Noise message.
pub const PLAIN_MAX: usize = NOISE_MAX - TAG_LEN;
/// Noise messages under one key.
const REKEY_AFTER: u64 = 1 << 16;
const LENGTH_LEN: usize = 4;

const PATTERN: &str = "Noise_XK_25519_ChaChaPoly_SHA256";
const PROLOGUE: &[u8] = b"radpool-sv2/fed/1";
/// Lengths of `e, es`, of `e, ee` and of `s, se`, with their tags and without payload.
const HANDSHAKE_LENS: [usize; 3] = [48, 48, 64];

/// Why a link is closed, or a call refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LinkError {
    /// A frame of a length that is none: the peer is at fault.
    #[error("a frame of {0} bytes where no such frame can be: not this protocol?")]
    Frame(usize),
    /// A handshake message does not open: the peer dialled somebody else, is in another
    /// federation, or the bytes were changed on the way.
    #[error("handshake message {0} does not open: other key, other committee, or changed bytes")]
    Handshake(usize),
    /// The dialler is not on the list.
    #[error("the dialler's key is on no member record: {}", Hex(.0))]
    Stranger([u8; 32]),
    /// A message does not open: the bytes were changed on the way.
    #[error("a message does not open: bytes were changed, lost or repeated")]
    Decrypt,
    /// An application message of a length that is none: the peer is at fault.
    #[error("a message of {0} bytes is announced: 1 to {MESSAGE_MAX} are allowed")]
    Message(usize),
    /// The caller's message is empty or too long.
    #[error("a message of {0} bytes cannot be sent: 1 to {MESSAGE_MAX} are allowed")]
    Unsendable(usize),
    /// The caller sends before the handshake is over.
    #[error("nothing can be sent before the handshake is over")]
    NotOpen,
    /// The link is closed.
    #[error("the link is closed")]
    Closed,
    /// The local or remote key cannot be used.
    #[error("the keys make no handshake: {0}")]
    Keys(String),
}

impl LinkError {
    /// Whether the caller is at fault and the link unharmed.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::Unsendable(_) | Self::NotOpen | Self::Closed | Self::Keys(_))
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// What came of received bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Bytes to be sent at once: the next handshake message.
    pub reply: Vec<u8>,
    /// Application messages, in order.
    pub messages: Vec<Vec<u8>>,
    /// Whether the handshake was completed by these bytes.
    pub opened: bool,
}

enum State {
    Shaking { noise: Box<HandshakeState>, done: usize, allowed: Option<BTreeSet<[u8; 32]>> },
    Open(Box<TransportState>),
    Closed,
}

/// One end of a link.
pub struct Link {
    state: State,
    remote: Option<[u8; 32]>,
    handshake_hash: Option<[u8; 32]>,
    /// Bytes of a frame that is not whole.
    frame: Vec<u8>,
    /// Plaintext of a message that is not whole.
    plain: Vec<u8>,
}

impl Link {
    /// Dials a member whose key is known; the bytes are to be sent first.
    ///
    /// # Errors
    /// [`LinkError::Keys`] when nothing can be agreed with the remote key.
    pub fn dial(
        local: &TransportKey,
        remote: &[u8; 32],
        committee: &[u8; 32],
    ) -> Result<(Self, Vec<u8>), LinkError> {
        if is_low_order(remote) {
            return Err(LinkError::Keys("the remote key is of low order".to_owned()));
        }
        let prologue = prologue(committee);
        let mut noise = initiator(local.expose_secret(), remote, &prologue, None)?;
        let first = write_handshake(&mut noise)?;
        Ok((Self::new(noise, 1, None, Some(*remote)), first))
    }

    /// Waits to be dialled by one of `allowed`, the transport keys of member records.
    ///
    /// # Errors
    /// [`LinkError::Keys`] when the system has no randomness.
    pub fn accept(
        local: &TransportKey,
        allowed: BTreeSet<[u8; 32]>,
        committee: &[u8; 32],
    ) -> Result<Self, LinkError> {
        let noise = responder(local.expose_secret(), &prologue(committee), None)?;
        Ok(Self::new(noise, 0, Some(allowed), None))
    }

    fn new(
        noise: HandshakeState,
        done: usize,
        allowed: Option<BTreeSet<[u8; 32]>>,
        remote: Option<[u8; 32]>,
    ) -> Self {
        Self {
            state: State::Shaking { noise: Box::new(noise), done, allowed },
            remote,
            handshake_hash: None,
            frame: Vec::new(),
            plain: Vec::new(),
        }
    }

    /// Whether messages can be sent.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// The transport key of the other end, as soon as it is known to be that.
    #[must_use]
    pub const fn remote(&self) -> Option<&[u8; 32]> {
        self.remote.as_ref()
    }

    /// The hash over the whole handshake, the same on both ends and different for each link.
    #[must_use]
    pub const fn handshake_hash(&self) -> Option<&[u8; 32]> {
        self.handshake_hash.as_ref()
    }

    /// Takes bytes as they come, in any pieces.
    ///
    /// # Errors
    /// Whatever the peer did wrong; the link is closed then, and nothing more is to be sent over it.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Received, LinkError> {
        if matches!(self.state, State::Closed) {
            return Err(LinkError::Closed);
        }
        let mut received = Received::default();
        match self.take_frames(bytes, &mut received) {
            Ok(()) => Ok(received),
            Err(error) => {
                self.close();
                Err(error)
            }
        }
    }

    /// Encrypts messages, in order; the bytes must be sent in the order of the calls.
    ///
    /// # Errors
    /// [`LinkError::Unsendable`] for a message that is empty or too long: none is encrypted then.
    pub fn send<M: AsRef<[u8]>>(&mut self, messages: &[M]) -> Result<Vec<u8>, LinkError> {
        let noise = match &mut self.state {
            State::Open(noise) => noise,
            State::Shaking { .. } => return Err(LinkError::NotOpen),
            State::Closed => return Err(LinkError::Closed),
        };
        let lengths = || messages.iter().map(|message| message.as_ref().len());
        if let Some(length) = lengths().find(|length| !(1..=MESSAGE_MAX).contains(length)) {
            return Err(LinkError::Unsendable(length));
        }
        let mut plain = Vec::with_capacity(lengths().map(|length| length + LENGTH_LEN).sum());
        for message in messages {
            let length = u32::try_from(message.as_ref().len()).expect("it is at most 4 MiB");
            plain.extend_from_slice(&length.to_le_bytes());
            plain.extend_from_slice(message.as_ref());
        }
        let frames = plain.len().div_ceil(PLAIN_MAX);
        let mut bytes = Vec::with_capacity(plain.len() + frames * (LENGTH_LEN + TAG_LEN));
        for chunk in plain.chunks(PLAIN_MAX) {
            let start = bytes.len();
            let length = chunk.len() + TAG_LEN;
            bytes.extend_from_slice(&u32::try_from(length).expect("65,535 at most").to_le_bytes());
            bytes.resize(start + LENGTH_LEN + length, 0);
            if noise.write_message(chunk, &mut bytes[start + LENGTH_LEN..]).is_err() {
                // Only a counter of 2^64 messages can be exhausted here.
                self.close();
                return Err(LinkError::Closed);
            }
            if noise.sending_nonce() % REKEY_AFTER == 0 {
                noise.rekey_outgoing();
            }
        }
        Ok(bytes)
    }

    /// Forgets keys and buffers.
    pub fn close(&mut self) {
        self.state = State::Closed;
        self.frame = Vec::new();
        self.plain = Vec::new();
    }

    fn take_frames(&mut self, bytes: &[u8], received: &mut Received) -> Result<(), LinkError> {
        let held = mem::take(&mut self.frame);
        let joined;
        let mut rest = if held.is_empty() {
            bytes
        } else {
            joined = [held.as_slice(), bytes].concat();
            &joined
        };
        while let Some((length, behind)) = rest.split_first_chunk::<LENGTH_LEN>() {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            self.check_length(length)?;
            let Some((noise_message, behind)) = behind.split_at_checked(length) else { break };
            self.take_message(noise_message, received)?;
            rest = behind;
        }
        self.frame = rest.to_vec();
        Ok(())
    }

    /// Refuses a frame as soon as its length is there.
    fn check_length(&self, length: usize) -> Result<(), LinkError> {
        let possible = match &self.state {
            State::Shaking { done, .. } => HANDSHAKE_LENS.get(*done) == Some(&length),
            State::Open(_) => (TAG_LEN + 1..=NOISE_MAX).contains(&length),
            State::Closed => false,
        };
        if possible { Ok(()) } else { Err(LinkError::Frame(length)) }
    }

    fn take_message(&mut self, message: &[u8], received: &mut Received) -> Result<(), LinkError> {
        match &mut self.state {
            State::Closed => Err(LinkError::Closed),
            State::Shaking { .. } => self.shake(message, received),
            State::Open(noise) => {
                let start = self.plain.len();
                self.plain.resize(start + message.len(), 0);
                let length = noise
                    .read_message(message, &mut self.plain[start..])
                    .map_err(|_| LinkError::Decrypt)?;
                self.plain.truncate(start + length);
                if noise.receiving_nonce() % REKEY_AFTER == 0 {
                    noise.rekey_incoming();
                }
                self.take_plain(received)
            }
        }
    }

    fn shake(&mut self, message: &[u8], received: &mut Received) -> Result<(), LinkError> {
        let State::Shaking { noise, done, allowed } = &mut self.state else {
            return Err(LinkError::Closed);
        };
        let number = *done + 1;
        noise.read_message(message, &mut []).map_err(|_| LinkError::Handshake(number))?;
        *done = number;
        if let (Some(allowed), true) = (allowed, noise.is_handshake_finished()) {
            let remote = noise.get_remote_static().and_then(|key| key.try_into().ok());
            let remote: [u8; 32] = remote.ok_or(LinkError::Handshake(number))?;
            if !allowed.contains(&remote) {
                return Err(LinkError::Stranger(remote));
            }
            self.remote = Some(remote);
        }
        if !noise.is_handshake_finished() {
            received.reply.extend(write_handshake(noise)?);
            *done += 1;
        }
        if noise.is_handshake_finished() {
            self.handshake_hash = noise.get_handshake_hash().try_into().ok();
            let State::Shaking { noise, .. } = mem::replace(&mut self.state, State::Closed) else {
                return Err(LinkError::Closed);
            };
            let open = noise.into_transport_mode().map_err(|_| LinkError::Handshake(number))?;
            self.state = State::Open(Box::new(open));
            received.opened = true;
        }
        Ok(())
    }

    /// Cuts whole messages off the plaintext.
    fn take_plain(&mut self, received: &mut Received) -> Result<(), LinkError> {
        let mut rest = self.plain.as_slice();
        while let Some((length, behind)) = rest.split_first_chunk::<LENGTH_LEN>() {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            if !(1..=MESSAGE_MAX).contains(&length) {
                return Err(LinkError::Message(length));
            }
            let Some((message, behind)) = behind.split_at_checked(length) else { break };
            received.messages.push(message.to_vec());
            rest = behind;
        }
        let taken = self.plain.len() - rest.len();
        self.plain.drain(..taken);
        Ok(())
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.state {
            State::Shaking { .. } => "Link(shaking hands",
            State::Open(_) => "Link(open",
            State::Closed => "Link(closed",
        })?;
        if let Some(remote) = &self.remote {
            write!(formatter, ", remote {}", Hex(remote))?;
        }
        formatter.write_str(")")
    }
}

fn prologue(committee: &[u8; 32]) -> Vec<u8> {
    [PROLOGUE, committee].concat()
}

fn builder<'a>(
    secret: &'a [u8; 32],
    prologue: &'a [u8],
    ephemeral: Option<&'a [u8; 32]>,
) -> Result<Builder<'a>, LinkError> {
    let pattern = PATTERN.parse().expect("the pattern is one that snow knows");
    let builder = Builder::new(pattern).prologue(prologue).map_err(keys)?;
    let builder = builder.local_private_key(secret).map_err(keys)?;
    Ok(match ephemeral {
        None => builder,
        Some(key) => builder.fixed_ephemeral_key_for_testing_only(key),
    })
}

/// Starts the side that dials; only vectors give an ephemeral key.
fn initiator(
    secret: &[u8; 32],
    remote: &[u8; 32],
    prologue: &[u8],
    ephemeral: Option<&[u8; 32]>,
) -> Result<HandshakeState, LinkError> {
    let builder = builder(secret, prologue, ephemeral)?;
    builder.remote_public_key(remote).map_err(keys)?.build_initiator().map_err(keys)
}

/// Starts the side that is dialled; only vectors give an ephemeral key.
fn responder(
    secret: &[u8; 32],
    prologue: &[u8],
    ephemeral: Option<&[u8; 32]>,
) -> Result<HandshakeState, LinkError> {
    builder(secret, prologue, ephemeral)?.build_responder().map_err(keys)
}

fn keys(error: snow::Error) -> LinkError {
    LinkError::Keys(error.to_string())
}

fn write_handshake(noise: &mut HandshakeState) -> Result<Vec<u8>, LinkError> {
    let mut message = [0; HANDSHAKE_LENS[2]];
    let length = noise.write_message(&[], &mut message).map_err(keys)?;
    let header = u32::try_from(length).expect("64 at most").to_le_bytes();
    Ok([header.as_slice(), &message[..length]].concat())
}

#[cfg(test)]
mod tests;

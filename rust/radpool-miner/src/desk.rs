//! The counter between the connection and whoever knows the extension that carries the shares.
//!
//! Over it go attachments and frames inwards, and news outwards: which share took which attachment,
//! which were refused, the extension's frames, openings and ends. Attachments come in *lots*; a new
//! lot takes the place of the old one, and a refusal can end a lot before there is another. A share
//! is only sent with an attachment, so whoever gives them decides how many shares the pool may hold.
//!
//! Bounds: [`ATTACHMENTS_MAX`] attachments, [`COMMANDS_MAX`] frames inwards; outwards the connection
//! is not read while the news hold [`NEWS_MAX`] entries or [`NEWS_BYTES_MAX`] bytes, and no new
//! connection starts before the end of the last was taken.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::UnixStream,
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Attachments that wait for their share.
pub const ATTACHMENTS_MAX: usize = 4_096;
/// Bytes of one attachment.
pub const ATTACHMENT_LEN_MAX: usize = 1_024;
/// Frames of the extension that wait to be sent.
pub const COMMANDS_MAX: usize = 64;
const NEWS_MAX: usize = 8_192;
const NEWS_BYTES_MAX: usize = 4 << 20;

/// The bytes that a share carries for the extension, and the number its giver knows them by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub id: u64,
    pub data: Vec<u8>,
}

/// A share that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    pub sequence: u32,
    /// What it is worth, when its target is a step of the ladder.
    pub exponent: Option<u8>,
    pub attachment: u64,
    /// Hash of its header, internal byte order.
    pub hash: [u8; 32],
}

/// A share that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub sequence: u32,
    pub code: String,
    /// Whether it goes out again with another attachment and another number.
    pub again: bool,
}

/// A frame of the extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarrierFrame {
    pub msg_type: u8,
    pub channel_msg: bool,
    pub payload: Vec<u8>,
}

/// What has happened in one session since the last look. Within each list the order is that in
/// which things happened; a share stands in `submitted` no later than its answer elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The connection's number, counted from 1; 0 before there was one.
    pub session: u64,
    /// Channel and tail, when the channel was opened since the last look.
    pub opened: Option<(u32, Vec<u8>)>,
    pub submitted: Vec<Submitted>,
    pub refused: Vec<Refused>,
    pub frames: Vec<CarrierFrame>,
    /// Attachments that were given and will not be used.
    pub withdrawn: Vec<u64>,
    /// Shares that were given up unsent, because no attachment came while they were of use.
    pub dropped: u64,
    /// Why the session is over, when it is.
    pub ended: Option<String>,
}

impl News {
    fn is_worth_telling(&self) -> bool {
        let Self { session: _, opened, submitted, refused, frames, withdrawn, dropped, ended } =
            self;
        opened.is_some()
            || ended.is_some()
            || *dropped != 0
            || !(submitted.is_empty()
                && refused.is_empty()
                && frames.is_empty()
                && withdrawn.is_empty())
    }
}

#[derive(Debug, Default)]
struct State {
    news: News,
    /// Bytes in the frames of the news.
    bytes: usize,
    /// Whether a session runs that takes attachments and frames.
    is_open: bool,
    lot: u64,
    /// Whether the lot takes no more attachments.
    lot_lapsed: bool,
    attachments: VecDeque<Attachment>,
    commands: VecDeque<CarrierFrame>,
}

/// The counter. See the head of this module.
#[derive(Debug)]
pub struct Desk {
    state: Mutex<State>,
    /// Something was given, or the news were taken.
    pub stirred: Notify,
    bell: UnixStream,
    listener: UnixStream,
}

impl Desk {
    /// Makes one.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn new() -> io::Result<Self> {
        let (bell, listener) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        listener.set_nonblocking(true)?;
        let state = Mutex::new(State::default());
        Ok(Self { state, stirred: Notify::new(), bell, listener })
    }

    // What whoever knows the extension calls.

    /// Is readable while there are news.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.listener.as_raw_fd()
    }

    /// Takes the news.
    #[must_use]
    pub fn take(&self) -> News {
        let mut scratch = [0; 64];
        // Rings that come from here on stay, so that nothing told after the look below is missed.
        while matches!((&self.listener).read(&mut scratch), Ok(length) if length > 0) {}
        let mut state = self.state.lock();
        state.bytes = 0;
        let session = state.news.session;
        let news = std::mem::replace(&mut state.news, News { session, ..News::default() });
        drop(state);
        self.stirred.notify_one();
        news
    }

    /// Gives attachments of `lot`: behind those that wait when the lot is the same, in their place
    /// when it is a later one. False when they were not taken: the session is over, the lot has
    /// ended, or there would be too many.
    #[must_use]
    pub fn give(&self, session: u64, lot: u64, items: Vec<Attachment>) -> bool {
        let mut state = self.state.lock();
        if !state.is_open || state.news.session != session || lot < state.lot {
            return false;
        }
        let is_new = lot > state.lot;
        let waiting = if is_new { 0 } else { state.attachments.len() };
        if (!is_new && state.lot_lapsed) || waiting + items.len() > ATTACHMENTS_MAX {
            return false;
        }
        if is_new {
            state.withdraw();
            (state.lot, state.lot_lapsed) = (lot, false);
        }
        state.attachments.extend(items);
        let tell = state.news.is_worth_telling();
        drop(state);
        self.stirred.notify_one();
        if tell {
            self.ring();
        }
        true
    }

    /// Has a frame sent; false when the session is over or too many frames wait.
    #[must_use]
    pub fn command(&self, session: u64, frame: CarrierFrame) -> bool {
        let mut state = self.state.lock();
        let is_this = state.is_open && state.news.session == session;
        if !is_this || state.commands.len() == COMMANDS_MAX {
            return false;
        }
        state.commands.push_back(frame);
        drop(state);
        self.stirred.notify_one();
        true
    }

    // What the session calls.

    /// Whether the end of the last session has been taken note of.
    #[must_use]
    pub fn is_cleared(&self) -> bool {
        self.state.lock().news.ended.is_none()
    }

    /// Whether no session runs either, where several connections take turns.
    #[must_use]
    pub fn is_free(&self) -> bool {
        let state = self.state.lock();
        !state.is_open && state.news.ended.is_none()
    }

    /// Whether there is room for what the pool may say next.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let state = self.state.lock();
        let news = &state.news;
        let entries =
            news.submitted.len() + news.refused.len() + news.frames.len() + news.withdrawn.len();
        entries < NEWS_MAX && state.bytes < NEWS_BYTES_MAX
    }

    /// Starts session `number`, with nothing left of the one before.
    pub fn open(&self, number: u64) {
        let mut state = self.state.lock();
        state.news.session = number;
        state.is_open = true;
        state.lot = 0;
        state.lot_lapsed = false;
        state.attachments.clear();
        state.commands.clear();
    }

    /// Ends the session.
    pub fn close(&self, reason: String) {
        self.tell(|state| {
            state.is_open = false;
            state.withdraw();
            state.commands.clear();
            state.news.ended = Some(reason);
        });
    }

    /// Tells that the channel was opened.
    pub fn tell_opened(&self, channel: u32, tail: Vec<u8>) {
        self.tell(|state| state.news.opened = Some((channel, tail)));
    }

    /// Tells of a frame of the extension.
    pub fn tell_frame(&self, frame: CarrierFrame) {
        self.tell(|state| {
            state.bytes += frame.payload.len();
            state.news.frames.push(frame);
        });
    }

    /// Tells of a share that was sent.
    pub fn tell_submitted(&self, submitted: Submitted) {
        self.tell(|state| state.news.submitted.push(submitted));
    }

    /// Tells of a share that was refused.
    pub fn tell_refused(&self, refused: Refused) {
        self.tell(|state| state.news.refused.push(refused));
    }

    /// Tells of shares that were given up unsent.
    pub fn tell_dropped(&self, count: u64) {
        self.tell(|state| state.news.dropped += count);
    }

    /// Tells of an attachment that was taken for a share and not sent with it.
    pub fn tell_withdrawn(&self, id: u64) {
        self.tell(|state| state.news.withdrawn.push(id));
    }

    /// The next attachment and the lot it is of.
    #[must_use]
    pub fn next_attachment(&self) -> Option<(u64, Attachment)> {
        let mut state = self.state.lock();
        let attachment = state.attachments.pop_front()?;
        Some((state.lot, attachment))
    }

    /// Whether an attachment waits for a share.
    #[must_use]
    pub fn has_attachment(&self) -> bool {
        !self.state.lock().attachments.is_empty()
    }

    /// Ends `lot`, unless another has come: none of its attachments is of use any more.
    pub fn lapse(&self, lot: u64) {
        self.tell(|state| {
            if state.lot == lot {
                state.lot_lapsed = true;
                state.withdraw();
            }
        });
    }

    /// The next frame to send.
    #[must_use]
    pub fn next_command(&self) -> Option<CarrierFrame> {
        self.state.lock().commands.pop_front()
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.ring();
    }

    fn ring(&self) {
        match (&self.bell).write(&[1]) {
            // A full pipe rings as well as a fuller one.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The other end lives as long as this one, so nothing else can go wrong.
            Ok(_) | Err(_) => {}
        }
    }
}

impl State {
    fn withdraw(&mut self) {
        let ids = self.attachments.drain(..).map(|attachment| attachment.id);
        self.news.withdrawn.extend(ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachments(ids: std::ops::Range<u64>) -> Vec<Attachment> {
        ids.map(|id| Attachment { id, data: vec![id as u8] }).collect()
    }

    fn desk() -> Desk {
        let desk = Desk::new().unwrap();
        desk.open(1);
        desk
    }

    fn next(desk: &Desk) -> Option<(u64, u64)> {
        desk.next_attachment().map(|(lot, attachment)| (lot, attachment.id))
    }

    #[test]
    fn later_lot_takes_the_place_of_the_one_before() {
        let desk = desk();
        assert!(desk.give(1, 1, attachments(0..2)));
        assert!(desk.give(1, 1, attachments(2..3)));
        assert_eq!(next(&desk), Some((1, 0)));
        assert!(desk.give(1, 2, attachments(7..8)));
        assert!(!desk.give(1, 1, attachments(8..9)));
        assert_eq!(desk.take().withdrawn, [1, 2]);
        assert_eq!((next(&desk), next(&desk)), (Some((2, 7)), None));
    }

    #[test]
    fn lapsed_lot_takes_nothing_until_another_comes() {
        let desk = desk();
        assert!(desk.give(1, 1, attachments(0..3)));
        desk.lapse(1);
        assert_eq!((next(&desk), desk.take().withdrawn), (None, vec![0, 1, 2]));
        assert!(!desk.give(1, 1, attachments(3..4)));
        assert!(desk.give(1, 2, attachments(4..5)));
        desk.lapse(1);
        assert_eq!(next(&desk), Some((2, 4)));
    }

    #[test]
    fn nothing_given_outlives_its_session() {
        let desk = desk();
        let frame = CarrierFrame { msg_type: 1, channel_msg: false, payload: vec![] };
        assert!(desk.give(1, 1, attachments(0..2)) && desk.command(1, frame.clone()));
        desk.close("gone".into());
        assert!(!desk.give(1, 1, attachments(2..3)) && !desk.command(1, frame.clone()));
        assert!(!desk.is_cleared());
        let news = desk.take();
        assert_eq!((news.withdrawn, news.ended.as_deref()), (vec![0, 1], Some("gone")));
        assert!(desk.is_cleared());
        desk.open(2);
        assert!(!desk.give(1, 1, attachments(2..3)) && !desk.command(1, frame));
        assert!(desk.next_attachment().is_none() && desk.next_command().is_none());
        assert!(desk.give(2, 1, attachments(2..3)));
    }

    #[test]
    fn everything_given_is_bounded() {
        let desk = desk();
        assert!(desk.give(1, 1, attachments(0..ATTACHMENTS_MAX as u64)));
        assert!(!desk.give(1, 1, attachments(0..1)));
        let frame = CarrierFrame { msg_type: 1, channel_msg: false, payload: vec![] };
        for _ in 0..COMMANDS_MAX {
            assert!(desk.command(1, frame.clone()));
        }
        assert!(!desk.command(1, frame));
    }

    #[test]
    fn room_comes_back_when_the_news_are_taken() {
        let desk = desk();
        let payload = vec![0; 1 << 20];
        while desk.has_room() {
            let payload = payload.clone();
            desk.tell_frame(CarrierFrame { msg_type: 1, channel_msg: true, payload });
        }
        assert_eq!(desk.take().frames.len(), NEWS_BYTES_MAX >> 20);
        assert!(desk.has_room());
        for _ in 0..NEWS_MAX {
            desk.tell_refused(Refused { sequence: 1, code: String::new(), again: false });
        }
        assert!(!desk.has_room());
    }

    #[test]
    fn bell_is_heard_until_the_news_are_taken() {
        let desk = desk();
        let mut byte = [0; 1];
        let silent = |byte: &mut [u8; 1]| (&desk.listener).read(byte).is_err();
        assert!(silent(&mut byte));
        for _ in 0..100_000 {
            desk.tell_dropped(1);
        }
        assert_eq!(desk.take().dropped, 100_000);
        assert!(silent(&mut byte));
        desk.tell_opened(1, vec![]);
        assert!(!silent(&mut byte));
    }
}

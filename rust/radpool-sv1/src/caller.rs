//! Tells by its first bytes who calls at a port that both Stratum versions share.
//!
//! A Stratum V2 client begins with the 64 bytes of an ElligatorSwift key, which nobody can tell from
//! random ones: any byte may come first, and so may `{"`. A Stratum V1 device begins with a line: a
//! JSON object, with blanks before it at most, and a `"method"` in it. So bytes that no such line
//! begins with are a key's, whatever they are; a line is one once it has named its method, or once
//! there are as many bytes of text as a key has.
//!
//! No line is ever taken for a key. A key is taken for a line when it reads `{"method"`, with or
//! without blanks and text between, or is text from end to end. Of random bytes the first happens
//! once in 2^71.9 handshakes and the second once in 2^82: together less often than once in 2^71,
//! which is a million handshakes a second for seventy million years. Who makes such a key on purpose
//! has shut out nobody but himself.

use core::str;

use radpool_wire::noise::ACT1_LEN;

/// Bytes after which it is always known who calls.
pub const OPENING_LEN: usize = ACT1_LEN;

const METHOD: &[u8] = b"\"method\"";

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A device that speaks Stratum V1.
    Sv1,
    /// A client that speaks Stratum V2; or somebody who speaks neither, whose handshake fails.
    Sv2,
}

impl Caller {
    /// Says who calls, by the first bytes of a connection; `None` asks for more of them. What comes
    /// behind [`OPENING_LEN`] bytes makes no difference, and neither does how they were cut.
    #[must_use]
    pub fn recognise(opening: &[u8]) -> Option<Self> {
        let opening = &opening[..opening.len().min(OPENING_LEN)];
        if !may_begin_line(opening) {
            return Some(Self::Sv2);
        }
        let names_method = opening.windows(METHOD.len()).any(|bytes| bytes == METHOD);
        (names_method || opening.len() == OPENING_LEN).then_some(Self::Sv1)
    }
}

/// Whether there is a JSON object that begins so, as far as its characters go.
fn may_begin_line(opening: &[u8]) -> bool {
    let Some((first, inside)) = skip_blanks(opening).split_first() else { return true };
    *first == b'{'
        && matches!(skip_blanks(inside).first(), None | Some(b'"' | b'}'))
        && is_text(inside)
}

fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let begin = bytes.iter().position(|byte| !is_blank(*byte)).unwrap_or(bytes.len());
    &bytes[begin..]
}

/// Whether these are characters that JSON allows; of the last one the end may be missing.
fn is_text(bytes: &[u8]) -> bool {
    let is_utf8 = str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true);
    is_utf8 && bytes.iter().all(|byte| is_blank(*byte) || *byte >= b' ')
}

/// Whether JSON allows the byte between its parts. A form feed, which ASCII counts as well, is none.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

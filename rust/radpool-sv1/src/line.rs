//! Cuts a stream into lines, without keeping more than one line's bytes.

/// The longest line that a device has to send; real ones stay below 1 KiB.
pub const LINE_LEN_MAX: usize = 8 * 1024;

/// A line was longer than [`LINE_LEN_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

/// Keeps the beginning of a line whose end is under way. It holds memory only while there is one.
#[derive(Debug, Default)]
pub struct LineReader {
    begun: Vec<u8>,
}

impl LineReader {
    /// Hands each line that ends in `bytes` to `handle`, without its end and surrounding blanks;
    /// empty ones are passed over. Stops early when `handle` says false.
    ///
    /// # Errors
    /// [`LineTooLong`], also for a line whose end has not come yet.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        mut handle: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), LineTooLong> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if self.begun.len() + line.len() > LINE_LEN_MAX {
                return Err(LineTooLong);
            }
            let goes_on = if self.begun.is_empty() {
                say(line, &mut handle)
            } else {
                let mut whole = core::mem::take(&mut self.begun);
                whole.extend_from_slice(line);
                say(&whole, &mut handle)
            };
            if !goes_on {
                return Ok(());
            }
        }
        if self.begun.len() + rest.len() > LINE_LEN_MAX {
            return Err(LineTooLong);
        }
        self.begun.extend_from_slice(rest);
        Ok(())
    }

    /// Whether a line has begun whose end has not come.
    #[must_use]
    pub fn is_inside_line(&self) -> bool {
        !self.begun.is_empty()
    }
}

fn say(line: &[u8], handle: &mut impl FnMut(&[u8]) -> bool) -> bool {
    let line = line.trim_ascii();
    line.is_empty() || handle(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Result<(), LineTooLong>) {
        let (mut reader, mut lines) = (LineReader::default(), Vec::new());
        for chunk in chunks {
            let fed = reader.feed(chunk, |line| {
                lines.push(line.to_vec());
                true
            });
            if fed.is_err() {
                return (lines, fed);
            }
        }
        (lines, Ok(()))
    }

    #[test]
    fn lines_come_out_alike_however_they_are_cut() {
        let text = b"{\"a\":1}\r\n\n  \r\n{}\n";
        let whole = lines(&[text]);
        assert_eq!(whole.0, [b"{\"a\":1}".to_vec(), b"{}".to_vec()]);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(lines(&bytes), whole);
        for cut in 0..text.len() {
            assert_eq!(lines(&[&text[..cut], &text[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn the_longest_line_passes_and_one_byte_more_does_not() {
        let mut longest = vec![b'x'; LINE_LEN_MAX];
        longest.push(b'\n');
        assert_eq!(lines(&[&longest]).0.len(), 1);
        let longer = vec![b'x'; LINE_LEN_MAX + 1];
        assert_eq!(lines(&[&longer]).1, Err(LineTooLong));
        assert_eq!(lines(&[&longer[..LINE_LEN_MAX], b"x"]).1, Err(LineTooLong));
        assert_eq!(lines(&[&longer[..LINE_LEN_MAX], b"x\n"]).1, Err(LineTooLong));
    }

    #[test]
    fn whoever_stops_hears_no_more() {
        let mut heard = 0;
        let fed = LineReader::default().feed(b"a\nb\nc\n", |_| {
            heard += 1;
            heard < 2
        });
        assert_eq!((heard, fed), (2, Ok(())));
    }
}

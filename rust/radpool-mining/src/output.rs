//! Serialised transaction outputs, cut but not judged.

/// Cuts outputs that stand back to back; the item is `None` where one is not whole, then it ends.
#[derive(Clone, Debug)]
pub(crate) struct Outputs<'bytes>(&'bytes [u8]);

impl<'bytes> Outputs<'bytes> {
    pub(crate) const fn new(bytes: &'bytes [u8]) -> Self {
        Self(bytes)
    }
}

impl<'bytes> Iterator for Outputs<'bytes> {
    type Item = Option<&'bytes [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        if bytes.is_empty() {
            return None;
        }
        let output = output_len(bytes).and_then(|len| bytes.split_at_checked(len));
        Some(output.map(|(output, rest)| {
            self.0 = rest;
            output
        }))
    }
}

/// Counts serialised transaction outputs; `None` when they are not whole.
pub(crate) fn count_outputs(bytes: &[u8]) -> Option<usize> {
    Outputs::new(bytes).try_fold(0, |count, output| output.map(|_| count + 1))
}

/// Length of the output that `bytes` begin with: value, script length, script.
fn output_len(bytes: &[u8]) -> Option<usize> {
    let (script_len, rest) = read_compact_size(bytes.get(8..)?)?;
    (bytes.len() - rest.len()).checked_add(usize::try_from(script_len).ok()?)
}

/// Reads a number in its shortest form, the only one that peers of the network take.
pub(crate) fn read_compact_size(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (width, least, rest) = match bytes.split_first()? {
        (0xfd, rest) => (2, 0xfd, rest),
        (0xfe, rest) => (4, 0x1_0000, rest),
        (0xff, rest) => (8, 0x1_0000_0000, rest),
        (short, rest) => return Some(((*short).into(), rest)),
    };
    let (number, rest) = rest.split_at_checked(width)?;
    let mut padded = [0; 8];
    padded[..width].copy_from_slice(number);
    let number = u64::from_le_bytes(padded);
    (number >= least).then_some((number, rest))
}

pub(crate) fn push_compact_size(out: &mut Vec<u8>, number: u16) {
    match u8::try_from(number) {
        Ok(short) if short < 0xfd => out.push(short),
        _ => {
            out.push(0xfd);
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_cut_where_they_end_and_nowhere_else() {
        let short = [vec![7; 8], vec![2, 0xaa, 0xbb]].concat();
        let long = [vec![8; 8], vec![0xfd, 0xfd, 0x00], vec![1; 0xfd]].concat();
        let both = [short.clone(), long.clone()].concat();
        let cut: Vec<_> = Outputs::new(&both).collect();
        assert_eq!(cut, [Some(&short[..]), Some(&long[..])]);
        for end in 1..both.len() {
            let whole = end == short.len();
            assert_eq!(count_outputs(&both[..end]).is_some(), whole, "cut at {end}");
        }
        assert_eq!((count_outputs(&both), count_outputs(&[])), (Some(2), Some(0)));
    }

    #[test]
    fn numbers_are_taken_in_their_shortest_form_only() {
        let cases: [(&[u8], Option<u64>); 8] = [
            (&[0xfc], Some(0xfc)),
            (&[0xfd, 0xfc, 0], None),
            (&[0xfd, 0xfd, 0], Some(0xfd)),
            (&[0xfd, 1], None),
            (&[0xfe, 0xff, 0xff, 0, 0], None),
            (&[0xfe, 0, 0, 1, 0], Some(0x1_0000)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], None),
            (&[0xff, 0, 0, 0, 0, 1, 0, 0, 0], Some(1 << 32)),
        ];
        for (bytes, number) in cases {
            assert_eq!(read_compact_size(bytes).map(|(number, _)| number), number, "{bytes:x?}");
        }
        // A script longer than memory could be is not whole, and nothing overflows.
        let endless = [&[0; 8][..], &[0xff; 9], &[0; 40]].concat();
        assert_eq!(count_outputs(&endless), None);
    }
}

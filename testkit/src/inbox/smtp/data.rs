//! From DATA to the final dot (RFC 5321, 4.5.2): takes the stuffed dots out, in pieces as they arrive.
//!
//! Only CRLF `.` CRLF ends a mail. A bare LF is content like any other byte, since treating it as the end
//! of a line is what makes SMTP smuggling possible.

/// Why a mail that has been read to its end can't be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    TooLarge,
    LineTooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// After CRLF, or at the beginning.
    LineStart,
    /// After a dot at the start of a line.
    Dot,
    /// After that dot and CR.
    DotCr,
    Text,
    /// After CR within a line.
    Cr,
    Done,
}

#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
    line: usize,
    max_size: usize,
    max_line: usize,
    unfit: Option<Unfit>,
}

impl Decoder {
    pub(super) fn new(max_size: usize, max_line: usize) -> Self {
        Self {
            state: State::LineStart,
            line: 0,
            max_size,
            max_line,
            unfit: None,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub(super) fn unfit(&self) -> Option<Unfit> {
        self.unfit
    }

    /// Appends decoded input to `body` up to the final dot and gives the number of bytes used: all of them,
    /// or fewer once done. An unfit mail is read on without being kept.
    pub(super) fn feed(&mut self, input: &[u8], body: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            let byte = input[at];
            self.state = match (self.state, byte) {
                (State::LineStart, b'.') => State::Dot,
                (State::Dot, b'\r') => State::DotCr,
                (State::DotCr, b'\n') => State::Done,
                (State::DotCr, _) => {
                    // The CR was content. This byte is looked at again.
                    self.push(b"\r", body);
                    self.state = State::Cr;
                    continue;
                }
                (State::Cr, b'\n') => {
                    self.push(b"\n", body);
                    self.line = 0;
                    State::LineStart
                }
                (_, b'\r') => {
                    self.push(b"\r", body);
                    State::Cr
                }
                _ => {
                    let run = input[at..]
                        .iter()
                        .position(|byte| *byte == b'\r')
                        .unwrap_or(input.len() - at);
                    self.push(&input[at..at + run], body);
                    at += run;
                    self.state = State::Text;
                    continue;
                }
            };
            at += 1;
        }
        at
    }

    fn push(&mut self, bytes: &[u8], body: &mut Vec<u8>) {
        self.line += bytes.len();
        if self.line > self.max_line {
            self.unfit.get_or_insert(Unfit::LineTooLong);
        }
        if body.len() + bytes.len() > self.max_size {
            self.unfit = Some(Unfit::TooLarge);
        }
        if self.unfit.is_none() {
            body.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes in pieces of every size, which must not matter: body and what is left over.
    fn decode(input: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let results: Vec<_> = (1..=input.len())
            .map(|size| {
                let mut decoder = Decoder::new(1000, 1000);
                let mut body = Vec::new();
                let mut used = 0;
                for piece in input.chunks(size) {
                    used += decoder.feed(piece, &mut body);
                }
                decoder.is_done().then(|| (body, input[used..].to_vec()))
            })
            .collect();
        assert!(
            results.windows(2).all(|pair| pair[0] == pair[1]),
            "{input:?}: {results:?}"
        );
        results[0].clone()
    }

    #[test]
    fn dots_are_unstuffed_and_the_end_is_found() {
        for (input, body, rest) in [
            (&b"a\r\n.\r\nQUIT\r\n"[..], &b"a\r\n"[..], &b"QUIT\r\n"[..]),
            (b".\r\n", b"", b""),
            (b"..\r\n.\r\n", b".\r\n", b""),
            (b"..a\r\n...\r\n.\r\n", b".a\r\n..\r\n", b""),
            (b"a.\r\n.\r\n", b"a.\r\n", b""),
            (b".a\r\n.\r\n", b"a\r\n", b""),
            (b".\ra\r\n.\r\n", b"\ra\r\n", b""),
            (b".\r\r\n.\r\n", b"\r\r\n", b""),
            (b"a\r\r\n.\r\n", b"a\r\r\n", b""),
        ] {
            assert_eq!(
                decode(input),
                Some((body.to_vec(), rest.to_vec())),
                "{input:?}"
            );
        }
    }

    #[test]
    fn bare_line_ends_do_not_end_a_mail() {
        for input in [
            &b"a\n.\n"[..],
            b"a\n.\r\n",
            b"a\r.\r\n",
            b"a\r\n.\n",
            b"a\r\n.\r",
            b"a\r\n.\r.\r\n",
            b"\n.\r\n",
        ] {
            assert_eq!(decode(input), None, "{input:?}");
        }
    }

    #[test]
    fn an_unfit_mail_is_read_to_its_end() {
        for (size, line, expected) in [(3, 100, Unfit::TooLarge), (100, 4, Unfit::LineTooLong)] {
            let mut decoder = Decoder::new(size, line);
            let used = decoder.feed(b"abc\r\n.\r\nNOOP", &mut Vec::new());
            assert_eq!(
                (decoder.is_done(), decoder.unfit(), used),
                (true, Some(expected), 8)
            );
        }
        let mut decoder = Decoder::new(10, 5);
        decoder.feed(b"abc\r\nabc\r\n.\r\n", &mut Vec::new());
        assert_eq!(decoder.unfit(), None, "limits are inclusive");
    }
}

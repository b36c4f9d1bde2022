//! Buffered lines in, gathered replies out. Replies leave when the input is used up, so a pipelined group
//! gets its answers in one write (RFC 2920) and a single command gets its answer at once.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::data::Decoder;

/// The longest command line, which is that of AUTH (RFC 4954, 4).
const MAX_LINE: usize = 12_288;
/// Room offered to each read.
const READ_SIZE: usize = 16 * 1024;

/// TCP with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

pub(super) struct Wire<S> {
    stream: S,
    input: Vec<u8>,
    /// Input before this place has been used.
    start: usize,
    output: Vec<u8>,
    timeout: Duration,
}

/// What a read for a line gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Read,
    /// Longer than allowed; it was skipped.
    TooLong,
    /// The client has closed.
    End,
}

impl<S: Stream> Wire<S> {
    pub(super) fn new(stream: S, timeout: Duration) -> Self {
        Self {
            stream,
            input: Vec::new(),
            start: 0,
            output: Vec::new(),
            timeout,
        }
    }

    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    /// Queues a one-line reply.
    pub(super) fn reply(&mut self, code: u16, text: &str) {
        self.line_of_reply(code, ' ', text);
    }

    /// Queues one line of a reply; the separator is a hyphen on all lines but the last.
    pub(super) fn line_of_reply(&mut self, code: u16, separator: char, text: &str) {
        use std::io::Write as _;
        // Writing to a Vec can't fail.
        let _ = write!(self.output, "{code}{separator}{text}\r\n");
    }

    /// Sends what is queued.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        // Taken, so that after a failure nothing is sent twice.
        let mut output = std::mem::take(&mut self.output);
        let send = async {
            self.stream.write_all(&output).await?;
            self.stream.flush().await
        };
        timeout(self.timeout, send).await??;
        output.clear();
        self.output = output;
        Ok(())
    }

    /// Ends the stream in order, which TLS needs to tell the end from a cut.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        timeout(self.timeout, self.stream.shutdown()).await?
    }

    /// Reads the next line into `line`, without its end.
    pub(super) async fn line(&mut self, line: &mut Vec<u8>) -> io::Result<Line> {
        line.clear();
        let mut too_long = false;
        loop {
            let pending = &self.input[self.start..];
            let end = pending.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(pending.len(), |end| end + 1);
            too_long |= line.len() + taken > MAX_LINE;
            if !too_long {
                line.extend_from_slice(&pending[..taken]);
            }
            self.start += taken;
            if end.is_some() {
                while matches!(line.last(), Some(b'\r' | b'\n')) {
                    line.pop();
                }
                return Ok(if too_long { Line::TooLong } else { Line::Read });
            }
            if !self.fill().await? {
                return Ok(Line::End);
            }
        }
    }

    /// Feeds the decoder up to the final dot. False if the client closed before it.
    pub(super) async fn body(
        &mut self,
        decoder: &mut Decoder,
        body: &mut Vec<u8>,
    ) -> io::Result<bool> {
        loop {
            self.start += decoder.feed(&self.input[self.start..], body);
            if decoder.is_done() {
                return Ok(true);
            }
            if !self.fill().await? {
                return Ok(false);
            }
        }
    }

    /// Reads more; all input must have been used. False at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        self.flush().await?;
        self.input.clear();
        self.start = 0;
        self.input.reserve(READ_SIZE);
        let read = timeout(self.timeout, self.stream.read_buf(&mut self.input)).await??;
        Ok(read > 0)
    }
}

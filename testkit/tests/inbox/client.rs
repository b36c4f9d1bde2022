//! A bare SMTP client that shows every byte, and short ways to a running inbox.

use std::{net::SocketAddr, time::Duration};

use testkit::inbox::{Inbox, InboxOptions};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Longer than anything takes; only a failing test waits so long.
pub(super) const LONG: Duration = Duration::from_secs(20);

pub(super) fn start() -> Inbox {
    start_with(InboxOptions::default())
}

pub(super) fn start_with(options: InboxOptions) -> Inbox {
    Inbox::start(options).unwrap()
}

/// One connection.
pub(super) struct Smtp<S = TcpStream> {
    pub(super) stream: S,
    input: Vec<u8>,
}

impl Smtp {
    /// Connected, nothing read yet.
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// Greeted and introduced.
    pub(super) async fn ready(inbox: &Inbox) -> Self {
        let mut smtp = Self::connect(inbox.smtp_addr()).await;
        smtp.expect(220).await;
        smtp.ask("EHLO client.test", 250).await;
        smtp
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Smtp<S> {
    pub(super) fn over(stream: S) -> Self {
        Self {
            stream,
            input: Vec::new(),
        }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends a command and wants this code.
    pub(super) async fn ask(&mut self, command: &str, code: u16) -> String {
        self.send(format!("{command}\r\n")).await;
        self.expect(code).await
    }

    /// The next reply, which must have this code; all its lines.
    pub(super) async fn expect(&mut self, code: u16) -> String {
        let reply = self
            .reply()
            .await
            .unwrap_or_else(|| panic!("connection ended, expected {code}"));
        assert!(
            reply.starts_with(&code.to_string()),
            "expected {code}, got {reply}"
        );
        reply
    }

    /// The server has closed, without another reply.
    pub(super) async fn expect_end(&mut self) {
        let reply = self.reply().await;
        assert_eq!(reply, None, "expected the end");
    }

    /// MAIL and RCPT; the code of RCPT's reply.
    pub(super) async fn envelope(&mut self, to: &str) -> u16 {
        self.ask("MAIL FROM:<sender@warren.test>", 250).await;
        self.send(format!("RCPT TO:<{to}>\r\n")).await;
        let reply = self.reply().await.unwrap();
        reply[..3].parse().unwrap()
    }

    /// A whole mail that must be accepted.
    pub(super) async fn mail(&mut self, to: &str, content: &str) -> String {
        assert_eq!(self.envelope(to).await, 250, "{to}");
        self.ask("DATA", 354).await;
        self.send(format!("{content}\r\n.\r\n")).await;
        self.expect(250).await
    }

    async fn reply(&mut self) -> Option<String> {
        let mut reply = String::new();
        loop {
            let line = self.line().await?;
            let last = line.as_bytes().get(3) != Some(&b'-');
            reply.push_str(&line);
            if last {
                return Some(reply);
            }
            reply.push('\n');
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            // A reset is an end as well.
            let read = timeout(LONG, self.stream.read_buf(&mut self.input))
                .await
                .expect("no answer in time");
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

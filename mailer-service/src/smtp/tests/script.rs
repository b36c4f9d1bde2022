//! A relay that says what a test tells it to, line by line, and asserts what it hears.

use std::net::SocketAddr;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Sends this and CRLF.
    Say(&'static str),
    /// Sends these bytes.
    SayBytes(&'static [u8]),
    /// Reads a line, which must begin so.
    Hear(&'static str),
    /// Reads lines up to the final dot.
    HearMail,
    /// Sends EHLO's reply with these keywords, after a greeting and EHLO.
    Greet(&'static [&'static str]),
    /// Takes one mail without PIPELINING.
    Take,
    /// Waits until the client has hung up.
    HearEnd,
    /// Resets the connection, unread bytes and all.
    Reset,
}

pub(super) struct Relay {
    pub(super) address: SocketAddr,
    run: JoinHandle<Vec<String>>,
}

impl Relay {
    /// Each script serves one connection, in order; a connection beyond them is not accepted.
    pub(super) async fn start(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let run = tokio::spawn(async move {
            let mut heard = Vec::new();
            for script in scripts {
                let (stream, _) = listener.accept().await.unwrap();
                play(BufReader::new(stream), &script, &mut heard).await;
            }
            heard
        });
        Self { address, run }
    }

    /// Waits for the last script's end; returns all lines that were heard. Panics if the client strayed.
    pub(super) async fn heard(self) -> Vec<String> {
        self.run.await.unwrap()
    }
}

async fn play(mut stream: BufReader<TcpStream>, script: &[Step], heard: &mut Vec<String>) {
    for step in script {
        match step {
            Step::Say(line) => say(&mut stream, line).await,
            Step::SayBytes(bytes) => stream.get_mut().write_all(bytes).await.unwrap(),
            Step::Hear(expected) => hear(&mut stream, expected, heard).await,
            Step::HearMail => while hear_line(&mut stream, heard).await != "." {},
            Step::Greet(keywords) => {
                say(&mut stream, "220 relay.example ESMTP").await;
                hear(&mut stream, "EHLO ", heard).await;
                offer(&mut stream, keywords).await;
            }
            Step::Take => {
                for (expected, reply) in [
                    ("MAIL FROM:", "250 ok"),
                    ("RCPT TO:", "250 ok"),
                    ("DATA", "354 go"),
                ] {
                    hear(&mut stream, expected, heard).await;
                    say(&mut stream, reply).await;
                }
                while hear_line(&mut stream, heard).await != "." {}
                say(&mut stream, "250 2.0.0 taken").await;
            }
            Step::HearEnd => {
                let line = hear_line(&mut stream, heard).await;
                assert!(
                    line.is_empty() || line == "QUIT",
                    "heard {line:?} instead of the end"
                );
            }
            Step::Reset => {
                stream.get_mut().set_zero_linger().unwrap();
                return;
            }
        }
    }
}

async fn offer(stream: &mut BufReader<TcpStream>, keywords: &[&str]) {
    let mut lines = vec!["relay.example"];
    lines.extend(keywords);
    for (index, line) in lines.iter().enumerate() {
        let mark = if index + 1 == lines.len() { ' ' } else { '-' };
        say(stream, &format!("250{mark}{line}")).await;
    }
}

async fn say(stream: &mut BufReader<TcpStream>, line: &str) {
    stream
        .get_mut()
        .write_all(format!("{line}\r\n").as_bytes())
        .await
        .unwrap();
}

async fn hear(stream: &mut BufReader<TcpStream>, expected: &str, heard: &mut Vec<String>) {
    let line = hear_line(stream, heard).await;
    assert!(
        line.starts_with(expected),
        "expected {expected:?}, heard {line:?}"
    );
}

async fn hear_line(stream: &mut BufReader<TcpStream>, heard: &mut Vec<String>) -> String {
    let mut line = String::new();
    // A reset by the client is an end too.
    let _ = stream.read_line(&mut line).await;
    let line = line.trim_end_matches("\r\n").to_owned();
    heard.push(line.clone());
    line
}

//! One SMTP conversation: greeting, commands in their order, extensions. The mail itself is in `transaction`.

use std::{io, net::SocketAddr, sync::Arc};

use super::{
    Flow, auth,
    command::{self, Command, Refusal},
    transaction::Transaction,
    wire::{Line, Stream, Wire},
};
use crate::inbox::{Client, Shared, faults::Phase};

/// Senseless commands until the connection is closed.
const MAX_MISTAKES: u32 = 50;
/// From here on a refusal is about the mail, below it about the protocol or the credentials.
const FIRST_POLICY_CODE: u16 = 550;

pub(super) struct Session<'a> {
    pub(super) shared: &'a Shared,
    /// Shared by the mails of this connection.
    pub(super) client: Arc<Client>,
    pub(super) transaction: Transaction,
    /// Reused from mail to mail.
    pub(super) body: Vec<u8>,
    mistakes: u32,
}

impl<'a> Session<'a> {
    pub(super) fn new(shared: &'a Shared, address: SocketAddr, tls: bool) -> Self {
        let client = Client {
            address,
            helo: String::new(),
            tls,
            user: None,
        };
        Self {
            shared,
            client: Arc::new(client),
            transaction: Transaction::default(),
            body: Vec::new(),
            mistakes: 0,
        }
    }

    /// Answers until the client leaves, must leave, or starts TLS.
    pub(super) async fn serve<S: Stream>(
        &mut self,
        wire: &mut Wire<S>,
        greet: bool,
    ) -> io::Result<Flow> {
        match self.converse(wire, greet).await {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                wire.reply(421, "4.4.2 Timeout waiting for the client");
                wire.flush().await?;
                Ok(Flow::Close)
            }
            outcome => outcome,
        }
    }

    async fn converse<S: Stream>(&mut self, wire: &mut Wire<S>, greet: bool) -> io::Result<Flow> {
        let mut flow = Flow::Continue;
        if greet {
            flow = match self.fault(wire, Phase::Connect, &[]).await? {
                Some(flow) => flow,
                None => say(
                    wire,
                    220,
                    &format!("{} ESMTP Warren inbox", self.shared.options.hostname),
                ),
            };
        }
        let mut line = Vec::new();
        while flow == Flow::Continue {
            flow = match wire.line(&mut line).await? {
                Line::End => Flow::Close,
                Line::TooLong => self.refuse(wire, Refusal(500, "5.5.2 Line too long")),
                Line::Read => match command::parse(&line) {
                    Ok(command) => self.obey(wire, command).await?,
                    Err(refusal) => self.refuse(wire, refusal),
                },
            };
        }
        wire.flush().await?;
        Ok(flow)
    }

    async fn obey<S: Stream>(
        &mut self,
        wire: &mut Wire<S>,
        command: Command<'_>,
    ) -> io::Result<Flow> {
        Ok(match command {
            Command::Ehlo(name) => self.hello(wire, name, true).await?,
            Command::Helo(name) => self.hello(wire, name, false).await?,
            Command::Mail(mail) => self.mail(wire, mail).await?,
            Command::Rcpt(to) => self.rcpt(wire, to).await?,
            Command::Data => self.data(wire).await?,
            Command::Rset => {
                self.transaction.reset();
                say(wire, 250, "2.0.0 Ok")
            }
            Command::Noop => say(wire, 250, "2.0.0 Ok"),
            Command::Vrfy => say(wire, 252, "2.5.2 Can't verify, but will take the mail"),
            Command::Help => say(wire, 214, "2.0.0 A development inbox; see RFC 5321"),
            Command::Quit => {
                wire.reply(221, "2.0.0 Bye");
                Flow::Close
            }
            Command::StartTls => self.start_tls(wire),
            Command::Auth { mechanism, initial } => self.auth(wire, mechanism, initial).await?,
        })
    }

    async fn hello<S: Stream>(
        &mut self,
        wire: &mut Wire<S>,
        name: &str,
        extended: bool,
    ) -> io::Result<Flow> {
        if let Some(flow) = self.fault(wire, Phase::Ehlo, &[]).await? {
            return Ok(flow);
        }
        self.transaction.reset();
        name.clone_into(&mut Arc::make_mut(&mut self.client).helo);
        let options = &self.shared.options;
        if !extended {
            return Ok(say(wire, 250, &options.hostname));
        }
        wire.line_of_reply(250, '-', &options.hostname);
        for keyword in ["PIPELINING", "8BITMIME", "SMTPUTF8", "STARTTLS"] {
            if options.offers(keyword) && !(keyword == "STARTTLS" && self.client.tls) {
                wire.line_of_reply(250, '-', keyword);
            }
        }
        if options.offers("SIZE") {
            wire.line_of_reply(250, '-', &format!("SIZE {}", options.max_message_size));
        }
        if options.offers("AUTH") {
            wire.line_of_reply(250, '-', "AUTH PLAIN LOGIN");
        }
        Ok(say(wire, 250, "ENHANCEDSTATUSCODES"))
    }

    fn start_tls<S: Stream>(&mut self, wire: &mut Wire<S>) -> Flow {
        if !self.shared.options.offers("STARTTLS") {
            return self.refuse(wire, Refusal(502, "5.5.1 Command not implemented"));
        }
        if self.client.tls {
            return self.refuse(wire, Refusal(503, "5.5.1 TLS is already active"));
        }
        wire.reply(220, "2.0.0 Ready to start TLS");
        Flow::StartTls
    }

    async fn auth<S: Stream>(
        &mut self,
        wire: &mut Wire<S>,
        mechanism: &str,
        initial: Option<&str>,
    ) -> io::Result<Flow> {
        if !self.shared.options.offers("AUTH") {
            return Ok(self.refuse(wire, Refusal(502, "5.5.1 Command not implemented")));
        }
        if self.client.user.is_some() || self.transaction.is_open() {
            return Ok(self.refuse(wire, Refusal(503, "5.5.1 AUTH is not allowed now")));
        }
        if let Some(flow) = self.fault(wire, Phase::Auth, &[]).await? {
            return Ok(flow);
        }
        Ok(
            match auth::authenticate(wire, &self.shared.options.auth, mechanism, initial).await? {
                Ok(user) => {
                    Arc::make_mut(&mut self.client).user = Some(user);
                    say(wire, 235, "2.7.0 Authentication successful")
                }
                Err(refusal) => self.refuse(wire, refusal),
            },
        )
    }

    /// Refuses a command. Too many that a correct client would not send end the connection.
    pub(super) fn refuse<S: Stream>(
        &mut self,
        wire: &mut Wire<S>,
        Refusal(code, text): Refusal,
    ) -> Flow {
        self.mistakes += u32::from(code < FIRST_POLICY_CODE);
        if self.mistakes > MAX_MISTAKES {
            wire.reply(421, "4.7.0 Too many errors");
            return Flow::Close;
        }
        wire.reply(code, text);
        Flow::Continue
    }
}

fn say<S: Stream>(wire: &mut Wire<S>, code: u16, text: &str) -> Flow {
    wire.reply(code, text);
    Flow::Continue
}

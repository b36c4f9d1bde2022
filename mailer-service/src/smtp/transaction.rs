//! One mail to one recipient over one connection: MAIL, RCPT, DATA, the mail, the final dot.

use super::{
    connection::{Connection, failure, within},
    error::{Class, SendError, code},
    reply::{self, Phase},
    settings::Timeouts,
};
use crate::permit::Permit;
use lettre::transport::smtp::response::Response;
use shared::address::EmailAddress;
use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering},
};
use tokio::time::{Instant, timeout_at};

/// The mail and whom it is for.
pub(super) struct Envelope<'a> {
    pub(super) from: &'a EmailAddress,
    pub(super) to: &'a EmailAddress,
    /// The built mail; ends with CRLF.
    pub(super) message: &'a [u8],
}

/// A mail that was not taken, and what that means for the connection.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: SendError,
    pub(super) connection: After,
    /// The connection failed before anything of the mail was sent: if it was a reused one, it had
    /// gone stale, which says nothing about the mail or the relay.
    pub(super) stale: bool,
}

/// What may be done with the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing was said on it, or the transaction is over.
    Reuse,
    /// RSET first.
    Reset,
    Drop,
}

impl Connection {
    /// Hands the mail over and returns the relay's reply to the final dot.
    ///
    /// When this future is dropped half-way the connection must be dropped too.
    pub(super) async fn send(
        &mut self,
        mail: &Envelope<'_>,
        permit: &dyn Permit,
        timeouts: Timeouts,
        deadline: Instant,
    ) -> Result<String, Refusal> {
        let parameters = self.parameters(mail).map_err(|error| Refusal {
            error,
            connection: After::Reuse,
            stale: false,
        })?;
        self.mails += 1;
        let limit = timeouts.command;
        if self.offers.pipelining {
            let announced = self.announce_at_once(mail, &parameters);
            within(Phase::Rcpt, limit, deadline, announced)
                .await
                .unwrap_or_else(|error| Err(Refusal::dropped(error)))?;
        } else {
            self.announce(mail, &parameters, timeouts, deadline).await?;
        }
        self.pass_point(permit, timeouts, deadline).await?;
        self.body(mail.message, timeouts, deadline).await
    }

    /// The last stop before the mail: once its bytes are written, its end may be on its way with them.
    async fn pass_point(
        &mut self,
        permit: &dyn Permit,
        timeouts: Timeouts,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let Some(recorded) = permit.point_of_no_return() else {
            return Ok(());
        };
        // The relay waits for the mail meanwhile, so not for longer than a command may take.
        let until = deadline.min(Instant::now() + timeouts.command);
        if !matches!(timeout_at(until, recorded).await, Ok(true)) {
            return Err(Refusal::dropped(SendError::not_begun()));
        }
        if self.wire.is_quiet() {
            return Ok(());
        }
        let text = "the connection was lost before the mail itself";
        let lost = SendError::new(Class::Retry, code::CONNECTION_LOST, text);
        Err(Refusal::dropped(lost))
    }

    /// The parameters of MAIL (RFC 1870, 6152, 6531); fails where this relay can't take this mail.
    fn parameters(&self, mail: &Envelope<'_>) -> Result<String, SendError> {
        let mut parameters = String::new();
        if let Some(max) = self.offers.max_size
            && mail.message.len() as u64 > max
        {
            let text = format!(
                "the mail has {} bytes, more than the {max} that the relay takes",
                mail.message.len()
            );
            return Err(SendError::new(Class::Fail, code::MESSAGE_TOO_LARGE, text));
        }
        if self.offers.size {
            // A String takes everything that is written to it.
            let _ = write!(parameters, " SIZE={}", mail.message.len());
        }
        // Header addresses beyond ASCII have no other form, so they need the extension as the envelope's do.
        let ascii_message = mail.message.is_ascii();
        if !(ascii_message && mail.from.as_str().is_ascii() && mail.to.as_str().is_ascii()) {
            if !self.offers.smtputf8 {
                let text = "an address has letters beyond ASCII before its @, which the relay does not take (SMTPUTF8)";
                return Err(SendError::new(
                    Class::Fail,
                    code::SMTPUTF8_UNSUPPORTED,
                    text,
                ));
            }
            parameters.push_str(" SMTPUTF8");
            if !ascii_message && self.offers.eight_bit {
                parameters.push_str(" BODY=8BITMIME");
            }
        }
        Ok(parameters)
    }

    async fn announce(
        &mut self,
        mail: &Envelope<'_>,
        parameters: &str,
        timeouts: Timeouts,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        for (phase, command) in [
            (
                Phase::Mail,
                format!("MAIL FROM:<{}>{parameters}\r\n", mail.from.as_str()),
            ),
            (Phase::Rcpt, format!("RCPT TO:<{}>\r\n", mail.to.as_str())),
            (Phase::Data, "DATA\r\n".to_owned()),
        ] {
            within(
                phase,
                timeouts.command,
                deadline,
                self.command(phase, command),
            )
            .await
            .and_then(|reply| expect(phase, &reply?))
            .map_err(Refusal::of_command)?;
        }
        Ok(())
    }

    /// All three commands in one segment (RFC 2920); their replies follow in order.
    async fn announce_at_once(
        &mut self,
        mail: &Envelope<'_>,
        parameters: &str,
    ) -> Result<(), Refusal> {
        let group = format!(
            "MAIL FROM:<{}>{parameters}\r\nRCPT TO:<{}>\r\nDATA\r\n",
            mail.from.as_str(),
            mail.to.as_str()
        );
        let mut refusal: Option<Refusal> = None;
        for phase in [Phase::Mail, Phase::Rcpt, Phase::Data] {
            let reply = match phase {
                Phase::Mail => self.smtp.command(&group).await,
                _ => self.smtp.read_response().await,
            };
            let reply = reply
                .map_err(|error| failure(phase, &self.wire, error))
                .and_then(|reply| expect(phase, &reply));
            match (reply, &mut refusal) {
                // The relay waits for a mail without a recipient (3.1): give it none.
                (Ok(()), Some(first)) if phase == Phase::Data => first.connection = After::Drop,
                (Ok(()), _) => {}
                (Err(error), first) => {
                    let next = Refusal::of_command(error);
                    let broken = next.connection == After::Drop;
                    let first = first.get_or_insert(next);
                    if broken {
                        first.connection = After::Drop;
                        break;
                    }
                }
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    async fn body(
        &mut self,
        message: &[u8],
        timeouts: Timeouts,
        deadline: Instant,
    ) -> Result<String, Refusal> {
        let exhausted = AtomicBool::new(false);
        // lettre ends the mail with CRLF, dot, CRLF; ours has its CRLF already.
        let mut parts = Some(message.strip_suffix(b"\r\n").unwrap_or(message));
        let parts = std::iter::from_fn(|| {
            let part = parts.take();
            exhausted.store(part.is_none(), Ordering::Relaxed);
            part
        });
        let reply = within(
            Phase::Body,
            timeouts.data,
            deadline,
            self.smtp.message_iter(parts),
        )
        .await;
        let error = match reply {
            Ok(Ok(reply)) if reply.code().severity as u8 == 2 => return Ok(reply_text(&reply)),
            Ok(Ok(reply)) => unexpected(Phase::Body, &reply),
            Ok(Err(error)) => failure(Phase::Body, &self.wire, error),
            Err(timeout) => timeout,
        };
        if refused_cleanly(&error) {
            let connection = if error.smtp_code == Some(421) {
                After::Drop
            } else {
                After::Reuse
            };
            return Err(Refusal {
                error,
                connection,
                stale: false,
            });
        }
        // Once the last byte is with the network stack, nobody but the relay knows.
        if exhausted.load(Ordering::Relaxed) && !self.wire.has_unsent() && error.smtp_code.is_none()
        {
            let text = format!(
                "{}, after the mail's end may have been sent: the relay may have taken it",
                error.text
            );
            let unknown = SendError {
                source: error.source,
                ..SendError::new(Class::UnknownOutcome, code::OUTCOME_UNKNOWN, text)
            };
            return Err(Refusal::dropped(unknown));
        }
        Err(Refusal::dropped(error))
    }
}

impl Refusal {
    fn dropped(error: SendError) -> Self {
        Self {
            error,
            connection: After::Drop,
            stale: false,
        }
    }

    /// For MAIL, RCPT and DATA, where nothing of the mail was sent.
    fn of_command(error: SendError) -> Self {
        let stale = [code::CONNECTION_LOST, code::SERVICE_CLOSING].contains(&error.code);
        let connection = if refused_cleanly(&error) && !stale {
            After::Reset
        } else {
            After::Drop
        };
        Self {
            error,
            connection,
            stale,
        }
    }
}

/// The relay's refusal was read to its end; of uncommon replies (571) some lines may still be to come.
fn refused_cleanly(error: &SendError) -> bool {
    error.smtp_code.is_some_and(|code| code / 10 % 10 <= 5)
}

fn expect(phase: Phase, reply: &Response) -> Result<(), SendError> {
    let wanted = if phase == Phase::Data { 3 } else { 2 };
    if reply.code().severity as u8 == wanted {
        Ok(())
    } else {
        Err(unexpected(phase, reply))
    }
}

fn unexpected(phase: Phase, reply: &Response) -> SendError {
    let text = format!(
        "the relay's reply to {} was {}, which does not fit",
        phase.name(),
        reply.code()
    );
    SendError::new(Class::Retry, code::PROTOCOL_ERROR, text)
}

fn reply_text(reply: &Response) -> String {
    let mut text = reply.code().to_string();
    for line in reply.message() {
        text.push(' ');
        text.push_str(line);
    }
    reply::clean(&text)
}

//! One mail: MAIL, RCPT, DATA and the final dot (RFC 5321, 3.3).

use std::{io, sync::Arc};

use super::{
    Flow,
    command::{Mail, Refusal},
    data::{Decoder, Unfit},
    misbehave::{misbehave, wait},
    session::Session,
    wire::{Stream, Wire},
};
use crate::inbox::{
    faults::{Outcome, Phase, Recipient},
    store::Arrival,
};

/// A larger buffer is given back after its mail.
const KEPT_BUFFER: usize = 256 * 1024;

/// The envelope gathered so far.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    from: Option<String>,
    smtputf8: bool,
    recipients: Vec<Recipient>,
}

impl Transaction {
    pub(super) fn is_open(&self) -> bool {
        self.from.is_some()
    }

    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Session<'_> {
    pub(super) async fn mail<S: Stream>(
        &mut self,
        wire: &mut Wire<S>,
        mail: Mail<'_>,
    ) -> io::Result<Flow> {
        if let Some(refusal) = self.objection(mail) {
            return Ok(self.refuse(wire, refusal));
        }
        if let Some(flow) = self.fault(wire, Phase::Mail, &[]).await? {
            return Ok(flow);
        }
        self.transaction = Transaction {
            from: Some(mail.from.to_owned()),
            smtputf8: mail.smtputf8,
            recipients: Vec::new(),
        };
        wire.reply(250, "2.1.0 Ok");
        Ok(Flow::Continue)
    }

    fn objection(&self, mail: Mail<'_>) -> Option<Refusal> {
        let options = &self.shared.options;
        let not_offered = mail.smtputf8 && !options.offers("SMTPUTF8")
            || mail.eight_bit && !options.offers("8BITMIME")
            || mail.size.is_some() && !options.offers("SIZE");
        if self.client.helo.is_empty() {
            Some(Refusal(503, "5.5.1 Send EHLO first"))
        } else if options.require_auth && self.client.user.is_none() {
            Some(Refusal(530, "5.7.0 Authentication required"))
        } else if self.transaction.is_open() {
            Some(Refusal(503, "5.5.1 Nested MAIL command"))
        } else if not_offered {
            Some(Refusal(
                555,
                "5.5.4 Parameter not recognized or not implemented",
            ))
        } else if mail
            .size
            .is_some_and(|size| size > options.max_message_size as u64)
        {
            Some(Refusal(552, "5.3.4 Message size exceeds the limit"))
        } else if !mail.from.is_ascii() && !mail.smtputf8 {
            Some(Refusal(553, "5.6.7 This address needs SMTPUTF8"))
        } else {
            None
        }
    }

    pub(super) async fn rcpt<S: Stream>(
        &mut self,
        wire: &mut Wire<S>,
        to: &str,
    ) -> io::Result<Flow> {
        if !self.transaction.is_open() {
            return Ok(self.refuse(wire, Refusal(503, "5.5.1 Send MAIL first")));
        }
        if !to.is_ascii() && !self.transaction.smtputf8 {
            return Ok(self.refuse(wire, Refusal(553, "5.6.7 This address needs SMTPUTF8")));
        }
        if self.transaction.recipients.len() >= self.shared.options.max_recipients {
            wire.reply(452, "4.5.3 Too many recipients");
            return Ok(Flow::Continue);
        }
        let recipient = Recipient::new(to.to_owned());
        if let Some(flow) = self
            .fault(wire, Phase::Rcpt, std::slice::from_ref(&recipient))
            .await?
        {
            return Ok(flow);
        }
        self.transaction.recipients.push(recipient);
        wire.reply(250, "2.1.5 Ok");
        Ok(Flow::Continue)
    }

    pub(super) async fn data<S: Stream>(&mut self, wire: &mut Wire<S>) -> io::Result<Flow> {
        if !self.transaction.is_open() {
            return Ok(self.refuse(wire, Refusal(503, "5.5.1 Send MAIL first")));
        }
        if self.transaction.recipients.is_empty() {
            return Ok(self.refuse(wire, Refusal(554, "5.5.1 No valid recipients")));
        }
        if let Some(flow) = self
            .fault(wire, Phase::Data, &self.transaction.recipients)
            .await?
        {
            return Ok(flow);
        }
        wire.reply(354, "End data with <CR><LF>.<CR><LF>");

        let options = &self.shared.options;
        let mut decoder = Decoder::new(options.max_message_size, options.max_text_line);
        self.body.clear();
        if !wire.body(&mut decoder, &mut self.body).await? {
            return Ok(Flow::Close);
        }
        let flow = match decoder.unfit() {
            None => self.settle(wire).await?,
            Some(unfit) => {
                self.transaction.reset();
                let (code, text) = match unfit {
                    Unfit::TooLarge => (552, "5.3.4 Message size exceeds the limit"),
                    Unfit::LineTooLong => (554, "5.6.0 Line too long (RFC 5321, 4.5.3.1.6)"),
                };
                wire.reply(code, text);
                Flow::Continue
            }
        };
        if self.body.capacity() > KEPT_BUFFER {
            self.body = Vec::new();
        }
        Ok(flow)
    }

    /// Answers the final dot. A delayed mail is stored before the wait: a client that gives up on it meanwhile
    /// meets the case that SMTP can't rule out, a mail accepted without the sender's knowledge.
    async fn settle<S: Stream>(&mut self, wire: &mut Wire<S>) -> io::Result<Flow> {
        let verdict = self
            .shared
            .faults
            .judge(Phase::Dot, &self.transaction.recipients);
        let mail = std::mem::take(&mut self.transaction);
        let id = matches!(verdict.outcome, None | Some(Outcome::StoreThenDrop)).then(|| {
            self.shared.store.add(Arrival {
                from: mail.from.unwrap_or_default(),
                to: mail
                    .recipients
                    .into_iter()
                    .map(|recipient| recipient.address)
                    .collect(),
                body: &self.body,
                client: Arc::clone(&self.client),
            })
        });
        wait(wire, verdict.delay).await?;
        match (verdict.outcome, id) {
            (None, Some(id)) => {
                wire.reply(250, &format!("2.0.0 Ok: queued as {id}"));
                Ok(Flow::Continue)
            }
            (Some(outcome), _) => misbehave(wire, outcome).await,
            (None, None) => Ok(Flow::Close),
        }
    }
}

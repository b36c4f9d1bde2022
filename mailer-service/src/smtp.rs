//! Handing mails to an SMTP relay.
//!
//! One mail has one envelope recipient, and one call of [`Sender::send`] is one attempt at it. What must
//! stay true: a mail is never reported as not taken when it may have been (that is
//! [`Class::UnknownOutcome`]); a connection that had gone stale in the pool costs neither a mail nor an
//! attempt; a caller that goes away leaves no half-used connection behind; no log line and no error
//! holds a mail address.
//!
//! lettre builds the mails and speaks the protocol; connections are ours ([`pool`], [`wire`]), since its
//! pool sends about 22 mails a second on a connection, for want of `TCP_NODELAY`.
//!
//! # Outcomes
//!
//! By RFC 5321, 4.2.1 the first digit of a reply decides; enhanced codes are RFC 3463.
//!
//! | What happened | Code | Class |
//! |---|---|---|
//! | DNS, TCP, or the relay hung up before its greeting | `smtp_connect_failed` | `Retry` |
//! | 4xx or 5xx to the greeting, EHLO or RSET: not about the mail | `smtp_relay_refused` | `Retry` |
//! | TLS handshake broken off, STARTTLS refused | `smtp_tls_failed` | `Retry` |
//! | certificate not trusted, STARTTLS not offered | `smtp_tls_failed` | `RetryAfter` 300 s |
//! | 4xx to AUTH | `smtp_auth_failed` | `Retry` |
//! | 5xx to AUTH, no mechanism, 530/534/535/538 anywhere: our setup, not the mail | `smtp_auth_failed` | `RetryAfter` 300 s |
//! | no free connection before the deadline | `smtp_busy` | `Retry` |
//! | a phase took too long before the final dot | `smtp_timeout` | `Retry` |
//! | I/O error or end before the final dot | `smtp_connection_lost` | `Retry` |
//! | a reply that does not fit or does not parse, before the final dot | `smtp_protocol_error` | `Retry` |
//! | 421 anywhere: the relay is closing | `smtp_421` | `Retry` |
//! | 450 or 451 with 4.7.1 or a text about greylisting | `smtp_greylisted` | `RetryAfter` 300 s |
//! | other 4xx to MAIL, RCPT, DATA or the mail | `smtp_temporary` | `Retry` |
//! | 5xx to MAIL, RCPT, DATA or the mail | `smtp_permanent` | `Fail` |
//! | larger than the relay's SIZE | `smtp_message_too_large` | `Fail` |
//! | an address needs SMTPUTF8, the relay lacks it | `smtp_smtputf8_unsupported` | `Fail` |
//! | the right to begin ended while it waited for a connection, or for its record before the mail itself | `smtp_not_begun` | `NotBegun` |
//! | the relay's rate, or that of the recipient's domain, leaves no room now | `smtp_relay_rate`, `smtp_domain_slowed` | `PutOff` |
//! | the payload makes no mail | `mail_not_buildable` | `Fail` |
//! | the machine could not sign it | `mail_not_signed` | `Retry` |
//! | time-out, I/O error or an odd reply once the final dot may have left | `smtp_outcome_unknown` | `UnknownOutcome` |
//!
//! After a `RetryAfter` on the way in (TLS, AUTH) the relay is left alone for 30 s: further mails get the
//! same answer at once, so that a wrong password is not tried for every mail.
//!
//! # Metrics
//!
//! `warren_smtp_mails_total{relay,outcome=sent|retry|failed|unknown}`, `warren_smtp_send_seconds{relay}`,
//! `warren_smtp_connections_total{relay}` and `warren_smtp_connections_open{relay}`. The recorder must be
//! installed before [`Sender::new`].

pub mod build;
mod connection;
pub mod dkim;
mod error;
mod metrics;
mod offers;
mod pool;
mod reply;
mod route;
mod settings;
mod tls;
mod transaction;
mod wire;

pub use self::error::{Class, SendError, code};

use self::{
    build::{BuildError, BuildOptions},
    pool::{Lease, Pool},
    settings::ReturnPath,
    transaction::{After, Envelope},
};
use crate::{
    pace::{self, Pace, Turn},
    permit::Permit,
    setup::{SetupError, wrong},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use shared::{
    config::Config,
    kinds::{EmailSend, EmailSent},
    task::TaskId,
};
use std::sync::Arc;
use tokio::time::Instant;

/// Sends mails through the configured relays; one for the whole process.
pub struct Sender {
    /// In the order of their names.
    relays: Vec<Arc<Pool>>,
    options: BuildOptions,
    /// Where bounces go; none: to the sender.
    return_path: Option<ReturnPath>,
    /// None: nothing is limited.
    pace: Option<Pace>,
}

/// One mail of one task.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    pub task_id: TaskId,
    /// The prepared payload: `from` and `recipient` are filled in.
    pub mail: &'a EmailSend,
    /// What its attachments hold, in their order.
    pub files: &'a [Bytes],
    /// When the mail was scheduled for; its Date.
    pub not_before: Option<DateTime<Utc>>,
    /// Whether the mail may still begin when its turn has come.
    pub permit: &'a dyn Permit,
}

impl Sender {
    /// Checks the configuration: names, credentials, certificate authorities. Connects to nothing.
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        let mail = &config.mail;
        let relays: Vec<_> = settings::relays(mail)?.into_iter().map(Pool::new).collect();
        if relays.is_empty() {
            return Err(wrong("mail.relays", "must hold at least one relay"));
        }
        Ok(Self {
            relays,
            options: settings::build_options(config)?,
            return_path: settings::return_path(config)?,
            pace: None,
        })
    }

    /// Mails keep to that pace, and connections to this process's share. Must be called in a tokio runtime.
    #[must_use]
    pub fn paced_by(self, pace: Pace) -> Self {
        for relay in &self.relays {
            relay.share(pace.mailers());
        }
        let pace = Some(pace);
        Self { pace, ..self }
    }

    /// Makes one attempt at handing the mail over, which ends at `deadline` at the latest.
    ///
    /// A caller that drops this future gives up its connection and its turn, and nothing else; but whether
    /// the mail was taken it can't know then. The deadline is the better way to bound an attempt.
    pub async fn send(
        &self,
        outgoing: &Outgoing<'_>,
        deadline: Instant,
    ) -> Result<EmailSent, SendError> {
        let domain = outgoing.mail.recipient.as_ref();
        let domain = domain.map(|recipient| pace::domain(recipient.domain()));
        if let Some(domain) = &domain {
            let text = "the recipient's domain has asked for fewer mails";
            self.wait_for(domain.clone(), outgoing, (code::DOMAIN_SLOWED, text))
                .await?;
        }
        let mut said: Option<SendError> = None;
        // The source of chance must not be held while a mail is sent.
        let relays = route::order(&self.relays, &mut rand::rng());
        for relay in relays {
            let text = "the relay's rate leaves no room (mail.relays.*.rate_per_s)";
            let gate = pace::relay(&relay.settings.name);
            if let Err(error) = self
                .wait_for(gate, outgoing, (code::RELAY_RATE, text))
                .await
            {
                said = Some(match said {
                    Some(before) => route::milder(before, error),
                    None => error,
                });
                continue;
            }
            let started = Instant::now();
            let outcome = self.attempt(&relay, outgoing, deadline).await;
            relay.metrics.mail(&outcome, started.elapsed());
            if let (Err(error), Some(pace), Some(domain)) = (&outcome, &self.pace, &domain)
                && error.asks_for_less()
            {
                pace.slow(domain.clone());
            }
            match outcome {
                Err(error) if route::is_about_the_relay(&error) => {
                    if relay.health.failed(Instant::now()) && self.relays.len() > 1 {
                        tracing::warn!(
                            smtp.relay = relay.settings.name,
                            smtp.code = error.code,
                            "the relay is asked last for a while, since it lets no mail in"
                        );
                    }
                    said = Some(match said {
                        Some(before) => route::milder(before, error),
                        None => error,
                    });
                }
                outcome => {
                    if outcome.is_ok() {
                        relay.health.succeeded();
                    }
                    return outcome;
                }
            }
        }
        Err(said.unwrap_or_else(SendError::not_begun))
    }

    /// Until the mail may pass that gate; an error where that takes longer than a moment.
    async fn wait_for(
        &self,
        gate: String,
        outgoing: &Outgoing<'_>,
        (code, text): (&'static str, &str),
    ) -> Result<(), SendError> {
        let Some(pace) = &self.pace else {
            return Ok(());
        };
        match pace.turn(gate).await {
            Turn::In(wait) if wait.is_zero() => Ok(()),
            Turn::In(wait) => {
                let waiting = tokio::time::sleep(wait);
                let withdrawn = outgoing.permit.withdrawn();
                let waited = withdrawn.run_until_cancelled(waiting).await;
                waited.ok_or_else(SendError::not_begun)
            }
            Turn::Later(wait) => Err(SendError::put_off(wait, code, text)),
        }
    }

    async fn attempt(
        &self,
        relay: &Arc<Pool>,
        outgoing: &Outgoing<'_>,
        deadline: Instant,
    ) -> Result<EmailSent, SendError> {
        let Outgoing {
            task_id,
            mail,
            files,
            not_before,
            permit,
        } = *outgoing;
        let message_id = build::message_id(task_id, mail, &self.options)?;
        let message = build::build(task_id, mail, files, not_before, &self.options)?;
        let from = mail.from.as_ref().ok_or(BuildError::Missing("sender"))?;
        let own = self.return_path.as_ref();
        let own = own.and_then(|path| path.of(task_id));
        let envelope = Envelope {
            from: own.as_ref().unwrap_or(&from.address),
            to: mail
                .recipient
                .as_ref()
                .ok_or(BuildError::Missing("recipient"))?,
            message: &message,
        };
        let turn = permit.withdrawn().run_until_cancelled(relay.take(deadline));
        let lease = turn.await.ok_or_else(SendError::not_begun)??;
        if !permit.is_held() {
            lease.give_back();
            return Err(SendError::not_begun());
        }
        let reply = transmit(lease, relay, &envelope, permit, deadline).await?;
        Ok(EmailSent {
            message_id,
            relay: relay.settings.name.clone(),
            reply,
        })
    }

    /// Ends all idle connections with QUIT, waiting 2 s at most, and lets no further mail start.
    pub async fn close(&self) {
        futures_util::future::join_all(self.relays.iter().map(|relay| relay.close())).await;
    }
}

async fn transmit(
    mut lease: Lease,
    relay: &Pool,
    envelope: &Envelope<'_>,
    permit: &dyn Permit,
    deadline: Instant,
) -> Result<String, SendError> {
    loop {
        match lease
            .connection
            .send(envelope, permit, relay.settings.timeouts, deadline)
            .await
        {
            Ok(reply) => {
                lease.give_back();
                return Ok(reply);
            }
            // A renewed connection is not a reused one, so this happens once.
            Err(refusal) if refusal.stale && lease.reused => {
                lease = Box::pin(lease.renew(deadline)).await?;
            }
            Err(refusal) => {
                match refusal.connection {
                    After::Reuse => lease.give_back(),
                    After::Reset => lease.reset_and_give_back(),
                    After::Drop => drop(lease),
                }
                return Err(refusal.error);
            }
        }
    }
}

impl From<BuildError> for SendError {
    fn from(error: BuildError) -> Self {
        let (class, code) = match error {
            BuildError::Unsigned => (Class::Retry, code::NOT_SIGNED),
            _ => (Class::Fail, code::NOT_BUILDABLE),
        };
        Self::new(class, code, error.to_string())
    }
}

#[cfg(test)]
mod tests;

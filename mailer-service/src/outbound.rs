//! Calls to other people's HTTP endpoints.
//!
//! One [`Client::call`] is one attempt. What must stay true: no connection is made to an address that the guard has
//! not let through, redirects included ([`connect`]); a call is never reported as not made when the endpoint may have
//! acted on it; no log line and no error holds more of a URL than its host, and none holds a header, a body or a
//! secret; nothing that an endpoint sends is read without bound.
//!
//! # Outcomes
//!
//! An answer of any status is an [`Answer`]. Otherwise, *if a repeat is harmless* (GET, PUT, DELETE) the class is `Retry`
//! in place of `UnknownOutcome`:
//!
//! | What happened | Code | Class |
//! |---|---|---|
//! | the address is not public and not allowed | `http_address_refused` | `Fail` |
//! | plain http or a port that the configuration does not allow | `http_url_refused` | `Fail` |
//! | the name could not be looked up | `http_dns` | `Retry` |
//! | no TCP connection | `http_connect` | `Retry` |
//! | no TLS, or a certificate that is not trusted | `http_tls` | `Retry` |
//! | our own authorities can't be read | `http_tls` | `RetryAfter` 300 s |
//! | no place among `outbound.max_calls` before the deadline | `http_busy` | `Retry` |
//! | time was up before the request was sent | `http_timeout` | `Retry` |
//! | a redirect that is not followed: too many, to http, to no URL | `http_redirect` | `Fail` |
//! | the secret is not in this worker's configuration | `http_secret_missing` | `RetryAfter` 300 s |
//! | the request can't be built | `http_not_buildable` | `Fail` |
//! | the right to begin ended first | `http_not_begun` | `NotBegun` |
//! | no answer in time, once the request may have left | `http_outcome_unknown`, `http_timeout` | `UnknownOutcome` |
//! | the connection broke then | `http_outcome_unknown`, `http_connection_lost` | `UnknownOutcome` |
//! | an answer that is not HTTP | `http_outcome_unknown`, `http_protocol_error` | `UnknownOutcome` |
//!
//! # Metrics
//!
//! `warren_outbound_calls_total{outcome}` (`2xx` to `5xx`, or the code), `warren_outbound_call_seconds`,
//! `warren_outbound_connections_total` and `warren_outbound_connections_open`.

mod answer;
mod attempt;
mod connect;
mod error;
mod pool;
mod redirect;
mod request;
mod resolve;
mod sign;

pub use self::{
    answer::{Answer, Ending, retry_after},
    error::{CallError, Class, code},
    redirect::is_redirect,
    request::{Call, Signature},
    resolve::Resolve,
};

use self::{attempt::Attempt, connect::Connector, pool::Pool, resolve::System, sign::Signer};
use crate::{
    permit::Permit,
    setup::{SetupError, wrong},
    tls,
};
use hyper::header::HeaderValue;
use rustls::RootCertStore;
use shared::{
    config::{self, ConfigError},
    outbound::Guard,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::{OnceCell, Semaphore},
    time::{Instant, timeout_at},
};

/// Makes calls; one for the whole process. Until the first call it costs nothing.
pub struct Client {
    connector: Connector,
    pool: Arc<Pool>,
    signers: BTreeMap<String, Signer>,
    user_agent: HeaderValue,
    max_response_bytes: usize,
    max_retry_after: Duration,
    calls: Semaphore,
}

impl Client {
    /// Checks the configuration: networks, secrets, certificate authorities. Connects to nothing.
    pub fn new(outbound: &config::Outbound) -> Result<Self, SetupError> {
        Self::with_resolver(outbound, Box::new(System::new(outbound.max_lookups)))
    }

    /// The same with somebody else's answers to names.
    pub fn with_resolver(
        outbound: &config::Outbound,
        resolver: Box<dyn Resolve>,
    ) -> Result<Self, SetupError> {
        tls::add_file(
            &mut RootCertStore::empty(),
            &outbound.ca_file,
            "outbound.ca_file",
        )?;
        let user_agent = match outbound.user_agent.as_str() {
            "" => concat!("Warren/", env!("CARGO_PKG_VERSION")),
            own => own,
        };
        let signers = outbound.secrets.iter().map(|(name, secrets)| {
            let signer = Signer::new(secrets)
                .map_err(|error| wrong(format!("outbound.secrets.{name}"), error.to_string()))?;
            Ok((name.clone(), signer))
        });
        Ok(Self {
            connector: Connector {
                guard: Guard::new(outbound).map_err(|error| match error {
                    ConfigError::Value { key, detail } => wrong(key, detail),
                    ConfigError::Read(_) => wrong("outbound", "can't be read").caused_by(error),
                })?,
                resolver,
                ca_file: outbound.ca_file.clone(),
                connect_timeout: Duration::from_secs(outbound.connect_timeout_s),
                tls: OnceCell::new(),
            },
            pool: Pool::new(outbound.max_idle, Duration::from_secs(outbound.max_idle_s)),
            signers: signers.collect::<Result<_, SetupError>>()?,
            user_agent: HeaderValue::from_str(user_agent).map_err(|error| {
                wrong("outbound.user_agent", "must be visible ASCII characters").caused_by(error)
            })?,
            max_response_bytes: outbound.max_response_bytes,
            max_retry_after: Duration::from_secs(outbound.max_retry_after_s),
            calls: Semaphore::new(outbound.max_calls),
        })
    }

    /// Makes one attempt, which ends at `deadline` at the latest. It begins only while the permit is held; once the
    /// request is on the wire it is finished, unless a repeat is harmless.
    pub async fn call(
        &self,
        call: &Call<'_>,
        permit: &dyn Permit,
        deadline: Instant,
    ) -> Result<Answer, CallError> {
        let turn = permit
            .withdrawn()
            .run_until_cancelled(timeout_at(deadline, self.calls.acquire()))
            .await
            .ok_or_else(CallError::not_begun)?;
        let Ok(Ok(_place)) = turn else {
            let what = "no place for a further call came free in time (outbound.max_calls)";
            return Err(CallError::at(call.url, Class::Retry, code::BUSY, what));
        };
        let started = Instant::now();
        let attempt = Attempt {
            client: self,
            call,
            permit,
            until: deadline.min(started + call.timeout),
        };
        // Boxed, so that a call that waits for its place takes no room yet.
        let outcome = Box::pin(attempt.run()).await.map(|mut answer| {
            answer.took = started.elapsed();
            answer
        });
        count(&outcome, started.elapsed());
        outcome
    }

    /// The longest wait that an endpoint can ask for.
    pub const fn max_retry_after(&self) -> Duration {
        self.max_retry_after
    }

    /// Closes the connections that wait for further calls.
    pub fn close(&self) {
        self.pool.clear();
    }
}

fn count(outcome: &Result<Answer, CallError>, took: Duration) {
    let outcome = match outcome {
        Ok(answer) => match answer.status.as_u16() / 100 {
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => "other",
        },
        Err(error) => error.code,
    };
    metrics::counter!("warren_outbound_calls_total", "outcome" => outcome).increment(1);
    metrics::histogram!("warren_outbound_call_seconds").record(took.as_secs_f64());
}

#[cfg(test)]
mod tests;

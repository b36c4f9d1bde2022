//! One attempt at a call: connect, ask, follow redirects, read.

use super::{
    Client,
    answer::{Answer, Ending, read_body},
    connect::Connection,
    error::{CallError, Class, code},
    redirect::{self, Hop},
    request::Call,
    sign::Signer,
};
use crate::permit::Permit;
use chrono::Utc;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
};
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// A worker that has not got the secret yet may get it with the next rollout.
const SECRET_WAIT: Duration = Duration::from_secs(300);

/// How long a connection may take to be free again after its answer.
const KEEP_WAIT: Duration = Duration::from_millis(250);

pub(super) struct Attempt<'a> {
    pub(super) client: &'a Client,
    pub(super) call: &'a Call<'a>,
    pub(super) permit: &'a dyn Permit,
    pub(super) until: Instant,
}

impl Attempt<'_> {
    pub(super) async fn run(&self) -> Result<Answer, CallError> {
        let signer = self.signer()?;
        let mut hop = self.call.first_hop();
        let mut redirects = 0;
        // An endpoint that answered 303 has acted already.
        let mut has_acted = false;
        loop {
            let asked = self.ask(&hop, signer, has_acted).await;
            let (connection, response) = match asked {
                Err(error) if has_acted => return Err(self.after_acting(error)),
                asked => asked?,
            };
            let (head, body) = response.into_parts();
            if self.call.max_redirects > 0 && redirect::is_redirect(head.status, &head.headers) {
                if redirects == self.call.max_redirects {
                    let what = format!("more than {redirects} redirects");
                    return Err(CallError::at(&hop.url, Class::Fail, code::REDIRECT, &what));
                }
                let next = redirect::next(&hop, head.status, &head.headers)?;
                has_acted |= next.method != hop.method;
                redirects += 1;
                hop = next;
                continue;
            }
            let (body, ending) = read_body(body, self.client.max_response_bytes, self.until).await;
            if ending == Ending::Whole {
                self.keep(&hop, connection).await;
            }
            return Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
                ending,
                redirects,
                has_acted,
                took: Duration::ZERO,
            });
        }
    }

    /// Keeps the connection for a further call, unless the endpoint closes it or is still being told what it has answered.
    async fn keep(&self, hop: &Hop, mut connection: Connection) {
        if let Ok(Ok(())) = timeout(KEEP_WAIT, connection.sender.ready()).await {
            self.client.pool.put(hop.url.origin(), connection);
        }
    }

    fn signer(&self) -> Result<Option<&Signer>, CallError> {
        let Some(signature) = self.call.signature else {
            return Ok(None);
        };
        let signer = self.client.signers.get(signature.secret).ok_or_else(|| {
            let text =
                "this worker's configuration has no signing secret of that name (outbound.secrets)";
            CallError::new(Class::RetryAfter(SECRET_WAIT), code::SECRET_MISSING, text)
        })?;
        Ok(Some(signer))
    }

    /// Sends the request of a hop; returns the answer's head, its body unread.
    async fn ask(
        &self,
        hop: &Hop,
        signer: Option<&Signer>,
        has_acted: bool,
    ) -> Result<(Connection, Response<Incoming>), CallError> {
        self.client
            .connector
            .guard
            .check_url(&hop.url)
            .map_err(|refusal| CallError::refused(&hop.url, refusal))?;
        let mut kept = self.client.pool.take(&hop.url.origin());
        loop {
            let is_kept = kept.is_some();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => self.connect(hop, has_acted).await?,
            };
            if !has_acted && !self.permit.is_held() {
                return Err(CallError::not_begun());
            }
            self.pass_point().await?;
            let now = Utc::now().timestamp();
            let request = self
                .call
                .request(hop, &self.client.user_agent, signer, now)?;
            match self.exchange(&mut connection, hop, request).await {
                Ok(response) => return Ok((connection, response)),
                // The endpoint had closed it while it was idle.
                Err(Lost { is_stale: true, .. }) if is_kept => {}
                Err(lost) => return Err(lost.error),
            }
        }
    }

    /// What must be on record before the endpoint can have acted; of a call's later requests it is.
    async fn pass_point(&self) -> Result<(), CallError> {
        let Some(recorded) = self.permit.point_of_no_return() else {
            return Ok(());
        };
        match timeout_at(self.until, recorded).await {
            Ok(true) => Ok(()),
            _ => Err(CallError::not_begun()),
        }
    }

    async fn connect(&self, hop: &Hop, has_acted: bool) -> Result<Connection, CallError> {
        // Boxed, since a call waits for its answer for longer than for its connection.
        let connecting = Box::pin(self.client.connector.connect(&hop.url, self.until));
        let connected = if has_acted {
            connecting.await
        } else {
            let withdrawn = self.permit.withdrawn();
            let connecting = withdrawn.run_until_cancelled(connecting).await;
            connecting.ok_or_else(CallError::not_begun)?
        };
        match connected {
            Err(error) if error.code == code::CONNECT && Instant::now() >= self.until => {
                Err(CallError {
                    code: code::TIMEOUT,
                    ..error
                })
            }
            connected => connected,
        }
    }

    async fn exchange(
        &self,
        connection: &mut Connection,
        hop: &Hop,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Lost> {
        let answer = timeout_at(self.until, connection.sender.try_send_request(request));
        let answer = if self.call.is_repeatable {
            let withdrawn = self.permit.withdrawn();
            withdrawn
                .run_until_cancelled(answer)
                .await
                .ok_or_else(|| Lost {
                    error: CallError::not_begun(),
                    is_stale: false,
                })?
        } else {
            answer.await
        };
        let Ok(answer) = answer else {
            let what = format!("no answer within {:?}", self.call.timeout);
            let error = self.unclear(hop, code::TIMEOUT, &what);
            return Err(Lost {
                error,
                is_stale: false,
            });
        };
        answer.map_err(|mut unsent| {
            let was_sent = unsent.take_message().is_none();
            let cause = unsent.into_error();
            let is_garbage = cause.is_parse();
            let error = match (was_sent, is_garbage) {
                (false, _) => {
                    let what = "the connection broke before the request was sent";
                    CallError::at(&hop.url, Class::Retry, code::CONNECTION_LOST, what)
                }
                (true, true) => self.unclear(hop, code::PROTOCOL_ERROR, "the answer is not HTTP"),
                (true, false) => self.unclear(
                    hop,
                    code::CONNECTION_LOST,
                    "the connection broke before an answer came",
                ),
            };
            Lost {
                error: error.caused_by(cause),
                is_stale: !was_sent || (self.call.is_repeatable && !is_garbage),
            }
        })
    }

    /// An end of which nobody can tell whether the endpoint has acted, unless a repeat is harmless.
    fn unclear(&self, hop: &Hop, code: &'static str, what: &str) -> CallError {
        if self.call.is_repeatable {
            return CallError::at(&hop.url, Class::Retry, code, what);
        }
        let what = format!("{what}; the endpoint may have acted on the request");
        CallError::at(
            &hop.url,
            Class::UnknownOutcome,
            code::OUTCOME_UNKNOWN,
            &what,
        )
    }

    /// The first endpoint took the request; what went wrong after its redirect does not undo that.
    fn after_acting(&self, error: CallError) -> CallError {
        if self.call.is_repeatable || error.class == Class::Fail {
            return error;
        }
        CallError {
            class: Class::UnknownOutcome,
            code: code::OUTCOME_UNKNOWN,
            text: format!(
                "{}; the endpoint before the redirect may have acted on the request",
                error.text
            ),
            source: error.source,
        }
    }
}

/// A request without an answer.
struct Lost {
    error: CallError,
    /// On a kept connection: to be asked again on a new one.
    is_stale: bool,
}

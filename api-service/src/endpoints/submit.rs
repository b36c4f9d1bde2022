//! From checked tasks to an answer: through the intake, under the request's Idempotency-Key if it has one.

use super::request::JsonBody;
use crate::{
    app::AppState,
    auth::Caller,
    budget::Reservation,
    intake::{Answer, Idempotency, IntakeError, NewTask, Outcome, Submission},
    problem::{Flaw, Problem, ProblemType},
    queries::idempotency,
};
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{StatusCode, header},
};
use sha2::{Digest, Sha256};
use shared::fields::FieldError;
use std::time::Duration;
use uuid::Uuid;

const HEADER: &str = "idempotency-key";
const LONGEST: usize = 255;

/// The problem of a request whose fields are wrong; unless it may only be that the templates could not be read yet.
pub(super) fn refusal(state: &AppState, errors: Vec<FieldError>) -> Problem {
    let names_template = |error: &FieldError| error.pointer.ends_with("/template/name");
    if !state.templates.are_known() && errors.iter().any(names_template) {
        return Problem::new(ProblemType::DatabaseUnavailable)
            .detail("The templates could not be read yet.");
    }
    Problem::fields(errors)
}

/// An Idempotency-Key and what it stands for.
#[derive(Debug, Clone)]
pub(super) struct IdempotencyKey {
    owner: Uuid,
    key: String,
    /// SHA-256 of method, path and body.
    request_hash: Vec<u8>,
}

impl IdempotencyKey {
    /// The request's, if it has one.
    pub(super) fn of(
        request: &HttpRequest,
        caller: &Caller,
        body: &JsonBody,
    ) -> Result<Option<Self>, Problem> {
        let Some(key) = request.headers().get(HEADER) else {
            return Ok(None);
        };
        let key = key
            .to_str()
            .ok()
            .filter(|key| {
                (1..=LONGEST).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
            })
            .ok_or_else(|| {
                let detail = "must be 1 to 255 visible ASCII characters";
                Problem::flaws(
                    ProblemType::InvalidHeader,
                    vec![Flaw::header(HEADER, detail)],
                )
            })?;
        let mut hash = Sha256::new();
        for part in [request.method().as_str(), request.path()] {
            hash.update(part);
            hash.update([0]);
        }
        hash.update(&body.0);
        Ok(Some(Self {
            owner: caller.key_id,
            key: key.to_owned(),
            request_hash: hash.finalize().to_vec(),
        }))
    }

    /// What is stored with the work, so that a repeat gets the same answer.
    pub(super) fn remembering(self, answer: Answer) -> Idempotency {
        Idempotency {
            api_key_id: self.owner,
            key: self.key,
            request_hash: self.request_hash,
            answer,
        }
    }

    /// A request that is refused now may have been accepted when it came first: its times may have passed,
    /// or limits changed. Then that answer is repeated instead of `refusal`.
    pub(super) async fn earlier_or(
        this: Option<Self>,
        state: &AppState,
        refusal: Problem,
    ) -> Result<HttpResponse, Problem> {
        let Some(this) = this else {
            return Err(refusal);
        };
        let looked_up = state
            .pool
            .run(move |connection| {
                idempotency::find(connection, this.owner, &this.key, &this.request_hash)
            })
            .await;
        match looked_up {
            Ok(Some(outcome)) => answered(outcome, None),
            Ok(None) | Err(_) => Err(refusal),
        }
    }
}

/// Stores the tasks and answers `answer`, or what was answered the first time. They count against the key's daily quota
/// when they are stored.
pub(super) async fn submit(
    state: &AppState,
    caller: &Caller,
    idempotency: Option<IdempotencyKey>,
    tasks: Vec<NewTask>,
    answer: Answer,
) -> Result<HttpResponse, Problem> {
    let reservation = match reserve(state, caller, tasks.len() as u64).await {
        Ok(reservation) => reservation,
        Err(refusal) => return IdempotencyKey::earlier_or(idempotency, state, refusal).await,
    };
    let idempotency = idempotency.map(|key| key.remembering(answer.clone()));
    let submission = Submission { tasks, idempotency };
    let outcome = state.intake.submit(submission).await;
    if let Some(reservation) = reservation
        && stored_nothing(&outcome)
    {
        reservation.give_back();
    }
    answered(outcome?, Some(answer))
}

/// Takes so many tasks from the key's daily quota; none: it has none.
pub(super) async fn reserve(
    state: &AppState,
    caller: &Caller,
    tasks: u64,
) -> Result<Option<Reservation>, Problem> {
    let Some(budget) = &caller.budget else {
        return Ok(None);
    };
    let patience = Duration::from_millis(state.config.accept.patience_ms);
    Ok(budget.reserve(tasks, patience).await?)
}

fn stored_nothing(outcome: &Result<Outcome, IntakeError>) -> bool {
    match outcome {
        Ok(Outcome::Stored) | Err(IntakeError::Unavailable) => false,
        Ok(Outcome::Replayed(_) | Outcome::KeyReused)
        | Err(IntakeError::Full | IntakeError::Refused(_) | IntakeError::Stopping) => true,
    }
}

pub(super) fn answered(outcome: Outcome, stored: Option<Answer>) -> Result<HttpResponse, Problem> {
    match (outcome, stored) {
        (Outcome::Stored, Some(answer)) => Ok(respond(answer, false)),
        (Outcome::Replayed(answer), _) => Ok(respond(answer, true)),
        (Outcome::KeyReused, _) => Err(Problem::new(ProblemType::IdempotencyKeyReused)),
        (Outcome::Stored, None) => Err(Problem::new(ProblemType::Internal)),
    }
}

fn respond(answer: Answer, is_replayed: bool) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::ACCEPTED);
    let mut response = HttpResponseBuilder::new(status);
    response.insert_header((header::CONTENT_TYPE, "application/json"));
    if let Some(location) = answer.location {
        response.insert_header((header::LOCATION, location));
    }
    if is_replayed {
        response.insert_header(("idempotency-replayed", "true"));
    }
    response.body(answer.body)
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Full => Self::new(ProblemType::Overloaded),
            IntakeError::Stopping => Self::new(ProblemType::Stopping),
            IntakeError::Unavailable => Self::new(ProblemType::DatabaseUnavailable),
            // The intake has logged the cause.
            IntakeError::Refused(_) => Self::new(ProblemType::Internal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::{test::TestRequest, web::Bytes};

    fn key(
        path: &str,
        header: &str,
        body: &'static str,
    ) -> Result<Option<IdempotencyKey>, Problem> {
        let request = TestRequest::post()
            .uri(path)
            .insert_header((HEADER, header))
            .to_http_request();
        let caller = Caller {
            key_id: Uuid::nil(),
            name: "test".into(),
            scopes: crate::auth::Scopes::ALL,
            budget: None,
        };
        IdempotencyKey::of(
            &request,
            &caller,
            &JsonBody(Bytes::from_static(body.as_bytes())),
        )
    }

    #[test]
    fn the_hash_covers_path_and_body() {
        let hash = |path, body| key(path, "k", body).unwrap().unwrap().request_hash;
        assert_eq!(hash("/a", "{}"), hash("/a", "{}"));
        assert_ne!(hash("/a", "{}"), hash("/b", "{}"));
        assert_ne!(hash("/a", "{}"), hash("/a", "{ }"));
    }

    #[test]
    fn keys_are_visible_ascii() {
        assert!(key("/", "550e8400-e29b-41d4-a716-446655440000", "{}").is_ok());
        assert!(key("/", &"k".repeat(255), "{}").is_ok());
        for wrong in ["", "a b", "é", &"k".repeat(256)] {
            let problem = key("/", wrong, "{}").unwrap_err();
            assert_eq!(problem.errors()[0].header, Some(HEADER), "{wrong}");
        }
    }

    #[test]
    fn the_intake_refuses_with_a_remedy() {
        for (error, kind) in [
            (IntakeError::Full, ProblemType::Overloaded),
            (IntakeError::Stopping, ProblemType::Stopping),
            (IntakeError::Unavailable, ProblemType::DatabaseUnavailable),
        ] {
            let problem = Problem::from(error);
            assert_eq!(problem.kind, kind);
            assert!(kind.retry_after().is_some());
        }
    }

    #[test]
    fn a_replay_says_so() {
        let answer = Answer {
            status: 202,
            location: Some("/x".into()),
            body: "{}".into(),
        };
        let response = answered(Outcome::Replayed(answer), None).unwrap();
        assert_eq!(
            response.headers().get("idempotency-replayed").unwrap(),
            "true"
        );
        assert_eq!(response.headers().get("location").unwrap(), "/x");
        assert!(answered(Outcome::KeyReused, None).is_err());
    }
}

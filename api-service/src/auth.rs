//! Who calls. Endpoints behind [`require_key`] are closed to everybody without a valid API key; those that
//! are open stand outside of it, by name, in [`crate::endpoints`].

mod key;
mod ring;
mod scope;

pub(crate) use key::generate;
pub use key::{ApiKey, KeyHash};
pub use ring::{KeyRing, KnownKey, Unknown};
pub use scope::{Scope, Scopes};

use crate::{
    app::AppState,
    budget::Budget,
    problem::{Problem, ProblemType},
};
use actix_web::{
    Error, FromRequest, HttpMessage, HttpRequest,
    body::MessageBody,
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::header::{self, HeaderMap},
    middleware::Next,
    web::Data,
};
use std::{
    future::{Ready, ready},
    sync::Arc,
};
use uuid::Uuid;

/// The API key that a request came with.
#[derive(Debug, Clone)]
pub struct Caller {
    pub key_id: Uuid,
    pub name: Arc<str>,
    pub scopes: Scopes,
    /// What it may use; none: it has no limits.
    pub budget: Option<Arc<Budget>>,
}

impl Caller {
    fn of(request: &HttpRequest, scope: Scope) -> Result<Self, Problem> {
        // Absent only if an endpoint was put outside of `require_key`: then nobody may use it.
        let caller = request.extensions().get::<Self>().cloned();
        let caller = caller.ok_or_else(|| Problem::new(ProblemType::MissingKey))?;
        if caller.scopes.allow(scope) {
            return Ok(caller);
        }
        Err(Problem::new(ProblemType::InsufficientScope)
            .detail(format!("This needs a key with the scope `{scope}`.")))
    }
}

macro_rules! callers {
    ($($(#[$doc:meta])* $name:ident = $scope:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(pub Caller);

        impl FromRequest for $name {
            type Error = Problem;
            type Future = Ready<Result<Self, Problem>>;

            fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
                ready(Caller::of(request, Scope::$scope).map(Self))
            }
        }
    )*};
}

// Every endpoint behind `require_key` takes one of these, and so says what it needs; the metrics take any key.
callers! {
    /// May hand over work.
    Submitter = Submit;
    /// May ask for verification codes and check them.
    Verifier = Verify;
    /// May look at tasks.
    Reader = Read;
    /// May change what becomes of tasks.
    Operator = Operate;
}

/// Lets a request pass if it carries a valid key, and tells the endpoint whose it is.
pub async fn require_key(
    state: Data<AppState>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse, Error> {
    let caller = match caller(&state, &request).await {
        Ok(caller) => caller,
        Err(problem) => return Ok(request.error_response(problem)),
    };
    let Some(budget) = caller.budget.clone() else {
        request.extensions_mut().insert(caller);
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let admitted = budget.admit().await;
    let mut response = match admitted {
        Ok(()) => {
            request.extensions_mut().insert(caller);
            next.call(request).await?.map_into_boxed_body()
        }
        Err(refusal) => request.error_response(Problem::from(refusal)),
    };
    budget.describe(admitted, response.headers_mut());
    Ok(response)
}

async fn caller(state: &AppState, request: &ServiceRequest) -> Result<Caller, Problem> {
    let hash = key(request.headers())?.hash();
    if let Some(caller) = state.keys.known(&hash) {
        return Ok(caller);
    }
    state
        .keys
        .find(&hash)
        .await
        .map_err(|unknown| match unknown {
            Unknown::Invalid => Problem::new(ProblemType::InvalidKey),
            Unknown::Unreadable => Problem::new(ProblemType::DatabaseUnavailable).detail(
                "This key has not been used since the database went away, so it can't be checked.",
            ),
        })
}

/// The key that a request was let in with, for answers that last: it may be revoked meanwhile.
pub fn key_hash(request: &HttpRequest) -> Result<KeyHash, Problem> {
    key(request.headers()).map(ApiKey::hash)
}

fn key(headers: &HeaderMap) -> Result<ApiKey<'_>, Problem> {
    let header = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| Problem::new(ProblemType::MissingKey))?;
    header
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .and_then(|(_, key)| ApiKey::parse(key.trim()))
        .ok_or_else(|| Problem::new(ProblemType::InvalidKey))
}

//! `POST /verifications/{id}/check`: a code is shown; and what is given for the right one.

use super::{is_right, not_found, sources::is_open, verification_id};
use crate::{
    app::AppState,
    auth::{Submitter, Verifier},
    endpoints::{
        request::{JsonBody, parse},
        tasks::resource::Timestamp,
    },
    problem::{Problem, ProblemSchema, ProblemType},
    queries::verifications::{self, Checked, Row},
};
use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chrono::{TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use shared::{fields::FieldError, verification::Receipt};
use uuid::Uuid;

const LONGEST_CODE: usize = 200;

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct CheckRequest {
    /// As the person has typed it; spaces, hyphens and small letters don't matter.
    #[schema(example = "492817")]
    code: String,
}

/// The address was proven.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Verified)]
pub struct Proof {
    id: Uuid,
    purpose: String,
    recipient: String,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    verified_at: Timestamp,
    /// To show elsewhere that it was; `POST /verifications/receipts` tells whether it is one. Null where it is looked at
    /// later, or by who may not check codes.
    receipt: Option<String>,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    receipt_expires_at: Option<Timestamp>,
}

impl Proof {
    /// With a receipt, which is valid for so long from the moment on in which the code was shown.
    pub(super) fn of(state: &AppState, row: Row, with_receipt: bool) -> Option<Self> {
        let verified_at = row.verified_at?;
        let seconds = state.config.verification.receipt_ttl_s.into();
        let receipt = Receipt {
            verification: row.id,
            purpose: row.purpose,
            recipient: row.recipient,
            verified_at,
            expires_at: verified_at + TimeDelta::seconds(seconds),
        };
        let is_valid = with_receipt && Utc::now() < receipt.expires_at;
        let token = is_valid.then(|| receipt.token(state.suppressions.peppers()));
        Some(Self {
            receipt: token.flatten(),
            id: receipt.verification,
            purpose: receipt.purpose,
            recipient: receipt.recipient,
            verified_at: Timestamp(verified_at),
            receipt_expires_at: is_valid.then_some(Timestamp(receipt.expires_at)),
        })
    }
}

/// Checks a code.
#[utoipa::path(
    post,
    path = "/api/v1/verifications/{id}/check",
    tag = "Verification",
    operation_id = "checkVerification",
    summary = "Check a code",
    description = "A try is counted before the code is compared; the right one is right once. Needs the scope `verify` or `submit`.",
    params(("id" = Uuid, Path, description = "The verification's id")),
    request_body = CheckRequest,
    responses(
        (status = 200, description = "It is right", body = Proof),
        (status = 404, description = "`verification-not-found`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 410, description = "`verification-over`: its time is over, its tries are used up, or it was used", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "`wrong-code`, with `tries_left`; `invalid-fields`", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 429, description = "`verification-locked`: too many wrong codes for this recipient and purpose in a day", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn check(
    state: Data<AppState>,
    Verifier(caller): Verifier,
    id: Path<String>,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    let id = verification_id(&id)?;
    let CheckRequest { code } = parse(&body.0)?;
    if code.is_empty() || code.len() > LONGEST_CODE {
        let detail = format!("must have 1 to {LONGEST_CODE} bytes");
        return Err(Problem::fields(vec![FieldError::new("/code", detail)]));
    }
    let checked = {
        let state = state.clone();
        let inner = state.clone();
        let work = move |connection: &mut _| {
            let right = |row: &Row| is_right(&inner, row, &code);
            verifications::check(connection, id, &inner.config.verification, &right)
        };
        state.pool.run(work).await?
    };
    match checked {
        Checked::Verified(row) => Proof::of(&state, *row, true)
            .map(|proof| HttpResponse::Ok().json(proof))
            .ok_or_else(|| super::not_configured("secrets.peppers")),
        Checked::Wrong(left) => Err(Problem::new(ProblemType::WrongCode)
            .detail(match left {
                0 => "That was the last try; POST …/resend sends another code.".to_owned(),
                1 => "1 try is left.".to_owned(),
                left => format!("{left} tries are left."),
            })
            .tries_left(left)),
        Checked::Over(why) => {
            let why = if is_open(&caller) {
                "It was used, its tries are used up, or its time is over."
            } else {
                why
            };
            Err(Problem::new(ProblemType::VerificationOver).detail(why))
        }
        Checked::Locked(seconds) => {
            Err(Problem::new(ProblemType::VerificationLocked).retry_after(seconds))
        }
        Checked::NotFound => Err(not_found()),
    }
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct ReceiptRequest {
    receipt: String,
}

/// What a receipt says.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = VerificationReceipt)]
pub struct ReceiptResource {
    verification: Uuid,
    purpose: String,
    recipient: String,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    verified_at: Timestamp,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    expires_at: Timestamp,
}

/// Reads a receipt.
#[utoipa::path(
    post,
    path = "/api/v1/verifications/receipts",
    tag = "Verification",
    operation_id = "readReceipt",
    summary = "Tell whether a receipt is one",
    description = "For a service that is shown one by a client. Needs the scope `submit`.",
    request_body = ReceiptRequest,
    responses(
        (status = 200, description = "It is, and is valid still", body = ReceiptResource),
        (status = 422, description = "`invalid-receipt`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn receipt(
    state: Data<AppState>,
    Submitter(_caller): Submitter,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    let ReceiptRequest { receipt } = parse(&body.0)?;
    let receipt = Receipt::of(&receipt, state.suppressions.peppers(), Utc::now())
        .ok_or_else(|| Problem::new(ProblemType::InvalidReceipt))?;
    Ok(HttpResponse::Ok().json(ReceiptResource {
        verification: receipt.verification,
        purpose: receipt.purpose,
        recipient: receipt.recipient,
        verified_at: Timestamp(receipt.verified_at),
        expires_at: Timestamp(receipt.expires_at),
    }))
}

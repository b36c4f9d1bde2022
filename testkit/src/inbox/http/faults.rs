//! `/api/v1/faults`: the fault rules, as a JSON list of [`FaultRule`].

use actix_web::{HttpResponse, Responder, delete, get, put, web};

use super::{ApiError, State};
use crate::inbox::FaultRule;

#[get("/api/v1/faults")]
pub(super) async fn list(state: State) -> impl Responder {
    web::Json(state.faults.rules())
}

/// Replaces all rules and answers with them.
#[put("/api/v1/faults")]
pub(super) async fn replace(state: State, body: web::Bytes) -> Result<impl Responder, ApiError> {
    let rules: Vec<FaultRule> = serde_json::from_slice(&body).map_err(ApiError::bad)?;
    state.faults.set(rules).map_err(ApiError::bad)?;
    Ok(web::Json(state.faults.rules()))
}

#[delete("/api/v1/faults")]
pub(super) async fn remove(state: State) -> Result<impl Responder, ApiError> {
    state.faults.set(Vec::new()).map_err(ApiError::bad)?;
    Ok(HttpResponse::NoContent())
}

//! Suppressions in bulk, as CSV (RFC 4180): what other services export comes in, and everything goes out.

use super::resource::SuppressionResource;
use crate::{
    app::AppState,
    auth::{Caller, Operator, Reader},
    endpoints::{
        request::{parameters, read_body, unknown_parameter},
        terms::parse_time,
    },
    problem::{Problem, ProblemSchema, ProblemType},
    queries::suppressions::{self, Filter},
};
use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Bytes, Data, Payload},
};
use chrono::Utc;
use csv::{ReaderBuilder, StringRecord, Writer};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use shared::{
    address::EmailAddress,
    category::Category,
    fields::FieldError,
    suppression::{ALL_CATEGORIES, Reason, rows::New},
};
use uuid::Uuid;

const BATCH: usize = 1000;
const PAGE: i64 = 1000;
/// Lines that are named.
const NAMED: usize = 100;
const COLUMNS: [&str; 5] = ["address", "category", "reason", "detail", "expires_at"];

/// What became of an import.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub struct SuppressionImport {
    /// Lines that were stored.
    stored: usize,
    /// Of them, those that were not there before.
    new: usize,
    /// Lines that were not stored.
    rejected: usize,
    /// The first 100 of them.
    errors: Vec<LineError>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct LineError {
    /// From 1; the header is the first.
    line: u64,
    detail: String,
}

/// Takes many suppressions.
#[utoipa::path(
    post,
    path = "/api/v1/suppressions/import",
    tag = "Mail",
    operation_id = "importSuppressions",
    summary = "Take many suppressions",
    description = "CSV with a header: `address`, and where wanted `category` (`*` or nothing: all), `reason`, `detail`, `expires_at`, in any order. Lines with a mistake are named and left out; the others are stored, in batches, so a request that breaks off has stored a part and can be repeated. At most mail.max_import_bytes (8 MiB by default). Needs the scope `operate`.",
    request_body(content = String, content_type = "text/csv", example = "address,category,reason\nada@example.com,marketing,unsubscribe\n"),
    responses(
        (status = 200, description = "What was stored", body = SuppressionImport),
        (status = 413, description = "`body-too-large`: nothing was stored", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-fields`: the header is not right, and nothing was stored", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn import(
    state: Data<AppState>,
    Operator(caller): Operator,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let media_type = request.headers().get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok());
    if !media_type.is_some_and(|text| {
        let name = text.split(';').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case("text/csv")
    }) {
        return Err(Problem::new(ProblemType::UnsupportedMediaType)
            .detail("The Content-Type must be text/csv."));
    }
    let body = read_body(
        payload,
        state.config.mail.max_import_bytes,
        "mail.max_import_bytes",
    )
    .await?;
    let mut reader = ReaderBuilder::new()
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(body.as_slice());
    let columns = Columns::of(reader.headers().map_err(|_| not_csv())?)?;
    let mut outcome = SuppressionImport::default();
    let mut batch = Vec::with_capacity(BATCH);
    let mut record = StringRecord::new();
    loop {
        let read = reader.read_record(&mut record);
        let line = record
            .position()
            .map_or_else(|| reader.position().line(), csv::Position::line);
        match read {
            Ok(false) => break,
            Ok(true) => match columns.row(&record, &caller) {
                Ok(new) => batch.push(new),
                Err(detail) => outcome.reject(line, detail),
            },
            Err(_) => outcome.reject(line, "is not UTF-8".into()),
        }
        if batch.len() >= BATCH {
            store(&state, std::mem::take(&mut batch), &mut outcome).await?;
        }
    }
    store(&state, batch, &mut outcome).await?;
    let stored = outcome.stored;
    state
        .pool
        .run(move |connection| suppressions::note_import(connection, stored, &caller))
        .await?;
    Ok(HttpResponse::Ok().json(outcome))
}

async fn store(
    state: &AppState,
    batch: Vec<New>,
    outcome: &mut SuppressionImport,
) -> Result<(), Problem> {
    if batch.is_empty() {
        return Ok(());
    }
    let (batch, new) = state
        .pool
        .run(move |connection| {
            let new = suppressions::import(connection, &batch)?;
            Ok((batch, new))
        })
        .await?;
    outcome.stored += batch.len();
    outcome.new += new;
    state
        .suppressions
        .note(batch.iter().map(|new| new.address.as_str()));
    Ok(())
}

impl SuppressionImport {
    fn reject(&mut self, line: u64, detail: String) {
        self.rejected += 1;
        if self.errors.len() < NAMED {
            self.errors.push(LineError { line, detail });
        }
    }
}

fn not_csv() -> Problem {
    bad_header("The first line can't be read as CSV in UTF-8.")
}

fn bad_header(detail: &str) -> Problem {
    Problem::fields(vec![FieldError::new("", detail)])
}

/// Where each column stands.
struct Columns([Option<usize>; 5]);

impl Columns {
    fn of(header: &StringRecord) -> Result<Self, Problem> {
        let mut places = [None; 5];
        for (at, name) in header.iter().enumerate() {
            let name = name.trim_start_matches('\u{feff}').to_ascii_lowercase();
            let column = COLUMNS.iter().position(|column| *column == name);
            let column = column.ok_or_else(|| {
                bad_header(&format!(
                    "The first line must name columns of {} only.",
                    COLUMNS.join(", ")
                ))
            })?;
            places[column] = Some(at);
        }
        if places[0].is_none() {
            return Err(bad_header("The first line must name the column address."));
        }
        Ok(Self(places))
    }

    fn row(&self, record: &StringRecord, caller: &Caller) -> Result<New, String> {
        let field = |column: usize| {
            let text = record.get(self.0[column]?)?;
            (!text.is_empty()).then_some(text)
        };
        let address = EmailAddress::parse(field(0).unwrap_or_default())
            .map_err(|error| format!("address {error}"))?;
        let category = match field(1) {
            None | Some(ALL_CATEGORIES) => None,
            Some(name) => Some(
                Category::parse(name)
                    .ok_or("category must be transactional, security, marketing or *")?,
            ),
        };
        let reason = match field(2) {
            None => Reason::Manual,
            Some(name) => Reason::parse(name).ok_or_else(|| {
                let names = Reason::ALL.map(Reason::as_str).join(", ");
                format!("reason must be one of {names}")
            })?,
        };
        let detail = field(3).map(str::to_owned);
        if detail
            .as_ref()
            .is_some_and(|text| text.len() > super::LONGEST_DETAIL || text.contains('\0'))
        {
            return Err(format!(
                "detail must be at most {} bytes, without NUL",
                super::LONGEST_DETAIL
            ));
        }
        let expires_at = field(4)
            .map(|text| parse_time(text).ok_or("expires_at must be a time of RFC 3339"))
            .transpose()?;
        if expires_at.is_some_and(|end| end <= Utc::now()) {
            return Err("expires_at must lie in the future".into());
        }
        Ok(New {
            address: address.canonical(),
            category,
            purpose: None,
            reason,
            detail,
            task: None,
            expires_at,
            created_by: caller.name.to_string(),
        })
    }
}

/// Gives all suppressions.
#[utoipa::path(
    get,
    path = "/api/v1/suppressions/export",
    tag = "Mail",
    operation_id = "exportSuppressions",
    summary = "Give all suppressions",
    description = "As CSV, in the form that the import takes, newest first; those of erased people are left out. Needs the scope `read`.",
    responses((status = 200, description = "All of them", body = String, content_type = "text/csv"))
)]
pub async fn export(
    state: Data<AppState>,
    _reader: Reader,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    if let Some((name, _)) = parameters(&request).first() {
        let flaw = unknown_parameter(name, &["none"]);
        return Err(Problem::flaws(ProblemType::InvalidParameters, vec![flaw]));
    }
    // The first page is read before the answer begins, so that an outage is a problem and no broken file.
    let first = page(&state, None).await?;
    let head = Bytes::from(format!("{}\n", COLUMNS.join(",")));
    let rest = stream::try_unfold(Some(first), move |page_now| {
        let state = state.clone();
        async move {
            let Some((text, below)) = page_now else {
                return Ok(None);
            };
            let next = match below {
                Some(below) => Some(page(&state, Some(below)).await?),
                None => None,
            };
            Ok::<_, actix_web::Error>(Some((Bytes::from(text), next)))
        }
    });
    let whole = stream::once(async move { Ok(head) }).chain(rest);
    Ok(HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header((
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"suppressions.csv\"",
        ))
        .streaming(whole))
}

/// Lines, and where the next page begins.
async fn page(state: &AppState, below: Option<Uuid>) -> Result<(Vec<u8>, Option<Uuid>), Problem> {
    let rows = state
        .pool
        .run(move |connection| suppressions::list(connection, &Filter::default(), below, PAGE))
        .await?;
    let is_full = rows.len() == usize::try_from(PAGE).unwrap_or(usize::MAX);
    let next = rows.last().map(|row| row.id).filter(|_| is_full);
    let mut writer = Writer::from_writer(Vec::new());
    // One for a purpose alone is not one that this form can tell.
    let told = rows.into_iter().filter(|row| row.purpose.is_empty());
    for row in told.map(SuppressionResource::from) {
        let Some(address) = row.address else { continue };
        let end = row.expires_at.map(|end| end.0.to_rfc3339());
        let line = [
            address.as_str(),
            row.category.as_deref().unwrap_or(ALL_CATEGORIES),
            &row.reason,
            row.detail.as_deref().unwrap_or_default(),
            end.as_deref().unwrap_or_default(),
        ];
        writer.write_record(line).map_err(Problem::internal)?;
    }
    let lines = writer.into_inner().map_err(Problem::internal)?;
    Ok((lines, next))
}

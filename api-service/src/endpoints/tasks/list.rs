//! `GET /tasks`: pages of tasks, newest first.

use super::{
    filter::{LONGEST_CODE, LONGEST_KIND, first_id},
    resource::TaskResource,
};
use crate::{
    app::AppState,
    auth::Reader,
    endpoints::{
        request::{parameters, unknown_parameter},
        terms::{check_tag, parse_time},
    },
    problem::{Flaw, Problem, ProblemSchema, ProblemType},
    queries::tasks::{self, Filter},
};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{
    config::{Config, InputLimits},
    task::{Queue, Status},
};
use uuid::Uuid;

const PARAMETERS: [&str; 10] = [
    "status",
    "kind",
    "queue",
    "tag",
    "error_code",
    "fingerprint",
    "created_after",
    "created_before",
    "cursor",
    "limit",
];
const DEFAULT_LIMIT: usize = 50;

/// Part of a list of tasks.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct TaskPage {
    /// Newest first, without their payloads. May be shorter than `limit` though there are more: go on until
    /// `next_cursor` is null.
    #[schema(value_type = Vec<TaskResource<'_>>)]
    items: Vec<TaskResource<'static>>,
    /// `cursor` of the next page; null: this was the last.
    next_cursor: Option<String>,
}

/// Lists tasks.
#[utoipa::path(
    get,
    path = "/api/v1/tasks",
    tag = "Tasks",
    operation_id = "listTasks",
    summary = "List tasks",
    description = "Newest first. Filters are combined with AND. A page takes bounded time however long history is, so it may be shorter than `limit`: go on until `next_cursor` is null.",
    params(
        ("status" = Option<String>, Query, description = "One or more, separated by commas", example = "PENDING,PROCESSING"),
        ("kind" = Option<String>, Query, example = "email.send"),
        ("queue" = Option<Queue>, Query),
        ("tag" = Option<Vec<String>>, Query, description = "Tasks that have this tag; repeated: that have all of them"),
        ("error_code" = Option<String>, Query, description = "The code of the latest error", example = "smtp_permanent"),
        ("fingerprint" = Option<String>, Query, description = "Of a group of `GET /dead-letters`"),
        ("created_after" = Option<DateTime<Utc>>, Query, description = "Accepted at that time or later; to the millisecond"),
        ("created_before" = Option<DateTime<Utc>>, Query, description = "Accepted before that time; to the millisecond"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, description = "At most that many; 50 when left out, at most http.max_page (200 by default)"),
    ),
    responses(
        (status = 200, description = "A page", body = TaskPage),
        (status = 400, description = "`invalid-parameters`", body = ProblemSchema, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    state: Data<AppState>,
    _reader: Reader,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let asked = Asked::of(parameters(&request), &state.config)?;
    let page = state
        .pool
        .run(move |connection| tasks::page(connection, &asked.filter, asked.limit))
        .await?;
    let answer = TaskPage {
        items: page.rows.into_iter().map(TaskResource::from).collect(),
        next_cursor: page.next.map(encode_cursor),
    };
    let body = serde_json::to_string(&answer).map_err(Problem::internal)?;
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .body(body))
}

#[derive(Debug, PartialEq, Eq)]
struct Asked {
    filter: Filter,
    limit: usize,
}

impl Asked {
    fn of(parameters: Vec<(String, String)>, config: &Config) -> Result<Self, Problem> {
        let max_page = usize::try_from(config.http.max_page.max(1)).unwrap_or(usize::MAX);
        let mut asked = Self {
            filter: Filter::default(),
            limit: DEFAULT_LIMIT.min(max_page),
        };
        let mut flaws = Vec::new();
        let mut cursor = None;
        for (name, value) in parameters {
            let read = match name.as_str() {
                "limit" => limit(&value, max_page).map(|limit| asked.limit = limit),
                "cursor" => read_cursor(&value).map(|id| cursor = Some(id)),
                _ => asked.filter.read(&name, value, &config.limits),
            };
            match read {
                Ok(()) => {}
                Err(Wrong::Unknown) => flaws.push(unknown_parameter(&name, &PARAMETERS)),
                Err(Wrong::Value(detail)) => flaws.push(Flaw::parameter(name, detail)),
            }
        }
        if !flaws.is_empty() {
            return Err(Problem::flaws(ProblemType::InvalidParameters, flaws));
        }
        // Both are upper bounds; the lower of them holds.
        asked.filter.below = [asked.filter.below, cursor].into_iter().flatten().min();
        Ok(asked)
    }
}

/// Why a parameter could not be read.
enum Wrong {
    Unknown,
    Value(String),
}

fn value<T>(read: Option<T>, detail: impl Into<String>) -> Result<T, Wrong> {
    read.ok_or_else(|| Wrong::Value(detail.into()))
}

impl Filter {
    fn read(&mut self, name: &str, text: String, limits: &InputLimits) -> Result<(), Wrong> {
        match name {
            "status" => {
                let statuses = text
                    .split(',')
                    .map(|one| Status::parse(one.trim()))
                    .collect();
                self.statuses = value(
                    statuses,
                    format!("must be of {}, separated by commas", names(Status::ALL)),
                )?;
            }
            "kind" => {
                let kind = (1..=LONGEST_KIND).contains(&text.len()) && !text.contains('\0');
                self.kind = Some(value(kind.then_some(text), "must be the name of a kind")?);
            }
            "queue" => {
                let queue = value(
                    Queue::parse(&text),
                    format!("must be one of {}", names(Queue::ALL)),
                )?;
                self.queue = Some(queue);
            }
            "tag" => {
                check_tag(&text, limits).map_err(Wrong::Value)?;
                if self.tags.len() == limits.max_tags {
                    let detail =
                        format!("may be given {} times (limits.max_tags)", limits.max_tags);
                    return Err(Wrong::Value(detail));
                }
                self.tags.push(text);
            }
            "error_code" | "fingerprint" => {
                let fits = (1..=LONGEST_CODE).contains(&text.len()) && !text.contains('\0');
                let text = value(fits.then_some(text), "must be a code of up to 100 bytes")?;
                if name == "error_code" {
                    self.error_code = Some(text);
                } else {
                    self.fingerprint = Some(text);
                }
            }
            "created_after" => self.from = Some(first_id(time(&text)?)),
            "created_before" => self.below = Some(first_id(time(&text)?)),
            _ => return Err(Wrong::Unknown),
        }
        Ok(())
    }
}

fn names<T: ToString>(all: &[T]) -> String {
    all.iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn limit(text: &str, max_page: usize) -> Result<usize, Wrong> {
    let limit = text
        .parse()
        .ok()
        .filter(|limit| (1..=max_page).contains(limit));
    value(limit, format!("must be 1 to {max_page} (http.max_page)"))
}

fn read_cursor(text: &str) -> Result<Uuid, Wrong> {
    value(decode_cursor(text), "must be the next_cursor of a page")
}

/// A place in a list, as callers see it.
pub(in crate::endpoints) fn encode_cursor(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

pub(in crate::endpoints) fn decode_cursor(text: &str) -> Option<Uuid> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    Uuid::from_slice(&bytes).ok()
}

fn time(text: &str) -> Result<DateTime<Utc>, Wrong> {
    value(
        parse_time(text),
        "must be a time of RFC 3339 with its offset, e.g. 2030-01-31T08:00:00Z (a + in an address is written %2B)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(parameters: &[(&str, &str)]) -> Result<Asked, Vec<String>> {
        let parameters = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = Config::with(&[]).unwrap();
        Asked::of(parameters.collect(), &config).map_err(|problem| {
            problem
                .errors()
                .iter()
                .filter_map(|flaw| flaw.parameter.clone())
                .collect()
        })
    }

    #[test]
    fn filters_are_read() {
        let Asked { filter, limit } = asked(&[
            ("status", "PENDING, FAILED"),
            ("queue", "mail"),
            ("tag", "a"),
            ("tag", "b"),
            ("limit", "200"),
        ])
        .unwrap();
        assert_eq!(filter.statuses, [Status::Pending, Status::Failed]);
        assert_eq!(filter.tags, ["a", "b"]);
        assert_eq!((filter.queue, limit), (Some(Queue::Mail), 200));
    }

    #[test]
    fn each_mistake_is_named() {
        let wrong = [
            ("status", "pending"),
            ("kind", ""),
            ("queue", "post"),
            ("tag", ""),
            ("created_after", "yesterday"),
            ("cursor", "x"),
            ("limit", "0"),
            ("limit", "201"),
            ("colour", "red"),
        ];
        let named = asked(&wrong).unwrap_err();
        assert_eq!(named, wrong.map(|(name, _)| name));
    }

    #[test]
    fn a_cursor_and_a_time_bound_the_page_together() {
        let cursor =
            |time: &str| URL_SAFE_NO_PAD.encode(first_id(parse_time(time).unwrap()).as_bytes());
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
        for (before, cursor) in [(early, cursor(late)), (late, cursor(early))] {
            let asked = asked(&[("created_before", before), ("cursor", &cursor)]).unwrap();
            assert_eq!(
                asked.filter.below,
                Some(first_id(parse_time(early).unwrap()))
            );
        }
    }
}

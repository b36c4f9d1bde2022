//! One page of the list, newest first. The key of the page is the id: a UUIDv7, so the order of ids is the
//! order of acceptance.

use super::TaskRow;
use chrono::{DateTime, Utc};
use diesel::{
    ExpressionMethods, OptionalExtension, PgArrayExpressionMethods, PgConnection, QueryDsl,
    QueryResult, RunQueryDsl, SelectableHelper,
    dsl::sql,
    pg::Pg,
    sql_types::{Bool, Text},
};
use serde::{Deserialize, Serialize};
use shared::{
    schema::tasks,
    task::{Queue, Status},
};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Candidates looked at by one statement, of which some don't match.
const STRETCH: i64 = 20_000;
/// When to answer with what has been found, in that case.
const BUDGET: Duration = Duration::from_millis(250);

/// Which tasks to list; the empty filter lists all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Any of these; empty: all.
    pub statuses: Vec<Status>,
    pub kind: Option<String>,
    pub queue: Option<Queue>,
    /// All of these.
    pub tags: Vec<String>,
    pub error_code: Option<String>,
    /// As the database's `error_fingerprint` makes it.
    pub fingerprint: Option<String>,
    /// The lowest id, inclusive.
    pub from: Option<Uuid>,
    /// The highest id, exclusive: where the page before ended, or a time.
    pub below: Option<Uuid>,
    /// Final since then, or longer.
    pub ended_by: Option<DateTime<Utc>>,
}

/// Part of a list.
#[derive(Debug, Clone)]
pub struct Page {
    pub rows: Vec<TaskRow>,
    /// [`Filter::below`] of the next page; none: this was the last.
    pub next: Option<Uuid>,
}

/// The partial index that holds every task a filter can match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Index {
    /// `tasks_live`
    Live,
    /// `tasks_erred`
    Erred,
}

impl Filter {
    fn index(&self) -> Option<Index> {
        if self.error_code.is_some() || self.fingerprint.is_some() {
            return Some(Index::Erred);
        }
        if self.statuses.is_empty() {
            return None;
        }
        if self.statuses.iter().all(|status| !status.is_final()) {
            return Some(Index::Live);
        }
        // Both are only ever written together with an error code.
        let erred = [Status::Failed, Status::Unknown];
        let all_erred = self.statuses.iter().all(|status| erred.contains(status));
        all_erred.then_some(Index::Erred)
    }

    /// Every task that is looked at matches, or an index for the rarest condition finds them.
    fn is_exact(&self) -> bool {
        let is_everything = self.statuses.is_empty()
            && self.kind.is_none()
            && self.queue.is_none()
            && self.error_code.is_none()
            && self.fingerprint.is_none()
            && self.ended_by.is_none();
        is_everything || !self.tags.is_empty()
    }

    /// The tasks among which all that match are.
    fn candidates(&self) -> tasks::BoxedQuery<'_, Pg> {
        let all = tasks::table.into_boxed();
        match self.index() {
            Some(Index::Live) => all.filter(tasks::finished_at.is_null()),
            Some(Index::Erred) => all.filter(tasks::error_code.is_not_null()),
            None => all,
        }
    }

    fn query(&self) -> tasks::BoxedQuery<'_, Pg> {
        let mut query = self.candidates();
        if !self.statuses.is_empty() {
            let statuses: Vec<&str> = self.statuses.iter().map(|one| one.as_str()).collect();
            query = query.filter(tasks::status.eq_any(statuses));
        }
        if let Some(kind) = &self.kind {
            query = query.filter(tasks::kind.eq(kind));
        }
        if let Some(queue) = self.queue {
            query = query.filter(tasks::queue.eq(queue.as_str()));
        }
        if let Some(code) = &self.error_code {
            query = query.filter(tasks::error_code.eq(code));
        }
        if let Some(fingerprint) = &self.fingerprint {
            query = query.filter(
                sql::<Bool>("error_fingerprint(kind, error_code, error_message) = ")
                    .bind::<Text, _>(fingerprint),
            );
        }
        if let Some(ended_by) = self.ended_by {
            query = query.filter(tasks::finished_at.le(ended_by));
        }
        if !self.tags.is_empty() {
            // The literal is the condition of the index `tasks_tagged`; a bind would not match it.
            query = query
                .filter(tasks::tags.contains(&self.tags))
                .filter(sql::<Bool>("tags <> '{}'"));
        }
        query
    }
}

/// At most `limit` tasks (1 or more), newest first. A page may be short, even empty, and yet have a next
/// one, when little was found in the time it had.
pub fn page(connection: &mut PgConnection, filter: &Filter, limit: usize) -> QueryResult<Page> {
    let begin = Instant::now();
    let mut below = filter.below;
    let mut rows = Vec::new();
    loop {
        let floor = if filter.is_exact() {
            None
        } else {
            stretch_end(connection, filter, below)?
        };
        let wanted = limit + 1 - rows.len();
        rows.extend(stretch(
            connection,
            filter,
            floor.or(filter.from),
            below,
            wanted,
        )?);
        if rows.len() > limit {
            rows.truncate(limit);
            let next = rows.last().map(|row: &TaskRow| row.id);
            return Ok(Page { rows, next });
        }
        if floor.is_none() || begin.elapsed() >= BUDGET {
            return Ok(Page { rows, next: floor });
        }
        below = floor;
    }
}

/// The id that ends the next stretch; none: fewer candidates than that are left.
fn stretch_end(
    connection: &mut PgConnection,
    filter: &Filter,
    below: Option<Uuid>,
) -> QueryResult<Option<Uuid>> {
    let mut query = filter.candidates();
    if let Some(from) = filter.from {
        query = query.filter(tasks::id.ge(from));
    }
    if let Some(below) = below {
        query = query.filter(tasks::id.lt(below));
    }
    query
        .select(tasks::id)
        .order(tasks::id.desc())
        .offset(STRETCH)
        .first(connection)
        .optional()
}

fn stretch(
    connection: &mut PgConnection,
    filter: &Filter,
    from: Option<Uuid>,
    below: Option<Uuid>,
    limit: usize,
) -> QueryResult<Vec<TaskRow>> {
    let mut query = filter.query();
    if let Some(from) = from {
        query = query.filter(tasks::id.ge(from));
    }
    if let Some(below) = below {
        query = query.filter(tasks::id.lt(below));
    }
    query
        .select(TaskRow::as_select())
        .order(tasks::id.desc())
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .load(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(statuses: &[Status]) -> Filter {
        Filter {
            statuses: statuses.to_vec(),
            ..Filter::default()
        }
    }

    #[test]
    fn filters_find_their_index() {
        assert_eq!(
            of(&[Status::Pending, Status::Retrying]).index(),
            Some(Index::Live)
        );
        assert_eq!(
            of(&[Status::Failed, Status::Unknown]).index(),
            Some(Index::Erred)
        );
        assert_eq!(of(&[Status::Failed, Status::Pending]).index(), None);
        assert!(Filter::default().is_exact());
        assert!(!of(&[Status::Completed]).is_exact());
        assert!(!of(&[Status::Pending]).is_exact());
        let kind = Filter {
            kind: Some("email.send".into()),
            ..Filter::default()
        };
        assert!(!kind.is_exact());
    }

    #[test]
    fn the_statement_names_the_index_condition() {
        let filter = Filter {
            tags: vec!["a".into()],
            ..of(&[Status::Pending])
        };
        let sql = diesel::debug_query::<Pg, _>(&filter.query().select(tasks::id)).to_string();
        assert!(sql.contains("\"tasks\".\"finished_at\" IS NULL"), "{sql}");
        assert!(sql.contains("\"tasks\".\"tags\" @> $2"), "{sql}");
    }
}
